// The function of a kernel, its items, and the loops and reductions of the Loops class.
//
// Problem. Stages run in order for every point of the parallel axes; vectors run along one axis, and the
// bits of a reduction may depend on nothing but its ReduceOrder.
//
//   max over c: z[r,c]           for r:  acc = <16 x float> -inf;  for c by 16: acc = max(acc, load z + 10r + c)
//   sum over c: exp(z - max)             local0 = fold acc; then the same with 64 lanes; store
//
// Method. A loop body is a function of the compiler that binds the axis and emits; vector loops call it
// twice, for whole vectors and for a masked rest. Loops test their condition at the end, so that what is
// invariant in them may be hoisted. A sum of 64 lanes along the lane axis keeps 64/width vectors that change
// places every step (a register renaming), so one body serves them all; where vectors run along another
// axis, the 64 accumulators are vectors in memory.
#include "codegen/cpu/emitter.h"
#include "codegen/cpu/schedule.h"
#include "codegen/math.h"
#include "runtime/abi.h"
#include <algorithm>
#include <cstddef>

namespace nnc::cg {

void emitKernel(llvm::Module &m, const Kernel &k, const Target &t, const std::string &name) {
  Emitter(m, k, t, name).run();
}

std::string unsupported(const Kernel &k) {
  for (const Expr &e : k.exprs) {
    if (e.type != DType::bf16 && e.type != DType::f16) continue;
    const bool rounds = (e.op >= SOp::sqrt && e.op <= SOp::atan2) || e.op == SOp::fma;
    if (rounds) return "arithmetic in " + std::string(ir::dtypeName(e.type)) + " has no code; compute in f32";
  }
  return "";
}

// --- setup -------------------------------------------------------------------------------------------

Emitter::Emitter(llvm::Module &m, const Kernel &kernel, const Target &t, const std::string &name)
    : m_(m), k(kernel), target_(t), b(m.getContext()) {
  expandMath(k);
  openFunction(name);
  aliasInfo();
  chooseIndexType();
  findReads();
}

void Emitter::openFunction(const std::string &name) {
  auto *pointer = b.getPtrTy();
  auto *type = llvm::FunctionType::get(b.getVoidTy(), {pointer, pointer, b.getInt64Ty(), b.getInt64Ty()}, false);
  fn_ = llvm::Function::Create(type, llvm::GlobalValue::ExternalLinkage, name, m_);
  fn_->addFnAttr(llvm::Attribute::NoUnwind);
  fn_->addFnAttr("target-cpu", target_.llvmCpu);
  if (!target_.features.empty()) fn_->addFnAttr("target-features", target_.features);
  fn_->addFnAttr("denormal-fp-math", "preserve-sign,preserve-sign");
  for (unsigned i : {0u, 1u}) fn_->addParamAttr(i, llvm::Attribute::ReadOnly);
  fn_->getArg(0)->setName("args"), fn_->getArg(1)->setName("env");
  begin_ = fn_->getArg(2), end_ = fn_->getArg(3);
  b.SetInsertPoint(llvm::BasicBlock::Create(m_.getContext(), "entry", fn_));

  auto *once = llvm::MDNode::get(m_.getContext(), {});
  auto read = [&](llvm::Type *t, llvm::Value *from, int64_t offset, const char *called) {
    auto *v = b.CreateLoad(t, b.CreateGEP(b.getInt8Ty(), from, i64(offset)), called);
    v->setMetadata(llvm::LLVMContext::MD_invariant_load, once);
    return v;
  };
  for (size_t i = 0; i < k.args.size(); ++i) args_.push_back(read(pointer, fn_->getArg(0), int64_t(8 * i), "arg"));
  n_ = read(b.getInt64Ty(), fn_->getArg(1), offsetof(NncStepEnv, n), "n");
  step_ = read(b.getInt64Ty(), fn_->getArg(1), offsetof(NncStepEnv, step), "step");
  seed_ = read(b.getInt64Ty(), fn_->getArg(1), offsetof(NncStepEnv, seed), "seed");
  scratch_ = read(pointer, fn_->getArg(1), offsetof(NncStepEnv, scratch), "scratch");
  axis_.resize(k.axes.size());
  range_.resize(k.axes.size());
}

// Distinct arguments never overlap: each access names its argument and all the others.
void Emitter::aliasInfo() {
  llvm::MDBuilder md(m_.getContext());
  auto *domain = md.createAnonymousAliasScopeDomain("kernel");
  std::vector<llvm::Metadata *> scopes;
  for (size_t i = 0; i < args_.size(); ++i) scopes.push_back(md.createAnonymousAliasScope(domain));
  for (size_t i = 0; i < args_.size(); ++i) {
    aliasScope_.push_back(llvm::MDNode::get(m_.getContext(), {scopes[i]}));
    std::vector<llvm::Metadata *> others = scopes;
    others.erase(others.begin() + std::ptrdiff_t(i));
    noAlias_.push_back(others.empty() ? nullptr : llvm::MDNode::get(m_.getContext(), others));
  }
}

// Lanes of an index are i32 unless something in the kernel may exceed it.
void Emitter::chooseIndexType() {
  bool fits = true;
  auto check = [&](const Index &x) {
    int64_t lo = 0, hi = 0;
    fits = fits && rangeOf(k, x, lo, hi) && lo > INT32_MIN / 2 && hi < INT32_MAX / 2;
  };
  auto checkAccess = [&](const Access &a) {
    check(a.flat);
    for (const Guard &g : a.guards) check(g.index);
  };
  for (const Expr &e : k.exprs) {
    if (e.op == SOp::load) checkAccess(e.access);
    for (const Guard &g : e.guards) check(g.index);
  }
  for (const Atom &a : k.atoms)
    if (a.kind == Atom::Div || a.kind == Atom::Mod) check(a.inner);
  for (const Stage &s : k.stages)
    for (const Store &st : s.stores) checkAccess(st.access);
  if (k.cls == KernelClass::Sort)
    for (const Access *a : {&k.sort.values, &k.sort.indices})
      if (a->arg >= 0) checkAccess(*a);
  if (k.cls == KernelClass::ScatterAdd) fits = false;
  indexType_ = fits ? b.getInt32Ty() : b.getInt64Ty();
}

// Which arguments an expression loads from, through its operands and the integers in its indices.
void Emitter::findReads() {
  reads_.assign(k.exprs.size(), 0);
  std::vector<int> state(k.exprs.size(), 0);
  std::function<uint64_t(ExprId)> of;
  std::function<uint64_t(const Index &)> ofIndex = [&](const Index &x) {
    uint64_t r = 0;
    for (const Term &t : x.terms) {
      const Atom &a = k.atoms[size_t(t.atom)];
      if (a.kind == Atom::Value) r |= of(a.value);
      else if (a.kind != Atom::Axis) r |= ofIndex(a.inner);
    }
    return r;
  };
  of = [&](ExprId id) {
    if (state[size_t(id)]) return reads_[size_t(id)];
    state[size_t(id)] = 1;
    const Expr &e = k.exprs[size_t(id)];
    uint64_t r = ofIndex(e.index);
    for (ExprId a : e.args) r |= of(a);
    for (const Guard &g : e.guards) r |= ofIndex(g.index);
    if (e.op == SOp::load) {
      r |= uint64_t(1) << (e.access.arg & 63);
      r |= ofIndex(e.access.flat);
      for (const Guard &g : e.access.guards) r |= ofIndex(g.index);
    }
    return reads_[size_t(id)] = r;
  };
  for (size_t i = 0; i < k.exprs.size(); ++i) of(ExprId(i));
}

void Emitter::run() {
  scopes_.emplace_back();
  switch (k.cls) {
  case KernelClass::Loops: emitItems([&] { emitLoops(); }); break;
  case KernelClass::Contract: emitItems([&] { emitContract(); }); break;
  case KernelClass::ScatterAdd: emitItems([&] { emitScatter(); }); break;
  case KernelClass::Sort: emitItems([&] { emitSort(); }); break;
  }
  b.CreateRetVoid();
}

// Items are blocks of axes in mixed radix. With one item axis, a run of items is a run of that axis.
void Emitter::emitItems(const Body &item) {
  for (size_t a = 0; a < k.axes.size(); ++a) range_[a] = {i64(0), dim(k.axes[a].extent)};
  const auto &items = k.schedule.items;
  auto block = [&](const ItemAxis &a, llvm::Value *from, llvm::Value *to) {
    llvm::Value *lo = b.CreateMul(from, i64(a.block), "", false, true);
    llvm::Value *hi = b.CreateMul(to, i64(a.block), "", false, true);
    hi = b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, hi, dim(k.axes[size_t(a.axis)].extent));
    hi = b.CreateBinaryIntrinsic(llvm::Intrinsic::smax, hi, lo);
    range_[size_t(a.axis)] = {lo, hi};
  };
  if (items.size() == 1) {
    block(items[0], begin_, end_);
    item();
    return;
  }
  forRange(begin_, end_, 1, [&](llvm::Value *number) {
    llvm::Value *rest = number;
    for (size_t i = items.size(); i-- > 0;) {
      llvm::Value *digit = rest;
      if (i > 0) {
        const ItemAxis &a = items[i];
        llvm::Value *count = b.CreateUDiv(addConst(dim(k.axes[size_t(a.axis)].extent), a.block - 1), i64(a.block));
        digit = b.CreateURem(rest, count);
        rest = b.CreateUDiv(rest, count);
      }
      block(items[i], digit, addConst(digit, 1));
    }
    item();
  });
}

