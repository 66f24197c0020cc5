// The command line of `nnc`.
//
//   nnc model.nn -o net --emit=ir        nnc run model.nn -- --epochs 1
//
// One table names every option, its value and its help; parsing, suggestions for misspelt names and
// `--help` are made from it. Values stand behind `=` or in the next word.
#include "frontend/driver.h"

#include "frontend/diagnostics.h"
#include "frontend/templates.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <unistd.h>
#include <utility>

namespace nnc::fe {

const char *const kStageNames[kStageCount] = {"tokens", "ast", "ir",      "grad",   "math",
                                              "opt",    "dot", "kernels", "memory", "llvm",
                                              "asm",    "obj", "bin"};

namespace {

struct Row {
  const char *name;  // "--emit"
  const char *value; // "STAGE"; null: a switch
  const char *group; // heading in the help; null: not shown
  const char *help;
};

const Row kRows[] = {
    {"-o", "FILE", "Output", "where to write; `-` is standard output"},
    {"--emit", "STAGE", "Output", "stop after a stage and write it (see below)"},
    {"--train", "NAME", "Output", "which `train` block, if the file has several"},
    {"-O0", nullptr, "Code", "quick to compile: no simplification, no fusion"},
    {"-O1", nullptr, "Code", "as -O2 for now"},
    {"-O2", nullptr, "Code", "the default"},
    {"-O3", nullptr, "Code", "as -O2 for now"},
    {"--mcpu", "CPU", "Code", "native (default), portable, x86-64-v3, x86-64-v4, sapphirerapids"},
    {"--target", "TRIPLE", "Code",
     "x86_64-linux-gnu (default); aarch64-linux-gnu, with --mcpu=generic, neoverse-n1, .."},
    {"--tune", "SECONDS", "Code",
     "measure contractions first, for about 10 s if none are given, and keep the fastest"},
    {"--tune-cache", "FILE", "Code", "where that is kept, instead of ~/.cache/nnc/tuning.json"},
    {"--no-tune-cache", nullptr, "Code", "compile without what was measured"},
    {"--print-after", "PASS", "Looking inside",
     "print the IR after a pass, or after `all` of them"},
    {"--dump-dir", "DIR", "Looking inside", "write every stage into numbered files"},
    {"--time-passes", nullptr, "Looking inside",
     "print how long each stage took, and the size of the code"},
    {"-Werror", nullptr, "Messages", "warnings are errors"},
    {"--deny", "CODE", "Messages", "this warning is an error"},
    {"--allow", "CODE", "Messages", "this warning is not given"},
    {"--diagnostics", "FORM", "Messages", "text (default), json or sarif, on standard error"},
    {"--color", "WHEN", "Messages", "auto (default: on a terminal), always, never"},
    {"--explain", "CODE", "Messages", "what a message means and how to repair it"},
    {"--help", nullptr, "Else", "print this text"},
    {"--version", nullptr, "Else", "print the version"},
    {"-h", nullptr, nullptr, ""},
    {"--roundtrip", nullptr, nullptr, ""},
};

const std::pair<const char *, Command> kCommands[] = {
    {"check", Command::Check}, {"run", Command::Run}, {"fmt", Command::Fmt},  {"doc", Command::Doc},
    {"new", Command::New},     {"lsp", Command::Lsp}, {"help", Command::Help}};

// Commands on text have options of their own.
struct ToolRow {
  Command command;
  const char *name, *value;
};
const ToolRow kToolRows[] = {{Command::Fmt, "--check", nullptr},
                             {Command::Doc, "-f", "FILE"},
                             {Command::New, "--template", "NAME"},
                             {Command::Lsp, "--stdio", nullptr}};

bool isTool(Command c) {
  return c == Command::Fmt || c == Command::Doc || c == Command::New || c == Command::Lsp;
}

const Row *rowOf(const std::string &name) {
  for (const Row &r : kRows)
    if (name == r.name) return &r;
  return nullptr;
}

std::string suggestion(const std::string &name) {
  std::vector<std::string> names;
  for (const Row &r : kRows)
    if (r.group) names.push_back(r.name);
  std::string best = suggest(name, names);
  return best.empty() ? "`nnc --help` lists the options" : "did you mean `" + best + "`?";
}

class Parser {
 public:
  Parser(int argc, char **argv, Options &out) : words_(argv + 1, argv + argc), out_(out) {}

  std::optional<UsageError> run() {
    if (words_.empty()) {
      out_.command = Command::Help;
      return std::nullopt;
    }
    if (auto e = command()) return e;
    if (isTool(out_.command)) return tool();
    while (at_ < words_.size()) {
      if (words_[at_] == "--") {
        if (auto e = rest()) return e;
        break;
      }
      if (auto e = word(words_[at_++])) return e;
    }
    return finish();
  }

