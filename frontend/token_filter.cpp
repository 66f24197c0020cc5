// One stack holds the open brackets and, on top of them, the open `if`, `scan` and `fn`: each of
// those makes the parser recurse without any bracket of its own, until its block, the enclosing
// bracket, a comma that cannot be its own, or a kept newline ends it.
//
//   if fn(x) = x > 0 { a } else { b }       stack at `x > 0`:  if fn
//
// Tokens are told apart by their text, so that this file needs nothing of the generated lexer.
#include "frontend/token_filter.h"

#include "frontend/parse.h"

#include <algorithm>

namespace nnc::fe {

namespace {

std::string_view textOf(std::string_view text, const Token &token) {
  return text.substr(token.begin, token.end - token.begin);
}

bool oneOf(std::string_view token, std::initializer_list<std::string_view> set) {
  return std::find(set.begin(), set.end(), token) != set.end();
}

bool opens(std::string_view t) { return t == "(" || t == "[" || t == "{"; }
bool closes(std::string_view t) { return t == ")" || t == "]" || t == "}"; }
bool isKeyword(std::string_view t) { return t == "if" || t == "scan" || t == "fn"; }
bool isNewline(std::string_view t) { return t == "\n"; }

std::string_view closerOf(std::string_view open) {
  return open == "(" ? ")" : open == "[" ? "]" : "}";
}

/// A newline after one of these goes on.
bool goesOnAfter(std::string_view t) {
  return oneOf(t, {"+",  "-",  "*",  "/",   "//", "%", "@",  "**", "<", "<=", ">", ">=",
                   "==", "!=", "..", "and", "or", "=", "<-", "->", ",", "|>", "|", "in"});
}

/// A newline before one of these goes on.
bool goesOnBefore(std::string_view t) { return oneOf(t, {"|>", "else", "->", "{"}); }

class Filter {
 public:
  Filter(const Sources &sources, uint32_t file, bool quiet, Diagnostics &diags)
      : sources_(sources), file_(file), text_(sources.text(file)), quiet_(quiet), diags_(diags) {}

  Filtered run(const Tokens &raw) {
    out_.reserve(raw.size());
    for (size_t i = 0; i <= raw.size(); ++i) {
      if (i == raw.size() ? finish() : follow(raw[i], i)) continue;
      // Go on at the next declaration behind the beginning of what does not match.
      out_.resize(pieceBegin_);
      size_t next = pieceRaw_ + 1;
      while (next < raw.size() && !(next > pieceRaw_ && declares(raw[next]))) ++next;
      result_.lost.push_back({pieceRaw_, next});
      stack_.clear();
      suspects_.clear();
      pending_ = false;
      pieceRaw_ = next;
      i = next - 1;
      if (next >= raw.size()) break;
    }
    result_.tokens = std::move(out_);
    return std::move(result_);
  }

 private:
  struct Open {
    std::string_view text; // a bracket or a keyword
    Token token;
  };

  /// Takes one token; false after an error.
  bool follow(const Token &token, size_t index) {
    if (isNewline(textOf(text_, token))) {
      if (!pending_) newline_ = token; // a run of newlines is one
      pending_ = true;
      return true;
    }
    if (pending_) settleNewline(token, index);
    std::string_view t = textOf(text_, token);
    if (closes(t)) {
      endKeywords("");
      if (stack_.empty()) { // left out; it ends what stands before it
        result_.unopened.push_back(token);
        return true;
      }
    }
    if (!take(token)) return false;
    out_.push_back(token);
    return true;
  }

  /// Keeps or drops the newline before `next`.
  void settleNewline(const Token &next, size_t index) {
    pending_ = false;
    suspect(next);
    const Open *open = innermostBracket();
    if (out_.empty() || (open && open->text != "{")) return;
    std::string_view after = textOf(text_, next);
    if (goesOnAfter(textOf(text_, out_.back())) || goesOnBefore(after)) return;
    endKeywords("");
    out_.push_back(newline_);
    // Only a second parameter list begins with `(` at top level; it belongs to what is above.
    if (stack_.empty() && after != "(") {
      pieceBegin_ = out_.size();
      pieceRaw_ = index;
    }
  }

  /// A declaration at the left margin.
  bool declares(const Token &token) const {
    bool margin = token.begin == 0 || text_[token.begin - 1] == '\n';
    return margin && oneOf(textOf(text_, token),
                           {"fn", "layer", "model", "optimizer", "metric", "train", "import"});
  }

  /// A declaration at the left margin inside a block: if a bracket turns out to be left open, it
  /// is likely the one that is innermost here.
  void suspect(const Token &next) {
    const Open *open = innermostBracket();
    if (suspects_.empty() && declares(next) && open) suspects_ = {*open, {"", next}};
  }

  /// Follows one token on the stack; false after an error that ends the file.
  bool take(const Token &token) {
    std::string_view t = textOf(text_, token);
    if (isKeyword(t) || opens(t)) return push(t, token);
    // Arguments and items end at a comma; the names of a `scan` go on.
    if (t == ",") endKeywords("scan");
    return closes(t) ? close(t, token) : true;
  }

