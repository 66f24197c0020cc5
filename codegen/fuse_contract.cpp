// Contractions as kernels: labels become axes, forms become indices.
//
// Problem. One row, `contract`, is every matrix product, convolution, and their gradients. Its
// forms are affine in the labels; a kernel wants axes: batch (in all three tensors), m (in x and
// y), n (in w and y) and k (summed). Example: y[n,i,j,o] += x[n,2i+u-1,2j+v-1,c] * w[u,v,c,o] has
// m = n i j, n = o, k = u v c, and x's index is guarded where the padding can leave the image.
//
// Method. If every dimension of y is a label, the operands are read at their forms. If y has
// composite forms (the data gradient, transposed convolution), the form is solved for its largest
// label i of coefficient s, once per residue r modulo s: with h = s*h' + r and d*u the other term,
// u runs through one progression u0 + (s/g)*u', g = gcd(s, d), and i = h' + (r - c - d*u0)/s -
// (d/g)*u' is affine again. Residues that no u reaches are filled with zeros. A skinny result over
// a long sum is split over k into partial results.
#include "codegen/fuse.h"
#include "codegen/pack.h"
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <stdexcept>

namespace nnc::cg {

using ir::ContractAttr;
using ir::LabelForm;
using ir::Node;
using ir::ValueId;

namespace {

// A label of the contraction as an index over the kernel's axes, with the axes it stands for.
struct Label {
  Index index;
  std::vector<AxisId> axes;
  bool inX = false, inW = false, inY = false;
};

std::vector<Label> scan(const ContractAttr &a) {
  std::vector<Label> labels(a.labels.size());
  for (int t = 0; t < 3; ++t)
    for (const LabelForm &form : a.forms[t])
      for (const ir::LabelTerm &term : form.terms) {
        Label &l = labels[term.label];
        (t == 0 ? l.inX : t == 1 ? l.inW : l.inY) = true;
      }
  return labels;
}

Index formIndex(const LabelForm &f, const std::vector<Label> &labels) {
  Index x = constIndex(f.offset);
  for (const ir::LabelTerm &t : f.terms) x = x + labels[t.label].index * t.coef;
  return x;
}

void addAxes(std::vector<AxisId> &to, const std::vector<AxisId> &axes) {
  to.insert(to.end(), axes.begin(), axes.end());
}

bool compositeResult(const ContractAttr &a) {
  std::vector<int> seen(a.labels.size(), 0);
  for (const LabelForm &f : a.forms[2]) {
    if (f.terms.empty() && f.offset == 0) continue;
    if (!f.isSimple()) return true;
    if (seen[f.terms[0].label]++)
      throw std::runtime_error("a contraction's result uses one label twice");
  }
  return false;
}

// How a composite dimension of y is solved: the pivot label, and the choice made in one phase.
struct Phase {
  bool empty = false;    // no term reaches this residue
  int pivot = -1;        // label solved for
  int other = -1;        // label that runs through a progression; -1: none
  int64_t stride = 1;    // coefficient of the pivot
  int64_t residue = 0;   // h = stride * h' + residue
  int64_t u0 = 0, ustep = 1, uextent = 0;
};

int pivotOf(const LabelForm &f, const ContractAttr &a, int64_t batch) {
  int best = -1;
  for (const ir::LabelTerm &t : f.terms)
    if (t.coef > 0 &&
        (best < 0 || a.extents[t.label].at(batch) > a.extents[best].at(batch)))
      best = t.label;
  if (best < 0 || f.terms.size() > 2)
    throw std::runtime_error("a contraction's result index is not one of a convolution");
  return best;
}

Phase solve(const LabelForm &f, const ContractAttr &a, int64_t batch, int64_t residue) {
  Phase p;
  p.pivot = pivotOf(f, a, batch);
  int64_t d = 0;
  for (const ir::LabelTerm &t : f.terms) {
    if (t.label == p.pivot) p.stride = t.coef;
    else p.other = t.label, d = t.coef;
  }
  p.residue = residue;
  int64_t s = p.stride, want = residue - f.offset; // s*i + d*u = s*h' + want
  if (p.other < 0) {
    p.empty = ((want % s) + s) % s != 0;
    return p;
  }
  int64_t g = std::gcd(s, d), u = a.extents[p.other].b;
  p.ustep = s / g;
  for (p.u0 = 0; p.u0 < p.ustep; ++p.u0)
    if ((((want - d * p.u0) % s) + s) % s == 0) break;
  p.uextent = p.u0 < u ? (u - p.u0 + p.ustep - 1) / p.ustep : 0;
  p.empty = p.u0 == p.ustep || p.uextent == 0;
  return p;
}

struct Lowering {
  Fuser &fuser;
  const Node &node;
  const ContractAttr &a;
  Group &g;
  int id;
  Launch &launch;
  std::vector<Label> labels;
  std::vector<Index> at; // index of y, by dimension

