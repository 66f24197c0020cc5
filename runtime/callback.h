// Keras' callbacks: what happens between batches and epochs of a training.
//
// A train block lists them; the metadata has one entry each, {"type": "CSVLogger", "filename": ..},
// and here each is an object with a function per event, all of which do nothing by default. They
// run in the order of the list, as in Keras, except that a backup is made after all others, so that
// what it remembers of them is whole.
//
//   train_begin, { epoch_begin, { batch_end }*, epoch_end }*, train_end
//
// `save` and `load` are for BackupAndRestore: a resumed run goes on exactly as one that was never
// cut off.
#ifndef NNC_RUNTIME_CALLBACK_H
#define NNC_RUNTIME_CALLBACK_H

#include "runtime/json.h"
#include "runtime/progress.h"
#include "runtime/weights.h"

namespace rt {

struct Fit;

struct Callback {
  const char *id = ""; // "callback/0": names what it saves
  Json arguments;

  virtual void train_begin(Fit &) {}
  virtual void epoch_begin(Fit &) {}
  // After a training step that is not the last of the program. `fit.step` counts from 1.
  virtual void batch_end(Fit &) {}
  // `logs` are the epoch's metrics, which later callbacks and the progress line see too.
  virtual void epoch_end(Fit &, Array<Metric> &) {}
  virtual void train_end(Fit &) {}
  virtual void save(json_t *, Array<Extra> &) const {}
  virtual void load(Json, const WeightsFile &) {}
};

// The callback of a metadata entry, in the arena.
Callback *make_callback(Json arguments, size_t index);

// What `monitor`, `mode` and `min_delta` say, as Keras' MonitorCallback.
struct Monitor {
  const char *name;
  bool higher_is_better;
  double min_delta;
  bool warned = false;

  explicit Monitor(Json arguments);
  // Null if the metric is not there.
  static const double *find(const Array<Metric> &logs, const char *name);
  bool improves(double value, double reference) const;
};
// Whether a metric of this name is better if higher, for mode "auto".
bool grows_better(const char *metric);

// The names of the metrics, for warnings.
const char *metric_names(const Array<Metric> &logs);

// The decisions of ReduceLROnPlateau, apart from where metrics and rates come from.
struct PlateauRule {
  Monitor monitor;
  double factor, min_lr;
  int64_t patience, cooldown, wait = 0, cooling = 0;
  bool has_best = false;
  double best = 0;

  explicit PlateauRule(Json arguments);
  // The rate after an epoch that ended with this value of the monitor.
  double next(double current, double rate);
};

// The decision of ModelCheckpoint with save_best_only.
struct BestRule {
  Monitor monitor;
  bool has_best;
  double best;

  explicit BestRule(Json arguments);
  // Whether a value is the best so far; it is remembered then.
  bool improves(double current);
};
// A pattern in Python's notation, `best-{epoch:02d}-{val_loss:.3f}`, with its names filled in.
const char *fill_pattern(const char *pattern, const Array<Metric> &values);

// Counts batches: true every `save_freq` batches of the whole training, never if it is "epoch".
struct BatchCounter {
  int64_t every = 0, seen = 0;
  void configure(Json save_freq) { every = save_freq.as_integer(0); }
  bool due() {
    if (every == 0 || ++seen < every) return false;
    seen = 0;
    return true;
  }
};

// One object of each kind; they are found by make_callback.
Callback *make_stopping(Json), *make_checkpoint(Json), *make_plateau(Json), *make_scheduler(Json),
    *make_csv_logger(Json), *make_nan_guard(Json), *make_backup(Json);

} // namespace rt

#endif
