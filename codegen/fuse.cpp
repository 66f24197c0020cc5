// Fusion: from a function of tensor nodes to a list of kernels.
//
// Problem. One node, one kernel would spend a step on memory traffic and barriers. Example: a dense
// layer's
//   %z = contract %x, %w; %s = add %z, (broadcast %b); %h = select (le %s, 0), 0, %s
// should store h only, from the registers of the product's tile; a softmax row should stay in one
// kernel; the optimizer's update belongs to the tile that has just finished the weight's gradient.
//
// Method. (1) fuse_roots.cpp says which values get memory; everything else is inlined where it is
// read (fuse_read.cpp). (2) Roots are placed in program order: into the latest kernel that produces
// something they read, if the root's index space starts with that kernel's parallel axes, if it
// reads the kernel's own values only at the very same index, and if no dependence would run in a
// circle; else into a new kernel.
//   Contract + elementwise   -> epilogue stage on the tile
//   Loops + elementwise      -> a stage, looping over the axes beyond the parallel ones
//   Loops + reduction        -> a stage that leaves a local behind
//   ScatterAdd + elementwise -> a stage on the sums, if tokens are few against the table's rows
// Nodes that are none of these begin a kernel of their own (fuse_classes.cpp).
// (3) Values that no other kernel reads lose their store. Elementwise arithmetic is IEEE
// everywhere, so none of this changes a bit. Reductions over much with little to show for it are
// split in two kernels, `partial` and `combine`, by shape alone.
#include "codegen/fuse.h"
#include "codegen/touched.h"
#include "ir/random.h"
#include <algorithm>
#include <stdexcept>

