// Recurrent layers beside their reference values: initial weights, dropout, cells of one's own.
#include "ir/passes.h"
#include "tests/library_program.h"

using namespace nnc;
using namespace nnc::fe::test;

namespace {
using D = std::vector<double>;

/// The i-th of n equal parts.
D part(const D &all, int64_t n, int64_t i) {
  const int64_t size = int64_t(all.size()) / n;
  return {all.begin() + i * size, all.begin() + (i + 1) * size};
}
} // namespace

TEST_CASE("qr gives orthonormal columns and an upper triangle", "[library]") {
  Program p("model M(x: [batch, 2]) {\n"
            "  param a: [5, 3] = Zeros()\n  q, r = qr(a)\n"
            "  (transpose(q) @ q, q @ r - a, r, 0 * x)\n}");
  p.weight("a").data = wave(15, 0.3, 2);
  p.weight("a").data[4] = p.weight("a").data[3] * (1 + 1e-6); // nearly dependent
  const auto y = p.run("predict", 1, {{1, 2}});
  checkClose(y[0].data, {1, 0, 0, 0, 1, 0, 0, 0, 1}, 1e-12, 1e-12);
  checkClose(y[1].data, D(15, 0), 0, 1e-12);
  const D &r = y[2].data;
  CHECK((r[3] == 0 && r[6] == 0 && r[7] == 0 && r[0] > 0 && r[4] > 0 && r[8] > 0));
}

TEST_CASE("Orthogonal and the forget bias start recurrent layers", "[library]") {
  Program p("model M(x: [batch, 4, 2]) { x |> LSTM(3, recurrent_initializer = Orthogonal(2.0)) }");
  const D u = p.weight("recurrent_kernel").data; // [3, 12]: rows are orthogonal, of length 2
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      double dot = 0;
      for (int k = 0; k < 12; ++k) dot += u[size_t(i * 12 + k)] * u[size_t(j * 12 + k)];
      CHECK(std::abs(dot - (i == j ? 4 : 0)) < 1e-12);
    }
  CHECK(p.weight("bias").data == D{0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0});
  Program q("model M(x: [batch, 4, 2]) {\n  x |> LSTM(1, unit_forget_bias = false, "
            "bias_initializer = Ones(), recurrent_initializer = Zeros())\n}");
  CHECK(q.weight("bias").data == D{1, 1, 1, 1});
}

TEST_CASE("dropout of a recurrent layer is one mask for all steps", "[library]") {
  // With x = 1, kernel 1 and no recurrence the output of a step is the factor of its input; a
  // recurrence of 1 adds up the factors of the state.
  auto train = [](const std::string &arguments, const std::string &loss) {
    Program p("model M(x: [batch, 6, 1]) -> [batch, 1] {\n"
              "  y = SimpleRNN(8, activation = linear, use_bias = false, return_sequences = true,\n"
              "                kernel_initializer = Ones(), " +
              arguments + ")(x)\n  " + loss +
              "\n}\nfn Own()(y_true: [batch, 1], y_pred: [batch, 1]) = y_pred + 0 * y_true\n"
              "train M {\n  data = npy(x = \"x\", target = \"y\")\n  loss = Own()\n"
              "  optimizer = SGD(0.0)\n}");
    const std::vector<D> inputs{D(6 * 4, 1), D(4, 0)};
    return std::pair(p.run("train_step", 4, inputs)[0].data[0],
                     p.run("eval_step", 4, inputs)[0].data[0]);
  };
  const std::string still = "recurrent_initializer = Zeros(), dropout = 0.5";
  auto [spread, none] = train(still, "sum(variance(y, axis = 1), axis = 1, keepdims = true)");
  CHECK(spread == 0);
  auto [most, one] = train(still, "max(y) + zeros([batch, 1])");
  CHECK(most == 2);
  CHECK(one == 1);
  auto [least, still1] = train(still, "min(y) + zeros([batch, 1])");
  CHECK((least == 0 && still1 == 1));
  // h = 1 + f h with f in {0, 2}: the first step is 1, the second 1 or 3, the third 1 or 7.
  const std::string kept = "recurrent_initializer = IdentityInitializer(), recurrent_dropout = 0.5";
  auto [third, sum] = train(kept, "reshape(max(abs((y[:, 2] - 1) * (y[:, 2] - 7)), axis = 1), "
                                  "[batch, 1])");
  CHECK(third == 0);
  CHECK(sum == 8); // (3 - 1) * (3 - 7)
  auto [second, ignored] = train(kept, "reshape(max(y[:, 1], axis = 1), [batch, 1])");
  CHECK(second == 3);
}

