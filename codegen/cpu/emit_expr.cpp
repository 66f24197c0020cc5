// Expressions, loads and stores of a kernel as LLVM values.
//
// Problem. One expression serves every loop nest: scalar loops, vector loops with and without a mask, and
// the tiles of a contraction. What it costs depends on how its accesses move along the lane axis.
//
//   load a[10*r + c]   lane axis c: one vector load      lane axis r: a gather with stride 10
//                      neither:     one scalar load, spread where a vector is needed
//
// Method. An index is split into a scalar part, a stride along the lanes, and a rest per lane (divisions,
// remainders, loaded integers), see IndexVal. A guard is a scalar or a lane condition. A scalar guard
// selects between the real address and 128 bytes of zeros, so there are no branches; a lane guard becomes
// the mask of the load. Nothing is read where a guard does not hold or a lane does not exist.
#include "codegen/cpu/emitter.h"
#include <algorithm>

namespace nnc::cg {

// --- types and small things ------------------------------------------------------------------------

llvm::Type *Emitter::type(DType t, bool lanes) {
  llvm::Type *s = nullptr;
  switch (t) {
  case DType::f32:
  case DType::bf16: // storage formats: a value of them is an f32
  case DType::f16: s = b.getFloatTy(); break;
  case DType::f64: s = b.getDoubleTy(); break;
  case DType::i64: s = b.getInt64Ty(); break;
  case DType::i32:
  case DType::u32: s = b.getInt32Ty(); break;
  case DType::u8: s = b.getInt8Ty(); break;
  case DType::boolean: s = b.getInt1Ty(); break;
  }
  return lanes ? llvm::FixedVectorType::get(s, unsigned(width_)) : s;
}

llvm::Type *Emitter::memoryType(DType t) {
  if (t == DType::boolean) return b.getInt8Ty();
  if (t == DType::bf16 || t == DType::f16) return b.getInt16Ty();
  return type(t);
}

llvm::Value *Emitter::dim(Dim d) { return addConst(d.a ? scaled(n_, d.a) : nullptr, d.b); }

// Null stands for 0 on the way in; the result is never null.
llvm::Value *Emitter::add(llvm::Value *x, llvm::Value *y) {
  if (!x || !y) return x ? x : y ? y : i64(0);
  return b.CreateAdd(x, y, "", false, true);
}
llvm::Value *Emitter::addConst(llvm::Value *x, int64_t c) {
  if (!x) return i64(c);
  return c == 0 ? x : b.CreateAdd(x, llvm::ConstantInt::getSigned(x->getType(), c), "", false, true);
}
llvm::Value *Emitter::scaled(llvm::Value *x, int64_t c) {
  return c == 1 ? x : b.CreateMul(x, llvm::ConstantInt::getSigned(x->getType(), c), "", false, true);
}

llvm::Value *Emitter::spread(llvm::Value *scalar) {
  return width_ == 1 ? scalar : b.CreateVectorSplat(unsigned(width_), scalar);
}

llvm::Value *Emitter::laneNumbers(llvm::IntegerType *t) {
  std::vector<llvm::Constant *> numbers;
  for (int i = 0; i < width_; ++i) numbers.push_back(llvm::ConstantInt::get(t, uint64_t(i)));
  return llvm::ConstantVector::get(numbers);
}

llvm::Value *Emitter::firstLanes(llvm::Value *count) {
  llvm::Value *limit = b.CreateTrunc(count, b.getInt32Ty());
  return b.CreateICmpSLT(laneNumbers(b.getInt32Ty()), spread(limit));
}

llvm::Value *Emitter::zeros() {
  if (auto *g = m_.getNamedGlobal("nnc.zeros")) return g;
  auto *t = llvm::ArrayType::get(b.getInt8Ty(), 128);
  auto *g = new llvm::GlobalVariable(m_, t, true, llvm::GlobalValue::PrivateLinkage,
                                     llvm::ConstantAggregateZero::get(t), "nnc.zeros");
  g->setAlignment(llvm::Align(64));
  return g;
}

// Stack memory; what has a constant place in it becomes registers.
llvm::AllocaInst *Emitter::slot(llvm::Type *t, const char *name) {
  llvm::BasicBlock &entry = fn_->getEntryBlock();
  llvm::IRBuilder<> at(&entry, entry.getFirstInsertionPt());
  auto *a = at.CreateAlloca(t, nullptr, name);
  a->setAlignment(llvm::Align(64));
  return a;
}

llvm::Value *Emitter::both(llvm::Value *x, llvm::Value *y) {
  return !x ? y : !y ? x : b.CreateAnd(x, y);
}

// --- indices ---------------------------------------------------------------------------------------

// Axes that were bound first come first, so that prefixes of the sum are invariant in inner loops.
IndexVal Emitter::index(const Index &x) {
  IndexVal r;
  r.plus = x.c0;
  if (x.cn) r.base = scaled(n_, x.cn);
  for (const Term &t : x.terms) {
    IndexVal a = atom(t.atom);
    r.plus += t.coef * a.plus;
    r.stride += t.coef * a.stride;
    if (a.base) r.base = add(r.base, scaled(a.base, t.coef));
    if (!a.rest) continue;
    llvm::Value *rest = scaled(a.rest, t.coef);
    r.rest = r.rest ? b.CreateAdd(r.rest, rest, "", false, true) : rest;
  }
  return r;
}

IndexVal Emitter::atom(AtomId id) {
  const Atom &a = k.atoms[id];
  if (a.kind == Atom::Axis) {
    NNC_CHECK(axis_[a.axis].base, "an index uses an axis outside its loop");
    IndexVal r;
    r.base = axis_[a.axis].base;
    r.plus = axis_[a.axis].plus;
    if (auto *c = llvm::dyn_cast<llvm::ConstantInt>(r.base)) {
      r.plus += c->getSExtValue();
      r.base = nullptr;
    }
    if (a.axis == laneAxis_ && width_ > 1) r.stride = 1;
    return r;
  }
  for (auto s = scopes_.rbegin(); s != scopes_.rend(); ++s)
    if (auto it = s->atoms.find(id); it != s->atoms.end()) return it->second;
  IndexVal r = a.kind == Atom::Value ? loadedIndex(a) : divMod(a);
  scopes_.back().atoms[id] = r;
  return r;
}

IndexVal Emitter::divMod(const Atom &a) {
  IndexVal x = index(a.inner);
  IndexVal r;
  const bool lanes = x.lanes();
  int64_t lo = -1, hi = 0;
  const bool positive = rangeOf(k, a.inner, lo, hi) && lo >= 0;
  llvm::Value *v = lanes ? laneIndex(x, indexType_) : scalarIndex(x);
  llvm::Value *by = llvm::ConstantInt::getSigned(v->getType(), a.by);
  llvm::Value *result = nullptr;
  if (positive) {
    result = a.kind == Atom::Div ? b.CreateUDiv(v, by) : b.CreateURem(v, by);
  } else {
    // Rounds down: a negative remainder is one period too low.
    llvm::Value *rem = b.CreateSRem(v, by);
    llvm::Value *low = b.CreateICmpSLT(rem, llvm::Constant::getNullValue(v->getType()));
    llvm::Value *zero = llvm::Constant::getNullValue(v->getType());
    if (a.kind == Atom::Mod) result = b.CreateAdd(rem, b.CreateSelect(low, by, zero));
    else result = b.CreateSub(b.CreateSDiv(v, by), b.CreateZExt(low, v->getType()));
  }
  (lanes ? r.rest : r.base) = result;
  return r;
}

// A loaded integer, clamped into the table.
IndexVal Emitter::loadedIndex(const Atom &a) {
  Val v = expr(a.value);
  llvm::Value *limit = b.CreateSub(dim(a.limit), i64(1));
  auto *own = llvm::cast<llvm::IntegerType>(v.v->getType()->getScalarType());
  // Compared in the wider of the two types: an i64 out of range must not wrap into it.
  const bool wide = own->getBitWidth() == 64 || !v.lanes;
  llvm::Type *t = wide ? b.getInt64Ty() : b.getInt32Ty();
  limit = b.CreateTrunc(limit, t);
  if (v.lanes) limit = spread(limit), t = limit->getType();
  llvm::Value *x = b.CreateSExt(v.v, t);
  x = b.CreateBinaryIntrinsic(llvm::Intrinsic::smax, x, llvm::Constant::getNullValue(t));
  x = b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, x, limit);
  IndexVal r;
  if (!v.lanes) r.base = x;
  else r.rest = b.CreateSExtOrTrunc(x, llvm::FixedVectorType::get(indexType_, unsigned(width_)));
  return r;
}

