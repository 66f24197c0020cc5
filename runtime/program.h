// Runs the step programs of a model.
//
// A step program is a table of operations (abi.h). All threads walk it together: thread t of T runs
// items [items*t/T, items*(t+1)/T) of each operation, and they meet where an operation says so;
// through a loop each goes on its own, with its own copy of the arguments that move from round to
// round. No result depends on which thread ran an item, nor when: that is the promise the kernels
// make, and `Order` exists to check it. `Shuffled` runs the items of T virtual threads between two
// barriers in random interleaving on one thread, `Reversed` runs them back to front; the bits must
// be equal.
//
// All memory of a model is one region of huge pages, reserved once and zero at first:
//   persistent | transient | input | scratch of thread 0, 1, ..
#ifndef NNC_RUNTIME_PROGRAM_H
#define NNC_RUNTIME_PROGRAM_H

#include "runtime/abi.h"
#include "runtime/base.h"

namespace rt {

enum class Order { Forward, Shuffled, Reversed };

struct ProgramOptions {
  int threads = 1;
  bool adaptive = false; // use one thread for functions that are faster so
  uint64_t seed = 0;
  Order order = Order::Forward;
  uint64_t order_seed = 0;
};

// Work that all threads do before the first operation: filling the inputs.
struct Prologue {
  void (*work)(void *context, int thread, int threads);
  void *context;
};

// Small steps are faster on one thread, and so are steps of all sizes while other programs use the
// cores. As bits do not depend on it, the first runs of a function try both and the faster way
// stays, until a hundred times the trial's duration has passed: the load of the machine changes.
//
// A long step would pay for a trial with that many times its duration on one thread, so all threads
// begin: if a step keeps one of them busy for long, they stay and one thread is never tried. (Time
// asleep while others get no core does not make a step long; time spinning at barriers does, so the
// limit is generous.) What lies between ends with the first run that one thread clearly loses.
struct Trial {
  static constexpr int Runs = 16, Warm = 2;                // runs; those of them that begin
  static constexpr double Long = 50e-3, Noticeable = 1e-3; // seconds
  int runs;
  double fastest[2];   // all threads, one thread
  double busy;         // least CPU seconds that a run took of this thread, among all threads
  bool alone;          // how to run once the trial is over
  uint32_t since;      // runs after the trial
  double spent, again; // seconds of the trial; when to try again

  bool over() const { return runs == Runs; }
  // Whether the next run of the trial is on one thread.
  bool next_alone() const { return runs >= Warm && runs % 2 == 0; }
  // Seconds by the clock and of this thread's CPU time that it took.
  void record(double seconds, double cpu, double now);
};

// Threads that wait for one another lose most when other programs take the cores: a step goes on
// when the last of them does. So the pace of the runs is watched in windows of time. Where runs on
// all threads take much longer than the fastest of them, the next window runs on one thread, and if
// that is faster it stays so for a while, longer each time.
struct Pace {
  static constexpr double Window = 20e-3, Slow = 2.5; // seconds; times the fastest run
  // runs of a window; windows until the next look
  static constexpr int Least = 3, Longest = 64;
  bool alone;     // how to run now
  int runs;       // of this window
  double spent;   // .. and their seconds
  double fastest; // of all runs on all threads
  double average; // of the last window on all threads
  int stay;       // windows until the other way is tried again
  int length;     // of the last stay

  void record(double seconds);
};

struct Profile;

struct Program {
  const NncModel *model;
  ProgramOptions options;
  char *persistent, *transient, *input, *scratch;
  int64_t scratch_bytes;  // of each thread; behind them, room for the arguments that loops move
  int64_t scratch_stride;
  uint64_t step = 0; // training steps done
  // The train blocks whose statistics of the data (`adapt_step`) the weights hold; or all of them.
  Array<const char *> adapted;
  bool all_adapted = false;
  const char *tuning = "none"; // which measured schedules the code was made with

  // The arguments of each function as addresses, resolved at the first run.
  Array<char **> arguments;
  Array<Trial> trials; // one for each function
  Array<Pace> paces; // .. and how they fare since
  Profile *profile = nullptr; // profile.h; null: nobody asked

  const NncFunction *find(const char *name) const;
  char *address(int64_t region, int64_t offset) const;
  char *address(const NncTensor &tensor) const { return address(tensor.region, tensor.offset); }
  // Runs a function on a batch of n rows. Does not count a training step.
  void run(const NncFunction &function, int64_t n, const Prologue *prologue = nullptr);
};

// Reserves the memory, starts the threads.
Program start_program(const NncModel &model, const ProgramOptions &options);
// How many items an operation has on a batch of n rows.
int64_t item_count(const NncOp &op, int64_t n);

} // namespace rt

#endif
