// Data sets: columns of files, bound to the inputs of a model.
//
// A reader turns a file into one raw array [rows, ...] of the file's element type. `load_dataset`
// fits it to the input it is bound to (shape, element type, range of labels), with every mistake in
// the data reported here, once, before training starts:
//
//   error: labels.csv:7: column 5 (`species`): expected a value in [0, 3), found 4
//
// What stays in memory is the input's own element type, except that u8 stays u8 also for f32 inputs
// (images: a quarter of the memory) and widens when a batch is assembled.
#ifndef NNC_RUNTIME_DATA_H
#define NNC_RUNTIME_DATA_H

#include "runtime/json.h"
#include "runtime/tensor.h"

namespace rt {

// What docs/internals.md ("Module metadata") calls a COLUMN, after `--data`.
struct ColumnSpec {
  const char *name = nullptr, *reader = nullptr, *file = nullptr;
  Json columns;                   // CSV: a list or one of names and indices
  Json codes;                     // CSV: of each of them, null, {"hash": n} or {"words": [..]}
  const char *entry = nullptr;    // NPZ: the array's name
  Json size, classes;             // folder: [height, width, channels] of images; names
  bool mixed = false;             // folder: rows in a mixed order
  bool flat = false;              // folder: images without classes, as `predict` may get
  int64_t window = 0, stride = 1; // rows are `window` consecutive rows of the file, if not 0
  bool has_range = false;
  int64_t low = 0, high = 0;
  bool replaced = false; // by --data
};

// A file's content before it meets an input. `data` points into `owner`.
struct RawArray {
  int64_t dtype = NNC_U8, rank = 0;
  int64_t dims[MaxRank] = {0};
  bool flat = false; // rows of values without a shape (CSV)
  Array<char> owner;
  char *data = nullptr;
};

RawArray read_idx(const char *path, const char *what);
RawArray read_npy(const char *path, const char *what);
RawArray parse_npy(Array<char> &&bytes, const char *path, const char *what);
RawArray read_text(const char *path, const char *what); // u8[bytes]
// The reader of a file that the command line names, by its name; null if that says nothing.
const char *names_reader(const char *path);
// The readers that are parts of the runtime: null if the model has it not.
using PartReader = RawArray (*)(const ColumnSpec &spec, const char *what);
PartReader find_part(const char *name);
void use_parts(const NncModel &model);
// Bilinear, between centres of pixels; of each pixel the first `channels` of `from_channels` bytes.
void resize_picture(const unsigned char *from, int64_t from_height, int64_t from_width,
                    int64_t from_channels, unsigned char *to, int64_t height, int64_t width,
                    int64_t channels);
// A CSV has no element types: the input says whether numbers are wanted as i64, f32 or f64. `width`
// is the number of values an input row takes.
RawArray read_csv(const ColumnSpec &spec, int64_t dtype, int64_t width);
void forget_csv(); // the text of the last CSV is kept, because several columns come from one file

struct Column {
  const char *name;
  const char *file;
  int64_t dtype; // as stored
  int64_t rows, row_elements;
  char *data, *owner;
  int64_t row_step; // elements from a row to the next: less than row_elements if they overlap
};

struct Dataset {
  Array<Column> columns;
  int64_t rows = 0;

  Dataset() = default;
  Dataset(Dataset &&) = default;
  ~Dataset();
  const Column *find(const char *name) const;
};

// Loads the columns that `inputs` (tensors with batch dimension first) are bound to. `what` is
// "training data" or the like. An input without a column is an error, or left out if `optional`;
// but `sample_weight` is then 1 for every row, as validation and test data seldom have weights.
void load_columns(Dataset &dataset, const Array<ColumnSpec> &specs, const NncTensor *inputs,
                  int64_t input_count, const char *what, bool optional = false);

} // namespace rt

#endif
