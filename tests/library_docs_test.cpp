// docs/language.md: every example between ```nn fences is a program that compiles.
#include "tests/library_program.h"

using namespace nnc;
using namespace nnc::fe::test;

TEST_CASE("the examples of the language reference compile", "[library]") {
  std::istringstream lines(readText(NNC_SOURCE_DIR "/docs/language.md"));
  std::string example;
  bool inside = false;
  int line = 0, begin = 0, count = 0;
  for (std::string text; std::getline(lines, text);) {
    ++line;
    if (!inside && text == "```nn") {
      inside = true;
      begin = line;
      example.clear();
    } else if (inside && text == "```") {
      inside = false;
      ++count;
      INFO("docs/language.md:" << begin);
      Program p(example);
    } else if (inside) {
      example += text + "\n";
    }
  }
  CHECK(!inside);
  CHECK(count >= 10);
}
