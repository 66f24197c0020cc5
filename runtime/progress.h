// The progress of training, exactly in Keras' form on a terminal.
//
//   Epoch 1/10
//   12/12 ━━━━━━━━━━━━━━━━━━━━ 1s 91ms/step - loss: 0.3000 - accuracy: 0.7500 - val_loss: 0.4000
//
// Off a terminal one plain line per epoch, so that logs stay readable.
#ifndef NNC_RUNTIME_PROGRESS_H
#define NNC_RUNTIME_PROGRESS_H

#include "runtime/base.h"

namespace rt {

struct Metric {
  const char *name;
  double value;
};

constexpr double RedrawSeconds = 0.05;

struct Progress {
  int verbose;
  bool terminal;
  int64_t epoch, epochs; // shown if epochs > 1
  int64_t target;        // steps
  double started = 0, after_first = 0, last_redraw = 0;
  int64_t previous_width = 0;

  void begin();
  // Call after each step; true if it is time to redraw.
  bool due(int64_t done);
  void redraw(int64_t done, const Array<Metric> &metrics);
  void finish(int64_t done, const Array<Metric> &metrics);

 private:
  double seconds_per_step(int64_t done, double now) const;
  void draw(int64_t done, const Array<Metric> &metrics, bool final);
};

// " - loss: 0.3000 - accuracy: 7.1234e-04", as Keras prints values.
void add_metrics(Builder &out, const Array<Metric> &metrics);
void add_step_time(Builder &out, double seconds);

} // namespace rt

#endif
