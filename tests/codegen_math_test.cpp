// The expansions of elementary functions, compiled, against libm in double: every 1021st f32 and
// the edges, all 2^32 of them where asked for ([.slow]), f64 and
// functions of two arguments on random points. Errors are in units of the last place of the exact
// result; results that are subnormal are zero, as are subnormal arguments. NNC_PRINT_ULPS=1 prints
// the errors, NNC_FUNCTION=exp tests one alone.
#include "tests/kernel_build.h"
#include "tests/kernel_eval.h"
#include "tests/kernel_jit.h"
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <immintrin.h>
#include <mutex>
#include <random>
#include <thread>

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
  double seconds = INFINITY; // least time for kChunk results
};

// --- one argument, f32 ---------------------------------------------------------------------------

// Four at a time, by libm's vector functions: good to a few units of the last place of an f64.
// Numbers that are special to them they hand to the scalar ones, at ten times the time: half of all
// f32. So where every result is the same, or NaN, in f32, they get a number nearby, or the result
// is put in.
using Four = double __attribute__((vector_size(32)));
extern "C" {
Four _ZGVdN4v_exp(Four);
Four _ZGVdN4v_expm1(Four);
Four _ZGVdN4v_log(Four);
Four _ZGVdN4v_log1p(Four);
Four _ZGVdN4v_sin(Four);
Four _ZGVdN4v_cos(Four);
Four _ZGVdN4v_tan(Four);
Four _ZGVdN4v_asin(Four);
Four _ZGVdN4v_acos(Four);
Four _ZGVdN4v_atan(Four);
Four _ZGVdN4v_sinh(Four);
Four _ZGVdN4v_cosh(Four);
Four _ZGVdN4v_tanh(Four);
Four _ZGVdN4v_erf(Four);
}

struct Unary {
  const char *name;
  SOp op;
  double bound; // units of the last place; the table in docs/internals.md
  double most;  // beyond, a function of angles counts as at 0
  double (*exact)(double);
  void (*quick)(const double *, double *); // on four numbers
};

#define WIDE __attribute__((target("avx2,fma"), always_inline)) inline

// x between -most and most; a NaN stays.
WIDE Four within(Four x, double most) {
  const Four m = _mm256_set1_pd(most);
  return _mm256_min_pd(m, _mm256_max_pd(-m, x));
}

// f(x), but NaN where x is less than `least` or greater than `most`; f sees `inside` there.
template <class F> WIDE Four between(Four x, double least, double most, double inside, F f) {
  const Four outside = _mm256_or_pd(_mm256_cmp_pd(x, _mm256_set1_pd(least), _CMP_LT_OQ),
                                    _mm256_cmp_pd(x, _mm256_set1_pd(most), _CMP_GT_OQ));
  const Four y = f(Four(_mm256_blendv_pd(x, _mm256_set1_pd(inside), outside)));
  return _mm256_blendv_pd(y, _mm256_set1_pd(NAN), outside);
}

#define SCALAR(formula) [](double x) -> double { return formula; }
#define VECTOR(formula)                                                                            \
  [](const double *from, double *to) __attribute__((target("avx2,fma"))) {                         \
    const Four x = _mm256_loadu_pd(from);                                                          \
    _mm256_storeu_pd(to, formula);                                                                 \
  }
