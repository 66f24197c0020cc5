// The passes on small modules written as text: what each does, and what it leaves alone.
#include "ir/passes.h"
#include "tests/growth.h"
#include "tests/ir_helpers.h"

using namespace nnc::ir;
using namespace nnc::ir::test;

namespace {

std::unique_ptr<Module> parsed(const std::string &functions) {
  TextError error;
  auto m = parseModule("nnc-ir 1\n" + functions, error);
  INFO(error.line << ":" << error.column << ": " << error.message);
  REQUIRE(m);
  REQUIRE(verify(*m) == "");
  return m;
}

using Pass = void (*)(Function &, Module &);

// The lines of @f's body after the passes, without the function's head.
std::string after(const std::string &body, std::vector<Pass> passes,
                  const std::string &params = "%x: f32[n,3], %y: f32[n,3], %i: i32[n]") {
  auto m = parsed("func @f batch 4 (" + params + ") {\n" + body + "}\n");
  Function &f = *m->find("f");
  for (const Pass pass : passes) pass(f, *m);
  const std::string error = verify(*m);
  INFO(error);
  REQUIRE(error.empty());
  const std::string text = print(*m, f);
  return text.substr(text.find('\n') + 1, text.rfind('}') - text.find('\n') - 1);
}

const std::vector<Pass> kSimplify{simplify, dce};

} // namespace

TEST_CASE("dce drops what no result needs, and keeps order, names and parameters") {
  CHECK(after("  %a = exp %x : f32[n,3]\n  %b = log %y : f32[n,3]\n  return %b\n", {dce}) ==
        "  %b = log %y : f32[n,3]\n  return %b\n");
}

TEST_CASE("cse merges equal nodes, commutative ones in either order") {
  CHECK(after("  %a = mul %x, %y : f32[n,3]\n  %b = mul %y, %x : f32[n,3]\n  %c = sub %x, %y : "
              "f32[n,3]\n"
              "  %d = sub %y, %x : f32[n,3]\n  return %a, %b, %c, %d\n",
              {cse}) ==
        "  %a = mul %x, %y : f32[n,3]\n  %c = sub %x, %y : f32[n,3]\n  %d = sub %y, %x : f32[n,3]\n"
        "  return %a, %a, %c, %d\n");
  // One site draws equal values by definition; two sites never merge.
  CHECK(after("  %a = random {site=\"p\"} : f32[n]\n  %b = random {site=\"p\"} : f32[n]\n"
              "  %c = random {site=\"q\"} : f32[n]\n  return %a, %b, %c\n",
              {cse}) == "  %a = random {site=\"p\"} : f32[n]\n  %c = random {site=\"q\"} : "
                        "f32[n]\n  return %a, %a, %c\n");
}

TEST_CASE("cse leaves recomputed clones apart") {
  auto m = parsed("func @f (%x: f32[3]) {\n  %a = exp %x : f32[3]\n  %b = exp %x : f32[3]\n  "
                  "return %a, %b\n}\n");
  Function &f = *m->find("f");
  f.nodes[1].remat = true;
  cse(f, *m);
  simplify(f, *m);
  CHECK(f.nodes.size() == 2);
  CHECK(f.nodes[1].remat);
}

TEST_CASE("folding keeps splats splats and large constants unmade") {
  CHECK(after("  %a = constant {value=2} : f32[n,3]\n  %b = add %a, %a : f32[n,3]\n  %c = sqrt %b "
              ": f32[n,3]\n  return %c\n",
              {foldConstants, dce}) == "  %c = constant {value=2} : f32[n,3]\n  return %c\n");
  CHECK(after("  %a = constant {value=[1,2,3]} : f32[3]\n  %b = mul %a, %a : f32[3]\n  %c = reduce "
              "%b {kind=sum, dims=[0]} : f32[]\n"
              "  %d = broadcast %c {dims=[]} : f32[n,3]\n  return %d\n",
              {foldConstants, dce}) == "  %d = constant {value=14} : f32[n,3]\n  return %d\n");
  CHECK(
      after(
          "  %a = constant {value=1} : f32[100]\n  %b = cumsum %a {dim=0, reverse=false, "
          "exclusive=false} : f32[100]\n"
          "  %r = random {site=\"s\"} : f32[]\n  %s = size {size=n} : i32[]\n  return %b, %r, %s\n",
          {foldConstants})
          .find("cumsum") != std::string::npos);
  // f32 arithmetic: 1e-30 * 1e-30 is flushed, 1 + 1e-9 rounds
  CHECK(after("  %a = constant {value=1e-30} : f32[]\n  %b = mul %a, %a : f32[]\n  return %b\n",
              {foldConstants, dce}) == "  %b = constant {value=0} : f32[]\n  return %b\n");
}

