// Layouts applied and chosen; the idea is told in layout.h.
#include "codegen/layout.h"
#include <algorithm>
#include <set>

namespace nnc::cg {

int64_t placesOf(const Layout &l, const Dims &dims, int64_t batch) {
  if (l.isRowMajor()) return ir::elementCount(dims, std::max<int64_t>(batch, 1));
  int64_t places = 1;
  for (const Digit &d : l.digits) places *= d.size;
  return places;
}

namespace {

Index rowMajor(const Dims &dims, const std::vector<Index> &at, int64_t batch) {
  Index flat;
  int64_t stride = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    flat = flat + at[i] * stride;
    stride *= dims[i].at(std::max<int64_t>(batch, 1));
  }
  return flat;
}

} // namespace

Index placeOf(Kernel &k, const Layout &l, const Dims &dims, const std::vector<Index> &at, int64_t batch) {
  if (l.isRowMajor()) return recombine(k, rowMajor(dims, at, batch));
  Index flat;
  int64_t stride = 1;
  std::vector<int64_t> below(dims.size(), 1); // product of the less significant digits of each dimension
  for (size_t i = l.digits.size(); i-- > 0;) {
    const Digit &d = l.digits[i];
    if (d.dim < 0) {
      stride *= d.size;
      continue;
    }
    bool first = std::none_of(l.digits.begin(), l.digits.begin() + int64_t(i),
                              [&](const Digit &e) { return e.dim == d.dim; });
    Index digit = divIndex(k, at[size_t(d.dim)], below[size_t(d.dim)]);
    if (!first) digit = modIndex(k, digit, d.size);
    flat = flat + digit * stride;
    stride *= d.size;
    below[size_t(d.dim)] *= d.size;
  }
  return recombine(k, flat);
}

Layout sliceLayout(const Layout &l, const Dims &dims, int64_t axis, int64_t batch, int64_t &stride) {
  std::vector<Digit> digits = l.digits;
  if (l.isRowMajor())
    for (size_t i = 0; i < dims.size(); ++i)
      digits.push_back({int32_t(i), dims[i].at(std::max<int64_t>(batch, 1))});
  Layout slice;
  Dims rest = dims;
  rest.erase(rest.begin() + axis);
  stride = 0;
  int64_t below = 1;
  for (size_t i = digits.size(); i-- > 0;) {
    Digit d = digits[i];
    if (d.dim == axis) {
      NNC_CHECK(stride == 0, "a slice along a dimension whose places are not evenly spaced");
      stride = below;
      d.dim = -1;
    } else if (d.dim > axis) {
      --d.dim;
    }
    below *= d.size;
    if (d.dim < 0 && d.size == 1) continue;
    slice.digits.insert(slice.digits.begin(), d);
  }
  auto firstOwn = std::find_if(slice.digits.begin(), slice.digits.end(), [](const Digit &d) { return d.dim >= 0; });
  slice.digits.erase(slice.digits.begin(), firstOwn);
  std::vector<Digit> plain;
  for (size_t i = 0; i < rest.size(); ++i)
    plain.push_back({int32_t(i), rest[i].at(std::max<int64_t>(batch, 1))});
  if (slice.digits == plain) slice.digits.clear();
  return slice;
}

namespace {

constexpr int64_t kConflict = 1024; // bytes between rows that collide
constexpr int64_t kPad = 16;        // elements: a cache line of f32

// Names of persistent values that some function reads, or makes, through a reshape.
std::set<std::string> reshaped(const ir::Module &m) {
  std::set<std::string> names;
  for (const auto &f : m.functions) {
    std::vector<char> touched(f->values.size(), 0);
    for (const ir::Node &n : f->nodes)
      if (n.op == ir::Op::reshape_) touched[size_t(n.operands[0].i)] = touched[size_t(n.firstResult.i)] = 1;
    for (const ir::Param &p : f->params)
      if (!p.bind.empty() && touched[size_t(p.value.i)]) names.insert(p.bind);
    for (const ir::Result &r : f->results)
      if (r.bind && touched[size_t(r.value.i)]) names.insert(r.name);
  }
  return names;
}

} // namespace

Layouts chooseLayouts(const ir::Module &m) {
  Layouts layouts;
  std::set<std::string> fixed = reshaped(m);
  for (const ir::Persistent &p : m.persistents) {
    const Dims &dims = p.type.dims;
    if (dims.size() != 2 || dims[0].b < 8 || fixed.count(p.name)) continue;
    if (dims[1].b * ir::dtypeBytes(p.type.dtype) % kConflict != 0) continue;
    layouts[p.name].digits = {{0, dims[0].b}, {1, dims[1].b + kPad}};
  }
  return layouts;
}

} // namespace nnc::cg
