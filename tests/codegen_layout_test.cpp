// Layouts as data: index arithmetic against digits spelled out, and padded weights that change no
// bit.
#include "codegen/fuse.h"
#include "ir/builder.h"
#include "ir/passes.h"
#include "ir/text.h"
#include "tests/compiled_model.h"
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>
#include <set>

using namespace nnc;
using nnc::test::CompiledModel;

namespace {

int64_t evaluate(const cg::Kernel &k, const cg::Index &x, const std::vector<int64_t> &axes) {
  int64_t v = x.c0;
  for (const cg::Term &t : x.terms) {
    const cg::Atom &a = k.atoms[size_t(t.atom)];
    int64_t inner = a.kind == cg::Atom::Axis ? axes[size_t(a.axis)] : evaluate(k, a.inner, axes);
    if (a.kind == cg::Atom::Div) inner /= a.by;
    if (a.kind == cg::Atom::Mod) inner %= a.by;
    v += t.coef * inner;
  }
  return v;
}

// y = relu(x w1) w2, loss mean y^2, momentum on both weights; 256 columns are 1 KiB.
std::unique_ptr<ir::Module> twoLayers() {
  auto m = std::make_unique<ir::Module>();
  ir::Type w1{ir::DType::f32, {16, 256}}, w2{ir::DType::f32, {256, 512}};
  for (auto [name, type] : {std::pair{"w1", w1}, {"w2", w2}, {"m1", w1}, {"m2", w2}})
    m->persistents.push_back({name, type, ir::Meta::dict()});
  ir::Function &f = m->add("train_step", 8);
  ir::Builder b(*m, f);
  auto x = b.param("x", {ir::DType::f32, {ir::Dim::batch(), 16}});
  auto a = b.param("w1", w1, "w1"), c = b.param("w2", w2, "w2");
  auto ma = b.param("m1", w1, "m1"), mc = b.param("m2", w2, "m2");
  auto z = b.matmul(x, a);
  auto h = b.select(b.binary(ir::Op::le_, z, b.like(0, z)), b.like(0, z), z);
  auto y = b.matmul(h, c);
  auto loss = b.sum(y * y, {0, 1}) / 4096.0;
  auto g = b.grad(loss, {a, c});
  auto na = ma * 0.9 + g[0], nc = mc * 0.9 + g[1];
  b.result("loss", loss);
  b.result("m1", na, true);
  b.result("m2", nc, true);
  b.result("w1", a - na * 0.01, true);
  b.result("w2", c - nc * 0.01, true);
  ir::runGradient(*m, {});
  ir::runOptimize(*m, {});
  return m;
}

cg::CodegenOptions options(bool padded) {
  cg::CodegenOptions o;
  std::string error;
  o.target = *cg::resolveTarget("native", error);
  o.plan.padded = padded;
  return o;
}

ir::Tensor values(std::vector<int64_t> dims, double scale) {
  ir::Tensor t;
  t.dims = dims;
  int64_t count = 1;
  for (int64_t d : dims) count *= d;
  for (int64_t i = 0; i < count; ++i)
    t.data.push_back(double(float(scale * std::sin(0.7 * double(i) + 0.1))));
  return t;
}

} // namespace

TEST_CASE("digits place every element once, where they say") {
  std::mt19937_64 random(9);
  for (int round = 0; round < 200; ++round) {
    // Two dimensions, each in one or two digits, in a random order that keeps a dimension's digits
    // in turn.
    int64_t sizes[2] = {1 + int64_t(random() % 9), 1 + int64_t(random() % 9)};
    cg::Layout l;
    std::vector<int32_t> dims{0, 1};
    int64_t inner[2] = {1 + int64_t(random() % 4), 1 + int64_t(random() % 4)};
    for (int32_t d : {0, 1})
      if (random() % 2) dims.push_back(d);
    std::shuffle(dims.begin(), dims.end(), random);
    for (size_t i = 0; i < dims.size(); ++i) {
      int32_t d = dims[i];
      bool two = std::count(dims.begin(), dims.end(), d) == 2;
      bool first = std::find(dims.begin(), dims.end(), d) == dims.begin() + int64_t(i);
      int64_t whole = sizes[d] + int64_t(random() % 3);
      l.digits.push_back({d, !two ? whole : first ? (whole + inner[d] - 1) / inner[d] : inner[d]});
    }
    cg::Kernel k;
    k.batch = 1;
    std::vector<cg::Index> at{k.axisIndex(k.axis("i", sizes[0])),
                              k.axisIndex(k.axis("j", sizes[1]))};
    ir::Dims shape{sizes[0], sizes[1]};
    cg::Index flat = cg::placeOf(k, l, shape, at, 1);
    std::set<int64_t> places;
    for (int64_t i = 0; i < sizes[0]; ++i)
      for (int64_t j = 0; j < sizes[1]; ++j) {
        int64_t rest[2] = {i, j}, want = 0, stride = 1;
        for (size_t d = l.digits.size(); d-- > 0;) {
          int64_t &r = rest[l.digits[d].dim];
          want += r % l.digits[d].size * stride;
          r /= l.digits[d].size;
          stride *= l.digits[d].size;
        }
        int64_t got = evaluate(k, flat, {i, j});
        REQUIRE(got == want);
        REQUIRE((got >= 0 && got < cg::placesOf(l, shape, 1)));
        REQUIRE(places.insert(got).second);
      }
  }
}

