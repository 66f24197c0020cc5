// Types and dimensions (R7): what a parameter takes, and how sizes become known.
//
// Problem. `layer Dense(units: int)(x: [..lead, n]) -> [..lead, units]` applied to f32[batch,28,28]
// must find lead = [batch, 28], n = 28, and say where a size came from when two disagree.
//
// Method. The tensors of a call are matched together, left to right. A name that is a
// hyper-parameter or an int of the file is used; any other is bound at its first place and compared
// at the others; what is no name (`2 * n`) is computed last. Bound dimensions are names of the
// body.
#include "frontend/elab.h"
#include "frontend/foreign.h"
#include "frontend/print_ast.h"
#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace nnc::fe {

std::string Elaborator::print(const TypeExpr &type) const { return fe::print(type); }

// --- static types --------------------------------------------------------------------------------

static const Decl *namedDecl(Elaborator &e, const Path &path, FileScope &scope) {
  Value v;
  std::string_view first = path.parts[0].text;
  bool found = e.lookupFile(scope, first, v) || e.lookupLibrary(first, v);
  if (found && v.kind == Kind::Module && path.parts.size() == 2) {
    auto it = v.module->names.find(path.parts[1].text);
    return it != v.module->names.end() ? it->second.decl : nullptr;
  }
  if (!found || v.kind != Kind::Function || v.function().kind != FunctionKind::Decl) return nullptr;
  return v.function().decl;
}

bool Elaborator::isStaticType(const TypeExpr *type, FileScope &scope) {
  if (!type) return false;
  switch (type->kind) {
  case TypeKind::Named: {
    ir::DType t;
    const Path &path = as<NamedType>(*type).path;
    std::string_view name = path.parts[0].text;
    // `bool` alone is the static type; the other element types alone are scalars of tensors.
    return name == "bool" || path.parts.size() > 1 || !ir::parseDType(name, t);
  }
  case TypeKind::Tensor: return false;
  case TypeKind::List: return isStaticType(as<ListTypeExpr>(*type).element, scope);
  case TypeKind::Fn:
  case TypeKind::None:
  case TypeKind::String: return true;
  case TypeKind::Tuple: {
    const auto &fields = as<TupleType>(*type).fields;
    return std::all_of(fields.begin(), fields.end(),
                       [&](const TypeField &f) { return isStaticType(f.type, scope); });
  }
  case TypeKind::Union: {
    const auto &all = as<UnionType>(*type).alternatives;
    return std::all_of(all.begin(), all.end(),
                       [&](const TypeExpr *t) { return isStaticType(t, scope); });
  }
  }
  return true;
}

static bool isLayerKind(const Decl *d) {
  return d && (d->declKind == DeclKind::Layer || d->declKind == DeclKind::Model);
}

/// Whether v is of a type given by name; `out` is the value converted to it.
static bool matchNamed(Elaborator &e, const Value &v, const NamedType &type, Span span,
                       const void *key, Value &out) {
  std::string_view name = type.path.parts[0].text;
  out = v;
  if (type.path.parts.size() == 1) {
    if (name == "int") {
      bool whole = v.kind == Kind::Float && v.d == std::floor(v.d) && std::abs(v.d) < 0x1p62;
      if (whole) out = Value::of(int64_t(v.d), span);
      return v.kind == Kind::Int || whole;
    }
    if (name == "float") {
      if (v.isInt()) out = Value::of(v.number());
      return v.isNumber();
    }
    if (name == "bool") return v.kind == Kind::Bool;
    if (name == "string") return v.kind == Kind::String;
    if (name == "layer") {
      out = e.toCallable(v, span, key);
      return out.kind == Kind::Instance || out.kind == Kind::Function;
    }
  }
  const Decl *wanted = namedDecl(e, type.path, *e.frame->file);
  auto known = e.frame->file->names.find(name);
  if (known != e.frame->file->names.end() && known->second.decl && known->second.decl->broken)
    return out = {}, true; // reported by the parser
  if (!wanted) {
    e.error(type.span, Diag::UnknownName, {std::string(name)})
        .didYouMean(suggest(name, e.visibleNames()));
    return out = {}, true;
  }
  if (v.kind == Kind::Function && isLayerKind(wanted)) out = e.toCallable(v, span, key);
  return out.kind == Kind::Instance && out.instance->decl == wanted;
}

