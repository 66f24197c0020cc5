// EarlyStopping: see stopping.h.
#include "runtime/stopping.h"

#include <initializer_list>
#include <stdio.h>

namespace rt {

static bool grows_better(const char *monitor) {
  for (const char *word : {"accuracy", "auc", "AUC", "precision", "recall", "f1", "r2", "iou"})
    if (strstr(monitor, word)) return true;
  return false;
}

EarlyStopping make_early_stopping(Json a) {
  EarlyStopping s{};
  s.monitor = a.text("monitor", "val_loss");
  const char *mode = a.text("mode", "auto");
  s.higher_is_better = same(mode, "max") || (!same(mode, "min") && grows_better(s.monitor));
  double delta = a.real("min_delta", 0);
  s.min_delta = (delta < 0 ? -delta : delta) * (s.higher_is_better ? 1 : -1);
  s.patience = a.integer("patience", 0);
  s.start_from_epoch = a.integer("start_from_epoch", 0);
  s.has_baseline = a.get("baseline").is_number();
  s.baseline = a.real("baseline", 0);
  s.restore_best_weights = a.flag("restore_best_weights", false);
  return s;
}

int64_t copy_weights(const Program &program, char *copy, bool restore) {
  int64_t total = 0;
  for (int64_t i = 0; i < program.model->tensor_count; i++) {
    const NncTensor &t = program.model->tensors[i];
    if (t.kind != NNC_TENSOR_PARAM && t.kind != NNC_TENSOR_STATE) continue;
    char *place = program.address(t);
    if (copy && restore)
      memcpy(place, copy + total, size_t(t.bytes));
    else if (copy)
      memcpy(copy + total, place, size_t(t.bytes));
    total += t.bytes;
  }
  return total;
}

bool EarlyStopping::improves(double value, double reference) const {
  double adjusted = value - min_delta;
  return higher_is_better ? adjusted > reference : adjusted < reference;
}

void EarlyStopping::keep(const Program &program) {
  if (!restore_best_weights) return;
  if (!copy) copy = static_cast<char *>(allocate(size_t(copy_weights(program, nullptr, false))));
  copy_weights(program, copy, false);
  has_copy = true;
}

static const Metric *find_metric(const Array<Metric> &metrics, const char *name) {
  for (const Metric &m : metrics)
    if (same(m.name, name)) return &m;
  return nullptr;
}

bool EarlyStopping::epoch_end(const Program &program, int64_t epoch, const Array<Metric> &metrics) {
  const Metric *metric = find_metric(metrics, monitor);
  if (!metric) {
    Builder names;
    for (const Metric &m : metrics) names.add("%s%s", names.length() ? "," : "", m.name);
    if (!warned)
      warn("Early stopping conditioned on metric `%s` which is not available. Available metrics "
           "are: %s",
           monitor, names.c_str());
    warned = true;
    return false;
  }
  if (epoch < start_from_epoch) return false;
  if (restore_best_weights && !has_copy) {
    keep(program);
    best_epoch = epoch;
  }
  wait++;
  if (!has_best || improves(metric->value, best)) {
    best = metric->value;
    has_best = true;
    best_epoch = epoch;
    keep(program);
    if (!has_baseline || improves(metric->value, baseline)) wait = 0;
    return false;
  }
  if (wait < patience || epoch == 0) return false;
  stopped_epoch = epoch;
  return true;
}

void EarlyStopping::train_end(Program &program, bool quiet) {
  if (stopped_epoch > 0 && !quiet)
    printf("Epoch %lld: early stopping\n", static_cast<long long>(stopped_epoch + 1));
  if (!restore_best_weights || !has_copy) return;
  if (!quiet)
    printf("Restoring model weights from the end of the best epoch: %lld.\n",
           static_cast<long long>(best_epoch + 1));
  copy_weights(program, copy, true);
  free(copy);
  copy = nullptr;
}

} // namespace rt
