// Contractions of bf16 on tile registers.
//
// Problem. What amx.h says, as code: bring the operands into the forms that tiles are loaded from,
// run the tiles, hand the sums to the epilogue.
//
//   y[512, 2048] = relu(x[512, 2048] . w[2048, 2048] + bias), an item of 256 columns:
//     pairs of rows of w side by side: 16 x 64 copies of 32 terms x 16 columns
//     for rows by 32:  for columns by 32:
//       2 x 2 tiles of sums = 0
//       for terms by 32: 2 tiles of x where it lies, 2 of the copy of w, 4 products
//       the sums to 4 KB of scratch; epilogue of 32 x 2 vectors from there
//
// Method. The nest of an item is one function without calls, so that the tiles are configured once
// and live in registers (tile_ops.h has their operations, and what takes their place where there
// are none). A matrix is turned by squares of 16 x 16 pairs of terms; an operand with guards or
// uneven strides is gathered first, as the rows of the direction in which it is contiguous. Rows
// and columns beyond the end hold whatever lies in the scratch and give sums that nobody reads;
// terms beyond the end are zero in both operands, since 0 * NaN is not 0.
#include "codegen/amx.h"
#include "codegen/cpu/emitter.h"
#include "codegen/cpu/schedule.h"
#include "codegen/cpu/tile_ops.h"
#include "codegen/pack.h"
#include <llvm/IR/IntrinsicsX86.h>
#include <numeric>

namespace nnc::cg {

class AmxEmitter {
 public:
  explicit AmxEmitter(Emitter &emitter)
      : e(emitter), b(emitter.b), k(emitter.k), s(k.schedule), shape_(amxScratch(k)),
        rowsOperand_(amxOperand(k, false)), colsOperand_(amxOperand(k, true)), terms_(amxTerms(k)),
        tile_(b, emitter.target_) {}
  void run();

 private:
  using V = llvm::Value *;
  using Body = std::function<void()>;

  Emitter &e;
  llvm::IRBuilder<> &b;
  Kernel &k;
  const Schedule &s;
  const AmxScratch shape_;
  const AmxOperand rowsOperand_, colsOperand_;
  const std::vector<AxisId> terms_;
  TileOps tile_;

  // A matrix in memory: lines of bf16 or f32, `pitch` bytes apart. `full`: there is room for
  // whole tiles, and the terms are filled up with zeros.
  struct Matrix {
    V base = nullptr;
    int64_t pitch = 0;
    bool alongTerms = false, full = false;
    bool wide = false; // of f32
  };
  // Several axes as one: its steps now.
  struct Joint {
    std::vector<AxisId> axes;
    std::vector<Range> ranges;
    V count = nullptr;
    int64_t unit = 1; // a divisor of the count
  };
  Joint rows_, cols_, ks_; // at hand: the rows of a copy, the columns of the item, a block of terms
  V copy_ = nullptr;       // its number; null: the only one
  V tiles_ = nullptr;      // of 32 terms in the block at hand
  V rowBase_ = nullptr;    // where the rows' lines begin
  int64_t rowPitch_ = 0;   // .. and their distance in bytes
  V colBase_ = nullptr;    // where the tiles of the columns begin
  int64_t colPitch_ = 0;   // .. and the bytes from column to column
  bool inLine_ = false;    // the stages see rows at one distance
  const bool sums_ = sumsBeside(k) != nullptr;
  const bool holds_ = holdsTileSums(k); // the sums beside the product stay in registers for a tile

  Joint joint(const std::vector<AxisId> &axes);
  V numberIn(const Joint &j);
  void bindNumber(const Joint &j, V number);
  void bindRow(V number);
  bool rowsInLine();
  void unbindAll(const Joint &j);

  V scratch(int64_t at) { return bytes(e.scratch_, e.i64(at)); }
  V bytes(V p, V offset) { return b.CreateGEP(b.getInt8Ty(), p, offset); }
  V times(V x, int64_t c) { return e.scaled(x, c); }
  V least(V x, V y) { return b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, x, y); }
  llvm::Type *words(int n) { return llvm::FixedVectorType::get(b.getInt16Ty(), unsigned(n)); }
  llvm::Type *pairs() { return llvm::FixedVectorType::get(b.getInt32Ty(), 16); }
  V noted(V access) {
    e.noteAlias(access, e.amxArg_);
    return access;
  }
  V firstOf(int width, V count);

