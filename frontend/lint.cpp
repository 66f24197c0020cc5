// Lints: programs that mean something, and likely not what was meant.
//
//   layer Net()(x: [batch, n]) {
//     h = x |> Dense(32, activation = relu)      NN1203: `h` is bound and never used
//     x |> Dense(10)
//   }
//
// Problem. Such a program is well formed, so no stage of the elaboration fails on it.
//
// Method. While it runs, the elaborator records facts and judges nothing: which call gave which
// tensor (Maker), which instances were made and applied. The lints read these, the text and the IR
// when all is done; they change nothing. Those about a `train` block are in lint_train.cpp.
#include "frontend/lint.h"
#include "frontend/elab_train.h"
#include <algorithm>
#include <cctype>

namespace nnc::fe {

// --- facts ---------------------------------------------------------------------------------------

ir::ValueId Elaborator::firstTensor(const GivenArgs &args) const {
  for (const GivenArg &a : args) {
    if (a.value.isTensor() && a.value.pass == pass) return a.value.id;
    if (a.value.kind != Kind::List) continue;
    for (const Value &item : a.value.list())
      if (item.isTensor() && item.pass == pass) return item.id;
  }
  return {};
}

void Elaborator::noteMaker(const Value &result, const Decl *decl, int builtin, Instance *instance,
                           ir::ValueId input) {
  if (!pass || pass->isInit || !result.isTensor() || result.pass != pass) return;
  Maker m;
  m.value = result.id;
  m.input = input;
  m.decl = decl;
  m.builtin = builtin;
  m.instance = instance;
  m.span = userPlace();
  m.isLibrary = builtin >= 0 || isLibrary(decl->name.span);
  pass->makers.push_back(std::move(m));
}

Facts::Facts(const Pass &pass) : pass_(pass) {
  for (const Maker &m : pass.makers) made_[m.value.i].push_back(&m);
}

const std::vector<const Maker *> &Facts::makers(ir::ValueId v) const {
  static const std::vector<const Maker *> none;
  auto it = made_.find(v.i);
  return it == made_.end() ? none : it->second;
}

std::string Facts::nameOf(const Maker &m) {
  return m.builtin >= 0 ? builtins()[m.builtin].name : std::string(m.decl->name.text);
}

const Maker *Facts::madeBy(ir::ValueId v, std::initializer_list<std::string_view> names) const {
  for (int hops = 0; v.valid() && hops < 64; ++hops) {
    for (const Maker *m : makers(v))
      if (m->isLibrary && std::find(names.begin(), names.end(), nameOf(*m)) != names.end())
        return m;
    v = throughViews(v);
  }
  return nullptr;
}

ir::ValueId Facts::throughViews(ir::ValueId v) const {
  const ir::Node *n = pass_.b.f.def(v);
  bool view = n && (n->op == ir::Op::cast_ || n->op == ir::Op::reshape_ ||
                    n->op == ir::Op::transpose_ || n->op == ir::Op::broadcast_);
  return view ? n->operands[0] : ir::ValueId{};
}

bool Facts::isAffine(ir::ValueId v) const {
  for (int hops = 0; v.valid() && hops < 64; ++hops) {
    const ir::Node *n = pass_.b.f.def(v);
    if (!n) return false;
    if (n->op == ir::Op::contract_) return true;
    if (n->op == ir::Op::add_) {
      for (ir::ValueId o : n->operands) {
        ir::ValueId below = o;
        while (throughViews(below).valid()) below = throughViews(below);
        const ir::Node *d = pass_.b.f.def(below);
        if (d && d->op == ir::Op::contract_) return true;
      }
      return false;
    }
    v = throughViews(v);
  }
  return false;
}

const Value *staticOf(const Decl &decl, const Values &statics, std::string_view name) {
  if (decl.params.size() != 2) return nullptr;
  const auto &params = decl.params[0]->params;
  for (size_t i = 0; i < params.size() && i < statics.size(); ++i)
    if (params[i].name.text == name) return &statics[i];
  return nullptr;
}
const Value *staticOf(const Instance &inst, std::string_view name) {
  return inst.decl ? staticOf(*inst.decl, inst.statics, name) : nullptr;
}

static bool isLinear(const Value *activation) {
  return activation && activation->kind == Kind::Function &&
         activation->function().kind == FunctionKind::Decl &&
         activation->function().file->isLibrary &&
         activation->function().decl->name.text == "linear";
}

// --- names ---------------------------------------------------------------------------------------

/// How often each name stands in a text, comments and strings left out.
static std::unordered_map<std::string_view, int> countNames(std::string_view text) {
  std::unordered_map<std::string_view, int> count;
  auto isWord = [](char c) { return std::isalnum((unsigned char)c) || c == '_'; };
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '#') {
      i = std::min(text.find('\n', i), text.size());
    } else if (text[i] == '"') {
      for (++i; i < text.size() && text[i] != '"' && text[i] != '\n'; ++i)
        if (text[i] == '\\') ++i;
      ++i;
    } else if (isWord(text[i])) {
      size_t begin = i;
      while (i < text.size() && isWord(text[i])) ++i;
      ++count[text.substr(begin, i - begin)];
    } else {
      ++i;
    }
  }
  return count;
}

