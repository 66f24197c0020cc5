// The type rule of every operation: one function, used by the builder, the verifier and the front
// end.
//
//   inferTypes(contract_, {f32[n,784], f32[784,10]}, attr) -> {f32[n,10]}
//
// A violated rule is an error text in the language of tensors ("operands must have one shape, got
// f32[n,300] and f32[n,100]"); elaboration reports it at the user's line, the builder aborts.
#pragma once
#include "ir/module.h"
#include <span>

namespace nnc::ir {

struct Inferred {
  std::vector<Type> types;
  std::string error; // empty: fine
};
// `call`, `scan` need the module to look up their functions; `m` may be null for all others.
Inferred inferTypes(Op op, std::span<const Type> operands, const Attr &attr, const Module *m);

// Empty if `t` is a type a value can have: sizes are not negative at any n >= 1, the count is
// bounded.
std::string checkType(const Type &t);

} // namespace nnc::ir
