// Contractions of random shapes, each by every schedule that there is for it and by schedules that
// nobody would choose, against the plain evaluation of the kernel, to the bit.
//
// Problem. Packed operands, tiles, blocks of k and items meet in more ways than a list of shapes
// shows, and what they do wrong is seen at the ends: in the last panel, the first block of an empty
// sum, the item with half a tile.
//
// Method. A seed makes a module with one contraction (random_contraction.h); its kernels are
// compiled with many schedules, a module full at a time, and run item by item in a random order on
// buffers with forbidden pages around them, with scratch of exactly the size that the schedule
// states, full of NaN before each item. A failure prints the seed:
//
//   NNC_SHAPES=17 ./nnc_tests "[shapes]"         seed 17 by all schedules; 17-99: these seeds
#include "codegen/cpu/schedule.h"
#include "ir/passes.h"
#include "tests/compiled_model.h"
#include "tests/kernel_build.h"
#include "tests/kernel_data.h"
#include "tests/kernel_eval.h"
#include "tests/kernel_jit.h"
#include "tests/random_contraction.h"
#include <catch2/catch.hpp>
#include <cstdlib>
#include <deque>

using namespace nnc;
using namespace nnc::test;

namespace {

const std::vector<Target> &targets() {
  static const std::vector<Target> list = [] {
    std::vector<Target> all;
    std::string error;
    const std::optional<Target> native = resolveTarget("native", error);
    for (const char *name : {"native", "x86-64-v4", "x86-64-v3"}) {
      const std::optional<Target> t = resolveTarget(name, error);
      if (native && t && (native->requiredFeatures & t->requiredFeatures) == t->requiredFeatures &&
          std::none_of(all.begin(), all.end(), [&](const Target &x) { return x.cpu == t->cpu; }))
        all.push_back(*t);
    }
    return all;
  }();
  return list;
}

// The contractions of a function, as they are before they are scheduled; updates in place are made.
std::vector<Kernel> contractions(const ir::Module &m) {
  CodegenOptions o;
  o.target = targets()[0];
  std::vector<Kernel> list;
  const auto compiled = compile(m, o, Emit::Memory);
  for (const CompiledFunction &f : compiled->functions())
    for (const Launch &l : f.program.launches)
      if (l.kernel.cls == KernelClass::Contract) list.push_back(l.kernel);
  for (Kernel &k : list) k.schedule = {};
  return list;
}

// partial[s, m, n] = sum over i < chunk with chunk * s + i < size: what a long sum is split into.
Kernel splitSum(Random &r) {
  const bool rows = chance(r, 50);
  const DType type = chance(r, 40) ? DType::f64 : DType::f32;
  const int64_t chunk = pick(r, 2, 40), splits = pick(r, 1, 5), ms = size(r, 20), ns = size(r, 60);
  KernelBuild b(rows ? chunk * (splits - 1) + pick(r, 1, chunk) : 1);
  const Dim all = rows ? Dim::batch() : Dim(chunk * (splits - 1) + pick(r, 1, chunk));
  const int64_t sum = all.at(b.k.batch);
  const bool across = chance(r, 50), bAcross = chance(r, 50), window = chance(r, 40);
  auto x = b.arg(type, across ? Dims{ms, all} : Dims{all, ms});
  auto w = b.arg(type, bAcross ? Dims{ns, all} : Dims{all, ns});
  auto y = b.arg(type, {splits, ms, ns}, true, false);
  auto s = b.axis("s", splits), m = b.axis("m", ms), n = b.axis("n", ns), i = b.axis("i", chunk);
  Axis &bounded = b.k.axes[size_t(i)];
  bounded.bounded = true, bounded.limit = all;
  bounded.base = b.at(s, chunk);
  b.k.cls = KernelClass::Contract;
  ContractInfo &c = b.k.contract;
  c.batch = {s}, c.m = {m}, c.n = {n}, c.k = {i};
  const Index k = b.at(s, chunk) + b.at(i);
  std::vector<Guard> guards;
  Index row = b.at(m);
  if (window) { // the rows of a filter's gradient: some lie outside
    row = row + constIndex(-1);
    guards.push_back({row, 0, Dim(ms)});
  }
  if (window && chance(r, 50)) { // a second axis before it
    auto u = b.axis("u", 2);
    c.k.insert(c.k.begin(), u);
  }
  c.a = b.load(x, across ? row * sum + k : k * ms + row, guards);
  c.b = b.load(w, bAcross ? b.at(n, sum) + k : k * ns + b.at(n));
  c.type = type;
  b.stage(b.acc(type));
  b.to(y, b.at(s, ms * ns) + b.at(m, ns) + b.at(n));
  return b.k;
}

// w[m, n] -= 0.1 * sum over i of x[i, m] * y[i, n], and its moment: large enough that lines are
// fetched ahead, with odd sizes.
Kernel largeUpdate(bool nested) {
  const int64_t ks = 65, ms = 69, ns = 1901;
  KernelBuild b;
  auto x = b.arg(DType::f32, {2, ks, ms}), y = b.arg(DType::f32, {2, ks, ns});
  auto w = b.arg(DType::f32, {ms, ns}, true), moment = b.arg(DType::f32, {ms, ns}, true);
  auto m = b.axis("m", ms), n = b.axis("n", ns), i = b.axis("i", ks);
  b.k.cls = KernelClass::Contract;
  ContractInfo &c = b.k.contract;
  c.m = {m}, c.n = {n}, c.k = {i};
  Index row = b.at(i);
  if (nested) {
    auto outer = b.axis("o", 2);
    c.k = {outer, i};
    row = row + b.at(outer, ks);
  }
  c.a = b.load(x, row * ms + b.at(m));
  c.b = b.load(y, row * ns + b.at(n));
  const Index at = b.at(m, ns) + b.at(n);
  b.stage(b.op(SOp::add, {b.load(moment, at), b.acc()}));
  b.to(moment, at);
  b.stage(b.op(SOp::sub, {b.load(w, at), b.op(SOp::mul, {b.num(0.1), b.local(0)})}));
  b.to(w, at);
  return b.k;
}

// y[m, n] = sum over i < ks of x[m, i] * w[i, n], whose rows are `pitch` elements apart.
Kernel longSum(int64_t ms, int64_t ns, int64_t ks, int64_t pitch = 0) {
  if (pitch == 0) pitch = ns;
  KernelBuild b;
  auto x = b.arg(DType::f32, {ms, ks}), w = b.arg(DType::f32, {ks, pitch});
  auto y = b.arg(DType::f32, {ms, ns}, true, false);
  auto m = b.axis("m", ms), n = b.axis("n", ns), i = b.axis("i", ks);
  b.k.cls = KernelClass::Contract;
  b.k.contract.m = {m}, b.k.contract.n = {n}, b.k.contract.k = {i};
  b.k.contract.a = b.load(x, b.at(m, ks) + b.at(i));
  b.k.contract.b = b.load(w, b.at(i, pitch) + b.at(n));
  b.stage(b.acc());
  b.to(y, b.at(m, ns) + b.at(n));
  return b.k;
}

// The gradient of a weight of a loop: a sum over the rows of all steps, which follow each other
// while there are `batch` of them.
Kernel overSteps(int64_t ms, int64_t ns, int64_t steps, int64_t batch, int64_t pad = 0) {
  KernelBuild b;
  b.k.batch = batch;
  auto x = b.arg(DType::f32, {steps, batch, ms}), w = b.arg(DType::f32, {steps, batch, ns + pad});
  auto y = b.arg(DType::f32, {ms, ns}, true, false);
  auto m = b.axis("m", ms), n = b.axis("n", ns), t = b.axis("t", steps),
       i = b.axis("i", Dim::batch());
  b.k.cls = KernelClass::Contract;
  b.k.contract.m = {m}, b.k.contract.n = {n}, b.k.contract.k = {t, i};
  b.k.contract.a = b.load(x, b.at(t, batch * ms) + b.at(i, ms) + b.at(m));
  b.k.contract.b = b.load(w, b.at(t, batch * (ns + pad)) + b.at(i, ns + pad) + b.at(n));
  b.stage(b.acc());
  b.to(y, b.at(m, ns) + b.at(n));
  return b.k;
}

// The kernel with one or two sums of what it makes, over some of the axes of which its rows are
// made.
Kernel withSums(Kernel kernel, Random &r) {
  KernelBuild b;
  b.k = std::move(kernel);
  const ContractInfo &c = b.k.contract;
  const int64_t batch = std::max<int64_t>(b.k.batch, 1);
  auto extent = [&](AxisId a) { return b.k.axes[size_t(a)].extent.at(batch); };
  std::vector<AxisId> summed, kept;
  bool bounded = false;
  for (const auto *list : {&c.batch, &c.m, &c.n})
    for (AxisId a : *list) {
      bounded = bounded || std::any_of(c.k.begin(), c.k.end(), [&](AxisId i) {
                  return b.k.axes[size_t(i)].bounded && dependsOn(b.k, b.k.axes[size_t(i)].base, a);
                });
      (list != &c.n && chance(r, 80) ? summed : kept).push_back(a);
    }
  if (summed.empty() || bounded || c.type != DType::f32) return b.k;
  const int64_t chunk = pick(r, 1, extent(summed[0]));
  Dims dims{(extent(summed[0]) + chunk - 1) / chunk};
  Index at = divIndex(b.k, b.at(summed[0]), chunk);
  for (AxisId a : kept) {
    at = at * extent(a) + b.at(a);
    dims.push_back(extent(a));
  }
  const ExprId element = b.acc(c.type);
  for (int sums = chance(r, 60) ? 2 : 1; sums > 0; --sums) {
    const auto to = b.arg(DType::f32, dims, true, false);
    b.stage(sums == 2 ? b.op(SOp::mul, {element, element}) : element, Combine::sum, summed).chunk =
        chunk;
    b.to(to, at);
  }
  return b.k;
}

// --- one kernel by many schedules ----------------------------------------------------------------

// A kernel on certain data: what its arguments hold before and after.
struct Expected {
  uint64_t seed = 0;
  int64_t n = 1;
  std::vector<std::vector<char>> before, after;
};

// Sums in the order of the kernel's family.
Expected expect(const Kernel &kernel, uint64_t seed, int64_t n) {
  Expected e;
  e.seed = seed, e.n = n;
  Data data;
  data.random.seed(unsigned(seed));
  data.special = seed % 7 == 0;
  data.integers = 20;
  for (const KernelArg &a : kernel.args) {
    const int64_t count = ir::elementCount(a.dims, std::max<int64_t>(kernel.batch, 1));
    e.before.emplace_back(size_t(count * ir::dtypeBytes(a.dtype)));
    data.fill(e.before.back(), a.dtype);
  }
  e.after = e.before;
  std::vector<char *> args;
  for (auto &bytes : e.after) args.push_back(bytes.data());
  FlushSubnormals flush;
  KernelEval(kernel, args, n, 7, 42, 3).run();
  return e;
}

void run(const Kernel &k, NncKernel code, const Expected &e, Random &r) {
  std::vector<std::unique_ptr<GuardedBytes>> memory;
  std::vector<char *> args;
  const bool atEnd = chance(r, 70);
  for (auto &bytes : e.before) {
    memory.push_back(std::make_unique<GuardedBytes>(bytes.size(), atEnd));
    if (!bytes.empty()) std::memcpy(memory.back()->data(), bytes.data(), bytes.size());
    args.push_back(memory.back()->data());
  }
  GuardedBytes scratch(size_t(k.schedule.scratchBytes), true);
  const NncStepEnv env{e.n, 7, 42, scratch.data(), 3};
  std::vector<int64_t> items(size_t(itemCount(k, e.n)));
  for (size_t i = 0; i < items.size(); ++i) items[i] = int64_t(i);
  const bool singly = chance(r, 70);
  if (singly)
    for (size_t i = items.size(); i > 1; --i)
      std::swap(items[i - 1], items[size_t(pick(r, 0, int64_t(i) - 1))]);
  FlushSubnormals flush;
  for (int64_t i : items) {
    if (scratch.size()) std::memset(scratch.data(), 0xff, scratch.size());
    code(args.data(), &env, singly ? i : 0, singly ? i + 1 : int64_t(items.size()));
    if (!singly) break;
  }
  for (size_t a = 0; a < args.size(); ++a) {
    const std::string wrong = difference(k, a, e.after[a], args[a]);
    INFO(wrong);
    REQUIRE(wrong.empty());
  }
}

// The kernels of some seeds with their schedules, compiled and run when there are enough.
class Shapes {
 public:
  // `together`: how many kernels are compiled at once.
  Shapes(bool thorough, size_t together) : thorough_(thorough), together_(together) {}
  int64_t schedules = 0;

