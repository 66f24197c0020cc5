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
      compare(path.replace_extension(".err"), diags.render());
      continue;
    }
    CHECK(diags.render() == "");
    if (!module) continue;
    CHECK(ir::verify(*module) == "");
    compare(path.replace_extension(".ir"), ir::print(*module));
  }
  CHECK(count > 15);
}
