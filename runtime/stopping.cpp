// EarlyStopping: see stopping.h.
#include "runtime/stopping.h"
#include "runtime/fit.h"

#include <new>
#include <stdio.h>

namespace rt {

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
  if (!copy) {
    copy_bytes = copy_weights(program, nullptr, false);
    copy = static_cast<char *>(allocate(size_t(copy_bytes)));
  }
  copy_weights(program, copy, false);
  has_copy = true;
}

bool EarlyStopping::epoch_end(const Program &program, int64_t epoch, const Array<Metric> &metrics) {
  const double *value = Monitor::find(metrics, monitor);
  if (!value) {
    if (!warned)
      warn("Early stopping conditioned on metric `%s` which is not available. Available metrics "
           "are: %s",
           monitor, metric_names(metrics));
    warned = true;
    return false;
  }
  if (epoch < start_from_epoch) return false;
  if (restore_best_weights && !has_copy) {
    keep(program);
    best_epoch = epoch;
  }
  wait++;
  if (!has_best || improves(*value, best)) {
    best = *value;
    has_best = true;
    best_epoch = epoch;
    keep(program);
    if (!has_baseline || improves(*value, baseline)) wait = 0;
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

namespace {

struct StoppingCallback : Callback {
  EarlyStopping stopping;

  explicit StoppingCallback(Json a) : stopping(make_early_stopping(a)) {}
  const char *copy_name() const { return text("nnc/%s/best", id); }

  void epoch_end(Fit &fit, Array<Metric> &logs) override {
    if (stopping.epoch_end(fit.program, fit.epoch, logs)) fit.stop = true;
  }
  void train_end(Fit &fit) override { stopping.train_end(fit.program, fit.quiet); }
  void save(json_t *state, Array<Extra> &extras) const override {
    json_object_set_new(state, "wait", json_integer(stopping.wait));
    json_object_set_new(state, "stopped_epoch", json_integer(stopping.stopped_epoch));
    json_object_set_new(state, "best_epoch", json_integer(stopping.best_epoch));
    if (stopping.has_best) json_object_set_new(state, "best", json_exact(stopping.best));
    if (stopping.has_copy) extras.push({copy_name(), stopping.copy, stopping.copy_bytes});
  }
  void load(Json state, const WeightsFile &file) override {
    stopping.wait = state.integer("wait", 0);
    stopping.stopped_epoch = state.integer("stopped_epoch", 0);
    stopping.best_epoch = state.integer("best_epoch", 0);
    stopping.has_best = state.get("best").present();
    stopping.best = exact_of(state.get("best"));
    if (!file.has(copy_name())) return;
    stopping.copy_bytes = file.bytes_of(copy_name());
    file.locate(copy_name(), stopping.copy_bytes); // a size that is wrong is not allocated
    stopping.copy = static_cast<char *>(allocate(size_t(stopping.copy_bytes)));
    file.read_extra(copy_name(), stopping.copy, stopping.copy_bytes);
    stopping.has_copy = true;
  }
};

} // namespace

Callback *make_stopping(Json arguments) {
  return new (arena_allocate(sizeof(StoppingCallback))) StoppingCallback(arguments);
}

} // namespace rt
