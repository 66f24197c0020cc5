// Statements: binding, loops at compile time, stores.
//
// Problem. A body is a list of statements whose names shadow one another, whose loops are unrolled
// and whose last expression is its value:
//
//   for b in blocks { x = b(x) }     ->   x, x.1, x.2: one application per block
//   x
//
// Method. `for` and `if` open no scope. A loop's variables are bound per round and gone afterwards;
// the round's index joins the path by which instances are known. Values take the names they are
// bound to, as IR names and as names of instances.
#include "frontend/elab.h"

namespace nnc::fe {

Value Elaborator::evalBlock(const Block &block) {
  Value last = Value::none();
  for (size_t i = 0; i < block.stmts.size(); ++i) {
    if (!step(block.stmts[i]->span)) return {};
    last = evalStmt(*block.stmts[i], i + 1 == block.stmts.size());
  }
  return last;
}

/// The names of a result type `(main: [batch, 1], aux: …)`.
static std::vector<std::string_view> resultNames(const TypeExpr *type) {
  std::vector<std::string_view> names;
  if (type && type->kind == TypeKind::Tuple)
    for (const TypeField &f : as<TupleType>(*type).fields)
      if (f.name) names.push_back(f.name->text);
  return names;
}

/// A body that gives no value, or a layer that nobody applied, where its last line is at fault.
static bool checkValue(Elaborator &e, const Block &block, const TypeExpr *result,
                       std::string_view owner, const Value &v) {
  const Stmt *last = block.stmts.empty() ? nullptr : block.stmts.back();
  if (!last || e.isLibrary(last->span)) return true;
  bool isModel = e.frame->ownsPath && e.frame->application && e.frame->application->decl &&
                 (e.frame->application->decl->declKind == DeclKind::Layer ||
                  e.frame->application->decl->declKind == DeclKind::Model);
  bool wantsTensor = result ? result->kind == TypeKind::Tensor : isModel;
  if (!wantsTensor) return true;
  bool isLayer = v.kind == Kind::Instance && v.instance->decl;
  if (isLayer && last->kind == StmtKind::Expr) {
    std::string text = e.text(last->span);
    bool isShort = text.size() < 40 && text.find('\n') == std::string::npos;
    bool isName = as<ExprStmt>(*last).value->kind == ExprKind::Name;
    auto &d =
        e.error(last->span, Diag::LayerNotApplied, {std::string(v.instance->decl->name.text)});
    if (!(v.instance->span == last->span)) d.label(v.instance->span, "made here");
    d.help(!isShort || isName ? "a layer is applied by `x |> layer` or `layer(x)`"
                              : "apply it: `x |> " + text + "` or `" + text + "(x)`");
    return false;
  }
  if (v.isNone() && last->kind == StmtKind::Bind) {
    const auto &bind = as<BindStmt>(*last);
    e.error(last->span, Diag::NoValue, {std::string(owner)})
        .note("the value of a body is its last expression, and this line only binds a name")
        .help(bind.names.size() == 1
                  ? "end the body with a line `" + std::string(bind.names[0].text) +
                        "`, or leave out `" + std::string(bind.names[0].text) + " =`"
                  : "end the body with the value");
    return false;
  }
  return true;
}

Value Elaborator::evalBody(const Block &block, const TypeExpr *result, std::string_view owner) {
  Value v = evalBlock(block);
  if (v.isPoison()) return v;
  if (!checkValue(*this, block, result, owner, v)) return {};
  auto names = resultNames(result);
  bool endsInStatement =
      block.stmts.empty() || block.stmts.back()->kind != StmtKind::Expr || v.isNone();
  if (endsInStatement && !names.empty()) {
    Values items;
    for (std::string_view n : names) items.push_back(lookup(n, result->span));
    v = Value::tuple(std::move(items), {names.begin(), names.end()});
    for (const Value &item : v.tuple().items)
      if (item.isPoison()) return {};
  }
  if (!result) return v;
  if (v.isNone() && result->kind == TypeKind::Tensor)
    return fail(block.span, Diag::NoValue, {std::string(owner)});
  return conformResult(v, *result, "the result of `" + std::string(owner) + "`");
}

/// `h == x |> Dense(10)` where a binding was meant: says so, and binds the name to nothing.
bool Elaborator::meantBinding(const Expr &e) {
  if (e.kind != ExprKind::Binary || as<BinaryExpr>(e).op != BinaryOp::Equal) return false;
  const Expr &left = *as<BinaryExpr>(e).left;
  if (left.kind != ExprKind::Name || isLibrary(e.span)) return false;
  std::string_view name = as<NameExpr>(left).name;
  Value known;
  if (findBinding(name) || lookupFile(*frame->file, name, known)) return false;
  error(as<BinaryExpr>(e).opSpan, Diag::ExpectedFound,
        {"`=` to bind `" + std::string(name) + "`", "`==`"})
      .help("`==` compares, `" + std::string(name) + " = ...` binds a name");
  frame->scope->bind(name, {}, left.span);
  return true;
}

static bool isUseful(const Expr &e) { return e.kind == ExprKind::If || e.kind == ExprKind::Scan; }

Value Elaborator::evalStmt(const Stmt &stmt, bool last) {
  Restore<Span> place(at, stmt.span);
  switch (stmt.kind) {
  case StmtKind::Bind: {
    const auto &s = as<BindStmt>(stmt);
    bindNames(s.names, s.values);
    return Value::none();
  }
  case StmtKind::Expr: {
    const auto &s = as<ExprStmt>(stmt);
    int64_t before = effects;
    if (!last && meantBinding(*s.value)) return {};
    Value v = eval(*s.value);
    if (!last && effects == before && !v.isPoison() && !isUseful(*s.value) && !isLibrary(stmt.span))
      error(stmt.span, Diag::UnusedValue);
    return v;
  }
  case StmtKind::Param: return evalParam(as<ParamStmt>(stmt));
  case StmtKind::For: evalFor(as<ForStmt>(stmt)); return Value::none();
  case StmtKind::Assign: evalAssign(as<AssignStmt>(stmt)); return Value::none();
  case StmtKind::Yield: evalYield(as<YieldStmt>(stmt)); return Value::none();
  case StmtKind::Report: return evalReport(as<ReportStmt>(stmt));
  case StmtKind::Minimize: return evalMinimize(as<MinimizeStmt>(stmt));
  }
  return {};
}

// --- binding -------------------------------------------------------------------------------------

void Elaborator::bindNames(const std::vector<Name> &names,
                           const std::vector<const Expr *> &values) {
  if (values.size() == names.size()) {
    // All values are computed before the first name is bound: `a, b = b, a`.
    Values all;
    for (const Expr *e : values) all.push_back(eval(*e));
    for (size_t i = 0; i < names.size(); ++i) bindName(names[i], std::move(all[i]));
    return;
  }
  Value v = eval(*values[0]);
  Values parts;
  if (v.isPoison() || !unpack(names, v, values[0]->span, parts))
    parts.assign(names.size(), Value{});
  for (size_t i = 0; i < names.size(); ++i) bindName(names[i], std::move(parts[i]));
}

bool Elaborator::unpack(const std::vector<Name> &names, const Value &value, Span span,
                        Values &out) {
  if (value.isTensor()) {
    auto &d = error(span, Diag::UnpackCount, {std::to_string(names.size()), show(value)});
    d.help(sources.text(span).starts_with("scan")
               ? "this `scan` gives one value: what it carries; `yield` collects one per round"
               : "`split` takes a tensor apart, several tensors are written `[a, b]`");
    return false;
  }
  if (!iterate(value, span, out)) return false;
  if (out.size() == names.size()) return true;
  auto &d =
      error(span, Diag::UnpackCount, {std::to_string(names.size()), std::to_string(out.size())});
  if (std::string found = show(value); found.size() < 100) d.note("it is " + found);
  return false;
}

void Elaborator::bindName(const Name &name, Value value) {
  if (name.text == "_") return;
  if (const Binding *b = findBinding(name.text); b && b->isDim) {
    error(name.span, Diag::RebindDim, {std::string(name.text)}).label(b->span, "bound here");
    return;
  }
  nameValue(name.text, value);
  record(name.span, Recorder::What::Name, value);
  frame->scope->bind(name.text, std::move(value), name.span);
}

void Elaborator::nameValue(std::string_view name, const Value &value) {
  if (value.isTensor()) setName(value, name);
  if (value.kind == Kind::Instance) {
    Instance &inst = *value.instance;
    if (!inst.named && inst.owner == owner()) nameInstance(inst, name);
  }
  if (value.kind == Kind::List && !value.list().empty()) {
    Kind first = value.list()[0].kind;
    if (first != Kind::Instance && first != Kind::List) return;
    for (size_t i = 0; i < value.list().size(); ++i) {
      const Value &item = value.list()[i];
      if (item.kind == Kind::Instance || item.kind == Kind::List)
        nameValue(std::string(name) + "/" + std::to_string(i), item);
    }
  }
}

// --- loops ---------------------------------------------------------------------------------------

bool Elaborator::iterate(const Value &value, Span span, Values &out) {
  if (value.isPoison()) return false;
  if (value.kind == Kind::List) return out = value.list(), true;
  if (value.kind == Kind::Tuple) return out = value.tuple().items, true;
  if (value.kind == Kind::String) { // its bytes, each a string of its own
    out.clear();
    for (const char c : value.string()) out.push_back(Value::of(std::string(1, c)));
    return true;
  }
  auto &e = error(span, Diag::NotIterable, {show(value)});
  if (value.isTensor()) e.help("several tensors are written `[a, b]`; `split` takes one apart");
  if (value.isInt()) e.help("the ints below " + show(value) + " are `0.." + show(value) + "`");
  return false;
}

void Elaborator::evalFor(const ForStmt &stmt) {
  Values items;
  const Value over = eval(*stmt.iterable);
  if (over.isTensor()) {
    auto &d = error(stmt.iterable->span, Diag::NotIterable, {show(over)});
    const std::string of = text(stmt.iterable->span);
    d.help("`scan " + std::string(stmt.names[0].text) + " in " + (of.size() < 30 ? of : "x") +
           (rank(over) > 1 ? " along 1" : "") + ", ... { ... }` goes over the slices of a tensor");
    return;
  }
  if (!iterate(over, stmt.iterable->span, items)) {
    // What the body would have bound is unknown, not missing.
    return;
  }
  Scope &scope = *frame->scope;
  std::vector<std::optional<Value>> before;
  for (const Name &n : stmt.names) {
    auto it = scope.names.find(n.text);
    bool known = it != scope.names.end() && !it->second.empty() && !it->second.back().hidden;
    before.push_back(known ? std::optional<Value>(it->second.back().value) : std::nullopt);
  }
  frame->rounds.push_back(0);
  for (size_t i = 0; i < items.size(); ++i) {
    if (!step(stmt.span)) break;
    frame->rounds.back() = i + 1;
    if (stmt.names.size() == 1) record(stmt.names[0].span, Recorder::What::Name, items[i]);
    if (stmt.names.size() == 1) {
      if (stmt.names[0].text != "_") scope.bind(stmt.names[0].text, items[i], stmt.names[0].span);
    } else {
      Values parts;
      if (!unpack(stmt.names, items[i], stmt.iterable->span, parts)) break;
      for (size_t k = 0; k < parts.size(); ++k)
        if (stmt.names[k].text != "_") scope.bind(stmt.names[k].text, parts[k], stmt.names[k].span);
    }
    evalBlock(*stmt.body);
  }
  frame->rounds.pop_back();
  for (size_t k = 0; k < stmt.names.size(); ++k) {
    if (stmt.names[k].text == "_") continue;
    Binding &b = scope.bind(stmt.names[k].text, before[k].value_or(Value{}), stmt.names[k].span);
    b.hidden = !before[k];
  }
}

// --- stores --------------------------------------------------------------------------------------

void Elaborator::evalAssign(const AssignStmt &stmt) {
  ++effects;
  Value value = eval(*stmt.value);
  if (stmt.target->kind != ExprKind::Name)
    return storeWeights(*stmt.target, value, stmt.value->span);
  const std::string_view written = as<NameExpr>(*stmt.target).name; // a scope may keep the view
  const Binding *b = findBinding(written);
  Value target = b ? b->value : lookup(written, stmt.target->span);
  if (target.isPoison() || value.isPoison()) return;
  const std::string name(written);
  bool isOwn = target.kind == Kind::Weight &&
               (target.weight == frame->target ||
                (target.weight->kind != WeightKind::Param && target.weight->owner == owner()));
  if (!isOwn) {
    bool isParam = target.kind == Kind::Weight;
    error(stmt.target->span, Diag::StoreTarget, {name, isParam ? "a param" : show(target)});
    return;
  }
  Weight &w = *target.weight;
  Value v = fit(value, w.type, stmt.value->span, "what is stored in `" + name + "`");
  if (v.isPoison()) return;
  bool isState = w.kind == WeightKind::State;
  const bool adapts = pass->isAdapting && underAdapting && isState;
  const bool isOfRows = w.rows && !pass->isAdapting; // goes on in every pass over data
  if (!adapts && !isOfRows && !pass->training && w.kind != WeightKind::Metric) return;
  writeWeight(w, v, isState);
  setName(Value::of(pass, pass->current.at(&w)), w.name);
}

} // namespace nnc::fe
