// `nnc fmt`: a file in its canonical form.
//
//   x|>Dense( 10,activation=relu ) # ten      ->     x |> Dense(10, activation = relu)  # ten
//
// Tokens, their order and every comment stay; spaces, indentation and alignment are the
// formatter's, and so are line breaks but for a few that are the author's choice. The rules are in
// docs/tools.md.
#pragma once

#include "frontend/diagnostics.h"

#include <optional>
#include <string>

namespace nnc::fe {

/// The formatted text; nothing, and messages, if the file has syntax errors or its formatted form
/// would be longer than a source may be. Nothing and no message if it could not be formatted
/// without changing what it means: none such is known.
std::optional<std::string> format(Sources &sources, uint32_t file, Diagnostics &diags);

} // namespace nnc::fe
