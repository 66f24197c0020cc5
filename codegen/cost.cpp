// Operations, bytes, pass and layer of a launch.
//
// Problem. A profile says "kernel z: 41 GF/s, 12 % of what this machine can do; it belongs to the
// layer dense_1, forward". The runtime knows only addresses and a clock. Of a kernel
//
//   acc[; m; n] = sum k: x[m,k] * w[k,n];  y[m,n] = max(acc + bias[n], 0)        m < n, n < 8, k <
//   4
//
// the compiler knows all axes: 2*4*8 + 2*8 operations and 4*(4 + 8) bytes for a row, 4*(32 + 8)
// bytes for the weights, once.
//
// Method. Each expression is evaluated once for every point of the axes that it depends on, among
// those of its stage; sets of axes are bit masks. An argument is read (written) where accesses
// reach, at most all of it, once. What depends on n is computed for the largest batch and for one
// row; a line through both goes into the table. Chunks of split sums count only the rows that
// exist.
//
// In a training step the forward pass is what the results (the loss) and the metrics are computed
// of; of the rest, updates are what depends on the optimizer's memory or becomes a weight, and
// derivatives are what is left. A gradient whose sum is updated in the same kernel is both.
#include "codegen/cost.h"
#include "codegen/math.h"
#include "codegen/pack.h"
#include "codegen/planning.h"
#include "runtime/abi.h"
#include <algorithm>
#include <cmath>
#include <set>

namespace nnc::cg {

namespace {

using Mask = uint64_t; // of axes; kernels with more than 64 count as if all depended on all
constexpr Mask kAll = ~Mask{0};

int operationsOf(const Expr &e) {
  if (!isFloat(e.type)) return 0;
  switch (e.op) {
  case SOp::fma: return 2;
  case SOp::add:
  case SOp::sub:
  case SOp::mul:
  case SOp::div:
  case SOp::max:
  case SOp::min:
  case SOp::sqrt:
  case SOp::floor:
  case SOp::ceil:
  case SOp::round: return 1;
  default: return 0;
  }
}

// Which axes atoms and expressions depend on.
class Masks {
 public:
  explicit Masks(const Kernel &k)
      : k_(k), atoms_(k.atoms.size()), exprs_(k.exprs.size()), atomKnown_(k.atoms.size()),
        exprKnown_(k.exprs.size()) {}

  Mask axis(AxisId a) const { return k_.axes.size() > 64 ? kAll : Mask{1} << a; }
  Mask axes(const std::vector<AxisId> &list) const {
    Mask m = 0;
    for (AxisId a : list) m |= axis(a);
    return m;
  }
  // Of a chain: the axes around its tiles' columns.
  Mask rows() const {
    return k_.cls == KernelClass::Chain ? axes(k_.chain.outer) | axis(k_.chain.row) : 0;
  }
  // Of sums over tokens: the axes of the table that stages update.
  Mask table() const {
    const ScatterInfo &s = k_.scatter;
    return s.row < 0 ? 0 : axes(s.outer) | axis(s.row) | axes(s.inner);
  }
  Mask index(const Index &x) {
    Mask m = 0;
    for (const Term &t : x.terms) m |= atom(t.atom);
    return m;
  }
  Mask expr(ExprId e) {
    if (exprKnown_[size_t(e)]) return exprs_[size_t(e)];
    const Expr &x = k_.exprs[size_t(e)];
    Mask m = 0;
    for (ExprId a : x.args) m |= expr(a);
    switch (x.op) {
    case SOp::load: m |= index(x.access.flat) | guards(x.access.guards); break;
    case SOp::index:
    case SOp::random: m |= index(x.index); break;
    case SOp::guard: m |= guards(x.guards); break;
    case SOp::local: m |= axes(k_.parallel) | rows() | table(); break;
    case SOp::acc:
      m |= axes(k_.contract.batch) | axes(k_.contract.m) | axes(k_.contract.n) | rows() | table();
      if (k_.cls == KernelClass::Chain) m |= axis(k_.chain.col);
      break;
    default: break;
    }
    exprKnown_[size_t(e)] = 1;
    return exprs_[size_t(e)] = m;
  }

