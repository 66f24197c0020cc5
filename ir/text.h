// The text form of the IR: printer and parser are exact inverses.
//
//   nnc-ir 1
//   meta {"name": "classifier"}
//   persistent "net/kernel" : f32[784,10] {"kind": "param"}
//   func @predict batch 32 (%image: u8[n,28,28], %kernel: f32[784,10] = "net/kernel") {
//     %x = cast %image : f32[n,28,28] @1
//     %flat = reshape %x : f32[n,784] @1
//     %y = contract %flat, %kernel {x "b, i", w "i, o", y "b, o"} : f32[n,10] @2
//     return "output" = %y
//   }
//   loc @1 = "net.nn":3:5
//   loc @2 = "dense.nn":9:7 from @1
//
// A result line `return "name" = %v, state "net/kernel" = %w`: `state` binds a persistent value.
// Several results: `%v, %i = max_index %x {dims=[1]} : f32[n], i32[n] @4`. `#` starts a comment.
// Floats print with the shortest digits that read back to the same bits; nan, inf, -inf are words.
// `%dx, %dw = grad %loss wrt %x, %w : ...`; a result without a name is just its value: `return %y`.
// Values without a name are numbers, counted in order of definition; names are those of isName().
// The parser gives fields that are left out their defaults and takes contraction labels' extents
// from the types; blanks and line ends are the same. Attributes equal to their defaults are still
// printed; `remat` nodes carry the attribute `remat`.
#pragma once
#include "ir/module.h"
#include <string>

namespace nnc::ir {

struct PrintOptions {
  bool comments = false; // `# model.nn:7` after each node: for people; the parser skips it
};
std::string print(const Module &m, PrintOptions o = {});
std::string print(const Module &m, const Function &f, PrintOptions o = {});

// The functions as formulas, for people: named values a line each, the rest inlined, broadcasts
// left out, contractions with their indices, the place in the user's file. Not parsed
// (print_math.cpp).
std::string printMath(const Module &m);

struct TextError {
  int line = 0, column = 0;
  std::string message;
};
// Parses and verifies structure as far as the text goes (names resolve, attributes are known,
// result types agree with inferTypes). Any input gives a module or one error; never crashes.
std::unique_ptr<Module> parseModule(std::string_view text, TextError &error);

} // namespace nnc::ir
