// Collecting, sorting and drawing messages.
//
// The drawing of one place:
//
//     --> model.nn:12:9            where: name:line:column
//      |
//   12 |   x |> Dense(10)          the line as written; tabs become spaces, long lines are cut
//      |        ^^^^^^^^^          carets under the span, or to the end of the line if it goes on
//
// Widths count characters, not bytes; control characters and invalid bytes are drawn as one `?`,
// so that a broken file cannot break the terminal.
#include "frontend/diagnostics.h"

#include <algorithm>
#include <cctype>

namespace nnc::fe {

static const DiagInfo kDiags[] = {
#define DIAG(Name, Code, Sev, Format) {#Name, #Code, Severity::Sev, Format},
#include "frontend/diagnostics.def"
};

const DiagInfo &info(Diag diag) { return kDiags[size_t(diag)]; }
std::span<const DiagInfo> allDiags() { return kDiags; }

std::optional<Diag> findDiag(std::string_view text) {
  std::string code;
  for (char c : text) code += char(std::toupper((unsigned char)c));
  bool isNumber = !code.empty() && code.size() <= 4 &&
                  code.find_first_not_of("0123456789") == std::string::npos;
  if (isNumber) code = "NN" + std::string(4 - code.size(), '0') + code;
  for (size_t i = 0; i < std::size(kDiags); ++i)
    if (code == kDiags[i].code || text == kDiags[i].name) return Diag(i);
  return std::nullopt;
}

WarningLevels::Level WarningLevels::of(Diag diag) const {
  auto it = levels.find(diag);
  return it != levels.end() ? it->second : werror ? Deny : Warn;
}

// --- building ------------------------------------------------------------------------------------

Diagnostic &Diagnostic::label(Span at, std::string text) {
  labels.push_back({at, std::move(text)});
  return *this;
}

Diagnostic &Diagnostic::note(std::string text) {
  notes.push_back(std::move(text));
  return *this;
}

Diagnostic &Diagnostic::help(std::string text) {
  helps.push_back(std::move(text));
  return *this;
}

Diagnostic &Diagnostic::didYouMean(const std::string &name) {
  return name.empty() ? *this : help("did you mean `" + name + "`?").fix(name);
}

Diagnostic &Diagnostic::fix(std::string text) {
  fixes.push_back(std::move(text));
  return *this;
}

std::string formatMessage(std::string_view format, const std::vector<std::string> &args) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    bool slot = i + 2 < format.size() && format[i] == '{' && format[i + 2] == '}' &&
                format[i + 1] >= '0' && format[i + 1] <= '9';
    if (!slot) {
      out += format[i];
      continue;
    }
    size_t index = size_t(format[i + 1] - '0');
    out += index < args.size() ? args[index] : "?";
    i += 2;
  }
  return out;
}

Diagnostic &Diagnostics::report(Span span, Diag kind, const std::vector<std::string> &args) {
  Severity severity = info(kind).severity;
  if (severity == Severity::Warning) {
    WarningLevels::Level level = levels_.of(kind);
    if (level == WarningLevels::Allow || allowedHere(span, kind)) return dropped_ = Diagnostic{};
    if (level == WarningLevels::Deny) severity = Severity::Error;
  }
  Diagnostic made{kind, severity, span, formatMessage(info(kind).format, args), {}, {}, {}, {}};
  bool repeated = std::any_of(items_.begin(), items_.end(), [&](const Diagnostic &d) {
    return d.kind == kind && d.span == span && d.message == made.message;
  });
  bool denied = severity == Severity::Error && info(kind).severity == Severity::Warning;
  int &count = denied ? deniedCount_ : severity == Severity::Error ? errorCount_ : warningCount_;
  if (count >= kMaxErrors && !repeated) capped_ = true;
  if (repeated || count >= kMaxErrors) return dropped_ = Diagnostic{};
  ++count;
  items_.push_back(std::move(made));
  return items_.back();
}

bool Diagnostics::hasErrorAt(Span span) const {
  return std::any_of(items_.begin(), items_.end(), [&](const Diagnostic &d) {
    return d.span == span && info(d.kind).severity == Severity::Error;
  });
}