bool Elaborator::matchStatic(const Value &v, const TypeExpr &type, Span span, const void *key,
                             Value &out) {
  out = v;
  switch (type.kind) {
  case TypeKind::Named: return matchNamed(*this, v, as<NamedType>(type), span, key, out);
  case TypeKind::Tensor: return v.isTensor();
  case TypeKind::None: return v.isNone();
  case TypeKind::String: return v.kind == Kind::String && v.string() == as<StringType>(type).value;
  case TypeKind::Fn:
    out = toCallable(v, span, key);
    return out.kind == Kind::Function || out.kind == Kind::Instance;
  case TypeKind::List: {
    if (v.kind != Kind::List && v.kind != Kind::Tuple) return false;
    const Values &items = v.kind == Kind::List ? v.list() : v.tuple().items;
    Values converted(items.size());
    for (size_t i = 0; i < items.size(); ++i) {
      const char *itemKey = static_cast<const char *>(key) + 1 + i; // one place per item
      if (!matchStatic(items[i], *as<ListTypeExpr>(type).element, span, itemKey, converted[i]))
        return false;
    }
    out = Value::list(std::move(converted));
    return true;
  }
  case TypeKind::Tuple: {
    const auto &fields = as<TupleType>(type).fields;
    if (v.kind != Kind::Tuple || v.tuple().items.size() != fields.size()) return false;
    Values items(fields.size());
    for (size_t i = 0; i < fields.size(); ++i)
      if (!matchStatic(v.tuple().items[i], *fields[i].type, span, key, items[i])) return false;
    out = Value::tuple(std::move(items), v.tuple().names);
    return true;
  }
  case TypeKind::Union:
    for (const TypeExpr *t : as<UnionType>(type).alternatives)
      if (matchStatic(v, *t, span, key, out)) return true;
    return false;
  }
  return false;
}

static void literalsOf(const TypeExpr &type, std::vector<std::string> &out, bool &takesFn) {
  if (type.kind == TypeKind::String) out.push_back(as<StringType>(type).value);
  takesFn |= type.kind == TypeKind::Fn;
  if (type.kind == TypeKind::Union)
    for (const TypeExpr *t : as<UnionType>(type).alternatives) literalsOf(*t, out, takesFn);
}

Value Elaborator::conformStatic(const Value &v, const TypeExpr &type, Span span,
                                const std::string &what, const void *key) {
  if (v.isPoison()) return v;
  Value out;
  if (matchStatic(v, type, span, key, out)) return out;
  if (v.isTensor()) {
    error(span, Diag::ArgumentType, {what, print(type) + ", known at compile time", show(v)})
        .help("hyper-parameters come first and tensors second: `" + frame->name + "(...)(" +
              (isLibrary(span) || text(span).size() > 30 ? "x" : text(span)) + ")`, or `x |> " +
              frame->name + "(...)`");
    return {};
  }
  auto &e = error(span, Diag::ArgumentType, {what, print(type), show(v)});
  std::vector<std::string> literals;
  bool takesFn = false;
  literalsOf(type, literals, takesFn);
  if (v.isInt() && takesFn)
    e.help("the size of the input is found by itself, the sizes given are those of the output");
  if (v.kind != Kind::String) return {};
  std::string near = suggest(v.string(), literals);
  char *end = nullptr;
  bool isNumber = !v.string().empty() && (std::strtod(v.string().c_str(), &end), *end == 0);
  if (!near.empty())
    e.didYouMean("\"" + near + "\"");
  else if (isNumber)
    e.help("numbers are written without quotes: `" + v.string() + "`").fix(v.string());
  else if (takesFn)
    hintText(e, v.string());
  return {};
}

// --- tensor types --------------------------------------------------------------------------------

bool Elaborator::typeElement(const TensorType &type, ir::DType &out, bool &any) {
  any = false;
  out = frame->policy ? frame->policy->compute : floatType;
  if (!type.element) return true;
  std::string_view name = type.element->parts[0].text;
  if (name == "any") return any = true;
  if (name == "float") return out = floatType, true;
  if (type.element->parts.size() == 1 && ir::parseDType(name, out)) return true;
  std::vector<std::string> names{"any", "float"};
  for (int i = 0; i < ir::kDTypeCount; ++i) names.emplace_back(ir::dtypeName(ir::DType(i)));
  hint(error(type.element->span, Diag::UnknownName, {std::string(name)}), Foreign::Name, name,
       names);
  return false;
}

