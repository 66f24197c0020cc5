// What a tile will need, fetched while it multiplies.
//
// Problem. When a tile's sums are ready, its epilogue waits for the weights and moments that it
// updates: rows of a few lines each, too short for the processor to foresee. And the panel of
// columns that a tile reads comes from the second cache faster than the processor asks for it; of
// columns that are read where they lie, rows of some KiB apart, it foresees nothing.
//
//   for k by 32:                    8 x 48 tiles of a gradient, 256 terms: 8 shares
//     fetch w, m, v[row of the share, 48 columns]
//     32 steps of 24 fma, each: fetch the panel's 48 columns 8 steps further on
//   w, m, v = ..                    reads what is near by now
//
// On tile registers products take so little time that most of it is the epilogue: while it works on
// a row of one tile, it fetches that row of the next one.
//
// Method. The innermost loop over k runs in as many shares as the tile has rows; before share s the
// lines that row s of the epilogue touches are fetched. Only large tensors are fetched, and only
// where an address is a sum of axes. A fetch changes no bit and may lie outside a tensor: it never
// fails.
#include "codegen/cpu/emitter.h"
#include "codegen/cpu/schedule.h"
#include <algorithm>

namespace nnc::cg {

namespace {

constexpr int64_t kLineBytes = 64;
constexpr int64_t kFar = 512 << 10;  // bytes of a tensor that is not in the second cache by itself
constexpr int64_t kSharedSteps = 64; // steps of a sum that is worth the shares
constexpr int64_t kFirstCache = 32 << 10; // bytes
constexpr int64_t kStepsAhead = 8;        // steps of k that a panel is fetched ahead

bool onlyAxes(const Kernel &k, const Index &x) {
  return x.cn == 0 && std::all_of(x.terms.begin(), x.terms.end(), [&](const Term &t) {
           return k.atoms[size_t(t.atom)].kind == Atom::Axis;
         });
}

} // namespace

bool Emitter::isFar(int arg) const {
  const KernelArg &a = k.args[size_t(arg)];
  return ir::elementCount(a.dims, std::max<int64_t>(k.batch, 1)) * ir::dtypeBytes(a.dtype) >= kFar;
}

// The accesses of the epilogue that differ from row to row and run along the columns.
void Emitter::findAhead() {
  const AxisId row = k.schedule.row, col = k.schedule.col;
  if (k.cls != KernelClass::Contract || k.schedule.family == Family::Dot || row < 0 || col < 0)
    return;
  auto note = [&](const Access &a, bool write) {
    if (!a.guards.empty() || !onlyAxes(k, a.flat) || !isFar(a.arg)) return;
    const auto down = strideAlong(k, a.flat, row), along = strideAlong(k, a.flat, col);
    if (!down || *down == 0 || !along || *along != 1) return;
    for (Ahead &x : ahead_)
      if (x.access.arg == a.arg && x.access.flat == a.flat) return void(x.write = x.write || write);
    ahead_.push_back({a, write});
  };
  std::set<ExprId> used;
  for (const Stage &s : k.stages)
    if (s.body >= 0) collect(k, s.body, used);
  for (ExprId e : used)
    if (k.exprs[size_t(e)].op == SOp::load) note(k.exprs[size_t(e)].access, false);
  for (const Stage &s : k.stages)
    for (const Store &st : s.stores) note(st.access, true);
}

void Emitter::fetch(llvm::Value *address, bool write, int level) {
  b.CreateIntrinsic(llvm::Intrinsic::prefetch, {b.getPtrTy()},
                    {address, b.getInt32(write), b.getInt32(uint32_t(4 - level)), b.getInt32(1)});
}

// The panel at hand some steps further on, if it comes from the second cache. Columns that are read
// where they lie come from there again and again if what a tile reads of them is large.
void Emitter::fetchPanel(const Tile &t) {
  int64_t step = 0; // bytes of a step of k
  int64_t read = t.vectors * width_ * ir::dtypeBytes(k.contract.type); // .. by a tile
  for (AxisId a : k.contract.k) read *= extentAt(k, a);
  if (packedB_.arg < 0)
    step = read > kFirstCache ? fetchedColumns(k, k.contract.b, k.schedule.col) : 0;
  else if (packedB_.shape.panel &&
           packedB_.shape.elements * ir::dtypeBytes(k.contract.type) > kFirstCache)
    step = packedB_.shape.panel * ir::dtypeBytes(k.contract.type);
  if (step == 0) return;
  fetchRowsAhead(t);
  const Access &a = k.exprs[size_t(operandLoad(k, k.contract.b))].access;
  const int64_t vector = width_ * ir::dtypeBytes(k.args[size_t(a.arg)].dtype);
  for (int v = 0; v < t.vectors; ++v) {
    if (v * vector % kLineBytes != 0) continue;
    bind(k.schedule.col, t.colBase, int64_t(v) * width_, t.depth);
    llvm::Value *p = address(a.arg, index(a.flat));
    unbind(k.schedule.col);
    fetch(b.CreateGEP(b.getInt8Ty(), p, i64(kStepsAhead * step)), false, 1);
    if (t.rows == 1) break;
  }
}

// Rows that lie side by side and are read where they lie: a step's are on one line or two, far from
// the next step's.
void Emitter::fetchRowsAhead(const Tile &t) {
  const int64_t step = packedA_.arg < 0 ? fetchedRows(k, k.contract.a, k.schedule.row) : 0;
  if (step == 0) return;
  const Access &a = k.exprs[size_t(operandLoad(k, k.contract.a))].access;
  if (k.schedule.col >= 0 && dependsOn(k, a.flat, k.schedule.col)) return;
  for (int r : {0, t.rows - 1}) {
    bind(k.schedule.row, t.rowBase, r, t.depth);
    llvm::Value *p = address(a.arg, index(a.flat));
    unbind(k.schedule.row);
    fetch(b.CreateGEP(b.getInt8Ty(), p, i64(kStepsAhead * step)), false, 1);
  }
}

bool Emitter::fetchesAhead(const Tile &t, AxisId innermost) const {
  if (k.schedule.row < 0 || k.schedule.col < 0) return false;
  if (t.partial || ahead_.empty()) return false; // the epilogue comes after the last block
  const int64_t steps = innermost == k.schedule.kAxis ? k.schedule.kBlock : extentAt(k, innermost);
  return t.rows > 1 && steps >= kSharedSteps;
}

// The lines that a row of the tile touches in the epilogue.
void Emitter::fetchRow(const Tile &t, llvm::Value *row) {
  bind(k.schedule.row, b.CreateAdd(t.rowBase, row), 0);
  fetchLines(t, 0);
  unbind(k.schedule.row);
}

// .. that the row at hand touches, so many vectors to the right of the tile.
void Emitter::fetchLines(const Tile &t, int beyond) {
  for (const Ahead &a : ahead_) {
    const int64_t vector = width_ * ir::dtypeBytes(k.args[size_t(a.access.arg)].dtype);
    for (int v = 0; v < t.vectors; ++v) {
      if (v * vector % kLineBytes != 0) continue;
      bind(k.schedule.col, t.colBase, int64_t(beyond + v) * width_);
      fetch(address(a.access.arg, index(a.access.flat)), a.write, 2);
      unbind(k.schedule.col);
    }
  }
}

// Short sums are not worth shares: a row of the epilogue fetches that of the next tile. Where the
// rows end, memory goes on with those of the next picture.
void Emitter::fetchNext(const Tile &t, llvm::Value *row) {
  if (ahead_.empty() || t.partial || k.contract.k.empty()) return;
  if (fetchesAhead(t, run_.axis >= 0 ? run_.axis : k.contract.k.back())) return;
  fetchRow(t, b.CreateAdd(row, i64(t.rows)));
}

// The steps of the innermost axis in shares, with what each fetches.
void Emitter::inShares(const Tile &t, AxisId innermost, const Body &step) {
  const Range whole = range_[size_t(innermost)], r = extentOf(innermost);
  const int64_t steps = innermost == k.schedule.kAxis ? k.schedule.kBlock : extentAt(k, innermost);
  const int64_t each = ceilDiv(steps, t.rows);
  forRange(r.lo, r.hi, each, [&](llvm::Value *i) {
    llvm::Value *share = b.CreateUDiv(b.CreateSub(i, r.lo), i64(each));
    fetchRow(t, share);
    range_[size_t(innermost)] = {
        i, b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, r.hi, addConst(i, each))};
    forRange(range_[size_t(innermost)].lo, range_[size_t(innermost)].hi, 1, [&](llvm::Value *at) {
      bind(innermost, at, 0);
      step();
      unbind(innermost);
    });
    range_[size_t(innermost)] = whole;
  });
}

} // namespace nnc::cg