// --- loops -------------------------------------------------------------------------------------------

// for (i = lo; i < hi; i += step) body(i), the test at the end.
void Emitter::forRange(llvm::Value *lo, llvm::Value *hi, int64_t step,
                       const std::function<void(llvm::Value *)> &body) {
  auto *first = llvm::dyn_cast<llvm::ConstantInt>(lo), *last = llvm::dyn_cast<llvm::ConstantInt>(hi);
  const bool known = first && last;
  const int64_t trip = known ? last->getSExtValue() - first->getSExtValue() : 0;
  if (known && trip <= 0) return;
  scopes_.emplace_back();
  if (known && trip <= step) {
    body(lo);
    scopes_.pop_back();
    return;
  }
  auto &context = m_.getContext();
  auto *before = b.GetInsertBlock();
  auto *loop = llvm::BasicBlock::Create(context, "loop", fn_);
  auto *after = llvm::BasicBlock::Create(context, "after", fn_);
  if (known) b.CreateBr(loop);
  else b.CreateCondBr(b.CreateICmpSLT(lo, hi), loop, after);
  b.SetInsertPoint(loop);
  auto *i = b.CreatePHI(b.getInt64Ty(), 2, "i");
  i->addIncoming(lo, before);
  body(i);
  llvm::Value *next = b.CreateAdd(i, i64(step), "next", false, true);
  i->addIncoming(next, b.GetInsertBlock());
  b.CreateCondBr(b.CreateICmpSLT(next, hi), loop, after);
  b.SetInsertPoint(after);
  scopes_.pop_back();
}

