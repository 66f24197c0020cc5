// The gradient of scan: against differences, against the unrolled loop with Jacobians that do not
// commute, nested, with integer carries, random draws, and what it saves.
#include "ir/passes.h"
#include "tests/ir_helpers.h"

using namespace nnc::ir;
using namespace nnc::ir::test;

namespace {

const Dim n = Dim::batch();
using Xs = const std::vector<V> &;
using Ys = std::vector<V>;

// h' = tanh(h u + x w) * c; y = h' * x summed over its features; a second carry counts in integers.
std::vector<V> cell(Builder &b, V h, V count, V x, V w, V u) {
  V z = b.contract(h, u, "n i", "i o", "n o") + b.contract(x, w, "n i", "i o", "n o");
  V next = tanh(z) * (b.broadcastTo(b.cast(count, DType::f64), Dims(h.type().dims)) * 0.1 + 1.0);
  V y = b.sum(next * next, {1}) + b.sum(x, {1});
  return {next, count + 1.0, y};
}

void addCell(Module &m) {
  if (m.find("cell")) return;
  Function &f = m.add("cell", 4);
  Builder b(m, f);
  V h = b.param("h", f64({n, 2})), c = b.param("count", {DType::i32, {}}),
    x = b.param("x", f64({n, 3}));
  V w = b.param("w", f64({3, 2})), u = b.param("u", f64({2, 2}));
  for (V y : cell(b, h, c, x, w, u)) b.result("", y);
}

const std::vector<Type> kTypes{f64({n, 2}), f64({n, 4, 3}), f64({3, 2}),
                               f64({2, 2})}; // h, xs, w, u

Ys scanned(Builder &b, Xs x, bool reverse) {
  addCell(b.module);
  auto y = b.scan({"cell", 2, {1}, {1}, 4, reverse},
                  {x[0], b.constant(0, {DType::i32, {}}), x[1], x[2], x[3]});
  return {y[0], y[2]};
}

Ys unrolled(Builder &b, Xs x, bool reverse) {
  V h = x[0], count = b.constant(0, {DType::i32, {}});
  std::vector<ValueId> ys(4);
  for (int64_t step = 0; step < 4; ++step) {
    const int64_t t = reverse ? 3 - step : step;
    V at = b.reshape(b.slice(x[1], {0, t, 0}, {n, t + 1, 3}), {n, 3});
    auto r = cell(b, h, count, at, x[2], x[3]);
    h = r[0], count = r[1], ys[size_t(t)] = b.reshape(r[2], {n, 1});
  }
  return {h, b.concat(ys, 1)};
}

const ScanAttr &onlyScan(const Function &f, size_t which) {
  for (const Node &node : f.nodes)
    if (const auto *a = std::get_if<ScanAttr>(&node.attr); a && which-- == 0) return *a;
  FAIL("no such scan");
  throw 0;
}

} // namespace

TEST_CASE("scan agrees with its unrolling in value, first and second derivative") {
  Random r(1);
  for (const bool reverse : {false, true}) {
    std::vector<Tensor> inputs, results[2];
    for (const Type &t : kTypes) inputs.push_back(randomTensor(r, t, 3));
    for (const bool loop : {false, true}) {
      Module m;
      addGradientFunctions(m, kTypes, [&](Builder &b, Xs x) {
        return loop ? scanned(b, x, reverse) : unrolled(b, x, reverse);
      });
      differentiate(m);
      REQUIRE(verify(m) == "");
      for (const char *f : {"value", "first", "second"})
        for (Tensor &t : Interpreter(m, Precision::f64).run(f, inputs))
          results[loop].push_back(std::move(t));
    }
    REQUIRE(results[0].size() == results[1].size());
    for (size_t k = 0; k < results[0].size(); ++k)
      for (size_t i = 0; i < results[0][k].data.size(); ++i)
        CHECK(near(results[0][k].data[i], results[1][k].data[i], 1e-11));
    checkGradients(
        kTypes, [&](Builder &b, Xs x) { return scanned(b, x, reverse); }, inputs);
  }
}

