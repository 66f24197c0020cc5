// Builtins: arrangement of tensors.
//
// Problem. `reshape(x, [batch, -1])`, `concat([a, b], axis = -1)`, `split(x, 3)`: NumPy's names
// over the IR's reshape, transpose, slice, pad, concat, reverse and gather, with sizes that may
// depend on the batch.
//
// Method. Each function normalises its axes, checks sizes with a message in the user's terms, emits
// one or two nodes, and carries along where each size came from.
#include "frontend/elab.h"
#include <algorithm>

namespace nnc::fe {

Value builtin_transpose(BuiltinCall &c) {
  Value x = c.e.tensor(c[0]);
  if (x.isPoison()) return x;
  int rank = c.e.rank(x);
  ir::Ints perm;
  if (c[1].isNone()) {
    for (int i = rank; i-- > 0;) perm.push_back(i);
  } else {
    std::vector<int> axes;
    if (!c.e.axisList(c[1], c.exprs[1], rank, c.spans[1], axes)) return {};
    perm.assign(axes.begin(), axes.end());
  }
  bool same = int(perm.size()) == rank;
  for (int i = 0; i < int(perm.size()) && same; ++i) same = perm[i] == i;
  if (same) return x;
  Value y = c.e.emit(ir::Op::transpose_, {x.id}, ir::PermAttr{perm});
  if (y.isPoison()) return y;
  std::vector<Span> origins;
  for (int64_t p : perm) origins.push_back(c.e.originOf(x, int(p)));
  c.e.setOrigins(y, std::move(origins));
  return y;
}

/// total / part if it is a size.
static bool quotient(ir::Dim total, ir::Dim part, ir::Dim &out) {
  if (part.isConst()) {
    if (part.b == 0 || total.a % part.b || total.b % part.b) return false;
    return out = {total.a / part.b, total.b / part.b}, true;
  }
  if (total.a % part.a || part * (total.a / part.a) != total) return false;
  return out = total.a / part.a, true;
}

Value builtin_reshape(BuiltinCall &c) {
  Value x = c.e.tensor(c[0]);
  ir::Dims dims, known;
  std::vector<Span> origins;
  if (x.isPoison() || !c.e.shapeList(c[1], c.spans[1], dims, origins)) return {};
  int open = -1;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == ir::Dim(-1) && open < 0)
      open = int(i);
    else if (dims[i].isConst() && dims[i].b < 0)
      return c.e.fail(c.spans[1], Diag::NegativeSize,
                      {c.e.text(c.spans[1]), std::to_string(dims[i].b)});
    else
      known.push_back(dims[i]);
  }
  ir::Dim total, part;
  bool counted = ir::product(c.e.type(x).dims, total) && ir::product(known, part);
  bool fits = counted && (open < 0 ? total == part : quotient(total, part, dims[open]));
  if (!fits && (counted || open >= 0)) {
    std::string wanted = c.e.show(dims);
    // Both so many times the batch: what counts is the rest.
    bool perRow = counted && total.a != 0 && part.a != 0 && total.b == 0 && part.b == 0;
    std::string per = perRow ? " elements per sample" : " elements";
    auto count = [&](ir::Dim d) { return perRow ? std::to_string(d.a) : c.e.show(d); };
    return c.e.fail(Diag::ReshapeCount,
                    {c.e.show(x), wanted, counted ? count(total) + per : "a number of elements",
                     counted ? count(part) : "another"});
  }
  Value y = c.e.reshape(x, dims);
  if (!(y.id == x.id)) c.e.setOrigins(y, std::move(origins));
  return y;
}

