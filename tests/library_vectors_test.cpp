// The standard library against Keras: values in tests/reference, made by make_vectors.py there.
#include "tests/library_program.h"

using namespace nnc;
using namespace nnc::fe::test;

namespace {

int64_t product(const std::vector<int64_t> &dims) {
  int64_t n = 1;
  for (const int64_t d : dims) n *= d;
  return n;
}

const std::string &textOf(const ir::Meta &c) { return *c.find("nn")->asString(); }
bool flag(const ir::Meta &c, const char *key) { return *c.find(key)->asBool(); }

} // namespace

TEST_CASE("activations give Keras' values", "[library]") {
  for (const ir::Meta &c : cases("activations.json")) {
    INFO(textOf(c));
    Program p("model M(x: [batch, 7]) { " + textOf(c) + " }");
    checkClose(p.run("predict", 2, {numbers(*c.find("x"))})[0].data, numbers(*c.find("y")));
  }
}

TEST_CASE("losses give Keras' values per sample", "[library]") {
  for (const ir::Meta &c : cases("losses.json")) {
    INFO(textOf(c));
    const std::string truth = flag(c, "sparse") ? "i32[batch]" : "[batch, 3]";
    Program p("model M(y_true: " + truth + ", y_pred: [batch, 3]) { " + textOf(c) +
              "(y_true, y_pred) }");
    const auto y = p.run("predict", 3, {numbers(*c.find("y_true")), numbers(*c.find("y_pred"))});
    checkClose(y[0].data, numbers(*c.find("value")));
  }
}

TEST_CASE("optimizers take Keras' steps", "[library]") {
  for (const ir::Meta &c : cases("optimizers.json")) {
    INFO(textOf(c));
    // The loss is the sum of w * x, so that the gradient is x.
    Program p("model M(x: [batch, 2, 3]) -> [batch, 1] {\n"
              "  param w: [2, 3] = Zeros()\n"
              "  reshape(sum(w * x, axis = [1, 2]), [batch, 1])\n"
              "}\n"
              "fn Own()(y_true: [batch, 1], y_pred: [batch, 1]) = y_pred + 0 * y_true\n"
              "train M {\n"
              "  data = npy(x = \"x.npy\", target = \"y.npy\")\n"
              "  loss = Own()\n"
              "  batch_size = 1\n"
              "  optimizer = " +
              textOf(c) + "\n}");
    p.weight("w").data = {1, -2, 3, 0.5, -0.25, 0.125};
    int step = 0;
    for (const ir::Meta &wanted : *c.find("steps")->asList()) {
      p.interpreter->step = uint64_t(step);
      p.run("train_step", 1, {wave(6, step++, 0.4), {0}});
      checkClose(p.weight("w").data, numbers(wanted), 1e-8);
    }
  }
}

TEST_CASE("schedules give Keras' rates", "[library]") {
  for (const ir::Meta &c : cases("schedules.json")) {
    INFO(textOf(c));
    Program p("model M(step: i32[batch]) { " + textOf(c) + "(step) }");
    const auto steps = numbers(*c.find("steps"));
    // Keras computes some schedules in single precision whatever the type.
    checkClose(p.run("predict", int64_t(steps.size()), {steps})[0].data, numbers(*c.find("values")),
               1e-6, 1e-9);
  }
}

TEST_CASE("metrics collect over batches as Keras' do", "[library]") {
  for (const ir::Meta &c : cases("metrics.json")) {
    INFO(textOf(c));
    const int64_t width = *c.find("width")->asInt();
    const bool sparse = flag(c, "sparse");
    const std::string loss = sparse ? "SparseCategoricalCrossentropy()" : "MeanSquaredError()";
    Program p("model M(x: [batch, " + std::to_string(width) +
              "]) {\n"
              "  param w: [] = Zeros()\n"
              "  x + w\n"
              "}\n"
              "train M {\n"
              "  data = npy(x = \"x.npy\", target = \"y.npy\")\n"
              "  loss = " +
              loss +
              "\n"
              "  batch_size = 2\n"
              "  optimizer = SGD()\n"
              "  metrics = [" +
              textOf(c) + "]\n}");
    const auto y = numbers(*c.find("y_true"));
    const auto x = numbers(*c.find("y_pred"));
    const int64_t rows = int64_t(x.size()) / width;
    const int64_t perRow = int64_t(y.size()) / rows;
    for (int64_t row = 0; row < rows; row += 2) {
      const int64_t end = std::min(row + 2, rows);
      p.run("eval_step", end - row,
            {{x.begin() + row * width, x.begin() + end * width},
             {y.begin() + row * perRow, y.begin() + end * perRow}});
    }
    const auto results = p.run("metrics_result", 1, {});
    REQUIRE(results.size() == 2);
    // Keras divides the counts of regions in single precision.
    const bool single = textOf(c).find("IoU") != std::string::npos;
    checkClose(results[1].data, {number(*c.find("value"))}, single ? 1e-6 : 1e-9);
  }
}

