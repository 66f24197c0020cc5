// Categories, CTC, spectral normalization, and layers that mix images.
#include "tests/library_program.h"
#include <algorithm>
#include <set>

using namespace nnc;
using namespace nnc::fe::test;

namespace {
using D = std::vector<double>;
const std::string &textOf(const ir::Meta &c) { return *c.find("nn")->asString(); }
} // namespace

TEST_CASE("categories are encoded as in Keras", "[library]") {
  for (const ir::Meta &c : cases("categories.json")) {
    INFO(textOf(c));
    const auto dims = integers(*c.find("input"));
    Program p("model M(x: " + std::string(*c.find("integers")->asBool() ? "i32" : "") +
              typeText(dims) + ") { " + textOf(c) + "(x) }");
    const auto y = p.run("predict", dims[0], {numbers(*c.find("x"))})[0];
    CHECK(y.dims == integers(*c.find("shape")));
    CHECK(y.data == numbers(*c.find("y")));
  }
  auto scalars = [](const std::string &call) {
    Program p("model M(x: i32[batch]) { " + call + " }");
    return p.run("predict", 3, {{2, 0, 1}})[0].data;
  };
  CHECK(scalars("CategoryEncoding(3)(x)") == D{0, 0, 1, 1, 0, 0, 0, 1, 0});
  CHECK(
      scalars("CategoryEncoding(3, output_mode = \"count\")(reshape(x, [batch, 1]), count_weights "
              "= full([batch, 1], 2.5))") == D{0, 0, 2.5, 2.5, 0, 0, 0, 2.5, 0});
}

TEST_CASE("IntegerLookup finds places in a vocabulary and back", "[library]") {
  auto lookup = [](const std::string &arguments, const D &x) {
    Program p("model M(x: i64[batch, " + std::to_string(x.size()) + "]) { IntegerLookup([12, 36, " +
              "1138, 42]" + arguments + ")(x) }");
    return p.run("predict", 1, {x})[0].data;
  };
  // The examples of Keras' documentation.
  CHECK(lookup("", {12, 1138, 42, 42, 1000, 36}) == D{1, 3, 4, 4, 0, 2});
  CHECK(lookup(", num_oov_indices = 2", {12, 1138, 42, 37, 1000, 36}) == D{2, 4, 5, 1, 0, 3});
  CHECK(lookup(", mask_token = 0", {0, 12, 7}) == D{0, 2, 1});
  CHECK(lookup(", mask_token = 0, num_oov_indices = 3", {0, 12, 7, -1}) == D{0, 4, 2, 3});
  CHECK(lookup(", invert = true", {1, 3, 4, 0, 9}) == D{12, 1138, 42, -1, -1});
  CHECK(lookup(", mask_token = 0, oov_token = -7, invert = true", {0, 1, 2}) == D{0, -7, 12});
  CHECK(lookup(", output_mode = \"multi_hot\"", {12, 42, 5}) == D{1, 1, 0, 0, 1});
  CHECK(lookup(", output_mode = \"count\"", {12, 12, 5}) == D{1, 2, 0, 0, 0});
}

TEST_CASE("Hashing spreads numbers over its bins", "[library]") {
  D x;
  for (int i = 0; i < 4000; ++i) x.push_back(i * 7 - 5000);
  auto hashed = [&](const std::string &arguments) {
    Program p("model M(x: i64[batch, 4000]) { Hashing(10" + arguments + ")(x) }");
    return p.run("predict", 1, {x})[0].data;
  };
  const D plain = hashed("");
  D count(10, 0);
  for (const double h : plain) {
    REQUIRE((h >= 0 && h < 10 && h == std::floor(h)));
    ++count[size_t(h)];
  }
  for (const double n : count) CHECK(std::abs(n - 400) < 100); // 5 standard deviations
  CHECK(hashed("") == plain);
  const D salted = hashed(", salt = 5");
  int same = 0;
  for (size_t i = 0; i < x.size(); ++i) same += salted[i] == plain[i];
  CHECK(std::abs(same - 400) < 100);
  const D masked = hashed(", mask_value = 9");
  for (size_t i = 0; i < x.size(); ++i) CHECK((masked[i] == 0) == (x[i] == 9));
  Program p("model M(x: i32[batch, 1]) { Hashing(4, output_mode = \"one_hot\")(x) }");
  const D one = p.run("predict", 1, {{3}})[0].data;
  CHECK((one.size() == 4 && std::count(one.begin(), one.end(), 1.0) == 1));
}

