// Expressions.
//
// Problem. The tree of `x |> Dense(300, activation = relu)` holds a name bound to a tensor, a call
// that makes an instance, and an application. Compile-time and tensor parts look alike.
//
// Method. One recursive walk; a value's kind says which world it is in. Conditions, ranges and
// comprehensions need compile-time values and disappear; the rest goes to operators and calls.
#include "frontend/elab.h"
#include <algorithm>

namespace nnc::fe {

Value Elaborator::eval(const Expr &expr) {
  if (aborted) return {};
  if (stackLow()) {
    aborted = true;
    return fail(expr.span, Diag::TooDeep);
  }
  Restore<Span> place(at, expr.span);
  Value v = evalKind(expr);
  record(expr.span, Recorder::What::Value, v);
  return v;
}

Value Elaborator::evalKind(const Expr &expr) {
  switch (expr.kind) {
  case ExprKind::Name: return evalName(as<NameExpr>(expr));
  case ExprKind::Int: return Value::of(as<IntExpr>(expr).value, expr.span);
  case ExprKind::Float: return Value::of(as<FloatExpr>(expr).value);
  case ExprKind::Bool: return Value::of(as<BoolExpr>(expr).value);
  case ExprKind::String: return Value::of(as<StringExpr>(expr).value);
  case ExprKind::None: return Value::none();
  case ExprKind::List: return evalList(as<ListExpr>(expr));
  case ExprKind::Comprehension: return evalComprehension(as<ComprehensionExpr>(expr));
  case ExprKind::Tuple: return evalTuple(as<TupleExpr>(expr));
  case ExprKind::Unary: {
    const auto &e = as<UnaryExpr>(expr);
    Value v = eval(*e.operand);
    return unary(e.op, v);
  }
  case ExprKind::Binary: {
    const auto &e = as<BinaryExpr>(expr);
    Value a = eval(*e.left);
    // A static left side decides alone: `mask != none and len(mask) > 1`.
    if (a.kind == Kind::Bool && ((e.op == BinaryOp::And && !a.b) || (e.op == BinaryOp::Or && a.b)))
      return a;
    Value b = eval(*e.right);
    return binary(e.op, std::move(a), std::move(b));
  }
  case ExprKind::Range: return evalRange(as<RangeExpr>(expr));
  case ExprKind::Pipe: return evalPipe(as<PipeExpr>(expr));
  case ExprKind::Lambda: return evalLambda(as<LambdaExpr>(expr));
  case ExprKind::If: return evalIf(as<IfExpr>(expr));
  case ExprKind::Scan: return evalScan(as<ScanExpr>(expr));
  case ExprKind::Call: return evalCall(as<CallExpr>(expr));
  case ExprKind::Index: return evalIndex(as<IndexExpr>(expr));
  case ExprKind::Member: return evalMember(as<MemberExpr>(expr));
  }
  return {};
}

Value Elaborator::evalName(const NameExpr &expr) {
  Value v = lookup(expr.name, expr.span);
  return v.kind == Kind::Weight ? readWeight(*v.weight) : inBody(v);
}

// --- structures ----------------------------------------------------------------------------------

Value Elaborator::evalList(const ListExpr &expr) {
  Values items;
  for (const Item &item : expr.items) {
    Value v = eval(*item.value);
    if (!item.spread) {
      items.push_back(std::move(v));
      continue;
    }
    Values more;
    if (!iterate(v, item.value->span, more)) return {};
    steps += int64_t(more.size()) / 16;
    items.insert(items.end(), more.begin(), more.end());
    if (int64_t(items.size()) > kMaxListLength)
      return fail(Diag::ListTooLong,
                  {std::to_string(items.size()), std::to_string(kMaxListLength)});
  }
  for (const Value &v : items)
    if (v.isPoison()) return {};
  return Value::list(std::move(items));
}

Value Elaborator::evalTuple(const TupleExpr &expr) {
  Values items;
  std::vector<std::string> names;
  for (const Arg &arg : expr.items) {
    Value v = eval(*arg.value);
    if (v.isPoison()) return {};
    if (!arg.spread) {
      items.push_back(std::move(v));
      if (arg.name) names.emplace_back(arg.name->text);
      continue;
    }
    Values more;
    if (!iterate(v, arg.span, more)) return {};
    items.insert(items.end(), more.begin(), more.end());
    if (v.kind == Kind::Tuple && !v.tuple().names.empty())
      names.insert(names.end(), v.tuple().names.begin(), v.tuple().names.end());
  }
  if (!names.empty() && names.size() != items.size()) names.clear();
  return Value::tuple(std::move(items), std::move(names));
}

/// "I1".."I13": names with a number at their end, the last one included.
Value Elaborator::nameRange(const Value &a, const Value &b, Span span) {
  auto split = [](const std::string &s) {
    size_t at = s.find_last_not_of("0123456789");
    return at == std::string::npos ? size_t(0) : at + 1;
  };
  const std::string &first = a.string(), &last = b.string();
  size_t i = split(first), k = split(last);
  bool fits = i < first.size() && k < last.size() && first.size() - i < 10 &&
              last.size() - k < 10 && first.substr(0, i) == last.substr(0, k);
  int64_t begin = fits ? std::stoll(first.substr(i)) : 0,
          end = fits ? std::stoll(last.substr(k)) : 0;
  if (!fits || end < begin)
    return fail(span, Diag::ArgumentType,
                {"a range of names", "as `\"I1\"..\"I13\"`", show(a) + ".." + show(b)});
  if (end - begin > kMaxListLength)
    return fail(span, Diag::ListTooLong,
                {std::to_string(end - begin + 1), std::to_string(kMaxListLength)});
  bool padded = first[i] == '0' && first.size() - i > 1;
  Values items;
  for (int64_t n = begin; n <= end; ++n) {
    std::string digits = std::to_string(n);
    if (padded && digits.size() < first.size() - i)
      digits.insert(0, first.size() - i - digits.size(), '0');
    items.push_back(Value::of(first.substr(0, i) + digits));
  }
  return Value::list(std::move(items));
}

Value Elaborator::evalRange(const RangeExpr &expr) {
  Value a = eval(*expr.begin), b = eval(*expr.end);
  if (a.isPoison() || b.isPoison()) return {};
  if (a.kind == Kind::String && b.kind == Kind::String) return nameRange(a, b, expr.span);
  std::vector<int64_t> first, last;
  if (!intList(a, 1, expr.begin->span, first) || !intList(b, 1, expr.end->span, last)) return {};
  int64_t length = last[0] > first[0] ? last[0] - first[0] : 0;
  if (length > kMaxListLength)
    return fail(Diag::ListTooLong, {std::to_string(length), std::to_string(kMaxListLength)});
  steps += length / 16;
  Values items;
  for (int64_t i = first[0]; i < last[0]; ++i) items.push_back(Value::of(i, expr.span));
  return Value::list(std::move(items));
}

Value Elaborator::evalComprehension(const ComprehensionExpr &expr) {
  Values items, out;
  if (!iterate(eval(*expr.iterable), expr.iterable->span, items)) return {};
  auto outer = frame->scope;
  bool ok = true;
  frame->rounds.push_back(0);
  for (size_t i = 0; i < items.size() && ok; ++i) {
    if (!step(expr.span)) {
      ok = false;
      break;
    }
    frame->rounds.back() = i + 1;
    auto scope = std::make_shared<Scope>();
    scope->parent = outer;
    scope->parentSeq = outer->seq;
    Values parts;
    if (expr.names.size() == 1)
      parts = {items[i]};
    else if (!unpack(expr.names, items[i], expr.iterable->span, parts))
      ok = false;
    for (size_t k = 0; k < parts.size() && ok; ++k)
      if (expr.names[k].text != "_") scope->bind(expr.names[k].text, parts[k], expr.names[k].span);
    Restore<std::shared_ptr<Scope>> inner(frame->scope, scope);
    bool take = ok;
    if (ok && expr.condition) ok = condition(*expr.condition, take);
    if (!ok || !take) continue;
    Value v = eval(*expr.value);
    ok = !v.isPoison();
    out.push_back(std::move(v));
  }
  frame->rounds.pop_back();
  return ok ? Value::list(std::move(out)) : Value{};
}

Value Elaborator::evalLambda(const LambdaExpr &expr) {
  FunctionObj f;
  f.kind = FunctionKind::Lambda;
  f.lambda = &expr;
  f.file = frame->file;
  f.scope = frame->scope;
  f.scopeSeq = frame->scope->seq;
  captured.push_back(frame->scope);
  return Value::function(std::move(f));
}

// --- choice --------------------------------------------------------------------------------------

bool Elaborator::condition(const Expr &expr, bool &out) {
  Value c = eval(expr);
  if (c.isPoison()) return false;
  if (c.kind == Kind::Bool) return out = c.b, true;
  auto &e = error(expr.span, Diag::ConditionType, {show(c)});
  if (c.isTensor()) e.help("`where(condition, a, b)` chooses by the elements of a tensor");
  return false;
}

/// `training` or `adapting` is part of the condition.
static bool mentions(const Expr &e, std::string_view name) {
  switch (e.kind) {
  case ExprKind::Name: return as<NameExpr>(e).name == name;
  case ExprKind::Unary: return mentions(*as<UnaryExpr>(e).operand, name);
  case ExprKind::Binary:
    return mentions(*as<BinaryExpr>(e).left, name) || mentions(*as<BinaryExpr>(e).right, name);
  default: return false;
  }
}

Value Elaborator::evalIf(const IfExpr &expr) {
  const Block *taken = nullptr;
  int byTraining = 0, byAdapting = 0;
  for (const IfArm &arm : expr.arms) {
    byTraining |= mentions(*arm.condition, "training");
    byAdapting |= mentions(*arm.condition, "adapting");
    bool yes;
    if (!condition(*arm.condition, yes)) return {};
    if (yes) {
      taken = arm.body;
      break;
    }
  }
  if (!taken) taken = expr.otherwise;
  auto &untaken = frame->scope->untaken;
  auto leave = [&](const Block *b) {
    if (b && b != taken && untaken.size() < 64) untaken.push_back(b);
  };
  for (const IfArm &arm : expr.arms) leave(arm.body);
  leave(expr.otherwise);
  if (!taken) return Value::none();
  Restore<int> inner(underTraining, underTraining + byTraining + byAdapting);
  Restore<int> adapts(underAdapting, underAdapting + byAdapting);
  return evalBlock(*taken);
}

// --- pipes and members ---------------------------------------------------------------------------

/// `x |> Dense(2) * 2`, where the product is what `x` goes into: the pipe was meant to come first.
static bool bindsTooLoosely(Elaborator &e, const Expr &stage, Span from) {
  if (stage.kind != ExprKind::Binary || e.isLibrary(stage.span)) return false;
  const Expr *first = &stage;
  while (first->kind == ExprKind::Binary) first = as<BinaryExpr>(*first).left;
  if (first->kind != ExprKind::Call && first->kind != ExprKind::Name) return false;
  Value f = e.eval(*first);
  if (f.kind != Kind::Function && f.kind != Kind::Instance) return f.isPoison();
  const Span rest{stage.span.file, first->span.end, stage.span.end};
  e.error(stage.span, Diag::NotCallable, {"`" + e.text(stage.span) + "`"})
      .help("`|>` binds loosest: `(" + e.text(join(from, first->span)) + ")" + e.text(rest) + "`");
  return true;
}

Value Elaborator::evalPipe(const PipeExpr &expr) {
  Value v = eval(*expr.first);
  Span from = expr.first->span;
  for (const Expr *stage : expr.stages) {
    Restore<Span> place(at, stage->span);
    if (bindsTooLoosely(*this, *stage, from)) return {};
    if (v.kind == Kind::Data && !v.data().columns.empty()) {
      v = dataStage(v, *stage);
    } else if (stage->kind == ExprKind::Call) {
      v = evalCall(as<CallExpr>(*stage), &v, from);
    } else {
      Value f = eval(*stage);
      if (f.isPoison() || v.isPoison()) {
        v = {};
      } else {
        GivenArg arg;
        arg.value = v;
        arg.span = from;
        GivenArgs args{arg};
        v = call(toCallable(f, stage->span, stage), std::move(args), stage->span, stage);
      }
    }
    record(stage->span, Recorder::What::Stage, v);
    from = join(from, stage->span);
  }
  return v;
}

Value Elaborator::evalMember(const MemberExpr &expr) {
  Value base = eval(*expr.base);
  std::string name(expr.name.text);
  std::vector<std::string> known;
  switch (base.kind) {
  case Kind::Poison: return base;
  case Kind::Tuple: {
    int i = base.tuple().find(name);
    if (i >= 0) return base.tuple().items[i];
    known = base.tuple().names;
    break;
  }
  case Kind::Module: {
    auto it = base.module->names.find(name);
    if (it != base.module->names.end()) return fileValue(*base.module, it->second, name);
    for (auto &[n, entry] : base.module->names) known.emplace_back(n);
    break;
  }
  case Kind::Instance: {
    const Instance &inst = *base.instance;
    if (Weight *w = inst.findWeight(name)) return pass ? readWeight(*w) : Value::of(w);
    if (Instance *child = inst.findChild(name)) return Value::of(child);
    static const std::vector<std::string> methods{
        "add", "compile", "fit", "evaluate", "predict", "summary", "save", "build", "call"};
    if (std::find(methods.begin(), methods.end(), name) != methods.end()) {
      error(expr.name.span, Diag::UnknownMember, {show(base), name})
          .help(name == "add"
                    ? "layers follow one another in a body: `x |> Dense(300) |> Dense(10)`"
                : name == "compile" || name == "fit"
                    ? "data, loss, optimizer and metrics stand in a `train` block"
                : name == "build" || name == "call"
                    ? "a layer is applied by `layer(x)` or `x |> layer`"
                    : "the compiled program does that: `./model " + name + "`");
      return {};
    }
    if (!everApplied.contains(&inst)) {
      auto &d = error(expr.span, Diag::ShapeNotKnown, {name, text(expr.base->span)});
      if (pass)
        d.help("`_ = " + text(expr.base->span) + "(x)` builds it");
      else
        d.help("bind it outside of the model: `" + name + " = ...` at the top of the file");
      return {};
    }
    for (Weight *w : inst.weights) known.push_back(w->name);
    for (Instance *child : inst.made) known.push_back(child->name);
    break;
  }
  default: break;
  }
  auto &e = error(expr.name.span, Diag::UnknownMember, {show(base), name});
  e.didYouMean(suggest(name, known));
  if (base.kind == Kind::Function && base.function().kind == FunctionKind::Decl)
    for (const Stmt *s : base.function().decl->body->stmts)
      if (s->kind == StmtKind::Bind)
        for (const Name &bound : as<BindStmt>(*s).names)
          if (bound.text == name) {
            const std::string owner(base.function().decl->name.text);
            e.help("what the body of `" + owner + "` makes is its own: write `" + name +
                   " = ...` at the top of the file, and use `" + name + "` in `" + owner + "`");
            return {};
          }
  if (base.isTensor()) {
    auto names = visibleNames();
    std::string call = name == "view" ? "reshape" : name;
    if (std::binary_search(names.begin(), names.end(), call))
      e.help("functions stand in front of what they are applied to: `" + call + "(" +
             text(expr.base->span) + (call == "shape" || call == "rank" ? ")`" : ", ...)`"));
    else if (name == "T")
      e.help("write `transpose(" + text(expr.base->span) + ")`");
  }
  return {};
}

} // namespace nnc::fe