  Kernel &k() { return launch.kernel; }
  const Dims &ydims() { return fuser.f.type(node.result()).dims; }

  void begin() {
    k().cls = KernelClass::Contract;
    k().batch = fuser.f.batch;
    k().loc = node.loc;
    k().name = fuser.nameOf(node.result());
    k().contract.type = ir::widened(fuser.f.type(node.result()).dtype);
    labels = scan(a);
  }

  AxisId fresh(int label, Dim extent) {
    AxisId x = k().axis(a.labels[label], extent);
    labels[label].axes = {x};
    labels[label].index = k().axisIndex(x);
    return x;
  }

  // Axes in the order of y's dimensions, then of the summed labels.
  void simpleAxes() {
    for (const LabelForm &f : a.forms[2])
      for (const ir::LabelTerm &t : f.terms)
        if (labels[t.label].axes.empty()) fresh(t.label, a.extents[t.label]);
    for (size_t l = 0; l < labels.size(); ++l)
      if (labels[l].axes.empty()) fresh(int(l), a.extents[l]);
    for (const LabelForm &f : a.forms[2]) at.push_back(formIndex(f, labels));
  }

  void classify() {
    ContractInfo &c = k().contract;
    for (const Label &l : labels) {
      if (!l.inY) addAxes(c.k, l.axes);
      else if (l.inX && l.inW) addAxes(c.batch, l.axes);
      else if (l.inW) addAxes(c.n, l.axes);
      else addAxes(c.m, l.axes);
    }
  }

  // An operand read at its forms; indices that can leave the tensor are guarded.
  ExprId operand(int t) {
    ValueId v = node.operands[t];
    const Dims &dims = fuser.f.type(v).dims;
    std::vector<Index> in;
    std::vector<Guard> guards;
    for (size_t d = 0; d < dims.size(); ++d) {
      in.push_back(formIndex(a.forms[t][d], labels));
      addGuard(k(), guards, in.back(), dims[d]);
    }
    Reader r(fuser.f, fuser.facts, k(), &fuser, &g, -1, &launch);
    ExprId e = r.read(v, in, guards);
    NNC_CHECK(e >= 0, "an operand of a contraction cannot be read");
    if (!guards.empty() && isComputed(k(), e)) e = zeroOutside(k(), guards, e);
    return convertExpr(k(), e, k().contract.type);
  }

  void operands() {
    k().contract.a = operand(0);
    k().contract.b = operand(1);
  }

