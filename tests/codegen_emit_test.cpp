// Compiled kernels against the plain evaluation of their definition, bit by bit (kernel_check.h).
#include "tests/kernel_check.h"

using namespace nnc;
using namespace nnc::test;

// --- elementwise ---------------------------------------------------------------------------------

TEST_CASE("a bias and a ReLU over partial rows", "[codegen][emit]") {
  const int64_t columns = GENERATE(1, 3, 16, 29, 300);
  const int64_t batch = GENERATE(1, 7, 64);
  KernelBuild b(batch);
  auto x = b.arg(DType::f32, {Dim::batch(), columns}), bias = b.arg(DType::f32, {columns});
  auto y = b.arg(DType::f32, {Dim::batch(), columns}, true, false);
  auto r = b.axis("r", Dim::batch()), c = b.axis("c", columns);
  b.k.parallel = {r, c};
  auto at = b.at(r, columns) + b.at(c);
  auto z = b.op(SOp::add, {b.load(x, at), b.load(bias, b.at(c))});
  auto pos = b.op(SOp::le, {z, b.num(0)}, DType::boolean);
  b.stage(b.op(SOp::select, {pos, b.num(0), z}));
  b.to(y, at);
  Data d;
  d.special = true;
  check(b.k, batchSizes(batch), d);
}

TEST_CASE("arithmetic of every element type", "[codegen][emit]") {
  const DType t = GENERATE(DType::f32, DType::f64, DType::i64, DType::i32, DType::u32, DType::u8);
  KernelBuild b;
  auto x = b.arg(t, {37}), y = b.arg(t, {37});
  auto i = b.axis("i", 37);
  b.k.parallel = {i};
  auto p = b.load(x, b.at(i)), q = b.load(y, b.at(i));
  std::vector<SOp> ops = {SOp::add, SOp::sub, SOp::mul, SOp::idiv, SOp::imod, SOp::max, SOp::min};
  if (ir::isFloat(t)) ops.push_back(SOp::div);
  for (SOp o : ops) {
    auto out = b.arg(t, {37}, true, false);
    b.stage(b.op(o, {p, q}, t));
    b.to(out, b.at(i));
  }
  for (SOp o : {SOp::eq, SOp::ne, SOp::lt, SOp::le, SOp::gt, SOp::ge}) {
    auto out = b.arg(DType::boolean, {37}, true, false);
    b.stage(b.op(o, {p, q}, DType::boolean));
    b.to(out, b.at(i));
  }
  for (SOp o : {SOp::neg, SOp::abs, SOp::sign, SOp::floor, SOp::ceil, SOp::round}) {
    if (t == DType::u8 && o == SOp::neg) continue;
    auto out = b.arg(t, {37}, true, false);
    b.stage(b.op(o, {p}, t));
    b.to(out, b.at(i));
  }
  Data d;
  d.special = true;
  d.integers = 5; // zeros and repeats
  check(b.k, {1}, d);
}

TEST_CASE("conversions between all element types", "[codegen][emit]") {
  const DType from = DType(GENERATE(range(0, ir::kDTypeCount)));
  KernelBuild b;
  auto x = b.arg(from, {45});
  auto i = b.axis("i", 45);
  b.k.parallel = {i};
  auto v = b.load(x, b.at(i));
  for (int t = 0; t < ir::kDTypeCount; ++t) {
    const DType to = DType(t);
    auto out = b.arg(to, {45}, true, false);
    b.stage(b.op(SOp::convert, {v}, to));
    b.to(out, b.at(i));
  }
  Data d;
  d.special = true;
  d.range = GENERATE(3.0, 1e4, 1e20);
  check(b.k, {1}, d);
}

TEST_CASE("values are rounded to bf16 alike on every target", "[codegen][emit]") {
  KernelBuild b(41);
  auto x = b.arg(DType::f32, {Dim::batch(), 19}),
       y = b.arg(DType::bf16, {Dim::batch(), 19}, true, false),
       z = b.arg(DType::f32, {Dim::batch(), 19}, true, false);
  auto i = b.axis("i", Dim::batch()), j = b.axis("j", 19);
  b.k.parallel = {i, j};
  const ExprId v = b.op(SOp::mul, {b.load(x, b.at(i, 19) + b.at(j)), b.num(1.1)});
  b.stage(v); // stored, and rounded on the way to something else
  b.to(y, b.at(i, 19) + b.at(j));
  b.stage(b.op(SOp::add, {b.op(SOp::convert, {b.op(SOp::convert, {v}, DType::bf16)}), b.num(1)}));
  b.to(z, b.at(i, 19) + b.at(j));
  Data data;
  for (bool special : {false, true}) {
    data.special = special;
    check(b.k, {41, 3}, data);
  }
}

