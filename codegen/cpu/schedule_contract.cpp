// Schedules of contractions: tiles, packed operands, blocks of k, items.
//
// Problem. The same product is fast or slow by how its operands lie. A dense layer z[n,300] =
// x[n,784] @ w[784,300] for AVX-512:
//
//   vectors along o (w and z are contiguous there), tiles of 8 rows x 3 vectors (24 + 3 + 1 of 32
//   registers), 7 panels of columns x 4 tiles of rows = 28 items of 4 us: even shares for any
//   number of threads, and the columns of w that a thread reads here are those it updates in the
//   gradient's kernel
//
// and for its gradient by x, whose operand w runs along the sum, and for a convolution, whose
// operand has guards, a copy in the right form pays if enough tiles read it.
//
// Method. A cost model: cycles per step of k from multiplications (two a cycle), loads (two a
// cycle), latency and what the memory adds, times all tiles; and what copies cost per element.
// Every axis of the operands' free axes is tried as columns and rows. The family (outer or dot)
// decides bits, so it follows from shapes alone, never from the target.
#include "codegen/amx.h"
#include "codegen/cpu/schedule.h"
#include "codegen/pack.h"
#include "codegen/planning.h"
#include <algorithm>
#include <cmath>

namespace nnc::cg {

namespace {

// How an operand lies, seen from a choice of rows and columns.
struct Operand {
  int motion = 0;         // along its tiled axis: stands still, contiguous, or anything else
  int64_t tiledBytes = 0; // between steps of the tiled axis
  int64_t kBytes = 0;     // between steps of the innermost k
  int guards = 0;         // 1: decided before the innermost loop; 2: in it
  bool packable = false;
  bool fetched = false; // ahead, where they lie
  double copyCost = 1;  // cycles per element of a copy
  bool computed = false; // as it is copied: tiles would compute it again and again
};

using Candidate = ContractChoice;

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

constexpr double kNear = 32 << 10; // bytes that stay in the first cache
constexpr double kFarPictures = 3; // cycles per step that pictures beyond it cost
constexpr int64_t kLine = 64;      // bytes
constexpr int kWays = 12;          // of the first cache
constexpr int64_t kSumBlock = 512; // terms of a block of k: a tile's rows stay in the first cache
constexpr int64_t kPictureBlock = 64;        // .. at least, where tiles share pictures
constexpr int64_t kStreamBlock = 16 << 10;   // bytes that a tile reads in such a block
constexpr int64_t kColumnBlock = 1100 << 10; // bytes of packed columns: half of the second cache
constexpr int64_t kRowBlock = 600 << 10;     // bytes of packed rows of an item, and of its sums
constexpr double kRowsForTheirOwnCopy = 64;
constexpr double kPackedItem = 40000;        // cycles that make an item with copies worthwhile
constexpr double kMostPackedItems = 32;
constexpr double kFewItems = 8; // enough for even shares
constexpr double kSumTraffic = 24; // cycles to keep a vector of sums between blocks of k
constexpr double kAlike = 1.03; // cycles of tiles that are about as fast as the best
// bytes of lines, and between, that are fetched in time: 64 rows by [512,1536] take 0.54 ms where
// it lies, 0.65 ms copied
constexpr double kNearSpan = 4 << 20;

// keepsSums() for an operand of rows and a choice that is not applied yet.
bool keepsOrder(const Kernel &k, ExprId rowsOperand, const std::vector<AxisId> &m,
                const std::vector<AxisId> &n, const Schedule &s) {
  const Stage *sums = sumsBeside(k);
  if (!sums) return true;
  if (contains(sums->reduce, s.col)) return false; // its lanes
  // The loops around the tiles, as they are emitted.
  const ExprId load = operandLoad(k, rowsOperand);
  auto shared = [&](AxisId a) {
    if (s.packA != Pack::block || load < 0) return false;
    const std::vector<Guard> &guards = k.exprs[size_t(load)].access.guards;
    return std::any_of(guards.begin(), guards.end(), [&](const Guard &g) {
      return g.index.terms.size() > 1 && dependsOn(k, g.index, a);
    });
  };
  const bool packs = s.packA != Pack::none || s.packB != Pack::none;
  std::vector<AxisId> nest = k.contract.batch, rows, inner;
  for (AxisId a : m) (shared(a) ? inner : rows).push_back(a);
  rows.insert(rows.end(), inner.begin(), inner.end());
  if (packs) nest.insert(nest.end(), n.begin(), n.end());
  nest.insert(nest.end(), rows.begin(), rows.end());
  if (!packs) nest.insert(nest.end(), n.begin(), n.end());
  std::erase(nest, s.row);
  if (s.row >= 0) nest.push_back(s.row);
  auto others = [&](AxisId a) { return !contains(sums->reduce, a) || extentAt(k, a) == 1; };
  std::vector<AxisId> order = sums->reduce;
  std::erase_if(order, others), std::erase_if(nest, others);
  return order == nest;
}

struct ContractScheduler {
  Kernel &k;
  const Target &t;
  int lanes = 16; // of the accumulator's type
  int bytes = 4;
  double ksteps = 1;

