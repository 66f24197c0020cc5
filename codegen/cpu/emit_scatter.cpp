// Scatter-add: the gradient of a gather, without atomics and in a fixed order.
//
// Problem. table[v, :] = sum of update[t, :] over the tokens t with index[t] == v. Tokens repeat,
// so two threads that split the tokens would add to the same row.
//
//   items by columns:   item c zeroes table[:, c..c+15], then for each token in order
//                       table[index, c..c+15] += update[t, c..c+15]
//
// Method. An item owns a range of columns (or of outer axes) and walks all tokens in
// order, so the sum of each element has one order and no two items touch the same byte. Indices
// outside are dropped.
#include "codegen/cpu/emitter.h"

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

void Emitter::emitScatter() {
  const ScatterInfo &s = k.scatter;
  const TableStrides strides = stridesOf(k);
  Access out;
  out.arg = s.arg;
  // Calls f with the place in the table of each vector of the item's columns, in this row.
  auto overColumns = [&](llvm::Value *row, const std::function<void(const IndexVal &)> &f) {
    auto here = [&] {
      IndexVal x;
      for (size_t i = 0; i < s.outer.size(); ++i)
        x.base = add(x.base, scaled(axis_[size_t(s.outer[i])].base, strides.outer[i]));
      x.base = add(x.base, scaled(row, strides.row));
      for (size_t i = 0; i < s.inner.size(); ++i)
        x.base = add(x.base, scaled(axis_[size_t(s.inner[i])].base, strides.inner[i]));
      x.stride = width_ > 1 ? 1 : 0;
      f(x);
    };
    if (s.inner.empty()) return here();
    const std::vector<AxisId> loops(s.inner.begin(), s.inner.end() - 1);
    forAxes(loops, 0, [&] { forLanes(s.inner.back(), here); });
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
      llvm::Value *row = b.CreateSExt(expr(s.index).v, b.getInt64Ty());
      ifThen(b.CreateICmpULT(row, dim(s.rows)), [&] {
        overColumns(row, [&](const IndexVal &x) {
          llvm::Value *old = width_ > 1 ? loadContiguous(out, x, {}) : loadUniform(out, x, {}).v;
          if (width_ > 1) old = widen(old, k.args[size_t(s.arg)].dtype);
          put(x, combine(Combine::sum, s.type, old, spread(expr(s.update))));
        });
      });
    });
  });
}

} // namespace nnc::cg
