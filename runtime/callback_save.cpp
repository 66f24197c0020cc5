// Callbacks that write weights: ModelCheckpoint and BackupAndRestore.
//
// A checkpoint's name is a pattern in Python's notation, `best-{epoch:02d}-{val_loss:.3f}`. A
// backup is one file of weights with all that the rest of the training depends on beside them:
// where the data cursor stands, running metrics, what each callback remembers. It replaces its
// predecessor by renaming, so a kill at any moment leaves a whole one, and the resumed run gives
// the same bits as one that was never cut off.
#include "runtime/files.h"
#include "runtime/fit.h"

#include <errno.h>
#include <math.h>
#include <new>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

namespace rt {

namespace {

// The directories above a file.
void make_directories(const char *path) {
  for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    const char *directory = text_copy(path, size_t(slash - path));
    if (mkdir(directory, 0777) != 0 && errno != EEXIST)
      fail("cannot make the directory `%s`: %s", directory, strerror(errno));
  }
}

// --- names ---------------------------------------------------------------------------------------

// One value of a pattern as `{name:spec}` says: [0][width][.digits][d|e|f|g|%].
void add_value(Builder &out, const char *spec, double value) {
  int zero = *spec == '0', width = 0, digits = -1;
  while (*spec >= '0' && *spec <= '9') width = width * 10 + (*spec++ - '0');
  if (*spec == '.') {
    digits = 0;
    for (spec++; *spec >= '0' && *spec <= '9'; spec++) digits = digits * 10 + (*spec - '0');
  }
  char kind = *spec ? *spec : digits >= 0 ? 'g' : 0;
  bool whole = kind == 'd' || (!kind && value == floor(value) && fabs(value) < 1e15);
  if (whole)
    out.add(zero ? "%0*lld" : "%*lld", width, static_cast<long long>(value));
  else if (kind == 'e')
    out.add(zero ? "%0*.*e" : "%*.*e", width, digits < 0 ? 6 : digits, value);
  else if (kind == 'f' || kind == '%')
    out.add(zero ? "%0*.*f" : "%*.*f", width, digits < 0 ? 6 : digits,
            kind == '%' ? 100 * value : value);
  else
    out.add(zero ? "%0*.*g" : "%*.*g", width, digits < 0 ? 9 : digits, value);
  if (kind == '%') out.add("%%");
}

// --- ModelCheckpoint -----------------------------------------------------------------------------

struct Checkpoint : Callback {
  BestRule rule;
  const char *pattern;
  bool verbose, best_only, weights_only, by_epoch;
  BatchCounter batches;

  explicit Checkpoint(Json a)
      : rule(a), pattern(a.text("filepath", "checkpoint.safetensors")),
        verbose(a.integer("verbose", 0) > 0), best_only(a.flag("save_best_only", false)),
        weights_only(a.flag("save_weights_only", false)),
        by_epoch(!a.get("save_freq").is_number()) {
    batches.configure(a.get("save_freq"));
  }

  bool wanted(Fit &fit, const Array<Metric> &logs, const char *path) {
    long long epoch = fit.epoch + 1;
    const char *monitor = rule.monitor.name;
    const double *current = best_only ? Monitor::find(logs, monitor) : nullptr;
    if (best_only && !current && !rule.monitor.warned) {
      warn("Can save best model only with %s available.", monitor);
      rule.monitor.warned = true;
    }
    if (!current) {
      if (verbose && !best_only) fit.note("Epoch %lld: saving model to %s", epoch, path);
      return true;
    }
    const char *before = rule.has_best ? text("%.5f", rule.best) : "None";
    bool better = rule.improves(*current);
    if (verbose && better)
      fit.note("Epoch %lld: %s improved from %s to %.5f, saving model to %s", epoch, monitor,
               before, *current, path);
    else if (verbose)
      fit.note("Epoch %lld: %s did not improve from %s", epoch, monitor, before);
    return better;
  }
  void save_model(Fit &fit, const Array<Metric> &logs, bool in_epoch) {
    Array<Metric> values;
    values.push({"epoch", double(fit.epoch + 1)});
    if (in_epoch) values.push({"batch", double(fit.step)});
    for (const Metric &m : logs) values.push(m);
    const char *path = fill_pattern(pattern, values);
    if (!wanted(fit, logs, path)) return;
    make_directories(path);
    SaveOptions options;
    options.weights_only = weights_only;
    save_weights(fit.program, path, fit.session.name, options);
    if (verbose)
      fit.note("Epoch %lld: finished saving model to %s", static_cast<long long>(fit.epoch + 1),
               path);
  }
  void batch_end(Fit &fit) override {
    if (batches.due()) save_model(fit, read_metrics(fit.session, ""), true);
  }
  void epoch_end(Fit &fit, Array<Metric> &logs) override {
    if (by_epoch) save_model(fit, logs, false);
  }
  void save(json_t *state, Array<Extra> &) const override {
    json_object_set_new(state, "seen", json_integer(batches.seen));
    if (rule.has_best) json_object_set_new(state, "best", json_exact(rule.best));
  }
  void load(Json state, const WeightsFile &) override {
    batches.seen = state.integer("seen", 0);
    rule.has_best = state.get("best").present();
    rule.best = exact_of(state.get("best"));
  }
};

// --- BackupAndRestore ----------------------------------------------------------------------------

struct Backup : Callback {
  const char *directory, *path, *previous;
  bool by_epoch, doubles, deletes;
  BatchCounter batches;