llvm::Value *Emitter::scalarIndex(const IndexVal &x) { return addConst(x.base, x.plus); }

llvm::Value *Emitter::laneIndex(const IndexVal &x, llvm::IntegerType *t) {
  llvm::Value *r = spread(b.CreateTrunc(scalarIndex(x), t));
  if (x.stride) r = b.CreateAdd(r, scaled(laneNumbers(t), x.stride));
  if (x.rest)
    r = b.CreateAdd(r, b.CreateSExtOrTrunc(x.rest, llvm::FixedVectorType::get(t, unsigned(width_))));
  return r;
}

Val Emitter::indexValue(const Index &i, DType t) {
  IndexVal x = index(i);
  llvm::IntegerType *own = t == DType::i64 ? b.getInt64Ty() : b.getInt32Ty();
  int64_t lo = 0, hi = 0;
  const bool fits = rangeOf(k, i, lo, hi) && lo >= INT32_MIN && hi <= INT32_MAX;
  if (ir::isFloat(t) && !fits) own = b.getInt64Ty();
  llvm::Value *v = x.lanes() ? laneIndex(x, own) : b.CreateTrunc(scalarIndex(x), own);
  if (ir::isFloat(t)) v = b.CreateSIToFP(v, type(t, x.lanes()));
  else if (t == DType::u8) v = b.CreateTrunc(v, type(t, x.lanes()));
  return {v, x.lanes()};
}

