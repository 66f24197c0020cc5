#include "frontend/format_tokens.h"

#include "frontend/ast_walk.h"

#include <algorithm>
#include <utility>

namespace nnc::fe::fmt {

namespace {

class FactReader : public AstWalker {
 public:
  FactReader(std::string_view text, Facts &facts) : text_(text), facts_(facts) {}

  void top(const Top &t) override {
    if (t.kind == TopKind::Train) {
      facts_.keywords.insert(t.span.begin);
      facts_.trains.insert(t.span.begin);
    }
    AstWalker::top(t);
  }
  void stmt(const Stmt &s) override {
    if (s.kind == StmtKind::Minimize) {
      auto &m = as<MinimizeStmt>(s);
      facts_.keywords.insert(s.span.begin);
      word("over", m.loss->span.end, m.over[0]->span.begin);
      word("with", m.over.back()->span.end, m.optimizer->span.begin);
      if (m.every) word("every", m.optimizer->span.end, m.every->span.begin);
    }
    AstWalker::stmt(s);
  }
  void expr(const Expr &e) override {
    if (e.kind == ExprKind::Unary) facts_.signs.insert(e.span.begin);
    if (e.kind == ExprKind::If) facts_.ifs.insert(e.span.begin);
    if (e.kind == ExprKind::Binary) facts_.operators[as<BinaryExpr>(e).opSpan.begin] = level(e);
    if (e.kind == ExprKind::Scan)
      for (const ScanBind &b : as<ScanExpr>(e).binds)
        if (b.along && b.along->kind == ExprKind::Unary) facts_.signs.insert(b.along->span.begin);
    AstWalker::expr(e);
  }

 private:
  std::string_view text_;
  Facts &facts_;

  // Between two expressions only brackets, comments and the word itself stand.
  void word(std::string_view w, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i + w.size() <= to; ++i) {
      if (text_[i] == '#') i = uint32_t(std::min(text_.find('\n', i), text_.size()));
      if (text_.substr(i, w.size()) == w) {
        facts_.keywords.insert(i);
        return;
      }
    }
  }
  static int level(const Expr &e) {
    switch (as<BinaryExpr>(e).op) {
    case BinaryOp::Or: return 1;
    case BinaryOp::And: return 2;
    case BinaryOp::Less:
    case BinaryOp::LessEqual:
    case BinaryOp::Greater:
    case BinaryOp::GreaterEqual:
    case BinaryOp::Equal:
    case BinaryOp::NotEqual: return 3;
    case BinaryOp::Add:
    case BinaryOp::Sub: return 4;
    case BinaryOp::Mul:
    case BinaryOp::Div:
    case BinaryOp::FloorDiv:
    case BinaryOp::Mod:
    case BinaryOp::MatMul: return 5;
    case BinaryOp::Pow: return 6;
    }
    return 6;
  }
};

} // namespace

Facts readFacts(std::string_view text, const File &tree) {
  Facts facts;
  FactReader(text, facts).file(tree);
  return facts;
}

size_t columns(std::string_view text) {
  return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::vector<Tok> readTokens(std::string_view text, const std::vector<SourceToken> &source) {
  std::vector<Tok> out;
  std::vector<Comment> comments;
  uint32_t end = text.substr(0, 3) == "\xEF\xBB\xBF" ? 3 : 0;
  bool newline = false, blank = false;
  auto gap = [&](uint32_t begin) {
    auto lines = std::count(text.begin() + end, text.begin() + begin, '\n');
    newline = newline || lines > 0;
    blank = lines > 1;
  };
  auto take = [&](Tok t, uint32_t begin, uint32_t after) {
    gap(begin);
    t.newline = newline;
    t.blank = blank;
    t.leading = std::move(comments);
    comments.clear();
    newline = blank = false;
    end = after;
    out.push_back(std::move(t));
  };
  for (const SourceToken &s : source) {
    std::string_view t = text.substr(s.begin, s.end - s.begin);
    if (s.kind != SourceToken::Comment) {
      take({t, s.begin, s.kind, false, false, s.afterNewline, {}, {}}, s.begin, s.end);
      continue;
    }
    while (!t.empty() && (t.back() == ' ' || t.back() == '\t')) t.remove_suffix(1);
    gap(s.begin);
    if (!newline && !out.empty() && comments.empty())
      out.back().trailing = t;
    else
      comments.push_back({t, blank});
    newline = true; // at its end
    end = s.end;
  }
  take({"", uint32_t(text.size()), SourceToken::Symbol, false, false, true, {}, {}},
       uint32_t(text.size()), uint32_t(text.size()));
  out.back().blank = false;
  return out;
}

} // namespace nnc::fe::fmt
