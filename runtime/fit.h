// Keras' fit loop over one data set.
//
// An epoch takes the training rows in a new order, counts its metrics from zero, then validates.
// The order is a function of the seed and of the number of passes made since the first step, so
// training 2 + 2 epochs gives the bits of training 4.
#ifndef NNC_RUNTIME_FIT_H
#define NNC_RUNTIME_FIT_H

#include "runtime/callback.h"
#include "runtime/session.h"

#include <stdio.h>

namespace rt {

// A log that grows while training runs: `epoch,accuracy,loss`.
struct CsvLog {
  FILE *stream = nullptr;
  const char *path = nullptr;
  char separator = ',';
  bool header = false;

  void open(const char *where, bool append = false);
  void write(const char *first, int64_t count, const Array<Metric> &metrics);
};
// Keras' CSVLogger sorts its columns.
Array<Metric> sorted(const Array<Metric> &metrics);

// Mean over rows of what each step reported, for --log-steps, which zeroes the running metrics.
struct StepMeans {
  Array<Metric> sums;
  double rows = 0;

  void add(const Array<Metric> &metrics, int64_t n);
  Array<Metric> means() const;
};

struct Fit {
  Session &session;
  Program &program;
  Feed feed;
  Feed *validation_feed;
  int64_t rows, validation_first, validation_rows; // training rows are [0, rows)
  int64_t epochs, steps_per_epoch, steps_per_pass, step_limit;
  bool shuffles, terminal, quiet;
  Array<uint32_t> order;
  int64_t pass = -1, next_call = 0; // where the data cursor stands
  int64_t steps_run = 0;
  int64_t epoch = 0, step = 0; // the epoch, from 0, and its steps done
  bool stop = false;           // set by callbacks
  bool resumed = false;        // by a backup: epoch, step, pass and next_call are set
  bool warned = false;
  Array<const NncTensor *> sums; // small float metrics, whose values tell of a loss gone wrong
  Array<Callback *> callbacks;
  Builder notes; // lines that callbacks print once the line of the epoch is complete
  CsvLog epoch_log, step_log;
  StepMeans means;

  Fit(Session &s, const NncFunction &function, const Dataset &data, Feed *validation)
      : session(s), program(s.program), feed(s.program, function, data),
        validation_feed(validation) {}

  void configure();
  void run();
  // A line for the user. In an epoch it waits for the epoch's own line.
  void note(const char *format, ...) RT_PRINTF(2, 3);
  void print_notes();
  // Whether a metric's sum is not finite, so that the loss may not be.
  const NncTensor *strange_sum() const;

 private:
  void start_pass(int64_t which);
  int64_t one_step();
  void check_finite();
  bool done() const { return steps_run == step_limit || interrupted(); }
  Array<Metric> epoch_metrics();
  bool one_epoch();
  void validate(Array<Metric> &metrics);
  template <class Call> void each(Call call);
};

// The learning rates that run-time code may set: those of the optimizer a callback names, else all.
bool is_learning_rate(const NncTensor &t);
double learning_rate(const Fit &fit, Json callback);
void set_learning_rate(Fit &fit, Json callback, double rate);

} // namespace rt

#endif
