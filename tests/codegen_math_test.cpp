// The expansions of elementary functions, compiled: every 1021st f32 and the edges against libm in
// double, f64 on random points. Errors are in units of the last place of the exact result; results
// that are subnormal are zero.
#include "tests/kernel_build.h"
#include "tests/kernel_eval.h"
#include "tests/kernel_jit.h"
#include <catch2/catch.hpp>
#include <random>

using namespace nnc;
using namespace nnc::test;

namespace {

constexpr int64_t kChunk = 1 << 14;

// y[i] = op(x[i]) or op(x[i], z[i]) for kChunk elements.
struct Function {
  Kernel k;
  std::unique_ptr<KernelCode> code;

  Function(SOp op, DType t, bool binary) {
    KernelBuild b;
    auto x = b.arg(t, {kChunk}), z = b.arg(t, {kChunk}), y = b.arg(t, {kChunk}, true, false);
    auto i = b.axis("i", kChunk);
    b.k.parallel = {i};
    std::vector<ExprId> args = {b.load(x, b.at(i))};
    if (binary) args.push_back(b.load(z, b.at(i)));
    b.stage(b.op(op, args, t));
    b.to(y, b.at(i));
    std::string error;
    const Target target = *resolveTarget("native", error);
    k = b.k;
    schedule(k, target);
    code = std::make_unique<KernelCode>(k, target);
  }
  template <class T> void run(std::vector<T> &x, std::vector<T> &z, std::vector<T> &y) {
    FlushSubnormals flush;
    NncStepEnv env{1, 0, 0, nullptr, 0};
    code->run({reinterpret_cast<char *>(x.data()), reinterpret_cast<char *>(z.data()),
               reinterpret_cast<char *>(y.data())},
              env, 0, itemCount(k, 1));
  }
};

template <class T> double ulps(T got, long double want) {
  const T rounded = T(want);
  if (std::isnan(rounded) || std::isnan(got))
    return std::isnan(rounded) == std::isnan(got) ? 0 : INFINITY;
  if (std::isinf(rounded) || std::isinf(got)) {
    if (rounded == got) return 0;
    // At the threshold of overflow either is right within an ulp.
    const T other = std::isinf(got) ? rounded : got;
    return std::fabs(other) >= std::numeric_limits<T>::max() * T(1 - 1e-6) ? 1 : INFINITY;
  }
  const long double least = std::numeric_limits<T>::min();
  if (std::fabs(want) < least * (1 + 1e-6L) && std::fabs(got) <= least * (1 + 1e-6L))
    return 0; // flushed
  const T a = std::fabs(rounded);
  const long double ulp =
      std::max<long double>(std::nextafter(a, std::numeric_limits<T>::infinity()) - a,
                            std::numeric_limits<T>::denorm_min());
  return double(std::fabs((long double)got - want) / ulp);
}

struct Worst {
  double error = 0, x = 0, z = 0;
  double got = 0;
};

using Reference = long double (*)(long double, long double);

std::vector<float> wholeRange() {
  std::vector<float> v;
  for (uint64_t bits = 0; bits < (uint64_t(1) << 32); bits += 1021) {
    const float x = std::bit_cast<float>(uint32_t(bits));
    if (std::fpclassify(x) != FP_SUBNORMAL) v.push_back(x);
  }
  for (float x : {0.0f,        1.0f,        2.0f,       0.5f,       88.72283f,
                  88.72284f,   87.33654f,   87.33655f,  103.97f,    1.17549435e-38f,
                  3.4e38f,     9.0f,        18.0f,      20.0f,      0.92773438f,
                  4.0f,        0.41421357f, 2.4142137f, 1.5707964f, 3.1415927f,
                  6.2831855f,  105615.0f,   1e9f,       INFINITY,   NAN,
                  0.69314718f, 0.34657359f})
    for (float s : {1.0f, -1.0f})
      v.push_back(s * x), v.push_back(std::nextafterf(s * x, 1e30f)),
          v.push_back(std::nextafterf(s * x, -1e30f));
  return v;
}

Worst sweep(SOp op, Reference f, double most) {
  Function function(op, DType::f32, false);
  std::vector<float> all = wholeRange(), x(kChunk), z(kChunk), y(kChunk);
  Worst worst;
  for (size_t at = 0; at < all.size(); at += kChunk) {
    for (size_t i = 0; i < size_t(kChunk); ++i) x[i] = all[std::min(at + i, all.size() - 1)];
    function.run(x, z, y);
    for (size_t i = 0; i < size_t(kChunk); ++i) {
      if (std::fpclassify(x[i]) == FP_SUBNORMAL || std::fabs(x[i]) > most) continue;
      const double e = ulps(y[i], f(x[i], 0));
      if (!(e <= worst.error)) worst = {e, x[i], 0, y[i]};
    }
  }
  return worst;
}

double refRsqrt(double x) { return 1 / std::sqrt(x); }

} // namespace