const Unary kUnary[] = {
    {"exp", SOp::exp, 1.1, INFINITY, SCALAR(std::exp(x)), VECTOR(_ZGVdN4v_exp(within(x, 200)))},
    {"expm1", SOp::expm1, 1.5, INFINITY, SCALAR(std::expm1(x)),
     VECTOR(_ZGVdN4v_expm1(within(x, 200)))},
    {"log", SOp::log, 1, INFINITY, SCALAR(std::log(x)),
     VECTOR(between(x, 0, INFINITY, 1, _ZGVdN4v_log))},
    {"log1p", SOp::log1p, 1.6, INFINITY, SCALAR(std::log1p(x)),
     VECTOR(between(x, -1, INFINITY, 1, _ZGVdN4v_log1p))},
    {"rsqrt", SOp::rsqrt, 1.5, INFINITY, SCALAR(1 / std::sqrt(x)),
     VECTOR(1 / Four(_mm256_sqrt_pd(x)))},
    {"sin", SOp::sin, 1.7, 0x1p50, SCALAR(std::sin(x)), VECTOR(_ZGVdN4v_sin(x))},
    {"cos", SOp::cos, 1.7, 0x1p50, SCALAR(std::cos(x)), VECTOR(_ZGVdN4v_cos(x))},
    {"tan", SOp::tan, 4, 0x1p50, SCALAR(std::tan(x)), VECTOR(_ZGVdN4v_tan(x))},
    {"asin", SOp::asin, 2.5, INFINITY, SCALAR(std::asin(x)),
     VECTOR(between(x, -1, 1, 0, _ZGVdN4v_asin))},
    {"acos", SOp::acos, 1.5, INFINITY, SCALAR(std::acos(x)),
     VECTOR(between(x, -1, 1, 0, _ZGVdN4v_acos))},
    {"atan", SOp::atan, 3, INFINITY, SCALAR(std::atan(x)), VECTOR(_ZGVdN4v_atan(x))},
    {"sinh", SOp::sinh, 3.1, INFINITY, SCALAR(std::sinh(x)), VECTOR(_ZGVdN4v_sinh(within(x, 200)))},
    {"cosh", SOp::cosh, 3.1, INFINITY, SCALAR(std::cosh(x)), VECTOR(_ZGVdN4v_cosh(within(x, 200)))},
    {"tanh", SOp::tanh, 2.5, INFINITY, SCALAR(std::tanh(x)), VECTOR(_ZGVdN4v_tanh(within(x, 200)))},
    {"sigmoid", SOp::sigmoid, 2.5, INFINITY, SCALAR(1 / (1 + std::exp(-x))),
     VECTOR(1 / (1 + _ZGVdN4v_exp(within(-x, 200))))},
    {"erf", SOp::erf, 1.1, INFINITY, SCALAR(std::erf(x)), VECTOR(_ZGVdN4v_erf(within(x, 100)))},
    {"sign", SOp::sign, 0, INFINITY, SCALAR(std::isnan(x) ? x : double((x > 0) - (x < 0))),
     nullptr},
};

// What an argument means: subnormals count as zero, angles beyond the range too.
double meaning(const Unary &u, float x) {
  const double a = std::fabs(x);
  return a < 0x1p-126 || (a >= u.most && a < INFINITY) ? std::copysign(0.0, x) : x;
}

// The results for all of x, of which the worst is kept. The vector functions find what may be worse
// than that, libm in double decides: it errs by less than a millionth of an f32's unit.
void compare(const Unary &u, Function &f, std::vector<float> &x, std::vector<float> &z,
             std::vector<float> &y, Worst &worst) {
  const auto from = std::chrono::steady_clock::now();
  f.run(x, z, y);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - from;
  worst.seconds = std::min(worst.seconds, took.count());
  for (size_t i = 0; i < size_t(kChunk); i += 4) {
    double a[4], q[4];
    for (int l = 0; l < 4; ++l) a[l] = meaning(u, x[i + size_t(l)]);
    if (u.quick) u.quick(a, q);
    for (int l = 0; l < 4; ++l) {
      const float got = y[i + size_t(l)];
      if (u.quick) {
        const double want = q[l];
        if (float(want) == got || (got == 0 && std::fabs(want) < 0x1p-126)) continue;
        const uint64_t power = std::bit_cast<uint64_t>(want) & 0x7ff0000000000000;
        const double unit = std::bit_cast<double>(power) * 0x1p-23;
        if (std::fabs(want) >= 0x1p-126 && std::fabs(got - want) < (worst.error - 1e-6) * unit)
          continue;
      }
      const double e = ulps(got, u.exact(a[l]));
      if (!(e <= worst.error)) worst = {e, x[i + size_t(l)], 0, got, worst.seconds};
    }
  }
}