namespace nnc::cg {

using ir::Node;
using ir::Op;
using ir::ValueId;

Fuser::Fuser(const ir::Module &m, const ir::Function &f, const FuseOptions &o, const Frame *frame)
    : m(m), f(f), options(o), frame(frame) {
  program.function = &f;
  program.batch = f.batch;
  facts = chooseRoots(m, f, o, frame);
  groupOf.assign(f.values.size(), -1);
  bufferOf.assign(f.values.size(), -1);
}

// --- buffers -------------------------------------------------------------------------------------

void Fuser::makeBuffers() {
  int32_t input = 0; // number among those that are not bound; a body's are all
  for (const ir::Param &p : f.params) {
    Buffer b;
    b.name = f.values[p.value.i].name;
    b.type = f.type(p.value);
    b.layout = facts.layoutOf(p.value);
    b.value = p.value;
    b.persistent = p.bind;
    b.life = p.bind.empty() ? Life::Input : Life::Persistent;
    if (frame) {
      const Frame::Part &part = frame->params[size_t(input++)];
      b.life = Life::Outer;
      b.outer = part.outer, b.slice = part.slice, b.layout = part.layout;
    } else if (p.bind.empty()) {
      b.input = input++;
    }
    bufferOf[p.value.i] = BufferId(program.buffers.size());
    program.buffers.push_back(std::move(b));
  }
}

std::string Fuser::nameOf(ValueId v) const {
  const std::string &name = f.values[v.i].name;
  const Node *n = f.def(v);
  return name.empty() && n ? ir::info(n->op).name : name;
}

BufferId Fuser::buffer(ValueId v) {
  if (bufferOf[v.i] >= 0) return bufferOf[v.i];
  Buffer b;
  b.name = nameOf(v);
  b.type = f.type(v);
  b.layout = facts.layoutOf(v);
  b.value = v;
  if (const Node *n = f.def(v); n && n->op == Op::constant_ && groupOf[v.i] < 0) {
    b.life = Life::Constant;
    b.data = std::get<ir::ConstantAttr>(n->attr).data;
    if (b.data.size() == 1) b.data.assign(size_t(count(b.type.dims)), b.data[0]);
  }
  bufferOf[v.i] = BufferId(program.buffers.size());
  program.buffers.push_back(std::move(b));
  return bufferOf[v.i];
}

BufferId Fuser::siteBuffer(const std::string &site) {
  auto [it, isNew] = sites_.try_emplace(site, BufferId(program.buffers.size()));
  if (!isNew) return it->second;
  const uint64_t hash = ir::siteHash(site);
  Buffer b;
  b.name = site;
  b.type = {DType::u32, {Dim(2)}};
  b.life = Life::Constant;
  b.data = {double(uint32_t(hash)), double(hash >> 32)};
  program.buffers.push_back(std::move(b));
  return it->second;
}

int32_t Fuser::argFor(Launch &l, BufferId b, bool write) {
  auto it = std::find(l.args.begin(), l.args.end(), b);
  int32_t i = int32_t(it - l.args.begin());
  if (it == l.args.end()) {
    l.args.push_back(b);
    l.kernel.args.push_back(
        {program.buffers[b].type.dtype, program.buffers[b].type.dims, false, false});
  }
  (write ? l.kernel.args[i].written : l.kernel.args[i].read) = true;
  return i;
}

void Fuser::addStores(Launch &l, Stage &s, ValueId v, const std::vector<Index> &at, int slot) {
  std::vector<BufferId> places{buffer(v)};
  if (auto it = alsoAt_.find(v.i); it != alsoAt_.end())
    places.insert(places.end(), it->second.begin(), it->second.end());
  for (BufferId b : places) {
    Store st;
    st.access.arg = argFor(l, b, true);
    st.access.flat = placeOf(l.kernel, program.buffers[b].layout, f.type(v).dims, at, f.batch);
    st.slot = slot;
    s.stores.push_back(st);
  }
}

// --- placing roots -------------------------------------------------------------------------------

// Each value that the node reads, through everything that is inlined, down to those with memory.
void Fuser::eachRead(const Node &node, const std::function<void(ValueId)> &visit) const {
  std::set<int32_t> seen;
  std::vector<ValueId> work(node.operands.begin(), node.operands.end());
  while (!work.empty()) {
    ValueId v = work.back();
    work.pop_back();
    if (!seen.insert(v.i).second) continue;
    visit(v);
    if (facts.root[v.i]) continue;
    if (const Node *n = f.def(v)) work.insert(work.end(), n->operands.begin(), n->operands.end());
  }
}

// Groups of the values with memory that the node reads.
std::set<int> Fuser::rootDeps(const Node &node) const {
  std::set<int> deps;
  auto add = [&](ValueId v) {
    if (facts.root[v.i] && groupOf[v.i] >= 0) deps.insert(groupOf[v.i]);
  };
  eachRead(node, [&](ValueId v) {
    if (auto it = facts.rectified.find(v.i); it != facts.rectified.end()) add(it->second);
    add(v);
  });
  return deps;
}

void Fuser::waitFor(int group, const std::set<int> &others) {
  for (int other : others)
    if (groups[group].deps.insert(other).second) groupOrder_.addEdge(other, group);
}

// Would the group wait for something that waits for it?
bool Fuser::closesCircle(int group, const std::set<int> &deps) const {
  std::vector<int> others;
  for (int d : deps)
    if (d != group) others.push_back(d);
  return groupOrder_.leads(group, others);
}

int Fuser::newGroup(const Node &node) {
  groupOrder_.addNode();
  groups.emplace_back();
  Group &g = groups.back();
  g.kernel().batch = f.batch;
  g.kernel().loc = node.loc;
  if (node.resultCount) g.kernel().name = nameOf(node.result());
  return int(groups.size()) - 1;
}

static bool isElementwise(const ir::Function &f, const Node &n) {
  return ir::isPointwise(n.op) || isView(f, n) || n.op == Op::select_ || n.op == Op::cast_ ||
         n.op == Op::constant_ || n.op == Op::iota_ || n.op == Op::size_ || n.op == Op::random_;
}

// Values of the node's own shape that lie in memory and that it reads.
std::set<int32_t> Fuser::wholeReads(const Node &node) const {
  std::set<int32_t> whole;
  eachRead(node, [&](ValueId v) {
    if (facts.root[v.i] && f.type(v).dims == f.type(node.result()).dims) whole.insert(v.i);
  });
  return whole;
}

// A pointwise kernel reads the values; others may join it.
void Fuser::noteReader(const Node &node, int id) {
  if (frame || !options.fuse || !isElementwise(f, node) || f.type(node.result()).isScalar()) return;
  for (int32_t v : wholeReads(node)) {
    std::vector<int> &list = readers_[v];
    if (list.empty() || list.back() != id) list.push_back(id);
  }
}

// Pointwise kernels over the same axes that a pointwise node does not read from. In a loop every
// kernel costs in every round: all of them. Elsewhere the last few that read what the node reads,
// which is then read once, as the moments of an optimizer read a gradient.
std::vector<int> Fuser::siblingsOf(const Node &node) const {
  constexpr size_t kAsked = 4;
  std::vector<int> list;
  if (!isElementwise(f, node) || f.type(node.result()).isScalar()) return list;
  if (frame) {
    for (int g = 0; g < int(groups.size()); ++g)
      if (groups[g].open && groups[g].kernel().cls == KernelClass::Loops && !groups[g].dims.empty())
        list.push_back(g);
    return list;
  }
  for (int32_t v : wholeReads(node)) {
    auto it = readers_.find(v);
    if (it == readers_.end()) continue;
    for (size_t i = it->second.size(), end = i - std::min(i, kAsked); i-- > end;) {
      const Group &g = groups[it->second[i]];
      if (g.open && g.kernel().cls == KernelClass::Loops && g.dims == f.type(node.result()).dims)
        list.push_back(it->second[i]);
    }
  }
  return list;
}

void Fuser::place(const Node &node) {
  if (placeChain(node)) return;
  if (node.op == Op::reduce_ && splitReduce(node)) return; // by shape alone, whoever could join
  std::set<int> deps = rootDeps(node);
  if (options.fuse) {
    // The kernel that shares most axes first, then the latest.
    std::vector<int> order(deps.rbegin(), deps.rend());
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return groups[a].dims.size() > groups[b].dims.size(); });
    for (int g : siblingsOf(node))
      if (!deps.count(g)) order.push_back(g);
    for (int g : order) {
      if (!mayTake(groups[g], node) || closesCircle(g, deps) || !tryMerge(node, g)) continue;
      for (int k = 0; k < node.resultCount; ++k) groups[g].members.push_back(node.result(k));
      deps.erase(g);
      waitFor(g, deps);
      noteReader(node, g);
      return;
    }
  }
  int id = newGroup(node);
  noteReader(node, id);
  waitFor(id, deps);
  for (int k = 0; k < node.resultCount; ++k) {
    groupOf[node.result(k).i] = id;
    groups[id].members.push_back(node.result(k));
  }
  switch (node.op) {
  case Op::scan_: return addScan(node, id);
  case Op::contract_: return addContract(node, id);
  case Op::reduce_:
  case Op::max_index_: return addReduce(node, groups[id], id);
  case Op::cumsum_: return addCumsum(node, groups[id], id);
  case Op::scatter_add_: return addScatter(node, groups[id], id);
  case Op::sort_: return addSort(node, groups[id], id);
  case Op::unwindow_:
    if (!isIndexMap(node)) return addUnwindow(node, groups[id], id);
    [[fallthrough]];
  default:
    NNC_CHECK(isElementwise(f, node), std::string("no kernel for ") + ir::info(node.op).name);
    return addElementwise(node, groups[id], id);
  }
}

