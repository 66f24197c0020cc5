// Structural simplifications: operations that change nothing, and pairs that make one.
//
//   reshape(reshape x) = reshape x      transpose(transpose x) = transpose x or x
//   slice(slice x) = slice x            slice(pad x) = x, slice(concat) = piece
//   cast(cast x) = cast x, if the inner cast loses nothing
//   cast(concat(x, y)) = concat(cast x, cast y): each part is converted, and stored, where it
//     is made
//   concat(concat(x, y), z) = concat(x, y, z)
//   pad x + pad y = pad(concat(y, x)) where the one begins as the other ends: the parts of a
//     slice's gradient
//   contract(transpose x, w) = contract(x, w) with the labels in the other order
//   sum(x * broadcast w) = w * sum(x)
//
// One function per operation: it sees the node and its operands' definitions and returns the value
// to use instead. Zeros: a contraction, window or sum of a constant 0 is 0 (the zeros that
// differentiation makes for values without a cotangent), although 0 * inf would not be.
#include "ir/simplify_views.h"
#include <algorithm>

namespace nnc::ir {

namespace {

// What is made may move the function's nodes: what a rule needs of the definition of an operand is
// copied before it makes more than one.
struct View {
  const Function &f;
  const Node &node;
  const Type &type;
  const Rules::Make &make;
  ValueId x(size_t k = 0) const { return node.operands[k]; }
  const Type &typeOf(ValueId v) const { return f.type(v); }
  template <class A> const A &attr() const { return std::get<A>(node.attr); }
  // The definition of operand k if it is this operation.
  const Node *inner(Op op, size_t k = 0) const {
    const Node *d = f.def(x(k));
    return d && d->op == op ? d : nullptr;
  }
  bool isZero(size_t k) const {
    const auto s = splatOf(f, x(k));
    return s && *s == 0;
  }
  ValueId splat(double v) const { return make(Op::constant_, {}, ConstantAttr{{v}, type}); }
};
using Simpler = std::optional<ValueId>;

bool isCounting(const Ints &v) {
  for (size_t i = 0; i < v.size(); ++i)
    if (v[i] != int64_t(i)) return false;
  return true;
}
bool allZero(const Dims &v) {
  return std::all_of(v.begin(), v.end(), [](Dim d) { return d == Dim(0); });
}
bool allOne(const Ints &v) {
  return std::all_of(v.begin(), v.end(), [](int64_t s) { return s == 1; });
}

// --- choice and conversion ----------------------------------------------------------------------

Simpler simplifySelect(const View &v) {
  const auto c = splatOf(v.f, v.x(0));
  if (!c) return {};
  return *c != 0 ? v.x(1) : v.x(2);
}

// Every value of `from` is a value of `to`.
bool losesNothing(DType from, DType to) {
  if (from == to || from == DType::boolean) return true;
  switch (from) {
  case DType::bf16:
  case DType::f16: return to == DType::f32 || to == DType::f64;
  case DType::f32: return to == DType::f64;
  case DType::u8: return to != DType::boolean;
  case DType::i32: return to == DType::i64 || to == DType::f64;
  case DType::u32: return to == DType::i64 || to == DType::f64;
  default: return false;
  }
}

Simpler simplifyCast(const View &v) {
  if (v.typeOf(v.x()) == v.type) return v.x();
  if (const Node *concat = v.inner(Op::concat_)) {
    std::vector<ValueId> parts = concat->operands;
    const Attr attr = concat->attr;
    const DType to = v.type.dtype;
    for (ValueId &part : parts)
      part = v.make(Op::cast_, {part}, CastAttr{{to, v.typeOf(part).dims}});
    return v.make(Op::concat_, parts, attr);
  }
  const Node *inner = v.inner(Op::cast_);
  if (!inner) return {};
  const ValueId from = inner->operands[0];
  if (!losesNothing(v.typeOf(from).dtype, v.typeOf(v.x()).dtype)) return {};
  return v.make(Op::cast_, {from}, v.node.attr);
}

// --- moving elements ----------------------------------------------------------------------------

Simpler simplifyBroadcast(const View &v) {
  const auto &a = v.attr<BroadcastAttr>();
  if (v.typeOf(v.x()) == v.type && isCounting(a.dims)) return v.x();
  const Node *inner = v.inner(Op::broadcast_);
  if (!inner) return {};
  Ints dims;
  for (const int64_t d : std::get<BroadcastAttr>(inner->attr).dims)
    dims.push_back(a.dims[size_t(d)]);
  return v.make(Op::broadcast_, {inner->operands[0]}, BroadcastAttr{dims, v.type});
}

Simpler simplifyReshape(const View &v) {
  if (v.typeOf(v.x()) == v.type) return v.x();
  if (const Node *inner = v.inner(Op::reshape_))
    return v.make(Op::reshape_, {inner->operands[0]}, ReshapeAttr{v.type});
  return {};
}

Simpler simplifyTranspose(const View &v) {
  const Ints &perm = v.attr<PermAttr>().perm;
  if (isCounting(perm)) return v.x();
  const Node *inner = v.inner(Op::transpose_);
  if (!inner) return {};
  const Ints &first = std::get<PermAttr>(inner->attr).perm;
  Ints both;
  for (const int64_t p : perm) both.push_back(first[size_t(p)]);
  return v.make(Op::transpose_, {inner->operands[0]}, PermAttr{both});
}

// A slice that lies in one piece of a concatenation.
Simpler sliceOfConcat(const View &v, const Node &concat) {
  SliceAttr a = v.attr<SliceAttr>();
  const size_t d = size_t(std::get<AxisAttr>(concat.attr).dim);
  Dim begin = 0;
  for (const ValueId piece : concat.operands) {
    const Dim end = begin + v.typeOf(piece).dims[d];
    if (nonNegative(a.start[d] - begin) && nonNegative(end - a.limit[d])) {
      a.start[d] = a.start[d] - begin;
      a.limit[d] = a.limit[d] - begin;
      return v.make(Op::slice_, {piece}, a);
    }
    begin = end;
  }
  return {};
}

Simpler simplifySlice(const View &v) {
  SliceAttr a = v.attr<SliceAttr>();
  if (v.typeOf(v.x()) == v.type && allOne(a.stride)) return v.x();
  if (const Node *concat = v.inner(Op::concat_)) return sliceOfConcat(v, *concat);
  if (const Node *inner = v.inner(Op::slice_)) {
    const auto &b = std::get<SliceAttr>(inner->attr);
    if (!allOne(b.stride)) return {};
    for (size_t d = 0; d < b.start.size(); ++d)
      a.start[d] = a.start[d] + b.start[d], a.limit[d] = a.limit[d] + b.start[d];
    return v.make(Op::slice_, {inner->operands[0]}, a);
  }
  if (const Node *pad = v.inner(Op::pad_)) {
    const bool undone = a.start == std::get<PadAttr>(pad->attr).low && allOne(a.stride);
    if (undone && v.typeOf(pad->operands[0]) == v.type) return pad->operands[0];
  }
  return {};
}

Simpler simplifyReverse(const View &v) {
  const Ints &dims = v.attr<AxesAttr>().dims;
  const auto single = [&](int64_t d) { return v.type.dims[size_t(d)] == Dim(1); };
  if (std::all_of(dims.begin(), dims.end(), single)) return v.x();
  const Node *inner = v.inner(Op::reverse_);
  if (!inner) return {};
  Ints odd; // reversed once
  const Ints &other = std::get<AxesAttr>(inner->attr).dims;
  std::set_symmetric_difference(dims.begin(), dims.end(), other.begin(), other.end(),
                                std::back_inserter(odd));
  return v.make(Op::reverse_, {inner->operands[0]}, AxesAttr{odd});
}

Simpler simplifyPad(const View &v) {
  PadAttr a = v.attr<PadAttr>();
  if (allZero(a.low) && allZero(a.high)) return v.x();
  if (const auto s = splatOf(v.f, v.x()); s && *s == a.value) return v.splat(a.value);
  const Node *inner = v.inner(Op::pad_);
  if (!inner || std::get<PadAttr>(inner->attr).value != a.value) return {};
  const auto &b = std::get<PadAttr>(inner->attr);
  for (size_t d = 0; d < a.low.size(); ++d)
    a.low[d] = a.low[d] + b.low[d], a.high[d] = a.high[d] + b.high[d];
  return v.make(Op::pad_, {inner->operands[0]}, a);
}

Simpler simplifyConcat(const View &v) {
  const auto &xs = v.node.operands;
  if (xs.size() == 1) return v.x();
  const size_t d = size_t(v.attr<AxisAttr>().dim);
  std::vector<ValueId> rest;
  bool nested = false;
  for (size_t k = 0; k < xs.size(); ++k) {
    if (v.typeOf(xs[k]).dims[d] == Dim(0)) continue;
    const Node *inner = v.inner(Op::concat_, k);
    if (inner && std::get<AxisAttr>(inner->attr).dim == int64_t(d)) {
      rest.insert(rest.end(), inner->operands.begin(), inner->operands.end());
      nested = true;
    } else {
      rest.push_back(xs[k]);
    }
  }
  if ((rest.size() == xs.size() && !nested) || rest.empty()) return {};
  return v.make(Op::concat_, rest, v.node.attr);
}

// Zeros around two neighbours: what one sum of them adds to is the other.
Simpler simplifyAdd(const View &v) {
  const Node *x = v.inner(Op::pad_, 0), *y = v.inner(Op::pad_, 1);
  if (!x || !y) return {};
  const auto &a = std::get<PadAttr>(x->attr), &b = std::get<PadAttr>(y->attr);
  if (a.value != 0 || b.value != 0) return {};
  int64_t dim = -1; // the only one in which they differ
  for (size_t d = 0; d < a.low.size(); ++d) {
    if (a.low[d] == b.low[d] && a.high[d] == b.high[d]) continue;
    if (dim >= 0) return {};
    dim = int64_t(d);
  }
  if (dim < 0) return {};
  const size_t d = size_t(dim);
  const Dim size = v.type.dims[d], xEnd = size - a.high[d], yEnd = size - b.high[d];
  PadAttr around = a;
  std::vector<ValueId> parts;
  if (xEnd == b.low[d])
    parts = {x->operands[0], y->operands[0]}, around.high[d] = b.high[d];
  else if (yEnd == a.low[d])
    parts = {y->operands[0], x->operands[0]}, around.low[d] = b.low[d];
  else
    return {};
  const ValueId both = v.make(Op::concat_, parts, AxisAttr{dim});
  return v.make(Op::pad_, {both}, around);
}

// --- sums ---------------------------------------------------------------------------------------

// sum(x * broadcast w) = w * sum(x), if w is the same along what is summed. In f16 the sum of what
// small weights bring into range may be beyond it.
Simpler factorOfSum(const View &v) {
  const Ints &summed = v.attr<ReduceAttr>().dims;
  const Node *product = v.inner(Op::mul_);
  if (!product || !isFloat(v.type.dtype) || v.type.dtype == DType::f16) return {};
  for (size_t k = 0; k < 2; ++k) {
    const Node *factor = v.f.def(product->operands[k]);
    if (!factor || factor->op != Op::broadcast_) continue;
    Ints dims; // where w's dimensions are in the result
    bool same = true;
    for (const int64_t d : std::get<BroadcastAttr>(factor->attr).dims) {
      same = same && std::find(summed.begin(), summed.end(), d) == summed.end();
      dims.push_back(d -
                     std::count_if(summed.begin(), summed.end(), [&](int64_t s) { return s < d; }));
    }
    if (!same) continue;
    const ValueId small = factor->operands[0];
    const ValueId sum = v.make(Op::reduce_, {product->operands[1 - k]}, v.node.attr);
    const ValueId w = v.make(Op::broadcast_, {small}, BroadcastAttr{dims, v.type});
    return v.make(Op::mul_, {w, sum}, {});
  }
  return {};
}

Simpler simplifyReduce(const View &v) {
  const auto &a = v.attr<ReduceAttr>();
  const Dims &from = v.typeOf(v.x()).dims;
  if (std::all_of(a.dims.begin(), a.dims.end(),
                  [&](int64_t d) { return from[size_t(d)] == Dim(1); }))
    return v.make(Op::reshape_, {v.x()}, ReshapeAttr{v.type});
  if (a.kind != ReduceKind::sum) return {};
  if (v.isZero(0)) return v.splat(0);
  if (const Node *minus = v.inner(Op::neg_)) { // so that it is the sum that others take
    const ValueId sum = v.make(Op::reduce_, {minus->operands[0]}, v.node.attr);
    return v.make(Op::neg_, {sum}, {});
  }
  return factorOfSum(v);
}

Simpler zeroOfZero(const View &v, size_t k) {
  return v.isZero(k) ? Simpler(v.splat(0)) : Simpler{};
}

Simpler simplifyContract(const View &v) {
  if (v.isZero(0) || v.isZero(1)) return v.splat(0);
  for (size_t k = 0; k < 2; ++k) {
    const Node *inner = v.inner(Op::transpose_, k);
    if (!inner) continue;
    ContractAttr a = v.attr<ContractAttr>();
    const Ints &perm = std::get<PermAttr>(inner->attr).perm;
    const auto forms = a.forms[k];
    for (size_t i = 0; i < perm.size(); ++i) a.forms[k][size_t(perm[i])] = forms[i];
    std::vector<ValueId> operands = v.node.operands;
    operands[k] = inner->operands[0];
    return v.make(Op::contract_, operands, a);
  }
  return {};
}

Simpler simplifyGather(const View &v) {
  const auto s = splatOf(v.f, v.x(0));
  return s ? Simpler(v.splat(*s)) : Simpler{};
}

} // namespace

Simpler simplifyView(const Function &f, const Node &node, const Type &type,
                     const Rules::Make &make) {
  const View v{f, node, type, make};
  switch (node.op) {
  case Op::add_: return simplifyAdd(v);
  case Op::select_: return simplifySelect(v);
  case Op::cast_: return simplifyCast(v);
  case Op::broadcast_: return simplifyBroadcast(v);
  case Op::reshape_: return simplifyReshape(v);
  case Op::transpose_: return simplifyTranspose(v);
  case Op::slice_: return simplifySlice(v);
  case Op::reverse_: return simplifyReverse(v);
  case Op::pad_: return simplifyPad(v);
  case Op::concat_: return simplifyConcat(v);
  case Op::reduce_: return simplifyReduce(v);
  case Op::contract_: return simplifyContract(v);
  case Op::gather_: return simplifyGather(v);
  case Op::unwindow_: return zeroOfZero(v, 0);
  case Op::cumsum_: return zeroOfZero(v, 0);
  case Op::scatter_add_: return zeroOfZero(v, 1);
  default: return {};
  }
}

} // namespace nnc::ir
