// Chained products: what lies between two products stays in tiles.
//
// Problem. Attention is softmax(q k') v. For 8 sequences of 1024 steps and 12 heads the scores,
// their exponentials, the weights and the gradients of each are 400 MB apiece, written and read
// again, for results of 25 MB. Every one of them can be computed from q, k, v and two numbers per
// row.
//
//   s = contract q, k     [b,h,q,k]    member (product)      tile
//   z = where(mask, s/8)  [b,h,q,k]    member                tile
//   m = max z, l = sum e  [b,h,q]      sink: one per row     in memory if gradients read it
//   e = exp(z - m)        [b,h,q,k]    member                tile
//   y = contract e/l, v   [b,h,q,e]    sink: RowSum          memory
//
// Method. No pattern of nodes is looked for. A *region* is a set of values of equal dimensions that
// are made by products of operands which share a batch label, and by pointwise nodes from those. It
// counts if some value is reduced over one dimension (the columns) and every use is another member,
// such a reduction, or a contraction that adds up columns (for each row) or rows (for each column):
// the *sinks*. One use of another kind, and all of it goes the ordinary way. Sinks are placed in
// program order into the latest kernel of the class Chain of their region that does not wait for
// them, with the tiles that they need; so the forward pass is one kernel, and the backward pass,
// which computes the tiles again, another one. It has what the user wrote and what derivatives made
// of it alike: masks, biases, dropout (draws are functions of the index), scales before or after,
// keys shared by groups of heads.
#include "codegen/fuse.h"
#include <algorithm>
#include <functional>
#include <numeric>

namespace nnc::cg {

using ir::ContractAttr;
using ir::LabelForm;
using ir::Node;
using ir::Op;
using ir::ValueId;

namespace {

// The label of each dimension of a tensor of a contraction; -1: none, the dimension is 1. False
// where a dimension is anything else or a label occurs twice.
bool labelsOf(const ContractAttr &a, int tensor, std::vector<int> &labels) {
  labels.clear();
  for (const LabelForm &form : a.forms[size_t(tensor)]) {
    if (form.terms.empty() && form.offset == 0) {
      labels.push_back(-1);
      continue;
    }
    if (!form.isSimple()) return false;
    const int label = int(form.terms[0].label);
    if (std::find(labels.begin(), labels.end(), label) != labels.end()) return false;
    labels.push_back(label);
  }
  return true;
}

bool has(const std::vector<int> &labels, int label) {
  return label >= 0 && std::find(labels.begin(), labels.end(), label) != labels.end();
}

struct Labels {
  std::vector<int> x, w, y;
  bool read(const ContractAttr &a) {
    return labelsOf(a, 0, x) && labelsOf(a, 1, w) && labelsOf(a, 2, y);
  }
  const std::vector<int> &operand(int t) const { return t == 0 ? x : w; }
};

// The operand of a product that goes along with the rows (the other one with the columns); -1:
// neither does.
int rowOperand(const Labels &l, size_t row, size_t col) {
  const int r = l.y[row], c = l.y[col];
  for (int t = 0; t < 2; ++t)
    if (has(l.operand(t), r) && !has(l.operand(1 - t), r) && has(l.operand(1 - t), c) &&
        !has(l.operand(t), c))
      return t;
  return -1;
}

// How a contraction with the region's value as operand `t` adds it up.
enum class Sum { none, columns, rows };
Sum sumOf(const ContractAttr &a, int t, const Chains::Region &g) {
  Labels l;
  if (!l.read(a)) return Sum::none;
  const std::vector<int> &tile = l.operand(t), &other = l.operand(1 - t);
  const int r = tile[g.row], c = tile[g.col];
  if (r < 0 || c < 0) return Sum::none;
  int free = 0;
  for (size_t i = 0; i < a.labels.size(); ++i) {
    if (has(tile, int(i))) continue;
    if (!has(other, int(i)) || !has(l.y, int(i)) || !a.extents[i].isConst()) return Sum::none;
    ++free;
  }
  if (free == 0) return Sum::none;
  const bool keepsRow = has(l.y, r), keepsCol = has(l.y, c);
  if (keepsRow == keepsCol || has(other, keepsRow ? r : c) || !has(other, keepsRow ? c : r))
    return Sum::none;
  if (keepsRow)
    for (size_t d = 0; d < tile.size(); ++d)
      if (d != g.col && tile[d] >= 0 && !has(l.y, tile[d])) return Sum::none;
  return keepsRow ? Sum::columns : Sum::rows;
}

// Whether a block's sums over rows end before the next ones begin: the dimensions that they run
// over are the innermost ones. Then they can be kept in one place until they are rounded.
bool sumsEndInTurn(const ContractAttr &a, int t, const Chains::Region &g) {
  Labels l;
  if (!l.read(a)) return false;
  bool sums = false;
  for (size_t d = 0; d < g.dims.size(); ++d) {
    if (d == g.row || d == g.col || g.dims[d] == Dim(1)) continue;
    const bool kept = has(l.y, l.operand(t)[d]);
    if (sums && kept) return false;
    sums |= !kept;
  }
  return true;
}

// A product of operands that share a label, of floats, with a sum that is short enough to take
// again.
bool isSeed(const ir::Function &f, const Node &n) {
  constexpr int64_t kLongestAgain = 512;
  if (n.op != Op::contract_) return false;
  const auto &a = std::get<ContractAttr>(n.attr);
  Labels l;
  if (!ir::isFloat(a.type.dtype) || !l.read(a) || f.type(n.result()).dims.size() < 3) return false;
  bool batch = false;
  int64_t terms = 1;
  for (int i = 0; i < int(a.labels.size()); ++i) {
    batch |= has(l.x, i) && has(l.w, i) && has(l.y, i);
    if (has(l.y, i)) continue;
    if (!a.extents[size_t(i)].isConst()) return false;
    terms *= a.extents[size_t(i)].b;
  }
  return batch && terms <= kLongestAgain;
}

// No view, so that an element depends on the operands' elements at its own index.
bool isPlain(const Node &n) {
  return ir::isPointwise(n.op) || n.op == Op::select_ || n.op == Op::cast_;
}

struct Finder {
  const ir::Function &f;
  int64_t least;
  bool tiles;               // the target has tile registers
  std::vector<int> set;     // by ValueId: union-find over values; -1: no member
  std::vector<char> barred; // by ValueId: products that no region can take
  Chains c;

