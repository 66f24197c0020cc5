// Operators: numbers at compile time, tensors as nodes.
//
// Problem. `a + b` may be two ints, a size and an int (`batch + 1`), a list of numbers and a
// tensor, or two records leaf by leaf. Example: `2 * batch` is a size, `x * batch` a product of
// tensors.
//
// Method. Static operands compute here and now; sizes stay of the form a*batch + b; whatever meets
// a tensor is promoted and becomes a node. Powers with a small constant exponent are products.
#include "frontend/elab.h"
#include <cmath>

namespace nnc::fe {

static bool isComparison(BinaryOp op) {
  switch (op) {
  case BinaryOp::Less:
  case BinaryOp::LessEqual:
  case BinaryOp::Greater:
  case BinaryOp::GreaterEqual:
  case BinaryOp::Equal:
  case BinaryOp::NotEqual: return true;
  default: return false;
  }
}

// --- equality of static values -------------------------------------------------------------------

static bool hasTensor(const Value &v) {
  if (v.kind == Kind::List || v.kind == Kind::Tuple) {
    for (const Value &item : v.kind == Kind::List ? v.list() : v.tuple().items)
      if (hasTensor(item)) return true;
    return false;
  }
  return v.kind == Kind::Tensor || v.kind == Kind::Weight;
}

static bool sameFunction(const FunctionObj &a, const FunctionObj &b) {
  return a.kind == b.kind && a.decl == b.decl && a.lambda == b.lambda && a.builtin == b.builtin &&
         a.bound == b.bound && a.scope == b.scope;
}

static bool equal(const Value &a, const Value &b) {
  if (a.isNumber() && b.isNumber()) return a.number() == b.number();
  if (a.kind != b.kind) return false;
  switch (a.kind) {
  case Kind::Int: return a.dim == b.dim;
  case Kind::Bool: return a.b == b.b;
  case Kind::String: return a.string() == b.string();
  case Kind::Element: return a.element == b.element;
  case Kind::Instance: return a.instance == b.instance;
  case Kind::Function: return sameFunction(a.function(), b.function());
  case Kind::List:
  case Kind::Tuple: {
    const Values &x = a.kind == Kind::List ? a.list() : a.tuple().items;
    const Values &y = b.kind == Kind::List ? b.list() : b.tuple().items;
    if (x.size() != y.size()) return false;
    for (size_t i = 0; i < x.size(); ++i)
      if (!equal(x[i], y[i])) return false;
    return true;
  }
  default: return true;
  }
}

/// `==` and `!=` of values without tensors, and of anything with `none`.
Value Elaborator::compareStatic(BinaryOp op, const Value &a, const Value &b, bool &done) {
  done = true;
  bool isEqual = op == BinaryOp::Equal;
  if (a.isNone() || b.isNone()) return Value::of((a.isNone() && b.isNone()) == isEqual);
  if (!hasTensor(a) && !hasTensor(b)) {
    if (a.kind == Kind::Int && b.kind == Kind::Int && !(a.dim - b.dim).isConst())
      return fail(Diag::BatchValue, {"a comparison", show(a.isSize() ? a : b)});
    return Value::of(equal(a, b) == isEqual);
  }
  done = false;
  return {};
}

// --- numbers -------------------------------------------------------------------------------------

static int64_t floorDiv(int64_t a, int64_t b) {
  int64_t q = a / b;
  return q * b != a && (a < 0) != (b < 0) ? q - 1 : q;
}

/// a ** b for b >= 0; false on overflow.
static bool intPower(int64_t a, int64_t b, int64_t &out) {
  out = 1;
  while (b) {
    if ((b & 1) && __builtin_mul_overflow(out, a, &out)) return false;
    if ((b >>= 1) && __builtin_mul_overflow(a, a, &a)) return false;
  }
  return true;
}

/// Arithmetic of two constant ints; false if it has no int result.
static bool intArithmetic(BinaryOp op, int64_t a, int64_t b, int64_t &out, bool &overflow) {
  switch (op) {
  case BinaryOp::Add: overflow = __builtin_add_overflow(a, b, &out); return true;
  case BinaryOp::Sub: overflow = __builtin_sub_overflow(a, b, &out); return true;
  case BinaryOp::Mul: overflow = __builtin_mul_overflow(a, b, &out); return true;
  case BinaryOp::FloorDiv:
    if (a == INT64_MIN && b == -1) return overflow = true;
    out = floorDiv(a, b);
    return true;
  case BinaryOp::Mod: out = b == -1 ? 0 : a - floorDiv(a, b) * b; return true;
  case BinaryOp::Pow:
    if (b < 0) return false;
    overflow = !intPower(a, b, out);
    return true;
  default: return false;
  }
}

static double floatArithmetic(BinaryOp op, double a, double b) {
  switch (op) {
  case BinaryOp::Add: return a + b;
  case BinaryOp::Sub: return a - b;
  case BinaryOp::Mul: return a * b;
  case BinaryOp::Div: return a / b;
  case BinaryOp::FloorDiv: return std::floor(a / b);
  case BinaryOp::Mod: return a - std::floor(a / b) * b;
  default: return std::pow(a, b);
  }
}

static bool compareNumbers(BinaryOp op, double a, double b) {
  switch (op) {
  case BinaryOp::Less: return a < b;
  case BinaryOp::LessEqual: return a <= b;
  case BinaryOp::Greater: return a > b;
  default: return a >= b;
  }
}

/// Arithmetic with a size: the result stays of the form a*batch + b. False: there is no such
/// result.
static bool sizeArithmetic(BinaryOp op, ir::Dim a, ir::Dim b, ir::Dim &out) {
  switch (op) {
  case BinaryOp::Add: out = a + b; return true;
  case BinaryOp::Sub: out = a - b; return true;
  case BinaryOp::Mul:
    if (!a.isConst() && !b.isConst()) return false;
    out = a.isConst() ? b * a.b : a * b.b;
    return std::abs(out.a) < (int64_t(1) << 40) && std::abs(out.b) < (int64_t(1) << 40);
  case BinaryOp::Div:
  case BinaryOp::FloorDiv:
    if (b.isConst() && b.b != 0 && a.a % b.b == 0 && a.b % b.b == 0)
      return out = {a.a / b.b, a.b / b.b}, true;
    if (!b.isConst() && a.a % b.a == 0 && b * (a.a / b.a) == a) return out = a.a / b.a, true;
    return false;
  case BinaryOp::Mod:
    if (b.isConst() && b.b != 0 && a.a % b.b == 0)
      return out = a.b - floorDiv(a.b, b.b) * b.b, true;
    return false;
  default: return false;
  }
}

Value Elaborator::staticBinary(BinaryOp op, const Value &a, const Value &b) {
  if (isComparison(op)) {
    if (a.isNumber() && b.isNumber()) return Value::of(compareNumbers(op, a.number(), b.number()));
    return fail(Diag::BatchValue, {"a comparison", show(a.isSize() ? a : b)});
  }
  bool divides = op == BinaryOp::Div || op == BinaryOp::FloorDiv || op == BinaryOp::Mod;
  if (divides && b.isNumber() && b.number() == 0) return fail(Diag::DivisionByZero);
  if (a.isSize() || b.isSize()) {
    ir::Dim out;
    if (a.kind == Kind::Int && b.kind == Kind::Int && sizeArithmetic(op, a.dim, b.dim, out))
      return Value::of(out, at);
    bool asTensor = op == BinaryOp::Add || op == BinaryOp::Sub || op == BinaryOp::Mul ||
                    op == BinaryOp::Div || op == BinaryOp::Pow;
    if (pass && asTensor && (a.kind == Kind::Float || b.kind == Kind::Float || op == BinaryOp::Div))
      return tensorBinary(op, a, b);
    return fail(Diag::BatchValue, {"`" + text(at) + "`", show(a.isSize() ? a : b)});
  }
  if (a.isInt() && b.isInt() && op != BinaryOp::Div) {
    int64_t out = 0;
    bool overflow = false;
    if (intArithmetic(op, a.integer(), b.integer(), out, overflow))
      return overflow ? fail(Diag::StaticOverflow, {spelling(op)}) : Value::of(out, at);
  }
  return Value::of(floatArithmetic(op, a.number(), b.number()));
}

// --- tensors -------------------------------------------------------------------------------------

Value Elaborator::elementwise(ir::Op op, const Value &a, const Value &b, bool toFloat) {
  Values xs{a, b};
  if (!promote(xs, toFloat)) return {};
  Value y = emit(op, {xs[0].id, xs[1].id});
  setOrigins(y, originsOf(xs[0]));
  return y;
}

static ir::Op nodeOf(BinaryOp op) {
  switch (op) {
  case BinaryOp::Less: return ir::Op::lt_;
  case BinaryOp::LessEqual: return ir::Op::le_;
  case BinaryOp::Greater: return ir::Op::gt_;
  case BinaryOp::GreaterEqual: return ir::Op::ge_;
  case BinaryOp::Equal: return ir::Op::eq_;
  case BinaryOp::NotEqual: return ir::Op::ne_;
  case BinaryOp::Add: return ir::Op::add_;
  case BinaryOp::Sub: return ir::Op::sub_;
  case BinaryOp::Mul: return ir::Op::mul_;
  case BinaryOp::Div: return ir::Op::div_;
  case BinaryOp::FloorDiv: return ir::Op::floordiv_;
  case BinaryOp::Mod: return ir::Op::mod_;
  case BinaryOp::Or: return ir::Op::or_;
  case BinaryOp::And: return ir::Op::and_;
  default: return ir::Op::pow_;
  }
}

Value Elaborator::tensorBinary(BinaryOp op, Value a, Value b) {
  if (op == BinaryOp::Pow) return power(a, b);
  if (op == BinaryOp::And || op == BinaryOp::Or) {
    Values xs{a, b};
    if (!promote(xs, false, true)) return {};
    if (type(xs[0]).dtype != ir::DType::boolean)
      return fail(Diag::OperandTypes, {spelling(op), show(a) + " and " + show(b)});
    return emit(nodeOf(op), {xs[0].id, xs[1].id});
  }
  return elementwise(nodeOf(op), a, b, op == BinaryOp::Div);
}

Value Elaborator::power(const Value &a, const Value &b) {
  auto times = [&](const Value &x, const Value &y) {
    return elementwise(ir::Op::mul_, x, y, false);
  };
  if (b.isNumber() && !a.isNumber()) {
    double e = b.number();
    bool isInt = b.kind == Kind::Int;
    Value x = tensor(a);
    if (x.isPoison()) return x;
    if (ir::isFloat(type(x).dtype) || !isInt) {
      Value f = ir::isFloat(type(x).dtype) ? x : cast(x, floatType);
      if (e == 0.5) return emit(ir::Op::sqrt_, {f.id});
      if (e == -0.5) return emit(ir::Op::rsqrt_, {f.id});
      if (e == -1) return elementwise(ir::Op::div_, Value::of(1), f, true);
    }
    if (e == 1) return binary(BinaryOp::Add, x, Value::of(0));
    if (e == 2) return times(x, x);
    if (e == 3) return times(times(x, x), x);
    if (e == 4) {
      Value square = times(x, x);
      return times(square, square);
    }
    if (!ir::isFloat(type(x).dtype) && isInt && e > 0 && e <= 64) {
      Value y = x;
      for (int i = 1; i < int(e); ++i) y = times(y, x);
      return y;
    }
  }
  return elementwise(ir::Op::pow_, a, b, true);
}

Value Elaborator::unary(UnaryOp op, Value a) {
  if (a.isPoison()) return a;
  if (op == UnaryOp::Not) {
    if (a.kind == Kind::Bool) return Value::of(!a.b);
    if (a.isTensor() && type(a).dtype == ir::DType::boolean)
      return emit(ir::Op::not_, {tensor(a).id});
    return fail(Diag::OperandTypes, {"not", show(a)});
  }
  if (a.kind == Kind::Float) return Value::of(-a.d);
  if (a.kind == Kind::Int) return staticBinary(BinaryOp::Sub, Value::of(0), a);
  if (a.kind == Kind::Tuple) {
    Values items;
    for (const Value &item : a.tuple().items) items.push_back(unary(op, item));
    return Value::tuple(std::move(items), a.tuple().names);
  }
  if (!isTensorLike(a)) return fail(Diag::OperandTypes, {"-", show(a)});
  Values xs{a};
  if (!promote(xs, false)) return {};
  Value y = emit(ir::Op::neg_, {xs[0].id});
  setOrigins(y, originsOf(xs[0]));
  return y;
}

// --- the operator --------------------------------------------------------------------------------

Value Elaborator::binary(BinaryOp op, Value a, Value b) {
  if (a.isPoison() || b.isPoison()) return {};
  if (op == BinaryOp::Equal || op == BinaryOp::NotEqual) {
    bool done;
    Value v = compareStatic(op, a, b, done);
    if (done) return v;
  }
  if (op == BinaryOp::And || op == BinaryOp::Or) {
    if (a.kind == Kind::Bool && b.kind == Kind::Bool)
      return Value::of(op == BinaryOp::And ? a.b && b.b : a.b || b.b);
    if (!isTensorLike(a) || !isTensorLike(b))
      return fail(Diag::OperandTypes, {spelling(op), show(a) + " and " + show(b)});
    return tensorBinary(op, a, b);
  }
  if (a.kind == Kind::Tuple || b.kind == Kind::Tuple) {
    const TupleObj &t = a.kind == Kind::Tuple ? a.tuple() : b.tuple();
    if (a.kind == b.kind &&
        (a.tuple().names != b.tuple().names || a.tuple().items.size() != b.tuple().items.size()))
      return fail(Diag::OperandTypes, {spelling(op), show(a) + " and " + show(b)});
    Values items;
    for (size_t i = 0; i < t.items.size(); ++i)
      items.push_back(binary(op, a.kind == Kind::Tuple ? a.tuple().items[i] : a,
                             b.kind == Kind::Tuple ? b.tuple().items[i] : b));
    return Value::tuple(std::move(items), t.names);
  }
  if (op == BinaryOp::Add && a.kind == Kind::String && b.kind == Kind::String) {
    steps += int64_t(a.string().size() + b.string().size()) / 64;
    return Value::of(a.string() + b.string());
  }
  auto isStatic = [](const Value &v) { return v.kind == Kind::Int || v.kind == Kind::Float; };
  if (op != BinaryOp::MatMul && isStatic(a) && isStatic(b)) return staticBinary(op, a, b);
  bool booleans = a.kind == Kind::Bool && b.kind == Kind::Bool;
  if (!isTensorLike(a) || !isTensorLike(b) || booleans) {
    error(Diag::OperandTypes, {spelling(op), show(a) + " and " + show(b)});
    return {};
  }
  return op == BinaryOp::MatMul ? matmul(a, b) : tensorBinary(op, a, b);
}

// --- products of matrices ------------------------------------------------------------------------

// [.., m, k] @ [.., k, n]: leading dimensions broadcast as NumPy's; a vector is a row or a column.
Value Elaborator::matmul(const Value &a, const Value &b) {
  Values xs{tensor(a), tensor(b)};
  if (xs[0].isPoison() || xs[1].isPoison()) return {};
  ir::DType t = commonElement(xs, false, false);
  for (Value &x : xs) x = cast(x, t);
  if (xs[0].isPoison() || xs[1].isPoison()) return {};
  const ir::Dims x = type(xs[0]).dims, w = type(xs[1]).dims;
  int rx = int(x.size()), rw = int(w.size());
  if (rx == 0 || rw == 0)
    return fail(Diag::OperandTypes, {"@", show(xs[0]) + " and " + show(xs[1])});
  int kx = rx - 1, kw = rw == 1 ? 0 : rw - 2;
  if (x[kx] != w[kw]) {
    auto &e = error(Diag::MatmulMismatch, {show(xs[0]), show(xs[1]), show(x[kx]), show(w[kw])});
    labelSize(e, xs[0], kx);
    labelSize(e, xs[1], kw);
    return {};
  }
  ir::ContractAttr c;
  c.type.dtype = t;
  std::vector<Span> origins;
  auto label = [&](std::string name, ir::Dim extent) {
    c.labels.push_back(std::move(name));
    c.extents.push_back(extent);
    return ir::LabelForm{{{int32_t(c.labels.size()) - 1, 1}}, 0};
  };
  auto result = [&](const ir::LabelForm &form, Span origin) {
    c.forms[2].push_back(form);
    c.type.dims.push_back(c.extents[form.terms[0].label]);
    origins.push_back(origin);
  };
  int bx = std::max(rx - 2, 0), bw = std::max(rw - 2, 0), lead = std::max(bx, bw);
  for (int i = 0; i < lead; ++i) {
    int ix = i - (lead - bx), iw = i - (lead - bw);
    ir::Dim dx = ix >= 0 ? x[ix] : ir::Dim(1), dw = iw >= 0 ? w[iw] : ir::Dim(1);
    if (dx != dw && dx != ir::Dim(1) && dw != ir::Dim(1))
      return fail(Diag::MatmulMismatch, {show(xs[0]), show(xs[1]), show(dx), show(dw)});
    bool fromX = ix >= 0 && (dx != ir::Dim(1) || iw < 0 || dw == ir::Dim(1));
    ir::LabelForm form = label("b" + std::to_string(i), fromX ? dx : dw), one{};
    if (ix >= 0) c.forms[0].push_back(dx == c.extents.back() ? form : one);
    if (iw >= 0) c.forms[1].push_back(dw == c.extents.back() ? form : one);
    result(form, originOf(xs[fromX ? 0 : 1], fromX ? ix : iw));
  }
  if (rx > 1) {
    c.forms[0].push_back(label("m", x[rx - 2]));
    result(c.forms[0].back(), originOf(xs[0], rx - 2));
  }
  ir::LabelForm k = label("k", x[kx]);
  c.forms[0].push_back(k);
  c.forms[1].push_back(k);
  if (rw > 1) {
    c.forms[1].push_back(label("n", w[rw - 1]));
    result(c.forms[1].back(), originOf(xs[1], rw - 1));
  }
  Value y = emit(ir::Op::contract_, {xs[0].id, xs[1].id}, std::move(c));
  setOrigins(y, std::move(origins));
  return y;
}

} // namespace nnc::fe
