// Writing results over what they replace.
//
// Problem. W' = W - rate * dW should store over W: no second copy of the weights, no copying. But
// the old value must be dead at the moment of the store, in every other kernel and inside this one:
//   y[c] = x[c] / sum(x)     two stages over x; safe: the sum is done before the first store
//   s0: m'[i] = f(m[i])
//   s1: w'[i] = g(m[i])      safe: one block, both bodies come before both stores
//   s1: t = sum m[i]         not safe: s1 reads m after s0 has stored m'
//
// Method. A kernel may write result v over operand u iff it reads u only at the index
// at which it stores v, in the block of the store (kernel.h) or an earlier one; for a contraction
// only in the epilogue, as any item's operand loads may touch any element. Other readers of u must
// come earlier: edges reader -> writer, added only where no path leads the other way. Then both
// arguments become one, so the code never sees two pointers to the same bytes. What is not allowed
// stays a copy at the end of the step.
#include "codegen/planning.h"
#include "codegen/touched.h"
#include <algorithm>
#include <unordered_map>

namespace nnc::cg {

namespace {

// --- what a stage reads --------------------------------------------------------------------------

struct LoadCollector {
  const Kernel &k;
  std::vector<const Access *> loads;
  std::vector<char> seen;

  explicit LoadCollector(const Kernel &k) : k(k), seen(k.exprs.size(), 0) {}