/// Whether the line of `span`, or a comment line right above it, says `# allow NN1201`.
bool Diagnostics::allowedHere(Span span, Diag kind) const {
  if (!span.valid()) return false;
  auto allows = [&](std::string_view line) {
    size_t comment = line.find("# allow ");
    return comment != line.npos && line.find(info(kind).code, comment) != line.npos;
  };
  uint32_t first = sources_.position(span.file, 0).line;
  uint32_t line = sources_.position(span).line;
  if (allows(sources_.lineText(span.file, line))) return true;
  if (line == first) return false;
  std::string_view above = sources_.lineText(span.file, line - 1);
  size_t begin = above.find_first_not_of(" \t");
  return begin != above.npos && above[begin] == '#' && allows(above);
}

std::vector<const Diagnostic *> Diagnostics::sorted() const {
  std::vector<const Diagnostic *> order;
  for (const Diagnostic &d : items_) order.push_back(&d);
  std::stable_sort(order.begin(), order.end(), [](auto *a, auto *b) {
    return std::pair(a->span.file, a->span.begin) < std::pair(b->span.file, b->span.begin);
  });
  return order;
}

// --- drawing -------------------------------------------------------------------------------------

namespace {

/// Terminal colours, or nothing.
struct Style {
  bool on;
  std::string operator()(const char *code, const std::string &text) const {
    return on ? std::string("\033[") + code + "m" + text + "\033[0m" : text;
  }
  std::string bold(const std::string &text) const { return (*this)("1", text); }
  std::string error(const std::string &text) const { return (*this)("1;31", text); }
  std::string warning(const std::string &text) const { return (*this)("1;33", text); }
  std::string frame(const std::string &text) const { return (*this)("34", text); }
};

constexpr size_t kMaxWidth = 120; // of a drawn line; longer ones are cut around the span
constexpr size_t kLead = 40;      // characters kept before the span when a line is cut

/// A line cut into what a terminal shows: one string per cell, and the byte each cell stands for.
struct Cells {
  std::vector<std::string> text;
  std::vector<uint32_t> byte;

