// Layouts applied and chosen; the idea is told in layout.h.
#include "codegen/layout.h"
#include "ir/forms.h"
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

Index placeOf(Kernel &k, const Layout &l, const Dims &dims, const std::vector<Index> &at,
              int64_t batch) {
  if (l.isRowMajor()) return recombine(k, rowMajor(dims, at, batch));
  Index flat;
  int64_t stride = 1;
  // product of the less significant digits of each dimension
  std::vector<int64_t> below(dims.size(), 1);
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

Layout sliceLayout(const Layout &l, const Dims &dims, int64_t axis, int64_t batch,
                   int64_t &stride) {
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
  auto firstOwn = std::find_if(slice.digits.begin(), slice.digits.end(),
                               [](const Digit &d) { return d.dim >= 0; });
  slice.digits.erase(slice.digits.begin(), firstOwn);
  std::vector<Digit> plain;
  for (size_t i = 0; i < rest.size(); ++i)
    plain.push_back({int32_t(i), rest[i].at(std::max<int64_t>(batch, 1))});
  if (slice.digits == plain) slice.digits.clear();
  return slice;
}

int64_t paddedRow(int64_t elements, DType t) {
  constexpr int64_t kConflict = 1024; // bytes between rows that collide
  constexpr int64_t kLine = 64;       // bytes: tiles of bf16 are loaded by whole lines
  const int64_t bytes = ir::dtypeBytes(t);
  return elements * bytes % kConflict == 0 ? elements + kLine / bytes : elements;
}

namespace {

// Names of persistent values that some function reads, or makes, through a reshape.
std::set<std::string> reshaped(const ir::Module &m) {
  std::set<std::string> names;
  for (const auto &f : m.functions) {
    std::vector<char> touched(f->values.size(), 0);
    for (const ir::Node &n : f->nodes)
      if (n.op == ir::Op::reshape_)
        touched[size_t(n.operands[0].i)] = touched[size_t(n.firstResult.i)] = 1;
    for (const ir::Param &p : f->params)
      if (!p.bind.empty() && touched[size_t(p.value.i)]) names.insert(p.bind);
    for (const ir::Result &r : f->results)
      if (r.bind && touched[size_t(r.value.i)]) names.insert(r.name);
  }
  return names;
}

constexpr int64_t kFewRows = 64; // as many as dot products are chosen for
constexpr int64_t kLongSum = 128;

// Weights [in, out] whose products have few rows: each element is used so rarely that a copy in
// another form never pays, and what an output adds up lies in one run if the columns are the rows
// of memory. A thread that owns some of the outputs then owns whole runs, in this product, in the
// weight's gradient and in its update: no line of the weight moves from one core to another.
bool hasFewRows(const ir::Function &f, const ir::Node &n, ir::ValueId weight) {
  const auto &a = std::get<ir::ContractAttr>(n.attr);
  const int side = n.operands[1] == weight ? 1 : 0;
  if (n.operands[size_t(1 - side)] == weight) return false;
  if (ir::summedDimension(a, size_t(side)) != 0) return false;
  const int32_t in = a.forms[size_t(side)][0].terms[0].label,
                out = a.forms[size_t(side)][1].terms[0].label;
  auto inResult = [&](int32_t label) {
    for (const ir::LabelForm &form : a.forms[2])
      for (const ir::LabelTerm &t : form.terms)
        if (t.label == label) return true;
    return false;
  };
  auto extent = [&](int32_t label) {
    return a.extents[size_t(label)].at(std::max<int64_t>(f.batch, 1));
  };
  int64_t rows = 1;
  for (size_t l = 0; l < a.labels.size(); ++l)
    if (inResult(int32_t(l)) && int32_t(l) != out) rows *= extent(int32_t(l));
  return extent(in) >= kLongSum && rows <= kFewRows;
}

// Persistent values that pointwise operations join, as a weight and its moments: they lie alike.
struct Groups {
  std::map<std::string, std::string> above;
  std::string find(const std::string &name) {
    auto it = above.find(name);
    return it == above.end() || it->second == name ? name : it->second = find(it->second);
  }
  void join(const std::string &x, const std::string &y) { above[find(x)] = find(y); }
};

// Those with such a weight among them.
std::set<std::string> turnedGroups(const ir::Module &m, Groups &groups) {
  std::set<std::string> names;
  for (const auto &f : m.functions) {
    std::vector<std::string> nameOf(f->values.size()); // of values that pointwise operations join
    auto join = [&](std::string &x, std::string &y) {
      if (!x.empty() && !y.empty()) groups.join(x, y);
      if (x.empty()) x = y;
    };
    for (const ir::Param &p : f->params) nameOf[size_t(p.value.i)] = p.bind;
    for (const ir::Node &n : f->nodes) {
      if (ir::isPointwise(n.op)) {
        std::string &own = nameOf[size_t(n.firstResult.i)];
        for (ir::ValueId v : n.operands)
          if (f->type(v).dims == f->type(n.firstResult).dims) join(own, nameOf[size_t(v.i)]);
        continue;
      }
      if (n.op != ir::Op::contract_) continue;
      for (ir::ValueId v : n.operands) // as it is in memory, not what was made of it
        if (const std::string &name = nameOf[size_t(v.i)];
            !name.empty() && !f->def(v) && f->type(v).dims.size() == 2 && hasFewRows(*f, n, v))
          names.insert(name);
    }
    for (const ir::Result &r : f->results)
      if (r.bind)
        if (const std::string &made = nameOf[size_t(r.value.i)]; !made.empty())
          groups.join(r.name, made);
  }
  std::set<std::string> roots;
  for (const std::string &name : names) roots.insert(groups.find(name));
  return roots;
}

} // namespace

Layouts chooseLayouts(const ir::Module &m, bool pads) {
  Layouts layouts;
  std::set<std::string> fixed = reshaped(m), fixedGroups;
  Groups groups;
  const std::set<std::string> turned = turnedGroups(m, groups);
  for (const std::string &name : fixed) fixedGroups.insert(groups.find(name));
  auto padded = [&](int64_t elements, const ir::Persistent &p) {
    return pads ? paddedRow(elements, p.type.dtype) : elements;
  };
  for (const ir::Persistent &p : m.persistents) {
    const Dims &dims = p.type.dims;
    const std::string group = groups.find(p.name);
    if (dims.size() != 2) continue;
    if (turned.count(group) && !fixedGroups.count(group))
      layouts[p.name].digits = {{1, dims[1].b}, {0, padded(dims[0].b, p)}};
    else if (dims[0].b >= 8 && !fixed.count(p.name) && padded(dims[1].b, p) != dims[1].b)
      layouts[p.name].digits = {{0, dims[0].b}, {1, padded(dims[1].b, p)}};
  }
  return layouts;
}

} // namespace nnc::cg
