// The text of a kernel: for people (--emit=kernels) and as the identity of its code.
//
//   kernel Contract "dense.z"  items 2 x 7 (r by 16, o by 48)  outer 16 x 3
//     arg0 f32[n,784] read          arg1 f32[784,300] read         arg2 f32[n,300] written
//     acc[r, o] = sum k: e0 * e1
//       e0 = load arg0[784*r + k] : f32
//     store arg2[300*r + o] = e7
//
// Canonical text numbers axes (x0, x1, ..) and leaves names and places out; everything that
// determines the machine code is in it, and nothing else, so equal text means equal code.
#include "codegen/kernel.h"
#include "codegen/pack.h"
#include <charconv>
#include <sstream>

namespace nnc::cg {

std::string_view sopName(SOp op) {
  static constexpr std::string_view names[] = {
      "constant", "load", "acc", "local", "index", "size", "guard", "random", "neg", "abs",
      "sign", "sqrt", "floor", "ceil", "round", "exp", "expm1", "log", "log1p", "rsqrt", "sin",
      "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "sigmoid", "erf", "add",
      "sub", "mul", "div", "idiv", "imod", "pow", "atan2", "max", "min", "fma", "eq", "ne", "lt",
      "le", "gt", "ge", "isNan", "select", "land", "lor", "lnot", "convert", "bitcast", "shl",
      "shr", "iand", "ior", "ixor"};
  static_assert(std::size(names) == size_t(SOp::ixor) + 1);
  return names[size_t(op)];
}

namespace {

std::string_view className(KernelClass c) {
  switch (c) {
  case KernelClass::Loops: return "Loops";
  case KernelClass::Contract: return "Contract";
  case KernelClass::ScatterAdd: return "ScatterAdd";
  case KernelClass::Sort: return "Sort";
  case KernelClass::Chain: return "Chain";
  }
  return "?";
}

std::string_view combineName(Combine c) {
  switch (c) {
  case Combine::none: return "none";
  case Combine::sum: return "sum";
  case Combine::prod: return "prod";
  case Combine::max: return "max";
  case Combine::min: return "min";
  case Combine::argmax: return "argmax";
  case Combine::cumsum: return "cumsum";
  }
  return "?";
}

struct Printer {
  const Kernel &k;
  bool pretty;
  std::ostringstream o;

  std::string axis(AxisId a) const {
    return pretty && !k.axes[a].name.empty() ? k.axes[a].name : "x" + std::to_string(a);
  }
  std::string axes(const std::vector<AxisId> &list) const {
    std::string s;
    for (AxisId a : list) s += (s.empty() ? "" : ", ") + axis(a);
    return s;
  }

  std::string atom(AtomId id) const {
    const Atom &a = k.atoms[id];
    switch (a.kind) {
    case Atom::Axis: return axis(a.axis);
    case Atom::Div: return "(" + index(a.inner) + ")/" + std::to_string(a.by);
    case Atom::Mod: return "(" + index(a.inner) + ")%" + std::to_string(a.by);
    case Atom::Value: return "[e" + std::to_string(a.value) + " < " + ir::str(a.limit) + "]";
    }
    return "?";
  }

  std::string index(const Index &x) const {
    std::string s;
    auto add = [&](int64_t coef, const std::string &what) {
      if (coef == 0) return;
      if (!s.empty()) s += coef < 0 ? " - " : " + ";
      else if (coef < 0) s += "-";
      int64_t c = coef < 0 ? -coef : coef;
      if (what.empty()) s += std::to_string(c);
      else s += (c == 1 ? "" : std::to_string(c) + "*") + what;
    };
    for (const Term &t : x.terms) add(t.coef, atom(t.atom));
    add(x.cn, "n");
    add(x.c0, "");
    return s.empty() ? "0" : s;
  }

  std::string guards(const std::vector<Guard> &gs) const {
    std::string s;
    for (const Guard &g : gs)
      s += (s.empty() ? "" : ", ") + std::to_string(g.lo) + " <= " + index(g.index) + " < " +
           ir::str(g.hi);
    return s;
  }

