// Items, the bytes they touch, and where the threads must meet.
//
// Problem. A barrier between every two kernels costs more than many a kernel. It is needed only
// where a thread could touch bytes that another thread writes. Example: z = x @ w (items: 8 rows
// each), then h = relu(z) with the same items: item i reads just the rows that item i wrote, and
// both run on the same thread, as thread t of T always runs items [items*t/T, items*(t+1)/T).
//
// Method. The elements that an item touches of an argument are a box [lo, hi) around
// a point linear in the item's axes, read off the index expressions. Two kernels with equal item
// counts are item-aligned on a buffer if the boxes of different items are disjoint: either both
// have the same axes, blocks and strides and the boxes nest like digits of a number, or both are
// whole rows of S elements, item after item. What is not proven gets a barrier. The body of a loop
// follows itself: it is gone through several times, and barriers are added until no round needs
// more.
#include "codegen/planning.h"
#include <algorithm>

namespace nnc::cg {

namespace {
int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
} // namespace

// --- items ---------------------------------------------------------------------------------------

int64_t ItemFormula::at(int64_t n) const { return constant + times * ceilDiv(perN * n + add, div); }

ItemFormula itemFormula(const Kernel &k) {
  ItemFormula f;
  int64_t product = 1;
  bool depends = false;
  for (const ItemAxis &a : k.schedule.items) {
    Dim e = k.axes[a.axis].extent;
    if (e.isConst()) {
      product *= ceilDiv(e.b, a.block);
      continue;
    }
    NNC_CHECK(!depends, "two item axes of kernel " + k.name + " depend on n");
    depends = true;
    f.perN = e.a, f.add = e.b, f.div = a.block;
  }
  if (!depends) {
    f = {};
    f.constant = product;
    return f;
  }
  f.times = product;
  if (f.add % f.div == 0) f.constant = f.times * (f.add / f.div), f.add = 0;
  if (f.div == 1) f.perN *= f.times, f.times = 1;
  return f;
}

// --- footprints ----------------------------------------------------------------------------------

void forEachAccess(const Kernel &k, const std::function<void(const Access &, bool)> &f) {
  for (const Expr &e : k.exprs)
    if (e.op == SOp::load) f(e.access, false);
  for (const Stage &s : k.stages)
    for (const Store &t : s.stores) f(t.access, true);
  if (k.cls != KernelClass::Sort) return;
  if (k.sort.values.arg >= 0) f(k.sort.values, true);
  if (k.sort.indices.arg >= 0) f(k.sort.indices, true);
}

namespace {

Footprint boxOf(const Kernel &k, const Index &flat) {
  Footprint f;
  if (flat.cn != 0) return f;
  Index rest = flat;
  for (const ItemAxis &item : k.schedule.items) {
    Dim extent = k.axes[item.axis].extent;
    if (extent.isConst() && extent.b <= item.block) continue; // one block: like any inner axis
    std::optional<int64_t> stride = strideAlong(k, flat, item.axis);
    if (!stride || *stride <= 0) return f;
    f.axes.push_back({extent, item.block, *stride});
    std::erase_if(rest.terms, [&](const Term &t) {
      const Atom &a = k.atoms[t.atom];
      return a.kind == Atom::Axis && a.axis == item.axis;
    });
  }
  f.known = rangeOf(k, rest, f.lo, f.hi);
  ++f.hi;
  return f;
}

} // namespace

Footprint footprint(const Kernel &k, int32_t arg) {
  Footprint all;
  bool first = true, known = !(k.cls == KernelClass::ScatterAdd && k.scatter.arg == arg);
  forEachAccess(k, [&](const Access &a, bool) {
    if (a.arg != arg || !known) return;
    Footprint one = boxOf(k, a.flat);
    if (!one.known || (!first && one.axes != all.axes)) {
      known = false;
    } else if (first) {
      all = std::move(one);
    } else {
      all.lo = std::min(all.lo, one.lo), all.hi = std::max(all.hi, one.hi);
    }
    first = false;
  });
  if (!known || first) return {};
  return all;
}

namespace {

// Boxes of size [lo, hi) at the points of `axes` are disjoint: strides nest like digits.
bool boxesNest(std::vector<ItemAxisStride> axes, int64_t lo, int64_t hi, int64_t batch) {
  std::sort(axes.begin(), axes.end(), [](auto &x, auto &y) { return x.stride < y.stride; });
  int64_t size = hi - lo;
  for (const ItemAxisStride &a : axes) {
    if (size > a.stride) return false;
    size += a.stride * (a.extent.at(batch) - 1);
  }
  return true;
}

// Item i touches [i*step + lo, i*step + hi). Step 0: not so.
struct Rows {
  int64_t step = 0, lo = 0, hi = 0;
};

Rows rowsOf(const Footprint &f) {
  if (f.axes.empty()) return {};
  Rows r{f.axes.back().block * f.axes.back().stride, f.lo, f.hi};
  int64_t inner = 1; // items per step of the axis at hand
  for (size_t i = f.axes.size(); i-- > 0;) {
    const ItemAxisStride &a = f.axes[i];
    if (a.block * a.stride != r.step * inner) return {};
    r.hi += (a.block - 1) * a.stride;
    if (i > 0 && !a.extent.isConst()) return {};
    if (i > 0) inner *= ceilDiv(a.extent.b, a.block);
  }
  return r;
}

} // namespace

bool itemAligned(const Footprint &x, const Footprint &y, int64_t batch) {
  if (!x.known || !y.known || x.axes.empty() || y.axes.empty()) return false;
  int64_t lo = std::min(x.lo, y.lo), hi = std::max(x.hi, y.hi);
  if (x.axes == y.axes && boxesNest(x.axes, lo, hi, batch)) return true;
  Rows a = rowsOf(x), b = rowsOf(y);
  return a.step > 0 && a.step == b.step && std::max(a.hi, b.hi) - std::min(a.lo, b.lo) <= a.step;
}

// --- barriers ------------------------------------------------------------------------------------

namespace {

// Rough time of a kernel on one thread, in nanoseconds: of its vector operations and of the
// multiply-adds of its tiles.
double estimate(const Kernel &k) {
  auto points = [&](const std::vector<AxisId> &axes) {
    double p = 1;
    for (AxisId a : axes) p *= double(std::max<int64_t>(k.axes[a].extent.at(k.batch), 1));
    return p;
  };
  double work = double(k.exprs.size());
  switch (k.cls) {
  case KernelClass::Loops: {
    double sum = 0;
    for (const Stage &s : k.stages) sum += points(s.loop) * points(s.reduce);
    return points(k.parallel) * sum * work / 8;
  }
  case KernelClass::Contract: {
    const ContractInfo &c = k.contract;
    double outputs = points(c.batch) * points(c.m) * points(c.n);
    return outputs * (points(c.k) / 16 + work / 8);
  }
  case KernelClass::ScatterAdd:
    return points(k.scatter.outer) * points(k.scatter.inner) *
           (points(k.scatter.tokens) + double(k.scatter.rows.at(k.batch))) * work / 4;
  case KernelClass::Sort: return points(k.parallel) * points({k.sort.axis}) * 50;
  case KernelClass::Chain: {
    double element = 0; // of a tile
    for (size_t i = 0; i < k.stages.size(); ++i)
      switch (k.chain.steps[i].kind) {
      case StepKind::Product: element += points(k.stages[i].reduce) / 16; break;
      case StepKind::Tile:
      case StepKind::Row: element += 1; break;
      case StepKind::RowSum:
      case StepKind::ColSum: element += points(k.stages[i].loop) / 16; break;
      }
    return points(k.chain.outer) * points({k.chain.row, k.chain.col}) * (element + work / 8);
  }
  }
  return 0;
}

constexpr double kSingleNanoseconds = 1500; // about what two meetings of all threads cost

struct Touch {
  const Footprint *box;
  const ItemFormula *items; // null: a loop, which has none
  bool written, single;
  int round; // of a cyclic program
};

// Of two touches of which one writes.
bool ordered(const Touch &x, const Touch &y, int64_t batch) {
  if (x.single || y.single) return x.single && y.single;
  if (!x.items || !y.items || !(*x.items == *y.items)) return false;
  bool oneItem = x.items->perN == 0 && x.items->at(1) == 1;
  return oneItem || itemAligned(*x.box, *y.box, batch);
}

bool isSingle(const Launch &l, bool shortOnes) {
  if (l.loop) {
    const std::vector<Step> &steps = l.loop->plan.steps;
    return std::all_of(steps.begin(), steps.end(), [](const Step &s) { return s.single; });
  }
  ItemFormula items = itemFormula(l.kernel);
  return (items.perN == 0 && items.at(1) == 1) || (shortOnes && !l.spread && isShort(l.kernel));
}

// Who touched what since the last barrier.
class Barriers {
 public:
  Barriers(const Program &p, Plan &plan) : p_(p), plan_(plan), since_(p.buffers.size()) {
    items_.resize(plan.steps.size()), boxes_.resize(plan.steps.size());
    for (size_t i = 0; i < plan.steps.size(); ++i) {
      const Launch &l = p.launches[plan.steps[i].kernel];
      items_[i] = itemFormula(l.kernel);
      for (size_t a = 0; a < l.args.size(); ++a)
        boxes_[i].push_back(footprint(l.kernel, int32_t(a)));
    }
  }

