// Measures arithmetic and memory: see peaks.h.
//
// Problem. "41 GF/s" says nothing without what the machine could do, and that depends on what it is
// doing now: clock, neighbours, the threads in use.
//
// Method. The same threads that run kernels multiply and add in registers, on enough independent
// sums to fill the pipelines, with the widest vectors that this processor has; then each reads its
// part of a buffer, again and again. 64 MiB is more than second-level caches hold and set up in
// milliseconds; where a larger cache holds it, that is the rate it is measured at.
#include "runtime/peaks.h"

#include "runtime/base.h"
#include "runtime/cpu.h"
#include "runtime/threads.h"

#include <initializer_list>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace rt {

namespace {

constexpr double Warm = 2e-3, Long = 8e-3; // seconds
constexpr int64_t Buffer = int64_t{64} << 20;

// Does `rounds` rounds; returns the floating-point operations of one round.
using Multiply = double (*)(int64_t rounds);

// Twelve sums: two units of latency five, and some.
#define SUMS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

#if defined(__x86_64__)

__attribute__((target("avx512f"))) double multiply_512(int64_t rounds) {
  __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-3f);
#define X(i) __m512 s##i = y;
  SUMS(X)
#undef X
  for (int64_t r = 0; r < rounds; r++) {
#define X(i)                                                                                       \
  s##i = _mm512_fmadd_ps(s##i, x, y);                                                              \
  __asm__ volatile("" : "+v"(s##i));
    SUMS(X)
#undef X
  }
  return 12 * 16 * 2;
}

__attribute__((target("avx2,fma"))) double multiply_256(int64_t rounds) {
  __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-3f);
#define X(i) __m256 s##i = y;
  SUMS(X)
#undef X
  for (int64_t r = 0; r < rounds; r++) {
#define X(i)                                                                                       \
  s##i = _mm256_fmadd_ps(s##i, x, y);                                                              \
  __asm__ volatile("" : "+x"(s##i));
    SUMS(X)
#undef X
  }
  return 12 * 8 * 2;
}

Multiply best(const char *&name) {
  bool wide = cpu_features() & NNC_CPU_X86_64_V4;
  name = wide ? "AVX-512" : "AVX2";
  return wide ? multiply_512 : multiply_256;
}

__attribute__((target("avx2"))) void read(const char *from, int64_t bytes) {
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  const __m256i *p = reinterpret_cast<const __m256i *>(from);
  for (int64_t i = 0; i + 4 <= bytes / 32; i += 4) {
    a = _mm256_xor_si256(a, _mm256_load_si256(p + i));
    b = _mm256_xor_si256(b, _mm256_load_si256(p + i + 1));
    c = _mm256_xor_si256(c, _mm256_load_si256(p + i + 2));
    d = _mm256_xor_si256(d, _mm256_load_si256(p + i + 3));
  }
  __asm__ volatile("" : : "x"(a), "x"(b), "x"(c), "x"(d));
}

#else

#if defined(__aarch64__)
double multiply_plain(int64_t rounds) {
  float32x4_t x = vdupq_n_f32(0.999f), y = vdupq_n_f32(1e-3f);
#define X(i) float32x4_t s##i = y;
  SUMS(X)
#undef X
  for (int64_t r = 0; r < rounds; r++) {
#define X(i)                                                                                       \
  s##i = vfmaq_f32(s##i, x, y);                                                                    \
  __asm__ volatile("" : "+w"(s##i));
    SUMS(X)
#undef X
  }
  return 12 * 4 * 2;
}
constexpr const char *Plain = "NEON";
#else
double multiply_plain(int64_t rounds) {
#define X(i) float s##i = 1;
  SUMS(X)
#undef X
  for (int64_t r = 0; r < rounds; r++) {
#define X(i)                                                                                       \
  s##i = s##i * 0.999f + 1e-3f;                                                                    \
  __asm__ volatile("" : "+m"(s##i));
    SUMS(X)
#undef X
  }
  return 12 * 2;
}
constexpr const char *Plain = "scalar";
#endif

Multiply best(const char *&name) {
  name = Plain;
  return multiply_plain;
}

void read(const char *from, int64_t bytes) {
  uint64_t sum[4] = {};
  const uint64_t *p = reinterpret_cast<const uint64_t *>(from);
  for (int64_t i = 0; i + 4 <= bytes / 8; i += 4)
    for (int j = 0; j < 4; j++) sum[j] ^= p[i + j];
  __asm__ volatile("" : : "r"(sum[0]), "r"(sum[1]), "r"(sum[2]), "r"(sum[3]));
}

#endif

struct Measure {
  Multiply multiply;
  char *buffer;
  double *rates; // of each thread
};

// Repeats `once`, which returns how much it did, for some milliseconds. The best rate counts:
// pieces are short, so that it is one without an interruption.
template <class Once> double rate_of(Once once, int threads) {
  double start = now_seconds(), now = start, best = 0;
  while (now - start < Warm) once(), now = now_seconds();
  if (threads > 1) barrier();
  start = now = now_seconds();
  while (now - start < Long) {
    double before = now, done = once();
    now = now_seconds();
    if (done > best * (now - before)) best = done / (now - before);
  }
  return best;
}

void arithmetic(void *context, int thread, int threads) {
  const Measure &m = *static_cast<Measure *>(context);
  constexpr int64_t rounds = 20000;
  m.rates[thread] = rate_of([&] { return m.multiply(rounds) * double(rounds); }, threads);
}

void memory(void *context, int thread, int threads) {
  const Measure &m = *static_cast<Measure *>(context);
  constexpr int64_t page = 4096, most = int64_t{1} << 20;
  int64_t part = Buffer / threads / page * page, piece = part < most ? part : most, at = 0;
  char *mine = m.buffer + part * thread;
  memset(mine, 1, size_t(part)); // pages lie where the thread is
  m.rates[thread] = rate_of(
      [&] {
        if (at + piece > part) at = 0;
        read(mine + at, piece);
        at += piece;
        return double(piece);
      },
      threads);
}

} // namespace

Peaks measure_peaks() {
  Peaks peaks{};
  Measure measure{};
  measure.multiply = best(peaks.vectors);
  measure.rates = static_cast<double *>(arena_allocate(size_t(thread_count()) * 64));
  void *place =
      mmap(nullptr, size_t(Buffer), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) fail("out of memory: --profile measures with a buffer of 64 MiB");
  madvise(place, size_t(Buffer), MADV_HUGEPAGE);
  measure.buffer = static_cast<char *>(place);
  peaks.buffer = Buffer;
  for (int all = 0; all < 2; all++)
    for (bool arithmetics : {true, false}) {
      double &peak = arithmetics ? peaks.flops[all] : peaks.bytes[all];
      if (all && thread_count() == 1) {
        peak = arithmetics ? peaks.flops[0] : peaks.bytes[0];
        continue;
      }
      Work work = arithmetics ? arithmetic : memory;
      if (all)
        run_on_threads(work, &measure);
      else
        run_alone(work, &measure);
      for (int t = 0; t < (all ? thread_count() : 1); t++) peak += measure.rates[t];
    }
  munmap(place, size_t(Buffer));
  return peaks;
}

} // namespace rt
