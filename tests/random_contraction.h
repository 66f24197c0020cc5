// Random contractions for tests: modules with one product or convolution, and random schedules for
// the kernels that are made of them.
//
//   auto m = randomContraction(random);          // f(x, w, ..): a contract node and what follows
//   randomSchedule(kernel, target, random);      // any schedule that the emitter must take
//
// Products of every orientation with several axes of each role, convolutions with strides,
// dilations, uneven padding and groups, their transposed forms and filter gradients; operands as
// they are or seen through a view; n in any role. The number of multiplications is bounded, not the
// shape: vectors and tiles must end anywhere.
#pragma once
#include "codegen/codegen.h"
#include "codegen/pack.h"
#include "tests/ir_helpers.h"
#include <algorithm>

namespace nnc::test {

using ir::test::pick;
using ir::test::Random;

inline bool chance(Random &r, int percent) { return pick(r, 0, 99) < percent; }
// Small numbers are as likely as large ones, so that every vector and tile ends somewhere.
inline int64_t size(Random &r, int64_t most) {
  if (most < 2) return 1;
  return chance(r, 50) ? pick(r, 1, std::min<int64_t>(most, 8)) : pick(r, 1, most);
}

class RandomContraction {
 public:
  RandomContraction(Random &r, bool exact) : r_(r), exact_(exact) {
    batch_ = pick(r_, 1, 9);
    const int64_t kind = pick(r_, 0, 99);
    if (kind < 50)
      product();
    else
      convolution();
    chooseType();
  }

  std::unique_ptr<ir::Module> module() {
    auto m = std::make_unique<ir::Module>();
    addTo(*m, "f");
    return m;
  }
  // As one function of a module.
  ir::Function &addTo(ir::Module &m, const std::string &name) {
    ir::Function &f = m.add(name, batch_);
    ir::Builder b(m, f);
    const ir::V x = operand(b, 0), w = operand(b, 1);
    a_.type = {result_, dims_[2]};
    epilogue(m, b, b.contract(x, w, a_));
    return f;
  }

 private:
  Random &r_;
  bool exact_; // all sums are exact: small integers, nothing else
  int64_t batch_ = 1;
  ir::ContractAttr a_;
  std::array<ir::Dims, 3> dims_;
  ir::DType type_ = ir::DType::f32, result_ = ir::DType::f32;
  double work_ = 1;

  int32_t label(const char *name, ir::Dim extent) {
    a_.labels.push_back(name + std::to_string(a_.labels.size()));
    a_.extents.push_back(extent);
    work_ *= double(extent.at(batch_));
    return int32_t(a_.labels.size()) - 1;
  }
  // An extent that leaves the work within bounds; n, once in a while.
  ir::Dim extent(int64_t most) {
    const double left = std::max(1.0, 30000 / work_);
    if (chance(r_, 25) && double(batch_) <= left) return ir::Dim::batch();
    return ir::Dim(size(r_, std::min<int64_t>(most, int64_t(left))));
  }
  void put(int tensor, int32_t l) {
    a_.forms[size_t(tensor)].push_back({{{l, 1}}, 0});
    dims_[size_t(tensor)].push_back(a_.extents[size_t(l)]);
  }
  void shuffle(int tensor) {
    auto &forms = a_.forms[size_t(tensor)];
    auto &dims = dims_[size_t(tensor)];
    for (size_t i = forms.size(); i > 1; --i) {
      const size_t j = size_t(pick(r_, 0, int64_t(i) - 1));
      std::swap(forms[i - 1], forms[j]), std::swap(dims[i - 1], dims[j]);
    }
  }
  void exchangeOperands() {
    std::swap(a_.forms[0], a_.forms[1]);
    std::swap(dims_[0], dims_[1]);
  }