  explicit Backup(Json a)
      : directory(a.text("backup_dir", "backup")), path(text("%s/latest.safetensors", directory)),
        previous(text("%s/latest.safetensors.bkp", directory)),
        by_epoch(!a.get("save_freq").is_number()), doubles(a.flag("double_checkpoint", false)),
        deletes(a.flag("delete_checkpoint", true)) {
    batches.configure(a.get("save_freq"));
  }

  void add_metrics(const Program &program, Array<Extra> &extras) const {
    for (int64_t i = 0; i < program.model->tensor_count; i++) {
      const NncTensor &t = program.model->tensors[i];
      if (t.kind == NNC_TENSOR_METRIC || t.kind == NNC_TENSOR_ROWS)
        extras.push({text("nnc/%s", t.name), program.address(t), t.bytes});
    }
  }
  void write(const Fit &fit, int64_t epoch, int64_t step) const {
    make_directories(path);
    json_t *state = new_json_object();
    auto number = [&](const char *name, int64_t value) {
      json_object_set_new(state, name, json_integer(value));
    };
    number("epoch", epoch);
    number("step", step);
    number("pass", fit.pass);
    number("next_call", fit.next_call);
    number("seen", batches.seen);
    json_object_set_new(state, "stop", json_boolean(fit.stop));
    json_object_set_new(state, "block", json_string(fit.session.block_name));
    Array<Extra> extras;
    add_metrics(fit.program, extras);
    for (const Callback *c : fit.callbacks) {
      if (c == this) continue;
      json_t *own = new_json_object();
      c->save(own, extras);
      json_object_set(state, c->id, own);
    }
    SaveOptions options;
    options.state = state;
    options.extras = &extras;
    if (doubles && access(path, F_OK) == 0 && rename(path, previous) != 0)
      fail("cannot write `%s`: %s", previous, strerror(errno));
    save_weights(fit.program, path, fit.session.name, options);
  }
  void train_begin(Fit &fit) override {
    const char *from = access(path, F_OK) == 0       ? path
                       : access(previous, F_OK) == 0 ? previous
                                                     : nullptr;
    if (!from) return;
    WeightsFile file = open_weights(from);
    Json state = file.state();
    if (!state.present())
      fail("`%s`: weights, but no backup of a training: remove it, or give it to --weights", from);
    // A backup of another block is of one that came before: it does not concern this one.
    if (!same(state.text("block", ""), fit.session.block_name)) return;
    load_weights(fit.program, file);
    Array<Extra> metrics;
    add_metrics(fit.program, metrics);
    for (const Extra &m : metrics) file.read_extra(m.name, m.data, m.bytes);
    for (Callback *c : fit.callbacks) c->load(state.get(c->id), file);
    fit.epoch = state.integer("epoch", 0);
    fit.step = state.integer("step", 0);
    fit.pass = state.integer("pass", 0);
    fit.next_call = state.integer("next_call", 0);
    fit.stop = state.flag("stop", false);
    batches.seen = state.integer("seen", 0);
    fit.resumed = true;
    fit.note("Resuming from `%s`: %lld epochs and %lld steps were done", from,
             static_cast<long long>(fit.epoch), static_cast<long long>(fit.step));
  }
  void batch_end(Fit &fit) override {
    if (batches.due()) write(fit, fit.epoch, fit.step);
  }
  void epoch_end(Fit &fit, Array<Metric> &) override {
    if (by_epoch) write(fit, fit.epoch + 1, 0);
  }
  void train_end(Fit &) override {
    if (!deletes) return;
    unlink(path);
    unlink(previous);
    rmdir(directory); // if there is nothing else in it
  }
};

} // namespace

BestRule::BestRule(Json a)
    : monitor(a), has_best(a.get("initial_value_threshold").is_number()),
      best(a.real("initial_value_threshold", 0)) {}

bool BestRule::improves(double current) {
  if (has_best && !monitor.improves(current, best)) return false;
  best = current;
  has_best = true;
  return true;
}

const char *fill_pattern(const char *pattern, const Array<Metric> &values) {
  Builder out;
  for (const char *at = pattern; *at;) {
    const char *close = *at == '{' ? strchr(at, '}') : nullptr;
    if (!close) {
      out.add_bytes(at++, 1);
      continue;
    }
    const char *inside = text_copy(at + 1, size_t(close - at - 1));
    const char *colon = strchr(inside, ':');
    const char *name = colon ? text_copy(inside, size_t(colon - inside)) : inside;
    const double *value = Monitor::find(values, name);
    if (!value)
      fail("ModelCheckpoint: `%s` names the metric `%s`: available are %s", pattern, name,
           metric_names(values));
    add_value(out, colon ? colon + 1 : "", *value);
    at = close + 1;
  }
  return text_copy(out.c_str(), out.length());
}

Callback *make_checkpoint(Json a) { return new (arena_allocate(sizeof(Checkpoint))) Checkpoint(a); }
Callback *make_backup(Json a) { return new (arena_allocate(sizeof(Backup))) Backup(a); }

} // namespace rt
