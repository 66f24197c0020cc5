// Chained products: a block of rows goes through all steps before the next one.
//
// Problem. softmax(q k') v near the speed of the two products, with the scores of a block of rows
// in the second cache and nowhere else, and without rearranging k and v.
//
//   rows r..r+31 of q, written side by side:            pack[e][32]
//   for k by 12:  for e: 2 vectors of pack, 12 elements of k spread    tile[k][32]
//   for k: tile[k] = exp(..)                             vectors along the rows
//   sum over k: accumulators are vectors of rows, nothing to fold
//   for e by 32, r by 8:  for k: 2 vectors of v, 8 elements of the tile spread
//
// Method. A tile is stored column by column, the rows of the block side by side. So the first
// product needs a transposed copy of the block's rows only, and reads the other factor as it lies,
// element by element; reductions over the columns are plain sums of vectors; and a sum over columns
// or rows reads tile elements to spread and vectors of the other factor. The last block has fewer
// rows: its last vector is masked when anything is loaded, and rows beyond the end are neither
// stored nor added to a sum over rows. Where products and sums run on tile registers they are made
// elsewhere (chain_tiles.h), between the same pointwise steps.
#include "codegen/cpu/chain_tiles.h"
#include "codegen/cpu/emitter.h"
#include "codegen/cpu/schedule.h"
#include <algorithm>

namespace nnc::cg {

namespace {

constexpr int64_t kSumTile = 16; // a multiple of the columns of every tile of sums on vectors

int64_t constExtent(const Kernel &k, AxisId a) { return k.axes[size_t(a)].extent.b; }

} // namespace

void Emitter::emitChain() {
  const ChainInfo &c = k.chain;
  // The width is counted in f32: a vector of f64 has half as many.
  const int saved = k.schedule.lanes;
  if (ir::dtypeBytes(c.type) == 8) k.schedule.lanes = saved / 2;
  std::optional<ChainTiles> onTiles;
  if (k.schedule.family == Family::Amx) chainTiles_ = &onTiles.emplace(*this);
  forAxes(c.outer, 0, [&] {
    if (chainTiles_) chainTiles_->copyFactors();
    const int64_t block = blockRows(), extent = constExtent(k, c.row), rest = extent % block;
    const Range r = range_[size_t(c.row)];
    llvm::Value *whole = r.hi; // an item's range is whole blocks, but for the last
    if (rest) whole = b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, r.hi, i64(extent - rest));
    forRange(r.lo, whole, block, [&](llvm::Value *row) {
      emitRowBlock({row, int(block), k.schedule.nv});
    });
    if (!rest) return;
    const int vectors = int((rest + k.schedule.lanes - 1) / k.schedule.lanes);
    ifThen(b.CreateICmpEQ(r.hi, i64(extent)), [&] {
      emitRowBlock({i64(extent - rest), int(rest), vectors});
    });
  });
  chainTiles_ = nullptr;
  k.schedule.lanes = saved;
}

void Emitter::emitRowBlock(const RowBlock &r) {
  rowLocals_.assign(size_t(r.vectors), std::vector<Values>(k.stages.size()));
  const AxisId col = k.chain.col;
  const Range columns = range_[size_t(col)];
  llvm::Value *seen = seenColumns(r), *end = columns.hi;
  for (size_t i = 0; i < k.stages.size(); ++i) {
    if (seen && int32_t(i) == k.chain.hidden.from)
      end = b.CreateSelect(hiddenAreZero(r), seen, columns.hi);
    range_[size_t(col)].hi = k.chain.steps[i].seenOnly ? seen : end;
    scopes_.emplace_back();
    switch (k.chain.steps[i].kind) {
    case StepKind::Product: chainTiles_ ? chainTiles_->product(r, i) : emitProduct(r, i); break;
    case StepKind::Tile: emitTileStep(r, i); break;
    case StepKind::Row: emitRowStep(r, i); break;
    case StepKind::RowSum: chainTiles_ ? chainTiles_->rowSum(r, i) : emitSums(r, i, true); break;
    case StepKind::ColSum: emitColSum(r, i); break;
    }
    scopes_.pop_back();
  }
  range_[size_t(col)] = columns;
}

