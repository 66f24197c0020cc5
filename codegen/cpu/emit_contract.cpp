// Contractions: register tiles over nested loops, and what is done with a tile before it is stored.
//
// Problem. acc[batch, m, n] = sum over k of a * b near the peak of the multipliers, for products in
// any orientation and convolutions, with an epilogue (bias, activation, an optimizer's update) on
// the tile.
//
//   outer 8 x 3:  for o by 48:  for r by 8:  24 accumulators = 0;
//                   for k: load b[k, o..o+47]; for each row: spread a[r, k]; 3 fma
//                 epilogue on 8 rows of 3 vectors
//   dot 4 x 4:    for o by 4:  for r by 4:  16 accumulators of 16 lanes along k
//                 fold them; epilogue on 4 rows of 4
//
// Method. The tile is stack slots with constant places, which become registers. Rows and columns
// beyond the end are not computed apart: the last tile of rows is moved back until it fits (its
// first rows are computed twice, stored once), the last columns are a narrower tile with a mask. So
// nothing outside a tensor is touched and each result is a sum in the same order wherever its tile
// lies. An operand whose guard (the padding of a convolution) does not depend on the innermost loop
// gets two inner loops: one without guards, taken where they hold for all rows, and one that reads
// zeros through a selected address.
#include "codegen/cpu/emitter.h"
#include "codegen/cpu/schedule.h"
#include <algorithm>

namespace nnc::cg {

// The axes that are not tiled are loops, or fixed by the item.
void Emitter::emitContract() {
  const ContractInfo &c = k.contract;
  const Schedule &s = k.schedule;
  if (s.family == Family::Amx) return emitAmx();
  std::vector<AxisId> loops;
  for (const auto *list : {&c.batch, &c.m, &c.n})
    for (AxisId a : *list)
      if (a != s.row && a != s.col) loops.push_back(a);
  const int saved = k.schedule.lanes;
  // The width is counted in f32: a vector of f64 has half as many.
  if (s.family == Family::Outer && ir::dtypeBytes(c.type) == 8) k.schedule.lanes = saved / 2;
  if (packs())
    emitPacked();
  else
    forAxes(loops, 0, [&] { s.family == Family::Outer ? emitPanels() : emitDotPanels(); });
  k.schedule.lanes = saved;
}

// Where a tile of `size` that counts from `at` is computed: moved back if it would leave the axis.
llvm::Value *Emitter::shiftedBase(AxisId a, llvm::Value *at, int64_t size) {
  if (a < 0) return at;
  const Dim e = k.axes[size_t(a)].extent;
  const int64_t most = e.at(std::max<int64_t>(k.batch, 1)); // memory has rows for the largest batch
  if (most % size == 0 && itemSteps(k, a) % size == 0) return at;
  NNC_CHECK(most >= size, "a tile is larger than its axis");
  return b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, at, i64(most - size));
}

// --- outer products ------------------------------------------------------------------------------

void Emitter::emitPanels() {
  eachPanel([&](Tile t) { emitTiles(t); });
}

