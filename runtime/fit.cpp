// Keras' fit loop: see fit.h.
#include "runtime/fit.h"
#include "runtime/random.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

namespace rt {

// --- logs ----------------------------------------------------------------------------------------

void CsvLog::open(const char *where, bool append) {
  if (!where) return;
  path = where;
  struct stat info;
  header = append && stat(where, &info) == 0 && info.st_size > 0;
  stream = fopen(where, append ? "ae" : "we");
  if (!stream) fail("cannot write `%s`: %s", where, strerror(errno));
}

void CsvLog::write(const char *first, int64_t count, const Array<Metric> &metrics) {
  if (!stream) return;
  if (!header) {
    fputs(first, stream);
    for (const Metric &m : metrics) fprintf(stream, "%c%s", separator, m.name);
    fputc('\n', stream);
    header = true;
  }
  fprintf(stream, "%lld", static_cast<long long>(count));
  for (const Metric &m : metrics) fprintf(stream, "%c%.9g", separator, m.value);
  fputc('\n', stream);
  if (fflush(stream) != 0) fail("cannot write `%s`: %s", path, strerror(errno));
}

Array<Metric> sorted(const Array<Metric> &metrics) {
  Array<Metric> result;
  for (const Metric &m : metrics) {
    size_t at = result.count;
    result.push(m);
    for (; at > 0 && strcmp(result[at - 1].name, m.name) > 0; at--) result[at] = result[at - 1];
    result[at] = m;
  }
  return result;
}

void StepMeans::add(const Array<Metric> &metrics, int64_t n) {
  for (size_t i = 0; i < metrics.count; i++) {
    if (i == sums.count) sums.push({metrics[i].name, 0});
    sums[i].value += metrics[i].value * double(n);
  }
  rows += double(n);
}

Array<Metric> StepMeans::means() const {
  Array<Metric> result;
  for (const Metric &m : sums) result.push({m.name, m.value / rows});
  return result;
}

// --- learning rates ------------------------------------------------------------------------------

bool is_learning_rate(const NncTensor &t) {
  return t.kind == NNC_TENSOR_HOST && dtype_info(t.dtype).floating && element_count(t, 0) == 1 &&
         ends_with(t.name, "learning_rate");
}

static bool is_meant(const NncTensor &t, Json callback) {
  const char *name = callback.text("learning_rate", nullptr);
  return is_learning_rate(t) && (!name || same(name, t.name));
}

double learning_rate(const Fit &fit, Json callback) {
  const NncModel &model = *fit.program.model;
  for (int64_t i = 0; i < model.tensor_count; i++) {
    const NncTensor &t = model.tensors[i];
    if (is_meant(t, callback)) return element_as_double(t.dtype, fit.program.address(t));
  }
  fail("internal: there is no learning rate for the callback %s", callback.text("type", "?"));
}

void set_learning_rate(Fit &fit, Json callback, double rate) {
  const NncModel &model = *fit.program.model;
  for (int64_t i = 0; i < model.tensor_count; i++) {
    const NncTensor &t = model.tensors[i];
    if (is_meant(t, callback)) store_float(t.dtype, rate, fit.program.address(t));
  }
}

// --- the loop ------------------------------------------------------------------------------------

template <class Call> void Fit::each(Call call) {
  for (Callback *c : callbacks) call(*c);
}

void Fit::note(const char *format, ...) {
  char line[1024];
  va_list values;
  va_start(values, format);
  vsnprintf(line, sizeof line, format, values);
  va_end(values);
  if (!quiet) notes.add("%s\n", line);
}

void Fit::print_notes() {
  if (!notes.length()) return;
  fputs(notes.c_str(), stdout);
  fflush(stdout);
  notes.clear();
}

void Fit::configure() {
  Json train = session.block.get("train");
  const Options &options = session.options;
  epochs = options.epochs > 0 ? options.epochs : train.integer("epochs", 1);
  steps_per_pass = feed.slots.count ? feed.call_count(rows) : 1;
  if (steps_per_pass == 0)
    fail("training data: a step takes %lld rows, there are %lld",
         static_cast<long long>(feed.batch), static_cast<long long>(rows));
  steps_per_epoch = train.integer("steps_per_epoch", steps_per_pass);
  step_limit = options.steps;
  shuffles = train.flag("shuffle", true) && !options.no_shuffle && feed.slots.count;
  if (shuffles) order.resize(size_t(rows));
  terminal = isatty(STDOUT_FILENO);
  quiet = options.verbose == 0;
  epoch_log.open(options.log, session.blocks_before > 0);
  step_log.open(options.log_steps, session.blocks_before > 0);
  size_t index = 0;
  bool last[] = {false, true}; // backups remember the others, so they come last
  for (bool backups : last) {
    index = 0;
    for (Json c : train.get("callbacks")) {
      if (same(c.text("type", ""), "BackupAndRestore") == backups)
        callbacks.push(make_callback(c, index));
      index++;
    }
  }
  for (int64_t i = 0; i < program.model->tensor_count; i++) {
    const NncTensor &t = program.model->tensors[i];
    if (t.kind == NNC_TENSOR_METRIC && dtype_info(t.dtype).floating && element_count(t, 0) == 1)
      sums.push(&t);
  }
}

void Fit::start_pass(int64_t which) {
  pass = which;
  next_call = 0;
  if (shuffles) shuffle(order.data, uint64_t(rows), program.options.seed, uint64_t(which));
}

// Returns the number of rows.
int64_t Fit::one_step() {
  if (next_call == steps_per_pass) start_pass(pass + 1);
  int64_t first = next_call * feed.batch;
  int64_t n = rows - first < feed.batch ? rows - first : feed.batch;
  if (!feed.slots.count) first = 0, n = feed.batch; // all rows are made by the step
  feed.run({shuffles ? order.data : nullptr, first, n, rows});
  program.step++;
  next_call++;
  steps_run++;
  return n;
}

const NncTensor *Fit::strange_sum() const {
  for (const NncTensor *t : sums)
    if (!isfinite(element_as_double(t->dtype, program.address(*t)))) return t;
  return nullptr;
}

void Fit::check_finite() {
  if (warned) return;
  const NncTensor *t = strange_sum();
  if (!t) return;
  warned = true;
  // On a terminal the bar stands on this line.
  if (terminal && session.options.verbose == 1) puts("");
  warn("the loss or a metric became %s at step %llu (epoch %lld)",
       isnan(element_as_double(t->dtype, program.address(*t))) ? "NaN" : "infinite",
       static_cast<unsigned long long>(program.step), static_cast<long long>(epoch + 1));
}

Array<Metric> Fit::epoch_metrics() {
  return step_log.stream ? means.means() : read_metrics(session, "");
}

void Fit::validate(Array<Metric> &metrics) {
  if (!validation_feed) return;
  if (!evaluate_rows(session, *validation_feed, validation_first, validation_rows, nullptr)) return;
  for (const Metric &m : read_metrics(session, "val_")) metrics.push(m);
}

// True: training goes on.
bool Fit::one_epoch() {
  Progress progress{int(session.options.verbose), terminal, epoch + 1, epochs, steps_per_epoch};
  if (step == 0) each([&](Callback &c) { c.epoch_begin(*this); });
  print_notes();
  progress.begin();
  if (step == 0) { // else a backup was made in the middle of this epoch
    zero_metrics(program);
    reset_rows(session);
    means = StepMeans();
  }
  int64_t first = step;
  while (step < steps_per_epoch && !done() && !stop) {
    if (step_log.stream) zero_metrics(program);
    int64_t n = one_step();
    step++;
    check_finite();
    if (step_log.stream) {
      Array<Metric> metrics = read_metrics(session, "");
      step_log.write("step", int64_t(program.step), metrics);
      means.add(metrics, n);
    }
    each([&](Callback &c) { c.batch_end(*this); });
    if (progress.due(step)) progress.redraw(step, epoch_metrics());
  }
  if (step == first && first < steps_per_epoch) return false;
  Array<Metric> metrics = epoch_metrics();
  if (!interrupted()) validate(metrics);
  if (interrupted()) {
    if (terminal && session.options.verbose == 1) puts("");
    return false;
  }
  each([&](Callback &c) { c.epoch_end(*this, metrics); });
  progress.finish(step, metrics);
  print_notes();
  epoch_log.write("epoch", epoch, sorted(metrics));
  return !stop && !done();
}

void Fit::run() {
  each([&](Callback &c) { c.train_begin(*this); });
  print_notes();
  bool whole_passes = steps_per_epoch == steps_per_pass;
  // Weights that come with a step count continue where they stopped, but epochs that are passes
  // begin with the first row.
  int64_t first = resumed ? next_call : whole_passes ? 0 : int64_t(program.step) % steps_per_pass;
  start_pass(resumed ? pass : int64_t(program.step) / steps_per_pass);
  next_call = first;
  bool fresh = step == 0 && next_call == 0;
  for (; epoch < epochs; epoch++, step = 0, fresh = false) {
    if (!fresh && step == 0 && whole_passes) start_pass(pass + 1);
    if (!one_epoch()) break;
  }
  // After an interruption the weights stay as they are: they are where training can go on.
  if (interrupted()) return;
  if (const NncFunction *end = find_function(session, "train_end")) program.run(*end, 1);
  each([&](Callback &c) { c.train_end(*this); });
  print_notes();
}

} // namespace rt
