// Schedules of contractions on tile registers (amx.h).
//
// Problem. Tiles multiply some twenty times as fast as vectors; what copies, converts and stores
// around them decides. For a layer of 2048 on 512 rows, y = x . w, in cycles of one thread:
//
//   columns are those of y: 16 x 16 x 64 squares of w, 2 x 2 tiles   5.2 M
//   copies of w into pairs of terms, once if an item has all rows    0.3 M
//   the epilogue of 65536 vectors                                    1.0 M
//
// Method. Every axis of the two operands' free axes is tried as columns; the register tiles that
// waste least; items by columns so that the copy of the columns stays in the second cache, and by
// rows only as far as shares need them. Small contractions stay with vectors: the caller compares.
#include "codegen/amx.h"
#include "codegen/cpu/schedule.h"
#include "codegen/pack.h"
#include <algorithm>

namespace nnc::cg {

namespace {

constexpr double kProduct = 22;          // cycles of a product of tiles, loads included
constexpr double kTileLoad = 12;         // .. of a load where loads are what takes the time
// .. per element: turned by squares, paired, copied by lines, and per line.
constexpr double kTurned = 0.5, kPaired = 0.2, kLine = 0.06, kLineStart = 4, kRounded = 0.1;
constexpr int64_t kNear = 2 << 20; // bytes of an operand that the second cache holds
constexpr double kFarByte = 0.15;  // cycles per byte of others
constexpr int64_t kColumnCopy = 1 << 20; // bytes of the copy of an item's columns
constexpr int64_t kRowCopy = 256 << 10;  // .. of a copy of rows
constexpr int64_t kTermsInMemory = 2048; // terms of a block of k where nothing is gathered
constexpr int64_t kTermsGathered = 1024; // .. where something is
constexpr double kSumsInMemory = 4;      // what sums that tiles do not hold cost, as a factor
constexpr double kItem = 40000;          // cycles that make an item worthwhile
constexpr double kMost = 32;             // items

struct Way {
  Kernel kernel; // with the schedule
  double cycles = INFINITY;
  double reading = 0; // .. and what memory adds, which the schedules of vectors do not count
  double total() const { return cycles + reading; }
};

class AmxScheduler {
 public:
  AmxScheduler(const Kernel &kernel, const Target &target) : given_(kernel), target_(target) {}

  Way best() {
    Way best;
    for (bool swap : {false, true})
      for (AxisId col : swap ? given_.contract.m : given_.contract.n) {
        Way p = plan(swap, col);
        if (p.total() < best.total()) best = std::move(p);
      }
    return best;
  }

 private:
  const Kernel &given_;
  const Target &target_;

  static double product(const Kernel &k, const std::vector<AxisId> &axes, AxisId without = -1) {
    double p = 1;
    for (AxisId a : axes)
      if (a != without) p *= double(extentAt(k, a));
    return p;
  }

  static std::optional<int64_t> stride(const Kernel &k, ExprId operand, AxisId a) {
    const ExprId load = operandLoad(k, operand);
    if (load < 0) return std::nullopt;
    return strideAlong(k, k.exprs[size_t(load)].access.flat, a);
  }

  // Cycles per vector of the epilogue: lanes that lie apart are one access each. Sums beside the
  // product do not count: the schedules of vectors, which this is compared with, have them as well,
  // and whether a product goes to tiles must not depend on them.
  static double epilogueCost(const Kernel &k, AxisId col) {
    auto of = [&](const Access &a) {
      const auto along = strideAlong(k, a.flat, col);
      return along && *along >= 0 && *along <= 1 ? 2.0 : 100.0;
    };
    double cost = 6;
    std::set<ExprId> used;
    for (const Stage &st : k.stages) {
      if (st.chunk) continue;
      for (const Store &store : st.stores) cost += of(store.access);
      if (st.body >= 0) collect(k, st.body, used);
    }
    for (ExprId e : used)
      cost += k.exprs[size_t(e)].op == SOp::load ? of(k.exprs[size_t(e)].access) : 1;
    return cost;
  }

