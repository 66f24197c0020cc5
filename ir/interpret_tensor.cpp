// The meaning of the TENSOR rows: one function eval_<op> per row.
//
// Problem. A tensor operation is a rule from result indices to operand indices. Example: transpose
// {perm=[1,0]} of f32[2,3]: y[i,j] = x[j,i], so walking y row by row reads x with strides 1 and 3.
//
// Method. `nest` walks an index space and keeps one running offset per tensor; most rows are one
// nest with the right strides. Sums are taken in index order, in the accumulator of their type.
#include "ir/evaluate.h"
#include "ir/random.h"
#include <algorithm>
#include <numeric>

namespace nnc::ir {

using Sizes = std::vector<int64_t>;

// --- sources and pointwise-like -----------------------------------------------------------------

void eval_select(Evaluation &e) {
  for (size_t i = 0; i < e.y().data.size(); ++i)
    e.y().data[i] = e.x(0).data[i] != 0 ? e.x(1).data[i] : e.x(2).data[i];
}

void eval_cast(Evaluation &e) {
  const DType to = e.y().dtype, from = e.x().dtype;
  for (size_t i = 0; i < e.y().data.size(); ++i) {
    const double v = e.x().data[i];
    if (to == DType::boolean)
      e.y().data[i] = v != 0 ? 1 : 0;
    else
      e.y().data[i] = isInteger(to) && isFloat(from) ? scalar::saturate(to, v) : v;
  }
}

void eval_constant(Evaluation &e) {
  const auto &data = e.attr<ConstantAttr>().data;
  if (data.size() == 1)
    std::fill(e.y().data.begin(), e.y().data.end(), data[0]);
  else
    std::copy(data.begin(), data.end(), e.y().data.begin());
}

void eval_iota(Evaluation &e) {
  Tensor &y = e.y();
  const size_t d = size_t(e.attr<IotaAttr>().dim);
  const int64_t inner = stridesOf(y.dims)[d], extent = y.dims[d];
  for (size_t i = 0; i < y.data.size(); ++i) y.data[i] = double(int64_t(i) / inner % extent);
}

void eval_size(Evaluation &e) { e.y().data[0] = double(e.attr<SizeAttr>().size.at(e.n)); }

// The logical index has the strides of the full batch: row i draws the same bits for every n.
void eval_random(Evaluation &e) {
  const auto &a = e.attr<RandomAttr>();
  Sizes whole;
  for (const Dim d : a.type.dims) whole.push_back(d.at(e.full));
  const uint64_t key = mixSeed(e.run.seed) ^ siteHash(a.site);
  nest<2>(e.y().dims, {stridesOf(e.y().dims), stridesOf(whole)}, {0, 0}, [&](auto at) {
    e.y().data[size_t(at[0])] =
        uniform24(philoxWord(key, e.run.step, e.iteration, uint64_t(at[1])));
  });
}

// --- moving elements ----------------------------------------------------------------------------

namespace {

// y[index] = x[start + index . strides] over all of y.
void copyStrided(Evaluation &e, const Sizes &strides, int64_t start = 0) {
  nest<2>(e.y().dims, {stridesOf(e.y().dims), strides}, {0, start},
          [&](auto at) { e.y().data[size_t(at[0])] = e.x().data[size_t(at[1])]; });
}

} // namespace

void eval_broadcast(Evaluation &e) {
  const auto &dims = e.attr<BroadcastAttr>().dims;
  const Sizes sx = stridesOf(e.x().dims);
  Sizes strides(e.y().dims.size(), 0);
  for (size_t i = 0; i < dims.size(); ++i)
    strides[size_t(dims[i])] = e.x().dims[i] == 1 ? 0 : sx[i];
  copyStrided(e, strides);
}

void eval_reshape(Evaluation &e) { e.y().data = e.x().data; }

void eval_transpose(Evaluation &e) {
  const Sizes sx = stridesOf(e.x().dims);
  Sizes strides;
  for (const int64_t p : e.attr<PermAttr>().perm) strides.push_back(sx[size_t(p)]);
  copyStrided(e, strides);
}

void eval_slice(Evaluation &e) {
  const auto &a = e.attr<SliceAttr>();
  Sizes strides = stridesOf(e.x().dims);
  int64_t start = 0;
  for (size_t d = 0; d < strides.size(); ++d) {
    start += a.start[d].at(e.n) * strides[d];
    if (!a.stride.empty()) strides[d] *= a.stride[d];
  }
  copyStrided(e, strides, start);
}

void eval_reverse(Evaluation &e) {
  Sizes strides = stridesOf(e.x().dims);
  int64_t start = 0;
  for (const int64_t d : e.attr<AxesAttr>().dims) {
    start += strides[size_t(d)] * (e.x().dims[size_t(d)] - 1);
    strides[size_t(d)] *= -1;
  }
  copyStrided(e, strides, start);
}

void eval_pad(Evaluation &e) {
  const auto &a = e.attr<PadAttr>();
  const Sizes sy = stridesOf(e.y().dims);
  int64_t start = 0;
  for (size_t d = 0; d < sy.size(); ++d) start += a.low[d].at(e.n) * sy[d];
  std::fill(e.y().data.begin(), e.y().data.end(), a.value);
  nest<2>(e.x().dims, {stridesOf(e.x().dims), sy}, {0, start},
          [&](auto at) { e.y().data[size_t(at[1])] = e.x().data[size_t(at[0])]; });
}

void eval_concat(Evaluation &e) {
  const size_t d = size_t(e.attr<AxisAttr>().dim);
  const Sizes sy = stridesOf(e.y().dims);
  int64_t start = 0;
  for (const Tensor *x : e.in) {
    nest<2>(x->dims, {stridesOf(x->dims), sy}, {0, start},
            [&](auto at) { e.y().data[size_t(at[1])] = x->data[size_t(at[0])]; });
    start += x->dims[d] * sy[d];
  }
}

namespace {

// Visits the pairs (element of the whole, element of the windows) of a window row; elements outside
// of the whole have whole = -1. Windows are [pre, out.., size.., post].
template <class F>
void forWindows(const WindowAttr &a, const Sizes &whole, const Sizes &windows, F f) {
  const size_t k = a.size.size(), pre = size_t(a.dim);
  const Sizes sWhole = stridesOf(whole), sWin = stridesOf(windows);
  Sizes at(windows.size(), 0);
  const int64_t count =
      std::accumulate(windows.begin(), windows.end(), int64_t(1), std::multiplies<>());
  for (int64_t w = 0; w < count; ++w) {
    int64_t offset = 0;
    for (size_t d = 0; d < windows.size(); ++d) at[d] = w / sWin[d] % windows[d];
    for (size_t d = 0; d < whole.size() && offset >= 0; ++d) {
      const bool inside = d >= pre && d < pre + k;
      const size_t j = d - pre;
      const int64_t i = inside ? a.stride[j] * at[d] + a.dilation[j] * at[d + k] - a.low[j]
                               : at[d < pre ? d : d + k];
      offset = i < 0 || i >= whole[d] ? -1 : offset + i * sWhole[d];
    }
    f(offset, w);
  }
}

} // namespace

void eval_window(Evaluation &e) {
  const auto &a = e.attr<WindowAttr>();
  forWindows(a, e.x().dims, e.y().dims, [&](int64_t whole, int64_t w) {
    e.y().data[size_t(w)] = whole < 0 ? a.value : e.x().data[size_t(whole)];
  });
}

void eval_unwindow(Evaluation &e) {
  withAccumulator(e.y().dtype, e.run.p, [&](auto zero) {
    using T = decltype(zero);
    forWindows(e.attr<WindowAttr>(), e.y().dims, e.x().dims, [&](int64_t whole, int64_t w) {
      if (whole < 0) return;
      double &y = e.y().data[size_t(whole)];
      y = T(T(y) + T(e.x().data[size_t(w)]));
    });
  });
}

// --- reductions ---------------------------------------------------------------------------------

namespace {

// Calls f(result offset, operand offset, row-major index within the reduced dimensions), in
// row-major order of the operand's reduced dimensions for each result.
template <class F> void forReduced(const Tensor &x, const Ints &dims, F f) {
  const Sizes sx = stridesOf(x.dims);
  Sizes kept, keptStrides, inner, innerStrides;
  for (size_t d = 0; d < x.dims.size(); ++d) {
    const bool reduced = std::find(dims.begin(), dims.end(), int64_t(d)) != dims.end();
    (reduced ? inner : kept).push_back(x.dims[d]);
    (reduced ? innerStrides : keptStrides).push_back(sx[d]);
  }
  nest<2>(kept, {stridesOf(kept), keptStrides}, {0, 0}, [&](auto y) {
    nest<2>(inner, {stridesOf(inner), innerStrides}, {0, y[1]},
            [&](auto at) { f(size_t(y[0]), size_t(at[1]), at[0]); });
  });
}

double identity(ReduceKind kind, DType t) {
  const double inf = std::numeric_limits<double>::infinity();
  switch (kind) {
  case ReduceKind::sum: return 0;
  case ReduceKind::prod: return 1;
  case ReduceKind::max:
    return isFloat(t) ? -inf : t == DType::boolean ? 0 : scalar::saturate(t, -1e300);
  case ReduceKind::min:
    return isFloat(t) ? inf : t == DType::boolean ? 1 : scalar::saturate(t, 1e300);
  }
  return 0;
}

template <class T> double combine(ReduceKind kind, T a, T b) {
  switch (kind) {
  case ReduceKind::sum: return scalar::toDouble(a + b);
  case ReduceKind::prod: return scalar::toDouble(a * b);
  case ReduceKind::max: return scalar::toDouble(scalar::max(a, b));
  case ReduceKind::min: return scalar::toDouble(scalar::min(a, b));
  }
  return 0;
}

} // namespace

void eval_reduce(Evaluation &e) {
  const auto &a = e.attr<ReduceAttr>();
  auto &y = e.y().data;
  const auto &x = e.x().data;
  std::fill(y.begin(), y.end(), identity(a.kind, e.x().dtype));
  if (isInteger(e.x().dtype))
    return forReduced(e.x(), a.dims, [&](size_t o, size_t i, int64_t) {
      y[o] = combine(a.kind, scalar::Int::from(y[o]), scalar::Int::from(x[i]));
    });
  withAccumulator(e.x().dtype, e.run.p, [&](auto zero) {
    using T = decltype(zero);
    forReduced(e.x(), a.dims,
               [&](size_t o, size_t i, int64_t) { y[o] = combine(a.kind, T(y[o]), T(x[i])); });
  });
}

void eval_max_index(Evaluation &e) {
  auto &value = e.y(0).data;
  auto &index = e.y(1).data;
  forReduced(e.x(), e.attr<AxesAttr>().dims, [&](size_t o, size_t i, int64_t k) {
    const double v = e.x().data[i];
    const bool wins = k == 0 || v > value[o] || (std::isnan(v) && !std::isnan(value[o]));
    if (wins) value[o] = v, index[o] = double(k);
  });
}

namespace {

// Calls f(offset of a line's first element, distance between its elements, their number).
template <class F> void forLines(const Tensor &x, int64_t dim, F f) {
  const int64_t step = stridesOf(x.dims)[size_t(dim)], length = x.dims[size_t(dim)];
  if (length == 0) return;
  for (int64_t i = 0; i < x.count(); ++i)
    if (i / step % length == 0) f(i, step, length);
}

} // namespace

void eval_cumsum(Evaluation &e) {
  const auto &a = e.attr<CumsumAttr>();
  withAccumulator(e.y().dtype, e.run.p, [&](auto zero) {
    using T = decltype(zero);
    forLines(e.x(), a.dim, [&](int64_t first, int64_t step, int64_t length) {
      T sum = 0;
      for (int64_t k = 0; k < length; ++k) {
        const size_t i = size_t(first + step * (a.reverse ? length - 1 - k : k));
        const T next = sum + T(e.x().data[i]);
        e.y().data[i] = a.exclusive ? sum : next;
        sum = next;
      }
    });
  });
}

// NaN sorts last in either direction.
void eval_sort(Evaluation &e) {
  const auto &a = e.attr<SortAttr>();
  const auto &x = e.x().data;
  forLines(e.x(), a.dim, [&](int64_t first, int64_t step, int64_t length) {
    std::vector<int64_t> order(size_t(length), 0);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) {
      const double u = x[size_t(first + step * i)], v = x[size_t(first + step * j)];
      if (std::isnan(u) || std::isnan(v)) return std::isnan(v) && !std::isnan(u);
      return a.descending ? u > v : u < v;
    });
    for (int64_t k = 0; k < length; ++k) {
      const size_t at = size_t(first + step * k);
      e.y(0).data[at] = x[size_t(first + step * order[size_t(k)])];
      e.y(1).data[at] = double(order[size_t(k)]);
    }
  });
}