// lo <= index < hi for every guard.
Emitter::Condition Emitter::guards(const std::vector<Guard> &gs) {
  Condition c;
  for (const Guard &g : gs) {
    IndexVal x = index(g.index);
    const bool lanes = x.lanes();
    llvm::Value *v = lanes ? laneIndex(x, indexType_) : scalarIndex(x);
    llvm::Value *lo = i64(g.lo), *hi = dim(g.hi);
    if (lanes) lo = spread(b.CreateTrunc(lo, indexType_)), hi = spread(b.CreateTrunc(hi, indexType_));
    llvm::Value *holds = nullptr;
    if (g.lo <= (g.hi.a >= 0 ? g.hi.a + g.hi.b : g.hi.at(k.batch))) {
      holds = b.CreateICmpULT(b.CreateSub(v, lo), b.CreateSub(hi, lo)); // negative is large
    } else {
      holds = b.CreateAnd(b.CreateICmpSGE(v, lo), b.CreateICmpSLT(v, hi));
    }
    (lanes ? c.lanes : c.uniform) = both(lanes ? c.lanes : c.uniform, holds);
  }
  return c;
}

// --- loads -----------------------------------------------------------------------------------------

void Emitter::noteAlias(llvm::Value *access, int arg) {
  auto *i = llvm::dyn_cast<llvm::Instruction>(access);
  if (!i) return;
  i->setMetadata(llvm::LLVMContext::MD_alias_scope, aliasScope_[size_t(arg)]);
  if (noAlias_[size_t(arg)]) i->setMetadata(llvm::LLVMContext::MD_noalias, noAlias_[size_t(arg)]);
}

llvm::Value *Emitter::address(int arg, const IndexVal &x) {
  llvm::Type *t = memoryType(k.args[size_t(arg)].dtype);
  llvm::Value *p = args_[size_t(arg)];
  if (x.base) p = b.CreateGEP(t, p, x.base);
  return x.plus ? b.CreateGEP(t, p, i64(x.plus)) : p;
}

Val Emitter::load(const Access &a) {
  const Condition c = guardsHold_ ? Condition{} : guards(a.guards);
  const IndexVal x = index(a.flat);
  const DType t = k.args[size_t(a.arg)].dtype;
  if (!x.lanes()) return loadUniform(a, x, c);
  llvm::Value *v = nullptr;
  if (!x.rest && x.stride == 1) v = loadContiguous(a, x, c);
  else if (!x.rest && x.stride == -1) v = loadReversed(a, x, c);
  else {
    llvm::Value *mask = both(mask_, c.lanes);
    if (c.uniform) mask = both(mask, spread(c.uniform));
    v = gather(a, x, mask);
  }
  return {widen(v, t), true};
}

Val Emitter::loadUniform(const Access &a, const IndexVal &x, const Condition &c) {
  const DType t = k.args[size_t(a.arg)].dtype;
  llvm::Value *allowed = c.uniform;
  if (c.lanes) allowed = both(allowed, b.CreateOrReduce(both(mask_, c.lanes)));
  llvm::Value *p = address(a.arg, x);
  if (allowed) p = b.CreateSelect(allowed, p, zeros());
  llvm::Value *v = b.CreateAlignedLoad(memoryType(t), p, llvm::Align(uint64_t(ir::dtypeBytes(t))));
  if (!allowed) noteAlias(v, a.arg);
  v = widen(v, t);
  if (!c.lanes) return {v, false};
  v = spread(v);
  return {b.CreateSelect(c.lanes, v, llvm::Constant::getNullValue(v->getType())), true};
}

llvm::Value *Emitter::loadContiguous(const Access &a, const IndexVal &x, const Condition &c) {
  const DType t = k.args[size_t(a.arg)].dtype;
  auto *vt = llvm::FixedVectorType::get(memoryType(t), unsigned(width_));
  llvm::Value *p = address(a.arg, x);
  if (c.uniform) p = b.CreateSelect(c.uniform, p, zeros());
  const llvm::Align align{uint64_t(ir::dtypeBytes(t))};
  llvm::Value *mask = both(mask_, c.lanes);
  llvm::Value *v = mask ? static_cast<llvm::Value *>(b.CreateMaskedLoad(
                              vt, p, align, mask, llvm::Constant::getNullValue(vt)))
                        : b.CreateAlignedLoad(vt, p, align);
  if (!c.uniform) noteAlias(v, a.arg);
  return v;
}

