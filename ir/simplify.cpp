// Algebraic simplification: a table of rules, applied in one walk.
//
//   %a = neg %x; %b = sub %y, %a; %c = mul %b, 1      ->      %b = add %y, %x
//
// Method. Nodes are copied in order, so operands are simple already when a node is looked at:
// constants of commutative operations move to the right, then the structural simplifications of
// simplify_views.cpp are tried, then the rules below. The nodes of a right side go the same way. A
// rule looks at its operands' definitions and at nothing else, so one walk is enough and a second
// changes nothing.
//
// What a rule must keep (read before adding one):
//   - The right side costs no more than the left, also if inner nodes of the left stay for other
//   readers
//     (a division counts as a multiplication). So exp(x) - 1 is not rewritten to expm1(x).
//   - NaN and infinity stay: x * 0 and x - x are 0 for integers only, exp(log(x)) is not x.
//   - The sign of a zero may change (x + 0 is x, also for x = -0), and so may the last bits: the
//   numeric
//     contract orders scheduling, not algebra.
//   - Directed, constants on the right; no rule that only reorders.
#include "ir/copy.h"
#include "ir/formulas.h"
#include "ir/passes.h"
#include "ir/rewrite.h"
#include "ir/simplify_views.h"
#include <algorithm>
#include <cmath>

namespace nnc::ir {

namespace {

bool ints(const Match &m) { return m.isInts(); }
// Far from overflow and underflow in the type, of which bf16 has the range of f32.
bool usable(const Match &m, double v) {
  const bool half = m.type().dtype == DType::f16;
  const double least = half ? 1e-4 : 1e-30, most = half ? 6e4 : 1e30;
  return std::fabs(v) > least && std::fabs(v) < most;
}
bool productIsSafe(const Match &m) {
  return m.isFloats() && usable(m, m.c()) && usable(m, m.d()) && usable(m, m.c() * m.d());
}
bool quotientIsSafe(const Match &m) { // c / d and d / c alike
  return m.isFloats() && usable(m, m.c()) && usable(m, m.d()) && usable(m, m.c() / m.d()) &&
         usable(m, m.d() / m.c());
}
bool onlyFirstIsPositive(const Match &m) { return m.c() > 0 && m.d() <= 0; }
bool onlySecondIsZero(const Match &m) { return m.c() != 0 && m.d() == 0; }
bool isPowerOfTwo(const Match &m) {
  int e = 0;
  return usable(m, m.c()) && usable(m, 1 / m.c()) && std::fabs(std::frexp(m.c(), &e)) == 0.5;
}

void addRules(Rules &r) {
  const V x = r.x, y = r.y, z = r.z, c = r.c, d = r.d, p = r.p;
#define RULE(...) r.add(__LINE__, __VA_ARGS__)
  // neutral elements
  RULE(x + 0.0, x);
  RULE(x - 0.0, x);
  RULE(0.0 - x, -x);
  RULE(x * 1.0, x);
  RULE(x / 1.0, x);
  RULE(x * -1.0, -x);
  RULE(x / -1.0, -x);
  RULE(x * 0.0, 0.0, ints);
  RULE(x - x, 0.0, ints);
  RULE(floordiv(x, like(x, 1.0)), x, ints);
  // signs
  RULE(-(-x), x);
  RULE(x + -y, x - y);
  RULE(-x + y, y - x);
  RULE(x - -y, x + y);
  RULE(-(x - y), y - x);
  RULE(-x * -y, x * y);
  RULE(-x / -y, x / y);
  RULE(-x * c, x * -c);
  RULE(-(x * c), x * -c);
  RULE(abs(-x), abs(x));
  RULE(abs(abs(x)), abs(x));
  RULE(cos(-x), cos(x));
  // constants together
  RULE((x + c) + d, x + (c + d), ints);
  RULE((x * c) * d, x * (c * d), productIsSafe);
  RULE((x * c) * d, x * (c * d), ints);
  RULE((x / c) * d, x * (d / c), quotientIsSafe);
  RULE((x * c) / d, x * (c / d), quotientIsSafe);
  RULE(x / c, x * (1.0 / c), isPowerOfTwo);
  // division
  RULE(x * (1.0 / y), x / y);
  RULE((1.0 / y) * x, x / y);
  RULE(x / (1.0 / y), x * y);
  // powers
  RULE(pow(x, like(x, 1.0)), x);
  RULE(pow(x, like(x, 2.0)), x * x);
  RULE(pow(x, like(x, 0.0)), 1.0);
  RULE(pow(x, like(x, -1.0)), 1.0 / x);
  // elementary functions
  RULE(log(x + 1.0), log1p(x));
  RULE(sign(sign(x)), sign(x));
  RULE(floor(floor(x)), floor(x));
  RULE(ceil(ceil(x)), ceil(x));
  RULE(round(round(x)), round(x));
  // extrema
  RULE(max(x, x), x);
  RULE(min(x, x), x);
  RULE(max(max(x, y), y), max(x, y));
  RULE(min(min(x, y), y), min(x, y));
  // flow of derivatives: there are no grad nodes any more
  RULE(x.b->unary(Op::stop_gradient_, x), x);
  // logic
  RULE(!!p, p);
  RULE(p && p, p);
  RULE(p || p, p);
  RULE(p && r.always, p);
  RULE(p && r.never, r.never);
  RULE(p || r.never, p);
  RULE(p || r.always, r.always);
  RULE(eq(x, x), r.always, ints);
  RULE(le(x, x), r.always, ints);
  RULE(ge(x, x), r.always, ints);
  RULE(ne(x, x), r.never, ints);
  RULE(lt(x, x), r.never);
  RULE(gt(x, x), r.never);
  RULE(!eq(x, y), ne(x, y));
  RULE(!ne(x, y), eq(x, y));
  RULE(!lt(x, y), ge(x, y), ints);
  RULE(!le(x, y), gt(x, y), ints);
  // choice
  RULE(select(p, x, x), x);
  RULE(select(!p, x, y), select(p, y, x));
  RULE(select(p, select(p, x, y), z), select(p, x, z));
  RULE(select(p, x, select(p, y, z)), select(p, x, z));
  // a mask of numbers, asked for its bits: where(mask > 0, ..)
  RULE(gt(select(p, c, d), like(c, 0.0)), p, onlyFirstIsPositive);
  RULE(ne(select(p, c, d), like(c, 0.0)), p, onlySecondIsZero);
  RULE(eq(select(p, c, d), like(c, 0.0)), !p, onlySecondIsZero);
#undef RULE
}

bool isCommutative(Op op) {
  switch (op) {
  case Op::add_:
  case Op::mul_:
  case Op::max_:
  case Op::min_:
  case Op::eq_:
  case Op::ne_:
  case Op::and_:
  case Op::or_: return true;
  default: return false;
  }
}

class Simplifier {
 public:
  Simplifier(Copier &c, Module &m) : c_(c), b_(m, c.to) {}