void Emitter::ifThen(llvm::Value *condition, const Body &body) {
  auto &context = m_.getContext();
  auto *then = llvm::BasicBlock::Create(context, "then", fn_);
  auto *after = llvm::BasicBlock::Create(context, "after", fn_);
  b.CreateCondBr(condition, then, after);
  b.SetInsertPoint(then);
  scopes_.emplace_back();
  body();
  scopes_.pop_back();
  b.CreateBr(after);
  b.SetInsertPoint(after);
}

Range Emitter::extentOf(AxisId a) {
  Range r = range_[size_t(a)];
  const Axis &x = k.axes[size_t(a)];
  if (!x.bounded) return r;
  llvm::Value *stop = b.CreateSub(dim(x.limit), scalarIndex(index(x.base)), "", false, true);
  r.hi = b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, r.hi, stop);
  r.hi = b.CreateBinaryIntrinsic(llvm::Intrinsic::smax, r.hi, r.lo);
  return r;
}

void Emitter::forAxis(AxisId a, const Body &body) {
  const Range r = extentOf(a);
  forRange(r.lo, r.hi, 1, [&](llvm::Value *i) {
    axis_[size_t(a)] = {i, 0};
    body();
    axis_[size_t(a)] = {};
  });
}

void Emitter::forAxes(const std::vector<AxisId> &list, size_t from, const Body &body) {
  if (from == list.size()) return body();
  forAxis(list[from], [&] { forAxes(list, from + 1, body); });
}

