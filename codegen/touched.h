// Kernels that sum over tokens and update a table by the sums (ScatterAdd with stages).
#pragma once
#include "codegen/kernel.h"

namespace nnc::cg {

// Do the tokens' updates read the argument of `place` elsewhere than in their own rows? `place` is
// an element of the table over the axes of the stages. An item owns its rows: what it reads of
// others may be updated.
bool tokensReadElsewhere(const Kernel &k, const Access &place);
// Does the kernel leave rows of its table that no token names as they are?
bool keepsUntouchedRows(const Kernel &k);

} // namespace nnc::cg
