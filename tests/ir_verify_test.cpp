// The verifier: each invariant of verify.cpp's list, broken on purpose.
#include "ir/builder.h"
#include "ir/text.h"
#include "ir/verify.h"
#include <catch2/catch.hpp>
#include <functional>

namespace {

using namespace nnc::ir;

const char *const kModule = R"(nnc-ir 1
persistent "w" : f32[3] {"kind": "param"}
persistent "s" : f32[] {"kind": "state"}

func @step batch 4 (%x: f32[n,3], %w: f32[3] = "w", %s: f32[] = "s") {
  %wide = broadcast %w {dims=[1]} : f32[n,3] @1
  %y = mul %x, %wide : f32[n,3] @2
  %z = call %y {callee="double", gradient="double_grad"} : f32[n,3]
  %top, %at = max_index %z {dims=[0]} : f32[3], i32[3]
  %loss = reduce %z {kind=sum, dims=[0,1]} : f32[]
  %dw = grad %loss wrt %w : f32[3]
  return "top" = %top, state "w" = %dw, state "s" = %loss
}

func @double batch 4 (%x: f32[n,3]) {
  %y = add %x, %x : f32[n,3]
  return %y
}

func @double_grad batch 4 (%x: f32[n,3], %y: f32[n,3], %dy: f32[n,3]) {
  %dx = add %dy, %dy : f32[n,3]
  return %dx
}

func @small (%x: f32[3]) {
  return %x
}

loc @1 = "model.nn":4:3
loc @2 = "layer.nn":2:1 from @1
)";

std::unique_ptr<Module> good() {
  TextError e;
  auto m = parseModule(kModule, e);
  INFO(e.line << ":" << e.column << ": " << e.message);
  REQUIRE(m);
  REQUIRE(verify(*m) == "");
  return m;
}

void breaks(const std::string &expected, const std::function<void(Module &, Function &)> &how) {
  auto m = good();
  how(*m, *m->functions[0]);
  std::string e = verify(*m);
  INFO("expected: " << expected << "\nfound:    " << e);
  CHECK((!e.empty() && e.find(expected) != std::string::npos));
}

TEST_CASE("invariants of a module", "[ir][verify]") {
  breaks("location 0 must be empty", [](Module &m, Function &) { m.locs[0].line = 1; });
  breaks("location 1: its parent must come before it",
         [](Module &m, Function &) { m.locs[1].parent = {2}; });
  breaks("a persistent value has no name",
         [](Module &m, Function &) { m.persistents[0].name = ""; });
  breaks("\"w\" is declared twice", [](Module &m, Function &) { m.persistents[1].name = "w"; });
  breaks("\"w\" has the size n",
         [](Module &m, Function &) { m.persistents[0].type.dims[0] = Dim::batch(); });
  breaks("\"w\": a size is never negative",
         [](Module &m, Function &) { m.persistents[0].type.dims[0] = -3; });
  breaks("is not a name for a function",
         [](Module &m, Function &) { m.functions[0]->name = "a b"; });
  breaks("two functions are called @small",
         [](Module &m, Function &) { m.functions[0]->name = "small"; });
}

TEST_CASE("invariants of values", "[ir][verify]") {
  breaks("a batch of -1 rows", [](Module &, Function &f) { f.batch = -1; });
  breaks("depends on n in a function without batch", [](Module &, Function &f) { f.batch = 0; });
  breaks("%x is defined twice",
         [](Module &, Function &f) { f.params[1].value = f.params[0].value; });
  breaks("value 99 is not in the value table",
         [](Module &, Function &f) { f.params[0].value = {99}; });
  breaks("%y states another definition", [](Module &, Function &f) { f.values[4].def = {0}; });
  breaks("%y is defined twice", [](Module &, Function &f) { f.nodes[2].firstResult = {4}; });
  breaks("value 100 is not in the value table",
         [](Module &, Function &f) { f.nodes[2].firstResult = {100}; });
  breaks("has no result", [](Module &, Function &f) { f.nodes[1].resultCount = 0; });
  breaks("%y (mul at layer.nn:2:1, from model.nn:4:3): operand %z is not defined before",
         [](Module &, Function &f) { f.nodes[1].operands[0] = f.nodes[2].firstResult; });
  breaks("operand value -1 does not exist",
         [](Module &, Function &f) { f.nodes[1].operands[0] = ValueId{}; });
  breaks("%y (mul at layer.nn:2:1, from model.nn:4:3): operand %wide is not defined before",
         [](Module &, Function &f) { std::swap(f.nodes[0], f.nodes[1]); });
  breaks("\"12\" is not a name for a value",
         [](Module &, Function &f) { f.values[4].name = "12"; });
  breaks("\"a b\" is not a name for a value",
         [](Module &, Function &f) { f.values[4].name = "a b"; });
  breaks("two values are called %x", [](Module &, Function &f) { f.values[4].name = "x"; });
  breaks("a size is never negative", [](Module &, Function &f) { f.values[4].type.dims[0] = -1; });
  breaks("has too many elements", [](Module &, Function &f) {
    f.batch = 1 << 30;
    f.values[0].type.dims[1] = 1 << 30;
  });
  auto m = good();
  m->functions[0]->values.push_back({{}, NodeId{77}, "x"}); // a leftover that nothing refers to
  CHECK(verify(*m) == "");
  CHECK(verify(*m, *m->functions[0]) == "");
}

