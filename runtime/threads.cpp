// The thread pool: see threads.h.
#include "runtime/threads.h"

#include "runtime/base.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace rt {

namespace {

// Arithmetic counts subnormals as zero while an object of this type lives.
struct FlushSubnormals {
#if defined(__x86_64__)
  unsigned saved = _mm_getcsr();
  FlushSubnormals() { _mm_setcsr(saved | 0x8040); } // FTZ, DAZ
  ~FlushSubnormals() { _mm_setcsr(saved); }
#else
  uint64_t saved;
  FlushSubnormals() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"(saved | 1u << 24)); // FZ
  }
  ~FlushSubnormals() { __asm__ volatile("msr fpcr, %0" : : "r"(saved)); }
#endif
};

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#else
  __asm__ volatile("isb" : : : "memory"); // `yield` takes no time on most
#endif
}

// A number that threads wait on until it changes. `sleepers` spares the waker the system call when
// everybody spins, which is the usual case.
struct alignas(64) Signal {
  uint32_t value = 0;
  uint32_t sleepers = 0;
};

int threads = 1;
int spins = 20000;
Signal start, phase;
alignas(64) uint32_t arrived;
Work current_work;
void *current_context;

void wait_while(Signal &signal, uint32_t seen) {
  for (int i = 0; i < spins; i++) {
    if (__atomic_load_n(&signal.value, __ATOMIC_ACQUIRE) != seen) return;
    pause_briefly();
  }
  // Order matters: count as a sleeper first, then look at the value (the kernel looks again).
  __atomic_fetch_add(&signal.sleepers, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&signal.value, __ATOMIC_SEQ_CST) == seen)
    syscall(SYS_futex, &signal.value, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
  __atomic_fetch_sub(&signal.sleepers, 1, __ATOMIC_SEQ_CST);
}

void change(Signal &signal) {
  __atomic_fetch_add(&signal.value, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&signal.sleepers, __ATOMIC_SEQ_CST))
    syscall(SYS_futex, &signal.value, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
}

void *worker(void *argument) {
  int thread = int(reinterpret_cast<intptr_t>(argument));
  FlushSubnormals flush;
  for (uint32_t seen = 0;; seen++) {
    wait_while(start, seen);
    current_work(current_context, thread, threads);
    barrier();
  }
}

} // namespace

int usable_cores() {
  // A machine may have more CPUs than cpu_set_t holds; then the call fails.
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? int(online) : 1;
}

void start_threads(int count) {
  threads = count;
  if (count > usable_cores()) spins = 50;
  for (int t = 1; t < count; t++) {
    pthread_t handle;
    int code = pthread_create(&handle, nullptr, worker, reinterpret_cast<void *>(intptr_t{t}));
    if (code) fail("cannot start thread %d of %d: %s", t + 1, count, strerror(code));
    pthread_detach(handle);
  }
}

int thread_count() { return threads; }

void barrier() {
  uint32_t seen = __atomic_load_n(&phase.value, __ATOMIC_RELAXED);
  if (__atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL) == uint32_t(threads)) {
    __atomic_store_n(&arrived, 0, __ATOMIC_RELAXED);
    change(phase);
  } else {
    wait_while(phase, seen);
  }
}

void run_alone(Work work, void *context) {
  FlushSubnormals flush;
  work(context, 0, 1);
}

void run_on_threads(Work work, void *context) {
  if (threads == 1) return run_alone(work, context);
  FlushSubnormals flush;
  current_work = work;
  current_context = context;
  change(start);
  work(context, 0, threads);
  barrier();
}

} // namespace rt
