// The type rules.
//
// Problem. Shapes are checked once, in one place, for three callers: the builder, the verifier and
// the front end, which shows the text to a user. Example: `add` of f32[n,300] and f32[n,100] gives
// "operands must have one shape, found f32[n,300] and f32[n,100]".
//
// Method. Pointwise rows share one rule that reads the row's class. Each tensor operation has a
// function infer_<name>, found by the table: a row without one does not link. A rule returns the
// result types or an error that states what is expected and what was found. All results pass
// checkType at the end, so no rule thinks about negative or gigantic sizes.
#include "ir/infer.h"
#include "ir/forms.h"
#include <algorithm>
#include <cmath>

namespace nnc::ir {

namespace {

struct Args {
  Op op;
  std::span<const Type> x;
  const Module *m;
  const Type &operator[](size_t i) const { return x[i]; }
};

// --- messages ----------------------------------------------------------------------------------

std::string text(const std::string &s) { return s; }
std::string text(const char *s) { return s; }
std::string text(int64_t v) { return std::to_string(v); }
std::string text(size_t v) { return std::to_string(v); }
std::string text(int v) { return std::to_string(v); }
std::string text(Dim d) { return str(d); }
std::string text(DType t) { return std::string(dtypeName(t)); }
std::string text(const Type &t) { return str(t); }
std::string text(const Dims &d) { return str(d); }
std::string text(const Ints &v) { return str(Dims(v.begin(), v.end())); }

template <class... A> Inferred fail(const A &...parts) {
  std::string s;
  ((s += text(parts)), ...);
  return {{}, std::move(s)};
}
Inferred ok(Type t) { return {{std::move(t)}, {}}; }
Inferred ok(std::vector<Type> t) { return {std::move(t), {}}; }

// Empty if `dims` names dimensions of a tensor of this rank in increasing order.
std::string badDims(const Ints &dims, int rank) {
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] < 0 || dims[i] >= rank)
      return fail("dimension ", dims[i], " does not exist, the tensor has rank ", rank).error;
    if (i && dims[i] <= dims[i - 1])
      return fail("dimensions must be listed once, in increasing order, found ", dims).error;
  }
  return {};
}

// Empty if one dimension exists.
std::string badDim(int64_t dim, int rank) { return badDims(Ints{dim}, rank); }

Dims without(const Dims &from, const Ints &dims) {
  Dims rest;
  for (size_t i = 0; i < from.size(); ++i)
    if (std::find(dims.begin(), dims.end(), int64_t(i)) == dims.end()) rest.push_back(from[i]);
  return rest;
}

// --- pointwise rows ----------------------------------------------------------------------------

std::string badClass(TypeClass cls, const Type &t) {
  switch (cls) {
  case TypeClass::F:
    return isFloat(t.dtype) ? "" : "expected a floating point operand, found " + str(t);
  case TypeClass::N:
    return t.dtype != DType::boolean ? "" : "expected an operand of numbers, found " + str(t);
  case TypeClass::I:
    return isInteger(t.dtype) ? "" : "expected an integer operand, found " + str(t);
  case TypeClass::B:
    return t.dtype == DType::boolean ? "" : "expected a bool operand, found " + str(t);
  }
  return {};
}

Inferred pointwise(const Args &x) {
  for (const Type &t : x.x)
    if (std::string e = badClass(info(x.op).cls, t); !e.empty()) return fail(e);
  if (x.x.size() == 2 && x[0].dims != x[1].dims)
    return fail("operands must have one shape, found ", x[0], " and ", x[1]);
  if (x.x.size() == 2 && x[0].dtype != x[1].dtype)
    return fail("operands must have one element type, found ", x[0], " and ", x[1]);
  bool toBool = info(x.op).form == OpForm::compare || x.op == Op::is_nan_;
  return ok(Type{toBool ? DType::boolean : x[0].dtype, x[0].dims});
}

// --- creation ----------------------------------------------------------------------------------

