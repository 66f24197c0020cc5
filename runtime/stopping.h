// Keras' EarlyStopping: ends training when a metric has not improved for `patience` epochs.
//
// Semantics follow keras/callbacks/early_stopping.py: an improvement is `current - min_delta`
// better than the best so far; waiting restarts only if the baseline is beaten too; training never
// stops after the first epoch; `restore_best_weights` restores at the end of training, however it
// ends.
#ifndef NNC_RUNTIME_STOPPING_H
#define NNC_RUNTIME_STOPPING_H

#include "runtime/json.h"
#include "runtime/program.h"
#include "runtime/progress.h"

namespace rt {

struct EarlyStopping {
  const char *monitor;
  bool higher_is_better;
  double min_delta;
  int64_t patience, start_from_epoch;
  bool has_baseline;
  double baseline;
  bool restore_best_weights;

  int64_t wait = 0, stopped_epoch = 0, best_epoch = 0;
  bool has_best = false, has_copy = false, warned = false;
  double best = 0;
  char *copy = nullptr; // of parameters and state
  int64_t copy_bytes = 0;

  // epoch counts from 0. True: stop.
  bool epoch_end(const Program &program, int64_t epoch, const Array<Metric> &metrics);
  // Restores and says what happened.
  void train_end(Program &program, bool quiet);

 private:
  bool improves(double value, double reference) const;
  void keep(const Program &program);
};

EarlyStopping make_early_stopping(Json arguments);
// Bytes of all parameters and state, one after the other, to or from `copy`.
int64_t copy_weights(const Program &program, char *copy, bool restore);

} // namespace rt

#endif
