// What programs compute: expressions, element types, indexing, calls and instances, checked through
// the reference interpreter; and a training step against the same arithmetic by hand.
#include "library_program.h"
#include "tests/growth.h"

using namespace nnc;
using namespace nnc::fe::test;

namespace {
/// The body of a model with x = [[1, -2, 3], [4, 5, -6]] : [batch, 3].
std::vector<double> body(const std::string &text) {
  Program p("model M(x: [batch, 3]) {\n" + text + "\n}");
  return p.run("predict", 2, {{1, -2, 3, 4, 5, -6}})[0].data;
}
/// The type of the body's value, as the IR prints it.
std::string typeOf(const std::string &text) {
  Program p("model M(x: [batch, 3], i: i32[batch, 3], u: u8[batch, 3], b: bool[batch, 3]) {\n" +
            text + "\n}");
  const ir::Function *f = p.module->find("predict");
  return ir::str(f->type(f->results[0].value));
}
using D = std::vector<double>;
} // namespace

TEST_CASE("element types follow the rules of promotion", "[elaborate]") {
  CHECK(typeOf("i + 1") == "i32[n,3]");
  CHECK(typeOf("i + 1.5") == "f32[n,3]");
  CHECK(typeOf("u + u") == "i32[n,3]");
  CHECK(typeOf("b + b") == "i32[n,3]");
  CHECK(typeOf("i / 2") == "f32[n,3]");
  CHECK(typeOf("mean(u)") == "f32[]");
  CHECK(typeOf("sum(b, axis = 0)") == "i32[3]");
  CHECK(typeOf("x > i") == "bool[n,3]");
  CHECK(typeOf("b and not b") == "bool[n,3]");
  CHECK(typeOf("exp(i)") == "f32[n,3]");
  CHECK(typeOf("where(b, 1, 2)") == "i32[n,3]");
  CHECK(typeOf("where(b, x, i)") == "f32[n,3]");
  CHECK(typeOf("full([2], 1)") == "i32[2]");
  CHECK(typeOf("full([2], true)") == "bool[2]");
  CHECK(typeOf("zeros([batch, 2])") == "f32[n,2]");
  CHECK(typeOf("range(batch) + batch") == "i32[n]");
  CHECK(typeOf("[1, 2, 3] + x") == "f32[n,3]");
  CHECK(typeOf("u ** 2") == "i32[n,3]");
  CHECK(typeOf("cast(x, bool)") == "bool[n,3]");
  auto is = [](const std::string &value, const std::string &type) { // outputs are widened
    return typeOf("if dtype(" + value + ") == " + type + " { i } else { x }") == "i32[n,3]";
  };
  CHECK(is("cast(x, bf16) + 1.5", "bf16"));
  CHECK(is("cast(x, bf16) + x", "f32"));
  CHECK(is("cast(x, bf16) + cast(x, f16)", "f32"));
  CHECK(is("cast(x, bf16) + i", "bf16"));
  CHECK(is("cast(x, f16) + cast(x, f64)", "f64"));
}

TEST_CASE("the mean of values of f16 is in range where their sum is not", "[elaborate]") {
  Program p("model M(x: [batch, 3]) { mean(cast(where(x > 0, 60000, 50000), f16)) }",
            ir::Precision::f32);
  const D mean = p.run("predict", 2, {{1, -2, 3, 4, 5, -6}})[0].data;
  CHECK(mean == D{56672}); // 56666.7, as f16 has it
}

TEST_CASE("sizes are of the form a * batch + b", "[elaborate]") {
  CHECK(typeOf("concat([x, x], axis = 0)") == "f32[2n,3]");
  CHECK(typeOf("x[1:]") == "f32[n-1,3]");
  CHECK(typeOf("reshape(x, [3 * batch])") == "f32[3n]");
  CHECK(typeOf("reshape(concat([x, x], axis = 0), [batch, -1])") == "f32[n,6]");
  CHECK(typeOf("zeros([len(shape(x)) * batch + 1])") == "f32[2n+1]");
  CHECK(typeOf("x[:, none, ::-1]") == "f32[n,1,3]");
  CHECK(typeOf("split(concat([x, x], axis = 0), 2)[1]") == "f32[n,3]");
}

