// The interpreter against values computed by hand, the published vectors of Philox, and a
// brute-force contraction with random labels.
#include "ir/random.h"
#include "ir/scalar_math.h"
#include "tests/ir_helpers.h"

using namespace nnc::ir;
using namespace nnc::ir::test;

namespace {

const Dim n = Dim::batch();
using Data = std::vector<double>;
using Xs = const std::vector<V> &;

// Results of a formula on inputs whose types are those of the tensors (all sizes constant).
std::vector<Tensor> evaluated(std::vector<Tensor> inputs, const Formula &formula,
                              Precision p = Precision::f64) {
  Module m;
  Function &f = m.add("f", 0);
  Builder b(m, f);
  std::vector<V> xs;
  for (const Tensor &t : inputs)
    xs.push_back(b.param("x", {t.dtype, Dims(t.dims.begin(), t.dims.end())}));
  for (const V y : formula(b, xs)) b.result("", y);
  REQUIRE(verify(m) == "");
  return Interpreter(m, p, 7).run("f", std::move(inputs));
}
Data value(std::vector<Tensor> inputs, const std::function<V(Builder &, Xs)> &formula,
           Precision p = Precision::f64) {
  return evaluated(
             std::move(inputs), [&](Builder &b, Xs x) { return std::vector<V>{formula(b, x)}; },
             p)[0]
      .data;
}
Tensor ints(Data data) { return {DType::i32, {int64_t(data.size())}, data}; }
Tensor row(Data data) { return {DType::f64, {int64_t(data.size())}, data}; }
Tensor matrix(int64_t r, int64_t c) { // 0, 1, 2, ...
  Tensor t{DType::f64, {r, c}, {}};
  for (int64_t i = 0; i < r * c; ++i) t.data.push_back(double(i));
  return t;
}

} // namespace

TEST_CASE("Philox4x32-10 gives the published words") {
  CHECK(philoxWord(0, 0, 0, 0) == 0x6627e8d5u);
  CHECK(philoxWord(~0ull, ~0ull, 0, ~0ull) == 0x408f276du);
  CHECK(philoxWord(0x299f31d0a4093822ull, 0x0370734413198a2eull, 0, 0x85a308d3243f6a88ull) ==
        0xd16cfe09u);
  CHECK(siteHash("") == 0xcbf29ce484222325u);
  CHECK(siteHash("a") == 0xaf63dc4c8601ec8cu);
  CHECK(mixSeed(0) == 0xe220a8397b1dcdafu);
  CHECK(uniform24(0xffffffffu) < 1);
}

TEST_CASE("a row's draws do not depend on the batch, and differ by step, site and iteration") {
  Module m;
  Function &f = m.add("f", 4);
  Builder b(m, f);
  V x = b.param("x", f64({n, 3}));
  b.result("", b.random("a", x.type()));
  b.result("", b.random("b", x.type()));
  Interpreter in(m, Precision::f64, 7);
  auto draw = [&](int64_t rows) {
    return in.run("f", {tensor({rows, 3}, Data(size_t(rows * 3)))});
  };
  const auto four = draw(4), two = draw(2);
  CHECK(Data(four[0].data.begin(), four[0].data.begin() + 6) == two[0].data);
  CHECK(four[0].data != four[1].data);
  in.step = 1;
  CHECK(draw(4)[0].data != four[0].data);
  for (const double v : four[0].data)
    CHECK((v >= 0 && v < 1 && v * 16777216 == std::floor(v * 16777216)));

  Function &body = m.add("body", 0);
  Builder s(m, body);
  V h = s.param("h", f64({}));
  s.result("", h);
  s.result("", s.random("c", f64({})));
  for (const bool reverse : {false, true}) {
    Function &g = m.add(reverse ? "back" : "forth", 0);
    Builder c(m, g);
    c.result("", c.scan({"body", 1, {}, {0}, 3, reverse}, {c.constant(0, f64({}))})[1]);
  }
  const Data forth = in.run("forth", {})[0].data;
  CHECK(forth[0] != forth[1]);
  CHECK(forth == in.run("back", {})[0].data); // place t draws the same, whichever way the loop runs
}

