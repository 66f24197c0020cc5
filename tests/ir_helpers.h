// Shared by the ir_ tests: random tensors, and gradients checked against central differences.
#pragma once
#include "ir/builder.h"
#include "ir/formulas.h"
#include "ir/gradient.h"
#include "ir/interpret.h"
#include "ir/text.h"
#include "ir/verify.h"
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <random>

namespace nnc::ir::test {

using Random = std::mt19937_64;

inline double uniform(Random &r, double lo, double hi) {
  return std::uniform_real_distribution<double>(lo, hi)(r);
}
inline int64_t pick(Random &r, int64_t lo, int64_t hi) { // lo..hi
  return std::uniform_int_distribution<int64_t>(lo, hi)(r);
}

inline Tensor tensor(std::vector<int64_t> dims, std::vector<double> data, DType t = DType::f64) {
  return {t, std::move(dims), std::move(data)};
}
inline Tensor randomTensor(Random &r, const Type &type, int64_t n, double lo = -1, double hi = 1) {
  Tensor t;
  t.dtype = type.dtype;
  for (const Dim d : type.dims) t.dims.push_back(d.at(n));
  t.data.resize(size_t(t.count()));
  for (double &v : t.data) {
    v = uniform(r, lo, hi);
    if (!isFloat(type.dtype)) v = std::floor(v);
    if (type.dtype == DType::boolean) v = double(pick(r, 0, 1));
  }
  return t;
}
inline Type f64(Dims dims) { return {DType::f64, std::move(dims)}; }

// |a - b| within tol of their size; false for NaN on one side only.
inline bool near(double a, double b, double tol) {
  if (std::isnan(a) && std::isnan(b)) return true;
  if (a == b) return true;
  return std::fabs(a - b) < tol * std::max({1.0, std::fabs(a), std::fabs(b)});
}

// Positive numbers that differ from place to place, for any type.
inline V weights(Builder &b, Type type, double phase) {
  const Type index{DType::i32, type.dims};
  V place = b.constant(0, index);
  for (int d = 0; d < type.rank(); ++d) place = place + b.iota(d, index) * double(3 * d + 1);
  return sin(b.cast(place, type.dtype) * 1.3 + phase) + 1.5;
}
inline V total(Builder &b, V x) {
  Ints dims;
  for (int d = 0; d < x.type().rank(); ++d) dims.push_back(d);
  return b.sum(x, dims);
}
// A loss that is not linear in y, so that linear operations have second derivatives.
inline V lossOf(Builder &b, V y, double phase) {
  return total(b, weights(b, y.type(), phase) * (y * y + y));
}

using Formula = std::function<std::vector<V>(Builder &, const std::vector<V> &)>;

// @value: the loss; @first: its gradient, and a loss of that gradient; @second: the latter's
// gradient. xs are the parameters that are floating point.
inline void addGradientFunctions(Module &m, const std::vector<Type> &types,
                                 const Formula &formula) {
  for (const char *name : {"value", "first", "second"}) {
    Function &f = m.add(name, 4);
    Builder b(m, f);
    std::vector<V> all, xs;
    for (const Type &t : types) {
      all.push_back(b.param("x", t));
      if (isFloat(t.dtype)) xs.push_back(all.back());
    }
    const std::string which = name;
    V loss = b.constant(0, f64({}));
    double phase = 0.7;
    for (const V y : formula(b, all))
      if (isFloat(y.type().dtype)) loss = loss + lossOf(b, y, phase += 0.4);
    if (which != "value") {
      const std::vector<V> d = b.grad(loss, {xs.begin(), xs.end()});
      loss = b.constant(0, f64({}));
      for (const V g : d) loss = loss + lossOf(b, g, phase += 0.4);
      if (which == "first")
        for (const V g : d) b.result("", g);
    }
    if (which == "second")
      for (const V g : b.grad(loss, {xs.begin(), xs.end()})) b.result("", g);
    b.result("loss", loss);
  }
}

// d (last result of `function`) / d inputs by central differences against `expected`.
inline void checkDifferences(Interpreter &in, const std::string &function,
                             std::vector<Tensor> inputs, const std::vector<Tensor> &expected,
                             double tol) {
  size_t k = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!isFloat(inputs[i].dtype)) continue;
    REQUIRE(expected[k].dims == inputs[i].dims);
    for (size_t j = 0; j < inputs[i].data.size(); ++j) {
      const double x = inputs[i].data[j], h = 1e-5 * std::max(1.0, std::fabs(x));
      auto at = [&](double v) {
        inputs[i].data[j] = v;
        const double y = in.run(function, inputs).back().data[0];
        inputs[i].data[j] = x;
        return y;
      };
      const double difference = (at(x + h) - at(x - h)) / (2 * h), computed = expected[k].data[j];
      INFO(function << ": input " << i << " element " << j << " at " << x << ": computed "
                    << computed << ", difference " << difference);
      REQUIRE(std::isfinite(computed));
      REQUIRE(near(computed, difference, tol)); // NaN fails
    }
    ++k;
  }
}

// First and second derivatives of a formula against differences at the given inputs.
inline void checkGradients(const std::vector<Type> &types, const Formula &formula,
                           const std::vector<Tensor> &inputs, double tol = 2e-6) {
  Module m;
  addGradientFunctions(m, types, formula);
  differentiate(m);
  const std::string error = verify(m);
  INFO(error);
  if (!error.empty()) INFO(print(m));
  REQUIRE(error.empty());
  Interpreter in(m, Precision::f64, 3);
  auto first = in.run("first", inputs), second = in.run("second", inputs);
  checkDifferences(in, "value", inputs, first, tol);
  checkDifferences(in, "first", inputs, second, tol);
}

inline void checkGradients(Random &r, const std::vector<Type> &types, const Formula &formula,
                           double lo = -1, double hi = 1, int64_t n = 3, double tol = 2e-6) {
  std::vector<Tensor> inputs;
  for (const Type &t : types) inputs.push_back(randomTensor(r, t, n, lo, hi));
  checkGradients(types, formula, inputs, tol);
}

} // namespace nnc::ir::test