TEST_CASE("weights with rows a power of two apart are padded and no bit changes") {
  auto m = twoLayers();
  std::string bits[2];
  for (bool padded : {false, true}) {
    CompiledModel c(*m, options(padded));
    int withDigits = 0;
    for (int64_t i = 0; i < c.model().tensor_count; ++i)
      withDigits += c.model().tensors[i].digit_count > 0;
    REQUIRE(withDigits == (padded ? 4 : 2)); // w2 and m2 lie turned in both: 8 rows, sums of 256
    c.setPersistent("w1", values({16, 256}, 0.2));
    c.setPersistent("w2", values({256, 512}, 0.1));
    c.options.threads = padded ? 3 : 1;
    auto note = [&](const ir::Tensor &t) {
      for (double v : t.data) bits[padded].append(reinterpret_cast<const char *>(&v), sizeof v);
    };
    for (int step = 0; step < 4; ++step) note(c.run("train_step", {values({8, 16}, 1 + step)})[0]);
    for (const char *name : {"w1", "w2", "m1", "m2"}) note(c.persistent(name));
    auto plan = cg::compile(*m, options(padded), cg::Emit::Memory);
    for (const cg::CompiledFunction &f : plan->functions()) {
      REQUIRE(cg::checkHazards(f.program, f.plan, 8) == "");
      // still in place: no copies at the end of the step
      for (const cg::Launch &l : f.program.launches)
        REQUIRE(l.kernel.name.find("(copy)") == std::string::npos);
    }
  }
  REQUIRE(bits[0].size() == bits[1].size());
  for (size_t i = 0; i < bits[0].size(); i += sizeof(double)) {
    double plain, padded;
    std::memcpy(&plain, &bits[0][i], sizeof plain);
    std::memcpy(&padded, &bits[1][i], sizeof padded);
    INFO("value " << i / sizeof plain << ": row-major " << plain << ", padded " << padded);
    REQUIRE(plain == padded);
  }
}

TEST_CASE("a weight that is read through a reshape stays row-major") {
  ir::Module m;
  ir::Type w{ir::DType::f32, {16, 256}};
  m.persistents.push_back({"w", w, ir::Meta::dict()});
  ir::Function &f = m.add("predict", 4);
  ir::Builder b(m, f);
  auto x = b.param("x", {ir::DType::f32, {ir::Dim::batch(), 16}});
  auto a = b.param("w", w, "w");
  b.result("y", b.contract(x, b.reshape(a, {16, 4, 64}), "b, i", "i, h, e", "b, h, e"));
  REQUIRE(cg::chooseLayouts(m).empty());
}

namespace {

// z = x @ w, and an update of w and of its moment, for so many rows.
std::unique_ptr<ir::Module> fewRows(int64_t rows) {
  auto m = std::make_unique<ir::Module>();
  ir::Type w{ir::DType::f32, {128, 96}};
  for (const char *name : {"w", "m"}) m->persistents.push_back({name, w, ir::Meta::dict()});
  ir::Function &f = m->add("train_step", rows);
  ir::Builder b(*m, f);
  auto x = b.param("x", {ir::DType::f32, {ir::Dim::batch(), 128}});
  auto a = b.param("w", w, "w"), moment = b.param("m", w, "m");
  auto z = b.contract(x, a, "n, k", "k, o", "n, o");
  auto g = b.contract(x, z, "n, k", "n, o", "k, o");
  auto newMoment = moment * 0.9 + g;
  b.result("z", z);
  b.result("w", a - newMoment, true);
  b.result("m", newMoment, true);
  return m;
}

} // namespace

