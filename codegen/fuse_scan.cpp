// Loops: a scan's body as a program of its own.
//
// Problem. A scan must run its body's kernels once per iteration without copying anything on the
// way: the slice of a sequence is read where it lies, and what the body stacks is written where it
// belongs. Example:
//   %h, %ys = scan @cell (%h0; %x; %w) {xs=[1], ys=[1]}        x[n,5,3], ys[n,5,4]
// reads x + 3*t and writes ys + 4*t, with the strides of x and ys.
//
// Method. The body is fused like any function, with a Frame that says where its parameters and
// results lie. A slice is a layout with a gap in place of the scanned dimension (layout.h); which
// slice is a matter of the address alone, so all iterations run the same code. A value that is both
// carried and stacked is stored twice by the kernel that makes it. Carries are to the body what
// weights are to a step: values that come in and are replaced, in place where that is legal; else
// two memories take turns (plan_loop.cpp).
//
// An invariant of bf16 that the rounds multiply by, h u of a recurrent layer, is what tile
// registers take their columns from. They want it in a form of its own (amx.h), and to bring 128 x
// 512 numbers into it costs several times as much as a product with 32 rows. So a kernel before the
// loop stores it in that form, straight from what it is made of (the master weight in f32, the
// other side of a transpose), and rounds read tiles.
#include "codegen/amx.h"
#include "codegen/fuse.h"
#include "ir/forms.h"
#include <algorithm>

