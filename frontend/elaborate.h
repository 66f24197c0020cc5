// Elaboration: from the syntax tree of a file to a verified module of the tensor IR.
//
//   Sources sources;  Diagnostics diags(sources);
//   auto module = elaborate(sources, *sources.load("model.nn"), diags, {});
//   if (!module) std::cerr << diags.render();
//
// One evaluator runs the text at compile time: names, numbers, lists and functions disappear, what
// is left are tensor operations. Running *is* the shape check. A file with a `train` block gives
// init, train_step, eval_step, predict and metrics_result; a file with a model alone gives init and
// predict. Everything else that a binary needs is the module's metadata (docs/internals.md).
#pragma once
#include "frontend/diagnostics.h"
#include "frontend/source.h"
#include "ir/module.h"
#include <memory>
#include <string>

namespace nnc::fe {

/// Is told what the places of the user's files had for values, in words; for editors. A place that
/// is evaluated several times is told several times.
class Recorder {
 public:
  enum class What : uint8_t {
    Value, // of an expression
    Stage, // what leaves a stage of a pipeline
    Name,  // what a name is bound to
  };
  virtual ~Recorder() = default;
  /// Whether more is wanted of this place.
  virtual bool wants(Span span, What what) = 0;
  virtual void value(Span span, What what, const std::string &shown) = 0;
};

struct ElaborateOptions {
  std::string train;         // the name of the train block's model; empty: the first block
  int64_t maxSteps = 1'000'000; // statements, expressions in loops, and nodes
  std::string model;         // this model alone, whatever is trained
  bool everyModel = false;   // look for mistakes also in models that nothing trains or applies
  bool declarationsOnly = false; // a file of declarations is fine: it is there to be imported
  // The messages are all that is wanted: what cannot bring new ones is left out of the module.
  bool messagesOnly = false;
  Recorder *recorder = nullptr;
};

/// Null after errors; else the module passes ir::verify. Parses the file and what it imports.
std::unique_ptr<ir::Module> elaborate(Sources &sources, uint32_t file, Diagnostics &diags,
                                      const ElaborateOptions &options = {});

} // namespace nnc::fe