static void boundNames(const Block &block, std::vector<Name> &out) {
  for (const Stmt *s : block.stmts) {
    if (s->kind == StmtKind::Bind)
      for (const Name &n : as<BindStmt>(*s).names) out.push_back(n);
    if (s->kind == StmtKind::For) boundNames(*as<ForStmt>(*s).body, out);
    if (s->kind == StmtKind::Expr && as<ExprStmt>(*s).value->kind == ExprKind::If) {
      const auto &e = as<IfExpr>(*as<ExprStmt>(*s).value);
      for (const IfArm &arm : e.arms) boundNames(*arm.body, out);
      if (e.otherwise) boundNames(*e.otherwise, out);
    }
  }
}

/// Whether a text has `name <- ...`.
static bool storesInto(std::string_view text, std::string_view name) {
  auto isWord = [](char c) { return std::isalnum((unsigned char)c) || c == '_'; };
  for (size_t at = text.find(name); at != text.npos; at = text.find(name, at + 1)) {
    size_t end = at + name.size();
    if ((at > 0 && isWord(text[at - 1])) || (end < text.size() && isWord(text[end]))) continue;
    end = text.find_first_not_of(' ', end);
    if (end != text.npos && text.substr(end, 2) == "<-") return true;
  }
  return false;
}

/// A `state` that is given another value by `=` instead of `<-`.
static void lintStates(Elaborator &e, const Decl &d, const std::vector<Name> &bound) {
  for (const Stmt *s : d.body->stmts) {
    if (s->kind != StmtKind::Param || !as<ParamStmt>(*s).isState) continue;
    std::string_view name = as<ParamStmt>(*s).name.text;
    if (storesInto(e.sources.text(d.span), name)) continue;
    for (const Name &n : bound)
      if (n.text == name)
        e.diags.report(n.span, Diag::StateRebound, {std::string(name)})
            .label(as<ParamStmt>(*s).name.span, "the `state`")
            .help("`" + std::string(name) + " <- ...` stores");
  }
}

static void lintNames(Elaborator &e, const Decl &d) {
  auto count = countNames(e.sources.text(d.span));
  std::vector<Name> names;
  boundNames(*d.body, names);
  lintStates(e, d, names);
  for (const Name &n : names)
    if (count[n.text] == 1 && n.text[0] != '_')
      e.diags.report(n.span, Diag::UnusedBinding, {std::string(n.text)});
  // The tensors of functions, losses and metrics are chosen by those who call them.
  if (d.declKind != DeclKind::Layer && d.declKind != DeclKind::Model) return;
  for (const ParamList *list : d.params)
    for (const Param &p : list->params)
      if (count[p.name.text] == 1 && p.name.text[0] != '_')
        e.diags.report(p.name.span, Diag::UnusedParameter,
                       {std::string(p.name.text), std::string(d.name.text)});
}

/// Names of the file that nothing in it reads. Without a `train` block they may be there for
/// others.
static void lintFileNames(Elaborator &e, const FileScope &scope) {
  const auto &tops = scope.tree->tops;
  bool trains =
      std::any_of(tops.begin(), tops.end(), [](const Top *t) { return t->kind == TopKind::Train; });
  if (!trains || e.diags.hasErrors()) return;
  auto count = countNames(e.sources.text(scope.file));
  for (const Top *top : tops) {
    if (top->kind != TopKind::Bind) continue;
    for (const Name &n : as<TopBind>(*top).bind->names) {
      if (count[n.text] != 1 || n.text[0] == '_') continue;
      auto &d = e.diags.report(n.span, Diag::UnusedBinding, {std::string(n.text)});
      for (const char *key :
           {"epochs", "batch_size", "optimizer", "loss", "metrics", "data", "seed"})
        if (n.text == key) d.help("it is a key within the block of `train`");
    }
  }
}

