// The function of a kernel, its items, and the loops of the Loops class.
//
// Problem. Stages run in order for every point of the parallel axes; vectors run along one axis of
// the points, or along an axis of each stage.
//
//   y[r,c] = relu(x[r,c]), 40 columns     for r in the item:
//                                           for c = 0, 16:  store (max (load x + 40r + c), 0)
//                                           c = 32, mask <1 1 1 1 1 1 1 1 0 ..>: the same
//
// Method. A loop body is a function of the compiler that binds the axis and emits; vector loops
// call it twice, for whole vectors and for a masked rest. Loops test their condition at the end, so
// that what is invariant in them may be hoisted.
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

// --- setup ---------------------------------------------------------------------------------------

Emitter::Emitter(llvm::Module &m, const Kernel &kernel, const Target &t, const std::string &name)
    : m_(m), k(kernel), target_(t), b(m.getContext()) {
  expandMath(k);
  if (k.cls == KernelClass::Contract) preparePacking();
  openFunction(name);
  aliasInfo();
  chooseIndexType();
  findReads();
  findAhead();
}

void Emitter::openFunction(const std::string &name) {
  auto *pointer = b.getPtrTy();
  auto *type = llvm::FunctionType::get(b.getVoidTy(),
                                       {pointer, pointer, b.getInt64Ty(), b.getInt64Ty()}, false);
  fn_ = llvm::Function::Create(type, llvm::GlobalValue::ExternalLinkage, name, m_);
  fn_->addFnAttr(llvm::Attribute::NoUnwind);
  fn_->addFnAttr("target-cpu", target_.llvmCpu);
  if (!target_.tune.empty()) fn_->addFnAttr("tune-cpu", target_.tune);
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
  size_t given = k.args.size(); // the copies of packed operands are no arguments of the function
  for (const Packed *p : {&packedA_, &packedB_})
    if (p->arg >= 0) given = std::min(given, size_t(p->arg));
  if (amxArg_ >= 0) given = std::min(given, size_t(amxArg_));
  for (size_t i = 0; i < given; ++i)
    args_.push_back(read(pointer, fn_->getArg(0), int64_t(8 * i), "arg"));
  n_ = read(b.getInt64Ty(), fn_->getArg(1), offsetof(NncStepEnv, n), "n");
  step_ = read(b.getInt64Ty(), fn_->getArg(1), offsetof(NncStepEnv, step), "step");
  seed_ = read(b.getInt64Ty(), fn_->getArg(1), offsetof(NncStepEnv, seed), "seed");
  iteration_ = read(b.getInt64Ty(), fn_->getArg(1), offsetof(NncStepEnv, iteration), "iteration");
  scratch_ = read(pointer, fn_->getArg(1), offsetof(NncStepEnv, scratch), "scratch");
  axis_.resize(k.axes.size());
  range_.resize(k.axes.size());
  placePacking();
  if (amxArg_ >= 0) args_.push_back(scratch_);
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

// Which arguments an expression loads from, and the last stage whose value it reads, through its
// operands and the integers in its indices.
void Emitter::findReads() {
  reads_.assign(k.exprs.size(), 0);
  latestLocal_.assign(k.exprs.size(), -1);
  std::vector<int> state(k.exprs.size(), 0);
  std::function<void(ExprId)> visit;
  // What `id` reads, `from` reads, too.
  auto add = [&](ExprId from, ExprId id) {
    visit(id);
    reads_[size_t(from)] |= reads_[size_t(id)];
    latestLocal_[size_t(from)] = std::max(latestLocal_[size_t(from)], latestLocal_[size_t(id)]);
  };
  std::function<void(ExprId, const Index &)> addIndex = [&](ExprId from, const Index &x) {
    for (const Term &t : x.terms) {
      const Atom &a = k.atoms[size_t(t.atom)];
      if (a.kind == Atom::Value)
        add(from, a.value);
      else if (a.kind != Atom::Axis)
        addIndex(from, a.inner);
    }
  };
  visit = [&](ExprId id) {
    if (state[size_t(id)]) return;
    state[size_t(id)] = 1;
    const Expr &e = k.exprs[size_t(id)];
    if (e.op == SOp::load) reads_[size_t(id)] |= uint64_t(1) << (e.access.arg & 63);
    if (e.op == SOp::local) latestLocal_[size_t(id)] = e.stage;
    for (ExprId a : e.args) add(id, a);
    addIndex(id, e.index), addIndex(id, e.access.flat);
    for (const Guard &g : e.guards) addIndex(id, g.index);
    for (const Guard &g : e.access.guards) addIndex(id, g.index);
  };
  for (size_t i = 0; i < k.exprs.size(); ++i) visit(ExprId(i));
}

void Emitter::run() {
  scopes_.emplace_back();
  switch (k.cls) {
  case KernelClass::Loops: emitItems([&] { emitLoops(); }); break;
  case KernelClass::Contract: emitItems([&] { emitContract(); }); break;
  case KernelClass::ScatterAdd: emitItems([&] { emitScatter(); }); break;
  case KernelClass::Sort: emitItems([&] { emitSort(); }); break;
  case KernelClass::Chain: emitItems([&] { emitChain(); }); break;
  }
  b.CreateRetVoid();
}

// Items are blocks of axes in mixed radix. With one item axis, a run of items is a run of that
// axis.
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
  if (items.size() == 1 && !packs() && amxArg_ < 0) {
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
        llvm::Value *count =
            b.CreateUDiv(addConst(dim(k.axes[size_t(a.axis)].extent), a.block - 1), i64(a.block));
        digit = b.CreateURem(rest, count);
        rest = b.CreateUDiv(rest, count);
      }
      block(items[i], digit, addConst(digit, 1));
    }
    item();
  });
}

