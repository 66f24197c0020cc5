// The inside of the emitter: the state of one kernel's function while it is written.
//
// An expression is emitted in a context: every axis that stands for a loop around it is bound to a
// scalar, and at most one of them, the lane axis, also to the lanes of a vector. What does not
// depend on the lane axis is emitted as a scalar and spread late, so that LLVM hoists it.
//
//   bias[c] * x[r], lane axis c:
//     fmul <16 x float> (load <16 x float> bias + c), splat (load x + r)
//
// The files: emit_expr (operations), emit_access (indices, loads, stores), emit_loops (items,
// loops), emit_reduce, emit_contract, emit_pack (its operands), emit_ahead, emit_amx, emit_chain,
// chain_tiles, emit_scatter, emit_sort.
#pragma once
#include "codegen/cpu/emit.h"
#include "codegen/cpu/llvm_pch.h"
#include "codegen/pack.h"
#include <functional>
#include <unordered_map>

namespace nnc::cg {

// A value: one scalar for all lanes, or one per lane.
struct Val {
  llvm::Value *v = nullptr;
  bool lanes = false;
};

// An index: base + plus + stride * lane + rest[lane].
struct IndexVal {
  llvm::Value *base = nullptr; // i64; null: 0
  int64_t plus = 0, stride = 0;
  llvm::Value *rest = nullptr; // <width x indexType>; null: 0
  bool lanes() const { return stride != 0 || rest; }
};

// What holds the value of an axis: base + plus, and + lane for the lane axis.
struct Binding {
  llvm::Value *base = nullptr; // i64; null: the axis is not bound
  int64_t plus = 0;
  size_t depth = 0; // scopes around the binding
};

struct Range {
  llvm::Value *lo = nullptr, *hi = nullptr; // lo <= hi
};

class ChainTiles;

class Emitter {
  friend class AmxEmitter; // emit_amx.cpp
  friend class ChainTiles; // chain_tiles.h

 public:
  Emitter(llvm::Module &m, const Kernel &k, const Target &t, const std::string &name);
  void run();

 private:
  using Values = std::vector<Val>;
  using Body = std::function<void()>;

  llvm::Module &m_;
  Kernel k; // a copy: elementary functions are expanded in it
  const Target &target_;
  llvm::IRBuilder<> b;
  llvm::Function *fn_ = nullptr;
  llvm::Value *begin_ = nullptr, *end_ = nullptr; // items
  llvm::Value *n_ = nullptr, *step_ = nullptr, *seed_ = nullptr, *scratch_ = nullptr,
              *iteration_ = nullptr;
  std::vector<llvm::Value *> args_;
  std::vector<llvm::MDNode *> aliasScope_, noAlias_;
  llvm::IntegerType *indexType_ = nullptr; // of the lanes of an index: i32 if all of them fit

  // The context.
  int width_ = 1; // lanes; 1: scalar code
  AxisId laneAxis_ = -1;
  llvm::Value *mask_ = nullptr; // <width x i1>: lanes that exist; null: all
  bool guardsHold_ = false;     // operands of a contraction whose guards were tested outside
  std::vector<Binding> axis_;
  void bind(AxisId a, llvm::Value *base, int64_t plus, size_t depth) {
    axis_[size_t(a)] = {base, plus, depth};
  }
  void bind(AxisId a, llvm::Value *base, int64_t plus) { bind(a, base, plus, scopes_.size()); }
  void unbind(AxisId a) { axis_[size_t(a)] = {}; }
  std::vector<Range> range_;   // of each axis in this item
  Val acc_;                    // Contract epilogue
  std::vector<Values> locals_; // by stage

  // Values already emitted, innermost scope last. A value is found while the scope it was emitted
  // in lives.
  struct Scope {
    std::unordered_map<ExprId, Val> exprs;
    std::unordered_map<AtomId, IndexVal> atoms;
  };
  std::vector<Scope> scopes_;
  std::vector<uint64_t> reads_; // by ExprId: arguments it loads from, as bits (modulo 64)
  std::vector<int32_t> latestLocal_; // by ExprId: the last stage whose value it reads; -1: none

  // --- setup (emit_loops.cpp)
  void openFunction(const std::string &name);
  void aliasInfo();
  void chooseIndexType();
  void findReads();
  void emitItems(const Body &item);

