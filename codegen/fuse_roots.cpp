// Which values get memory.
//
// Problem. Fusion inlines everything that is cheap to recompute, but a contraction wants operands
// it can load, and recomputing exp() in five consumers is no saving. Example: h = relu(z + b) feeds
// the next product (needs memory), z + b itself does not.
//
// Method. One pass in program order. Roots are: results of reductions, contractions, scatters,
// sorts; results of the function; operands of contractions that are no affine read of a buffer;
// values whose recomputation in all consumers would cost more than storing and loading; values that
// are computed once and then repeated by a broadcast (a per-step rate, a row's normaliser); values
// that several read and that are made of a product which nobody else reads:
//   dy = select(mask, 0, product + skip);   sum dy;   sum dy * x;   dx = f(dy, x)
// Its kernel stores dy instead of the product, and nobody reads mask and skip again.
//   No memory for the operand of a convolution that is cheap to compute of one picture, in a pass
//   of its own: the convolution copies its operand and computes it there (computedInCopies).
#include "codegen/fuse.h"
#include <algorithm>
#include <set>

namespace nnc::cg {

using ir::Node;
using ir::Op;
using ir::ValueId;

bool isIndexMap(const Node &n) {
  if (n.op != Op::unwindow_) return false;
  auto &a = std::get<ir::WindowAttr>(n.attr);
  for (size_t i = 0; i < a.size.size(); ++i)
    if (a.dilation[i] != 1 || a.size[i] > a.stride[i]) return false;
  return true;
}

bool isView(const ir::Function &, const Node &n) {
  switch (n.op) {
  case Op::broadcast_:
  case Op::reshape_:
  case Op::transpose_:
  case Op::slice_:
  case Op::reverse_:
  case Op::pad_:
  case Op::concat_:
  case Op::window_:
  case Op::gather_: return true;
  case Op::unwindow_: return isIndexMap(n);
  default: return false;
  }
}

// Scalar operations of one element, in units of an addition (cycle counts, rounded).
double ownCost(const Node &n) {
  switch (n.op) {
  case Op::constant_:
  case Op::iota_:
  case Op::size_:
  case Op::stop_gradient_:
  case Op::broadcast_:
  case Op::reshape_:
  case Op::transpose_:
  case Op::slice_:
  case Op::reverse_: return 0;
  case Op::pad_:
  case Op::window_:
  case Op::unwindow_:
  case Op::concat_:
  case Op::gather_:
  case Op::cast_: return 0.5;
  case Op::random_: return 40;
  case Op::div_:
  case Op::sqrt_:
  case Op::rsqrt_:
  case Op::floordiv_:
  case Op::mod_: return 4;
  case Op::pow_:
  case Op::atan2_: return 30;
  case Op::exp_:
  case Op::expm1_:
  case Op::log_:
  case Op::log1p_:
  case Op::sin_:
  case Op::cos_:
  case Op::tan_:
  case Op::asin_:
  case Op::acos_:
  case Op::atan_:
  case Op::sinh_:
  case Op::cosh_:
  case Op::tanh_:
  case Op::sigmoid_:
  case Op::erf_: return 12;
  default: return 1;
  }
}

bool isInline(const ir::Function &f, const Node &n) {
  if (ir::isPointwise(n.op) || isView(f, n)) return true;
  switch (n.op) {
  case Op::select_:
  case Op::cast_:
  case Op::constant_:
  case Op::iota_:
  case Op::size_:
  case Op::random_: return true;
  default: return false;
  }
}

namespace {

bool growsBy(const ir::Function &f, const Node &n) {
  if (n.op != Op::broadcast_) return false;
  int64_t big = std::max<int64_t>(f.batch, 1);
  return ir::elementCount(f.type(n.result()).dims, big) >
         ir::elementCount(f.type(n.operands[0]).dims, big);
}

bool overlaps(const Node &n) {
  if (n.op != Op::window_) return false;
  auto &a = std::get<ir::WindowAttr>(n.attr);
  for (size_t i = 0; i < a.size.size(); ++i)
    if (a.size[i] > a.stride[i]) return true;
  return false;
}

bool isSplat(const ir::Function &f, ValueId v) {
  const Node *n = f.def(v);
  if (!n) return false;
  if (n->op == Op::broadcast_) return isSplat(f, n->operands[0]);
  return n->op == Op::constant_ && std::get<ir::ConstantAttr>(n->attr).data.size() == 1;
}

bool isZero(const ir::Function &f, ValueId v) {
  const Node *n = f.def(v);
  if (n && n->op == Op::broadcast_) return isZero(f, n->operands[0]);
  if (!n || n->op != Op::constant_) return false;
  auto &data = std::get<ir::ConstantAttr>(n->attr).data;
  return data.size() == 1 && data[0] == 0;
}

void noteRectifier(const ir::Function &f, Roots &r, const Node &n) {
  if (n.op != Op::select_) return;
  const Node *c = f.def(n.operands[0]);
  if (!c || (c->op != Op::le_ && c->op != Op::gt_) || !isZero(f, c->operands[1])) return;
  int zero = c->op == Op::le_ ? 1 : 2;
  if (isZero(f, n.operands[zero]) && n.operands[3 - zero] == c->operands[0])
    r.rectified.emplace(n.operands[0].i, n.result());
}

// A persistent value has its layout, and so has what replaces it, unless its kernel knows row-major
// only.
void noteLayouts(const ir::Function &f, const Layouts &layouts, Roots &r) {
  auto note = [&](const std::string &name, ValueId v) {
    if (auto it = layouts.find(name); it != layouts.end()) r.layouts.emplace(v.i, &it->second);
  };
  for (const ir::Param &p : f.params)
    if (!p.bind.empty()) note(p.bind, p.value);
  for (const ir::Result &x : f.results) {
    const Node *n = f.def(x.value);
    if (x.bind && n && n->op != Op::scatter_add_ && n->op != Op::sort_ && n->op != Op::scan_ &&
        n->op != Op::constant_)
      note(x.name, x.value);
  }
}

// The parts of the enclosing program's buffers that a body reads and writes.
void noteParts(const ir::Function &f, const Frame &frame, Roots &r) {
  for (size_t i = 0; i < f.params.size(); ++i)
    if (!frame.params[i].layout.isRowMajor())
      r.layouts.emplace(f.params[i].value.i, &frame.params[i].layout);
  for (auto [v, result] : stackedValues(f, frame))
    r.layouts.emplace(v, &frame.results[result].layout);
}

struct Chooser {
  const ir::Module &m;
  const ir::Function &f;
  const FuseOptions &options;
  Roots r;
  std::vector<char> ofProduct; // by ValueId: a product, or made of one that only it reads
  // by ValueId: nodes; empty where nothing is computed in copies
  std::vector<std::vector<int32_t>> readers;
  // by ValueId: computed in the copies that products make of it
  std::vector<char> copied;