  // The longest run of an operand in one direction.
  static double runOf(const Kernel &k, const AmxOperand &o, const std::vector<AxisId> &free) {
    return double(extentAt(k, o.alongTerms ? k.contract.k.back() : free.back()));
  }

  // Cycles per element of bringing an operand into its form.
  static double copyCost(const Kernel &k, bool columns) {
    const AmxOperand o = amxOperand(k, columns);
    if (o.inPlace) return 0;
    const double run = runOf(k, o, columns ? std::vector{k.schedule.col} : k.contract.m);
    const bool turns = o.alongTerms == columns;
    double cost = turns ? kTurned : columns ? kPaired : 0;
    if (o.wide) cost += kRounded;
    if ((!columns && o.alongTerms) || !o.matrix) cost += kLine + kLineStart / run;
    return cost;
  }

  // .. of reading it, if the second cache does not hold it.
  static double readCost(const Kernel &k, bool columns) {
    const Access &at =
        k.exprs[size_t(operandLoad(k, columns ? k.contract.b : k.contract.a))].access;
    const KernelArg &arg = k.args[size_t(at.arg)];
    const int64_t bytes = ir::dtypeBytes(arg.dtype);
    const int64_t all = ir::elementCount(arg.dims, std::max<int64_t>(k.batch, 1)) * bytes;
    return all > kNear ? kFarByte * double(bytes) : 0;
  }

  Way plan(bool swap, AxisId col) const {
    Way p{given_, INFINITY};
    Kernel &k = p.kernel;
    k.schedule = {};
    Schedule &s = k.schedule;
    s.lanes = target_.vectorBytes / 4;
    s.family = Family::Amx;
    if (swap) {
      std::swap(k.contract.a, k.contract.b);
      std::swap(k.contract.m, k.contract.n);
    }
    std::vector<AxisId> &m = k.contract.m;
    if (m.empty() || k.contract.k.empty()) return p;
    s.col = col;
    turnTerms(k);
    // The rows run along what is contiguous, if that is not the terms.
    const auto along = stride(k, k.contract.a, k.contract.k.back());
    if (!along || *along != 1)
      for (size_t i = 0; i < m.size(); ++i)
        if (const auto x = stride(k, k.contract.a, m[i]); x && *x == 1 && extentAt(k, m[i]) > 1)
          std::rotate(m.begin() + std::ptrdiff_t(i), m.begin() + std::ptrdiff_t(i) + 1, m.end());
    s.row = m[0];
    for (size_t i = m.size(); i-- > 0;)
      if (extentAt(k, m[i]) > 1) s.row = m[i];
    s.packA = s.packB = Pack::block;
    s.mr = kAmxRows, s.nv = 1;
    if (!amxOperand(k, false).possible || !amxOperand(k, true).possible || !sumsInOrder(k))
      return p;

    const double rows = product(k, m), cols = double(extentAt(k, col)),
                 around = product(k, k.contract.batch) * product(k, k.contract.n, col),
                 terms = product(k, k.contract.k);
    double step = 0, least = INFINITY; // cycles of all tiles per 32 terms
    constexpr int kGrids[][2] = {{2, 2}, {3, 1}, {2, 1}, {1, 2}, {1, 1}};
    for (auto [down, across] : kGrids) {
      const double tiles = std::ceil(rows / (16.0 * down)) * std::ceil(cols / (16.0 * across));
      const double one =
          tiles * std::max(kProduct * down * across, kTileLoad * (down + across) + 8);
      double withSums = one; // which choose the grid, but not between tiles and vectors
      if (sumsBeside(k)) {   // tiles of the rows of one chunk
        Kernel trial = k;
        trial.schedule.mr = int(kAmxRows) * down;
        if (!holdsTileSums(trial)) withSums *= kSumsInMemory;
      }
      if (withSums < least)
        least = withSums, step = one, s.mr = int(kAmxRows) * down, s.nv = across;
    }
    chooseBlocks(k);
    const double lines = std::ceil(terms / 32);
    double cycles = around * step * lines;
    cycles += around * rows * std::ceil(cols / 16) * epilogueCost(k, col);
    cycles += around * std::ceil(rows / s.mr) * std::ceil(cols / 16 / s.nv) * 60;
    if (s.kAxis >= 0) // sums between blocks
      cycles += around * rows * std::ceil(cols / 16) * 4 * std::ceil(terms / double(blockTerms(k)));
    p.cycles = cycles + chooseItems(k, cycles, around, rows, cols, terms, p.reading);
    chooseCopies(k);
    if (amxOperand(k, false).inPlace) s.packA = Pack::none;
    if (amxOperand(k, true).inPlace) s.packB = Pack::none;
    s.scratchBytes = contractScratch(k);
    return p;
  }

