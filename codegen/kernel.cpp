// Kernels as data: hash-consed construction and index arithmetic.
//
// Problem. Views become index expressions, and the same element must always get the same
// expression: fusion asks "is this read at the index that is written?", and equal kernels must have
// equal text.
//   reshape [n,28,28] -> [n,784] read at (r, i):   flat = 784*r + 28*(i/28) + i%28   ->   784*r + i
//
// Method. An index is affine over atoms; atoms (axes, floor divisions, remainders, loaded integers)
// are interned, so equality is structural. Divisions and remainders are simplified with the ranges
// of the axes: multiples of the divisor leave, and what remains within one period is exact.
#include "codegen/kernel.h"
#include <algorithm>
#include <cstring>
#include <sstream>

namespace nnc::cg {

// --- construction ------------------------------------------------------------------------------

AxisId Kernel::axis(std::string name, Dim extent) {
  Axis a;
  a.name = std::move(name);
  a.extent = extent;
  axes.push_back(std::move(a));
  return AxisId(axes.size()) - 1;
}

AtomId Kernel::atom(const Atom &a) {
  auto [it, isNew] = atomIds_.try_emplace(a, AtomId(atoms.size()));
  if (isNew) atoms.push_back(a);
  return it->second;
}

Index Kernel::axisIndex(AxisId a) {
  Index x;
  if (axes[a].extent == Dim(1) && !axes[a].bounded) return x; // the only index is 0
  Atom t;
  t.kind = Atom::Axis;
  t.axis = a;
  x.terms.push_back({atom(t), 1});
  return x;
}

namespace {

template <class T> void put(std::string &s, const T &v) {
  static_assert(std::is_trivially_copyable_v<T>);
  s.append(reinterpret_cast<const char *>(&v), sizeof v);
}
void put(std::string &s, const Index &x) {
  put(s, int32_t(x.terms.size()));
  for (const Term &t : x.terms) put(s, t.atom), put(s, t.coef);
  put(s, x.c0), put(s, x.cn);
}
void put(std::string &s, const std::vector<Guard> &gs) {
  put(s, int32_t(gs.size()));
  for (const Guard &g : gs) put(s, g.index), put(s, g.lo), put(s, g.hi.a), put(s, g.hi.b);
}

// Every field that gives an expression its meaning, as bytes.
std::string keyOf(const Expr &e) {
  std::string s;
  put(s, uint8_t(e.op)), put(s, uint8_t(e.type));
  put(s, int32_t(e.args.size()));
  for (ExprId a : e.args) put(s, a);
  put(s, e.value);
  put(s, e.access.arg), put(s, e.access.flat), put(s, e.access.guards);
  put(s, e.stage), put(s, e.slot);
  put(s, e.index), put(s, e.dim.a), put(s, e.dim.b), put(s, e.guards);
  return s;
}

} // namespace

ExprId Kernel::expr(Expr e) {
  // Only folds that no bit can show: a conversion to the same type, a select of equal sides, an
  // always-true guard.
  if (e.op == SOp::convert && exprs[e.args[0]].type == e.type) return e.args[0];
  if (e.op == SOp::select && e.args[1] == e.args[2]) return e.args[1];
  if (e.op == SOp::index && e.index.isConst()) {
    e.op = SOp::constant;
    e.value = double(e.index.c0);
    e.index = {};
  }
  if (e.op == SOp::guard && e.guards.empty()) {
    e.op = SOp::constant;
    e.value = 1;
  }
  if (e.op == SOp::select && exprs[e.args[0]].op == SOp::constant)
    return exprs[e.args[0]].value != 0 ? e.args[1] : e.args[2];
  auto [it, isNew] = exprIds_.try_emplace(keyOf(e), ExprId(exprs.size()));
  if (isNew) exprs.push_back(std::move(e));
  return it->second;
}

// --- index arithmetic ----------------------------------------------------------------------------

Index operator+(const Index &x, const Index &y) {
  Index r;
  r.c0 = x.c0 + y.c0;
  r.cn = x.cn + y.cn;
  auto a = x.terms.begin(), b = y.terms.begin();
  while (a != x.terms.end() || b != y.terms.end()) {
    if (b == y.terms.end() || (a != x.terms.end() && a->atom < b->atom)) r.terms.push_back(*a++);
    else if (a == x.terms.end() || b->atom < a->atom) r.terms.push_back(*b++);
    else {
      Term t{a->atom, a->coef + b->coef};
      if (t.coef != 0) r.terms.push_back(t);
      ++a, ++b;
    }
  }
  return r;
}

Index operator*(const Index &x, int64_t k) {
  if (k == 0) return {};
  Index r = x;
  for (Term &t : r.terms) t.coef *= k;
  r.c0 *= k;
  r.cn *= k;
  return r;
}

Index constIndex(int64_t c) {
  Index x;
  x.c0 = c;
  return x;
}

Index dimIndex(Dim d) {
  Index x;
  x.c0 = d.b;
  x.cn = d.a;
  return x;
}

namespace {

int64_t floorDiv(int64_t a, int64_t b) {
  int64_t q = a / b;
  return q - (a % b != 0 && (a < 0) != (b < 0));
}

bool rangeOfAtom(const Kernel &k, const Atom &a, int64_t &lo, int64_t &hi) {
  switch (a.kind) {
  case Atom::Axis:
    lo = 0, hi = std::max<int64_t>(k.axes[a.axis].extent.at(k.batch) - 1, 0);
    return true;
  case Atom::Div:
    if (!rangeOf(k, a.inner, lo, hi)) return false;
    lo = floorDiv(lo, a.by), hi = floorDiv(hi, a.by);
    return true;
  case Atom::Mod:
    lo = 0, hi = a.by - 1;
    return true;
  case Atom::Value:
    lo = 0, hi = std::max<int64_t>(a.limit.at(k.batch) - 1, 0);
    return true;
  }
  return false;
}

// x = by * quotient + rest, taking every term, and as much of the constants, as the divisor
// divides.
void splitBy(const Index &x, int64_t by, Index &quotient, Index &rest) {
  for (const Term &t : x.terms) {
    if (t.coef % by == 0) quotient.terms.push_back({t.atom, t.coef / by});
    else rest.terms.push_back(t);
  }
  quotient.c0 = floorDiv(x.c0, by);
  rest.c0 = x.c0 - quotient.c0 * by;
  if (x.cn % by == 0) quotient.cn = x.cn / by;
  else rest.cn = x.cn;
}

} // namespace

bool rangeOf(const Kernel &k, const Index &x, int64_t &lo, int64_t &hi) {
  // cn * n lies between cn*1 and cn*N.
  lo = x.c0 + std::min(x.cn, x.cn * k.batch);
  hi = x.c0 + std::max(x.cn, x.cn * k.batch);
  for (const Term &t : x.terms) {
    int64_t a, b;
    if (!rangeOfAtom(k, k.atoms[t.atom], a, b)) return false;
    lo += t.coef > 0 ? t.coef * a : t.coef * b;
    hi += t.coef > 0 ? t.coef * b : t.coef * a;
  }
  return true;
}

Index divIndex(Kernel &k, const Index &x, int64_t by) {
  if (by == 1) return x;
  Index q, r;
  splitBy(x, by, q, r);
  int64_t lo, hi;
  if (rangeOf(k, r, lo, hi) && floorDiv(lo, by) == floorDiv(hi, by))
    return q + constIndex(floorDiv(lo, by));
  Atom a;
  a.kind = Atom::Div;
  a.inner = r;
  a.by = by;
  // (x / a) / b = x / (a*b)
  if (r.terms.size() == 1 && r.terms[0].coef == 1 && r.c0 == 0 && r.cn == 0) {
    const Atom &in = k.atoms[r.terms[0].atom];
    if (in.kind == Atom::Div) {
      Index inner = in.inner;
      return q + divIndex(k, inner, in.by * by);
    }
  }
  Index d;
  d.terms.push_back({k.atom(a), 1});
  return q + d;
}

Index modIndex(Kernel &k, const Index &x, int64_t by) {
  if (by == 1) return {};
  Index q, r;
  splitBy(x, by, q, r);
  int64_t lo, hi;
  if (rangeOf(k, r, lo, hi) && floorDiv(lo, by) == floorDiv(hi, by))
    return r + constIndex(-floorDiv(lo, by) * by);
  if (r.terms.size() == 1 && r.terms[0].coef == 1 && r.c0 == 0 && r.cn == 0) {
    const Atom &in = k.atoms[r.terms[0].atom];
    if (in.kind == Atom::Mod && in.by % by == 0) {
      Index inner = in.inner;
      return modIndex(k, inner, by);
    }
  }
  Atom a;
  a.kind = Atom::Mod;
  a.inner = r;
  a.by = by;
  Index m;
  m.terms.push_back({k.atom(a), 1});
  return m;
}

// The quotient that belongs to a remainder: for (y/a) % b it is y/(a*b), for y % b it is y/b.
static bool isQuotientOf(const Kernel &k, const Atom &d, const Atom &m) {
  if (d.kind != Atom::Div || m.kind != Atom::Mod) return false;
  if (d.by == m.by && d.inner == m.inner) return true;
  const Index &x = m.inner;
  if (x.terms.size() != 1 || x.terms[0].coef != 1 || x.c0 != 0 || x.cn != 0) return false;
  const Atom &in = k.atoms[x.terms[0].atom];
  return in.kind == Atom::Div && d.by == in.by * m.by && d.inner == in.inner;
}

Index recombine(Kernel &k, Index x) {
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < x.terms.size() && !changed; ++i) {
      const Atom d = k.atoms[x.terms[i].atom];
      for (size_t j = 0; j < x.terms.size(); ++j) {
        const Atom m = k.atoms[x.terms[j].atom];
        if (!isQuotientOf(k, d, m) || x.terms[i].coef != x.terms[j].coef * m.by) continue;
        int64_t c = x.terms[j].coef;
        Index rest = x;
        rest.terms.erase(rest.terms.begin() + std::max(i, j));
        rest.terms.erase(rest.terms.begin() + std::min(i, j));
        x = rest + m.inner * c;
        changed = true;
        break;
      }
    }
  }
  return x;
}

