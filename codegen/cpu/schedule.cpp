// Schedules: how a kernel is cut into items, vectors and register tiles.
//
// Problem. Results are fixed by the kernel; its speed is not. A dense layer z[n,300] = x[n,784] @
// w[784,300] for AVX-512:
//
//   vectors along o (w and z are contiguous there), tiles of 8 rows x 3 vectors (24 + 3 + 1 of 32
//   registers), 7 panels of columns x 4 tiles of rows = 28 items of 4 us: even shares for any
//   number of threads, and the columns of w that a thread reads here are those it updates in the
//   gradient's kernel
//
// Method. Small cost models over the few choices there are; extents at the largest batch. Which
// axis the vectors of a Loops kernel run along: the one with the least gathers and idle lanes.
// Tiles: cycles per step of k from multiplications (two a cycle), loads (two a cycle) and latency,
// over all tiles. The family (outer or dot) decides bits, so it follows from shapes alone, never
// from the target.
#include "codegen/cpu/schedule.h"
#include <algorithm>
#include <cmath>
#include <set>

namespace nnc::cg {

namespace {

constexpr double kItemCost =
    8000; // units of stageCost (half a nanosecond) that make an item worthwhile
constexpr int64_t kMostItems = 256; // shares are even enough, and table entries few
constexpr int64_t kLine = 16;       // f32 in a cache line

int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t extentAt(const Kernel &k, AxisId a) {
  return std::max<int64_t>(1, k.axes[size_t(a)].extent.at(std::max<int64_t>(k.batch, 1)));
}
bool dependsOnN(const Kernel &k, AxisId a) { return !k.axes[size_t(a)].extent.isConst(); }

bool contains(const std::vector<AxisId> &list, AxisId a) {
  return std::find(list.begin(), list.end(), a) != list.end();
}

void collect(const Kernel &k, ExprId e, std::set<ExprId> &seen) {
  if (!seen.insert(e).second) return;
  for (ExprId a : k.exprs[size_t(e)].args) collect(k, a, seen);
}

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
                              double wanted) {
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
      block = ceilDiv(block, kLine) * kLine; // whole lines
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
  s.items = itemsOf(k, k.parallel, s.vec, itemsWanted(points * least));
}

// --- contractions --------------------------------------------------------------------------------

struct Candidate {
  Family family = Family::Outer;
  bool swap = false;
  AxisId row = -1, col = -1;
  int mr = 1, nv = 1;
  double cycles = INFINITY;
};

// How all loads of an operand move along an axis: 0 and 1, or 2 for anything else.
int motion(const Kernel &k, ExprId operand, AxisId axis) {
  std::set<ExprId> used;
  collect(k, operand, used);
  int worst = 0;
  for (ExprId e : used) {
    if (k.exprs[size_t(e)].op != SOp::load) continue;
    auto stride = strideAlong(k, k.exprs[size_t(e)].access.flat, axis);
    worst = std::max(worst, !stride || *stride < 0 || *stride > 1 ? 2 : int(*stride));
  }
  return worst;
}

bool storesContiguous(const Kernel &k, AxisId axis) {
  for (const Stage &s : k.stages)
    for (const Store &st : s.stores)
      if (auto stride = strideAlong(k, st.access.flat, axis); !stride || *stride != 1) return false;
  return true;
}

double product(const Kernel &k, const std::vector<AxisId> &axes, AxisId without = -1,
               AxisId too = -1) {
  double p = 1;
  for (AxisId a : axes)
    if (a != without && a != too) p *= double(extentAt(k, a));
  return p;
}

struct ContractScheduler {
  Kernel &k;
  const Target &t;
  int lanes = 16; // of the accumulator's type
  double ksteps = 1;

  ContractScheduler(Kernel &kernel, const Target &target) : k(kernel), t(target) {
    lanes = target.vectorBytes / ir::dtypeBytes(k.contract.type);
    ksteps = product(k, k.contract.k);
  }

