// What rewrites data before a step sees it: functions of columns and `map`.
//
// Problem. `csv("t.csv", x = log1p(columns(0..5)), …) |> map(fn(x, y) = (a = x[:, :3], target =
// y))` computes with batches, in training, evaluation and prediction, and must do so where nothing
// but kernels runs.
//
// Method. Everything is part of the step: the function's inputs are the columns of the files, and
// what the model takes is computed from them by ordinary nodes. The types of the results are needed
// before there is a step, so the functions run once in a function of the module that is thrown
// away; its nodes also tell which columns of the files each result depends on.
#include "frontend/elab_train.h"
#include <algorithm>

namespace nnc::fe {

bool Elaborator::isMapped(std::string_view name) const { return mapped.contains(name); }

/// The type in which a column of a file enters the step when a function or map comes before the
/// model: what the file has, its floats as the module's, its wide integers as `i32`.
bool Elaborator::readColumnType(const DataColumn &column, ir::Type &out) {
  DataHeader &h = headers[&column];
  if (h.file.empty()) h = readHeader(column.meta);
  if (!h.error.empty()) {
    error(column.span, Diag::DataHead, {h.file, "the type of `" + column.name + "`", h.error});
    return false;
  }
  out.dtype = !h.element || ir::isFloat(*h.element) ? floatType : *h.element;
  if (out.dtype == ir::DType::i64 || out.dtype == ir::DType::u32) out.dtype = ir::DType::i32;
  out.dims = {ir::Dim::batch()};
  for (int64_t d : h.row) out.dims.push_back(d);
  return true;
}

/// The names of a map's parameters, or a message.
static bool parametersOf(Elaborator &e, const DataMap &map, std::vector<std::string> &out) {
  const ParamList *list = nullptr;
  if (map.function.kind == Kind::Instance)
    list = map.function.instance->decl->params.back();
  else if (const FunctionObj &f = map.function.function(); f.kind == FunctionKind::Lambda)
    list = f.lambda->params;
  else if (f.kind == FunctionKind::Decl)
    list = f.decl->params.back();
  if (!list) {
    e.error(map.span, Diag::ArgumentType,
            {"the argument of `map`", "a function as `fn(a) = (x = a / 255)`", e.text(map.span)});
    return false;
  }
  for (const Param &p : list->params)
    if (!p.initial) out.emplace_back(p.name.text);
  return true;
}

/// One map: from the columns it names to those it gives.
static bool applyMap(Elaborator &e, const DataMap &map,
                     std::map<std::string, Value, std::less<>> &columns) {
  std::vector<std::string> names;
  if (!parametersOf(e, map, names)) return false;
  GivenArgs args;
  for (const std::string &name : names) {
    auto it = columns.find(name);
    if (it == columns.end()) {
      e.missingColumn(*e.inputData, "data", name, "`map`");
      return false;
    }
    GivenArg a;
    a.value = it->second;
    a.span = a.nameSpan = map.span;
    args.push_back(std::move(a)); // in the order of the parameters
  }
  Value v = e.call(map.function, std::move(args), map.span, map.function.obj.get());
  if (v.isPoison()) return false;
  if (v.kind != Kind::Tuple || v.tuple().names.empty()) {
    e.error(map.span, Diag::MapResult, {e.show(v)});
    return false;
  }
  columns.clear();
  for (size_t i = 0; i < v.tuple().items.size(); ++i) {
    Value t = e.tensor(v.tuple().items[i]);
    if (t.isPoison()) return false;
    columns[v.tuple().names[i]] = t;
  }
  return true;
}

bool Elaborator::feed(const std::set<std::string> *wanted,
                      std::map<std::string, Value, std::less<>> &out) {
  const DataObj &data = *inputData;
  std::vector<std::string> names; // that the first map takes
  if (!data.maps.empty() && !parametersOf(*this, data.maps.front(), names)) return false;
  for (const DataColumn &c : data.columns) {
    bool taken = std::find(names.begin(), names.end(), c.name) != names.end();
    if (data.maps.empty() ? c.functions.empty() : !taken) continue;
    bool needed = !wanted;
    for (auto &[name, m] : mapped)
      if (wanted && wanted->contains(name) && m.from.contains(c.name)) needed = true;
    ir::Type type;
    if (!readColumnType(c, type)) return false;
    Restore<Span> place(at, c.span);
    Value v = needed ? addInput(c.name, type, std::vector<Span>(type.dims.size(), c.span), c.span)
                     : constant(0, type); // nothing that is wanted depends on it
    for (const DataFunction &f : c.functions) {
      v = f(v);
      if (v.isPoison()) return false;
      v = tensor(v);
      if (v.isPoison()) return false;
    }
    out[c.name] = v;
  }
  for (const DataMap &map : data.maps)
    if (!applyMap(*this, map, out)) return false;
  return true;
}

/// The inputs among the parameters that a value depends on.
static std::set<std::string> dependsOn(const Pass &pass, ir::ValueId value) {
  const ir::Function &f = pass.b.f;
  std::vector<bool> needed(f.values.size(), false);
  needed[size_t(value.i)] = true;
  for (size_t i = f.nodes.size(); i-- > 0;) {
    const ir::Node &node = f.nodes[i];
    bool live = false;
    for (int k = 0; k < node.resultCount; ++k) live = live || needed[size_t(node.result(k).i)];
    if (!live) continue;
    for (ir::ValueId v : node.operands) needed[size_t(v.i)] = true;
  }
  std::set<std::string> out;
  for (auto &[id, name] : pass.columns)
    if (needed[size_t(id)]) out.insert(name);
  return out;
}

bool Elaborator::planMaps(const TrainPlan &plan) {
  mapped.clear();
  mappedHeaders.clear();
  headers.clear();
  if (!plan.data) return true;
  const DataObj &data = *plan.data;
  bool any = !data.maps.empty();
  for (const DataColumn &c : data.columns) any = any || !c.functions.empty();
  if (!any) return true;
  Pass *before = pass;
  Pass &trial = openPass("map", plan.batchSize, false);
  std::map<std::string, Value, std::less<>> columns;
  bool ok;
  {
    Frame f;
    f.parent = frame;
    f.name = "map";
    f.owner = &stepOwner;
    f.ownsPath = true;
    f.file = user;
    f.scope = std::make_shared<Scope>();
    Restore<Frame *> inside(frame, &f);
    ok = feed(nullptr, columns);
    for (auto &[name, v] : columns)
      if (ok) mapped[name] = {type(v), dependsOn(trial, v.id)};
  }
  for (auto &f : module->functions)
    if (f.get() == &trial.b.f) discarded.push_back(std::move(f));
  std::erase(module->functions, nullptr);
  pass = before;
  return ok;
}

/// A computed column as an input of the model takes it: as from a file, sizes of 1 at the end come
/// and go, integers widen, bytes and integers become floats.
Value Elaborator::fitInput(const Value &value, const DataInput &in) {
  Value v = value;
  Restore<Span> place(at, in.span);
  ir::Dims dims = type(v).dims;
  while (dims.size() > in.type.dims.size() && dims.back() == ir::Dim(1)) dims.pop_back();
  while (dims.size() < in.type.dims.size()) dims.push_back(1);
  if (dims != in.type.dims)
    return fail(in.span, Diag::ShapeMismatch, {"`" + in.name + "`", show(in.type), show(v)});
  bool toFloat = ir::isFloat(in.type.dtype), fromFloat = ir::isFloat(type(v).dtype);
  if (fromFloat && !toFloat)
    return fail(in.span, Diag::ElementMismatch,
                {"`" + in.name + "`", std::string(ir::dtypeName(in.type.dtype)),
                 std::string(ir::dtypeName(type(v).dtype))});
  if (dims != type(v).dims) v = reshape(v, dims);
  if (type(v).dtype != in.type.dtype) v = cast(v, in.type.dtype);
  return v;
}

} // namespace nnc::fe
