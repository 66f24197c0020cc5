// Precision policies: against Keras under the same policy, and compiled against interpreted.
//
// Values are those of tests/reference/precision.json. bf16 keeps 8 bits and f16 11, and the order
// of a sum decides about the last of them, so values agree within two units of the format; that
// they differ from single precision by more than its rounding shows that something was rounded at
// all.
#include "codegen/codegen.h"
#include "ir/passes.h"
#include "tests/compiled_model.h"
#include "tests/library_program.h"
#include <algorithm>

using namespace nnc;
using namespace nnc::fe::test;

namespace {

std::string programFor(const std::string &policy) {
  const std::string last = policy == "float64" ? "f64" : "\"float32\"";
  return "model M(x: [batch, 6]) {\n"
         "  x |> Dense(8, activation = tanh, name = \"dense\")\n"
         "    |> LayerNormalization(name = \"norm\")\n"
         "    |> Dense(3, name = \"head\")\n"
         "    |> Softmax(dtype = " + last + ")\n"
         "}\n"
         "train M {\n"
         "  data = npy(x = \"x.npy\", target = \"y.npy\")\n"
         "  loss = SparseCategoricalCrossentropy()\n"
         "  optimizer = SGD(0.25)\n"
         "  batch_size = 4\n"
         "  precision = \"" + policy + "\"\n"
         "}";
}

// In the order of Keras' weights, which sets the phase of each one's formula.
const char *const kWeights[] = {"dense/kernel", "dense/bias", "norm/gamma",
                                "norm/beta",    "head/kernel", "head/bias"};

void setWeights(Program &p) {
  for (size_t i = 0; i < std::size(kWeights); ++i) {
    ir::Tensor &w = p.weight(kWeights[i]);
    w.data = wave(w.count(), 0.3 * double(i), 0.5, i == 2 ? 1 : 0);
  }
}

double largest(const std::vector<double> &v) {
  double most = 0;
  for (double x : v) most = std::max(most, std::abs(x));
  return most;
}

// Half a unit in the last place of 1; the reference has 12 digits.
double rounding(const std::string &policy) {
  if (policy.find("bfloat16") != std::string::npos) return 0x1p-8;
  return policy == "float16" ? 0x1p-11 : policy == "float64" ? 1e-11 : 0x1p-24;
}

ir::Tensor tensorOf(const ir::Type &type, const std::vector<double> &data, int64_t n) {
  ir::Tensor t;
  t.dtype = type.dtype;
  for (const ir::Dim d : type.dims) t.dims.push_back(d.at(n));
  t.data = data;
  return t;
}

} // namespace

TEST_CASE("a network under each precision policy gives Keras' values", "[library]") {
  std::vector<double> single;
  for (const ir::Meta &c : cases("precision.json")) {
    const std::string policy = *c.find("policy")->asString();
    INFO(policy);
    const double unit = rounding(policy);
    Program p(programFor(policy), ir::Precision::f32);
    setWeights(p);
    const auto x = wave(24, 0.9);
    const auto y = p.run("predict", 4, {x})[0].data;
    checkClose(y, numbers(*c.find("y")), 2 * unit, 2 * unit);
    if (policy == "float32") single = y;
    if (unit > 1e-4) {
      double off = 0;
      for (size_t i = 0; i < y.size(); ++i) off = std::max(off, std::abs(y[i] - single[i]));
      CHECK(off > unit / 16);
    }
    std::map<std::string, std::vector<double>> old;
    for (const char *name : kWeights) old[name] = p.weight(name).data;
    const auto loss = p.run("train_step", 4, {x, {0, 2, 1, 2}}).back().data[0];
    CHECK(std::abs(loss - number(*c.find("loss"))) < 4 * unit + 1e-6);
    for (const char *name : kWeights) {
      INFO(name);
      auto change = p.weight(name).data;
      for (size_t i = 0; i < change.size(); ++i) change[i] -= old[name][i];
      const auto wanted = numbers(*c.find("change")->find(name));
      // A weight moves by whole units of the format it is kept in.
      const double kept = policy == "mixed_bfloat16" ? rounding("float32") : unit;
      checkClose(change, wanted, 0, 16 * unit * largest(wanted) + 2 * kept * largest(old[name]));
    }
  }
}

TEST_CASE("compiled code rounds where the interpreter does", "[library]") {
  for (const char *policy : {"mixed_bfloat16", "bfloat16", "float16", "float64"}) {
    INFO(policy);
    Program p(programFor(policy), ir::Precision::f32);
    setWeights(p);
    ir::runGradient(*p.module, {});
    ir::runOptimize(*p.module, {});
    cg::CodegenOptions o;
    std::string error;
    o.target = *cg::resolveTarget("native", error);
    nnc::test::CompiledModel compiled(*p.module, o);
    for (const ir::Persistent &w : p.module->persistents) {
      ir::Tensor t = p.interpreter->persistent(w.name);
      compiled.setPersistent(w.name, t);
    }
    const ir::Function &f = *p.module->find("train_step");
    std::vector<ir::Tensor> in{tensorOf(f.type(f.params[0].value), wave(24, 0.9), 4),
                               tensorOf(f.type(f.params[1].value), {0, 2, 1, 2}, 4)};
    for (int k = 0; k < 3; ++k) {
      const double want = p.interpreter->run("train_step", in).back().data[0];
      const double got = compiled.run("train_step", in).back().data[0];
      CHECK(std::abs(got - want) < 4 * rounding(policy) * std::abs(want) + 1e-6);
    }
    for (const char *name : kWeights)
      for (const ir::Persistent &w : p.module->persistents)
        if (w.name.ends_with(name)) {
          INFO(w.name);
          const auto want = p.weight(name).data, got = compiled.persistent(w.name).data;
          REQUIRE(want.size() == got.size());
          for (size_t i = 0; i < want.size(); ++i)
            CHECK(std::abs(want[i] - got[i]) <= 4 * rounding(policy) * largest(want) + 1e-6);
        }
  }
}

