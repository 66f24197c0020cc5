// What all commands share: see session.h.
#include "runtime/session.h"

#include "runtime/cpu.h"
#include "runtime/files.h"
#include "runtime/profile.h"
#include "runtime/threads.h"
#include "runtime/weights.h"

#include <initializer_list>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

namespace rt {

namespace {

volatile sig_atomic_t signal_seen;
double signal_time;

// Tools such as timeout(1) send one interrupt twice, so a second one kills only after a moment.
void on_signal(int number) {
  double now = now_seconds();
  if (!signal_seen) {
    signal_time = now;
    signal_seen = number;
  } else if (now - signal_time > 0.5) {
    signal(number, SIG_DFL);
    raise(number);
  }
}

DataGroup read_group(Json metadata, const char *name, const char *what, bool holds_out) {
  DataGroup group{name, what, {}, false, false};
  Json list = metadata.get(name);
  group.present = list.count() > 0;
  for (Json c : list) {
    ColumnSpec spec;
    spec.name = c.text("name", "");
    spec.reader = c.text("reader", "");
    spec.file = c.text("file", "");
    spec.columns = c.get("columns");
    spec.codes = c.get("codes");
    spec.entry = c.text("entry", nullptr);
    spec.size = c.get("size");
    spec.classes = c.get("classes");
    spec.window = c.get("window").integer("size", 0);
    spec.stride = c.get("window").integer("stride", 1);
    // Of a folder the last class would be held out, were the rows in order. Predictions hold out
    // nothing: theirs follow the names.
    spec.mixed =
        holds_out && same(name, "data") && metadata.get("train").real("validation_split", 0) > 0;
    Json range = c.get("range");
    spec.has_range = range.count() == 2;
    if (spec.has_range) spec.low = range[0].as_integer(0), spec.high = range[1].as_integer(0);
    group.specs.push(spec);
  }
  return group;
}

// Replaces the file of the column `name`, or of every column if `name` is null.
bool replace(DataGroup &group, const char *name, const char *path) {
  bool found = false;
  for (ColumnSpec &spec : group.specs) {
    if (name && !same(spec.name, name)) continue;
    spec.file = path;
    spec.replaced = found = group.replaced = true;
  }
  return found;
}

bool one_file(const DataGroup &group) {
  for (const ColumnSpec &spec : group.specs)
    if (!same(spec.file, group.specs[0].file) && !spec.replaced) return false;
  return true;
}

[[noreturn]] void unknown_data(const Session &s, const DataOption &option) {
  Builder names;
  for (const DataGroup *group : {&s.training, &s.validation, &s.test}) {
    if (group->present) names.add("%s`%s`", names.length() ? ", " : "", group->name);
    for (const ColumnSpec &spec : group->specs) names.add(", `%s.%s`", group->name, spec.name);
  }
  usage_fail("--data: the model has no data `%s`: it has %s", option.name,
             names.length() ? names.c_str() : "none");
}

// `name` is what the command line may call the group.
bool bind_group(DataGroup &group, const DataOption &option, const char *name) {
  if (!group.present) return false;
  size_t length = strlen(name);
  if (same(option.name, name)) {
    if (!one_file(group))
      usage_fail("--data %s=..: `%s` is read from several files: name a column, as in %s.%s=PATH",
                 option.name, group.name, group.name, group.specs[0].name);
    return replace(group, nullptr, option.path);
  }
  bool qualified = strncmp(option.name, name, length) == 0 && option.name[length] == '.';
  return qualified && replace(group, option.name + length + 1, option.path);
}

// A file for data that the command would not open, such as --data validation=.. where there is test
// data: to go on without it would look as if it had been read.
void check_read(const DataOption &option, const DataGroup &read, const DataGroup &group) {
  if (&group == &read || !group.present) return;
  size_t length = strlen(group.name);
  bool meant = strncmp(option.name, group.name, length) == 0;
  if (meant && option.name[length] == '.')
    usage_fail("--data %s: this command reads `%s`, not `%s`: write --data %s%s=%s", option.name,
               read.name, group.name, read.name, option.name + length, option.path);
  if (meant && !option.name[length])
    usage_fail("--data %s: this command reads `%s`, not `%s`: write --data %s=%s", option.name,
               read.name, group.name, read.name, option.path);
  for (const ColumnSpec &spec : group.specs)
    if (same(spec.name, option.name))
      usage_fail("--data %s: this command reads `%s`, which has no column `%s`: `%s` has it",
                 option.name, read.name, option.name, group.name);
}

} // namespace

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}
int interrupted() { return signal_seen; }

