// Fusion by itself: index arithmetic against brute force, and the shape of the kernels it makes.
#include "codegen/fuse.h"
#include "codegen/pack.h"
#include "tests/compiled_model.h"
#include "ir/builder.h"
#include "ir/text.h"
#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

using namespace nnc;
using cg::Atom;
using cg::Index;
using cg::Kernel;
using nnc::test::loadModule;

namespace {

int64_t floorDiv(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

int64_t evaluate(const Kernel &k, const Index &x, const std::vector<int64_t> &axes, int64_t n) {
  int64_t v = x.c0 + x.cn * n;
  for (const cg::Term &t : x.terms) {
    const Atom &a = k.atoms[size_t(t.atom)];
    int64_t inner = a.kind == Atom::Axis ? axes[size_t(a.axis)] : evaluate(k, a.inner, axes, n);
    if (a.kind == Atom::Div) inner = floorDiv(inner, a.by);
    if (a.kind == Atom::Mod) inner -= floorDiv(inner, a.by) * a.by;
    v += t.coef * inner;
  }
  return v;
}

int storesOf(const Kernel &k) {
  int n = 0;
  for (const cg::Stage &s : k.stages) n += int(s.stores.size());
  return n;
}

} // namespace

TEST_CASE("index arithmetic agrees with integers") {
  std::mt19937_64 random(3);
  auto pick = [&](int64_t lo, int64_t hi) {
    return lo + int64_t(random() % uint64_t(hi - lo + 1));
  };
  for (int round = 0; round < 2000; ++round) {
    Kernel k;
    k.batch = pick(1, 6);
    std::vector<int64_t> extents;
    Index x = cg::constIndex(pick(-20, 20));
    for (int a = 0; a < 3; ++a) {
      extents.push_back(pick(1, 9));
      x = x + k.axisIndex(k.axis("", extents.back())) * pick(-6, 12);
    }
    int64_t by = pick(1, 12), by2 = pick(1, 7);
    Index d = cg::divIndex(k, x, by), m = cg::modIndex(k, x, by);
    Index dd = cg::divIndex(k, d, by2), dm = cg::modIndex(k, d, by2);
    Index whole = cg::recombine(k, d * by + m);
    Index nested = cg::recombine(k, dd * (by * by2) + dm * by + m);
    for (int trial = 0; trial < 10; ++trial) {
      std::vector<int64_t> at;
      for (int64_t e : extents) at.push_back(pick(0, e - 1));
      int64_t v = evaluate(k, x, at, 1), lo, hi;
      REQUIRE(evaluate(k, d, at, 1) == floorDiv(v, by));
      REQUIRE(evaluate(k, m, at, 1) == v - floorDiv(v, by) * by);
      REQUIRE(evaluate(k, whole, at, 1) == v);
      REQUIRE(evaluate(k, nested, at, 1) == v);
      REQUIRE(cg::rangeOf(k, x, lo, hi));
      REQUIRE((lo <= v && v <= hi));
    }
  }
}

TEST_CASE("a reshape of memory and back is the identity on indices") {
  Kernel k;
  k.batch = 4;
  Index n = k.axisIndex(k.axis("n", ir::Dim::batch())), i = k.axisIndex(k.axis("i", 28));
  Index j = k.axisIndex(k.axis("j", 28));
  Index flat = cg::flatten(k, {ir::Dim::batch(), 28, 28}, {n, i, j}, 4);
  Index row = cg::divIndex(k, flat, 784), rest = cg::modIndex(k, flat, 784);
  REQUIRE(row == n);
  REQUIRE(cg::divIndex(k, rest, 28) == i);
  REQUIRE(cg::modIndex(k, rest, 28) == j);
}

TEST_CASE("the optimizer's update belongs to the weight's gradient") {
  auto m = loadModule("adam");
  auto p = cg::fuse(*m, *m->find("train_step"));
  int updates = 0;
  for (const cg::Launch &l : p.launches) {
    if (l.kernel.cls != cg::KernelClass::Contract) continue;
    if (storesOf(l.kernel) == 3) ++updates; // w, m and v from one tile; no gradient in memory
  }
  REQUIRE(updates >= 1);
}

TEST_CASE("an update of a table visits the rows of the step's tokens") {
  auto m = loadModule("tables");
  std::map<std::string, std::string> how;
  auto look = [&](const cg::CodegenOptions &o) {
    how.clear();
    auto c = cg::compile(*m, o, cg::Emit::Memory);
    for (const cg::CompiledFunction &f : c->functions())
      for (const cg::Launch &l : f.program.launches) {
        if (l.kernel.cls != cg::KernelClass::ScatterAdd) continue;
        const cg::Kernel &k = l.kernel;
        std::string table = k.stages.empty() ? k.name : k.stages.back().name; // plain.next
        table = table.substr(0, table.find('.'));
        how[table] = k.scatter.arg >= 0 ? "sum" : k.scatter.touched ? "touched" : "all";
      }
  };
  cg::CodegenOptions o;
  std::string error;
  o.target = *cg::resolveTarget("native", error);
  look(o);
  CHECK(how["plain"] == "touched");
  CHECK(how["scaled"] == "touched");
  CHECK(how["flat"] == "touched");
  CHECK(how["middle"] == "touched");
  CHECK(how["moved"] == "all");
  CHECK(how["decayed"] == "all");
  CHECK(how["clipped"] == "sum"); // the norm needs all of it
  o.plan.inPlace = o.plan.reuse = false; // nothing is where it was
  look(o);
  CHECK(how["plain"] == "all");
}

TEST_CASE("rounded sums of a table's tokens need no table of their own") {
  ir::TextError error;
  auto m = ir::parseModule(R"(nnc-ir 1
persistent "w" : f32[40,5]
func @f batch 8 (%t: i32[n], %u: bf16[n,5], %w: f32[40,5] = "w") {
  %s = scatter_add %t, %u {axis=0} : bf16[40,5]
  %d = cast %s : f32[40,5]
  %next = sub %w, %d : f32[40,5]
  return state "w" = %next
}
)",
                           error);
  REQUIRE(m);
  auto p = cg::fuse(*m, *m->find("f"));
  REQUIRE(p.launches.size() == 1);
  CHECK(p.launches[0].kernel.scatter.arg < 0);
  CHECK(storesOf(p.launches[0].kernel) == 1);
}

