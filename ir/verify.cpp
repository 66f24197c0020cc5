// The verifier.
//
// Problem. Passes rewrite functions; an invariant they break shows up far away, as a wrong kernel.
// Example: "@train_step: %y (add at model.nn:4:3): operand %x comes later".
//
// Method. The invariants in order, each a function below; the first that fails is the message. All
// are linear in the size of the module.
//
// A module:
//   1. Location 0 is empty; the parent of a location comes before it.
//   2. Persistent values have distinct, non-empty names, types with constant dimensions, and only
//      as many elements as kMaxElements.
//   3. Functions have distinct names of letters, digits and _ . / -
// A function:
//   4. batch is 0 (no dimension depends on n) or the largest n, at most 2^31 - 1.
//   5. A parameter defines a value, a node defines resultCount >= 1 values; no value is defined
//      twice, and `def` says who does it. Values that nothing defines are leftovers: not used.
//   6. Operands and results are values that a parameter or an earlier node defines.
//   7. Value names are distinct names as in 3, not all digits, or empty.
//   8. Types are valid at every n (checkType), have n only if batch > 0, and fit at n = batch.
//   9. Arity, attribute kind and result types are those of inferTypes.
//  10. The location of a node exists.
//  11. A bound parameter or result names a persistent value of its type; no value is bound to two
//      parameters or two results.
//  12. Other results have distinct names or none.
//  13. A called function and a scan's body exist, bind nothing, and have the caller's batch or
//      none. @g of `gradient` takes (operands, results, cotangents of the results) and gives a
//      cotangent for each operand, of its type.
// Across functions:
//  14. Calls are not recursive.
// After differentiation:
//  15. There is no grad node.
#include "ir/verify.h"
#include "ir/infer.h"
#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>

namespace nnc::ir {

namespace {

// Keeps the first error; a check returns true if it found none.
struct FunctionVerifier {
  const Module &m;
  const Function &f;
  const std::unordered_map<std::string_view, const Function *> &functions;
  const std::unordered_map<std::string_view, const Persistent *> &persistents;
  std::string error;
  std::vector<char> defined;

  bool fail(const std::string &what) {
    if (error.empty()) error = "@" + f.name + ": " + what;
    return false;
  }
  std::string name(ValueId v) const {
    bool named = exists(v) && !f.values[v.i].name.empty();
    return "%" + (named ? f.values[v.i].name : "#" + std::to_string(v.i));
  }
  std::string name(const Node &n) const {
    std::string s = name(n.firstResult) + " (" + info(n.op).name;
    if (n.loc.i > 0 && size_t(n.loc.i) < m.locs.size()) s += " at " + str(m, n.loc, true);
    return s + ")";
  }
  bool fail(const Node &n, const std::string &what) { return fail(name(n) + ": " + what); }
  bool exists(ValueId v) const { return v.i >= 0 && size_t(v.i) < f.values.size(); }

  // 4
  bool batch() {
    return (f.batch >= 0 && f.batch <= INT32_MAX) ||
           fail("a batch of " + std::to_string(f.batch) + " rows");
  }

  // 5
  bool define(ValueId v, NodeId def) {
    if (!exists(v)) return fail("value " + std::to_string(v.i) + " is not in the value table");
    if (defined[v.i]) return fail(name(v) + " is defined twice");
    if (f.values[v.i].def != def) return fail(name(v) + " states another definition than its own");
    defined[v.i] = true;
    return true;
  }
  bool use(ValueId v, const std::string &user) {
    if (!exists(v)) return fail(user + " value " + std::to_string(v.i) + " does not exist");
    return defined[v.i] || fail(user + " " + name(v) + " is not defined before");
  }

  // 8
  bool type(ValueId v) {
    const Type &t = f.type(v);
    if (std::string e = checkType(t); !e.empty()) return fail(name(v) + ": " + e);
    for (Dim d : t.dims)
      if (!d.isConst() && f.batch == 0)
        return fail(name(v) + ": " + str(t) + " depends on n in a function without batch");
    return fits(t.dims, std::max<int64_t>(f.batch, 1)) ||
           fail(name(v) + ": " + str(t) + " has too many elements");
  }

  // 7
  bool names() {
    std::unordered_set<std::string_view> seen;
    for (size_t i = 0; i < f.values.size(); ++i) {
      const std::string &n = f.values[i].name;
      if (!defined[i] || n.empty()) continue;
      if (!isName(n)) return fail("\"" + n + "\" is not a name for a value");
      if (!seen.insert(n).second) return fail("two values are called %" + n);
    }
    return true;
  }