TEST_CASE("sums of many columns, of bf16 and rounded to bf16", "[codegen][emit]") {
  const DType from = GENERATE(DType::f32, DType::bf16);
  KernelBuild b(41);
  auto x = b.arg(from, {Dim::batch(), 300}), y = b.arg(DType::bf16, {300}, true, false),
       z = b.arg(DType::f32, {300}, true, false);
  auto r = b.axis("r", Dim::batch()), c = b.axis("c", 300);
  b.k.parallel = {c};
  b.stage(b.load(x, b.at(r, 300) + b.at(c)), Combine::sum, {r}, 1);
  b.to(y, b.at(c));
  b.stage(b.op(SOp::add,
               {b.op(SOp::convert, {b.op(SOp::convert, {b.local(0)}, DType::bf16)}), b.num(1)}));
  b.to(z, b.at(c));
  Data data;
  for (bool special : {false, true}) {
    data.special = special;
    check(b.k, {41, 3}, data);
  }
}

TEST_CASE("random draws are Philox's words", "[codegen][emit]") {
  const int64_t columns = GENERATE(5, 40);
  KernelBuild b(6);
  auto y = b.arg(DType::f32, {Dim::batch(), columns}, true, false);
  auto r = b.axis("r", Dim::batch()), c = b.axis("c", columns);
  b.k.parallel = {r, c};
  auto at = b.at(r, columns) + b.at(c);
  b.stage(b.random(ir::siteHash("net/dropout"), at));
  b.to(y, at);
  check(b.k, {6, 5});
}

// --- accesses ------------------------------------------------------------------------------------

TEST_CASE("transposed, reversed, strided and broadcast reads", "[codegen][emit]") {
  const DType t = GENERATE(DType::f32, DType::f64, DType::u8, DType::bf16, DType::i64);
  KernelBuild b;
  auto x = b.arg(t, {21, 35});
  auto i = b.axis("i", 21), j = b.axis("j", 35), h = b.axis("h", 17);
  (void)h;
  b.k.parallel = {i, j};
  const DType v = t == DType::bf16 ? DType::f32 : t;
  auto read = [&](Index at) {
    auto out = b.arg(v, {21, 35}, true, false);
    b.stage(b.load(x, at));
    b.to(out, b.at(i, 35) + b.at(j));
  };
  read(b.at(i) + b.at(j, 21));                        // transposed
  read(b.at(i, 35) + b.at(j, -1) + constIndex(34));   // reversed
  read(b.at(i, -35) + b.at(j) + constIndex(20 * 35)); // reversed rows
  read(b.at(i));                                      // broadcast
  read(b.at(j));
  read(constIndex(17));
  check(b.k);
}

TEST_CASE("padding reads zeros and touches nothing", "[codegen][emit]") {
  const DType t = GENERATE(DType::f32, DType::u8, DType::f16);
  KernelBuild b;
  auto x = b.arg(t, {9, 20});
  const DType v = t == DType::f16 ? DType::f32 : t;
  auto y = b.arg(v, {13, 27}, true, false);
  auto i = b.axis("i", 13), j = b.axis("j", 27);
  b.k.parallel = {i, j};
  Index row = b.at(i) + constIndex(-2), column = b.at(j) + constIndex(-3);
  b.stage(b.load(x, row * 20 + column, {{row, 0, Dim(9)}, {column, 0, Dim(20)}}));
  b.to(y, b.at(i, 27) + b.at(j));
  auto z = b.arg(v, {9, 20}, true, false); // and stores outside are dropped
  b.stage(b.load(x, constIndex(5)));
  b.to(z, row * 20 + column, 0, {{row, 0, Dim(9)}, {column, 0, Dim(20)}});
  check(b.k);
}

TEST_CASE("windows with strides, by guards and divisions", "[codegen][emit]") {
  // y[i, u] = x[2i + 3u - 4], and its overlap-add written as a division
  KernelBuild b;
  auto x = b.arg(DType::f32, {40});
  auto y = b.arg(DType::f32, {20, 5}, true, false), z = b.arg(DType::f32, {51}, true, false);
  auto i = b.axis("i", 20), u = b.axis("u", 5), h = b.axis("h", 51);
  b.k.parallel = {i, u};
  Index p = b.at(i, 2) + b.at(u, 3) + constIndex(-4);
  b.stage(b.load(x, p, {{p, 0, Dim(40)}}));
  b.to(y, b.at(i, 5) + b.at(u));
  KernelBuild c;
  c.k = b.k;
  c.k.stages.clear();
  c.k.parallel = {h};
  Index q = divIndex(c.k, c.at(h) + constIndex(-7), 3),
        m = modIndex(c.k, c.at(h) + constIndex(-7), 4);
  c.stage(c.op(SOp::add, {c.load(x, q, {{q, 0, Dim(12)}}), c.load(x, m)}));
  c.to(z, c.at(h));
  check(b.k);
  check(c.k);
}

