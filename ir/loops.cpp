// What a scan need not do round by round moves out of it.
//
//   %h = scan @cell (%h0; %x; %w, %u):  h' = tanh(x w + h u)
//     ->  %xw = contract %x, %w with a label for time;  %h = scan @cell (%h0; %xw; %u)
//
// Problem. A loop's kernels are small: one row block against a matrix, T times, each time with the
// matrix from memory and the threads meeting. One product of all rounds is as fast as the machine.
//
// Method. Two passes, each of which makes a new body and a new scan.
//   hoist  What depends on invariants alone is computed once, before the loop. What depends on
//          slices and invariants, and not on carries, can be computed for all rounds at once: so
//          are contractions, and the pointwise nodes behind them. The loop takes slices of the
//          results.
//   sink   The dual. A carry that only adds up contractions or sums, w.d += x[t]^T z.d[t] of every
//          gradient, becomes one contraction behind the loop, with time among the labels that
//          are summed; its operands are stacked. In mixed precision each is cast to f32 before it
//          is added: then all rounds are summed in f32, and nothing is rounded on the way. A
//          contraction with an invariant that only stacked results need moves behind the loop,
//          too, with what follows it.
// Both drop carries, results and operands that nobody needs. A value of all rounds has time as its
// first dimension. Draws stay where they are: their numbers are those of the round. The order of
// sums changes, so bits may; what is computed does not.
#include "ir/builder.h"
#include "ir/copy.h"
#include "ir/passes.h"
#include <algorithm>

namespace nnc::ir {

namespace {

// --- values of all rounds ------------------------------------------------------------------------

bool isMove(Op op) {
  switch (op) {
  case Op::broadcast_:
  case Op::reshape_:
  case Op::transpose_:
  case Op::slice_:
  case Op::pad_:
  case Op::reverse_:
  case Op::concat_: return true;
  default: return false;
  }
}
bool isElementwise(Op op) { return isPointwise(op) || op == Op::select_ || op == Op::cast_; }
bool canBatch(Op op) {
  return isElementwise(op) || isMove(op) || op == Op::contract_ || op == Op::reduce_;
}

// A body's value outside of the loop: of every round alike (axis -1), or of all rounds.
struct Outside {
  ValueId id;
  int64_t axis = -1;
};

template <class T> std::vector<T> withFirst(std::vector<T> v, T first) {
  v.insert(v.begin(), first);
  return v;
}
Ints shifted(Ints dims) {
  for (int64_t &d : dims) ++d;
  return dims;
}

// Computes nodes of a body outside of it.
class Batcher {
 public:
  Batcher(Builder &b, Names &names, const Function &body, int64_t length)
      : of(body.values.size()), b_(b), names_(names), body_(body), length_(length) {}
  std::vector<Outside> of; // by ValueId of the body; invalid: not there

  void node(const Node &n) {
    b_.loc = n.loc;
    const bool same = std::all_of(n.operands.begin(), n.operands.end(),
                                  [&](ValueId v) { return of[size_t(v.i)].axis < 0; });
    const ValueId first = same ? again(n)
                          : n.op == Op::contract_
                              ? contract(n, false, body_.type(n.firstResult).dtype)
                              : batch(n);
    for (int k = 0; k < n.resultCount; ++k) {
      of[size_t(n.result(k).i)] = {{first.i + k}, same ? -1 : 0};
      named({first.i + k}, body_.values[size_t(n.result(k).i)].name);
    }
  }
  // The sum of all rounds' values of a contraction or a sum, in the type that it is summed in.
  ValueId total(const Node &n, DType dtype) {
    b_.loc = n.loc;
    ValueId sum;
    if (n.op == Op::contract_) {
      sum = contract(n, true, dtype);
    } else {
      auto dims = std::get<ReduceAttr>(n.attr).dims;
      sum = lead(n.operands[0]);
      sum = b_.cast(sum, dtype);
      sum = b_.sum(sum, withFirst(shifted(std::move(dims)), int64_t(0)));
    }
    named(sum, body_.values[size_t(n.firstResult.i)].name);
    return sum;
  }
  // The value of all rounds, stacked on `axis`.
  ValueId stacked(ValueId v, int64_t axis) {
    if (of[size_t(v.i)].axis == axis) return of[size_t(v.i)].id;
    const ValueId x = lead(v);
    Ints perm;
    for (int64_t d = 1; d < int64_t(b_.f.type(x).dims.size()); ++d) perm.push_back(d);
    perm.insert(perm.begin() + axis, 0);
    return b_.transpose(x, perm);
  }

