// Reading a value at an index: views dissolve into index arithmetic.
//
// Problem. `transpose`, `slice`, `pad`, `window`, `reshape`, `broadcast`, `concat`, `gather` must
// not cost a pass over memory. Example: the 2x2 pooling of a padded image reads
//   max over u, v of  select(guard(0 <= 2i+u-1 < 28, ..), x[n, 2i+u-1, 2j+v-1, c], -inf).
//
// Method. read(value, index) walks from the value that a kernel wants towards its inputs. A view
// rewrites the index (and may add guards), a pointwise node becomes a scalar operation on its
// operands at the same index, a root is a load. Equal (value, index, guards) are read once. Under
// guards, loads touch memory only where the guards hold; a fill other than zero, or arithmetic
// after the load, needs a select on top.
#include "codegen/fuse.h"
#include "ir/random.h"

namespace nnc::cg {

using ir::Node;
using ir::Op;
using ir::ValueId;

namespace {

SOp scalarOp(Op o);

ExprId op(Kernel &k, SOp o, DType t, std::vector<ExprId> args) {
  Expr e;
  e.op = o;
  e.type = t;
  e.args = std::move(args);
  return k.expr(std::move(e));
}

ExprId guardExpr(Kernel &k, std::vector<Guard> gs) {
  Expr e;
  e.op = SOp::guard;
  e.type = DType::boolean;
  e.guards = std::move(gs);
  return k.expr(std::move(e));
}

// A load, or a conversion of one: zero where its guards fail.
bool isPlainLoad(const Kernel &k, ExprId e) {
  if (k.exprs[e].op == SOp::convert) return isPlainLoad(k, k.exprs[e].args[0]);
  return k.exprs[e].op == SOp::load;
}

} // namespace

ExprId constantExpr(Kernel &k, double v, DType t) {
  Expr e;
  e.type = t;
  e.value = v;
  return k.expr(std::move(e));
}

ExprId convertExpr(Kernel &k, ExprId e, DType t) { return op(k, SOp::convert, t, {e}); }

ExprId roundedExpr(Kernel &k, ExprId e, DType t) {
  if (ir::widened(t) == t) return e;
  return convertExpr(k, convertExpr(k, e, t), ir::widened(t));
}

void addGuard(const Kernel &k, std::vector<Guard> &gs, const Index &x, Dim hi, int64_t lo) {
  int64_t a, b;
  // A dimension with n is at least its value at n = 1, and an index that runs along it stays inside
  // it by construction of the axes; only constants are compared here.
  bool bounded = rangeOf(k, x, a, b);
  if (bounded && a >= lo && hi.isConst() && b < hi.b) return;
  if (bounded && a >= lo && !hi.isConst() && x.terms.size() == 1 && x.terms[0].coef == 1 &&
      x.c0 == 0 && x.cn == 0) {
    const Atom &at = k.atoms[x.terms[0].atom];
    if (at.kind == Atom::Axis && k.axes[at.axis].extent == hi) return;
  }
  // A chunk of a split axis stops at its own limit.
  for (const Term &t : x.terms) {
    const Atom &at = k.atoms[t.atom];
    if (at.kind != Atom::Axis || !k.axes[at.axis].bounded || t.coef != 1) continue;
    const Axis &axis = k.axes[at.axis];
    Index chunk;
    chunk.terms.push_back({t.atom, 1});
    if (lo <= 0 && axis.limit == hi && axis.base + chunk == x) return;
  }
  Guard g{x, lo, hi};
  for (const Guard &h : gs)
    if (h == g) return;
  gs.push_back(std::move(g));
}

Index flatten(Kernel &k, const Dims &dims, const std::vector<Index> &at, int64_t batch) {
  return placeOf(k, {}, dims, at, batch);
}

Reader::Reader(const ir::Function &f, const Roots &facts, Kernel &k, Fuser *fuser, Group *group,
               int groupId, Launch *launch)
    : f_(f), facts_(facts), k_(k), fuser_(fuser), group_(group), groupId_(groupId),
      launch_(launch  ? launch
              : group ? &group->launch
                      : nullptr) {}

ExprId Reader::read(ValueId v, const std::vector<Index> &at, const std::vector<Guard> &guards) {
  Key key{v.i, at, guards};
  if (auto it = memo_.find(key); it != memo_.end()) return it->second;
  ExprId e = compute(v, at, guards);
  memo_.emplace(std::move(key), e);
  return e;
}

ExprId Reader::compute(ValueId v, const std::vector<Index> &at, const std::vector<Guard> &guards) {
  if (group_ && groupId_ >= 0)
    if (auto it = group_->tiles.find(v.i); it != group_->tiles.end())
      return tile(v, it->second, at);
  if (facts_.root[v.i]) {
    bool ours = fuser_ && groupId_ >= 0 && fuser_->groupOf[v.i] == groupId_;
    if (!ours) return load(v, f_.type(v).dims, at, guards);
    if (!group_->inlined.count(v.i)) return own(v, at);
  }
  const Node &n = *f_.def(v);
  if (auto it = facts_.rectified.find(v.i); it != facts_.rectified.end() && fuser_) {
    ValueId h = it->second; // in memory, and made elsewhere: compare it instead
    if (facts_.root[h.i] && fuser_->groupOf[h.i] >= 0 && fuser_->groupOf[h.i] != groupId_) {
      ExprId a = read(h, at, guards), b = read(n.operands[1], at, guards);
      return a < 0 || b < 0 ? -1 : op(k_, scalarOp(n.op), DType::boolean, {a, b});
    }
  }
  if (ir::isPointwise(n.op) || n.op == Op::select_ || n.op == Op::cast_)
    return pointwise(n, at, guards);
  switch (n.op) {
  case Op::constant_:
  case Op::iota_:
  case Op::size_:
  case Op::random_: return generator(n, at);
  default: return view(n, at, guards);
  }
}

// The element of a tile of this kernel, at the row and column at hand.
ExprId Reader::tile(ValueId v, int stage, const std::vector<Index> &at) {
  for (size_t i = 0; i < at.size(); ++i)
    if (at[i] != k_.axisIndex(group_->tileAxes[i])) return -1;
  Expr e;
  e.op = SOp::acc;
  e.type = k_.chain.type;
  e.stage = stage;
  return roundedExpr(k_, k_.expr(std::move(e)), f_.type(v).dtype);
}

// A value that an earlier stage of this kernel left behind: only at the very index it belongs to.
ExprId Reader::own(ValueId v, const std::vector<Index> &at) {
  if (at.size() < group_->dims.size()) return -1;
  for (size_t i = 0; i < group_->dims.size(); ++i) {
    AxisId a = group_->dimAxes[i];
    if (at[i] != (a < 0 ? Index{} : k_.axisIndex(a))) return -1;
  }
  const DType type = f_.type(v).dtype;
  Expr e;
  e.type = ir::widened(type);
  if (group_->accValue == v.i) {
    e.op = SOp::acc;
    return roundedExpr(k_, k_.expr(std::move(e)), type);
  }
  auto it = group_->locals.find(v.i);
  if (it == group_->locals.end()) return -1;
  e.op = SOp::local;
  e.stage = it->second.first;
  e.slot = it->second.second;
  return roundedExpr(k_, k_.expr(std::move(e)), type);
}

ExprId Reader::load(ValueId v, const Dims &dims, const std::vector<Index> &at,
                    const std::vector<Guard> &guards) {
  Expr e;
  e.op = SOp::load;
  DType stored = f_.type(v).dtype;
  e.type = ir::widened(stored);
  const Layout &layout = facts_.layoutOf(v);
  NNC_CHECK(layout.isRowMajor() || dims == f_.type(v).dims,
            "a reshape of memory that is not row-major");
  e.access.flat = placeOf(k_, layout, dims, at, f_.batch);
  e.access.guards = guards;
  // A dry run has no arguments; any number that tells values apart does.
  e.access.arg = fuser_ ? fuser_->argFor(*launch_, fuser_->buffer(v), false) : v.i;
  return k_.expr(std::move(e));
}

namespace {

SOp scalarOp(Op o) {
  switch (o) {
  case Op::add_: return SOp::add;
  case Op::sub_: return SOp::sub;
  case Op::mul_: return SOp::mul;
  case Op::div_: return SOp::div;
  case Op::floordiv_: return SOp::idiv;
  case Op::mod_: return SOp::imod;
  case Op::pow_: return SOp::pow;
  case Op::max_: return SOp::max;
  case Op::min_: return SOp::min;
  case Op::atan2_: return SOp::atan2;
  case Op::neg_: return SOp::neg;
  case Op::abs_: return SOp::abs;
  case Op::sign_: return SOp::sign;
  case Op::exp_: return SOp::exp;
  case Op::expm1_: return SOp::expm1;
  case Op::log_: return SOp::log;
  case Op::log1p_: return SOp::log1p;
  case Op::sqrt_: return SOp::sqrt;
  case Op::rsqrt_: return SOp::rsqrt;
  case Op::sin_: return SOp::sin;
  case Op::cos_: return SOp::cos;
  case Op::tan_: return SOp::tan;
  case Op::asin_: return SOp::asin;
  case Op::acos_: return SOp::acos;
  case Op::atan_: return SOp::atan;
  case Op::sinh_: return SOp::sinh;
  case Op::cosh_: return SOp::cosh;
  case Op::tanh_: return SOp::tanh;
  case Op::sigmoid_: return SOp::sigmoid;
  case Op::erf_: return SOp::erf;
  case Op::floor_: return SOp::floor;
  case Op::ceil_: return SOp::ceil;
  case Op::round_: return SOp::round;
  case Op::eq_: return SOp::eq;
  case Op::ne_: return SOp::ne;
  case Op::lt_: return SOp::lt;
  case Op::le_: return SOp::le;
  case Op::gt_: return SOp::gt;
  case Op::ge_: return SOp::ge;
  case Op::is_nan_: return SOp::isNan;
  case Op::not_: return SOp::lnot;
  case Op::and_: return SOp::land;
  case Op::or_: return SOp::lor;
  case Op::select_: return SOp::select;
  case Op::cast_: return SOp::convert;
  default: ir::internalError(__FILE__, __LINE__, "not a scalar operation");
  }
}

} // namespace

ExprId Reader::pointwise(const Node &n, const std::vector<Index> &at, const std::vector<Guard> &g) {
  std::vector<ExprId> args;
  for (ValueId x : n.operands) {
    args.push_back(read(x, at, g));
    if (args.back() < 0) return -1;
  }
  const DType type = f_.type(n.result()).dtype, t = ir::widened(type);
  if (n.op == Op::stop_gradient_) return args[0];
  auto done = [&](ExprId e) { return roundedExpr(k_, e, type); };
  if (ir::isFloat(t) && (n.op == Op::floordiv_ || n.op == Op::mod_)) {
    ExprId q = op(k_, SOp::floor, t, {op(k_, SOp::div, t, {args[0], args[1]})});
    if (n.op == Op::floordiv_) return done(q);
    return done(op(k_, SOp::sub, t, {args[0], op(k_, SOp::mul, t, {q, args[1]})}));
  }
  return done(op(k_, scalarOp(n.op), t, std::move(args)));
}

ExprId Reader::generator(const Node &n, const std::vector<Index> &at) {
  const DType type = f_.type(n.result()).dtype, t = ir::widened(type);
  if (auto *c = std::get_if<ir::ConstantAttr>(&n.attr)) {
    if (c->data.size() == 1) return roundedExpr(k_, constantExpr(k_, c->data[0], t), type);
    return load(n.result(), f_.type(n.result()).dims, at, {});
  }
  Expr e;
  e.type = t;
  if (auto *a = std::get_if<ir::IotaAttr>(&n.attr)) {
    e.op = SOp::index;
    e.index = at[a->dim];
  } else if (auto *s = std::get_if<ir::SizeAttr>(&n.attr)) {
    e.op = SOp::size;
    e.dim = s->size;
  } else {
    auto &r = std::get<ir::RandomAttr>(n.attr);
    e.op = SOp::random;
    e.args = siteWords(r.site);
    e.index = flatten(k_, f_.type(n.result()).dims, at, f_.batch);
  }
  return roundedExpr(k_, k_.expr(std::move(e)), type);
}

// A site is data: kernels that differ in nothing but their sites are one.
std::vector<ExprId> Reader::siteWords(const std::string &site) {
  std::vector<ExprId> words;
  for (int64_t word : {0, 1}) {
    Expr e;
    e.op = SOp::load;
    e.type = DType::u32;
    e.access.arg = fuser_ ? fuser_->argFor(*launch_, fuser_->siteBuffer(site), false) : -1;
    e.access.flat = constIndex(word);
    words.push_back(k_.expr(std::move(e)));
  }
  return words;
}

ExprId zeroOutside(Kernel &k, const std::vector<Guard> &guards, ExprId e) {
  const DType t = k.exprs[e].type;
  return op(k, SOp::select, t, {guardExpr(k, guards), e, constantExpr(k, 0, t)});
}

// The operand where all guards hold, `fill` elsewhere.
ExprId Reader::guarded(ValueId x, const std::vector<Index> &at, const std::vector<Guard> &g,
                       std::vector<Guard> extra, double fill, DType type) {
  std::vector<Guard> all = g;
  for (const Guard &e : extra) {
    bool known = false;
    for (const Guard &h : all) known |= h == e;
    if (!known) all.push_back(e);
  }
  ExprId inner = read(x, at, all);
  if (inner < 0 || extra.empty()) return inner;
  if (fill == 0 && isPlainLoad(k_, inner)) return inner;
  return op(k_, SOp::select, k_.exprs[inner].type,
            {guardExpr(k_, std::move(extra)), inner, constantExpr(k_, fill, ir::widened(type))});
}

ExprId Reader::reshape(const Node &n, const std::vector<Index> &at, const std::vector<Guard> &g) {
  ValueId x = n.operands[0];
  const Dims &from = f_.type(x).dims, &to = f_.type(n.result()).dims;
  // Memory is row-major, so a reshape of a buffer is the buffer.
  bool ours = fuser_ && groupId_ >= 0 && fuser_->groupOf[x.i] == groupId_;
  const Node *def = f_.def(x);
  bool dense =
      def && def->op == Op::constant_ && std::get<ir::ConstantAttr>(def->attr).data.size() > 1;
  bool direct = facts_.root[x.i] && !ours && facts_.layoutOf(x).isRowMajor();
  if (direct || dense) return load(x, to, at, g);
  if (def && def->op == Op::reshape_ && !facts_.root[x.i]) { // reshape of a reshape
    Node outer = n;
    outer.operands = def->operands;
    return reshape(outer, at, g);
  }
  Index flat = flatten(k_, to, at, f_.batch);
  std::vector<Index> inner(from.size());
  int64_t stride = 1;
  for (size_t i = from.size(); i-- > 0;) {
    int64_t size = from[i].at(std::max<int64_t>(f_.batch, 1));
    Index q = divIndex(k_, flat, stride);
    inner[i] = i == 0 ? q : modIndex(k_, q, size);
    stride *= size;
  }
  return read(x, inner, g);
}

ExprId Reader::concat(const Node &n, const std::vector<Index> &at, const std::vector<Guard> &g) {
  int64_t d = std::get<ir::AxisAttr>(n.attr).dim;
  Dim start = 0;
  ExprId result = -1;
  // Each piece is read under its own guards; the sum of exclusive choices is a chain of selects.
  for (ValueId x : n.operands) {
    Dim size = f_.type(x).dims[d];
    std::vector<Index> inner = at;
    inner[d] = at[d] + dimIndex(start) * -1;
    std::vector<Guard> here{Guard{inner[d], 0, size}}, all = g;
    all.push_back(here[0]);
    ExprId piece = read(x, inner, all);
    if (piece < 0) return -1;
    result = result < 0
                 ? piece
                 : op(k_, SOp::select, k_.exprs[piece].type, {guardExpr(k_, here), piece, result});
    start = start + size;
  }
  return result;
}

ExprId Reader::view(const Node &n, const std::vector<Index> &at, const std::vector<Guard> &g) {
  ValueId x = n.operands[0];
  const Dims &from = f_.type(x).dims;
  DType t = f_.type(x).dtype;
  std::vector<Index> in(from.size());
  std::vector<Guard> extra;
  switch (n.op) {
  case Op::broadcast_: {
    auto &a = std::get<ir::BroadcastAttr>(n.attr);
    for (size_t i = 0; i < in.size(); ++i) in[i] = at[a.dims[i]];
    return read(x, in, g);
  }
  case Op::reshape_: return reshape(n, at, g);
  case Op::concat_: return concat(n, at, g);
  case Op::transpose_: {
    auto &a = std::get<ir::PermAttr>(n.attr);
    for (size_t i = 0; i < at.size(); ++i) in[a.perm[i]] = at[i];
    return read(x, in, g);
  }
  case Op::slice_: {
    auto &a = std::get<ir::SliceAttr>(n.attr);
    for (size_t i = 0; i < in.size(); ++i)
      in[i] = at[i] * (a.stride.empty() ? 1 : a.stride[i]) + dimIndex(a.start[i]);
    return read(x, in, g);
  }
  case Op::reverse_: {
    in = at;
    for (int64_t d : std::get<ir::AxesAttr>(n.attr).dims)
      in[d] = dimIndex(from[d]) + constIndex(-1) + at[d] * -1;
    return read(x, in, g);
  }
  case Op::pad_: {
    auto &a = std::get<ir::PadAttr>(n.attr);
    for (size_t i = 0; i < in.size(); ++i) {
      in[i] = at[i] + dimIndex(a.low[i]) * -1;
      if (a.low[i] != Dim(0) || a.high[i] != Dim(0)) addGuard(k_, extra, in[i], from[i]);
    }
    return guarded(x, in, g, extra, a.value, t);
  }
  case Op::window_: {
    auto &a = std::get<ir::WindowAttr>(n.attr);
    size_t w = a.size.size(), d = size_t(a.dim);
    for (size_t i = 0; i < from.size(); ++i) in[i] = at[i < d ? i : i + w];
    for (size_t i = 0; i < w; ++i) {
      in[d + i] = at[d + i] * a.stride[i] + at[d + w + i] * a.dilation[i] + constIndex(-a.low[i]);
      addGuard(k_, extra, in[d + i], from[d + i]);
    }
    return guarded(x, in, g, extra, a.value, t);
  }
  case Op::unwindow_: { // non-overlapping: the window and the place in it follow from the index
    auto &a = std::get<ir::WindowAttr>(n.attr);
    size_t w = a.size.size(), d = size_t(a.dim);
    for (size_t i = 0; i < at.size(); ++i) in[i < d + w ? i : i + w] = at[i];
    for (size_t i = 0; i < w; ++i) {
      Index q = at[d + i] + constIndex(a.low[i]);
      in[d + i] = divIndex(k_, q, a.stride[i]);
      in[d + w + i] = modIndex(k_, q, a.stride[i]);
      addGuard(k_, extra, in[d + i], from[d + i]);
      addGuard(k_, extra, in[d + w + i], from[d + w + i]);
    }
    return guarded(x, in, g, extra, 0, t);
  }
  case Op::gather_: {
    auto &a = std::get<ir::GatherAttr>(n.attr);
    ValueId idx = n.operands[1];
    size_t r = f_.type(idx).dims.size();
    std::vector<Index> which(at.begin() + a.axis, at.begin() + a.axis + r);
    ExprId e = read(idx, which, g);
    if (e < 0) return -1;
    DType it = k_.exprs[e].type;
    if (it != DType::i32 && it != DType::i64) e = convertExpr(k_, e, DType::i32);
    Atom v;
    v.kind = Atom::Value;
    v.value = e;
    v.limit = from[a.axis];
    Index row;
    row.terms.push_back({k_.atom(v), 1});
    for (size_t i = 0; i < from.size(); ++i)
      in[i] = i < size_t(a.axis) ? at[i] : i == size_t(a.axis) ? row : at[i + r - 1];
    return read(x, in, g);
  }
  default:
    ir::internalError(__FILE__, __LINE__, std::string("no view: ") + ir::info(n.op).name);
  }
}

} // namespace nnc::cg
