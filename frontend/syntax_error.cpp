// Method: known mistakes first (a number like `1.`, a reserved word as a name, a keyword of another
// language), each with its own wording; else "expected A, B or C, found D", where sets of tokens
// that all begin one thing are named by that thing ("an expression", "a type").
#include "frontend/syntax_error.h"

#include "frontend/foreign.h"

#include <algorithm>
#include <cctype>

namespace nnc::fe {

namespace {

using Set = std::set<std::string>;

constexpr const char *kSoftKeywords[] = {"layer", "model", "optimizer", "metric",   "train", "step",
                                         "param", "state", "report",    "minimize", "over",  "with",
                                         "every", "along", "gradient",  "as"};
constexpr const char *kReserved[] = {"fn",     "if",  "else", "for", "in",   "scan",  "yield",
                                     "import", "and", "or",   "not", "true", "false", "none"};

bool isReserved(std::string_view text) {
  return std::find(std::begin(kReserved), std::end(kReserved), text) != std::end(kReserved);
}

/// What a block of this rule holds, for errors that stand where anything of it could begin.
std::string contentOf(const std::string &rule) {
  if (rule == "file" || rule == "top") return "a declaration, `name = value` or `train`";
  if (rule == "block" || rule == "stmt") return "a statement";
  if (rule == "trainDecl" || rule == "trainItem") return "`key = value` or `step(...)`";
  if (rule == "params" || rule == "param") return "a parameter";
  if (rule == "atype" || rule == "tfield") return "a type";
  if (rule == "dims") return "a dimension";
  if (rule == "call" || rule == "arg" || rule == "list" || rule == "tuple" || rule == "indices" ||
      rule == "index")
    return "an expression";
  return "";
}

/// Takes the tokens that begin an expression, a type or a name out of the set; says what they were.
std::vector<std::string> takeGroups(Set &set) {
  std::vector<std::string> groups;
  bool hasName = set.count("NAME");
  if (hasName)
    for (const char *word : kSoftKeywords) set.erase(word);
  auto take = [&](const char *name, std::initializer_list<const char *> tokens) {
    groups.push_back(name);
    for (const char *token : tokens) set.erase(token);
  };
  if (set.count("FLOAT") && hasName)
    take("an expression", {"NAME", "INT", "FLOAT", "STRING", "true", "false", "none", "(", "[", "-",
                           "not", "if", "scan", "fn", "..", "...", ":"});
  else if (set.count("fn") && set.count("none") && hasName)
    take("a type", {"NAME", "fn", "none", "STRING", "(", "["});
  else if (hasName)
    take("a name", {"NAME"});
  if (set.count("+") && set.count("*")) {
    for (const char *op : {"+",  "-",  "*",  "/",  "//",  "%",  "@",  "**", "<", "<=", ">",
                           ">=", "==", "!=", "..", "and", "or", "|>", "(",  "[", "."})
      set.erase(op);
    groups.push_back("an operator");
  }
  return groups;
}

std::string joinOr(const std::vector<std::string> &parts) {
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i)
    out += (i == 0 ? "" : i + 1 == parts.size() ? " or " : ", ") + parts[i];
  return out;
}

std::string describeExpected(Set set) {
  std::vector<std::string> parts = takeGroups(set);
  bool newline = set.erase("NL");
  set.erase("EOF"); // the end of the file is as good as the end of the line
  if (set.erase(",")) parts.push_back("`,`"); // before what closes
  for (const std::string &token : set)
    parts.push_back(token == "STRING" ? "a string"
                    : token == "INT"  ? "an integer"
                                      : "`" + token + "`");
  if (newline && parts.empty())
    parts.push_back("the end of the line");
  else if (newline)
    parts.push_back("a new line");
  return parts.empty() ? "the end of the file" : joinOr(parts);
}

class Reporter {
 public:
  Reporter(const Sources &sources, uint32_t file, const Tokens &tokens, const SyntaxError &error,
           Diagnostics &diags)
      : sources_(sources), file_(file), text_(sources.text(file)), tokens_(tokens), error_(error),
        diags_(diags) {}