  // Would memory for the value take the place of that of a product?
  bool replacesProduct(const Node &n) const {
    if (!ir::isPointwise(n.op) && n.op != Op::select_ && n.op != Op::cast_) return false;
    const ir::Type &type = f.type(n.result());
    return std::any_of(n.operands.begin(), n.operands.end(), [&](ValueId x) {
      return ofProduct[x.i] && r.uses[x.i] == 1 && f.type(x).dims == type.dims &&
             ir::dtypeBytes(type.dtype) <= ir::dtypeBytes(f.type(x).dtype);
    });
  }

  // .. in bf16 or f16, and what several read is the value in f32: dy = f32(select(mask, 0,
  // product)).
  bool widensProduct(const Node &n) const {
    if (n.op != Op::cast_ || ofProduct.empty() || r.uses[n.result().i] < 2) return false;
    const ValueId x = n.operands[0];
    const Node *made = f.def(x);
    return made && made->op != Op::contract_ && ofProduct[x.i] &&
           ir::dtypeBytes(f.type(n.result()).dtype) > ir::dtypeBytes(f.type(x).dtype);
  }

  void makeRoot(ValueId v) {
    if (r.root[v.i] || isSplat(f, v)) return;
    r.root[v.i] = 1;
    r.cost[v.i] = 0.5;
  }

