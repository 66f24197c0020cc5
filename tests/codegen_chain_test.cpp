// Chained products: attention written in many ways, against the f64 interpreter and against itself.
//
// For shapes that are multiples of nothing: values and derivatives agree with the interpreter; the
// bits are those of the program with a kernel per node, for any number of threads and order of
// items; no buffer is as large as the scores; and what does not fit goes the ordinary way.
#include "ir/passes.h"
#include "ir/text.h"
#include "tests/compiled_model.h"
#include "tests/kernel_check.h"
#include <catch2/catch.hpp>
#include <cmath>
#include <sstream>
#include <tuple>

using namespace nnc;
using nnc::test::CompiledModel;
using nnc::test::ItemOrder;
using nnc::test::randomInputs;

namespace {

cg::CodegenOptions target(const std::string &name = "native") {
  cg::CodegenOptions o;
  std::string error;
  o.target = *cg::resolveTarget(name, error);
  o.fuse.leastChain = 2;
  o.plan.single = false;
  return o;
}

struct Form {
  int64_t batch = 3, heads = 2, rows = 5, cols = 7, depth = 4, width = 6;
  bool causal = false, padding = false, zeroed = false, bias = false, shared = false,
       timeFirst = false, split = false, // the depth is two dimensions
       negated = false,                  // -k, which has memory of its own
       common = false;                   // v is the same for the whole batch
  double dropout = 0, low = -1e9;
  std::string type = "f32";
  bool derivatives = true, square = true;
};

// softmax(q k' / c) v and the derivatives of sum(y * w), as a module.
std::string attention(const Form &f) {
  std::ostringstream o;
  auto dims = [&](std::vector<std::string> d) {
    std::string s = f.type + "[n";
    for (auto &x : d) s += "," + x;
    return s + "]";
  };
  const std::string h = std::to_string(f.heads), r = std::to_string(f.rows),
                    c = std::to_string(f.cols), e = std::to_string(f.width),
                    d = f.split ? std::to_string(f.depth / 2) + ",2" : std::to_string(f.depth),
                    ld = f.split ? "d, u" : "d";
  auto split = [&](const std::string &t, const std::string &x) {
    return f.timeFirst ? dims({t, h, x}) : dims({h, t, x});
  };
  auto labels = [&](const std::string &t, const std::string &x) {
    return f.timeFirst ? "b, " + t + ", h, " + x : "b, h, " + t + ", " + x;
  };
  const std::string q = split(r, d), k = f.shared ? dims({c, d}) : split(c, d),
                    v = f.common ? f.type + "[" + h + "," + c + "," + e + "]"
                        : f.shared ? dims({c, e})
                                   : split(c, e),
                    y = split(r, e), s = dims({h, r, c}),
                    row = dims({h, r}), lk = f.shared ? "b, k, " + ld : labels("k", ld),
                    lv = f.common ? "h, k, e" : f.shared ? "b, k, e" : labels("k", "e"),
                    mask = "bool[n," + h + "," + r + "," + c + "]";
  o << "nnc-ir 1\nmeta {\"name\": \"t\"}\nfunc @train_step batch " << f.batch << " (%q: " << q
    << ", %k: " << k << ", %v: " << v << ", %w: " << y << ", %keep: bool[n," << c
    << "], %bias: " << f.type << "[" << h << "," << r << "," << c << "]) {\n";
  std::string scores = "%s";
  if (f.negated) o << "  %kn = neg %k : " << k << "\n";
  o << "  %s = contract %q, " << (f.negated ? "%kn" : "%k") << " {x \"" << labels("q", ld)
    << "\", w \"" << lk << "\", y \"b, h, q, k\"} : " << s << "\n";
  o << "  %scale = constant {value=1.7} : " << s << "\n  %s.c = div %s, %scale : " << s << "\n";
  scores = "%s.c";
  if (f.bias) {
    o << "  %bias.all = broadcast %bias {dims=[1,2,3]} : " << s << "\n  %s.b = add " << scores
      << ", %bias.all : " << s << "\n";
    scores = "%s.b";
  }
  if (f.causal || f.padding) {
    const std::string flat = "bool[" + r + "," + c + "]", index = "i32[" + r + "," + c + "]";
    o << "  %i = iota {dim=0} : " << index << "\n  %j = iota {dim=1} : " << index
      << "\n  %le = le %j, %i : " << flat << "\n  %causal = broadcast %le {dims=[2,3]} : " << mask
      << "\n  %pad = broadcast %keep {dims=[0,3]} : " << mask
      << "\n  %both = and %causal, %pad : " << mask << "\n  %low = constant {value=" << f.low
      << "} : " << s << "\n";
    const std::string seen = f.causal && f.padding ? "%both" : f.causal ? "%causal" : "%pad";
    o << "  %s.m = select " << seen << ", " << scores << ", %low : " << s << "\n";
    scores = "%s.m";
  }
  o << "  %top = reduce " << scores << " {kind=max, dims=[3]} : " << row
    << "\n  %top.s = stop_gradient %top : " << row
    << "\n  %top.all = broadcast %top.s {dims=[0,1,2]} : " << s << "\n  %z = sub " << scores
    << ", %top.all : " << s << "\n  %ez = exp %z : " << s
    << "\n  %total = reduce %ez {kind=sum, dims=[3]} : " << row
    << "\n  %total.all = broadcast %total {dims=[0,1,2]} : " << s
    << "\n  %p = div %ez, %total.all : " << s << "\n";
  std::string p = "%p";
  if (f.zeroed) {
    o << "  %zero = constant {value=0} : " << s << "\n  %p.z = select %causal, " << p
      << ", %zero : " << s << "\n";
    p = "%p.z";
  }
  if (f.dropout > 0) {
    const std::string f32 = "f32" + s.substr(s.find('['));
    o << "  %draw = random {site=\"drop\"} : " << f32 << "\n  %rate = constant {value=" << f.dropout
      << "} : " << f32 << "\n  %kept = ge %draw, %rate : " << mask
      << "\n  %grow = constant {value=" << 1 / (1 - f.dropout) << "} : " << s << "\n  %p.g = mul "
      << p << ", %grow : " << s << "\n  %nothing = constant {value=0} : " << s
      << "\n  %p.d = select %kept, %p.g, %nothing : " << s << "\n";
    p = "%p.d";
  }
  o << "  %y = contract " << p << ", %v {x \"b, h, q, k\", w \"" << lv << "\", y \""
    << labels("q", "e") << "\"} : " << y << "\n";
  if (!f.derivatives) {
    o << "  return \"y\" = %y\n}\n";
    return o.str();
  }
  const std::string factor =
      f.square ? "%y2" : "%y"; // squared: dy needs y, so there are two kernels
  o << "  %y2 = mul %y, %y : " << y << "\n  %yw = mul " << factor << ", %w : " << y
    << "\n  %loss = reduce %yw {kind=sum, dims=[0,1,2,3]} : " << f.type << "[]\n"
    << "  %dq, %dk, %dv = grad %loss wrt %q, %k, %v : " << q << ", " << k << ", " << v << "\n"
    << "  return \"y\" = %y, \"dq\" = %dq, \"dk\" = %dk, \"dv\" = %dv\n}\n";
  return o.str();
}

std::unique_ptr<ir::Module> load(const std::string &text) {
  ir::TextError error;
  auto m = ir::parseModule(text, error);
  INFO(text);
  INFO("line " << error.line << ": " << error.message);
  REQUIRE(m);
  ir::PipelineOptions o;
  o.verifyEach = true;
  ir::runGradient(*m, o);
  ir::runOptimize(*m, o);
  return m;
}

int chains(const cg::Compiled &c) {
  int count = 0;
  for (const auto &f : c.functions())
    for (const cg::Launch &l : f.program.launches) count += l.kernel.cls == cg::KernelClass::Chain;
  return count;
}

std::string bitsOf(const std::vector<ir::Tensor> &results) {
  std::ostringstream o;
  for (const ir::Tensor &t : results)
    for (double v : t.data) o.write(reinterpret_cast<const char *>(&v), sizeof v);
  return o.str();
}

// No buffer in memory is as large as the scores.
void requireNoScores(const cg::Compiled &c, const Form &f) {
  for (const auto &fn : c.functions())
    for (const cg::Buffer &b : fn.program.buffers) {
      INFO(b.name);
      bool scores = b.life == cg::Life::Transient && b.type.dims.size() == 4;
      if (scores) {
        const auto &d = b.type.dims;
        scores = d[2] == ir::Dim(f.rows) && d[3] == ir::Dim(f.cols);
      }
      REQUIRE_FALSE(scores);
    }
}

void requireClose(const std::vector<ir::Tensor> &got, const std::vector<ir::Tensor> &want,
                  double tolerance = 2e-5) {
  REQUIRE(want.size() == got.size());
  for (size_t i = 0; i < want.size(); ++i)
    for (size_t j = 0; j < want[i].data.size(); ++j) {
      if (std::abs(got[i].data[j] - want[i].data[j]) <= tolerance * (1 + std::abs(want[i].data[j])))
        continue;
      FAIL("result " << i << ", element " << j << ": " << got[i].data[j] << ", not "
                     << want[i].data[j]);
    }
}

// On vectors, or on a target with tiles. Sums on tiles are dealt in another order than those of a
// kernel of their own on vectors, which narrow products may be.
void checkForm(const Form &f, int kernels, const std::optional<cg::Target> &tiles = {}) {
  auto m = load(attention(f));
  const ir::Function &fn = *m->find("train_step");
  const bool rounded = f.type == "bf16" || f.type == "f16";
  cg::CodegenOptions options = target();
  if (tiles)
    options.target = *tiles;
  else
    options.fuse.tiles = options.target.amx = false;
  CompiledModel c(*m, options);
  REQUIRE(chains(c.compiled()) == kernels);
  requireNoScores(c.compiled(), f);
  for (const auto &cf : c.compiled().functions())
    for (int64_t n : {f.batch, int64_t(1)}) REQUIRE(cg::checkHazards(cf.program, cf.plan, n) == "");
  cg::CodegenOptions plain = options;
  plain.fuse.fuse = false;
  CompiledModel unfused(*m, plain);
  REQUIRE(chains(unfused.compiled()) == 0);
  c.seed = unfused.seed = 5;
  c.step = unfused.step = 3;
  for (int64_t n : {f.batch, int64_t(1), std::max<int64_t>(1, f.batch - 1)}) {
    INFO("n " << n);
    const auto inputs = randomInputs(fn, n, uint64_t(n) + 17);
    c.options = {};
    const auto got = c.run("train_step", inputs);
    const std::string bits = bitsOf(got);
    const auto plainly = unfused.run("train_step", inputs);
    // Sums of 128 terms have lanes in a kernel of their own.
    if (std::max(f.depth, f.width) < 128 && !tiles) REQUIRE((bitsOf(plainly) == bits));
    requireClose(got, plainly, tiles ? 0.04 : 2e-5);
    for (int threads : {2, 3, 5})
      for (ItemOrder order : {ItemOrder::forward, ItemOrder::shuffled}) {
        c.options.threads = threads;
        c.options.order = order;
        REQUIRE((bitsOf(c.run("train_step", inputs)) == bits));
      }
    if (f.dropout > 0) continue; // draws of the interpreter need its step
    ir::Interpreter in(*m, ir::Precision::f64, 5);
    const auto want = in.run("train_step", inputs);
    REQUIRE(want.size() == got.size());
    requireClose(got, want, rounded ? 0.06 : 2e-5);
  }
}

} // namespace