  // 9
  bool types(const Node &n) {
    std::vector<Type> operands;
    for (ValueId v : n.operands) operands.push_back(f.type(v));
    Inferred r = inferTypes(n.op, operands, n.attr, &m);
    if (!r.error.empty()) return fail(n, r.error);
    if (r.types.size() != size_t(n.resultCount))
      return fail(n, "expected " + std::to_string(r.types.size()) + " results, found " +
                         std::to_string(n.resultCount));
    for (int k = 0; k < n.resultCount; ++k)
      if (f.type(n.result(k)) != r.types[k])
        return fail(n, "gives " + str(r.types[k]) + ", but " + name(n.result(k)) + " is " +
                           str(f.type(n.result(k))));
    return true;
  }

  // 13
  bool callee(const Node &n, const std::string &callee) {
    auto it = functions.find(callee);
    if (it == functions.end()) return fail(n, "there is no function @" + callee);
    const Function &g = *it->second;
    if (g.batch != 0 && g.batch != f.batch)
      return fail(n, "@" + callee + " has the batch " + std::to_string(g.batch) + ", its caller " +
                         std::to_string(f.batch));
    auto broken = [&](ValueId v) { return v.i < 0 || size_t(v.i) >= g.values.size(); };
    for (const Param &p : g.params)
      if (broken(p.value))
        return fail(n, "@" + callee + " has a parameter without a value");
      else if (!p.bind.empty())
        return fail(n, "@" + callee + " binds \"" + p.bind + "\"");
    for (const Result &r : g.results)
      if (broken(r.value))
        return fail(n, "@" + callee + " has a result without a value");
      else if (r.bind)
        return fail(n, "@" + callee + " binds \"" + r.name + "\"");
    return true;
  }
  bool gradientFunction(const Node &n, const std::string &gradient) {
    if (!callee(n, gradient)) return false;
    const Function &g = *functions.at(gradient);
    size_t x = n.operands.size(), y = size_t(n.resultCount);
    if (g.params.size() != x + 2 * y || g.results.size() != x)
      return fail(n, "@" + gradient + " must take " + std::to_string(x + 2 * y) +
                         " arguments and give " + std::to_string(x) + " results");
    for (size_t i = 0; i < x + 2 * y; ++i) {
      const Type &t = i < x ? f.type(n.operands[i]) : f.type(n.result(int((i - x) % y)));
      if (g.type(g.params[i].value) != t)
        return fail(n, "argument " + std::to_string(i) + " of @" + gradient + " must be " + str(t) +
                           ", found " + str(g.type(g.params[i].value)));
      if (i < x && g.type(g.results[i].value) != t)
        return fail(n, "result " + std::to_string(i) + " of @" + gradient + " must be " + str(t) +
                           ", found " + str(g.type(g.results[i].value)));
    }
    return true;
  }
  bool callees(const Node &n) {
    if (auto *a = std::get_if<ScanAttr>(&n.attr)) return callee(n, a->body);
    auto *a = std::get_if<CallAttr>(&n.attr);
    return !a ||
           (callee(n, a->callee) && (a->gradient.empty() || gradientFunction(n, a->gradient)));
  }

  bool node(size_t i) {
    const Node &n = f.nodes[i];
    for (ValueId v : n.operands) // the name of a node costs more than the check
      if (!exists(v) || !defined[v.i]) return use(v, name(n) + ": operand");
    if (n.resultCount < 1) return fail(n, "has no result");
    for (int k = 0; k < n.resultCount; ++k)
      if (!define(n.result(k), NodeId{int32_t(i)}) || !type(n.result(k))) return false;
    if (n.loc.i < 0 || size_t(n.loc.i) >= m.locs.size())
      return fail(n, "location " + std::to_string(n.loc.i) + " does not exist");
    return callees(n) && types(n);
  }

  // 11
  bool bound(ValueId v, const std::string &what, std::unordered_set<std::string_view> &seen) {
    auto it = persistents.find(what);
    if (it == persistents.end()) return fail("there is no persistent value \"" + what + "\"");
    if (it->second->type != f.type(v))
      return fail("\"" + what + "\" is " + str(it->second->type) + ", but " + name(v) + " is " +
                  str(f.type(v)));
    return seen.insert(what).second || fail("\"" + what + "\" is bound twice");
  }
  bool params() {
    std::unordered_set<std::string_view> seen;
    for (const Param &p : f.params) {
      if (!define(p.value, NodeId{}) || !type(p.value)) return false;
      if (!p.bind.empty() && !bound(p.value, p.bind, seen)) return false;
    }
    return true;
  }
  // 11, 12
  bool results() {
    std::unordered_set<std::string_view> states, outputs;
    for (const Result &r : f.results) {
      if (!use(r.value, "result")) return false;
      if (r.bind && !bound(r.value, r.name, states)) return false;
      if (!r.bind && !r.name.empty() && !outputs.insert(r.name).second)
        return fail("two results are called \"" + r.name + "\"");
    }
    return true;
  }