  // Terms that lie side by side in the rows' operand, else in the columns', come last: the channels
  // of a picture's gradient, of which the sum is over channels and places of the filter. The order
  // of the sum is ours to say.
  static void turnTerms(Kernel &k) {
    auto &ks = k.contract.k;
    for (ExprId operand : {k.contract.a, k.contract.b}) {
      auto best = ks.end();
      for (auto a = ks.begin(); a != ks.end(); ++a)
        if (const auto x = stride(k, operand, *a); x && *x == 1 && extentAt(k, *a) > 1) best = a;
      if (best == ks.end()) continue;
      std::rotate(best, best + 1, ks.end());
      return;
    }
  }

  static int64_t blockTerms(const Kernel &k) {
    int64_t n = 1;
    for (AxisId a : amxTerms(k))
      n *= a == k.schedule.kAxis ? std::min(k.schedule.kBlock, extentAt(k, a)) : extentAt(k, a);
    return n;
  }

  // Blocks of k: the last axes as a whole, a block of the one before, whole tiles if possible.
  static void chooseBlocks(Kernel &k) {
    Schedule &s = k.schedule;
    const auto &ks = k.contract.k;
    const bool inMemory = amxOperand(k, false).matrix && amxOperand(k, true).matrix;
    const int64_t most = inMemory ? kTermsInMemory : kTermsGathered;
    if (double(most) * 1.5 >= product(k, ks)) return;
    int64_t inner = 1;
    for (size_t i = ks.size(); i-- > 0;) {
      const int64_t extent = extentAt(k, ks[i]);
      if (inner * extent <= most && i > 0) {
        inner *= extent;
        continue;
      }
      int64_t unit = 1;
      while (inner * unit % kAmxTerms != 0 && unit < kAmxTerms) unit *= 2;
      const int64_t blocks = ceilDiv(extent * inner, most);
      const int64_t block = ceilDiv(ceilDiv(extent, blocks), unit) * unit;
      if (block >= extent && i == 0) return;
      s.kAxis = ks[i], s.kBlock = std::min(block, extent);
      return;
    }
  }

  static double unevenness(double items) {
    return (1 + std::ceil(items / 2) * 2 / items + std::ceil(items / 4) * 4 / items) / 3;
  }