  void run() {
    bool known = malformedNumber() || reservedName() || foreignStatement() || calledAtTop() ||
                 unclosedOverLines();
    if (known) return;
    std::string expected =
        contentFirst() ? contentOf(error_.rule) : describeExpected(error_.expected);
    addHelp(diags_.report(place(), Diag::ExpectedFound, {expected, found()}));
  }

 private:
  std::string_view textAt(size_t i) const {
    return i < tokens_.size() ? text_.substr(tokens_[i].begin, tokens_[i].end - tokens_[i].begin)
                              : std::string_view();
  }
  std::string_view here() const { return textAt(error_.at); }
  std::string_view before() const { return error_.at > 0 ? textAt(error_.at - 1) : ""; }
  bool atEnd() const { return error_.at >= tokens_.size() || here() == "\n"; }
  bool touches(size_t i) const { // token i ends where the next begins
    return i + 1 < tokens_.size() && tokens_[i].end == tokens_[i + 1].begin;
  }
  static bool isDigits(std::string_view t) {
    return !t.empty() && t.find_first_not_of("0123456789_") == t.npos;
  }
  static bool isWord(std::string_view t) {
    return !t.empty() && (std::isalpha((unsigned char)t[0]) || t[0] == '_');
  }

  /// The offending token; for a line that ends too early the place right behind its last token.
  Span place() const {
    if (!atEnd()) return {file_, tokens_[error_.at].begin, tokens_[error_.at].end};
    if (error_.at == 0) return {file_, 0, 0};
    uint32_t end = tokens_[error_.at - 1].end;
    return {file_, end, end};
  }

  std::string found() const {
    if (error_.at >= tokens_.size())
      return error_.at == 0 || tokens_.back().end >= text_.size() ? "the end of the file"
                                                                  : "the end of the line";
    if (here() == "\n") return "the end of the line";
    std::string text(here().substr(0, 40));
    return "`" + text + (here().size() > 40 ? "..." : "") + "`";
  }

  /// Nothing of a list of things begins like this: name the thing, not all its first tokens.
  bool contentFirst() const {
    if (contentOf(error_.rule).empty()) return false;
    return before() == "\n" || before() == "{" || error_.at == 0 || error_.expected.empty() ||
           (before() == "," && !error_.expected.count("NAME"));
  }

  bool malformedNumber() {
    size_t at = error_.at;
    bool endsInDot = at >= 2 && before() == "." && isDigits(textAt(at - 2)) && touches(at - 2);
    bool beginsWithDot = here() == "." && isDigits(textAt(at + 1)) && touches(at);
    if (!endsInDot && !beginsWithDot) return false;
    Span span = endsInDot ? Span{file_, tokens_[at - 2].begin, tokens_[at - 1].end}
                          : Span{file_, tokens_[at].begin, tokens_[at + 1].end};
    std::string text(sources_.text(span));
    diags_.report(span, Diag::MalformedNumber)
        .help("write `" + (endsInDot ? text + "0`" : "0" + text + "`"));
    return true;
  }

  bool reservedName() {
    Set rest = error_.expected;
    std::vector<std::string> groups = takeGroups(rest);
    bool wantsName = groups.size() == 1 && groups[0] == "a name";
    bool isTarget = before() == "\n" || before() == "{" || error_.at == 0;
    if (!isReserved(here()) || !(wantsName || (isTarget && textAt(error_.at + 1) == "=")))
      return false;
    diags_.report(place(), Diag::ReservedName, {std::string(here())});
    return true;
  }

  /// `return x`, `while c`, `def f` …: a word of another language begins this statement.
  bool foreignStatement() {
    if (error_.at == 0 || !isWord(before())) return false;
    size_t first = error_.at - 1;
    bool begins = first == 0 || textAt(first - 1) == "\n" || textAt(first - 1) == "{";
    if (!begins) return false;
    Span span{file_, tokens_[first].begin, tokens_[first].end};
    std::string word(before());
    if (word == "while") {
      diags_.report(span, Diag::NoWhile).help("`for` is unrolled, `scan` loops over data");
      return true;
    }
    const ForeignRow *row = foreign(Foreign::Word, word);
    if (!row || here() == "=") return false;
    diags_.report(span, Diag::UnknownStatement, {word}).help(row->advice);
    return true;
  }

