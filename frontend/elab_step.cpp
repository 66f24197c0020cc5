// Training steps: `minimize`, optimizers applied to records, `report`, the step written out.
//
// Problem. The short form of `train` minimizes one loss. Whoever needs more writes the step:
//
//   step(real: u8[batch, 28, 28]) {
//     fake = random_normal([batch, 64]) |> g
//     minimize critic_loss over d with Adam(1e-4)
//     minimize -mean(d(fake)) over g with Adam(1e-4) every 5
//     report critic_loss
//   }
//
// Method. `minimize L over W with O` is `O(W, grad(mean(L), W))`, for the short form too. The
// optimizer's body runs once per weight, between the library's hooks (kOptimizerHooks), which hold
// what all optimizers have in common. `every k` and accumulation guard stores by a bool of the
// step: a store that does not take place stores what was there. Evaluation runs the same text
// without the stores.
#include "frontend/elab_train.h"
#include "frontend/elab_weights.h"
#include <algorithm>

namespace nnc::fe {

// --- hooks ---------------------------------------------------------------------------------------

namespace {

/// A frame in which the text of the optimizer runs, for one weight or, without it, for all.
bool enterOptimizer(Elaborator &e, Frame &f, Instance &opt, Weight *w, Span span) {
  if (!e.enter(f, std::string(opt.decl->name.text), opt.file, span, nullptr)) return false;
  f.owner = &opt;
  f.ownsPath = true;
  f.target = w;
  f.application = &opt;
  f.policy = nullptr;
  f.replaced = nullptr;
  return true;
}

/// The arguments of the hook that this optimizer was given, its own of the same name included.
GivenArgs hookArgs(Instance &opt, const Decl &hook, Span span) {
  GivenArgs args;
  for (const Param &p : hook.params[0]->params) {
    Value v = Value::none();
    for (auto &[name, value] : opt.base)
      if (name == p.name.text) v = value;
    const auto &own = opt.decl->params[0]->params;
    for (size_t i = 0; i < own.size() && i < opt.statics.size(); ++i)
      if (own[i].name.text == p.name.text) v = opt.statics[i];
    if (v.isNone()) continue;
    GivenArg a;
    a.name = p.name.text;
    a.nameSpan = a.span = span;
    a.value = v;
    args.push_back(std::move(a));
  }
  return args;
}

/// The hook's value; none if the optimizer has none of its arguments.
Value runHook(Elaborator &e, const char *name, Instance &opt, Values values, Span span) {
  Value hook = e.libraryValue(name);
  if (hook.isPoison()) return {};
  const Decl &d = *hook.function().decl;
  GivenArgs args = hookArgs(opt, d, span);
  if (args.empty()) return Value::none();
  Value bound = e.call(hook, std::move(args), span, &d);
  if (bound.isPoison()) return {};
  GivenArgs given;
  for (Value &v : values) {
    GivenArg a;
    a.value = std::move(v);
    a.span = span;
    given.push_back(std::move(a));
  }
  return e.call(bound, std::move(given), span, &d);
}

/// The rate of an optimizer whose `learning_rate` is a number: a scalar that the runtime may set.
Value rateFunction(Elaborator &e, Instance &opt, double initial) {
  if (!opt.rate)
    opt.rate = scalar(e, opt.path + "/learning_rate", "learning_rate", WeightKind::Host,
                      e.floatType, initial);
  FunctionObj f;
  f.kind = FunctionKind::Rate;
  f.rate = opt.rate;
  if (e.plan &&
      std::find(e.plan->rates.begin(), e.plan->rates.end(), opt.rate) == e.plan->rates.end())
    e.plan->rates.push_back(opt.rate);
  return Value::function(std::move(f));
}

/// The weights that stay as they are in this block: those of frozen instances and of what they
/// apply.
std::unordered_set<const Weight *> frozenWeights(Elaborator &e) {
  std::unordered_set<const Weight *> out;
  std::vector<Instance *> all;
  if (e.plan)
    for (Instance *i : e.plan->freeze) e.collect(*i, all);
  for (const Instance *i : all) out.insert(i->weights.begin(), i->weights.end());
  return out;
}

} // namespace

// --- updates -------------------------------------------------------------------------------------

/// One weight: what the hooks make of it, then the optimizer's body.
bool Elaborator::updateWeight(Instance &opt, Weight &w, const Value &gradient, const Value &t,
                              Span span) {
  const Decl &d = *opt.decl;
  Frame f;
  if (!enterOptimizer(*this, f, opt, &w, span)) return false;
  f.ordinal = pass->root->applications[&opt]++;
  Restore<Frame *> inside(frame, &f);
  Value rate = Value::none();
  if (d.params.size() == 2)
    for (size_t i = 0; i < opt.statics.size(); ++i) {
      const Name &name = d.params[0]->params[i].name;
      Value v = opt.statics[i];
      if (name.text == "learning_rate") {
        if (v.isNumber()) v = rateFunction(*this, opt, v.number());
        rate = v;
      }
      f.scope->bind(name.text, v, name.span);
    }
  Value g = wide(*this, gradient);
  if (!rate.isNone()) {
    Value now = Value::none();
    if (!hookArgs(opt, *libraryValue("optimizer_base").function().decl, span).empty())
      now = callWith(rate, {binary(BinaryOp::Sub, t, Value::of(1))}, span);
    Value decayed = runHook(*this, "optimizer_base", opt, {wide(*this, currentOf(w)), now}, span);
    if (decayed.isPoison()) return false;
    if (!decayed.isNone())
      writeWeight(w, fit(decayed, w.type, span, "`" + w.name + "`"), false);
  }
  const ParamList &list = *d.params.back();
  if (list.params.size() < 3) {
    const std::string name(d.name.text);
    error(list.span, Diag::ArgumentType,
          {"the last list of `" + name + "`", "a weight, its gradient and the number of the step",
           "`" + text(list.span) + "`"})
        .help("write `optimizer " + name + "(...)(w, g, t) { ... }`");
    return false;
  }
  Values values{wide(*this, currentOf(w)), g, t};
  GivenArgs args;
  for (Value &v : values) {
    GivenArg a;
    a.value = std::move(v);
    a.span = span;
    args.push_back(std::move(a));
  }
  if (!bindParams(list, args, span, f.name, nullptr)) return false;
  const Name &target = list.params[0].name;
  f.scope->bind(target.text, Value::of(&w), target.span);
  const ir::ValueId before = currentOf(w).id;
  const Value last = evalBlock(*d.body);
  if (last.isTensor() && currentOf(w).id == before) { // `w - 0.1 * g`, which nothing uses
    const std::string name(target.text);
    error(d.body->stmts.back()->span, Diag::ArgumentType,
          {"the end of `" + f.name + "`", "an update `" + name + " <- ...`", show(last)})
        .help("an optimizer stores into the weight: `" + name + " <- " +
              text(d.body->stmts.back()->span) + "`");
    return false;
  }
  if (!w.constraint.isNone()) {
    Value v = callWith(w.constraint, {currentOf(w)}, w.span);
    writeWeight(w, fit(v, w.type, w.span, "the result of the constraint"), false);
  }
  setName(currentOf(w), w.name);
  return !diags.hasErrors();
}

/// The content now, for the update itself: no read that derivatives would be of.
Value Elaborator::currentOf(Weight &w) {
  auto it = pass->current.find(&w);
  return it == pass->current.end() ? storedWeight(w) : Value::of(pass, it->second);
}

/// The steps that each weight has had with this optimizer, this one included. Weights that are
/// updated together for the first time share a counter.
static bool countSteps(Elaborator &e, Instance &opt, const std::vector<WeightPair> &pairs,
                       std::unordered_map<const Weight *, Value> &steps) {
  Weight *made = nullptr;
  std::vector<Weight *> counters;
  for (const WeightPair &p : pairs) {
    Weight *&counter = opt.counters[p.weight];
    if (!counter && !made) {
      std::unordered_set<const Weight *> known;
      for (auto &[w, c] : opt.counters)
        if (c) known.insert(c);
      std::string name = "iterations";
      if (!known.empty()) name += "_" + std::to_string(known.size());
      made = scalar(e, opt.path + "/" + name, name, WeightKind::Slot, ir::DType::i32);
    }
    if (!counter) counter = made;
    if (std::find(counters.begin(), counters.end(), counter) == counters.end())
      counters.push_back(counter);
  }
  for (Weight *counter : counters) {
    Value next = e.binary(BinaryOp::Add, e.readWeight(*counter), Value::of(1));
    if (next.isPoison()) return false;
    e.writeWeight(*counter, next, false);
    Value t = e.cast(e.currentOf(*counter), e.floatType);
    e.setName(t, "t");
    steps.emplace(counter, t);
  }
  return true;
}

bool Elaborator::updateWeights(Instance &opt, std::vector<WeightPair> &pairs, Span span) {
  Restore<Span> place(at, span);
  ensureNamed(opt);
  std::unordered_map<const Weight *, Value> steps;
  if (!countSteps(*this, opt, pairs, steps)) return false;
  auto stepsOf = [&](const Weight *w) { return steps.at(opt.counters.at(w)); };
  Values gates;
  Values gradients;
  for (WeightPair &p : pairs) {
    Frame f;
    if (!enterOptimizer(*this, f, opt, p.weight, span)) return false;
    Restore<Frame *> inside(frame, &f);
    Value both =
        runHook(*this, "optimizer_accumulate", opt,
                {wide(*this, currentOf(*p.weight)), wide(*this, p.value), stepsOf(p.weight)}, span);
    if (both.isPoison()) return false;
    const bool waits = both.kind == Kind::Tuple && both.tuple().items.size() == 2;
    gates.push_back(waits ? both.tuple().items[1] : Value::none());
    gradients.push_back(waits ? both.tuple().items[0] : p.value);
  }
  {
    Frame f;
    if (!enterOptimizer(*this, f, opt, nullptr, span)) return false;
    Restore<Frame *> inside(frame, &f);
    Value clipped = runHook(*this, "optimizer_gradients", opt, {Value::list(gradients)}, span);
    if (clipped.isPoison()) return false;
    if (clipped.kind == Kind::List) gradients = clipped.list();
  }
  std::set<std::string> seen; // types: weights of one type get the same text
  for (size_t i = 0; i < pairs.size(); ++i) {
    Weight &w = *pairs[i].weight;
    const bool isPlain = options.messagesOnly && gates[i].isNone() && w.constraint.isNone();
    if (isPlain && !seen.insert(show(w.type)).second) continue;
    {
      Restore<ir::ValueId> gate(pass->gate, pass->gate);
      if (!gates[i].isNone()) {
        Value on = gates[i];
        if (pass->gate.valid()) on = binary(BinaryOp::And, on, Value::of(pass, pass->gate));
        pass->gate = on.id;
      }
      if (!updateWeight(opt, w, gradients[i], stepsOf(&w), span)) return false;
    }
    Frame f;
    if (!enterOptimizer(*this, f, opt, &w, span)) return false;
    Restore<Frame *> inside(frame, &f);
    Value averaged = runHook(*this, "optimizer_average", opt,
                             {wide(*this, currentOf(w)), stepsOf(&w), Value::of(false)}, span);
    if (averaged.isPoison()) return false;
    if (!averaged.isNone()) updated.emplace_back(&opt, &w);
    if (averaged.isTensor() && averaged.id != currentOf(w).id) {
      writeWeight(w, fit(averaged, w.type, span, "`" + w.name + "`"), false);
      setName(currentOf(w), w.name);
    }
  }
  return true;
}

/// The pass over the training data before the first step (R10), if a layer adapts to them.
void Elaborator::buildAdapt(TrainPlan &plan) {
  Pass &p = openPass(plan.prefix + "adapt_step", plan.batchSize, false);
  p.isAdapting = true;
  bool ok;
  if (plan.train->step) {
    ok = runStep(plan);
  } else {
    Frame f = stepFrame(*this, plan.train->span, false);
    Restore<Frame *> inside(frame, &f);
    Restore<Span> place(at, plan.train->model->span);
    ok = !applyModel(plan).isPoison();
  }
  if (ok && !p.written.empty()) return closePass();
  pass = nullptr;
  auto mine = std::find_if(module->functions.begin(), module->functions.end(),
                           [&](auto &f) { return f.get() == &p.b.f; });
  module->functions.erase(mine, module->functions.end()); // and what it called
}

/// What training leaves behind where that is not what the last step did: averages of weights. A
/// function of its own, run once.
void Elaborator::buildTrainEnd(const TrainPlan &plan) {
  Pass &p = openPass(plan.prefix + "train_end", 0, true);
  Frame f = stepFrame(*this, plan.train->span, true);
  Restore<Frame *> inside(frame, &f);
  Restore<Span> place(at, plan.train->span);
  std::unordered_set<const Weight *> seen;
  for (auto &[opt, w] : updated) {
    if (!seen.insert(w).second) continue;
    Frame own;
    if (!enterOptimizer(*this, own, *opt, w, at)) return;
    Restore<Frame *> inner(frame, &own);
    Value v = runHook(*this, "optimizer_average", *opt,
                      {storedWeight(*w), constant(1, {floatType, {}}), Value::of(true)}, at);
    if (v.isTensor() && v.id != currentOf(*w).id)
      writeWeight(*w, fit(v, w->type, at, "`" + w->name + "`"), false);
  }
  if (!p.written.empty()) return closePass();
  module->functions.pop_back();
  pass = nullptr;
}

// --- minimize and optimizers in the text ---------------------------------------------------------

/// The short form's update.
bool Elaborator::update(TrainPlan &plan, const Value &loss) {
  Span span = plan.span("optimizer");
  Restore<Span> place(at, span);
  Value all = weightsOf(Value::of(plan.model), plan.train->span);
  return !all.isPoison() && minimize(loss, all, *plan.optimizer, plan.model->name, span);
}

/// O(W, grad(mean(L), W)) for the weights of W that are not frozen.
bool Elaborator::minimize(const Value &loss, const Value &record, Instance &opt,
                          const std::string &what, Span span) {
  std::vector<WeightPair> all, pairs;
  if (!pairWeights(record, record, span, all)) return false;
  std::unordered_set<const Weight *> seen = frozenWeights(*this);
  for (WeightPair &p : all)
    if (p.weight->trainable && seen.insert(p.weight).second) pairs.push_back(p);
  if (pairs.empty()) {
    auto &d = error(span, Diag::NoWeights, {what});
    const bool frozen = plan && !plan->freeze.empty() &&
                        std::any_of(all.begin(), all.end(),
                                    [](auto &p) { return p.weight->trainable; });
    if (frozen)
      d.label(plan->span("freeze"), "all of them stay as they are")
          .help("`freeze` names the layers that are not trained: leave one out");
    return false;
  }
  Value scaled = loss;
  {
    Frame f;
    ensureNamed(opt);
    if (!enterOptimizer(*this, f, opt, nullptr, span)) return false;
    Restore<Frame *> inside(frame, &f);
    Value v = runHook(*this, "optimizer_loss", opt, {loss}, span);
    if (v.isPoison()) return false;
    if (v.isTensor()) scaled = v;
  }
  if (scalesLoss) scaled = scaleLoss(opt, scaled);
  Values leaves;
  for (const WeightPair &p : pairs) leaves.push_back(p.value);
  Value g = gradient(scaled, Value::list(std::move(leaves)), span, span);
  if (g.isPoison()) return false;
  for (size_t i = 0; i < pairs.size(); ++i) pairs[i].value = g.list()[i];
  Restore<ir::ValueId> gate(pass->gate, pass->gate);
  if (scalesLoss && !unscale(opt, pairs, span)) return false;
  return updateWeights(opt, pairs, span);
}

/// The loss times a factor that follows the gradients: as large as they stay finite with.
Value Elaborator::scaleLoss(Instance &opt, const Value &loss) {
  if (!opt.lossScale) {
    opt.lossScale = scalar(*this, opt.path + "/loss_scale", "loss_scale", WeightKind::Slot,
                           floatType, 32768);
    opt.goodSteps = scalar(*this, opt.path + "/good_steps", "good_steps", WeightKind::Slot,
                           ir::DType::i32);
  }
  return binary(BinaryOp::Mul, loss, readWeight(*opt.lossScale));
}

/// Gradients without that factor. Where they are not finite the update does not take place.
bool Elaborator::unscale(Instance &opt, std::vector<WeightPair> &pairs, Span span) {
  Values gs;
  for (const WeightPair &p : pairs) gs.push_back(wide(*this, p.value));
  Value scale = currentOf(*opt.lossScale), good = currentOf(*opt.goodSteps);
  Value both = callWith(libraryValue("unscaled_gradients"), {Value::list(gs), scale}, span);
  if (both.kind != Kind::Tuple) return false;
  for (size_t i = 0; i < pairs.size(); ++i) pairs[i].value = both.tuple().items[0].list()[i];
  const Value finite = both.tuple().items[1];
  Value next = callWith(libraryValue("next_loss_scale"), {scale, good, finite}, span);
  if (next.kind != Kind::Tuple) return false;
  writeWeight(*opt.lossScale, fit(next.tuple().items[0], opt.lossScale->type, span, "the scale"),
              false);
  writeWeight(*opt.goodSteps, fit(next.tuple().items[1], opt.goodSteps->type, span, "the steps"),
              false);
  Value on = finite;
  if (pass->gate.valid()) on = binary(BinaryOp::And, on, Value::of(pass, pass->gate));
  pass->gate = on.id;
  return true;
}

/// In steps divisible by k, counted from 1.
static Value everyGate(Elaborator &e, int64_t k) {
  if (!e.stepCount)
    e.stepCount = scalar(e, e.plan->name.empty() ? "step/count" : "step/" + e.plan->name + "/count",
                         "count", WeightKind::Slot, ir::DType::i32);
  if (!e.pass->writtenSet.contains(e.stepCount)) {
    Restore<ir::ValueId> always(e.pass->gate, ir::ValueId{});
    e.writeWeight(*e.stepCount, e.binary(BinaryOp::Add, e.readWeight(*e.stepCount), Value::of(1)),
                  false);
  }
  Value rest = e.binary(BinaryOp::Mod, e.currentOf(*e.stepCount), Value::of(k));
  return e.binary(BinaryOp::Equal, rest, Value::of(0));
}

Value Elaborator::evalMinimize(const MinimizeStmt &stmt) {
  ++effects;
  if (owner() != &stepOwner) return fail(stmt.span, Diag::ReportPlace, {"minimize"});
  Value loss = eval(*stmt.loss);
  if (!loss.isPoison() && !isTensorLike(loss))
    return fail(stmt.loss->span, Diag::ScalarWanted, {show(loss)});
  loss = loss.isPoison() ? loss : meanAll(tensor(loss));
  Values over;
  std::string what;
  for (const Expr *e : stmt.over) {
    Value v = eval(*e);
    if (v.isPoison()) return {};
    what += (what.empty() ? "" : ", ") + text(e->span);
    Value callable = v.kind == Kind::Function ? toCallable(v, e->span, e) : v;
    bool isList = v.kind == Kind::List && !v.list().empty();
    if (callable.kind == Kind::Instance ||
        (isList && toCallable(v.list()[0], e->span, e).kind == Kind::Instance))
      v = weightsOf(v.kind == Kind::List ? v : callable, e->span);
    std::vector<WeightPair> pairs;
    if (v.isPoison() || !pairWeights(v, v, e->span, pairs)) return {};
    over.push_back(std::move(v));
  }
  Value o = toCallable(eval(*stmt.optimizer), stmt.optimizer->span, stmt.optimizer);
  if (o.isPoison() || loss.isPoison()) return {};
  if (o.kind != Kind::Instance || o.instance->decl->declKind != DeclKind::Optimizer)
    return fail(stmt.optimizer->span, Diag::KeyValue,
                {"minimize ... with", "an optimizer such as `Adam()`", show(o)});
  Restore<ir::ValueId> gate(pass->gate, pass->gate);
  if (stmt.every) {
    Value k = eval(*stmt.every);
    if (k.isPoison()) return {};
    if (!k.isInt() || k.integer() < 1)
      return fail(stmt.every->span, Diag::KeyValue, {"every", "an int of at least 1", show(k)});
    Restore<Span> place(at, stmt.every->span);
    if (k.integer() > 1 && pass->training) pass->gate = everyGate(*this, k.integer()).id;
  }
  if (pass->training)
    minimize(loss, Value::list(std::move(over)), *o.instance, what, stmt.span);
  return Value::none();
}

/// `adam(weights(m), g)`: W updated by G, which may have more leaves.
Value Elaborator::applyOptimizerTo(Instance &opt, GivenArgs &args, Span span) {
  ++effects;
  if (owner() != &stepOwner)
    return fail(span, Diag::OptimizerPlace, {std::string(opt.decl->name.text)});
  if (args.size() != 2 || !args[0].name.empty() || !args[1].name.empty())
    return fail(span, Diag::ArgumentType,
                {"`" + opt.kindName + "`", "given weights and their gradients",
                 std::to_string(args.size()) + " arguments"});
  Value target = args[0].value;
  if (target.kind == Kind::Function) target = toCallable(target, span, nullptr);
  if (target.kind == Kind::Instance) target = weightsOf(target, args[0].span);
  if (target.isPoison() || args[1].value.isPoison()) return {};
  std::vector<WeightPair> all, pairs;
  if (!pairWeights(target, args[1].value, args[0].span, all)) return {};
  const auto frozen = frozenWeights(*this);
  for (WeightPair &p : all) {
    if (!p.weight->trainable || frozen.contains(p.weight)) continue;
    p.value = fit(p.value, p.weight->type, args[1].span, "the gradient of `" + p.path + "`");
    if (p.value.isPoison()) return {};
    pairs.push_back(std::move(p));
  }
  if (pass->training) updateWeights(opt, pairs, span);
  return Value::none();
}

// --- report --------------------------------------------------------------------------------------

Value Elaborator::evalReport(const ReportStmt &stmt) {
  ++effects;
  if (owner() != &stepOwner || !plan || pass->outer)
    return fail(stmt.span, Diag::ReportPlace, {"report"});
  if (pass->isAdapting) return Value::none();
  for (const ReportItem &item : stmt.items) {
    const std::string name(item.name.text);
    Value v = item.value ? eval(*item.value) : lookup(item.name.text, item.name.span);
    if (v.isPoison()) continue;
    if (!isTensorLike(v)) {
      fail(item.value ? item.value->span : item.name.span, Diag::ScalarWanted, {show(v)});
      continue;
    }
    for (auto &[known, value] : plan->reported)
      if (known == name) return fail(item.name.span, Diag::ReportedTwice, {name});
    const bool isMetric = v.isMetric;
    v = tensor(v);
    if (v.isPoison()) continue;
    if (isMetric && rank(v) != 0) v = meanAll(v);
    if (!isMetric) v = meanAll(v);
    v = v.isPoison() ? v : cast(v, floatType);
    v.isMetric = isMetric;
    plan->reported.emplace_back(name, v);
    auto it = std::find_if(plan->reports.begin(), plan->reports.end(),
                           [&](const Report &r) { return r.name == name; });
    if (it == plan->reports.end())
      plan->reports.push_back({name, item.name.span, isMetric, nullptr});
  }
  return Value::none();
}

/// Sums of what was reported, weighted by the rows of the batch.
static bool accumulateReports(Elaborator &e, Elaborator::TrainPlan &plan) {
  const std::string &prefix = plan.metricsPrefix;
  if (!plan.count)
    plan.count = scalar(e, prefix + "count", "count", WeightKind::Metric, e.floatType);
  Value n = e.cast(e.tensor(Value::of(ir::Dim::batch(), Span{})), e.floatType);
  e.writeWeight(*plan.count, e.binary(BinaryOp::Add, e.readWeight(*plan.count), n), false);
  for (auto &[name, value] : plan.reported) {
    if (value.isPoison()) return false;
    for (Report &r : plan.reports) {
      if (r.name != name) continue;
      if (!r.total)
        r.total = scalar(e, prefix + name + (r.isMetric ? "/result" : "/total"),
                         r.isMetric ? "result" : "total", WeightKind::Metric, e.floatType);
      Value next = value;
      if (!r.isMetric)
        next = e.binary(BinaryOp::Add, e.readWeight(*r.total), e.binary(BinaryOp::Mul, value, n));
      e.writeWeight(*r.total, next, false);
    }
  }
  return true;
}

// --- the step ------------------------------------------------------------------------------------

bool Elaborator::stepInputs(TrainPlan &plan) {
  const Train &train = *plan.train;
  Frame f = stepFrame(*this, train.span, false);
  Restore<Frame *> inside(frame, &f);
  sizeOf.clear();
  for (const Param &p : train.step->params->params) {
    DataInput in;
    in.name = std::string(p.name.text);
    in.span = p.span;
    Restore<Span> place(at, p.span);
    if (!inputType(p.type, in.name, in.type, in.origins)) return false;
    plan.inputs.push_back(std::move(in));
  }
  return true;
}

/// The text of the step, in the current pass.
bool Elaborator::runStep(TrainPlan &plan) {
  const Train &train = *plan.train;
  Frame f = stepFrame(*this, train.step->span, pass->training);
  Restore<Frame *> inside(frame, &f);
  Restore<Span> place(at, train.step->span);
  plan.reported.clear();
  Values values;
  if (!addInputs(plan.inputs, values)) return false;
  GivenArgs args;
  for (size_t i = 0; i < values.size(); ++i) {
    GivenArg a;
    a.name = plan.inputs[i].name;
    a.nameSpan = a.span = plan.inputs[i].span;
    a.value = values[i];
    args.push_back(std::move(a));
  }
  if (!bindParams(*train.step->params, args, train.step->span, "step", nullptr)) return false;
  evalBlock(*train.step->body);
  return !diags.hasErrors() && (pass->isAdapting || accumulateReports(*this, plan));
}

bool Elaborator::buildWrittenStep(TrainPlan &plan, bool training) {
  Pass &p =
      openPass(plan.prefix + (training ? "train_step" : "eval_step"), plan.batchSize, training);
  if (!runStep(plan)) return false;
  if (!plan.summary || training) plan.summary = &p;
  for (auto &[name, range] : p.ranges) plan.ranges[name] = range;
  for (auto &[name, value] : plan.reported)
    if (name == "loss" && !value.isMetric) p.b.result("loss", value.id);
  closePass();
  return !diags.hasErrors();
}

} // namespace nnc::fe
