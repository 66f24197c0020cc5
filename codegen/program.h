// A lowered function: kernels over buffers, and where everything is.
//
// fuse() turns an optimised ir::Function into kernels and buffers (values between kernels); plan()
// orders the kernels, decides which results are written in place, where barriers stand and where
// buffers lie, and yields the step table that the object file carries.
//
//   ir::Function -> fuse -> Program{buffers, kernels} -> schedule -> plan -> Plan{steps, offsets}
#pragma once
#include "codegen/kernel.h"
#include "codegen/layout.h"

namespace nnc::cg {

using BufferId = int32_t;

enum class Life : uint8_t { Persistent, Input, Transient, Constant };

struct Buffer {
  std::string name;
  ir::Type type;
  Layout layout;              // persistent values and what is stored over them; else row-major
  Life life = Life::Transient;
  std::string persistent;     // Persistent: its name in the module
  int32_t input = -1;         // Input: index among the function's unbound parameters
  std::vector<double> data;   // Constant: all elements
  ir::ValueId value;          // the IR value it holds; invalid for partial results of split reductions
};

struct Launch {
  Kernel kernel;
  std::vector<BufferId> args; // parallel to kernel.args
};

struct ProgramResult {
  std::string name;
  BufferId buffer = -1;
  bool bind = false; // the persistent value `name` takes the buffer's content at the end of the call
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
  const Layouts *layouts = nullptr; // of the persistent values; null: row-major
};
// The function must be free of grad, call and scan. Throws std::runtime_error with a message for the user
// where a shape is outside what kernels can express (none known for what elaboration makes).
Program fuse(const ir::Module &m, const ir::Function &f, const FuseOptions &o = {});

// --- plan ------------------------------------------------------------------------------------------

struct PlannedArg {
  Life region = Life::Transient;
  int64_t offset = 0;
};
struct Step {
  int32_t kernel = -1; // index into Program::launches
  bool barrierBefore = false;
  bool single = false; // all items on one thread
  std::vector<PlannedArg> args;
};
struct Plan {
  std::vector<Step> steps;
  std::vector<PlannedArg> place;   // by BufferId
  std::vector<int32_t> alias;      // by BufferId: the buffer whose memory it shares (itself: none)
  int64_t transientBytes = 0, inputBytes = 0, scratchBytes = 0;
  struct Bill { int64_t weights = 0, gradients = 0, slots = 0, activations = 0, workspace = 0; } bill;
};
struct PersistentLayout {
  std::map<std::string, int64_t> offset; // by name, 64-byte aligned
  Layouts layouts;                       // of those that are not row-major
  int64_t bytes = 0;
};
PersistentLayout layoutPersistent(const ir::Module &m, bool padded = true);

struct PlanOptions {
  bool inPlace = true, reuse = true; // false: every buffer its own memory, copies at the end (tests)
  bool padded = true;                // layouts off powers of two; false: row-major throughout (tests)
  bool allBarriers = false;
};
// May append copy kernels, merge arguments of kernels (in-place partners become one) and reorder launches.
Plan plan(Program &p, const PersistentLayout &persistent, const PlanOptions &o = {});
// Replays the plan on byte ranges per item: empty, or the first pair of accesses without a barrier between
// that touch the same bytes with one of them writing (unless item-aligned), or a buffer reused too early.
std::string checkHazards(const Program &p, const Plan &plan, int64_t n);
std::string printMemory(const Program &p, const Plan &plan); // --emit=memory

} // namespace nnc::cg
