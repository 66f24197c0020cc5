// Indexing: `xs[1:]` of structures, `x[:, none, 0, ..., ::2]` of tensors.
//
// Problem. NumPy's index does four things at once: it cuts, drops axes, adds axes and picks rows.
// Example: `x[:, -1]` of [batch, 50, 8] is [batch, 8], a slice and a reshape.
//
// Method. The items are sorted onto the axes first; then at most one slice (with a reversal for
// negative steps), one gather and one reshape are emitted. Sizes stay symbolic: `x[:-1]` of a batch
// axis has batch - 1 rows.
#include "frontend/elab.h"

namespace nnc::fe {

/// begin:end:step of a list of `size`, as Python counts.
struct Cut {
  int64_t begin, step, count;
};
static Cut cutOf(std::optional<int64_t> b, std::optional<int64_t> e, int64_t step, int64_t size) {
  auto clampTo = [](int64_t v, int64_t low, int64_t high) {
    return std::max(low, std::min(v, high));
  };
  auto position = [&](int64_t v) { return v < 0 ? v + size : v; };
  if (step > 0) {
    int64_t begin = b ? clampTo(position(*b), 0, size) : 0;
    int64_t end = e ? clampTo(position(*e), 0, size) : size;
    return {begin, step, end > begin ? (end - begin + step - 1) / step : 0};
  }
  int64_t begin = b ? clampTo(position(*b), -1, size - 1) : size - 1;
  int64_t end = e ? clampTo(position(*e), -1, size - 1) : -1;
  return {begin, step, begin > end ? (begin - end - step - 1) / -step : 0};
}

static bool bound(Elaborator &e, const Expr *expr, std::optional<Value> &out) {
  if (!expr) return true;
  Value v = e.eval(*expr);
  if (v.isPoison()) return false;
  if (v.isNone()) return true;
  bool whole = v.kind == Kind::Float && v.d == double(int64_t(v.d));
  if (whole) v = Value::of(int64_t(v.d));
  if (v.kind != Kind::Int) {
    e.error(expr->span, Diag::NotInt, {e.show(v)});
    return false;
  }
  out = v;
  return true;
}

static bool constantBounds(Elaborator &e, const IndexItem &item, std::optional<int64_t> &b,
                           std::optional<int64_t> &end, int64_t &step) {
  std::optional<Value> values[3];
  const Expr *exprs[] = {item.begin, item.end, item.step};
  for (int i = 0; i < 3; ++i) {
    if (!bound(e, exprs[i], values[i])) return false;
    if (values[i] && values[i]->isSize()) {
      e.error(exprs[i]->span, Diag::BatchValue, {"an index", e.show(*values[i])});
      return false;
    }
  }
  if (values[0]) b = values[0]->integer();
  if (values[1]) end = values[1]->integer();
  step = values[2] ? values[2]->integer() : 1;
  if (step != 0) return true;
  e.error(item.span, Diag::DivisionByZero);
  return false;
}

// --- structures ----------------------------------------------------------------------------------

static Value indexList(Elaborator &e, const Value &base, const IndexExpr &expr) {
  const Values &items = base.kind == Kind::List ? base.list() : base.tuple().items;
  int64_t size = int64_t(items.size());
  if (expr.items.size() != 1 || expr.items[0].kind == IndexKind::Ellipsis)
    return e.fail(Diag::NotIndexable, {e.show(base) + " with several indices"});
  const IndexItem &item = expr.items[0];
  if (item.kind == IndexKind::Slice) {
    std::optional<int64_t> b, end;
    int64_t step;
    if (!constantBounds(e, item, b, end, step)) return {};
    Cut cut = cutOf(b, end, step, size);
    Values out;
    e.steps += cut.count / 16;
    for (int64_t i = 0; i < cut.count; ++i) out.push_back(items[cut.begin + i * cut.step]);
    return Value::list(std::move(out));
  }
  std::vector<int64_t> at;
  if (!e.intList(e.eval(*item.value), 1, item.span, at)) return {};
  int64_t i = at[0] < 0 ? at[0] + size : at[0];
  if (i < 0 || i >= size)
    return e.fail(item.span, Diag::IndexRange, {std::to_string(at[0]), std::to_string(size)});
  return items[i];
}

// --- tensors -------------------------------------------------------------------------------------

namespace {
struct TensorIndex {
  Elaborator &e;
  Value x;
  ir::Dims start, limit;
  ir::Ints stride, reversed;
  bool cuts = false;
  ir::Dims final; // dimensions of the result
  std::vector<Span> origins;
  Value picked; // the index of the gather
  int pickedAxis = -1;