  void add(uint64_t seed) {
    Random r(seed);
    std::vector<Kernel> kernels;
    if (seed % 12 == 11)
      kernels = {splitSum(r)};
    else
      kernels = contractions(*RandomContraction(r, false).module());
    if (!thorough_ && kernels.size() > 1) // phases of one convolution resemble each other
      kernels = {kernels[size_t(pick(r, 0, int64_t(kernels.size()) - 1))]};
    for (const Kernel &k : kernels) add(chance(r, 30) ? withSums(k, r) : k, seed, r);
  }
  void add(const Kernel &kernel, uint64_t seed) {
    Random r(seed);
    add(kernel, seed, r);
  }
  void flush() {
    for (size_t t = 0; t < jobs_.size(); ++t) {
      std::vector<const Kernel *> kernels;
      for (const Job &j : jobs_[t]) kernels.push_back(&j.kernel);
      if (kernels.empty()) continue;
      INFO("seed " << jobs_[t][0].data[0]->seed << ", " << targets()[t].cpu << "\n"
                   << print(*kernels[0], true));
      KernelCodes codes(kernels, targets()[t], 1);
      for (size_t i = 0; i < kernels.size(); ++i)
        for (const Expected *e : jobs_[t][i].data) {
          Random r(e->seed);
          INFO("seed " << e->seed << ", " << targets()[t].cpu << ", n " << e->n << "\n"
                       << print(*kernels[i], true));
          run(*kernels[i], codes[i], *e, r);
        }
      jobs_[t].clear();
    }
  }

