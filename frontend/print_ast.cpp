// Two ideas. Precedence: every expression is printed for a place that takes only what binds at
// least so tight, and gets parentheses otherwise. Width: a pipe, call, list or tuple goes onto one
// line if that fits into 100 columns, else one stage or item per line:
//
//   tokens
//     |> Embedding(20000, 128, mask_zero = true)
//     |> Bidirectional(LSTM(64, return_sequences = true))
//
// A block of one short statement stays on its line. Whether something fits is tried in a mode that
// breaks no line and gives up behind the margin; what fails is then printed broken, once, so nested
// constructs cost no more than their text. The text depends on the tree alone: printing what was
// parsed from printed text changes nothing.
#include "frontend/print_ast.h"

#include <charconv>
#include <optional>

namespace nnc::fe {

const char *spelling(BinaryOp op) {
  switch (op) {
  case BinaryOp::Or: return "or";
  case BinaryOp::And: return "and";
  case BinaryOp::Less: return "<";
  case BinaryOp::LessEqual: return "<=";
  case BinaryOp::Greater: return ">";
  case BinaryOp::GreaterEqual: return ">=";
  case BinaryOp::Equal: return "==";
  case BinaryOp::NotEqual: return "!=";
  case BinaryOp::Add: return "+";
  case BinaryOp::Sub: return "-";
  case BinaryOp::Mul: return "*";
  case BinaryOp::Div: return "/";
  case BinaryOp::FloorDiv: return "//";
  case BinaryOp::Mod: return "%";
  case BinaryOp::MatMul: return "@";
  case BinaryOp::Pow: return "**";
  }
  return "";
}

const char *spelling(DeclKind kind) {
  switch (kind) {
  case DeclKind::Fn: return "fn";
  case DeclKind::Layer: return "layer";
  case DeclKind::Model: return "model";
  case DeclKind::Optimizer: return "optimizer";
  case DeclKind::Metric: return "metric";
  }
  return "";
}

namespace {

constexpr size_t kWidth = 100;
constexpr size_t kInlineBlock = 60; // longest statement of a block on one line

/// How tight an expression binds; the ladder of the grammar from `expr` to `atom`.
enum Level { kLambda, kPipe, kOr, kAnd, kNot, kCompare, kRange, kSum, kProd, kNeg, kPow, kPost };

Level levelOf(BinaryOp op) {
  switch (op) {
  case BinaryOp::Or: return kOr;
  case BinaryOp::And: return kAnd;
  case BinaryOp::Less:
  case BinaryOp::LessEqual:
  case BinaryOp::Greater:
  case BinaryOp::GreaterEqual:
  case BinaryOp::Equal:
  case BinaryOp::NotEqual: return kCompare;
  case BinaryOp::Add:
  case BinaryOp::Sub: return kSum;
  case BinaryOp::Mul:
  case BinaryOp::Div:
  case BinaryOp::FloorDiv:
  case BinaryOp::Mod:
  case BinaryOp::MatMul: return kProd;
  case BinaryOp::Pow: return kPow;
  }
  return kPost;
}

Level levelOf(const Expr &e) {
  switch (e.kind) {
  case ExprKind::Lambda: return kLambda;
  case ExprKind::Pipe: return kPipe;
  case ExprKind::Binary: return levelOf(as<BinaryExpr>(e).op);
  case ExprKind::Unary: return as<UnaryExpr>(e).op == UnaryOp::Not ? kNot : kNeg;
  case ExprKind::Range: return kRange;
  case ExprKind::Name:
  case ExprKind::Int:
  case ExprKind::Float:
  case ExprKind::Bool:
  case ExprKind::String:
  case ExprKind::None:
  case ExprKind::List:
  case ExprKind::Comprehension:
  case ExprKind::Tuple:
  case ExprKind::If:
  case ExprKind::Scan:
  case ExprKind::Call:
  case ExprKind::Index:
  case ExprKind::Member: return kPost;
  }
  return kPost;
}

std::string quote(const std::string &value) {
  std::string out = "\"";
  for (char c : value) switch (c) {
    case '\n': out += "\\n"; break;
    case '\t': out += "\\t"; break;
    case '\r': out += "\\r"; break;
    case '"': out += "\\\""; break;
    case '\\': out += "\\\\"; break;
    default: out += c;
    }
  return out + "\"";
}

/// The shortest text that reads back as the same double, with a dot or an exponent.
std::string number(double value) {
  char buffer[40];
  std::string out(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
  return out.find_first_of(".e") == out.npos ? out + ".0" : out;
}

/// True if `text` begins at `column` and its first line stays inside the page.
bool fits(const std::string &text, size_t column) {
  return column + std::min(text.find('\n'), text.size()) <= kWidth;
}

class Printer {
 public:
  // --- expressions -------------------------------------------------------------------------------

  /// The text of `e` where at least `min` is needed, beginning at `column`.
  std::string expr(const Expr &e, Level min = kLambda, size_t column = 0) {
    if (flat_ && tooLong_) return "";
    std::string text = levelOf(e) >= min ? bare(e, column) : "(" + bare(e, column + 1) + ")";
    givesUp(text);
    return text;
  }

  std::string bare(const Expr &e, size_t column) {
    switch (e.kind) {
    case ExprKind::Name: return std::string(as<NameExpr>(e).name);
    case ExprKind::Int: return std::to_string(as<IntExpr>(e).value);
    case ExprKind::Float: return number(as<FloatExpr>(e).value);
    case ExprKind::Bool: return as<BoolExpr>(e).value ? "true" : "false";
    case ExprKind::String: return quote(as<StringExpr>(e).value);
    case ExprKind::None: return "none";
    case ExprKind::List: return list(as<ListExpr>(e), column);
    case ExprKind::Comprehension: return comprehension(as<ComprehensionExpr>(e));
    case ExprKind::Tuple: return tuple(as<TupleExpr>(e), column);
    case ExprKind::Unary: return unary(as<UnaryExpr>(e), column);
    case ExprKind::Binary: return binary(as<BinaryExpr>(e), column);
    case ExprKind::Range: return range(as<RangeExpr>(e));
    case ExprKind::Pipe: return pipe(as<PipeExpr>(e), column);
    case ExprKind::Lambda: return lambda(as<LambdaExpr>(e), column);
    case ExprKind::If: return ifExpr(as<IfExpr>(e), column);
    case ExprKind::Scan: return scan(as<ScanExpr>(e), column);
    case ExprKind::Call: return call(as<CallExpr>(e), column);
    case ExprKind::Index: return index(as<IndexExpr>(e), column);
    case ExprKind::Member: {
      auto &m = as<MemberExpr>(e);
      return base(*m.base, column) + "." + std::string(m.name.text);
    }
    }
    return "";
  }

  std::string unary(const UnaryExpr &e, size_t column) {
    bool isNot = e.op == UnaryOp::Not;
    return (isNot ? "not " : "-") + expr(*e.operand, isNot ? kNot : kNeg, column + (isNot ? 4 : 1));
  }

  std::string binary(const BinaryExpr &e, size_t column) {
    Level level = levelOf(e.op);
    // Chains lean left; comparisons do not chain; a power leans right and takes a sign there.
    Level left = level == kPow ? kPost : level == kCompare ? kRange : level;
    Level right = level == kPow ? kNeg : Level(level + 1);
    std::string text = expr(*e.left, left, column);
    text += " " + std::string(spelling(e.op)) + " ";
    return text + expr(*e.right, right, after(text, column));
  }

  std::string range(const RangeExpr &e) { return expr(*e.begin, kSum) + ".." + expr(*e.end, kSum); }

  std::string pipe(const PipeExpr &e, size_t column) {
    auto flat = onOneLine(column, [&] {
      std::string text = expr(*e.first, kOr);
      for (const Expr *stage : e.stages) {
        if (givesUp(text)) break;
        text += " |> " + expr(*stage, kOr);
      }
      return text;
    });
    if (flat) return *flat;
    std::string text = expr(*e.first, kOr, column);
    indent_ += 2;
    for (const Expr *stage : e.stages) text += line() + "|> " + expr(*stage, kOr, indent_ + 3);
    indent_ -= 2;
    return text;
  }

  std::string lambda(const LambdaExpr &e, size_t column) {
    std::string text = "fn" + params(*e.params, column + 2);
    return text + body(*e.body, after(text, column), true);
  }

  std::string ifExpr(const IfExpr &e, size_t column) {
    auto flat = onOneLine(column, [&] { return ifText(e, column); });
    return flat ? *flat : ifText(e, column);
  }

  std::string ifText(const IfExpr &e, size_t column) {
    std::string text;
    for (const IfArm &arm : e.arms) {
      if (givesUp(text)) return text;
      text += text.empty() ? "if " : " else if ";
      text += expr(*arm.condition, kLambda, after(text, column)) + " " + block(*arm.body, flat_);
    }
    return e.otherwise ? text + " else " + block(*e.otherwise, flat_) : text;
  }

  std::string scan(const ScanExpr &e, size_t column) {
    std::string text = "scan ";
    for (const ScanBind &b : e.binds) {
      if (&b != &e.binds[0]) text += ", ";
      text += std::string(b.name.text) + (b.carried ? " = " : " in ");
      text += expr(*b.value, kLambda, after(text, column));
      if (b.along) text += " along " + expr(*b.along);
    }
    return text + " " + block(*e.body, true);
  }

  /// What trailers stand on: atoms that end in a block get parentheses to be readable.
  std::string base(const Expr &e, size_t column) {
    bool ends = e.kind == ExprKind::If || e.kind == ExprKind::Scan;
    return ends ? "(" + bare(e, column + 1) + ")" : expr(e, kPost, column);
  }

  std::string call(const CallExpr &e, size_t column) {
    std::string callee = base(*e.callee, column);
    return callee + args("(", e.args, ")", after(callee, column));
  }

  std::string index(const IndexExpr &e, size_t column) {
    std::string text = base(*e.base, column) + "[";
    for (const IndexItem &i : e.items) text += (&i == &e.items[0] ? "" : ", ") + indexItem(i);
    return text + "]";
  }

  std::string indexItem(const IndexItem &i) {
    if (i.kind == IndexKind::Ellipsis) return "...";
    if (i.kind == IndexKind::Value) return expr(*i.value);
    std::string text = (i.begin ? expr(*i.begin) : "") + ":" + (i.end ? expr(*i.end) : "");
    return i.step ? text + ":" + expr(*i.step) : text;
  }

  std::string list(const ListExpr &e, size_t column) {
    std::vector<Arg> items;
    for (const Item &i : e.items) items.push_back({std::nullopt, i.spread, i.value, {}});
    return args("[", items, "]", column);
  }

  std::string comprehension(const ComprehensionExpr &e) {
    std::string text = "[" + expr(*e.value) + " for " + names(e.names) + " in " + expr(*e.iterable);
    return text + (e.condition ? " if " + expr(*e.condition) : "") + "]";
  }

  std::string tuple(const TupleExpr &e, size_t column) {
    bool single = e.items.size() == 1 && !e.items[0].name && !e.items[0].spread;
    return single ? "(" + expr(*e.items[0].value, kLambda, column + 1) + ",)"
                  : args("(", e.items, ")", column);
  }

  /// Items between brackets: on one line, or one per line, a single one hugged by the brackets.
  std::string args(const std::string &open, const std::vector<Arg> &items, const char *close,
                   size_t column) {
    auto flat = onOneLine(column, [&] {
      std::string text = open;
      for (const Arg &a : items) {
        if (givesUp(text)) break;
        text += (&a == &items[0] ? "" : ", ") + arg(a, 0);
      }
      return text + close;
    });
    if (flat) return *flat;
    if (items.size() == 1) return open + arg(items[0], column + 1) + close;
    std::string text = open;
    indent_ += 2;
    for (const Arg &a : items) text += line() + arg(a, indent_) + (&a == &items.back() ? "" : ",");
    indent_ -= 2;
    return text + line() + close;
  }

  std::string arg(const Arg &a, size_t column) {
    std::string text = a.spread ? ".." : a.name ? std::string(a.name->text) + " = " : "";
    return text + expr(*a.value, kLambda, column + text.size());
  }

  std::string names(const std::vector<Name> &list) {
    std::string text;
    for (const Name &n : list) text += (text.empty() ? "" : ", ") + std::string(n.text);
    return text;
  }

  // --- types -------------------------------------------------------------------------------------

  std::string type(const TypeExpr &t) {
    switch (t.kind) {
    case TypeKind::Named: return path(as<NamedType>(t).path);
    case TypeKind::Tensor: return tensor(as<TensorType>(t));
    case TypeKind::List: return "list[" + type(*as<ListTypeExpr>(t).element) + "]";
    case TypeKind::Fn: return "fn";
    case TypeKind::None: return "none";
    case TypeKind::String: return quote(as<StringType>(t).value);
    case TypeKind::Tuple: return tupleType(as<TupleType>(t));
    case TypeKind::Union: {
      std::string text;
      for (auto *a : as<UnionType>(t).alternatives) text += (text.empty() ? "" : " | ") + type(*a);
      return text;
    }
    }
    return "";
  }

  std::string path(const Path &p) {
    std::string text;
    for (const Name &n : p.parts) text += (text.empty() ? "" : ".") + std::string(n.text);
    return text;
  }

  std::string tensor(const TensorType &t) {
    std::string text = (t.element ? path(*t.element) : "") + "[";
    for (const Item &d : t.dims)
      text += (&d == &t.dims[0] ? "" : ", ") + std::string(d.spread ? ".." : "") + expr(*d.value);
    return text + "]";
  }

  std::string tupleType(const TupleType &t) {
    std::string text = "(";
    for (const TypeField &f : t.fields) {
      text += &f == &t.fields[0] ? "" : ", ";
      text += (f.name ? std::string(f.name->text) + ": " : "") + type(*f.type);
    }
    return text + (t.fields.size() == 1 && !t.fields[0].name ? ",)" : ")");
  }

  // --- statements --------------------------------------------------------------------------------

  std::string stmt(const Stmt &s) {
    switch (s.kind) {
    case StmtKind::Param: return paramStmt(as<ParamStmt>(s));
    case StmtKind::For: {
      auto &f = as<ForStmt>(s);
      std::string head =
          "for " + names(f.names) + " in " + expr(*f.iterable, kLambda, indent_) + " ";
      return head + block(*f.body, fits(head, indent_ + kInlineBlock));
    }
    case StmtKind::Yield: return "yield " + exprs(as<YieldStmt>(s).values);
    case StmtKind::Report: return report(as<ReportStmt>(s));
    case StmtKind::Minimize: return minimize(as<MinimizeStmt>(s));
    case StmtKind::Bind: return bind(as<BindStmt>(s));
    case StmtKind::Assign: {
      auto &a = as<AssignStmt>(s);
      std::string target = expr(*a.target, kLambda, indent_) + " <- ";
      return target + expr(*a.value, kLambda, after(target, indent_));
    }
    case StmtKind::Expr: return expr(*as<ExprStmt>(s).value, kLambda, indent_);
    }
    return "";
  }

  std::string exprs(const std::vector<const Expr *> &list) {
    std::string text;
    for (const Expr *e : list)
      text += (text.empty() ? "" : ", ") + expr(*e, kLambda, after(text, indent_));
    return text;
  }

  std::string paramStmt(const ParamStmt &p) {
    std::string text = (p.isState ? "state " : "param ") + std::string(p.name.text);
    text += (p.type ? ": " + type(*p.type) : "") + " = ";
    text += expr(*p.init, kLambda, after(text, indent_));
    for (const Option &o : p.options) {
      text += ", " + std::string(o.name.text) + " = ";
      text += expr(*o.value, kLambda, after(text, indent_));
    }
    return text;
  }

  std::string report(const ReportStmt &r) {
    std::string text = "report ";
    for (const ReportItem &i : r.items) {
      text += (&i == &r.items[0] ? "" : ", ") + std::string(i.name.text);
      if (i.value) text += " = " + expr(*i.value, kLambda, after(text, indent_) + 3);
    }
    return text;
  }

  std::string minimize(const MinimizeStmt &m) {
    std::string text = "minimize " + expr(*m.loss, kLambda, indent_ + 9);
    text += " over " + exprs(m.over) + " with " + expr(*m.optimizer);
    return m.every ? text + " every " + expr(*m.every) : text;
  }

  std::string bind(const BindStmt &b) {
    std::string text = names(b.names) + " = ";
    for (const Expr *value : b.values)
      text += (value == b.values[0] ? "" : ", ") + expr(*value, kLambda, after(text, indent_));
    return text;
  }

  /// `{ … }`; on one line if `inlined` and it is one short statement.
  std::string block(const Block &b, bool inlined) {
    if (b.stmts.empty()) return "{ }";
    if (inlined && b.stmts.size() == 1) {
      auto text = onOneLine(0, [&] { return stmt(*b.stmts[0]); });
      if (text && text->size() <= kInlineBlock) return "{ " + *text + " }";
    }
    if (flat_) {
      tooLong_ = true;
      return "";
    }
    std::string text = "{";
    indent_ += 2;
    for (const Stmt *s : b.stmts) text += line() + stmt(*s);
    indent_ -= 2;
    return text + line() + "}";
  }

  /// ` = e` or ` { … }` behind the head of a function.
  std::string body(const Block &b, size_t column, bool inlined) {
    if (b.braces) return " " + block(b, inlined);
    const Expr &value = *as<ExprStmt>(*b.stmts[0]).value;
    auto flat = onOneLine(column + 3, [&] { return expr(value); });
    if (flat) return " = " + *flat;
    // What has brackets of its own breaks inside them.
    bool breaksInside = levelOf(value) == kPost || levelOf(value) == kLambda;
    if (breaksInside) return " = " + expr(value, kLambda, column + 3);
    indent_ += 2;
    std::string text = " =" + line() + expr(value, kLambda, indent_);
    indent_ -= 2;
    return text;
  }

  // --- declarations ------------------------------------------------------------------------------

  std::string params(const ParamList &list, size_t column) {
    auto flat = onOneLine(column, [&] {
      std::string text = "(";
      for (const Param &p : list.params) {
        if (givesUp(text)) break;
        text += (&p == &list.params[0] ? "" : ", ") + param(p);
      }
      return text + ")";
    });
    if (flat) return *flat;
    std::string text = "(";
    indent_ += 2;
    for (const Param &p : list.params)
      text += line() + param(p) + (&p == &list.params.back() ? "" : ",");
    indent_ -= 2;
    return text + line() + ")";
  }

  std::string param(const Param &p) {
    std::string text(p.name.text);
    if (p.type) text += ": " + type(*p.type);
    return p.initial ? text + " = " + expr(*p.initial, kLambda, indent_) : text;
  }

  std::string head(const Decl &d, size_t column) {
    std::string text(d.name.text);
    for (const ParamList *list : d.params) text += params(*list, after(text, column));
    return d.result ? text + " -> " + type(*d.result) : text;
  }

  std::string decl(const Decl &d) {
    std::string keyword = std::string(spelling(d.declKind)) + " ";
    std::string text = keyword + head(d, keyword.size());
    text += body(*d.body, after(text, 0), false);
    if (!d.gradient) return text;
    text += " gradient" + params(*d.gradient->params, after(text, 0) + 9);
    return text + " " + block(*d.gradient->body, false);
  }

  std::string train(const Train &t) {
    std::string text = "train ";
    if (t.model) text += expr(*t.model, kLambda, 6) + " ";
    text += "{";
    indent_ += 2;
    for (const TrainItem &item : t.items) {
      std::string key = std::string(item.key.text) + " = ";
      text += line() + key + expr(*item.value, kLambda, indent_ + key.size());
    }
    if (t.step) {
      std::string list = params(*t.step->params, indent_ + 4);
      text += line() + "step" + list + " " + block(*t.step->body, false);
    }
    indent_ -= 2;
    return text + line() + "}";
  }

  std::string top(const Top &t) {
    std::string text = documentation(t.doc);
    switch (t.kind) {
    case TopKind::Import: {
      auto &i = as<Import>(t);
      text += "import " + quote(i.path);
      return i.alias ? text + " as " + std::string(i.alias->text) : text;
    }
    case TopKind::Decl: return text + decl(as<Decl>(t));
    case TopKind::Train: return text + train(as<Train>(t));
    case TopKind::Bind: return text + bind(*as<TopBind>(t).bind);
    }
    return text;
  }

 private:
  static std::string documentation(const std::string &doc) {
    std::string text;
    for (size_t at = 0; at < doc.size() || (at == 0 && !doc.empty());) {
      size_t end = std::min(doc.find('\n', at), doc.size());
      text += end > at ? "## " + doc.substr(at, end - at) + "\n" : "##\n";
      at = end + 1;
    }
    return text;
  }

  /// A new line at the current indentation.
  std::string line() const { return "\n" + std::string(indent_, ' '); }

  /// The column behind `text` that began at `column`. Looks back one page width only: further
  /// right is too far in any case.
  static size_t after(const std::string &text, size_t column) {
    std::string_view tail(text);
    if (tail.size() > kWidth) tail.remove_prefix(tail.size() - kWidth - 1);
    size_t newline = tail.rfind('\n');
    return newline == tail.npos ? column + text.size() : tail.size() - newline - 1;
  }

  /// What `write` gives if that is one line inside the page from `column` on.
  template <class Write> std::optional<std::string> onOneLine(size_t column, Write write) {
    if (flat_) return write(); // the outermost attempt decides
    flat_ = true;
    tooLong_ = false;
    std::string text = write();
    flat_ = false;
    if (tooLong_ || column + text.size() > kWidth) return std::nullopt;
    return text;
  }

  /// In an attempt: true once it has failed, so that it ends soon.
  bool givesUp(const std::string &text) {
    tooLong_ = tooLong_ || text.size() > kWidth;
    return flat_ && tooLong_;
  }

  size_t indent_ = 0;
  bool flat_ = false;    // in an attempt to print on one line
  bool tooLong_ = false; // which has failed
};

/// Bindings and imports stand close together, everything else apart.
bool apart(const Top &a, const Top &b) {
  bool loose = a.kind == TopKind::Decl || a.kind == TopKind::Train;
  return loose || a.kind != b.kind || !b.doc.empty();
}

} // namespace

std::string print(const File &file) {
  std::string text;
  for (size_t i = 0; i < file.tops.size(); ++i) {
    if (i > 0 && apart(*file.tops[i - 1], *file.tops[i])) text += "\n";
    text += print(*file.tops[i]) + "\n";
  }
  return text;
}

std::string print(const Top &top) { return Printer().top(top); }
std::string print(const Stmt &stmt) { return Printer().stmt(stmt); }
std::string print(const Expr &expr) { return Printer().expr(expr); }
std::string print(const TypeExpr &type) { return Printer().type(type); }
std::string signature(const Decl &decl) { return Printer().head(decl, 0); }

} // namespace nnc::fe
