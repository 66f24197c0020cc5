// Entry and driver of the elaboration, its messages and its limits.
//
// Problem. A mistake shows where the library's text breaks, but the user wrote another line:
//
//   x |> Dense(10)            <- the line to show
//   z = x @ kernel            <- in layers_core.nn, where the sizes disagree
//
// Method. `error` walks the frames out of the library to the first call in a user's file, reports
// there, and tells the way down as notes. What was reported becomes poison, so each mistake shows
// once. Steps, nesting and stack are limited: any text ends in a module or a message.
#include "frontend/elab_train.h"
#include "frontend/parse.h"
#include "ir/verify.h"
#include <algorithm>

namespace nnc::fe {

Elaborator::Elaborator(Sources &s, Diagnostics &d, const ElaborateOptions &o)
    : sources(s), diags(d), options(o) {}

// A name bound to a lambda of its own scope makes a circle of owners.
Elaborator::~Elaborator() {
  for (const std::weak_ptr<Scope> &c : captured)
    if (std::shared_ptr<Scope> scope = c.lock()) scope->names.clear();
}

/// Whether `trial` says anything that `diags` does not.
static bool saysMore(const Diagnostics &trial, const Diagnostics &diags) {
  auto known = diags.sorted();
  for (const Diagnostic *d : trial.sorted())
    if (std::none_of(known.begin(), known.end(),
                     [&](const Diagnostic *k) { return k->kind == d->kind && k->span == d->span; }))
      return true;
  return false;
}

namespace {
/// The models of a file one after the other, as if each were alone. Those without mistakes share an
/// elaborator, which parses the file once; behind a mistake there is a new one.
class EachAlone {
 public:
  EachAlone(Sources &sources, uint32_t file, Diagnostics &diags, const ElaborateOptions &options)
      : sources_(sources), file_(file), diags_(diags), options_(options) {
    options_.declarationsOnly = options_.messagesOnly = true;
  }

  /// The messages about one model. A model whose inputs leave sizes open is a part of others.
  void look(const std::string &model) {
    options_.model = model;
    if (!shared_) {
      trial_ = std::make_unique<Diagnostics>(sources_);
      shared_ = std::make_unique<Elaborator>(sources_, *trial_, options_);
      shared_->module = shared_->run(file_);
    } else {
      shared_->elaborateModelOnly();
      shared_->lintInstances();
    }
    if (shared_->module && !trial_->hasErrors() && !saysMore(*trial_, diags_)) return;
    shared_.reset();
    Diagnostics trial(sources_);
    Elaborator(sources_, trial, options_).run(file_);
    for (const Diagnostic *d : trial.sorted())
      if (d->kind == Diag::OpenInput || d->kind == Diag::NotYet) return;
    if (saysMore(trial, diags_)) Elaborator(sources_, diags_, options_).run(file_);
  }

