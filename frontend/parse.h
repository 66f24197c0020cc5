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

namespace nnc::fe {

/// Longest source text, in bytes.
inline constexpr uint32_t kMaxSourceBytes = 1u << 20;
/// Deepest nesting of brackets, `if`, `scan` and `fn`.
inline constexpr int kMaxNesting = 200;

/// The tree of one file; never null.
std::unique_ptr<File> parse(const Sources &sources, uint32_t file, Diagnostics &diags);

/// One expression alone (for `--set key=value` and tests); null after an error.
const Expr *parseExpr(const Sources &sources, uint32_t file, Diagnostics &diags, File &owner);

/// The tokens behind the newline filter, one per line: "3:9  NAME  `x`". For --emit=tokens.
std::string dumpTokens(const Sources &sources, uint32_t file, Diagnostics &diags);

} // namespace nnc::fe
