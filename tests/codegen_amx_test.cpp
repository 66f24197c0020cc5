// Contractions of bf16 on tile registers: bits against the definition, and whole models against the
// interpreter; on the processor's tile registers, or on emulated ones where it has none.
#include "codegen/amx.h"
#include "codegen/cpu/schedule.h"
#include "codegen/cpu/tile_ops.h"
#include "codegen/pack.h"
#include "ir/passes.h"
#include "ir/text.h"
#include "runtime/abi.h"
#include "tests/compiled_model.h"
#include "tests/kernel_check.h"
#include <fstream>
#include <sstream>

using namespace nnc;
using namespace nnc::test;

namespace {

// The tests' tiles, with a warning where there are none.
std::optional<Target> tilesHere() {
  const std::optional<Target> t = tileTarget();
  if (!t) WARN("neither tile registers nor AVX-512 to emulate them: code for tiles did not run");
  return t;
}

// A kernel that is scheduled for tiles, with those of a target.
void checkRuns(const Kernel &k, const Target &t, const std::vector<int64_t> &ns, const Data &data,
               int level = 2) {
  KernelCode code(k, t, level);
  for (int64_t n : ns) checkAt(k, code, n, data, emulatesTiles(t) ? "emulated tiles" : "tiles");
}

// Whatever the cost model thinks of it, on tiles.
void checkTiles(const Kernel &kernel, std::vector<int64_t> ns = {1}, const Data &data = {},
                int level = 2) {
  std::string error;
  const Target t = *resolveTarget("sapphirerapids", error);
  const auto plan = planAmx(kernel, t);
  REQUIRE(plan);
  Kernel k = kernel;
  k.contract = plan->contract, k.schedule = plan->schedule;
  INFO(print(k, true));
  REQUIRE(verify(k) == "");
  if (const auto here = tilesHere()) checkRuns(k, *here, ns, data, level);
}

// y[m, n] = relu(x . w + bias) in bf16, operands in either orientation.
KernelBuild product(Dim m, int64_t n, Dim kk, bool aAcross, bool bAcross, int64_t batch) {
  KernelBuild b(batch);
  const int64_t ms = m.at(batch), ks = kk.at(batch);
  auto x = b.arg(DType::bf16, aAcross ? Dims{kk, m} : Dims{m, kk});
  auto w = b.arg(DType::bf16, bAcross ? Dims{n, kk} : Dims{kk, n});
  auto r = b.axis("r", m), o = b.axis("o", n), i = b.axis("i", kk);
  b.k.cls = KernelClass::Contract;
  b.k.contract.m = {r}, b.k.contract.n = {o}, b.k.contract.k = {i};
  b.k.contract.a = b.load(x, aAcross ? b.at(i, ms) + b.at(r) : b.at(r, ks) + b.at(i));
  b.k.contract.b = b.load(w, bAcross ? b.at(o, ks) + b.at(i) : b.at(i, n) + b.at(o));
  auto bias = b.arg(DType::f32, {n}), y = b.arg(DType::bf16, {m, n}, true, false);
  b.stage(b.op(SOp::max, {b.op(SOp::add, {b.acc(), b.load(bias, b.at(o))}), b.num(0)}));
  b.to(y, b.at(r, n) + b.at(o));
  return b;
}

// A convolution of 3 x 3 with padding, or the gradient of its filter.
KernelBuild convolution(int64_t size, int64_t stride, int64_t channels, int64_t out,
                        bool gradient) {
  const int64_t result = (size + 2 - 3) / stride + 1;
  KernelBuild b(3);
  auto x = b.arg(DType::bf16, {Dim::batch(), size, size, channels}),
       w = b.arg(gradient ? DType::f32 : DType::bf16, {3, 3, channels, out}, gradient),
       y = b.arg(DType::bf16, {Dim::batch(), result, result, out}, !gradient, gradient);
  auto n = b.axis("n", Dim::batch()), i = b.axis("i", result), j = b.axis("j", result),
       o = b.axis("o", out);
  auto u = b.axis("u", 3), v = b.axis("v", 3), c = b.axis("c", channels);
  Index row = b.at(i, stride) + b.at(u) + constIndex(-1),
        col = b.at(j, stride) + b.at(v) + constIndex(-1);
  Index xs = b.at(n, size * size * channels) + row * (size * channels) + col * channels + b.at(c);
  std::vector<Guard> inside = {{row, 0, Dim(size)}, {col, 0, Dim(size)}};
  Index ws = b.at(u, 3 * channels * out) + b.at(v, channels * out) + b.at(c, out) + b.at(o);
  Index ys = b.at(n, result * result * out) + b.at(i, result * out) + b.at(j, out) + b.at(o);
  b.k.cls = KernelClass::Contract;
  b.k.contract.a = b.load(x, xs, inside);
  b.k.contract.n = {o};
  if (gradient) {
    b.k.contract.m = {u, v, c}, b.k.contract.k = {n, i, j};
    b.k.contract.b = b.load(y, ys);
    b.stage(b.op(SOp::sub, {b.load(w, ws), b.acc()}));
    b.to(w, ws);
  } else {
    b.k.contract.m = {n, i, j}, b.k.contract.k = {u, v, c};
    b.k.contract.b = b.load(w, ws);
    b.stage(b.acc());
    b.to(y, ys);
  }
  return b;
}

} // namespace