TEST_CASE("gather clamps its indices", "[codegen][emit]") {
  const DType t = GENERATE(DType::i32, DType::i64);
  const int64_t width = GENERATE(1, 24);
  KernelBuild b(11);
  auto table = b.arg(DType::f32, {30, width}), index = b.arg(t, {Dim::batch()});
  auto y = b.arg(DType::f32, {Dim::batch(), width}, true, false);
  auto r = b.axis("r", Dim::batch()), c = b.axis("c", width);
  b.k.parallel = {r, c};
  Index row = b.value(b.load(index, b.at(r)), Dim(30));
  b.stage(b.load(table, row * width + b.at(c)));
  b.to(y, b.at(r, width) + b.at(c));
  Data d;
  d.integers = 33;
  check(b.k, {11, 10}, d);
}

TEST_CASE("an update in place of three arrays", "[codegen][emit]") {
  KernelBuild b;
  auto w = b.arg(DType::f32, {50, 70}, true), m = b.arg(DType::f32, {50, 70}, true),
       g = b.arg(DType::f32, {50, 70});
  auto rate = b.arg(DType::f32, {});
  auto i = b.axis("i", 50), j = b.axis("j", 70);
  b.k.parallel = {i, j};
  Index at = b.at(i, 70) + b.at(j);
  auto next = b.op(SOp::add, {b.op(SOp::mul, {b.num(0.9), b.load(m, at)}), b.load(g, at)});
  b.stage(next);
  b.to(m, at);
  b.stage(b.op(SOp::sub, {b.load(w, at), b.op(SOp::mul, {b.load(rate, {}), b.local(0)})}));
  b.to(w, at);
  check(b.k);
}

// --- reductions ----------------------------------------------------------------------------------

TEST_CASE("softmax over rows of any length", "[codegen][emit]") {
  const int64_t columns = GENERATE(1, 2, 10, 16, 17, 63, 64, 65, 100, 200, 1000);
  int lanes = 16;
  while (lanes < 64 && lanes < columns) lanes *= 2;
  KernelBuild b(5);
  auto x = b.arg(DType::f32, {Dim::batch(), columns}),
       y = b.arg(DType::f32, {Dim::batch(), columns}, true, false);
  auto r = b.axis("r", Dim::batch()), c = b.axis("c", columns), c2 = b.axis("c", columns),
       c3 = b.axis("c", columns);
  b.k.parallel = {r};
  auto z = [&](AxisId a) { return b.load(x, b.at(r, columns) + b.at(a)); };
  b.stage(z(c), Combine::max, {c}, lanes);
  auto e = [&](AxisId a) { return b.op(SOp::exp, {b.op(SOp::sub, {z(a), b.local(0)})}); };
  b.stage(e(c2), Combine::sum, {c2}, lanes);
  b.stage(b.op(SOp::div, {e(c3), b.local(1)})).loop = {c3};
  b.to(y, b.at(r, columns) + b.at(c3));
  check(b.k, {5, 1});
}

TEST_CASE("reductions of every kind and order", "[codegen][emit]") {
  const Combine c = GENERATE(Combine::sum, Combine::prod, Combine::max, Combine::min);
  const DType t = GENERATE(DType::f32, DType::f64, DType::i32, DType::u8);
  const int lanes = GENERATE(1, 16, 32, 64);
  KernelBuild b(9);
  auto x = b.arg(t, {Dim::batch(), 3, 37}), rows = b.arg(t, {Dim::batch()}, true, false);
  auto columns = b.arg(t, {37}, true, false), some = b.arg(t, {3}, true, false);
  auto r = b.axis("r", Dim::batch()), u = b.axis("u", 3), v = b.axis("v", 37);
  auto at = b.at(r, 3 * 37) + b.at(u, 37) + b.at(v);
  Data d;
  d.special = true;
  KernelBuild p = b, q = b, s = b;
  b.k.parallel = {r};
  b.stage(b.load(x, at), c, {u, v}, lanes);
  b.to(rows, b.at(r));
  check(b.k, {9, 8}, d);
  p.k.parallel = {v}; // vectors across the reduction
  p.stage(p.load(x, at), c, {u, r}, lanes);
  p.to(columns, p.at(v));
  check(p.k, {9, 8}, d);
  q.k.parallel = {u}; // strided
  q.stage(q.load(x, at), c, {v, r}, lanes);
  q.to(some, q.at(u));
  check(q.k, {9, 8}, d);
  // the same as a loop of one item
  s.stage(s.load(x, at), c, {u, r}, lanes).loop = {v};
  s.to(columns, s.at(v));
  check(s.k, {9, 8}, d);
}

