// Layouts of what a function computes and keeps to itself, chosen for those who read and write it.
//
// Problem. A sequence of an LSTM is p[n,t,c] to the products around its loop, slices [n,c] to the
// loop:
//   %p = contract %x, %w          one pass, in any order
//   scan (.. %p ..) {xs=[1]}      round t reads p[0..n, t, :]: rows that are t*c apart
//   %dz = scan .. {ys=[1]}        round t writes dz[0..n, t, :]
//   %du = contract %hs, %dz       walks over (t, m) of hs[t,m,k] and dz[m,t,n] at once
// Row-major, a slice of 32 rows of 2 KiB lies on 32 pages and in few sets of the first cache, and
// the product jumps at every term. With t outermost, digits (1,t)(0,n)(2,c), a slice is one piece
// and so is the product's walk.
//
// Method. What an order of dimensions costs is the number of pieces: how often whoever goes through
// the value leaves a run of memory for another one.
//   a loop along dimension d    rounds times the extents of all dimensions that lie outside d
//   a product                   all summed terms, if its two operands hold the summed dimensions in
//                               different orders; else none, as it sums in the order in which they
//                               lie (fuse_contract.cpp)
//   a pointwise node            all rows, if one of its operands is fixed and lies in another order
//   all others                  none: they go through memory as it is
// Tried is each dimension that a loop slices or stacks along as the outermost one; the others stay
// in order. Values that pointwise nodes join lie alike, so the choice is made for groups of values;
// group by group, twice, as one group's choice is what another one's products see. Lines stay
// whole: what lies inside the dimension that moves has a line's bytes at least. Fixed are
// parameters and results (others know where they lie), carries, what is read or made through a
// reshape (which costs nothing in row-major order), and what kernels store in row-major order only;
// and values of one or two bytes: those of bf16 are brought into another form by products on tile
// registers in any case (measured: nothing gained).
//
// Rows whose bytes are a multiple of 1 KiB get a line more, if a product or a sum goes down the
// columns; see chooseLayouts. That is done to what loops slice or stack, and to what they multiply
// by in every round (the turned weight of a recurrent layer), which would be copied in each.
//
// The orders follow from the function alone, neither from the target nor from what fusion makes of
// it: they decide in which order products sum. Padding decides no bits.
#include "codegen/fuse.h"
#include <algorithm>
#include <array>
#include <numeric>

namespace nnc::cg {

using ir::Node;
using ir::Op;
using ir::ValueId;

namespace {

constexpr int64_t kLine = 64; // bytes

// The dimension of an operand that a label is; -1: none, or not alone.
int64_t dimOf(const std::vector<ir::LabelForm> &forms, size_t label) {
  int64_t at = -1;
  for (size_t d = 0; d < forms.size(); ++d)
    for (const ir::LabelTerm &t : forms[d].terms)
      if (size_t(t.label) == label) {
        if (at >= 0 || !forms[d].isSimple()) return -1;
        at = int64_t(d);
      }
  return at;
}

// Does the node add up an operand along dimensions outside the innermost one, row after row?
bool goesDown(const ir::Function &f, const Node &n, ValueId v) {
  const int64_t last = int64_t(f.type(v).dims.size()) - 1;
  if (n.op == Op::reduce_ && v == n.operands[0])
    return !contains(std::get<ir::ReduceAttr>(n.attr).dims, last);
  if (n.op != Op::contract_) return false;
  const auto &a = std::get<ir::ContractAttr>(n.attr);
  for (size_t side = 0; side < 2; ++side) {
    if (n.operands[side] != v) continue;
    bool inside = false, outside = false; // summed
    for (size_t l = 0; l < a.labels.size(); ++l) {
      const int64_t d = dimOf(a.forms[side], l);
      if (d >= 0 && dimOf(a.forms[2], l) < 0) (d == last ? inside : outside) = true;
    }
    if (outside && !inside) return true;
  }
  return false;
}

struct Chooser {
  const ir::Module &m;
  const ir::Function &f;
  std::vector<int32_t> above;   // union of values
  std::vector<char> fixed;      // by ValueId
  std::vector<int32_t> leading; // by root of a group: the outermost dimension in memory
  struct Use {
    const Node *node;
    ValueId value;
  };
  std::map<int32_t, std::vector<Use>> uses;      // of the members of a group, by its root
  std::map<int32_t, std::vector<int32_t>> tried; // dimensions, by root of a group

  Chooser(const ir::Module &m, const ir::Function &f)
      : m(m), f(f), above(f.values.size()), fixed(f.values.size(), 0), leading(f.values.size(), 0) {
    std::iota(above.begin(), above.end(), 0);
  }

