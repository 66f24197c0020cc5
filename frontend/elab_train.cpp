// The training step of `train`'s short form (R13), and the functions around it.
//
// Problem. `train M { data = … loss = … optimizer = … metrics = … }` is, written out,
//
//   step(inputs of M, targets) { y = M(inputs); L = mean(loss(target, y)) + losses(M)
//     minimize L over M with optimizer; report loss = L, metrics }
//
// and the same without the update for evaluation.
//
// Method. eval_step is built first: the model's outputs fix what its loss takes as target, hence
// the targets' types. train_step is the same text with `training = true` and an update. Metrics
// keep their state in persistents; the value of the last batch is one more, which metrics_result
// reads.
#include "frontend/elab_train.h"
#include "frontend/foreign.h"
#include <algorithm>

namespace nnc::fe {

// --- inputs --------------------------------------------------------------------------------------

bool Elaborator::modelInputs(Instance &model, std::vector<DataInput> &out) {
  const Decl &d = *model.decl;
  Frame f;
  if (!enter(f, std::string(d.name.text), model.file, d.name.span, nullptr)) return false;
  Restore<Frame *> inside(frame, &f);
  if (d.params.size() == 2)
    for (size_t i = 0; i < model.statics.size(); ++i)
      f.scope->bind(d.params[0]->params[i].name.text, model.statics[i],
                    d.params[0]->params[i].name.span);
  sizeOf.clear();
  for (const Param &p : d.params.back()->params) {
    if (p.initial) continue; // optional
    DataInput in;
    in.name = std::string(p.name.text);
    in.span = p.span;
    Restore<Span> place(at, p.span);
    const ir::Type *given = nullptr; // what a written-out step gave it
    for (auto &[name, type] : model.given)
      if (name == p.name.text && type.rank() > 0) given = &type;
    if (given && isOpenType(p.type)) {
      in.type = *given;
      in.type.dims[0] = ir::Dim::batch();
      in.origins.assign(in.type.dims.size(), p.type ? p.type->span : p.span);
    } else if (!inputType(p.type, in.name, in.type, in.origins)) {
      return false;
    }
    out.push_back(std::move(in));
  }
  return true;
}

Value Elaborator::addInput(const std::string &name, const ir::Type &type,
                           const std::vector<Span> &origins, Span span) {
  Restore<Span> place(at, span);
  Value v = wrap(pass->b.param(uniqueName(name), type).id);
  // Columns are found by the names of parameters, so another value of that name gives way.
  std::string &own = pass->b.f.values[size_t(v.id.i)].name;
  for (size_t i = 0; own != name && i < pass->b.f.values.size(); ++i)
    if (ir::ValueInfo &other = pass->b.f.values[i];
        other.name == name && !pass->columns.contains(int32_t(i)))
      std::swap(other.name, own);
  setOrigins(v, origins);
  pass->columns[v.id.i] = name;
  return v;
}

bool Elaborator::addInputs(const std::vector<DataInput> &inputs, Values &out) {
  std::set<std::string> wanted;
  for (const DataInput &in : inputs)
    if (isMapped(in.name)) wanted.insert(in.name);
  if (!wanted.empty() && pass->fed.empty()) {
    bool all = !pass->b.f.name.ends_with("predict"); // targets come later
    if (!feed(all ? nullptr : &wanted, pass->fed)) return false;
  }
  for (const DataInput &in : inputs) {
    Value v = wanted.contains(in.name) ? fitInput(pass->fed.find(in.name)->second, in)
                                       : addInput(in.name, in.type, in.origins, in.span);
    if (v.isPoison()) return false;
    out.push_back(std::move(v));
  }
  return true;
}

static GivenArgs asArgs(const std::vector<DataInput> &names, const Values &values) {
  GivenArgs args;
  for (size_t i = 0; i < values.size(); ++i) {
    GivenArg a;
    a.name = names[i].name;
    a.nameSpan = a.span = names[i].span;
    a.value = values[i];
    args.push_back(std::move(a));
  }
  return args;
}

std::vector<std::pair<std::string, Value>> Elaborator::outputsOf(const Value &y) {
  if (y.kind != Kind::Tuple && y.kind != Kind::List) return {{"output", y}};
  std::vector<std::pair<std::string, Value>> out;
  const Values &items = y.kind == Kind::List ? y.list() : y.tuple().items;
  for (size_t i = 0; i < items.size(); ++i) {
    bool named = y.kind == Kind::Tuple && !y.tuple().names.empty();
    out.emplace_back(named ? y.tuple().names[i] : "output_" + std::to_string(i), items[i]);
  }
  return out;
}

// --- targets -------------------------------------------------------------------------------------

/// The type of the truth that a loss takes beside the prediction y.
bool Elaborator::targetType(const Value &loss, const Value &y, DataInput &out) {
  out.type = {floatType, type(y).dims};
  out.origins = originsOf(y);
  if (ir::isFloat(type(y).dtype)) out.type.dtype = ir::widened(type(y).dtype);
  const Decl *d = nullptr;
  FileScope *file = nullptr;
  const Values *statics = nullptr;
  if (loss.kind == Kind::Instance) {
    d = loss.instance->decl;
    file = loss.instance->file;
    statics = &loss.instance->statics;
  } else if (loss.kind == Kind::Function && loss.function().kind == FunctionKind::Decl) {
    d = loss.function().decl;
    file = loss.function().file;
    statics = &loss.function().statics;
  }
  if (!d) return true;
  std::vector<const Param *> tensors;
  for (const Param &p : d->params.back()->params)
    if (!isStaticType(p.type, *file)) tensors.push_back(&p);
  bool typed =
      tensors.size() >= 2 && tensors[0]->type && tensors[0]->type->kind == TypeKind::Tensor;
  if (!typed) return true;
  const auto &t = as<TensorType>(*tensors[0]->type);
  Frame f;
  if (!enter(f, std::string(d->name.text), file, at, nullptr)) return false;
  Restore<Frame *> inside(frame, &f);
  if (d->params.size() == 2)
    for (size_t i = 0; i < statics->size(); ++i)
      f.scope->bind(d->params[0]->params[i].name.text, (*statics)[i],
                    d->params[0]->params[i].name.span);
  bool any;
  if (!typeElement(t, out.type.dtype, any)) return false;
  Values values{y};
  if (!conformTensors({tensors[1]->type}, values, {at}, {"the prediction for `" + f.name + "`"}))
    return false;
  for (const Item &item : t.dims) // a size that the prediction does not fix: as the prediction
    if (item.value->kind == ExprKind::Name && !findBinding(as<NameExpr>(*item.value).name) &&
        as<NameExpr>(*item.value).name != "batch")
      return true;
  out.type.dims.clear();
  out.origins.clear();
  return typeDims(t, out.type.dims, out.origins);
}

/// The value of a key for one output: the key's own, or that of its name in a record.
static bool valueFor(Elaborator &e, const Elaborator::TrainPlan &plan, const char *key,
                     size_t index, Value &out) {
  const Value *v = plan.find(key);
  out = Value::none();
  if (!v) return true;
  if (v->kind == Kind::Tuple && !v->tuple().names.empty()) {
    int i = v->tuple().find(plan.outputs[index].name);
    if (i >= 0) out = v->tuple().items[i];
    return true;
  }
  bool isList = (v->kind == Kind::List || v->kind == Kind::Tuple) && std::string(key) != "metrics";
  if (!isList) return out = *v, true;
  const Values &items = v->kind == Kind::List ? v->list() : v->tuple().items;
  if (items.size() != plan.outputs.size()) {
    e.error(plan.span(key), Diag::UnpackCount,
            {std::to_string(plan.outputs.size()), std::to_string(items.size())});
    return false;
  }
  return out = items[index], true;
}

static bool namesExist(Elaborator &e, const Elaborator::TrainPlan &plan, const char *key) {
  const Value *v = plan.find(key);
  if (!v || v->kind != Kind::Tuple) return true;
  std::vector<std::string> known;
  for (const Output &o : plan.outputs) known.push_back(o.name);
  for (const std::string &n : v->tuple().names)
    if (std::find(known.begin(), known.end(), n) == known.end()) {
      e.error(plan.span(key), Diag::UnknownOutput, {n, plan.model->name})
          .didYouMean(suggest(n, known));
      return false;
    }
  return true;
}

/// The loss of one output, its weight, and the target it is compared with.
bool Elaborator::planOutput(TrainPlan &plan, size_t i, const Value &y) {
  Output &o = plan.outputs[i];
  Value loss, weight;
  if (!valueFor(*this, plan, "loss", i, loss) || !valueFor(*this, plan, "loss_weights", i, weight))
    return false;
  Restore<Span> place(at, plan.span("loss"));
  o.loss = toCallable(loss, at, &o);
  if (o.loss.isPoison()) return false;
  bool isLayer = o.loss.kind == Kind::Instance && o.loss.instance->decl &&
                 (o.loss.instance->decl->declKind == DeclKind::Layer ||
                  o.loss.instance->decl->declKind == DeclKind::Model);
  if (!o.loss.isNone() && o.loss.kind != Kind::Function && !isLayer) {
    auto &d =
        error(Diag::KeyValue, {"loss", "a function such as `MeanSquaredError()`", show(loss)});
    if (loss.kind == Kind::String) hintText(d, loss.string());
    if (o.loss.kind == Kind::Instance)
      d.help("it is " + std::string(o.loss.instance->decl->declKind == DeclKind::Optimizer
                                        ? "an optimizer, for the key `optimizer`"
                                        : "a metric, for the key `metrics`"));
    return false;
  }
  if (weight.isNumber())
    o.weight = weight.number();
  else if (!weight.isNone())
    return fail(plan.span("loss_weights"), Diag::KeyValue,
                {"loss_weights", "a number", show(weight)}),
           false;
  DataInput target;
  target.name = plan.outputs.size() == 1 && o.name == "output" ? "target" : o.name;
  target.span = at;
  if (o.loss.isNone()) {
    plan.targetOf.push_back(-1);
    return true;
  }
  if (!targetType(o.loss, y, target)) return false;
  plan.targetOf.push_back(int(plan.targets.size()));
  plan.targets.push_back(std::move(target));
  return true;
}

bool Elaborator::planOutputs(TrainPlan &plan, const Value &y) {
  auto outputs = outputsOf(y);
  for (auto &[name, value] : outputs) {
    if (!value.isTensor())
      return fail(plan.train->span, Diag::KeyValue,
                  {"the output of `" + plan.model->name + "`", "a tensor", show(value)}),
             false;
    Output o;
    o.name = name;
    plan.outputs.push_back(std::move(o));
  }
  for (const char *key : {"loss", "loss_weights", "metrics"})
    if (!namesExist(*this, plan, key)) return false;
  for (size_t i = 0; i < outputs.size(); ++i)
    if (!planOutput(plan, i, outputs[i].second)) return false;
  plan.sampleWeight = isMapped("sample_weight");
  if (plan.data && plan.data->maps.empty())
    for (const DataColumn &c : plan.data->columns) plan.sampleWeight |= c.name == "sample_weight";
  if (plan.sampleWeight) {
    DataInput w;
    w.name = "sample_weight";
    w.type = {floatType, {ir::Dim::batch()}};
    w.span = plan.train->span;
    plan.targets.push_back(std::move(w));
  }
  return true;
}

/// Another block's metric of the same kind does not make this one `accuracy_1`.
static std::string metricName(const Elaborator::TrainPlan &plan, const Instance &metric,
                              const std::string &kind) {
  if (plan.name.empty() || !metric.givenName.empty() || !metric.name.starts_with(kind + "_"))
    return metric.name;
  for (const MetricUse &other : plan.metrics)
    if (other.name == kind || other.name.ends_with("_" + kind)) return metric.name;
  return kind;
}

bool Elaborator::planMetrics(TrainPlan &plan) {
  bool one = plan.outputs.size() == 1;
  for (size_t i = 0; i < plan.outputs.size(); ++i) {
    Value v;
    if (!valueFor(*this, plan, "metrics", i, v)) return false;
    if (v.isNone()) continue;
    Values items{v};
    if (v.kind == Kind::List) items = v.list();
    Span span = plan.span("metrics");
    Restore<Span> place(at, span);
    for (size_t k = 0; k < items.size(); ++k) {
      const char *key = reinterpret_cast<const char *>(plan.train) + 1 + k + 100 * i;
      Value m = toCallable(items[k], span, key);
      bool isMetric = m.kind == Kind::Instance && m.instance->decl &&
                      m.instance->decl->declKind == DeclKind::Metric;
      std::string kind;
      if (m.kind == Kind::Function) { // a loss as a metric: its mean over the epoch
        kind = snakeCase(calleeName(m));
        GivenArg fn;
        fn.value = m;
        fn.span = span;
        Value wrapper = libraryValue("MeanMetricWrapper");
        if (wrapper.isPoison()) return false;
        m = call(wrapper, {fn}, span, key);
        if (m.isPoison()) return false;
        if (!m.instance->named) nameInstance(*m.instance, kind);
      } else if (!isMetric) {
        if (m.isPoison()) return false;
        auto &d =
            error(span, Diag::KeyValue,
                  {"metrics", "a list of metrics such as `SparseCategoricalAccuracy()`", show(m)});
        if (m.kind == Kind::String) hintText(d, m.string());
        return false;
      }
      ensureNamed(*m.instance);
      if (kind.empty()) kind = m.instance->kindName;
      std::string name = metricName(plan, *m.instance, kind);
      if (!one) name = plan.outputs[i].name + "_" + name;
      plan.metrics.push_back({m.instance, i, name});
    }
  }
  return true;
}

void Elaborator::missingColumn(const DataObj &data, const std::string &what, std::string_view name,
                               const std::string &by) {
  std::vector<std::string> given;
  std::string list;
  if (!data.maps.empty() && !mapped.empty())
    for (auto &[n, column] : mapped) given.push_back(n);
  else
    for (const DataColumn &c : data.columns) given.push_back(c.name);
  for (const std::string &n : given) list += (list.empty() ? "`" : ", `") + n + "`";
  auto &d = error(data.span, Diag::MissingColumn, {what, std::string(name), by});
  d.didYouMean(suggest(name, given));
  d.note("it gives " + list);
  if (trainedSizes)
    d.help("write the sizes of `" + std::string(name) +
           "`: `predict` reads what the data does not give from `--data " + std::string(name) +
           "=PATH`");
  else if (data.reader == "folder" && data.maps.empty())
    d.help("`folder` gives `image` and `target`: name the model's input `image`");
  else if (name == "target")
    d.help("what the loss compares with is the column `target`");
}

/// Whether other data is treated as the training data is: the step has its functions and maps.
static bool sameMaps(Elaborator &e, const Elaborator::TrainPlan &plan,
                     const std::shared_ptr<DataObj> &other, const char *key) {
  if (!other) return true;
  for (const DataColumn &c : other->columns)
    for (const DataColumn &own : plan.data->columns)
      if (c.name == own.name && (!c.functions.empty() || !own.functions.empty()) &&
          c.text != own.text) {
        e.error(c.span, Diag::OtherMap, {key}).label(own.span, "the training data");
        return false;
      }
  if (other->maps.empty()) return true; // it means the columns before them
  bool same = other->maps.size() == plan.data->maps.size();
  for (size_t i = 0; same && i < other->maps.size(); ++i)
    same = e.text(other->maps[i].span) == e.text(plan.data->maps[i].span);
  if (same) return true;
  auto &d = e.error(other->maps.front().span, Diag::OtherMap, {key});
  if (!plan.data->maps.empty()) d.label(plan.data->maps.front().span, "the training data");
  return false;
}

bool Elaborator::checkColumns(TrainPlan &plan) {
  auto check = [&](DataObj &data, const char *what) {
    bool ok = true;
    auto need = [&](const DataInput &in, const std::string &by) {
      auto it = mapped.find(in.name);
      if (it != mapped.end()) { // what it is computed from
        for (DataColumn &c : data.columns)
          if (it->second.from.contains(c.name)) c.used = true;
        for (const std::string &name : it->second.from)
          if (std::none_of(data.columns.begin(), data.columns.end(),
                           [&](const DataColumn &c) { return c.name == name; })) {
            missingColumn(data, what, name, "`map` of the training data");
            ok = false;
          }
        return;
      }
      for (DataColumn &c : data.columns)
        if (c.name == in.name && plan.data->maps.empty()) {
          c.used = true;
          return;
        }
      missingColumn(data, what, in.name, by);
      ok = false;
    };
    const std::string taker =
        plan.train->step ? "the step" : "the model `" + plan.model->name + "`";
    for (const DataInput &in : plan.inputs) need(in, taker);
    for (const DataInput &in : plan.targets)
      if (in.name != "sample_weight" || &data == &*plan.data) need(in, "the loss"); // 1 elsewhere
    for (const DataColumn &c : data.columns)
      if (!c.used && ok) {
        auto &d = diags.report(c.span, Diag::UnusedColumn, {c.name});
        if (const ForeignRow *row = foreign(Foreign::Argument, c.name)) d.help(row->advice);
      }
    return ok;
  };
  bool ok = check(*plan.data, "data") && sameMaps(*this, plan, plan.test, "test") &&
            sameMaps(*this, plan, plan.validation, "validation_data");
  if (plan.test) ok &= check(*plan.test, "test data");
  if (plan.validation) ok &= check(*plan.validation, "validation data");
  return ok;
}

// --- the step ------------------------------------------------------------------------------------

Frame stepFrame(Elaborator &e, Span span, bool training) {
  Frame f;
  f.name = "step";
  f.callSpan = span;
  f.owner = &e.stepOwner;
  f.ownsPath = true;
  f.file = e.user;
  f.scope = std::make_shared<Scope>();
  f.training = training;
  return f;
}

Value wide(Elaborator &e, const Value &v) {
  if (!v.isTensor() || ir::widened(e.type(v).dtype) == e.type(v).dtype) return v;
  return e.cast(v, e.floatType);
}

/// weight * loss of each sample, [batch] against [batch, ...].
static Value weighted(Elaborator &e, const Value &loss, const Value &weight) {
  if (loss.isPoison() || e.rank(loss) == 0) return loss;
  ir::Dims dims(size_t(e.rank(loss)), 1);
  dims[0] = ir::Dim::batch();
  return e.binary(BinaryOp::Mul, loss, e.reshape(weight, dims));
}

Value Elaborator::applyModel(TrainPlan &plan) {
  Values inputs;
  if (!addInputs(plan.inputs, inputs)) return {};
  return applyInstance(*plan.model, asArgs(plan.inputs, inputs), plan.train->model->span);
}

bool Elaborator::buildStep(TrainPlan &plan, bool training) {
  const Train &train = *plan.train;
  openPass(plan.prefix + (training ? "train_step" : "eval_step"), plan.batchSize, training);
  Frame f = stepFrame(*this, train.span, training);
  Restore<Frame *> inside(frame, &f);
  Restore<Span> place(at, train.model->span);
  Values targets;
  Value y;
  if (plan.planned) { // the inputs of the function come first
    Values inputs;
    if (!addInputs(plan.inputs, inputs) || !addInputs(plan.targets, targets)) return false;
    y = applyInstance(*plan.model, asArgs(plan.inputs, inputs), train.model->span);
  } else {
    y = applyModel(plan);
  }
  if (y.isPoison()) return false;
  if (!plan.planned) {
    if (!planOutputs(plan, y) || !planMetrics(plan) || !checkColumns(plan)) return false;
    plan.planned = true;
    plan.summary = pass;
    for (auto &[name, value] : outputsOf(y)) plan.values.push_back(value.id);
    if (!addInputs(plan.targets, targets)) return false;
  }
  Values outputs, losses;
  for (auto &[name, value] : outputsOf(y)) outputs.push_back(wide(*this, value));
  Value total;
  bool any = false;
  for (size_t i = 0; i < outputs.size(); ++i) {
    losses.push_back(Value::none());
    if (plan.targetOf[i] < 0) continue;
    Restore<Span> inLoss(at, plan.span("loss"));
    Value l = callWith(plan.outputs[i].loss, {targets[plan.targetOf[i]], outputs[i]}, at);
    l = tensor(l);
    if (plan.sampleWeight) l = weighted(*this, l, targets.back());
    l = meanLoss(l, outputs[i]);
    if (l.isPoison()) return false;
    losses[i] = l;
    if (plan.outputs[i].weight != 1)
      l = binary(BinaryOp::Mul, l, Value::of(plan.outputs[i].weight));
    total = any ? binary(BinaryOp::Add, total, l) : l;
    any = true;
  }
  Restore<Span> inLoss(at, plan.span("loss"));
  Value extra = lossesOf(*plan.model);
  if (extra.isTensor()) total = any ? binary(BinaryOp::Add, total, extra) : extra;
  if (!total.isTensor()) return false;
  setName(total, "loss");
  if (training && !update(plan, total)) return false;
  if (!buildMetrics(plan, total, losses, targets, outputs)) return false;
  for (auto &[name, range] : pass->ranges) plan.ranges[name] = range;
  pass->b.result("loss", total.id);
  closePass();
  return !diags.hasErrors();
}

Weight *scalar(Elaborator &e, std::string path, std::string name, WeightKind kind, ir::DType t,
               double initial) {
  Weight *w = e.addWeight(std::move(path), std::move(name), kind, {t, {}}, nullptr);
  e.initialize(
      *w,
      [&] {
        return e.constant(initial, {t, {}});
      },
      e.at);
  return w;
}

bool Elaborator::buildMetrics(TrainPlan &plan, const Value &loss, const Values &losses,
                              const Values &targets, const Values &outputs) {
  Restore<Span> place(at, plan.span("metrics"));
  bool several = outputs.size() > 1;
  if (!plan.lossTotal) {
    using K = WeightKind;
    plan.lossTotal =
        scalar(*this, plan.metricsPrefix + "loss/total", "total", K::Metric, floatType);
    plan.count = scalar(*this, plan.metricsPrefix + "loss/count", "count", K::Metric, floatType);
    for (Output &o : plan.outputs)
      if (several && !o.loss.isNone())
        o.total = scalar(*this, plan.metricsPrefix + o.name + "_loss/total", "total", K::Metric,
                         floatType);
    for (MetricUse &m : plan.metrics)
      if (!m.metric->result)
        m.metric->result =
            scalar(*this, "metrics/" + m.metric->path + "/result", "result", K::Metric, floatType);
  }
  Value n = cast(tensor(Value::of(ir::Dim::batch(), Span{})), floatType);
  auto accumulate = [&](Weight *w, const Value &v) {
    writeWeight(*w, binary(BinaryOp::Add, readWeight(*w), v), false);
  };
  accumulate(plan.lossTotal, binary(BinaryOp::Mul, cast(loss, floatType), n));
  accumulate(plan.count, n);
  for (size_t i = 0; i < outputs.size(); ++i)
    if (plan.outputs[i].total)
      accumulate(plan.outputs[i].total, binary(BinaryOp::Mul, cast(losses[i], floatType), n));
  for (MetricUse &m : plan.metrics) {
    if (plan.targetOf[m.output] < 0) {
      fail(Diag::MissingKey, {"loss` of `" + plan.outputs[m.output].name});
      return false;
    }
    GivenArgs args(2);
    args[0].value = targets[plan.targetOf[m.output]];
    args[1].value = outputs[m.output];
    args[0].span = args[1].span = at;
    Value v = applyInstance(*m.metric, std::move(args), at);
    v = v.isPoison() ? v : fit(v, {floatType, {}}, at, "the value of `" + m.name + "`");
    if (v.isPoison()) return false;
    writeWeight(*m.metric->result, v, false);
  }
  return true;
}

void Elaborator::buildMetricsResult(TrainPlan &plan) {
  openPass(plan.prefix + "metrics_result", 0, false);
  Frame f = stepFrame(*this, plan.train->span, false);
  Restore<Frame *> inside(frame, &f);
  Restore<Span> place(at, plan.span("metrics"));
  auto mean = [&](const std::string &name, Weight *total) {
    Value v = binary(BinaryOp::Div, readWeight(*total), readWeight(*plan.count));
    pass->b.result(name, v.id);
  };
  for (const Report &r : plan.reports) {
    if (r.isMetric)
      pass->b.result(r.name, readWeight(*r.total).id);
    else
      mean(r.name, r.total);
  }
  if (plan.lossTotal) mean("loss", plan.lossTotal);
  for (const Output &o : plan.outputs)
    if (o.total) mean(o.name + "_loss", o.total);
  for (const MetricUse &m : plan.metrics) pass->b.result(m.name, readWeight(*m.metric->result).id);
}

// --- prediction and the whole --------------------------------------------------------------------

/// The sizes of the names in the types of a model's inputs, where a written-out step applied it.
static void namedSizes(const Instance &model,
                       std::map<std::string, std::pair<int64_t, std::string>, std::less<>> &out) {
  for (const Param &p : model.decl->params.back()->params)
    for (auto &[input, type] : model.given) {
      if (input != p.name.text || !p.type || p.type->kind != TypeKind::Tensor) continue;
      const std::vector<Item> &dims = as<TensorType>(*p.type).dims;
      for (size_t i = 1; i < dims.size() && dims.size() == type.dims.size(); ++i)
        if (!dims[i].spread && dims[i].value->kind == ExprKind::Name && type.dims[i].isConst())
          out.try_emplace(std::string(as<NameExpr>(*dims[i].value).name), type.dims[i].b, input);
    }
}

bool Elaborator::buildPredict(TrainPlan *plan, Instance &model, int64_t batch) {
  Pass &p = openPass((plan ? plan->prefix : std::string()) + "predict", batch, false);
  Span span = plan ? plan->train->span : model.span;
  Frame f = stepFrame(*this, span, false);
  Restore<Frame *> inside(frame, &f);
  Restore<Span> place(at, span);
  std::vector<DataInput> inputs;
  Value y;
  if (plan && plan->find("predict")) {
    Span at2 = plan->span("predict");
    Value m = toCallable(*plan->find("predict"), at2, plan);
    if (m.kind != Kind::Instance)
      return fail(at2, Diag::KeyValue, {"predict", "a model or layer", show(m)}), false;
    Values values;
    auto sizes = std::move(sizeOf);
    namedSizes(model, sizes);
    Restore<const decltype(sizeOf) *> lent(trainedSizes, &sizes);
    if (!modelInputs(*m.instance, inputs) || !addInputs(inputs, values)) return false;
    y = applyInstance(*m.instance, asArgs(inputs, values), at2);
  } else {
    Values values;
    if (!modelInputs(model, inputs) || !addInputs(inputs, values)) return false;
    Span at2 = plan ? plan->train->model->span : model.decl->name.span;
    y = applyInstance(model, asArgs(inputs, values), at2);
  }
  if (y.isPoison()) return false;
  predictInputs.clear();
  predictOutputs.clear();
  predictRanges.clear();
  for (const ir::Param &param :
       p.b.f.params) // columns of the files, after maps others than the inputs
    if (auto it = p.columns.find(param.value.i); it != p.columns.end())
      predictInputs.push_back(it->second);
  for (auto &[name, range] : p.ranges)
    if (!dataGives(name)) predictRanges[name] = range;
  for (auto &[name, value] : outputsOf(y)) {
    Value v = tensor(value);
    if (v.isPoison()) return false;
    v = wide(*this, v);
    p.b.result(name, v.id);
    predictOutputs.push_back(name);
  }
  for (Weight *w : p.written) // what goes on from batch to batch
    if (w->rows) p.b.result(w->path, keptRows(*w, p.current.at(w)), true);
  return !diags.hasErrors();
}

void orderFunctions(ir::Module &m) {
  const std::vector<std::string> order{"init", "train_step", "eval_step", "predict"};
  auto rank = [&](const std::unique_ptr<ir::Function> &f) {
    const size_t dot = f->name.find('.');
    auto own = std::find(order.begin(), order.end(),
                         f->name.substr(dot == std::string::npos ? 0 : dot + 1));
    return own - order.begin();
  };
  std::stable_sort(m.functions.begin(), m.functions.end(),
                   [&](auto &a, auto &b) { return rank(a) < rank(b); });
}

static Frame blockFrame(Elaborator &e, Span span) {
  Frame f = stepFrame(e, span, false);
  f.name = "train";
  f.owner = &e.fileOwner;
  return f;
}

/// The `train` blocks of the file, or the one that was asked for, with their names: those of the
/// models that they train.
std::vector<const Train *> Elaborator::chosenBlocks(std::vector<std::string> &names) {
  std::vector<const Train *> all, out;
  std::vector<std::string> known;
  for (const Top *top : user->tree->tops) {
    if (top->kind != TopKind::Train) continue;
    const Train &t = as<Train>(*top);
    std::string name = "train";
    if (t.model && t.model->kind == ExprKind::Name) name = as<NameExpr>(*t.model).name;
    if (t.model && t.model->kind == ExprKind::Call)
      name = snakeCase(text(as<CallExpr>(*t.model).callee->span));
    for (int i = 1; std::find(known.begin(), known.end(), name) != known.end(); ++i) {
      if (i > 1) name.erase(name.rfind('_'));
      name += "_" + std::to_string(i);
    }
    known.push_back(name);
    all.push_back(&t);
  }
  for (size_t i = 0; i < all.size(); ++i)
    if (options.train.empty() || known[i] == options.train) {
      out.push_back(all[i]);
      names.push_back(known[i]);
    }
  if (out.empty() && !options.train.empty())
    error({user->file, 0, 0}, Diag::UnknownBlock, {options.train})
        .didYouMean(suggest(options.train, known));
  if (out.size() == 1) names[0].clear();
  return out;
}

void Elaborator::elaborateTrain(const Train &train, const std::string &name) {
  TrainPlan plan;
  plan.name = name;
  plan.prefix = name.empty() ? "" : name + ".";
  plan.metricsPrefix = name.empty() ? "metrics/" : "metrics/" + name + "/";
  Restore<TrainPlan *> current(this->plan, &plan);
  updated.clear();
  stepCount = nullptr;
  asksAdapting = false;
  Frame f = blockFrame(*this, train.span);
  {
    Restore<Frame *> inside(frame, &f);
    Restore<Span> place(at, train.span);
    bool ok = readPlan(train, plan);
    if (!plan.model && !(ok && train.step)) return;
    if (plan.model) ensureNamed(*plan.model);
    inputData = plan.data.get();
    if (!planMaps(plan)) return;
    if (train.step ? ok && !stepInputs(plan) : !modelInputs(*plan.model, plan.inputs)) return;
    if (!ok) {
      if (!train.step) buildPredict(nullptr, *plan.model, plan.batchSize); // for its own messages
      return;
    }
  }
  if (train.step) {
    if (plan.data && !checkColumns(plan)) return;
    if (!buildWrittenStep(plan, false) || !buildWrittenStep(plan, true)) return;
  } else if (!buildStep(plan, false) || !buildStep(plan, true)) {
    return;
  }
  // Short forms apply the model in eval_step as prediction does.
  const bool isSame = options.messagesOnly && !train.step && !plan.find("predict");
  if (plan.model && !isSame && !buildPredict(&plan, *plan.model, plan.batchSize)) return;
  buildMetricsResult(plan);
  closePass();
  if (asksAdapting) buildAdapt(plan);
  if (!updated.empty()) buildTrainEnd(plan);
  if (!finishCallbacks(plan, metricNames(plan)) || diags.hasErrors()) return;
  if (plan.model && plan.summary) lintModel(*plan.model, *plan.summary);
  lintTraining(plan);
  writeMeta(&plan, plan.model, *plan.summary);
}

/// The last model that can be made without arguments, or an instance bound in the file.
void Elaborator::elaborateModelOnly() {
  Frame f = blockFrame(*this, {user->file, 0, 0});
  Restore<Frame *> inside(frame, &f);
  Instance *model = nullptr;
  for (const Top *top : user->tree->tops) {
    Value v;
    if (top->kind == TopKind::Decl && as<Decl>(*top).declKind == DeclKind::Model) {
      const Decl &d = as<Decl>(*top);
      if (!options.model.empty() && d.name.text != options.model) continue;
      v = toCallable(declValue(d, *user), d.name.span, &d);
    } else if (top->kind == TopKind::Bind && options.model.empty()) {
      v = user->names[as<TopBind>(*top).bind->names[0].text].value;
    }
    if (v.kind == Kind::Instance && (v.instance->decl->declKind == DeclKind::Model ||
                                     v.instance->decl->declKind == DeclKind::Layer))
      model = v.instance;
  }
  if (!model && (diags.hasErrors() || options.declarationsOnly)) return;
  if (syntaxErrors && model->file->isLibrary) return; // a `Sequential` that the broken part wraps
  if (!model) {
    diags.report({user->file, 0, 0}, Diag::NoModel,
                 {"the file has no `train` block and no model that can be made without arguments"});
    return;
  }
  ensureNamed(*model);
  if (!buildPredict(nullptr, *model, 32)) return;
  const Pass &summary = *pass;
  lintModel(*model, summary);
  orderFunctions(*module);
  writeMeta(nullptr, model, summary);
}

} // namespace nnc::fe
