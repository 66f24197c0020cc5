// Operands that are computed as they are copied, in all ways in which products may take them.
//
// The kernels of `copied` whose operand is an expression run under schedules that are not the best:
// other rows and columns, either operand packed by tile or by block, or none (then tiles compute
// what they read). Each gives the bits of the kernel's evaluation and touches no memory beyond its
// arguments.
#include "codegen/cpu/schedule.h"
#include "codegen/fuse.h"
#include "codegen/pack.h"
#include "tests/compiled_model.h"
#include "tests/kernel_check.h"

using namespace nnc;
using namespace nnc::cg;
using nnc::test::checkAt;
using nnc::test::targets;

namespace {

// The first few choices, with operands packed otherwise.
std::vector<Kernel> schedulesOf(const Kernel &kernel, const Target &t) {
  constexpr size_t kChoices = 2;
  std::vector<Kernel> list;
  std::vector<ContractChoice> choices = contractChoices(kernel, t);
  choices.resize(std::min(choices.size(), kChoices));
  for (ContractChoice c : choices)
    for (Pack a : {Pack::none, Pack::tile, Pack::block})
      for (Pack b : {Pack::none, Pack::block}) {
        Kernel k = kernel;
        c.packA = c.packB = Pack::none;
        applyChoice(k, t, c);
        if (a != Pack::none && !packShape(k, false, a).possible) continue;
        if (b != Pack::none && !packShape(k, true, b).possible) continue;
        k = kernel;
        c.packA = a, c.packB = b;
        applyChoice(k, t, c);
        if (keepsSums(k)) list.push_back(k);
      }
  return list;
}

} // namespace

TEST_CASE("operands are computed in copies of every kind", "[codegen]") {
  auto m = test::loadModule("copied");
  int kernels = 0, schedules = 0;
  for (const Launch &l : fuse(*m, *m->find("train_step")).launches) {
    const Kernel &k = l.kernel;
    if (k.cls != KernelClass::Contract) continue;
    if (!isComputed(k, k.contract.a) && !isComputed(k, k.contract.b)) continue;
    ++kernels;
    for (const Target &t : targets())
      for (const Kernel &one : schedulesOf(k, t)) {
        INFO(print(one, true));
        REQUIRE(verify(one) == "");
        ++schedules;
        checkAt(one, test::KernelCode(one, t), 2, {}, t.cpu);
      }
  }
  CHECK(kernels == 4);
  CHECK(schedules >= 40);
}
