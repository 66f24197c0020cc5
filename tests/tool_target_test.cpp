// Programs for other processors: portable ones, and what they say where they cannot run. Processors
// are played by qemu's user mode, where it is installed.
#include "tests/workplace.h"
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>

using namespace nnc::test;
using namespace std::string_literals;
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

// What qemu 7.2 can run for x86-64: its gathers load lanes that are masked off.
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
  // It runs; the numbers are those of qemu 7.2, whose AVX2 has mistakes.
  w.must(haswell + "./portable --epochs 1 --verbose 0 --save w.safetensors");
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

// --- AArch64 -------------------------------------------------------------------------------------

namespace {

const char *const kArm = "--target=aarch64-linux-gnu ";

bool canRunArm() {
  if (!std::filesystem::exists(NNC_BINARY_DIR "/lib/nnc/aarch64-linux-gnu/libnncrt.a")) {
    WARN("the compiler was built without a runtime for aarch64: not tested");
    return false;
  }
  return isInstalled("qemu-aarch64");
}

// The floats of an NPY file.
std::vector<float> floats(const std::string &npy) {
  const size_t header = 10 + size_t(uint8_t(npy.at(8))) + 256 * size_t(uint8_t(npy.at(9)));
  std::vector<float> v((npy.size() - header) / 4);
  std::memcpy(v.data(), npy.data() + header, v.size() * 4);
  return v;
}

} // namespace

TEST_CASE("target: without its runtime aarch64 compiles to objects", "[tool][target]") {
  Programs w(kDense);
  std::filesystem::create_directories(w / "bin");
  w.must("cp " NNC_BINARY_DIR "/nnc bin/nnc");
  w.must(std::string("bin/nnc m.nn --emit=obj -o m.o ") + kArm);
  CHECK(w.read("m.o").substr(18, 2) == "\xb7"s + '\0'); // e_machine
  CHECK_THAT(
      w.must(std::string("bin/nnc m.nn -o m ") + kArm, true),
      Contains("the runtime bundle `lib/nnc/aarch64-linux-gnu` is not beside nnc: this nnc was "
               "built without it"));
  CHECK_THAT(
      w.must(NNC_BINARY_DIR "/nnc m.nn --target=mips-linux-gnu", true),
      Contains("unknown target `mips-linux-gnu`; known: x86_64-linux-gnu, aarch64-linux-gnu"));
  CHECK_THAT(w.must(std::string(NNC_BINARY_DIR "/nnc m.nn --mcpu=native ") + kArm, true),
             Contains("`native` is the processor of this machine"));
  CHECK_THAT(w.must(std::string(NNC_BINARY_DIR "/nnc m.nn --mcpu=neoverse-n1 --emit=asm ") + kArm),
             Contains("fmla\tv"));
}

TEST_CASE("target: aarch64 trains to the bits of x86-64", "[tool][target]") {
  if (!canRunArm()) return;
  Programs w;
  w.compile("-o host");
  w.compile("-o arm " + std::string(kArm));
  CHECK_THAT(w.must("qemu-aarch64 ./arm --about"), Contains("target   aarch64 generic\n"));
  const std::string host = w.weights("./host");
  CHECK((w.weights("qemu-aarch64 ./arm --threads 1") == host));
  CHECK((w.weights("qemu-aarch64 ./arm --threads 3") == host));
  w.compile("-o tuned --mcpu=neoverse-n1 " + std::string(kArm));
  w.must("./host --epochs 1 --verbose 0 --save half.safetensors");
  CHECK((w.weights("qemu-aarch64 ./tuned --weights half.safetensors --epochs 1") == host));
}

TEST_CASE("target: operations have the same bits on aarch64", "[tool][target]") {
  if (!canRunArm()) return;
  Workplace w;
  w.write("f.nn", R"(model F(x: [batch, 1], z: [batch, 1]) {
  half = cast(cast(x, bf16), f32) + cast(cast(z, f16), f32)
  i = cast(z * 3, i32)
  parts = [exp(x), expm1(x), log(x), log1p(x), sqrt(x), rsqrt(x), sin(x), cos(x), tan(x), arcsin(x), arccos(x),
           arctan(x), arctan2(x, z), sinh(x), cosh(x), tanh(x), sigmoid(x), erf(x), floor(x), ceil(x), round(x), sign(x),
           x ** z, x / z, x % z, maximum(x, z), minimum(x, z), half, cast(i % 7, f32), cast(i // 5, f32), x * z + x,
           where(isnan(x), z, x), cumsum(concat([x, z, x], axis = 1), axis = 1), sort(concat([x, z], axis = 1)),
           Dense(1)(z)]
  concat(parts, axis = 1)
}

train F {
  data      = npy(x = "one.npy", z = "one.npy", target = "t.npy")
  loss      = MeanSquaredError()
  optimizer = SGD(0.001)
}
)");
  constexpr size_t kColumns = 38;
  w.write("one.npy", npyFile("<f4", "(4, 1)", std::vector<float>(4, 1)));
  w.write("t.npy", npyFile("<f4", "(4, 38)", std::vector<float>(4 * kColumns)));
  const float edges[] = {0.0f,      -0.0f,   1,        -1,      2,        -2,     INFINITY,
                         -INFINITY, NAN,     1.2e-38f, 3.4e38f, -3.4e38f, 88.7f,  88.73f,
                         -87.3f,    -87.34f, 9,        0.5f,    -0.5f,    1e-20f, 1e10f,
                         65504,     65520,   1e-7f,    1e-40f};
  std::vector<float> x, z;
  for (float a : edges)
    for (float b : edges) x.push_back(a), z.push_back(b);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  while (x.size() < 4000) {
    x.push_back(std::bit_cast<float>(uint32_t(random()))), z.push_back(normal(random));
    x.push_back(3 * normal(random)), z.push_back(normal(random));
  }
  const std::string shape = "(" + std::to_string(x.size()) + ", 1)";
  w.write("x.npy", npyFile("<f4", shape, x)), w.write("z.npy", npyFile("<f4", shape, z));
  w.must(NNC_BINARY_DIR "/nnc f.nn -o host && ./host --steps 1 --verbose 0");
  w.must(NNC_BINARY_DIR "/nnc f.nn -o arm " + std::string(kArm));
  w.must("./host predict --data x=x.npy --data z=z.npy --output a.npy");
  w.must("qemu-aarch64 ./arm predict --data x=x.npy --data z=z.npy --output b.npy");
  const std::vector<float> a = floats(w.read("a.npy")), b = floats(w.read("b.npy"));
  REQUIRE(a.size() == x.size() * kColumns);
  REQUIRE(b.size() == a.size());
  size_t different = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue; // which NaN is the machine's affair
    if (std::bit_cast<uint32_t>(a[i]) == std::bit_cast<uint32_t>(b[i])) continue;
    if (different++ > 5) continue;
    UNSCOPED_INFO("column " << i % kColumns << " at " << x[i / kColumns] << ", " << z[i / kColumns]
                            << ": " << a[i] << " and " << b[i]);
  }
  CHECK(different == 0);
}