Value builtin_expand_dims(BuiltinCall &c) {
  Value x = c.e.tensor(c[0]);
  if (x.isPoison()) return x;
  int extra = c[1].kind == Kind::List ? int(c[1].list().size()) : 1;
  std::vector<int> axes;
  int rank = c.e.rank(x) + extra;
  if (!c.e.axisList(c[1], nullptr, rank, c.spans[1], axes)) return {};
  ir::Dims dims;
  std::vector<Span> origins;
  int from = 0;
  for (int i = 0; i < rank; ++i) {
    bool isNew = std::find(axes.begin(), axes.end(), i) != axes.end();
    origins.push_back(isNew ? c.span : c.e.originOf(x, from));
    dims.push_back(isNew ? ir::Dim(1) : c.e.type(x).dims[from++]);
  }
  Value y = c.e.reshape(x, dims);
  c.e.setOrigins(y, std::move(origins));
  return y;
}

Value builtin_squeeze(BuiltinCall &c) {
  Value x = c.e.tensor(c[0]);
  if (x.isPoison()) return x;
  std::vector<int> axes;
  if (!c.e.axisList(c[1], c.exprs[1], c.e.rank(x), c.spans[1], axes)) return {};
  ir::Dims dims;
  std::vector<Span> origins;
  for (int i = 0; i < c.e.rank(x); ++i) {
    ir::Dim d = c.e.type(x).dims[i];
    bool named = std::find(axes.begin(), axes.end(), i) != axes.end();
    if (named && d == ir::Dim(1)) continue;
    if (named && !c[1].isNone())
      return c.e.fail(c.spans[1], Diag::ShapeMismatch,
                      {"axis " + std::to_string(i) + " of `squeeze`", "of size 1", c.e.show(x)});
    dims.push_back(d);
    origins.push_back(c.e.originOf(x, i));
  }
  Value y = c.e.reshape(x, dims);
  if (!(y.id == x.id)) c.e.setOrigins(y, std::move(origins));
  return y;
}

Value builtin_broadcast_to(BuiltinCall &c) {
  Value x = c.e.tensor(c[0]);
  ir::Dims dims;
  std::vector<Span> origins;
  if (x.isPoison() || !c.e.shapeList(c[1], c.spans[1], dims, origins)) return {};
  Value y = c.e.fit(x, {c.e.type(x).dtype, dims}, c.spans[0], "`x` of `broadcast_to`");
  if (!y.isPoison() && !(y.id == x.id)) c.e.setOrigins(y, std::move(origins));
  return y;
}

// --- joining and taking apart --------------------------------------------------------------------

/// The tensors of a list, of one element type; false after a message.
static bool tensorsOf(BuiltinCall &c, Values &out) {
  if (!c.e.iterate(c[0], c.spans[0], out)) return false;
  if (out.empty()) {
    c.e.error(c.spans[0], Diag::TensorWanted, {c.e.text(c.span), "an empty list"});
    return false;
  }
  ir::DType t = c.e.commonElement(out, false, true);
  bool same = out[0].isTensor(); // u8 stays u8 when nothing else is joined
  for (const Value &x : out)
    same = same && x.isTensor() && c.e.type(x).dtype == c.e.type(out[0]).dtype;
  if (same) t = c.e.type(out[0]).dtype;
  for (Value &x : out) {
    x = c.e.cast(c.e.tensor(x, x.isTensor() ? nullptr : &t), t);
    if (x.isPoison()) return false;
  }
  return true;
}

static bool differInOther(BuiltinCall &c, const Values &xs, int axis, int &other) {
  const ir::Dims &first = c.e.type(xs[0]).dims;
  for (const Value &x : xs) {
    const ir::Dims &d = c.e.type(x).dims;
    if (d.size() != first.size()) return other = -1, true;
    for (int i = 0; i < int(d.size()); ++i)
      if (i != axis && d[i] != first[i]) return other = i, true;
  }
  return false;
}