// Whole panels of columns, then what is left as a narrower one.
void Emitter::eachPanel(const std::function<void(Tile)> &body) {
  const Schedule &s = k.schedule;
  const int width = s.lanes;
  Tile t;
  t.vectors = s.nv;
  if (s.col < 0) { // nothing to vectorise: one lane
    t.vectors = 1;
    t.colBase = i64(0);
    return body(t);
  }
  const Dim extent = k.axes[size_t(s.col)].extent;
  const Range r = range_[size_t(s.col)];
  const int64_t panel = int64_t(s.nv) * width;
  llvm::Value *count = b.CreateSub(r.hi, r.lo);
  llvm::Value *panels = b.CreateMul(b.CreateUDiv(count, i64(panel)), i64(panel));
  llvm::Value *stop = b.CreateAdd(r.lo, panels);
  width_ = width;
  forRange(r.lo, stop, panel, [&](llvm::Value *col) {
    Tile full = t;
    full.colBase = col;
    body(full);
  });
  const int64_t rest = extent.isConst() ? extent.b % panel : -1; // blocks of items are whole panels
  if (rest != 0) {
    llvm::Value *left = b.CreateSub(count, panels);
    if (rest > 0) {
      ifThen(b.CreateICmpSGT(left, i64(0)), [&] {
        Tile tail = t;
        tail.vectors = int((rest + width - 1) / width);
        tail.colBase = stop;
        if (rest % width) tail.lastMask = firstLanes(i64(rest % width));
        body(tail);
      });
    } else { // as many vectors as are left, one at a time
      forRange(stop, r.hi, width, [&](llvm::Value *col) {
        Tile tail = t;
        tail.vectors = 1;
        tail.colBase = col;
        tail.lastMask = firstLanes(
            b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, b.CreateSub(r.hi, col), i64(width)));
        body(tail);
      });
    }
  }
  width_ = 1;
}

void Emitter::emitTiles(Tile t) {
  const Schedule &s = k.schedule;
  t.rows = s.row < 0 ? 1 : s.mr;
  const Range r = s.row < 0 ? Range{i64(0), i64(1)} : range_[size_t(s.row)];
  llvm::Type *at = type(k.contract.type, width_ > 1);
  for (int i = 0; i < t.rows * t.vectors; ++i) t.acc.push_back(slot(at, "acc"));
  forRange(r.lo, r.hi, t.rows, [&](llvm::Value *row) {
    t.row = row;
    t.rowEnd = r.hi;
    t.rowBase = shiftedBase(s.row, row, t.rows);
    t.depth = scopes_.size();
    for (auto *a : t.acc) b.CreateStore(llvm::Constant::getNullValue(at), a);
    emitMicrokernel(t);
    emitEpilogue(t);
  });
}

// The sum over the axes of k from number `firstAxis` on.
void Emitter::emitMicrokernel(Tile &t, size_t firstAxis) {
  const auto &ks = k.contract.k;
  if (ks.empty()) return emitProducts(t);
  const bool runs = run_.axis >= 0;
  const std::vector<AxisId> outer(ks.begin() + std::ptrdiff_t(firstAxis),
                                  ks.end() - (runs ? 2 : 1));
  forAxes(outer, 0, [&] {
    if (!runs) return emitInner(t, ks.back());
    if (!run_.full) return emitRun(t);
    llvm::Value *full = b.CreateICmpEQ(n_, i64(std::max<int64_t>(k.batch, 1)));
    ifThen(full, [&] { emitRun(t); });
    ifThen(b.CreateNot(full),
           [&] { forAxis(run_.outer, [&] { emitInner(t, k.contract.k.back()); }); });
  });
}

// The two innermost axes of k as one.
void Emitter::emitRun(Tile &t) {
  const ContractInfo saved = k.contract;
  k.contract.a = run_.a, k.contract.b = run_.b;
  k.contract.k.pop_back();
  k.contract.k.back() = run_.axis;
  const Range r = extentOf(run_.outer);
  range_[size_t(run_.axis)] = {scaled(r.lo, run_.steps), scaled(r.hi, run_.steps)};
  emitInner(t, run_.axis);
  k.contract = saved;
}