TEST_CASE("sums of columns take several vectors of a row, whatever is done with the sums") {
  ir::TextError error;
  auto m = ir::parseModule(R"(nnc-ir 1
persistent "w" : f32[512]
persistent "m" : f32[512]
persistent "v" : f32[512]
func @f batch 256 (%x: f32[n,512], %w: f32[512] = "w", %m: f32[512] = "m", %v: f32[512] = "v") {
  %d = reduce %x {kind=sum, dims=[0]} : f32[512]
  %old = constant {value=0.9} : f32[512]
  %new = constant {value=0.1} : f32[512]
  %eps = constant {value=1e-7} : f32[512]
  %m.o = mul %m, %old : f32[512]
  %m.n = mul %d, %new : f32[512]
  %m.next = add %m.o, %m.n : f32[512]
  %d.d = mul %d, %d : f32[512]
  %v.o = mul %v, %old : f32[512]
  %v.n = mul %d.d, %new : f32[512]
  %v.next = add %v.o, %v.n : f32[512]
  %root = sqrt %v.next : f32[512]
  %safe = add %root, %eps : f32[512]
  %step = div %m.next, %safe : f32[512]
  %small = mul %step, %new : f32[512]
  %decay = mul %w, %eps : f32[512]
  %sum = add %small, %decay : f32[512]
  %more = mul %sum, %decay : f32[512]
  %whole = sub %sum, %more : f32[512]
  %w.next = sub %w, %whole : f32[512]
  return state "w" = %w.next, state "m" = %m.next, state "v" = %v.next
}
)",
                           error);
  REQUIRE(m);
  cg::CodegenOptions o;
  std::string message;
  o.target = *cg::resolveTarget("x86-64-v4", message);
  auto c = cg::compile(*m, o, cg::Emit::Memory);
  for (const cg::CompiledFunction &f : c->functions()) {
    REQUIRE(f.program.launches.size() == 1);
    CHECK(f.program.launches[0].kernel.exprs.size() > 24);
    CHECK(f.program.launches[0].kernel.schedule.lanes == 64);
  }
}

TEST_CASE("sums over the same chunks that read the same memory are one kernel") {
  auto m = loadModule("beside");
  auto p = cg::fuse(*m, *m->find("train_step"));
  std::vector<size_t> sums;
  for (const cg::Launch &l : p.launches)
    if (l.kernel.name.ends_with(".partial")) sums.push_back(l.kernel.stages.size());
  std::sort(sums.begin(), sums.end());
  CHECK(sums == std::vector<size_t>{1, 2}); // x; x*y and the variance's, which needs the mean first
  cg::FuseOptions apart;
  apart.fuse = false;
  int kernels = 0;
  for (const cg::Launch &l : cg::fuse(*m, *m->find("train_step"), apart).launches)
    kernels += l.kernel.name.ends_with(".partial");
  CHECK(kernels == 3);
}

