// The command line: one table of options, from which parsing, --help and suggestions follow.
#include "runtime/options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>

namespace rt {

namespace {

enum class Kind { Flag, Count, Seed, Text, Data };
enum : unsigned { T = 1, E = 2, P = 4, S = 8, All = 15 };

struct Option {
  const char *name;
  Kind kind;
  unsigned commands;
  const char *argument, *help;
};

constexpr Option table[] = {
    {"epochs", Kind::Count, T, "N", "passes over the training data"},
    {"steps", Kind::Count, T, "N", "stop after N training steps"},
    {"seed", Kind::Seed, All, "N", "seed of all random numbers"},
    {"threads", Kind::Count, All, "N", "threads (default: all cores); results do not depend on it"},
    {"data", Kind::Data, T | E | P, "NAME=PATH", "read the input or data set NAME from PATH"},
    {"weights", Kind::Text, T | E | P, "FILE", "start from, or use, these weights"},
    {"save", Kind::Text, T, "FILE", "where to write the weights"},
    {"no-shuffle", Kind::Flag, T, "", "take the rows in the order of the files"},
    {"log", Kind::Text, T, "FILE.csv", "write the metrics of every epoch"},
    {"log-steps", Kind::Text, T, "FILE.csv", "write the metrics of every step (slower)"},
    {"limit", Kind::Count, P, "N", "only the first N rows"},
    {"output", Kind::Text, P, "FILE", "write predictions to FILE.npy or FILE.csv"},
    {"show", Kind::Flag, P, "", "draw input images with the predicted class"},
    {"verbose", Kind::Count, All, "0|1|2", "silent, progress, one line per epoch"},
    {"shuffle-items", Kind::Seed, T | E | P, "N",
     "run kernels in random order, to check the compiler"},
    {"reverse-items", Kind::Flag, T | E | P, "",
     "run kernels back to front, to check the compiler"},
    {"about", Kind::Flag, All, "", "how this binary was made"},
    {"help", Kind::Flag, All, "", "this text"},
};

struct Name {
  const char *name;
  Command command;
  unsigned bit;
  const char *help;
};
constexpr Name commands[] = {
    {"train", Command::Train, T, "train and save the weights (the default)"},
    {"evaluate", Command::Evaluate, E, "loss and metrics on the test data"},
    {"predict", Command::Predict, P, "outputs for rows of data"},
    {"summary", Command::Summary, S, "layers, parameters, FLOPs and memory"},
};

const char *closest_option(const char *wanted) {
  const char *best = nullptr;
  int least = 3;
  for (const Option &option : table) {
    int distance = edit_distance(wanted, option.name);
    if (distance < least) least = distance, best = option.name;
  }
  return best;
}

const Option *find_option(const char *name) {
  for (const Option &option : table)
    if (same(option.name, name)) return &option;
  const char *guess = closest_option(name);
  if (guess) usage_fail("unknown option `--%s`: did you mean `--%s`?", name, guess);
  usage_fail("unknown option `--%s`: --help lists the options", name);
}

Command find_command(const char *name) {
  const char *guess = nullptr;
  int least = 3;
  for (const Name &command : commands) {
    if (same(command.name, name)) return command.command;
    int distance = edit_distance(name, command.name);
    if (distance < least) least = distance, guess = command.name;
  }
  if (guess) usage_fail("unknown command `%s`: did you mean `%s`?", name, guess);
  usage_fail("unknown command `%s`: expected train, evaluate, predict or summary", name);
}

uint64_t parse_number(const char *option, const char *value, uint64_t least, uint64_t most) {
  char *stop;
  errno = 0;
  bool digits = isdigit(static_cast<unsigned char>(*value));
  unsigned long long number = digits ? strtoull(value, &stop, 10) : 0;
  if (!digits || *stop || errno)
    usage_fail("--%s: expected a whole number, found `%s`", option, value);
  if (number < least || number > most) {
    if (most < 100 || most == 1024)
      usage_fail("--%s: expected a number from %llu to %llu, found %s", option,
                 static_cast<unsigned long long>(least), static_cast<unsigned long long>(most),
                 value);
    usage_fail("--%s: expected a number from %llu, found %s", option,
               static_cast<unsigned long long>(least), value);
  }
  return number;
}

DataOption parse_data(const char *value) {
  const char *equals = strchr(value, '=');
  if (!equals || equals == value || !equals[1])
    usage_fail("--data: expected NAME=PATH, found `%s`", value);
  return {text_copy(value, size_t(equals - value)), equals + 1, false};
}

void set_number(Options &o, const char *name, const char *value) {
  if (same(name, "epochs"))
    o.epochs = int64_t(parse_number(name, value, 1, INT_MAX));
  else if (same(name, "steps"))
    o.steps = int64_t(parse_number(name, value, 1, INT64_MAX));
  else if (same(name, "limit"))
    o.limit = int64_t(parse_number(name, value, 1, INT64_MAX));
  else if (same(name, "threads"))
    o.threads = int64_t(parse_number(name, value, 1, 1024));
  else if (same(name, "verbose"))
    o.verbose = int64_t(parse_number(name, value, 0, 2));
}

void set_seed(Options &o, const char *name, const char *value) {
  uint64_t seed = parse_number(name, value, 0, UINT64_MAX);
  if (same(name, "seed"))
    o.seed = seed, o.seed_given = true;
  else
    o.shuffle_items_seed = seed, o.shuffle_items = true;
}

void set_text(Options &o, const char *name, const char *value) {
  if (!*value) usage_fail("--%s: expected a file name", name);
  if (same(name, "weights"))
    o.weights = value;
  else if (same(name, "save"))
    o.save = value;
  else if (same(name, "log"))
    o.log = value;
  else if (same(name, "log-steps"))
    o.log_steps = value;
  else if (same(name, "output"))
    o.output = value;
}

void set_flag(Options &o, const char *name) {
  if (same(name, "no-shuffle"))
    o.no_shuffle = true;
  else if (same(name, "show"))
    o.show = true;
  else if (same(name, "about"))
    o.about = true;
  else if (same(name, "help"))
    o.help = true;
  else if (same(name, "reverse-items"))
    o.reverse_items = true;
}

void set_option(Options &o, const Option &option, const char *value) {
  switch (option.kind) {
  case Kind::Flag: return set_flag(o, option.name);
  case Kind::Count: return set_number(o, option.name, value);
  case Kind::Seed: return set_seed(o, option.name, value);
  case Kind::Text: return set_text(o, option.name, value);
  case Kind::Data: o.data.push(parse_data(value)); return;
  }
}

// Options that mean nothing to the command are a mistake, not a wish to be ignored.
void check_command(const Array<const Option *> &given, Command command) {
  const Name &name = commands[int(command)];
  for (const Option *option : given) {
    if (option->commands & name.bit) continue;
    Builder owners;
    for (const Name &c : commands)
      if (option->commands & c.bit) owners.add("%s`%s`", owners.length() ? ", " : "", c.name);
    usage_fail("--%s does not apply to `%s`: it belongs to %s", option->name, name.name,
               owners.c_str());
  }
}

} // namespace

Options parse_options(int argc, char **argv) {
  Options options;
  Array<const Option *> given;
  bool command_given = false;
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i];
    if (same(word, "-h")) word = "--help";
    if (word[0] != '-' || !word[1]) {
      if (command_given) usage_fail("unexpected argument `%s`", word);
      options.command = find_command(word);
      command_given = true;
      continue;
    }
    if (word[1] != '-') usage_fail("unknown option `%s`: options begin with `--`", word);
    const char *equals = strchr(word, '=');
    const char *name = text_copy(word + 2, equals ? size_t(equals - word) - 2 : strlen(word) - 2);
    const Option *option = find_option(name);
    const char *value = equals ? equals + 1 : nullptr;
    if (option->kind == Kind::Flag && value) usage_fail("--%s takes no value", name);
    if (option->kind != Kind::Flag && !value) {
      if (++i == argc) usage_fail("--%s needs a value: %s", name, option->argument);
      value = argv[i];
    }
    set_option(options, *option, value);
    given.push(option);
  }
  check_command(given, options.command);
  return options;
}

void print_help(const char *program, const char *model_name) {
  printf("%s: a neural network and its training\n\nusage: %s [COMMAND] [OPTIONS]\n\ncommands:\n",
         model_name, program);
  for (const Name &command : commands) printf("  %-24s%s\n", command.name, command.help);
  printf("\noptions:\n");
  for (const Option &option : table) {
    const char *left = text("--%s%s%s", option.name, *option.argument ? " " : "", option.argument);
    printf("  %-24s%s\n", left, option.help);
  }
  printf("\nThe weights are in `%s.safetensors` unless --save or --weights says otherwise.\n"
         "Exit codes: 0 done, 1 bad data or files, 2 bad command line, 130 interrupted.\n",
         model_name);
}

} // namespace rt
