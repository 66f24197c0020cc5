// Copying nodes between functions, inlining, and the order of functions by their calls.
//
// Problem. Every pass that replaces, drops or inserts nodes would otherwise renumber values in
// place. Example: inlining `%y = call @f(%x)` puts f's nodes where the call stood and maps %y to
// f's result.
//
// Method. A Copier per pair of functions holds the map; node() is the only place that copies a
// node.
#include "ir/copy.h"
#include <set>
#include <unordered_set>

namespace nnc::ir {

void Names::take(const Function &f) {
  for (const ValueInfo &v : f.values)
    if (!v.name.empty()) next_.try_emplace(v.name, 1);
}

std::string Names::unique(const std::string &name) {
  if (name.empty() || next_.try_emplace(name, 1).second) return name;
  for (;;) {
    std::string next = name + "." + std::to_string(next_[name]++);
    if (next_.try_emplace(next, 1).second) return next;
  }
}

ValueId append(Function &f, Node node, std::vector<ValueInfo> results) {
  const NodeId id{int32_t(f.nodes.size())};
  node.firstResult = {int32_t(f.values.size())};
  node.resultCount = int32_t(results.size());
  for (ValueInfo &v : results) {
    v.def = id;
    f.values.push_back(std::move(v));
  }
  f.nodes.push_back(std::move(node));
  return f.nodes.back().firstResult;
}

std::vector<ValueId> Copier::mapped(const std::vector<ValueId> &values) const {
  std::vector<ValueId> out;
  for (const ValueId v : values) {
    NNC_CHECK(map[size_t(v.i)].valid(), "@" + from.name + ": a value is used before it is copied");
    out.push_back(map[size_t(v.i)]);
  }
  return out;
}

void Copier::params() {
  for (const Param &p : from.params) {
    const ValueId id{int32_t(to.values.size())};
    to.values.push_back(from.values[size_t(p.value.i)]);
    to.params.push_back({id, p.bind});
    map[size_t(p.value.i)] = id;
  }
}

void Copier::node(const Node &node, Names *names) {
  Node copy = node;
  copy.operands = mapped(node.operands);
  std::vector<ValueInfo> results;
  for (int k = 0; k < node.resultCount; ++k) {
    results.push_back(from.values[size_t(node.result(k).i)]);
    if (names) results.back().name = names->unique(results.back().name);
  }
  const ValueId first = append(to, std::move(copy), std::move(results));
  for (int k = 0; k < node.resultCount; ++k) map[size_t(node.result(k).i)] = {first.i + k};
}

void Copier::results() {
  for (const Result &r : from.results) to.results.push_back({mapped({r.value})[0], r.name, r.bind});
}

void rebuild(Function &f, const std::function<void(Copier &)> &body) {
  Function fresh;
  fresh.name = f.name;
  fresh.batch = f.batch;
  Copier c(f, fresh);
  c.params();
  body(c);
  c.results();
  f = std::move(fresh);
}

// --- inlining -----------------------------------------------------------------------------------

void copyOrInline(const Module &m, Copier &c, const Node &node, Names &names,
                  const Expand &expand) {
  const auto *call = std::get_if<CallAttr>(&node.attr);
  if (!call || !expand(*call)) return c.node(node);
  const Function *f = m.find(call->callee);
  NNC_CHECK(f, "no function @" + call->callee);
  const auto results =
      inlineFunction(m, *f, c.mapped(node.operands), c.to, names, expand, node.loc);
  for (int k = 0; k < node.resultCount; ++k) c.map[size_t(node.result(k).i)] = results[size_t(k)];
}

std::vector<ValueId> inlineFunction(const Module &m, const Function &callee,
                                    const std::vector<ValueId> &args, Function &to, Names &names,
                                    const Expand &expand, Loc loc) {
  Copier c(callee, to);
  for (size_t k = 0; k < args.size(); ++k) c.map[size_t(callee.params[k].value.i)] = args[k];
  for (const Node &node : callee.nodes) {
    const auto *call = std::get_if<CallAttr>(&node.attr);
    if (call && expand(*call)) {
      copyOrInline(m, c, node, names, expand);
      continue;
    }
    c.node(node, &names);
    if (c.to.nodes.back().loc == Loc{}) c.to.nodes.back().loc = loc;
  }
  std::vector<ValueId> results;
  for (const Result &r : callee.results) results.push_back(c.mapped({r.value})[0]);
  return results;
}

// --- functions ----------------------------------------------------------------------------------

std::vector<std::string> calleesOf(const Node &node) {
  if (const auto *call = std::get_if<CallAttr>(&node.attr)) {
    if (call->gradient.empty()) return {call->callee};
    return {call->callee, call->gradient};
  }
  if (const auto *scan = std::get_if<ScanAttr>(&node.attr)) return {scan->body};
  return {};
}

std::vector<Function *> calleesFirst(const Module &m) {
  std::vector<Function *> order;
  std::unordered_set<const Function *> seen;
  const std::function<void(Function *)> visit = [&](Function *f) {
    if (!f || !seen.insert(f).second) return;
    for (const Node &node : f->nodes)
      for (const std::string &name : calleesOf(node)) visit(m.find(name));
    order.push_back(f);
  };
  for (const auto &f : m.functions) visit(f.get());
  return order;
}

UnusedFunctions::UnusedFunctions(const Module &m) {
  for (const auto &f : m.functions) isEntry_.emplace(f->name, true);
  for (const auto &f : m.functions)
    for (const Node &node : f->nodes)
      for (const std::string &name : calleesOf(node)) isEntry_[name] = false;
}

void UnusedFunctions::drop(Module &m) const {
  std::unordered_set<const Function *> used;
  const std::function<void(const Function *)> visit = [&](const Function *f) {
    if (!f || !used.insert(f).second) return;
    for (const Node &node : f->nodes)
      for (const std::string &name : calleesOf(node)) visit(m.find(name));
  };
  for (const auto &f : m.functions) {
    const auto entry = isEntry_.find(f->name);
    if (entry != isEntry_.end() && entry->second) visit(f.get());
  }
  std::erase_if(m.functions, [&](const auto &f) { return !used.contains(f.get()); });
}

} // namespace nnc::ir