TEST_CASE("CTC is Keras' and so are its derivatives", "[library][scan]") {
  const ir::Meta c = cases("ctc.json")[0];
  const D y = numbers(*c.find("y")), x = wave(4 * 7 * 5, 0, 2);
  Program p("model M(y: i32[batch, 4], x: [batch, 7, 5]) {\n"
            "  loss = CTC()(y, x)\n  (loss, grad(mean(loss), x))\n}");
  const auto found = p.run("predict", 4, {y, x});
  checkClose(found[0].data, numbers(*c.find("loss")), 1e-8);
  checkClose(found[1].data, numbers(*c.find("gradient")), 1e-8);
  // One label in two steps: a-, -a and aa. No label: only blanks.
  Program two("model M(y: i32[batch, 1], x: [batch, 2, 2]) { CTC()(y, log(x)) }");
  const D ways =
      two.run("predict", 2, {{1, 0}, {0.25, 0.75, 0.5, 0.5, 0.25, 0.75, 0.5, 0.5}})[0].data;
  checkClose(ways, {-std::log(0.75 * 0.5 + 0.25 * 0.5 + 0.75 * 0.5), -std::log(0.25 * 0.5)}, 1e-9);
}

TEST_CASE("spectral normalization is Keras', its derivatives and its vector", "[library]") {
  for (const ir::Meta &c : cases("spectral.json")) {
    INFO(textOf(c));
    const auto dims = integers(*c.find("input"));
    int64_t count = 1;
    for (const int64_t d : dims) count *= d;
    const D x = wave(count, 0);
    Program p("model M(x: " + typeText(dims) + ") -> [batch, 1] {\n  y = " + textOf(c) +
              "(x)\n"
              "  reshape(sum(square(y), axis = [i for i in 1..rank(y)]), [batch, 1])\n}\n"
              "fn Own()(y_true: [batch, 1], y_pred: [batch, 1]) = (y_pred + 0 * y_true)\n"
              "train M {\n  data = npy(x = \"x\", target = \"y\")\n  loss = Own()\n"
              "  optimizer = SGD(1.0)\n  batch_size = 8\n}");
    std::vector<std::pair<ir::Tensor *, D>> params;
    for (const ir::Persistent &w : p.module->persistents)
      if (*w.meta.find("kind")->asString() == "param") {
        ir::Tensor &t = p.interpreter->persistent(w.name);
        t.data = wave(t.count(), double(params.size()), 0.5);
        params.emplace_back(&t, t.data);
      }
    ir::Tensor &vector = p.weight("vector");
    vector.data = wave(vector.count(), 2);
    const D loss = p.run("train_step", dims[0], {x, D(size_t(dims[0]), 0)})[0].data;
    double sum = 0;
    for (const double y : numbers(*c.find("y"))) sum += y * y;
    CHECK(loss[0] == Approx(sum / double(dims[0])).epsilon(1e-9));
    checkClose(vector.data, numbers(*c.find("vector")));
    const auto &gradients = *c.find("gradients")->asList();
    REQUIRE(gradients.size() == params.size());
    for (size_t k = 0; k < params.size(); ++k) {
      D moved = params[k].second;
      for (size_t i = 0; i < moved.size(); ++i)
        moved[i] = (moved[i] - params[k].first->data[i]) * double(dims[0]);
      checkClose(moved, numbers(gradients[k]), 1e-8);
    }
  }
}

TEST_CASE("random_beta has the mean and variance of its distribution", "[library]") {
  for (const auto &[a, b] : {std::pair{0.2, 0.2}, {1.0, 1.0}, {2.5, 0.7}, {30.0, 30.0}}) {
    INFO(a << ", " << b);
    Program p("model M(x: [batch, 1]) { random_beta([20000], " + std::to_string(a) + ", " +
              std::to_string(b) + ") + 0 * x }");
    double mean = 0, square = 0;
    const D y = p.run("predict", 1, {{0}})[0].data;
    for (const double v : y) {
      REQUIRE((v >= 0 && v <= 1));
      mean += v / double(y.size()), square += v * v / double(y.size());
    }
    const double wanted = a / (a + b), variance = a * b / ((a + b) * (a + b) * (a + b + 1));
    CHECK(std::abs(mean - wanted) < 5 * std::sqrt(variance / double(y.size())));
    CHECK(square - mean * mean == Approx(variance).epsilon(0.05));
  }
}