 private:
  std::vector<std::string> words_;
  Options &out_;
  size_t at_ = 0;

  std::optional<UsageError> command() {
    for (auto [name, command] : kCommands)
      if (words_[0] == name) out_.command = command, ++at_;
    if (words_[0] == "explain" && access("explain", F_OK) != 0) {
      out_.command = Command::Explain, ++at_;
      if (at_ < words_.size() && words_[at_][0] != '-') return explain(words_[at_++]);
    }
    return std::nullopt;
  }

  // --- fmt, doc, new, lsp

  std::optional<UsageError> tool() {
    for (bool files = false; at_ < words_.size();) {
      const std::string &w = words_[at_++];
      if (files || w.empty() || w[0] != '-' || w == "-")
        out_.inputs.push_back(w);
      else if (w == "--")
        files = true;
      else if (auto e = toolOption(w))
        return e;
      if (out_.command == Command::Help) return std::nullopt;
    }
    size_t n = out_.inputs.size();
    switch (out_.command) {
    case Command::Fmt:
      if (n == 0) return UsageError{"no file given", "nnc fmt model.nn, or `-` for standard input"};
      break;
    case Command::New:
      if (n == 0) return UsageError{"no name given", "nnc new flowers"};
      if (n > 1)
        return UsageError{
            "one model at a time: found `" + out_.inputs[0] + "` and `" + out_.inputs[1] + "`", ""};
      break;
    case Command::Lsp:
      if (n > 0)
        return UsageError{"unexpected argument `" + out_.inputs[0] + "`",
                          "an editor starts `nnc lsp` and talks to it"};
      break;
    default: break;
    }
    return std::nullopt;
  }

  std::optional<UsageError> toolOption(const std::string &w) {
    size_t equals = w.find('=');
    std::string name = w.substr(0, equals);
    if (name == "--help" || name == "-h") {
      out_.command = Command::Help;
      return std::nullopt;
    }
    const ToolRow *row = nullptr;
    std::vector<std::string> names;
    for (const ToolRow &r : kToolRows)
      if (r.command == out_.command) {
        names.push_back(r.name);
        if (name == r.name) row = &r;
      }
    if (!row) {
      std::string best = suggest(name, names);
      return UsageError{"unknown option `" + name + "` of `nnc " + words_[0] + "`",
                        best.empty() ? "it takes `" + names[0] + "`"
                                     : "did you mean `" + best + "`?"};
    }
    if (!row->value) {
      if (equals != std::string::npos) return UsageError{"`" + name + "` takes no value", ""};
      if (out_.command == Command::Fmt) out_.checkOnly = true;
      return std::nullopt;
    }
    std::string value = equals != std::string::npos ? w.substr(equals + 1)
                        : at_ < words_.size()       ? words_[at_++]
                                                    : "";
    if (value.empty()) return UsageError{"`" + name + "` needs a value", name + " " + row->value};
    if (out_.command == Command::Doc) {
      out_.docFile = value;
      return std::nullopt;
    }
    out_.templateName = value;
    std::string all;
    names.clear();
    for (const Template &t : templates()) {
      if (value == t.name) return std::nullopt;
      names.push_back(t.name);
      all += (all.empty() ? "" : ", ") + std::string(t.name);
    }
    std::string best = suggest(value, names);
    return UsageError{"unknown template `" + value + "`",
                      best.empty() ? "the templates are " + all : "did you mean `" + best + "`?"};
  }

  // --- all others

  // Behind `--`: the arguments of the model, or files whatever their names.
  std::optional<UsageError> rest() {
    ++at_;
    if (out_.command == Command::Run && !out_.input.empty()) {
      out_.runArgs.assign(words_.begin() + long(at_), words_.end());
      at_ = words_.size();
      return std::nullopt;
    }
    while (at_ < words_.size())
      if (auto e = file(words_[at_++])) return e;
    return std::nullopt;
  }

  std::optional<UsageError> file(const std::string &w) {
    if (!out_.input.empty()) {
      if (out_.command == Command::Run)
        return UsageError{"unexpected argument `" + w + "`",
                          "arguments of the model stand behind `--`: nnc run " + out_.input +
                              " -- " + w};
      return UsageError{"one model at a time: found `" + out_.input + "` and `" + w + "`", ""};
    }
    out_.input = w;
    return std::nullopt;
  }

