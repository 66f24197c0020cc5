// What callbacks share, and the small ones: see callback.h.
#include "runtime/callback.h"
#include "runtime/fit.h"

#include <initializer_list>
#include <math.h>
#include <new>

namespace rt {

// --- monitors ------------------------------------------------------------------------------------

bool grows_better(const char *monitor) {
  for (const char *word :
       {"accuracy", "auc", "AUC", "precision", "recall", "f1", "f_beta", "r2", "iou", "io_u"})
    if (strstr(monitor, word)) return true;
  return false;
}

Monitor::Monitor(Json a) : name(a.text("monitor", "val_loss")) {
  const char *mode = a.text("mode", "auto");
  higher_is_better = same(mode, "max") || (!same(mode, "min") && grows_better(name));
  min_delta = fabs(a.real("min_delta", 0)) * (higher_is_better ? 1 : -1);
}

const double *Monitor::find(const Array<Metric> &logs, const char *name) {
  for (const Metric &m : logs)
    if (same(m.name, name)) return &m.value;
  return nullptr;
}

bool Monitor::improves(double value, double reference) const {
  double adjusted = value - min_delta;
  return higher_is_better ? adjusted > reference : adjusted < reference;
}

const char *metric_names(const Array<Metric> &logs) {
  Builder names;
  for (const Metric &m : logs) names.add("%s%s", names.length() ? "," : "", m.name);
  return text_copy(names.c_str(), names.length());
}

// --- the small ones ------------------------------------------------------------------------------

namespace {

struct CsvLogger : Callback {
  CsvLog log;

  explicit CsvLogger(Json a) {
    log.separator = *a.text("separator", ",");
    log.open(a.text("filename", "log.csv"), a.flag("append", false));
  }
  void epoch_end(Fit &fit, Array<Metric> &logs) override {
    log.write("epoch", fit.epoch, sorted(logs));
  }
};

struct NanGuard : Callback {
  bool raises;

  explicit NanGuard(Json a) : raises(a.flag("raise_error", false)) {}
  void batch_end(Fit &fit) override {
    if (fit.stop || !fit.strange_sum()) return; // cheap, and nearly always so
    Array<Metric> logs = read_metrics(fit.session, "");
    const double *loss = Monitor::find(logs, "loss");
    for (const Metric &m : logs) // a written-out step may report its losses under other names
      if (!loss && !isfinite(m.value)) loss = &m.value;
    if (!loss || isfinite(*loss)) return;
    long long batch = fit.step - 1;
    if (raises)
      fail("the loss became %s at batch %lld of epoch %lld", isnan(*loss) ? "NaN" : "infinite",
           batch, static_cast<long long>(fit.epoch + 1));
    fit.note("Batch %lld: Invalid loss, terminating training", batch);
    fit.stop = true;
  }
};

template <class T> Callback *make(Json arguments) {
  return new (arena_allocate(sizeof(T))) T(arguments);
}

struct Kind {
  const char *type;
  Callback *(*make)(Json);
};
constexpr Kind kinds[] = {
    {"EarlyStopping", make_stopping},    {"ModelCheckpoint", make_checkpoint},
    {"ReduceLROnPlateau", make_plateau}, {"LearningRateScheduler", make_scheduler},
    {"CSVLogger", make_csv_logger},      {"TerminateOnNaN", make_nan_guard},
    {"BackupAndRestore", make_backup},
};

} // namespace

Callback *make_csv_logger(Json arguments) { return make<CsvLogger>(arguments); }
Callback *make_nan_guard(Json arguments) { return make<NanGuard>(arguments); }

Callback *make_callback(Json arguments, size_t index) {
  const char *type = arguments.text("type", "?");
  for (const Kind &kind : kinds) {
    if (!same(kind.type, type)) continue;
    Callback *callback = kind.make(arguments);
    callback->arguments = arguments;
    callback->id = text("callback/%zu", index);
    return callback;
  }
  fail("internal: the callback %s is not known at run time", type);
}

} // namespace rt
