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
    std::vector<ir::Tensor> tensors;
    const ir::Function &f = *module->find("predict");
    for (const ir::Param &p : f.params) {
      if (!p.bind.empty()) continue;
      REQUIRE(tensors.size() < inputs.size());
      ir::Tensor t;
      t.dtype = f.type(p.value).dtype;
      for (const ir::Dim d : f.type(p.value).dims) t.dims.push_back(d.at(n));
      t.data = inputs[tensors.size()];
      tensors.push_back(std::move(t));
    }
    return model->run("predict", tensors)[0];
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
