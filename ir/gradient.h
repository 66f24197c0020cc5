// Differentiation as a pass: `grad` nodes become the nodes that compute the derivative.
//
//   %dx, %dw = grad %loss wrt %x, %w     ->     %loss.d = constant 1; ...; %w.d = contract ...
//
// Reverse mode over the nodes between the x's and the loss, innermost `grad` first (a grad of a
// grad sees ordinary nodes). Pointwise rows take their partials from ops.def, structural operations
// their transposes from the duality table in gradient.cpp; the driver does activity, order and
// accumulation. Cotangents are named `<value>.d` and carry the location of the node they belong to.
// No dependence gives zeros. `scan` gives a reversed scan, `call` with a gradient calls it.
#pragma once
#include "ir/module.h"

namespace nnc::ir {
// Removes every grad node of every function of the module.
void differentiate(Module &m);
// Inlines the calls that no template implements (all of them, for now).
void inlineCalls(Module &m);
} // namespace nnc::ir
