// See tile_ops.h.
#include "codegen/cpu/tile_ops.h"
#include "codegen/amx.h"
#include "codegen/cpu/llvm_pch.h"
#include "runtime/abi.h"
#include <llvm/IR/IntrinsicsX86.h>
#include <llvm/IR/Module.h>

namespace nnc::cg {

namespace {

constexpr int kLine = 64; // bytes of a tile's line
using V = llvm::Value *;

llvm::Type *line(llvm::IRBuilder<> &b) {
  return llvm::FixedVectorType::get(b.getInt32Ty(), unsigned(kAmxCols));
}

// Lines from one place to another; null: that one is a tile.
void copyLines(llvm::IRBuilder<> &b, V from, V fromPitch, V to, V toPitch) {
  auto at = [&](V base, V pitch, int i) {
    const uint64_t number = uint64_t(i);
    V offset = pitch ? b.CreateMul(pitch, b.getInt64(number)) : b.getInt64(kLine * number);
    return b.CreateGEP(b.getInt8Ty(), base, offset);
  };
  auto align = [](V pitch) { return llvm::Align(pitch ? 1 : kLine); };
  for (int i = 0; i < kAmxRows; ++i) {
    V x = b.CreateAlignedLoad(line(b), at(from, fromPitch, i), align(fromPitch));
    b.CreateAlignedStore(x, at(to, toPitch, i), align(toPitch));
  }
}

// The lower and the upper half of pairs of bf16, as f32.
V half(llvm::IRBuilder<> &b, V pairs, bool upper) {
  V bits = upper ? b.CreateAnd(pairs, llvm::ConstantInt::get(pairs->getType(), 0xffff0000u))
                 : b.CreateShl(pairs, 16);
  llvm::Type *one = b.getFloatTy();
  return b.CreateBitCast(bits, pairs->getType()->isVectorTy()
                                   ? llvm::FixedVectorType::get(one, unsigned(kAmxCols))
                                   : one);
}

// Row by row: 16 pairs of terms, the 16 columns side by side.
void multiplyTiles(llvm::IRBuilder<> &b, llvm::Function *f) {
  llvm::BasicBlock *before = b.GetInsertBlock();
  auto *loop = llvm::BasicBlock::Create(f->getContext(), "row", f);
  auto *after = llvm::BasicBlock::Create(f->getContext(), "done", f);
  b.CreateBr(loop);
  b.SetInsertPoint(loop);
  auto *row = b.CreatePHI(b.getInt64Ty(), 2, "i");
  row->addIncoming(b.getInt64(0), before);
  V offset = b.CreateMul(row, b.getInt64(kLine));
  auto at = [&](V base, int bytes) {
    return b.CreateGEP(b.getInt8Ty(), base, b.getInt64(uint64_t(bytes)));
  };
  V left = b.CreateGEP(b.getInt8Ty(), f->getArg(1), offset);
  llvm::Type *floats = llvm::FixedVectorType::get(b.getFloatTy(), unsigned(kAmxCols));
  V sums[2] = {llvm::Constant::getNullValue(floats), llvm::Constant::getNullValue(floats)};
  for (int pair = 0; pair < kAmxTerms / 2; ++pair) {
    V x = b.CreateAlignedLoad(b.getInt32Ty(), at(left, 4 * pair), llvm::Align(4));
    V y = b.CreateAlignedLoad(line(b), at(f->getArg(2), kLine * pair), llvm::Align(kLine));
    for (int side = 0; side < 2; ++side) {
      V spread = b.CreateVectorSplat(unsigned(kAmxCols), half(b, x, side != 0));
      sums[side] = b.CreateIntrinsic(llvm::Intrinsic::fma, {floats},
                                     {spread, half(b, y, side != 0), sums[side]});
    }
  }
  V to = b.CreateGEP(b.getInt8Ty(), f->getArg(0), offset);
  V sum = b.CreateAlignedLoad(floats, to, llvm::Align(kLine));
  b.CreateAlignedStore(b.CreateFAdd(sum, b.CreateFAdd(sums[0], sums[1])), to, llvm::Align(kLine));
  V next = b.CreateAdd(row, b.getInt64(1));
  row->addIncoming(next, loop);
  b.CreateCondBr(b.CreateICmpULT(next, b.getInt64(kAmxRows)), loop, after);
  b.SetInsertPoint(after);
}

} // namespace

bool emulatesTiles(const Target &t) {
  return t.amx && t.features.find("+amx-bf16") == std::string::npos;
}

Target withEmulatedTiles(Target t) {
  NNC_CHECK(t.arch == Arch::X86_64 && t.vectorBytes == 64, "emulated tiles are made of AVX-512");
  std::string kept;
  for (size_t at = 0; at < t.features.size();) {
    const size_t end = std::min(t.features.find(',', at), t.features.size());
    const std::string one = t.features.substr(at, end - at);
    if (one.find("+amx-") != 0) kept += (kept.empty() ? "" : ",") + one;
    at = end + 1;
  }
  t.features = kept;
  t.amx = true;
  t.requiredFeatures &= ~int64_t(NNC_CPU_AMX_BF16);
  return t;
}

V TileOps::place() {
  llvm::BasicBlock &entry = b.GetInsertBlock()->getParent()->getEntryBlock();
  llvm::IRBuilder<> at(&entry, entry.getFirstInsertionPt());
  auto *tile = at.CreateAlloca(llvm::ArrayType::get(line(b), uint64_t(kAmxRows)), nullptr, "tile");
  tile->setAlignment(llvm::Align(kLine));
  return tile;
}

// tile.load and tile.store of (tile, place in memory, pitch), tile.multiply of three tiles; made
// when the first kernel of the module needs them.
llvm::FunctionCallee TileOps::function(const char *name, bool withPitch) {
  llvm::Function *user = b.GetInsertBlock()->getParent();
  llvm::Module &m = *user->getParent();
  if (llvm::Function *f = m.getFunction(name)) return f;
  llvm::Type *last = withPitch ? static_cast<llvm::Type *>(b.getInt64Ty()) : b.getPtrTy();
  auto *type =
      llvm::FunctionType::get(b.getVoidTy(), {b.getPtrTy(), b.getPtrTy(), last}, false);
  auto *f = llvm::Function::Create(type, llvm::GlobalValue::InternalLinkage, name, m);
  f->addFnAttrs(llvm::AttrBuilder(m.getContext(), user->getAttributes().getFnAttrs()));
  llvm::IRBuilder<> in(llvm::BasicBlock::Create(m.getContext(), "entry", f));
  const std::string_view what = name;
  if (what == "tile.multiply")
    multiplyTiles(in, f);
  else if (what == "tile.load")
    copyLines(in, f->getArg(1), f->getArg(2), f->getArg(0), nullptr);
  else
    copyLines(in, f->getArg(0), nullptr, f->getArg(1), f->getArg(2));
  in.CreateRetVoid();
  return f;
}

V TileOps::zero() {
  if (!emulated_)
    return b.CreateIntrinsic(llvm::Intrinsic::x86_tilezero_internal, {}, {i16(16), i16(kLine)});
  V tile = place();
  for (int i = 0; i < kAmxRows; ++i)
    b.CreateAlignedStore(llvm::Constant::getNullValue(line(b)),
                         b.CreateGEP(b.getInt8Ty(), tile, b.getInt64(uint64_t(kLine * i))),
                         llvm::Align(kLine));
  return tile;
}

V TileOps::load(V at, V pitch) {
  if (!emulated_)
    return b.CreateIntrinsic(llvm::Intrinsic::x86_tileloadd64_internal, {},
                             {i16(16), i16(kLine), at, pitch});
  V tile = place();
  b.CreateCall(function("tile.load", true), {tile, at, pitch});
  return tile;
}

V TileOps::multiply(V sum, V rows, V columns) {
  if (!emulated_)
    return b.CreateIntrinsic(llvm::Intrinsic::x86_tdpbf16ps_internal, {},
                             {i16(16), i16(kLine), i16(kLine), sum, rows, columns});
  b.CreateCall(function("tile.multiply", false), {sum, rows, columns});
  return sum;
}

void TileOps::store(V tile, V at, V pitch) {
  if (!emulated_) {
    b.CreateIntrinsic(llvm::Intrinsic::x86_tilestored64_internal, {},
                      {i16(16), i16(kLine), at, pitch, tile});
    return;
  }
  b.CreateCall(function("tile.store", true), {tile, at, pitch});
}

} // namespace nnc::cg
