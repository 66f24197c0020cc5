// From kernels over buffers to a step table.
//
//   launches [dX, dW+update, ..]  ->  steps [dX | barrier, dW+update in place | ..], offsets
//
// Method. One pass after the other, each of which only adds to the plan:
//   1. results are bound to their persistent value, in place where legal (inplace.cpp);
//   2. the launches are ordered, old values being read before they are overwritten (order.cpp);
//   3. transients are written over operands that die there; what was not bound is copied at last;
//   4. short kernels stay on one thread; barriers where alignment is not proven (align.cpp);
//   5. buffers get offsets, by lifetime in units of barriers (memory.cpp);
//   6. the bodies of loops, planned before all this, take their place among the steps
//      (plan_loop.cpp).
// checkHazards (hazard.cpp) replays the result and believes none of this.
#include "codegen/planning.h"
#include "codegen/touched.h"
#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace nnc::cg {

BufferId rootOf(const Plan &plan, BufferId b) {
  while (plan.alias[b] != b) b = plan.alias[b];
  return b;
}

int64_t bytesOf(const Buffer &b, int64_t batch) {
  return placesOf(b.layout, b.type.dims, batch) * ir::dtypeBytes(b.type.dtype);
}

PersistentLayout layoutPersistent(const ir::Module &m, bool padded) {
  PersistentLayout layout;
  layout.layouts = chooseLayouts(m, padded);
  for (const ir::Persistent &p : m.persistents) {
    layout.offset[p.name] = layout.bytes;
    auto own = layout.layouts.find(p.name);
    const Layout &l = own == layout.layouts.end() ? Layout{} : own->second;
    int64_t bytes = placesOf(l, p.type.dims, 1) * ir::dtypeBytes(p.type.dtype);
    layout.bytes += (bytes + 63) / 64 * 64;
  }
  return layout;
}

namespace {

// --- copies --------------------------------------------------------------------------------------

// An elementwise kernel: arg1 = arg0. One layout: over the places in memory; two: over the logical
// index, each side through its own layout.
Kernel copyKernel(const Buffer &from, const Buffer &to, int64_t batch, int lanes) {
  Kernel k;
  k.batch = batch;
  const ir::Type &type = from.type;
  bool flat = from.layout == to.layout;
  int64_t count = placesOf(from.layout, type.dims, batch);
  KernelArg arg{type.dtype, {}, true, false};
  if (!type.dims.empty()) arg.dims = {Dim(count)};
  k.args = {arg, arg};
  k.args[1].read = false, k.args[1].written = true;
  Stage s;
  s.type = ir::widened(type.dtype);
  Store store;
  store.access.arg = 1;
  Expr load;
  load.op = SOp::load;
  load.type = s.type;
  if (!flat) {
    std::vector<Index> at;
    for (Dim d : type.dims) {
      k.parallel.push_back(k.axis("", d));
      at.push_back(k.axisIndex(k.parallel.back()));
    }
    store.access.flat = placeOf(k, to.layout, type.dims, at, batch);
    load.access.flat = placeOf(k, from.layout, type.dims, at, batch);
    k.schedule.items = {{k.parallel.front(), 1}};
    k.schedule.vec = k.parallel.back();
  } else if (count != 1) {
    AxisId i = k.axis("i", count);
    k.parallel = {i};
    store.access.flat = k.axisIndex(i);
    k.schedule.items = {{i, std::max<int64_t>(4096, (count / 256 + 63) / 64 * 64)}};
    k.schedule.vec = i;
  }
  k.schedule.lanes = lanes;
  if (flat) load.access = store.access;
  load.access.arg = 0;
  s.body = k.expr(load);
  s.stores = {store};
  k.stages = {s};
  k.name = "copy";
  return k;
}

// Of the target, as its schedules say: some kernels take several vectors for one.
int lanesOf(const Program &p) {
  int lanes = 16;
  for (const Launch &l : p.launches)
    lanes = std::min(lanes, l.loop ? lanesOf(l.loop->body) : l.kernel.schedule.lanes);
  return lanes;
}

struct Copier {
  Program &p;
  Plan &plan;
  std::unordered_map<std::string, BufferId> persistents = {};

  void copy(BufferId from, BufferId to) {
    int lanes = lanesOf(p);
    Launch l;
    l.kernel = copyKernel(p.buffers[from], p.buffers[to], p.batch, lanes);
    l.kernel.name = p.buffers[to].name + " (copy)";
    l.args = {from, to};
    p.launches.push_back(std::move(l));
  }

  // The content of `from` in memory that nothing overwrites.
  BufferId save(BufferId from) {
    Buffer b;
    b.name = p.buffers[from].name + ".old";
    b.type = p.buffers[from].type;
    b.layout = p.buffers[from].layout;
    p.buffers.push_back(b);
    BufferId to = BufferId(p.buffers.size()) - 1;
    plan.alias.push_back(to);
    copy(from, to);
    return to;
  }

  BufferId persistent(const std::string &name) const {
    auto it = persistents.find(name);
    return it == persistents.end() ? -1 : it->second;
  }

