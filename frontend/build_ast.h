// Parse tree -> syntax tree; part of parse.cpp, which alone includes it.
//
//   sum(prod(2 * x), '+', prod(1))   ->   Binary Add (Binary Mul 2 x) 1
//
// One function per grammar rule, named after it. The tree drops what only helped the parser (the
// ladder of precedence, parentheses, commas) and checks what the grammar leaves open because the
// parser would say it badly: names before `=`, tuples half with names, chains of comparisons.
#pragma once

#include "frontend/ast.h"
#include "frontend/diagnostics.h"

#include "NNParser.h"

#include <charconv>

namespace nnc::fe {

class AstBuilder {
  using P = grammar::NNParser;
  using Context = antlr4::ParserRuleContext;
  using Terminal = antlr4::tree::TerminalNode;

 public:
  AstBuilder(const Sources &sources, uint32_t file, Diagnostics &diags, File &out)
      : sources_(sources), file_(file), diags_(diags), out_(out) {}

  /// The top-level items of one piece; none if one of its expressions is too high to walk.
  std::vector<Top *> build(P::FileContext *file) {
    std::vector<Top *> tops;
    for (auto *ctx : file->top())
      if (Top *top = buildTop(ctx)) tops.push_back(top);
    return tooHigh_ ? std::vector<Top *>() : tops;
  }

  const Expr *buildExpr(P::ExprContext *ctx) {
    const Expr *e = expr(ctx);
    return tooHigh_ || diags_.hasErrors() ? nullptr : e;
  }

 private:
  // --- places and nodes --------------------------------------------------------------------------

  Span span(const antlr4::Token *first, const antlr4::Token *last) const {
    return {file_, uint32_t(first->getStartIndex()), uint32_t(last->getStopIndex() + 1)};
  }
  Span span(Context *ctx) const { return span(ctx->getStart(), ctx->getStop()); }
  Span span(Terminal *node) const { return span(node->getSymbol(), node->getSymbol()); }
  std::string_view text(Span at) const { return sources_.text(at); }
  template <class Node> std::string_view text(Node *node) const { return text(span(node)); }

  static size_t typeOf(antlr4::tree::ParseTree *tree) {
    auto *terminal = dynamic_cast<Terminal *>(tree);
    return terminal ? terminal->getSymbol()->getType() : 0;
  }

  template <class T> T *make(Span at) {
    T *node = out_.make<T>();
    node->span = at;
    return node;
  }

  /// Records that `child` is below `parent`, and reports trees too high for a recursive walk.
  template <class Parent, class Child> void under(Parent *parent, const Child *child) {
    if (!child) return;
    parent->height = std::max(parent->height, child->height + 1);
    if (parent->height <= kMaxExprHeight || tooHigh_) return;
    tooHigh_ = true;
    diags_.report(child->span, Diag::ExpressionTooDeep, {std::to_string(kMaxExprHeight)});
  }

  Name name(P::NameContext *ctx) const { return {text(ctx), span(ctx)}; }
  std::vector<Name> names(const std::vector<P::NameContext *> &list) const {
    std::vector<Name> out;
    for (auto *ctx : list) out.push_back(name(ctx));
    return out;
  }

  // --- declarations ------------------------------------------------------------------------------

  Top *buildTop(P::TopContext *ctx) {
    if (auto *import = ctx->importDecl()) return importDecl(import);
    if (auto *d = ctx->decl()) return decl(d);
    if (auto *train = ctx->trainDecl()) return trainDecl(train);
    TopBind *top = make<TopBind>(span(ctx));
    top->bind = binding(ctx->binding());
    return top;
  }

  Top *importDecl(P::ImportDeclContext *ctx) {
    Import *import = make<Import>(span(ctx));
    import->path = unquote(span(ctx->STRING()));
    import->pathSpan = span(ctx->STRING());
    if (ctx->name()) import->alias = name(ctx->name());
    return import;
  }

  static DeclKind declKind(size_t token) {
    switch (token) {
    case P::LAYER: return DeclKind::Layer;
    case P::MODEL: return DeclKind::Model;
    case P::OPTIMIZER: return DeclKind::Optimizer;
    case P::METRIC: return DeclKind::Metric;
    default: return DeclKind::Fn;
    }
  }

