// The command line: one table of options, from which getopt_long's array, --help and suggestions
// follow. getopt_long reports nothing itself: its texts know no suggestions.
#include "runtime/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>

namespace rt {

namespace {

// --- values --------------------------------------------------------------------------------------

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

// How an option's value is stored. Flags get null.
using Store = void (*)(Options &, const char *option, const char *value);

template <int64_t Options::*member, uint64_t least = 1, uint64_t most = INT64_MAX>
void count(Options &o, const char *option, const char *value) {
  o.*member = int64_t(parse_number(option, value, least, most));
}

template <uint64_t Options::*member, bool Options::*given>
void seed(Options &o, const char *option, const char *value) {
  o.*member = parse_number(option, value, 0, UINT64_MAX);
  o.*given = true;
}

template <double Options::*member, bool Options::*given>
void real(Options &o, const char *option, const char *value) {
  char *stop;
  o.*member = strtod(value, &stop);
  if (stop == value || *stop || !isfinite(o.*member) || o.*member < 0)
    usage_fail("--%s: expected a number from 0, found `%s`", option, value);
  o.*given = true;
}

template <const char *Options::*member>
void file(Options &o, const char *option, const char *value) {
  if (!*value) usage_fail("--%s: expected a file name", option);
  o.*member = value;
}

template <bool Options::*member> void flag(Options &o, const char *, const char *) {
  o.*member = true;
}

void format(Options &o, const char *option, const char *value) {
  if (!same(value, "csv") && !same(value, "npy") && !same(value, "text"))
    usage_fail("--%s: expected csv, npy or text, found `%s`", option, value);
  o.format = value;
}

void profile_file(Options &o, const char *option, const char *value) {
  if (!ends_with(value, ".csv") && !ends_with(value, ".json"))
    usage_fail("--%s: expected a name ending in .csv or .json, found `%s`", option, value);
  o.profile = true;
  o.profile_file = value;
}

void level(Options &o, const char *, const char *value) { o.mcpu = value; }

void data(Options &o, const char *option, const char *value) {
  const char *equals = strchr(value, '=');
  if (!equals || equals == value || !equals[1])
    usage_fail("--%s: expected NAME=PATH, found `%s`", option, value);
  o.data.push({text_copy(value, size_t(equals - value)), equals + 1, false});
}

// --- tables --------------------------------------------------------------------------------------

enum : unsigned { T = 1, E = 2, P = 4, S = 8, B = 16, All = 31 };

struct Option {
  const char *name;
  unsigned commands;
  const char *argument; // empty: a flag
  const char *help;
  Store store;
};

constexpr Option table[] = {
    {"epochs", T, "N", "passes over the training data", count<&Options::epochs, 1, INT_MAX>},
    {"steps", T | B, "N", "stop after N training steps", count<&Options::steps>},
    {"learning-rate", T, "VALUE", "instead of the model's own",
     real<&Options::learning_rate, &Options::learning_rate_given>},
    {"seed", All, "N", "seed of all random numbers", seed<&Options::seed, &Options::seed_given>},
    {"threads", All, "N", "threads (default: all cores); results do not depend on it",
     count<&Options::threads, 1, 1024>},
    {"data", T | E | P | B, "NAME=PATH", "read the input or data set NAME from PATH", data},
    {"weights", T | E | P | B, "FILE", "start from, or use, these weights",
     file<&Options::weights>},
    {"save", T, "FILE", "where to write the weights", file<&Options::save>},
    {"no-shuffle", T, "", "take the rows in the order of the files", flag<&Options::no_shuffle>},
    {"log", T, "FILE.csv", "write the metrics of every epoch", file<&Options::log>},
    {"log-steps", T, "FILE.csv", "write the metrics of every step (slower)",
     file<&Options::log_steps>},
    {"limit", P, "N", "only the first N rows", count<&Options::limit>},
    {"output", P, "FILE", "write predictions to FILE.npy, FILE.csv or FILE.txt",
     file<&Options::output>},
    {"format", P, "csv|npy|text", "instead of what FILE's name says; text is bytes as characters",
     format},
    {"show", P, "", "draw input images with the predicted class", flag<&Options::show>},
    {"requests", B, "", "time as many steps as each line of standard input says",
     flag<&Options::requests>},
    {"profile", T | E | P | B, "", "show where the time goes, by kernel, layer and line",
     flag<&Options::profile>},
    {"profile-file", T | E | P | B, "FILE", "and write it to FILE.csv, or a trace to FILE.json",
     profile_file},
    {"verbose", All, "0|1|2", "silent, progress, one line per epoch",
     count<&Options::verbose, 0, 2>},
    {"shuffle-items", T | E | P, "N", "run kernels in random order, to check the compiler",
     seed<&Options::shuffle_items_seed, &Options::shuffle_items>},
    {"reverse-items", T | E | P, "", "run kernels back to front, to check the compiler",
     flag<&Options::reverse_items>},
    {"mcpu", All, "LEVEL", "run the code for this level of processors, of several in the program",
     level},
    {"about", All, "", "how this binary was made", flag<&Options::about>},
    {"help", All, "", "this text", flag<&Options::help>},
};
constexpr int OptionCount = sizeof table / sizeof table[0];

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
    {"bench", Command::Bench, B, "seconds that training steps take; writes nothing"},
};

// The nearest name if at most two letters are wrong.
template <class Entry, size_t n>
const char *closest(const Entry (&entries)[n], const char *wanted) {
  const char *best = nullptr;
  int least = 3;
  for (const Entry &entry : entries) {
    int distance = edit_distance(wanted, entry.name);
    if (distance < least) least = distance, best = entry.name;
  }
  return best;
}

Command find_command(const char *name) {
  for (const Name &command : commands)
    if (same(command.name, name)) return command.command;
  if (const char *guess = closest(commands, name))
    usage_fail("unknown command `%s`: did you mean `%s`?", name, guess);
  usage_fail("unknown command `%s`: expected train, evaluate, predict, summary or bench", name);
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

void check_profile(const Options &o) {
  if (!o.profile || !(o.shuffle_items || o.reverse_items)) return;
  usage_fail("--profile times kernels in their own order: it does not go with --%s",
             o.shuffle_items ? "shuffle-items" : "reverse-items");
}

// --- getopt_long ---------------------------------------------------------------------------------

// What getopt_long returns for the option table[i] is FirstCode + i: no letter, no sign of its own.
constexpr int FirstCode = 256;

void make_getopt_array(option (&array)[OptionCount + 1]) {
  for (int i = 0; i < OptionCount; i++)
    array[i] = {table[i].name, *table[i].argument ? required_argument : no_argument, nullptr,
                FirstCode + i};
  array[OptionCount] = {};
}

// The option that `word`, as in `--name` or `--name=value`, spells out. getopt_long also takes
// unique beginnings of names; scripts with those would break when an option is added, so they only
// serve as suggestions: `accepted` is what getopt_long made of the word, or not a code.
const Option &find_option(const char *word, int accepted) {
  const char *name = text_copy(word + 2, strcspn(word + 2, "="));
  for (const Option &option : table)
    if (same(option.name, name)) return option;
  const char *guess = accepted >= FirstCode ? table[accepted - FirstCode].name : nullptr;
  if (!guess) guess = closest(table, name);
  if (guess) usage_fail("unknown option `--%s`: did you mean `--%s`?", name, guess);
  usage_fail("unknown option `--%s`: --help lists the options", name);
}

} // namespace

Options parse_options(int argc, char **argv) {
  Options options;
  Array<const Option *> given;
  bool command_given = false;
  option array[OptionCount + 1];
  make_getopt_array(array);
  opterr = 0;
  optind = 0; // glibc: forget an earlier scan
  auto take_command = [&](const char *word) {
    if (command_given && options.block) usage_fail("unexpected argument `%s`", word);
    if (command_given)
      options.block = word;
    else
      options.command = find_command(word);
    command_given = true;
  };
  // `-`: words that are no options come in their place, as code 1; `:`: a missing value is told
  // from an unknown option.
  for (;;) {
    const char *word = argv[optind ? optind : 1];
    int code = getopt_long(argc, argv, "-:h", array, nullptr);
    if (code == -1) break;
    if (code == 1) {
      take_command(optarg);
    } else if (code == 'h') {
      options.help = true;
    } else if (strncmp(word, "--", 2) != 0) {
      usage_fail("unknown option `%s`: options begin with `--`", word);
    } else {
      bool wrong = code == ':' || code == '?';
      const Option &option = find_option(word, wrong ? optopt : code);
      if (code == ':') usage_fail("--%s needs a value: %s", option.name, option.argument);
      if (code == '?') usage_fail("--%s takes no value", option.name);
      option.store(options, option.name, optarg);
      given.push(&option);
    }
  }
  while (optind < argc) take_command(argv[optind++]); // after `--`
  check_command(given, options.command);
  check_profile(options);
  return options;
}

void print_help(const char *program, const char *model_name) {
  printf("%s: a neural network and its training\n\nusage: %s [COMMAND [BLOCK]] "
         "[OPTIONS]\n\ncommands:\n",
         model_name, program);
  for (const Name &command : commands) printf("  %-24s%s\n", command.name, command.help);
  printf("\noptions:\n");
  for (const Option &option : table) {
    const char *left = text("--%s%s%s", option.name, *option.argument ? " " : "", option.argument);
    printf("  %-24s%s\n", left, option.help);
  }
  printf("\nThe weights are in `%s.safetensors` unless --save or --weights says otherwise.\n"
         "Exit codes: 0 done, 1 bad data, weights or machine, 2 bad command line,\n"
         "130 and 143 ended by SIGINT and SIGTERM.\n",
         model_name);
}

} // namespace rt
