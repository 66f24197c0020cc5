// Scatter-add: the gradient of a gather, without atomics and in a fixed order; and what is done
// with it.
//
// Problem. table[v, :] = sum of update[t, :] over the tokens t with index[t] == v. Tokens repeat,
// so two threads that split the tokens would add to the same row. And a table of 100000 rows has
// 512 tokens in a step: its gradient is zero but for 512 rows, and SGD changes no others.
//
//   items by columns:   item c zeroes table[:, c..c+15], then for each token in order
//                       table[index, c..c+15] += update[t, c..c+15]
//   with stages, items by rows:
//     for each token in order, if index is a row of the item:
//       p = the row's place in scratch, a new one (with zeros) if it has none
//       sums[p, :] += update[t, :]
//     for each row that has a place (touched), or for all rows:
//       the stages, with acc = sums[p, :] or 0
//
// Method. Without stages an item owns a range of columns (or of outer axes) and walks all tokens in
// order, so the sum of each element has one order and no two items touch the same byte. With stages
// the sums of the tokens' rows lie in the thread's scratch, and vectors run along a row. Which
// place a row has is kept in an array over all rows that nobody clears: place p counts if p is
// below the number of places given out and the row noted for p is this row (Briggs and Torczon
// 1993). Indices are clamped into the table, as those of a gather are.
#include "codegen/cpu/emitter.h"
#include "codegen/cpu/schedule.h"

