// The parts of the `nnc` command.
//
//   main.cpp            what is asked for, and the exit code
//   driver_options.cpp  the command line and the help
//   driver_compile.cpp  the road from a file to the stage asked for
//   driver_memory.cpp   new and delete
//   driver_dot.cpp      --emit=dot
//   driver_tools.cpp    fmt, doc, new
//   driver_lsp.cpp      lsp
//   driver_files.cpp    reading and writing
//   driver_messages.cpp messages in the form asked for
#pragma once

#include "codegen/codegen.h"
#include "frontend/diagnostics.h"
#include "ir/module.h"

#include <optional>
#include <string>
#include <vector>

namespace nnc::fe {

enum class Stage { Tokens, Ast, Ir, Grad, Math, Opt, Dot, Kernels, Memory, Llvm, Asm, Obj, Bin };
inline constexpr int kStageCount = 13;
extern const char *const kStageNames[kStageCount];

enum class Command { Compile, Check, Run, Explain, Fmt, Doc, New, Lsp, Help, Version };
enum class MessageFormat { Text, Json, Sarif };
enum class Color { Auto, Always, Never };

struct Options {
  Command command = Command::Compile;
  std::string input;                // a path, or "-"
  std::string output;               // "": the default of the stage; "-": standard output
  std::vector<std::string> runArgs; // of `nnc run`, for the model
  std::vector<std::string> inputs;  // of fmt, doc and new: files or names
  bool checkOnly = false;           // fmt --check
  std::string docFile;              // doc -f FILE
  std::string templateName;         // new --template=NAME
  Stage emit = Stage::Bin;
  std::string target, cpu; // --target, --mcpu; "": this machine's
  int level = 2;
  std::string train;      // --train=NAME
  std::string explain;    // a code; empty: all
  MessageFormat messages = MessageFormat::Text;
  Color color = Color::Auto;
  WarningLevels warnings;
  std::string printAfter; // a pass, or "all"
  std::string dumpDir;
  bool timePasses = false;
  double tune = 0;       // seconds; 0: nothing is measured
  std::string tuneCache; // "": the default place
  bool noTuneCache = false;
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
extern const char *const kVersion;

/// Compiles as asked. Returns the exit code; messages go to standard error.
int compileCommand(const Options &o);
int checkCommand(const Options &o);
int runCommand(const Options &o);
int fmtCommand(const Options &o);
int docCommand(const Options &o);
int newCommand(const Options &o);
int lspCommand(const Options &o);

/// Graphviz text of a function.
std::string dotText(const ir::Module &m, const ir::Function &f);

/// The whole file ("-": standard input), or nothing and `error`.
std::optional<std::string> readInput(const std::string &path, std::string &error);
/// What stands in the way of writing `path` although nobody named it: something other than a
/// program (or, with `object`, an object file). Empty: nothing.
std::string obstacle(const std::string &path, bool object);
/// Writes beside and renames ("-": standard output). Returns an empty string, or what went wrong.
/// `keepMode`: a file that is replaced keeps its permissions.
std::string writeOutput(const std::string &path, const std::string &bytes, bool keepMode = false);

/// Prints the page of a code, or the list of all.
int explainCommand(const Options &o);

// --- messages: to standard error, in the form that the options ask for --------------------------

void setMessages(const Options &o);
/// All messages about a text.
void say(const Diagnostics &diags);
/// What is no mistake in a `.nn` file: a bad option, a file that cannot be read, broken IR text
/// (`place` is "name:line:column" then).
void complain(const std::string &message, const std::string &help = "",
              const std::string &place = "");
/// Behind the last message: writes what is written once.
void finishMessages();

} // namespace nnc::fe