  void block(V first);
  void packColumns();
  void packRows();
  Matrix inMemory(ExprId operand, const AmxOperand &o, const Joint &free);
  void gather(ExprId operand, const Joint &free, const Matrix &to);
  AxisId runAxis(const Access &access, const Joint &outer, AxisId lane);
  Range guardedRange(const Access &access, AxisId run, Range all);
  void copyLine(V from, int32_t arg, V to, V count);
  void clearRest(const Joint &free, const Matrix &to);
  void turn(const Matrix &from, const Joint &free, bool toRows, V to);
  std::vector<V> square(const Matrix &from, const Joint &frees, V free, V term, bool lastTerms);
  V roundedLine(V values);
  std::vector<V> turnedSquare(const Matrix &from, V free, V term);
  void eachCopy(const Body &body);
  V sumsOfCopy();
  void tile(V row, const Emitter::Tile &t, V first);
  void epilogue(V sums, V number, V from, V to, const Emitter::Tile &t);
};

void Emitter::emitAmx() { AmxEmitter(*this).run(); }

// --- axes as one ---------------------------------------------------------------------------------

AmxEmitter::Joint AmxEmitter::joint(const std::vector<AxisId> &axes) {
  Joint j;
  for (AxisId a : axes) {
    j.axes.push_back(a);
    j.ranges.push_back(e.extentOf(a));
    V count = b.CreateSub(j.ranges.back().hi, j.ranges.back().lo);
    j.count = j.count ? b.CreateMul(j.count, count) : count;
    j.unit *= unitOfSteps(k, a);
  }
  if (!j.count) j.count = e.i64(1);
  return j;
}

// The number of the step at which the axes are bound.
AmxEmitter::V AmxEmitter::numberIn(const Joint &j) {
  V number = nullptr;
  for (size_t i = 0; i < j.axes.size(); ++i) {
    const Binding &at = e.axis_[size_t(j.axes[i])];
    V step = b.CreateSub(e.addConst(at.base, at.plus), j.ranges[i].lo);
    if (number) number = b.CreateMul(number, b.CreateSub(j.ranges[i].hi, j.ranges[i].lo));
    number = number ? b.CreateAdd(number, step) : step;
  }
  return number ? number : e.i64(0);
}

void AmxEmitter::bindNumber(const Joint &j, V number) {
  for (size_t i = j.axes.size(); i-- > 0;) {
    V step = number;
    if (i > 0) {
      V count = b.CreateSub(j.ranges[i].hi, j.ranges[i].lo);
      step = b.CreateURem(number, count);
      number = b.CreateUDiv(number, count);
    }
    e.bind(j.axes[i], b.CreateAdd(j.ranges[i].lo, step), 0);
  }
}

// Whether everything in the stages moves by the same distance from each row to the next, so that
// all axes of the rows can be bound as if the last one went on.
bool AmxEmitter::rowsInLine() {
  auto axisOf = [&](const Term &t) {
    const Atom &a = k.atoms[size_t(t.atom)];
    return a.kind == Atom::Axis ? a.axis : -1;
  };
  auto even = [&](const Access &a) {
    return a.guards.empty() && jointStride(k, a.flat, k.contract.m);
  };
  auto free = [&](const Index &x) {
    return std::all_of(x.terms.begin(), x.terms.end(), [&](const Term &t) {
      return axisOf(t) >= 0 && !contains(k.contract.m, axisOf(t));
    });
  };
  if (sums_ && !holds_) return false;
  std::set<ExprId> used;
  for (const Stage &st : k.stages) {
    for (const Store &store : st.stores)
      if (!st.chunk && !even(store.access)) return false;
    if (st.body >= 0) collect(k, st.body, used);
  }
  return std::all_of(used.begin(), used.end(), [&](ExprId id) {
    const Expr &x = k.exprs[size_t(id)];
    switch (x.op) {
    case SOp::load: return even(x.access);
    case SOp::index:
    case SOp::random: return free(x.index);
    case SOp::guard: return false;
    default: return true;
    }
  });
}

void AmxEmitter::bindRow(V number) {
  if (!inLine_) return bindNumber(rows_, number);
  size_t last = 0;
  for (size_t i = 0; i < rows_.axes.size(); ++i)
    if (extentAt(k, rows_.axes[i]) > 1) last = i;
  for (size_t i = 0; i < rows_.axes.size(); ++i) {
    V from = rows_.ranges[i].lo;
    e.bind(rows_.axes[i], i == last ? b.CreateAdd(from, number) : from, 0);
  }
}

void AmxEmitter::unbindAll(const Joint &j) {
  for (AxisId a : j.axes) e.unbind(a);
}

AmxEmitter::V AmxEmitter::firstOf(int width, V count) {
  const int saved = e.width_;
  e.width_ = width;
  V mask = e.firstLanes(count);
  e.width_ = saved;
  return mask;
}

// --- copies --------------------------------------------------------------------------------------

