// Layouts: where the elements of a tensor lie, as data.
//
//   f32[784,512] row-major:          flat = 512*i + j
//   digits (0,784)(1,528):           flat = 528*i + j            rows padded off a power of two
//   digits (1,11)(0,784)(1,48):      flat = 784*48*(j/48) + 48*i + j%48      panels of 48 columns
//
// A layout writes the logical index as mixed-radix digits, most significant first.
// Kernels apply it when fusion turns a logical index into a flat one. Of persistent values the
// object carries the digits, and the runtime packs and unpacks files with them, so files are always
// logical and row-major; their padding is zero from the start. Nothing reads or writes padding.
#pragma once
#include "codegen/kernel.h"
#include <map>
#include <string>

namespace nnc::cg {

struct Digit {
  int32_t dim = 0; // -1: a gap, places of other slices of the tensor that this one is a slice of
  int64_t size = 1;
  friend bool operator==(const Digit &, const Digit &) = default;
};
struct Layout {
  std::vector<Digit> digits; // none: row-major
  bool isRowMajor() const { return digits.empty(); }
  friend bool operator==(const Layout &, const Layout &) = default;
};

// Elements that the tensor occupies, padding included; strides come from the full batch.
int64_t placesOf(const Layout &l, const Dims &dims, int64_t batch);
// The flat index of the logical index `at`.
Index placeOf(Kernel &k, const Layout &l, const Dims &dims, const std::vector<Index> &at,
              int64_t batch);

// The layout of a slice along `axis` of a tensor; `stride` becomes the number of elements from one
// slice to the next:  f32[n,5,3] along 1:  (0,n)(gap 5)(1,3), stride 3.
Layout sliceLayout(const Layout &l, const Dims &dims, int64_t axis, int64_t batch, int64_t &stride);

// The elements from row to row: a line more than a row has where rows would collide, see
// chooseLayouts.
int64_t paddedRow(int64_t elements, DType t);

// The layouts of the persistent values, chosen once for all functions of a module. Rows of a matrix
// that are a multiple of 1 KiB apart fall into few sets of the first-level cache (and, at 4 KiB, of
// the TLB) when a tile walks down a column: they get a line of 64 bytes more. Weights of products
// with few rows, and their moments, lie with the columns as rows of memory:  f32[784,300]: digits
// (1,300)(0,784). Values that are also read through a reshape stay row-major, where a reshape costs
// nothing.
using Layouts = std::map<std::string, Layout>;
// Without `pads` only the order of the dimensions is chosen: it decides which products are dot
// products, and so bits; padding never does.
Layouts chooseLayouts(const ir::Module &m, bool pads = true);

} // namespace nnc::cg
