// Copies of a contraction's operands in the form its register tiles read.
//
// Problem. A tile reads rows of one operand and vectors of the other for every step of k. Where
// they lie apart (a transposed weight, rows a power of two apart, the padding of a convolution),
// the loads cost more than the products. A copy in the thread's scratch costs little if many tiles
// read it, and changes no bit.
//
//   w[k, n] read along k, columns n    panels of 32 columns: [n/32][k][32], each read in sequence
//   x[b, i+u-1, j+v-1, c], rows j      the rows of the image that an item needs, with the zeros
//                                      around it: [h][w][c], read without guards at h = i+u, w =
//                                      j+v
//
// Method. The dimensions of a copy are the operand's own: an index that a guard watches (i+u-1) is
// one dimension, each other axis is one. What a block spans of each is known at compile time; where
// it begins is known when it is filled. An operand can be packed if the indices of what it loads
// are sums of axes with constant coefficients. One that is computed, relu(x[..] * scale[c]), is
// computed as it is copied: its loads have indices over the same dimensions, and the load with most
// axes says what these are.
#pragma once
#include "codegen/kernel.h"
#include <optional>

namespace nnc::cg {

struct PackDim {
  std::vector<std::pair<AxisId, int64_t>>
      form;             // the index: sum of coefficient * axis, without constant
  int64_t stride = 0;   // elements of the argument per step of the index
  int64_t extent = 1;   // steps that a block spans at most
  int64_t pitch = 0;    // elements of the copy per step
  bool guarded = false; // outside of lo <= index + offset < hi the operand is 0
  int64_t offset = 0, lo = 0;
  Dim hi;
  bool has(AxisId a) const;
};

struct PackShape {
  bool possible = false;
  std::vector<PackDim> dims; // outermost of the copy first; vectors are copied along the last one
  int64_t panel = 0;         // columns, or rows, of a panel; 0: they are not in panels
  int64_t panelElements = 0; // from panel to panel
  int turned = -1; // the dimension along which the argument is contiguous, if it is not the columns
  int64_t elements = 0; // of the whole copy, in the accumulator's type
};

// The load at the bottom of an operand, under conversions; of an expression the one that moves
// along most axes. -1 if there is none.
ExprId operandLoad(const Kernel &k, ExprId operand);
// Whether an operand is computed of what it loads: relu(x[b, i+u-1, j+v-1, c] * scale[c]).
bool isComputed(const Kernel &k, ExprId operand);
// All expressions of an operand, those that read others behind them.
std::vector<ExprId> partsOf(const Kernel &k, ExprId operand);
// An index by the dimensions of a copy: its step along each. Nothing if it is no sum over them;
// axes that are in none of them stand still.
std::optional<std::vector<int64_t>> stepsAlong(const Kernel &k, const std::vector<PackDim> &dims,
                                               const Index &x);

// Largest number of steps of an axis in one item.
int64_t itemSteps(const Kernel &k, AxisId a);
// .. in one copy of an operand packed that way. Axes around the copy count one.
int64_t packSteps(const Kernel &k, AxisId a, Pack how);

// Whether the loop over an axis of m is around the copy of the rows' operand, which then has one
// step of it.
bool loopsAroundRows(const Kernel &k, AxisId a, Pack how);

// The copy of k.contract.b (columns) or .a, as the schedule's tile, items and blocks of k say.
PackShape packShape(const Kernel &k, bool columns, Pack how);

// Elements of scratch for the sums of an item between blocks of k; 0 without blocks.
int64_t partialElements(const Kernel &k);
// Bytes of scratch per thread that the schedule of a contraction needs: the copies, the sums.
int64_t contractScratch(const Kernel &k);

} // namespace nnc::cg