  std::string access(const Access &a) const {
    std::string s = "arg" + std::to_string(a.arg) + "[" + index(a.flat) + "]";
    if (!a.guards.empty()) s += " if " + guards(a.guards);
    return s;
  }

  static std::string number(double v) {
    char buf[40];
    auto r = std::to_chars(buf, buf + sizeof buf, v);
    return std::string(buf, r.ptr);
  }

  std::string expr(const Expr &e) const {
    std::string s(sopName(e.op));
    switch (e.op) {
    case SOp::constant: s += " " + number(e.value); break;
    case SOp::load: s += " " + access(e.access); break;
    case SOp::acc:
      if (k.cls == KernelClass::Chain) s = "tile s" + std::to_string(e.stage);
      break;
    case SOp::local: s += " s" + std::to_string(e.stage) + "." + std::to_string(e.slot); break;
    case SOp::index: s += " " + index(e.index); break;
    case SOp::size: s += " " + ir::str(e.dim); break;
    case SOp::guard: s += " " + guards(e.guards); break;
    case SOp::random: s += " at " + index(e.index) + ", site"; break;
    default: break;
    }
    for (size_t i = 0; i < e.args.size(); ++i)
      s += (i ? ", e" : " e") + std::to_string(e.args[i]);
    return s + " : " + std::string(ir::dtypeName(e.type));
  }

  static const char *familyName(Family f) {
    switch (f) {
    case Family::Outer: return "outer";
    case Family::Dot: return "dot";
    case Family::Amx: return "amx";
    }
    return "";
  }

  std::string packing() const {
    static constexpr const char *how[] = {"", " by tile", " by block"};
    const Schedule &s = k.schedule;
    std::string text;
    if (s.packA != Pack::none) text += std::string(", row operand packed") + how[int(s.packA)];
    if (s.packB != Pack::none) text += std::string(", column operand packed") + how[int(s.packB)];
    if (s.rowBlock) text += ", rows by " + std::to_string(s.rowBlock);
    if (s.kAxis >= 0) text += ", sums over " + axis(s.kAxis) + " by " + std::to_string(s.kBlock);
    return text;
  }

  void header() {
    o << "kernel " << className(k.cls);
    if (pretty) o << " \"" << k.name << "\"";
    o << "\n  items";
    for (const ItemAxis &a : k.schedule.items)
      o << " " << axis(a.axis) << " by " << a.block << (&a == &k.schedule.items.back() ? "" : ",");
    const Schedule &s = k.schedule;
    if (k.cls == KernelClass::Contract)
      o << "; " << familyName(s.family) << " " << s.mr << " x " << s.nv
        << " vectors, rows " << (s.row < 0 ? "-" : axis(s.row)) << ", columns "
        << (s.col < 0 ? "-" : axis(s.col)) << packing();
    else if (k.cls == KernelClass::Chain)
      o << "; blocks of " << s.nv << " vectors of " << axis(k.chain.row) << " by all "
        << axis(k.chain.col) << ", " << s.mr << " at a time"
        << (s.family == Family::Amx ? " on tile registers" : "");
    else if (s.vec >= 0) o << "; vector axis " << axis(s.vec);
    o << "; lanes " << s.lanes;
    if (s.scratchBytes) o << "; scratch " << s.scratchBytes;
    o << "\n";
    if (!pretty) o << "  batch " << k.batch << "\n";
    for (size_t i = 0; i < k.args.size(); ++i) {
      const KernelArg &a = k.args[i];
      o << "  arg" << i << " " << ir::str(ir::Type{a.dtype, a.dims}) << (a.read ? " read" : "")
        << (a.written ? " written" : "") << "\n";
    }
    o << "  axes";
    for (AxisId a = 0; a < AxisId(k.axes.size()); ++a) {
      const Axis &x = k.axes[a];
      o << (a ? ", " : " ") << axis(a) << " < " << ir::str(x.extent);
      if (x.bounded)
        o << " while " << index(x.base) << " + " << axis(a) << " < " << ir::str(x.limit);
    }
    o << "\n";
  }