// Where an operand lies as a matrix: the address of its first element in this block.
AmxEmitter::Matrix AmxEmitter::inMemory(ExprId operand, const AmxOperand &o, const Joint &free) {
  const Access &at = k.exprs[size_t(operandLoad(k, operand))].access;
  auto bindAll = [&](const Joint &j) {
    for (size_t i = 0; i < j.axes.size(); ++i) e.bind(j.axes[i], j.ranges[i].lo, 0);
  };
  bindAll(free), bindAll(ks_);
  e.scopes_.emplace_back();
  Matrix m{e.address(at.arg, e.index(at.flat)), o.pitch * (o.wide ? 4 : 2), o.alongTerms, false,
           o.wide};
  e.scopes_.pop_back();
  unbindAll(free), unbindAll(ks_);
  return m;
}

// The operand line by line of the direction in which it is contiguous. The loop around the lines of
// a direction is over the last axis of the other one: pixels of a picture's row, say, of which
// guards let through those from one to another. What is left around it is one copy.
void AmxEmitter::gather(ExprId operand, const Joint &free, const Matrix &to) {
  const auto &outer = to.alongTerms ? free : ks_, &inner = to.alongTerms ? ks_ : free;
  const AxisId lane = inner.axes.back();
  std::vector<AxisId> loops = outer.axes;
  loops.insert(loops.end(), inner.axes.begin(), inner.axes.end() - 1);
  auto place = [&](V i) {
    V at = bytes(to.base, times(numberIn(outer), to.pitch));
    return bytes(at, times(i, 2));
  };
  auto elements = [&] {
    V value = e.spread(e.expr(operand));
    V bits = b.CreateBitCast(value, e.width_ > 1 ? pairs() : b.getInt32Ty());
    bits = b.CreateTrunc(b.CreateLShr(bits, 16), e.width_ > 1 ? words(16) : b.getInt16Ty());
    V at = place(numberIn(inner));
    if (e.mask_)
      noted(b.CreateMaskedStore(bits, at, llvm::Align(2), e.mask_));
    else
      noted(b.CreateAlignedStore(bits, at, llvm::Align(2)));
  };
  e.scopes_.emplace_back();
  const Access &access = k.exprs[size_t(operandLoad(k, operand))].access;
  const AxisId run = runAxis(access, outer, lane);
  if (run < 0) {
    e.forAxes(loops, 0, [&] { e.forLanes(lane, elements); });
  } else {
    const bool copied = k.args[size_t(access.arg)].dtype == DType::bf16 &&
                        strideAlong(k, access.flat, lane) == std::optional<int64_t>(1);
    std::erase(loops, run);
    e.forAxes(loops, 0, [&] {
      const Range all = e.extentOf(run), inside = guardedRange(access, run, all);
      auto over = [&](V from, V end, const Body &body) {
        e.forRange(from, end, 1, [&](V i) {
          e.bind(run, i, 0);
          body();
          e.unbind(run);
        });
      };
      auto line = [&](bool zero) {
        const Range r = e.extentOf(lane);
        e.bind(lane, r.lo, 0);
        V from = zero ? nullptr : e.address(access.arg, e.index(access.flat));
        copyLine(from, access.arg, place(numberIn(inner)), b.CreateSub(r.hi, r.lo));
        e.unbind(lane);
      };
      if (!access.guards.empty()) over(all.lo, inside.lo, [&] { line(true); });
      over(inside.lo, inside.hi, [&] {
        if (copied) return line(false);
        e.guardsHold_ = true;
        e.forLanes(lane, elements);
        e.guardsHold_ = false;
      });
      if (!access.guards.empty()) over(inside.hi, all.hi, [&] { line(true); });
    });
  }
  e.scopes_.pop_back();
  clearRest(free, to);
}

// The axis of the loop around the lines: the last that has steps; -1 if lines cannot be copied as a
// whole, because guards look at the lane or at something else than axes.
AxisId AmxEmitter::runAxis(const Access &access, const Joint &outer, AxisId lane) {
  AxisId run = -1;
  for (AxisId a : outer.axes)
    if (run < 0 || k.axes[size_t(a)].extent != Dim(1)) run = a;
  if (run < 0 || run == lane) return -1;
  for (const Guard &g : access.guards)
    for (const Term &t : g.index.terms) {
      const Atom &atom = k.atoms[size_t(t.atom)];
      if (atom.kind != Atom::Axis || atom.axis == lane) return -1;
      if (atom.axis == run && t.coef < 0) return -1;
    }
  for (const Term &t : access.flat.terms)
    if (k.atoms[size_t(t.atom)].kind != Atom::Axis) return -1;
  return run;
}

