// Contractions with packed operands and sums in blocks of k.
//
// Problem. What pack.h says, as code: fill the copies, let the tiles read them, and keep the sums
// of an item between blocks of k.
//
//   for k by 384:                              sums over k by 384, both operands packed
//     copy b[k..k+383, columns of the item] into panels
//     for rows by 14:
//       copy a[rows..rows+13, k..k+383]
//       for panels:  14 x 2 accumulators from the sums so far (from zero in the first block)
//                    for k in the block: vectors of the panel, rows of the copy, 28 fma
//   for tiles: the epilogue of the sums
//
// Method. A copy is one more argument of the kernel, whose address is moved so that the operand's
// own indices find its elements: the tiles read it with the code that reads any operand. Rows and
// columns beyond the end exist in a copy, with whatever lies there, so no tile moves back and no
// load has a mask; what they give is not stored.
#include "codegen/amx.h"
#include "codegen/cpu/emitter.h"
#include "codegen/cpu/schedule.h"
#include <algorithm>
#include <map>

namespace nnc::cg {

// --- preparation: before the function is opened, as axes and arguments are added -----------------

void Emitter::preparePacking() {
  if (k.schedule.family == Family::Amx) {
    amxArg_ = int32_t(k.args.size());
    k.args.push_back({DType::u8, {}, true, true});
    return;
  }
  packedA_.how = k.schedule.packA, packedB_.how = k.schedule.packB;
  for (AxisId a : k.contract.m)
    if (a != k.schedule.row && a != k.schedule.col)
      (loopsAroundRows(k, a, packedA_.how) ? rowLoops_ : sharedLoops_).push_back(a);
  prepareOperand(packedA_, false);
  prepareOperand(packedB_, true);
  while (joinSums()) {}
  findRun();
}

// Axes that joinSums leaves apart: around one goes a block of k, or the inner one ends at n. Blocks
// are whole steps of the outer one, and if n is N, as in all batches but the last, there are no
// gaps between the rows:
//   for t by 16: for i < 16 * n: acc += x[t, i] * w[t, i]           f32[64,n,..] with n = N
void Emitter::findRun() {
  const auto &ks = k.contract.k;
  if (ks.size() < 2 || k.schedule.family != Family::Outer) return;
  Run r;
  r.outer = ks[ks.size() - 2];
  const AxisId inner = ks.back();
  const Axis &y = k.axes[size_t(inner)];
  if (y.bounded || inner == k.schedule.kAxis) return;
  r.steps = extentAt(k, inner);
  r.full = !y.extent.isConst();
  for (auto [from, to] : {std::pair{k.contract.a, &r.a}, std::pair{k.contract.b, &r.b}}) {
    Expr load = k.exprs[size_t(from)];
    if (load.op != SOp::load) return;
    for (const Guard &g : load.access.guards)
      if (dependsOn(k, g.index, r.outer) || dependsOn(k, g.index, inner)) return;
    const auto across = strideAlong(k, load.access.flat, r.outer),
               along = strideAlong(k, load.access.flat, inner);
    if (!across || !along || *across != *along * r.steps) return;
    if (r.axis < 0)
      r.axis = k.axis(k.axes[size_t(r.outer)].name + y.name, Dim(extentAt(k, r.outer) * r.steps));
    std::erase_if(load.access.flat.terms, [&](const Term &t) {
      const Atom &a = k.atoms[size_t(t.atom)];
      return a.kind == Atom::Axis && (a.axis == r.outer || a.axis == inner);
    });
    load.access.flat = load.access.flat + k.axisIndex(r.axis) * *along;
    *to = k.expr(load);
  }
  run_ = r;
}

// Neighbouring axes of k that both operands walk in even steps become one: a row of a filter and
// its channels are one run of the copied picture. The order of the sum is the same; a dot product's
// lanes must meet the same terms.
bool Emitter::joinSums() {
  auto &ks = k.contract.k;
  const ExprId operands[2] = {k.contract.a, k.contract.b};
  // Coefficient of an axis; nothing if the operand's indices are not plain sums around it.
  auto coefOf = [&](ExprId e, AxisId a) -> std::optional<int64_t> {
    const Expr &x = k.exprs[size_t(e)];
    if (x.op != SOp::load) return std::nullopt;
    for (const Guard &g : x.access.guards)
      if (dependsOn(k, g.index, a)) return std::nullopt;
    return strideAlong(k, x.access.flat, a);
  };
  size_t first = 0; // axes around blocks of k are loops of their own
  if (k.schedule.kAxis >= 0)
    first = size_t(std::find(ks.begin(), ks.end(), k.schedule.kAxis) - ks.begin()) + 1;
  for (size_t i = first; i + 1 < ks.size(); ++i) {
    const AxisId outer = ks[i], inner = ks[i + 1];
    const Axis &x = k.axes[size_t(outer)], &y = k.axes[size_t(inner)];
    if (x.bounded || y.bounded || !x.extent.isConst() || !y.extent.isConst()) continue;
    if (k.schedule.family == Family::Dot && y.extent.b % kLanesDot != 0) continue;
    bool even = true;
    for (ExprId e : operands) {
      const auto co = coefOf(e, outer), ci = coefOf(e, inner);
      even = even && co && ci && *co == *ci * y.extent.b;
    }
    if (!even) continue;
    const AxisId both = k.axis(x.name + y.name, Dim(x.extent.b * y.extent.b));
    for (ExprId *e : {&k.contract.a, &k.contract.b}) {
      Expr load = k.exprs[size_t(*e)];
      const int64_t step = *coefOf(*e, inner);
      std::erase_if(load.access.flat.terms, [&](const Term &t) {
        const Atom &a = k.atoms[size_t(t.atom)];
        return a.kind == Atom::Axis && (a.axis == outer || a.axis == inner);
      });
      load.access.flat = load.access.flat + k.axisIndex(both) * step;
      *e = k.expr(load);
    }
    ks[i] = both;
    ks.erase(ks.begin() + std::ptrdiff_t(i) + 1);
    return true;
  }
  return false;
}

// An operand over one axis for each dimension of its copy.
ExprId Emitter::overCopy(const Packed &p, ExprId operand) {
  const std::vector<PackDim> &dims = p.shape.dims;
  auto over = [&](const Index &x) {
    const auto steps = stepsAlong(k, dims, x);
    NNC_CHECK(steps, "an index of a packed operand is not one of its copy");
    Index y = x;
    std::erase_if(y.terms, [&](const Term &t) {
      return std::any_of(dims.begin(), dims.end(),
                         [&](const PackDim &d) { return d.has(k.atoms[size_t(t.atom)].axis); });
    });
    for (size_t i = 0; i < dims.size(); ++i)
      if ((*steps)[i]) y = y + k.axisIndex(p.at[i]) * (*steps)[i];
    return y;
  };
  // A dimension may have taken in the one behind it, and a guard stands for both.
  auto guardsOver = [&](std::vector<Guard> &guards) {
    for (Guard &g : guards)
      for (size_t i = 0; i < dims.size(); ++i)
        if (dims[i].guarded && dims[i].has(k.atoms[size_t(g.index.terms[0].atom)].axis))
          g = {k.axisIndex(p.at[i]) + constIndex(dims[i].offset), dims[i].lo, dims[i].hi};
  };
  std::map<ExprId, ExprId> made;
  for (ExprId e : partsOf(k, operand)) {
    Expr x = k.exprs[size_t(e)];
    for (ExprId &arg : x.args) arg = made.at(arg);
    guardsOver(x.guards);
    if (x.op == SOp::load) {
      guardsOver(x.access.guards);
      x.access.flat = over(x.access.flat);
      // What does not move along a guarded dimension is always there.
      std::erase_if(x.access.guards, [&](const Guard &g) {
        return std::none_of(g.index.terms.begin(), g.index.terms.end(), [&](const Term &t) {
          return dependsOn(k, x.access.flat, k.atoms[size_t(t.atom)].axis);
        });
      });
    }
    made[e] = k.expr(std::move(x));
  }
  return made.at(operand);
}

void Emitter::prepareOperand(Packed &p, bool columns) {
  if (p.how == Pack::none) return;
  ExprId &operand = columns ? k.contract.b : k.contract.a;
  p.shape = packShape(k, columns, p.how);
  NNC_CHECK(p.shape.possible, "the operand of a contraction cannot be packed");
  Index in;
  for (const PackDim &d : p.shape.dims) {
    // The axis runs through the operand's own indices: a block of one step may lie anywhere.
    int64_t most = 1;
    for (auto [axis, coef] : d.form)
      most += std::abs(coef) * (extentAt(k, axis) - 1);
    const AxisId x = k.axis("copy", Dim(std::max<int64_t>(most, 2)));
    p.at.push_back(x);
    for (auto [axis, coef] : d.form) in = in + k.axisIndex(axis) * (coef * d.pitch);
  }
  p.source = overCopy(p, operand);

  p.arg = int32_t(k.args.size());
  k.args.push_back({k.contract.type, {}, true, true});
  Expr read;
  read.op = SOp::load;
  read.type = k.contract.type;
  read.access = {p.arg, in, {}};
  operand = k.expr(read);
}

// The copies and the sums follow each other in the scratch, as contractScratch counts them.
void Emitter::placePacking() {
  const int64_t bytes = ir::dtypeBytes(k.contract.type);
  int64_t at = 0;
  auto take = [&](int64_t elements) {
    llvm::Value *p = b.CreateGEP(b.getInt8Ty(), scratch_, i64(at));
    at += (elements * bytes + 63) / 64 * 64;
    return p;
  };
  for (Packed *p : {&packedA_, &packedB_}) {
    if (p->arg < 0) continue;
    p->memory = take(p->shape.elements);
    args_.push_back(p->memory);
  }
  if (k.schedule.kAxis >= 0 && amxArg_ < 0) {
    partialCount_ = partialElements(k); // while lanes are those of the schedule
    partials_ = take(partialCount_);
  }
  if (!keepsColumns()) return;
  packedColumns_ = slot(b.getInt64Ty(), "columns");
  b.CreateStore(i64(-1), packedColumns_);
}

// --- copies --------------------------------------------------------------------------------------

Range Emitter::stepsOf(AxisId a) {
  const Binding &at = axis_[size_t(a)];
  if (!at.base) return extentOf(a);
  llvm::Value *i = addConst(at.base, at.plus);
  return {i, addConst(i, 1)};
}

// What a block spans of each dimension now.
std::vector<Range> Emitter::packRanges(const Packed &p) {
  std::vector<Range> ranges;
  for (const PackDim &d : p.shape.dims) {
    Range r{i64(0), i64(1)};
    for (auto [axis, coef] : d.form) {
      const Range x = stepsOf(axis);
      llvm::Value *last = addConst(x.hi, -1);
      r.lo = b.CreateAdd(r.lo, scaled(coef > 0 ? x.lo : last, coef));
      r.hi = b.CreateAdd(r.hi, scaled(coef > 0 ? last : x.lo, coef));
    }
    r.hi = b.CreateBinaryIntrinsic(llvm::Intrinsic::smax, r.hi, r.lo);
    ranges.push_back(r);
  }
  return ranges;
}

// The address of the element whose indices are all 0, which is where the copy would begin.
llvm::Value *Emitter::originOf(const Packed &p, const std::vector<Range> &ranges) {
  llvm::Value *before = nullptr;
  for (size_t i = 0; i < ranges.size(); ++i)
    before = add(before, scaled(ranges[i].lo, p.shape.dims[i].pitch));
  return b.CreateGEP(memoryType(k.contract.type), p.memory, b.CreateNeg(before ? before : i64(0)));
}

// The element, or the lanes, at the indices that are bound.
void Emitter::copyElement(const Packed &p) {
  Access to{p.arg, {}, {}};
  for (size_t i = 0; i < p.at.size(); ++i)
    to.flat = to.flat + k.axisIndex(p.at[i]) * p.shape.dims[i].pitch;
  store(to, expr(p.source));
}

void Emitter::copyDims(const Packed &p, const std::vector<Range> &ranges, size_t from) {
  const size_t dims = p.at.size();
  if (dims == 0) return copyElement(p);
  for (size_t i = from; i < dims; ++i) range_[size_t(p.at[i])] = ranges[i];
  const std::vector<AxisId> outer(p.at.begin() + std::ptrdiff_t(from), p.at.end() - 1);
  forAxes(outer, 0, [&] { forLanes(p.at.back(), [&] { copyElement(p); }); });
}

// A matrix of lanes: row i's element j goes to row j's element i, by blocks of half the size again
// and again.
void Emitter::turnSquare(std::vector<llvm::Value *> &rows) {
  const int n = int(rows.size());
  for (int block = n / 2; block > 0; block /= 2)
    for (int i = 0; i < n; ++i) {
      if (i & block) continue;
      std::vector<int> low, high;
      for (int j = 0; j < n; ++j) {
        low.push_back(j & block ? n + j - block : j);
        high.push_back(j & block ? n + j : j + block);
      }
      llvm::Value *x = rows[size_t(i)], *y = rows[size_t(i + block)];
      rows[size_t(i)] = b.CreateShuffleVector(x, y, low);
      rows[size_t(i + block)] = b.CreateShuffleVector(x, y, high);
    }
}

// One panel of columns that lie apart: squares of as many columns as steps along the argument's
// contiguous dimension. Columns beyond the last one are copies of it; steps beyond the end go to
// room of their own.
void Emitter::copyTurned(const Packed &p, const std::vector<Range> &ranges) {
  const size_t run = size_t(p.shape.turned), dims = p.at.size();
  const int lanes = k.schedule.lanes;
  const AxisId along = p.at[run], col = p.at.back();
  std::vector<AxisId> outer;
  for (size_t i = 0; i + 1 < dims; ++i)
    if (i != run) outer.push_back(p.at[i]), range_[size_t(p.at[i])] = ranges[i];
  const Range steps = ranges[run], cols = ranges.back();
  llvm::Value *last = addConst(cols.hi, -1);
  Access to{p.arg, {}, {}};
  for (size_t i = 0; i < dims; ++i)
    to.flat = to.flat + k.axisIndex(p.at[i]) * p.shape.dims[i].pitch;
  auto square = [&](llvm::Value *first, llvm::Value *at, llvm::Value *mask) {
    width_ = lanes;
    std::vector<llvm::Value *> rows;
    for (int i = 0; i < lanes; ++i) {
      bind(col, b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, addConst(first, i), last), 0);
      lanesAt(along, at, mask, [&] { rows.push_back(spread(expr(p.source))); });
      unbind(col);
    }
    turnSquare(rows);
    for (int j = 0; j < lanes; ++j) {
      bind(along, at, j);
      lanesAt(col, first, nullptr, [&] { store(to, {rows[size_t(j)], true}); });
      unbind(along);
    }
    width_ = 1;
  };
  forAxes(outer, 0, [&] {
    llvm::Value *count = b.CreateSub(steps.hi, steps.lo);
    llvm::Value *stop = b.CreateAdd(steps.lo, b.CreateAnd(count, i64(-int64_t(lanes))));
    forRange(cols.lo, cols.hi, lanes, [&](llvm::Value *first) {
      forRange(steps.lo, stop, lanes, [&](llvm::Value *at) { square(first, at, nullptr); });
      ifThen(b.CreateICmpSLT(stop, steps.hi), [&] {
        llvm::Value *rest = b.CreateSub(steps.hi, stop);
        width_ = lanes;
        llvm::Value *mask = firstLanes(rest);
        width_ = 1;
        square(first, stop, mask);
      });
    });
  });
}