 private:
  Builder &b_;
  Names &names_;
  const Function &body_;
  int64_t length_;

  void named(ValueId v, const std::string &name) {
    b_.f.values[size_t(v.i)].name = names_.unique(name);
  }
  ValueId again(const Node &n) {
    std::vector<ValueId> operands;
    for (const ValueId v : n.operands) operands.push_back(of[size_t(v.i)].id);
    return b_.make(n.op, std::move(operands), n.attr);
  }
  // With time first.
  ValueId lead(ValueId v) {
    const Outside o = of[size_t(v.i)];
    const Dims dims = b_.f.type(o.id).dims;
    Ints perm;
    if (o.axis < 0) {
      for (size_t d = 0; d < dims.size(); ++d) perm.push_back(int64_t(d) + 1);
      return b_.broadcast(o.id, perm, withFirst(dims, Dim(length_)));
    }
    if (o.axis == 0) return o.id;
    perm.push_back(o.axis);
    for (int64_t d = 0; d < int64_t(dims.size()); ++d)
      if (d != o.axis) perm.push_back(d);
    return b_.transpose(o.id, perm);
  }

  ValueId contract(const Node &n, bool sum, DType dtype) {
    ContractAttr a = std::get<ContractAttr>(n.attr);
    a.type.dtype = dtype;
    std::string name = "t";
    while (std::count(a.labels.begin(), a.labels.end(), name)) name += "t";
    LabelForm time;
    time.terms.push_back({int32_t(a.labels.size()), 1});
    a.labels.push_back(name);
    a.extents.push_back(Dim(length_));
    std::vector<ValueId> operands;
    for (size_t k = 0; k < 2; ++k) {
      const Outside o = of[size_t(n.operands[k].i)];
      operands.push_back(o.id);
      if (o.axis >= 0) a.forms[k].insert(a.forms[k].begin() + o.axis, time);
    }
    if (!sum) {
      a.forms[2].insert(a.forms[2].begin(), time);
      a.type.dims.insert(a.type.dims.begin(), Dim(length_));
    }
    return b_.make(Op::contract_, std::move(operands), std::move(a));
  }

  ValueId batch(const Node &n) {
    std::vector<ValueId> operands;
    for (const ValueId v : n.operands) operands.push_back(lead(v));
    Attr attr = n.attr;
    auto grow = [&](Type &t) { t.dims.insert(t.dims.begin(), Dim(length_)); };
    switch (n.op) {
    case Op::cast_: grow(std::get<CastAttr>(attr).type); break;
    case Op::broadcast_: {
      auto &a = std::get<BroadcastAttr>(attr);
      a.dims = withFirst(shifted(a.dims), int64_t(0));
      grow(a.type);
      break;
    }
    case Op::reshape_: grow(std::get<ReshapeAttr>(attr).type); break;
    case Op::transpose_: {
      auto &a = std::get<PermAttr>(attr);
      a.perm = withFirst(shifted(a.perm), int64_t(0));
      break;
    }
    case Op::slice_: {
      auto &a = std::get<SliceAttr>(attr);
      a.start = withFirst(a.start, Dim(0)), a.limit = withFirst(a.limit, Dim(length_));
      if (!a.stride.empty()) a.stride = withFirst(a.stride, int64_t(1));
      break;
    }
    case Op::pad_: {
      auto &a = std::get<PadAttr>(attr);
      a.low = withFirst(a.low, Dim(0)), a.high = withFirst(a.high, Dim(0));
      break;
    }
    case Op::reverse_: {
      auto &a = std::get<AxesAttr>(attr);
      a.dims = shifted(a.dims);
      break;
    }
    case Op::concat_: ++std::get<AxisAttr>(attr).dim; break;
    case Op::reduce_: {
      auto &a = std::get<ReduceAttr>(attr);
      a.dims = shifted(a.dims);
      break;
    }
    default: break; // elementwise
    }
    return b_.make(n.op, std::move(operands), std::move(attr));
  }
};

// --- a scan under construction -------------------------------------------------------------------

// Values of the body by their ids there, those outside by their ids in the new function. `result`
// is the number of a result of the old scan, -1: a new one.
struct Parts {
  struct Carry {
    ValueId param, next, first;
    int result;
    std::vector<ValueId> terms; // if not empty: next is the sum of param and these
  };
  struct Slice {
    ValueId param, whole; // param: what becomes one
    int64_t axis;
  };
  struct Invariant {
    ValueId param, outer;
  };
  struct Stack {
    ValueId value;
    int64_t axis;
    int result;
    ValueId made; // filled by make()
  };
  std::vector<Carry> carries;
  std::vector<Slice> slices;
  std::vector<Invariant> invariants;
  std::vector<Stack> stacks;
};

class Rewriter {
 public:
  Rewriter(Module &m, Copier &c, Names &names, const std::vector<int> &uses, const Node &node)
      : m_(m), c_(c), names_(names), uses_(uses), node_(node),
        a_(std::get<ScanAttr>(node.attr)), body_(*m.find(a_.body)), b_(m, c.to),
        outside_(b_, names, body_, a_.length) {
    const size_t carries = size_t(a_.carries), xs = a_.xAxes.size();
    const std::vector<ValueId> operands = c.mapped(node.operands);
    for (size_t k = 0; k < operands.size(); ++k) {
      const ValueId p = body_.params[k].value;
      if (k < carries)
        parts_.carries.push_back({p, body_.results[k].value, operands[k], int(k), {}});
      else if (k < carries + xs)
        parts_.slices.push_back({p, operands[k], a_.xAxes[k - carries]});
      else
        parts_.invariants.push_back({p, operands[k]});
    }
    for (size_t k = carries; k < body_.results.size(); ++k)
      parts_.stacks.push_back({body_.results[k].value, a_.yAxes[k - carries], int(k), {}});
  }