TEST_CASE("operators compute", "[elaborate]") {
  CHECK(body("x ** 2") == D{1, 4, 9, 16, 25, 36});
  CHECK(body("x ** 3") == D{1, -8, 27, 64, 125, -216});
  CHECK(body("2 ** x[:, :1]") == D{2, 16});
  CHECK(body("-x // 2") == D{-1, 1, -2, -2, -3, 3});
  CHECK(body("x % 4") == D{1, 2, 3, 0, 1, 2});
  CHECK(body("x @ transpose(x)") == D{14, -24, -24, 77});
  CHECK(body("x @ [1, 0, 1]") == D{4, -2});
  CHECK(body("(1 / 4) * x[:, 0]") == D{0.25, 1});
  CHECK(body("x[:, 0] / batch") == D{0.5, 2});
  CHECK(body("zeros([2]) + 7 // 2 + 7 % -4 - 2 ** 3") == D{-6, -6});
  CHECK(body("x[:, 0] |> (fn(y) = y + 1)") == D{2, 5});
}

TEST_CASE("indexing cuts, drops, adds, turns and picks", "[elaborate]") {
  CHECK(body("x[0]") == D{1, -2, 3});
  CHECK(body("x[-1, 1:]") == D{5, -6});
  CHECK(body("x[:, ::2]") == D{1, 3, 4, -6});
  CHECK(body("x[..., ::-1]") == D{3, -2, 1, -6, 5, 4});
  CHECK(body("x[:, 0..2]") == D{1, -2, 4, 5});
  CHECK(body("x[:, [2, 0]]") == D{3, 1, -6, 4});
  CHECK(body("take(x, argmax(x, axis = -1)[:1], axis = 1)") == D{3, -6});
  CHECK(body("[10, 20, 30][-1] + x[:, 0]") == D{31, 34});
  CHECK(body("(k = 2, j = 3).j * x[:, 0]") == D{3, 12});
}

TEST_CASE("reductions and rearrangement", "[elaborate]") {
  CHECK(body("sum(x)") == D{5});
  CHECK(body("sum(x, axis = -1, keepdims = true)") == D{2, 3});
  CHECK(body("max(x, axis = [0, 1])") == D{5});
  CHECK(body("mean(x, axis = 0)") == D{2.5, 1.5, -1.5});
  CHECK(body("cumsum(x, axis = 1)") == D{1, -1, 2, 4, 9, 3});
  CHECK(body("pad(x[:, :1], [[0, 0], [1, 2]], value = 9)") == D{9, 1, 9, 9, 9, 4, 9, 9});
  CHECK(body("stack([x[:, 0], x[:, 1]], axis = 1)") == D{1, -2, 4, 5});
  CHECK(body("stack([x[0, 0], 5, 6.5])") == D{1, 5, 6.5});
  CHECK(body("argmax(x)") == D{2, 1});
  CHECK(body("einsum(\"bi,bj->ij\", x, x)[0]") == D{17, 18, -21});
  CHECK(body("einsum(\"...i->...\", x)") == D{2, 3});
  CHECK(body("einsum(\"bi,bi,b->i\", x, x, x[:, 0])[:1]") == D{65});
}

TEST_CASE("compile-time structures disappear", "[elaborate]") {
  CHECK(body("y = x[:, 0]\nfor i in 0..3 { y = y * 2 + i }\ny") == D{12, 36});
  CHECK(body("sum([x[:, i] * i for i in 0..3 if i != 1])") == D{6, -12});
  CHECK(body("a, b = (x[:, 0], x[:, 1])\na, b = b, a\na - b") == D{-3, 1});
  CHECK(body("f = fn(y, k: int = 2) = y * k\nf(k = 3)(x[:, 0]) + f(x[:, 0])") == D{5, 20});
  CHECK(body("t = map(fn(a) = a + 1, (p = x[:, 0], q = [x[:, 1]]))\nt.p + t.q[0]") == D{1, 11});
  CHECK(body("r = (a = x[:, 0], b = x[:, 1]) * 2 + (a = 1, b = x[:, 2])\nr.a + r.b") == D{2, 13});
  CHECK(body("xs = reverse([1, 2, 3])\ny = x[:, 0]\n"
             "for i, k in enumerate(xs) { y = y + i * k }\ny") == D{5, 8});
  CHECK(body("c = if len([1]) == 1 { x[:, 0] } else { none }\nc") == D{1, 4});
  CHECK(body("i = 5\nfor i in 0..2 { y = x[:, i] }\ny + i") == D{3, 10});
}