  ContractScheduler(Kernel &kernel, const Target &target) : k(kernel), t(target) {
    bytes = ir::dtypeBytes(k.contract.type);
    lanes = target.vectorBytes / bytes;
    ksteps = product(k, k.contract.k);
  }

  // --- operands ----------------------------------------------------------------------------------

  int64_t strideBytes(ExprId operand, AxisId axis) const {
    if (axis < 0) return 0;
    std::set<ExprId> used;
    collect(k, operand, used);
    int64_t most = 0;
    for (ExprId e : used) {
      if (k.exprs[size_t(e)].op != SOp::load) continue;
      const Access &x = k.exprs[size_t(e)].access;
      if (const auto stride = strideAlong(k, x.flat, axis))
        most = std::max(most, std::abs(*stride) * ir::dtypeBytes(k.args[size_t(x.arg)].dtype));
    }
    return most;
  }

  // The innermost axis that moves an operand from element to element.
  int64_t runOf(ExprId operand) const {
    const ExprId load = operandLoad(k, operand);
    if (load < 0) return 1;
    int64_t best = 1;
    for (const Term &term : k.exprs[size_t(load)].access.flat.terms)
      if (const Atom &a = k.atoms[size_t(term.atom)];
          a.kind == Atom::Axis && std::abs(term.coef) == 1)
        best = std::max(best, extentAt(k, a.axis));
    return best;
  }

  // Bytes of the tensor that an operand is read from.
  double sizeOf(ExprId operand) const {
    const ExprId load = operandLoad(k, operand);
    if (load < 0) return 0;
    const KernelArg &arg = k.args[size_t(k.exprs[size_t(load)].access.arg)];
    return double(ir::elementCount(arg.dims, std::max<int64_t>(k.batch, 1))) *
           ir::dtypeBytes(arg.dtype);
  }

  Operand describe(ExprId operand, bool columns, AxisId tiled, AxisId col) const {
    Operand o;
    const AxisId inner = k.contract.k.empty() ? -1 : k.contract.k.back();
    if (tiled >= 0) o.motion = motion(k, operand, tiled);
    o.tiledBytes = strideBytes(operand, tiled);
    o.kBytes = strideBytes(operand, inner);
    // Rows come in time from the second cache.
    o.fetched = columns
                    ? fetchedColumns(k, operand, tiled) > 0
                    : fetchedRows(k, operand, tiled) > 0 && sizeOf(operand) <= double(kColumnBlock);
    const ExprId load = operandLoad(k, operand);
    if (load >= 0)
      for (const Guard &g : k.exprs[size_t(load)].access.guards)
        o.guards = std::max(o.guards, (inner >= 0 && dependsOn(k, g.index, inner)) ||
                                              (col >= 0 && dependsOn(k, g.index, col))
                                          ? 2
                                          : 1);
    // Vectors of a copy are as long as the operand's runs, are turned in squares, or are gathered;
    // what is too large for the second cache comes slowly.
    const double run = double(runOf(operand));
    const bool along = !columns || o.motion == 1;
    o.copyCost = along          ? std::max(0.25, 3 / std::min(run, double(lanes)))
                 : run >= lanes ? 0.5
                                : 1.2;
    if (!columns && o.motion == 1) o.copyCost = 0.4; // tiles' rows are short
    if (sizeOf(operand) > double(kColumnBlock)) o.copyCost += 0.5;
    if (o.computed = isComputed(k, operand); o.computed)
      o.copyCost += double(partsOf(k, operand).size()) / (2 * lanes);
    return o;
  }

  // Tries the copies' shapes with one row and one vector: whether they are possible does not
  // depend on the tile.
  bool canPack(bool swap, AxisId row, AxisId col, bool columns, Pack how) const {
    Kernel trial;
    trial.batch = k.batch, trial.args = k.args, trial.axes = k.axes, trial.atoms = k.atoms;
    trial.exprs = k.exprs, trial.contract = k.contract;
    if (swap)
      std::swap(trial.contract.a, trial.contract.b), std::swap(trial.contract.m, trial.contract.n);
    trial.schedule.row = row, trial.schedule.col = col;
    trial.schedule.lanes = t.vectorBytes / 4;
    return packShape(trial, columns, how).possible;
  }

  // --- tiles -------------------------------------------------------------------------------------

  // Cycles for what the epilogue reads and writes per vector along an axis, as far as choices
  // differ.
  double epilogueCost(AxisId col) const {
    // Lanes that lie apart are one access each, dearer if they lie on lines and pages of their own.
    auto of = [&](const Access &a) {
      const auto stride = strideAlong(k, a.flat, col);
      if (stride && *stride >= 0 && *stride <= 1) return 0.0;
      return (stride && std::abs(*stride) * bytes < 256 ? 2.0 : 8.0) * lanes;
    };
    double cost = 3;
    std::set<ExprId> used;
    for (const Stage &st : k.stages) {
      for (const Store &store : st.stores) cost += of(store.access);
      if (st.body >= 0) collect(k, st.body, used);
    }
    for (ExprId e : used)
      if (k.exprs[size_t(e)].op == SOp::load) cost += of(k.exprs[size_t(e)].access);
    return cost;
  }

