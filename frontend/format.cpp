// Problem. A formatter must keep what the tree does not have (comments, parentheses, 20_000, blank
// lines) and the breaks that carry the author's meaning, and still give one form:
//
//   fn f( a,b:int=1 )={                fn f(a, b: int = 1) {
//     a|>g( # why                  ->    a |> g(  # why
//       b)}                                b
//                                        )
//                                      }
//
// Method. The tokens (format_tokens.h) become a shallow tree of their own (format_tree.h):
// sequences of tokens, brackets, blocks and `if` chains, each of which knows its width on one line,
// infinite if it cannot be on one. What fits is written on one line. What does not is broken at its
// weakest operator, a pipeline before every stage, brackets between items; the rest goes on in the
// column of the first item, or, if that is too far to the right or the author broke behind the
// bracket, two columns further than the line.
//
// A break that was made for width reads, the next time, as the author's: so that formatting twice
// is formatting once, every decision is taken alike for both; what is left is iterated. The result
// is read again, and must have the tokens and the tree of the source.
#include "frontend/format.h"

#include "frontend/format_tree.h"
#include "frontend/parse.h"
#include "frontend/print_ast.h"

#include <algorithm>
#include <utility>

namespace nnc::fe {

namespace fmt {
namespace {

constexpr size_t kWidth = 100;

class Formatter : Tree {
 public:
  using Tree::Tree;

  std::string run() {
    for (const Seq &s : tops_) statement(s, 0);
    line(0);
    put(toks_.size() - 1, 0);
    while (!out_.empty() && (out_.back() == '\n' || out_.back() == ' ')) out_.pop_back();
    if (!out_.empty()) out_ += '\n';
    alignComments();
    return std::move(out_);
  }

 private:
  // --- writing -----------------------------------------------------------------------------------

  std::string out_;
  size_t column_ = 0;
  size_t indent_ = 0;       // of the current line
  size_t base_ = 0;         // where the blocks of the current statement close
  bool inBrackets_ = false; // then they close where their line begins
  bool ended_ = false;      // a comment ended the line: nothing may follow on it
  bool wanted_ = false;     // the next token begins a line, there:
  size_t wantedIndent_ = 0, commentIndent_ = 0;
  std::vector<std::pair<size_t, size_t>> comments_; // of trailing ones: begin and end in `out_`

  size_t base() const { return inBrackets_ ? indent_ : base_; }

  void write(std::string_view t) {
    out_ += t;
    column_ += columns(t);
  }

  void newLine(size_t indent, bool blank) {
    if (!out_.empty()) out_ += blank ? "\n\n" : "\n";
    out_.append(indent, ' ');
    column_ = indent_ = indent;
    ended_ = false;
  }

  /// The next token begins a line; comments before it may stand elsewhere.
  void line(size_t indent) { line(indent, indent); }
  void line(size_t indent, size_t comments) {
    wanted_ = true;
    wantedIndent_ = indent;
    commentIndent_ = comments;
  }

  /// One token. `indent`: where a line begins that a comment makes necessary.
  void put(size_t i, size_t indent) {
    const Tok &t = toks_[i];
    if (!wanted_ && (ended_ || !t.leading.empty())) line(indent);
    if (wanted_) {
      wanted_ = false;
      bool inside = i > 0 && (opens(i - 1) || is(i - 1, "{")); // no empty line behind a bracket
      for (const Comment &c : t.leading) {
        newLine(commentIndent_, c.blankBefore && !inside);
        write(c.text);
        inside = false;
      }
      if (i + 1 == toks_.size()) return; // the end of the file
      newLine(wantedIndent_, t.blank && !closes(i) && !inside);
    } else if (spaced(i)) {
      write(" ");
    }
    write(t.text);
    if (t.trailing.empty()) return;
    size_t from = out_.size();
    out_ += "  ";
    out_ += t.trailing;
    comments_.push_back({from, out_.size()});
    ended_ = true;
  }

