// Data readers and the keys of a `train` block.
//
// Problem. `data = csv("iris.csv", x = columns(0..4), target = "species")` and `epochs = 30`
// concern the runtime, not the tensors: they must arrive there as metadata, and every misspelt key,
// column or argument must be an error now.
//
// Method. Readers are builtin functions whose values are descriptions. The keys are a
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

/// The first argument, the path of a file or folder, and the columns behind it.
static bool pathOf(BuiltinCall &c, const char *reader, std::string &path) {
  for (const GivenArg &a : *c.raw) {
    if (!a.name.empty()) continue;
    if (a.value.kind == Kind::String && path.empty()) {
      path = a.value.string();
      continue;
    }
    c.e.error(
        a.span, Diag::ArgumentType,
        {"the first argument of `" + std::string(reader) + "`", "the path", c.e.show(a.value)});
    return false;
  }
  if (path.empty()) c.e.error(c.span, Diag::MissingArgument, {reader, "file"});
  return !path.empty();
}

/// A column that is not as the reader wants it.
static Value noColumn(BuiltinCall &c, const GivenArg &a, const std::string &reader,
                      const std::string &want) {
  if (a.value.isPoison()) return {};
  auto &d = c.e.error(a.span, Diag::ArgumentType,
                      {"a column of `" + reader + "`", want, c.e.show(a.value)});
  if (a.name.empty() && a.value.kind == Kind::String)
    d.help("columns have the names of the model's inputs, the truth is `target`: `" + reader +
           "(x = \"" + a.value.string() + "\", ...)`");
  return {};
}

/// Readers without columns give nothing.
static bool hasColumns(BuiltinCall &c, const DataObj &data, const char *reader,
                       const char *example) {
  if (!data.columns.empty()) return true;
  c.e.error(c.span, Diag::MissingArgument, {reader, "name = ..."})
      .help(std::string("columns have the names of the model's inputs, the truth is `target`: `") +
            example + "`");
  return false;
}

static Value fileReader(BuiltinCall &c, const char *reader) {
  DataObj data;
  data.reader = reader;
  data.span = c.span;
  for (const GivenArg &a : *c.raw) {
    if (a.name.empty() || a.value.kind != Kind::String)
      return noColumn(c, a, reader, "`name = \"file\"`");
    DataColumn col = column(c.e, reader, a);
    col.meta["file"] = a.value.string();
    data.columns.push_back(std::move(col));
  }
  if (!hasColumns(c, data, reader, "x = \"x.npy\", target = \"y.npy\"")) return {};
  return Value::of(std::move(data));
}
Value builtin_idx(BuiltinCall &c) { return fileReader(c, "idx"); }
Value builtin_npy(BuiltinCall &c) { return fileReader(c, "npy"); }

Value builtin_npz(BuiltinCall &c) {
  DataObj data;
  data.reader = "npz";
  data.span = c.span;
  std::string path;
  if (!pathOf(c, "npz", path)) return {};
  for (const GivenArg &a : *c.raw) {
    if (a.name.empty()) continue;
    if (a.value.kind != Kind::String)
      return c.e.fail(a.span, Diag::ArgumentType,
                      {"a column of `npz`", "the name of an array of the file", c.e.show(a.value)});
    DataColumn col = column(c.e, "npz", a);
    col.meta["file"] = path;
    col.meta["entry"] = a.value.string();
    data.columns.push_back(std::move(col));
  }
  if (!hasColumns(c, data, "npz", "npz(\"data.npz\", x = \"x_train\", target = \"y_train\")"))
    return {};
  return Value::of(std::move(data));
}

/// {"size": n, "stride": k}: rows that are stretches of consecutive rows.
static bool windowMeta(BuiltinCall &c, bool stepsByOne, ir::Meta &out) {
  for (size_t i = 0; i < 2; ++i)
    if (c.given[i] && (!c[i].isInt() || c[i].integer() < 1)) {
      c.e.error(c.spans[i], Diag::ArgumentType,
                {i ? "`stride`" : "the length", "an int of at least 1", c.e.show(c[i])});
      return false;
    }
  out["size"] = c[0].integer();
  out["stride"] = c.given[1] ? c[1].integer() : stepsByOne ? 1 : c[0].integer();
  return true;
}

Value builtin_bytes(BuiltinCall &c) {
  DataObj data;
  data.reader = "bytes";
  return windowMeta(c, false, data.meta) ? Value::of(std::move(data)) : Value{};
}

