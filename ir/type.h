// Types of tensor values: an element type and dimensions that may depend on the batch size.
//
// Problem. Everything in a model has a constant shape but for one number: the last batch of an
// epoch is smaller. Example: `f32[n,784]`, and two flattened time steps `f32[2n,300]`.
//
// Method. A dimension is `a*n + b`: n is the one run-time size of a function (1 <= n <= N, N is
// Function::batch), a and b are constants. Such dimensions add, compare and print exactly; code
// generation takes strides from N and trip counts from n.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nnc::ir {

// Element types; the order is that of NncDType (runtime/abi.h). bf16 and f16 are storage only.
enum class DType : uint8_t { f32, f64, bf16, f16, i64, i32, u32, u8, boolean };
inline constexpr int kDTypeCount = 9;

std::string_view dtypeName(DType t); // "f32", ..., "bool"
bool parseDType(std::string_view text, DType &out);
int dtypeBytes(DType t);
inline bool isFloat(DType t) { return t <= DType::f16; }
// What bf16 and f16 are computed and accumulated in; every other type itself.
inline DType widened(DType t) { return t == DType::bf16 || t == DType::f16 ? DType::f32 : t; }
inline bool isInteger(DType t) { return t >= DType::i64 && t <= DType::u8; }

// A dimension a*n + b.
struct Dim {
  int64_t a = 0, b = 0;
  Dim() = default;
  Dim(int64_t constant) : b(constant) {}
  Dim(int64_t scale, int64_t offset) : a(scale), b(offset) {}
  static Dim batch() { return {1, 0}; }
  bool isConst() const { return a == 0; }
  int64_t at(int64_t n) const { return a * n + b; } // the size for a batch of n rows
  friend bool operator==(const Dim &, const Dim &) = default;
  friend Dim operator+(Dim x, Dim y) { return {x.a + y.a, x.b + y.b}; }
  friend Dim operator-(Dim x, Dim y) { return {x.a - y.a, x.b - y.b}; }
  friend Dim operator*(Dim x, int64_t k) { return {x.a * k, x.b * k}; }
};
using Dims = std::vector<Dim>;

std::string str(Dim d);         // "n", "2n+1", "784"
bool parseDim(std::string_view text, Dim &out);

struct Type {
  DType dtype = DType::f32;
  Dims dims;
  int rank() const { return int(dims.size()); }
  bool isScalar() const { return dims.empty(); }
  friend bool operator==(const Type &, const Type &) = default;
};
std::string str(const Type &t);                   // "f32[n,784]"
std::string str(const Dims &d);                   // "[n,784]"
int64_t elementCount(const Dims &d, int64_t n);   // product of the sizes at n
// A size for every n >= 1.
inline bool nonNegative(Dim d) { return d.a >= 0 && d.a + d.b >= 0; }
inline constexpr int64_t kMaxElements = int64_t(1) << 48; // of one value; sizes never overflow
// False if a size at n is negative or there are more than kMaxElements elements.
bool fits(const Dims &d, int64_t n);
// Product as a Dim; false if it is not of the form a*n + b (two dimensions with n).
bool product(const Dims &d, Dim &out);

} // namespace nnc::ir