  void run(int round) {
    for (size_t i = 0; i < plan_.steps.size(); ++i) visit(i, round);
  }

 private:
  const Program &p_;
  Plan &plan_;
  struct Since {
    std::vector<Touch> reads, writes; // readers do not mind each other, however many they are
  };
  std::vector<Since> since_; // by memory
  std::vector<BufferId> touched_;
  std::vector<std::vector<Footprint>> boxes_;
  std::vector<ItemFormula> items_;

  // Memories that take turns change places every round.
  BufferId memory(BufferId root, int round) const {
    if (size_t(root) >= plan_.place.size() || plan_.place[root].other < 0 || round % 2 == 0)
      return root;
    for (BufferId b = 0; b < BufferId(plan_.place.size()); ++b)
      if (plan_.place[b].outer == plan_.place[root].other && plan_.place[b].other >= 0) return b;
    return root;
  }
  // Slices of different rounds are different bytes.
  bool sliced(BufferId b) const {
    return p_.buffers[b].life == Life::Outer && p_.buffers[b].slice != 0;
  }

  void visit(size_t i, int round) {
    Step &step = plan_.steps[i];
    const Launch &l = p_.launches[step.kernel];
    std::vector<std::pair<BufferId, Touch>> mine;
    for (size_t a = 0; a < l.args.size(); ++a) {
      const ItemFormula *items = l.loop ? nullptr : &items_[i];
      BufferId root = rootOf(plan_, l.args[a]);
      mine.push_back({memory(root, round),
                      {&boxes_[i][a], items, l.kernel.args[a].written, step.single, round}});
      const auto &[at, touch] = mine.back();
      auto meet = [&](const std::vector<Touch> &earlier) {
        for (const Touch &e : earlier)
          if (e.round == round || !sliced(root)) step.barrierBefore |= !ordered(e, touch, p_.batch);
      };
      meet(since_[at].writes);
      if (touch.written) meet(since_[at].reads);
    }
    if (step.barrierBefore) {
      for (BufferId b : touched_) since_[b] = {};
      touched_.clear();
    }
    for (auto &[b, touch] : mine) {
      (touch.written ? since_[b].writes : since_[b].reads).push_back(touch);
      touched_.push_back(b);
    }
  }
};

} // namespace

bool isShort(const Kernel &k) { return estimate(k) < kSingleNanoseconds; }

void markSingles(const Program &p, Plan &plan, bool shortOnes) {
  for (Step &s : plan.steps) s.single = isSingle(p.launches[s.kernel], shortOnes);
}

// Rounds 0 to 2 of a cyclic program: conflicts between rounds repeat after two, as memories take
// turns.
void placeBarriers(const Program &p, Plan &plan, bool cyclic) {
  Barriers barriers(p, plan);
  for (int round = 0; round < (cyclic ? 3 : 1); ++round) barriers.run(round);
}

} // namespace nnc::cg
