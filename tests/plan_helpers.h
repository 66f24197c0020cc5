// Programs by hand, for the planner's tests: buffers of f32 and kernels that read and write whole
// buffers row by row, with a known schedule.
#pragma once
#include "codegen/program.h"
#include <string>
#include <vector>

namespace nnc::test {

struct ProgramMaker {
  cg::Program p;
  ProgramMaker() { p.batch = 8; }

  cg::BufferId buffer(const std::string &name, ir::Dims dims, cg::Life life = cg::Life::Transient) {
    cg::Buffer b;
    b.name = name;
    b.type = {ir::DType::f32, std::move(dims)};
    b.life = life;
    if (life == cg::Life::Persistent) b.persistent = name;
    if (life == cg::Life::Input) b.input = inputs_++;
    p.buffers.push_back(b);
    return cg::BufferId(p.buffers.size()) - 1;
  }

  cg::KernelArg arg(cg::BufferId b, bool written) const {
    return {ir::DType::f32, p.buffers[b].type.dims, !written, written};
  }

  static cg::ExprId load(cg::Kernel &k, int32_t arg, cg::Index at) {
    cg::Expr e;
    e.op = cg::SOp::load;
    e.access = {arg, std::move(at), {}};
    return k.expr(e);
  }
  static cg::ExprId add(cg::Kernel &k, cg::ExprId x, cg::ExprId y) {
    cg::Expr e;
    e.op = cg::SOp::add;
    e.args = {x, y};
    return k.expr(e);
  }
  static cg::Stage stage(cg::ExprId body, int32_t to, cg::Index at) {
    cg::Stage s;
    s.body = body;
    s.stores = {{{to, std::move(at), {}}, 0}};
    return s;
  }

  // out[r, c] = sum of ins[r, c]; all of one two-dimensional type. Items are blocks of rows.
  int elementwise(const std::string &name, std::vector<cg::BufferId> ins, cg::BufferId out,
                  int64_t block = 1) {
    cg::Launch l;
    cg::Kernel &k = l.kernel;
    cg::AxisId r = start(k, name, out), c = k.axis("c", p.buffers[out].type.dims[1]);
    k.parallel = {r, c};
    k.schedule.items = {{r, block}};
    cg::Index at = k.axisIndex(r) * width(out) + k.axisIndex(c);
    cg::ExprId sum = -1;
    for (cg::BufferId b : ins) {
      cg::ExprId x = load(k, take(l, b, false), at);
      sum = sum < 0 ? x : add(k, sum, x);
    }
    k.stages = {stage(sum, take(l, out, true), at)};
    return finish(std::move(l));
  }

  // out[r, c] = in[r, c] - max over all rows and columns of in: every item reads all of it.
  int gatherAll(const std::string &name, cg::BufferId in, cg::BufferId out) {
    cg::Launch l;
    cg::Kernel &k = l.kernel;
    cg::AxisId r = start(k, name, out), c = k.axis("c", p.buffers[out].type.dims[1]);
    cg::AxisId i = k.axis("i", p.buffers[in].type.dims[0]),
               j = k.axis("j", p.buffers[in].type.dims[1]);
    k.parallel = {r, c};
    k.schedule.items = {{r, 1}};
    cg::Stage all;
    all.reduce = {i, j};
    all.combine = cg::Combine::max;
    all.body = load(k, take(l, in, false), k.axisIndex(i) * width(in) + k.axisIndex(j));
    k.stages.push_back(all);
    cg::Expr local;
    local.op = cg::SOp::local;
    cg::Index at = k.axisIndex(r) * width(out) + k.axisIndex(c);
    k.stages.push_back(stage(k.expr(local), take(l, out, true), at));
    return finish(std::move(l));
  }

  void bind(const std::string &persistent, cg::BufferId b) {
    p.results.push_back({persistent, b, true});
  }
  void result(const std::string &name, cg::BufferId b) { p.results.push_back({name, b, false}); }

  int64_t width(cg::BufferId b) const { return p.buffers[b].type.dims[1].b; }
  cg::AxisId start(cg::Kernel &k, const std::string &name, cg::BufferId out) {
    k.name = name;
    k.batch = p.batch;
    return k.axis("r", p.buffers[out].type.dims[0]);
  }
  int32_t take(cg::Launch &l, cg::BufferId b, bool written) {
    l.kernel.args.push_back(arg(b, written));
    l.args.push_back(b);
    return int32_t(l.args.size()) - 1;
  }
  int finish(cg::Launch l) {
    p.launches.push_back(std::move(l));
    return int(p.launches.size()) - 1;
  }

  // Offsets of the persistent buffers, one after the other.
  cg::PersistentLayout layout() const {
    cg::PersistentLayout l;
    auto add = [&](const std::string &name, const ir::Type &t) {
      if (!l.offset.try_emplace(name, l.bytes).second) return;
      l.bytes += (ir::elementCount(t.dims, p.batch) * 4 + 63) / 64 * 64;
    };
    for (const cg::Buffer &b : p.buffers)
      if (b.life == cg::Life::Persistent) add(b.persistent, b.type);
    for (const cg::ProgramResult &r : p.results)
      if (r.bind) add(r.name, p.buffers[r.buffer].type);
    return l;
  }

 private:
  int32_t inputs_ = 0;
};

} // namespace nnc::test