  void visit(const Index &x) {
    for (const Term &t : x.terms) {
      const Atom &a = k.atoms[t.atom];
      if (a.kind == Atom::Value) visit(a.value);
      if (a.kind == Atom::Div || a.kind == Atom::Mod) visit(a.inner);
    }
  }
  void visit(const std::vector<Guard> &guards) {
    for (const Guard &g : guards) visit(g.index);
  }
  void visit(ExprId id) {
    if (id < 0 || seen[id]) return;
    seen[id] = 1;
    const Expr &e = k.exprs[id];
    for (ExprId a : e.args) visit(a);
    if (e.op == SOp::load) {
      loads.push_back(&e.access);
      visit(e.access.flat), visit(e.access.guards);
    }
    visit(e.index), visit(e.guards);
  }
};

std::vector<const Access *> loadsOfStage(const Kernel &k, const Stage &s) {
  LoadCollector c(k);
  c.visit(s.body);
  for (const Store &t : s.stores) c.visit(t.access.flat), c.visit(t.access.guards);
  return std::move(c.loads);
}

bool readsOutsideStages(const Kernel &k, int32_t arg) {
  LoadCollector c(k);
  c.visit(k.contract.a), c.visit(k.contract.b);
  c.visit(k.scatter.index), c.visit(k.scatter.update);
  c.visit(k.sort.value);
  return std::any_of(c.loads.begin(), c.loads.end(), [&](auto *a) { return a->arg == arg; });
}

bool samePlace(const Access &x, const Access &y) {
  return x.flat == y.flat && x.guards == y.guards;
}

// The end of the block that `stage` is in: its bodies are evaluated before it stores anything.
size_t blockEnd(const Kernel &k, size_t stage) {
  size_t end = stage + 1;
  if (k.cls == KernelClass::Contract) return k.stages.size();
  if (!k.stages[stage].reduce.empty()) return end;
  while (end < k.stages.size() && k.stages[end].reduce.empty() &&
         k.stages[end].loop == k.stages[stage].loop)
    ++end;
  return end;
}

// Is every read of `old` done when `stage` stores at `store`?
bool readsComeFirst(const Kernel &k, int32_t old, size_t stage, const Access &store) {
  size_t end = blockEnd(k, stage);
  for (size_t s = 0; s < k.stages.size(); ++s)
    for (const Access *load : loadsOfStage(k, k.stages[s]))
      if (load->arg == old && (s >= end || !samePlace(*load, store))) return false;
  return true;
}

bool mayShare(const Launch &l, int32_t old, int32_t written) {
  if (l.loop) return false; // carries know themselves what may share memory
  const Kernel &k = l.kernel;
  // A table's rows are each updated by the item that reads them.
  const bool rows = k.cls == KernelClass::ScatterAdd && k.scatter.arg < 0;
  if (!rows && readsOutsideStages(k, old)) return false;
  bool readsOld = k.args[old].read;
  const bool stagesOnly = k.cls == KernelClass::Loops || k.cls == KernelClass::Contract || rows;
  if (!stagesOnly && readsOld) return false;
  for (size_t s = 0; s < k.stages.size(); ++s)
    for (const Store &t : k.stages[s].stores) {
      if (t.access.arg != written) continue;
      // A running sum that is stored before the step's element is added reads it after the store.
      if (k.stages[s].combine == Combine::cumsum && k.stages[s].exclusive) return false;
      // A sum beside a contraction lives in its place while other elements are read.
      if (k.stages[s].chunk != 0 && readsOld) return false;
      if (!readsComeFirst(k, old, s, t.access)) return false;
      if (rows && tokensReadElsewhere(k, {old, t.access.flat, t.access.guards})) return false;
    }
  return true;
}

// --- making two arguments one --------------------------------------------------------------------

// The kernel with its expressions un-interned: their keys named the old argument numbers.
Kernel withFreshTables(const Kernel &k) {
  Kernel r;
  r.cls = k.cls, r.batch = k.batch, r.args = k.args, r.axes = k.axes;
  r.atoms = k.atoms, r.exprs = k.exprs, r.parallel = k.parallel, r.stages = k.stages;
  r.contract = k.contract, r.scatter = k.scatter, r.sort = k.sort, r.schedule = k.schedule;
  r.chain = k.chain;
  r.name = k.name, r.loc = k.loc, r.meaning = k.meaning;
  return r;
}

// Argument `gone` becomes argument `keep`.
void mergeArgs(Launch &launch, int32_t keep, int32_t gone) {
  Kernel k = withFreshTables(launch.kernel);
  auto renumber = [&](int32_t &arg) {
    if (arg == gone) arg = keep;
    if (arg > gone) --arg;
  };
  for (Expr &e : k.exprs)
    if (e.op == SOp::load) renumber(e.access.arg);
  for (Stage &s : k.stages)
    for (Store &t : s.stores) renumber(t.access.arg);
  if (k.cls == KernelClass::ScatterAdd) renumber(k.scatter.arg);
  if (k.sort.values.arg >= 0) renumber(k.sort.values.arg);
  if (k.sort.indices.arg >= 0) renumber(k.sort.indices.arg);
  k.args[keep].read |= k.args[gone].read;
  k.args[keep].written |= k.args[gone].written;
  k.args.erase(k.args.begin() + gone);
  launch.args.erase(launch.args.begin() + gone);
  launch.kernel = std::move(k);
}

int32_t argOf(const Launch &l, BufferId b) {
  auto it = std::find(l.args.begin(), l.args.end(), b);
  return it == l.args.end() ? -1 : int32_t(it - l.args.begin());
}

// May all launches that write `v` write it over `old`, as far as they themselves read `old`?
bool writersAgree(const Program &p, const std::vector<int> &writers, BufferId old, BufferId v) {
  for (int w : writers) {
    const Launch &l = p.launches[w];
    int32_t o = argOf(l, old);
    if (o < 0) continue;
    if (writers.size() > 1 || l.kernel.args[o].written || !mayShare(l, o, argOf(l, v)))
      return false;
  }
  return true;
}

void share(Program &p, Plan &plan, const std::vector<int> &writers, BufferId old, BufferId v) {
  plan.alias[v] = old;
  for (int w : writers) {
    Launch &l = p.launches[w];
    if (int32_t o = argOf(l, old); o >= 0) mergeArgs(l, argOf(l, v), o);
  }
}

// --- persistent values ---------------------------------------------------------------------------

BufferId addPersistent(Program &p, Plan &plan, const ProgramResult &r, const Layouts &layouts) {
  Buffer b;
  b.name = b.persistent = r.name;
  b.type = p.buffers[r.buffer].type;
  if (auto own = layouts.find(r.name); own != layouts.end()) b.layout = own->second;
  b.life = Life::Persistent;
  p.buffers.push_back(b);
  plan.alias.push_back(BufferId(p.buffers.size()) - 1);
  return plan.alias.back();
}

struct Binder {
  Program &p;
  Plan &plan;
  const std::vector<Users> &users;
  Edges &edges;

