// The most multiply-adds that the machine makes: chains of vector multiply-adds in registers, on all
// threads. Speaks as `./model bench --requests` does; a step is about 10^8 operations per thread, and
// the answer has "flops", those of all threads.
//
//   cc -O2 -march=native -pthread probe.c -o probe && ./probe 2
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

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

int main(int argc, char **argv) {
  int threads = argc > 1 ? atoi(argv[1]) : 1;
  char line[64];
  while (fgets(line, sizeof line, stdin)) {
    pthread_t others[64];
    struct timespec begin, end;
    steps = atol(line);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int t = 1; t < threads; t++) pthread_create(&others[t], NULL, work, NULL);
    work(NULL);
    for (int t = 1; t < threads; t++) pthread_join(others[t], NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    double flops = 2.0 * LANES * CHAINS * ROUNDS * (double)steps * threads;
    printf("{\"steps\": %ld, \"seconds\": %.9g, \"flops\": %.9g, \"loss\": 0}\n", steps, seconds, flops);
    fflush(stdout);
  }
}
