// Every answer is made from three things: the tree and the names of the text as it is, the values
// of the last text that could be elaborated (at the places where their expressions are now), and
// the text around the cursor, which is read without a parser since it is seldom complete:
//
//   x |> Dense(10, activation = |        in the brackets of `Dense`, at the value of `activation`
#include "frontend/lsp_features.h"

#include "frontend/ast_walk.h"
#include "frontend/format.h"
#include "frontend/print_ast.h"
#include "frontend/reference.h"
#include "frontend/std_text.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <sys/stat.h>
#include <tuple>
#include <unistd.h>

namespace nnc::fe::lsp {

/// What a name outside a document's own scopes means, and where its declaration is.
struct Meaning {
  Entry entry;
  std::string path; // of the file; empty: the compiler itself
};

/// Where in the text a cursor is.
struct Cursor {
  bool inComment = false, inString = false;
  uint32_t wordBegin = 0;         // of the word that ends at the cursor
  char bracket = 0;               // the innermost open one
  bool isTrain = false;           // the braces of `train`
  bool declares = false;          // the parameters of a declaration
  std::string callee, alias;      // before the bracket
  std::vector<std::string> given; // names of its arguments so far
  size_t commas = 0;
  std::string argument; // behind `name =`
  char before = 0;      // the last character before the word that is no space; 0 at a line's begin
  bool afterPipe = false;
};

namespace {

bool isWordChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool oneOf(std::string_view t, std::initializer_list<std::string_view> set) {
  return std::find(set.begin(), set.end(), t) != set.end();
}

/// "f32[batch, 3]", "(main = f32[batch, 1])", but not "300" or "the function `f`".
bool isShape(const std::string &value) {
  for (const char *t : {"f32[", "f64[", "bf16[", "f16[", "i64[", "i32[", "u8[", "bool["})
    if (value.find(t) != std::string::npos) return true;
  return false;
}

std::string joined(const std::vector<std::string> &values, const std::string &by) {
  std::string out;
  for (size_t i = 0; i < values.size(); ++i) {
    if (i == 3) return out + by + "...";
    out += (i ? by : "") + values[i];
  }
  return out;
}

std::string code(const std::string &text) { return "```nn\n" + text + "\n```\n"; }

std::string describe(const Entry &e) {
  std::string out = "```nn\n" + e.head + "\n```\n";
  if (!e.doc.empty()) out += "\n" + e.doc + "\n";
  std::string implied;
  for (const ParamEntry &p : e.implied) implied += (implied.empty() ? "`" : ", `") + p.text() + "`";
  if (!implied.empty()) out += "\nAlso takes " + implied + ".\n";
  if (!e.file.empty()) {
    size_t slash = e.file.rfind('/');
    out += "\n*" + e.file.substr(slash == e.file.npos ? 0 : slash + 1) + ", line " +
           std::to_string(e.line) + "*\n";
  }
  return out;
}

int symbolKind(DeclKind kind) { // of the protocol
  switch (kind) {
  case DeclKind::Fn: return 12;
  case DeclKind::Layer:
  case DeclKind::Model: return 5;
  case DeclKind::Optimizer:
  case DeclKind::Metric: return 6;
  }
  return 12;
}

int completionKind(const std::string &kind) {
  if (kind == "layer" || kind == "model" || kind == "optimizer" || kind == "metric") return 7;
  if (kind == "key") return 10;
  return kind == "name" ? 21 : 3;
}

struct Statements : AstWalker {
  std::vector<Span> names;  // bound by `name = value`
  std::vector<Span> values; // last expressions of blocks
  void stmt(const Stmt &s) override {
    if (s.kind == StmtKind::Bind)
      for (const Name &n : as<BindStmt>(s).names) names.push_back(n.span);
    AstWalker::stmt(s);
  }
  void block(const Block &b) override {
    if (!b.stmts.empty() && b.stmts.back()->kind == StmtKind::Expr)
      values.push_back(as<ExprStmt>(*b.stmts.back()).value->span);
    AstWalker::block(b);
  }
};

} // namespace

// --- texts ---------------------------------------------------------------------------------------

json toJson(Place p) { return {{"line", p.line}, {"character", p.column}}; }

Place placeOf(const json &j) {
  auto number = [&](const char *key) {
    int64_t n = j.at(key).get<int64_t>();
    return uint32_t(std::clamp<int64_t>(n, 0, UINT32_MAX));
  };
  return {number("line"), number("character")};
}

std::string pathOf(const std::string &uri) {
  if (!uri.starts_with("file://")) return uri;
  std::string out;
  size_t i = uri.find('/', 7); // behind the host
  auto hex = [](char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; };
  for (; i < uri.size(); ++i)
    if (uri[i] == '%' && i + 2 < uri.size() && isxdigit((unsigned char)uri[i + 1]) &&
        isxdigit((unsigned char)uri[i + 2])) {
      out += char(hex(uri[i + 1]) * 16 + hex(uri[i + 2]));
      i += 2;
    } else {
      out += uri[i];
    }
  return out;
}

std::string uriOf(const std::string &path) {
  if (!path.starts_with("/")) return path;
  std::string out = "file://";
  const char *digits = "0123456789ABCDEF";
  for (char c : path)
    if (isWordChar(c) || c == '/' || c == '.' || c == '-' || c == '~')
      out += c;
    else
      (out += '%', out += digits[(unsigned char)c >> 4]) += digits[(unsigned char)c & 15];
  return out;
}

std::string libraryPath(const std::string &file) {
  const char *text = nullptr;
  size_t hash = 14695981039346656037u; // of all files: another compiler has another folder
  for (const StdFile &f : stdFiles()) {
    for (const char *c = f.text; *c; ++c) hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    if (file == f.name) text = f.text;
  }
  if (!text) return "";
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  std::string dir;
  if (cache && *cache == '/')
    dir = cache;
  else if (home && *home == '/')
    dir = std::string(home) + "/.cache";
  else
    dir = "/tmp/nnc-" + std::to_string(getuid());
  char name[32];
  std::snprintf(name, sizeof name, "/std-%016zx", hash);
  mkdir(dir.c_str(), 0755);
  mkdir((dir += "/nnc").c_str(), 0755);
  mkdir((dir += name).c_str(), 0755);
  std::string path = dir + "/" + file;
  if (access(path.c_str(), R_OK) == 0) return path;
  std::string beside = path + "." + std::to_string(getpid());
  std::ofstream(beside, std::ios::binary) << text;
  chmod(beside.c_str(), 0444); // a view, not a place to change the library
  if (rename(beside.c_str(), path.c_str()) != 0) return "";
  return path;
}

// --- a document ----------------------------------------------------------------------------------

Parsed::Parsed(const std::string &path, const std::string &text) {
  file = sources.add(path, text);
  Diagnostics a(sources), b(sources);
  tokens = tokenize(sources, file, a);
  tree = parse(sources, file, b);
  ok = !a.hasErrors() && !b.hasErrors();
  names = std::make_unique<Names>(*tree);
}

Document::Document(std::string uri, std::string text)
    : uri_(std::move(uri)), path_(pathOf(uri_)), text_(std::move(text)) {}

void Document::change(const json &changes) {
  for (const json &c : changes) {
    const std::string &with = c.at("text").get_ref<const std::string &>();
    if (c.contains("range")) {
      uint32_t begin = text_.offset(placeOf(c["range"].at("start")));
      uint32_t end = text_.offset(placeOf(c["range"].at("end")));
      text_.replace(begin, end, with);
    } else {
      text_ = Text(with);
    }
  }
  dirty = true;
}

void Document::update() {
  if (!dirty) return;
  dirty = false;
  parsed_ = std::make_unique<Parsed>(path_, text_.str());
  if (parsed_->ok) complete_ = std::make_unique<Parsed>(path_, text_.str());
  analysis_ = analyse(path_, text_.str());
  if (analysis_.elaborated) {
    seen_ = analysis_.seen;
    seenText_ = text_.str();
    return;
  }
  // Broken parts are left out. What was seen of them before is still true of what has not changed.
  Shift shift(seenText_, text_.str());
  std::vector<Seen> kept = analysis_.seen;
  std::set<std::tuple<uint32_t, uint32_t, int>> now;
  for (const Seen &s : kept) now.insert({s.begin, s.end, int(s.what)});
  for (Seen s : seen_)
    if (shift.map(s.begin, s.end) && !now.count({s.begin, s.end, int(s.what)}))
      kept.push_back(std::move(s));
  seen_ = std::move(kept);
  seenText_ = text_.str();
}

json Document::range(uint32_t begin, uint32_t end) const {
  return {{"start", toJson(text_.place(begin))}, {"end", toJson(text_.place(end))}};
}

json Document::diagnostics() const {
  json out = json::array();
  for (const Message &m : analysis_.messages) {
    uint32_t end = m.end;
    if (end == m.begin && end < text_.size() && text_.str()[end] != '\n') ++end;
    json d = {{"range", range(m.begin, end)},
              {"severity", m.isError ? 1 : 2},
              {"source", "nnc"},
              {"message", m.text}};
    if (!m.code.empty()) d["code"] = m.code;
    json related = json::array();
    for (const Related &r : m.related) {
      Place at{r.line ? r.line - 1 : 0, r.column ? r.column - 1 : 0};
      json where =
          r.file.empty() ? range(r.begin, r.end) : json{{"start", toJson(at)}, {"end", toJson(at)}};
      std::string uri = r.file.empty() ? uri_ : uriOf(r.file);
      if (!r.file.starts_with("/")) { // a file of the library
        std::string library = r.file.empty() ? "" : libraryPath(r.file);
        if (!library.empty()) uri = uriOf(library);
      }
      related.push_back({{"location", {{"uri", uri}, {"range", where}}}, {"message", r.text}});
    }
    if (!related.empty()) d["relatedInformation"] = related;
    out.push_back(d);
  }
  return out;
}

/// The smallest place of a kind around an offset, inside [begin, end) if that is not empty.
const Seen *Document::seenAt(uint32_t offset, Recorder::What what, uint32_t begin,
                             uint32_t end) const {
  const Seen *best = nullptr;
  for (const Seen &s : seen_) {
    if (s.what != what || s.begin > offset || s.end < offset) continue;
    if (end > begin && (s.begin != begin || s.end != end)) continue;
    if (!best || s.end - s.begin < best->end - best->begin) best = &s;
  }
  return best;
}

Cursor Document::cursor(uint32_t offset) const {
  struct Open {
    char bracket;
    Cursor at;
  };
  const std::string &t = text_.str();
  Cursor c;
  c.wordBegin = offset;
  while (c.wordBegin > 0 && isWordChar(t[c.wordBegin - 1])) --c.wordBegin;
  std::vector<Open> open;
  std::string top, word, alias; // the declaration's keyword, the last word, what stands before `.`
  bool head = false;            // of a declaration
  size_t wordEnd = 0;
  for (size_t i = 0; i < c.wordBegin;) {
    char ch = t[i];
    if (ch == '#') {
      i = std::min(t.find('\n', i), t.size());
      c.inComment = i >= offset;
      continue;
    }
    if (ch == '"') {
      size_t j = i + 1;
      while (j < t.size() && t[j] != '"' && t[j] != '\n') j += t[j] == '\\' ? 2 : 1;
      bool closed = j < t.size() && t[j] == '"';
      c.inString = i < offset && (closed ? offset <= j : offset <= std::min(j, t.size()));
      i = std::min(j + closed, t.size());
      word.clear();
      continue;
    }
    if (isWordChar(ch)) {
      size_t j = i;
      while (j < c.wordBegin && isWordChar(t[j])) ++j;
      alias = i > 0 && t[i - 1] == '.' ? word : "";
      word = t.substr(i, j - i);
      // A declaration at the margin: whatever was open before was left so.
      if ((i == 0 || t[i - 1] == '\n') &&
          oneOf(word, {"fn", "layer", "model", "optimizer", "metric", "train", "import"})) {
        open.clear();
        top = word;
        head = word != "train" && word != "import";
      }
      wordEnd = i = j;
      continue;
    }
    if (ch == '(' || ch == '[' || ch == '{') {
      Open o{ch, {}};
      if (ch == '(' && wordEnd == i) o.at.callee = word, o.at.alias = alias;
      o.at.declares = ch == '(' && open.empty() && head;
      o.at.isTrain = ch == '{' && open.empty() && top == "train";
      if (ch == '{' && open.empty()) head = false;
      open.push_back(o);
    } else if (ch == ')' || ch == ']' || ch == '}') {
      char match = ch == ')' ? '(' : ch == ']' ? '[' : '{';
      auto it = std::find_if(open.rbegin(), open.rend(),
                             [&](const Open &o) { return o.bracket == match; });
      if (it != open.rend()) open.erase(it.base() - 1, open.end());
    } else if (ch == ',' && !open.empty()) {
      ++open.back().at.commas;
      open.back().at.argument.clear();
    } else if (ch == '=' && open.empty()) {
      head = false;
    } else if (ch == '=' && !open.empty() && (i == 0 || !strchr("=<>!", t[i - 1])) &&
               (i + 1 >= t.size() || t[i + 1] != '=')) {
      open.back().at.argument = word;
      open.back().at.given.push_back(word);
    }
    if (ch == '\n' && !open.empty() && open.back().bracket == '{') open.back().at.argument.clear();
    ++i;
  }
  if (!open.empty()) {
    Cursor inner = open.back().at;
    inner.inComment = c.inComment;
    inner.inString = c.inString;
    inner.wordBegin = c.wordBegin;
    inner.bracket = open.back().bracket;
    c = inner;
  }
  for (size_t i = c.wordBegin; i > 0; --i) {
    char ch = t[i - 1];
    if (ch == ' ' || ch == '\t') continue;
    if (ch == '\n' && c.bracket != '(' && c.bracket != '[') break;
    if (ch == '\n' || ch == '\r') continue;
    c.before = ch;
    c.afterPipe = ch == '>' && i > 1 && t[i - 2] == '|';
    break;
  }
  return c;
}

std::unique_ptr<Parsed> Document::imported(const Import &import) const {
  std::string path = import.path;
  size_t slash = path_.rfind('/');
  if (!path.starts_with("/") && slash != path_.npos) path = path_.substr(0, slash + 1) + path;
  struct stat s;
  if (stat(path.c_str(), &s) != 0 || !S_ISREG(s.st_mode) || s.st_size > int64_t(kMaxSourceBytes))
    return nullptr;
  std::ifstream in(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  return std::make_unique<Parsed>(path, text);
}

std::optional<Meaning> Document::meaning(const std::string &name, const std::string &alias) const {
  for (const Parsed *p : {parsed_.get(), complete_.get()}) {
    if (!p) continue;
    if (alias.empty())
      if (const Decl *d = p->names->declaration(name))
        return Meaning{entryOf(p->sources, *d), path_};
    for (const Import *i : p->names->imports()) {
      if (alias.empty() ? i->alias.has_value() : !i->alias || i->alias->text != alias) continue;
      auto file = imported(*i);
      if (!file) continue;
      if (const Decl *d = file->names->declaration(name))
        return Meaning{entryOf(file->sources, *d), file->sources.name(file->file)};
    }
  }
  if (!alias.empty()) return std::nullopt;
  const Entry *e = Reference::library().find(name);
  if (!e) return std::nullopt;
  return Meaning{*e, ""};
}

// --- hover ---------------------------------------------------------------------------------------

json Document::hover(Place place) {
  update();
  const std::string &t = text_.str();
  uint32_t offset = text_.offset(place), end = offset;
  while (end < t.size() && isWordChar(t[end])) ++end;
  Cursor c = cursor(end);
  if (c.inComment) return nullptr;
  uint32_t begin = c.wordBegin;
  std::string word = t.substr(begin, end - begin), text;
  const Symbol *symbol = parsed_->names->at(begin);
  if (symbol && symbol->name != word) symbol = nullptr;
  size_t next = t.find_first_not_of(" \t", end);
  bool assigns = next != t.npos && t[next] == '=' && (next + 1 >= t.size() || t[next + 1] != '=');
  if (!word.empty() && !c.inString) {
    bool argument =
        assigns && c.bracket == '(' && !c.declares && (c.before == '(' || c.before == ',');
    if (argument && !c.callee.empty()) {
      if (auto m = meaning(c.callee, c.alias)) {
        auto lists = m->entry.params;
        lists.push_back(m->entry.implied);
        for (auto &list : lists)
          for (const ParamEntry &p : list)
            if (p.name == word) text = code(p.text()) + "\nargument of `" + c.callee + "`\n";
      }
    }
    if (assigns && c.isTrain && c.before == 0) {
      const Entry *e = Reference::library().find(word);
      if (e && e->kind == "key") text = describe(*e);
    } else if (text.empty() && symbol && symbol->kind != Symbol::Declaration) {
      const Seen *s = seenAt(begin, Recorder::What::Name, begin, end);
      if (!s) s = seenAt(begin, Recorder::What::Value, begin, end);
      if (!s)
        s = seenAt(symbol->definition.begin, Recorder::What::Name, symbol->definition.begin,
                   symbol->definition.end);
      static const char *const kinds[] = {"", "parameter", "size",         "weight",
                                          "", "binding",   "imported file"};
      std::string next = "\n" + std::string(word.size(), ' ') + "| ";
      text = code(word + (s ? ": " + joined(s->values, next) : ""));
      if (*kinds[symbol->kind]) text += std::string("\n") + kinds[symbol->kind] + "\n";
    } else if (text.empty()) {
      const Outside *o = parsed_->names->outsideAt(begin);
      auto m = meaning(word, o ? o->alias : "");
      // Keys are no names elsewhere.
      if (m && m->entry.kind != "key") text = describe(m->entry);
      // A name in a part that cannot be parsed now.
      const Seen *s = text.empty() ? seenAt(begin, Recorder::What::Name, begin, end) : nullptr;
      if (s) text = code(word + ": " + joined(s->values, " | "));
    }
  }
  // What leaves the stage, or the value of the expression.
  const Seen *value = nullptr;
  if (!symbol || symbol->kind == Symbol::Declaration) {
    value = seenAt(offset, Recorder::What::Stage, 0, 0);
    const Seen *inner = seenAt(offset, Recorder::What::Value, 0, 0);
    bool isCallee = value && value->begin <= begin && begin == value->begin;
    if (inner && !isCallee && (!value || inner->end - inner->begin < value->end - value->begin))
      value = inner;
  }
  if (value && !value->values[0].starts_with("the function"))
    text +=
        std::string(text.empty() ? "" : "\n") + "gives `" + joined(value->values, "` or `") + "`\n";
  if (text.empty()) return nullptr;
  json out = {{"contents", {{"kind", "markdown"}, {"value", text}}}};
  if (!word.empty()) out["range"] = range(begin, end);
  return out;
}

// --- shapes --------------------------------------------------------------------------------------

json Document::inlayHints(Place from, Place to) {
  update();
  json out = json::array();
  uint32_t begin = text_.offset(from), end = text_.offset(to);
  const std::string &t = text_.str();
  std::set<uint32_t> done;
  std::set<std::pair<uint32_t, std::string>> lines; // one shape is said once in a line
  auto hint = [&](uint32_t at, const Seen &s, bool padding) {
    if (at < begin || at > end || !done.insert(at).second) return;
    std::vector<std::string> shapes;
    for (const std::string &v : s.values)
      if (isShape(v)) shapes.push_back(v);
    std::string label = ": " + joined(shapes, " | ");
    if (shapes.empty() || !lines.insert({text_.place(at).line, label}).second) return;
    out.push_back({{"position", toJson(text_.place(at))},
                   {"label", label},
                   {"kind", 1},
                   {"paddingLeft", padding}});
  };
  auto endsLine = [&](uint32_t at) {
    size_t next = t.find_first_not_of(" \t\r", at);
    return next == t.npos || t[next] == '\n' || t[next] == '#';
  };
  auto beforePipe = [&](uint32_t at) {
    size_t newline = t.find('\n', at);
    size_t next = newline == t.npos ? t.npos : t.find_first_not_of(" \t", newline + 1);
    return next != t.npos && t.compare(next, 2, "|>") == 0;
  };
  std::map<std::pair<uint32_t, uint32_t>, const Seen *> values, names;
  for (const Seen &s : seen_) {
    if (s.end > t.size()) continue;
    if (s.what == Recorder::What::Value) values[{s.begin, s.end}] = &s;
    if (s.what == Recorder::What::Name) names[{s.begin, s.end}] = &s;
  }
  Statements statements;
  statements.file(*parsed_->tree);
  for (Span s : statements.names)
    if (auto it = names.find({s.begin, s.end}); it != names.end()) hint(s.end, *it->second, false);
  for (const Seen &s : seen_)
    if (s.what == Recorder::What::Stage && s.end <= t.size() && endsLine(s.end))
      hint(s.end, s, true);
  for (auto &[span, s] : values)
    if (endsLine(span.second) && beforePipe(span.second)) hint(span.second, *s, true);
  for (Span s : statements.values)
    if (auto it = values.find({s.begin, s.end}); it != values.end() && endsLine(s.end))
      hint(s.end, *it->second, true);
  return out;
}

// --- completion ----------------------------------------------------------------------------------

json Document::completion(Place place) {
  update();
  json items = json::array();
  std::set<std::string> labels;
  auto add = [&](const std::string &label, int kind, const std::string &detail,
                 const std::string &doc, const std::string &insert, char order) {
    if (!labels.insert(label).second) return;
    // Arguments and keywords in their order, names by the alphabet.
    char number[16];
    std::snprintf(number, sizeof number, "%04zu", items.size());
    std::string sort = order + (order < '2' ? number : label);
    json item = {{"label", label}, {"kind", kind}, {"sortText", sort}};
    if (!detail.empty()) item["detail"] = detail;
    if (!doc.empty()) item["documentation"] = {{"kind", "markdown"}, {"value", doc}};
    if (!insert.empty()) item["insertText"] = insert;
    items.push_back(item);
  };
  json none = {{"isIncomplete", false}, {"items", json::array()}};
  Cursor c = cursor(text_.offset(place));
  if (c.inComment) return none;
  std::optional<Meaning> callee;
  if (c.bracket == '(' && !c.callee.empty() && !c.declares) callee = meaning(c.callee, c.alias);
  auto parameter = [&]() -> const ParamEntry * {
    if (!callee || c.argument.empty()) return nullptr;
    for (auto &list : callee->entry.params)
      for (const ParamEntry &p : list)
        if (p.name == c.argument) return &p;
    return nullptr;
  };
  // The strings that an argument may be.
  if (const ParamEntry *p = parameter()) {
    for (size_t i = 0; (i = p->type.find('"', i)) != p->type.npos;) {
      size_t end = p->type.find('"', i + 1);
      if (end == p->type.npos) break;
      std::string word = p->type.substr(i + 1, end - i - 1);
      add(c.inString ? word : '"' + word + '"', 12, p->text(), "", "", '0');
      i = end + 1;
    }
    if (p->type == "bool" && !c.inString)
      for (const char *b : {"true", "false"}) add(b, 14, p->text(), "", "", '0');
    if (p->type.find("none") != p->type.npos && !c.inString)
      add("none", 14, p->text(), "", "", '1');
  }
  if (c.inString) return {{"isIncomplete", false}, {"items", items}};
  if (c.before == '.') {
    size_t dot = text_.str().find_last_of('.', c.wordBegin);
    size_t begin = dot;
    while (begin > 0 && isWordChar(text_.str()[begin - 1])) --begin;
    std::string alias = text_.str().substr(begin, dot - begin);
    for (const Parsed *p : {parsed_.get(), complete_.get()})
      if (p)
        for (const Import *i : p->names->imports())
          if (i->alias && i->alias->text == alias)
            if (auto file = imported(*i))
              for (const Top *top : file->tree->tops)
                if (top->kind == TopKind::Decl) {
                  Entry e = entryOf(file->sources, as<Decl>(*top));
                  add(e.name, completionKind(e.kind), e.head, e.doc, "", '1');
                }
    return {{"isIncomplete", false}, {"items", items}};
  }
  if (c.isTrain && c.before == 0) {
    for (const Entry &e : Reference::library().entries())
      if (e.kind == "key" && std::find(c.given.begin(), c.given.end(), e.name) == c.given.end())
        add(e.name, 10, "key of train", e.doc, e.name + " = ", '0');
    return {{"isIncomplete", false}, {"items", items}};
  }
  if (callee && c.argument.empty() && (c.before == '(' || c.before == ',')) {
    auto lists = callee->entry.params;
    lists.push_back(callee->entry.implied);
    size_t position = 0;
    for (auto &list : lists) {
      bool implied = &list == &lists.back();
      for (const ParamEntry &p : list) {
        bool taken =
            std::find(c.given.begin(), c.given.end(), p.name) != c.given.end() ||
            (&list == &lists[0] && position < c.commas - std::min(c.commas, c.given.size()));
        ++position;
        if (!taken && !p.name.starts_with("."))
          add(p.name, 10, p.text(), "argument of `" + c.callee + "`", p.name + " = ",
              implied ? '1' : '0');
      }
    }
  }
  uint32_t offset = text_.offset(place);
  for (const Parsed *p : {parsed_.get(), complete_.get()}) {
    if (!p || !p->names) continue;
    for (const Symbol *s : p->names->visible(std::min(offset, text_.size()))) {
      if (s->definition.begin == c.wordBegin) continue; // the word that is being written
      if (s->kind == Symbol::Declaration) {
        Entry e = entryOf(p->sources, *s->decl);
        add(e.name, completionKind(e.kind), e.head, e.doc, "", '2');
      } else {
        const Seen *seen = seenAt(s->definition.begin, Recorder::What::Name, s->definition.begin,
                                  s->definition.end);
        add(s->name, 6, seen ? joined(seen->values, " | ") : "", "", "", '2');
      }
    }
    for (const Import *i : p->names->imports())
      if (!i->alias)
        if (auto file = imported(*i))
          for (const Top *top : file->tree->tops)
            if (top->kind == TopKind::Decl) {
              Entry e = entryOf(file->sources, as<Decl>(*top));
              add(e.name, completionKind(e.kind), e.head, e.doc, "", '3');
            }
  }
  bool statement = c.before == 0;
  if (statement && c.bracket == 0)
    for (const char *w : {"model", "layer", "fn", "train", "optimizer", "metric", "import"})
      add(w, 14, "declaration", "", std::string(w) + " ", '1');
  if (statement && c.bracket == '{')
    for (const char *w : {"param", "state", "for", "if"})
      add(w, 14, "statement", "", std::string(w) + " ", '4');
  if (!statement || c.bracket != 0)
    for (const Entry &e : Reference::library().entries()) {
      if (e.kind == "key" || e.kind == "word") continue;
      bool layer = e.kind == "layer" || e.kind == "model";
      add(e.name, completionKind(e.kind), e.head, e.doc, "", c.afterPipe && layer ? '3' : '5');
    }
  return {{"isIncomplete", false}, {"items", items}};
}

json Document::signatureHelp(Place place) {
  update();
  Cursor c = cursor(text_.offset(place));
  if (c.inComment || c.bracket != '(' || c.callee.empty() || c.declares) return nullptr;
  auto m = meaning(c.callee, c.alias);
  if (!m || m->entry.params.empty()) return nullptr;
  std::string label = m->entry.name + "(";
  json parameters = json::array();
  size_t active = c.commas;
  const auto &list = m->entry.params[0];
  for (size_t i = 0; i < list.size(); ++i) {
    if (i) label += ", ";
    size_t begin = label.size();
    label += list[i].text();
    parameters.push_back({{"label", {begin, label.size()}}});
    if (list[i].name == c.argument) active = i;
  }
  label += ")";
  json signature = {{"label", label},
                    {"parameters", parameters},
                    {"documentation", {{"kind", "markdown"}, {"value", m->entry.doc}}}};
  return {{"signatures", {signature}}, {"activeSignature", 0}, {"activeParameter", active}};
}

// --- places of names -----------------------------------------------------------------------------

json Document::definition(Place place) {
  update();
  uint32_t offset = text_.offset(place);
  auto location = [](const std::string &uri, const json &range) {
    return json{{"uri", uri}, {"range", range}};
  };
  json top = {{"start", toJson(Place{})}, {"end", toJson(Place{})}};
  for (const Import *i : parsed_->names->imports())
    if (i->pathSpan.begin <= offset && offset <= i->pathSpan.end)
      if (auto file = imported(*i)) return location(uriOf(file->sources.name(file->file)), top);
  if (const Symbol *s = parsed_->names->at(offset))
    return location(uri_, range(s->definition.begin, s->definition.end));
  const Outside *o = parsed_->names->outsideAt(offset);
  std::string word, alias;
  if (o) {
    word = o->name;
    alias = o->alias;
  } else { // in a part that could not be parsed
    uint32_t end = offset;
    while (end < text_.size() && isWordChar(text_.str()[end])) ++end;
    Cursor c = cursor(end);
    if (c.inComment || c.inString) return nullptr;
    word = text_.str().substr(c.wordBegin, end - c.wordBegin);
  }
  auto m = meaning(word, alias);
  if (!m || m->entry.file.empty()) return nullptr;
  std::string path = m->path.empty() ? libraryPath(m->entry.file) : m->path;
  if (path.empty()) return nullptr;
  Place at{m->entry.line - 1, m->entry.column - 1};
  Place end{at.line, at.column + uint32_t(word.size())};
  return location(m->path == path_ ? uri_ : uriOf(path),
                  {{"start", toJson(at)}, {"end", toJson(end)}});
}

json Document::references(Place place) {
  update();
  json out = json::array();
  if (const Symbol *s = parsed_->names->at(text_.offset(place)))
    for (Span u : s->uses) out.push_back({{"uri", uri_}, {"range", range(u.begin, u.end)}});
  return out;
}

json Document::highlights(Place place) {
  update();
  json out = json::array();
  if (const Symbol *s = parsed_->names->at(text_.offset(place)))
    for (Span u : s->uses) out.push_back({{"range", range(u.begin, u.end)}});
  return out;
}

json Document::prepareRename(Place place) {
  update();
  Span use;
  const Symbol *s = parsed_->ok ? parsed_->names->at(text_.offset(place), &use) : nullptr;
  if (!s) return nullptr;
  return {{"range", range(use.begin, use.end)}, {"placeholder", s->name}};
}

std::optional<json> Document::rename(Place place, const std::string &name, std::string &error) {
  update();
  auto fail = [&](const std::string &why) {
    error = why;
    return std::nullopt;
  };
  if (!parsed_->ok) return fail("the file has syntax errors");
  uint32_t offset = text_.offset(place);
  const Symbol *s = parsed_->names->at(offset);
  if (!s) {
    const Outside *o = parsed_->names->outsideAt(offset);
    return fail(o ? "`" + o->name + "` is not defined in this file" : "there is no name here");
  }
  Parsed word("", name);
  bool isName = word.tokens.size() == 1 && word.tokens[0].kind == SourceToken::Word &&
                word.tokens[0].end == name.size() && name != "_";
  if (!isName) return fail("`" + name + "` is not a name");
  const Entry *e = Reference::library().find(name);
  if (e && e->kind == "name") return fail("`" + name + "` has a meaning of its own");
  json edits = json::array();
  for (Span u : s->uses) {
    for (const Symbol *other : parsed_->names->visible(u.begin))
      if (other != s && other->name == name)
        return fail("`" + name + "` is the name of something else here");
    edits.push_back({{"range", range(u.begin, u.end)}, {"newText", name}});
  }
  // What the new name means where the old one is visible must not be hidden.
  const Span in = s->scope->span;
  for (const SourceToken &t : parsed_->tokens)
    if (t.begin >= in.begin && t.end <= in.end && t.kind == SourceToken::Word &&
        parsed_->sources.text({parsed_->file, t.begin, t.end}) == name)
      if (const Outside *o = parsed_->names->outsideAt(t.begin); o && o->alias.empty())
        return fail("`" + name + "` is used here with another meaning");
  return json{{"changes", {{uri_, edits}}}};
}

// --- the whole -----------------------------------------------------------------------------------

std::optional<json> Document::formatting(std::string &error) {
  Sources sources;
  Diagnostics diags(sources);
  auto formatted = format(sources, sources.add(path_, text_.str()), diags);
  if (!formatted) {
    error = "the file has syntax errors, or would be too long";
    return std::nullopt;
  }
  // One edit, of the lines that change.
  Text to(*formatted);
  const std::string &a = text_.str(), &b = to.str();
  if (a == b) return json::array();
  uint32_t first = 0, lines = std::min(text_.lineCount(), to.lineCount());
  auto whole = [](const Text &t, uint32_t line) {
    uint32_t end = line + 1 < t.lineCount() ? t.lineBegin(line + 1) : t.size();
    return std::string_view(t.str()).substr(t.lineBegin(line), end - t.lineBegin(line));
  };
  while (first < lines && whole(text_, first) == whole(to, first)) ++first;
  uint32_t last = 0;
  while (last < lines - first &&
         whole(text_, text_.lineCount() - 1 - last) == whole(to, to.lineCount() - 1 - last))
    ++last;
  auto beginOf = [](const Text &t, uint32_t line) {
    return line < t.lineCount() ? t.lineBegin(line) : t.size();
  };
  uint32_t from = beginOf(text_, first), until = beginOf(text_, text_.lineCount() - last);
  uint32_t newFrom = beginOf(to, first), newUntil = beginOf(to, to.lineCount() - last);
  return json::array(
      {{{"range", range(from, until)}, {"newText", b.substr(newFrom, newUntil - newFrom)}}});
}

json Document::symbols() {
  update();
  json out = json::array();
  for (const Top *t : parsed_->tree->tops) {
    auto add = [&](const std::string &name, const std::string &detail, int kind, Span at) {
      if (name.empty()) return;
      out.push_back({{"name", name},
                     {"detail", detail},
                     {"kind", kind},
                     {"range", range(t->span.begin, t->span.end)},
                     {"selectionRange", range(at.begin, at.end)}});
    };
    if (t->kind == TopKind::Decl) {
      auto &d = as<Decl>(*t);
      add(std::string(d.name.text), spelling(d.declKind), symbolKind(d.declKind), d.name.span);
    } else if (t->kind == TopKind::Train) {
      uint32_t at = t->span.begin;
      auto &train = as<Train>(*t);
      add("train" + (train.model ? " " + print(*train.model) : ""), "", 2,
          {t->span.file, at, at + 5});
    } else if (t->kind == TopKind::Bind) {
      for (const Name &n : as<TopBind>(*t).bind->names) add(std::string(n.text), "", 13, n.span);
    }
  }
  return out;
}

} // namespace nnc::fe::lsp
