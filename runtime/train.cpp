// The `train` and `evaluate` commands.
//
// A train block is data, a fit over it (fit.h) and weights at the end. With `validation_split` the
// last rows, before shuffling, are held out. A model with several blocks trains them one after the
// other on one set of weights, which is saved after each.
//
// A block with a function `adapt_step` begins by running it once over its training rows, in order:
// what learns statistics of the data without gradients (a normalization's mean) learns them there.
// Weights that hold them already are not adapted again.
#include "runtime/files.h"
#include "runtime/fit.h"
#include "runtime/memory.h"
#include "runtime/weights.h"

#include <math.h>
#include <new>
#include <stdio.h>
#include <unistd.h>

namespace rt {

namespace {

// --- data ----------------------------------------------------------------------------------------

// As Keras: floor(rows * (1 - split)) rows train, the last ones validate.
int64_t split_rows(const Session &s, int64_t rows) {
  double split = s.block.get("train").real("validation_split", 0);
  if (split <= 0) return rows;
  int64_t first = int64_t(floor(double(rows) * (1.0 - split)));
  if (first <= 0 || first >= rows)
    fail("training data: %lld rows are too few for a validation split of %g",
         static_cast<long long>(rows), split);
  return first;
}

void print_result(const char *which, const Array<Metric> &metrics) {
  Builder line;
  add_metrics(line, metrics);
  printf("%s:%s\n", which, line.length() ? line.c_str() + 2 : "");
  fflush(stdout);
}

// Evaluates a data set from row `first` on and prints "Test: loss: .. - accuracy: ..". `which` says
// what the rows are: those of training or validation are no test.
void report_evaluation(Session &s, const NncFunction &eval_step, const Dataset &data,
                       const char *which = "Test", int64_t first = 0) {
  Feed feed(s.program, eval_step, data);
  bool terminal = isatty(STDOUT_FILENO) && s.options.verbose == 1;
  Progress progress{int(s.options.verbose), terminal, 1, 1, feed.call_count(data.rows - first)};
  progress.begin();
  bool whole = evaluate_rows(s, feed, first, data.rows - first, terminal ? &progress : nullptr);
  if (terminal) printf("\r\033[K");
  if (whole) print_result(which, read_metrics(s, ""));
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

// Before anything is read, because it is a mistake on the command line.
void check_learning_rate(const Session &s) {
  if (!s.options.learning_rate_given) return;
  for (int64_t i = 0; i < s.model->tensor_count; i++)
    if (is_learning_rate(s.model->tensors[i])) return;
  usage_fail("--learning-rate: `%s` has no learning rate to set: its optimizer has a schedule",
             s.name);
}

// Over what the model says and what weights to start from remember.
void set_given_rate(Session &s) {
  if (!s.options.learning_rate_given) return;
  for (int64_t i = 0; i < s.model->tensor_count; i++) {
    const NncTensor &t = s.model->tensors[i];
    if (is_learning_rate(t)) store_float(t.dtype, s.options.learning_rate, s.program.address(t));
  }
}

int64_t bytes_of(const Dataset &data) {
  int64_t bytes = 0;
  for (const Column &c : data.columns) bytes += c.rows * c.row_step * dtype_info(c.dtype).bytes;
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

void adapt(Session &s, const Dataset &data, int64_t rows) {
  const NncFunction *function = find_function(s, "adapt_step");
  const char *block = *s.block_name ? s.block_name : s.name;
  bool known = s.program.all_adapted;
  for (const char *name : s.program.adapted) known = known || same(name, block);
  if (!function || known) return;
  Feed feed(s.program, *function, data);
  if (!feed.slots.count) fail("internal: `%s` takes no data", function->name);
  for (int64_t call = 0; call < feed.call_count(rows) && !interrupted(); call++) {
    int64_t first = call * feed.batch, n = rows - first < feed.batch ? rows - first : feed.batch;
    feed.run({nullptr, first, n, rows});
  }
  s.program.adapted.push(block);
}

int64_t load_training(Session &s, const NncFunction &step, Dataset &data) {
  load_columns(data, s.training.specs, step.inputs, step.input_count, s.training.what);
  if (const NncFunction *adapt_step = find_function(s, "adapt_step"))
    load_columns(data, s.training.specs, adapt_step->inputs, adapt_step->input_count,
                 s.training.what);
  if (data.rows > int64_t{UINT32_MAX}) fail("training data: more than 2^32 rows");
  int64_t rows = data.columns.count ? split_rows(s, data.rows) : 0;
  return s.validation.present ? data.rows : rows;
}

void start_training(Session &s, bool starts) {
  const char *given = s.options.weights;
  const char *own = s.block.get("train").text("weights", nullptr);
  if (starts)
    start(s, given ? given : own);
  else if (own && !given)
    load_weights(s.program, own);
  set_given_rate(s);
}

namespace {

int train_block(Session &s, const char *path, bool starts) {
  const NncFunction &step = need_function(s, "train_step", "train");
  const NncFunction *eval_step = find_function(s, "eval_step");
  Dataset data, validation, test;
  int64_t rows = load_training(s, step, data);
  bool splits = rows < data.rows && eval_step;
  if (splits)
    load_columns(data, s.training.specs, eval_step->inputs, eval_step->input_count,
                 s.training.what);
  if (s.validation.present && eval_step)
    load_columns(validation, s.validation.specs, eval_step->inputs, eval_step->input_count,
                 s.validation.what);
  if (s.test.present && eval_step && s.options.verbose)
    load_columns(test, s.test.specs, eval_step->inputs, eval_step->input_count, s.test.what);
  check_memory(*s.model, step, rows, bytes_of(data) + bytes_of(validation) + bytes_of(test));

  start_training(s, starts);
  const Dataset &held_out = splits ? data : validation;
  bool validates = splits || validation.columns.count;
  alignas(Feed) char place[sizeof(Feed)];
  Feed *validation_feed = validates ? new (place) Feed(s.program, *eval_step, held_out) : nullptr;
  catch_interrupts();
  adapt(s, data, rows);
  Fit fit(s, step, data, validation_feed);
  fit.rows = rows;
  fit.validation_first = splits ? rows : 0;
  fit.validation_rows = splits ? data.rows - rows : validation.rows;
  fit.configure();
  if (!interrupted()) fit.run();
  if (validation_feed) validation_feed->~Feed();
  return finish_training(s, path, eval_step, test);
}

} // namespace

int train(Session &s) {
  Array<Json> blocks = chosen_blocks(s);
  for (Json block : blocks) select_block(s, block);
  check_data_options(s);
  check_learning_rate(s);
  const char *path = s.options.save ? s.options.save : text("%s.safetensors", s.name);
  for (Json block : blocks)
    if (!block.get("train").present())
      fail("`%s` has no `train` block: its commands are predict and summary", s.name);
  check_writable(path);
  int code = 0;
  for (size_t i = 0; i < blocks.count && code == 0; i++) {
    select_block(s, blocks[i]);
    if (blocks.count > 1 && s.options.verbose) printf("Training `%s`\n", s.block_name);
    code = train_block(s, path, i == 0);
    s.blocks_before++;
  }
  return code;
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
  bool splits = &group == &s.training && !asked_for && data.columns.count;
  int64_t trained = splits ? split_rows(s, data.rows) : data.rows;
  int64_t first = trained < data.rows ? trained : 0;
  if (!asked_for && s.options.verbose && data.columns.count)
    warn("the model names no test data: evaluating on the %s",
         first ? text("last %lld rows of the training data, the validation split",
                      static_cast<long long>(data.rows - first))
               : group.what);
  start(s, weights);
  catch_interrupts();
  // Data from the command line in place of the training data is a test of it.
  const char *which = &group == &s.validation || first                             ? "Validation"
                      : &group == &s.test || group.replaced || !data.columns.count ? "Test"
                                                                                   : "Training";
  report_evaluation(s, step, data, which, first);
  return interrupted() ? 128 + interrupted() : 0;
}

} // namespace rt
