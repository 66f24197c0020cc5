// What kernels cost, against counts by hand; forward, derivatives and updates.
#include "codegen/codegen.h"
#include "codegen/cost.h"
#include "ir/text.h"
#include "runtime/abi.h"
#include "tests/compiled_model.h"
#include <catch2/catch.hpp>
#include <map>

using namespace nnc;
using cg::KernelClass;
using cg::Launch;

namespace {

std::unique_ptr<ir::Module> parse(const std::string &text) {
  ir::TextError error;
  auto m = ir::parseModule("nnc-ir 1\n" + text, error);
  INFO(error.message);
  REQUIRE(m);
  return m;
}

std::unique_ptr<cg::Compiled> lower(const ir::Module &m) {
  cg::CodegenOptions o;
  std::string error;
  o.target = *cg::resolveTarget("x86-64-v3", error);
  return cg::compile(m, o, cg::Emit::Memory);
}

const cg::Program &program(const cg::Compiled &c, const std::string &name) {
  for (const cg::CompiledFunction &f : c.functions())
    if (f.program.function->name == name) return f.program;
  throw std::runtime_error("no " + name);
}

bool same(const cg::LinearCost &c, int64_t constant, int64_t perN) {
  INFO(c.constant << " + " << c.perN << " n");
  CHECK(c.constant == constant);
  CHECK(c.perN == perN);
  return true;
}

} // namespace

TEST_CASE("cost: products, epilogues and updates of a perceptron", "[codegen][profile]") {
  auto m = test::loadModule("mlp");
  auto c = lower(*m);
  const cg::Program &p = program(*c, "train_step");
  const std::vector<int64_t> passes = cg::passesOf(*m, p);
  std::map<int64_t, int> products, others;
  int first = 0;
  for (size_t i = 0; i < p.launches.size(); ++i) {
    const Launch &l = p.launches[i];
    const cg::Kernel &k = l.kernel;
    ++(k.cls == KernelClass::Contract ? products : others)[passes[i]];
    if (k.cls != KernelClass::Contract) continue;
    bool reads = false, writes = false;
    for (size_t a = 0; a < l.args.size(); ++a) {
      const bool weights = p.buffers[size_t(l.args[a])].persistent == "dense/kernel";
      reads |= weights && k.args[a].read;
      for (const cg::ProgramResult &r : p.results)
        writes |= r.bind && r.name == "dense/kernel" && r.buffer == l.args[a] && k.args[a].written;
    }
    if (passes[i] == NNC_PASS_FORWARD && reads) {
      ++first;
      same(cg::flopsOf(k), 0, 2 * 784 * 300 + 300); // the bias is added in the epilogue
      same(cg::bytesOf(k), 4 * (784 * 300 + 300), 4 * (784 + 300));
    }
    if (writes) { // k1 - rate * d over k1
      ++first;
      same(cg::flopsOf(k), 2 * 784 * 300, 2 * 784 * 300);
      same(cg::bytesOf(k), 4 * (2 * 784 * 300 + 1), 4 * (784 + 300));
    }
  }
  CHECK(first == 2);
  CHECK(products[NNC_PASS_FORWARD] == 3);
  CHECK(products[NNC_PASS_BACKWARD] == 2);
  CHECK(products[NNC_PASS_BACKWARD_UPDATE] == 3);
  CHECK(products[NNC_PASS_UPDATE] == 0);
  CHECK(others[NNC_PASS_BACKWARD_UPDATE] == 3); // biases: sums over the rows
  CHECK(others[NNC_PASS_FORWARD] >= 2);         // the image, the loss
  for (const char *name : {"eval_step", "init", "predict"})
    for (int64_t pass : cg::passesOf(*m, program(*c, name))) CHECK(pass == NNC_PASS_FORWARD);
}

TEST_CASE("cost: loops have the pass of what they compute", "[codegen][profile]") {
  auto m = test::loadModule("rnn");
  auto c = lower(*m);
  const cg::Program &p = program(*c, "train_step");
  const std::vector<int64_t> passes = cg::passesOf(*m, p);
  std::map<std::string, std::map<int64_t, int>> bodies;
  for (size_t i = 0; i < p.launches.size(); ++i)
    if (p.launches[i].function && p.launches[i].function != p.function)
      ++bodies[p.launches[i].function->name][passes[i]];
  REQUIRE(bodies.size() == 2);
  int forward = 0, backward = 0;
  for (auto &[name, counts] : bodies) {
    CHECK(counts.size() == 1);
    forward += counts.begin()->first == NNC_PASS_FORWARD;
    backward += counts.begin()->first == NNC_PASS_BACKWARD;
  }
  CHECK(forward == 1);
  CHECK(backward == 1);
}