TEST_CASE("a cell of one's own runs in RNN", "[library]") {
  // Two states, of other shapes than the output.
  Program p(
      "layer Mean(scale: float)(x: [batch, n], states = none) {\n"
      "  param w: [n] = Ones()\n"
      "  total, count = if states == none { [zeros_like(x), zeros([batch, 1])] } else { states }\n"
      "  total = total + x * w\n  count = count + 1\n"
      "  (scale * sum(total / count, axis = 1, keepdims = true), [total, count])\n}\n"
      "model M(x: [batch, 3, 2]) { RNN(Mean(2.0), return_sequences = true, return_state = true)(x) "
      "}");
  const auto y = p.run("predict", 1, {{1, 2, 3, 4, 5, 12}});
  REQUIRE(y.size() == 3);
  CHECK(y[0].data == D{6, 10, 18});
  CHECK(y[1].data == D{9, 18});
  CHECK(y[2].data == D{3});
}

TEST_CASE("recurrent layers compute in the type of their policy", "[library]") {
  for (const char *layer : {"SimpleRNN(3)", "LSTM(3)", "GRU(3)", "GRU(3, reset_after = false)",
                            "Bidirectional(LSTM(3, return_sequences = true))", "RNN(LSTMCell(3))"})
    for (const char *policy : {"mixed_bfloat16", "bfloat16", "float16", "float64"}) {
      INFO(layer << ", " << policy);
      Program p(std::string("model M(x: [batch, 4, 2]) {\n  y = Masking()(x) |> ") + layer +
                    " |> Flatten()\n  y |> Dense(1)\n}\ntrain M {\n  data = npy(x = \"x\", target "
                    "= \"y\")\n"
                    "  loss = MeanSquaredError()\n  optimizer = SGD(0.1)\n  precision = \"" +
                    policy + "\"\n}",
                ir::Precision::f32);
      const D loss = p.run("train_step", 2, {wave(16, 0), {1, 2}})[0].data;
      CHECK((loss[0] > 0 && loss[0] < 100));
    }
}

TEST_CASE("a stateful layer goes on where the batch before ended", "[library]") {
  const int64_t n = 3, half = 3 * 2;
  auto fill = [](Program &p) {
    int k = 0;
    for (const ir::Persistent &w : p.module->persistents)
      if (*w.meta.find("kind")->asString() == "param") {
        ir::Tensor &t = p.interpreter->persistent(w.name);
        t.data = wave(t.count(), k++, 0.5);
      }
  };
  for (const std::string layer :
       {"SimpleRNN(4", "LSTM(4", "GRU(4", "RNN(LSTMCell(4)", "RNN([LSTMCell(3), GRUCell(4)]",
        "RNN(StackedRNNCells([SimpleRNNCell(2), LSTMCell(4)])"}) {
    INFO(layer);
    const std::string rest = ", return_sequences = true";
    Program whole("model M(x: [batch, 6, 2]) { " + layer + rest + ")(x) }");
    Program parts("model M(x: [batch, 3, 2]) { " + layer + rest + ", stateful = true)(x) }");
    fill(whole), fill(parts);
    const D x = wave(n * 2 * half, 0);
    D first, second;
    for (int64_t i = 0; i < n; ++i) {
      first.insert(first.end(), x.begin() + i * 2 * half, x.begin() + i * 2 * half + half);
      second.insert(second.end(), x.begin() + i * 2 * half + half, x.begin() + (i + 1) * 2 * half);
    }
    const D wanted = whole.run("predict", n, {x})[0].data;
    auto rows = [&](int64_t from, int64_t count, bool later) {
      D out;
      for (int64_t i = from; i < from + count; ++i)
        out.insert(out.end(), wanted.begin() + i * 24 + (later ? 12 : 0),
                   wanted.begin() + i * 24 + (later ? 24 : 12));
      return out;
    };
    checkClose(parts.run("predict", n, {first})[0].data, rows(0, n, false));
    // A smaller batch takes the first rows; those behind it stay.
    checkClose(parts.run("predict", 2, {{second.begin(), second.begin() + 2 * half}})[0].data,
               rows(0, 2, true));
    checkClose(part(parts.run("predict", n, {second})[0].data, n, 2), rows(2, 1, true));
  }
}

TEST_CASE("a stateful layer is trained within its batch, from the state it has", "[library]") {
  // One unit without activation: h = x + u h, the loss its mean.
  Program p("model M(x: [batch, 1, 1]) -> [batch, 1] {\n"
            "  SimpleRNN(1, activation = linear, use_bias = false, stateful = true,\n"
            "            kernel_initializer = Ones(), recurrent_initializer = Ones())(x)\n}\n"
            "fn Own()(y_true: [batch, 1], y_pred: [batch, 1]) = y_pred + 0 * y_true\n"
            "train M {\n  data = npy(x = \"x\", target = \"y\")\n  loss = Own()\n"
            "  optimizer = SGD(1.0)\n  batch_size = 2\n}");
  p.run("train_step", 2, {{1, 3}, {0, 0}}); // h = [1, 3], derivatives: 2 by w, 0 by u
  CHECK(p.weight("recurrent_kernel").data == D{1});
  CHECK(p.weight("kernel").data == D{-1});
  p.run("train_step", 2, {{1, 3}, {0, 0}}); // h = w x + u [1, 3]: derivative by u is 2
  CHECK(p.weight("recurrent_kernel").data == D{-1});
  // Evaluation and prediction go on too; what `weights` and files name has no such states.
  p.weight("recurrent_kernel").data = {1};
  CHECK(p.run("eval_step", 2, {{0, 0}, {0, 0}})[0].data == D{0}); // h = 0
  CHECK(p.run("predict", 2, {{2, 4}})[0].data == D{-6, -12});     // w = -3
  CHECK(p.run("predict", 2, {{0, 0}})[0].data == D{-6, -12});
}

