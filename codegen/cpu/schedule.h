// What schedule() and the emitter must agree on: the axis that the vectors of a stage run along;
// and what the schedules of the classes share.
#pragma once
#include "codegen/codegen.h"
#include <cmath>
#include <set>

namespace nnc::cg {

// Relative cost of a stage per point of the parallel axes (about a nanosecond / 2 each unit) with
// vectors of `lanes` along `lane`, which may be a parallel axis; -1: scalar code.
double stageCost(const Kernel &k, const Stage &s, AxisId lane, int lanes);

// The axis of the stage itself that its vectors should run along; -1 for scalar code. Never changes
// bits.
AxisId stageLaneAxis(const Kernel &k, const Stage &s, int lanes);

// Shared by the schedules of all classes.
inline constexpr double kItemCost =
    8000; // units of stageCost (half a nanosecond) that make an item worthwhile
inline constexpr int64_t kMostItems = 256; // shares are even enough, and table entries few

inline int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
// Steps of an axis at the largest batch.
int64_t extentAt(const Kernel &k, AxisId a);
inline bool dependsOnN(const Kernel &k, AxisId a) { return !k.axes[size_t(a)].extent.isConst(); }
bool contains(const std::vector<AxisId> &list, AxisId a);
// Adds an expression and all that it is made of.
void collect(const Kernel &k, ExprId e, std::set<ExprId> &seen);

// What a ScatterAdd with stages keeps in scratch (emit_scatter.cpp), in bytes from its begin: the
// place of each row, the row of each place, and the sums, `rowElements` a place. Places for all
// tokens and one more.
struct ScatterScratch {
  int64_t tokens = 1, rowElements = 1;
  int64_t rowsAt = 0, sumsAt = 0, bytes = 0;
};
ScatterScratch scatterScratch(const Kernel &k);

// Contractions (schedule_contract.cpp): a way to run one, with what the cost model expects of it.
struct ContractChoice {
  Family family = Family::Outer;
  bool swap = false; // a has the columns, b the rows
  AxisId row = -1, col = -1;
  int mr = 1, nv = 1;
  Pack packA = Pack::none, packB = Pack::none; // after the exchange
  double cycles = INFINITY;                    // of the products
  double copies = 0;                           // of packing
  double total() const { return cycles + copies; }
};
void scheduleContract(Kernel &k, const Target &t);
// The best way to run a contraction on tile registers (schedule_amx.cpp), none if that is
// impossible.
struct ContractPlan {
  ContractInfo contract; // operands and axes may have been exchanged
  Schedule schedule;
  double cycles = INFINITY;
};
std::optional<ContractPlan> planAmx(const Kernel &k, const Target &t);
// All ways that give the same bits, each with the tile that the model prefers, the best first. The
// first is what schedule() takes. For a kernel that is not scheduled yet.
std::vector<ContractChoice> contractChoices(const Kernel &k, const Target &t);
// Columns that a tile of the kernel's schedule covers.
int64_t tileColumns(const Kernel &k, const Target &t);
// Vector registers that a tile of dot products takes: its sums, one side of the operands, one of
// the other.
int dotRegisters(const Kernel &k, const Target &t, int rows, int columns);
// The family that schedule() takes for an unscheduled contraction. Each sums in its own order, so
// it decides bits.
Family contractFamily(const Kernel &k, const Target &t);
// Does the schedule of a contraction visit the elements of a sum beside it in the order of the sum?
bool keepsSums(const Kernel &k);
// Bytes from vector to vector of columns that are read where they lie, row by row far apart, if the
// emitter fetches them ahead (emit_ahead.cpp): the processor sees no line follow another. 0: it
// does not.
int64_t fetchedColumns(const Kernel &k, ExprId operand, AxisId col);
// .. of rows that lie side by side, of which a step of k takes a line or two: sums that go down
// both operands.
int64_t fetchedRows(const Kernel &k, ExprId operand, AxisId row);
// Schedules an unscheduled kernel this way; other tiles of the same choice are as valid if they fit
// the registers.
void applyChoice(Kernel &k, const Target &t, const ContractChoice &c);

// Rows of a block, items and the places of the tiles (schedule_chain.cpp).
void scheduleChain(Kernel &k, const Target &t);
// Fills the kernel's `hidden` (chain_hidden.cpp).
void findHidden(Kernel &k);
// Columns that there is room for in a tile of a chain: on tile registers whole registers.
int64_t chainColumns(const Kernel &k);
// Elements from column to column of sums over rows in scratch.
int64_t heldPitch(const Kernel &k, size_t stage);
// Rows of a whole block of a chain.
inline int64_t chainRows(const Kernel &k) { return int64_t(k.schedule.nv) * k.schedule.lanes; }

} // namespace nnc::cg