// The steps of an axis at which all guards hold; they are next to each other.
Range AmxEmitter::guardedRange(const Access &access, AxisId run, Range all) {
  V lo = all.lo, hi = all.hi, others = nullptr;
  auto most = [&](V x, V y) { return b.CreateBinaryIntrinsic(llvm::Intrinsic::smax, x, y); };
  for (const Guard &g : access.guards) {
    Index rest = g.index;
    int64_t coef = 0;
    std::erase_if(rest.terms, [&](const Term &t) {
      if (k.atoms[size_t(t.atom)].axis != run) return false;
      coef += t.coef;
      return true;
    });
    V at = e.scalarIndex(e.index(rest)), from = e.i64(g.lo), end = e.dim(g.hi);
    if (coef == 0) {
      V holds = b.CreateAnd(b.CreateICmpSGE(at, from), b.CreateICmpSLT(at, end));
      others = e.both(others, holds);
      continue;
    }
    auto firstFrom = [&](V limit) { // the first step that brings the index to the limit
      V way = most(b.CreateSub(limit, at), e.i64(0));
      return b.CreateUDiv(e.addConst(way, coef - 1), e.i64(coef));
    };
    lo = most(lo, firstFrom(from));
    hi = least(hi, firstFrom(end));
  }
  if (others) hi = b.CreateSelect(others, hi, all.lo);
  lo = least(lo, all.hi);
  return {lo, most(lo, hi)};
}

// `count` elements from memory, or zeros.
void AmxEmitter::copyLine(V from, int32_t arg, V to, V count) {
  auto part = [&](V at, int width, V mask) {
    llvm::Type *t = words(width);
    V value = llvm::Constant::getNullValue(t), offset = times(at, 2);
    if (from) {
      V p = bytes(from, offset);
      value = mask ? V(b.CreateMaskedLoad(t, p, llvm::Align(2), mask, value))
                   : V(b.CreateAlignedLoad(t, p, llvm::Align(2)));
      e.noteAlias(value, arg);
    }
    V p = bytes(to, offset);
    noted(mask ? V(b.CreateMaskedStore(value, p, llvm::Align(2), mask))
               : V(b.CreateAlignedStore(value, p, llvm::Align(2))));
  };
  auto *known = llvm::dyn_cast<llvm::ConstantInt>(count);
  V whole = b.CreateAnd(count, e.i64(-32));
  e.forRange(e.i64(0), whole, 32, [&](V at) { part(at, 32, nullptr); });
  if (!known)
    return e.ifThen(b.CreateICmpSLT(whole, count),
                    [&] { part(whole, 32, firstOf(32, b.CreateSub(count, whole))); });
  const int64_t rest = known->getSExtValue() % 32;
  if (rest == 0) return;
  if (rest == 16) return part(whole, 16, nullptr);
  part(whole, rest < 16 ? 16 : 32, firstOf(rest < 16 ? 16 : 32, e.i64(rest)));
}

// Zeros behind the last term.
void AmxEmitter::clearRest(const Joint &free, const Matrix &to) {
  if (ks_.unit % kAmxTerms == 0) return;
  V stop = times(tiles_, kAmxTerms);
  if (to.alongTerms) {
    V last = e.addConst(stop, -kAmxTerms);
    V mask = b.CreateNot(firstOf(32, b.CreateSub(ks_.count, last)));
    e.forRange(e.i64(0), free.count, 1, [&](V i) {
      V at = bytes(bytes(to.base, times(i, to.pitch)), times(last, 2));
      noted(b.CreateMaskedStore(llvm::Constant::getNullValue(words(32)), at, llvm::Align(2), mask));
    });
    return;
  }
  e.forRange(ks_.count, stop, 1, [&](V i) {
    e.forRange(e.i64(0), free.count, 16, [&](V f) {
      V at = bytes(bytes(to.base, times(i, to.pitch)), times(f, 2));
      noted(b.CreateAlignedStore(llvm::Constant::getNullValue(words(16)), at, llvm::Align(2)));
    });
  });
}

// 16 values of f32 as bf16 with the bits of the instruction, which flushes what is subnormal before
// it rounds.
AmxEmitter::V AmxEmitter::roundedLine(V values) {
  V bits = b.CreateBitCast(values, pairs());
  auto all = [&](uint32_t x) { return llvm::ConstantInt::get(pairs(), x); };
  V small = b.CreateICmpULT(b.CreateAnd(bits, all(0x7fffffffu)), all(0x00800000u));
  bits = b.CreateSelect(small, b.CreateAnd(bits, all(0x80000000u)), bits);
  const int saved = e.width_;
  e.width_ = 16;
  V narrow = e.narrow(b.CreateBitCast(bits, values->getType()), DType::bf16);
  e.width_ = saved;
  return narrow;
}