  /// Where token `i` would begin.
  size_t here(size_t i, size_t indent) const {
    if (wanted_) return wantedIndent_;
    return ended_ || !toks_[i].leading.empty() ? indent : column_ + spaced(i);
  }

  static bool fits(size_t column, size_t width) {
    return width < kNever && column + width <= kWidth;
  }

  void flat(const Node &n, size_t indent) {
    if (n.kind == Node::If) {
      for (const Arm &arm : n.arms) flatArm(arm, indent);
      return;
    }
    put(n.first, indent);
    if (n.kind == Node::Token) return;
    for (size_t i = 0; i < n.items.size(); ++i) {
      for (const Node &k : n.items[i].nodes) flat(k, indent);
      if (i < n.commas.size()) put(n.commas[i], indent);
    }
    put(n.last, indent);
  }

  void flatArm(const Arm &arm, size_t indent) {
    put(arm.word, indent);
    if (arm.inner != SIZE_MAX) put(arm.inner, indent);
    for (const Node &k : arm.condition.nodes) flat(k, indent);
    flat(arm.block[0], indent);
  }

  // --- statements --------------------------------------------------------------------------------

  void statement(const Seq &s, size_t indent) {
    base_ = indent;
    inBrackets_ = false;
    line(indent);
    if (indent == 0 && declares(s)) return declaration(s);
    bool weight = s.nodes.size() > 2 && s.nodes[1].kind == Node::Token &&
                  toks_[s.nodes[1].first].kind == SourceToken::Word &&
                  (isToken(s.nodes[0], "param") || isToken(s.nodes[0], "state"));
    parts(s, indent + (weight ? 6 : 2), indent + 2);
  }

  /// `key  = value` in a `train` block.
  void trainItem(const Seq &s, size_t indent, size_t width) {
    if (s.nodes.size() < 3 || !isToken(s.nodes[1], "=")) return statement(s, indent);
    base_ = indent;
    inBrackets_ = false;
    line(indent);
    put(s.nodes[0].first, indent);
    if (!ended_) write(std::string(width - s.nodes[0].width, ' '));
    put(s.nodes[1].first, indent + 2);
    if (breaksBefore(s, 2)) line(indent + 2);
    range(s, 2, s.nodes.size(), indent + 2, 0);
  }

  /// The head stays together if it can; else the lists of parameters are broken, the second one
  /// under the first, and the result stands on a line of its own.
  void declaration(const Seq &s) {
    size_t end = s.nodes.size(), body = 3;
    while (body < end && s.nodes[body].kind != Node::Block && !isToken(s.nodes[body], "=")) ++body;
    size_t k = 2;
    if (!fits(0, widthOf(s, 0, body) + 2)) {
      bool second = isToken2(s, 3, "(");
      node(s.nodes[0], 2, 0);
      node(s.nodes[1], 2, 0);
      size_t column = here(s.nodes[2].first, 2);
      node(s.nodes[2], 2, second ? 0 : s.nodes[3].kind == Node::Block ? 2 : 1);
      k = 3;
      if (second) {
        size_t lists = widthOf(s, 3, 4) + widthOf(s, 4, body) + 3;
        if (breaksBefore(s, 3) || !fits(column_, lists)) line(column);
        node(s.nodes[3], 2, 2);
        k = 4;
      }
      if (k < body && !fits(column_ + 1, widthOf(s, k, body) + 2)) line(2);
    } else {
      k = 0;
    }
    for (; k < body; ++k) node(s.nodes[k], 2, 2);
    if (body == end) return;
    if (s.nodes[body].kind == Node::Block) return elements(s, body, end, 2, 0);
    put(s.nodes[body].first, 2);
    size_t width = widthOf(s, body + 1, end);
    bool hugs = !fits(2, width) && weakest(s, body + 1, end) == 9;
    base_ = 0;
    if (breaksBefore(s, body + 1) || (!fits(column_ + 1, width) && !hugs)) {
      line(2);
      base_ = 2;
    }
    range(s, body + 1, end, base_ + 2, 0);
  }
  bool isToken2(const Seq &s, size_t k, std::string_view t) const {
    return k < s.nodes.size() && s.nodes[k].kind == Node::Group && is(s.nodes[k].first, t);
  }

