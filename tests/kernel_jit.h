// Compiled kernels in the tests: emitted, loaded in memory, run on buffers that end (or begin) at a
// page that nobody may touch, so that a byte read or written outside a tensor crashes.
//
//   KernelCode code(kernel, target);        code.run(args, env, 0, itemCount(kernel, env.n));
#pragma once
#include "codegen/cpu/emit.h"
#include "runtime/abi.h"
#include <memory>
#include <vector>

namespace nnc::test {

class KernelCode {
 public:
  KernelCode(const cg::Kernel &k, const cg::Target &t, int level = 2);
  ~KernelCode();
  void run(const std::vector<char *> &args, const NncStepEnv &env, int64_t begin,
           int64_t end) const;

 private:
  struct Jit;
  std::unique_ptr<Jit> jit_;
  NncKernel function_ = nullptr;
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
