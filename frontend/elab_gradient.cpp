// Functions with a derivative of their own (R11).
//
// Problem. A step function has the derivative zero; straight-through estimators want another one:
//
//   fn threshold(x) { where(x > 0, 1.0, 0.0) } gradient(dy) { where(abs(x) <= 1, dy, 0) }
//
// Method. The call becomes a `call` node of two functions of the module, whose parameters are the
// tensor arguments: @threshold(x) and @threshold.d(x, result, dy). Both bodies are evaluated like
// any other, each in a pass of its own; hyper-parameters are constants of both.
#include "frontend/elab.h"

namespace nnc::fe {

namespace {
/// A function under construction beside the current one.
struct Side {
  Elaborator &e;
  Restore<Pass *> outer;
  Side(Elaborator &e, const std::string &name, int64_t batch, bool training)
      : e(e), outer(e.pass, e.pass) {
    std::string unique = name;
    for (int i = 1; e.module->find(unique); ++i) unique = name + "." + std::to_string(i);
    e.openPass(unique, batch, training);
  }
  Value param(std::string_view name, const ir::Type &t) {
    return e.wrap(e.pass->b.param(e.uniqueName(name), t).id);
  }
  const std::string &name() const { return e.pass->b.f.name; }
};

struct TensorArg {
  std::string_view name;
  Span span;
  Value value; // of the caller
  ir::Type type;
};
} // namespace

/// Reads of weights would need arguments that the call does not pass.
static bool isClosed(Elaborator &e, Span span) {
  if (e.pass->current.empty()) return true;
  e.error(span, Diag::NotYet, {"a weight inside a function with a `gradient` rule"});
  return false;
}

static bool bindTensors(Side &side, const std::vector<TensorArg> &args, Values *outer = nullptr) {
  for (const TensorArg &a : args) {
    Value v = side.param(a.name, a.type);
    side.e.frame->scope->bind(a.name, v, a.span);
    if (outer) outer->push_back(v);
  }
  return true;
}

/// The body of the rule: one derivative per tensor parameter.
static bool buildRule(Elaborator &e, const Decl &d, const std::vector<TensorArg> &args,
                      const ir::Type &result, std::string &name) {
  const GradientRule &rule = *d.gradient;
  Side side(e, std::string(d.name.text) + ".d", e.pass->b.f.batch, e.pass->training);
  name = side.name();
  auto outside = e.frame->scope;
  auto scope = std::make_shared<Scope>();
  scope->parent = outside;
  scope->parentSeq = outside->seq;
  Restore<std::shared_ptr<Scope>> inner(e.frame->scope, scope);
  bindTensors(side, args);
  scope->bind("result", side.param("result", result), rule.span);
  if (rule.params->params.size() != 1)
    return e.fail(rule.params->span, Diag::UnpackCount,
                  {"1", std::to_string(rule.params->params.size())}),
           false;
  const Name &dy = rule.params->params[0].name;
  scope->bind(dy.text, side.param(dy.text, result), dy.span);
  Value v = e.evalBlock(*rule.body);
  if (v.isPoison()) return false;
  Values parts{v};
  if (v.kind == Kind::Tuple) parts = v.tuple().items;
  if (v.kind == Kind::List && args.size() > 1) parts = v.list();
  if (parts.size() != args.size()) {
    e.error(rule.span, Diag::UnpackCount,
            {std::to_string(args.size()), std::to_string(parts.size())});
    return false;
  }
  for (size_t i = 0; i < args.size(); ++i) {
    Value part = ir::isFloat(args[i].type.dtype) ? parts[i] : Value::of(0);
    part = e.fit(part, args[i].type, rule.span,
                 "the derivative for `" + std::string(args[i].name) + "`");
    if (part.isPoison()) return false;
    e.pass->b.result("d_" + std::string(args[i].name), part.id);
  }
  return isClosed(e, rule.span);
}

Value Elaborator::callCustomGradient(const FunctionObj &f, GivenArgs &args, Span span,
                                     const void *key) {
  const Decl &d = *f.decl;
  const ParamList &list = *d.params.back();
  Frame inner;
  if (!enter(inner, std::string(d.name.text), f.file, span, key)) return {};
  Restore<Frame *> inside(frame, &inner);
  if (f.bound)
    for (size_t i = 0; i < f.statics.size(); ++i) {
      const Name &name = d.params[0]->params[i].name;
      inner.scope->bind(name.text, f.statics[i], name.span);
    }
  if (!bindParams(list, args, span, inner.name, d.params.size() == 2 ? d.params[0] : nullptr))
    return {};
  std::vector<TensorArg> tensors;
  for (const Param &p : list.params) {
    Value v = inner.scope->find(p.name.text)->value;
    if (v.isTensor())
      tensors.push_back({p.name.text, p.name.span, v, type(v)});
    else if (v.kind == Kind::List || v.kind == Kind::Tuple)
      if (!isTensorLike(v))
        return fail(span, Diag::NotYet, {"a structure of tensors given to a `gradient` rule"});
  }
  if (tensors.empty()) return runFn(f, list, *d.body, args, span, key);

  std::string forward, backward;
  ir::Type result;
  {
    Side side(*this, inner.name, pass->b.f.batch, pass->training);
    forward = side.name();
    bindTensors(side, tensors);
    Value v = evalBody(*d.body, d.result, inner.name);
    if (v.isPoison()) return v;
    v = tensor(v);
    if (v.isPoison() || !isClosed(*this, span)) return {};
    pass->b.result("result", v.id);
    result = type(v);
    if (!buildRule(*this, d, tensors, result, backward)) return {};
  }
  std::vector<ir::ValueId> operands;
  for (const TensorArg &t : tensors) operands.push_back(t.value.id);
  Restore<Span> place(at, span);
  return emit(ir::Op::call_, std::move(operands), ir::CallAttr{forward, backward});
}

} // namespace nnc::fe
