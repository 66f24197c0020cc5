// Types: names, text and sizes.
//
// Problem. Dimensions print and read back exactly, and no sum or product of sizes may overflow,
// whatever a text says. Example: Dim{2, -1} is "2n-1"; f32[n,784] has 78400 elements at n = 100.
//
// Method. Text limits coefficients to 2^48; products go through 128 bits.
#include "ir/type.h"
#include <array>
#include <charconv>
#include <utility>

namespace nnc::ir {

namespace {

struct DTypeRow {
  std::string_view name;
  int bytes;
};
constexpr std::array<DTypeRow, kDTypeCount> kDTypes{{{"f32", 4},
                                                     {"f64", 8},
                                                     {"bf16", 2},
                                                     {"f16", 2},
                                                     {"i64", 8},
                                                     {"i32", 4},
                                                     {"u32", 4},
                                                     {"u8", 1},
                                                     {"bool", 1}}};

// One signed term of a dimension: "n", "+2n", "-1". Advances `text`; false if it is not a term.
bool parseTerm(std::string_view &text, Dim &sum) {
  int64_t sign = 1, k = 1;
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
    sign = text[0] == '-' ? -1 : 1;
    text.remove_prefix(1);
  }
  bool digits = !text.empty() && text[0] >= '0' && text[0] <= '9';
  if (digits) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), k);
    if (error != std::errc() || k > kMaxElements) return false;
    text.remove_prefix(end - text.data());
  }
  bool batch = !text.empty() && text[0] == 'n';
  if (batch) text.remove_prefix(1);
  if (!digits && !batch) return false;
  sum = sum + (batch ? Dim(sign * k, 0) : Dim(sign * k));
  return true;
}

} // namespace

std::string_view dtypeName(DType t) { return kDTypes[size_t(t)].name; }
int dtypeBytes(DType t) { return kDTypes[size_t(t)].bytes; }

bool parseDType(std::string_view text, DType &out) {
  for (int i = 0; i < kDTypeCount; ++i)
    if (kDTypes[i].name == text) {
      out = DType(i);
      return true;
    }
  return false;
}

std::string str(Dim d) {
  if (d.a == 0) return std::to_string(d.b);
  std::string s = d.a == 1 ? "n" : d.a == -1 ? "-n" : std::to_string(d.a) + "n";
  if (d.b > 0) s += "+";
  if (d.b != 0) s += std::to_string(d.b);
  return s;
}

bool parseDim(std::string_view text, Dim &out) {
  Dim sum;
  if (!parseTerm(text, sum)) return false;
  // A second term must have a sign: "n+1", not "n1".
  if (!text.empty() && (text[0] == '+' || text[0] == '-') && !parseTerm(text, sum)) return false;
  if (!text.empty()) return false;
  out = sum;
  return true;
}

std::string str(const Dims &d) {
  std::string s = "[";
  for (size_t i = 0; i < d.size(); ++i) s += (i ? "," : "") + str(d[i]);
  return s + "]";
}

std::string str(const Type &t) { return std::string(dtypeName(t.dtype)) + str(t.dims); }

int64_t elementCount(const Dims &d, int64_t n) {
  int64_t count = 1;
  for (Dim x : d) count *= x.at(n);
  return count;
}

bool fits(const Dims &d, int64_t n) {
  __int128 count = 1;
  for (Dim x : d) {
    __int128 size = __int128(x.a) * n + x.b;
    if (size < 0 || size > kMaxElements) return false;
    // A size of zero does not excuse the others: partial products are taken too.
    if (size > 1) count *= size;
    if (count > kMaxElements) return false;
  }
  return true;
}

bool product(const Dims &d, Dim &out) {
  Dim p = 1;
  for (Dim x : d) {
    if (!x.isConst() && !p.isConst()) return false;
    if (!x.isConst()) std::swap(p, x); // now x is the constant
    if (__builtin_mul_overflow(p.a, x.b, &p.a) || __builtin_mul_overflow(p.b, x.b, &p.b))
      return false;
  }
  out = p;
  return true;
}

} // namespace nnc::ir