// The panels side by side for each step of the other dimensions, as the argument is read in lines.
void Emitter::copyPanels(Packed &p, std::vector<Range> ranges) {
  llvm::Value *&arg = args_[size_t(p.arg)];
  const Range all = ranges.back();
  const int64_t panel = p.shape.panel;
  llvm::Value *whole = b.CreateUDiv(b.CreateSub(all.hi, all.lo), i64(panel));
  whole = b.CreateAdd(all.lo, scaled(whole, panel));
  auto atPanelOf = [&](llvm::Value *at) {
    arg = panelOrigin(p, b.CreateUDiv(b.CreateSub(at, all.lo), i64(panel)));
  };
  if (p.shape.turned >= 0)
    return forRange(all.lo, all.hi, panel, [&](llvm::Value *at) {
      atPanelOf(at);
      ranges.back() = {at,
                       b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, all.hi, addConst(at, panel))};
      copyTurned(p, ranges);
    });
  for (size_t i = 0; i < ranges.size(); ++i) range_[size_t(p.at[i])] = ranges[i];
  const std::vector<AxisId> outer(p.at.begin(), p.at.end() - 1);
  forAxes(outer, 0, [&] {
    // Whole panels have no tests inside.
    forRange(all.lo, whole, panel, [&](llvm::Value *at) {
      atPanelOf(at);
      const int lanes = k.schedule.lanes;
      width_ = lanes;
      for (int64_t done = 0; done < panel; done += lanes)
        lanesAt(p.at.back(), addConst(at, done),
                done + lanes <= panel ? nullptr : firstLanes(i64(panel - done)),
                [&] { copyElement(p); });
      width_ = 1;
    });
    ifThen(b.CreateICmpSLT(whole, all.hi), [&] {
      atPanelOf(whole);
      ranges.back() = {whole, all.hi};
      copyDims(p, ranges, ranges.size() - 1);
    });
  });
}