TEST_CASE("sums beside each other, and of many columns", "[codegen][emit]") {
  const DType t = GENERATE(DType::f32, DType::f64);
  const int lanes = GENERATE(1, 16, 64);
  const int64_t width = GENERATE(20, 64, 100, 300);
  const bool across = GENERATE(false, true), looped = GENERATE(false, true);
  KernelBuild b(9);
  auto x = b.arg(t, {Dim::batch(), width}), y = b.arg(t, {Dim::batch(), width});
  auto r = b.axis("r", Dim::batch()), c = b.axis("c", width);
  const AxisId kept = across ? c : r, summed = across ? r : c;
  const Dims results = {across ? Dim(width) : Dim::batch()};
  auto at = b.at(r, width) + b.at(c);
  auto first = b.arg(t, results, true); // read, too
  auto sum = [&](ExprId body, int32_t out) {
    Stage &s = b.stage(body, Combine::sum, {summed}, lanes);
    if (looped) s.loop = {kept};
    b.to(out, b.at(kept));
  };
  if (!looped) b.k.parallel = {kept};
  auto more = [&] { return b.arg(t, results, true, false); };
  sum(b.load(x, at), first);
  sum(b.op(SOp::mul, {b.load(x, at), b.load(y, at)}, t), more());
  // what the first has stored
  sum(b.op(SOp::sub, {b.load(y, at), b.load(first, b.at(kept))}, t), more());
  if (!looped) sum(b.op(SOp::sub, {b.load(x, at), b.local(0, 0, t)}, t), more());
  check(b.k, {9, 8, 1});
}

TEST_CASE("argmax takes the first of the largest", "[codegen][emit]") {
  const int64_t columns = GENERATE(1, 5, 16, 33, 100);
  const DType t = GENERATE(DType::f32, DType::i32);
  KernelBuild b(6);
  auto x = b.arg(t, {Dim::batch(), 2, columns});
  auto value = b.arg(t, {Dim::batch()}, true, false),
       place = b.arg(DType::i32, {Dim::batch()}, true, false);
  auto r = b.axis("r", Dim::batch()), u = b.axis("u", 2), c = b.axis("c", columns);
  b.k.parallel = {r};
  b.stage(b.load(x, b.at(r, 2 * columns) + b.at(u, columns) + b.at(c)), Combine::argmax, {u, c});
  b.to(value, b.at(r));
  b.to(place, b.at(r), 1);
  Data d;
  d.integers = 3; // many ties
  d.special = GENERATE(false, true);
  check(b.k, {6, 5}, d);
  // across: the vectors run along r's neighbour
  KernelBuild q(1);
  auto y = q.arg(t, {columns, 40});
  auto best = q.arg(t, {40}, true, false), where = q.arg(DType::i32, {40}, true, false);
  auto i = q.axis("i", columns), j = q.axis("j", 40);
  q.k.parallel = {j};
  q.stage(q.load(y, q.at(i, 40) + q.at(j)), Combine::argmax, {i});
  q.to(best, q.at(j));
  q.to(where, q.at(j), 1);
  check(q.k, {1}, d);
}

TEST_CASE("running sums", "[codegen][emit]") {
  const bool exclusive = GENERATE(false, true), across = GENERATE(false, true);
  KernelBuild b(4);
  auto x = b.arg(DType::f32, {Dim::batch(), 23}),
       y = b.arg(DType::f32, {Dim::batch(), 23}, true, false);
  auto r = b.axis("r", Dim::batch()), c = b.axis("c", 23);
  b.k.parallel = {across ? c : r};
  auto at = b.at(r, 23) + b.at(c);
  b.stage(b.load(x, at), Combine::cumsum, {across ? r : c}).exclusive = exclusive;
  b.to(y, at);
  check(b.k, {4, 3});
}

TEST_CASE("a split sum with a short last chunk", "[codegen][emit]") {
  // partial[s, c] = sum over i < 10 with 10s + i < n of x[10s + i, c]
  const int lanes = GENERATE(1, 16);
  KernelBuild b(33);
  auto x = b.arg(DType::f32, {Dim::batch(), 20}), y = b.arg(DType::f32, {4, 20}, true, false);
  auto s = b.axis("s", 4), c = b.axis("c", 20), i = b.axis("i", 10);
  b.k.axes[size_t(i)].bounded = true;
  b.k.axes[size_t(i)].base = b.at(s, 10);
  b.k.axes[size_t(i)].limit = Dim::batch();
  b.k.parallel = {s, c};
  b.stage(b.load(x, b.at(s, 200) + b.at(i, 20) + b.at(c)), Combine::sum, {i}, lanes);
  b.to(y, b.at(s, 20) + b.at(c));
  check(b.k, {33, 31, 11, 1});
}

// --- contractions --------------------------------------------------------------------------------