TEST_CASE("integers wrap, floor and saturate") {
  auto i32 = [&](Data a, Data b, Op op) {
    return value({ints(a), ints(b)}, [&](Builder &bb, Xs x) { return bb.binary(op, x[0], x[1]); });
  };
  CHECK(i32({2147483647, -7, 65536}, {1, 2, 65536}, Op::add_) == Data{-2147483648.0, -5, 131072});
  CHECK(i32({65536, 3}, {65536, -2}, Op::mul_) == Data{0, -6});
  CHECK(i32({-7, 7, -7, 7, 5, -2147483648.0}, {2, -2, -2, 2, 0, -1}, Op::floordiv_) ==
        Data{-4, -4, 3, 3, 0, -2147483648.0});
  CHECK(i32({-7, 7, -7, 5}, {3, -3, -3, 0}, Op::mod_) == Data{2, -2, -1, 0});
  const Tensor x = row({1.9, -1.9, 1e10, -1e10, NAN, 300});
  auto cast = [&](DType t) {
    return value({x}, [&](Builder &b, Xs v) { return b.cast(v[0], t); });
  };
  CHECK(cast(DType::i32) == Data{1, -1, 2147483647, -2147483648.0, 0, 300});
  CHECK(cast(DType::u8) == Data{1, 0, 255, 0, 0, 255});
  CHECK(cast(DType::boolean) == Data{1, 1, 1, 1, 1, 1});
  CHECK(value({ints({300, -1})}, [](Builder &b, Xs v) { return b.cast(v[0], DType::u8); }) ==
        Data{44, 255});
}

TEST_CASE("floats: NaN in max, ties to even, rounding and flushing in f32 mode") {
  const Data m =
      value({row({NAN, 1, 2}), row({1, NAN, 3})}, [](Builder &, Xs x) { return max(x[0], x[1]); });
  CHECK((std::isnan(m[0]) && std::isnan(m[1]) && m[2] == 3));
  CHECK(value({row({0.5, 1.5, 2.5, -0.5})}, [](Builder &, Xs x) { return round(x[0]); }) ==
        Data{0, 2, 2, -0.0});
  CHECK(value({row({-2, 0, 3})}, [](Builder &, Xs x) { return sign(x[0]); }) == Data{-1, 0, 1});
  const Tensor one{DType::f32, {1}, {1}}, tiny{DType::f32, {1}, {1e-8}},
      small{DType::f32, {1}, {1e-38}};
  auto add = [](Builder &, Xs x) { return x[0] + x[1]; };
  CHECK(value({one, tiny}, add, Precision::f32) == Data{1});
  CHECK(value({one, tiny}, add, Precision::f64) == Data{1 + 1e-8});
  auto half = [](Builder &, Xs x) { return x[0] * 0.5; };
  CHECK(value({small}, half, Precision::f32) == Data{0});
  CHECK(value({small}, half, Precision::f64)[0] > 0);
  const Tensor x{DType::f32, {4}, {1.00390625, 1.01171875, 65520, 1e39}};
  auto through = [](DType t) {
    return [t](Builder &b, Xs v) { return b.cast(b.cast(v[0], t), DType::f32); };
  };
  CHECK(value({x}, through(DType::bf16), Precision::f32) == Data{1, 1.015625, 65536, INFINITY});
  CHECK(value({x}, through(DType::f16), Precision::f32) ==
        Data{1.00390625, 1.01171875, INFINITY, INFINITY});
}

