// Element types, shapes and layouts of the tensors in a model's tables.
//
// A layout is a list of mixed-radix digits (abi.h). Files are logical row-major, so saving unpacks
// and loading packs. Each digit belongs to one dimension, hence the physical place of an element is
// a sum over dimensions of a per-dimension offset:
//
//   panels of f32[K,100], digits (1,3)(0,K)(1,48):  place(k, n) = (n/48)*K*48 + k*48 + n%48
//                                                              = offset0[k] + offset1[n]
#ifndef NNC_RUNTIME_TENSOR_H
#define NNC_RUNTIME_TENSOR_H

#include "runtime/abi.h"
#include "runtime/base.h"

namespace rt {

constexpr int MaxRank = 8;

struct DTypeInfo {
  const char *name;   // as the language spells it
  const char *stored; // as safetensors spells it
  int64_t bytes;
  bool floating;
};
const DTypeInfo &dtype_info(int64_t dtype);
// The type that safetensors calls `stored`, or -1.
int64_t dtype_of_stored(const char *stored);

inline int64_t at(NncDim dim, int64_t n) { return dim.a * n + dim.b; }
int64_t element_count(const NncTensor &tensor, int64_t n);
// "f32[32,28,28]", in the arena. `from` leaves out leading dimensions.
const char *type_text(int64_t dtype, const int64_t *dims, int64_t rank, int64_t from = 0);
const char *type_text(const NncTensor &tensor, int64_t n, int64_t from = 0);

// Where a tensor's elements lie: offsets of index i of dimension d, table[start[d] + i].
struct Places {
  Array<int64_t> table;
  int64_t start[MaxRank];
  Places(const NncTensor &tensor, int64_t n);
};

// Goes through a tensor's elements at batch n in logical order, some at a time, so that a large one
// passes through a small buffer.
class Elements {
 public:
  Elements(const NncTensor &tensor, int64_t n);
  // Whether the physical elements are in logical order.
  static bool in_order(const NncTensor &t) { return t.digit_count == 0 || t.rank == 0; }
  // The next `count` elements.
  void unpack(const char *physical, char *logical, int64_t count);
  void pack(const char *logical, char *physical, int64_t count);

 private:
  template <class Visit> void walk(int64_t count, const Visit &visit);
  const NncTensor &tensor;
  int64_t n;
  Places places;
  int64_t index[MaxRank] = {0}; // of the next element
};

// Between the physical bytes of a tensor at batch n and its logical row-major elements.
void unpack(const NncTensor &tensor, int64_t n, const char *physical, char *logical);
void pack(const NncTensor &tensor, int64_t n, const char *logical, char *physical);

// One element of any type as a double.
double element_as_double(int64_t dtype, const char *element);
// The other way, for floating types.
void store_float(int64_t dtype, double value, char *element);
float float_of_half(uint16_t half);
uint16_t half_of_float(float value);
uint16_t bfloat_of_float(float value);

} // namespace rt

#endif
