// What the compiler has to say about a document: its messages, and the values that its expressions
// had.
#pragma once

#include "frontend/diagnostics.h"
#include "frontend/elaborate.h"

#include <map>
#include <string>
#include <vector>

namespace nnc::fe::lsp {

/// A place of the document (file empty) or of a file it imports.
struct Related {
  std::string file;
  uint32_t begin = 0, end = 0;
  uint32_t line = 0, column = 0; // in another file, from 1
  std::string text;
};

struct Message {
  bool isError = true;
  std::string code, text; // notes and helps are lines of the text
  uint32_t begin = 0, end = 0;
  std::vector<Related> related;
};

/// The values at a place, in words; several if it was evaluated several times.
struct Seen {
  Recorder::What what{};
  uint32_t begin = 0, end = 0;
  std::vector<std::string> values;
};

struct Analysis {
  std::vector<Message> messages;
  std::vector<Seen> seen;
  bool elaborated = false; // the text had no syntax errors
};

/// Compiles the text as far as its module, in a process of its own: whatever happens there, the
/// server goes on.
Analysis analyse(const std::string &path, const std::string &text);

} // namespace nnc::fe::lsp