  // Items, and what the copies cost with them, and reading what they copy.
  static double chooseItems(Kernel &k, double cycles, double around, double rows, double cols,
                            double terms, double &reading) {
    Schedule &s = k.schedule;
    double items = 1;
    bool batch = false;
    auto cut = [&](AxisId axis, int64_t unit, int64_t parts) {
      const int64_t chunk = itemUnit(k, axis); // of sums beside the product
      if (chunk == 0) return;
      unit = ceilDiv(unit, chunk) * chunk;
      const int64_t count = ceilDiv(extentAt(k, axis), unit), n = std::min(count, parts);
      if (n < 2 || (dependsOnN(k, axis) && batch)) return;
      batch = batch || dependsOnN(k, axis);
      s.items.push_back({axis, unit * ceilDiv(count, n)});
      items *= double(ceilDiv(count, ceilDiv(count, n)));
    };
    const double most = std::clamp(cycles / kItem, 1.0, kMost);
    const double readRows = readCost(k, false), readCols = readCost(k, true);
    for (AxisId axis : k.contract.batch) cut(axis, 1, int64_t(most / items));
    for (AxisId axis : k.contract.n)
      if (axis != s.col) cut(axis, 1, int64_t(most / items));

    const int64_t panel = s.nv * kAmxCols, panels = ceilDiv(extentAt(k, s.col), panel);
    const bool alone = extentAt(k, s.row) == int64_t(rows);
    const int64_t chunk = itemUnit(k, s.row), rows1 = alone ? s.mr : 1,
                  unit = chunk ? ceilDiv(rows1, chunk) * chunk : extentAt(k, s.row),
                  rowParts = ceilDiv(extentAt(k, s.row), unit);
    const double rowCost = copyCost(k, false) + (amxOperand(k, false).inPlace ? 0.02 : 0),
                 colCost = copyCost(k, true);
    const double lineBytes = 2.0 * double(blockTerms(k));
    const double ofStep = rows / double(extentAt(k, s.row)); // rows of one step
    // A copy of columns without blocks of k serves the items with other rows that follow.
    const bool keeps = s.kAxis < 0 && s.items.empty();
    int64_t bestCols = panels, bestRows = 1;
    double least = INFINITY, copies = 0;
    for (int64_t c = 1; c <= panels; ++c) {
      const double block = double(ceilDiv(panels, c) * panel);
      if (c < panels && block * lineBytes > double(kColumnCopy)) continue;
      const double waste = double(ceilDiv(panels, c) * c) / double(panels);
      for (int64_t r = 1;
           r <= rowParts && double(r) <= std::max(1.0, 2 * most / (items * double(c))); ++r) {
        const double total = items * double(c * r);
        const double times = keeps ? std::min(double(r), 2.0) : double(r);
        const double copy = around * terms * (rows * rowCost * double(c) + cols * colCost * times);
        const double read =
            around * terms * (rows * readRows * double(c) + cols * readCols * times);
        // Each item's rows fill tiles of their own.
        const int64_t steps = unit * ceilDiv(rowParts, r),
                      parts = ceilDiv(extentAt(k, s.row), steps);
        const double tiles =
            double(parts) * std::ceil(double(steps) * ofStep / s.mr) / std::ceil(rows / s.mr);
        const double cost =
            (cycles * tiles + copy + read) * unevenness(total) * waste + 500 * total;
        if (cost < least)
          least = cost, bestCols = c, bestRows = r, copies = copy, reading = read;
      }
    }
    cut(s.col, panel, bestCols);
    cut(s.row, unit, bestRows);
    return copies;
  }

  // As many rows in one copy as stay in the second cache beside the columns.
  static void chooseCopies(Kernel &k) {
    Schedule &s = k.schedule;
    if (amxOperand(k, false).inPlace) return;
    int64_t inner = 1;
    for (AxisId a : k.contract.m)
      if (a != s.row) inner *= itemSteps(k, a);
    const int64_t lines = kRowCopy / (2 * ceilDiv(blockTerms(k), kAmxTerms) * kAmxTerms);
    int64_t steps = std::max<int64_t>(1, lines / inner);
    if (inner == 1) steps = ceilDiv(steps, s.mr) * s.mr;
    if (holdsTileSums(k)) // copies begin where tiles do
      while (inner * steps % s.mr != 0) ++steps;
    if (steps < itemSteps(k, s.row)) s.rowBlock = steps;
  }
};

} // namespace

std::optional<ContractPlan> planAmx(const Kernel &k, const Target &t) {
  if (!t.amx || k.contract.type != DType::f32 || !isBf16(k, k.contract.a) ||
      !isBf16(k, k.contract.b))
    return std::nullopt;
  Way p = AmxScheduler(k, t).best();
  if (p.cycles == INFINITY) return std::nullopt;
  return ContractPlan{p.kernel.contract, p.kernel.schedule, p.cycles};
}

} // namespace nnc::cg
