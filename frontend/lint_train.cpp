// Lints about a `train` block: what the model gives against what the loss takes.
//
//   model M(…) -> [batch, 10] { … |> Dense(10, activation = softmax) }
//   train M { loss = SparseCategoricalCrossentropy(from_logits = true) … }
//                                                  NN1210: expects logits, gets probabilities
//
// Problem. The numbers of such a program are wrong though all shapes are right, and it still
// trains, badly.
//
// Method. The facts about the model's output (lint.h) against the hyper-parameters of the loss and
// of the metrics. Losses of one's own take part as far as they have a `from_logits`.
#include "frontend/elab_train.h"
#include "frontend/foreign.h"
#include "frontend/lint.h"
#include <algorithm>

namespace nnc::fe {

namespace {

bool oneOf(std::string_view name, std::initializer_list<std::string_view> set) {
  return std::find(set.begin(), set.end(), name) != set.end();
}

/// A loss or metric: its declaration and hyper-parameters.
struct Callee {
  std::string name;
  bool isLibrary = false;
  const Decl *decl = nullptr;
  const Values *statics = nullptr;

  explicit Callee(const Value &v) {
    if (v.kind == Kind::Instance) {
      decl = v.instance->decl;
      statics = &v.instance->statics;
      isLibrary = v.instance->file && v.instance->file->isLibrary;
    } else if (v.kind == Kind::Function && v.function().kind == FunctionKind::Decl) {
      decl = v.function().decl;
      statics = &v.function().statics;
      isLibrary = v.function().file->isLibrary;
    }
    if (decl) name = std::string(decl->name.text);
  }
  const Value *get(std::string_view param) const {
    return decl ? staticOf(*decl, *statics, param) : nullptr;
  }
  bool is(std::initializer_list<std::string_view> names) const {
    return isLibrary && oneOf(name, names);
  }
};

class TrainLints {
 public:
  TrainLints(Elaborator &e, const Elaborator::TrainPlan &plan)
      : e_(e), plan_(plan), facts_(*plan.summary) {}

  void run() {
    for (size_t i = 0; i < plan_.outputs.size() && i < plan_.values.size(); ++i) output(i);
    validation();
    learningRate();
    if (plan_.train->step) penalties(), idle();
    for (const MetricUse &m : plan_.metrics) keeps(*m.metric);
    for (const auto &data : {plan_.data, plan_.validation, plan_.test})
      for (const auto *inputs : {&plan_.inputs, &plan_.targets}) {
        columns(data, *inputs);
        pictures(data, *inputs);
      }
  }

 private:
  Elaborator &e_;
  const Elaborator::TrainPlan &plan_;
  Facts facts_;

  Diagnostic &report(Span span, Diag kind, const std::vector<std::string> &args) {
    return e_.diags.report(span, kind, args);
  }

