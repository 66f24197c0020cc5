// Times of the kernels of one function, for those who change schedules.
//
//   nnc model.nn --emit=opt -o model.ir
//   nnc_kernel_times model.ir train_step 20 native 7      all schedules of operation 7, a product
//   GLIBC_TUNABLES=glibc.malloc.hugetlb=1 nnc_kernel_times model.ir [function] [runs] [cpu]
//
//   us      share  GF/s  kernel
//   812.3   41 %   98.1  z.2 contract 128x512x784 outer 12 x 2
//
// One thread, random inputs, the least time of all runs, in which others may share the core: the
// processor's time is counted; operations with one kernel are one line;
// products count two operations per multiplication, other kernels none.
#include "codegen/cpu/schedule.h"
#include "ir/passes.h"
#include "ir/text.h"
#include "tests/compiled_model.h"
#include "tests/kernel_jit.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <sys/mman.h>
#include <time.h>

using namespace nnc;

namespace {

// Seconds that this thread has run.
double now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

double productWork(const cg::Kernel &k, int64_t n) {
  if (k.cls != cg::KernelClass::Contract) return 0;
  double work = 2;
  for (const auto *list : {&k.contract.batch, &k.contract.m, &k.contract.n, &k.contract.k})
    for (cg::AxisId a : *list) work *= double(k.axes[size_t(a)].extent.at(n));
  return work;
}

std::string sizes(const cg::Kernel &k, int64_t n) {
  std::string text;
  for (const auto *list : {&k.contract.batch, &k.contract.m, &k.contract.n, &k.contract.k}) {
    text += text.empty() ? " [" : "; ";
    for (cg::AxisId a : *list) text += std::to_string(k.axes[size_t(a)].extent.at(n)) + " ";
  }
  return text + "]";
}

std::string describe(const cg::Kernel &k, int64_t n) {
  std::string text = print(k, true);
  std::string head = text.substr(0, text.find('\n'));
  const size_t second = text.find('\n') + 1;
  return head + (k.cls == cg::KernelClass::Contract ? sizes(k, n) : "") +
         text.substr(second, text.find('\n', second) - second);
}

// Runs a kernel's items on zeroed buffers of the right size, on huge pages.
double timeOf(const cg::Kernel &k, const cg::Target &t, int runs) {
  test::KernelCode code(k, t);
  std::vector<char *> args;
  auto allocate = [](int64_t bytes) {
    const size_t size = (size_t(bytes) + (size_t(4) << 20)) >> 21 << 21;
    char *p = static_cast<char *>(
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    madvise(p, size, MADV_HUGEPAGE);
    for (size_t i = 0; i + 4 <= size; i += 4) {
      const float v = float(i % 1021) * 1e-3f;
      std::memcpy(p + i, &v, 4);
    }
    return std::pair(p, size);
  };
  std::vector<std::pair<char *, size_t>> all;
  for (const cg::KernelArg &a : k.args) {
    all.push_back(allocate(2 * ir::elementCount(a.dims, std::max<int64_t>(k.batch, 1)) *
                           ir::dtypeBytes(a.dtype)));
    args.push_back(all.back().first);
  }
  all.push_back(allocate(k.schedule.scratchBytes));
  NncStepEnv env{k.batch, 0, 0, all.back().first, 0};
  const int64_t items = cg::itemCount(k, k.batch);
  double best = 1e30;
  for (int r = 0; r < runs; ++r) {
    const double from = now();
    code.run(args, env, 0, items);
    best = std::min(best, now() - from);
  }
  for (auto [p, size] : all) munmap(p, size);
  return best;
}

// All schedules of a product: measured, and what the cost model expects at 2.7 GHz.
void compareChoices(cg::Kernel k, const cg::Target &t, int runs) {
  k.schedule = {};
  const double work = productWork(k, k.batch);
  for (const cg::ContractChoice &c : cg::contractChoices(k, t)) {
    cg::Kernel one = k;
    cg::applyChoice(one, t, c);
    const double seconds = timeOf(one, t, runs);
    std::printf("%8.1f us %6.1f GF/s, expected %8.1f us (copies %.1f)  %s\n", seconds * 1e6,
                work / seconds * 1e-9, c.total() / 2.7e3, c.copies / 2.7e3,
                describe(one, k.batch).c_str());
  }
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 2)
    return std::fprintf(stderr, "usage: nnc_kernel_times FILE.ir [FUNCTION] [RUNS] [CPU]\n"), 2;
  std::ifstream in(argv[1]);
  std::stringstream text;
  text << in.rdbuf();
  ir::TextError error;
  auto module = ir::parseModule(text.str(), error);
  if (!module)
    return std::fprintf(stderr, "%s:%d: %s\n", argv[1], error.line, error.message.c_str()), 1;
  ir::runGradient(*module, {});
  ir::runOptimize(*module, {});
  const std::string name = argc > 2 ? argv[2] : "train_step";
  const int runs = argc > 3 ? std::atoi(argv[3]) : 20;
  cg::CodegenOptions options;
  std::string wrong;
  options.target = *cg::resolveTarget(argc > 4 ? argv[4] : "native", wrong);
  test::CompiledModel model(*module, options);
  model.options.poison = false;
  const cg::CompiledFunction *function = nullptr;
  for (const cg::CompiledFunction &f : model.compiled().functions())
    if (f.program.function->name == name) function = &f;
  if (!function) return std::fprintf(stderr, "no function %s\n", name.c_str()), 1;
  for (const cg::CompiledFunction &f : model.compiled().functions())
    if (f.program.function->name == "init") model.run("init", {});
  const int64_t n = function->program.batch;
  const auto inputs = test::randomInputs(*function->program.function, n, 1);

  if (argc > 5) {
    const cg::Step &step = function->plan.steps[size_t(std::atoi(argv[5]))];
    compareChoices(function->program.launches[size_t(step.kernel)].kernel, options.target, runs);
    return 0;
  }
  double from = 0;
  std::vector<double> sum(function->plan.steps.size()), best(function->plan.steps.size(), 1e30);
  model.before = [&](const NncFunction &, const test::CompiledModel::OpRun &, int64_t) {
    from = now();
  };
  model.after = [&](const NncFunction &, const test::CompiledModel::OpRun &r, int64_t) {
    sum[size_t(r.op)] += now() - from;
  };
  for (int r = 0; r < runs; ++r) {
    std::fill(sum.begin(), sum.end(), 0.0);
    model.run(name, inputs);
    for (size_t i = 0; i < sum.size(); ++i) best[i] = std::min(best[i], sum[i]);
  }
  // Launches of one kernel are one line.
  double total = 0, work = 0, inProducts = 0;
  std::map<std::string, size_t> first;
  std::vector<size_t> order;
  std::vector<int> times(best.size(), 1);
  for (size_t i = 0; i < best.size(); ++i) {
    total += best[i];
    const cg::Step &s = function->plan.steps[i];
    auto [at, isNew] = first.try_emplace(
        print(function->program.launches[size_t(s.kernel)].kernel, false) + std::to_string(s.loop),
        i);
    if (isNew)
      order.push_back(i);
    else
      best[at->second] += best[i], times[at->second]++;
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t x, size_t y) { return best[x] > best[y]; });
  std::printf("      us  share   GF/s  kernel\n");
  for (size_t i : order) {
    const cg::Step &s = function->plan.steps[i];
    const cg::Kernel &k = function->program.launches[size_t(s.kernel)].kernel;
    double flops = productWork(k, n);
    for (int32_t l = s.loop; l >= 0; l = function->plan.loops[size_t(l)].parent)
      flops *= double(function->plan.loops[size_t(l)].length);
    flops *= times[i];
    work += flops;
    if (flops) inProducts += best[i];
    std::printf("%8.1f %5.1f%% %6.1f  %zu%s %s\n", best[i] * 1e6, 100 * best[i] / total,
                flops / best[i] * 1e-9, i,
                times[i] > 1 ? ("*" + std::to_string(times[i])).c_str() : "",
                describe(k, n).c_str());
  }
  std::printf("total %.1f us; products %.1f us, %.1f GF/s; %.1f GF/s over all\n", total * 1e6,
              inProducts * 1e6, work / inProducts * 1e-9, work / total * 1e-9);
}