TEST_CASE("products on tiles in every orientation and odd sizes", "[codegen][amx]") {
  struct Size {
    int64_t m, n, k;
  };
  const Size s = GENERATE(Size{16, 16, 32}, Size{32, 32, 64}, Size{2, 3, 2}, Size{17, 33, 31},
                          Size{48, 10, 100}, Size{33, 64, 96}, Size{100, 47, 70}, Size{5, 200, 33},
                          Size{64, 64, 2048});
  const bool aAcross = GENERATE(false, true), bAcross = GENERATE(false, true);
  INFO(s.m << " x " << s.n << " x " << s.k << " " << aAcross << bAcross);
  checkTiles(product(s.m, s.n, s.k, aAcross, bAcross, 1).k);
}

TEST_CASE("emulated tiles have the bits of the registers", "[codegen][amx]") {
  // Each against the definition: where there are registers, on both.
  std::string error;
  const Target rapids = *resolveTarget("sapphirerapids", error);
  const auto emulated = emulatedTiles();
  if (!emulated) {
    WARN("no AVX-512: no emulated tiles");
    return;
  }
  CHECK(emulatesTiles(*emulated));
  CHECK_FALSE(emulatesTiles(rapids));
  CHECK_FALSE(emulatesTiles(*resolveTarget("x86-64-v4", error)));
  const Target stripped = withEmulatedTiles(rapids);
  CHECK(emulatesTiles(stripped));
  CHECK(stripped.features == "-prefer-256-bit,+avx512bf16,+avx512fp16");
  CHECK_FALSE(stripped.requiredFeatures & NNC_CPU_AMX_BF16);
  if (!runsHere(rapids)) WARN("no tile registers: only emulated ones ran");
  Data special;
  special.special = true;
  for (bool across : {false, true})
    for (const Data &data : {Data{}, special}) {
      Kernel k = product(35, 50, 75, across, !across, 1).k;
      const auto plan = planAmx(k, rapids);
      REQUIRE(plan);
      k.contract = plan->contract, k.schedule = plan->schedule;
      checkRuns(k, *emulated, {1}, data);
      if (runsHere(stripped)) checkRuns(k, stripped, {1}, data);
      if (runsHere(rapids)) checkRuns(k, rapids, {1}, data);
    }
}

TEST_CASE("products on tiles over partial batches", "[codegen][amx]") {
  const bool aAcross = GENERATE(false, true), bAcross = GENERATE(false, true);
  const int64_t batch = GENERATE(3, 32, 50, 70);
  checkTiles(product(Dim::batch(), 45, 64, aAcross, bAcross, batch).k, batchSizes(batch));
  checkTiles(product(40, 50, Dim::batch(), aAcross, bAcross, batch).k, batchSizes(batch));
}

