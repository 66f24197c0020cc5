// Every derivative against central differences in f64, first and second order: the pointwise rows
// from the table, within their domains, and every tensor row with random attributes.
#include "ir/passes.h"
#include "tests/ir_helpers.h"

using namespace nnc::ir;
using namespace nnc::ir::test;

namespace {

const Dim n = Dim::batch();

struct RowCase {
  Op op;
  std::vector<std::pair<double, double>> domain;
};

// The pointwise rows that take floats and give floats.
std::vector<RowCase> rows() {
  std::vector<RowCase> all;
#define KEEP_F true
#define KEEP_N true
#define KEEP_B false
#define UNARY(name, cls, lo, hi, fwd, dx)                                                          \
  if (KEEP_##cls && Op::name##_ != Op::is_nan_) all.push_back({Op::name##_, {{lo, hi}}});
#define BINARY(name, cls, loA, hiA, loB, hiB, fwd, da, db)                                         \
  if (KEEP_##cls) all.push_back({Op::name##_, {{loA, hiA}, {loB, hiB}}});
#include "ir/ops.def"
  return all;
}

// Points at which a difference of width 1e-5 would straddle a kink or a step are moved away.
bool smooth(Op op, double a, double b) {
  const double margin = 1e-3, q = a / b;
  switch (op) {
  case Op::floordiv_:
  case Op::mod_: return std::fabs(q - std::nearbyint(q)) > margin;
  case Op::max_:
  case Op::min_: return std::fabs(a - b) > margin;
  case Op::abs_:
  case Op::sign_: return std::fabs(a) > margin;
  default: return true;
  }
}

} // namespace

TEST_CASE("every pointwise row has right first and second derivatives") {
  Random r(1);
  for (const RowCase &row : rows()) {
    INFO(info(row.op).name);
    std::vector<Tensor> inputs;
    for (const auto &d : row.domain)
      inputs.push_back(randomTensor(r, f64({6}), 1, d.first, d.second));
    for (size_t i = 0; i < 6; ++i)
      while (!smooth(row.op, inputs[0].data[i], inputs.back().data[i]))
        inputs[0].data[i] = uniform(r, row.domain[0].first, row.domain[0].second);
    // stop_gradient and sign have the derivative 0 by definition; sign's is also its difference.
    if (row.op == Op::stop_gradient_) continue;
    checkGradients(
        std::vector<Type>(inputs.size(), f64({6})),
        [&](Builder &b, const std::vector<V> &x) {
          return std::vector<V>{b.value(b.make(row.op, {x.begin(), x.end()}))};
        },
        inputs, 1e-5);
  }
}

TEST_CASE("partials are finite at the edges of pow's domain, and stop_gradient stops") {
  Module m;
  addGradientFunctions(m, {f64({4}), f64({4})}, [](Builder &, const std::vector<V> &x) {
    return std::vector<V>{pow(x[0], x[1])};
  });
  differentiate(m);
  Interpreter in(m, Precision::f64);
  for (const char *f : {"first", "second"})
    for (const Tensor &t : in.run(f, {tensor({4}, {0, 0, 0, 0}), tensor({4}, {0, 1, 2, 3})}))
      for (const double v : t.data) CHECK(std::isfinite(v));
  Module s;
  addGradientFunctions(s, {f64({2})}, [](Builder &b, const std::vector<V> &x) {
    return std::vector<V>{b.unary(Op::stop_gradient_, x[0]) * x[0]};
  });
  differentiate(s);
  Interpreter is(s, Precision::f64);
  Tensor x = tensor({2}, {2, 3});
  auto d = is.run("first", {x});
  for (size_t i = 0; i < 2; ++i) { // d w (c x (c x + 1)) / dx = w c (2 c x + 1), c = x held fixed
    const double w = std::sin(1.3 * double(i) + 1.1) + 1.5, c = x.data[i];
    CHECK(d[0].data[i] == Approx(w * c * (2 * c * c + 1)));
  }
}

TEST_CASE("ties: elementwise max splits, reduce max shares equally, max_index takes the first") {
  Module m;
  Function &f = m.add("f", 0);
  Builder b(m, f);
  V x = b.param("x", f64({4}));
  V zero = b.like(0, x);
  V relu = b.select(le(x, zero), zero, x);
  for (V loss : {total(b, max(x, b.like(1, x))), b.reduce(ReduceKind::max, x, {0}),
                 b.maxIndex(x, {0}).first, total(b, relu)})
    b.result("", b.grad(loss, {x})[0]);
  differentiate(m);
  REQUIRE(verify(m) == "");
  auto d = Interpreter(m, Precision::f64).run("f", {tensor({4}, {1, 0, 1, -2})});
  CHECK(d[0].data == std::vector<double>{0.5, 0, 0.5, 0});
  CHECK(d[1].data == std::vector<double>{0.5, 0, 0.5, 0});
  CHECK(d[2].data == std::vector<double>{1, 0, 0, 0});
  CHECK(d[3].data == std::vector<double>{1, 0, 1, 0});
}

TEST_CASE("structural rules") {
  Random r(2);
  auto check = [&](const char *what, std::vector<Type> types, Formula f) {
    INFO(what);
    checkGradients(r, types, f);
  };
  using Xs = const std::vector<V> &;
  using Ys = std::vector<V>;
  const Type bools{DType::boolean, {n, 3}};
  check("select", {bools, f64({n, 3}), f64({n, 3})},
        [](Builder &b, Xs x) { return Ys{b.select(x[0], x[1], x[2])}; });
  check("cast", {f64({n, 3})},
        [](Builder &b, Xs x) { return Ys{b.cast(b.cast(x[0], DType::f32), DType::f64)}; });
  check("broadcast", {f64({3})}, [](Builder &b, Xs x) {
    return Ys{b.broadcast(x[0], {1}, {n, 3, 2})};
  });
  check("reshape", {f64({n, 6})},
        [](Builder &b, Xs x) { return Ys{b.reshape(x[0], {Dim(6, 0)})}; });
  check("transpose", {f64({n, 2, 4})}, [](Builder &b, Xs x) {
    return Ys{b.transpose(x[0], {2, 0, 1})};
  });
  check("slice", {f64({n, 7})}, [](Builder &b, Xs x) { return Ys{b.slice(x[0], {0, 2}, {n, 5})}; });
  check("reverse", {f64({n, 3})}, [](Builder &b, Xs x) { return Ys{b.reverse(x[0], {0, 1})}; });
  check("pad", {f64({n, 3})}, [](Builder &b, Xs x) {
    return Ys{b.pad(x[0], {1, 0}, {n, 2}, 0.5)};
  });
  check("concat", {f64({n, 3}), f64({Dim(2, 1), 3})}, [](Builder &b, Xs x) {
    return Ys{b.concat({x[0], x[1], x[0]}, 0)};
  });
  check("cumsum", {f64({n, 4})}, [](Builder &b, Xs x) {
    return Ys{b.cumsum(x[0], 1), b.cumsum(x[0], 0, true), b.cumsum(x[0], 1, false, true),
              b.cumsum(x[0], 1, true, true)};
  });
  check("sort", {f64({n, 4})}, [](Builder &b, Xs x) {
    return Ys{b.sort(x[0], 1).first, b.sort(x[0], 0, true).first};
  });
  check("max_index", {f64({2, n, 3})}, [](Builder &b, Xs x) {
    return Ys{b.maxIndex(x[0], {0, 1}).first, b.maxIndex(x[0], {2}).first};
  });
  for (const ReduceKind k : {ReduceKind::sum, ReduceKind::prod, ReduceKind::max, ReduceKind::min})
    check("reduce", {f64({2, n, 3})}, [&](Builder &b, Xs x) {
      return Ys{b.reduce(k, x[0], {0, 2}), b.reduce(k, x[0], {1})};
    });
  check("gather", {f64({2, 4, 3}), {DType::i32, {n}}},
        [](Builder &b, Xs x) { return Ys{b.gather(x[0], x[1] + 1.0, 1)}; });
  check("scatter_add", {{DType::i32, {n}}, f64({2, n, 3})}, [](Builder &b, Xs x) {
    return Ys{b.scatterAdd(x[0] + 1.0, x[1], 1, f64({2, 4, 3}))};
  });
}

TEST_CASE("slices with strides") {
  Random r(3);
  for (int k = 0; k < 30; ++k) {
    const int64_t size = pick(r, 1, 9), start = pick(r, 0, size - 1), limit = pick(r, start, size),
                  stride = pick(r, 1, 4);
    INFO("size " << size << " start " << start << " limit " << limit << " stride " << stride);
    checkGradients(r, {f64({n, size})}, [&](Builder &b, const std::vector<V> &x) {
      return std::vector<V>{b.slice(x[0], {0, start}, {n, limit}, {1, stride})};
    });
  }
}

TEST_CASE("windows") {
  Random r(4);
  for (int k = 0; k < 12; ++k) {
    WindowAttr a;
    a.dim = 1;
    a.value = 0.25;
    for (int i = 0; i < int(pick(r, 1, 2)); ++i) {
      a.size.push_back(pick(r, 1, 3)), a.stride.push_back(pick(r, 1, 3)),
          a.dilation.push_back(pick(r, 1, 2));
      a.low.push_back(pick(r, 0, 2)), a.high.push_back(pick(r, 0, 2)),
          a.extent.push_back(pick(r, 5, 6));
    }
    Dims whole{2};
    for (const int64_t e : a.extent) whole.push_back(e);
    checkGradients(r, {f64(whole)}, [&](Builder &b, const std::vector<V> &x) {
      V w = b.window(x[0], a);
      return std::vector<V>{w, b.unwindow(w * w, a)};
    });
  }
}

TEST_CASE("contractions") {
  Random r(5);
  using Xs = const std::vector<V> &;
  using Ys = std::vector<V>;
  checkGradients(r, {f64({n, 3}), f64({3, 2})},
                 [](Builder &b, Xs x) { return Ys{b.matmul(x[0], x[1])}; });
  checkGradients(r, {f64({n, 2, 3}), f64({n, 3, 2})},
                 [](Builder &b, Xs x) { return Ys{b.matmul(x[0], x[1])}; });
  checkGradients(r, {f64({n, 3}), f64({2, 3})}, [](Builder &b, Xs x) {
    return Ys{b.matmul(x[0], b.transpose(x[1], {1, 0}))};
  });
  checkGradients(r, {f64({n, 3}), f64({2})},
                 [](Builder &b, Xs x) { return Ys{b.contract(x[0], x[1], "a b", "c", "a")}; });
  checkGradients(r, {f64({n, 5, 2}), f64({3, 2, 2})}, [](Builder &b, Xs x) {
    return Ys{b.contract(x[0], x[1], "n, 2i+u-1, c", "u, c, o", "n, i, o", {{"i", 3}})};
  });
  checkGradients(
      r, {f64({n, 3, 2}), f64({3, 2, 2})}, [](Builder &b, Xs x) { // transposed convolution
        return Ys{b.contract(x[0], x[1], "n, i, c", "u, c, o", "n, 2i+u-1, o", {}, Dims{n, 6, 2})};
      });
  checkGradients(r, {f64({n, 3}), f64({})},
                 [](Builder &b, Xs x) { // labels of the result alone repeat
                   return Ys{b.contract(x[0], x[1], "a b", "", "b c", {{"c", 2}})};
                 });
}

TEST_CASE("narrow operands: the gradient has their type, sums are taken in f32") {
  Module m;
  Function &f = m.add("f", 0);
  Builder b(m, f);
  V x = b.param("x", {DType::bf16, {2, 3}}), w = b.param("w", {DType::bf16, {3, 2}});
  ContractAttr a;
  a.labels = {"i", "k", "j"};
  a.extents = {2, 3, 2};
  a.forms = {{{{{{0, 1}}, 0}, {{{1, 1}}, 0}},
              {{{{1, 1}}, 0}, {{{2, 1}}, 0}},
              {{{{0, 1}}, 0}, {{{2, 1}}, 0}}}};
  a.type = {DType::f32, {2, 2}};
  V y = b.contract(x, w, a);
  for (V d : b.grad(total(b, y * y), {x, w})) b.result("", d);
  differentiate(m);
  REQUIRE(verify(m) == "");
  auto d = Interpreter(m, Precision::f64)
               .run("f", {{DType::bf16, {2, 3}, {1, 2, 3, 4, 5, 6}},
                          {DType::bf16, {3, 2}, {1, 0, 0, 1, 1, 1}}});
  CHECK(d[0].dtype == DType::bf16); // y = [4 5; 10 11], dx = 2 y w^T
  CHECK(d[0].data == std::vector<double>{8, 10, 18, 20, 22, 42});
}

TEST_CASE("a custom gradient is differentiated like any function") {
  // @cube's attached gradient is right, so differences agree in second order too.
  auto addOnce = [](Module &m) {
    if (m.find("cube")) return;
    Function &f = m.add("cube", 0), &g = m.add("cube_gradient", 0);
    Builder c(m, f), d(m, g);
    V x = c.param("x", f64({3}));
    c.result("", x * x * x);
    V at = d.param("x", f64({3}));
    d.param("y", f64({3}));
    V dy = d.param("dy", f64({3}));
    d.result("", at * at * dy * 3.0);
  };
  Random r(6);
  checkGradients(r, {f64({3})}, [&](Builder &b, const std::vector<V> &x) {
    addOnce(b.module);
    return b.call("cube", {x[0]}, "cube_gradient");
  });
}

TEST_CASE("the gradient of a transposed weight lies as the weight does") {
  Module m;
  m.functions.push_back(std::make_unique<Function>());
  Function &f = *m.functions.back();
  f.name = "g";
  Builder b(m, f);
  const V x = b.param("x", {DType::f32, {4, 3}}), w = b.param("w", {DType::f32, {2, 3}});
  const V y = b.matmul(x, b.transpose(w, {1, 0}));
  b.result("dw", b.grad(b.sum(y * y, {0, 1}), {w})[0]);
  runGradient(m, {});
  REQUIRE(verify(m) == "");
  for (const Node &node : f.nodes) CHECK(node.op != Op::transpose_);
}
