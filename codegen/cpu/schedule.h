// What schedule() and the emitter must agree on: the axis that the vectors of a stage run along.
#pragma once
#include "codegen/codegen.h"

namespace nnc::cg {

// Relative cost of a stage per point of the parallel axes (about a nanosecond / 2 each unit) with
// vectors of `lanes` along `lane`, which may be a parallel axis; -1: scalar code.
double stageCost(const Kernel &k, const Stage &s, AxisId lane, int lanes);

// The axis of the stage itself that its vectors should run along; -1 for scalar code. Never changes
// bits.
AxisId stageLaneAxis(const Kernel &k, const Stage &s, int lanes);

} // namespace nnc::cg