TEST_CASE("a step of training is what it says", "[elaborate]") {
  Program p(R"(model M(x: [batch, 2]) -> [batch, 1] {
  param w: [2, 1] = Ones(), regularizer = L2(0.5), constraint = NonNeg()
  x @ w
}
train M {
  data = npy(x = "x.npy", target = "y.npy")
  loss = MeanSquaredError()
  optimizer = SGD(0.25)
  metrics = [MeanAbsoluteError()]
  batch_size = 2
})");
  auto loss = p.run("train_step", 2, {{1, 2, 3, -4}, {1, 1}})[0].data;
  // predictions 3, -1; errors 2, -2; loss (4 + 4) / 2 + 0.5 * (1 + 1)
  CHECK(loss == D{5});
  // gradient: 2/2 * (2*[1,2] - 2*[3,-4]) + [1,1] = [-4, 12] + [1, 1]
  CHECK(p.weight("w").data == D{1.75, 0});
  auto results = p.run("metrics_result", 1, {});
  CHECK(results[0].data == D{5});
  CHECK(results[1].data == D{2});
  CHECK(p.run("eval_step", 1, {{4, 0}, {7}})[0].data == D{0.5 * 1.75 * 1.75});
  CHECK(p.weight("w").data == D{1.75, 0});
  CHECK(p.weight("iterations").data == D{1});
}

TEST_CASE("the base arguments of optimizers come before the body", "[elaborate]") {
  auto after = [](const std::string &optimizer) {
    Program p("model M(x: [batch, 1]) -> [batch, 1] {\n  param w: [1, 1] = Ones()\n  x @ w\n}\n"
              "train M {\n  data = npy(x = \"x\", target = \"y\")\n  loss = fn(y, p) = p * y\n"
              "  optimizer = " +
              optimizer + "\n}");
    p.run("train_step", 1, {{1}, {8}});
    return p.weight("w").data[0];
  };
  CHECK(after("SGD(0.5)") == 1 - 0.5 * 8);
  CHECK(after("SGD(0.5, clipvalue = 2.0)") == 1 - 0.5 * 2);
  CHECK(after("SGD(0.5, clipnorm = 1.0)") == 0.5);
  CHECK(after("SGD(0.5, weight_decay = 0.5)") == 0.75 - 0.5 * 8);
  CHECK(after("SGD(fn(t) = 0.5 * (t + 1))") == 1 - 0.5 * 8);
}

TEST_CASE("frozen weights stay, and their layers do not train", "[elaborate]") {
  Program p(R"(enc = Sequential([Dense(2, use_bias = false, trainable = false), Dropout(0.5)])
model M(x: [batch, 2]) { x |> enc |> BatchNormalization(trainable = false) |> Dense(1) }
train M {
  data = npy(x = "x.npy", target = "y.npy")
  loss = MeanSquaredError()
  optimizer = SGD(0.1)
  freeze = [enc]
})");
  const ir::Function *f = p.module->find("train_step");
  std::vector<std::string> written;
  for (const ir::Result &r : f->results)
    if (r.bind) written.push_back(r.name);
  std::sort(written.begin(), written.end());
  CHECK(written == std::vector<std::string>{"m/dense/bias", "m/dense/kernel", "metrics/loss/count",
                                            "metrics/loss/total", "sgd/iterations"});
  for (const ir::Node &n : f->nodes) CHECK(n.op != ir::Op::random_);
}

TEST_CASE("a function's own derivative is used", "[elaborate]") {
  Program p(
      R"(fn step_up(x, size: float = 3.0) { where(x > 0, size, 0.0) } gradient(dy) { dy * size + result }
model M(x: [batch, 1]) -> [batch, 1] {
  param w: [1, 1] = Ones()
  step_up(x @ w)
}
train M {
  data = npy(x = "x", target = "y")
  loss = fn(y, p) = p * y
  optimizer = SGD(1.0)
})");
  p.run("train_step", 1, {{2}, {5}});
  CHECK(p.weight("w").data[0] == 1 - 2 * (5 * 3 + 3));
}

TEST_CASE("elaboration is linear and bounded", "[elaborate]") {
  auto elaborate = [](size_t lines) {
    std::string text = "model M(x: [batch, 3]) {\n";
    for (size_t i = 0; i < lines; ++i) text += "  x = x * 2 + " + std::to_string(i % 7) + "\n";
    fe::Sources sources;
    fe::Diagnostics diags(sources);
    uint32_t file = sources.add("long.nn", text + "  x\n}\n");
    REQUIRE(fe::elaborate(sources, file, diags));
  };
  CHECK(test::growsLinearly(5000, elaborate));
}
