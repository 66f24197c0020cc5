// The kept corpus of the fuzzers (tests/corpus, tests/fuzz): every text that once crashed, hung or
// reached something new comes back from the compiler, and so do small changes of it.
#include "tests/fuzz/targets.h"
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <vector>

namespace fs = std::filesystem;

static std::vector<std::string> corpus(const std::string &name) {
  std::vector<std::string> out;
  for (const auto &entry :
       fs::directory_iterator(fs::path(NNC_SOURCE_DIR) / "tests/corpus" / name)) {
    std::ostringstream text;
    text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    out.push_back(text.str());
  }
  return out;
}

static void replay(const std::string &name, void (*target)(std::string_view), int rounds) {
  auto texts = corpus(name);
  CHECK(texts.size() >= 5);
  for (const std::string &text : texts) target(text);
  std::mt19937 random(11);
  for (int round = 0; round < rounds; ++round) {
    std::string text = texts[random() % texts.size()];
    const std::string &other = texts[random() % texts.size()];
    if (text.empty() || other.empty()) continue;
    size_t at = random() % text.size(), from = random() % other.size();
    text.replace(at, random() % 12, other.substr(from, random() % 12));
    INFO(text);
    target(text);
  }
}

TEST_CASE("the fuzzers' corpus: the language", "[elaborate][fuzz]") {
  replay("language", nnc::fuzz::language, 150);
}
TEST_CASE("the fuzzers' corpus: textual IR", "[elaborate][fuzz]") {
  replay("ir", nnc::fuzz::ir, 300);
}
