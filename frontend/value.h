// Values of compile-time evaluation.
//
//   units = 300                 Int       x |> Dense(units)      Tensor f32[n,300]
//   Dense                       Function  Dense(300)             Instance
//   [Dense(1), Dense(2)]        List      (main = a, aux = b)    Tuple
//
// A `Value` is small and copied freely. Numbers and structures exist at compile time only; a tensor
// is a value of the IR function that is being built. An int is a size `a*n + b`, so that `batch`
// and what is computed from it are ints like any other (Value::isConst tells them apart). Poison is
// the value of what was already reported: everything computed from it is poison, silently.
#pragma once
#include "frontend/ast.h"
#include "ir/builder.h"
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace nnc::fe {

struct Pass;
struct Instance;
struct Weight;
struct FunctionObj;
struct FileScope;
struct DataObj;
struct Value;

using Values = std::vector<Value>;

struct ListObj {
  Values items;
};
/// names is empty for a plain tuple.
struct TupleObj {
  std::vector<std::string> names;
  Values items;
  int find(std::string_view name) const;
};

enum class Kind : uint8_t {
  Poison,
  None,
  Int, // also a size with `batch`
  Float,
  Bool,
  String,
  Element, // an element type: f32, i32, …
  List,
  Tuple,
  Function, // fn, lambda, builtin, or a declaration that makes instances
  Instance,
  Weight, // a param or state by name: reads give its tensor
  Tensor,
  Module, // import "f.nn" as m
  Data,   // what a data reader describes
};

struct Value {
  Kind kind = Kind::Poison;
  ir::DType element{};  // Element
  bool b = false;       // Bool
  Span origin;          // Int: the place that fixed it, for messages about sizes
  ir::Dim dim;          // Int
  double d = 0;         // Float
  ir::ValueId id;       // Tensor
  Pass *pass = nullptr; // Tensor: the function it is a value of
  bool isMetric = false; // Tensor: what the application of a metric gave
  union {
    Instance *instance = nullptr;
    Weight *weight; // also of a tensor: what it was read from
    FileScope *module;
  };
  std::shared_ptr<void> obj; // String, List, Tuple, Function, Data

  bool isPoison() const { return kind == Kind::Poison; }
  bool isNone() const { return kind == Kind::None; }
  bool isTensor() const { return kind == Kind::Tensor; }
  bool isInt() const { return kind == Kind::Int && dim.isConst(); }
  bool isSize() const { return kind == Kind::Int && !dim.isConst(); }
  /// A compile-time number; sizes with `batch` are none.
  bool isNumber() const { return isInt() || kind == Kind::Float; }
  double number() const { return kind == Kind::Float ? d : double(dim.b); }
  int64_t integer() const { return dim.b; }
  const std::string &string() const { return *static_cast<const std::string *>(obj.get()); }
  const Values &list() const { return static_cast<const ListObj *>(obj.get())->items; }
  const TupleObj &tuple() const { return *static_cast<const TupleObj *>(obj.get()); }
  const FunctionObj &function() const { return *static_cast<const FunctionObj *>(obj.get()); }
  const DataObj &data() const { return *static_cast<const DataObj *>(obj.get()); }

  static Value none();
  static Value of(bool v);
  static Value of(int64_t v, Span origin = {});
  static Value of(int v) { return of(int64_t(v)); }
  static Value of(double v);
  static Value of(std::string v);
  static Value of(ir::Dim d, Span origin);
  static Value of(ir::DType t);
  static Value of(Instance *i);
  static Value of(Weight *w);
  static Value of(Pass *pass, ir::ValueId id);
  static Value list(Values items);
  static Value tuple(Values items, std::vector<std::string> names = {});
  static Value function(FunctionObj f);
  static Value of(DataObj d);
};

/// "an int", "a list", "a tensor": for messages.
const char *describe(Kind kind);

// --- scopes --------------------------------------------------------------------------------------

/// How a name came about: the dimensions of a signature also stand for their positions.
struct Binding {
  Value value;
  Span span;
  uint32_t seq = 0;
  bool isDim = false;  // bound by a type: cannot be rebound
  int axis = -1;       // isDim: its position in the parameter's type, counted from the front
  bool hidden = false; // a loop variable after its loop
};

/// The names of one body. Rebinding shadows, so a name has versions; whoever captured the scope
/// sees those that are not younger than the capture.
struct Scope {
  std::shared_ptr<Scope> parent;
  uint32_t parentSeq = 0;
  uint32_t seq = 0;
  std::unordered_map<std::string_view, std::vector<Binding>> names;
  std::vector<const Block *> untaken; // sides of `if` that were not chosen, for messages

  Binding &bind(std::string_view name, Value value, Span span);
  const Binding *find(std::string_view name, uint32_t upTo = UINT32_MAX) const;
};

// --- functions and instances ---------------------------------------------------------------------

enum class FunctionKind : uint8_t { Decl, Lambda, Builtin, Rate };

/// Something that can be called. `statics` are the bound values of the first of two lists;
/// `partial` the given arguments of a one-list function that waits for its tensors, by parameter.
struct FunctionObj {
  FunctionKind kind = FunctionKind::Decl;
  const Decl *decl = nullptr;
  FileScope *file = nullptr;
  bool bound = false; // the statics of a two-list `fn` are given
  Values statics;
  std::vector<std::pair<std::string, Value>> partial;
  const LambdaExpr *lambda = nullptr;
  std::shared_ptr<Scope> scope; // captured
  uint32_t scopeSeq = 0;
  int builtin = -1;
  Weight *rate = nullptr; // the constant schedule of a learning rate
};

enum class WeightKind : uint8_t { Param, State, Slot, Metric, Host };
const char *spelling(WeightKind kind);

/// A persistent value: a param, state, optimizer slot, metric state or run-time scalar.
struct Weight {
  std::string path; // "classifier/dense/kernel"
  std::string name; // "kernel"
  WeightKind kind = WeightKind::Param;
  Instance *owner = nullptr;
  ir::Type type;
  // State of the rows of a batch, if not 0: `type` has sizes with `batch`, kept is room for this
  // many rows. It begins anew with every pass over the data.
  int64_t rows = 0;
  std::vector<Span> origins; // where each dimension was fixed
  Span span;                 // the declaration
  Span firstUse;             // the application that made it
  bool trainable = true;
  Value regularizer, constraint; // none if there is none
  ir::Type keptType() const {     // of the persistent value
    ir::Type t = type;
    for (ir::Dim &d : t.dims) d = ir::Dim(d.at(rows));
    return t;
  }
};

/// A layer, model, metric or optimizer with its statics bound. Identity is the pointer.
/// What a layer computes in and keeps its params in, where that is not the module's float
/// alone (R8). Its applications convert their float arguments and the params they read.
struct Policy {
  ir::DType compute = ir::DType::f32, variable = ir::DType::f32;
};

struct Instance {
  const Decl *decl = nullptr; // null: the pseudo owners "file" and "step"
  FileScope *file = nullptr;
  Instance *owner = nullptr;
  Values statics;                                  // by parameter of the static list
  std::vector<std::pair<std::string, Value>> base; // optimizers: base arguments
  std::string name, path;                          // empty until named
  std::string givenName;                           // name = "…"
  bool named = false;
  bool namedByKind = false; // nobody gave it a name
  bool copied = false; // `fresh` made others like it
  bool trainable = true;
  std::string initialFile;         // load("file", m): where its first weights come from
  std::optional<Policy> policy;    // dtype = …; else its owner's
  Span span;                       // where it was made
  std::string kindName;            // "dense"
  std::vector<Instance *> made;    // instances owned here, in order of creation
  std::vector<Instance *> applies; // instances that its body applies, in order of first application
  std::unordered_set<const Instance *> appliesSet;
  size_t firstUnnamed = 0;                    // in `made`
  std::unordered_map<std::string, int> taken; // names of what it owns
  std::vector<std::pair<std::string_view, ir::Type>> given; // tensors of its first application
  std::vector<Weight *> weights;
  Weight *findWeight(std::string_view name) const;
  Instance *findChild(std::string_view name) const;
  // optimizers
  std::unordered_map<const Weight *, Weight *> counters; // by updated weight: its steps so far
  Weight *rate = nullptr;
  Weight *lossScale = nullptr, *goodSteps = nullptr; // under "mixed_float16"
  Weight *result = nullptr; // metrics: the value of the last batch
};

// --- data ----------------------------------------------------------------------------------------

/// What a program does with a column's tensor before it has a name: `log1p` of `log1p(columns(…))`.
using DataFunction = std::function<Value(const Value &)>;

struct DataColumn {
  std::string name;
  ir::Meta meta;
  Span span;
  bool used = false;
  std::vector<DataFunction> functions; // applied in the step, in this order
  std::string text;                    // of the argument, to compare data sets
};
/// `|> map(fn(a, b) = (c = …))`
struct DataMap {
  Value function;
  Span span;
};
/// What a reader describes; `columns(...)` and callbacks are data with `meta` alone.
struct DataObj {
  std::string reader; // "idx", "columns", "EarlyStopping", …
  std::vector<DataColumn> columns;
  ir::Meta meta;
  Span span;
  std::map<std::string, Span, std::less<>> spans; // callbacks: of their arguments
  Value function;                                 // LearningRateScheduler: the schedule
  std::vector<DataFunction> functions;            // columns: what is done with them
  std::vector<DataMap> maps;                      // readers: what rewrites their batches
  bool isColumns() const { return reader == "columns"; }
};

} // namespace nnc::fe
