// Written-out training steps: against JAX where derivatives are differentiated, against the short
// form and arithmetic by hand elsewhere. Run by the reference interpreter in double precision.
#include "library_program.h"

using namespace nnc;
using namespace nnc::fe::test;

namespace {
using D = std::vector<double>;

const char *const kNet = "net = Sequential([Dense(5, activation = tanh), Dense(1)])\n";

/// A program with one `step` over x [batch, inputs] and y [batch, 1].
std::string stepOf(const std::string &before, const std::string &body, int64_t inputs,
                   const std::string &keys = "") {
  return before + "train net {\n  data = npy(x = \"x.npy\", y = \"y.npy\")\n  batch_size = 4\n" +
         keys + "  step(x: [batch, " + std::to_string(inputs) + "], y: [batch, 1]) {\n" + body +
         "\n  }\n}\n";
}

const char *const kWeights[] = {"dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"};

void setWeights(Program &p) {
  for (size_t i = 0; i < std::size(kWeights); ++i) {
    ir::Tensor &w = p.weight(kWeights[i]);
    w.data = wave(w.count(), 0.3 * double(i), 0.5);
  }
}

std::map<std::string, D> weightsOf(Program &p) {
  std::map<std::string, D> out;
  for (const char *name : kWeights) out[name] = p.weight(name).data;
  return out;
}

/// The weights after `steps` steps on the same batch.
std::map<std::string, D> trained(const std::string &text, int steps = 1) {
  Program p(text);
  setWeights(p);
  for (int i = 0; i < steps; ++i) p.run("train_step", 4, {wave(12, 0.9), wave(4, 0.2)});
  return weightsOf(p);
}

void checkSame(const std::map<std::string, D> &found, const std::map<std::string, D> &wanted,
               double relative = 1e-12) {
  for (auto &[name, values] : wanted) {
    INFO(name);
    checkClose(found.at(name), values, relative, 1e-14);
  }
}

const char *bodyOf(const std::string &name) {
  if (name == "gradient penalty")
    return "    slope = sqrt(sum(grad(sum(net(x)), x) ** 2, axis = 1))\n"
           "    loss = mean(net(x)) + 10 * mean((slope - 1) ** 2) + 0 * mean(y)\n"
           "    minimize loss over net with SGD(1.0)\n"
           "    report loss";
  if (name == "meta-learning")
    return "    inner = mean((net(x) - y) ** 2)\n"
           "    w = weights(net)\n"
           "    fast = w - 0.1 * grad(inner, w)\n"
           "    loss = mean((net(flip(x, 0), weights = fast) - y) ** 2)\n"
           "    minimize loss over net with SGD(1.0)\n"
           "    report loss";
  return "    a, t = split(x, 2, axis = 1)\n"
         "    u = net(concat([a, t], axis = 1))\n"
         "    u_a, u_t = grad(sum(u), (a, t))\n"
         "    u_aa = grad(sum(u_a), a)\n"
         "    loss = mean((u_t + u * u_a - 0.01 / pi * u_aa) ** 2) + 0 * mean(y)\n"
         "    minimize loss over net with SGD(1.0)\n"
         "    report loss";
}
} // namespace

TEST_CASE("steps with derivatives inside give JAX's values", "[elaborate]") {
  for (const ir::Meta &c : cases("steps.json")) {
    const std::string name = *c.find("name")->asString();
    INFO(name);
    const int64_t inputs = *c.find("inputs")->asInt();
    Program p(stepOf(kNet, bodyOf(name), inputs));
    setWeights(p);
    const auto loss = p.run("train_step", 4, {wave(4 * inputs, 0.9), wave(4, 0.2)});
    CHECK(loss[0].data[0] == Approx(number(*c.find("loss"))).epsilon(1e-9));
    size_t i = 0;
    for (const ir::Meta &w : *c.find("weights")->asList()) {
      INFO(kWeights[i]);
      checkClose(p.weight(kWeights[i++]).data, numbers(w));
    }
  }
}

TEST_CASE("a written-out step is the short form", "[elaborate]") {
  const std::string model = "model M(x: [batch, 3]) { x |> Dense(5, activation = tanh, kernel_regularizer = L2(0.1)) "
                            "|> Dense(1) }\nnet = M()\n";
  const std::string written = stepOf(model,
                                     "    loss = mean(MeanSquaredError()(y, net(x))) + losses(net)\n"
                                     "    minimize loss over net with Adam(0.1)\n"
                                     "    report loss", 3);
  const std::string apart = stepOf(model,
                                   "    loss = mean(MeanSquaredError()(y, net(x))) + losses(net)\n"
                                   "    opt = Adam(0.1)\n"
                                   "    opt(weights(net), grad(loss, weights(net)))\n"
                                   "    report loss", 3);
  const std::string shortForm =
      model + "train net {\n  data = npy(x = \"x.npy\", target = \"y.npy\")\n"
              "  loss = MeanSquaredError()\n  optimizer = Adam(0.1)\n  batch_size = 4\n}\n";
  const auto wanted = trained(shortForm, 3);
  checkSame(trained(written, 3), wanted);
  checkSame(trained(apart, 3), wanted);
}