  // Cycles for all tiles of one row axis and one column axis.
  double tileCycles(const Candidate &c, const Operand &a, const Operand &b) const {
    const bool batchCol = contains(k.contract.batch, c.col);
    const bool packedB = c.packB != Pack::none, packedA = c.packA != Pack::none;
    const double loadB = !packedB && b.motion == 2 ? 1.5 * lanes : 1;
    const double loadA =
        batchCol
            ? (motion(k, c.swap ? k.contract.b : k.contract.a, c.col) == 2 ? 1.5 * lanes : 1) * c.nv
            : 1;
    const double store = c.col < 0 ? 3 : epilogueCost(c.col);
    const int64_t rows = c.row < 0 ? 1 : extentAt(k, c.row),
                  cols = c.col < 0 ? 1 : extentAt(k, c.col);
    const double rowTiles = double(ceilDiv(rows, c.mr));
    const double steps =
        packedB ? std::min(ksteps, double(kSumBlock)) : ksteps; // that stay together
    // Columns whose lines are too far apart for that come late; but not where the rows, which lie
    // side by side, are fetched as well (measured): there is nothing else to wait for. What is
    // larger than the second cache is read again for each block of copied rows.
    const bool near = ksteps * double(b.kBytes) <= kNearSpan,
               down = a.motion == 1 && (packedA || a.fetched);
    const bool fetched = b.fetched && (near || down);
    const double late = near ? 0.25 : packedA ? 1.0 : 0.5;
    auto panel = [&](double nv) {
      // A load that spreads one element costs more than one of a vector: 16 x 1 runs at 63 % of the
      // multipliers' speed, 8 x 3 at all of it (measured in the first cache).
      const double step = std::max({c.mr * nv / 2, (1.45 * c.mr * loadA + nv * loadB) / 2, 4.0});
      const bool first = nv * lanes * steps * bytes < kNear;
      // Lines a power of two apart share few sets of the cache; from page to page nothing is
      // fetched ahead.
      const bool crowded = !packedB && b.kBytes >= 1024 && b.kBytes % 1024 == 0 &&
                           ksteps * nv > double(kWays) * std::max(1.0, 4096.0 / double(b.kBytes));
      double wait = nv * (crowded            ? 5
                          : first            ? 0.2
                          : packedB          ? 0.3
                          : fetched          ? late
                          : b.kBytes >= 4096 ? 3
                          : b.kBytes >= 2048 ? 1.5
                                             : 1) +
                    0.1 * c.mr;
      if (!packedB && b.guards == 2) wait += nv;
      if (!packedA) {
        if (a.guards) wait += (a.guards == 2 ? 1.0 : 0.35) * c.mr;
        if (a.tiledBytes % 4096 == 0 && a.tiledBytes > 0 && c.mr > 1)
          wait += (c.mr > 8 ? 0.4 : c.mr > kWays / 2 ? 0.1 : 0.03) * c.mr; // one set of the cache
        else if (a.tiledBytes >= 4096 && a.tiledBytes * c.mr > 1 << 18)
          wait += 0.1 * c.mr;
        // Pictures that every tile reads again come from the second cache.
        if ((a.guards || b.guards) && !packedB &&
            (double(a.kBytes) + double(b.kBytes)) * ksteps > kNear)
          wait += kFarPictures;
        if (a.kBytes >= 1024 && ksteps > 64)
          wait += a.fetched ? 4 : a.kBytes % 1024 == 0 ? 12 : a.kBytes >= 2048 ? 4 : 2;
      }
      return rowTiles * (ksteps * (step + wait) + c.mr * nv * store + 20);
    };
    const int64_t vectors = ceilDiv(cols, lanes);
    const int64_t full = cols / (int64_t(lanes) * c.nv), rest = vectors - full * c.nv;
    return double(full) * panel(c.nv) + (rest > 0 ? panel(double(rest)) : 0);
  }

  bool fits(int mr, int nv) const {
    if (mr * nv + nv + 1 > t.vectorRegisters) return false;
    if (t.vectorBytes == 16) return mr <= 16 && nv <= 3; // NEON: 6 x 4 vectors and more spill
    if (t.vectorRegisters == 32) return mr <= 16;
    return mr <= 6 && nv <= 3; // taller tiles spill (measured)
  }

  // Whether an axis shares no guarded index of a load with another one.
  bool loopsApart(ExprId load, AxisId a) const {
    for (const Guard &g : k.exprs[size_t(load)].access.guards)
      if (g.index.terms.size() > 1 && dependsOn(k, g.index, a)) return false;
    return true;
  }