TEST_CASE("moving elements") {
  const Tensor x = matrix(2, 3); // 0 1 2 / 3 4 5
  auto of = [&](const std::function<V(Builder &, Xs)> &f) { return value({x}, f); };
  CHECK(of([](Builder &b, Xs v) { return b.transpose(v[0], {1, 0}); }) == Data{0, 3, 1, 4, 2, 5});
  CHECK(of([](Builder &b, Xs v) {
          return b.slice(v[0], {0, 0}, {2, 3}, {1, 2});
        }) == Data{0, 2, 3, 5});
  CHECK(of([](Builder &b, Xs v) { return b.reverse(v[0], {1}); }) == Data{2, 1, 0, 5, 4, 3});
  CHECK(of([](Builder &b, Xs v) {
          return b.pad(v[0], {1, 0}, {0, 1}, 9);
        }) == Data{9, 9, 9, 9, 0, 1, 2, 9, 3, 4, 5, 9});
  CHECK(of([](Builder &b, Xs v) {
          return b.concat({v[0], v[0]}, 1);
        }) == Data{0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
  CHECK(of([](Builder &b, Xs v) {
          return b.broadcast(b.sum(v[0], {1}), {1}, {2, 2});
        }) == Data{3, 12, 3, 12});
  CHECK(of([](Builder &b, Xs v) { return b.cumsum(v[0], 1); }) == Data{0, 1, 3, 3, 7, 12});
  CHECK(of([](Builder &b, Xs v) { return b.cumsum(v[0], 1, true, true); }) ==
        Data{3, 2, 0, 9, 5, 0});
  CHECK(of([](Builder &b, Xs v) { return b.reduce(ReduceKind::prod, v[0], {1}); }) == Data{0, 60});
  CHECK(of([](Builder &b, Xs v) { return b.reduce(ReduceKind::max, v[0], {0}); }) == Data{3, 4, 5});
}

TEST_CASE("windows, indices and sorting") {
  WindowAttr a;
  a.size = {3}, a.stride = {2}, a.dilation = {1}, a.low = {1}, a.high = {0}, a.extent = {5},
  a.value = -1;
  const Tensor x = row({1, 2, 3, 4, 5});
  CHECK(value({x}, [&](Builder &b, Xs v) { return b.window(v[0], a); }) == Data{-1, 1, 2, 2, 3, 4});
  CHECK(value({x}, [&](Builder &b, Xs v) { return b.unwindow(b.window(v[0], a), a); }) ==
        Data{1, 4, 3, 4, 0});
  const Tensor t = row({2, 7, NAN, 7});
  auto y = evaluated({t}, [](Builder &b, Xs v) {
    auto [value, index] = b.maxIndex(v[0], {0});
    auto [clean, first] = b.maxIndex(b.slice(v[0], {0}, {2}), {0});
    auto [sorted, order] = b.sort(v[0], 0, true);
    return std::vector<V>{value, index, clean, first, sorted, order};
  });
  CHECK((std::isnan(y[0].data[0]) && y[1].data[0] == 2 && y[2].data[0] == 7 && y[3].data[0] == 1));
  CHECK(y[5].data == Data{1, 3, 0, 2}); // stable; NaN last
  CHECK(value({matrix(3, 2), ints({2, -5, 9})},
              [](Builder &b, Xs v) { return b.gather(v[0], v[1], 0); }) == Data{4, 5, 0, 1, 4, 5});
  CHECK(value({ints({1, 1, 0}), matrix(3, 2)}, [](Builder &b, Xs v) {
          return b.scatterAdd(v[0], v[1], 0, f64({2, 2}));
        }) == Data{4, 5, 2, 4});
}

TEST_CASE("the batch size comes from the inputs, and states are replaced") {
  Module m;
  m.persistents.push_back({"total", f64({}), {}});
  Function &f = m.add("f", 8);
  Builder b(m, f);
  V x = b.param("x", f64({n})), total_ = b.param("t", f64({}), "total");
  b.result("total", total_ + b.sum(x, {0}), true);
  b.result("rows", b.size(Dim(2, 1)));
  Interpreter in(m, Precision::f64);
  CHECK(in.run("f", {row({1, 2, 3})})[0].data == Data{7});
  in.run("f", {row({4})});
  CHECK(in.persistent("total").data == Data{10});
}

// --- contraction --------------------------------------------------------------------------------

namespace {

struct Contraction {
  ContractAttr a;
  std::vector<Dims> dims; // of x, w, y
};

// Random labels; each dimension is one label or a sum of several, with coefficients and an offset.
Contraction randomContraction(Random &r) {
  Contraction c;
  const int labels = int(pick(r, 1, 5));
  for (int l = 0; l < labels; ++l) {
    c.a.labels.push_back(std::string(1, char('a' + l)));
    c.a.extents.push_back(pick(r, 1, 3));
  }
  c.dims.resize(3);
  std::vector<bool> used(size_t(labels), false);
  for (size_t k = 0; k < 3; ++k)
    for (int64_t d = pick(r, 0, 3); d > 0; --d) {
      LabelForm form;
      std::vector<bool> inForm(size_t(labels), false);
      for (int64_t t = pick(r, 0, 3) == 0 ? 2 : 1; t > 0; --t) {
        const int32_t l = int32_t(pick(r, 0, labels - 1));
        if (inForm[size_t(l)]) continue;
        inForm[size_t(l)] = used[size_t(l)] = true;
        form.terms.push_back({l, pick(r, 0, 1) ? 1 : pick(r, 0, 1) ? 2 : -1});
      }
      if (pick(r, 0, 2) == 0) form.offset = pick(r, -2, 2);
      const bool simple = form.isSimple();
      c.dims[k].push_back(simple ? c.a.extents[size_t(form.terms[0].label)] : Dim(pick(r, 1, 5)));
      c.a.forms[k].push_back(std::move(form));
    }
  for (int32_t l = 0; l < labels; ++l)
    if (!used[size_t(l)]) {
      c.a.forms[0].push_back({{{l, 1}}, 0});
      c.dims[0].push_back(c.a.extents[size_t(l)]);
    }
  c.a.type = f64(c.dims[2]);
  return c;
}

std::optional<size_t> placeOf(const std::vector<LabelForm> &forms, const Dims &dims,
                              const std::vector<int64_t> &at) {
  int64_t place = 0;
  for (size_t d = 0; d < forms.size(); ++d) {
    int64_t i = forms[d].offset;
    for (const LabelTerm t : forms[d].terms) i += t.coef * at[size_t(t.label)];
    if (i < 0 || i >= dims[d].b) return {};
    place = place * dims[d].b + i;
  }
  return size_t(place);
}

Data bruteForce(const Contraction &c, const Tensor &x, const Tensor &w) {
  Data y(size_t(elementCount(c.dims[2], 1)), 0);
  std::vector<int64_t> at(c.a.labels.size(), 0);
  const std::function<void(size_t)> loop = [&](size_t l) {
    if (l < at.size()) {
      for (at[l] = 0; at[l] < c.a.extents[l].b; ++at[l]) loop(l + 1);
      return;
    }
    const auto ix = placeOf(c.a.forms[0], c.dims[0], at), iw = placeOf(c.a.forms[1], c.dims[1], at);
    if (const auto iy = placeOf(c.a.forms[2], c.dims[2], at); ix && iw && iy)
      y[*iy] += x.data[*ix] * w.data[*iw];
  };
  loop(0);
  return y;
}

double dot(const Data &a, const Data &b) {
  double s = 0;
  for (size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}

} // namespace

TEST_CASE("random contractions: brute force, and their gradients are their adjoints") {
  Random r(11);
  for (int k = 0; k < 400; ++k) {
    const Contraction c = randomContraction(r);
    Module m;
    Function &f = m.add("f", 0);
    Builder b(m, f);
    V x = b.param("x", f64(c.dims[0])), w = b.param("w", f64(c.dims[1])),
      g = b.param("g", f64(c.dims[2]));
    V y = b.contract(x, w, c.a);
    auto d = b.grad(total(b, y * g), {x, w});
    b.result("", y), b.result("", d[0]), b.result("", d[1]);
    differentiate(m);
    REQUIRE(verify(m) == "");
    std::vector<Tensor> in;
    for (const Dims &dims : c.dims) {
      in.push_back(randomTensor(r, f64(dims), 1, -4, 5));
      for (double &v : in.back().data) v = std::floor(v); // integers: all sums are exact
    }
    const auto out = Interpreter(m, Precision::f64).run("f", in);
    INFO(print(m));
    REQUIRE(out[0].data == bruteForce(c, in[0], in[1]));
    const double paired = dot(in[2].data, out[0].data);
    REQUIRE(dot(out[1].data, in[0].data) == paired);
    REQUIRE(dot(out[2].data, in[1].data) == paired);
  }
}