TEST_CASE("reports are means over the rows of all batches, metrics their value", "[elaborate]") {
  Program p(stepOf(kNet,
                   "    _ = net(x)\n    report size = mean(y), error = MeanAbsoluteError()(y, 0 * y), last = MeanMetric()(y, y)",
                   3).insert(0, "metric MeanMetric()(y_true: [batch, 1], y_pred: [batch, 1]) -> [] {\n"
                                "  state n: [] = Zeros()\n  n <- n + 1\n  n\n}\n"));
  p.run("eval_step", 1, {D(3, 0), {4}});
  p.run("eval_step", 3, {D(9, 0), {1, 1, 4}});
  const auto r = p.run("metrics_result", 0, {});
  CHECK(r[0].data[0] == Approx(2.5));
  CHECK(r[1].data[0] == Approx(2.5));
  CHECK(r[2].data[0] == 2);
}

TEST_CASE("stores replace weights, and count as constants", "[elaborate]") {
  // The second derivative by the weights is at the stored values, which the first step of SGD made.
  const std::string once =
      stepOf(kNet, "    minimize mean((net(x) - y) ** 2) over net with SGD(0.1)", 3);
  const std::string twice = stepOf(kNet,
                                   "    minimize mean((net(x) - y) ** 2) over net with SGD(0.1)\n"
                                   "    minimize mean((net(x) - y) ** 2) over net with SGD(0.1)",
                                   3);
  checkSame(trained(twice), trained(once, 2));
  const std::string byHand = stepOf(kNet,
                                    "    g = grad(mean((net(x) - y) ** 2), weights(net))\n"
                                    "    weights(net) <- weights(net) - 0.1 * g", 3);
  checkSame(trained(byHand), trained(once));
  Program p(stepOf(kNet, "    _ = net(x)\n"
                         "    weights(net, \"*/bias\") <- map(fn(w) = w + 1, weights(net))\n"
                         "    report total = sum(net(x))", 3));
  setWeights(p);
  const auto before = weightsOf(p);
  p.run("train_step", 4, {wave(12, 0.9), wave(4, 0.2)});
  for (const char *name : kWeights) {
    INFO(name);
    auto wanted = before.at(name);
    if (std::string(name).ends_with("bias"))
      for (double &v : wanted) v += 1;
    checkClose(p.weight(name).data, wanted);
  }
  p.run("eval_step", 4, {wave(12, 0.9), wave(4, 0.2)}); // stores nothing
  CHECK(p.weight("dense/bias").data[0] == before.at("dense/bias")[0] + 1);
}

TEST_CASE("a derivative by weights is by every value they had", "[elaborate]") {
  // One read before the update and one after it: both count, the update itself does not.
  const std::string text = stepOf(kNet,
                                  "    a = sum(net(x))\n"
                                  "    minimize a over net with SGD(0.1)\n"
                                  "    b = sum(net(x))\n"
                                  "    g = grad(a + b, weights(net, \"dense_1/bias\"))\n"
                                  "    report slope = sum(leaves(g)[0])", 3);
  Program p(text);
  setWeights(p);
  p.run("train_step", 4, {wave(12, 0.9), wave(4, 0.2)});
  CHECK(p.run("metrics_result", 0, {})[0].data[0] == Approx(8)); // 4 rows each
}

TEST_CASE("every k updates in steps divisible by k", "[elaborate]") {
  Program p(
      stepOf(kNet, "    minimize mean(net(x)) + 0 * mean(y) over net with Adam(0.1) every 3", 3));
  setWeights(p);
  auto before = weightsOf(p);
  for (int step = 1; step <= 6; ++step) {
    p.run("train_step", 4, {wave(12, 0.9), wave(4, 0.2)});
    const bool moved = p.weight("dense/kernel").data != before.at("dense/kernel");
    CHECK(moved == (step % 3 == 0));
    before = weightsOf(p);
  }
  CHECK(p.weight("iterations").data[0] == 2);
}

TEST_CASE("optimizers on parts of the weights count the steps of each", "[elaborate]") {
  const std::string text = stepOf(kNet,
                                  "    g = grad(mean((net(x) - y) ** 2), weights(net))\n"
                                  "    opt = Adam(0.1)\n"
                                  "    opt(weights(net, \"*/kernel\"), g)\n"
                                  "    opt(weights(net, except = \"*/kernel\"), g)", 3);
  const std::string whole =
      stepOf(kNet, "    minimize mean((net(x) - y) ** 2) over net with Adam(0.1)", 3);
  checkSame(trained(text, 3), trained(whole, 3));
}

