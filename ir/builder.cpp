// Building functions.
//
// Problem. Every stage that makes nodes needs types, unique names and positions on them, and code
// like `(x - mean) * rsqrt(variance + 1e-3)` should read as mathematics.
//
// Method. append() is the one place that appends a node: it names the results and stores the
// location; make() infers the types before. Everything else fills in an attribute and calls it.
#include "ir/builder.h"
#include "ir/forms.h"
#include <algorithm>
#include <utility>

namespace nnc::ir {

const Type &V::type() const { return b->f.type(id); }

namespace {

void sortUnique(Ints &dims) {
  std::sort(dims.begin(), dims.end());
  dims.erase(std::unique(dims.begin(), dims.end()), dims.end());
}

Ints inOrder(int rank) {
  Ints dims(rank);
  for (int i = 0; i < rank; ++i) dims[i] = i;
  return dims;
}

} // namespace

// --- names and nodes ---------------------------------------------------------------------------

// names_[""] counts the values whose names are known: another builder, or a parser, may have added
// some. The entry of a name is the next suffix to try, so that a loop of equal hints stays linear.
std::string Builder::unique(std::string name) {
  int &known = names_[""];
  for (; size_t(known) < f.values.size(); ++known)
    if (!f.values[known].name.empty()) names_.try_emplace(f.values[known].name, 1);
  name = sanitized(name);
  auto [it, isNew] = names_.try_emplace(name, 1);
  if (isNew) return name;
  for (;;) {
    std::string next = name + "." + std::to_string(it->second++);
    if (names_.try_emplace(next, 1).second) return next;
  }
}

V Builder::param(std::string name, Type type, std::string bind) {
  std::string e = checkType(type);
  NNC_CHECK(e.empty(), "@" + f.name + ": parameter " + name + ": " + e);
  if (!name.empty()) name = unique(name);
  ValueId id{int32_t(f.values.size())};
  f.values.push_back({std::move(type), NodeId{}, std::move(name)});
  f.params.push_back({id, std::move(bind)});
  return value(id);
}

void Builder::result(std::string name, ValueId v, bool bind) {
  NNC_CHECK(size_t(v.i) < f.values.size(), "@" + f.name + ": result " + name + " has no value");
  f.results.push_back({v, std::move(name), bind});
}

ValueId Builder::make(Op op, std::vector<ValueId> operands, Attr attr) {
  std::vector<Type> types;
  types.reserve(operands.size());
  for (ValueId v : operands) {
    NNC_CHECK(v.i >= 0 && size_t(v.i) < f.values.size(),
              "@" + f.name + ": operand of " + info(op).name + " does not exist");
    types.push_back(f.type(v));
  }
  Inferred r = inferTypes(op, types, attr, &module);
  NNC_CHECK(r.error.empty(), "@" + f.name + ": " + info(op).name + ": " + r.error +
                                 (loc.i ? " at " + str(module, loc, true) : ""));
  return append(op, std::move(operands), std::move(attr), std::move(r.types));
}

ValueId Builder::append(Op op, std::vector<ValueId> operands, Attr attr, std::vector<Type> types) {
  NodeId id{int32_t(f.nodes.size())};
  ValueId first{int32_t(f.values.size())};
  std::string base = std::exchange(hint, {});
  for (size_t i = 0; i < types.size(); ++i) {
    std::string name = base.empty() ? "" : unique(i ? base + "." + std::to_string(i) : base);
    f.values.push_back({std::move(types[i]), id, std::move(name)});
  }
  f.nodes.push_back(
      {op, std::move(operands), first, int32_t(types.size()), std::move(attr), loc, false});
  return first;
}

// --- creation ----------------------------------------------------------------------------------

V Builder::constant(double v, Type type) { return constant(std::vector<double>{v}, type); }
V Builder::constant(std::vector<double> data, Type type) {
  return value(make(Op::constant_, {}, ConstantAttr{std::move(data), std::move(type)}));
}
V Builder::like(double v, ValueId x) { return constant(v, f.type(x)); }
V Builder::iota(int64_t dim, Type type) {
  return value(make(Op::iota_, {}, IotaAttr{dim, std::move(type)}));
}
V Builder::size(Dim d) { return value(make(Op::size_, {}, SizeAttr{d})); }
V Builder::random(std::string site, Type type) {
  return value(make(Op::random_, {}, RandomAttr{std::move(site), std::move(type)}));
}

// --- shape and selection -----------------------------------------------------------------------

V Builder::cast(ValueId x, DType t) {
  if (f.type(x).dtype == t) return hint.clear(), value(x);
  return value(make(Op::cast_, {x}, CastAttr{Type{t, f.type(x).dims}}));
}

V Builder::select(ValueId c, ValueId a, ValueId b) { return value(make(Op::select_, {c, a, b})); }

V Builder::broadcast(ValueId x, Ints dims, Dims result) {
  if (f.type(x).dims == result && dims == inOrder(f.type(x).rank())) return hint.clear(), value(x);
  Type t{f.type(x).dtype, std::move(result)};
  return value(make(Op::broadcast_, {x}, BroadcastAttr{std::move(dims), std::move(t)}));
}

V Builder::broadcastTo(ValueId x, const Dims &result) {
  const Dims from = f.type(x).dims;
  std::string name = std::exchange(hint, {});
  NNC_CHECK(from.size() <= result.size(),
            "@" + f.name + ": cannot broadcast " + str(from) + " to " + str(result));
  Dims kept;
  Ints dims;
  for (size_t i = 0; i < from.size(); ++i) {
    size_t to = i + result.size() - from.size();
    if (from[i] == Dim(1) && result[to] != Dim(1)) continue; // repeats
    kept.push_back(from[i]);
    dims.push_back(int64_t(to));
  }
  ValueId y = reshape(x, std::move(kept));
  hint = std::move(name);
  return broadcast(y, std::move(dims), result);
}

V Builder::reshape(ValueId x, Dims dims) {
  if (f.type(x).dims == dims) return hint.clear(), value(x);
  return value(make(Op::reshape_, {x}, ReshapeAttr{Type{f.type(x).dtype, std::move(dims)}}));
}

V Builder::transpose(ValueId x, Ints perm) {
  if (perm == inOrder(f.type(x).rank())) return hint.clear(), value(x);
  return value(make(Op::transpose_, {x}, PermAttr{std::move(perm)}));
}

V Builder::slice(ValueId x, Dims start, Dims limit, Ints stride) {
  if (stride.empty()) stride.assign(start.size(), 1);
  return value(make(Op::slice_, {x}, SliceAttr{std::move(start), std::move(limit), stride}));
}

V Builder::reverse(ValueId x, Ints dims) {
  sortUnique(dims);
  return value(make(Op::reverse_, {x}, AxesAttr{std::move(dims)}));
}

V Builder::pad(ValueId x, Dims low, Dims high, double v) {
  return value(make(Op::pad_, {x}, PadAttr{std::move(low), std::move(high), v}));
}

V Builder::concat(std::vector<ValueId> xs, int64_t dim) {
  return value(make(Op::concat_, std::move(xs), AxisAttr{dim}));
}

// Lists left empty take their defaults; the extents are those of x.
V Builder::window(ValueId x, WindowAttr a) {
  size_t k = a.size.size();
  if (a.stride.empty()) a.stride.assign(k, 1);
  if (a.dilation.empty()) a.dilation.assign(k, 1);
  if (a.low.empty()) a.low.assign(k, 0);
  if (a.high.empty()) a.high.assign(k, 0);
  const Dims &dims = f.type(x).dims;
  if (a.extent.empty() && a.dim >= 0)
    for (size_t i = a.dim; i < a.dim + k && i < dims.size(); ++i) a.extent.push_back(dims[i].b);
  return value(make(Op::window_, {x}, std::move(a)));
}

V Builder::unwindow(ValueId x, WindowAttr a) {
  return value(make(Op::unwindow_, {x}, std::move(a)));
}

// --- along dimensions --------------------------------------------------------------------------

V Builder::reduce(ReduceKind kind, ValueId x, Ints dims) {
  sortUnique(dims);
  if (dims.empty()) return hint.clear(), value(x);
  return value(make(Op::reduce_, {x}, ReduceAttr{kind, std::move(dims)}));
}

std::pair<V, V> Builder::maxIndex(ValueId x, Ints dims) {
  sortUnique(dims);
  ValueId y = make(Op::max_index_, {x}, AxesAttr{std::move(dims)});
  return {value(y), value({y.i + 1})};
}

V Builder::cumsum(ValueId x, int64_t dim, bool reverse, bool exclusive) {
  return value(make(Op::cumsum_, {x}, CumsumAttr{dim, reverse, exclusive}));
}

std::pair<V, V> Builder::sort(ValueId x, int64_t dim, bool descending) {
  ValueId y = make(Op::sort_, {x}, SortAttr{dim, descending});
  return {value(y), value({y.i + 1})};
}

// --- contraction -------------------------------------------------------------------------------

V Builder::contract(ValueId x, ValueId w, std::string_view fx, std::string_view fw,
                    std::string_view fy, std::vector<std::pair<std::string, Dim>> extents,
                    std::optional<Dims> ydims) {
  ContractAttr a;
  std::string e;
  std::string_view texts[] = {fx, fw, fy};
  for (int k = 0; k < 3; ++k)
    NNC_CHECK(parseForms(texts[k], a.labels, a.forms[k], e), "@" + f.name + ": " + e);
  std::vector<bool> given;
  takeExtents(a, &f.type(x).dims, &f.type(w).dims, ydims ? &*ydims : nullptr, given);
  for (auto &[name, dim] : extents) {
    auto l = std::find(a.labels.begin(), a.labels.end(), name) - a.labels.begin();
    NNC_CHECK(size_t(l) < a.labels.size(), "@" + f.name + ": contract has no label " + name);
    a.extents[l] = dim;
    given[l] = true;
  }
  for (size_t l = 0; l < a.labels.size(); ++l)
    NNC_CHECK(given[l], "@" + f.name + ": contract needs the extent of label " + a.labels[l]);
  a.type.dtype = f.type(x).dtype;
  if (ydims)
    a.type.dims = std::move(*ydims);
  else
    for (const LabelForm &form : a.forms[2]) {
      NNC_CHECK(form.isSimple(), "@" + f.name + ": contract needs the dimensions of y");
      a.type.dims.push_back(a.extents[form.terms[0].label]);
    }
  return contract(x, w, std::move(a));
}

// x [.., m, k], w [k, n] -> [.., m, n]; x [b.., m, k], w [b.., k, n] -> [b.., m, n]. A vector x is
// a row without m, a vector w a column without n.
V Builder::matmul(ValueId x, ValueId w) {
  int rx = f.type(x).rank(), rw = f.type(w).rank();
  NNC_CHECK(rx >= 1 && rw >= 1, "@" + f.name + ": matmul of a scalar");
  std::string lead, batch;
  for (int i = 0; i + 2 < rx; ++i) lead += "b" + std::to_string(i) + " ";
  if (rw > 2) batch = lead;
  std::string m = rx > 1 ? "m " : "", n = rw > 1 ? " n" : "";
  return contract(x, w, lead + m + "k", batch + "k" + n, lead + m + n);
}

// --- tables and functions ----------------------------------------------------------------------

V Builder::gather(ValueId table, ValueId indices, int64_t axis) {
  return value(make(Op::gather_, {table, indices}, GatherAttr{axis}));
}

V Builder::scatterAdd(ValueId indices, ValueId updates, int64_t axis, Type table) {
  return value(make(Op::scatter_add_, {indices, updates}, ScatterAttr{axis, std::move(table)}));
}

namespace {
std::vector<V> resultsOf(Builder &b, ValueId first) {
  std::vector<V> all;
  for (int k = 0; k < b.f.nodes.back().resultCount; ++k) all.push_back(b.value({first.i + k}));
  return all;
}
} // namespace

std::vector<V> Builder::grad(ValueId loss, std::vector<ValueId> xs) {
  if (xs.empty()) return {};
  xs.insert(xs.begin(), loss);
  return resultsOf(*this, make(Op::grad_, std::move(xs)));
}

std::vector<V> Builder::call(std::string callee, std::vector<ValueId> args, std::string gradient) {
  return resultsOf(
      *this, make(Op::call_, std::move(args), CallAttr{std::move(callee), std::move(gradient)}));
}

std::vector<V> Builder::scan(ScanAttr a, std::vector<ValueId> operands) {
  return resultsOf(*this, make(Op::scan_, std::move(operands), std::move(a)));
}

// --- formulas ----------------------------------------------------------------------------------

V operator+(V a, V b) { return a.b->binary(Op::add_, a, b); }
V operator-(V a, V b) { return a.b->binary(Op::sub_, a, b); }
V operator*(V a, V b) { return a.b->binary(Op::mul_, a, b); }
V operator/(V a, V b) { return a.b->binary(Op::div_, a, b); }
V operator-(V a) { return a.b->unary(Op::neg_, a); }

namespace {
// The constant must not take the name that is meant for the result.
V splat(double v, V like) {
  std::string name = std::exchange(like.b->hint, {});
  V c = like.b->like(v, like);
  like.b->hint = std::move(name);
  return c;
}
} // namespace

V operator+(V a, double b) { return a + splat(b, a); }
V operator-(V a, double b) { return a - splat(b, a); }
V operator*(V a, double b) { return a * splat(b, a); }
V operator/(V a, double b) { return a / splat(b, a); }
V operator+(double a, V b) { return splat(a, b) + b; }
V operator-(double a, V b) { return splat(a, b) - b; }
V operator*(double a, V b) { return splat(a, b) * b; }
V operator/(double a, V b) { return splat(a, b) / b; }

} // namespace nnc::ir
