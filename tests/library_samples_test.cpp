// The programs that people start from: every file of samples/ elaborates.
#include "tests/library_program.h"
#include <filesystem>

using namespace nnc;
using namespace nnc::fe::test;

TEST_CASE("the samples elaborate", "[library]") {
  int count = 0;
  for (const auto &entry : std::filesystem::directory_iterator(NNC_SOURCE_DIR "/samples")) {
    if (entry.path().extension() != ".nn") continue;
    INFO(entry.path());
    Program p(readText(entry.path()));
    for (const char *function : {"init", "train_step", "eval_step", "predict", "metrics_result"})
      CHECK(p.module->find(function) != nullptr);
    ++count;
  }
  CHECK(count >= 20);
}
