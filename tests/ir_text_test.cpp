// The text form: printing what was parsed gives the same text, and any bytes give a module or one
// error with its place.
#include "ir/builder.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/growth.h"
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <sstream>

namespace {

using namespace nnc::ir;

std::string readFile(const std::filesystem::path &path) {
  std::ifstream f(path, std::ios::binary);
  std::stringstream s;
  s << f.rdbuf();
  return s.str();
}

std::vector<std::filesystem::path> moduleFiles() {
  std::vector<std::filesystem::path> files;
  for (const auto &entry : std::filesystem::directory_iterator(NNC_SOURCE_DIR "/tests/ir"))
    if (entry.path().extension() == ".ir") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::unique_ptr<Module> parsed(const std::string &text) {
  TextError e;
  auto m = parseModule(text, e);
  INFO(text);
  INFO(e.line << ":" << e.column << ": " << e.message);
  REQUIRE(m);
  return m;
}

// Text of the module, after checking that it reads back to itself.
std::string roundTrip(const Module &m) {
  std::string text = print(m);
  auto again = parsed(text);
  REQUIRE(print(*again) == text);
  REQUIRE(again->meta == m.meta);
  REQUIRE(again->locs == m.locs);
  REQUIRE(print(*parsed(print(m, {.comments = true}))) == text);
  return text;
}

TEST_CASE("the hand-written modules verify and read back", "[ir][text]") {
  std::set<std::string> names;
  for (const auto &path : moduleFiles()) {
    INFO(path);
    auto m = parsed(readFile(path));
    REQUIRE(verify(*m) == "");
    roundTrip(*m);
    names.insert(path.stem());
  }
  for (const char *n : {"adam", "attention", "bn", "cnn", "embed", "gan", "mlp", "rnn"})
    CHECK(names.count(n));
}

// A function with every operation of the table, by the builder.
void addPointwise(Builder &b, std::map<DType, V> &x) {
  for (int i = 0; i < kOpCount; ++i) {
    Op op = Op(i);
    if (!isPointwise(op)) continue;
    V v = info(op).cls == TypeClass::B ? x.at(DType::boolean) : x.at(DType::f32);
    b.make(op, std::vector<ValueId>(size_t(info(op).arity), v));
  }
}

void addTensorOps(Builder &b, V x, V index, V flag) { // x f32[n,6,4], index i32[n,6], flag bool
  const Type t = x.type();
  V c = b.constant({0.1, -0.0, 1e-300, INFINITY, -INFINITY, NAN}, {DType::f64, {6}});
  b.constant(16777217, {DType::i64, {}});
  b.select(flag, x, b.like(-0.0, x));
  b.cast(c, DType::bf16);
  b.iota(2, t);
  b.size({2, 1});
  b.random("drop \"out\"\n", t);
  b.broadcast(x, {0, 2, 3}, {Dim::batch(), 2, 6, 4});
  V flat = b.reshape(x, {Dim(6, 0), 4});
  b.transpose(x, {2, 0, 1});
  b.slice(x, {0, 1, 0}, {Dim::batch(), 6, 4}, {1, 2, 1});
  b.reverse(x, {2, 1});
  b.pad(x, {0, 1, 0}, {2, 0, Dim::batch()}, -INFINITY);
  b.concat({flat, flat}, 0);
  WindowAttr a{1, {2, 3}, {2, 1}, {1, 1}, {0, 1}, {0, 1}, {6, 4}, -INFINITY};
  b.unwindow(b.window(x, a), a);
  for (ReduceKind k : {ReduceKind::sum, ReduceKind::prod, ReduceKind::max, ReduceKind::min})
    b.reduce(k, x, {0, 2});
  b.maxIndex(x, {1, 2});
  b.cumsum(x, 1, true, true);
  b.sort(x, 2, true);
  b.contract(x, x, "b, -2i+3u-1, c", "b, 2i+5, c", "u, c", {{"i", 2}, {"u", 3}});
  b.contract(b.size(7), b.size(7), "", "", "");
  V table = b.like(1, flat);
  V rows = b.gather(table, index, 0);
  b.scatterAdd(index, rows, 0, flat.type());
  V loss = b.sum(x, {0, 1, 2});
  b.grad(loss, {x, flat});
  b.call("callee", {x, loss}, "gradient");
  b.scan({"body", 1, {1}, {0}, 6, true}, {b.sum(x, {1}), x, loss});
}

void addCallees(Module &m) {
  const Type x{DType::f32, {Dim::batch(), 6, 4}}, row{DType::f32, {Dim::batch(), 4}},
      s{DType::f32, {}};
  Function &callee = m.add("callee", 8);
  Builder c(m, callee);
  c.result("y", c.param("x", x));
  c.param("s", s);
  Function &gradient = m.add("gradient", 8);
  Builder g(m, gradient);
  V dx = g.param("", x), ds = g.param("", s);
  g.param("y", x), g.param("dy", x);
  g.result("", dx), g.result("", ds);
  Function &body = m.add("body", 8);
  Builder b(m, body);
  V h = b.param("h", row), xt = b.param("x", row);
  b.param("s", s);
  b.result("h", h + xt), b.result("y", xt);
}

TEST_CASE("every operation prints and parses", "[ir][text]") {
  Module m;
  addCallees(m);
  Function &f = m.add("all", 8);
  Builder b(m, f);
  b.loc = m.addLoc({"dir/a \"b\".nn", 3, 14, m.addLoc({"lib.nn", 1, 2, {}})});
  V x = b.param("x", {DType::f32, {Dim::batch(), 6, 4}});
  V index = b.param("index", {DType::i32, {Dim::batch(), 6}});
  V flag = b.param("flag", {DType::boolean, x.type().dims});
  std::map<DType, V> by{{DType::f32, x}, {DType::boolean, flag}};
  addPointwise(b, by);
  addTensorOps(b, x, index, flag);
  f.nodes[3].remat = f.nodes.back().remat = true;
  REQUIRE(verify(m) == "");

  std::set<Op> used;
  for (const Node &n : f.nodes) used.insert(n.op);
  for (int i = 0; i < kOpCount; ++i) {
    INFO(info(Op(i)).name);
    CHECK(used.count(Op(i)));
    Op back;
    REQUIRE(parseOp(info(Op(i)).name, back));
    CHECK(back == Op(i));
  }

  auto again = parsed(roundTrip(m));
  REQUIRE(verify(*again) == "");
  const Function &g = *again->find("all");
  REQUIRE(g.nodes.size() == f.nodes.size());
  for (size_t i = 0; i < f.nodes.size(); ++i) {
    INFO(info(f.nodes[i].op).name);
    CHECK(g.nodes[i].attr == f.nodes[i].attr);
    CHECK(hashAttr(g.nodes[i].attr) == hashAttr(f.nodes[i].attr));
    CHECK(g.nodes[i].operands == f.nodes[i].operands);
    CHECK(g.nodes[i].loc == f.nodes[i].loc);
    CHECK(g.nodes[i].remat == f.nodes[i].remat);
  }
}

TEST_CASE("the text is as documented", "[ir][text]") {
  const std::string text = R"(nnc-ir 1
meta {"name": "classifier", "rate": 0.001, "big": 1e+300, "deep": [[], {}, null, true, -7, "\u0001é"]}
persistent "net/kernel" : f32[784,10] {"kind": "param"}

func @predict batch 32 (%image: u8[n,28,28], %kernel: f32[784,10] = "net/kernel") {
  %x = cast %image : f32[n,28,28] @1
  %flat = reshape %x {remat} : f32[n,784] @1
  %0 = contract %flat, %kernel {x "b, i", w "i, o", y "b, o"} : f32[n,10] @2
  %top, %1 = max_index %0 {dims=[1]} : f32[n], i32[n]
  return "output" = %0, state "net/kernel" = %kernel, "top" = %top, %1
}

func @nothing () {
  return
}

loc @1 = "net.nn":3:5
loc @2 = "dense.nn":9:7 from @1
)";
  auto m = parsed(text);
  CHECK(verify(*m) == "");
  CHECK(print(*m) == text);
  CHECK(str(*m, Loc{2}) == "dense.nn:9:7");
  CHECK(str(*m, Loc{2}, true) == "dense.nn:9:7, from net.nn:3:5");
  CHECK(print(*m, *m->functions[0], {.comments = true}).find("@2  # dense.nn:9\n") !=
        std::string::npos);
}

TEST_CASE("doubles survive the text bit for bit", "[ir][text]") {
  Module m;
  Function &f = m.add("f", 0);
  Builder b(m, f);
  std::mt19937_64 random(1);
  std::vector<double> data{0.0, -0.0, 5e-324, 1.7976931348623157e308, 1.0 / 3};
  while (data.size() < 500) {
    double d;
    uint64_t bits = random();
    std::memcpy(&d, &bits, 8);
    if (!std::isnan(d)) data.push_back(d);
  }
  b.constant(data, {DType::f64, {int64_t(data.size())}});
  auto again = parsed(roundTrip(m));
  CHECK(again->functions[0]->nodes[0].attr == f.nodes[0].attr); // equality is of bits
}

TEST_CASE("JSON", "[ir][text]") {
  Meta m;
  std::string error;
  REQUIRE(parseJson(" {\"a\": [1, 2.5, -3e2, \"\\ud83d\\ude00\\t\"], \"b\": {}} ", m, error));
  CHECK(toJson(m) == "{\"a\": [1, 2.5, -300.0, \"\xf0\x9f\x98\x80\\t\"], \"b\": {}}");
  CHECK(m.find("a")->asList()->size() == 4);
  CHECK(m.find("c") == nullptr);
  m["c"]["d"] = Meta(INFINITY);
  m["e"].push(1);
  CHECK(toJson(m["c"]) == "{\"d\": \"inf\"}");
  Meta back;
  REQUIRE(parseJson(toJson(m, 2), back, error));
  CHECK(toJson(back) == toJson(m));
  for (const char *bad : {"", "{", "[1,]", "[1 2]", "{\"a\" 1}", "{a: 1}", "\"\\x\"", "\"\\ud800\"",
                          "nul", "01x", "1e999", "inf", "[] []", "\"a", "{,}"})
    CHECK(!parseJson(bad, m, error));
  CHECK(error.find(" at offset ") != std::string::npos);
  CHECK(parseJson(std::string(200, '[') + std::string(200, ']'), m, error));
  CHECK(!parseJson(std::string(100000, '['), m, error));
  CHECK(error.find("nested too deeply") == 0);
}

TEST_CASE("errors have a place and say what is wrong", "[ir][text]") {
  const std::string head = "nnc-ir 1\n", open = head + "func @f batch 4 (%x: f32[n]) {\n  ";
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "1:1: expected `nnc-ir 1` at the start"},
      {"nnc-ir 2", "1:8: this is not version 1 of the format"},
      {head + "thing", "2:1: expected meta, persistent, func or loc, found `thing`"},
      {head + "meta {\"a\" 1}", "2:11: expected `:`"},
      {head + "persistent \"a\" : f33[1]", "2:18: expected a type such as f32[n,10], found `f33`"},
      {head + "persistent \"a\" : f32[-1]", "2:18: a size is never negative"},
      {head + "func @f (%x: f32[n], %x: f32[n])", "2:22: %x is defined twice"},
      {open + "%y = foo %x : f32[n]", "3:8: there is no operation foo"},
      {open + "%y = exp %z : f32[n]", "3:12: there is no value %z before this place"},
      {open + "%y = exp %x {a=1} : f32[n]", "3:16: exp has no attribute `a`"},
      {open + "%y = iota {dim=0, dim=0} : f32[n]", "3:21: attribute `dim` is given twice"},
      {open + "%y = iota {dim=z} : f32[n]", "3:18: expected an integer, found `z`"},
      {open + "%y, %z = exp %x : f32[n]", "3:3: expected a type for each result"},
      {open + "%y = exp %x : f32[n] return }\n", "3:3: exp gives"},
      {open + "%y = exp %x : f32[n] @1\n return }", "3:3: there is no location @1"},
      {open + "%y = exp %x : f32[m]", "3:21: expected a size such as 3, n or 2n+1, found `m`"},
      {open + "%y = exp %x", "3:14: expected `:`, found the end"},
      {open + "return \"a\" %x }", "3:14: expected `=`, found `%`"},
      {head + "loc @2 = \"a\":1:1", "2:5: locations are numbered from 1 on, expected @1"},
      {head + "loc @1 = \"a\":1:1 from @1",
       "2:5: a location comes after the one it is called from"},
      {head + "loc @1 = \"a\":1:1\nloc @2 = \"a\":1:1", "3:5: a location is given twice"},
      {head + "loc @1 = \"a\":1:-1", "2:16: expected a number that is not negative"},
      {head + "loc @1 = \"a", "2:12: string without an end"},
  };
  for (const auto &[text, expected] : cases) {
    TextError e;
    std::string source = text;
    if (expected == "3:3: exp gives") source.replace(source.rfind("f32[n]"), 6, "f64[n]");
    INFO(source);
    REQUIRE(!parseModule(source, e));
    std::string found = std::to_string(e.line) + ":" + std::to_string(e.column) + ": " + e.message;
    CHECK(found.substr(0, expected.size()) == expected);
  }
}

