// Text -> tokens -> newline filter -> top-level pieces -> parse tree -> syntax tree.
//
// ANTLR's parser decides most with one token, in its cheap SLL mode; a piece that fails is read
// again in full LL mode, to be sure it is wrong and to learn where. Pieces are parsed one by one:
//
//   fn f(x) = x +* 1        error, reported; this piece is left out
//   fn g(x) { … }           parsed all the same
//
// Inside a piece the statement with the error is cut out and the piece read again, so that one run
// shows independent errors and no error follows from an earlier one. Limits (source size, nesting,
// height of expressions, number of errors) come before the recursion they protect.
//
// The parse tree becomes the syntax tree in build_ast.h, included here alone: this is the only
// translation unit that sees ANTLR.
#include "frontend/parse.h"
#include "frontend/build_ast.h"
#include "frontend/syntax_error.h"
#include "frontend/token_filter.h"

#include "NNLexer.h"
#include "NNParser.h"

#include <algorithm>
#include <cstdio>
#include <functional>

namespace nnc::fe {

using grammar::NNLexer;
using grammar::NNParser;

namespace {

// --- characters and tokens -----------------------------------------------------------------------

/// The text as ANTLR reads it, byte by byte: offsets stay byte offsets, and beyond ASCII only
/// strings and comments hold anything, whose rules take every byte.
class ByteStream : public antlr4::CharStream {
 public:
  explicit ByteStream(std::string_view text) : text_(text) {}
  void consume() override { ++at_; }
  size_t LA(ssize_t i) override {
    size_t at = i > 0 ? at_ + size_t(i) - 1 : at_ - size_t(-i);
    return i != 0 && at < text_.size() ? (unsigned char)text_[at] : size_t(EOF);
  }
  ssize_t mark() override { return -1; }
  void release(ssize_t) override {}
  size_t index() override { return at_; }
  void seek(size_t index) override { at_ = index; }
  size_t size() override { return text_.size(); }
  std::string getSourceName() const override { return ""; }
  std::string getText(const antlr4::misc::Interval &range) override {
    return std::string(text_.substr(size_t(range.a), size_t(range.b - range.a + 1)));
  }
  std::string toString() const override { return std::string(text_); }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

/// Length of the UTF-8 character at `at`, or 0 if the bytes are none (overlong and surrogate forms
/// included).
size_t characterLength(std::string_view text, size_t at) {
  auto byte = [&](size_t i) { return at + i < text.size() ? (unsigned char)text[at + i] : 0u; };
  unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xC0) != 0x80) return 0;
  unsigned second = byte(1);
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
      (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F))
    return 0;
  return length;
}

struct Lexed {
  Tokens tokens;          // with all newlines, without comments
  std::vector<Span> docs; // `##` comments
  std::vector<Span> comments; // these and all others
  bool unclosedString = false;
};

class Scanner {
 public:
  Scanner(const Sources &sources, uint32_t file, Diagnostics &diags)
      : text_(sources.text(file)), file_(file), diags_(diags), stream_(text_), lexer_(&stream_) {}

  Lexed run() {
    if (!checkText()) return {};
    if (text_.substr(0, 3) == "\xEF\xBB\xBF") stream_.seek(3); // a byte order mark is no text
    lexer_.removeErrorListeners();
    for (;;) {
      auto token = lexer_.nextToken();
      if (token->getType() == antlr4::Token::EOF) break;
      uint32_t begin = uint32_t(token->getStartIndex()), end = uint32_t(token->getStopIndex() + 1);
      if (token->getType() == NNLexer::COMMENT) {
        out_.comments.push_back({file_, begin, end});
        if (text_.substr(begin, 2) == "##") out_.docs.push_back({file_, begin, end});
        continue;
      }
      if (token->getType() == NNLexer::OTHER) end = unexpected(begin);
      out_.tokens.push_back({uint32_t(token->getType()), begin, end});
      if (diags_.full()) break;
    }
    return std::move(out_);
  }

 private:
  bool checkText() {
    if (text_.size() > kMaxSourceBytes) {
      diags_.report({file_, 0, 0}, Diag::SourceTooLarge,
                    {std::to_string(text_.size()), std::to_string(kMaxSourceBytes)});
      return false;
    }
    for (size_t i = 0, length; i < text_.size(); i += length) {
      length = characterLength(text_, i);
      if (length > 0) continue;
      char hex[8];
      std::snprintf(hex, sizeof hex, "0x%02X", (unsigned char)text_[i]);
      diags_.report({file_, uint32_t(i), uint32_t(i + 1)}, Diag::InvalidUtf8, {hex});
      return false;
    }
    return true;
  }