TEST_CASE("sums of tiles in blocks of k", "[codegen][amx]") {
  const bool aAcross = GENERATE(false, true), bAcross = GENERATE(false, true);
  checkTiles(product(70, 40, 7000, aAcross, bAcross, 1).k);
  checkTiles(product(64, 64, 6144, aAcross, bAcross, 1).k);
}

TEST_CASE("tiles with NaN and infinities beside padding", "[codegen][amx]") {
  Data data;
  data.special = true;
  const bool aAcross = GENERATE(false, true), bAcross = GENERATE(false, true);
  checkTiles(product(35, 21, 45, aAcross, bAcross, 1).k, {1}, data);
}

TEST_CASE("convolutions on tiles and their filters' gradients", "[codegen][amx]") {
  const int64_t stride = GENERATE(1, 2), channels = GENERATE(3, 16, 40), out = GENERATE(5, 32);
  const bool gradient = GENERATE(false, true);
  checkTiles(convolution(11, stride, channels, out, gradient).k, {3, 2, 1});
}

TEST_CASE("gradients of pictures on tiles, whose sums begin with the channels", "[codegen][amx]") {
  // x.d[n, i, j, c] = sum o, u, v: y.d[n, i + 1 - u, j + 1 - v, o] w[u, v, c, o]
  const int64_t size = GENERATE(7, 16, 33), out = GENERATE(1, 5, 16, 32, 70), channels = 16;
  KernelBuild b(3);
  auto y = b.arg(DType::bf16, {Dim::batch(), size, size, out}),
       w = b.arg(DType::bf16, {3, 3, channels, out});
  auto x = b.arg(DType::bf16, {Dim::batch(), size, size, channels}, true, false);
  auto n = b.axis("n", Dim::batch()), i = b.axis("i", size), j = b.axis("j", size),
       c = b.axis("c", channels), o = b.axis("o", out), u = b.axis("u", 3), v = b.axis("v", 3);
  Index row = b.at(i) + b.at(u, -1) + constIndex(1), col = b.at(j) + b.at(v, -1) + constIndex(1);
  b.k.cls = KernelClass::Contract;
  b.k.contract.m = {n, i, j}, b.k.contract.n = {c}, b.k.contract.k = {o, u, v};
  b.k.contract.a = b.load(y, b.at(n, size * size * out) + row * (size * out) + col * out + b.at(o),
                          {{row, 0, Dim(size)}, {col, 0, Dim(size)}});
  b.k.contract.b =
      b.load(w, b.at(u, 3 * channels * out) + b.at(v, channels * out) + b.at(c, out) + b.at(o));
  b.stage(b.acc());
  b.to(x, b.at(n, size * size * channels) + b.at(i, size * channels) + b.at(j, channels) + b.at(c));
  checkTiles(b.k, {3, 2});
  if (out > 1) {
    std::string error;
    const auto plan = planAmx(b.k, *resolveTarget("sapphirerapids", error));
    CHECK(plan->contract.k.back() == o);
  }
}

TEST_CASE("a filter's gradient over many pictures on tiles", "[codegen][amx]") {
  KernelBuild b = convolution(32, 1, 16, 16, true);
  checkTiles(b.k, {3, 2});
}

TEST_CASE("batched products on tiles", "[codegen][amx]") {
  // y[n, h, q, o] = sum d: x[n, q, h, d] w[n, o, h, d]
  KernelBuild b(3);
  auto x = b.arg(DType::bf16, {Dim::batch(), 37, 2, 48}),
       w = b.arg(DType::bf16, {Dim::batch(), 41, 2, 48});
  auto y = b.arg(DType::bf16, {Dim::batch(), 2, 37, 41}, true, false);
  auto n = b.axis("n", Dim::batch()), h = b.axis("h", 2), q = b.axis("q", 37), o = b.axis("o", 41),
       d = b.axis("d", 48);
  b.k.cls = KernelClass::Contract;
  b.k.contract.batch = {n, h}, b.k.contract.m = {q}, b.k.contract.n = {o}, b.k.contract.k = {d};
  b.k.contract.a = b.load(x, b.at(n, 37 * 96) + b.at(q, 96) + b.at(h, 48) + b.at(d));
  b.k.contract.b = b.load(w, b.at(n, 41 * 96) + b.at(o, 96) + b.at(h, 48) + b.at(d));
  b.stage(b.acc());
  b.to(y, b.at(n, 2 * 37 * 41) + b.at(h, 37 * 41) + b.at(q, 41) + b.at(o));
  checkTiles(b.k, {3, 2});
}

