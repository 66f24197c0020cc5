// Random changes of images: what must hold whatever is drawn, and how the draws are distributed.
// Their geometry is compared with Keras' in library_vectors_test.cpp, where ranges are one number.
#include "tests/library_program.h"
#include <algorithm>
#include <set>

using namespace nnc;
using namespace nnc::fe::test;

namespace {

using D = std::vector<double>;

/// What `call` on x: [batch, height, width, c] gives for n samples, all of them equal to `sample`.
struct Images {
  int64_t n, height, width, c;
  D sample;

  D run(const std::string &call, uint64_t step = 0) const {
    INFO(call);
    Program p("model M(x: [batch, " + std::to_string(height) + ", " + std::to_string(width) + ", " +
              std::to_string(c) + "]) { " + call + " }");
    p.interpreter->step = step;
    D all;
    for (int64_t i = 0; i < n; ++i) all.insert(all.end(), sample.begin(), sample.end());
    return p.run("predict", n, {all})[0].data;
  }
};

/// The i-th of n equal parts.
D part(const D &all, int64_t n, int64_t i) {
  const int64_t size = int64_t(all.size()) / n;
  return {all.begin() + i * size, all.begin() + (i + 1) * size};
}

double meanOf(const D &v) {
  double sum = 0;
  for (const double x : v) sum += x;
  return sum / double(v.size());
}

} // namespace

TEST_CASE("RandomFlip gives each sample or its mirror image", "[library]") {
  const Images images{200, 2, 3, 1, {1, 2, 3, 4, 5, 6}};
  const struct {
    const char *mode;
    D mirrored;
  } rows[] = {{"", {6, 5, 4, 3, 2, 1}},
              {"\"horizontal\"", {3, 2, 1, 6, 5, 4}},
              {"\"vertical\"", {4, 5, 6, 1, 2, 3}}};
  for (const auto &row : rows) {
    const std::string call = "RandomFlip(" + std::string(row.mode) + ")(x, training = true)";
    const D y = images.run(call);
    int flips = 0;
    for (int64_t i = 0; i < images.n; ++i) {
      const D one = part(y, images.n, i);
      CHECK((one == images.sample || one == row.mirrored));
      flips += one == row.mirrored;
    }
    CHECK(flips > 65); // 100 +- 5 standard deviations
    CHECK(flips < 135);
    CHECK(y == images.run(call));    // the same place and step draw the same
    CHECK(y != images.run(call, 1)); // another step does not
  }
}

TEST_CASE("RandomCrop gives windows of the image, all of them in turn", "[library]") {
  D sample;
  for (int i = 0; i < 20; ++i) sample.push_back(i);
  const Images images{300, 5, 4, 1, sample};
  const D y = images.run("RandomCrop(4, 2)(x, training = true)");
  std::set<std::pair<int, int>> places;
  for (int64_t i = 0; i < images.n; ++i) {
    const D one = part(y, images.n, i);
    REQUIRE(one.size() == 8);
    const int top = int(one[0]) / 4, left = int(one[0]) % 4;
    places.insert({top, left});
    for (int k = 0; k < 8; ++k) CHECK(one[k] == (top + k / 2) * 4 + left + k % 2);
  }
  CHECK(places.size() == 6); // 2 rows and 3 columns to begin at
  CHECK(places.rbegin()->first == 1);
  // A window of the image's own size is the image.
  CHECK(part(images.run("RandomCrop(5, 4)(x, training = true)"), images.n, 0) == sample);
}

TEST_CASE("changes by nothing leave images as they are", "[library]") {
  const Images images{2, 5, 4, 2, wave(40, 0.3)};
  const D x = images.run("x");
  for (const char *call : {"RandomRotation(0.0)", "RandomZoom(0.0)", "RandomTranslation(0.0, 0.0)",
                           "RandomContrast(0.0, value_range = [-1, 1])",
                           "RandomBrightness(0.0, value_range = [-1, 1])", "RandomCrop(5, 4)"})
    checkClose(images.run(std::string(call) + "(x, training = true)"), x, 1e-7, 1e-7);
  for (const char *call : {"RandomRotation(0.4)", "RandomZoom(0.4)", "RandomTranslation(0.4, 0.4)",
                           "RandomContrast(0.4)", "RandomBrightness(0.4)", "RandomFlip()"})
    CHECK(images.run(std::string(call) + "(x)") == x);
}

