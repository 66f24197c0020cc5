// What all commands share: the model with its metadata, where its data comes from, and how its
// functions are run over a data set.
#ifndef NNC_RUNTIME_SESSION_H
#define NNC_RUNTIME_SESSION_H

#include "runtime/batches.h"
#include "runtime/options.h"
#include "runtime/progress.h"

namespace rt {

// One of the metadata's lists of columns, with --data applied.
struct DataGroup {
  const char *name; // "data", "validation", "test"
  const char *what; // for messages: "training data"
  Array<ColumnSpec> specs;
  bool present = false;
  bool replaced = false; // some column, by --data
};

// A model has one train block or several, which train parts of one set of weights. A session is
// about one of them at a time.
struct Session {
  const NncModel *model;
  Json metadata;
  const char *name; // of the model
  Options options;
  Program program;
  Json block;             // the metadata of the current block: of the whole, if there is only one
  const char *block_name; // "" if there is only one
  int64_t blocks_before = 0; // that this run has trained
  DataGroup training, validation, test;
  Array<char *> row_states{}; // first contents of the tensors of that kind, in their order
};

Session make_session(const NncModel &model, Options &&options);
// The blocks a command is about, in order: the one the command line names; else all of them for
// `train`, the last one for other commands.
Array<Json> chosen_blocks(const Session &session);
// Makes a block the current one and binds --data options to its columns. A bare column name means
// the group the command reads.
void select_block(Session &session, Json block);
// Fails if an option --data names what no selected block has.
void check_data_options(const Session &session);
// The data that evaluate and predict read: test, else validation, else training data.
DataGroup &evaluation_group(Session &session);

// Memory, threads, initial values (unless weights follow), weights.
void start(Session &session, const char *weights);
// The default name of the weights file, which must exist unless --weights names another.
const char *default_weights(const Session &session);
// A function of the current block, null or an error if it was not compiled.
const NncFunction *find_function(const Session &session, const char *name);
const NncFunction &need_function(const Session &session, const char *name, const char *command);

void zero_metrics(Program &program);
// States of rows as they were after `init`.
void reset_rows(Session &session);
Array<Metric> read_metrics(Session &session, const char *prefix);
// Runs eval_step over `count` rows from `first`; false if interrupted.
bool evaluate_rows(Session &session, Feed &feed, int64_t first, int64_t count, Progress *progress);

// SIGINT or SIGTERM since the program started: its number, else 0. A later one kills.
void catch_interrupts();
int interrupted();

// What a train block trains on; the number of its rows that train, the last ones being held out.
int64_t load_training(Session &session, const NncFunction &step, Dataset &data);
// Weights and learning rate to train with. `starts`: no block of this run came before.
void start_training(Session &session, bool starts);
// Statistics of the training data, unless the weights hold them.
void adapt(Session &session, const Dataset &data, int64_t rows);

int train(Session &session); // the blocks of the command line; the others the current one
int evaluate(Session &session);
int predict(Session &session);
int bench(Session &session);

} // namespace rt

#endif
