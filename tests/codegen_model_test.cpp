// Whole modules, compiled against interpreted, and against themselves.
//
// For every hand-written module of tests/ir: after `init`, some training steps on random data.
// Compiled results agree with the f64 interpreter within rounding; and the bits do not depend on
// fusion, threads, the order of items between barriers, the memory plan, or what dead memory holds.
#include "tests/compiled_model.h"
#include <catch2/catch.hpp>
#include <cmath>
#include <sstream>

using namespace nnc;
using nnc::test::CompiledModel;
using nnc::test::ItemOrder;
using nnc::test::loadModule;
using nnc::test::randomInputs;

namespace {

cg::CodegenOptions native() {
  cg::CodegenOptions o;
  std::string error;
  o.target = *cg::resolveTarget("native", error);
  return o;
}

void copyPersistents(const ir::Module &m, CompiledModel &from, ir::Interpreter &to) {
  for (const ir::Persistent &p : m.persistents) to.persistent(p.name) = from.persistent(p.name);
}

bool close(double got, double want, double tolerance) {
  if (std::isnan(want)) return std::isnan(got);
  return std::abs(got - want) <= tolerance * (1 + std::abs(want));
}

void requireClose(const std::string &what, const ir::Tensor &got, const ir::Tensor &want,
                  double tolerance) {
  INFO(what);
  REQUIRE(got.data.size() == want.data.size());
  for (size_t i = 0; i < got.data.size(); ++i) {
    INFO("element " << i << ": compiled " << got.data[i] << ", interpreted " << want.data[i]);
    REQUIRE(close(got.data[i], want.data[i], tolerance));
  }
}

const std::vector<std::string> kModules{"mlp",  "cnn", "bn",   "embed",  "attention", "gan",
                                        "adam", "rnn", "lstm", "nested", "tables",    "beside",
                                        "sums", "copied", "sequence"};

// .. and what rounds otherwise than the interpreter does.
std::vector<std::string> allModules() {
  std::vector<std::string> all = kModules;
  all.push_back("sums16");
  return all;
}

// init and `steps` training steps; the persistent bytes and the results of all steps, as one
// string.
std::string trainBits(const ir::Module &m, const cg::CodegenOptions &o, test::RunOptions run,
                      int64_t n, int steps = 3) {
  CompiledModel c(m, o);
  c.options = run;
  c.seed = 7;
  c.run("init", {});
  std::ostringstream bits;
  for (int s = 0; s < steps; ++s) {
    c.step = uint64_t(s);
    const auto results = c.run("train_step", randomInputs(*m.find("train_step"), n, 100 + s));
    for (const ir::Tensor &t : results)
      for (double v : t.data) bits << v << ' ';
  }
  for (const ir::Persistent &p : m.persistents) {
    bits << p.name << ' ';
    const ir::Tensor value = c.persistent(p.name);
    for (double v : value.data) bits.write(reinterpret_cast<const char *>(&v), sizeof v);
  }
  return bits.str();
}

} // namespace

TEST_CASE("compiled modules agree with the interpreter") {
  auto name = GENERATE(from_range(kModules));
  DYNAMIC_SECTION(name) {
    auto m = loadModule(name);
    CompiledModel c(*m, native());
    c.seed = 11;
    c.run("init", {});
    ir::Interpreter in(*m, ir::Precision::f64, 11);
    in.run("init", {});
    for (const ir::Persistent &p : m->persistents)
      requireClose("init " + p.name, c.persistent(p.name), in.persistent(p.name), 1e-5);
    for (std::string fn : {"train_step", "eval_step", "predict"}) {
      const ir::Function *f = m->find(fn);
      if (!f) continue;
      for (int64_t n : {f->batch, int64_t(1), std::max<int64_t>(1, f->batch - 1)}) {
        copyPersistents(*m, c, in);
        auto inputs = randomInputs(*f, n, uint64_t(n));
        auto got = c.run(fn, inputs);
        auto want = in.run(fn, inputs);
        REQUIRE(got.size() == want.size());
        for (size_t i = 0; i < got.size(); ++i)
          requireClose(fn + " result " + std::to_string(i) + " n=" + std::to_string(n), got[i],
                       want[i], 2e-4);
        for (const ir::Persistent &p : m->persistents)
          requireClose(fn + " " + p.name + " n=" + std::to_string(n), c.persistent(p.name),
                       in.persistent(p.name), 2e-4);
      }
    }
  }
}

TEST_CASE("bits do not depend on threads or item order or dead memory") {
  auto name = GENERATE(from_range(allModules()));
  DYNAMIC_SECTION(name) {
    auto m = loadModule(name);
    int64_t batch = m->find("train_step")->batch;
    for (int64_t n : {batch, std::max<int64_t>(1, batch - 1)}) {
      std::string reference = trainBits(*m, native(), {}, n);
      for (int threads : {1, 2, 3, 5})
        for (ItemOrder order : {ItemOrder::forward, ItemOrder::reversed, ItemOrder::shuffled}) {
          INFO(threads << " threads, order " << int(order) << ", n " << n);
          test::RunOptions run;
          run.threads = threads;
          run.order = order;
          run.shuffleSeed = uint64_t(threads) * 31 + uint64_t(n);
          run.poison = order != ItemOrder::forward;
          REQUIRE((trainBits(*m, native(), run, n) == reference));
        }
    }
  }
}

TEST_CASE("bits do not depend on the memory plan") {
  auto name = GENERATE(from_range(allModules()));
  DYNAMIC_SECTION(name) {
    auto m = loadModule(name);
    int64_t n = m->find("train_step")->batch;
    std::string reference = trainBits(*m, native(), {}, n);
    cg::CodegenOptions plain = native();
    plain.plan.inPlace = plain.plan.reuse = plain.plan.padded = false;
    plain.plan.allBarriers = true;
    REQUIRE((trainBits(*m, plain, {}, n) == reference));
  }
}

TEST_CASE("fusion does not change elementwise bits") {
  // Splits and lanes depend on shapes alone.
  auto name = GENERATE(from_range(allModules()));
  DYNAMIC_SECTION(name) {
    auto m = loadModule(name);
    int64_t n = m->find("train_step")->batch;
    cg::CodegenOptions unfused = native();
    unfused.fuse.fuse = false;
    REQUIRE((trainBits(*m, unfused, {}, n) == trainBits(*m, native(), {}, n)));
  }
}

TEST_CASE("no hazard in any plan") {
  auto name = GENERATE(from_range(allModules()));
  DYNAMIC_SECTION(name) {
    auto m = loadModule(name);
    auto c = cg::compile(*m, native(), cg::Emit::Memory);
    for (const cg::CompiledFunction &f : c->functions())
      for (int64_t n : {f.program.batch, int64_t(1)}) {
        INFO(f.program.function->name << " n " << n);
        REQUIRE(cg::checkHazards(f.program, f.plan, std::max<int64_t>(n, 1)) == "");
      }
  }
}