// The condition under which no operand of the tile needs its guards, if it can be tested before the
// innermost loop; null if there is nothing to test or it cannot.
llvm::Value *Emitter::operandGuards(const Tile &t, AxisId innermost) {
  llvm::Value *all = nullptr;
  for (ExprId operand : {k.contract.a, k.contract.b}) {
    ExprId e = operand;
    while (k.exprs[size_t(e)].op == SOp::convert) e = k.exprs[size_t(e)].args[0];
    const Expr &x = k.exprs[size_t(e)];
    if (x.op != SOp::load) return nullptr;
    if (x.access.guards.empty()) continue;
    // A loaded index has guards of its own.
    for (const Term &term : x.access.flat.terms)
      if (k.atoms[size_t(term.atom)].kind == Atom::Value) return nullptr;
    const AxisId col = k.schedule.col, row = k.schedule.row;
    for (const Guard &g : x.access.guards)
      if (dependsOn(k, g.index, innermost) || (col >= 0 && dependsOn(k, g.index, col)))
        return nullptr;
    // Indices are monotone in the row where its stride is known: the first and the last row decide.
    bool monotone = row >= 0, perRow = false;
    for (const Guard &g : x.access.guards) {
      monotone = monotone && strideAlong(k, g.index, row);
      perRow = perRow || (row >= 0 && dependsOn(k, g.index, row));
    }
    for (int r = 0; r < t.rows; r += monotone ? std::max(1, t.rows - 1) : 1) {
      if (row >= 0) bind(row, t.rowBase, r, t.depth);
      scopes_.emplace_back();
      all = both(all, guards(x.access.guards).uniform);
      scopes_.pop_back();
      if (row >= 0) unbind(row);
      if (!perRow) break;
    }
  }
  return all;
}

void Emitter::emitInner(Tile &t, AxisId innermost) {
  llvm::Value *all = operandGuards(t, innermost);
  auto loop = [&](bool hold) {
    guardsHold_ = hold;
    if (fetchesAhead(t, innermost))
      inShares(t, innermost, [&] { emitProducts(t); });
    else
      forAxis(innermost, [&] { emitProducts(t); });
    guardsHold_ = false;
  };
  if (!all) return loop(false);
  ifThen(all, [&] { loop(true); });
  ifThen(b.CreateNot(all), [&] { loop(false); });
}

// One step of k: vectors of b, then each row's a against them.
void Emitter::emitProducts(Tile &t) {
  const AxisId row = k.schedule.row, col = k.schedule.col;
  const bool aHasCol = col >= 0 && dependsOn(k, k.contract.a, col); // a batch axis as columns
  laneAxis_ = col;
  auto atVector = [&](int v, const Body &body) {
    if (col >= 0) bind(col, t.colBase, int64_t(v) * width_, t.depth);
    mask_ = v + 1 == t.vectors && packedB_.arg < 0 ? t.lastMask : nullptr;
    scopes_.emplace_back();
    body();
    scopes_.pop_back();
    mask_ = nullptr;
    if (col >= 0) unbind(col);
  };
  std::vector<llvm::Value *> bs(size_t(t.vectors));
  for (int v = 0; v < t.vectors; ++v)
    atVector(v, [&] { bs[size_t(v)] = spread(expr(k.contract.b)); });
  fetchPanel(t);
  llvm::Type *at = type(k.contract.type, width_ > 1);
  for (int r = 0; r < t.rows; ++r) {
    if (row >= 0) bind(row, t.rowBase, r, t.depth);
    scopes_.emplace_back();
    llvm::Value *a = aHasCol ? nullptr : spread(expr(k.contract.a));
    for (int v = 0; v < t.vectors; ++v) {
      llvm::Value *x = a;
      if (aHasCol) atVector(v, [&] { x = spread(expr(k.contract.a)); });
      auto *acc = t.acc[size_t(r * t.vectors + v)];
      b.CreateStore(multiplyAdd(k.contract.type, x, bs[size_t(v)], b.CreateLoad(at, acc)), acc);
    }
    scopes_.pop_back();
    if (row >= 0) unbind(row);
  }
  laneAxis_ = -1;
}

// --- the epilogue --------------------------------------------------------------------------------

// The tile goes through the stack, so that the code of the stages stands once per vector of a row
// and rows that do not count are simply not visited.
void Emitter::emitEpilogue(Tile &t) {
  llvm::Type *at = type(k.contract.type, width_ > 1);
  llvm::Value *buffer = slot(llvm::ArrayType::get(at, t.acc.size()), "tile");
  for (size_t i = 0; i < t.acc.size(); ++i)
    b.CreateStore(b.CreateLoad(at, t.acc[i]), b.CreateGEP(at, buffer, i64(int64_t(i))));
  emitEpilogueRows(t, buffer);
}

