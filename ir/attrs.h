// Attributes of the tensor operations: plain structs, one page.
//
// Each struct lists its fields once (`fields(visitor)`), and the printer, the parser, equality and
// hashing are derived from that list. Types that the result type already states (`cast`'s target,
// `reshape`'s dimensions) are not attributes in the text: the field is called `type` and the
// parser takes it from the type printed after the node.
#pragma once
#include "ir/type.h"
#include <array>
#include <string>
#include <variant>
#include <vector>

namespace nnc::ir {

using Ints = std::vector<int64_t>;

enum class ReduceKind : uint8_t { sum, prod, max, min };

struct NoAttr {
  template <class F> void fields(F &&) {}
  friend bool operator==(const NoAttr &, const NoAttr &) = default;
};

// What every attribute has besides its members: the list of its fields, and equality.
#define NNC_FIELDS(T, ...)                                                                         \
  template <class F> void fields(F &&f) { __VA_ARGS__; }                                           \
  friend bool operator==(const T &, const T &) = default

struct CastAttr {
  Type type;
  NNC_FIELDS(CastAttr, f("type", type));
};
// data: one element (splat) or all of them in row-major order. Integers are exact to 2^53.
struct ConstantAttr {
  std::vector<double> data;
  Type type;
  template <class F> void fields(F &&f) { f("value", data), f("type", type); }
  // bit for bit: -0 is not 0
  friend bool operator==(const ConstantAttr &, const ConstantAttr &);
};
struct IotaAttr {
  int64_t dim = 0;
  Type type;
  NNC_FIELDS(IotaAttr, f("dim", dim), f("type", type));
};
struct SizeAttr {
  Dim size;
  NNC_FIELDS(SizeAttr, f("size", size));
};
struct RandomAttr {
  std::string site;
  Type type;
  NNC_FIELDS(RandomAttr, f("site", site), f("type", type));
};
struct BroadcastAttr {
  Ints dims;
  Type type;
  NNC_FIELDS(BroadcastAttr, f("dims", dims), f("type", type));
};
struct ReshapeAttr {
  Type type;
  NNC_FIELDS(ReshapeAttr, f("type", type));
};
struct PermAttr {
  Ints perm;
  NNC_FIELDS(PermAttr, f("perm", perm));
};
// Per dimension; limit is exclusive. Result size: ceil((limit - start) / stride); with n only if
// stride = 1.
struct SliceAttr {
  Dims start, limit;
  Ints stride;
  NNC_FIELDS(SliceAttr, f("start", start), f("limit", limit), f("stride", stride));
};
struct AxesAttr {
  Ints dims;
  NNC_FIELDS(AxesAttr, f("dims", dims));
};
struct AxisAttr {
  int64_t dim = 0;
  NNC_FIELDS(AxisAttr, f("dim", dim));
};
struct PadAttr {
  Dims low, high;
  double value = 0;
  NNC_FIELDS(PadAttr, f("low", low), f("high", high), f("value", value));
};
// Windows over the `size.size()` dimensions from `dim` on. window: x dims [pre, s.., post] ->
// [pre, out.., size.., post] with out = floor((s + low + high - dilation*(size-1) - 1)/stride) + 1.
// unwindow takes that result's type and gives x's, whose windowed extents are `extent`.
struct WindowAttr {
  int64_t dim = 0;
  Ints size, stride, dilation, low, high, extent;
  double value = 0;
  NNC_FIELDS(WindowAttr, f("dim", dim), f("size", size), f("stride", stride),
             f("dilation", dilation), f("low", low), f("high", high), f("extent", extent),
             f("value", value));
};
struct ReduceAttr {
  ReduceKind kind = ReduceKind::sum;
  Ints dims;
  NNC_FIELDS(ReduceAttr, f("kind", kind), f("dims", dims));
};
struct CumsumAttr {
  int64_t dim = 0;
  bool reverse = false;
  bool exclusive = false;
  NNC_FIELDS(CumsumAttr, f("dim", dim), f("reverse", reverse), f("exclusive", exclusive));
};
struct SortAttr {
  int64_t dim = 0;
  bool descending = false;
  NNC_FIELDS(SortAttr, f("dim", dim), f("descending", descending));
};

// One index of a contraction's tensor: sum of coefficient * label + constant.
struct LabelTerm {
  int32_t label = 0;
  int64_t coef = 1;
  friend bool operator==(const LabelTerm &, const LabelTerm &) = default;
};
struct LabelForm {
  std::vector<LabelTerm> terms;
  int64_t offset = 0;
  bool isSimple() const { return terms.size() == 1 && terms[0].coef == 1 && offset == 0; }
  friend bool operator==(const LabelForm &, const LabelForm &) = default;
};
// y = 0; for all label values: y[forms[2]] += x[forms[0]] * w[forms[1]]. Text:
//   {x "n, 2i+u-1, c", w "u, c, o", y "n, i, o", u=3}: the extent of a label is printed only where
// no tensor has a dimension that is just this label. Accumulates in the result's type, which for
// bf16 or f16 operands may be f32. `type` is the result's.
struct ContractAttr {
  std::vector<std::string> labels;
  Dims extents;
  std::array<std::vector<LabelForm>, 3> forms;
  Type type;
  NNC_FIELDS(ContractAttr, f("contract", *this));
};
struct GatherAttr {
  int64_t axis = 0;
  NNC_FIELDS(GatherAttr, f("axis", axis));
};
struct ScatterAttr {
  int64_t axis = 0;
  Type type;
  NNC_FIELDS(ScatterAttr, f("axis", axis), f("type", type));
};
// gradient: @g(operands..., results..., cotangents of results...) -> cotangents of operands.
struct CallAttr {
  std::string callee, gradient;
  NNC_FIELDS(CallAttr, f("callee", callee), f("gradient", gradient));
};
// body(carries..., slices of xs..., invariants...) -> (carries..., ys...). xAxes has one axis per
// scanned operand, yAxes the axis on which each y is stacked. The first `carries` operands are
// carries.
struct ScanAttr {
  std::string body;
  int64_t carries = 0;
  Ints xAxes, yAxes;
  int64_t length = 0;
  bool reverse = false;
  NNC_FIELDS(ScanAttr, f("body", body), f("carries", carries), f("xs", xAxes), f("ys", yAxes),
             f("length", length), f("reverse", reverse));
};
#undef NNC_FIELDS

using Attr = std::variant<NoAttr, CastAttr, ConstantAttr, IotaAttr, SizeAttr, RandomAttr,
                          BroadcastAttr, ReshapeAttr, PermAttr, SliceAttr, AxesAttr, AxisAttr,
                          PadAttr, WindowAttr, ReduceAttr, CumsumAttr, SortAttr, ContractAttr,
                          GatherAttr, ScatterAttr, CallAttr, ScanAttr>;

size_t hashAttr(const Attr &a);

} // namespace nnc::ir
