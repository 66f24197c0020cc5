// Dead code: nodes that no result needs are not copied.
//
//   %a = exp %x; %b = log %x; return %b     ->     %b = log %x; return %b
//
// Functions are free of effects, so need is the only reason to compute. One backward walk marks,
// one forward walk copies. Parameters stay: they are the function's interface.
#include "ir/copy.h"
#include "ir/passes.h"

namespace nnc::ir {

void dce(Function &f, Module &) {
  std::vector<bool> needed(f.values.size(), false), live(f.nodes.size(), false);
  for (const Result &r : f.results) needed[size_t(r.value.i)] = true;
  for (size_t i = f.nodes.size(); i-- > 0;) {
    const Node &node = f.nodes[i];
    for (int k = 0; k < node.resultCount; ++k)
      if (needed[size_t(node.result(k).i)]) live[i] = true;
    if (!live[i]) continue;
    for (const ValueId v : node.operands) needed[size_t(v.i)] = true;
  }
  rebuild(f, [&](Copier &c) {
    for (size_t i = 0; i < c.from.nodes.size(); ++i)
      if (live[i]) c.node(c.from.nodes[i]);
  });
}

} // namespace nnc::ir