 private:
  struct Job {
    Kernel kernel;
    std::vector<const Expected *> data;
  };
  bool thorough_;
  size_t together_;
  std::vector<std::vector<Job>> jobs_ = std::vector<std::vector<Job>>(targets().size());
  std::deque<Expected> expected_;

  void add(const Kernel &kernel, uint64_t seed, Random &r) {
    const size_t only = size_t(pick(r, 0, int64_t(targets().size()) - 1));
    const bool dot = contractChoices(kernel, targets()[0])[0].family == Family::Dot;
    Kernel plain = kernel;
    plain.schedule.family = dot ? Family::Dot : Family::Outer;
    std::vector<const Expected *> data;
    for (int64_t n : {kernel.batch, pick(r, 1, std::max<int64_t>(kernel.batch, 1))}) {
      if (!data.empty() && n == data[0]->n) continue;
      expected_.push_back(expect(plain, seed, n));
      data.push_back(&expected_.back());
    }
    for (size_t t = 0; t < targets().size(); ++t) {
      if (!thorough_ && t != only) continue;
      for (Kernel &k : scheduled(kernel, targets()[t], dot, r)) {
        INFO("seed " << seed << "\n" << print(k, true));
        REQUIRE(verify(k) == "");
        jobs_[t].push_back({std::move(k), data});
        ++schedules;
        if (together_ == 1) flush();
      }
    }
    for (auto &jobs : jobs_)
      if (jobs.size() >= together_) flush();
    if (std::all_of(jobs_.begin(), jobs_.end(), [](auto &jobs) { return jobs.empty(); }))
      expected_.clear();
  }

