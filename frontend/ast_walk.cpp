#include "frontend/ast_walk.h"

namespace nnc::fe {

void AstWalker::top(const Top &t) {
  switch (t.kind) {
  case TopKind::Import: return;
  case TopKind::Bind: return stmt(*as<TopBind>(t).bind);
  case TopKind::Decl: {
    auto &d = as<Decl>(t);
    for (const ParamList *list : d.params) params(*list);
    maybe(d.result);
    block(*d.body);
    if (!d.gradient) return;
    params(*d.gradient->params);
    return block(*d.gradient->body);
  }
  case TopKind::Train: {
    auto &train = as<Train>(t);
    maybe(train.model);
    for (const TrainItem &item : train.items) expr(*item.value);
    if (!train.step) return;
    params(*train.step->params);
    return block(*train.step->body);
  }
  }
}

void AstWalker::params(const ParamList &list) {
  for (const Param &p : list.params) {
    maybe(p.type);
    maybe(p.initial);
  }
}

void AstWalker::block(const Block &b) {
  for (const Stmt *s : b.stmts) stmt(*s);
}

void AstWalker::stmt(const Stmt &s) {
  switch (s.kind) {
  case StmtKind::Param: {
    auto &p = as<ParamStmt>(s);
    maybe(p.type);
    maybe(p.init);
    for (const Option &o : p.options) expr(*o.value);
    return;
  }
  case StmtKind::For: expr(*as<ForStmt>(s).iterable); return block(*as<ForStmt>(s).body);
  case StmtKind::Yield:
    for (const Expr *e : as<YieldStmt>(s).values) expr(*e);
    return;
  case StmtKind::Report:
    for (const ReportItem &i : as<ReportStmt>(s).items) maybe(i.value);
    return;
  case StmtKind::Minimize: {
    auto &m = as<MinimizeStmt>(s);
    expr(*m.loss);
    for (const Expr *e : m.over) expr(*e);
    maybe(m.optimizer);
    return maybe(m.every);
  }
  case StmtKind::Bind:
    for (const Expr *e : as<BindStmt>(s).values) expr(*e);
    return;
  case StmtKind::Assign: expr(*as<AssignStmt>(s).target); return expr(*as<AssignStmt>(s).value);
  case StmtKind::Expr: return expr(*as<ExprStmt>(s).value);
  }
}

void AstWalker::expr(const Expr &e) {
  switch (e.kind) {
  case ExprKind::Name:
  case ExprKind::Int:
  case ExprKind::Float:
  case ExprKind::Bool:
  case ExprKind::String:
  case ExprKind::None: return;
  case ExprKind::List:
    for (const Item &i : as<ListExpr>(e).items) expr(*i.value);
    return;
  case ExprKind::Comprehension: {
    auto &c = as<ComprehensionExpr>(e);
    expr(*c.value);
    expr(*c.iterable);
    return maybe(c.condition);
  }
  case ExprKind::Tuple:
    for (const Arg &a : as<TupleExpr>(e).items) expr(*a.value);
    return;
  case ExprKind::Unary: return expr(*as<UnaryExpr>(e).operand);
  case ExprKind::Binary: expr(*as<BinaryExpr>(e).left); return expr(*as<BinaryExpr>(e).right);
  case ExprKind::Range: expr(*as<RangeExpr>(e).begin); return expr(*as<RangeExpr>(e).end);
  case ExprKind::Pipe:
    expr(*as<PipeExpr>(e).first);
    for (const Expr *stage : as<PipeExpr>(e).stages) expr(*stage);
    return;
  case ExprKind::Lambda: params(*as<LambdaExpr>(e).params); return block(*as<LambdaExpr>(e).body);
  case ExprKind::If:
    for (const IfArm &arm : as<IfExpr>(e).arms) {
      expr(*arm.condition);
      block(*arm.body);
    }
    if (as<IfExpr>(e).otherwise) block(*as<IfExpr>(e).otherwise);
    return;
  case ExprKind::Scan:
    for (const ScanBind &b : as<ScanExpr>(e).binds) {
      expr(*b.value);
      maybe(b.along);
    }
    return block(*as<ScanExpr>(e).body);
  case ExprKind::Call:
    expr(*as<CallExpr>(e).callee);
    for (const Arg &a : as<CallExpr>(e).args) expr(*a.value);
    return;
  case ExprKind::Index:
    expr(*as<IndexExpr>(e).base);
    for (const IndexItem &i : as<IndexExpr>(e).items)
      for (const Expr *part : {i.value, i.begin, i.end, i.step}) maybe(part);
    return;
  case ExprKind::Member: return expr(*as<MemberExpr>(e).base);
  }
}

void AstWalker::type(const TypeExpr &t) {
  switch (t.kind) {
  case TypeKind::Named:
  case TypeKind::Fn:
  case TypeKind::None:
  case TypeKind::String: return;
  case TypeKind::Tensor:
    for (const Item &dim : as<TensorType>(t).dims) expr(*dim.value);
    return;
  case TypeKind::List: return maybe(as<ListTypeExpr>(t).element);
  case TypeKind::Tuple:
    for (const TypeField &f : as<TupleType>(t).fields) type(*f.type);
    return;
  case TypeKind::Union:
    for (const TypeExpr *a : as<UnionType>(t).alternatives) type(*a);
    return;
  }
}

} // namespace nnc::fe