TEST_CASE("the order of steps matters: matrices that do not commute") {
  Random r(2); // h' = h A_t with a different matrix each step
  checkGradients(r, {f64({2}), f64({5, 2, 2})}, [](Builder &b, Xs x) {
    if (!b.module.find("step")) {
      Function &f = b.module.add("step", 0);
      Builder s(b.module, f);
      V h = s.param("h", f64({2})), a = s.param("a", f64({2, 2}));
      s.result("", s.contract(h, a, "i", "i j", "j"));
    }
    return Ys{b.scan({"step", 1, {0}, {}, 5, false}, {x[0], x[1]})[0]};
  });
}

TEST_CASE("scans nest, and a body may call, draw and be shared by two gradients") {
  Random r(3);
  checkGradients(
      r, {f64({3}), f64({2, 4, 3}), f64({3})},
      [](Builder &b, Xs x) {
        Module &m = b.module;
        if (!m.find("inner")) {
          Function &g = m.add("double", 0);
          Builder c(m, g);
          V p = c.param("p", f64({3}));
          c.result("", sin(p) + p);
          Function &f = m.add("inner", 0);
          Builder s(m, f);
          V h = s.param("h", f64({3})), v = s.param("x", f64({3})), w = s.param("w", f64({3}));
          V noise = s.random("drop", f64({3}));
          s.result("", s.call("double", {h * w})[0] * noise + v * w);
          Function &o = m.add("outer", 0);
          Builder t(m, o);
          V oh = t.param("h", f64({3})), ox = t.param("x", f64({4, 3})),
            ow = t.param("w", f64({3}));
          auto y = t.scan({"inner", 1, {0}, {}, 4, false}, {oh, ox, ow});
          t.result("", y[0] * oh);
          t.result("", y[0]);
        }
        auto y = b.scan({"outer", 1, {0}, {0}, 2, true}, {x[0], x[1], x[2]});
        V loss = total(
            b, y[1]); // a gradient through the scan, used in the result: the scan is swept again
        V d = b.grad(loss, {x[2]})[0];
        return Ys{y[0], y[1], d};
      },
      -0.7, 0.7, 3, 1e-5);
}

TEST_CASE("a scan saves what is not cheap to compute again") {
  Module m;
  Function &body = m.add("body", 0);
  Builder s(m, body);
  V h = s.param("h", f64({2})), x = s.param("x", f64({2})), w = s.param("w", f64({2, 2}));
  V z = s.contract(h, w, "i", "i j", "j");
  V next = tanh(z) * exp(x) + h;
  s.result("", next);
  s.result("", s.maxIndex(x, {0}).first);
  Function &f = m.add("f", 0);
  Builder b(m, f);
  V h0 = b.param("h0", f64({2})), xs = b.param("xs", f64({3, 2})), k = b.param("k", f64({2, 2}));
  auto y = b.scan({"body", 1, {0}, {0}, 3, false}, {h0, xs, k});
  V loss = total(b, y[0]);
  for (V g : b.grad(loss, {h0, k})) b.result("", g);
  differentiate(m);
  REQUIRE(verify(m) == "");
  // tanh(z) and h are saved; exp(x) is computed again from xs; the unused stacked result costs
  // nothing.
  const ScanAttr &forward = onlyScan(*m.find("f"), 0), &backward = onlyScan(*m.find("f"), 1);
  CHECK(forward.yAxes.size() == 1 + 2);
  CHECK(backward.reverse);
  CHECK(backward.carries == 2);
  CHECK(backward.xAxes.size() == 3);
  CHECK(backward.yAxes.empty());
  CHECK(m.find("body") == nullptr); // replaced by the body that saves
}

namespace {

// h' = tanh(h u^T + x), as the gradient of a recurrent cell reads its weight, for so many rounds.
Module readAcross(int64_t rounds) {
  Module m;
  Function &body = m.add("body", 4);
  Builder s(m, body);
  V h = s.param("h", f64({n, 24})), x = s.param("x", f64({n, 24})), u = s.param("u", f64({24, 24}));
  s.result("", tanh(s.contract(h, u, "n o", "i o", "n i") + x));
  Function &f = m.add("f", 4);
  Builder b(m, f);
  V h0 = b.param("h0", f64({n, 24})), xs = b.param("xs", f64({n, rounds, 24})),
    w = b.param("w", f64({24, 24}));
  b.result("h", b.scan({"body", 1, {1}, {}, rounds, false}, {h0, xs, w})[0]);
  return m;
}

} // namespace