  /// A statement as what stands between its commas outside brackets: `yield a, b`. What does not
  /// fit goes on at `indent`; inside the first of them at `inner`.
  void parts(const Seq &s, size_t indent, size_t inner) {
    size_t begin = 0, end = s.nodes.size();
    for (size_t k = 0; k < end; ++k) {
      if (k + 1 < end && !isToken(s.nodes[k], ",")) continue;
      size_t width = widthOf(s, begin, k + 1);
      if (begin > 0 &&
          (breaksBefore(s, begin) || (!fits(column_ + 1, width) && fits(indent, width))))
        line(indent);
      range(s, begin, k + 1, begin > 0 ? indent + 2 : inner, 0);
      begin = k + 1;
    }
  }

  /// The weakest operator of a part, 0 for a pipeline, 9 for none. In `fn(x) = e` and `y = e` that
  /// of `e`.
  int weakest(const Seq &s, size_t begin, size_t end) const {
    int level = 9;
    // An operand of `minimize` reads badly in two parts: its brackets break first.
    if (isToken(s.nodes[begin], "minimize") &&
        facts_.keywords.count(toks_[s.nodes[begin].first].begin))
      return level;
    for (size_t k = begin; k < end; ++k) {
      if (isToken(s.nodes[k], "|>")) return 0;
      if (isToken(s.nodes[k], "=") || isToken(s.nodes[k], "<-")) level = 9;
      if (isOperator(s.nodes[k])) level = std::min(level, precedence(s.nodes[k]));
    }
    return level;
  }
  int precedence(const Node &n) const { return facts_.operators.at(toks_[n.first].begin); }

  /// Nodes [begin, end) of a sequence; lines that must be broken go on at `indent`. `tail` columns
  /// must follow on the last line.
  void range(const Seq &s, size_t begin, size_t end, size_t indent, size_t tail) {
    if (begin == end) return;
    size_t column = here(s.nodes[begin].first, indent);
    if (fits(column, widthOf(s, begin, end) + tail)) {
      for (size_t k = begin; k < end; ++k) flat(s.nodes[k], indent);
      return;
    }
    // Where the author broke behind `=`.
    for (size_t k = begin + 1; k < end; ++k)
      if ((isToken(s.nodes[k - 1], "=") || isToken(s.nodes[k - 1], "<-")) && breaksBefore(s, k)) {
        range(s, begin, k, indent, 0);
        line(indent);
        size_t saved = std::exchange(base_, indent);
        range(s, k, end, indent + 2, tail);
        base_ = saved;
        return;
      }
    // The `for` of a comprehension, under its value.
    for (size_t k = begin + 1; k < end; ++k)
      if (isToken(s.nodes[k], "for") && toks_[s.nodes[k].first].kind == SourceToken::Reserved) {
        range(s, begin, k, indent, 0);
        size_t width = widthOf(s, k, end) + tail;
        if (breaksBefore(s, k) || (!fits(column_ + 1, width) && fits(column, width))) line(column);
        range(s, k, end, indent, tail);
        return;
      }
    int level = weakest(s, begin, end);
    if (level == 0) return pipeline(s, begin, end, indent, tail);
    if (level == 9) return elements(s, begin, end, indent, tail);
    size_t from = begin;
    for (size_t k = begin; k < end; ++k) {
      bool here = isOperator(s.nodes[k]) && precedence(s.nodes[k]) == level;
      if (!here && k + 1 < end) continue;
      if (from == begin && k + 1 == end) return elements(s, begin, end, indent, tail);
      size_t width = widthOf(s, from, k + 1) + (k + 1 == end ? tail : 0);
      if (from > begin &&
          (breaksBefore(s, from) || (!fits(column_ + 1, width) && fits(indent, width))))
        line(indent);
      operand(s, from, k + 1, indent, k + 1 == end ? tail : 0, here);
      from = k + 1;
    }
  }

