// Random well-typed functions: the passes keep their values, are idempotent, and the text form, the
// verifier and differentiation cope with what comes.
//
// The functions are random_function.h's. A failure prints the seed and the function.
#include "tests/random_function.h"

using namespace nnc::ir;
using namespace nnc::ir::test;

namespace {

void checkPasses(uint64_t seed, bool smooth) {
  auto m = generated(seed, smooth);
  INFO("seed " << seed << "\n" << print(*m));
  REQUIRE(verify(*m) == "");
  differentiate(*m);
  REQUIRE(verify(*m) == "");
  Function &f = *m->find("f");
  Random r(seed);
  const auto in = randomInputs(r, f);
  const auto expected = Interpreter(*m, Precision::f64).run("f", in);
  using Pass = void (*)(Function &, Module &);
  for (const Pass pass : {Pass(foldConstants), Pass(simplify), Pass(cse), Pass(dce), Pass(simplify),
                          Pass(foldConstants)}) {
    pass(f, *m);
    const std::string error = verify(*m);
    INFO(error);
    REQUIRE(error.empty());
    const std::string once = print(*m);
    pass(f, *m);
    REQUIRE(print(*m) == once);
    const auto out = Interpreter(*m, Precision::f64).run("f", in);
    for (size_t k = 0; k < out.size(); ++k)
      for (size_t i = 0; i < out[k].data.size(); ++i) {
        INFO("became\n"
             << once << "result " << k << "[" << i << "]: " << expected[k].data[i] << " became "
             << out[k].data[i]);
        REQUIRE(near(expected[k].data[i], out[k].data[i], smooth ? 1e-7 : 1e-12));
      }
  }
  TextError error;
  auto again = parseModule(print(*m), error);
  REQUIRE(again);
  REQUIRE(print(*again) == print(*m));
}

// The whole pipeline on functions with loops, which it takes apart.
void checkLoops(uint64_t seed, bool smooth) {
  auto m = generated(seed, smooth, DType::f64, true);
  INFO("seed " << seed << "\n" << print(*m));
  differentiate(*m);
  REQUIRE(verify(*m) == "");
  Random r(seed);
  const auto in = randomInputs(r, *m->find("f"));
  const auto expected = Interpreter(*m, Precision::f64).run("f", in);
  PipelineOptions o;
  o.verifyEach = true;
  runOptimize(*m, o);
  const auto out = Interpreter(*m, Precision::f64).run("f", in);
  for (size_t k = 0; k < out.size(); ++k)
    for (size_t i = 0; i < out[k].data.size(); ++i) {
      INFO("became\n"
           << print(*m) << "result " << k << "[" << i << "]: " << expected[k].data[i] << " became "
           << out[k].data[i]);
      REQUIRE(near(expected[k].data[i], out[k].data[i], smooth ? 1e-7 : 1e-12));
    }
}

} // namespace

TEST_CASE("the pipeline keeps the values of random loops") {
  for (uint64_t seed = 5000; seed < 5300; ++seed) checkLoops(seed, false);
}

TEST_CASE("the pipeline keeps the values and gradients of random smooth loops") {
  for (uint64_t seed = 6000; seed < 6200; ++seed) checkLoops(seed, true);
}

TEST_CASE("passes keep the values of random exact functions") {
  for (uint64_t seed = 0; seed < 400; ++seed) checkPasses(seed, false);
}

TEST_CASE("passes keep the values and gradients of random smooth functions") {
  for (uint64_t seed = 1000; seed < 1300; ++seed) checkPasses(seed, true);
}
