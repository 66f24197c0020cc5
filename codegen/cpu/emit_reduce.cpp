// Reductions: sums, products, extrema, their places, and running sums.
//
// Problem. The bits of a reduction may depend on nothing but its ReduceOrder: not on the target's
// vectors, nor on the axis that they run along.
//
//   sum over c of x[r,c], 64 lanes
//     vectors along c:  step v adds to accumulator v mod 4; then 4 -> 2 -> 1 vectors, 16 -> .. -> 1
//     lanes vectors along r:  64 vectors in memory; element c adds to vector c mod 64; then 64 ->
//     32 -> .. -> 1
//
//   and beside it the sum of x*y[r,c]:  both in one loop, with accumulators of their own
//
// Method. Along the reduced axis the accumulators are registers that change places every step (a
// renaming, no instruction), so one loop body serves them all; what the last step leaves is turned
// back before the fold. Largest and smallest values do not depend on the order: NaN wins, -0 is
// less than 0, ties in argmax go to the smaller index.
#include "codegen/cpu/emitter.h"
#include <algorithm>

namespace nnc::cg {

llvm::Value *Emitter::combine(Combine c, DType t, llvm::Value *x, llvm::Value *y) {
  const bool f = ir::isFloat(t);
  const bool isSigned = t == DType::i32 || t == DType::i64;
  switch (c) {
  case Combine::sum:
  case Combine::cumsum: return f ? b.CreateFAdd(x, y) : b.CreateAdd(x, y);
  case Combine::prod: return f ? b.CreateFMul(x, y) : b.CreateMul(x, y);
  case Combine::max: // maximum and minimum: NaN wins and -0 < 0, so that the order does not matter
    return b.CreateBinaryIntrinsic(f          ? llvm::Intrinsic::maximum
                                   : isSigned ? llvm::Intrinsic::smax
                                              : llvm::Intrinsic::umax,
                                   x, y);
  case Combine::min:
    return b.CreateBinaryIntrinsic(f          ? llvm::Intrinsic::minimum
                                   : isSigned ? llvm::Intrinsic::smin
                                              : llvm::Intrinsic::umin,
                                   x, y);
  case Combine::none:
  case Combine::argmax: break;
  }
  ir::internalError(__FILE__, __LINE__, "not a combination of two values");
}

llvm::Constant *Emitter::identity(Combine c, llvm::Type *t, DType d) {
  const bool f = ir::isFloat(d);
  llvm::Type *s = t->getScalarType();
  const bool isSigned = d == DType::i32 || d == DType::i64;
  const unsigned bits = s->getScalarSizeInBits();
  switch (c) {
  case Combine::none:
  case Combine::sum:
  case Combine::cumsum: return llvm::Constant::getNullValue(t);
  case Combine::prod: return f ? llvm::ConstantFP::get(t, 1.0) : llvm::ConstantInt::get(t, 1);
  case Combine::argmax:
  case Combine::max:
    if (f) return llvm::ConstantFP::getInfinity(t, true);
    return llvm::ConstantInt::get(t, isSigned ? llvm::APInt::getSignedMinValue(bits)
                                              : llvm::APInt(bits, 0));
  case Combine::min:
    if (f) return llvm::ConstantFP::getInfinity(t, false);
    return llvm::ConstantInt::get(t, isSigned ? llvm::APInt::getSignedMaxValue(bits)
                                              : llvm::APInt::getMaxValue(bits));
  }
  return nullptr;
}

static bool isOrdered(const Stage &s) {
  return s.combine == Combine::sum || s.combine == Combine::prod;
}

// The values of all stages, in one loop.
Emitter::Values Emitter::reduce(const Stages &stages, AxisId lane) {
  const Stage &s = *stages[0];
  if (s.combine == Combine::argmax) return reduceArg(s, lane); // alone: both of its results
  if (lane >= 0) return reduceRotating(stages, lane);
  return isOrdered(s) && s.order.lanes > 1 ? reduceInMemory(stages) : reduceInSequence(stages);
}

Emitter::Values Emitter::reduceInSequence(const Stages &stages) {
  std::vector<llvm::AllocaInst *> acc;
  for (const Stage *s : stages) {
    llvm::Type *t = type(s->type, width_ > 1);
    acc.push_back(slot(t, "acc"));
    b.CreateStore(identity(s->combine, t, s->type), acc.back());
  }
  forAxes(stages[0]->reduce, 0, [&] {
    for (size_t i = 0; i < stages.size(); ++i) {
      const Stage &s = *stages[i];
      llvm::Value *x = width_ > 1 ? spread(expr(s.body)) : expr(s.body).v;
      b.CreateStore(combine(s.combine, s.type, b.CreateLoad(acc[i]->getAllocatedType(), acc[i]), x),
                    acc[i]);
    }
  });
  Values r;
  for (auto *a : acc) r.push_back({b.CreateLoad(a->getAllocatedType(), a), width_ > 1});
  return r;
}

// Vectors along the reduced axis. Step v of a row belongs to accumulator v mod groups: after each
// step the accumulators move up one place, so that the next one is always acc[0].
Emitter::Values Emitter::reduceRotating(const Stages &stages, AxisId lane) {
  const int width = k.schedule.lanes;
  std::vector<std::vector<llvm::AllocaInst *>> accs;
  for (const Stage *s : stages) {
    llvm::Type *t = llvm::FixedVectorType::get(type(s->type), unsigned(width));
    accs.emplace_back();
    for (int g = isOrdered(*s) ? s->order.lanes / width : 1; g > 0; --g) {
      accs.back().push_back(slot(t, "acc"));
      b.CreateStore(identity(s->combine, t, s->type), accs.back().back());
    }
  }
  const std::vector<AxisId> outer(stages[0]->reduce.begin(), stages[0]->reduce.end() - 1);
  forAxes(outer, 0, [&] {
    forLanes(lane, [&] {
      for (size_t i = 0; i < stages.size(); ++i) {
        const Stage &s = *stages[i];
        const auto &acc = accs[i];
        llvm::Value *x = spread(expr(s.body));
        llvm::Value *old = b.CreateLoad(x->getType(), acc[0]);
        llvm::Value *next = combine(s.combine, s.type, old, x);
        if (mask_) next = b.CreateSelect(mask_, next, old);
        for (size_t g = 0; g + 1 < acc.size(); ++g)
          b.CreateStore(b.CreateLoad(x->getType(), acc[g + 1]), acc[g]);
        b.CreateStore(next, acc.back());
      }
    });
    const Range r = extentOf(lane);
    llvm::Value *steps = b.CreateUDiv(addConst(b.CreateSub(r.hi, r.lo), width - 1), i64(width));
    for (auto &acc : accs) undoRotation(acc, steps, acc[0]->getAllocatedType());
  });
  Values r;
  for (size_t i = 0; i < stages.size(); ++i) {
    const Stage &s = *stages[i];
    std::vector<llvm::Value *> v;
    for (auto *a : accs[i]) v.push_back(b.CreateLoad(a->getAllocatedType(), a));
    for (size_t w = v.size() / 2; w > 0; w /= 2)
      for (size_t g = 0; g < w; ++g) v[g] = combine(s.combine, s.type, v[g], v[g + w]);
    r.push_back({foldLanes(s.combine, s.type, v[0]), false});
  }
  return r;
}

// After `steps` steps place p holds accumulator (p + steps) mod groups: puts them back, by powers
// of two.
void Emitter::undoRotation(std::vector<llvm::AllocaInst *> &acc, llvm::Value *steps,
                           llvm::Type *t) {
  const size_t groups = acc.size();
  std::vector<llvm::Value *> v;
  for (auto *a : acc) v.push_back(b.CreateLoad(t, a));
  for (size_t by = 1; by < groups; by *= 2) {
    llvm::Value *odd = b.CreateICmpNE(b.CreateAnd(steps, i64(int64_t(by))), i64(0));
    std::vector<llvm::Value *> moved;
    for (size_t g = 0; g < groups; ++g)
      moved.push_back(b.CreateSelect(odd, v[(g + groups - by) % groups], v[g]));
    v = std::move(moved);
  }
  if (groups > 1)
    for (size_t g = 0; g < groups; ++g) b.CreateStore(v[g], acc[g]);
}

// Lane i with lane i + w for w = half, .., 1.
llvm::Value *Emitter::foldLanes(Combine c, DType t, llvm::Value *v) {
  const int lanes = int(llvm::cast<llvm::FixedVectorType>(v->getType())->getNumElements());
  for (int w = lanes / 2; w > 0; w /= 2) {
    std::vector<int> upper(size_t(lanes), -1);
    for (int i = 0; i < w; ++i) upper[size_t(i)] = i + w;
    v = combine(c, t, v, b.CreateShuffleVector(v, upper));
  }
  return b.CreateExtractElement(v, uint64_t(0));
}

// The accumulators of a reduction with lanes along an axis that the vectors do not run along.
Emitter::Values Emitter::reduceInMemory(const Stages &stages) {
  const std::vector<AxisId> &axes = stages[0]->reduce;
  const int64_t lanes = stages[0]->order.lanes;
  const Axis &inner = k.axes[size_t(axes.back())];
  int64_t begun = lanes; // accumulators that get elements
  if (inner.extent.isConst()) begun = std::min(begun, inner.extent.b);
  std::vector<llvm::AllocaInst *> accs;
  auto typeOf = [&](const Stage &s) { return type(s.type, width_ > 1); };
  auto at = [&](size_t stage, llvm::Value *i) {
    return b.CreateGEP(typeOf(*stages[stage]), accs[stage], i);
  };
  for (size_t j = 0; j < stages.size(); ++j) {
    const Stage &s = *stages[j];
    accs.push_back(slot(llvm::ArrayType::get(typeOf(s), uint64_t(lanes)), "accs"));
    llvm::Value *none = identity(s.combine, typeOf(s), s.type);
    forRange(i64(0), i64(begun), 1, [&](llvm::Value *i) { b.CreateStore(none, at(j, i)); });
  }
  forAxes(axes, 0, [&] {
    llvm::Value *which = b.CreateAnd(axis_[size_t(axes.back())].base, i64(lanes - 1));
    for (size_t j = 0; j < stages.size(); ++j) {
      const Stage &s = *stages[j];
      llvm::Value *p = at(j, which);
      llvm::Value *x = width_ > 1 ? spread(expr(s.body)) : expr(s.body).v;
      b.CreateStore(combine(s.combine, s.type, b.CreateLoad(x->getType(), p), x), p);
    }
  });
  Values results;
  for (size_t j = 0; j < stages.size(); ++j) {
    const Stage &s = *stages[j];
    llvm::Type *t = typeOf(s);
    llvm::Value *none = identity(s.combine, t, s.type);
    int64_t used = begun;
    for (int64_t w = lanes / 2; w > 0; w /= 2) {
      const int64_t pairs = std::max<int64_t>(0, std::min(w, used - w));
      forRange(i64(0), i64(pairs), 1, [&](llvm::Value *i) {
        llvm::Value *x = b.CreateLoad(t, at(j, i)), *y = b.CreateLoad(t, at(j, addConst(i, w)));
        b.CreateStore(combine(s.combine, s.type, x, y), at(j, i));
      });
      used = std::min(w, used);
      forRange(i64(pairs), i64(used), 1, [&](llvm::Value *i) {
        b.CreateStore(combine(s.combine, s.type, b.CreateLoad(t, at(j, i)), none), at(j, i));
      });
    }
    results.push_back({b.CreateLoad(t, at(j, i64(0))), width_ > 1});
  }
  return results;
}

// Row-major index over the reduced axes, i32.
Val Emitter::reducedIndex(const Stage &s) {
  IndexVal x;
  for (AxisId a : s.reduce) {
    if (x.base) x.base = b.CreateMul(x.base, dim(k.axes[size_t(a)].extent));
    x.base = add(x.base, addConst(axis_[size_t(a)].base, axis_[size_t(a)].plus));
    if (a == laneAxis_ && width_ > 1) x.stride = 1;
  }
  if (x.lanes()) return {laneIndex(x, b.getInt32Ty()), true};
  return {b.CreateTrunc(scalarIndex(x), b.getInt32Ty()), false};
}

// The better of two (value, index): NaN first, then the larger value, then the smaller index. Index
// -1 is nothing yet. `later`: y comes after x, so a tie keeps x.
Emitter::Best Emitter::better(DType t, const Best &x, const Best &y, bool later,
                              llvm::Value *mask) {
  llvm::Value *none = llvm::Constant::getNullValue(x.index->getType());
  llvm::Value *take = nullptr, *tie = nullptr;
  if (ir::isFloat(t)) {
    llvm::Value *xNan = b.CreateFCmpUNO(x.value, x.value),
                *yNan = b.CreateFCmpUNO(y.value, y.value);
    take = b.CreateOr(b.CreateFCmpOGT(y.value, x.value), b.CreateAnd(yNan, b.CreateNot(xNan)));
    tie = b.CreateOr(b.CreateFCmpOEQ(y.value, x.value), b.CreateAnd(yNan, xNan));
  } else {
    const bool isSigned = t == DType::i32 || t == DType::i64;
    take = isSigned ? b.CreateICmpSGT(y.value, x.value) : b.CreateICmpUGT(y.value, x.value);
    tie = b.CreateICmpEQ(y.value, x.value);
  }
  if (!later) {
    take = b.CreateOr(take, b.CreateAnd(tie, b.CreateICmpSLT(y.index, x.index)));
    take = b.CreateAnd(take, b.CreateICmpSGE(y.index, none));
  }
  take = b.CreateOr(take, b.CreateICmpSLT(x.index, none));
  if (mask) take = b.CreateAnd(take, mask);
  return {b.CreateSelect(take, y.value, x.value), b.CreateSelect(take, y.index, x.index)};
}

Emitter::Values Emitter::reduceArg(const Stage &s, AxisId lane) {
  const bool lanes = lane >= 0 || width_ > 1;
  const unsigned width = unsigned(lane >= 0 ? k.schedule.lanes : width_);
  auto shaped = [&](llvm::Type *t) -> llvm::Type * {
    return lanes ? llvm::FixedVectorType::get(t, width) : t;
  };
  llvm::Type *vt = shaped(type(s.type)), *it = shaped(b.getInt32Ty());
  auto *value = slot(vt, "best"), *place = slot(it, "place");
  b.CreateStore(identity(s.combine, vt, s.type), value);
  b.CreateStore(llvm::Constant::getAllOnesValue(it), place);
  auto step = [&] {
    Val x = expr(s.body), i = reducedIndex(s);
    Best now{lanes ? spread(x) : x.v, lanes ? spread(i) : i.v};
    Best old{b.CreateLoad(vt, value), b.CreateLoad(it, place)};
    Best r = better(s.type, old, now, true, lane >= 0 ? mask_ : nullptr);
    b.CreateStore(r.value, value);
    b.CreateStore(r.index, place);
  };
  if (lane >= 0) {
    const std::vector<AxisId> outer(s.reduce.begin(), s.reduce.end() - 1);
    forAxes(outer, 0, [&] { forLanes(lane, step); });
  } else {
    forAxes(s.reduce, 0, step);
  }
  Best best{b.CreateLoad(vt, value), b.CreateLoad(it, place)};
  if (lane < 0) return {{best.value, lanes}, {best.index, lanes}};
  for (int w = int(width) / 2; w > 0; w /= 2) {
    std::vector<int> upper(width, 0); // lanes beyond are not read
    for (int i = 0; i < w; ++i) upper[size_t(i)] = i + w;
    best =
        better(s.type, best,
               {b.CreateShuffleVector(best.value, upper), b.CreateShuffleVector(best.index, upper)},
               false, nullptr);
  }
  return {{b.CreateExtractElement(best.value, uint64_t(0)), false},
          {b.CreateExtractElement(best.index, uint64_t(0)), false}};
}

void Emitter::cumsum(const Stage &s) {
  llvm::Type *t = type(s.type, width_ > 1);
  auto *acc = slot(t, "acc");
  b.CreateStore(identity(s.combine, t, s.type), acc);
  forAxes(s.reduce, 0, [&] {
    llvm::Value *x = width_ > 1 ? spread(expr(s.body)) : expr(s.body).v;
    llvm::Value *old = b.CreateLoad(t, acc);
    llvm::Value *next = combine(s.combine, s.type, old, x);
    for (const Store &st : s.stores) store(st.access, {s.exclusive ? old : next, width_ > 1});
    b.CreateStore(next, acc);
  });
}

} // namespace nnc::cg