TEST_CASE("states of rows have sizes with the batch", "[library]") {
  Program p("layer Count()(x: [batch, c]) {\n  state seen: [2 * batch, c] = Ones()\n"
            "  state label: i32[batch] = Zeros()\n"
            "  seen <- seen + concat([x, x])\n  label <- label + 1\n"
            "  seen[:batch] + cast(label, float)[:, none]\n}\n"
            "model M(x: [batch, 2]) {\n  param w: [] = Zeros()\n  Count()(x) + w\n}\n"
            "train M {\n  data = npy(x = \"x\", target = \"y\")\n  loss = MeanSquaredError()\n"
            "  optimizer = SGD(0.0)\n  batch_size = 4\n}");
  CHECK(p.run("predict", 2, {{1, 2, 3, 4}})[0].data == D{3, 4, 5, 6});
  CHECK(p.weight("seen").dims == std::vector<int64_t>{8, 2});
  CHECK(p.run("predict", 1, {{1, 2}})[0].data == D{5, 7});
  CHECK(p.weight("label").data == D{2, 1, 0, 0});
}

TEST_CASE("derivatives of derivatives of recurrent layers are JAX's", "[library][scan]") {
  for (const ir::Meta &c : cases("recurrent_steps.json")) {
    const std::string name = *c.find("name")->asString();
    INFO(name);
    Program p(secondOrderProgram(*c.find("layer")->asString()));
    const std::vector<std::string> weights{name + "/kernel", name + "/recurrent_kernel",
                                           name + "/bias", "dense/kernel", "dense/bias"};
    const auto &wanted = *c.find("weights")->asList();
    for (size_t k = 0; k < weights.size(); ++k) {
      ir::Tensor &w = p.weight(weights[k]);
      w.data = wave(w.count(), 0.3 * double(k), 0.5);
    }
    const auto loss = p.run("train_step", 3, {wave(24, 0.9), wave(3, 0.2)});
    CHECK(loss[0].data[0] == Approx(number(*c.find("loss"))).epsilon(1e-9));
    for (size_t k = 0; k < weights.size(); ++k)
      checkClose(p.weight(weights[k]).data, numbers(wanted[k]));
  }
}

TEST_CASE("what does not depend on the round stays out of recurrent loops", "[library][scan]") {
  // By layer: the products in a round there, and in one back.
  const struct {
    const char *layer;
    size_t products;
  } rows[] = {{"SimpleRNN(3)", 1},
              {"LSTM(3, return_sequences = true)", 1},
              {"GRU(3, recurrent_dropout = 0.5)", 1},
              {"GRU(3, reset_after = false)", 2},
              {"LSTM(3, dropout = 0.5, go_backwards = true)", 1},
              {"Bidirectional(LSTM(3))", 1}};
  for (const auto &row : rows) {
    INFO(row.layer);
    nnc::fe::Sources sources;
    nnc::fe::Diagnostics diags(sources);
    auto m = nnc::fe::elaborate(
        sources,
        sources.add("test.nn", std::string("model M(x: [batch, 7, 2]) { x |> ") + row.layer +
                                   " |> Flatten() |> Dense(1) }\ntrain M {\n"
                                   "  data = npy(x = \"x\", target = \"y\")\n"
                                   "  loss = MeanSquaredError()\n"
                                   "  optimizer = SGD(0.1)\n}"),
        diags);
    REQUIRE(m != nullptr);
    ir::runGradient(*m, {});
    ir::runOptimize(*m, {});
    auto products = [](const ir::Function &f) {
      std::vector<const ir::Node *> found;
      for (const ir::Node &n : f.nodes)
        if (n.op == ir::Op::contract_) found.push_back(&n);
      return found;
    };
    // One product there and one back for every recurrent kernel, nothing else.
    size_t loops = 0;
    for (const auto &f : m->functions) {
      if (f->name.rfind("train_step.scan", 0) != 0) continue;
      ++loops;
      INFO(f->name);
      CHECK(products(*f).size() == row.products);
    }
    const bool both = std::string(row.layer).rfind("Bidirectional", 0) == 0;
    CHECK(loops >= 2);
    // Outside: of each direction the projection of all steps, and the derivative of each kernel as
    // one sum over batch and steps; and those of Dense: forward, back, its kernel.
    CHECK(products(*m->find("train_step")).size() == (both ? 2 : 1) * (2 + row.products) + 3);
  }
}