static Value joined(BuiltinCall &c, const Values &xs, int axis) {
  int other = -1;
  if (differInOther(c, xs, axis, other)) {
    for (const Value &x : xs)
      if (c.e.type(x).dims != c.e.type(xs[0]).dims) {
        const ir::Dims &a = c.e.type(xs[0]).dims, &b = c.e.type(x).dims;
        bool sizes = other >= 0 && a.size() == b.size() && a[other] != b[other];
        auto &e = c.e.error(Diag::BroadcastMismatch,
                            {c.e.show(xs[0]), c.e.show(x),
                             sizes ? c.e.show(a[other]) : std::to_string(a.size()) + " axes",
                             sizes ? c.e.show(b[other]) : std::to_string(b.size()) + " axes"});
        if (sizes) {
          c.e.labelSize(e, xs[0], other);
          c.e.labelSize(e, x, other);
        }
        return {};
      }
  }
  if (xs.size() == 1) return xs[0];
  std::vector<ir::ValueId> ids;
  for (const Value &x : xs) ids.push_back(x.id);
  Value y = c.e.emit(ir::Op::concat_, std::move(ids), ir::AxisAttr{axis});
  if (y.isPoison()) return y;
  std::vector<Span> origins = c.e.originsOf(xs[0]);
  origins[axis] = c.e.userPlace();
  c.e.setOrigins(y, std::move(origins));
  return y;
}

Value builtin_concat(BuiltinCall &c) {
  Values items;
  if (!c.e.iterate(c[0], c.spans[0], items)) return {};
  bool isStatic =
      std::none_of(items.begin(), items.end(), [](const Value &v) { return v.isTensor(); });
  if (isStatic) { // lists joined, a number counting as a list of one
    Values out;
    for (const Value &item : items) {
      if (item.kind != Kind::List)
        out.push_back(item);
      else
        out.insert(out.end(), item.list().begin(), item.list().end());
    }
    return Value::list(std::move(out));
  }
  Values xs;
  int axis;
  if (!tensorsOf(c, xs) || !c.e.axisValue(c[1], c.exprs[1], c.e.rank(xs[0]), c.spans[1], axis))
    return {};
  return joined(c, xs, axis);
}

Value builtin_stack(BuiltinCall &c) {
  Values xs;
  int axis;
  if (!tensorsOf(c, xs) || !c.e.axisValue(c[1], nullptr, c.e.rank(xs[0]) + 1, c.spans[1], axis))
    return {};
  for (Value &x : xs) {
    ir::Dims dims = c.e.type(x).dims;
    std::vector<Span> origins = c.e.originsOf(x);
    dims.insert(dims.begin() + std::min<int>(axis, int(dims.size())), 1);
    origins.insert(origins.begin() + std::min<int>(axis, int(origins.size())), c.span);
    x = c.e.reshape(x, dims);
    c.e.setOrigins(x, std::move(origins));
  }
  return joined(c, xs, axis);
}

Value builtin_split(BuiltinCall &c) {
  Value x = c.e.tensor(c[0]);
  int axis;
  if (x.isPoison() || !c.e.axisValue(c[2], c.exprs[2], c.e.rank(x), c.spans[2], axis)) return {};
  const ir::Dims dims = c.e.type(x).dims;
  ir::Dims sizes;
  if (c[1].kind == Kind::List) {
    std::vector<Span> origins;
    if (!c.e.shapeList(c[1], c.spans[1], sizes, origins)) return {};
  } else {
    std::vector<int64_t> n;
    if (!c.e.intList(c[1], 1, c.spans[1], n)) return {};
    ir::Dim part;
    if (n[0] <= 0 || n[0] > kMaxListLength || !quotient(dims[axis], n[0], part))
      return c.e.fail(c.spans[1], Diag::ShapeMismatch,
                      {"axis " + std::to_string(axis) + " of `split`",
                       "divisible by " + c.e.show(c[1]), c.e.show(x)});
    sizes.assign(size_t(n[0]), part);
  }
  ir::Dim sum = 0;
  for (ir::Dim d : sizes) sum = sum + d;
  if (sum != dims[axis])
    return c.e.fail(c.spans[1], Diag::ShapeMismatch,
                    {"the sum of the parts", c.e.show(dims[axis]), c.e.show(sum)});
  Values out;
  ir::Dims start(dims.size(), 0), limit = dims;
  for (ir::Dim d : sizes) {
    limit[axis] = start[axis] + d;
    Value part =
        c.e.emit(ir::Op::slice_, {x.id}, ir::SliceAttr{start, limit, ir::Ints(dims.size(), 1)});
    if (part.isPoison()) return {};
    std::vector<Span> origins = c.e.originsOf(x);
    origins[axis] = c.e.userPlace();
    c.e.setOrigins(part, std::move(origins));
    out.push_back(part);
    start[axis] = limit[axis];
  }
  return Value::list(std::move(out));
}

