// The check of a finished plan, from its steps and offsets alone.
//
// Problem. A missing barrier or an offset given away too early corrupts training silently and
// rarely. Example: step 4 reads W in every item, step 5 writes W in place; without a barrier
// between them a fast thread updates weights that a slow thread still reads.
//
// Method. The plan is replayed item by item for a batch of n rows. For every element of the
// persistent and the transient region we keep who wrote it last, and who wrote and read it since
// the last barrier. Who is a thread that nobody knows yet: item i of a kernel with c items runs on
// the thread of every other item i of c items, so the pair (c, i) stands for it, and all one-thread
// kernels for each other. Then
//   - two accesses of one epoch, one of which writes, must be of the same "who": items of one
//     kernel write disjoint bytes, and kernels that conflict are item-aligned or have a barrier;
//   - an element that is read as buffer b was last written as b, or as the operand that b
//     replaces in place. A slice counts as its sequence, a carry of any round as its first value.
// Loops are replayed round by round.
// Indices are evaluated at every point of the item, with the innermost contiguous axis taken as a
// run. Meant for the programs of tests: time and memory grow with the elements touched.
#include "codegen/planning.h"
#include <algorithm>

namespace nnc::cg {

namespace {

// --- points of an access -------------------------------------------------------------------------

struct Range {
  int64_t begin = 0, end = 0;
};

// Values of axes and of loaded indices at one point.
struct Point {
  std::vector<int64_t> axes, values; // by AxisId, AtomId
};

int64_t floorDiv(int64_t a, int64_t b) {
  int64_t q = a / b;
  return q - (a % b != 0 && (a < 0) != (b < 0));
}

int64_t valueOf(const Kernel &k, const Index &x, const Point &at, int64_t n) {
  int64_t sum = x.c0 + x.cn * n;
  for (const Term &t : x.terms) {
    const Atom &a = k.atoms[t.atom];
    int64_t v = 0;
    switch (a.kind) {
    case Atom::Axis: v = at.axes[a.axis]; break;
    case Atom::Div: v = floorDiv(valueOf(k, a.inner, at, n), a.by); break;
    case Atom::Mod: {
      int64_t inner = valueOf(k, a.inner, at, n);
      v = inner - floorDiv(inner, a.by) * a.by;
      break;
    }
    case Atom::Value: v = at.values[t.atom]; break;
    }
    sum += t.coef * v;
  }
  return sum;
}

// One access with the variables it depends on.
struct Touch {
  Access access;
  bool written = false;
  std::vector<AxisId> axes;   // but for the run
  std::vector<AtomId> values; // Value atoms: any index may be loaded
  AxisId run = -1;            // this axis has stride 1 and appears nowhere else
};

class TouchFinder {
 public:
  explicit TouchFinder(const Kernel &k) : k_(k) {}

  Touch find(const Access &a, bool written) {
    Touch t;
    t.access = a;
    t.written = written;
    std::vector<char> inFlat(k_.axes.size(), 0), elsewhere(k_.axes.size(), 0);
    for (const Term &term : a.flat.terms) {
      const Atom &atom = k_.atoms[term.atom];
      if (atom.kind == Atom::Axis && term.coef == 1)
        inFlat[atom.axis] = 1;
      else
        addAtom(term.atom, elsewhere, t);
    }
    for (const Guard &g : a.guards) add(g.index, elsewhere, t);
    for (AxisId x = 0; x < AxisId(k_.axes.size()); ++x)
      if ((inFlat[x] || elsewhere[x]) && k_.axes[x].bounded)
        elsewhere[x] = 1, add(k_.axes[x].base, elsewhere, t);
    for (AxisId x = 0; x < AxisId(k_.axes.size()); ++x) {
      if (inFlat[x] && !elsewhere[x] && t.run < 0)
        t.run = x;
      else if (inFlat[x] || elsewhere[x])
        t.axes.push_back(x);
    }
    return t;
  }