  // The choices, with operands packed and not, and as many random schedules; some of them if this
  // is not thorough.
  std::vector<Kernel> scheduled(const Kernel &kernel, const Target &t, bool dot, Random &r) {
    std::vector<Kernel> list;
    std::vector<ContractChoice> choices = contractChoices(kernel, t);
    if (!thorough_) choices = {choices[size_t(pick(r, 0, int64_t(choices.size()) - 1))]};
    for (ContractChoice &c : choices) {
      Kernel k = kernel;
      applyChoice(k, t, c);
      list.push_back(k);
      if (dot || c.col < 0 || std::count(k.contract.batch.begin(), k.contract.batch.end(), c.col))
        continue;
      for (Pack a : {Pack::none, Pack::tile, Pack::block})
        for (Pack b : {Pack::none, Pack::block}) {
          if ((a == Pack::none && b == Pack::none) || (!thorough_ && !chance(r, 30))) continue;
          if (a != Pack::none && !packShape(k, false, a).possible) continue;
          if (b != Pack::none && !packShape(k, true, b).possible) continue;
          Kernel packed = kernel;
          c.packA = a, c.packB = b;
          applyChoice(packed, t, c);
          if (keepsSums(packed)) list.push_back(packed);
        }
    }
    for (int i = 0; i < (dot ? thorough_ ? 6 : 1 : 0); ++i) {
      ContractChoice c = contractChoices(kernel, t)[0];
      auto most = [&](AxisId a) {
        return a < 0 ? 1 : kernel.axes[size_t(a)].extent.at(std::max<int64_t>(kernel.batch, 1));
      };
      do {
        c.mr = int(pick(r, 1, 8)), c.nv = 1 << pick(r, 0, 3);
      } while (c.mr > most(c.row) || c.nv > most(c.col) ||
               dotRegisters(kernel, t, c.mr, c.nv) > t.vectorRegisters);
      Kernel k = kernel;
      applyChoice(k, t, c);
      list.push_back(k);
    }
    for (int i = 0; i < (dot ? 0 : thorough_ ? 12 : 2); ++i) {
      Kernel k = kernel;
      randomSchedule(k, t, r);
      if (k.schedule.scratchBytes < 4 << 20 && keepsSums(k)) list.push_back(k);
    }
    return list;
  }
};

void check(uint64_t first, uint64_t end, bool thorough) {
  Shapes shapes(thorough, end - first == 1 ? 1 : 48);
  for (uint64_t seed = first; seed < end; ++seed) shapes.add(seed);
  shapes.flush();
  WARN(end - first << " shapes, " << shapes.schedules << " schedules");
}

} // namespace