TEST_CASE("attention in tiles of any size", "[codegen][chain]") {
  const auto [rows, cols, depth, width] =
      GENERATE(std::array<int64_t, 4>{5, 7, 4, 6}, std::array<int64_t, 4>{16, 16, 8, 8},
               std::array<int64_t, 4>{33, 13, 16, 32}, std::array<int64_t, 4>{70, 65, 32, 17},
               std::array<int64_t, 4>{2, 130, 64, 48}, std::array<int64_t, 4>{40, 24, 100, 128});
  const int masks = GENERATE(0, 1, 2, 3);
  Form f;
  f.rows = rows, f.cols = cols, f.depth = depth, f.width = width;
  f.causal = masks & 1, f.padding = masks & 2;
  f.timeFirst = masks == 2;
  checkForm(f, 2);
}

TEST_CASE("attention with biases, dropout, shared keys and zeroed weights", "[codegen][chain]") {
  const int form = GENERATE(range(0, 16));
  Form f;
  f.rows = 19, f.cols = 21, f.depth = 8, f.width = 20;
  f.bias = form & 1, f.shared = form & 2, f.causal = f.zeroed = form & 4;
  f.dropout = form & 8 ? 0.25 : 0;
  checkForm(f, 2);
}

TEST_CASE("hidden columns count where their weights are not zero", "[codegen][chain]") {
  // exp(low - max) is zero for no row; for some; for all that see a score above it.
  const double low = GENERATE(-1.0, -103.0, -1e9);
  Form f;
  f.rows = 75, f.cols = 90, f.depth = 6, f.width = 18;
  f.causal = true, f.low = low;
  checkForm(f, 2);
  auto m = load(attention(f));
  const auto c = cg::compile(*m, target("x86-64-v4"), cg::Emit::Kernels);
  REQUIRE(c->kernelsText().find("col up to row + 0 from") != std::string::npos);
}

