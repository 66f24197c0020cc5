// The verifier: the list of the IR's invariants, and the check of that list in order (verify.cpp).
#pragma once
#include "ir/module.h"

namespace nnc::ir {
// Empty if all invariants hold, else one message naming function, node and position.
std::string verify(const Module &m);
std::string verify(const Module &m, const Function &f);
// What holds after differentiation in addition: no function has a grad node.
std::string verifyDifferentiated(const Module &m);
} // namespace nnc::ir
