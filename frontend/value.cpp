// Values and scopes: making, describing and finding them (see value.h).
#include "frontend/value.h"
#include <algorithm>

namespace nnc::fe {

int TupleObj::find(std::string_view name) const {
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return int(i);
  return -1;
}

static Value make(Kind kind) {
  Value v;
  v.kind = kind;
  return v;
}
Value Value::none() { return make(Kind::None); }
Value Value::of(bool x) {
  Value v = make(Kind::Bool);
  v.b = x;
  return v;
}
Value Value::of(int64_t x, Span origin) { return of(ir::Dim(x), origin); }
Value Value::of(ir::Dim x, Span origin) {
  Value v = make(Kind::Int);
  v.dim = x;
  v.origin = origin;
  return v;
}
Value Value::of(double x) {
  Value v = make(Kind::Float);
  v.d = x;
  return v;
}
Value Value::of(std::string x) {
  Value v = make(Kind::String);
  v.obj = std::make_shared<std::string>(std::move(x));
  return v;
}
Value Value::of(ir::DType t) {
  Value v = make(Kind::Element);
  v.element = t;
  return v;
}
Value Value::of(Instance *i) {
  Value v = make(Kind::Instance);
  v.instance = i;
  return v;
}
Value Value::of(Weight *w) {
  Value v = make(Kind::Weight);
  v.weight = w;
  return v;
}
Value Value::of(Pass *pass, ir::ValueId id) {
  Value v = make(Kind::Tensor);
  v.pass = pass;
  v.id = id;
  return v;
}
Value Value::list(Values items) {
  Value v = make(Kind::List);
  v.obj = std::make_shared<ListObj>(ListObj{std::move(items)});
  return v;
}
Value Value::tuple(Values items, std::vector<std::string> names) {
  Value v = make(Kind::Tuple);
  v.obj = std::make_shared<TupleObj>(TupleObj{std::move(names), std::move(items)});
  return v;
}
Value Value::function(FunctionObj f) {
  Value v = make(Kind::Function);
  v.obj = std::make_shared<FunctionObj>(std::move(f));
  return v;
}
Value Value::of(DataObj d) {
  Value v = make(Kind::Data);
  v.obj = std::make_shared<DataObj>(std::move(d));
  return v;
}

const char *describe(Kind kind) {
  switch (kind) {
  case Kind::Poison: return "an error";
  case Kind::None: return "none";
  case Kind::Int: return "an int";
  case Kind::Float: return "a float";
  case Kind::Bool: return "a bool";
  case Kind::String: return "a string";
  case Kind::Element: return "an element type";
  case Kind::List: return "a list";
  case Kind::Tuple: return "a tuple";
  case Kind::Function: return "a function";
  case Kind::Instance: return "an instance";
  case Kind::Weight:
  case Kind::Tensor: return "a tensor";
  case Kind::Module: return "an imported file";
  case Kind::Data: return "data";
  }
  return "";
}

const char *spelling(WeightKind kind) {
  switch (kind) {
  case WeightKind::Param: return "param";
  case WeightKind::State: return "state";
  case WeightKind::Slot: return "slot";
  case WeightKind::Metric: return "metric";
  case WeightKind::Host: return "host";
  }
  return "";
}

Binding &Scope::bind(std::string_view name, Value value, Span span) {
  auto &versions = names[name];
  Binding b;
  b.value = std::move(value);
  b.span = span;
  b.seq = ++seq;
  versions.push_back(std::move(b));
  return versions.back();
}

const Binding *Scope::find(std::string_view name, uint32_t upTo) const {
  const Scope *scope = this;
  while (scope) {
    auto it = scope->names.find(name);
    if (it != scope->names.end()) {
      const auto &versions = it->second;
      // Versions are ordered by age: the last one that is old enough.
      auto end = std::upper_bound(versions.begin(), versions.end(), upTo,
                                  [](uint32_t s, const Binding &b) { return s < b.seq; });
      if (end != versions.begin() && !(end - 1)->hidden) return &*(end - 1);
    }
    upTo = scope->parentSeq;
    scope = scope->parent.get();
  }
  return nullptr;
}

Weight *Instance::findWeight(std::string_view wanted) const {
  for (Weight *w : weights)
    if (w->name == wanted) return w;
  return nullptr;
}

Instance *Instance::findChild(std::string_view wanted) const {
  for (Instance *i : made)
    if (i->named && i->name == wanted) return i;
  return nullptr;
}

} // namespace nnc::fe