TEST_CASE("chunks of a split sum on tiles, and code without passes", "[codegen][amx]") {
  // partial[s, m, n] = sum over i < 40 with 40s + i < batch
  const bool across = GENERATE(false, true);
  KernelBuild b(100);
  auto x = b.arg(DType::bf16, across ? Dims{20, Dim::batch()} : Dims{Dim::batch(), 20});
  auto w = b.arg(DType::bf16, across ? Dims{33, Dim::batch()} : Dims{Dim::batch(), 33});
  auto y = b.arg(DType::f32, {3, 20, 33}, true, false);
  auto s = b.axis("s", 3), m = b.axis("m", 20), n = b.axis("n", 33), i = b.axis("i", 40);
  b.k.axes[size_t(i)].bounded = true;
  b.k.axes[size_t(i)].base = b.at(s, 40);
  b.k.axes[size_t(i)].limit = Dim::batch();
  b.k.cls = KernelClass::Contract;
  b.k.contract.batch = {s}, b.k.contract.m = {m}, b.k.contract.n = {n}, b.k.contract.k = {i};
  Index k = b.at(s, 40) + b.at(i);
  b.k.contract.a = b.load(x, across ? b.at(m, 100) + k : k * 20 + b.at(m));
  b.k.contract.b = b.load(w, across ? b.at(n, 100) + k : k * 33 + b.at(n));
  b.stage(b.acc());
  b.to(y, b.at(s, 660) + b.at(m, 33) + b.at(n));
  checkTiles(b.k, {100, 91, 80, 7});
  checkTiles(b.k, {100, 41}, {}, 0);
}

TEST_CASE("items with the same columns share their copy on tiles", "[codegen][amx]") {
  // Items by columns and rows, in either order, with and without blocks of k: a copy that is kept
  // too long gives the sums of other columns.
  const bool rowsFirst = GENERATE(false, true), blocks = GENERATE(false, true);
  const bool aAcross = GENERATE(false, true), bAcross = GENERATE(false, true);
  INFO("rows first " << rowsFirst << ", blocks " << blocks);
  std::string error;
  const Target t = *resolveTarget("sapphirerapids", error);
  for (Dim rows : {Dim(96), Dim::batch()}) {
    const KernelBuild b = product(rows, 100, 96, aAcross, bAcross, 96);
    const auto plan = planAmx(b.k, t);
    REQUIRE(plan);
    Kernel k = b.k;
    k.contract = plan->contract;
    Schedule &s = k.schedule = plan->schedule;
    s.items = {{s.col, s.nv * 16}, {s.row, 32}};
    if (rowsFirst) std::swap(s.items[0], s.items[1]);
    if (blocks) s.kAxis = k.contract.k[0], s.kBlock = 32;
    s.scratchBytes = contractScratch(k);
    REQUIRE(verify(k) == "");
    if (const auto here = tilesHere()) checkRuns(k, *here, {96, 41}, {});
  }
}

TEST_CASE("rows of several axes are read where they lie", "[codegen][amx]") {
  // y[b, m, n] = sum k: x[b, m, k] w[k, n]: sequences of a batch that is not known
  struct Size {
    int64_t m, k;
    bool inPlace;
  };
  const Size s = GENERATE(Size{64, 96, true}, Size{40, 96, false}, Size{64, 80, false});
  KernelBuild b(6);
  auto x = b.arg(DType::bf16, {Dim::batch(), s.m, s.k}), w = b.arg(DType::bf16, {s.k, 128});
  auto y = b.arg(DType::bf16, {Dim::batch(), s.m, 128}, true, false);
  auto n = b.axis("b", Dim::batch()), r = b.axis("r", s.m), o = b.axis("o", 128),
       i = b.axis("i", s.k);
  b.k.cls = KernelClass::Contract;
  b.k.contract.m = {n, r}, b.k.contract.n = {o}, b.k.contract.k = {i};
  b.k.contract.a = b.load(x, b.at(n, s.m * s.k) + b.at(r, s.k) + b.at(i));
  b.k.contract.b = b.load(w, b.at(i, 128) + b.at(o));
  b.stage(b.acc());
  b.to(y, b.at(n, s.m * 128) + b.at(r, 128) + b.at(o));
  std::string error;
  Kernel k = b.k;
  schedule(k, *resolveTarget("sapphirerapids", error));
  REQUIRE(k.schedule.family == Family::Amx);
  CHECK(cg::amxOperand(k, false).inPlace == s.inPlace);
  checkTiles(b.k, batchSizes(6));
}

