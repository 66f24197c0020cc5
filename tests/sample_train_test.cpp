// The samples do what their first lines promise: built by nnc, trained, and their last epoch read.
//
//   Epoch 500/500 - 1/1 - 0s - 4us/step - loss: 2859.6997 - r2_score: 0.5177
#include "tests/library_program.h"
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
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
std::string train(const std::string &name, const std::string &directory,
                  const std::string &options = "") {
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

/// The numbers of a table: rows behind a line of names.
std::vector<std::vector<double>> table(const std::string &path) {
  std::ifstream in(path);
  std::vector<std::vector<double>> rows;
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    std::stringstream cells(line);
    rows.emplace_back();
    for (std::string cell; std::getline(cells, cell, ',');) rows.back().push_back(std::stod(cell));
  }
  INFO(path);
  REQUIRE(!rows.empty());
  return rows;
}

/// What a sample that `train` trained in `directory` does with its data: `evaluate`, or else
/// `predict`.
std::string trained(const std::string &name, const std::string &directory, const std::string &command) {
  const std::string binary = NNC_BINARY_DIR "/sample_" + name;
  return output("cd " + directory + " && " + binary + " " + command + " --weights=" + binary +
                ".safetensors");
}

/// Its predictions, a row per row of the data.
std::vector<std::vector<double>> predictions(const std::string &name,
                                             const std::string &directory) {
  const std::string path = NNC_BINARY_DIR "/sample_" + name + ".csv";
  trained(name, directory, "predict --output=" + path);
  return table(path);
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

TEST_CASE("perceptrons draw scikit-learn's lines", "[sample]") {
  for (const nnc::ir::Meta &c : nnc::fe::test::cases("perceptron.json")) {
    const std::string name = *c.find("sample")->asString();
    const int64_t epochs = *c.find("epochs")->asInt();
    INFO(name << ", " << epochs << " epochs");
    const std::string text =
        train(name, kSamples, "--no-shuffle --epochs " + std::to_string(epochs));
    const auto found = predictions(name, kSamples);
    const nnc::ir::Meta::List &wanted = *c.find("scores")->asList();
    REQUIRE(found.size() == wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      INFO("flower " << i);
      CHECK(found[i] == nnc::fe::test::numbers(wanted[i])); // integers, of which none is rounded
    }
    if (name == "perceptron" && epochs == 200) CHECK(last(text, "errors") == 0);
    if (name == "perceptron_multi") CHECK(last(text, "setosa") == 0);
    if (name == "perceptron_multi") CHECK(last(text, "versicolor") > 0.2);
  }
}

TEST_CASE("no perceptron learns xor", "[sample]") {
  const std::string text = train("xor_perceptron", kSamples, "--no-shuffle");
  size_t epochs = 0;
  for (size_t at = 0; (at = text.find("errors: ", at)) != std::string::npos; ++epochs)
    CHECK(std::atof(text.c_str() + (at += 8)) > 0);
  CHECK(epochs == 100);
  int right = 0;
  const auto found = predictions("xor_perceptron", kSamples);
  REQUIRE(found.size() == 4);
  for (int i = 0; i < 4; ++i) right += (found[i][0] > 0) == (i == 1 || i == 2);
  CHECK(right <= 3);
}

TEST_CASE("neurons of McCulloch and Pitts compute a proposition", "[sample]") {
  const std::string text = train("mcculloch_pitts", kSamples);
  CHECK(last(text, "wrong") == 0);
  CHECK(last(text, "gates") == 0);
  const auto found = predictions("mcculloch_pitts", kSamples);
  REQUIRE(found.size() == 8);
  for (int line = 0; line < 8; ++line) {
    const bool a = line & 4, b = line & 2, c = line & 1;
    INFO("line " << line);
    CHECK(found[line][0] == ((!a || b) && a != c));
  }
}

TEST_CASE("one hidden layer approximates a curve", "[sample]") {
  const std::string text = train("universal_approximation", kSamples, "--threads 1");
  CHECK(last(text, "loss") < 1e-5);
  CHECK(last(text, "worst") < 0.02);
}

TEST_CASE("the quadratic cost slows a saturated neuron down, cross-entropy does not", "[sample]") {
  const std::string log = NNC_BINARY_DIR "/sample_learning_slowdown.csv";
  train("learning_slowdown", kSamples, "--log-steps=" + log);
  const auto found = table(log);
  REQUIRE(found.size() == 300);
  double quadratic = 4, entropy = 4; // weight plus bias, which change alike as the input is 1
  for (size_t step = 0; step < found.size(); ++step) {
    const double a = 1 / (1 + std::exp(-quadratic)), b = 1 / (1 + std::exp(-entropy));
    INFO("step " << step + 1);
    REQUIRE(found[step].size() == 3);
    CHECK(found[step][1] == Approx(a).epsilon(1e-4));
    CHECK(found[step][2] == Approx(b).epsilon(1e-4));
    quadratic -= 2 * 0.15 * a * a * (1 - a);
    entropy -= 2 * 0.15 * b;
  }
}

TEST_CASE("two inputs and two outputs learn together", "[sample]") {
  train("wide_and_deep", kSamples);
  const std::string text = trained("wide_and_deep", kSamples, "evaluate");
  CHECK(last(text, "main_r2_score") >= 0.55);
  CHECK(last(text, "loss") ==
        Approx(0.9 * last(text, "main_loss") + 0.1 * last(text, "aux_loss")).epsilon(1e-4));
  const auto found = predictions("wide_and_deep", kSamples);
  REQUIRE(found.size() == 442);
  CHECK(found[0].size() == 2);
}

TEST_CASE("a generator learns eight places from a critic", "[sample]") {
  const std::string text = train("wgan_gp", kSamples, "--epochs 3 --threads 1");
  CHECK(last(text, "near") >= 0.75);
  CHECK(last(text, "rarest") >= 0.06);
}

TEST_CASE("a GPT learns to sort", "[sample]") {
  const std::string text = train("gpt", kSamples, "--epochs 1 --threads 1");
  CHECK(last(text, "digits") >= 0.85);
  CHECK(last(text, "whole") >= 0.6);
}

TEST_CASE("a recurrent network finds structure in time", "[sample]") {
  const std::string text = train("rnn", kSamples, "--epochs 2 --threads 1");
  CHECK(last(text, "third") >= 0.98);
  CHECK(last(text, "other") == Approx(0.5).margin(0.03)); // nobody can say more
}

TEST_CASE("an LSTM remembers two numbers of twenty", "[sample]") {
  CHECK(last(train("lstm", kSamples, "--epochs 2 --threads 1"), "loss") < 0.01);
}

TEST_CASE("a network of characters learns words and goes on with a prompt", "[sample]") {
  const char *licence = "/usr/share/common-licenses/GPL-3"; // as the sample has it
  REQUIRE(std::filesystem::exists(licence));
  const std::string text = train("char_lm", NNC_BINARY_DIR, "--epochs 8 --threads 1");
  CHECK(last(text, "loss") < 1.6); // to know how often each character occurs gets 3.0
  const std::string prompt = NNC_BINARY_DIR "/sample_char_lm_prompt.txt";
  for (int i = 0; i < 8; ++i)
    std::ofstream(prompt, i ? std::ios::app : std::ios::trunc) << "The source code ";
  const std::string said = trained("char_lm", NNC_BINARY_DIR,
                                   "predict --format text --data prompt=" + prompt);
  CHECK(said.size() == 8 * 401); // rows of 400 characters and their ends of line
  auto words = [](const std::string &of) {
    std::vector<std::string> found(1);
    for (const char c : of)
      if (std::isalpha((unsigned char)c))
        found.back() += char(std::tolower((unsigned char)c));
      else if (!found.back().empty())
        found.emplace_back();
    return found;
  };
  std::set<std::string> known;
  for (const std::string &w : words(nnc::fe::test::readText(licence))) known.insert(w);
  double all = 0, right = 0;
  for (const std::string &w : words(said))
    if (w.size() > 2) ++all, right += double(known.count(w));
  INFO(said);
  CHECK(all > 300);
  CHECK(right > 0.6 * all);
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

// The mean picture of the training data has a squared error of 0.0866 and a cross-entropy of 385.
TEST_CASE("an autoencoder begins to draw pictures again", "[sample]") {
  REQUIRE(std::filesystem::exists(kFashion));
  const std::string text = train("autoencoder", kFashion, "--epochs 1");
  CHECK(last(text, "loss") < 0.025); // of the test data
}

TEST_CASE("a variational autoencoder begins to", "[sample]") {
  REQUIRE(std::filesystem::exists(kFashion));
  const std::string text = train("vae", kFashion, "--epochs 1");
  CHECK(last(text, "loss") < 280);
  CHECK(last(text, "divergence") > 5); // the code says something
  CHECK(last(text, "divergence") < 25);
}

TEST_CASE("Fashion-MNIST is learnt by a perceptron", "[.slow]") {
  const std::string text = train("fashion_mnist", kFashion);
  CHECK(last(text, "sparse_categorical_accuracy") >= 0.88); // of the test data
}

TEST_CASE("Fashion-MNIST is learnt by a convolutional network", "[.slow]") {
  const std::string text = train("fashion_mnist_cnn", kFashion);
  CHECK(last(text, "sparse_categorical_accuracy") >= 0.9);
}
