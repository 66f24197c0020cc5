// The functions that ops.def's formulas call, for the element types of the interpreter.
//
//   BINARY(mod, N, ..., mod(a, b), ...)     mod(-7.0, 3.0) = 2.0,  mod(Int{-7}, Int{3}) = Int{2}
//
// Three element types: double (the oracle and the constant folder), float (f32 mode: every step of
// a formula rounds, as compiled code does) and Int (rows of class N and I, wrapping as two's
// complement). The same names for ir::V are in formulas.h.
#pragma once
#include "ir/type.h"
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace nnc::ir::scalar {

using std::abs, std::exp, std::expm1, std::log, std::log1p, std::sqrt, std::sin, std::cos, std::tan;
using std::asin, std::acos, std::atan, std::sinh, std::cosh, std::tanh, std::erf, std::floor;
using std::atan2, std::ceil, std::pow;

template <class T> bool isNan(T x) { return std::isnan(x); }
template <class T> T floordiv(T a, T b) { return std::floor(a / b); }
template <class T> T mod(T a, T b) { return a - std::floor(a / b) * b; }
// `a > b ? a : b` alone would drop a NaN on the left.
template <class T> T max(T a, T b) { return a > b || std::isnan(a) ? a : b; }
template <class T> T min(T a, T b) { return a < b || std::isnan(a) ? a : b; }
template <class T> T halfStep(T a, T b) { return a > b ? T(1) : a == b ? T(0.5) : T(0); }
template <class T> T sign(T x) { return x > 0 ? T(1) : x < 0 ? T(-1) : x == 0 ? T(0) : x; }
template <class T> T rsqrt(T x) { return T(1) / std::sqrt(x); }
template <class T> T sigmoid(T x) { return T(1) / (T(1) + std::exp(-x)); }
template <class T> T round(T x) { return std::nearbyint(x); } // default mode: ties to even
template <class T> T safeLog(T x) { return x > 0 ? std::log(x) : T(0); }
template <class T> T lessOne(T x) { return x == 0 ? T(1) : x - T(1); }

// A 64-bit integer that wraps. Narrower types wrap when they are stored.
struct Int {
  int64_t v = 0;
  static Int from(double x) { // saturating; NaN gives 0
    if (std::isnan(x)) return {0};
    if (x >= 9223372036854775807.0) return {std::numeric_limits<int64_t>::max()};
    if (x <= -9223372036854775808.0) return {std::numeric_limits<int64_t>::min()};
    return {int64_t(x)};
  }
};
inline Int wrapped(uint64_t v) { return {int64_t(v)}; }
inline Int operator+(Int a, Int b) { return wrapped(uint64_t(a.v) + uint64_t(b.v)); }
inline Int operator-(Int a, Int b) { return wrapped(uint64_t(a.v) - uint64_t(b.v)); }
inline Int operator*(Int a, Int b) { return wrapped(uint64_t(a.v) * uint64_t(b.v)); }
inline Int operator-(Int a) { return wrapped(-uint64_t(a.v)); }
inline Int abs(Int a) { return a.v < 0 ? -a : a; }
inline Int sign(Int a) { return {(a.v > 0) - (a.v < 0)}; }
inline Int max(Int a, Int b) { return a.v > b.v ? a : b; }
inline Int min(Int a, Int b) { return a.v < b.v ? a : b; }
// Rounds down; division by zero gives 0, as NumPy.
inline Int floordiv(Int a, Int b) {
  if (b.v == 0) return {0};
  if (b.v == -1) return -a; // INT64_MIN / -1 traps in hardware
  const int64_t q = a.v / b.v;
  return {q - (a.v % b.v != 0 && (a.v < 0) != (b.v < 0))};
}
inline Int mod(Int a, Int b) { return b.v == 0 ? Int{0} : a - floordiv(a, b) * b; }

// --- storing ------------------------------------------------------------------------------------

inline double toDouble(double x) { return x; }
inline double toDouble(Int x) { return double(x.v); }

inline double flushed(double x, double smallest) { return std::fabs(x) < smallest ? x * 0.0 : x; }
inline double roundF32(double x) { return flushed(float(x), std::numeric_limits<float>::min()); }

// Rounds to a binary format of `bits` significand bits and exponents minExp.. of the last place, to
// even.
inline double roundFormat(double x, int bits, int minExp, double largest) {
  if (!std::isfinite(x) || x == 0) return x;
  int e = 0;
  std::frexp(x, &e); // x = m * 2^e, 0.5 <= |m| < 1
  const double ulp = std::ldexp(1.0, std::max(e - bits, minExp));
  const double r = std::nearbyint(x / ulp) * ulp;
  return std::fabs(r) > largest ? std::copysign(std::numeric_limits<double>::infinity(), x) : r;
}
inline double roundBf16(double x) {
  return roundFormat(roundF32(x), 8, -133, 3.3895313892515355e38);
}
inline double roundF16(double x) { return roundFormat(roundF32(x), 11, -24, 65504.0); }

inline double wrap(DType t, Int x) {
  switch (t) {
  case DType::i32: return int32_t(uint32_t(uint64_t(x.v)));
  case DType::u32: return uint32_t(uint64_t(x.v));
  case DType::u8: return uint8_t(uint64_t(x.v));
  case DType::boolean: return x.v != 0;
  default: return double(x.v);
  }
}
// The value of a saturating conversion to an integer type: truncation, NaN gives 0.
inline double saturate(DType t, double x) {
  auto clamp = [&](double lo, double hi) {
    return std::isnan(x) ? 0.0 : std::trunc(std::min(std::max(x, lo), hi)) + 0.0;
  };
  switch (t) {
  case DType::i64: return clamp(-9223372036854775808.0, 9223372036854775807.0);
  case DType::i32: return clamp(-2147483648.0, 2147483647.0);
  case DType::u32: return clamp(0, 4294967295.0);
  case DType::u8: return clamp(0, 255);
  default: return x;
  }
}

} // namespace nnc::ir::scalar
