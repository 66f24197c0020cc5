// What the parts of the planner share: who touches a buffer, which bytes an item touches, and how
// many items a kernel has. The interface of the planner is plan() in program.h.
//
//   plan.cpp      the order of the analyses, copies, step table, bill
//   plan_loop.cpp loops: bodies are planned on their own and then put in their place
//   order.cpp     the order of the launches
//   inplace.cpp   which results may be written over which operands
//   touched.cpp   tables of which only some rows change
//   align.cpp     bytes touched by an item; barriers
//   memory.cpp    offsets by lifetime
//   hazard.cpp    the check of all of it, from the finished plan alone
#pragma once
#include "codegen/acyclic.h"
#include "codegen/program.h"
#include <functional>

namespace nnc::cg {

// --- items ---------------------------------------------------------------------------------------

// items(n) = constant + times * ceil((perN * n + add) / div), normalised: kernels with equal
// formulas have equal counts.
struct ItemFormula {
  int64_t constant = 0, times = 1, perN = 0, add = 0, div = 1;
  int64_t at(int64_t n) const;
  friend bool operator==(const ItemFormula &, const ItemFormula &) = default;
};
ItemFormula itemFormula(const Kernel &k);

// Calls `f(access, written)` for every access of the kernel, reachable or not.
void forEachAccess(const Kernel &k, const std::function<void(const Access &, bool written)> &f);

// The elements of an argument that an item touches: a box around a point that is linear in the
// item's axes. Proven from the index expressions; `known` is false where that fails.
struct ItemAxisStride {
  Dim extent;
  int64_t block = 1, stride = 0;
  friend bool operator==(const ItemAxisStride &, const ItemAxisStride &) = default;
};
struct Footprint {
  bool known = false;
  std::vector<ItemAxisStride> axes; // outermost first; axes with one block are left out
  int64_t lo = 0, hi = 0;           // of the rest, in elements; hi is exclusive
};
Footprint footprint(const Kernel &k, int32_t arg);
// Item i of the one and item j of the other, i != j, touch different bytes. The two kernels have
// equal item formulas.
bool itemAligned(const Footprint &x, const Footprint &y, int64_t batch);

// --- buffers -------------------------------------------------------------------------------------

struct Users {
  std::vector<int> readers, writers; // launches, ascending
};
std::vector<Users> usersOf(const Program &p);
int64_t bytesOf(const Buffer &b, int64_t batch);
BufferId rootOf(const Plan &plan, BufferId b); // the end of the alias chain

using Edges = Acyclic; // of launches, from what comes first

// --- plan.cpp, plan_loop.cpp ---------------------------------------------------------------------

void orderLaunches(Program &p, const Edges &edges);
// Everything after the order of the launches: steps, barriers, offsets. A cyclic program's steps
// follow themselves without a barrier of all threads in between.
void finishPlan(Program &p, Plan &plan, const PersistentLayout &persistent, const PlanOptions &o,
                bool cyclic);
// Plans the bodies of all loops; the program gets buffers for what they need.
void planLoops(Program &p, Plan &plan, const PlanOptions &o);
// Steps, launches and buffers of the bodies become the program's own.
void inlineLoops(Program &p, Plan &plan);

// --- order.cpp -----------------------------------------------------------------------------------

Edges dataEdges(const Program &p, const std::vector<Users> &users);
// The first launch that is ready comes first: the program's own order where edges leave a choice.
std::vector<int> topologicalOrder(const Edges &edges);

// --- inplace.cpp ---------------------------------------------------------------------------------

// Binds results to the memory of their persistent value where that is legal, adding the edges that
// make it so; returns the results (indices) that need a copy.
std::vector<int> bindInPlace(Program &p, Plan &plan, const std::vector<Users> &users, Edges &edges,
                             bool inPlace, const Layouts &layouts);
// Tries to write one result over `old`, which it replaces.
bool bindResult(Program &p, Plan &plan, const std::vector<Users> &users, Edges &edges,
                size_t result, BufferId old);
// One argument per buffer in every launch: the code never sees two pointers to the same bytes.
void mergeEqualArgs(Program &p);
// Writes a transient result over the transient operand that its kernel reads for the last time.
void reuseOperands(Program &p, Plan &plan);

// --- align.cpp, memory.cpp -----------------------------------------------------------------------

bool isShort(const Kernel &k); // better on one thread than on all
void markSingles(const Program &p, Plan &plan, bool shortOnes);
void placeBarriers(const Program &p, Plan &plan, bool cyclic = false);
struct Lifetime {
  int firstStep = -1, lastStep = -1, firstEpoch = -1, lastEpoch = -1;
  // All accesses in the first, last epoch are on one thread.
  bool firstSingle = true, lastSingle = true;
};
std::vector<Lifetime> lifetimes(const Program &p, const Plan &plan); // by root buffer
void placeTransients(const Program &p, Plan &plan, bool reuse, bool cyclic = false);
void fillBill(const Program &p, Plan &plan); // gradients, activations and workspace of the function
// The place in the user's own file that a kernel comes from, of the places on its way through
// library layers: the innermost in the file that the module was made of, or the outermost.
ir::Loc userPlace(const ir::Module &m, ir::Loc loc);
// As in program.h, with source lines.
std::string printMemory(const Program &p, const Plan &plan, const ir::Module *m);

} // namespace nnc::cg