  /// An operand and the operator behind it, which is no place to break the operand at.
  void operand(const Seq &s, size_t begin, size_t end, size_t indent, size_t tail, bool isOp) {
    if (!isOp) return range(s, begin, end, indent, tail);
    const Node &op = s.nodes[end - 1];
    range(s, begin, end - 1, indent, 1 + op.width);
    put(op.first, indent);
  }

  void pipeline(const Seq &s, size_t begin, size_t end, size_t indent, size_t tail) {
    size_t from = begin;
    bool first = true;
    for (size_t k = begin; k <= end; ++k) {
      if (k < end && !isToken(s.nodes[k], "|>")) continue;
      size_t behind = k == end ? tail : 0;
      if (from == begin) {
        range(s, from, k, indent, behind);
      } else {
        // `x |> f` on the first line if that puts the stage into the column of the others.
        size_t bar = s.nodes[from].first;
        bool stays = first && !ended_ && toks_[bar].leading.empty() && column_ + 1 == indent;
        if (!stays) line(indent);
        put(bar, indent);
        range(s, from + 1, k, indent + 3, behind);
        first = false;
      }
      from = k;
    }
  }

  /// Node by node; brackets and blocks are broken where they do not fit.
  void elements(const Seq &s, size_t begin, size_t end, size_t indent, size_t tail) {
    for (size_t k = begin; k < end; ++k) {
      size_t behind = 0, j = k + 1; // what follows up to where a line may end
      for (; j < end; ++j) {
        const Node &n = s.nodes[j];
        behind += spaced(n.first) + (n.kind == Node::Token ? n.width : n.kind == Node::If ? 2 : 1);
        if (n.kind != Node::Token) break;
      }
      if (k > begin && breaksBefore(s, k)) line(indent);
      node(s.nodes[k], indent, behind + (j == end ? tail : 0));
    }
  }

  void node(const Node &n, size_t indent, size_t tail) {
    if (fits(here(n.first, indent), n.width + tail)) return flat(n, indent);
    switch (n.kind) {
    case Node::Token: return put(n.first, indent);
    case Node::Group: return group(n, indent, tail);
    case Node::Block: return block(n, indent);
    case Node::If: return ifChain(n, indent, tail);
    }
  }

  // --- brackets ----------------------------------------------------------------------------------

  void group(const Node &n, size_t indent, size_t tail) {
    put(n.first, indent);
    const size_t begun = indent_;
    const bool hanging = hangs(n, begun + 2);
    const size_t inner = hanging ? begun + 2 : column_;
    const bool saved = std::exchange(inBrackets_, true);
    for (size_t i = 0; i < n.items.size(); ++i) {
      const Seq &s = n.items[i];
      const Tok &first = toks_[s.nodes[0].first];
      bool comma = i < n.commas.size(), last = i + 1 == n.items.size();
      size_t behind = comma ? 1 : 0;
      if (last && !hanging) behind += 1 + tail;
      size_t width = s.width + behind;
      bool breaks = ended_ || first.newline || !first.leading.empty();
      if (i == 0)
        breaks = hanging;
      else if (s.width < kNever)
        breaks = breaks || !fits(column_ + 1, width);
      else
        breaks = breaks || !fits(column_ + 1, lead(s));
      if (breaks) line(inner);
      range(s, 0, s.nodes.size(), here(s.nodes[0].first, inner) + 2, behind);
      if (comma) put(n.commas[i], inner);
    }
    if (hanging || (n.items.empty() && (ended_ || !toks_[n.last].leading.empty())))
      line(begun, begun + 2);
    else if (ended_ || !toks_[n.last].leading.empty())
      line(inner);
    put(n.last, inner);
    inBrackets_ = saved;
  }

