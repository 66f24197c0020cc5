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
// once; after kMaxErrors errors, or as many warnings, further ones are not kept. Warnings may be
// made errors or silent, by code for the whole run (WarningLevels) or for one line of the text
// (`# allow NN1201`).
#pragma once

#include "frontend/source.h"

#include <deque>
#include <iosfwd>
#include <map>
#include <optional>
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
/// The message of a code as a user writes it: "NN0404", "nn0404", "404" or "MatmulMismatch".
std::optional<Diag> findDiag(std::string_view text);

/// What becomes of warnings.
struct WarningLevels {
  enum Level { Allow, Warn, Deny };
  bool werror = false; // of those that are not in `levels`
  std::map<Diag, Level> levels;
  Level of(Diag diag) const;
};

/// One message being built. The reference `report` returns stays valid; add to it at once.
struct Diagnostic {
  struct Label {
    Span span; // may be no place: then only the text is printed
    std::string text;
  };
  Diag kind;
  Severity severity;
  Span span;
  std::string message;
  std::vector<Label> labels; // "note: text" with the source line: the other place involved
  std::vector<std::string> notes;
  std::vector<std::string> helps;
  std::vector<std::string> fixes; // texts to put in place of `span`, for editors

  Diagnostic &label(Span at, std::string text);
  Diagnostic &note(std::string text);
  Diagnostic &help(std::string text);
  /// help "did you mean `x`?", nothing when `name` is empty: takes what `suggest` returned.
  Diagnostic &didYouMean(const std::string &name);
  /// An editor may put `text` in place of the span.
  Diagnostic &fix(std::string text);
};

class Diagnostics {
 public:
  static constexpr int kMaxErrors = 20; // and as many warnings

  explicit Diagnostics(const Sources &sources, WarningLevels levels = {})
      : sources_(sources), levels_(std::move(levels)) {}

  /// Reports `kind` at `span`; `args` fill {0}, {1}, … of its format. A message that repeats an
  /// earlier one at the same place is dropped.
  Diagnostic &report(Span span, Diag kind, const std::vector<std::string> &args = {});

  /// Warnings that were made errors do not count here: they keep no stage from going on.
  bool hasErrors() const { return errorCount_ > 0; }
  /// Whether the run fails: errors, or warnings that were made errors.
  bool failed() const { return errorCount_ + deniedCount_ > 0; }
  int errorCount() const { return errorCount_; }
  /// Whether there is an error at exactly this place.
  bool hasErrorAt(Span span) const;
  /// Takes what belongs to a message that is not reported.
  Diagnostic &drop() { return dropped_ = Diagnostic{}; }
  /// True once the cap is reached: a stage may stop early.
  bool full() const { return errorCount_ >= kMaxErrors; }

  /// The messages so far, by file, place and order of report.
  std::vector<const Diagnostic *> sorted() const;
  /// All messages and the count line ("2 errors"); nothing if there are none.
  std::string render(bool color = false) const;
  /// One JSON object per line and message (docs/diagnostics.md).
  std::string renderJson() const;
  /// The members of a SARIF `results` array, without its brackets; empty if there are none.
  std::string renderSarifResults() const;

 private:
  bool allowedHere(Span span, Diag kind) const;

  const Sources &sources_;
  WarningLevels levels_;
  std::deque<Diagnostic> items_;
  Diagnostic dropped_{}; // what `report` returns for messages that are not kept
  int errorCount_ = 0;
  int warningCount_ = 0;
  int deniedCount_ = 0; // warnings that were made errors
  bool capped_ = false;
};

/// A SARIF 2.1.0 document around the results of a run.
std::string sarifDocument(const std::string &results, const std::string &version);
/// `text` as a JSON string with its quotes; invalid UTF-8 becomes `?`.
std::string jsonString(std::string_view text);

/// The page of docs/diagnostics.md about a code, for a terminal: what `nnc explain` prints.
std::string explanation(Diag diag);

/// The candidate closest to a misspelt name, or "" if none is close enough to be meant.
std::string suggest(std::string_view name, const std::vector<std::string> &candidates);

/// "format with {0} {1}" with its arguments in place.
std::string formatMessage(std::string_view format, const std::vector<std::string> &args);

} // namespace nnc::fe