  // Cycles for all tiles of one row axis and one column axis.
  double tileCycles(const Candidate &c) const {
    const ExprId b = c.swap ? k.contract.a : k.contract.b, a = c.swap ? k.contract.b : k.contract.a;
    const bool batchCol = contains(k.contract.batch, c.col);
    const double loadB = c.col >= 0 && motion(k, b, c.col) == 2 ? 1.5 * lanes : 1;
    const double loadA = batchCol ? (motion(k, a, c.col) == 2 ? 1.5 * lanes : 1) * c.nv : 1;
    const double store = c.col >= 0 && !storesContiguous(k, c.col) ? 2.0 * lanes : 3;
    const int64_t rows = c.row < 0 ? 1 : extentAt(k, c.row),
                  cols = c.col < 0 ? 1 : extentAt(k, c.col);
    const double rowTiles = double(ceilDiv(rows, c.mr));
    const int64_t jump = stepBytes(b); // from page to page nothing is fetched ahead
    auto panel = [&](double nv) {
      const double step = std::max({c.mr * nv / 2, (c.mr * loadA + nv * loadB) / 2, 4.0});
      const bool near =
          nv * lanes * ksteps * ir::dtypeBytes(k.contract.type) < 1 << 15; // in the first cache
      const double wait = nv * (near           ? 0.2
                                : jump >= 4096 ? 3
                                : jump >= 2048 ? 1.5
                                               : 1) +
                          0.1 * c.mr;
      return rowTiles * (ksteps * (step + wait) + c.mr * nv * store + 20);
    };
    const int64_t vectors = ceilDiv(cols, lanes);
    const int64_t full = cols / (int64_t(lanes) * c.nv), rest = vectors - full * c.nv;
    return double(full) * panel(c.nv) + (rest > 0 ? panel(double(rest)) : 0);
  }

  // Bytes between successive vectors of b.
  int64_t stepBytes(ExprId b) const {
    if (k.contract.k.empty()) return 0;
    std::set<ExprId> used;
    collect(k, b, used);
    int64_t most = 0;
    for (ExprId e : used) {
      if (k.exprs[size_t(e)].op != SOp::load) continue;
      const Access &x = k.exprs[size_t(e)].access;
      const auto stride = strideAlong(k, x.flat, k.contract.k.back());
      if (stride)
        most = std::max(most, std::abs(*stride) * ir::dtypeBytes(k.args[size_t(x.arg)].dtype));
    }
    return most;
  }

  bool fits(int mr, int nv) const {
    if (mr * nv + nv + 1 > t.vectorRegisters) return false;
    if (t.vectorRegisters == 32) return mr <= 16;
    return mr <= 6 && nv <= 3; // taller tiles spill (measured)
  }

  Candidate bestTile(Candidate c) const {
    const int64_t rows = c.row < 0 ? 1 : extentAt(k, c.row),
                  cols = c.col < 0 ? 1 : extentAt(k, c.col);
    Candidate best = c;
    for (int nv : {1, 2, 3, 4, 6})
      for (int mr = 1; mr <= 16; ++mr) {
        if (!fits(mr, nv) || mr > rows ||
            (nv > 1 && int64_t(nv) * lanes > ceilDiv(cols, lanes) * lanes))
          continue;
        c.mr = mr, c.nv = nv;
        c.cycles = tileCycles(c) * product(k, k.contract.batch, c.row, c.col) *
                   product(k, k.contract.m, c.row, c.col) * product(k, k.contract.n, c.row, c.col);
        if (c.cycles < best.cycles) best = c;
      }
    return best;
  }

  // Columns along any free axis, in either role, or along a batch axis; rows along any axis of the
  // other role.
  Candidate bestOuter(bool contiguousOnly) const {
    Candidate best;
    auto consider = [&](AxisId col, bool swap) {
      const ExprId b = swap ? k.contract.a : k.contract.b;
      if (contiguousOnly && motion(k, b, col) != 1) return;
      Candidate c;
      c.swap = swap, c.col = col;
      std::vector<AxisId> rows = swap ? k.contract.n : k.contract.m;
      rows.push_back(-1);
      for (AxisId row : rows) {
        c.row = row;
        const Candidate found = bestTile(c);
        if (found.cycles < best.cycles) best = found;
      }
    };
    for (AxisId a : k.contract.n) consider(a, false);
    for (AxisId a : k.contract.m) consider(a, true);
    for (AxisId a : k.contract.batch)
      if (motion(k, k.contract.a, a) == 1) consider(a, false), consider(a, true);
    return best;
  }

  AxisId largest(const std::vector<AxisId> &axes, bool storeAlong) const {
    AxisId best = -1;
    for (AxisId a : axes) {
      if (extentAt(k, a) == 1) continue;
      if (storeAlong && storesContiguous(k, a)) return a;
      if (best < 0 || extentAt(k, a) > extentAt(k, best)) best = a;
    }
    return best;
  }