  explicit Cells(std::string_view line) {
    for (uint32_t i = 0; i < line.size();) {
      uint32_t length = 1;
      while (i + length < line.size() && (line[i + length] & 0xC0) == 0x80 && length < 4) ++length;
      unsigned char lead = line[i];
      if (lead == '\t') {
        add(" ", i);
        while (text.size() % 4) add(" ", i);
      } else if (lead < 0x20 || lead == 0x7F || (lead >= 0x80 && length == 1) || lead >= 0xF8) {
        add("?", i);
      } else {
        add(std::string(line.substr(i, length)), i);
      }
      i += length;
    }
  }
  void add(std::string cell, uint32_t at) {
    text.push_back(std::move(cell));
    byte.push_back(at);
  }
  /// The first cell at or after a byte of the line.
  size_t at(uint32_t offset) const {
    return size_t(std::lower_bound(byte.begin(), byte.end(), offset) - byte.begin());
  }
};

/// The part of a line that can be on screen: no message should cost a megabyte of work. Moves
/// `lineBegin` to where that part begins.
std::string_view around(std::string_view line, Span span, uint32_t &lineBegin) {
  constexpr size_t kNear = 8 * kMaxWidth;
  size_t cut = span.begin - lineBegin > kNear ? span.begin - lineBegin - kNear : 0;
  while (cut < line.size() && (line[cut] & 0xC0) == 0x80) ++cut;
  lineBegin += uint32_t(cut);
  return line.substr(cut, 2 * kNear);
}

/// The cells [from, to) of a line, with dots where it was cut.
std::string visible(const Cells &cells, size_t from, size_t to) {
  std::string out = from > 0 ? "..." : "";
  for (size_t i = from; i < to; ++i) out += cells.text[i];
  return out + (to < cells.text.size() ? "..." : "");
}

std::string trimRight(std::string text) {
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

/// The place, the source line and the carets of one span.
std::string drawPlace(const Sources &sources, Span span, size_t gutter, const Style &style,
                      bool primary) {
  Position at = sources.position(span);
  uint32_t lineBegin = sources.lineBegin(span.file, at.line);
  std::string_view line = around(sources.lineText(span.file, at.line), span, lineBegin);
  Cells cells(line);
  size_t begin = std::min(cells.at(span.begin - lineBegin), cells.text.size());
  size_t end = std::min(cells.at(std::max(span.end, span.begin) - lineBegin), cells.text.size());
  end = std::max(begin + 1, end);

  size_t from = end <= kMaxWidth ? 0 : begin - std::min(begin, kLead);
  size_t to = std::min(cells.text.size(), from + kMaxWidth);
  end = std::min(end, std::max(to, begin + 1));

  std::string number = std::to_string(at.line);
  std::string pad(gutter, ' ');
  std::string carets = std::string((from > 0 ? 3 : 0) + begin - from, ' ');
  std::string marks(end - begin, primary ? '^' : '-');
  marks = primary ? style.error(marks) : style.frame(marks);

  std::string out = pad + style.frame("--> ") + sources.describe(span) + "\n";
  out += pad + style.frame(" |") + "\n";
  out += style.frame(std::string(gutter - number.size(), ' ') + number + " |");
  out += trimRight(" " + visible(cells, from, to)) + "\n";
  return out + pad + style.frame(" | ") + carets + marks + "\n";
}

std::string drawDiagnostic(const Sources &sources, const Diagnostic &d, const Style &style) {
  const DiagInfo &row = info(d.kind);
  bool isError = d.severity == Severity::Error;
  std::string head = std::string(isError ? "error" : "warning") + "[" + row.code + "]";
  std::string out =
      (isError ? style.error(head) : style.warning(head)) + style.bold(": " + d.message) + "\n";

  size_t gutter = 2; // all places of one message share the width of the largest line number
  auto widen = [&](Span span) {
    if (span.valid()) gutter = std::max(gutter, std::to_string(sources.position(span).line).size());
  };
  widen(d.span);
  for (const auto &label : d.labels) widen(label.span);

  std::string bar = std::string(gutter, ' ') + style.frame(" |") + "\n";
  bool more = !d.labels.empty() || !d.notes.empty() || !d.helps.empty();
  if (d.span.valid()) out += drawPlace(sources, d.span, gutter, style, true) + (more ? bar : "");
  for (const auto &label : d.labels) {
    out += style.bold("note") + ": " + label.text + "\n";
    if (label.span.valid()) out += drawPlace(sources, label.span, gutter, style, false);
  }
  for (const auto &note : d.notes) out += style.bold("note") + ": " + note + "\n";
  for (const auto &help : d.helps) out += style.bold("help") + ": " + help + "\n";
  return out;
}

std::string plural(size_t count, const std::string &noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

} // namespace

std::string Diagnostics::render(bool color) const {
  if (items_.empty()) return "";
  Style style{color};
  std::string out;
  for (const Diagnostic *d : sorted()) out += drawDiagnostic(sources_, *d, style) + "\n";
  int errors = errorCount_ + deniedCount_;
  std::string count = errors ? plural(size_t(errors), "error") : "";
  if (warningCount_)
    count += (count.empty() ? "" : ", ") + plural(size_t(warningCount_), "warning");
  return out + count + (capped_ ? ", further ones are not shown" : "") + "\n";
}

// --- did you mean --------------------------------------------------------------------------------

namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; }

/// Edits from `a` to `b`: insert, delete, replace or swap neighbours cost 2, a change of case 1.
int distance(std::string_view a, std::string_view b) {
  std::vector<int> before, last, row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = int(2 * j);
  for (size_t i = 1; i <= a.size(); ++i) {
    before = std::move(last);
    last = row;
    row[0] = int(2 * i);
    for (size_t j = 1; j <= b.size(); ++j) {
      int change = a[i - 1] == b[j - 1] ? 0 : lower(a[i - 1]) == lower(b[j - 1]) ? 1 : 2;
      row[j] = std::min({last[j] + 2, row[j - 1] + 2, last[j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 2);
    }
  }
  return row[b.size()];
}

} // namespace

std::string suggest(std::string_view name, const std::vector<std::string> &candidates) {
  constexpr size_t kLongest = 64; // nobody misspells longer names; keeps the table small
  if (name.empty() || name.size() > kLongest) return "";
  // A third of a long name may differ, one letter of a short one; case alone always may.
  int best = (name.size() <= 5 ? 3 : 2 * int((name.size() + 2) / 3)) + 1;
  std::string found;
  for (const std::string &candidate : candidates) {
    if (candidate.size() > kLongest || candidate == name) continue;
    int d = distance(name, candidate);
    bool sameLetters = std::equal(name.begin(), name.end(), candidate.begin(), candidate.end(),
                                  [](char x, char y) { return lower(x) == lower(y); });
    if (sameLetters) d = 0;
    // Half of a short name must be right: `x` is no misspelling of `y`.
    bool close = d < int(std::min(name.size(), candidate.size())) * 2 || sameLetters;
    if (d < best && close) {
      best = d;
      found = candidate;
    }
  }
  return found;
}

} // namespace nnc::fe
