// The command line of a training binary: docs/binary.md.
#ifndef NNC_RUNTIME_OPTIONS_H
#define NNC_RUNTIME_OPTIONS_H

#include "runtime/base.h"

namespace rt {

enum class Command { Train, Evaluate, Predict, Summary, Bench };

// --data NAME=PATH
struct DataOption {
  const char *name, *path;
  bool used;
};

struct Options {
  Command command = Command::Train;
  const char *block = nullptr;                 // of a model with several train blocks
  int64_t epochs = -1, steps = -1, limit = -1; // -1: not given
  uint64_t seed = 0;
  bool seed_given = false;
  double learning_rate = 0;
  bool learning_rate_given = false;
  int64_t threads = 0; // 0: all cores
  int64_t verbose = 1;
  const char *weights = nullptr, *save = nullptr, *log = nullptr, *log_steps = nullptr;
  const char *output = nullptr, *format = nullptr;
  const char *mcpu = nullptr; // the version of the code to run
  bool no_shuffle = false, show = false, requests = false, about = false, help = false;
  bool reverse_items = false, shuffle_items = false, profile = false;
  const char *profile_file = nullptr;
  uint64_t shuffle_items_seed = 0;
  Array<DataOption> data;

  // Whether it is the training data that the command is about.
  bool trains() const { return command == Command::Train || command == Command::Bench; }
};

// Ends the process with exit code 2 on a mistake.
Options parse_options(int argc, char **argv);
void print_help(const char *program, const char *model_name);

} // namespace rt

#endif