// Whatever the text is, the result can be looked at.
void survives(const std::string &text) {
  TextError e;
  if (auto m = parseModule(text, e)) {
    verify(*m);
    print(*m);
  } else if (e.message.empty() || e.line < 1 || e.column < 1) {
    FAIL("an error without a message or a place");
  }
}

TEST_CASE("truncated modules give a module or an error", "[ir][text]") {
  for (const auto &path : moduleFiles()) {
    std::string text = readFile(path);
    for (size_t n = 0; n < text.size(); n += 7) survives(text.substr(0, n));
  }
  SUCCEED();
}

TEST_CASE("damaged modules give a module or an error", "[ir][text]") {
  std::mt19937 random(7);
  const std::string likely = "%@\"{}[](),:=#n-+0129exw \n";
  for (const auto &path : moduleFiles()) {
    const std::string text = readFile(path);
    for (int round = 0; round < 400; ++round) {
      std::string damaged = text;
      for (unsigned k = random() % 4 + 1; k > 0; --k) {
        size_t at = random() % damaged.size();
        if (random() % 2)
          damaged[at] = char(random());
        else if (random() % 2)
          damaged[at] = likely[random() % likely.size()];
        else
          damaged.erase(at, random() % 20);
      }
      survives(damaged);
    }
  }
  SUCCEED();
}

