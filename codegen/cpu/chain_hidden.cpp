// Columns that a mask hides from a block of rows.
//
// Problem. Under a causal mask half of the scores count for nothing: where(k <= q, s, -1e9) gives
// weights of exp(-1e9 - max), which is 0. A block of rows 32..63 needs the columns 0..63 only.
//
//   z = select(le(col, row), s/8, -1e9)     hidden: -1e9            s is not read there at all
//   e = exp(z - max)                        hidden: exp(-1e9 - max)      one value per row
//   p = e / sum                             hidden: 0 / sum = 0 if e is
//   y = sum col: p * v                      hidden: adds 0
//
// Method. Every body is rewritten for a hidden column: comparisons of col with row are false, tiles
// are replaced by their makers' rewritten bodies, and constants fold. What is 0 then, or the
// exponential of something that is the same in all hidden columns, adds nothing. Whether those
// exponentials are 0 is asked at run time, once per block of rows, where their operands are known
// (row maxima); a row whose scores are all below the mask's constant, say, takes the long way. Any
// other value in a hidden column, and nothing is passed over.
#include "codegen/cpu/schedule.h"
#include <map>
#include <optional>

namespace nnc::cg {

namespace {

struct Hider {
  Kernel &k;
  std::map<ExprId, ExprId> memo;
  std::vector<ExprId> tiles; // by stage: what the tile holds in a hidden column; -1: unknown
  std::vector<char> touched; // by stage: tiles of products that a hidden column's value needs
  std::optional<int64_t> reach;

  bool isZero(ExprId e) const {
    return k.exprs[size_t(e)].op == SOp::constant && k.exprs[size_t(e)].value == 0;
  }
  ExprId constant(double v, DType t) {
    Expr e;
    e.type = t;
    e.value = v;
    return k.expr(std::move(e));
  }

  // The integer index that an expression is, if it is one.
  const Index *indexOf(ExprId id) const {
    const Expr &e = k.exprs[size_t(id)];
    return e.op == SOp::index && !ir::isFloat(e.type) ? &e.index : nullptr;
  }

  // x <= y as col <= row + reach. Strict: x < y.
  std::optional<int64_t> reachOf(const Index &x, const Index &y, bool strict) const {
    const Index d = x + y * -1; // col - row + c <= 0
    int64_t col = 0, row = 0;
    for (const Term &t : d.terms) {
      const Atom &a = k.atoms[size_t(t.atom)];
      if (a.kind != Atom::Axis) return {};
      if (a.axis == k.chain.col)
        col = t.coef;
      else if (a.axis == k.chain.row)
        row = t.coef;
      else
        return {};
    }
    if (d.cn != 0 || col != 1 || row != -1) return {};
    return -d.c0 - (strict ? 1 : 0);
  }
  std::optional<int64_t> reachOf(const Expr &e) const {
    if (e.op != SOp::le && e.op != SOp::lt && e.op != SOp::ge && e.op != SOp::gt) return {};
    const Index *x = indexOf(e.args[0]), *y = indexOf(e.args[1]);
    if (!x || !y) return {};
    const bool strict = e.op == SOp::lt || e.op == SOp::gt;
    return e.op == SOp::le || e.op == SOp::lt ? reachOf(*x, *y, strict) : reachOf(*y, *x, strict);
  }

  void findReach() {
    for (const Expr &e : k.exprs)
      if (auto r = reachOf(e)) reach = std::max(reach.value_or(*r), *r);
  }

  ExprId of(ExprId id) {
    if (auto it = memo.find(id); it != memo.end()) return it->second;
    const ExprId r = rewrite(id);
    memo[id] = r;
    return r;
  }

  ExprId rewrite(ExprId id) {
    Expr e = k.exprs[size_t(id)];
    if (reachOf(e)) return constant(0, DType::boolean);
    if (e.op == SOp::acc) {
      if (tiles[size_t(e.stage)] >= 0) return tiles[size_t(e.stage)];
      touched[size_t(e.stage)] = 1;
      return id;
    }
    if (e.op == SOp::select) { // the side that is not chosen is not looked at
      const ExprId c = of(e.args[0]);
      if (k.exprs[size_t(c)].op == SOp::constant)
        return of(e.args[k.exprs[size_t(c)].value != 0 ? 1 : 2]);
      e.args[0] = c, e.args[1] = of(e.args[1]), e.args[2] = of(e.args[2]);
      return k.expr(std::move(e));
    }
    for (ExprId &x : e.args) x = of(x);
    return fold(std::move(e));
  }

