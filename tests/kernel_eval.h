// What a kernel computes, told as slowly and plainly as possible: one number at a time, in the
// order and with the roundings that codegen/kernel.h states. Compiled kernels must agree with it to
// the bit.
//
//   KernelEval(kernel, args, n, step, seed).run();     // reads and writes the buffers `args`
//
// Run it with subnormals flushed (FlushSubnormals), as kernels run.
#pragma once
#include "codegen/kernel.h"
#include "codegen/math.h"
#include "ir/random.h"
#include "ir/scalar_math.h"
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <xmmintrin.h>

namespace nnc::test {

using namespace nnc::cg;

struct FlushSubnormals {
  unsigned saved = _mm_getcsr();
  FlushSubnormals() { _mm_setcsr(saved | 0x8040); }
  ~FlushSubnormals() { _mm_setcsr(saved); }
};

// A value of an expression: floats in `d` (an f32 is held exactly), all others in `i`.
struct Num {
  double d = 0;
  int64_t i = 0;
};

class KernelEval {
 public:
  KernelEval(const Kernel &kernel, std::vector<char *> args, int64_t n, uint64_t step = 0,
             uint64_t seed = 0, uint64_t iteration = 0)
      : k(kernel), args_(std::move(args)), n_(n), step_(step), seed_(seed), iteration_(iteration) {
    expandMath(k);
    at_.assign(k.axes.size(), 0);
  }
  void run() {
    switch (k.cls) {
    case KernelClass::Loops: return over(k.parallel, 0, [&] { stages(); });
    case KernelClass::Contract: return contract();
    case KernelClass::ScatterAdd: return scatter();
    case KernelClass::Sort: return over(k.parallel, 0, [&] { sort(); });
    case KernelClass::Chain:
      return over(k.chain.outer, 0, [&] { over({k.chain.row}, 0, [&] { chainRow(); }); });
    }
  }

 private:
  Kernel k;
  std::vector<char *> args_;
  int64_t n_;
  uint64_t step_, seed_, iteration_;
  std::vector<int64_t> at_;
  // A sum in the order of codegen/amx.h.
  struct TileSum {
    float sum = 0, even = 0, odd = 0;
    int count = 0;
    void finish() {
      if (count > 0) sum += even + odd;
      even = odd = 0, count = 0;
    }
    void add(double x, double y, int unit = 32) {
      float &half = count % 2 ? odd : even;
      half = std::fma(float(x), float(y), half);
      if (++count == unit) finish();
    }
  };
  struct Held {
    TileSum dealt;
    Num plain;
  };

  std::vector<std::vector<Num>> locals_;
  Num acc_;
  std::vector<std::vector<Num>> tiles_; // Chain: by stage, the row at hand
  // .. sums over rows so far, by stage and what it keeps
  std::map<std::vector<int64_t>, Held> held_;
  std::map<ExprId, Num> memo_;
  int depth_ = 0;

  using Do = std::function<void()>;

  int64_t extent(AxisId a) {
    const Axis &x = k.axes[size_t(a)];
    int64_t e = x.extent.at(n_);
    return x.bounded ? std::min(e, x.limit.at(n_) - index(x.base)) : e;
  }
  void over(const std::vector<AxisId> &axes, size_t from, const Do &f) {
    if (from == axes.size()) return f();
    const int64_t e = extent(axes[from]);
    for (int64_t i = 0; i < e; ++i) {
      at_[size_t(axes[from])] = i;
      over(axes, from + 1, f);
    }
  }