// How many columns some row of the block sees, up to whole tiles of sums; null: a mask hides none.
llvm::Value *Emitter::seenColumns(const RowBlock &r) {
  const HiddenColumns &h = k.chain.hidden;
  if (!h.any) return nullptr;
  const int64_t cols = constExtent(k, k.chain.col), tile = chainTiles_ ? kAmxTerms : kSumTile;
  llvm::Value *n = addConst(r.base, r.rows + h.reach);
  n = b.CreateBinaryIntrinsic(llvm::Intrinsic::smax, n, i64(tile));
  n = b.CreateAnd(addConst(n, tile - 1), i64(-tile));
  return b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, n, i64(cols));
}

llvm::Value *Emitter::hiddenAreZero(const RowBlock &r) {
  llvm::Value *all = b.getTrue();
  scopes_.emplace_back();
  for (int v = 0; v < r.vectors; ++v)
    atRows(r, v, [&] {
      for (ExprId e : k.chain.hidden.zeros) {
        llvm::Value *x = spread(expr(e));
        llvm::Value *zero = b.CreateFCmpOEQ(x, llvm::Constant::getNullValue(x->getType()));
        if (mask_) zero = b.CreateOr(zero, b.CreateNot(mask_));
        all = b.CreateAnd(all, b.CreateAndReduce(zero));
      }
    });
  scopes_.pop_back();
  return all;
}

// Vectors along the rows: vector v of the block.
void Emitter::atRows(const RowBlock &r, int v, const Body &body) {
  const int width = k.schedule.lanes, left = r.rows - v * width;
  width_ = width;
  laneAxis_ = k.chain.row;
  mask_ = left < width ? firstLanes(i64(left)) : nullptr;
  bind(k.chain.row, r.base, int64_t(v) * width);
  locals_.swap(rowLocals_[size_t(v)]);
  rowVector_ = v;
  scopes_.emplace_back();
  body();
  scopes_.pop_back();
  locals_.swap(rowLocals_[size_t(v)]);
  unbind(k.chain.row);
  mask_ = nullptr;
  laneAxis_ = -1;
  width_ = 1;
}

// Of (col, row), the row counted from the block's first.
llvm::Value *Emitter::tileAddress(int stage, llvm::Value *col, llvm::Value *row) {
  const int64_t block = blockRows(), place = k.chain.steps[size_t(stage)].slot;
  llvm::Type *t = type(k.chain.type);
  llvm::Value *p = b.CreateGEP(t, scratch_, i64(place * chainColumns(k) * block));
  return b.CreateGEP(t, b.CreateGEP(t, p, b.CreateMul(col, i64(block))), row);
}

Val Emitter::tileElement(int stage) {
  const Binding &col = axis_[size_t(k.chain.col)];
  NNC_CHECK(width_ > 1 && laneAxis_ == k.chain.row, "a tile is read outside its block");
  llvm::Value *p =
      tileAddress(stage, addConst(col.base, col.plus), i64(int64_t(rowVector_) * k.schedule.lanes));
  return {b.CreateAlignedLoad(type(k.chain.type, true), p,
                              llvm::Align(uint64_t(ir::dtypeBytes(k.chain.type)))),
          true};
}

// --- products ------------------------------------------------------------------------------------

