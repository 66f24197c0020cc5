// The `train` and `evaluate` commands: Keras' fit loop.
//
// An epoch takes the training rows in a new order, counts its metrics from zero, then validates.
// The order is a function of the seed and of the number of passes made since the first step, so
// training 2 + 2 epochs gives the bits of training 4. With `validation_split` the last rows, before
// shuffling, are held out.
#include "runtime/files.h"
#include "runtime/memory.h"
#include "runtime/random.h"
#include "runtime/session.h"
#include "runtime/stopping.h"
#include "runtime/weights.h"

#include <errno.h>
#include <math.h>
#include <new>
#include <stdio.h>
#include <unistd.h>

namespace rt {

namespace {

// A log that grows while training runs: `epoch,accuracy,loss`.
struct CsvLog {
  FILE *stream = nullptr;
  const char *path = nullptr;
  bool header = false;

  void open(const char *where) {
    if (!where) return;
    path = where;
    stream = fopen(where, "we");
    if (!stream) fail("cannot write `%s`: %s", where, strerror(errno));
  }
  void write(const char *first, int64_t count, const Array<Metric> &metrics) {
    if (!stream) return;
    if (!header) {
      fputs(first, stream);
      for (const Metric &m : metrics) fprintf(stream, ",%s", m.name);
      fputc('\n', stream);
      header = true;
    }
    fprintf(stream, "%lld", static_cast<long long>(count));
    for (const Metric &m : metrics) fprintf(stream, ",%.9g", m.value);
    fputc('\n', stream);
    if (fflush(stream) != 0) fail("cannot write `%s`: %s", path, strerror(errno));
  }
};

// Keras' CSVLogger sorts its columns.
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

// Mean over rows of what each step reported, for --log-steps, which zeroes the running metrics.
struct StepMeans {
  Array<Metric> sums;
  double rows = 0;

  void add(const Array<Metric> &metrics, int64_t n) {
    for (size_t i = 0; i < metrics.count; i++) {
      if (i == sums.count) sums.push({metrics[i].name, 0});
      sums[i].value += metrics[i].value * double(n);
    }
    rows += double(n);
  }
  Array<Metric> means() const {
    Array<Metric> result;
    for (const Metric &m : sums) result.push({m.name, m.value / rows});
    return result;
  }
};

struct Fit {
  Session &session;
  Program &program;
  Feed feed;
  Feed *validation_feed;
  int64_t rows, validation_first, validation_rows; // training rows are [0, rows)
  int64_t epochs, steps_per_epoch, steps_per_pass, step_limit;
  bool shuffles, terminal;
  Array<uint32_t> order;
  int64_t pass = -1, next_call = 0; // where the data cursor stands
  int64_t steps_run = 0;
  bool warned = false;
  Array<const NncTensor *> sums; // small float metrics, whose values tell of a loss gone wrong
  Array<EarlyStopping> stoppings;
  CsvLog epoch_log, step_log;
  StepMeans means;

  Fit(Session &s, const Dataset &data, Feed *validation)
      : session(s), program(s.program), feed(s.program, *s.program.find("train_step"), data),
        validation_feed(validation) {}

  void configure();
  void run();