TEST_CASE("layers give Keras' values", "[library]") {
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
    if (flag(c, "joined")) names = "[" + names + "]";
    const bool drawn = c.find("training") && flag(c, "training");
    if (drawn) names += ", training = true";
    Program p("model M(" + params + ") { " + textOf(c) + "(" + names + ") }");
    int k = 0;
    for (const ir::Meta &w : *c.find("weights")->asList()) {
      const std::string &name = *(*w.asList())[0].asString();
      ir::Tensor &t = p.weight(name);
      CHECK(t.dims == integers((*w.asList())[1]));
      t.data = wave(t.count(), k++, 0.5, name == "moving_variance" ? 1 : 0);
    }
    const auto y = p.run("predict", n, inputs)[0];
    CHECK(y.dims == integers(*c.find("shape")));
    // Keras computes what it draws in single precision.
    checkClose(y.data, numbers(*c.find("y")), drawn ? 2e-6 : 1e-9, drawn ? 2e-6 : 1e-10);
  }
}

TEST_CASE("penalties and constraints give Keras' values", "[library]") {
  for (const ir::Meta &c : cases("weights.json")) {
    INFO(textOf(c));
    const auto wanted = numbers(*c.find("y"));
    // A penalty is a scalar: hand it on once per row.
    const std::string call = textOf(c) + "(w)";
    Program p(
        "model M(x: [batch, 1]) {\n"
        "  param w: [3, 4] = Zeros()\n" +
        (wanted.size() == 1 ? "  x + " + call + "\n}" : "  reshape(" + call + ", [1, 12]) * x\n}"));
    p.weight("w").data = wave(12, 0, 1.5);
    checkClose(p.run("predict", 1, {{wanted.size() == 1 ? 0.0 : 1.0}})[0].data, wanted);
  }
}

TEST_CASE("recurrent layers give Keras' outputs, states and derivatives", "[library][scan]") {
  for (const ir::Meta &c : cases("recurrent.json")) {
    INFO(textOf(c));
    const RecurrentCase r(c);
    const int64_t n = r.n;
    auto assign = [&](Program &p) {
      int k = 0;
      for (const ir::Meta &w : *c.find("weights")->asList()) {
        ir::Tensor &t = p.weight(*(*w.asList())[0].asString());
        CHECK(t.dims == integers((*w.asList())[1]));
        t.data = wave(t.count(), k++, 0.5);
      }
    };

    Program p(r.predict);
    assign(p);
    const auto found = p.run("predict", n, r.inputs);
    const auto &wanted = *c.find("outputs")->asList();
    REQUIRE(found.size() == wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) checkClose(found[i].data, numbers(wanted[i]));

    Program t(r.train);
    assign(t);
    auto inputs = r.inputs;
    inputs.push_back(std::vector<double>(size_t(n), 0));
    t.run("train_step", n, inputs);
    const auto &gradients = *c.find("gradients")->asList();
    int k = 0;
    for (const ir::Meta &w : *c.find("weights")->asList()) {
      const ir::Tensor &now = t.weight(*(*w.asList())[0].asString());
      auto moved = wave(now.count(), k, 0.5);
      for (size_t i = 0; i < moved.size(); ++i) moved[i] -= now.data[i];
      checkClose(moved, numbers(gradients[size_t(k++)]));
    }
  }
}

TEST_CASE("masks weigh steps and losses as Keras' do", "[library][mask]") {
  for (const ir::Meta &c : cases("masks.json")) {
    INFO(textOf(c));
    const auto x = numbers(*c.find("x")), target = numbers(*c.find("target"));
    const auto weight = numbers(*c.find("weight"));
    Program p(std::string("model M(x: ") + (flag(c, "tokens") ? "i32[batch, 4]" : "[batch, 4, 2]") +
              ") {\n" + textOf(c) + "\n}\ntrain M {\n  data = npy(x = \"x\", target = \"y\"" +
              (weight.empty() ? "" : ", sample_weight = \"w\"") + ")\n  loss = " +
              *c.find("loss")->asString() + "\n  optimizer = SGD(1.0)\n  batch_size = 3\n}");
    int k = 0;
    for (const ir::Meta &w : *c.find("weights")->asList()) {
      ir::Tensor &t = p.weight(*(*w.asList())[0].asString());
      CHECK(t.dims == integers((*w.asList())[1]));
      t.data = wave(t.count(), k++, 0.5);
    }
    checkClose(p.run("predict", 3, {x})[0].data, numbers(*c.find("predict")));
    std::vector<std::vector<double>> inputs{x, target};
    if (!weight.empty()) inputs.push_back(weight);
    const std::vector<double> value{number(*c.find("value"))};
    if (!flag(c, "training")) checkClose(p.run("eval_step", 3, inputs)[0].data, value);
    if (textOf(c).find("dropout") != std::string::npos ||
        textOf(c).find("Dropout") != std::string::npos)
      continue; // drops while training
    checkClose(p.run("train_step", 3, inputs)[0].data, value);
    const auto &gradients = *c.find("gradients")->asList();
    k = 0;
    for (const ir::Meta &w : *c.find("weights")->asList()) {
      const ir::Tensor &now = p.weight(*(*w.asList())[0].asString());
      auto moved = wave(now.count(), k, 0.5);
      for (size_t i = 0; i < moved.size(); ++i) moved[i] -= now.data[i];
      checkClose(moved, numbers(gradients[size_t(k++)]));
    }
  }
}
