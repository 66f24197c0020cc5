// Schedules: how a kernel is cut into items, vectors and register tiles.
//
// Problem. Results are fixed by the kernel; its speed is not. A softmax over f32[n,10] can run its
// vectors along the classes, 10 of 16 lanes busy, or along the rows, with gathers.
//
// Method. Small cost models over the few choices there are; extents at the largest batch. Which
// axis the vectors of a Loops kernel run along: the one with the least gathers and idle lanes.
// Contractions have a file of their own, schedule_contract.cpp.
#include "codegen/cpu/schedule.h"
#include <algorithm>
#include <cmath>
#include <set>

namespace nnc::cg {

int64_t extentAt(const Kernel &k, AxisId a) {
  return std::max<int64_t>(1, k.axes[size_t(a)].extent.at(std::max<int64_t>(k.batch, 1)));
}

bool contains(const std::vector<AxisId> &list, AxisId a) {
  return std::find(list.begin(), list.end(), a) != list.end();
}

void collect(const Kernel &k, ExprId e, std::set<ExprId> &seen) {
  if (!seen.insert(e).second || k.exprs[size_t(e)].op == SOp::random) return; // sites stand still
  for (ExprId a : k.exprs[size_t(e)].args) collect(k, a, seen);
}

namespace {

constexpr int64_t kLine = 16; // f32 in a cache line

double operationCost(const Expr &e) {
  switch (e.op) {
  case SOp::constant:
  case SOp::local:
  case SOp::acc:
  case SOp::size: return 0;
  case SOp::random: return 40;
  case SOp::sqrt:
  case SOp::div: return 8;
  case SOp::exp:
  case SOp::expm1:
  case SOp::log:
  case SOp::log1p:
  case SOp::tanh:
  case SOp::sigmoid:
  case SOp::sin:
  case SOp::cos:
  case SOp::tan:
  case SOp::asin:
  case SOp::acos:
  case SOp::atan:
  case SOp::sinh:
  case SOp::cosh:
  case SOp::erf:
  case SOp::rsqrt: return 14;
  case SOp::pow:
  case SOp::atan2: return 30;
  default: return 1;
  }
}

// Loads and stores along an axis: one instruction if they are contiguous or stand still.
double accessCost(const Kernel &k, const Access &a, AxisId lane, int lanes) {
  if (lane < 0) return 2;
  auto stride = strideAlong(k, a.flat, lane);
  return stride && std::abs(*stride) <= 1 ? 2 : 2.0 * lanes;
}

} // namespace

// --- stages --------------------------------------------------------------------------------------

double stageCost(const Kernel &k, const Stage &s, AxisId lane, int lanes) {
  std::set<ExprId> used;
  if (s.body >= 0) collect(k, s.body, used);
  double work = 1;
  for (ExprId e : used) {
    const Expr &x = k.exprs[size_t(e)];
    work += x.op == SOp::load ? accessCost(k, x.access, lane, lanes) : operationCost(x);
  }
  const bool inStage = contains(s.loop, lane) || contains(s.reduce, lane);
  double loops = 1, reduced = 1;
  for (AxisId a : s.loop)
    if (a != lane) loops *= double(extentAt(k, a));
  for (AxisId a : s.reduce)
    if (a != lane) reduced *= double(extentAt(k, a));
  double steps = loops * reduced, ends = loops;
  if (inStage) {
    const double vectors = double(ceilDiv(extentAt(k, lane), lanes));
    steps *= vectors;
    if (contains(s.loop, lane)) ends *= vectors;
  }
  double storing = 0;
  for (const Store &st : s.stores)
    storing += accessCost(k, st.access, contains(s.reduce, lane) ? -1 : lane, lanes);
  double end = s.combine == Combine::cumsum ? 0 : storing;
  if (s.combine == Combine::cumsum) work += storing;
  if (contains(s.reduce, lane))
    end += 14;
  else if (!s.reduce.empty() && s.order.lanes > 1)
    work += 3, end += double(s.order.lanes);
  double total = steps * work + ends * end;
  if (lane >= 0 && !inStage) // a parallel axis: points share vectors
    total *= double(ceilDiv(extentAt(k, lane), lanes)) / double(extentAt(k, lane));
  return total;
}

AxisId stageLaneAxis(const Kernel &k, const Stage &s, int lanes) {
  AxisId best = -1;
  if (lanes == 1) return best;
  double least = stageCost(k, s, -1, lanes);
  auto consider = [&](AxisId a) {
    const double cost = stageCost(k, s, a, lanes);
    if (cost < least) least = cost, best = a;
  };
  for (auto a = s.loop.rbegin(); a != s.loop.rend(); ++a) consider(*a);
  if (s.reduce.empty() || s.combine == Combine::cumsum) return best;
  const bool anyOrder =
      s.combine == Combine::max || s.combine == Combine::min || s.combine == Combine::argmax;
  if (anyOrder || (s.order.lanes > 1 && s.order.lanes % lanes == 0)) consider(s.reduce.back());
  return best;
}

// --- items ---------------------------------------------------------------------------------------

namespace {

// Blocks of the outermost axes, so that there are about `wanted` items.
std::vector<ItemAxis> itemsOf(const Kernel &k, const std::vector<AxisId> &axes, AxisId vec,
                              double wanted, int64_t line = kLine) {
  std::vector<ItemAxis> items;
  bool batch = false; // one item axis at most may depend on n
  for (AxisId a : axes) {
    if (wanted < 2) break;
    if (dependsOnN(k, a)) {
      if (batch) continue;
      batch = true;
    }
    const int64_t extent = extentAt(k, a);
    int64_t block = std::max<int64_t>(1, int64_t(double(extent) / wanted));
    if (a == vec)
      block = ceilDiv(block, line) * line; // whole lines
    else if (block >= 8)
      block = block / 8 * 8;
    if (block >= extent) continue;
    items.push_back({a, block});
    wanted /= double(ceilDiv(extent, block));
  }
  return items;
}

double itemsWanted(double cost) {
  return std::min(double(kMostItems), std::floor(cost / kItemCost));
}

// Sums of columns walk all rows for each vector of columns: 64 bytes of each row, then the next
// row. Wider vectors, which become several registers, take more of a row each time.
//   db[c] = sum over r of dy[r,c], 512 columns:   64 lanes: 256 bytes of a row
int lanesOfColumns(const Kernel &k, AxisId vec, int lanes) {
  constexpr size_t kMostExprs = 24; // values of a step stay in registers
  if (vec < 0) return lanes;
  bool sums = false;
  std::set<ExprId> steps; // what is computed per row, not once per column
  for (const Stage &s : k.stages) {
    if (s.combine == Combine::argmax || s.combine == Combine::cumsum || s.order.lanes > 1)
      return lanes;
    if (s.reduce.empty()) continue;
    std::set<ExprId> used;
    collect(k, s.body, used);
    steps.insert(used.begin(), used.end());
    for (ExprId e : used) {
      const Index &flat = k.exprs[size_t(e)].access.flat;
      auto along = strideAlong(k, flat, vec), step = strideAlong(k, flat, s.reduce.back());
      sums |= k.exprs[size_t(e)].op == SOp::load && along == 1 && step && std::abs(*step) > lanes;
    }
  }
  if (!sums || steps.size() > kMostExprs) return lanes;
  for (const Expr &e : k.exprs) {
    if (e.op == SOp::random || e.op == SOp::guard || operationCost(e) > 8) return lanes;
    const DType t = e.type;
    if (t != DType::f32 && t != DType::bf16 && t != DType::boolean && t != DType::i32) return lanes;
    if (e.op != SOp::load) continue;
    auto stride = strideAlong(k, e.access.flat, vec);
    if (!e.access.guards.empty() || !stride || std::abs(*stride) > 1) return lanes;
  }
  for (const Stage &s : k.stages)
    for (const Store &t : s.stores)
      if (auto stride = strideAlong(k, t.access.flat, vec); !t.access.guards.empty() || stride != 1)
        return lanes;
  const int64_t columns = extentAt(k, vec);
  for (int wide : {4 * lanes, 2 * lanes})
    if (columns % wide == 0 || columns >= 4 * wide) return wide;
  return lanes;
}

void scheduleLoops(Kernel &k) {
  Schedule &s = k.schedule;
  auto costWith = [&](AxisId vec) {
    double cost = 0;
    for (const Stage &st : k.stages)
      cost += stageCost(k, st, vec >= 0 ? vec : stageLaneAxis(k, st, s.lanes), s.lanes);
    return cost;
  };
  s.vec = -1;
  double least = costWith(-1);
  for (auto a = k.parallel.rbegin(); a != k.parallel.rend(); ++a) {
    if (extentAt(k, *a) == 1) continue;
    const double cost = costWith(*a);
    if (cost < least) least = cost, s.vec = *a;
  }
  double points = 1;
  for (AxisId a : k.parallel) points *= double(extentAt(k, a));
  s.lanes = lanesOfColumns(k, s.vec, s.lanes);
  s.items =
      itemsOf(k, k.parallel, s.vec, itemsWanted(points * least), std::max<int64_t>(kLine, s.lanes));
}

// --- scatter and sort ----------------------------------------------------------------------------

// Items by rows. How long they take depends on whether all rows are visited, which is not known
// yet; a run of items walks the tokens once.
void scheduleScatterStages(Kernel &k) {
  std::vector<AxisId> owned = k.scatter.outer;
  owned.push_back(k.scatter.row);
  double cost = 4 * double(extentAt(k, k.scatter.row));
  for (AxisId a : k.scatter.outer) cost *= double(extentAt(k, a));
  for (AxisId a : k.scatter.inner) cost *= double(extentAt(k, a));
  k.schedule.items = itemsOf(k, owned, -1, itemsWanted(cost / 8));
  k.schedule.scratchBytes = scatterScratch(k).bytes;
}

void scheduleScatter(Kernel &k) {
  if (k.scatter.arg < 0) return scheduleScatterStages(k);
  std::vector<AxisId> owned = k.scatter.outer;
  owned.insert(owned.end(), k.scatter.inner.begin(), k.scatter.inner.end());
  double cost = double(k.scatter.rows.at(std::max<int64_t>(k.batch, 1)));
  for (AxisId a : k.scatter.tokens) cost += 4 * double(extentAt(k, a));
  for (AxisId a : owned) cost *= double(extentAt(k, a));
  const AxisId vec = k.scatter.inner.empty() ? -1 : k.scatter.inner.back();
  k.schedule.items = itemsOf(k, owned, vec, itemsWanted(cost / 8));
}

void scheduleSort(Kernel &k) {
  const double length = double(extentAt(k, k.sort.axis));
  double cost = length * (8 + 6 * std::log2(length + 1));
  for (AxisId a : k.parallel) cost *= double(extentAt(k, a));
  k.schedule.items = itemsOf(k, k.parallel, -1, itemsWanted(cost));
  // Two copies of the values and their places.
  k.schedule.scratchBytes =
      int64_t(length) * 2 * (std::max(4, ir::dtypeBytes(k.sort.type)) + 4) + 256;
}

} // namespace

void schedule(Kernel &k, const Target &t) {
  k.schedule = {};
  k.schedule.lanes = t.vectorBytes / 4;
  switch (k.cls) {
  case KernelClass::Loops: return scheduleLoops(k);
  case KernelClass::Contract: return scheduleContract(k, t);
  case KernelClass::ScatterAdd: return scheduleScatter(k);
  case KernelClass::Sort: return scheduleSort(k);
  case KernelClass::Chain: return scheduleChain(k, t);
  }
}

} // namespace nnc::cg
