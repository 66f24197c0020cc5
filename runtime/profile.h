// Where the time of a run goes: `--profile`.
//
// Problem. A training step of 40 ms is fifty kernels on several threads. Which of them, of which
// layer and line, take the time; how far are they from what the machine can do; who waits for whom?
//
// Method. `Program::run` takes another walk through the table if there is a profile: it reads the
// processor's clock after every operation and every meeting of the threads. Each thread writes
// times of its own; after the run they are added up, the longest thread counting. What an operation
// computes and moves, its layer, line and pass are in the table (abi.h).
//
// Times add up to the whole: operations, filling batches, what is left of a call (waiting and
// waking), and the time outside of calls (data, callbacks, files).
#ifndef NNC_RUNTIME_PROFILE_H
#define NNC_RUNTIME_PROFILE_H

#include "runtime/abi.h"
#include "runtime/base.h"
#include "runtime/peaks.h"

namespace rt {

// The processor's own clock, which goes evenly and is cheap to read.
inline uint64_t ticks() {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  uint64_t t;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
  return t;
#else
  return uint64_t(now_seconds() * 1e9);
#endif
}

// One operation in one call, on one thread; loops add up.
struct OpTimes {
  uint64_t busy, waited; // ticks; waited: at the barrier before it
  int64_t rounds;
};

// One operation in all calls.
struct OpProfile {
  uint64_t busy;   // of the thread that took longest in each call
  uint64_t uneven; // by how much that is above the mean of the threads
  uint64_t waited; // of all threads
  int64_t calls;   // rounds of loops are calls, too
  double flops, bytes;
  double arithmetic, memory; // seconds that flops and bytes take at the peaks
};

struct FunctionProfile {
  int64_t calls;
  uint64_t whole, filled;  // ticks of the calls; of filling batches before their first operation
  Array<OpProfile> *ops;   // null before the first call
  Array<uint64_t> *waited; // by operation and thread
};

// For the trace: the last ones of a thread.
struct Event {
  uint64_t begin, end;
  const NncFunction *function;
  const NncOp *op; // null: filling a batch
  bool waits;      // before it
};
struct Events {
  static constexpr size_t Most = 1 << 15;
  Event *ring; // null: nobody wants a trace
  size_t count;
};

struct Profile {
  const NncModel *model;
  int threads; // of the pool
  Peaks peaks;
  double started; // seconds, and ticks at that moment
  uint64_t started_ticks;
  FunctionProfile *functions; // parallel to the model's
  // What the threads write during a call.
  OpTimes *times; // of thread t from t * stride on
  int64_t stride;
  uint64_t *filled; // by thread, a line apart
  Events *events;
  int used; // threads of the call at hand

  OpTimes *of(int thread) const { return times + stride * thread; }
  uint64_t &filling(int thread) const { return filled[thread * 16]; }
};

Profile *make_profile(const NncModel &model, int threads, const Peaks &peaks, bool trace);
// Adds up a call of a function with n rows that took `whole` ticks.
void add_call(Profile &profile, const NncFunction &function, int64_t n, uint64_t whole);
void note_event(Events &events, const Event &event);

// The tables as text; `seconds` the whole run took, `tick` seconds a tick. `source` and `name`: of
// the model.
void write_report(Builder &out, const Profile &profile, const char *name, const char *source,
                  double seconds, double tick);
void write_profile_csv(Builder &out, const Profile &profile, double seconds, double tick);
void write_trace(Builder &out, const Profile &profile, double tick);
// Prints the report on stderr; writes the file, CSV or a trace by its name, if there is one.
void finish_profile(const Profile &profile, const char *name, const char *source, const char *file);

} // namespace rt

#endif
