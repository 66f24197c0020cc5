// Sorting: a stable merge sort of one line per point, in the thread's scratch.
//
// Problem. Values and their places along one axis, equal values in their old order, NaN last.
//
//   3 1 2 1  ->  merged to runs of 2: (1 3) (1 2)  ->  to a run of 4: 1 1 2 3, places 1 3 2 0
//
// Method. Bottom-up merging between two halves of the scratch. A step takes from the right run only
// if its value comes strictly before the left one's, which is what makes it stable.
#include "codegen/cpu/emitter.h"

namespace nnc::cg {

// while (condition()) body()
static void whileLoop(llvm::IRBuilder<> &b, llvm::Function *fn,
                      const std::function<llvm::Value *()> &condition,
                      const std::function<void()> &body) {
  auto &context = fn->getContext();
  auto *test = llvm::BasicBlock::Create(context, "test", fn);
  auto *loop = llvm::BasicBlock::Create(context, "loop", fn);
  auto *after = llvm::BasicBlock::Create(context, "after", fn);
  b.CreateBr(test);
  b.SetInsertPoint(test);
  b.CreateCondBr(condition(), loop, after);
  b.SetInsertPoint(loop);
  body();
  b.CreateBr(test);
  b.SetInsertPoint(after);
}

void Emitter::emitSort() {
  forAxes(k.parallel, 0, [&] { sortLine(); });
}

// Does x come strictly before y?
llvm::Value *Emitter::sortsBefore(llvm::Value *x, llvm::Value *y) {
  const SortInfo &s = k.sort;
  if (!ir::isFloat(s.type)) {
    const bool isSigned = s.type == DType::i32 || s.type == DType::i64;
    if (s.descending) std::swap(x, y);
    return isSigned ? b.CreateICmpSLT(x, y) : b.CreateICmpULT(x, y);
  }
  llvm::Value *before = s.descending ? b.CreateFCmpOGT(x, y) : b.CreateFCmpOLT(x, y);
  llvm::Value *last = b.CreateAnd(b.CreateFCmpUNO(y, y), b.CreateFCmpORD(x, x));
  return b.CreateOr(before, last);
}

// Values and places of one line, and the other half that merging writes to.
void Emitter::sortLine() {
  const SortInfo &s = k.sort;
  const int64_t most = k.axes[size_t(s.axis)].extent.at(std::max<int64_t>(k.batch, 1));
  const int64_t valueBytes = (most * std::max(4, ir::dtypeBytes(s.type)) + 63) / 64 * 64;
  const int64_t placeBytes = (most * 4 + 63) / 64 * 64;
  auto part = [&](int64_t offset) { return b.CreateGEP(b.getInt8Ty(), scratch_, i64(offset)); };
  SortHalf half[2] = {{slot(b.getPtrTy(), "values"), slot(b.getPtrTy(), "places")},
                      {slot(b.getPtrTy(), "values"), slot(b.getPtrTy(), "places")}};
  for (int h = 0; h < 2; ++h) {
    b.CreateStore(part(h * valueBytes), half[h].values);
    b.CreateStore(part(2 * valueBytes + h * placeBytes), half[h].places);
  }
  llvm::Type *vt = s.type == DType::boolean ? (llvm::Type *)b.getInt8Ty() : type(s.type);
  auto at = [&](llvm::AllocaInst *base, llvm::Type *t) {
    return b.CreateGEP(t, b.CreateLoad(b.getPtrTy(), base), axis_[size_t(s.axis)].base);
  };
  forAxis(s.axis, [&] {
    llvm::Value *v = expr(s.value).v;
    if (s.type == DType::boolean) v = b.CreateZExt(v, vt);
    b.CreateStore(v, at(half[0].values, vt));
    b.CreateStore(b.CreateTrunc(axis_[size_t(s.axis)].base, b.getInt32Ty()),
                  at(half[0].places, b.getInt32Ty()));
  });
  mergeRuns(half[0], half[1], vt, dim(k.axes[size_t(s.axis)].extent));
  forAxis(s.axis, [&] {
    llvm::Value *v = b.CreateLoad(vt, at(half[0].values, vt));
    if (s.type == DType::boolean) v = b.CreateTrunc(v, b.getInt1Ty());
    llvm::Value *place = b.CreateLoad(b.getInt32Ty(), at(half[0].places, b.getInt32Ty()));
    if (s.values.arg >= 0) store(s.values, {v, false});
    if (s.indices.arg >= 0) store(s.indices, {place, false});
  });
}

// Runs of 1, 2, 4, .. until one run is the line; the result ends in `from`.
void Emitter::mergeRuns(const SortHalf &from, const SortHalf &to, llvm::Type *vt,
                        llvm::Value *length) {
  auto *run = slot(b.getInt64Ty(), "run"), *lo = slot(b.getInt64Ty(), "lo");
  auto get = [&](llvm::AllocaInst *v) { return b.CreateLoad(v->getAllocatedType(), v); };
  auto least = [&](llvm::Value *x, llvm::Value *y) {
    return b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, x, y);
  };
  auto below = [&](llvm::AllocaInst *v) { return b.CreateICmpSLT(get(v), length); };
  b.CreateStore(i64(1), run);
  whileLoop(
      b, fn_, [&] { return below(run); },
      [&] {
        b.CreateStore(i64(0), lo);
        whileLoop(
            b, fn_, [&] { return below(lo); },
            [&] {
              llvm::Value *middle = least(b.CreateAdd(get(lo), get(run)), length);
              llvm::Value *end = least(b.CreateAdd(middle, get(run)), length);
              mergeTwo(from, to, vt, get(lo), middle, end);
              b.CreateStore(end, lo);
            });
        for (auto [x, y] : {std::pair{from.values, to.values}, std::pair{from.places, to.places}}) {
          llvm::Value *p = get(x), *q = get(y);
          b.CreateStore(q, x);
          b.CreateStore(p, y);
        }
        b.CreateStore(b.CreateShl(get(run), 1), run);
      });
}

