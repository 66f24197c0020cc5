// The planner on programs made by hand: order, in-place updates, copies, barriers, memory.
#include "codegen/planning.h"
#include "tests/plan_helpers.h"
#include <catch2/catch.hpp>

using namespace nnc;
using namespace nnc::cg;
using nnc::test::ProgramMaker;

namespace {

const ir::Dims kRows = {ir::Dim::batch(), 4096}, kWeights = {32, 512};

std::vector<std::string> names(const Program &p, const Plan &plan) {
  std::vector<std::string> list;
  for (const Step &s : plan.steps) list.push_back(p.launches[s.kernel].kernel.name);
  return list;
}

std::string checked(const Program &p, const Plan &plan) {
  for (int64_t n : {p.batch, int64_t(1), p.batch - 1})
    if (std::string e = checkHazards(p, plan, n); !e.empty()) return e;
  return "";
}

// dX = W; W' = W + dW; other uses of W stand where `late` says.
struct Update {
  ProgramMaker m;
  BufferId w, x, dx, w1;
  explicit Update(bool readerLast) {
    w = m.buffer("W", kWeights, Life::Persistent);
    x = m.buffer("X", kWeights, Life::Input);
    dx = m.buffer("dX", kWeights);
    w1 = m.buffer("W.1", kWeights);
    if (!readerLast) m.gatherAll("dX", w, dx);
    m.elementwise("update", {w, x}, w1);
    if (readerLast) m.gatherAll("dX", w, dx);
    m.bind("W", w1);
    m.result("dX", dx);
  }
};

} // namespace

TEST_CASE("plan: an update in place comes after all readers of the old value") {
  for (bool readerLast : {false, true}) {
    Update u(readerLast);
    Plan plan = cg::plan(u.m.p, u.m.layout());
    CHECK(names(u.m.p, plan) == std::vector<std::string>{"dX", "update"});
    CHECK(rootOf(plan, u.w1) == u.w);
    CHECK(plan.place[u.w1].region == Life::Persistent);
    CHECK(plan.steps[1].barrierBefore); // dX reads all of W
    CHECK(checked(u.m.p, plan) == "");
    // W and W.1 are one argument now.
    const Launch &update = u.m.p.launches[plan.steps[1].kernel];
    REQUIRE(update.args.size() == 2);
    CHECK(update.kernel.args[0].read != update.kernel.args[0].written);
    CHECK((update.kernel.args[1].read && update.kernel.args[1].written));
    CHECK(verify(update.kernel) == "");
  }
}

TEST_CASE("plan: without in-place updates results are copied at the end") {
  Update u(true);
  PlanOptions o;
  o.inPlace = o.reuse = false;
  Plan plan = cg::plan(u.m.p, u.m.layout(), o);
  CHECK(names(u.m.p, plan) == std::vector<std::string>{"update", "dX", "W (copy)"});
  CHECK(plan.place[u.w1].region == Life::Transient);
  CHECK(checked(u.m.p, plan) == "");
}

TEST_CASE("plan: a reader that needs the new value forces a copy") {
  // late = old W + new W cannot come before the update.
  ProgramMaker m;
  BufferId w = m.buffer("W", kWeights, Life::Persistent), w1 = m.buffer("W.1", kWeights);
  BufferId late = m.buffer("late", kWeights);
  m.elementwise("update", {w, w}, w1);
  m.elementwise("late", {w, w1}, late);
  m.bind("W", w1);
  m.result("late", late);
  Plan plan = cg::plan(m.p, m.layout());
  CHECK(names(m.p, plan) == std::vector<std::string>{"update", "late", "W (copy)"});
  CHECK(checked(m.p, plan) == "");
}

TEST_CASE("plan: a buffer that a kernel takes twice becomes one argument") {
  ProgramMaker m;
  BufferId w = m.buffer("W", kWeights, Life::Persistent), w1 = m.buffer("W.1", kWeights);
  m.elementwise("update", {w, w}, w1);
  m.bind("W", w1);
  Plan plan = cg::plan(m.p, m.layout());
  REQUIRE(plan.steps.size() == 1);
  CHECK(m.p.launches[0].args == std::vector<BufferId>{w1});
  CHECK(rootOf(plan, w1) == w);
  CHECK(checked(m.p, plan) == "");
}