// Lane i reads element -i: the vector that ends at lane 0, turned round.
llvm::Value *Emitter::loadReversed(const Access &a, const IndexVal &x, const Condition &c) {
  const DType t = k.args[size_t(a.arg)].dtype;
  auto *vt = llvm::FixedVectorType::get(memoryType(t), unsigned(width_));
  IndexVal first = x;
  first.plus -= width_ - 1;
  llvm::Value *p = address(a.arg, first);
  if (c.uniform) p = b.CreateSelect(c.uniform, p, zeros());
  const llvm::Align align{uint64_t(ir::dtypeBytes(t))};
  llvm::Value *mask = both(mask_, c.lanes);
  llvm::Value *v = mask ? static_cast<llvm::Value *>(
                              b.CreateMaskedLoad(vt, p, align, b.CreateVectorReverse(mask),
                                                 llvm::Constant::getNullValue(vt)))
                        : b.CreateAlignedLoad(vt, p, align);
  if (!c.uniform) noteAlias(v, a.arg);
  return b.CreateVectorReverse(v);
}

// x86 gathers 4 and 8 byte elements; smaller ones are loaded lane by lane, absent lanes from the zeros.
llvm::Value *Emitter::gather(const Access &a, const IndexVal &x, llvm::Value *mask) {
  const DType t = k.args[size_t(a.arg)].dtype;
  llvm::Type *element = memoryType(t);
  auto *vt = llvm::FixedVectorType::get(element, unsigned(width_));
  IndexVal offsets;
  offsets.stride = x.stride;
  offsets.rest = x.rest;
  llvm::Value *p = b.CreateGEP(element, address(a.arg, x), laneIndex(offsets, indexType_));
  const llvm::Align align{uint64_t(ir::dtypeBytes(t))};
  if (ir::dtypeBytes(t) >= 4) {
    llvm::Value *v = b.CreateMaskedGather(vt, p, align, mask, llvm::Constant::getNullValue(vt));
    noteAlias(v, a.arg);
    return v;
  }
  if (mask) p = b.CreateSelect(mask, p, spread(zeros()));
  llvm::Value *v = llvm::PoisonValue::get(vt);
  for (int i = 0; i < width_; ++i) {
    llvm::Value *one = b.CreateAlignedLoad(element, b.CreateExtractElement(p, uint64_t(i)), align);
    if (!mask) noteAlias(one, a.arg);
    v = b.CreateInsertElement(v, one, uint64_t(i));
  }
  return v;
}

// From memory's form to a value's.
llvm::Value *Emitter::widen(llvm::Value *v, DType t) {
  const bool lanes = v->getType()->isVectorTy();
  auto like = [&](llvm::Type *s) -> llvm::Type * {
    return lanes ? llvm::FixedVectorType::get(s, unsigned(width_)) : s;
  };
  if (t == DType::boolean) return b.CreateICmpNE(v, llvm::Constant::getNullValue(v->getType()));
  if (t == DType::f16) return b.CreateFPExt(b.CreateBitCast(v, like(b.getHalfTy())), type(t, lanes));
  if (t == DType::bf16)
    return b.CreateBitCast(b.CreateShl(b.CreateZExt(v, like(b.getInt32Ty())), 16), type(t, lanes));
  return v;
}

// From a value's form to memory's. bf16 rounds to nearest even in integers, so that every target agrees.
llvm::Value *Emitter::narrow(llvm::Value *v, DType t) {
  const bool lanes = v->getType()->isVectorTy();
  auto like = [&](llvm::Type *s) -> llvm::Type * {
    return lanes ? llvm::FixedVectorType::get(s, unsigned(width_)) : s;
  };
  if (t == DType::boolean) return b.CreateZExt(v, like(b.getInt8Ty()));
  if (t == DType::f16)
    return b.CreateBitCast(b.CreateFPTrunc(v, like(b.getHalfTy())), like(b.getInt16Ty()));
  if (t != DType::bf16) return v;
  llvm::Type *it = like(b.getInt32Ty());
  llvm::Value *bits = b.CreateBitCast(v, it);
  llvm::Value *odd = b.CreateAnd(b.CreateLShr(bits, 16), llvm::ConstantInt::get(it, 1));
  llvm::Value *up = b.CreateAdd(bits, b.CreateAdd(odd, llvm::ConstantInt::get(it, 0x7fff)));
  llvm::Value *rounded = b.CreateLShr(up, 16);
  rounded = b.CreateSelect(b.CreateFCmpUNO(v, v), llvm::ConstantInt::get(it, 0x7fc0), rounded);
  return b.CreateTrunc(rounded, like(b.getInt16Ty()));
}