  Top *decl(P::DeclContext *ctx) {
    Decl *decl = make<Decl>(span(ctx));
    decl->declKind = declKind(ctx->declKw()->getStart()->getType());
    decl->name = name(ctx->name());
    for (auto *list : ctx->params()) decl->params.push_back(params(list));
    if (ctx->type()) decl->result = type(ctx->type());
    auto *body = ctx->body();
    decl->body = body->expr() ? exprBlock(body->expr()) : block(body->block());
    if (auto *rule = body->gradRule()) {
      auto *gradient = make<GradientRule>(span(rule));
      gradient->params = params(rule->params());
      gradient->body = block(rule->block());
      decl->gradient = gradient;
    }
    return decl;
  }

  ParamList *params(P::ParamsContext *ctx) {
    ParamList *list = make<ParamList>(span(ctx));
    for (auto *p : ctx->param()) {
      Param param{name(p->name()), nullptr, nullptr, span(p)};
      if (p->type()) param.type = type(p->type());
      if (p->expr()) param.initial = expr(p->expr());
      list->params.push_back(param);
    }
    return list;
  }

  Top *trainDecl(P::TrainDeclContext *ctx) {
    Train *train = make<Train>(span(ctx));
    if (ctx->expr()) train->model = expr(ctx->expr());
    for (auto *item : ctx->trainItem()) {
      if (item->name()) {
        train->items.push_back({name(item->name()), expr(item->expr())});
        continue;
      }
      Step *step = make<Step>(span(item));
      step->params = params(item->params());
      step->body = block(item->block());
      Span word = span(item->getStart(), item->getStart());
      if (train->step)
        diags_.report(word, Diag::RepeatedStep).label(train->step->span, "the first one");
      else
        train->step = step;
    }
    return train;
  }

  BindStmt *binding(P::BindingContext *ctx) {
    BindStmt *bind = make<BindStmt>(span(ctx));
    bind->names = names(ctx->name());
    for (auto *e : ctx->expr()) bind->values.push_back(expr(e));
    return checkedBind(bind);
  }

  BindStmt *checkedBind(BindStmt *bind) {
    for (const Expr *value : bind->values) under(bind, value);
    size_t names = bind->names.size(), values = bind->values.size();
    if (values == 1 || names == values) return bind;
    auto plural = [](size_t n, const char *noun) {
      return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
    };
    auto &report = diags_.report(bind->span, Diag::BindCount,
                                 {plural(names, "name"), plural(values, "value")});
    if (names == 1) report.help("a tuple stands in parentheses: `(a, b)`");
    return bind;
  }

  // --- types -------------------------------------------------------------------------------------

  const TypeExpr *type(P::TypeContext *ctx) {
    std::vector<const TypeExpr *> alternatives;
    for (auto *a : ctx->atype()) alternatives.push_back(atype(a));
    return unionOf(std::move(alternatives), span(ctx));
  }

  const TypeExpr *unionOf(std::vector<const TypeExpr *> alternatives, Span at) {
    if (alternatives.size() == 1) return alternatives[0];
    UnionType *node = make<UnionType>(at);
    for (const TypeExpr *a : alternatives) {
      // A union in parentheses is its alternatives.
      if (a->kind == TypeKind::Union)
        for (const TypeExpr *inner : as<UnionType>(*a).alternatives) addAlternative(node, inner);
      else
        addAlternative(node, a);
    }
    return node;
  }

  void addAlternative(UnionType *node, const TypeExpr *a) {
    node->alternatives.push_back(a);
    under(node, a);
  }

  const TypeExpr *atype(P::AtypeContext *ctx) {
    if (ctx->dims() && ctx->path() && text(ctx->path()) == "list") return listType(ctx);
    if (ctx->dims()) return tensorType(ctx);
    if (ctx->path()) {
      NamedType *node = make<NamedType>(span(ctx));
      node->path = path(ctx->path());
      return node;
    }
    if (ctx->STRING()) {
      StringType *node = make<StringType>(span(ctx));
      node->value = unquote(span(ctx->STRING()));
      return node;
    }
    if (!ctx->tfield().empty()) return tupleType(ctx);
    if (ctx->NONE()) return make<NoneType>(span(ctx));
    return make<FnType>(span(ctx));
  }

  Path path(P::PathContext *ctx) const { return {names(ctx->name()), span(ctx)}; }