  // A weight in f32 that products of bf16 round as they bring it into the form of tiles: no copy of
  // it in bf16 is written and read again.
  bool roundsWeight(ValueId x) const {
    const Node *n = f.def(x);
    if (!options.tiles || !n || n->op != Op::cast_ || f.type(x).dtype != DType::bf16 || r.root[x.i])
      return false;
    const ValueId w = n->operands[0];
    return !f.def(w) && f.type(w).dtype == DType::f32 && f.type(w).dims.size() == 2 &&
           affineOperand(f, r, w);
  }

  // Are there windows, and do all of them reach beyond the dimension? Each element is copied once
  // then, and computed once; without zeros around it, it would be once for each place in the
  // window.
  static bool readsPadded(const ir::ContractAttr &a, const std::vector<ir::LabelForm> &forms,
                          const Dims &dims) {
    bool windows = false;
    for (size_t d = 0; d < forms.size(); ++d) {
      Dim low = forms[d].offset, high = low;
      int moving = 0;
      for (const ir::LabelTerm &t : forms[d].terms) {
        const Dim extent = a.extents[size_t(t.label)];
        if (extent == Dim(1)) continue;
        ++moving;
        (t.coef > 0 ? high : low) = (t.coef > 0 ? high : low) + (extent - Dim(1)) * t.coef;
      }
      if (moving < 2) continue;
      if (!low.isConst() || !high.isConst() || !dims[d].isConst()) return false;
      if (low.b >= 0 && high.b < dims[d].b) return false;
      windows = true;
    }
    return windows;
  }

  // Does the product read the value through a window, so that it copies it in any case? Not if each
  // channel has a filter of its own: then vectors run along the channels, and nothing is copied.
  bool copiesPictures(const Node &n, ValueId x) const {
    const auto &a = std::get<ir::ContractAttr>(n.attr);
    for (size_t label = 0; label < a.labels.size(); ++label)
      if (a.extents[label] != Dim(1) &&
          std::all_of(a.forms.begin(), a.forms.end(), [&](const auto &forms) {
            return std::any_of(forms.begin(), forms.end(), [&](const ir::LabelForm &form) {
              return std::any_of(form.terms.begin(), form.terms.end(),
                                 [&](const ir::LabelTerm &t) { return size_t(t.label) == label; });
            });
          }))
        return false;
    for (size_t t = 0; t < 2; ++t)
      if (n.operands[t] == x && !readsPadded(a, a.forms[t], f.type(x).dims)) return false;
    return n.operands[0] != n.operands[1];
  }

  // Does `from` depend on `on`? Asked of values a few nodes apart; false also if there are more.
  bool dependsOn(ValueId from, ValueId on) const {
    constexpr size_t kAsked = 200;
    std::set<int32_t> seen;
    std::vector<ValueId> work{from};
    while (!work.empty() && seen.size() < kAsked) {
      const ValueId v = work.back();
      work.pop_back();
      if (v == on) return true;
      const Node *n = v.i > on.i ? f.def(v) : nullptr; // values are in the order of their nodes
      if (n && seen.insert(v.i).second)
        work.insert(work.end(), n->operands.begin(), n->operands.end());
    }
    return false;
  }

