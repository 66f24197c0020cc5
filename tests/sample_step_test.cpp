// Written-out steps as programs: built by nnc, run on small data made here, and what they print
// read.
//
//   step(x: [batch, 4], y: [batch, 1]) { … minimize … report loss }
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

const std::string kPlace = NNC_BINARY_DIR "/steps";

/// Output of a command in kPlace; `fails`: it must not succeed.
std::string output(const std::string &command, bool fails = false) {
  std::string text;
  FILE *pipe = popen(("cd " + kPlace + " && " + command + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, n);
  const int status = pclose(pipe);
  INFO(command);
  INFO(text);
  REQUIRE((status != 0) == fails);
  return text;
}

/// Compiles a program to kPlace/name, beside points.csv: 64 rows of a, b in [-1, 1], y = a * b, z =
/// a > 0.
void build(const std::string &name, const std::string &text) {
  std::filesystem::create_directories(kPlace);
  std::ofstream points(kPlace + "/points.csv");
  points << "a,b,y,z\n";
  for (int i = 0; i < 64; ++i) {
    const double a = std::sin(1.7 * i), b = std::cos(2.3 * i + 1);
    points << a << "," << b << "," << a * b << "," << (a > 0) << "\n";
  }
  points.close();
  std::ofstream(kPlace + "/" + name + ".nn") << text;
  output(NNC_BINARY_DIR "/nnc " + name + ".nn -o " + name);
}

/// The last value printed for a quantity.
double last(const std::string &text, const std::string &name) {
  INFO(text);
  const size_t at = text.rfind(" " + name + ": ");
  REQUIRE(at != std::string::npos);
  return std::atof(text.c_str() + at + name.size() + 3);
}

const std::string kNet = "net = Sequential([Dense(16, activation = tanh), Dense(1)])\n";
const std::string kData = "  data = csv(\"points.csv\", x = columns(0..2), y = \"y\")\n";

} // namespace

TEST_CASE("a network is distilled from a file of weights", "[sample]") {
  build("teacher", kNet + "train net {\n" + kData +
                       "  epochs = 200\n  step(x: [batch, 2], y: [batch, 1]) {\n"
                       "    loss = mean((net(x) - y) ** 2)\n    minimize loss over net with Adam(1e-2)\n"
                       "    report loss\n  }\n}\n");
  const double taught = last(output("./teacher --save=teacher.safetensors"), "loss");
  CHECK(taught < 0.05);
  const double exact = last(output("./teacher evaluate --weights=teacher.safetensors"), "loss");
  build("student",
        "student = Sequential([Dense(8, activation = tanh), Dense(1)])\n"
        "teacher = load(\"teacher.safetensors\", Sequential([Dense(16, activation = tanh), Dense(1)]))\n"
        "train student {\n" + kData + "  epochs = 200\n"
        "  step(x: [batch, 2], y: [batch, 1]) {\n"
        "    t = stop_gradient(teacher(x, training = false))\n    s = student(x)\n"
        "    minimize mean((s - t) ** 2) over student with Adam(1e-2)\n"
        "    report of_teacher = mean((t - y) ** 2), gap = mean((s - t) ** 2)\n  }\n}\n");
  const std::string text = output("./student");
  CHECK(last(text, "of_teacher") == Approx(exact).margin(1e-4)); // what it was saved with
  CHECK(last(text, "gap") < 0.05);
  output("mv teacher.safetensors away");
  CHECK(output("./student", true).find("teacher.safetensors") != std::string::npos);
  output("./student evaluate"); // its own file has them
}

TEST_CASE("a file of weights that does not fit says which tensor", "[sample]") {
  build("narrow", "net = load(\"narrow.in\", Sequential([Dense(4), Dense(1)]))\ntrain net {\n" + kData +
                      "  step(x: [batch, 2], y: [batch, 1]) { minimize (net(x) - y) ** 2 over net with SGD() }\n}\n");
  build("wide", "net = Sequential([Dense(5), Dense(1)])\ntrain net {\n" + kData +
                    "  step(x: [batch, 2], y: [batch, 1]) { minimize (net(x) - y) ** 2 over net "
                    "with SGD() }\n}\n");
  output("./wide --save=narrow.in");
  const std::string text = output("./narrow", true);
  CHECK(text.find("`dense/kernel`: the model has f32[2,4], the file has f32[2,5]") !=
        std::string::npos);
}