#define UNARY_CASE(op, formula, bound, most)                                                       \
  SECTION(#op) {                                                                                   \
    const Worst w = sweep(                                                                         \
        SOp::op,                                                                                   \
        [](long double l, long double) -> long double {                                            \
          const double x = double(l);                                                              \
          (void)x;                                                                                 \
          return formula;                                                                          \
        },                                                                                         \
        most);                                                                                     \
    INFO(#op << ": " << w.error << " ulp at " << w.x << ", got " << w.got);                        \
    CAPTURE(w.error);                                                                              \
    if (std::getenv("NNC_PRINT_ULPS")) std::printf("%-8s %.2f ulp at %.9g\n", #op, w.error, w.x);  \
    CHECK(w.error <= bound);                                                                       \
  }

TEST_CASE("elementary functions over the whole f32 range", "[codegen][math]"){
    UNARY_CASE(exp, std::exp(x), 1.5, INFINITY) UNARY_CASE(expm1, std::expm1(x), 2.0, INFINITY)
        UNARY_CASE(log, std::log(x), 2.0, INFINITY) UNARY_CASE(log1p, std::log1p(x), 3.0, INFINITY)
            UNARY_CASE(rsqrt, refRsqrt(x), 1.5, INFINITY) UNARY_CASE(sin, std::sin(x), 2.0, 0x1p49)
                UNARY_CASE(cos, std::cos(x), 2.0, 0x1p49) UNARY_CASE(tan, std::tan(x), 4.0, 0x1p49)
                    UNARY_CASE(asin, std::asin(x), 4.0, INFINITY)
                        UNARY_CASE(acos, std::acos(x), 4.0, INFINITY) UNARY_CASE(atan, std::atan(x),
                                                                                 4.0, INFINITY)
                            UNARY_CASE(sinh, std::sinh(x), 4.0, INFINITY)
                                UNARY_CASE(cosh, std::cosh(x), 4.0, INFINITY)
                                    UNARY_CASE(tanh, std::tanh(x), 4.0, INFINITY)
                                        UNARY_CASE(sigmoid, 1 / (1 + std::exp(-x)), 4.0, INFINITY)
                                            UNARY_CASE(erf, std::erf(x), 2.0, INFINITY)
                                                UNARY_CASE(sign,
                                                           double((x > 0) - (x < 0)) +
                                                               (std::isnan(x) ? NAN : 0),
                                                           0.0, INFINITY)}

TEST_CASE("powers and quotients' angles", "[codegen][math]") {
  const bool power = GENERATE(true, false);
  Function f(power ? SOp::pow : SOp::atan2, DType::f32, true);
  std::vector<float> x(kChunk), z(kChunk), y(kChunk);
  const std::vector<float> edges = {0.0f, -0.0f, 1,        -1,        2,   -2,    3,    -3,
                                    0.5f, -0.5f, INFINITY, -INFINITY, NAN, 1e10f, -7.5f};
  std::mt19937 random(3);
  Worst worst;
  for (int round = 0; round < 50; ++round) {
    for (size_t i = 0; i < size_t(kChunk); ++i) {
      if (round == 0 && i < edges.size() * edges.size()) {
        x[i] = edges[i / edges.size()], z[i] = edges[i % edges.size()];
        continue;
      }
      const double scale = std::exp2(double(random() % 60) - 30);
      x[i] = float(std::uniform_real_distribution<double>(power ? 0 : -1, 1)(random) * scale);
      z[i] = power ? float(std::uniform_real_distribution<double>(-5, 5)(random))
                   : float(std::uniform_real_distribution<double>(-1, 1)(random) * scale);
    }
    f.run(x, z, y);
    for (size_t i = 0; i < size_t(kChunk); ++i) {
      const double want =
          power ? std::pow(double(x[i]), double(z[i])) : std::atan2(double(x[i]), double(z[i]));
      const double e = ulps(y[i], want);
      if (!(e <= worst.error)) worst = {e, x[i], z[i], y[i]};
    }
  }
  INFO((power ? "pow " : "atan2 ")
       << worst.error << " ulp at " << worst.x << ", " << worst.z << ", got " << worst.got);
  CHECK(worst.error <= 4);
}

#define DOUBLE_CASE(op, formula, low, high, bound)                                                 \
  SECTION(#op) {                                                                                   \
    Function f(SOp::op, DType::f64, false);                                                        \
    std::vector<double> a(kChunk), z(kChunk), y(kChunk);                                           \
    std::mt19937_64 random(5);                                                                     \
    for (double &v : a) v = std::uniform_real_distribution<double>(low, high)(random);             \
    f.run(a, z, y);                                                                                \
    Worst w;                                                                                       \
    for (size_t i = 0; i < size_t(kChunk); ++i) {                                                  \
      const long double x = a[i];                                                                  \
      const double e = ulps(y[i], formula);                                                        \
      if (!(e <= w.error)) w = {e, a[i], 0, y[i]};                                                 \
    }                                                                                              \
    INFO(w.error << " ulp at " << w.x << ", got " << w.got);                                       \
    if (std::getenv("NNC_PRINT_ULPS"))                                                             \
      std::printf("f64 %-8s %.2f ulp at %.9g\n", #op, w.error, w.x);                               \
    CHECK(w.error <= bound);                                                                       \
  }

TEST_CASE("elementary functions of f64", "[codegen][math]") {
  DOUBLE_CASE(exp, std::exp(x), -700, 700, 2)
  DOUBLE_CASE(expm1, std::expm1(x), -3, 3, 4)
  DOUBLE_CASE(log, std::log(x), 1e-3, 1e3, 2)
  DOUBLE_CASE(log1p, std::log1p(x), -0.9, 5, 4)
  DOUBLE_CASE(sin, std::sin(x), -100, 100, 4)
  DOUBLE_CASE(cos, std::cos(x), -100, 100, 4)
  DOUBLE_CASE(tan, std::tan(x), -10, 10, 6)
  DOUBLE_CASE(asin, std::asin(x), -1, 1, 6)
  DOUBLE_CASE(acos, std::acos(x), -1, 1, 6)
  DOUBLE_CASE(atan, std::atan(x), -5, 5, 4)
  DOUBLE_CASE(sinh, std::sinh(x), -5, 5, 6)
  DOUBLE_CASE(cosh, std::cosh(x), -5, 5, 6)
  DOUBLE_CASE(tanh, std::tanh(x), -5, 5, 6)
  DOUBLE_CASE(erf, std::erf(x), -5, 5, 4)
  DOUBLE_CASE(sigmoid, 1 / (1 + std::exp(-x)), -30, 30, 4)
}