TEST_CASE("params, state and outputs have the types their policy says", "[elaborate]") {
  auto types = [](const std::string &precision, const std::string &layers) {
    Program p("model M(x: [batch, 4]) { x |> " + layers + " }\n"
              "train M {\n  data = npy(x = \"x.npy\", target = \"y.npy\")\n"
              "  loss = MeanSquaredError()\n  optimizer = SGD(momentum = 0.9)\n" +
                  (precision.empty() ? "" : "  precision = " + precision) + "\n}",
              ir::Precision::f32);
    std::map<std::string, std::string> out;
    for (const ir::Persistent &w : p.module->persistents) out[w.name] = ir::dtypeName(w.type.dtype);
    const ir::Function &f = *p.module->find("predict");
    out["x"] = ir::dtypeName(f.type(f.params[0].value).dtype);
    out["y"] = ir::dtypeName(f.type(f.results[0].value).dtype);
    return out;
  };
  auto t = types("\"mixed_bfloat16\"", "BatchNormalization() |> Dense(2)");
  CHECK(t["m/dense/kernel"] == "f32");
  CHECK(t["m/batch_normalization/moving_mean"] == "f32");
  CHECK(t["x"] == "f32");
  CHECK(t["y"] == "f32"); // files hold no bf16
  t = types("\"bfloat16\"", "BatchNormalization() |> Dense(2)");
  CHECK(t["m/dense/kernel"] == "bf16");
  CHECK(t["m/batch_normalization/moving_mean"] == "f32");
  CHECK(t["sgd/m/dense/kernel/m"] == "f32");
  CHECK(t["metrics/loss/total"] == "f32");
  t = types("f64", "BatchNormalization() |> Dense(2)");
  for (auto &[name, dtype] : t) CHECK((dtype == "f64" || name.ends_with("iterations")));
  t = types("", "Dense(2, dtype = \"float64\") |> Dense(3, dtype = bf16) |> Dense(1)");
  CHECK(t["m/dense/kernel"] == "f64");
  CHECK(t["m/dense_1/kernel"] == "bf16");
  CHECK(t["m/dense_2/kernel"] == "f32");
  t = types("\"mixed_bfloat16\"", "Dense(2, dtype = f64, kernel_initializer = Ones())");
  CHECK(t["m/dense/kernel"] == "f64");
}

TEST_CASE("optimizers compute in the module's float, also for small gradients of f16 weights",
          "[library]") {
  // Squares of such gradients are 0 in f16; Adam's step would divide by its epsilon alone.
  auto step = [](const std::string &precision) {
    Program p("model M(x: [batch, 1]) {\n  param w: [1] = Ones()\n  x * w\n}\n"
              "fn Tiny()(y_true: [batch, 1], y_pred: [batch, 1]) = 1e-4 * y_pred + 0 * y_true\n"
              "train M {\n  data = npy(x = \"x.npy\", target = \"y.npy\")\n  loss = Tiny()\n"
              "  optimizer = Adam(0.125)\n  batch_size = 1\n  precision = " + precision + "\n}",
              ir::Precision::f32);
    p.run("train_step", 1, {{1}, {0}});
    return p.weight("w").data[0];
  };
  CHECK(step("f32") == Approx(0.8788).margin(1e-4));
  CHECK(step("f16") == Approx(0.8788).margin(1e-3));
  CHECK(step("bf16") == Approx(0.8788).margin(4e-3));
}

TEST_CASE("the loss is scaled under mixed_float16, and steps with infinite gradients are skipped",
          "[library]") {
  Program p("model M(x: [batch, 1]) {\n  param w: [1] = Ones()\n  x * w\n}\n"
            "fn Steep()(y_true: [batch, 1], y_pred: [batch, 1]) = y_true * y_pred\n"
            "train M {\n  data = npy(x = \"x.npy\", target = \"y.npy\")\n  loss = Steep()\n"
            "  optimizer = SGD(0.5)\n  batch_size = 1\n  precision = \"mixed_float16\"\n}",
            ir::Precision::f32);
  auto step = [&](double slope) {
    p.run("train_step", 1, {{1}, {slope}});
    return p.weight("w").data[0];
  };
  // 1e-5 has 4 bits in f16, its 32768-fold has 11
  CHECK(step(1e-5) == Approx(1 - 0.5e-5).margin(1e-7));
  CHECK(p.weight("loss_scale").data[0] == 32768);
  CHECK(p.weight("good_steps").data[0] == 1);
  const double before = step(0);
  CHECK(step(4) == before); // 131072 is infinite in f16
  CHECK(p.weight("loss_scale").data[0] == 16384);
  CHECK(p.weight("good_steps").data[0] == 0);
  CHECK(p.weight("iterations").data[0] == 2);
  step(4);
  CHECK(step(4) == Approx(before - 2).margin(1e-3)); // 8192 * 4 is not
  p.weight("good_steps").data[0] = 1999;
  step(0);
  CHECK(p.weight("loss_scale").data[0] == 16384);
  CHECK(p.weight("good_steps").data[0] == 0);
}
