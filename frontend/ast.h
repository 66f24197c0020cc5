// The syntax tree: what the user wrote, one struct per construct, no behaviour.
//
//   layer Double(units: int)(x: [..lead, n]) { x |> Dense(units) }
//
//   Decl Layer "Double"
//     params[0]  units: NamedType int
//     params[1]  x: TensorType [..lead, n]
//     body       ExprStmt Pipe(Name x; Call(Name Dense; Name units))
//
// Three families of nodes, each a small base with a kind to `switch` over (no default) and a span;
// `as<Call>(expr)` gives the node itself. Parentheses are not kept: the tree has the structure, the
// printer puts them back. Chains `a + b + c` lean left, `a ** b ** c` right; `x |> f |> g` and
// `else if` are flat lists. No expression is higher than kMaxExprHeight, so a recursive walk is
// safe. Names are views into the source text; `File` owns all its nodes.
#pragma once

#include "frontend/source.h"

#include <cassert>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace nnc::fe {

/// An identifier where it stands.
struct Name {
  std::string_view text;
  Span span;
};

/// `a.b.C`: one or more names.
struct Path {
  std::vector<Name> parts;
  Span span;
};

// --- expressions ---------------------------------------------------------------------------------

enum class ExprKind {
  Name,          // x
  Int,           // 20_000
  Float,         // 1e-3
  Bool,          // true
  String,        // "same"
  None,          // none
  List,          // [a, ..xs]
  Comprehension, // [e for a, b in xs if c]
  Tuple,         // (a, b) or (k = a, ..r)
  Unary,         // -a, not a
  Binary,        // a + b, a and b, a < b
  Range,         // a..b
  Pipe,          // x |> f |> g(a)
  Lambda,        // fn(x) = e or fn(x) { … }
  If,            // if c { … } else if d { … } else { … }
  Scan,          // scan x in e along a, h = h0 { … }
  Call,          // f(a, k = b, ..c)
  Index,         // x[i, :, none, ...]
  Member,        // m.kernel
};

/// Height limit of an expression tree, counted over the expressions and blocks below a node.
inline constexpr uint32_t kMaxExprHeight = 600;

struct Expr {
  ExprKind kind;
  Span span;
  uint32_t height = 1;
};

struct Block;
struct ParamList;

/// An element of a list or a dimension of a type: `value` or `..value`.
struct Item {
  bool spread = false;
  const Expr *value = nullptr;
};

/// An argument or an item of a tuple: `value`, `name = value` or `..value`.
struct Arg {
  std::optional<Name> name;
  bool spread = false;
  const Expr *value = nullptr;
  Span span;
};

struct NameExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Name;
  std::string_view name;
};

struct IntExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Int;
  int64_t value = 0;
};

struct FloatExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Float;
  double value = 0;
};

struct BoolExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Bool;
  bool value = false;
};

struct StringExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::String;
  std::string value; // escapes resolved
};

struct NoneExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::None;
};

struct ListExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::List;
  std::vector<Item> items;
};

struct ComprehensionExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Comprehension;
  const Expr *value = nullptr;
  std::vector<Name> names;
  const Expr *iterable = nullptr;
  const Expr *condition = nullptr; // may be null
};

/// Either all items that are no spread have a name (`named`) or none has. `()` is the empty tuple.
struct TupleExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Tuple;
  bool named = false;
  std::vector<Arg> items;
};

enum class UnaryOp { Neg, Not };

struct UnaryExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Unary;
  UnaryOp op{};
  const Expr *operand = nullptr;
};

enum class BinaryOp {
  Or,
  And,
  Less,
  LessEqual,
  Greater,
  GreaterEqual,
  Equal,
  NotEqual,
  Add,
  Sub,
  Mul,
  Div,
  FloorDiv,
  Mod,
  MatMul,
  Pow,
};
/// "+", "and", …: as written.
const char *spelling(BinaryOp op);

struct BinaryExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Binary;
  BinaryOp op{};
  Span opSpan;
  const Expr *left = nullptr;
  const Expr *right = nullptr;
};

struct RangeExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Range;
  const Expr *begin = nullptr;
  const Expr *end = nullptr; // excluded
};

struct PipeExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Pipe;
  const Expr *first = nullptr;
  std::vector<const Expr *> stages; // at least one
};

struct LambdaExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Lambda;
  const ParamList *params = nullptr;
  const Block *body = nullptr;
};

struct IfArm {
  const Expr *condition = nullptr;
  const Block *body = nullptr;
};

