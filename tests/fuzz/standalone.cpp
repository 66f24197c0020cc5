// A driver for compilers without libFuzzer: every file of the folders named, then mutations of them
// until the time is over. Knows `-max_total_time=SECONDS` and leaves the text of a crash behind in
// `crash-last`; other options are ignored.
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
namespace fs = std::filesystem;

static void run(const std::string &text) {
  std::ofstream("crash-last", std::ios::binary) << text;
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t *>(text.data()), text.size());
}

int main(int argc, char **argv) {
  std::vector<std::string> seeds;
  double seconds = 0;
  for (int i = 1; i < argc; ++i) {
    std::string arg = argv[i];
    if (arg.rfind("-max_total_time=", 0) == 0) seconds = std::atof(arg.c_str() + 16);
    if (arg[0] == '-' || !fs::is_directory(arg)) continue;
    for (const auto &entry : fs::recursive_directory_iterator(arg)) {
      if (!entry.is_regular_file()) continue;
      std::ostringstream text;
      text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
      seeds.push_back(text.str());
      run(seeds.back());
    }
  }
  if (seeds.empty()) return std::cerr << "no files to begin with\n", 1;
  std::mt19937 random(unsigned(seeds.size()));
  long rounds = 0;
  auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  for (; std::chrono::steady_clock::now() < end; ++rounds) {
    std::string text = seeds[random() % seeds.size()];
    const std::string &other = seeds[random() % seeds.size()];
    for (unsigned edits = 1 + random() % 4; edits > 0 && !text.empty(); --edits) {
      size_t at = random() % text.size(), from = other.empty() ? 0 : random() % other.size();
      switch (random() % 4) {
      case 0: text[at] = char(random()); break;
      case 1: text.erase(at, random() % 16); break;
      case 2: text.insert(at, other.substr(from, random() % 24)); break;
      default: text.replace(at, random() % 8, other.substr(from, random() % 8));
      }
    }
    run(text);
  }
  fs::remove("crash-last");
  std::cout << seeds.size() << " files and " << rounds << " mutations\n";
  return 0;
}
