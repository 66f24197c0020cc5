// Values that Keras 3.16.0 gave in single precision for each class with its defaults: a second
// source beside tests/reference, for names and defaults that both must agree on.
#include "tests/library_program.h"

using namespace nnc;
using namespace nnc::fe::test;

namespace {

struct Golden {
  const char *nn;
  std::vector<double> values;
};

void checkSingle(const std::vector<double> &found, const std::vector<double> &wanted,
                 double relative = 2e-6) {
  checkClose(found, wanted, relative, 1e-7);
}

} // namespace

TEST_CASE("losses with their defaults give Keras' golden values", "[library]") {
  const Golden rows[] = {
      {"BinaryCrossentropy()", {0.6866617}},
      {"BinaryFocalCrossentropy()", {0.4827407}},
      {"CategoricalCrossentropy()", {1.176939}},
      {"CategoricalFocalCrossentropy()", {0.2331528}},
      {"CategoricalHinge()", {0.9}},
      {"CosineSimilarity()", {-0.5608547}},
      {"Dice()", {0.475}},
      {"Hinge()", {0.9833333}},
      {"Huber()", {0.1220833}},
      {"KLDivergence()", {1.176937}},
      {"LogCosh()", {0.1096791}},
      {"MeanAbsoluteError()", {0.3166667}},
      {"MeanAbsolutePercentageError()", {1.583333e+08}},
      {"MeanSquaredError()", {0.2441667}},
      {"MeanSquaredLogarithmicError()", {0.1191679}},
      {"Poisson()", {0.7256463}},
      {"SquaredHinge()", {1.2275}},
      {"Tversky()", {0.475}},
      {"CategoricalCrossentropy(label_smoothing = 0.1)", {1.459136}},
      {"BinaryCrossentropy(label_smoothing = 0.1)", {0.8585007}},
  };
  for (const Golden &g : rows) {
    INFO(g.nn);
    Program p("model M(y: [batch, 3], p: [batch, 3]) {\n"
              "  mean(" + std::string(g.nn) + "(y, p)) + zeros([batch, 1])\n}");
    const auto found = p.run("predict", 2, {{0, 1, 0, 0, 0, 1}, {.05, .95, 0, .1, .8, .1}})[0].data;
    // The clip at 1 - 1e-7 is coarse in single precision.
    checkSingle({found[0]}, g.values, 1e-4);
  }
}

