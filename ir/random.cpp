// Philox4x32-10: ten rounds of two 32x32 -> 64 bit products whose halves are swapped and mixed with
// a key that grows by fixed steps. Salmon et al., SC 2011, figure 2; vectors in
// ir_interpret_test.cpp.
#include "ir/random.h"

namespace nnc::ir {

uint64_t siteHash(std::string_view site) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : site) h = (h ^ uint8_t(c)) * 0x100000001b3u;
  return h;
}

uint64_t mixSeed(uint64_t seed) {
  uint64_t z = seed + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint32_t philoxWord(uint64_t key, uint64_t step, uint64_t iteration, uint64_t index) {
  uint32_t c[4] = {uint32_t(index), uint32_t((index >> 32) + (iteration << 16)), uint32_t(step),
                   uint32_t(step >> 32)};
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t(0xD2511F53u) * c[0], p1 = uint64_t(0xCD9E8D57u) * c[2];
    const uint32_t c0 = uint32_t(p1 >> 32) ^ c[1] ^ k0, c2 = uint32_t(p0 >> 32) ^ c[3] ^ k1;
    c[0] = c0, c[1] = uint32_t(p1), c[2] = c2, c[3] = uint32_t(p0);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return c[0];
}

} // namespace nnc::ir