// 32 terms of 16 rows or columns: vectors of pairs, one for each row or column if the matrix runs
// along the terms, else one for each pair.
std::vector<AmxEmitter::V> AmxEmitter::square(const Matrix &from, const Joint &frees, V free,
                                              V term, bool lastTerms) {
  std::vector<V> lines;
  auto read = [&](V at, int width, V mask) -> V {
    llvm::Type *t = words(width);
    if (!mask) return b.CreateAlignedLoad(t, at, llvm::Align(2));
    return b.CreateMaskedLoad(t, at, llvm::Align(2), mask, llvm::Constant::getNullValue(t));
  };
  // 32 values of f32, rounded: 16 from each address.
  auto rounded = [&](V low, V high, V lowMask, V highMask) -> V {
    llvm::Type *t = llvm::FixedVectorType::get(b.getFloatTy(), 16);
    auto part = [&](V at, V mask) -> V {
      if (!mask) return b.CreateAlignedLoad(t, at, llvm::Align(4));
      return b.CreateMaskedLoad(t, at, llvm::Align(4), mask, llvm::Constant::getNullValue(t));
    };
    V first = part(low, lowMask), second = part(high, highMask);
    if (e.target_.avx512Bf16)
      return b.CreateIntrinsic(llvm::Intrinsic::x86_avx512bf16_cvtne2ps2bf16_512, {},
                               {second, first});
    std::vector<int> both(32);
    std::iota(both.begin(), both.end(), 0);
    return b.CreateShuffleVector(roundedLine(first), roundedLine(second), both);
  };
  const int64_t bytesEach = from.wide ? 4 : 2;
  const bool someFree = !from.full && frees.unit % 16 != 0;
  if (from.alongTerms) {
    V left = b.CreateSub(ks_.count, term), mask = nullptr, highMask = nullptr;
    if (lastTerms) {
      mask = firstOf(from.wide ? 16 : 32, left);
      if (from.wide) highMask = firstOf(16, e.addConst(left, -16));
    }
    V last = e.addConst(frees.count, -1);
    for (int i = 0; i < 16; ++i) {
      V line = e.addConst(free, i);
      if (someFree) line = least(line, last);
      V at = bytes(bytes(from.base, times(line, from.pitch)), times(term, bytesEach));
      V values = from.wide ? rounded(at, bytes(at, e.i64(64)), mask, highMask) : read(at, 32, mask);
      lines.push_back(b.CreateBitCast(values, pairs()));
    }
    return lines;
  }
  V mask = someFree ? firstOf(16, b.CreateSub(frees.count, free)) : nullptr;
  std::vector<int> side;
  for (int i = 0; i < 16; ++i) side.push_back(i), side.push_back(16 + i);
  std::vector<V> words;
  for (int i = 0; i < 32; ++i) {
    V line = e.addConst(term, i);
    V at = bytes(bytes(from.base, times(line, from.pitch)), times(free, bytesEach));
    if (lastTerms) at = b.CreateSelect(b.CreateICmpSLT(line, ks_.count), at, e.zeros());
    words.push_back(from.wide ? at : read(at, 16, mask));
  }
  if (from.wide) {
    for (int i = 0; i < 16; ++i) {
      V both = rounded(words[size_t(2 * i)], words[size_t(2 * i + 1)], mask, mask);
      both = b.CreateBitCast(both, this->words(32));
      lines.push_back(b.CreateBitCast(b.CreateShuffleVector(both, both, side), pairs()));
    }
    return lines;
  }
  for (int i = 0; i < 16; ++i)
    lines.push_back(b.CreateBitCast(
        b.CreateShuffleVector(words[size_t(2 * i)], words[size_t(2 * i + 1)], side), pairs()));
  return lines;
}

// A whole square of bf16, turned: what would go from one part of a vector to another comes from
// where it lies, 16 bytes at a time; the rest moves within these.
//   terms to lines of a row:  line j of 8 = columns 8 at a time of terms i, 8 + i, 16 + i, 24 + i
std::vector<AmxEmitter::V> AmxEmitter::turnedSquare(const Matrix &from, V free, V term) {
  const int n = from.alongTerms ? 4 : 8; // vectors that are turned together
  V corner = bytes(bytes(from.base, times(from.alongTerms ? free : term, from.pitch)),
                   times(from.alongTerms ? term : free, 2));
  auto part = [&](int line, int at) -> V {
    return b.CreateAlignedLoad(words(8), bytes(corner, e.i64(line * from.pitch + at * 16)),
                               llvm::Align(2));
  };
  auto joined = [&](V x, V y) {
    std::vector<int> both(2 * llvm::cast<llvm::FixedVectorType>(x->getType())->getNumElements());
    std::iota(both.begin(), both.end(), 0);
    return b.CreateShuffleVector(x, y, both);
  };
  std::vector<int> low, high; // of two vectors, alternately, within 16 bytes
  for (int at = 0; at < 4 * n; at += n)
    for (int i = at; i < at + n / 2; ++i)
      for (int of : {0, 4 * n}) low.push_back(of + i), high.push_back(of + n / 2 + i);
  std::vector<V> lines;
  for (int at = 0; at < 16 / n; ++at) {
    std::vector<V> x;
    for (int i = 0; i < n; ++i) {
      V whole = joined(joined(part(i, at), part(n + i, at)),
                       joined(part(2 * n + i, at), part(3 * n + i, at)));
      x.push_back(from.alongTerms ? b.CreateBitCast(whole, pairs()) : whole);
    }
    for (int step = 1; step < n; step *= 2) {
      std::vector<V> next;
      for (int i = 0; i < n / 2; ++i)
        for (const auto &side : {low, high})
          next.push_back(b.CreateShuffleVector(x[size_t(i)], x[size_t(i + n / 2)], side));
      x = next;
    }
    for (V v : x) lines.push_back(b.CreateBitCast(v, pairs()));
  }
  return lines;
}