TEST_CASE("what is read where it lies is not called packed", "[codegen][amx]") {
  std::string error;
  const Target t = *resolveTarget("sapphirerapids", error);
  auto packs = [&](int64_t terms, bool aAcross, Pack &b) {
    Kernel k = product(64, 64, terms, aAcross, false, 1).k;
    schedule(k, t);
    REQUIRE(k.schedule.family == Family::Amx);
    b = k.schedule.packB;
    return k.schedule.packA;
  };
  Pack columns = Pack::none;
  CHECK(packs(128, false, columns) == Pack::none); // rows along the terms, whole tiles
  CHECK(columns == Pack::block);
  CHECK(packs(128, true, columns) == Pack::block);
  CHECK(packs(100, false, columns) == Pack::block);
}

TEST_CASE("columns that lie in the form of tiles are read where they lie", "[codegen][amx]") {
  // y[m, n] = sum k: x[m, k] w[k, n], w as [n / 16][k / 2][n % 16][k % 2]
  struct Size {
    int64_t n, k;
  };
  const Size s =
      GENERATE(Size{16, 32}, Size{100, 96}, Size{47, 64}, Size{64, 6144}, Size{600, 512});
  const bool partial = GENERATE(false, true);
  const Dims dims = {s.k, s.n};
  const cg::Layout layout = cg::columnTiles(dims, 0, 1);
  CHECK(cg::placesOf(layout, dims, 1) == (s.n + 15) / 16 * 16 * s.k);
  KernelBuild b(50);
  const Dim rows = partial ? Dim::batch() : Dim(40);
  auto x = b.arg(DType::bf16, {rows, s.k}), w = b.arg(DType::bf16, {cg::placesOf(layout, dims, 1)});
  auto y = b.arg(DType::bf16, {rows, s.n}, true, false);
  auto r = b.axis("r", rows), o = b.axis("o", s.n), i = b.axis("i", s.k);
  b.k.cls = KernelClass::Contract;
  b.k.contract.m = {r}, b.k.contract.n = {o}, b.k.contract.k = {i};
  b.k.contract.a = b.load(x, b.at(r, s.k) + b.at(i));
  b.k.contract.b = b.load(w, cg::placeOf(b.k, layout, dims, {b.at(i), b.at(o)}, 50));
  b.stage(b.acc());
  b.to(y, b.at(r, s.n) + b.at(o));
  std::string error;
  const Target t = *resolveTarget("sapphirerapids", error);
  Kernel k = b.k;
  schedule(k, t);
  CHECK(k.schedule.family == Family::Amx);
  CHECK(cg::amxOperand(k, true).inPlace);
  checkTiles(b.k, partial ? std::vector<int64_t>{50, 33, 1} : std::vector<int64_t>{50});
}

