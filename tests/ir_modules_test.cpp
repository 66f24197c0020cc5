// The hand-written modules mean what they say: after differentiation, training on a few fixed rows
// lowers the loss. Run by the interpreter, so nothing here depends on code generation.
#include "ir/gradient.h"
#include "ir/interpret.h"
#include "ir/text.h"
#include "ir/verify.h"
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <random>
#include <sstream>

namespace {

using namespace nnc::ir;

std::string moduleText(const std::string &name) {
  std::ifstream f(NNC_SOURCE_DIR "/tests/ir/" + name + ".ir");
  std::stringstream s;
  s << f.rdbuf();
  return s.str();
}

std::unique_ptr<Module> differentiated(const std::string &text) {
  TextError e;
  auto m = parseModule(text, e);
  INFO(e.line << ":" << e.column << ": " << e.message);
  REQUIRE(m);
  differentiate(*m);
  REQUIRE(verify(*m) == "");
  REQUIRE(verifyDifferentiated(*m) == "");
  return m;
}

// n rows for the function's inputs: labels of 3 classes (2 if they are floating point), tokens,
// noise.
std::vector<Tensor> rows(const Function &f, int64_t n) {
  std::mt19937 random(3);
  std::vector<Tensor> all;
  for (const Param &p : f.params) {
    if (!p.bind.empty()) continue;
    const Type &t = f.type(p.value);
    bool label = f.values[p.value.i].name == "label";
    unsigned limit = label ? (isFloat(t.dtype) ? 2 : 3) : t.dtype == DType::u8 ? 256 : 20;
    Tensor x{t.dtype, {}, {}};
    for (Dim d : t.dims) x.dims.push_back(d.at(n));
    for (int64_t k = elementCount(t.dims, n); k > 0; --k)
      x.data.push_back(label || !isFloat(t.dtype) ? random() % limit
                                                  : double(random() % 2000) / 1000 - 1);
    all.push_back(std::move(x));
  }
  return all;
}

double metric(Interpreter &in, const std::string &step, const std::vector<Tensor> &inputs) {
  for (const char *state : {"loss/total", "loss/count"}) in.persistent(state).data = {0};
  in.run(step, inputs);
  return in.run("metrics_result", {})[0].data[0];
}

// Loss of each step.
std::vector<double> train(const Module &m, int steps) {
  Interpreter in(m, Precision::f64, 7);
  in.run("init", {});
  const std::vector<Tensor> inputs = rows(*m.find("train_step"), 7); // not a full batch
  std::vector<double> losses;
  for (int k = 0; k < steps; ++k) {
    in.step = uint64_t(k);
    losses.push_back(metric(in, "train_step", inputs));
  }
  if (m.find("eval_step")) { // the same rows, after the last update
    INFO("evaluation");
    CHECK(metric(in, "eval_step", inputs) < losses.front());
  }
  return losses;
}

TEST_CASE("the hand-written modules learn", "[ir][modules]") {
  struct Row {
    const char *name;
    int steps;
    double factor; // the last loss is below this part of the first
  };
  for (Row r : {Row{"mlp", 3, 0.8}, Row{"cnn", 200, 0.2}, Row{"bn", 200, 0.1},
                Row{"embed", 200, 0.5}, Row{"rnn", 200, 0.4}, Row{"attention", 200, 0.1},
                Row{"adam", 300, 0.6}}) { // a gan's loss need not fall
    INFO(r.name);
    auto m = differentiated(moduleText(r.name));
    std::vector<double> losses = train(*m, r.steps);
    INFO("from " << losses.front() << " to " << losses.back());
    CHECK(losses.back() < r.factor * losses.front()); // NaN fails
  }
}

// Plain descent moves a parameter by -rate * d loss / d parameter: compare with central differences
// of the loss that the step reports. In gan that is through the gradient inside the critic's loss.
void checkStep(const std::string &name) {
  auto m = differentiated(moduleText(name));
  Interpreter start(*m, Precision::f64, 7);
  start.run("init", {});
  const std::vector<Tensor> inputs = rows(*m->find("train_step"), 5);
  const double rate = start.persistent("learning_rate").data[0], h = 1e-5;
  Interpreter after = start;
  metric(after, "train_step", inputs);
  for (const Persistent &p : m->persistents) {
    bool critic = p.name.find("generator/") == std::string::npos; // that one has its own loss
    if (!critic || *p.meta.find("kind")->asString() != "param") continue;
    const size_t last = start.persistent(p.name).data.size() - 1;
    for (size_t k : {size_t(0), last / 2, last}) {
      INFO(name << " " << p.name << " " << k);
      auto lossAt = [&](double offset) {
        Interpreter moved = start;
        moved.persistent(p.name).data[k] += offset;
        return metric(moved, "train_step", inputs);
      };
      double difference = (lossAt(h) - lossAt(-h)) / (2 * h);
      double moved = start.persistent(p.name).data[k] - after.persistent(p.name).data[k];
      CHECK(std::fabs(moved / rate - difference) < 1e-6 * std::max(1.0, std::fabs(difference)));
    }
  }
}

TEST_CASE("the steps of the hand-written modules follow the gradient", "[ir][modules]") {
  for (const char *name : {"cnn", "bn", "embed", "rnn", "attention", "gan"}) checkStep(name);
}

TEST_CASE("the attached gradient of attention is the gradient of its body", "[ir][modules]") {
  const std::string text = moduleText("attention"), attached = "gradient=\"attention_grad\"";
  std::string plain = text;
  plain.replace(plain.find(attached), attached.size(), "gradient=\"\"");
  TextError e;
  auto byBody = parseModule(plain, e);
  REQUIRE(byBody);
  inlineCalls(*byBody);
  differentiate(*byBody);
  std::vector<double> a = train(*differentiated(text), 20), b = train(*byBody, 20);
  for (size_t k = 0; k < a.size(); ++k) CHECK(std::fabs(a[k] - b[k]) < 1e-12);
}

} // namespace
