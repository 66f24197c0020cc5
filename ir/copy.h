// Rewriting by copying: a pass builds a new node list from the old one.
//
//   rebuild(f, [&](Copier &c) {
//     for (const Node &node : c.from.nodes)
//       if (wanted(node)) c.node(node);        // maps its operands, keeps types, names and Loc
//   });
//
// `map` takes old values to new ones; a pass that replaces a node sets map[old result] to any value
// of the new function. Parameters and results carry over. Linear, and nothing is moved behind a
// reader.
#pragma once
#include "ir/module.h"
#include <functional>
#include <span>
#include <unordered_map>

namespace nnc::ir {

// Unique names of a function that grows.
class Names {
 public:
  void take(const Function &f); // all names of f are taken
  std::string unique(const std::string &name);

 private:
  std::unordered_map<std::string, int> next_; // name -> suffix to try next
};

class Copier {
 public:
  Copier(const Function &from, Function &to) : from(from), to(to), map(from.values.size()) {}
  const Function &from;
  Function &to;
  std::vector<ValueId> map;
  void params();
  void node(const Node &node, Names *names = nullptr); // names: make the copied names unique
  void results();
  std::vector<ValueId> mapped(const std::vector<ValueId> &values) const;
};

// Appends a node with the given results (their `def` is set here); the first result's id.
ValueId append(Function &f, Node node, std::vector<ValueInfo> results);
void rebuild(Function &f, const std::function<void(Copier &)> &body);

// Copies the nodes of `callee` behind those of `to`, with `args` as its parameters; its results.
// Calls inside of it that `expand` accepts are inlined too.
using Expand = std::function<bool(const CallAttr &)>;
std::vector<ValueId> inlineFunction(const Module &m, const Function &callee,
                                    const std::vector<ValueId> &args, Function &to, Names &names,
                                    const Expand &expand, Loc loc);
// Copies one node, or inlines it if it is a call that `expand` accepts.
void copyOrInline(const Module &m, Copier &c, const Node &node, Names &names, const Expand &expand);

// The function named by a call's or scan's attribute, and by its gradient attribute; else empty.
std::vector<std::string> calleesOf(const Node &node);
// Callees before callers, from every function of the module.
std::vector<Function *> calleesFirst(const Module &m);
// Removes the functions that were called before and are not reachable now.
class UnusedFunctions {
 public:
  explicit UnusedFunctions(const Module &m);
  void drop(Module &m) const;

 private:
  std::unordered_map<std::string, bool> isEntry_;
};

} // namespace nnc::ir
