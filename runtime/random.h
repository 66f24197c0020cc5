// Counter-based random numbers: the i-th draw is a function of (key, i), so that nothing depends on
// what was drawn before.
#ifndef NNC_RUNTIME_RANDOM_H
#define NNC_RUNTIME_RANDOM_H

#include <stdint.h>

namespace rt {

// The finaliser of SplitMix64: a bijection that spreads every input bit.
inline uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
  x = (x ^ x >> 27) * 0x94D049BB133111EB;
  return x ^ x >> 31;
}

// A number in [0, limit) from 64 random bits.
inline uint64_t below(uint64_t bits, uint64_t limit) {
  return uint64_t((static_cast<unsigned __int128>(bits) * limit) >> 64);
}

// Fisher-Yates: the order of rows in pass `pass` over the data.
inline void shuffle(uint32_t *order, uint64_t count, uint64_t seed, uint64_t pass) {
  uint64_t key = mix(mix(seed) ^ pass);
  for (uint64_t i = 0; i < count; i++) order[i] = uint32_t(i);
  for (uint64_t i = count; i > 1; i--) {
    uint64_t j = below(mix(key + i), i);
    uint32_t swapped = order[i - 1];
    order[i - 1] = order[j];
    order[j] = swapped;
  }
}

} // namespace rt

#endif
