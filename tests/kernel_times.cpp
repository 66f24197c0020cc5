// Times of the kernels of one function, for those who change schedules.
//
//   nnc model.nn --emit=opt -o model.ir
//   GLIBC_TUNABLES=glibc.malloc.hugetlb=1 nnc_kernel_times model.ir [function] [runs] [cpu]
//
//   us      share  GF/s  kernel
//   812.3   41 %   98.1  z.2 contract 128x512x784 outer 12 x 2
//
// One thread, random inputs, the least time of all runs for each operation; products count two
// operations per multiplication, other kernels none.
#include "ir/passes.h"
#include "ir/text.h"
#include "tests/compiled_model.h"
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

using namespace nnc;

namespace {

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
  for (const cg::CompiledFunction &f : model.compiled().functions)
    if (f.program.function->name == name) function = &f;
  if (!function) return std::fprintf(stderr, "no function %s\n", name.c_str()), 1;
  for (const cg::CompiledFunction &f : model.compiled().functions)
    if (f.program.function->name == "init") model.run("init", {});
  const int64_t n = function->program.batch;
  const auto inputs = test::randomInputs(*function->program.function, n, 1);

  using Clock = std::chrono::steady_clock;
  Clock::time_point from;
  std::vector<double> sum(function->plan.steps.size()), best(function->plan.steps.size(), 1e30);
  model.before = [&](const NncFunction &, const test::CompiledModel::OpRun &, int64_t) {
    from = Clock::now();
  };
  model.after = [&](const NncFunction &, const test::CompiledModel::OpRun &r, int64_t) {
    sum[size_t(r.op)] += std::chrono::duration<double>(Clock::now() - from).count();
  };
  for (int r = 0; r < runs; ++r) {
    std::fill(sum.begin(), sum.end(), 0.0);
    model.run(name, inputs);
    for (size_t i = 0; i < sum.size(); ++i) best[i] = std::min(best[i], sum[i]);
  }
  double total = 0, work = 0, inProducts = 0;
  std::vector<size_t> order(best.size());
  for (size_t i = 0; i < best.size(); ++i) total += best[i], order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t x, size_t y) { return best[x] > best[y]; });
  std::printf("      us  share   GF/s  kernel\n");
  for (size_t i : order) {
    const cg::Step &s = function->plan.steps[i];
    const cg::Kernel &k = function->program.launches[size_t(s.kernel)].kernel;
    double flops = productWork(k, n);
    for (int32_t l = s.loop; l >= 0; l = function->plan.loops[size_t(l)].parent)
      flops *= double(function->plan.loops[size_t(l)].length);
    work += flops;
    if (flops) inProducts += best[i];
    std::printf("%8.1f %5.1f%% %6.1f  %zu %s\n", best[i] * 1e6, 100 * best[i] / total,
                flops / best[i] * 1e-9, i, describe(k, n).c_str());
  }
  std::printf("total %.1f us; products %.1f us, %.1f GF/s; %.1f GF/s over all\n", total * 1e6,
              inProducts * 1e6, work / inProducts * 1e-9, work / total * 1e-9);
}