// The rows' factor where it lies along the terms: squares of as many rows as terms, turned. Rows
// beyond the last one are copies of it. False where it lies in another way.
bool Emitter::packSquares(const RowBlock &r, const Stage &s,
                          const std::function<llvm::Value *(int)> &packAt) {
  const AxisId along = s.reduce.back(), row = k.chain.row;
  const int width = k.schedule.lanes;
  const int64_t extent = constExtent(k, along);
  std::set<ExprId> used;
  collect(k, s.body, used);
  for (ExprId e : used)
    if (const Expr &x = k.exprs[size_t(e)];
        x.op == SOp::load && strideAlong(k, x.access.flat, along) != 1)
      return false;
  if (extent < width / 2) return false;
  const llvm::Align align{uint64_t(ir::dtypeBytes(k.chain.type))};
  auto squares = [&](llvm::Value *at, int terms) {
    for (int v = 0; v < r.vectors; ++v) {
      std::vector<llvm::Value *> rows;
      for (int i = 0; i < width; ++i) {
        bind(row, r.base, std::min(v * width + i, r.rows - 1));
        width_ = width;
        lanesAt(along, at, terms < width ? firstLanes(i64(terms)) : nullptr,
                [&] { rows.push_back(spread(expr(s.body))); });
        width_ = 1;
        unbind(row);
      }
      width_ = width;
      turnSquare(rows);
      width_ = 1;
      for (int j = 0; j < terms; ++j) {
        bind(along, addConst(at, j), 0);
        b.CreateAlignedStore(rows[size_t(j)], packAt(v), align);
        unbind(along);
      }
    }
  };
  const std::vector<AxisId> outer(s.reduce.begin(), s.reduce.end() - 1);
  forAxes(outer, 0, [&] {
    const int64_t whole = extent / width * width;
    forRange(i64(0), i64(whole), width, [&](llvm::Value *at) { squares(at, width); });
    if (whole < extent) squares(i64(whole), int(extent - whole));
  });
  return true;
}

void Emitter::emitProduct(const RowBlock &r, size_t stage) {
  const Stage &s = k.stages[stage];
  const ChainInfo &c = k.chain;
  const int width = k.schedule.lanes;
  const int64_t block = blockRows(), cols = constExtent(k, c.col);
  const llvm::Align align{uint64_t(ir::dtypeBytes(c.type))};
  llvm::Type *t = type(c.type), *vt = llvm::FixedVectorType::get(t, unsigned(width));
  int64_t places = 0;
  for (const ChainStep &step : c.steps) places = std::max<int64_t>(places, step.slot + 1);
  llvm::Value *pack = b.CreateGEP(t, scratch_, i64(places * cols * block));
  auto packAt = [&](int v) { // where the terms' axes stand
    llvm::Value *at = nullptr;
    for (AxisId a : s.reduce) {
      if (at) at = b.CreateMul(at, i64(constExtent(k, a)));
      at = add(at, axis_[size_t(a)].base);
    }
    return b.CreateGEP(t, b.CreateGEP(t, pack, b.CreateMul(at, i64(block))),
                       i64(int64_t(v) * width));
  };
  if (!packSquares(r, s, packAt))
    forAxes(s.reduce, 0, [&] {
      for (int v = 0; v < r.vectors; ++v)
        atRows(r, v, [&] { b.CreateAlignedStore(spread(expr(s.body)), packAt(v), align); });
    });
  // `count` columns from `col`: all rows of the block against each.
  auto columns = [&](llvm::Value *col, int count) {
    std::vector<llvm::AllocaInst *> acc;
    for (int i = 0; i < count * r.vectors; ++i) {
      acc.push_back(slot(vt, "acc"));
      b.CreateStore(llvm::Constant::getNullValue(vt), acc.back());
    }
    const size_t depth = scopes_.size();
    forAxes(s.reduce, 0, [&] {
      std::vector<llvm::Value *> rows;
      for (int v = 0; v < r.vectors; ++v) rows.push_back(b.CreateAlignedLoad(vt, packAt(v), align));
      for (int j = 0; j < count; ++j) {
        bind(c.col, col, j, depth);
        scopes_.emplace_back();
        llvm::Value *scalar = expr(c.steps[stage].b).v;
        scopes_.pop_back();
        unbind(c.col);
        llvm::Value *x = b.CreateVectorSplat(unsigned(width), scalar);
        for (int v = 0; v < r.vectors; ++v) {
          auto *a = acc[size_t(j * r.vectors + v)];
          b.CreateStore(multiplyAdd(c.type, x, rows[size_t(v)], b.CreateLoad(vt, a)), a);
        }
      }
    });
    for (int j = 0; j < count; ++j)
      for (int v = 0; v < r.vectors; ++v)
        b.CreateAlignedStore(b.CreateLoad(vt, acc[size_t(j * r.vectors + v)]),
                             tileAddress(int(stage), addConst(col, j), i64(int64_t(v) * width)),
                             align);
  };
  const int mr = k.schedule.mr;
  const int64_t whole = cols / mr * mr;
  llvm::Value *end = range_[size_t(c.col)].hi;
  forRange(i64(0), b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, end, i64(whole)), mr,
           [&](llvm::Value *col) { columns(col, mr); });
  if (whole < cols)
    ifThen(b.CreateICmpSGT(end, i64(whole)), [&] { columns(i64(whole), int(cols - whole)); });
}