/// v with the elements a parameter of element type `want` takes (R8), or a message.
static Value toElement(Elaborator &e, const Value &v, ir::DType want, Span span,
                       const std::string &what) {
  ir::DType have = e.type(v).dtype;
  if (have == want) return v;
  bool small = have == ir::DType::boolean || have == ir::DType::u8;
  bool widens = (want == ir::DType::i64 && have == ir::DType::i32) ||
                ((want == ir::DType::i64 || want == ir::DType::i32) && small) ||
                (want == ir::DType::u8 && have == ir::DType::boolean);
  bool floats = ir::isFloat(want) && (ir::isFloat(have) || small);
  if (widens || floats) return e.cast(v, want);
  auto &d = e.error(span, Diag::ElementMismatch,
                    {what, std::string(ir::dtypeName(want)), std::string(ir::dtypeName(have))});
  std::string arg = e.text(span);
  if (e.frame->parent && e.frame->parent->owner == &e.stepOwner &&
      e.frame->parent->name == "step") {
    d.note("the loss says what the truth is: its first parameter has the type of the column");
    d.help(ir::isFloat(have)
               ? "for numbers or one column per class there are `CategoricalAccuracy()` and others"
               : "for class numbers there are `SparseCategoricalAccuracy()` and others");
    return {};
  }
  // An input may be declared otherwise: class numbers and tokens are no floats.
  auto column = v.pass->columns.find(v.id.i);
  if (!ir::isFloat(want) && ir::isFloat(have) && column != v.pass->columns.end() &&
      want != ir::DType::boolean) {
    std::string dims = e.show(e.type(v).dims);
    d.help("the input is declared so: `" + column->second + ": " +
           std::string(ir::dtypeName(want)) + dims + "`");
    return {};
  }
  if (want == ir::DType::boolean) {
    if (!e.isLibrary(span) && arg.size() < 30)
      d.help("a comparison gives bools, as in `" + arg + " > 0`");
    return {};
  }
  if (!e.isLibrary(span) && arg.size() < 30 && arg.find('\n') == std::string::npos)
    d.help("`cast(" + arg + ", " +
           (ir::isFloat(want) ? "float" : std::string(ir::dtypeName(want))) + ")` converts");
  return {};
}

/// One tensor of the call being matched.
struct Matched {
  const TensorType *type;
  Value *value;
  Span span;
  const std::string *what;
};
struct Late { // a dimension that is an expression
  const Matched *m;
  const Expr *expr;
  ir::Dim dim;
  int axis;
};
class Matcher {
 public:
  Matcher(Elaborator &e) : e_(e) {}
  bool add(const TypeExpr *type, Value &value, Span span, const std::string &what);
  bool run();

 private:
  Elaborator &e_;
  std::vector<Matched> all_;
  std::vector<Late> late_;
  const Matched *firstAny_ = nullptr;
  bool element(Matched &m);
  bool dims(Matched &m);
  bool one(Matched &m, const Item &item, int axis);
  bool pack(Matched &m, const Item &item, int begin, int count);
  void labelOrigins(Diagnostic &d, const Matched &m);
  static bool sequences(Diagnostic &d, const Value &v, int lacking);
  bool differs(const Matched &m, const std::string &name, int axis, const Value &want);
  bool known(std::string_view name, Value &out);
};

/// A hyper-parameter of the declaration, a dimension bound before, or an int of the file.
bool Matcher::known(std::string_view name, Value &out) {
  if (const Binding *b = e_.findBinding(name)) return out = b->value, true;
  auto &names = e_.frame->file->names;
  auto it = names.find(name);
  if (it == names.end() || !it->second.bind) return false;
  out = e_.fileValue(*e_.frame->file, it->second, name);
  return out.kind == Kind::Int || out.kind == Kind::List;
}