Inferred infer_constant(const Args &, const ConstantAttr &a) {
  const Type &t = a.type;
  if (std::string e = checkType(t); !e.empty()) return fail(e);
  bool isConst = std::all_of(t.dims.begin(), t.dims.end(), [](Dim d) { return d.isConst(); });
  if (a.data.size() != 1) {
    if (!isConst)
      return fail("a constant of type ", t, " must be one repeated element, found ", a.data.size());
    if (int64_t(a.data.size()) != elementCount(t.dims, 1))
      return fail("a constant of type ", t, " has ", elementCount(t.dims, 1), " elements, found ",
                  a.data.size());
  }
  if (isFloat(t.dtype)) return ok(t);
  // Exact as doubles: beyond 2^53 an integer constant would not be the number that was written.
  double low = t.dtype == DType::i64 ? -0x1p53 : t.dtype == DType::i32 ? -0x1p31 : 0;
  double high = t.dtype == DType::i64       ? 0x1p53
                : t.dtype == DType::i32     ? 0x1p31 - 1
                : t.dtype == DType::u32     ? 0x1p32 - 1
                : t.dtype == DType::boolean ? 1
                                            : 255;
  for (double v : a.data)
    if (!(v >= low && v <= high) || v != std::floor(v))
      return fail("a constant of type ", t, " cannot hold ", shortest(v));
  return ok(t);
}

Inferred infer_iota(const Args &, const IotaAttr &a) {
  if (std::string e = badDim(a.dim, a.type.rank()); !e.empty()) return fail(e);
  if (a.type.dtype == DType::boolean) return fail("expected a type of numbers, found ", a.type);
  return ok(a.type);
}

Inferred infer_size(const Args &, const SizeAttr &a) {
  if (!nonNegative(a.size)) return fail("a size is never negative, found ", a.size);
  return ok(Type{DType::i32, {}});
}

Inferred infer_random(const Args &, const RandomAttr &a) {
  if (!isFloat(a.type.dtype)) return fail("random numbers are floating point, found ", a.type);
  if (a.site.empty()) return fail("a random draw needs a site name");
  return ok(a.type);
}

// --- elements of equal shape -------------------------------------------------------------------

Inferred infer_select(const Args &x, const NoAttr &) {
  if (x[0].dtype != DType::boolean) return fail("the condition must be bool, found ", x[0]);
  if (x[1] != x[2]) return fail("both choices must have one type, found ", x[1], " and ", x[2]);
  if (x[0].dims != x[1].dims)
    return fail("condition and choices must have one shape, found ", x[0], " and ", x[1]);
  return ok(x[1]);
}

Inferred infer_cast(const Args &x, const CastAttr &a) {
  if (a.type.dims != x[0].dims)
    return fail("a cast keeps the shape ", x[0].dims, ", found ", a.type);
  return ok(a.type);
}

// --- rearrangement -----------------------------------------------------------------------------

Inferred infer_broadcast(const Args &x, const BroadcastAttr &a) {
  if (a.type.dtype != x[0].dtype)
    return fail("a broadcast keeps the element type of ", x[0], ", found ", a.type);
  if (int(a.dims.size()) != x[0].rank())
    return fail("expected a result dimension for each of the ", x[0].rank(), " dimensions of ",
                x[0], ", found ", a.dims);
  if (std::string e = badDims(a.dims, a.type.rank()); !e.empty()) return fail(e);
  for (size_t i = 0; i < a.dims.size(); ++i)
    if (x[0].dims[i] != a.type.dims[a.dims[i]])
      return fail("dimension ", i, " of ", x[0], " must equal dimension ", a.dims[i], " of ",
                  a.type);
  return ok(a.type);
}

