// Callbacks that set the learning rate: ReduceLROnPlateau and LearningRateScheduler.
//
// The rate is a scalar of the model that kernels read; it is set between steps. A scheduler's rule
// is a function of the compiled module, `epoch, learning_rate -> learning_rate`, which runs here
// like a step of its own.
#include "runtime/fit.h"

#include <new>

namespace rt {

namespace {

// Shows the rate among the epoch's metrics, as Keras does.
void log_rate(Array<Metric> &logs, double rate) {
  for (Metric &m : logs)
    if (same(m.name, "learning_rate")) return void(m.value = rate);
  logs.push({"learning_rate", rate});
}

struct Plateau : Callback {
  PlateauRule rule;
  bool verbose;

  explicit Plateau(Json a) : rule(a), verbose(a.integer("verbose", 0) > 0) {}

  void epoch_end(Fit &fit, Array<Metric> &logs) override {
    double rate = learning_rate(fit, arguments);
    log_rate(logs, rate);
    const double *current = Monitor::find(logs, rule.monitor.name);
    if (!current) {
      if (!rule.monitor.warned)
        warn("Learning rate reduction is conditioned on metric `%s` which is not available. "
             "Available metrics are: %s",
             rule.monitor.name, metric_names(logs));
      rule.monitor.warned = true;
      return;
    }
    double next = rule.next(*current, rate);
    if (next == rate) return;
    set_learning_rate(fit, arguments, next);
    if (verbose)
      fit.note("Epoch %lld: ReduceLROnPlateau reducing learning rate to %.9g.",
               static_cast<long long>(fit.epoch + 1), next);
  }
  void save(json_t *state, Array<Extra> &) const override {
    json_object_set_new(state, "wait", json_integer(rule.wait));
    json_object_set_new(state, "cooling", json_integer(rule.cooling));
    if (rule.has_best) json_object_set_new(state, "best", json_exact(rule.best));
  }
  void load(Json state, const WeightsFile &) override {
    rule.wait = state.integer("wait", 0);
    rule.cooling = state.integer("cooling", 0);
    rule.has_best = state.get("best").present();
    rule.best = exact_of(state.get("best"));
  }
};

struct Scheduler : Callback {
  bool verbose;

  explicit Scheduler(Json a) : verbose(a.integer("verbose", 0) > 0) {}

  void epoch_begin(Fit &fit) override {
    const char *name = arguments.text("function", "");
    const NncFunction *rule = fit.program.find(name);
    if (!rule || rule->result_count != 1)
      fail("internal: there is no function `%s` for the learning rate", name);
    for (int64_t i = 0; i < rule->input_count; i++) {
      const NncTensor &input = rule->inputs[i];
      if (same(input.name, "epoch")) {
        int32_t epoch = int32_t(fit.epoch);
        memcpy(fit.program.address(input), &epoch, 4);
      } else {
        store_float(input.dtype, learning_rate(fit, arguments), fit.program.address(input));
      }
    }
    fit.program.run(*rule, 1);
    const NncTensor &result = rule->results[0];
    double rate = element_as_double(result.dtype, fit.program.address(result));
    set_learning_rate(fit, arguments, rate);
    if (verbose)
      fit.note("Epoch %lld: LearningRateScheduler setting learning rate to %.9g.",
               static_cast<long long>(fit.epoch + 1), rate);
  }
  void epoch_end(Fit &fit, Array<Metric> &logs) override {
    log_rate(logs, learning_rate(fit, arguments));
  }
};

} // namespace

PlateauRule::PlateauRule(Json a)
    : monitor(a), factor(a.real("factor", 0.1)), min_lr(a.real("min_lr", 0)),
      patience(a.integer("patience", 10)), cooldown(a.integer("cooldown", 0)) {}

double PlateauRule::next(double current, double rate) {
  if (cooling > 0) {
    cooling--;
    wait = 0;
  }
  if (!has_best || monitor.improves(current, best)) {
    best = current;
    has_best = true;
    wait = 0;
    return rate;
  }
  if (cooling > 0 || ++wait < patience || rate <= double(float(min_lr))) return rate;
  cooling = cooldown;
  wait = 0;
  double lower = rate * factor;
  return lower < min_lr ? min_lr : lower;
}

Callback *make_plateau(Json a) { return new (arena_allocate(sizeof(Plateau))) Plateau(a); }
Callback *make_scheduler(Json a) { return new (arena_allocate(sizeof(Scheduler))) Scheduler(a); }

} // namespace rt
