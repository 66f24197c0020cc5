// A function of the tensor IR as a picture: Graphviz text for --emit=dot.
//
//   nnc model.nn --emit=dot | dot -Tsvg > step.svg
//
// Boxes are parameters (persistent ones shaded) and results, ellipses operations; an edge carries
// the type of the value. Constants are drawn into the operation that uses them, or the picture
// drowns in them.
#include "frontend/driver.h"

#include "ir/meta.h"

#include <sstream>

namespace nnc::fe {

namespace {

bool isHidden(const ir::Function &f, ir::ValueId v) {
  const ir::Node *n = f.def(v);
  return n && n->operands.empty() && n->op != ir::Op::random_;
}

std::string valueName(const ir::Function &f, ir::ValueId v) {
  const std::string &name = f.values[v.i].name;
  return name.empty() ? "%" + std::to_string(v.i) : "%" + name;
}

// The node of the picture that stands for the value's producer.
std::string source(const ir::Function &f, ir::ValueId v) {
  ir::NodeId def = f.values[v.i].def;
  return def.valid() ? "n" + std::to_string(def.i) : "p" + std::to_string(v.i);
}

} // namespace

std::string dotText(const ir::Module &m, const ir::Function &f) {
  std::ostringstream o;
  o << "digraph " << ir::quoted(f.name)
    << " {\n  rankdir=TB; node [fontname=\"sans-serif\", fontsize=10];\n"
    << "  edge [fontname=\"sans-serif\", fontsize=8];\n";
  auto edge = [&](ir::ValueId v, const std::string &to) {
    if (isHidden(f, v)) return;
    o << "  " << source(f, v) << " -> " << to << " [label=" << ir::quoted(str(f.type(v))) << "];\n";
  };
  for (const ir::Param &p : f.params)
    o << "  p" << p.value.i
      << " [shape=box, label=" << ir::quoted(p.bind.empty() ? valueName(f, p.value) : p.bind)
      << (p.bind.empty() ? "" : ", style=filled, fillcolor=lightgrey") << "];\n";
  for (size_t i = 0; i < f.nodes.size(); ++i) {
    const ir::Node &n = f.nodes[i];
    if (isHidden(f, n.result())) continue;
    std::string at = str(m, n.loc),
                label = std::string(info(n.op).name) + "\n" + valueName(f, n.result());
    o << "  n" << i << " [label=" << ir::quoted(label)
      << (at.empty() ? "" : ", tooltip=" + ir::quoted(at)) << "];\n";
    for (ir::ValueId v : n.operands) edge(v, "n" + std::to_string(i));
  }
  for (size_t i = 0; i < f.results.size(); ++i) {
    o << "  r" << i << " [shape=box, peripheries=2, label=" << ir::quoted(f.results[i].name)
      << "];\n";
    edge(f.results[i].value, "r" + std::to_string(i));
  }
  o << "}\n";
  return o.str();
}

} // namespace nnc::fe
