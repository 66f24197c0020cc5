// Compiled kernels in the tests: emitted, loaded in memory, run on buffers that end (or begin) at a
// page that nobody may touch, so that a byte read or written outside a tensor crashes.
//
//   KernelCode code(kernel, target);        code.run(args, env, 0, itemCount(kernel, env.n));
//   KernelCodes many({&a, &b}, target);     many[1](args.data(), &env, 0, itemCount(b, env.n));
#pragma once
#include "codegen/cpu/emit.h"
#include "runtime/abi.h"
#include <memory>
#include <optional>
#include <vector>

namespace nnc::test {

// Before code for a target with AMX runs.
void askForTiles();

// What code for tile registers runs on here: the processor's, or emulated ones (tile_ops.h), which
// have the same bits and take AVX-512. Nothing without that.
std::optional<cg::Target> tileTarget();
std::optional<cg::Target> emulatedTiles();

// Kernels that are compiled together, which is faster than one by one.
class KernelCodes {
 public:
  KernelCodes(const std::vector<const cg::Kernel *> &kernels, const cg::Target &t, int level = 2);
  ~KernelCodes();
  NncKernel operator[](size_t i) const { return functions_[i]; }

 private:
  struct Jit;
  std::unique_ptr<Jit> jit_;
  std::vector<NncKernel> functions_;
};

class KernelCode {
 public:
  KernelCode(const cg::Kernel &k, const cg::Target &t, int level = 2) : codes_({&k}, t, level) {}
  void run(const std::vector<char *> &args, const NncStepEnv &env, int64_t begin,
           int64_t end) const {
    codes_[0](args.data(), &env, begin, end);
  }

 private:
  KernelCodes codes_;
};

// Bytes between two forbidden pages; they touch the upper one, or the lower one.
class GuardedBytes {
 public:
  GuardedBytes(size_t size, bool atEnd);
  ~GuardedBytes();
  GuardedBytes(const GuardedBytes &) = delete;
  char *data() const { return data_; }
  size_t size() const { return size_; }

 private:
  char *map_ = nullptr, *data_ = nullptr;
  size_t mapped_ = 0, size_ = 0;
};

} // namespace nnc::test