TEST_CASE("moments of a gradient in memory and the weight's step are one kernel") {
  auto m = loadModule("beside");
  auto p = cg::fuse(*m, *m->find("train_step"));
  int steps = 0;
  for (const cg::Launch &l : p.launches)
    if (l.kernel.parallel.size() == 2 &&
        l.kernel.axes[size_t(l.kernel.parallel[1])].extent.b == 50) {
      ++steps;
      CHECK(storesOf(l.kernel) == 3);
    }
  CHECK(steps == 1);
}

TEST_CASE("sums of what a product makes are made of its tiles") {
  auto m = loadModule("sums");
  const cg::Program p = cg::fuse(*m, *m->find("train_step"));
  std::vector<int> sums; // of the products that have any
  for (const cg::Launch &l : p.launches) {
    if (l.kernel.cls != cg::KernelClass::Contract) {
      // error: the loss, a scalar
      CHECK((!l.kernel.name.ends_with(".partial") || l.kernel.name.starts_with("error")));
      continue;
    }
    int count = 0;
    for (const cg::Stage &s : l.kernel.stages) {
      count += s.chunk != 0;
      if (s.chunk) CHECK(s.chunk == 5);
    }
    if (count) sums.push_back(count);
  }
  // mean and variance; the derivatives of shift, scale and mean
  CHECK(sums == std::vector<int>{2, 3});
  cg::FuseOptions apart;
  apart.fuse = false;
  for (const cg::Launch &l : cg::fuse(*m, *m->find("train_step"), apart).launches)
    CHECK(cg::sumsBeside(l.kernel) == nullptr);
}

TEST_CASE("what several read of a product is stored in its place") {
  // the second masks in bf16, and sums what that is in f32
  const std::string name = GENERATE("sums", "sums16");
  INFO(name);
  auto m = loadModule(name);
  const cg::Program p = cg::fuse(*m, *m->find("train_step"));
  bool found = false; // the data gradient, of which the mask and three sums are made
  for (const cg::Launch &l : p.launches) {
    const cg::Stage *sums = cg::sumsBeside(l.kernel);
    if (!sums || l.kernel.stages.size() != 4) continue;
    found = true;
    const cg::Stage &first = l.kernel.stages[0];
    REQUIRE(first.stores.size() == 1);
    const cg::KernelArg &stored = l.kernel.args[size_t(first.stores[0].access.arg)];
    CHECK(stored.dtype == (name == "sums" ? cg::DType::f32 : cg::DType::bf16));
    cg::ExprId e = first.body;
    while (l.kernel.exprs[size_t(e)].op == cg::SOp::convert) e = l.kernel.exprs[size_t(e)].args[0];
    CHECK(l.kernel.exprs[size_t(e)].op == cg::SOp::select);
  }
  CHECK(found);
}

TEST_CASE("pictures that products copy are computed in the copies") {
  auto m = loadModule("copied");
  const ir::Function &f = *m->find("train_step");
  const cg::Program p = cg::fuse(*m, f);
  std::set<std::string> stored;
  std::map<std::string, int> computed; // products by what they load
  for (const cg::Launch &l : p.launches) {
    REQUIRE(cg::verify(l.kernel) == "");
    for (size_t a = 0; a < l.args.size(); ++a)
      if (l.kernel.args[a].written) stored.insert(p.buffers[size_t(l.args[a])].name);
    if (l.kernel.cls != cg::KernelClass::Contract) continue;
    for (cg::ExprId e : {l.kernel.contract.a, l.kernel.contract.b})
      if (cg::isComputed(l.kernel, e)) {
        const cg::ExprId load = cg::operandLoad(l.kernel, e);
        ++computed[p.buffers[size_t(l.args[size_t(l.kernel.exprs[size_t(load)].access.arg)])].name];
      }
  }
  // The input, and what follows from the first product: for the next product and for the filter's
  // gradient.
  CHECK(computed == std::map<std::string, int>{{"x", 2}, {"c1", 2}});
  for (const char *name : {"unit", "h1"}) CHECK(stored.count(name) == 0);
  // Two pictures make h2; a product's epilogue makes h3 instead of c3; h4 is dear; h5 is read
  // without a window, h6 with a filter for each channel.
  for (const char *name : {"c1", "c2", "h2", "h3", "h4", "h5", "h6"})
    CHECK(stored.count(name) == 1);
  CHECK(stored.count("c3") == 0);
}