// Whether a copy of columns serves all items that follow each other with the same ones.
bool Emitter::keepsColumns() const {
  const Schedule &s = k.schedule;
  if (k.cls != KernelClass::Contract) return false;
  const bool packs =
      s.family == Family::Amx ? !amxOperand(k, true).inPlace : packedB_.how == Pack::block;
  if (s.kAxis >= 0 || !packs || s.items.empty()) return false;
  const auto &m = k.contract.m;
  if (std::find(m.begin(), m.end(), s.items.back().axis) == m.end()) return false;
  for (const ItemAxis &i : s.items)
    if (i.axis != s.col && std::find(m.begin(), m.end(), i.axis) == m.end()) return false;
  for (AxisId a : k.contract.k)
    if (k.axes[size_t(a)].bounded) return false;
  for (const auto *list : {&k.contract.batch, &k.contract.n})
    for (AxisId a : *list)
      if (a != s.col && a != s.row) return false;
  return true;
}

// Fills the copy with the block at hand, under a condition, and points the argument to it.
void Emitter::copyOperand(Packed &p, llvm::Value *condition) {
  const int savedWidth = width_;
  const AxisId savedLane = laneAxis_;
  width_ = 1, laneAxis_ = -1;
  std::vector<Range> ranges = packRanges(p);
  llvm::Value *&arg = args_[size_t(p.arg)];
  arg = p.origin = originOf(p, ranges);
  scopes_.emplace_back();
  std::vector<AxisId> single; // of one step in this block: no dimension of the copy, and no loop
  for (ExprId e : partsOf(k, p.source))
    for (const Term &t : k.exprs[size_t(e)].access.flat.terms) {
      const AxisId a = k.atoms[size_t(t.atom)].axis;
      if (axis_[size_t(a)].base || std::find(p.at.begin(), p.at.end(), a) != p.at.end()) continue;
      bind(a, extentOf(a).lo, 0);
      single.push_back(a);
    }
  auto copy = [&] {
    if (p.shape.panel)
      copyPanels(p, ranges);
    else
      copyDims(p, ranges, 0);
  };
  if (condition)
    ifThen(condition, copy);
  else
    copy();
  for (AxisId a : single) unbind(a);
  scopes_.pop_back();
  arg = p.origin;
  width_ = savedWidth, laneAxis_ = savedLane;
}

