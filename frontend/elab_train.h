// The plan of a `train` block: what its keys say, before any step is built. Private to elab_*.cpp.
#pragma once
#include "frontend/elab.h"

namespace nnc::fe {

/// A named tensor that the data gives.
struct DataInput {
  std::string name;
  ir::Type type;
  std::vector<Span> origins;
  Span span;
};

struct Output {
  std::string name; // "main"; "output" for a single unnamed one
  Value loss;       // none: this output has no loss
  double weight = 1;
  Weight *total = nullptr; // several outputs: the running mean of this one's loss
};

struct MetricUse {
  Instance *metric;
  size_t output;
  std::string name; // as displayed: "accuracy", "main_accuracy"
};

struct Elaborator::TrainPlan {
  const Train *train = nullptr;
  Frame *frame = nullptr; // of the block's expressions
  Instance *model = nullptr;
  std::map<std::string, Value, std::less<>> keys;
  std::map<std::string, Span, std::less<>> spans;
  std::shared_ptr<DataObj> data, validation, test;
  double validationSplit = 0;
  int64_t batchSize = 32, epochs = 1, seed = 0;
  Value stepsPerEpoch = Value::none();
  std::string weightsFile;
  ir::Meta callbacks = ir::Meta::list();
  std::vector<DataInput> inputs, targets; // targets go with `outputs` that have a loss or a metric
  std::vector<Output> outputs;
  std::vector<int> targetOf; // by output: index into targets, or -1
  std::vector<MetricUse> metrics;
  bool sampleWeight = false;
  Instance *optimizer = nullptr;
  Weight *lossTotal = nullptr, *count = nullptr;
  bool planned = false; // outputs, targets and metrics are known
  const Pass *summary = nullptr;
  std::map<std::string, std::pair<double, double>> ranges;

  const Value *find(std::string_view key) const {
    auto it = keys.find(key);
    return it == keys.end() ? nullptr : &it->second;
  }
  Span span(std::string_view key) const {
    auto it = spans.find(key);
    return it == spans.end() ? train->span : it->second;
  }
};

} // namespace nnc::fe
