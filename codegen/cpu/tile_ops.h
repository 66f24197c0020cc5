// The operations on tile registers, by the instructions or in place of them.
//
// Problem. Code for tiles runs on few machines, but is to be tested on all.
//
//   sum[16, 16] f32 += rows[16, 32] bf16 . columns[32, 16] bf16, pairs of terms side by side
//
//   registers:   x86_tdpbf16ps_internal(16, 64, 64, sum, rows, columns)
//   emulated:    call @tile.multiply(ptr %sum, ptr %rows, ptr %columns)
//
// Method. An emulated tile is 1 KB on the stack, its operations are small functions of the module,
// with the arithmetic of the instruction: of each 32 terms the even ones summed with fma from zero,
// the odd ones likewise, the two sums added, the result added to the element. Subnormals are zero
// because the processor is set so wherever kernels run. A product writes over its sum, as the
// instruction does: a tile that went into one is not used afterwards.
#pragma once
#include "codegen/codegen.h"
#include <llvm/IR/IRBuilder.h>

namespace nnc::cg {

// Whether the target's kernels are made for tiles that its instructions lack.
bool emulatesTiles(const Target &t);

// A target with AVX-512 whose products run on emulated tiles; it asks for no more features, nor
// for the system's permission to use the registers.
Target withEmulatedTiles(Target t);

class TileOps {
 public:
  using V = llvm::Value *;
  TileOps(llvm::IRBuilder<> &builder, const Target &t)
      : b(builder), emulated_(emulatesTiles(t)) {}

  V zero();
  V load(V at, V pitch); // 16 lines of 64 bytes, `pitch` bytes apart
  V multiply(V sum, V rows, V columns);
  void store(V tile, V at, V pitch);
  bool emulated() const { return emulated_; }

 private:
  llvm::IRBuilder<> &b;
  const bool emulated_;

  V place();
  llvm::FunctionCallee function(const char *name, bool withPitch);
  V i16(int n) { return b.getInt16(uint16_t(n)); }
};

} // namespace nnc::cg