  /// A character that begins no token; returns where it ends. An error token stays in its place,
  /// so that the statement around it is dropped without a second message.
  uint32_t unexpected(uint32_t begin) {
    uint32_t end = uint32_t(begin + characterLength(text_, begin));
    if (text_[begin] == '"') {
      end = uint32_t(std::min(text_.find_first_of("\r\n", begin), text_.size()));
      diags_.report({file_, begin, end}, Diag::UnclosedString);
      out_.unclosedString = true;
    } else if (text_.substr(reportedTo_, begin - reportedTo_).find('\n') != text_.npos ||
               reportedTo_ == 0) { // one message per line: `'a'` is one mistake
      addHelp(begin,
              diags_.report({file_, begin, end}, Diag::UnexpectedCharacter, {shown(begin, end)}));
    }
    stream_.seek(end);
    return reportedTo_ = end;
  }

  std::string shown(uint32_t begin, uint32_t end) const {
    unsigned char c = (unsigned char)text_[begin];
    if (c >= 0x20 && c != 0x7F) return "`" + std::string(text_.substr(begin, end - begin)) + "`";
    char hex[8];
    std::snprintf(hex, sizeof hex, "0x%02X", c);
    return hex;
  }

  void addHelp(uint32_t begin, Diagnostic &report) {
    switch (text_[begin]) {
    case '\'': report.help("strings stand in double quotes"); break;
    case ';': report.help("statements end with their line"); break;
    case '!': report.help("write `not`"); break;
    case '&': report.help("write `and`"); break;
    case '?': report.help("write `if a { b } else { c }`"); break;
    case '^': report.help("the power operator is `**`"); break;
    default: {
      std::string_view quotes[] = {"\u201C", "\u201D", "\u2018", "\u2019", "\u00AB", "\u00BB"};
      for (std::string_view quote : quotes)
        if (text_.substr(begin, quote.size()) == quote) report.help("strings stand in `\"`");
    }
    }
  }

  std::string_view text_;
  uint32_t file_;
  Diagnostics &diags_;
  ByteStream stream_;
  NNLexer lexer_;
  Lexed out_;
  uint32_t reportedTo_ = 0; // the end of the last character that began no token
};

// --- parsing one piece ---------------------------------------------------------------------------

/// Thrown by the strategy below where the parser is stuck; never leaves this file.
struct Stuck {
  size_t at = 0;    // token
  size_t begin = 0; // first token of the decision that failed
  size_t rule = 0;
  bool undecided = false; // no alternative fits: `expected` holds what could begin one
  antlr4::misc::IntervalSet expected;
};

/// Stops at the first error and says where. `sync` looks for it at the heads of loops and options,
/// where the set of tokens that could follow is still whole.
class StopAtError : public antlr4::DefaultErrorStrategy {
 public:
  void reportError(antlr4::Parser *parser, const antlr4::RecognitionException &e) override {
    Stuck stuck = here(parser);
    stuck.at = stuck.begin = e.getOffendingToken()->getTokenIndex();
    if (auto *undecided = dynamic_cast<const antlr4::NoViableAltException *>(&e)) {
      stuck.begin = undecided->getStartToken()->getTokenIndex();
      stuck.undecided = true;
    }
    throw stuck;
  }
  antlr4::Token *recoverInline(antlr4::Parser *parser) override { throw here(parser); }
  void sync(antlr4::Parser *parser) override {
    const antlr4::atn::ATN &atn = parser->getATN();
    auto next = atn.nextTokens(atn.states[parser->getState()]);
    if (next.contains(antlr4::Token::EPSILON) || next.contains(parser->getTokenStream()->LA(1)))
      return;
    Stuck stuck = here(parser);
    stuck.expected = next;
    throw stuck;
  }

 private:
  static Stuck here(antlr4::Parser *parser) {
    Stuck stuck;
    stuck.at = stuck.begin = parser->getTokenStream()->index();
    stuck.rule = parser->getContext()->getRuleIndex();
    stuck.expected = parser->getExpectedTokens();
    return stuck;
  }
};

/// An ANTLR parser over some tokens, and everything it needs to live.
class PieceParser {
 public:
  using Rule = std::function<antlr4::ParserRuleContext *(NNParser &)>;

