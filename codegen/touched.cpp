// Tables of which a step changes the rows of its tokens only.
//
// Problem. An embedding of 100000 rows is looked up 512 times in a step. Its gradient is zero
// elsewhere, and the kernel that sums it and applies the update over the table
//   acc[row, c] = sum of the tokens' updates;  table[row, c] = table[row, c] - rate * acc[row, c]
// need not visit 99488 rows. Momentum must: its m = 0.9 * m + g moves every row.
//
// Method. Each stage of the kernel is read with 0 for the sum: 0 * x and 0 / x are 0, x + 0 and
// x - 0 are x, a choice whose condition is a constant is what it chooses. If every stored value is
// thereby what lies at its place already, rows without tokens may be left alone. So it is known of
// an expression, not of an optimizer: SGD, Adagrad, clipping by value, some sums of loops. It asks
// for updates in place, and is therefore decided when all else is planned. Two things differ from a
// visit to all rows: a rate that is infinite or NaN (0 * inf) does not reach rows without tokens,
// and a zero keeps its sign.
#include "codegen/touched.h"
#include <algorithm>
#include <cmath>
#include <optional>

namespace nnc::cg {

namespace {

// What an expression is when the sum is 0: a number, another expression, or unknown.
struct Known {
  ExprId same = -1;
  std::optional<double> number;
  bool is(double v) const { return number && *number == v; }
  friend bool operator==(const Known &, const Known &) = default;
};

class AtZero {
 public:
  explicit AtZero(const Kernel &k) : k_(k), done_(k.exprs.size()) {}

  Known of(ExprId id) {
    if (!done_[size_t(id)]) done_[size_t(id)] = compute(id);
    return *done_[size_t(id)];
  }

 private:
  const Kernel &k_;
  std::vector<std::optional<Known>> done_;

  static Known number(double v) { return {-1, v}; }

  // A load is already of its argument's type: to convert it there and back changes nothing.
  bool keeps(const Known &x, DType to) const {
    if (x.same < 0 || k_.exprs[size_t(x.same)].op != SOp::load) return false;
    DType stored = k_.args[size_t(k_.exprs[size_t(x.same)].access.arg)].dtype;
    return to == stored || to == ir::widened(stored);
  }

  static std::optional<double> fold(SOp op, DType t, double x, double y) {
    auto in = [&](double v) { return t == DType::f64 ? v : double(float(v)); };
    switch (op) {
    case SOp::add: return in(x + y);
    case SOp::sub: return in(x - y);
    case SOp::mul: return in(x * y);
    case SOp::div: return in(x / y);
    case SOp::neg: return -x;
    case SOp::abs: return std::fabs(x);
    case SOp::max: return std::max(x, y);
    case SOp::min: return std::min(x, y);
    case SOp::eq: return x == y;
    case SOp::ne: return x != y;
    case SOp::lt: return x < y;
    case SOp::le: return x <= y;
    case SOp::gt: return x > y;
    case SOp::ge: return x >= y;
    case SOp::sqrt:
    case SOp::sign:
    case SOp::floor:
    case SOp::ceil:
    case SOp::round: return x == 0 ? std::optional<double>(0) : std::nullopt;
    default: return std::nullopt;
    }
  }

