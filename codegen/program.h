// A lowered function: kernels over buffers, and where everything is.
//
// fuse() turns an optimised ir::Function into kernels and buffers (values between kernels); plan()
// orders the kernels, decides which results are written in place, where barriers stand and where
// buffers lie, and yields the step table that the object file carries.
//
//   ir::Function -> fuse -> Program{buffers, kernels} -> schedule -> plan -> Plan{steps, offsets}
//
// A `scan` is a launch with a loop instead of a kernel: a program of its own, the body, some of
// whose buffers are parts of the enclosing program's. It is planned on its own; then its steps take
// the place of the launch, so that a finished plan is one list of steps with loops over ranges of
// it.
#pragma once
#include "codegen/kernel.h"
#include "codegen/layout.h"
#include <memory>

namespace nnc::cg {

using BufferId = int32_t;

enum class Life : uint8_t { Persistent, Input, Transient, Constant, Outer };

struct Buffer {
  std::string name;
  ir::Type type;
  Layout layout;              // of results that are no persistent values: row-major
  Life life = Life::Transient;
  std::string persistent;     // Persistent: its name in the module
  int32_t input = -1;         // Input: index among the function's unbound parameters
  std::vector<double> data;   // Constant: all elements
  // the IR value it holds; invalid for partial results of split reductions
  ir::ValueId value;
  // Outer, in the body of a loop: the enclosing program's buffer of which it is a part. The part of
  // iteration t begins `slice` * t bytes behind the buffer's beginning; 0: it is all of it.
  BufferId outer = -1;
  int64_t slice = 0;
  // In a finished plan: what holds the same value, or more of it (a sequence for its slice; a
  // carry's first value for the later ones).
  BufferId view = -1;
  bool pinned = false; // keeps memory of its own among the transients: not bound in place
};

struct Loop;
struct Launch {
  Kernel kernel;              // of a loop: only its arguments and its name
  std::vector<BufferId> args; // parallel to kernel.args
  const ir::Function *function = nullptr; // whose nodes it computes
  std::shared_ptr<Loop> loop; // null: a kernel
  bool spread = false; // short, and yet on all threads: its items are where those of others are
};

struct ProgramResult {
  std::string name;
  BufferId buffer = -1;
  // the persistent value `name` takes the buffer's content at the end of the call
  bool bind = false;
};

struct Program {
  const ir::Function *function = nullptr;
  int64_t batch = 0;
  std::vector<Buffer> buffers;
  std::vector<Launch> launches; // in an order in which producers come first
  std::vector<ProgramResult> results;
};

struct FuseOptions {
  bool fuse = true;                 // false: one kernel per node (tests compare bits)
  // Chained products of at least as many rows and columns have no memory between them; less is a
  // test's.
  int64_t leastChain = 8;
  const Layouts *layouts = nullptr; // of the persistent values; null: row-major
  // a function's own values have layouts for their readers (fuse_layouts.cpp)
  bool moves = true;
  bool pads = true;                 // .. off powers of two
  // tile registers (amx.h) are made use of, if there are any: forms of invariants, chains
  bool tiles = true;
};
// The function must be free of grad and call. Throws std::runtime_error with a message for the user
// where a shape is outside what kernels can express (none known for what elaboration makes).
Program fuse(const ir::Module &m, const ir::Function &f, const FuseOptions &o = {});

// --- plan ----------------------------------------------------------------------------------------

// After round r of a loop (from 0) an address moves by `even` or `odd` bytes, as r is.
struct Advance {
  int32_t loop = -1; // index into Plan::loops; -1 in a body: the loop that it is the body of
  int64_t even = 0, odd = 0;
};
struct PlannedArg {
  Life region = Life::Transient;
  int64_t offset = 0; // in the first round of all loops
  std::vector<Advance> advances;
  // In a body: relative to this buffer of the enclosing program; taking turns with another one.
  BufferId outer = -1, other = -1;
};
struct Step {
  int32_t kernel = -1; // index into Program::launches
  bool barrierBefore = false;
  bool single = false; // all items on one thread
  int32_t loop = -1;   // the innermost loop around it
  std::vector<PlannedArg> args;
};
// Steps [first, end), `length` times. Loops are listed in the order of their first steps, outer
// ones before inner ones.
struct PlannedLoop {
  int32_t first = 0, end = 0, parent = -1;
  int64_t length = 0;
  bool reverse = false;       // round r is iteration length - 1 - r
  // before the first round; barriers between rounds are those of the steps
  bool barrierBefore = false;
  std::string name;
  ir::Loc loc;
};
struct Plan {
  std::vector<Step> steps;
  std::vector<PlannedLoop> loops;
  std::vector<PlannedArg> place;   // by BufferId
  std::vector<int32_t> alias;      // by BufferId: the buffer whose memory it shares (itself: none)
  int64_t transientBytes = 0, inputBytes = 0, scratchBytes = 0;
  struct Bill {
    int64_t weights = 0, gradients = 0, slots = 0, activations = 0, workspace = 0;
  } bill;
};
// A scan. Its launch reads and writes, as a whole, the buffers that the body's Outer buffers name.
struct Loop {
  struct Carry {
    BufferId in = -1, out = -1;         // of the body; out -1: unchanged
    BufferId initial = -1, final = -1; // of the enclosing program; the loop may overwrite `initial`
  };
  Program body;
  Plan plan; // of the body
  int64_t length = 0;
  bool reverse = false;
  std::vector<Carry> carries;
  BufferId workspace = -1; // transients of the body, in the enclosing program
};
// Calls f for every launch with a kernel, in bodies too.
template <class F> void forEachKernel(Program &p, const F &f) {
  for (Launch &l : p.launches)
    if (l.loop)
      forEachKernel(l.loop->body, f);
    else
      f(l.kernel);
}
struct PersistentLayout {
  std::map<std::string, int64_t> offset; // by name, 64-byte aligned
  Layouts layouts;                       // of those that are not row-major
  int64_t bytes = 0;
};
PersistentLayout layoutPersistent(const ir::Module &m, bool padded = true);

struct PlanOptions {
  // false: every buffer its own memory, copies at the end (tests)
  bool inPlace = true, reuse = true;
  bool padded = true;                // layouts off powers of two; false: no padding (tests)
  bool allBarriers = false;
  // Short kernels run on one thread. false: they are cut into small items and shared out (tests).
  bool single = true;
};
// May append copy kernels, merge arguments of kernels (in-place partners become one) and reorder
// launches; loops become ranges of steps, their buffers and launches the program's own.
Plan plan(Program &p, const PersistentLayout &persistent, const PlanOptions &o = {});
// Replays the plan on byte ranges per item: empty, or the first pair of accesses without a barrier
// between that touch the same bytes with one of them writing (unless item-aligned), or a buffer
// reused too early.
std::string checkHazards(const Program &p, const Plan &plan, int64_t n);
std::string printMemory(const Program &p, const Plan &plan); // --emit=memory

} // namespace nnc::cg