  const TypeExpr *tensorType(P::AtypeContext *ctx) {
    TensorType *node = make<TensorType>(span(ctx));
    if (ctx->path()) node->element = path(ctx->path());
    for (auto *t : ctx->dims()->titem()) {
      if (!t->item() || !t->atype().empty()) {
        diags_.report(span(t), Diag::TypeSpread);
        continue;
      }
      Item dim = item(t->item());
      node->dims.push_back(dim);
      under(node, dim.value);
    }
    return node;
  }

  const TypeExpr *listType(P::AtypeContext *ctx) {
    ListTypeExpr *node = make<ListTypeExpr>(span(ctx));
    auto items = ctx->dims()->titem();
    if (items.size() != 1) {
      diags_.report(span(ctx->dims()), Diag::ListType);
      node->element = make<NoneType>(span(ctx->dims()));
      return node;
    }
    std::vector<const TypeExpr *> alternatives;
    auto *first = items[0];
    if (first->item())
      alternatives.push_back(typeOfExpr(expr(first->item()->expr())));
    else
      alternatives.push_back(make<FnType>(span(first->FN())));
    for (auto *a : first->atype()) alternatives.push_back(atype(a));
    node->element = unionOf(std::move(alternatives), span(first));
    under(node, node->element);
    return node;
  }

  /// The element of `list[…]` was read as an expression: `int`, `f32[n]`, `list[int]`, `b.Block`.
  const TypeExpr *typeOfExpr(const Expr *e) {
    if (e->kind == ExprKind::None) return make<NoneType>(e->span);
    if (e->kind == ExprKind::String) {
      StringType *node = make<StringType>(e->span);
      node->value = as<StringExpr>(*e).value;
      return node;
    }
    if (e->kind == ExprKind::Index) return typeOfIndex(as<IndexExpr>(*e));
    NamedType *node = make<NamedType>(e->span);
    if (!pathOfExpr(e, node->path)) diags_.report(e->span, Diag::NotAType);
    return node;
  }

  bool pathOfExpr(const Expr *e, Path &path) {
    path.span = e->span;
    for (; e->kind == ExprKind::Member; e = as<MemberExpr>(*e).base)
      path.parts.insert(path.parts.begin(), as<MemberExpr>(*e).name);
    Name first{e->kind == ExprKind::Name ? as<NameExpr>(*e).name : "", e->span};
    path.parts.insert(path.parts.begin(), first);
    return e->kind == ExprKind::Name;
  }

  const TypeExpr *typeOfIndex(const IndexExpr &e) {
    Path element;
    bool ok = pathOfExpr(e.base, element);
    std::vector<Item> dims;
    for (const IndexItem &item : e.items) {
      ok = ok && item.kind == IndexKind::Value;
      dims.push_back({false, item.value});
    }
    if (ok && text(element.span) == "list" && dims.size() == 1) {
      ListTypeExpr *node = make<ListTypeExpr>(e.span);
      node->element = typeOfExpr(dims[0].value);
      under(node, node->element);
      return node;
    }
    if (!ok) diags_.report(e.span, Diag::NotAType);
    TensorType *node = make<TensorType>(e.span);
    node->element = element;
    if (ok) node->dims = dims;
    for (const Item &dim : node->dims) under(node, dim.value);
    return node;
  }

  const TypeExpr *tupleType(P::AtypeContext *ctx) {
    auto fields = ctx->tfield();
    bool comma = typeOf(ctx->children[ctx->children.size() - 2]) == P::COMMA;
    if (fields.size() == 1 && fields[0]->type().size() == 1 && !comma)
      return type(fields[0]->type(0)); // parentheses
    TupleType *node = make<TupleType>(span(ctx));
    for (auto *f : fields) {
      TypeField field;
      field.type = type(f->type().back());
      if (f->type().size() == 2) field.name = fieldName(f->type(0));
      node->fields.push_back(field);
      under(node, field.type);
    }
    for (const TypeField &field : node->fields)
      if (field.name.has_value() != node->fields[0].name.has_value()) {
        diags_.report(node->span, Diag::MixedTuple);
        break;
      }
    return node;
  }