  /// `model.fit(x, y)` among the declarations.
  bool calledAtTop() {
    bool top = error_.rule == "file" || error_.rule == "top" || error_.rule == "binding";
    bool call = error_.at == 1 && before() != "gradient" && isWord(before()) &&
                (here() == "." || (top && here() == "("));
    if (!call) return false;
    uint32_t end = tokens_[error_.at].end;
    if (error_.at + 1 < tokens_.size() && isWord(textAt(error_.at + 1)))
      end = tokens_[error_.at + 1].end;
    std::string_view method = textAt(error_.at + 1);
    auto &d = diags_.report({file_, tokens_[0].begin, end}, Diag::ExpectedFound,
                            {"a declaration, `name = value` or `train`", "a call"});
    if (here() == "." && (method == "compile" || method == "fit"))
      d.help("data, loss, optimizer and metrics stand in one block: `train " +
             std::string(before()) + " { data = ... loss = ... optimizer = ... }`");
    else if (here() == "." && (method == "evaluate" || method == "predict" || method == "summary" ||
                               method == "save"))
      d.help("the compiled program does that: `./model " + std::string(method) + "`");
    else if (here() == "." && method == "adapt")
      d.help("a layer that adapts to the training data does so by itself, before the first step");
    else if (here() == "." && (method == "load_weights" || method == "load"))
      d.help("`load(\"m.safetensors\", M())` is the model `M` with weights that training saved");
    else if (here() == "." && method == "add")
      d.help("layers follow one another in a body: `x |> Dense(300) |> Dense(10)`");
    else
      d.help("nothing runs at the top level of a file: calls stand in bodies and behind `=`");
    return true;
  }

  /// The line ended inside a bracket and the next one does not go on: the bracket is the mistake.
  bool unclosedOverLines() {
    std::string closer = error_.expected.count(")") ? ")" : error_.expected.count("]") ? "]" : "";
    if (closer.empty() || atEnd() || error_.at == 0) return false;
    std::string_view between = text_.substr(tokens_[error_.at - 1].end,
                                            tokens_[error_.at].begin - tokens_[error_.at - 1].end);
    if (between.find('\n') == between.npos) return false;
    int depth = 0;
    for (size_t i = error_.at; i-- > 0;) {
      std::string_view t = textAt(i);
      depth += (t == ")" || t == "]" || t == "}") - (t == "(" || t == "[" || t == "{");
      if (depth >= 0) continue;
      Position open = sources_.position(file_, tokens_[i].begin);
      std::string at = std::to_string(open.line) + ":" + std::to_string(open.column);
      diags_.report(place(), Diag::UnclosedBracket, {closer, std::string(t), at, found()})
          .label({file_, tokens_[i].begin, tokens_[i].end}, "opened here");
      return true;
    }
    return false;
  }

  bool expects(const char *token) const { return error_.expected.count(token) > 0; }
  bool beginsStatement() const { return error_.at == 0 || before() == "\n" || before() == "{"; }