  // A picture that every product copies which reads it, with the zeros around it, and that is
  // computed there as it would be in a pass of its own:
  //   mu, var = sums over x = conv(..);   y = relu((x - mu) * factor + beta);   conv(y, ..)
  // It costs a few operations for each copy and saves the pass, the memory, and in the backward
  // pass the mask: that is computed of x, too. Not what its producer could store instead (bias and
  // relu of a product).
  bool computedInCopies(ValueId x) {
    constexpr double kMostWork = 24; // as in visit()
    const Node *n = f.def(x);
    const DType type = f.type(x).dtype;
    if (readers.empty() || !n || r.root[x.i] || r.chains.member[x.i] >= 0 ||
        r.chains.inlined[x.i] || isView(f, *n) || !isInline(f, *n) || !ir::isFloat(type) ||
        ir::widened(type) != type || size_t(r.uses[x.i]) != readers[size_t(x.i)].size())
      return false;
    bool copied = false;
    for (int32_t i : readers[size_t(x.i)]) {
      const Node &reader = f.nodes[size_t(i)];
      const bool product = reader.op == Op::contract_;
      copied |= product;
      if (product ? !copiesPictures(reader, x)
                  : !ir::isPointwise(reader.op) && reader.op != Op::select_)
        return false;
    }
    if (!copied) return false;
    // What it is made of: pointwise, of one value of its shape and what is repeated along it.
    double work = 0;
    std::set<int32_t> seen;
    std::vector<ValueId> list{x}, small;
    ValueId whole;
    while (!list.empty()) {
      const ValueId v = list.back();
      list.pop_back();
      if (!seen.insert(v.i).second || isSplat(f, v)) continue;
      if (r.root[v.i]) {
        if (f.type(v).dims != f.type(x).dims) small.push_back(v);
        else if (whole.valid()) return false;
        else whole = v;
        continue;
      }
      const Node &d = *f.def(v);
      if (!ir::isPointwise(d.op) && d.op != Op::select_ && d.op != Op::cast_ &&
          d.op != Op::broadcast_ && d.op != Op::reshape_)
        return false;
      work += ownCost(d);
      list.insert(list.end(), d.operands.begin(), d.operands.end());
    }
    if (!whole.valid() || work * double(r.uses[x.i]) > kMostWork) return false;
    if (f.def(whole) &&
        std::none_of(small.begin(), small.end(), [&](ValueId v) { return dependsOn(v, whole); }))
      return false;
    return readsEvenly(x);
  }

  // Does each access of the value's expression move evenly along its dimensions?
  bool readsEvenly(ValueId x) const {
    Kernel k;
    k.batch = f.batch;
    std::vector<Index> at;
    for (Dim d : f.type(x).dims) at.push_back(k.axisIndex(k.axis("", d)));
    Reader reader(f, r, k, nullptr, nullptr, -1);
    if (reader.read(x, at) < 0) return false;
    return std::all_of(k.exprs.begin(), k.exprs.end(), [&](const Expr &e) {
      const std::vector<Term> &terms = e.access.flat.terms;
      auto isAxis = [&](const Term &t) { return k.atoms[size_t(t.atom)].kind == Atom::Axis; };
      return e.op != SOp::load ||
             (e.access.guards.empty() && std::all_of(terms.begin(), terms.end(), isAxis));
    });
  }

  // Memory for what a product reads: before a reshape rather than after it, so that the value can
  // be the epilogue of its producer and the reshape stays free. Splats, too: a product needs
  // addresses.
  void makeOperand(ValueId x) {
    if (affineOperand(f, r, x) || roundsWeight(x) || copied[x.i]) return;
    if (computedInCopies(x)) {
      copied[x.i] = 1;
      return;
    }
    ValueId inner = x;
    for (const Node *d = f.def(inner); d && !r.root[inner.i] && d->op == Op::reshape_;
         d = f.def(inner))
      inner = d->operands[0];
    if (inner != x && !isSplat(f, inner)) {
      makeRoot(inner);
      if (affineOperand(f, r, x)) return;
    }
    r.root[x.i] = 1;
    r.cost[x.i] = 0.5;
  }

  // Memory for what a loop reads. A carry's first value that nobody else reads is where the loop
  // goes on; others are copied, or computed there (fuse_scan.cpp).
  void makeLoopOperand(ValueId x, bool carry) {
    const Node *n = f.def(x);
    if (!n || (carry && r.uses[x.i] > 1)) return;
    if (n->op == Op::constant_ && !isSplat(f, x)) return;
    r.root[x.i] = 1;
    r.cost[x.i] = 0.5;
  }