void Emitter::emitTileStep(const RowBlock &r, size_t stage) {
  const AxisId col = k.chain.col;
  const llvm::Align align{uint64_t(ir::dtypeBytes(k.chain.type))};
  forAxis(col, [&] {
    llvm::Value *at = axis_[size_t(col)].base;
    for (int v = 0; v < r.vectors; ++v)
      atRows(r, v, [&] {
        llvm::Value *x = spread(expr(k.stages[stage].body));
        b.CreateAlignedStore(x, tileAddress(int(stage), at, i64(int64_t(v) * width_)), align);
      });
  });
}

void Emitter::emitRowStep(const RowBlock &r, size_t stage) {
  const Stage &s = k.stages[stage];
  for (int v = 0; v < r.vectors; ++v)
    atRows(r, v, [&] {
      const Values values = s.reduce.empty() ? Values{expr(s.body)} : reduce({&s}, -1);
      for (const Store &st : s.stores) store(st.access, values[size_t(st.slot)]);
      locals_[stage] = values;
    });
}

// --- sums over columns or rows -------------------------------------------------------------------

// Sums over rows live in the stores' places. Where these are of a narrower type, and on tile
// registers always, they live in scratch from the first block of rows to the last.
void Emitter::emitColSum(const RowBlock &r, size_t stage) {
  const Stage &s = k.stages[stage];
  if (k.chain.steps[stage].sumsAt < 0) return emitSums(r, stage, false);
  const llvm::Align align{uint64_t(ir::dtypeBytes(k.chain.type))};
  const AxisId lane = s.loop.back();
  const int64_t width = k.schedule.lanes;
  llvm::Type *vt = llvm::FixedVectorType::get(type(k.chain.type), unsigned(width));
  const int64_t extent = constExtent(k, lane), rest = extent % width;
  // All columns, whichever the rows' masks let through.
  auto eachSum = [&](const std::function<void(llvm::Value *)> &f) {
    forAxis(k.chain.col, [&] {
      llvm::Value *col = axis_[size_t(k.chain.col)].base;
      forAxes({s.loop.begin(), s.loop.end() - 1}, 0, [&] {
        auto at = [&](llvm::Value *from, llvm::Value *mask) {
          llvm::Value *p = heldSum(stage, col, from);
          lanesAt(lane, from, mask, [&] { f(p); });
        };
        width_ = int(width);
        forRange(i64(0), i64(extent - rest), width, [&](llvm::Value *from) { at(from, nullptr); });
        if (rest) at(i64(extent - rest), firstLanes(i64(rest)));
        width_ = 1;
      });
    });
  };
  const Range seen = range_[size_t(k.chain.col)];
  auto overAll = [&](const std::function<void(llvm::Value *)> &f) {
    range_[size_t(k.chain.col)] = {i64(0), i64(constExtent(k, k.chain.col))};
    eachSum(f);
    range_[size_t(k.chain.col)] = seen;
  };
  llvm::Value *first = nullptr, *last = nullptr;
  for (AxisId a : s.reduce) {
    const bool row = a == k.chain.row;
    llvm::Value *at = row ? r.base : axis_[size_t(a)].base;
    first = both(first, b.CreateICmpEQ(at, i64(0)));
    llvm::Value *end = dim(k.axes[size_t(a)].extent); // a sum over the batch ends where that ends
    last = both(last, b.CreateICmpEQ(addConst(at, row ? r.rows : 1), end));
  }
  ifThen(first, [&] {
    overAll([&](llvm::Value *p) {
      b.CreateAlignedStore(llvm::Constant::getNullValue(vt), p, align);
    });
  });
  chainTiles_ ? chainTiles_->colSum(r, stage) : emitSums(r, stage, false);
  ifThen(last, [&] {
    overAll([&](llvm::Value *p) {
      const Val sum{b.CreateAlignedLoad(vt, p, align), true};
      for (const Store &st : s.stores) store(st.access, sum);
    });
  });
}