  Name fieldName(P::TypeContext *ctx) {
    const TypeExpr *t = type(ctx);
    if (t->kind == TypeKind::Named && as<NamedType>(*t).path.parts.size() == 1)
      return as<NamedType>(*t).path.parts[0];
    diags_.report(span(ctx), Diag::ExpectedFound, {"a name before `:`", shown(span(ctx))});
    return {text(ctx), span(ctx)};
  }

  // --- statements --------------------------------------------------------------------------------

  Block *block(P::BlockContext *ctx) {
    Block *node = make<Block>(span(ctx));
    for (auto *s : ctx->stmt()) {
      const Stmt *child = stmt(s);
      node->stmts.push_back(child);
      under(node, child);
    }
    return node;
  }

  Block *exprBlock(P::ExprContext *ctx) {
    Block *node = make<Block>(span(ctx));
    node->braces = false;
    ExprStmt *value = make<ExprStmt>(span(ctx));
    value->value = expr(ctx);
    under(value, value->value);
    under(node, value);
    node->stmts.push_back(value);
    return node;
  }

  const Stmt *stmt(P::StmtContext *ctx) {
    if (auto *s = ctx->paramStmt()) return paramStmt(s);
    if (auto *s = ctx->forStmt()) return forStmt(s);
    if (auto *s = ctx->yieldStmt()) return yieldStmt(s);
    if (auto *s = ctx->reportStmt()) return reportStmt(s);
    if (auto *s = ctx->minimizeStmt()) return minimizeStmt(s);
    return simpleStmt(ctx->simpleStmt());
  }

  const Stmt *paramStmt(P::ParamStmtContext *ctx) {
    ParamStmt *node = make<ParamStmt>(span(ctx));
    node->isState = ctx->STATE() != nullptr;
    node->name = name(ctx->name());
    if (ctx->type()) node->type = type(ctx->type());
    node->init = expr(ctx->expr());
    under(node, node->type);
    under(node, node->init);
    for (auto *o : ctx->option()) {
      node->options.push_back({name(o->name()), expr(o->expr())});
      under(node, node->options.back().value);
    }
    return node;
  }

  const Stmt *forStmt(P::ForStmtContext *ctx) {
    ForStmt *node = make<ForStmt>(span(ctx));
    node->names = names(ctx->name());
    node->iterable = expr(ctx->expr());
    node->body = block(ctx->block());
    under(node, node->iterable);
    under(node, node->body);
    return node;
  }

  const Stmt *yieldStmt(P::YieldStmtContext *ctx) {
    YieldStmt *node = make<YieldStmt>(span(ctx));
    for (auto *e : ctx->expr()) {
      node->values.push_back(expr(e));
      under(node, node->values.back());
    }
    return node;
  }

  const Stmt *reportStmt(P::ReportStmtContext *ctx) {
    ReportStmt *node = make<ReportStmt>(span(ctx));
    for (auto *r : ctx->reportItem()) {
      node->items.push_back({name(r->name()), r->expr() ? expr(r->expr()) : nullptr});
      under(node, node->items.back().value);
    }
    return node;
  }

  const Stmt *minimizeStmt(P::MinimizeStmtContext *ctx) {
    MinimizeStmt *node = make<MinimizeStmt>(span(ctx));
    // minimize e0 over e1, e2 with e3 every e4
    auto parts = ctx->expr();
    size_t over = parts.size() - (ctx->EVERY() ? 3 : 2);
    for (auto *ctxPart : parts) {
      const Expr *part = expr(ctxPart);
      under(node, part);
      size_t i = node->loss ? 1 + node->over.size() : 0;
      if (i == 0)
        node->loss = part;
      else if (i <= over)
        node->over.push_back(part);
      else
        (node->optimizer ? node->every : node->optimizer) = part;
    }
    return node;
  }

  const Stmt *simpleStmt(P::SimpleStmtContext *ctx) {
    std::vector<const Expr *> left, right;
    for (auto *child : ctx->children)
      if (auto *e = dynamic_cast<P::ExprContext *>(child))
        (ctx->ASSIGN() && child->getSourceInterval().a > assignIndex(ctx) ? right : left)
            .push_back(expr(e));
    if (ctx->ASSIGN()) return bindStmt(ctx, left, std::move(right));
    if (!ctx->STORE()) {
      ExprStmt *node = make<ExprStmt>(span(ctx));
      node->value = left[0];
      under(node, node->value);
      return node;
    }
    AssignStmt *node = make<AssignStmt>(span(ctx));
    node->target = left[0];
    node->value = left[1];
    under(node, node->target);
    under(node, node->value);
    return node;
  }