namespace {

// y[m, n] = epilogue(a . b) with the operands in either orientation.
KernelBuild product(Dim m, int64_t n, Dim kk, bool aAcross, bool bAcross, int64_t batch) {
  KernelBuild b(batch);
  const int64_t ms = m.at(batch), ks = kk.at(batch);
  auto x = b.arg(DType::f32, aAcross ? Dims{kk, m} : Dims{m, kk});
  auto w = b.arg(DType::f32, bAcross ? Dims{n, kk} : Dims{kk, n});
  auto r = b.axis("r", m), o = b.axis("o", n), i = b.axis("i", kk);
  b.k.cls = KernelClass::Contract;
  b.k.contract.m = {r}, b.k.contract.n = {o}, b.k.contract.k = {i};
  b.k.contract.a = b.load(x, aAcross ? b.at(i, ms) + b.at(r) : b.at(r, ks) + b.at(i));
  b.k.contract.b = b.load(w, bAcross ? b.at(o, ks) + b.at(i) : b.at(i, n) + b.at(o));
  return b;
}

void biasAndRelu(KernelBuild &b, Dim m, int64_t n) {
  auto bias = b.arg(DType::f32, {n}), y = b.arg(DType::f32, {m, n}, true, false);
  auto r = b.k.contract.m[0], o = b.k.contract.n[0];
  auto z = b.op(SOp::add, {b.acc(), b.load(bias, b.at(o))});
  b.stage(b.op(SOp::max, {z, b.num(0)}));
  b.to(y, b.at(r, n) + b.at(o));
}

} // namespace

TEST_CASE("products in every orientation and odd sizes", "[codegen][emit]") {
  struct Size {
    int64_t m, n, k;
  };
  const Size s = GENERATE(Size{1, 1, 1}, Size{3, 5, 7}, Size{32, 10, 100}, Size{8, 48, 64},
                          Size{17, 50, 33}, Size{5, 300, 90}, Size{100, 33, 70}, Size{1, 64, 64},
                          Size{64, 1, 80}, Size{13, 17, 128});
  const bool aAcross = GENERATE(false, true), bAcross = GENERATE(false, true);
  KernelBuild b = product(s.m, s.n, s.k, aAcross, bAcross, 1);
  biasAndRelu(b, s.m, s.n);
  check(b.k);
}

TEST_CASE("products over partial batches", "[codegen][emit]") {
  const bool aAcross = GENERATE(false, true), bAcross = GENERATE(false, true);
  const int64_t batch = GENERATE(3, 32, 37);
  KernelBuild rows = product(Dim::batch(), 45, 70, aAcross, bAcross, batch);
  biasAndRelu(rows, Dim::batch(), 45);
  check(rows.k, batchSizes(batch));
  KernelBuild sums = product(40, 50, Dim::batch(), aAcross, bAcross, batch);
  biasAndRelu(sums, 40, 50);
  check(sums.k, batchSizes(batch));
}

TEST_CASE("columns that depend on n", "[codegen][emit]") {
  // y[o, r] = sum w[o, i] x[i, r]: the batch is the contiguous axis
  KernelBuild b(45);
  auto x = b.arg(DType::f32, {20, Dim::batch()}), w = b.arg(DType::f32, {30, 20});
  auto y = b.arg(DType::f32, {30, Dim::batch()}, true, false);
  auto r = b.axis("r", Dim::batch()), o = b.axis("o", 30), i = b.axis("i", 20);
  b.k.cls = KernelClass::Contract;
  b.k.contract.m = {o}, b.k.contract.n = {r}, b.k.contract.k = {i};
  b.k.contract.a = b.load(w, b.at(o, 20) + b.at(i));
  b.k.contract.b = b.load(x, b.at(i, 45) + b.at(r));
  b.stage(b.acc());
  b.to(y, b.at(o, 45) + b.at(r));
  check(b.k, batchSizes(45));
}

TEST_CASE("an optimizer's update in the epilogue", "[codegen][emit]") {
  KernelBuild b = product(100, 45, Dim::batch(), true, false, 19);
  auto w = b.arg(DType::f32, {100, 45}, true), m = b.arg(DType::f32, {100, 45}, true),
       v = b.arg(DType::f32, {100, 45}, true);
  auto rate = b.arg(DType::f32, {});
  Index at = b.at(b.k.contract.m[0], 45) + b.at(b.k.contract.n[0]);
  auto mul = [&](double c, ExprId e) { return b.op(SOp::mul, {b.num(c), e}); };
  b.stage(b.op(SOp::add, {mul(0.9, b.load(m, at)), mul(0.1, b.acc())}));
  b.to(m, at);
  b.stage(
      b.op(SOp::add, {mul(0.999, b.load(v, at)), mul(0.001, b.op(SOp::mul, {b.acc(), b.acc()}))}));
  b.to(v, at);
  auto step = b.op(
      SOp::div,
      {b.local(0), b.op(SOp::add, {b.op(SOp::sqrt, {b.op(SOp::abs, {b.local(1)})}), b.num(1e-7)})});
  b.stage(b.op(SOp::sub, {b.load(w, at), b.op(SOp::mul, {b.load(rate, {}), step})}));
  b.to(w, at);
  check(b.k, {19, 18, 1});
}