  // --- indices and memory
  static int64_t floorDiv(int64_t a, int64_t b) {
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
  }
  int64_t atom(const Atom &a) {
    switch (a.kind) {
    case Atom::Axis: return at_[size_t(a.axis)];
    case Atom::Div: return floorDiv(index(a.inner), a.by);
    case Atom::Mod: return index(a.inner) - floorDiv(index(a.inner), a.by) * a.by;
    case Atom::Value: return std::clamp<int64_t>(eval(a.value).i, 0, a.limit.at(n_) - 1);
    }
    return 0;
  }
  int64_t index(const Index &x) {
    int64_t r = x.c0 + x.cn * n_;
    for (const Term &t : x.terms) r += t.coef * atom(k.atoms[size_t(t.atom)]);
    return r;
  }
  bool hold(const std::vector<Guard> &gs) {
    for (const Guard &g : gs) {
      const int64_t i = index(g.index);
      if (i < g.lo || i >= g.hi.at(n_)) return false;
    }
    return true;
  }
  template <class T> T read(const Access &a, int64_t i) {
    T v;
    std::memcpy(&v, args_[size_t(a.arg)] + i * int64_t(sizeof(T)), sizeof v);
    return v;
  }
  template <class T> void write(const Access &a, int64_t i, T v) {
    std::memcpy(args_[size_t(a.arg)] + i * int64_t(sizeof(T)), &v, sizeof v);
  }
  Num load(const Access &a) {
    if (!hold(a.guards)) return {};
    const int64_t i = index(a.flat);
    switch (k.args[size_t(a.arg)].dtype) {
    case DType::f32: return {read<float>(a, i), 0};
    case DType::f64: return {read<double>(a, i), 0};
    case DType::bf16: return {std::bit_cast<float>(uint32_t(read<uint16_t>(a, i)) << 16), 0};
    case DType::f16: return {double(float(read<_Float16>(a, i))), 0};
    case DType::i64: return {0, read<int64_t>(a, i)};
    case DType::i32: return {0, read<int32_t>(a, i)};
    case DType::u32: return {0, read<uint32_t>(a, i)};
    case DType::u8: return {0, read<uint8_t>(a, i)};
    case DType::boolean: return {0, read<uint8_t>(a, i) != 0};
    }
    return {};
  }
  void store(const Access &a, Num v) {
    if (!hold(a.guards)) return;
    const int64_t i = index(a.flat);
    switch (k.args[size_t(a.arg)].dtype) {
    case DType::f32: return write(a, i, float(v.d));
    case DType::f64: return write(a, i, v.d);
    case DType::bf16:
      return write(a, i,
                   uint16_t(std::bit_cast<uint32_t>(float(ir::scalar::roundBf16(v.d))) >> 16));
    case DType::f16: return write(a, i, _Float16(float(v.d)));
    case DType::i64: return write(a, i, v.i);
    case DType::i32: return write(a, i, int32_t(v.i));
    case DType::u32: return write(a, i, uint32_t(v.i));
    case DType::u8: return write(a, i, uint8_t(v.i));
    case DType::boolean: return write(a, i, uint8_t(v.i != 0));
    }
  }