  void product() {
    auto add = [&](const char *name, int64_t least, int64_t count, int64_t most, bool x, bool w,
                   bool y) {
      for (int64_t i = pick(r_, least, count); i > 0; --i) {
        const int32_t l = label(name, extent(most));
        if (x) put(0, l);
        if (w) put(1, l);
        if (y) put(2, l);
      }
    };
    const int64_t wide = chance(r_, 70) ? 110 : 12, high = chance(r_, 70) ? 30 : 100;
    add("n", chance(r_, 90) ? 1 : 0, 2, wide, false, true, true);
    add("m", chance(r_, 90) ? 1 : 0, 2, high, true, false, true);
    add("k", 1, 3, 200, true, true, false);
    add("b", 0, chance(r_, 30) ? 2 : 0, 6, true, true, true);
    for (int t = 0; t < 3; ++t)
      if (chance(r_, 70)) shuffle(t);
    if (chance(r_, 50)) exchangeOperands();
  }

  void convolution() {
    const int64_t spatial = chance(r_, 25) ? 1 : chance(r_, 95) ? 2 : 3;
    const bool groups = chance(r_, 30);
    const bool depthwise = groups && chance(r_, 60);
    const int form = int(pick(r_, 0, 2)); // the picture, the filter, the result: which one is y
    auto both = [&](int32_t l, int one, int other) { put(one, l), put(other, l); };
    // 0 picture, 1 filter, 2 result; put in the roles of x, w, y at the end.
    const int32_t b = label("b", ir::Dim::batch());
    both(b, 0, 2);
    for (int64_t d = 0; d < spatial; ++d) {
      const int64_t window = pick(r_, 1, 4), stride = chance(r_, 60) ? 1 : pick(r_, 2, 3),
                    dilation = chance(r_, 75) ? 1 : pick(r_, 2, 3);
      const int64_t reach = dilation * (window - 1) + 1;
      const int64_t low = chance(r_, 30) ? 0 : pick(r_, 0, reach),
                    high = chance(r_, 30) ? 0 : pick(r_, 0, reach);
      int64_t extent = size(r_, spatial == 1 ? 60 : spatial == 2 ? 14 : 5);
      extent = std::max(extent, reach - low - high);
      const int64_t out = (extent + low + high - reach) / stride + 1;
      const int32_t i = label("i", ir::Dim(out)), u = label("u", ir::Dim(window));
      a_.forms[0].push_back({{{i, stride}, {u, dilation}}, -low});
      dims_[0].push_back(ir::Dim(extent));
      if (i < u && chance(r_, 50))
        std::swap(a_.forms[0].back().terms[0], a_.forms[0].back().terms[1]);
      put(1, u), put(2, i);
    }
    if (groups) {
      const int32_t g = label("g", ir::Dim(size(r_, depthwise ? 40 : 4)));
      put(0, g), put(1, g), put(2, g);
    }
    if (!depthwise) {
      const double left = std::max(1.0, 40000 / work_);
      const int32_t c = label("c", ir::Dim(size(r_, std::min<int64_t>(36, int64_t(left)))));
      both(c, 0, 1);
    }
    if (!depthwise || chance(r_, 30)) {
      const double left = std::max(1.0, 60000 / work_);
      const int32_t o = label("o", ir::Dim(size(r_, std::min<int64_t>(100, int64_t(left)))));
      both(o, 1, 2);
    }
    const int result = form == 0 ? 2 : form == 1 ? 0 : 1; // forward, data gradient, filter gradient
    std::swap(a_.forms[2], a_.forms[size_t(result)]);
    std::swap(dims_[2], dims_[size_t(result)]);
    for (int t = 0; t < 3; ++t)
      if (chance(r_, 30)) shuffle(t);
    if (chance(r_, 30)) exchangeOperands();
  }

  void chooseType() {
    const int64_t kind = pick(r_, 0, 99);
    type_ = kind < 65   ? ir::DType::f32
            : kind < 75 ? ir::DType::f64
            : kind < 87 ? ir::DType::bf16
            : kind < 95 ? ir::DType::f16
                        : ir::DType::i32;
    const bool narrow = type_ == ir::DType::bf16 || type_ == ir::DType::f16;
    result_ = narrow && (exact_ || chance(r_, 70)) ? ir::DType::f32 : type_;
  }