TEST_CASE(
    "weights of products with few rows lie with their outputs as rows, and so do their moments") {
  const cg::Layout turned{{{1, 96}, {0, 128}}};
  const cg::Layouts layouts = cg::chooseLayouts(*fewRows(32));
  REQUIRE(layouts.size() == 2);
  REQUIRE(layouts.at("w") == turned);
  REQUIRE(layouts.at("m") == turned);
  REQUIRE(cg::chooseLayouts(*fewRows(65)).empty());
}

TEST_CASE("a thread reads the part of a weight that it updates") {
  auto m = fewRows(32);
  cg::CodegenOptions o = options(true);
  std::string error;
  o.target = *cg::resolveTarget("x86-64-v4", error); // how many items there are depends on it
  auto plan = cg::compile(*m, o, cg::Emit::Kernels);
  int products = 0;
  for (const cg::CompiledFunction &f : plan->functions())
    for (const cg::Launch &l : f.program.launches) {
      const cg::Kernel &k = l.kernel;
      if (k.cls != cg::KernelClass::Contract) continue;
      INFO(cg::print(k, true));
      ++products;
      // Both are cut along o first, so the first half of the items is the first half of o's runs.
      REQUIRE(!k.schedule.items.empty());
      REQUIRE(k.axes[size_t(k.schedule.items[0].axis)].extent.b == 96);
    }
  REQUIRE(products == 2);
}

namespace {

// A loop that slices p and stacks ys along their second dimension, and multiplies by `weight`;
// `rest` reads them, `results` are returned.
std::unique_ptr<ir::Module> sequence(const std::string &rest, const std::string &results,
                                     const std::string &type = "f32",
                                     const std::string &weight = "%u") {
  std::string text =
      "nnc-ir 1\n"
      "func @body batch 8 (%h: f32[n,256], %x: f32[n,256], %u: f32[256,256]) {\n"
      "  %z = contract %h, %u {x \"m, k\", w \"k, n\", y \"m, n\"} : f32[n,256]\n"
      "  %s = add %z, %x : f32[n,256]\n"
      "  %y = tanh %s : f32[n,256]\n"
      "  return %y, %y\n"
      "}\n"
      "func @f batch 8 (%x: f32[n,6,16], %w: f32[16,256], %u: f32[256,256], %v: f32[n,6,256], %g: "
      "f32[6,n,256]) {\n"
      "  %h0 = constant {value=0} : f32[n,256]\n"
      "  %p = contract %x, %w {x \"m, t, k\", w \"k, n\", y \"m, t, n\"} : f32[n,6,256]\n"
      "  %turned = transpose %u {perm=[1,0]} : f32[256,256]\n"
      "  %h, %ys = scan %h0, %p, " +
      weight +
      " {body=\"body\", carries=1, xs=[1], ys=[1], length=6, reverse=false}"
      " : f32[n,256], f32[n,6,256]\n" +
      rest + "  return " + results + "\n}\n";
  for (size_t at = 0; (at = text.find("f32", at)) != std::string::npos; at += type.size())
    text.replace(at, 3, type);
  ir::TextError e;
  auto m = ir::parseModule(text, e);
  INFO(text << e.line << ": " << e.message);
  REQUIRE(m);
  return m;
}

// The digits of a value's own layout, as in layout.h; empty: row-major.
std::string ownLayout(const ir::Module &m, const std::string &name, bool pads = true) {
  const ir::Function &f = *m.find("f");
  const auto layouts = cg::ownLayouts(m, f, pads);
  for (size_t v = 0; v < f.values.size(); ++v)
    if (f.values[v].name == name) {
      std::string text;
      if (auto it = layouts.find(int32_t(v)); it != layouts.end())
        for (const cg::Digit &d : it->second.digits)
          text += "(" + std::to_string(d.dim) + "," + std::to_string(d.size) + ")";
      return text;
    }
  FAIL("no value " << name);
  return "";
}

} // namespace