// Number of elements as a polynomial in n; false if a coefficient overflows.
bool countPolynomial(const Dims &dims, std::vector<int64_t> &out) {
  out = {1};
  for (Dim d : dims) {
    std::vector<int64_t> next(out.size() + (d.isConst() ? 0 : 1), 0);
    for (size_t k = 0; k < out.size(); ++k) {
      int64_t byB = 0, byA = 0;
      if (__builtin_mul_overflow(out[k], d.b, &byB) || __builtin_mul_overflow(out[k], d.a, &byA) ||
          __builtin_add_overflow(next[k], byB, &next[k]))
        return false;
      if (!d.isConst() && __builtin_add_overflow(next[k + 1], byA, &next[k + 1])) return false;
    }
    out = std::move(next);
  }
  while (out.size() > 1 && out.back() == 0) out.pop_back();
  return true;
}

Inferred infer_reshape(const Args &x, const ReshapeAttr &a) {
  if (a.type.dtype != x[0].dtype)
    return fail("a reshape keeps the element type of ", x[0], ", found ", a.type);
  if (std::string e = checkType(a.type); !e.empty()) return fail(e);
  std::vector<int64_t> from, to;
  if (!countPolynomial(x[0].dims, from) || !countPolynomial(a.type.dims, to) || from != to) {
    Dim p, q;
    if (!product(x[0].dims, p) || !product(a.type.dims, q))
      return fail("a reshape keeps the number of elements, found ", x[0], " to ", a.type);
    return fail("a reshape keeps the number of elements, found ", x[0], " with ", p, " and ",
                a.type, " with ", q);
  }
  return ok(a.type);
}

Inferred infer_transpose(const Args &x, const PermAttr &a) {
  Ints sorted = a.perm;
  std::sort(sorted.begin(), sorted.end());
  bool valid = int(sorted.size()) == x[0].rank();
  for (size_t i = 0; i < sorted.size(); ++i) valid &= sorted[i] == int64_t(i);
  if (!valid) return fail("expected an order of the dimensions of ", x[0], ", found ", a.perm);
  Type t{x[0].dtype, {}};
  for (int64_t p : a.perm) t.dims.push_back(x[0].dims[p]);
  return ok(t);
}

Inferred infer_slice(const Args &x, const SliceAttr &a) {
  size_t rank = x[0].dims.size();
  if (a.start.size() != rank || a.limit.size() != rank || a.stride.size() != rank)
    return fail("expected a start, a limit and a stride for each dimension of ", x[0], ", found ",
                a.start.size(), ", ", a.limit.size(), " and ", a.stride.size());
  Type t{x[0].dtype, {}};
  for (size_t i = 0; i < rank; ++i) {
    Dim length = a.limit[i] - a.start[i];
    if (!nonNegative(a.start[i]) || !nonNegative(length) || !nonNegative(x[0].dims[i] - a.limit[i]))
      return fail("slice from ", a.start[i], " to ", a.limit[i], " is not inside dimension ", i,
                  " of ", x[0]);
    if (a.stride[i] < 1) return fail("a stride is at least 1, found ", a.stride[i]);
    if (a.stride[i] > 1 && !length.isConst())
      return fail("a slice with a stride needs a constant length, found ", length);
    t.dims.push_back(a.stride[i] == 1 ? length
                                      : Dim((length.b - 1) / a.stride[i] + (length.b > 0)));
  }
  return ok(t);
}

Inferred infer_reverse(const Args &x, const AxesAttr &a) {
  if (std::string e = badDims(a.dims, x[0].rank()); !e.empty()) return fail(e);
  return ok(x[0]);
}

Inferred infer_pad(const Args &x, const PadAttr &a) {
  size_t rank = x[0].dims.size();
  if (a.low.size() != rank || a.high.size() != rank)
    return fail("expected an amount before and after for each dimension of ", x[0], ", found ",
                a.low.size(), " and ", a.high.size());
  Type t = x[0];
  for (size_t i = 0; i < rank; ++i) {
    if (!nonNegative(a.low[i]) || !nonNegative(a.high[i]))
      return fail("padding is never negative, found ", a.low[i], " and ", a.high[i]);
    t.dims[i] = t.dims[i] + a.low[i] + a.high[i];
    if (t.dims[i].a > kMaxElements || t.dims[i].b > kMaxElements) break; // checkType reports it
  }
  return ok(t);
}