  // A parameter that is the operand, or of which the operand is a view.
  ir::V operand(ir::Builder &b, int which) {
    const ir::Dims &dims = dims_[size_t(which)];
    const std::string name = which ? "w" : "x";
    std::vector<int64_t> fixed;
    for (size_t d = 0; d < dims.size(); ++d)
      if (dims[d].isConst()) fixed.push_back(int64_t(d));
    if (fixed.empty() || chance(r_, 70)) return b.param(name, {type_, dims});
    const size_t d = size_t(fixed[size_t(pick(r_, 0, int64_t(fixed.size()) - 1))]);
    const int64_t e = dims[d].b;
    ir::Dims zero(dims.size(), 0), from = dims;
    switch (pick(r_, 0, 5)) {
    case 0: return b.reverse(b.param(name, {type_, dims}), {int64_t(d)});
    case 1: { // part of a larger tensor
      const int64_t stride = pick(r_, 1, 2), start = pick(r_, 0, 2);
      from[d] = ir::Dim(start + stride * e + pick(r_, 0, 2));
      ir::Dims lo = zero, hi = from;
      lo[d] = ir::Dim(start), hi[d] = ir::Dim(start + stride * e);
      ir::Ints strides(dims.size(), 1);
      strides[d] = stride;
      return b.slice(b.param(name, {type_, from}), lo, hi, strides);
    }
    case 2: { // zeros around
      ir::Dims lo = zero, hi = zero;
      const int64_t before = pick(r_, 0, e - 1), after = pick(r_, 0, e - 1 - before);
      lo[d] = ir::Dim(before), hi[d] = ir::Dim(after), from[d] = ir::Dim(e - before - after);
      return b.pad(b.param(name, {type_, from}), lo, hi);
    }
    case 3: { // of another element type
      if (type_ != ir::DType::f32) break;
      const ir::DType t = chance(r_, 50) ? ir::DType::u8 : ir::DType::bf16;
      return b.cast(b.param(name, {t, dims}), type_);
    }
    case 4: { // repeated
      from.erase(from.begin() + std::ptrdiff_t(d));
      ir::Ints map;
      for (size_t i = 0; i < dims.size(); ++i)
        if (i != d) map.push_back(int64_t(i));
      return b.broadcast(b.param(name, {type_, from}), map, dims);
    }
    case 5: { // one dimension that was two in the other order
      if (e % 2 || e < 4) break;
      from[d] = ir::Dim(e / 2), from.insert(from.begin() + std::ptrdiff_t(d), ir::Dim(2));
      ir::Ints perm;
      for (size_t i = 0; i < from.size(); ++i) perm.push_back(int64_t(i));
      std::swap(perm[d], perm[d + 1]);
      return b.reshape(b.transpose(b.param(name, {type_, from}), perm), dims);
    }
    }
    return b.param(name, {type_, dims});
  }