Value builtin_text(BuiltinCall &c) {
  DataObj data;
  data.reader = "text";
  data.span = c.span;
  std::string path;
  if (!pathOf(c, "text", path)) return {};
  for (const GivenArg &a : *c.raw) {
    if (a.name.empty()) continue;
    if (a.value.kind != Kind::Data || a.value.data().reader != "bytes")
      return c.e.fail(
          a.span, Diag::ArgumentType,
          {"a column of `text`", "`bytes(n)` or `bytes(n, stride = s)`", c.e.show(a.value)});
    DataColumn col = column(c.e, "text", a);
    col.meta["file"] = path;
    col.meta["window"] = a.value.data().meta;
    data.columns.push_back(std::move(col));
  }
  if (data.columns.empty()) return c.e.fail(c.span, Diag::MissingArgument, {"text", "window"});
  return Value::of(std::move(data));
}

/// Images by class: columns `image` and `target`.
Value builtin_folder(BuiltinCall &c) {
  std::vector<int64_t> size, channels;
  if (!c.e.intList(c[1], 2, c.spans[1], size)) return {};
  if (!c.e.intList(c[2], 1, c.spans[2], channels)) return {};
  if (size[0] < 1 || size[1] < 1 || size[0] > 65536 || size[1] > 65536)
    return c.e.fail(c.spans[1], Diag::ArgumentType,
                    {"`size` of `folder`", "[height, width]", c.e.show(c[1])});
  if (channels[0] != 1 && channels[0] != 3 && channels[0] != 4)
    return c.e.fail(c.spans[2], Diag::ArgumentType,
                    {"`channels` of `folder`", "1, 3 or 4", c.e.show(c[2])});
  ir::Meta classes;
  if (!c[3].isNone()) {
    Values names;
    if (!c.e.iterate(c[3], c.spans[3], names)) return {};
    for (const Value &v : names) {
      if (v.kind != Kind::String)
        return c.e.fail(c.spans[3], Diag::ArgumentType,
                        {"`classes` of `folder`", "names of sub-directories", c.e.show(v)});
      classes.push(v.string());
    }
  }
  DataObj data;
  data.reader = "folder";
  data.span = c.span;
  for (const char *name : {"image", "target"}) {
    DataColumn col;
    col.name = name;
    col.span = c.span;
    col.meta["name"] = name;
    col.meta["reader"] = "folder";
    col.meta["line"] = lineOf(c.e, c.span);
    col.meta["file"] = c[0].string();
    if (col.name == "image") {
      for (int64_t d : {size[0], size[1], channels[0]}) col.meta["size"].push(d);
    }
    if (!classes.isNull()) col.meta["classes"] = classes;
    data.columns.push_back(std::move(col));
  }
  return Value::of(std::move(data));
}

// --- columns of a CSV file -----------------------------------------------------------------------

/// Adds what a value names to a list of columns with their codes.
static bool addColumns(BuiltinCall &c, const Value &v, Span span, const char *what, DataObj &out) {
  if (v.kind == Kind::List) {
    for (const Value &item : v.list())
      if (!addColumns(c, item, span, what, out)) return false;
    return true;
  }
  if (v.kind == Kind::Data && v.data().isColumns() && v.data().functions.empty()) {
    const auto &names = *v.data().meta.find("columns")->asList();
    const auto &codes = *v.data().meta.find("codes")->asList();
    for (const ir::Meta &m : names) out.meta["columns"].push(m);
    for (const ir::Meta &m : codes) out.meta["codes"].push(m);
    return true;
  }
  if (v.isInt() && v.integer() >= 0)
    out.meta["columns"].push(v.integer());
  else if (v.kind == Kind::String)
    out.meta["columns"].push(v.string());
  else {
    c.e.error(span, Diag::ArgumentType, {what, "a number from 0 or a name", c.e.show(v)});
    return false;
  }
  out.meta["codes"].push(ir::Meta());
  return true;
}

static DataObj emptyColumns(Span span) {
  DataObj data;
  data.reader = "columns";
  data.span = span;
  data.meta["columns"] = ir::Meta::list();
  data.meta["codes"] = ir::Meta::list();
  return data;
}

Value builtin_columns(BuiltinCall &c) {
  DataObj data = emptyColumns(c.span);
  for (const GivenArg &a : *c.raw)
    if (!addColumns(c, a.value, a.span, "a column", data)) return {};
  return Value::of(std::move(data));
}