// A matrix into the form of the rows, lines of terms, or of the columns, tiles of pairs.
void AmxEmitter::turn(const Matrix &from, const Joint &free, bool toRows, V to) {
  auto one = [&](V f, V term, bool lastTerms) {
    const bool turns = from.alongTerms != toRows;
    const bool inLanes = turns && !from.wide && !lastTerms && (from.full || free.unit % 16 == 0);
    std::vector<V> lines =
        inLanes ? turnedSquare(from, f, term) : square(from, free, f, term, lastTerms);
    if (turns && !inLanes) e.turnSquare(lines);
    V at = nullptr;
    int64_t pitch = 64;
    if (toRows) {
      at = bytes(bytes(to, times(f, shape_.linePitch)), times(term, 2));
      pitch = shape_.linePitch;
    } else {
      at = bytes(bytes(to, times(f, shape_.tiles * 64)), times(term, 32));
    }
    for (int i = 0; i < 16; ++i)
      noted(b.CreateAlignedStore(lines[size_t(i)], bytes(at, e.i64(i * pitch)), llvm::Align(4)));
  };
  const bool split = !from.full && ks_.unit % kAmxTerms != 0;
  V stop = times(tiles_, kAmxTerms);
  V whole = split ? b.CreateAnd(ks_.count, e.i64(-kAmxTerms)) : stop;
  auto overFree = [&](V term, bool lastTerms) {
    e.forRange(e.i64(0), free.count, 16, [&](V f) { one(f, term, lastTerms); });
  };
  if (from.alongTerms)
    e.forRange(e.i64(0), free.count, 16, [&](V f) {
      e.forRange(e.i64(0), whole, kAmxTerms, [&](V term) { one(f, term, false); });
    });
  else
    e.forRange(e.i64(0), whole, kAmxTerms, [&](V term) { overFree(term, false); });
  if (split) e.ifThen(b.CreateICmpSLT(whole, stop), [&] { overFree(whole, true); });
}

// Items that follow each other with the same columns and other rows share the copy.
void AmxEmitter::packColumns() {
  cols_ = joint({s.col});
  const AmxOperand &o = colsOperand_;
  if (o.inPlace) {
    colBase_ = inMemory(k.contract.b, o, cols_).base, colPitch_ = o.pitch * 2;
    return;
  }
  colBase_ = scratch(shape_.columnCopy), colPitch_ = shape_.tiles * kAmxTerms * 2;
  auto copy = [&] {
    Matrix m;
    if (o.matrix) {
      m = inMemory(k.contract.b, o, cols_);
    } else {
      m = {scratch(shape_.matrix), o.alongTerms ? shape_.linePitch : shape_.columnPitch,
           o.alongTerms, true};
      gather(k.contract.b, cols_, m);
    }
    turn(m, cols_, false, colBase_);
  };
  if (!e.keepsColumns()) return copy();
  V from = cols_.ranges[0].lo;
  V fresh = b.CreateICmpNE(from, b.CreateLoad(b.getInt64Ty(), e.packedColumns_));
  b.CreateStore(from, e.packedColumns_);
  e.ifThen(fresh, copy);
}

void AmxEmitter::packRows() {
  const AmxOperand &o = rowsOperand_;
  rowBase_ = scratch(shape_.rowCopy), rowPitch_ = shape_.linePitch;
  if (o.inPlace) {
    const Matrix m = inMemory(k.contract.a, o, rows_);
    rowBase_ = m.base, rowPitch_ = m.pitch;
  } else if (o.alongTerms) {
    gather(k.contract.a, rows_, {rowBase_, rowPitch_, true, true});
  } else {
    Matrix m;
    if (o.matrix) {
      m = inMemory(k.contract.a, o, rows_);
    } else {
      m = {scratch(shape_.matrix), shape_.rowPitch, false, true};
      gather(k.contract.a, rows_, m);
    }
    turn(m, rows_, true, rowBase_);
  }
}