TEST_CASE("a critic and a generator train in turns", "[sample]") {
  build("gan", "model Generator(z: [batch, 8]) { z |> Dense(16, activation = relu) |> Dense(2) }\n"
               "model Critic(x: [batch, 2]) { x |> Dense(16, activation = leaky_relu) |> Dense(1) }\n"
               "g = Generator()\nd = Critic()\n"
               "train g {\n  data = csv(\"points.csv\", real = columns(0..2))\n  epochs = 3\n"
               "  step(real: [batch, 2]) {\n"
               "    fake = random_normal([batch, 8]) |> g\n"
               "    mix = random_uniform([batch, 1])\n"
               "    x_hat = mix * real + (1 - mix) * stop_gradient(fake)\n"
               "    slope = sqrt(sum(grad(sum(d(x_hat)), x_hat) ** 2, axis = 1))\n"
               "    d_loss = mean(d(stop_gradient(fake))) - mean(d(real)) + 10 * mean((slope - 1) ** 2)\n"
               "    g_loss = -mean(d(fake))\n"
               "    minimize d_loss over d with Adam(1e-2, beta_1 = 0.5)\n"
               "    minimize g_loss over g with Adam(1e-2, beta_1 = 0.5) every 2\n"
               "    report d_loss, g_loss\n  }\n}\n");
  const std::string one = output("./gan --threads 1 --verbose 2"), two = output("./gan --threads 2 --verbose 2");
  CHECK(last(one, "d_loss") == last(two, "d_loss"));
  CHECK(std::isfinite(last(one, "g_loss")));
  CHECK(output("./gan predict --limit 2 --data z=points.csv", true).find("z") != std::string::npos);
}

TEST_CASE("the perceptron learns by stores alone", "[sample]") {
  build("perceptron", "model Perceptron(x: [batch, 2]) -> [batch, 1] {\n"
                      "  param w: [2, 1] = Zeros()\n  param b: [1] = Zeros()\n"
                      "  where(x @ w + b > 0, 1.0, 0.0)\n}\n"
                      "p = Perceptron()\n"
                      "train p {\n  data = csv(\"points.csv\", x = columns(0..2), target = \"z\")\n"
                      "  batch_size = 1\n  epochs = 30\n"
                      "  step(x: [batch, 2], target: [batch, 1]) {\n    e = target - p(x)\n"
                      "    p.w <- p.w + transpose(x) @ e\n    p.b <- p.b + sum(e, axis = 0)\n"
                      "    report errors = sum(abs(e))\n  }\n}\n");
  output("./perceptron");
  CHECK(last(output("./perceptron evaluate"), "errors") == 0);
}

TEST_CASE("layers adapt to the training rows before the first step", "[sample]") {
  // The mean of y over the rows that are not held out, which a step that trains nothing else
  // reports.
  build("adapts", "model M(x: [batch, 2]) -> [batch, 1] { x |> Normalization(name = \"norm\") |> Dense(1) }\nm = M()\n"
                  "train m {\n" + kData + "  validation = split(0.5)\n  batch_size = 20\n"
                  "  step(x: [batch, 2], y: [batch, 1]) {\n    minimize mean((m(x) - y) ** 2) over m with SGD(0.0)\n"
                  "    n = Normalization(name = \"rows\")(x)\n"
                  "    report mean_a = mean(n[:, 0]), square_a = mean(n[:, 0] ** 2)\n  }\n}\n");
  const std::string text = output("./adapts --verbose 2");
  CHECK(last(text, "mean_a") == Approx(0).margin(1e-3)); // of the 32 rows that train
  CHECK(last(text, "square_a") == Approx(1).margin(1e-3));
  CHECK(std::abs(last(text, "val_square_a") - 1) > 1e-3); // not of those held out
}

TEST_CASE("averages take the place of the weights when training ends", "[sample]") {
  const auto program = [](const std::string &arguments) {
    return kNet + "train net {\n" + kData + "  epochs = 3\n  seed = 5\n  step(x: [batch, 2], y: [batch, 1]) {\n"
           "    loss = mean((net(x) - y) ** 2)\n    minimize loss over net with SGD(0.1" + arguments + ")\n"
           "    report loss\n  }\n}\n";
  };
  build("plain", program(""));
  build("averaged", program(", use_ema = true, ema_momentum = 0.9"));
  // averages of the last weights alone
  build("latest", program(", use_ema = true, ema_momentum = 0.0"));
  const auto trained = [](const std::string &name) {
    output("./" + name + " --save=" + name + ".safetensors");
    return last(output("./" + name + " evaluate --weights=" + name + ".safetensors"), "loss");
  };
  const double plain = trained("plain");
  CHECK(trained("latest") == Approx(plain).epsilon(1e-3));
  CHECK(std::abs(trained("averaged") - plain) > 1e-4);
}