  // What the copies cost in all, if a few items are cut by columns and rows as suits them.
  double copyCycles(const Candidate &c, const Operand &a, const Operand &b) const {
    const auto &m = c.swap ? k.contract.n : k.contract.m, &n = c.swap ? k.contract.m : k.contract.n;
    const double batch = product(k, k.contract.batch), rows = product(k, m), cols = product(k, n);
    const double items =
        std::clamp(batch * rows * cols * ksteps / (2.0 * lanes) / kPackedItem, 1.0, kFewItems);
    const bool blocks = ksteps > 1.5 * double(kSumBlock);
    const double terms = blocks ? double(kSumBlock) : ksteps;
    double least =
        c.packB == Pack::none ? 1 : std::max(1.0, cols * terms * bytes / double(kColumnBlock));
    least = std::max(least, product(k, n, c.col)); // loops around the copies
    double best = INFINITY;
    for (double columnBlocks = least; columnBlocks < 2 * std::max(least, items);
         columnBlocks *= 2) {
      // Few rows are not cut where that would copy the columns again.
      const double rowBlocks =
          std::clamp(items / columnBlocks, 1.0, std::max(1.0, rows / kRowsForTheirOwnCopy));
      double total = 0;
      if (c.packA == Pack::tile || (c.packA == Pack::block && !a.guards))
        total += a.copyCost * batch * rows * ksteps * columnBlocks;
      else if (c.packA == Pack::block) {
        const ExprId operand = c.swap ? k.contract.b : k.contract.a, load = operandLoad(k, operand);
        const double size = sizeOf(operand) / 4;
        // Rows that are pictures of their own make copies of several pictures at once.
        const bool apart = c.row < 0 || (a.motion != 1 && loopsApart(load, c.row));
        total += a.copyCost * (apart ? 3 : 1.3) * size * columnBlocks;
      }
      if (c.packB != Pack::none)
        total +=
            b.copyCost * batch * cols * ksteps * (blocks ? rowBlocks : std::min(rowBlocks, 2.0));
      best = std::min(best, total);
    }
    return best;
  }

  // Points of the axes that are not tiled.
  double planesOf(const Candidate &c) const {
    return product(k, k.contract.batch, c.row, c.col) * product(k, k.contract.m, c.row, c.col) *
           product(k, k.contract.n, c.row, c.col);
  }

  Candidate bestTile(Candidate c, const Operand &a, const Operand &b) const {
    const int64_t rows = c.row < 0 ? 1 : extentAt(k, c.row),
                  cols = c.col < 0 ? 1 : extentAt(k, c.col);
    Candidate best = c;
    best.cycles = INFINITY;
    c.copies = copyCycles(c, a, b);
    const double planes = planesOf(c);
    for (int nv : {1, 2, 3, 4, 6})
      for (int mr = 1; mr <= 16; ++mr) {
        if (!fits(mr, nv) || mr > rows ||
            (nv > 1 && int64_t(nv) * lanes > ceilDiv(cols, lanes) * lanes))
          continue;
        c.mr = mr, c.nv = nv;
        c.cycles = tileCycles(c, a, b) * planes;
        if (c.total() < best.total()) best = c;
      }
    return best;
  }

  bool inOrder(const Candidate &c) const {
    Schedule s;
    s.row = c.row, s.col = c.col, s.packA = c.packA, s.packB = c.packB;
    const ContractInfo &info = k.contract;
    return c.swap ? keepsOrder(k, info.b, info.n, info.m, s)
                  : keepsOrder(k, info.a, info.m, info.n, s);
  }

  // The ways to pack the operands for a row and a column axis, each with its best tile.
  template <class F> void eachPacking(const Candidate &c, const F &f) const {
    const ExprId rowsOperand = c.swap ? k.contract.b : k.contract.a,
                 colsOperand = c.swap ? k.contract.a : k.contract.b;
    const Operand a = describe(rowsOperand, false, c.row, c.col),
                  b = describe(colsOperand, true, c.col, c.col);
    std::vector<Pack> forA = {Pack::none}, forB = {Pack::none};
    const bool worthwhile = product(k, k.contract.m) * product(k, k.contract.n) *
                                product(k, k.contract.batch) * ksteps >
                            1 << 17;
    const Pack how = a.guards || (c.row >= 0 && a.motion == 1) ? Pack::block : Pack::tile;
    auto may = [&](const Operand &o, bool columns, Pack pack, std::vector<Pack> &list) {
      if (c.col < 0 || !(worthwhile || o.computed) || !canPack(c.swap, c.row, c.col, columns, pack))
        return;
      if (o.computed) list.clear();
      list.push_back(pack);
    };
    may(a, false, how, forA);
    may(b, true, Pack::block, forB);
    for (Pack pa : forA)
      for (Pack pb : forB) {
        Candidate one = c;
        one.packA = pa, one.packB = pb;
        if (!inOrder(one)) continue;
        one = bestTile(one, a, b);
        if (one.cycles < INFINITY) f(one);
      }
  }