// A few pieces of one type side by side: their kernel stores each where it belongs.
static bool joins(const ir::Function &f, const Node &n) {
  constexpr size_t kMostPieces = 16;
  if (n.op != Op::concat_ || n.operands.size() > kMostPieces) return false;
  const size_t d = size_t(std::get<ir::AxisAttr>(n.attr).dim);
  return f.type(n.operands[0]).dims[d].isConst() &&
         std::all_of(n.operands.begin(), n.operands.end(),
                     [&](ValueId x) { return f.type(x) == f.type(n.operands[0]); });
}

bool Fuser::mergeConcat(const Node &node, Group &g, int id) {
  Kernel &k = g.kernel();
  ValueId v = node.result();
  if (k.cls != KernelClass::Loops || f.type(node.operands[0]).dims != g.dims || g.dims.empty())
    return false;
  const int64_t d = std::get<ir::AxisAttr>(node.attr).dim;
  Reader r(f, facts, k, this, &g, id);
  std::vector<Index> at;
  for (AxisId a : g.dimAxes) at.push_back(k.axisIndex(a));
  std::vector<ExprId> bodies;
  for (ValueId x : node.operands) {
    bodies.push_back(r.read(x, at));
    if (bodies.back() < 0) return false;
  }
  groupOf[v.i] = id;
  for (ExprId body : bodies) {
    Stage s;
    s.body = body;
    s.type = ir::widened(f.type(v).dtype);
    s.name = nameOf(v);
    addStores(g.launch, s, v, at);
    k.stages.push_back(std::move(s));
    at[size_t(d)] = at[size_t(d)] + dimIndex(g.dims[size_t(d)]);
  }
  return true;
}

