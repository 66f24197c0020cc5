// A function as formulas: the view of --emit=math.
//
//   %0 = broadcast %bias {dims=[1]} : f32[n,16]       z[m,n] = sum over k: point[m,k] * kernel[k,n]
//   %z.1 = add %z, %0 : f32[n,16]               ->    h = tanh(z + bias)       [n,16]  circle.nn:2
//   %h = tanh %z.1 : f32[n,16]
//
// Problem. The text form names every intermediate result; a reader of a derivative wants the lines
// that a person would write. Method: a value gets a line if the user named it, if it is read more
// than once, or if it is no formula of its operands (reductions, contractions, gathers); everything
// else is written where it is read, with the parentheses that precedence needs. Broadcasts are left
// out, as in mathematics; contractions are written with their indices; the cotangent of x is
// written d(x). Constants and sizes are numbers. For reading only: the text form (print.cpp) is the
// one that is parsed.
#include "ir/text.h"
#include <charconv>
#include <set>

namespace nnc::ir {

namespace {

enum Precedence { kChoice, kCompare, kSum, kProduct, kNegate, kAtom };

struct Piece {
  std::string text;
  Precedence level = kAtom;
};

struct MathPrinter {
  const Module &m;
  const Function &f;
  std::vector<int> uses;
  std::vector<std::string> names;
  int temporaries = 0;

  MathPrinter(const Module &m, const Function &f)
      : m(m), f(f), uses(f.values.size()), names(f.values.size()) {
    for (const Node &n : f.nodes)
      for (ValueId v : n.operands) ++uses[size_t(v.i)];
    for (const Result &r : f.results) ++uses[size_t(r.value.i)];
    for (const Param &p : f.params) names[size_t(p.value.i)] = nameOf(p.value);
  }

  // x.d is d(x): the derivative of the loss with respect to x.
  std::string nameOf(ValueId v) {
    std::string s = f.values[size_t(v.i)].name;
    if (s.empty()) return "t" + std::to_string(++temporaries);
    int depth = 0;
    while (s.size() > 2 && s.ends_with(".d")) s.resize(s.size() - 2), ++depth;
    for (; depth > 0; --depth) s = "d(" + s + ")";
    return s;
  }

  static std::string number(double v) {
    char buf[40];
    auto r = std::to_chars(buf, buf + sizeof buf, v);
    return std::string(buf, r.ptr);
  }

  static std::string list(const Ints &xs) {
    std::string s;
    for (int64_t x : xs) s += (s.empty() ? "" : ", ") + std::to_string(x);
    return "[" + s + "]";
  }

  static bool isFormula(const Node &n) {
    if (isPointwise(n.op)) return true;
    switch (n.op) {
    case Op::select_:
    case Op::cast_:
    case Op::constant_:
    case Op::size_:
    case Op::broadcast_:
    case Op::reshape_:
    case Op::transpose_:
    case Op::iota_: return true;
    default: return false;
    }
  }

  // Worth no line of its own, however often it is read.
  bool isTrivial(const Node &n) const {
    if (n.op == Op::constant_) return std::get<ConstantAttr>(n.attr).data.size() == 1;
    if (n.op == Op::size_ || n.op == Op::iota_) return true;
    if (n.op == Op::broadcast_ || n.op == Op::cast_) {
      const Node *inner = f.def(n.operands[0]);
      return !inner || isTrivial(*inner) || !names[size_t(n.operands[0].i)].empty();
    }
    return false;
  }

  bool needsLine(const Node &n) const {
    if (isTrivial(n)) return false;
    return !isFormula(n) || n.resultCount > 1 || uses[size_t(n.firstResult.i)] > 1 ||
           !f.values[size_t(n.firstResult.i)].name.empty();
  }

  std::string at(ValueId v, Precedence least) {
    Piece p = read(v);
    return p.level < least ? "(" + p.text + ")" : p.text;
  }

  Piece read(ValueId v) {
    if (!names[size_t(v.i)].empty()) return {names[size_t(v.i)], kAtom};
    const Node *n = f.def(v);
    if (!n) return {nameOf(v), kAtom};
    return formula(*n);
  }

  Piece infix(const Node &n, const char *sign, Precedence level) {
    return {at(n.operands[0], level) + " " + sign + " " + at(n.operands[1], Precedence(level + 1)),
            level};
  }

  Piece call(const std::string &name, const Node &n, const std::string &rest = "") {
    std::string s = name + "(";
    for (size_t i = 0; i < n.operands.size(); ++i) s += (i ? ", " : "") + read(n.operands[i]).text;
    return {s + rest + ")", kAtom};
  }

  Piece formula(const Node &n) {
    switch (n.op) {
    case Op::add_: return infix(n, "+", kSum);
    case Op::sub_: return infix(n, "-", kSum);
    case Op::mul_: return infix(n, "*", kProduct);
    case Op::div_: return infix(n, "/", kProduct);
    case Op::eq_: return infix(n, "==", kCompare);
    case Op::ne_: return infix(n, "!=", kCompare);
    case Op::lt_: return infix(n, "<", kCompare);
    case Op::le_: return infix(n, "<=", kCompare);
    case Op::gt_: return infix(n, ">", kCompare);
    case Op::ge_: return infix(n, ">=", kCompare);
    case Op::neg_: return {"-" + at(n.operands[0], kNegate), kNegate};
    case Op::pow_: return {at(n.operands[0], kAtom) + " ** " + at(n.operands[1], kAtom), kNegate};
    case Op::broadcast_: return read(n.operands[0]);
    case Op::cast_:
      if (isFloat(f.type(n.operands[0]).dtype) && isFloat(f.type(n.result()).dtype))
        return read(n.operands[0]);
      return call(std::string(dtypeName(f.type(n.result()).dtype)), n);
    case Op::select_:
      return {"if " + read(n.operands[0]).text + " then " + at(n.operands[1], kCompare) + " else " +
                  at(n.operands[2], kChoice),
              kChoice};
    case Op::constant_: return constant(n);
    case Op::size_: {
      Dim d = std::get<SizeAttr>(n.attr).size;
      return {str(d), d == Dim::batch() || d.isConst() ? kAtom : kSum};
    }
    case Op::iota_: return {"index" + std::to_string(std::get<IotaAttr>(n.attr).dim), kAtom};
    case Op::reshape_: return call("reshape", n, ", " + str(f.type(n.result()).dims));
    case Op::transpose_: return call("transpose", n, ", " + list(std::get<PermAttr>(n.attr).perm));
    default: return isPointwise(n.op) ? call(info(n.op).name, n) : other(n);
    }
  }

