// Random well-typed functions, for tests of the passes and of compiled code.
//
// The generator takes pointwise rows from ops.def. In exact functions all values are small
// multiples of 1/4 and operations are exact, so that values may be compared for equality across
// rounding; in smooth ones values are squashed, so that they stay comparable within a tolerance,
// and gradients are added. Dimensions with n stand anywhere, not only first.
#pragma once
#include "ir/passes.h"
#include "tests/ir_helpers.h"

namespace nnc::ir::test {

inline const Dim n = Dim::batch();

inline bool isExact(Op op) {
  switch (op) {
  case Op::add_:
  case Op::sub_:
  case Op::mul_:
  case Op::max_:
  case Op::min_:
  case Op::neg_:
  case Op::abs_:
  case Op::sign_:
  case Op::floor_:
  case Op::ceil_:
  case Op::round_:
  case Op::stop_gradient_: return true;
  default:
    return info(op).cls == TypeClass::B || info(op).form == OpForm::compare || op == Op::is_nan_;
  }
}
inline bool isSmooth(Op op) {
  switch (op) {
  case Op::add_:
  case Op::sub_:
  case Op::mul_:
  case Op::neg_:
  case Op::sin_:
  case Op::cos_:
  case Op::tanh_:
  case Op::sigmoid_:
  case Op::erf_:
  case Op::atan_:
  case Op::exp_:
  case Op::stop_gradient_: return true;
  default: return false;
  }
}

class Generator {
 public:
  // Of a function whose parameters are there; `depth` scans are around it.
  Generator(Builder &b, Random &r, bool smooth, DType real, int depth)
      : b_(b), r_(r), smooth_(smooth), real_(real), depth_(depth) {
    for (int op = 0; op < kOpCount; ++op)
      if (isPointwise(Op(op)) && (smooth ? isSmooth(Op(op)) : isExact(Op(op))))
        rows_.push_back(Op(op));
    for (const Param &p : b.f.params) params.push_back(add(b.value(p.value)));
  }
  Generator(Builder &b, Random &r, bool smooth, DType real)
      : Generator(addParams(b, smooth, real), r, smooth, real, 0) {}
  std::vector<V> params, all;
  bool scans = false;  // make some
  bool tables = false; // gather from some, scatter into some

  void step() {
    if (tables && pick(r_, 0, 3) == 0) return table();
    switch (pick(r_, 0, scans ? 11 : 9)) {
    case 10: return scan();
    case 11: return draw();
    case 0:
    case 1:
    case 2:
    case 3: return pointwise();
    case 4: return constant();
    case 5:
    case 6: return move();
    case 7: return shrink();
    case 8: return grow();
    case 9: return convert();
    }
  }

