// Visiting every node of a tree, parents before children, in the order of the text.
//
//   struct Calls : AstWalker {
//     void expr(const Expr &e) override { n += e.kind == ExprKind::Call; AstWalker::expr(e); }
//     int n = 0;
//   };
//
// A visitor overrides what it cares about and calls the base's function for the children. Heights
// are bounded by the parser, so the recursion is safe.
#pragma once

#include "frontend/ast.h"

namespace nnc::fe {

class AstWalker {
 public:
  virtual ~AstWalker() = default;
  void file(const File &f) {
    for (const Top *t : f.tops) top(*t);
  }
  virtual void top(const Top &t);
  virtual void params(const ParamList &list);
  virtual void block(const Block &b);
  virtual void stmt(const Stmt &s);
  virtual void expr(const Expr &e);
  virtual void type(const TypeExpr &t);

 protected:
  void maybe(const Expr *e) {
    if (e) expr(*e);
  }
  void maybe(const TypeExpr *t) {
    if (t) type(*t);
  }
};

} // namespace nnc::fe