  bool keep(int axis, ir::Dim size) {
    final.push_back(size);
    origins.push_back(e.originOf(x, axis));
    return true;
  }
  bool one(int axis, const IndexItem &item, const Value &v);
  bool slice(int axis, const IndexItem &item);
  bool pick(int axis, const IndexItem &item, Value v);
  Value finish();
};
} // namespace

bool TensorIndex::one(int axis, const IndexItem &item, const Value &v) {
  ir::Dim size = e.type(x).dims[axis], at = v.dim;
  if (at.isConst() && at.b < 0) at = at + size;
  bool outside = size.isConst() && at.isConst() && (at.b < 0 || at.b >= size.b);
  if (outside) {
    e.error(item.span, Diag::IndexRange, {e.show(v), e.show(size)});
    return false;
  }
  ir::Dim behind = size - at;
  if (!size.isConst() && (behind.b < 1 - behind.a || behind.a < 0)) {
    e.error(item.span, Diag::BatchValue, {"the size of an indexed axis", e.show(size)});
    return false;
  }
  start[axis] = at;
  limit[axis] = at + ir::Dim(1);
  return cuts = true;
}

bool TensorIndex::slice(int axis, const IndexItem &item) {
  ir::Dim size = e.type(x).dims[axis];
  if (!item.begin && !item.end && !item.step) return keep(axis, size);
  std::optional<Value> b, end, step;
  if (!bound(e, item.begin, b) || !bound(e, item.end, end) || !bound(e, item.step, step))
    return false;
  bool isConst = size.isConst() && (!b || b->isInt()) && (!end || end->isInt());
  if (isConst && (!step || step->isInt())) {
    std::optional<int64_t> from, to;
    if (b) from = b->integer();
    if (end) to = end->integer();
    int64_t s = step ? step->integer() : 1;
    if (s == 0) return e.error(item.span, Diag::DivisionByZero), false;
    Cut cut = cutOf(from, to, s, size.b);
    int64_t last = cut.begin + (cut.count - 1) * cut.step;
    start[axis] = cut.count ? std::min(cut.begin, last) : 0;
    limit[axis] = cut.count ? std::max(cut.begin, last) + 1 : 0;
    stride[axis] = std::abs(s);
    if (s < 0) reversed.push_back(axis);
    cuts |= !(start[axis] == ir::Dim(0) && limit[axis] == size && stride[axis] == 1);
    final.push_back(cut.count);
    origins.push_back(item.span);
    return true;
  }
  if (step && !(step->isInt() && step->integer() == 1))
    return e.error(item.span, Diag::BatchValue, {"a slice with a step", e.show(size)}), false;
  auto position = [&](const std::optional<Value> &v, ir::Dim otherwise) {
    if (!v) return otherwise;
    return v->isInt() && v->integer() < 0 ? v->dim + size : v->dim;
  };
  start[axis] = position(b, 0);
  limit[axis] = position(end, size);
  cuts = true;
  final.push_back(limit[axis] - start[axis]);
  origins.push_back(item.span);
  return true;
}

bool TensorIndex::pick(int axis, const IndexItem &item, Value v) {
  if (v.kind == Kind::List) v = e.tensor(v);
  if (v.isPoison()) return false;
  if (!ir::isInteger(e.type(v).dtype)) {
    e.error(item.span, Diag::NotInt, {e.show(v)});
    return false;
  }
  if (pickedAxis >= 0) {
    e.error(item.span, Diag::NotYet, {"more than one tensor as an index"});
    return false;
  }
  picked = v;
  pickedAxis = axis;
  for (ir::Dim d : e.type(v).dims) final.push_back(d), origins.push_back(item.span);
  return true;
}

Value TensorIndex::finish() {
  Value y = x;
  if (cuts) y = e.emit(ir::Op::slice_, {y.id}, ir::SliceAttr{start, limit, stride});
  if (!reversed.empty() && !y.isPoison())
    y = e.emit(ir::Op::reverse_, {y.id}, ir::AxesAttr{reversed});
  if (pickedAxis >= 0 && !y.isPoison())
    y = e.emit(ir::Op::gather_, {y.id, picked.id}, ir::GatherAttr{pickedAxis});
  y = e.reshape(y, final);
  if (!(y.id == x.id)) e.setOrigins(y, std::move(origins));
  return y;
}

static Value indexTensor(Elaborator &e, const Value &base, const IndexExpr &expr) {
  Value x = e.tensor(base);
  if (x.isPoison()) return x;
  int rank = e.rank(x), used = 0;
  std::vector<Value> values(expr.items.size());
  for (size_t i = 0; i < expr.items.size(); ++i) {
    const IndexItem &item = expr.items[i];
    if (item.kind == IndexKind::Value) {
      values[i] = e.eval(*item.value);
      if (values[i].isPoison()) return {};
      bool whole = values[i].kind == Kind::Float && values[i].d == double(int64_t(values[i].d));
      if (whole) values[i] = Value::of(int64_t(values[i].d));
      if (values[i].isNone()) continue;
    }
    if (item.kind != IndexKind::Ellipsis) ++used;
  }
  if (used > rank) return e.fail(Diag::AxisRange, {std::to_string(used - 1), std::to_string(rank)});
  TensorIndex t{e, x, {}, {}, {}, {}, false, {}, {}, {}, -1};
  t.start.assign(rank, 0);
  t.limit = e.type(x).dims;
  t.stride.assign(rank, 1);
  int axis = 0;
  bool ellipsis = false;
  for (size_t i = 0; i < expr.items.size(); ++i) {
    const IndexItem &item = expr.items[i];
    const Value &v = values[i];
    bool ok = true;
    if (item.kind == IndexKind::Ellipsis) {
      if (ellipsis) return e.fail(item.span, Diag::NotIndexable, {"with a second `...`"});
      ellipsis = true;
      for (int k = used; k < rank; ++k, ++axis) t.keep(axis, e.type(x).dims[axis]);
    } else if (item.kind == IndexKind::Slice) {
      ok = t.slice(axis++, item);
    } else if (v.isNone()) {
      t.final.push_back(1);
      t.origins.push_back(item.span);
    } else if (v.kind == Kind::Int) {
      ok = t.one(axis++, item, v);
    } else if (v.kind == Kind::List || v.isTensor()) {
      ok = t.pick(axis++, item, v);
    } else {
      return e.fail(item.span, Diag::NotInt, {e.show(v)});
    }
    if (!ok) return {};
  }
  for (; axis < rank; ++axis) t.keep(axis, e.type(x).dims[axis]);
  return t.finish();
}

Value Elaborator::evalIndex(const IndexExpr &expr) {
  Value base = eval(*expr.base);
  switch (base.kind) {
  case Kind::Poison: return base;
  case Kind::List:
  case Kind::Tuple: return indexList(*this, base, expr);
  case Kind::Weight:
  case Kind::Tensor: return indexTensor(*this, base, expr);
  default: return fail(expr.base->span, Diag::NotIndexable, {show(base)});
  }
}

} // namespace nnc::fe