  std::optional<UsageError> word(const std::string &w) {
    if (w.empty() || w[0] != '-' || w == "-") return file(w);
    size_t equals = w.find('=');
    std::string name = w.substr(0, equals);
    const Row *row = rowOf(name);
    // `-oFILE` in one word.
    if (!row && w.rfind("-o", 0) == 0 && w.size() > 2 && equals == std::string::npos)
      return set("-o", w.substr(2));
    if (!row) {
      if (out_.command == Command::Run && !out_.input.empty())
        return UsageError{"unknown option `" + name + "`",
                          "arguments of the model stand behind `--`: nnc run " + out_.input +
                              " -- " + w};
      return UsageError{"unknown option `" + name + "`", suggestion(name)};
    }
    if (!row->value) {
      if (equals != std::string::npos) return UsageError{"`" + name + "` takes no value", ""};
      return set(name, "");
    }
    std::string value;
    if (equals != std::string::npos)
      value = w.substr(equals + 1);
    else if (name == "--tune") // its value is optional and stands behind `=`
      return set(name, "10");
    else if (at_ < words_.size())
      value = words_[at_++];
    if (value.empty())
      return UsageError{"`" + name + "` needs a value",
                        name + (name == "-o" ? " " : "=") + row->value};
    return set(name, value);
  }

  std::optional<UsageError> set(const std::string &name, const std::string &value) {
    if (name == "-o")
      out_.output = value;
    else if (name == "--emit")
      return stage(value);
    else if (name == "--train")
      out_.train = value;
    else if (name.size() == 3 && name.rfind("-O", 0) == 0)
      out_.level = name[2] - '0';
    else if (name == "--mcpu")
      out_.cpu = value;
    else if (name == "--target")
      out_.target = value;
    else if (name == "--tune")
      return seconds(value);
    else if (name == "--tune-cache")
      out_.tuneCache = value;
    else if (name == "--no-tune-cache")
      out_.noTuneCache = true;
    else if (name == "--print-after")
      out_.printAfter = value;
    else if (name == "--dump-dir")
      out_.dumpDir = value;
    else if (name == "--time-passes")
      out_.timePasses = true;
    else if (name == "--roundtrip")
      out_.roundtrip = true;
    else if (name == "-Werror")
      out_.warnings.werror = true;
    else if (name == "--deny" || name == "--allow")
      return level(name, value);
    else if (name == "--diagnostics")
      return choose(name, value, {"text", "json", "sarif"}, out_.messages);
    else if (name == "--color")
      return choose(name, value, {"auto", "always", "never"}, out_.color);
    else if (name == "--explain")
      return explain(value);
    else if (name == "--version")
      out_.command = Command::Version;
    else
      out_.command = Command::Help;
    return std::nullopt;
  }

  template <class E>
  std::optional<UsageError> choose(const std::string &name, const std::string &value,
                                   const std::vector<std::string> &names, E &out) {
    auto it = std::find(names.begin(), names.end(), value);
    if (it != names.end()) return out = E(it - names.begin()), std::nullopt;
    std::string all;
    for (const std::string &n : names) all += (all.empty() ? "" : ", ") + n;
    return UsageError{"unknown value `" + value + "` of `" + name + "`", "the values are " + all};
  }

  std::optional<UsageError> seconds(const std::string &value) {
    char *end = nullptr;
    out_.tune = std::strtod(value.c_str(), &end);
    if (*end == 0 && out_.tune > 0 && out_.tune <= 86400) return std::nullopt;
    return UsageError{"`--tune` needs a number of seconds, found `" + value + "`", "--tune=10"};
  }

  static UsageError unknownCode(const std::string &value) {
    std::vector<std::string> known;
    for (const DiagInfo &row : allDiags()) known.insert(known.end(), {row.code, row.name});
    std::string best = suggest(value, known);
    return {"no message has the code `" + value + "`",
            best.empty() ? "`nnc explain` lists the codes" : "did you mean `" + best + "`?"};
  }

  std::optional<UsageError> level(const std::string &name, const std::string &value) {
    auto diag = findDiag(value);
    if (!diag) return unknownCode(value);
    if (info(*diag).severity == Severity::Error)
      return UsageError{"`" + value + "` is an error, not a warning", ""};
    bool allow = name == "--allow";
    out_.warnings.levels[*diag] = allow ? WarningLevels::Allow : WarningLevels::Deny;
    return std::nullopt;
  }

  std::optional<UsageError> explain(const std::string &value) {
    out_.command = Command::Explain;
    out_.explain = value;
    if (!findDiag(value)) return unknownCode(value);
    return std::nullopt;
  }

