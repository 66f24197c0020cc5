// docs/diagnostics.md: every message has a page; its first example gives exactly that message,
// once, and its second example, the first repaired, gives none. Samples and the examples of the
// language reference give no message either: what is written there as it should be must not be
// warned about.
#include "frontend/elaborate.h"
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

using namespace nnc::fe;
namespace fs = std::filesystem;

namespace {

std::string readText(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// The messages of a program, as `nnc check` gives them.
struct Checked {
  Sources sources;
  Diagnostics diags{sources};
  bool compiled;
  Checked(const std::string &name, const std::string &text, bool declarationsOnly = true,
          bool messagesOnly = false) {
    ElaborateOptions options;
    options.messagesOnly = messagesOnly;
    options.declarationsOnly = options.everyModel = declarationsOnly;
    compiled = elaborate(sources, sources.add(name, text), diags, options) != nullptr;
  }
};

/// The programs between ```nn fences.
std::vector<std::string> examples(const std::string &page) {
  std::vector<std::string> out;
  for (size_t at = page.find("```nn\n"); at != page.npos; at = page.find("```nn\n", at)) {
    size_t begin = at + 6, end = page.find("\n```", begin);
    REQUIRE(end != page.npos);
    out.push_back(page.substr(begin, end + 1 - begin));
    at = end + 4;
  }
  return out;
}

// Limits and broken files: they cannot be shown on a page.
const std::set<std::string> kWithoutExample{"NN0001", "NN0002", "NN0104", "NN0105",
                                            "NN0509", "NN0715", "NN1226"};

} // namespace

TEST_CASE("every message has a page whose examples do what it says", "[diagnostics]") {
  const std::string all = readText(fs::path(NNC_SOURCE_DIR) / "docs/diagnostics.md");
  for (size_t i = 0; i < allDiags().size(); ++i) {
    const DiagInfo &row = allDiags()[i];
    INFO(row.code << " " << row.name);
    std::string heading = std::string("\n### ") + row.code + " " + row.name + "\n\n";
    size_t begin = all.find(heading);
    CHECK(begin != all.npos);
    if (begin == all.npos) continue;
    begin += heading.size();
    std::string page = all.substr(begin, all.find("\n### ", begin) - begin);
    CHECK(page.find(". ") + page.find(".\n") > 20); // says something before the examples
    auto programs = examples(page);
    bool shown = !kWithoutExample.contains(row.code);
    CHECK(programs.size() == (shown ? 2 : 0));
    if (programs.size() != 2) continue;
    bool mayDeclareOnly = Diag(i) != Diag::NoModel;
    Checked fails("example.nn", programs[0], mayDeclareOnly), works("example.nn", programs[1]);
    INFO(programs[0]);
    auto messages = fails.diags.sorted();
    INFO(fails.diags.render());
    CHECK(messages.size() == 1);
    CHECK(std::all_of(messages.begin(), messages.end(),
                      [&](const Diagnostic *d) { return d->kind == Diag(i); }));
    CHECK(fails.compiled == (row.severity == Severity::Warning));
    CHECK(works.diags.render() == "");
    CHECK(works.compiled);
    // For the terminal: everything of the page, without fences.
    std::string text = explanation(Diag(i));
    CHECK(text.find(row.code) == 0);
    CHECK(text.find("```") == text.npos);
    CHECK((text.find("This does not:\n\n    ") != text.npos) == shown);
  }
}

TEST_CASE("pages are about messages that exist", "[diagnostics]") {
  std::istringstream lines(readText(fs::path(NNC_SOURCE_DIR) / "docs/diagnostics.md"));
  std::set<std::string> seen;
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("### ", 0) != 0) continue;
    INFO(line);
    auto diag = findDiag(line.substr(4, 6));
    REQUIRE(diag);
    CHECK(line.substr(11) == info(*diag).name);
    CHECK(seen.insert(line).second);
  }
}

TEST_CASE("codes are found by number and by name", "[diagnostics]") {
  CHECK(findDiag("NN0404") == Diag::MatmulMismatch);
  CHECK(findDiag("nn0404") == Diag::MatmulMismatch);
  CHECK(findDiag("404") == Diag::MatmulMismatch);
  CHECK(findDiag("MatmulMismatch") == Diag::MatmulMismatch);
  CHECK(!findDiag("NN9999"));
  CHECK(!findDiag("40404"));
  CHECK(!findDiag(""));
}

TEST_CASE("samples and the language reference get no message", "[diagnostics]") {
  const fs::path root = NNC_SOURCE_DIR;
  int count = 0;
  for (const auto &entry : fs::directory_iterator(root / "samples")) {
    if (entry.path().extension() != ".nn") continue;
    ++count;
    CHECK(Checked(entry.path().filename(), readText(entry.path())).diags.render() == "");
  }
  CHECK(count >= 5);
  auto programs = examples(readText(root / "docs/language.md"));
  CHECK(programs.size() >= 10);
  for (const std::string &text : programs) CHECK(Checked("example.nn", text).diags.render() == "");
}

TEST_CASE("golden mistakes get exactly these messages", "[diagnostics]") {
  // What people who know Keras or PyTorch write at first; each message was read as a newcomer
  // would.
  int count = 0;
  for (const auto &entry :
       fs::directory_iterator(fs::path(NNC_SOURCE_DIR) / "tests/golden/mistakes")) {
    fs::path path = entry.path();
    if (path.extension() != ".nn") continue;
    ++count;
    Checked program(path.filename(), readText(path));
    fs::path golden = fs::path(path).replace_extension(".err");
    // Places within the library move with its text.
    std::string found = program.diags.render(), text;
    CHECK(Checked(path.filename(), readText(path), true, true).diags.render() == found);
    for (size_t at = 0; at < found.size();) {
      size_t dot = found.find(".nn:", at);
      size_t begin = dot == found.npos ? found.npos : found.find_last_of(" `", dot) + 1;
      if (dot == found.npos) {
        text += found.substr(at);
        break;
      }
      bool own =
          found.compare(begin, path.filename().string().size(), path.filename().string()) == 0;
      text += found.substr(at, dot + 3 - at);
      at = dot + 3;
      while (!own && (found[at] == ':' || std::isdigit((unsigned char)found[at]))) ++at;
    }
    if (std::getenv("NNC_UPDATE_GOLDEN")) std::ofstream(golden, std::ios::binary) << text;
    INFO(path);
    CHECK(text != "");
    CHECK(text == readText(golden));
  }
  CHECK(count >= 50);
}