  void visit(const Node &n) {
    double cost = ownCost(n);
    const Chains &chains = r.chains;
    if (chains.member[n.firstResult.i] >= 0) cost = 0; // tiles, see fuse_chain.cpp
    for (ValueId x : n.operands) {
      if (chains.inlined[x.i]) continue;
      if (growsBy(f, n) && r.cost[x.i] >= 1) makeRoot(x);
      if (widensProduct(n)) makeRoot(x);
      if (overlaps(n) && r.cost[x.i] >= 4) makeRoot(x);
      cost += r.cost[x.i];
    }
    if (n.op == Op::contract_)
      for (ValueId x : n.operands)
        if (chains.member[x.i] < 0) makeOperand(x);
    if (auto *scan = std::get_if<ir::ScanAttr>(&n.attr))
      for (size_t i = 0; i < n.operands.size(); ++i)
        if (operandLayout(m, f, n, i, options).isRowMajor()) // else computed into a copy
          makeLoopOperand(n.operands[i], int64_t(i) < scan->carries);
    for (int k = 0; k < n.resultCount; ++k) {
      ValueId v = n.result(k);
      r.cost[v.i] = cost;
      if (chains.member[v.i] >= 0 || chains.inlined[v.i]) continue;
      if (!ofProduct.empty()) {
        const bool replaces = replacesProduct(n);
        ofProduct[v.i] = n.op == Op::contract_ ? takesEpilogue(f, n) : replaces && r.uses[v.i] == 1;
        if (replaces && r.uses[v.i] > 1) makeRoot(v);
      }
      if (!isInline(f, n)) makeRoot(v);
      // Recomputing in every consumer against one store and the loads.
      else if (cost * (r.uses[v.i] - 1) > 24 && !isView(f, n) && !computedInCopies(v)) makeRoot(v);
    }
  }
};

} // namespace

bool affineOperand(const ir::Function &f, const Roots &r, ValueId v) {
  Kernel k;
  k.batch = f.batch;
  std::vector<Index> at;
  for (Dim d : f.type(v).dims) at.push_back(k.axisIndex(k.axis("", d)));
  Reader reader(f, r, k, nullptr, nullptr, -1);
  ExprId e = reader.read(v, at);
  if (e < 0 || k.exprs[e].op != SOp::load) return false;
  const Access &a = k.exprs[e].access;
  auto affine = [&](const Index &x) {
    return std::all_of(x.terms.begin(), x.terms.end(),
                       [&](const Term &t) { return k.atoms[t.atom].kind == Atom::Axis; });
  };
  return affine(a.flat) && std::all_of(a.guards.begin(), a.guards.end(),
                                       [&](const Guard &g) { return affine(g.index); });
}

Roots chooseRoots(const ir::Module &m, const ir::Function &f, const FuseOptions &o,
                  const Frame *frame) {
  Chooser c{m, f, o, {}, {}, {}, {}};
  size_t count = f.values.size();
  c.r.root.assign(count, 0);
  c.r.uses.assign(count, 0);
  c.r.cost.assign(count, 0);
  for (const ir::Param &p : f.params) {
    c.r.root[p.value.i] = 1;
    c.r.cost[p.value.i] = 0.5;
  }
  if (o.layouts) noteLayouts(f, *o.layouts, c.r);
  if (frame) noteParts(f, *frame, c.r);
  if (o.moves) {
    auto own = std::make_shared<const std::map<int32_t, Layout>>(ownLayouts(m, f, o.pads));
    for (const auto &[v, layout] : *own) c.r.layouts.emplace(v, &layout);
    c.r.own = std::move(own);
  }
  for (const Node &n : f.nodes)
    for (ValueId x : n.operands) ++c.r.uses[x.i];
  for (const ir::Result &x : f.results) ++c.r.uses[x.value.i];
  c.r.chains = findChains(f, o);
  if (o.fuse)
    for (const Node &n : f.nodes) noteRectifier(f, c.r, n);
  c.copied.assign(count, 0);
  if (o.fuse && !frame) {
    c.ofProduct.assign(count, 0);
    c.readers.resize(count);
    for (size_t i = 0; i < f.nodes.size(); ++i)
      for (ValueId x : f.nodes[i].operands) c.readers[size_t(x.i)].push_back(int32_t(i));
  }
  for (const Node &n : f.nodes) {
    c.visit(n);
    if (!o.fuse && !isView(f, n) && n.op != Op::constant_)
      for (int k = 0; k < n.resultCount; ++k) c.makeRoot(n.result(k));
  }
  for (const ir::Result &x : f.results) {
    const Node *n = f.def(x.value);
    // bytes in the object, copied out
    bool dense = n && n->op == Op::constant_ && !isSplat(f, x.value);
    if (!dense) c.r.root[x.value.i] = 1;
  }
  return c.r;
}

} // namespace nnc::cg
