// The module's metadata (docs/internals.md): what a training binary needs beyond the tensors.
//
// Problem. The binary prints a summary, finds its data, knows its metrics by name:
//
//   {"name": "classifier", "train": {"epochs": 30, …}, "data": [{"name": "image", …}], …}
//
// Method. The plan holds all of it; here it is written in the order of the schema. A layer's costs
// are read off the nodes its application emitted in eval_step.
#include "frontend/elab_train.h"

namespace nnc::fe {

static ir::Meta number(double v) {
  return v == double(int64_t(v)) ? ir::Meta(int64_t(v)) : ir::Meta(v);
}

static ir::Meta rangeMeta(const std::pair<double, double> &range) {
  ir::Meta list = ir::Meta::list();
  list.push(number(range.first));
  list.push(number(range.second));
  return list;
}

static ir::Meta columnsMeta(const DataObj &data,
                            const std::map<std::string, std::pair<double, double>> &ranges) {
  ir::Meta list = ir::Meta::list();
  for (const DataColumn &c : data.columns) {
    ir::Meta col = c.meta;
    if (auto it = ranges.find(c.name); it != ranges.end()) col["range"] = rangeMeta(it->second);
    list.push(std::move(col));
  }
  return list;
}

/// Multiplications and additions of the contractions in a node for one sample.
static double flopsOf(const ir::Module &m, const ir::Node &n) {
  if (const auto *s = std::get_if<ir::ScanAttr>(&n.attr)) {
    double round = 0;
    for (const ir::Node &inside : m.find(s->body)->nodes) round += flopsOf(m, inside);
    return round * double(s->length);
  }
  const auto *c = std::get_if<ir::ContractAttr>(&n.attr);
  if (!c) return 0;
  double product = 2;
  for (ir::Dim d : c->extents) product *= double(d.at(1));
  return product;
}

ir::Meta Elaborator::layersMeta(Instance &model, const Pass &summary) {
  ir::Meta list = ir::Meta::list();
  std::unordered_set<const Instance *> seen;
  for (const LayerRow &row : summary.layers) {
    if (row.depth < 1 || row.instance == &model || !seen.insert(row.instance).second) continue;
    std::vector<Instance *> inside;
    collect(*row.instance, inside);
    int64_t params = 0;
    for (Instance *i : inside)
      for (Weight *w : i->weights)
        if (w->kind == WeightKind::Param || (w->kind == WeightKind::State && !w->rows))
          params += ir::elementCount(w->type.dims, 1);
    double flops = 0;
    for (int32_t n = row.firstNode; n < row.endNode; ++n)
      flops += flopsOf(*module, row.pass->b.f.nodes[n]);
    flops *= double(row.pass->rounds);
    ir::Meta m = ir::Meta::dict();
    m["name"] = row.instance->name;
    m["type"] = row.instance->decl->name.text;
    m["path"] = row.instance->path;
    m["depth"] = row.depth - 1;
    ir::Meta dims = ir::Meta::list();
    if (!row.outputs.empty())
      for (ir::Dim d : row.outputs[0]) dims.push(d.isConst() ? ir::Meta(d.b) : ir::Meta());
    m["output"] = std::move(dims);
    m["params"] = params;
    m["flops"] = int64_t(flops);
    m["connected_to"] = ir::Meta::list();
    list.push(std::move(m));
  }
  return list;
}

static ir::Meta trainMeta(const Elaborator::TrainPlan &plan) {
  ir::Meta t = ir::Meta::dict();
  t["epochs"] = plan.epochs;
  t["batch_size"] = plan.batchSize;
  t["steps_per_epoch"] =
      plan.stepsPerEpoch.isInt() ? ir::Meta(plan.stepsPerEpoch.integer()) : ir::Meta();
  if (plan.validationSplit > 0) t["validation_split"] = plan.validationSplit;
  t["shuffle"] = plan.shuffle;
  t["seed"] = plan.seed;
  t["callbacks"] = ir::Meta::list();
  for (const DataObj &c : plan.callbacks) t["callbacks"].push(c.meta);
  t["weights"] = plan.weightsFile.empty() ? ir::Meta() : ir::Meta(plan.weightsFile);
  return t;
}

static ir::Meta namesMeta(const std::vector<std::string> &names) {
  ir::Meta list = ir::Meta::list();
  for (const std::string &n : names) list.push(n);
  return list;
}

std::vector<std::string> Elaborator::metricNames(const TrainPlan &plan) const {
  std::vector<std::string> metrics;
  for (const Report &r : plan.reports) metrics.push_back(r.name);
  if (plan.lossTotal) metrics.emplace_back("loss");
  for (const Output &o : plan.outputs)
    if (o.total) metrics.push_back(o.name + "_loss");
  for (const MetricUse &use : plan.metrics) metrics.push_back(use.name);
  return metrics;
}

void Elaborator::writeMeta(const TrainPlan *plan, Instance *model, const Pass &summary) {
  ir::Meta &whole = module->meta;
  const bool several = plan && !plan->name.empty();
  if (!several || !whole.find("blocks")) {
    whole = ir::Meta::dict();
    whole["name"] = model ? model->name : "model";
    std::string source = sources.name(user->file);
    whole["source"] = source.substr(source.rfind('/') + 1);
    if (several) whole["blocks"] = ir::Meta::list();
  }
  ir::Meta block = ir::Meta::dict();
  ir::Meta &m = several ? block : whole;
  if (several) m["name"] = plan->name;
  if (plan) {
    m["train"] = trainMeta(*plan);
    if (plan->data) m["data"] = columnsMeta(*plan->data, plan->ranges);
    if (plan->validation) m["validation"] = columnsMeta(*plan->validation, plan->ranges);
    if (plan->test) m["test"] = columnsMeta(*plan->test, plan->ranges);
    m["metrics"] = namesMeta(metricNames(*plan));
  }
  ir::Meta uses = whole.find("uses") ? *whole.find("uses") : ir::Meta::list();
  for (const char *part : {"npz", "folder"}) {
    bool used = false;
    for (const DataObj *data :
         {plan ? plan->data.get() : nullptr, plan ? plan->test.get() : nullptr,
          plan ? plan->validation.get() : nullptr})
      used = used || (data && data->reader == part);
    for (const ir::Meta &known : *uses.asList()) used = used && known != ir::Meta(part);
    if (used) uses.push(part);
  }
  if (!uses.asList()->empty()) whole["uses"] = std::move(uses);
  m["predict"]["inputs"] = namesMeta(predictInputs);
  m["predict"]["outputs"] = namesMeta(predictOutputs);
  for (auto &[name, range] : predictRanges) m["predict"]["ranges"][name] = rangeMeta(range);
  m["layers"] = model ? layersMeta(*model, summary) : ir::Meta::list();
  if (several) whole["blocks"].push(std::move(block));
}

} // namespace nnc::fe