 private:
  Sources &sources_;
  uint32_t file_;
  Diagnostics &diags_;
  ElaborateOptions options_;
  std::unique_ptr<Diagnostics> trial_; // outlives what reports to it
  std::unique_ptr<Elaborator> shared_;
};
} // namespace

std::unique_ptr<ir::Module> elaborate(Sources &sources, uint32_t file, Diagnostics &diags,
                                      const ElaborateOptions &options) {
  auto owner = std::make_unique<Elaborator>(sources, diags, options);
  Elaborator &e = *owner;
  if (options.messagesOnly) { // the process ends with the messages: freeing takes a tenth of it
    static auto &kept = *new std::vector<std::unique_ptr<Elaborator>>;
    kept.push_back(std::move(owner));
  }
  auto module = e.run(file);
  bool more = (options.everyModel || diags.hasErrors()) && options.model.empty() && !e.aborted;
  if (!more || !e.user) return module;
  // A mistake in one place keeps no other from being seen.
  EachAlone alone(sources, file, diags, options);
  for (const Top *top : e.user->tree->tops) {
    if (top->kind != TopKind::Decl || top->broken || diags.full()) continue;
    const auto &d = as<Decl>(*top);
    bool reached = d.declKind != DeclKind::Model ||
                   std::any_of(e.everApplied.begin(), e.everApplied.end(),
                               [&](const Instance *i) { return i->decl == &d; });
    if (!reached) alone.look(std::string(d.name.text));
  }
  return diags.hasErrors() ? nullptr : std::move(module);
}

// --- messages ------------------------------------------------------------------------------------

Span Elaborator::userPlace() const {
  Span place = at;
  for (const Frame *f = frame; f && isLibrary(place); f = f->parent) place = f->callSpan;
  return place;
}

Diagnostic &Elaborator::error(Span span, Diag kind, const std::vector<std::string> &args) {
  // An unrolled loop repeats its error in every round: enough is known, and `suggest` takes time.
  if (++reports > 500) aborted = true;
  if (!isLibrary(span)) {
    Diagnostic &d = diags.report(span, kind, args);
    // A layer or function of one's own: which use of it goes wrong.
    const Frame *f = frame;
    auto within = [&](const Span &call) {
      return call.file == span.file && call.begin <= span.begin && span.end <= call.end;
    };
    while (f && within(f->callSpan)) f = f->parent;
    bool nested = f && f->parent && f->parent->parent && f->callSpan.valid();
    if (nested && !isLibrary(f->callSpan))
      d.label(f->callSpan, "in `" + f->name + "`, called from here");
    return d;
  }
  std::vector<std::string> way;
  auto excerpt = [&](Span s) {
    std::string t = text(s);
    size_t line = t.find('\n');
    if (line != std::string::npos) t = t.substr(0, line) + " ...";
    return t.size() > 60 ? t.substr(0, 57) + "..." : t;
  };
  Span place = span;
  const Frame *f = frame;
  // Arguments stand in the caller's text, though the callee's frame is already there.
  auto isArgument = [&](const Span &call) {
    return call.file == place.file && call.begin <= place.begin && place.end <= call.end;
  };
  while (f && f->parent && isArgument(f->callSpan)) f = f->parent;
  for (; f; f = f->parent) {
    if (!isLibrary(place)) break;
    if (way.size() < 8)
      way.push_back("in `" + f->name + "`, " + sources.describe(place) + ": `" + excerpt(place) +
                    "`");
    place = f->callSpan;
  }
  if (isLibrary(place) || !place.valid()) place = span;
  // A call into the library is one mistake: what else goes wrong down there follows from it.
  if (info(kind).severity == Severity::Error && diags.hasErrorAt(place)) return diags.drop();
  Diagnostic &d = diags.report(place, kind, args);
  for (auto it = way.rbegin(); it != way.rend(); ++it) d.note(*it);
  return d;
}

bool Elaborator::stackLow() {
  char here;
  ptrdiff_t used = stackBase - &here;
  return used > (6 << 20) || used < -(6 << 20);
}

bool Elaborator::step(Span span) {
  if (aborted) return false;
  if (++steps > options.maxSteps) {
    aborted = true;
    error(span, Diag::TooManySteps, {std::to_string(options.maxSteps)});
    return false;
  }
  if (stackLow()) {
    aborted = true;
    error(span, Diag::TooDeep);
    return false;
  }
  return true;
}

// --- driver --------------------------------------------------------------------------------------

std::unique_ptr<ir::Module> Elaborator::run(uint32_t file) {
  char base;
  stackBase = &base;
  module = std::make_unique<ir::Module>();
  indexLibrary();
  user = addFile(file, false); // what is broken in its tree is poison from here on

  fileOwner.kindName = "file";
  stepOwner.kindName = "step";
  fileOwner.named = stepOwner.named = true;
  initPass = &openPass("init", 0, false);
  initPass->isInit = true;
  pass = nullptr;

  const Train *train = nullptr;
  for (const Top *top : user->tree->tops) {
    if (top->kind == TopKind::Bind) {
      const BindStmt &bind = *as<TopBind>(*top).bind;
      for (const Name &name : bind.names) {
        auto it = user->names.find(name.text);
        if (it != user->names.end() && it->second.bind == top)
          fileValue(*user, it->second, name.text);
      }
    } else if (top->kind == TopKind::Train) {
      train = &as<Train>(*top);
    }
  }
  if (train && options.model.empty()) {
    std::vector<std::string> names;
    auto blocks = chosenBlocks(names);
    bool whole =
        std::none_of(blocks.begin(), blocks.end(), [](const Train *t) { return t->broken; });
    for (size_t i = 0; whole && i < blocks.size(); ++i) elaborateTrain(*blocks[i], names[i]);
    if (!whole) elaborateModelOnly();
    orderFunctions(*module);
  } else {
    elaborateModelOnly();
  }
  if (!syntaxErrors && !aborted) {
    lintFile(*user);
    lintInstances();
  }
  pass = initPass;
  closePass();
  if (ir::Meta initial = initialMeta(); !initial.asList()->empty())
    module->meta["initial"] = std::move(initial);
  if (diags.hasErrors() || aborted) return nullptr;
  if (options.messagesOnly) return std::move(module);
  std::string broken = ir::verify(*module);
  NNC_CHECK(broken.empty(), "elaboration made a broken module: " + broken);
  return std::move(module);
}

Pass &Elaborator::openPass(const std::string &name, int64_t batch, bool training) {
  Pass &p = passes.emplace_back(*module, module->add(name, batch));
  p.training = training;
  p.root = &p;
  pass = &p;
  return p;
}

/// What was written leaves the function; in `init` everything that has a value.
void Elaborator::closePass() {
  for (Weight *w : pass->written)
    pass->b.result(w->path, keptRows(*w, pass->current.at(w)), true);
}

} // namespace nnc::fe