/// One column of words as numbers: by a list of the words, or by a hash.
Value builtin_category(BuiltinCall &c) {
  DataObj data = emptyColumns(c.span);
  if (!addColumns(c, c[0], c.spans[0], "a column", data)) return {};
  bool words = !c[1].isNone(), hash = !c[2].isNone();
  if (words == hash)
    return c.e.fail(
        c.span, Diag::ArgumentType,
        {"`category`", "given a list of words or `hash = n`", words ? "both" : "neither"});
  ir::Meta code;
  if (hash) {
    if (!c[2].isInt() || c[2].integer() < 1 || c[2].integer() > INT32_MAX)
      return c.e.fail(c.spans[2], Diag::ArgumentType,
                      {"`hash` of `category`", "a number of classes", c.e.show(c[2])});
    code["hash"] = c[2].integer();
  } else {
    Values items;
    if (!c.e.iterate(c[1], c.spans[1], items)) return {};
    code["words"] = ir::Meta::list();
    for (const Value &v : items) {
      if (v.kind != Kind::String)
        return c.e.fail(c.spans[1], Diag::ArgumentType,
                        {"`vocabulary` of `category`", "a list of words", c.e.show(v)});
      code["words"].push(v.string());
    }
  }
  for (ir::Meta &m : *data.meta["codes"].asList()) m = code;
  data.meta["one"] = c[0].kind != Kind::List;
  return Value::of(std::move(data));
}

Value builtin_names(BuiltinCall &c) {
  Values out;
  if (!c[1].isInt() || c[1].integer() < 0 || c[1].integer() > kMaxListLength)
    return c.e.fail(c.spans[1], Diag::ArgumentType,
                    {"`count` of `names`", "a number of names", c.e.show(c[1])});
  for (int64_t i = 1; i <= c[1].integer(); ++i)
    out.push_back(Value::of(c[0].string() + std::to_string(i)));
  return Value::list(std::move(out));
}

Value builtin_csv(BuiltinCall &c) {
  DataObj data;
  data.reader = "csv";
  data.span = c.span;
  std::string path;
  if (!pathOf(c, "csv", path)) return {};
  for (const GivenArg &a : *c.raw) {
    if (a.name.empty()) continue;
    DataColumn col = column(c.e, "csv", a);
    std::string what = "`" + col.name + "` of `csv`";
    DataObj list = emptyColumns(a.span);
    bool isColumns = a.value.kind == Kind::Data && a.value.data().isColumns();
    Value plain = a.value;
    if (isColumns) {
      DataObj unapplied = a.value.data();
      unapplied.functions.clear();
      plain = Value::of(std::move(unapplied));
      col.functions = a.value.data().functions;
      col.text = c.e.text(a.span);
    }
    if (!addColumns(c, plain, a.span, what.c_str(), list)) return {};
    const ir::Meta *one = isColumns ? a.value.data().meta.find("one") : nullptr;
    bool single = one ? *one->asBool() : !isColumns && a.value.kind != Kind::List;
    auto &names = *list.meta["columns"].asList(), &codes = *list.meta["codes"].asList();
    bool coded =
        std::any_of(codes.begin(), codes.end(), [](const ir::Meta &m) { return !m.isNull(); });
    col.meta["columns"] = single ? names[0] : list.meta["columns"];
    if (coded) col.meta["codes"] = list.meta["codes"];
    data.columns.push_back(std::move(col));
  }
  if (!hasColumns(c, data, "csv", "csv(\"data.csv\", x = columns(0..4), target = \"price\")"))
    return {};
  for (DataColumn &col : data.columns) col.meta["file"] = path;
  return Value::of(std::move(data));
}

// --- stages --------------------------------------------------------------------------------------

static Value windowsStage(Elaborator &e, const DataObj &data, const CallExpr &call) {
  GivenArgs args = e.evalArgs(call.args);
  const Value *size = nullptr, *stride = nullptr;
  for (const GivenArg &a : args) {
    if (a.value.isPoison()) return {};
    const Value *&slot = a.name == "stride" || (a.name.empty() && size) ? stride : size;
    bool known = a.name.empty() || a.name == "stride" || a.name == "n";
    if (!known) return e.fail(a.nameSpan, Diag::UnknownArgument, {"windows", std::string(a.name)});
    if (slot) return e.fail(a.span, Diag::RepeatedArgument, {"windows", std::string(a.name)});
    if (!a.value.isInt() || a.value.integer() < 1)
      return e.fail(a.span, Diag::ArgumentType,
                    {"an argument of `windows`", "an int of at least 1", e.show(a.value)});
    slot = &a.value;
  }
  if (!size) return e.fail(call.span, Diag::MissingArgument, {"windows", "n"});
  DataObj out = data;
  for (DataColumn &c : out.columns) {
    if (c.meta.find("window") || c.meta.find("size"))
      return e.fail(call.span, Diag::ArgumentType,
                    {"the data of `windows`", "rows of a table or array", "`" + data.reader + "`"});
    c.meta["window"]["size"] = size->integer();
    c.meta["window"]["stride"] = stride ? stride->integer() : 1;
  }
  return Value::of(std::move(out));
}