Inferred infer_concat(const Args &x, const AxisAttr &a) {
  if (x.x.empty()) return fail("expected at least one operand");
  if (std::string e = badDim(a.dim, x[0].rank()); !e.empty()) return fail(e);
  Type t = x[0];
  for (const Type &y : x.x.subspan(1)) {
    Type same = y;
    bool fits = same.rank() == t.rank();
    if (fits) same.dims[a.dim] = t.dims[a.dim];
    if (!fits || same != t)
      return fail("operands may differ in dimension ", a.dim, " only, found ", x[0], " and ", y);
    t.dims[a.dim] = t.dims[a.dim] + y.dims[a.dim];
    if (t.dims[a.dim].a > kMaxElements || t.dims[a.dim].b > kMaxElements) break;
  }
  return ok(t);
}

// --- windows -----------------------------------------------------------------------------------

std::string badWindow(const WindowAttr &a) {
  size_t k = a.size.size();
  if (k == 0) return "expected a window size for at least one dimension";
  for (const Ints *v : {&a.stride, &a.dilation, &a.low, &a.high, &a.extent})
    if (v->size() != k)
      return fail("expected stride, dilation, low, high and extent for each of ", k,
                  " window sizes, found ", *v)
          .error;
  for (size_t i = 0; i < k; ++i) {
    for (const Ints *v : {&a.size, &a.stride, &a.dilation})
      if ((*v)[i] < 1 || (*v)[i] > INT32_MAX)
        return fail("window size, stride and dilation are at least 1, found ", (*v)[i]).error;
    for (const Ints *v : {&a.low, &a.high, &a.extent})
      if ((*v)[i] < 0 || (*v)[i] > INT32_MAX)
        return fail("padding and extents are never negative, found ", (*v)[i]).error;
  }
  return {};
}

// Number of places of window i; below 1 if it does not fit.
int64_t windowCount(const WindowAttr &a, size_t i) {
  int64_t room = a.extent[i] + a.low[i] + a.high[i] - a.dilation[i] * (a.size[i] - 1) - 1;
  return room < 0 ? 0 : room / a.stride[i] + 1;
}

Inferred infer_window(const Args &x, const WindowAttr &a) {
  if (std::string e = badWindow(a); !e.empty()) return fail(e);
  int k = int(a.size.size());
  if (a.dim < 0 || a.dim > x[0].rank() - k)
    return fail("a window over ", k, " dimensions from ", a.dim, " on does not fit ", x[0]);
  Type t{x[0].dtype, Dims(x[0].dims.begin(), x[0].dims.begin() + a.dim)};
  for (int i = 0; i < k; ++i) {
    if (x[0].dims[a.dim + i] != Dim(a.extent[i]))
      return fail("dimension ", a.dim + i, " of ", x[0], " must have the extent ", a.extent[i]);
    if (windowCount(a, i) < 1)
      return fail("a window of ", a.size[i], " with dilation ", a.dilation[i],
                  " does not fit dimension ", a.dim + i, " of ", x[0], " with padding ", a.low[i],
                  " and ", a.high[i]);
    t.dims.push_back(windowCount(a, i));
  }
  t.dims.insert(t.dims.end(), a.size.begin(), a.size.end());
  t.dims.insert(t.dims.end(), x[0].dims.begin() + a.dim + k, x[0].dims.end());
  return ok(t);
}