  /// Whether the items stand on lines of their own, two columns further than the line of the
  /// bracket: as the author had it, or because they are too wide for the bracket's column.
  bool hangs(const Node &n, size_t indent) const {
    if (n.items.empty()) return false;
    const Tok &first = toks_[n.items[0].nodes[0].first];
    if (ended_ || first.newline || !first.leading.empty()) return true;
    if (n.items.size() == 1)
      for (const Node &k : n.items[0].nodes)
        if (k.kind != Node::Token) return false; // it breaks inside
    for (const Seq &s : n.items)
      if (s.width < kNever && !fits(column_, s.width + 1) && fits(indent, s.width + 1)) return true;
    return false;
  }

  /// Columns up to the first bracket of an item that cannot be on one line.
  size_t lead(const Seq &s) const {
    size_t width = 0;
    for (size_t k = 0; k < s.nodes.size(); ++k) {
      const Node &n = s.nodes[k];
      if (k > 0) width += spaced(n.first);
      if (n.width >= kNever) return width + 1;
      if (k > 0 && (breaksBefore(s, k) || !toks_[n.first].leading.empty())) return width;
      width += n.width;
    }
    return width;
  }

  // --- blocks ------------------------------------------------------------------------------------

  void block(const Node &n, size_t indent) {
    put(n.first, indent);
    const size_t outer = base(), inner = outer + 2;
    const size_t savedBase = base_;
    const bool savedBrackets = inBrackets_;
    size_t key = 0; // columns of the longest key of these lines
    for (size_t i = 0; i < n.items.size(); ++i) {
      if (!n.isTrain) {
        statement(n.items[i], inner);
        continue;
      }
      if (i == 0 || apart(n.items[i])) {
        key = 0;
        for (size_t j = i; j < n.items.size() && (j == i || !apart(n.items[j])); ++j)
          if (n.items[j].nodes.size() > 1 && isToken(n.items[j].nodes[1], "="))
            key = std::max(key, n.items[j].nodes[0].width);
      }
      trainItem(n.items[i], inner, key);
    }
    base_ = savedBase;
    inBrackets_ = savedBrackets;
    line(outer, inner);
    put(n.last, outer);
  }

  /// An empty line stands before it, or before its comments.
  bool apart(const Seq &s) const {
    const Tok &t = toks_[s.nodes[0].first];
    bool blank = t.blank;
    for (const Comment &c : t.leading) blank = blank || c.blankBefore;
    return blank;
  }

  /// Arms of one line each stand below each other; if one is longer, all are broken.
  void ifChain(const Node &n, size_t indent, size_t tail) {
    size_t column = here(n.first, indent);
    bool below = n.arms.size() > 1;
    for (const Arm &arm : n.arms) {
      size_t width = text(arm.word).size() + (arm.inner != SIZE_MAX ? 3 : 0);
      if (!arm.condition.nodes.empty()) width += 1 + arm.condition.width;
      width += 1 + arm.block[0].width + (&arm == &n.arms.back() ? tail : 0);
      below = below && fits(column, width) && plain(arm);
    }
    if (below) {
      for (const Arm &arm : n.arms) {
        if (&arm != &n.arms[0]) line(column);
        flatArm(arm, indent);
      }
      return;
    }
    for (const Arm &arm : n.arms) {
      put(arm.word, base());
      if (arm.inner != SIZE_MAX) put(arm.inner, base() + 2);
      range(arm.condition, 0, arm.condition.nodes.size(), base() + 4, 2);
      const Node &b = arm.block[0];
      if (b.items.empty() && b.width < kNever)
        flat(b, indent);
      else
        block(b, indent);
    }
  }

  /// No comment between the words, the condition and the block.
  bool plain(const Arm &arm) const {
    for (size_t i = arm.word; i < arm.block[0].first; ++i)
      if (!toks_[i].trailing.empty() || !toks_[i + 1].leading.empty()) return false;
    return true;
  }