  void output(size_t i) {
    const Output &o = plan_.outputs[i];
    ir::ValueId y = plan_.values[i];
    Callee loss(o.loss);
    Span at = plan_.span("loss");
    const Value *flag = loss.get("from_logits");
    bool hasFlag = flag && flag->kind == Kind::Bool;
    bool logits = hasFlag && flag->b;
    bool categorical = loss.is({"SparseCategoricalCrossentropy", "CategoricalCrossentropy",
                                "CategoricalFocalCrossentropy", "KLDivergence"});
    bool binary = loss.is({"BinaryCrossentropy", "BinaryFocalCrossentropy"});
    bool regression = loss.is({"MeanSquaredError", "MeanAbsoluteError", "Huber", "LogCosh"});
    const Maker *softmax = facts_.madeBy(y, {"softmax"});
    const Maker *sigmoid = facts_.madeBy(y, {"sigmoid", "hard_sigmoid"});
    const Maker *bounded = softmax ? softmax : sigmoid;
    const auto &dims = plan_.summary->b.f.type(y).dims;
    bool single = !dims.empty() && dims.back().isConst() && dims.back().b == 1;

    if (logits && bounded)
      report(at, Diag::LogitsNormalized, {loss.name, Facts::nameOf(*bounded)})
          .label(bounded->span, "made to probabilities here")
          .help("leave out `from_logits = true`, or the activation");
    else if (hasFlag && !logits && (categorical || binary) && facts_.isAffine(y))
      report(at, Diag::LogitsExpected, {loss.name})
          .label(place(y), "any number may come from here")
          .help("write `" + loss.name +
                "(from_logits = true)`, or give the last layer `activation = " +
                (binary ? "sigmoid`" : "softmax`"));
    else if (categorical && single)
      report(at, Diag::SingleClass, {loss.name})
          .label(place(y), "one output")
          .help("yes or no with one output is `BinaryCrossentropy`; classes take one output each");
    else if (softmax && single)
      report(softmax->span, Diag::SoftmaxOfOne, {}).help("`sigmoid` makes one probability");
    else if ((categorical && sigmoid && !softmax) || (binary && softmax))
      report(at, Diag::ActivationLoss,
             {loss.name, categorical ? "softmax" : "sigmoid", Facts::nameOf(*bounded)})
          .label(bounded->span, "the activation");
    if (regression || logits)
      if (const Maker *relu = facts_.madeBy(y, {"relu"}))
        report(relu->span, Diag::CutOutput, {"relu"})
            .help("a last layer that gives any number has no activation");
    for (const Maker *m : facts_.makers(y))
      if (m->isLibrary && m->instance && staticOf(*m->instance, "rate") && m->input == m->value)
        report(m->span, Diag::DropoutLast, {Facts::nameOf(*m)});
    for (const MetricUse &m : plan_.metrics)
      if (m.output == i) metric(m, logits, regression);
  }

  /// The user's line that made a value.
  Span place(ir::ValueId v) const {
    const auto &places = plan_.summary->places;
    return size_t(v.i) < places.size() ? places[v.i] : Span{};
  }

  void metric(const MetricUse &use, bool logits, bool regression) {
    Callee m(Value::of(use.metric));
    Span at = plan_.span("metrics");
    if (regression && m.is({"Accuracy"}))
      report(at, Diag::AccuracyOfRegression, {m.name})
          .help("`MeanAbsoluteError()` and `R2Score()` say how close predictions are");
    if (!logits) return;
    for (const char *param : {"threshold", "thresholds"})
      if (const Value *t = m.get(param); m.isLibrary && t && t->isNumber() && t->number() == 0.5)
        report(at, Diag::MetricOfLogits, {m.name})
            .help("`" + m.name + "(" + param + " = 0.0)` is the same for logits");
  }

  // --- keys --------------------------------------------------------------------------------------

  void validation() {
    bool has = plan_.validation || plan_.validationSplit > 0;
    if (plan_.validation && plan_.validationSplit > 0)
      report(plan_.span("validation"), Diag::TwoValidations, {})
          .label(plan_.span("validation_data"), "this is what validation uses");
    std::vector<std::string> names;
    if (!plan_.train->step) names.push_back("loss");
    for (const Report &r : plan_.reports) names.push_back(r.name);
    for (const Output &o : plan_.outputs)
      if (o.total) names.push_back(o.name + "_loss");
    for (const MetricUse &m : plan_.metrics) names.push_back(m.name);
    for (size_t i = 0, n = names.size(); i < n; ++i) names.push_back("val_" + names[i]);
    for (const DataObj &c : plan_.callbacks) // those that set the rate also log it
      if (c.meta.find("learning_rate") &&
          std::find(names.begin(), names.end(), "learning_rate") == names.end())
        names.push_back("learning_rate");
    for (const DataObj &c : plan_.callbacks) {
      const ir::Meta *monitor = c.meta.find("monitor"), *best = c.meta.find("save_best_only");
      if (monitor && (!best || *best->asBool())) monitored(c, *monitor->asString(), names, has);
    }
  }