// Does `dims` begin with the group's dimensions?
static bool startsWith(const Dims &dims, const Dims &prefix) {
  return dims.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), dims.begin());
}

// What tryMerge refuses at first sight.
bool Fuser::mayTake(const Group &g, const Node &node) const {
  if (!g.open) return false;
  if (g.region >= 0) return isElementwise(f, node);
  if (!isElementwise(f, node) || joins(f, node)) return true;
  const Dims &dims = f.type(node.result()).dims;
  return g.kernel().cls == KernelClass::Loops ? startsWith(dims, g.dims) : dims == g.dims;
}

bool Fuser::tryMerge(const Node &node, int id) {
  Group &g = groups[id];
  if (g.region >= 0) return isElementwise(f, node) && mergeRow(node, id);
  if (joins(f, node) && mergeConcat(node, g, id)) return true;
  if (isElementwise(f, node)) return mergeElementwise(node, g, id);
  if (node.op == Op::reduce_ || node.op == Op::max_index_) return mergeReduce(node, g, id);
  return false;
}

// The axis for a dimension beyond the group's: shared by all stages that loop over it.
static AxisId trailingAxis(Group &g, int position, Dim extent) {
  auto key = std::make_pair(position, extent.a * (int64_t(1) << 40) + extent.b);
  auto [it, isNew] = g.trailing.try_emplace(key, -1);
  if (isNew) it->second = g.kernel().axis("", extent);
  return it->second;
}

// Parallel points left when only the leading axes stay parallel: enough to share out, or all of it
// small.
static bool worthIt(const Fuser &fu, const Dims &parallel, const Dims &all) {
  return fu.count(parallel) >= 4 || fu.count(all) <= 2048;
}

// Does the body read, in order to replace it, what tokens of other rows read as well? A kernel of
// its own can replace it in place.
static bool readsTokensRows(const Kernel &k, ExprId body) {
  std::set<ExprId> seen;
  std::vector<ExprId> work{body};
  while (!work.empty()) {
    ExprId id = work.back();
    work.pop_back();
    if (!seen.insert(id).second) continue;
    const Expr &e = k.exprs[id];
    if (e.op == SOp::load && !e.access.flat.isConst() && tokensReadElsewhere(k, e.access))
      return true;
    work.insert(work.end(), e.args.begin(), e.args.end());
  }
  return false;
}

