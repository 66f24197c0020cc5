// Inside the differentiation: one backward sweep over a function, and what a gradient rule sees.
#pragma once
#include "ir/copy.h"
#include "ir/formulas.h"
#include <optional>

namespace nnc::ir {

using Flow = std::optional<V>;   // a cotangent; none: zero, and no nodes
using Flows = std::vector<Flow>; // one per operand; those missing at the end are none

// Which values depend, through operations that have a derivative, on the given ones.
std::vector<bool> variedFrom(const Function &f, const std::vector<ValueId> &xs);
bool hasDerivative(Op op); // some partial is not the literal 0.0

class Reverse;

// One node whose operands' cotangents are asked for.
struct Site {
  Reverse &sweep;
  Builder &b;
  NodeId id;
  Node node; // a copy: building nodes moves the originals
  std::vector<V> x, y;
  Flows g;                  // of the results; at least one is present
  std::vector<bool> wanted; // per operand: it depends on what we differentiate by
  template <class A> const A &attr() const { return std::get<A>(node.attr); }
};

// The sweep over the nodes that exist when it is made. Nodes it builds go behind them.
class Reverse {
 public:
  Reverse(Builder &b, Names &names, std::vector<ValueId> xs, bool inlineGradients);
  void flow(ValueId y, V g); // adds g to y's cotangent
  void run();
  Flow cotangent(ValueId x); // named `x.d`
  V cotangentOrZero(ValueId x);

  // Gives a scan more results: all its results get new ids, and every table of ids here follows.
  void extendResults(NodeId node, std::vector<Type> more);
  std::vector<std::vector<ValueId> *> tables; // of ids that others hold

  Builder &b;
  Names &names;
  std::vector<ValueId> xs;
  const bool inlineGradients; // calls must not survive: the result will be differentiated again

 private:
  bool active(const Node &node) const;
  Site site(NodeId id);
  int32_t end_, firstNew_;
  std::vector<bool> varied_;
  std::vector<Flow> cot_;
};

Flows vjp(Site &s);
Flows vjp_scan(Site &s); // gradient_scan.cpp
// Whether differentiation through the call means to inline it first.
bool hasNoGradient(const CallAttr &call);

} // namespace nnc::ir