TEST_CASE("invariants of nodes", "[ir][verify]") {
  breaks("gives f32[n,3], but %y is f64[n,3]",
         [](Module &, Function &f) { f.values[4].type.dtype = DType::f64; });
  breaks("expected 2 operands, found 1",
         [](Module &, Function &f) { f.nodes[1].operands.pop_back(); });
  breaks("the attributes are those of another operation",
         [](Module &, Function &f) { f.nodes[1].attr = AxisAttr{}; });
  breaks("expected 2 results, found 1", [](Module &, Function &f) { f.nodes[3].resultCount = 1; });
  breaks("location 9 does not exist", [](Module &, Function &f) { f.nodes[1].loc = {9}; });
  breaks("the loss must be a floating point scalar",
         [](Module &, Function &f) { f.nodes[5].operands[0] = f.nodes[1].firstResult; });
}

TEST_CASE("invariants of bindings", "[ir][verify]") {
  breaks("there is no persistent value \"v\"",
         [](Module &, Function &f) { f.params[1].bind = "v"; });
  breaks("\"s\" is f32[], but %w is f32[3]", [](Module &, Function &f) { f.params[1].bind = "s"; });
  breaks("\"w\" is bound twice",
         [](Module &m, Function &f) { Builder(m, f).param("w2", f.type(f.params[1].value), "w"); });
  breaks("there is no persistent value \"v\"",
         [](Module &, Function &f) { f.results[1].name = "v"; });
  breaks("\"w\" is f32[3], but %loss is f32[]",
         [](Module &, Function &f) { f.results[2].name = "w"; });
  breaks("\"w\" is bound twice", [](Module &, Function &f) { f.results.push_back(f.results[1]); });
  breaks("two results are called \"top\"",
         [](Module &, Function &f) { f.results.push_back(f.results[0]); });
  breaks("result value 50 does not exist",
         [](Module &, Function &f) { f.results[0].value = {50}; });
}

TEST_CASE("invariants of calls", "[ir][verify]") {
  auto call = [](Function &f) -> CallAttr & { return std::get<CallAttr>(f.nodes[2].attr); };
  breaks("there is no function @none", [&](Module &, Function &f) { call(f).callee = "none"; });
  breaks("there is no function @none", [&](Module &, Function &f) { call(f).gradient = "none"; });
  breaks("@double has the batch 5, its caller 4",
         [](Module &m, Function &) { m.functions[1]->batch = 5; });
  breaks("@double binds \"w\"",
         [](Module &m, Function &) { m.functions[1]->params[0].bind = "w"; });
  breaks("@double binds \"w\"", [](Module &m, Function &) {
    m.functions[1]->results[0] = {m.functions[1]->results[0].value, "w", true};
  });
  breaks("argument 0 of @small must be f32[3]",
         [&](Module &, Function &f) { call(f).callee = "small"; });
  breaks("@double must take 3 arguments and give 1 results",
         [&](Module &, Function &f) { call(f).gradient = "double"; });
  breaks("result 0 of @double_grad must be f32[n,3], found f32[n,2]", [](Module &m, Function &) {
    Function &g = *m.functions[2];
    g.values[g.results[0].value.i].type.dims[1] = 2;
  });
  breaks("argument 2 of @double_grad must be", [](Module &m, Function &) {
    Function &g = *m.functions[2];
    g.values[g.params[2].value.i].type.dims[1] = 2;
  });
  breaks("@double has a result without a value",
         [](Module &m, Function &) { m.functions[1]->results[0].value = {40}; });
  breaks("is recursive", [](Module &m, Function &) {
    Function &g = *m.functions[1];
    Builder b(m, g);
    b.call("double", {g.params[0].value});
  });
}

TEST_CASE("recursion through two functions and a scan is found", "[ir][verify]") {
  const char *text = R"(nnc-ir 1
func @a (%x: f32[3]) {
  %y = call %x {callee="b"} : f32[3]
  return %y
}
func @b (%x: f32[3]) {
  %y = scan %x {body="a", carries=1, length=2} : f32[3]
  return %y
}
)";
  TextError e;
  auto m = parseModule(text, e);
  REQUIRE(m);
  CHECK(verify(*m).find("is recursive") != std::string::npos);
}

TEST_CASE("no gradient is left after differentiation", "[ir][verify]") {
  auto m = good();
  CHECK(verifyDifferentiated(*m) == "@step: a grad node is left");
  Function &f = *m->functions[0];
  f.nodes.pop_back();
  f.results.clear();
  CHECK(verifyDifferentiated(*m) == "");
  CHECK(verify(*m) == "");
}

} // namespace