void Emitter::lanesAt(AxisId a, llvm::Value *at, llvm::Value *mask, const Body &body) {
  laneAxis_ = a;
  mask_ = mask;
  axis_[size_t(a)] = {at, 0};
  scopes_.emplace_back();
  body();
  scopes_.pop_back();
  axis_[size_t(a)] = {};
  mask_ = nullptr;
  laneAxis_ = -1;
}

// Whole vectors, then a rest with a mask.
void Emitter::forLanes(AxisId a, const Body &body) {
  const int lanes = k.schedule.lanes;
  if (lanes == 1) return forAxis(a, body);
  const Range r = extentOf(a);
  llvm::Value *count = b.CreateSub(r.hi, r.lo);
  llvm::Value *whole = b.CreateAnd(count, i64(-int64_t(lanes)));
  llvm::Value *stop = b.CreateAdd(r.lo, whole);
  width_ = lanes;
  forRange(r.lo, stop, lanes, [&](llvm::Value *i) { lanesAt(a, i, nullptr, body); });
  llvm::Value *rest = b.CreateSub(count, whole);
  auto tail = [&] { lanesAt(a, stop, firstLanes(rest), body); };
  if (auto *c = llvm::dyn_cast<llvm::ConstantInt>(rest)) {
    if (!c->isZero()) tail();
  } else {
    ifThen(b.CreateICmpSGT(rest, i64(0)), tail);
  }
  width_ = 1;
}

// --- the Loops class -----------------------------------------------------------------------------------

void Emitter::emitLoops() {
  std::vector<AxisId> scalar;
  const AxisId vec = k.schedule.vec;
  for (AxisId a : k.parallel)
    if (a != vec) scalar.push_back(a);
  forAxes(scalar, 0, [&] {
    if (vec >= 0) forLanes(vec, [&] { emitStages(); });
    else emitStages();
  });
}

void Emitter::emitStages() {
  locals_.assign(k.stages.size(), {});
  for (size_t i = 0; i < k.stages.size();) {
    size_t end = i + 1;
    while (k.stages[i].reduce.empty() && end < k.stages.size() && k.stages[end].reduce.empty() &&
           k.stages[end].loop == k.stages[i].loop)
      ++end;
    emitBlock(i, end);
    i = end;
  }
}

// Stages [first, last): one that reduces, or a block of elementwise ones over the same axes.
void Emitter::emitBlock(size_t first, size_t last) {
  const Stage &s = k.stages[first];
  const AxisId lane = width_ == 1 ? stageLaneAxis(k, s, k.schedule.lanes) : -1;
  std::vector<AxisId> loops;
  for (AxisId a : s.loop)
    if (a != lane) loops.push_back(a);
  const bool laneLoops = lane >= 0 && loops.size() < s.loop.size();
  auto point = [&](AxisId reduceLane) {
    if (s.combine == Combine::cumsum) return cumsum(s);
    if (s.combine == Combine::none) return elementwise(first, last);
    finishStage(first, reduce(s, reduceLane));
  };
  forAxes(loops, 0, [&] {
    if (laneLoops) forLanes(lane, [&] { point(-1); });
    else point(lane);
  });
}

