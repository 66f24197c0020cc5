// The local oracle: every kernel of a compiled step against the tensor nodes it replaces.
//
// Problem. A whole-model tolerance hides a wrong kernel behind later arithmetic, and is loosened
// when it flakes. Method. The compiled step runs operation by operation. Before each one, what it
// reads is copied out; after it, every value it wrote is computed again from those very inputs, by
// the f64 interpreter on the IR between them. How far f32 may be off is measured, not guessed: the
// same nodes are evaluated with every intermediate result disturbed by one rounding, and the kernel
// may differ by a small multiple of what that changes. Integers and booleans must be equal.
#include "tests/compiled_model.h"
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

using namespace nnc;
using nnc::test::CompiledModel;

namespace {

using Values = std::map<int32_t, ir::Tensor>;

struct Evaluation {
  const ir::Module &m;
  const ir::Function &f;
  int64_t n;
  Values values; // leaves, then everything computed
  std::mt19937_64 *disturb = nullptr;
  int missing = 0;

  void shake(ir::Tensor &t) {
    if (!disturb || !ir::isFloat(t.dtype)) return;
    for (double &v : t.data) v *= 1 + (int64_t((*disturb)() % 3) - 1) * 0x1p-24;
  }

  const ir::Tensor *at(ir::ValueId v) {
    if (auto it = values.find(v.i); it != values.end()) return &it->second;
    const ir::Node *node = f.def(v);
    // an input of another kernel; bits tested elsewhere
    if (!node || node->op == ir::Op::random_) return nullptr;
    std::vector<ir::Tensor> operands;
    for (ir::ValueId x : node->operands) {
      const ir::Tensor *t = at(x);
      if (!t) return nullptr;
      operands.push_back(*t);
    }
    std::vector<ir::Type> types;
    for (int k = 0; k < node->resultCount; ++k) types.push_back(f.type(node->result(k)));
    auto results = ir::evalNode(&m, *node, types, operands, n, ir::Precision::f64);
    for (int k = 0; k < node->resultCount; ++k) {
      shake(results[size_t(k)]);
      values[node->result(k).i] = std::move(results[size_t(k)]);
    }
    return &values[v.i];
  }
};

struct Oracle {
  const cg::Compiled &compiled;
  CompiledModel &model;
  Values inputs;
  int checked = 0, skipped = 0;

  const cg::CompiledFunction &find(const NncFunction &f) {
    for (const auto &c : compiled.functions())
      if (c.program.function->name == f.name) return c;
    throw std::runtime_error("no such function");
  }

  // The value that argument `a` of the operation holds.
  ir::Tensor read(const cg::CompiledFunction &c, const cg::Launch &l, size_t a,
                  const CompiledModel::OpRun &run, int64_t n) {
    const cg::Buffer &buffer = c.program.buffers[size_t(l.args[a])];
    return test::readTensor(
        run.args[a], {buffer.type.dtype, buffer.type.dims, buffer.layout, c.program.batch}, n);
  }

  void before(const NncFunction &f, const CompiledModel::OpRun &run, int64_t n) {
    const auto &c = find(f);
    const cg::Launch &l = c.program.launches[size_t(c.plan.steps[size_t(run.op)].kernel)];
    inputs.clear();
    for (size_t a = 0; a < l.args.size(); ++a) {
      if (!l.kernel.args[a].read) continue;
      cg::BufferId b = l.args[a];
      // An argument that is overwritten in place holds the operand's value until then.
      cg::BufferId source = l.kernel.args[a].written ? c.plan.alias[size_t(b)] : b;
      ir::ValueId v = c.program.buffers[size_t(source)].value;
      if (v.valid()) inputs[v.i] = read(c, l, a, run, n);
    }
  }

  void after(const NncFunction &f, const CompiledModel::OpRun &run, int64_t n) {
    const auto &c = find(f);
    const cg::Launch &l = c.program.launches[size_t(c.plan.steps[size_t(run.op)].kernel)];
    for (size_t a = 0; a < l.args.size(); ++a)
      if (l.kernel.args[a].written && complete(c, size_t(run.op), l.args[a]))
        check(c, l, a, run, n);
  }

