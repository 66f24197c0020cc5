// Element types, shapes and layouts: see tensor.h.
#include "runtime/tensor.h"

#include <math.h>

namespace rt {

const DTypeInfo &dtype_info(int64_t dtype) {
  static const DTypeInfo table[] = {
      {"f32", "F32", 4, true},  {"f64", "F64", 8, true},  {"bf16", "BF16", 2, true},
      {"f16", "F16", 2, true},  {"i64", "I64", 8, false}, {"i32", "I32", 4, false},
      {"u32", "U32", 4, false}, {"u8", "U8", 1, false},   {"bool", "BOOL", 1, false}};
  return table[dtype];
}

int64_t dtype_of_stored(const char *stored) {
  for (int64_t i = NNC_F32; i <= NNC_BOOL; i++)
    if (same(dtype_info(i).stored, stored)) return i;
  return -1;
}

int64_t element_count(const NncTensor &tensor, int64_t n) {
  int64_t count = 1;
  for (int64_t d = 0; d < tensor.rank; d++) count *= at(tensor.dims[d], n);
  return count;
}

const char *type_text(int64_t dtype, const int64_t *dims, int64_t rank, int64_t from) {
  Builder out;
  out.add("%s", dtype_info(dtype).name);
  for (int64_t d = from; d < rank; d++)
    out.add("%s%lld", d == from ? "[" : ",", static_cast<long long>(dims[d]));
  if (rank > from) out.add("]");
  return text_copy(out.c_str(), out.length());
}

const char *type_text(const NncTensor &tensor, int64_t n, int64_t from) {
  int64_t dims[MaxRank];
  for (int64_t d = 0; d < tensor.rank && d < MaxRank; d++) dims[d] = at(tensor.dims[d], n);
  return type_text(tensor.dtype, dims, tensor.rank, from);
}

Places::Places(const NncTensor &tensor, int64_t n) {
  int64_t total = 0;
  for (int64_t d = 0; d < tensor.rank; d++) {
    start[d] = total;
    total += at(tensor.dims[d], n);
  }
  table.resize(size_t(total));
  int64_t stride = 1, radix[MaxRank];
  for (int64_t d = 0; d < tensor.rank; d++) radix[d] = 1;
  for (int64_t k = tensor.digit_count - 1; k >= 0; k--) {
    NncDigit digit = tensor.digits[k];
    int64_t *row = table.data + start[digit.dim];
    int64_t extent = at(tensor.dims[digit.dim], n);
    for (int64_t i = 0; i < extent; i++) row[i] += i / radix[digit.dim] % digit.size * stride;
    radix[digit.dim] *= digit.size;
    stride *= digit.size;
  }
}

Elements::Elements(const NncTensor &tensor, int64_t n) : tensor(tensor), n(n), places(tensor, n) {}

// Calls visit(i, physical element) for the next `count` logical elements, i from 0.
template <class Visit> void Elements::walk(int64_t count, const Visit &visit) {
  int64_t last = tensor.rank - 1, extent = at(tensor.dims[last], n);
  const int64_t *row = places.table.data + places.start[last];
  for (int64_t i = 0; i < count;) {
    int64_t base = 0;
    for (int64_t d = 0; d < last; d++) base += places.table[size_t(places.start[d] + index[d])];
    int64_t end = extent - index[last] < count - i ? extent : index[last] + count - i;
    for (int64_t k = index[last]; k < end; k++) visit(i++, base + row[k]);
    index[last] = end;
    if (end < extent) return;
    index[last] = 0;
    for (int64_t d = last - 1; d >= 0; d--) {
      if (++index[d] < at(tensor.dims[d], n)) break;
      index[d] = 0;
    }
  }
}

void Elements::unpack(const char *physical, char *logical, int64_t count) {
  size_t size = size_t(dtype_info(tensor.dtype).bytes);
  walk(count, [&](int64_t to, int64_t from) {
    memcpy(logical + size_t(to) * size, physical + size_t(from) * size, size);
  });
}

void Elements::pack(const char *logical, char *physical, int64_t count) {
  size_t size = size_t(dtype_info(tensor.dtype).bytes);
  walk(count, [&](int64_t from, int64_t to) {
    memcpy(physical + size_t(to) * size, logical + size_t(from) * size, size);
  });
}

void unpack(const NncTensor &tensor, int64_t n, const char *physical, char *logical) {
  int64_t count = element_count(tensor, n);
  if (Elements::in_order(tensor))
    memcpy(logical, physical, size_t(count * dtype_info(tensor.dtype).bytes));
  else
    Elements(tensor, n).unpack(physical, logical, count);
}

void pack(const NncTensor &tensor, int64_t n, const char *logical, char *physical) {
  int64_t count = element_count(tensor, n);
  if (Elements::in_order(tensor)) {
    memcpy(physical, logical, size_t(count * dtype_info(tensor.dtype).bytes));
    return;
  }
  memset(physical, 0, size_t(tensor.bytes)); // padding is zero and stays zero
  Elements(tensor, n).pack(logical, physical, count);
}

float float_of_half(uint16_t half) {
  int exponent = half >> 10 & 31, mantissa = half & 1023;
  float magnitude = exponent == 31 ? (mantissa ? NAN : INFINITY)
                    : exponent     ? ldexpf(float(1024 + mantissa), exponent - 25)
                                   : ldexpf(float(mantissa), -24);
  return half & 0x8000 ? -magnitude : magnitude;
}

uint16_t half_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return uint16_t(sign | 0x7E00);
  if (magnitude >= 0x477FF000) return uint16_t(sign | 0x7C00);
  if (magnitude < 0x38800000) { // subnormal half: let the float unit round to a multiple of 2^-24
    float shifted = fabsf(value) * 16777216.0f;
    return uint16_t(sign | uint32_t(lrintf(shifted)));
  }
  uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1);
  return uint16_t(sign | ((rounded - 0x38000000) >> 13));
}

uint16_t bfloat_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return uint16_t(bits >> 16 | 64);
  return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

double element_as_double(int64_t dtype, const char *element) {
  auto load = [&](auto value) {
    memcpy(&value, element, sizeof value);
    return value;
  };
  switch (dtype) {
  case NNC_F32: return double(load(float()));
  case NNC_F64: return load(double());
  case NNC_BF16: {
    uint32_t bits = uint32_t(load(uint16_t())) << 16;
    float value;
    memcpy(&value, &bits, 4);
    return double(value);
  }
  case NNC_F16: return double(float_of_half(load(uint16_t())));
  case NNC_I64: return double(load(int64_t()));
  case NNC_I32: return double(load(int32_t()));
  case NNC_U32: return double(load(uint32_t()));
  default: return double(load(uint8_t()));
  }
}

void store_float(int64_t dtype, double value, char *element) {
  float narrow = float(value);
  uint16_t half;
  switch (dtype) {
  case NNC_F32: memcpy(element, &narrow, 4); break;
  case NNC_F64: memcpy(element, &value, 8); break;
  case NNC_F16: half = half_of_float(narrow), memcpy(element, &half, 2); break;
  default: half = bfloat_of_float(narrow), memcpy(element, &half, 2); break;
  }
}

} // namespace rt