  Stage accStage() {
    Expr acc;
    acc.op = SOp::acc;
    acc.type = k().contract.type;
    Stage s;
    s.type = acc.type;
    s.body = k().expr(acc);
    s.name = k().name;
    return s;
  }
  // Stores the result at `at`.
  void storeAcc() {
    Stage s = accStage();
    fuser.addStores(launch, s, node.result(), at);
    k().stages.push_back(s);
  }
};

// Output tiles of a nominal 8 x 48 register tile: what decides about splitting (by shape only).
int64_t splitsFor(const Kernel &k, int64_t batch) {
  auto product = [&](const std::vector<AxisId> &axes) {
    int64_t p = 1;
    for (AxisId x : axes) p *= k.axes[x].extent.at(std::max<int64_t>(batch, 1));
    return p;
  };
  const ContractInfo &c = k.contract;
  int64_t tiles = product(c.batch) * ((product(c.m) + 7) / 8) * ((product(c.n) + 47) / 48);
  if (tiles >= 64) return 1;
  int64_t want = 1;
  while (want * tiles < 256) want *= 2;
  return std::max<int64_t>(1, std::min(want, product(c.k) / kTermsOfPart));
}

} // namespace

bool takesEpilogue(const ir::Function &f, const Node &contract) {
  const auto &a = std::get<ContractAttr>(contract.attr);
  if (!compositeResult(a)) return true;
  return std::all_of(a.forms[2].begin(), a.forms[2].end(), [&](const LabelForm &form) {
    return form.isSimple() || form.terms.empty() ||
           solve(form, a, std::max<int64_t>(f.batch, 1), 0).stride == 1;
  });
}

// Sums over several labels go in the order in which the operands lie, the larger one if they do not
// agree, where that is not the order of the labels.
static void sumAsTheyLie(Kernel &k) {
  ContractInfo &c = k.contract;
  auto loadOf = [&](ExprId e) { // also where the operand is computed of it in the copy
    e = operandLoad(k, e);
    return e >= 0 && k.exprs[e].access.guards.empty() ? &k.exprs[e].access : nullptr;
  };
  const Access *a = loadOf(c.a), *b = loadOf(c.b);
  if (!a || !b) return;
  auto size = [&](const Access *x) {
    return ir::elementCount(k.args[x->arg].dims, std::max<int64_t>(k.batch, 1));
  };
  // x lies around y: 1, y around x: -1
  auto around = [&](const Access *o, AxisId x, AxisId y) {
    const int64_t p = strideAlong(k, o->flat, x).value_or(0),
                  q = strideAlong(k, o->flat, y).value_or(0);
    return p <= 0 || q <= 0 || p == q ? 0 : p > q ? 1 : -1;
  };
  auto before = [&](AxisId x, AxisId y) {
    const int one = around(a, x, y), other = around(b, x, y);
    if (one == 0 || other == 0) return false;
    return (one == other || size(a) > size(b) ? one : size(b) > size(a) ? other : 0) > 0;
  };
  for (size_t i = 1; i < c.k.size(); ++i)
    for (size_t j = i; j > 0 && before(c.k[j], c.k[j - 1]); --j) std::swap(c.k[j - 1], c.k[j]);
}

// The sum over a window in the order in which the picture lies: rows, columns, channels.
static void orderSums(Kernel &k) {
  ContractInfo &c = k.contract;
  auto step = [&](AxisId axis) {
    if (k.axes[axis].extent == Dim(1)) return INT64_MAX; // never the innermost loop
    int64_t most = 0;
    for (ExprId operand : {c.a, c.b}) {
      const ExprId e = operandLoad(k, operand);
      if (e < 0 || k.exprs[e].access.guards.empty()) continue;
      most = std::max(most, std::abs(strideAlong(k, k.exprs[e].access.flat, axis).value_or(0)));
    }
    return most;
  };
  std::stable_sort(c.k.begin(), c.k.end(), [&](AxisId x, AxisId y) { return step(x) > step(y); });
}

// One phase of a strided result: labels, axes and indices of y for the chosen residues.
// A single phase, which has all of the result, is a product like any other: others may join it.
static void addPhase(Lowering &l, const std::vector<Phase> &phases, bool single) {
  l.begin();
  const ContractAttr &a = l.a;
  for (size_t d = 0; d < a.forms[2].size(); ++d) {
    const Phase &p = phases[d];
    const LabelForm &f = a.forms[2][d];
    if (p.pivot < 0) {
      if (!f.terms.empty() && l.labels[f.terms[0].label].axes.empty())
        l.fresh(f.terms[0].label, a.extents[f.terms[0].label]);
      l.at.push_back(formIndex(f, l.labels));
      continue;
    }
    int64_t size = l.ydims()[d].b;
    AxisId h = l.k().axis(a.labels[p.pivot], (size - p.residue + p.stride - 1) / p.stride);
    Index hi = l.k().axisIndex(h);
    l.at.push_back(hi * p.stride + constIndex(p.residue));
    Label &pivot = l.labels[p.pivot];
    pivot.axes = {h};
    pivot.index = hi;
    int64_t shift = p.residue - f.offset;
    if (p.other >= 0) {
      AxisId u = l.k().axis(a.labels[p.other], p.uextent);
      Label &other = l.labels[p.other];
      other.axes = {u};
      other.inY = false; // summed: h is the label of y now
      int64_t coef = 0;
      for (const ir::LabelTerm &t : f.terms)
        if (t.label == p.other) coef = t.coef;
      // u falls as its axis rises, so that i rises with it as in the forward direction.
      const int64_t last = p.u0 + p.ustep * (p.uextent - 1), step = coef * p.ustep / p.stride;
      const int64_t from = step > 0 ? last : p.u0;
      other.index = l.k().axisIndex(u) * (step > 0 ? -p.ustep : p.ustep) + constIndex(from);
      shift -= coef * from;
      pivot.index = pivot.index + l.k().axisIndex(u) * std::abs(step);
    }
    pivot.index = pivot.index + constIndex(shift / p.stride);
  }
  for (size_t x = 0; x < l.labels.size(); ++x)
    if (l.labels[x].axes.empty()) l.fresh(int(x), a.extents[x]);
  l.classify();
  // The pivot is no longer a free label: its tensor is read at i(h', u), which may leave it.
  for (int t = 0; t < 2; ++t)
    (t == 0 ? l.k().contract.a : l.k().contract.b) = l.operand(t);
  orderSums(l.k());
  l.storeAcc();
  if (!single) return;
  l.g.dims = l.ydims();
  for (size_t d = 0; d < a.forms[2].size(); ++d) {
    const LabelForm &f = a.forms[2][d];
    const int label = phases[d].pivot >= 0 ? phases[d].pivot
                      : f.terms.empty()    ? -1
                                           : f.terms[0].label;
    l.g.dimAxes.push_back(label < 0 ? -1 : l.labels[size_t(label)].axes[0]);
  }
  l.g.accValue = l.node.firstResult.i;
  l.g.open = true;
}

static void addZeros(Lowering &l, const std::vector<Phase> &phases) {
  l.begin();
  Kernel &k = l.k();
  k.cls = KernelClass::Loops;
  std::vector<Index> at;
  for (size_t d = 0; d < phases.size(); ++d) {
    const Phase &p = phases[d];
    Dim size = l.ydims()[d];
    Dim extent = p.pivot < 0 ? size : Dim((size.b - p.residue + p.stride - 1) / p.stride);
    AxisId x = k.axis("", extent);
    k.parallel.push_back(x);
    at.push_back(p.pivot < 0 ? k.axisIndex(x) : k.axisIndex(x) * p.stride + constIndex(p.residue));
  }
  Stage s;
  s.type = k.contract.type;
  s.body = constantExpr(k, 0, s.type);
  l.fuser.addStores(l.launch, s, l.node.result(), at);
  k.stages.push_back(s);
}

static void lowerPhases(Fuser &fuser, const Node &node, int id) {
  Group &g = fuser.groups[id];
  const auto &a = std::get<ContractAttr>(node.attr);
  int64_t batch = std::max<int64_t>(fuser.f.batch, 1);
  size_t rank = a.forms[2].size();
  std::vector<int64_t> strides(rank, 1), residue(rank, 0);
  std::vector<char> composite(rank, 0);
  for (size_t d = 0; d < rank; ++d) {
    const LabelForm &f = a.forms[2][d];
    composite[d] = !f.isSimple() && !(f.terms.empty() && f.offset == 0);
    if (composite[d]) strides[d] = solve(f, a, batch, 0).stride;
  }
  g.open = false;
  const int64_t all =
      std::accumulate(strides.begin(), strides.end(), int64_t(1), std::multiplies<>());
  bool first = true;
  for (bool more = true; more;) {
    std::vector<Phase> phases(rank);
    bool empty = false, none = false;
    for (size_t d = 0; d < rank; ++d) {
      if (!composite[d]) continue;
      phases[d] = solve(a.forms[2][d], a, batch, residue[d]);
      empty |= phases[d].empty;
      none |= fuser.f.type(node.result()).dims[d].b <= residue[d];
    }
    if (!none) {
      if (!first) g.extra.emplace_back();
      Launch &launch = first ? g.launch : g.extra.back();
      Lowering l{fuser, node, a, g, id, launch, {}, {}};
      if (empty) addZeros(l, phases);
      else addPhase(l, phases, all == 1);
      first = false;
    }
    more = false;
    for (size_t d = rank; d-- > 0 && !more;) {
      if (++residue[d] < strides[d]) more = true;
      else residue[d] = 0;
    }
  }
}

// The partial kernel of a split: k's longest axis in chunks, the chunk number a leading dimension.
static void splitContract(Lowering &l, int64_t splits, Fuser &fuser, const Node &node) {
  Kernel &k = l.k();
  ContractInfo &c = k.contract;
  auto size = [&](AxisId x) { return k.axes[x].extent.at(std::max<int64_t>(fuser.f.batch, 1)); };
  AxisId longest = *std::max_element(c.k.begin(), c.k.end(),
                                     [&](AxisId p, AxisId q) { return size(p) < size(q); });
  splits = std::min(splits, size(longest));
  int64_t chunk = (size(longest) + splits - 1) / splits;
  splits = (size(longest) + chunk - 1) / chunk;
  int label = -1;
  for (size_t x = 0; x < l.labels.size(); ++x)
    if (l.labels[x].axes == std::vector<AxisId>{longest}) label = int(x);
  AxisId s = k.axis("split", splits);
  Axis inner;
  inner.name = k.axes[longest].name;
  inner.extent = chunk;
  inner.bounded = true;
  inner.base = k.axisIndex(s) * chunk;
  inner.limit = k.axes[longest].extent;
  k.axes.push_back(inner);
  AxisId in = AxisId(k.axes.size()) - 1;
  std::replace(c.k.begin(), c.k.end(), longest, in);
  l.labels[label].index = k.axisIndex(s) * chunk + k.axisIndex(in);
  c.batch.insert(c.batch.begin(), s);
  l.operands();
  sumAsTheyLie(k);

  Buffer partial;
  partial.name = k.name + ".partial";
  partial.type = {c.type, l.ydims()};
  partial.type.dims.insert(partial.type.dims.begin(), Dim(splits));
  fuser.program.buffers.push_back(partial);
  BufferId pb = BufferId(fuser.program.buffers.size()) - 1;
  std::vector<Index> at = l.at;
  at.insert(at.begin(), k.axisIndex(s));
  Stage stage = l.accStage();
  Store st;
  st.access.arg = fuser.argFor(l.launch, pb, true);
  st.access.flat = flatten(k, partial.type.dims, at, fuser.f.batch);
  stage.stores.push_back(st);
  k.stages.push_back(stage);

  fuser.groups[l.id].open = false;
  fuser.addCombine(node, l.id, pb, splits, Combine::sum);
}

void Fuser::addContract(const Node &node, int id) {
  const auto &a = std::get<ContractAttr>(node.attr);
  groupOf[node.firstResult.i] = id;
  if (compositeResult(a)) return lowerPhases(*this, node, id);
  Group &g = groups[id];
  Lowering l{*this, node, a, g, id, g.launch, {}, {}};
  l.begin();
  l.simpleAxes();
  l.classify();
  if (l.k().contract.k.empty()) { // an outer product: a sum over one term
    AxisId one = l.k().axis("", 1);
    l.k().contract.k.push_back(one);
  }
  int64_t splits = splitsFor(l.k(), f.batch);
  if (splits > 1) {
    // The group vector grows inside: hand the lowering its own launch and put it back.
    Launch own = std::move(g.launch);
    Lowering s{*this, node, a, g, id, own, std::move(l.labels), std::move(l.at)};
    splitContract(s, splits, *this, node);
    groups[id].launch = std::move(own);
    groups[id].members.push_back(node.result());
    return;
  }
  l.operands();
  sumAsTheyLie(l.k());
  l.storeAcc();
  g.dims = l.ydims();
  for (const LabelForm &form : a.forms[2])
    g.dimAxes.push_back(form.terms.empty() ? -1 : l.labels[form.terms[0].label].axes[0]);
  g.accValue = node.firstResult.i;
}

} // namespace nnc::cg