/// The float tensors of v in the layer's type.
static void convert(Elaborator &e, Value &v) {
  ir::DType t = e.frame->policy->compute;
  if (v.kind == Kind::List) {
    auto copy = std::make_shared<ListObj>(ListObj{v.list()});
    for (Value &item : copy->items) convert(e, item);
    v.obj = copy;
  } else if (v.kind == Kind::Tuple) {
    auto copy = std::make_shared<TupleObj>(v.tuple());
    for (Value &item : copy->items) convert(e, item);
    v.obj = copy;
  } else if (v.isTensor() && ir::isFloat(e.type(v).dtype)) {
    v = e.cast(v, t);
  }
}

bool Matcher::add(const TypeExpr *type, Value &value, Span span, const std::string &what) {
  if (!type) {
    Restore<Span> place(e_.at, span);
    if (e_.frame->converts) convert(e_, value);
    return true;
  }
  if (type->kind == TypeKind::Union) {
    const TypeExpr *wanted = nullptr;
    for (const TypeExpr *t : as<UnionType>(*type).alternatives) {
      if (t->kind == TypeKind::None && value.isNone()) return true;
      if (t->kind != TypeKind::None && !wanted) wanted = t;
    }
    type = wanted;
  }
  if (type->kind == TypeKind::Tuple) {
    const auto &fields = as<TupleType>(*type).fields;
    if (value.kind != Kind::Tuple || value.tuple().items.size() != fields.size()) {
      e_.error(span, Diag::ShapeMismatch, {what, e_.print(*type), e_.show(value)});
      return false;
    }
    auto copy = std::make_shared<TupleObj>(value.tuple());
    value.obj = copy;
    for (size_t i = 0; i < fields.size(); ++i)
      if (!add(fields[i].type, copy->items[i], span, what)) return false;
    return true;
  }
  if (type->kind == TypeKind::List && value.kind == Kind::List) {
    auto copy = std::make_shared<ListObj>(ListObj{value.list()});
    value.obj = copy;
    for (Value &item : copy->items)
      if (!add(as<ListTypeExpr>(*type).element, item, span, what)) return false;
    return true;
  }
  if (type->kind == TypeKind::Tensor) {
    all_.push_back({&as<TensorType>(*type), &value, span, &what});
    return true;
  }
  Value out; // `f32`: a scalar
  ir::DType t;
  bool scalar =
      type->kind == TypeKind::Named && ir::parseDType(as<NamedType>(*type).path.parts[0].text, t);
  if (scalar) {
    value = e_.fit(value, {t, {}}, span, what);
    return !value.isPoison();
  }
  e_.error(span, Diag::ShapeMismatch, {what, e_.print(*type), e_.show(value)});
  return false;
}

bool Matcher::element(Matched &m) {
  ir::DType want;
  bool any;
  if (!e_.typeElement(*m.type, want, any)) return false;
  Value &v = *m.value;
  if (!e_.isTensorLike(v)) {
    if (v.kind == Kind::Instance && v.instance->decl && !e_.isLibrary(m.span)) {
      std::string layer(v.instance->decl->name.text), text = e_.text(m.span);
      auto &d = e_.error(m.span, Diag::LayerNotApplied, {layer});
      if (!(v.instance->span == m.span)) d.label(v.instance->span, "made here");
      if (text.size() < 40 && text.find('\n') == text.npos)
        d.help("apply it to a tensor first: `x |> " + text + "`");
      return false;
    }
    auto &d = e_.error(m.span, Diag::ShapeMismatch, {*m.what, e_.print(*m.type), e_.show(v)});
    if ((v.kind == Kind::Tuple && !v.tuple().items.empty()) ||
        (v.kind == Kind::List && !v.list().empty())) {
      size_t n = v.kind == Kind::Tuple ? v.tuple().items.size() : v.list().size();
      static const char *const names[] = {"", "a", "a, b", "a, b, c", "a, b, c, d"};
      d.help("it holds " + std::to_string(n) + (n == 1 ? " value: `" : " values: `") +
             (n < 5 ? names[n] : "a, b, ...") + " = ...` takes them apart");
    }
    if (v.kind == Kind::Function && v.function().bound)
      d.help("`" + e_.calleeName(v) + "(...)` was called with one list, the tensors are missing");
    return false;
  }
  Restore<Span> place(e_.at, m.span);
  v = e_.tensor(v, v.isTensor() || any ? nullptr : &want);
  if (v.isPoison()) return false;
  // A function that a layer calls takes floats as the layer has them: its own type and the
  // module's.
  bool kept = !m.type->element && !e_.frame->ownsPath && e_.type(v).dtype == e_.floatType;
  if (any && e_.frame->converts) convert(e_, v);
  if (!any && !kept)
    v = toElement(e_, v, want, m.span, *m.what);
  else if (any && !firstAny_)
    firstAny_ = &m;
  else if (any && e_.type(*firstAny_->value).dtype != e_.type(v).dtype) {
    e_.error(
        m.span, Diag::ElementMismatch,
        {*m.what,
         std::string(ir::dtypeName(e_.type(*firstAny_->value).dtype)) + " as " + *firstAny_->what,
         std::string(ir::dtypeName(e_.type(v).dtype))});
    return false;
  }
  return !v.isPoison();
}

