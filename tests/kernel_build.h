// Kernels written by hand, for tests: short names for what fusion makes.
#pragma once
#include "codegen/kernel.h"

namespace nnc::test {

using namespace nnc::cg;

struct KernelBuild {
  Kernel k;
  explicit KernelBuild(int64_t batch = 1) { k.batch = batch; }

  int32_t arg(DType t, Dims dims, bool written = false, bool read = true) {
    k.args.push_back({t, std::move(dims), read, written});
    return int32_t(k.args.size()) - 1;
  }
  AxisId axis(const char *name, Dim extent) { return k.axis(name, extent); }
  Index at(AxisId a, int64_t coef = 1) { return k.axisIndex(a) * coef; }

  Access access(int32_t arg, Index flat, std::vector<Guard> guards = {}) {
    return {arg, std::move(flat), std::move(guards)};
  }
  ExprId load(int32_t arg, Index flat, std::vector<Guard> guards = {}) {
    Expr e;
    e.op = SOp::load;
    const DType t = k.args[size_t(arg)].dtype;
    e.type = t == DType::bf16 || t == DType::f16 ? DType::f32 : t;
    e.access = access(arg, std::move(flat), std::move(guards));
    return k.expr(e);
  }
  ExprId num(double v, DType t = DType::f32) {
    Expr e;
    e.op = SOp::constant;
    e.type = t;
    e.value = v;
    return k.expr(e);
  }
  ExprId op(SOp o, std::vector<ExprId> args, DType t = DType::f32) {
    Expr e;
    e.op = o;
    e.type = t;
    e.args = std::move(args);
    return k.expr(e);
  }
  ExprId local(int stage, int slot = 0, DType t = DType::f32) {
    Expr e;
    e.op = SOp::local;
    e.type = t;
    e.stage = stage, e.slot = slot;
    return k.expr(e);
  }
  ExprId acc(DType t = DType::f32) {
    Expr e;
    e.op = SOp::acc;
    e.type = t;
    return k.expr(e);
  }
  ExprId indexOf(Index x, DType t) {
    Expr e;
    e.op = SOp::index;
    e.type = t;
    e.index = std::move(x);
    return k.expr(e);
  }
  ExprId random(uint64_t site, Index x) {
    Expr e;
    e.op = SOp::random;
    e.args = {num(double(uint32_t(site)), DType::u32), num(double(site >> 32), DType::u32)};
    e.index = std::move(x);
    return k.expr(e);
  }
  Index value(ExprId e, Dim limit) {
    Atom a;
    a.kind = Atom::Value;
    a.value = e;
    a.limit = limit;
    Index x;
    x.terms.push_back({k.atom(a), 1});
    return x;
  }

  Stage &stage(ExprId body, Combine c = Combine::none, std::vector<AxisId> reduce = {},
               int lanes = 1) {
    Stage s;
    s.body = body;
    s.type = ir::widened(k.exprs[size_t(body)].type);
    s.combine = c;
    s.reduce = std::move(reduce);
    s.order.lanes = lanes;
    k.stages.push_back(s);
    return k.stages.back();
  }
  // Stores the value of the last stage.
  Stage &to(int32_t arg, Index flat, int slot = 0, std::vector<Guard> guards = {}) {
    k.stages.back().stores.push_back({access(arg, std::move(flat), std::move(guards)), slot});
    return k.stages.back();
  }
};

} // namespace nnc::test