  // --- scalar operations
  static Num wrap(DType t, int64_t v) {
    switch (t) {
    case DType::i32: return {0, int32_t(uint32_t(uint64_t(v)))};
    case DType::u32: return {0, int64_t(uint32_t(uint64_t(v)))};
    case DType::u8: return {0, int64_t(uint8_t(uint64_t(v)))};
    case DType::boolean: return {0, v != 0};
    default: return {0, v};
    }
  }
  template <class T> static T floatOp(SOp op, T a, T b) {
    using namespace ir::scalar;
    switch (op) {
    case SOp::add: return a + b;
    case SOp::sub: return a - b;
    case SOp::mul: return a * b;
    case SOp::div: return a / b;
    case SOp::idiv: return std::floor(a / b);
    case SOp::imod: {
      T q = std::floor(a / b);
      T p = q * b;
      return a - p;
    }
    case SOp::max: return ir::scalar::max(a, b);
    case SOp::min: return ir::scalar::min(a, b);
    case SOp::neg: return -a;
    case SOp::abs: return std::fabs(a);
    case SOp::sqrt: return std::sqrt(a);
    case SOp::floor: return std::floor(a);
    case SOp::ceil: return std::ceil(a);
    case SOp::round: return std::nearbyint(a);
    default: break;
    }
    throw std::runtime_error("no float operation " + std::string(sopName(op)));
  }
  static int64_t intOp(SOp op, DType t, int64_t a, int64_t b) {
    using ir::scalar::Int;
    switch (op) {
    case SOp::add: return (Int{a} + Int{b}).v;
    case SOp::sub: return (Int{a} - Int{b}).v;
    case SOp::mul: return (Int{a} * Int{b}).v;
    case SOp::div:
    case SOp::idiv: return ir::scalar::floordiv(Int{a}, Int{b}).v;
    case SOp::imod: return ir::scalar::mod(Int{a}, Int{b}).v;
    case SOp::max: return std::max(a, b);
    case SOp::min: return std::min(a, b);
    case SOp::neg: return (-Int{a}).v;
    case SOp::abs: return ir::scalar::abs(Int{a}).v;
    case SOp::sign: return (a > 0) - (a < 0);
    case SOp::land:
    case SOp::iand: return a & b;
    case SOp::lor:
    case SOp::ior: return a | b;
    case SOp::ixor: return a ^ b;
    case SOp::lnot: return !a;
    case SOp::shl: return int64_t(uint64_t(a) << b);
    case SOp::shr: return t == DType::u32 ? int64_t(uint32_t(a) >> b) : a >> b;
    default: return a; // floor, ceil, round
    }
  }
  static Num arithmetic(SOp op, DType t, Num a, Num b) {
    if (t == DType::f64) return {floatOp(op, a.d, b.d), 0};
    if (ir::isFloat(t)) return {floatOp(op, float(a.d), float(b.d)), 0};
    return wrap(t, intOp(op, t, a.i, b.i));
  }
  static Num convert(Num x, DType from, DType to) {
    if (ir::isFloat(from)) {
      if (to == DType::f64) return x;
      if (to == DType::f32) return {float(x.d), 0};
      if (to == DType::bf16) return {ir::scalar::roundBf16(x.d), 0};
      if (to == DType::f16) return {double(float(_Float16(float(x.d)))), 0};
      if (to == DType::boolean) return {0, x.d != 0};
      if (to == DType::i64) return {0, ir::scalar::Int::from(x.d).v};
      return {0, int64_t(ir::scalar::saturate(to, x.d))};
    }
    if (to == DType::f64) return {double(x.i), 0};
    if (ir::isFloat(to)) return convert({float(x.i), 0}, DType::f32, to);
    return wrap(to, x.i);
  }
  static bool compare(SOp op, auto a, auto b) {
    switch (op) {
    case SOp::eq: return a == b;
    case SOp::ne: return a != b;
    case SOp::lt: return a < b;
    case SOp::le: return a <= b;
    case SOp::gt: return a > b;
    default: return a >= b;
    }
  }
  // One value per expression while the axes stand still.
  Num eval(ExprId id) {
    if (depth_ == 0) memo_.clear();
    if (auto it = memo_.find(id); it != memo_.end()) return it->second;
    ++depth_;
    const Num r = compute(id);
    --depth_;
    return memo_[id] = r;
  }
  Num compute(ExprId id) {
    const Expr &e = k.exprs[size_t(id)];
    switch (e.op) {
    case SOp::constant:
      if (e.type == DType::f64) return {e.value, 0};
      if (ir::isFloat(e.type)) return {float(e.value), 0};
      return wrap(e.type, int64_t(e.value));
    case SOp::load: return load(e.access);
    case SOp::acc:
      if (k.cls == KernelClass::Chain)
        return tiles_[size_t(e.stage)][size_t(at_[size_t(k.chain.col)])];
      return acc_;
    case SOp::local: return locals_[size_t(e.stage)][size_t(e.slot)];
    case SOp::index: return convert({0, index(e.index)}, DType::i64, e.type);
    case SOp::size: return convert({0, e.dim.at(n_)}, DType::i64, e.type);
    case SOp::guard: return {0, hold(e.guards)};
    case SOp::random: {
      const uint64_t site =
          uint64_t(uint32_t(eval(e.args[1]).i)) << 32 | uint32_t(eval(e.args[0]).i);
      return {ir::uniform24(ir::philoxWord(ir::mixSeed(seed_) ^ site, step_, iteration_,
                                           uint64_t(index(e.index)))),
              0};
    }
    case SOp::select: return eval(e.args[eval(e.args[0]).i ? 1 : 2]);
    case SOp::convert: return convert(eval(e.args[0]), k.exprs[size_t(e.args[0])].type, e.type);
    case SOp::fma: {
      Num a = eval(e.args[0]), b = eval(e.args[1]), c = eval(e.args[2]);
      return multiplyAdd(e.type, a, b, c);
    }
    case SOp::isNan: return {0, std::isnan(eval(e.args[0]).d)};
    case SOp::bitcast: {
      Num x = eval(e.args[0]);
      if (e.type == DType::i32) return {0, std::bit_cast<int32_t>(float(x.d))};
      if (e.type == DType::i64) return {0, std::bit_cast<int64_t>(x.d)};
      if (e.type == DType::f32) return {std::bit_cast<float>(int32_t(x.i)), 0};
      return {std::bit_cast<double>(x.i), 0};
    }
    default: break;
    }
    Num a = eval(e.args[0]), b = e.args.size() > 1 ? eval(e.args[1]) : Num{};
    if (e.op >= SOp::eq && e.op <= SOp::ge)
      return {0, ir::isFloat(k.exprs[size_t(e.args[0])].type) ? compare(e.op, a.d, b.d)
                                                              : compare(e.op, a.i, b.i)};
    return arithmetic(e.op, e.type, a, b);
  }
  static Num multiplyAdd(DType t, Num a, Num b, Num c) {
    if (t == DType::f64) return {std::fma(a.d, b.d, c.d), 0};
    if (ir::isFloat(t)) return {std::fma(float(a.d), float(b.d), float(c.d)), 0};
    return wrap(t, intOp(SOp::add, t, intOp(SOp::mul, t, a.i, b.i), c.i));
  }