 private:
  const Kernel &k_;
  std::vector<Mask> atoms_, exprs_;
  std::vector<char> atomKnown_, exprKnown_;

  Mask guards(const std::vector<Guard> &list) {
    Mask m = 0;
    for (const Guard &g : list) m |= index(g.index);
    return m;
  }
  Mask atom(AtomId a) {
    if (atomKnown_[size_t(a)]) return atoms_[size_t(a)];
    const Atom &x = k_.atoms[size_t(a)];
    Mask m = x.kind == Atom::Axis    ? axis(x.axis)
             : x.kind == Atom::Value ? expr(x.value)
                                     : index(x.inner);
    atomKnown_[size_t(a)] = 1;
    return atoms_[size_t(a)] = m;
  }
};

// Steps of an axis on a batch of n rows; of chunks, the mean over all of them.
double stepsOf(const Kernel &k, AxisId a, int64_t n) {
  const Axis &x = k.axes[size_t(a)];
  const double extent = double(std::max<int64_t>(x.extent.at(n), 0));
  if (!x.bounded || x.base.terms.size() != 1) return extent;
  const Term &t = x.base.terms[0];
  const Atom &chunk = k.atoms[size_t(t.atom)];
  if (chunk.kind != Atom::Axis) return extent;
  const int64_t chunks = k.axes[size_t(chunk.axis)].extent.at(n);
  if (chunks < 1 || chunks > 1 << 16) return extent;
  double sum = 0;
  for (int64_t c = 0; c < chunks; ++c) {
    int64_t left = x.limit.at(n) - (x.base.c0 + x.base.cn * n + t.coef * c);
    sum += std::clamp(double(left), 0.0, extent);
  }
  return sum / double(chunks);
}

class Counter {
 public:
  Counter(const Kernel &k, int64_t n) : k_(k), masks_(k) {
    for (size_t a = 0; a < k.axes.size(); ++a) steps_.push_back(stepsOf(k, AxisId(a), n));
    n_ = n;
    const ScatterInfo &s = k.scatter;
    if (s.row < 0 || !s.touched) return;
    double tokens = 1; // each may name a row of its own
    for (AxisId a : s.tokens) tokens *= steps_[size_t(a)];
    steps_[size_t(s.row)] = std::min(steps_[size_t(s.row)], tokens);
  }

  double flops() {
    switch (k_.cls) {
    case KernelClass::Contract: {
      const ContractInfo &c = k_.contract;
      const Mask tile = masks_.axes(c.batch) | masks_.axes(c.m) | masks_.axes(c.n);
      const Mask all = tile | masks_.axes(c.k);
      sum_ = 2 * points(all);
      operand(c.a, all), operand(c.b, all);
      for (const Stage &s : k_.stages) add(s.body, tile);
      break;
    }
    case KernelClass::Loops: loops(); break;
    case KernelClass::ScatterAdd: {
      const ScatterInfo &s = k_.scatter;
      const Mask all = masks_.axes(s.outer) | masks_.axes(s.tokens) | masks_.axes(s.inner);
      if (isFloat(s.type)) sum_ = points(all);
      add(s.update, all), add(s.index, all);
      counted_.clear();
      for (const Stage &stage : k_.stages) add(stage.body, masks_.table());
      break;
    }
    case KernelClass::Sort:
      add(k_.sort.value, masks_.axes(k_.parallel) | masks_.axis(k_.sort.axis));
      break;
    case KernelClass::Chain: chain(); break;
    }
    return sum_;
  }