// Points a packed operand to the panel that begins with a row or a column.
void Emitter::atPanel(const Packed &p, AxisId axis, llvm::Value *begin) {
  if (p.arg < 0 || !p.shape.panel) return;
  llvm::Value *panel =
      b.CreateUDiv(b.CreateSub(begin, range_[size_t(axis)].lo), i64(p.shape.panel));
  args_[size_t(p.arg)] = panelOrigin(p, panel);
}

// Panel i lies i * panelElements further on and begins i * panel rows or columns later.
llvm::Value *Emitter::panelOrigin(const Packed &p, llvm::Value *panel) {
  return b.CreateGEP(memoryType(k.contract.type), p.origin,
                     b.CreateMul(panel, i64(p.shape.panelElements - p.shape.panel)));
}

// --- the nest ------------------------------------------------------------------------------------

// Blocks of k: the axes before the blocked one step by step, then it by blocks. body(first) with
// the condition that this is the first block.
void Emitter::emitBlocks(size_t axis, llvm::Value *first,
                         const std::function<void(llvm::Value *)> &body) {
  const auto &ks = k.contract.k;
  const AxisId a = k.schedule.kAxis;
  if (a < 0) return body(nullptr);
  const AxisId at = ks[axis];
  const Range whole = extentOf(at);
  forRange(whole.lo, whole.hi, at == a ? k.schedule.kBlock : 1, [&](llvm::Value *i) {
    llvm::Value *begins = both(first, b.CreateICmpEQ(i, whole.lo));
    if (at != a) {
      bind(at, i, 0);
      emitBlocks(axis + 1, begins, body);
      unbind(at);
      return;
    }
    const Range saved = range_[size_t(at)];
    range_[size_t(at)] = {i, b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, whole.hi,
                                                     addConst(i, k.schedule.kBlock))};
    body(begins);
    range_[size_t(at)] = saved;
  });
}

