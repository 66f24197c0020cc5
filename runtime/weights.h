// Weights in files: safetensors, logical row-major, whatever layout the model computes with.
//
//   8 bytes: length of the header | JSON header | tensors' bytes
//   {"__metadata__": {"format": "nnc", "name": "classifier"},
//    "classifier/dense/kernel": {"dtype": "F32", "shape": [784,300], "data_offsets": [0, 940800]},
//    .. "nnc/step": {"dtype": "I64", "shape": [], ...}}
//
// Saved are parameters, state, optimizer slots, host scalars and the number of training steps done.
// A file must have all parameters and all state; the rest is optional, so that a file from
// elsewhere can be a start.
#ifndef NNC_RUNTIME_WEIGHTS_H
#define NNC_RUNTIME_WEIGHTS_H

#include "runtime/files.h"
#include "runtime/json.h"
#include "runtime/program.h"

namespace rt {

// Bytes that go along with the weights, for a backup.
struct Extra {
  const char *name;
  char *data;
  int64_t bytes;
};
struct SaveOptions {
  bool weights_only = false; // without optimizer slots, learning rates and the count of steps
  json_t *state = nullptr;   // of a training that can go on from this file
  const Array<Extra> *extras = nullptr;
};
void save_weights(const Program &program, const char *path, const char *model_name,
                  const SaveOptions &options = {});

// A file of weights, its header parsed. Tensors are read from it when they are asked for: with all
// of them in memory beside the model, a large model would need a third more.
struct WeightsFile {
  InputFile file;
  Json header;
  int64_t content = 0; // where the header ends

  explicit WeightsFile(const char *path) : file(path, "weights") {}
  // Where in the file a tensor is; checks that it has this many bytes, all of them inside the file.
  int64_t locate(const char *name, int64_t bytes) const;
  Json state() const; // what SaveOptions.state was; absent without
  bool has(const char *name) const { return header.get(name).present(); }
  int64_t bytes_of(const char *name) const; // of an Extra
  void read_extra(const char *name, char *to, int64_t bytes) const {
    file.read(locate(name, bytes), to, size_t(bytes));
  }
};
WeightsFile open_weights(const char *path);
// The weights that the text takes from files, `load("teacher.safetensors", m)`: metadata `initial`.
// The names in a file may have any common prefix, as the network there may be part of another.
void load_initial(Program &program, Json initial);
// Checks the whole file before it changes any tensor. Also sets program.step if the file has it.
void load_weights(Program &program, const WeightsFile &file);
void load_weights(Program &program, const char *path);

} // namespace rt

#endif