Value Elaborator::dataStage(const Value &value, const Expr &stage) {
  const CallExpr *call = stage.kind == ExprKind::Call ? &as<CallExpr>(stage) : nullptr;
  const Expr &callee = call ? *call->callee : stage;
  std::string_view name = callee.kind == ExprKind::Name ? as<NameExpr>(callee).name : "";
  if (call && name == "windows") {
    if (value.data().maps.empty()) return windowsStage(*this, value.data(), *call);
    error(stage.span, Diag::DataStage, {"windows"}).help("`windows` stands before `map`");
    return {};
  }
  if (!call || name != "map") {
    auto &d = error(callee.span, Diag::DataStage, {text(callee.span)});
    hint(d, Foreign::Stage, name, {"map", "windows"});
    return {};
  }
  GivenArgs args = evalArgs(call->args);
  Value f = args.size() == 1 ? toCallable(args[0].value, args[0].span, args[0].expr) : Value{};
  if (args.size() == 1 && args[0].value.isPoison()) return {};
  if (f.kind != Kind::Function && f.kind != Kind::Instance)
    return fail(stage.span, Diag::ArgumentType,
                {"the argument of `map`", "a function as `fn(a) = (x = a / 255)`",
                 args.size() == 1 ? show(args[0].value) : std::to_string(args.size())});
  DataObj out = value.data();
  out.maps.push_back({f, args[0].span});
  return Value::of(std::move(out));
}

/// Callbacks and readers that are known by name but not there yet.
static bool laterName(const Expr &expr, std::string &name) {
  static const char *const later[] = {
      "LambdaCallback", "TensorBoard", "RemoteMonitor", "SwapEMAWeights", "ProgbarLogger",
  };
  if (expr.kind == ExprKind::List) {
    for (const Item &item : as<ListExpr>(expr).items)
      if (laterName(*item.value, name)) return true;
    return false;
  }
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
  if (high != INT64_MAX)
    want = "an int from " + std::to_string(low) + " to " + std::to_string(high);
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
      auto &d = e.error(item.value->span, Diag::NotYet, {later});
      if (const ForeignRow *row = foreign(Foreign::Stage, later.substr(1, later.size() - 2)))
        d.help(row->advice);
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
      auto &d = e.error(plan.span("freeze"), Diag::KeyValue,
                        {"freeze", "a list of instances", e.show(item)});
      if (item.kind == Kind::String)
        d.help("an instance is a name of the file: `encoder = Dense(8)`, `freeze = [encoder]`");
      if (item.kind == Kind::Function && item.function().kind == FunctionKind::Decl &&
          item.function().decl->declKind != DeclKind::Fn) {
        const Decl &decl = *item.function().decl;
        const std::string kind(decl.name.text), made = Elaborator::snakeCase(kind);
        d.help("an instance is a name of the file: `" + made + " = " + kind +
               (decl.params.size() == 2 ? "(...)" : "()") + "`, `freeze = [" + made + "]`");
      }
      return false;
    }
    plan.freeze.push_back(item.instance);
  }
  return true;
}

bool Elaborator::isFrozenHere(const Instance &inst) const {
  return plan && std::find(plan->freeze.begin(), plan->freeze.end(), &inst) != plan->freeze.end();
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
        if (!p.initial)
          missing += (missing.empty() ? "" : ", ") + std::string(p.name.text) + " = ...";
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

/// Losses and metrics are no strings; said early, so that other keys' mistakes do not hide it.
static bool noStrings(Elaborator &e, const Elaborator::TrainPlan &plan, const std::string &key) {
  const Value *v = plan.find(key);
  if (!v) return true;
  Values items{*v};
  if (v->kind == Kind::List) items = v->list();
  for (const Value &item : items) {
    if (item.kind != Kind::String) continue;
    const bool isLoss = key == "loss";
    auto &d = e.error(plan.span(key), Diag::KeyValue,
                      {key,
                       isLoss ? "a function such as `MeanSquaredError()`"
                              : "a list of metrics such as `SparseCategoricalAccuracy()`",
                       e.show(item)});
    e.hintText(d, item.string());
    return false;
  }
  return true;
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
  if (const Value *v = plan.find("shuffle")) {
    if (v->kind == Kind::Bool)
      plan.shuffle = v->b;
    else
      e.fail(plan.span("shuffle"), Diag::KeyValue, {"shuffle", "a bool", e.show(*v)});
  }
  readPrecision(e, plan);
  if (const Value *v = plan.find("weights")) {
    if (v->kind == Kind::String && !isForeignWeights(v->string()))
      plan.weightsFile = v->string();
    else
      e.fail(plan.span("weights"), Diag::KeyValue,
             {"weights", "a file that training saved, such as \"m.safetensors\"", e.show(*v)});
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
  ok &= readFreeze(*this, plan) && readCallbacks(plan);
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
  for (const char *key : {"loss", "metrics"}) ok &= noStrings(*this, plan, key);
  return ok && plan.model && plan.optimizer && !diags.hasErrors();
}

} // namespace nnc::fe
