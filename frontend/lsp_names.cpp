// Two walks in one: definitions are entered into their scope as they are met, uses are kept aside
// and looked up when all definitions are known, so that the order of the text does not matter.
#include "frontend/lsp_names.h"

#include "frontend/ast_walk.h"

#include <algorithm>
#include <utility>

namespace nnc::fe::lsp {

struct NamesBuilder : AstWalker {
  Names &out;
  Scope *scope = nullptr;
  struct Use {
    Name name;
    Scope *scope;
    bool definesSize; // in the type of a parameter: a name if nothing else has it
  };
  std::vector<Use> uses;
  struct Argument { // `f(units = 3)`: the parameter of what `f` is
    Name name;
    std::string callee;
    Scope *scope;
  };
  std::vector<Argument> arguments;
  struct Column { // `csv(..., x = ...)` in `train M`: the input of M
    Name name;
    std::string model;
  };
  std::vector<Column> columns;
  const Decl *decl = nullptr;
  const Train *train = nullptr;
  bool sizes = false;

  explicit NamesBuilder(Names &n) : out(n) {}

  Symbol *define(const Name &name, Symbol::Kind kind) {
    if (name.text == "_" || name.text.empty()) return nullptr;
    auto [it, isNew] = scope->names.try_emplace(std::string(name.text), nullptr);
    if (isNew) {
      Symbol &s = out.symbols_.emplace_back();
      s.name = std::string(name.text);
      s.kind = kind;
      s.definition = name.span;
      s.scope = scope;
      s.decl = decl;
      it->second = &s;
    }
    it->second->uses.push_back(name.span);
    return it->second;
  }

  template <class F> void within(Span span, F f) {
    Scope &inner = out.scopes_.emplace_back();
    inner.parent = scope;
    inner.span = span;
    Scope *saved = std::exchange(scope, &inner);
    f();
    scope = saved;
  }

  void run(const File &file) {
    Scope &top = out.scopes_.emplace_back();
    top.span = {file.file, 0, UINT32_MAX};
    scope = &top;
    for (const Top *t : file.tops) { // visible everywhere
      if (t->kind == TopKind::Decl) {
        decl = &as<Decl>(*t);
        define(decl->name, Symbol::Declaration);
        decl = nullptr;
      } else if (t->kind == TopKind::Import) {
        out.imports_.push_back(&as<Import>(*t));
        if (as<Import>(*t).alias)
          if (Symbol *s = define(*as<Import>(*t).alias, Symbol::Alias)) s->import = &as<Import>(*t);
      } else if (t->kind == TopKind::Bind) {
        for (const Name &n : as<TopBind>(*t).bind->names) define(n, Symbol::Binding);
      }
    }
    AstWalker::file(file);
  }

  // --- walking

  void top(const Top &t) override {
    switch (t.kind) {
    case TopKind::Import: return;
    case TopKind::Bind:
      for (const Expr *e : as<TopBind>(t).bind->values) expr(*e);
      return;
    case TopKind::Decl:
      decl = &as<Decl>(t);
      within(t.span, [&] {
        for (const ParamList *list : decl->params) params(*list);
        if (decl->result) type(*decl->result);
        block(*decl->body);
        if (decl->gradient)
          within(decl->gradient->span, [&] {
            params(*decl->gradient->params);
            block(*decl->gradient->body);
          });
      });
      decl = nullptr;
      return;
    case TopKind::Train:
      train = &as<Train>(t);
      if (train->model) expr(*train->model);
      for (const TrainItem &item : train->items) expr(*item.value);
      if (train->step)
        within(train->step->span, [&] {
          params(*train->step->params);
          block(*train->step->body);
        });
      train = nullptr;
      return;
    }
  }

  void params(const ParamList &list) override {
    for (const Param &p : list.params) define(p.name, Symbol::Param);
    for (const Param &p : list.params) {
      bool saved = std::exchange(sizes, true);
      maybe(p.type);
      sizes = saved;
      maybe(p.initial);
    }
  }

  void type(const TypeExpr &t) override {
    if (t.kind == TypeKind::Named) return path(as<NamedType>(t).path);
    if (t.kind == TypeKind::Tensor && as<TensorType>(t).element) path(*as<TensorType>(t).element);
    AstWalker::type(t);
  }

  void path(const Path &p) {
    if (p.parts.size() == 2)
      member(p.parts[0], p.parts[1]);
    else
      use(p.parts[0]);
  }

  void member(const Name &base, const Name &name) {
    use(base);
    out.outside_.push_back({std::string(name.text), name.span, std::string(base.text)});
  }

  void use(const Name &name) { uses.push_back({name, scope, sizes}); }

  void stmt(const Stmt &s) override {
    switch (s.kind) {
    case StmtKind::Param: {
      auto &p = as<ParamStmt>(s);
      define(p.name, Symbol::Weight);
      break;
    }
    case StmtKind::For:
      expr(*as<ForStmt>(s).iterable);
      for (const Name &n : as<ForStmt>(s).names) define(n, Symbol::Local);
      return block(*as<ForStmt>(s).body);
    case StmtKind::Report:
      for (const ReportItem &i : as<ReportStmt>(s).items)
        if (!i.value) use(i.name);
      break;
    case StmtKind::Bind:
      for (const Name &n : as<BindStmt>(s).names) define(n, Symbol::Local);
      break;
    default: break;
    }
    AstWalker::stmt(s);
  }