bool Matcher::differs(const Matched &m, const std::string &name, int axis, const Value &want) {
  std::string type = e_.print(*m.type), found = e_.show(*m.value);
  bool literal = name == e_.show(want); // `[batch, 10]` says it already
  auto &d = literal
                ? e_.error(m.span, Diag::ShapeMismatch, {*m.what, type, found})
                : e_.error(m.span, Diag::DimMismatch, {*m.what, type, name, e_.show(want), found});
  if (want.origin.valid()) d.label(want.origin, e_.show(want) + " comes from here");
  e_.labelSize(d, *m.value, axis);
  return false;
}

bool Matcher::one(Matched &m, const Item &item, int axis) {
  ir::Dim have = e_.type(*m.value).dims[axis];
  if (item.value->kind != ExprKind::Name) {
    late_.push_back({&m, item.value, have, axis});
    return true;
  }
  const auto &name = as<NameExpr>(*item.value);
  Value want;
  if (known(name.name, want)) {
    if (want.isPoison()) return false;
    if (want.kind == Kind::Float && want.d == std::floor(want.d)) want = Value::of(int64_t(want.d));
    if (want.kind != Kind::Int) {
      e_.error(item.value->span, Diag::NotInt, {e_.show(want)});
      return false;
    }
    return want.dim == have || differs(m, std::string(name.name), axis, want);
  }
  Binding &b = e_.frame->scope->bind(name.name, Value::of(have, e_.originOf(*m.value, axis)),
                                     item.value->span);
  b.isDim = true;
  b.axis = axis;
  return true;
}

bool Matcher::pack(Matched &m, const Item &item, int begin, int count) {
  Values sizes;
  for (int i = begin; i < begin + count; ++i)
    sizes.push_back(Value::of(e_.type(*m.value).dims[i], e_.originOf(*m.value, i)));
  const NameExpr *name = item.value->kind == ExprKind::Name ? &as<NameExpr>(*item.value) : nullptr;
  Value want;
  if (name && !known(name->name, want)) {
    Binding &b = e_.frame->scope->bind(name->name, Value::list(std::move(sizes)), item.value->span);
    b.isDim = true;
    b.axis = begin;
    return true;
  }
  if (!name) want = e_.eval(*item.value);
  Values wanted;
  if (!e_.iterate(want, item.value->span, wanted)) return false;
  std::string label = ".." + e_.text(item.value->span);
  if (wanted.size() != sizes.size()) {
    e_.error(m.span, Diag::DimMismatch,
             {*m.what, e_.print(*m.type), label, e_.show(Value::list(wanted)), e_.show(*m.value)});
    return false;
  }
  for (int i = 0; i < count; ++i)
    if (wanted[i].kind != Kind::Int || wanted[i].dim != sizes[i].dim)
      return differs(m, label, begin + i, wanted[i]);
  return true;
}

/// Where the sizes of a tensor come from, one note per line of the text.
void Matcher::labelOrigins(Diagnostic &d, const Matched &m) {
  std::vector<std::pair<Span, std::string>> places;
  for (int i = 0; i < e_.rank(*m.value); ++i) {
    Span p = e_.originOf(*m.value, i);
    if (!p.valid() || p == m.span || e_.type(*m.value).dims[i] == ir::Dim::batch()) continue;
    std::string size = e_.show(e_.type(*m.value).dims[i]);
    bool sameLine = !places.empty() && places.back().first.file == p.file &&
                    e_.sources.position(places.back().first).line == e_.sources.position(p).line;
    if (sameLine) {
      Span &q = places.back().first;
      q = {q.file, std::min(q.begin, p.begin), std::max(q.end, p.end)};
      places.back().second += ", " + size;
    } else {
      places.emplace_back(p, size);
    }
  }
  for (auto &[place, sizes] : places)
    d.label(place, sizes + (sizes.find(',') == sizes.npos ? " comes" : " come") + " from here");
}