  Candidate dot() const {
    Candidate c;
    c.family = Family::Dot;
    // The columns are those that the stores run along.
    for (AxisId a : k.contract.m) c.swap = c.swap || (extentAt(k, a) > 1 && storesContiguous(k, a));
    c.col = largest(c.swap ? k.contract.m : k.contract.n, true);
    c.row = largest(c.swap ? k.contract.n : k.contract.m, false);
    const int64_t cols = c.col < 0 ? 1 : extentAt(k, c.col),
                  rows = c.row < 0 ? 1 : extentAt(k, c.row);
    // Registers of one accumulator of kLanesDot lanes.
    const int each = kLanesDot * ir::dtypeBytes(k.contract.type) / t.vectorBytes;
    const int most = t.vectorRegisters == 32 && each == 1 ? 4 : 2;
    c.nv = cols >= most ? most : cols >= 2 ? 2 : 1;
    c.mr = int(std::min<int64_t>(rows, c.nv == 1 ? 2 * most : most));
    c.cycles = ksteps * product(k, k.contract.batch) * product(k, k.contract.m) *
               product(k, k.contract.n) / 32;
    return c;
  }

  // From shapes alone: both operands run along the innermost k, nothing else is contiguous, and the
  // sum is long enough to pay for folding the lanes.
  bool wantsDot() const {
    const auto &c = k.contract;
    if (c.k.empty()) return false;
    if (product(k, c.m) * product(k, c.n) == 1 && product(k, c.batch) == 1) return true;
    const AxisId inner = c.k.back();
    if (motion(k, c.a, inner) > 1 || motion(k, c.b, inner) > 1) return false;
    bool free = false;
    for (AxisId a : c.n) free = free || (extentAt(k, a) > 1 && motion(k, c.b, a) == 1);
    for (AxisId a : c.m) free = free || (extentAt(k, a) > 1 && motion(k, c.a, a) == 1);
    for (AxisId a : c.batch)
      free = free || (extentAt(k, a) > 1 && motion(k, c.a, a) == 1 && motion(k, c.b, a) == 1);
    return !free && extentAt(k, inner) >= 128;
  }

  // Tiles that an item covers, from the innermost axis outwards: rows, columns, then the loops.
  void chooseItems(const Candidate &c) {
    Schedule &s = k.schedule;
    struct Cut {
      AxisId axis;
      int64_t unit;
    };
    std::vector<Cut> cuts; // outermost first
    for (const auto *list : {&k.contract.batch, &k.contract.m, &k.contract.n})
      for (AxisId a : *list)
        if (a != c.row && a != c.col) cuts.push_back({a, 1});
    const int64_t panel = c.family == Family::Dot ? c.nv : int64_t(c.nv) * lanes;
    if (c.col >= 0) cuts.push_back({c.col, panel});
    if (c.row >= 0) cuts.push_back({c.row, c.mr});
    double tiles = 1;
    for (const Cut &cut : cuts) tiles *= double(ceilDiv(extentAt(k, cut.axis), cut.unit));
    const double items = std::max(1.0, std::min(double(kMostItems), c.cycles / kItemCost));
    double left = tiles / items; // tiles of one item
    bool batch = false;
    std::vector<ItemAxis> chosen;
    for (size_t i = cuts.size(); i-- > 0;) {
      const Cut &cut = cuts[i];
      const int64_t count = ceilDiv(extentAt(k, cut.axis), cut.unit);
      const int64_t take = std::clamp<int64_t>(std::llround(left), 1, count);
      left /= double(take);
      if (take == count) continue;
      if (dependsOnN(k, cut.axis)) {
        if (batch) continue;
        batch = true;
      }
      chosen.push_back({cut.axis, cut.unit * ceilDiv(count, ceilDiv(count, take))});
    }
    s.items.assign(chosen.rbegin(), chosen.rend());
  }

  void run() {
    Candidate c = wantsDot() ? dot() : bestOuter(true);
    if (c.cycles == INFINITY) c = bestOuter(false);
    if (c.cycles == INFINITY) c.cycles = ksteps; // one element: no axis to tile
    if (c.swap) {
      std::swap(k.contract.a, k.contract.b);
      std::swap(k.contract.m, k.contract.n);
    }
    Schedule &s = k.schedule;
    s.family = c.family, s.row = c.row, s.col = c.col, s.mr = c.mr, s.nv = c.nv;
    chooseItems(c);
  }
};

// --- scatter and sort ----------------------------------------------------------------------------

void scheduleScatter(Kernel &k) {
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
  case KernelClass::Contract: return ContractScheduler(k, t).run();
  case KernelClass::ScatterAdd: return scheduleScatter(k);
  case KernelClass::Sort: return scheduleSort(k);
  }
}

} // namespace nnc::cg