namespace nnc::cg {

using ir::Node;
using ir::Op;
using ir::ValueId;

bool storesAnywhere(const ir::Function &f, ValueId v) {
  const Node *n = f.def(v);
  if (!n) return false;
  switch (n->op) {
  case Op::scatter_add_:
  case Op::sort_:
  case Op::scan_: return false;
  case Op::constant_: return std::get<ir::ConstantAttr>(n->attr).data.size() == 1;
  default: return true;
  }
}

// --- the body's side -----------------------------------------------------------------------------

// Of those that are carried or stand twice, only the first.
std::map<int32_t, size_t> stackedValues(const ir::Function &f, const Frame &frame) {
  std::set<int32_t> carried;
  std::map<int32_t, size_t> stacked;
  for (size_t i = 0; i < frame.carries; ++i) carried.insert(f.results[i].value.i);
  for (size_t i = frame.carries; i < f.results.size(); ++i) {
    ValueId v = f.results[i].value;
    if (storesAnywhere(f, v) && !carried.count(v.i)) stacked.emplace(v.i, i);
  }
  return stacked;
}

// Stacked results get their place before any kernel is made.
void Fuser::frameResults() {
  std::map<int32_t, size_t> stacked = stackedValues(f, *frame);
  for (size_t i = frame->carries; i < f.results.size(); ++i) {
    ValueId v = f.results[i].value;
    if (!storesAnywhere(f, v)) continue; // copied at the end
    program.buffers.push_back(partFor(i));
    BufferId id = BufferId(program.buffers.size()) - 1;
    auto first = stacked.find(v.i);
    if (first != stacked.end() && first->second == i)
      bufferOf[v.i] = id;
    else
      alsoAt_[v.i].push_back(id);
  }
}

// The buffer of stacked result i.
Buffer Fuser::partFor(size_t i) const {
  const Frame::Part &part = frame->results[i];
  Buffer b;
  b.value = f.results[i].value;
  b.name = nameOf(b.value);
  b.type = f.type(b.value);
  b.layout = part.layout;
  b.life = Life::Outer;
  b.outer = part.outer, b.slice = part.slice;
  return b;
}

// What is carried needs memory of its own; what no kernel could store in place is copied.
void Fuser::bodyResults() {
  std::set<BufferId> taken;
  for (size_t i = 0; i < frame->carries; ++i) {
    ValueId v = f.results[i].value;
    Loop::Carry c;
    c.in = bufferOf[f.params[i].value.i];
    carries.push_back(c);
    if (v == f.params[i].value) continue;
    BufferId b = buffer(v);
    const Node *def = f.def(v);
    bool copy = program.buffers[b].life != Life::Transient || !taken.insert(b).second ||
                (def && def->op == Op::scan_);
    if (copy) {
      Buffer own;
      own.name = nameOf(v);
      b = copyOf(v, std::move(own));
    }
    carries.back().out = b;
    program.results.push_back({f.results[i].name, b, true});
  }
  for (size_t i = frame->carries; i < f.results.size(); ++i) {
    ValueId v = f.results[i].value;
    if (!storesAnywhere(f, v)) copyOf(v, partFor(i));
  }
}

// --- the form of what rounds multiply by ---------------------------------------------------------

namespace {

// The dimension of the contraction's operand `side`, a matrix, that is summed, the other one being
// columns of a product of two matrices; -1 if it is something else.
int32_t summedDim(const Node &n, size_t side) {
  if (n.op != Op::contract_ || n.operands[0] == n.operands[1]) return -1;
  const auto &a = std::get<ir::ContractAttr>(n.attr);
  auto has = [&](size_t t, int32_t label) {
    return std::any_of(a.forms[t].begin(), a.forms[t].end(),
                       [&](const ir::LabelForm &form) { return form.terms[0].label == label; });
  };
  for (const auto &forms : a.forms)
    for (const ir::LabelForm &form : forms)
      if (!form.isSimple()) return -1;
  int sums = 0;
  for (int32_t l = 0; l < int32_t(a.labels.size()); ++l) {
    if (has(2, l) && has(0, l) && has(1, l)) return -1;
    sums += !has(2, l);
  }
  return sums == 1 ? ir::summedDimension(a, side) : -1;
}

} // namespace

Layout operandLayout(const ir::Module &m, const ir::Function &f, const Node &scan, size_t i,
                     const FuseOptions &o) {
  const auto &a = std::get<ir::ScanAttr>(scan.attr);
  const ir::Type &type = f.type(scan.operands[i]);
  if (!o.tiles || i < size_t(a.carries) + a.xAxes.size() || a.length < 2) return {};
  if (type.dtype != DType::bf16 || type.dims.size() != 2) return {};
  if (!type.dims[0].isConst() || !type.dims[1].isConst()) return {};
  const ir::Function &body = *m.find(a.body);
  const ValueId p = body.params[i].value;
  int32_t terms = -1;
  for (const ir::Result &r : body.results)
    if (r.value == p) return {};
  for (const Node &n : body.nodes)
    for (size_t side = 0; side < n.operands.size(); ++side) {
      if (n.operands[side] != p) continue;
      const int32_t dim = summedDim(n, side);
      if (dim < 0 || (terms >= 0 && dim != terms)) return {};
      terms = dim;
    }
  if (terms < 0) return {};
  const int64_t summed = type.dims[size_t(terms)].b, columns = type.dims[size_t(1 - terms)].b;
  if (summed % kAmxTerms != 0 || summed >= 2 * kTermsOfPart || columns < kAmxCols) return {};
  return columnTiles(type.dims, terms, 1 - terms);
}

// --- the enclosing program's side ----------------------------------------------------------------

// Memory with a carry's first value that the loop `id` may write over: the value's own where nobody
// else reads it, else a kernel computes or copies it.
BufferId Fuser::firstValue(ValueId v, int id) {
  bool own = facts.root[v.i] && facts.uses[v.i] == 1 && groupOf[v.i] >= 0;
  if (own && program.buffers[buffer(v)].life == Life::Transient) return buffer(v);
  Buffer b;
  b.name = nameOf(v) + ".first";
  b.type = f.type(v);
  b.value = v;
  program.buffers.push_back(b);
  BufferId to = BufferId(program.buffers.size()) - 1;
  Node reader{Op::stop_gradient_, {v}, {}, 0, {}, groups[id].kernel().loc, false};
  int copy = newGroup(reader);
  Group &g = groups[copy];
  waitFor(copy, rootDeps(reader));
  g.open = false;
  Kernel &k = g.kernel();
  k.name = b.name;
  std::vector<Index> at;
  for (Dim d : b.type.dims) {
    k.parallel.push_back(k.axis("", d));
    at.push_back(k.axisIndex(k.parallel.back()));
  }
  Reader r(f, facts, k, this, &g, copy);
  Stage s;
  s.body = r.read(v, at);
  NNC_CHECK(s.body >= 0, "a carry's first value cannot be read");
  s.type = ir::widened(b.type.dtype);
  s.name = b.name;
  Store st;
  st.access.arg = argFor(g.launch, to, true);
  st.access.flat = placeOf(k, {}, b.type.dims, at, f.batch);
  s.stores.push_back(st);
  k.stages.push_back(std::move(s));
  waitFor(id, {copy});
  return to;
}

// A copy of an invariant in the layout of columnTiles, for loop `id`. Its kernel runs through the
// places in the order in which they lie: for panels of columns and pairs of terms, 16 columns of
// two terms side by side.
BufferId Fuser::turnedOnce(ValueId v, const Layout &layout, int id) {
  Buffer b;
  b.name = nameOf(v) + ".tiles";
  b.type = f.type(v);
  b.layout = layout;
  b.value = v;
  program.buffers.push_back(b);
  const BufferId to = BufferId(program.buffers.size()) - 1;
  Node reader{Op::stop_gradient_, {v}, {}, 0, {}, groups[id].kernel().loc, false};
  const int copy = newGroup(reader);
  Group &g = groups[copy];
  waitFor(copy, rootDeps(reader));
  g.open = false;
  Kernel &k = g.kernel();
  k.name = b.name;
  const Digit &panels = layout.digits[0], &pairs = layout.digits[1];
  const int64_t width = layout.digits[2].size * layout.digits[3].size;
  const AxisId panel = k.axis("", panels.size), pair = k.axis("", pairs.size),
               lane = k.axis("", width);
  k.parallel = {panel, pair, lane};
  std::vector<Index> at(2);
  at[size_t(panels.dim)] =
      k.axisIndex(panel) * layout.digits[2].size + divIndex(k, k.axisIndex(lane), 2);
  at[size_t(pairs.dim)] = k.axisIndex(pair) * 2 + modIndex(k, k.axisIndex(lane), 2);
  std::vector<Guard> guards;
  addGuard(k, guards, at[size_t(panels.dim)], b.type.dims[size_t(panels.dim)]);
  Reader r(f, facts, k, this, &g, copy);
  Stage s;
  s.body = r.read(v, at, guards);
  NNC_CHECK(s.body >= 0, "an operand of a loop cannot be read");
  s.type = ir::widened(b.type.dtype);
  s.name = b.name;
  Store st;
  st.access.arg = argFor(g.launch, to, true);
  st.access.flat =
      (k.axisIndex(panel) * pairs.size + k.axisIndex(pair)) * width + k.axisIndex(lane);
  s.stores.push_back(st);
  k.stages.push_back(std::move(s));
  waitFor(id, {copy});
  return to;
}

void Fuser::addScan(const Node &node, int id) {
  const auto &a = std::get<ir::ScanAttr>(node.attr);
  const ir::Function &body = *m.find(a.body);
  groups[id].open = false;
  Launch launch = std::move(groups[id].launch);
  launch.loop = std::make_shared<Loop>();
  Loop &loop = *launch.loop;
  loop.length = a.length, loop.reverse = a.reverse;

  Frame frame;
  frame.carries = size_t(a.carries);
  auto sliceOf = [&](BufferId whole, int64_t axis) {
    const Buffer &b = program.buffers[whole];
    Frame::Part part;
    part.outer = whole;
    part.layout = sliceLayout(b.layout, b.type.dims, axis, f.batch, part.slice);
    part.slice *= ir::dtypeBytes(b.type.dtype);
    return part;
  };
  for (size_t i = 0; i < node.operands.size(); ++i) {
    ValueId v = node.operands[i];
    size_t x = i - frame.carries;
    const Layout layout = operandLayout(m, f, node, i, options);
    BufferId b = i < frame.carries       ? firstValue(v, id)
                 : layout.isRowMajor() ? buffer(v)
                                       : turnedOnce(v, layout, id);
    argFor(launch, b, false);
    if (i >= frame.carries && x < a.xAxes.size())
      frame.params.push_back(sliceOf(b, a.xAxes[x]));
    else
      frame.params.push_back({b, program.buffers[b].layout, 0});
  }
  for (int i = 0; i < node.resultCount; ++i) {
    BufferId b = buffer(node.result(i));
    argFor(launch, b, true);
    if (size_t(i) < frame.carries)
      frame.results.push_back({b, {}, 0});
    else
      frame.results.push_back(sliceOf(b, a.yAxes[size_t(i) - frame.carries]));
  }
  Fuser inner(m, body, options, &frame);
  loop.body = inner.run();
  loop.body.batch = f.batch;
  for (size_t i = 0; i < frame.carries; ++i) {
    Loop::Carry c = inner.carries[i];
    c.initial = frame.params[i].outer, c.final = frame.results[i].outer;
    loop.carries.push_back(c);
  }
  groups[id].launch = std::move(launch);
}

} // namespace nnc::cg
