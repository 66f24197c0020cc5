// The printer of the IR text. The grammar is in text.h; parse.cpp is its inverse.
//
// Problem. The text is the whole module: what it loses, a compilation through a file loses.
//   %y = contract %x, %w {x "b, i", w "i, o", y "b, o"} : f32[n,10] @2
//
// Method. Attributes print through the field lists of attrs.h, one overload per field type. The
// result type stands after the colon, so fields of type Type print nothing. Values without a name
// print as numbers counted in order of definition: printing what was parsed gives the same text.
#include "ir/forms.h"
#include "ir/text.h"

namespace nnc::ir {

namespace {

const char *kindName(ReduceKind k) {
  switch (k) {
  case ReduceKind::sum: return "sum";
  case ReduceKind::prod: return "prod";
  case ReduceKind::max: return "max";
  case ReduceKind::min: return "min";
  }
  return "?";
}

// --- fields ------------------------------------------------------------------------------------

std::string field(int64_t v) { return std::to_string(v); }
std::string field(double v) { return shortest(v); }
std::string field(bool v) { return v ? "true" : "false"; }
std::string field(const std::string &v) { return quoted(v); }
std::string field(ReduceKind v) { return kindName(v); }
std::string field(Dim v) { return str(v); }
std::string field(const Dims &v) { return str(v); }
std::string field(const Ints &v) { return str(Dims(v.begin(), v.end())); }
std::string field(const std::vector<double> &v) {
  if (v.size() == 1) return shortest(v[0]);
  std::string s = "[";
  for (size_t i = 0; i < v.size(); ++i) s += (i ? "," : "") + shortest(v[i]);
  return s + "]";
}

// The items between the braces of a node's attributes.
struct AttrPrinter {
  std::string items;

  void item(const std::string &text) { items += (items.empty() ? "" : ", ") + text; }
  void operator()(const char *, const Type &) {}
  void operator()(const char *, const ContractAttr &a) {
    static const char *names[] = {"x", "w", "y"};
    for (int k = 0; k < 3; ++k)
      item(std::string(names[k]) + " " + quoted(str(a.forms[k], a.labels)));
    std::vector<bool> alone = standAlone(a);
    for (int32_t l : mentioned(a))
      if (!alone[l]) item(a.labels[l] + "=" + str(a.extents[l]));
  }
  template <class T> void operator()(const char *name, const T &v) {
    item(std::string(name) + "=" + field(v));
  }
};

std::string attrText(const Node &n) {
  AttrPrinter p;
  // fields() is written once, for reading and writing; nothing here writes.
  std::visit([&](const auto &a) { const_cast<std::decay_t<decltype(a)> &>(a).fields(p); }, n.attr);
  if (n.remat) p.item("remat");
  return p.items.empty() ? "" : " {" + p.items + "}";
}

// --- functions ---------------------------------------------------------------------------------

struct FunctionPrinter {
  const Module &m;
  const Function &f;
  PrintOptions o;
  std::string &out;
  std::vector<int32_t> number; // of values without a name
  int32_t numbers = 0;

  void define(ValueId v) {
    if (size_t(v.i) < f.values.size() && f.values[v.i].name.empty()) number[v.i] = numbers++;
  }
  // Also for functions that the verifier would reject: this is how they are looked at.
  void value(ValueId v) {
    out += '%';
    if (v.i < 0 || size_t(v.i) >= f.values.size())
      out += "?" + std::to_string(v.i);
    else if (!f.values[v.i].name.empty())
      out += f.values[v.i].name;
    else if (number[v.i] >= 0)
      out += std::to_string(number[v.i]);
    else
      out += "?" + std::to_string(v.i);
  }

  void params() {
    for (size_t i = 0; i < f.params.size(); ++i) {
      const Param &p = f.params[i];
      define(p.value);
      if (i) out += ", ";
      value(p.value);
      out += ": " + str(f.type(p.value));
      if (!p.bind.empty()) out += " = " + quoted(p.bind);
    }
  }

  void operands(const Node &n) {
    for (size_t i = 0; i < n.operands.size(); ++i) {
      out += i == 0 ? " " : i == 1 && n.op == Op::grad_ ? " wrt " : ", ";
      value(n.operands[i]);
    }
  }

  void comment(Loc loc) {
    if (!o.comments || loc.i <= 0 || size_t(loc.i) >= m.locs.size()) return;
    std::string s = m.locs[loc.i].file + ":" + std::to_string(m.locs[loc.i].line);
    for (char &c : s)
      if (uint8_t(c) < 0x20) c = '?';
    out += "  # " + s;
  }

  void node(const Node &n) {
    out += "  ";
    for (int k = 0; k < n.resultCount; ++k) {
      define(n.result(k));
      if (k) out += ", ";
      value(n.result(k));
    }
    (out += " = ") += info(n.op).name;
    operands(n);
    out += attrText(n);
    for (int k = 0; k < n.resultCount; ++k) {
      out += k ? ", " : " : ";
      if (size_t(n.result(k).i) < f.values.size()) out += str(f.type(n.result(k)));
    }
    if (n.loc.i) out += " @" + std::to_string(n.loc.i);
    comment(n.loc);
    out += '\n';
  }

  void results() {
    out += "  return";
    for (size_t i = 0; i < f.results.size(); ++i) {
      const Result &r = f.results[i];
      out += i ? ", " : " ";
      if (r.bind) out += "state ";
      if (r.bind || !r.name.empty()) out += quoted(r.name) + " = ";
      value(r.value);
    }
    out += '\n';
  }

  void print() {
    number.assign(f.values.size(), -1);
    out += "func @" + f.name;
    if (f.batch) out += " batch " + std::to_string(f.batch);
    out += " (";
    params();
    out += ") {\n";
    for (const Node &n : f.nodes) node(n);
    results();
    out += "}\n";
  }
};

void printLoc(const Module &m, size_t i, std::string &out) {
  const LocInfo &l = m.locs[i];
  out += "loc @" + std::to_string(i) + " = " + quoted(l.file) + ":" + std::to_string(l.line) + ":" +
         std::to_string(l.column);
  if (l.parent.i) out += " from @" + std::to_string(l.parent.i);
  out += '\n';
}

} // namespace

std::string print(const Module &m, const Function &f, PrintOptions o) {
  std::string out;
  FunctionPrinter{m, f, o, out, {}}.print();
  return out;
}

std::string print(const Module &m, PrintOptions o) {
  std::string out = "nnc-ir 1\n";
  if (!m.meta.isNull()) out += "meta " + toJson(m.meta) + "\n";
  for (const Persistent &p : m.persistents) {
    out += "persistent " + quoted(p.name) + " : " + str(p.type);
    if (!p.meta.isNull()) out += " " + toJson(p.meta);
    out += '\n';
  }
  for (const auto &f : m.functions) {
    out += '\n';
    FunctionPrinter{m, *f, o, out, {}}.print();
  }
  if (m.locs.size() > 1) out += '\n';
  for (size_t i = 1; i < m.locs.size(); ++i) printLoc(m, i, out);
  return out;
}

} // namespace nnc::ir
