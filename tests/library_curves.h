// Three small models and the formulas of their data and first weights, as make_curves.py in
// tests/reference has them. The curves are checked in double by the interpreter
// (library_curves_test.cpp) and in single precision by compiled code (sample_curves_test.cpp).
#pragma once
#include "tests/library_program.h"

namespace nnc::fe::test {

inline constexpr int kCurveBatch = 8, kCurveRows = 40;

inline const char *const kMlp = R"(
model Mlp(x: [batch, 6]) -> [batch, 3] {
  x |> Dense(16, activation = relu) |> Dense(8, activation = tanh) |> Dense(3)
}
train Mlp {
  data       = npy(x = "x.npy", target = "y.npy")
  loss       = SparseCategoricalCrossentropy(from_logits = true)
  optimizer  = Adam(0.01)
  batch_size = 8
})";

inline const char *const kCnn = R"(
model Cnn(x: [batch, 6, 6, 1]) -> [batch, 3] {
  x |> Conv2D(4, 3, padding = "same", use_bias = false) |> BatchNormalization() |> ReLU()
    |> MaxPooling2D()
    |> Conv2D(6, 2) |> BatchNormalization(momentum = 0.9) |> ReLU()
    |> GlobalAveragePooling2D()
    |> Dense(3)
}
train Cnn {
  data       = npy(x = "x.npy", target = "y.npy")
  loss       = SparseCategoricalCrossentropy(from_logits = true)
  optimizer  = SGD(0.05, momentum = 0.9, nesterov = true)
  batch_size = 8
})";

inline const char *const kRnn = R"(
model Rnn(x: [batch, 6, 3]) -> [batch, 3] {
  x |> LSTM(5, return_sequences = true) |> Bidirectional(GRU(4)) |> Dense(3)
}
train Rnn {
  data       = npy(x = "x.npy", target = "y.npy")
  loss       = SparseCategoricalCrossentropy(from_logits = true)
  optimizer  = Adam(0.01)
  batch_size = 8
})";

inline std::vector<double> curveRow(int i, int width) { return wave(width, 1.3 * i); }
inline double curveLabel(const std::vector<double> &x) { return (x[1] > 0) + (x[3] > 0.5); }

/// The inputs of training step s: eight rows and their labels.
struct CurveBatch {
  std::vector<double> x, y;
  CurveBatch(size_t s, int width) {
    for (int j = 0; j < kCurveBatch; ++j) {
      const auto values = curveRow(int(kCurveBatch * s + j) % kCurveRows, width);
      x.insert(x.end(), values.begin(), values.end());
      y.push_back(curveLabel(values));
    }
  }
};

/// Calls set(name, values) for every kernel.
template <class Set> void fillKernels(const ir::Module &m, const Set &set) {
  int k = 0;
  for (const ir::Persistent &w : m.persistents) {
    const ir::Meta *kind = w.meta.find("kind");
    if (!kind || *kind->asString() != "param") continue;
    if (w.name.ends_with("kernel")) {
      const int64_t n = ir::elementCount(w.type.dims, 1);
      const double fan = double(n / w.type.dims.back().b);
      set(w, wave(n, k, 0.8 / std::sqrt(fan)));
    }
    ++k;
  }
}

} // namespace nnc::fe::test