  bool all() {
    defined.assign(f.values.size(), false);
    if (!batch() || !params()) return false;
    for (size_t i = 0; i < f.nodes.size(); ++i)
      if (!node(i)) return false;
    return results() && names();
  }
};

struct ModuleVerifier {
  const Module &m;
  std::unordered_map<std::string_view, const Function *> functions;
  std::unordered_map<std::string_view, const Persistent *> persistents;

  explicit ModuleVerifier(const Module &m) : m(m) {
    for (const auto &f : m.functions) functions.emplace(f->name, f.get());
    for (const Persistent &p : m.persistents) persistents.emplace(p.name, &p);
  }

  // 1
  std::string locations() const {
    if (m.locs.empty() || m.locs[0] != LocInfo{}) return "location 0 must be empty";
    for (size_t i = 1; i < m.locs.size(); ++i)
      if (m.locs[i].parent.i < 0 || size_t(m.locs[i].parent.i) >= i)
        return "location " + std::to_string(i) + ": its parent must come before it";
    return {};
  }
  // 2
  std::string persistentValues() const {
    std::unordered_set<std::string_view> seen;
    for (const Persistent &p : m.persistents) {
      if (p.name.empty()) return "a persistent value has no name";
      if (!seen.insert(p.name).second) return "persistent \"" + p.name + "\" is declared twice";
      for (Dim d : p.type.dims)
        if (!d.isConst()) return "persistent \"" + p.name + "\" has the size " + str(d);
      if (std::string e = checkType(p.type); !e.empty())
        return "persistent \"" + p.name + "\": " + e;
    }
    return {};
  }
  // 3
  std::string functionNames() const {
    std::unordered_set<std::string_view> seen;
    for (const auto &f : m.functions) {
      if (!isName(f->name)) return "\"" + f->name + "\" is not a name for a function";
      if (!seen.insert(f->name).second) return "two functions are called @" + f->name;
    }
    return {};
  }

  std::string function(const Function &f) const {
    FunctionVerifier v{m, f, functions, persistents, {}, {}};
    v.all();
    return v.error;
  }

  std::string functionBodies() const {
    for (const auto &f : m.functions)
      if (std::string e = function(*f); !e.empty()) return e;
    return {};
  }

  // 14: removes functions all of whose callees are removed; what stays is on a cycle or calls one.
  std::string recursion() const {
    std::unordered_map<const Function *, std::vector<const Function *>> callers;
    std::unordered_map<const Function *, size_t> open; // callees not yet removed
    for (const auto &f : m.functions)
      for (const Node &n : f->nodes) {
        const auto *c = std::get_if<CallAttr>(&n.attr);
        const auto *s = std::get_if<ScanAttr>(&n.attr);
        for (const std::string *callee :
             {c ? &c->callee : nullptr, c ? &c->gradient : nullptr, s ? &s->body : nullptr})
          if (callee && !callee->empty()) {
            callers[functions.at(*callee)].push_back(f.get());
            ++open[f.get()];
          }
      }
    std::vector<const Function *> leaves;
    for (const auto &f : m.functions)
      if (open[f.get()] == 0) leaves.push_back(f.get());
    size_t removed = 0;
    for (; removed < leaves.size(); ++removed)
      for (const Function *caller : callers[leaves[removed]])
        if (--open[caller] == 0) leaves.push_back(caller);
    if (removed == m.functions.size()) return {};
    for (const auto &f : m.functions)
      if (open[f.get()]) return "@" + f->name + " is recursive, or calls a function that is";
    return {};
  }
};

} // namespace

std::string verify(const Module &m, const Function &f) { return ModuleVerifier(m).function(f); }

std::string verify(const Module &m) {
  ModuleVerifier v(m);
  for (auto check : {&ModuleVerifier::locations, &ModuleVerifier::persistentValues,
                     &ModuleVerifier::functionNames, &ModuleVerifier::functionBodies,
                     &ModuleVerifier::recursion})
    if (std::string e = (v.*check)(); !e.empty()) return e;
  return {};
}

std::string verifyDifferentiated(const Module &m) {
  for (const auto &f : m.functions)
    for (const Node &n : f->nodes)
      if (n.op == Op::grad_) return "@" + f->name + ": a grad node is left";
  return {};
}

} // namespace nnc::ir