struct IfExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::If;
  std::vector<IfArm> arms;          // at least one
  const Block *otherwise = nullptr; // may be null
};

/// `name in value [along axis]` (a slice per round) or `name = value` (carried).
struct ScanBind {
  Name name;
  bool carried = false;
  const Expr *value = nullptr;
  const Expr *along = nullptr; // may be null; a NameExpr or an IntExpr (possibly negative)
  Span span;
};

struct ScanExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Scan;
  std::vector<ScanBind> binds;
  const Block *body = nullptr;
};

struct CallExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Call;
  const Expr *callee = nullptr;
  std::vector<Arg> args;
  Span argsSpan; // from `(` to `)`
};

enum class IndexKind { Value, Slice, Ellipsis };

/// One index: `value` (an expression, also `none` or a range), `begin:end:step`, or `...`.
struct IndexItem {
  IndexKind kind{};
  const Expr *value = nullptr; // of Value
  const Expr *begin = nullptr; // of Slice; each may be null
  const Expr *end = nullptr;
  const Expr *step = nullptr;
  Span span;
};

struct IndexExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Index;
  const Expr *base = nullptr;
  std::vector<IndexItem> items;
};

struct MemberExpr : Expr {
  static constexpr ExprKind kKind = ExprKind::Member;
  const Expr *base = nullptr;
  Name name;
};

// --- types ---------------------------------------------------------------------------------------

enum class TypeKind {
  Named,  // int, float, bool, string, layer, any name of a layer: `GPT`, `lib.Block`
  Tensor, // f32[batch, ..lead, 2 * n], any[n], [batch, 10]
  List,   // list[int], list[fn], list[list[int]]
  Fn,     // fn
  None,   // none
  String, // "same"
  Tuple,  // (main: [batch, 1], aux: [batch, 1])
  Union,  // int | list[int]
};

struct TypeExpr {
  TypeKind kind;
  Span span;
  uint32_t height = 1;
};

struct NamedType : TypeExpr {
  static constexpr TypeKind kKind = TypeKind::Named;
  Path path;
};

struct TensorType : TypeExpr {
  static constexpr TypeKind kKind = TypeKind::Tensor;
  std::optional<Path> element; // left out: the module's float
  std::vector<Item> dims;      // a spread is a pack
};

struct ListTypeExpr : TypeExpr {
  static constexpr TypeKind kKind = TypeKind::List;
  const TypeExpr *element = nullptr;
};

struct FnType : TypeExpr {
  static constexpr TypeKind kKind = TypeKind::Fn;
};

struct NoneType : TypeExpr {
  static constexpr TypeKind kKind = TypeKind::None;
};

struct StringType : TypeExpr {
  static constexpr TypeKind kKind = TypeKind::String;
  std::string value;
};

struct TypeField {
  std::optional<Name> name;
  const TypeExpr *type = nullptr;
};

struct TupleType : TypeExpr {
  static constexpr TypeKind kKind = TypeKind::Tuple;
  std::vector<TypeField> fields;
};

struct UnionType : TypeExpr {
  static constexpr TypeKind kKind = TypeKind::Union;
  std::vector<const TypeExpr *> alternatives; // at least two, none a union
};

// --- statements ----------------------------------------------------------------------------------

enum class StmtKind {
  Param,    // param w: [n] = Zeros(), regularizer = r; state m = zeros_like(w)
  For,      // for a, b in xs { … }
  Yield,    // yield a, b
  Report,   // report loss, accuracy = e
  Minimize, // minimize l over m with Adam() every 5
  Bind,     // a, b = e
  Assign,   // m <- e
  Expr,     // e
};

struct Stmt {
  StmtKind kind;
  Span span;
  uint32_t height = 1;
};

/// `{ … }`, or the `e` of `= e` as one ExprStmt. The last expression is the value.
struct Block {
  Span span;
  bool braces = true; // false: written `= e`
  std::vector<const Stmt *> stmts;
  uint32_t height = 1;
};

/// `name = value` after a comma of `param`/`state`.
struct Option {
  Name name;
  const Expr *value = nullptr;
};

struct ParamStmt : Stmt {
  static constexpr StmtKind kKind = StmtKind::Param;
  bool isState = false;
  Name name;
  const TypeExpr *type = nullptr; // may be null
  const Expr *init = nullptr;
  std::vector<Option> options;
};