TEST_CASE("a matrix that rounds read across is turned before the loop, and nothing else changes") {
  for (int64_t rounds : {7, 8}) { // fewer than eight rounds do not pay for it
    Module m = readAcross(rounds);
    Random r(11);
    const std::vector<Tensor> inputs{randomTensor(r, f64({n, 24}), 4),
                                     randomTensor(r, f64({n, rounds, 24}), 4),
                                     randomTensor(r, f64({24, 24}), 4)};
    Interpreter before(m, Precision::f64);
    const Tensor want = before.run("f", inputs)[0];
    runOptimize(m, {});
    REQUIRE(verify(m) == "");
    Interpreter after(m, Precision::f64);
    const Tensor got = after.run("f", inputs)[0];
    for (size_t i = 0; i < want.data.size(); ++i) REQUIRE(near(got.data[i], want.data[i], 1e-12));
    int turns = 0;
    for (const Node &node : m.find("f")->nodes) turns += node.op == Op::transpose_;
    CHECK(turns == (rounds == 8));
    const Function &body = *m.find(onlyScan(*m.find("f"), 0).body);
    CHECK(body.params.size() == 3); // the twin instead of the matrix
    for (const Node &node : body.nodes)
      if (const auto *a = std::get_if<ContractAttr>(&node.attr))
        CHECK((a->forms[1][0] == a->forms[0][1]) == (rounds == 8)); // the sum runs down the columns
  }
}

TEST_CASE("gradients that a round casts to f32 before it adds them are summed behind the loop") {
  // c' = c + f32(x^T y); d' = d + f32(sum x): one product and one sum of all rounds, in f32
  Module m;
  const Type bf{DType::bf16, {n, 3}};
  Function &body = m.add("body", 4);
  Builder s(m, body);
  V c = s.param("c", {DType::f32, {3, 3}}), d = s.param("d", {DType::f32, {3}}),
    h = s.param("h", bf), x = s.param("x", bf);
  V next = tanh(h * x);
  s.result("", c + s.cast(s.contract(x, next, "n i", "n o", "i o"), DType::f32));
  s.result("", d + s.cast(s.sum(next, {0}), DType::f32));
  s.result("", next);
  Function &f = m.add("f", 4);
  Builder b(m, f);
  V xs = b.param("xs", {DType::bf16, {n, 5, 3}}), h0 = b.param("h0", bf);
  auto y = b.scan({"body", 3, {1}, {}, 5, false},
                  {b.constant(0, {DType::f32, {3, 3}}), b.constant(0, {DType::f32, {3}}), h0, xs});
  b.result("c", y[0]);
  b.result("d", y[1]);
  Random r(5);
  const std::vector<Tensor> inputs{randomTensor(r, {DType::bf16, {n, 5, 3}}, 4),
                                   randomTensor(r, bf, 4)};
  Interpreter before(m, Precision::f64);
  const auto want = before.run("f", inputs);
  runOptimize(m, {});
  REQUIRE(verify(m) == "");
  Interpreter after(m, Precision::f64);
  const auto got = after.run("f", inputs);
  for (size_t k = 0; k < want.size(); ++k)
    for (size_t i = 0; i < want[k].data.size(); ++i)
      REQUIRE(near(got[k].data[i], want[k].data[i], 1e-12));
  const Function &left = *m.find(onlyScan(*m.find("f"), 0).body);
  for (const Node &node : left.nodes) CHECK((node.op != Op::contract_ && node.op != Op::reduce_));
  int products = 0;
  for (const Node &node : m.find("f")->nodes)
    if (node.op == Op::contract_) {
      ++products;
      CHECK(m.find("f")->type(node.result()).dtype == DType::f32); // rounded nowhere
    }
  CHECK(products == 1);
}
