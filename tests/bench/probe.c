// The most multiply-adds that the machine makes: chains of vector multiply-adds in registers, on all
// threads. Speaks as `./model bench --requests` does; a step is about 10^8 operations per thread, and
// the answer has "flops", those of all threads.
//
//   cc -O2 -march=native -pthread probe.c -o probe && ./probe 2
//   ./probe 2 bf16     chains of products of bf16 tiles, where the processor has them and the system
//                      grants them, else the same as without; a step is ten times as many operations
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#ifdef __AMX_BF16__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif
#define CHAINS 12
#define ROUNDS (50000000 / LANES / CHAINS)

typedef float Vector __attribute__((vector_size(4 * LANES)));

static long steps;
static volatile float sink;

static void *work(void *unused) {
  (void)unused;
  Vector a, b;
  for (int l = 0; l < LANES; l++) a[l] = 0.999f, b[l] = 1e-3f;
  // Variables by name: an array stays in memory.
#define EACH(X) X(c0) X(c1) X(c2) X(c3) X(c4) X(c5) X(c6) X(c7) X(c8) X(c9) X(c10) X(c11)
#define START(c) Vector c = b;
#define STEP(c) c = c * a + b; __asm__("" : "+v"(c));  // not simplified
#define ADD(c) sum += c[0];
  EACH(START)
  for (long n = steps * ROUNDS; n > 0; n--) { EACH(STEP) }
  float sum = 0;
  EACH(ADD)
  sink = sum;
  return NULL;
}

#ifdef __AMX_BF16__
#define TILE_OPS (2 * 16 * 16 * 32)
#define TILE_ROUNDS (1000000000 / TILE_OPS / 4)

// Each thread sets up its tiles: 16 rows of 64 bytes.
static void *work_tiles(void *unused) {
  (void)unused;
  static const struct {  // static: the instruction's operand is declared too small
    unsigned char palette, start, reserved[14];
    unsigned short width[16];
    unsigned char rows[16];
  } shape = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
  static const unsigned char zeros[1024];
  _tile_loadconfig(&shape);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, zeros, 64);
  _tile_loadd(5, zeros, 64);
  _tile_loadd(6, zeros, 64);
  _tile_loadd(7, zeros, 64);
  for (long n = steps * TILE_ROUNDS; n > 0; n--) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return NULL;
}

// The system has to be asked for the registers' memory, once in a process.
static int tiles_granted(void) {
  const long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, request, tile_data) == 0;
}
#endif

int main(int argc, char **argv) {
  int threads = argc > 1 ? atoi(argv[1]) : 1;
  void *(*run)(void *) = work;
  double each = 2.0 * LANES * CHAINS * ROUNDS;
#ifdef __AMX_BF16__
  if (argc > 2 && !strcmp(argv[2], "bf16") && tiles_granted())
    run = work_tiles, each = (double)TILE_OPS * 4 * TILE_ROUNDS;
#endif
  char line[64];
  while (fgets(line, sizeof line, stdin)) {
    pthread_t others[64];
    struct timespec begin, end;
    steps = atol(line);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int t = 1; t < threads; t++) pthread_create(&others[t], NULL, run, NULL);
    run(NULL);
    for (int t = 1; t < threads; t++) pthread_join(others[t], NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    double flops = each * (double)steps * threads;
    printf("{\"steps\": %ld, \"seconds\": %.9g, \"flops\": %.9g, \"loss\": 0}\n", steps, seconds, flops);
    fflush(stdout);
  }
}
