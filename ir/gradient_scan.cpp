// The gradient of scan: a scan that runs the other way.
//
//   %h, %ys = scan @f (%h0; %x; %w)          h[t+1], y[t] = f(h[t], x[t], w)
//
//   %h, %ys, %s = scan @f.r (%h0; %x; %w)                       also stacks residuals s[t]
//   %dh0, %dw, %dx = scan @f.d reverse (%h.d, 0; %s, %x, %ys.d; %w)
//
// Method. The body and its own backward sweep are built as one function, `work`. Its forward half
// becomes @f.r, its backward half @f.d: cotangents of carries and of invariants are carries (the
// latter start at zero), cotangents of the sequences are stacked results. A forward value that the
// backward half references is computed again there if that is cheap and possible from slices,
// invariants and saved values; otherwise it is saved, as a stacked result on axis 0. Both halves
// are ordinary functions, so scans nest and have second derivatives.
#include "ir/reverse.h"
#include <algorithm>

namespace nnc::ir {

namespace {

// The operands of a scan by their role; `active` says which carries, sequences and invariants have
// cotangents.
struct Roles {
  size_t carries, xs, ys;
  std::vector<bool> active; // per operand
  bool isCarry(size_t k) const { return k < carries; }
  bool isSequence(size_t k) const { return k >= carries && k < carries + xs; }
  std::vector<size_t> pick(size_t from, size_t to) const {
    std::vector<size_t> out;
    for (size_t k = from; k < to; ++k)
      if (active[k]) out.push_back(k);
    return out;
  }
  std::vector<size_t> activeCarries() const { return pick(0, carries); }
  std::vector<size_t> activeSequences() const { return pick(carries, carries + xs); }
  std::vector<size_t> activeInvariants() const { return pick(carries + xs, active.size()); }
};

std::vector<bool> usefulTo(const Function &f, std::vector<bool> useful) {
  for (size_t i = f.nodes.size(); i-- > 0;) {
    const Node &node = f.nodes[i];
    bool any = false;
    for (int k = 0; k < node.resultCount; ++k) any |= useful[size_t(node.result(k).i)];
    if (!any || !hasDerivative(node.op)) continue;
    for (const ValueId v : node.operands)
      if (isFloat(f.type(v).dtype)) useful[size_t(v.i)] = true;
  }
  return useful;
}

// A carry takes part if it depends on what is differentiated by and the loss depends on it, each
// possibly through other carries in earlier or later rounds: two fixed points.
Roles findRoles(const Site &s, const Function &body) {
  const auto &a = s.attr<ScanAttr>();
  Roles r{size_t(a.carries), a.xAxes.size(), a.yAxes.size(), {}};
  std::vector<bool> varies = s.wanted, helps(s.x.size(), false);
  std::vector<bool> carryHelps(r.carries);
  for (size_t k = 0; k < r.carries; ++k) carryHelps[k] = s.g[k].has_value();
  for (bool changed = true; changed;) {
    changed = false;
    std::vector<ValueId> from;
    for (size_t k = 0; k < varies.size(); ++k)
      if (varies[k]) from.push_back(body.params[k].value);
    const std::vector<bool> varied = variedFrom(body, from);
    std::vector<bool> useful(body.values.size(), false);
    for (size_t k = 0; k < s.g.size(); ++k)
      if (k < r.carries ? carryHelps[k] : s.g[k].has_value())
        useful[size_t(body.results[k].value.i)] = true;
    useful = usefulTo(body, useful);
    for (size_t k = 0; k < s.x.size(); ++k) {
      helps[k] = useful[size_t(body.params[k].value.i)];
      if (!r.isCarry(k)) continue;
      if (varied[size_t(body.results[k].value.i)] && !varies[k]) varies[k] = changed = true;
      if (helps[k] && !carryHelps[k]) carryHelps[k] = changed = true;
    }
  }
  for (size_t k = 0; k < s.x.size(); ++k) {
    const bool useful = r.isCarry(k) ? carryHelps[k] : bool(helps[k]);
    r.active.push_back(varies[k] && useful && isFloat(s.x[k].type().dtype));
  }
  return r;
}

// The body and its sweep in one function.
struct Work {
  Function f;
  size_t forward = 0;                          // nodes before this one are the body's
  std::vector<ValueId> params;                 // of the body
  std::vector<ValueId> results;                // of the body
  std::vector<ValueId> dCarry, dInvariant, dY; // parameters: cotangents that come in
  std::vector<size_t> yWithCotangent;
  std::vector<ValueId> carryOut, sequenceOut, invariantOut; // cotangents that go out
};

ValueId addParam(Function &f, Names &names, const std::string &of, const Type &type) {
  const ValueId id{int32_t(f.values.size())};
  f.values.push_back({type, NodeId{}, names.unique(of.empty() ? "d" : of + ".d")});
  f.params.push_back({id, ""});
  return id;
}

Work sweepBody(const Site &s, const Function &body, const Roles &r) {
  Work w;
  w.f.batch = body.batch;
  Names names;
  names.take(body);
  Copier c(body, w.f);
  c.params();
  for (const Param &p : w.f.params) w.params.push_back(p.value);
  for (const Node &node : body.nodes) copyOrInline(s.b.module, c, node, names, hasNoGradient);
  for (const Result &result : body.results) w.results.push_back(c.mapped({result.value})[0]);
  w.forward = w.f.nodes.size();

  auto param = [&](ValueId of) {
    return addParam(w.f, names, w.f.values[size_t(of.i)].name, Type(w.f.type(of)));
  };
  std::vector<ValueId> wrt;
  for (size_t k = 0; k < r.active.size(); ++k)
    if (r.active[k]) wrt.push_back(w.params[k]);
  for (const size_t k : r.activeCarries()) w.dCarry.push_back(param(w.results[k]));
  for (const size_t k : r.activeInvariants()) w.dInvariant.push_back(param(w.params[k]));
  for (size_t k = r.carries; k < s.g.size(); ++k)
    if (s.g[k]) w.dY.push_back(param(w.results[k])), w.yWithCotangent.push_back(k);

  Builder b(s.b.module, w.f);
  b.loc = s.node.loc;
  Reverse sweep(b, names, wrt, s.sweep.inlineGradients);
  sweep.tables.push_back(&w.results);
  const auto carries = r.activeCarries(), invariants = r.activeInvariants();
  for (size_t i = 0; i < carries.size(); ++i)
    sweep.flow(w.results[carries[i]], b.value(w.dCarry[i]));
  for (size_t i = 0; i < w.dY.size(); ++i)
    sweep.flow(w.results[w.yWithCotangent[i]], b.value(w.dY[i]));
  sweep.run();
  b.loc = s.node.loc;
  for (const size_t k : carries) w.carryOut.push_back(sweep.cotangentOrZero(w.params[k]));
  for (const size_t k : r.activeSequences())
    w.sequenceOut.push_back(sweep.cotangentOrZero(w.params[k]));
  for (size_t i = 0; i < invariants.size(); ++i) {
    const Flow g = sweep.cotangent(w.params[invariants[i]]);
    const V sum = b.value(w.dInvariant[i]);
    w.invariantOut.push_back(g ? sum + *g : sum);
  }
  return w;
}

// --- what to save -------------------------------------------------------------------------------

// Moves or repeats its operand, or widens a bool: saving the operand instead costs no more.
bool isView(Op op) {
  switch (op) {
  case Op::broadcast_:
  case Op::window_:
  case Op::pad_:
  case Op::reshape_:
  case Op::transpose_:
  case Op::reverse_:
  case Op::cast_: return true;
  default: return false;
  }
}
// Computing it again costs less than a store and a load, or no more.
bool isCheap(Op op) {
  switch (op) {
  case Op::constant_:
  case Op::iota_:
  case Op::size_:
  case Op::random_:
  case Op::select_:
  case Op::slice_:
  case Op::concat_: return true;
  default: return isPointwise(op) || isView(op);
  }
}

struct Residuals {
  std::vector<ValueId> saved;    // in the order in which they are stacked
  std::vector<bool> neededNodes; // nodes of the backward function: live ones, and recomputed ones
  std::vector<bool> used;        // values that the backward function references or computes
};

// Live nodes of the backward half, and with them the values that it needs of the forward half.
void markBackward(const Work &w, Residuals &r) {
  r.used.assign(w.f.values.size(), false);
  r.neededNodes.assign(w.f.nodes.size(), false);
  for (const auto *out : {&w.carryOut, &w.sequenceOut, &w.invariantOut})
    for (const ValueId v : *out) r.used[size_t(v.i)] = true;
  for (size_t i = w.f.nodes.size(); i-- > w.forward;) {
    const Node &node = w.f.nodes[i];
    for (int k = 0; k < node.resultCount; ++k)
      if (r.used[size_t(node.result(k).i)]) r.neededNodes[i] = true;
    if (!r.neededNodes[i]) continue;
    for (const ValueId v : node.operands) r.used[size_t(v.i)] = true;
  }
}

Residuals findResiduals(const Work &w, const Roles &roles) {
  Residuals r;
  markBackward(w, r);
  std::vector<bool> wanted = r.used; // a view asks for its operand
  for (size_t i = w.forward; i-- > 0;) {
    const Node &node = w.f.nodes[i];
    if (isView(node.op) && wanted[size_t(node.firstResult.i)])
      wanted[size_t(node.operands[0].i)] = true;
  }
  std::vector<bool> known(w.f.values.size(), false);
  auto save = [&](ValueId v) { r.saved.push_back(v), known[size_t(v.i)] = true; };
  for (size_t k = 0; k < w.params.size(); ++k) {
    if (!roles.isCarry(k))
      known[size_t(w.params[k].i)] = true;
    else if (wanted[size_t(w.params[k].i)])
      save(w.params[k]);
  }
  for (size_t i = 0; i < w.forward; ++i) {
    const Node &node = w.f.nodes[i];
    const bool again =
        isCheap(node.op) && std::all_of(node.operands.begin(), node.operands.end(),
                                        [&](ValueId v) { return known[size_t(v.i)]; });
    for (int k = 0; k < node.resultCount; ++k) {
      const ValueId v = node.result(k);
      if (again)
        known[size_t(v.i)] = true;
      else if (wanted[size_t(v.i)])
        save(v);
    }
  }
  std::vector<bool> isSaved(w.f.values.size(), false);
  for (const ValueId v : r.saved) isSaved[size_t(v.i)] = true;
  for (size_t i = w.forward; i-- > 0;) { // what is computed again needs its operands
    const Node &node = w.f.nodes[i];
    for (int k = 0; k < node.resultCount; ++k) {
      const size_t v = size_t(node.result(k).i);
      if (r.used[v] && !isSaved[v]) r.neededNodes[i] = true;
    }
    if (!r.neededNodes[i]) continue;
    for (const ValueId v : node.operands) r.used[size_t(v.i)] = true;
  }
  std::erase_if(r.saved, [&](ValueId v) { return !r.used[size_t(v.i)]; });
  return r;
}

// --- the two functions --------------------------------------------------------------------------

std::string freeName(const Module &m, const std::string &base) {
  std::string name = base;
  for (int k = 1; m.find(name); ++k) name = base + "." + std::to_string(k);
  return name;
}

// The body with its nested scans as the sweep left them, and the saved values as further results.
std::string addForward(Module &m, const Work &w, const Function &body,
                       const std::vector<ValueId> &more) {
  Function &f = m.add(freeName(m, body.name + ".r"), body.batch);
  Copier c(w.f, f);
  for (size_t k = 0; k < w.params.size(); ++k) {
    f.values.push_back(w.f.values[size_t(w.params[k].i)]);
    c.map[size_t(w.params[k].i)] = {int32_t(k)};
    f.params.push_back({{int32_t(k)}, ""});
  }
  for (size_t i = 0; i < w.forward; ++i) c.node(w.f.nodes[i]);
  for (size_t k = 0; k < w.results.size(); ++k)
    f.results.push_back({c.mapped({w.results[k]})[0], body.results[k].name, false});
  for (const ValueId v : more) f.results.push_back({c.mapped({v})[0], "", false});
  return f.name;
}

// Copies a node, but results that are parameters (saved ones) stay those parameters.
void copyUnsaved(Copier &c, const Node &node) {
  std::vector<ValueId> before;
  for (int k = 0; k < node.resultCount; ++k) before.push_back(c.map[size_t(node.result(k).i)]);
  c.node(node);
  for (int k = 0; k < node.resultCount; ++k) {
    ValueId &now = c.map[size_t(node.result(k).i)];
    if (!before[size_t(k)].valid()) continue;
    c.to.values[size_t(now.i)].name.clear();
    now = before[size_t(k)];
  }
}

std::string addBackward(Module &m, const Work &w, const Function &body, const Residuals &r,
                        const std::vector<ValueId> &params) {
  Function &f = m.add(freeName(m, body.name + ".d"), body.batch);
  Copier c(w.f, f);
  for (const ValueId v : params) {
    const ValueId id{int32_t(f.values.size())};
    f.values.push_back({w.f.type(v), NodeId{}, w.f.values[size_t(v.i)].name});
    f.params.push_back({id, ""});
    c.map[size_t(v.i)] = id;
  }
  for (size_t i = 0; i < w.f.nodes.size(); ++i)
    if (r.neededNodes[i]) copyUnsaved(c, w.f.nodes[i]);
  for (const auto *out : {&w.carryOut, &w.invariantOut, &w.sequenceOut})
    for (const ValueId v : *out) f.results.push_back({c.mapped({v})[0], "", false});
  return f.name;
}

// A saved value that the body stacks already is read from there.
struct Stacked {
  ValueId outer; // result of the forward scan
  int64_t axis;
};

std::vector<Stacked> extendForward(Site &s, const Work &w, const Roles &roles, const Function &body,
                                   const std::vector<ValueId> &saved) {
  const ScanAttr a = s.attr<ScanAttr>();
  std::vector<ValueId> more;
  std::vector<Type> types;
  std::vector<std::pair<size_t, int64_t>> places; // result number and axis
  for (const ValueId v : saved) {
    const auto at = std::find(w.results.begin() + int64_t(roles.carries), w.results.end(), v);
    const size_t k = size_t(at - w.results.begin());
    if (k < w.results.size()) {
      places.push_back({k, a.yAxes[k - roles.carries]});
      continue;
    }
    places.push_back({w.results.size() + more.size(), 0});
    more.push_back(v);
    Type t = w.f.type(v);
    t.dims.insert(t.dims.begin(), Dim(a.length));
    types.push_back(std::move(t));
  }
  const std::string name = addForward(s.b.module, w, body, more);
  auto &attr = std::get<ScanAttr>(s.b.f.nodes[size_t(s.id.i)].attr);
  attr.body = name;
  attr.yAxes.resize(attr.yAxes.size() + more.size(), 0);
  s.sweep.extendResults(s.id, types);
  std::vector<Stacked> out;
  for (const auto &[k, axis] : places) out.push_back({s.b.f.node(s.id).result(int(k)), axis});
  return out;
}

} // namespace

Flows vjp_scan(Site &s) {
  const ScanAttr a = s.attr<ScanAttr>();
  const Function &body = *s.b.module.find(a.body);
  const Roles roles = findRoles(s, body);
  if (std::none_of(roles.active.begin(), roles.active.end(), [](bool x) { return x; })) return {};
  const Work w = sweepBody(s, body, roles);
  const Residuals r = findResiduals(w, roles);
  const std::vector<Stacked> stacked = extendForward(s, w, roles, body, r.saved);

  ScanAttr back;
  back.length = a.length;
  back.reverse = !a.reverse;
  std::vector<ValueId> operands, params;
  auto operand = [&](ValueId outer, ValueId inner) {
    operands.push_back(outer), params.push_back(inner);
  };
  auto sequence = [&](ValueId outer, ValueId inner, int64_t axis) {
    operand(outer, inner);
    back.xAxes.push_back(axis);
  };
  const auto carries = roles.activeCarries(), invariants = roles.activeInvariants();
  for (size_t i = 0; i < carries.size(); ++i) {
    const size_t k = carries[i];
    operand(s.g[k] ? *s.g[k] : s.b.like(0.0, s.x[k]), w.dCarry[i]);
  }
  for (size_t i = 0; i < invariants.size(); ++i)
    operand(s.b.like(0.0, s.x[invariants[i]]), w.dInvariant[i]);
  back.carries = int64_t(operands.size());
  for (size_t i = 0; i < stacked.size(); ++i)
    sequence(stacked[i].outer, r.saved[i], stacked[i].axis);
  for (size_t k = roles.carries; k < roles.carries + roles.xs; ++k)
    if (r.used[size_t(w.params[k].i)]) sequence(s.x[k], w.params[k], a.xAxes[k - roles.carries]);
  for (size_t i = 0; i < w.dY.size(); ++i) {
    const size_t k = w.yWithCotangent[i];
    sequence(*s.g[k], w.dY[i], a.yAxes[k - roles.carries]);
  }
  for (size_t k = roles.carries + roles.xs; k < w.params.size(); ++k)
    if (r.used[size_t(w.params[k].i)]) operand(s.x[k], w.params[k]);
  for (const size_t k : roles.activeSequences()) back.yAxes.push_back(a.xAxes[k - roles.carries]);

  back.body = addBackward(s.b.module, w, body, r, params);
  const std::vector<V> d = s.b.scan(back, operands);
  Flows flows(s.x.size());
  size_t next = 0;
  for (const size_t k : carries) flows[k] = d[next++];
  for (const size_t k : invariants) flows[k] = d[next++];
  for (const size_t k : roles.activeSequences()) flows[k] = d[next++];
  return flows;
}

} // namespace nnc::ir