TEST_CASE("hostile numbers give an error", "[ir][text]") {
  const std::string head = "nnc-ir 1\nfunc @f batch 2147483647 (%x: f32[n,281474976710656n]) {\n";
  survives(head + "return }");
  survives("nnc-ir 1\nfunc @f batch 9 (%x: f32[281474976710656n-281474976710655]) {\n"
           "%y = pad %x {low=[281474976710656], high=[281474976710656n]} : f32[n]\n"
           "%z = reshape %x : f32[281474976710656n-281474976710655,281474976710656n]\nreturn }");
  survives("nnc-ir 1\nfunc @f (%x: f32[3]) {\n%y = window %x {dim=-9223372036854775808, "
           "size=[2147483647],"
           " stride=[1], dilation=[2147483647], low=[2147483647], high=[2147483647], extent=[3]} : "
           "f32[3]\nreturn }");
  survives(
      "nnc-ir 1\nfunc @f (%x: f32[3]) {\n%y = scan %x {body=\"f\", carries=9223372036854775807, "
      "xs=[0], length=9223372036854775807} : f32[3]\nreturn %y }");
  survives("nnc-ir 1\nfunc @f (%x: f32[3]) {\n%y = call %x {callee=\"f\"} : f32[3]\nreturn %y }");
  std::string form;
  for (int i = 0; i < 5000; ++i) form += "l" + std::to_string(i) + "+";
  survives("nnc-ir 1\nfunc @f (%x: f32[3]) {\n%y = contract %x, %x {x \"" + form +
           "1\"} : f32[3]\n");
}

TEST_CASE("a hundred thousand nodes build, print, parse and verify in linear time", "[ir][text]") {
  auto work = [](size_t nodes) {
    Module m;
    Function &f = m.add("f", 32);
    Builder b(m, f);
    V x = b.param("x", {DType::f32, {Dim::batch(), 10}});
    for (int i = 0; i < int(nodes / 2); ++i) {
      b.loc = m.addLoc({"model.nn", i, 1, Loc{i ? 1 : 0}});
      if (i % 2) b.hint = "y"; // equal hints, as loops over layers make
      x = x * 0.5;
    }
    b.result("y", x);
    REQUIRE(f.nodes.size() == nodes);
    CHECK(verify(m) == "");
    roundTrip(m);
  };
  CHECK(nnc::test::growsLinearly(25000, work));
}

} // namespace