TEST_CASE("rules and structural simplifications") {
  const std::string type = " : f32[n,3]\n";
  CHECK(after("  %a = neg %x" + type + "  %b = sub %y, %a" + type + "  %1 = constant {value=1}" +
                  type + "  %c = mul %1, %b" + type + "  return %c\n",
              kSimplify) == "  %b = add %y, %x" + type + "  return %b\n");
  CHECK(after("  %a = transpose %x {perm=[1,0]} : f32[3,n]\n  %b = transpose %a {perm=[1,0]}" +
                  type + "  return %b\n",
              kSimplify) == "  return %x\n");
  CHECK(after("  %a = reshape %x : f32[3n]\n  %b = reshape %a : f32[n,1,3]\n  %c = reshape %b" +
                  type + "  return %c\n",
              kSimplify) == "  return %x\n");
  CHECK(after("  %a = concat %x, %y {dim=1} : f32[n,6]\n  %b = slice %a {start=[0,3], limit=[n,6], "
              "stride=[1,1]}" +
                  type + "  return %b\n",
              kSimplify) == "  return %y\n");
  CHECK(after("  %a = cast %i : f64[n]\n  %b = cast %a : i32[n]\n  return %b\n", kSimplify) ==
        "  return %i\n");
  CHECK(after("  %a = cast %i : f32[n]\n  %b = cast %a : i32[n]\n  return %b\n", kSimplify)
            .find("f32") != std::string::npos);
  CHECK(after("  %a = concat %x, %y {dim=1} : f32[n,6]\n  %b = cast %a : bf16[n,6]\n  return %b\n",
              kSimplify) == "  %0 = cast %x : bf16[n,3]\n  %1 = cast %y : bf16[n,3]\n"
                            "  %b = concat %0, %1 {dim=1} : bf16[n,6]\n  return %b\n");
  CHECK(after("  %0 = constant {value=0}" + type + "  %a = mul %x, %0" + type + "  return %a\n",
              kSimplify)
            .find("mul") != std::string::npos); // NaN * 0
  CHECK(after("  %0 = constant {value=0} : i32[n]\n  %a = mul %i, %0 : i32[n]\n  return %a\n",
              kSimplify) == "  %a = constant {value=0} : i32[n]\n  return %a\n");
  CHECK(after("  %a = transpose %x {perm=[1,0]} : f32[3,n]\n  %b = contract %a, %y {x \"i, b\", w "
              "\"b, o\", y \"i, o\"} : f32[3,3]\n"
              "  return %b\n",
              kSimplify) ==
        "  %b = contract %x, %y {x \"b, i\", w \"b, o\", y \"i, o\"} : f32[3,3]\n  return %b\n");
}

TEST_CASE("a factor leaves a sum wherever the nodes lie in memory, but in f16") {
  // Nodes move as more are made: among these lengths are those where the rule's own node is that.
  for (int before = 0; before < 70; ++before) {
    std::string chain, last = "%x";
    for (int i = 0; i < before; ++i) {
      const std::string name = "%s" + std::to_string(i);
      chain += "  " + name + " = sin " + last + " : f32[n,3]\n";
      last = name;
    }
    const std::string sum = "  %w = broadcast %v {dims=[1]} : f32[n,3]\n"
                            "  %p = mul " + last + ", %w : f32[n,3]\n"
                            "  %r = reduce %p {kind=sum, dims=[0]} : f32[3]\n  return %r\n";
    const std::string text = after(chain + sum, kSimplify, "%x: f32[n,3], %v: f32[3]");
    INFO(text);
    REQUIRE(text.find("%r = mul %v, %0 : f32[3]") != std::string::npos);
  }
  const std::string half = "  %w = broadcast %v {dims=[1]} : f16[n,3]\n  %p = mul %x, %w : "
                           "f16[n,3]\n  %r = reduce %p {kind=sum, dims=[0]} : f16[3]\n"
                           "  return %r\n";
  CHECK(after(half, kSimplify, "%x: f16[n,3], %v: f16[3]") == half);
}

