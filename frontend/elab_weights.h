// Records of weights, as optimizers and stores walk them. Private to elab_*.cpp.
#pragma once
#include "frontend/elab.h"

namespace nnc::fe {

/// A weight and the value at its place in another record: its gradient, or what it becomes.
struct WeightPair {
  Weight *weight;
  Value value;
  std::string path; // in the record
};

} // namespace nnc::fe