TEST_CASE("optimizers with their defaults take Keras' golden steps", "[library]") {
  const Golden rows[] = {
      {"SGD()", {0.999, -1.998, 2.997, 0.998, -1.996, 2.994, 0.997, -1.994, 2.991}},
      {"RMSprop()",
       {0.9968379, -1.996838, 2.996838, 0.9945437, -1.994544, 2.994544, 0.9926228, -1.992623,
        2.992623}},
      {"Adagrad()",
       {0.9996985, -1.999465, 2.999312, 0.9994098, -1.998994, 2.998745, 0.9991325, -1.998568,
        2.998251}},
      {"Adadelta()",
       {0.9999986, -1.999999, 2.999999, 0.9999971, -1.999997, 2.999997, 0.9999957, -1.999996,
        2.999996}},
      {"Adam()", {0.999, -1.999, 2.999, 0.998, -1.998, 2.998, 0.997, -1.997, 2.997}},
      {"Adamax()", {0.999, -1.999, 2.999, 0.998, -1.998, 2.998, 0.997, -1.997, 2.997}},
      {"AdamW()",
       {0.998996, -1.998992, 2.998988, 0.997992, -1.997984, 2.997976, 0.9969881, -1.996976,
        2.996964}},
      {"Nadam()",
       {0.9989372, -1.998937, 2.998937, 0.9981636, -1.998164, 2.998163, 0.9974523, -1.997452,
        2.997452}},
      {"Ftrl()",
       {0.0462359, -0.309157, 0.8228831, 0.04594722, -0.3086856, 0.8223161, 0.04566987, -0.3082592,
        0.8218229}},
      {"Lion()", {0.999, -1.999, 2.999, 0.998, -1.998, 2.998, 0.997, -1.997, 2.997}},
      {"Lamb()",
       {0.9978397, -1.99784, 2.99784, 0.9956815, -1.995682, 2.995682, 0.9935253, -1.993525,
        2.993525}},
      {"SGD(momentum = 0.9)",
       {0.999, -1.998, 2.997, 0.9971, -1.9942, 2.9913, 0.99439, -1.98878, 2.98317}},
      {"SGD(momentum = 0.9, nesterov = true)",
       {0.9981, -1.9962, 2.9943, 0.99539, -1.99078, 2.98617, 0.991951, -1.983902, 2.975853}},
      {"SGD(weight_decay = 0.1)",
       {0.998, -1.996, 2.994, 0.996002, -1.992004, 2.988006, 0.994006, -1.988012, 2.982018}},
      {"SGD(clipnorm = 0.1)",
       {0.9997327, -1.999465, 2.999198, 0.9994655, -1.998931, 2.998396, 0.9991982, -1.998396,
        2.997595}},
      {"SGD(clipvalue = 0.15)",
       {0.999, -1.9985, 2.9985, 0.998, -1.997, 2.997, 0.997, -1.9955, 2.9955}},
      {"RMSprop(momentum = 0.9, centered = true)",
       {0.9966668, -1.996667, 2.996667, 0.991118, -1.991118, 2.991118, 0.9838743, -1.983874,
        2.983874}},
  };
  for (const Golden &g : rows) {
    INFO(g.nn);
    Program p("model M(x: [batch, 3]) -> [batch, 1] {\n"
              "  param w: [3] = Zeros()\n"
              "  sum(w * x, axis = 1, keepdims = true)\n"
              "}\n"
              "fn Own()(y_true: [batch, 1], y_pred: [batch, 1]) = y_pred + 0 * y_true\n"
              "train M {\n"
              "  data = npy(x = \"x.npy\", target = \"y.npy\")\n"
              "  loss = Own()\n"
              "  batch_size = 1\n"
              "  optimizer = " + std::string(g.nn) + "\n}");
    p.weight("w").data = {1, -2, 3};
    std::vector<double> found;
    for (int step = 0; step < 3; ++step) {
      p.interpreter->step = uint64_t(step);
      p.run("train_step", 1, {{0.1, -0.2, 0.3}, {0}});
      const auto &w = p.weight("w").data;
      found.insert(found.end(), w.begin(), w.end());
    }
    checkSingle(found, g.values);
  }
}

TEST_CASE("normalizations give Keras' golden values", "[library]") {
  const Golden rows[] = {
      {"LayerNormalization()",
       {-1.341104, -0.4470348, 0.4470348, 1.341104, -1.341104, -0.4470348, 0.4470348, 1.341105}},
      {"RMSNormalization()",
       {0, 0.5345224, 1.069045, 1.603567, 0.7126966, 0.8908707, 1.069045, 1.247219}},
      {"GroupNormalization(groups = 2)",
       {-0.998006, 0.998006, -0.9980061, 0.9980059, -0.9980063, 0.9980059, -0.9980059, 0.9980068}},
      {"UnitNormalization()",
       {0, 0.2672612, 0.5345225, 0.8017837, 0.3563483, 0.4454354, 0.5345225, 0.6236096}},
  };
  for (const Golden &g : rows) {
    INFO(g.nn);
    Program p("model M(x: [batch, 4]) { x |> " + std::string(g.nn) + " }");
    checkSingle(p.run("predict", 2, {{0, 1, 2, 3, 4, 5, 6, 7}})[0].data, g.values);
  }
}

TEST_CASE("batch normalization keeps Keras' running means", "[library]") {
  Program p(R"(
model M(x: [batch, 4]) -> [batch, 4] { x |> BatchNormalization() }
train M {
  data       = npy(x = "x.npy", target = "y.npy")
  loss       = MeanSquaredError()
  optimizer  = SGD(learning_rate = 0.0)
  batch_size = 2
})");
  p.run("train_step", 2, {{0, 1, 2, 3, 4, 5, 6, 7}, {0, 0, 0, 0, 0, 0, 0, 0}});
  checkSingle(p.weight("moving_mean").data, {0.02, 0.03, 0.04, 0.05});
  checkSingle(p.weight("moving_variance").data, {1.03, 1.03, 1.03, 1.03});
}