// --- contraction --------------------------------------------------------------------------------

namespace {

// One loop nest over the labels. A dimension whose form can leave its tensor is a guard; in the
// last loop the guards become one range, so the innermost statement is only the multiplication.
struct ContractNest {
  struct Guard {
    Sizes coef;
    int64_t size;
  };
  Sizes extents;                // per loop
  std::array<Sizes, 3> strides; // per tensor and loop
  std::array<int64_t, 3> start{0, 0, 0};
  std::vector<Guard> guards; // coefficients per loop
  Sizes at;                  // current index of each guard

  ContractNest(const ContractAttr &a, const std::array<const Tensor *, 3> &t, int64_t n) {
    const std::vector<size_t> order = loopOrder(a);
    for (const size_t l : order) extents.push_back(a.extents[l].at(n));
    for (size_t k = 0; k < 3; ++k) {
      strides[k].assign(order.size(), 0);
      const Sizes s = stridesOf(t[k]->dims);
      for (size_t d = 0; d < a.forms[k].size(); ++d)
        addDim(a.forms[k][d], order, k, s[d], t[k]->dims[d]);
    }
  }
  // Labels of the result outermost: each element's sum is taken in the order of the other labels.
  static std::vector<size_t> loopOrder(const ContractAttr &a) {
    std::vector<bool> inResult(a.labels.size(), false);
    for (const LabelForm &f : a.forms[2])
      for (const LabelTerm &t : f.terms) inResult[size_t(t.label)] = true;
    std::vector<size_t> order;
    for (const bool first : {true, false})
      for (size_t l = 0; l < a.labels.size(); ++l)
        if (inResult[l] == first) order.push_back(l);
    return order;
  }
  void addDim(const LabelForm &f, const std::vector<size_t> &order, size_t k, int64_t stride,
              int64_t size) {
    Guard g{Sizes(order.size(), 0), size};
    int64_t low = f.offset, high = f.offset;
    for (const LabelTerm &t : f.terms) {
      const size_t loop =
          size_t(std::find(order.begin(), order.end(), size_t(t.label)) - order.begin());
      g.coef[loop] += t.coef;
      const int64_t reach = t.coef * (extents[loop] - 1);
      (reach < 0 ? low : high) += reach;
    }
    for (size_t l = 0; l < order.size(); ++l) strides[k][l] += g.coef[l] * stride;
    start[k] += f.offset * stride;
    if (low >= 0 && high < size) return;
    guards.push_back(std::move(g));
    at.push_back(f.offset);
  }
  // The part of the last loop in which all guards hold.
  std::pair<int64_t, int64_t> range() const {
    int64_t lo = 0, hi = extents.back();
    for (size_t g = 0; g < guards.size(); ++g) {
      const int64_t c = guards[g].coef.back(), room = guards[g].size - 1 - at[g];
      auto ceilDiv = [](int64_t a, int64_t b) { return a <= 0 ? -(-a / b) : (a + b - 1) / b; };
      auto floorDiv = [](int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); };
      if (c == 0 && (at[g] < 0 || room < 0)) hi = 0;
      if (c > 0) lo = std::max(lo, ceilDiv(-at[g], c)), hi = std::min(hi, floorDiv(room, c) + 1);
      if (c < 0) lo = std::max(lo, ceilDiv(-room, -c)), hi = std::min(hi, floorDiv(at[g], -c) + 1);
    }
    return {lo, hi};
  }
  template <class F> void run(F &&inner, std::array<int64_t, 3> o, size_t d = 0) {
    if (d + 1 == extents.size()) {
      const auto [lo, hi] = range();
      if (lo < hi)
        inner(o[0] + lo * strides[0][d], o[1] + lo * strides[1][d], o[2] + lo * strides[2][d],
              hi - lo);
      return;
    }
    for (int64_t i = 0; i < extents[d]; ++i) {
      run(inner, o, d + 1);
      for (size_t k = 0; k < 3; ++k) o[k] += strides[k][d];
      for (size_t g = 0; g < guards.size(); ++g) at[g] += guards[g].coef[d];
    }
    for (size_t g = 0; g < guards.size(); ++g) at[g] -= guards[g].coef[d] * extents[d];
  }
};

} // namespace