  // Each false: nothing changed.
  bool hoist() {
    bool changed = prune();
    classify();
    changed |= hoistNodes();
    return changed;
  }
  bool sink() {
    bool changed = prune();
    classify();
    findUses();
    changed |= sinkSums();
    changed |= sinkStacks();
    return changed;
  }

  // The new scan and what follows it.
  void make() {
    prune();
    if (!parts_.carries.empty() || !parts_.stacks.empty()) makeScan();
    if (!behind_.empty() || !sums_.empty()) computeBehind();
  }

 private:
  Module &m_;
  Copier &c_;
  Names &names_;
  const std::vector<int> &uses_; // of the old function's values
  const Node &node_;
  const ScanAttr a_;
  const Function &body_;
  Builder b_;
  Batcher outside_;
  Parts parts_;

  enum Kind : uint8_t { Constant, Same, Sequence, Carried };
  std::vector<Kind> kinds_;
  std::vector<int> inner_;             // uses of the body's values in it
  std::vector<bool> behind_;           // by node: computed behind the loop
  std::vector<bool> alike_;            // by node: of every round alike, wanted outside
  struct Sum {
    size_t node;
    DType dtype;   // of the sum
    ValueId first; // what it is added to
    int result;
  };
  std::vector<Sum> sums_;
  std::vector<Parts::Stack> results_; // stacked results that are computed behind the loop

  bool isUsed(int result) const { return uses_[size_t(node_.result(result).i)] > 0; }
  void replace(int result, ValueId by) { c_.map[size_t(node_.result(result).i)] = by; }
  const Node *def(ValueId v) const { return body_.def(v); }

  // --- what nobody needs -------------------------------------------------------------------------

  // Values that the results need; nothing behind a parameter, which hoisted values are by now.
  std::vector<bool> neededValues(const std::vector<bool> &liveCarries) const {
    std::vector<bool> needed(body_.values.size(), false), isParam(body_.values.size(), false);
    for (const auto &s : parts_.slices) isParam[size_t(s.param.i)] = true;
    for (const auto &s : parts_.invariants) isParam[size_t(s.param.i)] = true;
    for (size_t k = 0; k < parts_.carries.size(); ++k) {
      if (!liveCarries[k]) continue;
      const auto &c = parts_.carries[k];
      if (c.terms.empty()) needed[size_t(c.next.i)] = true;
      for (const ValueId v : c.terms) needed[size_t(v.i)] = true;
    }
    for (const auto &s : parts_.stacks) needed[size_t(s.value.i)] = true;
    for (size_t i = body_.nodes.size(); i-- > 0;) {
      const Node &n = body_.nodes[i];
      bool any = false;
      for (int k = 0; k < n.resultCount; ++k)
        any |= needed[size_t(n.result(k).i)] && !isParam[size_t(n.result(k).i)];
      if (!any) continue;
      for (const ValueId v : n.operands) needed[size_t(v.i)] = true;
    }
    return needed;
  }

