// The workloads of the benchmark, tests/bench/workloads: all compile, and make finite steps.
//
// The sizes of their data are those of tests/bench/models.py, which this repeats in C++ so that the
// test needs no Python.
#include "tests/workplace.h"
#include <cstdint>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

using namespace nnc::test;

namespace {

struct Column {
  std::string name;
  std::vector<int64_t> shape;
  int below; // of whole numbers; 0: floats
};
struct Workload {
  std::string name;
  std::vector<Column> columns;
};

const std::vector<Workload> kSmall = {
    {"xor", {{"x", {4, 2}, 0}, {"target", {4, 1}, 0}}},
    {"linear", {{"x", {442, 10}, 0}, {"target", {442, 1}, 0}}},
    {"mlp_small", {{"x", {32, 784}, 0}, {"target", {32}, 10}}},
    {"mlp", {{"x", {128, 784}, 0}, {"target", {128}, 10}}},
    {"autoencoder", {{"x", {128, 784}, 0}, {"target", {128, 784}, 0}}},
    {"lenet", {{"x", {64, 28, 28, 1}, 0}, {"target", {64}, 10}}},
    {"lstm", {{"x", {32, 64, 64}, 0}, {"target", {32}, 10}}},
    {"gpt", {{"x", {8, 128}, 256}, {"target", {8, 128}, 256}}},
    {"adam", {{"x", {1, 1}, 0}}},
};
const std::vector<Workload> kLarge = {
    {"mlp_wide", {{"x", {512, 784}, 0}, {"target", {512}, 10}}},
    {"resnet20", {{"x", {128, 32, 32, 3}, 0}, {"target", {128}, 10}}},
    {"resnet50", {{"x", {16, 64, 64, 3}, 0}, {"target", {16}, 1000}}},
    {"gru", {{"x", {64, 64}, 256}, {"target", {64, 64}, 256}}},
    {"gpt2", {{"x", {1, 256}, 50257}, {"target", {1, 256}, 50257}}},
    {"dlrm", {{"dense", {256, 13}, 0}, {"categories", {256, 8}, 100000}, {"target", {256, 1}, 0}}},
};

void write(const Workplace &w, const Column &c) {
  std::string shape = "(";
  int64_t count = 1;
  for (int64_t n : c.shape) shape += std::to_string(n) + ",", count *= n;
  shape += ")";
  uint32_t state = 7;
  auto next = [&] { return (state = state * 1664525 + 1013904223) >> 8; };
  if (c.below) {
    std::vector<int32_t> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(int32_t(next() % uint32_t(c.below)));
    w.write(c.name + ".npy", npyFile("<i4", shape, values));
  } else {
    std::vector<float> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(float(next()) / float(1 << 24));
    w.write(c.name + ".npy", npyFile("<f4", shape, values));
  }
}

/// Compiles a workload and makes two steps.
void check(const Workload &workload, const std::string &precision = "float32") {
  INFO(workload.name << ", " << precision);
  Workplace w;
  for (const Column &c : workload.columns) write(w, c);
  std::ifstream in(NNC_SOURCE_DIR "/tests/bench/workloads/" + workload.name + ".nn");
  std::stringstream text;
  text << in.rdbuf();
  w.write("model.nn", std::regex_replace(text.str(), std::regex("\ntrain (\\w+) \\{\n"),
                                         "\ntrain $1 {\n  precision = \"" + precision + "\"\n"));
  w.must(NNC_BINARY_DIR "/nnc model.nn -o model");
  w.write("requests", "1\n1\n");
  const std::string answers = w.must("./model bench --requests < requests");
  INFO(answers);
  const std::regex loss("\"loss\": ([0-9][^,}]*)"); // null if it is no number
  auto begin = std::sregex_iterator(answers.begin(), answers.end(), loss);
  REQUIRE(std::distance(begin, std::sregex_iterator()) == 2);
  CHECK((*begin)[1] != (*std::next(begin))[1]);
}

} // namespace

TEST_CASE("bench: the workloads make steps", "[bench]") {
  for (const Workload &w : kSmall) check(w);
}

TEST_CASE("bench: the workloads make steps in mixed precision", "[bench]") {
  for (const Workload &w : kSmall)
    if (w.columns.size() > 1) check(w, "mixed_bfloat16");
}

TEST_CASE("bench: the large workloads make steps", "[.slow][bench]") {
  for (const Workload &w : kLarge) check(w), check(w, "mixed_bfloat16");
}

TEST_CASE("bench: every workload is run here and formatted", "[bench]") {
  std::set<std::string> known, there;
  for (const auto *list : {&kSmall, &kLarge})
    for (const Workload &w : *list) known.insert(w.name);
  Workplace w;
  for (const auto &entry :
       std::filesystem::directory_iterator(NNC_SOURCE_DIR "/tests/bench/workloads")) {
    there.insert(entry.path().stem().string());
    w.must(NNC_BINARY_DIR "/nnc fmt --check '" + entry.path().string() + "'");
  }
  CHECK(known == there);
}
