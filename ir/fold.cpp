// Constant folding: nodes whose operands are constants become constants.
//
//   %a = constant 2 : f32[n,300]; %b = exp %a     ->     %b = constant 7.389056 : f32[n,300]
//
// Two cases. Pointwise rows and operations that only move elements take splats to splats: one
// element is evaluated, whatever the shape. Other nodes are evaluated whole if the result is small.
// The evaluation is the interpreter's in f32 mode, so folding rounds and flushes as compiled code
// does. Random draws and sizes are no constants; a constant that the text would print in thousands
// of digits is not made.
#include "ir/copy.h"
#include "ir/interpret.h"
#include "ir/passes.h"
#include "ir/simplify_views.h"
#include <algorithm>
#include <cmath>
#include <optional>

namespace nnc::ir {

namespace {

constexpr int64_t kSmall = 64; // elements of a folded constant

const ConstantAttr *constantOf(const Function &f, ValueId v) {
  const Node *node = f.def(v);
  return node ? std::get_if<ConstantAttr>(&node->attr) : nullptr;
}
bool isSplat(const ConstantAttr &c) { return c.data.size() == 1; }

// The result has the operand's elements, all of them if it is not empty, and no others.
bool movesElements(Op op) {
  switch (op) {
  case Op::broadcast_:
  case Op::reshape_:
  case Op::transpose_:
  case Op::slice_:
  case Op::reverse_: return true;
  default: return false;
  }
}
bool isEvaluable(Op op) {
  switch (op) {
  case Op::constant_:
  case Op::iota_:
  case Op::size_:
  case Op::random_:
  case Op::call_:
  case Op::scan_:
  case Op::grad_: return false;
  default: return true;
  }
}
bool isSmall(const Type &t) {
  const bool fixed = std::all_of(t.dims.begin(), t.dims.end(), [](Dim d) { return d.isConst(); });
  return fixed && elementCount(t.dims, 1) <= kSmall;
}

Tensor evaluated(const Node &node, Type result, const std::vector<Tensor> &operands) {
  return evalNode(nullptr, node, std::span(&result, 1), operands, 1, Precision::f32)[0];
}

// On splats: the value of any element.
std::optional<double> foldSplat(const Node &node, const Type &type,
                                const std::vector<const ConstantAttr *> &in) {
  if (!std::all_of(in.begin(), in.end(), [](auto *c) { return isSplat(*c); })) return {};
  if (movesElements(node.op)) return in[0]->data[0];
  if (node.op == Op::concat_ || node.op == Op::pad_) return {};
  const bool elementwise = isPointwise(node.op) || node.op == Op::select_ || node.op == Op::cast_;
  if (!elementwise) return {};
  std::vector<Tensor> operands;
  for (const ConstantAttr *c : in) operands.push_back({c->type.dtype, {}, c->data});
  return evaluated(node, {type.dtype, {}}, operands).data[0];
}

std::optional<ConstantAttr> evaluate(const Function &f, const Node &node, const Type &type) {
  if (node.resultCount != 1 || node.operands.empty() || !isEvaluable(node.op)) return {};
  std::vector<const ConstantAttr *> in;
  for (const ValueId v : node.operands) {
    in.push_back(constantOf(f, v));
    if (!in.back()) return {};
  }
  if (const auto splat = foldSplat(node, type, in)) return ConstantAttr{{*splat}, type};
  if (!isSmall(type)) return {};
  std::vector<Tensor> operands;
  for (const ConstantAttr *k : in) {
    if (!isSmall(k->type)) return {};
    Tensor t{k->type.dtype, {}, k->data};
    for (const Dim d : k->type.dims) t.dims.push_back(d.b);
    if (isSplat(*k)) t.data.assign(size_t(t.count()), k->data[0]);
    operands.push_back(std::move(t));
  }
  ConstantAttr out{evaluated(node, type, operands).data, type};
  const auto differs = [&](double v) {
    return v != out.data[0] || std::signbit(v) != std::signbit(out.data[0]);
  };
  if (!out.data.empty() && std::none_of(out.data.begin(), out.data.end(), differs))
    out.data.resize(1);
  if (out.data.empty()) out.data = {0};
  return out;
}

// Constants of integer types must be exact as doubles (infer.cpp).
bool isExact(const ConstantAttr &c) {
  return c.type.dtype != DType::i64 ||
         std::all_of(c.data.begin(), c.data.end(), [](double v) { return std::fabs(v) <= 0x1p53; });
}

} // namespace

std::optional<ConstantAttr> foldNode(const Function &f, const Node &node, const Type &type) {
  auto constant = evaluate(f, node, type);
  if (constant && !isExact(*constant)) constant.reset();
  return constant;
}

void foldConstants(Function &f, Module &) {
  rebuild(f, [](Copier &c) {
    for (const Node &node : c.from.nodes) {
      Node mapped = node;
      mapped.operands = c.mapped(node.operands);
      auto constant = foldNode(c.to, mapped, c.from.type(node.firstResult));
      if (!constant) {
        c.node(node);
        continue;
      }
      Node replaced = node;
      replaced.op = Op::constant_;
      replaced.operands.clear();
      replaced.attr = std::move(*constant);
      c.node(replaced);
    }
  });
}

} // namespace nnc::ir
