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

struct Session {
  const NncModel *model;
  Json metadata;
  const char *name; // of the model
  Options options;
  Program program;
  DataGroup training, validation, test;
};

Session make_session(const NncModel &model, Options &&options);
// Binds --data options to columns. A bare column name means the group the command reads.
void bind_data(Session &session);
// The data that evaluate and predict read: test, else validation, else training data.
DataGroup &evaluation_group(Session &session);

// Memory, threads, initial values (unless weights follow), weights.
void start(Session &session, const char *weights);
// The default name of the weights file, which must exist unless --weights names another.
const char *default_weights(const Session &session);
const NncFunction &need_function(const Session &session, const char *name, const char *command);

void zero_metrics(Program &program);
Array<Metric> read_metrics(Session &session, const char *prefix);
// Runs eval_step over `count` rows from `first`; false if interrupted.
bool evaluate_rows(Session &session, Feed &feed, int64_t first, int64_t count, Progress *progress);

// SIGINT or SIGTERM since the program started: its number, else 0. A later one kills.
void catch_interrupts();
int interrupted();

int train(Session &session);
int evaluate(Session &session);
int predict(Session &session);

} // namespace rt

#endif
