// Masks: which steps of a sequence count (R10).
//
// Problem. Sequences of different lengths are padded to one; what was added must not count, many
// layers later:
//
//   tokens |> Embedding(20_000, 128, mask_zero = true) |> Dense(64) |> LSTM(32)
//             mask: tokens != 0, made here                keeps it     takes it as `mask`
//
// Method. A mask is a bool tensor whose dimensions are the first ones of the value it is attached
// to; a pass has a table from values to masks. It follows the flow of values by one rule for nodes
// (pointwise ones keep their operands' only mask, `emit` asks propagateMask) and one for layers:
// the result keeps the argument's mask if the types of both begin with the dimensions of the mask.
// A layer that wants the mask declares a parameter `mask`. No layer is known by its name.
#include "frontend/elab.h"
#include <algorithm>

namespace nnc::fe {

// --- the table -----------------------------------------------------------------------------------

/// The mask of a value of the current pass; invalid if it has none.
ir::ValueId Elaborator::maskId(ir::ValueId v) {
  if (auto it = pass->masks.find(v.i); it != pass->masks.end()) return it->second;
  // In the body of a scan: of what a parameter stands for, unless it is a slice of that.
  auto outside = pass->stands.find(v.i);
  if (outside == pass->stands.end()) return {};
  Value mask;
  {
    const ir::Type &here = pass->b.f.type(v);
    Restore<Pass *> around(pass, pass->outer);
    if (pass->b.f.type(outside->second) != here) return {};
    ir::ValueId there = maskId(outside->second);
    if (!there.valid()) return {};
    mask = Value::of(pass, there);
  }
  return pass->masks[v.i] = inBody(mask).id;
}

Value Elaborator::maskOf(const Value &v) {
  if (!v.isTensor() || !hasMasks) return Value::none();
  ir::ValueId mask = maskId(tensor(v).id);
  return mask.valid() ? Value::of(pass, mask) : Value::none();
}

static bool beginsWith(const ir::Dims &dims, const ir::Dims &first) {
  return dims.size() >= first.size() && std::equal(first.begin(), first.end(), dims.begin());
}

/// x with another mask, or with none: a value of its own, for the name `x` keeps what it has.
Value Elaborator::withMask(const Value &x, const Value &mask, Span span, const std::string &what) {
  Value v = tensor(x);
  if (v.isPoison() || mask.isPoison()) return {};
  ir::ValueId attached;
  if (!mask.isNone()) {
    const ir::Type own = type(v);
    bool fits = isTensorLike(mask);
    Value m = fits ? tensor(mask) : Value{};
    if (fits && m.isPoison()) return {};
    fits = fits && type(m).dtype == ir::DType::boolean && beginsWith(own.dims, type(m).dims);
    if (!fits)
      return fail(span, Diag::ArgumentType,
                  {what, "none or a bool tensor with the first dimensions of " + show(own),
                   show(mask)});
    attached = m.id;
  }
  Value y = emit(ir::Op::reshape_, {v.id}, ir::ReshapeAttr{type(v)});
  if (y.isPoison()) return y;
  setOrigins(y, originsOf(v));
  pass->masks[y.id.i] = attached;
  hasMasks |= attached.valid();
  return y;
}

// --- nodes ---------------------------------------------------------------------------------------

static bool isElementwise(ir::Op op) {
  switch (op) {
  case ir::Op::cast_:
  case ir::Op::select_:
  case ir::Op::broadcast_:
  case ir::Op::stop_gradient_: return true;
  default: return ir::isPointwise(op);
  }
}

void Elaborator::propagateMask(ir::Op op, const std::vector<ir::ValueId> &operands, ir::ValueId y) {
  if (!hasMasks || !isElementwise(op)) return;
  ir::ValueId only;
  for (ir::ValueId x : operands) {
    ir::ValueId mask = maskId(x);
    if (!mask.valid() || mask == only) continue;
    if (only.valid()) return; // two of them
    only = mask;
  }
  const ir::Function &f = pass->b.f;
  if (only.valid() && beginsWith(f.type(y).dims, f.type(only).dims)) pass->masks[y.i] = only;
}

// --- layers --------------------------------------------------------------------------------------

/// What an application does with masks before its parameters are bound: `mask` is that of the call
/// or of the first tensor. A layer that declares `mask` gets it, for others it is attached to the
/// first tensor.
bool Elaborator::takeMask(const ParamList &list, GivenArgs &args, Value &mask) {
  mask = Value::none();
  GivenArg *given = nullptr, *first = nullptr;
  size_t place = list.params.size(), positional = 0;
  for (size_t i = 0; i < list.params.size(); ++i)
    if (list.params[i].name.text == "mask") place = i;
  const bool declares = place < list.params.size();
  for (GivenArg &a : args) {
    const bool isPlace = declares && a.name.empty() && positional++ == place;
    if (a.name == "mask" || isPlace) given = &a;
    else if (!first && a.value.isTensor()) first = &a;
  }
  if (given) mask = given->value;
  if (mask.isNone() && first) mask = maskOf(first->value);
  if (mask.isNone() && (declares || !given)) return true;
  if (declares) {
    if (given) {
      given->value = mask;
    } else {
      GivenArg a;
      a.name = list.params[place].name.text;
      a.nameSpan = a.span = first->span;
      a.value = mask;
      args.push_back(std::move(a));
    }
    return true;
  }
  if (!given) return true;
  if (!mask.isNone()) {
    if (!first)
      return fail(given->span, Diag::ArgumentType,
                  {"`mask`", "left out where no tensor is given", show(mask)}),
             false;
    first->value = withMask(first->value, mask, given->span, "`mask`");
    if (first->value.isPoison()) return false;
    mask = maskOf(first->value);
  }
  args.erase(args.begin() + (given - args.data()));
  return true;
}

/// How many dimensions two types begin with alike, as they are written.
static size_t alike(Elaborator &e, const TensorType &a, const TensorType &b) {
  size_t dims = 0;
  for (size_t i = 0; i < a.dims.size() && i < b.dims.size(); ++i) {
    const Item &x = a.dims[i], &y = b.dims[i];
    if (x.spread != y.spread || e.text(x.value->span) != e.text(y.value->span)) break;
    const Binding *pack = nullptr;
    if (x.spread && x.value->kind == ExprKind::Name)
      pack = e.findBinding(as<NameExpr>(*x.value).name);
    if (x.spread && (!pack || pack->value.kind != Kind::List)) break;
    dims += x.spread ? pack->value.list().size() : 1;
  }
  return dims;
}

static const TensorType *tensorType(const TypeExpr *type) {
  return type && type->kind == TypeKind::Tensor ? &as<TensorType>(*type) : nullptr;
}

/// After the body: the result of a layer keeps `mask` if its type begins as that of the argument.
void Elaborator::keepMask(const Decl &d, const Value &mask, const Value &result) {
  if (!mask.isTensor() || !result.isTensor() || result.pass != pass) return;
  if (pass->masks.contains(result.id.i)) return; // the body says
  const ir::Dims dims = type(mask).dims;
  if (!beginsWith(type(result).dims, dims)) return;
  const TensorType *from = tensorType(d.params.back()->params[0].type), *to = tensorType(d.result);
  if (from && to && alike(*this, *from, *to) < dims.size()) return;
  pass->masks[result.id.i] = tensor(mask).id;
}

// --- losses --------------------------------------------------------------------------------------

/// The mean of a loss: over what counts, if the prediction has a mask that fits. As Keras', a batch
/// in which nothing counts has the loss 0.
Value Elaborator::meanLoss(const Value &loss, const Value &prediction) {
  if (loss.isPoison()) return loss;
  Value mask = maskOf(prediction);
  if (mask.isNone() || !beginsWith(type(loss).dims, type(mask).dims)) return meanAll(loss);
  Value l = ir::isFloat(type(loss).dtype) ? loss : cast(loss, floatType);
  const ir::Dims dims = type(l).dims;
  const size_t lead = type(mask).dims.size();
  Value kept = cast(mask, type(l).dtype);
  Value counted = meanAll(kept); // the share of those that count
  ir::Dims wide = type(mask).dims;
  wide.resize(dims.size(), ir::Dim(1));
  if (lead < dims.size()) kept = reshape(kept, wide);
  Value sum = meanAll(binary(BinaryOp::Mul, l, kept));
  Value share = emit(ir::Op::max_, {counted.id, constant(1e-30, type(counted)).id});
  return binary(BinaryOp::Div, sum, share);
}

} // namespace nnc::fe
