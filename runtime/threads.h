// One pool of threads for the whole life of the process, and the barrier between operations.
//
// Problem. A training step is tens of kernels of a few microseconds each, executed by all threads
// with barriers between; a fork and join for each kernel, or a sleeping barrier, would cost more
// than the kernels.
//
// Method. `run` wakes every thread once per step program; inside, threads meet at a central
// counter barrier: spin about 20000 pauses, then sleep on a futex. Sleeping matters when other
// processes use the cores; sched_yield is never called (measured at 10x slower under load). When
// threads outnumber cores spinning only delays the thread waited for, so they sleep almost at once.
#ifndef NNC_RUNTIME_THREADS_H
#define NNC_RUNTIME_THREADS_H

#include <stdint.h>

namespace rt {

using Work = void (*)(void *context, int thread, int threads);

// Cores that this process may use.
int usable_cores();
void start_threads(int threads);
int thread_count();
// Every thread calls work once; the caller is thread 0. Returns when all are done. Subnormal
// numbers count as zero meanwhile (FTZ and DAZ), as the language defines.
void run_on_threads(Work work, void *context);
// The same on the calling thread alone: work(context, 0, 1).
void run_alone(Work work, void *context);
// All threads of the running work meet; not for work that runs alone.
void barrier();

} // namespace rt

#endif