 private:
  const Kernel &k_;
  void add(const Index &x, std::vector<char> &axes, Touch &t) {
    for (const Term &term : x.terms) addAtom(term.atom, axes, t);
  }
  void addAtom(AtomId id, std::vector<char> &axes, Touch &t) {
    const Atom &a = k_.atoms[id];
    if (a.kind == Atom::Axis)
      axes[a.axis] = 1;
    else if (a.kind != Atom::Value)
      add(a.inner, axes, t);
    else if (std::find(t.values.begin(), t.values.end(), id) == t.values.end())
      t.values.push_back(id);
  }
};

bool insideBounds(const Kernel &k, const Touch &t, const Point &at, int64_t n) {
  for (AxisId x : t.axes) {
    const Axis &axis = k.axes[x];
    if (axis.bounded && valueOf(k, axis.base, at, n) + at.axes[x] >= axis.limit.at(n)) return false;
  }
  for (const Guard &g : t.access.guards) {
    int64_t v = valueOf(k, g.index, at, n);
    if (v < g.lo || v >= g.hi.at(n)) return false;
  }
  return true;
}

// Calls f(first, count) for all runs of elements that the access touches in the given ranges.
template <class F>
void forEachRun(const Kernel &k, const Touch &t, const std::vector<Range> &ranges, int64_t n, F f) {
  Point at{std::vector<int64_t>(k.axes.size(), 0), std::vector<int64_t>(k.atoms.size(), 0)};
  int64_t count = 1;
  if (t.run >= 0)
    at.axes[t.run] = ranges[t.run].begin, count = ranges[t.run].end - ranges[t.run].begin;
  if (count <= 0) return;
  // An odometer over the axes, then over the loaded indices.
  size_t digits = t.axes.size() + t.values.size();
  auto range = [&](size_t d) {
    if (d < t.axes.size()) return ranges[t.axes[d]];
    const Atom &a = k.atoms[t.values[d - t.axes.size()]];
    // Tokens of other items' rows are passed over.
    if (k.cls == KernelClass::ScatterAdd && k.scatter.row >= 0 && a.value == k.scatter.index)
      return ranges[k.scatter.row];
    return Range{0, std::max<int64_t>(a.limit.at(n), 1)};
  };
  auto digit = [&](size_t d) -> int64_t & {
    return d < t.axes.size() ? at.axes[t.axes[d]] : at.values[t.values[d - t.axes.size()]];
  };
  for (size_t d = 0; d < digits; ++d) {
    if (range(d).begin >= range(d).end) return;
    digit(d) = range(d).begin;
  }
  for (;;) {
    if (insideBounds(k, t, at, n)) f(valueOf(k, t.access.flat, at, n), count);
    size_t d = digits;
    while (d > 0 && ++digit(d - 1) == range(d - 1).end) --d, digit(d) = range(d).begin;
    if (d == 0) return;
  }
}

// The region that a ScatterAdd owns, as a store over an extra axis for the rows.
Access scatterStore(Kernel &k) {
  AxisId row = k.axis("row", k.scatter.rows);
  std::vector<AxisId> order = k.scatter.outer;
  order.push_back(row);
  order.insert(order.end(), k.scatter.inner.begin(), k.scatter.inner.end());
  Access a;
  a.arg = k.scatter.arg;
  int64_t stride = 1;
  for (size_t i = order.size(); i-- > 0;) {
    a.flat = a.flat + k.axisIndex(order[i]) * stride;
    stride *= k.axes[order[i]].extent.at(std::max<int64_t>(k.batch, 1));
  }
  return a;
}

// --- the replay ----------------------------------------------------------------------------------

struct Cell {
  int32_t owner = -1; // buffer as which it was written last
  int32_t writeEpoch = -1, readEpoch = -1;
  int32_t writeStep = -1, readStep = -1;
  int64_t writer = 0, reader = 0; // "who"
  bool severalReaders = false;
};

class Replay {
 public:
  Replay(const Program &p, const Plan &plan, int64_t n) : p_(p), plan_(plan), n_(n) {
    unit_ = 8;
    int64_t persistent = 0;
    for (BufferId b = 0; b < BufferId(p.buffers.size()); ++b) {
      if (!tracked(b)) continue;
      unit_ = std::min<int64_t>(unit_, ir::dtypeBytes(p.buffers[b].type.dtype));
      if (p.buffers[b].life == Life::Persistent)
        persistent = std::max(persistent, plan.place[b].offset + bytesOf(p.buffers[b], p.batch));
    }
    cells_[0].resize(size_t(persistent / unit_) + 64);
    cells_[1].resize(size_t(plan.transientBytes / unit_) + 64);
  }