// All bodies, then all stores: what is written in place is read before (kernel.h).
void Emitter::elementwise(size_t first, size_t last) {
  std::vector<Values> values;
  for (size_t i = first; i < last; ++i) {
    values.push_back({expr(k.stages[i].body)});
    if (k.stages[i].loop.empty()) locals_[i] = values.back();
  }
  for (size_t i = first; i < last; ++i) finishStage(i, values[i - first]);
}

void Emitter::finishStage(size_t i, const Values &results) {
  const Stage &s = k.stages[i];
  for (const Store &st : s.stores) store(st.access, results[size_t(st.slot)]);
  if (s.loop.empty()) locals_[i] = results;
}

// --- reductions ----------------------------------------------------------------------------------------

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
                                              : llvm::Intrinsic::umax, x, y);
  case Combine::min:
    return b.CreateBinaryIntrinsic(f          ? llvm::Intrinsic::minimum
                                   : isSigned ? llvm::Intrinsic::smin
                                              : llvm::Intrinsic::umin, x, y);
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
    return llvm::ConstantInt::get(t, isSigned ? llvm::APInt::getSignedMinValue(bits) : llvm::APInt(bits, 0));
  case Combine::min:
    if (f) return llvm::ConstantFP::getInfinity(t, false);
    return llvm::ConstantInt::get(t, isSigned ? llvm::APInt::getSignedMaxValue(bits)
                                              : llvm::APInt::getMaxValue(bits));
  }
  return nullptr;
}

Emitter::Values Emitter::reduce(const Stage &s, AxisId lane) {
  if (s.combine == Combine::argmax) return reduceArg(s, lane);
  if (lane >= 0) return {reduceRotating(s, lane)};
  const bool ordered = s.combine == Combine::sum || s.combine == Combine::prod;
  return {ordered && s.order.lanes > 1 ? reduceInMemory(s) : reduceInSequence(s)};
}

Val Emitter::reduceInSequence(const Stage &s) {
  llvm::Type *t = type(s.type, width_ > 1);
  auto *acc = slot(t, "acc");
  b.CreateStore(identity(s.combine, t, s.type), acc);
  forAxes(s.reduce, 0, [&] {
    llvm::Value *x = width_ > 1 ? spread(expr(s.body)) : expr(s.body).v;
    b.CreateStore(combine(s.combine, s.type, b.CreateLoad(t, acc), x), acc);
  });
  return {b.CreateLoad(t, acc), width_ > 1};
}

// Vectors along the reduced axis. Step v of a row belongs to accumulator v mod groups: after each step the
// accumulators move up one place, so that the next one is always acc[0].
Val Emitter::reduceRotating(const Stage &s, AxisId lane) {
  const int width = k.schedule.lanes;
  const bool ordered = s.combine == Combine::sum || s.combine == Combine::prod;
  const int groups = ordered ? s.order.lanes / width : 1;
  llvm::Type *t = llvm::FixedVectorType::get(type(s.type), unsigned(width));
  std::vector<llvm::AllocaInst *> acc;
  for (int g = 0; g < groups; ++g) {
    acc.push_back(slot(t, "acc"));
    b.CreateStore(identity(s.combine, t, s.type), acc.back());
  }
  const std::vector<AxisId> outer(s.reduce.begin(), s.reduce.end() - 1);
  forAxes(outer, 0, [&] {
    forLanes(lane, [&] {
      llvm::Value *x = spread(expr(s.body));
      llvm::Value *old = b.CreateLoad(t, acc[0]);
      llvm::Value *next = combine(s.combine, s.type, old, x);
      if (mask_) next = b.CreateSelect(mask_, next, old);
      for (int g = 0; g + 1 < groups; ++g) b.CreateStore(b.CreateLoad(t, acc[size_t(g) + 1]), acc[size_t(g)]);
      b.CreateStore(next, acc.back());
    });
    const Range r = extentOf(lane);
    undoRotation(acc, b.CreateUDiv(addConst(b.CreateSub(r.hi, r.lo), width - 1), i64(width)), t);
  });
  std::vector<llvm::Value *> v;
  for (auto *a : acc) v.push_back(b.CreateLoad(t, a));
  for (size_t w = v.size() / 2; w > 0; w /= 2)
    for (size_t g = 0; g < w; ++g) v[g] = combine(s.combine, s.type, v[g], v[g + w]);
  return {foldLanes(s.combine, s.type, v[0]), false};
}