bool Fuser::mergeElementwise(const Node &node, Group &g, int id) {
  ValueId v = node.result();
  const Dims &dims = f.type(v).dims;
  const KernelClass cls = g.kernel().cls;
  if (cls != KernelClass::Loops && cls != KernelClass::Contract && cls != KernelClass::ScatterAdd)
    return false;
  if (cls != KernelClass::Loops ? dims != g.dims : !startsWith(dims, g.dims)) return false;
  if (dims.size() > g.dims.size() && !worthIt(*this, g.dims, dims)) return false;
  groupOf[v.i] = id;
  g.inlined.insert(v.i);
  std::vector<Index> at;
  std::vector<AxisId> loop;
  for (size_t i = 0; i < dims.size(); ++i) {
    AxisId a = i < g.dims.size() ? g.dimAxes[i] : trailingAxis(g, int(i), dims[i]);
    if (i >= g.dims.size()) loop.push_back(a);
    at.push_back(a < 0 ? Index{} : g.kernel().axisIndex(a));
  }
  Reader r(f, facts, g.kernel(), this, &g, id);
  ExprId body = r.read(v, at);
  if (body < 0 || (cls == KernelClass::ScatterAdd && readsTokensRows(g.kernel(), body))) {
    groupOf[v.i] = -1;
    g.inlined.erase(v.i);
    return false;
  }
  Stage s;
  s.loop = loop;
  s.body = body;
  s.type = ir::widened(f.type(v).dtype);
  s.name = nameOf(v);
  addStores(g.launch, s, v, at);
  if (loop.empty() && g.kernel().cls == KernelClass::Loops) {
    g.locals[v.i] = {int(g.kernel().stages.size()), 0};
    g.inlined.erase(v.i);
  }
  g.kernel().stages.push_back(std::move(s));
  return true;
}

void Fuser::addElementwise(const Node &node, Group &g, int id) {
  const bool pieces = options.fuse && joins(f, node) && !f.type(node.result()).isScalar();
  g.dims = f.type(pieces ? node.operands[0] : node.result()).dims;
  for (Dim d : g.dims) g.dimAxes.push_back(g.kernel().axis("", d));
  g.kernel().parallel = g.dimAxes;
  if (pieces && mergeConcat(node, g, id)) return;
  NNC_CHECK(!pieces, "the pieces of a concatenation cannot be read in a kernel of their own");
  NNC_CHECK(mergeElementwise(node, g, id),
            "an elementwise value cannot be read in a kernel of its own");
}

// --- reductions ----------------------------------------------------------------------------------

static ir::Ints reducedDims(const Node &n) {
  return n.op == Op::reduce_ ? std::get<ir::ReduceAttr>(n.attr).dims
                             : std::get<ir::AxesAttr>(n.attr).dims;
}

Combine combineOf(const Node &n) {
  if (n.op == Op::max_index_) return Combine::argmax;
  switch (std::get<ir::ReduceAttr>(n.attr).kind) {
  case ir::ReduceKind::sum: return Combine::sum;
  case ir::ReduceKind::prod: return Combine::prod;
  case ir::ReduceKind::max: return Combine::max;
  case ir::ReduceKind::min: return Combine::min;
  }
  return Combine::sum;
}

bool contains(const ir::Ints &list, int64_t x) {
  return std::find(list.begin(), list.end(), x) != list.end();
}

// Lanes where the reduced elements lie side by side; a short row needs fewer (by shape only).
ReduceOrder orderFor(const Dims &dims, const ir::Ints &reduced, DType t, Combine c, int64_t batch) {
  ReduceOrder o;
  if (dims.empty() || !contains(reduced, int64_t(dims.size()) - 1) || c == Combine::cumsum)
    return o;
  int64_t extent = dims.back().at(std::max<int64_t>(batch, 1));
  int32_t full = t == DType::f64 ? kLanesF64 : kLanesF32;
  for (o.lanes = 16; o.lanes < full && o.lanes < extent; o.lanes *= 2) {
  }
  return o;
}

// Only the leading `rank` axes stay parallel; the others become loops of the stages. Legal while no
// stage has left anything behind for another.
bool Fuser::demote(Group &g, size_t rank) {
  Kernel &k = g.kernel();
  if (rank == g.dims.size()) return true;
  if (k.cls != KernelClass::Loops || rank > g.dims.size()) return false;
  for (const Stage &s : k.stages)
    if (!s.reduce.empty()) return false;
  for (const Expr &e : k.exprs)
    if (e.op == SOp::local) return false;
  Dims kept(g.dims.begin(), g.dims.begin() + rank);
  if (!worthIt(*this, kept, g.dims)) return false;
  std::vector<AxisId> moved(g.dimAxes.begin() + rank, g.dimAxes.end());
  for (Stage &s : k.stages) s.loop.insert(s.loop.begin(), moved.begin(), moved.end());
  for (size_t i = rank; i < g.dims.size(); ++i) {
    int64_t key = g.dims[i].a * (int64_t(1) << 40) + g.dims[i].b;
    g.trailing[{int(i), key}] = g.dimAxes[i];
  }
  for (auto &[value, where] : g.locals) g.inlined.insert(value);
  g.locals.clear();
  g.dims = kept;
  g.dimAxes.resize(rank);
  k.parallel = g.dimAxes;
  return true;
}