  // --- comments ----------------------------------------------------------------------------------

  /// Comments behind the code of lines that follow each other get one column, if the page has it.
  void alignComments() {
    std::string text;
    size_t copied = 0;
    for (size_t i = 0; i < comments_.size();) {
      size_t j = i, widest = 0, longest = 0;
      for (; j < comments_.size(); ++j) {
        auto [from, to] = comments_[j];
        if (j > i && std::count(out_.begin() + long(comments_[j - 1].second),
                                out_.begin() + long(from), '\n') != 1)
          break;
        widest = std::max(widest, lineWidth(from));
        longest = std::max(longest, columns({out_.data() + from, to - from}));
      }
      bool aligned = widest + longest <= kWidth;
      for (; i < j; ++i) {
        auto [from, to] = comments_[i];
        text.append(out_, copied, from - copied);
        if (aligned) text.append(widest - lineWidth(from), ' ');
        copied = from;
      }
    }
    text.append(out_, copied);
    out_ = std::move(text);
  }

  size_t lineWidth(size_t end) const {
    size_t newline = out_.rfind('\n', end == 0 ? 0 : end - 1);
    size_t begin = newline == std::string::npos || end == 0 ? 0 : newline + 1;
    return columns({out_.data() + begin, end - begin});
  }
};

// --- the whole file ------------------------------------------------------------------------------

/// One text and what it means.
struct Read {
  Sources sources;
  Diagnostics diags{sources};
  std::vector<SourceToken> tokens;
  std::unique_ptr<File> tree;

  explicit Read(std::string text) {
    uint32_t id = sources.add("", std::move(text));
    tokens = tokenize(sources, id, diags);
    Diagnostics again(sources); // the parser reports the tokens' mistakes, too
    tree = parse(sources, id, again);
    ok = !diags.hasErrors() && !again.hasErrors();
  }
  bool ok = false;
};

std::string once(const Read &in) {
  std::string_view text = in.sources.text(0);
  Facts facts = readFacts(text, *in.tree);
  std::vector<Tok> toks = readTokens(text, in.tokens);
  return Formatter(toks, facts).run();
}

/// The same tokens with the same comments between them, and the same tree.
bool same(const Read &a, const Read &b) {
  auto text = [](const Read &r, const SourceToken &t) {
    std::string_view all = r.sources.text(0).substr(t.begin, t.end - t.begin);
    while (t.kind == SourceToken::Comment && (all.back() == ' ' || all.back() == '\t'))
      all.remove_suffix(1);
    return all;
  };
  return b.ok && a.tokens.size() == b.tokens.size() &&
         std::equal(
             a.tokens.begin(), a.tokens.end(), b.tokens.begin(),
             [&](auto &x, auto &y) { return x.kind == y.kind && text(a, x) == text(b, y); }) &&
         print(*a.tree) == print(*b.tree);
}

} // namespace
} // namespace fmt

std::optional<std::string> format(Sources &sources, uint32_t file, Diagnostics &diags) {
  parse(sources, file, diags);
  if (diags.hasErrors()) return std::nullopt;
  std::string text(sources.text(file));
  fmt::Read source(text);
  if (!source.ok) return std::nullopt;
  constexpr int kRounds = 8;
  for (int round = 0; round < kRounds; ++round) {
    fmt::Read in(text);
    std::string next = fmt::once(in);
    if (next == text) return text;
    if (next.size() > kMaxSourceBytes) {
      diags
          .report({file, 0, 0}, Diag::SourceTooLarge,
                  {std::to_string(next.size()), std::to_string(kMaxSourceBytes)})
          .note("in its formatted form, with two columns for each level of brackets");
      return std::nullopt;
    }
    fmt::Read out(next);
    if (!fmt::same(source, out)) break;
    text = std::move(next);
  }
  return std::nullopt; // the last guard: no text is known that comes here
}

} // namespace nnc::fe
