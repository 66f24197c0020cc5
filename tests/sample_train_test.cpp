// The samples do what their first lines promise: built by nnc, trained, and their last epoch read.
//
//   Epoch 500/500 - 1/1 - 0s - 4us/step - loss: 2859.6997 - r2_score: 0.5177
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace {

std::string output(const std::string &command) {
  std::string text;
  FILE *pipe = popen((command + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, n);
  const int status = pclose(pipe);
  INFO(command);
  INFO(text);
  REQUIRE(status == 0);
  return text;
}

/// What training a sample in `directory` prints.
std::string train(const std::string &name, const std::string &directory, const std::string &options = "") {
  const std::string binary = NNC_BINARY_DIR "/sample_" + name;
  output(NNC_BINARY_DIR "/nnc " NNC_SOURCE_DIR "/samples/" + name + ".nn -o " + binary);
  return output("cd " + directory + " && " + binary + " train --save=" + binary + ".safetensors " +
                options);
}

/// The last value printed for a quantity.
double last(const std::string &text, const std::string &name) {
  INFO(text);
  const size_t at = text.rfind(" " + name + ": ");
  REQUIRE(at != std::string::npos);
  return std::atof(text.c_str() + at + name.size() + 3);
}

const char *const kSamples = NNC_SOURCE_DIR "/samples";
const char *const kFashion = "/usr/share/datasets/fashion-mnist";

} // namespace

TEST_CASE("xor is learnt", "[sample]") {
  const std::string text = train("xor", kSamples);
  CHECK(last(text, "loss") < 0.01);
  CHECK(last(text, "binary_accuracy") == 1);
}

TEST_CASE("linear regression finds the least squares solution", "[sample]") {
  CHECK(last(train("linear_regression", kSamples), "loss") == Approx(2859.6976).epsilon(1e-5));
}

TEST_CASE("logistic regression tells tumours apart", "[sample]") {
  CHECK(last(train("logistic_regression", kSamples), "val_binary_accuracy") >= 0.95);
}

TEST_CASE("a layer, a loss and an optimizer of one's own train", "[sample]") {
  CHECK(last(train("custom", kSamples), "val_sparse_categorical_accuracy") >= 0.93);
}

// The data is a package that script/setup installs; without it there is nothing to learn from.
TEST_CASE("Fashion-MNIST begins to be learnt by a perceptron", "[sample]") {
  REQUIRE(std::filesystem::exists(kFashion));
  const std::string text = train("fashion_mnist", kFashion, "--epochs 1");
  CHECK(last(text, "sparse_categorical_accuracy") >= 0.8); // of the test data
}

TEST_CASE("Fashion-MNIST begins to be learnt by a convolutional network", "[sample]") {
  REQUIRE(std::filesystem::exists(kFashion));
  // Long enough for the moving statistics: 0.99 ** 400 of them is still what they began with.
  const std::string text = train("fashion_mnist_cnn", kFashion, "--epochs 1 --steps 400");
  CHECK(last(text, "sparse_categorical_accuracy") >= 0.75);
}

TEST_CASE("Fashion-MNIST is learnt by a perceptron", "[.slow]") {
  const std::string text = train("fashion_mnist", kFashion);
  CHECK(last(text, "sparse_categorical_accuracy") >= 0.88); // of the test data
}

TEST_CASE("Fashion-MNIST is learnt by a convolutional network", "[.slow]") {
  const std::string text = train("fashion_mnist_cnn", kFashion);
  CHECK(last(text, "sparse_categorical_accuracy") >= 0.9);
}
