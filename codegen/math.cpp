// Elementary functions as polynomials in scalar operations.
//
// Problem. A kernel's exp or tanh runs on 16 lanes at a time, in LLVM and on other targets alike,
// and must have the same bits in each; vector math libraries differ by version and do not fuse.
//
//   sigmoid(x)  ->  1 / (1 + exp(0 - x))
//   exp(x)      ->  n = round(x / ln2), r = x - n ln2, (1 + r + r^2 p(r)) * 2^n
//
// Method. The classical reductions, branch-free: both sides of a case are computed and selected.
// The coefficients are those of Cephes (S. Moshier: expf, logf, sinf, cosf, asinf, atanf; exp, log,
// sin, cos, atan) and for erf those of N. Juffa; fma in polynomials and reductions only. Rounding
// to an integer and 2^n come from the bits of x + 1.5 * 2^23 (2^52), which a saturating conversion
// would make slower.
//
// The errors are bounded by the table in docs/internals.md, which codegen_math_test holds to; sin,
// cos and tan take arguments beyond 2^50 for 0. Results below the smallest normal number flush to
// zero, as everywhere.
#include "codegen/math.h"
#include <cmath>
#include <limits>

namespace nnc::cg {

namespace {

// An expression under construction; operators build.
struct E {
  Kernel *k = nullptr;
  ExprId id = -1;
  DType type() const { return k->exprs[size_t(id)].type; }
};

E make(SOp op, DType t, std::initializer_list<E> args) {
  Expr e;
  e.op = op;
  e.type = t;
  for (const E &a : args) e.args.push_back(a.id);
  Kernel *k = args.begin()->k;
  return {k, k->expr(std::move(e))};
}
E number(E like, double v) {
  Expr e;
  e.op = SOp::constant;
  e.type = like.type();
  e.value = e.type == DType::f32 ? double(float(v)) : v;
  return {like.k, like.k->expr(std::move(e))};
}
E operator+(E a, E b) { return make(SOp::add, a.type(), {a, b}); }
E operator-(E a, E b) { return make(SOp::sub, a.type(), {a, b}); }
E operator*(E a, E b) { return make(SOp::mul, a.type(), {a, b}); }
E operator/(E a, E b) { return make(SOp::div, a.type(), {a, b}); }
E operator+(E a, double b) { return a + number(a, b); }
E operator-(E a, double b) { return a - number(a, b); }
E operator*(E a, double b) { return a * number(a, b); }
E operator-(double a, E b) { return number(b, a) - b; }
E operator/(double a, E b) { return number(b, a) / b; }
E fma(E a, E b, E c) { return make(SOp::fma, a.type(), {a, b, c}); }
E fma(E a, double b, E c) { return fma(a, number(a, b), c); }
E fma(E a, E b, double c) { return fma(a, b, number(a, c)); }
E abs(E a) { return make(SOp::abs, a.type(), {a}); }
E sqrt(E a) { return make(SOp::sqrt, a.type(), {a}); }
E floor(E a) { return make(SOp::floor, a.type(), {a}); }
E compare(SOp op, E a, E b) { return make(op, DType::boolean, {a, b}); }
E operator<(E a, double b) { return compare(SOp::lt, a, number(a, b)); }
E operator>(E a, double b) { return compare(SOp::gt, a, number(a, b)); }
E operator>(E a, E b) { return compare(SOp::gt, a, b); }
E equals(E a, double b) { return compare(SOp::eq, a, number(a, b)); }
E equals(E a, E b) { return compare(SOp::eq, a, b); }
E both(E a, E b) { return make(SOp::land, DType::boolean, {a, b}); }
E either(E a, E b) { return make(SOp::lor, DType::boolean, {a, b}); }
E isNan(E a) { return make(SOp::isNan, DType::boolean, {a}); }
E select(E c, E a, E b) { return make(SOp::select, a.type(), {c, a, b}); }
E select(E c, double a, E b) { return select(c, number(b, a), b); }
E select(E c, E a, double b) { return select(c, a, number(a, b)); }
E convert(E a, DType t) { return make(SOp::convert, t, {a}); }
E bits(E a) { return make(SOp::bitcast, a.type() == DType::f64 ? DType::i64 : DType::i32, {a}); }
E fromBits(E a) {
  return make(SOp::bitcast, a.type() == DType::i64 ? DType::f64 : DType::f32, {a});
}
E shl(E a, int by) { return make(SOp::shl, a.type(), {a, number(a, by)}); }
E shr(E a, int by) { return make(SOp::shr, a.type(), {a, number(a, by)}); }
E iand(E a, double b) { return make(SOp::iand, a.type(), {a, number(a, b)}); }

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

bool isF64(E x) { return x.type() == DType::f64; }

// Coefficients of the highest power first.
E polynomial(E x, std::initializer_list<double> c) {
  E p = number(x, *c.begin());
  for (auto i = c.begin() + 1; i != c.end(); ++i) p = fma(p, x, *i);
  return p;
}

E copySign(E magnitude, E sign) { // magnitude >= 0
  const bool wide = isF64(sign);
  E s = iand(bits(sign), wide ? double(INT64_MIN) : double(INT32_MIN));
  return fromBits(make(SOp::ior, s.type(), {bits(magnitude), s}));
}

// --- exponentials --------------------------------------------------------------------------------

// x = n ln2 + r, |r| <= ln2 / 2: expm1(r), and n in the low bits of `n`.
struct Reduced {
  E p, n;
};
Reduced reduceExp(E x) {
  const double magic = isF64(x) ? 0x1.8p52 : 0x1.8p23;
  E z = fma(x, 1.4426950408889634, number(x, magic));
  E n = z - magic;
  if (isF64(x)) {
    E r = fma(n, -6.93145751953125e-1, x);
    r = fma(n, -1.42860682030941723212e-6, r);
    E rr = r * r;
    E px = r * polynomial(rr, {1.26177193074810590878e-4, 3.02994407707441961300e-2,
                               9.99999999999999999910e-1});
    E q = polynomial(
        rr, {3.00198505138664455042e-6, 2.52448340349684104192e-3, 2.27265548208155028766e-1, 2.0});
    E e = px / (q - px);
    return {e + e, bits(z)};
  }
  E r = fma(n, -0.693359375, x);
  r = fma(n, 2.12194440e-4, r);
  E p = polynomial(r, {1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2,
                       1.6666665459e-1, 5.0000001201e-1});
  return {fma(p, r * r, r), bits(z)};
}

E exp(E x) {
  const bool wide = isF64(x);
  auto [p, n] = reduceExp(x);
  E y = fromBits(bits(p + 1.0) + shl(n, wide ? 52 : 23));
  y = select(x > (wide ? 709.782712893384 : 88.7228317), kInf, y);
  y = select(x < (wide ? -708.3964185322641 : -87.3365402), 0.0, y);
  return select(isNan(x), x, y);
}

// 2^n p + (2^n - 1), with half of 2^n because n may be 128.
E expm1(E x) {
  const bool wide = isF64(x);
  auto [p, n] = reduceExp(x);
  E half = fromBits(shl(n, wide ? 52 : 23) +
                    number(n, wide ? double(int64_t(1022) << 52) : double(126 << 23)));
  E y = fma(half, p, half - 0.5);
  y = y + y;
  y = select(x > (wide ? 709.782712893384 : 88.7228317), kInf, y);
  y = select(x < (wide ? -38.0 : -18.0), -1.0, y);
  y = select(abs(x) < (wide ? 0x1p-54 : 0x1p-26), x, y); // half of it could flush
  return select(isNan(x), x, y);
}

E sigmoid(E x) { return 1.0 / (exp(0.0 - x) + 1.0); }

E tanh(E x) {
  const double most = isF64(x) ? 20.0 : 10.0;
  E a = abs(x);
  E t = expm1(select(a > most, number(a, 2 * most), a + a));
  return copySign(select(isNan(x), abs(x), t / (t + 2.0)), x);
}

// Beyond 9 both are exp(a) / 2, by the square of a root because exp overflows earlier.
E hyperbolic(E x, bool odd) {
  E a = abs(x);
  E h = exp(a * 0.5);
  E large = h * 0.5 * h;
  E y{};
  if (odd) {
    E t = expm1(a);
    y = (t + t / (t + 1.0)) * 0.5;
  } else {
    E e = h * h;
    y = (e + 1.0 / e) * 0.5;
  }
  y = select(a > (isF64(x) ? 20.0 : 9.0), large, y);
  return odd ? copySign(y, x) : y;
}

// --- logarithms ----------------------------------------------------------------------------------

E log(E x) {
  const bool wide = isF64(x);
  // x = m 2^e with m in [sqrt(1/2), sqrt(2))
  E i = bits(x);
  E e = shr(i - (wide ? double(0x3fe6a09e00000000) : double(0x3f3504f3)), wide ? 52 : 23);
  E m = fromBits(i - shl(e, wide ? 52 : 23));
  E f = m - 1.0, z = f * f;
  E n = convert(e, x.type());
  E y{};
  if (wide) {
    E p = polynomial(f, {1.01875663804580931796e-4, 4.97494994976747001425e-1,
                         4.70579119878881725854e0, 1.44989225341610930846e1,
                         1.79368678507819816313e1, 7.70838733755885391666e0});
    E q = polynomial(f, {1.0, 1.12873587189167450590e1, 4.52279145837532221105e1,
                         8.29875266912776603211e1, 7.11544750618563894466e1,
                         2.31251620126765340583e1});
    y = f * (z * p / q);
  } else {
    y = polynomial(f, {7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1,
                       1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1,
                       3.3333331174e-1});
    y = y * f * z;
  }
  y = fma(n, -2.121944400546905827679e-4, y);
  y = fma(z, -0.5, y);
  y = fma(n, 0.693359375, f + y);
  y = select(equals(x, kInf), x, y);
  y = select(x > 0.0, y, number(x, kNan));
  return select(equals(x, 0.0), -kInf, y);
}

// log of the rounded u = 1 + x, and what the rounding lost.
E log1p(E x) {
  E u = x + 1.0;
  E y = log(u) + (x - (u - 1.0)) / u;
  y = select(equals(x, kInf), x, y);
  return select(equals(x, -1.0), -kInf, y);
}

// --- powers --------------------------------------------------------------------------------------

bool isConstant(E x, double &v) {
  const Expr &e = x.k->exprs[size_t(x.id)];
  v = e.value;
  return e.op == SOp::constant;
}

// Through f64, so that the product with a large exponent keeps all bits of an f32 result.
E pow(E a, E b) {
  double c = 0;
  if (isConstant(b, c)) {
    if (c == 1) return a;
    if (c == 2) return a * a;
    if (c == -1) return 1.0 / a;
  }
  const DType t = a.type();
  E x = convert(a, DType::f64), y = convert(b, DType::f64);
  E m = abs(x);
  E r = exp(y * log(m));
  E whole = equals(floor(y), y), half = y * 0.5;
  E odd = both(whole, make(SOp::lnot, DType::boolean, {equals(floor(half), half)}));
  odd = both(odd, abs(y) < 0x1p53);
  E negative = bits(x) < 0.0;
  r = select(both(negative, odd), 0.0 - r, r);
  // A finite negative number has only whole powers; infinite powers count as whole.
  r = select(both(both(x < 0.0, m < kInf), make(SOp::lnot, DType::boolean, {whole})), kNan, r);
  r = select(both(equals(m, 1.0), equals(abs(y), kInf)), 1.0, r);
  r = select(either(equals(y, 0.0), equals(x, 1.0)), 1.0, r);
  return convert(r, t);
}

// --- trigonometry --------------------------------------------------------------------------------

// x = q pi/2 + r, in f64: exact enough for every f32 below 2^50. Larger arguments count as 0.
struct Quadrant {
  E sin, cos; // of r
  E q;        // integer; its two low bits count
  E poison;   // 0, or NaN where x is not finite
};
Quadrant reduceTurn(E x) {
  E w = convert(x, DType::f64);
  w = select(abs(w) < 0x1p50, w, 0.0);
  E z = fma(w, 0.63661977236758134308, number(w, 0x1.8p52));
  E n = z - 0x1.8p52;
  E r = fma(n, -1.57079632679489655800, w);
  r = fma(n, -6.12323399573676603587e-17, r);
  Quadrant t;
  t.q = convert(bits(z), DType::i32);
  t.poison = x - x;
  if (isF64(x)) {
    E rr = r * r;
    E s = polynomial(rr, {1.58962301576546568060e-10, -2.50507477628578072866e-8,
                          2.75573136213857245213e-6, -1.98412698295895385996e-4,
                          8.33333333332211858878e-3, -1.66666666666666307295e-1});
    E c = polynomial(rr, {-1.13585365213876817300e-11, 2.08757008419747316778e-9,
                          -2.75573141792967388112e-7, 2.48015872888517045348e-5,
                          -1.38888888888730564116e-3, 4.16666666666665929218e-2});
    t.sin = fma(s * rr, r, r);
    t.cos = fma(c, rr * rr, fma(rr, -0.5, number(rr, 1.0)));
    return t;
  }
  E f = convert(r, DType::f32), ff = f * f;
  E s = polynomial(ff, {-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1});
  E c = polynomial(ff, {2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2});
  t.sin = fma(s * ff, f, f);
  t.cos = fma(c, ff * ff, fma(ff, -0.5, number(ff, 1.0)));
  return t;
}

E sinOrCos(E x, int quarter) {
  Quadrant t = reduceTurn(x);
  E q = quarter ? t.q + number(t.q, quarter) : t.q;
  E y = select(equals(iand(q, 1), 0.0), t.sin, t.cos);
  return select(equals(iand(q, 2), 0.0), y, 0.0 - y) + t.poison;
}

E tan(E x) {
  Quadrant t = reduceTurn(x);
  E even = equals(iand(t.q, 1), 0.0);
  return select(even, t.sin, 0.0 - t.cos) / select(even, t.cos, t.sin) + t.poison;
}

// Of a >= 0: by the reciprocal beyond tan(3 pi / 8), by (a - 1) / (a + 1) beyond tan(pi / 8).
E atanPositive(E a) {
  E large = a > 2.414213562373095, middle = a > (isF64(a) ? 0.66 : 0.4142135623730950);
  E top = select(large, -1.0, select(middle, a - 1.0, a));
  E under = select(large, a, select(middle, a + 1.0, number(a, 1.0)));
  E x = top / under, z = x * x;
  E p{};
  if (isF64(a)) {
    p = polynomial(z, {-8.750608600031904122785e-1, -1.615753718733365076637e1,
                       -7.500855792314704667340e1, -1.228866684490136173410e2,
                       -6.485021904942025371773e1}) *
        z /
        polynomial(z, {1.0, 2.485846490142306297962e1, 1.650270098316988542046e2,
                       4.328810604912902668951e2, 4.853903996359136964868e2,
                       1.945506571482613964425e2});
  } else {
    p = polynomial(z, {8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1}) *
        z;
  }
  E y = fma(p, x, x);
  E from = select(large, number(a, 1.5707963267948966),
                  select(middle, number(a, 0.7853981633974483), 0.0));
  E rest = select(large, number(a, 6.123233995736766e-17),
                  select(middle, number(a, 3.061616997868383e-17), 0.0));
  return isF64(a) ? from + (y + rest) : from + y;
}

E atan(E x) { return copySign(atanPositive(abs(x)), x); }

E atan2(E y, E x) {
  E ax = abs(x), ay = abs(y);
  E small = make(SOp::min, x.type(), {ax, ay}), large = make(SOp::max, x.type(), {ax, ay});
  E q = small / large;
  q = select(equals(large, 0.0), 0.0, q);
  q = select(equals(small, kInf), 1.0, q);
  E r = atanPositive(q);
  r = select(ay > ax, 1.5707963267948966 - r, r);
  r = select(bits(x) < 0.0, 3.141592653589793 - r, r);
  r = copySign(r, y);
  return select(either(isNan(x), isNan(y)), x + y, r);
}

// |x| > 1/2: asin(a) = pi/2 - 2 asin(sqrt((1 - a) / 2)). Beyond 1 the root is NaN.
struct ArcSine {
  E small, root; // asin of x where |x| <= 1/2; asin of the root where it is not
  E isLarge;
};
ArcSine arcSine(E x) {
  E a = abs(x);
  ArcSine r;
  r.isLarge = a > 0.5;
  E z = select(r.isLarge, (1.0 - a) * 0.5, a * a);
  E s = select(r.isLarge, sqrt(z), a);
  E p = polynomial(
      z, {4.2163199048e-2, 2.4181311049e-2, 4.5470025998e-2, 7.4953002686e-2, 1.6666752422e-1});
  r.small = r.root = fma(p * z, s, s);
  return r;
}

E asin(E x) {
  if (isF64(x)) return atan2(x, sqrt((1.0 - x) * (x + 1.0)));
  ArcSine r = arcSine(x);
  return copySign(select(r.isLarge, 1.5707963267948966 - (r.root + r.root), r.small), x);
}

E acos(E x) {
  if (isF64(x)) return atan2(sqrt((1.0 - x) * (x + 1.0)), x);
  ArcSine r = arcSine(x);
  E twice = r.root + r.root;
  E large = select(x < 0.0, 3.141592653589793 - twice, twice);
  return select(r.isLarge, large, 1.5707963267948966 - copySign(r.small, x));
}

// --- the error function --------------------------------------------------------------------------

// f64: the Taylor series below 1, W. J. Cody's quotient for exp(x^2) erfc(x) above (Math. Comp. 23,
// 1969).
E erfF64(E x) {
  E t = abs(x), s = x * x;
  double c[19], factorial = 1; // (-1)^n 2/sqrt(pi) / (n! (2n + 1))
  for (int n = 0; n < 19; ++n) {
    factorial *= n ? n : 1;
    c[n] = 1.1283791670955125739 / (factorial * (2 * n + 1)) * (n % 2 ? -1 : 1);
  }
  E series = number(x, c[18]);
  for (int n = 18; n-- > 0;) series = fma(series, s, c[n]);
  E p = polynomial(t, {2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0,
                       6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
                       1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3});
  E q = polynomial(t, {1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
                       1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
                       3.43936767414372164e3, 1.23033935480374942e3});
  E large = 1.0 - exp(0.0 - s) * (p / q);
  large = copySign(select(t > 6.0, 1.0, large), x);
  return select(isNan(x), x, select(t < 1.0, series * x, large));
}

E erf(E x) {
  if (isF64(x)) return erfF64(x);
  E t = abs(x), s = x * x;
  E r = fma(number(t, -1.72853470e-5), t, 3.83197126e-4);
  E u = fma(number(t, -3.88396438e-3), t, 2.42546219e-2);
  r = fma(r, s, u);
  r = fma(r, t, -1.06777877e-1);
  r = fma(r, t, -6.34846687e-1);
  r = fma(r, t, -1.28717512e-1);
  r = fma(r, t, 0.0 - t);
  E large = copySign(1.0 - exp(select(t > 4.0, -100.0, r)), x);
  E p = polynomial(s, {-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1,
                       1.28379166e-1});
  E small = fma(p, x, x);
  return select(isNan(x), x, select(t > 0.927734375, large, small));
}

E sign(E x) {
  E s = select(x > 0.0, 1.0, select(x < 0.0, -1.0, x));
  return select(equals(x, 0.0), 0.0, s);
}

// --- the rewriting -------------------------------------------------------------------------------

ExprId expand(SOp op, E x, E y) {
  switch (op) {
  case SOp::exp: return exp(x).id;
  case SOp::expm1: return expm1(x).id;
  case SOp::log: return log(x).id;
  case SOp::log1p: return log1p(x).id;
  case SOp::rsqrt: return (1.0 / sqrt(x)).id;
  case SOp::sin: return sinOrCos(x, 0).id;
  case SOp::cos: return sinOrCos(x, 1).id;
  case SOp::tan: return tan(x).id;
  case SOp::asin: return asin(x).id;
  case SOp::acos: return acos(x).id;
  case SOp::atan: return atan(x).id;
  case SOp::sinh: return hyperbolic(x, true).id;
  case SOp::cosh: return hyperbolic(x, false).id;
  case SOp::tanh: return tanh(x).id;
  case SOp::sigmoid: return sigmoid(x).id;
  case SOp::erf: return erf(x).id;
  case SOp::sign: return sign(x).id;
  case SOp::pow: return pow(x, y).id;
  case SOp::atan2: return atan2(x, y).id;
  default: return -1;
  }
}

// Operands first: a rewritten expression refers to rewritten ones.
struct Expander {
  Kernel &k;
  std::vector<ExprId> done;

