// Builtins: elementwise functions, reductions, orders, and making tensors.
//
// Problem. `sqrt(2)` is a number, `sqrt(x)` a node; `sum(x, axis = -1)` of u8 adds as i32,
// `mean(x)` gives floats.
//
// Method. Each elementwise function is one row: its node and its meaning for static numbers. The
// element types follow R8 through `promote`.
#include "frontend/elab.h"
#include <algorithm>
#include <cmath>

namespace nnc::fe {

// --- elementwise ---------------------------------------------------------------------------------

static Value unaryNode(BuiltinCall &c, ir::Op op, bool toFloat, double (*number)(double)) {
  if (c[0].isNumber()) {
    double y = number(c[0].number());
    bool stays = !toFloat && c[0].kind == Kind::Int;
    return stays ? Value::of(int64_t(y), c.span) : Value::of(y);
  }
  if (c[0].kind == Kind::Tuple) {
    Values items;
    for (const Value &item : c[0].tuple().items) {
      BuiltinCall one = c;
      one.args[0] = item;
      items.push_back(unaryNode(one, op, toFloat, number));
      if (items.back().isPoison()) return {};
    }
    return Value::tuple(std::move(items), c[0].tuple().names);
  }
  Values xs{c[0]};
  if (!c.e.promote(xs, toFloat)) return {};
  Value y = c.e.emit(op, {xs[0].id});
  c.e.setOrigins(y, c.e.originsOf(xs[0]));
  return y;
}

#define ELEMENTWISE(name, node, toFloat, number)                                                   \
  Value builtin_##name(BuiltinCall &c) {                                                           \
    return unaryNode(c, ir::Op::node##_, toFloat, [](double x) -> double { return number; });      \
  }
ELEMENTWISE(exp, exp, true, std::exp(x))
ELEMENTWISE(expm1, expm1, true, std::expm1(x))
ELEMENTWISE(log, log, true, std::log(x))
ELEMENTWISE(log1p, log1p, true, std::log1p(x))
ELEMENTWISE(sqrt, sqrt, true, std::sqrt(x))
ELEMENTWISE(rsqrt, rsqrt, true, 1 / std::sqrt(x))
ELEMENTWISE(sin, sin, true, std::sin(x))
ELEMENTWISE(cos, cos, true, std::cos(x))
ELEMENTWISE(tan, tan, true, std::tan(x))
ELEMENTWISE(arcsin, asin, true, std::asin(x))
ELEMENTWISE(arccos, acos, true, std::acos(x))
ELEMENTWISE(arctan, atan, true, std::atan(x))
ELEMENTWISE(sinh, sinh, true, std::sinh(x))
ELEMENTWISE(cosh, cosh, true, std::cosh(x))
ELEMENTWISE(tanh, tanh, true, std::tanh(x))
ELEMENTWISE(sigmoid, sigmoid, true, 1 / (1 + std::exp(-x)))
ELEMENTWISE(erf, erf, true, std::erf(x))
ELEMENTWISE(abs, abs, false, std::abs(x))
ELEMENTWISE(sign, sign, false, double((x > 0) - (x < 0)))
#undef ELEMENTWISE

/// floor, ceil, round: of a static number an int, of an int tensor the tensor itself.
static Value whole(BuiltinCall &c, ir::Op op, double (*number)(double)) {
  if (c[0].kind == Kind::Int) return c[0];
  if (c[0].kind == Kind::Float) {
    double y = number(c[0].d);
    return std::abs(y) < 0x1p62 ? Value::of(int64_t(y), c.span) : Value::of(y);
  }
  Value x = c.e.tensor(c[0]);
  if (x.isPoison() || !ir::isFloat(c.e.type(x).dtype)) return x;
  return c.e.emit(op, {x.id});
}
Value builtin_floor(BuiltinCall &c) { return whole(c, ir::Op::floor_, std::floor); }
Value builtin_ceil(BuiltinCall &c) { return whole(c, ir::Op::ceil_, std::ceil); }
Value builtin_round(BuiltinCall &c) { return whole(c, ir::Op::round_, std::nearbyint); }

Value builtin_isnan(BuiltinCall &c) {
  if (c[0].isNumber()) return Value::of(std::isnan(c[0].number()));
  Values xs{c[0]};
  return c.e.promote(xs, true) ? c.e.emit(ir::Op::is_nan_, {xs[0].id}) : Value{};
}

static Value larger(BuiltinCall &c, ir::Op op, bool max) {
  const Value &a = c[0], &b = c[1];
  if (a.isNumber() && b.isNumber()) {
    bool first = max ? a.number() >= b.number() : a.number() <= b.number();
    Value v = first ? a : b;
    bool isFloat = a.kind == Kind::Float || b.kind == Kind::Float;
    return isFloat ? Value::of(v.number()) : v;
  }
  return c.e.elementwise(op, a, b, false);
}
Value builtin_maximum(BuiltinCall &c) { return larger(c, ir::Op::max_, true); }
Value builtin_minimum(BuiltinCall &c) { return larger(c, ir::Op::min_, false); }

Value builtin_arctan2(BuiltinCall &c) {
  if (c[0].isNumber() && c[1].isNumber())
    return Value::of(std::atan2(c[0].number(), c[1].number()));
  return c.e.elementwise(ir::Op::atan2_, c[0], c[1], true);
}

Value builtin_where(BuiltinCall &c) {
  if (c[0].kind == Kind::Bool) return c[0].b ? c[1] : c[2];
  Value cond = c.e.tensor(c[0]);
  if (cond.isPoison()) return cond;
  if (c.e.type(cond).dtype != ir::DType::boolean)
    return c.e.fail(c.spans[0], Diag::ElementMismatch,
                    {"the condition of `where`", "bool", c.e.show(cond)});
  Values xs{c[1], c[2]};
  for (Value &x : xs) {
    if (x.isPoison()) return x;
    if (!c.e.isTensorLike(x)) return c.e.fail(Diag::TensorWanted, {c.e.text(c.span), c.e.show(x)});
  }
  ir::DType t = c.e.commonElement(xs, false, true);
  for (Value &x : xs)
    if (x.isTensor() || x.kind == Kind::List || x.isSize())
      x = c.e.cast(x.isTensor() ? c.e.tensor(x) : c.e.tensor(x, &t), t);
  for (Value &x : xs)
    if (x.isPoison()) return x;
  ir::Dims dims;
  std::vector<Span> origins;
  if (!c.e.broadcastDims({cond, xs[0], xs[1]}, dims, origins)) return {};
  cond = c.e.broadcastTo(cond, dims);
  for (Value &x : xs)
    x = x.isTensor() ? c.e.broadcastTo(x, dims)
                     : c.e.constant(x.kind == Kind::Bool ? double(x.b) : x.number(), {t, dims});
  if (cond.isPoison() || xs[0].isPoison() || xs[1].isPoison()) return {};
  Value y = c.e.emit(ir::Op::select_, {cond.id, xs[0].id, xs[1].id});
  c.e.setOrigins(y, std::move(origins));
  return y;
}

Value builtin_stop_gradient(BuiltinCall &c) {
  if (c[0].isNumber()) return c[0];
  Value x = c.e.tensor(c[0]);
  if (x.isPoison() || !ir::isFloat(c.e.type(x).dtype)) return x;
  return c.e.emit(ir::Op::stop_gradient_, {x.id});
}

Value builtin_cast(BuiltinCall &c) {
  ir::DType t;
  if (!c.e.elementType(c[1], c.spans[1], t)) return {};
  if (c[0].isTensor()) return c.e.cast(c.e.tensor(c[0]), t);
  return c.e.cast(c.e.tensor(c[0]), t);
}

/// Fails if a node's values are known and one of them is not in [low, high).
static bool inRange(BuiltinCall &c, const ir::Node &n, double low, double high) {
  auto shown = [&](double x) {
    const bool whole = x == std::floor(x) && std::abs(x) < 1e15;
    return c.e.show(whole ? Value::of(int64_t(x)) : Value::of(x));
  };
  auto fits = [&](double x) {
    if (x >= low && x < high) return true;
    c.e.error(c.spans[0], Diag::ArgumentType,
              {"`x`", "in [" + shown(low) + ", " + shown(high) + ")", shown(x)});
    return false;
  };
  if (n.op == ir::Op::constant_) {
    const auto &data = std::get<ir::ConstantAttr>(n.attr).data;
    return std::all_of(data.begin(), data.end(), fits);
  }
  if (n.op != ir::Op::iota_) return true;
  const auto &iota = std::get<ir::IotaAttr>(n.attr);
  const ir::Dim size = iota.type.dims[size_t(iota.dim)];
  return !size.isConst() || size.b == 0 || (fits(0) && fits(double(size.b - 1)));
}

/// x; what its data column may hold is noted for the runtime, which checks it at load. Values that
/// are known already are checked here.
Value builtin_expect_range(BuiltinCall &c) {
  if (!c[1].isNumber() || !c[2].isNumber() || !c[0].isTensor()) return c[0];
  ir::ValueId v = c[0].id;
  Pass *pass = c.e.pass;
  for (;;) {
    const ir::Function &f = pass->b.f;
    if (const ir::Node *n = f.def(v)) {
      bool passes = n->op == ir::Op::cast_ || n->op == ir::Op::reshape_ ||
                    n->op == ir::Op::broadcast_ || n->op == ir::Op::transpose_ ||
                    n->op == ir::Op::reverse_;
      if (n->op == ir::Op::slice_) // a part says nothing of the rest
        passes = f.type(n->operands[0]).dims == f.type(v).dims;
      if (!passes) return inRange(c, *n, c[1].number(), c[2].number()) ? c[0] : Value{};
      v = n->operands[0];
    } else if (auto outside = pass->stands.find(v.i); outside != pass->stands.end()) {
      v = outside->second; // in a scan's body: what the parameter is, or is a slice of
      pass = pass->outer;
    } else {
      break;
    }
  }
  auto it = pass->columns.find(v.i);
  if (it == pass->columns.end()) return c[0];
  auto [range, isNew] = pass->ranges.try_emplace(it->second, c[1].number(), c[2].number());
  if (!isNew)
    range->second = {std::max(range->second.first, c[1].number()),
                     std::min(range->second.second, c[2].number())};
  return c[0];
}

// --- reductions ----------------------------------------------------------------------------------

/// A list of numbers or tensors, folded by an operator; poison through `done` if x is no list.
static Value foldList(BuiltinCall &c, BinaryOp op, Value start, bool &done) {
  done = c[0].kind == Kind::List && c[1].isNone();
  if (!done) return {};
  const Values &items = c[0].list();
  if (items.empty()) return start;
  Value v = items[0];
  for (size_t i = 1; i < items.size(); ++i) v = c.e.binary(op, v, items[i]);
  return v;
}

static Value reduceBy(BuiltinCall &c, ir::ReduceKind kind, bool boolStays) {
  Values xs{c[0]};
  if (c[0].kind == Kind::Bool || (c[0].isTensor() && boolStays)) {
    xs[0] = c.e.tensor(c[0]);
    if (xs[0].isPoison()) return {};
    if (c.e.type(xs[0]).dtype != ir::DType::boolean)
      return c.e.fail(c.spans[0], Diag::ElementMismatch,
                      {"`x`", "bool", std::string(ir::dtypeName(c.e.type(xs[0]).dtype))});
  } else if (!c.e.promote(xs, false)) {
    return {};
  }
  std::vector<int> axes;
  if (!c.e.axisList(c[1], c.exprs[1], c.e.rank(xs[0]), c.spans[1], axes)) return {};
  return c.e.reduce(kind, xs[0], axes, c[2].b);
}

Value builtin_sum(BuiltinCall &c) {
  bool done;
  Value v = foldList(c, BinaryOp::Add, Value::of(0), done);
  return done ? v : reduceBy(c, ir::ReduceKind::sum, false);
}

Value builtin_prod(BuiltinCall &c) {
  bool done;
  Value v = foldList(c, BinaryOp::Mul, Value::of(1), done);
  return done ? v : reduceBy(c, ir::ReduceKind::prod, false);
}

static Value extreme(BuiltinCall &c, ir::ReduceKind kind) {
  bool max = kind == ir::ReduceKind::max;
  if (c[0].kind == Kind::List && c[1].isNone() && !c[0].list().empty()) {
    Value v = c[0].list()[0];
    for (const Value &x : c[0].list()) {
      BuiltinCall two = c;
      two.args = {v, x};
      v = larger(two, max ? ir::Op::max_ : ir::Op::min_, max);
    }
    return v;
  }
  return reduceBy(c, kind, false);
}
Value builtin_max(BuiltinCall &c) { return extreme(c, ir::ReduceKind::max); }
Value builtin_min(BuiltinCall &c) { return extreme(c, ir::ReduceKind::min); }
Value builtin_any(BuiltinCall &c) { return reduceBy(c, ir::ReduceKind::max, true); }
Value builtin_all(BuiltinCall &c) { return reduceBy(c, ir::ReduceKind::min, true); }

Value builtin_mean(BuiltinCall &c) {
  Value x = c.e.tensor(c[0]);
  if (x.isPoison()) return x;
  std::vector<int> axes;
  if (!c.e.axisList(c[1], c.exprs[1], c.e.rank(x), c.spans[1], axes)) return {};
  return c.e.mean(x, axes, c[2].b);
}

Value builtin_argmax(BuiltinCall &c) {
  Values xs{c[0]};
  int axis;
  if (!c.e.promote(xs, false) ||
      !c.e.axisValue(c[1], c.exprs[1], c.e.rank(xs[0]), c.spans[1], axis))
    return {};
  auto both = c.e.emitMany(ir::Op::max_index_, {xs[0].id}, ir::AxesAttr{{axis}});
  if (both.empty() || !c[2].b) return both.empty() ? Value{} : both[1];
  ir::Dims dims = c.e.type(xs[0]).dims;
  dims[axis] = 1;
  return c.e.reshape(both[1], dims);
}

Value builtin_max_index(BuiltinCall &c) {
  Values xs{c[0]};
  std::vector<int> axes;
  if (!c.e.promote(xs, false) || !c.e.axisList(c[1], c.exprs[1], c.e.rank(xs[0]), c.spans[1], axes))
    return {};
  std::sort(axes.begin(), axes.end());
  auto both = c.e.emitMany(ir::Op::max_index_, {xs[0].id},
                           ir::AxesAttr{ir::Ints(axes.begin(), axes.end())});
  return both.empty() ? Value{} : Value::tuple({both[0], both[1]}, {"value", "index"});
}

Value builtin_cumsum(BuiltinCall &c) {
  Values xs{c[0]};
  int axis;
  if (!c.e.promote(xs, false) ||
      !c.e.axisValue(c[1], c.exprs[1], c.e.rank(xs[0]), c.spans[1], axis))
    return {};
  return c.e.emit(ir::Op::cumsum_, {xs[0].id}, ir::CumsumAttr{axis, c[2].b, c[3].b});
}

static Value sorted(BuiltinCall &c, size_t which) {
  Values xs{c[0]};
  int axis;
  if (!c.e.promote(xs, false) ||
      !c.e.axisValue(c[1], c.exprs[1], c.e.rank(xs[0]), c.spans[1], axis))
    return {};
  auto both = c.e.emitMany(ir::Op::sort_, {xs[0].id}, ir::SortAttr{axis, c[2].b});
  return both.empty() ? Value{} : both[which];
}
Value builtin_sort(BuiltinCall &c) { return sorted(c, 0); }
Value builtin_argsort(BuiltinCall &c) { return sorted(c, 1); }

// --- making --------------------------------------------------------------------------------------

static Value filled(BuiltinCall &c, const Value &value, const Value &dtype) {
  ir::Dims dims;
  std::vector<Span> origins;
  if (!c.e.shapeList(c[0], c.spans[0], dims, origins)) return {};
  ir::DType t = value.kind == Kind::Bool  ? ir::DType::boolean
                : value.kind == Kind::Int ? ir::DType::i32
                : c.e.frame->policy        ? c.e.frame->policy->compute
                                           : c.e.floatType;
  if (!dtype.isNone() && !c.e.elementType(dtype, c.span, t)) return {};
  Value y;
  if (value.isNumber() || value.kind == Kind::Bool) {
    double v = value.kind == Kind::Bool ? double(value.b) : value.number();
    y = c.e.constant(v, {t, dims});
  } else {
    Value x = c.e.tensor(value, dtype.isNone() ? nullptr : &t);
    if (x.isPoison()) return x;
    if (dtype.isNone()) t = c.e.type(x).dtype;
    y = c.e.fit(x, {t, dims}, c.span, "the value of `full`");
  }
  c.e.setOrigins(y, std::move(origins));
  return y;
}
Value builtin_zeros(BuiltinCall &c) { return filled(c, Value::of(0.0), c[1]); }
Value builtin_ones(BuiltinCall &c) { return filled(c, Value::of(1.0), c[1]); }
Value builtin_full(BuiltinCall &c) { return filled(c, c[1], c[2]); }

Value builtin_range(BuiltinCall &c) {
  Value begin = c[1].isNone() ? Value::of(0) : c[0], end = c[1].isNone() ? c[0] : c[1];
  if (begin.isInt() && end.isInt()) {
    if (!c[2].isInt() || c[2].integer() == 0) return c.e.fail(c.spans[2], Diag::DivisionByZero);
    Values out;
    int64_t s = c[2].integer();
    for (int64_t i = begin.integer(); s > 0 ? i < end.integer() : i > end.integer(); i += s) {
      out.push_back(Value::of(i, c.span));
      if (int64_t(out.size()) > kMaxListLength)
        return c.e.fail(Diag::ListTooLong, {"more", std::to_string(kMaxListLength)});
    }
    c.e.steps += int64_t(out.size()) / 16;
    return Value::list(std::move(out));
  }
  if (begin.kind != Kind::Int || end.kind != Kind::Int)
    return c.e.fail(Diag::NotInt, {c.e.show(begin.kind != Kind::Int ? begin : end)});
  Value y = c.e.emit(ir::Op::iota_, {}, ir::IotaAttr{0, {ir::DType::i32, {end.dim - begin.dim}}});
  return begin.isInt() && begin.integer() == 0 ? y : c.e.binary(BinaryOp::Add, y, begin);
}

Value builtin_iota(BuiltinCall &c) {
  ir::Dims dims;
  std::vector<Span> origins;
  int axis;
  if (!c.e.shapeList(c[0], c.spans[0], dims, origins) ||
      !c.e.axisValue(c[1], c.exprs[1], int(dims.size()), c.spans[1], axis))
    return {};
  return c.e.emit(ir::Op::iota_, {}, ir::IotaAttr{axis, {ir::DType::i32, dims}});
}

Value builtin_random_uniform(BuiltinCall &c) {
  ir::Dims dims;
  std::vector<Span> origins;
  if (!c.e.shapeList(c[0], c.spans[0], dims, origins) || !c.e.needsTensor(c.span)) return {};
  Value u = c.e.emit(ir::Op::random_, {}, ir::RandomAttr{c.e.randomSite(), {c.e.floatType, dims}});
  c.e.setOrigins(u, std::move(origins));
  bool unit = c[1].isNumber() && c[1].number() == 0;
  Value width = c.e.binary(BinaryOp::Sub, c[2], c[1]);
  if (!(width.isNumber() && width.number() == 1)) u = c.e.binary(BinaryOp::Mul, u, width);
  return unit ? u : c.e.binary(BinaryOp::Add, u, c[1]);
}

} // namespace nnc::fe