  bool prune() {
    bool changed = false;
    std::erase_if(parts_.stacks, [&](const auto &s) {
      const bool gone = s.result >= 0 && !isUsed(s.result);
      return changed |= gone, gone;
    });
    // A carry that never changes is an invariant.
    std::erase_if(parts_.carries, [&](const auto &c) {
      if (c.next != c.param || !c.terms.empty()) return false;
      parts_.invariants.push_back({c.param, c.first});
      replace(c.result, c.first);
      return changed = true;
    });
    std::vector<bool> live, needed;
    for (const auto &c : parts_.carries) live.push_back(isUsed(c.result));
    for (bool more = true; more;) {
      more = false;
      needed = neededValues(live);
      for (size_t k = 0; k < live.size(); ++k)
        if (!live[k] && needed[size_t(parts_.carries[k].param.i)]) live[k] = more = true;
    }
    size_t k = 0;
    auto unneeded = [&](const auto &p) {
      const bool gone = !needed[size_t(p.param.i)];
      return changed |= gone, gone;
    };
    std::erase_if(parts_.carries, [&](const auto &) {
      const bool gone = !live[k++];
      return changed |= gone, gone;
    });
    std::erase_if(parts_.slices, unneeded);
    std::erase_if(parts_.invariants, unneeded);
    return changed;
  }

  // --- what depends on what ----------------------------------------------------------------------

  void classify() {
    kinds_.assign(body_.values.size(), Constant);
    for (const auto &c : parts_.carries) kinds_[size_t(c.param.i)] = Carried;
    for (const auto &s : parts_.slices) {
      kinds_[size_t(s.param.i)] = Sequence;
      outside_.of[size_t(s.param.i)] = {s.whole, s.axis};
    }
    for (const auto &s : parts_.invariants) {
      kinds_[size_t(s.param.i)] = Same;
      outside_.of[size_t(s.param.i)] = {s.outer, -1};
    }
    for (const Node &n : body_.nodes) {
      Kind kind =
          n.op == Op::random_ || n.op == Op::scan_ || n.op == Op::call_ ? Carried : Constant;
      for (const ValueId v : n.operands) kind = std::max(kind, kinds_[size_t(v.i)]);
      for (int k = 0; k < n.resultCount; ++k) kinds_[size_t(n.result(k).i)] = kind;
    }
  }
  Kind kind(ValueId v) const { return kinds_[size_t(v.i)]; }
  bool isAlike(ValueId v) const { return kind(v) <= Same; }

  // Computes the marked nodes and what they need, in order, as far as it is not there.
  void computeOutside(std::vector<bool> wanted) {
    for (size_t i = body_.nodes.size(); i-- > 0;) {
      if (!wanted[i]) continue;
      for (const ValueId v : body_.nodes[i].operands)
        if (!outside_.of[size_t(v.i)].id.valid())
          wanted[size_t(body_.values[size_t(v.i)].def.i)] = true;
    }
    for (size_t i = 0; i < body_.nodes.size(); ++i)
      if (wanted[i]) outside_.node(body_.nodes[i]);
  }

  // --- before the loop ---------------------------------------------------------------------------

