// The tensor IR: a module of functions over tensor values.
//
//   nnc-ir 1
//   persistent "net/kernel" : f32[784,10] {"kind": "param"}
//   func @train_step batch 32 (%image: u8[n,28,28], %kernel: f32[784,10] = "net/kernel") {
//     %x = cast %image : f32[n,28,28]                                             @3
//     ...
//     return "net/kernel" = %kernel.1
//   }
//
// Nodes sit in one vector per function, in an order where operands come first; a node has one or
// more results, which are entries of the value table. Ids, not pointers. Persistent values
// (weights, optimizer slots, state, metrics) are declared once by the module; a function takes
// them as parameters bound to their name, and a result bound to a name is the new content. The
// functions of a module are free of effects otherwise.
//
// Every node has a Loc: an index into the module's table of source positions with parents
// (the place inside a library layer, called from the place in the user's file).
#pragma once
#include "ir/attrs.h"
#include "ir/meta.h"
#include "ir/type.h"
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace nnc::ir {

enum class Op : uint8_t {
#define UNARY(name, ...) name##_,
#define BINARY(name, ...) name##_,
#define COMPARE(name, ...) name##_,
#define TENSOR(name, ...) name##_,
#include "ir/ops.def"
};
#define NNC_COUNT(...) +1
inline constexpr int kOpCount = 0
#define UNARY NNC_COUNT
#define BINARY NNC_COUNT
#define COMPARE NNC_COUNT
#define TENSOR NNC_COUNT
#include "ir/ops.def"
    ;
#undef NNC_COUNT

enum class OpForm : uint8_t { unary, binary, compare, tensor };
enum class TypeClass : uint8_t { F, N, I, B };
struct OpInfo {
  const char *name; // as in the text
  OpForm form;
  int arity; // -1: variadic
  TypeClass cls;
};
const OpInfo &info(Op op);
bool parseOp(std::string_view name, Op &out);
Attr defaultAttr(Op op); // an attribute of the struct that the table gives the operation
inline bool isPointwise(Op op) { return info(op).form != OpForm::tensor; }

// Names of values and functions: letters, digits and _ . / - ; a value's are not all digits.
bool isName(std::string_view name);
std::string sanitized(std::string_view name); // other characters become _

struct ValueId {
  int32_t i = -1;
  bool valid() const { return i >= 0; }
  friend bool operator==(ValueId, ValueId) = default;
  friend auto operator<=>(ValueId, ValueId) = default;
};
struct NodeId {
  int32_t i = -1;
  bool valid() const { return i >= 0; }
  friend bool operator==(NodeId, NodeId) = default;
};
struct Loc {
  int32_t i = 0; // 0: no position
  friend bool operator==(Loc, Loc) = default;
};
struct LocInfo {
  std::string file;
  int32_t line = 0, column = 0;
  Loc parent; // where the code at this position was called from
  friend bool operator==(const LocInfo &, const LocInfo &) = default;
};

struct Node {
  Op op;
  std::vector<ValueId> operands;
  ValueId firstResult; // results are firstResult .. firstResult + resultCount - 1
  int32_t resultCount = 1;
  Attr attr;
  Loc loc;
  bool remat = false; // recomputed clone: CSE leaves it apart
  ValueId result(int k = 0) const { return {firstResult.i + k}; }
};
struct ValueInfo {
  Type type;
  NodeId def;       // invalid: a parameter
  std::string name; // unique in the function; empty: printed as a number
};
struct Param {
  ValueId value;
  std::string bind; // name of the persistent value it reads; empty: a data input or plain argument
};
struct Result {
  ValueId value;
  std::string name; // result name; for bind: the persistent value that takes this content
  bool bind = false;
};

struct Function {
  std::string name;
  int64_t batch = 0; // N: the largest n; 0: no dimension depends on n
  std::vector<Param> params;
  std::vector<Node> nodes;
  std::vector<ValueInfo> values;
  std::vector<Result> results;

  const Type &type(ValueId v) const { return values[v.i].type; }
  const Node &node(NodeId id) const { return nodes[id.i]; }
  const Node *def(ValueId v) const {
    return values[v.i].def.valid() ? &nodes[values[v.i].def.i] : nullptr;
  }
};

// A value that outlives a step. meta holds "kind": "param" | "state" | "slot" | "metric" | "host",
// and what else the runtime wants to know; opaque here. Kinds are those of NncTensorKind.
struct Persistent {
  std::string name;
  Type type; // constant dimensions only
  Meta meta;
};

struct Module {
  std::vector<Persistent> persistents;
  // In order of declaration; callees may stand after their callers. A deque-like stable order.
  std::vector<std::unique_ptr<Function>> functions;
  std::vector<LocInfo> locs{LocInfo{}}; // locs[0] is "no position"
  Meta meta;

  Function *find(std::string_view name) const; // null if there is none
  Function &add(std::string name, int64_t batch);
  Loc addLoc(LocInfo info); // interned
  const Persistent *persistent(std::string_view name) const;

private:
  std::map<std::tuple<std::string, int32_t, int32_t, int32_t>, int32_t> locIndex_;
};

// "model.nn:7:5" for messages; with parents: "dense.nn:4:7, from model.nn:7:5".
std::string str(const Module &m, Loc loc, bool parents = false);

// A broken internal invariant: prints `what` with file:line and aborts. Never for user errors.
[[noreturn]] void internalError(const char *file, int line, const std::string &what);
#define NNC_CHECK(cond, what) ((cond) ? void() : ::nnc::ir::internalError(__FILE__, __LINE__, what))

} // namespace nnc::ir