TEST_CASE("batched products and depthwise convolution", "[codegen][emit]") {
  KernelBuild b(3);
  auto x = b.arg(DType::f32, {Dim::batch(), 2, 9, 20}),
       w = b.arg(DType::f32, {Dim::batch(), 2, 20, 13});
  auto y = b.arg(DType::f32, {Dim::batch(), 9, 2, 13}, true, false);
  auto n = b.axis("n", Dim::batch()), h = b.axis("h", 2), q = b.axis("q", 9), o = b.axis("o", 13),
       d = b.axis("d", 20);
  b.k.cls = KernelClass::Contract;
  b.k.contract.batch = {n, h}, b.k.contract.m = {q}, b.k.contract.n = {o}, b.k.contract.k = {d};
  b.k.contract.a = b.load(x, b.at(n, 360) + b.at(h, 180) + b.at(q, 20) + b.at(d));
  b.k.contract.b = b.load(w, b.at(n, 520) + b.at(h, 260) + b.at(d, 13) + b.at(o));
  b.stage(b.acc());
  b.to(y, b.at(n, 9 * 26) + b.at(q, 26) + b.at(h, 13) + b.at(o));
  check(b.k, {3, 2});

  KernelBuild c(2); // y[n,i,j,c] = sum u v: x[n,i+u-1,j+v-1,c] w[u,v,c]
  auto xi = c.arg(DType::f32, {Dim::batch(), 6, 7, 20}), wi = c.arg(DType::f32, {3, 3, 20});
  auto yi = c.arg(DType::f32, {Dim::batch(), 6, 7, 20}, true, false);
  auto nn = c.axis("n", Dim::batch()), i = c.axis("i", 6), j = c.axis("j", 7), ch = c.axis("c", 20),
       u = c.axis("u", 3), v = c.axis("v", 3);
  Index row = c.at(i) + c.at(u) + constIndex(-1), col = c.at(j) + c.at(v) + constIndex(-1);
  c.k.cls = KernelClass::Contract;
  c.k.contract.batch = {ch}, c.k.contract.m = {nn, i, j}, c.k.contract.k = {u, v};
  c.k.contract.a = c.load(xi, c.at(nn, 840) + row * 140 + col * 20 + c.at(ch),
                          {{row, 0, Dim(6)}, {col, 0, Dim(7)}});
  c.k.contract.b = c.load(wi, c.at(u, 60) + c.at(v, 20) + c.at(ch));
  c.stage(c.acc());
  c.to(yi, c.at(nn, 840) + c.at(i, 140) + c.at(j, 20) + c.at(ch));
  check(c.k, {2, 1});
}

TEST_CASE("convolution with padding and strides, and its filter gradient", "[codegen][emit]") {
  const int64_t stride = GENERATE(1, 2), channels = GENERATE(1, 3, 16), out = GENERATE(5, 32);
  const int64_t size = 11, result = (size + 2 - 3) / stride + 1;
  KernelBuild b(3);
  auto x = b.arg(DType::f32, {Dim::batch(), size, size, channels}),
       w = b.arg(DType::f32, {3, 3, channels, out});
  auto y = b.arg(DType::f32, {Dim::batch(), result, result, out}, true, false);
  auto n = b.axis("n", Dim::batch()), i = b.axis("i", result), j = b.axis("j", result),
       o = b.axis("o", out);
  auto u = b.axis("u", 3), v = b.axis("v", 3), c = b.axis("c", channels);
  Index row = b.at(i, stride) + b.at(u) + constIndex(-1),
        col = b.at(j, stride) + b.at(v) + constIndex(-1);
  Index xs = b.at(n, size * size * channels) + row * (size * channels) + col * channels + b.at(c);
  std::vector<Guard> inside = {{row, 0, Dim(size)}, {col, 0, Dim(size)}};
  Index ws = b.at(u, 3 * channels * out) + b.at(v, channels * out) + b.at(c, out) + b.at(o);
  Index ys = b.at(n, result * result * out) + b.at(i, result * out) + b.at(j, out) + b.at(o);
  b.k.cls = KernelClass::Contract;
  KernelBuild g = b;
  b.k.contract.m = {n, i, j}, b.k.contract.n = {o}, b.k.contract.k = {u, v, c};
  b.k.contract.a = b.load(x, xs, inside);
  b.k.contract.b = b.load(w, ws);
  b.stage(b.acc());
  b.to(y, ys);
  check(b.k, {3, 2});
  g.k.args[1].written = true, g.k.args[2].written = false;
  g.k.contract.m = {u, v, c}, g.k.contract.n = {o}, g.k.contract.k = {n, i, j};
  g.k.contract.a = g.load(x, xs, inside);
  g.k.contract.b = g.load(y, ys);
  g.stage(g.op(SOp::sub, {g.load(w, ws), g.acc()}));
  g.to(w, ws);
  check(g.k, {3, 2});
}

