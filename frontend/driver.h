// The parts of the `nnc` command.
//
//   main.cpp            what is asked for, and the exit code
//   driver_options.cpp  the command line and the help
//   driver_compile.cpp  the road from a file to the stage asked for
//   driver_dot.cpp      --emit=dot
//   driver_files.cpp    reading and writing
#pragma once

#include "codegen/codegen.h"
#include "ir/module.h"

#include <optional>
#include <string>
#include <vector>

namespace nnc::fe {

enum class Stage { Tokens, Ast, Ir, Grad, Math, Opt, Dot, Kernels, Memory, Llvm, Asm, Obj, Bin };
inline constexpr int kStageCount = 13;
extern const char *const kStageNames[kStageCount];

enum class Command { Compile, Check, Run, Help, Version };

struct Options {
  Command command = Command::Compile;
  std::string input;                // a path, or "-"
  std::string output;               // "": the default of the stage; "-": standard output
  std::vector<std::string> runArgs; // of `nnc run`, for the model
  Stage emit = Stage::Bin;
  std::string cpu = "native";
  int level = 2;
  std::string train;      // --train=NAME
  std::string printAfter; // a pass, or "all"
  std::string dumpDir;
  bool timePasses = false;
  // Hidden: go on from the printed text, check every plan. Test builds always do.
#ifdef NNC_ROUNDTRIP
  bool roundtrip = true;
#else
  bool roundtrip = false;
#endif
};

/// A mistake in the command line; `help` may be empty.
struct UsageError {
  std::string message, help;
};
/// The options, or a mistake.
std::optional<UsageError> parseOptions(int argc, char **argv, Options &out);
std::string helpText();
std::string versionText();

/// Compiles as asked. Returns the exit code; messages go to standard error.
int compileCommand(const Options &o);
int checkCommand(const Options &o);
int runCommand(const Options &o);

/// Graphviz text of a function.
std::string dotText(const ir::Module &m, const ir::Function &f);

/// The whole file ("-": standard input), or nothing and `error`.
std::optional<std::string> readInput(const std::string &path, std::string &error);
/// What stands in the way of writing `path` although nobody named it: something other than a
/// program (or, with `object`, an object file). Empty: nothing.
std::string obstacle(const std::string &path, bool object);
/// Writes beside and renames ("-": standard output). Returns an empty string, or what went wrong.
std::string writeOutput(const std::string &path, const std::string &bytes);

/// "error: message" and "help: text" on standard error, coloured on a terminal.
void complain(const std::string &message, const std::string &help = "");

} // namespace nnc::fe