 private:
  static Builder &addParams(Builder &b, bool smooth, DType real) {
    for (const Dims &dims : {Dims{n, 3}, Dims{3}, Dims{n, 2, 3}, Dims{}})
      b.param("x", Type{real, dims});
    if (!smooth) b.param("i", {DType::i32, {n}});
    return b;
  }
  V add(V v) {
    all.push_back(v);
    return v;
  }
  V any() { return all[size_t(pick(r_, 0, int64_t(all.size()) - 1))]; }
  // Values stay in a range in which exact arithmetic is exact and smooth functions are tame.
  V tamed(V v) {
    if (smooth_) return isFloat(v.type().dtype) ? tanh(v) : v;
    if (v.type().dtype == DType::boolean) return v;
    return min(max(v, like(v, -16)), like(v, 16));
  }
  std::optional<V> like_(V x) { // a value of x's type
    std::vector<V> same;
    for (const V v : all)
      if (v.type() == x.type()) same.push_back(v);
    return same[size_t(pick(r_, 0, int64_t(same.size()) - 1))];
  }
  bool fits(Op op, const Type &t) const {
    return inferTypes(op, std::vector<Type>(size_t(info(op).arity), t), NoAttr{}, nullptr)
        .error.empty();
  }
  void pointwise() {
    const Op op = rows_[size_t(pick(r_, 0, int64_t(rows_.size()) - 1))];
    const V x = any();
    if (!fits(op, x.type())) return;
    V y = info(op).arity == 1 ? b_.unary(op, x) : b_.binary(op, x, *like_(x));
    const bool grows = op == Op::mul_ || op == Op::add_ || op == Op::sub_ || op == Op::exp_;
    if (!smooth_ && op == Op::mul_) { // products of quarters are not quarters
      if (isFloat(y.type().dtype)) y = floor(y);
    }
    add(grows && pick(r_, 0, 2) == 0 ? tamed(y) : y);
    if (grows && all.back().id == y.id && all.size() > 40) all.back() = tamed(y);
  }
  void constant() {
    const V x = any();
    const double values[] = {0, 1, -1, 2, 0.5, -0.25, 4};
    const Type t = x.type();
    double v = values[size_t(pick(r_, 0, 6))];
    if (!isFloat(t.dtype)) v = double(pick(r_, 0, 1));
    add(b_.constant(v, t));
  }
  void move() {
    const V x = any();
    const Dims dims = x.type().dims;
    const int64_t rank = int64_t(dims.size());
    if (rank == 0) return;
    const int64_t d = pick(r_, 0, rank - 1);
    switch (pick(r_, 0, 5)) {
    case 0: {
      Ints perm;
      for (int64_t i = 0; i < rank; ++i) perm.push_back((i + d) % rank);
      add(b_.transpose(x, perm));
      return;
    }
    case 1: add(b_.reverse(x, {d})); return;
    case 2: {
      Dims low(size_t(rank), 0), high = low;
      low[size_t(d)] = pick(r_, 0, 1), high[size_t(d)] = pick(r_, 0, 1);
      add(b_.pad(x, low, high));
      return;
    }
    case 3: {
      Dims low(size_t(rank), 0), high = dims;
      const Dim size = dims[size_t(d)];
      if (size.isConst() && size.b > 1)
        low[size_t(d)] = pick(r_, 0, 1),
        high[size_t(d)] = size - Dim(pick(r_, 0, size.b - 1 - low[size_t(d)].b));
      add(b_.slice(x, low, high));
      return;
    }
    case 4: add(b_.concat({x, *like_(x)}, d)); return;
    case 5: {
      Dims split = dims;
      split.insert(split.begin() + d, Dim(1));
      add(b_.reshape(x, split));
      return;
    }
    }
  }
  void shrink() {
    const V x = any();
    const int64_t rank = x.type().rank();
    if (rank == 0 || x.type().dtype == DType::boolean) return;
    const int64_t d = pick(r_, 0, rank - 1);
    switch (pick(r_, 0, smooth_ ? 1 : 4)) {
    case 0: add(tamed(b_.sum(x, {d}))); return;
    case 1: add(tamed(b_.cumsum(x, d, pick(r_, 0, 1), pick(r_, 0, 1)))); return;
    case 2: add(b_.reduce(ReduceKind::max, x, {d})); return;
    case 3: add(b_.maxIndex(x, {d}).second); return;
    case 4: add(b_.sort(x, d).first); return;
    }
  }
  void grow() {
    const V x = any();
    const Dims dims = x.type().dims;
    if (dims.size() > 3) return;
    if (dims.size() == 2 && isFloat(x.type().dtype) && pick(r_, 0, 1)) {
      V y = b_.contract(x, *like_(x), "a b", "c b", "a c"); // c has a's extent: an n by n matrix
      add(b_.sum(tamed(smooth_ ? y : floor(y)), {1}));
      return;
    }
    Dims result = dims;
    const int64_t at = pick(r_, 0, int64_t(dims.size()));
    result.insert(result.begin() + at, Dim(2));
    Ints map;
    for (int64_t i = 0; i < int64_t(dims.size()); ++i) map.push_back(i < at ? i : i + 1);
    add(b_.broadcast(x, map, result));
  }
  void convert() {
    const V x = any();
    const DType types[] = {real_, DType::i32, DType::boolean, DType::i64};
    if (smooth_ || pick(r_, 0, 1)) {
      if (x.type().dtype == DType::boolean) return;
      V c = gt(x, *like_(x));
      add(b_.select(c, *like_(x), x));
      return;
    }
    add(b_.cast(x, types[size_t(pick(r_, 0, 3))]));
  }

  // Rows of a tensor by number, or sums of them in the rows of a table. Some numbers are none of a
  // row.
  void table() {
    const V x = any();
    Dims dims = x.type().dims;
    if (dims.empty() || !isFloat(x.type().dtype)) return;
    const int64_t axis = pick(r_, 0, int64_t(dims.size()) - 1);
    const bool gathers = pick(r_, 0, 1) != 0;
    V number = any();
    const Dims &numbers = number.type().dims;
    const Dim tokens = gathers ? Dim(pick(r_, 1, 5)) : dims[size_t(axis)];
    if (numbers.size() == 1 && numbers[0] == tokens)
      number = b_.cast(number, DType::i32);
    else
      number = b_.iota(0, {DType::i32, {tokens}}) * double(pick(r_, 0, 3));
    if (gathers && !dims[size_t(axis)].isConst()) return;
    if (gathers) {
      number = min(max(number, like(number, 0)), like(number, double(dims[size_t(axis)].b - 1)));
      add(b_.gather(x, number, axis));
    } else {
      dims[size_t(axis)] = Dim(pick(r_, 1, 12));
      add(tamed(b_.scatterAdd(number, x, axis, {x.type().dtype, dims})));
    }
  }