  // The choice with other tiles that are about as fast: how they divide the items decides.
  std::vector<Candidate> alternatives(const Candidate &c) const {
    std::vector<Candidate> all = {c};
    const ExprId rowsOperand = c.swap ? k.contract.b : k.contract.a,
                 colsOperand = c.swap ? k.contract.a : k.contract.b;
    const Operand a = describe(rowsOperand, false, c.row, c.col),
                  b = describe(colsOperand, true, c.col, c.col);
    const double planes = planesOf(c);
    for (int nv : {2, 3, 4}) {
      Candidate best = c;
      best.cycles = kAlike * c.cycles;
      for (int mr = 4; mr <= 16; ++mr) {
        if (!fits(mr, nv) || c.row < 0 || mr > extentAt(k, c.row) ||
            int64_t(nv) * lanes > extentAt(k, c.col))
          continue;
        Candidate one = c;
        one.mr = mr, one.nv = nv;
        one.cycles = tileCycles(one, a, b) * planes;
        if (one.cycles < best.cycles) best = one;
      }
      if (best.nv == nv && nv != c.nv) all.push_back(best);
    }
    return all;
  }

  // Columns along any free axis, in either role, or along a batch axis; rows along any axis of the
  // other role.
  Candidate bestOuter() const {
    Candidate best;
    forEachOuter([&](const Candidate &c) {
      if (c.total() < best.total()) best = c;
    });
    return best;
  }

  // The best of each choice of columns, rows and packing.
  template <class F> void forEachOuter(const F &f) const {
    auto consider = [&](AxisId col, bool swap) {
      Candidate c;
      c.swap = swap, c.col = col;
      std::vector<AxisId> rows = swap ? k.contract.n : k.contract.m;
      rows.push_back(-1);
      for (AxisId row : rows) {
        if (row >= 0 && rows.size() > 2 && extentAt(k, row) == 1) continue;
        c.row = row;
        eachPacking(c, f);
      }
    };
    for (AxisId a : k.contract.n) consider(a, false);
    for (AxisId a : k.contract.m) consider(a, true);
    for (AxisId a : k.contract.batch)
      if (motion(k, k.contract.a, a) == 1) consider(a, false), consider(a, true);
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
    if (!inOrder(c)) c.row = -1;
    const int64_t cols = c.col < 0 ? 1 : extentAt(k, c.col),
                  rows = c.row < 0 ? 1 : extentAt(k, c.row);
    // Registers of one accumulator of kLanesDot lanes.
    const int each = kLanesDot * bytes / t.vectorBytes;
    const int most = t.vectorRegisters == 32 && each == 1 ? 4 : 2;
    c.nv = cols >= most ? most : cols >= 2 ? 2 : 1;
    c.mr = int(std::min<int64_t>(rows, c.nv == 1 ? 2 * most : most));
    // The rows come from the second cache again for each panel of columns: wide panels ask for
    // less.
    // .. as long as a panel stays in the first cache itself.
    if (most == 4 && cols >= 8 && rows >= 3 && 8 * ksteps * bytes <= kNear) c.nv = 8, c.mr = 3;
    c.cycles = ksteps * product(k, k.contract.batch) * product(k, k.contract.m) *
               product(k, k.contract.n) / 32;
    return c;
  }

  // From shapes alone: both operands run along the innermost k, nothing else is contiguous, the sum
  // is long enough to pay for folding the lanes, and there are too few rows or columns to pay for a
  // copy in another form.
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
    constexpr double kFew = 64;
    return !free && extentAt(k, inner) >= 128 &&
           (product(k, c.m) <= kFew || product(k, c.n) <= kFew);
  }