// The epilogue of the sums in `buffer`, [row][vector].
void Emitter::emitEpilogueRows(Tile &t, llvm::Value *buffer) {
  llvm::Value *first = b.CreateSub(t.row, t.rowBase); // rows before were stored by the tile above
  llvm::Value *stop = i64(t.rows);
  if (k.schedule.row >= 0)
    stop = b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, stop, b.CreateSub(t.rowEnd, t.rowBase));
  if (t.row == t.rowBase) first = i64(0);
  // Sums over the rows of the tile stay in registers meanwhile.
  const bool holds = holdsSums(t);
  if (holds) {
    heldSums_.assign(k.stages.size(), std::vector<llvm::AllocaInst *>(size_t(t.vectors)));
    for (int v = 0; v < t.vectors; ++v)
      atVectorOf(t, first, v, [&] {
        for (size_t i = 0; i < k.stages.size(); ++i)
          if (const Stage &s = k.stages[i]; s.chunk) {
            auto *held = heldSums_[i][size_t(v)] = slot(type(s.type, width_ > 1), "sum");
            b.CreateStore(sumSoFar(s), held);
          }
      });
  }
  forRange(first, stop, 1, [&](llvm::Value *r) {
    fetchNext(t, r);
    for (int v = 0; v < t.vectors; ++v) epilogueAt(t, buffer, r, v);
  });
  if (!holds) return;
  for (int v = 0; v < t.vectors; ++v)
    atVectorOf(t, first, v, [&] {
      for (size_t i = 0; i < k.stages.size(); ++i)
        if (const Stage &s = k.stages[i]; s.chunk) {
          auto *held = heldSums_[i][size_t(v)];
          store(s.stores[0].access, {b.CreateLoad(held->getAllocatedType(), held), width_ > 1});
        }
    });
  heldSums_.clear();
}

// Do the sums beside the contraction have one place for all rows of a tile?
bool Emitter::holdsSums(const Tile &t) {
  const Stage *sums = sumsBeside(k);
  const AxisId row = k.schedule.row;
  return sums && t.rows > 1 && contains(sums->reduce, row) && itemUnit(k, row) == 0;
}

// What the elements before the one at hand sum up to.
llvm::Value *Emitter::sumSoFar(const Stage &s) {
  llvm::Value *first = nullptr;
  for (AxisId a : s.reduce) {
    if (k.axes[size_t(a)].extent == Dim(1)) continue;
    llvm::Value *i = addConst(axis_[size_t(a)].base, axis_[size_t(a)].plus);
    if (a == s.reduce[0] && itemUnit(k, a)) i = b.CreateURem(i, i64(s.chunk));
    first = both(first, b.CreateICmpEQ(i, i64(0)));
  }
  if (!first) first = b.getTrue();
  llvm::Value *old = spread(load(s.stores[0].access));
  return b.CreateSelect(first, llvm::Constant::getNullValue(old->getType()), old);
}

// One more element of a sum beside the contraction.
void Emitter::addUp(size_t stage, const Val &v) {
  const Stage &s = k.stages[stage];
  llvm::Value *x = spread(v);
  if (heldSums_.empty())
    return store(s.stores[0].access, {combine(Combine::sum, s.type, sumSoFar(s), x), width_ > 1});
  auto *held = heldSums_[stage][heldVector_];
  b.CreateStore(combine(Combine::sum, s.type, b.CreateLoad(held->getAllocatedType(), held), x),
                held);
}