  int find(int v) {
    while (set[size_t(v)] != v) v = set[size_t(v)] = set[size_t(set[size_t(v)])];
    return v;
  }
  bool isMember(ValueId v) const { return set[size_t(v.i)] >= 0; }

  void gather() {
    set.assign(f.values.size(), -1);
    for (const Node &n : f.nodes) {
      if (n.resultCount != 1) continue;
      const int v = n.result().i;
      const bool reads =
          std::any_of(n.operands.begin(), n.operands.end(), [&](ValueId x) { return isMember(x); });
      if (!reads && !barred[size_t(v)] && isSeed(f, n)) set[size_t(v)] = v;
      if (!reads || !isPlain(n)) continue;
      set[size_t(v)] = v;
      for (ValueId x : n.operands)
        if (isMember(x)) set[size_t(find(x.i))] = v;
    }
  }

  // Columns are what is reduced over; rows the longest dimension that the other operand alone has.
  bool orient(const std::vector<const Node *> &users, const std::vector<const Node *> &seeds,
              Chains::Region &g) {
    const Node *reduce = nullptr;
    for (const Node *n : users)
      if (!reduce && n->op == Op::reduce_) reduce = n;
    if (!reduce || std::get<ir::ReduceAttr>(reduce->attr).dims.size() != 1) return false;
    const ValueId first = seeds[0]->result();
    g.dims = f.type(first).dims;
    g.type = ir::widened(f.type(first).dtype);
    g.col = size_t(std::get<ir::ReduceAttr>(reduce->attr).dims[0]);
    Labels l;
    l.read(std::get<ContractAttr>(seeds[0]->attr));
    int64_t longest = 0;
    for (size_t d = 0; d < g.dims.size(); ++d) {
      if (d == g.col || !g.dims[d].isConst() || g.dims[d].b <= longest ||
          rowOperand(l, d, g.col) < 0)
        continue;
      g.row = d, longest = g.dims[d].b;
    }
    return longest >= std::max<int64_t>(least, 2) && g.dims[g.col].isConst() &&
           g.dims[g.col].b >= std::max<int64_t>(least, 2);
  }

