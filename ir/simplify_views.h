// Inside simplification: the parts that are no rules over pattern variables.
#pragma once
#include "ir/rewrite.h"

namespace nnc::ir {

// The value that replaces a tensor operation, from its attributes and its operands' definitions.
std::optional<ValueId> simplifyView(const Function &f, const Node &node, const Type &type,
                                    const Rules::Make &make);
// The constant that a node on constants is (fold.cpp).
std::optional<ConstantAttr> foldNode(const Function &f, const Node &node, const Type &type);

} // namespace nnc::ir
