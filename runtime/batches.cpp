// Assembles batches: see batches.h.
#include "runtime/batches.h"

namespace rt {

namespace {

void widen(const unsigned char *from, char *to, int64_t count) {
  float *out = reinterpret_cast<float *>(to);
  for (int64_t i = 0; i < count; i++) out[i] = float(from[i]);
}

int64_t source_row(const Rows &rows, int64_t i) {
  return rows.order ? int64_t{rows.order[rows.first + i]} : rows.first + i;
}

void fill_row(const Feed::Slot &slot, const Rows &rows, int64_t row) {
  char *to = (slot.logical ? slot.logical : slot.target) + row * slot.target_bytes;
  if (row >= rows.n) {
    memset(to, 0, size_t(slot.target_bytes));
    return;
  }
  const char *from = slot.source + source_row(rows, row) * slot.source_step;
  if (slot.widens)
    widen(reinterpret_cast<const unsigned char *>(from), to, slot.source_bytes);
  else
    memcpy(to, from, size_t(slot.target_bytes));
}

void look_ahead(const Feed::Slot &slot, const Rows &rows, int64_t row, int64_t batch) {
  constexpr int64_t line = 64, most = 64 * line;
  if (rows.first + batch + row >= rows.total) return;
  const char *from = slot.source + source_row(rows, batch + row) * slot.source_step;
  int64_t bytes = slot.source_bytes < most ? slot.source_bytes : most;
  for (int64_t at = 0; at < bytes; at += line) __builtin_prefetch(from + at, 0, 2);
}

void gather(void *context, int thread, int threads) {
  Feed &feed = *static_cast<Feed *>(context);
  int64_t begin = feed.batch * thread / threads, end = feed.batch * (thread + 1) / threads;
  for (const Feed::Slot &slot : feed.slots) {
    if (slot.logical) { // rare: an input with a layout of its own is packed by one thread
      if (thread != 0) continue;
      for (int64_t row = 0; row < feed.batch; row++) fill_row(slot, feed.rows, row);
      pack(*slot.input, feed.batch, slot.logical, slot.target);
      continue;
    }
    for (int64_t row = begin; row < end; row++) {
      fill_row(slot, feed.rows, row);
      look_ahead(slot, feed.rows, row, feed.batch);
    }
  }
}

} // namespace

Feed::Feed(Program &p, const NncFunction &f, const Dataset &dataset) : program(p), function(f) {
  batch = f.batch;
  partial = f.batch != 0;
  if (!batch) batch = 1; // without a row of data a function still has one call
  for (int64_t i = 0; i < f.input_count; i++) {
    const NncTensor &input = f.inputs[i];
    const Column *column = dataset.find(input.name);
    if (!column) fail("internal: no data for the input `%s` of `%s`", input.name, f.name);
    int64_t rows_here = at(input.dims[0], f.batch);
    if (!partial) batch = rows_here; // a model of a fixed number of rows
    if (batch != rows_here)
      fail("internal: the input `%s` of `%s` has %lld rows", input.name, f.name,
           static_cast<long long>(rows_here));
    Slot slot{};
    slot.input = &input;
    slot.source = column->data;
    slot.target = p.address(input);
    slot.widens = column->dtype != input.dtype;
    slot.source_bytes = column->row_elements * dtype_info(column->dtype).bytes;
    slot.source_step = column->row_step * dtype_info(column->dtype).bytes;
    slot.target_bytes = column->row_elements * dtype_info(input.dtype).bytes;
    if (input.digit_count)
      slot.logical = static_cast<char *>(allocate(size_t(slot.target_bytes * batch)));
    slots.push(slot);
  }
  if (batch == 0) batch = 1;
}

Feed::~Feed() {
  for (Slot &slot : slots) free(slot.logical);
}

void Feed::run(const Rows &wanted) {
  rows = wanted;
  Prologue prologue{gather, this};
  program.run(function, rows.n, slots.count ? &prologue : nullptr);
}

} // namespace rt
