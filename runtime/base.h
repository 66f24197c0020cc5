// Memory, text and errors for a binary that links no C++ library.
//
// Problem. The runtime ends up inside every compiled model, static and under 2 MiB, so it has no
// libstdc++: no std::vector, no std::string, no exceptions.
//
// Method. `Array` is the one container (growing, owning, movable). Text that outlives a function
// (names, paths, messages) lives in an arena that is never freed; a process makes a few kilobytes
// of it. An error ends the process: there is nothing to recover to in a batch program, and
// everything that was on disk before is still there, because files are replaced by rename only.
//
//   fail("%s: expected %d rows, found %d", path, 10, 9);   // "error: ..." on stderr, exit code 1
#ifndef NNC_RUNTIME_BASE_H
#define NNC_RUNTIME_BASE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <type_traits>

namespace rt {

#define RT_PRINTF(text, values) __attribute__((format(printf, text, values)))

// Exit code 1: the data, a file or the machine is not what the model needs.
[[noreturn]] void fail(const char *format, ...) RT_PRINTF(1, 2);
// Exit code 2: the command line is wrong.
[[noreturn]] void usage_fail(const char *format, ...) RT_PRINTF(1, 2);
void warn(const char *format, ...) RT_PRINTF(1, 2);

// malloc that does not return on exhaustion.
void *allocate(size_t bytes);
// Memory that is never freed, 16-byte aligned.
void *arena_allocate(size_t bytes);
// Text in the arena.
const char *text(const char *format, ...) RT_PRINTF(1, 2);
const char *text_copy(const char *begin, size_t length);

// A growing array of plain values.
template <class T> struct Array {
  static_assert(std::is_trivially_copyable_v<T>);
  T *data = nullptr;
  size_t count = 0, capacity = 0;

  Array() = default;
  Array(const Array &) = delete;
  Array(Array &&other) noexcept : data(other.data), count(other.count), capacity(other.capacity) {
    other.data = nullptr;
    other.count = other.capacity = 0;
  }
  Array &operator=(Array &&other) noexcept {
    T *d = data;
    data = other.data, count = other.count, capacity = other.capacity;
    other.data = nullptr;
    other.count = other.capacity = 0;
    free(d);
    return *this;
  }
  ~Array() { free(data); }

  void reserve(size_t wanted) {
    if (wanted <= capacity) return;
    size_t grown = capacity * 2 > wanted ? capacity * 2 : wanted;
    T *moved = static_cast<T *>(allocate(grown * sizeof(T)));
    if (count) memcpy(static_cast<void *>(moved), data, count * sizeof(T));
    free(data);
    data = moved;
    capacity = grown;
  }
  // New elements are zero bytes.
  void resize(size_t wanted) {
    reserve(wanted);
    if (wanted > count) memset(static_cast<void *>(data + count), 0, (wanted - count) * sizeof(T));
    count = wanted;
  }
  T &push(const T &value) {
    T copy = value;
    reserve(count + 1);
    data[count] = copy;
    return data[count++];
  }
  T &operator[](size_t i) { return data[i]; }
  const T &operator[](size_t i) const { return data[i]; }
  T *begin() { return data; }
  T *end() { return data + count; }
  const T *begin() const { return data; }
  const T *end() const { return data + count; }
};

// Text under construction; always zero-terminated once something was added.
struct Builder {
  Array<char> chars;
  void add(const char *format, ...) RT_PRINTF(2, 3);
  void add_bytes(const char *bytes, size_t count);
  const char *c_str() const { return chars.count ? chars.data : ""; }
  size_t length() const { return chars.count ? chars.count - 1 : 0; }
  void clear() { chars.count = 0; }
};

inline bool same(const char *a, const char *b) { return strcmp(a, b) == 0; }
bool ends_with(const char *s, const char *suffix);
// Number of single-letter edits between two words: for "did you mean".
int edit_distance(const char *a, const char *b);
// Seconds on a clock that only moves forward.
double now_seconds();

} // namespace rt

#endif
