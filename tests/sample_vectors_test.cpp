// Compiled code against Keras: every layer, activation and loss of tests/reference, in single
// precision. The interpreter has the same cases in double (library_vectors_test.cpp).
#include "ir/passes.h"
#include "tests/compiled_model.h"
#include "tests/library_program.h"

using namespace nnc;
using namespace nnc::fe::test;

namespace {

struct Compiled {
  std::unique_ptr<ir::Module> module;
  std::unique_ptr<nnc::test::CompiledModel> model;

  explicit Compiled(const std::string &text) {
    fe::Sources sources;
    fe::Diagnostics diags(sources);
    module = fe::elaborate(sources, sources.add("vector.nn", text), diags);
    INFO(diags.render());
    REQUIRE(module != nullptr);
    ir::runGradient(*module, {});
    ir::runOptimize(*module, {});
    cg::CodegenOptions options;
    std::string error;
    options.target = *cg::resolveTarget("native", error);
    options.check = true;
    model = std::make_unique<nnc::test::CompiledModel>(*module, options);
    model->run("init", {});
  }

  ir::Tensor predict(int64_t n, const std::vector<std::vector<double>> &inputs) {
    return run("predict", n, inputs)[0];
  }

  std::vector<ir::Tensor> run(const char *function, int64_t n,
                              const std::vector<std::vector<double>> &inputs) {
    std::vector<ir::Tensor> tensors;
    const ir::Function &f = *module->find(function);
    for (const ir::Param &p : f.params) {
      if (!p.bind.empty()) continue;
      REQUIRE(tensors.size() < inputs.size());
      ir::Tensor t;
      t.dtype = f.type(p.value).dtype;
      for (const ir::Dim d : f.type(p.value).dims) t.dims.push_back(d.at(n));
      t.data = inputs[tensors.size()];
      tensors.push_back(std::move(t));
    }
    return model->run(function, tensors);
  }

  /// The persistent value whose name ends in `/name`.
  const ir::Persistent &persistent(const std::string &name) const {
    const ir::Persistent *found = nullptr;
    for (const ir::Persistent &v : module->persistents)
      if (v.name.ends_with("/" + name)) found = &v;
    INFO(name);
    REQUIRE(found != nullptr);
    return *found;
  }
  void set(const std::string &name, std::vector<double> values) {
    const ir::Persistent &v = persistent(name);
    ir::Tensor t;
    t.dtype = v.type.dtype;
    for (const ir::Dim d : v.type.dims) t.dims.push_back(d.b);
    t.data = std::move(values);
    model->setPersistent(v.name, t);
  }
  std::vector<double> get(const std::string &name) const {
    return model->persistent(persistent(name).name).data;
  }
};

const std::string &textOf(const ir::Meta &c) { return *c.find("nn")->asString(); }
int64_t product(const std::vector<int64_t> &dims) {
  int64_t n = 1;
  for (const int64_t d : dims) n *= d;
  return n;
}

} // namespace

TEST_CASE("compiled activations give Keras' values", "[sample]") {
  for (const ir::Meta &c : cases("activations.json")) {
    INFO(textOf(c));
    Compiled p("model M(x: [batch, 7]) { " + textOf(c) + " }");
    checkClose(p.predict(2, {numbers(*c.find("x"))}).data, numbers(*c.find("y")), 1e-5, 1e-6);
  }
}

TEST_CASE("compiled losses give Keras' values per sample", "[sample]") {
  for (const ir::Meta &c : cases("losses.json")) {
    INFO(textOf(c));
    const std::string truth = *c.find("sparse")->asBool() ? "i32[batch]" : "[batch, 3]";
    Compiled p("model M(y_true: " + truth + ", y_pred: [batch, 3]) { " + textOf(c) +
               "(y_true, y_pred) }");
    const auto y = p.predict(3, {numbers(*c.find("y_true")), numbers(*c.find("y_pred"))});
    // Where a probability is clipped to 1 - 1e-7, single precision has two digits.
    checkClose(y.data, numbers(*c.find("value")), 2e-4, 1e-6);
  }
}

