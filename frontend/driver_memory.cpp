// The memory of the command.
//
// Problem. To compile is to make millions of small blocks and drop them: every pass copies a
// function and frees the one before. malloc joins freed neighbours and looks for room in lists,
// which was half of the time of a model with a thousand layers.
//
// Method. `new` and `delete` of the process, LLVM's included. Blocks of up to a kilobyte come from
// lists of free blocks, one for each multiple of 16 bytes and each thread, so nobody waits. A
// list is filled from a chunk of one reserved range of addresses; by its place in the range,
// `delete` knows a block's chunk and so its size. What is freed is used again, never given back.
// Larger blocks, and all of them where the range is not to be had, are malloc's.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <malloc.h>
#include <new>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define NNC_OWN_MEMORY 0
#elif defined(__has_feature)
#define NNC_OWN_MEMORY !__has_feature(address_sanitizer)
#else
#define NNC_OWN_MEMORY 1
#endif

#if NNC_OWN_MEMORY // a sanitizer watches malloc

namespace {

constexpr std::size_t kStep = 16, kSmall = 1024, kSizes = kSmall / kStep;
constexpr std::size_t kChunk = 64 << 10, kRange = std::size_t{32} << 30;

struct Block {
  Block *next;
};

// Of one thread: by size, in steps, minus one.
struct Lists {
  Block *free[kSizes];
  char *fresh[kSizes], *end[kSizes]; // what is left of the newest chunk
};

constinit thread_local Lists lists{};
constinit std::atomic<char *> range{nullptr};
constinit std::atomic<std::size_t> chunks{0};
uint8_t sizeOf[kRange / kChunk]; // by chunk; only what is used of it becomes memory

char *const kNone = reinterpret_cast<char *>(1);

// The first call may come from any library's constructors.
char *reserve() {
  void *found = mmap(nullptr, kRange, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  char *mine = found == MAP_FAILED ? kNone : static_cast<char *>(found), *before = nullptr;
  if (range.compare_exchange_strong(before, mine)) {
    mallopt(M_MMAP_THRESHOLD, 64 << 20); // large blocks are used again, too
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
    return mine;
  }
  if (mine != kNone) munmap(mine, kRange);
  return before;
}

// A block from a new chunk; null if there is none.
void *fromChunk(std::size_t size) {
  char *base = range.load(std::memory_order_acquire);
  if (!base) base = reserve();
  if (base == kNone) return nullptr;
  const std::size_t chunk = chunks.fetch_add(1, std::memory_order_relaxed);
  if (chunk >= kRange / kChunk) return nullptr;
  sizeOf[chunk] = uint8_t(size);
  const std::size_t bytes = (size + 1) * kStep;
  char *at = base + chunk * kChunk;
  lists.fresh[size] = at + bytes;
  lists.end[size] = at + kChunk / bytes * bytes;
  return at;
}

void *fromMalloc(std::size_t bytes) {
  for (;;) {
    if (void *p = std::malloc(bytes ? bytes : 1)) return p;
    std::new_handler handler = std::get_new_handler();
    if (!handler) throw std::bad_alloc();
    handler();
  }
}

} // namespace

void *operator new(std::size_t bytes) {
  if (bytes > kSmall) return fromMalloc(bytes);
  const std::size_t size = bytes ? (bytes - 1) / kStep : 0;
  if (Block *b = lists.free[size]) {
    lists.free[size] = b->next;
    return b;
  }
  if (char *at = lists.fresh[size]; at != lists.end[size]) {
    lists.fresh[size] = at + (size + 1) * kStep;
    return at;
  }
  void *p = fromChunk(size);
  return p ? p : fromMalloc(bytes);
}

void operator delete(void *p) noexcept {
  char *base = range.load(std::memory_order_relaxed);
  const auto offset =
      std::size_t(reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(base));
  if (offset >= kRange || base == kNone || !base) return std::free(p); // null, too
  Block *b = static_cast<Block *>(p);
  Block *&list = lists.free[sizeOf[offset / kChunk]];
  b->next = list;
  list = b;
}

void operator delete(void *p, std::size_t) noexcept { operator delete(p); }

#endif