  // What stands for a value that is rounded is of the type of arithmetic: 0 is the same in both.
  static DType valueType(DType t) {
    return t == DType::bf16 || t == DType::f16 ? DType::f32 : t;
  }

  ExprId fold(Expr e) {
    const auto zero = [&](size_t i) { return isZero(e.args[i]); };
    switch (e.op) {
    case SOp::land:
    case SOp::mul:
      if (zero(0) || zero(1)) return constant(0, e.type);
      break;
    case SOp::lor:
      if (zero(0)) return e.args[1];
      if (zero(1)) return e.args[0];
      break;
    case SOp::div:
    case SOp::neg:
    case SOp::convert:
      if (zero(0)) return constant(0, valueType(e.type));
      break;
    case SOp::add:
    case SOp::sub:
      if (zero(0) && zero(1)) return constant(0, e.type);
      break;
    case SOp::lnot:
      if (k.exprs[size_t(e.args[0])].op == SOp::constant) return constant(zero(0) ? 1 : 0, e.type);
      break;
    case SOp::gt:
    case SOp::lt:
    case SOp::ne:
      if (e.args[0] == e.args[1] && k.exprs[size_t(e.args[0])].op == SOp::constant)
        return constant(0, e.type);
      break;
    default: break;
    }
    return k.expr(std::move(e));
  }

  // One value for all hidden columns of a row.
  bool perRow(ExprId e) const {
    std::set<ExprId> used;
    collect(k, e, used);
    for (ExprId x : used)
      if (k.exprs[size_t(x)].op == SOp::acc) return false;
    return !dependsOn(k, e, k.chain.col);
  }

  // The step behind the last one whose value the expression reads.
  int behind(ExprId e) const {
    std::set<ExprId> used;
    collect(k, e, used);
    int at = 0;
    for (ExprId x : used)
      if (k.exprs[size_t(x)].op == SOp::local) at = std::max(at, k.exprs[size_t(x)].stage + 1);
    return at;
  }

  void run() {
    ChainInfo &c = k.chain;
    HiddenColumns h;
    findReach();
    if (!reach) return;
    h.reach = *reach;
    tiles.assign(k.stages.size(), -1);
    touched.assign(k.stages.size(), 0);
    bool all = true;
    std::vector<char> adds(k.stages.size(), 0); // steps that are not nothing in hidden columns
    for (size_t i = 0; i < k.stages.size(); ++i) {
      const Stage &s = k.stages[i];
      if (c.steps[i].kind == StepKind::Product) continue;
      if (c.steps[i].kind == StepKind::Row && s.reduce.empty()) continue;
      const ExprId e = of(s.body);
      const bool zero = isZero(e);
      if (c.steps[i].kind == StepKind::Tile) {
        const bool exponential = k.exprs[size_t(e)].op == SOp::exp && perRow(e);
        if (exponential) {
          h.zeros.push_back(e);
          h.from = std::max(h.from, behind(e));
        }
        tiles[i] = zero || exponential ? constant(0, s.type) : perRow(e) ? e : -1;
      } else {
        adds[i] = !zero || (s.combine != Combine::sum);
      }
    }
    for (size_t i = size_t(h.from); i < k.stages.size(); ++i) all = all && !adds[i];
    for (size_t i = 0; i < k.stages.size(); ++i)
      c.steps[i].seenOnly = c.steps[i].kind == StepKind::Product && !touched[i];
    h.any = true;
    if (!all || h.zeros.empty()) h.from = int32_t(k.stages.size()), h.zeros.clear();
    // Nothing to leave out: as if there were no mask.
    bool useful = h.from < int32_t(k.stages.size());
    for (const ChainStep &s : c.steps) useful = useful || s.seenOnly;
    if (useful)
      c.hidden = std::move(h);
    else
      for (ChainStep &s : c.steps) s.seenOnly = false;
  }
};

} // namespace

void findHidden(Kernel &k) {
  k.chain.hidden = {};
  for (ChainStep &s : k.chain.steps) s.seenOnly = false;
  Hider{k, {}, {}, {}, {}}.run();
}

} // namespace nnc::cg
