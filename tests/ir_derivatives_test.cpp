// The hand-written modules of tests/ir: their gradients against differences, and the optimised
// module against the differentiated one.
#include "ir/copy.h"
#include "ir/passes.h"
#include "tests/ir_helpers.h"
#include <filesystem>
#include <fstream>
#include <sstream>

using namespace nnc::ir;
using namespace nnc::ir::test;

namespace {

const char *kModules[] = {"mlp", "cnn", "bn", "embed", "rnn", "attention", "gan", "adam"};

std::unique_ptr<Module> load(const std::string &name) {
  std::ifstream file(std::string(NNC_SOURCE_DIR) + "/tests/ir/" + name + ".ir");
  std::stringstream text;
  text << file.rdbuf();
  TextError error;
  auto m = parseModule(text.str(), error);
  INFO(name << ".ir:" << error.line << ": " << error.message);
  REQUIRE(m);
  REQUIRE(verify(*m) == "");
  return m;
}

void initialise(Interpreter &in, const Module &m) {
  Random r(5);
  for (const Persistent &p : m.persistents) { // slots and variances are not negative
    const Meta *kind = p.meta.find("kind");
    const bool isParam = kind && kind->asString() && *kind->asString() == "param";
    in.persistent(p.name) = randomTensor(r, p.type, 1, isParam ? -0.2 : 0.05, 0.4 - 0.2 * isParam);
  }
}
std::vector<Tensor> inputsOf(const Function &f, Random &r, int64_t n) {
  std::vector<Tensor> inputs;
  for (const Param &p : f.params)
    if (p.bind.empty()) {
      const Type &t = f.type(p.value);
      inputs.push_back(randomTensor(r, t, n, 0,
                                    t.dtype == DType::u8 ? 256
                                    : isFloat(t.dtype)   ? 1
                                                         : 3));
    }
  return inputs;
}

// Copies of f that stop before its grad node number `which` and give the loss, or give its results.
bool addGradAlone(Module &m, const Function &f, int which) {
  int at = -1;
  for (size_t i = 0; i < f.nodes.size(); ++i)
    if (f.nodes[i].op == Op::grad_ && which-- == 0) at = int(i);
  if (at < 0) return false;
  for (const bool withGradient : {false, true}) {
    Function &g = m.add(withGradient ? "gradient" : "loss", f.batch);
    Copier c(f, g);
    c.params();
    for (int i = 0; i < at + withGradient; ++i) c.node(f.nodes[size_t(i)]);
    const Node &grad = f.nodes[size_t(at)];
    if (!withGradient) g.results.push_back({c.mapped({grad.operands[0]})[0], "loss", false});
    for (int k = 0; withGradient && k < grad.resultCount; ++k)
      g.results.push_back({c.mapped({grad.result(k)})[0], "", false});
  }
  return true;
}

} // namespace

TEST_CASE("gradients of the hand-written modules agree with differences") {
  for (const char *name : kModules)
    for (int which = 0;; ++which) {
      auto m = load(name);
      const Function &f = *m->find("train_step");
      std::vector<std::string> wrt; // persistent names; empty: an inner value
      int seen = 0;
      for (const Node &node : f.nodes)
        if (node.op == Op::grad_ && seen++ == which)
          for (size_t k = 1; k < node.operands.size(); ++k) {
            wrt.push_back("");
            for (const Param &p : f.params)
              if (p.value == node.operands[k]) wrt.back() = p.bind;
          }
      if (!addGradAlone(*m, f, which)) {
        CHECK(which > 0);
        break;
      }
      differentiate(*m);
      const std::string error = verify(*m);
      INFO(name << " grad " << which << ": " << error);
      REQUIRE(error.empty());
      Random r(9);
      const auto inputs = inputsOf(*m->find("train_step"), r, 2);
      Interpreter in(*m, Precision::f64, 1);
      initialise(in, *m);
      const auto gradient = in.run("gradient", inputs);
      for (size_t k = 0; k < wrt.size(); ++k) {
        if (wrt[k].empty()) continue;
        Tensor &x = in.persistent(wrt[k]);
        for (int sample = 0; sample < 4; ++sample) {
          const size_t i = size_t(pick(r, 0, x.count() - 1));
          const double at = x.data[i], h = 1e-6;
          auto value = [&](double v) {
            x.data[i] = v;
            const double loss = in.run("loss", inputs)[0].data[0];
            x.data[i] = at;
            return loss;
          };
          const double difference = (value(at + h) - value(at - h)) / (2 * h);
          INFO(name << ": " << wrt[k] << "[" << i << "]: " << gradient[k].data[i] << ", difference "
                    << difference);
          CHECK(std::isfinite(gradient[k].data[i]));
          CHECK(std::fabs(gradient[k].data[i] - difference) <
                2e-6 * std::max(1.0, std::fabs(difference)));
        }
      }
    }
}

// With the bodies of its loops, between which and the function nodes move.
static size_t nodesOf(const Module &m, const Function &f) {
  size_t count = f.nodes.size();
  for (const Node &n : f.nodes)
    if (const auto *a = std::get_if<ScanAttr>(&n.attr)) count += nodesOf(m, *m.find(a->body));
  return count;
}

TEST_CASE("optimising the hand-written modules keeps their values, and shrinks them") {
  for (const char *name : kModules) {
    INFO(name);
    auto plain = load(name), optimised = load(name);
    PipelineOptions o;
    o.verifyEach = true;
    runGradient(*plain, o);
    inlineCalls(*plain);
    int passes = 0;
    o.after = [&](const PassEvent &) { ++passes; };
    runOptimize(*optimised, o);
    CHECK(passes >= 8);
    for (const char *function : {"train_step", "eval_step", "predict"}) {
      if (!plain->find(function)) continue;
      CHECK(nodesOf(*optimised, *optimised->find(function)) <=
            nodesOf(*plain, *plain->find(function)));
      Random r(9);
      const auto inputs = inputsOf(*plain->find(function), r, 3);
      for (const Precision p : {Precision::f64, Precision::f32}) {
        Interpreter a(*plain, p, 1), b(*optimised, p, 1);
        initialise(a, *plain), initialise(b, *optimised);
        const auto ya = a.run(function, inputs), yb = b.run(function, inputs);
        const double tol = p == Precision::f64 ? 1e-6 : 1e-4; // constants are folded in f32
        for (size_t k = 0; k < ya.size(); ++k)
          for (size_t i = 0; i < ya[k].data.size(); ++i)
            REQUIRE(near(ya[k].data[i], yb[k].data[i], tol));
        for (const Persistent &s : plain->persistents)
          for (size_t i = 0; i < a.persistent(s.name).data.size(); ++i)
            REQUIRE(near(a.persistent(s.name).data[i], b.persistent(s.name).data[i], tol));
      }
    }
    TextError error;
    auto again = parseModule(print(*optimised), error);
    INFO(error.line << ": " << error.message);
    REQUIRE(again);
    CHECK(print(*again) == print(*optimised));
    runOptimize(*again, {});
    CHECK(print(*again) == print(*optimised));
  }
}
