// `scan` in programs: values against loops unrolled by hand, derivatives against those of the
// unrolled text, what the body shares with the outside, and effects in it.
#include "library_program.h"

using namespace nnc;
using namespace nnc::fe::test;

namespace {
using D = std::vector<double>;

/// The value of a model's body for x: [batch, 4, 2] of two samples.
std::vector<ir::Tensor> outputs(const std::string &text) {
  Program p("fn through(v) {\n  where(v > 0, 1.0, 0.0)\n} gradient(dy) { 0.5 * dy }\n"
            "model M(x: [batch, time, 2], b: [batch, 2]) {\n" +
            text + "\n}\n" +
            "m = Wrap()\nmodel Wrap(x: [batch, 4, 2], b: [batch, 2]) { M()(x, b) }");
  return p.run("predict", 2, {wave(16, 0), wave(4, 0.3)});
}
std::vector<double> body(const std::string &text) { return outputs(text)[0].data; }

void same(const std::string &a, const std::string &b) {
  INFO(a << "\n---\n" << b);
  checkClose(body(a), body(b), 1e-12, 1e-12);
}

const char *const kData = "  data = npy(x = \"x.npy\", target = \"y.npy\")\n"
                          "  loss = MeanSquaredError()\n  optimizer = SGD(0.5)\n"
                          "  batch_size = 2\n}";

/// Trains two models for some steps; their losses and their weights, in order, must agree.
void trainsLike(const std::string &a, const std::string &b, int steps = 3) {
  INFO(a << "\n---\n" << b);
  const std::string head = "model M(x: [batch, 4, 2]) -> [batch, 3] {\n";
  Program p(head + a + "\n}\ntrain M {\n" + kData), q(head + b + "\n}\ntrain M {\n" + kData);
  REQUIRE(p.module->persistents.size() == q.module->persistents.size());
  for (size_t i = 0; i < p.module->persistents.size(); ++i) {
    const ir::Persistent &v = p.module->persistents[i], &w = q.module->persistents[i];
    REQUIRE(v.type == w.type);
    if (*v.meta.find("kind")->asString() != "param") continue;
    ir::Tensor &t = p.interpreter->persistent(v.name);
    t.data = wave(t.count(), double(i), 0.5);
    q.interpreter->persistent(w.name).data = t.data;
  }
  for (int step = 0; step < steps; ++step) {
    const std::vector<D> batch{wave(16, step, 0.9), wave(6, step + 0.5)};
    checkClose(p.run("train_step", 2, batch)[0].data, q.run("train_step", 2, batch)[0].data, 1e-11);
  }
  for (size_t i = 0; i < p.module->persistents.size(); ++i)
    checkClose(p.interpreter->persistent(p.module->persistents[i].name).data,
               q.interpreter->persistent(q.module->persistents[i].name).data, 1e-9);
}
} // namespace

TEST_CASE("scan computes what its unrolling does", "[elaborate][scan]") {
  same("scan t in x along 1, h = b { h = tanh(h + t * b) }",
       "h = b\nfor k in 0..4 { h = tanh(h + x[:, k] * b) }\nh");
  same("scan t in x along time, h = b { h = tanh(h + t * b)\n yield h * 2 }[1]",
       "h = b\nys = []\nfor k in 0..4 {\n  h = tanh(h + x[:, k] * b)\n  ys = [..ys, h * 2]\n}\n"
       "stack(ys, axis = 1)");
  same("scan t in x along -2 { yield t }", "x");
  same("scan t in x along -1 { yield sum(t, axis = 1) }", "sum(x, axis = 1)");
  same("y = scan k in 0..3 { yield b * k }\ny", "stack([b * 0, b, b * 2])");
  same("scan k in range(2, 5), s = 0 { s = s + k }", "full([], 9)");
  same("scan k in [1.5, 2.5], s = 0.0 { s = s + k }", "full([], 4.0)");
  same("scan t in flip(x, 1) along 1, h = b { h = 0.5 * h + t }",
       "h = b\nfor k in 0..4 { h = 0.5 * h + x[:, 3 - k] }\nh");
}