// to[lo, end) = the runs from[lo, middle) and from[middle, end), merged.
void Emitter::mergeTwo(const SortHalf &from, const SortHalf &to, llvm::Type *vt, llvm::Value *lo,
                       llvm::Value *middle, llvm::Value *end) {
  auto *left = slot(b.getInt64Ty(), "left"), *right = slot(b.getInt64Ty(), "right");
  auto *out = slot(b.getInt64Ty(), "out");
  llvm::Type *pt = b.getInt32Ty();
  auto get = [&](llvm::AllocaInst *v) { return b.CreateLoad(v->getAllocatedType(), v); };
  auto element = [&](llvm::Type *t, llvm::AllocaInst *base, llvm::Value *i) {
    return b.CreateGEP(t, get(base), i);
  };
  b.CreateStore(lo, left);
  b.CreateStore(middle, right);
  b.CreateStore(lo, out);
  whileLoop(
      b, fn_, [&] { return b.CreateICmpSLT(get(out), end); },
      [&] {
        llvm::Value *l = get(left), *r = get(right);
        llvm::Value *inside =
            b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, r, b.CreateSub(end, i64(1)));
        llvm::Value *x = b.CreateLoad(vt, element(vt, from.values, l));
        llvm::Value *y = b.CreateLoad(vt, element(vt, from.values, inside));
        llvm::Value *take = b.CreateOr(b.CreateICmpSGE(l, middle), sortsBefore(y, x));
        take = b.CreateAnd(take, b.CreateICmpSLT(r, end));
        llvm::Value *place = b.CreateLoad(pt, element(pt, from.places, b.CreateSelect(take, r, l)));
        b.CreateStore(b.CreateSelect(take, y, x), element(vt, to.values, get(out)));
        b.CreateStore(place, element(pt, to.places, get(out)));
        llvm::Value *step = b.CreateZExt(take, b.getInt64Ty());
        b.CreateStore(b.CreateAdd(r, step), right);
        b.CreateStore(b.CreateAdd(l, b.CreateSub(i64(1), step)), left);
        b.CreateStore(b.CreateAdd(get(out), i64(1)), out);
      });
}

} // namespace nnc::cg
