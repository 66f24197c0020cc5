// Functions with a derivative of their own: `fn f(x) { … } gradient(dy) { … }` (R11).
#include "frontend/elab.h"
namespace nnc::fe {
Value Elaborator::callCustomGradient(const FunctionObj &f, GivenArgs &args, Span span,
                                     const void *key) {
  (void)args; (void)key;
  return fail(span, Diag::NotYet, {"the `gradient` rule of `" + std::string(f.decl->name.text) + "`"});
}
} // namespace nnc::fe