namespace nnc::cg {

namespace {

int64_t sizeAt(const Kernel &k, Dim d) { return d.at(std::max<int64_t>(k.batch, 1)); }

// Row-major strides of outer.., row, inner.. at the largest batch: the axes' and the row's.
struct TableStrides {
  std::vector<int64_t> outer, inner;
  int64_t row = 1;
};
TableStrides stridesOf(const Kernel &k) {
  const ScatterInfo &s = k.scatter;
  TableStrides t;
  t.outer.resize(s.outer.size()), t.inner.resize(s.inner.size());
  int64_t size = 1;
  for (size_t i = s.inner.size(); i-- > 0;) {
    t.inner[i] = size;
    size *= sizeAt(k, k.axes[size_t(s.inner[i])].extent);
  }
  t.row = size;
  size *= sizeAt(k, s.rows);
  for (size_t i = s.outer.size(); i-- > 0;) {
    t.outer[i] = size;
    size *= sizeAt(k, k.axes[size_t(s.outer[i])].extent);
  }
  return t;
}

} // namespace

ScatterScratch scatterScratch(const Kernel &k) {
  auto lines = [](int64_t bytes) { return (bytes + 63) / 64 * 64; };
  ScatterScratch s;
  for (AxisId a : k.scatter.tokens) s.tokens *= extentAt(k, a);
  for (AxisId a : k.scatter.inner) s.rowElements *= extentAt(k, a);
  s.rowsAt = lines(4 * sizeAt(k, k.scatter.rows));
  s.sumsAt = s.rowsAt + lines(4 * (s.tokens + 1));
  s.bytes = s.sumsAt + lines((s.tokens + 1) * s.rowElements * ir::dtypeBytes(k.scatter.type));
  return s;
}

// Calls f with the place of each vector of a row, counted from the row's begin.
void Emitter::overRow(const std::function<void(llvm::Value *)> &f) {
  const ScatterInfo &s = k.scatter;
  const TableStrides strides = stridesOf(k);
  auto here = [&] {
    llvm::Value *place = nullptr;
    for (size_t i = 0; i < s.inner.size(); ++i)
      place = add(place, scaled(axis_[size_t(s.inner[i])].base, strides.inner[i]));
    f(place ? place : i64(0));
  };
  if (s.inner.empty()) return here();
  const std::vector<AxisId> loops(s.inner.begin(), s.inner.end() - 1);
  forAxes(loops, 0, [&] { forLanes(s.inner.back(), here); });
}

// The row of the token that the loops are at.
llvm::Value *Emitter::tokensRow() {
  llvm::Value *row = b.CreateSExt(expr(k.scatter.index).v, b.getInt64Ty());
  row = b.CreateBinaryIntrinsic(llvm::Intrinsic::smax, row, i64(0));
  return b.CreateBinaryIntrinsic(llvm::Intrinsic::smin, row,
                                 b.CreateSub(dim(k.scatter.rows), i64(1)));
}

void Emitter::emitScatter() { k.scatter.arg < 0 ? emitScatterStages() : emitScatterTable(); }

void Emitter::emitScatterTable() {
  const ScatterInfo &s = k.scatter;
  const TableStrides strides = stridesOf(k);
  Access out;
  out.arg = s.arg;
  // Calls f with the place in the table of each vector of the item's columns, in this row.
  auto overColumns = [&](llvm::Value *row, const std::function<void(const IndexVal &)> &f) {
    overRow([&](llvm::Value *place) {
      IndexVal x;
      for (size_t i = 0; i < s.outer.size(); ++i)
        x.base = add(x.base, scaled(axis_[size_t(s.outer[i])].base, strides.outer[i]));
      x.base = add(add(x.base, scaled(row, strides.row)), place);
      x.stride = width_ > 1 ? 1 : 0;
      f(x);
    });
  };
  auto put = [&](const IndexVal &x, llvm::Value *v) {
    if (width_ > 1)
      storeLanes(out, x, {}, narrow(v, k.args[size_t(s.arg)].dtype));
    else
      storeScalar(out, x, {}, narrow(v, k.args[size_t(s.arg)].dtype));
  };
  forAxes(s.outer, 0, [&] {
    forRange(i64(0), dim(s.rows), 1, [&](llvm::Value *row) {
      overColumns(row, [&](const IndexVal &x) {
        put(x, llvm::Constant::getNullValue(type(s.type, width_ > 1)));
      });
    });
    forAxes(s.tokens, 0, [&] {
      overColumns(tokensRow(), [&](const IndexVal &x) {
        llvm::Value *old = width_ > 1 ? loadContiguous(out, x, {}) : loadUniform(out, x, {}).v;
        if (width_ > 1) old = widen(old, k.args[size_t(s.arg)].dtype);
        put(x, combine(Combine::sum, s.type, old, spread(expr(s.update))));
      });
    });
  });
}

// --- sums in scratch -----------------------------------------------------------------------------

void Emitter::emitScatterStages() {
  const ScatterInfo &s = k.scatter;
  const ScatterScratch scratch = scatterScratch(k);
  const llvm::Align align{uint64_t(ir::dtypeBytes(s.type))};
  llvm::Type *number = b.getInt32Ty();
  auto part = [&](int64_t offset) { return b.CreateGEP(b.getInt8Ty(), scratch_, i64(offset)); };
  llvm::Value *places = part(0), *rows = part(scratch.rowsAt), *sums = part(scratch.sumsAt);
  llvm::Value *count = slot(b.getInt64Ty(), "count");
  auto at = [&](llvm::Value *list, llvm::Value *i) { return b.CreateGEP(number, list, i); };
  auto numberAt = [&](llvm::Value *list, llvm::Value *i) {
    return b.CreateZExt(b.CreateLoad(number, at(list, i)), b.getInt64Ty());
  };
  // The row's place, and whether it has one.
  auto find = [&](llvm::Value *row) {
    llvm::Value *place = numberAt(places, row), *given = b.CreateLoad(b.getInt64Ty(), count);
    llvm::Value *noted =
        numberAt(rows, b.CreateBinaryIntrinsic(llvm::Intrinsic::umin, place, given));
    return std::pair{place, b.CreateAnd(b.CreateICmpULT(place, given), b.CreateICmpEQ(noted, row))};
  };
  auto sumAt = [&](llvm::Value *place, llvm::Value *column) {
    return b.CreateGEP(type(s.type), sums,
                       b.CreateAdd(b.CreateMul(place, i64(scratch.rowElements)), column));
  };
  auto load = [&](llvm::Value *p) -> llvm::Value * {
    llvm::Type *t = type(s.type, width_ > 1);
    if (mask_) return b.CreateMaskedLoad(t, p, align, mask_, llvm::Constant::getNullValue(t));
    return b.CreateAlignedLoad(t, p, align);
  };
  auto put = [&](llvm::Value *v, llvm::Value *p) {
    if (mask_)
      b.CreateMaskedStore(v, p, align, mask_);
    else
      b.CreateAlignedStore(v, p, align);
  };
  auto finish = [&](llvm::Value *row, llvm::Value *place) {
    bind(s.row, row, 0);
    overRow([&](llvm::Value *column) {
      acc_ = {load(sumAt(place, column)), width_ > 1};
      locals_.assign(k.stages.size(), {});
      elementwise(0, k.stages.size());
    });
    unbind(s.row);
  };
  const Range own = range_[size_t(s.row)];
  forAxes(s.outer, 0, [&] {
    b.CreateStore(i64(0), count);
    forAxes(s.tokens, 0, [&] {
      llvm::Value *row = tokensRow();
      ifThen(b.CreateICmpULT(b.CreateSub(row, own.lo), b.CreateSub(own.hi, own.lo)), [&] {
        auto [old, known] = find(row);
        llvm::Value *given = b.CreateLoad(b.getInt64Ty(), count);
        llvm::Value *place = b.CreateSelect(known, old, given);
        b.CreateStore(b.CreateTrunc(place, number), at(places, row));
        b.CreateStore(b.CreateTrunc(row, number), at(rows, place));
        b.CreateStore(b.CreateAdd(given, b.CreateZExt(b.CreateNot(known), b.getInt64Ty())), count);
        overRow([&](llvm::Value *column) {
          llvm::Value *p = sumAt(place, column);
          llvm::Value *zero = llvm::Constant::getNullValue(type(s.type, width_ > 1));
          llvm::Value *sum = b.CreateSelect(known, load(p), zero);
          put(combine(Combine::sum, s.type, sum, spread(expr(s.update))), p);
        });
      });
    });
    if (s.touched) {
      forRange(i64(0), b.CreateLoad(b.getInt64Ty(), count), 1,
               [&](llvm::Value *place) { finish(numberAt(rows, place), place); });
      return;
    }
    llvm::Value *none = i64(scratch.tokens); // a place with zeros for the rows without a token
    overRow([&](llvm::Value *column) {
      put(llvm::Constant::getNullValue(type(s.type, width_ > 1)), sumAt(none, column));
    });
    forRange(own.lo, own.hi, 1, [&](llvm::Value *row) {
      auto [place, known] = find(row);
      finish(row, b.CreateSelect(known, place, none));
    });
  });
}

} // namespace nnc::cg