TEST_CASE("contractions of other element types", "[codegen][emit]") {
  const DType t = GENERATE(DType::f64, DType::i32, DType::i64);
  const bool across = GENERATE(false, true);
  KernelBuild b;
  auto x = b.arg(t, {19, 70}), w = b.arg(t, across ? Dims{21, 70} : Dims{70, 21}),
       y = b.arg(t, {19, 21}, true, false);
  auto r = b.axis("r", 19), o = b.axis("o", 21), i = b.axis("i", 70);
  b.k.cls = KernelClass::Contract;
  b.k.contract.type = t;
  b.k.contract.m = {r}, b.k.contract.n = {o}, b.k.contract.k = {i};
  b.k.contract.a = b.load(x, b.at(r, 70) + b.at(i));
  b.k.contract.b = b.load(w, across ? b.at(o, 70) + b.at(i) : b.at(i, 21) + b.at(o));
  b.stage(b.acc(t));
  b.to(y, b.at(r, 21) + b.at(o));
  check(b.k);
}

TEST_CASE("operands of small types under conversions", "[codegen][emit]") {
  const DType t = GENERATE(DType::u8, DType::bf16, DType::f16);
  const bool across = GENERATE(false, true);
  KernelBuild b(9);
  auto x = b.arg(t, {Dim::batch(), 90}),
       w = b.arg(DType::bf16, across ? Dims{33, 90} : Dims{90, 33});
  auto y = b.arg(DType::bf16, {Dim::batch(), 33}, true, false);
  auto r = b.axis("r", Dim::batch()), o = b.axis("o", 33), i = b.axis("i", 90);
  b.k.cls = KernelClass::Contract;
  b.k.contract.m = {r}, b.k.contract.n = {o}, b.k.contract.k = {i};
  b.k.contract.a = b.op(SOp::convert, {b.load(x, b.at(r, 90) + b.at(i))});
  b.k.contract.b = b.load(w, across ? b.at(o, 90) + b.at(i) : b.at(i, 33) + b.at(o));
  b.stage(b.acc());
  b.to(y, b.at(r, 33) + b.at(o));
  check(b.k, {9, 7});
}

TEST_CASE("a contraction split over k in chunks", "[codegen][emit]") {
  // partial[s, m, n] = sum over i < 30 with 30s + i < batch
  const bool across = GENERATE(false, true);
  KernelBuild b(100);
  auto x = b.arg(DType::f32, across ? Dims{5, Dim::batch()} : Dims{Dim::batch(), 5});
  auto w = b.arg(DType::f32, across ? Dims{3, Dim::batch()} : Dims{Dim::batch(), 3});
  auto y = b.arg(DType::f32, {4, 5, 3}, true, false);
  auto s = b.axis("s", 4), m = b.axis("m", 5), n = b.axis("n", 3), i = b.axis("i", 30);
  b.k.axes[size_t(i)].bounded = true;
  b.k.axes[size_t(i)].base = b.at(s, 30);
  b.k.axes[size_t(i)].limit = Dim::batch();
  b.k.cls = KernelClass::Contract;
  b.k.contract.batch = {s}, b.k.contract.m = {m}, b.k.contract.n = {n}, b.k.contract.k = {i};
  Index k = b.at(s, 30) + b.at(i);
  b.k.contract.a = b.load(x, across ? b.at(m, 100) + k : k * 5 + b.at(m));
  b.k.contract.b = b.load(w, across ? b.at(n, 100) + k : k * 3 + b.at(n));
  b.stage(b.acc());
  b.to(y, b.at(s, 15) + b.at(m, 3) + b.at(n));
  check(b.k, {100, 91, 60, 7});
}

TEST_CASE("unoptimised code has the same bits", "[codegen][emit]") {
  KernelBuild b = product(Dim::batch(), 45, 70, false, false, 11);
  biasAndRelu(b, Dim::batch(), 45);
  for (const Target &t : targets()) {
    schedule(b.k, t);
    for (int level : {0, 1, 3}) checkAt(b.k, KernelCode(b.k, t, level), 10, {}, t.cpu);
  }
}

TEST_CASE("sums without free axes, and outer products without sums", "[codegen][emit]") {
  KernelBuild b(50);
  auto x = b.arg(DType::f32, {Dim::batch()}), y = b.arg(DType::f32, {Dim::batch()}),
       z = b.arg(DType::f32, {}, true, false);
  auto i = b.axis("i", Dim::batch());
  b.k.cls = KernelClass::Contract;
  b.k.contract.k = {i};
  b.k.contract.a = b.load(x, b.at(i)), b.k.contract.b = b.load(y, b.at(i));
  b.stage(b.acc());
  b.to(z, {});
  check(b.k, {50, 49, 3});
  KernelBuild c;
  auto p = c.arg(DType::f32, {21}), q = c.arg(DType::f32, {35}),
       s = c.arg(DType::f32, {21, 35}, true, false);
  auto m = c.axis("m", 21), n = c.axis("n", 35);
  c.k.cls = KernelClass::Contract;
  c.k.contract.m = {m}, c.k.contract.n = {n};
  c.k.contract.a = c.load(p, c.at(m)), c.k.contract.b = c.load(q, c.at(n));
  c.stage(c.acc());
  c.to(s, c.at(m, 35) + c.at(n));
  check(c.k);
}