void Emitter::epilogueAt(Tile &t, llvm::Value *buffer, llvm::Value *r, int v) {
  llvm::Type *at = type(k.contract.type, width_ > 1);
  llvm::Value *place = b.CreateAdd(b.CreateMul(r, i64(t.vectors)), i64(v));
  acc_ = {b.CreateLoad(at, b.CreateGEP(at, buffer, place)), width_ > 1};
  heldVector_ = size_t(v);
  atVectorOf(t, r, v, [&] {
    locals_.assign(k.stages.size(), {});
    elementwise(0, k.stages.size());
  });
}

// Vector v of row `r` of a tile.
void Emitter::atVectorOf(const Tile &t, llvm::Value *r, int v, const Body &body) {
  const AxisId row = k.schedule.row, col = k.schedule.col;
  if (row >= 0) bind(row, b.CreateAdd(t.rowBase, r, "", false, true), 0);
  if (col >= 0) bind(col, t.colBase, int64_t(v) * width_);
  laneAxis_ = col;
  mask_ = v + 1 == t.vectors ? t.lastMask : nullptr;
  scopes_.emplace_back();
  body();
  scopes_.pop_back();
  mask_ = nullptr;
  laneAxis_ = -1;
  if (row >= 0) unbind(row);
  if (col >= 0) unbind(col);
}

// --- dot products --------------------------------------------------------------------------------

// Both operands run along the innermost k: kLanesDot partial sums per element, folded at the end.
void Emitter::emitDotPanels() {
  const Schedule &s = k.schedule;
  const int cols = s.col < 0 ? 1 : s.nv, rows = s.row < 0 ? 1 : s.mr;
  const Range cr = s.col < 0 ? Range{i64(0), i64(1)} : range_[size_t(s.col)];
  const Range rr = s.row < 0 ? Range{i64(0), i64(1)} : range_[size_t(s.row)];
  Tile t;
  t.rows = rows;
  t.vectors = cols;
  llvm::Type *at = llvm::FixedVectorType::get(type(k.contract.type), kLanesDot);
  for (int i = 0; i < rows * cols; ++i) t.acc.push_back(slot(at, "acc"));
  forRange(cr.lo, cr.hi, cols, [&](llvm::Value *col) {
    forRange(rr.lo, rr.hi, rows, [&](llvm::Value *row) {
      t.col = col, t.row = row, t.rowEnd = rr.hi;
      t.colBase = shiftedBase(s.col, col, cols);
      t.rowBase = shiftedBase(s.row, row, rows);
      t.depth = scopes_.size();
      for (auto *a : t.acc) b.CreateStore(llvm::Constant::getNullValue(at), a);
      emitDotTile(t);
      emitDotEpilogue(t);
    });
  });
}

void Emitter::emitDotTile(Tile &t) {
  const auto &ks = k.contract.k;
  const AxisId row = k.schedule.row, col = k.schedule.col, inner = ks.back();
  llvm::Type *at = llvm::FixedVectorType::get(type(k.contract.type), kLanesDot);
  auto operand = [&](AxisId axis, llvm::Value *base, int i, ExprId e) {
    if (axis >= 0) bind(axis, base, i, t.depth);
    scopes_.emplace_back();
    llvm::Value *v = spread(expr(e));
    scopes_.pop_back();
    if (axis >= 0) unbind(axis);
    return v;
  };
  // The operand with fewer vectors stays in registers, the other one comes one by one.
  auto step = [&] {
    const bool holdA = t.rows < t.vectors;
    auto rowsOf = [&](int r) { return operand(row, t.rowBase, r, k.contract.a); };
    auto colsOf = [&](int c) { return operand(col, t.colBase, c, k.contract.b); };
    std::vector<llvm::Value *> held;
    for (int i = 0; i < (holdA ? t.rows : t.vectors); ++i)
      held.push_back(holdA ? rowsOf(i) : colsOf(i));
    for (int i = 0; i < (holdA ? t.vectors : t.rows); ++i) {
      llvm::Value *one = holdA ? colsOf(i) : rowsOf(i);
      for (size_t h = 0; h < held.size(); ++h) {
        const size_t r = holdA ? h : size_t(i), c = holdA ? size_t(i) : h;
        auto *acc = t.acc[r * size_t(t.vectors) + c];
        llvm::Value *old = b.CreateLoad(at, acc);
        llvm::Value *next = holdA ? multiplyAdd(k.contract.type, held[h], one, old)
                                  : multiplyAdd(k.contract.type, one, held[h], old);
        b.CreateStore(mask_ ? b.CreateSelect(mask_, next, old) : next, acc);
      }
    }
  };
  const int saved = k.schedule.lanes;
  k.schedule.lanes = kLanesDot;
  const std::vector<AxisId> outer(ks.begin(), ks.end() - 1);
  forAxes(outer, 0, [&] { forLanes(inner, step); });
  k.schedule.lanes = saved;
}

