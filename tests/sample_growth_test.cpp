// Deep networks: the time of a compilation grows with the number of layers, its code does not.
//
//   for i in 0..1000 { x = x |> Dense(64, activation = relu) }     the kernels of four layers
//
// What is compared are numbers of kernels, and times at a size and at four times the size
// (growth.h).
#include "codegen/codegen.h"
#include "frontend/elaborate.h"
#include "ir/passes.h"
#include "tests/compiled_model.h"
#include "tests/growth.h"
#include <catch2/catch.hpp>
#include <set>

using namespace nnc;

namespace {

const std::string kTraining = R"(
train Net {
  data       = npy(x = "x.npy", target = "y.npy")
  loss       = SparseCategoricalCrossentropy(from_logits = true)
  optimizer  = Adam(1e-3)
  metrics    = [SparseCategoricalAccuracy()]
  batch_size = 8
}
)";

std::string dense(size_t depth) {
  return "model Net(x: [batch, 32]) -> [batch, 10] {\n  for i in 0.." + std::to_string(depth) +
         " { x = x |> Dense(32, activation = relu) |> Dropout(0.1) }\n  x |> Dense(10)\n}\n" +
         kTraining;
}

std::string residual(size_t depth) {
  return R"(
layer Residual(c: int)(x: [batch, h, w, c]) -> [batch, h, w, c] {
  y = x |> Conv2D(c, 3, padding = "same", use_bias = false) |> BatchNormalization() |> relu
  y = y |> Conv2D(c, 3, padding = "same", use_bias = false) |> BatchNormalization()
  relu(x + y)
}
model Net(x: [batch, 8, 8, 3]) -> [batch, 10] {
  x = x |> Conv2D(16, 3, padding = "same")
  for i in 0..)" +
         std::to_string(depth) +
         " { x = x |> Residual(16) }\n  x |> GlobalAveragePooling2D() |> Dense(10)\n}\n" +
         kTraining;
}

std::string transformer(size_t depth) {
  return R"(
layer Attention(heads: int)(x: [batch, time, d]) -> [batch, time, d] {
  q, k, v = [transpose(reshape(z, [batch, time, heads, d // heads]), [0, 2, 1, 3])
             for z in split(Dense(3 * d)(x), 3, axis = -1)]
  score = einsum("bhqe,bhke->bhqk", q, k) / sqrt(d / heads)
  score = where(tril(ones([time, time])) > 0, score, -1e9)
  y = einsum("bhqk,bhke->bhqe", softmax(score), v)
  y |> transpose([0, 2, 1, 3]) |> reshape([batch, time, d]) |> Dense(d)
}
layer Block(heads: int)(x: [batch, time, d]) -> [batch, time, d] {
  x = x + (x |> LayerNormalization() |> Attention(heads) |> Dropout(0.1))
  x + (x |> LayerNormalization() |> Dense(4 * d, activation = gelu) |> Dense(d) |> Dropout(0.1))
}
model Net(x: i32[batch, 16]) -> [batch, 16, 50] {
  x = Embedding(50, 24)(x) + Embedding(16, 24)(range(16))
  for i in 0..)" +
         std::to_string(depth) +
         " { x = x |> Block(3) }\n  x |> LayerNormalization() |> Dense(50)\n}\n" + kTraining;
}

/// An optimised module of a program without mistakes.
std::unique_ptr<ir::Module> optimised(const std::string &text) {
  fe::Sources sources;
  fe::Diagnostics diags(sources);
  auto m = fe::elaborate(sources, sources.add("net.nn", text), diags, {});
  INFO(text);
  REQUIRE(m);
  REQUIRE(!diags.hasErrors());
  ir::runGradient(*m, {});
  ir::runOptimize(*m, {});
  return m;
}

cg::CodegenOptions options() {
  cg::CodegenOptions o;
  std::string error;
  o.target = *cg::resolveTarget("x86-64-v3", error);
  return o;
}

struct Counts {
  size_t distinct, all;
};

Counts kernels(const std::string &text) {
  auto m = optimised(text);
  auto c = cg::compile(*m, options(), cg::Emit::Memory);
  Counts n{0, 0};
  std::set<std::string> seen;
  for (const cg::CompiledFunction &f : c->functions())
    for (const cg::Launch &l : f.program.launches) seen.insert(cg::print(l.kernel, false)), ++n.all;
  n.distinct = seen.size();
  return n;
}

} // namespace

TEST_CASE("repeated layers share their kernels, whatever their number", "[sample][growth]") {
  using Program = std::string (*)(size_t);
  const Program program = GENERATE(Program(dense), Program(residual), Program(transformer));
  const Counts few = kernels(program(8)), many = kernels(program(20));
  INFO(program(8));
  CHECK(many.distinct == few.distinct);
  CHECK(many.all > 2 * few.all);
}

TEST_CASE("weights of one shape are drawn by one kernel, each its own values", "[sample][growth]") {
  auto m = optimised("model Net(x: [batch, 32]) -> [batch, 10] {\n"
                     "  x |> Dense(32) |> Dense(32) |> Dense(32) |> Dense(10)\n}\n" +
                     kTraining);
  test::CompiledModel c(*m, options());
  c.seed = 7;
  c.run("init", {});
  const auto &init = c.model().functions[0];
  REQUIRE(std::string(init.name) == "init");
  std::multiset<NncKernel> draws; // what reads a site: three times 32 x 32, once 32 x 10
  for (int64_t i = 0; i < init.op_count; ++i)
    for (int64_t a = 0; a < init.ops[i].arg_count; ++a)
      if (init.args[init.ops[i].first_arg + a].region == NNC_CONSTANT)
        draws.insert(init.ops[i].kernel);
  CHECK(draws.size() == 4);
  CHECK(std::set<NncKernel>(draws.begin(), draws.end()).size() == 2);
  std::set<std::vector<double>> values;
  for (const char *layer : {"dense", "dense_1", "dense_2"})
    values.insert(c.persistent("net/" + std::string(layer) + "/kernel").data);
  CHECK(values.size() == 3);

  ir::Interpreter interpreter(*m, ir::Precision::f32, 7);
  interpreter.run("init", {});
  for (const char *layer : {"dense", "dense_1", "dense_2"}) {
    const std::string name = "net/" + std::string(layer) + "/kernel";
    CHECK(c.persistent(name).data == interpreter.persistent(name).data);
  }
}

TEST_CASE("a compilation takes time in proportion to the layers", "[sample][growth]") {
  auto compiled = [](std::string (*program)(size_t)) {
    return [program](size_t depth) {
      cg::compile(*optimised(program(depth)), options(), cg::Emit::Memory);
    };
  };
  CHECK(test::growsLinearly(60, compiled(dense)));
  CHECK(test::growsLinearly(12, compiled(residual)));
  CHECK(test::growsLinearly(6, compiled(transformer)));
}
