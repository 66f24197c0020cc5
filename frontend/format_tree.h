// The formatter's shallow tree, with widths. Private to format*.cpp.
//
//   y = x |> f(a, b)        a sequence: `y` `=` `x` `|>` `f` and a group of the items `a` and `b`
//   if p { a } else { b }   a sequence of one chain, whose arms are `if p { a }` and `else { b }`
//
// Problem: whether a line must be broken depends on how wide everything on it is, and where it may
// be broken depends on brackets. Method: statements and items are sequences, in which brackets,
// blocks and `if` chains are nodes and every other token is one, too. Each knows its width on one
// line, infinite if it cannot be on one: behind a comment, or where the author broke it at a place
// that is his to break (between items, stages of a pipeline, operands, after `=`, before `else`).
#pragma once

#include "frontend/format_tokens.h"

#include <cstddef>

namespace nnc::fe::fmt {

constexpr size_t kNever = 1u << 28; // the width of what cannot be on one line

struct Node;
struct Seq {
  std::vector<Node> nodes;
  size_t width = kNever;
};
struct Arm {
  size_t word = 0;         // `if` or `else`
  size_t inner = SIZE_MAX; // the `if` of `else if`
  Seq condition;           // empty: the last `else`
  std::vector<Node> block; // one
};
struct Node {
  enum Kind { Token, Group, Block, If } kind = Token;
  size_t first = 0, last = 0; // tokens
  std::vector<Seq> items;     // of a group or statements of a block
  std::vector<size_t> commas;
  std::vector<Arm> arms;
  size_t width = kNever;
  bool isTrain = false; // the block of a `train`
};

/// Of a whole file, and what its tokens mean where they stand. Keeps references to both arguments.
class Tree {
 public:
  Tree(const std::vector<Tok> &toks, const Facts &facts);

 protected:
  const std::vector<Tok> &toks_;
  const Facts &facts_;
  std::vector<Seq> tops_;

  std::string_view text(size_t i) const { return toks_[i].text; }
  bool is(size_t i, std::string_view t) const { return toks_[i].text == t; }
  bool opens(size_t i) const { return is(i, "(") || is(i, "["); }
  bool closes(size_t i) const { return is(i, ")") || is(i, "]") || is(i, "}"); }

  bool isToken(const Node &n, std::string_view t) const {
    return n.kind == Node::Token && is(n.first, t);
  }
  bool isOperator(const Node &n) const;
  /// `fn f(...)` and its like.
  bool declares(const Seq &s) const;

  /// Whether a space stands between tokens i - 1 and i on one line.
  bool spaced(size_t i) const;
  /// Of a part of a sequence on one line, without the space before it.
  size_t widthOf(const Seq &s, size_t begin, size_t end) const;
  /// A break of the author's that stays.
  bool breaksBefore(const Seq &s, size_t k) const;

 private:
  size_t at_ = 0;                    // while the tree is built
  std::string_view bracket_;         // the innermost open one, then
  std::unordered_set<size_t> slice_; // colons of `x[a:b]`

  Seq readSequence(bool isStatement, bool condition = false);
  Node readNode();
  Node readGroup();
  Node readBlock();
  Node readChain();

  bool beginsSecondList(const Seq &s) const;
  bool isSecondList(const Seq &s, size_t k) const;
  bool isOperand(size_t i) const;
};

} // namespace nnc::fe::fmt