  // A loop over what has a dimension of its length, with a random body.
  void scan() {
    if (depth_ == 2) return;
    const int64_t length = pick(r_, 1, 3);
    std::vector<V> carries, sequences, invariants;
    ScanAttr a;
    a.length = length, a.reverse = pick(r_, 0, 1) != 0;
    for (int64_t k = pick(r_, 0, 3); k > 0; --k) carries.push_back(any());
    for (int k = 0; k < 6; ++k) {
      const V x = any();
      const Dims &dims = x.type().dims;
      for (size_t d = 0; d < dims.size(); ++d)
        if (dims[d] == Dim(length) && pick(r_, 0, 1)) {
          sequences.push_back(x), a.xAxes.push_back(int64_t(d));
          break;
        }
    }
    if (pick(r_, 0, 1))
      sequences.push_back(b_.iota(0, {DType::i32, {Dim(length)}})), a.xAxes.push_back(0);
    for (int64_t k = pick(r_, 0, 3); k > 0; --k) invariants.push_back(any());
    Function &body = b_.module.add("body" + std::to_string(b_.module.functions.size()), b_.f.batch);
    a.body = body.name, a.carries = int64_t(carries.size());
    Builder inner(b_.module, body);
    std::vector<ValueId> operands;
    for (const V v : carries) operands.push_back(v.id), inner.param("c", v.type());
    for (size_t k = 0; k < sequences.size(); ++k) {
      Type t = sequences[k].type();
      t.dims.erase(t.dims.begin() + a.xAxes[k]);
      operands.push_back(sequences[k].id), inner.param("x", t);
    }
    for (const V v : invariants) operands.push_back(v.id), inner.param("w", v.type());
    if (operands.empty()) operands.push_back(any().id), inner.param("w", b_.f.type(operands[0]));
    Generator g(inner, r_, smooth_, real_, depth_ + 1);
    g.scans = true;
    for (int64_t k = pick(r_, 1, 10); k > 0; --k) g.step();
    for (size_t k = 0; k < carries.size(); ++k) {
      const V next = *g.like_(g.params[k]);
      const bool real = isFloat(next.type().dtype) || !smooth_;
      inner.result("", next.id == g.params[k].id || !real ? next : g.tamed(next));
    }
    for (int64_t k = pick(r_, carries.empty() ? 1 : 0, 2); k > 0; --k) {
      const V y = g.any();
      if (y.type().rank() > 3) continue;
      inner.result("", y);
      a.yAxes.push_back(pick(r_, 0, y.type().rank()));
    }
    if (body.results.empty()) inner.result("", g.params[0]), a.yAxes.push_back(0);
    for (const V y : b_.scan(a, operands)) add(y);
  }
  // A draw of eighths below 1, so that arithmetic stays exact.
  void draw() {
    if (real_ != DType::f32 && real_ != DType::f64) return;
    const Dims &dims = any().type().dims;
    const V u = b_.random("site" + std::to_string(pick(r_, 0, 3)), Type{real_, dims});
    add(floor(u * 8.0) * 0.125 * (smooth_ ? 1.0 : 2.0));
  }

  Builder &b_;
  Random &r_;
  bool smooth_;
  DType real_;
  int depth_;
  std::vector<Op> rows_;
};

inline std::unique_ptr<Module> generated(uint64_t seed, bool smooth, DType real = DType::f64,
                                         bool scans = false, bool tables = false) {
  auto m = std::make_unique<Module>();
  Random r(seed);
  Function &f = m->add("f", 4);
  Builder b(*m, f);
  Generator g(b, r, smooth, real);
  g.scans = scans, g.tables = tables;
  for (int k = int(pick(r, 5, 60)); k > 0; --k) g.step();
  for (int k = 0; k < 4; ++k) b.result("", g.all[size_t(pick(r, 0, int64_t(g.all.size()) - 1))]);
  if (!smooth) return m;
  V loss = b.constant(0, Type{real, {}});
  for (int k = 0; k < 3; ++k) {
    const V y = g.all[g.all.size() - 1 - size_t(k)];
    if (isFloat(y.type().dtype)) loss = loss + total(b, sin(y));
  }
  for (const V d : b.grad(loss, {g.params.begin(), g.params.end()})) b.result("", d);
  return m;
}

inline std::vector<Tensor> randomInputs(Random &r, const Function &f, int64_t rows = 2) {
  std::vector<Tensor> in;
  for (const Param &p : f.params) {
    in.push_back(randomTensor(r, f.type(p.value), rows, -3, 3));
    for (double &v : in.back().data) v = std::floor(v * 4) / (isFloat(in.back().dtype) ? 4 : 1);
  }
  return in;
}

} // namespace nnc::ir::test
