// The shape of packed operands; the idea is told in pack.h.
#include "codegen/pack.h"
#include "codegen/amx.h"
#include <algorithm>
#include <map>
#include <set>

namespace nnc::cg {

namespace {

int64_t roundUp(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }
bool contains(const std::vector<AxisId> &list, AxisId a) {
  return std::find(list.begin(), list.end(), a) != list.end();
}
int64_t extentAt(const Kernel &k, AxisId a) {
  return std::max<int64_t>(1, k.axes[size_t(a)].extent.at(std::max<int64_t>(k.batch, 1)));
}

// Lanes of the accumulator's type in a vector of the schedule, which counts f32.
int64_t lanesOf(const Kernel &k) {
  return std::max<int64_t>(1, k.schedule.lanes * 4 / ir::dtypeBytes(k.contract.type));
}

// The coefficients of an index that is a sum of axes; false if it is not.
bool coefficients(const Kernel &k, const Index &x, std::map<AxisId, int64_t> &by) {
  if (x.cn != 0) return false;
  for (const Term &t : x.terms) {
    const Atom &a = k.atoms[size_t(t.atom)];
    if (a.kind != Atom::Axis) return false;
    by[a.axis] += t.coef;
  }
  return true;
}

// One dimension for each index that a guard watches, one for each other axis that moves.
bool findDims(const Kernel &k, const Access &access, Pack how, std::vector<PackDim> &dims) {
  std::map<AxisId, int64_t> flat;
  if (!coefficients(k, access.flat, flat)) return false;
  std::vector<AxisId> taken;
  for (const Guard &g : access.guards) {
    std::map<AxisId, int64_t> form;
    if (!coefficients(k, g.index, form) || form.empty()) return false;
    PackDim d;
    d.guarded = true, d.offset = g.index.c0, d.lo = g.lo, d.hi = g.hi;
    for (auto [axis, coef] : form) {
      auto at = flat.find(axis);
      if (coef == 0 || at == flat.end() || at->second % coef != 0 || contains(taken, axis))
        return false;
      const int64_t stride = at->second / coef;
      if (d.stride != 0 && stride != d.stride) return false;
      d.stride = stride;
      d.form.push_back({axis, coef});
    }
    for (auto [axis, coef] : form) taken.push_back(axis);
    dims.push_back(d);
  }
  for (auto [axis, coef] : flat) {
    if (contains(taken, axis) || packSteps(k, axis, how) == 1) continue;
    PackDim d;
    d.form = {{axis, 1}};
    d.stride = coef;
    dims.push_back(d);
  }
  for (PackDim &d : dims)
    for (auto [axis, coef] : d.form) d.extent += std::abs(coef) * (packSteps(k, axis, how) - 1);
  std::stable_sort(dims.begin(), dims.end(), [](const PackDim &x, const PackDim &y) {
    return std::abs(x.stride) > std::abs(y.stride);
  });
  return true;
}

// Whether all that a computed operand is made of can be told by the dimensions of its copy.
bool hasDims(const Kernel &k, ExprId operand, const std::vector<PackDim> &dims) {
  for (ExprId e : partsOf(k, operand)) {
    const Expr &x = k.exprs[size_t(e)];
    if (x.op == SOp::index || x.op == SOp::random || x.op == SOp::local || x.op == SOp::acc)
      return false;
    if (x.op == SOp::load && !stepsAlong(k, dims, x.access.flat)) return false;
    for (const auto *list : {&x.access.guards, &x.guards})
      for (const Guard &g : *list)
        if (!stepsAlong(k, dims, g.index)) return false;
  }
  return true;
}

// Rows of short lines (the channels of a picture) as one line: (w, c) with c < 3 is 3w + c.
void joinLast(const Kernel &k, std::vector<PackDim> &dims, AxisId row) {
  if (dims.size() < 2) return;
  PackDim &outer = dims[dims.size() - 2], &inner = dims.back();
  if (inner.guarded || inner.form.size() != 1 || inner.stride != 1 || inner.form[0].first == row)
    return;
  const int64_t width = extentAt(k, inner.form[0].first);
  const Axis &axis = k.axes[size_t(inner.form[0].first)];
  if (inner.extent != width || axis.bounded || !axis.extent.isConst() || outer.stride != width)
    return;
  for (auto &[a, coef] : outer.form) coef *= width;
  outer.form.push_back(inner.form[0]);
  outer.stride = 1;
  outer.extent *= width;
  outer.offset *= width, outer.lo *= width;
  outer.hi.a *= width, outer.hi.b *= width;
  dims.pop_back();
}

constexpr int64_t kConflict = 1024; // bytes between lines that collide in the first cache
constexpr int64_t kLine = 16;       // elements

// Two axes of k, one after the other: what tiles read in sequence needs no distance.
bool inSequence(const Kernel &k, const PackDim &outer, const PackDim &inner) {
  if (outer.form.size() != 1 || inner.form.size() != 1 || outer.guarded || inner.guarded)
    return false;
  const auto &ks = k.contract.k;
  const auto at = std::find(ks.begin(), ks.end(), outer.form[0].first);
  return at != ks.end() && at + 1 != ks.end() && *(at + 1) == inner.form[0].first;
}

// Steps of the copy, innermost dimension first, beginning with `step`.
int64_t setPitches(const Kernel &k, std::vector<PackDim> &dims, int64_t step) {
  for (size_t i = dims.size(); i-- > 0;) {
    dims[i].pitch = step;
    step *= dims[i].extent;
    if (i == 0 || step < kLine / 2 || inSequence(k, dims[i - 1], dims[i])) continue;
    step = roundUp(step, kLine);
    if (step * ir::dtypeBytes(k.contract.type) % kConflict == 0) step += kLine;
  }
  return step;
}

} // namespace

bool PackDim::has(AxisId a) const {
  return std::any_of(form.begin(), form.end(), [&](auto &t) { return t.first == a; });
}

bool isComputed(const Kernel &k, ExprId operand) {
  while (k.exprs[size_t(operand)].op == SOp::convert) operand = k.exprs[size_t(operand)].args[0];
  return k.exprs[size_t(operand)].op != SOp::load;
}

std::vector<ExprId> partsOf(const Kernel &k, ExprId operand) {
  std::set<ExprId> seen;
  std::vector<ExprId> work{operand};
  while (!work.empty()) {
    const ExprId e = work.back();
    work.pop_back();
    if (seen.insert(e).second)
      work.insert(work.end(), k.exprs[size_t(e)].args.begin(), k.exprs[size_t(e)].args.end());
  }
  return {seen.begin(), seen.end()}; // operands stand before those who read them
}

ExprId operandLoad(const Kernel &k, ExprId operand) {
  while (k.exprs[size_t(operand)].op == SOp::convert) operand = k.exprs[size_t(operand)].args[0];
  if (k.exprs[size_t(operand)].op == SOp::load) return operand;
  ExprId most = -1;
  for (ExprId e : partsOf(k, operand)) {
    if (k.exprs[size_t(e)].op != SOp::load) continue;
    auto terms = [&](ExprId x) { return k.exprs[size_t(x)].access.flat.terms.size(); };
    if (most < 0 || terms(e) > terms(most)) most = e;
  }
  return most;
}

std::optional<std::vector<int64_t>> stepsAlong(const Kernel &k, const std::vector<PackDim> &dims,
                                               const Index &x) {
  std::map<AxisId, int64_t> by;
  if (!coefficients(k, x, by)) return std::nullopt;
  std::vector<int64_t> steps;
  for (const PackDim &d : dims) {
    auto coefOf = [&](AxisId a) {
      const auto it = by.find(a);
      return it == by.end() ? 0 : it->second;
    };
    const int64_t step = coefOf(d.form[0].first) / d.form[0].second;
    for (auto [axis, coef] : d.form)
      if (coefOf(axis) != step * coef) return std::nullopt;
    steps.push_back(step);
  }
  return steps;
}

int64_t itemSteps(const Kernel &k, AxisId a) {
  int64_t steps = extentAt(k, a);
  for (const ItemAxis &item : k.schedule.items)
    if (item.axis == a) steps = std::min(steps, item.block);
  return steps;
}

int64_t packSteps(const Kernel &k, AxisId a, Pack how) {
  const Schedule &s = k.schedule;
  const ContractInfo &c = k.contract;
  if (auto at = std::find(c.k.begin(), c.k.end(), a); at != c.k.end()) {
    auto blocked = std::find(c.k.begin(), c.k.end(), s.kAxis);
    if (s.kAxis < 0 || at > blocked) return extentAt(k, a);
    return at == blocked ? std::min(s.kBlock, extentAt(k, a)) : 1;
  }
  if (a == s.row) return how == Pack::tile ? s.mr : roundUp(itemSteps(k, a), s.mr);
  if (a == s.col) return roundUp(itemSteps(k, a), s.nv * lanesOf(k));
  return contains(c.m, a) && !loopsAroundRows(k, a, how) ? itemSteps(k, a) : 1;
}

// An axis that shares no index with others moves to other elements altogether: nothing is copied
// twice.
bool loopsAroundRows(const Kernel &k, AxisId a, Pack how) {
  if (how != Pack::block) return true;
  const ExprId load = operandLoad(k, k.contract.a);
  if (load < 0) return true;
  for (const Guard &g : k.exprs[size_t(load)].access.guards)
    if (g.index.terms.size() > 1 && dependsOn(k, g.index, a)) return false;
  return true;
}

PackShape packShape(const Kernel &k, bool columns, Pack how) {
  PackShape p;
  const Schedule &s = k.schedule;
  const ExprId operand = columns ? k.contract.b : k.contract.a, load = operandLoad(k, operand);
  if (load < 0 || contains(k.contract.batch, s.col) || (columns && s.col < 0)) return p;
  if (!findDims(k, k.exprs[size_t(load)].access, how, p.dims)) return p;
  const bool computed = isComputed(k, operand);
  if (computed && !hasDims(k, operand, p.dims)) return p;
  if (!columns) {
    p.possible = true;
    // Rows side by side in the argument: panels of a tile's rows.
    if (how == Pack::block && !p.dims.empty() && !p.dims.back().guarded &&
        p.dims.back().stride == 1 && p.dims.back().has(s.row)) {
      PackDim &last = p.dims.back();
      const int64_t extent = last.extent;
      p.panel = last.extent = s.mr;
      p.panelElements = setPitches(k, p.dims, 1);
      last.extent = extent;
      p.elements = p.panelElements * ((extent + s.mr - 1) / s.mr);
      return p;
    }
    if (!computed) joinLast(k, p.dims, s.row);
    p.elements = setPitches(k, p.dims, 1);
    return p;
  }
  // The columns come last, in panels unless they share their dimension with others.
  auto col =
      std::find_if(p.dims.begin(), p.dims.end(), [&](const PackDim &d) { return d.has(s.col); });
  if (col == p.dims.end()) return p;
  std::rotate(col, col + 1, p.dims.end());
  PackDim &last = p.dims.back();
  const int64_t width = s.nv * lanesOf(k);
  p.possible = last.form.size() > 1 ? std::abs(last.form[0].second) > 0 : !last.guarded;
  for (auto [axis, coef] : last.form)
    if (axis == s.col && coef != 1) p.possible = false;
  if (last.form.size() == 1) {
    p.panel = width;
    const int64_t panels = (last.extent + width - 1) / width;
    std::vector<int64_t> extents;
    for (const PackDim &d : p.dims) extents.push_back(d.extent);
    last.extent = width;
    if (last.stride != 1)
      for (size_t i = 0; i + 1 < p.dims.size(); ++i)
        if (p.dims[i].stride == 1) p.turned = int(i);
    // Turned in squares: room for whole ones.
    if (p.turned >= 0)
      p.dims[size_t(p.turned)].extent = roundUp(p.dims[size_t(p.turned)].extent, lanesOf(k));
    p.panelElements = setPitches(k, p.dims, 1);
    for (size_t i = 0; i < extents.size(); ++i) p.dims[i].extent = extents[i];
    p.elements = p.panelElements * panels;
  } else {
    p.elements = setPitches(k, p.dims, 1) + width; // the last vector may reach beyond
  }
  return p;
}

int64_t partialElements(const Kernel &k) {
  const Schedule &s = k.schedule;
  if (s.kAxis < 0) return 0;
  int64_t n = s.row < 0 ? 1 : roundUp(itemSteps(k, s.row), s.mr);
  if (s.col >= 0) n *= roundUp(itemSteps(k, s.col), s.nv * lanesOf(k));
  for (AxisId a : k.contract.m)
    if (a != s.row && a != s.col) n *= itemSteps(k, a);
  return n;
}

int64_t contractScratch(const Kernel &k) {
  const Schedule &s = k.schedule;
  if (s.family == Family::Amx) return amxScratch(k).total;
  const int64_t bytes = ir::dtypeBytes(k.contract.type);
  int64_t total = 0;
  for (int64_t elements :
       {s.packA == Pack::none ? 0 : packShape(k, false, s.packA).elements,
        s.packB == Pack::none ? 0 : packShape(k, true, s.packB).elements, partialElements(k)})
    total += roundUp(elements * bytes, 64);
  return total;
}

} // namespace nnc::cg