  bool multipliesBf16(const Node *n) {
    return n->op == Op::contract_ && f.type(n->operands[0]).dtype == DType::bf16 &&
           f.type(n->operands[1]).dtype == DType::bf16;
  }

  // Products of bf16 are an order faster on tile registers than on vectors. A chain runs on them if
  // all of its products and sums can: what is taken here fits the schedule, too (fitsTiles). If one
  // of them does not fit, products do better on tile registers one by one, while the values between
  // them stay in the caches.
  bool isBetterApart(const std::vector<const Node *> &products,
                     const std::vector<const Node *> &users, const Chains::Region &g) {
    constexpr double kMostElements = 4 << 20; // some 40 MB with exponentials and gradients
    double elements = 1;
    for (Dim d : g.dims) elements *= double(d.at(std::max<int64_t>(1, f.batch)));
    const bool bf16 = std::all_of(products.begin(), products.end(),
                                  [&](const Node *n) { return multipliesBf16(n); });
    if (elements > kMostElements || !bf16) return false;
    // Labels beside the region's: the terms of a product, the lanes of a sum.
    auto fits = [&](const Node *n) {
      const auto &a = std::get<ContractAttr>(n->attr);
      Labels l;
      l.read(a);
      const bool product = isMember(n->result());
      const int member = isMember(n->operands[0]) ? 0 : 1;
      int own = 0;
      for (int i = 0; i < int(a.labels.size()); ++i)
        own += product ? !has(l.y, i) : !has(l.operand(member), i);
      return multipliesBf16(n) && own == 1 &&
             (product || sumOf(a, member, g) != Sum::rows || sumsEndInTurn(a, member, g));
    };
    return !std::all_of(products.begin(), products.end(), fits) ||
           !std::all_of(users.begin(), users.end(),
                        [&](const Node *n) { return n->op != Op::contract_ || fits(n); });
  }

  bool acceptable(const Node &n, const Chains::Region &g) {
    if (n.resultCount != 1) return false;
    int members = 0, at = 0;
    for (size_t i = 0; i < n.operands.size(); ++i)
      if (isMember(n.operands[i])) ++members, at = int(i);
    if (isPlain(n)) return true;
    if (members != 1) return false;
    const DType t = f.type(n.result()).dtype;
    if (n.op == Op::reduce_)
      return ir::isFloat(t) && std::get<ir::ReduceAttr>(n.attr).dims == ir::Ints{int64_t(g.col)};
    if (n.op != Op::contract_ || ir::widened(t) != g.type ||
        ir::widened(f.type(n.operands[size_t(at)]).dtype) != g.type)
      return false;
    const Sum sum = sumOf(std::get<ContractAttr>(n.attr), at, g);
    return sum == Sum::columns ||
           (sum == Sum::rows &&
            (t == g.type || sumsEndInTurn(std::get<ContractAttr>(n.attr), at, g)));
  }

  // One round: regions of the members as they are. False if a product had to be barred.
  bool regions() {
    c = {};
    c.member.assign(f.values.size(), -1);
    c.sink.assign(f.values.size(), -1);
    std::map<int, std::vector<const Node *>> users, seeds;
    std::map<int, bool> dead;
    for (const Node &n : f.nodes) {
      std::set<int> read;
      for (ValueId x : n.operands)
        if (isMember(x)) read.insert(find(x.i));
      for (int s : read) users[s].push_back(&n);
      if (n.resultCount == 1 && isMember(n.result()) && n.op == Op::contract_)
        seeds[find(n.result().i)].push_back(&n);
    }
    for (const ir::Result &r : f.results)
      if (isMember(r.value)) dead[find(r.value.i)] = true;
    std::map<int, int> ids;
    for (auto &[s, products] : seeds) {
      Chains::Region g;
      if (dead[s] || !orient(users[s], products, g)) continue;
      bool fits = true;
      for (const Node *n : products) {
        Labels l;
        l.read(std::get<ContractAttr>(n->attr));
        if (ir::widened(f.type(n->result()).dtype) == g.type && rowOperand(l, g.row, g.col) >= 0)
          continue;
        barred[size_t(n->result().i)] = 1;
        fits = false;
      }
      if (!fits) return false;
      for (const Node *n : users[s]) fits = fits && acceptable(*n, g);
      if (!fits || (tiles && isBetterApart(products, users[s], g))) continue;
      ids[s] = int(c.regions.size());
      c.regions.push_back(g);
    }
    for (size_t v = 0; v < set.size(); ++v)
      if (set[v] >= 0)
        if (auto it = ids.find(find(int(v))); it != ids.end()) c.member[v] = it->second;
    for (auto &[s, id] : ids)
      for (const Node *n : users[s])
        if (!isPlain(*n)) c.sink[size_t(n->result().i)] = id;
    return true;
  }