// Folds 1, 2, 4 or 8 accumulators of kLanesDot lanes by halves into one value per accumulator.
llvm::Value *Emitter::foldDot(const std::vector<llvm::Value *> &accs) {
  const DType t = k.contract.type;
  std::vector<llvm::Value *> v = accs;
  if (v.size() == 1) return foldLanes(Combine::sum, t, v[0]);
  // Halve each until it has as many lanes as there are accumulators ..
  for (int lanes = kLanesDot; lanes > int(v.size()); lanes /= 2)
    for (auto *&x : v) {
      std::vector<int> lower, upper;
      for (int i = 0; i < lanes / 2; ++i) lower.push_back(i), upper.push_back(i + lanes / 2);
      x = combine(Combine::sum, t, b.CreateShuffleVector(x, lower),
                  b.CreateShuffleVector(x, upper));
    }
  // .. then fold pairs of accumulators into one vector: a0+a2 a1+a3 b0+b2 b1+b3, then a b c d.
  const int lanes = int(v.size());
  for (int half = lanes / 2; half > 0; half /= 2) {
    std::vector<llvm::Value *> folded;
    for (size_t p = 0; p + 1 < v.size(); p += 2) {
      std::vector<int> lower, upper;
      for (int block = 0; block < 2 * lanes; block += 2 * half)
        for (int i = 0; i < half; ++i)
          lower.push_back(block + i), upper.push_back(block + half + i);
      folded.push_back(combine(Combine::sum, t, b.CreateShuffleVector(v[p], v[p + 1], lower),
                               b.CreateShuffleVector(v[p], v[p + 1], upper)));
    }
    v = std::move(folded);
  }
  return v[0];
}

void Emitter::emitDotEpilogue(Tile &t) {
  const AxisId col = k.schedule.col;
  llvm::Type *at = llvm::FixedVectorType::get(type(k.contract.type), kLanesDot);
  Tile e = t;
  e.vectors = 1;
  e.acc.clear();
  width_ = t.vectors;
  llvm::Type *rowType = type(k.contract.type, width_ > 1);
  for (int r = 0; r < t.rows; ++r) {
    std::vector<llvm::Value *> accs;
    for (int c = 0; c < t.vectors; ++c)
      accs.push_back(b.CreateLoad(at, t.acc[size_t(r * t.vectors + c)]));
    e.acc.push_back(slot(rowType, "row"));
    b.CreateStore(foldDot(accs), e.acc.back());
  }
  if (col >= 0 &&
      width_ > 1) { // columns that an earlier tile stored, or beyond the run-time extent
    const int64_t most = k.axes[size_t(col)].extent.at(std::max<int64_t>(k.batch, 1));
    const bool moves = most % t.vectors != 0, depends = !k.axes[size_t(col)].extent.isConst();
    if (moves) {
      llvm::Value *before = firstLanes(b.CreateSub(t.col, t.colBase));
      e.lastMask = b.CreateNot(before);
    }
    if (depends)
      e.lastMask = both(e.lastMask, firstLanes(b.CreateSub(range_[size_t(col)].hi, t.colBase)));
  }
  emitEpilogue(e);
  width_ = 1;
}

} // namespace nnc::cg