Session make_session(const NncModel &program, Options &&options) {
  const NncModel &model = choose_version(program, options.mcpu, cpu_features());
  const char *error = nullptr;
  use_parts(model);
  Json metadata = parse_json(model.metadata, size_t(model.metadata_bytes), &error);
  if (!metadata.present()) fail("internal: malformed metadata: %s", error);
  Session session{&model,
                  metadata,
                  metadata.text("name", "model"),
                  static_cast<Options &&>(options),
                  {},
                  {},
                  "",
                  0,
                  {},
                  {},
                  {}};
  return session;
}

Array<Json> chosen_blocks(const Session &s) {
  Array<Json> chosen;
  Json blocks = s.metadata.get("blocks");
  const char *wanted = s.options.block;
  if (wanted && !blocks.count())
    usage_fail("unexpected argument `%s`: there is one train block, without a name", wanted);
  if (!blocks.count()) {
    chosen.push(s.metadata);
    return chosen;
  }
  Builder names;
  const char *guess = nullptr;
  int least = 3;
  for (Json block : blocks) {
    const char *name = block.text("name", "");
    bool all = !wanted && s.options.command == Command::Train;
    if (all || (wanted && same(wanted, name))) chosen.push(block);
    names.add("%s`%s`", names.length() ? ", " : "", name);
    int distance = wanted ? edit_distance(wanted, name) : 3;
    if (distance < least) least = distance, guess = name;
  }
  if (!wanted && !chosen.count) chosen.push(blocks[blocks.count() - 1]);
  if (chosen.count) return chosen;
  if (guess) usage_fail("there is no train block `%s`: did you mean `%s`?", wanted, guess);
  usage_fail("there is no train block `%s`: there are %s", wanted, names.c_str());
}

static void bind_data(Session &s);

void select_block(Session &s, Json block) {
  s.block = block;
  s.block_name = s.metadata.get("blocks").count() ? block.text("name", "") : "";
  bool holds_out = s.options.command != Command::Predict;
  s.training = read_group(block, "data", "training data", holds_out);
  s.validation = read_group(block, "validation", "validation data", holds_out);
  s.test = read_group(block, "test", "test data", holds_out);
  bind_data(s);
}

DataGroup &evaluation_group(Session &s) {
  return s.test.present ? s.test : s.validation.present ? s.validation : s.training;
}

// The size that a folder's images get for an input of images: [height, width, channels]. Absent if
// the input is none, or the path no folder.
static Json folder_size(const NncTensor &input, const char *path) {
  struct stat info;
  if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) return {};
  int64_t channels = input.rank == 4 ? input.dims[3].b : 1;
  if (input.rank < 3 || input.rank > 4 || (channels != 1 && channels != 3 && channels != 4))
    return {};
  Builder text;
  text.add("[%lld, %lld, %lld]", static_cast<long long>(input.dims[1].b),
           static_cast<long long>(input.dims[2].b), static_cast<long long>(channels));
  const char *error;
  return parse_json(text.c_str(), text.length(), &error);
}

