// The standard library's text: it parses, is documented, fits the page, and every declaration of it
// is used by a program of these tests.
#include "frontend/parse.h"
#include "frontend/std_text.h"
#include "tests/library_program.h"
#include <map>
#include <set>

using namespace nnc;
using namespace nnc::fe;
using namespace nnc::fe::test;

namespace {

struct Library {
  Sources sources;
  std::vector<std::unique_ptr<File>> files;
  std::map<std::string, std::pair<const Decl *, std::string>> decls; // with its text

  Library() {
    Diagnostics diags(sources);
    for (const StdFile &f : stdFiles()) {
      const uint32_t id = sources.add(f.name, f.text);
      files.push_back(parse(sources, id, diags));
      for (const Top *top : files.back()->tops) {
        INFO(f.name);
        REQUIRE(top->kind == TopKind::Decl);
        const Decl *decl = static_cast<const Decl *>(top);
        const std::string name(decl->name.text);
        INFO(name << " is declared twice");
        CHECK(decls.emplace(name, std::pair(decl, std::string(sources.text(decl->span)))).second);
      }
    }
    INFO(diags.render());
    REQUIRE(!diags.hasErrors());
  }
};

std::set<std::string> words(const std::string &text) {
  std::set<std::string> found;
  std::string word;
  for (const char c : text + " ") {
    if (std::isalnum(uint8_t(c)) || c == '_') {
      word += c;
    } else if (!word.empty()) {
      found.insert(word);
      word.clear();
    }
  }
  return found;
}

/// Programs for what the reference vectors do not reach.
const char *const kPrograms[] = {
    R"(
model M(x: [batch, 4], i: i32[batch]) {
  a = x |> Dense(4, kernel_initializer = GlorotNormal(), bias_initializer = Constant(0.1))
  b = x |> Dense(4, kernel_initializer = HeUniform(), kernel_regularizer = L2())
  c = x |> Dense(4, kernel_initializer = HeNormal(), kernel_constraint = NonNeg())
  d = x |> Dense(4, kernel_initializer = LecunUniform(), bias_initializer = RandomNormal())
  e = x |> Dense(4, kernel_initializer = LecunNormal(), bias_initializer = TruncatedNormal())
  f = x |> Dense(4, kernel_initializer = IdentityInitializer(2.0), bias_initializer = Ones())
  g = x |> Dense(4, kernel_initializer = VarianceScaling(2.0, "fan_out", "untruncated_normal"))
  h = i |> Embedding(10, 4)
  Sequential([Identity(), Dense(3)])(a + b + c + d + e + f + g + h)
})",
    R"(
model M(x: [batch, 6, 4]) -> [batch, 1] {
  x |> Dropout(0.5) |> SpatialDropout1D(0.5) |> GaussianNoise(0.1) |> GaussianDropout(0.1)
    |> AlphaDropout(0.1) |> Reshape([3, 2, 4]) |> SpatialDropout2D(0.5)
    |> Reshape([3, 2, 2, 2]) |> SpatialDropout3D(0.5) |> ActivityRegularization(l2 = 0.1)
    |> Flatten() |> Dropout(0.5, noise_shape = [-1, 1]) |> Dense(1)
}
train M {
  data      = npy(x = "x.npy", target = "y.npy")
  loss      = MeanSquaredError()
  optimizer = Adam(clipnorm = 1.0)
})",
    R"(
model M(x: [batch, 3, 3]) {
  v = std(x) + logsumexp(x) + sum(diagonal(x)) + sum(tril(x)) + sum(triu(x, k = 1))
  r = random_normal([batch, 3]) + truncated_normal([batch, 3]) + erfinv(clip(x[:, 0], -0.9, 0.9))
  k = cast(categorical(x[:, 0]), float) + sum(one_hot(cast(x[:, 0, 0], i32), 3) + zeros_like(r))
  s = segment_sum(x[:, 0], cast(x[:, 0, 0], i32), 2)
  v + r + k[:, none] + sum(s)
})",
    R"(
model M(x: [batch, 2]) { x |> Dense(2) }
train M {
  data      = npy(x = "x.npy", target = "y.npy")
  loss      = MeanSquaredError()
  optimizer = SGD()
  metrics   = [Accuracy(), MeanIoU2(), MeanAbsoluteError()]
}
metric MeanIoU2()(y_true: [batch, 2], y_pred: [batch, 2]) -> [] {
  a = MeanIoU(3)(cast(y_true, i32), cast(y_pred, i32))
  b = IoU(3, [1])(cast(y_true, i32), cast(y_pred, i32))
  a + b + Mean()(y_pred) + Sum()(y_pred)
})",
    R"(
model M(x: [batch, 6, 6, 1], y: [batch, 3], i: i32[batch, 2]) {
  a, b = MixUp()(x, y)
  c, d = CutMix()(a, b)
  e = c |> RandomErasing() |> SpectralNormalization(Conv2D(1, 6)) |> Flatten()
  f = CategoryEncoding(4)(i) + IntegerLookup([1, 2, 3], output_mode = "multi_hot")(i)
  g = Discretization([0.0, 1.0, 2.0], output_mode = "count")(y) + Hashing(4, output_mode = "count")(i)
  h = CTC()(i, reshape(x, [batch, 6, 6]))
  sum(d) + sum(e) + sum(f) + sum(g) + sum(h)
})",
};

} // namespace

TEST_CASE("every declaration of the library is documented", "[library]") {
  Library library;
  for (const auto &[name, entry] : library.decls) {
    INFO(name);
    CHECK(!entry.first->doc.empty());
  }
}

TEST_CASE("the library keeps to a hundred columns", "[library]") {
  for (const StdFile &f : stdFiles()) {
    std::istringstream lines{std::string(f.text)};
    int line = 0;
    for (std::string text; std::getline(lines, text);) {
      INFO(f.name << ":" << ++line);
      CHECK(text.size() <= 100);
    }
  }
}

TEST_CASE("programs for the rest of the library elaborate", "[library]") {
  for (const char *text : kPrograms) Program p(text);
}

TEST_CASE("every declaration of the library is reached by a test", "[library]") {
  Library library;
  std::string used;
  for (const char *text : kPrograms) used += text;
  for (const char *file : {"activations", "losses", "optimizers", "schedules", "metrics", "layers",
                           "recurrent", "masks", "weights", "ops"})
    for (const ir::Meta &c : cases(std::string(file) + ".json"))
      used += " " + *c.find("nn")->asString();
  used += " isinf isfinite nan_to_num"; // library_ops_test.cpp
  used += " MeanMetricWrapper"; // reached through `metrics`
  used += " optimizer_loss optimizer_accumulate optimizer_gradients optimizer_base "
          "optimizer_average unscaled_gradients next_loss_scale"; // and every optimizer
  std::set<std::string> reached = words(used);
  for (bool grown = true; grown;) {
    grown = false;
    for (const auto &[name, entry] : library.decls) {
      if (!reached.count(name)) continue;
      for (const std::string &word : words(entry.second)) grown |= reached.insert(word).second;
    }
  }
  for (const auto &[name, entry] : library.decls) {
    INFO(name);
    CHECK(reached.count(name) == 1);
  }
}
