// Messages of the `nnc` command in the form asked for, and `nnc explain`.
//
//   nnc check model.nn --diagnostics=sarif 2>model.sarif
//
// Text and JSON lines are written at once. SARIF is one document per run: results are collected and
// written when the command ends.
#include "frontend/driver.h"

#include <cstdio>
#include <cstdlib>
#include <unistd.h>

namespace nnc::fe {

static MessageFormat format = MessageFormat::Text;
static bool color = false;
static std::string results; // of SARIF, so far

static void put(const std::string &text) { std::fwrite(text.data(), 1, text.size(), stderr); }

void setMessages(const Options &o) {
  format = o.messages;
  bool automatic = isatty(STDERR_FILENO) && !std::getenv("NO_COLOR");
  color = o.color == Color::Always || (o.color == Color::Auto && automatic);
}

static void addResults(const std::string &more) {
  if (!more.empty()) results += (results.empty() ? "" : ",") + more;
}

void say(const Diagnostics &diags) {
  switch (format) {
  case MessageFormat::Text: put(diags.render(color)); break;
  case MessageFormat::Json: put(diags.renderJson()); break;
  case MessageFormat::Sarif: addResults(diags.renderSarifResults()); break;
  }
}

void complain(const std::string &message, const std::string &help, const std::string &place) {
  std::string text = message + (help.empty() ? "" : "\nhelp: " + help);
  switch (format) {
  case MessageFormat::Text:
    put((color ? "\033[1;31merror:\033[0m " : "error: ") + message + "\n");
    if (!place.empty()) put("  --> " + place + "\n");
    if (!help.empty()) put("  help: " + help + "\n");
    break;
  case MessageFormat::Json:
    put("{\"severity\": \"error\", \"code\": null, \"name\": null, \"message\": " +
        jsonString(message) + ", \"place\": null, \"labels\": [], \"notes\": [" +
        (place.empty() ? "" : jsonString(place)) + "], \"helps\": [" +
        (help.empty() ? "" : jsonString(help)) + "], \"fixes\": []}\n");
    break;
  case MessageFormat::Sarif:
    if (!place.empty()) text = place + ": " + text;
    addResults("\n      {\"level\": \"error\", \"message\": {\"text\": " + jsonString(text) + "}}");
    break;
  }
}

void finishMessages() {
  if (format == MessageFormat::Sarif) put(sarifDocument(results, kVersion));
  std::fflush(stderr);
}

int explainCommand(const Options &o) {
  std::string text;
  if (o.explain.empty())
    for (const DiagInfo &row : allDiags())
      text += std::string(row.code) + "  " +
              (row.severity == Severity::Error ? "error    " : "warning  ") + row.name + "\n";
  else
    text = explanation(*findDiag(o.explain)); // the command line was checked
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

} // namespace nnc::fe