// The first block stores the sums without reading any. Where the last chunk of a split sum lies
// beyond n there is no first block.
void Emitter::clearEmptySums() {
  const auto &ks = k.contract.k;
  llvm::Value *empty = nullptr;
  for (AxisId a : ks) {
    if (k.schedule.kAxis < 0) return;
    if (!k.axes[size_t(a)].bounded) continue;
    const Range r = extentOf(a);
    llvm::Value *none = b.CreateICmpSGE(r.lo, r.hi);
    empty = empty ? b.CreateOr(empty, none) : none;
  }
  if (!empty) return;
  ifThen(empty, [&] {
    llvm::Type *t = memoryType(k.contract.type);
    forRange(i64(0), i64(partialCount_), 1, [&](llvm::Value *i) {
      b.CreateStore(llvm::Constant::getNullValue(t), b.CreateGEP(t, partials_, i));
    });
  });
}

void Emitter::emitPacked() {
  const ContractInfo &c = k.contract;
  const Schedule &s = k.schedule;
  std::vector<AxisId> around, rows = rowLoops_;
  for (const auto *list : {&c.batch, &c.n})
    for (AxisId a : *list)
      if (a != s.row && a != s.col) around.push_back(a);
  forAxes(around, 0, [&] {
    clearEmptySums();
    emitBlocks(0, nullptr, [&](llvm::Value *first) {
      if (packedB_.how == Pack::block) {
        llvm::Value *fresh = nullptr, *from = range_[size_t(s.col)].lo;
        if (keepsColumns()) {
          fresh = b.CreateICmpNE(from, b.CreateLoad(b.getInt64Ty(), packedColumns_));
          b.CreateStore(from, packedColumns_);
        }
        copyOperand(packedB_, fresh);
      }
      forAxes(rows, 0, [&] {
        if (packedA_.how == Pack::block) copyOperand(packedA_);
        forAxes(sharedLoops_, 0, [&] { emitPackedTiles(first); });
      });
    });
    if (s.kAxis < 0) return;
    rows.insert(rows.end(), sharedLoops_.begin(), sharedLoops_.end());
    forAxes(rows, 0, [&] {
      const Range r = s.row < 0 ? Range{i64(0), i64(1)} : range_[size_t(s.row)];
      forRange(r.lo, r.hi, s.row < 0 ? 1 : s.mr, [&](llvm::Value *row) {
        eachPanel([&](Tile t) {
          t.rows = s.row < 0 ? 1 : s.mr;
          t.row = row, t.rowEnd = r.hi;
          t.rowBase = packedA_.arg >= 0 ? row : shiftedBase(s.row, row, t.rows);
          t.acc.resize(size_t(t.rows * t.vectors));
          emitEpilogueRows(t, partialTile(t));
        });
      });
    });
  });
}

