// Method. Whatever the text, there is a module that verifies or there are messages. Limits keep
// every single run short: a fuzzer that waits finds nothing, and a program may well ask for a
// million steps.
#include "tests/fuzz/targets.h"
#include "frontend/elaborate.h"
#include "frontend/parse.h"
#include "frontend/print_ast.h"
#include "ir/interpret.h"
#include "ir/passes.h"
#include "ir/text.h"
#include "ir/verify.h"
#include <cstdio>
#include <cstdlib>

namespace nnc::fuzz {

static void demand(bool holds, const char *what, const std::string &detail = "") {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n%s\n", what, detail.c_str());
  std::abort();
}

void language(std::string_view text) {
  fe::Sources sources;
  fe::Diagnostics diags(sources);
  fe::ElaborateOptions options;
  options.maxSteps = 20'000;
  uint32_t file = sources.add("fuzz.nn", std::string(text));
  auto module = fe::elaborate(sources, file, diags, options);
  demand((module != nullptr) != diags.hasErrors(), "a module or errors", diags.render());
  diags.render(true);
  diags.renderJson();
  diags.renderSarifResults();
  if (module) demand(ir::verify(*module).empty(), "the module verifies", ir::verify(*module));
}

// --- textual IR ----------------------------------------------------------------------------------

/// Whether a function is small enough for naive loops.
static bool isSmall(const ir::Module &m) {
  for (const auto &f : m.functions) {
    if (f->nodes.size() > 200 || f->batch > 8) return false;
    for (const ir::ValueInfo &v : f->values) {
      double count = 1;
      for (ir::Dim d : v.type.dims) count *= double(d.a) * double(f->batch) + double(d.b);
      if (count > 256) return false;
    }
    for (const ir::Node &n : f->nodes) {
      if (n.op == ir::Op::scan_) return false;                           // rounds within rounds
      if (auto *c = std::get_if<ir::CallAttr>(&n.attr); c) return false; // calls within calls
    }
  }
  return true;
}

static void interpret(const ir::Module &m) {
  for (const auto &f : m.functions) {
    std::vector<ir::Tensor> inputs;
    for (const ir::Param &p : f->params) {
      if (!p.bind.empty()) continue;
      ir::Tensor t;
      t.dtype = f->type(p.value).dtype;
      for (ir::Dim d : f->type(p.value).dims) t.dims.push_back(d.a * f->batch + d.b);
      t.data.assign(size_t(t.count()), 0);
      if (ir::isFloat(t.dtype))
        for (size_t i = 0; i < t.data.size(); ++i) t.data[i] = 0.25 * double(i % 9) - 1;
      inputs.push_back(std::move(t));
    }
    ir::Interpreter(m, ir::Precision::f64).run(f->name, std::move(inputs));
  }
}

void ir(std::string_view text) {
  ir::TextError error;
  auto m = ir::parseModule(std::string(text), error);
  if (!m) return demand(!error.message.empty(), "a message");
  if (!ir::verify(*m).empty()) return;
  std::string printed = ir::print(*m);
  auto again = ir::parseModule(printed, error);
  demand(again != nullptr, "printed text parses", printed + error.message);
  demand(ir::print(*again) == printed, "printing and parsing meet", printed);
  size_t nodes = 0;
  for (const auto &f : m->functions) nodes += f->nodes.size();
  if (nodes > 300) return;
  bool hasGradient = false;
  for (const auto &f : m->functions)
    for (const ir::Node &n : f->nodes) hasGradient |= n.op == ir::Op::grad_;
  if (isSmall(*m) && !hasGradient) interpret(*m);
  ir::PipelineOptions options;
  ir::runGradient(*m, options);
  demand(ir::verify(*m).empty(), "differentiated code verifies", ir::verify(*m) + "\n" + printed);
  ir::runOptimize(*m, options);
  demand(ir::verify(*m).empty(), "optimized code verifies", ir::verify(*m) + "\n" + printed);
  if (isSmall(*m)) interpret(*m);
}

} // namespace nnc::fuzz