  // tile[row, col] = sum over e: e0 * e1
  void chainStage(size_t i) {
    const Stage &s = k.stages[i];
    const ChainStep &c = k.chain.steps[i];
    o << "  s" << i;
    if (pretty && !s.name.empty()) o << " \"" << s.name << "\"";
    const std::string row = axis(k.chain.row), col = axis(k.chain.col);
    switch (c.kind) {
    case StepKind::Product:
    case StepKind::Tile: o << " tile " << c.slot << "[" << row << ", " << col << "]"; break;
    case StepKind::Row: o << "[" << row << "]"; break;
    case StepKind::RowSum: o << "[" << row << ", " << axes(s.loop) << "]"; break;
    case StepKind::ColSum: o << "[" << col << ", " << axes(s.loop) << "]"; break;
    }
    o << " = ";
    if (s.combine != Combine::none) o << combineName(s.combine) << " " << axes(s.reduce);
    if (s.combine != Combine::none && s.order.lanes > 1) o << " lanes " << s.order.lanes;
    o << (s.combine != Combine::none ? ": e" : "e") << s.body;
    if (c.b >= 0) o << " * e" << c.b;
    if (c.sumsAt >= 0) o << ", stored at the end";
    if (c.seenOnly) o << ", seen columns";
    o << " : " << ir::dtypeName(s.type) << "\n";
    for (const Store &t : s.stores) o << "    store " << access(t.access) << "\n";
  }

  void stage(size_t i) {
    if (k.cls == KernelClass::Chain) return chainStage(i);
    const Stage &s = k.stages[i];
    o << "  s" << i;
    if (pretty && !s.name.empty()) o << " \"" << s.name << "\"";
    if (!s.loop.empty()) o << " for " << axes(s.loop);
    o << " = ";
    if (s.combine != Combine::none) {
      o << combineName(s.combine) << " " << axes(s.reduce);
      if (s.chunk) o << ", " << axis(s.reduce[0]) << " by " << s.chunk;
      o << (s.exclusive ? " exclusive" : "") << " lanes " << s.order.lanes << ": ";
    }
    o << "e" << s.body << " : " << ir::dtypeName(s.type) << "\n";
    for (const Store &t : s.stores)
      o << "    store " << access(t.access) << (t.slot ? " slot 1" : "") << "\n";
  }

