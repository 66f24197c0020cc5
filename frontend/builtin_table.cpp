// The table of builtin functions, and those that work on static values and structures.
//
// Problem. `len(xs)`, `spread(3, 2)`, `check(d % h == 0, "…")` run at compile time and make no
// node.
//
// Method. builtins.def is the list; each row's function is called builtin_<name> and lives with its
// kind: here, builtin_math.cpp (elementwise and reductions), builtin_shape.cpp (arrangement),
// builtin_product.cpp (products and windows) and elab_data.cpp (readers). A row without a function
// does not link.
#include "frontend/elab.h"
#include <algorithm>
#include <cmath>

namespace nnc::fe {

#define BUILTIN(name, params, doc) Value builtin_##name(BuiltinCall &);
#include "frontend/builtins.def"
#undef BUILTIN

static const BuiltinInfo kTable[] = {
#define BUILTIN(name, params, doc) {#name, params, doc, builtin_##name},
#include "frontend/builtins.def"
#undef BUILTIN
};

std::span<const BuiltinInfo> builtins() { return kTable; }

int findBuiltin(std::string_view name) {
  static const auto index = [] {
    std::unordered_map<std::string_view, int> out;
    for (size_t i = 0; i < std::size(kTable); ++i) out.emplace(kTable[i].name, int(i));
    return out;
  }();
  auto it = index.find(name);
  return it == index.end() ? -1 : it->second;
}

static const Values *itemsOf(const Value &v) {
  if (v.kind == Kind::List) return &v.list();
  if (v.kind == Kind::Tuple) return &v.tuple().items;
  return nullptr;
}

Value builtin_len(BuiltinCall &c) {
  if (const Values *items = itemsOf(c[0])) return Value::of(int64_t(items->size()), c.span);
  if (c[0].kind == Kind::String) return Value::of(int64_t(c[0].string().size()), c.span);
  if (c[0].isTensor() && c.e.rank(c[0]) > 0)
    return Value::of(c.e.type(c[0]).dims[0], c.e.originOf(c[0], 0));
  return c.e.fail(c.spans[0], Diag::NotIterable, {c.e.show(c[0])});
}

static bool typed(BuiltinCall &c, ir::Type &out) {
  if (c[0].isTensor()) return out = c.e.type(c[0]), true;
  if (!c.e.isTensorLike(c[0])) {
    c.e.error(c.spans[0], Diag::TensorWanted, {c.e.text(c.span), c.e.show(c[0])});
    return false;
  }
  if (c[0].kind != Kind::List) { // a number
    out = {c[0].kind == Kind::Float ? c.e.floatType : ir::DType::i32, {}};
    return true;
  }
  Value t = c.e.tensor(c[0]);
  if (t.isPoison()) return false;
  return out = c.e.type(t), true;
}

Value builtin_rank(BuiltinCall &c) {
  ir::Type t;
  return typed(c, t) ? Value::of(int64_t(t.rank()), c.span) : Value{};
}

Value builtin_shape(BuiltinCall &c) {
  ir::Type t;
  if (!typed(c, t)) return {};
  Values out;
  for (int i = 0; i < t.rank(); ++i)
    out.push_back(Value::of(t.dims[i], c[0].isTensor() ? c.e.originOf(c[0], i) : c.span));
  return Value::list(std::move(out));
}

Value builtin_dtype(BuiltinCall &c) {
  ir::Type t;
  return typed(c, t) ? Value::of(t.dtype) : Value{};
}

Value builtin_axes(BuiltinCall &c) {
  ir::Type t;
  if (!typed(c, t)) return {};
  std::vector<int> axes;
  if (!c.e.axisList(c[1], c.exprs[1], t.rank(), c.spans[1], axes)) return {};
  Values out;
  for (int a : axes) out.push_back(Value::of(int64_t(a), c.span));
  return Value::list(std::move(out));
}

Value builtin_zip(BuiltinCall &c) {
  std::vector<Values> lists(c.rest.size());
  for (size_t i = 0; i < c.rest.size(); ++i) {
    if (!c.e.iterate(c.rest[i], c.span, lists[i])) return {};
    if (lists[i].size() != lists[0].size())
      return c.e.fail(Diag::UnpackCount,
                      {std::to_string(lists[0].size()), std::to_string(lists[i].size())});
  }
  Values out;
  for (size_t k = 0; !lists.empty() && k < lists[0].size(); ++k) {
    Values row;
    for (auto &list : lists) row.push_back(list[k]);
    out.push_back(Value::tuple(std::move(row)));
  }
  return Value::list(std::move(out));
}

Value builtin_enumerate(BuiltinCall &c) {
  Values items, out;
  if (!c.e.iterate(c[0], c.spans[0], items)) return {};
  for (size_t i = 0; i < items.size(); ++i)
    out.push_back(Value::tuple({Value::of(int64_t(i), c.span), items[i]}));
  return Value::list(std::move(out));
}

Value builtin_reverse(BuiltinCall &c) {
  Values items;
  if (!c.e.iterate(c[0], c.spans[0], items)) return {};
  std::reverse(items.begin(), items.end());
  return Value::list(std::move(items));
}

/// f leaf by leaf over structures of one form.
static Value mapLeaves(BuiltinCall &c, const Values &xs) {
  const Values *first = itemsOf(xs[0]);
  if (!first) return c.e.callWith(c[0], xs, c.span);
  Values out;
  for (size_t i = 0; i < first->size(); ++i) {
    Values row;
    for (const Value &x : xs) {
      const Values *items = itemsOf(x);
      if (!items || items->size() != first->size())
        return c.e.fail(Diag::OperandTypes, {"map", c.e.show(xs[0]) + " and " + c.e.show(x)});
      row.push_back((*items)[i]);
    }
    c.e.frame->rounds.push_back(i + 1);
    Value v = c.e.step(c.span) ? mapLeaves(c, row) : Value{};
    c.e.frame->rounds.pop_back();
    if (v.isPoison()) return v;
    out.push_back(std::move(v));
  }
  return xs[0].kind == Kind::List ? Value::list(std::move(out))
                                  : Value::tuple(std::move(out), xs[0].tuple().names);
}

static void addLeaves(const Value &v, Values &out) {
  if (const Values *items = itemsOf(v))
    for (const Value &item : *items) addLeaves(item, out);
  else
    out.push_back(v);
}

Value builtin_leaves(BuiltinCall &c) {
  Values out;
  addLeaves(c[0], out);
  return Value::list(std::move(out));
}

Value builtin_map(BuiltinCall &c) {
  if (c.rest.empty()) return c.e.fail(Diag::MissingArgument, {"map", "xs"});
  return mapLeaves(c, c.rest);
}

Value builtin_check(BuiltinCall &c) {
  ++c.e.effects;
  if (c[0].kind != Kind::Bool) return c.e.fail(c.spans[0], Diag::ConditionType, {c.e.show(c[0])});
  if (!c[0].b) {
    return c.e.fail(c.span, Diag::CheckFailed, {c[1].string()});
  }
  return Value::none();
}

Value builtin_spread(BuiltinCall &c) {
  if (c[1].isNone()) return itemsOf(c[0]) ? c[0] : Value::list({c[0]});
  if (!c[1].isInt() || c[1].integer() < 0 || c[1].integer() > 64)
    return c.e.fail(c.spans[1], Diag::NotInt, {c.e.show(c[1])});
  size_t n = size_t(c[1].integer());
  const Values *items = itemsOf(c[0]);
  if (!items) return Value::list(Values(n, c[0]));
  if (items->size() != n)
    return c.e.fail(Diag::ArgumentType,
                    {c.exprs[0] ? "`" + c.e.text(c.exprs[0]->span) + "`" : "the list",
                     "an int or " + std::to_string(n) + " ints", c.e.show(c[0])});
  return Value::list(*items);
}

Value builtin_int(BuiltinCall &c) {
  if (c[0].kind == Kind::Int) return c[0];
  if (c[0].kind == Kind::Bool) return Value::of(int64_t(c[0].b), c.span);
  if (c[0].kind == Kind::Float && std::abs(c[0].d) < 0x1p62)
    return Value::of(int64_t(c[0].d), c.span);
  return c.e.fail(c.spans[0], Diag::NotInt, {c.e.show(c[0])});
}

Value builtin_float(BuiltinCall &c) {
  if (c[0].isNumber()) return Value::of(c[0].number());
  return c.e.fail(c.spans[0], Diag::ArgumentType, {"`x` of `float`", "a number", c.e.show(c[0])});
}

// --- instances and losses ------------------------------------------------------------------------

Value builtin_fresh(BuiltinCall &c) {
  if (c[0].isPoison()) return {};
  if (c[0].kind != Kind::Instance)
    return c.e.fail(c.spans[0], Diag::ArgumentType,
                    {"`instance` of `fresh`", "an instance", c.e.show(c[0])});
  return c.e.freshInstance(*c[0].instance, c.span, c.exprs[0]);
}

Value builtin_with_mask(BuiltinCall &c) {
  return c.e.withMask(c[0], c[1], c.spans[1], "`mask` of `with_mask`");
}

Value builtin_mask_of(BuiltinCall &c) {
  if (c[0].isPoison()) return {};
  if (!c[0].isTensor())
    return c.e.fail(c.spans[0], Diag::ArgumentType,
                    {"`x` of `mask_of`", "a tensor", c.e.show(c[0])});
  return c.e.maskOf(c[0]);
}

Value builtin_add_loss(BuiltinCall &c) {
  ++c.e.effects;
  Value v = c.e.tensor(c[0]);
  if (v.isPoison()) return v;
  v = c.e.meanAll(c.e.cast(v, c.e.floatType));
  if (!v.isPoison()) c.e.addLoss(c.e.owner(), v);
  return Value::none();
}

Value builtin_losses(BuiltinCall &c) {
  if (c[0].kind != Kind::Instance)
    return c.e.fail(c.spans[0], Diag::ArgumentType,
                    {"`m` of `losses`", "an instance", c.e.show(c[0])});
  return c.e.lossesOf(*c[0].instance);
}

} // namespace nnc::fe
