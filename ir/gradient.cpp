// Differentiation: `grad` nodes become the nodes that compute the derivative.
//
// Problem. Training needs d loss / d parameters, and gradient penalties need derivatives of those.
//
//   %y = mul %x, %x                        %y = mul %x, %x
//   %l = reduce %y {sum, [0]}        ->    %l = reduce %y {sum, [0]}
//   %g = grad %l, %x                       %1 = constant 1; %y.d = broadcast %1
//                                          %2 = mul %y.d, %x; %x.d = add %2, %2
//
// Method. Reverse mode on static single assignment: walk the nodes from the loss back to the x's;
// each node turns the cotangent of its results into cotangents of its operands, which are added up.
// What a rule references of the forward pass is what has to be kept, so there is no tape. A
// function is copied node by node and every grad node expands where it stands: a grad of a grad
// finds ordinary nodes behind it. Pointwise rules are the partials of ops.def, the others are in
// gradient_rules.cpp.
#include "ir/gradient.h"
#include "ir/reverse.h"
#include <algorithm>
#include <string_view>

namespace nnc::ir {

// --- pointwise rows -----------------------------------------------------------------------------

namespace {

// The one place where a literal partial decides: 0 lets nothing through, 1 the cotangent itself.
Flow scale(V g, double partial) {
  if (partial == 0) return {};
  if (partial == 1) return g;
  return partial == -1 ? -g : g * partial;
}
Flow scale(V g, V partial) { return g * partial; }

bool isZero(std::string_view formula) { return formula == "0.0"; }

Flows vjpPointwise(Site &s) {
  const V g = *s.g[0], y = s.y[0];
  (void)y;
  switch (s.node.op) {
#define UNARY(name, cls, lo, hi, fwd, dx)                                                          \
  case Op::name##_: {                                                                              \
    const V x = s.x[0];                                                                            \
    (void)x;                                                                                       \
    return {scale(g, dx)};                                                                         \
  }
#define BINARY(name, cls, loA, hiA, loB, hiB, fwd, da, db)                                         \
  case Op::name##_: {                                                                              \
    const V a = s.x[0], b = s.x[1];                                                                \
    (void)a, (void)b;                                                                              \
    return {s.wanted[0] ? scale(g, da) : Flow{}, s.wanted[1] ? scale(g, db) : Flow{}};             \
  }
#include "ir/ops.def"
  default: return {};
  }
}

} // namespace

// clang-format off
bool hasDerivative(Op op) {
  switch (op) {
#define UNARY(name, cls, lo, hi, fwd, dx) case Op::name##_: return !isZero(#dx);
#define BINARY(name, cls, loA, hiA, loB, hiB, fwd, da, db) \
  case Op::name##_: return !isZero(#da) || !isZero(#db);
#define COMPARE(name, fwd) case Op::name##_: return false;
#define TENSOR(name, arity, Attr) case Op::name##_: return true;
#include "ir/ops.def"
  }
  return false;
}

#define TENSOR(name, arity, Attr) Flows vjp_##name(Site &s);
#include "ir/ops.def"

Flows vjp(Site &s) {
  switch (s.node.op) {
#define TENSOR(name, arity, Attr) case Op::name##_: return vjp_##name(s);
#include "ir/ops.def"
  default: return vjpPointwise(s);
  }
}
// clang-format on

// --- the sweep ----------------------------------------------------------------------------------

std::vector<bool> variedFrom(const Function &f, const std::vector<ValueId> &xs) {
  std::vector<bool> varied(f.values.size(), false);
  for (const ValueId x : xs) varied[size_t(x.i)] = isFloat(f.type(x).dtype);
  for (const Node &node : f.nodes) {
    if (!hasDerivative(node.op)) continue;
    const bool any = std::any_of(node.operands.begin(), node.operands.end(),
                                 [&](ValueId v) { return varied[size_t(v.i)]; });
    for (int k = 0; any && k < node.resultCount; ++k)
      if (isFloat(f.type(node.result(k)).dtype)) varied[size_t(node.result(k).i)] = true;
  }
  return varied;
}

Reverse::Reverse(Builder &b, Names &names, std::vector<ValueId> wrt, bool inlineGradients)
    : b(b), names(names), xs(std::move(wrt)), inlineGradients(inlineGradients),
      end_(int32_t(b.f.nodes.size())), firstNew_(int32_t(b.f.values.size())),
      varied_(variedFrom(b.f, xs)), cot_(b.f.values.size()) {
  tables.push_back(&xs);
}

void Reverse::flow(ValueId y, V g) {
  Flow &sum = cot_[size_t(y.i)];
  sum = sum ? *sum + g : g;
}

bool Reverse::active(const Node &node) const {
  bool has = false, wants = false;
  for (int k = 0; k < node.resultCount; ++k) has |= cot_[size_t(node.result(k).i)].has_value();
  for (const ValueId v : node.operands) wants |= varied_[size_t(v.i)];
  return has && wants && hasDerivative(node.op);
}

