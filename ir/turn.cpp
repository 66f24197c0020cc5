// Matrices that every round of a scan reads across are turned once, before it.
//
//   scan @cell (.. %w):  y = contract %dz {"n, o"}, %w {"h, o"} -> "n, h"
//     ->  %t = transpose %w;  scan @cell (.. %t):  y = contract %dz {"n, o"}, %t {"o, h"} -> "n, h"
//
// Problem. The gradient of a recurrent cell multiplies by the transposed recurrent weight in each
// round, with few rows: too few to pay for a copy in the form that products want, so each round
// reads against the grain. All rounds read the same matrix.
//
// Method. An invariant matrix whose last dimension a contraction of the body sums over, and whose
// first one are columns of its result, gets a transposed twin in front of the scan; those
// contractions read the twin. What nobody reads any more goes with the next pass over scans.
#include "ir/builder.h"
#include "ir/copy.h"
#include "ir/forms.h"
#include "ir/passes.h"
#include <algorithm>
#include <unordered_map>

namespace nnc::ir {

namespace {

constexpr int64_t kRounds = 8;     // that pay for the copy
constexpr int64_t kElements = 512; // what is smaller stays in registers and the nearest cache

// Contractions of the body that read its value v across, as (node, side).
std::vector<std::pair<size_t, size_t>> acrossUses(const Function &body, ValueId v) {
  std::vector<std::pair<size_t, size_t>> uses;
  for (size_t i = 0; i < body.nodes.size(); ++i) {
    const Node &n = body.nodes[i];
    if (n.op != Op::contract_ || n.operands[0] == n.operands[1]) continue;
    for (size_t side = 0; side < 2; ++side)
      if (n.operands[side] == v && summedDimension(std::get<ContractAttr>(n.attr), side) == 1)
        uses.push_back({i, side});
  }
  return uses;
}

bool isWorthwhile(const Type &t) {
  if (t.dims.size() != 2 || !isFloat(t.dtype)) return false;
  if (!t.dims[0].isConst() || !t.dims[1].isConst()) return false;
  return t.dims[0].b > 1 && t.dims[1].b > 1 && t.dims[0].b * t.dims[1].b >= kElements;
}

// Copies a scan whose body nobody else runs, with turned twins of what it reads across.
bool turnOperands(Module &m, Copier &c, const Node &scan) {
  const auto &a = std::get<ScanAttr>(scan.attr);
  Function &body = *m.find(a.body);
  Names names;
  names.take(body);
  Node changed = scan;
  changed.operands = c.mapped(scan.operands);
  const size_t operands = scan.operands.size();
  for (size_t k = size_t(a.carries) + a.xAxes.size(); k < operands; ++k) {
    const ValueId old = body.params[k].value;
    const Type type = body.type(old);
    const auto uses = acrossUses(body, old);
    if (uses.empty() || !isWorthwhile(type)) continue;
    Builder b(m, c.to);
    b.loc = scan.loc;
    changed.operands.push_back(b.transpose(changed.operands[k], {1, 0}));
    const ValueId twin{int32_t(body.values.size())};
    body.values.push_back({Type{type.dtype, {type.dims[1], type.dims[0]}}, {},
                           names.unique(body.values[size_t(old.i)].name + "_turned")});
    body.params.push_back({twin, ""});
    for (auto [node, side] : uses) {
      Node &n = body.nodes[node];
      n.operands[side] = twin;
      auto &forms = std::get<ContractAttr>(n.attr).forms[side];
      std::swap(forms[0], forms[1]);
    }
  }
  if (changed.operands.size() == operands) return false;
  std::vector<ValueInfo> results;
  for (int r = 0; r < scan.resultCount; ++r)
    results.push_back(c.from.values[size_t(scan.result(r).i)]);
  const ValueId first = append(c.to, changed, std::move(results));
  for (int r = 0; r < scan.resultCount; ++r) c.map[size_t(scan.result(r).i)] = {first.i + r};
  return true;
}

} // namespace

void turnInvariants(Module &m) {
  std::unordered_map<std::string, int> users;
  for (const auto &f : m.functions)
    for (const Node &n : f->nodes)
      for (const std::string &name : calleesOf(n)) ++users[name];
  for (Function *f : calleesFirst(m)) {
    auto turns = [&](const Node &n) {
      if (n.op != Op::scan_) return false;
      const auto &a = std::get<ScanAttr>(n.attr);
      return a.length >= kRounds && users[a.body] == 1;
    };
    if (std::none_of(f->nodes.begin(), f->nodes.end(), turns)) continue;
    rebuild(*f, [&](Copier &c) {
      for (const Node &n : c.from.nodes)
        if (!turns(n) || !turnOperands(m, c, n)) c.node(n);
    });
  }
}

} // namespace nnc::ir
