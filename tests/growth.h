// Does a piece of work take time in proportion to its size? Absolute times say nothing on a busy
// machine, so the work is done at a size and at four times the size, and the times of the process
// are compared: about 4 when linear, 16 when quadratic. The bound between them is 9; and since one
// measurement may be disturbed, the work counts as linear when one of several pairs shows it.
#pragma once
#include <algorithm>
#include <cstddef>
#include <ctime>

namespace nnc::test {

/// Whether `work(4 * size)` takes less than nine times the processor time of `work(size)`, in one
/// of `trials` pairs. `size` should be worth some tens of milliseconds: less drowns in what is
/// constant.
template <typename Work> bool growsLinearly(size_t size, Work work, int trials = 5) {
  auto seconds = [&](size_t n) {
    const std::clock_t start = std::clock();
    work(n);
    return double(std::clock() - start) / CLOCKS_PER_SEC;
  };
  for (int trial = 0; trial < trials; ++trial) {
    const double once = seconds(size);
    if (seconds(4 * size) < 9 * std::max(once, 1e-3)) return true;
  }
  return false;
}

} // namespace nnc::test
