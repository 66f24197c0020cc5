// Fits what the readers found to the model's inputs: see data.h.
#include "runtime/data.h"
#include "runtime/files.h"

#include <stdio.h>

namespace rt {

namespace {

// The extents of a row that are not 1, ended by -1.
void row_extents(const int64_t *dims, int64_t rank, int64_t *kept) {
  int64_t count = 0;
  for (int64_t d = 1; d < rank; d++)
    if (dims[d] != 1) kept[count++] = dims[d];
  kept[count] = -1;
}

struct Binding {
  const ColumnSpec &spec;
  const NncTensor &input;
  const char *what;

  int64_t width() const {
    int64_t count = 1;
    for (int64_t d = 1; d < input.rank; d++) count *= input.dims[d].b;
    return count;
  }

  int64_t window() const { return spec.window ? spec.window : 1; }

  RawArray read() const {
    const char *reader = spec.reader;
    if (spec.replaced) // a file given on the command line may be of another kind
      if (const char *other = names_reader(spec.file)) reader = other;
    if (same(reader, "idx")) return read_idx(spec.file, what);
    if (same(reader, "npy")) return read_npy(spec.file, what);
    if (same(reader, "text")) return read_text(spec.file, what);
    if (PartReader part = find_part(reader)) return part(spec, what);
    if (same(reader, "csv")) {
      bool floating = dtype_info(input.dtype).floating;
      int64_t dtype = input.dtype == NNC_F64 ? NNC_F64 : floating ? NNC_F32 : NNC_I64;
      return read_csv(spec, dtype, width() / window());
    }
    fail("`%s` (%s): this program was compiled without the reader `%s`, as no data of its model "
         "needs it",
         spec.file, what, reader);
  }

  void check_shape(const RawArray &raw) const {
    if (raw.flat) return; // a CSV has no shape, only a width, and the reader checked it
    int64_t expected[MaxRank + 1], found[MaxRank + 1], dims[MaxRank];
    for (int64_t d = 0; d < input.rank; d++) dims[d] = d ? input.dims[d].b : raw.dims[0];
    bool stretches = spec.window > 0; // the first dimension of a row counts rows of the file
    bool fits = !stretches || (input.rank > 1 && dims[1] == spec.window);
    if (stretches && fits) dims[1] = 1;
    row_extents(dims, input.rank, expected);
    row_extents(raw.dims, raw.rank, found);
    if (!fits)
      fail("`%s` (%s): the model takes rows of %s, a window has %lld rows of the file", spec.file,
           what, type_text(input.dtype, dims, input.rank, 1), static_cast<long long>(spec.window));
    for (int i = 0;; i++) {
      if (expected[i] != found[i])
        fail("`%s` (%s): the model takes rows of %s, the file has rows of %s", spec.file, what,
             type_text(input.dtype, dims, input.rank, 1),
             type_text(raw.dtype, raw.dims, raw.rank, 1));
      if (expected[i] < 0) return;
    }
  }

  [[noreturn]] void bad_value(int64_t element, int64_t value, int64_t low, int64_t high) const {
    fail("`%s` (%s): row %lld: expected a value in [%lld, %lld), found %lld", spec.file, what,
         static_cast<long long>(element / (width() / window())), static_cast<long long>(low),
         static_cast<long long>(high), static_cast<long long>(value));
  }

  int64_t integer_at(const RawArray &raw, int64_t i) const {
    switch (raw.dtype) {
    case NNC_I64: {
      int64_t value;
      memcpy(&value, raw.data + 8 * i, 8);
      return value;
    }
    case NNC_I32: {
      int32_t value;
      memcpy(&value, raw.data + 4 * i, 4);
      return value;
    }
    case NNC_U32: {
      uint32_t value;
      memcpy(&value, raw.data + 4 * i, 4);
      return value;
    }
    default: return static_cast<unsigned char>(raw.data[i]);
    }
  }

  // What an integer input can hold, narrowed to the declared range.
  void limits(int64_t &low, int64_t &high) const {
    low = input.dtype == NNC_I64 ? INT64_MIN : input.dtype == NNC_I32 ? INT32_MIN : 0;
    high = input.dtype == NNC_I64    ? INT64_MAX
           : input.dtype == NNC_I32  ? int64_t{INT32_MAX} + 1
           : input.dtype == NNC_U32  ? int64_t{UINT32_MAX} + 1
           : input.dtype == NNC_BOOL ? 2
                                     : 256;
    if (spec.has_range) {
      if (spec.low > low) low = spec.low;
      if (spec.high < high) high = spec.high;
    }
  }

  void check_integers(const RawArray &raw, int64_t count) const {
    int64_t low, high;
    limits(low, high);
    for (int64_t i = 0; i < count; i++) {
      int64_t value = integer_at(raw, i);
      if (value < low || (value >= high && high != INT64_MAX)) bad_value(i, value, low, high);
    }
  }

  // The elements in the input's type.
  void convert(RawArray &raw, int64_t count) const {
    int64_t size = dtype_info(input.dtype).bytes, from = dtype_info(raw.dtype).bytes;
    Array<char> converted;
    converted.resize(size_t(count * size));
    for (int64_t i = 0; i < count; i++) {
      char *out = converted.data + i * size;
      if (dtype_info(input.dtype).floating) {
        store_float(input.dtype, element_as_double(raw.dtype, raw.data + i * from), out);
      } else {
        int64_t value = integer_at(raw, i);
        memcpy(out, &value, size_t(size)); // little-endian: the low bytes
      }
    }
    raw.owner = static_cast<Array<char> &&>(converted);
    raw.data = raw.owner.data;
    raw.dtype = input.dtype;
  }

