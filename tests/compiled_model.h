// Running compiled code inside the tests: no linking, no process, one thread that plays many.
//
//   CompiledModel c(module, options);           // compile(), then load the object in memory
//   auto out = c.run("train_step", {x, t});     // as ir::Interpreter::run; n from the inputs
//
// The object file's step table is walked item by item as the runtime would do it, for any number of
// virtual threads, in order, reversed, or in a random interleaving between barriers. Every one of
// them must give the same bits. Dead memory can be poisoned with NaN before a call.
#pragma once
#include "codegen/codegen.h"
#include "ir/interpret.h"
#include "runtime/abi.h"
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace nnc::test {

enum class ItemOrder { forward, reversed, shuffled };

struct RunOptions {
  int threads = 1;
  ItemOrder order = ItemOrder::forward;
  uint64_t shuffleSeed = 1;
  bool poison = true; // transients are NaN (bytes 0xff) before each call
};

class CompiledModel {
public:
  CompiledModel(const ir::Module &m, const cg::CodegenOptions &o);
  ~CompiledModel();
  RunOptions options;
  uint64_t step = 0, seed = 0;

  std::vector<ir::Tensor> run(std::string_view function, const std::vector<ir::Tensor> &inputs);
  ir::Tensor persistent(std::string_view name) const;
  void setPersistent(std::string_view name, const ir::Tensor &value);
  std::vector<char> persistentBytes() const { return persistent_; }

  // An operation in one iteration of the loops around it, with its arguments' addresses.
  struct OpRun {
    int64_t op;
    bool barrier;
    uint64_t iteration;
    std::vector<char *> args;
  };
  // Before and after each operation of a run, for the oracle that checks every kernel.
  using Hook = std::function<void(const NncFunction &, const OpRun &, int64_t n)>;
  Hook before, after;
  const cg::Compiled &compiled() const { return *compiled_; }
  const NncModel &model() const { return *model_; }

private:
  struct Jit;
  std::unique_ptr<cg::Compiled> compiled_;
  std::unique_ptr<Jit> jit_;
  const NncModel *model_ = nullptr;
  std::vector<char> persistent_, transient_, input_;
  char *base(std::vector<char> &v) { return v.data() + (-uintptr_t(v.data()) & 63); }
  const char *base(const std::vector<char> &v) const {
    return v.data() + (-uintptr_t(v.data()) & 63);
  }

  void walk(const NncFunction &f, int64_t n);
  void runPhase(const NncFunction &f, const std::vector<OpRun> &ops, int64_t n);
};

// A module of tests/ir, differentiated, optimised and verified after every pass.
std::unique_ptr<ir::Module> loadModule(const std::string &name);
// Random data for the unbound parameters of a function with n rows: floats in [-1, 1], labels below
// 3, bytes.
std::vector<ir::Tensor> randomInputs(const ir::Function &f, int64_t n, uint64_t seed);

// Conversion between memory, where strides are those of the full batch or of a layout, and the
// interpreter's dense doubles.
struct Memory {
  ir::DType dtype;
  ir::Dims dims;
  cg::Layout layout;
  int64_t batch = 0;
};
ir::Tensor readTensor(const char *at, const Memory &m, int64_t n);
void writeTensor(char *at, const Memory &m, const ir::Tensor &value);
// The element type's bytes as doubles, and back.
double loadElement(const char *at, int64_t dtype, int64_t index);
void storeElement(char *at, int64_t dtype, int64_t index, double value);

} // namespace nnc::test
