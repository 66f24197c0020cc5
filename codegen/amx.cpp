// The shapes of contractions on tile registers; the idea is told in amx.h.
#include "codegen/amx.h"
#include "codegen/pack.h"
#include <algorithm>
#include <numeric>

namespace nnc::cg {

namespace {

int64_t roundUp(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

int64_t extentAt(const Kernel &k, AxisId a) {
  return std::max<int64_t>(1, k.axes[size_t(a)].extent.at(std::max<int64_t>(k.batch, 1)));
}

// Lines a power of two apart share few sets of the caches.
int64_t spreadPitch(int64_t bytes) { return bytes % 1024 == 0 ? bytes + 64 : bytes; }

int64_t termSteps(const Kernel &k, AxisId a) {
  const Schedule &s = k.schedule;
  return a == s.kAxis ? std::min(s.kBlock, extentAt(k, a)) : extentAt(k, a);
}

// Whether all steps of an axis are always there.
bool isWhole(const Kernel &k, AxisId a) {
  const Axis &x = k.axes[size_t(a)];
  return x.extent.isConst() && !x.bounded && itemSteps(k, a) == extentAt(k, a);
}

// The access of an operand in the layout of columnTiles: its flat index is
// 16 K (n / 16) + 32 (k / 2) + 2 (n % 16) + k % 2; of 16 columns 32 (k / 2) + 2 n + k % 2.
bool inColumnTiles(const Kernel &k, const Access &at, AxisId col, AxisId term) {
  const Index &x = at.flat;
  const bool single = extentAt(k, col) <= kAmxCols;
  if (!at.guards.empty() || x.terms.size() != (single ? 3 : 4) || x.c0 != 0 || x.cn != 0)
    return false;
  auto has = [&](Atom::Kind kind, AxisId axis, int64_t by, int64_t coef) {
    return std::any_of(x.terms.begin(), x.terms.end(), [&](const Term &t) {
      const Atom &a = k.atoms[size_t(t.atom)];
      if (a.kind != kind || t.coef != coef) return false;
      if (kind == Atom::Axis) return a.axis == axis;
      if (a.by != by || a.inner.terms.size() != 1) return false;
      const Atom &inner = k.atoms[size_t(a.inner.terms[0].atom)];
      return inner.kind == Atom::Axis && inner.axis == axis && a.inner.terms[0].coef == 1 &&
             a.inner.c0 == 0 && a.inner.cn == 0;
    });
  };
  const int64_t terms = extentAt(k, term);
  return terms % kAmxTerms == 0 && has(Atom::Div, term, 2, 2 * kAmxCols) &&
         has(Atom::Mod, term, 2, 1) &&
         (single ? has(Atom::Axis, col, 1, 2)
                 : has(Atom::Div, col, kAmxCols, kAmxCols * terms) &&
                       has(Atom::Mod, col, kAmxCols, 2));
}

bool onlyAxes(const Kernel &k, const Index &x) {
  return std::all_of(x.terms.begin(), x.terms.end(),
                     [&](const Term &t) { return k.atoms[size_t(t.atom)].kind == Atom::Axis; });
}

} // namespace

Layout columnTiles(const Dims &dims, int32_t terms, int32_t columns) {
  const int64_t panels = (dims[size_t(columns)].b + kAmxCols - 1) / kAmxCols;
  return {{{columns, panels}, {terms, dims[size_t(terms)].b / 2}, {columns, kAmxCols}, {terms, 2}}};
}

std::optional<int64_t> jointStride(const Kernel &k, const Index &x, std::vector<AxisId> axes) {
  std::erase_if(axes, [&](AxisId a) { return extentAt(k, a) == 1; });
  if (axes.empty()) return 0;
  std::optional<int64_t> stride = strideAlong(k, x, axes.back());
  int64_t each = stride.value_or(0) * extentAt(k, axes.back());
  for (size_t i = axes.size() - 1; i-- > 0 && stride;) {
    const auto outer = strideAlong(k, x, axes[i]);
    if (!outer || *outer != each || !isWhole(k, axes[i + 1])) return std::nullopt;
    each *= extentAt(k, axes[i]);
  }
  return stride;
}

bool isBf16(const Kernel &k, ExprId e) {
  const Expr &x = k.exprs[size_t(e)];
  if (x.op == SOp::load) return k.args[size_t(x.access.arg)].dtype == DType::bf16;
  if (x.op != SOp::convert) return false;
  if (x.type == DType::bf16) return true;
  const DType from = k.exprs[size_t(x.args[0])].type;
  return x.type == DType::f32 && (from == DType::f32 || from == DType::bf16) &&
         isBf16(k, x.args[0]);
}

std::vector<AxisId> amxTerms(const Kernel &k) {
  const auto &ks = k.contract.k;
  auto from = k.schedule.kAxis < 0 ? ks.begin() : std::find(ks.begin(), ks.end(), k.schedule.kAxis);
  return {from, ks.end()};
}

int64_t unitOfSteps(const Kernel &k, AxisId a) {
  const Axis &x = k.axes[size_t(a)];
  const Schedule &s = k.schedule;
  if (!x.extent.isConst() || x.bounded) return 1;
  int64_t unit = x.extent.b;
  for (const ItemAxis &item : s.items)
    if (item.axis == a) unit = std::gcd(unit, item.block);
  if (a == s.row && s.rowBlock > 0) unit = std::gcd(unit, s.rowBlock);
  return a == s.kAxis ? std::gcd(unit, s.kBlock) : unit;
}

AmxOperand amxOperand(const Kernel &k, bool columns) {
  AmxOperand o;
  const ContractInfo &c = k.contract;
  const Schedule &s = k.schedule;
  const ExprId e = columns ? c.b : c.a;
  const ExprId load = operandLoad(k, e);
  if (load < 0 || !isBf16(k, e) || c.k.empty()) return o;
  const Access &at = k.exprs[size_t(load)].access;
  const std::vector<AxisId> free = columns ? std::vector<AxisId>{s.col} : c.m;
  const std::vector<AxisId> terms = amxTerms(k);
  if (free.empty() || s.col < 0) return o;
  if (columns && terms.size() == 1 && inColumnTiles(k, at, s.col, terms[0])) {
    o.possible = o.matrix = true;
    o.inPlace = s.kAxis < 0 || s.kBlock % kAmxTerms == 0;
    o.pitch = extentAt(k, terms[0]); // elements per column
    return o;
  }
  const auto along = strideAlong(k, at.flat, terms.back()),
             across = strideAlong(k, at.flat, free.back());
  // Something must be contiguous; a single step counts as that.
  const bool byTerms = along && (*along == 1 || (*along == 0 && extentAt(k, terms.back()) > 1)),
             byFree = across && *across == 1;
  o.possible = byTerms || byFree;
  o.alongTerms = byTerms && !(columns && byFree);
  o.wide = k.args[size_t(at.arg)].dtype == DType::f32;
  if ((k.args[size_t(at.arg)].dtype != DType::bf16 && !o.wide) || !at.guards.empty() ||
      !onlyAxes(k, at.flat))
    return o;
  const auto stepTerms = jointStride(k, at.flat, terms), stepFree = jointStride(k, at.flat, free);
  if (!stepTerms || !stepFree || *stepTerms < 0 || *stepFree < 0) return o;
  o.matrix = o.alongTerms ? *stepTerms == 1 : *stepFree == 1;
  o.pitch = o.alongTerms ? *stepFree : *stepTerms;
  if (columns || !o.matrix || !o.alongTerms || o.wide) return o;
  // Read in place: whole tiles, on lines of the cache, of which there are enough.
  int64_t count = 1;
  bool fixed = true;
  for (AxisId a : terms) count *= termSteps(k, a), fixed = fixed && isWhole(k, a);
  if (s.kAxis >= 0 && extentAt(k, s.kAxis) % s.kBlock != 0) fixed = false;
  bool single = s.row >= 0;
  int64_t unit = 1;
  for (AxisId a : c.m) {
    single = single && (a == s.row || extentAt(k, a) == 1);
    unit *= unitOfSteps(k, a);
  }
  // The last tile is moved back until it fits, which sums between blocks of k do not allow.
  if (single && s.kAxis >= 0 &&
      (extentAt(k, s.row) % s.mr != 0 || itemSteps(k, s.row) % s.mr != 0 || s.rowBlock % s.mr != 0))
    fixed = false;
  // Rows of several axes have no end to be moved back from: whole tiles only, whatever the batch.
  o.inPlace = fixed && count % kAmxTerms == 0 && o.pitch % 32 == 0 &&
              (single ? extentAt(k, s.row) >= s.mr : s.row >= 0 && unit % s.mr == 0);
  return o;
}

bool sumsInOrder(const Kernel &k) {
  const Stage *sums = sumsBeside(k);
  if (!sums) return true;
  auto summed = [&](AxisId a) {
    return std::find(sums->reduce.begin(), sums->reduce.end(), a) != sums->reduce.end();
  };
  if (summed(k.schedule.col)) return false; // its lanes
  std::vector<AxisId> nest, order;
  for (const auto *list : {&k.contract.batch, &k.contract.n, &k.contract.m})
    for (AxisId a : *list)
      if (summed(a) && extentAt(k, a) > 1) nest.push_back(a);
  for (AxisId a : sums->reduce)
    if (extentAt(k, a) > 1) order.push_back(a);
  return nest == order;
}

bool holdsTileSums(const Kernel &k) {
  const Stage *sums = sumsBeside(k);
  const Schedule &s = k.schedule;
  if (!sums) return false;
  int64_t inner = 1; // rows of a step of the outermost axis
  for (AxisId a : k.contract.m) {
    if (extentAt(k, a) == 1) continue;
    if (std::find(sums->reduce.begin(), sums->reduce.end(), a) == sums->reduce.end()) return false;
    if (a != s.row) inner *= extentAt(k, a);
    if (a != s.row && (!isWhole(k, a) || itemSteps(k, a) != extentAt(k, a))) return false;
  }
  const int64_t chunk = itemUnit(k, s.row); // 0: one sum of all
  return inner * chunk % s.mr == 0 && (chunk == 0 || inner * s.rowBlock % s.mr == 0);
}

AmxScratch amxScratch(const Kernel &k) {
  AmxScratch x;
  const Schedule &s = k.schedule;
  int64_t count = 1, copies = 1;
  for (AxisId a : amxTerms(k)) count *= termSteps(k, a);
  x.tiles = std::max<int64_t>(1, (count + kAmxTerms - 1) / kAmxTerms);
  x.rows = 1;
  for (AxisId a : k.contract.m) {
    const int64_t steps = itemSteps(k, a);
    const bool cut = a == s.row && s.rowBlock > 0;
    if (cut) copies = (steps + s.rowBlock - 1) / s.rowBlock;
    x.rows *= cut ? std::min(steps, s.rowBlock) : steps;
  }
  x.rows = roundUp(x.rows, s.mr);
  x.columns = roundUp(itemSteps(k, s.col), s.nv * kAmxCols);
  x.linePitch = spreadPitch(x.tiles * kAmxTerms * 2);
  x.rowPitch = spreadPitch(roundUp(x.rows, 32) * 2);
  x.columnPitch = spreadPitch(roundUp(x.columns, 32) * 2);
  auto take = [&](int64_t bytes) {
    const int64_t at = x.total;
    x.total += roundUp(bytes, 64);
    return at;
  };
  const AmxOperand a = amxOperand(k, false), b = amxOperand(k, true);
  // One matrix at a time is gathered: rows along the terms go to their copy at once.
  int64_t matrix = 0;
  if (!a.matrix && !a.alongTerms) matrix = x.tiles * kAmxTerms * x.rowPitch;
  if (!b.matrix)
    matrix = std::max(matrix,
                      b.alongTerms ? x.columns * x.linePitch : x.tiles * kAmxTerms * x.columnPitch);
  x.matrix = take(matrix);
  if (!a.inPlace) x.rowCopy = take(x.rows * x.linePitch);
  if (!b.inPlace) x.columnCopy = take(x.columns * x.tiles * kAmxTerms * 2);
  if (s.kAxis >= 0) {
    x.sumPitch = spreadPitch(x.columns * 4);
    x.sums = take(copies * x.rows * x.sumPitch);
  } else {
    x.sumPitch = s.nv * kAmxCols * 4;
    x.sums = take(s.mr * x.sumPitch);
  }
  return x;
}

} // namespace nnc::cg
