// The engine of the rewrite rules: match, check the condition, instantiate. See rewrite.h.
#include "ir/rewrite.h"

namespace nnc::ir {

std::optional<double> splatOf(const Function &f, ValueId v) {
  const Node *node = f.def(v);
  const auto *constant = node ? std::get_if<ConstantAttr>(&node->attr) : nullptr;
  if (!constant || constant->data.size() != 1) return {};
  return constant->data[0];
}

const Type &Match::type() const {
  for (const ValueId v : bound)
    if (v.valid() && f.type(v).dtype != DType::boolean) return f.type(v);
  for (const ValueId v : bound)
    if (v.valid()) return f.type(v);
  internalError(__FILE__, __LINE__, "a rule without variables");
}
double Match::constant(size_t k) const { return *splatOf(f, bound[k]); }

Rules::Rules() : b_(module_, f_) {
  const Type number{DType::f64, {}}, boolean{DType::boolean, {}};
  for (V *v : {&x, &y, &z, &c, &d}) *v = b_.param("", number);
  for (V *v : {&p, &q}) *v = b_.param("", boolean);
  always = b_.constant(1, boolean);
  never = b_.constant(0, boolean);
}

void Rules::add(int line, V lhs, V rhs, Condition when) {
  const Node *root = f_.def(lhs);
  NNC_CHECK(root, "a rule's left side is a variable");
  byRoot_[size_t(root->op)].push_back(rules_.size());
  rules_.push_back({line, lhs, rhs, when});
}
void Rules::add(int line, V lhs, double rhs, Condition when) {
  add(line, lhs, b_.like(rhs, x), when);
}

bool Rules::match(ValueId pattern, ValueId value, Match &m) const {
  const Node *want = f_.def(pattern);
  if (!want) { // a variable; the parameters are the first values
    ValueId &bound = m.bound[size_t(pattern.i)];
    const bool isConstant = pattern == c.id || pattern == d.id;
    const auto splat = splatOf(m.f, value);
    if (isConstant && !splat) return false;
    if (bound.valid()) return bound == value;
    bound = value;
    return true;
  }
  if (const auto *constant = std::get_if<ConstantAttr>(&want->attr)) {
    const auto splat = splatOf(m.f, value);
    return splat && *splat == constant->data[0];
  }
  const Node *node = m.f.def(value);
  return node && matchNode(*want, *node, m);
}

bool Rules::matchNode(const Node &pattern, const Node &node, Match &m) const {
  if (pattern.op != node.op) return false;
  for (size_t k = 0; k < node.operands.size(); ++k)
    if (!match(pattern.operands[k], node.operands[k], m)) return false;
  return true;
}

// The nodes of a pattern all have the matched node's dimensions; numbers have the variables' type.
ValueId Rules::instantiate(ValueId pattern, const Match &m, const Type &type,
                           const Make &make) const {
  const Node *node = f_.def(pattern);
  if (!node) return m.bound[size_t(pattern.i)];
  if (const auto *constant = std::get_if<ConstantAttr>(&node->attr)) {
    const bool isBool = constant->type.dtype == DType::boolean;
    Type t{isBool ? DType::boolean : m.type().dtype, type.dims};
    return make(Op::constant_, {}, ConstantAttr{constant->data, std::move(t)});
  }
  std::vector<ValueId> operands;
  for (const ValueId v : node->operands) operands.push_back(instantiate(v, m, type, make));
  return make(node->op, std::move(operands), node->attr);
}

std::optional<ValueId> Rules::apply(const Rule &rule, const Function &f, const Node &node,
                                    const Type &type, const Make &make) const {
  Match m{f, {}};
  if (!matchNode(*f_.def(rule.lhs), node, m)) return {};
  if (rule.when && !rule.when(m)) return {};
  return instantiate(rule.rhs, m, type, make);
}

std::optional<ValueId> Rules::apply(const Function &f, const Node &node, const Type &type,
                                    const Make &make) const {
  for (const size_t k : byRoot_[size_t(node.op)])
    if (const auto v = apply(rules_[k], f, node, type, make)) return v;
  return {};
}

} // namespace nnc::ir