  void node(const Node &old) {
    if (old.remat || old.resultCount != 1) return c_.node(old);
    Node node = old;
    node.operands = c_.mapped(old.operands);
    constantRight(node);
    b_.loc = old.loc;
    const Type type = c_.from.type(old.firstResult);
    ValueId &result = c_.map[size_t(old.firstResult.i)];
    const int32_t firstNew = int32_t(c_.to.values.size());
    if (const auto v = replaced(node, type)) {
      result = *v;
      std::string &name = c_.to.values[size_t(v->i)].name;
      if (v->i >= firstNew && name.empty()) name = c_.from.values[size_t(old.firstResult.i)].name;
      return;
    }
    result = append(c_.to, std::move(node), {c_.from.values[size_t(old.firstResult.i)]});
  }

 private:
  std::optional<ValueId> replaced(const Node &node, const Type &type) {
    if (depth_ > 32) return {}; // far beyond any chain of rules that shrink
    const auto make = [this](Op op, std::vector<ValueId> operands, Attr attr) {
      return this->make(op, std::move(operands), std::move(attr));
    };
    ++depth_;
    auto v = simplifyView(c_.to, node, type, make);
    if (!v) v = simplifyRules().apply(c_.to, node, type, make);
    --depth_;
    return v;
  }
  ValueId make(Op op, std::vector<ValueId> operands, Attr attr) {
    Node node{op, std::move(operands), {}, 1, std::move(attr), b_.loc, false};
    constantRight(node);
    std::vector<Type> in;
    for (const ValueId v : node.operands) in.push_back(c_.to.type(v));
    const Inferred type = inferTypes(op, in, node.attr, &b_.module);
    NNC_CHECK(type.error.empty(),
              std::string("a rule builds a wrong ") + info(op).name + ": " + type.error);
    if (const auto v = replaced(node, type.types[0])) return *v;
    if (auto constant = foldNode(c_.to, node, type.types[0])) {
      node.operands.clear();
      return b_.make(Op::constant_, {}, std::move(*constant));
    }
    return b_.make(op, std::move(node.operands), std::move(node.attr));
  }
  void constantRight(Node &node) const {
    if (!isCommutative(node.op) || splatOf(c_.to, node.operands[1])) return;
    if (splatOf(c_.to, node.operands[0])) std::swap(node.operands[0], node.operands[1]);
  }

  Copier &c_;
  Builder b_;
  int depth_ = 0;
};

} // namespace

const Rules &simplifyRules() {
  static const Rules *rules = [] {
    auto *r = new Rules;
    addRules(*r);
    return r;
  }();
  return *rules;
}

// A function that is still to be differentiated is left alone: stop_gradient means something there.
void simplify(Function &f, Module &m) {
  if (std::any_of(f.nodes.begin(), f.nodes.end(), [](const Node &n) { return n.op == Op::grad_; }))
    return;
  rebuild(f, [&](Copier &c) {
    Simplifier s(c, m);
    for (const Node &node : c.from.nodes) s.node(node);
  });
}

} // namespace nnc::ir