  // --- items -------------------------------------------------------------------------------------

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
    for (Cut &cut : cuts) // whole chunks of sums
      if (const int64_t unit = itemUnit(k, cut.axis); unit > 1)
        cut.unit = ceilDiv(cut.unit, unit) * unit;
    double tiles = 1;
    for (const Cut &cut : cuts) tiles *= double(ceilDiv(extentAt(k, cut.axis), cut.unit));
    const double items = std::max(1.0, std::min(double(kMostItems), c.cycles / kItemCost));
    double left = tiles / items; // tiles of one item
    bool batch = false;
    std::vector<ItemAxis> chosen;
    for (size_t i = cuts.size(); i-- > 0;) {
      const Cut &cut = cuts[i];
      const int64_t count = ceilDiv(extentAt(k, cut.axis), cut.unit);
      const bool whole = itemUnit(k, cut.axis) == 0;
      const int64_t take = whole ? count : std::clamp<int64_t>(std::llround(left), 1, count);
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

  // How much longer a kernel takes with that many items than with perfectly even shares: for one,
  // two and four threads alike.
  static double unevenness(double items) {
    return (1 + std::ceil(items / 2) * 2 / items + std::ceil(items / 4) * 4 / items) / 3;
  }

  // Items of kernels with copies. Cut by columns, the rows are copied once for each block of
  // columns; cut by rows, the columns once for each block of rows; few items make uneven shares.
  // The cost of the product with them.
  double choosePackedItems(const Candidate &c, const Operand &a, const Operand &b) {
    Schedule &s = k.schedule;
    double items = 1; // so far
    bool batch = false;
    auto cut = [&](AxisId axis, int64_t unit, int64_t parts) {
      const int64_t chunk = itemUnit(k, axis);
      if (chunk == 0) return;
      unit = ceilDiv(unit, chunk) * chunk;
      const int64_t count = ceilDiv(extentAt(k, axis), unit), n = std::min(count, parts);
      if (n < 2 || (dependsOnN(k, axis) && batch)) return;
      batch = batch || dependsOnN(k, axis);
      s.items.push_back({axis, unit * ceilDiv(count, n)});
      items *= double(ceilDiv(count, ceilDiv(count, n)));
    };
    const double most = std::clamp(c.cycles / kPackedItem, 1.0, kMostPackedItems);
    // Nothing is shared between these.
    for (AxisId axis : k.contract.batch) cut(axis, 1, int64_t(most / items));
    for (AxisId axis : k.contract.n)
      if (axis != s.col) cut(axis, 1, int64_t(most / items));
    std::vector<std::pair<AxisId, int64_t>> rows; // axes of rows that can be cut, and their units
    std::vector<AxisId> parts;                    // .. into parts of pictures, which overlap
    for (AxisId axis : k.contract.m) {
      if (axis == s.row || extentAt(k, axis) == 1 || itemUnit(k, axis) == 0) continue;
      if (loopsAroundRows(k, axis, s.packA))
        rows.push_back({axis, itemUnit(k, axis)});
      else
        parts.push_back(axis);
    }
    const int64_t chunk = s.row < 0 ? 0 : itemUnit(k, s.row);
    if (chunk != 0 && !(s.packA == Pack::block && a.guards))
      rows.push_back({s.row, ceilDiv(s.mr, chunk) * chunk});

    double rowBlocks = 1; // that rows can be cut into
    for (auto [axis, unit] : rows) rowBlocks *= double(ceilDiv(extentAt(k, axis), unit));
    const int64_t panel = int64_t(s.nv) * lanes;
    const int64_t panels = s.col < 0 ? 1 : ceilDiv(extentAt(k, s.col), panel);
    const double blocks = sumBlocks();
    const double terms = s.kAxis >= 0 && !a.guards ? std::min(ksteps, blockTerms()) : ksteps;
    const double m = product(k, k.contract.m), n = product(k, k.contract.n);
    const double around = product(k, k.contract.batch) * ksteps;
    // Operands that are read where they lie come from the second cache again, large ones from the
    // third.
    const bool large = m * around * bytes > double(kColumnBlock);
    // A tile's copy that leaves the first cache costs more.
    const bool far = s.packA == Pack::tile && s.mr * terms * bytes > kNear;
    const double rowCost = s.packA != Pack::none
                               ? a.copyCost * (a.guards ? 0.3 : 1) + (far ? 0.4 : 0)
                           : large ? 0.15
                                   : 0.06;
    const double colCost = s.packB == Pack::none ? 0.03 : b.copyCost;
    // A copy of columns without blocks of k serves the items with other rows that follow.
    const bool keeps = s.kAxis < 0 && items == 1;
    int64_t bestCols = 1, bestRows = 1;
    double least = INFINITY;
    for (int64_t cols = 1; cols <= panels; ++cols) {
      const double block = double(ceilDiv(panels, cols) * panel);
      if (s.packB != Pack::none && cols < panels && block * terms * bytes > double(kColumnBlock))
        continue;
      const double waste = double(ceilDiv(panels, cols) * cols) / double(panels);
      for (int64_t by = 1;
           double(by) <= std::min(rowBlocks, std::max(1.0, 2 * most / (items * double(cols))));
           ++by) {
        // The sums between blocks of k stay in the second cache.
        const bool smallest = cols == panels && double(by + 1) > rowBlocks;
        if (s.kAxis >= 0 && !smallest && block * m / double(by) * bytes > double(kRowBlock))
          continue;
        const double total = items * double(cols * by);
        const double cost =
            c.cycles * unevenness(total) * waste + around * m * rowCost * double(cols) +
            around * n * colCost * (keeps ? std::min(double(by), 2.0) : double(by)) + 500 * total +
            (blocks - 1) * product(k, k.contract.batch) * m * n / lanes * kSumTraffic;
        if (cost < least) least = cost, bestCols = cols, bestRows = by;
      }
    }
    if (s.col >= 0) cut(s.col, panel, bestCols);
    const double before = items;
    for (auto [axis, unit] : rows) cut(axis, unit, std::llround(double(bestRows) * before / items));
    for (AxisId axis : parts)
      if (items < 4) cut(axis, 1, int64_t(std::min(most, 8.0) / items));
    shrinkBlocks();
    return least;
  }

  // Cuts rows until the copy of an item's rows and its sums stay in the second cache.
  void shrinkBlocks() {
    Schedule &s = k.schedule;
    auto size = [&] {
      const int64_t rows = s.packA == Pack::none ? 0 : packShape(k, false, s.packA).elements;
      return std::max(rows, partialElements(k)) * bytes;
    };
    std::vector<AxisId> axes;
    for (AxisId a : k.contract.m)
      if (a != s.row && a != s.col) axes.push_back(a);
    if (s.row >= 0) axes.push_back(s.row);
    if (s.col >= 0) axes.push_back(s.col);
    for (AxisId a : axes) {
      const int64_t tile = a == s.row ? s.mr : a == s.col ? int64_t(s.nv) * lanes : 1,
                    chunk = itemUnit(k, a), unit = chunk == 0 ? 1 : ceilDiv(tile, chunk) * chunk;
      if (chunk == 0) continue;
      while (size() > kRowBlock && itemSteps(k, a) > unit) {
        const int64_t block = ceilDiv(ceilDiv(itemSteps(k, a), 2), unit) * unit;
        if (block >= itemSteps(k, a)) break;
        auto own = std::find_if(s.items.begin(), s.items.end(),
                                [&](const ItemAxis &i) { return i.axis == a; });
        const bool second = dependsOnN(k, a) && own == s.items.end() &&
                            std::any_of(s.items.begin(), s.items.end(),
                                        [&](const ItemAxis &i) { return dependsOnN(k, i.axis); });
        if (second) break;
        const int64_t before = size();
        if (own == s.items.end())
          s.items.push_back({a, block});
        else
          own->block = block;
        if (size() == before) break; // this axis is not what makes it large
      }
    }
  }

  // Terms of a block of k, and how many blocks there are.
  double blockTerms() const {
    const Schedule &s = k.schedule;
    if (s.kAxis < 0) return ksteps;
    double terms = double(s.kBlock);
    for (size_t i = k.contract.k.size(); k.contract.k[--i] != s.kAxis;)
      terms *= double(extentAt(k, k.contract.k[i]));
    return terms;
  }
  double sumBlocks() const { return std::ceil(ksteps / blockTerms()); }

  // Sums as a whole keep nothing between blocks. Then a panel of columns is as long as the sum and
  // must leave room in the second cache; rows that lie side by side would touch a line for each
  // term.
  bool canSumAtOnce(const Operand &a) const {
    const Schedule &s = k.schedule;
    const double panel = double(s.nv) * lanes * ksteps * bytes;
    const bool lines = s.packA == Pack::none && a.motion == 1;
    return s.packB == Pack::block && !a.guards && !lines && panel <= double(kColumnBlock);
  }

  // Blocks of k of about kSumBlock terms: the last axes as a whole, a block of the one before.
  void chooseBlocks() {
    Schedule &s = k.schedule;
    const auto &ks = k.contract.k;
    const Operand rows = describe(k.contract.a, false, s.row, s.col);
    const bool pictures = s.packA == Pack::block && rows.guards;
    const int64_t step = int64_t(s.nv) * lanes * bytes +
                         (rows.motion == 1 ? ceilDiv(s.mr * bytes, kLine) * kLine : s.mr * bytes);
    const int64_t most = pictures ? std::max(kStreamBlock / step, kPictureBlock) : kSumBlock;
    if (ksteps <= 1.5 * double(most)) return;
    if (pictures) { // only if the sum runs over pictures (a filter's gradient), not over a window
      const int64_t whole = packShape(k, false, s.packA).elements;
      s.kAxis = ks[0], s.kBlock = 1;
      const int64_t one = packShape(k, false, s.packA).elements;
      s.kAxis = -1, s.kBlock = 0;
      if (4 * one > whole) return;
    }
    int64_t inner = 1;
    for (size_t i = ks.size(); i-- > 0;) {
      const int64_t extent = extentAt(k, ks[i]);
      if (inner * extent <= most && i > 0) {
        inner *= extent;
        continue;
      }
      const int64_t blocks = ceilDiv(extent * inner, most);
      int64_t block = std::max<int64_t>(1, ceilDiv(extent, blocks));
      if (block >= 32) block = ceilDiv(block, 8) * 8;
      if (block >= extent && i == 0) return;
      s.kAxis = ks[i], s.kBlock = std::min(block, extent);
      return;
    }
  }

  void apply(const Candidate &c) {
    const std::vector<Candidate> tiles =
        c.packB == Pack::none ? std::vector<Candidate>{c} : alternatives(c);
    if (c.swap) {
      std::swap(k.contract.a, k.contract.b);
      std::swap(k.contract.m, k.contract.n);
    }
    Schedule &s = k.schedule;
    s.family = c.family, s.row = c.row, s.col = c.col, s.mr = c.mr, s.nv = c.nv;
    s.packA = c.packA, s.packB = c.packB;
    if (s.packA == Pack::none && s.packB == Pack::none) {
      chooseItems(c);
      return orderItems();
    }
    const Operand a = describe(k.contract.a, false, s.row, s.col),
                  b = describe(k.contract.b, true, s.col, s.col);
    const Schedule start = s;
    Schedule best;
    double least = INFINITY;
    for (const Candidate &tile : tiles)
      for (bool atOnce : {false, true}) {
        s = start;
        s.mr = tile.mr, s.nv = tile.nv;
        if (!atOnce) chooseBlocks();
        if (atOnce && !canSumAtOnce(a)) continue;
        const double cost = choosePackedItems(tile, a, b);
        if (cost < least || (&tile == &tiles[0] && !atOnce)) least = cost, best = s;
      }
    s = best;
    s.scratchBytes = contractScratch(k);
  }

  // A thread runs neighbouring items. Without copies, they should be neighbours in the largest
  // tensor that they touch, as that is the weight in its product, in its gradient and in its
  // update: so each part of it stays with one thread, in that core's cache. (With copies, items of
  // the same columns follow each other.)
  void orderItems() {
    const Access *largest = nullptr;
    int64_t most = 0;
    forEachAccess(k, [&](const Access &a, bool) {
      const KernelArg &arg = k.args[size_t(a.arg)];
      const int64_t size = ir::elementCount(arg.dims, std::max<int64_t>(k.batch, 1)) *
                           ir::dtypeBytes(arg.dtype);
      if (size > most) most = size, largest = &a;
    });
    if (!largest) return;
    auto stride = [&](const ItemAxis &i) {
      return std::abs(strideAlong(k, largest->flat, i.axis).value_or(0));
    };
    std::stable_sort(k.schedule.items.begin(), k.schedule.items.end(),
                     [&](const ItemAxis &x, const ItemAxis &y) { return stride(x) > stride(y); });
  }

  Candidate choose() const {
    Candidate c = wantsDot() ? dot() : bestOuter();
    if (c.cycles == INFINITY) c.cycles = ksteps; // one element: no axis to tile
    return c;
  }
};

} // namespace

bool keepsSums(const Kernel &k) {
  if (k.schedule.family == Family::Amx) return sumsInOrder(k);
  return keepsOrder(k, k.contract.a, k.contract.m, k.contract.n, k.schedule);
}

// Bytes between steps of k of an operand that lies side by side along `tiled`, if they are `apart`
// at least and `sum` of them follow each other.
static int64_t fetchedSteps(const Kernel &k, ExprId operand, AxisId tiled, int64_t apart,
                            int64_t sum) {
  const ExprId load = operandLoad(k, operand);
  if (load < 0 || tiled < 0 || k.contract.k.empty()) return 0;
  const AxisId inner = k.contract.k.back();
  const Access &a = k.exprs[size_t(load)].access;
  if (!a.guards.empty() || a.flat.cn != 0) return 0;
  for (const Term &t : a.flat.terms)
    if (k.atoms[size_t(t.atom)].kind != Atom::Axis) return 0;
  const auto along = strideAlong(k, a.flat, tiled), down = strideAlong(k, a.flat, inner);
  if (!along || *along != 1 || !down || *down <= 0) return 0;
  int64_t steps = extentAt(k, inner);
  if (k.contract.k.size() > 1) {
    const AxisId outer = k.contract.k[k.contract.k.size() - 2];
    if (strideAlong(k, a.flat, outer).value_or(0) == *down * steps) steps *= extentAt(k, outer);
  }
  const int64_t bytes = *down * ir::dtypeBytes(k.args[size_t(a.arg)].dtype);
  return steps >= sum && bytes >= apart ? bytes : 0;
}

int64_t fetchedColumns(const Kernel &k, ExprId operand, AxisId col) {
  return fetchedSteps(k, operand, col, 1024, 64);
}
int64_t fetchedRows(const Kernel &k, ExprId operand, AxisId row) {
  return fetchedSteps(k, operand, row, 512, 32);
}

void scheduleContract(Kernel &k, const Target &t) {
  ContractScheduler s(k, t);
  const ContractChoice c = s.choose();
  if (const auto tiles = planAmx(k, t); tiles && tiles->cycles < c.total()) {
    k.contract = tiles->contract, k.schedule = tiles->schedule;
    return;
  }
  s.apply(c);
}

std::vector<ContractChoice> contractChoices(const Kernel &kernel, const Target &t) {
  Kernel k = kernel;
  const ContractScheduler s(k, t);
  std::vector<ContractChoice> all;
  const ContractChoice first = s.choose();
  if (first.family == Family::Dot) return {first};
  s.forEachOuter([&](const ContractChoice &c) { all.push_back(c); });
  if (all.empty()) return {first}; // no axis for columns
  std::stable_sort(all.begin(), all.end(), [](const ContractChoice &x, const ContractChoice &y) {
    return x.total() < y.total();
  });
  return all;
}

int64_t tileColumns(const Kernel &k, const Target &t) {
  const Schedule &s = k.schedule;
  return s.family == Family::Dot
             ? s.nv
             : int64_t(s.nv) * (t.vectorBytes / ir::dtypeBytes(k.contract.type));
}

int dotRegisters(const Kernel &k, const Target &t, int rows, int columns) {
  const int each = std::max(1, int(kLanesDot * ir::dtypeBytes(k.contract.type) / t.vectorBytes));
  return each * (rows * columns + std::min(rows, columns) + 1);
}

Family contractFamily(const Kernel &kernel, const Target &t) {
  Kernel k = kernel;
  k.schedule = {};
  scheduleContract(k, t);
  return k.schedule.family;
}

void applyChoice(Kernel &k, const Target &t, const ContractChoice &c) {
  k.schedule = {};
  k.schedule.lanes = t.vectorBytes / 4;
  ContractScheduler(k, t).apply(c);
}

} // namespace nnc::cg
