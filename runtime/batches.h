// Assembles batches: gathers rows of a data set into a function's inputs.
//
// All threads gather together before the first kernel of a step, each its share of the rows, and
// ask the memory for the rows of the next batch while they are at it; so there is no data thread to
// compete for the cores, and shuffled rows wait in the cache when their turn comes.
//
//   Feed feed(program, *train_step, dataset);
//   feed.run(rows, 32);                      // rows.order[first..first+32), then the function
#ifndef NNC_RUNTIME_BATCHES_H
#define NNC_RUNTIME_BATCHES_H

#include "runtime/data.h"
#include "runtime/program.h"

namespace rt {

// A batch: rows order[first .. first+n) of the data set, or first .. first+n without an order.
struct Rows {
  const uint32_t *order;
  int64_t first, n;
  int64_t total; // of rows in this pass, for looking ahead
};

struct Feed {
  struct Slot {
    const NncTensor *input;
    char *source, *target; // target: the input region, or `logical` if the input has a layout
    char *logical;
    int64_t source_bytes, target_bytes; // of a row
    int64_t source_step;                // bytes from a row to the next
    bool widens;                        // u8 rows into f32
  };
  Program &program;
  const NncFunction &function;
  Array<Slot> slots;
  int64_t batch; // most rows of a call
  bool partial;  // whether fewer are allowed
  Rows rows{};

  Feed(Program &program, const NncFunction &function, const Dataset &dataset);
  ~Feed();
  // Calls of the function that `total` rows take.
  int64_t call_count(int64_t total) const {
    if (!slots.count) return 1;
    return partial ? (total + batch - 1) / batch : total / batch;
  }
  void run(const Rows &rows);
};

} // namespace rt

#endif