  bool hoistNodes() {
    std::vector<bool> wanted(body_.nodes.size(), false);
    std::vector<bool> batched(body_.values.size(), false); // depends on a hoisted contraction
    std::vector<bool> possible(body_.values.size(), true); // outside of the loop
    const std::vector<bool> needed = neededValues(std::vector<bool>(parts_.carries.size(), true));
    bool any = false;
    for (size_t i = 0; i < body_.nodes.size(); ++i) {
      const Node &n = body_.nodes[i];
      const ValueId v = n.firstResult;
      bool here = true, behind = false;
      for (const ValueId x : n.operands)
        here = here && possible[size_t(x.i)], behind = behind || batched[size_t(x.i)];
      const bool alike = kind(v) <= Same;
      here = here && kind(v) != Carried && (alike || canBatch(n.op));
      bool live = false;
      for (int k = 0; k < n.resultCount; ++k) {
        possible[size_t(n.result(k).i)] = here;
        live = live || needed[size_t(n.result(k).i)];
      }
      if (!here || !live) continue;
      if (kind(v) == Same) wanted[i] = !isMove(n.op);
      if (kind(v) != Sequence) continue;
      const bool product =
          n.op == Op::contract_ && (isAlike(n.operands[0]) || isAlike(n.operands[1]));
      batched[size_t(v.i)] = product || behind;
      wanted[i] = product || (behind && isElementwise(n.op));
    }
    any = std::any_of(wanted.begin(), wanted.end(), [](bool w) { return w; });
    if (!any) return false;
    computeOutside(wanted);
    for (size_t i = 0; i < body_.nodes.size(); ++i) {
      if (!wanted[i]) continue;
      const Node &n = body_.nodes[i];
      for (int k = 0; k < n.resultCount; ++k) {
        const Outside o = outside_.of[size_t(n.result(k).i)];
        if (o.axis < 0)
          parts_.invariants.push_back({n.result(k), o.id});
        else
          parts_.slices.push_back({n.result(k), o.id, o.axis});
      }
    }
    // Stacked results that are there already.
    std::erase_if(parts_.stacks, [&](const auto &s) {
      const Node *n = def(s.value);
      if (s.result < 0 || !n || !wanted[size_t(body_.values[size_t(s.value.i)].def.i)])
        return false;
      replace(s.result, outside_.stacked(s.value, s.axis));
      return true;
    });
    return true;
  }

  // --- behind the loop ---------------------------------------------------------------------------

  void findUses() {
    inner_.assign(body_.values.size(), 0);
    for (const Node &n : body_.nodes)
      for (const ValueId v : n.operands) ++inner_[size_t(v.i)];
    for (const auto &c : parts_.carries) ++inner_[size_t(c.next.i)];
    for (const auto &s : parts_.stacks) ++inner_[size_t(s.value.i)];
    behind_.assign(body_.nodes.size(), false);
  }

  // The terms of a sum whose parts nobody else reads.
  void termsOf(ValueId v, std::vector<ValueId> &terms) const {
    const Node *n = def(v);
    if (!n || n->op != Op::add_ || inner_[size_t(v.i)] != 1) return terms.push_back(v);
    for (const ValueId x : n->operands) termsOf(x, terms);
  }

  // A product or sum of this round, perhaps cast to f32, that need not be known in the loop; null
  // if it is something else.
  const Node *lateTerm(ValueId v) const {
    const Node *n = def(v);
    if (!n || inner_[size_t(v.i)] != 1 || !isFloat(body_.type(v).dtype)) return nullptr;
    if (n->op == Op::cast_ && body_.type(v).dtype == DType::f32) {
      const ValueId x = n->operands[0];
      const DType from = body_.type(x).dtype;
      if ((from != DType::bf16 && from != DType::f16) || inner_[size_t(x.i)] != 1) return nullptr;
      if (n = def(x); !n) return nullptr;
    }
    auto found = [&](bool late) { return late ? n : nullptr; };
    if (n->op == Op::contract_)
      return found(std::none_of(n->operands.begin(), n->operands.end(),
                                [&](ValueId x) { return isAlike(x); }));
    const auto *sum = std::get_if<ReduceAttr>(&n->attr);
    return found(sum && sum->kind == ReduceKind::sum && !isAlike(n->operands[0]));
  }

  bool sinkSums() {
    bool any = false;
    for (auto &c : parts_.carries) {
      std::vector<ValueId> terms, late;
      if (inner_[size_t(c.param.i)] != 1) continue;
      termsOf(c.next, terms);
      const auto self = std::find(terms.begin(), terms.end(), c.param);
      if (self == terms.end() || terms.size() < 2) continue;
      terms.erase(self);
      std::erase_if(terms, [&](ValueId v) {
        const bool sunk = lateTerm(v) != nullptr;
        if (sunk) late.push_back(v);
        return sunk;
      });
      if (late.empty()) continue;
      any = true;
      for (const ValueId v : late) {
        const Node &term = *lateTerm(v);
        sums_.push_back(
            {size_t(&term - body_.nodes.data()), body_.type(v).dtype, c.first, c.result});
        for (const ValueId x : term.operands) need(x);
      }
      c.terms = terms;
      if (terms.empty()) c.next = c.param, c.terms.clear(); // pruned: what remains never changes
    }
    return any;
  }