TEST_CASE("several slices, carries and yields keep their order", "[elaborate][scan]") {
  const std::string scan = "p, q, ys, zs = scan t in x along 1, k in 0..4, u in x along time,\n"
                           "                      p = b, q = zeros([]) {\n"
                           "  p, q = (p + t * k, q + sum(u))\n"
                           "  yield p, t - u\n"
                           "}\n";
  same(scan + "p", "p = b\nfor k in 0..4 { p = p + x[:, k] * k }\np");
  same(scan + "q", "sum(x)");
  same(scan + "ys[:, -1] - p", "zeros([batch, 2])");
  same(scan + "zs", "zeros([batch, 4, 2])");
  // Structures are carried and yielded leaf by leaf.
  same("s, y = scan t in x along 1, s = (h = b, n = [0, 1.0]) {\n"
       "  s = (h = s.h + t, n = s.n * 2)\n  yield [s.h, t]\n}\ns.h * s.n[1] + y[0][:, -1] + "
       "y[1][:, 0]",
       "h = b + sum(x, axis = 1)\nh * 16 + h + x[:, 0]");
}

TEST_CASE("a scan sees what is around it", "[elaborate][scan]") {
  same("k = [b, 2 * b]\nf = fn(v) = v + k[1]\nc = -1e3\n"
       "scan t in x along 1, h = zeros_like(b) {\n  for i in 0..2 { h = h + k[i] * c }\n"
       "  h = f(h) + t\n}",
       "h = zeros_like(b)\nfor k in 0..4 { h = h - 3e3 * b + 2 * b + x[:, k] }\nh");
  // A scan in a scan, which names what is two levels out; the name `t` is its own.
  same("scan t in x along 1, h = b {\n"
       "  g = scan u in b along 1, t = t[:, 0] { t = t + u * x[:, 0, 0] }\n"
       "  h = h + g[:, none] + t\n}",
       "h = b\nfor k in 0..4 {\n  h = h + (x[:, k, 0] + sum(b, axis = 1) * x[:, 0, 0])[:, none] + "
       "x[:, k]\n}\nh");
  // What the body binds stays in it.
  same("h = b\ny = scan t in x along 1 { h = t + 1\n yield h }\nh + 0 * y[:, 0]", "b");
}

TEST_CASE("layers applied in a scan are one layer, made before, in or around it",
          "[elaborate][scan]") {
  const std::string cell = "layer Cell(n: int)(v: [batch, k], h: [batch, n]) {\n"
                           "  param w: [k, n] = GlorotUniform()\n"
                           "  tanh(v @ w + Dense(n)(h))\n}\n";
  Program p(cell + "model M(x: [batch, 4, 2]) {\n"
                   "  scan t in x along 1, h = zeros([batch, 3]) {\n"
                   "    param shift: [3] = Ones()\n    h = Cell(3)(t, h) + shift\n  }\n}");
  std::vector<std::string> names;
  for (const ir::Persistent &v : p.module->persistents) names.push_back(v.name);
  CHECK(names == std::vector<std::string>{"m/shift", "m/cell/w", "m/cell/dense/kernel",
                                          "m/cell/dense/bias"});
  trainsLike("c = Dense(3)\nu = Dense(3, use_bias = false)\n"
             "scan t in x along 1, h = zeros([batch, 3]) { h = tanh(c(t) + u(h)) }",
             "c = Dense(3)\nu = Dense(3, use_bias = false)\nh = zeros([batch, 3])\n"
             "for k in 0..4 { h = tanh(c(x[:, k]) + u(h)) }\nh");
  // Made in the body, the last state and all the states used, in reverse order of time.
  trainsLike("h, ys = scan t in flip(x, 1) along 1, h = zeros([batch, 3]) {\n"
             "  h = tanh(Dense(3)(concat([t, h], axis = 1)))\n  yield h\n}\n"
             "h + mean(ys * ys, axis = 1)",
             "d = Dense(3)\nh = zeros([batch, 3])\nys = []\nfor k in 0..4 {\n"
             "  h = tanh(d(concat([x[:, 3 - k], h], axis = 1)))\n  ys = [..ys, h * h]\n}\n"
             "h + sum(ys) / 4");
  // Nested: the inner loop's weights are those of the outer body.
  trainsLike("d = Dense(3)\n"
             "scan t in x along 1, h = zeros([batch, 3]) {\n"
             "  g = scan k in 0..2, g = h { g = tanh(d(g) * (k + 1) + mean(t)) }\n  h = h + g\n}",
             "d = Dense(3)\nh = zeros([batch, 3])\nfor t in 0..4 {\n  g = h\n"
             "  for k in 0..2 { g = tanh(d(g) * (k + 1) + mean(x[:, t])) }\n  h = h + g\n}\nh");
}

