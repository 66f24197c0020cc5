// Which name of a file means what.
//
//   fn scaled(x, by: float) = by * x     `x` and `by`: two names of the scope of `scaled`,
//                                        each with two uses
//
// As in the language, a declaration, a lambda, a comprehension, a `scan` and a `step` have a scope
// of their own; `if` and `for` have none. All bindings of a name in one scope are one name. The
// sizes in the types of a declaration are names of its scope.
#pragma once

#include "frontend/ast.h"

#include <deque>
#include <map>
#include <string>
#include <vector>

namespace nnc::fe::lsp {

struct Scope;

struct Symbol {
  enum Kind { Local, Param, Size, Weight, Declaration, Binding, Alias };
  std::string name;
  Kind kind = Local;
  Span definition;
  const Decl *decl = nullptr;     // of a declaration; of a parameter: whose
  const Import *import = nullptr; // of an alias
  Scope *scope = nullptr;
  std::vector<Span> uses; // the definition included
};

struct Scope {
  Scope *parent = nullptr;
  Span span;
  std::map<std::string, Symbol *, std::less<>> names;
};

/// A use of a name that no scope of the file has: of the library, of an imported file.
struct Outside {
  std::string name;
  Span span;
  std::string alias; // of `b.Block`: "b"
};

class Names {
 public:
  explicit Names(const File &file);
  Names(const Names &) = delete;
  Names &operator=(const Names &) = delete;

  /// The symbol used at an offset; null if there is none.
  const Symbol *at(uint32_t offset, Span *use = nullptr) const;
  const Outside *outsideAt(uint32_t offset) const;
  /// What can be named at an offset, inner scopes first.
  std::vector<const Symbol *> visible(uint32_t offset) const;
  /// A declaration of the file.
  const Decl *declaration(std::string_view name) const;
  const std::vector<const Import *> &imports() const { return imports_; }

 private:
  friend struct NamesBuilder;
  std::deque<Symbol> symbols_;
  std::deque<Scope> scopes_; // the first one is the file's
  std::vector<Outside> outside_;
  std::vector<const Import *> imports_;
  std::map<uint32_t, std::pair<Span, const Symbol *>> uses_; // by where they begin
};

} // namespace nnc::fe::lsp