  void expr(const Expr &e) override {
    bool savedSizes = sizes;
    switch (e.kind) {
    case ExprKind::Name: use({as<NameExpr>(e).name, e.span}); return;
    case ExprKind::Lambda:
      within(e.span, [&] {
        sizes = false;
        params(*as<LambdaExpr>(e).params);
        block(*as<LambdaExpr>(e).body);
      });
      sizes = savedSizes;
      return;
    case ExprKind::Comprehension: {
      auto &c = as<ComprehensionExpr>(e);
      expr(*c.iterable);
      within(e.span, [&] {
        for (const Name &n : c.names) define(n, Symbol::Local);
        expr(*c.value);
        maybe(c.condition);
      });
      return;
    }
    case ExprKind::Scan: {
      auto &s = as<ScanExpr>(e);
      for (const ScanBind &b : s.binds) {
        expr(*b.value);
        maybe(b.along);
      }
      within(e.span, [&] {
        for (const ScanBind &b : s.binds) define(b.name, Symbol::Local);
        block(*s.body);
      });
      return;
    }
    case ExprKind::Call: {
      auto &c = as<CallExpr>(e);
      sizes = false;
      if (c.callee->kind == ExprKind::Name)
        for (const Arg &a : c.args) {
          if (!a.name) continue;
          arguments.push_back({*a.name, std::string(as<NameExpr>(*c.callee).name), scope});
          if (train && train->model && train->model->kind == ExprKind::Name)
            columns.push_back({*a.name, std::string(as<NameExpr>(*train->model).name)});
        }
      AstWalker::expr(e);
      sizes = savedSizes;
      return;
    }
    case ExprKind::Member:
      if (as<MemberExpr>(e).base->kind == ExprKind::Name) {
        auto &base = *as<MemberExpr>(e).base;
        return member({as<NameExpr>(base).name, base.span}, as<MemberExpr>(e).name);
      }
      break;
    default: break;
    }
    AstWalker::expr(e);
  }

  // --- looking up

  static Symbol *find(Scope *s, std::string_view name) {
    for (; s; s = s->parent)
      if (auto it = s->names.find(name); it != s->names.end()) return it->second;
    return nullptr;
  }

  /// The scope of a declaration's parameters, through any of them.
  Symbol *parameter(std::string_view declaration, std::string_view name) {
    auto it = out.scopes_[0].names.find(declaration);
    if (it == out.scopes_[0].names.end() || it->second->kind != Symbol::Declaration) return nullptr;
    for (Symbol &s : out.symbols_)
      if (s.kind == Symbol::Param && s.decl == it->second->decl && s.name == name &&
          s.scope->parent == &out.scopes_[0])
        return &s;
    return nullptr;
  }

  void finish() {
    static const char *const predefined[] = {
        "batch", "training", "pi",   "inf", "nan",   "f32",    "f64",  "bf16", "f16",  "i64",
        "i32",   "u8",       "bool", "int", "float", "string", "list", "any",  "layer"};
    for (const Use &u : uses) {
      if (Symbol *s = find(u.scope, u.name.text)) {
        s->uses.push_back(u.name.span);
        continue;
      }
      bool known = std::any_of(std::begin(predefined), std::end(predefined),
                               [&](const char *p) { return u.name.text == p; });
      if (u.definesSize && !known) {
        scope = u.scope;
        define(u.name, Symbol::Size);
        continue;
      }
      out.outside_.push_back({std::string(u.name.text), u.name.span, ""});
    }
    for (const Argument &a : arguments)
      if (Symbol *s = find(a.scope, a.callee); s && s->kind == Symbol::Declaration)
        if (Symbol *p = parameter(a.callee, a.name.text)) p->uses.push_back(a.name.span);
    for (const Column &c : columns)
      if (Symbol *p = parameter(c.model, c.name.text)) p->uses.push_back(c.name.span);
    for (Symbol &s : out.symbols_) {
      auto before = [](Span a, Span b) { return a.begin < b.begin; };
      std::sort(s.uses.begin(), s.uses.end(), before);
      s.uses.erase(std::unique(s.uses.begin(), s.uses.end()), s.uses.end());
      for (Span u : s.uses) out.uses_.emplace(u.begin, std::pair(u, &s));
    }
    std::sort(out.outside_.begin(), out.outside_.end(),
              [](const Outside &a, const Outside &b) { return a.span.begin < b.span.begin; });
  }
};

Names::Names(const File &file) {
  NamesBuilder builder(*this);
  builder.run(file);
  builder.finish();
}

const Symbol *Names::at(uint32_t offset, Span *use) const {
  auto it = uses_.upper_bound(offset);
  if (it == uses_.begin()) return nullptr;
  auto &[span, symbol] = std::prev(it)->second;
  if (offset > span.end) return nullptr;
  if (use) *use = span;
  return symbol;
}

const Outside *Names::outsideAt(uint32_t offset) const {
  for (const Outside &o : outside_)
    if (o.span.begin <= offset && offset <= o.span.end) return &o;
  return nullptr;
}

std::vector<const Symbol *> Names::visible(uint32_t offset) const {
  const Scope *inner = &scopes_[0];
  for (const Scope &s : scopes_)
    if (s.span.begin <= offset && offset <= s.span.end &&
        s.span.end - s.span.begin <= inner->span.end - inner->span.begin)
      inner = &s;
  std::vector<const Symbol *> out;
  for (; inner; inner = inner->parent)
    for (auto &[name, symbol] : inner->names) {
      bool hidden = std::any_of(out.begin(), out.end(), [&](auto *s) { return s->name == name; });
      if (!hidden) out.push_back(symbol);
    }
  return out;
}

const Decl *Names::declaration(std::string_view name) const {
  auto it = scopes_[0].names.find(name);
  return it != scopes_[0].names.end() && it->second->kind == Symbol::Declaration ? it->second->decl
                                                                                 : nullptr;
}

} // namespace nnc::fe::lsp