bool Fuser::mergeReduce(const Node &node, Group &g, int id) {
  if (g.kernel().cls != KernelClass::Loops) return false;
  const Dims &dims = f.type(node.operands[0]).dims;
  ir::Ints reduced = reducedDims(node);
  size_t kept = dims.size() - reduced.size();
  for (size_t i = 0; i < kept; ++i)
    if (contains(reduced, int64_t(i))) return false; // the kept dimensions must come first
  Dims prefix(dims.begin(), dims.begin() + kept);
  if (!startsWith(g.dims, prefix) || !worthIt(*this, prefix, dims)) return false;
  // Keep a way back: demotion or a failed read leaves the group as it was.
  Group saved = g;
  for (int k = 0; k < node.resultCount; ++k) groupOf[node.result(k).i] = id;
  size_t before = g.kernel().stages.size();
  if (demote(g, kept)) addReduce(node, g, id);
  if (g.kernel().stages.size() > before) return true;
  g = std::move(saved);
  for (int k = 0; k < node.resultCount; ++k) groupOf[node.result(k).i] = -1;
  return false;
}

// Appends the reduction as a stage. In a new group the kept dimensions become the parallel axes.
// Where the operand cannot be read, nothing is appended (only in a group that has stages already).
void Fuser::addReduce(const Node &node, Group &g, int id) {
  Kernel &k = g.kernel();
  ValueId x = node.operands[0];
  const Dims &dims = f.type(x).dims;
  ir::Ints reduced = reducedDims(node);
  bool fresh = k.stages.empty();
  std::vector<Index> at(dims.size()), out;
  Stage s;
  size_t kept = 0;
  for (size_t i = 0; i < dims.size(); ++i) {
    AxisId a;
    if (contains(reduced, int64_t(i))) {
      a = trailingAxis(g, int(i), dims[i]);
      s.reduce.push_back(a);
    } else {
      if (fresh) {
        g.dims.push_back(dims[i]);
        g.dimAxes.push_back(k.axis("", dims[i]));
      }
      a = g.dimAxes[kept++];
      out.push_back(k.axisIndex(a));
    }
    at[i] = k.axisIndex(a);
  }
  if (fresh) k.parallel = g.dimAxes;
  Reader r(f, facts, k, this, &g, id);
  s.body = r.read(x, at);
  if (s.body < 0) {
    NNC_CHECK(!fresh, "a reduction's operand cannot be read");
    return;
  }
  s.combine = combineOf(node);
  s.type = k.exprs[s.body].type;
  if (s.type == DType::boolean || s.type == DType::u8) { // any, all: as numbers
    s.type = DType::i32;
    s.body = convertExpr(k, s.body, s.type);
  }
  s.order = orderFor(dims, reduced, s.type, s.combine, f.batch);
  s.name = nameOf(node.result());
  if (s.reduce.empty()) s.combine = Combine::none;
  int stage = int(k.stages.size());
  DType want = f.type(node.result()).dtype;
  bool convert = want == DType::boolean || want == DType::u8;
  for (int slot = 0; slot < node.resultCount; ++slot) {
    ValueId v = node.result(slot);
    if (slot == 0 && convert) continue;
    addStores(g.launch, s, v, out, slot);
    g.locals[v.i] = {stage, slot};
  }
  k.stages.push_back(s);
  if (!convert) return;
  Expr local;
  local.op = SOp::local;
  local.type = DType::i32;
  local.stage = stage;
  Stage back;
  back.body = convertExpr(k, k.expr(local), want);
  back.type = want;
  back.name = s.name;
  addStores(g.launch, back, node.result(), out);
  g.locals[node.firstResult.i] = {stage + 1, 0};
  k.stages.push_back(back);
}