TEST_CASE("MixUp mixes images and labels in one proportion", "[library]") {
  // Image i is full of i, label i has i at its only place: what is mixed with what can be read off.
  const int64_t n = 64;
  D images, labels;
  for (int64_t i = 0; i < n; ++i)
    images.insert(images.end(), 4, double(i)), labels.push_back(double(i));
  Program p("model M(x: [batch, 2, 2, 1], y: [batch, 1]) {\n"
            "  a, b = MixUp(0.5)(x, y, training = true)\n  c, d = MixUp(0.5)(x, y)\n"
            "  (a, b, c, d)\n}");
  const auto out = p.run("predict", n, {images, labels});
  int changed = 0;
  for (int64_t i = 0; i < n; ++i) {
    const D &a = out[0].data, &b = out[1].data;
    for (int64_t k = 0; k < 4; ++k)
      CHECK(a[size_t(4 * i + k)] == Approx(b[size_t(i)]).margin(1e-9));
    CHECK((b[size_t(i)] >= 0 && b[size_t(i)] <= double(n - 1)));
    changed += std::abs(b[size_t(i)] - double(i)) > 1e-3;
  }
  CHECK(changed > n / 2);
  CHECK(out[2].data == images);
  CHECK(out[3].data == labels);
}

TEST_CASE("CutMix puts a rectangle of another image, and mixes labels by areas", "[library]") {
  const int64_t n = 64, side = 12;
  D images, labels;
  for (int64_t i = 0; i < n; ++i) {
    images.insert(images.end(), size_t(side * side), double(i));
    for (int64_t k = 0; k < n; ++k) labels.push_back(k == i);
  }
  Program p("model M(x: [batch, 12, 12, 1], y: [batch, 64]) {\n"
            "  a, b = CutMix([1.0, 1.0])(x, y, training = true)\n  (a, b)\n}");
  const auto out = p.run("predict", n, {images, labels});
  int mixed = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double *a = &out[0].data[size_t(i * side * side)], *b = &out[1].data[size_t(i * n)];
    double other = double(i), sum = 0;
    int64_t top = side, bottom = -1, left = side, right = -1, count = 0;
    for (int64_t y = 0; y < side; ++y)
      for (int64_t x = 0; x < side; ++x)
        if (const double v = a[y * side + x]; v != double(i)) {
          CHECK((other == double(i) || other == v));
          other = v, ++count;
          top = std::min(top, y), bottom = std::max(bottom, y);
          left = std::min(left, x), right = std::max(right, x);
        }
    if (count) CHECK((bottom - top + 1) * (right - left + 1) == count);
    for (int64_t k = 0; k < n; ++k) sum += b[k];
    CHECK(sum == Approx(1));
    if (other == double(i)) continue;
    ++mixed;
    CHECK(b[int64_t(other)] + b[i] == Approx(1));
    // The rectangle has whole pixels, the proportion not.
    CHECK(std::abs(b[int64_t(other)] - double(count) / double(side * side)) < 0.2);
  }
  CHECK(mixed > n / 2);
}

TEST_CASE("RandomErasing replaces a rectangle in some images", "[library]") {
  const int64_t n = 300, side = 10;
  const D images(size_t(n * side * side), 7);
  auto erased = [&](const std::string &arguments, bool training, D &values) {
    Program p("model M(x: [batch, 10, 10, 1]) { RandomErasing(" + arguments + ")(x" +
              (training ? ", training = true" : "") + ") }");
    const D y = p.run("predict", n, {images})[0].data;
    int changed = 0;
    for (int64_t i = 0; i < n; ++i) {
      int64_t count = 0;
      for (int64_t k = 0; k < side * side; ++k)
        if (const double v = y[size_t(i * side * side + k)]; v != 7) ++count, values.push_back(v);
      changed += count > 0;
      CHECK(count <= 40); // scale: at most 0.36 of the area, in whole pixels
    }
    return changed;
  };
  D values;
  CHECK(erased("1.0", false, values) == 0);
  CHECK(erased("[1.0, 1.0], scale = [0.25, 0.36], fill_value = 3.0", true, values) == n);
  CHECK(std::set<double>(values.begin(), values.end()) == std::set<double>{3});
  values.clear();
  const int half = erased("1.0, scale = [0.25, 0.36], value_range = [0, 2]", true, values);
  CHECK((half > 100 && half < 200)); // the probability is drawn from [0, 1]
  CHECK((*std::min_element(values.begin(), values.end()) == 0 &&
         *std::max_element(values.begin(), values.end()) == 2));
}