  PieceParser(std::string_view text, const Tokens &tokens, size_t begin = 0) : stream_(text) {
    std::vector<std::unique_ptr<antlr4::Token>> copies;
    auto add = [&](size_t type, size_t from, size_t to) {
      copies.push_back(std::make_unique<antlr4::CommonToken>(
          std::pair<antlr4::TokenSource *, antlr4::CharStream *>{nullptr, &stream_}, type,
          antlr4::Token::DEFAULT_CHANNEL, from, to));
    };
    for (size_t i = begin; i < tokens.size(); ++i)
      add(tokens[i].type, tokens[i].begin, tokens[i].end - 1);
    size_t end = tokens.empty() ? 0 : tokens.back().end;
    add(antlr4::Token::EOF, end, end - 1);
    source_ = std::make_unique<antlr4::ListTokenSource>(std::move(copies));
    buffer_ = std::make_unique<antlr4::CommonTokenStream>(source_.get());
    parser_ = std::make_unique<NNParser>(buffer_.get());
    parser_->removeErrorListeners();
    parser_->setErrorHandler(std::make_shared<StopAtError>());
  }

  /// The tree, or null and where it stopped.
  antlr4::ParserRuleContext *parse(const Rule &rule, Stuck &stuck) {
    auto *tree = attempt(rule, antlr4::atn::PredictionMode::SLL, stuck);
    return tree ? tree : attempt(rule, antlr4::atn::PredictionMode::LL, stuck);
  }

  /// The error as names instead of numbers.
  SyntaxError describe(const Stuck &stuck) const {
    SyntaxError error{stuck.at, parser_->getRuleNames()[stuck.rule], {}};
    const antlr4::dfa::Vocabulary &names = parser_->getVocabulary();
    for (ssize_t type : stuck.expected.toList()) {
      if (type == ssize_t(antlr4::Token::EOF)) {
        error.expected.insert("EOF");
        continue;
      }
      std::string literal = names.getLiteralName(size_t(type));
      bool quoted = literal.size() > 2 && size_t(type) != NNLexer::NL;
      error.expected.insert(quoted ? literal.substr(1, literal.size() - 2)
                                   : std::string(names.getSymbolicName(size_t(type))));
    }
    return error;
  }

 private:
  antlr4::ParserRuleContext *attempt(const Rule &rule, antlr4::atn::PredictionMode mode,
                                     Stuck &stuck) {
    parser_->reset();
    parser_->getInterpreter<antlr4::atn::ParserATNSimulator>()->setPredictionMode(mode);
    try {
      return rule(*parser_);
    } catch (const Stuck &s) {
      stuck = s;
      return nullptr;
    }
  }

  ByteStream stream_;
  std::unique_ptr<antlr4::ListTokenSource> source_;
  std::unique_ptr<antlr4::CommonTokenStream> buffer_;
  std::unique_ptr<NNParser> parser_;
};

/// Where a decision between several statements or declarations failed, the word that begins one
/// says which was meant: reads just that, for a precise message. `state x [n] = 0` is a
/// `paramStmt`.
/// So it is where such a word was taken for a name, and the next token did not fit: `param 3 = 0`.
Stuck refine(std::string_view text, const Tokens &tokens, Stuck stuck) {
  bool first = stuck.at == 1 || (stuck.at > 1 && (tokens[stuck.at - 2].type == NNLexer::NL ||
                                                  tokens[stuck.at - 2].type == NNLexer::LBRACE));
  if (!stuck.undecided && !first) return stuck;
  if (!stuck.undecided) stuck.begin = stuck.at - 1;
  if (stuck.begin >= tokens.size()) return stuck;
  PieceParser::Rule rule;
  switch (tokens[stuck.begin].type) {
  case NNLexer::PARAM:
  case NNLexer::STATE: rule = [](NNParser &p) { return p.paramStmt(); }; break;
  case NNLexer::REPORT: rule = [](NNParser &p) { return p.reportStmt(); }; break;
  case NNLexer::MINIMIZE: rule = [](NNParser &p) { return p.minimizeStmt(); }; break;
  case NNLexer::TRAIN: rule = [](NNParser &p) { return p.trainDecl(); }; break;
  case NNLexer::LAYER:
  case NNLexer::MODEL:
  case NNLexer::METRIC:
  case NNLexer::OPTIMIZER: rule = [](NNParser &p) { return p.decl(); }; break;
  default:
    if (!stuck.undecided || stuck.rule != NNParser::RuleTop) return stuck;
    rule = [](NNParser &p) { return p.binding(); };
  }
  Stuck precise;
  PieceParser parser(text, tokens, stuck.begin);
  if (parser.parse(rule, precise)) return stuck;
  precise.at += stuck.begin;
  return precise;
}