  Piece constant(const Node &n) {
    const auto &c = std::get<ConstantAttr>(n.attr);
    if (c.data.size() == 1) return {number(c.data[0]), c.data[0] < 0 ? kNegate : kAtom};
    return {"constant " + str(f.type(n.result()).dims), kAtom};
  }

  Piece other(const Node &n) {
    switch (n.op) {
    case Op::contract_: return contraction(n);
    case Op::reduce_: {
      auto &a = std::get<ReduceAttr>(n.attr);
      static constexpr const char *kinds[] = {"sum", "prod", "max", "min"};
      return call(kinds[size_t(a.kind)], n, ", axis = " + list(a.dims));
    }
    case Op::max_index_:
      return call("max_index", n, ", axis = " + list(std::get<AxesAttr>(n.attr).dims));
    case Op::random_: return {"random(\"" + std::get<RandomAttr>(n.attr).site + "\")", kAtom};
    case Op::call_: return call(std::get<CallAttr>(n.attr).callee, n);
    case Op::scan_: return call("scan " + std::get<ScanAttr>(n.attr).body, n);
    default: return call(info(n.op).name, n);
    }
  }

  static std::string form(const LabelForm &l, const ContractAttr &a) {
    std::string s;
    for (const LabelTerm &t : l.terms) {
      int64_t c = t.coef < 0 ? -t.coef : t.coef;
      s += t.coef < 0 ? "-" : s.empty() ? "" : "+";
      if (c != 1) s += std::to_string(c);
      s += a.labels[size_t(t.label)];
    }
    if (l.offset != 0 || s.empty())
      s += (l.offset >= 0 && !s.empty() ? "+" : "") + std::to_string(l.offset);
    return s;
  }

  static std::string indices(const ContractAttr &a, int tensor) {
    std::string s;
    for (const LabelForm &l : a.forms[size_t(tensor)]) s += (s.empty() ? "" : ",") + form(l, a);
    return s.empty() ? "" : "[" + s + "]";
  }

  Piece contraction(const Node &n) {
    const auto &a = std::get<ContractAttr>(n.attr);
    std::set<int> inY;
    for (const LabelForm &l : a.forms[2])
      for (const LabelTerm &t : l.terms) inY.insert(t.label);
    std::string over;
    for (size_t l = 0; l < a.labels.size(); ++l)
      if (!inY.count(int(l))) over += (over.empty() ? "" : ",") + a.labels[l];
    std::string s = over.empty() ? "" : "sum over " + over + ": ";
    s +=
        at(n.operands[0], kAtom) + indices(a, 0) + " * " + at(n.operands[1], kAtom) + indices(a, 1);
    return {s, kChoice};
  }

  // The innermost place in the model's own file, and the library's line if the node comes from
  // there.
  std::string where(Loc loc) const {
    if (loc.i == 0) return "";
    const Meta *source = m.meta.find("source");
    Loc user{};
    for (Loc l = loc; l.i != 0 && user.i == 0; l = m.locs[size_t(l.i)].parent) {
      const LocInfo &at = m.locs[size_t(l.i)];
      bool own = source && source->asString() ? at.file == *source->asString() : at.parent.i == 0;
      if (own || at.parent.i == 0) user = l;
    }
    const LocInfo &l = m.locs[size_t(user.i)], &inner = m.locs[size_t(loc.i)];
    std::string s = l.file + ":" + std::to_string(l.line);
    return user == loc ? s : s + " (" + inner.file + ":" + std::to_string(inner.line) + ")";
  }

  std::string line(const Node &n) {
    Piece right = isFormula(n) ? formula(n) : other(n);
    std::string left;
    for (int k = 0; k < n.resultCount; ++k) {
      names[size_t(n.result(k).i)] = nameOf(n.result(k));
      left += (k ? ", " : "") + names[size_t(n.result(k).i)];
    }
    if (n.op == Op::contract_) left += indices(std::get<ContractAttr>(n.attr), 2);
    std::string s = "  " + left + " = " + right.text;
    s.append(s.size() < 70 ? 70 - s.size() : 2, ' ');
    return s + str(f.type(n.result()).dims) + "  " + where(n.loc) + "\n";
  }

  std::string print() {
    std::string s = f.name + "(";
    for (const Param &p : f.params)
      s += (&p == &f.params[0] ? "" : ", ") + names[size_t(p.value.i)] + " " +
           str(f.type(p.value).dims);
    s += ")\n";
    for (const Node &n : f.nodes)
      if (needsLine(n)) s += line(n);
    for (const Result &r : f.results)
      s += "  " + r.name + (r.bind ? " <- " : " := ") + read(r.value).text + "\n";
    return s;
  }
};

} // namespace

std::string printMath(const Module &m) {
  std::string s;
  for (const auto &f : m.functions) s += (s.empty() ? "" : "\n") + MathPrinter(m, *f).print();
  return s;
}

} // namespace nnc::ir