  void epilogue(ir::Module &m, ir::Builder &b, ir::V z) {
    const ir::Type t = z.type();
    const bool real = ir::isFloat(t.dtype);
    switch (exact_ ? pick(r_, 0, 3) : pick(r_, 0, 6)) {
    case 0: break;
    case 1: { // bias and relu
      if (t.rank() == 0) break;
      const int64_t d = pick(r_, 0, t.rank() - 1);
      const ir::V bias = b.param("bias", {t.dtype, {t.dims[size_t(d)]}});
      z = z + b.broadcast(bias, {d}, t.dims);
      z = b.select(ir::le(z, b.like(0, z)), b.like(0, z), z);
      break;
    }
    case 2: z = z + b.param("other", t); break;
    case 3: { // stored in another order
      ir::Ints perm;
      for (int64_t i = 0; i < t.rank(); ++i) perm.push_back((i + 1) % t.rank());
      b.result("", b.transpose(z, perm));
      if (chance(r_, 50)) return;
      break;
    }
    case 4:
    case 5: { // an update in place, with a second state half of the time
      if (std::any_of(t.dims.begin(), t.dims.end(), [](ir::Dim d) { return !d.isConst(); }) ||
          !real)
        break;
      auto state = [&](const char *name) {
        ir::Persistent p;
        p.name = name, p.type = t;
        m.persistents.push_back(p);
        return b.param(name, t, name);
      };
      const ir::V p = state("p"), rate = b.param("rate", {t.dtype, {}});
      ir::V step = z;
      if (chance(r_, 50)) {
        step = state("v") * 0.5 + z;
        b.result("v", step, true);
      }
      b.result("p", p - b.broadcast(rate, {}, t.dims) * step, true);
      return;
    }
    case 6:
      if (real) z = b.cast(z * 0.5, chance(r_, 50) ? ir::DType::bf16 : ir::DType::f16);
      break;
    }
    b.result("", z);
  }
};

// --- schedules -----------------------------------------------------------------------------------

// Any schedule of the outer family that the emitter promises to take, for an unscheduled kernel.
inline void randomSchedule(cg::Kernel &k, const cg::Target &t, Random &r) {
  using namespace cg;
  ContractInfo &c = k.contract;
  Schedule &s = k.schedule;
  s = {};
  s.lanes = t.vectorBytes / 4;
  const int64_t lanes = t.vectorBytes / ir::dtypeBytes(c.type),
                batch = std::max<int64_t>(k.batch, 1);
  auto extent = [&](AxisId a) { return a < 0 ? 1 : k.axes[size_t(a)].extent.at(batch); };
  auto any = [&](const std::vector<AxisId> &list) {
    return list.empty() ? -1 : list[size_t(pick(r, 0, int64_t(list.size()) - 1))];
  };
  if (c.n.empty() || (!c.m.empty() && chance(r, 50))) std::swap(c.a, c.b), std::swap(c.m, c.n);
  s.col = any(c.n);
  if (s.col < 0 || chance(r, 10)) { // not the chunks of a split sum: vectors have one end
    std::vector<AxisId> batches = c.batch;
    std::erase_if(batches, [&](AxisId a) {
      return std::any_of(c.k.begin(), c.k.end(), [&](AxisId i) {
        return k.axes[size_t(i)].bounded && dependsOn(k, k.axes[size_t(i)].base, a);
      });
    });
    if (!batches.empty()) s.col = any(batches);
  }
  if (chance(r, 85)) s.row = any(c.m);
  do {
    const int counts[] = {1, 2, 3, 4, 6};
    s.nv = s.col < 0 ? 1 : counts[pick(r, 0, 4)];
    s.mr = s.row < 0 ? 1 : int(pick(r, 1, 16));
  } while (s.mr * s.nv + s.nv + 1 > t.vectorRegisters || s.mr > extent(s.row) ||
           (s.nv > 1 && int64_t(s.nv - 1) * lanes >= extent(s.col)));
  if (chance(r, 40) && !c.k.empty()) {
    s.kAxis = any(c.k);
    s.kBlock = pick(r, 1, extent(s.kAxis));
  }
  bool rows = false; // one item axis at most may depend on n
  auto cut = [&](AxisId a) {
    const int64_t tile = a == s.row ? s.mr : a == s.col ? s.nv * lanes : 1, chunk = itemUnit(k, a);
    if (chunk == 0) return;
    const int64_t unit = (tile + chunk - 1) / chunk * chunk;
    const int64_t block = unit * size(r, (extent(a) + unit - 1) / unit);
    if (block >= extent(a) || !chance(r, 40)) return;
    if (!k.axes[size_t(a)].extent.isConst() && std::exchange(rows, true)) return;
    s.items.insert(s.items.begin() + pick(r, 0, int64_t(s.items.size())), {a, block});
  };
  for (const auto *list : {&c.batch, &c.m, &c.n})
    for (AxisId a : *list) cut(a);
  if (s.col >= 0 && std::find(c.n.begin(), c.n.end(), s.col) != c.n.end()) {
    s.packA = Pack(pick(r, 0, 2));
    s.packB = chance(r, 50) ? Pack::block : Pack::none;
    if (s.packA != Pack::none && !packShape(k, false, s.packA).possible) s.packA = Pack::none;
    if (s.packB != Pack::none && !packShape(k, true, s.packB).possible) s.packB = Pack::none;
  }
  s.scratchBytes = contractScratch(k);
}

} // namespace nnc::test
