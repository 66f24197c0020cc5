// Between lexer and parser: which newlines count, and how deep the text nests.
//
//   y = concat([a,          newline dropped: inside `[`
//               b])
//     |> Dense(n) +         newline before `|>` dropped; after `+` dropped
//        1
//   -y                      newline kept: a statement of its own
//
// A newline ends a statement unless the innermost open bracket is `(` or `[`, or the token before
// it cannot end a statement, or the token after it cannot begin one. What is left after this pass
// has matching brackets and bounded nesting, so the recursive parser behind it cannot overflow its
// stack, and the text can be cut into top-level pieces that are parsed (and fail) on their own.
#pragma once

#include "frontend/diagnostics.h"
#include "frontend/source.h"

#include <string_view>
#include <vector>

namespace nnc::fe {

struct Token {
  uint32_t type = 0; // the lexer's number for the rule
  uint32_t begin = 0;
  uint32_t end = 0;
};

using Tokens = std::vector<Token>;

/// A range of tokens [begin, end).
struct TokenRange {
  size_t begin = 0;
  size_t end = 0;
};

struct Filtered {
  Tokens tokens;
  std::vector<TokenRange> lost; // of the raw tokens: left out after an error
  std::vector<Token> unopened;  // closing brackets that close nothing, left out and not reported
};

/// Drops newlines as above. Reports brackets that do not close and nesting that is too deep; such
/// a top-level piece is left out, up to the next declaration at the left margin. `quiet`: brackets
/// are known to be wrong (a string was not closed), do not report them again.
Filtered filterTokens(const Sources &sources, uint32_t file, const Tokens &raw, bool quiet,
                      Diagnostics &diags);
void reportUnopened(const Sources &sources, uint32_t file, const Token &token, Diagnostics &diags);

/// The top-level pieces: what stands between kept newlines outside all brackets.
std::vector<TokenRange> topLevel(std::string_view text, const Tokens &tokens);

/// The statement that a syntax error at token `at` belongs to: the tokens between the newlines
/// around it in the innermost block. Everything if it is in no block.
TokenRange statementAround(std::string_view text, const Tokens &tokens, size_t at);

} // namespace nnc::fe
