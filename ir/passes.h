// The passes over the tensor IR and the list they run in (pipeline.cpp).
//
// Each pass rewrites a module and leaves a verified one. Passes are named rows of passes.def, so
// that --print-after=PASS, --time-passes and --dump-dir find them.
#pragma once
#include "ir/module.h"
#include <functional>
#include <string>

namespace nnc::ir {

void foldConstants(Function &f, Module &m); // nodes on constants become constants (small results)
void simplify(Function &f, Module &m);      // algebraic rules, one line each (simplify.cpp)
// equal nodes become one; respects `remat` and random sites
void cse(Function &f, Module &m);
void dce(Function &f, Module &m);           // drops nodes that no result needs

void hoistLoops(Module &m);                 // loops.cpp: work of a scan moves before it, and
void sinkLoops(Module &m);                  //   behind it
void turnInvariants(Module &m);             // turn.cpp: matrices that rounds read across lie turned

struct PassEvent {
  std::string pass;
  double seconds;
  const Module &module;
};
struct PipelineOptions {
  int level = 2;                               // -O: 0 only differentiates and drops dead nodes
  // verify after every pass and abort with the pass's name
  bool verifyEach = false;
  std::function<void(const PassEvent &)> after; // called after every pass
};
// differentiate, inline, then simplify/cse/dce to a fixed point (bounded). `grad` stops after
// differentiation and a first clean-up: what --emit=grad prints.
void runGradient(Module &m, const PipelineOptions &o);
void runOptimize(Module &m, const PipelineOptions &o);

} // namespace nnc::ir