bool dependsOn(const Kernel &k, ExprId e, AxisId axis) {
  const Expr &x = k.exprs[e];
  for (ExprId a : x.args)
    if (dependsOn(k, a, axis)) return true;
  auto guards = [&](const std::vector<Guard> &gs) {
    return std::any_of(gs.begin(), gs.end(), [&](auto &g) { return dependsOn(k, g.index, axis); });
  };
  if (x.op == SOp::load) return dependsOn(k, x.access.flat, axis) || guards(x.access.guards);
  if (x.op == SOp::index || x.op == SOp::random) return dependsOn(k, x.index, axis);
  if (x.op == SOp::guard) return guards(x.guards);
  return false;
}

bool dependsOn(const Kernel &k, const Index &x, AxisId axis) {
  for (const Term &t : x.terms) {
    const Atom &a = k.atoms[t.atom];
    switch (a.kind) {
    case Atom::Axis:
      if (a.axis == axis) return true;
      break;
    case Atom::Div:
    case Atom::Mod:
      if (dependsOn(k, a.inner, axis)) return true;
      break;
    case Atom::Value:
      if (dependsOn(k, a.value, axis)) return true;
      break;
    }
  }
  return false;
}

std::optional<int64_t> strideAlong(const Kernel &k, const Index &x, AxisId axis) {
  int64_t stride = 0;
  for (const Term &t : x.terms) {
    const Atom &a = k.atoms[t.atom];
    if (a.kind == Atom::Axis) {
      if (a.axis == axis) stride += t.coef;
      continue;
    }
    Index one;
    one.terms.push_back({t.atom, 1});
    if (dependsOn(k, one, axis)) return std::nullopt;
  }
  return stride;
}

const Stage *sumsBeside(const Kernel &k) {
  if (k.cls != KernelClass::Contract) return nullptr;
  for (const Stage &s : k.stages)
    if (!s.reduce.empty()) return &s;
  return nullptr;
}

int64_t itemUnit(const Kernel &k, AxisId a) {
  const Stage *sums = sumsBeside(k);
  if (!sums || std::find(sums->reduce.begin(), sums->reduce.end(), a) == sums->reduce.end())
    return 1;
  const bool whole =
      a != sums->reduce[0] || sums->chunk >= k.axes[a].extent.at(std::max<int64_t>(k.batch, 1));
  return whole ? 0 : sums->chunk;
}

int64_t itemCount(const Kernel &k, int64_t n) {
  int64_t items = 1;
  for (const ItemAxis &a : k.schedule.items) {
    int64_t e = k.axes[a.axis].extent.at(n);
    items *= (e + a.block - 1) / a.block;
  }
  return items;
}

} // namespace nnc::cg
