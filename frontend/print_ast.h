// The tree as text again, in one canonical form: --emit=ast and the formatter.
//
//   x|>Dense( 10,activation=relu )   ->   x |> Dense(10, activation = relu)
//
// Printing, parsing and printing again gives the same text. `##` documentation is kept, other
// comments are not in the tree.
#pragma once

#include "frontend/ast.h"

#include <string>

namespace nnc::fe {

std::string print(const File &file);
std::string print(const Top &top);
std::string print(const Stmt &stmt);
std::string print(const Expr &expr);
std::string print(const TypeExpr &type);
/// `name(a: int = 1)(x: [n]) -> [n]`: the head of a declaration, for messages and `nnc doc`.
std::string signature(const Decl &decl);

} // namespace nnc::fe
