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

#include "runtime/json.h"
#include "runtime/program.h"

namespace rt {

void save_weights(const Program &program, const char *path, const char *model_name);
// The weights that the text takes from files, `load("teacher.safetensors", m)`: metadata `initial`.
// The names in a file may have any common prefix, as the network there may be part of another.
void load_initial(Program &program, Json initial);
// Checks the whole file before it changes any tensor. Also sets program.step if the file has it.
void load_weights(Program &program, const char *path);

} // namespace rt

#endif
