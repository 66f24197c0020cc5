// Sorting: a stable merge sort of one line per point, in the thread's scratch.
//
// Problem. Values and their places along one axis, equal values in their old order, NaN last.
//
//   3 1 2 1  ->  runs of 1, merged to runs of 2: (1 3) (1 2)  ->  runs of 4: 1 1 2 3 with places 1 3 2 0
//
// Method. Bottom-up merging between two halves of the scratch. A step takes from the right run only if its value
// comes strictly before the left one's, which is what makes it stable.
#include "codegen/cpu/emitter.h"

namespace nnc::cg {

namespace {

// A variable of the emitted code; a register after the passes.
struct Variable {
  llvm::IRBuilder<> &b;
  llvm::Type *type;
  llvm::AllocaInst *at;
  llvm::Value *get() const { return b.CreateLoad(type, at); }
  void set(llvm::Value *v) const { b.CreateStore(v, at); }
};

} // namespace

// while (condition()) body()
static void whileLoop(llvm::IRBuilder<> &b, llvm::Function *fn, const std::function<llvm::Value *()> &condition,
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

void Emitter::emitSort() { forAxes(k.parallel, 0, [&] { sortLine(); }); }

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

void Emitter::sortLine() {
  const SortInfo &s = k.sort;
  llvm::Type *it = b.getInt64Ty();
  llvm::Type *vt = s.type == DType::boolean ? (llvm::Type *)b.getInt8Ty() : type(s.type);
  const int64_t most = k.axes[size_t(s.axis)].extent.at(std::max<int64_t>(k.batch, 1));
  const int64_t valueBytes = (most * std::max(4, ir::dtypeBytes(s.type)) + 63) / 64 * 64;
  const int64_t placeBytes = (most * 4 + 63) / 64 * 64;
  auto part = [&](int64_t offset) { return b.CreateGEP(b.getInt8Ty(), scratch_, i64(offset)); };
  auto variable = [&](llvm::Type *t, const char *name) { return Variable{b, t, slot(t, name)}; };
  const auto from = variable(b.getPtrTy(), "from"), to = variable(b.getPtrTy(), "to");
  const auto fromPlace = variable(b.getPtrTy(), "fromPlace"), toPlace = variable(b.getPtrTy(), "toPlace");
  from.set(part(0)), to.set(part(valueBytes));
  fromPlace.set(part(2 * valueBytes)), toPlace.set(part(2 * valueBytes + placeBytes));
  llvm::Value *length = dim(k.axes[size_t(s.axis)].extent);
  auto element = [&](llvm::Type *t, llvm::Value *base, llvm::Value *i) { return b.CreateGEP(t, base, i); };

  forAxis(s.axis, [&] {
    llvm::Value *i = axis_[size_t(s.axis)].base, *v = expr(s.value).v;
    if (s.type == DType::boolean) v = b.CreateZExt(v, vt);
    b.CreateStore(v, element(vt, from.get(), i));
    b.CreateStore(b.CreateTrunc(i, b.getInt32Ty()), element(b.getInt32Ty(), fromPlace.get(), i));
  });

  const auto run = variable(it, "run"), lo = variable(it, "lo"), left = variable(it, "left");
  const auto right = variable(it, "right"), out = variable(it, "out");
  auto least = [&](llvm::Value *x, llvm::Value *y) {
    return b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, x, y);
  };
  run.set(i64(1));
  whileLoop(b, fn_, [&] { return b.CreateICmpSLT(run.get(), length); }, [&] {
    lo.set(i64(0));
    whileLoop(b, fn_, [&] { return b.CreateICmpSLT(lo.get(), length); }, [&] {
      llvm::Value *middle = least(b.CreateAdd(lo.get(), run.get()), length);
      llvm::Value *end = least(b.CreateAdd(middle, run.get()), length);
      llvm::Value *last = b.CreateSub(length, i64(1));
      left.set(lo.get()), right.set(middle), out.set(lo.get());
      whileLoop(b, fn_, [&] { return b.CreateICmpSLT(out.get(), end); }, [&] {
        llvm::Value *l = left.get(), *r = right.get();
        llvm::Value *x = b.CreateLoad(vt, element(vt, from.get(), l));
        llvm::Value *y = b.CreateLoad(vt, element(vt, from.get(), least(r, last)));
        llvm::Value *take = b.CreateOr(b.CreateICmpSGE(l, middle), sortsBefore(y, x));
        take = b.CreateAnd(take, b.CreateICmpSLT(r, end));
        llvm::Value *which = b.CreateSelect(take, r, l);
        b.CreateStore(b.CreateSelect(take, y, x), element(vt, to.get(), out.get()));
        b.CreateStore(b.CreateLoad(b.getInt32Ty(), element(b.getInt32Ty(), fromPlace.get(), which)),
                      element(b.getInt32Ty(), toPlace.get(), out.get()));
        llvm::Value *step = b.CreateZExt(take, it);
        right.set(b.CreateAdd(r, step));
        left.set(b.CreateAdd(l, b.CreateSub(i64(1), step)));
        out.set(b.CreateAdd(out.get(), i64(1)));
      });
      lo.set(end);
    });
    llvm::Value *f = from.get(), *p = fromPlace.get();
    from.set(to.get()), to.set(f);
    fromPlace.set(toPlace.get()), toPlace.set(p);
    run.set(b.CreateShl(run.get(), 1));
  });

  forAxis(s.axis, [&] {
    llvm::Value *i = axis_[size_t(s.axis)].base;
    llvm::Value *v = b.CreateLoad(vt, element(vt, from.get(), i));
    if (s.type == DType::boolean) v = b.CreateTrunc(v, b.getInt1Ty());
    if (s.values.arg >= 0) store(s.values, {v, false});
    if (s.indices.arg >= 0)
      store(s.indices, {b.CreateLoad(b.getInt32Ty(), element(b.getInt32Ty(), fromPlace.get(), i)), false});
  });
}

} // namespace nnc::cg
