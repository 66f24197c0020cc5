// Common subexpressions: equal nodes become one.
//
//   %a = mul %x, %y; %b = mul %y, %x; %c = add %a, %b     ->     %a = mul %x, %y; %c = add %a, %a
//
// Value numbering in one walk: a node's key is its operation, attributes and (already merged)
// operands, in sorted order if it is commutative. Functions are free of effects, so calls, scans
// and random draws of one site are equal by definition. A `remat` node is a copy that memory
// planning asked for: it is merged with nothing.
#include "ir/copy.h"
#include "ir/passes.h"
#include <algorithm>

namespace nnc::ir {

namespace {

bool isCommutative(Op op) {
  switch (op) {
  case Op::add_:
  case Op::mul_:
  case Op::max_:
  case Op::min_:
  case Op::eq_:
  case Op::ne_:
  case Op::and_:
  case Op::or_: return true;
  default: return false;
  }
}

struct Key {
  Op op;
  std::vector<ValueId> operands;
  const Attr *attr; // of a node of the old function
  friend bool operator==(const Key &a, const Key &b) {
    return a.op == b.op && a.operands == b.operands && *a.attr == *b.attr;
  }
};
struct HashKey {
  size_t operator()(const Key &k) const {
    size_t h = hashAttr(*k.attr) * 31 + size_t(k.op);
    for (const ValueId v : k.operands) h = (h ^ size_t(v.i)) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 32);
  }
};

} // namespace

void cse(Function &f, Module &) {
  rebuild(f, [](Copier &c) {
    std::unordered_map<Key, ValueId, HashKey> seen; // first result in the new function
    seen.reserve(c.from.nodes.size());
    for (const Node &node : c.from.nodes) {
      if (node.remat) {
        c.node(node);
        continue;
      }
      Key key{node.op, c.mapped(node.operands), &node.attr};
      if (isCommutative(node.op)) std::sort(key.operands.begin(), key.operands.end());
      const auto [it, isNew] = seen.try_emplace(std::move(key));
      if (isNew) {
        c.node(node);
        it->second = c.map[size_t(node.firstResult.i)];
      }
      for (int k = 0; k < node.resultCount; ++k)
        c.map[size_t(node.result(k).i)] = {it->second.i + k};
    }
  });
}

} // namespace nnc::ir