  void addHelp(Diagnostic &d) {
    std::string_view t = here(), p = before(), next = textAt(error_.at + 1);
    bool inTrain = error_.rule == "trainDecl" || error_.rule == "trainItem";
    const bool second = error_.at > 0 && (error_.at == 1 || textAt(error_.at - 2) == "\n" ||
                                          textAt(error_.at - 2) == "{");
    if ((t == "//" || t == "/") && beginsStatement()) {
      d.help("comments begin with `#`");
    } else if (t == ":" && next == "=") {
      d.help("a name is bound by `=`");
    } else if (t == ":" && expects("{")) {
      d.help("blocks stand in `{ ... }`, how lines are indented does not count");
    } else if (t == ":" && inTrain) {
      d.help("write `" + std::string(p) + " = " + std::string(next) + "`");
    } else if (t == ":" && expects(")")) {
      d.help("a range is `0..6`, an argument by name `name = value`");
    } else if (t == ":" && second && isWord(p)) {
      d.help("a value is given by `=`: `" + std::string(p) + " = " + std::string(next) +
             (textAt(error_.at + 2) == "(" ? "(...)`" : "`"));
    } else if (t == "{" && (textAt(error_.at + 2) == ":" || next == "}") && expects("FLOAT")) {
      const ForeignRow *key = p == "=" ? foreign(Foreign::Key, textAt(error_.at - 2)) : nullptr;
      d.help("there are no dictionaries" +
             (key && *key->advice ? std::string(": ") + key->advice
                                  : std::string(": values with names are `(a = 1, b = 2)`")));
    } else if (!inTrain && second && isWord(t) &&
               (p == "loss" || p == "activation" || p == "initializer" || p == "regularizer" ||
                p == "constraint" || p == "schedule")) {
      d.help("it is a function: `fn " + std::string(t) +
             (p == "loss" ? "(y_true, y_pred) { ... }`" : "(x) { ... }`"));
    } else if (t == "," && inTrain) {
      d.help("keys stand on lines of their own, without commas");
    } else if (t == "," && expects("NL") && next == "\n") {
      d.help("statements end with their line, without a comma");
    } else if (p == "import" && isWord(t)) {
      d.help("the library needs no import; a file of one's own is `import \"blocks.nn\"`");
    } else if (p == "scan" && t == "(") {
      d.help("a loop over data is `scan x_t in x along 1, h = start { h = f(h, x_t) }`");
    } else if (p == "lambda") {
      d.help("a function without a name is `fn(" + std::string(t) + ") = ...`");
    } else if (t == "elif" || t == "elseif") {
      d.help("write `else if`");
    } else if (t == ">" && p == "=") {
      d.help("the type of the result stands behind `->`");
    } else if (t == ">" && p == ">") {
      d.help("`|>` hands a value to a layer");
    } else if (t == "->" && expects("NL")) {
      d.help("`|>` hands a value to a layer");
    } else if (atEnd() && expects("{") && expects("->")) {
      d.help("the body stands in `{ ... }` or behind `=`");
    } else if ((error_.rule == "params" || error_.rule == "param") && isWord(p) && !isReserved(p) &&
               isWord(t)) {
      d.help("a type stands behind `:`, as in `" + std::string(p) + ": " + std::string(t) + "`");
    } else if (expects(",") && (expects(")") || expects("]")) &&
               (isWord(t) || isDigits(t) || t.starts_with('"')) &&
               (isWord(p) || isDigits(p) || p == ")" || p == "]" || p.ends_with('"'))) {
      d.help("a comma separates arguments and items");
    } else {
      addHelpForOperators(d);
    }
  }

  void addHelpForOperators(Diagnostic &d) {
    std::string_view t = here(), p = before();
    if (t == "=" && (p == "+" || p == "-" || p == "*" || p == "/"))
      d.help("names are not updated in place, write `x = x " + std::string(p) + " ...`");
    else if (t == "=" && error_.expected.count("{"))
      d.help("`==` compares");
    else if (t == "|")
      d.help("`|>` hands a value to a layer, `or` is the logical operator");
    else if (t == "else" && error_.expected.count("NL"))
      d.help("`if` needs a block `{ ... }`");
    else if (t == "if" && error_.expected.count("NL"))
      d.help("a choice is `if c { a } else { b }`");
    else if (p == "gradient")
      d.help("a gradient rule follows the `}` of its function on the same line");
    else if (t == "fn" && error_.expected.count("FLOAT"))
      d.help("put the lambda into parentheses");
  }

  const Sources &sources_;
  uint32_t file_;
  std::string_view text_;
  const Tokens &tokens_;
  const SyntaxError &error_;
  Diagnostics &diags_;
};

} // namespace

void reportSyntaxError(const Sources &sources, uint32_t file, const Tokens &tokens,
                       const SyntaxError &error, Diagnostics &diags) {
  Reporter(sources, file, tokens, error, diags).run();
}

} // namespace nnc::fe