TEST_CASE("attention in f64, and forward alone", "[codegen][chain]") {
  Form f;
  f.rows = 21, f.cols = 18, f.depth = 9, f.width = 11;
  f.type = "f64";
  f.causal = true;
  checkForm(f, 2);
  f.type = "f32";
  f.derivatives = false;
  checkForm(f, 1);
}

TEST_CASE("attention in bf16 and f16, with sums over rows rounded at the end", "[codegen][chain]") {
  Form f;
  f.type = GENERATE("bf16", "f16");
  const int form = GENERATE(range(0, 6));
  f.causal = form & 1, f.shared = form & 2;
  if (form & 4) f.common = true, f.heads = 1;
  std::tie(f.rows, f.cols, f.depth, f.width) =
      GENERATE(std::tuple<int64_t, int64_t, int64_t, int64_t>{70, 65, 32, 17},
               std::tuple<int64_t, int64_t, int64_t, int64_t>{33, 100, 8, 48});
  checkForm(f, 2);
}

TEST_CASE("attention in bf16 on tile registers", "[codegen][chain][amx]") {
  const std::optional<cg::Target> tiles = test::tileTarget();
  if (!tiles) {
    WARN("neither tile registers nor AVX-512 to emulate them: code for tiles did not run");
    return;
  }
  Form f;
  f.type = "bf16";
  struct Case {
    int64_t rows, cols, depth, width;
    bool causal, shared, timeFirst, common = false;
  };
  const Case one = GENERATE(Case{70, 65, 32, 17, true, false, false},
                            Case{33, 100, 8, 48, true, true, false},
                            Case{64, 96, 64, 64, false, false, true},
                            Case{64, 64, 32, 32, true, false, true},
                            Case{45, 40, 64, 30, false, true, false},
                            Case{10, 7, 70, 33, false, false, true},
                            Case{40, 50, 32, 20, true, false, false, true});
  f.rows = one.rows, f.cols = one.cols, f.depth = one.depth, f.width = one.width;
  f.common = one.common;
  if (one.common) f.heads = 1; // else sums of one head would wait for those of the others
  f.causal = one.causal, f.shared = one.shared, f.padding = f.timeFirst = f.negated = one.timeFirst;
  checkForm(f, 2, tiles);
  // To the bit, kernel by kernel, on memory that ends where the arguments do.
  cg::CodegenOptions options = target();
  options.target = *tiles;
  const auto m = load(attention(f));
  const auto c = cg::compile(*m, options, cg::Emit::Kernels);
  for (const auto &function : c->functions())
    for (const cg::Launch &l : function.program.launches) {
      if (l.kernel.cls != cg::KernelClass::Chain) continue;
      REQUIRE(l.kernel.schedule.family == cg::Family::Amx);
      const test::KernelCode code(l.kernel, *tiles);
      for (int64_t n : {f.batch, int64_t(1)}) test::checkAt(l.kernel, code, n, {}, "tiles");
    }
}