TEST_CASE("contractions of random shapes by random schedules", "[codegen][shapes]") {
  const char *asked = std::getenv("NNC_SHAPES");
#if defined(__SANITIZE_ADDRESS__) // ten times slower, and the kernels themselves are not
                                  // instrumented
  if (!asked) return check(0, 150, false);
#else
  if (!asked) return check(0, 1500, false);
#endif
  const std::string text = asked;
  const size_t dash = text.find('-');
  const uint64_t first = std::stoull(text);
  const uint64_t end =
      dash == std::string::npos ? first + 1 : std::stoull(text.substr(dash + 1)) + 1;
  check(first, end, false); // as here, and in the long test
  check(first, end, true);
}

TEST_CASE("contractions of bf16 of random shapes on tile registers", "[codegen][shapes][amx]") {
  const std::optional<Target> tiles = tileTarget();
  if (!tiles) {
    WARN("neither tile registers nor AVX-512 to emulate them: code for tiles did not run");
    return;
  }
#if defined(__SANITIZE_ADDRESS__)
  constexpr int64_t kKernels = 30;
#else
  constexpr int64_t kKernels = 300;
#endif
  int64_t checked = 0;
  for (uint64_t seed = 300000; checked < kKernels; ++seed) {
    Random r(seed);
    for (Kernel &kernel : contractions(*RandomContraction(r, false).module())) {
      if (chance(r, 30)) kernel = withSums(kernel, r);
      const std::optional<ContractPlan> plan = planAmx(kernel, *tiles); // whatever it costs
      if (!plan) continue;
      kernel.contract = plan->contract, kernel.schedule = plan->schedule;
      INFO("seed " << seed << "\n" << print(kernel, true));
      REQUIRE(verify(kernel) == "");
      const KernelCodes codes({&kernel}, *tiles, 1);
      for (int64_t n : {kernel.batch, pick(r, 1, std::max<int64_t>(kernel.batch, 1))})
        run(kernel, codes[0], expect(kernel, seed, n), r);
      ++checked;
    }
  }
}

TEST_CASE("contractions of shapes that were wrong once", "[codegen][shapes]") {
  for (uint64_t seed : {104408, 104623}) check(seed, seed + 1, false);
}

TEST_CASE("updates of large weights fetch them ahead", "[codegen][shapes]") {
  Shapes shapes(false, 8);
  for (uint64_t seed = 0; seed < 3; ++seed) shapes.add(largeUpdate(seed == 0), seed);
  shapes.flush();
}

