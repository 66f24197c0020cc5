// Which code a machine gets: levels by features, names, versions of a portable binary.
#include "codegen/codegen.h"
#include "runtime/abi.h"
#include "tests/compiled_model.h"
#include <catch2/catch.hpp>
#include <set>

using namespace nnc;
using namespace nnc::cg;
using Catch::Matchers::Contains;

namespace {

const std::set<std::string> kAvx2 = {"cx16", "sahf", "popcnt", "sse4.2", "avx",   "avx2",
                                     "bmi",  "bmi2", "f16c",   "fma",    "lzcnt", "movbe"};
const std::set<std::string> kAvx512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"};
const std::set<std::string> kSapphireRapids = {"avx512bf16", "avx512fp16", "amx-tile", "amx-bf16",
                                               "amx-int8"};

std::string levelOf(std::set<std::string> features,
                    std::initializer_list<const char *> without = {}) {
  for (const char *f : without) features.erase(f);
  auto t = bestTarget([&](const char *f) { return features.count(f) > 0; });
  return t ? t->cpu : "none";
}

} // namespace

TEST_CASE("a machine's level follows from its features alone", "[codegen][target]") {
  std::set<std::string> all = kAvx2;
  CHECK(levelOf({}) == "none");
  CHECK(levelOf(all) == "x86-64-v3");
  all.insert(kAvx512.begin(), kAvx512.end());
  CHECK(levelOf(all) == "x86-64-v4");
  all.insert(kSapphireRapids.begin(), kSapphireRapids.end());
  CHECK(levelOf(all) == "sapphirerapids");
  // One feature less is the level below, whichever it is and whatever else is there.
  for (const std::string &f : kAvx2) CHECK(levelOf(all, {f.c_str()}) == "none");
  for (const std::string &f : kAvx512) CHECK(levelOf(all, {f.c_str()}) == "x86-64-v3");
  for (const std::string &f : kSapphireRapids) CHECK(levelOf(all, {f.c_str()}) == "x86-64-v4");
}

TEST_CASE("targets have what their level says", "[codegen][target]") {
  std::string error;
  const Target v3 = *resolveTarget("x86-64-v3", error), v4 = *resolveTarget("x86-64-v4", error),
               spr = *resolveTarget("sapphirerapids", error);
  CHECK(v3.vectorBytes == 32);
  CHECK(v4.vectorBytes == 64);
  CHECK(v3.requiredFeatures == NNC_CPU_X86_64_V3);
  CHECK(v4.requiredFeatures == (NNC_CPU_X86_64_V3 | NNC_CPU_X86_64_V4));
  CHECK(spr.requiredFeatures ==
        (v4.requiredFeatures | NNC_CPU_AVX512_BF16 | NNC_CPU_AVX512_FP16 | NNC_CPU_AMX_BF16));
  CHECK((spr.amx && spr.avx512Bf16 && spr.avx512Fp16));
  CHECK_FALSE((v4.amx || v4.avx512Bf16 || v4.avx512Fp16));
  CHECK(spr.tune == "sapphirerapids");
  for (const char *feature : {"+amx-tile", "+amx-bf16", "+amx-int8", "+avx512fp16", "+avx512bf16"})
    CHECK_THAT(spr.features, Contains(feature));
  const auto versions = resolveTargets("", "portable", error);
  REQUIRE(versions.size() == 2);
  CHECK(versions[0].cpu == "x86-64-v4");
  CHECK(versions[1].cpu == "x86-64-v3");
  CHECK_FALSE(resolveTarget("rocketlake", error));
  CHECK_THAT(error, Contains("unknown target `rocketlake`"));
  CHECK(resolveTargets("riscv64-linux-gnu", "", error).empty());
  CHECK_THAT(error, Contains("known: x86_64-linux-gnu, aarch64-linux-gnu"));
  CHECK(resolveTargets("aarch64-linux-gnu", "x86-64-v3", error).empty());
  CHECK_THAT(error, Contains("neoverse-n1"));
  CHECK(resolveTargets("aarch64-linux-gnu", "native", error).empty());
}

TEST_CASE("versions of a portable binary share what decides bits", "[codegen][target]") {
  auto m = test::loadModule("cnn");
  std::string error;
  CodegenOptions o;
  const auto targets = resolveTargets("", "portable", error);
  o.target = targets[0];
  o.others = {targets[1]};
  auto c = compile(*m, o, Emit::Object);
  REQUIRE(c->versions.size() == 2);
  CHECK(c->codeBytes > 10000);
  CHECK_THAT(c->kernelsText(), Contains("version x86-64-v4\n") && Contains("version x86-64-v3\n"));
  const Version &wide = c->versions[0], &narrow = c->versions[1];
  REQUIRE(wide.functions.size() == narrow.functions.size());
  int narrower = 0;
  for (size_t f = 0; f < wide.functions.size(); ++f) {
    const Program &a = wide.functions[f].program, &b = narrow.functions[f].program;
    REQUIRE(a.launches.size() == b.launches.size());
    for (size_t l = 0; l < a.launches.size(); ++l) {
      const Kernel &x = a.launches[l].kernel, &y = b.launches[l].kernel;
      CHECK(x.schedule.family == y.schedule.family);
      REQUIRE(x.stages.size() == y.stages.size());
      for (size_t s = 0; s < x.stages.size(); ++s)
        CHECK(x.stages[s].order.lanes == y.stages[s].order.lanes);
      narrower += y.schedule.lanes < x.schedule.lanes;
    }
  }
  CHECK(narrower > 0);
}
