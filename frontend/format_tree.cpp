#include "frontend/format_tree.h"

#include <algorithm>
#include <utility>

namespace nnc::fe::fmt {

// --- building ------------------------------------------------------------------------------------

Tree::Tree(const std::vector<Tok> &toks, const Facts &facts) : toks_(toks), facts_(facts) {
  while (at_ + 1 < toks_.size()) {
    Seq s = readSequence(true);
    if (facts_.trains.count(toks_[s.nodes[0].first].begin) && s.nodes.back().kind == Node::Block)
      s.nodes.back().isTrain = true;
    tops_.push_back(std::move(s));
  }
}

/// A statement (ends where the filter ended it) or an item (ends at a comma or the bracket).
Seq Tree::readSequence(bool isStatement, bool condition) {
  Seq s;
  while (at_ + 1 < toks_.size() && !closes(at_)) {
    if (!isStatement && !condition && is(at_, ",")) break;
    // A second list of parameters may stand behind a newline that counts.
    if (isStatement && !s.nodes.empty() && toks_[at_].ends && !beginsSecondList(s)) break;
    if (condition && is(at_, "{")) break;
    if (is(at_, ":") && bracket_ == "[") slice_.insert(at_);
    s.nodes.push_back(readNode());
  }
  s.width = widthOf(s, 0, s.nodes.size());
  return s;
}

bool Tree::beginsSecondList(const Seq &s) const {
  return bracket_.empty() && s.nodes.size() == 3 && declares(s) && is(at_, "(");
}

Node Tree::readNode() {
  if (opens(at_)) return readGroup();
  if (is(at_, "{")) return readBlock();
  if (facts_.ifs.count(toks_[at_].begin)) return readChain();
  Node n;
  n.first = n.last = at_++;
  n.width = columns(text(n.first));
  return n;
}

Node Tree::readGroup() {
  Node n;
  n.kind = Node::Group;
  n.first = at_++;
  std::string_view saved = std::exchange(bracket_, text(n.first));
  while (!closes(at_)) {
    n.items.push_back(readSequence(false));
    if (is(at_, ",")) n.commas.push_back(at_++);
  }
  bracket_ = saved;
  n.last = at_++;
  n.width = 2;
  for (size_t i = 0; i < n.items.size(); ++i) {
    const Seq &s = n.items[i];
    size_t first = s.nodes[0].first;
    bool loose = toks_[first].newline || !toks_[first].leading.empty();
    n.width += loose ? kNever : s.width + (i > 0);
  }
  for (size_t comma : n.commas) n.width += 1 + (toks_[comma].leading.empty() ? 0 : kNever);
  for (size_t i = n.first; i < n.last; ++i)
    if (!toks_[i].trailing.empty()) n.width = kNever;
  if (!toks_[n.last].leading.empty()) n.width = kNever;
  n.width = std::min(n.width, kNever);
  return n;
}

Node Tree::readBlock() {
  Node n;
  n.kind = Node::Block;
  n.first = at_++;
  std::string_view saved = std::exchange(bracket_, "{");
  while (!is(at_, "}")) n.items.push_back(readSequence(true));
  bracket_ = saved;
  n.last = at_++;
  const Tok &close = toks_[n.last];
  bool oneLine = n.items.size() <= 1 && close.leading.empty();
  for (size_t i = n.first; i < n.last; ++i) oneLine = oneLine && toks_[i].trailing.empty();
  if (!n.items.empty()) {
    const Tok &first = toks_[n.items[0].nodes[0].first];
    oneLine = oneLine && !close.newline && !first.newline && first.leading.empty();
  }
  if (oneLine) n.width = n.items.empty() ? 3 : std::min(kNever, 4 + n.items[0].width);
  return n;
}

Node Tree::readChain() {
  Node n;
  n.kind = Node::If;
  n.first = at_;
  n.width = 0;
  while (true) {
    Arm arm;
    arm.word = at_++;
    bool last = arm.word != n.first && !is(at_, "if");
    size_t width = text(arm.word).size() + (arm.word != n.first);
    if (!last) {
      if (arm.word != n.first) arm.inner = at_++, width += 3;
      arm.condition = readSequence(false, true);
      width += 1 + arm.condition.width;
    }
    arm.block.push_back(readBlock());
    n.last = arm.block[0].last;
    width += 1 + arm.block[0].width;
    bool broken = arm.word != n.first && toks_[arm.word].newline;
    for (size_t i = arm.word; i < arm.block[0].first; ++i)
      broken = broken || !toks_[i].trailing.empty() || (i > n.first && !toks_[i].leading.empty());
    n.width = std::min(kNever, n.width + width + (broken ? kNever : 0));
    n.arms.push_back(std::move(arm));
    if (last || at_ + 1 >= toks_.size() || !is(at_, "else")) return n;
    if (!toks_[n.last].trailing.empty()) n.width = kNever;
  }
}

// --- spaces and widths ---------------------------------------------------------------------------

/// Whether something before `i` is left to an operator: then `-` is minus and `[` an index.
bool Tree::isOperand(size_t i) const {
  const Tok &t = toks_[i];
  if (facts_.keywords.count(t.begin)) return false;
  switch (t.kind) {
  case SourceToken::Word:
  case SourceToken::Number:
  case SourceToken::String: return true;
  case SourceToken::Reserved: return t.text == "true" || t.text == "false" || t.text == "none";
  case SourceToken::Symbol: return closes(i);
  case SourceToken::Comment: return false;
  }
  return false;
}

bool Tree::spaced(size_t i) const {
  size_t p = i - 1;
  std::string_view a = text(p), b = text(i);
  if (a == "(" || a == "[" || b == ")" || b == "]" || b == "," || b == ":" || b == ".")
    return b == ":" && a == ",";
  if (a == "," || b == "{" || a == "{" || b == "}") return true;
  if (a == "." || a == ".." || b == "..") return b == ".." && !isOperand(p);
  if (a == ":") return !slice_.count(p);
  if (a == "-" && facts_.signs.count(toks_[p].begin)) return false;
  if (b == "(" || b == "[") return !(isOperand(p) || a == "fn");
  return true;
}

size_t Tree::widthOf(const Seq &s, size_t begin, size_t end) const {
  size_t width = 0;
  for (size_t k = begin; k < end; ++k) {
    const Node &n = s.nodes[k];
    width += n.width;
    if (k > begin) {
      width += spaced(n.first);
      if (!toks_[n.first].leading.empty() || breaksBefore(s, k)) width += kNever;
      if (!toks_[s.nodes[k - 1].last].trailing.empty()) width += kNever;
    }
  }
  return std::min(width, kNever);
}

bool Tree::isOperator(const Node &n) const {
  return n.kind == Node::Token && facts_.operators.count(toks_[n.first].begin);
}

bool Tree::breaksBefore(const Seq &s, size_t k) const {
  const Node &n = s.nodes[k];
  const Tok &t = toks_[n.first];
  if (!t.newline) return false;
  const Node &before = s.nodes[k - 1];
  if (isToken(n, "|>")) return true;
  if (isOperator(before) || isToken(before, ",")) return true;
  if (isToken(before, "=") || isToken(before, "<-")) return true;
  if (n.kind == Node::Token && t.text == "for") return true; // of a comprehension
  return isSecondList(s, k);
}

/// `fn f(a)(b)`: the lists of a declaration are the first things in brackets.
bool Tree::isSecondList(const Seq &s, size_t k) const {
  return k == 3 && s.nodes[2].kind == Node::Group && s.nodes[3].kind == Node::Group &&
         is(s.nodes[3].first, "(") && is(s.nodes[2].first, "(") && declares(s);
}

bool Tree::declares(const Seq &s) const {
  static const std::unordered_set<std::string_view> words = {"fn", "layer", "model", "optimizer",
                                                             "metric"};
  return s.nodes.size() > 2 && s.nodes[0].kind == Node::Token &&
         words.count(text(s.nodes[0].first)) && s.nodes[1].kind == Node::Token &&
         (toks_[s.nodes[1].first].kind == SourceToken::Word);
}

} // namespace nnc::fe::fmt
