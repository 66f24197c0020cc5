// Messages: how they are drawn, sorted and capped; that each program under
// tests/golden/diagnostics/fail_*.nn gives exactly the messages in its .err file; and that every
// registered message is shown by some golden file.
//
// To accept changed messages, run once with NNC_UPDATE_GOLDEN=1 and read the difference.
#include "frontend/diagnostics.h"
#include "frontend/parse.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

using namespace nnc::fe;
namespace fs = std::filesystem;

namespace {

const fs::path kGolden = fs::path(NNC_SOURCE_DIR) / "tests/golden";

std::string readText(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// The codes "NN0123" in a text; `#` begins a comment if `comments`.
std::set<std::string> codesIn(const std::string &text, bool comments) {
  std::set<std::string> codes;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (comments) line = line.substr(0, line.find('#'));
    for (size_t at = line.find("NN"); at != line.npos; at = line.find("NN", at + 2))
      if (line.find_first_not_of("0123456789", at + 2) >= at + 6 || at + 6 == line.size())
        codes.insert(line.substr(at, 6));
  }
  return codes;
}

} // namespace

TEST_CASE("programs with syntax errors give exactly these messages", "[diagnostics]") {
  for (const auto &entry : fs::directory_iterator(kGolden / "diagnostics")) {
    if (entry.path().extension() != ".nn") continue;
    INFO(entry.path());
    Sources sources;
    Diagnostics diags(sources);
    uint32_t id = sources.add(entry.path().filename(), readText(entry.path()));
    parse(sources, id, diags);
    CHECK(diags.hasErrors());
    fs::path golden = fs::path(entry.path()).replace_extension(".err");
    if (std::getenv("NNC_UPDATE_GOLDEN")) std::ofstream(golden, std::ios::binary) << diags.render();
    CHECK(diags.render() == readText(golden));
  }
}

TEST_CASE("every message is shown by a golden file", "[diagnostics]") {
  std::set<std::string> shown;
  for (const auto &entry : fs::recursive_directory_iterator(kGolden))
    if (entry.is_regular_file() && entry.path().extension() == ".err")
      shown.merge(codesIn(readText(entry.path()), false));
  auto uncovered = codesIn(readText(kGolden / "diagnostics/uncovered.txt"), true);
  std::string missing, stale;
  for (const DiagInfo &row : allDiags()) {
    if (!shown.count(row.code) && !uncovered.count(row.code))
      missing += std::string(row.code) + " " + row.name + "\n";
    if (shown.count(row.code) && uncovered.count(row.code)) stale += std::string(row.code) + "\n";
    uncovered.erase(row.code);
  }
  CHECK(missing == "");
  CHECK(stale == "");
  CHECK(uncovered.empty()); // no code that is not registered
}

TEST_CASE("the registry is well formed", "[diagnostics]") {
  std::set<std::string> codes;
  for (const DiagInfo &row : allDiags()) {
    INFO(row.name);
    std::string code = row.code, format = row.format;
    CHECK(code.size() == 6);
    CHECK(codes.insert(code).second);
    CHECK(!format.empty());
    CHECK(format.back() != '.');
    CHECK(!std::isupper((unsigned char)format[0]));
    CHECK(std::count(format.begin(), format.end(), '`') % 2 == 0);
  }
}

TEST_CASE("a message shows its place, labels, notes and help", "[diagnostics]") {
  Sources sources;
  Diagnostics diags(sources);
  uint32_t id = sources.add("m.nn", "w = [784]\n\tx |> Dense(\xC3\xA9)\n");
  diags.report({id, 16, 25}, Diag::ExpectedFound, {"784 columns", "28"})
      .label({id, 4, 9}, "dimension fixed here")
      .note("in `M` / `dense_1`")
      .didYouMean("Dens");
  CHECK(diags.render() == "error[NN0101]: expected 784 columns, found 28\n"
                          "  --> m.nn:2:7\n"
                          "   |\n"
                          " 2 |     x |> Dense(\xC3\xA9)\n"
                          "   |          ^^^^^^^^\n"
                          "   |\n"
                          "note: dimension fixed here\n"
                          "  --> m.nn:1:5\n"
                          "   |\n"
                          " 1 | w = [784]\n"
                          "   |     -----\n"
                          "note: in `M` / `dense_1`\n"
                          "help: did you mean `Dens`?\n"
                          "\n"
                          "1 error\n");
}

TEST_CASE("messages are sorted, not repeated, and capped", "[diagnostics]") {
  Sources sources;
  Diagnostics diags(sources);
  uint32_t id = sources.add("m.nn", std::string(100, 'x') + "\n");
  for (uint32_t i = 30; i-- > 0;)
    for (int twice = 0; twice < 2; ++twice)
      diags.report({id, i, i + 1}, Diag::UnexpectedCharacter, {std::to_string(i)}).help("h");
  CHECK(diags.errorCount() == Diagnostics::kMaxErrors);
  CHECK(diags.full());
  auto order = diags.sorted();
  CHECK(std::is_sorted(order.begin(), order.end(),
                       [](auto *a, auto *b) { return a->span.begin < b->span.begin; }));
  CHECK(diags.render().find("20 errors, further ones are not shown\n") != std::string::npos);
}

TEST_CASE("a message without a place is one line", "[diagnostics]") {
  Sources sources;
  Diagnostics diags(sources);
  diags.report({}, Diag::ExpectedFound, {"a file", "a folder"});
  CHECK(diags.render() == "error[NN0101]: expected a file, found a folder\n\n1 error\n");
}

TEST_CASE("places at the edges of a file can be drawn", "[diagnostics]") {
  Sources sources;
  for (const char *text : {"", "x", "x\n", "\n", "\r\n", "x\r\n\ty"}) {
    uint32_t id = sources.add("e.nn", text);
    uint32_t size = uint32_t(sources.text(id).size());
    for (uint32_t begin = 0; begin <= size; ++begin)
      for (uint32_t end = begin; end <= size; ++end) {
        Diagnostics diags(sources);
        diags.report({id, begin, end}, Diag::ExpectedFound, {"a", "b"});
        CHECK(diags.render().find("^") != std::string::npos);
      }
  }
}

TEST_CASE("the closest name is suggested, or none", "[diagnostics]") {
  std::vector<std::string> names{"Dense", "Dropout", "relu", "sigmoid", "learning_rate", "x", "y"};
  CHECK(suggest("Dens", names) == "Dense");
  CHECK(suggest("dense", names) == "Dense");
  CHECK(suggest("rleu", names) == "relu");
  CHECK(suggest("learningrate", names) == "learning_rate");
  CHECK(suggest("Conv2D", names) == "");
  CHECK(suggest("z", names) == "");
  CHECK(suggest("", names) == "");
}