// --- the nest ------------------------------------------------------------------------------------

void AmxEmitter::run() {
  inLine_ = rowsInLine();
  std::vector<AxisId> around = k.contract.batch;
  for (AxisId a : k.contract.n)
    if (a != s.col) around.push_back(a);
  e.forAxes(around, 0, [&] {
    e.emitBlocks(0, nullptr, [&](V first) { block(first); });
    if (s.kAxis < 0) return;
    eachCopy([&] { // the sums of all blocks are complete
      e.eachPanel([&](Emitter::Tile t) {
        V at = bytes(sumsOfCopy(), times(b.CreateSub(t.colBase, cols_.ranges[0].lo), 4));
        if (!holds_) return epilogue(at, e.i64(0), e.i64(0), rows_.count, t);
        e.forRange(e.i64(0), rows_.count, s.mr, [&](V row) {
          epilogue(at, e.i64(0), row, least(rows_.count, e.addConst(row, s.mr)), t);
        });
      });
    });
  });
}

// One block of k: the columns of the item, then its rows copy by copy.
void AmxEmitter::block(V first) {
  ks_ = joint(terms_);
  V tiles = b.CreateUDiv(e.addConst(ks_.count, kAmxTerms - 1), e.i64(kAmxTerms));
  tiles_ = b.CreateBinaryIntrinsic(llvm::Intrinsic::smax, tiles, e.i64(1));
  packColumns();
  eachCopy([&] {
    packRows();
    e.forRange(e.i64(0), rows_.count, s.mr,
               [&](V row) { e.eachPanel([&](Emitter::Tile t) { tile(row, t, first); }); });
  });
}

void AmxEmitter::eachCopy(const Body &body) {
  auto rows = [&] {
    rows_ = joint(k.contract.m);
    body();
  };
  if (s.rowBlock <= 0) return rows();
  const Range whole = e.range_[size_t(s.row)];
  e.forRange(whole.lo, whole.hi, s.rowBlock, [&](V lo) {
    e.range_[size_t(s.row)] = {lo, least(whole.hi, e.addConst(lo, s.rowBlock))};
    copy_ = b.CreateUDiv(b.CreateSub(lo, whole.lo), e.i64(s.rowBlock));
    rows();
    e.range_[size_t(s.row)] = whole;
    copy_ = nullptr;
  });
}

// Between blocks of k each copy of rows has its sums, whole tiles.
AmxEmitter::V AmxEmitter::sumsOfCopy() {
  V sums = scratch(shape_.sums);
  return copy_ ? bytes(sums, times(copy_, shape_.rows * shape_.sumPitch)) : sums;
}