TEST_CASE("long sums are made at once if a panel of columns fits, in blocks if not",
          "[codegen][shapes]") {
  std::string error;
  const std::optional<Target> t = resolveTarget("x86-64-v4", error);
  REQUIRE(t);
  auto chosen = [&](int64_t ms, int64_t ns, int64_t ks) {
    Kernel k = longSum(ms, ns, ks);
    scheduleContract(k, *t);
    INFO(print(k, true));
    CHECK(verify(k) == "");
    CHECK(k.schedule.packB == Pack::block);
    return k.schedule;
  };
  for (int64_t ks :
       {1024, 2048, 3072}) { // the sums of an item would go to the second cache and back
    const Schedule s = chosen(512, 2048, ks);
    CHECK(s.kAxis < 0);
    CHECK(s.packA == Pack::none);
    CHECK(s.scratchBytes <= 1200 << 10); // the panels stay in the second cache
  }
  CHECK(chosen(512, 2048, 20000).kAxis >= 0);

  Shapes shapes(false, 8);
  for (uint64_t seed = 1; seed < 4; ++seed)
    shapes.add(longSum(19, 70, seed == 1 ? 1100 : seed == 2 ? 1024 : 5000), seed);
  shapes.flush();
}

TEST_CASE("sums over the rows of all steps are one loop while there are all rows, rows and columns "
          "fetched ahead",
          "[codegen][shapes]") {
  std::string error;
  const std::optional<Target> t = resolveTarget("x86-64-v4", error);
  REQUIRE(t);
  Kernel k = overSteps(128, 512, 64, 32, 16);
  CHECK(fetchedRows(k, k.contract.a, k.contract.m[0]) == 4 * 128);
  CHECK(fetchedColumns(k, k.contract.b, k.contract.n[0]) == 4 * 528); // 32 rows alone are too few
  scheduleContract(k, *t);
  INFO(print(k, true));
  CHECK(verify(k) == "");
  CHECK(k.schedule.packA == Pack::none);
  CHECK(k.schedule.packB == Pack::none);
  k = overSteps(64, 512, 64, 32, 16); // rows of 256 bytes: the processor fetches them itself
  CHECK(fetchedRows(k, k.contract.a, k.contract.m[0]) == 0);

  Shapes shapes(false, 12);
  shapes.add(overSteps(128, 70, 9, 8), 1);
  shapes.add(overSteps(130, 272, 5, 7, 16), 2);
  shapes.add(overSteps(40, 100, 120, 6), 3);
  shapes.flush();
}

TEST_CASE("padded weights that are near are read where they lie, fetched ahead",
          "[codegen][shapes]") {
  std::string error;
  const std::optional<Target> t = resolveTarget("x86-64-v4", error);
  REQUIRE(t);
  auto chosen = [&](const Kernel &kernel) {
    Kernel k = kernel;
    scheduleContract(k, *t);
    INFO(print(k, true));
    CHECK(verify(k) == "");
    return k.schedule;
  };
  auto fetched = [&](const Kernel &k) { return fetchedColumns(k, k.contract.b, k.contract.n[0]); };
  const Kernel near = longSum(128, 512, 512, 528), far = longSum(128, 512, 2000, 528),
               crowded = longSum(128, 512, 512);
  CHECK(chosen(near).packB == Pack::none);
  CHECK(fetched(near) == 4 * 528);
  CHECK(chosen(far).packB == Pack::block); // the second cache is too small for the lines between
  CHECK(chosen(crowded).packB == Pack::block); // rows a power of two apart
  CHECK(fetched(longSum(128, 70, 512)) == 0);  // short rows: the processor fetches them itself
  CHECK(fetched(longSum(128, 512, 32, 528)) == 0);

  Shapes shapes(false, 8);
  for (uint64_t seed = 1; seed < 4; ++seed)
    shapes.add(longSum(17, seed == 1 ? 300 : 271, seed == 3 ? 65 : 130, 301), seed);
  shapes.flush();
}

#if !defined(__SANITIZE_ADDRESS__) // hours, most of them in kernels, which are not instrumented
// In parts, which run side by side.
TEMPLATE_TEST_CASE_SIG("many random shapes by random schedules", "[.][slow][shapes]",
                       ((uint64_t part), part), 0, 1, 2, 3) {
  check(100000 + 3000 * part, 103000 + 3000 * part, false);
}
TEMPLATE_TEST_CASE_SIG("many random shapes by all schedules", "[.][slow][shapes]",
                       ((uint64_t part), part), 0, 1, 2, 3) {
  check(200000 + 250 * part, 200250 + 250 * part, true);
}
#endif
