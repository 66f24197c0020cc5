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

namespace {

// offsets[d][i]: what index i of dimension d contributes to the element's physical place.
struct Places {
  Array<int64_t> table;
  int64_t start[MaxRank];

  Places(const NncTensor &tensor, int64_t n) {
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
};

// Calls visit(logical element, physical element) for every element.
template <class Visit> void walk(const NncTensor &tensor, int64_t n, const Visit &visit) {
  Places places(tensor, n);
  int64_t index[MaxRank] = {0}, total = element_count(tensor, n), last = tensor.rank - 1;
  int64_t run = at(tensor.dims[last], n);
  for (int64_t logical = 0; logical < total; logical += run) {
    int64_t base = 0;
    for (int64_t d = 0; d < last; d++) base += places.table[size_t(places.start[d] + index[d])];
    const int64_t *row = places.table.data + places.start[last];
    for (int64_t i = 0; i < run; i++) visit(logical + i, base + row[i]);
    for (int64_t d = last - 1; d >= 0; d--) {
      if (++index[d] < at(tensor.dims[d], n)) break;
      index[d] = 0;
    }
  }
}

} // namespace

void unpack(const NncTensor &tensor, int64_t n, const char *physical, char *logical) {
  int64_t size = dtype_info(tensor.dtype).bytes;
  if (is_row_major(tensor)) {
    memcpy(logical, physical, size_t(element_count(tensor, n) * size));
    return;
  }
  walk(tensor, n, [&](int64_t to, int64_t from) {
    memcpy(logical + to * size, physical + from * size, size_t(size));
  });
}

void pack(const NncTensor &tensor, int64_t n, const char *logical, char *physical) {
  int64_t size = dtype_info(tensor.dtype).bytes;
  if (is_row_major(tensor)) {
    memcpy(physical, logical, size_t(element_count(tensor, n) * size));
    return;
  }
  memset(physical, 0, size_t(tensor.bytes)); // padding is zero and stays zero
  walk(tensor, n, [&](int64_t from, int64_t to) {
    memcpy(physical + to * size, logical + from * size, size_t(size));
  });
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