// --- scatter and sort ----------------------------------------------------------------------------

TEST_CASE("scatter-add in token order", "[codegen][emit]") {
  const int64_t width = GENERATE(0, 5, 40);
  const DType t = GENERATE(DType::f32, DType::i32);
  KernelBuild b(13);
  Dims table = {2, 7}, updates = {2, Dim::batch(), 3};
  if (width) table.push_back(width), updates.push_back(width);
  auto index = b.arg(DType::i32, {Dim::batch(), 3}), update = b.arg(t, updates),
       out = b.arg(t, table, true, false);
  auto o = b.axis("o", 2), r = b.axis("r", Dim::batch()), s = b.axis("s", 3);
  const int64_t w = std::max<int64_t>(width, 1);
  b.k.cls = KernelClass::ScatterAdd;
  ScatterInfo &x = b.k.scatter;
  x.outer = {o}, x.tokens = {r, s};
  Index at = b.at(o, 13 * 3 * w) + b.at(r, 3 * w) + b.at(s, w);
  if (width) {
    auto c = b.axis("c", width);
    x.inner = {c};
    at = at + b.at(c);
  }
  x.rows = 7;
  x.index = b.load(index, b.at(r, 3) + b.at(s));
  x.update = b.load(update, at);
  x.type = t;
  x.arg = out;
  Data d;
  d.integers = 6; // -2 .. 7: some outside
  check(b.k, {13, 12, 1}, d);
}

// table = table - 0.1 * sums, or an update that moves all rows; rows without tokens keep their
// bits.
TEST_CASE("sums of tokens with stages", "[codegen][emit]") {
  const int64_t width = GENERATE(0, 5, 16, 40);
  const bool touched = GENERATE(false, true), f64 = GENERATE(false, true);
  const DType t = f64 ? DType::f64 : DType::f32;
  KernelBuild b(13);
  Dims table = {2, 700}, updates = {2, Dim::batch(), 3};
  if (width) table.push_back(width), updates.push_back(width);
  auto index = b.arg(DType::i32, {Dim::batch(), 3}), update = b.arg(t, updates),
       out = b.arg(t, table, true);
  auto o = b.axis("o", 2), r = b.axis("r", Dim::batch()), s = b.axis("s", 3),
       row = b.axis("v", 700);
  const int64_t w = std::max<int64_t>(width, 1);
  b.k.cls = KernelClass::ScatterAdd;
  ScatterInfo &x = b.k.scatter;
  x.outer = {o}, x.tokens = {r, s}, x.rows = 700, x.type = t, x.arg = -1, x.row = row,
  x.touched = touched;
  Index from = b.at(o, 13 * 3 * w) + b.at(r, 3 * w) + b.at(s, w),
        to = b.at(o, 700 * w) + b.at(row, w);
  if (width) {
    auto c = b.axis("c", width);
    x.inner = {c};
    from = from + b.at(c), to = to + b.at(c);
  }
  x.index = b.load(index, b.at(r, 3) + b.at(s));
  x.update = b.load(update, from);
  auto old = b.load(out, to), step = b.op(SOp::mul, {b.num(0.1, t), b.acc(t)}, t);
  if (!touched) old = b.op(SOp::mul, {b.num(0.9, t), old}, t);
  b.stage(b.op(SOp::sub, {old, step}, t));
  b.to(out, to);
  Data d;
  d.integers = GENERATE(6, 710); // many of one row; some outside
  check(b.k, {13, 12, 1}, d);
}

TEST_CASE("stable sorts of lines", "[codegen][emit]") {
  const int64_t length = GENERATE(1, 2, 7, 64, 100);
  const bool descending = GENERATE(false, true);
  const DType t = GENERATE(DType::f32, DType::i64, DType::u8);
  KernelBuild b(4);
  auto x = b.arg(t, {Dim::batch(), length, 3});
  auto values = b.arg(t, {Dim::batch(), length, 3}, true, false);
  auto places = b.arg(DType::i32, {Dim::batch(), length, 3}, true, false);
  auto r = b.axis("r", Dim::batch()), c = b.axis("c", 3), i = b.axis("i", length);
  b.k.cls = KernelClass::Sort;
  b.k.parallel = {r, c};
  Index at = b.at(r, 3 * length) + b.at(i, 3) + b.at(c);
  SortInfo &s = b.k.sort;
  s.axis = i, s.descending = descending, s.type = t;
  s.value = b.load(x, at);
  s.values = b.access(values, at), s.indices = b.access(places, at);
  Data d;
  d.integers = 4;
  d.special = GENERATE(false, true);
  check(b.k, {4, 3}, d);
}
