// Expressions of a kernel as LLVM values.
//
// Problem. One expression serves every loop nest: scalar loops, vector loops with and without a
// mask, and the tiles of a contraction. It must be computed once where it is used twice, as a
// scalar where all lanes agree, and with the exact meaning that kernel.h gives each operation:
// integers wrap and divide downwards, NaN propagates, conversions saturate.
//
//   y[r,c] = x[r,c] * (scale[r] * 2)     lane axis c: scale[r] * 2 is one scalar fmul, spread once
//
// Method. A table from expression to value per scope; scopes nest as the loops do, so an inner loop
// finds what an outer one computed. A value says whether it has lanes; an operation has lanes if an
// operand has.
#include "codegen/cpu/emitter.h"

namespace nnc::cg {

// --- types and small things ----------------------------------------------------------------------

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
  return c == 0 ? x
                : b.CreateAdd(x, llvm::ConstantInt::getSigned(x->getType(), c), "", false, true);
}
llvm::Value *Emitter::scaled(llvm::Value *x, int64_t c) {
  return c == 1 ? x
                : b.CreateMul(x, llvm::ConstantInt::getSigned(x->getType(), c), "", false, true);
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

// --- expressions ---------------------------------------------------------------------------------

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
  case SOp::acc: return k.cls == KernelClass::Chain ? tileElement(e.stage) : acc_;
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
      llvm::Value *r =
          b.CreateSelect(max ? b.CreateFCmpOGT(x.v, y.v) : b.CreateFCmpOLT(x.v, y.v), x.v, y.v);
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

// Rounds down. x / 0 is 0 and the smallest / -1 wraps: neither may reach the instruction, which
// traps.
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
  llvm::Value *low =
      b.CreateAnd(b.CreateICmpNE(rem, zero), b.CreateICmpSLT(b.CreateXor(rem, by), zero));
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

// --- random draws --------------------------------------------------------------------------------

// Philox4x32-10 on the lanes' logical indices, the words of ir/random.cpp.
Val Emitter::random(const Expr &e) {
  const IndexVal x = index(e.index);
  const bool lanes = x.lanes();
  llvm::Type *word =
      lanes ? (llvm::Type *)llvm::FixedVectorType::get(b.getInt32Ty(), unsigned(width_))
            : b.getInt32Ty();
  llvm::Type *wide =
      lanes ? (llvm::Type *)llvm::FixedVectorType::get(b.getInt64Ty(), unsigned(width_))
            : b.getInt64Ty();
  llvm::Value *at = lanes ? laneIndex(x, b.getInt64Ty()) : scalarIndex(x);
  auto all = [&](llvm::Value *v) { return lanes ? spread(v) : v; };
  auto low = [&](llvm::Value *v) { return b.CreateTrunc(v, b.getInt32Ty()); };
  auto high = [&](llvm::Value *v) { return low(b.CreateLShr(v, 32)); };

  llvm::Value *z = b.CreateAdd(seed_, i64(int64_t(0x9e3779b97f4a7c15u)));
  z = b.CreateMul(b.CreateXor(z, b.CreateLShr(z, 30)), i64(int64_t(0xbf58476d1ce4e5b9u)));
  z = b.CreateMul(b.CreateXor(z, b.CreateLShr(z, 27)), i64(int64_t(0x94d049bb133111ebu)));
  llvm::Value *site0 = expr(e.args[0]).v, *site1 = expr(e.args[1]).v;
  llvm::Value *site = b.CreateOr(b.CreateZExt(site0, b.getInt64Ty()),
                                 b.CreateShl(b.CreateZExt(site1, b.getInt64Ty()), 32));
  z = b.CreateXor(b.CreateXor(z, b.CreateLShr(z, 31)), site);

  llvm::Value *key0 = low(z), *key1 = high(z);
  llvm::Value *c0 = b.CreateTrunc(at, word), *c1 = b.CreateTrunc(b.CreateLShr(at, 32), word);
  c1 = b.CreateAdd(c1, all(low(b.CreateShl(iteration_, 16))));
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
