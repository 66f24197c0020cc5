// Weights and gradients as values (R6, R12).
//
// Problem. A training step that is written out names weights, differentiates by them and stores
// into them:
//
//   g = clip_by_global_norm(grad(mean(loss), weights(m)), 1.0)
//   adam(weights(m, "*/kernel"), g)
//   weights(ema) <- 0.999 * weights(ema) + 0.001 * weights(m)
//
// Method. `weights(m)` is a record nested as the instances are. Its leaves are tensors, the values
// that the weights have now, which know the weight they were read from: arithmetic forgets that,
// `grad`, optimizers and `<-` ask for it. A derivative by a weight is the sum of those by every
// value it had in this step, since a stored value counts as a constant.
#include "frontend/elab_weights.h"
#include "frontend/elab_train.h"
#include <algorithm>

namespace nnc::fe {

// --- records of weights --------------------------------------------------------------------------

namespace {

/// A record under construction: leaves and nested records in order of their first mention.
struct Tree {
  std::vector<std::string> names;
  std::vector<std::unique_ptr<Tree>> inner; // null: a leaf
  std::vector<Weight *> leaves;

  void add(std::string_view path, Weight *w) {
    const size_t slash = path.find('/');
    const std::string name(path.substr(0, slash));
    if (slash == std::string_view::npos) {
      names.push_back(name);
      inner.emplace_back();
      leaves.push_back(w);
      return;
    }
    size_t i = 0;
    while (i < names.size() && (names[i] != name || !inner[i])) ++i;
    if (i == names.size()) {
      names.push_back(name);
      inner.push_back(std::make_unique<Tree>());
      leaves.push_back(nullptr);
    }
    inner[i]->add(path.substr(slash + 1), w);
  }

  Value value(Elaborator &e) const {
    Values items;
    for (size_t i = 0; i < names.size(); ++i)
      items.push_back(inner[i] ? inner[i]->value(e) : e.pass ? e.storedWeight(*leaves[i])
                                                             : Value::of(leaves[i]));
    return Value::tuple(std::move(items), names);
  }
};

/// `*` stands for any characters, slashes too.
bool matches(std::string_view pattern, std::string_view path) {
  size_t p = 0, s = 0, star = std::string_view::npos, from = 0;
  while (s < path.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      from = s;
    } else if (p < pattern.size() && pattern[p] == path[s]) {
      ++p, ++s;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      s = ++from;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool matchesAny(const std::vector<std::string> &patterns, std::string_view path) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string &p) { return matches(p, path); });
}

/// A pattern or a list of them.
bool patternsOf(Elaborator &e, const Value &v, Span span, const char *what,
                std::vector<std::string> &out) {
  if (v.isNone()) return true;
  Values items{v};
  if (v.kind == Kind::List) items = v.list();
  for (const Value &item : items) {
    if (item.kind != Kind::String) {
      e.error(span, Diag::ArgumentType,
              {"`" + std::string(what) + "` of `weights`", "a string such as \"*/kernel\"",
               e.show(item)});
      return false;
    }
    out.push_back(item.string());
  }
  return true;
}

} // namespace