  /// Regularizers and `add_loss` of a written-out step, which minimizes what it says and no more.
  void penalties() {
    for (const Maker &m : plan_.summary->makers)
      if (m.builtin >= 0 && Facts::nameOf(m) == "losses") return;
    const Weight *regular = nullptr;
    for (const Weight &w : e_.weights)
      if (w.kind == WeightKind::Param && !w.regularizer.isNone() && !regular) regular = &w;
    const Instance *adds = nullptr;
    for (const auto &[inst, values] : plan_.summary->addedLosses)
      if (!values.empty() && (!adds || inst->path < adds->path)) adds = inst;
    if (!regular && !adds) return;
    auto &d = report(plan_.train->step->span, Diag::PenaltiesLeftOut,
                     {regular ? regular->path : adds->path});
    d.help("`losses(m)` is the sum of the penalties of a model `m`");
  }

  /// A written-out step that updates nothing.
  void idle() {
    bool trains = false;
    for (const Weight &w : e_.weights) trains |= w.kind == WeightKind::Param && w.trainable;
    const ir::Function *step = e_.module->find(plan_.prefix + "train_step");
    if (!trains || !step) return;
    for (const ir::Result &r : step->results)
      for (const Weight &w : e_.weights)
        if (r.bind && w.path == r.name && w.kind == WeightKind::Param) return;
    report(plan_.train->step->span, Diag::StepIdle, {})
        .help("`minimize loss over m with Adam()` trains a model `m`");
  }

  /// A metric with neither a `state` of its own nor another metric in it.
  void keeps(const Instance &metric) {
    if (!metric.decl || e_.isLibrary(metric.decl->name.span) || !metric.weights.empty() ||
        !metric.applies.empty())
      return;
    report(metric.decl->name.span, Diag::MetricForgets, {std::string(metric.decl->name.text)})
        .help("`state` adds up over batches; of a `fn` the mean over the samples is shown");
  }

  /// The columns of a table against the size of what they fill; for other readers the files say.
  void columns(const std::shared_ptr<DataObj> &data, const std::vector<DataInput> &inputs) {
    if (!data || data->reader != "csv") return;
    for (const DataInput &in : inputs)
      for (const DataColumn &c : data->columns) {
        const ir::Meta *list = c.meta.find("columns");
        if (c.name != in.name || !list || e_.isMapped(in.name)) continue;
        int64_t given = list->asList() ? int64_t(list->asList()->size()) : 1;
        const ir::Meta *window = c.meta.find("window");
        if (window) given *= *window->find("size")->asInt();
        double wanted = 1;
        for (ir::Dim d : in.type.dims)
          if (d.isConst()) wanted *= double(d.b);
        if (wanted == double(given)) continue;
        auto count = [](double n) {
          return std::to_string(int64_t(n)) + (n == 1 ? " number" : " numbers");
        };
        auto &d =
            e_.error(c.span, Diag::ColumnCount, {in.name, count(wanted), std::to_string(given)});
        if (in.span.valid()) d.label(in.span, "`" + in.name + "` is " + e_.show(in.type));
        if (window)
          d.help("`windows` makes rows of all columns, `|> map(...)` takes out what is needed");
        else if (wanted == 1 && given > 1 && !ir::isFloat(in.type.dtype))
          d.help("class numbers are one column; one column per class goes with a loss such as "
                 "`CategoricalCrossentropy()`");
        else if (given == 1 && wanted > 1 && ir::isFloat(in.type.dtype) && !in.origins.empty() &&
                 in.span == plan_.span("loss"))
          d.help("the loss compares with one number per output; for class numbers there is "
                 "`SparseCategoricalCrossentropy()`");
      }
  }