TEST_CASE("attention is a chain on tiles if all of it fits them, or if its scores are many",
          "[codegen][chain]") {
  Form f;
  f.type = "bf16";
  f.depth = f.width = 64;
  const auto kernels = [&](int64_t size, const char *cpu) {
    f.rows = f.cols = size;
    return cg::compile(*load(attention(f)), target(cpu), cg::Emit::Kernels)->kernelsText();
  };
  const auto chained = [](const std::string &text) {
    return text.find("kernel Chain") != std::string::npos;
  };
  for (const char *cpu : {"sapphirerapids", "x86-64-v4"})
    for (int64_t size : {128, 2048}) {
      const std::string text = kernels(size, cpu);
      CHECK(chained(text));
      CHECK(text.find("stored at the end") != std::string::npos);
    }
  f.split = true;
  CHECK_FALSE(chained(kernels(128, "sapphirerapids")));
  CHECK(chained(kernels(2048, "sapphirerapids")));
  CHECK(chained(kernels(128, "x86-64-v4")));
}

TEST_CASE("what is fused for tile registers runs on them", "[codegen][chain]") {
  // Fusion decides by the program's nodes, the schedule by the kernel's expressions: they agree.
  for (int form = 0; form < 256; ++form) {
    Form f;
    f.type = "bf16";
    f.rows = 40, f.cols = 37, f.depth = 32, f.width = 20;
    f.causal = f.zeroed = form & 1, f.padding = form & 2, f.bias = form & 4;
    f.shared = form & 8, f.timeFirst = form & 16, f.negated = form & 32;
    if (form & 64) f.common = true, f.heads = 1;
    f.dropout = form & 128 ? 0.25 : 0;
    const auto m = load(attention(f));
    const auto c = cg::compile(*m, target("sapphirerapids"), cg::Emit::Kernels);
    INFO("form " << form << "\n" << c->kernelsText());
    REQUIRE(chains(*c) == 2);
    for (const auto &function : c->functions())
      for (const cg::Launch &l : function.program.launches)
        if (l.kernel.cls == cg::KernelClass::Chain)
          REQUIRE(l.kernel.schedule.family == cg::Family::Amx);
  }
}

