// Building functions: append a node, get its values.
//
//   Builder b(module, f);
//   auto x = b.param("x", {DType::f32, {Dim::batch(), 784}});
//   auto y = relu(b, b.contract(x, w, "b i", "i o", "b o"));        // y: f32[n,10]
//
// Types come from inferTypes; a node that breaks its rule is an internal error (callers that want
// to report it to a user ask inferTypes first). V is a value with its builder, so that formulas
// such as ops.def's read as mathematics; a double operand is a splat constant of the other's type.
#pragma once
#include "ir/infer.h"
#include "ir/module.h"
#include <initializer_list>
#include <optional>
#include <span>
#include <string>

namespace nnc::ir {

class Builder;

struct V {
  Builder *b = nullptr;
  ValueId id;
  const Type &type() const;
  operator ValueId() const { return id; }
};

class Builder {
public:
  Builder(Module &m, Function &f) : module(m), f(f) {}
  Module &module;
  Function &f;
  Loc loc;          // given to the nodes appended from now on
  std::string hint; // preferred name of the next result; taken once

  V value(ValueId id) { return {this, id}; }
  V param(std::string name, Type type, std::string bind = "");
  void result(std::string name, ValueId v, bool bind = false);

  // Appends a node; the first result's id. More results follow it.
  ValueId make(Op op, std::vector<ValueId> operands, Attr attr = NoAttr{});
  // For those who have inferred the types already.
  ValueId append(Op op, std::vector<ValueId> operands, Attr attr, std::vector<Type> types);
  V unary(Op op, ValueId x) { return value(make(op, {x})); }
  V binary(Op op, ValueId a, ValueId b) { return value(make(op, {a, b})); }

  V constant(double v, Type type); // splat
  V constant(std::vector<double> data, Type type);
  V like(double v, ValueId x);     // splat of x's type
  V iota(int64_t dim, Type type);
  V size(Dim d);                   // i32[]
  V random(std::string site, Type type);
  V cast(ValueId x, DType t);      // x itself if it has that type
  V select(ValueId c, ValueId a, ValueId b);
  V broadcast(ValueId x, Ints dims, Dims result); // x itself if nothing changes
  V broadcastTo(ValueId x, const Dims &result);   // NumPy's rule: aligned at the right, 1 repeats
  V reshape(ValueId x, Dims dims);
  V transpose(ValueId x, Ints perm);
  V slice(ValueId x, Dims start, Dims limit, Ints stride = {});
  V reverse(ValueId x, Ints dims);
  V pad(ValueId x, Dims low, Dims high, double value = 0);
  V concat(std::vector<ValueId> xs, int64_t dim);
  V window(ValueId x, WindowAttr a);
  V unwindow(ValueId x, WindowAttr a);
  V reduce(ReduceKind kind, ValueId x, Ints dims);
  V sum(ValueId x, Ints dims) { return reduce(ReduceKind::sum, x, std::move(dims)); }
  std::pair<V, V> maxIndex(ValueId x, Ints dims);
  V cumsum(ValueId x, int64_t dim, bool reverse = false, bool exclusive = false);
  std::pair<V, V> sort(ValueId x, int64_t dim, bool descending = false);
  // Forms as text: "n, 2i+u-1, c"; extents of labels without a simple dimension by name.
  // The result dimensions of composite y forms must be given in `ydims`.
  V contract(ValueId x, ValueId w, std::string_view fx, std::string_view fw, std::string_view fy,
             std::vector<std::pair<std::string, Dim>> extents = {}, std::optional<Dims> ydims = {});
  V contract(ValueId x, ValueId w, ContractAttr a) {
    return value(make(Op::contract_, {x, w}, std::move(a)));
  }
  V matmul(ValueId x, ValueId w); // [.., m, k] @ [k, n] or batched [.., m, k] @ [.., k, n]
  V gather(ValueId table, ValueId indices, int64_t axis);
  V scatterAdd(ValueId indices, ValueId updates, int64_t axis, Type table);
  std::vector<V> grad(ValueId loss, std::vector<ValueId> xs);
  std::vector<V> call(std::string callee, std::vector<ValueId> args, std::string gradient = "");
  std::vector<V> scan(ScanAttr a, std::vector<ValueId> operands);

private:
  std::string unique(std::string name);
  std::map<std::string, int, std::less<>> names_;
};

// --- formulas ------------------------------------------------------------------------------------
V operator+(V a, V b);
V operator-(V a, V b);
V operator*(V a, V b);
V operator/(V a, V b);
V operator-(V a);
V operator+(V a, double b);
V operator-(V a, double b);
V operator*(V a, double b);
V operator/(V a, double b);
V operator+(double a, V b);
V operator-(double a, V b);
V operator*(double a, V b);
V operator/(double a, V b);

} // namespace nnc::ir