  std::optional<UsageError> stage(const std::string &value) {
    for (int i = 0; i < kStageCount; ++i)
      if (value == kStageNames[i]) {
        out_.emit = Stage(i);
        return std::nullopt;
      }
    std::vector<std::string> names(std::begin(kStageNames), std::end(kStageNames));
    std::string best = suggest(value, names), all;
    for (const std::string &n : names) all += (all.empty() ? "" : ", ") + n;
    return UsageError{"unknown stage `" + value + "` in `--emit`",
                      best.empty() ? "the stages are " + all : "did you mean `" + best + "`?"};
  }

  std::optional<UsageError> finish() {
    bool noFile = out_.command == Command::Help || out_.command == Command::Version ||
                  out_.command == Command::Explain;
    if (noFile) return std::nullopt;
    if (out_.input.empty()) return UsageError{"no model given", "nnc model.nn"};
    if (out_.command == Command::Compile && out_.emit == Stage::Bin && out_.output == "-")
      return UsageError{"an executable needs a file to be written to", "use `-o FILE`"};
    if (out_.command == Command::Run && out_.emit != Stage::Bin)
      return UsageError{"`nnc run` takes no `--emit`", ""};
    std::string error;
    const auto targets = cg::resolveTargets(out_.target, out_.cpu, error);
    if (targets.empty()) return UsageError{error, ""};
    if (out_.noTuneCache && (out_.tune > 0 || !out_.tuneCache.empty()))
      return UsageError{"`--no-tune-cache` contradicts `" +
                            std::string(out_.tune > 0 ? "--tune" : "--tune-cache") + "`",
                        ""};
    if (out_.tune > 0 && !cg::runsHere(targets[0]))
      return UsageError{
          "`--tune` measures on this machine, which cannot run code for " + targets[0].cpu, ""};
    return std::nullopt;
  }
};

} // namespace

std::optional<UsageError> parseOptions(int argc, char **argv, Options &out) {
  return Parser(argc, argv, out).run();
}

// --- help ----------------------------------------------------------------------------------------

std::string helpText() {
  std::string text =
      R"(nnc compiles a neural network, written in a .nn file, to one program that trains it.

First steps:
  nnc model.nn                 writes a program named after the model, say ./classifier,
                               over nothing but an older program
  ./classifier train           trains it, with a progress line, and keeps the weights in a file
  ./classifier evaluate        loss and metrics on the test data
  ./classifier predict         outputs for new data
  ./classifier summary         the layers, their shapes and sizes
  ./classifier --help          everything that the program can do

Commands:
  nnc FILE                     compile
  nnc check FILE               report mistakes, write nothing
  nnc run FILE -- ARGUMENTS    compile to a temporary file and run it
  nnc explain CODE             what a message means, with an example and its repair
  nnc new NAME                 write NAME.nn, a model to begin with (--template=TEMPLATE, see below)
  nnc doc [NAME]               what a layer, function or key does; all names (-f FILE: of a file, too)
  nnc fmt FILE...              format in place; `-`: standard input to standard output
                               (--check: write nothing, name the files that are not formatted)
  nnc lsp                      language server for editors, on standard input and output

FILE is a .nn file, a file with the textual IR (its first line is `nnc-ir 1`), or `-`: standard input.
)";
  const char *group = "";
  for (const Row &r : kRows) {
    if (!r.group) continue;
    if (std::string(group) != r.group) text += std::string("\n") + r.group + ":\n";
    group = r.group;
    std::string name = r.name;
    if (r.value) name += (name == "-o" ? " " : "=") + std::string(r.value);
    if (name.size() < 29) name.resize(29, ' ');
    text += "  " + name + r.help + "\n";
  }
  text += "\nTemplates of `nnc new`:\n";
  for (const Template &t : templates()) {
    std::string name = t.name;
    name.resize(29, ' ');
    text += "  " + name + t.help + (&t == &templates()[0] ? " (default)" : "") + "\n";
  }
  text += R"(
Stages, in the order of the road; all but the last two are text on standard output unless -o is given:
  tokens ast                   the source text
  ir grad opt                  the tensor IR: as written, with derivatives, simplified
  math dot                     the derivative as formulas, by your names and lines; the step for Graphviz
  kernels memory               what runs, and where its data lies
  llvm asm obj bin             machine code; bin is the default

  nnc model.nn --emit=ir -o - | nnc - -o model2       builds the same bytes as nnc model.nn

Exit codes: 0 done, 1 mistakes in the model, 2 mistakes on the command line.
)";
  return text;
}

#ifndef NNC_VERSION
#define NNC_VERSION "?"
#define NNC_LLVM_VERSION "?"
#endif

const char *const kVersion = NNC_VERSION;
std::string versionText() { return "nnc " NNC_VERSION ", with LLVM " NNC_LLVM_VERSION "\n"; }

} // namespace nnc::fe
