// Whole trainings against Keras in double precision: the loss of each of a hundred steps.
#include "tests/library_curves.h"

using namespace nnc;
using namespace nnc::fe::test;

namespace {

std::vector<double> train(Program &p, int width, size_t steps) {
  fillKernels(*p.module, [&](const ir::Persistent &w, std::vector<double> values) {
    p.interpreter->persistent(w.name).data = std::move(values);
  });
  std::vector<double> losses;
  for (size_t s = 0; s < steps; ++s) {
    const CurveBatch batch(s, width);
    p.interpreter->step = s;
    const auto results = p.run("train_step", kCurveBatch, {batch.x, batch.y});
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
  checkClose(train(p, 6, wanted.size()), wanted, 1e-5);
}

TEST_CASE("a convolutional network with batch normalization trains as in Keras", "[library]") {
  const ir::Meta curves = reference("curves.json");
  const auto wanted = numbers(*curves.find("cnn"));
  Program p(kCnn);
  checkClose(train(p, 36, wanted.size()), wanted, 1e-5);
  // What evaluation sees: the running means of batch normalization.
  checkClose(p.weight("batch_normalization/moving_mean").data,
             numbers(*curves.find("cnn_moving_mean")), 1e-5);
  auto x = curveRow(0, 36);
  const auto second = curveRow(1, 36);
  x.insert(x.end(), second.begin(), second.end());
  checkClose(p.run("predict", 2, {x})[0].data, numbers(*curves.find("cnn_predict")), 1e-5);
}

TEST_CASE("a recurrent network trains as in Keras", "[library][scan]") {
  const ir::Meta curves = reference("curves.json");
  const auto wanted = numbers(*curves.find("rnn"));
  Program p(kRnn);
  checkClose(train(p, 18, wanted.size()), wanted, 1e-6);
  std::vector<double> weights; // after a hundred steps of Adam
  for (const ir::Persistent &w : p.module->persistents)
    if (*w.meta.find("kind")->asString() == "param")
      for (const double v : p.interpreter->persistent(w.name).data) weights.push_back(v);
  checkClose(weights, numbers(*curves.find("rnn_weights")), 1e-5, 1e-6);
}
