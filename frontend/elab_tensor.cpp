// Tensors: emitting nodes, element types, broadcasting, and what messages say about them.
//
// Problem. `x / 255` with x: u8[batch, 28, 28] is three facts of the language: the literal takes
// the tensor's type, u8 computes as a wider type, division gives floats. In the IR all are
// explicit:
//
//   %a = cast %x : f32[n,28,28]    %b = constant 255 : f32[n,28,28]    %c = div %a, %b
//
// Method. Numbers stay numbers until they meet a tensor. `promote` brings operands to one element
// type (R8) and one shape (NumPy's rule); `emit` checks the node's type rule, so that a wrong one
// is a message, gives it its place and appends it. Every size remembers where it was fixed.
#include "frontend/elab.h"
#include <algorithm>
#include <cmath>

namespace nnc::fe {

// --- nodes ---------------------------------------------------------------------------------------

ir::Loc Elaborator::loc() { return locOf(at, frame); }

ir::Loc Elaborator::locOf(Span span, Frame *from) {
  ir::Loc parent;
  if (from && from->parent) {
    if (!from->hasLoc) from->loc = locOf(from->callSpan, from->parent);
    from->hasLoc = true;
    parent = from->loc;
  }
  if (!span.valid()) return parent;
  uint64_t key =
      uint64_t(parent.i) << 31 | uint64_t(span.file & 1023) << 21 | (span.begin & 0x1fffff);
  auto [it, isNew] = locCache_.try_emplace(key);
  if (!isNew) return it->second;
  Position p = sources.position(span);
  std::string file = sources.name(span.file);
  file = file.substr(file.rfind('/') + 1); // the same bytes wherever the file lies
  ir::Loc made = module->addLoc({std::move(file), int32_t(p.line), int32_t(p.column), parent});
  return locCache_[key] = made;
}

bool Elaborator::needsTensor(Span span) {
  if (pass) return true;
  error(span, Diag::TensorOutside);
  return false;
}

Value Elaborator::wrap(ir::ValueId id) {
  if (pass->places.size() <= size_t(id.i)) pass->places.resize(id.i + 1);
  pass->places[id.i] = userPlace();
  return Value::of(pass, id);
}

std::vector<Value> Elaborator::emitMany(ir::Op op, std::vector<ir::ValueId> operands,
                                        ir::Attr attr) {
  if (!step(at) || !needsTensor(at)) return {};
  std::vector<ir::Type> types;
  types.reserve(operands.size());
  for (ir::ValueId v : operands) types.push_back(pass->b.f.type(v));
  ir::Inferred r = ir::inferTypes(op, types, attr, module.get());
  if (!r.error.empty()) {
    error(Diag::TensorRule, {ir::info(op).name, r.error});
    return {};
  }
  for (const ir::Type &t : r.types)
    if (std::count(t.dims.begin(), t.dims.end(), ir::Dim(0))) {
      error(Diag::TensorRule, {ir::info(op).name, "the result " + ir::str(t) + " would be empty"});
      return {};
    }
  pass->b.loc = loc();
  size_t count = r.types.size();
  ir::ValueId first = pass->b.append(op, std::move(operands), std::move(attr), std::move(r.types));
  if (hasMasks) propagateMask(op, ir::Node(pass->b.f.nodes.back()).operands, first);
  std::vector<Value> out;
  out.reserve(count);
  for (size_t k = 0; k < count; ++k) out.push_back(wrap({first.i + int32_t(k)}));
  return out;
}

Value Elaborator::emit(ir::Op op, std::vector<ir::ValueId> operands, ir::Attr attr) {
  auto all = emitMany(op, std::move(operands), std::move(attr));
  return all.empty() ? Value{} : all[0];
}

const ir::Type &Elaborator::type(const Value &v) const {
  return v.kind == Kind::Weight ? v.weight->type : v.pass->b.f.type(v.id);
}

Value Elaborator::constant(double v, ir::Type t) {
  return emit(ir::Op::constant_, {}, ir::ConstantAttr{{v}, std::move(t)});
}

Value Elaborator::cast(const Value &v, ir::DType t) {
  if (v.isPoison() || type(v).dtype == t) return v;
  Value out = emit(ir::Op::cast_, {v.id}, ir::CastAttr{{t, type(v).dims}});
  setOrigins(out, originsOf(v));
  return out;
}

// --- numbers become constants --------------------------------------------------------------------

/// Shape and leaves of a nested list of numbers; false if it is none.
static bool flatten(const Value &v, std::vector<int64_t> &dims, std::vector<double> &data,
                    size_t depth, bool &isFloat, bool &isBool) {
  if (v.kind != Kind::List) {
    if (v.kind == Kind::Bool) return data.push_back(v.b), isFloat = false, true;
    isBool = false;
    isFloat |= v.kind == Kind::Float;
    return v.isNumber() && (data.push_back(v.number()), true);
  }
  int64_t n = int64_t(v.list().size());
  if (dims.size() == depth)
    dims.push_back(n);
  else if (dims[depth] != n)
    return false;
  for (const Value &item : v.list()) {
    if ((item.kind == Kind::List) != (v.list()[0].kind == Kind::List)) return false;
    if (!flatten(item, dims, data, depth + 1, isFloat, isBool)) return false;
  }
  return true;
}

bool Elaborator::isTensorLike(const Value &v) const {
  switch (v.kind) {
  case Kind::Tensor:
  case Kind::Weight:
  case Kind::Int:
  case Kind::Float:
  case Kind::Bool: return true;
  case Kind::List: {
    std::vector<int64_t> dims;
    std::vector<double> data;
    bool isFloat = false, isBool = true;
    return !v.list().empty() && flatten(v, dims, data, 0, isFloat, isBool);
  }
  default: return false;
  }
}

Value Elaborator::tensor(const Value &v, const ir::DType *like) {
  switch (v.kind) {
  case Kind::Poison: return v;
  case Kind::Tensor:
    if (!needsTensor(at)) return {};
    if (v.pass == pass) return v;
    if (isOutside(v)) return inBody(v);
    if (pass->root->isInit) return fail(Diag::ForeignTensor);
    return fail(Diag::NotYet, {"a tensor from outside in a function with a `gradient` rule"});
  case Kind::Weight: return readWeight(*v.weight);
  case Kind::Int:
    if (v.isSize()) {
      Value size = emit(ir::Op::size_, {}, ir::SizeAttr{v.dim});
      return like && !size.isPoison() ? cast(size, *like) : size;
    }
    return constant(v.number(), {like ? *like : ir::DType::i32, {}});
  case Kind::Float: return constant(v.d, {like ? *like : floatType, {}});
  case Kind::Bool: return constant(v.b, {like ? *like : ir::DType::boolean, {}});
  case Kind::List: {
    std::vector<int64_t> sizes;
    std::vector<double> data;
    bool isFloat = false, isBool = true;
    if (v.list().empty() || !flatten(v, sizes, data, 0, isFloat, isBool)) break;
    ir::DType t = like ? *like : isFloat ? floatType : isBool ? ir::DType::boolean : ir::DType::i32;
    ir::Type type{t, ir::Dims(sizes.begin(), sizes.end())};
    bool counts = sizes.size() == 1 && data.size() > 1;
    for (size_t i = 0; i < data.size() && counts; ++i) counts = data[i] == double(i);
    if (counts && t != ir::DType::boolean) return emit(ir::Op::iota_, {}, ir::IotaAttr{0, type});
    return emit(ir::Op::constant_, {}, ir::ConstantAttr{std::move(data), type});
  }
  default: break;
  }
  if (v.kind == Kind::List)
    for (const Value &item : v.list())
      if (item.isTensor()) {
        error(Diag::TensorWanted, {text(at), show(v)}).help("`stack` makes one tensor of a list");
        return {};
      }
  return fail(Diag::TensorWanted, {text(at), show(v)});
}

// --- promotion (R8) ------------------------------------------------------------------------------

bool Elaborator::elementOf(const Value &v, ir::DType &out) const {
  if (v.kind != Kind::Tensor && v.kind != Kind::Weight) return false;
  out = type(v).dtype;
  return true;
}

static bool weakFloat(const Value &v) {
  if (v.kind == Kind::List)
    for (const Value &item : v.list())
      if (weakFloat(item)) return true;
  return v.kind == Kind::Float;
}
static bool weakBool(const Value &v) {
  if (v.kind == Kind::List) return !v.list().empty() && weakBool(v.list()[0]);
  return v.kind == Kind::Bool;
}

ir::DType Elaborator::commonElement(const Values &xs, bool toFloat, bool boolStays) {
  bool strong = false, isFloat = false, allBool = true, wantsFloat = toFloat;
  ir::DType t = ir::DType::i32;
  auto widthOf = [](ir::DType d) { return ir::dtypeBytes(d); };
  for (const Value &x : xs) {
    ir::DType e;
    if (!elementOf(x, e)) {
      wantsFloat |= weakFloat(x);
      allBool &= weakBool(x);
      continue;
    }
    allBool &= e == ir::DType::boolean;
    if (e == ir::DType::boolean || e == ir::DType::u8) e = ir::DType::i32;
    bool wins = !strong || (ir::isFloat(e) && !isFloat) ||
                (ir::isFloat(e) == isFloat && widthOf(e) > widthOf(t));
    bool apart = strong && ir::isFloat(e) && isFloat && e != t && widthOf(e) == widthOf(t);
    if (apart) t = ir::DType::f32; // bf16 and f16: neither holds the other
    if (wins) t = e;
    isFloat = ir::isFloat(t);
    strong = true;
  }
  if (allBool && boolStays) return ir::DType::boolean;
  return wantsFloat && !isFloat ? floatType : t;
}

bool Elaborator::broadcastDims(const Values &xs, ir::Dims &out, std::vector<Span> &origins) {
  const Value *from = nullptr; // gave `out` its dimensions so far
  std::vector<std::pair<const Value *, int>> who; // gave each of them, by axis
  for (const Value &x : xs) {
    if (!x.isTensor()) continue;
    const ir::Dims &d = type(x).dims;
    if (!from) {
      out = d;
      origins = originsOf(x);
      from = &x;
      for (size_t i = 0; i < d.size(); ++i) who.emplace_back(&x, int(i));
      continue;
    }
    if (out == d) continue;
    size_t rank = std::max(out.size(), d.size());
    while (out.size() < rank) {
      out.insert(out.begin(), 1);
      origins.insert(origins.begin(), Span{});
      who.insert(who.begin(), {nullptr, 0});
    }
    for (size_t i = 0; i < d.size(); ++i) {
      ir::Dim &o = out[i + rank - d.size()];
      Span &place = origins[i + rank - d.size()];
      if (o == d[i] || d[i] == ir::Dim(1)) continue;
      if (o == ir::Dim(1)) {
        o = d[i];
        place = originOf(x, int(i));
        who[i + rank - d.size()] = {&x, int(i)};
        continue;
      }
      auto &e = error(Diag::BroadcastMismatch, {show(*from), show(x), show(o), show(d[i])});
      if (auto [v, axis] = who[i + rank - d.size()]; v) labelSize(e, *v, axis);
      labelSize(e, x, int(i));
      return false;
    }
  }
  return true;
}

Value Elaborator::broadcastTo(const Value &v, const ir::Dims &dims) {
  if (v.isPoison() || type(v).dims == dims) return v;
  ir::Dims kept;
  ir::Ints places;
  const ir::Dims from = type(v).dims;
  for (size_t i = 0; i < from.size(); ++i) {
    size_t to = i + dims.size() - from.size();
    if (from[i] == ir::Dim(1) && dims[to] != ir::Dim(1)) continue;
    kept.push_back(from[i]);
    places.push_back(int64_t(to));
  }
  Value y = reshape(v, kept);
  if (y.isPoison()) return y;
  return emit(ir::Op::broadcast_, {y.id}, ir::BroadcastAttr{places, {type(v).dtype, dims}});
}

Value Elaborator::fit(const Value &value, const ir::Type &t, Span span, const std::string &what) {
  if (value.isPoison()) return value;
  if (!isTensorLike(value)) return fail(span, Diag::ShapeMismatch, {what, show(t), show(value)});
  Value v = tensor(value, value.kind == Kind::List || !value.isTensor() ? &t.dtype : nullptr);
  if (v.isPoison()) return v;
  const ir::Dims d = type(v).dims;
  bool fits = d.size() <= t.dims.size();
  for (size_t i = 0; fits && i < d.size(); ++i) {
    ir::Dim to = t.dims[i + t.dims.size() - d.size()];
    fits = d[i] == to || d[i] == ir::Dim(1);
  }
  if (!fits) return fail(span, Diag::ShapeMismatch, {what, show(t), show(v)});
  return broadcastTo(cast(v, t.dtype), t.dims);
}

/// `[batch]` beside `[batch, 1]`: the first is taken as a row, and all pairs are computed.
void Elaborator::lintBatchTwice(const Values &xs, const ir::Dims &dims) {
  if (std::count_if(dims.begin(), dims.end(), [](ir::Dim d) { return !d.isConst(); }) < 2) return;
  const Value *low = nullptr, *high = nullptr;
  for (const Value &x : xs) {
    if (!x.isTensor()) continue;
    const ir::Dims &d = type(x).dims;
    if (d == dims) return; // has both of itself
    if (d.size() == dims.size()) high = &x;
    else if (!d.empty() && !d[0].isConst()) low = &x;
  }
  if (!low || !high || type(*high).dims[0].isConst()) return;
  const ir::Node *n = pass->b.f.def(high->id);
  bool asked = n && n->op == ir::Op::reshape_ && // `x[:, none]`
               pass->b.f.type(n->operands[0]).dims.size() + 1 == dims.size();
  if (asked) return;
  diags
      .report(userPlace(), Diag::BatchTwice,
              {show(*low), show(*high), show(ir::Type{type(*low).dtype, dims})})
      .help("`x[:, none]` makes a column of [batch]; where all pairs are meant, say so by `x[none, "
            ":]`");
}

bool Elaborator::promote(Values &xs, bool toFloat, bool boolStays) {
  for (Value &x : xs) {
    if (x.isPoison()) return false;
    if (x.kind == Kind::Weight) x = readWeight(*x.weight);
    if (!isTensorLike(x)) x = tensor(x); // reports
    if (x.isPoison()) return false;
  }
  ir::DType t = commonElement(xs, toFloat, boolStays);
  for (Value &x : xs) // scalars wait for the shape
    if (x.isTensor() || x.kind == Kind::List) {
      x = x.isTensor() ? tensor(x) : tensor(x, &t);
      x = cast(x, t);
      if (x.isPoison()) return false;
    }
  ir::Dims dims;
  std::vector<Span> origins;
  if (!broadcastDims(xs, dims, origins)) return false;
  lintBatchTwice(xs, dims);
  for (Value &x : xs) {
    if (x.isTensor())
      x = broadcastTo(x, dims);
    else if (x.isSize())
      x = broadcastTo(tensor(x, &t), dims);
    else
      x = constant(x.kind == Kind::Bool ? double(x.b) : x.number(), {t, dims});
    if (x.isPoison()) return false;
    if (pass->origins.size() <= size_t(x.id.i) || pass->origins[x.id.i].empty())
      setOrigins(x, origins);
  }
  return true;
}

// --- reductions and reshape ----------------------------------------------------------------------

Value Elaborator::reshape(const Value &x, const ir::Dims &dims) {
  if (x.isPoison() || type(x).dims == dims) return x;
  return emit(ir::Op::reshape_, {x.id}, ir::ReshapeAttr{{type(x).dtype, dims}});
}

Value Elaborator::reduce(ir::ReduceKind kind, const Value &x, std::vector<int> axes,
                         bool keepdims) {
  if (x.isPoison()) return x;
  std::sort(axes.begin(), axes.end());
  axes.erase(std::unique(axes.begin(), axes.end()), axes.end());
  if (axes.empty()) return x;
  ir::Dims dims = type(x).dims, kept;
  std::vector<Span> origins = originsOf(x), left;
  origins.resize(dims.size());
  for (size_t i = 0; i < dims.size(); ++i) {
    bool gone = std::find(axes.begin(), axes.end(), int(i)) != axes.end();
    if (gone && !keepdims) continue;
    kept.push_back(gone ? ir::Dim(1) : dims[i]);
    left.push_back(origins[i]);
  }
  Value y = emit(ir::Op::reduce_, {x.id}, ir::ReduceAttr{kind, ir::Ints(axes.begin(), axes.end())});
  y = keepdims ? reshape(y, kept) : y;
  setOrigins(y, std::move(left));
  return y;
}

Value Elaborator::count(const ir::Dims &dims) {
  ir::Dim n;
  if (ir::product(dims, n)) return Value::of(n, Span{});
  Value all = Value::of(1.0);
  for (ir::Dim d : dims) all = binary(BinaryOp::Mul, all, Value::of(d, Span{}));
  return all;
}

Value Elaborator::mean(const Value &x, const std::vector<int> &axes, bool keepdims) {
  if (x.isPoison()) return x;
  Value y = ir::isFloat(type(x).dtype) ? x : cast(x, floatType);
  if (axes.empty()) return y;
  ir::Dims reduced;
  for (int a : axes) reduced.push_back(type(x).dims[a]);
  // The sum of values of f16 may be beyond its range although their mean is not.
  const bool half = type(y).dtype == ir::DType::f16;
  if (half) y = cast(y, ir::DType::f32);
  y = binary(BinaryOp::Div, reduce(ir::ReduceKind::sum, y, axes, keepdims), count(reduced));
  return half ? cast(y, ir::DType::f16) : y;
}

Value Elaborator::meanAll(const Value &x) {
  if (!x.isTensor()) return x;
  std::vector<int> axes(rank(x));
  for (size_t i = 0; i < axes.size(); ++i) axes[i] = int(i);
  return mean(x, axes, false);
}

// --- where sizes come from, names ----------------------------------------------------------------

std::vector<Span> Elaborator::originsOf(const Value &v) const {
  if (v.kind == Kind::Weight) return v.weight->origins;
  std::vector<Span> out;
  for (int i = 0; i < rank(v); ++i) out.push_back(originOf(v, i));
  return out;
}

Span Elaborator::originOf(const Value &v, int axis) const {
  if (v.kind == Kind::Weight)
    return size_t(axis) < v.weight->origins.size() ? v.weight->origins[axis] : Span{};
  const Pass &p = *v.pass;
  if (size_t(v.id.i) < p.origins.size() && size_t(axis) < p.origins[v.id.i].size() &&
      p.origins[v.id.i][axis].valid())
    return p.origins[v.id.i][axis];
  return size_t(v.id.i) < p.places.size() ? p.places[v.id.i] : Span{};
}

/// The call that gave a size, where the user's line is known: `28` became `26` there.
static const Maker *changeAt(const Elaborator &e, const Value &v, int axis, Span place) {
  if (!v.isTensor()) return nullptr;
  const ir::Function &f = v.pass->b.f;
  auto dims = [&](ir::ValueId id) -> const ir::Dims & { return f.type(id).dims; };
  size_t rank = size_t(e.rank(v));
  for (auto m = v.pass->makers.rbegin(); m != v.pass->makers.rend(); ++m) {
    if (!(m->span == place) || !m->input.valid() || m->value.i > v.id.i) continue;
    bool sameRank = dims(m->value).size() == rank && dims(m->input).size() == rank;
    if (!sameRank || dims(m->value)[axis] != e.type(v).dims[axis]) continue;
    if (dims(m->input)[axis] != dims(m->value)[axis]) return &*m;
  }
  return nullptr;
}

void Elaborator::labelSize(Diagnostic &d, const Value &v, int axis) const {
  constexpr int kMaxWay = 4;
  Value at = v;
  for (int way = 0; way < kMaxWay; ++way) {
    // In the body of a scan: what a parameter stands for, unless it is a slice of that.
    for (auto out = at.pass->stands.find(at.id.i);
         at.pass->outer && out != at.pass->stands.end() &&
         at.pass->outer->b.f.type(out->second) == type(at);
         out = at.pass->stands.find(at.id.i))
      at = Value::of(at.pass->outer, out->second);
    Span p = originOf(at, axis);
    if (!p.valid()) return;
    const Maker *m = changeAt(*this, at, axis, p);
    // The last axis of a layer is its own choice; what it was before does not matter.
    if (m && axis + 1 == rank(at) && m->instance) m = nullptr;
    std::string text = show(type(at).dims[axis]) + " comes from here";
    if (m) text += ", made of " + show(v.pass->b.f.type(m->input).dims[axis]);
    bool said = std::any_of(d.labels.begin(), d.labels.end(),
                            [&](const Diagnostic::Label &l) { return l.span == p; });
    if (!said) d.label(p, text);
    if (!m) return;
    at = Value::of(v.pass, m->input);
  }
}

void Elaborator::setOrigins(const Value &v, std::vector<Span> origins) {
  if (!v.isTensor()) return;
  for (Span &s : origins) // a size that the library computes was fixed by who called it
    if (s.valid() && isLibrary(s)) s = userPlace();
  Pass &p = *v.pass;
  if (p.origins.size() <= size_t(v.id.i)) p.origins.resize(v.id.i + 1);
  p.origins[v.id.i] = std::move(origins);
}

std::string Elaborator::uniqueName(std::string_view name) {
  std::string base(name);
  for (char &c : base)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.') c = '_';
  int &used = pass->names[base];
  if (used == 0) return used = 1, base;
  for (;;) {
    std::string next = base + "." + std::to_string(used++);
    if (pass->names.emplace(next, 1).second) return next;
  }
}

void Elaborator::setName(const Value &v, std::string_view name) {
  if (!v.isTensor() || v.pass != pass) return;
  ir::ValueInfo &info = pass->b.f.values[v.id.i];
  if (info.name.empty() && info.def.valid()) info.name = uniqueName(name);
}

// --- what messages say ---------------------------------------------------------------------------

std::string Elaborator::show(ir::Dim d) const {
  if (d.isConst()) return std::to_string(d.b);
  std::string s = d.a == 1 ? "batch" : std::to_string(d.a) + " * batch";
  if (d.b > 0) s += " + " + std::to_string(d.b);
  if (d.b < 0) s += " - " + std::to_string(-d.b);
  return s;
}

std::string Elaborator::show(const ir::Dims &dims) const {
  std::string s = "[";
  for (size_t i = 0; i < dims.size(); ++i) s += (i ? ", " : "") + show(dims[i]);
  return s + "]";
}

std::string Elaborator::show(const ir::Type &t) const {
  return std::string(ir::dtypeName(t.dtype)) + show(t.dims);
}

static std::string shortFloat(double d) {
  char buffer[32];
  snprintf(buffer, sizeof buffer, "%g", d);
  std::string s = buffer;
  return s.find_first_of(".ein") == std::string::npos ? s + ".0" : s;
}

std::string Elaborator::show(const Value &v) const {
  switch (v.kind) {
  case Kind::Int: return show(v.dim);
  case Kind::Float: return shortFloat(v.d);
  case Kind::Bool: return v.b ? "true" : "false";
  case Kind::String: return "\"" + v.string() + "\"";
  case Kind::Element: return std::string(ir::dtypeName(v.element));
  case Kind::Tensor:
  case Kind::Weight: return show(type(v));
  case Kind::Function: return "the function `" + calleeName(v) + "`";
  case Kind::Instance: return "an instance of `" + calleeName(v) + "`";
  case Kind::List: {
    std::string s;
    for (size_t i = 0; i < v.list().size() && i < 8; ++i) s += (i ? ", " : "") + show(v.list()[i]);
    return "[" + s + (v.list().size() > 8 ? ", ...]" : "]");
  }
  case Kind::Tuple: {
    std::string s;
    const TupleObj &t = v.tuple();
    for (size_t i = 0; i < t.items.size() && i < 8; ++i)
      s += (i ? ", " : "") + (t.names.empty() ? "" : t.names[i] + " = ") + show(t.items[i]);
    return "(" + s + ")";
  }
  case Kind::Data:
    return v.data().reader.empty() ? describe(v.kind) : "`" + v.data().reader + "(...)`";
  default: return describe(v.kind);
  }
}

// --- arguments of primitives ---------------------------------------------------------------------

bool Elaborator::axisValue(const Value &v, const Expr *expr, int rank, Span span, int &out) {
  if (expr && expr->kind == ExprKind::Name)
    if (const Binding *b = findBinding(as<NameExpr>(*expr).name); b && b->isDim && b->axis >= 0) {
      out = b->axis;
      return true;
    }
  if (v.isPoison()) return false;
  if (!v.isInt()) {
    error(span, Diag::NotInt, {show(v)});
    return false;
  }
  int64_t a = v.integer();
  if (a < -rank || a >= rank) {
    error(span, Diag::AxisRange, {std::to_string(a), std::to_string(rank)});
    return false;
  }
  out = int(a < 0 ? a + rank : a);
  return true;
}

bool Elaborator::axisList(const Value &v, const Expr *expr, int rank, Span span,
                          std::vector<int> &out) {
  if (v.isPoison()) return false;
  if (v.isNone()) {
    for (int i = 0; i < rank; ++i) out.push_back(i);
    return true;
  }
  if (expr && expr->kind == ExprKind::Name)
    if (const Binding *b = findBinding(as<NameExpr>(*expr).name);
        b && b->isDim && b->axis >= 0 && b->value.kind == Kind::List) {
      for (size_t i = 0; i < b->value.list().size(); ++i) out.push_back(b->axis + int(i));
      return true;
    }
  if (v.kind != Kind::List && v.kind != Kind::Tuple) {
    int a;
    if (!axisValue(v, expr, rank, span, a)) return false;
    out.push_back(a);
    return true;
  }
  const Values &items = v.kind == Kind::List ? v.list() : v.tuple().items;
  const ListExpr *list = expr && expr->kind == ExprKind::List ? &as<ListExpr>(*expr) : nullptr;
  bool plain = list && list->items.size() == items.size();
  for (size_t i = 0; i < items.size(); ++i) {
    int a;
    const Expr *e = plain && !list->items[i].spread ? list->items[i].value : nullptr;
    if (!axisValue(items[i], e, rank, span, a)) return false;
    if (std::find(out.begin(), out.end(), a) == out.end()) out.push_back(a);
  }
  return true;
}

bool Elaborator::shapeList(const Value &v, Span span, ir::Dims &out, std::vector<Span> &origins) {
  if (v.isPoison()) return false;
  Values items;
  if (v.kind == Kind::List)
    items = v.list();
  else if (v.kind == Kind::Tuple)
    items = v.tuple().items;
  else
    items = {v};
  for (const Value &item : items) {
    if (item.isPoison()) return false;
    Value n = item;
    if (n.kind == Kind::Float && n.d == std::floor(n.d)) n = Value::of(int64_t(n.d));
    if (n.kind != Kind::Int) {
      error(span, Diag::NotInt, {show(item)});
      return false;
    }
    out.push_back(n.dim);
    origins.push_back(n.origin.valid() ? n.origin : span);
  }
  return true;
}

bool Elaborator::intList(const Value &v, int n, Span span, std::vector<int64_t> &out) {
  if (v.isPoison()) return false;
  Values items;
  if (v.kind == Kind::List)
    items = v.list();
  else if (v.kind == Kind::Tuple)
    items = v.tuple().items;
  else if (n >= 0)
    items.assign(n, v);
  else
    items = {v};
  for (const Value &item : items) {
    if (item.isPoison()) return false;
    if (item.isSize()) {
      error(span, Diag::BatchValue, {text(span), show(item)});
      return false;
    }
    bool whole = item.kind == Kind::Float && item.d == std::floor(item.d);
    if (!item.isInt() && !whole) {
      error(span, Diag::NotInt, {show(item)});
      return false;
    }
    out.push_back(whole ? int64_t(item.d) : item.integer());
  }
  if (n >= 0 && int(items.size()) != n) {
    error(span, Diag::UnpackCount, {std::to_string(n), std::to_string(items.size())});
    return false;
  }
  return true;
}

bool Elaborator::elementType(const Value &v, Span span, ir::DType &out) {
  if (v.isPoison()) return false;
  if (v.kind == Kind::Element) return out = v.element, true;
  if (v.kind == Kind::Function && v.function().kind == FunctionKind::Builtin) {
    std::string name = calleeName(v);
    if (name == "float") return out = floatType, true;
    if (name == "int") return out = ir::DType::i32, true;
  }
  error(span, Diag::DtypeWanted, {show(v)});
  return false;
}

} // namespace nnc::fe
