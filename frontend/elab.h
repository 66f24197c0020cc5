// The evaluator's state and the index of its parts. Private to elab_*.cpp.
//
// A `Pass` is one IR function under construction; a `Frame` one body under evaluation: who owns the
// instances it makes, its scope, its file, and the place it was called from. Values flow through
// frames, nodes are appended to the current pass.
//
//   train { … }  ->  Pass train_step
//     Frame Classifier   (owner: instance classifier, call place model.nn:14)
//       Frame Dense      (owner: instance classifier/dense, call place model.nn:6)
//         x @ kernel     -> node contract, Loc layers_core.nn:23 from model.nn:6 from model.nn:14
//
// The parts, by file: elab.cpp entry and driver, elab_files.cpp files and names, elab_stmt.cpp
// statements, elab_expr.cpp expressions, elab_index.cpp x[...], elab_op.cpp operators,
// elab_scan.cpp loops over data, elab_mask.cpp masks, elab_tensor.cpp conversions, promotion,
// broadcasting and node emission, elab_type.cpp types and dimensions, elab_input.cpp the types of
// inputs from data, elab_call.cpp calls, elab_instance.cpp instances and weights, elab_train.cpp
// the training step, elab_data.cpp data and configuration, elab_columns.cpp what rewrites data,
// elab_callbacks.cpp callbacks, elab_meta.cpp the summary, and builtin_*.cpp the functions of
// builtins.def.
#pragma once
#include "frontend/data_header.h"
#include "frontend/diagnostics.h"
#include "frontend/elaborate.h"
#include "frontend/value.h"
#include "ir/builder.h"
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace nnc::fe {

inline constexpr int kMaxCallDepth = 200;
inline constexpr int kMaxSteps = 1'000'000; // statements, expressions in loops, and nodes
inline constexpr int64_t kMaxListLength = 1'000'000;

// --- files ---------------------------------------------------------------------------------------

enum class Lazy : uint8_t { No, Running, Done };

/// A declaration or binding of a file; bindings are evaluated when first needed.
struct FileName {
  const Decl *decl = nullptr;
  const TopBind *bind = nullptr;
  size_t index = 0; // among the names of `bind`
  Lazy state = Lazy::No;
  Value value;
};
struct FileScope {
  uint32_t file = 0;
  bool isLibrary = false;
  std::unique_ptr<File> tree;
  std::unordered_map<std::string_view, FileName> names;
  std::vector<FileScope *> imports; // without a name: their declarations are visible here
  std::unordered_map<std::string_view, FileScope *> aliases;
};

// --- one IR function -----------------------------------------------------------------------------

/// A row of the summary: an applied instance.
struct LayerRow {
  Instance *instance;
  int depth;
  std::vector<ir::Dims> outputs;
  int32_t firstNode, endNode;
  const struct Pass *pass; // whose nodes they are
};
/// A call that gave a tensor: what the lints read. Inner calls stand before outer ones that give
/// the same tensor.
struct Maker {
  ir::ValueId value, input;       // input: the first tensor argument, or none
  const Decl *decl = nullptr;     // or a builtin
  int builtin = -1;
  Instance *instance = nullptr;
  Span span; // the user's line
  bool isLibrary = false;
};
struct Pass {
  Pass(ir::Module &m, ir::Function &f) : b(m, f) {}
  ir::Builder b;
  bool training = false;
  bool isInit = false;
  // The body of a scan is a pass of its own: `outer` is the one that the scan stands in, `root` the
  // outermost, which counts applications and draws for all of them.
  Pass *outer = nullptr, *root = nullptr;
  int64_t rounds = 1;                                // of all scans around it
  std::unordered_map<int32_t, ir::ValueId> captured; // value of `outer` -> its stand-in here
  std::unordered_map<int32_t, ir::ValueId> stands;   // parameter -> what it is or is cut from there
  std::vector<std::pair<Weight *, std::pair<ir::ValueId, ir::ValueId>>> weightParams; // there, here
  std::unordered_map<int32_t, ir::ValueId> masks;          // by value; invalid: said to be none
  std::unordered_map<const Weight *, ir::ValueId> current; // content now
  std::unordered_map<const Weight *, ir::ValueId> kept; // states of rows: all that is kept, before
  std::vector<Weight *> written;                           // in order of the first write
  std::unordered_set<const Weight *> writtenSet;
  // The values of params that were read, which derivatives by weights are of. What is stored in a
  // param counts as a constant: `unread` has those stored since their last read.
  std::unordered_map<const Weight *, std::vector<ir::ValueId>> reads;
  std::unordered_set<const Weight *> unread;
  ir::ValueId gate;       // of stores: a bool that decides whether they take place; none: they do
  bool isAdapting = false; // the pass over the training data before the first step
  std::unordered_map<const Instance *, Values> addedLosses;
  std::vector<const Instance *> lossOwners; // the keys of addedLosses, in order
  std::unordered_map<const Instance *, int> applications;
  std::unordered_map<std::string, int> draws, names;
  std::vector<std::vector<Span>> origins; // by value: where each dimension was fixed; may be short
  std::vector<Span> places;               // by value: the user's line that made it
  std::unordered_map<int32_t, std::string> columns; // data input by value
  std::map<std::string, Value, std::less<>> fed;    // columns after functions and maps
  std::vector<LayerRow> layers;
  std::vector<Maker> makers;
  std::map<std::string, std::pair<double, double>> ranges; // by data column
};

// --- one body ------------------------------------------------------------------------------------

/// The body of a `scan` under evaluation: what it has yielded.
struct ScanBody {
  Values yields;
  std::vector<Span> spans;
};

struct Frame {
  Frame *parent = nullptr;
  std::string name; // "Dense": for messages
  Span callSpan;
  ir::Loc loc; // the call place with its parents; made when a node needs it
  bool hasLoc = false;
  Instance *owner = nullptr;
  bool ownsPath = false; // the body of `owner` itself: paths start here
  FileScope *file = nullptr;
  std::shared_ptr<Scope> scope;
  uint32_t scopeSeq = UINT32_MAX;
  bool training = false;
  bool frozen = false;      // weights are constants, `training` is false
  bool untrainable = false; // so in every block: by `trainable = false`
  int depth = 0;
  std::vector<uint64_t> rounds; // indices of the loops around the current statement
  uint64_t callKey = 0;         // the call expression, part of the paths below
  Weight *target = nullptr;     // optimizer: the weight being updated
  const Instance *application = nullptr;
  const Policy *policy = nullptr; // of the layer that runs; null: the module's float
  const std::unordered_map<const Weight *, Value> *replaced = nullptr; // m(x, weights = w)
  bool converts = false;          // arguments being bound are converted to the policy's type
  int ordinal = 0;
  int level = -1; // how many layers run around this one: the model itself is 0
  ScanBody *scan = nullptr; // the scan whose body runs, in this frame
};

struct PathHash {
  size_t operator()(const std::vector<uint64_t> &v) const;
};

/// Arguments of a call after spreads are taken apart.
struct GivenArg {
  std::string_view name; // empty: positional
  Span nameSpan, span;
  Value value;
  const Expr *expr = nullptr;
};
using GivenArgs = std::vector<GivenArg>;

/// A parameter as binding sees it: declared ones and those of builtins alike.
struct ParamInfo {
  std::string name;
  bool isStatic = false;
  bool required = true;
  bool rest = false;              // ..xs
  const TypeExpr *type = nullptr; // declared
  const Expr *initial = nullptr;
  std::string kind; // builtins: "axes", "int", …
  Value fallback;   // builtins
};
struct BoundArgs {
  bool ok = true;
  std::vector<Value> values; // by parameter
  std::vector<bool> given;
  std::vector<const GivenArg *> from; // may be null
  Values rest;
};

class Elaborator;
struct BuiltinCall {
  Elaborator &e;
  Span span;
  std::vector<Value> args;
  std::vector<bool> given;
  std::vector<Span> spans;
  std::vector<const Expr *> exprs;
  Values rest;
  const GivenArgs *raw = nullptr;
  Value &operator[](size_t i) { return args[i]; }
};
struct BuiltinInfo {
  const char *name;
  const char *params;
  const char *doc;
  Value (*run)(BuiltinCall &);
};
std::span<const BuiltinInfo> builtins();
int findBuiltin(std::string_view name); // -1: none

/// Functions of the library that every optimizer goes through; their statics are its arguments.
inline constexpr const char *kOptimizerHooks[] = {"optimizer_loss", "optimizer_accumulate",
                                                  "optimizer_gradients", "optimizer_base",
                                                  "optimizer_average"};

using Replaced = std::unordered_map<const Weight *, Value>;
struct WeightPair;

class Elaborator {
 public:
  struct TrainPlan; // elab_train.h
  Elaborator(Sources &sources, Diagnostics &diags, const ElaborateOptions &options);
  ~Elaborator();
  Elaborator(const Elaborator &) = delete;
  Elaborator &operator=(const Elaborator &) = delete;
  std::unique_ptr<ir::Module> run(uint32_t file);

  // --- state -------------------------------------------------------------------------------------
  Sources &sources;
  Diagnostics &diags;
  const ElaborateOptions &options;
  std::unique_ptr<ir::Module> module;
  std::deque<Pass> passes;
  std::deque<Instance> instances;
  std::deque<Weight> weights;
  std::vector<std::weak_ptr<Scope>> captured; // by lambdas
  Pass *pass = nullptr;
  Pass *initPass = nullptr;
  Frame *frame = nullptr;
  Span at; // the expression being evaluated: the place of new nodes and messages
  int64_t steps = 0;
  int64_t effects = 0; // counts what makes an expression statement worth having
  bool aborted = false;
  int reports = 0;
  int underTraining = 0; // `if training` around the current statement
  int underAdapting = 0; // `if adapting`, taken
  bool asksAdapting = false; // the text of this block has it
  std::unordered_set<const Instance *> everApplied;
  const char *stackBase = nullptr;
  Instance fileOwner, stepOwner;
  ir::DType floatType = ir::DType::f32; // losses, optimizers and state; never bf16 or f16
  bool scalesLoss = false;              // "mixed_float16": small gradients vanish in f16
  std::optional<Policy> precision;      // of layers without a `dtype`, if not the module's float

  // --- messages (elab.cpp) -----------------------------------------------------------------------
  /// Reports at `span`, or, when that is inside the library, at the user's line that led there,
  /// with the path between as notes.
  Diagnostic &error(Span span, Diag kind, const std::vector<std::string> &args = {});
  Diagnostic &error(Diag kind, const std::vector<std::string> &args = {}) {
    return error(at, kind, args);
  }
  Value fail(Span span, Diag kind, const std::vector<std::string> &args = {}) {
    error(span, kind, args);
    return {};
  }
  Value fail(Diag kind, const std::vector<std::string> &args = {}) { return fail(at, kind, args); }
  bool isLibrary(Span span) const {
    return span.file < libraryFlags.size() && libraryFlags[span.file];
  }
  std::vector<char> libraryFlags; // by source file
  Span userPlace() const;         // `at`, or the user's line that led into the library
  std::string text(Span span) const { return std::string(sources.text(span)); }
  void record(Span span, Recorder::What what, const Value &v) {
    if (options.recorder && !v.isPoison() && !isLibrary(span) &&
        options.recorder->wants(span, what))
      options.recorder->value(span, what, show(v));
  }
  /// False, after one message, when the evaluation is too long or too deep.
  bool step(Span span);
  bool stackLow();

  // --- files and names (elab_files.cpp) ----------------------------------------------------------
  FileScope *user = nullptr;
  std::deque<FileScope> files;
  bool syntaxErrors = false;
  std::map<std::string, FileScope *> imported;
  struct LibraryEntry { // a declaration's text, from its first line to the next declaration
    const char *file;
    std::string_view text;
    uint32_t line;
    FileScope *scope = nullptr; // once parsed
  };
  std::unordered_map<std::string_view, LibraryEntry> libraryIndex;
  void indexLibrary();
  FileScope *addFile(uint32_t file, bool isLibrary);
  void loadImports(FileScope &scope);
  Value lookup(std::string_view name, Span span);
  bool lookupFile(FileScope &scope, std::string_view name, Value &out);
  bool lookupLibrary(std::string_view name, Value &out);
  /// A declaration of the library that the elaborator itself uses; poison if it is missing.
  Value libraryValue(std::string_view name);
  Value fileValue(FileScope &scope, FileName &entry, std::string_view name);
  Value declValue(const Decl &decl, FileScope &scope);
  std::vector<std::string> visibleNames();
  const Binding *findBinding(std::string_view name);
  /// Help for a name that is unknown here: what other frameworks call so, or the closest name.
  void hintName(Diagnostic &d, std::string_view name);
  /// Help for a string where a function, loss, metric or optimizer is wanted: `"mse"`.
  void hintText(Diagnostic &d, const std::string &text);

  // --- lints (lint*.cpp): they read what elaboration recorded ------------------------------------
  void noteMaker(const Value &result, const Decl *decl, int builtin, Instance *instance,
                 ir::ValueId input);
  ir::ValueId firstTensor(const GivenArgs &args) const; // lists of tensors included
  void lintFile(FileScope &scope);
  void lintInstances();
  void lintModel(Instance &model, const Pass &pass);

  // --- statements and expressions ----------------------------------------------------------------
  Value evalBlock(const Block &block); // the value of its last expression, or none
  Value evalBody(const Block &block, const TypeExpr *result, std::string_view owner);
  Value evalStmt(const Stmt &stmt, bool last);
  bool meantBinding(const Expr &e);
  void bindNames(const std::vector<Name> &names, const std::vector<const Expr *> &values);
  void bindName(const Name &name, Value value);
  void nameValue(std::string_view name, const Value &value); // IR names and instance names
  void evalFor(const ForStmt &stmt);
  bool unpack(const std::vector<Name> &names, const Value &value, Span span, Values &out);
  void evalAssign(const AssignStmt &stmt);
  Value eval(const Expr &expr);
  Value evalKind(const Expr &expr);
  Value evalName(const NameExpr &expr);
  Value evalIf(const IfExpr &expr);
  Value evalPipe(const PipeExpr &expr);
  Value evalCall(const CallExpr &expr, const Value *piped = nullptr, Span pipedSpan = {});
  Value evalMember(const MemberExpr &expr);
  Value evalIndex(const IndexExpr &expr);
  Value evalRange(const RangeExpr &expr);
  Value nameRange(const Value &a, const Value &b, Span span);
  Value evalComprehension(const ComprehensionExpr &expr);
  Value evalTuple(const TupleExpr &expr);
  Value evalList(const ListExpr &expr);
  Value evalLambda(const LambdaExpr &expr);
  bool condition(const Expr &expr, bool &out); // false after a message
  bool iterate(const Value &value, Span span, Values &out);
  GivenArgs evalArgs(const std::vector<Arg> &args);

  // --- scan (elab_scan.cpp) ----------------------------------------------------------------------
  Value evalScan(const ScanExpr &expr);
  void evalYield(const YieldStmt &stmt);
  /// v with every tensor of a pass around the current scan body replaced by its stand-in there.
  Value inBody(const Value &v);
  bool isOutside(const Value &v) const; // a tensor of such a pass
  Value bodyWeight(Weight &w);
  void addLoss(const Instance *owner, const Value &v);

  // --- masks (elab_mask.cpp) ---------------------------------------------------------------------
  bool hasMasks = false; // one was attached so far
  ir::ValueId maskId(ir::ValueId v);
  Value maskOf(const Value &v); // none if it has none
  Value withMask(const Value &x, const Value &mask, Span span, const std::string &what);
  void propagateMask(ir::Op op, const std::vector<ir::ValueId> &operands, ir::ValueId y);
  bool takeMask(const ParamList &list, GivenArgs &args, Value &mask);
  void keepMask(const Decl &d, const Value &mask, const Value &result);
  Value meanLoss(const Value &loss, const Value &prediction);

  // --- operators (elab_op.cpp) -------------------------------------------------------------------
  Value binary(BinaryOp op, Value a, Value b);
  Value unary(UnaryOp op, Value a);
  Value staticBinary(BinaryOp op, const Value &a, const Value &b);
  Value tensorBinary(BinaryOp op, Value a, Value b);
  Value power(const Value &a, const Value &b);
  Value elementwise(ir::Op op, const Value &a, const Value &b, bool toFloat);
  Value compareStatic(BinaryOp op, const Value &a, const Value &b, bool &done);
  Value matmul(const Value &a, const Value &b);

  // --- tensors (elab_tensor.cpp) -----------------------------------------------------------------
  ir::Loc loc();
  ir::Loc locOf(Span span, Frame *from);
  Value emit(ir::Op op, std::vector<ir::ValueId> operands, ir::Attr attr = ir::NoAttr{});
  std::vector<Value> emitMany(ir::Op op, std::vector<ir::ValueId> operands, ir::Attr attr);
  Value wrap(ir::ValueId id);
  const ir::Type &type(const Value &v) const;
  int rank(const Value &v) const { return type(v).rank(); }
  bool needsTensor(Span span);
  /// A tensor of the current pass: numbers become constants, lists of numbers too, weights are
  /// read. `like`: the element type literals take (null: i32, the module's float or bool).
  Value tensor(const Value &v, const ir::DType *like = nullptr);
  bool isTensorLike(const Value &v) const;
  /// The element type a value computes with; weak numbers have none.
  bool elementOf(const Value &v, ir::DType &out) const;
  Value cast(const Value &v, ir::DType t);
  Value constant(double v, ir::Type t);
  Value broadcastTo(const Value &v, const ir::Dims &dims);
  /// v cast and broadcast to `t`, or a message that `what` must be of that shape.
  Value fit(const Value &v, const ir::Type &t, Span span, const std::string &what);
  bool broadcastDims(const Values &xs, ir::Dims &out, std::vector<Span> &origins);
  ir::DType commonElement(const Values &xs, bool toFloat, bool boolStays);
  /// To one element type and, broadcast, one shape.
  void lintBatchTwice(const Values &xs, const ir::Dims &dims);
  bool promote(Values &xs, bool toFloat, bool boolStays = false);
  Value reduce(ir::ReduceKind kind, const Value &x, std::vector<int> axes, bool keepdims);
  Value reshape(const Value &x, const ir::Dims &dims);
  Value meanAll(const Value &x);
  Value mean(const Value &x, const std::vector<int> &axes, bool keepdims);
  Value count(const ir::Dims &dims); // number of elements: an int, or a scalar tensor
  std::vector<Span> originsOf(const Value &v) const;
  Span originOf(const Value &v, int axis) const;
  void setOrigins(const Value &v, std::vector<Span> origins);
  /// Notes where a size comes from, and through which calls, back to the line that fixed it.
  void labelSize(Diagnostic &d, const Value &v, int axis) const;
  void setName(const Value &v, std::string_view name);
  std::string uniqueName(std::string_view name);
  std::string show(const Value &v) const;    // "f32[batch, 784]", "300", "a function"
  std::string show(const ir::Dims &d) const; // "[batch, 784]"
  std::string show(ir::Dim d) const;
  std::string show(const ir::Type &t) const;
  bool axisList(const Value &v, const Expr *expr, int rank, Span span, std::vector<int> &out);
  bool axisValue(const Value &v, const Expr *expr, int rank, Span span, int &out);
  bool shapeList(const Value &v, Span span, ir::Dims &out, std::vector<Span> &origins);
  bool intList(const Value &v, int n, Span span, std::vector<int64_t> &out);
  bool elementType(const Value &v, Span span, ir::DType &out);

  // --- types (elab_type.cpp) ---------------------------------------------------------------------
  bool isStaticType(const TypeExpr *type, FileScope &scope);
  Value conformStatic(const Value &v, const TypeExpr &type, Span span, const std::string &what,
                      const void *key);
  bool matchStatic(const Value &v, const TypeExpr &type, Span span, const void *key, Value &out);
  struct Deferred;
  bool conformTensors(const std::vector<const TypeExpr *> &types, std::vector<Value> &values,
                      const std::vector<Span> &spans, const std::vector<std::string> &what);
  Value conformResult(const Value &v, const TypeExpr &type, const std::string &what);
  bool typeDims(const TensorType &type, ir::Dims &dims, std::vector<Span> &origins);
  bool typeElement(const TensorType &type, ir::DType &out, bool &any);
  std::string print(const TypeExpr &type) const;
  bool isOpenType(const TypeExpr *type);
  /// The type of an input whose value the outside gives: the first dimension is the batch, what is
  /// open is read from the head of the file that `inputData` binds to it.
  bool inputType(const TypeExpr *type, std::string_view name, ir::Type &out,
                 std::vector<Span> &origins);
  const DataObj *inputData = nullptr;
  /// Columns that are computed from those of the files, when the data has functions or maps.
  struct MappedColumn {
    ir::Type type;
    std::set<std::string> from; // columns of the files
  };
  std::map<std::string, MappedColumn, std::less<>> mapped;
  bool isMapped(std::string_view name) const;
  std::vector<std::unique_ptr<ir::Function>> discarded; // tried, and no part of the module
  bool planMaps(const TrainPlan &plan);
  bool readColumnType(const DataColumn &column, ir::Type &out);
  /// The columns of the data after its functions and maps, in the current pass; those of the files
  /// that `wanted` does not name are left out where a map allows it.
  bool feed(const std::set<std::string> *wanted, std::map<std::string, Value, std::less<>> &out);
  Value fitInput(const Value &v, const struct DataInput &in);
  Value dataStage(const Value &data, const Expr &stage);
  std::map<const DataColumn *, DataHeader> headers;
  std::map<std::string, DataHeader, std::less<>> mappedHeaders;
  std::map<std::string, std::pair<int64_t, std::string>, std::less<>> sizeOf; // name: size, input
  /// The sizes by name of the inputs of the trained model, where another model predicts: they hold
  /// for inputs of it that the data does not give.
  const std::map<std::string, std::pair<int64_t, std::string>, std::less<>> *trainedSizes = nullptr;
  bool dataGives(std::string_view name) const;

  // --- calls (elab_call.cpp) ---------------------------------------------------------------------
  Value call(const Value &callee, GivenArgs args, Span span, const void *key);
  bool appliesToColumns(const Value &callee, const GivenArgs &args, Span span, const void *key,
                        Value &out);
  Value callWith(const Value &callee, Values args, Span span); // positional, for library hooks
  Value callDecl(const FunctionObj &f, const Value &callee, GivenArgs &args, Span span,
                 const void *key);
  Value runFn(const FunctionObj &f, const ParamList &list, const Block &body, GivenArgs &args,
              Span span, const void *key);
  Value callLambda(const FunctionObj &f, const Value &callee, GivenArgs &args, Span span,
                   const void *key);
  Value callBuiltin(const FunctionObj &f, const Value &callee, GivenArgs &args, Span span);
  Value waitFor(const FunctionObj &f, const Value &callee, const std::vector<ParamInfo> &params,
                const GivenArgs &args);
  Value callCustomGradient(const FunctionObj &f, GivenArgs &args, Span span, const void *key);
  bool enter(Frame &f, std::string name, FileScope *file, Span span, const void *key);
  bool bindParams(const ParamList &list, GivenArgs &args, Span span, const std::string &callee,
                  const ParamList *otherList);
  bool bindStatics(const Decl &d, FileScope &file, GivenArgs &args, Span span, const void *key,
                   Values &out);
  const std::vector<ParamInfo> &cachedParams(const ParamList &list, FileScope &scope);
  BoundArgs bindArgs(const std::vector<ParamInfo> &params, GivenArgs &args, Span span,
                     const std::string &callee, const ParamList *otherList, FileScope *scope);
  bool lacksTensors(const std::vector<ParamInfo> &params, const GivenArgs &args);
  /// A value where a function or layer is wanted: `Flatten` stands for `Flatten()`.
  Value toCallable(const Value &v, Span span, const void *key);
  bool hasTensorParam(const Value &f);
  bool isOneList(const Value &f);
  std::string calleeName(const Value &f) const;
  std::unordered_map<const ParamList *, std::vector<ParamInfo>> paramCache;

  // --- instances (elab_instance.cpp) -------------------------------------------------------------
  std::unordered_map<std::vector<uint64_t>, Instance *, PathHash> instanceIndex;
  std::unordered_map<std::vector<uint64_t>, Weight *, PathHash> weightIndex;
  std::vector<uint64_t> path(const void *place);
  Instance *owner();
  Value makeInstance(const FunctionObj &f, GivenArgs &args, Span span, const void *key);
  bool policyFrom(const Value &v, Span span, const std::string &what, Policy &out);
  const Policy *policyOf(const Instance &inst) const;
  ir::DType keptType(const Instance &inst, bool isState) const;
  Value freshInstance(const Instance &like, Span span, const void *key);
  Value applyInstance(Instance &inst, GivenArgs args, Span span);
  bool takeBaseArgs(Instance &inst, GivenArgs &args);
  Value weightType(const ParamStmt &stmt, ir::Type &type, std::vector<Span> &origins);
  bool weightOptions(const ParamStmt &stmt, Weight &w);
  Weight *newWeight(const ParamStmt &stmt, Instance &inst, ir::Type t, std::vector<Span> origins,
                    bool infers);
  void nameInstance(Instance &inst, std::string_view hint);
  void ensureNamed(Instance &inst);
  Value evalParam(const ParamStmt &stmt);
  Weight *addWeight(std::string path, std::string name, WeightKind kind, ir::Type type,
                    Instance *owner);
  /// The initial value in `init`: `value` is evaluated there; functions are given the shape.
  bool initialize(Weight &w, const std::function<Value()> &value, Span span);
  std::string drawPrefix; // of random sites while an initial value is computed
  Value readWeight(Weight &w);
  Value storedWeight(Weight &w);
  void writeWeight(Weight &w, const Value &v, bool stop);
  Value gated(const Value &v, const Value &old);
  Value rowsOfBatch(Weight &w, Value kept);
  ir::ValueId keptRows(const Weight &w, ir::ValueId v);
  static std::string snakeCase(std::string_view kind);
  void collect(Instance &root, std::vector<Instance *> &out);
  Value lossesOf(Instance &root);
  std::string randomSite();

  // --- weights and gradients as values (elab_weights.cpp) ----------------------------------------
  ir::Meta initialMeta();
  /// The params of an instance or of a list of them as a record, nested as the instances are.
  Value weightsOf(const Value &of, Span span);
  /// Every weight of `target` with the value at its place in `source`.
  bool pairWeights(const Value &target, const Value &source, Span span,
                   std::vector<WeightPair> &out);
  /// d y / d x in the structure of x (R12).
  Value gradient(const Value &y, const Value &x, Span ySpan, Span xSpan);
  void storeWeights(const Expr &target, const Value &value, Span valueSpan);
  bool replaceWeights(Instance &inst, const Value &given, Span span,
                      const std::function<bool()> &build, Replaced &out);

  // --- a written-out step (elab_step.cpp) --------------------------------------------------------
  Value evalMinimize(const MinimizeStmt &stmt);
  Value evalReport(const ReportStmt &stmt);
  Value applyOptimizerTo(Instance &opt, GivenArgs &args, Span span);
  bool updateWeights(Instance &opt, std::vector<WeightPair> &pairs, Span span);
  bool updateWeight(Instance &opt, Weight &w, const Value &gradient, const Value &t, Span span);
  bool minimize(const Value &loss, const Value &record, Instance &opt, const std::string &what,
                Span span);
  Value currentOf(Weight &w);
  Value scaleLoss(Instance &opt, const Value &loss);
  bool unscale(Instance &opt, std::vector<WeightPair> &pairs, Span span);
  bool stepInputs(TrainPlan &plan);
  bool runStep(TrainPlan &plan);
  Value applyModel(TrainPlan &plan); // the short form's, to the inputs
  void buildTrainEnd(const TrainPlan &plan);
  Weight *stepCount = nullptr;                         // steps of training so far
  std::vector<std::pair<Instance *, Weight *>> updated; // that have an average, by optimizer
  bool buildWrittenStep(TrainPlan &plan, bool training);
  TrainPlan *plan = nullptr; // of the block being elaborated

  // --- training (elab_train.cpp, elab_data.cpp, elab_meta.cpp) -----------------------------------
  /// `name`: of the block among several, "" for a file's only one.
  void elaborateTrain(const Train &train, const std::string &name);
  std::vector<const Train *> chosenBlocks(std::vector<std::string> &names);
  bool isFrozenHere(const Instance &inst) const; // by `freeze` of the running block
  void buildAdapt(TrainPlan &plan);
  bool readPlan(const Train &train, TrainPlan &plan);
  void elaborateModelOnly();
  bool modelInputs(Instance &model, std::vector<struct DataInput> &out);
  bool addInputs(const std::vector<struct DataInput> &inputs, Values &out);
  Value addInput(const std::string &name, const ir::Type &type, const std::vector<Span> &origins,
                 Span span);
  bool planOutputs(TrainPlan &plan, const Value &y);
  bool planOutput(TrainPlan &plan, size_t i, const Value &y);
  bool planMetrics(TrainPlan &plan);
  bool targetType(const Value &loss, const Value &y, struct DataInput &out);
  bool checkColumns(TrainPlan &plan);
  bool readCallbacks(TrainPlan &plan);
  /// Once the metrics are known: the names callbacks mention, and their functions.
  bool finishCallbacks(TrainPlan &plan, const std::vector<std::string> &metrics);
  std::vector<std::string> metricNames(const TrainPlan &plan) const;
  void missingColumn(const DataObj &data, const std::string &what, std::string_view name,
                     const std::string &by);
  bool buildStep(TrainPlan &plan, bool training);
  bool buildMetrics(TrainPlan &plan, const Value &loss, const Values &losses, const Values &targets,
                    const Values &outputs);
  bool update(TrainPlan &plan, const Value &loss);
  bool buildPredict(TrainPlan *plan, Instance &model, int64_t batch);
  void buildMetricsResult(TrainPlan &plan);
  void closePass();
  Pass &openPass(const std::string &name, int64_t batch, bool training);
  void lintTraining(const TrainPlan &plan); // lint_train.cpp
  void writeMeta(const TrainPlan *plan, Instance *model, const Pass &summary);
  ir::Meta layersMeta(Instance &model, const Pass &summary);
  std::vector<std::pair<std::string, Value>> outputsOf(const Value &y);
  std::vector<std::string> predictInputs, predictOutputs;
  std::map<std::string, std::pair<double, double>> predictRanges; // of what the data does not give

 private:
  std::unordered_map<uint64_t, ir::Loc> locCache_;
};

/// Restores a member at the end of the block.
template <class T> struct Restore {
  T &ref;
  T old;
  Restore(T &r, T now) : ref(r), old(r) { ref = std::move(now); }
  ~Restore() { ref = std::move(old); }
  Restore(const Restore &) = delete;
};

} // namespace nnc::fe
