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

/// What a written-out step reports: the mean over the batches, or the last value of a metric.
struct Report {
  std::string name;
  Span span;
  bool isMetric = false;
  Weight *total = nullptr;
};

/// A scalar of the runtime's bookkeeping: zero at first.
Weight *scalar(Elaborator &e, std::string path, std::string name, WeightKind kind, ir::DType t,
               double initial = 0);
/// An output of a layer that computes in bf16 or f16, for what is computed in the module's float.
Value wide(Elaborator &e, const Value &v);
/// Whether a path has the ending of another framework's file of weights.
bool isForeignWeights(const std::string &path);
/// Warnings about data files that lie there now: columns they lack, rows of another form.
void lintData(Elaborator &e, const Elaborator::TrainPlan &plan);
/// init, train_step, eval_step, predict, metrics_result: the order in which they are read.
void orderFunctions(ir::Module &m);
/// A new frame of the step's own.
Frame stepFrame(Elaborator &e, Span span, bool training);

struct Elaborator::TrainPlan {
  const Train *train = nullptr;
  std::string prefix;        // of its functions, "clf."; empty for a file's only block
  std::string metricsPrefix; // of its running values, "metrics/clf/"
  std::string name;          // "clf"
  std::vector<Instance *> freeze;
  Frame *frame = nullptr; // of the block's expressions
  Instance *model = nullptr;
  std::map<std::string, Value, std::less<>> keys;
  std::map<std::string, Span, std::less<>> spans;
  std::shared_ptr<DataObj> data, validation, test;
  double validationSplit = 0;
  int64_t batchSize = 32, epochs = 1, seed = 0;
  bool shuffle = true;
  Value stepsPerEpoch = Value::none();
  std::string weightsFile;
  std::vector<DataObj> callbacks;
  std::vector<DataInput> inputs, targets; // targets go with `outputs` that have a loss or a metric
  std::vector<Output> outputs;
  std::vector<ir::ValueId> values; // of the outputs, in the pass `summary`
  std::vector<int> targetOf; // by output: index into targets, or -1
  std::vector<MetricUse> metrics;
  bool sampleWeight = false;
  Instance *optimizer = nullptr;
  std::vector<Weight *> rates; // the learning rates that callbacks may set
  Weight *lossTotal = nullptr, *count = nullptr;
  std::vector<Report> reports; // of a written-out step
  std::vector<std::pair<std::string, Value>> reported; // in the pass being built
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