// --- end -----------------------------------------------------------------------------------------

// Appends a copy of a parameter to a kernel over the same axes.
bool Fuser::copyBeside(ValueId v, BufferId to) {
  if (f.def(v) || !options.fuse) return false;
  for (Group &g : groups) {
    if (!g.open || g.kernel().cls != KernelClass::Loops || g.dims.empty() ||
        g.dims != f.type(v).dims)
      continue;
    Kernel &k = g.kernel();
    std::vector<Index> at;
    for (AxisId a : g.dimAxes) at.push_back(k.axisIndex(a));
    Reader r(f, facts, k, this, &g, int(&g - groups.data()));
    Stage s;
    s.body = r.read(v, at);
    s.type = ir::widened(f.type(v).dtype);
    s.name = program.buffers[to].name;
    Store st;
    st.access.arg = argFor(g.launch, to, true);
    st.access.flat = placeOf(k, program.buffers[to].layout, g.dims, at, f.batch);
    s.stores.push_back(st);
    k.stages.push_back(std::move(s));
    return true;
  }
  return false;
}

// Copies a value with memory; where to.
BufferId Fuser::copyOf(ValueId v, Buffer to) {
  BufferId from = buffer(v);
  to.type = f.type(v);
  to.value = v;
  program.buffers.push_back(to);
  BufferId own = BufferId(program.buffers.size()) - 1;
  if (frame && copyBeside(v, own)) return own;
  const Layout layout = program.buffers[from].layout;
  groups.emplace_back();
  Group &g = groups.back();
  g.open = false;
  if (groupOf[v.i] >= 0) g.deps.insert(groupOf[v.i]);
  Kernel &k = g.kernel();
  k.batch = f.batch;
  k.name = to.name;
  std::vector<Index> at;
  Dims dims = f.type(v).dims;
  for (Dim d : dims) {
    k.parallel.push_back(k.axis("", d));
    at.push_back(k.axisIndex(k.parallel.back()));
  }
  Expr e;
  e.op = SOp::load;
  e.type = ir::widened(f.type(v).dtype);
  e.access.arg = argFor(g.launch, from, false);
  e.access.flat = placeOf(k, layout, dims, at, f.batch);
  Stage s;
  s.type = e.type;
  s.body = k.expr(e);
  Store st;
  st.access.arg = argFor(g.launch, own, true);
  st.access.flat = placeOf(k, to.layout, dims, at, f.batch);
  s.stores.push_back(st);
  k.stages.push_back(s);
  return own;
}

// Results that are parameters or constants, or stand twice among the bound results, need a buffer
// of their own.
void Fuser::copyResults() {
  std::set<BufferId> bound;
  for (const ir::Result &r : f.results) {
    BufferId b = buffer(r.value);
    const Buffer source = program.buffers[b];
    bool same = r.bind && source.life == Life::Persistent && source.persistent == r.name;
    bool copy = source.life == Life::Constant ||
                (r.bind && !same && (source.life != Life::Transient || !bound.insert(b).second));
    if (copy) {
      Buffer own;
      own.name = r.name;
      if (r.bind && options.layouts && options.layouts->count(r.name))
        own.layout = options.layouts->at(r.name);
      b = copyOf(r.value, std::move(own));
    }
    if (!same) program.results.push_back({r.name, b, r.bind});
  }
}

// Stores that nobody outside the kernel reads go; kernels come in an order where producers are
// first.
// Sums that are stored and nothing else need no stages: they are added up where they belong.
static void sumInPlace(Launch &l) {
  Kernel &k = l.kernel;
  if (k.cls != KernelClass::ScatterAdd || k.stages.size() != 1 || k.stages[0].stores.size() != 1)
    return;
  const int arg = k.stages[0].stores[0].access.arg;
  if (k.exprs[k.stages[0].body].op != SOp::acc || k.args[arg].dtype != k.scatter.type) return;
  k.scatter.arg = arg;
  k.scatter.row = -1;
  k.stages.clear();
  compact(l);
}

