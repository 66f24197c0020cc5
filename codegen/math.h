// Elementary functions as scalar operations.
//
// exp, log, tanh and the others of SOp become additions, multiplications, fma and bit operations,
// the same for every target, so that vector code needs no library and a model has the same bits
// wherever fma is one rounding. Bounds of the errors are with each function in math.cpp.
#pragma once
#include "codegen/kernel.h"

namespace nnc::cg {

// Rewrites every expression of the kernel. What it leaves: arithmetic, sqrt, floor, ceil, round,
// max, min, fma, comparisons, select, conversions and integer operations.
void expandMath(Kernel &k);

} // namespace nnc::cg
