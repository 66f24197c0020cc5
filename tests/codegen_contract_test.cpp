// Contractions of random shapes, compiled as a program compiles them, against the interpreter.
//
// Problem. tests/codegen_shapes_test.cpp holds each schedule of a kernel against the plain
// evaluation of that same kernel. What stands before the kernel (how a contraction is split into
// phases, its operands' views read through, its result's order and epilogue fused) is seen only
// from above.
//
// Method. A seed makes a function with one product or convolution (random_contraction.h) in which
// all sums are exact: its operands are small integers, so that the compiled results must equal
// those of ir::Interpreter whatever the order of the sums. Many functions are one module, compiled
// at once. Each runs with its full batch and with a smaller one, on threads of a number that the
// seed chooses. A failure prints the seed:
//
//   NNC_CONTRACTIONS=17 ./nnc_tests "[contractions]"         seed 17; 17-99: these seeds
#include "ir/passes.h"
#include "tests/compiled_model.h"
#include "tests/random_contraction.h"
#include <catch2/catch.hpp>
#include <cstdlib>

using namespace nnc;
using namespace nnc::test;

namespace {

// Integers from -3 to 3, or from 0 on where the type has no sign.
ir::Tensor integers(Random &r, const ir::Type &type, int64_t n) {
  ir::Tensor t{type.dtype, {}, {}};
  for (ir::Dim d : type.dims) t.dims.push_back(d.at(n));
  t.data.resize(size_t(t.count()));
  const int64_t least = type.dtype == ir::DType::u8 ? 0 : -3;
  for (double &v : t.data) v = double(pick(r, least, 3));
  return t;
}

cg::CodegenOptions native() {
  cg::CodegenOptions o;
  std::string error;
  o.target = *cg::resolveTarget("native", error);
  return o;
}

// Seeds [first, end) as the functions of one module.
std::unique_ptr<ir::Module> functions(uint64_t first, uint64_t end) {
  auto m = std::make_unique<ir::Module>();
  for (uint64_t seed = first; seed < end; ++seed) {
    Random r(seed);
    RandomContraction(r, true).addTo(*m, "f" + std::to_string(seed));
  }
  return m;
}

void checkTogether(uint64_t first, uint64_t end) {
  const auto meant = functions(first, end), optimized = functions(first, end);
  ir::runOptimize(*optimized, {});
  CompiledModel c(*optimized, native());
  for (const cg::CompiledFunction &f : c.compiled().functions()) {
    std::string kernels;
    for (const cg::Launch &l : f.program.launches) kernels += cg::print(l.kernel, true);
    INFO(print(*meant, *meant->find(f.program.function->name)) << kernels);
    REQUIRE(cg::checkHazards(f.program, f.plan, f.program.batch) == "");
  }
  for (uint64_t seed = first; seed < end; ++seed) {
    const std::string name = "f" + std::to_string(seed);
    const ir::Function &f = *meant->find(name);
    Random r(seed);
    c.options.threads = int(pick(r, 1, 4));
    c.options.order = ItemOrder(pick(r, 0, 2));
    for (int64_t n : {f.batch, pick(r, 1, f.batch)}) {
      std::vector<ir::Tensor> in;
      for (const ir::Param &p : f.params) in.push_back(integers(r, f.type(p.value), n));
      const auto want = ir::Interpreter(*meant, ir::Precision::f32).run(name, in);
      const auto got = c.run(name, in);
      INFO("seed " << seed << ", n = " << n << "\n" << print(*meant, f));
      REQUIRE(want.size() == got.size());
      for (size_t k = 0; k < want.size(); ++k) {
        INFO("result " << k);
        REQUIRE((want[k].data == got[k].data));
      }
    }
  }
}

void checkRange(uint64_t first, uint64_t end) {
  constexpr uint64_t Together = 50;
  for (; first < end; first += Together) checkTogether(first, std::min(end, first + Together));
}

// A quarter of the ten thousand seeds, or the seeds asked for.
void check(uint64_t quarter) {
  if (const char *asked = std::getenv("NNC_CONTRACTIONS")) {
    const std::string text = asked;
    const size_t dash = text.find('-');
    const uint64_t first = std::stoull(text);
    const uint64_t last = dash == std::string::npos ? first : std::stoull(text.substr(dash + 1));
    if (quarter == 0) checkRange(first, last + 1);
    return;
  }
#if defined(__SANITIZE_ADDRESS__) // slower, and the kernels themselves are not instrumented
  constexpr uint64_t Quarter = 125;
#else
  constexpr uint64_t Quarter = 2500;
#endif
  checkRange(quarter * 2500, quarter * 2500 + Quarter);
}

} // namespace

// Four test cases, so that they can run side by side.
TEST_CASE("contractions of random shapes compile to what they mean", "[codegen][contractions]") {
  check(0);
}

TEST_CASE("contractions of random shapes compile to what they mean: second quarter",
          "[codegen][contractions]") {
  check(1);
}

TEST_CASE("contractions of random shapes compile to what they mean: third quarter",
          "[codegen][contractions]") {
  check(2);
}

TEST_CASE("contractions of random shapes compile to what they mean: last quarter",
          "[codegen][contractions]") {
  check(3);
}
