// Programs for other processors: portable ones, and what they say where they cannot run. Processors
// are played by qemu's user mode, where it is installed.
#include "tests/workplace.h"
#include <cstdlib>
#include <string>

using namespace nnc::test;
using Catch::Matchers::Contains;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true; // its memory map does not fit into qemu
#else
constexpr bool kSanitized = false;
#endif

bool isInstalled(const std::string &program) {
  if (std::system(("command -v " + program + " > /dev/null").c_str()) == 0) return true;
  WARN(program << " is not installed: not tested");
  return false;
}

// Convolutions with phases, batch statistics, a loop, draws, long sums, a weight with a padded
// layout.
const char *const kModel = R"(model Net(x: [batch, 8, 8, 2]) -> [batch, 3] {
  image = x |> Conv2D(6, 3, strides = 2, padding = "same", use_bias = false) |> BatchNormalization() |> silu
  words = image |> Reshape([16, 6]) |> LSTM(7)
  (words |> Dense(128, activation = gelu) |> Dense(1024, activation = tanh) |> Dropout(0.3)
         |> LayerNormalization() |> Dense(3))
}

train Net {
  data       = npy(x = "x.npy", target = "y.npy")
  validation = split(0.2)
  loss       = SparseCategoricalCrossentropy(from_logits = true)
  optimizer  = Adam(0.01)
  metrics    = [SparseCategoricalAccuracy()]
  batch_size = 16
  epochs     = 2
}
)";

// What qemu 7.2 can play: its gathers load lanes that are masked off.
const char *const kDense = R"(model Net(x: [batch, 8, 8, 2]) -> [batch, 3] {
  x |> Flatten() |> Dense(40, activation = gelu) |> Dropout(0.3) |> LayerNormalization() |> Dense(3)
}
)";

struct Programs : Workplace {
  explicit Programs(std::string text = kModel) {
    std::vector<float> x(90 * 128);
    std::vector<int32_t> y(90);
    uint32_t state = 1;
    for (float &v : x) v = float((state = state * 1664525 + 1013904223) >> 8) / 16777216.0f - 0.5f;
    for (size_t i = 0; i < y.size(); ++i)
      y[i] = int32_t(x[i * 128] > 0) + int32_t(x[i * 128 + 5] > 0);
    write("x.npy", npyFile("<f4", "(90, 8, 8, 2)", x));
    write("y.npy", npyFile("<i4", "(90,)", y));
    const std::string train = kModel;
    if (text == kDense) text += train.substr(train.find("\ntrain"));
    write("m.nn", text);
  }
  void compile(const std::string &options) const { must(NNC_BINARY_DIR "/nnc m.nn " + options); }
  // Trains and gives the bytes of the weights.
  std::string weights(const std::string &command) const {
    must(command + " --verbose 0 --save w.safetensors");
    return read("w.safetensors");
  }
};

} // namespace

TEST_CASE("target: a portable program has equal bits in all versions", "[tool][target]") {
  Programs w;
  w.compile("-o portable --mcpu=portable");
  w.compile("-o narrow --mcpu=x86-64-v3");
  CHECK_THAT(w.must("./portable --about"), Contains("(of x86-64-v4, x86-64-v3)"));
  CHECK_THAT(w.must("./portable --about --mcpu x86-64-v3"), Contains("target   x86-64-v3 (of"));
  CHECK_THAT(w.must("./narrow --about"), Contains("target   x86-64-v3\n"));
  const std::string narrow = w.weights("./narrow");
  CHECK((w.weights("./portable --mcpu x86-64-v3") == narrow));
  // What this machine takes, be it AVX-512 or not.
  CHECK((w.weights("./portable") == narrow));
  // Weights and optimizer move between the versions.
  w.must("./portable --mcpu x86-64-v3 --epochs 1 --verbose 0 --save half.safetensors");
  CHECK((w.weights("./portable --weights half.safetensors --epochs 1") == narrow));

  Outcome o = w.run("./portable --mcpu x86-64-v9");
  CHECK(o.status == 2);
  CHECK_THAT(
      o.text,
      Contains("--mcpu: this program has code for x86-64-v4, x86-64-v3, not for `x86-64-v9`"));
  o = w.run("./narrow --mcpu x86-64-v4");
  CHECK(o.status == 2);
  CHECK_THAT(o.text, Contains("code for x86-64-v3, not for `x86-64-v4`"));
}

TEST_CASE("target: lesser processors get their version or one clear message", "[tool][target]") {
  if (!isInstalled("qemu-x86_64")) return;
  Programs w(kDense);
  w.compile("-o portable --mcpu=portable");
  w.compile("-o wide --mcpu=x86-64-v4");
  w.compile("-o rapids --mcpu=sapphirerapids");
  const std::string haswell = "qemu-x86_64 -cpu Haswell ", nehalem = "qemu-x86_64 -cpu Nehalem ";
  CHECK_THAT(w.must(haswell + "./portable --about"), Contains("target   x86-64-v3 (of"));
  CHECK((w.weights(haswell + "./portable --epochs 1") ==
         w.weights("./portable --mcpu x86-64-v3 --epochs 1")));
  struct Case {
    std::string command, message;
  };
  for (const Case &c :
       {Case{haswell + "./wide", "code for x86-64-v4 needs AVX-512, and this machine has only AVX2 "
                                 "with FMA; compile the model with --mcpu=x86-64-v3, or portable"},
        Case{haswell + "./wide evaluate", "code for x86-64-v4 needs AVX-512"},
        Case{haswell + "./rapids", "needs AVX-512, AVX512-BF16, AVX512-FP16, AMX, and"},
        Case{haswell + "./portable --mcpu x86-64-v4", "the program also has code for other levels"},
        Case{nehalem + "./portable", "every compiled model needs AVX2 with FMA"}}) {
    const Outcome o = w.run(c.command);
    INFO(c.command << "\n" << o.text);
    CHECK(o.status == 1);
    CHECK_THAT(o.text, Contains(c.message));
  }
  // What computes nothing needs nothing.
  CHECK_THAT(w.must(nehalem + "./wide summary"), Contains("Trainable params"));
  CHECK_THAT(w.must(nehalem + "./wide --about"), Contains("target   x86-64-v4\n"));
  if (kSanitized) return;
  // `native` asks for features.
  const std::string nnc = NNC_BINARY_DIR "/nnc m.nn --emit=kernels";
  CHECK_THAT(w.must(haswell + nnc), Contains("lanes 8\n") && !Contains("lanes 16\n  arg"));
  CHECK_THAT(w.must(nehalem + nnc, true), Contains("this processor lacks AVX2 or FMA"));
}
