// Instances and weights (R5, R6, R11): identity, names, persistent values, random sites.
//
// Problem. `Dense(300)` stands once in the text but must be the same layer in train_step, eval_step
// and predict, and eight different layers in a comprehension of eight rounds.
//
// Method. An instance is known by its path: the owner whose body runs, the loop rounds and inlined
// calls on the way, and the place of the expression. Weights are known the same way. A weight's
// initial value is computed in the function `init`; every other function takes it as a parameter
// when it first reads it, and returns it if it stored into it.
#include "frontend/elab.h"
#include <algorithm>
#include <cctype>

namespace nnc::fe {

size_t PathHash::operator()(const std::vector<uint64_t> &v) const {
  uint64_t h = 0x9e3779b97f4a7c15ull;
  for (uint64_t x : v) h = (h ^ x) * 0xff51afd7ed558ccdull, h ^= h >> 32;
  return h;
}

Instance *Elaborator::owner() { return frame ? frame->owner : &fileOwner; }

std::vector<uint64_t> Elaborator::path(const void *place) {
  std::vector<const Frame *> way;
  for (const Frame *f = frame; f; f = f->parent) {
    way.push_back(f);
    if (f->ownsPath) break;
  }
  std::vector<uint64_t> out{uint64_t(reinterpret_cast<uintptr_t>(owner()))};
  for (auto it = way.rbegin(); it != way.rend(); ++it) {
    if (!(*it)->ownsPath) out.push_back((*it)->callKey);
    out.insert(out.end(), (*it)->rounds.begin(), (*it)->rounds.end());
  }
  out.push_back(uint64_t(reinterpret_cast<uintptr_t>(place)));
  return out;
}

/// Keras' snake case: "MaxPooling2D" -> "max_pooling2d", "LSTM" -> "lstm".
std::string Elaborator::snakeCase(std::string_view kind) {
  std::string out;
  auto upper = [&](size_t i) { return i < kind.size() && std::isupper((unsigned char)kind[i]); };
  auto lower = [&](size_t i) { return i < kind.size() && std::islower((unsigned char)kind[i]); };
  for (size_t i = 0; i < kind.size(); ++i) {
    if (i && upper(i) && (lower(i + 1) || lower(i - 1)) && kind[i - 1] != '_') out += '_';
    out += char(std::tolower((unsigned char)kind[i]));
  }
  return out;
}

// --- making --------------------------------------------------------------------------------------

/// `name`, `trainable`, `dtype`, and an optimizer's base arguments: what every declaration takes
/// without listing it.
bool Elaborator::takeBaseArgs(Instance &inst, GivenArgs &args) {
  auto declared = [&](std::string_view name) {
    for (const ParamList *list : inst.decl->params)
      for (const Param &p : list->params)
        if (p.name.text == name) return true;
    return false;
  };
  std::vector<std::string> base{"name", "trainable"};
  bool isLayer = inst.decl->declKind == DeclKind::Layer || inst.decl->declKind == DeclKind::Model;
  if (isLayer) base.emplace_back("dtype");
  if (inst.decl->declKind == DeclKind::Optimizer)
    for (const char *name : kOptimizerHooks) {
      Value hook = libraryValue(name);
      if (hook.isPoison()) return false;
      for (const Param &p : hook.function().decl->params[0]->params)
        base.emplace_back(p.name.text);
    }
  GivenArgs rest;
  for (GivenArg &a : args) {
    bool isBase = std::find(base.begin(), base.end(), a.name) != base.end() && !declared(a.name);
    if (!isBase) {
      rest.push_back(a);
    } else if (a.name == "name") {
      if (a.value.kind != Kind::String)
        return fail(a.span, Diag::ArgumentType, {"`name`", "a string", show(a.value)}), false;
      inst.givenName = a.value.string();
    } else if (a.name == "trainable") {
      if (a.value.kind != Kind::Bool)
        return fail(a.span, Diag::ArgumentType, {"`trainable`", "a bool", show(a.value)}), false;
      inst.trainable = a.value.b;
    } else if (a.name == "dtype") {
      if (!a.value.isNone() && !policyFrom(a.value, a.span, "`dtype`", inst.policy.emplace()))
        return false;
    } else {
      inst.base.emplace_back(std::string(a.name), a.value);
    }
  }
  args = std::move(rest);
  return true;
}

/// The policy that a name of Keras' or an element type says.
bool Elaborator::policyFrom(const Value &v, Span span, const std::string &what, Policy &out) {
  using D = ir::DType;
  static const std::pair<const char *, Policy> known[] = {
      {"float32", {D::f32, D::f32}},          {"float64", {D::f64, D::f64}},
      {"bfloat16", {D::bf16, D::bf16}},       {"float16", {D::f16, D::f16}},
      {"mixed_bfloat16", {D::bf16, D::f32}},  {"mixed_float16", {D::f16, D::f32}}};
  if (v.kind == Kind::Element && ir::isFloat(v.element)) {
    out = {v.element, v.element};
    return true;
  }
  if (v.isPoison()) return false;
  std::vector<std::string> names;
  for (const auto &[name, policy] : known) {
    if (v.kind == Kind::String && v.string() == name) return out = policy, true;
    names.push_back('"' + std::string(name) + '"');
  }
  auto &d = error(span, Diag::ArgumentType,
                  {what, "\"float32\", \"float64\", \"bfloat16\", \"float16\", "
                         "\"mixed_bfloat16\", \"mixed_float16\" or an element type such as `f32`",
                   show(v)});
  ir::DType element;
  if (v.kind == Kind::String && ir::parseDType(v.string(), element))
    d.help("an element type stands without quotes: `" + v.string() + "`").fix(v.string());
  else if (v.kind == Kind::String)
    d.didYouMean(suggest('"' + v.string() + '"', names));
  return false;
}

/// Its own, else that of where it was made, else the module's; null: the module's float.
const Policy *Elaborator::policyOf(const Instance &inst) const {
  for (const Instance *i = &inst; i; i = i->owner)
    if (i->policy) return &*i->policy;
  return precision ? &*precision : nullptr;
}

Value Elaborator::makeInstance(const FunctionObj &f, GivenArgs &args, Span span, const void *key) {
  auto where = path(key);
  where.push_back(uint64_t(reinterpret_cast<uintptr_t>(f.decl)));
  if (auto it = instanceIndex.find(where); it != instanceIndex.end()) return Value::of(it->second);
  const Decl &d = *f.decl;
  Instance inst;
  inst.decl = &d;
  inst.file = f.file;
  inst.owner = owner();
  inst.span = span;
  inst.kindName = snakeCase(d.name.text);
  if (!takeBaseArgs(inst, args)) return {};
  if (d.params.size() == 2) {
    if (!bindStatics(d, *f.file, args, span, key, inst.statics)) return {};
  } else if (!args.empty()) {
    return fail(args[0].nameSpan.valid() ? args[0].nameSpan : args[0].span, Diag::UnknownArgument,
                {std::string(d.name.text), std::string(args[0].name)});
  }
  Instance &made = instances.emplace_back(std::move(inst));
  instanceIndex.emplace(std::move(where), &made);
  made.owner->made.push_back(&made);
  if (!made.givenName.empty()) nameInstance(made, "");
  return Value::of(&made);
}

/// A new instance of the same declaration with the same statics, owned here. What its body makes is
/// made anew, as its path is another.
Value Elaborator::freshInstance(const Instance &like, Span span, const void *key) {
  const_cast<Instance &>(like).copied = true;
  auto where = path(key);
  where.push_back(uint64_t(reinterpret_cast<uintptr_t>(&like)));
  if (auto it = instanceIndex.find(where); it != instanceIndex.end()) return Value::of(it->second);
  Instance inst;
  inst.decl = like.decl;
  inst.file = like.file;
  inst.owner = owner();
  inst.statics = like.statics;
  inst.base = like.base;
  inst.trainable = like.trainable;
  inst.policy = like.policy;
  inst.span = span;
  inst.kindName = like.kindName;
  Instance &made = instances.emplace_back(std::move(inst));
  instanceIndex.emplace(std::move(where), &made);
  made.owner->made.push_back(&made);
  return Value::of(&made);
}

void Elaborator::nameInstance(Instance &inst, std::string_view hint) {
  Instance &in = *inst.owner;
  ensureNamed(in);
  std::string base = !inst.givenName.empty() ? inst.givenName
                     : !hint.empty()         ? std::string(hint)
                                             : inst.kindName;
  inst.namedByKind = inst.givenName.empty() && hint.empty();
  auto &taken = (&in == &stepOwner ? fileOwner : in).taken; // neither has a path: one set of names
  int &used = taken[base];
  inst.name = base;
  if (used > 0 && !inst.givenName.empty()) error(inst.span, Diag::NameClash, {base});
  while (used > 0) {
    inst.name = base + "_" + std::to_string(used++);
    if (taken.emplace(inst.name, 1).second) break;
  }
  if (used == 0) used = 1;
  inst.path = in.path.empty() ? inst.name : in.path + "/" + inst.name;
  inst.named = true;
}

/// Names by kind go in order of creation, so older unnamed siblings are named first.
void Elaborator::ensureNamed(Instance &inst) {
  if (inst.named) return;
  Instance &in = *inst.owner;
  for (; in.firstUnnamed < in.made.size() && !inst.named; ++in.firstUnnamed) {
    Instance &next = *in.made[in.firstUnnamed];
    if (!next.named) nameInstance(next, "");
  }
}

// --- applying ------------------------------------------------------------------------------------

/// A param like v, or structures of them, for an application whose code is dropped.
static Value standIn(Elaborator &e, const Pass &from, const Value &v) {
  if (v.kind == Kind::List || v.kind == Kind::Tuple) {
    Values items;
    for (const Value &item : v.kind == Kind::List ? v.list() : v.tuple().items)
      items.push_back(standIn(e, from, item));
    return v.kind == Kind::List ? Value::list(std::move(items))
                                : Value::tuple(std::move(items), v.tuple().names);
  }
  if (!v.isTensor()) return v;
  return e.wrap(e.pass->b.param(e.uniqueName("x"), from.b.f.type(v.id)).id);
}

/// The application arguments `training`, `weights`, `mask` that the declaration does not list.
static bool takeApplicationArgs(Elaborator &e, const ParamList &list, GivenArgs &args, Frame &f,
                                GivenArg &weights) {
  GivenArgs rest;
  for (GivenArg &a : args) {
    bool declared = std::any_of(list.params.begin(), list.params.end(),
                                [&](const Param &p) { return p.name.text == a.name; });
    bool isBase = a.name == "training" || a.name == "weights" || a.name == "mask";
    if (declared || !isBase) {
      rest.push_back(a);
    } else if (a.name == "training") {
      if (a.value.kind != Kind::Bool)
        return e.fail(a.span, Diag::ArgumentType, {"`training`", "a bool", e.show(a.value)}), false;
      f.training = a.value.b;
    } else if (a.name == "weights") {
      weights = a;
    } else if (!a.value.isNone()) {
      return e.fail(a.nameSpan, Diag::NotYet, {"`" + std::string(a.name) + " =`"}), false;
    }
  }
  args = std::move(rest);
  return true;
}

Value Elaborator::applyInstance(Instance &inst, GivenArgs args, Span span) {
  const Decl &d = *inst.decl;
  if (d.declKind == DeclKind::Optimizer) return applyOptimizerTo(inst, args, span);
  if (!needsTensor(span)) return {};
  for (const Frame *f = frame; f; f = f->parent)
    if (f->ownsPath && f->owner == &inst)
      return fail(span, Diag::RecursiveLayer, {std::string(d.name.text)});
  ensureNamed(inst);
  Instance *by = owner();
  if (by->appliesSet.insert(&inst).second) by->applies.push_back(&inst);
  everApplied.insert(&inst);

  Frame f;
  if (!enter(f, std::string(d.name.text), inst.file, span, nullptr)) return {};
  f.owner = &inst;
  f.ownsPath = true;
  f.untrainable |= !inst.trainable;
  f.frozen |= !inst.trainable || isFrozenHere(inst);
  if (f.frozen) f.training = false;
  f.target = nullptr;
  f.application = &inst;
  bool isLayer = d.declKind == DeclKind::Layer || d.declKind == DeclKind::Model;
  f.policy = isLayer ? policyOf(inst) : nullptr;
  f.ordinal = pass->root->applications[&inst]++;
  f.level = frame->level + 1;
  const ParamList &list = *d.params.back();
  Value mask;
  if (!takeMask(list, args, mask)) return {};
  GivenArg weights;
  if (!takeApplicationArgs(*this, list, args, f, weights)) return {};
  Replaced replaced;
  if (!weights.value.isPoison() && !weights.value.isNone()) {
    // A function of the record needs the weights: a first application makes them, and is dropped.
    auto build = [&] {
      Restore<Pass *> aside(pass, pass);
      const size_t functions = module->functions.size();
      openPass("build", pass->b.f.batch, pass->training);
      GivenArgs same = args;
      for (GivenArg &a : same) a.value = standIn(*this, *aside.old, a.value);
      bool ok = !applyInstance(inst, std::move(same), span).isPoison();
      module->functions.resize(functions);
      return ok;
    };
    Restore<Frame *> outside(frame, frame);
    if (!replaceWeights(inst, weights.value, weights.span, build, replaced)) return {};
    if (frame->replaced) replaced.insert(frame->replaced->begin(), frame->replaced->end());
    f.replaced = &replaced;
  }
  size_t row = pass->layers.size();
  if (isLayer)
    pass->layers.push_back({&inst, f.level, {}, int32_t(pass->b.f.nodes.size()), 0, pass});

  ir::ValueId input = firstTensor(args);
  Restore<Frame *> inside(frame, &f);
  Restore<int> outside(underTraining, 0);
  if (d.params.size() == 2)
    for (size_t i = 0; i < inst.statics.size(); ++i)
      f.scope->bind(d.params[0]->params[i].name.text, inst.statics[i],
                    d.params[0]->params[i].name.span);
  f.converts = f.policy != nullptr;
  if (!bindParams(list, args, span, f.name, d.params.size() == 2 ? d.params[0] : nullptr))
    return {};
  f.converts = false;
  if (isLayer && inst.given.empty())
    for (const Param &p : list.params)
      if (const Binding *b = f.scope->find(p.name.text); b && b->value.isTensor())
        inst.given.emplace_back(p.name.text, type(b->value));
  Value v = evalBody(*d.body, d.result, f.name);
  keepMask(d, mask, v);
  {
    Restore<Frame *> outside2(frame, f.parent);
    Restore<Span> place(at, span);
    noteMaker(v, &d, -1, &inst, input);
  }
  v.isMetric = d.declKind == DeclKind::Metric && v.isTensor();
  if (isLayer) {
    pass->layers[row].endNode = int32_t(pass->b.f.nodes.size());
    if (v.isTensor()) pass->layers[row].outputs.push_back(type(v).dims);
    if (v.kind == Kind::Tuple)
      for (const Value &item : v.tuple().items)
        if (item.isTensor()) pass->layers[row].outputs.push_back(type(item).dims);
  }
  return v;
}

void Elaborator::collect(Instance &root, std::vector<Instance *> &out) {
  std::unordered_set<Instance *> seen(out.begin(), out.end());
  std::vector<Instance *> todo{&root};
  while (!todo.empty()) {
    Instance *i = todo.back();
    todo.pop_back();
    if (!seen.insert(i).second) continue;
    out.push_back(i);
    for (auto it = i->applies.rbegin(); it != i->applies.rend(); ++it) todo.push_back(*it);
  }
}

/// Regularizers of the weights of `root` and of what it applies, once each, and what they added.
Value Elaborator::lossesOf(Instance &root) {
  if (pass->outer) return fail(Diag::NotYet, {"`losses` inside a `scan`"});
  std::vector<Instance *> all;
  collect(root, all);
  Value sum = Value::of(0.0);
  bool any = false;
  auto add = [&](const Value &v) {
    sum = any ? binary(BinaryOp::Add, sum, v) : v;
    any = true;
  };
  for (Instance *inst : all) {
    for (Weight *w : inst->weights) {
      if (w->regularizer.isNone() || w->kind != WeightKind::Param) continue;
      Restore<Span> place(at, w->span);
      add(callWith(w->regularizer, {readWeight(*w)}, w->span));
    }
    if (auto it = pass->addedLosses.find(inst); it != pass->addedLosses.end())
      for (const Value &v : it->second) add(v);
  }
  return sum;
}

// --- weights -------------------------------------------------------------------------------------

/// Within a layer that computes in another type than it keeps its params in: the param in that.
/// Optimizers compute in the module's float, whatever the weight is kept in.
Value Elaborator::readWeight(Weight &w) {
  Value v;
  if (frame->replaced)
    if (auto it = frame->replaced->find(&w); it != frame->replaced->end()) v = inBody(it->second);
  if (v.isPoison()) v = storedWeight(w);
  if (frame->target && ir::widened(w.type.dtype) != w.type.dtype) return cast(v, floatType);
  const Policy *p = frame->policy;
  if (v.isPoison() || !p || w.kind != WeightKind::Param || w.type.dtype != p->variable) return v;
  return cast(v, p->compute);
}

Value Elaborator::storedWeight(Weight &w) {
  if (!needsTensor(at)) return {};
  Value value;
  if (auto it = pass->current.find(&w); it != pass->current.end()) {
    if (pass->unread.erase(&w) && !pass->isInit) {
      it->second = emit(ir::Op::stop_gradient_, {it->second}).id;
      pass->reads[&w].push_back(it->second);
    }
    value = Value::of(pass, it->second);
  } else {
    if (pass->isInit) return fail(Diag::ForeignTensor);
    if (pass->outer) return bodyWeight(w);
    ir::V v = pass->b.param(uniqueName(w.name), w.keptType(), w.path);
    value = w.rows ? rowsOfBatch(w, wrap(v.id)) : wrap(v.id);
    if (value.isPoison()) return {};
    pass->current.emplace(&w, value.id);
    setOrigins(value, w.origins);
    if (w.kind == WeightKind::Param) pass->reads[&w].push_back(value.id);
  }
  value.weight = &w;
  return value;
}

/// The first rows of what is kept: as many as the batch has.
Value Elaborator::rowsOfBatch(Weight &w, Value kept) {
  if (pass->b.f.batch > w.rows)
    return fail(Diag::WeightRows,
                {w.name, std::to_string(w.rows), std::to_string(pass->b.f.batch)});
  pass->kept.emplace(&w, kept.id);
  for (size_t k = 0; k < w.type.dims.size(); ++k) {
    if (w.type.dims[k].isConst()) continue;
    Value i = emit(ir::Op::iota_, {}, ir::IotaAttr{0, {ir::DType::i32, {w.type.dims[k]}}});
    kept = emit(ir::Op::gather_, {kept.id, i.id}, ir::GatherAttr{int64_t(k)});
  }
  return kept;
}

/// What is kept when the batch's rows have become v: the rows behind them stay. (A gather takes the
/// last row for those that v lacks.)
ir::ValueId Elaborator::keptRows(const Weight &w, ir::ValueId id) {
  auto old = pass->kept.find(&w);
  if (old == pass->kept.end()) return id;
  Value v = Value::of(pass, id);
  const ir::Type whole = w.keptType();
  const ir::Dims all = whole.dims;
  Value inside;
  for (size_t k = 0; k < all.size(); ++k) {
    const ir::Dim size = w.type.dims[k];
    if (size.isConst()) continue;
    Value i = emit(ir::Op::iota_, {}, ir::IotaAttr{0, {ir::DType::i32, {all[k]}}});
    v = emit(ir::Op::gather_, {v.id, i.id}, ir::GatherAttr{int64_t(k)});
    Value place = emit(ir::Op::iota_, {}, ir::IotaAttr{int64_t(k), {ir::DType::i32, all}});
    Value end = broadcastTo(emit(ir::Op::size_, {}, ir::SizeAttr{size}), all);
    Value in = emit(ir::Op::lt_, {place.id, end.id});
    inside = inside.isPoison() ? in : emit(ir::Op::and_, {inside.id, in.id});
  }
  Value result = emit(ir::Op::select_, {inside.id, v.id, old->second});
  setName(result, w.name);
  return result.id;
}

/// v where stores take place in this step, else what was there.
Value Elaborator::gated(const Value &v, const Value &old) {
  if (pass->gate.i < 0 || v.isPoison() || old.isPoison()) return v;
  Value on = broadcastTo(Value::of(pass, pass->gate), type(v).dims);
  return emit(ir::Op::select_, {on.id, v.id, old.id});
}

void Elaborator::writeWeight(Weight &w, const Value &value, bool stop) {
  if (value.isPoison()) return;
  Value v = stop ? emit(ir::Op::stop_gradient_, {value.id}) : value;
  if (pass->gate.i >= 0) {
    auto before = pass->current.find(&w);
    v = gated(v, before == pass->current.end() ? storedWeight(w) : Value::of(pass, before->second));
  }
  if (v.isPoison()) return;
  pass->current[&w] = v.id;
  if (w.kind == WeightKind::Param) pass->unread.insert(&w);
  if (pass->writtenSet.insert(&w).second) pass->written.push_back(&w);
}

Weight *Elaborator::addWeight(std::string path, std::string name, WeightKind kind, ir::Type type,
                              Instance *by) {
  Weight &w = weights.emplace_back();
  w.path = std::move(path);
  w.name = std::move(name);
  w.kind = kind;
  w.type = std::move(type);
  w.owner = by;
  w.span = w.firstUse = at;
  w.regularizer = w.constraint = Value::none();
  return &w;
}

bool Elaborator::initialize(Weight &w, const std::function<Value()> &value, Span span) {
  Restore<Pass *> inInit(pass, initPass);
  Restore<std::string> site(drawPrefix, w.path);
  Restore<const Policy *> wide(frame->policy, nullptr);
  Value v = value();
  if (v.kind == Kind::Function || v.kind == Kind::Instance) {
    v = toCallable(v, span, &w);
    Values shape;
    const ir::Dims dims = w.keptType().dims;
    for (size_t i = 0; i < dims.size(); ++i)
      shape.push_back(Value::of(dims[i], w.origins.size() > i ? w.origins[i] : Span{}));
    v = callWith(v, {Value::list(std::move(shape))}, span);
  }
  v = fit(v, w.keptType(), span, "the initial value of `" + w.name + "`");
  if (v.isPoison()) return false;
  setName(v, w.name);
  writeWeight(w, v, false);
  ir::Meta meta = ir::Meta::dict();
  meta["kind"] = w.rows ? "rows" : spelling(w.kind);
  if (w.kind == WeightKind::Param) meta["trainable"] = w.trainable && !frame->frozen;
  if (w.owner && w.owner->decl) meta["layer"] = w.owner->path;
  module->persistents.push_back({w.path, w.keptType(), std::move(meta)});
  return true;
}

static WeightKind kindOf(const Instance &inst, bool isState) {
  if (inst.decl->declKind == DeclKind::Metric) return WeightKind::Metric;
  if (inst.decl->declKind == DeclKind::Optimizer) return WeightKind::Slot;
  return isState ? WeightKind::State : WeightKind::Param;
}

bool Elaborator::weightOptions(const ParamStmt &stmt, Weight &w) {
  for (const Option &o : stmt.options) {
    Value v = eval(*o.value);
    if (v.isPoison()) return false;
    if (o.name.text == "trainable") {
      if (v.kind != Kind::Bool)
        return fail(o.value->span, Diag::ArgumentType, {"`trainable`", "a bool", show(v)}), false;
      w.trainable = v.b;
    } else if (o.name.text == "regularizer" || o.name.text == "constraint") {
      v = toCallable(v, o.value->span, o.value);
      if (!v.isNone() && v.kind != Kind::Function && v.kind != Kind::Instance) {
        fail(o.value->span, Diag::ArgumentType,
             {"`" + std::string(o.name.text) + "`", "a function or none", show(v)});
        return false;
      }
      (o.name.text == "regularizer" ? w.regularizer : w.constraint) = v;
    } else {
      error(o.name.span, Diag::UnknownArgument,
            {stmt.isState ? "state" : "param", std::string(o.name.text)})
          .didYouMean(suggest(o.name.text, {"regularizer", "constraint", "trainable"}));
      return false;
    }
  }
  return true;
}

/// The element type of a weight whose type does not say one.
ir::DType Elaborator::keptType(const Instance &inst, bool isState) const {
  const Policy *p = kindOf(inst, isState) == WeightKind::Metric ? nullptr : frame->policy;
  if (!p) return floatType;
  if (kindOf(inst, isState) == WeightKind::Param) return p->variable;
  return p->variable == ir::DType::f64 ? ir::DType::f64 : floatType;
}

/// The declared type of a weight; poison after a message, none if the type is left out.
Value Elaborator::weightType(const ParamStmt &stmt, ir::Type &type, std::vector<Span> &origins) {
  if (!stmt.type) return Value::none();
  if (stmt.type->kind != TypeKind::Tensor)
    return fail(
        stmt.type->span, Diag::ArgumentType,
        {"the type of `" + std::string(stmt.name.text) + "`", "a tensor type", print(*stmt.type)});
  const auto &t = as<TensorType>(*stmt.type);
  bool any;
  if (!typeElement(t, type.dtype, any) || !typeDims(t, type.dims, origins)) return {};
  if (!t.element) type.dtype = keptType(*owner(), stmt.isState);
  const bool mayHaveRows = kindOf(*owner(), stmt.isState) == WeightKind::State;
  for (ir::Dim d : type.dims)
    if (!d.isConst() && !mayHaveRows)
      return fail(stmt.type->span, Diag::WeightBatch,
                  {std::string(stmt.name.text), show(type.dims)});
  return Value::of(true);
}

/// Declares a weight and computes its initial value; null after a message. `infers`: the type is
/// that of the value.
Weight *Elaborator::newWeight(const ParamStmt &stmt, Instance &inst, ir::Type t,
                              std::vector<Span> origins, bool infers) {
  WeightKind kind = kindOf(inst, stmt.isState);
  const std::string name(stmt.name.text);
  std::string prefix = inst.path;
  if (kind == WeightKind::Metric) prefix = "metrics/" + prefix;
  if (frame->target) prefix += "/" + frame->target->path;
  int &used = inst.taken[prefix + "/" + name];
  std::string unique = used++ ? name + "_" + std::to_string(used - 1) : name;
  Weight *w = addWeight(prefix + "/" + unique, unique, kind, t, &inst);
  for (ir::Dim d : w->type.dims)
    if (!d.isConst()) w->rows = pass->root->b.f.batch;
  w->origins = std::move(origins);
  w->span = stmt.span;
  w->firstUse = userPlace();
  if (!weightOptions(stmt, *w)) return nullptr;
  if (frame->untrainable) w->trainable = false;
  const ir::DType kept = keptType(inst, stmt.isState);
  bool ok = initialize(
      *w,
      [&] {
        Value v = eval(*stmt.init);
        if (!infers || v.isPoison()) return v;
        if (!isTensorLike(v)) {
          auto &d = error(stmt.init->span, Diag::TensorWanted, {text(stmt.init->span), show(v)});
          if (v.kind == Kind::Function) // an initializer
            d.help("a function of the shape needs the shape: `" +
                   std::string(stmt.isState ? "state " : "param ") + name + ": [n] = " +
                   text(stmt.init->span) + "`");
          return Value{};
        }
        v = tensor(v);
        if (!v.isPoison()) w->type = type(v), w->origins = originsOf(v);
        bool isNarrow = kind != WeightKind::Param && ir::widened(w->type.dtype) != w->type.dtype;
        if (w->type.dtype == floatType || isNarrow) w->type.dtype = kept; // `zeros_like(w)`
        for (ir::Dim d : w->type.dims)
          if (!d.isConst()) return fail(stmt.span, Diag::WeightBatch, {name, show(w->type.dims)});
        return v;
      },
      stmt.init->span);
  return ok ? w : nullptr;
}

Value Elaborator::evalParam(const ParamStmt &stmt) {
  Instance &inst = *owner();
  std::string name(stmt.name.text);
  auto bindIt = [&](Weight *w) {
    if (w) record(stmt.name.span, Recorder::What::Name, Value::of(w));
    frame->scope->bind(stmt.name.text, w ? Value::of(w) : Value{}, stmt.name.span);
    return w ? Value::none() : Value{};
  };
  if (!inst.decl) {
    fail(stmt.span, Diag::WeightPlace, {name});
    return bindIt(nullptr);
  }
  if (underTraining) {
    fail(stmt.span, Diag::WeightTraining, {name});
    return bindIt(nullptr);
  }
  auto where = path(&stmt);
  where.push_back(uint64_t(reinterpret_cast<uintptr_t>(frame->target)));
  ir::Type t;
  std::vector<Span> origins;
  Value typed = weightType(stmt, t, origins);
  if (typed.isPoison()) return bindIt(nullptr);
  if (auto it = weightIndex.find(where); it != weightIndex.end()) {
    Weight &w = *it->second;
    if (typed.isNone() || t == w.type) return bindIt(&w);
    error(stmt.span, Diag::WeightShape, {name, inst.name, show(w.type.dims), show(t.dims)})
        .label(w.firstUse, "first applied here");
    return bindIt(nullptr);
  }
  Weight *w = newWeight(stmt, inst, std::move(t), std::move(origins), typed.isNone());
  if (!w) return bindIt(nullptr);
  weightIndex.emplace(std::move(where), w);
  inst.weights.push_back(w);
  return bindIt(w);
}

// --- random draws (R10) --------------------------------------------------------------------------

/// "classifier/dropout:0:1": instance, its application in this step, draw within that application.
std::string Elaborator::randomSite() {
  std::string site = drawPrefix;
  if (site.empty()) {
    site = frame->owner->path.empty() ? frame->owner->kindName : frame->owner->path;
    site += ":" + std::to_string(frame->ordinal);
  }
  return site + ":" + std::to_string(pass->root->draws[site]++);
}

} // namespace nnc::fe
