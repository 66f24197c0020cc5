// The passes in the order in which they run, with the reasons.
//
//   runGradient:  differentiate, dce, fold, simplify, cse, dce           what --emit=grad prints
//   runOptimize:  runGradient, inline, (fold, simplify, cse, dce, hoist, sink)*, turn, hoist, dce
//                                                                        what --emit=opt prints
//
// Every pass is a row of passes.def. After each one the module is verified if asked for, and
// `after` is told the pass's name and time; a broken module aborts with the name of the pass that
// broke it.
#include "ir/gradient.h"
#include "ir/passes.h"
#include "ir/verify.h"
#include <chrono>

namespace nnc::ir {

namespace {

enum class Pass {
#define MODULE_PASS(name, function, what) name##_,
#define FUNCTION_PASS(name, function, what) name##_,
#include "ir/passes.def"
};

struct PassInfo {
  const char *name;
  void (*onModule)(Module &);
  void (*onFunction)(Function &, Module &);
};
constexpr PassInfo kPasses[] = {
#define MODULE_PASS(name, function, what) {#name, function, nullptr},
#define FUNCTION_PASS(name, function, what) {#name, nullptr, function},
#include "ir/passes.def"
};

void run(Pass which, Module &m, const PipelineOptions &o) {
  const PassInfo &pass = kPasses[size_t(which)];
  const auto begin = std::chrono::steady_clock::now();
  if (pass.onModule)
    pass.onModule(m);
  else
    for (size_t k = 0; k < m.functions.size(); ++k) pass.onFunction(*m.functions[k], m);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  if (o.verifyEach) {
    const std::string error = which == Pass::differentiate_ ? verifyDifferentiated(m) : verify(m);
    NNC_CHECK(error.empty(), std::string("after pass ") + pass.name + ": " + error);
  }
  if (o.after) o.after({pass.name, time.count(), m});
}

// Changes when a pass changed something: operations, operands and attributes of all functions.
size_t fingerprint(const Module &m) {
  size_t h = m.functions.size();
  const auto mix = [&](size_t v) { h = (h ^ v) * 0x9e3779b97f4a7c15u, h ^= h >> 29; };
  for (const auto &f : m.functions) {
    for (const Node &node : f->nodes) {
      mix(size_t(node.op)), mix(hashAttr(node.attr));
      for (const ValueId v : node.operands) mix(size_t(v.i));
    }
    for (const Result &r : f->results) mix(size_t(r.value.i));
  }
  return h;
}

constexpr int kRounds = 4; // each round only shrinks; further ones find next to nothing

void cleanUp(Module &m, const PipelineOptions &o) {
  run(Pass::fold_, m, o);     // first: the rules look for constants
  run(Pass::simplify_, m, o); // before cse: rules make nodes that exist already
  run(Pass::cse_, m, o);
  run(Pass::dce_, m, o); // last: the others leave their dead nodes to it
}

} // namespace

void runGradient(Module &m, const PipelineOptions &o) {
  run(Pass::differentiate_, m, o);
  run(Pass::dce_, m, o); // rules build partials that a neighbour made unnecessary
  if (o.level > 0) cleanUp(m, o); // so that the derivative reads as a person would write it
}

void runOptimize(Module &m, const PipelineOptions &o) {
  bool differentiated = true;
  for (const auto &f : m.functions)
    for (const Node &n : f->nodes) differentiated = differentiated && n.op != Op::grad_;
  if (!differentiated) runGradient(m, o);
  run(Pass::inline_, m, o); // code generation sees no calls
  if (o.level == 0) return run(Pass::dce_, m, o);
  for (int round = 0; round < kRounds; ++round) {
    const size_t before = fingerprint(m);
    cleanUp(m, o);
    run(Pass::hoist_, m, o); // after cse: equal operands of a body are one
    // after hoist: what is computed before the loop need not come behind it
    run(Pass::sink_, m, o);
    if (fingerprint(m) == before) break;
  }
  // last: the rules would see through the twins of what they can still move
  run(Pass::turn_, m, o);
  run(Pass::hoist_, m, o); // drops what was only read across
  run(Pass::dce_, m, o);
}

} // namespace nnc::ir