// An input of `predict` that the model's data does not give is read from what --data names for it:
// integers are rows of a text, images may be those of a folder, else the name of the file tells.
static bool bind_input(Session &s, DataGroup &group, const DataOption &option) {
  const NncFunction *predict =
      s.options.command == Command::Predict ? find_function(s, "predict") : nullptr;
  for (int64_t i = 0; predict && i < predict->input_count; i++) {
    const NncTensor &input = predict->inputs[i];
    if (!same(input.name, option.name)) continue;
    ColumnSpec spec;
    spec.name = input.name;
    spec.reader = "csv";
    spec.file = option.path;
    spec.replaced = group.replaced = group.present = true;
    Json range = s.block.get("predict").get("ranges").get(input.name);
    spec.has_range = range.count() == 2;
    if (spec.has_range) spec.low = range[0].as_integer(0), spec.high = range[1].as_integer(0);
    if (!dtype_info(input.dtype).floating && input.rank == 2 && !names_reader(option.path)) {
      spec.reader = "text";
      spec.window = spec.stride = input.dims[1].b;
    }
    spec.size = folder_size(input, option.path);
    if (spec.size.present()) spec.reader = "folder";
    group.specs.push(spec);
    return true;
  }
  return false;
}

// The column of a group that an option is about alone, by `column` or `group.column`.
static const char *column_of(const DataGroup &group, const char *name) {
  const char *dot = strchr(name, '.');
  for (const ColumnSpec &spec : group.specs)
    if (same(spec.name, name) || (dot && same(spec.name, dot + 1))) return spec.name;
  return nullptr;
}

// Targets are no input of `predict`, only --show reads them.
static void check_predicted(const Session &s, const DataGroup &group, const DataOption &option) {
  const char *column = column_of(group, option.name);
  const NncFunction *predict = find_function(s, "predict");
  if (s.options.show || !column || !predict) return;
  Builder names;
  for (int64_t i = 0; i < predict->input_count; i++) {
    const char *input = predict->inputs[i].name;
    if (same(input, column)) return;
    names.add("%s`%s`", names.length() ? ", " : "", input);
  }
  usage_fail("--data %s: `predict` does not read `%s`: it reads %s", option.name, column,
             names.length() ? names.c_str() : "no data");
}

// Training reads every group: the test data at its end. Other commands read one, which may also be
// called `data`.
static void bind_data(Session &s) {
  bool trains = s.options.trains();
  DataGroup &primary = trains ? s.training : evaluation_group(s);
  for (DataOption &option : s.options.data) {
    bool bound =
        replace(primary, option.name, option.path) || bind_group(primary, option, primary.name);
    if (trains)
      for (DataGroup *group : {&s.validation, &s.test})
        bound = bound || bind_group(*group, option, group->name) ||
                replace(*group, option.name, option.path);
    else
      bound = bound || bind_group(primary, option, "data");
    bound = bound || bind_input(s, primary, option);
    option.used |= bound;
    if (trains) continue; // of several blocks each binds its own: app.cpp checks what is left
    if (!bound)
      for (const DataGroup *group : {&s.training, &s.validation, &s.test})
        check_read(option, primary, *group);
    if (!bound) unknown_data(s, option);
    if (s.options.command == Command::Predict) check_predicted(s, primary, option);
  }
  if (s.options.command != Command::Predict) return;
  for (ColumnSpec &spec : primary.specs)
    spec.flat = same(spec.reader, "folder") && is_flat_folder(spec.file);
}

void check_data_options(const Session &s) {
  for (const DataOption &option : s.options.data)
    if (!option.used) unknown_data(s, option);
}

const char *default_weights(const Session &s) {
  const char *path = text("%s.safetensors", s.name);
  struct stat info;
  if (stat(path, &info) != 0)
    fail("there are no weights `%s`: run `train` first, or name a file with --weights", path);
  return path;
}

const NncFunction *find_function(const Session &s, const char *name) {
  const char *full = *s.block_name ? text("%s.%s", s.block_name, name) : name;
  for (int64_t i = 0; i < s.model->function_count; i++)
    if (same(s.model->functions[i].name, full)) return &s.model->functions[i];
  return nullptr;
}