// --- stores ----------------------------------------------------------------------------------------

void Emitter::store(const Access &a, const Val &v) {
  const Condition c = guards(a.guards);
  const IndexVal x = index(a.flat);
  const DType t = k.args[size_t(a.arg)].dtype;
  if (x.lanes()) {
    storeLanes(a, x, c, narrow(spread(v), t));
  } else {
    // An axis of extent 1 has lane 0 only.
    llvm::Value *one = v.lanes ? b.CreateExtractElement(v.v, uint64_t(0)) : v.v;
    Condition first = c;
    if (c.lanes) first.uniform = both(c.uniform, b.CreateExtractElement(c.lanes, uint64_t(0)));
    storeScalar(a, x, first, narrow(one, t));
  }
  forgetLoads(a.arg);
}

void Emitter::storeScalar(const Access &a, const IndexVal &x, const Condition &c, llvm::Value *v) {
  const llvm::Align align{uint64_t(ir::dtypeBytes(k.args[size_t(a.arg)].dtype))};
  auto emit = [&] { noteAlias(b.CreateAlignedStore(v, address(a.arg, x), align), a.arg); };
  if (c.uniform) ifThen(c.uniform, emit);
  else emit();
}

void Emitter::storeLanes(const Access &a, const IndexVal &x, const Condition &c, llvm::Value *v) {
  const DType t = k.args[size_t(a.arg)].dtype;
  const llvm::Align align{uint64_t(ir::dtypeBytes(t))};
  llvm::Value *mask = both(mask_, c.lanes);
  if (c.uniform) mask = both(mask, spread(c.uniform));
  llvm::Instruction *done = nullptr;
  if (!x.rest && (x.stride == 1 || x.stride == -1)) {
    IndexVal first = x;
    if (x.stride == -1) {
      first.plus -= width_ - 1;
      v = b.CreateVectorReverse(v);
      if (mask) mask = b.CreateVectorReverse(mask);
    }
    llvm::Value *p = address(a.arg, first);
    done = mask ? static_cast<llvm::Instruction *>(b.CreateMaskedStore(v, p, align, mask))
                : b.CreateAlignedStore(v, p, align);
  } else {
    IndexVal offsets;
    offsets.stride = x.stride;
    offsets.rest = x.rest;
    llvm::Value *p = b.CreateGEP(memoryType(t), address(a.arg, x), laneIndex(offsets, indexType_));
    done = b.CreateMaskedScatter(v, p, align, mask);
  }
  noteAlias(done, a.arg);
}

void Emitter::forgetLoads(int arg) {
  const uint64_t bit = uint64_t(1) << (arg & 63);
  for (Scope &s : scopes_) {
    std::erase_if(s.exprs, [&](auto &e) { return (reads_[size_t(e.first)] & bit) != 0; });
    std::erase_if(s.atoms, [&](auto &a) {
      const Atom &at = k.atoms[size_t(a.first)];
      return at.kind == Atom::Value && (reads_[size_t(at.value)] & bit) != 0;
    });
  }
}

// --- expressions -------------------------------------------------------------------------------------

Val Emitter::expr(ExprId e) {
  for (auto s = scopes_.rbegin(); s != scopes_.rend(); ++s)
    if (auto it = s->exprs.find(e); it != s->exprs.end()) return it->second;
  Val v = compute(k.exprs[size_t(e)]);
  scopes_.back().exprs[e] = v;
  return v;
}

Val Emitter::compute(const Expr &e) {
  switch (e.op) {
  case SOp::constant: return constant(e.value, e.type);
  case SOp::load: return load(e.access);
  case SOp::acc: return acc_;
  case SOp::local: return locals_[size_t(e.stage)][size_t(e.slot)];
  case SOp::index: return indexValue(e.index, e.type);
  case SOp::size: {
    llvm::Value *d = dim(e.dim);
    return {ir::isFloat(e.type) ? b.CreateSIToFP(d, type(e.type)) : b.CreateTrunc(d, type(e.type)),
            false};
  }
  case SOp::guard: {
    const Condition c = guards(e.guards);
    if (!c.lanes) return {c.uniform ? c.uniform : b.getTrue(), false};
    return {c.uniform ? both(c.lanes, spread(c.uniform)) : c.lanes, true};
  }
  case SOp::random: return random(e);
  case SOp::fma: {
    Val x = expr(e.args[0]), y = expr(e.args[1]), z = expr(e.args[2]);
    const bool lanes = x.lanes || y.lanes || z.lanes;
    auto all = [&](const Val &v) { return lanes ? spread(v) : v.v; };
    return {multiplyAdd(e.type, all(x), all(y), all(z)), lanes};
  }
  case SOp::select: {
    Val c = expr(e.args[0]), x = expr(e.args[1]), y = expr(e.args[2]);
    const bool lanes = c.lanes || x.lanes || y.lanes;
    auto all = [&](const Val &v) { return lanes ? spread(v) : v.v; };
    return {b.CreateSelect(lanes && c.lanes ? c.v : c.v, all(x), all(y)), lanes};
  }
  case SOp::convert: return convert(expr(e.args[0]), k.exprs[size_t(e.args[0])].type, e.type);
  case SOp::bitcast: {
    Val x = expr(e.args[0]);
    return {b.CreateBitCast(x.v, type(e.type, x.lanes)), x.lanes};
  }
  default: break;
  }
  Val x = expr(e.args[0]);
  if (e.args.size() == 1) return unary(e, x);
  Val y = expr(e.args[1]);
  if (x.lanes != y.lanes) (x.lanes ? y : x) = {spread(x.lanes ? y.v : x.v), true};
  if (e.op >= SOp::eq && e.op <= SOp::ge) return compare(e, x, y);
  return binary(e, x, y);
}

