// Random contents of kernels' arguments, and where two contents differ.
#pragma once
#include "codegen/kernel.h"
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace nnc::test {

using namespace nnc::cg;

// Values that rounding, ties and signs depend on; `special` adds infinities and NaN.
struct Data {
  std::mt19937 random{1};
  bool special = false;
  double range = 4;
  int64_t integers = 1000; // exclusive bound of integers

  double real() {
    const int pick = int(random() % 40);
    if (pick == 0) return 0.0;
    if (pick == 1) return -0.0;
    if (pick == 2) return 1;
    if (special && pick == 3) return INFINITY;
    if (special && pick == 4) return -INFINITY;
    if (special && pick == 5) return NAN;
    return std::uniform_real_distribution<double>(-range, range)(random);
  }
  int64_t integer() { return int64_t(random() % uint64_t(integers + 4)) - 2; }

  void fill(std::vector<char> &bytes, DType t) {
    const size_t n = bytes.size() / size_t(ir::dtypeBytes(t));
    auto put = [&](auto make) {
      for (size_t i = 0; i < n; ++i) {
        auto v = make();
        std::memcpy(bytes.data() + i * sizeof v, &v, sizeof v);
      }
    };
    switch (t) {
    case DType::f32: return put([&] { return float(real()); });
    case DType::f64: return put([&] { return real(); });
    case DType::bf16:
      return put([&] { return uint16_t(std::bit_cast<uint32_t>(float(real())) >> 16); });
    case DType::f16: return put([&] { return _Float16(float(real())); });
    case DType::i64: return put([&] { return integer(); });
    case DType::i32: return put([&] { return int32_t(integer()); });
    case DType::u32: return put([&] { return uint32_t(random()); });
    case DType::u8: return put([&] { return uint8_t(random()); });
    case DType::boolean: return put([&] { return uint8_t(random() & 1); });
    }
  }
};

inline bool sameElement(const char *x, const char *y, DType t) {
  const int size = ir::dtypeBytes(t);
  if (std::memcmp(x, y, size_t(size)) == 0) return true;
  auto nan = [&](const char *p) {
    if (t == DType::f32) {
      float f;
      std::memcpy(&f, p, 4);
      return std::isnan(f);
    }
    if (t == DType::f64) {
      double f;
      std::memcpy(&f, p, 8);
      return std::isnan(f);
    }
    uint16_t h;
    std::memcpy(&h, p, 2);
    if (t == DType::bf16) return (h & 0x7fff) > 0x7f80;
    return t == DType::f16 && (h & 0x7fff) > 0x7c00;
  };
  return nan(x) && nan(y);
}

inline std::string difference(const Kernel &k, size_t arg, const std::vector<char> &want,
                       const char *got) {
  const DType t = k.args[arg].dtype;
  const size_t size = size_t(ir::dtypeBytes(t));
  for (size_t i = 0; i * size < want.size(); ++i)
    if (!sameElement(want.data() + i * size, got + i * size, t)) {
      std::string s = "argument " + std::to_string(arg) + " element " + std::to_string(i);
      if (t == DType::f32) {
        float a, b;
        std::memcpy(&a, want.data() + 4 * i, 4), std::memcpy(&b, got + 4 * i, 4);
        char text[80];
        std::snprintf(text, sizeof text, ": wanted %a, got %a", double(a), double(b));
        s += text;
      }
      return s;
    }
  return "";
}

} // namespace nnc::test