// The sums of a tile: tiles follow each other by row of the loops around, tile of rows and panel.
llvm::Value *Emitter::partialTile(const Tile &t) {
  const Schedule &s = k.schedule;
  const int64_t tile = int64_t(t.rows) * s.nv * s.lanes;
  const int64_t width = int64_t(s.nv) * s.lanes;
  auto count = [&](AxisId a, int64_t by) { return a < 0 ? 1 : (itemSteps(k, a) + by - 1) / by; };
  llvm::Value *number = nullptr;
  for (AxisId a : k.contract.m) {
    if (a == s.row || a == s.col) continue;
    llvm::Value *i = b.CreateSub(axis_[size_t(a)].base, range_[size_t(a)].lo);
    number = add(number ? scaled(number, itemSteps(k, a)) : nullptr, i);
  }
  auto next = [&](AxisId a, llvm::Value *at, int64_t by) {
    if (a < 0) return;
    llvm::Value *i = b.CreateUDiv(b.CreateSub(at, range_[size_t(a)].lo), i64(by));
    number = add(number ? scaled(number, count(a, by)) : nullptr, i);
  };
  next(s.row, t.row, t.rows);
  next(s.col, t.colBase, width);
  llvm::Value *at = scaled(number ? number : i64(0), tile);
  if (s.col >= 0 && !k.axes[size_t(s.col)].extent.isConst()) { // single vectors of the last panel
    llvm::Value *within =
        b.CreateURem(b.CreateSub(t.colBase, range_[size_t(s.col)].lo), i64(width));
    at = b.CreateAdd(at, scaled(within, t.rows));
  }
  return b.CreateGEP(memoryType(k.contract.type), partials_, at);
}