// After `steps` steps place p holds accumulator (p + steps) mod groups: puts them back, by powers of two.
void Emitter::undoRotation(std::vector<llvm::AllocaInst *> &acc, llvm::Value *steps, llvm::Type *t) {
  const size_t groups = acc.size();
  std::vector<llvm::Value *> v;
  for (auto *a : acc) v.push_back(b.CreateLoad(t, a));
  for (size_t by = 1; by < groups; by *= 2) {
    llvm::Value *odd = b.CreateICmpNE(b.CreateAnd(steps, i64(int64_t(by))), i64(0));
    std::vector<llvm::Value *> moved;
    for (size_t g = 0; g < groups; ++g) moved.push_back(b.CreateSelect(odd, v[(g + groups - by) % groups], v[g]));
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
Val Emitter::reduceInMemory(const Stage &s) {
  llvm::Type *t = type(s.type, width_ > 1);
  const int64_t lanes = s.order.lanes;
  auto *acc = slot(llvm::ArrayType::get(t, uint64_t(lanes)), "accs");
  auto at = [&](llvm::Value *i) { return b.CreateGEP(t, acc, i); };
  llvm::Value *none = identity(s.combine, t, s.type);
  const Axis &inner = k.axes[size_t(s.reduce.back())];
  int64_t used = lanes; // accumulators that get elements
  if (inner.extent.isConst()) used = std::min(used, inner.extent.b);
  forRange(i64(0), i64(used), 1, [&](llvm::Value *i) { b.CreateStore(none, at(i)); });
  forAxes(s.reduce, 0, [&] {
    llvm::Value *p = at(b.CreateAnd(axis_[size_t(s.reduce.back())].base, i64(lanes - 1)));
    llvm::Value *x = width_ > 1 ? spread(expr(s.body)) : expr(s.body).v;
    b.CreateStore(combine(s.combine, s.type, b.CreateLoad(t, p), x), p);
  });
  for (int64_t w = lanes / 2; w > 0; w /= 2) {
    const int64_t pairs = std::max<int64_t>(0, std::min(w, used - w));
    forRange(i64(0), i64(pairs), 1, [&](llvm::Value *i) {
      llvm::Value *x = b.CreateLoad(t, at(i)), *y = b.CreateLoad(t, at(addConst(i, w)));
      b.CreateStore(combine(s.combine, s.type, x, y), at(i));
    });
    used = std::min(w, used);
    forRange(i64(pairs), i64(used), 1, [&](llvm::Value *i) {
      b.CreateStore(combine(s.combine, s.type, b.CreateLoad(t, at(i)), none), at(i));
    });
  }
  return {b.CreateLoad(t, at(i64(0))), width_ > 1};
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

// The better of two (value, index): NaN first, then the larger value, then the smaller index. Index -1 is
// nothing yet. `later`: y comes after x, so a tie keeps x.
Emitter::Best Emitter::better(DType t, const Best &x, const Best &y, bool later, llvm::Value *mask) {
  llvm::Value *none = llvm::Constant::getNullValue(x.index->getType());
  llvm::Value *take = nullptr, *tie = nullptr;
  if (ir::isFloat(t)) {
    llvm::Value *xNan = b.CreateFCmpUNO(x.value, x.value), *yNan = b.CreateFCmpUNO(y.value, y.value);
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
  auto shaped = [&](llvm::Type *t) -> llvm::Type * { return lanes ? llvm::FixedVectorType::get(t, width) : t; };
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
    best = better(s.type, best, {b.CreateShuffleVector(best.value, upper), b.CreateShuffleVector(best.index, upper)},
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