  // by buffer: of how many it is the value
  std::vector<int> results = std::vector<int>(p.buffers.size());

  void count() {
    for (const ProgramResult &r : p.results) ++results[size_t(r.buffer)];
  }
  bool neededAtEnd(BufferId old, size_t but) const {
    if (size_t(old) >= results.size()) return false; // made after all results
    return results[size_t(old)] > (p.results[but].buffer == old);
  }

  bool bind(size_t result, BufferId old) {
    BufferId v = p.results[result].buffer;
    if (p.buffers[v].life != Life::Transient || plan.alias[v] != v || p.buffers[v].pinned)
      return false;
    if (p.buffers[v].type != p.buffers[old].type || p.buffers[v].layout != p.buffers[old].layout)
      return false;
    if (neededAtEnd(old, result)) return false;
    const std::vector<int> &writers = users[v].writers;
    if (!writersAgree(p, writers, old, v)) return false;
    std::vector<int> others; // launches that read the old value and must come first
    if (size_t(old) < users.size())
      for (int r : users[old].readers)
        if (!std::binary_search(writers.begin(), writers.end(), r)) others.push_back(r);
    for (int w : writers)
      if (edges.leads(w, others)) return false;
    for (int r : others)
      for (int w : writers) edges.addEdge(r, w);
    share(p, plan, writers, old, v);
    return true;
  }
};

} // namespace

bool bindResult(Program &p, Plan &plan, const std::vector<Users> &users, Edges &edges,
                size_t result, BufferId old) {
  Binder binder{p, plan, users, edges};
  binder.count();
  return binder.bind(result, old);
}

std::vector<int> bindInPlace(Program &p, Plan &plan, const std::vector<Users> &users, Edges &edges,
                             bool inPlace, const Layouts &layouts) {
  std::vector<int> copies;
  std::unordered_map<std::string, BufferId> persistent;
  for (BufferId b = 0; b < BufferId(p.buffers.size()); ++b)
    if (p.buffers[b].life == Life::Persistent) persistent.emplace(p.buffers[b].persistent, b);
  Binder binder{p, plan, users, edges};
  binder.count();
  for (size_t i = 0; i < p.results.size(); ++i) {
    const ProgramResult &r = p.results[i];
    if (!r.bind) continue;
    auto known = persistent.find(r.name);
    BufferId old = known == persistent.end() ? addPersistent(p, plan, r, layouts) : known->second;
    if (r.buffer == old) continue; // unchanged
    if (!inPlace || !binder.bind(i, old)) copies.push_back(int(i));
  }
  return copies;
}

void mergeEqualArgs(Program &p) {
  for (Launch &l : p.launches)
    for (size_t a = 0; a < l.args.size(); ++a)
      for (size_t b = l.args.size(); --b > a;)
        if (l.args[a] == l.args[b]) mergeArgs(l, int32_t(a), int32_t(b));
}

void reuseOperands(Program &p, Plan &plan) {
  std::vector<Users> users = usersOf(p);
  std::vector<char> taken(p.buffers.size(), 0);
  for (BufferId b = 0; b < BufferId(p.buffers.size()); ++b)
    if (plan.alias[b] != b || p.buffers[b].life != Life::Transient)
      taken[b] = taken[plan.alias[b]] = 1;
  for (const ProgramResult &r : p.results) taken[r.buffer] = 1;

  auto lastUse = [&](BufferId u, int launch) {
    return !taken[u] && users[u].readers == std::vector<int>{launch};
  };
  for (int l = 0; l < int(p.launches.size()); ++l) {
    const std::vector<BufferId> args = p.launches[l].args;
    for (BufferId v : args) {
      if (plan.alias[v] != v || p.buffers[v].life != Life::Transient) continue;
      if (users[v].writers != std::vector<int>{l}) continue;
      for (BufferId u : args) {
        if (u == v || !lastUse(u, l) || p.buffers[u].type != p.buffers[v].type) continue;
        if (p.buffers[u].layout != p.buffers[v].layout) continue;
        if (!writersAgree(p, {l}, u, v)) continue;
        share(p, plan, {l}, u, v);
        taken[u] = 1;
        break;
      }
    }
  }
}

} // namespace nnc::cg
