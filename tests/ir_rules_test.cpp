// Every rewrite rule, both sides evaluated on random and on special inputs: no rule changes a value
// (but the sign of a zero and the last bits), and none turns NaN or infinity into something else.
#include "ir/passes.h"
#include "ir/rewrite.h"
#include "tests/ir_helpers.h"

using namespace nnc::ir;
using namespace nnc::ir::test;

namespace {

constexpr size_t kPoints = 64;

// Copies a pattern into b's function; variables become `values`, or nothing if a type does not
// allow it.
std::optional<V> copied(Builder &b, const Function &pattern, ValueId at,
                        const std::vector<V> &values, DType t) {
  const Node *node = pattern.def(at);
  if (!node) return values[size_t(at.i)];
  if (const auto *c = std::get_if<ConstantAttr>(&node->attr)) {
    Type type{c->type.dtype == DType::boolean ? DType::boolean : t, {Dim(kPoints)}};
    return b.constant(c->data[0], type);
  }
  std::vector<ValueId> operands;
  std::vector<Type> types;
  for (const ValueId v : node->operands) {
    const auto operand = copied(b, pattern, v, values, t);
    if (!operand) return {};
    operands.push_back(*operand), types.push_back(operand->type());
  }
  if (!inferTypes(node->op, types, node->attr, nullptr).error.empty()) return {};
  return b.value(b.make(node->op, operands, node->attr));
}

// The left and the right side of a rule at one type and one pair of constants, compared. False if
// the rule does not apply there.
bool checkRule(const Rules::Rule &rule, DType t, double c, double d, Random &r) {
  const Rules &rules = simplifyRules();
  Module m;
  Function &f = m.add("f", 0);
  Builder b(m, f);
  const Type number{t, {Dim(kPoints)}}, boolean{DType::boolean, {Dim(kPoints)}};
  std::vector<V> values;
  for (const char *name : {"x", "y", "z"}) values.push_back(b.param(name, number));
  values.push_back(b.constant(c, number));
  values.push_back(b.constant(d, number));
  for (const char *name : {"p", "q"}) values.push_back(b.param(name, boolean));
  const auto left = copied(b, rules.pattern(), rule.lhs, values, t);
  if (!left) return false;
  const Node root = *f.def(*left);
  const Type type = left->type();
  const auto right =
      rules.apply(rule, f, root, type, [&](Op op, std::vector<ValueId> operands, Attr attr) {
        return b.make(op, std::move(operands), std::move(attr));
      });
  if (!right) return false;
  REQUIRE(f.type(*right) == type);
  b.result("left", *left);
  b.result("right", *right);

  std::vector<Tensor> inputs;
  const double specials[] = {0.0, -0.0, 1, -1, INFINITY, -INFINITY, NAN, 0.5, -2, 3};
  for (const ValueId v : {values[0].id, values[1].id, values[2].id, values[5].id, values[6].id}) {
    inputs.push_back(
        randomTensor(r, Type(f.type(v)), 1, isFloat(t) ? -3 : -100, isFloat(t) ? 3 : 100));
    if (isFloat(inputs.back().dtype))
      for (size_t i = kPoints / 4; i < kPoints; ++i)
        inputs.back().data[i] = specials[size_t(pick(r, 0, 9))];
  }
  auto out = Interpreter(m, Precision::f64).run("f", inputs);
  for (size_t i = 0; i < kPoints; ++i) {
    INFO("rule simplify.cpp:" << rule.line << " at x=" << inputs[0].data[i]
                              << " y=" << inputs[1].data[i] << " c=" << c << " d=" << d << ": "
                              << out[0].data[i] << " became " << out[1].data[i]);
    CHECK(near(out[0].data[i], out[1].data[i], 1e-12));
  }
  return true;
}

} // namespace

TEST_CASE("both sides of every rewrite rule are equal") {
  Random r(1);
  for (const Rules::Rule &rule : simplifyRules().all()) {
    int applied = 0;
    for (const DType t : {DType::f64, DType::i32})
      for (const double c : {2.0, 3.0, -4.0, 7.0})
        for (const double d : {5.0, -2.0, 0.0}) applied += checkRule(rule, t, c, d, r);
    INFO("rule simplify.cpp:" << rule.line);
    CHECK(applied > 0);
  }
}

TEST_CASE("no right side has more nodes than its left side") {
  const Rules &rules = simplifyRules();
  const std::function<int(ValueId)> size = [&](ValueId v) {
    const Node *node = rules.pattern().def(v);
    if (!node || node->op == Op::constant_) return 0;
    int count = 1;
    for (const ValueId o : node->operands) {
      const Node *inner = rules.pattern().def(o); // arithmetic on constants is folded
      const bool constant =
          inner && std::all_of(inner->operands.begin(), inner->operands.end(), [&](ValueId k) {
            return k == rules.c.id || k == rules.d.id ||
                   (rules.pattern().def(k) && rules.pattern().def(k)->op == Op::constant_);
          });
      if (!constant) count += size(o);
    }
    return count;
  };
  for (const Rules::Rule &rule : rules.all()) {
    INFO("rule simplify.cpp:" << rule.line);
    CHECK(size(rule.rhs) <= size(rule.lhs));
  }
}
