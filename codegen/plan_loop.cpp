// Loops in a plan.
//
// Problem. A scan is a loop over kernels. Its body reads slices, stacks results and carries values
// from one round to the next; iterations may overlap on different threads as far as no barrier
// parts them, and a carry must not be overwritten while somebody still reads it:
//   z = h w         every item reads all of h
//   h' = tanh(z)    must not go over h without a barrier; over another memory it may
//
// Method. The body is planned like a step of its own, first. A carry is written in place by the
// rule for weights (inplace.cpp); where that is not legal, two memories take turns, round by round,
// and nothing is copied. Barriers and lifetimes are those of a step that follows itself (align.cpp,
// memory.cpp). To the enclosing program the loop is one operation that conflicts with everything it
// touches; the body's transients are one buffer of it, the workspace. When the enclosing program
// has its offsets, the body's steps take the loop's place (inlineLoops).
//
// The two memories of a carry, `first` and `final`, and where the last round leaves it:
//   in place           final is first
//   length odd         in(0) = first, out(0) = final, ..         ends in final
//   length even        in(0) = first, out(0) = spare, ..         ends in first, and final is first
#include "codegen/pack.h"
#include "codegen/planning.h"
#include <algorithm>
#include <numeric>

namespace nnc::cg {

namespace {

BufferId addBuffer(Program &p, Plan &plan, Buffer b) {
  p.buffers.push_back(std::move(b));
  plan.alias.push_back(BufferId(p.buffers.size()) - 1);
  return plan.alias.back();
}

void touch(Launch &l, const Program &p, BufferId b, bool read, bool written) {
  auto it = std::find(l.args.begin(), l.args.end(), b);
  size_t i = size_t(it - l.args.begin());
  if (it == l.args.end()) {
    l.args.push_back(b);
    l.kernel.args.push_back({p.buffers[b].type.dtype, p.buffers[b].type.dims, false, false});
  }
  l.kernel.args[i].read |= read;
  l.kernel.args[i].written |= written;
}

// Where the carry lies, in the body and around it.
void placeCarry(Program &p, Plan &plan, Launch &l, Loop::Carry &c, bool inPlace) {
  Loop &loop = *l.loop;
  Program &body = loop.body;
  p.buffers[c.final].view = c.initial;
  if (c.out >= 0) body.buffers[c.out].view = c.in;
  if (c.out >= 0) touch(l, p, c.initial, true, true);
  bool turns = c.out >= 0 && !inPlace;
  if (!turns || loop.length % 2 == 0) plan.alias[c.final] = c.initial;
  if (!turns) return;
  BufferId second = c.final;
  if (loop.length % 2 == 0) {
    Buffer spare;
    spare.name = p.buffers[c.final].name + ".turn";
    spare.type = p.buffers[c.final].type;
    spare.view = c.initial;
    second = addBuffer(p, plan, spare);
  }
  p.buffers[second].pinned = p.buffers[c.initial].pinned = true;
  touch(l, p, second, false, true); // what it reads there, it wrote
  body.buffers[c.out].life = Life::Outer;
  loop.plan.place[c.in].outer = loop.plan.place[c.out].other = c.initial;
  loop.plan.place[c.in].other = loop.plan.place[c.out].outer = second;
}

// Parts of the enclosing program's buffers, in the order of the rounds.
void placeParts(Loop &loop) {
  for (BufferId b = 0; b < BufferId(loop.body.buffers.size()); ++b) {
    const Buffer &buffer = loop.body.buffers[b];
    if (buffer.life != Life::Outer) continue;
    PlannedArg &at = loop.plan.place[b];
    at.outer = buffer.outer;
    if (buffer.slice == 0) continue;
    int64_t step = loop.reverse ? -buffer.slice : buffer.slice;
    at.offset = loop.reverse ? (loop.length - 1) * buffer.slice : 0;
    at.advances = {{-1, step, step}};
  }
}

// Rows of a step's products, and the same rows in the pointwise kernels between them: if all items
// have equally many, each row stays with its thread for all rounds, and nobody waits for anybody.
void alignItems(Program &body) {
  std::vector<Launch *> products;
  Dim rows;
  int64_t block = 0, tile = 1;
  for (Launch &l : body.launches) {
    const Schedule &s = l.kernel.schedule;
    if (l.loop || l.kernel.cls != KernelClass::Contract || s.items.size() != 1 || isShort(l.kernel))
      continue;
    const Dim extent = l.kernel.axes[size_t(s.items[0].axis)].extent;
    if (products.empty()) rows = extent;
    if (extent != rows) continue;
    if (s.items[0].axis == s.row) tile = std::lcm(tile, int64_t(s.mr));
    if (s.items[0].axis == s.col) tile = std::lcm(tile, s.items[0].block);
    block = std::max(block, s.items[0].block);
    products.push_back(&l);
  }
  if (products.empty()) return;
  block = (block + tile - 1) / tile * tile;
  if (block >= rows.at(std::max<int64_t>(body.batch, 1))) return;
  for (Launch *l : products) {
    Kernel &k = l->kernel;
    k.schedule.items[0].block = block;
    k.schedule.scratchBytes = contractScratch(k); // copies of operands are as large as items
  }
  for (Launch &l : body.launches) {
    Kernel &k = l.kernel;
    if (l.loop || k.cls != KernelClass::Loops || k.parallel.size() < 2) continue;
    if (k.axes[size_t(k.parallel[0])].extent != rows || k.schedule.vec == k.parallel[0]) continue;
    k.schedule.items = {{k.parallel[0], block}};
    l.spread = true;
  }
}

void planBody(Program &p, Plan &outer, Launch &l, const PlanOptions &o) {
  Loop &loop = *l.loop;
  Program &body = loop.body;
  Plan &plan = loop.plan;
  for (BufferId b = 0; b < BufferId(body.buffers.size()); ++b) plan.alias.push_back(b);
  planLoops(body, plan, o);
  alignItems(body);
  mergeEqualArgs(body);
  std::vector<Users> users = usersOf(body);
  Edges edges = dataEdges(body, users);
  plan.place.assign(body.buffers.size(), {});
  placeParts(loop);
  size_t result = 0;
  for (Loop::Carry &c : loop.carries) {
    bool inPlace = c.out >= 0 && o.inPlace && bindResult(body, plan, users, edges, result, c.in);
    if (c.out >= 0) ++result;
    placeCarry(p, outer, l, c, inPlace);
  }
  orderLaunches(body, edges);
  if (o.inPlace && o.reuse) reuseOperands(body, plan);
  finishPlan(body, plan, {}, o, true);
  body.results.clear();
  if (plan.transientBytes > 0) {
    Buffer workspace;
    workspace.name = l.kernel.name + ".workspace";
    workspace.type = {DType::u8, {Dim(plan.transientBytes)}};
    loop.workspace = addBuffer(p, outer, workspace);
    touch(l, p, loop.workspace, false, true);
  }
}

// --- the body's steps in the loop's place --------------------------------------------------------

class Inliner {
 public:
  Inliner(Program &p, Plan &plan) : p_(p), plan_(plan) {}

