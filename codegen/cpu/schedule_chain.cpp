// Schedules of chained products: the height of a block of rows, where its tiles lie, and the items.
//
// Problem. A block of rows with all its columns should stay in the second cache: 32 rows by 1024
// columns of f32 are 128 KB, and a backward pass has two or three such tiles alive at once.
//
//   q[b,h,1024,64], AVX-512: blocks of 2 vectors of rows; 12 columns x 2 vectors in registers;
//   items are pairs (b, h), and blocks of rows where no sum runs over the rows
//
// Method. A tile takes the place of one that is read for the last time by the step that makes it,
// or before. An axis that a sum runs over is never cut into items, so that items write disjoint
// bytes. A chain of bf16 goes to tile registers where there are any.
#include "codegen/cpu/chain_tiles.h"
#include "codegen/cpu/schedule.h"
#include <algorithm>
#include <functional>
#include <set>

namespace nnc::cg {

namespace {

constexpr int64_t kTileBytes = 640 << 10; // of all tiles of a block: most of a second cache

// Places for the tiles; how many.
int placeTiles(Kernel &k) {
  ChainInfo &c = k.chain;
  std::vector<int> last(k.stages.size(), -1); // stage that reads the tile last
  for (size_t i = 0; i < k.stages.size(); ++i) {
    std::set<ExprId> seen;
    std::function<void(ExprId)> visit = [&](ExprId e) {
      if (e < 0 || !seen.insert(e).second) return;
      const Expr &x = k.exprs[size_t(e)];
      if (x.op == SOp::acc) last[size_t(x.stage)] = int(i);
      for (ExprId a : x.args) visit(a);
    };
    visit(k.stages[i].body);
  }
  std::vector<int> owner; // by place: the tile that lies there
  for (size_t i = 0; i < k.stages.size(); ++i) {
    const StepKind kind = c.steps[i].kind;
    if (kind != StepKind::Product && kind != StepKind::Tile) continue;
    // Only a pointwise step may write over what it reads.
    const int free = kind == StepKind::Tile ? int(i) : int(i) - 1;
    int place = -1;
    for (size_t p = 0; p < owner.size() && place < 0; ++p)
      if (last[size_t(owner[p])] <= free) place = int(p);
    if (place < 0) place = int(owner.size()), owner.push_back(0);
    owner[size_t(place)] = int(i);
    c.steps[i].slot = place;
  }
  return int(owner.size());
}

// Multiply-adds and operations of all elements, in cycles.
double cyclesOf(const Kernel &k, int lanes) {
  const double each = k.schedule.family == Family::Amx ? 1.0 / 32 : 0.5; // multiply-add, of a lane
  double perElement = 0;
  auto product = [&](const std::vector<AxisId> &axes) {
    double p = 1;
    for (AxisId a : axes) p *= double(extentAt(k, a));
    return p;
  };
  for (size_t i = 0; i < k.stages.size(); ++i) {
    const Stage &s = k.stages[i];
    switch (k.chain.steps[i].kind) {
    case StepKind::Product: perElement += each * product(s.reduce); break;
    case StepKind::RowSum:
    case StepKind::ColSum: perElement += each * product(s.loop); break;
    case StepKind::Tile: perElement += 12; break;
    case StepKind::Row: perElement += s.reduce.empty() ? 0 : 4; break;
    }
  }
  return product(k.chain.outer) * double(extentAt(k, k.chain.row)) *
         double(extentAt(k, k.chain.col)) * perElement / lanes;
}

} // namespace

int64_t chainColumns(const Kernel &k) {
  const int64_t cols = k.axes[size_t(k.chain.col)].extent.b;
  return k.schedule.family == Family::Amx ? ceilDiv(cols, kAmxTerms) * kAmxTerms : cols;
}

int64_t heldPitch(const Kernel &k, size_t stage) {
  const int64_t lanes = k.schedule.lanes;
  return ceilDiv(k.axes[size_t(k.stages[stage].loop.back())].extent.b, lanes) * lanes;
}

void scheduleChain(Kernel &k, const Target &t) {
  ChainInfo &c = k.chain;
  Schedule &s = k.schedule;
  const int64_t bytes = ir::dtypeBytes(c.type), lanes = t.vectorBytes / bytes;
  if (fitsTiles(k, t)) s.family = Family::Amx;
  const bool onTiles = s.family == Family::Amx;
  const int64_t rows = extentAt(k, c.row), cols = extentAt(k, c.col);
  const int places = placeTiles(k);
  findHidden(k);
  s.row = c.row, s.col = c.col;
  s.nv = rows > lanes && places * cols * 2 * lanes * bytes <= kTileBytes ? 2 : 1;
  s.mr = t.vectorRegisters == 32 ? (s.nv == 2 ? 12 : 16) : 6;
  s.mr = int(std::min<int64_t>(s.mr, cols));
  const int64_t block = s.nv * lanes;
  int64_t pack = 0; // rows of the first factor of a product, side by side
  for (size_t i = 0; i < k.stages.size(); ++i) {
    if (c.steps[i].kind != StepKind::Product) continue;
    int64_t terms = 1;
    for (AxisId a : k.stages[i].reduce) terms *= extentAt(k, a);
    pack = std::max(pack, terms);
  }
  s.scratchBytes = (places * cols + pack) * block * bytes + 64;
  bool copies = false; // for all blocks of an item
  if (onTiles) {
    const ChainScratch x = chainScratch(k);
    s.mr = 2 * int(kAmxRows);
    s.scratchBytes = x.total + 64;
    for (int64_t at : x.factors) copies |= at >= 0;
  }
  for (size_t i = 0; i < k.stages.size(); ++i) {
    const Stage &stage = k.stages[i];
    if (c.steps[i].kind != StepKind::ColSum || stage.stores.empty() ||
        (!onTiles && k.args[size_t(stage.stores[0].access.arg)].dtype == c.type))
      continue;
    int64_t elements = chainColumns(k) * heldPitch(k, i);
    for (size_t a = 0; a + 1 < stage.loop.size(); ++a) elements *= extentAt(k, stage.loop[a]);
    c.steps[i].sumsAt = ceilDiv(s.scratchBytes, 64) * 64;
    s.scratchBytes = c.steps[i].sumsAt + elements * bytes;
  }

  std::set<AxisId> whole; // axes that sums run over
  for (size_t i = 0; i < k.stages.size(); ++i)
    if (c.steps[i].kind == StepKind::ColSum)
      whole.insert(k.stages[i].reduce.begin(), k.stages[i].reduce.end());
  double wanted = std::min(double(kMostItems), cyclesOf(k, int(lanes)) / kItemCost);
  bool batch = false; // one item axis at most may depend on n
  auto cut = [&](AxisId a, int64_t unit) {
    if (wanted < 2 || whole.count(a)) return;
    if (!k.axes[size_t(a)].extent.isConst()) {
      if (batch) return;
      batch = true;
    }
    const int64_t extent = extentAt(k, a);
    const int64_t size = std::max<int64_t>(1, int64_t(double(extent) / wanted) / unit) * unit;
    if (size >= extent) return;
    s.items.push_back({a, size});
    wanted /= double(ceilDiv(extent, size));
  };
  // An item brings its second factors into form once, which fewer blocks of rows would not pay for.
  constexpr int64_t kBlocksPerCopy = 4;
  for (AxisId a : c.outer) cut(a, 1);
  cut(c.row, copies ? kBlocksPerCopy * block : block);
}

} // namespace nnc::cg