// The tiles of a block: rows, and for each the panels, so that a tile's rows stay in the first
// cache.
void Emitter::emitPackedTiles(llvm::Value *first) {
  const Schedule &s = k.schedule;
  const int rows = s.row < 0 ? 1 : s.mr;
  const Range r = s.row < 0 ? Range{i64(0), i64(1)} : range_[size_t(s.row)];
  const auto &ks = k.contract.k;
  const size_t from =
      s.kAxis < 0 ? 0 : size_t(std::find(ks.begin(), ks.end(), s.kAxis) - ks.begin());
  forRange(r.lo, r.hi, rows, [&](llvm::Value *row) {
    if (packedA_.how == Pack::tile) {
      Range saved;
      if (s.row >= 0) {
        saved = range_[size_t(s.row)];
        range_[size_t(s.row)] = {
            row, b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, addConst(row, rows), r.hi)};
      }
      copyOperand(packedA_);
      if (s.row >= 0) range_[size_t(s.row)] = saved;
    }
    eachPanel([&](Tile t) {
      llvm::Type *at = type(k.contract.type, width_ > 1);
      t.rows = rows, t.row = row, t.rowEnd = r.hi;
      t.rowBase = packedA_.arg >= 0 ? row : shiftedBase(s.row, row, rows);
      t.depth = scopes_.size();
      for (int i = 0; i < t.rows * t.vectors; ++i) t.acc.push_back(slot(at, "acc"));
      if (s.kAxis >= 0) t.partial = partialTile(t);
      for (size_t i = 0; i < t.acc.size(); ++i) {
        llvm::Value *sum = llvm::Constant::getNullValue(at);
        if (t.partial) {
          llvm::Value *p =
              b.CreateSelect(first, zeros(), b.CreateGEP(at, t.partial, i64(int64_t(i))));
          sum = b.CreateAlignedLoad(at, p, llvm::Align(4));
        }
        b.CreateStore(sum, t.acc[i]);
      }
      atPanel(packedA_, s.row, row);
      atPanel(packedB_, s.col, t.colBase);
      emitMicrokernel(t, from);
      if (packedA_.arg >= 0) args_[size_t(packedA_.arg)] = packedA_.origin;
      if (packedB_.arg >= 0) args_[size_t(packedB_.arg)] = packedB_.origin;
      if (!t.partial) return emitEpilogue(t);
      for (size_t i = 0; i < t.acc.size(); ++i)
        b.CreateAlignedStore(b.CreateLoad(at, t.acc[i]),
                             b.CreateGEP(at, t.partial, i64(int64_t(i))), llvm::Align(4));
    });
  });
}

} // namespace nnc::cg
