// The type rules: for every tensor operation a node that is right, and each way to be wrong with
// the message that a user reads. Written as text, so that the rules and the attribute names are
// both exercised; the first line of a case is what the node's operands %0, %1, .. are.
#include "ir/builder.h"
#include "ir/text.h"
#include "ir/verify.h"
#include <catch2/catch.hpp>
#include <set>

namespace {

using namespace nnc::ir;

struct Case {
  std::string operands; // "f32[n,3]; i32[]"
  std::string node;     // "add %0, %1 : f32[n,3]"
  std::string error;    // part of the message; empty: fine
};

std::string moduleText(const Case &c) {
  std::string params, results;
  int count = 0;
  for (size_t at = 0; at < c.operands.size(); ++count) {
    size_t end = std::min(c.operands.find("; ", at), c.operands.size());
    params +=
        (count ? ", %" : "%") + std::to_string(count) + ": " + c.operands.substr(at, end - at);
    at = end + 2;
  }
  // One name for each type after the last " : ".
  std::string types = c.node.substr(c.node.rfind(" : ") + 3);
  for (size_t i = 0, depth = 0, k = 0; i <= types.size(); ++i) {
    if (i == types.size() || (types[i] == ',' && depth == 0))
      results += (k ? ", %r" : "%r") + std::to_string(k), ++k;
    else if (types[i] == '[')
      ++depth;
    else if (types[i] == ']')
      --depth;
  }
  return "nnc-ir 1\n"
         "func @body batch 8 (%h: f32[n], %x: f32[n,2], %w: f32[2]) {\n"
         "  %y = broadcast %h {dims=[0]} : f32[n,2]\n"
         "  return %h, %y\n}\n"
         "func @empty batch 8 (%h: f32[n]) {\n  return\n}\n"
         "func @f batch 8 (" +
         params + ") {\n  " + results + " = " + c.node + "\n  return\n}\n";
}

void check(const std::vector<Case> &cases) {
  for (const Case &c : cases) {
    TextError e;
    auto m = parseModule(moduleText(c), e);
    INFO(c.operands << " | " << c.node << "\nmessage: " << e.message);
    if (c.error.empty()) {
      REQUIRE(m);
      REQUIRE(verify(*m) == "");
    } else {
      REQUIRE(!m);
      REQUIRE(e.message.find(c.error) != std::string::npos);
    }
  }
}

TEST_CASE("types: pointwise rows have operands of one type and of the row's class", "[ir][infer]") {
  check({
      {"f32[n,3]; f32[n,3]", "add %0, %1 : f32[n,3]", ""},
      {"i32[]; i32[]", "mod %0, %1 : i32[]", ""},
      {"f32[n,3]; f32[n,3]", "lt %0, %1 : bool[n,3]", ""},
      {"f64[2n+1]", "is_nan %0 : bool[2n+1]", ""},
      {"bool[4]; bool[4]", "and %0, %1 : bool[4]", ""},
      {"u8[4]", "stop_gradient %0 : u8[4]", ""},
      {"f32[n,300]; f32[n,100]", "add %0, %1 : f32[n,300]",
       "operands must have one shape, found f32[n,300] and f32[n,100]"},
      {"f32[3]; f64[3]", "mul %0, %1 : f32[3]",
       "operands must have one element type, found f32[3] and f64[3]"},
      {"f32[3]; f32[]", "mul %0, %1 : f32[3]", "operands must have one shape"},
      {"i32[3]", "exp %0 : i32[3]", "expected a floating point operand, found i32[3]"},
      {"bool[3]; bool[3]", "add %0, %1 : bool[3]", "expected an operand of numbers"},
      {"bool[3]; bool[3]", "eq %0, %1 : bool[3]", "expected an operand of numbers"},
      {"f32[3]", "not %0 : f32[3]", "expected a bool operand, found f32[3]"},
      {"f32[3]; f32[3]", "lt %0, %1 : f32[3]", "lt gives bool[3], found f32[3]"},
      {"f32[3]; f32[3]", "neg %0, %1 : f32[3]", "expected 1 operand, found 2"},
      {"f32[3]", "add %0 : f32[3]", "expected 2 operands, found 1"},
  });
}

TEST_CASE("types: creation", "[ir][infer]") {
  check({
      {"", "constant {value=-inf} : f32[n,3]", ""},
      {"", "constant {value=[1,2,3,4]} : i64[2,2]", ""},
      {"", "constant {value=[]} : f32[0]", ""},
      {"", "constant {value=[1,2]} : f32[n]", "must be one repeated element, found 2"},
      {"", "constant {value=[1,2,3]} : f32[2,2]", "has 4 elements, found 3"},
      {"", "constant : f32[2]", "has 2 elements, found 0"},
      {"", "constant {value=0.5} : i32[2]", "cannot hold 0.5"},
      {"", "constant {value=2} : bool[]", "cannot hold 2"},
      {"", "constant {value=256} : u8[]", "cannot hold 256"},
      {"", "constant {value=-1} : u32[]", "cannot hold -1"},
      {"", "constant {value=nan} : i64[]", "cannot hold nan"},
      {"", "constant {value=1} : f32[-3]", "a size is never negative, found -3"},
      {"", "constant {value=1} : f32[n-2]", "a size is never negative, found n-2"},
      {"", "constant {value=1} : f32[n-1]", ""},
      {"", "constant {value=1} : f32[1000000,1000000,1000000]", "too many elements"},
      {"", "iota {dim=1} : i32[n,3]", ""},
      {"", "iota {dim=2} : i32[n,3]", "dimension 2 does not exist, the tensor has rank 2"},
      {"", "iota {dim=0} : i32[]", "dimension 0 does not exist"},
      {"", "iota {dim=0} : bool[2]", "expected a type of numbers"},
      {"", "size {size=2n+1} : i32[]", ""},
      {"", "size {size=n-2} : i32[]", "a size is never negative, found n-2"},
      {"", "size {size=n} : i64[]", "size gives i32[], found i64[]"},
      {"", "random {site=\"a/b\"} : f32[n,3]", ""},
      {"", "random {site=\"a\"} : i32[n,3]", "random numbers are floating point"},
      {"", "random : f32[n,3]", "needs a site name"},
  });
}

TEST_CASE("types: select and cast", "[ir][infer]") {
  check({
      {"bool[n]; f32[n]; f32[n]", "select %0, %1, %2 : f32[n]", ""},
      {"f32[n]; f32[n]; f32[n]", "select %0, %1, %2 : f32[n]", "the condition must be bool"},
      {"bool[n]; f32[n]; i32[n]", "select %0, %1, %2 : f32[n]", "both choices must have one type"},
      {"bool[]; f32[n]; f32[n]", "select %0, %1, %2 : f32[n]",
       "condition and choices must have one shape, found bool[] and f32[n]"},
      {"u8[n,2]", "cast %0 : bf16[n,2]", ""},
      {"u8[n,2]", "cast %0 : f32[n]", "a cast keeps the shape [n,2], found f32[n]"},
  });
}

TEST_CASE("types: rearrangement", "[ir][infer]") {
  check({
      {"f32[3]", "broadcast %0 {dims=[1]} : f32[n,3]", ""},
      {"f32[]", "broadcast %0 {dims=[]} : f32[n,3]", ""},
      {"f32[3]", "broadcast %0 {dims=[0]} : f32[n,3]", "dimension 0 of f32[3] must equal"},
      {"f32[3]", "broadcast %0 {dims=[2]} : f32[n,3]", "dimension 2 does not exist"},
      {"f32[3]", "broadcast %0 {dims=[]} : f32[n,3]", "for each of the 1 dimensions"},
      {"f32[3]", "broadcast %0 {dims=[1]} : f64[n,3]", "keeps the element type"},
      {"f32[3,3]", "broadcast %0 {dims=[1,0]} : f32[3,3]", "in increasing order, found [1,0]"},
      {"f32[n,28,28]", "reshape %0 : f32[n,784]", ""},
      {"f32[n,4]", "reshape %0 : f32[4n]", ""},
      {"f32[n,n,6]", "reshape %0 : f32[2n,3n]", ""},
      {"f32[n,28,28]", "reshape %0 : f32[n,783]",
       "found f32[n,28,28] with 784n and f32[n,783] with 783n"},
      {"f32[n,n]", "reshape %0 : f32[n]", "keeps the number of elements"},
      {"f32[4]", "reshape %0 : i32[4]", "keeps the element type"},
      {"f32[n,2,3]", "transpose %0 {perm=[2,0,1]} : f32[3,n,2]", ""},
      {"f32[n,2,3]", "transpose %0 {perm=[0,1]} : f32[n,2]", "expected an order of the dimensions"},
      {"f32[n,2,3]", "transpose %0 {perm=[0,1,1]} : f32[n,2,2]", "expected an order"},
      {"f32[n,9]", "slice %0 {start=[0,1], limit=[n,8], stride=[1,3]} : f32[n,3]", ""},
      {"f32[n]", "slice %0 {start=[n-1], limit=[n], stride=[1]} : f32[1]", ""},
      {"f32[3]", "slice %0 {start=[1], limit=[1], stride=[2]} : f32[0]", ""},
      {"f32[9]", "slice %0 {start=[0], limit=[10], stride=[1]} : f32[10]",
       "slice from 0 to 10 is not inside dimension 0 of f32[9]"},
      {"f32[9]", "slice %0 {start=[5], limit=[4], stride=[1]} : f32[1]", "is not inside"},
      {"f32[9]", "slice %0 {start=[-1], limit=[4], stride=[1]} : f32[5]", "is not inside"},
      {"f32[n]", "slice %0 {start=[0], limit=[5], stride=[1]} : f32[5]", "is not inside"},
      {"f32[9]", "slice %0 {start=[0], limit=[9], stride=[0]} : f32[9]", "a stride is at least 1"},
      {"f32[n]", "slice %0 {start=[0], limit=[n], stride=[2]} : f32[n]", "needs a constant length"},
      {"f32[9]", "slice %0 {start=[], limit=[9], stride=[1]} : f32[9]", "found 0, 1 and 1"},
      {"f32[n,3]", "reverse %0 {dims=[0,1]} : f32[n,3]", ""},
      {"f32[n,3]", "reverse %0 {dims=[2]} : f32[n,3]", "dimension 2 does not exist"},
      {"f32[n,3]", "pad %0 {low=[0,1], high=[1,n], value=2} : f32[n+1,n+4]", ""},
      {"f32[n,3]", "pad %0 {low=[0,-1], high=[0,0]} : f32[n,2]", "padding is never negative"},
      {"f32[n,3]", "pad %0 {low=[0], high=[0,0]} : f32[n,3]", "found 1 and 2"},
      {"f32[n,3]; f32[2,3]", "concat %0, %1 {dim=0} : f32[n+2,3]", ""},
      {"f32[n,3]; f32[n,2]", "concat %0, %1 {dim=0} : f32[2n,3]",
       "operands may differ in dimension 0 only, found f32[n,3] and f32[n,2]"},
      {"f32[n]; i32[n]", "concat %0, %1 {dim=0} : f32[2n]", "may differ in dimension 0 only"},
      {"f32[n,3]", "concat %0 {dim=2} : f32[n,3]", "dimension 2 does not exist"},
      {"", "concat {dim=0} : f32[3]", "expected at least one operand"},
  });
}

TEST_CASE("types: windows", "[ir][infer]") {
  const std::string two = "size=[2,3], stride=[2,1], dilation=[1,2], low=[0,1], high=[0,1]";
  auto one = [](const char *size, const char *stride, const char *extent) {
    return "{dim=1, size=[" + std::string(size) + "], stride=[" + stride +
           "], dilation=[1], low=[0], high=[0], extent=[" + extent + "]}";
  };
  check({
      {"f32[n,8,7,4]", "window %0 {dim=1, " + two + ", extent=[8,7]} : f32[n,4,5,2,3,4]", ""},
      {"f32[n,4,5,2,3,4]", "unwindow %0 {dim=1, " + two + ", extent=[8,7]} : f32[n,8,7,4]", ""},
      {"f32[n,9]", "window %0 " + one("2", "2", "9") + " : f32[n,4,2]", ""},
      {"f32[n,9]", "window %0 {dim=1} : f32[n,9]", "a window size for at least one dimension"},
      {"f32[n,9]", "window %0 {dim=1, size=[2]} : f32[n,9]", "for each of 1 window sizes"},
      {"f32[n,9]", "window %0 " + one("0", "2", "9") + " : f32[n]", "at least 1, found 0"},
      {"f32[n,9]", "window %0 " + one("2", "2", "-1") + " : f32[n]", "never negative, found -1"},
      {"f32[n,9]", "window %0 " + one("2", "2", "8") + " : f32[n]", "must have the extent 8"},
      {"f32[n]", "window %0 " + one("2", "2", "8") + " : f32[n]", "does not fit f32[n]"},
      {"f32[n,9]", "window %0 " + one("10", "1", "9") + " : f32[n]", "does not fit dimension 1"},
      {"bool[n,4,2]", "unwindow %0 " + one("2", "2", "9") + " : bool[n,9]", "operand of numbers"},
      {"f32[n,4]", "unwindow %0 " + one("2", "2", "9") + " : f32[n,9]", "do not fit f32[n,4]"},
      {"f32[n,5,2]", "unwindow %0 " + one("2", "2", "9") + " : f32[n,9]",
       "expected 4 windows of 2 in dimensions 1 and 2, found f32[n,5,2]"},
  });
}

TEST_CASE("types: operations along dimensions", "[ir][infer]") {
  check({
      {"f32[n,3,4]", "reduce %0 {kind=sum, dims=[0,2]} : f32[3]", ""},
      {"bool[n,3]", "reduce %0 {kind=max, dims=[1]} : bool[n]", ""},
      {"bool[n,3]", "reduce %0 {kind=sum, dims=[1]} : bool[n]", "only max and min reduce bool"},
      {"f32[n,3]", "reduce %0 {kind=sum, dims=[1,1]} : f32[n]", "in increasing order"},
      {"f32[n,3]", "reduce %0 {kind=sum, dims=[-1]} : f32[n]", "dimension -1 does not exist"},
      {"f32[n,3,4]", "max_index %0 {dims=[1,2]} : f32[n], i32[n]", ""},
      {"f32[n,3]", "max_index %0 {dims=[1]} : f32[n]", "max_index has 2 results, found 1"},
      {"f32[n,3]", "max_index %0 {dims=[]} : f32[n,3], i32[n,3]", "at least one dimension"},
      {"f32[n,3]", "max_index %0 {dims=[2]} : f32[n], i32[n]", "dimension 2 does not exist"},
      {"bool[n,3]", "max_index %0 {dims=[1]} : bool[n], i32[n]", "operand of numbers"},
      {"f32[n,3]", "cumsum %0 {dim=1, reverse=true, exclusive=false} : f32[n,3]", ""},
      {"f32[n,3]", "cumsum %0 {dim=2} : f32[n,3]", "dimension 2 does not exist"},
      {"bool[3]", "cumsum %0 {dim=0} : bool[3]", "operand of numbers"},
      {"f32[n,3]", "sort %0 {dim=1, descending=true} : f32[n,3], i32[n,3]", ""},
      {"f32[n,3]", "sort %0 {dim=2} : f32[n,3], i32[n,3]", "dimension 2 does not exist"},
      {"bool[3]", "sort %0 {dim=0} : bool[3], i32[3]", "operand of numbers"},
  });
}

TEST_CASE("types: contractions", "[ir][infer]") {
  const std::string conv = "contract %0, %1 {x \"n, 2i+u-1, c\", w \"u, c, o\", y \"n, i, o\"";
  check({
      {"f32[n,784]; f32[784,10]",
       "contract %0, %1 {x \"b, i\", w \"i, o\", y \"b, o\"} : f32[n,10]", ""},
      {"f32[n,9,2]; f32[3,2,5]", conv + "} : f32[n,5,5]", ""},
      {"bf16[2]; bf16[2]", "contract %0, %1 {x \"i\", w \"i\", y \"\"} : f32[]", ""},
      {"f32[n]; f32[]", "contract %0, %1 {x \"2i+u\", w \"\", y \"0\", i=3, u=2} : f32[1]", ""},
      {"f32[2]; f64[2]", "contract %0, %1 {x \"i\", w \"i\", y \"\"} : f32[]",
       "one element type of numbers, found f32[2] and f64[2]"},
      {"bool[2]; bool[2]", "contract %0, %1 {x \"i\", w \"i\", y \"\"} : bool[]", "of numbers"},
      {"f32[2]; f32[2]", "contract %0, %1 {x \"i\", w \"i\", y \"\"} : f64[]",
       "expected a result of f32, found f64[]"},
      {"f32[n,784]; f32[100,10]",
       "contract %0, %1 {x \"b, i\", w \"i, o\", y \"b, o\"} : f32[n,10]",
       "label `i` of w has the extent 784, found 100 in dimension 0 of f32[100,10]"},
      {"f32[n,3,4]; f32[3,2]", "contract %0, %1 {x \"b, i\", w \"i, o\", y \"b, o\"} : f32[n,2]",
       "x \"b, i\" names 2 dimensions, found f32[n,3,4]"},
      {"f32[3]; f32[3]", "contract %0, %1 {x \"i\", w \"j\", y \"i+j\"} : f32[5]", ""},
      {"f32[3]; f32[n]", "contract %0, %1 {x \"i\", w \"j\", y \"i+j\"} : f32[n]",
       "label `j` with the extent n must stand alone"},
      {"f32[3]; f32[3]", "contract %0, %1 {x \"i+i\", w \"i\", y \"\"} : f32[]",
       "twice in one form"},
      {"f32[3]; f32[3]", "contract %0, %1 {x \"0i+j\", w \"i\", y \"j\"} : f32[3]",
       "label `i` has the coefficient 0"},
      {"f32[3]; f32[3]", "contract %0, %1 {x \"2i\", w \"2i\", y \"\"} : f32[]",
       "label `i` needs an extent"},
      {"f32[3]; f32[3]", "contract %0, %1 {x \"2i\", w \"2i\", y \"\", i=-2} : f32[]",
       "label `i` has a negative extent"},
      {"f32[3]; f32[3]", "contract %0, %1 {x \"i\", w \"i\", y \"\", i=3} : f32[]",
       "label `i` has its extent from a dimension"},
      {"f32[3]; f32[3]", "contract %0, %1 {x \"i\", w \"i\", y \"\", k=3} : f32[]", "no label `k`"},
      {"f32[3]; f32[3]", "contract %0, %1 {x \"i*2\", w \"i\", y \"\"} : f32[]",
       "expected labels such as"},
      {"f32[3]", "contract %0 {x \"i\", w \"i\", y \"\"} : f32[]", "expects 2 operands"},
  });
}

TEST_CASE("types: tables", "[ir][infer]") {
  check({
      {"f32[20,8]; i32[n,6]", "gather %0, %1 {axis=0} : f32[n,6,8]", ""},
      {"f32[n,20]; u8[]", "gather %0, %1 {axis=1} : f32[n]", ""},
      {"f32[20,8]; f32[n]", "gather %0, %1 {axis=0} : f32[n,8]", "indices must be integers"},
      {"f32[20,8]; i32[n]", "gather %0, %1 {axis=2} : f32[n,8]", "dimension 2 does not exist"},
      {"i32[n,6]; f32[n,6,8]", "scatter_add %0, %1 {axis=0} : f32[20,8]", ""},
      {"i32[n,6]; f32[n,8]", "scatter_add %0, %1 {axis=0} : f32[20,8]",
       "updates of f32[20,8] at i32[n,6] must be f32[n,6,8], found f32[n,8]"},
      {"f32[n]; f32[n,8]", "scatter_add %0, %1 {axis=0} : f32[20,8]", "indices must be integers"},
      {"i32[n]; bool[n,8]", "scatter_add %0, %1 {axis=0} : bool[20,8]", "a table of numbers"},
      {"i32[n]; f32[n,8]", "scatter_add %0, %1 {axis=3} : f32[20,8]", "dimension 3 does not exist"},
  });
}

TEST_CASE("types: functions and derivatives", "[ir][infer]") {
  const std::string scan = "scan %0, %1, %2 {body=\"body\", carries=1, xs=[1], ys=[0], length=5}";
  check({
      {"f32[n]; f32[n,2]; f32[2]", "call %0, %1, %2 {callee=\"body\"} : f32[n], f32[n,2]", ""},
      {"f32[n]", "call %0 {callee=\"nobody\"} : f32[n]", "there is no function @nobody"},
      {"f32[n]", "call %0 {callee=\"empty\"} : f32[n]", "@empty has no results"},
      {"f32[n]", "call %0 {callee=\"body\"} : f32[n]", "@body takes 3 arguments, found 1"},
      {"f32[n]; f32[n,3]; f32[2]", "call %0, %1, %2 {callee=\"body\"} : f32[n], f32[n,2]",
       "argument 1 of @body must be f32[n,2], found f32[n,3]"},
      {"f32[n]; f32[n,5,2]; f32[2]", scan + " : f32[n], f32[5,n,2]", ""},
      {"f32[n]; f32[n,4,2]; f32[2]", scan + " : f32[n], f32[5,n,2]",
       "a sequence must have 5 steps in dimension 1, found f32[n,4,2]"},
      {"f32[n]; f32[n]; f32[2]", scan + " : f32[n], f32[5,n,2]", "dimension 1 does not exist"},
      {"f32[n]; f32[n,5,3]; f32[2]", scan + " : f32[n], f32[5,n,2]", "argument 1 of @body must be"},
      {"f32[n]", "scan %0 {body=\"body\", carries=1, xs=[1], length=5} : f32[n]",
       "expected at least 1 carries and 1 sequences, found 1"},
      {"f32[n]; f32[n,5,2]; f32[2]",
       "scan %0, %1, %2 {body=\"body\", carries=1, xs=[1], length=5} : f32[n]",
       "@body must give 1 carries and 0 stacked results, found 2"},
      {"f32[n]; f32[n,5,2]; f32[2]",
       "scan %0, %1, %2 {body=\"body\", carries=1, xs=[1], ys=[3], length=5} : f32[n], f32[n,2,5]",
       "dimension 3 does not exist"},
      {"f32[n]; f32[n,2]; f32[2]",
       "scan %0, %1, %2 {body=\"body\", carries=2, length=5} : f32[n], f32[n,2]", ""},
      {"f32[n]; f32[n,2]; f32[2]", "scan %0, %1, %2 {body=\"no\", carries=2, length=5} : f32[n]",
       "there is no function @no"},
      {"f32[n]", "scan %0 {body=\"body\", carries=1, length=-1} : f32[n]", "a scan of -1 steps"},
      {"f32[]; f32[n]; f32[3]", "grad %0 wrt %1, %2 : f32[n], f32[3]", ""},
      {"f32[]", "grad %0 : f32[]", "at least one value to differentiate by"},
      {"f32[n]; f32[n]", "grad %0 wrt %1 : f32[n]", "the loss must be a floating point scalar"},
      {"i32[]; f32[n]", "grad %0 wrt %1 : f32[n]", "the loss must be a floating point scalar"},
      {"f32[]; i32[n]", "grad %0 wrt %1 : i32[n]", "only floating point values have gradients"},
  });
}

TEST_CASE("an attribute of another operation is an error", "[ir][infer]") {
  Type x{DType::f32, {2}};
  CHECK(inferTypes(Op::exp_, std::vector<Type>{x}, AxisAttr{}, nullptr).error != "");
  CHECK(inferTypes(Op::reduce_, std::vector<Type>{x}, NoAttr{}, nullptr).error != "");
  CHECK(inferTypes(Op::call_, std::vector<Type>{x}, CallAttr{"f", ""}, nullptr).error ==
        "there is no function @f");
}

TEST_CASE("builder: names, peepholes, broadcasts and products", "[ir][infer]") {
  Module m;
  Function &f = m.add("f", 4);
  Builder b(m, f);
  V x = b.param("x", {DType::f32, {Dim::batch(), 3, 4}});
  V w = b.param("x", {DType::f32, {4, 5}});
  V wb = b.param("12", {DType::f32, {3, 4, 5}});
  CHECK(f.values[w.id.i].name == "x.1");
  CHECK(f.values[wb.id.i].name == "_12");
  b.hint = "a b%";
  V y = b.matmul(x, w);
  CHECK(f.values[y.id.i].name == "a_b_");
  CHECK(str(y.type()) == "f32[n,3,5]");
  CHECK(b.hint.empty());
  CHECK(str(b.matmul(b.transpose(x, {1, 0, 2}), wb).type()) == "f32[3,n,5]");
  CHECK(str(b.matmul(b.slice(w, {0, 0}, {1, 5}), b.like(1, b.iota(0, {DType::f32, {5}}))).type()) ==
        "f32[1]");
  CHECK(b.cast(x, DType::f32).id == x.id);
  CHECK(b.broadcastTo(x, f.type(x).dims).id == x.id);
  CHECK(b.sum(x, {}).id == x.id);
  V row = b.reshape(b.sum(w, {0}), {1, 5});
  CHECK(str(b.broadcastTo(row, {Dim::batch(), 3, 5}).type()) == "f32[n,3,5]");
  V c = 2 * (x - 1) / 3;
  CHECK(str(c.type()) == "f32[n,3,4]");
  auto [value, index] = b.maxIndex(x, {2, 1});
  CHECK(str(index.type()) == "i32[n]");
  V conv = b.contract(x, b.like(1, b.reshape(w, {20})), "b, 0, i+u", "u", "b, 2i", {{"i", 4}},
                      Dims{Dim::batch(), 8});
  CHECK(str(conv.type()) == "f32[n,8]");
  b.result("y", conv);
  REQUIRE(verify(m) == "");
  TextError e;
  auto again = parseModule(print(m), e);
  REQUIRE(again);
  CHECK(print(*again) == print(m));
}

TEST_CASE("dimensions as text", "[ir][infer]") {
  for (const char *s : {"0", "784", "n", "2n", "2n+1", "n-1", "-3", "-n", "-2n-7"}) {
    Dim d;
    REQUIRE(parseDim(s, d));
    CHECK(str(d) == s);
  }
  for (const char *s :
       {"", "n1", "m", "2n+", "+-1", "1+2+3", "99999999999999999999", "n n", "1 "}) {
    Dim d;
    CHECK(!parseDim(s, d));
  }
  CHECK(elementCount({Dim::batch(), 3, {2, 1}}, 4) == 108);
  Dim p;
  CHECK((product({2, {1, 1}, 3}, p) && p == Dim(6, 6)));
  CHECK(!product({Dim::batch(), Dim::batch()}, p));
  CHECK(!fits({int64_t(1) << 30, int64_t(1) << 30}, 1));
}

} // namespace
