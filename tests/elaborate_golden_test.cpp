// Elaboration against files of tests/golden/elaborate: `fail_*.nn` and `warn_*.nn` give exactly the
// messages of their .err file, the other programs exactly the module of their .ir file.
//
// To accept changes, run once with NNC_UPDATE_GOLDEN=1 and read the difference.
#include "frontend/elaborate.h"
#include "ir/text.h"
#include "ir/verify.h"
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

using namespace nnc;
namespace fs = std::filesystem;

static std::string readText(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// Without line and column behind the names of library files: their text may move.
static std::string withoutLibraryPlaces(const std::string &text, const std::string &own) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    size_t at = text.find(".nn", i);
    if (at == std::string::npos) return out + text.substr(i);
    size_t end = at + 3, begin = text.find_last_of(" \"`", at) + 1;
    out += text.substr(i, end - i);
    if (end < text.size() && text[end] == '"') out += text[end++];
    bool isOwn = text.compare(begin, own.size(), own) == 0;
    while (!isOwn && end < text.size() && (text[end] == ':' || std::isdigit(text[end]))) ++end;
    i = end;
  }
  return out;
}

static void compare(const fs::path &golden, const std::string &found) {
  if (std::getenv("NNC_UPDATE_GOLDEN")) std::ofstream(golden, std::ios::binary) << found;
  INFO(golden);
  CHECK(found == readText(golden));
}

TEST_CASE("programs elaborate to their golden messages and modules", "[elaborate]") {
  int count = 0;
  for (const auto &entry :
       fs::directory_iterator(fs::path(NNC_SOURCE_DIR) / "tests/golden/elaborate")) {
    fs::path path = entry.path();
    if (path.extension() != ".nn") continue;
    ++count;
    INFO(path);
    std::string name = path.filename();
    fe::Sources sources;
    fe::Diagnostics diags(sources);
    auto module = fe::elaborate(sources, sources.add(name, readText(path)), diags);
    bool fails = name.starts_with("fail_");
    CHECK((module == nullptr) == fails);
    if (fails || name.starts_with("warn_")) {
      compare(path.replace_extension(".err"), withoutLibraryPlaces(diags.render(), name));
      continue;
    }
    CHECK(!diags.hasErrors()); // some do what the lints warn about
    if (!module) continue;
    CHECK(ir::verify(*module) == "");
    compare(path.replace_extension(".ir"), withoutLibraryPlaces(ir::print(*module), name));
  }
  CHECK(count > 15);
}