  double bytes() {
    std::vector<double> read(k_.args.size()), written(k_.args.size());
    forEachAccess(k_, [&](const Access &a, bool writes) {
      (writes ? written : read)[size_t(a.arg)] += points(masks_.index(a.flat));
    });
    if (k_.cls == KernelClass::ScatterAdd && k_.scatter.arg >= 0)
      written[size_t(k_.scatter.arg)] = INFINITY;
    double sum = 0;
    for (size_t a = 0; a < k_.args.size(); ++a) {
      const KernelArg &arg = k_.args[a];
      const double all = double(ir::elementCount(arg.dims, n_));
      sum +=
          (std::min(read[a], all) + std::min(written[a], all)) * double(ir::dtypeBytes(arg.dtype));
    }
    return sum;
  }

 private:
  const Kernel &k_;
  Masks masks_;
  std::vector<double> steps_;
  int64_t n_ = 1;
  double sum_ = 0, most_ = INFINITY;
  std::set<ExprId> counted_; // in the block of stages at hand

  double points(Mask m) const {
    double p = 1;
    for (size_t a = 0; a < steps_.size(); ++a)
      if (steps_.size() > 64 || m >> a & 1) p *= steps_[a];
    return p;
  }

  // What an operand of a product is computed of is computed once for each element, as it is copied.
  void operand(ExprId e, Mask around) {
    const ExprId load = operandLoad(k_, e);
    if (load >= 0)
      most_ = double(ir::elementCount(k_.args[size_t(k_.exprs[size_t(load)].access.arg)].dims, n_));
    add(e, around);
    most_ = INFINITY;
  }

  // An expression and what it is made of, in a loop over the axes `around`.
  void add(ExprId e, Mask around) {
    if (e < 0 || !counted_.insert(e).second) return;
    const Expr &x = k_.exprs[size_t(e)];
    for (ExprId a : x.args) add(a, around);
    if (int each = operationsOf(x)) sum_ += each * std::min(points(masks_.expr(e) & around), most_);
  }

  void chain() {
    for (size_t i = 0; i < k_.stages.size(); ++i) {
      const Stage &s = k_.stages[i];
      const ChainStep &step = k_.chain.steps[i];
      Mask around = masks_.rows() | masks_.axes(s.loop) | masks_.axes(s.reduce);
      counted_.clear();
      switch (step.kind) {
      case StepKind::Product:
      case StepKind::ColSum: around |= masks_.axis(k_.chain.col); [[fallthrough]];
      case StepKind::RowSum:
        sum_ += 2 * points(around);
        add(step.b, around);
        break;
      case StepKind::Tile: around |= masks_.axis(k_.chain.col); break;
      case StepKind::Row:
        if (s.combine != Combine::none && isFloat(s.type)) sum_ += points(around);
        break;
      }
      add(s.body, around);
    }
  }

  void loops() {
    const Stage *before = nullptr;
    for (const Stage &s : k_.stages) {
      const bool same = before && before->combine == Combine::none && s.combine == Combine::none &&
                        before->loop == s.loop;
      if (!same) counted_.clear();
      before = &s;
      const Mask around = masks_.axes(k_.parallel) | masks_.axes(s.loop) | masks_.axes(s.reduce);
      add(s.body, around);
      if (s.combine != Combine::none && isFloat(s.type)) sum_ += points(around);
    }
  }
};

LinearCost through(int64_t batch, double one, double all) {
  LinearCost c;
  if (batch > 1) c.perN = std::llround((all - one) / double(batch - 1));
  c.constant = std::llround(all) - c.perN * std::max<int64_t>(batch, 1);
  return c;
}

} // namespace

LinearCost flopsOf(const Kernel &k) {
  Kernel expanded = k;
  expandMath(expanded);
  const int64_t most = std::max<int64_t>(k.batch, 1);
  return through(most, Counter(expanded, 1).flops(), Counter(expanded, most).flops());
}

LinearCost bytesOf(const Kernel &k) {
  const int64_t most = std::max<int64_t>(k.batch, 1);
  return through(most, Counter(k, 1).bytes(), Counter(k, most).bytes());
}

// --- passes --------------------------------------------------------------------------------------

namespace {

std::string kindOf(const ir::Module &m, const std::string &name) {
  const ir::Persistent *p = m.persistent(name);
  const ir::Meta *kind = p ? p->meta.find("kind") : nullptr;
  return kind && kind->asString() ? *kind->asString() : p ? "param" : "";
}

bool isWeight(const std::string &kind) {
  return kind == "param" || kind == "state" || kind == "rows";
}
bool isLearned(const std::string &kind) { return kind == "param" || kind == "slot"; }

// A function that reads weights and gives new ones.
bool trains(const ir::Module &m, const ir::Function &f) {
  bool reads = false, writes = false;
  for (const ir::Param &p : f.params) reads |= !p.bind.empty() && isLearned(kindOf(m, p.bind));
  for (const ir::Result &r : f.results) writes |= r.bind && isLearned(kindOf(m, r.name));
  return reads && writes;
}

struct NodePasses {
  std::vector<int64_t> node;
  std::map<const ir::Function *, int64_t> body;
  const ir::Function *function = nullptr;