// --- a file --------------------------------------------------------------------------------------

constexpr size_t kMaxRecovery = 20000; // longer pieces are not read again after an error

class FileParser {
 public:
  FileParser(const Sources &sources, uint32_t file, Diagnostics &diags)
      : sources_(sources), file_(file), text_(sources.text(file)), diags_(diags) {}

  /// All tokens; brackets that close nothing are reported.
  Tokens tokens() {
    read();
    if (!lexed_.unclosedString)
      for (const Token &token : filtered_.unopened) reportUnopened(sources_, file_, token, diags_);
    return std::move(filtered_.tokens);
  }

  /// With comments, without newlines.
  std::vector<SourceToken> sourceTokens() {
    std::vector<SourceToken> out;
    bool newline = false;
    Tokens all = tokens();
    auto comment = comments_.begin();
    for (const Token &t : all) {
      if (t.type == NNLexer::NL) {
        newline = true;
        continue;
      }
      for (; comment != comments_.end() && comment->begin < t.begin; ++comment)
        out.push_back({SourceToken::Comment, comment->begin, comment->end, false});
      out.push_back({kindOf(t.type), t.begin, t.end, newline});
      newline = false;
    }
    for (; comment != comments_.end(); ++comment)
      out.push_back({SourceToken::Comment, comment->begin, comment->end, false});
    return out;
  }

  void parseInto(File &out) {
    read();
    Tokens all = std::move(filtered_.tokens);
    out.cutOff = (lexed_.tokens.empty() && diags_.hasErrors()) || diags_.full();
    for (TokenRange r : filtered_.lost)
      lose(out, Tokens(lexed_.tokens.begin() + long(r.begin), lexed_.tokens.begin() + long(r.end)));
    uint32_t above = 0; // end of the piece before: documentation stands behind it
    bool broken = false; // that piece
    std::vector<std::pair<uint32_t, bool>> ends; // of every piece, and whether it is broken
    for (TokenRange range : topLevel(text_, all)) {
      if (diags_.full()) return;
      Tokens piece(all.begin() + range.begin, all.begin() + range.end);
      uint32_t begin = piece.front().begin, end = piece.back().end;
      // Indented lines behind a broken piece belong to it: `def f(x):` and its body.
      bool indented = begin > 0 && text_[begin - 1] != '\n';
      if (!broken || !indented) {
        auto add = [&](NNParser::FileContext *tree, bool isBroken) {
          AstBuilder builder(sources_, file_, diags_, out);
          int before = diags_.errorCount();
          auto tops = builder.build(tree);
          isBroken |= diags_.errorCount() > before;
          for (Top *top : tops) {
            top->doc = documentation(above, begin);
            top->broken = isBroken;
            out.tops.push_back(top);
          }
          return !isBroken;
        };
        Tokens copy = piece;
        broken = !parsePiece(std::move(copy), add);
      }
      if (broken) lose(out, piece);
      ends.emplace_back(end, broken);
      above = end;
    }
    // A `}` behind a broken piece had its `{` there.
    for (const Token &token : filtered_.unopened) {
      bool explained = lexed_.unclosedString;
      for (auto [end, isBroken] : ends)
        if (end <= token.begin) explained = lexed_.unclosedString || isBroken;
      if (!explained) reportUnopened(sources_, file_, token, diags_);
    }
  }

  const Expr *parseExprInto(File &out) {
    Tokens all = tokens();
    if (diags_.hasErrors()) return nullptr;
    Stuck stuck;
    PieceParser parser(text_, all);
    auto *tree = parser.parse([](NNParser &p) { return p.single(); }, stuck);
    if (!tree) {
      reportSyntaxError(sources_, file_, all, parser.describe(stuck), diags_);
      return nullptr;
    }
    return AstBuilder(sources_, file_, diags_, out)
        .buildExpr(static_cast<NNParser::SingleContext *>(tree)->expr());
  }

 private:
  void read() {
    lexed_ = Scanner(sources_, file_, diags_).run();
    docs_ = std::move(lexed_.docs);
    comments_ = std::move(lexed_.comments);
    filtered_ = filterTokens(sources_, file_, lexed_.tokens, lexed_.unclosedString || diags_.full(),
                             diags_);
  }

