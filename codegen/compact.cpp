// Compaction: a kernel without what fusion tried and left.
//
// Expressions, arguments and axes that nothing uses are dropped, the rest is numbered in order of
// first use from the stages. So two kernels that mean the same, reached on different ways, get the
// same text, and one compiled function.
#include "codegen/fuse.h"

namespace nnc::cg {

namespace {

struct Compactor {
  const Launch &from;
  Launch to;
  std::map<AxisId, AxisId> axes;
  std::map<ExprId, ExprId> exprs;
  std::map<AtomId, AtomId> atoms;
  std::map<int32_t, int32_t> args;
  std::map<int32_t, int32_t> stages;

  const Kernel &k() const { return from.kernel; }
  bool isChain() const { return k().cls == KernelClass::Chain; }

  AxisId axis(AxisId a) {
    if (a < 0) return a;
    if (auto it = axes.find(a); it != axes.end()) return it->second;
    Axis x = k().axes[a];
    if (x.bounded) x.base = index(x.base);
    to.kernel.axes.push_back(x);
    return axes[a] = AxisId(to.kernel.axes.size()) - 1;
  }

  AtomId atom(AtomId id) {
    if (auto it = atoms.find(id); it != atoms.end()) return it->second;
    Atom a = k().atoms[id];
    switch (a.kind) {
    case Atom::Axis: a.axis = axis(a.axis); break;
    case Atom::Div:
    case Atom::Mod: a.inner = index(a.inner); break;
    case Atom::Value: a.value = expr(a.value); break;
    }
    return atoms[id] = to.kernel.atom(a);
  }

  Index index(const Index &x) {
    Index r;
    r.c0 = x.c0;
    r.cn = x.cn;
    for (const Term &t : x.terms) {
      Index one;
      one.terms.push_back({atom(t.atom), t.coef});
      r = r + one; // keeps the terms sorted by their new numbers
    }
    return r;
  }

  std::vector<Guard> guards(const std::vector<Guard> &gs) {
    std::vector<Guard> r = gs;
    for (Guard &g : r) g.index = index(g.index);
    return r;
  }

  int32_t arg(int32_t a, bool write) {
    if (a < 0) return a;
    auto [it, isNew] = args.try_emplace(a, int32_t(to.args.size()));
    if (isNew) {
      to.args.push_back(from.args[a]);
      to.kernel.args.push_back({k().args[a].dtype, k().args[a].dims, false, false});
    }
    (write ? to.kernel.args[it->second].written : to.kernel.args[it->second].read) = true;
    return it->second;
  }

  Access access(const Access &a, bool write) {
    Access r;
    r.arg = arg(a.arg, write);
    r.flat = index(a.flat);
    r.guards = guards(a.guards);
    return r;
  }

  ExprId expr(ExprId id) {
    if (id < 0) return id;
    if (auto it = exprs.find(id); it != exprs.end()) return it->second;
    Expr e = k().exprs[id];
    for (ExprId &x : e.args) x = expr(x);
    if (e.op == SOp::load) e.access = access(e.access, false);
    if (e.op == SOp::index || e.op == SOp::random) e.index = index(e.index);
    if (e.op == SOp::guard) e.guards = guards(e.guards);
    if (e.op == SOp::local || (e.op == SOp::acc && isChain())) e.stage = stages.at(e.stage);
    return exprs[id] = to.kernel.expr(std::move(e));
  }

  std::vector<AxisId> list(const std::vector<AxisId> &in) {
    std::vector<AxisId> r;
    for (AxisId a : in) r.push_back(axis(a));
    return r;
  }

  // Stages that store, or leave a local that such a stage reads.
  std::vector<char> liveStages() {
    std::vector<char> live(k().stages.size(), 0);
    for (size_t i = live.size(); i-- > 0;) {
      live[i] |= !k().stages[i].stores.empty();
      if (!live[i]) continue;
      std::vector<ExprId> work{k().stages[i].body};
      if (isChain() && k().chain.steps[i].b >= 0) work.push_back(k().chain.steps[i].b);
      std::vector<char> seen(k().exprs.size(), 0);
      auto fromIndex = [&](auto &&self, const Index &x) -> void {
        for (const Term &t : x.terms) {
          const Atom &a = k().atoms[t.atom];
          if (a.kind == Atom::Value) work.push_back(a.value);
          if (a.kind == Atom::Div || a.kind == Atom::Mod) self(self, a.inner);
        }
      };
      while (!work.empty()) {
        ExprId e = work.back();
        work.pop_back();
        if (seen[e]++) continue;
        const Expr &x = k().exprs[e];
        if (x.op == SOp::local || (x.op == SOp::acc && isChain())) live[x.stage] = 1;
        work.insert(work.end(), x.args.begin(), x.args.end());
        if (x.op == SOp::load) fromIndex(fromIndex, x.access.flat);
        if (x.op == SOp::index || x.op == SOp::random) fromIndex(fromIndex, x.index);
      }
    }
    return live;
  }

  void addStages() {
    std::vector<char> live = liveStages();
    for (size_t i = 0; i < live.size(); ++i) {
      if (!live[i]) continue;
      const Stage &s = k().stages[i];
      Stage r = s;
      r.loop = list(s.loop);
      r.reduce = list(s.reduce);
      r.body = expr(s.body);
      if (isChain()) {
        ChainStep step = k().chain.steps[i];
        step.b = expr(step.b);
        to.kernel.chain.steps.push_back(step);
      }
      for (Store &t : r.stores) t.access = access(t.access, true);
      stages[int32_t(i)] = int32_t(to.kernel.stages.size());
      to.kernel.stages.push_back(std::move(r));
    }
  }

  void run() {
    Kernel &t = to.kernel;
    t.cls = k().cls;
    t.batch = k().batch;
    t.name = k().name;
    t.loc = k().loc;
    t.meaning = k().meaning;
    t.parallel = list(k().parallel);
    if (t.cls == KernelClass::Contract) {
      const ContractInfo &c = k().contract;
      t.contract = {list(c.batch), list(c.m), list(c.n), list(c.k), -1, -1, c.type};
      t.contract.a = expr(c.a);
      t.contract.b = expr(c.b);
    }
    if (t.cls == KernelClass::ScatterAdd) {
      const ScatterInfo &c = k().scatter;
      t.scatter = {list(c.outer), list(c.tokens), list(c.inner), c.rows, -1, -1, c.type, 0,
                   axis(c.row)};
      t.scatter.index = expr(c.index);
      t.scatter.update = expr(c.update);
      t.scatter.arg = arg(c.arg, true);
    }
    if (t.cls == KernelClass::Sort) {
      const SortInfo &c = k().sort;
      t.sort.axis = axis(c.axis);
      t.sort.descending = c.descending;
      t.sort.value = expr(c.value);
      t.sort.type = c.type;
      t.sort.values.arg = t.sort.indices.arg = -1;
      if (c.values.arg >= 0) t.sort.values = access(c.values, true);
      if (c.indices.arg >= 0) t.sort.indices = access(c.indices, true);
    }
    if (isChain()) {
      const ChainInfo &c = k().chain;
      t.chain.outer = list(c.outer);
      t.chain.row = axis(c.row), t.chain.col = axis(c.col);
      t.chain.type = c.type;
    }
    addStages();
  }
};

} // namespace

void compact(Launch &l) {
  if (l.loop) return;
  Compactor c{l, {}, {}, {}, {}, {}, {}};
  c.run();
  c.to.function = l.function;
  l = std::move(c.to);
}

} // namespace nnc::cg