  static ssize_t assignIndex(P::SimpleStmtContext *ctx) {
    return ssize_t(ctx->ASSIGN()->getSymbol()->getTokenIndex());
  }

  const Stmt *bindStmt(P::SimpleStmtContext *ctx, const std::vector<const Expr *> &targets,
                       std::vector<const Expr *> values) {
    BindStmt *node = make<BindStmt>(span(ctx));
    node->values = std::move(values);
    for (const Expr *target : targets)
      if (target->kind == ExprKind::Name)
        node->names.push_back({as<NameExpr>(*target).name, target->span});
      else
        badTarget(*target);
    return node->names.size() == targets.size() ? checkedBind(node) : node;
  }

  void badTarget(const Expr &target) {
    auto &report = diags_.report(target.span, Diag::BadTarget, {shown(target.span)});
    bool isSelf = text(target.span).starts_with("self.");
    if (isSelf)
      report.help("there is no `self`: write `" + std::string(text(target.span).substr(5)) +
                  " = ...`");
    if (target.kind == ExprKind::Member && !isSelf) report.help("a state is written by `<-`");
    if (target.kind == ExprKind::Index) report.help("values do not change, bind a new one");
    if (target.kind == ExprKind::Tuple) report.help("write `a, b = ...` without parentheses");
  }

  std::string shown(Span at) const {
    std::string_view t = text(at);
    size_t end = std::min({t.find('\n'), size_t(40), t.size()});
    while (end < t.size() && end > 0 && (t[end] & 0xC0) == 0x80) --end; // whole characters
    return "`" + std::string(t.substr(0, end)) + (end < t.size() ? "..." : "") + "`";
  }

  // --- expressions -------------------------------------------------------------------------------

  const Expr *expr(P::ExprContext *ctx) {
    if (ctx->lambda()) return lambda(ctx->lambda());
    auto parts = ctx->orE();
    const Expr *first = orE(parts[0]);
    if (parts.size() == 1) return first;
    PipeExpr *node = make<PipeExpr>(span(ctx));
    node->first = first;
    under(node, first);
    for (size_t i = 1; i < parts.size(); ++i) {
      node->stages.push_back(orE(parts[i]));
      under(node, node->stages.back());
    }
    return node;
  }

  const Expr *lambda(P::LambdaContext *ctx) {
    LambdaExpr *node = make<LambdaExpr>(span(ctx));
    node->params = params(ctx->params());
    for (const Param &p : node->params->params) {
      under(node, p.type);
      under(node, p.initial);
    }
    node->body = ctx->expr() ? exprBlock(ctx->expr()) : block(ctx->block());
    under(node, node->body);
    return node;
  }

  const Expr *binary(BinaryOp op, Span opSpan, const Expr *left, const Expr *right) {
    if (tooHigh_) return left; // a chain that is too long stops growing
    BinaryExpr *node = make<BinaryExpr>(join(left->span, right->span));
    node->op = op;
    node->opSpan = opSpan;
    node->left = left;
    node->right = right;
    under(node, left);
    under(node, right);
    return node;
  }

  const Expr *unary(UnaryOp op, Terminal *sign, const Expr *operand) {
    if (tooHigh_) return operand;
    UnaryExpr *node = make<UnaryExpr>(join(span(sign), operand->span));
    node->op = op;
    node->operand = operand;
    under(node, operand);
    return node;
  }

  static BinaryOp binaryOp(size_t token) {
    switch (token) {
    case P::OR: return BinaryOp::Or;
    case P::AND: return BinaryOp::And;
    case P::LT: return BinaryOp::Less;
    case P::LE: return BinaryOp::LessEqual;
    case P::GT: return BinaryOp::Greater;
    case P::GE: return BinaryOp::GreaterEqual;
    case P::EQ: return BinaryOp::Equal;
    case P::NE: return BinaryOp::NotEqual;
    case P::PLUS: return BinaryOp::Add;
    case P::MINUS: return BinaryOp::Sub;
    case P::STAR: return BinaryOp::Mul;
    case P::SLASH: return BinaryOp::Div;
    case P::SLASHSLASH: return BinaryOp::FloorDiv;
    case P::PERCENT: return BinaryOp::Mod;
    case P::AT: return BinaryOp::MatMul;
    default: return BinaryOp::Pow;
    }
  }

