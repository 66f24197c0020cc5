// Kernels: what a step program executes, between the tensor IR and machine code.
//
// Problem. Code for a tensor program must be fused, split over threads and vectorised without ever
// changing a result bit. The statement that carries all of it:
//
//   A kernel is a function of an item index. Items write disjoint bytes; an item's result does not
//   depend on which thread runs it, when, or beside what.
//
// Example. Row softmax over logits[n,10] with the gradient written out is one Loops kernel:
// parallel axis n; stage 0 reduces max over c into a local, stage 1 reduces sum of exp(z - local0),
// stage 2 loops over c and stores. A dense layer is one Contract kernel: acc[m,n] = sum_k a*b, then
// an epilogue (bias, relu, or the optimizer's update) on the tile while it is in registers.
//
// Method. A kernel holds axes, index expressions over them, typed scalar expressions (hash-consed,
// about thirty operations) and stages. Views (broadcast, transpose, slice, reverse, pad, window,
// reshape, concat) never appear: they have become index expressions and guards. The struct is
// self-contained (arguments by position, with dtype, dimensions and layout), so equal kernels have
// equal canonical text and are compiled once. Schedules are chosen per target and printed with it.
#pragma once
#include "ir/module.h"
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace nnc::cg {

using ir::Dim;
using ir::Dims;
using ir::DType;

// ** axes and indices **

using AxisId = int32_t; // index into Kernel::axes
using AtomId = int32_t; // index into Kernel::atoms
using ExprId = int32_t; // index into Kernel::exprs; -1: none

// coefficient * atom
struct Term {
  AtomId atom = 0;
  int64_t coef = 1;
  friend bool operator==(const Term &, const Term &) = default;
  friend auto operator<=>(const Term &, const Term &) = default;
};

// An integer index: sum of terms + c0 + cn * n. Terms sorted by atom, no zero coefficients.
struct Index {
  std::vector<Term> terms;
  int64_t c0 = 0, cn = 0;
  bool isConst() const { return terms.empty() && cn == 0; }
  friend bool operator==(const Index &, const Index &) = default;
  friend auto operator<=>(const Index &, const Index &) = default;
};

// What an index is made of. Div and Mod are floor division and its remainder by a positive constant
// (reshapes whose factors do not refine, phases of strided windows); Value is a loaded integer,
// clamped to [0, limit-1] (gather).
struct Atom {
  enum Kind : uint8_t { Axis, Div, Mod, Value } kind = Axis;
  AxisId axis = -1;  // Axis
  Index inner;       // Div, Mod
  int64_t by = 1;    // Div, Mod
  ExprId value = -1; // Value: an i32 or i64 expression
  Dim limit;         // Value
  friend bool operator==(const Atom &, const Atom &) = default;
  friend auto operator<=>(const Atom &x, const Atom &y) {
    return std::tie(x.kind, x.axis, x.inner, x.by, x.value, x.limit.a, x.limit.b) <=>
           std::tie(y.kind, y.axis, y.inner, y.by, y.value, y.limit.a, y.limit.b);
  }
};

// An iteration axis. With a bound, the loop stops where base + axis reaches limit: the last chunk
// of a split reduction (base = chunk index * chunk size).
struct Axis {
  std::string name;
  Dim extent;
  bool bounded = false;
  Index base;
  Dim limit;
};

// Holds where lo <= index < hi.
struct Guard {
  Index index;
  int64_t lo = 0;
  Dim hi;
  friend bool operator==(const Guard &, const Guard &) = default;
  friend auto operator<=>(const Guard &x, const Guard &y) {
    return std::tie(x.index, x.lo, x.hi.a, x.hi.b) <=> std::tie(y.index, y.lo, y.hi.a, y.hi.b);
  }
};

// One element of an argument: its row-major flat index in logical elements. Strides come from N
// (the largest batch), so `flat` has no term in n but for concatenation along the batch. A load
// whose guards do not all hold yields 0 and touches no memory; a store whose guards do not hold is
// dropped.
struct Access {
  int32_t arg = 0;  // index into Kernel::args
  Index flat;
  std::vector<Guard> guards;
  friend bool operator==(const Access &, const Access &) = default;
  friend auto operator<=>(const Access &, const Access &) = default;
};

// ** scalar expressions **

// bf16 and f16 are storage: a `convert` to one rounds, and nothing else has such a type.
// Operand types equal the result type unless said otherwise. Integers wrap; idiv and imod floor.
// f32 and f64 are IEEE without contraction; subnormals flush.
enum class SOp : uint8_t {
  constant, // value (double; integers exact to 2^53)
  load,     // access; type = the argument's dtype widened: bf16, f16 -> f32; u8, bool stay
  acc,      // epilogue of Contract and ScatterAdd: the accumulated element
            // Chain: the element at (row, col) of the tile that `stage` made
  local,    // value a stage of this item left behind: `stage`, output `slot`
  index,    // Index `index` as i32, i64 (exact) or a float
  size,     // Dim `dim` at run time, as i32
  guard,    // bool: all of `guards` hold
  random,   // f32 in [0,1): Philox(seed, step, site, the environment's iteration, index = `index`);
            // the operands are the site's two u32 words, low and high: loads, so that draws
            // share code
  neg, abs, sign, sqrt, floor, ceil, round, // round: ties to even
  exp, expm1, log, log1p, rsqrt, sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, sigmoid, erf,
  add, sub, mul, div, idiv, imod, pow, atan2,
  max, min, // NaN propagates
  fma,      // a * b + c, one rounding (polynomials only)
  eq, ne, lt, le, gt, ge, isNan, // bool results
  select,   // (bool, T, T)
  land, lor, lnot, // bool
  convert,  // numeric conversion to `type`: float -> int truncates and saturates, NaN -> 0;
            // x -> bool is x != 0
  // Below: only made by the expansion of elementary functions (math.cpp).
  bitcast,  // f32 <-> i32 bits, f64 <-> i64
  shl, shr, // integer shifts by a constant operand; shr is arithmetic on signed, logical on u32
  iand, ior, ixor,
};

struct Expr {
  SOp op = SOp::constant;
  DType type = DType::f32;
  std::vector<ExprId> args;
  double value = 0;           // constant
  Access access;              // load
  int32_t stage = 0, slot = 0; // local
  Index index;                // index, random
  Dim dim;                    // size
  std::vector<Guard> guards;  // guard
};
std::string_view sopName(SOp op);

// ** stages **

enum class Combine : uint8_t { none, sum, prod, max, min, argmax, cumsum };

// The order of a reduction. The reduced axes run in the order listed, outermost first.
// lanes = 1: one accumulator, in sequence. lanes > 1: element j of the innermost reduced axis goes
// to accumulator j mod lanes (from the identity); at the end the lanes fold by halves: lane i +=
// lane i + w for w = lanes/2, lanes/4, .., 1. argmax and max/min take lanes = 1 semantics in any
// order: ties go to the smaller index, NaN wins.
struct ReduceOrder {
  int32_t lanes = 1;
};
inline constexpr int kLanesF32 = 64, kLanesF64 = 32, kLanesDot = 16;

struct Store {
  Access access;
  int32_t slot = 0; // which result of the stage: 0 value, 1 index (argmax)
};

// One stage of an item: for every point of `loop` (in order) combine `body` over `reduce`.
//   none:   no reduce axes; the value is `body`
//   argmax: slot 0 the maximum (NaN wins), slot 1 the i32 row-major index over `reduce` of its
//           first place
//   cumsum: exactly one reduce axis; a running sum along it, stored at every step (a store's access
//           may use the axis); `exclusive` stores before adding; reversed order is in the index
//           expressions
// Results go to stores, and, if `loop` is empty, may be read by later stages as `local`.
//
// Consecutive stages without reductions over the same `loop` axes are one block: at each point all
// their bodies are evaluated before any of their stores takes place. So an optimizer that writes m
// and w in place reads the old m in both; all epilogue stages of a contraction are one block.
struct Stage {
  std::vector<AxisId> loop, reduce;
  Combine combine = Combine::none;
  ReduceOrder order;
  bool exclusive = false;
  int64_t chunk = 0; // of a sum beside a contraction, see ContractInfo
  ExprId body = -1;
  DType type = DType::f32; // of the value
  std::vector<Store> stores;
  std::string name; // for people: the user's name of the value
};

// ** classes **

enum class KernelClass : uint8_t { Loops, Contract, ScatterAdd, Sort, Chain };

// acc[batch, m, n] = sum over k (in the listed order, outermost first) of a * b, from zero, with
// fma (lanes as ReduceOrder along the innermost k for the dot family; amx.h has the order of the
// family amx). Then the stages, each elementwise over (batch, m, n): `loop` and `reduce` empty,
// `acc` stands for the element. `a` and `b` are the operand expressions: a load, perhaps under
// convert; guards yield zero.
//   A stage with `reduce`, some of (batch, m, n) in their order, sums its body over them, the first
// in chunks of `chunk` steps: its one store has the index first / chunk instead of that axis. The
// sum lives in the store's place: the first element of a chunk replaces it, the others are added,
// in the order of the axes, lanes 1. All such stages of a kernel have the same axes and chunks. An
// item has whole chunks, and all of the other axes.
struct ContractInfo {
  std::vector<AxisId> batch, m, n, k;
  ExprId a = -1, b = -1;
  DType type = DType::f32; // accumulator
};

// table[.., v, ..] = sum over `tokens` in order of update where index == v, from zero. Axes:
// `outer` before and `inner` after the table's indexed dimension (extent `rows`); `index` and
// `update` expressions over them. Without stages the table is argument `arg`, its flat index =
// outer, row, inner in row-major order. With stages (`arg` -1), each is elementwise over (outer,
// row, inner), as those of a contraction are, and `acc` stands for the table's element; all updates
// are read before the first stage. With `touched` only rows that a token names are visited, as the
// stages leave all others as they are (touched.cpp).
struct ScatterInfo {
  std::vector<AxisId> outer, tokens, inner;
  Dim rows;
  ExprId index = -1, update = -1;
  DType type = DType::f32;
  int32_t arg = 0;
  AxisId row = -1; // with stages: the axis of the rows
  bool touched = false;
};

// Stable sort along `axis` for every point of Kernel::parallel: value expression over both; stores
// as two args (values, i32 indices; -1: not wanted), row-major over (parallel.., axis at `place`).
struct SortInfo {
  AxisId axis = 0;
  bool descending = false;
  ExprId value = -1;
  DType type = DType::f32;
  Access values, indices; // over the axes; arg -1: not wanted
};

// Products of products, where what lies between them is too large to keep: softmax(q k') v. Values
// over (outer, row, col) exist as tiles only: a block of rows, all columns, in the thread's
// scratch. For every point of `outer`, in order, and every row, the stages run in order; a step
// says what its stage is:
//   Product: tile = sum over `reduce` in order of body * b, from zero, with fma. `body` does not
//            depend on col, `b` not on row
//   Tile:    tile = body, over (row, col); `loop` = {col}
//   Row:     body, or body combined over `reduce` = {col}; leaves a local behind for the row
//   RowSum:  for `loop`: sum over `reduce` = {col} in order of body * b, from zero, with fma; b not
//            on row
//   ColSum:  for (col, `loop`): sum over `reduce` (outer axes, then row), in the order of `outer`
//            and of the rows, of body * b, from zero, with fma; b not on col. The sums live in the
//            stores' places, or in scratch at `sumsAt`
// Bodies of sums are tiles. A RowSum's stores may use outer, row and loop, a ColSum's outer, col
// and loop. With the family amx the factors are bf16 and the sums of Product, RowSum and ColSum in
// the order of amx.h: a ColSum's terms are dealt by blocks of rows, nv times 16.
enum class StepKind : uint8_t { Product, Tile, Row, RowSum, ColSum };
struct ChainStep {
  StepKind kind = StepKind::Row;
  ExprId b = -1;     // second factor
  // Product, Tile: where the tile lies in scratch; tiles that follow each other share
  int32_t slot = -1;
  // ColSum: bytes into the scratch, where its sums are kept until the last row; -1: in memory
  int64_t sumsAt = -1;
  bool seenOnly = false; // Product: nothing reads its tile in columns beyond those that a row sees
};
// Columns that a mask hides from all rows of a block: column c is seen by row r only if c <= r +
// reach. If all of `zeros`, values of a row, are 0 (the exponentials of what stands for hidden
// scores), every value from step `from` on is 0 in hidden columns, and they are passed over. So no
// bit depends on it, but that a weight of 0 does not meet a NaN.
struct HiddenColumns {
  bool any = false;
  int64_t reach = 0;
  int32_t from = 0;
  std::vector<ExprId> zeros;
};
struct ChainInfo {
  std::vector<AxisId> outer;
  AxisId row = -1, col = -1;
  std::vector<ChainStep> steps; // parallel to Kernel::stages
  DType type = DType::f32;      // of tiles and sums
  HiddenColumns hidden;         // found by the schedule
};

// ** schedules **: per target, never affects bits beyond what ReduceOrder and the family say

enum class Family : uint8_t { Outer, Dot, Amx };
// Whether a contraction copies an operand into the thread's scratch before its tiles read it
// (pack.h): for each tile of rows, or once for all tiles of an item (and of a block of k).
enum class Pack : uint8_t { none, tile, block };
struct ItemAxis {
  AxisId axis = 0;
  int64_t block = 1; // an item covers `block` steps of this axis
  friend bool operator==(const ItemAxis &, const ItemAxis &) = default;
};
struct Schedule {
  std::vector<ItemAxis> items; // outermost first; item index is mixed radix over ceil(extent/block)
  Family family = Family::Outer; // Contract; Chain: Outer or Amx
  // Contract: tiled axes (row in m, col in n); col is the vectorised one
  AxisId row = -1, col = -1;
  // Contract: rows and vectors of a register tile; Chain: vectors of a block of rows, columns of a
  // register tile
  int32_t mr = 1, nv = 1;
  // Contract, outer: the operand with rows, that with columns
  Pack packA = Pack::none, packB = Pack::none;
  // Contract: this axis of k is summed in blocks of kBlock, the axes before it step by step;
  // between blocks the sums of an item lie in scratch, so no bit depends on it. -1: one block.
  AxisId kAxis = -1;
  int64_t kBlock = 0;
  // Amx: steps of `row`, the outermost axis of m, in one copy of rows
  int64_t rowBlock = 0;
  // Loops: vectorised parallel axis; -1: each stage its innermost axis
  AxisId vec = -1;
  int32_t lanes = 16;            // vector width in elements of f32
  int64_t scratchBytes = 0;      // per thread
  friend bool operator==(const Schedule &, const Schedule &) = default;
};

// ** kernel **

// An argument: what the code must know of the buffer. Two buffers that plan places at one address
// (in-place updates) are one argument.
struct KernelArg {
  DType dtype = DType::f32;
  Dims dims;
  bool read = false, written = false;
};

struct Kernel {
  KernelClass cls = KernelClass::Loops;
  int64_t batch = 0; // N of the function: strides come from it
  std::vector<KernelArg> args;
  std::vector<Axis> axes;
  std::vector<Atom> atoms; // hash-consed through `atom()`
  std::vector<Expr> exprs; // hash-consed through `expr()`; operands before users
  // Loops, Sort: the stages run for every point of these axes, in any order, in parallel.
  std::vector<AxisId> parallel;
  std::vector<Stage> stages;
  ContractInfo contract;
  ScatterInfo scatter;
  SortInfo sort;
  ChainInfo chain;
  Schedule schedule;

  // Not part of the code: for people, profiles and the oracle.
  std::string name;               // user's names of the main value: "dense.z"
  ir::Loc loc;
  std::vector<ir::NodeId> meaning; // the IR nodes it replaces

  AxisId axis(std::string name, Dim extent);
  AtomId atom(const Atom &a);
  // hash-consed and locally folded (constants, x*1 on indices; never IEEE-visible)
  ExprId expr(Expr e);
  Index axisIndex(AxisId a);

private:
  std::map<Atom, AtomId> atomIds_;
  std::map<std::string, ExprId> exprIds_;
};

// Index arithmetic with simplification by ranges of the axes ((28*i + j) / 28 = i for 0 <= j < 28).
Index operator+(const Index &x, const Index &y);
Index operator*(const Index &x, int64_t k);
Index constIndex(int64_t c);
Index dimIndex(Dim d);
Index divIndex(Kernel &k, const Index &x, int64_t by);
Index modIndex(Kernel &k, const Index &x, int64_t by);
// Smallest and largest value over the axes, n up to N; false if unbounded (Value atoms have
// bounds).
bool rangeOf(const Kernel &k, const Index &x, int64_t &lo, int64_t &hi);
// Does the index depend on the axis (through Div, Mod, Value too)?
bool dependsOn(const Kernel &k, const Index &x, AxisId axis);
bool dependsOn(const Kernel &k, ExprId e, AxisId axis);
// c*b*(x/b) + c*(x%b) = c*x, wherever it stands in the sum.
Index recombine(Kernel &k, Index x);
// d index / d axis if that is a constant.
std::optional<int64_t> strideAlong(const Kernel &k, const Index &x, AxisId axis);

// The sums beside a contraction: the first of the stages, null if there is none.
const Stage *sumsBeside(const Kernel &k);
// Of how many steps of an axis the items of a contraction must have a multiple; 0: of all of them.
int64_t itemUnit(const Kernel &k, AxisId a);

// Items at batch size n, from the schedule; and the same as const + ceil(perN*n/div) for the step
// table (only one item axis may depend on n; others are constant: items = product).
int64_t itemCount(const Kernel &k, int64_t n);

// Canonical text: everything that determines the code, with arguments by position and axes by
// number. Kernels with equal text share one compiled function. `pretty` adds names for
// --emit=kernels.
std::string print(const Kernel &k, bool pretty);
// Checks the invariants stated above (ids in range, types, disjoint stores by construction,
// schedule consistent); empty if they hold.
std::string verify(const Kernel &k);

} // namespace nnc::cg