TEST_CASE("f32 that the program rounds to bf16 goes to tiles", "[codegen][amx]") {
  const bool aAcross = GENERATE(false, true), bAcross = GENERATE(false, true);
  const int64_t m = GENERATE(32, 40), n = GENERATE(30, 64), terms = GENERATE(50, 64, 75);
  KernelBuild b(1);
  auto x = b.arg(DType::f32, aAcross ? Dims{terms, m} : Dims{m, terms}),
       w = b.arg(DType::f32, bAcross ? Dims{n, terms} : Dims{terms, n});
  auto y = b.arg(DType::f32, {m, n}, true, false);
  auto r = b.axis("r", m), o = b.axis("o", n), i = b.axis("i", terms);
  auto rounded = [&](ExprId e) {
    return b.op(SOp::convert, {b.op(SOp::convert, {e}, DType::bf16)});
  };
  b.k.cls = KernelClass::Contract;
  b.k.contract.m = {r}, b.k.contract.n = {o}, b.k.contract.k = {i};
  b.k.contract.a =
      rounded(b.load(x, aAcross ? b.at(i, m) + b.at(r) : b.at(r, terms) + b.at(i)));
  b.k.contract.b =
      rounded(b.load(w, bAcross ? b.at(o, terms) + b.at(i) : b.at(i, n) + b.at(o)));
  b.stage(b.acc());
  b.to(y, b.at(r, n) + b.at(o));
  Data data;
  data.special = GENERATE(false, true);
  checkTiles(b.k, {1}, data);
}

TEST_CASE("only values of bf16 go to tiles, and only where they pay", "[codegen][amx]") {
  std::string error;
  const Target tiles = *resolveTarget("sapphirerapids", error),
               v4 = *resolveTarget("x86-64-v4", error);
  auto family = [](KernelBuild b, const Target &t) {
    schedule(b.k, t);
    return b.k.schedule.family;
  };
  const KernelBuild large = product(512, 512, 512, false, false, 1);
  CHECK(family(large, tiles) == Family::Amx);
  CHECK(family(large, v4) == Family::Outer);
  CHECK(family(product(2, 4, 8, false, false, 1), tiles) != Family::Amx);
  KernelBuild wide = large;
  for (KernelArg &a : wide.k.args) a.dtype = DType::f32;
  CHECK(family(wide, tiles) == Family::Outer);
  KernelBuild mixed = large;
  mixed.k.args[0].dtype = DType::f16;
  CHECK(family(mixed, tiles) == Family::Outer);
}

// --- models --------------------------------------------------------------------------------------

namespace {

std::string moduleText() {
  std::ifstream in(std::string(NNC_SOURCE_DIR) + "/tests/ir/mixed.ir");
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::unique_ptr<ir::Module> moduleOf(const std::string &text) {
  ir::TextError error;
  auto m = ir::parseModule(text, error);
  INFO(error.line << ": " << error.message);
  REQUIRE(m);
  ir::runGradient(*m, {});
  ir::runOptimize(*m, {});
  return m;
}

Target named(const char *cpu) {
  std::string error;
  return *cg::resolveTarget(cpu, error);
}

// Of the processor where there are no tiles at all.
Target tilesOrNative() {
  const auto here = tilesHere();
  return here ? *here : named("native");
}

cg::CodegenOptions optionsFor(const Target &t) {
  cg::CodegenOptions o;
  o.target = t;
  return o;
}

int tileKernels(const CompiledModel &c) {
  int count = 0;
  for (const auto &f : c.compiled().functions())
    for (const auto &l : f.program.launches)
      count += l.kernel.cls == KernelClass::Contract && l.kernel.schedule.family == Family::Amx;
  return count;
}

// The losses of some steps on one batch whose classes depend on the inputs, and all weights behind
// them.
std::vector<double> losses(const ir::Module &m, const Target &t, int threads,
                           std::vector<double> *weights) {
  CompiledModel c(m, optionsFor(t));
  c.options.threads = threads;
  c.seed = 3;
  c.run("init", {});
  const ir::Function &f = *m.find("train_step");
  auto inputs = randomInputs(f, f.batch, 5);
  for (int64_t i = 0; i < f.batch; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < 64; ++j)
      sum += inputs[0].data[size_t(64 * i + j)] * ((j * 7 + 3) % 11 - 5);
    inputs[1].data[size_t(i)] = std::clamp(std::floor(sum / 8) + 5, 0.0, 9.0);
  }
  std::vector<double> all;
  for (int step = 0; step < 40; ++step) {
    c.step = uint64_t(step);
    all.push_back(c.run("train_step", inputs)[0].data[0]);
  }
  if (weights)
    for (const ir::Persistent &p : m.persistents) {
      const ir::Tensor value = c.persistent(p.name);
      weights->insert(weights->end(), value.data.begin(), value.data.end());
    }
  return all;
}

} // namespace