/// The params of instances and of what they apply, each once, with their paths in the record.
static bool namedWeights(Elaborator &e, const Value &of, Span span,
                         std::vector<std::pair<std::string, Weight *>> &out,
                         bool withState = false) {
  Values items{of};
  if (of.kind == Kind::List) items = of.list();
  std::unordered_set<const Weight *> seen;
  for (const Value &item : items) {
    Value v = e.toCallable(item, span, nullptr);
    if (v.isPoison()) return false;
    if (v.kind != Kind::Instance) {
      e.error(span, Diag::ArgumentType,
              {"`weights`", "an instance, or a list of them", e.show(item)});
      return false;
    }
    Instance &root = *v.instance;
    if (!e.everApplied.contains(&root)) {
      const std::string name = e.text(span);
      auto &d = e.error(span, Diag::ShapeNotKnown, {"weights(" + name + ")", name});
      // The name of a declaration makes an instance of its own wherever it stands.
      const std::string kind = root.decl ? std::string(root.decl->name.text) : "";
      const bool isDecl = !kind.empty() && (name == kind || name.starts_with(kind + "("));
      const std::string made = Elaborator::snakeCase(kind);
      if (isDecl && name == kind)
        d.help("each `" + kind + "` makes an instance of its own: write `" + made + " = " + kind +
               (root.decl->params.size() == 2 ? "(...)" : "()") + "` at the top of the file and `" +
               made + "` here, in applications and behind `train`");
      else if (isDecl)
        d.help("this makes an instance of its own: write `" + made + " = " + name +
               "` at the top of the file and `" + made + "` in its place");
      else
        d.help("`_ = " + name + "(x)` builds it");
      return false;
    }
    std::vector<Instance *> all;
    e.collect(root, all);
    const std::string prefix = root.path + "/";
    auto isOwn = [&](const Weight &w) {
      return of.kind != Kind::List && w.path.starts_with(prefix);
    };
    auto first = [](const std::string &path) { return path.substr(0, path.find('/')); };
    // by what is made inside; what is made elsewhere avoids it
    std::unordered_set<std::string> taken;
    for (Instance *inst : all)
      for (Weight *w : inst->weights)
        if (isOwn(*w)) taken.insert(first(w->path.substr(prefix.size())));
    // The layers in `Sequential([Dense(3), Dense(1)])` belong to the file and are numbered there;
    // here their number is that among the foreign ones, so that two such networks have equal
    // records.
    std::unordered_map<const Instance *, std::string> renamed;
    auto foreign = [&](const Weight &w) {
      const Instance *top = w.owner;
      while (top->owner && top->owner->decl) top = top->owner;
      const std::string &base = top->namedByKind ? top->kindName : top->name;
      auto [it, isNew] = renamed.emplace(top, base);
      for (int k = 1; isNew && taken.contains(it->second); ++k)
        it->second = base + "_" + std::to_string(k);
      if (isNew) taken.insert(it->second);
      return it->second + w.path.substr(top->path.size());
    };
    for (Instance *inst : all)
      for (Weight *w : inst->weights) {
        const bool kept = w->kind == WeightKind::Param ||
                          (withState && w->kind == WeightKind::State && !w->rows);
        if (!kept || !seen.insert(w).second) continue;
        out.emplace_back(isOwn(*w) ? w->path.substr(prefix.size())
                         : of.kind == Kind::List ? w->path
                                                 : foreign(*w),
                         w);
      }
  }
  return true;
}

Value Elaborator::weightsOf(const Value &of, Span span) {
  std::vector<std::pair<std::string, Weight *>> named;
  if (!namedWeights(*this, of, span, named)) return {};
  Tree tree;
  for (auto &[path, w] : named) tree.add(path, w);
  return tree.value(*this);
}

Value builtin_load(BuiltinCall &c) {
  Value m = c.e.toCallable(c[1], c.spans[1], c.exprs[1]);
  if (m.isPoison()) return m;
  if (m.kind != Kind::Instance)
    return c.e.fail(c.spans[1], Diag::ArgumentType,
                    {"`m` of `load`", "a model or layer", c.e.show(c[1])});
  if (isForeignWeights(c[0].string()))
    return c.e.fail(c.spans[0], Diag::ArgumentType,
                    {"`file` of `load`", "a file that training saved, such as \"m.safetensors\"",
                     c.e.show(c[0])});
  m.instance->initialFile = c[0].string();
  return m;
}

/// The weights and state of instances that come from files: metadata `initial`.
ir::Meta Elaborator::initialMeta() {
  ir::Meta list = ir::Meta::list();
  for (Instance &inst : instances) {
    if (inst.initialFile.empty() || !everApplied.contains(&inst)) continue;
    std::vector<std::pair<std::string, Weight *>> named;
    if (!namedWeights(*this, Value::of(&inst), inst.span, named, true)) continue;
    ir::Meta entry = ir::Meta::dict(), tensors = ir::Meta::list();
    entry["file"] = inst.initialFile;
    for (auto &[name, w] : named) {
      ir::Meta pair = ir::Meta::list();
      pair.push(w->path);
      pair.push(name);
      tensors.push(std::move(pair));
    }
    entry["tensors"] = std::move(tensors);
    list.push(std::move(entry));
  }
  return list;
}

Value builtin_weights(BuiltinCall &c) {
  std::vector<std::string> select, except;
  if (!patternsOf(c.e, c[1], c.spans[1], "select", select) ||
      !patternsOf(c.e, c[2], c.spans[2], "except", except))
    return {};
  std::vector<std::pair<std::string, Weight *>> named;
  if (!namedWeights(c.e, c[0], c.spans[0], named)) return {};
  Tree tree;
  std::vector<std::string> known;
  for (auto &[path, w] : named) {
    known.push_back(path);
    if ((select.empty() || matchesAny(select, path)) && !matchesAny(except, path))
      tree.add(path, w);
  }
  if (tree.names.empty() && !named.empty()) {
    std::string list;
    for (size_t i = 0; i < known.size() && i < 6; ++i) list += (i ? ", `" : "`") + known[i] + "`";
    c.e.error(c.span, Diag::NothingSelected, {c.e.text(c.spans[0])})
        .note("its weights are " + list + (known.size() > 6 ? ", ..." : ""));
    return {};
  }
  return tree.value(c.e);
}