  // --- types and small things (emit_expr.cpp)
  llvm::Type *type(DType t, bool lanes = false); // of a value
  llvm::Type *memoryType(DType t);               // of an element in memory
  llvm::Value *i64(int64_t v) { return b.getInt64(uint64_t(v)); }
  llvm::Value *dim(Dim d); // at run time
  llvm::Value *add(llvm::Value *x, llvm::Value *y);
  llvm::Value *addConst(llvm::Value *x, int64_t c);
  llvm::Value *scaled(llvm::Value *x, int64_t c);
  llvm::Value *spread(llvm::Value *scalar);
  llvm::Value *spread(const Val &v) { return v.lanes ? v.v : spread(v.v); }
  llvm::Value *laneNumbers(llvm::IntegerType *t); // <0, 1, 2, ..>
  llvm::Value *firstLanes(llvm::Value *count);    // mask: lane < count
  llvm::Value *zeros();                           // address of 128 zero bytes
  llvm::AllocaInst *slot(llvm::Type *t, const char *name);
  llvm::Value *both(llvm::Value *x, llvm::Value *y); // and; null: true

  // --- expressions (emit_expr.cpp)
  Val expr(ExprId e);
  Val compute(const Expr &e);
  Val unary(const Expr &e, const Val &x);
  Val binary(const Expr &e, Val x, Val y);
  Val divideInt(const Expr &e, const Val &x, const Val &y);
  Val compare(const Expr &e, const Val &x, const Val &y);
  Val convert(const Val &x, DType from, DType to);
  Val constant(double v, DType t);
  Val random(const Expr &e);

  // --- accesses (emit_access.cpp)
  Val indexValue(const Index &x, DType t);
  IndexVal index(const Index &x);
  size_t depthOf(AtomId a) const;
  IndexVal atom(AtomId a);
  IndexVal divMod(const Atom &a);
  IndexVal loadedIndex(const Atom &a);
  llvm::Value *scalarIndex(const IndexVal &x);                     // i64
  llvm::Value *laneIndex(const IndexVal &x, llvm::IntegerType *t); // vector
  struct Condition {
    llvm::Value *uniform = nullptr, *lanes = nullptr; // null: true
  };
  Condition guards(const std::vector<Guard> &gs);
  Val load(const Access &a);
  Val loadUniform(const Access &a, const IndexVal &x, const Condition &c);
  llvm::Value *loadContiguous(const Access &a, const IndexVal &x, const Condition &c);
  llvm::Value *loadReversed(const Access &a, const IndexVal &x, const Condition &c);
  llvm::Value *gather(const Access &a, const IndexVal &x, llvm::Value *mask);
  llvm::Value *address(int arg, const IndexVal &x); // of lane 0 without `rest`
  llvm::Value *widen(llvm::Value *memory, DType t);
  llvm::Value *narrow(llvm::Value *value, DType t);
  void store(const Access &a, const Val &v);
  void storeScalar(const Access &a, const IndexVal &x, const Condition &c, llvm::Value *v);
  void storeLanes(const Access &a, const IndexVal &x, const Condition &c, llvm::Value *v);
  void noteAlias(llvm::Value *access, int arg);
  void forgetLoads(int arg); // the argument was written

  // --- loops (emit_loops.cpp)
  void forRange(llvm::Value *lo, llvm::Value *hi, int64_t step,
                const std::function<void(llvm::Value *)> &body);
  void ifThen(llvm::Value *condition, const Body &body);
  Range extentOf(AxisId a); // range_, and the bound of a bounded axis
  void forAxis(AxisId a, const Body &body);
  void forAxes(const std::vector<AxisId> &list, size_t from, const Body &body);
  void forLanes(AxisId a, const Body &body);
  void lanesAt(AxisId a, llvm::Value *at, llvm::Value *mask, const Body &body);
  void emitLoops();
  void emitStages();
  void emitBlock(size_t first, size_t last);
  bool joinsReductions(size_t first, size_t stage);
  void elementwise(size_t first, size_t last);
  void finishStage(size_t i, const Values &results);