  Known compute(ExprId id) {
    const Expr &e = k_.exprs[size_t(id)];
    switch (e.op) {
    case SOp::acc: return number(0);
    case SOp::constant: return std::isfinite(e.value) ? number(e.value) : Known{id, {}};
    case SOp::local: return of(k_.stages[size_t(e.stage)].body);
    default: break;
    }
    if (e.args.empty()) return {id, {}};
    const Known x = of(e.args[0]), y = e.args.size() > 1 ? of(e.args[1]) : Known{};
    switch (e.op) {
    case SOp::add:
      if (x.is(0)) return y;
      if (y.is(0)) return x;
      break;
    case SOp::sub:
      if (y.is(0)) return x;
      break;
    case SOp::mul:
      if (x.is(0) || y.is(0)) return number(0);
      if (x.is(1)) return y;
      if (y.is(1)) return x;
      break;
    case SOp::div:
      if (x.is(0) && !y.is(0)) return number(0);
      if (y.is(1)) return x;
      break;
    case SOp::select: {
      const Known z = of(e.args[2]);
      if (x.number) return *x.number != 0 ? y : z;
      if (y == z) return y;
      break;
    }
    case SOp::convert:
      if (x.is(0)) return x;
      if (keeps(x, e.type)) return x;
      break;
    default: break;
    }
    if (ir::isFloat(k_.exprs[size_t(e.args[0])].type) && x.number &&
        (e.args.size() == 1 || y.number))
      if (auto v = fold(e.op, e.type, *x.number, y.number.value_or(0)); v && std::isfinite(*v))
        return number(*v);
    // Of operands that are what they were, the expression itself.
    for (ExprId a : e.args)
      if (Known v = of(a); v.same != a && !(v.number && k_.exprs[size_t(a)].op == SOp::constant))
        return {};
    return {id, {}};
  }
};

} // namespace

bool tokensReadElsewhere(const Kernel &k, const Access &place) {
  const ScatterInfo &s = k.scatter;
  // The index with the token's row as a row of the table.
  auto ownRow = [&](const Index &x) {
    Index r;
    r.c0 = x.c0, r.cn = x.cn;
    for (Term t : x.terms) {
      const Atom &a = k.atoms[size_t(t.atom)];
      if (a.kind == Atom::Value && a.value == s.index && a.limit == s.rows)
        for (AtomId row = 0; row < AtomId(k.atoms.size()); ++row)
          if (k.atoms[size_t(row)].kind == Atom::Axis && k.atoms[size_t(row)].axis == s.row)
            t.atom = row;
      Index one;
      one.terms.push_back(t);
      r = r + one;
    }
    return r;
  };
  std::vector<char> seen(k.exprs.size(), 0);
  auto reads = [&](auto &&self, ExprId id) -> bool {
    if (id < 0 || seen[size_t(id)]++) return false;
    const Expr &e = k.exprs[size_t(id)];
    auto inIndex = [&](auto &&again, const Index &x) -> bool {
      return std::any_of(x.terms.begin(), x.terms.end(), [&](const Term &t) {
        const Atom &a = k.atoms[size_t(t.atom)];
        return a.kind == Atom::Value ? self(self, a.value)
                                     : a.kind != Atom::Axis && again(again, a.inner);
      });
    };
    auto inGuards = [&](const std::vector<Guard> &gs) {
      return std::any_of(gs.begin(), gs.end(),
                         [&](const Guard &g) { return inIndex(inIndex, g.index); });
    };
    if (e.op == SOp::load && e.access.arg == place.arg &&
        (ownRow(e.access.flat) != place.flat || !e.access.guards.empty() || !place.guards.empty()))
      return true;
    return std::any_of(e.args.begin(), e.args.end(), [&](ExprId a) { return self(self, a); }) ||
           inIndex(inIndex, e.index) || inIndex(inIndex, e.access.flat) || inGuards(e.guards) ||
           inGuards(e.access.guards);
  };
  return reads(reads, s.index) || reads(reads, s.update);
}

bool keepsUntouchedRows(const Kernel &k) {
  if (k.cls != KernelClass::ScatterAdd || k.scatter.arg >= 0) return false;
  AtZero at(k);
  for (const Stage &s : k.stages)
    for (const Store &t : s.stores) {
      const Known v = at.of(s.body);
      if (v.same < 0 || k.exprs[size_t(v.same)].op != SOp::load) return false;
      const Access &from = k.exprs[size_t(v.same)].access;
      if (from.arg != t.access.arg || from.flat != t.access.flat || from.guards != t.access.guards)
        return false;
    }
  return true;
}

} // namespace nnc::cg