TEST_CASE(
    "what a loop slices and stacks lies with the scanned dimension outermost, unless others mind") {
  const std::string moved = "(1,6)(0,8)(2,256)";
  auto plain = sequence("", "\"h\" = %h");
  REQUIRE(ownLayout(*plain, "p") == moved);
  REQUIRE(ownLayout(*plain, "ys") == moved);

  // Rows of 1 KiB get a line more where a product or a sum goes down them.
  auto down = sequence("  %s = reduce %ys {kind=sum, dims=[0,1]} : f32[256]\n", "\"s\" = %s");
  REQUIRE(ownLayout(*down, "ys") == "(1,6)(0,8)(2,272)");
  REQUIRE(ownLayout(*down, "ys", false) == moved);
  auto along = sequence("  %s = reduce %ys {kind=sum, dims=[2]} : f32[n,6]\n", "\"s\" = %s");
  REQUIRE(ownLayout(*along, "ys") == moved);

  // Others know where these lie.
  REQUIRE(ownLayout(*sequence("", "\"ys\" = %ys"), "ys") == "");
  auto shaped =
      sequence("  %r = reshape %ys : f32[n,1536]\n  %s = neg %r : f32[n,1536]\n", "\"s\" = %s");
  REQUIRE(ownLayout(*shaped, "ys") == "");
  REQUIRE(ownLayout(*shaped, "p") == moved);

  // A product with a value that lies by rows would jump as often as the loop does now, two of them
  // more often; one with a value that lies by steps speaks for the move.
  const std::string byRows = " = contract %x, %ys {x \"m, t, k\", w \"m, t, n\", y \"k, n\"} : f32[16,256]\n";
  auto one = sequence("  %a" + byRows + "  %b = contract %g, %ys {x \"t, m, k\", w \"m, t, n\", y \"k, n\"} : f32[256,256]\n",
                      "\"a\" = %a, \"b\" = %b");
  REQUIRE(ownLayout(*one, "ys") == "(1,6)(0,8)(2,272)");
  auto two = sequence("  %a" + byRows + "  %c = neg %x : f32[n,6,16]\n"
                      "  %b = contract %v, %ys {x \"m, t, k\", w \"m, t, n\", y \"k, n\"} : f32[256,256]\n",
                      "\"a\" = %a, \"b\" = %b");
  REQUIRE(ownLayout(*two, "ys", false) == "");
  REQUIRE(ownLayout(*two, "ys") == "(0,8)(1,6)(2,272)");

  REQUIRE(ownLayout(*sequence("", "\"h\" = %h", "f64"), "ys") == moved);
  REQUIRE(ownLayout(*sequence("", "\"h\" = %h", "bf16"), "ys") == "");

  // What pointwise nodes join lies alike.
  auto joined = sequence(
      "  %d = mul %ys, %p : f32[n,6,256]\n  %s = reduce %d {kind=sum, dims=[2]} : f32[n,6]\n",
      "\"s\" = %s");
  REQUIRE(ownLayout(*joined, "d") == moved);
}

TEST_CASE("what rounds multiply by has its rows off powers of two, and no bit changes") {
  auto m = sequence("", "\"h\" = %h", "f32", "%turned");
  REQUIRE(ownLayout(*m, "turned") == "(0,256)(1,272)");
  REQUIRE(ownLayout(*m, "turned", false) == "");
  REQUIRE(ownLayout(*sequence("", "\"h\" = %h"), "turned") == ""); // no loop reads it
  CompiledModel padded(*m, options(true)), plain(*m, options(false));
  for (int64_t n : {8, 3}) {
    const auto inputs = test::randomInputs(*m->find("f"), n, uint64_t(n));
    REQUIRE(padded.run("f", inputs)[0].data == plain.run("f", inputs)[0].data);
  }
}

TEST_CASE("a product sums in the order in which its operands lie") {
  auto m = sequence(
      "  %b = contract %g, %ys {x \"t, m, k\", w \"m, t, n\", y \"k, n\"} : f32[256,256]\n",
      "\"b\" = %b");
  const auto compiled = cg::compile(*m, options(true), cg::Emit::Kernels);
  bool found = false;
  for (const cg::Launch &l : compiled->functions()[0].program.launches) {
    if (l.kernel.name != "b") continue;
    found = true;
    const auto &k = l.kernel;
    std::vector<std::string> names;
    for (cg::AxisId a : k.contract.k) names.push_back(k.axes[size_t(a)].name);
    REQUIRE(names == std::vector<std::string>{"t", "m"});
  }
  REQUIRE(found);
  CompiledModel c(*m, options(true));
  for (int64_t n : {8, 5, 1}) {
    ir::Interpreter in(*m, ir::Precision::f64, 1);
    const auto inputs = test::randomInputs(*m->find("f"), n, uint64_t(n));
    const auto want = in.run("f", inputs);
    std::vector<ir::Tensor> first;
    for (int threads : {1, 2, 3, 5}) {
      c.options.threads = threads;
      const auto got = c.run("f", inputs);
      if (threads == 1) first = got;
      REQUIRE(got[0].data == first[0].data);
      REQUIRE(got[0].data.size() == want[0].data.size());
      for (size_t i = 0; i < got[0].data.size(); ++i)
        REQUIRE(std::abs(got[0].data[i] - want[0].data[i]) < 1e-3);
    }
  }
}