struct ForStmt : Stmt {
  static constexpr StmtKind kKind = StmtKind::For;
  std::vector<Name> names;
  const Expr *iterable = nullptr;
  const Block *body = nullptr;
};

struct YieldStmt : Stmt {
  static constexpr StmtKind kKind = StmtKind::Yield;
  std::vector<const Expr *> values;
};

struct ReportItem {
  Name name;
  const Expr *value = nullptr; // null: the value of that name
};

struct ReportStmt : Stmt {
  static constexpr StmtKind kKind = StmtKind::Report;
  std::vector<ReportItem> items;
};

struct MinimizeStmt : Stmt {
  static constexpr StmtKind kKind = StmtKind::Minimize;
  const Expr *loss = nullptr;
  std::vector<const Expr *> over; // at least one
  const Expr *optimizer = nullptr;
  const Expr *every = nullptr; // may be null
};

/// `a, b = e` (one value, taken apart) or `a, b = e, f` (as many values as names). Also a top-level
/// item.
struct BindStmt : Stmt {
  static constexpr StmtKind kKind = StmtKind::Bind;
  std::vector<Name> names;
  std::vector<const Expr *> values;
};

struct AssignStmt : Stmt {
  static constexpr StmtKind kKind = StmtKind::Assign;
  const Expr *target = nullptr;
  const Expr *value = nullptr;
};

struct ExprStmt : Stmt {
  static constexpr StmtKind kKind = StmtKind::Expr;
  const Expr *value = nullptr;
};

// --- declarations --------------------------------------------------------------------------------

struct Param {
  Name name;
  const TypeExpr *type = nullptr; // may be null
  const Expr *initial = nullptr;  // may be null: the argument is required
  Span span;
};

struct ParamList {
  Span span; // from `(` to `)`
  std::vector<Param> params;
};

enum class TopKind { Import, Decl, Train, Bind };

struct Top {
  TopKind kind;
  Span span;
  std::string doc; // text of the `##` lines right above, without the marks, lines joined by '\n'
  bool broken = false; // a part was left out after a syntax error: the rest means something else
};

/// import "f.nn" as b
struct Import : Top {
  static constexpr TopKind kKind = TopKind::Import;
  std::string path;
  Span pathSpan;
  std::optional<Name> alias;
};

enum class DeclKind { Fn, Layer, Model, Optimizer, Metric };
/// "fn", "layer", …
const char *spelling(DeclKind kind);

/// `} gradient(dy) { … }`
struct GradientRule {
  Span span;
  const ParamList *params = nullptr;
  const Block *body = nullptr;
};

struct Decl : Top {
  static constexpr TopKind kKind = TopKind::Decl;
  DeclKind declKind{};
  Name name;
  std::vector<const ParamList *> params; // one or two lists
  const TypeExpr *result = nullptr;      // may be null
  const Block *body = nullptr;
  const GradientRule *gradient = nullptr; // may be null
};

struct TrainItem {
  Name key;
  const Expr *value = nullptr;
};

struct Step {
  Span span;
  const ParamList *params = nullptr;
  const Block *body = nullptr;
};

struct Train : Top {
  static constexpr TopKind kKind = TopKind::Train;
  const Expr *model = nullptr; // may be null
  std::vector<TrainItem> items;
  const Step *step = nullptr; // may be null: the default step
};

/// A binding at top level; its names and values are in `bind`.
struct TopBind : Top {
  static constexpr TopKind kKind = TopKind::Bind;
  const BindStmt *bind = nullptr;
};

/// One parsed file and the owner of its nodes.
class File {
 public:
  uint32_t file = kNoFile;
  std::vector<const Top *> tops; // in order of the text
  // What syntax errors kept out of the tree, so that nobody calls it unknown: names that broken
  // pieces declare, and whether the text behind some place was not read at all.
  std::set<std::string, std::less<>> lost;
  bool cutOff = false;

  File() = default;
  File(const File &) = delete;
  File &operator=(const File &) = delete;

  /// A node that lives as long as this file. Nodes with a kind get it set.
  template <class T> T *make() {
    T *node = new T();
    nodes_.emplace_back(node, [](void *p) { delete static_cast<T *>(p); });
    if constexpr (requires { T::kKind; }) node->kind = T::kKind;
    return node;
  }

 private:
  std::vector<std::unique_ptr<void, void (*)(void *)>> nodes_;
};

/// The node behind a base reference whose kind is known.
template <class T, class Base> const T &as(const Base &node) {
  assert(node.kind == T::kKind);
  return static_cast<const T &>(node);
}

} // namespace nnc::fe
