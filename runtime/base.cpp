// Memory, text and errors: see base.h.
#include "runtime/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

namespace rt {

static void report(const char *kind, const char *format, va_list args) {
  // Results already printed come before the message, also when both go to one file.
  fflush(stdout);
  // A message is one line, also if it quotes a file that holds anything.
  char line[8192];
  vsnprintf(line, sizeof line, format, args);
  for (char *c = line; *c; c++)
    if (static_cast<unsigned char>(*c) < 32 || *c == 127) *c = '?';
  fprintf(stderr, "%s: %s\n", kind, line);
}

void fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  report("error", format, args);
  va_end(args);
  exit(1);
}

void usage_fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  report("error", format, args);
  va_end(args);
  exit(2);
}

void warn(const char *format, ...) {
  va_list args;
  va_start(args, format);
  report("warning", format, args);
  va_end(args);
}

void *allocate(size_t bytes) {
  void *memory = malloc(bytes ? bytes : 1);
  if (!memory) fail("out of memory: %zu bytes asked for", bytes);
  return memory;
}

namespace {
struct Chunk {
  Chunk *previous;
  size_t used, size;
  alignas(16) char bytes[];
};
Chunk *chunks; // newest first; reachable for ever, hence no leak
} // namespace

void *arena_allocate(size_t bytes) {
  bytes = (bytes + 15) & ~size_t{15};
  if (!chunks || chunks->size - chunks->used < bytes) {
    size_t size = bytes > 32768 ? bytes : 32768;
    Chunk *chunk = static_cast<Chunk *>(allocate(sizeof(Chunk) + size));
    chunk->previous = chunks;
    chunk->used = 0;
    chunk->size = size;
    chunks = chunk;
  }
  void *result = chunks->bytes + chunks->used;
  chunks->used += bytes;
  return result;
}

const char *text_copy(const char *begin, size_t length) {
  char *copy = static_cast<char *>(arena_allocate(length + 1));
  memcpy(copy, begin, length);
  copy[length] = 0;
  return copy;
}

const char *text(const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int length = vsnprintf(nullptr, 0, format, args);
  char *result = static_cast<char *>(arena_allocate(size_t(length) + 1));
  vsnprintf(result, size_t(length) + 1, format, again);
  va_end(again);
  va_end(args);
  return result;
}

void Builder::add_bytes(const char *bytes, size_t count) {
  if (chars.count) chars.count--;
  chars.reserve(chars.count + count + 1);
  memcpy(chars.data + chars.count, bytes, count);
  chars.count += count;
  chars.data[chars.count++] = 0;
}

void Builder::add(const char *format, ...) {
  char small[512];
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int length = vsnprintf(small, sizeof small, format, args);
  if (size_t(length) < sizeof small) {
    add_bytes(small, size_t(length));
  } else {
    char *large = static_cast<char *>(allocate(size_t(length) + 1));
    vsnprintf(large, size_t(length) + 1, format, again);
    add_bytes(large, size_t(length));
    free(large);
  }
  va_end(again);
  va_end(args);
}

bool ends_with(const char *s, const char *suffix) {
  size_t a = strlen(s), b = strlen(suffix);
  return a >= b && same(s + a - b, suffix);
}

int edit_distance(const char *a, const char *b) {
  int row[64];
  int n = int(strlen(b));
  if (n > 62) return 99;
  for (int j = 0; j <= n; j++) row[j] = j;
  for (int i = 1; a[i - 1]; i++) {
    int diagonal = row[0];
    row[0] = i;
    for (int j = 1; j <= n; j++) {
      int best = diagonal + (a[i - 1] != b[j - 1]);
      if (row[j] + 1 < best) best = row[j] + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      diagonal = row[j];
      row[j] = best;
    }
  }
  return row[n];
}

double now_seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

} // namespace rt