TEST_CASE("batch normalization loses no more of a variance than its moving mean is off", "[library]") {
  // Values around 1000 with deviation 0.1, in f32. Distances from 0 have squares of 1e6, which f32
  // knows to 0.06: what remains of a variance of 0.01 is noise then, but never less than 0.
  const int64_t rows = 100;
  std::vector<double> x = wave(rows * 4, 0.3, std::sqrt(0.02), 1000), variance(4, 0.0);
  for (double &v : x) v = float(v);
  for (size_t c = 0; c < 4; ++c) {
    double mean = 0;
    for (size_t r = 0; r < size_t(rows); ++r) mean += x[4 * r + c] / double(rows);
    for (size_t r = 0; r < size_t(rows); ++r)
      variance[c] += std::pow(x[4 * r + c] - mean, 2) / double(rows);
    REQUIRE(variance[c] == Approx(0.01).epsilon(0.1));
  }
  const auto kept = [&](double movingMean) {
    Program p(R"(
model M(x: [batch, 4]) -> [batch, 4] { x |> BatchNormalization(momentum = 0.0) }
train M {
  data       = npy(x = "x.npy", target = "y.npy")
  loss       = MeanSquaredError()
  optimizer  = SGD(learning_rate = 0.0)
  batch_size = 100
})",
              ir::Precision::f32);
    p.weight("moving_mean").data.assign(4, movingMean);
    p.run("train_step", rows, {x, std::vector<double>(x.size(), 0.0)});
    return p.weight("moving_variance").data;
  };
  checkClose(kept(1000), variance, 0.01);
  checkClose(kept(999.5), variance, 0.05);
  checkClose(kept(0), variance, 0, 1);
  for (double v : kept(0)) CHECK(v >= 0);
}

TEST_CASE("dropout scales what it keeps", "[library]") {
  Program p(R"(
model M(x: [batch, 1000]) -> [batch, 1] {
  param w: [] = Zeros()
  w * mean(x |> Dropout(0.25), axis = 1, keepdims = true)
}
fn Own()(y_true: [batch, 1], y_pred: [batch, 1]) = y_pred + 0 * y_true
train M {
  data       = npy(x = "x.npy", target = "y.npy")
  loss       = Own()
  optimizer  = SGD(learning_rate = 1.0)
  batch_size = 1
})");
  // The gradient of w is the mean over what dropout left of a thousand ones.
  p.run("train_step", 1, {std::vector<double>(1000, 1.0), {0}});
  const double kept = -p.weight("w").data[0];
  CHECK(kept == Approx(1).margin(0.1));
  CHECK(std::abs(kept * 750 - std::round(kept * 750)) < 1e-6); // a multiple of 1 / 0.75 / 1000
  p.weight("w").data = {1};
  CHECK(p.run("predict", 1, {std::vector<double>(1000, 1.0)})[0].data[0] == Approx(1));
}

TEST_CASE("initial values have the stated variance and limits", "[library]") {
  struct Row {
    const char *nn;
    double deviation, limit;
  };
  const Row rows[] = {
      {"GlorotUniform()", std::sqrt(2.0 / 300), std::sqrt(6.0 / 300)},
      {"GlorotNormal()", std::sqrt(2.0 / 300), 2 * std::sqrt(2.0 / 300) / 0.8796},
      {"HeUniform()", std::sqrt(2.0 / 100), std::sqrt(6.0 / 100)},
      {"HeNormal()", std::sqrt(2.0 / 100), 2 * std::sqrt(2.0 / 100) / 0.8796},
      {"LecunUniform()", std::sqrt(1.0 / 100), std::sqrt(3.0 / 100)},
      {"LecunNormal()", std::sqrt(1.0 / 100), 2 * std::sqrt(1.0 / 100) / 0.8796},
      {"RandomNormal()", 0.05, 1},
      {"RandomUniform()", 0.1 / std::sqrt(12.0), 0.05},
      {"TruncatedNormal()", 0.05 * 0.8796, 0.1},
  };
  for (const Row &row : rows) {
    INFO(row.nn);
    Program p("model M(x: [batch, 100]) { x |> Dense(200, kernel_initializer = " +
              std::string(row.nn) + ") }");
    double sum = 0, squares = 0, top = 0;
    const auto &data = p.weight("kernel").data;
    for (const double v : data) {
      sum += v;
      squares += v * v;
      top = std::max(top, std::abs(v));
    }
    const double n = double(data.size());
    CHECK(std::abs(sum / n) < 4 * row.deviation / std::sqrt(n));
    CHECK(std::sqrt(squares / n) == Approx(row.deviation).epsilon(0.02));
    CHECK(top <= row.limit * 1.0001);
  }
}
