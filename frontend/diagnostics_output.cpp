// Messages for other programs: JSON lines and SARIF 2.1.0, and the pages of `nnc explain`.
//
//   {"severity": "error", "code": "NN0201", …, "place": {"file": "m.nn", "begin": {"line": 1, …
//
// The shape of the JSON is described in docs/diagnostics.md and promised to those who read it. A
// suggestion becomes a fix where the place of the message is one word or one string: only there
// is it sure that the suggestion replaces all of it.
#include "frontend/diagnostics.h"
#include "frontend/std_text.h"

#include <cctype>
#include <cstdio>

namespace nnc::fe {

// --- JSON ----------------------------------------------------------------------------------------

/// The length of the UTF-8 character at `i`, or 0 if there is none.
static size_t characterAt(std::string_view text, size_t i) {
  unsigned char lead = text[i];
  size_t length = lead < 0x80                   ? 1
                  : lead >= 0xC2 && lead < 0xE0 ? 2
                  : lead >= 0xE0 && lead < 0xF0 ? 3
                  : lead >= 0xF0 && lead < 0xF5 ? 4
                                                : 0;
  if (length == 0 || i + length > text.size()) return 0;
  for (size_t k = 1; k < length; ++k)
    if ((text[i + k] & 0xC0) != 0x80) return 0;
  return length;
}

std::string jsonString(std::string_view text) {
  std::string out = "\"";
  for (size_t i = 0; i < text.size();) {
    size_t length = characterAt(text, i);
    unsigned char c = text[i];
    char code[8];
    if (length == 0) {
      out += '?';
    } else if (c == '"' || c == '\\') {
      out += '\\', out += char(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c < 0x20 || c == 0x7F) {
      std::snprintf(code, sizeof code, "\\u%04x", c);
      out += code;
    } else {
      out += text.substr(i, length);
    }
    i += std::max<size_t>(length, 1);
  }
  return out + "\"";
}

static std::string jsonEnd(const Sources &sources, uint32_t file, uint32_t offset) {
  Position p = sources.position(file, offset);
  return "{\"line\": " + std::to_string(p.line) + ", \"column\": " + std::to_string(p.column) +
         ", \"offset\": " + std::to_string(offset) + "}";
}

static std::string jsonPlace(const Sources &sources, Span span) {
  if (!span.valid()) return "null";
  return "{\"file\": " + jsonString(sources.name(span.file)) +
         ", \"begin\": " + jsonEnd(sources, span.file, span.begin) +
         ", \"end\": " + jsonEnd(sources, span.file, std::max(span.begin, span.end)) + "}";
}

template <class T, class F> static std::string jsonList(const std::vector<T> &items, F f) {
  std::string out = "[";
  for (const T &item : items) out += (out.size() > 1 ? ", " : "") + f(item);
  return out + "]";
}

/// The fixes that replace exactly the word or string at the place.
static std::vector<std::string> sureFixes(const Sources &sources, const Diagnostic &d) {
  if (!d.span.valid() || d.fixes.empty()) return {};
  std::string_view text = sources.text(d.span);
  bool isString = text.size() >= 2 && text.front() == '"' && text.find('"', 1) == text.size() - 1;
  bool isWord = !text.empty();
  for (char c : text) isWord &= std::isalnum((unsigned char)c) || c == '_';
  return isWord || isString ? d.fixes : std::vector<std::string>{};
}

static const char *word(Severity s) { return s == Severity::Error ? "error" : "warning"; }

std::string Diagnostics::renderJson() const {
  std::string out;
  for (const Diagnostic *d : sorted()) {
    const DiagInfo &row = info(d->kind);
    std::string place = jsonPlace(sources_, d->span);
    out += std::string("{\"severity\": \"") + word(d->severity) + "\", \"code\": \"" + row.code +
           "\", \"name\": \"" + row.name + "\", \"message\": " + jsonString(d->message) +
           ", \"place\": " + place + ", \"labels\": " +
           jsonList(d->labels,
                    [&](const Diagnostic::Label &l) {
                      return "{\"place\": " + jsonPlace(sources_, l.span) +
                             ", \"message\": " + jsonString(l.text) + "}";
                    }) +
           ", \"notes\": " + jsonList(d->notes, jsonString) +
           ", \"helps\": " + jsonList(d->helps, jsonString) + ", \"fixes\": " +
           jsonList(sureFixes(sources_, *d),
                    [&](const std::string &fix) {
                      return "{\"place\": " + place + ", \"text\": " + jsonString(fix) + "}";
                    }) +
           "}\n";
  }
  return out;
}

// --- SARIF ---------------------------------------------------------------------------------------

static std::string sarifRegion(const Sources &sources, Span span) {
  Position a = sources.position(span.file, span.begin);
  Position b = sources.position(span.file, std::max(span.begin, span.end));
  return "{\"startLine\": " + std::to_string(a.line) +
         ", \"startColumn\": " + std::to_string(a.column) +
         ", \"endLine\": " + std::to_string(b.line) +
         ", \"endColumn\": " + std::to_string(b.column) + "}";
}

/// A path as a URI reference: what is not allowed there is percent-encoded.
static std::string uri(std::string_view path) {
  std::string out;
  for (unsigned char c : path) {
    char code[4];
    std::snprintf(code, sizeof code, "%%%02X", c);
    bool plain =
        std::isalnum(c) || std::string_view("-._~/").find(char(c)) != std::string_view::npos;
    out += plain ? std::string(1, char(c)) : code;
  }
  return out;
}

static std::string sarifPlace(const Sources &sources, Span span) {
  return "\"physicalLocation\": {\"artifactLocation\": {\"uri\": \"" +
         uri(sources.name(span.file)) + "\"}, \"region\": " + sarifRegion(sources, span) + "}";
}

std::string Diagnostics::renderSarifResults() const {
  std::string out;
  for (const Diagnostic *d : sorted()) {
    const DiagInfo &row = info(d->kind);
    std::string message = d->message;
    for (const std::string &note : d->notes) message += "\nnote: " + note;
    for (const std::string &help : d->helps) message += "\nhelp: " + help;
    out += out.empty() ? "\n      {" : ",\n      {";
    out += std::string("\"ruleId\": \"") + row.code +
           "\", \"ruleIndex\": " + std::to_string(size_t(d->kind)) + ", \"level\": \"" +
           word(d->severity) + "\", \"message\": {\"text\": " + jsonString(message) + "}";
    if (d->span.valid()) out += ", \"locations\": [{" + sarifPlace(sources_, d->span) + "}]";
    std::string related;
    for (size_t i = 0; i < d->labels.size(); ++i) {
      const auto &l = d->labels[i];
      if (!l.span.valid()) continue;
      related += (related.empty() ? "{\"id\": " : ", {\"id\": ") + std::to_string(i + 1) + ", " +
                 sarifPlace(sources_, l.span) + ", \"message\": {\"text\": " + jsonString(l.text) +
                 "}}";
    }
    if (!related.empty()) out += ", \"relatedLocations\": [" + related + "]";
    std::string fixes;
    for (const std::string &fix : sureFixes(sources_, *d))
      fixes += std::string(fixes.empty() ? "" : ", ") +
               "{\"artifactChanges\": [{\"artifactLocation\": {\"uri\": \"" +
               uri(sources_.name(d->span.file)) +
               "\"}, \"replacements\": [{\"deletedRegion\": " + sarifRegion(sources_, d->span) +
               ", \"insertedContent\": {\"text\": " + jsonString(fix) + "}}]}]}";
    if (!fixes.empty()) out += ", \"fixes\": [" + fixes + "]";
    out += "}";
  }
  return out;
}

std::string sarifDocument(const std::string &results, const std::string &version) {
  std::string rules;
  for (const DiagInfo &row : allDiags())
    rules += std::string(rules.empty() ? "" : ",") + "\n        {\"id\": \"" + row.code +
             "\", \"name\": \"" + row.name +
             "\", \"shortDescription\": {\"text\": " + jsonString(row.format) +
             "}, \"defaultConfiguration\": {\"level\": \"" + word(row.severity) + "\"}}";
  return "{\n"
         "  \"$schema\": \"https://json.schemastore.org/sarif-2.1.0.json\",\n"
         "  \"version\": \"2.1.0\",\n"
         "  \"runs\": [{\n"
         "    \"tool\": {\"driver\": {\"name\": \"nnc\", \"version\": " +
         jsonString(version) + ", \"rules\": [" + rules +
         "\n    ]}},\n"
         "    \"columnKind\": \"unicodeCodePoints\",\n"
         "    \"results\": [" +
         results + (results.empty() ? "" : "\n    ") +
         "]\n"
         "  }]\n"
         "}\n";
}

// --- pages ---------------------------------------------------------------------------------------

/// Markdown between the heading of the code and the next one; code fences become indentation.
std::string explanation(Diag diag) {
  std::string_view all;
  for (const StdFile &f : docFiles())
    if (std::string_view(f.name) == "diagnostics.md") all = f.text;
  std::string heading = std::string("\n### ") + info(diag).code + " " + info(diag).name + "\n";
  size_t begin = all.find(heading);
  if (begin == all.npos) return "";
  begin += heading.size();
  size_t end = std::min(all.find("\n## ", begin), all.find("\n### ", begin));
  std::string_view page = all.substr(begin, std::min(end, all.size()) - begin);
  std::string out = std::string(info(diag).code) + " " + info(diag).name + ": " +
                    (info(diag).severity == Severity::Error ? "error" : "warning") + "\n";
  bool code = false;
  int examples = 0;
  for (size_t at = 0; at < page.size();) {
    size_t stop = std::min(page.find('\n', at), page.size());
    std::string_view line = page.substr(at, stop - at);
    at = stop + 1;
    if (line.substr(0, 3) == "```") {
      code = !code;
      if (code) out += ++examples == 1 ? "This gets it:\n\n" : "This does not:\n\n";
      continue;
    }
    out += (code && !line.empty() ? "    " : "") + std::string(line) + "\n";
  }
  while (out.size() > 1 && out[out.size() - 2] == '\n') out.pop_back();
  return out;
}

} // namespace nnc::fe