void report(const Unary &u, const Worst &w) {
  INFO(u.name << ": " << w.error << " ulp at " << w.x << ", got " << w.got);
  if (std::getenv("NNC_PRINT_ULPS")) {
    std::printf("%-8s %.3f ulp at %.9g, %.2f ns for 16\n", u.name, w.error, w.x,
                w.seconds * 1e9 * 16 / double(kChunk));
    std::fflush(stdout);
  }
  CHECK(w.error <= u.bound);
}

// Every 1021st number, and where something changes: zeros, infinities, NaN, the largest and the
// smallest numbers, thresholds of overflow and of choices in the formulas, and halfway points of
// the reductions (multiples of ln2 / 2 and of pi / 4), each with its neighbours.
std::vector<float> wholeRange() {
  std::vector<float> v;
  for (uint64_t bits = 0; bits < (uint64_t(1) << 32); bits += 1021)
    v.push_back(std::bit_cast<float>(uint32_t(bits)));
  std::vector<double> edges = {0,
                               1,
                               2,
                               0.5,
                               0.25,
                               88.7228317,
                               89.4159851,
                               87.3365402,
                               103.97,
                               9,
                               10,
                               18,
                               20,
                               0.92773438,
                               4,
                               0.41421357,
                               2.4142137,
                               0.66,
                               1e9,
                               1e15,
                               1e-3,
                               1e-10,
                               1e-20,
                               INFINITY,
                               NAN,
                               0x1p50,
                               0x1p49,
                               0x1p-24,
                               0x1p-25,
                               0x1p-26,
                               0x1p24,
                               0.70710678,
                               1.4142135,
                               105615,
                               3.4028234663852886e38,
                               1.17549435e-38,
                               1.4e-45,
                               1.1754942e-38};
  for (int i = 1; i <= 300; ++i) {
    edges.push_back(i * 0.34657359027997264); // exponentials
    edges.push_back(i * 0.78539816339744831); // angles
    edges.push_back(std::exp2(i % 250 - 125));
    edges.push_back(std::exp2(i % 250 - 125) * 1.4142135623730951); // logarithms
  }
  for (double e : edges)
    for (float x : {float(e), -float(e)})
      v.insert(v.end(), {x, std::nextafter(x, INFINITY), std::nextafter(x, -INFINITY)});
  return v;
}

} // namespace

TEST_CASE("elementary functions over the whole f32 range", "[codegen][math]") {
  const std::vector<float> all = wholeRange();
  for (const Unary &u : kUnary) {
    Function f(u.op, DType::f32, false);
    std::vector<float> x(kChunk), z(kChunk), y(kChunk);
    Worst worst;
    for (size_t at = 0; at < all.size(); at += kChunk) {
      for (size_t i = 0; i < size_t(kChunk); ++i) x[i] = all[std::min(at + i, all.size() - 1)];
      compare(u, f, x, z, y, worst);
    }
    report(u, worst);
  }
}

#if !defined(__SANITIZE_ADDRESS__) // minutes for each function without sanitizers, too
TEST_CASE("elementary functions of every f32", "[.slow]") {
  for (const Unary &u : kUnary) {
    if (const char *only = std::getenv("NNC_FUNCTION"); only && u.name != std::string(only))
      continue;
    std::atomic<uint64_t> next{0};
    std::mutex mutex;
    Worst worst;
    auto work = [&] {
      Function f(u.op, DType::f32, false);
      std::vector<float> x(kChunk), z(kChunk), y(kChunk);
      Worst mine;
      for (uint64_t at; (at = next.fetch_add(kChunk)) < uint64_t(1) << 32;) {
        for (size_t i = 0; i < size_t(kChunk); ++i) x[i] = std::bit_cast<float>(uint32_t(at + i));
        compare(u, f, x, z, y, mine);
      }
      const std::lock_guard lock(mutex);
      if (!(mine.error <= worst.error)) worst = mine;
    };
    std::vector<std::thread> threads;
    for (unsigned t = 1; t < std::thread::hardware_concurrency(); ++t) threads.emplace_back(work);
    work();
    for (std::thread &t : threads) t.join();
    report(u, worst);
  }
}
#endif

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
  DOUBLE_CASE(rsqrt, 1 / std::sqrt(x), 1e-3, 1e3, 1.5)
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