  // --- reductions (emit_reduce.cpp)
  using Stages = std::vector<const Stage *>; // reductions over the same axes in the same order
  Values reduce(const Stages &stages, AxisId lane);
  Values reduceInSequence(const Stages &stages);
  Values reduceRotating(const Stages &stages, AxisId lane);
  Values reduceInMemory(const Stages &stages);
  Values reduceArg(const Stage &s, AxisId lane);
  void cumsum(const Stage &s);
  llvm::Value *combine(Combine c, DType t, llvm::Value *x, llvm::Value *y);
  llvm::Constant *identity(Combine c, llvm::Type *t, DType d);
  void undoRotation(std::vector<llvm::AllocaInst *> &acc, llvm::Value *steps, llvm::Type *t);
  llvm::Value *foldLanes(Combine c, DType t, llvm::Value *v);
  struct Best {
    llvm::Value *value, *index;
  };
  Best better(DType t, const Best &x, const Best &y, bool later, llvm::Value *mask);
  Val reducedIndex(const Stage &s);

  // --- contraction (emit_contract.cpp)
  struct Tile {
    int rows = 1, vectors = 1;
    llvm::Value *row = nullptr;     // first row whose results count
    llvm::Value *rowBase = nullptr; // first row that is loaded
    llvm::Value *rowEnd = nullptr;
    llvm::Value *col = nullptr, *colBase = nullptr;
    llvm::Value *lastMask = nullptr;     // of the last vector; null: all lanes
    llvm::Value *partial = nullptr;      // sums of earlier blocks of k
    size_t depth = 0;                    // scopes around the loops over k
    std::vector<llvm::AllocaInst *> acc; // [row][vector]
  };
  void emitContract();
  void emitPanels();
  void emitTiles(Tile t);
  void emitMicrokernel(Tile &t, size_t firstAxis = 0);
  void emitInner(Tile &t, AxisId k);
  void emitProducts(Tile &t);
  llvm::Value *operandGuards(const Tile &t, AxisId innermost);
  void emitEpilogue(Tile &t);
  void emitEpilogueRows(Tile &t, llvm::Value *buffer);
  void epilogueAt(Tile &t, llvm::Value *buffer, llvm::Value *r, int v);
  void atVectorOf(const Tile &t, llvm::Value *row, int v, const Body &body);
  bool holdsSums(const Tile &t);
  llvm::Value *sumSoFar(const Stage &s);
  void addUp(size_t stage, const Val &v);
  // by stage and vector of a row; empty: in memory
  std::vector<std::vector<llvm::AllocaInst *>> heldSums_;
  size_t heldVector_ = 0;
  void emitDotPanels();
  void emitDotTile(Tile &t);
  void emitDotEpilogue(Tile &t);
  llvm::Value *foldDot(const std::vector<llvm::Value *> &acc);
  llvm::Value *multiplyAdd(DType t, llvm::Value *x, llvm::Value *y, llvm::Value *z);
  llvm::Value *shiftedBase(AxisId a, llvm::Value *at, int64_t tile);

  // --- packed operands (emit_pack.cpp)
  struct Packed {
    Pack how = Pack::none;
    PackShape shape;
    std::vector<AxisId> at; // an axis for each dimension, to copy along
    ExprId source = -1;     // the operand over these axes
    int32_t arg = -1;       // the copy, as an argument of the kernel
    llvm::Value *memory = nullptr, *origin = nullptr; // where it lies; where all indices are 0
  };
  Packed packedA_, packedB_;
  // loops over m around the copy of the rows' operand, and in it
  std::vector<AxisId> rowLoops_, sharedLoops_;
  llvm::Value *partials_ = nullptr; // sums of the item between blocks of k
  int64_t partialCount_ = 0;        // .. how many
  void preparePacking();
  void prepareOperand(Packed &p, bool columns);
  ExprId overCopy(const Packed &p, ExprId operand);
  bool joinSums();
  // The two innermost axes of k as one, where both operands walk them in even steps; `full`: only
  // while n is N.
  struct Run {
    AxisId axis = -1, outer = -1;
    int64_t steps = 1; // of the inner axis
    bool full = false;
    ExprId a = -1, b = -1;
  };
  Run run_;
  void findRun();
  void emitRun(Tile &t);
  void placePacking();
  bool packs() const { return packedA_.arg >= 0 || packedB_.arg >= 0 || k.schedule.kAxis >= 0; }
  Range stepsOf(AxisId a); // where the axis is bound: that step
  std::vector<Range> packRanges(const Packed &p);
  llvm::Value *originOf(const Packed &p, const std::vector<Range> &ranges);
  void copyOperand(Packed &p, llvm::Value *condition = nullptr);
  void copyElement(const Packed &p);
  void copyDims(const Packed &p, const std::vector<Range> &ranges, size_t from);
  void copyTurned(const Packed &p, const std::vector<Range> &ranges);
  void turnSquare(std::vector<llvm::Value *> &rows);
  void copyPanels(Packed &p, std::vector<Range> ranges);
  void atPanel(const Packed &p, AxisId axis, llvm::Value *begin);
  llvm::Value *panelOrigin(const Packed &p, llvm::Value *panel);
  llvm::Value *packedColumns_ = nullptr; // slot: first column of the copy at hand, between items
  bool keepsColumns() const;
  void clearEmptySums();
  void emitPacked();
  void emitBlocks(size_t axis, llvm::Value *first, const std::function<void(llvm::Value *)> &body);
  void emitPackedTiles(llvm::Value *first);
  llvm::Value *partialTile(const Tile &t);
  void eachPanel(const std::function<void(Tile)> &body);

