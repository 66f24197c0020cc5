// Indices, loads and stores.
//
// Problem. What an access costs depends on how its index moves along the lane axis, and nothing may
// be read or written where a guard does not hold or a lane does not exist.
//
//   load a[10*r + c]   lane axis c: one vector load      lane axis r: a gather with stride 10
//                      neither:     one scalar load, spread where a vector is needed
//
// Method. An index is split into a scalar part, a stride along the lanes, and a rest per lane
// (divisions, remainders, loaded integers), see IndexVal. A guard is a scalar or a lane condition.
// A scalar guard selects between the real address and 128 bytes of zeros, so there are no branches;
// a lane guard becomes the mask of the load.
#include "codegen/cpu/emitter.h"
#include <algorithm>
#include <llvm/Analysis/VectorUtils.h>
#include <llvm/IR/IntrinsicsX86.h>

namespace nnc::cg {

// --- indices -------------------------------------------------------------------------------------

size_t Emitter::depthOf(AtomId a) const {
  return k.atoms[size_t(a)].kind == Atom::Axis ? axis_[size_t(k.atoms[size_t(a)].axis)].depth
                                               : SIZE_MAX;
}

// Axes that were bound first come first, so that prefixes of the sum are invariant in inner loops.
IndexVal Emitter::index(const Index &x) {
  IndexVal r;
  r.plus = x.c0;
  if (x.cn) r.base = scaled(n_, x.cn);
  std::vector<Term> terms = x.terms;
  std::stable_sort(terms.begin(), terms.end(),
                   [&](const Term &s, const Term &t) { return depthOf(s.atom) < depthOf(t.atom); });
  for (const Term &t : terms) {
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
    if (a.kind == Atom::Mod)
      result = b.CreateAdd(rem, b.CreateSelect(low, by, zero));
    else
      result = b.CreateSub(b.CreateSDiv(v, by), b.CreateZExt(low, v->getType()));
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
  if (!v.lanes)
    r.base = x;
  else
    r.rest = b.CreateSExtOrTrunc(x, llvm::FixedVectorType::get(indexType_, unsigned(width_)));
  return r;
}

llvm::Value *Emitter::scalarIndex(const IndexVal &x) { return addConst(x.base, x.plus); }

llvm::Value *Emitter::laneIndex(const IndexVal &x, llvm::IntegerType *t) {
  llvm::Value *r = spread(b.CreateTrunc(scalarIndex(x), t));
  if (x.stride) r = b.CreateAdd(r, scaled(laneNumbers(t), x.stride));
  if (x.rest)
    r = b.CreateAdd(r,
                    b.CreateSExtOrTrunc(x.rest, llvm::FixedVectorType::get(t, unsigned(width_))));
  return r;
}

Val Emitter::indexValue(const Index &i, DType t) {
  IndexVal x = index(i);
  llvm::IntegerType *own = t == DType::i64 ? b.getInt64Ty() : b.getInt32Ty();
  int64_t lo = 0, hi = 0;
  const bool fits = rangeOf(k, i, lo, hi) && lo >= INT32_MIN && hi <= INT32_MAX;
  if (ir::isFloat(t) && !fits) own = b.getInt64Ty();
  llvm::Value *v = x.lanes() ? laneIndex(x, own) : b.CreateTrunc(scalarIndex(x), own);
  if (ir::isFloat(t))
    v = b.CreateSIToFP(v, type(t, x.lanes()));
  else if (t == DType::u8)
    v = b.CreateTrunc(v, type(t, x.lanes()));
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
    if (lanes)
      lo = spread(b.CreateTrunc(lo, indexType_)), hi = spread(b.CreateTrunc(hi, indexType_));
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

// --- loads ---------------------------------------------------------------------------------------

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
  if (!x.rest && x.stride == 1)
    v = loadContiguous(a, x, c);
  else if (!x.rest && x.stride == -1)
    v = loadReversed(a, x, c);
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
  llvm::Value *v =
      mask ? static_cast<llvm::Value *>(b.CreateMaskedLoad(
                 vt, p, align, b.CreateVectorReverse(mask), llvm::Constant::getNullValue(vt)))
           : b.CreateAlignedLoad(vt, p, align);
  if (!c.uniform) noteAlias(v, a.arg);
  return b.CreateVectorReverse(v);
}

// x86 gathers 4 and 8 byte elements; smaller ones are loaded lane by lane, absent lanes from the
// zeros.
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
  if (t == DType::f16)
    return b.CreateFPExt(b.CreateBitCast(v, like(b.getHalfTy())), type(t, lanes));
  if (t == DType::bf16)
    return b.CreateBitCast(b.CreateShl(b.CreateZExt(v, like(b.getInt32Ty())), 16), type(t, lanes));
  return v;
}

// Whether an f32 is seen to be a bf16: made of values that were rounded or loaded as such, without
// arithmetic since. relu(round(x)) and its store need not be rounded again.
static bool isRounded(llvm::Value *v, int depth = 6) {
  if (depth == 0) return false;
  auto all = [&](std::initializer_list<llvm::Value *> list) {
    return std::all_of(list.begin(), list.end(),
                       [&](llvm::Value *x) { return isRounded(x, depth - 1); });
  };
  if (auto *c = llvm::dyn_cast<llvm::Constant>(v)) {
    if (v->getType()->isVectorTy()) c = c->getSplatValue();
    auto *f = llvm::dyn_cast_or_null<llvm::ConstantFP>(c);
    return f && !f->isNaN() && f->getValueAPF().bitcastToAPInt().countr_zero() >= 16;
  }
  if (auto *cast = llvm::dyn_cast<llvm::BitCastInst>(v)) { // what widen() makes
    auto *shift = llvm::dyn_cast<llvm::BinaryOperator>(cast->getOperand(0));
    if (!shift || shift->getOpcode() != llvm::Instruction::Shl) return false;
    auto *by = llvm::dyn_cast<llvm::Constant>(shift->getOperand(1));
    if (by && by->getType()->isVectorTy()) by = by->getSplatValue();
    auto *bits = llvm::dyn_cast_or_null<llvm::ConstantInt>(by);
    return bits && bits->getZExtValue() >= 16;
  }
  if (auto *s = llvm::dyn_cast<llvm::SelectInst>(v))
    return all({s->getTrueValue(), s->getFalseValue()});
  if (auto *s = llvm::dyn_cast<llvm::ShuffleVectorInst>(v))
    return s->getShuffleMask()[0] == 0 && s->isZeroEltSplat() && all({s->getOperand(0)});
  if (auto *s = llvm::dyn_cast<llvm::InsertElementInst>(v)) // one value, to be spread
    return llvm::isa<llvm::UndefValue>(s->getOperand(0)) && all({s->getOperand(1)});
  if (auto *u = llvm::dyn_cast<llvm::UnaryOperator>(v))
    return u->getOpcode() == llvm::Instruction::FNeg && all({u->getOperand(0)});
  return false;
}

// From a value's form to memory's. bf16 rounds to nearest even, by an instruction or in integers
// with the same bits: a NaN keeps its upper half and becomes quiet. (Subnormals the instruction
// flushes, the integers round; arithmetic has flushed them before, so only what is loaded as such
// differs.)
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
  if (isRounded(v)) return b.CreateTrunc(b.CreateLShr(bits, 16), like(b.getInt16Ty()));
  if (target_.avx512Bf16 && lanes && width_ % 16 == 0) {
    std::vector<llvm::Value *> parts;
    for (int at = 0; at < width_; at += 16) {
      std::vector<int> sixteen;
      for (int i = 0; i < 16; ++i) sixteen.push_back(at + i);
      llvm::Value *part = width_ == 16 ? v : b.CreateShuffleVector(v, sixteen);
      part = b.CreateIntrinsic(llvm::Intrinsic::x86_avx512bf16_cvtneps2bf16_512, {}, {part});
      parts.push_back(b.CreateBitCast(part, llvm::FixedVectorType::get(b.getInt16Ty(), 16)));
    }
    return llvm::concatenateVectors(b, parts);
  }
  llvm::Value *odd = b.CreateAnd(b.CreateLShr(bits, 16), llvm::ConstantInt::get(it, 1));
  llvm::Value *up = b.CreateAdd(bits, b.CreateAdd(odd, llvm::ConstantInt::get(it, 0x7fff)));
  llvm::Value *rounded = b.CreateLShr(up, 16);
  llvm::Value *quiet = b.CreateOr(b.CreateLShr(bits, 16), llvm::ConstantInt::get(it, 0x40));
  rounded = b.CreateSelect(b.CreateFCmpUNO(v, v), quiet, rounded);
  return b.CreateTrunc(rounded, like(b.getInt16Ty()));
}

// --- stores --------------------------------------------------------------------------------------

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
  if (c.uniform)
    ifThen(c.uniform, emit);
  else
    emit();
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

} // namespace nnc::cg