TEST_CASE("cost: an update by itself is one", "[codegen][profile]") {
  auto m = test::loadModule("adam");
  auto c = lower(*m);
  const cg::Program &p = program(*c, "train_step");
  const std::vector<int64_t> passes = cg::passesOf(*m, p);
  for (size_t i = 0; i < p.launches.size(); ++i) {
    bool writesSlot = false;
    for (size_t a = 0; a < p.launches[i].args.size(); ++a) {
      const cg::Buffer &b = p.buffers[size_t(p.launches[i].args[a])];
      const ir::Persistent *s = b.persistent.empty() ? nullptr : m->persistent(b.persistent);
      const ir::Meta *kind = s ? s->meta.find("kind") : nullptr;
      writesSlot |= kind && *kind == ir::Meta("slot") && p.launches[i].kernel.args[a].written;
    }
    INFO(p.launches[i].kernel.name);
    CHECK((passes[i] == NNC_PASS_UPDATE || passes[i] == NNC_PASS_BACKWARD_UPDATE) >= writesSlot);
  }
}

TEST_CASE("cost: chunks of split sums count the rows that exist", "[codegen][profile]") {
  auto m = parse("func @predict batch 20000 (%x: f32[n,8]) {\n"
                 "  %s = reduce %x {kind=sum, dims=[0,1]} : f32[]\n"
                 "  return \"s\" = %s\n}\n");
  auto c = lower(*m);
  const cg::Program &p = program(*c, "predict");
  REQUIRE(p.launches.size() == 2); // partial sums, their sum
  cg::LinearCost flops = cg::flopsOf(p.launches[0].kernel);
  CHECK(flops.constant + 20000 * flops.perN == 160000);
  CHECK(flops.perN == 8);
  cg::LinearCost bytes = cg::bytesOf(p.launches[0].kernel);
  CHECK(bytes.perN == 32);
  CHECK(bytes.constant > 0); // the partial sums
  CHECK(bytes.constant <= 4 * 64);
}

TEST_CASE("cost: rows that a gather picks, not the whole table", "[codegen][profile]") {
  auto m = test::loadModule("embed");
  auto c = lower(*m);
  const cg::Program &p = program(*c, "predict");
  bool found = false;
  for (const Launch &l : p.launches)
    for (size_t a = 0; a < l.args.size(); ++a) {
      const cg::Buffer &b = p.buffers[size_t(l.args[a])];
      if (b.persistent.find("embed") == std::string::npos || b.type.rank() != 2) continue;
      found = true;
      const int64_t all = 4 * ir::elementCount(b.type.dims, 1);
      cg::LinearCost bytes = cg::bytesOf(l.kernel);
      INFO(l.kernel.name << " " << bytes.constant << " + " << bytes.perN << " n, table " << all);
      CHECK(bytes.perN > 0);
      CHECK(bytes.constant + bytes.perN < all);
    }
  CHECK(found);
}

TEST_CASE("cost: exp is what it is made of", "[codegen][profile]") {
  auto m = parse("func @predict batch 4 (%x: f32[n,8]) {\n"
                 "  %e = exp %x : f32[n,8]\n"
                 "  %y = add %e, %x : f32[n,8]\n"
                 "  return \"y\" = %y\n}\n");
  auto c = lower(*m);
  const cg::Program &p = program(*c, "predict");
  REQUIRE(p.launches.size() == 1);
  cg::LinearCost flops = cg::flopsOf(p.launches[0].kernel);
  CHECK(flops.constant == 0);
  CHECK(flops.perN % 8 == 0);
  CHECK(flops.perN > 8 * 10);
  CHECK(flops.perN < 8 * 40);
  CHECK(same(cg::bytesOf(p.launches[0].kernel), 0, 64));
}

TEST_CASE("cost: rows that a step's tokens name", "[codegen][profile]") {
  auto m = parse(R"(meta {"name": "table"}
persistent "t" : f32[1000,5] {"kind": "param"}
func @train_step batch 8 (%i: i32[n,2], %u: f32[n,2,5], %t: f32[1000,5] = "t") {
  %d = scatter_add %i, %u {axis=0} : f32[1000,5]
  %rate = constant {value=0.1} : f32[1000,5]
  %step = mul %rate, %d : f32[1000,5]
  %next = sub %t, %step : f32[1000,5]
  return state "t" = %next
}
func @init () {
  %z = constant {value=0} : f32[1000,5]
  return state "t" = %z
}
)");
  auto c = lower(*m);
  int found = 0;
  for (const Launch &l : program(*c, "train_step").launches) {
    if (l.kernel.cls != KernelClass::ScatterAdd) continue;
    ++found;
    CHECK(l.kernel.scatter.touched);
    same(cg::flopsOf(l.kernel), 0, 2 * 5 * (1 + 2));              // sum, rate * d, t - step
    // tokens, updates, rows there and back
    same(cg::bytesOf(l.kernel), 0, 4 * (2 + 2 * 5 + 2 * 2 * 5));
  }
  CHECK(found == 1);
}