  // --- what is needed next (emit_ahead.cpp)
  struct Ahead {
    Access access;
    bool write = false;
  };
  std::vector<Ahead> ahead_; // of the epilogue
  bool isFar(int arg) const;
  void findAhead();
  void fetch(llvm::Value *address, bool write, int level);
  void fetchPanel(const Tile &t);
  void fetchRowsAhead(const Tile &t);
  void fetchRow(const Tile &t, llvm::Value *row);
  void fetchLines(const Tile &t, int beyond);
  void fetchNext(const Tile &t, llvm::Value *row);
  bool fetchesAhead(const Tile &t, AxisId innermost) const;
  void inShares(const Tile &t, AxisId innermost, const Body &step);

  // --- chains (emit_chain.cpp)
  struct RowBlock {
    llvm::Value *base = nullptr; // first row
    int rows = 1, vectors = 1;
  };
  std::vector<std::vector<Values>> rowLocals_; // locals_ of each vector of rows
  int rowVector_ = 0;                          // the one at hand
  void emitChain();
  void emitRowBlock(const RowBlock &r);
  void atRows(const RowBlock &r, int v, const Body &body);
  llvm::Value *seenColumns(const RowBlock &r);
  llvm::Value *hiddenAreZero(const RowBlock &r);
  void emitProduct(const RowBlock &r, size_t stage);
  bool packSquares(const RowBlock &r, const Stage &s,
                   const std::function<llvm::Value *(int)> &packAt);
  void emitTileStep(const RowBlock &r, size_t stage);
  void emitRowStep(const RowBlock &r, size_t stage);
  void emitSums(const RowBlock &r, size_t stage, bool perRow);
  void emitColSum(const RowBlock &r, size_t stage);
  llvm::Value *heldSum(size_t stage, llvm::Value *col, llvm::Value *lane);
  ChainTiles *chainTiles_ = nullptr; // makes products and sums; null: vectors do
  Val tileElement(int stage);
  llvm::Value *tileAddress(int stage, llvm::Value *col, llvm::Value *row);
  int blockRows() const { return k.schedule.nv * k.schedule.lanes; }

  // --- contractions on tile registers (emit_amx.cpp)
  int32_t amxArg_ = -1; // the scratch, as an argument of the kernel
  void emitAmx();

  // --- others
  void emitScatter(); // emit_scatter.cpp
  void emitScatterTable();
  void emitScatterStages();
  llvm::Value *tokensRow();
  void overRow(const std::function<void(llvm::Value *)> &f);
  void emitSort();    // emit_sort.cpp
  struct SortHalf {
    llvm::AllocaInst *values, *places; // addresses
  };
  void sortLine();
  void mergeRuns(const SortHalf &from, const SortHalf &to, llvm::Type *vt, llvm::Value *length);
  void mergeTwo(const SortHalf &from, const SortHalf &to, llvm::Type *vt, llvm::Value *lo,
                llvm::Value *middle, llvm::Value *end);
  llvm::Value *sortsBefore(llvm::Value *x, llvm::Value *y);
};

} // namespace nnc::cg
