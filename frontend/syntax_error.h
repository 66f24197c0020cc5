// From "the parser is stuck" to a message a person would write.
//
//   x = Dense(10, activation relu)     expected `,` or `)`, found `relu`
//   if a = 1 { b }                     expected `{`, found `=`;  help: `==` compares
//
// The parser says where it stopped, in which rule, and which tokens it would have taken.
#pragma once

#include "frontend/token_filter.h"

#include <set>
#include <string>

namespace nnc::fe {

struct SyntaxError {
  size_t at = 0;                  // index of the token that did not fit
  std::string rule;               // grammar rule, as "params"
  std::set<std::string> expected; // "," or NAME, INT, FLOAT, STRING, NL, EOF
};

/// `tokens` are one top-level piece of the file, or all of it.
void reportSyntaxError(const Sources &sources, uint32_t file, const Tokens &tokens,
                       const SyntaxError &error, Diagnostics &diags);

} // namespace nnc::fe