TEST_CASE("constants that f16 could not hold together stay apart") {
  const auto twice = [](const char *type, const char *op, double c, double d) {
    std::ostringstream o;
    const std::string t = std::string(" : ") + type + "[n,3]\n";
    o << "  %c = constant {value=" << c << "}" << t << "  %d = constant {value=" << d << "}" << t
      << "  %a = mul %x, %c" << t << "  %b = " << op << " %a, %d" << t << "  return %b\n";
    const std::string text = after(o.str(), kSimplify, std::string("%x: ") + type + "[n,3]");
    return text.find("%a = ") != std::string::npos;
  };
  CHECK(twice("f16", "mul", 300, 300));
  CHECK(twice("f16", "div", 300, 0.001));
  CHECK_FALSE(twice("f16", "mul", 30, 30));
  CHECK_FALSE(twice("f32", "mul", 300, 300));
  CHECK_FALSE(twice("bf16", "mul", 300, 300));
  CHECK_FALSE(twice("f32", "div", 300, 0.001));
}

TEST_CASE("a name moves to the node that replaces its own") {
  CHECK(after("  %a = neg %y : f32[n,3]\n  %sum = add %x, %a : f32[n,3]\n  return %sum\n",
              kSimplify) == "  %sum = sub %x, %y : f32[n,3]\n  return %sum\n");
}

TEST_CASE("calls: inlined, or their gradient function is called") {
  const char *text = R"(func @square (%x: f32[3]) {
  %y = mul %x, %x : f32[3]
  return %y
}
# a straight-through gradient: passes the cotangent times 7
func @through (%x: f32[3], %y: f32[3], %y.d: f32[3]) {
  %seven = constant {value=7} : f32[3]
  %x.d = mul %y.d, %seven : f32[3]
  return %x.d
}
func @f (%x: f32[3]) {
  %y = call %x {callee="square", gradient="GRADIENT"} : f32[3]
  %l = reduce %y {kind=sum, dims=[0]} : f32[]
  %g = grad %l wrt %x : f32[3]
  return %y, %g
}
)";
  for (const bool custom : {false, true}) {
    std::string source = text;
    source.replace(source.find("GRADIENT"), 8, custom ? "through" : "");
    auto m = parsed(source);
    PipelineOptions o;
    o.verifyEach = true;
    runOptimize(*m, o);
    const auto out = Interpreter(*m, Precision::f64).run("f", {{DType::f32, {3}, {1, 2, 3}}});
    CHECK(out[0].data == std::vector<double>{1, 4, 9});
    CHECK(out[1].data == (custom ? std::vector<double>{7, 7, 7} : std::vector<double>{2, 4, 6}));
    CHECK(m->find("f")->nodes.size() <= 3);
    CHECK(m->functions.size() == (custom ? 1 : 2)); // callees that nobody calls any more are gone
  }
}

TEST_CASE("the pipeline names its passes; level 0 leaves no gradient and no call") {
  auto m = parsed("func @f (%x: f32[]) {\n  %y = mul %x, %x : f32[]\n  %g = grad %y wrt %x : "
                  "f32[]\n  return %g\n}\n");
  std::vector<std::string> names;
  PipelineOptions o;
  o.level = 0;
  o.after = [&](const PassEvent &e) { names.push_back(e.pass); };
  runOptimize(*m, o);
  CHECK(names == std::vector<std::string>{"differentiate", "dce", "inline", "dce"});
  CHECK(Interpreter(*m, Precision::f64).run("f", {{DType::f32, {}, {3}}})[0].data[0] == 6);
}

TEST_CASE("all passes are linear: a hundred thousand nodes") {
  auto optimize = [](size_t layers) {
    Module m;
    Function &f = m.add("f", 0);
    Builder b(m, f);
    V x = b.param("x", f64({2})), y = x;
    for (size_t k = 0; k < layers; ++k) { // 4 nodes each before differentiation
      b.hint = "layer";
      y = tanh(y * 1.01 + x);
    }
    b.result("", b.grad(total(b, y), {x})[0]);
    REQUIRE(f.nodes.size() > 4 * layers);
    runOptimize(m, {});
    CHECK(verify(m) == "");
  };
  CHECK(nnc::test::growsLinearly(6250, optimize));
}