void eval_contract(Evaluation &e) {
  ContractAttr a = e.attr<ContractAttr>();
  if (a.labels.empty()) a.labels.push_back("once"), a.extents.push_back(1); // a product of scalars
  ContractNest loops(a, {&e.x(0), &e.x(1), &e.y()}, e.n);
  const double *x = e.x(0).data.data(), *w = e.x(1).data.data();
  double *y = e.y().data.data();
  const int64_t sx = loops.strides[0].back(), sw = loops.strides[1].back(),
                sy = loops.strides[2].back();
  withAccumulator(e.y().dtype, e.run.p, [&](auto zero) {
    using T = decltype(zero);
    loops.run(
        [&](int64_t ox, int64_t ow, int64_t oy, int64_t count) {
          if (sy == 0) {
            T sum = T(y[oy]);
            for (int64_t i = 0; i < count; ++i)
              sum = T(double(sum) + x[ox + i * sx] * w[ow + i * sw]);
            y[oy] = sum;
            return;
          }
          for (int64_t i = 0; i < count; ++i)
            y[oy + i * sy] = T(y[oy + i * sy] + x[ox + i * sx] * w[ow + i * sw]);
        },
        loops.start);
  });
}

// --- indexed access -----------------------------------------------------------------------------

namespace {

// Rows of `axis` in a table [outer, size, inner] and the picked form [outer, indices.., inner].
// Indices are clamped in both directions of the pair, so that each is the other's transpose.
template <class F> void forRows(const Sizes &table, int64_t axis, const Tensor &indices, F f) {
  const int64_t inner = stridesOf(table)[size_t(axis)], size = table[size_t(axis)];
  int64_t outer = 1;
  for (int64_t d = 0; d < axis; ++d) outer *= table[size_t(d)];
  const int64_t count = int64_t(indices.data.size());
  if (size == 0) return;
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t k = 0; k < count; ++k) {
      const int64_t row =
          std::clamp<int64_t>(scalar::Int::from(indices.data[size_t(k)]).v, 0, size - 1);
      f((o * size + row) * inner, (o * count + k) * inner, inner);
    }
}

} // namespace

void eval_gather(Evaluation &e) {
  forRows(e.x(0).dims, e.attr<GatherAttr>().axis, e.x(1), [&](int64_t t, int64_t p, int64_t inner) {
    std::copy_n(e.x(0).data.begin() + t, inner, e.y().data.begin() + p);
  });
}

void eval_scatter_add(Evaluation &e) {
  withAccumulator(e.y().dtype, e.run.p, [&](auto zero) {
    using T = decltype(zero);
    forRows(e.y().dims, e.attr<ScatterAttr>().axis, e.x(0),
            [&](int64_t t, int64_t p, int64_t inner) {
              for (int64_t i = 0; i < inner; ++i) {
                double &y = e.y().data[size_t(t + i)];
                y = T(T(y) + T(e.x(1).data[size_t(p + i)]));
              }
            });
  });
}

} // namespace nnc::ir
