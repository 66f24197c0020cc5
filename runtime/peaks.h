// What this machine can do: the yardsticks of a profile.
#ifndef NNC_RUNTIME_PEAKS_H
#define NNC_RUNTIME_PEAKS_H

#include <stdint.h>

namespace rt {

// [0]: one thread, [1]: all threads of the pool at the same time.
struct Peaks {
  double flops[2];     // per second: multiply-adds of f32 in vectors of registers, each counts two
  double bytes[2];     // per second: read from a buffer of `buffer` bytes
  const char *vectors; // "AVX-512", ..
  int64_t buffer;
};

// Takes about 60 milliseconds; the threads must have been started.
Peaks measure_peaks();

} // namespace rt

#endif
