// What the fuzzers call with every text: it must come back, whatever the text.
#pragma once
#include <string_view>

namespace nnc::fuzz {

/// Lexes, parses and elaborates a program, draws its messages in all forms, and verifies the
/// module.
void language(std::string_view text);

/// Parses textual IR, verifies it, prints and parses it again, runs the passes, and interprets what
/// is small enough.
void ir(std::string_view text);

} // namespace nnc::fuzz
