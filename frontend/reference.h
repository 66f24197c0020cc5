// What every name means: declarations of the library and of a user's files, builtins, keys.
//
//   const Reference &library = Reference::library();
//   library.find("Dense")->head   ->   "layer Dense(units: int, activation: fn = linear, ...)"
//   library.find("Dense")->doc    ->   "Fully connected: `activation(x @ kernel + bias)` on ..."
//
// For `nnc doc` and editors. Texts are taken from where the compiler has them: the `##` lines and
// heads of declarations, builtins.def, train_keys.def.
#pragma once

#include "frontend/ast.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace nnc::fe {

/// A parameter in words.
struct ParamEntry {
  std::string name, type, initial; // "units", "int", ""
  std::string text() const;        // "units: int = 1"
};

struct Entry {
  std::string name;
  std::string kind;    // "layer", "fn", "model", "optimizer", "metric", "builtin", "key", "name"
  std::string head;    // the declaration up to its body, as written
  std::string doc;     // may have several lines
  std::string file;    // "layers_core.nn"; empty: the compiler itself
  uint32_t line = 0;   // of the name
  uint32_t column = 0; // from 1, in characters
  std::string group;   // "Core layers": heading of the list
  /// By parameter list; empty for what cannot be called.
  std::vector<std::vector<ParamEntry>> params;
  /// Arguments it takes without listing them: `name`, `trainable`, ...
  std::vector<ParamEntry> implied;

  /// The first sentence of the documentation.
  std::string summary() const;
};

class Reference {
 public:
  /// The library, the builtins, keys and predefined names.
  static const Reference &library();

  const std::vector<Entry> &entries() const { return entries_; }
  const Entry *find(std::string_view name) const;
  std::vector<std::string> names() const;

 private:
  std::vector<Entry> entries_;
  std::map<std::string, size_t, std::less<>> index_;
  void add(Entry entry);
};

/// A declaration of a parsed file.
Entry entryOf(const Sources &sources, const Decl &decl);
/// The first sentence of a text.
std::string firstSentence(const std::string &text);

} // namespace nnc::fe
