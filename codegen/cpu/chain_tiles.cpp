// See chain_tiles.h.
#include "codegen/cpu/chain_tiles.h"
#include "codegen/cpu/schedule.h"
#include <numeric>

namespace nnc::cg {

namespace {

constexpr int64_t kTileBytes = 1024, kLine = 64;

int64_t constExtent(const Kernel &k, AxisId a) { return k.axes[size_t(a)].extent.b; }

// The axes of a step's second factor on the left: those whose elements are kept, and the terms.
struct LeftAxes {
  AxisId free = -1, terms = -1;
};
LeftAxes leftAxes(const Kernel &k, size_t step) {
  const Stage &s = k.stages[step];
  if (k.chain.steps[step].kind == StepKind::Product) return {k.chain.col, s.reduce[0]};
  return {s.loop[0], k.chain.col};
}

// Elements from column to column of a product's factor that tiles can be loaded from where it lies:
// bf16 along the terms, whole tiles of terms, columns enough to move the last tiles back.
std::optional<int64_t> pitchInPlace(const Kernel &k, size_t step) {
  if (k.chain.steps[step].kind != StepKind::Product) return std::nullopt;
  const LeftAxes axes = leftAxes(k, step);
  ExprId factor = k.chain.steps[step].b;
  while (k.exprs[size_t(factor)].op == SOp::convert) factor = k.exprs[size_t(factor)].args[0];
  const Expr &x = k.exprs[size_t(factor)];
  if (x.op != SOp::load || !x.access.guards.empty() ||
      k.args[size_t(x.access.arg)].dtype != DType::bf16 ||
      constExtent(k, axes.terms) % kAmxTerms != 0 || constExtent(k, axes.free) < 2 * kAmxCols ||
      strideAlong(k, x.access.flat, axes.terms) != 1)
    return std::nullopt;
  return strideAlong(k, x.access.flat, axes.free);
}

// Whether a block's sums over rows are complete before others begin: the axes that they run over
// are the innermost ones of the outer. (fuse_chain.cpp asks the same of the program's nodes.)
bool endsInTurn(const Kernel &k, const Stage &s) {
  bool sums = false;
  for (AxisId a : k.chain.outer) {
    if (k.axes[size_t(a)].extent == Dim(1)) continue;
    const bool summed = contains(s.reduce, a);
    if (sums && !summed) return false;
    sums |= summed;
  }
  return true;
}

} // namespace

bool fitsTiles(const Kernel &k, const Target &t) {
  if (!t.amx || k.chain.type != DType::f32 || t.vectorBytes != 64) return false;
  for (size_t i = 0; i < k.stages.size(); ++i) {
    const Stage &s = k.stages[i];
    const ChainStep &step = k.chain.steps[i];
    if (step.b < 0) continue;
    const std::vector<AxisId> &own = step.kind == StepKind::Product ? s.reduce : s.loop;
    if (own.size() != 1 || !k.axes[size_t(own[0])].extent.isConst() || !isBf16(k, s.body) ||
        !isBf16(k, step.b) || (step.kind == StepKind::ColSum && !endsInTurn(k, s)))
      return false;
  }
  return true;
}

ChainScratch chainScratch(const Kernel &k) {
  ChainScratch x;
  int64_t places = 0, right = 0;
  for (const ChainStep &step : k.chain.steps) places = std::max<int64_t>(places, step.slot + 1);
  x.total = places * chainColumns(k) * chainRows(k) * int64_t(sizeof(float));
  auto take = [&](int64_t size) {
    const int64_t at = x.total;
    x.total += size;
    return at;
  };
  const int64_t vectors = k.schedule.nv;
  for (size_t i = 0; i < k.stages.size(); ++i) {
    const StepKind kind = k.chain.steps[i].kind;
    x.factors.push_back(-1);
    if (kind == StepKind::Product)
      right = std::max(right, vectors * ceilDiv(constExtent(k, k.stages[i].reduce[0]), kAmxTerms));
    if (kind == StepKind::ColSum)
      right = std::max(right, ceilDiv(constExtent(k, k.stages[i].loop[0]), kAmxCols));
    if ((kind != StepKind::Product && kind != StepKind::RowSum) || pitchInPlace(k, i)) continue;
    const LeftAxes axes = leftAxes(k, i);
    // Columns are taken by two tiles.
    const int64_t frees = kind == StepKind::Product ? chainColumns(k) : constExtent(k, axes.free);
    x.factors.back() = take(ceilDiv(frees, kAmxRows) *
                            ceilDiv(constExtent(k, axes.terms), kAmxTerms) * kTileBytes);
  }
  x.right = take(right * kTileBytes);
  x.rounded = take(chainColumns(k) * kLine);
  x.results = take(4 * kTileBytes);
  return x;
}

// --- forms of the factors ------------------------------------------------------------------------

// The steps of an axis in parts; how many the last part has is known.
void ChainTiles::eachPart(int64_t extent, int64_t unit, const std::function<void(V, int)> &body) {
  const int64_t whole = extent / unit * unit;
  e.forRange(e.i64(0), e.i64(whole), unit, [&](V at) { body(at, int(unit)); });
  if (whole < extent) body(e.i64(whole), int(extent - whole));
}

// 16 values of bf16 along an axis, as the bits of f32; zeros behind the last step.
ChainTiles::V ChainTiles::bitsAt(ExprId factor, const Steps &lanes) {
  if (lanes.count <= 0) return nothing();
  e.width_ = 16;
  V mask = lanes.count < 16 ? e.firstLanes(e.i64(lanes.count)) : nullptr, value = nullptr;
  e.lanesAt(lanes.axis, e.addConst(lanes.base, lanes.plus), mask,
            [&] { value = e.spread(e.expr(factor)); });
  e.width_ = 1;
  value = b.CreateBitCast(value, pairs());
  return mask ? b.CreateSelect(mask, value, nothing()) : value;
}

// The upper halves.
ChainTiles::V ChainTiles::words(V bits) {
  return b.CreateTrunc(b.CreateLShr(bits, 16), llvm::FixedVectorType::get(b.getInt16Ty(), 16));
}

// 32 values behind each other.
ChainTiles::V ChainTiles::joined(V low, V high) {
  std::vector<int> all(32);
  std::iota(all.begin(), all.end(), 0);
  return b.CreateBitCast(b.CreateShuffleVector(words(low), words(high), all), pairs());
}

// 2 x 16 values, alternately.
ChainTiles::V ChainTiles::pairsOf(V low, V high) {
  V upper = llvm::ConstantInt::get(pairs(), 0xffff0000u);
  return b.CreateOr(b.CreateLShr(low, 16), b.CreateAnd(high, upper));
}

// 32 terms of 16 others as a tile's lines: on the left one for each of the others, on the right one
// for each pair of terms.
std::vector<ChainTiles::V> ChainTiles::square(ExprId factor, const Steps &free, const Steps &terms,
                                              bool right) {
  std::set<ExprId> used;
  collect(k, factor, used);
  bool alongFree = false;
  for (ExprId id : used)
    if (const Expr &x = k.exprs[size_t(id)]; x.op == SOp::load)
      alongFree |= strideAlong(k, x.access.flat, free.axis) == 1 &&
                   strideAlong(k, x.access.flat, terms.axis) != 1;
  auto part = [](const Steps &s, int from, int count) {
    return Steps{s.axis, s.base, s.plus + from, std::min(count, s.count - from)};
  };
  auto boundAt = [&](const Steps &s, int i, const std::function<V()> &read) {
    e.bind(s.axis, s.base, s.plus + i);
    e.scopes_.emplace_back();
    V value = read();
    e.scopes_.pop_back();
    e.unbind(s.axis);
    return value;
  };
  std::vector<V> lines;
  for (int i = 0; i < 16; ++i) {
    if (alongFree) {
      auto term = [&](int t) {
        if (t >= terms.count) return nothing();
        return boundAt(terms, t, [&] { return bitsAt(factor, free); });
      };
      V low = term(2 * i);
      lines.push_back(pairsOf(low, term(2 * i + 1)));
    } else {
      lines.push_back(boundAt(free, std::min(i, free.count - 1), [&] {
        V low = bitsAt(factor, part(terms, 0, 16));
        return joined(low, bitsAt(factor, part(terms, 16, 16)));
      }));
    }
  }
  if (alongFree != right) e.turnSquare(lines);
  return lines;
}

void ChainTiles::put(const std::vector<V> &lines, V to) {
  for (size_t i = 0; i < lines.size(); ++i)
    b.CreateAlignedStore(lines[i], bytes(to, int64_t(i) * kLine), llvm::Align(4));
}

// Second factors on the left that are not read where they lie.
void ChainTiles::copyFactors() {
  for (size_t i = 0; i < k.stages.size(); ++i) {
    if (shape_.factors[i] < 0) continue;
    const LeftAxes axes = leftAxes(k, i);
    const int64_t terms = constExtent(k, axes.terms), tiles = ceilDiv(terms, kAmxTerms);
    eachPart(constExtent(k, axes.free), kAmxRows, [&](V free, int frees) {
      eachPart(terms, kAmxTerms, [&](V term, int count) {
        V to = bytes(scratch(shape_.factors[i]), e.scaled(free, tiles * kLine));
        const Steps rows{axes.free, free, 0, frees}, along{axes.terms, term, 0, count};
        put(square(k.chain.steps[i].b, rows, along, false),
            bytes(to, e.scaled(term, kTileBytes / kAmxTerms)));
      });
    });
  }
}

// A block's factor in pairs: tiles of the others by 16, each with all terms.
void ChainTiles::copyRight(ExprId factor, AxisId free, V freeBase, int64_t frees, AxisId terms,
                           V termBase, int64_t count) {
  const int64_t tiles = ceilDiv(count, kAmxTerms);
  eachPart(frees, kAmxCols, [&](V at, int some) {
    eachPart(count, kAmxTerms, [&](V term, int steps) {
      V to = bytes(scratch(shape_.right), e.scaled(at, tiles * kLine));
      const Steps columns{free, e.add(freeBase, at), 0, some},
          down{terms, e.add(termBase, term), 0, steps};
      put(square(factor, columns, down, true), bytes(to, e.scaled(term, kTileBytes / kAmxTerms)));
    });
  });
}

// --- steps ---------------------------------------------------------------------------------------

// down x across tiles of sums, each of `steps` times 32 terms.
ChainTiles::Tiles ChainTiles::multiply(int down, int across, V steps, Tiles sums, const At &left,
                                       const At &right) {
  auto once = [&](V i) {
    Tiles rows, columns;
    for (int r = 0; r < down; ++r) rows.push_back(left(r, i));
    for (int c = 0; c < across; ++c) columns.push_back(right(c, i));
    for (int r = 0; r < down; ++r)
      for (int c = 0; c < across; ++c) {
        V &sum = sums[size_t(r * across + c)];
        sum = tile_.multiply(sum, rows[size_t(r)], columns[size_t(c)]);
      }
  };
  if (auto *known = llvm::dyn_cast<llvm::ConstantInt>(steps); known && known->isOne()) {
    once(e.i64(0));
    return sums;
  }
  auto &context = e.m_.getContext();
  auto *before = b.GetInsertBlock();
  auto *loop = llvm::BasicBlock::Create(context, "terms", e.fn_);
  auto *after = llvm::BasicBlock::Create(context, "summed", e.fn_);
  b.CreateBr(loop);
  b.SetInsertPoint(loop);
  auto *i = b.CreatePHI(b.getInt64Ty(), 2, "i");
  i->addIncoming(e.i64(0), before);
  std::vector<llvm::PHINode *> soFar;
  for (V &sum : sums) {
    soFar.push_back(b.CreatePHI(sum->getType(), 2, "sum"));
    soFar.back()->addIncoming(sum, before);
    sum = soFar.back();
  }
  once(i);
  V next = b.CreateAdd(i, e.i64(1), "next", false, true);
  i->addIncoming(next, loop);
  for (size_t j = 0; j < sums.size(); ++j) soFar[j]->addIncoming(sums[j], loop);
  b.CreateCondBr(b.CreateICmpSLT(next, steps), loop, after);
  b.SetInsertPoint(after);
  return sums;
}

void ChainTiles::product(const Emitter::RowBlock &r, size_t stage) {
  const Stage &s = k.stages[stage];
  const AxisId col = k.chain.col, terms = s.reduce[0];
  const int64_t count = constExtent(k, terms), steps = ceilDiv(count, kAmxTerms);
  copyRight(s.body, k.chain.row, r.base, r.rows, terms, e.i64(0), count);
  const std::optional<int64_t> pitch = pitchInPlace(k, stage);
  ExprId factor = k.chain.steps[stage].b;
  while (k.exprs[size_t(factor)].op == SOp::convert) factor = k.exprs[size_t(factor)].args[0];
  e.forRange(e.i64(0), e.range_[size_t(col)].hi, 2 * kAmxRows, [&](V at) {
    V from = nullptr;
    if (pitch) {
      const int64_t last = constExtent(k, col) - 2 * kAmxRows;
      if (constExtent(k, col) % (2 * kAmxRows) != 0)
        at = b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, at, e.i64(last));
      const Access &access = k.exprs[size_t(factor)].access;
      e.bind(col, at, 0), e.bind(terms, e.i64(0), 0);
      e.scopes_.emplace_back();
      from = e.address(access.arg, e.index(access.flat));
      e.scopes_.pop_back();
      e.unbind(col), e.unbind(terms);
    } else {
      from = bytes(scratch(shape_.factors[stage]), e.scaled(at, steps * kLine));
    }
    const int64_t line = pitch ? *pitch * 2 : kLine, step = pitch ? kLine : kTileBytes,
                  tile = pitch ? kAmxRows * line : steps * kTileBytes;
    const Tiles sums = multiply(
        2, r.vectors, e.i64(steps), zeros(2 * r.vectors),
        [&](int j, V i) {
          return tile_.load(bytes(bytes(from, j * tile), e.scaled(i, step)), e.i64(line));
        },
        [&](int v, V i) {
          V p = bytes(scratch(shape_.right), v * steps * kTileBytes);
          return tile_.load(bytes(p, e.scaled(i, kTileBytes)), e.i64(kLine));
        });
    for (int j = 0; j < 2; ++j)
      for (int v = 0; v < r.vectors; ++v)
        tile_.store(sums[size_t(j * r.vectors + v)],
                    e.tileAddress(int(stage), e.addConst(at, j * kAmxRows), e.i64(v * kAmxCols)),
                    e.i64(chainRows(k) * int64_t(sizeof(float))));
  });
}

