// What a launch costs and where it belongs: the numbers of NncOp that profiles add up.
#pragma once
#include "codegen/program.h"

namespace nnc::cg {

// On a batch of n rows: constant + perN * n. Exact where the count is linear in n; else at n = 1
// and at the largest batch.
struct LinearCost {
  int64_t constant = 0, perN = 0;
};
// Operations on floating-point numbers that the kernel's code executes: a multiply-add is two, an
// elementary function what math.cpp makes of it.
LinearCost flopsOf(const Kernel &k);
// Bytes of the elements that it reads, and of those that it writes, each once.
LinearCost bytesOf(const Kernel &k);

// By launch: NNC_PASS_*.
std::vector<int64_t> passesOf(const ir::Module &m, const Program &p);
// By launch: the path of the layer whose weights it writes, else of that whose weights it reads; ""
// for kernels without weights.
std::vector<std::string> layersOf(const ir::Module &m, const Program &p);

} // namespace nnc::cg
