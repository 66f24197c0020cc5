// Messages to the user: what was expected, what was found, and where.
//
//   diags.report(call.span, Diag::UnknownName, {"Dens"}).help("did you mean `Dense`?");
//   diags.report(x.span, Diag::ShapeMismatch, {"784", "28"})
//       .label(kernel.span, "dimension fixed here")
//       .note("in `Classifier` / `dense_1`");
//
// prints
//
//   error[NN0201]: unknown name `Dens`
//     --> model.nn:12:8
//      |
//   12 |   x |> Dens(10)
//      |        ^^^^
//      |
//   help: did you mean `Dense`?
//
// Every message is a row of diagnostics.def. Messages are collected, sorted by place and printed
// once; after kMaxErrors errors, or as many warnings, further ones are not kept.
#pragma once

#include "frontend/source.h"

#include <deque>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

namespace nnc::fe {

enum class Severity { Error, Warning };

enum class Diag {
#define DIAG(Name, Code, Sev, Format) Name,
#include "frontend/diagnostics.def"
};

/// One row of the registry.
struct DiagInfo {
  const char *name; // "UnknownName"
  const char *code; // "NN0201"
  Severity severity;
  const char *format; // "unknown name `{0}`"
};
const DiagInfo &info(Diag diag);
std::span<const DiagInfo> allDiags();

/// One message being built. The reference `report` returns stays valid; add to it at once.
struct Diagnostic {
  struct Label {
    Span span; // may be no place: then only the text is printed
    std::string text;
  };
  Diag kind;
  Span span;
  std::string message;
  std::vector<Label> labels; // "note: text" with the source line: the other place involved
  std::vector<std::string> notes;
  std::vector<std::string> helps;

  Diagnostic &label(Span at, std::string text);
  Diagnostic &note(std::string text);
  Diagnostic &help(std::string text);
  /// help "did you mean `x`?", nothing when `name` is empty: takes what `suggest` returned.
  Diagnostic &didYouMean(const std::string &name);
};

class Diagnostics {
 public:
  static constexpr int kMaxErrors = 20; // and as many warnings

  explicit Diagnostics(const Sources &sources) : sources_(sources) {}

  /// Reports `kind` at `span`; `args` fill {0}, {1}, … of its format. A message that repeats an
  /// earlier one at the same place is dropped.
  Diagnostic &report(Span span, Diag kind, const std::vector<std::string> &args = {});

  bool hasErrors() const { return errorCount_ > 0; }
  int errorCount() const { return errorCount_; }
  /// True once the cap is reached: a stage may stop early.
  bool full() const { return errorCount_ >= kMaxErrors; }

  /// The messages so far, by file, place and order of report.
  std::vector<const Diagnostic *> sorted() const;
  /// All messages and the count line ("2 errors"); nothing if there are none.
  std::string render(bool color = false) const;
  /// Prints to standard error, in colour if it is a terminal (and NO_COLOR is not set).
  void print() const;

 private:
  const Sources &sources_;
  std::deque<Diagnostic> items_;
  Diagnostic dropped_{}; // what `report` returns for messages that are not kept
  int errorCount_ = 0;
  int warningCount_ = 0;
  bool capped_ = false;
};

/// The candidate closest to a misspelt name, or "" if none is close enough to be meant.
std::string suggest(std::string_view name, const std::vector<std::string> &candidates);

/// "format with {0} {1}" with its arguments in place.
std::string formatMessage(std::string_view format, const std::vector<std::string> &args);

} // namespace nnc::fe