TEST_CASE("compiled layers give Keras' values", "[sample]") {
  for (const ir::Meta &c : cases("layers.json")) {
    INFO(textOf(c));
    std::string params, names;
    std::vector<std::vector<double>> inputs;
    int64_t n = 0;
    for (const ir::Meta &dims : *c.find("inputs")->asList()) {
      const auto shape = integers(dims);
      const std::string name = "x" + std::to_string(inputs.size());
      params += (params.empty() ? "" : ", ") + name + ": " + typeText(shape);
      names += (names.empty() ? "" : ", ") + name;
      n = shape[0];
      inputs.push_back(wave(product(shape), double(inputs.size()) / 2));
    }
    if (c.find("training") && *c.find("training")->asBool()) names += ", training = true";
    Compiled p("model M(" + params + ") { " + textOf(c) +
               (*c.find("joined")->asBool() ? "([" + names + "])" : "(" + names + ")") + " }");
    int k = 0;
    for (const ir::Meta &w : *c.find("weights")->asList()) {
      const std::string &name = *(*w.asList())[0].asString();
      for (const ir::Persistent &v : p.module->persistents) {
        if (!v.name.ends_with("/" + name)) continue;
        ir::Tensor t;
        t.dtype = v.type.dtype;
        t.dims = integers((*w.asList())[1]);
        t.data = wave(product(t.dims), k, 0.5, name == "moving_variance" ? 1 : 0);
        p.model->setPersistent(v.name, t);
      }
      ++k;
    }
    checkClose(p.predict(n, inputs).data, numbers(*c.find("y")), 1e-5, 2e-6);
  }
}

TEST_CASE("compiled recurrent layers give Keras' outputs, states and derivatives",
          "[sample][scan]") {
  for (const ir::Meta &c : cases("recurrent.json")) {
    INFO(textOf(c));
    const RecurrentCase r(c);
    const auto &weights = *c.find("weights")->asList();
    auto name = [&](size_t k) { return *(*weights[k].asList())[0].asString(); };
    auto initial = [&](size_t k) {
      return wave(product(integers((*weights[k].asList())[1])), double(k), 0.5);
    };
    Compiled p(r.predict);
    for (size_t k = 0; k < weights.size(); ++k) p.set(name(k), initial(k));
    const auto found = p.run("predict", r.n, r.inputs);
    const auto &wanted = *c.find("outputs")->asList();
    REQUIRE(found.size() == wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i)
      checkClose(found[i].data, numbers(wanted[i]), 1e-5, 2e-6);

    Compiled t(r.train);
    for (size_t k = 0; k < weights.size(); ++k) t.set(name(k), initial(k));
    auto inputs = r.inputs;
    inputs.emplace_back(size_t(r.n), 0.0);
    t.run("train_step", r.n, inputs);
    const auto &gradients = *c.find("gradients")->asList();
    for (size_t k = 0; k < weights.size(); ++k) {
      auto moved = initial(k);
      const auto now = t.get(name(k));
      for (size_t i = 0; i < moved.size(); ++i) moved[i] -= now[i];
      checkClose(moved, numbers(gradients[k]), 2e-5, 2e-5);
    }
  }
}

TEST_CASE("compiled derivatives of derivatives of recurrent layers are JAX's", "[sample][scan]") {
  for (const ir::Meta &c : cases("recurrent_steps.json")) {
    const std::string name = *c.find("name")->asString();
    INFO(name);
    Compiled p(secondOrderProgram(*c.find("layer")->asString()));
    const std::vector<std::string> weights{name + "/kernel", name + "/recurrent_kernel",
                                           name + "/bias", "dense/kernel", "dense/bias"};
    const auto &wanted = *c.find("weights")->asList();
    for (size_t k = 0; k < weights.size(); ++k)
      p.set(weights[k], wave(int64_t(numbers(wanted[k]).size()), 0.3 * double(k), 0.5));
    const auto loss = p.run("train_step", 3, {wave(24, 0.9), wave(3, 0.2)});
    CHECK(loss[0].data[0] == Approx(number(*c.find("loss"))).epsilon(1e-4));
    for (size_t k = 0; k < weights.size(); ++k)
      checkClose(p.get(weights[k]), numbers(wanted[k]), 1e-4, 1e-4);
  }
}
