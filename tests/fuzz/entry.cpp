// The entry that libFuzzer calls, for one target: NNC_FUZZ_TARGET is `language` or `ir`.
#include "tests/fuzz/targets.h"
#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  nnc::fuzz::NNC_FUZZ_TARGET({reinterpret_cast<const char *>(data), size});
  return 0;
}
