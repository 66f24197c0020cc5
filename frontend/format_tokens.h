// Tokens as the formatter needs them. Private to format*.cpp.
//
//   # why             a comment on its own line stays before `y`: leading
//   y = -x  # ten     `-` is a sign, not minus; one behind the code stays behind `x`: trailing
//
// Problem: the tree has neither comments nor line breaks, and the tokens alone do not say which
// `-` is a sign and which `over` a keyword. Method: every token takes what stands before it, and a
// comment behind it on its line; the tree is walked once for the places of the tokens it explains.
#pragma once

#include "frontend/ast.h"
#include "frontend/parse.h"

#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace nnc::fe::fmt {

/// What the tree knows about tokens, by where they begin.
struct Facts {
  std::unordered_set<uint32_t> signs, keywords, ifs, trains;
  std::unordered_map<uint32_t, int> operators; // precedence, weakest first
};
Facts readFacts(std::string_view text, const File &tree);

struct Comment {
  std::string_view text;
  bool blankBefore = false;
};

struct Tok {
  std::string_view text;
  uint32_t begin = 0;
  SourceToken::Kind kind = SourceToken::Symbol;
  bool newline = false;         // a line break of the author's before it
  bool blank = false;           // and an empty line right before it
  bool ends = false;            // a statement ends before it
  std::vector<Comment> leading; // on lines of their own before it
  std::string_view trailing;    // behind it, on its line
};

/// The last one is the end of the file: empty, with the comments before it.
std::vector<Tok> readTokens(std::string_view text, const std::vector<SourceToken> &source);

/// How many columns a text takes: characters, not bytes.
size_t columns(std::string_view text);

} // namespace nnc::fe::fmt