  // Has the value been written whole? The phases of a strided data gradient write it in turns.
  bool complete(const cg::CompiledFunction &c, size_t op, cg::BufferId b) {
    for (size_t later = op + 1; later < c.plan.steps.size(); ++later) {
      const cg::Launch &l = c.program.launches[size_t(c.plan.steps[later].kernel)];
      for (size_t a = 0; a < l.args.size(); ++a)
        if (l.args[a] == b && l.kernel.args[a].written) return false;
    }
    return true;
  }

  void check(const cg::CompiledFunction &c, const cg::Launch &l, size_t a,
             const CompiledModel::OpRun &run, int64_t n) {
    cg::BufferId b = l.args[a];
    ir::ValueId v = c.program.buffers[size_t(b)].value;
    if (!v.valid() || !l.function) return void(++skipped);
    Evaluation exact{*compiled.module, *l.function, n, inputs, nullptr, 0};
    const ir::Tensor *want = exact.at(v);
    if (!want) return void(++skipped);
    ir::Tensor got = read(c, l, a, run, n);
    double spread = 0, largest = 0;
    std::mt19937_64 random(op_seed++);
    for (int trial = 0; trial < 3 && ir::isFloat(want->dtype); ++trial) {
      Evaluation shaken{*compiled.module, *l.function, n, inputs, &random, 0};
      const ir::Tensor *other = shaken.at(v);
      for (size_t i = 0; i < want->data.size(); ++i)
        if (std::isfinite(want->data[i]))
          spread = std::max(spread, std::abs(other->data[i] - want->data[i]));
    }
    for (double x : want->data)
      if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
    double tolerance = 24 * spread + 8 * 0x1p-24 * largest;
    INFO("kernel " << l.kernel.name << ", value " << c.program.buffers[size_t(b)].name
                   << ", n = " << n);
    INFO(cg::print(l.kernel, true));
    for (size_t i = 0; i < want->data.size(); ++i) {
      double g = got.data[i], w = want->data[i];
      if (std::isnan(w) && std::isnan(g)) continue;
      if (std::isinf(w) && g == w) continue;
      INFO("element " << i << ": compiled " << g << ", meant " << w << ", allowed " << tolerance);
      REQUIRE(!(std::abs(g - w) > (ir::isFloat(want->dtype) ? tolerance : 0.0)));
      REQUIRE(!std::isnan(g));
    }
    ++checked;
  }
  uint64_t op_seed = 1;
};

} // namespace

TEST_CASE("every kernel computes what its nodes mean") {
  std::string name = GENERATE(as<std::string>{}, "mlp", "cnn", "bn", "embed", "attention", "gan",
                              "adam", "rnn", "lstm", "nested", "tables");
  bool fused = GENERATE(true, false);
  DYNAMIC_SECTION(name << (fused ? " fused" : " unfused")) {
    auto m = nnc::test::loadModule(name);
    cg::CodegenOptions o;
    std::string error;
    o.target = *cg::resolveTarget("native", error);
    o.fuse.fuse = fused;
    CompiledModel c(*m, o);
    c.run("init", {});
    Oracle oracle{c.compiled(), c, {}};
    c.before = [&](auto &f, auto &run, int64_t n) { oracle.before(f, run, n); };
    c.after = [&](auto &f, auto &run, int64_t n) { oracle.after(f, run, n); };
    for (std::string fn : {"train_step", "eval_step", "predict"}) {
      const ir::Function *f = m->find(fn);
      if (!f) continue;
      for (int64_t n : {f->batch, std::max<int64_t>(1, f->batch - 1)}) {
        c.run(fn, nnc::test::randomInputs(*f, n, uint64_t(n) + 5));
      }
    }
    INFO(oracle.checked << " checked, " << oracle.skipped << " skipped");
    REQUIRE(oracle.checked > 5);
    REQUIRE(oracle.skipped * 2 < oracle.checked);
  }
}