// --- loops ---------------------------------------------------------------------------------------

// for (i = lo; i < hi; i += step) body(i), the test at the end.
void Emitter::forRange(llvm::Value *lo, llvm::Value *hi, int64_t step,
                       const std::function<void(llvm::Value *)> &body) {
  auto *first = llvm::dyn_cast<llvm::ConstantInt>(lo),
       *last = llvm::dyn_cast<llvm::ConstantInt>(hi);
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
  if (known)
    b.CreateBr(loop);
  else
    b.CreateCondBr(b.CreateICmpSLT(lo, hi), loop, after);
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
    bind(a, i, 0);
    body();
    unbind(a);
  });
}

void Emitter::forAxes(const std::vector<AxisId> &list, size_t from, const Body &body) {
  if (from == list.size()) return body();
  forAxis(list[from], [&] { forAxes(list, from + 1, body); });
}

void Emitter::lanesAt(AxisId a, llvm::Value *at, llvm::Value *mask, const Body &body) {
  laneAxis_ = a;
  mask_ = mask;
  bind(a, at, 0);
  scopes_.emplace_back();
  body();
  scopes_.pop_back();
  unbind(a);
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

// --- the Loops class -----------------------------------------------------------------------------

void Emitter::emitLoops() {
  std::vector<AxisId> scalar;
  const AxisId vec = k.schedule.vec;
  for (AxisId a : k.parallel)
    if (a != vec) scalar.push_back(a);
  forAxes(scalar, 0, [&] {
    if (vec >= 0)
      forLanes(vec, [&] { emitStages(); });
    else
      emitStages();
  });
}

void Emitter::emitStages() {
  locals_.assign(k.stages.size(), {});
  for (size_t i = 0; i < k.stages.size();) {
    size_t end = i + 1;
    while (k.stages[i].reduce.empty() && end < k.stages.size() && k.stages[end].reduce.empty() &&
           k.stages[end].loop == k.stages[i].loop)
      ++end;
    while (end < k.stages.size() && joinsReductions(i, end)) ++end;
    emitBlock(i, end);
    i = end;
  }
}

// May the stage's loop be that of stage `first`? So operands of both are read once. The stages of
// such a block leave their values behind together.
bool Emitter::joinsReductions(size_t first, size_t stage) {
  constexpr size_t kMost = 4; // accumulators are registers
  const Stage &s = k.stages[first], &t = k.stages[stage];
  auto plain = [](const Stage &x) {
    return !x.reduce.empty() && x.combine != Combine::argmax && x.combine != Combine::cumsum;
  };
  auto ordered = [](const Stage &x) {
    return x.combine == Combine::sum || x.combine == Combine::prod;
  };
  if (!plain(s) || !plain(t) || ordered(s) != ordered(t) || stage - first >= kMost) return false;
  if (s.loop != t.loop || s.reduce != t.reduce || s.order.lanes != t.order.lanes) return false;
  const int lanes = k.schedule.lanes;
  if (width_ == 1 && stageLaneAxis(k, s, lanes) != stageLaneAxis(k, t, lanes)) return false;
  // All bodies are computed before all stores.
  uint64_t written = 0;
  for (size_t i = first; i < stage; ++i)
    for (const Store &st : k.stages[i].stores) written |= uint64_t(1) << (st.access.arg & 63);
  return latestLocal_[size_t(t.body)] < int32_t(first) && !(reads_[size_t(t.body)] & written);
}

// Stages [first, last): reductions in one loop, or a block of elementwise ones over the same axes.
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
    if (s.combine == Combine::argmax) return finishStage(first, reduceArg(s, reduceLane));
    Stages stages;
    for (size_t i = first; i < last; ++i) stages.push_back(&k.stages[i]);
    const Values values = reduce(stages, reduceLane);
    for (size_t i = first; i < last; ++i) finishStage(i, {values[i - first]});
  };
  forAxes(loops, 0, [&] {
    if (laneLoops)
      forLanes(lane, [&] { point(-1); });
    else
      point(lane);
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
  if (s.chunk) return addUp(i, results[0]);
  for (const Store &st : s.stores) store(st.access, results[size_t(st.slot)]);
  if (s.loop.empty()) locals_[i] = results;
}

} // namespace nnc::cg