  ExprId of(ExprId id) {
    if (id < 0) return id;
    if (done[size_t(id)] >= 0) return done[size_t(id)];
    Expr e = k.exprs[size_t(id)];
    bool changed = false;
    for (ExprId &a : e.args) {
      const ExprId was = a;
      a = of(a);
      changed = changed || a != was;
    }
    ExprId result = -1;
    if (ir::isFloat(e.type) && !e.args.empty())
      result = expand(e.op, {&k, e.args[0]}, {&k, e.args.size() > 1 ? e.args[1] : e.args[0]});
    if (result < 0) result = changed ? k.expr(std::move(e)) : id;
    return done[size_t(id)] = result;
  }
};

} // namespace

void expandMath(Kernel &k) {
  Expander x{k, std::vector<ExprId>(k.exprs.size(), -1)};
  for (Stage &s : k.stages) s.body = x.of(s.body);
  k.contract.a = x.of(k.contract.a), k.contract.b = x.of(k.contract.b);
  k.scatter.index = x.of(k.scatter.index), k.scatter.update = x.of(k.scatter.update);
  k.sort.value = x.of(k.sort.value);
  for (ChainStep &s : k.chain.steps)
    if (s.b >= 0) s.b = x.of(s.b);
  for (ExprId &e : k.chain.hidden.zeros) e = x.of(e);
  for (Atom &a : k.atoms)
    if (a.kind == Atom::Value) a.value = x.of(a.value);
}

} // namespace nnc::cg
