// Keras' callbacks in a `train` block.
//
// Problem. `ReduceLROnPlateau(monitor = "val_acuracy")` is only found wrong after an epoch, and
// `LearningRateScheduler(fn(epoch, rate) = rate * 0.9 ** epoch)` holds a function, where a running
// program has only kernels.
//
// Method. A callback's value is a description with its arguments as metadata. When the metrics of
// the block are known, the names it mentions are checked against them, and a scheduler's function
// is built into the module, as a function of two scalars that the runtime calls between epochs.
#include "frontend/elab_train.h"
#include <algorithm>
#include <cmath>

namespace nnc::fe {

static ir::Meta metaOf(const Value &v) {
  switch (v.kind) {
  case Kind::Int: return v.integer();
  case Kind::Float: return v.d;
  case Kind::Bool: return v.b;
  case Kind::String: return v.string();
  default: return {};
  }
}

// --- the builtins --------------------------------------------------------------------------------

namespace {
/// A parameter in the order of builtins.def, and what it may be beyond its type there.
struct Field {
  const char *name;
  enum Check { Typed, Number, NumberOrNone, Mode, Frequency, Separator } check = Typed;
};
} // namespace

static bool fits(BuiltinCall &c, size_t i, Field::Check check, std::string &want) {
  const Value &v = c[i];
  switch (check) {
  case Field::Typed: return true;
  case Field::Number: return want = "a number", v.isNumber();
  case Field::NumberOrNone: return want = "a number", v.isNumber() || v.isNone();
  case Field::Mode:
    want = "\"auto\" | \"min\" | \"max\"";
    return v.string() == "auto" || v.string() == "min" || v.string() == "max";
  case Field::Frequency:
    want = "\"epoch\" or a number of batches";
    return (v.kind == Kind::String && v.string() == "epoch") || (v.isInt() && v.integer() > 0);
  case Field::Separator:
    want = "a string of one character";
    return v.isNone() || (v.kind == Kind::String && v.string().size() == 1);
  }
  return false;
}

static Value callback(BuiltinCall &c, const char *type, std::initializer_list<Field> fields) {
  DataObj data;
  data.reader = type;
  data.span = c.span;
  data.meta["type"] = type;
  size_t i = 0;
  for (const Field &f : fields) {
    std::string want;
    if (!fits(c, i, f.check, want)) {
      auto &d =
          c.e.error(c.spans[i], Diag::ArgumentType,
                    {"`" + std::string(f.name) + "` of `" + type + "`", want, c.e.show(c[i])});
      if (f.check == Field::Mode) d.didYouMean(suggest(c[i].string(), {"auto", "min", "max"}));
      return {};
    }
    data.meta[f.name] = metaOf(c[i]);
    data.spans[f.name] = c.spans[i];
    ++i;
  }
  Position p = c.e.sources.position(c.span);
  std::string file = c.e.sources.name(c.span.file);
  data.meta["span"] = file.substr(file.rfind('/') + 1) + ":" + std::to_string(p.line);
  return Value::of(std::move(data));
}

Value builtin_EarlyStopping(BuiltinCall &c) {
  return callback(c, "EarlyStopping",
                  {{"monitor"},
                   {"min_delta", Field::Number},
                   {"patience"},
                   {"mode", Field::Mode},
                   {"baseline", Field::NumberOrNone},
                   {"restore_best_weights"},
                   {"start_from_epoch"}});
}
Value builtin_ModelCheckpoint(BuiltinCall &c) {
  if (isForeignWeights(c[0].string()))
    return c.e.fail(c.spans[0], Diag::ArgumentType,
                    {"`filepath` of `ModelCheckpoint`",
                     "a file of weights such as \"best.safetensors\"", c.e.show(c[0])});
  return callback(c, "ModelCheckpoint",
                  {{"filepath"},
                   {"monitor"},
                   {"verbose"},
                   {"save_best_only"},
                   {"save_weights_only"},
                   {"mode", Field::Mode},
                   {"save_freq", Field::Frequency},
                   {"initial_value_threshold", Field::NumberOrNone}});
}
Value builtin_ReduceLROnPlateau(BuiltinCall &c) {
  if (c[1].isNumber() && c[1].number() >= 1)
    return c.e.fail(c.spans[1], Diag::ArgumentType,
                    {"`factor` of `ReduceLROnPlateau`", "less than 1", c.e.show(c[1])});
  return callback(c, "ReduceLROnPlateau",
                  {{"monitor"},
                   {"factor", Field::Number},
                   {"patience"},
                   {"verbose"},
                   {"mode", Field::Mode},
                   {"min_delta", Field::Number},
                   {"cooldown"},
                   {"min_lr", Field::Number}});
}
Value builtin_CSVLogger(BuiltinCall &c) {
  return callback(c, "CSVLogger", {{"filename"}, {"separator", Field::Separator}, {"append"}});
}
Value builtin_TerminateOnNaN(BuiltinCall &c) {
  return callback(c, "TerminateOnNaN", {{"raise_error"}});
}
Value builtin_BackupAndRestore(BuiltinCall &c) {
  if (c[0].string().empty())
    return c.e.fail(c.spans[0], Diag::ArgumentType,
                    {"`backup_dir` of `BackupAndRestore`", "a directory", c.e.show(c[0])});
  return callback(c, "BackupAndRestore",
                  {{"backup_dir"},
                   {"save_freq", Field::Frequency},
                   {"double_checkpoint"},
                   {"delete_checkpoint"}});
}
Value builtin_LearningRateScheduler(BuiltinCall &c) {
  if (c[0].kind != Kind::Function && c[0].kind != Kind::Instance)
    return c.e.fail(c.spans[0], Diag::ArgumentType,
                    {"`schedule` of `LearningRateScheduler`",
                     "a function as `fn(epoch, rate) = rate * 0.9`", c.e.show(c[0])});
  DataObj data;
  data.reader = "LearningRateScheduler";
  data.span = c.span;
  data.meta["type"] = data.reader;
  data.meta["verbose"] = metaOf(c[1]);
  data.function = c[0];
  data.spans["schedule"] = c.spans[0];
  return Value::of(std::move(data));
}

// --- in the block --------------------------------------------------------------------------------

bool Elaborator::readCallbacks(TrainPlan &plan) {
  const Value *v = plan.find("callbacks");
  if (!v) return true;
  Values items{*v};
  if (v->kind == Kind::List) items = v->list();
  for (const Value &item : items) {
    if (item.isPoison()) return false;
    if (item.kind != Kind::Data || !item.data().meta.find("type")) {
      auto &d =
          error(plan.span("callbacks"), Diag::KeyValue,
                {"callbacks", "a list of callbacks such as `EarlyStopping(...)`", show(item)});
      if (item.kind == Kind::String) hintText(d, item.string());
      if (item.kind == Kind::Function && item.function().kind == FunctionKind::Builtin)
        d.help("it is called: `" + calleeName(item) + "(...)`");
      else if (item.kind == Kind::Function)
        d.help("a schedule stands in the optimizer: `Adam(learning_rate = " + calleeName(item) +
               "(...))`");
      return false;
    }
    plan.callbacks.push_back(item.data());
  }
  return true;
}

/// Endings of files that other frameworks write: what stands in one of ours is safetensors.
bool isForeignWeights(const std::string &path) {
  for (const char *ending : {".h5", ".hdf5", ".keras", ".ckpt", ".pt", ".pth", ".pkl", ".onnx"})
    if (path.ends_with(ending)) return true;
  return false;
}

/// The names in a pattern like "best-{epoch:02d}-{val_loss:.3f}".
static std::vector<std::string> namesIn(const std::string &pattern) {
  std::vector<std::string> out;
  for (size_t at = 0; (at = pattern.find('{', at)) != std::string::npos; ++at) {
    size_t close = pattern.find('}', at);
    if (close == std::string::npos) break;
    std::string inside = pattern.substr(at + 1, close - at - 1);
    out.push_back(inside.substr(0, inside.find(':')));
  }
  return out;
}

static bool checkName(Elaborator &e, const DataObj &c, const char *argument,
                      const std::string &name, const std::vector<std::string> &known,
                      bool validates) {
  if (std::find(known.begin(), known.end(), name) != known.end()) return true;
  std::string list;
  for (const std::string &k : known) list += (list.empty() ? "`" : ", `") + k + "`";
  auto it = c.spans.find(argument);
  auto &d =
      e.error(it == c.spans.end() ? c.span : it->second, Diag::UnknownMonitor, {name});
  d.didYouMean(suggest(name, known));
  d.note("there are " + list);
  if (!validates && name.starts_with("val_"))
    d.help("`validation = split(0.1)` holds rows out to validate with");
  return false;
}

/// The schedule as a function `learning_rate_<i>` of the module.
static bool buildSchedule(Elaborator &e, const Elaborator::TrainPlan &plan, DataObj &c, size_t i) {
  Span span = c.spans["schedule"];
  std::string name = plan.prefix + "learning_rate_" + std::to_string(i);
  e.openPass(name, 0, false);
  Frame f = stepFrame(e, span, false);
  Restore<Frame *> inside(e.frame, &f);
  Restore<Span> place(e.at, span);
  Value epoch = e.wrap(e.pass->b.param("epoch", {ir::DType::i32, {}}).id);
  Value rate = e.wrap(e.pass->b.param("learning_rate", {e.floatType, {}}).id);
  const FunctionObj *fn = c.function.kind == Kind::Function ? &c.function.function() : nullptr;
  const ParamList *params = nullptr;
  if (fn && fn->kind == FunctionKind::Lambda) params = fn->lambda->params;
  if (fn && fn->kind == FunctionKind::Decl) params = fn->decl->params.back();
  Values args{epoch, rate};
  if (params && params->params.size() == 1) args.pop_back(); // of the epoch alone
  Value v = e.callWith(c.function, args, span);
  if (v.isPoison()) return false;
  v = e.fit(v, {e.floatType, {}}, span, "the value of the schedule");
  if (v.isPoison()) return false;
  e.pass->b.result("learning_rate", v.id);
  c.meta["function"] = name;
  return !e.diags.hasErrors();
}

bool Elaborator::finishCallbacks(TrainPlan &plan, const std::vector<std::string> &metrics) {
  std::vector<std::string> known = metrics;
  bool validates = plan.validation || plan.validationSplit > 0, ok = true;
  for (const std::string &m : metrics)
    if (validates) known.push_back("val_" + m);
  std::vector<DataObj> all;
  for (size_t i = 0; i < plan.callbacks.size(); ++i) {
    DataObj &c = plan.callbacks[i];
    bool setsRate = c.reader == "ReduceLROnPlateau" || c.reader == "LearningRateScheduler";
    if (setsRate) {
      if (plan.rates.empty()) {
        error(c.span, Diag::RateNeeded, {c.reader})
            .help("a schedule, which is a function of the steps, sets it already");
        ok = false;
        continue;
      }
      if (std::find(known.begin(), known.end(), "learning_rate") == known.end())
        known.push_back("learning_rate");
    }
    if (const ir::Meta *path = c.meta.find("filepath")) {
      std::vector<std::string> all = known;
      all.push_back("epoch");
      if (c.meta.find("save_freq")->asInt())
        all = metrics, all.push_back("epoch"), all.push_back("batch");
      for (const std::string &name : namesIn(*path->asString()))
        ok &= checkName(*this, c, "filepath", name, all, validates);
    }
    if (c.reader == "LearningRateScheduler") ok = ok && buildSchedule(*this, plan, c, i);
    if (!setsRate) all.push_back(c);
    for (const Weight *rate : setsRate ? plan.rates : std::vector<Weight *>()) {
      c.meta["learning_rate"] = rate->path; // once for each optimizer
      all.push_back(c);
    }
  }
  plan.callbacks = std::move(all);
  return ok;
}

} // namespace nnc::fe