// Where a sum over rows is kept: of the column and the other axes at hand, lanes from `lane`.
llvm::Value *Emitter::heldSum(size_t stage, llvm::Value *col, llvm::Value *lane) {
  const Stage &s = k.stages[stage];
  for (size_t i = 0; i + 1 < s.loop.size(); ++i)
    col = b.CreateAdd(b.CreateMul(col, i64(constExtent(k, s.loop[i]))),
                      axis_[size_t(s.loop[i])].base);
  llvm::Value *p = b.CreateGEP(b.getInt8Ty(), scratch_, i64(k.chain.steps[stage].sumsAt));
  return b.CreateGEP(type(k.chain.type), p, add(scaled(col, heldPitch(k, stage)), lane));
}

// perRow: out[row, loop] = sum over columns of tile * b; else out[col, loop] += sum over the
// block's rows, from zero in the first block. Vectors run along the last axis of `loop`.
void Emitter::emitSums(const RowBlock &r, size_t stage, bool perRow) {
  const Stage &s = k.stages[stage];
  const ChainInfo &c = k.chain;
  const int width = k.schedule.lanes;
  const llvm::Align align{uint64_t(ir::dtypeBytes(c.type))};
  llvm::Type *t = type(c.type), *vt = llvm::FixedVectorType::get(t, unsigned(width));
  const AxisId lane = s.loop.back();
  const std::vector<AxisId> loops(s.loop.begin(), s.loop.end() - 1);
  const int64_t extent = constExtent(k, lane), all = (extent + width - 1) / width;
  const bool wide = target_.vectorRegisters == 32;
  const int nv = int(std::min<int64_t>(all, all % 2 && all % 3 == 0 ? 3 : 2));
  const int mr = wide ? (nv == 1 ? 16 : 8) : 4;
  ExprId tile = s.body;
  while (k.exprs[size_t(tile)].op == SOp::convert) tile = k.exprs[size_t(tile)].args[0];
  const int made = k.exprs[size_t(tile)].stage;
  // The first time that this sum's elements are added to.
  llvm::Value *first = nullptr;
  if (!perRow)
    for (AxisId a : s.reduce)
      first = both(first, b.CreateICmpEQ(a == c.row ? r.base : axis_[size_t(a)].base, i64(0)));

  const bool held = c.steps[stage].sumsAt >= 0;
  auto sumAt = [&](llvm::Value *col, llvm::Value *at, int v) {
    return heldSum(stage, col, addConst(at, int64_t(v) * width));
  };
  // Lanes of vector v of `vectors` from `at`.
  auto atLanes = [&](llvm::Value *at, int v, llvm::Value *mask, size_t depth, const Body &body) {
    width_ = width;
    laneAxis_ = lane;
    mask_ = mask;
    bind(lane, at, int64_t(v) * width, depth);
    scopes_.emplace_back();
    body();
    scopes_.pop_back();
    unbind(lane);
    mask_ = nullptr;
    laneAxis_ = -1;
    width_ = 1;
  };
  // `count` results from `from` (rows counted from the block's first, or columns), `vectors` of
  // lanes.
  auto block = [&](llvm::Value *lanesAt, int vectors, llvm::Value *lastMask, llvm::Value *from,
                   int count) {
    const AxisId kept = perRow ? c.row : c.col, summed = perRow ? c.col : c.row;
    llvm::Value *base = perRow ? add(r.base, from) : from;
    const size_t depth = scopes_.size();
    auto maskOf = [&](int v) { return v + 1 == vectors ? lastMask : nullptr; };
    std::vector<llvm::AllocaInst *> acc;
    for (int i = 0; i < count; ++i)
      for (int v = 0; v < vectors; ++v) {
        acc.push_back(slot(vt, "acc"));
        llvm::Value *start = llvm::Constant::getNullValue(vt);
        if (held) {
          start = b.CreateAlignedLoad(vt, sumAt(addConst(base, i), lanesAt, v), align);
        } else if (!perRow && !s.stores.empty()) {
          bind(kept, base, i, depth);
          atLanes(lanesAt, v, maskOf(v), depth,
                  [&] { start = b.CreateSelect(first, start, spread(load(s.stores[0].access))); });
          unbind(kept);
        }
        b.CreateStore(start, acc.back());
      }
    llvm::Value *end = perRow ? range_[size_t(c.col)].hi : i64(r.rows);
    forRange(i64(0), end, 1, [&](llvm::Value *step) {
      const size_t inner = scopes_.size();
      bind(summed, perRow ? step : add(r.base, step), 0);
      std::vector<llvm::Value *> bs;
      for (int v = 0; v < vectors; ++v)
        atLanes(lanesAt, v, maskOf(v), inner,
                [&] { bs.push_back(spread(expr(c.steps[stage].b))); });
      unbind(summed);
      for (int i = 0; i < count; ++i) {
        llvm::Value *p = perRow ? tileAddress(made, step, addConst(from, i))
                                : tileAddress(made, addConst(from, i), step);
        llvm::Value *x = b.CreateVectorSplat(unsigned(width), b.CreateAlignedLoad(t, p, align));
        for (int v = 0; v < vectors; ++v) {
          auto *a = acc[size_t(i * vectors + v)];
          b.CreateStore(multiplyAdd(c.type, x, bs[size_t(v)], b.CreateLoad(vt, a)), a);
        }
      }
    });
    for (int i = 0; i < count; ++i) {
      if (held) {
        for (int v = 0; v < vectors; ++v)
          b.CreateAlignedStore(b.CreateLoad(vt, acc[size_t(i * vectors + v)]),
                               sumAt(addConst(base, i), lanesAt, v), align);
        continue;
      }
      bind(kept, base, i, depth);
      for (int v = 0; v < vectors; ++v)
        atLanes(lanesAt, v, maskOf(v), depth, [&] {
          for (const Store &st : s.stores)
            store(st.access, {b.CreateLoad(vt, acc[size_t(i * vectors + v)]), true});
        });
      unbind(kept);
    }
  };
  auto panel = [&](llvm::Value *lanesAt, int vectors, llvm::Value *lastMask) {
    const int64_t results = perRow ? r.rows : constExtent(k, c.col), whole = results / mr * mr;
    if (!perRow) {
      llvm::Value *end = range_[size_t(c.col)].hi;
      forRange(i64(0), b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, end, i64(whole)), mr,
               [&](llvm::Value *from) { block(lanesAt, vectors, lastMask, from, mr); });
      if (whole < results)
        ifThen(b.CreateICmpSGT(end, i64(whole)),
               [&] { block(lanesAt, vectors, lastMask, i64(whole), int(results - whole)); });
      // The sums of columns that no row of the first block sees begin as well.
      if (k.chain.hidden.any && !held)
        ifThen(first, [&] {
          forRange(end, i64(results), 1, [&](llvm::Value *from) {
            bind(c.col, from, 0);
            for (int v = 0; v < vectors; ++v)
              atLanes(lanesAt, v, v + 1 == vectors ? lastMask : nullptr, scopes_.size(), [&] {
                for (const Store &st : s.stores)
                  store(st.access, {llvm::Constant::getNullValue(vt), true});
              });
            unbind(c.col);
          });
        });
      return;
    }
    forRange(i64(0), i64(whole), mr,
             [&](llvm::Value *from) { block(lanesAt, vectors, lastMask, from, mr); });
    if (whole < results) block(lanesAt, vectors, lastMask, i64(whole), int(results - whole));
  };
  forAxes(loops, 0, [&] {
    const int64_t size = int64_t(nv) * width, whole = extent / size * size;
    forRange(i64(0), i64(whole), size, [&](llvm::Value *at) { panel(at, nv, nullptr); });
    if (whole == extent) return;
    const int64_t rest = extent - whole;
    width_ = width;
    llvm::Value *mask = rest % width ? firstLanes(i64(rest % width)) : nullptr;
    width_ = 1;
    panel(i64(whole), int((rest + width - 1) / width), mask);
  });
}

} // namespace nnc::cg