Inferred infer_unwindow(const Args &x, const WindowAttr &a) {
  if (std::string e = badWindow(a); !e.empty()) return fail(e);
  int k = int(a.size.size());
  if (x[0].dtype == DType::boolean) return fail("expected an operand of numbers, found ", x[0]);
  if (a.dim < 0 || a.dim > x[0].rank() - 2 * k)
    return fail("windows over ", k, " dimensions from ", a.dim, " on do not fit ", x[0]);
  Type t = x[0];
  for (int i = 0; i < k; ++i) {
    if (t.dims[a.dim + i] != Dim(windowCount(a, i)) || t.dims[a.dim + k + i] != Dim(a.size[i]))
      return fail("expected ", windowCount(a, i), " windows of ", a.size[i], " in dimensions ",
                  a.dim + i, " and ", a.dim + k + i, ", found ", x[0]);
    t.dims[a.dim + i] = a.extent[i];
  }
  t.dims.erase(t.dims.begin() + a.dim + k, t.dims.begin() + a.dim + 2 * k);
  return ok(t);
}

// --- along dimensions --------------------------------------------------------------------------

Inferred infer_reduce(const Args &x, const ReduceAttr &a) {
  if (std::string e = badDims(a.dims, x[0].rank()); !e.empty()) return fail(e);
  bool order = a.kind == ReduceKind::max || a.kind == ReduceKind::min; // of bool: any, all
  if (x[0].dtype == DType::boolean && !order)
    return fail("only max and min reduce bool values, found ", x[0]);
  return ok(Type{x[0].dtype, without(x[0].dims, a.dims)});
}

Inferred infer_max_index(const Args &x, const AxesAttr &a) {
  if (std::string e = badDims(a.dims, x[0].rank()); !e.empty()) return fail(e);
  if (a.dims.empty()) return fail("expected at least one dimension");
  if (x[0].dtype == DType::boolean) return fail("expected an operand of numbers, found ", x[0]);
  Dims rest = without(x[0].dims, a.dims);
  return ok({Type{x[0].dtype, rest}, Type{DType::i32, rest}});
}

Inferred infer_cumsum(const Args &x, const CumsumAttr &a) {
  if (std::string e = badDim(a.dim, x[0].rank()); !e.empty()) return fail(e);
  if (x[0].dtype == DType::boolean) return fail("expected an operand of numbers, found ", x[0]);
  return ok(x[0]);
}

Inferred infer_sort(const Args &x, const SortAttr &a) {
  if (std::string e = badDim(a.dim, x[0].rank()); !e.empty()) return fail(e);
  if (x[0].dtype == DType::boolean) return fail("expected an operand of numbers, found ", x[0]);
  return ok({x[0], Type{DType::i32, x[0].dims}});
}

// --- contraction -------------------------------------------------------------------------------

// Empty if the labels are well formed: declared with sizes, used, once per form.
std::string badLabels(const ContractAttr &a) {
  if (a.labels.size() != a.extents.size()) return "every label needs an extent";
  std::vector<bool> used(a.labels.size());
  std::vector<const LabelForm *> last(a.labels.size());
  for (const auto &forms : a.forms)
    for (const LabelForm &f : forms)
      for (LabelTerm t : f.terms) {
        if (t.label < 0 || size_t(t.label) >= a.labels.size()) return "a label does not exist";
        if (t.coef == 0) return "label `" + a.labels[t.label] + "` has the coefficient 0";
        if (last[t.label] == &f) return "label `" + a.labels[t.label] + "` is twice in one form";
        last[t.label] = &f;
        used[t.label] = true;
        if (!f.isSimple() && !a.extents[t.label].isConst())
          return "label `" + a.labels[t.label] + "` with the extent " + str(a.extents[t.label]) +
                 " must stand alone";
      }
  for (size_t l = 0; l < used.size(); ++l) {
    if (!used[l]) return "label `" + a.labels[l] + "` is in no form";
    if (!nonNegative(a.extents[l])) return "label `" + a.labels[l] + "` has a negative extent";
  }
  return {};
}

