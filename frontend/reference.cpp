#include "frontend/reference.h"

#include "frontend/parse.h"
#include "frontend/print_ast.h"
#include "frontend/std_text.h"

#include <algorithm>

namespace nnc::fe {

namespace {

struct Row {
  const char *name, *params, *doc;
};
const Row kBuiltins[] = {
#define BUILTIN(name, params, doc) {#name, params, doc},
#include "frontend/builtins.def"
#undef BUILTIN
};
const Row kTrainKeys[] = {
#define KEY(name, doc) {#name, "", doc},
#include "frontend/train_keys.def"
#undef KEY
};
// Names of values that no file declares.
const Row kNames[] = {
    {"batch", "", "the number of rows of a batch: the first dimension of a model's inputs"},
    {"training", "", "true in the training step, false in evaluation and prediction"},
    {"pi", "", "3.141592653589793"},
    {"inf", "", "infinity"},
    {"nan", "", "not a number"},
    {"f32", "", "32-bit float, the element type of tensors unless another is written"},
    {"f64", "", "64-bit float"},
    {"bf16", "", "16-bit float with 8 bits of exponent"},
    {"f16", "", "16-bit float with 5 bits of exponent"},
    {"i64", "", "64-bit int"},
    {"i32", "", "32-bit int"},
    {"u8", "", "byte"},
    {"bool", "", "true or false"},
};

// Words that begin a statement or a declaration, and what stands behind a reader of data.
const Row kWords[] = {
    {"model", "model M(x: [batch, 8]) -> [batch, 1] { ... }",
     "A network: its parameters are the inputs, its last expression is the output.\n"
     "`train M { ... }` trains it."},
    {"layer", "layer L(units: int)(x: [batch, n]) { ... }",
     "A layer: hyper-parameters in the first list, tensors in the second. Its body declares\n"
     "weights with `param`."},
    {"fn", "fn f(x) = x * 2",
     "A function; with a block, `fn f(x) { ... }`, its last expression is its value. Without\n"
     "a name it is a value: `x |> (fn(x) = x * 2)`."},
    {"metric", "metric A()(y_true, y_pred) { ... }",
     "A number measured over an epoch: `state` adds up what the batches give, the last\n"
     "expression is the result."},
    {"train", "train M { data = ... loss = ... optimizer = ... }",
     "How a model is trained: keys, each on a line of its own. Instead of `loss` and\n"
     "`optimizer` a `step` can say what a training step does."},
    {"step", "step(x: [batch, 8], target: [batch, 1]) { ... }",
     "A training step written out, in a block of `train`. Its parameters are columns of the\n"
     "data; `minimize` updates weights, `report` shows values. The model is an instance,\n"
     "`m = M()` at the top of the file."},
    {"minimize", "minimize loss over m with adam every 2",
     "In a `step`: updates the weights of `m`, an instance or a list of them, with an\n"
     "optimizer, so that the mean of `loss` falls. `every 2` does so in each second step."},
    {"report", "report loss, accuracy = acc(y, p)",
     "In a `step`: values that the program shows, averaged over the epoch."},
    {"param", "param w: [n, units] = GlorotUniform()",
     "In the body of a layer: a weight, with its shape and its initial value."},
    {"state", "state count: [] = Zeros()",
     "In a body: a value that stays from step to step and is not trained.\n"
     "`count <- count + 1` stores into it."},
    {"scan", "scan x_t in x along 1, h = start { h = f(h, x_t) }",
     "A loop over the slices of a tensor that carries values from round to round; `yield`\n"
     "collects a value of each round."},
    {"yield", "yield h", "In the body of a `scan`: a value of each round, stacked along the axis."},
    {"for", "for i in 0..4 { ... }",
     "Repeats its block at compile time, once for each item of a list or a range."},
    {"import", "import \"blocks.nn\"",
     "The declarations of another file. The library needs no import."},
    {"windows", "csv(...) |> windows(24, stride = 1)",
     "Behind a reader: rows of 24 consecutive ones, so that a column becomes [batch, 24]."},
};

/// Parameters of a builtin: "x, axis: axes = none".
std::vector<ParamEntry> parameters(const std::string &text) {
  std::vector<ParamEntry> out;
  if (text.empty() || text == "*") return out;
  size_t begin = 0;
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i <= text.size(); ++i) {
    char c = i < text.size() ? text[i] : ',';
    if (c == '"') quoted = !quoted;
    if (!quoted) depth += (c == '(' || c == '[') - (c == ')' || c == ']');
    if (c != ',' || ((depth > 0 || quoted) && i < text.size())) continue;
    std::string p = text.substr(begin, i - begin);
    begin = i + 1;
    auto trim = [](std::string s) {
      s.erase(0, std::min(s.find_first_not_of(' '), s.size()));
      s.erase(s.find_last_not_of(' ') + 1);
      return s;
    };
    ParamEntry e;
    size_t equals = p.find('='), colon = p.find(':');
    if (equals != p.npos) e.initial = trim(p.substr(equals + 1));
    if (colon < equals) e.type = trim(p.substr(colon + 1, std::min(equals, p.size()) - colon - 1));
    e.name = trim(p.substr(0, std::min({colon, equals, p.size()})));
    out.push_back(e);
  }
  return out;
}

std::vector<ParamEntry> parameters(const ParamList &list) {
  std::vector<ParamEntry> out;
  for (const Param &p : list.params)
    out.push_back({std::string(p.name.text), p.type ? print(*p.type) : "",
                   p.initial ? print(*p.initial) : ""});
  return out;
}

/// The title of a library file: the beginning of its first comment.
std::string title(std::string_view text) {
  std::string line(text.substr(0, text.find('\n')));
  line.erase(0, std::min(line.find_first_not_of("# "), line.size()));
  return line.substr(0,
                     std::min({line.find(". "), line.find(": "), line.find_last_not_of('.') + 1}));
}

} // namespace

