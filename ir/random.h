// Random draws: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
// 2011).
//
// Counter-based, so a draw is a function of (seed, step, site, iteration, logical element index)
// and of nothing else: not of threads, order or batch tail. Compiled kernels compute the same
// words.
//   key     = the two halves of  mix(seed) ^ siteHash(site)
//   counter = (index low, index high + 2^16 * iteration, step low, step high);  the draw is word 0
//   uniform = (word >> 8) * 2^-24, in [0, 1)
// iteration is the place t in the enclosing scan (outer * length + t if they nest), whichever way
// the loop runs, so that a reversed scan can compute again what the forward one drew. The logical
// index uses strides of the full batch N, so row i's bits do not depend on n: a random tensor's
// batch dimension must be its first, or its dimensions are laid out at n = N.
#pragma once
#include <cstdint>
#include <string_view>

namespace nnc::ir {
uint64_t siteHash(std::string_view site); // FNV-1a, 64 bit
uint64_t mixSeed(uint64_t seed);          // splitmix64 finaliser
uint32_t philoxWord(uint64_t key, uint64_t step, uint64_t iteration, uint64_t index);
inline double uniform24(uint32_t word) { return double(word >> 8) * (1.0 / 16777216.0); }
} // namespace nnc::ir
