// Split sums: partial results in a kernel of their own, then the parts in order.
//
//   db[c] = sum over n, h, w of dy[n,h,w,c]       64*28*28 terms for 16 results
//   ->  partial[s,c] = sum over the s-th chunk of n, all h, w   32 chunks: work for every thread
//       db[c] = sum over s of partial[s,c]                      and whoever joins (the update of b)
//
// Sums over the same chunks that read the same memory, such as the gradients of a normalisation's
// shift and scale
//   sum dy,  sum dy*(x - mu)
// are stages of one kernel, which reads it once.
//
// Whether and how a sum is split follows from its shape alone, never from threads or fusion, so it
// is part of the meaning of the bits. Contractions are split likewise (fuse_contract.cpp).
#include "codegen/fuse.h"
#include <algorithm>

namespace nnc::cg {

using ir::Node;
using ir::ValueId;

constexpr int64_t kEnoughChunks = 8; // for threads to share

// Much to sum and few results: chunks of the longest reduced axis in a kernel of their own, then
// the chunks in order. false: not worth it.
bool Fuser::splitReduce(const Node &node) {
  const auto &attr = std::get<ir::ReduceAttr>(node.attr);
  ValueId x = node.operands[0], v = node.result();
  const Dims &dims = f.type(x).dims;
  DType t = ir::widened(f.type(x).dtype);
  int64_t results = count(f.type(v).dims), terms = count(dims) / std::max<int64_t>(results, 1);
  int64_t groupsOf16 = (results + 15) / 16;
  if (groupsOf16 >= 64 || terms < 8192 || attr.dims.empty() ||
      !(t == DType::f32 || t == DType::f64))
    return false;
  int64_t want = 1;
  while (want * groupsOf16 < 64) want *= 2;
  int64_t batch = std::max<int64_t>(f.batch, 1);
  int64_t longest =
      *std::max_element(attr.dims.begin(), attr.dims.end(), [&](int64_t p, int64_t q) {
        return dims[p].at(batch) < dims[q].at(batch);
      });
  // The outermost one, if it will do: pictures are as a whole in one chunk.
  for (int64_t d : attr.dims) {
    if (dims[d].at(batch) == 1) continue;
    if (dims[d].at(batch) >= std::min({want, terms / 1024, kEnoughChunks})) longest = d;
    break;
  }
  int64_t extent = dims[longest].at(batch);
  int64_t splits = std::min({want, terms / 1024, extent});
  int64_t chunk = (extent + splits - 1) / splits;
  splits = (extent + chunk - 1) / chunk;
  if (splits < 2) return false;

  Partial part;
  part.dims = dims, part.reduced = attr.dims, part.longest = longest, part.chunk = chunk;
  const std::set<int> deps = rootDeps(node);
  if (sumBeside(node, part, splits, deps)) return true;
  const Partial *sibling = options.fuse ? siblingOf(node, part, deps) : nullptr;
  if (sibling)
    part = *sibling;
  else
    part.group = newGroup(node);
  Group &p = groups[part.group];
  waitFor(part.group, deps);
  p.open = false;
  Kernel &k = p.kernel();
  if (!sibling) {
    k.name += ".partial";
    part.split = k.axis("split", splits);
    for (size_t i = 0; i < dims.size(); ++i) {
      AxisId x = k.axis("", int64_t(i) == longest ? Dim(chunk) : dims[i]);
      part.axes.push_back(x);
      if (int64_t(i) != longest) continue;
      k.axes[x].bounded = true;
      k.axes[x].base = k.axisIndex(part.split) * chunk;
      k.axes[x].limit = dims[i];
    }
    k.parallel = {part.split};
    for (size_t i = 0; i < dims.size(); ++i)
      if (!contains(attr.dims, int64_t(i))) k.parallel.push_back(part.axes[i]);
    partials_.push_back(part);
  }
  std::vector<Index> at, out{k.axisIndex(part.split)};
  Stage st;
  Buffer partial;
  partial.name = nameOf(v) + ".partial";
  partial.type = {t, {Dim(splits)}};
  for (size_t i = 0; i < dims.size(); ++i) {
    at.push_back(k.axisIndex(part.axes[i]));
    if (int64_t(i) == longest) at[i] = k.axes[part.axes[i]].base + at[i];
    if (contains(attr.dims, int64_t(i))) {
      st.reduce.push_back(part.axes[i]);
    } else {
      out.push_back(at[i]);
      partial.type.dims.push_back(dims[i]);
    }
  }
  Dims shape = dims;
  shape[longest] = chunk;
  Reader r(f, facts, k, this, &p, part.group);
  st.body = r.read(x, at);
  NNC_CHECK(st.body >= 0, "a reduction's operand cannot be read");
  st.type = t;
  st.combine = combineOf(node);
  st.order = orderFor(shape, attr.dims, t, st.combine, f.batch);
  st.name = partial.name;
  program.buffers.push_back(partial);
  BufferId pb = BufferId(program.buffers.size()) - 1;
  Store store;
  store.access.arg = argFor(p.launch, pb, true);
  store.access.flat = flatten(k, partial.type.dims, out, f.batch);
  st.stores.push_back(store);
  k.stages.push_back(st);
  addCombine(node, part.group, pb, splits, st.combine);
  return true;
}

// The sum of what a product stores, or of what its tiles can compute from that, is made of the
// tiles while they are in registers: no pass over the memory of the result.
//   y = conv(x, w);   sum over n, h, w of y - s,  of (y - s)^2
bool Fuser::sumBeside(const Node &node, const Partial &part, int64_t splits,
                      const std::set<int> &deps) {
  if (!options.fuse || frame || combineOf(node) != Combine::sum || splits < kEnoughChunks)
    return false;
  for (auto it = deps.rbegin(); it != deps.rend(); ++it)
    if (!closesCircle(*it, deps) && sumBeside(node, part, splits, *it)) {
      std::set<int> others = deps;
      others.erase(*it);
      waitFor(*it, others);
      return true;
    }
  return false;
}

// .. beside the product of one kernel.
bool Fuser::sumBeside(const Node &node, const Partial &part, int64_t splits, int id) {
  constexpr int64_t kLeastColumns = 8, kMostSums = 4;
  Group &g = groups[id];
  Kernel &k = g.kernel();
  if (!g.open || k.cls != KernelClass::Contract || g.dims != part.dims) return false;
  // Vectors run along the last dimension, which stays.
  const size_t last = part.dims.size() - 1;
  if (contains(part.reduced, int64_t(last)) || count({part.dims[last]}) < kLeastColumns)
    return false;
  Stage st;
  std::vector<Index> at, out;
  Buffer partial;
  const DType t = ir::widened(f.type(node.operands[0]).dtype);
  partial.name = nameOf(node.result()) + ".partial";
  partial.type = {t, {Dim(splits)}};
  for (size_t i = 0; i < part.dims.size(); ++i) {
    if (g.dimAxes[i] < 0) return false;
    at.push_back(k.axisIndex(g.dimAxes[i]));
    if (contains(part.reduced, int64_t(i))) {
      if (count({part.dims[i]}) == 1) continue;
      st.reduce.push_back(g.dimAxes[i]);
      if (st.reduce.size() == 1 && int64_t(i) != part.longest) return false;
    } else {
      out.push_back(at.back());
      partial.type.dims.push_back(part.dims[i]);
    }
  }
  out.insert(out.begin(), divIndex(k, k.axisIndex(g.dimAxes[size_t(part.longest)]), part.chunk));
  if (const Stage *sums = sumsBeside(k)) {
    if (sums->reduce != st.reduce || sums->chunk != part.chunk) return false;
    if (std::count_if(k.stages.begin(), k.stages.end(), [](auto &s) { return s.chunk; }) >=
        kMostSums)
      return false;
  }
  // The axes in the order of the sum.
  ContractInfo &c = k.contract;
  auto place = [&](AxisId a) {
    return std::find(g.dimAxes.begin(), g.dimAxes.end(), a) - g.dimAxes.begin();
  };
  for (auto *list : {&c.batch, &c.m, &c.n})
    std::stable_sort(list->begin(), list->end(),
                     [&](AxisId x, AxisId y) { return place(x) < place(y); });
  std::vector<AxisId> nest;
  for (const auto *list : {&c.batch, &c.m, &c.n})
    for (AxisId a : *list)
      if (std::find(st.reduce.begin(), st.reduce.end(), a) != st.reduce.end()) nest.push_back(a);
  if (nest != st.reduce) return false;
  Reader r(f, facts, k, this, &g, id);
  st.body = r.read(node.operands[0], at);
  if (st.body < 0) return false;
  st.type = t;
  st.combine = Combine::sum;
  st.chunk = part.chunk;
  st.name = partial.name;
  program.buffers.push_back(partial);
  const BufferId pb = BufferId(program.buffers.size()) - 1;
  Store store;
  store.access.arg = argFor(g.launch, pb, true);
  store.access.flat = flatten(k, partial.type.dims, out, f.batch);
  st.stores.push_back(store);
  k.stages.push_back(st);
  addCombine(node, id, pb, splits, Combine::sum, part.chunk, part.dims[size_t(part.longest)]);
  return true;
}

// Does the node read much of what the kernel reads already?
bool Fuser::sharesReads(const Node &node, const Group &g) const {
  const int64_t much = count(f.type(node.operands[0]).dims) / 2;
  const std::vector<BufferId> &args = g.launch.args;
  bool shares = false;
  eachRead(node, [&](ValueId v) {
    shares = shares || (facts.root[v.i] && bufferOf[v.i] >= 0 && count(f.type(v).dims) >= much &&
                        std::find(args.begin(), args.end(), bufferOf[v.i]) != args.end());
  });
  return shares;
}

// A kernel that sums over the same chunks and reads the same memory, and that nothing the node
// reads waits for. Only the last few are asked: those further back have left the cache in any case.
Fuser::Partial *Fuser::siblingOf(const Node &node, const Partial &like, const std::set<int> &deps) {
  constexpr size_t kAsked = 4, kMostStages = 4;
  for (size_t i = partials_.size(), end = i - std::min(i, kAsked); i-- > end;) {
    Partial &p = partials_[i];
    Group &g = groups[p.group];
    if (p.dims != like.dims || p.reduced != like.reduced || p.longest != like.longest ||
        p.chunk != like.chunk)
      continue;
    const std::vector<Stage> &stages = g.kernel().stages;
    if (stages.size() >= kMostStages || stages[0].combine != combineOf(node) ||
        stages[0].type != ir::widened(f.type(node.operands[0]).dtype) || !sharesReads(node, g))
      continue;
    if (!closesCircle(p.group, deps)) return &p;
  }
  return nullptr;
}

// result = the parts combined in order; a group of its own, which further values may join.
void Fuser::addCombine(const Node &node, int partialGroup, BufferId partial, int64_t splits,
                       Combine combine, int64_t chunk, Dim whole) {
  ValueId v = node.result();
  int id = newGroup(node);
  Group &g = groups[id];
  waitFor(id, {partialGroup});
  g.dims = f.type(v).dims;
  Kernel &k = g.kernel();
  std::vector<Index> where;
  for (Dim d : g.dims) {
    g.dimAxes.push_back(k.axis("", d));
    where.push_back(k.axisIndex(g.dimAxes.back()));
  }
  k.parallel = g.dimAxes;
  AxisId s = k.axis("split", splits);
  std::vector<Index> from = where;
  from.insert(from.begin(), k.axisIndex(s));
  Expr e;
  e.op = SOp::load;
  e.type = program.buffers[partial].type.dtype;
  e.access.arg = argFor(g.launch, partial, false);
  e.access.flat = flatten(k, program.buffers[partial].type.dims, from, f.batch);
  if (chunk && !whole.isConst()) addGuard(k, e.access.guards, k.axisIndex(s) * chunk, whole);
  Stage stage;
  stage.reduce = {s};
  stage.combine = combine;
  stage.type = e.type;
  stage.body = k.expr(e);
  stage.name = nameOf(v);
  groupOf[v.i] = id;
  addStores(g.launch, stage, v, where);
  k.stages.push_back(stage);
  g.locals[v.i] = {0, 0};
  g.members.push_back(v);
}

} // namespace nnc::cg