void AmxEmitter::tile(V row, const Emitter::Tile &t, V first) {
  const int savedWidth = e.width_;
  e.width_ = 1;
  const int down = s.mr / int(kAmxRows), across = t.vectors;
  // Rows in memory: the last tile is moved back until it fits.
  V base = row;
  if (rowsOperand_.inPlace && rows_.unit % s.mr != 0) {
    const int64_t most = k.axes[size_t(s.row)].extent.at(std::max<int64_t>(k.batch, 1));
    if (most % s.mr != 0 || itemSteps(k, s.row) % s.mr != 0 || s.rowBlock % s.mr != 0)
      base = least(row, b.CreateSub(e.i64(most - s.mr), e.range_[size_t(s.row)].lo));
  }
  V col = b.CreateSub(t.colBase, cols_.ranges[0].lo);
  V a = bytes(rowBase_, times(base, rowPitch_));
  V c = bytes(colBase_, times(col, colPitch_));
  V sums = scratch(shape_.sums);
  if (s.kAxis >= 0) sums = bytes(bytes(sumsOfCopy(), times(row, shape_.sumPitch)), times(col, 4));
  std::vector<V> start;
  for (int i = 0; i < down * across; ++i) {
    if (!first) {
      start.push_back(tile_.zero());
      continue;
    }
    V at = bytes(sums, e.i64(i / across * kAmxRows * shape_.sumPitch + i % across * 64));
    start.push_back(tile_.load(b.CreateSelect(first, e.zeros(), at),
                               b.CreateSelect(first, e.i64(0), e.i64(shape_.sumPitch))));
  }
  auto &context = e.m_.getContext();
  auto *before = b.GetInsertBlock();
  auto *loop = llvm::BasicBlock::Create(context, "terms", e.fn_);
  auto *after = llvm::BasicBlock::Create(context, "summed", e.fn_);
  b.CreateBr(loop);
  b.SetInsertPoint(loop);
  auto *i = b.CreatePHI(b.getInt64Ty(), 2, "i");
  i->addIncoming(e.i64(0), before);
  std::vector<llvm::PHINode *> acc;
  for (V x : start) {
    acc.push_back(b.CreatePHI(x->getType(), 2, "sum"));
    acc.back()->addIncoming(x, before);
  }
  std::vector<V> as, bs;
  for (int r = 0; r < down; ++r)
    as.push_back(tile_.load(bytes(bytes(a, e.i64(r * kAmxRows * rowPitch_)), times(i, 64)),
                            e.i64(rowPitch_)));
  for (int v = 0; v < across; ++v)
    bs.push_back(tile_.load(bytes(bytes(c, e.i64(v * kAmxCols * colPitch_)), times(i, 1024)),
                            e.i64(64)));
  std::vector<V> sum;
  for (int r = 0; r < down; ++r)
    for (int v = 0; v < across; ++v)
      sum.push_back(
          tile_.multiply(acc[size_t(r * across + v)], as[size_t(r)], bs[size_t(v)]));
  V next = b.CreateAdd(i, e.i64(1), "next", false, true);
  i->addIncoming(next, loop);
  for (size_t j = 0; j < acc.size(); ++j) acc[j]->addIncoming(sum[j], loop);
  b.CreateCondBr(b.CreateICmpSLT(next, tiles_), loop, after);
  b.SetInsertPoint(after);
  for (int j = 0; j < down * across; ++j) {
    V at = bytes(sums, e.i64(j / across * kAmxRows * shape_.sumPitch + j % across * 64));
    tile_.store(sum[size_t(j)], at, e.i64(shape_.sumPitch));
  }
  e.width_ = savedWidth;
  if (s.kAxis >= 0) return;
  V from = base == row ? e.i64(0) : b.CreateSub(row, base);
  V to = least(e.i64(s.mr), b.CreateSub(rows_.count, base));
  epilogue(sums, base, from, to, t);
}

// The stages for rows [from, to) of sums; row 0 is number `number` of the rows.
void AmxEmitter::epilogue(V sums, V number, V from, V to, const Emitter::Tile &t) {
  llvm::Type *vector = e.type(k.contract.type, true);
  // The sums beside the product: of all rows of a tile in one place, which the first row says.
  auto eachSum = [&](const std::function<void(const Stage &, llvm::AllocaInst *&)> &sum) {
    bindNumber(rows_, b.CreateAdd(number, from));
    for (int v = 0; v < t.vectors; ++v) {
      e.bind(s.col, t.colBase, int64_t(v) * e.width_);
      e.laneAxis_ = s.col;
      e.mask_ = v + 1 == t.vectors ? t.lastMask : nullptr;
      e.scopes_.emplace_back();
      for (size_t i = 0; i < k.stages.size(); ++i)
        if (k.stages[i].chunk) sum(k.stages[i], e.heldSums_[i][size_t(v)]);
      e.scopes_.pop_back();
      e.mask_ = nullptr;
      e.laneAxis_ = -1;
      e.unbind(s.col);
    }
    unbindAll(rows_);
  };
  if (holds_) {
    e.heldSums_.assign(k.stages.size(), std::vector<llvm::AllocaInst *>(size_t(t.vectors)));
    eachSum([&](const Stage &st, llvm::AllocaInst *&held) {
      held = e.slot(e.type(st.type, true), "sum");
      b.CreateStore(e.sumSoFar(st), held);
    });
  }
  e.forRange(from, to, 1, [&](V r) {
    bindRow(b.CreateAdd(number, r));
    e.fetchLines(t, s.nv);
    for (int v = 0; v < t.vectors; ++v) {
      V at = bytes(bytes(sums, times(r, shape_.sumPitch)), e.i64(int64_t(v) * 64));
      e.acc_ = {b.CreateAlignedLoad(vector, at, llvm::Align(4)), true};
      e.bind(s.col, t.colBase, int64_t(v) * e.width_);
      e.laneAxis_ = s.col;
      e.mask_ = v + 1 == t.vectors ? t.lastMask : nullptr;
      e.scopes_.emplace_back();
      e.locals_.assign(k.stages.size(), {});
      e.heldVector_ = size_t(v);
      e.elementwise(0, k.stages.size());
      e.scopes_.pop_back();
      e.mask_ = nullptr;
      e.laneAxis_ = -1;
      e.unbind(s.col);
    }
    unbindAll(rows_);
  });
  if (!holds_) return;
  eachSum([&](const Stage &st, llvm::AllocaInst *&held) {
    e.store(st.stores[0].access, {b.CreateLoad(held->getAllocatedType(), held), true});
  });
  e.heldSums_.clear();
}

} // namespace nnc::cg
