// Text to syntax tree.
//
//   Sources sources;
//   Diagnostics diags(sources);
//   auto file = parse(sources, *sources.load("model.nn"), diags);
//   if (diags.hasErrors()) std::cerr << diags.render();
//
// Never fails and never crashes, whatever the text: what could not be parsed is reported and left
// out of the tree, so errors of later declarations and of later stages still show in the same run.
#pragma once

#include "frontend/ast.h"
#include "frontend/diagnostics.h"

#include <memory>
#include <string>
#include <vector>

namespace nnc::fe {

/// Longest source text, in bytes.
inline constexpr uint32_t kMaxSourceBytes = 1u << 20;
/// Deepest nesting of brackets, `if`, `scan` and `fn`.
inline constexpr int kMaxNesting = 200;

/// The tree of one file; never null.
std::unique_ptr<File> parse(const Sources &sources, uint32_t file, Diagnostics &diags);

/// One expression alone (for `--set key=value` and tests); null after an error.
const Expr *parseExpr(const Sources &sources, uint32_t file, Diagnostics &diags, File &owner);

/// A token of the text as written; newlines and white space are left out, comments are not.
struct SourceToken {
  enum Kind : uint8_t { Word, Reserved, Number, String, Symbol, Comment };
  Kind kind = Symbol;
  uint32_t begin = 0;
  uint32_t end = 0;
  /// A newline that ends a statement stands between the token before and this one.
  bool afterNewline = false;
};

/// All tokens of a file, for the formatter and editors. Reports what is no token.
std::vector<SourceToken> tokenize(const Sources &sources, uint32_t file, Diagnostics &diags);

/// The tokens behind the newline filter, one per line: "3:9  NAME  `x`". For --emit=tokens.
std::string dumpTokens(const Sources &sources, uint32_t file, Diagnostics &diags);

} // namespace nnc::fe