  // A value of the loop that is wanted behind it: as a stack of all rounds.
  void need(ValueId v) {
    if (isAlike(v) || outside_.of[size_t(v.i)].id.valid()) return;
    for (const auto &s : parts_.stacks)
      if (s.value == v) return;
    parts_.stacks.push_back({v, 0, -1, {}});
  }

  // Contractions with an invariant that only stacked results need, and what lies between.
  bool sinkStacks() {
    std::vector<int> late(body_.values.size(), 0); // uses behind the loop
    for (const auto &s : parts_.stacks)
      if (s.result >= 0) ++late[size_t(s.value.i)];
    std::vector<bool> possible(body_.nodes.size(), false), chosen = possible;
    for (size_t i = body_.nodes.size(); i-- > 0;) {
      const Node &n = body_.nodes[i];
      const ValueId v = n.firstResult;
      possible[i] = n.resultCount == 1 && canBatch(n.op) && kind(v) >= Sequence &&
                    inner_[size_t(v.i)] > 0 && late[size_t(v.i)] == inner_[size_t(v.i)];
      if (!possible[i]) continue;
      for (const ValueId x : n.operands) ++late[size_t(x.i)];
    }
    bool any = false;
    for (size_t i = 0; i < body_.nodes.size(); ++i) {
      if (!possible[i]) continue;
      const Node &n = body_.nodes[i];
      for (const ValueId x : n.operands)
        if (def(x)) chosen[i] = chosen[i] || chosen[size_t(body_.values[size_t(x.i)].def.i)];
      if (n.op == Op::contract_)
        chosen[i] = chosen[i] || isAlike(n.operands[0]) || isAlike(n.operands[1]);
      any = any || chosen[i];
    }
    if (!any) return false;
    for (size_t i = 0; i < body_.nodes.size(); ++i) {
      if (!chosen[i]) continue;
      behind_[i] = true;
      for (const ValueId x : body_.nodes[i].operands)
        if (!def(x) || !chosen[size_t(body_.values[size_t(x.i)].def.i)]) need(x);
    }
    std::erase_if(parts_.stacks, [&](const auto &s) {
      if (!def(s.value) || !behind_[size_t(body_.values[size_t(s.value.i)].def.i)]) return false;
      results_.push_back(s);
      return true;
    });
    return true;
  }

  void computeBehind() {
    for (const auto &s : parts_.stacks) outside_.of[size_t(s.value.i)] = {s.made, s.axis};
    std::vector<bool> wanted = behind_;
    for (const Sum &s : sums_)
      for (const ValueId x : body_.nodes[s.node].operands)
        if (!outside_.of[size_t(x.i)].id.valid())
          wanted[size_t(body_.values[size_t(x.i)].def.i)] = true;
    computeOutside(wanted);
    for (const Sum &s : sums_) {
      ValueId &now = c_.map[size_t(node_.result(s.result).i)];
      const V before = b_.value(now.valid() ? now : s.first);
      now = before + b_.value(outside_.total(body_.nodes[s.node], s.dtype));
    }
    for (const auto &s : results_) replace(s.result, outside_.stacked(s.value, s.axis));
  }

  // --- the new body and scan ---------------------------------------------------------------------

