// Checks of compiled kernels, bit by bit, against the plain evaluation of their definition: for
// AVX2 and AVX-512 code, tuned or not, for every way to share the items, for full and partial
// batches, on buffers with forbidden pages around them.
//
//   check(kernel, {32, 31, 1});      // schedules it for every target that this machine can run
#pragma once
#include "ir/random.h"
#include "tests/kernel_build.h"
#include "tests/kernel_data.h"
#include "tests/kernel_eval.h"
#include "tests/kernel_jit.h"
#include <catch2/catch.hpp>

namespace nnc::test {

inline std::vector<Target> targets() {
  std::vector<Target> list;
  for (const char *name : {"x86-64-v3", "x86-64-v4", "sapphirerapids"}) {
    std::string error;
    std::optional<Target> native = resolveTarget("native", error), t = resolveTarget(name, error);
    if (native && t && (native->requiredFeatures & t->requiredFeatures) == t->requiredFeatures)
      list.push_back(*t);
  }
  return list;
}

// Runs the items in pieces: `share` 0 all at once, 1 singly from the last to the first, 2 thirds.
inline void runItems(const KernelCode &code, const Kernel &k, const std::vector<char *> &args,
              const NncStepEnv &env, int share) {
  const int64_t items = itemCount(k, env.n);
  if (share == 0) code.run(args, env, 0, items);
  if (share == 1)
    for (int64_t i = items; i-- > 0;) code.run(args, env, i, i + 1);
  if (share == 2)
    for (int64_t t = 0; t < 3; ++t) code.run(args, env, items * t / 3, items * (t + 1) / 3);
}

inline void checkAt(const Kernel &k, const KernelCode &code, int64_t n, const Data &data,
             const std::string &name) {
  Data fill = data;
  std::vector<std::vector<char>> start, want;
  for (const KernelArg &a : k.args) {
    const int64_t count = ir::elementCount(a.dims, std::max<int64_t>(k.batch, 1));
    start.emplace_back(size_t(count * ir::dtypeBytes(a.dtype)));
    fill.fill(start.back(), a.dtype);
  }
  want = start;
  std::vector<char *> plain;
  for (auto &w : want) plain.push_back(w.data());
  FlushSubnormals flush;
  KernelEval(k, plain, n, 7, 42, 3).run();
  GuardedBytes scratch(size_t(k.schedule.scratchBytes) + 64, false);
  for (int share = 0; share < 3; ++share) {
    // Not a number in every type: what an item left there, or nobody wrote, is not to be read.
    std::memset(scratch.data(), 0xff, scratch.size());
    std::vector<std::unique_ptr<GuardedBytes>> memory;
    std::vector<char *> args;
    for (auto &s : start) {
      memory.push_back(std::make_unique<GuardedBytes>(s.size(), share != 1));
      if (!s.empty()) std::memcpy(memory.back()->data(), s.data(), s.size());
      args.push_back(memory.back()->data());
    }
    NncStepEnv env{n, 7, 42, scratch.data(), 3};
    runItems(code, k, args, env, share);
    for (size_t i = 0; i < args.size(); ++i) {
      const std::string wrong = difference(k, i, want[i], args[i]);
      if (wrong.empty()) continue;
      INFO(name << " n " << n << " share " << share << ": " << wrong << "\n" << print(k, true));
      REQUIRE(wrong == "");
    }
  }
}

inline void check(const Kernel &kernel, std::vector<int64_t> ns = {1}, const Data &data = {}) {
  for (const Target &t : targets()) {
    Kernel k = kernel;
    schedule(k, t);
    REQUIRE(verify(k) == "");
    KernelCode code(k, t);
    for (int64_t n : ns) checkAt(k, code, n, data, t.cpu);
  }
}

inline std::vector<int64_t> batchSizes(int64_t batch) {
  std::vector<int64_t> ns = {batch};
  if (batch > 1) ns.push_back(batch - 1), ns.push_back(1);
  if (batch > 4) ns.push_back(batch / 2 + 1);
  return ns;
}

} // namespace nnc::test
