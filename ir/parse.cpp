// The parser of the IR text. The grammar is in text.h; print.cpp is its inverse.
//
// Problem. Files are written by people and by other programs: any bytes give a module or one error
// with its place. Example: a type that does not follow from the operands,
//   3:35: reduce gives f32[n], found f32[n,10]
//
// Method. Recursive descent on the bytes, without a token list. The first error is thrown as a
// Failure and caught at the top. Result types are read as they stand; when all functions are known
// (a call may come before its callee) every node is checked against inferTypes.
#include "ir/forms.h"
#include "ir/infer.h"
#include "ir/text.h"
#include <algorithm>
#include <charconv>
#include <unordered_map>

namespace nnc::ir {

namespace {

struct Failure {
  size_t pos;
  std::string message;
};

bool isWordChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
bool isNameChar(char c) { return isWordChar(c) || c == '.' || c == '/' || c == '-'; }
bool isDigits(std::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// --- characters --------------------------------------------------------------------------------

struct Cursor {
  std::string_view text;
  size_t pos = 0;

  [[noreturn]] void fail(size_t at, std::string what) const { throw Failure{at, std::move(what)}; }

  void skip() {
    while (pos < text.size()) {
      char c = text[pos];
      if (c == '#')
        pos = std::min(text.find('\n', pos), text.size());
      else if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
        ++pos;
      else
        return;
    }
  }
  bool atEnd() {
    skip();
    return pos >= text.size();
  }
  char peek() {
    skip();
    return pos < text.size() ? text[pos] : '\0';
  }
  std::string found() {
    if (atEnd()) return "the end";
    size_t n = 1;
    while (isNameChar(text[pos]) && pos + n < text.size() && isNameChar(text[pos + n]) && n < 40)
      ++n;
    return "`" + std::string(text.substr(pos, n)) + "`";
  }
  [[noreturn]] void expected(const std::string &what) {
    std::string f = found();
    fail(pos, "expected " + what + ", found " + f);
  }

  bool take(char c) {
    if (peek() != c || pos >= text.size()) return false;
    ++pos;
    return true;
  }
  void need(char c) {
    if (!take(c)) expected(std::string("`") + c + "`");
  }
  template <class Accept> std::string_view run(Accept accept) {
    skip();
    size_t start = pos;
    while (pos < text.size() && accept(text[pos])) ++pos;
    return text.substr(start, pos - start);
  }
  std::string_view word() { return run(isWordChar); }
  bool takeWord(std::string_view w) {
    skip();
    size_t start = pos;
    if (word() == w) return true;
    pos = start;
    return false;
  }

  template <class T> T number(const char *what) {
    skip();
    T v{};
    auto [end, e] = std::from_chars(text.data() + pos, text.data() + text.size(), v);
    if (e != std::errc()) expected(what);
    pos = end - text.data();
    return v;
  }
  int64_t integer() { return number<int64_t>("an integer"); }
  int32_t natural() {
    skip();
    size_t start = pos;
    int32_t v = number<int32_t>("a number");
    if (v < 0) fail(start, "expected a number that is not negative");
    return v;
  }
  std::string string() {
    std::string s, error;
    if (peek() != '"') expected("a string");
    if (!parseQuoted(text, pos, s, error)) fail(pos, error);
    return s;
  }
  Meta json() {
    Meta m;
    std::string error;
    skip();
    if (!parseJsonAt(text, pos, m, error)) fail(pos, error);
    return m;
  }
  // %name or @name
  std::string_view name(char mark) {
    need(mark);
    if (pos >= text.size() || !isNameChar(text[pos])) expected("a name");
    return run(isNameChar);
  }

  Dim dim() {
    skip();
    size_t start = pos;
    Dim d;
    auto isDimChar = [](char c) {
      return (c >= '0' && c <= '9') || c == 'n' || c == '+' || c == '-';
    };
    if (!parseDim(run(isDimChar), d)) {
      pos = start;
      expected("a size such as 3, n or 2n+1");
    }
    return d;
  }
  template <class Element> void list(Element element) {
    need('[');
    if (take(']')) return;
    do element();
    while (take(','));
    need(']');
  }
  Type type() {
    skip();
    size_t start = pos;
    Type t;
    if (!parseDType(word(), t.dtype)) {
      pos = start;
      expected("a type such as f32[n,10]");
    }
    list([&] { t.dims.push_back(dim()); });
    return t;
  }
  Type checkedType() {
    skip();
    size_t start = pos;
    Type t = type();
    if (std::string e = checkType(t); !e.empty()) fail(start, e);
    return t;
  }
};

// --- attributes --------------------------------------------------------------------------------

void read(Cursor &c, int64_t &v) { v = c.integer(); }
void read(Cursor &c, double &v) { v = c.number<double>("a number"); }
void read(Cursor &c, std::string &v) { v = c.string(); }
void read(Cursor &c, Dim &v) { v = c.dim(); }
void read(Cursor &c, bool &v) {
  v = c.takeWord("true");
  if (!v && !c.takeWord("false")) c.expected("true or false");
}
void read(Cursor &c, ReduceKind &v) {
  if (c.takeWord("sum"))
    v = ReduceKind::sum;
  else if (c.takeWord("prod"))
    v = ReduceKind::prod;
  else if (c.takeWord("max"))
    v = ReduceKind::max;
  else if (c.takeWord("min"))
    v = ReduceKind::min;
  else
    c.expected("sum, prod, max or min");
}
template <class T> void read(Cursor &c, std::vector<T> &v) {
  v.clear();
  if (std::is_same_v<T, double> && c.peek() != '[') return read(c, v.emplace_back());
  c.list([&] { read(c, v.emplace_back()); });
}

// What an attribute's text leaves open until the types of the node are known.
struct Pending {
  std::vector<std::pair<std::string, Dim>> extents; // of a contraction's labels
};

// Reads the value of the field called `key`, if there is one.
struct FieldReader {
  Cursor &c;
  std::string_view key;
  Pending &pending;
  bool found = false;

  void operator()(const char *, Type &) {}
  void operator()(const char *, ContractAttr &a) {
    static constexpr std::string_view names = "xwy";
    size_t k = key.size() == 1 ? names.find(key[0]) : std::string_view::npos;
    found = true;
    if (k != std::string_view::npos && c.peek() == '"') {
      size_t at = c.pos;
      std::string e;
      if (!parseForms(c.string(), a.labels, a.forms[k], e)) c.fail(at, e);
      return;
    }
    c.need('=');
    pending.extents.emplace_back(key, c.dim());
  }
  template <class T> void operator()(const char *name, T &v) {
    if (found || key != name) return;
    found = true;
    c.need('=');
    read(c, v);
  }
};

// {key=value, ...}; fields that are not mentioned keep their defaults.
Pending readAttrs(Cursor &c, Node &n) {
  Pending pending;
  if (!c.take('{')) return pending;
  std::vector<std::string_view> seen;
  do {
    c.skip();
    size_t at = c.pos;
    std::string_view key = c.word();
    if (key.empty()) c.expected("an attribute");
    if (std::find(seen.begin(), seen.end(), key) != seen.end() && n.op != Op::contract_)
      c.fail(at, "attribute `" + std::string(key) + "` is given twice");
    seen.push_back(key);
    if (key == "remat" && c.peek() != '=') {
      n.remat = true;
      continue;
    }
    FieldReader reader{c, key, pending};
    std::visit([&](auto &a) { a.fields(reader); }, n.attr);
    if (!reader.found)
      c.fail(at, std::string(info(n.op).name) + " has no attribute `" + std::string(key) + "`");
  } while (c.take(','));
  c.need('}');
  return pending;
}

// Gives the attribute the result type, which stands after the colon.
struct TypeSetter {
  const Type &type;
  void operator()(const char *, Type &t) { t = type; }
  void operator()(const char *, ContractAttr &a) { a.type = type; }
  template <class T> void operator()(const char *, T &) {}
};

// --- the module --------------------------------------------------------------------------------

struct Parser : Cursor {
  Module &m;
  std::vector<std::vector<size_t>> nodePos;            // per function and node: where it starts
  std::unordered_map<std::string_view, ValueId> names; // of the function that is read

  ValueId use() {
    skip();
    size_t at = pos;
    std::string_view n = name('%');
    auto it = names.find(n);
    if (it == names.end()) fail(at, "there is no value %" + std::string(n) + " before this place");
    return it->second;
  }
  ValueId define(Function &f, size_t at, std::string_view n, Type t, NodeId def) {
    ValueId v{int32_t(f.values.size())};
    if (!names.emplace(n, v).second) fail(at, "%" + std::string(n) + " is defined twice");
    f.values.push_back({std::move(t), def, isDigits(n) ? "" : std::string(n)});
    return v;
  }

  void params(Function &f) {
    need('(');
    if (take(')')) return;
    do {
      skip();
      size_t at = pos;
      std::string_view n = name('%');
      need(':');
      Type t = checkedType();
      std::string bind = take('=') ? string() : "";
      f.params.push_back({define(f, at, n, std::move(t), NodeId{}), std::move(bind)});
    } while (take(','));
    need(')');
  }

  void operands(Node &n) {
    if (peek() != '%') return;
    n.operands.push_back(use());
    if (n.op == Op::grad_ && takeWord("wrt")) n.operands.push_back(use());
    while (take(',')) n.operands.push_back(use());
  }

  void contractExtents(const Function &f, Node &n, size_t at, const Type &y,
                       const Pending &pending) {
    auto &a = std::get<ContractAttr>(n.attr);
    if (n.operands.size() != 2) fail(at, "contract expects 2 operands");
    std::vector<bool> given;
    takeExtents(a, &f.type(n.operands[0]).dims, &f.type(n.operands[1]).dims, &y.dims, given);
    for (const auto &[label, extent] : pending.extents) {
      auto l = size_t(std::find(a.labels.begin(), a.labels.end(), label) - a.labels.begin());
      if (l == a.labels.size()) fail(at, "contract has no label `" + label + "`");
      if (given[l]) fail(at, "label `" + label + "` has its extent from a dimension");
      a.extents[l] = extent;
      given[l] = true;
    }
    for (size_t l = 0; l < given.size(); ++l)
      if (!given[l]) fail(at, "label `" + a.labels[l] + "` needs an extent");
  }

  Loc loc() {
    if (!take('@')) return {};
    return {natural()};
  }

  // %a, %b = op %x, %y {attributes} : type, type @loc
  void node(Function &f) {
    skip();
    size_t at = pos;
    std::vector<std::pair<size_t, std::string_view>> results;
    do {
      skip();
      size_t start = pos;
      results.emplace_back(start, name('%'));
    } while (take(','));
    need('=');
    skip();
    size_t opPos = pos;
    Op op;
    if (std::string_view w = word(); !parseOp(w, op))
      fail(opPos, w.empty() ? "expected an operation" : "there is no operation " + std::string(w));
    Node n{op, {}, {}, int32_t(results.size()), defaultAttr(op), {}};
    operands(n);
    Pending pending = readAttrs(*this, n);
    need(':');
    std::vector<Type> types;
    do types.push_back(type());
    while (take(','));
    if (types.size() != results.size())
      fail(at, "expected a type for each result, found " + std::to_string(results.size()) +
                   " results and " + std::to_string(types.size()) + " types");
    std::visit([&](auto &a) { a.fields(TypeSetter{types[0]}); }, n.attr);
    if (op == Op::contract_) contractExtents(f, n, at, types[0], pending);
    n.loc = loc();
    n.firstResult = {int32_t(f.values.size())};
    NodeId id{int32_t(f.nodes.size())};
    for (size_t k = 0; k < results.size(); ++k)
      define(f, results[k].first, results[k].second, std::move(types[k]), id);
    f.nodes.push_back(std::move(n));
    nodePos.back().push_back(at);
  }

  void results(Function &f) {
    if (peek() == '}') return;
    do {
      Result r;
      r.bind = takeWord("state");
      if (r.bind || peek() == '"') {
        r.name = string();
        need('=');
      }
      r.value = use();
      f.results.push_back(std::move(r));
    } while (take(','));
  }

  void function() {
    Function &f = m.add(std::string(name('@')), 0);
    nodePos.emplace_back();
    names.clear();
    if (takeWord("batch")) f.batch = natural();
    params(f);
    need('{');
    while (!takeWord("return")) {
      if (peek() != '%') expected("a node or return");
      node(f);
    }
    results(f);
    need('}');
  }

  void persistent() {
    Persistent p;
    p.name = string();
    need(':');
    p.type = checkedType();
    if (peek() == '{') p.meta = json();
    m.persistents.push_back(std::move(p));
  }

  void location() {
    skip();
    size_t at = pos;
    need('@');
    size_t index = size_t(natural());
    if (index != m.locs.size())
      fail(at, "locations are numbered from 1 on, expected @" + std::to_string(m.locs.size()));
    need('=');
    LocInfo l;
    l.file = string();
    need(':');
    l.line = natural();
    need(':');
    l.column = natural();
    if (takeWord("from")) {
      need('@');
      l.parent = {natural()};
    }
    if (size_t(l.parent.i) >= index) fail(at, "a location comes after the one it is called from");
    if (size_t(m.addLoc(std::move(l)).i) != index) fail(at, "a location is given twice");
  }

  void checkNode(const Function &f, const Node &n, size_t at) {
    std::vector<Type> operands;
    for (ValueId v : n.operands) operands.push_back(f.type(v));
    std::string name = info(n.op).name;
    Inferred r = inferTypes(n.op, operands, n.attr, &m);
    if (!r.error.empty()) fail(at, name + ": " + r.error);
    if (r.types.size() != size_t(n.resultCount))
      fail(at, name + " has " + std::to_string(r.types.size()) + " results, found " +
                   std::to_string(n.resultCount));
    for (int k = 0; k < n.resultCount; ++k)
      if (f.type(n.result(k)) != r.types[k])
        fail(at, name + " gives " + str(r.types[k]) + ", found " + str(f.type(n.result(k))));
    if (size_t(n.loc.i) >= m.locs.size())
      fail(at, "there is no location @" + std::to_string(n.loc.i));
  }

  void module() {
    skip();
    std::string_view first = run(isNameChar);
    if (first != "nnc-ir") fail(0, "expected `nnc-ir 1` at the start");
    skip();
    size_t at = pos;
    if (integer() != 1) fail(at, "this is not version 1 of the format");
    while (!atEnd()) {
      if (takeWord("meta"))
        m.meta = json();
      else if (takeWord("persistent"))
        persistent();
      else if (takeWord("func"))
        function();
      else if (takeWord("loc"))
        location();
      else
        expected("meta, persistent, func or loc");
    }
    for (size_t i = 0; i < nodePos.size(); ++i)
      for (size_t k = 0; k < nodePos[i].size(); ++k)
        checkNode(*m.functions[i], m.functions[i]->nodes[k], nodePos[i][k]);
  }
};

TextError place(std::string_view text, const Failure &f) {
  TextError e{1, 1, f.message};
  for (char c : text.substr(0, f.pos)) {
    ++e.column;
    if (c == '\n') ++e.line, e.column = 1;
  }
  return e;
}

} // namespace

std::unique_ptr<Module> parseModule(std::string_view text, TextError &error) {
  auto m = std::make_unique<Module>();
  try {
    Parser p{{text}, *m, {}, {}};
    p.module();
  } catch (const Failure &f) {
    error = place(text, f);
    return nullptr;
  }
  return m;
}

} // namespace nnc::ir
