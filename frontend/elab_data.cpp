// Data readers, callbacks and the keys of a `train` block.
//
// Problem. `data = csv("iris.csv", x = columns(0..4), target = "species")` and `epochs = 30`
// concern the runtime, not the tensors: they must arrive there as metadata, and every misspelt key,
// column or argument must be an error now.
//
// Method. Readers and callbacks are builtin functions whose values are descriptions. The keys are a
// table; each is evaluated as an ordinary expression and checked once.
#include "frontend/elab_train.h"
#include "frontend/foreign.h"
#include <algorithm>
#include <cmath>

namespace nnc::fe {

// --- readers -------------------------------------------------------------------------------------

static int64_t lineOf(Elaborator &e, Span span) { return e.sources.position(span).line; }

static DataColumn column(Elaborator &e, const char *reader, const GivenArg &a) {
  DataColumn col;
  col.name = std::string(a.name);
  col.span = join(a.nameSpan, a.span);
  col.meta["name"] = col.name;
  col.meta["reader"] = reader;
  col.meta["line"] = lineOf(e, a.span);
  return col;
}

static Value fileReader(BuiltinCall &c, const char *reader) {
  DataObj data;
  data.reader = reader;
  data.span = c.span;
  for (const GivenArg &a : *c.raw) {
    if (a.name.empty() || a.value.kind != Kind::String)
      return c.e.fail(
          a.span, Diag::ArgumentType,
          {"a column of `" + std::string(reader) + "`", "`name = \"file\"`", c.e.show(a.value)});
    DataColumn col = column(c.e, reader, a);
    col.meta["file"] = a.value.string();
    data.columns.push_back(std::move(col));
  }
  return Value::of(std::move(data));
}
Value builtin_idx(BuiltinCall &c) { return fileReader(c, "idx"); }
Value builtin_npy(BuiltinCall &c) { return fileReader(c, "npy"); }

Value builtin_columns(BuiltinCall &c) {
  DataObj data;
  data.reader = "columns";
  data.span = c.span;
  data.meta = ir::Meta::list();
  for (const GivenArg &a : *c.raw) {
    Values items{a.value};
    if (a.value.kind == Kind::List) items = a.value.list();
    for (const Value &v : items) {
      if (v.isInt() && v.integer() >= 0)
        data.meta.push(v.integer());
      else if (v.kind == Kind::String)
        data.meta.push(v.string());
      else
        return c.e.fail(a.span, Diag::ArgumentType,
                        {"a column", "a number from 0 or a name", c.e.show(v)});
    }
  }
  return Value::of(std::move(data));
}

Value builtin_csv(BuiltinCall &c) {
  DataObj data;
  data.reader = "csv";
  data.span = c.span;
  std::string file;
  for (const GivenArg &a : *c.raw) {
    if (a.name.empty()) {
      if (a.value.kind != Kind::String || !file.empty())
        return c.e.fail(a.span, Diag::ArgumentType,
                        {"the first argument of `csv`", "the file's path", c.e.show(a.value)});
      file = a.value.string();
      continue;
    }
    DataColumn col = column(c.e, "csv", a);
    bool isColumns = a.value.kind == Kind::Data && a.value.data().reader == "columns";
    if (isColumns)
      col.meta["columns"] = a.value.data().meta;
    else if (a.value.kind == Kind::String)
      col.meta["columns"] = a.value.string();
    else if (a.value.isInt())
      col.meta["columns"] = a.value.integer();
    else
      return c.e.fail(
          a.span, Diag::ArgumentType,
          {"`" + col.name + "` of `csv`", "columns(...), a name or a number", c.e.show(a.value)});
    data.columns.push_back(std::move(col));
  }
  if (file.empty()) return c.e.fail(c.span, Diag::MissingArgument, {"csv", "file"});
  for (DataColumn &col : data.columns) col.meta["file"] = file;
  return Value::of(std::move(data));
}

// --- callbacks -----------------------------------------------------------------------------------

static ir::Meta metaOf(const Value &v) {
  switch (v.kind) {
  case Kind::Int: return v.integer();
  case Kind::Float: return v.d;
  case Kind::Bool: return v.b;
  case Kind::String: return v.string();
  default: return {};
  }
}

Value builtin_EarlyStopping(BuiltinCall &c) {
  static const char *const names[] = {
      "monitor",         "min_delta", "patience", "mode", "baseline", "restore_best_weights",
      "start_from_epoch"};
  const std::string &mode = c[3].string();
  if (mode != "auto" && mode != "min" && mode != "max") {
    c.e.error(c.spans[3], Diag::ArgumentType,
              {"`mode` of `EarlyStopping`", "\"auto\" | \"min\" | \"max\"", c.e.show(c[3])})
        .didYouMean(suggest(mode, {"auto", "min", "max"}));
    return {};
  }
  for (int i : {1, 4})
    if (!c[i].isNumber() && !c[i].isNone())
      return c.e.fail(
          c.spans[i], Diag::ArgumentType,
          {"`" + std::string(names[i]) + "` of `EarlyStopping`", "a number", c.e.show(c[i])});
  DataObj data;
  data.reader = "EarlyStopping";
  data.meta["type"] = "EarlyStopping";
  for (size_t i = 0; i < std::size(names); ++i) data.meta[names[i]] = metaOf(c[i]);
  Position p = c.e.sources.position(c.span);
  std::string file = c.e.sources.name(c.span.file);
  data.meta["span"] = file.substr(file.rfind('/') + 1) + ":" + std::to_string(p.line);
  return Value::of(std::move(data));
}

/// Callbacks and readers that are known by name but not there yet.
static bool laterName(const Expr &expr, std::string &name) {
  static const char *const later[] = {"ModelCheckpoint",
                                      "ReduceLROnPlateau",
                                      "CSVLogger",
                                      "TerminateOnNaN",
                                      "LambdaCallback",
                                      "LearningRateScheduler",
                                      "BackupAndRestore",
                                      "TensorBoard",
                                      "RemoteMonitor",
                                      "SwapEMAWeights",
                                      "ProgbarLogger",
                                      "folder",
                                      "text",
                                      "npz",
                                      "windows",
                                      "category"};
  if (expr.kind == ExprKind::List) {
    for (const Item &item : as<ListExpr>(expr).items)
      if (laterName(*item.value, name)) return true;
    return false;
  }
  if (expr.kind == ExprKind::Pipe) return name = "a stage of a data reader", true;
  const Expr *callee = expr.kind == ExprKind::Call ? as<CallExpr>(expr).callee : &expr;
  if (callee->kind != ExprKind::Name) return false;
  name = std::string(as<NameExpr>(*callee).name);
  bool isLater = std::find(std::begin(later), std::end(later), name) != std::end(later);
  name = "`" + name + "`";
  return isLater;
}

// --- keys ----------------------------------------------------------------------------------------

static const char *const kKeys[] = {
#define KEY(name, doc) #name,
#include "frontend/train_keys.def"
#undef KEY
};

static bool positiveInt(Elaborator &e, const Elaborator::TrainPlan &plan, const char *key,
                        int64_t low, int64_t &out, int64_t high = INT64_MAX) {
  const Value *v = plan.find(key);
  if (!v || v->isPoison()) return true;
  if (v->isInt() && v->integer() >= low && v->integer() <= high) return out = v->integer(), true;
  std::string want = "an int of at least " + std::to_string(low);
  if (high != INT64_MAX) want = "an int from " + std::to_string(low) + " to " + std::to_string(high);
  e.error(plan.span(key), Diag::KeyValue, {key, want, e.show(*v)});
  return false;
}

static bool dataKey(Elaborator &e, const Elaborator::TrainPlan &plan, const char *key,
                    std::shared_ptr<DataObj> &out) {
  const Value *v = plan.find(key);
  if (!v) return true;
  if (v->isPoison()) return false;
  if (v->kind == Kind::Data && !v->data().columns.empty()) {
    out = std::make_shared<DataObj>(v->data());
    return true;
  }
  auto &d = e.error(plan.span(key), Diag::KeyValue,
                    {key, "what a reader such as `idx`, `csv` or `npy` gives", e.show(*v)});
  if (v->isNumber() && v->number() > 0 && v->number() < 1)
    d.help("a share of the data is `" + std::string(key) + " = split(" + e.show(*v) + ")`");
  if (v->kind == Kind::String && v->string().ends_with(".csv"))
    d.help("write `csv(\"" + v->string() + "\", x = columns(0..4), target = 4)` with your columns");
  return false;
}

/// `validation = split(0.1)` is not the tensors' `split`.
static bool isSplit(const TrainItem &item) {
  if (item.key.text != "validation" || item.value->kind != ExprKind::Call) return false;
  const Expr *callee = as<CallExpr>(*item.value).callee;
  return callee->kind == ExprKind::Name && as<NameExpr>(*callee).name == "split";
}

static bool readSplit(Elaborator &e, const TrainItem &item, Elaborator::TrainPlan &plan) {
  GivenArgs args = e.evalArgs(as<CallExpr>(*item.value).args);
  bool fits = args.size() == 1 && args[0].value.isNumber() && args[0].value.number() > 0 &&
              args[0].value.number() < 1;
  if (fits) return plan.validationSplit = args[0].value.number(), true;
  e.error(item.value->span, Diag::KeyValue,
          {"validation", "split(share) with a share between 0 and 1", e.text(item.value->span)});
  return false;
}

static bool evalKeys(Elaborator &e, const Train &train, Elaborator::TrainPlan &plan) {
  bool ok = true;
  for (const TrainItem &item : train.items) {
    std::string key(item.key.text);
    if (std::find(std::begin(kKeys), std::end(kKeys), key) == std::end(kKeys)) {
      hint(e.error(item.key.span, Diag::UnknownKey, {key}), Foreign::Key, key,
           {std::begin(kKeys), std::end(kKeys)});
      ok = false;
      continue;
    }
    if (plan.spans.contains(key)) {
      e.error(item.key.span, Diag::RepeatedKey, {key});
      ok = false;
      continue;
    }
    plan.spans[key] = item.value->span;
    std::string later;
    bool mayBeLater =
        key == "data" || key == "test" || key == "callbacks" || key.starts_with("validation");
    if (mayBeLater && laterName(*item.value, later)) {
      e.error(item.value->span, Diag::NotYet, {later});
      ok = false;
      continue;
    }
    if (isSplit(item)) {
      ok &= readSplit(e, item, plan);
      continue;
    }
    Value v = e.eval(*item.value);
    ok &= !v.isPoison();
    plan.keys[key] = std::move(v);
  }
  return ok;
}

static bool readFreeze(Elaborator &e, Elaborator::TrainPlan &plan) {
  const Value *v = plan.find("freeze");
  if (!v) return true;
  Values items{*v};
  if (v->kind == Kind::List) items = v->list();
  for (const Value &item : items) {
    if (item.isPoison()) return false;
    if (item.kind != Kind::Instance) {
      e.error(plan.span("freeze"), Diag::KeyValue, {"freeze", "a list of instances", e.show(item)});
      return false;
    }
    plan.freeze.push_back(item.instance);
  }
  return true;
}

bool Elaborator::isFrozenHere(const Instance &inst) const {
  return plan && std::find(plan->freeze.begin(), plan->freeze.end(), &inst) != plan->freeze.end();
}

static bool readCallbacks(Elaborator &e, Elaborator::TrainPlan &plan) {
  const Value *v = plan.find("callbacks");
  if (!v) return true;
  Values items{*v};
  if (v->kind == Kind::List) items = v->list();
  for (const Value &item : items) {
    if (item.isPoison()) return false;
    if (item.kind != Kind::Data || !item.data().meta.find("type")) {
      e.error(plan.span("callbacks"), Diag::KeyValue,
              {"callbacks", "a list of callbacks such as `EarlyStopping(...)`", e.show(item)});
      return false;
    }
    plan.callbacks.push(item.data().meta);
  }
  return true;
}

static void readModel(Elaborator &e, const Train &train, Elaborator::TrainPlan &plan) {
  if (!train.model) {
    if (!train.step) e.fail(train.span, Diag::MissingModel);
    return;
  }
  Value m = e.toCallable(e.eval(*train.model), train.model->span, train.model);
  bool isModel = m.kind == Kind::Instance && m.instance->decl &&
                 (m.instance->decl->declKind == DeclKind::Model ||
                  m.instance->decl->declKind == DeclKind::Layer);
  if (isModel)
    plan.model = m.instance;
  else if (!m.isPoison()) {
    auto &d = e.error(train.model->span, Diag::KeyValue,
                      {"train", "a model", e.show(m)});
    bool isDecl = m.kind == Kind::Function && m.function().kind == FunctionKind::Decl &&
                  m.function().decl->params.size() == 2;
    std::string missing;
    if (isDecl)
      for (const Param &p : m.function().decl->params[0]->params)
        if (!p.initial) missing += (missing.empty() ? "" : ", ") + std::string(p.name.text) + " = ...";
    if (!missing.empty())
      d.help("its hyper-parameters have no default: `train " + e.text(train.model->span) + "(" +
             missing + ")`");
  }
}

static void readOptimizer(Elaborator &e, Elaborator::TrainPlan &plan) {
  const Value *v = plan.find("optimizer");
  if (!v || v->isPoison()) return;
  Value o = e.toCallable(*v, plan.span("optimizer"), v);
  if (o.kind == Kind::Instance && o.instance->decl->declKind == DeclKind::Optimizer)
    plan.optimizer = o.instance;
  else if (!o.isPoison()) {
    auto &d = e.error(plan.span("optimizer"), Diag::KeyValue,
                      {"optimizer", "an optimizer such as `Adam()`", e.show(o)});
    if (o.kind == Kind::String) e.hintText(d, o.string());
  }
}

/// The module's float, and what layers compute in where that is another.
static void readPrecision(Elaborator &e, Elaborator::TrainPlan &plan) {
  const Value *v = plan.find("precision");
  Policy p;
  if (!v || !e.policyFrom(*v, plan.span("precision"), "`precision`", p)) return;
  e.floatType = p.variable == ir::DType::f64 ? ir::DType::f64 : ir::DType::f32;
  if (p.compute != e.floatType) e.precision = p;
  e.scalesLoss = v->kind == Kind::String && v->string() == "mixed_float16";
}

static void readNumbers(Elaborator &e, Elaborator::TrainPlan &plan) {
  int64_t steps = 0;
  positiveInt(e, plan, "batch_size", 1, plan.batchSize, INT32_MAX);
  positiveInt(e, plan, "epochs", 1, plan.epochs);
  positiveInt(e, plan, "seed", 0, plan.seed);
  positiveInt(e, plan, "steps_per_epoch", 1, steps);
  if (const Value *v = plan.find("steps_per_epoch")) plan.stepsPerEpoch = *v;
  readPrecision(e, plan);
  if (const Value *v = plan.find("weights")) {
    if (v->kind == Kind::String)
      plan.weightsFile = v->string();
    else
      e.fail(plan.span("weights"), Diag::KeyValue, {"weights", "a file's path", e.show(*v)});
  }
}

bool Elaborator::readPlan(const Train &train, TrainPlan &plan) {
  plan.train = &train;
  bool ok = evalKeys(*this, train, plan);
  readModel(*this, train, plan);
  readNumbers(*this, plan);
  const char *validation = plan.find("validation_data") ? "validation_data" : "validation";
  ok &= dataKey(*this, plan, "data", plan.data) && dataKey(*this, plan, "test", plan.test) &&
        dataKey(*this, plan, validation, plan.validation);
  ok &= readFreeze(*this, plan) && readCallbacks(*this, plan);
  if (train.step) {
    for (const char *key : {"loss", "loss_weights", "metrics", "optimizer"})
      if (plan.find(key)) {
        error(plan.span(key), Diag::StepKey, {key})
            .help("`minimize ... with ...` and `report ...` in the step say it");
        ok = false;
      }
    if (ok && !plan.data && !train.step->params->params.empty())
      return fail(train.span, Diag::MissingKey, {"data"}), false;
    return ok && !diags.hasErrors();
  }
  for (const char *key : {"data", "loss", "optimizer"})
    if (ok && !plan.find(key)) {
      fail(train.span, Diag::MissingKey, {key});
      ok = false;
    }
  readOptimizer(*this, plan);
  return ok && plan.model && plan.optimizer && !diags.hasErrors();
}

} // namespace nnc::fe