Val Emitter::constant(double v, DType t) {
  llvm::Type *s = type(t);
  if (s->isFloatingPointTy()) return {llvm::ConstantFP::get(s, v), false};
  return {llvm::ConstantInt::get(s, uint64_t(int64_t(v)), true), false};
}

Val Emitter::unary(const Expr &e, const Val &x) {
  const bool f = ir::isFloat(e.type);
  auto call = [&](llvm::Intrinsic::ID id) { return Val{b.CreateUnaryIntrinsic(id, x.v), x.lanes}; };
  switch (e.op) {
  case SOp::neg: return {f ? b.CreateFNeg(x.v) : b.CreateNeg(x.v), x.lanes};
  case SOp::abs:
    if (f) return call(llvm::Intrinsic::fabs);
    if (e.type == DType::u32 || e.type == DType::u8 || e.type == DType::boolean) return x;
    return {b.CreateBinaryIntrinsic(llvm::Intrinsic::abs, x.v, b.getFalse()), x.lanes};
  case SOp::sign: {
    llvm::Value *zero = llvm::Constant::getNullValue(x.v->getType());
    const bool isSigned = e.type == DType::i32 || e.type == DType::i64;
    llvm::Value *above = b.CreateZExt(b.CreateICmpNE(x.v, zero), x.v->getType());
    if (!isSigned) return {above, x.lanes};
    llvm::Value *below = b.CreateSExt(b.CreateICmpSLT(x.v, zero), x.v->getType());
    return {b.CreateOr(above, below), x.lanes};
  }
  case SOp::sqrt: return call(llvm::Intrinsic::sqrt);
  case SOp::floor: return f ? call(llvm::Intrinsic::floor) : x;
  case SOp::ceil: return f ? call(llvm::Intrinsic::ceil) : x;
  case SOp::round: return f ? call(llvm::Intrinsic::roundeven) : x;
  case SOp::isNan: return {b.CreateFCmpUNO(x.v, x.v), x.lanes};
  case SOp::lnot: return {b.CreateNot(x.v), x.lanes};
  default: break;
  }
  ir::internalError(__FILE__, __LINE__, "no code for operation " + std::string(sopName(e.op)));
}

Val Emitter::binary(const Expr &e, Val x, Val y) {
  const bool f = ir::isFloat(e.type), lanes = x.lanes;
  const bool isSigned = e.type == DType::i32 || e.type == DType::i64;
  auto of = [&](llvm::Value *v) { return Val{v, lanes}; };
  switch (e.op) {
  case SOp::add: return of(f ? b.CreateFAdd(x.v, y.v) : b.CreateAdd(x.v, y.v));
  case SOp::sub: return of(f ? b.CreateFSub(x.v, y.v) : b.CreateSub(x.v, y.v));
  case SOp::mul: return of(f ? b.CreateFMul(x.v, y.v) : b.CreateMul(x.v, y.v));
  case SOp::div: return f ? of(b.CreateFDiv(x.v, y.v)) : divideInt(e, x, y);
  case SOp::idiv:
  case SOp::imod: {
    if (!f) return divideInt(e, x, y);
    llvm::Value *q = b.CreateUnaryIntrinsic(llvm::Intrinsic::floor, b.CreateFDiv(x.v, y.v));
    return of(e.op == SOp::idiv ? q : b.CreateFSub(x.v, b.CreateFMul(q, y.v)));
  }
  case SOp::max:
  case SOp::min: {
    const bool max = e.op == SOp::max;
    if (f) { // a > b ? a : b is one instruction; NaN on the left wins besides
      llvm::Value *r = b.CreateSelect(max ? b.CreateFCmpOGT(x.v, y.v) : b.CreateFCmpOLT(x.v, y.v), x.v, y.v);
      return of(b.CreateSelect(b.CreateFCmpUNO(x.v, x.v), x.v, r));
    }
    const auto id = isSigned ? (max ? llvm::Intrinsic::smax : llvm::Intrinsic::smin)
                             : (max ? llvm::Intrinsic::umax : llvm::Intrinsic::umin);
    return of(b.CreateBinaryIntrinsic(id, x.v, y.v));
  }
  case SOp::land:
  case SOp::iand: return of(b.CreateAnd(x.v, y.v));
  case SOp::lor:
  case SOp::ior: return of(b.CreateOr(x.v, y.v));
  case SOp::ixor: return of(b.CreateXor(x.v, y.v));
  case SOp::shl: return of(b.CreateShl(x.v, y.v));
  case SOp::shr: return of(isSigned ? b.CreateAShr(x.v, y.v) : b.CreateLShr(x.v, y.v));
  default: break;
  }
  ir::internalError(__FILE__, __LINE__, "no code for operation " + std::string(sopName(e.op)));
}

