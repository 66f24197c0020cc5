// Recurrent layers beside their reference values: initial weights, dropout, cells of one's own.
#include "tests/library_program.h"

using namespace nnc;
using namespace nnc::fe::test;

namespace {
using D = std::vector<double>;
}

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
