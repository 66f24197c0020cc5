// The names of ops.def's formulas for ir::V: writing `y * cos(x)` appends the nodes that compute
// it.
//
// One function per pointwise row (generated), and the helpers that are no rows of their own. For
// the differentiation and the rewrite rules; scalar_math.h has the same names for numbers.
#pragma once
#include "ir/builder.h"

namespace nnc::ir {

#define FORMULA1_F(name)                                                                           \
  inline V name(V x) { return x.b->unary(Op::name##_, x); }
#define FORMULA1_N(name) FORMULA1_F(name)
#define FORMULA1_B(name) // `not`, `and`, `or` are words of C++: see the operators below
#define FORMULA2_F(name)                                                                           \
  inline V name(V a, V b) { return a.b->binary(Op::name##_, a, b); }
#define FORMULA2_N(name) FORMULA2_F(name)
#define FORMULA2_B(name)
#define UNARY(name, cls, ...) FORMULA1_##cls(name)
#define BINARY(name, cls, ...) FORMULA2_##cls(name)
#define COMPARE(name, ...) FORMULA2_F(name)
#include "ir/ops.def"
#undef FORMULA1_F
#undef FORMULA1_N
#undef FORMULA1_B
#undef FORMULA2_F
#undef FORMULA2_N
#undef FORMULA2_B

inline V operator!(V x) { return x.b->unary(Op::not_, x); }
inline V operator&&(V a, V b) { return a.b->binary(Op::and_, a, b); }
inline V operator||(V a, V b) { return a.b->binary(Op::or_, a, b); }
inline V select(V c, V a, V b) { return c.b->select(c, a, b); }
inline V select(V c, double a, V b) { return c.b->select(c, c.b->like(a, b), b); }
inline V select(V c, V a, double b) { return c.b->select(c, a, c.b->like(b, a)); }

inline V like(V x, double v) { return x.b->like(v, x); }
// 1 where a > b, 1/2 where they are equal, else 0.
inline V halfStep(V a, V b) { return select(gt(a, b), 1.0, select(eq(a, b), 0.5, like(a, 0.0))); }
// log where a > 0, else 0. The inner select keeps the derivative finite too: 0 * (1 / 0) is NaN.
inline V safeLog(V a) { return log(select(gt(a, like(a, 0.0)), a, 1.0)); }
// b - 1, but 1 where b = 0: b * pow(a, lessOne(b)) is 0 there, also at a = 0.
inline V lessOne(V b) { return select(eq(b, like(b, 0.0)), 1.0, b - 1.0); }

} // namespace nnc::ir