void Fuser::finish() {
  std::set<BufferId> needed;
  for (const ProgramResult &r : program.results) needed.insert(r.buffer);
  for (BufferId b = 0; b < BufferId(program.buffers.size()); ++b)
    if (program.buffers[b].life == Life::Outer) needed.insert(b);
  auto readArgs = [&](Launch &l) {
    compact(l);
    for (size_t i = 0; i < l.args.size(); ++i)
      if (l.kernel.args[i].read) needed.insert(l.args[i]);
  };
  for (Group &g : groups) {
    readArgs(g.launch);
    for (Launch &l : g.extra) readArgs(l);
  }
  auto prune = [&](Launch &l) {
    for (Stage &s : l.kernel.stages)
      std::erase_if(s.stores, [&](const Store &t) { return !needed.count(l.args[t.access.arg]); });
    SortInfo &so = l.kernel.sort;
    for (Access *a : {&so.values, &so.indices})
      if (l.kernel.cls == KernelClass::Sort && a->arg >= 0 && !needed.count(l.args[a->arg]))
        a->arg = -1;
    compact(l);
    sumInPlace(l);
  };
  // What a kernel waits for is what it reads, now that unneeded values are gone.
  std::map<BufferId, int> writer;
  auto launches = [&](int g, auto &&use) {
    use(groups[g].launch);
    for (Launch &l : groups[g].extra) use(l);
  };
  for (int g = 0; g < int(groups.size()); ++g)
    launches(g, [&](Launch &l) {
      prune(l);
      for (size_t i = 0; i < l.args.size(); ++i)
        if (l.kernel.args[i].written) writer[l.args[i]] = g;
    });
  for (int g = 0; g < int(groups.size()); ++g) {
    groups[g].deps.clear();
    launches(g, [&](Launch &l) {
      for (size_t i = 0; i < l.args.size(); ++i)
        if (auto it = writer.find(l.args[i]);
            it != writer.end() && it->second != g && l.kernel.args[i].read)
          groups[g].deps.insert(it->second);
    });
  }
  std::vector<int> order, state(groups.size(), 0);
  auto visit = [&](auto &&self, int g) -> void {
    if (state[g]++) return;
    for (int d : groups[g].deps) self(self, d);
    order.push_back(g);
  };
  for (int g = 0; g < int(groups.size()); ++g) visit(visit, g);
  for (int g : order)
    launches(g, [&](Launch &l) {
      bool stores = false;
      for (const KernelArg &a : l.kernel.args) stores |= a.written;
      if (!stores) return;
      l.function = &f;
      program.launches.push_back(std::move(l));
    });
}

// Loops over nothing have no tiles to divide by; elaboration refuses such sizes with the place in
// the text.
static void requireElements(const ir::Function &f) {
  for (const ir::ValueInfo &v : f.values)
    for (Dim d : v.type.dims)
      if (d == Dim(0))
        throw std::runtime_error("`" + f.name + "`: a value of type " + ir::str(v.type) +
                                 " has no elements");
}

Program Fuser::run() {
  requireElements(f);
  makeBuffers();
  if (frame) frameResults();
  for (const Node &n : f.nodes) {
    bool any = false;
    for (int k = 0; k < n.resultCount; ++k) any |= facts.root[n.result(k).i] != 0;
    if (!any) continue;
    bool wanted = false;
    for (int k = 0; k < n.resultCount; ++k) wanted |= facts.uses[n.result(k).i] > 0;
    if (!wanted) continue;
    place(n);
  }
  if (frame)
    bodyResults();
  else
    copyResults();
  finish();
  return std::move(program);
}

Program fuse(const ir::Module &m, const ir::Function &f, const FuseOptions &o) {
  return Fuser(m, f, o).run();
}

} // namespace nnc::cg