/// What a name of the library is: "a layer"; of its functions, what the file that has them holds.
static std::string libraryKind(Elaborator &e, std::string_view name) {
  Value v;
  if (!e.lookupLibrary(name, v) || v.kind != Kind::Function || !v.function().decl)
    return "a function";
  const Decl &d = *v.function().decl;
  if (d.declKind != DeclKind::Fn)
    return std::string(d.declKind == DeclKind::Optimizer ? "an " : "a ") + spelling(d.declKind);
  const std::string &file = e.sources.name(d.span.file);
  for (const char *kind :
       {"losses", "activations", "initializers", "regularizers", "constraints", "schedules"}) {
    if (file.find(kind) == file.npos) continue;
    std::string one(kind);
    one.resize(one.size() - (one.ends_with("sses") ? 2 : 1));
    return (one[0] == 'a' || one[0] == 'i' ? "an " : "a ") + one;
  }
  return "a function";
}

void Elaborator::lintFile(FileScope &scope) {
  lintFileNames(*this, scope);
  for (const Top *top : scope.tree->tops) {
    if (top->kind != TopKind::Decl) continue;
    const auto &d = as<Decl>(*top);
    if (libraryIndex.contains(d.name.text) || findBuiltin(d.name.text) >= 0)
      diags.report(d.name.span, Diag::ShadowsLibrary, {std::string(d.name.text)})
          .help("the library's is " + libraryKind(*this, d.name.text) +
                "; this is allowed: in this file the name means the one declared here");
    if (!diags.hasErrors()) lintNames(*this, d);
  }
}

void Elaborator::lintInstances() {
  if (diags.hasErrors()) return; // what was not reached was not applied either
  for (const Instance &i : instances) {
    bool isLayer =
        i.decl && (i.decl->declKind == DeclKind::Layer || i.decl->declKind == DeclKind::Model);
    bool ran = i.owner && everApplied.contains(i.owner);
    if (!isLayer || !ran || i.copied || everApplied.contains(&i) || isLibrary(i.span)) continue;
    diags.report(i.span, Diag::UnusedInstance, {std::string(i.decl->name.text)})
        .help("a layer does its work when it is applied: `x |> ...`");
  }
}

// --- a model -------------------------------------------------------------------------------------

/// Rows of BatchNormalization and the like take away any constant that was added before.
static void lintBias(Elaborator &e, const Pass &pass, const Facts &facts) {
  for (const Maker &m : pass.makers) {
    if (!m.isLibrary || !m.instance || Facts::nameOf(m) != "BatchNormalization") continue;
    const Value *center = staticOf(*m.instance, "center");
    if (center && center->kind == Kind::Bool && !center->b) continue;
    for (const Maker *below : facts.makers(m.input)) {
      if (!below->instance || !below->isLibrary || e.isLibrary(below->span)) continue;
      const Value *bias = staticOf(*below->instance, "use_bias");
      bool hasBias = bias && bias->kind == Kind::Bool && bias->b;
      if (!hasBias || !isLinear(staticOf(*below->instance, "activation"))) continue;
      e.diags.report(below->span, Diag::BiasBeforeNorm, {Facts::nameOf(*below), Facts::nameOf(m)})
          .help("`use_bias = false` trains the same model with fewer weights");
    }
  }
}

static void lintTwice(Elaborator &e, const Pass &pass, const Facts &facts) {
  for (const Maker &m : pass.makers) {
    if (!m.isLibrary || m.instance || !m.input.valid() || m.input == m.value) continue;
    std::string name = Facts::nameOf(m);
    if (name != "softmax" && name != "sigmoid") continue;
    if (const Maker *below = facts.madeBy(m.input, {"softmax", "sigmoid"}); below && below != &m) {
      auto &d = e.diags.report(m.span, Diag::ActivationTwice, {name, Facts::nameOf(*below)});
      if (!(below->span == m.span)) d.label(below->span, "the first one");
    }
  }
}

/// Two linear layers of which the first does not narrow are one, unless its result is used
/// elsewhere or its weights stay as they are.
static void lintLinearStack(Elaborator &e, const Pass &pass, const Facts &facts) {
  auto isDense = [&](const Maker &m) {
    return m.isLibrary && m.instance && Facts::nameOf(m) == "Dense" && m.input.valid();
  };
  auto width = [&](ir::ValueId v) {
    const auto &dims = pass.b.f.type(v).dims;
    return !dims.empty() && dims.back().isConst() ? dims.back().b : 0;
  };
  std::vector<int> uses(pass.b.f.values.size());
  for (const ir::Node &n : pass.b.f.nodes)
    for (ir::ValueId v : n.operands) ++uses[size_t(v.i)];
  for (const ir::Result &r : pass.b.f.results) ++uses[size_t(r.value.i)];
  std::vector<Instance *> frozen;
  if (e.plan)
    for (Instance *i : e.plan->freeze) e.collect(*i, frozen);
  for (const Maker &m : pass.makers) {
    if (!isDense(m) || e.isLibrary(m.span)) continue;
    for (const Maker *below : facts.makers(m.input)) {
      if (!isDense(*below) || !isLinear(staticOf(*below->instance, "activation"))) continue;
      if (width(below->value) < std::min(width(below->input), width(m.value))) continue;
      if (uses[size_t(below->value.i)] > 1 || !below->instance->trainable) continue;
      if (std::find(frozen.begin(), frozen.end(), below->instance) != frozen.end()) continue;
      e.diags.report(m.span, Diag::LinearStack, {})
          .label(below->span, "nothing but a linear map comes from here")
          .help("give the first one an activation, such as `activation = relu`");
    }
  }
}