  bool push(std::string_view t, const Token &token) {
    stack_.push_back({t, token});
    if (stack_.size() <= size_t(kMaxNesting)) return true;
    diags_.report(spanOf(token), Diag::NestedTooDeep, {std::to_string(kMaxNesting)});
    return false;
  }

  bool close(std::string_view t, const Token &token) {
    if (closerOf(stack_.back().text) != t) return unclosed(token, "`" + std::string(t) + "`");
    stack_.pop_back();
    // The block of an `if`, `scan` or `fn` ends it.
    if (t == "}" && !stack_.empty() && isKeyword(stack_.back().text)) stack_.pop_back();
    return true;
  }

  bool unclosed(const Token &found, const std::string &what) {
    const Open &open = stack_.back();
    Position at = sources_.position(file_, open.token.begin);
    std::string place = std::to_string(at.line) + ":" + std::to_string(at.column);
    if (!quiet_)
      diags_
          .report(spanOf(found), Diag::UnclosedBracket,
                  {std::string(closerOf(open.text)), std::string(open.text), place, what})
          .label(spanOf(open.token), "opened here");
    return false;
  }

  bool finish() {
    endKeywords("");
    if (stack_.empty()) return true;
    if (!suspects_.empty()) {
      stack_.push_back(suspects_[0]);
      unclosed(suspects_[1].token, "`" + std::string(textOf(text_, suspects_[1].token)) + "`");
    } else {
      uint32_t end = out_.back().end;
      unclosed({0, end, end}, "the end of the file");
    }
    return false;
  }

  /// Ends the open `if`, `scan`, `fn` down to the innermost bracket, or to a `stop` keyword.
  void endKeywords(std::string_view stop) {
    while (!stack_.empty() && isKeyword(stack_.back().text) && stack_.back().text != stop)
      stack_.pop_back();
  }

  const Open *innermostBracket() const {
    for (auto it = stack_.rbegin(); it != stack_.rend(); ++it)
      if (opens(it->text)) return &*it;
    return nullptr;
  }

  Span spanOf(const Token &token) const { return {file_, token.begin, token.end}; }

  const Sources &sources_;
  uint32_t file_;
  std::string_view text_;
  bool quiet_;
  Diagnostics &diags_;
  Tokens out_;
  Filtered result_;
  std::vector<Open> stack_;
  Token newline_;
  bool pending_ = false;
  size_t pieceBegin_ = 0;      // of the current top-level piece, in `out_`
  size_t pieceRaw_ = 0;        // and among the raw tokens
  std::vector<Open> suspects_; // the open bracket and the declaration, or none
};

} // namespace

Filtered filterTokens(const Sources &sources, uint32_t file, const Tokens &raw, bool quiet,
                      Diagnostics &diags) {
  return Filter(sources, file, quiet, diags).run(raw);
}

void reportUnopened(const Sources &sources, uint32_t file, const Token &token, Diagnostics &diags) {
  diags.report({file, token.begin, token.end}, Diag::UnopenedBracket,
               {std::string(textOf(sources.text(file), token))});
}

std::vector<TokenRange> topLevel(std::string_view text, const Tokens &tokens) {
  std::vector<TokenRange> pieces;
  size_t begin = 0;
  int depth = 0;
  for (size_t i = 0; i <= tokens.size(); ++i) {
    std::string_view t = i < tokens.size() ? textOf(text, tokens[i]) : "\n";
    depth += opens(t) - closes(t);
    if (!isNewline(t) || (depth > 0 && i < tokens.size())) continue;
    bool secondList = i + 1 < tokens.size() && textOf(text, tokens[i + 1]) == "(";
    if (secondList && i > begin) continue;
    if (i > begin) pieces.push_back({begin, i});
    begin = i + 1;
  }
  return pieces;
}

TokenRange statementAround(std::string_view text, const Tokens &tokens, size_t at) {
  // Every open bracket before `at`, with the beginning of the current statement inside it.
  struct Level {
    std::string_view bracket;
    size_t statement;
  };
  auto kind = [&](size_t i) { return textOf(text, tokens[i]); };
  std::vector<Level> levels;
  for (size_t i = 0; i < std::min(at, tokens.size()); ++i) {
    std::string_view t = kind(i);
    if (opens(t)) levels.push_back({t, i + 1});
    if (closes(t) && !levels.empty()) levels.pop_back();
    if (isNewline(t) && !levels.empty()) levels.back().statement = i + 1;
  }
  // The innermost block; an empty one is part of the statement around it.
  while (!levels.empty() &&
         (levels.back().bracket != "{" || levels.back().statement >= at + 1 ||
          (levels.back().statement == at && at < tokens.size() && closes(kind(at)))))
    levels.pop_back();
  if (levels.empty()) return {0, tokens.size()};
  size_t begin = levels.back().statement, end = begin;
  for (int depth = 0; end < tokens.size(); ++end) {
    std::string_view t = kind(end);
    if (depth == 0 && (isNewline(t) || t == "}")) break;
    depth += opens(t) - closes(t);
  }
  return {begin, end};
}

} // namespace nnc::fe