TEST_CASE("gradients accumulate, are clipped together, and weights averaged", "[elaborate]") {
  const std::string loss = "    minimize mean((net(x) - y) ** 2) over net with ";
  const auto start = trained(stepOf(kNet, loss + "SGD(0.1)", 3), 0);
  const auto one = trained(stepOf(kNet, loss + "SGD(0.1)", 3));
  const std::string two = stepOf(kNet, loss + "SGD(0.1, gradient_accumulation_steps = 2)", 3);
  checkSame(trained(two, 1), start);
  checkSame(trained(two, 2), one); // the mean of twice the same gradient
  double norm = 0;
  for (auto &[name, v] : one)
    for (size_t i = 0; i < v.size(); ++i) norm += std::pow((start.at(name)[i] - v[i]) / 0.1, 2);
  norm = std::sqrt(norm);
  auto clipped = start;
  for (auto &[name, v] : clipped)
    for (size_t i = 0; i < v.size(); ++i) v[i] += (one.at(name)[i] - v[i]) * 0.5 / norm;
  checkSame(trained(stepOf(kNet, loss + "SGD(0.1, global_clipnorm = 0.5)", 3)), clipped, 1e-9);
  checkSame(trained(stepOf(kNet, loss + "SGD(0.1, loss_scale_factor = 1024.0)", 3)), one, 1e-9);
  Program p(stepOf(kNet, loss + "SGD(0.1, use_ema = true, ema_momentum = 0.75)", 3));
  setWeights(p);
  std::map<std::string, D> average;
  for (int step = 0; step < 3; ++step) {
    p.run("train_step", 4, {wave(12, 0.9), wave(4, 0.2)});
    for (auto &[name, v] : weightsOf(p)) {
      D &a = average[name];
      if (step == 0) a = v;
      for (size_t i = 0; i < v.size(); ++i) a[i] = 0.75 * a[i] + 0.25 * v[i];
    }
  }
  p.run("train_end", 0, {});
  checkSame(weightsOf(p), average);
}

TEST_CASE("layers adapt to the training data batch by batch", "[elaborate]") {
  Program q("model M(x: [batch, 2]) { x |> Normalization() |> Dense(1) }\n"
            "train M {\n  data = npy(x = \"x.npy\", target = \"y.npy\")\n  loss = MeanSquaredError()\n"
            "  optimizer = SGD()\n  batch_size = 3\n}");
  q.run("adapt_step", 3, {{1, 10, 2, 20, 6, 0}});
  q.run("adapt_step", 1, {{-1, 2}});
  checkClose(q.weight("normalization/mean").data, {2, 8});
  checkClose(q.weight("normalization/variance").data,
             {(1 + 0 + 16 + 9) / 4.0, (4 + 144 + 64 + 36) / 4.0});
  const auto kernel = q.weight("kernel").data;
  q.run("adapt_step", 1, {{0, 0}});
  CHECK(q.weight("kernel").data == kernel);
}

TEST_CASE("blocks train in turn, and one may freeze what another trains", "[elaborate]") {
  const char *text = "encoder = Sequential([Dense(3, activation = tanh), Dense(2)])\n"
                     "model Auto(x: [batch, 3]) -> [batch, 3] { x |> encoder |> Dense(3) }\n"
                     "model Clf(x: [batch, 3]) -> [batch, 1] { x |> encoder |> Dense(1) }\n"
                     "train Auto {\n  data = npy(x = \"x.npy\", target = \"x.npy\")\n  loss = MeanSquaredError()\n"
                     "  optimizer = Adam(0.1)\n  metrics = [MeanAbsoluteError()]\n}\n"
                     "train Clf {\n  data = npy(x = \"x.npy\", target = \"y.npy\")\n  loss = MeanSquaredError()\n"
                     "  optimizer = Adam(0.1)\n  metrics = [MeanAbsoluteError()]\n  freeze = [encoder]\n}\n";
  Program p(text);
  auto names = [](const ir::Meta &block) {
    std::string all;
    for (const ir::Meta &m : *block.find("metrics")->asList()) all += *m.asString() + " ";
    return all;
  };
  const ir::Meta::List &blocks = *p.module->meta.find("blocks")->asList();
  REQUIRE(blocks.size() == 2);
  CHECK(names(blocks[0]) == "loss mean_absolute_error ");
  CHECK(names(blocks[1]) == "loss mean_absolute_error ");
  const D before = p.weight("dense/kernel").data;
  p.run("Auto.train_step", 2, {wave(6, 0.1), wave(6, 0.1)});
  const D trained = p.weight("dense/kernel").data;
  CHECK(trained != before);
  const D head = p.weight("clf/dense/kernel").data;
  p.run("Clf.train_step", 2, {wave(6, 0.1), wave(2, 0.4)});
  CHECK(p.weight("dense/kernel").data == trained);
  CHECK(p.weight("clf/dense/kernel").data != head);
}