// --- walking records -----------------------------------------------------------------------------

static const Values *itemsOf(const Value &v) {
  if (v.kind == Kind::List) return &v.list();
  if (v.kind == Kind::Tuple) return &v.tuple().items;
  return nullptr;
}

static Value rebuilt(const Value &like, Values items) {
  return like.kind == Kind::List ? Value::list(std::move(items))
                                 : Value::tuple(std::move(items), like.tuple().names);
}

/// Every leaf of `target` with the leaf of `source` at the same place; `source` may have more.
static bool pairLeaves(Elaborator &e, const Value &target, const Value &source,
                       const std::string &path, Span span, std::vector<WeightPair> &out) {
  const Values *items = itemsOf(target);
  if (!items) {
    if (!target.weight || !(target.isTensor() || target.kind == Kind::Weight)) {
      e.error(span, Diag::WeightWanted, {path.empty() ? e.text(span) : path, e.show(target)});
      return false;
    }
    out.push_back({target.weight, source, path});
    return true;
  }
  const Values *from = itemsOf(source);
  for (size_t i = 0; i < items->size(); ++i) {
    const bool named = target.kind == Kind::Tuple && !target.tuple().names.empty();
    const std::string name = named ? target.tuple().names[i] : std::to_string(i);
    const std::string inner = path.empty() ? name : path + "/" + name;
    int at = -1;
    if (from && named && source.kind == Kind::Tuple) at = source.tuple().find(name);
    if (from && !named && i < from->size()) at = int(i);
    if (at < 0) {
      e.error(span, Diag::RecordLacks, {inner, e.show(source)});
      return false;
    }
    if (!pairLeaves(e, (*items)[i], (*from)[size_t(at)], inner, span, out)) return false;
  }
  return true;
}

bool Elaborator::pairWeights(const Value &target, const Value &source, Span span,
                             std::vector<WeightPair> &out) {
  return pairLeaves(*this, target, source, "", span, out);
}

// --- derivatives ---------------------------------------------------------------------------------

/// The values between the results of one function and x, going backwards from y.
static bool dependsOn(const ir::Function &f, ir::ValueId y, const std::vector<ir::ValueId> &xs) {
  std::vector<char> seen(f.values.size());
  std::vector<ir::ValueId> todo{y};
  while (!todo.empty()) {
    const ir::ValueId v = todo.back();
    todo.pop_back();
    if (seen[size_t(v.i)]) continue;
    seen[size_t(v.i)] = 1;
    if (std::any_of(xs.begin(), xs.end(), [&](ir::ValueId x) { return x.i == v.i; })) return true;
    const ir::Node *n = f.def(v);
    if (!n || n->op == ir::Op::stop_gradient_) continue;
    todo.insert(todo.end(), n->operands.begin(), n->operands.end());
  }
  return false;
}

namespace {
/// What one leaf of `x` is differentiated by: a value, or all values of a weight.
struct Leaf {
  std::vector<ir::ValueId> values;
  std::string name;
};

bool leavesOf(Elaborator &e, const Value &x, Span span, std::vector<Leaf> &out) {
  if (const Values *items = itemsOf(x)) {
    for (const Value &item : *items)
      if (!leavesOf(e, item, span, out)) return false;
    return true;
  }
  if (!x.isTensor() || !ir::isFloat(e.type(x).dtype)) {
    e.error(span, Diag::NotDifferentiable, {e.show(x)});
    return false;
  }
  Leaf leaf;
  const bool isParam = x.weight && x.weight->kind == WeightKind::Param;
  if (isParam) leaf.values = e.pass->reads[x.weight];
  if (std::none_of(leaf.values.begin(), leaf.values.end(),
                   [&](ir::ValueId v) { return v.i == x.id.i; }))
    leaf.values.push_back(x.id);
  leaf.name = e.pass->b.f.values[size_t(x.id.i)].name;
  out.push_back(std::move(leaf));
  return true;
}

Value structureOf(const Value &x, const Values &leaves, size_t &next) {
  const Values *items = itemsOf(x);
  if (!items) return leaves[next++];
  Values out;
  for (const Value &item : *items) out.push_back(structureOf(item, leaves, next));
  return rebuilt(x, std::move(out));
}
} // namespace