// Rounds down. x / 0 is 0 and the smallest / -1 wraps: neither may reach the instruction, which traps.
Val Emitter::divideInt(const Expr &e, const Val &x, const Val &y) {
  llvm::Type *t = x.v->getType();
  llvm::Value *zero = llvm::Constant::getNullValue(t), *one = llvm::ConstantInt::get(t, 1);
  llvm::Value *none = b.CreateICmpEQ(y.v, zero);
  const bool mod = e.op == SOp::imod;
  if (e.type != DType::i32 && e.type != DType::i64) {
    llvm::Value *by = b.CreateSelect(none, one, y.v);
    llvm::Value *r = mod ? b.CreateURem(x.v, by) : b.CreateUDiv(x.v, by);
    return {b.CreateSelect(none, zero, r), x.lanes};
  }
  llvm::Value *minus = b.CreateICmpEQ(y.v, llvm::Constant::getAllOnesValue(t));
  llvm::Value *by = b.CreateSelect(b.CreateOr(none, minus), one, y.v);
  llvm::Value *q = b.CreateSDiv(x.v, by);
  llvm::Value *rem = b.CreateSub(x.v, b.CreateMul(q, by));
  llvm::Value *low = b.CreateAnd(b.CreateICmpNE(rem, zero), b.CreateICmpSLT(b.CreateXor(rem, by), zero));
  if (mod) { // remainders by 0 and -1 are 0, as by 1
    return {b.CreateSelect(low, b.CreateAdd(rem, by), rem), x.lanes};
  }
  q = b.CreateAdd(q, b.CreateSExt(low, t));
  q = b.CreateSelect(minus, b.CreateNeg(x.v), q);
  return {b.CreateSelect(none, zero, q), x.lanes};
}

Val Emitter::compare(const Expr &e, const Val &x, const Val &y) {
  using P = llvm::CmpInst::Predicate;
  const DType t = k.exprs[size_t(e.args[0])].type;
  static constexpr P ofFloat[] = {P::FCMP_OEQ, P::FCMP_UNE, P::FCMP_OLT,
                                  P::FCMP_OLE, P::FCMP_OGT, P::FCMP_OGE};
  static constexpr P ofSigned[] = {P::ICMP_EQ,  P::ICMP_NE,  P::ICMP_SLT,
                                   P::ICMP_SLE, P::ICMP_SGT, P::ICMP_SGE};
  static constexpr P ofUnsigned[] = {P::ICMP_EQ,  P::ICMP_NE,  P::ICMP_ULT,
                                     P::ICMP_ULE, P::ICMP_UGT, P::ICMP_UGE};
  const size_t i = size_t(e.op) - size_t(SOp::eq);
  if (ir::isFloat(t)) return {b.CreateFCmp(ofFloat[i], x.v, y.v), x.lanes};
  const bool isSigned = t == DType::i32 || t == DType::i64;
  return {b.CreateICmp(isSigned ? ofSigned[i] : ofUnsigned[i], x.v, y.v), x.lanes};
}