  std::string makeBody() {
    std::string base = body_.name, name;
    if (const size_t dash = base.rfind('-'); dash != std::string::npos && dash > 0 &&
        base.find_first_not_of("0123456789", dash + 1) == std::string::npos)
      base.resize(dash);
    for (int k = 1; name.empty() || m_.find(name); ++k) name = base + "-" + std::to_string(k);
    Function &f = m_.add(name, body_.batch);
    Copier c(body_, f);
    auto param = [&](ValueId v) {
      const ValueId id{int32_t(f.values.size())};
      f.values.push_back({body_.type(v), NodeId{}, body_.values[size_t(v.i)].name});
      f.params.push_back({id, ""});
      c.map[size_t(v.i)] = id;
    };
    for (const auto &p : parts_.carries) param(p.param);
    for (const auto &p : parts_.slices) param(p.param);
    for (const auto &p : parts_.invariants) param(p.param);
    const std::vector<bool> needed = neededValues(std::vector<bool>(parts_.carries.size(), true));
    for (const Node &n : body_.nodes) {
      bool any = false;
      for (int k = 0; k < n.resultCount; ++k)
        any |= needed[size_t(n.result(k).i)] && !c.map[size_t(n.result(k).i)].valid();
      if (!any) continue;
      std::vector<ValueId> before;
      for (int k = 0; k < n.resultCount; ++k) before.push_back(c.map[size_t(n.result(k).i)]);
      c.node(n);
      for (int k = 0; k < n.resultCount; ++k)
        if (before[size_t(k)].valid()) { // a parameter by now
          f.values[size_t(c.map[size_t(n.result(k).i)].i)].name.clear();
          c.map[size_t(n.result(k).i)] = before[size_t(k)];
        }
    }
    Builder b(m_, f);
    for (const auto &p : parts_.carries) {
      V next = b.value(c.mapped({p.terms.empty() ? p.next : p.param})[0]);
      for (const ValueId v : p.terms) next = next + b.value(c.mapped({v})[0]);
      f.results.push_back({next.id, resultName(p.result), false});
    }
    for (const auto &s : parts_.stacks)
      f.results.push_back({c.mapped({s.value})[0], resultName(s.result), false});
    return name;
  }
  std::string resultName(int result) const {
    return result < 0 ? "" : body_.results[size_t(result)].name;
  }

  void makeScan() {
    ScanAttr a = a_;
    a.carries = int64_t(parts_.carries.size());
    a.xAxes.clear(), a.yAxes.clear();
    std::vector<ValueId> operands;
    for (const auto &p : parts_.carries) operands.push_back(p.first);
    for (const auto &p : parts_.slices) operands.push_back(p.whole), a.xAxes.push_back(p.axis);
    for (const auto &p : parts_.invariants) operands.push_back(p.outer);
    for (const auto &s : parts_.stacks) a.yAxes.push_back(s.axis);
    a.body = makeBody();
    b_.loc = node_.loc;
    const std::vector<V> made = b_.scan(a, operands);
    size_t k = 0;
    auto take = [&](int result, ValueId inBody) {
      const ValueId id = made[k++].id;
      const std::string &old = result >= 0 ? c_.from.values[size_t(node_.result(result).i)].name
                                           : body_.values[size_t(inBody.i)].name;
      b_.f.values[size_t(id.i)].name = result >= 0 ? old : names_.unique(old);
      if (result >= 0) replace(result, id);
      return id;
    };
    for (const auto &p : parts_.carries) take(p.result, p.param);
    for (auto &s : parts_.stacks) s.made = take(s.result, s.value);
  }
};

bool hasScan(const Function &f) {
  return std::any_of(f.nodes.begin(), f.nodes.end(),
                     [](const Node &n) { return n.op == Op::scan_; });
}

// Inner loops first: what leaves them lands in the body of the outer one.
void rewriteScans(Module &m, bool (Rewriter::*change)()) {
  const UnusedFunctions unused(m);
  for (Function *f : calleesFirst(m)) {
    if (!hasScan(*f)) continue;
    std::vector<int> uses(f->values.size(), 0);
    for (const Node &n : f->nodes)
      for (const ValueId v : n.operands) ++uses[size_t(v.i)];
    for (const Result &r : f->results) ++uses[size_t(r.value.i)];
    rebuild(*f, [&](Copier &c) {
      Names names;
      names.take(c.from);
      for (const Node &n : c.from.nodes) {
        if (n.op != Op::scan_) {
          c.node(n);
          continue;
        }
        if (std::get<ScanAttr>(n.attr).length == 0) { // nothing happens
          c.node(n);
          continue;
        }
        Rewriter r(m, c, names, uses, n);
        if ((r.*change)())
          r.make();
        else
          c.node(n);
      }
    });
  }
  unused.drop(m);
}

} // namespace

void hoistLoops(Module &m) { rewriteScans(m, &Rewriter::hoist); }
void sinkLoops(Module &m) { rewriteScans(m, &Rewriter::sink); }

} // namespace nnc::ir
