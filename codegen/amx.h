// Contractions of bf16 on AMX: what the scheduler, the emitter and the tests must agree on.
//
// Problem. One instruction multiplies 16 rows of 32 bf16 with 32 x 16 and adds to 16 x 16 f32, some
// twenty times the rate of f32 vectors. It wants its operands in forms that tensors rarely have:
//
//   rows      [row][k 32]             a line of 32 terms for each row
//   columns   [k 32 / 2][column][2]   pairs of terms, side by side for 16 columns
//
// and all three products of a layer, and convolutions, come with other orientations, guards and
// extents that are no multiple of anything.
//
// Method. All axes of m together are the rows, in the order in which they are listed; one axis of n
// has the columns; the terms are all steps of k in the schedule's order. Operands are copied into
// the forms above, rows as [row][terms], columns as tiles of 32 x 16 that follow each other by
// terms; zeros fill up the terms. An operand that is a matrix in memory is read where it lies (rows
// along the terms need no copy at all, others are turned on the way); any other is gathered into a
// matrix first. A matrix of f32 that the program rounds, a master weight, is rounded on the way.
// What a loop multiplies by in every round is brought into the form of the columns
// once, before the loop (fuse_scan.cpp): its memory has the layout `columnTiles`, and the tiles are
// loaded from it.
//
// The order of the sum. The terms of an element, in order, block of k by block of k, are dealt 32
// at a time (zeros behind the last of a block). Of each 32 the even ones are summed with fma from
// zero, the odd ones likewise; the two sums are added and the result is added to the element. All
// of it rounds to nearest even; subnormals are zero.
#pragma once
#include "codegen/kernel.h"
#include "codegen/layout.h"

namespace nnc::cg {

inline constexpr int64_t kAmxRows = 16, kAmxCols = 16, kAmxTerms = 32;

struct AmxOperand {
  bool possible = false;
  bool alongTerms = false; // it is contiguous along the innermost k, else along a free axis
  bool matrix = false;     // it lies in memory as rows of equal distance, without guards
  bool inPlace = false;    // the tiles read it where it lies
  bool wide = false;       // a matrix of f32, rounded as it is turned or paired
  int64_t pitch = 0;       // of the matrix, in elements
};

// Whether the values of an expression are bf16, so that nothing is lost if they are stored as such.
bool isBf16(const Kernel &k, ExprId e);

// Steps of k that are summed together: its axes from the blocked one on.
std::vector<AxisId> amxTerms(const Kernel &k);

// What divides the steps of an axis in every item, copy of rows and block of k; 1 if the batch
// decides.
int64_t unitOfSteps(const Kernel &k, AxisId a);

// The distance between steps of all the axes as one; none if they are not evenly spaced.
std::optional<int64_t> jointStride(const Kernel &k, const Index &x, std::vector<AxisId> axes);

// A matrix in the form of the columns; `terms` and `columns` are its dimensions. Terms are whole
// tiles; columns are filled up with what is never read.
//   w[k, n]:  [n / 16][k / 2][n % 16][k % 2]
Layout columnTiles(const Dims &dims, int32_t terms, int32_t columns);

// The operand of the rows (k.contract.a) or of the columns, as the schedule says.
AmxOperand amxOperand(const Kernel &k, bool columns);

// Whether sums beside the contraction meet the rows of tiles, all axes of m, in the order of the
// sum.
bool sumsInOrder(const Kernel &k);
// .. and no tile's rows belong to two chunks, so that its sums stay in registers.
bool holdsTileSums(const Kernel &k);

// The scratch of a thread: where what begins, in bytes.
struct AmxScratch {
  int64_t tiles = 0;       // of 32 terms in a block of k, at most
  int64_t rows = 0;        // of one copy of rows, whole tiles
  int64_t columns = 0;     // of an item, whole tiles
  int64_t linePitch = 0;   // bytes of a row's terms
  int64_t rowPitch = 0;    // .. of one term of all rows
  int64_t columnPitch = 0; // .. of one term of all columns
  int64_t sumPitch = 0;    // .. of a row's sums
  int64_t matrix = 0, rowCopy = 0, columnCopy = 0, sums = 0, total = 0;
};
AmxScratch amxScratch(const Kernel &k);

} // namespace nnc::cg