// --- filling, turning, picking -------------------------------------------------------------------

Value builtin_pad(BuiltinCall &c) {
  Value x = c.e.tensor(c[0]);
  Values pairs;
  if (x.isPoison() || !c.e.iterate(c[1], c.spans[1], pairs)) return {};
  if (int(pairs.size()) != c.e.rank(x))
    return c.e.fail(c.spans[1], Diag::UnpackCount,
                    {std::to_string(c.e.rank(x)), std::to_string(pairs.size())});
  if (!c[2].isNumber()) return c.e.fail(c.spans[2], Diag::NotInt, {c.e.show(c[2])});
  ir::PadAttr a;
  a.value = c[2].number();
  bool any = false;
  for (const Value &pair : pairs) {
    std::vector<int64_t> ends;
    if (!c.e.intList(pair, 2, c.spans[1], ends)) return {};
    a.low.push_back(ends[0]);
    a.high.push_back(ends[1]);
    any |= ends[0] != 0 || ends[1] != 0;
  }
  return any ? c.e.emit(ir::Op::pad_, {x.id}, std::move(a)) : x;
}

Value builtin_flip(BuiltinCall &c) {
  Value x = c.e.tensor(c[0]);
  std::vector<int> axes;
  if (x.isPoison() || !c.e.axisList(c[1], c.exprs[1], c.e.rank(x), c.spans[1], axes)) return {};
  std::sort(axes.begin(), axes.end());
  if (axes.empty()) return x;
  Value y = c.e.emit(ir::Op::reverse_, {x.id}, ir::AxesAttr{ir::Ints(axes.begin(), axes.end())});
  c.e.setOrigins(y, c.e.originsOf(x));
  return y;
}

static bool indices(BuiltinCall &c, size_t i, Value &out) {
  out = c.e.tensor(c[i]);
  if (out.isPoison()) return false;
  ir::DType t = c.e.type(out).dtype;
  if (ir::isFloat(t)) {
    c.e.error(c.spans[i], Diag::ElementMismatch,
              {"`indices`", "i32", std::string(ir::dtypeName(t))});
    return false;
  }
  if (t == ir::DType::u8 || t == ir::DType::boolean) out = c.e.cast(out, ir::DType::i32);
  return !out.isPoison();
}

Value builtin_take(BuiltinCall &c) {
  Value x = c.e.tensor(c[0]), index;
  int axis;
  if (x.isPoison() || !indices(c, 1, index) ||
      !c.e.axisValue(c[2], c.exprs[2], c.e.rank(x), c.spans[2], axis))
    return {};
  Value y = c.e.emit(ir::Op::gather_, {x.id, index.id}, ir::GatherAttr{axis});
  if (y.isPoison()) return y;
  std::vector<Span> from = c.e.originsOf(x), origins(from.begin(), from.begin() + axis);
  for (Span s : c.e.originsOf(index)) origins.push_back(s);
  origins.insert(origins.end(), from.begin() + axis + 1, from.end());
  c.e.setOrigins(y, std::move(origins));
  return y;
}

Value builtin_scatter_add(BuiltinCall &c) {
  ir::Dims dims;
  std::vector<Span> origins;
  Value index, updates = c.e.tensor(c[2]);
  if (updates.isPoison() || !c.e.shapeList(c[0], c.spans[0], dims, origins) ||
      !indices(c, 1, index))
    return {};
  Value y = c.e.emit(ir::Op::scatter_add_, {index.id, updates.id},
                     ir::ScatterAttr{0, {c.e.type(updates).dtype, dims}});
  c.e.setOrigins(y, std::move(origins));
  return y;
}

} // namespace nnc::fe
