// What `nnc new` writes: commented programs that compile as they are.
//
//   # {file}: ...
//   model {model}(x: [batch, 4]) -> [batch, 3] { ... }
//
// {file} stands for the name that was given, {model} for the model's.
#pragma once

#include <string>
#include <vector>

namespace nnc::fe {

struct Template {
  const char *name; // "mlp-csv"
  const char *help; // "classes from a table"
  const char *text;
};
const std::vector<Template> &templates();
/// Of a name that is there; the first one if empty.
std::string templateText(const std::string &name);

} // namespace nnc::fe
