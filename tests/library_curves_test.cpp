// Whole trainings against Keras in double precision: the loss of each of a hundred steps.
// The batches and weights are formulas; tests/reference/make_curves.py has the same ones.
#include "tests/library_program.h"

using namespace nnc;
using namespace nnc::fe::test;

namespace {

constexpr int kBatch = 8, kRows = 40;

const char *const kMlp = R"(
model Mlp(x: [batch, 6]) -> [batch, 3] {
  x |> Dense(16, activation = relu) |> Dense(8, activation = tanh) |> Dense(3)
}
train Mlp {
  data       = npy(x = "x.npy", target = "y.npy")
  loss       = SparseCategoricalCrossentropy(from_logits = true)
  optimizer  = Adam(0.01)
  batch_size = 8
})";

const char *const kCnn = R"(
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

std::vector<double> row(int i, int width) { return wave(width, 1.3 * i); }
double label(const std::vector<double> &x) { return (x[1] > 0) + (x[3] > 0.5); }

void fillWeights(Program &p) {
  int k = 0;
  for (const ir::Persistent &w : p.module->persistents) {
    const ir::Meta *kind = w.meta.find("kind");
    if (!kind || *kind->asString() != "param") continue;
    if (w.name.ends_with("/kernel")) {
      ir::Tensor &t = p.interpreter->persistent(w.name);
      const double fan = double(t.count() / t.dims.back());
      t.data = wave(t.count(), k, 0.8 / std::sqrt(fan));
    }
    ++k;
  }
}

std::vector<double> train(Program &p, int width, size_t steps) {
  std::vector<double> losses;
  for (size_t s = 0; s < steps; ++s) {
    std::vector<double> x, y;
    for (int j = 0; j < kBatch; ++j) {
      const auto values = row(int(kBatch * s + j) % kRows, width);
      x.insert(x.end(), values.begin(), values.end());
      y.push_back(label(values));
    }
    p.interpreter->step = s;
    const auto results = p.run("train_step", kBatch, {x, y});
    REQUIRE(results.size() == 1);
    losses.push_back(results[0].data[0]);
  }
  return losses;
}

} // namespace

TEST_CASE("a perceptron trains as in Keras", "[library]") {
  const ir::Meta curves = reference("curves.json");
  const auto wanted = numbers(*curves.find("mlp"));
  Program p(kMlp);
  fillWeights(p);
  checkClose(train(p, 6, wanted.size()), wanted, 1e-5);
}

TEST_CASE("a convolutional network with batch normalization trains as in Keras", "[library]") {
  const ir::Meta curves = reference("curves.json");
  const auto wanted = numbers(*curves.find("cnn"));
  Program p(kCnn);
  fillWeights(p);
  checkClose(train(p, 36, wanted.size()), wanted, 1e-5);
  // What evaluation sees: the running means of batch normalization.
  checkClose(p.weight("batch_normalization/moving_mean").data,
             numbers(*curves.find("cnn_moving_mean")), 1e-5);
  auto x = row(0, 36);
  const auto second = row(1, 36);
  x.insert(x.end(), second.begin(), second.end());
  checkClose(p.run("predict", 2, {x})[0].data, numbers(*curves.find("cnn_predict")), 1e-5);
}
