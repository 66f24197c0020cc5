// Kernels of nodes that are neither elementwise nor reductions nor contractions.
//
//   %d = scatter_add %tokens, %dy        the gradient of an embedding
//   ->  kernel ScatterAdd                sums of the tokens' rows in scratch, and whoever joins: the
//                                        update of those rows
//
// Such a node begins a kernel, whose axes follow from its type and attributes: of a cumulative sum
// or a sort all but one are parallel; what a window reads where it lies, unwindow gathers, so that
// no element is written twice; the tokens of a table are added in their order. Others join sums of
// windows and of tokens' rows alone.
#include "codegen/fuse.h"

namespace nnc::cg {

using ir::Node;
using ir::ValueId;

void Fuser::addCumsum(const Node &node, Group &g, int id) {
  Kernel &k = g.kernel();
  auto &a = std::get<ir::CumsumAttr>(node.attr);
  const Dims &dims = f.type(node.operands[0]).dims;
  std::vector<Index> at(dims.size());
  Stage s;
  for (size_t i = 0; i < dims.size(); ++i) {
    AxisId x = k.axis("", dims[i]);
    at[i] = k.axisIndex(x);
    if (int64_t(i) != a.dim) {
      k.parallel.push_back(x);
      continue;
    }
    s.reduce = {x};
    if (a.reverse) at[i] = dimIndex(dims[i]) + constIndex(-1) + at[i] * -1;
  }
  Reader r(f, facts, k, this, &g, id);
  s.body = r.read(node.operands[0], at);
  s.combine = Combine::cumsum;
  s.exclusive = a.exclusive;
  s.type = ir::widened(f.type(node.result()).dtype);
  s.name = k.name;
  addStores(g.launch, s, node.result(), at);
  k.stages.push_back(s);
  g.open = false;
}

// y[h] = sum over u of x[(h + low - d*u) / s, u] where that is a whole number in range.
void Fuser::addUnwindow(const Node &node, Group &g, int id) {
  Kernel &k = g.kernel();
  auto &a = std::get<ir::WindowAttr>(node.attr);
  const Dims &from = f.type(node.operands[0]).dims, &to = f.type(node.result()).dims;
  size_t w = a.size.size(), d = size_t(a.dim);
  std::vector<Index> at, in(from.size());
  for (Dim x : to) {
    g.dimAxes.push_back(k.axis("", x));
    at.push_back(k.axisIndex(g.dimAxes.back()));
  }
  k.parallel = g.dimAxes;
  g.dims = to;
  std::vector<Guard> guards;
  Stage s;
  for (size_t i = 0; i < at.size(); ++i) in[i < d + w ? i : i + w] = at[i];
  for (size_t i = 0; i < w; ++i) {
    AxisId u = k.axis("", a.size[i]);
    s.reduce.push_back(u);
    Index q = at[d + i] + constIndex(a.low[i]) + k.axisIndex(u) * -a.dilation[i];
    addGuard(k, guards, modIndex(k, q, a.stride[i]), 1);
    in[d + i] = divIndex(k, q, a.stride[i]);
    in[d + w + i] = k.axisIndex(u);
    addGuard(k, guards, in[d + i], from[d + i]);
  }
  Reader r(f, facts, k, this, &g, id);
  s.body = r.read(node.operands[0], in, guards);
  NNC_CHECK(s.body >= 0, "the operand of unwindow cannot be read");
  s.type = ir::widened(f.type(node.result()).dtype);
  if (!guards.empty()) { // the operand may be an expression that is not zero where its loads are
    Expr e;
    e.op = SOp::guard;
    e.type = DType::boolean;
    e.guards = guards;
    Expr sel;
    sel.op = SOp::select;
    sel.type = s.type;
    sel.args = {k.expr(e), s.body, constantExpr(k, 0, s.type)};
    s.body = k.expr(sel);
  }
  s.combine = Combine::sum;
  s.name = k.name;
  addStores(g.launch, s, node.result(), at);
  g.locals[node.firstResult.i] = {int(k.stages.size()), 0};
  k.stages.push_back(s);
}

void Fuser::addScatter(const Node &node, Group &g, int id) {
  Kernel &k = g.kernel();
  k.cls = KernelClass::ScatterAdd;
  g.open = false;
  auto &a = std::get<ir::ScatterAttr>(node.attr);
  ValueId idx = node.operands[0], upd = node.operands[1];
  const Dims &table = a.type.dims, &tokens = f.type(idx).dims;
  std::vector<Index> at, which;
  auto axis = [&](std::vector<AxisId> &list, Dim d) {
    list.push_back(k.axis("", d));
    at.push_back(k.axisIndex(list.back()));
  };
  const bool few = options.fuse && ir::isFloat(a.type.dtype) &&
                   2 * count(tokens) <= count({table[a.axis]}) &&
                   count({table[a.axis]}) < INT32_MAX;
  for (int64_t i = 0; i < a.axis; ++i) axis(k.scatter.outer, table[i]);
  for (Dim d : tokens) {
    axis(k.scatter.tokens, d);
    which.push_back(at.back());
  }
  for (size_t i = size_t(a.axis) + 1; i < table.size(); ++i) axis(k.scatter.inner, table[i]);
  Reader r(f, facts, k, this, &g, id);
  k.scatter.index = r.read(idx, which);
  if (DType t = k.exprs[k.scatter.index].type; t != DType::i32 && t != DType::i64)
    k.scatter.index = convertExpr(k, k.scatter.index, DType::i32);
  k.scatter.update = r.read(upd, at);
  k.scatter.rows = table[a.axis];
  k.scatter.type = ir::widened(a.type.dtype);
  if (few) return sumsInScratch(node, g);
  if (k.scatter.type == a.type.dtype) {
    k.scatter.arg = argFor(g.launch, buffer(node.result()), true);
    return;
  }
  // Sums live in the table itself: in a wider one first, rounded once.
  Buffer sums;
  sums.name = nameOf(node.result()) + ".sums";
  sums.type = {k.scatter.type, table};
  sums.type.dims.insert(sums.type.dims.begin(), Dim(1));
  program.buffers.push_back(sums);
  BufferId wide = BufferId(program.buffers.size()) - 1;
  k.scatter.arg = argFor(g.launch, wide, true);
  addCombine(node, id, wide, 1, Combine::sum);
}

// The sums are of the tokens' rows alone; what is done with them, an optimizer's update say, are
// stages.
void Fuser::sumsInScratch(const Node &node, Group &g) {
  Kernel &k = g.kernel();
  k.scatter.arg = -1;
  k.scatter.row = k.axis("", k.scatter.rows);
  g.dimAxes = k.scatter.outer;
  g.dimAxes.push_back(k.scatter.row);
  g.dimAxes.insert(g.dimAxes.end(), k.scatter.inner.begin(), k.scatter.inner.end());
  g.dims = f.type(node.result()).dims;
  g.accValue = node.result().i;
  g.open = true;
  std::vector<Index> at;
  for (AxisId a : g.dimAxes) at.push_back(k.axisIndex(a));
  Expr acc;
  acc.op = SOp::acc;
  acc.type = k.scatter.type;
  Stage s;
  s.body = k.expr(acc);
  s.type = k.scatter.type;
  s.name = nameOf(node.result());
  addStores(g.launch, s, node.result(), at);
  k.stages.push_back(std::move(s));
}

void Fuser::addSort(const Node &node, Group &g, int id) {
  Kernel &k = g.kernel();
  k.cls = KernelClass::Sort;
  g.open = false;
  auto &a = std::get<ir::SortAttr>(node.attr);
  const Dims &dims = f.type(node.operands[0]).dims;
  std::vector<Index> at;
  for (size_t i = 0; i < dims.size(); ++i) {
    AxisId x = k.axis("", dims[i]);
    at.push_back(k.axisIndex(x));
    if (int64_t(i) == a.dim) k.sort.axis = x;
    else k.parallel.push_back(x);
  }
  Reader r(f, facts, k, this, &g, id);
  k.sort.value = r.read(node.operands[0], at);
  k.sort.descending = a.descending;
  k.sort.type = k.exprs[k.sort.value].type;
  Index flat = flatten(k, dims, at, f.batch);
  k.sort.values.arg = argFor(g.launch, buffer(node.result(0)), true);
  k.sort.indices.arg = argFor(g.launch, buffer(node.result(1)), true);
  k.sort.values.flat = k.sort.indices.flat = flat;
}

} // namespace nnc::cg
