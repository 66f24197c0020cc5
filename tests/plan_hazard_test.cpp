// The hazard checker finds what is planted: each case breaks a good plan in one place.
#include "codegen/planning.h"
#include "tests/plan_helpers.h"
#include <catch2/catch.hpp>

using namespace nnc;
using namespace nnc::cg;
using Catch::Matchers::Contains;
using nnc::test::ProgramMaker;

namespace {

const ir::Dims kRows = {ir::Dim::batch(), 512}, kWeights = {64, 512};

// x -> a -> b -> c, each of which needs all of the one before.
struct Chain {
  ProgramMaker m;
  BufferId x, a, b, c;
  Plan plan;
  Chain() {
    x = m.buffer("x", kRows, Life::Input);
    a = m.buffer("a", kRows), b = m.buffer("b", kRows), c = m.buffer("c", kRows);
    m.gatherAll("first", x, a), m.gatherAll("second", a, b), m.gatherAll("third", b, c);
    m.result("c", c);
    PlanOptions o;
    o.allBarriers = true;
    o.reuse = false;
    plan = cg::plan(m.p, m.layout(), o);
  }
  std::string check() { return checkHazards(m.p, plan, m.p.batch); }
};

} // namespace

TEST_CASE("plan: hazards, a missing barrier between writer and reader") {
  Chain t;
  REQUIRE(t.check() == "");
  t.plan.steps[1].barrierBefore = false;
  CHECK_THAT(t.check(), Contains("no barrier") && Contains("first") && Contains("second"));
}

TEST_CASE("plan: hazards, two live buffers at one place") {
  Chain t;
  t.plan.place[t.b] = t.plan.place[t.a];
  CHECK_THAT(t.check(), Contains("no barrier between step 1")); // second reads a and writes b there
  Chain u;
  BufferId d = u.m.buffer("d", kRows);
  u.m.elementwise("fourth", {u.a, u.c}, d);
  u.m.result("d", d);
  PlanOptions o;
  o.allBarriers = true;
  u.plan = cg::plan(u.m.p, u.m.layout(), o);
  REQUIRE(u.check() == "");
  u.plan.place[u.c] = u.plan.place[u.a]; // `a` is read once more
  CHECK_THAT(u.check(), Contains("fourth") && Contains("over it"));
}

TEST_CASE("plan: hazards, a reader of the old weights after the update") {
  ProgramMaker m;
  BufferId w = m.buffer("W", kWeights, Life::Persistent), x = m.buffer("X", kWeights, Life::Input);
  BufferId w1 = m.buffer("W.1", kWeights), dx = m.buffer("dX", kWeights);
  m.gatherAll("dX", w, dx);
  m.elementwise("update", {w, x}, w1);
  m.bind("W", w1);
  m.result("dX", dx);
  Plan good = cg::plan(m.p, m.layout());
  REQUIRE(checkHazards(m.p, good, 8) == "");

  Plan unordered = good;
  unordered.steps[1].barrierBefore = false;
  CHECK_THAT(checkHazards(m.p, unordered, 8), Contains("no barrier"));

  Plan swapped = good;
  std::swap(swapped.steps[0], swapped.steps[1]);
  swapped.steps[0].barrierBefore = false, swapped.steps[1].barrierBefore = true;
  CHECK_THAT(checkHazards(m.p, swapped, 8), Contains("dX") && Contains("over it"));
}

TEST_CASE("plan: hazards, items of one kernel that write the same bytes") {
  ProgramMaker m;
  BufferId x = m.buffer("x", kRows, Life::Input), y = m.buffer("y", kRows);
  m.elementwise("y", {x}, y);
  m.result("y", y);
  Plan plan = cg::plan(m.p, m.layout());
  REQUIRE(checkHazards(m.p, plan, 8) == "");
  Kernel &k = m.p.launches[0].kernel;
  k.stages[0].stores[0].access.flat = k.axisIndex(1); // every row to the first
  plan.steps[0].single = false;
  CHECK_THAT(checkHazards(m.p, plan, 8), Contains("no barrier"));
}

TEST_CASE("plan: hazards, one-thread steps are ordered only among themselves") {
  Chain t;
  for (Step &s : t.plan.steps) s.single = true, s.barrierBefore = false;
  CHECK(t.check() == "");
  t.plan.steps[1].single = false;
  CHECK_THAT(t.check(), Contains("no barrier"));
}

TEST_CASE("plan: hazards, accesses outside the buffer and reads of nothing") {
  ProgramMaker m;
  BufferId x = m.buffer("x", kRows), y = m.buffer("y", kRows);
  m.elementwise("y", {x}, y);
  m.result("y", y);
  Plan plan = cg::plan(m.p, m.layout());
  CHECK_THAT(checkHazards(m.p, plan, 8), Contains("nothing was written"));
  Chain t;
  Kernel &k = t.m.p.launches[0].kernel;
  k.stages[1].stores[0].access.flat = k.axisIndex(0) * 512 + k.axisIndex(1) + constIndex(1);
  CHECK_THAT(t.check(), Contains("outside"));
}

TEST_CASE("plan: hazards, a result that lies elsewhere") {
  ProgramMaker m;
  BufferId w = m.buffer("W", kWeights, Life::Persistent), w1 = m.buffer("W.1", kWeights);
  m.gatherAll("update", w, w1);
  m.bind("W", w1);
  Plan plan = cg::plan(m.p, m.layout());
  REQUIRE(plan.steps.size() == 2);
  plan.steps.pop_back(); // the copy
  CHECK_THAT(checkHazards(m.p, plan, 8), Contains("result `W`"));
}
