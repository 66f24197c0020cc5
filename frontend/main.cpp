// The `nnc` command: compiles .nn files to programs that train their model.
//
//   nnc model.nn && ./classifier train
//
// Exit codes: 0 done, 1 mistakes in the model, 2 mistakes on the command line.
#include "frontend/driver.h"

#include <cstdio>

using namespace nnc::fe;

static int run(int argc, char **argv) {
  Options options;
  auto mistake = parseOptions(argc, argv, options);
  setMessages(options);
  if (mistake) {
    complain(mistake->message, mistake->help);
    return 2;
  }
  switch (options.command) {
  case Command::Help: std::fputs(helpText().c_str(), stdout); return argc < 2 ? 2 : 0;
  case Command::Version: std::fputs(versionText().c_str(), stdout); return 0;
  case Command::Explain: return explainCommand(options);
  case Command::Check: return checkCommand(options);
  case Command::Run: return runCommand(options);
  case Command::Fmt: return fmtCommand(options);
  case Command::Doc: return docCommand(options);
  case Command::New: return newCommand(options);
  case Command::Lsp: return lspCommand(options);
  case Command::Compile: return compileCommand(options);
  }
  return 2;
}

int main(int argc, char **argv) {
  int code = run(argc, argv);
  finishMessages();
  return code;
}