  /// operand (op operand)*, leaning left. `next` builds an operand.
  template <class Operand, class Next> const Expr *chain(Context *ctx, Next next) {
    auto &children = ctx->children;
    const Expr *left = next(static_cast<Operand *>(children[0]));
    for (size_t i = 1; i + 1 < children.size(); i += 2) {
      auto *op = static_cast<Terminal *>(children[i]);
      const Expr *right = next(static_cast<Operand *>(children[i + 1]));
      left = binary(binaryOp(op->getSymbol()->getType()), span(op), left, right);
    }
    return left;
  }

  const Expr *orE(P::OrEContext *ctx) {
    return chain<P::AndEContext>(ctx, [&](auto *c) { return andE(c); });
  }
  const Expr *andE(P::AndEContext *ctx) {
    return chain<P::NotEContext>(ctx, [&](auto *c) { return notE(c); });
  }

  const Expr *notE(P::NotEContext *ctx) {
    const Expr *e = cmp(ctx->cmp());
    auto nots = ctx->NOT();
    for (size_t i = nots.size(); i-- > 0;) e = unary(UnaryOp::Not, nots[i], e);
    return e;
  }

  const Expr *cmp(P::CmpContext *ctx) {
    if (ctx->children.size() > 3)
      diags_.report(span(static_cast<Terminal *>(ctx->children[3])), Diag::ChainedComparison)
          .help("write `a < b and b < c`");
    return chain<P::RangeEContext>(ctx, [&](auto *c) { return rangeE(c); });
  }

  const Expr *rangeE(P::RangeEContext *ctx) {
    auto sums = ctx->sum();
    const Expr *begin = sum(sums[0]);
    if (sums.size() == 1) return begin;
    RangeExpr *node = make<RangeExpr>(span(ctx));
    node->begin = begin;
    node->end = sum(sums[1]);
    under(node, node->begin);
    under(node, node->end);
    return node;
  }

  const Expr *sum(P::SumContext *ctx) {
    return chain<P::ProdContext>(ctx, [&](auto *c) { return prod(c); });
  }
  const Expr *prod(P::ProdContext *ctx) {
    return chain<P::UnaryContext>(ctx, [&](auto *c) { return unaryE(c); });
  }

  const Expr *unaryE(P::UnaryContext *ctx) { return negated(ctx->MINUS(), power(ctx->power())); }

  const Expr *negated(const std::vector<Terminal *> &signs, const Expr *e) {
    for (size_t i = signs.size(); i-- > 0;) e = unary(UnaryOp::Neg, signs[i], e);
    return e;
  }

  /// a ** -b ** c is a ** (-(b ** c)): from the right, each sign over all that follows.
  const Expr *power(P::PowerContext *ctx) {
    auto exponents = ctx->exponent();
    auto operators = ctx->STARSTAR();
    const Expr *e = nullptr;
    for (size_t i = exponents.size(); i-- > 0;) {
      const Expr *base = post(exponents[i]->post());
      if (e) base = binary(BinaryOp::Pow, span(operators[i + 1]), base, e);
      e = negated(exponents[i]->MINUS(), base);
    }
    const Expr *base = post(ctx->post());
    return e ? binary(BinaryOp::Pow, span(operators[0]), base, e) : base;
  }

  const Expr *post(P::PostContext *ctx) {
    const Expr *e = atom(ctx->atom());
    for (auto *t : ctx->trailer()) {
      if (tooHigh_) break;
      Span at = join(e->span, span(t));
      if (t->call())
        e = call(e, t->call(), at);
      else if (t->indices())
        e = indices(e, t->indices(), at);
      else
        e = member(e, t->name(), at);
    }
    return e;
  }

  const Expr *call(const Expr *callee, P::CallContext *ctx, Span at) {
    CallExpr *node = make<CallExpr>(at);
    node->callee = callee;
    node->argsSpan = span(ctx);
    under(node, callee);
    for (auto *a : ctx->arg()) {
      node->args.push_back(arg(a));
      under(node, node->args.back().value);
    }
    return node;
  }