Val Emitter::convert(const Val &x, DType from, DType to) {
  llvm::Type *t = type(to, x.lanes);
  auto of = [&](llvm::Value *v) { return Val{v, x.lanes}; };
  const bool toFloat = ir::isFloat(to), fromFloat = ir::isFloat(from);
  const bool fromUnsigned = from == DType::u32 || from == DType::u8 || from == DType::boolean;
  if (to == DType::boolean) {
    llvm::Constant *zero = llvm::Constant::getNullValue(x.v->getType());
    return of(fromFloat ? b.CreateFCmpUNE(x.v, zero) : b.CreateICmpNE(x.v, zero));
  }
  if (fromFloat && toFloat) {
    llvm::Value *v = b.CreateFPCast(x.v, t);
    if (to == DType::bf16 || to == DType::f16) v = widen(narrow(v, to), to); // rounds
    return of(v);
  }
  if (fromFloat) {
    const bool isSigned = to == DType::i32 || to == DType::i64;
    const auto id = isSigned ? llvm::Intrinsic::fptosi_sat : llvm::Intrinsic::fptoui_sat;
    return of(b.CreateIntrinsic(id, {t, x.v->getType()}, {x.v}));
  }
  if (toFloat) {
    llvm::Value *v = fromUnsigned ? b.CreateUIToFP(x.v, t) : b.CreateSIToFP(x.v, t);
    if (to == DType::bf16 || to == DType::f16) v = widen(narrow(v, to), to);
    return of(v);
  }
  return of(fromUnsigned ? b.CreateZExtOrTrunc(x.v, t) : b.CreateSExtOrTrunc(x.v, t));
}

llvm::Value *Emitter::multiplyAdd(DType t, llvm::Value *x, llvm::Value *y, llvm::Value *z) {
  if (!ir::isFloat(t)) return b.CreateAdd(b.CreateMul(x, y), z);
  return b.CreateIntrinsic(llvm::Intrinsic::fma, {x->getType()}, {x, y, z});
}

// --- random draws --------------------------------------------------------------------------------------

// Philox4x32-10 on the lanes' logical indices, the words of ir/random.cpp.
Val Emitter::random(const Expr &e) {
  const IndexVal x = index(e.index);
  const bool lanes = x.lanes();
  llvm::Type *word = lanes ? (llvm::Type *)llvm::FixedVectorType::get(b.getInt32Ty(), unsigned(width_))
                           : b.getInt32Ty();
  llvm::Type *wide = lanes ? (llvm::Type *)llvm::FixedVectorType::get(b.getInt64Ty(), unsigned(width_))
                           : b.getInt64Ty();
  llvm::Value *at = lanes ? laneIndex(x, b.getInt64Ty()) : scalarIndex(x);
  auto all = [&](llvm::Value *v) { return lanes ? spread(v) : v; };
  auto low = [&](llvm::Value *v) { return b.CreateTrunc(v, b.getInt32Ty()); };
  auto high = [&](llvm::Value *v) { return low(b.CreateLShr(v, 32)); };

  llvm::Value *z = b.CreateAdd(seed_, i64(int64_t(0x9e3779b97f4a7c15u)));
  z = b.CreateMul(b.CreateXor(z, b.CreateLShr(z, 30)), i64(int64_t(0xbf58476d1ce4e5b9u)));
  z = b.CreateMul(b.CreateXor(z, b.CreateLShr(z, 27)), i64(int64_t(0x94d049bb133111ebu)));
  z = b.CreateXor(b.CreateXor(z, b.CreateLShr(z, 31)), i64(int64_t(e.site)));

  llvm::Value *key0 = low(z), *key1 = high(z);
  llvm::Value *c0 = b.CreateTrunc(at, word), *c1 = b.CreateTrunc(b.CreateLShr(at, 32), word);
  llvm::Value *c2 = all(low(step_)), *c3 = all(high(step_));
  auto product = [&](llvm::Value *c, uint32_t by) {
    return b.CreateMul(b.CreateZExt(c, wide), llvm::ConstantInt::get(wide, by));
  };
  for (int round = 0; round < 10; ++round) {
    llvm::Value *p0 = product(c0, 0xD2511F53u), *p1 = product(c2, 0xCD9E8D57u);
    llvm::Value *h0 = b.CreateTrunc(b.CreateLShr(p0, 32), word);
    llvm::Value *h1 = b.CreateTrunc(b.CreateLShr(p1, 32), word);
    llvm::Value *n0 = b.CreateXor(b.CreateXor(h1, c1), all(key0));
    llvm::Value *n2 = b.CreateXor(b.CreateXor(h0, c3), all(key1));
    c1 = b.CreateTrunc(p1, word), c3 = b.CreateTrunc(p0, word);
    c0 = n0, c2 = n2;
    key0 = b.CreateAdd(key0, b.getInt32(0x9E3779B9u));
    key1 = b.CreateAdd(key1, b.getInt32(0xBB67AE85u));
  }
  llvm::Type *ft = type(DType::f32, lanes);
  llvm::Value *u = b.CreateSIToFP(b.CreateLShr(c0, 8), ft); // 24 bits: exact
  u = b.CreateFMul(u, llvm::ConstantFP::get(ft, 1.0 / 16777216.0));
  if (e.type == DType::f64) u = b.CreateFPExt(u, type(e.type, lanes));
  return {u, lanes};
}

} // namespace nnc::cg
