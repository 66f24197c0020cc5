// Rewrite rules as pairs of IR graphs.
//
//   RULE(x * (1.0 / y), x / y)          // both sides are nodes over pattern variables
//
// Problem. An algebraic rule should read as mathematics, and a test should be able to evaluate both
// of its sides. Method. The patterns live in a function of their own; x, y, z match any number, c,
// d a constant with one repeated element, p, q any bool. Matching is structural recursion with a
// binding per variable, instantiation copies the right side with the types of the matched node.
// Rules are found by the operation at the root of their left side and keep the line they were
// written on.
#pragma once
#include "ir/builder.h"
#include <array>
#include <functional>
#include <optional>

namespace nnc::ir {

// A successful match; conditions look at it.
struct Match {
  const Function &f;
  std::array<ValueId, 7> bound; // by pattern parameter
  const Type &type() const;     // of the first number that is bound
  bool isFloats() const { return isFloat(type().dtype); }
  bool isInts() const { return isInteger(type().dtype); }
  double c() const { return constant(3); }
  double d() const { return constant(4); }

 private:
  double constant(size_t k) const;
};
using Condition = bool (*)(const Match &);

class Rules {
 public:
  struct Rule {
    int line;
    ValueId lhs, rhs;
    Condition when;
  };
  Rules();
  V x, y, z, c, d, p, q;
  V always, never; // the constants of type bool

  void add(int line, V lhs, V rhs, Condition when = nullptr);
  void add(int line, V lhs, double rhs, Condition when = nullptr);
  const std::vector<Rule> &all() const { return rules_; }
  const Function &pattern() const { return f_; }

  using Make = std::function<ValueId(Op, std::vector<ValueId>, Attr)>;
  // The value that replaces `node` (of `type`, not yet in f) by the first rule that matches.
  std::optional<ValueId> apply(const Function &f, const Node &node, const Type &type,
                               const Make &make) const;
  // One given rule; for tests.
  std::optional<ValueId> apply(const Rule &rule, const Function &f, const Node &node,
                               const Type &type, const Make &make) const;

 private:
  Rules(const Rules &) = delete;
  bool match(ValueId pattern, ValueId value, Match &m) const;
  bool matchNode(const Node &pattern, const Node &node, Match &m) const;
  ValueId instantiate(ValueId pattern, const Match &m, const Type &type, const Make &make) const;

  Module module_;
  Function f_;
  Builder b_;
  std::vector<Rule> rules_;
  std::array<std::vector<size_t>, kOpCount> byRoot_;
};

// The rules of simplify.cpp.
const Rules &simplifyRules();
// The element of a constant with one repeated element.
std::optional<double> splatOf(const Function &f, ValueId v);

} // namespace nnc::ir