ChainTiles::Tiles ChainTiles::zeros(int count) {
  Tiles all;
  for (int i = 0; i < count; ++i) all.push_back(tile_.zero());
  return all;
}

// The stage whose tile a sum adds up. Its values are bf16: tiles are pointwise steps of rounded
// programs, and a sum of a product's tile has a step between (fuse_chain.cpp).
int ChainTiles::madeBy(const Stage &s) const {
  ExprId tile = s.body;
  while (k.exprs[size_t(tile)].op == SOp::convert) tile = k.exprs[size_t(tile)].args[0];
  return k.exprs[size_t(tile)].stage;
}

// A line of a tile: 16 rows of a column.
ChainTiles::V ChainTiles::elements(int stage, V col, int v) {
  V at = e.tileAddress(stage, col, e.i64(v * kAmxCols));
  return b.CreateAlignedLoad(pairs(), at, llvm::Align(4));
}

void ChainTiles::rowSum(const Emitter::RowBlock &r, size_t stage) {
  const Stage &s = k.stages[stage];
  const int made = madeBy(s), vectors = r.vectors;
  const AxisId lane = s.loop[0];
  const int64_t cols = constExtent(k, k.chain.col), tiles = ceilDiv(cols, kAmxTerms);
  V end = e.range_[size_t(k.chain.col)].hi, rounded = scratch(shape_.rounded);
  auto tilePairs = [&](V at, int count) {
    for (int v = 0; v < vectors; ++v) {
      std::vector<V> lines;
      for (int i = 0; i < 32; i += 2) {
        auto line = [&](int j) {
          return j < count ? elements(made, e.addConst(at, j), v) : nothing();
        };
        V low = line(i);
        lines.push_back(pairsOf(low, line(i + 1)));
      }
      V to = bytes(rounded, e.scaled(at, vectors * kTileBytes / kAmxTerms));
      put(lines, bytes(to, v * kTileBytes));
    }
  };
  const int64_t whole = cols / kAmxTerms * kAmxTerms;
  e.forRange(e.i64(0), b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, end, e.i64(whole)), kAmxTerms,
             [&](V at) { tilePairs(at, kAmxTerms); });
  if (whole < cols)
    e.ifThen(b.CreateICmpSGT(end, e.i64(whole)),
             [&] { tilePairs(e.i64(whole), int(cols - whole)); });

  V steps = b.CreateUDiv(e.addConst(end, kAmxTerms - 1), e.i64(kAmxTerms));
  V results = scratch(shape_.results);
  eachPart(constExtent(k, lane), 2 * kAmxRows, [&](V at, int lanes) {
    const int down = lanes > kAmxRows ? 2 : 1;
    V from = bytes(scratch(shape_.factors[stage]), e.scaled(at, tiles * kLine));
    const Tiles sums = multiply(
        down, vectors, steps, zeros(down * vectors),
        [&](int j, V i) {
          V at = bytes(from, j * tiles * kTileBytes);
          return tile_.load(bytes(at, e.scaled(i, kTileBytes)), e.i64(kLine));
        },
        [&](int v, V i) {
          V at = bytes(rounded, v * kTileBytes);
          return tile_.load(bytes(at, e.scaled(i, vectors * kTileBytes)), e.i64(kLine));
        });
    for (int j = 0; j < down; ++j)
      for (int v = 0; v < vectors; ++v) {
        V place = bytes(results, (j * vectors + v) * kTileBytes);
        tile_.store(sums[size_t(j * vectors + v)], place, e.i64(kLine));
        std::vector<V> lines;
        for (int i = 0; i < 16; ++i)
          lines.push_back(b.CreateAlignedLoad(pairs(), bytes(place, i * kLine), llvm::Align(4)));
        e.turnSquare(lines);
        put(lines, place);
      }
    llvm::Type *floats = llvm::FixedVectorType::get(b.getFloatTy(), 16);
    for (int v = 0; v < vectors; ++v)
      e.forRange(e.i64(0), e.i64(std::min(kAmxCols, r.rows - v * kAmxCols)), 1, [&](V row) {
        e.bind(k.chain.row, e.add(r.base, e.addConst(row, v * kAmxCols)), 0);
        for (int j = 0; j < down; ++j) {
          V place = bytes(bytes(results, (j * vectors + v) * kTileBytes), e.scaled(row, kLine));
          const Val sum{b.CreateAlignedLoad(floats, place, llvm::Align(4)), true};
          e.width_ = 16;
          const int left = lanes - j * int(kAmxRows);
          V mask = left < kAmxRows ? e.firstLanes(e.i64(left)) : nullptr;
          e.lanesAt(lane, e.addConst(at, j * kAmxRows), mask, [&] {
            for (const Store &st : s.stores) e.store(st.access, sum);
          });
          e.width_ = 1;
        }
        e.unbind(k.chain.row);
      });
  });
}

