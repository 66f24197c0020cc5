// Random functions, compiled against interpreted.
//
// Exact functions must agree bit for bit, whatever fusion, target, threads or batch size do to
// them; smooth ones and their gradients agree within rounding. Every plan passes the hazard
// checker. A failure prints the seed and the function.
#include "tests/compiled_model.h"
#include "tests/random_function.h"
#include <cstdlib>

using namespace nnc;
using namespace nnc::ir;
using nnc::test::CompiledModel;

namespace {

cg::CodegenOptions optionsFor(const char *cpu, bool fused) {
  cg::CodegenOptions o;
  std::string error;
  o.target = *cg::resolveTarget(cpu, error);
  o.fuse.fuse = fused;
  return o;
}

void compare(const std::vector<Tensor> &want, const std::vector<Tensor> &got, double tolerance) {
  REQUIRE(want.size() == got.size());
  for (size_t k = 0; k < want.size(); ++k) {
    REQUIRE(want[k].data.size() == got[k].data.size());
    for (size_t i = 0; i < want[k].data.size(); ++i) {
      double w = want[k].data[i], g = got[k].data[i];
      if (std::isnan(w) && std::isnan(g)) continue;
      INFO("result " << k << "[" << i << "]: interpreted " << w << ", compiled " << g);
      REQUIRE(!(std::abs(w - g) > tolerance * (1 + std::abs(w))));
    }
  }
}

// Parameters may serve as results only under other names: a compiled function returns buffers.
void check(uint64_t seed, bool smooth, DType real = DType::f32, bool scans = false,
           bool tables = false) {
  auto m = ir::test::generated(seed, smooth, real, scans, tables);
  runGradient(*m, {});
  runOptimize(*m, {});
  INFO("seed " << seed << "\n" << print(*m));
  Function &f = *m->find("f");
  for (bool fused : {true, false}) {
    cg::CodegenOptions o = optionsFor("native", fused);
    // all threads take part in kernels of this size only if they must
    o.plan.single = seed % 4 == 0;
    CompiledModel c(*m, o);
    for (const cg::CompiledFunction &cf : c.compiled().functions()) {
      REQUIRE(cg::checkHazards(cf.program, cf.plan, 4) == "");
      REQUIRE(cg::checkHazards(cf.program, cf.plan, 1) == "");
    }
    c.options.threads = fused ? 3 : 1;
    c.options.order = fused ? nnc::test::ItemOrder::shuffled : nnc::test::ItemOrder::forward;
    for (int64_t rows : {4, 2, 1}) {
      ir::test::Random r(seed);
      auto in = ir::test::randomInputs(r, f, rows);
      INFO((fused ? "fused" : "unfused") << ", n = " << rows);
      compare(Interpreter(*m, Precision::f32).run("f", in), c.run("f", in), smooth ? 2e-4 : 0);
    }
  }
}

uint64_t rounds(uint64_t usual) {
  const char *all = std::getenv("NNC_TEST_ALL");
  return all && *all ? usual * 20 : usual;
}

} // namespace

TEST_CASE("random exact functions compile to what they mean") {
  for (uint64_t seed = 0; seed < rounds(60); ++seed) check(seed, false);
}

// Sums of small multiples of 1/4 are exact in f32, so rounding each value to its type is all there
// is to agree on.
TEST_CASE("random exact functions in bf16 and f16 compile to what they mean") {
  for (DType t : {DType::bf16, DType::f16, DType::f64})
    for (uint64_t seed = 3000; seed < 3000 + rounds(20); ++seed) check(seed, false, t);
}

TEST_CASE("random smooth functions and their gradients compile to what they mean") {
  for (uint64_t seed = 1000; seed < 1000 + rounds(40); ++seed) check(seed, true);
}

TEST_CASE("random loops compile to what they mean") {
  for (uint64_t seed = 5000; seed < 5000 + rounds(60); ++seed) check(seed, false, DType::f32, true);
}

TEST_CASE("random smooth loops and their gradients compile to what they mean") {
  for (uint64_t seed = 6000; seed < 6000 + rounds(30); ++seed) check(seed, true, DType::f32, true);
}

TEST_CASE("random tables compile to what they mean") {
  for (DType t : {DType::f32, DType::bf16, DType::f16, DType::f64})
    for (uint64_t seed = 7000; seed < 7000 + rounds(20); ++seed) check(seed, false, t, false, true);
}

TEST_CASE("random tables and their gradients compile to what they mean") {
  for (uint64_t seed = 8000; seed < 8000 + rounds(20); ++seed)
    check(seed, true, DType::f32, false, true);
}