TEST_CASE("plan: a kernel that reads all of the old value does not write over it") {
  ProgramMaker m;
  BufferId w = m.buffer("W", kWeights, Life::Persistent), w1 = m.buffer("W.1", kWeights);
  m.gatherAll("normalise", w, w1);
  m.bind("W", w1);
  Plan plan = cg::plan(m.p, m.layout());
  CHECK(names(m.p, plan) == std::vector<std::string>{"normalise", "W (copy)"});
  CHECK(checked(m.p, plan) == "");
}

TEST_CASE("plan: a later stage that reads the old value forbids the update in place") {
  // s0 stores m' over m; s1 reads m: in the same block, in a reduction that follows, or in one that
  // comes first.
  enum Form { sameBlock, later, earlier };
  for (Form form : {sameBlock, later, earlier}) {
    ProgramMaker m;
    BufferId old = m.buffer("m", kWeights, Life::Persistent), m1 = m.buffer("m.1", kWeights);
    BufferId w = m.buffer("w", kWeights);
    Launch l;
    Kernel &k = l.kernel;
    AxisId r = m.start(k, "adam", w), c = k.axis("c", kWeights[1]), once = k.axis("once", 2);
    k.parallel = {r, c};
    k.schedule.items = {{r, 1}};
    Index at = k.axisIndex(r) * 512 + k.axisIndex(c);
    int32_t a = m.take(l, old, false), b = m.take(l, m1, true), out = m.take(l, w, true);
    ExprId x = ProgramMaker::load(k, a, at);
    k.stages = {ProgramMaker::stage(ProgramMaker::add(k, x, x), b, at),
                ProgramMaker::stage(x, out, at)};
    if (form != sameBlock) k.stages[1].combine = Combine::sum, k.stages[1].reduce = {once};
    if (form == earlier) std::swap(k.stages[0], k.stages[1]);
    m.finish(std::move(l));
    m.bind("m", m1);
    m.result("w", w);
    Plan plan = cg::plan(m.p, m.layout());
    CHECK((rootOf(plan, m1) == old) == (form != later));
    CHECK(checked(m.p, plan) == "");
  }
}

TEST_CASE("plan: persistent values can be swapped, kept and reported") {
  ProgramMaker m;
  BufferId a = m.buffer("a", kWeights, Life::Persistent),
           b = m.buffer("b", kWeights, Life::Persistent);
  BufferId c = m.buffer("c", kWeights, Life::Persistent), c1 = m.buffer("c.1", kWeights);
  m.elementwise("update", {c, c}, c1);
  m.bind("a", b), m.bind("b", a), m.bind("c", c1);
  m.result("old c", c);
  Plan plan = cg::plan(m.p, m.layout());
  CHECK(checked(m.p, plan) == "");
  CHECK(m.p.results[3].buffer != c); // saved before it is overwritten
}

TEST_CASE("plan: a result for a persistent value that the function does not read") {
  ProgramMaker m;
  BufferId x = m.buffer("x", kWeights, Life::Input), w = m.buffer("w", kWeights);
  m.elementwise("init", {x}, w);
  m.bind("net/w", w);
  Plan plan = cg::plan(m.p, m.layout());
  CHECK(plan.steps.size() == 1);
  CHECK(plan.place[w].region == Life::Persistent);
  CHECK(checked(m.p, plan) == "");
}

TEST_CASE("plan: item-aligned kernels need no barrier, others do") {
  ProgramMaker m;
  BufferId x = m.buffer("x", kRows, Life::Input), y = m.buffer("y", kRows),
           z = m.buffer("z", kRows);
  BufferId u = m.buffer("u", kRows), v = m.buffer("v", kRows);
  m.elementwise("y", {x}, y);
  m.elementwise("z", {y, x}, z);
  m.elementwise("u", {y, z}, u, 2); // other items
  m.gatherAll("v", u, v);
  m.result("v", v);
  PlanOptions o;
  o.reuse = false;
  Plan plan = cg::plan(m.p, m.layout(), o);
  std::vector<bool> barriers;
  for (const Step &s : plan.steps) barriers.push_back(s.barrierBefore);
  CHECK(barriers == std::vector<bool>{false, false, true, true});
  CHECK(checked(m.p, plan) == "");
}