void Reverse::run() {
  for (int32_t i = end_ - 1; i >= 0; --i) {
    if (!active(b.f.nodes[size_t(i)])) continue;
    b.loc = b.f.nodes[size_t(i)].loc;
    Site s = site({i});
    const Flows flows = vjp(s);
    NNC_CHECK(flows.size() <= s.x.size(),
              std::string("too many cotangents of ") + info(s.node.op).name);
    for (size_t k = 0; k < flows.size(); ++k) {
      if (!flows[k] || !s.wanted[k]) continue;
      NNC_CHECK(flows[k]->type() == s.x[k].type(),
                std::string("wrong type of a cotangent of ") + info(s.node.op).name);
      flow(s.x[k], *flows[k]);
    }
  }
}

Site Reverse::site(NodeId id) {
  Site s{*this, b, id, b.f.node(id), {}, {}, {}, {}};
  for (const ValueId v : s.node.operands) {
    s.x.push_back(b.value(v));
    s.wanted.push_back(varied_[size_t(v.i)]);
  }
  for (int k = 0; k < s.node.resultCount; ++k) {
    s.y.push_back(b.value(s.node.result(k)));
    s.g.push_back(cotangent(s.node.result(k)));
  }
  return s;
}

// A cotangent that passed through unchanged keeps its first name.
Flow Reverse::cotangent(ValueId x) {
  const Flow g = cot_[size_t(x.i)];
  if (!g || g->id.i < firstNew_) return g;
  std::string &name = b.f.values[size_t(g->id.i)].name;
  const std::string &of = b.f.values[size_t(x.i)].name;
  if (name.empty() && !of.empty()) name = names.unique(of + ".d");
  return g;
}

V Reverse::cotangentOrZero(ValueId x) {
  const Flow g = cotangent(x);
  return g ? *g : b.like(0.0, x);
}

void Reverse::extendResults(NodeId id, std::vector<Type> more) {
  Function &f = b.f;
  Node &node = f.nodes[size_t(id.i)];
  const int32_t old = node.firstResult.i, count = node.resultCount;
  const int32_t first = int32_t(f.values.size());
  for (int32_t k = 0; k < count; ++k) {
    ValueInfo v = f.values[size_t(old + k)];
    f.values[size_t(old + k)].name.clear();
    f.values.push_back(std::move(v));
  }
  for (Type &t : more) f.values.push_back({std::move(t), id, ""});
  node.firstResult = {first};
  node.resultCount = count + int32_t(more.size());
  auto follow = [&](ValueId &v) {
    if (v.i >= old && v.i < old + count) v.i += first - old;
  };
  for (size_t i = size_t(id.i) + 1; i < f.nodes.size(); ++i)
    for (ValueId &v : f.nodes[i].operands) follow(v);
  for (auto *table : tables)
    for (ValueId &v : *table) follow(v);
  varied_.resize(f.values.size(), true);
  cot_.resize(f.values.size());
  for (int32_t k = 0; k < count; ++k) cot_[size_t(first + k)] = cot_[size_t(old + k)];
}

// --- functions ----------------------------------------------------------------------------------

bool hasNoGradient(const CallAttr &call) { return call.gradient.empty(); }

namespace {

void expandGrad(Copier &c, Builder &b, Names &names, const Node &node, bool again) {
  const std::vector<ValueId> operands = c.mapped(node.operands);
  const int32_t firstNew = int32_t(c.to.values.size());
  b.loc = node.loc;
  Reverse sweep(b, names, {operands.begin() + 1, operands.end()}, again);
  sweep.tables.push_back(&c.map);
  sweep.flow(operands[0], b.like(1.0, operands[0]));
  sweep.run();
  b.loc = node.loc;
  for (int k = 0; k < node.resultCount; ++k) {
    const ValueId g = sweep.cotangentOrZero(sweep.xs[size_t(k)]);
    c.map[size_t(node.result(k).i)] = g;
    const std::string &name =
        c.from.values[size_t(node.result(k).i)].name; // free: no node has it now
    if (!name.empty() && g.i >= firstNew) c.to.values[size_t(g.i)].name = name;
  }
}

void differentiate(Function &f, Module &m) {
  auto isGrad = [](const Node &node) { return node.op == Op::grad_; };
  auto left = std::count_if(f.nodes.begin(), f.nodes.end(), isGrad);
  if (left == 0) return;
  Names names;
  names.take(f);
  rebuild(f, [&](Copier &c) {
    Builder b(m, c.to);
    for (const Node &node : c.from.nodes) {
      if (isGrad(node))
        expandGrad(c, b, names, node, --left > 0);
      else
        copyOrInline(m, c, node, names, hasNoGradient);
    }
  });
  // A scan that got more results left its old ones behind: number the values anew.
  rebuild(f, [](Copier &c) {
    for (const Node &node : c.from.nodes) c.node(node);
  });
}

} // namespace

void differentiate(Module &m) {
  const UnusedFunctions unused(m);
  for (Function *f : calleesFirst(m)) differentiate(*f, m);
  unused.drop(m);
}

void inlineCalls(Module &m) {
  const UnusedFunctions unused(m);
  for (Function *f : calleesFirst(m)) {
    const bool calls = std::any_of(f->nodes.begin(), f->nodes.end(),
                                   [](const Node &node) { return node.op == Op::call_; });
    if (!calls) continue;
    Names names;
    names.take(*f);
    rebuild(*f, [&](Copier &c) {
      for (const Node &node : c.from.nodes)
        copyOrInline(m, c, node, names, [](const CallAttr &) { return true; });
    });
  }
  unused.drop(m);
}

} // namespace nnc::ir