TEST_CASE("states, penalties and updates in a scan go from round to round", "[elaborate][scan]") {
  trainsLike("state s: [3] = Ones()\nparam w: [2, 3] = Ones()\n"
             "y = scan t in x along 1 {\n  v = t @ w\n"
             "  if training { s <- 0.5 * s + mean(v, axis = 0) }\n"
             "  add_loss(0.1 * square(v))\n  yield v * s\n}\n"
             "y[:, -1] + sum(y, axis = 1) + s",
             "state s: [3] = Ones()\nparam w: [2, 3] = Ones()\nys = []\nfor k in 0..4 {\n"
             "  v = x[:, k] @ w\n  if training { s <- 0.5 * s + mean(v, axis = 0) }\n"
             "  add_loss(0.1 * square(v))\n  ys = [..ys, v * s]\n}\nys[-1] + sum(ys) + s");
  // A layer with a state of its own, applied in two nested loops, and its state read afterwards.
  const std::string rounds =
      "layer Count()(v) {\n  state n: [] = Zeros()\n  n <- n + 1\n  v * n\n}\n";
  Program p(rounds +
            "model M(x: [batch, 3]) -> [batch, 3] {\n  param w: [] = Ones()\n"
            "  c = Count()\n  a = c(x * w)\n"
            "  y = scan i in 0..2 {\n    z = scan j in 0..3 { yield c(x * w) }\n"
            "    yield sum(z, axis = 0)\n  }\n"
            "  sum(y, axis = 0) + 0 * a\n}\ntrain M {\n" +
            kData);
  p.run("train_step", 1, {{1, 2, 3}, {0, 0, 0}});
  CHECK(p.weight("n").data == D{7});
  // (2 + .. + 7) * x = 27 x: the mean of squares, and its derivative by w.
  Program q(rounds +
            "model M(x: [batch, 3]) -> [batch, 3] {\n  param w: [] = Ones()\n"
            "  c = Count()\n  a = c(x * w)\n  y = []\n  for i in 0..6 { y = [..y, c(x * w)] }\n"
            "  sum(y) + 0 * a\n}\ntrain M {\n" +
            kData);
  q.run("train_step", 1, {{1, 2, 3}, {0, 0, 0}});
  checkClose(p.weight("w").data, q.weight("w").data, 1e-12);
}

TEST_CASE("draws in a scan differ from round to round and are recomputed", "[elaborate][scan]") {
  Program p("model M(x: [batch, 4, 2]) -> [batch, 3] {\n  param w: [2, 3] = Ones()\n"
            "  y, r = scan t in x along 1, h = zeros([batch, 3]) {\n"
            "    r = random_uniform([batch, 3])\n    h = h + r * (t @ w)\n    yield r\n  }\n"
            "  add_loss(0 * sum(r))\n  y\n}\ntrain M {\n" +
            std::string(kData));
  const ir::Function *f = p.module->find("eval_step");
  for (const ir::Node &n : f->nodes) CHECK(n.op != ir::Op::random_);
  Program d("model M(x: [batch, 4, 2]) {\n  r = scan t in x along 1 { yield random_uniform([batch, "
            "3]) }\n"
            "  s = scan t in x along 1 { yield random_uniform([batch, 3]) }\n  concat([r, s])\n}");
  D draws = d.run("predict", 2, {wave(16, 0)})[0].data;
  std::sort(draws.begin(), draws.end());
  CHECK(std::adjacent_find(draws.begin(), draws.end()) == draws.end());
  // The derivative by w uses the numbers of the forward loop: compare with differences.
  const std::vector<D> batch{wave(16, 0), wave(6, 1)};
  auto lossAt = [&](double delta) {
    p.weight("w").data = wave(6, 0.2);
    p.weight("w").data[4] += delta;
    return p.run("train_step", 2, batch)[0].data[0];
  };
  const double slope = (lossAt(1e-5) - lossAt(-1e-5)) / 2e-5;
  lossAt(0); // and updates
  CHECK(std::abs((wave(6, 0.2)[4] - p.weight("w").data[4]) / 0.5 - slope) < 1e-7);
}

