// Loops in a plan: where carries lie, what a round costs, and that the hazard checker sees what is
// planted there.
#include "codegen/planning.h"
#include "ir/passes.h"
#include "ir/text.h"
#include "tests/compiled_model.h"
#include <catch2/catch.hpp>

using namespace nnc;
using namespace nnc::cg;
using Catch::Matchers::Contains;

namespace {

CodegenOptions sharedOut() {
  CodegenOptions o;
  std::string error;
  o.target = *resolveTarget("native", error);
  o.plan.single = false; // the kernels of these modules are short
  return o;
}

std::unique_ptr<ir::Module> parsed(const std::string &text) {
  ir::TextError e;
  auto m = ir::parseModule(text, e);
  INFO(e.line << ": " << e.message);
  REQUIRE(m);
  return m;
}

// h' = the rows of h + x[t], the other way round: every item reads what another one writes.
std::string turning(int length, bool reverse) {
  std::string t = std::to_string(length);
  return "nnc-ir 1\n"
         "func @body batch 4 (%h: f32[n,8], %x: f32[8]) {\n"
         "  %row = broadcast %x {dims=[1]} : f32[n,8]\n"
         "  %sum = add %h, %row : f32[n,8]\n"
         "  %next = reverse %sum {dims=[0]} : f32[n,8]\n"
         "  return %next, %h\n"
         "}\n"
         "func @f batch 4 (%h: f32[n,8], %xs: f32[8," + t + "]) {\n"
         "  %last, %all = scan %h, %xs {body=\"body\", carries=1, xs=[1], ys=[1], length=" + t +
         ", reverse=" + (reverse ? "true" : "false") + "} : f32[n,8], f32[n," + t + ",8]\n"
         "  return \"last\" = %last, \"all\" = %all, \"first\" = %h\n"
         "}\n";
}

const CompiledFunction &function(const Compiled &c, const std::string &name) {
  for (const CompiledFunction &f : c.functions())
    if (f.program.function->name == name) return f;
  FAIL("no function " << name);
  throw 0;
}

} // namespace

TEST_CASE("plan: a carry that cannot be written in place takes turns") {
  for (int length : {1, 2, 3, 6})
    for (bool reverse : {false, true}) {
      INFO("length " << length << ", reverse " << reverse);
      auto m = parsed(turning(length, reverse));
      test::CompiledModel c(*m, sharedOut());
      const CompiledFunction &f = function(c.compiled(), "f");
      REQUIRE(f.plan.loops.size() == 1);
      CHECK(f.plan.loops[0].end - f.plan.loops[0].first == 1); // one kernel, no copy
      bool turns = false;
      for (const PlannedArg &a : f.plan.steps[size_t(f.plan.loops[0].first)].args)
        for (const Advance &by : a.advances) turns = turns || (by.even != 0 && by.even == -by.odd);
      CHECK(turns);
      for (int64_t n : {4, 3})
        for (test::ItemOrder order : {test::ItemOrder::forward, test::ItemOrder::shuffled}) {
          c.options.threads = 3, c.options.order = order;
          auto in = test::randomInputs(*m->find("f"), n, 3);
          auto want = ir::Interpreter(*m, ir::Precision::f32).run("f", in), got = c.run("f", in);
          REQUIRE(got.size() == want.size());
          for (size_t k = 0; k < got.size(); ++k) CHECK(got[k].data == want[k].data);
        }
    }
}

TEST_CASE("plan: a loop of no rounds leaves its carries as they are") {
  auto m = parsed("nnc-ir 1\n"
                  "func @body (%h: f32[3], %w: f32[3]) {\n  %next = mul %h, %w : f32[3]\n  return %next\n}\n"
                  "func @f (%h: f32[3], %w: f32[3]) {\n"
                  "  %last = scan %h, %w {body=\"body\", carries=1, xs=[], ys=[], length=0, reverse=false} : f32[3]\n"
                  "  return \"last\" = %last\n}\n");
  for (bool optimised : {false, true}) {
    if (optimised) ir::runOptimize(*m, {});
    test::CompiledModel c(*m, sharedOut());
    auto in = test::randomInputs(*m->find("f"), 1, 3);
    CHECK(c.run("f", in)[0].data == in[0].data);
  }
}

TEST_CASE("plan: a recurrent layer's rounds have a product and one kernel for the rest") {
  auto m = test::loadModule("lstm");
  auto c = compile(*m, sharedOut(), Emit::Memory);
  const CompiledFunction &f = function(*c, "train_step");
  REQUIRE(f.plan.loops.size() == 4); // two directions, there and back
  for (const PlannedLoop &l : f.plan.loops) CHECK(l.end - l.first == 2);
  CHECK_THAT(c->memoryText(),
             Contains("loop f.h, steps") && Contains("4 rounds, last iteration first"));
  CHECK_THAT(c->kernelsText(), Contains("in loop \"f.h\", 4 rounds"));
}

TEST_CASE("plan: hazards in loops") {
  auto m = parsed(turning(3, false));
  auto c = compile(*m, sharedOut(), Emit::Memory);
  CompiledFunction f = function(*c, "f");
  REQUIRE(checkHazards(f.program, f.plan, 4) == "");
  int within = 0;
  for (const Step &s : f.plan.steps) within += s.loop >= 0 && s.barrierBefore;
  REQUIRE(within > 0);

  Plan unguarded = f.plan; // the first round of a loop is fine, the next ones are not
  for (Step &s : unguarded.steps)
    if (s.loop >= 0) s.barrierBefore = false;
  CHECK_THAT(checkHazards(f.program, unguarded, 4), Contains("no barrier"));

  Plan tooFar = f.plan;
  for (PlannedLoop &l : tooFar.loops) l.length += 1;
  CHECK_THAT(checkHazards(f.program, tooFar, 4), Contains("outside"));
}

// Two products of a round whose items get the same rows: what they copy grows with the items.
TEST_CASE("plan: products in a loop have scratch for the items that they share") {
  for (int batch : {256, 1024, 2000})
    for (int wide : {400, 1000, 2048}) {
      const std::string n = std::to_string(batch), w = std::to_string(wide);
      auto m = parsed("nnc-ir 1\n"
                      "func @body batch " +
                      n + " (%h: f32[n,600], %u: f32[" + w + ",600], %v: f32[600," + w +
                      "]) {\n"
                      "  %a = contract %h, %u {x \"m, k\", w \"o, k\", y \"m, o\"} : f32[n," +
                      w +
                      "]\n"
                      "  %b = tanh %a : f32[n," +
                      w +
                      "]\n"
                      "  %c = contract %b, %v {x \"m, k\", w \"o, k\", y \"m, o\"} : f32[n,600]\n"
                      "  return %c\n"
                      "}\n"
                      "func @f batch " +
                      n + " (%h: f32[n,600], %u: f32[" + w + ",600], %v: f32[600," + w +
                      "]) {\n"
                      "  %last = scan %h, %u, %v {body=\"body\", carries=1, xs=[], ys=[], "
                      "length=3, reverse=false} : f32[n,600]\n"
                      "  return \"last\" = %last\n"
                      "}\n");
      CodegenOptions o = sharedOut();
      o.plan.single = true;
      for (const char *cpu : {"x86-64-v3", "x86-64-v4"}) {
        std::string error;
        o.target = *resolveTarget(cpu, error);
        const auto c = compile(*m, o, Emit::Memory);
        for (const Launch &l : function(*c, "f").program.launches) {
          INFO(print(l.kernel, true));
          REQUIRE((l.loop || verify(l.kernel) == ""));
        }
      }
    }
}
