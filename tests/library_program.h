// Shared by the library_ tests: a program in .nn, elaborated and run by the reference interpreter.
//
//   Program p("model M(x: [batch, 2]) { relu(x) }");
//   p.predict({{{1, 2}, {-1, 3}}});             // one tensor of dims {1, 2}
//
// Arithmetic is in double, so that values can be compared with those of Keras in double, or in the
// program's own types.
#pragma once
#include "frontend/elaborate.h"
#include "ir/gradient.h"
#include "ir/interpret.h"
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

namespace nnc::fe::test {

inline std::string readText(const std::string &path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

/// A file of tests/reference.
inline ir::Meta reference(const std::string &name) {
  const std::string path = std::string(NNC_SOURCE_DIR) + "/tests/reference/" + name;
  ir::Meta m;
  std::string error;
  INFO(path);
  REQUIRE(parseJson(readText(path), m, error));
  return m;
}

/// The cases of a file of tests/reference.
inline ir::Meta::List cases(const std::string &name) { return *reference(name).asList(); }

inline double number(const ir::Meta &m) {
  if (const int64_t *i = m.asInt()) return double(*i);
  return m.asFloat() ? *m.asFloat() : NAN;
}
inline std::vector<double> numbers(const ir::Meta &m) {
  std::vector<double> v;
  for (const ir::Meta &x : *m.asList()) v.push_back(number(x));
  return v;
}
inline std::vector<int64_t> integers(const ir::Meta &m) {
  std::vector<int64_t> v;
  for (const ir::Meta &x : *m.asList()) v.push_back(*x.asInt());
  return v;
}

/// Element i: shift + scale * sin(0.7 * i + phase), as tests/reference/make_vectors.py has it.
inline std::vector<double> wave(int64_t n, double phase, double scale = 1, double shift = 0) {
  std::vector<double> v(n);
  for (int64_t i = 0; i < n; ++i) v[i] = shift + scale * std::sin(0.7 * double(i) + phase);
  return v;
}

/// `[batch, 3, 4]` for dims {2, 3, 4}.
inline std::string typeText(const std::vector<int64_t> &dims) {
  std::string text = "[batch";
  for (size_t i = 1; i < dims.size(); ++i) text += ", " + std::to_string(dims[i]);
  return text + "]";
}

/// A case of recurrent.json: a program of the layer's outputs, and one whose training step at rate
/// 1 subtracts from the weights the derivatives of sum(first output ** 2) / batch.
struct RecurrentCase {
  std::string predict, train;
  int64_t n;
  std::vector<std::vector<double>> inputs; // the training step also takes n zeros

  explicit RecurrentCase(const ir::Meta &c) {
    const std::string layer = *c.find("nn")->asString();
    const auto shape = integers(*c.find("input"));
    auto filled = [](const std::vector<int64_t> &dims, double phase) {
      int64_t count = 1;
      for (const int64_t d : dims) count *= d;
      return wave(count, phase);
    };
    n = shape[0];
    std::string params = "x: " + typeText(shape), args = "x", columns = ", x = \"d.npy\"", states;
    inputs.push_back(filled(shape, 0));
    if (const auto mask = numbers(*c.find("mask")); !mask.empty()) {
      params += ", keep: bool[batch, " + std::to_string(shape[1]) + "]";
      args += ", mask = keep";
      columns += ", keep = \"d.npy\"";
      inputs.push_back(mask);
    }
    int k = 0;
    for (const ir::Meta &s : *c.find("states")->asList()) {
      const std::string name = "s" + std::to_string(k);
      params += ", " + name + ": " + typeText(integers(s));
      columns += ", " + name + " = \"d.npy\"";
      states += (states.empty() ? "" : ", ") + name;
      inputs.push_back(filled(integers(s), k++ + 0.3));
    }
    if (!states.empty()) args += ", initial_state = [" + states + "]";
    const std::string call = layer + "(" + args + ")";
    predict = "model M(" + params + ") { " + call + " }";
    train = "model M(" + params + ") {\n  y = spread(" + call +
            ")[0]\n"
            "  reshape(sum(square(y), axis = [i for i in 1..rank(y)]), [batch, 1])\n}\n"
            "fn Own()(y_true: [batch, 1], y_pred: [batch, 1]) = y_pred + 0 * y_true\n"
            "train M {\n  data = npy(target = \"y.npy\"" +
            columns + ")\n  loss = Own()\n  optimizer = SGD(1.0)\n  batch_size = 3\n}";
  }
};

/// A program whose step has derivatives of derivatives of a recurrent layer: a case of
/// recurrent_steps.json. Inputs are wave(24, 0.9) and wave(3, 0.2), of 3 rows.
inline std::string secondOrderProgram(const std::string &layer) {
  return "model Net(x: [batch, 4, 2]) -> [batch, 1] { x |> " + layer +
         " |> Dense(1) }\nnet = Net()\n"
         "train net {\n  data = npy(x = \"x.npy\", y = \"y.npy\")\n  batch_size = 3\n"
         "  step(x: [batch, 4, 2], y: [batch, 1]) {\n"
         "    slope = sqrt(sum(grad(sum(net(x)), x) ** 2, axis = [1, 2]))\n"
         "    inner = grad(mean((net(x) - y) ** 2), weights(net))\n"
         "    fast = weights(net) - 0.1 * inner\n"
         "    again = mean((net(flip(x, 0), weights = fast) - y) ** 2)\n"
         "    loss = 10 * mean((slope - 1) ** 2) + again\n"
         "    minimize loss over net with SGD(0.1)\n    report loss\n  }\n}";
}

class Program {
 public:
  explicit Program(const std::string &text, ir::Precision precision = ir::Precision::f64) {
    const uint32_t file = sources.add("test.nn", text);
    Diagnostics diags(sources);
    module = elaborate(sources, file, diags);
    INFO(text);
    INFO(diags.render());
    REQUIRE(module != nullptr);
    ir::differentiate(*module);
    ir::inlineCalls(*module);
    interpreter = std::make_unique<ir::Interpreter>(*module, precision);
    if (module->find("init")) interpreter->run("init", {});
  }

  /// The persistent value whose name is `name` or ends in `/name`; the test fails unless there is
  /// exactly one.
  ir::Tensor &weight(const std::string &name) {
    const std::string end = "/" + name;
    const std::string *found = nullptr;
    for (const ir::Persistent &p : module->persistents)
      if (p.name == name) return interpreter->persistent(name);
    for (const ir::Persistent &p : module->persistents) {
      if (p.name != name && !p.name.ends_with(end)) continue;
      INFO(name << ": " << p.name << (found ? ", " + *found : ""));
      REQUIRE(found == nullptr);
      found = &p.name;
    }
    INFO(name);
    REQUIRE(found != nullptr);
    return interpreter->persistent(*found);
  }

  /// Runs a function; the inputs in the order of its own parameters, their dims as declared.
  std::vector<ir::Tensor> run(const std::string &function, int64_t n,
                              const std::vector<std::vector<double>> &inputs) {
    const ir::Function *f = module->find(function);
    INFO(function);
    REQUIRE(f != nullptr);
    std::vector<ir::Tensor> tensors;
    for (const ir::Param &p : f->params) {
      if (!p.bind.empty()) continue;
      const ir::Type &type = f->type(p.value);
      REQUIRE(tensors.size() < inputs.size());
      ir::Tensor t;
      t.dtype = type.dtype;
      for (const ir::Dim d : type.dims) t.dims.push_back(d.at(n));
      t.data = inputs[tensors.size()];
      REQUIRE(t.count() == int64_t(t.data.size()));
      tensors.push_back(std::move(t));
    }
    REQUIRE(tensors.size() == inputs.size());
    return interpreter->run(function, tensors);
  }

  Sources sources;
  std::unique_ptr<ir::Module> module;
  std::unique_ptr<ir::Interpreter> interpreter;
};

inline void checkClose(const std::vector<double> &found, const std::vector<double> &wanted,
                       double relative = 1e-9, double absolute = 1e-10) {
  REQUIRE(found.size() == wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    INFO("element " << i << ": found " << found[i] << ", wanted " << wanted[i]);
    CHECK(std::abs(found[i] - wanted[i]) <= absolute + relative * std::abs(wanted[i]));
  }
}

} // namespace nnc::fe::test