TEST_CASE("an initial value may come of a scan", "[elaborate][scan]") {
  Program p("fn Fibonacci()(shape: list[int]) {\n"
            "  a, b, ys = scan i in 0..shape[0], a = 0.0, b = 1.0 {\n    a, b = (b, a + b)\n    "
            "yield a\n  }\n"
            "  ys\n}\nmodel M(x: [batch, 5]) {\n  param w: [5] = Fibonacci()\n  x * w\n}");
  CHECK(p.weight("w").data == D{1, 1, 2, 3, 5});
}

TEST_CASE("the range of a column is known through a scan", "[elaborate][scan]") {
  Program p(
      "model M(x: i32[batch, 4]) -> [batch, 3] {\n"
      "  e = Embedding(7, 3)\n  scan t in x along 1, h = zeros([batch, 3]) { h = h + e(t) }\n}\n"
      "train M {\n" +
      std::string(kData));
  const ir::Meta &column = (*p.module->meta.find("data")->asList())[0];
  CHECK(integers(*column.find("range")) == std::vector<int64_t>{0, 7});
}

TEST_CASE("derivatives and updates within a scan", "[elaborate][scan]") {
  // Three steps of descent on (p - b) ** 2 at rate 0.1 shrink the distance to 0.8 ** 3 of it.
  same("scan i in 0..3, p = x[:, 0] { p = p - 0.1 * grad(sum(square(p - b)), p) }",
       "b + 0.512 * (x[:, 0] - b)");
  // The derivative by what is around the loop, of a loop whose body has a derivative of its own.
  same(
      "w = 0.3 * b\ny = scan t in x along 1, p = b { p = p - grad(sum(square(p * t * w)), p) }\n"
      "grad(sum(y), w)",
      "w = 0.3 * b\np = b\nfor k in 0..4 { p = p - 2 * p * square(x[:, k] * w) }\ngrad(sum(p), w)");
  // A `gradient` rule in the body.
  same("y = scan t in x along 1, p = b { p = p + through(p * t) }\ngrad(sum(y), b)",
       "p = b\nfor k in 0..4 { p = p + through(p * x[:, k]) }\ngrad(sum(p), b)");
  auto train = [](const std::string &step) {
    Program p("model M(t: [batch, 2]) -> [batch, 3] {\n  t |> Dense(3)\n}\nm = M()\ntrain m {\n"
              "  data = npy(x = \"x.npy\")\n  batch_size = 2\n  step(x: [batch, 4, 2]) {\n" +
              step + "\n  }\n}");
    p.weight("kernel").data = wave(6, 0);
    p.run("train_step", 2, {wave(16, 1)});
    return p.weight("kernel").data;
  };
  checkClose(train("loss = scan t in x along 1, loss = 0.0 { loss = loss + mean(square(m(t))) }\n"
                   "minimize loss over m with SGD(0.1)\nreport loss"),
             train("loss = 0\nfor k in 0..4 { loss = loss + mean(square(m(x[:, k]))) }\n"
                   "minimize loss over m with SGD(0.1)\nreport loss"),
             1e-12);
  // An update per round, with the slots of its optimizer.
  checkClose(train("opt = Adam(0.1)\nloss = scan t in x along 1, loss = 0.0 {\n"
                   "  loss = mean(square(m(t)))\n  minimize loss over m with opt\n}\nreport loss"),
             train("opt = Adam(0.1)\nfor k in 0..4 {\n  loss = mean(square(m(x[:, k])))\n"
                   "  minimize loss over m with opt\n}\nreport loss"),
             1e-12);
}