std::string ParamEntry::text() const {
  return name + (type.empty() ? "" : ": " + type) + (initial.empty() ? "" : " = " + initial);
}

std::string firstSentence(const std::string &text) {
  std::string out;
  bool code = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i] == '\n' ? ' ' : text[i];
    if (c == '`') code = !code;
    out += c;
    // "et al. 2013" is no end.
    bool ends =
        !code && c == '.' && (i + 1 == text.size() || text[i + 1] == ' ' || text[i + 1] == '\n');
    if (ends && (out.size() < 4 || out.substr(out.size() - 4) != " al.")) break;
  }
  return out;
}

std::string Entry::summary() const { return firstSentence(doc); }

Entry entryOf(const Sources &sources, const Decl &decl) {
  Entry e;
  e.name = std::string(decl.name.text);
  e.kind = spelling(decl.declKind);
  e.doc = decl.doc;
  e.file = sources.name(decl.span.file);
  Position at = sources.position(decl.name.span);
  e.line = at.line;
  e.column = at.column;
  uint32_t end = decl.result ? decl.result->span.end : decl.params.back()->span.end;
  e.head = std::string(sources.text({decl.span.file, decl.span.begin, end}));
  for (const ParamList *list : decl.params) e.params.push_back(parameters(*list));
  if (decl.declKind == DeclKind::Fn) return e;
  e.implied = {{"name", "string", "none"}, {"trainable", "bool", "true"}};
  if (decl.declKind == DeclKind::Layer || decl.declKind == DeclKind::Model)
    e.implied.push_back({"dtype", "string", "none"});
  return e;
}

void Reference::add(Entry entry) {
  if (index_.emplace(entry.name, entries_.size()).second) entries_.push_back(std::move(entry));
}

const Reference &Reference::library() {
  static const Reference reference = [] {
    Reference r;
    Sources sources;
    Diagnostics diags(sources);
    for (const StdFile &f : stdFiles()) {
      auto tree = parse(sources, sources.add(f.name, f.text), diags);
      for (const Top *top : tree->tops) {
        if (top->kind != TopKind::Decl) continue;
        Entry e = entryOf(sources, as<Decl>(*top));
        e.group = title(f.text);
        r.add(std::move(e));
      }
    }
    // The library's hooks of every optimizer say what every optimizer takes.
    std::vector<ParamEntry> base;
    for (const Entry &hook : r.entries_)
      if (hook.kind == "fn" && hook.name.starts_with("optimizer_"))
        for (const ParamEntry &p : hook.params[0])
          if (std::none_of(base.begin(), base.end(), [&](auto &b) { return b.name == p.name; }))
            base.push_back(p);
    for (Entry &e : r.entries_)
      if (e.kind == "optimizer")
        for (const ParamEntry &p : base) {
          bool declared = std::any_of(e.params[0].begin(), e.params[0].end(),
                                      [&](auto &own) { return own.name == p.name; });
          if (!declared) e.implied.push_back(p);
        }
    for (const Row &b : kBuiltins) {
      Entry e{b.name, "builtin", std::string(b.name) + "(" + b.params + ")", b.doc, "", 0, 0, "",
              {},     {}};
      if (std::string(b.params) == "*") e.head = std::string(b.name) + "(...)";
      e.group = "Builtin functions";
      e.params = {parameters(std::string(b.params))};
      r.add(std::move(e));
    }
    for (const Row &k : kTrainKeys)
      r.add({k.name,
             "key",
             std::string(k.name) + " = ...",
             k.doc,
             "",
             0,
             0,
             "Keys of `train`",
             {},
             {}});
    for (const Row &w : kWords)
      r.add({w.name, "word", w.params, w.doc, "", 0, 0, "Words of the language", {}, {}});
    for (const Row &n : kNames) r.add({n.name, "name", n.name, n.doc, "", 0, 0, "Names", {}, {}});
    return r;
  }();
  return reference;
}

const Entry *Reference::find(std::string_view name) const {
  auto it = index_.find(name);
  return it == index_.end() ? nullptr : &entries_[it->second];
}

std::vector<std::string> Reference::names() const {
  std::vector<std::string> out;
  for (const Entry &e : entries_) out.push_back(e.name);
  return out;
}

} // namespace nnc::fe