  void run() {
    std::vector<Step> steps = std::move(plan_.steps);
    std::vector<Launch> launches = std::move(p_.launches);
    plan_.steps.clear(), p_.launches.clear();
    bool barrier = false; // of a loop that has no steps
    for (Step &s : steps) {
      s.barrierBefore |= barrier;
      Launch &l = launches[size_t(s.kernel)];
      barrier = l.loop && (l.loop->plan.steps.empty() || l.loop->length == 0) && s.barrierBefore;
      if (l.loop)
        inlineLoop(s, l);
      else
        addStep(std::move(s), std::move(l));
    }
  }

 private:
  Program &p_;
  Plan &plan_;
  int32_t loop_ = -1;       // the loop at hand
  BufferId base_ = 0;       // of the body's buffers
  const Loop *now_ = nullptr;

  void addStep(Step s, Launch l) {
    s.kernel = int32_t(p_.launches.size());
    p_.launches.push_back(std::move(l));
    plan_.steps.push_back(std::move(s));
  }

  int32_t loopIndex(int32_t inBody) const { return inBody + loop_ + 1; } // -1: the loop itself

  PlannedArg resolve(const PlannedArg &at) const {
    PlannedArg r;
    r.region = at.region;
    if (at.region == Life::Transient && now_->workspace < 0) return r; // unused
    if (at.region == Life::Transient) r = plan_.place[now_->workspace];
    if (at.region == Life::Outer) r = plan_.place[at.outer];
    r.offset += at.offset;
    for (Advance a : at.advances) {
      a.loop = loopIndex(a.loop);
      r.advances.push_back(a);
    }
    if (at.other < 0) return r;
    const PlannedArg &one = plan_.place[at.outer], &two = plan_.place[at.other];
    NNC_CHECK(one.region == two.region, "a carry's two memories lie in different regions");
    int64_t apart = two.offset - one.offset;
    r.advances.push_back({loop_, apart, -apart});
    return r;
  }

  void addBuffers() {
    const Program &body = now_->body;
    const Plan &inner = now_->plan;
    base_ = BufferId(p_.buffers.size());
    for (BufferId b = 0; b < BufferId(body.buffers.size()); ++b) {
      Buffer copy = body.buffers[b];
      const PlannedArg &at = inner.place[b];
      plan_.alias.push_back(inner.alias[b] + base_);
      plan_.place.push_back(resolve(at));
      if (copy.view >= 0) copy.view += base_;
      if (copy.life == Life::Outer && inner.alias[b] == b)
        plan_.alias.back() = copy.view = at.outer;
      p_.buffers.push_back(std::move(copy));
    }
  }

  void inlineLoop(const Step &s, Launch &l) {
    if (l.loop->plan.steps.empty() || l.loop->length == 0) return;
    now_ = l.loop.get();
    Loop &loop = *l.loop;
    loop_ = int32_t(plan_.loops.size());
    int32_t first = int32_t(plan_.steps.size());
    addBuffers();
    plan_.loops.push_back({first, first + int32_t(loop.plan.steps.size()), -1, loop.length,
                           loop.reverse, s.barrierBefore, l.kernel.name, l.kernel.loc});
    for (PlannedLoop inner : loop.plan.loops) {
      inner.first += first, inner.end += first, inner.parent = loopIndex(inner.parent);
      plan_.loops.push_back(inner);
    }
    for (Step inner : loop.plan.steps) {
      inner.loop = loopIndex(inner.loop);
      Launch kernel = std::move(loop.body.launches[size_t(inner.kernel)]);
      inner.args.clear();
      for (BufferId &b : kernel.args) {
        b += base_;
        inner.args.push_back(plan_.place[b]);
      }
      addStep(std::move(inner), std::move(kernel));
    }
    plan_.scratchBytes = std::max(plan_.scratchBytes, loop.plan.scratchBytes);
  }
};

} // namespace

void planLoops(Program &p, Plan &plan, const PlanOptions &o) {
  for (Launch &l : p.launches)
    if (l.loop) planBody(p, plan, l, o);
}

void inlineLoops(Program &p, Plan &plan) {
  bool any =
      std::any_of(p.launches.begin(), p.launches.end(), [](auto &l) { return bool(l.loop); });
  if (any) Inliner(p, plan).run();
}

} // namespace nnc::cg