  Column load() const {
    RawArray raw = read();
    check_shape(raw);
    int64_t elements = width() / window(); // of a row of the file
    int64_t count = raw.dims[0] * elements, rows = raw.dims[0];
    if (spec.window) {
      if (rows < spec.window)
        fail("`%s` (%s): there are %lld rows, a window takes %lld", spec.file, what,
             static_cast<long long>(rows), static_cast<long long>(spec.window));
      rows = (rows - spec.window) / spec.stride + 1;
    }
    bool from_float = dtype_info(raw.dtype).floating, to_float = dtype_info(input.dtype).floating;
    if (from_float && !to_float)
      fail("`%s` (%s): the model takes %s, the file has %s", spec.file, what,
           dtype_info(input.dtype).name, dtype_info(raw.dtype).name);
    if (!to_float) check_integers(raw, count);
    bool widens_later = raw.dtype == NNC_U8 && input.dtype == NNC_F32;
    if (raw.dtype != input.dtype && !widens_later) convert(raw, count);
    int64_t step = spec.window ? elements * spec.stride : elements;
    Column column{spec.name, spec.file, raw.dtype, rows, width(), raw.data, raw.owner.data, step};
    raw.owner.data = nullptr; // the column keeps it
    return column;
  }
};

void check_input(const NncTensor &input) {
  bool rows = input.rank >= 1 && input.rank <= MaxRank;
  for (int64_t d = 1; rows && d < input.rank; d++) rows = input.dims[d].a == 0;
  rows = rows && (input.dims[0].a == 0 || (input.dims[0].a == 1 && input.dims[0].b == 0));
  if (!rows)
    fail("input `%s` of type %s cannot be fed from rows of a file", input.name,
         type_text(input, 1));
}

const ColumnSpec *find_spec(const Array<ColumnSpec> &specs, const char *name) {
  for (const ColumnSpec &spec : specs)
    if (same(spec.name, name)) return &spec;
  return nullptr;
}

// As in Keras, rows without a weight count once each.
Column unit_weights(const NncTensor &input, int64_t rows) {
  check_input(input);
  int64_t size = dtype_info(input.dtype).bytes;
  char *data = static_cast<char *>(allocate(size_t(rows * size)));
  for (int64_t i = 0; i < rows; i++) store_float(input.dtype, 1, data + i * size);
  return {input.name, "none", input.dtype, rows, 1, data, data, 1};
}

} // namespace

const char *names_reader(const char *path) {
  if (ends_with(path, ".npy")) return "npy";
  if (ends_with(path, ".npz")) return "npz";
  if (ends_with(path, ".csv") || ends_with(path, ".csv.gz")) return "csv";
  return strstr(path, "-ubyte") || strstr(path, ".idx") ? "idx" : nullptr;
}

static const NncModel *parts_of;

void use_parts(const NncModel &model) { parts_of = &model; }

PartReader find_part(const char *name) {
  for (int64_t i = 0; parts_of && i < parts_of->part_count; i++)
    if (same(parts_of->parts[i]->name, name))
      return reinterpret_cast<PartReader>(parts_of->parts[i]->function);
  return nullptr;
}

RawArray read_text(const char *path, const char *what) {
  RawArray raw;
  raw.owner = read_file(path, what);
  raw.rank = 1;
  raw.dims[0] = int64_t(raw.owner.count);
  raw.data = raw.owner.data;
  return raw;
}

Dataset::~Dataset() {
  for (Column &column : columns) free(column.owner);
}

const Column *Dataset::find(const char *name) const {
  for (const Column &column : columns)
    if (same(column.name, name)) return &column;
  return nullptr;
}

void load_columns(Dataset &dataset, const Array<ColumnSpec> &specs, const NncTensor *inputs,
                  int64_t input_count, const char *what, bool optional) {
  const NncTensor *unweighted = nullptr;
  for (int64_t i = 0; i < input_count; i++) {
    const NncTensor &input = inputs[i];
    if (dataset.find(input.name)) continue;
    const ColumnSpec *spec = find_spec(specs, input.name);
    if (!spec && optional) continue;
    if (!spec && same(input.name, "sample_weight")) {
      unweighted = &input;
      continue;
    }
    if (!spec)
      fail("%s: no file for the input `%s`: give one with --data %s=PATH", what, input.name,
           input.name);
    check_input(input);
    Column column = Binding{*spec, input, text("%s, `%s`", what, input.name)}.load();
    if (dataset.columns.count && column.rows != dataset.rows)
      fail("%s: `%s` has %lld rows (%s), `%s` has %lld (%s)", what, dataset.columns[0].name,
           static_cast<long long>(dataset.rows), dataset.columns[0].file, column.name,
           static_cast<long long>(column.rows), column.file);
    dataset.rows = column.rows;
    dataset.columns.push(column);
  }
  forget_csv();
  if (dataset.columns.count && dataset.rows == 0)
    fail("`%s` (%s): there are no rows", dataset.columns[0].file, what);
  if (unweighted) dataset.columns.push(unit_weights(*unweighted, dataset.rows));
}

} // namespace rt