  int32_t group(ValueId v) {
    int32_t x = v.i;
    while (above[size_t(x)] != x) x = above[size_t(x)] = above[size_t(above[size_t(x)])];
    return x;
  }
  const Dims &dims(ValueId v) const { return f.type(v).dims; }
  int64_t extent(Dim d) const { return d.at(std::max<int64_t>(f.batch, 1)); }

  static bool joins(const Node &n) {
    return ir::isPointwise(n.op) || n.op == Op::select_ || n.op == Op::cast_;
  }

  void findFixed() {
    for (size_t v = 0; v < f.values.size(); ++v)
      fixed[v] = ir::dtypeBytes(f.values[v].type.dtype) < 4;
    for (const ir::Param &p : f.params) fixed[size_t(p.value.i)] = 1;
    for (const ir::Result &r : f.results) fixed[size_t(r.value.i)] = 1;
    for (const Node &n : f.nodes) {
      const auto *scan = std::get_if<ir::ScanAttr>(&n.attr);
      for (int k = 0; k < n.resultCount; ++k) {
        const bool stacked = scan && k >= scan->carries;
        if (!stacked && (n.op == Op::reshape_ || !storesAnywhere(f, n.result(k))))
          fixed[size_t(n.result(k).i)] = 1;
      }
      if (n.op == Op::reshape_) fixed[size_t(n.operands[0].i)] = 1;
      if (scan)
        for (int64_t i = 0; i < scan->carries; ++i) fixed[size_t(n.operands[size_t(i)].i)] = 1;
    }
  }

  void joinGroups() {
    for (const Node &n : f.nodes) {
      if (!joins(n) || fixed[size_t(n.firstResult.i)]) continue;
      for (ValueId x : n.operands)
        if (!fixed[size_t(x.i)] && dims(x) == dims(n.result()))
          above[size_t(group(x))] = group(n.result());
    }
  }

  // The dimension in which a use goes through the value slice by slice; -1: it does not.
  static int64_t slicedAlong(const Use &u) {
    const auto *scan = std::get_if<ir::ScanAttr>(&u.node->attr);
    if (!scan) return -1;
    for (size_t i = 0; i < scan->xAxes.size(); ++i)
      if (u.node->operands[size_t(scan->carries) + i] == u.value) return scan->xAxes[i];
    for (size_t i = 0; i < scan->yAxes.size(); ++i)
      if (u.node->result(int(scan->carries) + int(i)) == u.value) return scan->yAxes[i];
    return -1;
  }

  void findUses() {
    for (const Node &n : f.nodes) {
      auto note = [&](ValueId v) {
        if (fixed[size_t(v.i)] || dims(v).size() < 2) return;
        const Use use{&n, v};
        std::vector<Use> &list = uses[group(v)];
        if (!list.empty() && list.back().node == &n && list.back().value == v) return;
        list.push_back(use);
        const int64_t d = slicedAlong(use);
        if (d <= 0) return;
        int64_t inside = ir::dtypeBytes(f.type(v).dtype);
        for (size_t i = size_t(d) + 1; i < dims(v).size(); ++i) inside *= extent(dims(v)[i]);
        std::vector<int32_t> &t = tried[group(v)];
        if (inside >= kLine && std::find(t.begin(), t.end(), d) == t.end()) t.push_back(int32_t(d));
      };
      for (ValueId v : n.operands) note(v);
      for (int k = 0; k < n.resultCount; ++k) note(n.result(k));
    }
  }

  // How far outside a dimension lies in memory.
  int64_t rank(ValueId v, int64_t dim) {
    const int64_t first = fixed[size_t(v.i)] ? 0 : leading[size_t(group(v))];
    return dim == first ? -1 : dim;
  }

  // Does the product jump between the terms of its sum?
  double productPieces(const Node &n) {
    const auto &a = std::get<ir::ContractAttr>(n.attr);
    std::vector<std::array<int64_t, 2>> summed; // dimensions of both operands
    double terms = 1;
    for (size_t l = 0; l < a.labels.size(); ++l) {
      if (dimOf(a.forms[2], l) >= 0) continue;
      const int64_t x = dimOf(a.forms[0], l), w = dimOf(a.forms[1], l);
      if (x < 0 || w < 0) continue;
      summed.push_back({x, w});
      terms *= double(extent(a.extents[l]));
    }
    for (auto &p : summed)
      for (auto &q : summed)
        if ((rank(n.operands[0], p[0]) < rank(n.operands[0], q[0])) !=
            (rank(n.operands[1], p[1]) < rank(n.operands[1], q[1])))
          return terms;
    return 0;
  }