  // --- reductions
  static Num combine(Combine c, DType t, Num a, Num b) {
    const bool f = ir::isFloat(t);
    if (c == Combine::sum || c == Combine::cumsum) return arithmetic(SOp::add, t, a, b);
    if (c == Combine::prod) return arithmetic(SOp::mul, t, a, b);
    const bool max = c == Combine::max;
    if (!f) return {0, max ? std::max(a.i, b.i) : std::min(a.i, b.i)};
    if (std::isnan(a.d) || std::isnan(b.d)) return {NAN, 0};
    if (a.d == b.d) return std::signbit(a.d) == max ? b : a; // -0 < +0
    return (a.d > b.d) == max ? a : b;
  }
  static Num identity(Combine c, DType t) {
    const bool f = ir::isFloat(t), isSigned = t == DType::i32 || t == DType::i64;
    if (c == Combine::prod) return f ? Num{1, 0} : Num{0, 1};
    if (c == Combine::max)
      return f ? Num{-INFINITY, 0}
               : Num{0, !isSigned         ? 0
                        : t == DType::i32 ? INT32_MIN
                                          : INT64_MIN};
    if (c == Combine::min)
      return f ? Num{INFINITY, 0}
               : Num{0, t == DType::i64   ? INT64_MAX
                        : t == DType::i32 ? INT32_MAX
                        : t == DType::u32 ? int64_t(UINT32_MAX)
                        : t == DType::u8  ? 255
                                          : 1};
    return {};
  }
  static Num fold(Combine c, DType t, std::vector<Num> lanes) {
    for (size_t w = lanes.size() / 2; w > 0; w /= 2)
      for (size_t i = 0; i < w; ++i) lanes[i] = combine(c, t, lanes[i], lanes[i + w]);
    return lanes[0];
  }
  std::vector<Num> reduce(const Stage &s) {
    if (s.combine == Combine::argmax) return argmax(s);
    std::vector<Num> lanes(size_t(std::max(1, s.order.lanes)), identity(s.combine, s.type));
    over(s.reduce, 0, [&] {
      Num &l = lanes[size_t(at_[size_t(s.reduce.back())]) % lanes.size()];
      l = combine(s.combine, s.type, l, eval(s.body));
    });
    return {fold(s.combine, s.type, lanes)};
  }
  std::vector<Num> argmax(const Stage &s) {
    Num best, place{0, -1};
    over(s.reduce, 0, [&] {
      Num x = eval(s.body);
      const bool better = ir::isFloat(s.type)
                              ? x.d > best.d || (std::isnan(x.d) && !std::isnan(best.d))
                              : x.i > best.i;
      if (place.i >= 0 && !better) return;
      best = x, place.i = 0;
      for (AxisId a : s.reduce)
        place.i = place.i * k.axes[size_t(a)].extent.at(n_) + at_[size_t(a)];
    });
    return {best, place};
  }