void ChainTiles::colSum(const Emitter::RowBlock &r, size_t stage) {
  const Stage &s = k.stages[stage];
  const int made = madeBy(s);
  const AxisId lane = s.loop[0];
  V end = e.range_[size_t(k.chain.col)].hi, rounded = scratch(shape_.rounded),
    right = scratch(shape_.right);
  // Rows behind the last one are zero, those of the columns are never stored.
  std::vector<llvm::Constant *> rows;
  for (int i = 0; i < 32; ++i) rows.push_back(b.getInt16(i < r.rows ? 0xffff : 0));
  V there = b.CreateBitCast(llvm::ConstantVector::get(rows), pairs());
  e.forRange(e.i64(0), end, 1, [&](V col) {
    V low = elements(made, col, 0), high = r.vectors > 1 ? elements(made, col, 1) : nothing();
    V line = joined(low, high);
    if (r.rows < 32) line = b.CreateAnd(line, there);
    b.CreateAlignedStore(line, bytes(rounded, e.scaled(col, kLine)), llvm::Align(4));
  });
  copyRight(k.chain.steps[stage].b, lane, e.i64(0), constExtent(k, lane), k.chain.row, r.base,
            r.rows);
  const int64_t pitch = heldPitch(k, stage) * int64_t(sizeof(float));
  e.forRange(e.i64(0), end, 2 * kAmxRows, [&](V col) {
    eachPart(constExtent(k, lane), 2 * kAmxCols, [&](V at, int lanes) {
      const int across = lanes > kAmxCols ? 2 : 1;
      V to = e.heldSum(stage, col, at);
      auto place = [&](int j) {
        return bytes(to, j / across * kAmxRows * pitch + j % across * kLine);
      };
      Tiles sums;
      for (int j = 0; j < 2 * across; ++j) sums.push_back(tile_.load(place(j), e.i64(pitch)));
      sums = multiply(
          2, across, e.i64(1), sums,
          [&](int j, V) {
            V line = e.addConst(col, j * kAmxRows);
            return tile_.load(bytes(rounded, e.scaled(line, kLine)), e.i64(kLine));
          },
          [&](int v, V) {
            V first = e.addConst(at, v * kAmxCols);
            return tile_.load(bytes(right, e.scaled(first, kLine)), e.i64(kLine));
          });
      for (int j = 0; j < 2 * across; ++j) tile_.store(sums[size_t(j)], place(j), e.i64(pitch));
    });
  });
}

} // namespace nnc::cg