const NncFunction &need_function(const Session &s, const char *name, const char *command) {
  if (const NncFunction *f = find_function(s, name)) return *f;
  fail("`%s` cannot %s: it was compiled without a function `%s`",
       *s.block_name ? s.block_name : s.name, command, name);
}

static void keep_row_states(Session &s) {
  for (int64_t i = 0; i < s.model->tensor_count; i++) {
    const NncTensor &t = s.model->tensors[i];
    if (t.kind != NNC_TENSOR_ROWS) continue;
    char *first = static_cast<char *>(allocate(size_t(t.bytes)));
    memcpy(first, s.program.address(t), size_t(t.bytes));
    s.row_states.push(first);
  }
}

void reset_rows(Session &s) {
  size_t next = 0;
  for (int64_t i = 0; i < s.model->tensor_count; i++) {
    const NncTensor &t = s.model->tensors[i];
    if (t.kind != NNC_TENSOR_ROWS) continue;
    memcpy(s.program.address(t), s.row_states[next++], size_t(t.bytes));
  }
}

void start(Session &s, const char *weights) {
  const Options &o = s.options;
  ProgramOptions options;
  options.threads = o.threads ? int(o.threads) : usable_cores();
  options.adaptive = !o.threads && options.threads > 1;
  options.seed = o.seed_given ? o.seed : uint64_t(s.block.get("train").integer("seed", 0));
  options.order = o.shuffle_items   ? Order::Shuffled
                  : o.reverse_items ? Order::Reversed
                                    : Order::Forward;
  options.order_seed = o.shuffle_items_seed;
  if (o.profile_file) check_writable(o.profile_file);
  s.program = start_program(*s.model, options);
  s.program.tuning = s.metadata.text("tuning", "none");
  if (o.profile)
    s.program.profile =
        make_profile(*s.model, options.threads, measure_peaks(), o.profile_file != nullptr);
  if (const NncFunction *init = s.program.find("init")) s.program.run(*init, 1);
  keep_row_states(s);
  if (weights)
    load_weights(s.program, weights);
  else
    load_initial(s.program, s.metadata.get("initial"));
}

void zero_metrics(Program &program) {
  for (int64_t i = 0; i < program.model->tensor_count; i++) {
    const NncTensor &t = program.model->tensors[i];
    if (t.kind == NNC_TENSOR_METRIC) memset(program.address(t), 0, size_t(t.bytes));
  }
}

Array<Metric> read_metrics(Session &s, const char *prefix) {
  Array<Metric> metrics;
  const NncFunction *function = find_function(s, "metrics_result");
  if (!function) return metrics;
  s.program.run(*function, 1);
  Json order = s.block.get("metrics");
  auto add = [&](const NncTensor &t) {
    double value = element_as_double(t.dtype, s.program.address(t));
    if (value != value) value = __builtin_nan(""); // prints without a sign
    metrics.push({*prefix ? text("%s%s", prefix, t.name) : t.name, value});
  };
  for (Json name : order)
    for (int64_t i = 0; i < function->result_count; i++)
      if (same(function->results[i].name, name.as_text(""))) add(function->results[i]);
  if (order.count() == 0)
    for (int64_t i = 0; i < function->result_count; i++) add(function->results[i]);
  return metrics;
}

bool evaluate_rows(Session &s, Feed &feed, int64_t first, int64_t count, Progress *progress) {
  zero_metrics(s.program);
  reset_rows(s);
  int64_t calls = feed.call_count(count);
  if (!feed.slots.count) count = feed.batch;
  const uint64_t step = s.program.step;
  for (int64_t call = 0; call < calls; call++) {
    s.program.step = step + uint64_t(call); // other random numbers in each batch
    int64_t done = call * feed.batch;
    int64_t n = count - done < feed.batch ? count - done : feed.batch;
    feed.run({nullptr, first + done, n, first + count});
    s.program.step = step;
    if (interrupted()) return false;
    if (progress && progress->due(call + 1)) progress->redraw(call + 1, read_metrics(s, ""));
  }
  return true;
}

} // namespace rt
