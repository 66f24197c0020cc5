// Inside the interpreter: what one node's evaluation sees, shared by interpret.cpp (functions,
// control, pointwise rows) and interpret_tensor.cpp (one eval_<op> per TENSOR row of ops.def).
#pragma once
#include "ir/interpret.h"
#include "ir/scalar_math.h"

namespace nnc::ir {

// Runs functions: the environment of `call`, `scan` and `random`.
struct Evaluator {
  const Module *m = nullptr;
  Precision p = Precision::f64;
  uint64_t seed = 0, step = 0;
  // All parameters in, all results out. `keep`, if given, receives every value by ValueId.
  std::vector<Tensor> execute(const Function &f, std::vector<Tensor> args, int64_t n,
                              uint64_t iteration, std::vector<Tensor> *keep = nullptr) const;
};

// One node on its operands.
struct Evaluation {
  const Evaluator &run;
  const Node &node;
  std::vector<const Tensor *> in;
  std::vector<Tensor> out; // sized to the result types, zero
  int64_t n = 0;           // the batch size
  int64_t full = 0;        // the function's largest n: random's logical index
  uint64_t iteration = 0;  // position in the enclosing scans

  template <class A> const A &attr() const { return std::get<A>(node.attr); }
  const Tensor &x(size_t k = 0) const { return *in[k]; }
  Tensor &y(size_t k = 0) { return out[k]; }
};

std::vector<Tensor> evaluate(const Evaluator &run, const Node &node, std::span<const Type> types,
                             std::vector<const Tensor *> in, int64_t n, int64_t full,
                             uint64_t iteration);
const Function &callee(const Evaluator &run, const std::string &name);

#define TENSOR(name, arity, Attr) void eval_##name(Evaluation &e);
#include "ir/ops.def"

// Row-major strides.
std::vector<int64_t> stridesOf(const std::vector<int64_t> &dims);

// Accumulates as compiled code does: calls f with a zero of the type that sums of `t` are taken in.
template <class F> void withAccumulator(DType t, Precision p, F &&f) {
  if (p == Precision::f32 && isFloat(t) && t != DType::f64)
    f(float(0));
  else
    f(double(0));
}

// All index tuples of `extents` in row-major order; K offsets advance by their strides.
//   nest({2,3}, {{3,1},{1,2}}, {0,0}, [](auto at) { ... at[0], at[1] ... })
template <size_t K, class F>
void nest(const std::vector<int64_t> &extents, const std::array<std::vector<int64_t>, K> &strides,
          std::array<int64_t, K> at, F &&f, size_t d = 0) {
  if (d == extents.size()) return void(f(at));
  const bool last = d + 1 == extents.size();
  for (int64_t i = 0; i < extents[d]; ++i) {
    if (last)
      f(at);
    else
      nest<K>(extents, strides, at, f, d + 1);
    for (size_t k = 0; k < K; ++k) at[k] += strides[k][d];
  }
}

} // namespace nnc::ir
