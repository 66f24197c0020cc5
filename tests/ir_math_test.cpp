// The formula view: lines that a person would write, from a builder's nodes.
#include "ir/builder.h"
#include "ir/passes.h"
#include "ir/text.h"
#include <catch2/catch.hpp>

using namespace nnc::ir;

TEST_CASE("a dense layer and its derivative read as formulas") {
  Module m;
  Function &f = m.add("step", 8);
  Builder b(m, f);
  b.loc = m.addLoc({"net.nn", 3, 5, {}});
  Type x{DType::f32, {Dim::batch(), 4}}, w{DType::f32, {4, 2}};
  V in = b.param("x", x), kernel = b.param("kernel", w), bias = b.param("bias", {DType::f32, {2}});
  b.hint = "z";
  V z = b.contract(in, kernel, "m, k", "k, n", "m, n");
  V s = z + b.broadcastTo(bias, z.type().dims);
  b.hint = "y";
  V y = b.unary(Op::tanh_, s);
  b.hint = "loss";
  V loss = b.sum((y - 1.0) * 2.0, {0, 1});
  b.result("d_kernel", b.grad(loss, {kernel})[0]);
  runGradient(m, {});
  std::string text = printMath(m);
  INFO(text);
  CHECK(text.find("step(x [n,4], kernel [4,2], bias [2])") == 0);
  CHECK(text.find("  z[m,n] = sum over k: x[m,k] * kernel[k,n]") != std::string::npos);
  CHECK(text.find("  y = tanh(z + bias)") != std::string::npos);
  CHECK(text.find("net.nn:3") != std::string::npos);
  CHECK(text.find("1 - y * y") != std::string::npos); // tanh' by its own result
  CHECK(text.find("broadcast") == std::string::npos);
  CHECK(text.find("loss") == std::string::npos); // its value is not needed for the derivative
}

TEST_CASE("precedence keeps the meaning") {
  Module m;
  Function &f = m.add("f", 0);
  Builder b(m, f);
  Type t{DType::f32, {}};
  V a = b.param("a", t), c = b.param("c", t), d = b.param("d", t);
  b.result("r1", a - (c - d));
  b.result("r2", (a + c) * d);
  b.result("r3", a / (c * d));
  b.result("r4", -(a + c));
  std::string text = printMath(m);
  INFO(text);
  CHECK(text.find("r1 := a - (c - d)") != std::string::npos);
  CHECK(text.find("r2 := (a + c) * d") != std::string::npos);
  CHECK(text.find("r3 := a / (c * d)") != std::string::npos);
  CHECK(text.find("r4 := -(a + c)") != std::string::npos);
}
