// Chained products on tile registers: the products and sums of a chain of bf16.
//
// Problem. A tile register multiplies some sixteen times as fast as vectors, but wants its left
// factor as rows of 32 terms and its right one in pairs of terms (amx.h), while between the
// products a chain keeps f32, column by column, the rows of a block side by side.
//
//   s[q, k] = q[q, e] . k[k, e]     softmax      y[q, e] = sum k: p[q, k] v[k, e]
//   dv[k, e] += sum q: p[q, k] g[q, e]
//
// Method. Everything is computed turned, columns by rows, so that what is large needs no turning:
//
//   Product  16 columns x 16 rows: k is the left factor as it lies, the right one the block of q in
//            pairs; the sums are stored where the chain keeps the tile
//   RowSum   16 of e x 16 rows: v turned is the left factor, pairs of the tile's columns, rounded,
//            the right one: two lines give one; the sums are turned back before they are stored
//   ColSum   16 columns x 16 of e: the rounded tile is the left factor as it lies, the block of g
//            in pairs the right one; the sums stay in scratch in f32 until the last block
//
// Factors that run along the wrong axis are turned once for all blocks of rows. What fills up a
// tile: terms beyond the end are zero on both sides, as 0 * NaN is not 0; rows and columns beyond
// it give sums that nobody reads.
#pragma once
#include "codegen/amx.h"
#include "codegen/cpu/emitter.h"
#include "codegen/cpu/tile_ops.h"

namespace nnc::cg {

// Whether all products and sums of the chain multiply bf16 over one axis, and the target has tiles.
bool fitsTiles(const Kernel &k, const Target &t);

// What is in the thread's scratch behind the tiles of f32, in bytes from its begin.
struct ChainScratch {
  std::vector<int64_t> factors; // by step: the second one, in tiles of 1 KB; -1: where it lies
  int64_t right = 0;            // a block's factor in pairs
  int64_t rounded = 0;          // a tile in bf16
  int64_t results = 0;          // four tiles of a register each
  int64_t total = 0;
};
ChainScratch chainScratch(const Kernel &k);

class ChainTiles {
 public:
  explicit ChainTiles(Emitter &emitter)
      : e(emitter), b(emitter.b), k(emitter.k), shape_(chainScratch(k)),
        tile_(b, emitter.target_) {}

  // For all blocks of rows of a point of the outer axes.
  void copyFactors();

  void product(const Emitter::RowBlock &r, size_t stage);
  void rowSum(const Emitter::RowBlock &r, size_t stage);
  void colSum(const Emitter::RowBlock &r, size_t stage);

 private:
  using V = llvm::Value *;
  using Tiles = std::vector<V>;
  using At = std::function<V(int, V)>; // which tile of a row or column of them, which 32 terms

  Emitter &e;
  llvm::IRBuilder<> &b;
  Kernel &k;
  const ChainScratch shape_;
  TileOps tile_;

  // Some steps of an axis; the first of them is base + plus.
  struct Steps {
    AxisId axis = -1;
    V base = nullptr;
    int64_t plus = 0;
    int count = 0;
  };

  V scratch(int64_t at) { return bytes(e.scratch_, e.i64(at)); }
  V bytes(V p, V offset) { return b.CreateGEP(b.getInt8Ty(), p, offset); }
  V bytes(V p, int64_t offset) { return bytes(p, e.i64(offset)); }
  llvm::Type *pairs() { return llvm::FixedVectorType::get(b.getInt32Ty(), 16); }
  V nothing() { return llvm::Constant::getNullValue(pairs()); }
  void eachPart(int64_t extent, int64_t unit, const std::function<void(V, int)> &body);

  V bitsAt(ExprId factor, const Steps &lanes);
  V words(V bits);
  V joined(V low, V high);
  V pairsOf(V low, V high);
  std::vector<V> square(ExprId factor, const Steps &free, const Steps &terms, bool right);
  void put(const std::vector<V> &lines, V to);
  void copyRight(ExprId factor, AxisId free, V freeBase, int64_t frees, AxisId terms, V termBase,
                 int64_t count);
  V elements(int stage, V col, int v);
  Tiles zeros(int count);
  Tiles multiply(int down, int across, V steps, Tiles sums, const At &left, const At &right);
  int madeBy(const Stage &s) const;
};

} // namespace nnc::cg