TEST_CASE("turned, moved and zoomed images have no values that the image lacks", "[library]") {
  const Images images{100, 5, 4, 2, wave(40, 0.3)};
  const Images flat{100, 5, 4, 1, D(20, 0.75)};
  const auto [low, high] = std::minmax_element(images.sample.begin(), images.sample.end());
  for (const char *call : {"RandomRotation(1.0", "RandomZoom(0.9", "RandomTranslation(1.0, 1.0"})
    for (const char *fill : {"reflect", "wrap", "nearest"}) {
      const std::string text =
          std::string(call) + ", fill_mode = \"" + fill + "\")(x, training = true)";
      const D y = images.run(text);
      for (const double v : y) CHECK((v >= *low - 1e-6 && v <= *high + 1e-6));
      CHECK(part(y, images.n, 0) != part(y, images.n, 1)); // every sample has its own draw
      checkClose(flat.run(text), D(2000, 0.75), 1e-6);
    }
}

TEST_CASE("brightness and contrast are drawn evenly from their ranges", "[library]") {
  const Images images{2000, 1, 2, 1, {0.25, 0.75}};
  const D y = images.run("RandomBrightness([-0.1, 0.2], value_range = [0, 1])(x, training = true)");
  const D z = images.run("RandomContrast(0.4, value_range = [0, 1])(x, training = true)");
  D shifts, factors;
  for (size_t i = 0; i < y.size(); i += 2) {
    shifts.push_back(y[i] - 0.25);
    CHECK(std::abs(y[i + 1] - y[i] - 0.5) < 1e-6);
    factors.push_back((z[i + 1] - z[i]) / 0.5);
    CHECK(std::abs(z[i] + z[i + 1] - 1) < 1e-6);
  }
  const auto [dark, light] = std::minmax_element(shifts.begin(), shifts.end());
  CHECK((*dark >= -0.1 && *dark < -0.099 && *light <= 0.2 && *light > 0.199));
  CHECK(std::abs(meanOf(shifts) - 0.05) < 0.01); // 5 standard deviations of the mean
  const auto [weak, strong] = std::minmax_element(factors.begin(), factors.end());
  CHECK((*weak >= 0.6 - 1e-6 && *weak < 0.602 && *strong <= 1.4 + 1e-6 && *strong > 1.398));
  CHECK(std::abs(meanOf(factors) - 1) < 0.026);
  // What leaves the range of values is cut.
  const D cut =
      images.run("RandomBrightness([0.5, 0.5], value_range = [0, 1])(x, training = true)");
  CHECK((cut[0] == 0.75 && cut[1] == 1));
}

TEST_CASE("derivatives go through moved images", "[library]") {
  const Images images{3, 4, 4, 1, wave(16, 0)};
  // Every pixel counts once however it has moved, if what leaves at one side enters at the other.
  const D ones =
      images.run("y = RandomTranslation(0.4, 0.4, fill_mode = \"wrap\")(x, training = true)\n"
                 "grad(sum(y), x)");
  checkClose(ones, D(48, 1), 1e-6);
}

TEST_CASE("EinsumDense begins with the fans of its sums and results", "[library]") {
  Program p("model M(x: [batch, 3, 40]) { EinsumDense(\"abc,dbe->aced\", [40, 20, 50])(x) }");
  const ir::Tensor &kernel = p.weight("kernel");
  CHECK(kernel.dims == std::vector<int64_t>{50, 3, 20});
  const double limit = std::sqrt(6.0 / (3 + 50 * 20));
  const auto [low, high] = std::minmax_element(kernel.data.begin(), kernel.data.end());
  CHECK((*low >= -limit && *low<-0.98 * limit && * high <= limit && * high> 0.98 * limit));
}