  // Results that are themselves old values of overwritten persistents (a swap, or an old weight
  // that is also reported) are saved first; then every result goes to its place.
  void run(const std::vector<int> &copies) {
    if (copies.empty()) return;
    for (BufferId b = 0; b < BufferId(p.buffers.size()); ++b)
      if (p.buffers[b].life == Life::Persistent) persistents.emplace(p.buffers[b].persistent, b);
    std::unordered_set<BufferId> overwritten;
    for (int c : copies) overwritten.insert(persistent(p.results[c].name));
    for (size_t i = 0; i < p.results.size(); ++i) {
      ProgramResult &r = p.results[i];
      bool own = r.bind && persistent(r.name) == r.buffer;
      if (!own && overwritten.count(r.buffer))
        r.buffer = save(r.buffer);
    }
    for (int c : copies) copy(p.results[c].buffer, persistent(p.results[c].name));
  }
};

// --- inputs --------------------------------------------------------------------------------------

// Every unbound parameter has a buffer, also one that no kernel reads: the runtime fills it.
void ensureInputs(Program &p, Plan &plan) {
  if (!p.function) return;
  int32_t index = 0;
  for (const ir::Param &param : p.function->params) {
    if (!param.bind.empty()) continue;
    bool found = std::any_of(p.buffers.begin(), p.buffers.end(), [&](const Buffer &b) {
      return b.life == Life::Input && b.input == index;
    });
    if (!found) {
      Buffer b;
      b.name = p.function->values[param.value.i].name;
      b.type = p.function->type(param.value);
      b.life = Life::Input;
      b.input = index;
      p.buffers.push_back(b);
      plan.alias.push_back(BufferId(p.buffers.size()) - 1);
    }
    ++index;
  }
}

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Offsets of everything but transients. Those of a body that are relative to the enclosing
// program's buffers are known already.
void placeFixed(const Program &p, Plan &plan, const PersistentLayout &persistent) {
  plan.place.resize(p.buffers.size());
  std::vector<BufferId> inputs;
  int64_t constants = 0;
  for (BufferId b = 0; b < BufferId(p.buffers.size()); ++b) {
    const Buffer &buffer = p.buffers[b];
    plan.place[b].region = buffer.life;
    if (buffer.life == Life::Input) inputs.push_back(b);
    if (buffer.life == Life::Persistent) {
      auto it = persistent.offset.find(buffer.persistent);
      NNC_CHECK(it != persistent.offset.end(), "no persistent value " + buffer.persistent);
      plan.place[b].offset = it->second;
    }
    if (buffer.life == Life::Constant) {
      plan.place[b].offset = constants;
      constants += aligned(bytesOf(buffer, p.batch));
    }
  }
  std::sort(inputs.begin(), inputs.end(),
            [&](BufferId x, BufferId y) { return p.buffers[x].input < p.buffers[y].input; });
  for (BufferId b : inputs) {
    plan.place[b].offset = plan.inputBytes;
    plan.inputBytes += aligned(bytesOf(p.buffers[b], p.batch));
  }
}

void makeSteps(const Program &p, Plan &plan, const PlanOptions &o, bool cyclic) {
  for (size_t l = 0; l < p.launches.size(); ++l) {
    Step s;
    s.kernel = int32_t(l);
    plan.steps.push_back(s);
    plan.scratchBytes = std::max(plan.scratchBytes, p.launches[l].kernel.schedule.scratchBytes);
  }
  if (!o.allBarriers) {
    markSingles(p, plan, o.single);
    placeBarriers(p, plan, cyclic);
    return;
  }
  for (size_t i = cyclic ? 0 : 1; i < plan.steps.size(); ++i) plan.steps[i].barrierBefore = true;
}

} // namespace

void orderLaunches(Program &p, const Edges &edges) {
  std::vector<Launch> launches;
  launches.reserve(p.launches.size());
  for (int l : topologicalOrder(edges)) launches.push_back(std::move(p.launches[l]));
  p.launches = std::move(launches);
}

void finishPlan(Program &p, Plan &plan, const PersistentLayout &persistent, const PlanOptions &o,
                bool cyclic) {
  makeSteps(p, plan, o, cyclic);
  placeFixed(p, plan, persistent);
  placeTransients(p, plan, o.reuse, cyclic);
  for (BufferId b = 0; b < BufferId(p.buffers.size()); ++b)
    plan.place[b] = plan.place[rootOf(plan, b)];
  for (Step &s : plan.steps)
    for (BufferId b : p.launches[s.kernel].args) s.args.push_back(plan.place[b]);
  inlineLoops(p, plan);
}

Plan plan(Program &p, const PersistentLayout &persistent, const PlanOptions &o) {
  Plan plan;
  for (BufferId b = 0; b < BufferId(p.buffers.size()); ++b) plan.alias.push_back(b);
  planLoops(p, plan, o);
  mergeEqualArgs(p);
  std::vector<Users> users = usersOf(p);
  Edges edges = dataEdges(p, users);
  std::vector<int> copies = bindInPlace(p, plan, users, edges, o.inPlace, persistent.layouts);
  orderLaunches(p, edges);
  if (o.inPlace && o.reuse) reuseOperands(p, plan);
  forEachKernel(p, [](Kernel &k) { k.scatter.touched = keepsUntouchedRows(k); });
  Copier{p, plan}.run(copies);
  ensureInputs(p, plan);
  finishPlan(p, plan, persistent, o, false);
  fillBill(p, plan);
  return plan;
}

} // namespace nnc::cg
