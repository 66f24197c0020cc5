// The transposes of the TENSOR rows: one function vjp_<op> per row, found by the table.
//
// Problem. A structural operation moves or adds elements; its derivative moves the cotangent back.
// Example: y = broadcast x, so dx = sum of dy over the dimensions that were added.
//
// Method. A duality table, each side written with the other:
//   broadcast <-> sum     slice <-> pad       concat <-> slices    window <-> unwindow
//   gather <-> scatter_add    transpose, reshape, reverse, cast, cumsum: themselves, turned around
//   contract: the other two permutations of its triple
// No rule adds up cotangents or asks what is differentiated: that is the sweep's part. Rules are
// made of operations that have rules, so derivatives have derivatives. A comparison decides ties
// between saved values only (the operand and the result of one node), never with a recomputed one.
#include "ir/reverse.h"
#include <algorithm>
#include <numeric>

namespace nnc::ir {

namespace {

const Dims &dimsOf(V x) { return x.type().dims; }
Ints range(int64_t count) {
  Ints r(size_t(count), 0);
  std::iota(r.begin(), r.end(), 0);
  return r;
}
bool contains(const Ints &dims, int64_t d) {
  return std::find(dims.begin(), dims.end(), d) != dims.end();
}
Ints without(int rank, const Ints &dims) {
  Ints rest;
  for (int64_t d = 0; d < rank; ++d)
    if (!contains(dims, d)) rest.push_back(d);
  return rest;
}
// A reduced value repeated over the dimensions that the reduction removed.
V spread(V reduced, V x, const Ints &dims) {
  return x.b->broadcast(reduced, without(x.type().rank(), dims), dimsOf(x));
}
V zeroLike(V x) { return x.b->like(0.0, x); }
Type indexType(const Dims &dims) { return {DType::i32, dims}; }

} // namespace

// --- sources: nothing to flow to ----------------------------------------------------------------

Flows vjp_constant(Site &) { return {}; }
Flows vjp_iota(Site &) { return {}; }
Flows vjp_size(Site &) { return {}; }
Flows vjp_random(Site &) { return {}; }
Flows vjp_grad(Site &) { internalError(__FILE__, __LINE__, "a grad node inside a sweep"); }

// --- moving elements ----------------------------------------------------------------------------

// The zeros go in before any multiplication, so that a NaN of the side not taken stays out.
Flows vjp_select(Site &s) {
  const V g = *s.g[0], c = s.x[0];
  return {{},
          s.wanted[1] ? Flow(select(c, g, 0.0)) : Flow{},
          s.wanted[2] ? Flow(select(c, 0.0, g)) : Flow{}};
}

Flows vjp_cast(Site &s) { return {s.b.cast(*s.g[0], s.x[0].type().dtype)}; }

Flows vjp_broadcast(Site &s) {
  return {s.b.sum(*s.g[0], without(s.y[0].type().rank(), s.attr<BroadcastAttr>().dims))};
}

Flows vjp_reshape(Site &s) { return {s.b.reshape(*s.g[0], dimsOf(s.x[0]))}; }

namespace {

// A product of matrices can be made in the other order: no label is in all three tensors.
bool isPlainProduct(const Node &n) {
  if (n.op != Op::contract_) return false;
  const auto &forms = std::get<ContractAttr>(n.attr).forms;
  auto has = [](const std::vector<LabelForm> &list, const LabelForm &f) {
    return std::find(list.begin(), list.end(), f) != list.end();
  };
  for (const auto &list : forms)
    for (const LabelForm &f : list)
      if (!f.isSimple() || (has(forms[0], f) && has(forms[1], f) && has(forms[2], f))) return false;
  return true;
}

} // namespace

// The gradient of x @ transpose(w) is made as w lies: its product is not needed in the other order.
Flows vjp_transpose(Site &s) {
  const Ints &perm = s.attr<PermAttr>().perm;
  Ints inverse(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) inverse[size_t(perm[i])] = int64_t(i);
  const Node *g = s.b.f.def(*s.g[0]);
  if (!g || !isPlainProduct(*g)) return {s.b.transpose(*s.g[0], inverse)};
  ContractAttr a = std::get<ContractAttr>(g->attr);
  const ContractAttr from = a;
  for (size_t i = 0; i < inverse.size(); ++i) {
    a.forms[2][i] = from.forms[2][size_t(inverse[i])];
    a.type.dims[i] = from.type.dims[size_t(inverse[i])];
  }
  return {s.b.contract(g->operands[0], g->operands[1], a)};
}

namespace {

// g [.., m, ..] -> [.., m*stride, ..] with stride-1 zeros after each element: pad a new dimension.
V dilated(V g, size_t d, int64_t stride) {
  Builder &b = *g.b;
  Dims split = dimsOf(g);
  Dims merged = split, low(split.size() + 1, 0), high(split.size() + 1, 0);
  merged[d] = split[d] * stride;
  split.insert(split.begin() + int64_t(d) + 1, Dim(1));
  high[d + 1] = stride - 1;
  return b.reshape(b.pad(b.reshape(g, split), low, high), merged);
}

} // namespace

Flows vjp_slice(Site &s) {
  const auto &a = s.attr<SliceAttr>();
  const Dims from = dimsOf(s.x[0]);
  V g = *s.g[0];
  for (size_t d = 0; d < from.size(); ++d)
    if (a.stride[d] > 1) g = dilated(g, d, a.stride[d]);
  // The zeros behind the last element may reach beyond the operand.
  Dims limit = dimsOf(g), high;
  for (size_t d = 0; d < from.size(); ++d) {
    if (a.stride[d] > 1) limit[d] = std::min(limit[d].b, from[d].b - a.start[d].b);
    high.push_back(from[d] - a.start[d] - limit[d]);
  }
  if (limit != dimsOf(g)) g = s.b.slice(g, Dims(from.size(), 0), limit);
  return {s.b.pad(g, a.start, high)};
}

Flows vjp_reverse(Site &s) { return {s.b.reverse(*s.g[0], s.attr<AxesAttr>().dims)}; }

Flows vjp_pad(Site &s) {
  const auto &a = s.attr<PadAttr>();
  Dims limit = dimsOf(s.x[0]);
  for (size_t d = 0; d < limit.size(); ++d) limit[d] = limit[d] + a.low[d];
  return {s.b.slice(*s.g[0], a.low, limit)};
}

Flows vjp_concat(Site &s) {
  const size_t d = size_t(s.attr<AxisAttr>().dim);
  Flows flows;
  Dims start(dimsOf(s.y[0]).size(), 0), limit = dimsOf(s.y[0]);
  for (size_t k = 0; k < s.x.size(); ++k) {
    limit[d] = start[d] + dimsOf(s.x[k])[d];
    flows.push_back(s.wanted[k] ? Flow(s.b.slice(*s.g[0], start, limit)) : Flow{});
    start[d] = limit[d];
  }
  return flows;
}

Flows vjp_window(Site &s) { return {s.b.unwindow(*s.g[0], s.attr<WindowAttr>())}; }
Flows vjp_unwindow(Site &s) {
  WindowAttr a = s.attr<WindowAttr>();
  a.value = 0; // the places outside took part in nothing
  return {s.b.window(*s.g[0], a)};
}

// --- reductions ---------------------------------------------------------------------------------

namespace {

// All elements that attain the extremum share the cotangent equally.
V shareExtremum(Site &s, const Ints &dims) {
  const V g = *s.g[0], x = s.x[0];
  const V hit = eq(x, spread(s.y[0], x, dims));
  const V share = g / s.b.sum(s.b.cast(hit, x.type().dtype), dims);
  return select(hit, spread(share, x, dims), 0.0);
}

// d prod / d x_i is the product of all others: prod over j of (i = j ? 1 : x_j). Dividing the
// product by x_i would fail at zeros. x [.., D..] is repeated to [.., D.., D'..].
V productOfOthers(Site &s, const Ints &dims) {
  const V x = s.x[0];
  Builder &b = s.b;
  const int64_t rank = x.type().rank();
  Dims square = dimsOf(x);
  for (const int64_t d : dims) square.push_back(dimsOf(x)[size_t(d)]);
  V same = b.constant(1, {DType::boolean, square});
  for (size_t k = 0; k < dims.size(); ++k)
    same = same &&
           eq(b.iota(dims[k], indexType(square)), b.iota(rank + int64_t(k), indexType(square)));
  const V others =
      b.reduce(ReduceKind::prod, select(same, 1.0, b.broadcast(x, range(rank), square)), dims);
  Ints order = without(int(rank), dims),
       perm(size_t(rank), 0); // others has the dimensions kept.., dims..
  order.insert(order.end(), dims.begin(), dims.end());
  for (int64_t i = 0; i < rank; ++i) perm[size_t(order[size_t(i)])] = i;
  return b.transpose(others, perm);
}

} // namespace

Flows vjp_reduce(Site &s) {
  const auto &a = s.attr<ReduceAttr>();
  const V g = *s.g[0];
  switch (a.kind) {
  case ReduceKind::sum: return {spread(g, s.x[0], a.dims)};
  case ReduceKind::prod: return {spread(g, s.x[0], a.dims) * productOfOthers(s, a.dims)};
  case ReduceKind::max:
  case ReduceKind::min: return {shareExtremum(s, a.dims)};
  }
  return {};
}

// The first maximum takes all: the place whose index is the saved one. Linear in g.
Flows vjp_max_index(Site &s) {
  const Ints &dims = s.attr<AxesAttr>().dims;
  const V x = s.x[0];
  Builder &b = s.b;
  std::optional<V> place; // row-major index within the reduced dimensions
  for (const int64_t d : dims) {
    const Dim size = dimsOf(x)[size_t(d)];
    const V i = b.iota(d, indexType(dimsOf(x)));
    const V count =
        size.isConst() ? b.like(double(size.b), i) : b.broadcast(b.size(size), {}, dimsOf(x));
    place = place ? *place * count + i : i;
  }
  return {select(eq(*place, spread(s.y[1], x, dims)), spread(*s.g[0], x, dims), 0.0)};
}

Flows vjp_cumsum(Site &s) {
  const auto &a = s.attr<CumsumAttr>();
  return {s.b.cumsum(*s.g[0], a.dim, !a.reverse, a.exclusive)};
}

// dx[j] = sum over k of (index[k] = j ? dy[k] : 0): the permutation as a comparison of indices,
// with the new dimension j last and then moved to its place.
Flows vjp_sort(Site &s) {
  const int64_t d = s.attr<SortAttr>().dim, rank = s.x[0].type().rank();
  Builder &b = s.b;
  Dims square = dimsOf(s.x[0]);
  square.push_back(square[size_t(d)]);
  const V hit = eq(b.broadcast(s.y[1], range(rank), square), b.iota(rank, indexType(square)));
  const V placed = b.sum(select(hit, b.broadcast(*s.g[0], range(rank), square), 0.0), {d});
  Ints perm;
  for (int64_t i = 0; i < rank; ++i) perm.push_back(i == d ? rank - 1 : i < d ? i : i - 1);
  return {b.transpose(placed, perm)};
}

// --- contraction and tables ---------------------------------------------------------------------

namespace {

// The contraction that gives operand `to` (0: x, 1: w) its cotangent: y's forms take its place.
// Narrow operands stay narrow (the cotangent is cast to them), sums are taken in the result's type.
V transposed(Site &s, int to) {
  ContractAttr a = s.attr<ContractAttr>();
  const V x = s.x[size_t(to)], other = s.x[size_t(1 - to)];
  std::swap(a.forms[size_t(to)], a.forms[2]);
  a.type.dims = dimsOf(x);
  const V g = s.b.cast(*s.g[0], other.type().dtype);
  return s.b.cast(to == 0 ? s.b.contract(g, other, a) : s.b.contract(other, g, a), x.type().dtype);
}

} // namespace

Flows vjp_contract(Site &s) {
  return {s.wanted[0] ? Flow(transposed(s, 0)) : Flow{},
          s.wanted[1] ? Flow(transposed(s, 1)) : Flow{}};
}

Flows vjp_gather(Site &s) {
  return {s.b.scatterAdd(s.x[1], *s.g[0], s.attr<GatherAttr>().axis, s.x[0].type())};
}

Flows vjp_scatter_add(Site &s) {
  return {{}, s.b.gather(*s.g[0], s.x[0], s.attr<ScatterAttr>().axis)};
}

// --- calls --------------------------------------------------------------------------------------

// @g(operands.., results.., cotangents of results..) -> cotangents of operands. Calls without a
// gradient were inlined when the function was copied.
Flows vjp_call(Site &s) {
  const auto &a = s.attr<CallAttr>();
  const Function *gradient = s.b.module.find(a.gradient);
  NNC_CHECK(gradient, "no gradient function @" + a.gradient);
  std::vector<ValueId> args;
  for (const V x : s.x) args.push_back(x);
  for (const V y : s.y) args.push_back(y);
  for (size_t k = 0; k < s.y.size(); ++k) args.push_back(s.g[k] ? *s.g[k] : zeroLike(s.y[k]));
  NNC_CHECK(gradient->params.size() == args.size() && gradient->results.size() == s.x.size(),
            "@" + a.gradient +
                " must take operands, results and cotangents, and give a cotangent per operand");
  Flows flows;
  if (s.sweep.inlineGradients) {
    for (const ValueId v : inlineFunction(s.b.module, *gradient, args, s.b.f, s.sweep.names,
                                          hasNoGradient, s.node.loc))
      flows.push_back(s.b.value(v));
    return flows;
  }
  for (const V v : s.b.call(a.gradient, args)) flows.push_back(v);
  return flows;
}

} // namespace nnc::ir