  // What is computed once per element: products, operands of sums, and what would cost more to
  // repeat.
  void chooseTiles() {
    c.tile.assign(f.values.size(), 0);
    std::vector<int> uses(f.values.size(), 0);
    for (const Node &n : f.nodes)
      for (ValueId x : n.operands) {
        ++uses[size_t(x.i)];
        if (n.op == Op::contract_ && c.member[size_t(x.i)] >= 0) c.tile[size_t(x.i)] = 1;
      }
    std::vector<double> cost(f.values.size(), 0);
    for (const Node &n : f.nodes) {
      if (n.resultCount != 1) continue;
      const size_t v = size_t(n.result().i);
      cost[v] = ownCost(n);
      for (ValueId x : n.operands) cost[v] += cost[size_t(x.i)];
      if (!isInline(f, n)) cost[v] = 0.5;
      if (c.member[v] < 0) continue;
      const bool fits =
          ir::widened(f.type(n.result()).dtype) == c.regions[size_t(c.member[v])].type;
      if (n.op == Op::contract_ || (fits && cost[v] * (uses[v] - 1) > 4)) c.tile[v] = 1;
      if (c.tile[v]) cost[v] = 1;
    }
  }

  // Values that only members read, as large as those or cheap to make from nothing.
  void chooseInlined() {
    c.inlined.assign(f.values.size(), 0);
    std::vector<char> only(f.values.size(), 1), made(f.values.size(), 0);
    std::vector<int> region(f.values.size(), -1);
    std::vector<double> cost(f.values.size(), 0);
    for (const ir::Result &r : f.results) only[size_t(r.value.i)] = 0;
    for (const Node &n : f.nodes) {
      if (n.resultCount != 1) continue;
      const size_t v = size_t(n.result().i);
      made[v] = isInline(f, n) && n.op != Op::gather_ && n.op != Op::random_;
      if (n.op == Op::constant_) made[v] = std::get<ir::ConstantAttr>(n.attr).data.size() == 1;
      cost[v] = ownCost(n);
      for (ValueId x : n.operands)
        made[v] = made[v] && made[size_t(x.i)], cost[v] += cost[size_t(x.i)];
    }
    for (size_t i = f.nodes.size(); i-- > 0;) {
      const Node &n = f.nodes[i];
      const size_t v = n.resultCount == 1 ? size_t(n.result().i) : 0;
      const bool member = n.resultCount == 1 && c.member[v] >= 0 && n.op != Op::contract_;
      if (n.resultCount == 1 && c.member[v] < 0 && only[v] && region[v] >= 0 && isInline(f, n) &&
          n.op != Op::constant_)
        c.inlined[v] = f.type(n.result()).dims == c.regions[size_t(region[v])].dims ||
                       (made[v] && cost[v] <= 8);
      for (ValueId x : n.operands) {
        if (member || (n.resultCount == 1 && c.inlined[v]))
          region[size_t(x.i)] = member ? c.member[v] : region[v];
        else
          only[size_t(x.i)] = 0;
      }
    }
  }
};

} // namespace

Chains findChains(const ir::Function &f, const FuseOptions &o) {
  const int64_t least = o.fuse ? o.leastChain : INT64_MAX;
  Finder finder{f, least, o.tiles, {}, std::vector<char>(f.values.size(), 0), {}};
  constexpr int kRounds = 4; // each but the last takes products out
  bool settled = least == INT64_MAX;
  if (settled) finder.c.member = finder.c.sink = std::vector<int>(f.values.size(), -1);
  for (int round = 0; round < kRounds && !settled; ++round) {
    finder.gather();
    settled = finder.regions();
  }
  if (!settled) {
    finder.c = {};
    finder.c.member = finder.c.sink = std::vector<int>(f.values.size(), -1);
  }
  finder.chooseTiles();
  finder.chooseInlined();
  return std::move(finder.c);
}

// --- kernels -------------------------------------------------------------------------------------

void Fuser::openChain(Group &g, int region) {
  const Chains::Region &r = facts.chains.regions[size_t(region)];
  Kernel &k = g.kernel();
  k.cls = KernelClass::Chain;
  k.chain.type = r.type;
  g.region = region;
  for (size_t d = 0; d < r.dims.size(); ++d) {
    const AxisId a = k.axis(d == r.row ? "row" : d == r.col ? "col" : "", r.dims[d]);
    g.tileAxes.push_back(a);
    if (d == r.row)
      k.chain.row = a;
    else if (d == r.col)
      k.chain.col = a;
    else
      k.chain.outer.push_back(a);
    if (d == r.col) continue;
    g.dims.push_back(r.dims[d]);
    g.dimAxes.push_back(a);
  }
}

// Does reading the value from memory read what this very kernel writes?
bool Fuser::readsOwn(ValueId v, int id) const {
  std::vector<ValueId> work{v};
  std::set<int32_t> seen;
  while (!work.empty()) {
    const ValueId x = work.back();
    work.pop_back();
    if (!seen.insert(x.i).second) continue;
    if (facts.root[x.i]) {
      if (groupOf[x.i] == id) return true;
      continue;
    }
    if (const Node *n = f.def(x)) work.insert(work.end(), n->operands.begin(), n->operands.end());
  }
  return false;
}

static std::vector<Index> indicesOf(Kernel &k, const std::vector<AxisId> &axes) {
  std::vector<Index> at;
  for (AxisId a : axes) at.push_back(k.axisIndex(a));
  return at;
}

static Index labelIndex(Kernel &k, const LabelForm &form, const std::vector<AxisId> &axisOf) {
  return form.terms.empty() ? constIndex(0) : k.axisIndex(axisOf[size_t(form.terms[0].label)]);
}

// The member's tile as a step: its operands' tiles must be there.
bool Fuser::addTile(ValueId v, int id) {
  Group &g = groups[size_t(id)];
  Kernel &k = g.kernel();
  const Node &node = *f.def(v);
  Stage s;
  ChainStep step;
  s.type = k.chain.type;
  s.name = nameOf(v);
  if (node.op != Op::contract_) {
    Reader r(f, facts, k, this, &g, id);
    s.body = r.read(v, indicesOf(k, g.tileAxes));
    if (s.body < 0) return false;
    s.body = convertExpr(k, s.body, s.type);
    s.loop = {k.chain.col};
    step.kind = StepKind::Tile;
  } else {
    const auto &a = std::get<ContractAttr>(node.attr);
    const Chains::Region &region = facts.chains.regions[size_t(g.region)];
    Labels l;
    l.read(a);
    const int rows = rowOperand(l, region.row, region.col);
    if (readsOwn(node.operands[0], id) || readsOwn(node.operands[1], id)) return false;
    std::vector<AxisId> axisOf(a.labels.size(), -1);
    for (size_t d = 0; d < l.y.size(); ++d)
      if (l.y[d] >= 0) axisOf[size_t(l.y[d])] = g.tileAxes[d];
    for (size_t i = 0; i < axisOf.size(); ++i) {
      if (axisOf[i] >= 0) continue;
      axisOf[i] = k.axis(a.labels[i], a.extents[i]);
      s.reduce.push_back(axisOf[i]);
    }
    if (s.reduce.empty()) s.reduce.push_back(k.axis("", 1));
    auto operand = [&](int t) {
      std::vector<Index> at;
      for (const LabelForm &form : a.forms[size_t(t)]) at.push_back(labelIndex(k, form, axisOf));
      Reader r(f, facts, k, this, &g, -1, &g.launch);
      const ExprId e = r.read(node.operands[size_t(t)], at);
      NNC_CHECK(e >= 0, "an operand of a product cannot be read");
      return convertExpr(k, e, s.type);
    };
    s.combine = Combine::sum;
    s.body = operand(rows);
    step.b = operand(1 - rows);
    step.kind = StepKind::Product;
  }
  g.tiles[v.i] = int(k.stages.size());
  k.stages.push_back(std::move(s));
  k.chain.steps.push_back(step);
  return true;
}

// All tiles from which the member is computed, its own included.
bool Fuser::ensureTiles(ValueId v, int id) {
  const Chains &c = facts.chains;
  if (c.member[size_t(v.i)] < 0 || groups[size_t(id)].tiles.count(v.i)) return true;
  // Members in the order of the program.
  std::set<const Node *> need; // they lie in one array
  std::vector<ValueId> work{v};
  while (!work.empty()) {
    const ValueId x = work.back();
    work.pop_back();
    if (c.member[size_t(x.i)] < 0 || groups[size_t(id)].tiles.count(x.i)) continue;
    const Node *n = f.def(x);
    if (need.insert(n).second && n->op != Op::contract_)
      work.insert(work.end(), n->operands.begin(), n->operands.end());
  }
  for (const Node *n : need)
    if (c.tile[size_t(n->result().i)] && !addTile(n->result(), id)) return false;
  return true;
}

// A value per row, elementwise over the rows.
bool Fuser::mergeRow(const Node &node, int id) {
  Group &g = groups[size_t(id)];
  Kernel &k = g.kernel();
  const ValueId v = node.result();
  if (f.type(v).dims != g.dims) return false;
  groupOf[v.i] = id;
  g.inlined.insert(v.i);
  const std::vector<Index> at = indicesOf(k, g.dimAxes);
  Reader r(f, facts, k, this, &g, id);
  Stage s;
  s.body = r.read(v, at);
  g.inlined.erase(v.i);
  if (s.body < 0) {
    groupOf[v.i] = -1;
    return false;
  }
  s.type = ir::widened(f.type(v).dtype);
  s.name = nameOf(v);
  addStores(g.launch, s, v, at);
  g.locals[v.i] = {int(k.stages.size()), 0};
  k.stages.push_back(std::move(s));
  k.chain.steps.push_back({StepKind::Row, -1, -1});
  return true;
}

bool Fuser::addRowReduce(const Node &node, int id) {
  Group &g = groups[size_t(id)];
  Kernel &k = g.kernel();
  const ValueId x = node.operands[0], v = node.result();
  Reader r(f, facts, k, this, &g, id);
  Stage s;
  s.body = r.read(x, indicesOf(k, g.tileAxes));
  if (s.body < 0) return false;
  const Chains::Region &region = facts.chains.regions[size_t(g.region)];
  s.reduce = {k.chain.col};
  s.combine = combineOf(node);
  s.type = k.exprs[size_t(s.body)].type;
  s.order = orderFor(region.dims, {int64_t(region.col)}, s.type, s.combine, f.batch);
  s.name = nameOf(v);
  addStores(g.launch, s, v, indicesOf(k, g.dimAxes));
  g.locals[v.i] = {int(k.stages.size()), 0};
  k.stages.push_back(std::move(s));
  k.chain.steps.push_back({StepKind::Row, -1, -1});
  return true;
}

// The tile of a product holds its sums; what adds it up reads elements as they are, so the rounded
// values are a tile of their own.
ExprId Fuser::addRounded(Group &g, ValueId v, ExprId rounded) {
  Kernel &k = g.kernel();
  Stage s;
  s.type = k.chain.type;
  s.name = nameOf(v);
  s.body = convertExpr(k, rounded, s.type);
  s.loop = {k.chain.col};
  Expr tile;
  tile.op = SOp::acc;
  tile.type = k.chain.type;
  tile.stage = int32_t(k.stages.size());
  k.stages.push_back(std::move(s));
  ChainStep step;
  step.kind = StepKind::Tile;
  k.chain.steps.push_back(step);
  g.tiles[v.i] = tile.stage;
  return roundedExpr(k, k.expr(std::move(tile)), f.type(v).dtype);
}

// A contraction that adds up columns or rows of a tile.
bool Fuser::addSum(const Node &node, int id) {
  Group &g = groups[size_t(id)];
  Kernel &k = g.kernel();
  const auto &a = std::get<ContractAttr>(node.attr);
  const Chains::Region &region = facts.chains.regions[size_t(g.region)];
  const int t = facts.chains.member[size_t(node.operands[0].i)] == g.region ? 0 : 1;
  const ValueId tile = node.operands[size_t(t)], other = node.operands[size_t(1 - t)];
  if (readsOwn(other, id)) return false;
  const bool columns = sumOf(a, t, region) == Sum::columns;
  Labels l;
  l.read(a);
  std::vector<AxisId> axisOf(a.labels.size(), -1);
  Stage s;
  for (size_t d = 0; d < l.operand(t).size(); ++d)
    if (l.operand(t)[d] >= 0) axisOf[size_t(l.operand(t)[d])] = g.tileAxes[d];
  for (int label : l.y)
    if (label >= 0 && axisOf[size_t(label)] < 0) {
      axisOf[size_t(label)] = k.axis(a.labels[size_t(label)], a.extents[size_t(label)]);
      s.loop.push_back(axisOf[size_t(label)]);
    }
  for (size_t d = 0; d < g.tileAxes.size(); ++d) {
    const int label = l.operand(t)[d];
    if (d != region.row && d != region.col && label >= 0 && !has(l.y, label))
      s.reduce.push_back(g.tileAxes[d]);
  }
  s.reduce.push_back(columns ? k.chain.col : k.chain.row);
  Reader own(f, facts, k, this, &g, id);
  s.body = own.read(tile, indicesOf(k, g.tileAxes));
  NNC_CHECK(s.body >= 0, "a tile is read at another index than its own");
  if (k.chain.steps[size_t(g.tiles.at(tile.i))].kind == StepKind::Product &&
      k.exprs[size_t(s.body)].op != SOp::acc)
    s.body = addRounded(g, tile, s.body);
  std::vector<Index> at, from;
  for (const LabelForm &form : a.forms[size_t(1 - t)]) from.push_back(labelIndex(k, form, axisOf));
  for (const LabelForm &form : a.forms[2]) at.push_back(labelIndex(k, form, axisOf));
  Reader reader(f, facts, k, this, &g, -1, &g.launch);
  ChainStep step;
  step.kind = columns ? StepKind::RowSum : StepKind::ColSum;
  step.b = reader.read(other, from);
  NNC_CHECK(step.b >= 0, "an operand of a sum cannot be read");
  s.type = k.chain.type;
  s.body = convertExpr(k, s.body, s.type);
  step.b = convertExpr(k, step.b, s.type);
  s.combine = Combine::sum;
  s.name = nameOf(node.result());
  addStores(g.launch, s, node.result(), at);
  k.stages.push_back(std::move(s));
  k.chain.steps.push_back(step);
  return true;
}

bool Fuser::addSink(const Node &node, int id) {
  for (ValueId x : node.operands)
    if (!ensureTiles(x, id)) return false;
  if (!(node.op == Op::contract_ ? addSum(node, id) : addRowReduce(node, id))) return false;
  Group &g = groups[size_t(id)];
  if (node.op == Op::contract_ && g.kernel().name != nameOf(node.result()))
    if (const auto &steps = g.kernel().chain.steps;
        std::count_if(steps.begin(), steps.end(), [](const ChainStep &s) {
          return s.kind == StepKind::RowSum || s.kind == StepKind::ColSum;
        }) == 1) // for people: not the first row's value
      g.kernel().name = nameOf(node.result()), g.kernel().loc = node.loc;
  groupOf[node.result().i] = id;
  groups[size_t(id)].members.push_back(node.result());
  return true;
}

bool Fuser::placeChain(const Node &node) {
  const int region = node.resultCount == 1 ? facts.chains.sink[size_t(node.result().i)] : -1;
  if (region < 0) return false;
  const std::set<int> deps = rootDeps(node);
  std::vector<int> &open = chains_[region];
  for (size_t i = open.size(); i-- > 0;) {
    const int g = open[i];
    if (!groups[size_t(g)].open || closesCircle(g, deps)) continue;
    Group saved = groups[size_t(g)];
    if (addSink(node, g)) {
      std::set<int> others = deps;
      others.erase(g);
      waitFor(g, others);
      return true;
    }
    groups[size_t(g)] = std::move(saved);
  }
  const int id = newGroup(node);
  openChain(groups[size_t(id)], region);
  open.push_back(id);
  waitFor(id, deps);
  NNC_CHECK(addSink(node, id), "a kernel of its own cannot add up a region's values");
  return true;
}

} // namespace nnc::cg