Inferred infer_contract(const Args &x, const ContractAttr &a) {
  static const char *names[] = {"x", "w", "y"};
  const DType from = x[0].dtype, to = a.type.dtype;
  if (from != x[1].dtype || from == DType::boolean)
    return fail("operands must have one element type of numbers, found ", x[0], " and ", x[1]);
  bool widens = to == DType::f32 && (from == DType::bf16 || from == DType::f16);
  if (to != from && !widens) return fail("expected a result of ", from, ", found ", a.type);
  if (std::string e = badLabels(a); !e.empty()) return fail(e);
  for (int k = 0; k < 3; ++k) {
    const Type &t = k < 2 ? x[k] : a.type;
    if (t.dims.size() != a.forms[k].size())
      return fail(names[k], " \"", str(a.forms[k], a.labels), "\" names ", a.forms[k].size(),
                  " dimensions, found ", t);
    for (size_t i = 0; i < t.dims.size(); ++i) {
      if (!a.forms[k][i].isSimple()) continue;
      int32_t l = a.forms[k][i].terms[0].label;
      if (a.extents[l] != t.dims[i])
        return fail("label `", a.labels[l], "` of ", names[k], " has the extent ", a.extents[l],
                    ", found ", t.dims[i], " in dimension ", i, " of ", t);
    }
  }
  return ok(a.type);
}

// --- tables ------------------------------------------------------------------------------------

// [pre, V, post] with rows picked by indices [idx..] is [pre, idx.., post].
Type gathered(const Type &table, const Dims &indices, int64_t axis) {
  Type t{table.dtype, Dims(table.dims.begin(), table.dims.begin() + axis)};
  t.dims.insert(t.dims.end(), indices.begin(), indices.end());
  t.dims.insert(t.dims.end(), table.dims.begin() + axis + 1, table.dims.end());
  return t;
}

Inferred infer_gather(const Args &x, const GatherAttr &a) {
  if (std::string e = badDim(a.axis, x[0].rank()); !e.empty()) return fail(e);
  if (!isInteger(x[1].dtype)) return fail("indices must be integers, found ", x[1]);
  return ok(gathered(x[0], x[1].dims, a.axis));
}

Inferred infer_scatter_add(const Args &x, const ScatterAttr &a) {
  if (std::string e = badDim(a.axis, a.type.rank()); !e.empty()) return fail(e);
  if (!isInteger(x[0].dtype)) return fail("indices must be integers, found ", x[0]);
  if (a.type.dtype == DType::boolean) return fail("expected a table of numbers, found ", a.type);
  if (Type t = gathered(a.type, x[0].dims, a.axis); t != x[1])
    return fail("updates of ", a.type, " at ", x[0], " must be ", t, ", found ", x[1]);
  return ok(a.type);
}

// --- functions ---------------------------------------------------------------------------------

// Compares arguments with the parameters of a function and gives its results' types.
Inferred applied(const Function &f, const std::vector<Type> &args) {
  if (f.params.size() != args.size())
    return fail("@", f.name, " takes ", f.params.size(), " arguments, found ", args.size());
  for (size_t i = 0; i < args.size(); ++i)
    if (f.type(f.params[i].value) != args[i])
      return fail("argument ", i, " of @", f.name, " must be ", f.type(f.params[i].value),
                  ", found ", args[i]);
  if (f.results.empty()) return fail("@", f.name, " has no results");
  Inferred r;
  for (const Result &y : f.results) r.types.push_back(f.type(y.value));
  return r;
}

Inferred infer_call(const Args &x, const CallAttr &a) {
  const Function *f = x.m ? x.m->find(a.callee) : nullptr;
  if (!f) return fail("there is no function @", a.callee);
  return applied(*f, {x.x.begin(), x.x.end()});
}