  void body() {
    if (!k.parallel.empty()) o << "  for all " << axes(k.parallel) << "\n";
    for (size_t i = 0; i < k.exprs.size(); ++i)
      o << "  e" << i << " = " << expr(k.exprs[i]) << "\n";
    if (k.cls == KernelClass::Contract) {
      const ContractInfo &c = k.contract;
      o << "  acc[" << axes(c.batch) << "; " << axes(c.m) << "; " << axes(c.n) << "] = sum "
        << axes(c.k) << ": e" << c.a << " * e" << c.b << " : " << ir::dtypeName(c.type) << "\n";
    }
    if (k.cls == KernelClass::ScatterAdd) {
      const ScatterInfo &c = k.scatter;
      o << "  " << (c.arg < 0 ? "acc" : "arg" + std::to_string(c.arg)) << "[" << axes(c.outer)
        << "; e" << c.index << " < " << ir::str(c.rows) << "; " << axes(c.inner) << "] += e"
        << c.update << " for " << axes(c.tokens) << " : " << ir::dtypeName(c.type);
      if (c.row >= 0) o << ", then for " << (c.touched ? "touched " : "all ") << axis(c.row);
      o << "\n";
    }
    if (k.cls == KernelClass::Chain) {
      o << "  chain";
      if (!k.chain.outer.empty()) o << " for " << axes(k.chain.outer);
      o << ": " << axis(k.chain.row) << " by " << axis(k.chain.col) << " : "
        << ir::dtypeName(k.chain.type) << "\n";
      const HiddenColumns &h = k.chain.hidden;
      if (h.any) {
        o << "  " << axis(k.chain.col) << " up to " << axis(k.chain.row) << " + " << h.reach
          << " from s" << h.from << " if 0";
        for (ExprId e : h.zeros) o << (e == h.zeros[0] ? ": e" : ", e") << e;
        o << "\n";
      }
    }
    if (k.cls == KernelClass::Sort) {
      const SortInfo &c = k.sort;
      o << "  sort " << axis(c.axis) << (c.descending ? " descending" : "") << ": e" << c.value
        << " : " << ir::dtypeName(c.type) << "\n";
      if (c.values.arg >= 0) o << "    values " << access(c.values) << "\n";
      if (c.indices.arg >= 0) o << "    indices " << access(c.indices) << "\n";
    }
    for (size_t i = 0; i < k.stages.size(); ++i) stage(i);
  }
};

} // namespace

std::string print(const Kernel &k, bool pretty) {
  Printer p{k, pretty, {}};
  p.header();
  p.body();
  return p.o.str();
}

// --- verifier ------------------------------------------------------------------------------------
// In order: expressions refer backwards and are typed; accesses name arguments; stages read locals
// of earlier stages without loops; reductions have axes; the schedule's items are parallel axes.

namespace {

std::string bad(const std::string &what) { return "kernel: " + what; }

std::string verifyExpr(const Kernel &k, size_t i) {
  const Expr &e = k.exprs[i];
  std::string at = "e" + std::to_string(i) + ": ";
  for (ExprId a : e.args)
    if (a < 0 || size_t(a) >= i) return bad(at + "operand does not come first");
  if (ir::widened(e.type) != e.type && e.op != SOp::convert)
    return bad(at + "arithmetic in a storage type");
  if (e.op == SOp::load && (e.access.arg < 0 || size_t(e.access.arg) >= k.args.size()))
    return bad(at + "load of an argument that is not there");
  if (e.op == SOp::local) {
    if (e.stage < 0 || size_t(e.stage) >= k.stages.size()) return bad(at + "no such stage");
    if (!k.stages[e.stage].loop.empty()) return bad(at + "local of a stage with loops");
  }
  if (e.op == SOp::random && (e.args.size() != 2 || k.exprs[e.args[0]].type != DType::u32 ||
                              k.exprs[e.args[1]].type != DType::u32))
    return bad(at + "a draw needs the two words of its site");
  if (e.op == SOp::acc && k.cls == KernelClass::Chain) {
    if (e.stage < 0 || size_t(e.stage) >= k.stages.size()) return bad(at + "no such stage");
    const StepKind made = k.chain.steps[e.stage].kind;
    if (made != StepKind::Product && made != StepKind::Tile)
      return bad(at + "the stage makes no tile");
  } else if (e.op == SOp::acc && k.cls != KernelClass::Contract &&
             k.cls != KernelClass::ScatterAdd) {
    return bad(at + "acc in a kernel that accumulates nothing");
  }
  if (e.op >= SOp::add && e.op <= SOp::min && k.exprs[e.args[0]].type != e.type)
    return bad(at + "operand type differs from the result's");
  return "";
}

// What a step's factors may not depend on, and what it must have.
std::string verifyStep(const Kernel &k, size_t i) {
  const Stage &s = k.stages[i];
  const ChainStep &c = k.chain.steps[i];
  const AxisId row = k.chain.row, col = k.chain.col;
  std::string at = "s" + std::to_string(i) + ": ";
  const bool product =
      c.kind == StepKind::Product || c.kind == StepKind::RowSum || c.kind == StepKind::ColSum;
  if ((c.b >= 0) != product || c.b >= ExprId(k.exprs.size())) return bad(at + "second factor");
  if (product && (s.combine != Combine::sum || s.reduce.empty()))
    return bad(at + "a product is a sum");
  if (product && s.type != k.chain.type) return bad(at + "a sum of another type than the chain's");
  switch (c.kind) {
  case StepKind::Product:
    if (dependsOn(k, s.body, col) || dependsOn(k, c.b, row))
      return bad(at + "factors of rows and columns");
    break;
  case StepKind::Tile:
    if (s.loop != std::vector<AxisId>{col}) return bad(at + "a tile has all columns");
    break;
  case StepKind::Row:
    if (!s.loop.empty() || (!s.reduce.empty() && s.reduce != std::vector<AxisId>{col}))
      return bad(at + "a row's value");
    break;
  case StepKind::RowSum:
  case StepKind::ColSum: {
    const bool rows = c.kind == StepKind::RowSum;
    if (k.exprs[s.body].op != SOp::acc && k.exprs[s.body].op != SOp::convert)
      return bad(at + "sum of a tile");
    if (s.reduce.back() != (rows ? col : row) || s.loop.empty()) return bad(at + "axes of a sum");
    if (dependsOn(k, c.b, rows ? row : col)) return bad(at + "factors of rows and columns");
    for (const Store &t : s.stores)
      if (dependsOn(k, t.access.flat, s.reduce.back()))
        return bad(at + "a sum stored along what it adds up");
    break;
  }
  }
  return "";
}

// A sum beside a contraction.
std::string verifySum(const Kernel &k, const Stage &s) {
  const Stage &first = *sumsBeside(k);
  if (k.cls != KernelClass::Contract) return "chunks of a sum that is beside no contraction";
  if (s.combine != Combine::sum || s.reduce != first.reduce || s.chunk != first.chunk ||
      s.chunk < 1)
    return "sums beside a contraction have the same axes and chunks";
  if (s.stores.size() != 1 || !s.stores[0].access.guards.empty() || s.order.lanes != 1)
    return "a sum beside a contraction has one place";
  for (AxisId a : s.reduce) {
    const int64_t extent = k.axes[a].extent.at(std::max<int64_t>(k.batch, 1));
    if (extent == 1 || (a == s.reduce[0] && s.chunk < extent)) continue;
    if (dependsOn(k, s.stores[0].access.flat, a)) return "a sum stored along what it adds up";
  }
  for (const ItemAxis &item : k.schedule.items) {
    const int64_t unit = itemUnit(k, item.axis);
    if (unit == 0 ? item.block < k.axes[item.axis].extent.at(std::max<int64_t>(k.batch, 1))
                  : item.block % unit != 0)
      return "items cut a sum beside a contraction";
  }
  return "";
}

std::string verifyStage(const Kernel &k, size_t i) {
  const Stage &s = k.stages[i];
  std::string at = "s" + std::to_string(i) + ": ";
  if (k.cls == KernelClass::Chain)
    if (auto e = verifyStep(k, i); !e.empty()) return e;
  if (s.body < 0 || size_t(s.body) >= k.exprs.size()) return bad(at + "no body");
  if (ir::widened(s.type) != s.type) return bad(at + "a value of a storage type");
  if ((s.combine == Combine::none) != s.reduce.empty()) return bad(at + "reduction without axes");
  if (s.combine == Combine::cumsum && s.reduce.size() != 1)
    return bad(at + "running sum needs one axis");
  if ((k.cls == KernelClass::Contract || k.cls == KernelClass::ScatterAdd) &&
      (!s.loop.empty() || (!s.reduce.empty() && s.chunk == 0)))
    return bad(at + "epilogue with loops");
  if (s.chunk != 0)
    if (auto e = verifySum(k, s); !e.empty()) return bad(at + e);
  for (const Store &t : s.stores)
    if (t.access.arg < 0 || size_t(t.access.arg) >= k.args.size() || !k.args[t.access.arg].written)
      return bad(at + "store to an argument that is not written");
  return "";
}

} // namespace

std::string verify(const Kernel &k) {
  if (k.cls == KernelClass::Chain && k.chain.steps.size() != k.stages.size())
    return bad("steps and stages");
  for (size_t i = 0; i < k.exprs.size(); ++i)
    if (auto e = verifyExpr(k, i); !e.empty()) return e;
  for (size_t i = 0; i < k.stages.size(); ++i)
    if (auto e = verifyStage(k, i); !e.empty()) return e;
  for (const ItemAxis &a : k.schedule.items)
    if (a.axis < 0 || size_t(a.axis) >= k.axes.size() || a.block < 1) return bad("bad item axis");
  if (k.cls == KernelClass::Contract && k.schedule.scratchBytes < contractScratch(k))
    return bad("scratch of " + std::to_string(k.schedule.scratchBytes) + " bytes where " +
               std::to_string(contractScratch(k)) + " are needed");
  return "";
}

} // namespace nnc::cg