  /// The size of a folder's images, which the program says, against what they fill.
  void pictures(const std::shared_ptr<DataObj> &data, const std::vector<DataInput> &inputs) {
    if (!data || data->reader != "folder" || !data->maps.empty()) return;
    for (const DataInput &in : inputs)
      for (const DataColumn &c : data->columns) {
        const ir::Meta *size = c.meta.find("size");
        if (c.name != in.name || !size || e_.isMapped(in.name)) continue;
        std::vector<int64_t> given, wanted;
        for (const ir::Meta &d : *size->asList()) given.push_back(*d.asInt());
        bool known = true;
        for (size_t i = 1; i < in.type.dims.size(); ++i) {
          known = known && in.type.dims[i].isConst();
          wanted.push_back(in.type.dims[i].b);
        }
        if (!known || essentialSizes(given) == essentialSizes(wanted)) continue;
        auto &d = e_.error(in.span.valid() ? in.span : c.span, Diag::DataRow,
                           {in.name, e_.show(in.type), "folder", sizes(given)});
        d.label(data->span, "the size of its images stands here");
        if (given.size() == wanted.size() && given.back() == wanted.back())
          d.help("write `size = " + sizes({wanted[0], wanted[1]}) + "`");
      }
  }
  /// Without those of 1, which come and go to fit.
  static std::vector<int64_t> essentialSizes(std::vector<int64_t> sizes) {
    std::erase(sizes, 1);
    return sizes;
  }
  static std::string sizes(const std::vector<int64_t> &sizes) {
    std::string s;
    for (int64_t n : sizes) s += (s.empty() ? "[" : ", ") + std::to_string(n);
    return s + "]";
  }

  void monitored(const DataObj &callback, const std::string &name,
                 const std::vector<std::string> &names, bool validated) {
    auto written = callback.spans.find("monitor");
    Span at = written != callback.spans.end() && written->second.valid() ? written->second
                                                                         : callback.span;
    bool known = std::find(names.begin(), names.end(), name) != names.end();
    if (!known) {
      auto &d = e_.error(at, Diag::UnknownMonitor, {name});
      std::string near = suggest(name, names), list;
      const bool isAccuracy = name.ends_with("acc") || name.ends_with("accuracy");
      for (const std::string &n : names) // theirs is `accuracy`, whatever the metric
        if ((near.empty() || !near.ends_with("accuracy")) && n.ends_with("accuracy") &&
            isAccuracy && n.starts_with("val_") == name.starts_with("val_"))
          near = n;
      for (const std::string &n : names) list += (list.empty() ? "`" : ", `") + n + "`";
      if (!near.empty()) d.help("did you mean `" + near + "`?");
      if (names.empty())
        d.help("`report " + (name.starts_with("val_") ? name.substr(4) : name) +
               " = ...` in the step measures it");
      else
        d.note("measured are " + list);
    } else if (name.starts_with("val_") && !validated) {
      report(at, Diag::MonitorNoValidation, {name})
          .help("`validation = split(0.1)` keeps a tenth of the data for it");
    }
  }

  void learningRate() {
    const Instance *opt = plan_.optimizer;
    const Value *rate = opt ? staticOf(*opt, "learning_rate") : nullptr;
    if (!rate || !rate->isNumber()) return;
    double usual = 0; // the optimizer's own default
    for (const Param &p : opt->decl->params[0]->params)
      if (p.name.text == "learning_rate" && p.initial && p.initial->kind == ExprKind::Float)
        usual = as<FloatExpr>(*p.initial).value;
    double r = rate->number();
    bool far = r <= 0 || r > 1 || (usual > 0 && r >= 200 * usual && r < 1);
    if (!far) return;
    auto &d = report(plan_.span("optimizer"), Diag::LearningRate, {e_.show(*rate)});
    if (usual > 0)
      d.note("`" + std::string(opt->decl->name.text) + "` takes " + e_.show(Value::of(usual)) +
             " if nothing is given");
  }
};

} // namespace

void Elaborator::lintTraining(const TrainPlan &plan) {
  if (!plan.summary || diags.hasErrors()) return;
  TrainLints(*this, plan).run();
  if (!diags.hasErrors()) lintData(*this, plan);
}

} // namespace nnc::fe