TEST_CASE("pictures without zeros around them are not computed for each place of a window") {
  const bool padded = GENERATE(true, false);
  ir::TextError error;
  auto m = ir::parseModule("nnc-ir 1\nfunc @f batch 4 (%x: f32[n,8,8,4], %w: f32[3,3,4,8]) {\n"
                           "  %half = constant {value=0.5} : f32[n,8,8,4]\n  %y = mul %x, %half : f32[n,8,8,4]\n" +
                               std::string(padded ? "  %z = contract %y, %w {x \"n, i+u-1, j+v-1, c\", w \"u, v, c, o\", "
                                                    "y \"n, i, j, o\"} : f32[n,8,8,8]\n"
                                                  : "  %z = contract %y, %w {x \"n, i+u, j+v, c\", w \"u, v, c, o\", "
                                                    "y \"n, i, j, o\"} : f32[n,6,6,8]\n") +
                               "  return \"z\" = %z\n}\n",
                           error);
  INFO(error.message);
  REQUIRE(m);
  CHECK(cg::fuse(*m, *m->find("f")).launches.size() == (padded ? 1 : 2));
}

TEST_CASE("views cost no kernel and no memory") {
  auto m = loadModule("cnn");
  auto p = cg::fuse(*m, *m->find("train_step"));
  const ir::Function &f = *m->find("train_step");
  for (const cg::Launch &l : p.launches)
    for (size_t a = 0; a < l.args.size(); ++a) {
      const cg::Buffer &b = p.buffers[size_t(l.args[a])];
      if (!l.kernel.args[a].written || !b.value.valid()) continue;
      const ir::Node *def = f.def(b.value);
      if (!def) continue;
      INFO(ir::info(def->op).name << " " << b.name);
      REQUIRE_FALSE((def->op == ir::Op::window_ || def->op == ir::Op::broadcast_ ||
                     def->op == ir::Op::transpose_ || def->op == ir::Op::reshape_));
    }
}

TEST_CASE("a rectified layer stores its output only") {
  auto m = loadModule("mlp");
  auto p = cg::fuse(*m, *m->find("train_step"));
  for (const cg::Launch &l : p.launches)
    if (l.kernel.name == "a1.xw" || l.kernel.name == "a2.xw") REQUIRE(storesOf(l.kernel) == 1);
}

TEST_CASE("kernels hold their invariants and print alike when they are alike") {
  for (std::string name : {"mlp", "cnn", "bn", "embed", "attention", "gan", "adam"}) {
    auto m = loadModule(name);
    for (auto &f : m->functions) {
      bool lowered = std::none_of(f->nodes.begin(), f->nodes.end(), [](const ir::Node &n) {
        return n.op == ir::Op::scan_ || n.op == ir::Op::call_ || n.op == ir::Op::grad_;
      });
      if (!lowered) continue;
      auto p = cg::fuse(*m, *f), q = cg::fuse(*m, *f);
      REQUIRE(p.launches.size() == q.launches.size());
      for (size_t i = 0; i < p.launches.size(); ++i) {
        INFO(name << " " << f->name << " " << p.launches[i].kernel.name);
        REQUIRE(cg::verify(p.launches[i].kernel) == "");
        REQUIRE(cg::print(p.launches[i].kernel, false) == cg::print(q.launches[i].kernel, false));
      }
    }
  }
}

TEST_CASE("a strided data gradient becomes one forward form per phase") {
  ir::Module m;
  ir::Function &f = m.add("f", 4);
  ir::Builder b(m, f);
  auto dy = b.param("dy", {ir::DType::f32, {ir::Dim::batch(), 7, 7, 8}});
  auto w = b.param("w", {ir::DType::f32, {3, 3, 5, 8}});
  auto dx = b.contract(dy, w, "n, i, j, o", "u, v, c, o", "n, 2i+u-1, 2j+v-1, c", {},
                       ir::Dims{ir::Dim::batch(), 14, 14, 5});
  b.result("dx", dx);
  auto p = cg::fuse(m, f);
  REQUIRE(p.launches.size() == 4);
  for (const cg::Launch &l : p.launches) {
    REQUIRE(l.kernel.cls == cg::KernelClass::Contract);
    for (const Atom &a : l.kernel.atoms) REQUIRE(a.kind == Atom::Axis);
  }
}

TEST_CASE("a skinny gradient over a long batch is split by shape alone") {
  ir::Module m;
  ir::Function &f = m.add("f", 64);
  ir::Builder b(m, f);
  auto x = b.param("x", {ir::DType::f32, {ir::Dim::batch(), 28, 28, 1}});
  auto dy = b.param("dy", {ir::DType::f32, {ir::Dim::batch(), 28, 28, 16}});
  auto dw =
      b.contract(x, dy, "n, i+u-1, j+v-1, c", "n, i, j, o", "u, v, c, o", {{"u", 3}, {"v", 3}});
  b.result("dw", dw);
  auto p = cg::fuse(m, f);
  REQUIRE(p.launches.size() == 2);
  REQUIRE(p.launches[1].kernel.cls == cg::KernelClass::Loops);
  f.batch = 64;
  REQUIRE(cg::print(p.launches[0].kernel, true).find("while") != std::string::npos);
}
