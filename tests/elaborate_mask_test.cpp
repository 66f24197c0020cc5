// Masks: where they come from, what keeps them and what drops them.
#include "library_program.h"

using namespace nnc;
using namespace nnc::fe::test;

namespace {
using D = std::vector<double>;

/// The mask of the value of `text` for x: [batch, 3, 2] whose mask is `keep`; empty if it has none.
D maskOf(const std::string &text, const std::string &declarations = "") {
  Program p(declarations +
            "\nmodel M(x: [batch, 3, 2], keep: bool[batch, 3], b: [batch, 3]) {\n"
            "  x = with_mask(x, keep)\n  y = (fn(x) {\n" +
            text +
            "\n})(x)\n"
            "  if mask_of(y) == none { 0 * x } else { cast(mask_of(y), f32) }\n}");
  const auto y = p.run("predict", 2, {wave(12, 0), {1, 0, 1, 1, 1, 0}, wave(6, 1)})[0];
  return y.data.size() == 6 ? y.data : D{};
}
const D kKeep{1, 0, 1, 1, 1, 0}, kNone;
} // namespace

TEST_CASE("elementwise operations keep the only mask of their operands", "[elaborate][mask]") {
  CHECK(maskOf("x") == kKeep);
  CHECK(maskOf("tanh(2 * x + 1) ** 2") == kKeep);
  CHECK(maskOf("where(x > 0, x, -x)") == kKeep);
  CHECK(maskOf("x * b[..., none]") == kKeep);
  CHECK(maskOf("x + cast(x, f64)") == kKeep);
  CHECK(maskOf("x |> relu |> softmax") == kKeep);
  CHECK(maskOf("x + with_mask(x, b > 0)") == kNone); // two masks
  CHECK(maskOf("with_mask(x, none)") == kNone);
  CHECK(maskOf("with_mask(x, none) + x") == kKeep);
  CHECK(maskOf("with_mask(x, not keep)") == D{0, 1, 0, 0, 0, 1});
  CHECK(maskOf("x[:, :2]") == kNone);
  CHECK(maskOf("flip(x, 1)") == kNone);
  CHECK(maskOf("sum(x, axis = -1)") == kNone);
  CHECK(maskOf("with_mask(b, keep)[none] + zeros([4, 1, 3])") == kNone);
}

TEST_CASE("layers keep the mask of their first argument where types agree", "[elaborate][mask]") {
  CHECK(maskOf("x |> Dense(4) |> Dropout(0.5) |> LayerNormalization()") == kKeep);
  CHECK(maskOf("x |> Flatten()") == kNone);
  CHECK(maskOf("x |> GlobalAveragePooling1D()") == kNone);
  CHECK(maskOf("x |> Conv1D(4, 2)") == kNone);
  CHECK(maskOf("Dense(2)(x, mask = not keep)") == D{0, 1, 0, 0, 0, 1});
  CHECK(maskOf("LSTM(3)(x)") == kNone);
  CHECK(maskOf("LSTM(2, return_sequences = true)(x)") == kKeep);
  CHECK(maskOf("LSTM(2, return_sequences = true, return_state = true)(x)[0]") == kKeep);
  CHECK(maskOf("Sequential([Dense(3), Activation(relu)])(x)") == kKeep);
  // By the names of the dimensions if they are written, else by their sizes.
  CHECK(maskOf("x |> Sum()", "layer Sum()(x: [batch, time, n]) -> [batch, n] = sum(x, axis = 1)") ==
        kNone);
  const std::string product = "layer P()(x: [batch, time, n]) -> [batch, time, k] {\n  k = 5\n"
                              "  x @ ones([n, k])\n}";
  CHECK(maskOf("x |> P()", product) == kKeep);
  CHECK(maskOf("x |> P()", "layer P()(x) = x @ ones([2, 5])") == kKeep);
  CHECK(maskOf("x |> P()", "layer P()(x: [..lead, n]) -> [..lead, 1] = x @ ones([n, 1])") == kKeep);
  CHECK(maskOf("x |> P()", "layer P()(x: [..lead, n]) = with_mask(x @ ones([n, 1]), none)") ==
        kNone);
}

TEST_CASE("a layer that declares a mask gets it", "[elaborate][mask]") {
  const std::string count =
      "layer Count()(x: [batch, time, n], mask: bool[batch, time] | none = none)"
      " {\n  if mask == none { ones([batch]) * -1 }\n"
      "  else { sum(cast(mask, f32), axis = 1) }\n}\n";
  auto run = [&](const std::string &text) {
    Program p(count + "model M(x: [batch, 3, 2], keep: bool[batch, 3]) {\n" + text + "\n}");
    return p.run("predict", 2, {wave(12, 0), {1, 0, 1, 0, 1, 0}})[0].data;
  };
  CHECK(run("x |> Count()") == D{-1, -1});
  CHECK(run("with_mask(x, keep) |> Count()") == D{2, 1});
  CHECK(run("Count()(x, mask = keep)") == D{2, 1});
  CHECK(run("Count()(x, keep)") == D{2, 1});
  CHECK(run("c = Count()\nwith_mask(x, keep) |> c(mask = not keep)") == D{1, 2});
  CHECK(run("with_mask(x, keep) |> Dense(4) |> Count()") == D{2, 1});
  CHECK(run("Count()(Dense(4)(x, mask = keep))") == D{2, 1});
}

TEST_CASE("the body of a scan sees the masks around it", "[elaborate][mask][scan]") {
  Program p(
      "model M(x: [batch, 3, 2], keep: bool[batch, 3]) {\n"
      "  y = with_mask(x, keep)\n"
      "  scan i in 0..2, j in 0..2, h = zeros([batch]) {\n"
      "    z = tanh(y + i)\n"
      "    h = h + sum(cast(mask_of(z), f32), axis = 1)\n"
      "    g = scan t in y along 1, g = h { g = g + if mask_of(t) == none { 1 } else { 0 } }\n"
      "    h = g\n  }\n}");
  CHECK(p.run("predict", 2, {wave(12, 0), {1, 0, 1, 0, 1, 0}})[0].data == D{10, 8});
}

TEST_CASE("a batch in which nothing counts has no loss", "[elaborate][mask]") {
  Program p("model M(x: i32[batch, 3]) -> [batch, 3, 2] {\n"
            "  x |> Embedding(4, 2, mask_zero = true) |> Dense(2)\n}\n"
            "train M {\n  data = npy(x = \"x\", target = \"y\")\n"
            "  loss = MeanSquaredError()\n  optimizer = SGD(1.0)\n}");
  const D before = p.weight("kernel").data;
  CHECK(p.run("train_step", 2, {D(6, 0), wave(12, 0)})[0].data == D{0});
  CHECK(p.weight("kernel").data == before);
}