  // --- classes
  // Stages without reductions over the same axes are a block: all bodies, then all stores.
  void stages() {
    locals_.assign(k.stages.size(), {});
    for (size_t first = 0, end; first < k.stages.size(); first = end) {
      const Stage &s = k.stages[first];
      for (end = first + 1; s.combine == Combine::none && end < k.stages.size(); ++end)
        if (k.stages[end].combine != Combine::none || k.stages[end].loop != s.loop) break;
      over(s.loop, 0, [&] {
        if (s.combine == Combine::cumsum) return cumsum(s);
        std::vector<std::vector<Num>> values;
        for (size_t i = first; i < end; ++i) {
          values.push_back(s.combine == Combine::none ? std::vector<Num>{eval(k.stages[i].body)}
                                                      : reduce(s));
          if (s.loop.empty()) locals_[i] = values.back();
        }
        for (size_t i = first; i < end; ++i)
          for (const Store &st : k.stages[i].stores)
            store(st.access, values[i - first][size_t(st.slot)]);
      });
    }
  }
  void cumsum(const Stage &s) {
    Num sum{};
    over(s.reduce, 0, [&] {
      Num next = combine(Combine::sum, s.type, sum, eval(s.body));
      for (const Store &st : s.stores) store(st.access, s.exclusive ? sum : next);
      sum = next;
    });
  }
  // All stages of a contraction's element: bodies, then stores; sums go on in their places.
  void epilogue() {
    locals_.assign(k.stages.size(), {});
    std::vector<Num> values;
    for (size_t i = 0; i < k.stages.size(); ++i) {
      values.push_back(eval(k.stages[i].body));
      locals_[i] = {values[i]};
    }
    for (size_t i = 0; i < k.stages.size(); ++i) {
      const Stage &s = k.stages[i];
      Num v = values[i];
      if (s.chunk) {
        bool first = at_[size_t(s.reduce[0])] % s.chunk == 0;
        for (size_t a = 1; a < s.reduce.size(); ++a) first = first && at_[size_t(s.reduce[a])] == 0;
        v = combine(Combine::sum, s.type, first ? Num{} : load(s.stores[0].access), v);
      }
      for (const Store &st : s.stores) store(st.access, v);
    }
  }
  void contract() {
    const ContractInfo &c = k.contract;
    std::vector<AxisId> outer = c.batch;
    outer.insert(outer.end(), c.m.begin(), c.m.end());
    outer.insert(outer.end(), c.n.begin(), c.n.end());
    const size_t lanes = k.schedule.family == Family::Dot ? kLanesDot : 1;
    over(outer, 0, [&] {
      if (k.schedule.family == Family::Amx) {
        acc_ = {tileSum(), 0};
        return epilogue();
      }
      std::vector<Num> acc(lanes);
      over(c.k, 0, [&] {
        Num &a = acc[c.k.empty() ? 0 : size_t(at_[size_t(c.k.back())]) % lanes];
        a = multiplyAdd(c.type, eval(c.a), eval(c.b), a);
      });
      acc_ = fold(Combine::sum, c.type, acc);
      epilogue();
    });
  }
  double tileSum() {
    const ContractInfo &c = k.contract;
    const auto blocked = std::find(c.k.begin(), c.k.end(), k.schedule.kAxis);
    std::vector<int64_t> block;
    TileSum sum;
    over(c.k, 0, [&] {
      std::vector<int64_t> at;
      if (blocked != c.k.end()) {
        for (auto a = c.k.begin(); a != blocked; ++a) at.push_back(at_[size_t(*a)]);
        at.push_back(at_[size_t(*blocked)] / k.schedule.kBlock);
      }
      if (at != block) sum.finish(), block = at;
      sum.add(eval(c.a).d, eval(c.b).d);
    });
    sum.finish();
    return sum.sum;
  }
  // All steps of one row. Sums over rows go on where the row before left them; on tile registers a
  // block of rows is a tile's terms.
  void chainRow() {
    const ChainInfo &c = k.chain;
    const std::vector<AxisId> cols{c.col};
    const bool onTiles = k.schedule.family == Family::Amx;
    const int64_t row = at_[size_t(c.row)];
    locals_.assign(k.stages.size(), {});
    tiles_.assign(k.stages.size(), {});
    for (size_t i = 0; i < k.stages.size(); ++i) {
      const Stage &s = k.stages[i];
      const ExprId second = c.steps[i].b;
      auto sum = [&](const std::vector<AxisId> &axes) -> Num {
        TileSum dealt;
        Num plain;
        over(axes, 0, [&] {
          if (onTiles)
            dealt.add(eval(s.body).d, eval(second).d);
          else
            plain = multiplyAdd(c.type, eval(s.body), eval(second), plain);
        });
        dealt.finish();
        return onTiles ? Num{dealt.sum, 0} : plain;
      };
      switch (c.steps[i].kind) {
      case StepKind::Product: over(cols, 0, [&] { tiles_[i].push_back(sum(s.reduce)); }); break;
      case StepKind::Tile: over(cols, 0, [&] { tiles_[i].push_back(eval(s.body)); }); break;
      case StepKind::Row: {
        locals_[i] = s.reduce.empty() ? std::vector<Num>{eval(s.body)} : reduce(s);
        for (const Store &st : s.stores) store(st.access, locals_[i][size_t(st.slot)]);
        break;
      }
      case StepKind::RowSum:
        over(s.loop, 0, [&] {
          const Num r = sum(cols);
          for (const Store &st : s.stores) store(st.access, r);
        });
        break;
      case StepKind::ColSum: {
        const int unit = int(k.schedule.nv) * 16;
        std::vector<AxisId> kept = c.outer;
        std::erase_if(kept, [&](AxisId a) {
          return std::find(s.reduce.begin(), s.reduce.end(), a) != s.reduce.end();
        });
        kept.push_back(c.col);
        kept.insert(kept.end(), s.loop.begin(), s.loop.end());
        over(cols, 0, [&] {
          over(s.loop, 0, [&] {
            std::vector<int64_t> place{int64_t(i)};
            for (AxisId a : kept) place.push_back(at_[size_t(a)]);
            Held &h = held_[place];
            bool first = true;
            for (AxisId a : s.reduce) first = first && at_[size_t(a)] == 0;
            if (first) h = {};
            if (onTiles) {
              h.dealt.add(eval(s.body).d, eval(second).d, unit);
              if (row + 1 == extent(c.row)) h.dealt.finish();
              h.plain = {h.dealt.sum, 0};
            } else {
              h.plain = multiplyAdd(c.type, eval(s.body), eval(second), h.plain);
            }
            for (const Store &st : s.stores) store(st.access, h.plain);
          });
        });
        break;
      }
      }
    }
  }
  // The sums of all rows, then the stages of each: a kernel that visits only some must leave the
  // same.
  void scatterStages() {
    const ScatterInfo &s = k.scatter;
    const int64_t rows = s.rows.at(n_);
    over(s.outer, 0, [&] {
      over(s.inner, 0, [&] {
        std::vector<Num> sums(static_cast<size_t>(rows));
        over(s.tokens, 0, [&] {
          const int64_t row = std::clamp<int64_t>(eval(s.index).i, 0, rows - 1);
          sums[size_t(row)] = combine(Combine::sum, s.type, sums[size_t(row)], eval(s.update));
        });
        for (int64_t row = 0; row < rows; ++row) {
          at_[size_t(s.row)] = row;
          acc_ = sums[size_t(row)];
          stages();
        }
      });
    });
  }
  void scatter() {
    if (k.scatter.arg < 0) return scatterStages();
    const ScatterInfo &s = k.scatter;
    const int64_t rows = s.rows.at(k.batch);
    int64_t inner = 1;
    for (AxisId a : s.inner) inner *= k.axes[size_t(a)].extent.at(k.batch);
    Access out;
    out.arg = s.arg;
    auto flat = [&](const std::vector<AxisId> &axes) {
      int64_t r = 0;
      for (AxisId a : axes) r = r * k.axes[size_t(a)].extent.at(k.batch) + at_[size_t(a)];
      return r;
    };
    auto put = [&](int64_t row, Num v) {
      out.flat = constIndex((flat(s.outer) * rows + row) * inner + flat(s.inner));
      store(out, v);
    };
    over(s.outer, 0, [&] {
      over(s.inner, 0, [&] {
        for (int64_t r = 0; r < rows; ++r) put(r, {});
        over(s.tokens, 0, [&] {
          const int64_t row = std::clamp<int64_t>(eval(s.index).i, 0, rows - 1);
          const Num update = eval(s.update);
          out.flat = constIndex((flat(s.outer) * rows + row) * inner + flat(s.inner));
          put(row, combine(Combine::sum, s.type, load(out), update));
        });
      });
    });
  }
  void sort() {
    const SortInfo &s = k.sort;
    const int64_t length = extent(s.axis);
    std::vector<std::pair<Num, int64_t>> v;
    for (int64_t i = 0; i < length; ++i) {
      at_[size_t(s.axis)] = i;
      v.push_back({eval(s.value), i});
    }
    const bool f = ir::isFloat(s.type);
    std::stable_sort(v.begin(), v.end(), [&](auto &x, auto &y) {
      if (!f) return s.descending ? x.first.i > y.first.i : x.first.i < y.first.i;
      if (std::isnan(x.first.d) || std::isnan(y.first.d))
        return std::isnan(y.first.d) && !std::isnan(x.first.d);
      return s.descending ? x.first.d > y.first.d : x.first.d < y.first.d;
    });
    for (int64_t i = 0; i < length; ++i) {
      at_[size_t(s.axis)] = i;
      if (s.values.arg >= 0) store(s.values, v[size_t(i)].first);
      if (s.indices.arg >= 0) store(s.indices, {0, v[size_t(i)].second});
    }
  }
};

} // namespace nnc::test