  Arg arg(P::ArgContext *ctx) {
    auto parts = ctx->expr();
    Arg out{std::nullopt, ctx->DOTDOT() != nullptr, expr(parts.back()), span(ctx)};
    if (parts.size() == 1) return out;
    const Expr *left = expr(parts[0]);
    if (left->kind == ExprKind::Name)
      out.name = Name{as<NameExpr>(*left).name, left->span};
    else
      diags_.report(left->span, Diag::BadTarget, {shown(left->span)}).help("`==` compares");
    return out;
  }

  const Expr *indices(const Expr *base, P::IndicesContext *ctx, Span at) {
    IndexExpr *node = make<IndexExpr>(at);
    node->base = base;
    under(node, base);
    for (auto *i : ctx->index()) {
      IndexItem item = index(i);
      for (const Expr *e : {item.value, item.begin, item.end, item.step}) under(node, e);
      node->items.push_back(item);
    }
    return node;
  }

  IndexItem index(P::IndexContext *ctx) {
    IndexItem out;
    out.span = span(ctx);
    const Expr *first = ctx->expr() ? expr(ctx->expr()) : nullptr;
    if (ctx->ELLIPSIS()) {
      out.kind = IndexKind::Ellipsis;
    } else if (auto *slice = ctx->slice()) {
      out.kind = IndexKind::Slice;
      out.begin = first;
      bool behindSecond = false; // `:` end `:` step
      for (size_t i = 1; i < slice->children.size(); ++i) {
        if (typeOf(slice->children[i]) == P::COLON)
          behindSecond = true;
        else
          (behindSecond ? out.step : out.end) =
              expr(static_cast<P::ExprContext *>(slice->children[i]));
      }
    } else {
      out.kind = IndexKind::Value;
      out.value = first;
    }
    return out;
  }

  const Expr *member(const Expr *base, P::NameContext *ctx, Span at) {
    MemberExpr *node = make<MemberExpr>(at);
    node->base = base;
    node->name = name(ctx);
    under(node, base);
    return node;
  }

  const Expr *atom(P::AtomContext *ctx) {
    if (ctx->ifE()) return ifE(ctx->ifE());
    if (ctx->scanE()) return scanE(ctx->scanE());
    if (ctx->list()) return list(ctx->list());
    if (ctx->tuple()) return tuple(ctx->tuple());
    if (ctx->name()) return nameExpr(ctx->name());
    return literal(ctx->getStart());
  }

  const Expr *nameExpr(P::NameContext *ctx) {
    NameExpr *node = make<NameExpr>(span(ctx));
    node->name = text(ctx);
    return node;
  }

  const Expr *literal(const antlr4::Token *token) {
    Span at = span(token, token);
    switch (token->getType()) {
    case P::INT: return intLiteral(at);
    case P::FLOAT: return floatLiteral(at);
    case P::NONE: return make<NoneExpr>(at);
    case P::STRING: {
      StringExpr *node = make<StringExpr>(at);
      node->value = unquote(at);
      return node;
    }
    default: {
      BoolExpr *node = make<BoolExpr>(at);
      node->value = token->getType() == P::TRUE;
      return node;
    }
    }
  }

  const Expr *intLiteral(Span at) {
    IntExpr *node = make<IntExpr>(at);
    std::string digits(text(at));
    std::erase(digits, '_');
    auto end = digits.data() + digits.size();
    if (std::from_chars(digits.data(), end, node->value).ec != std::errc())
      diags_.report(at, Diag::IntTooLarge, {std::string(shown(at), 1, shown(at).size() - 2)});
    return node;
  }

  const Expr *floatLiteral(Span at) {
    FloatExpr *node = make<FloatExpr>(at);
    std::string_view digits = text(at);
    auto result = std::from_chars(digits.data(), digits.data() + digits.size(), node->value);
    if (result.ec != std::errc())
      diags_.report(at, Diag::FloatTooLarge, {std::string(shown(at), 1, shown(at).size() - 2)});
    return node;
  }