/// The layer whose `return_sequences` is this: the instance, or one that it was given, as
/// `Bidirectional(LSTM(8))`.
static const Instance *sequenceLayer(const Instance *inst, bool sequences) {
  if (!inst || !inst->decl || inst->decl->params.size() != 2) return nullptr;
  const auto &params = inst->decl->params[0]->params;
  for (size_t i = 0; i < params.size() && i < inst->statics.size(); ++i) {
    const Value &given = inst->statics[i];
    if (params[i].name.text == "return_sequences" && given.kind == Kind::Bool &&
        given.b == sequences)
      return inst;
    if (given.kind != Kind::Instance || given.instance == inst) continue;
    if (const Instance *inner = sequenceLayer(given.instance, sequences)) return inner;
  }
  return nullptr;
}

/// An axis too few, where the layer that gave the value could keep it; or one too many, which a
/// layer on the way kept.
bool Matcher::sequences(Diagnostic &d, const Value &v, int lacking) {
  if (lacking != 1 && lacking != -1) return false;
  const std::vector<Maker> &makers = v.pass->makers;
  ir::ValueId at = v.id;
  for (auto m = makers.rbegin(); m != makers.rend() && at.valid(); ++m) {
    if (m->value != at) continue;
    if (const Instance *layer = sequenceLayer(m->instance, lacking < 0)) {
      const std::string name(layer->decl->name.text);
      if (lacking > 0)
        d.help("`" + name + "(..., return_sequences = true)` gives every step, not the last alone");
      else
        d.help("`" + name + "` without `return_sequences = true` gives the last step alone");
      return true;
    }
    // A layer between that changes the number of axes is where to look.
    if (lacking > 0 && m->instance &&
        !(m->input.valid() && v.pass->b.f.type(m->input).rank() == v.pass->b.f.type(v.id).rank()))
      return false;
    at = m->input;
  }
  return false;
}

bool Matcher::dims(Matched &m) {
  const auto &items = m.type->dims;
  int rank = e_.rank(*m.value), packs = 0, at = -1;
  for (size_t i = 0; i < items.size(); ++i)
    if (items[i].spread) ++packs, at = int(i);
  int fixed = int(items.size()) - packs;
  if (packs > 1 || rank < fixed || (packs == 0 && rank != fixed)) {
    auto &d =
        e_.error(m.span, Diag::ShapeMismatch, {*m.what, e_.print(*m.type), e_.show(*m.value)});
    labelOrigins(d, m);
    bool isResult = m.what->starts_with("the result of");
    if (packs == 0 && sequences(d, *m.value, fixed - rank)) return false;
    // Within the library only where it looks like the user's: pictures without channels.
    bool isUsers = !e_.isLibrary(m.span) || rank > 2;
    if (packs == 0 && rank == fixed - 1 && !isResult && isUsers)
      d.help("`expand_dims(x, -1)` adds an axis of size 1 at the end");
    else if (packs == 0 && rank > fixed && fixed == 2)
      d.help(isResult ? "`Flatten()` before the layers makes one row per sample"
                      : "`Flatten()` makes one row per sample");
    return false;
  }
  int count = rank - fixed;
  for (int i = 0; i < int(items.size()); ++i) {
    int axis = packs && i > at ? i - 1 + count : i;
    if (items[i].spread ? !pack(m, items[i], i, count) : !one(m, items[i], axis)) return false;
  }
  return true;
}

bool Matcher::run() {
  for (Matched &m : all_)
    if (!element(m) || !dims(m)) return false;
  for (const Late &l : late_) {
    Value want = e_.eval(*l.expr);
    if (want.isPoison()) return false;
    if (want.kind == Kind::Float && want.d == std::floor(want.d)) want = Value::of(int64_t(want.d));
    if (want.kind != Kind::Int) {
      e_.error(l.expr->span, Diag::NotInt, {e_.show(want)});
      return false;
    }
    if (want.dim != l.dim) return differs(*l.m, e_.text(l.expr->span), l.axis, want);
  }
  return true;
}