TEST_CASE("a model in bf16 learns on tiles as on vectors and in f32", "[codegen][amx]") {
  const std::string text = moduleText();
  std::string wide = text;
  for (size_t at = 0; (at = wide.find("bf16", at)) != std::string::npos;)
    wide.replace(at, 4, "f32");
  const auto mixed = moduleOf(text), single = moduleOf(wide);
  CHECK(tileKernels(CompiledModel(*mixed, optionsFor(tilesOrNative()))) >= (tileTarget() ? 5 : 0));
  const std::vector<double> f32 = losses(*single, named("native"), 1, nullptr);
  CHECK(f32.back() < 0.3 * f32.front());
  for (const Target &t : {tilesOrNative(), named("x86-64-v3")}) {
    const std::vector<double> bf16 = losses(*mixed, t, 1, nullptr);
    for (size_t i = 0; i < f32.size(); ++i) {
      INFO(t.cpu << " step " << i << ": " << bf16[i] << ", in f32 " << f32[i]);
      CHECK(std::abs(bf16[i] - f32[i]) < 0.02 * f32.front());
    }
  }
}

TEST_CASE("sums beside products are made on tiles, which hold them", "[codegen][amx]") {
  const auto here = tilesHere();
  if (!here) return;
  const auto m = test::loadModule("sums16");
  const CompiledModel c(*m, optionsFor(*here));
  std::vector<int> sums; // of the products that have any
  for (const auto &f : c.compiled().functions())
    for (const cg::Launch &l : f.program.launches) {
      const cg::Kernel &k = l.kernel;
      if (!cg::sumsBeside(k)) continue;
      CHECK(k.schedule.family == cg::Family::Amx);
      CHECK(cg::holdsTileSums(k));
      CHECK(cg::keepsSums(k));
      CHECK(cg::verify(k) == "");
      sums.push_back(int(
          std::count_if(k.stages.begin(), k.stages.end(), [](auto &s) { return s.chunk != 0; })));
      // Rows of two chunks in a tile; columns that are summed.
      cg::Kernel odd = k;
      odd.schedule.mr = 48;
      CHECK_FALSE(cg::holdsTileSums(odd));
      odd.schedule.col = k.schedule.row;
      CHECK_FALSE(cg::sumsInOrder(odd));
      odd = k;
      std::swap(odd.contract.m.front(), odd.contract.m.back());
      CHECK_FALSE(cg::sumsInOrder(odd));
    }
  CHECK(sums == std::vector<int>{2, 3});
}

TEST_CASE("bits of a model on tiles do not depend on threads", "[codegen][amx]") {
  const auto m = moduleOf(moduleText());
  std::vector<double> one;
  const Target t = tilesOrNative();
  const auto want = losses(*m, t, 1, &one);
  for (int threads : {2, 3, 5}) {
    std::vector<double> many;
    CHECK((losses(*m, t, threads, &many) == want));
    CHECK((many == one));
  }
}