  std::string run() {
    rounds_.resize(plan_.loops.size());
    replay(0, int(plan_.steps.size()), 0);
    if (error_.empty()) checkResults();
    return error_;
  }

 private:
  const Program &p_;
  const Plan &plan_;
  int64_t n_, unit_ = 1;
  int step_ = 0;
  int32_t epoch_ = 0;
  std::vector<Cell> cells_[2];
  std::string error_;
  std::vector<int64_t> rounds_; // by loop

  // Steps [first, end); `loop` is the first loop that begins at `first` or later.
  void replay(int first, int end, size_t loop) {
    for (int i = first; i < end && error_.empty();) {
      while (loop < plan_.loops.size() && plan_.loops[loop].first < i) ++loop;
      if (loop < plan_.loops.size() && plan_.loops[loop].first == i) {
        const PlannedLoop &l = plan_.loops[loop];
        if (l.barrierBefore) ++epoch_;
        for (int64_t &r = rounds_[loop] = 0; r < l.length; ++r) replay(l.first, l.end, loop + 1);
        i = l.end;
        continue;
      }
      step_ = i++;
      if (plan_.steps[step_].barrierBefore) ++epoch_;
      replayStep();
    }
  }

  // Where the buffer begins in this round of the loops around it.
  int64_t offsetOf(BufferId b) const {
    int64_t offset = plan_.place[b].offset;
    for (const Advance &a : plan_.place[b].advances) {
      int64_t r = rounds_[size_t(a.loop)];
      offset += (r + 1) / 2 * a.even + r / 2 * a.odd;
    }
    return offset;
  }

  BufferId identity(BufferId b) const {
    while (p_.buffers[b].view >= 0) b = p_.buffers[b].view;
    return b;
  }

  // Elements that may be touched, as indices of the buffer: a part ends with the whole.
  Range extentOf(BufferId b, int64_t bytes) const {
    if (p_.buffers[b].slice == 0) return {0, bytesOf(p_.buffers[b], p_.batch) / bytes};
    BufferId root = rootOf(plan_, b);
    int64_t before = (offsetOf(b) - plan_.place[root].offset) / bytes;
    return {-before, bytesOf(p_.buffers[root], p_.batch) / bytes - before};
  }

  bool tracked(BufferId b) const {
    Life region = plan_.place[b].region;
    return region == Life::Persistent || region == Life::Transient;
  }
  std::string stepName(int step) const {
    return "step " + std::to_string(step) + " (" +
           p_.launches[plan_.steps[step].kernel].kernel.name + ")";
  }
  void report(const std::string &what) {
    if (error_.empty()) error_ = what;
  }

  void replayStep() {
    const Launch &launch = p_.launches[plan_.steps[step_].kernel];
    Kernel k = launch.kernel;
    std::vector<Touch> reads, writes;
    Access scattered;
    const bool owns = k.cls == KernelClass::ScatterAdd && k.scatter.arg >= 0;
    if (owns) scattered = scatterStore(k);
    TouchFinder finder(k);
    forEachAccess(
        k, [&](const Access &a, bool w) { (w ? writes : reads).push_back(finder.find(a, w)); });
    if (owns) writes.push_back(finder.find(scattered, true));
    int64_t items = itemCount(k, n_);
    for (int64_t item = 0; item < items && error_.empty(); ++item) {
      std::vector<Range> ranges = rangesOf(k, item);
      int64_t who = plan_.steps[step_].single ? -1 : (items << 32 | item);
      for (const Touch &t : reads) touch(k, launch, t, ranges, who);
      for (const Touch &t : writes) touch(k, launch, t, ranges, who);
    }
  }

  std::vector<Range> rangesOf(const Kernel &k, int64_t item) const {
    std::vector<Range> ranges;
    for (const Axis &a : k.axes) ranges.push_back({0, a.extent.at(n_)});
    for (size_t i = k.schedule.items.size(); i-- > 0;) {
      const ItemAxis &axis = k.schedule.items[i];
      int64_t extent = k.axes[axis.axis].extent.at(n_);
      int64_t blocks = (extent + axis.block - 1) / axis.block, at = item % blocks;
      item /= blocks;
      ranges[axis.axis] = {at * axis.block, std::min(extent, (at + 1) * axis.block)};
    }
    return ranges;
  }