static void lintDropout(Elaborator &e) {
  for (const Instance &i : e.instances) {
    if (!i.decl || !i.file->isLibrary || e.isLibrary(i.span) || !i.span.valid()) continue;
    const Value *rate = staticOf(i, "rate");
    if (!rate || !rate->isNumber() || rate->number() != 0) continue;
    std::string text = e.text(i.span); // a rate that is computed may be 0 on purpose
    bool literal = text.ends_with("(0)") || text.ends_with("(0.0)") || text.ends_with("= 0)") ||
                   text.ends_with("= 0.0)");
    if (literal) e.diags.report(i.span, Diag::RateZero, {std::string(i.decl->name.text)});
  }
}

/// Bytes that reach a product of matrices as 0 to 255.
static void lintBytes(Elaborator &e, const Pass &pass, const Facts &facts) {
  for (const ir::Node &n : pass.b.f.nodes) {
    if (n.op != ir::Op::contract_) continue;
    ir::ValueId v = n.operands[0];
    bool fromBytes = false;
    while (facts.throughViews(v).valid()) {
      v = facts.throughViews(v);
      fromBytes |= pass.b.f.type(v).dtype == ir::DType::u8;
    }
    auto column = pass.columns.find(v.i);
    if (!fromBytes || column == pass.columns.end()) continue;
    Span place =
        size_t(n.firstResult.i) < pass.places.size() ? pass.places[n.firstResult.i] : Span{};
    e.diags.report(place, Diag::RawBytes, {column->second})
        .help("`" + column->second + " |> Rescaling(1 / 255)` brings them to 0 to 1");
    return;
  }
}

static void lintBatch(Elaborator &e, const Instance &model) {
  if (!model.decl) return;
  for (const Param &p : model.decl->params.back()->params) {
    if (!p.type || p.type->kind != TypeKind::Tensor || e.isLibrary(p.span)) continue;
    const auto &dims = as<TensorType>(*p.type).dims;
    if (dims.empty() || dims[0].spread || dims[0].value->kind != ExprKind::Int) continue;
    e.diags
        .report(dims[0].value->span, Diag::FixedBatch,
                {std::string(p.name.text), e.text(dims[0].value->span)})
        .help("the first size of an input is `batch`");
  }
}

/// Masks that no layer behind took, and that no loss of the model's outputs could use.
static void lintMasks(Elaborator &e, const Pass &pass, const Facts &facts) {
  if (pass.masks.empty()) return;
  const ir::Function &f = pass.b.f;
  std::unordered_set<int32_t> used;
  for (const ir::Node &n : f.nodes)
    for (ir::ValueId v : n.operands) used.insert(v.i);
  auto use = [&](ir::ValueId v) {
    auto it = pass.masks.find(v.i);
    if (it != pass.masks.end()) used.insert(it->second.i);
  };
  for (const ir::Result &r : f.results) use(r.value);
  std::map<int32_t, int32_t> made; // mask -> the first value it was attached to
  for (auto &[value, mask] : pass.masks)
    if (mask.valid() && !used.contains(mask.i)) {
      auto [it, isNew] = made.try_emplace(mask.i, value);
      it->second = std::min(it->second, value);
    }
  for (auto &[mask, value] : made) {
    // The layer that made it; functions behind may have handed it on as it was.
    const Maker *layer = nullptr;
    for (const Maker *m : facts.makers(ir::ValueId{value}))
      if (!layer || (m->instance && !layer->instance)) layer = m;
    if (!layer || !layer->span.valid() || e.isLibrary(layer->span)) continue;
    e.diags.report(layer->span, Diag::UnusedMask, {Facts::nameOf(*layer)})
        .help("a layer that changes the number of steps drops it, and the layers behind count all "
              "steps");
  }
}

void Elaborator::lintModel(Instance &model, const Pass &p) {
  Facts facts(p);
  lintBias(*this, p, facts);
  lintTwice(*this, p, facts);
  lintLinearStack(*this, p, facts);
  lintDropout(*this);
  lintBytes(*this, p, facts);
  lintMasks(*this, p, facts);
  lintBatch(*this, model);
}

} // namespace nnc::fe
