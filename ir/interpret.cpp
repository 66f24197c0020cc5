// The interpreter's road through a function: nodes in order, pointwise rows, calls and scans.
//
// Problem. Compiled code needs a meaning to be compared with: one that is obvious from its text.
// Example: `%y = add %a, %b : f32[2]` is y[i] = a[i] + b[i], where the formula is the row of
// ops.def.
//
// Method. Every element is a double. Pointwise rows instantiate their formula for double, for float
// (f32 mode) or for wrapping integers; TENSOR rows are the functions eval_<op> of
// interpret_tensor.cpp, listed by the table so that a missing one does not link. Values are freed
// after their last reader.
#include "ir/interpret.h"
#include "ir/evaluate.h"
#include <cstring>

namespace nnc::ir {

int64_t Tensor::count() const {
  int64_t c = 1;
  for (const int64_t d : dims) c *= d;
  return c;
}

std::vector<int64_t> stridesOf(const std::vector<int64_t> &dims) {
  std::vector<int64_t> s(dims.size(), 1);
  for (size_t i = dims.size(); i-- > 1;) s[i - 1] = s[i] * dims[i];
  return s;
}

namespace {

using scalar::Int;

// --- pointwise rows -----------------------------------------------------------------------------

template <class T> T load(double v) { return T(v); }
template <> Int load<Int>(double v) { return Int::from(v); }
template <class T> double result(T v) { return double(v); }
template <> double result<Int>(Int v) { return double(v.v); }

template <class T, class F> void map1(Evaluation &e, F f) {
  const auto &a = e.x().data;
  auto &y = e.y().data;
  for (size_t i = 0; i < y.size(); ++i) y[i] = f(load<T>(a[i]));
}
template <class T, class F> void map2(Evaluation &e, F f) {
  const auto &a = e.x(0).data, &b = e.x(1).data;
  auto &y = e.y().data;
  for (size_t i = 0; i < y.size(); ++i) y[i] = f(load<T>(a[i]), load<T>(b[i]));
}

// double and float: every row that has a float or bool meaning.
template <class T> bool pointwise(Evaluation &e) {
  using namespace scalar;
  switch (e.node.op) {
#define UNARY(name, cls, lo, hi, fwd, dx)                                                          \
  case Op::name##_:                                                                                \
    map1<T>(e, [](T x) { return result(fwd); });                                                   \
    return true;
#define BINARY(name, cls, loA, hiA, loB, hiB, fwd, da, db)                                         \
  case Op::name##_:                                                                                \
    map2<T>(e, [](T a, T b) { return result(fwd); });                                              \
    return true;
#define COMPARE(name, fwd)                                                                         \
  case Op::name##_:                                                                                \
    map2<T>(e, [](T a, T b) { return result(fwd); });                                              \
    return true;
#include "ir/ops.def"
  default: return false; // not of this kind; evaluate() reports it
  }
}

// Integers: the rows of class N and I.
bool integerPointwise(Evaluation &e) {
  using namespace scalar;
  switch (e.node.op) {
#define UNARY_N(name, fwd)                                                                         \
  case Op::name##_:                                                                                \
    map1<Int>(e, [](Int x) { return result(fwd); });                                               \
    return true;
#define BINARY_N(name, fwd)                                                                        \
  case Op::name##_:                                                                                \
    map2<Int>(e, [](Int a, Int b) { return result(fwd); });                                        \
    return true;
#define UNARY_F(name, fwd)
#define UNARY_B(name, fwd)
#define BINARY_F(name, fwd)
#define BINARY_B(name, fwd)
#define UNARY(name, cls, lo, hi, fwd, dx) UNARY_##cls(name, fwd)
#define BINARY(name, cls, loA, hiA, loB, hiB, fwd, da, db) BINARY_##cls(name, fwd)
#include "ir/ops.def"
#undef UNARY_N
#undef BINARY_N
#undef UNARY_F
#undef UNARY_B
#undef BINARY_F
#undef BINARY_B
  default: return false; // not of this kind; evaluate() reports it
  }
}

bool evalPointwise(Evaluation &e) {
  const DType t = e.x().dtype;
  if (isInteger(t) && info(e.node.op).form != OpForm::compare) return integerPointwise(e);
  if (e.run.p == Precision::f32 && isFloat(t) && t != DType::f64) return pointwise<float>(e);
  return pointwise<double>(e);
}

bool evalTensor(Evaluation &e) {
  switch (e.node.op) {
#define TENSOR(name, arity, Attr)                                                                  \
  case Op::name##_:                                                                                \
    eval_##name(e);                                                                                \
    return true;
#include "ir/ops.def"
  default: return false; // not of this kind; evaluate() reports it
  }
}

// Rounds to what the result's type stores. In f64 mode floats are left as they are.
void store(Tensor &t, Precision p) {
  auto each = [&](auto f) {
    for (double &v : t.data) v = f(v);
  };
  if (isInteger(t.dtype) || t.dtype == DType::boolean) {
    if (t.dtype != DType::i64) each([&](double v) { return scalar::wrap(t.dtype, Int::from(v)); });
    return;
  }
  if (p == Precision::f64) return;
  switch (t.dtype) {
  case DType::f32: return each(scalar::roundF32);
  case DType::bf16: return each(scalar::roundBf16);
  case DType::f16: return each(scalar::roundF16);
  default:
    return each([](double v) { return scalar::flushed(v, std::numeric_limits<double>::min()); });
  }
}

Tensor zeros(const Type &type, int64_t n) {
  Tensor t;
  t.dtype = type.dtype;
  for (const Dim d : type.dims) t.dims.push_back(d.at(n));
  t.data.resize(size_t(t.count()));
  return t;
}

} // namespace

std::vector<Tensor> evaluate(const Evaluator &run, const Node &node, std::span<const Type> types,
                             std::vector<const Tensor *> in, int64_t n, int64_t full,
                             uint64_t iteration) {
  Evaluation e{run, node, std::move(in), {}, n, full, iteration};
  for (const Type &t : types) e.out.push_back(zeros(t, n));
  const bool known = isPointwise(node.op) ? evalPointwise(e) : evalTensor(e);
  NNC_CHECK(known, std::string("no meaning for `") + info(node.op).name + "` of this type");
  for (Tensor &t : e.out) store(t, run.p);
  return std::move(e.out);
}

std::vector<Tensor> evalNode(const Module *m, const Node &node, std::span<const Type> resultTypes,
                             std::span<const Tensor> operands, int64_t n, Precision p) {
  std::vector<const Tensor *> in;
  for (const Tensor &t : operands) in.push_back(&t);
  return evaluate({m, p, 0, 0}, node, resultTypes, std::move(in), n, n, 0);
}

const Function &callee(const Evaluator &run, const std::string &name) {
  const Function *f = run.m ? run.m->find(name) : nullptr;
  NNC_CHECK(f, "no function @" + name);
  return *f;
}

// --- functions ----------------------------------------------------------------------------------

std::vector<Tensor> Evaluator::execute(const Function &f, std::vector<Tensor> args, int64_t n,
                                       uint64_t iteration, std::vector<Tensor> *keep) const {
  NNC_CHECK(args.size() == f.params.size(), "@" + f.name + ": wrong number of arguments");
  std::vector<Tensor> values(f.values.size());
  std::vector<int32_t> uses(f.values.size(), 0);
  for (const Node &node : f.nodes)
    for (const ValueId v : node.operands) ++uses[size_t(v.i)];
  for (const Result &r : f.results) ++uses[size_t(r.value.i)];
  for (size_t i = 0; i < args.size(); ++i) values[size_t(f.params[i].value.i)] = std::move(args[i]);

  for (const Node &node : f.nodes) {
    std::vector<const Tensor *> in;
    std::vector<Type> types;
    for (const ValueId v : node.operands) in.push_back(&values[size_t(v.i)]);
    for (int k = 0; k < node.resultCount; ++k) types.push_back(f.type(node.result(k)));
    auto out = evaluate(*this, node, types, std::move(in), n, std::max(f.batch, n), iteration);
    for (int k = 0; k < node.resultCount; ++k)
      values[size_t(node.result(k).i)] = std::move(out[size_t(k)]);
    if (keep) continue;
    for (const ValueId v : node.operands)
      if (--uses[size_t(v.i)] == 0) values[size_t(v.i)] = {};
  }
  std::vector<Tensor> results;
  for (const Result &r : f.results) results.push_back(values[size_t(r.value.i)]);
  if (keep) *keep = std::move(values);
  return results;
}

void eval_call(Evaluation &e) {
  std::vector<Tensor> args;
  for (const Tensor *t : e.in) args.push_back(*t);
  const Function &f = callee(e.run, e.attr<CallAttr>().callee);
  e.out = e.run.execute(f, std::move(args), e.n, e.iteration);
}

namespace {

// Copies slice `at` of `axis` of `whole` out of it, or into it.
struct Slices {
  int64_t outer = 1, inner = 1, length = 0;
  Slices(const Tensor &whole, int64_t axis) : length(whole.dims[size_t(axis)]) {
    for (size_t d = 0; d < whole.dims.size(); ++d)
      (int64_t(d) < axis ? outer : inner) *= int64_t(d) == axis ? 1 : whole.dims[d];
  }
  template <class A, class B> void copy(A *whole, B *part, int64_t at, bool out) const {
    for (int64_t o = 0; o < outer; ++o) {
      auto *w = whole + (o * length + at) * inner;
      auto *s = part + o * inner;
      if constexpr (std::is_const_v<A>)
        std::copy(w, w + inner, s);
      else if (!out)
        std::copy(s, s + inner, w);
    }
  }
};

Tensor sliceOf(const Tensor &whole, int64_t axis, int64_t at) {
  Tensor part;
  part.dtype = whole.dtype;
  part.dims = whole.dims;
  part.dims.erase(part.dims.begin() + axis);
  part.data.resize(size_t(part.count()));
  Slices(whole, axis).copy(whole.data.data(), part.data.data(), at, true);
  return part;
}

} // namespace

// carries := body(carries, x[t].., invariants..) for t in order; the random draws of round t have
// the iteration t, whichever way the loop runs: a reversed scan may recompute what the forward one
// drew.
void eval_scan(Evaluation &e) {
  const auto &a = e.attr<ScanAttr>();
  const Function &body = callee(e.run, a.body);
  const size_t carries = size_t(a.carries), xs = a.xAxes.size();
  std::vector<Tensor> state;
  for (size_t k = 0; k < carries; ++k) state.push_back(e.x(k));
  for (int64_t step = 0; step < a.length; ++step) {
    const int64_t t = a.reverse ? a.length - 1 - step : step;
    std::vector<Tensor> args = std::move(state);
    for (size_t k = 0; k < xs; ++k) args.push_back(sliceOf(e.x(carries + k), a.xAxes[k], t));
    for (size_t k = carries + xs; k < e.in.size(); ++k) args.push_back(e.x(k));
    const uint64_t iteration = e.iteration * uint64_t(a.length) + uint64_t(t);
    auto results = e.run.execute(body, std::move(args), e.n, iteration);
    for (size_t k = 0; k < a.yAxes.size(); ++k) {
      Tensor &whole = e.y(carries + k);
      const Tensor &part = results[carries + k];
      Slices(whole, a.yAxes[k]).copy(whole.data.data(), part.data.data(), t, false);
    }
    results.resize(carries);
    state = std::move(results);
  }
  for (size_t k = 0; k < carries; ++k) e.y(k) = std::move(state[k]);
}

void eval_grad(Evaluation &) {
  internalError(__FILE__, __LINE__, "`grad` has no direct meaning: differentiate the module first");
}

// --- modules ------------------------------------------------------------------------------------

Interpreter::Interpreter(const Module &m, Precision p, uint64_t seed) : m_(m), p_(p), seed_(seed) {
  for (const Persistent &s : m.persistents) persistent_[s.name] = zeros(s.type, 1);
}

Tensor &Interpreter::persistent(std::string_view name) {
  const auto it = persistent_.find(name);
  NNC_CHECK(it != persistent_.end(), "no persistent value \"" + std::string(name) + "\"");
  return it->second;
}

namespace {

// Stores the inputs as their types do, and checks their shapes.
void checkInput(const Function &f, const Param &p, Tensor &t, int64_t n, Precision precision) {
  const Type &type = f.type(p.value);
  std::vector<int64_t> dims;
  for (const Dim d : type.dims) dims.push_back(d.at(n));
  const bool fits = dims == t.dims && int64_t(t.data.size()) == t.count();
  NNC_CHECK(fits, "@" + f.name + ": an argument for " + str(type) + " has another shape");
  t.dtype = type.dtype;
  store(t, precision);
}

// The batch size that the unbound parameters' shapes state; without one, the largest.
int64_t batchOf(const Function &f, const std::vector<Tensor> &inputs) {
  size_t k = 0;
  for (const Param &p : f.params) {
    if (!p.bind.empty()) continue;
    const Type &type = f.type(p.value);
    NNC_CHECK(k < inputs.size(), "@" + f.name + ": too few inputs");
    for (size_t d = 0; d < type.dims.size() && d < inputs[k].dims.size(); ++d)
      if (!type.dims[d].isConst()) return (inputs[k].dims[d] - type.dims[d].b) / type.dims[d].a;
    ++k;
  }
  return std::max<int64_t>(f.batch, 1);
}

} // namespace

std::vector<Tensor> Interpreter::run(std::string_view function, std::vector<Tensor> inputs) {
  const Function *f = m_.find(function);
  NNC_CHECK(f, "no function @" + std::string(function));
  const int64_t n = batchOf(*f, inputs);
  std::vector<Tensor> args;
  size_t next = 0;
  for (const Param &p : f->params) {
    args.push_back(p.bind.empty() ? std::move(inputs[next++]) : persistent(p.bind));
    checkInput(*f, p, args.back(), n, p_);
  }
  NNC_CHECK(next == inputs.size(), "@" + f->name + ": too many inputs");
  auto results = Evaluator{&m_, p_, seed_, step}.execute(*f, std::move(args), n, 0);
  std::vector<Tensor> out;
  for (size_t k = 0; k < results.size(); ++k) {
    if (f->results[k].bind)
      persistent(f->results[k].name) = std::move(results[k]);
    else
      out.push_back(std::move(results[k]));
  }
  return out;
}

std::vector<Tensor> Interpreter::trace(const Function &f, std::vector<Tensor> inputs, int64_t n) {
  std::vector<Tensor> args, values;
  size_t next = 0;
  for (const Param &p : f.params) {
    args.push_back(p.bind.empty() ? std::move(inputs.at(next++)) : persistent(p.bind));
    checkInput(f, p, args.back(), n, p_);
  }
  Evaluator{&m_, p_, seed_, step}.execute(f, std::move(args), n, 0, &values);
  return values;
}

} // namespace nnc::ir