TEST_CASE("plan: buffers share memory only across a barrier") {
  ProgramMaker m;
  BufferId at = m.buffer("x", kRows, Life::Input);
  for (int i = 0; i < 6; ++i) {
    BufferId next = m.buffer("t" + std::to_string(i), kRows);
    m.gatherAll("t" + std::to_string(i), at, next);
    at = next;
  }
  m.result("y", at);
  int64_t one = 8 * 4096 * 4;
  Plan plan = cg::plan(m.p, m.layout());
  CHECK(plan.transientBytes == 2 * one);
  CHECK(checked(m.p, plan) == "");
}

TEST_CASE("plan: a value is written over an operand that dies there") {
  ProgramMaker m;
  BufferId x = m.buffer("x", kRows, Life::Input), y = m.buffer("y", kRows),
           z = m.buffer("z", kRows);
  m.elementwise("y", {x}, y);
  m.elementwise("z", {y, x}, z);
  m.result("z", z);
  Plan plan = cg::plan(m.p, m.layout());
  CHECK(plan.alias[z] == y);
  CHECK(plan.transientBytes == 8 * 4096 * 4);
  CHECK(checked(m.p, plan) == "");
}

TEST_CASE("plan: short kernels run on one thread, without barriers between them") {
  ProgramMaker m;
  const ir::Dims tiny = {4, 4};
  BufferId x = m.buffer("x", tiny, Life::Input), y = m.buffer("y", tiny), z = m.buffer("z", tiny);
  m.gatherAll("y", x, y);
  m.gatherAll("z", y, z);
  BufferId big = m.buffer("big", kWeights), out = m.buffer("out", kWeights);
  m.gatherAll("big", z, big); // parallel: a barrier
  m.gatherAll("out", big, out);
  m.result("out", out);
  Plan plan = cg::plan(m.p, m.layout());
  CHECK((plan.steps[0].single && plan.steps[1].single && !plan.steps[2].single));
  CHECK((!plan.steps[1].barrierBefore && plan.steps[2].barrierBefore));
  CHECK(checked(m.p, plan) == "");
}

TEST_CASE("plan: item counts in the form of the step table") {
  for (int64_t block : {1, 3, 4, 16})
    for (int64_t tiles : {1, 7})
      for (Dim rows : {Dim(1, 0), Dim(2, 0), Dim(1, 1), Dim(3, 2), Dim(0, 20)}) {
        Kernel k;
        k.batch = 40;
        AxisId r = k.axis("r", rows), c = k.axis("c", tiles * 16);
        k.schedule.items = {{r, block}, {c, 16}};
        ItemFormula f = itemFormula(k);
        for (int64_t n = 1; n <= 40; ++n) REQUIRE(f.at(n) == itemCount(k, n));
      }
}

TEST_CASE("plan: footprints of items") {
  Kernel k;
  k.batch = 8;
  AxisId r = k.axis("r", Dim::batch()), c = k.axis("c", 100), j = k.axis("j", 10);
  k.args = {{ir::DType::f32, {}, false, true}, {ir::DType::f32, {}, true, false}};
  k.schedule.items = {{r, 2}, {c, 30}};
  Index rowMajor = k.axisIndex(r) * 100 + k.axisIndex(c);
  k.stages = {ProgramMaker::stage(ProgramMaker::load(k, 1, k.axisIndex(j)), 0, rowMajor)};
  Footprint out = footprint(k, 0), in = footprint(k, 1);
  CHECK((out.known && out.lo == 0 && out.hi == 1 && out.axes.size() == 2));
  CHECK(!in.known); // does not move with the items
  CHECK(itemAligned(out, out, k.batch));
  // One column further: items of equal number still overlap their neighbours.
  Footprint shifted = out;
  shifted.lo = 1, shifted.hi = 2;
  CHECK(!itemAligned(out, shifted, k.batch));
}