namespace {

// A recurrent cell in mixed precision, there and back: h' = tanh(h u + x), its gradient in f32, and
// a weight that is not to be brought into the form of tiles, because a round reads it twice.
std::string recurrent(int units, bool twice) {
  const std::string h = "bf16[n," + std::to_string(units) + "]";
  const std::string u = "[" + std::to_string(units) + "," + std::to_string(units) + "]";
  return "nnc-ir 1\n"
         "func @body batch 32 (%h: " +
         h + ", %x: " + h + ", %u: bf16" + u +
         ") {\n"
         "  %z = contract %h, %u {x \"m, k\", w \"k, n\", y \"m, n\"} : " +
         h + "\n" +
         (twice ? "  %b = contract %z, %u {x \"m, n\", w \"k, n\", y \"m, k\"} : " + h + "\n"
                : "  %b = add %z, %x : " + h + "\n") +
         "  %next = tanh %b : " + h +
         "\n"
         "  return %next, %next\n}\n"
         "func @f batch 32 (%h0: " + h + ", %xs: bf16[5,n," + std::to_string(units) + "], %w: f32" + u + ") {\n"
         "  %u = cast %w : bf16" + u + "\n"
         "  %h, %ys = scan %h0, %xs, %u {body=\"body\", carries=1, xs=[0], ys=[0], length=5, reverse=false} : " +
         h + ", bf16[5,n," + std::to_string(units) + "]\n"
         "  %y = cast %ys : f32[5,n," + std::to_string(units) + "]\n"
         "  %loss = reduce %y {kind=sum, dims=[0,1,2]} : f32[]\n"
         "  %w.d = grad %loss, %w : f32" +
         u +
         "\n"
         "  return \"loss\" = %loss, \"y\" = %y, \"w.d\" = %w.d\n}\n";
}

int tiledBuffers(const CompiledModel &c) {
  int count = 0;
  for (const auto &f : c.compiled().functions())
    for (const auto &b : f.program.buffers) count += b.outer < 0 && b.layout.digits.size() == 4;
  return count;
}

} // namespace

TEST_CASE("what rounds multiply by is brought into the form of tiles once", "[codegen][amx]") {
  for (bool twice : {false, true})
    for (int units : {64, 80, 96}) {
      INFO(units << " units, " << twice);
      const auto m = moduleOf(recurrent(units, twice));
      cg::CodegenOptions o = optionsFor(tilesOrNative());
      o.check = true;
      CompiledModel tiled(*m, o);
      o.fuse.tiles = false;
      CompiledModel plain(*m, o);
      CHECK(tiledBuffers(plain) == 0);
      const bool whole = units % cg::kAmxTerms == 0;
      if (tileTarget()) CHECK(tiledBuffers(tiled) == (whole ? twice ? 0 : 2 : 0));
      const auto inputs = randomInputs(*m->find("f"), 32, 7);
      const auto want = plain.run("f", inputs);
      for (int threads : {1, 3}) {
        tiled.options.threads = threads;
        const auto got = tiled.run("f", inputs);
        for (size_t i = 0; i < want.size(); ++i) CHECK((got[i].data == want[i].data));
      }
    }
}

TEST_CASE("products round master weights themselves", "[codegen][amx]") {
  // z = x w, x.d = z.d w': both read w in f32; nothing else stores it in bf16.
  const std::string text =
      "nnc-ir 1\n"
      "persistent \"w\" : f32[96,160] {\"kind\": \"param\"}\n"
      "func @f batch 64 (%x: bf16[n,96], %w: f32[96,160] = \"w\") {\n"
      "  %u = cast %w : bf16[96,160]\n"
      "  %z = contract %x, %u {x \"m, k\", w \"k, n\", y \"m, n\"} : bf16[n,160]\n"
      "  %r = tanh %z : bf16[n,160]\n"
      "  %y = contract %r, %u {x \"m, n\", w \"k, n\", y \"m, k\"} : bf16[n,96]\n"
      "  return \"y\" = %y\n}\n";
  const auto m = moduleOf(text);
  cg::CodegenOptions o = optionsFor(tilesOrNative());
  o.check = true;
  CompiledModel rounds(*m, o);
  o.fuse.tiles = false;
  CompiledModel copies(*m, o);
  auto launches = [](const CompiledModel &c) {
    return c.compiled().functions()[0].program.launches.size();
  };
  if (tileTarget()) {
    CHECK(tileKernels(rounds) == 2);
    CHECK(launches(rounds) + 1 == launches(copies));
  }
  const ir::Tensor w = randomInputs(*m->find("f"), 64, 3)[0];
  ir::Tensor weight{DType::f32, {96, 160}, {}};
  for (size_t i = 0; i < 96 * 160; ++i)
    weight.data.push_back(w.data[(i * 7 + i / 96) % w.data.size()] * 1.01);
  const auto inputs = randomInputs(*m->find("f"), 64, 9);
  rounds.setPersistent("w", weight), copies.setPersistent("w", weight);
  CHECK((rounds.run("f", inputs)[0].data == copies.run("f", inputs)[0].data));
}
