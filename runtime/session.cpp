// What all commands share: see session.h.
#include "runtime/session.h"

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

DataGroup read_group(Json metadata, const char *name, const char *what) {
  DataGroup group{name, what, {}, false, false};
  Json list = metadata.get(name);
  group.present = list.count() > 0;
  for (Json c : list) {
    ColumnSpec spec;
    spec.name = c.text("name", "");
    spec.reader = c.text("reader", "");
    spec.file = c.text("file", "");
    spec.columns = c.get("columns");
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

bool bind_group(DataGroup &group, const DataOption &option) {
  if (!group.present) return false;
  size_t length = strlen(group.name);
  if (same(option.name, group.name)) {
    if (!one_file(group))
      usage_fail("--data %s=..: `%s` is read from several files: name a column, as in %s.%s=PATH",
                 option.name, option.name, group.name, group.specs[0].name);
    return replace(group, nullptr, option.path);
  }
  bool qualified = strncmp(option.name, group.name, length) == 0 && option.name[length] == '.';
  return qualified && replace(group, option.name + length + 1, option.path);
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

Session make_session(const NncModel &model, Options &&options) {
  const char *error = nullptr;
  Json metadata = parse_json(model.metadata, size_t(model.metadata_bytes), &error);
  if (!metadata.present()) fail("internal: malformed metadata: %s", error);
  Session session{&model,
                  metadata,
                  metadata.text("name", "model"),
                  static_cast<Options &&>(options),
                  {},
                  read_group(metadata, "data", "training data"),
                  read_group(metadata, "validation", "validation data"),
                  read_group(metadata, "test", "test data")};
  return session;
}

DataGroup &evaluation_group(Session &s) {
  return s.test.present ? s.test : s.validation.present ? s.validation : s.training;
}

void bind_data(Session &s) {
  bool trains = s.options.command == Command::Train;
  DataGroup &primary = trains ? s.training : evaluation_group(s);
  for (DataOption &option : s.options.data) {
    bool bound = replace(primary, option.name, option.path);
    for (DataGroup *group : {&s.training, &s.validation, &s.test})
      bound = bound || bind_group(*group, option) || replace(*group, option.name, option.path);
    if (!bound) unknown_data(s, option);
  }
}

const char *default_weights(const Session &s) {
  const char *path = text("%s.safetensors", s.name);
  struct stat info;
  if (stat(path, &info) != 0)
    fail("there are no weights `%s`: run `train` first, or name a file with --weights", path);
  return path;
}

const NncFunction &need_function(const Session &s, const char *name, const char *command) {
  for (int64_t i = 0; i < s.model->function_count; i++)
    if (same(s.model->functions[i].name, name)) return s.model->functions[i];
  fail("`%s` cannot %s: it was compiled without a function `%s`", s.name, command, name);
}

void start(Session &s, const char *weights) {
  const Options &o = s.options;
  ProgramOptions options;
  options.threads = o.threads ? int(o.threads) : usable_cores();
  options.adaptive = !o.threads && options.threads > 1;
  options.seed = o.seed_given ? o.seed : uint64_t(s.metadata.get("train").integer("seed", 0));
  options.order = o.shuffle_items   ? Order::Shuffled
                  : o.reverse_items ? Order::Reversed
                                    : Order::Forward;
  options.order_seed = o.shuffle_items_seed;
  s.program = start_program(*s.model, options);
  if (const NncFunction *init = s.program.find("init")) s.program.run(*init, 1);
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
  const NncFunction *function = s.program.find("metrics_result");
  if (!function) return metrics;
  s.program.run(*function, 1);
  Json order = s.metadata.get("metrics");
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
  int64_t calls = feed.call_count(count);
  for (int64_t call = 0; call < calls; call++) {
    int64_t done = call * feed.batch;
    int64_t n = count - done < feed.batch ? count - done : feed.batch;
    feed.run({nullptr, first + done, n, first + count});
    if (interrupted()) return false;
    if (progress && progress->due(call + 1)) progress->redraw(call + 1, read_metrics(s, ""));
  }
  return true;
}

} // namespace rt
