// Split sums: partial results in a kernel of their own, then the parts in order.
//
//   db[c] = sum over n, h, w of dy[n,h,w,c]       64*28*28 terms for 16 results
//   ->  partial[s,c] = sum over the s-th chunk of n, all h, w         32 chunks: work for every thread
//       db[c] = sum over s of partial[s,c]                            and whoever joins (the update of b)
//
// Whether and how a sum is split follows from its shape alone, never from threads or fusion, so it is part of the
// meaning of the bits. Contractions are split likewise (fuse_contract.cpp).
#include "codegen/fuse.h"
#include <algorithm>

namespace nnc::cg {

using ir::Node;
using ir::ValueId;

// Much to sum and few results: chunks of the longest reduced axis in a kernel of their own, then the chunks
// in order. false: not worth it.
bool Fuser::splitReduce(const Node &node) {
  const auto &attr = std::get<ir::ReduceAttr>(node.attr);
  ValueId x = node.operands[0], v = node.result();
  const Dims &dims = f.type(x).dims;
  DType t = ir::widened(f.type(x).dtype);
  int64_t results = count(f.type(v).dims), terms = count(dims) / std::max<int64_t>(results, 1);
  int64_t groupsOf16 = (results + 15) / 16;
  if (groupsOf16 >= 64 || terms < 8192 || attr.dims.empty() || !(t == DType::f32 || t == DType::f64)) return false;
  int64_t want = 1;
  while (want * groupsOf16 < 64) want *= 2;
  int64_t batch = std::max<int64_t>(f.batch, 1);
  int64_t longest = *std::max_element(attr.dims.begin(), attr.dims.end(), [&](int64_t p, int64_t q) {
    return dims[p].at(batch) < dims[q].at(batch);
  });
  int64_t extent = dims[longest].at(batch);
  int64_t splits = std::min({want, terms / 1024, extent});
  int64_t chunk = (extent + splits - 1) / splits;
  splits = (extent + chunk - 1) / chunk;
  if (splits < 2) return false;

  int pid = newGroup(node);
  waitFor(pid, rootDeps(node));
  Group &p = groups[pid];
  p.open = false;
  Kernel &k = p.kernel();
  k.name += ".partial";
  AxisId s = k.axis("split", splits);
  k.parallel = {s};
  std::vector<Index> at(dims.size()), out{k.axisIndex(s)};
  Stage st;
  Buffer partial;
  partial.name = nameOf(v) + ".partial";
  partial.type = {t, {Dim(splits)}};
  for (size_t i = 0; i < dims.size(); ++i) {
    AxisId a;
    if (int64_t(i) == longest) {
      a = k.axis("", chunk);
      k.axes[a].bounded = true;
      k.axes[a].base = k.axisIndex(s) * chunk;
      k.axes[a].limit = dims[i];
      at[i] = k.axes[a].base + k.axisIndex(a);
      st.reduce.push_back(a);
      continue;
    }
    a = k.axis("", dims[i]);
    at[i] = k.axisIndex(a);
    if (contains(attr.dims, int64_t(i))) st.reduce.push_back(a);
    else {
      k.parallel.push_back(a);
      out.push_back(at[i]);
      partial.type.dims.push_back(dims[i]);
    }
  }
  Dims shape = dims;
  shape[longest] = chunk;
  Reader r(f, facts, k, this, &p, pid);
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
  addCombine(node, pid, pb, splits, st.combine);
  return true;
}

// result = the parts combined in order; a group of its own, which further values may join.
void Fuser::addCombine(const Node &node, int partialGroup, BufferId partial, int64_t splits, Combine combine) {
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
