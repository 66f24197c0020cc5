// The language server: messages, shapes, completion, documentation and renaming for editors.
//
//   editor  --Content-Length: 97 {"method": "textDocument/hover", ...}-->  nnc lsp
//           <--Content-Length: 83 {"result": {"contents": ...}}----------
//
// The parts:
//
//   lsp_server.cpp    the protocol: frames, requests, documents as the editor has them
//   lsp_text.cpp      places as the protocol counts them, changes of a text
//   lsp_names.cpp     which name means what: definitions and uses, by scope
//   lsp_analysis.cpp  a document's messages and the values of its expressions
//   lsp_features.cpp  the answers
#pragma once

#include <string>

namespace nnc::fe {

/// Serves until `exit` or the end of the input; the exit code.
int serveLsp(int in, int out, const std::string &version);

} // namespace nnc::fe