  /// Remembers the names that tokens outside of the tree declare or bind.
  void lose(File &out, const Tokens &tokens) const {
    auto text = [&](size_t i) {
      return i < tokens.size() ? text_.substr(tokens[i].begin, tokens[i].end - tokens[i].begin)
                               : std::string_view();
    };
    for (size_t i = 0; i < tokens.size(); ++i) {
      std::string_view t = text(i);
      bool declares = t == "fn" || t == "layer" || t == "model" || t == "optimizer" ||
                      t == "metric" || t == "def" || t == "class";
      if (declares) out.lost.emplace(text(i + 1));
      if (text(i + 1) == "=" || text(i + 1) == ",") out.lost.emplace(t);
    }
  }

  /// Whether all of it is in the tree.
  template <class Add> bool parsePiece(Tokens piece, const Add &add) {
    bool broken = false;
    while (!piece.empty() && !diags_.full()) {
      PieceParser parser(text_, piece);
      Stuck stuck;
      if (auto *tree = parser.parse([](NNParser &p) { return p.file(); }, stuck))
        return add(static_cast<NNParser::FileContext *>(tree), broken);
      broken = true;
      stuck = refine(text_, piece, stuck);
      TokenRange bad = statementAround(text_, piece, stuck.at);
      bool reported = std::any_of(piece.begin() + bad.begin, piece.begin() + bad.end,
                                  [](const Token &t) { return t.type == NNLexer::OTHER; });
      if (!reported) reportSyntaxError(sources_, file_, piece, parser.describe(stuck), diags_);
      if (bad.begin == bad.end || piece.size() > kMaxRecovery) return false;
      piece.erase(piece.begin() + bad.begin, piece.begin() + bad.end);
    }
    return !broken;
  }

  /// The run of `##` lines that ends on the line right above `begin`.
  std::string documentation(uint32_t above, uint32_t begin) const {
    std::string doc;
    uint32_t line = sources_.position(file_, begin).line;
    auto at = std::lower_bound(docs_.begin(), docs_.end(), begin,
                               [](Span doc, uint32_t offset) { return doc.begin < offset; });
    while (at != docs_.begin()) {
      Span span = *--at;
      // Behind the piece above on its own line: a comment, not documentation.
      bool ownLine = sources_.position(file_, above).line < sources_.position(span).line || !above;
      if (sources_.position(span).line + 1 != line || span.begin < above || !ownLine) break;
      --line;
      std::string_view text = sources_.text(span).substr(2);
      if (!text.empty() && text[0] == ' ') text.remove_prefix(1);
      doc = std::string(text) + (doc.empty() && span.end + 2 > begin ? "" : "\n") + doc;
    }
    while (!doc.empty() && (doc.back() == '\n' || doc.back() == '\r')) doc.pop_back();
    return doc;
  }

  const Sources &sources_;
  uint32_t file_;
  std::string_view text_;
  Diagnostics &diags_;
  Lexed lexed_;
  Filtered filtered_;
  std::vector<Span> docs_, comments_;

  static SourceToken::Kind kindOf(size_t type) {
    if (type == NNLexer::NAME || (type >= NNLexer::LAYER && type <= NNLexer::AS))
      return SourceToken::Word;
    if (type >= NNLexer::FN && type <= NNLexer::NONE) return SourceToken::Reserved;
    if (type == NNLexer::INT || type == NNLexer::FLOAT) return SourceToken::Number;
    return type == NNLexer::STRING ? SourceToken::String : SourceToken::Symbol;
  }
};

} // namespace

std::unique_ptr<File> parse(const Sources &sources, uint32_t file, Diagnostics &diags) {
  auto out = std::make_unique<File>();
  out->file = file;
  FileParser(sources, file, diags).parseInto(*out);
  return out;
}

const Expr *parseExpr(const Sources &sources, uint32_t file, Diagnostics &diags, File &owner) {
  return FileParser(sources, file, diags).parseExprInto(owner);
}

std::vector<SourceToken> tokenize(const Sources &sources, uint32_t file, Diagnostics &diags) {
  return FileParser(sources, file, diags).sourceTokens();
}

std::string dumpTokens(const Sources &sources, uint32_t file, Diagnostics &diags) {
  std::string out;
  ByteStream empty("");
  NNLexer names(&empty);
  for (const Token &token : FileParser(sources, file, diags).tokens()) {
    Position at = sources.position(file, token.begin);
    char place[32];
    std::snprintf(place, sizeof place, "%5u:%-4u ", at.line, at.column);
    std::string name(names.getVocabulary().getSymbolicName(token.type));
    std::string text(sources.text({file, token.begin, token.end}));
    if (text == "\n") text = "\\n";
    out += place + name + std::string(name.size() < 12 ? 12 - name.size() : 1, ' ') + text + "\n";
  }
  return out;
}

} // namespace nnc::fe