  std::string unquote(Span at) {
    std::string_view t = text(at);
    std::string out;
    for (size_t i = 1; i + 1 < t.size(); ++i) {
      if (t[i] != '\\') {
        out += t[i];
        continue;
      }
      switch (t[++i]) {
      case 'n': out += '\n'; break;
      case 't': out += '\t'; break;
      case 'r': out += '\r'; break;
      case '"': out += '"'; break;
      case '\\': out += '\\'; break;
      default: unknownEscape(at, i); break;
      }
    }
    return out;
  }

  void unknownEscape(Span at, size_t i) {
    uint32_t begin = at.begin + uint32_t(i) - 1, end = begin + 2;
    while (end < at.end && (sources_.text(file_)[end] & 0xC0) == 0x80) ++end;
    Span escape{file_, begin, end};
    diags_.report(escape, Diag::UnknownEscape, {std::string(text(escape))})
        .help("known are `\\n`, `\\t`, `\\r`, `\\\"` and `\\\\`");
  }

  const Expr *ifE(P::IfEContext *ctx) {
    IfExpr *node = make<IfExpr>(span(ctx));
    auto conditions = ctx->expr();
    auto blocks = ctx->block();
    for (size_t i = 0; i < conditions.size(); ++i) {
      node->arms.push_back({expr(conditions[i]), block(blocks[i])});
      under(node, node->arms[i].condition);
      under(node, node->arms[i].body);
    }
    if (blocks.size() > conditions.size()) node->otherwise = block(blocks.back());
    under(node, node->otherwise);
    return node;
  }

  const Expr *scanE(P::ScanEContext *ctx) {
    ScanExpr *node = make<ScanExpr>(span(ctx));
    for (auto *b : ctx->scanBind()) {
      ScanBind bind{name(b->name()), b->ASSIGN() != nullptr, expr(b->expr()), nullptr, span(b)};
      if (b->axis()) bind.along = axis(b->axis());
      under(node, bind.value);
      under(node, bind.along);
      node->binds.push_back(bind);
    }
    node->body = block(ctx->block());
    under(node, node->body);
    return node;
  }

  const Expr *axis(P::AxisContext *ctx) {
    if (ctx->name()) return nameExpr(ctx->name());
    const Expr *value = intLiteral(span(ctx->INT()));
    if (!ctx->MINUS()) return value;
    IntExpr *node = make<IntExpr>(span(ctx));
    node->value = -as<IntExpr>(*value).value;
    return node;
  }

  const Expr *list(P::ListContext *ctx) {
    auto items = ctx->item();
    if (auto *c = ctx->comprehension()) return comprehension(item(items[0]), c, span(ctx));
    ListExpr *node = make<ListExpr>(span(ctx));
    for (auto *i : items) {
      node->items.push_back(item(i));
      under(node, node->items.back().value);
    }
    return node;
  }

  const Expr *comprehension(Item item, P::ComprehensionContext *ctx, Span at) {
    if (item.spread)
      diags_.report(item.value->span, Diag::ExpectedFound,
                    {"one value per round of the comprehension", "`..`"});
    ComprehensionExpr *node = make<ComprehensionExpr>(at);
    auto parts = ctx->expr();
    node->value = item.value;
    node->names = names(ctx->name());
    node->iterable = expr(parts[0]);
    if (parts.size() > 1) node->condition = expr(parts[1]);
    for (const Expr *e : {node->value, node->iterable, node->condition}) under(node, e);
    return node;
  }

  Item item(P::ItemContext *ctx) { return {ctx->DOTDOT() != nullptr, expr(ctx->expr())}; }

  const Expr *tuple(P::TupleContext *ctx) {
    std::vector<Arg> items;
    for (auto *a : ctx->arg()) items.push_back(arg(a));
    bool comma = typeOf(ctx->children[ctx->children.size() - 2]) == P::COMMA;
    bool plain = items.size() == 1 && !items[0].name && !items[0].spread;
    if (plain && !comma) return items[0].value; // parentheses
    TupleExpr *node = make<TupleExpr>(span(ctx));
    bool unnamed = false;
    for (const Arg &a : items) {
      (a.name ? node->named : unnamed) |= !a.spread;
      under(node, a.value);
    }
    if (node->named && unnamed) diags_.report(node->span, Diag::MixedTuple);
    node->items = std::move(items);
    return node;
  }

  const Sources &sources_;
  uint32_t file_;
  Diagnostics &diags_;
  File &out_;
  bool tooHigh_ = false;
};

} // namespace nnc::fe
