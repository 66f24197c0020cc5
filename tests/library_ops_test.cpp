// Functions of tensors in the standard library: values and derivatives against JAX in double
// precision, from tests/reference/ops.json, made by make_ops.py there.
#include "tests/library_program.h"

using namespace nnc;
using namespace nnc::fe::test;

namespace {

/// A model with the inputs of make_ops.py, to which `body` is added.
std::unique_ptr<Program> program(const std::string &body) {
  auto p = std::make_unique<Program>("model M(z: [batch, 1]) {\n"
                                     "  param a: [3, 4] = Zeros()\n"
                                     "  param s: [4, 4] = Zeros()\n"
                                     "  param v: [5] = Zeros()\n"
                                     "  i = cast([[2, 0], [1, 3], [-1, 2]], i32)\n" +
                                     body + "\n}\n_ = M()\n");
  for (const ir::Persistent &w : p->module->persistents) {
    ir::Tensor &t = p->interpreter->persistent(w.name);
    if (w.name.ends_with("/a")) t.data = wave(12, 0.3, 2);
    if (w.name.ends_with("/v")) t.data = wave(5, 0.1);
    if (!w.name.ends_with("/s")) continue;
    t.data = wave(16, 0.9);
    for (int k = 0; k < 4; ++k) t.data[5 * k] += 1.5;
  }
  return p;
}

} // namespace

TEST_CASE("functions of tensors give JAX's values and derivatives", "[library]") {
  for (const ir::Meta &c : cases("ops.json")) {
    const std::string &text = *c.find("nn")->asString();
    INFO(text);
    std::string names, grads;
    for (const char *name : {"a", "s", "v"})
      if (c.find("d" + std::string(name))) names += (names.empty() ? "" : ", ") + std::string(name);
    if (!names.empty()) grads = ", ..[g for g in [..grad(sum(y * w), [" + names + "])]]";
    auto p = program("  y = " + text +
                     "\n  w = reshape(sin(1.3 * cast(iota([size(y)]), float) + 0.4), shape(y))\n"
                     "  [cast(y, float)" +
                     grads + "]");
    const auto found = p->run("predict", 1, {{0}});
    checkClose(found[0].data, numbers(*c.find("y")), 1e-9, 1e-9);
    CHECK(int64_t(found[0].dims.size()) == *c.find("rank")->asInt());
    size_t next = 1;
    for (const char *name : {"da", "ds", "dv"})
      if (const ir::Meta *g = c.find(name)) {
        INFO(name);
        checkClose(found.at(next++).data, numbers(*g), 1e-8, 1e-8);
      }
  }
}

TEST_CASE("what is not finite is found and replaced", "[library]") {
  const double big = 3.4028234663852886e38;
  auto run = [](const std::string &body) {
    Program p("model M(x: [batch]) { cast(" + body + ", float) }", ir::Precision::f32);
    return p.run("predict", 4, {{1, INFINITY, -INFINITY, NAN}})[0].data;
  };
  using D = std::vector<double>;
  CHECK(run("isinf(x)") == D{0, 1, 1, 0});
  CHECK(run("isfinite(x)") == D{1, 0, 0, 0});
  CHECK(run("isclose(x, x)") == D{1, 1, 1, 0});
  CHECK(run("nan_to_num(x)") == D{1, big, -big, 0});
  CHECK(run("nan_to_num(x, nan = 2.0, posinf = 3.0, neginf = 4.0)") == D{1, 3, 4, 2});
  // Without overflow, and without a derivative that is no number.
  Program p("model M(x: [batch]) { y = logaddexp(x, 1)\n (y, grad(sum(y), x)) }");
  const auto y = p.run("predict", 3, {{1e4, -1e4, -INFINITY}});
  CHECK(y[0].data == D{1e4, 1, 1});
  CHECK(y[1].data == D{1, 0, 0});
}

TEST_CASE("activations of bf16 and f16 round once", "[library]") {
  std::vector<double> x; // of bf16 and f16 both, over several powers of two
  for (int k = -96; k <= 96; ++k) x.push_back(k / 16.0);
  for (const char *f :
       {"elu(z)", "celu(z, 0.7)", "selu(z)", "gelu(z)", "gelu(z, approximate = true)", "silu(z)",
        "mish(z)", "hard_sigmoid(z)", "hard_silu(z)", "softplus(z)", "log_sigmoid(z)",
        "softsign(z)", "squareplus(z)", "tanh_shrink(z)", "sparse_plus(z)", "sparse_sigmoid(z)",
        "glu(stack([z, z], -1))"})
    for (const char *type : {"bf16", "f16"}) {
      INFO(f << " of " << type);
      const std::string t = type;
      Program p("model M(x: [batch]) {\n  f = fn(z) = " + std::string(f) + "\n  y = cast(x, " + t +
                    ")\n  once = cast(f(x), " + t + ")\n  check(dtype(f(y)) == " + t +
                    ", \"the type of the argument\")\n  [cast(f(y), float), cast(once, float)]\n}",
                ir::Precision::f32);
      const auto found = p.run("predict", int64_t(x.size()), {x});
      CHECK(found[0].data == found[1].data);
    }
}
