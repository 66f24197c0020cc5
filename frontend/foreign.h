// Names and forms that users bring along from Keras, PyTorch, NumPy and Python.
//
//   Adam(lr = 0.1)   ->   help: did you mean `learning_rate`?
#pragma once
#include "frontend/diagnostics.h"
#include <string_view>
#include <vector>

namespace nnc::fe {

enum class Foreign { Name, Argument, Key, Text, Word, Stage };

struct ForeignRow {
  Foreign kind;
  const char *theirs, *ours, *advice;
};
/// The row about a name, or null.
const ForeignRow *foreign(Foreign kind, std::string_view theirs);

/// Adds what helps with an unknown name: the row of the table (`ours` only if it is among the
/// candidates), else the candidate that is closest. False if there is neither.
bool hint(Diagnostic &d, Foreign kind, std::string_view name,
          const std::vector<std::string> &candidates);

/// The candidate that differs in case and underscores alone, or "".
std::string sameLetters(std::string_view name, const std::vector<std::string> &candidates);

} // namespace nnc::fe