Inferred infer_scan(const Args &x, const ScanAttr &a) {
  const Function *f = x.m ? x.m->find(a.body) : nullptr;
  if (!f) return fail("there is no function @", a.body);
  size_t xs = a.xAxes.size(), total = x.x.size();
  if (a.carries < 0 || size_t(a.carries) > total || xs > total - a.carries)
    return fail("expected at least ", a.carries, " carries and ", xs, " sequences, found ", total,
                " operands");
  if (a.length < 0 || a.length > kMaxElements) return fail("a scan of ", a.length, " steps");
  std::vector<Type> args(x.x.begin(), x.x.end());
  for (size_t i = 0; i < xs; ++i) {
    Type &t = args[a.carries + i];
    if (std::string e = badDim(a.xAxes[i], t.rank()); !e.empty()) return fail(e);
    if (t.dims[a.xAxes[i]] != Dim(a.length))
      return fail("a sequence must have ", a.length, " steps in dimension ", a.xAxes[i], ", found ",
                  t);
    t.dims.erase(t.dims.begin() + a.xAxes[i]);
  }
  Inferred r = applied(*f, args);
  if (!r.error.empty()) return r;
  if (r.types.size() != a.carries + a.yAxes.size())
    return fail("@", a.body, " must give ", a.carries, " carries and ", a.yAxes.size(),
                " stacked results, found ", r.types.size());
  for (size_t i = 0; i < r.types.size(); ++i) {
    Type &t = r.types[i];
    if (i < size_t(a.carries)) {
      if (t != x[i]) return fail("carry ", i, " is ", x[i], " but @", a.body, " gives ", t);
      continue;
    }
    int64_t axis = a.yAxes[i - a.carries];
    if (std::string e = badDim(axis, t.rank() + 1); !e.empty()) return fail(e);
    t.dims.insert(t.dims.begin() + axis, Dim(a.length));
  }
  return r;
}

Inferred infer_grad(const Args &x, const NoAttr &) {
  if (x.x.size() < 2) return fail("expected a loss and at least one value to differentiate by");
  if (!x[0].isScalar() || !isFloat(x[0].dtype))
    return fail("the loss must be a floating point scalar, found ", x[0]);
  for (const Type &t : x.x.subspan(1))
    if (!isFloat(t.dtype)) return fail("only floating point values have gradients, found ", t);
  return ok(std::vector<Type>(x.x.begin() + 1, x.x.end()));
}

// --- the table ---------------------------------------------------------------------------------

template <class A, class Rule> Inferred withAttr(Rule rule, const Args &x, const Attr &a) {
  const A *attr = std::get_if<A>(&a);
  return attr ? rule(x, *attr) : fail("the attributes are those of another operation");
}

Inferred rule(const Args &x, const Attr &a) {
  switch (x.op) {
#define POINTWISE(name)                                                                            \
  case Op::name##_:                                                                                \
    return withAttr<NoAttr>([](const Args &x, const NoAttr &) { return pointwise(x); }, x, a);
#define UNARY(name, ...) POINTWISE(name)
#define BINARY(name, ...) POINTWISE(name)
#define COMPARE(name, ...) POINTWISE(name)
#define TENSOR(name, arity, A)                                                                     \
  case Op::name##_:                                                                                \
    return withAttr<A>(infer_##name, x, a);
#include "ir/ops.def"
#undef POINTWISE
  }
  return fail("unknown operation");
}

} // namespace

std::string checkType(const Type &t) {
  for (Dim d : t.dims)
    if (!nonNegative(d)) return "a size is never negative, found " + str(d) + " in " + str(t);
  return fits(t.dims, 1) ? "" : "a value of type " + str(t) + " has too many elements";
}

Inferred inferTypes(Op op, std::span<const Type> operands, const Attr &attr, const Module *m) {
  int arity = info(op).arity;
  if (arity >= 0 && operands.size() != size_t(arity))
    return fail("expected ", arity, arity == 1 ? " operand" : " operands", ", found ",
                operands.size());
  Inferred r = rule({op, operands, m}, attr);
  for (const Type &t : r.types)
    if (std::string e = checkType(t); r.error.empty() && !e.empty()) r.error = e;
  if (!r.error.empty()) r.types.clear();
  return r;
}

} // namespace nnc::ir