TEST_CASE("a rounded product is added up as the program rounds it", "[codegen][chain]") {
  // No exponentials: y = (q k' v) / sum(q k'), whose products go straight into a sum.
  std::ostringstream o;
  const std::string s = "bf16[n,2,40,36]", y = "bf16[n,2,40,20]";
  o << "nnc-ir 1\nmeta {\"name\": \"t\"}\nfunc @train_step batch 2 (%q: bf16[n,2,40,32], %k: "
       "bf16[n,2,36,32], %v: bf16[n,2,36,20]) {\n"
    << "  %s = contract %q, %k {x \"b, h, q, d\", w \"b, h, k, d\", y \"b, h, q, k\"} : " << s
    << "\n  %sum = reduce %s {kind=sum, dims=[3]} : bf16[n,2,40]\n"
    << "  %y = contract %s, %v {x \"b, h, q, k\", w \"b, h, k, e\", y \"b, h, q, e\"} : " << y
    << "\n  return \"y\" = %y, \"sum\" = %sum\n}\n";
  auto m = load(o.str());
  std::vector<cg::Target> targets{target().target};
  if (const auto tiles = test::tileTarget()) targets.push_back(*tiles);
  targets[0].amx = false;
  for (const cg::Target &t : targets) {
    cg::CodegenOptions options = target(), plain;
    options.target = t;
    plain = options;
    plain.fuse.fuse = false;
    CompiledModel c(*m, options), unfused(*m, plain);
    REQUIRE(chains(c.compiled()) == 1);
    const auto inputs = randomInputs(*m->find("train_step"), 2, 9);
    const auto got = c.run("train_step", inputs), want = unfused.run("train_step", inputs);
    if (!t.amx) CHECK((bitsOf(got) == bitsOf(want)));
    requireClose(got, want, 0.02);
  }
}

TEST_CASE("what does not wait for the forward pass is in its kernel", "[codegen][chain]") {
  Form f;
  f.rows = 18, f.cols = 11;
  f.square = false;
  checkForm(f, 1);
}

TEST_CASE("attention has the same bits on every target", "[codegen][chain]") {
  Form f;
  f.rows = 37, f.cols = 29, f.depth = 12, f.width = 40;
  f.causal = true;
  auto m = load(attention(f));
  const auto inputs = randomInputs(*m->find("train_step"), f.batch, 3);
  CompiledModel a(*m, target("x86-64-v3")), b(*m, target());
  REQUIRE((bitsOf(a.run("train_step", inputs)) == bitsOf(b.run("train_step", inputs))));
}

TEST_CASE("scores that something else needs are kept in memory", "[codegen][chain]") {
  // The weights are a result of the function.
  Form f;
  std::string text = attention(f);
  const std::string from = "return \"y\" = %y", to = "return \"p\" = %p, \"y\" = %y";
  text.replace(text.find(from), from.size(), to);
  auto m = load(text);
  CompiledModel c(*m, target());
  REQUIRE(chains(c.compiled()) == 0);
  const auto inputs = randomInputs(*m->find("train_step"), 2, 1);
  const auto got = c.run("train_step", inputs);
  ir::Interpreter in(*m, ir::Precision::f64, 0);
  const auto want = in.run("train_step", inputs);
  requireClose(got, want);
}

TEST_CASE("a chain's text says what it computes", "[codegen][chain]") {
  Form f;
  f.derivatives = false;
  f.rows = 32, f.cols = 20;
  auto m = load(attention(f));
  auto c = cg::compile(*m, target("x86-64-v4"), cg::Emit::Kernels);
  INFO(c->kernelsText());
  for (const char *line : {"kernel Chain", "tile 0[row, col] = sum d: e0 * e1", "[row] = max col",
                           "[row, e] = sum col"})
    REQUIRE(c->kernelsText().find(line) != std::string::npos);
}