  double piecesOf(const Use &u) {
    const Dims &d = dims(u.value);
    if (const int64_t along = slicedAlong(u); along >= 0) {
      double pieces = double(extent(d[size_t(along)]));
      for (size_t i = 0; i < d.size(); ++i)
        if (rank(u.value, int64_t(i)) < rank(u.value, along)) pieces *= double(extent(d[i]));
      return pieces;
    }
    if (u.node->op == Op::contract_)
      return u.value == u.node->result() ? 0 : productPieces(*u.node);
    if (!joins(*u.node) || leading[size_t(group(u.value))] == 0) return 0;
    auto other = [&](ValueId x) {
      const Node *def = f.def(x);
      const bool memory =
          !def || (!joins(*def) && def->op != Op::constant_ && def->op != Op::broadcast_);
      return fixed[size_t(x.i)] && memory && dims(x) == d;
    };
    const bool meets = std::any_of(u.node->operands.begin(), u.node->operands.end(), other);
    return meets ? double(ir::elementCount(d, std::max<int64_t>(f.batch, 1))) /
                       double(extent(d.back()))
                 : 0;
  }

  double pieces(int32_t g) {
    double sum = 0;
    for (const Use &u : uses[g]) sum += piecesOf(u);
    return sum;
  }

  void choose() {
    for (int pass = 0; pass < 2; ++pass)
      for (const auto &[g, list] : tried) {
        int32_t best = leading[size_t(g)];
        double least = pieces(g);
        std::vector<int32_t> all = list;
        all.insert(all.begin(), 0);
        for (int32_t d : all) {
          leading[size_t(g)] = d;
          if (const double p = pieces(g); p < least) least = p, best = d;
        }
        leading[size_t(g)] = best;
      }
  }

  // What loops multiply by in every round, going down its columns.
  std::set<int32_t> walkedByRounds() const {
    std::set<int32_t> all;
    for (const Node &n : f.nodes) {
      const auto *scan = std::get_if<ir::ScanAttr>(&n.attr);
      if (!scan) continue;
      const ir::Function &body = *m.find(scan->body);
      for (size_t i = size_t(scan->carries) + scan->xAxes.size(); i < n.operands.size(); ++i) {
        const ValueId p = body.params[i].value;
        if (std::any_of(body.nodes.begin(), body.nodes.end(), [&](const Node &use) {
              return use.op == Op::contract_ && goesDown(body, use, p);
            }))
          all.insert(n.operands[i].i);
      }
    }
    return all;
  }

  std::map<int32_t, Layout> layouts(bool pads) {
    std::map<int32_t, Layout> all;
    std::map<int32_t, bool> down; // by root of a group
    const std::set<int32_t> walked = walkedByRounds();
    for (int32_t v = 0; v < int32_t(f.values.size()); ++v) {
      const int32_t g = group(ValueId{v});
      const int32_t first = leading[size_t(g)];
      const bool isWalked = walked.count(v) != 0;
      const Dims &d = dims(ValueId{v});
      if (fixed[size_t(v)] || d.size() < 2) continue;
      Layout l;
      l.digits.push_back({first, extent(d[size_t(first)])});
      for (size_t i = 0; i < d.size(); ++i)
        if (int32_t(i) != first) l.digits.push_back({int32_t(i), extent(d[i])});
      auto [it, isNew] = down.try_emplace(g, false);
      if (isNew)
        it->second =
            std::any_of(uses[g].begin(), uses[g].end(),
                        [](const Use &u) { return slicedAlong(u) >= 0; }) &&
            std::any_of(uses[g].begin(), uses[g].end(),
                        [&](const Use &u) { return goesDown(f, *u.node, u.value); });
      Digit &row = l.digits.back();
      const int64_t plain = row.size;
      if (pads && (it->second || isWalked))
        row.size = paddedRow(plain, f.type(ValueId{v}).dtype);
      if (first != 0 || row.size != plain) all.emplace(v, std::move(l));
    }
    return all;
  }
};

} // namespace

std::map<int32_t, Layout> ownLayouts(const ir::Module &m, const ir::Function &f, bool pads) {
  if (std::none_of(f.nodes.begin(), f.nodes.end(), [](const Node &n) { return n.op == Op::scan_; }))
    return {};
  Chooser c(m, f);
  c.findFixed();
  c.joinGroups();
  c.findUses();
  c.choose();
  return c.layouts(pads);
}

} // namespace nnc::cg