  int64_t of(ir::ValueId v) const {
    ir::NodeId def = v.valid() ? function->values[size_t(v.i)].def : ir::NodeId{};
    return def.valid() ? node[size_t(def.i)] : -1;
  }
};

void noteBodies(const ir::Module &m, const ir::Function &f, int64_t pass, NodePasses &out) {
  for (const ir::Node &n : f.nodes) {
    const auto *s = std::get_if<ir::ScanAttr>(&n.attr);
    const ir::Function *body = s ? m.find(s->body) : nullptr;
    if (!body) continue;
    const int64_t own = &f == out.function ? out.of(n.result()) : pass;
    if (out.body.try_emplace(body, own).second) noteBodies(m, *body, own, out);
  }
}

NodePasses nodePasses(const ir::Module &m, const ir::Function &f) {
  NodePasses out;
  out.function = &f;
  out.node.assign(f.nodes.size(), NNC_PASS_FORWARD);
  if (trains(m, f)) {
    // Nodes stand behind what they read.
    std::vector<char> forward(f.values.size()), updates(f.values.size());
    for (const ir::Param &p : f.params) {
      const std::string kind = p.bind.empty() ? "" : kindOf(m, p.bind);
      updates[size_t(p.value.i)] = kind == "slot" || kind == "host";
    }
    for (const ir::Result &r : f.results) {
      const std::string kind = r.bind ? kindOf(m, r.name) : "";
      if (isLearned(kind) || kind == "host")
        updates[size_t(r.value.i)] = 1;
      else
        forward[size_t(r.value.i)] = 1;
    }
    for (size_t i = f.nodes.size(); i-- > 0;) {
      const ir::Node &n = f.nodes[i];
      bool wanted = false;
      for (int r = 0; r < n.resultCount; ++r) wanted |= forward[size_t(n.result(r).i)] != 0;
      for (ir::ValueId v : n.operands) forward[size_t(v.i)] |= char(wanted);
    }
    for (size_t i = 0; i < f.nodes.size(); ++i) {
      const ir::Node &n = f.nodes[i];
      bool first = false, update = false;
      for (ir::ValueId v : n.operands) update |= updates[size_t(v.i)] != 0;
      for (int r = 0; r < n.resultCount; ++r) {
        first |= forward[size_t(n.result(r).i)] != 0;
        update |= updates[size_t(n.result(r).i)] != 0;
      }
      update &= !first;
      for (int r = 0; r < n.resultCount; ++r) updates[size_t(n.result(r).i)] = char(update);
      out.node[i] = first ? NNC_PASS_FORWARD : update ? NNC_PASS_UPDATE : NNC_PASS_BACKWARD;
    }
  }
  noteBodies(m, f, NNC_PASS_FORWARD, out);
  return out;
}

// A kernel that sums is more than an update of elements.
bool sums(const Kernel &k) {
  if (k.cls != KernelClass::Loops) return true;
  return std::any_of(k.stages.begin(), k.stages.end(),
                     [](const Stage &s) { return s.combine != Combine::none; });
}

} // namespace

std::vector<int64_t> passesOf(const ir::Module &m, const Program &p) {
  const NodePasses nodes = nodePasses(m, *p.function);
  std::map<std::string, int64_t> stored; // by persistent value
  for (const ir::Result &r : p.function->results)
    if (r.bind) stored[r.name] = nodes.of(r.value);
  constexpr int64_t kUnknown = -1;
  std::vector<int64_t> passes;
  for (const Launch &l : p.launches) {
    int64_t pass = kUnknown;
    auto body = nodes.body.find(l.function);
    if (body != nodes.body.end()) pass = body->second;
    for (size_t a = 0; a < l.args.size() && body == nodes.body.end(); ++a) {
      if (!l.kernel.args[a].written) continue;
      const Buffer &b = p.buffers[size_t(l.args[a])];
      int64_t own = nodes.of(b.value);
      if (auto it = stored.find(b.persistent); b.life == Life::Persistent && it != stored.end())
        own = it->second;
      if (own == kUnknown) continue;
      if (own == NNC_PASS_UPDATE && sums(l.kernel)) own = NNC_PASS_BACKWARD_UPDATE;
      if (pass == kUnknown || own == NNC_PASS_FORWARD) pass = own;
      if (pass != own && pass != NNC_PASS_FORWARD) pass = NNC_PASS_BACKWARD_UPDATE;
    }
    passes.push_back(pass);
  }
  // Partial sums belong to the launch that reads them.
  std::map<BufferId, int64_t> reader;
  for (size_t i = p.launches.size(); i-- > 0;) {
    const Launch &l = p.launches[i];
    for (size_t a = 0; a < l.args.size() && passes[i] == kUnknown; ++a)
      if (auto it = reader.find(l.args[a]); l.kernel.args[a].written && it != reader.end())
        passes[i] = it->second;
    if (passes[i] == kUnknown) passes[i] = NNC_PASS_FORWARD;
    for (size_t a = 0; a < l.args.size(); ++a)
      if (l.kernel.args[a].read) reader[l.args[a]] = passes[i];
  }
  return passes;
}

// Of several layers the first one that is written counts, else the first one that is read: a
// product reads its weights before the epilogue reads those of a layer behind.
std::vector<std::string> layersOf(const ir::Module &m, const Program &p) {
  std::vector<std::string> layer(p.buffers.size()); // of the weights that a buffer holds
  auto note = [&](BufferId b, const std::string &name) {
    const ir::Persistent *weight = m.persistent(name);
    const ir::Meta *of = weight ? weight->meta.find("layer") : nullptr;
    if (of && of->asString() && isWeight(kindOf(m, name))) layer[size_t(b)] = *of->asString();
  };
  for (size_t b = 0; b < p.buffers.size(); ++b) note(BufferId(b), p.buffers[b].persistent);
  for (const ProgramResult &r : p.results)
    if (r.bind) note(r.buffer, r.name);
  // What a loop sees of the program around it.
  for (size_t b = 0; b < p.buffers.size(); ++b)
    for (BufferId at = BufferId(b); layer[b].empty() && at >= 0; at = p.buffers[size_t(at)].view)
      layer[b] = layer[size_t(at)];
  std::vector<std::string> layers;
  for (const Launch &l : p.launches) {
    std::string own;
    for (bool written : {true, false})
      for (size_t a = 0; a < l.args.size() && own.empty(); ++a)
        if (!written || l.kernel.args[a].written) own = layer[size_t(l.args[a])];
    layers.push_back(own);
  }
  return layers;
}

} // namespace nnc::cg
