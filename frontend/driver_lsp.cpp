// `nnc lsp`: the language server on standard input and output.
#include "frontend/driver.h"

#include "frontend/lsp.h"

#include <cstdio>
#include <unistd.h>

namespace nnc::fe {

int lspCommand(const Options &) {
  if (isatty(0))
    std::fputs("nnc lsp talks to an editor; docs/tools.md says how to set one up\n", stderr);
  std::string version = versionText(); // "nnc 1.0, with ..."
  return serveLsp(0, 1, version.substr(4, version.find(',') - 4));
}

} // namespace nnc::fe