Value Elaborator::gradient(const Value &y, const Value &x, Span ySpan, Span xSpan) {
  if (y.isPoison() || x.isPoison()) return {};
  if (!y.isTensor() || rank(y) != 0 || !ir::isFloat(type(y).dtype)) {
    auto &d = error(ySpan, Diag::ScalarWanted, {show(y)});
    if (y.isTensor() && rank(y) > 0)
      d.help("`sum(" + text(ySpan) + ")` or `mean(" + text(ySpan) + ")` is one");
    return {};
  }
  std::vector<Leaf> leaves;
  if (!leavesOf(*this, x, xSpan, leaves)) return {};
  std::vector<ir::ValueId> operands{y.id}, all;
  for (const Leaf &leaf : leaves) all.insert(all.end(), leaf.values.begin(), leaf.values.end());
  if (leaves.empty()) return x;
  if (!dependsOn(pass->b.f, y.id, all))
    error(xSpan, Diag::NoDependence, {text(ySpan), text(xSpan)});
  operands.insert(operands.end(), all.begin(), all.end());
  auto parts = emitMany(ir::Op::grad_, std::move(operands), ir::NoAttr{});
  if (parts.empty()) return {};
  Values sums;
  size_t next = 0;
  for (const Leaf &leaf : leaves) {
    Value sum = parts[next++];
    for (size_t k = 1; k < leaf.values.size(); ++k) sum = binary(BinaryOp::Add, sum, parts[next++]);
    if (!leaf.name.empty()) setName(sum, leaf.name + ".d"); // as differentiation names cotangents
    sums.push_back(std::move(sum));
  }
  next = 0;
  return structureOf(x, sums, next);
}

Value builtin_grad(BuiltinCall &c) {
  if (!c.e.needsTensor(c.span)) return {};
  Value y = c[0].isTensor() || !c.e.isTensorLike(c[0]) ? c[0] : c.e.tensor(c[0]);
  return c.e.gradient(y, c[1], c.spans[0], c.spans[1]);
}

// --- stores --------------------------------------------------------------------------------------

/// `weights(m) <- record` and `m.kernel <- value`, in a step.
void Elaborator::storeWeights(const Expr &target, const Value &value, Span valueSpan) {
  Value to = eval(target);
  if (to.isPoison() || value.isPoison()) return;
  if (owner() != &stepOwner) {
    fail(target.span, Diag::StorePlace, {text(target.span)});
    return;
  }
  std::vector<WeightPair> pairs;
  if (!pairWeights(to, value, target.span, pairs)) return;
  for (WeightPair &p : pairs) {
    Value v = fit(p.value, p.weight->type, valueSpan,
                  "what is stored in `" + p.weight->path + "`");
    if (v.isPoison()) return;
    if (!pass->training) continue; // does nothing outside training
    writeWeight(*p.weight, v, p.weight->kind != WeightKind::Param);
    setName(Value::of(pass, pass->current.at(p.weight)), p.weight->name);
  }
}

// --- m(x, weights = w) ---------------------------------------------------------------------------

/// The replaced leaves of an application: a record, or a function of the record as it is now.
bool Elaborator::replaceWeights(Instance &inst, const Value &given, Span span,
                                const std::function<bool()> &build, Replaced &out) {
  Value record = given;
  if (given.kind == Kind::Function) {
    if (!everApplied.contains(&inst) && !build()) return false;
    Value now = weightsOf(Value::of(&inst), span);
    if (now.isPoison()) return false;
    record = callWith(given, {now}, span);
  }
  if (record.isPoison()) return false;
  if (!everApplied.contains(&inst)) {
    error(span, Diag::ShapeNotKnown, {"weights(" + inst.kindName + ")", inst.kindName})
        .help("a function of the record, `weights = fn(w) = ...`, works in the first application "
              "too");
    return false;
  }
  std::vector<std::pair<std::string, Weight *>> named;
  if (!namedWeights(*this, Value::of(&inst), span, named)) return false;
  std::function<bool(const Value &, const std::string &)> add = [&](const Value &v,
                                                                    const std::string &path) {
    if (v.kind == Kind::Tuple && (!v.tuple().names.empty() || v.tuple().items.empty())) {
      for (size_t i = 0; i < v.tuple().items.size(); ++i)
        if (!add(v.tuple().items[i], path.empty() ? v.tuple().names[i]
                                                  : path + "/" + v.tuple().names[i]))
          return false;
      return true;
    }
    for (auto &[name, w] : named) {
      if (name != path) continue;
      Value fitted = fit(v, w->type, span, "the replaced `" + path + "`");
      if (fitted.isPoison()) return false;
      return out.emplace(w, fitted), true;
    }
    std::vector<std::string> known;
    for (auto &[name, w] : named) known.push_back(name);
    error(span, Diag::UnknownMember, {"`" + inst.name + "`", path})
        .didYouMean(suggest(path, known));
    return false;
  };
  return add(record, "");
}

} // namespace nnc::fe