 private:
  void start_pass(int64_t which);
  int64_t one_step();
  void check_finite(int64_t epoch);
  bool done() const { return steps_run == step_limit || interrupted(); }
  Array<Metric> epoch_metrics();
  bool one_epoch(int64_t epoch);
  void validate(Array<Metric> &metrics);
};

void Fit::configure() {
  Json train = session.metadata.get("train");
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
  epoch_log.open(options.log);
  step_log.open(options.log_steps);
  for (Json c : train.get("callbacks")) {
    if (!same(c.text("type", ""), "EarlyStopping"))
      fail("internal: the callback %s is not known at run time", c.text("type", "?"));
    stoppings.push(make_early_stopping(c));
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
  if (!feed.slots.count) first = 0, n = 1;
  feed.run({shuffles ? order.data : nullptr, first, n, rows});
  program.step++;
  next_call++;
  steps_run++;
  return n;
}

void Fit::check_finite(int64_t epoch) {
  if (warned) return;
  for (const NncTensor *t : sums) {
    double value = element_as_double(t->dtype, program.address(*t));
    if (isfinite(value)) continue;
    warned = true;
    // On a terminal the bar stands on this line.
    if (terminal && session.options.verbose == 1) puts("");
    warn("the loss or a metric became %s at step %llu (epoch %lld)",
         isnan(value) ? "NaN" : "infinite", static_cast<unsigned long long>(program.step),
         static_cast<long long>(epoch + 1));
  }
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
bool Fit::one_epoch(int64_t epoch) {
  Progress progress{int(session.options.verbose), terminal, epoch + 1, epochs, steps_per_epoch};
  progress.begin();
  zero_metrics(program);
  means = StepMeans();
  int64_t step = 0;
  while (step < steps_per_epoch && !done()) {
    if (step_log.stream) zero_metrics(program);
    int64_t n = one_step();
    step++;
    check_finite(epoch);
    if (step_log.stream) {
      Array<Metric> metrics = read_metrics(session, "");
      step_log.write("step", int64_t(program.step), metrics);
      means.add(metrics, n);
    }
    if (progress.due(step)) progress.redraw(step, epoch_metrics());
  }
  if (step == 0) return false;
  Array<Metric> metrics = epoch_metrics();
  if (!interrupted()) validate(metrics);
  if (interrupted()) {
    if (terminal && session.options.verbose == 1) puts("");
    return false;
  }
  progress.finish(step, metrics);
  epoch_log.write("epoch", epoch, sorted(metrics));
  bool stop = false;
  for (EarlyStopping &s : stoppings) stop |= s.epoch_end(program, epoch, metrics);
  return !stop && !done();
}

void Fit::run() {
  // Weights that come with a step count continue where they stopped.
  start_pass(int64_t(program.step) / steps_per_pass);
  bool whole_passes = steps_per_epoch == steps_per_pass;
  for (int64_t epoch = 0; epoch < epochs; epoch++) {
    if (epoch && whole_passes) start_pass(pass + 1);
    if (!one_epoch(epoch)) break;
  }
  // After an interruption the weights stay as they are: they are where training can go on.
  if (interrupted()) return;
  for (EarlyStopping &s : stoppings) s.train_end(program, session.options.verbose == 0);
  // Averages of weights take their place.
  if (const NncFunction *end = program.find("train_end")) program.run(*end, 1);
}

// Layers that adapt see the training rows once, in their order, before the first step.
void adapt(Program &program, const Dataset &data, int64_t rows) {
  const NncFunction *function = program.find("adapt_step");
  if (!function) return;
  Feed feed(program, *function, data);
  for (int64_t done = 0; done < rows; done += feed.batch) {
    int64_t n = rows - done < feed.batch ? rows - done : feed.batch;
    if (n == feed.batch || feed.partial) feed.run({nullptr, done, n, rows});
  }
}

// --- data ----------------------------------------------------------------------------------------

// As Keras: floor(rows * (1 - split)) rows train, the last ones validate.
int64_t split_rows(const Session &s, int64_t rows) {
  double split = s.metadata.get("train").real("validation_split", 0);
  if (split <= 0) return rows;
  int64_t first = int64_t(floor(double(rows) * (1.0 - split)));
  if (first <= 0 || first >= rows)
    fail("training data: %lld rows are too few for a validation split of %g",
         static_cast<long long>(rows), split);
  return first;
}

void print_result(const Array<Metric> &metrics) {
  Builder line;
  add_metrics(line, metrics);
  printf("Test:%s\n", line.length() ? line.c_str() + 2 : "");
  fflush(stdout);
}

// Evaluates a data set from row `first` on and prints "Test: loss: .. - accuracy: ..".
void report_evaluation(Session &s, const NncFunction &eval_step, const Dataset &data,
                       int64_t first = 0) {
  Feed feed(s.program, eval_step, data);
  bool terminal = isatty(STDOUT_FILENO) && s.options.verbose == 1;
  Progress progress{int(s.options.verbose), terminal, 1, 1, feed.call_count(data.rows - first)};
  progress.begin();
  bool whole = evaluate_rows(s, feed, first, data.rows - first, terminal ? &progress : nullptr);
  if (terminal) printf("\r\033[K");
  if (whole) print_result(read_metrics(s, ""));
}

int finish_training(Session &s, const char *path, const NncFunction *eval_step,
                    const Dataset &test) {
  save_weights(s.program, path, s.name);
  bool quiet = s.options.verbose == 0;
  if (int signal = interrupted()) {
    if (!quiet)
      printf("Interrupted after step %llu: weights saved to `%s`\n",
             static_cast<unsigned long long>(s.program.step), path);
    return 128 + signal;
  }
  if (!quiet) printf("Weights saved to `%s`\n", path);
  if (!quiet && test.columns.count) report_evaluation(s, *eval_step, test);
  return interrupted() ? 128 + interrupted() : 0;
}

bool is_learning_rate(const NncTensor &t) {
  return t.kind == NNC_TENSOR_HOST && dtype_info(t.dtype).floating && element_count(t, 0) == 1 &&
         ends_with(t.name, "learning_rate");
}

// Before anything is read, because it is a mistake on the command line.
void check_learning_rate(const Session &s) {
  if (!s.options.learning_rate_given) return;
  for (int64_t i = 0; i < s.model->tensor_count; i++)
    if (is_learning_rate(s.model->tensors[i])) return;
  usage_fail("--learning-rate: `%s` has no learning rate to set: its optimizer has a schedule",
             s.name);
}

// Over what the model says and what weights to start from remember.
void set_learning_rate(Session &s) {
  if (!s.options.learning_rate_given) return;
  for (int64_t i = 0; i < s.model->tensor_count; i++) {
    const NncTensor &t = s.model->tensors[i];
    if (is_learning_rate(t)) store_float(t.dtype, s.options.learning_rate, s.program.address(t));
  }
}

int64_t bytes_of(const Dataset &data) {
  int64_t bytes = 0;
  for (const Column &c : data.columns) bytes += c.rows * c.row_elements * dtype_info(c.dtype).bytes;
  return bytes;
}

// A step of fewer rows than the batch size may leave most transient memory untouched.
void check_memory(const NncModel &model, const NncFunction &step, int64_t rows, int64_t data) {
  int64_t bytes = model.persistent_bytes + model.input_bytes;
  if (rows >= step.batch) bytes += model.transient_bytes;
  int64_t usable = usable_memory();
  if (bytes <= usable - data) return;
  fail("training needs %s of memory, %s for the model and %s for the data: there are %s, swap "
       "included",
       readable_bytes(bytes + data), readable_bytes(bytes), readable_bytes(data),
       readable_bytes(usable));
}

} // namespace

int train(Session &s) {
  check_learning_rate(s);
  if (!s.metadata.get("train").present())
    fail("`%s` has no `train` block: its commands are predict and summary", s.name);
  const NncFunction &step = need_function(s, "train_step", "train");
  const char *path = s.options.save ? s.options.save : text("%s.safetensors", s.name);
  check_writable(path);

  const NncFunction *eval_step = nullptr;
  for (int64_t i = 0; i < s.model->function_count; i++)
    if (same(s.model->functions[i].name, "eval_step")) eval_step = &s.model->functions[i];
  Dataset data, validation, test;
  load_columns(data, s.training.specs, step.inputs, step.input_count, s.training.what);
  if (data.rows > int64_t{UINT32_MAX}) fail("training data: more than 2^32 rows");
  int64_t rows = split_rows(s, data.rows);
  bool splits = rows < data.rows && eval_step && !s.validation.present;
  if (s.validation.present) rows = data.rows;
  if (splits)
    load_columns(data, s.training.specs, eval_step->inputs, eval_step->input_count,
                 s.training.what);
  if (s.validation.present && eval_step)
    load_columns(validation, s.validation.specs, eval_step->inputs, eval_step->input_count,
                 s.validation.what);
  if (s.test.present && eval_step && s.options.verbose)
    load_columns(test, s.test.specs, eval_step->inputs, eval_step->input_count, s.test.what);
  check_memory(*s.model, step, rows, bytes_of(data) + bytes_of(validation) + bytes_of(test));

  const char *weights =
      s.options.weights ? s.options.weights : s.metadata.get("train").text("weights", nullptr);
  start(s, weights);
  if (!weights) adapt(s.program, data, rows);
  set_learning_rate(s);
  const Dataset &held_out = splits ? data : validation;
  bool validates = splits || validation.columns.count;
  alignas(Feed) char place[sizeof(Feed)];
  Feed *validation_feed = validates ? new (place) Feed(s.program, *eval_step, held_out) : nullptr;
  Fit fit(s, data, validation_feed);
  fit.rows = rows;
  fit.validation_first = splits ? rows : 0;
  fit.validation_rows = splits ? data.rows - rows : validation.rows;
  fit.configure();
  catch_interrupts();
  fit.run();
  if (validation_feed) validation_feed->~Feed();
  return finish_training(s, path, eval_step, test);
}

int evaluate(Session &s) {
  const NncFunction &step = need_function(s, "eval_step", "evaluate");
  const char *weights = s.options.weights ? s.options.weights : default_weights(s);
  DataGroup &group = evaluation_group(s);
  Dataset data;
  load_columns(data, group.specs, step.inputs, step.input_count, group.what);
  // Rows that were trained on say little; those cut off for validation are what comes nearest to
  // test data. Data from the command line is meant as a whole.
  bool asked_for = &group == &s.test || group.replaced;
  int64_t trained = &group == &s.training && !asked_for ? split_rows(s, data.rows) : data.rows;
  int64_t first = trained < data.rows ? trained : 0;
  if (!asked_for && s.options.verbose)
    warn("the model names no test data: evaluating on the %s",
         first ? text("last %lld rows of the training data, the validation split",
                      static_cast<long long>(data.rows - first))
               : group.what);
  start(s, weights);
  catch_interrupts();
  report_evaluation(s, step, data, first);
  return interrupted() ? 128 + interrupted() : 0;
}

} // namespace rt
