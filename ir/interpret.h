// Reference interpreter: the meaning of the IR, in naive loops. Oracle of every compiled kernel.
//
//   Interpreter in(module, Precision::f64, /*seed=*/7);
//   in.persistent("net/kernel") = ...;                    // created zero
//   auto out = in.run("train_step", {image, target});     // n from the inputs; updates persistents
//
// f64 computes floats of every type in double (the oracle); f32 rounds each f32 node result to
// float, flushes subnormals and rounds bf16/f16 at their casts, as compiled code does, but takes
// sums in order without lanes: equal to compiled code within reduction order only.
#pragma once
#include "ir/module.h"
#include <map>
#include <span>

namespace nnc::ir {

// A tensor of the interpreter: every element as double (integers are exact to 2^53).
struct Tensor {
  DType dtype = DType::f32;
  std::vector<int64_t> dims;
  std::vector<double> data; // row-major
  int64_t count() const;
};

enum class Precision { f64, f32 };

class Interpreter {
public:
  Interpreter(const Module &m, Precision p, uint64_t seed = 0);
  uint64_t step = 0; // keys random draws; the caller counts training steps
  Tensor &persistent(std::string_view name);
  // Runs a function: `inputs` are its unbound parameters in order. Returns its unbound results in
  // order; bound results replace their persistent values at the end.
  std::vector<Tensor> run(std::string_view function, std::vector<Tensor> inputs);
  // As run, but keeps every value: index is ValueId. For the local oracle.
  std::vector<Tensor> trace(const Function &f, std::vector<Tensor> inputs, int64_t n);

private:
  friend struct Evaluator;
  const Module &m_;
  Precision p_;
  uint64_t seed_;
  std::map<std::string, Tensor, std::less<>> persistent_;
};

// One node on given operands; n is the batch size. Used by the constant folder and by tests.
std::vector<Tensor> evalNode(const Module *m, const Node &node, std::span<const Type> resultTypes,
                             std::span<const Tensor> operands, int64_t n, Precision p);

} // namespace nnc::ir