bool Elaborator::conformTensors(const std::vector<const TypeExpr *> &types, Values &values,
                                const std::vector<Span> &spans,
                                const std::vector<std::string> &what) {
  Matcher matcher(*this);
  for (size_t i = 0; i < types.size(); ++i)
    if (!matcher.add(types[i], values[i], spans[i], what[i])) return false;
  return matcher.run();
}

// --- types whose dimensions are all known --------------------------------------------------------

bool Elaborator::typeDims(const TensorType &type, ir::Dims &dims, std::vector<Span> &origins) {
  for (const Item &item : type.dims) {
    if (item.value->kind == ExprKind::Name) {
      std::string_view name = as<NameExpr>(*item.value).name;
      Value v;
      bool bound = findBinding(name) || name == "batch" || lookupFile(*frame->file, name, v);
      if (!bound) {
        error(item.value->span, Diag::UnboundDim, {std::string(name)});
        return false;
      }
    }
    Value v = eval(*item.value);
    if (v.isPoison()) return false;
    if (v.kind != Kind::List && item.spread) {
      error(item.value->span, Diag::NotIterable, {show(v)});
      return false;
    }
    if (!shapeList(v, item.value->span, dims, origins)) return false;
    if (dims.empty()) continue;
    if (dims.back().a < 0 || (dims.back().isConst() && dims.back().b < 1)) {
      error(item.value->span, Diag::NegativeSize, {text(item.value->span), show(dims.back())});
      return false;
    }
  }
  return true;
}

/// A result against its declared type, all of whose dimensions are known by now.
Value Elaborator::conformResult(const Value &v, const TypeExpr &type, const std::string &what) {
  if (v.isPoison()) return v;
  if (type.kind == TypeKind::Tuple) {
    const auto &fields = as<TupleType>(type).fields;
    if (v.kind != Kind::Tuple || v.tuple().items.size() != fields.size()) {
      auto &d = error(type.span, Diag::ShapeMismatch, {what, print(type), show(v)});
      if (v.isTensor() && !fields.empty() && fields[0].name) {
        std::string lines;
        for (const auto &field : fields)
          if (field.name)
            lines += (lines.empty() ? "`" : ", `") + std::string(field.name->text) + " = ...`";
        d.help("named outputs are names of the body: end it with " + lines);
      }
      return {};
    }
    Values items;
    std::vector<std::string> names;
    for (size_t i = 0; i < fields.size(); ++i) {
      int at = v.tuple().names.empty() || !fields[i].name ? int(i)
                                                          : v.tuple().find(fields[i].name->text);
      if (at < 0) return fail(type.span, Diag::ShapeMismatch, {what, print(type), show(v)});
      items.push_back(conformResult(v.tuple().items[at], *fields[i].type, what));
      if (items.back().isPoison()) return {};
      if (fields[i].name) names.emplace_back(fields[i].name->text);
    }
    if (names.size() != items.size()) names = v.tuple().names;
    return Value::tuple(std::move(items), std::move(names));
  }
  if (type.kind != TypeKind::Tensor) return v;
  for (const Item &item : as<TensorType>(type).dims) {
    if (item.value->kind != ExprKind::Name) continue;
    std::string_view name = as<NameExpr>(*item.value).name;
    Value known;
    if (findBinding(name) || lookupFile(*frame->file, name, known)) continue;
    if (name == "batch")
      frame->scope->bind(name, Value::of(ir::Dim::batch(), Span{}), type.span);
    else
      return fail(item.value->span, Diag::UnboundDim, {std::string(name)});
  }
  Values values{v};
  if (!conformTensors({&type}, values, {type.span}, {what})) return {};
  return values[0];
}

/// The text does not say all sizes but the first.
bool Elaborator::isOpenType(const TypeExpr *type) {
  if (!type || type->kind != TypeKind::Tensor) return true;
  const auto &dims = as<TensorType>(*type).dims;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i].spread) return true;
    if (i == 0 || dims[i].value->kind != ExprKind::Name) continue;
    const std::string_view name = as<NameExpr>(*dims[i].value).name;
    Value v;
    if (!findBinding(name) && !(lookupFile(*frame->file, name, v) && v.kind == Kind::Int))
      return true;
  }
  return false;
}

} // namespace nnc::fe