  void touch(const Kernel &k, const Launch &l, const Touch &t, const std::vector<Range> &ranges,
             int64_t who) {
    BufferId b = l.args[t.access.arg];
    if (!tracked(b)) return;
    int64_t bytes = ir::dtypeBytes(p_.buffers[b].type.dtype), offset = offsetOf(b);
    Range extent = extentOf(b, bytes);
    bool inPlace = l.kernel.args[t.access.arg].written;
    forEachRun(k, t, ranges, n_, [&](int64_t first, int64_t count) {
      if (first < extent.begin || first + count > extent.end)
        return report(stepName(step_) + " touches `" + p_.buffers[b].name + "` outside its " +
                      std::to_string(extent.end - extent.begin) + " elements, at " +
                      std::to_string(first + (first < extent.begin ? 0 : count - 1)));
      std::vector<Cell> &cells = cells_[plan_.place[b].region == Life::Transient];
      int64_t from = (offset + first * bytes) / unit_,
              upTo = from + count * bytes / unit_;
      if (upTo > int64_t(cells.size()))
        return report(stepName(step_) + " leaves the region of `" + p_.buffers[b].name + "`");
      for (int64_t c = from; c < upTo; ++c)
        t.written ? write(cells[c], b, who) : read(cells[c], b, who, inPlace);
    });
  }

  void read(Cell &c, BufferId b, int64_t who, bool inPlace) {
    if (c.writeEpoch == epoch_ && c.writer != who)
      return report("no barrier between " + stepName(c.writeStep) + ", which writes `" +
                    p_.buffers[c.owner].name + "`, and " + stepName(step_) + ", which reads `" +
                    p_.buffers[b].name + "` there");
    bool own = c.owner == identity(b) || (inPlace && c.owner == identity(plan_.alias[b])) ||
               (c.owner < 0 && p_.buffers[rootOf(plan_, b)].life == Life::Persistent);
    if (!own && c.owner < 0)
      return report(stepName(step_) + " reads `" + p_.buffers[b].name +
                    "` where nothing was written");
    if (!own)
      return report(stepName(step_) + " reads `" + p_.buffers[b].name + "` after " +
                    stepName(c.writeStep) + " wrote `" + p_.buffers[c.owner].name + "` over it");
    c.severalReaders = c.readEpoch == epoch_ && (c.severalReaders || c.reader != who);
    c.readEpoch = epoch_, c.reader = who, c.readStep = step_;
  }

  void write(Cell &c, BufferId b, int64_t who) {
    if (c.writeEpoch == epoch_ && c.writer != who)
      return report("no barrier between " + stepName(c.writeStep) + ", which writes `" +
                    p_.buffers[c.owner].name + "`, and " + stepName(step_) + ", which writes `" +
                    p_.buffers[b].name + "` there");
    if (c.readEpoch == epoch_ && (c.severalReaders || c.reader != who))
      return report("no barrier between " + stepName(c.readStep) + ", which reads what lies at `" +
                    p_.buffers[b].name + "`, and " + stepName(step_) + ", which writes there");
    c.owner = identity(b), c.writeEpoch = epoch_, c.writer = who, c.writeStep = step_;
  }

  // What the runtime and the next call will find.
  void checkResults() {
    for (const ProgramResult &r : p_.results) {
      BufferId b = r.buffer, root = b;
      if (r.bind)
        for (BufferId q = 0; q < BufferId(p_.buffers.size()); ++q)
          if (p_.buffers[q].life == Life::Persistent && p_.buffers[q].persistent == r.name)
            root = q;
      if (!tracked(root) || bytesOf(p_.buffers[root], p_.batch) == 0) continue;
      const Cell &c = cells_[plan_.place[root].region == Life::Transient]
                            [size_t(plan_.place[root].offset / unit_)];
      bool untouched = c.owner < 0 && p_.buffers[root].life == Life::Persistent && b == root;
      if (c.owner != identity(b) && c.owner != identity(root) && !untouched)
        report("the result `" + r.name + "` is not what lies in its place at the end");
    }
  }
};

} // namespace

std::string checkHazards(const Program &p, const Plan &plan, int64_t n) {
  return Replay(p, plan, std::max<int64_t>(n, 1)).run();
}

} // namespace nnc::cg
