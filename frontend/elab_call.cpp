// Calls (R4): binding arguments, running functions, partial application.
//
// Problem. One syntax does four things: `Dense(300)` makes an instance, `relu(x)` runs a function,
// `leaky_relu(negative_slope = 0.1)` waits for its tensor, `Zeros()` binds the first of two lists.
//
// Method. A parameter is static or a tensor by its type alone. Arguments bind to parameters in one
// place (bindArgs) for declarations, lambdas and builtins. A function is inlined: a frame with its
// own scope, in which the body is evaluated; its call expression joins the path of instances.
#include "frontend/elab.h"
#include "frontend/foreign.h"
#include <algorithm>

namespace nnc::fe {

std::string Elaborator::calleeName(const Value &f) const {
  if (f.kind == Kind::Instance)
    return f.instance->decl ? std::string(f.instance->decl->name.text) : f.instance->kindName;
  if (f.kind != Kind::Function) return describe(f.kind);
  const FunctionObj &obj = f.function();
  switch (obj.kind) {
  case FunctionKind::Decl: return std::string(obj.decl->name.text);
  case FunctionKind::Lambda: return "fn";
  case FunctionKind::Builtin: return builtins()[obj.builtin].name;
  case FunctionKind::Rate: return "learning_rate";
  }
  return {};
}

// --- parameters ----------------------------------------------------------------------------------

const std::vector<ParamInfo> &Elaborator::cachedParams(const ParamList &list, FileScope &scope) {
  auto [it, isNew] = paramCache.try_emplace(&list);
  if (!isNew) return it->second;
  std::vector<ParamInfo> infos;
  for (const Param &p : list.params) {
    ParamInfo info;
    info.name = std::string(p.name.text);
    info.isStatic = isStaticType(p.type, scope);
    info.required = !p.initial;
    info.type = p.type;
    info.initial = p.initial;
    infos.push_back(std::move(info));
  }
  return paramCache[&list] = std::move(infos);
}

/// The parameters of a builtin: "x, axis: axes = none, ..xs".
static std::vector<ParamInfo> parseParams(std::string_view text) {
  std::vector<ParamInfo> out;
  auto trim = [](std::string_view s) {
    while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
    while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
    return s;
  };
  while (!text.empty()) {
    size_t comma = text.find(',');
    std::string_view item = trim(text.substr(0, comma));
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    ParamInfo p;
    if (item.starts_with("..")) {
      p.rest = true;
      p.required = false;
      item.remove_prefix(2);
    }
    if (size_t eq = item.find('='); eq != std::string_view::npos) {
      std::string initial(trim(item.substr(eq + 1)));
      p.required = false;
      if (initial == "none")
        p.fallback = Value::none();
      else if (initial == "true" || initial == "false")
        p.fallback = Value::of(initial == "true");
      else if (initial[0] == '"')
        p.fallback = Value::of(initial.substr(1, initial.size() - 2));
      else if (initial.find('.') != std::string::npos)
        p.fallback = Value::of(std::stod(initial));
      else
        p.fallback = Value::of(int64_t(std::stoll(initial)));
      item = trim(item.substr(0, eq));
    }
    if (size_t colon = item.find(':'); colon != std::string_view::npos) {
      p.isStatic = true;
      p.kind = std::string(trim(item.substr(colon + 1)));
      item = trim(item.substr(0, colon));
    }
    p.name = std::string(item);
    out.push_back(std::move(p));
  }
  return out;
}

static const std::vector<ParamInfo> &builtinParams(int i) {
  static std::vector<std::vector<ParamInfo>> cache(builtins().size());
  if (cache[i].empty()) cache[i] = parseParams(builtins()[i].params);
  return cache[i];
}

bool Elaborator::isOneList(const Value &f) {
  if (f.kind != Kind::Function) return false;
  const FunctionObj &obj = f.function();
  return obj.kind != FunctionKind::Decl ||
         (obj.decl->declKind == DeclKind::Fn && obj.decl->params.size() == 1);
}

bool Elaborator::hasTensorParam(const Value &f) {
  const FunctionObj &obj = f.function();
  if (obj.kind == FunctionKind::Lambda) return !obj.lambda->params->params.empty();
  const auto &params = obj.kind == FunctionKind::Builtin ? builtinParams(obj.builtin)
                       : obj.kind == FunctionKind::Decl
                           ? cachedParams(*obj.decl->params[0], *obj.file)
                           : builtinParams(0);
  return std::any_of(params.begin(), params.end(),
                     [](const ParamInfo &p) { return !p.isStatic || p.rest; });
}

bool Elaborator::lacksTensors(const std::vector<ParamInfo> &params, const GivenArgs &args) {
  size_t positional =
      std::count_if(args.begin(), args.end(), [](const GivenArg &a) { return a.name.empty(); });
  bool wants = false;
  for (size_t i = 0; i < params.size(); ++i) {
    if (params[i].isStatic || !params[i].required) continue;
    wants = true;
    if (i < positional) return false;
    for (const GivenArg &a : args)
      if (a.name == params[i].name) return false;
  }
  return wants;
}

// --- arguments -----------------------------------------------------------------------------------

GivenArgs Elaborator::evalArgs(const std::vector<Arg> &args) {
  GivenArgs out;
  for (const Arg &a : args) {
    GivenArg g;
    g.value = eval(*a.value);
    g.span = a.value->span;
    g.expr = a.value;
    if (a.name) {
      g.name = a.name->text;
      g.nameSpan = a.name->span;
    }
    if (!a.spread) {
      out.push_back(std::move(g));
      continue;
    }
    Values items;
    if (!iterate(g.value, a.span, items)) items.assign(1, Value{});
    for (size_t i = 0; i < items.size(); ++i) {
      GivenArg item = g;
      item.expr = nullptr;
      item.value = items[i];
      if (g.value.kind == Kind::Tuple && !g.value.tuple().names.empty())
        item.name = g.value.tuple().names[i];
      out.push_back(std::move(item));
    }
  }
  return out;
}

static std::string countOf(size_t n, const char *what) {
  return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

/// A hyper-parameter where the tensors stand, or the other way round.
static void wrongList(Elaborator &e, const GivenArg &a, const std::string &callee, bool inStatics,
                      const ParamList &other) {
  const std::string name(a.name), first(other.params[0].name.text);
  const std::string tensors = first == name ? name : first + ", " + name + " = ...";
  e.error(a.nameSpan, Diag::WrongList, {name, inStatics ? "second" : "first", callee})
      .help(inStatics
                ? "tensors are given where it is applied: `" + callee + "(...)(" + tensors + ")`"
                : "hyper-parameters stand in the first list: `" + callee + "(..., " + name +
                      " = ...)(x)`");
}

BoundArgs Elaborator::bindArgs(const std::vector<ParamInfo> &params, GivenArgs &args, Span span,
                               const std::string &callee, const ParamList *otherList, FileScope *) {
  BoundArgs out;
  out.values.resize(params.size());
  out.given.assign(params.size(), false);
  out.from.assign(params.size(), nullptr);
  std::vector<std::string> names;
  for (const ParamInfo &p : params) names.push_back(p.name);
  size_t next = 0, positional = 0;
  bool named = false;
  for (GivenArg &a : args) {
    size_t at = 0;
    if (a.name.empty()) {
      ++positional;
      if (named) {
        error(a.span, Diag::PositionalLast);
        return out.ok = false, out;
      }
      if (next < params.size() && params[next].rest) {
        out.rest.push_back(a.value);
        continue;
      }
      if (next >= params.size()) {
        size_t found = std::count_if(args.begin(), args.end(),
                                     [](const GivenArg &g) { return g.name.empty(); });
        auto &e = error(a.span, Diag::TooManyArguments,
                        {callee, countOf(params.size(), "argument"), std::to_string(found)});
        bool isStatic = params.empty() || params[0].isStatic;
        bool takesList = params.size() == 1 &&
                         (!isStatic || (params[0].type && params[0].type->kind == TypeKind::List));
        if (takesList && found > 1)
          e.help("several values are one list: `" + callee +
                 (isStatic ? "([a, b])`" : "(...)([a, b])`"));
        else if (otherList && isStatic &&
                 std::any_of(args.begin(), args.end(),
                             [](const GivenArg &g) { return g.value.isTensor(); }))
          e.help("hyper-parameters come first and tensors second: `" + callee + "(...)(x)`");
        else if (a.value.isTensor() && otherList && isStatic)
          e.help("tensors go into the second list: `" + callee + "(...)(" + text(a.span) + ")`");
        return out.ok = false, out;
      }
      at = next++;
    } else {
      named = true;
      at = std::find(names.begin(), names.end(), a.name) - names.begin();
      if (at == params.size() || params[at].rest) {
        bool other =
            otherList && std::any_of(otherList->params.begin(), otherList->params.end(),
                                     [&](const Param &p) { return p.name.text == a.name; });
        if (other)
          wrongList(*this, a, callee, !params.empty() && params[0].isStatic, *otherList);
        else {
          auto &d = error(a.nameSpan, Diag::UnknownArgument, {callee, std::string(a.name)});
          hint(d, Foreign::Argument, a.name, names);
          bool applies = a.name == "mask" || a.name == "training" || a.name == "weights";
          if (otherList && applies)
            d.help("that is said where the layer is applied: `" + callee + "(...)(x, " +
                   std::string(a.name) + " = ...)`");
        }
        return out.ok = false, out;
      }
    }
    if (out.given[at]) {
      error(a.name.empty() ? a.span : a.nameSpan, Diag::RepeatedArgument, {callee, names[at]});
      return out.ok = false, out;
    }
    out.given[at] = true;
    out.values[at] = a.value;
    out.from[at] = &a;
  }
  for (size_t i = 0; i < params.size(); ++i)
    if (params[i].required && !out.given[i]) {
      auto &d = error(span, Diag::MissingArgument, {callee, names[i]});
      const bool isTensor = !params[i].isStatic && !params[i].rest && otherList && !args.empty();
      if (isTensor)
        d.help("it takes more than one tensor: `" + callee + "(...)(" + names[0] + ", " + names[i] +
               ")`, which may be the same: `" + callee + "(...)(x, x)`");
      else if (params[i].type && params[i].type->kind == TypeKind::List)
        d.help("it is a list: `" + callee + "([a, b])`");
      return out.ok = false, out;
    }
  return out;
}

// --- the call ------------------------------------------------------------------------------------

Value Elaborator::evalCall(const CallExpr &expr, const Value *piped, Span pipedSpan) {
  Value callee = eval(*expr.callee);
  GivenArgs args = evalArgs(expr.args);
  if (callee.isPoison()) return {};
  for (const GivenArg &a : args)
    if (a.value.isPoison()) return {};
  if (piped && piped->isPoison()) {
    // What flows in is unknown; the hyper-parameters can still be checked.
    bool binds = callee.kind == Kind::Function && !isOneList(callee) && !callee.function().bound;
    if (binds) call(callee, std::move(args), expr.span, &expr);
    return {};
  }
  if (!piped) return call(callee, std::move(args), expr.span, &expr);
  GivenArg first;
  first.value = *piped;
  first.span = pipedSpan;
  bool inserts = callee.kind == Kind::Instance || (isOneList(callee) && hasTensorParam(callee));
  if (inserts) {
    args.insert(args.begin(), first);
    return call(callee, std::move(args), expr.span, &expr);
  }
  Value f = call(callee, std::move(args), expr.span, &expr);
  if (f.isPoison()) return f;
  return call(f, GivenArgs{first}, expr.span, &expr);
}

/// A call with columns of data as a tensor is made in the step, when they are one: what it gives
/// now are columns that remember it.
bool Elaborator::appliesToColumns(const Value &callee, const GivenArgs &args, Span span,
                                  const void *key, Value &out) {
  size_t hole = args.size();
  for (size_t i = 0; i < args.size(); ++i)
    if (args[i].value.kind == Kind::Data && args[i].value.data().isColumns()) hole = i;
  if (hole == args.size()) return false;
  bool reader = callee.kind == Kind::Function && callee.function().kind == FunctionKind::Builtin &&
                std::string_view(builtins()[callee.function().builtin].params) == "*";
  if (reader) return false;
  DataObj data = args[hole].value.data();
  data.span = span;
  data.functions.push_back([this, callee, args, hole, span, key](const Value &v) {
    GivenArgs filled = args;
    filled[hole].value = v;
    return call(callee, std::move(filled), span, key);
  });
  out = Value::of(std::move(data));
  return true;
}

Value Elaborator::call(const Value &callee, GivenArgs args, Span span, const void *key) {
  for (const GivenArg &a : args)
    if (a.value.isPoison()) return {};
  Restore<Span> place(at, span);
  if (Value deferred; appliesToColumns(callee, args, span, key, deferred)) return deferred;
  switch (callee.kind) {
  case Kind::Poison: return {};
  case Kind::Instance: return applyInstance(*callee.instance, std::move(args), span);
  case Kind::Function: {
    const FunctionObj &f = callee.function();
    switch (f.kind) {
    case FunctionKind::Decl: return callDecl(f, callee, args, span, key);
    case FunctionKind::Lambda: return callLambda(f, callee, args, span, key);
    case FunctionKind::Builtin: return callBuiltin(f, callee, args, span);
    case FunctionKind::Rate: return readWeight(*f.rate);
    }
    return {};
  }
  default: {
    auto &d = error(span, Diag::NotCallable, {show(callee)});
    const bool updates = owner()->decl && owner()->decl->declKind == DeclKind::Optimizer;
    if (callee.isNumber() && updates)
      d.help("a parameter `learning_rate: float | fn` can be called, also where a number is given; "
             "others are numbers: without `(...)`");
    return {};
  }
  }
}

Value Elaborator::callWith(const Value &callee, Values values, Span span) {
  GivenArgs args;
  for (Value &v : values) {
    GivenArg a;
    a.value = std::move(v);
    a.span = span;
    args.push_back(std::move(a));
  }
  // What the call makes is found again in the next pass by this key, so it is made of the text.
  const void *what = callee.obj.get();
  if (callee.kind == Kind::Instance) what = callee.instance;
  if (callee.kind == Kind::Function && callee.function().decl) what = callee.function().decl;
  if (callee.kind == Kind::Function && callee.function().lambda) what = callee.function().lambda;
  const uint64_t place = (uint64_t(span.file) << 32 | span.begin) * 0x9e3779b97f4a7c15ull;
  return call(callee, std::move(args), span,
              reinterpret_cast<const void *>(reinterpret_cast<uintptr_t>(what) ^ place));
}

/// Adds the arguments that were given before; those given now win.
static void addPartial(const FunctionObj &f, GivenArgs &args, Span span) {
  for (auto &[name, value] : f.partial) {
    bool again =
        std::any_of(args.begin(), args.end(),
                    [&, n = std::string_view(name)](const GivenArg &a) { return a.name == n; });
    if (again) continue;
    GivenArg a;
    a.name = name;
    a.value = value;
    a.span = a.nameSpan = span;
    args.push_back(a);
  }
}

/// A one-list function with what is given bound, until its tensors come (R4.2).
Value Elaborator::waitFor(const FunctionObj &f, const Value &callee,
                          const std::vector<ParamInfo> &params, const GivenArgs &args) {
  FunctionObj waiting = f;
  waiting.partial.clear();
  std::vector<std::string> names;
  for (const ParamInfo &p : params) names.push_back(p.name);
  size_t next = 0;
  for (const GivenArg &a : args) {
    std::string name =
        a.name.empty() ? names[std::min(next++, names.size() - 1)] : std::string(a.name);
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      hint(error(a.nameSpan, Diag::UnknownArgument, {calleeName(callee), name}), Foreign::Argument,
           name, names);
      return {};
    }
    waiting.partial.emplace_back(std::move(name), a.value);
  }
  return Value::function(std::move(waiting));
}

Value Elaborator::callDecl(const FunctionObj &f, const Value &callee, GivenArgs &args, Span span,
                           const void *key) {
  const Decl &d = *f.decl;
  bool two = d.params.size() == 2;
  if (d.declKind != DeclKind::Fn) {
    if (two || lacksTensors(cachedParams(*d.params[0], *f.file), args) || args.empty())
      return makeInstance(f, args, span, key);
    GivenArgs none;
    Value inst = makeInstance(f, none, span, key);
    return inst.isPoison() ? inst : applyInstance(*inst.instance, std::move(args), span);
  }
  if (two && !f.bound) {
    FunctionObj bound = f;
    bound.bound = true;
    if (!bindStatics(d, *f.file, args, span, key, bound.statics)) return {};
    return Value::function(std::move(bound));
  }
  const ParamList &list = *d.params[two ? 1 : 0];
  addPartial(f, args, span);
  const auto &params = cachedParams(list, *f.file);
  if (!two && lacksTensors(params, args)) return waitFor(f, callee, params, args);
  if (d.gradient && pass) return callCustomGradient(f, args, span, key);
  ir::ValueId input = firstTensor(args);
  Value v = runFn(f, list, *d.body, args, span, key);
  noteMaker(v, &d, -1, nullptr, input);
  return v;
}

// --- frames --------------------------------------------------------------------------------------

bool Elaborator::enter(Frame &f, std::string name, FileScope *file, Span span, const void *key) {
  f.parent = frame;
  f.name = std::move(name);
  f.callSpan = span;
  f.file = file;
  f.scope = std::make_shared<Scope>();
  f.callKey = uint64_t(reinterpret_cast<uintptr_t>(key));
  if (frame) {
    f.owner = frame->owner;
    f.training = frame->training;
    f.frozen = frame->frozen;
    f.untrainable = frame->untrainable;
    f.target = frame->target;
    f.application = frame->application;
    f.policy = frame->policy;
    f.replaced = frame->replaced;
    f.ordinal = frame->ordinal;
    f.level = frame->level;
    f.depth = frame->depth + 1;
  }
  if (!step(span)) return false;
  if (f.depth <= kMaxCallDepth) return true;
  error(span, Diag::CallDepth, {std::to_string(kMaxCallDepth)});
  return false;
}

/// Binds the arguments as names of the frame: statics conform to their types, then the tensors are
/// matched together, since they share dimensions.
bool Elaborator::bindParams(const ParamList &list, GivenArgs &args, Span span,
                            const std::string &callee, const ParamList *otherList) {
  const auto &params = cachedParams(list, *frame->file);
  BoundArgs bound = bindArgs(params, args, span, callee, otherList, frame->file);
  if (!bound.ok) return false;
  std::vector<const TypeExpr *> types;
  Values tensors;
  std::vector<Span> spans;
  std::vector<std::string> what;
  std::vector<size_t> which;
  for (size_t i = 0; i < params.size(); ++i) {
    Span from = bound.from[i] ? bound.from[i]->span : span;
    auto named = [&] { return "`" + params[i].name + "` of `" + callee + "`"; };
    if (params[i].isStatic) {
      Value v = bound.given[i] ? bound.values[i] : eval(*params[i].initial);
      const void *key = bound.given[i] ? static_cast<const void *>(bound.from[i]->expr)
                                       : static_cast<const void *>(params[i].initial);
      if (!bound.given[i]) from = params[i].initial->span;
      Value fits;
      bool matches = !v.isPoison() && matchStatic(v, *params[i].type, from, key, fits);
      v = matches ? fits : conformStatic(v, *params[i].type, from, named(), key);
      if (v.isPoison()) return false;
      if (v.kind == Kind::Int && !v.origin.valid()) v.origin = from;
      record(list.params[i].name.span, Recorder::What::Name, v);
      frame->scope->bind(list.params[i].name.text, std::move(v), list.params[i].name.span);
      continue;
    }
    Value v = bound.given[i] ? bound.values[i] : eval(*params[i].initial);
    if (v.isPoison()) return false;
    types.push_back(params[i].type);
    tensors.push_back(std::move(v));
    spans.push_back(from);
    what.push_back(named());
    which.push_back(i);
  }
  if (!conformTensors(types, tensors, spans, what)) return false;
  for (size_t k = 0; k < which.size(); ++k) {
    const Name &name = list.params[which[k]].name;
    record(name.span, Recorder::What::Name, tensors[k]);
    frame->scope->bind(name.text, tensors[k], name.span);
  }
  return true;
}

bool Elaborator::bindStatics(const Decl &d, FileScope &file, GivenArgs &args, Span span,
                             const void *key, Values &out) {
  Frame f;
  if (!enter(f, std::string(d.name.text), &file, span, key)) return false;
  Restore<Frame *> inside(frame, &f);
  if (!bindParams(*d.params[0], args, span, f.name, d.params[1])) return false;
  for (const Param &p : d.params[0]->params) out.push_back(f.scope->find(p.name.text)->value);
  return true;
}

Value Elaborator::runFn(const FunctionObj &f, const ParamList &list, const Block &body,
                        GivenArgs &args, Span span, const void *key) {
  const Decl &d = *f.decl;
  Frame inner;
  if (!enter(inner, std::string(d.name.text), f.file, span, key)) return {};
  Restore<Frame *> inside(frame, &inner);
  if (f.bound)
    for (size_t i = 0; i < f.statics.size(); ++i) {
      const Name &name = d.params[0]->params[i].name;
      inner.scope->bind(name.text, f.statics[i], name.span);
    }
  const ParamList *other = d.params.size() == 2 ? d.params[0] : nullptr;
  if (!bindParams(list, args, span, inner.name, other)) return {};
  return evalBody(body, d.result, inner.name);
}

Value Elaborator::callLambda(const FunctionObj &f, const Value &callee, GivenArgs &args, Span span,
                             const void *key) {
  addPartial(f, args, span);
  const auto &params = cachedParams(*f.lambda->params, *f.file);
  if (lacksTensors(params, args)) return waitFor(f, callee, params, args);
  Frame inner;
  if (!enter(inner, "fn", f.file, span, key)) return {};
  inner.scope->parent = f.scope;
  inner.scope->parentSeq = f.scopeSeq;
  Restore<Frame *> inside(frame, &inner);
  if (!bindParams(*f.lambda->params, args, span, inner.name, nullptr)) return {};
  return evalBody(*f.lambda->body, nullptr, inner.name);
}

// --- builtins ------------------------------------------------------------------------------------

Value Elaborator::callBuiltin(const FunctionObj &f, const Value &callee, GivenArgs &args,
                              Span span) {
  const BuiltinInfo &info = builtins()[f.builtin];
  const auto &params = builtinParams(f.builtin);
  BuiltinCall c{*this, span, {}, {}, {}, {}, {}, &args};
  if (params.size() == 1 && params[0].name == "*") return info.run(c);
  addPartial(f, args, span);
  if (lacksTensors(params, args)) return waitFor(f, callee, params, args);
  BoundArgs bound = bindArgs(params, args, span, info.name, nullptr, nullptr);
  if (!bound.ok) return {};
  for (size_t i = 0; i < params.size(); ++i) {
    const ParamInfo &p = params[i];
    Value v = bound.given[i] ? inBody(bound.values[i]) : p.fallback;
    Span from = bound.from[i] ? bound.from[i]->span : span;
    auto wrong = [&](const char *wanted) {
      return fail(from, Diag::ArgumentType,
                  {"`" + p.name + "` of `" + info.name + "`", wanted, show(v)});
    };
    if (bound.given[i]) {
      if (p.kind == "bool" && v.kind != Kind::Bool) return wrong("a bool");
      if (p.kind == "string" && v.kind != Kind::String) return wrong("a string");
      if (p.kind == "fn") v = toCallable(v, from, bound.from[i]->expr);
      bool whole = v.kind == Kind::Float && v.d == double(int64_t(v.d));
      if (p.kind == "int" && whole) v = Value::of(int64_t(v.d), from);
      if (p.kind == "int" && v.kind != Kind::Int) {
        const Expr *e = bound.from[i]->expr;
        if (!(p.name == "axis" && e && e->kind == ExprKind::Name)) return wrong("an int");
      }
      if (v.isPoison()) return {};
    }
    c.args.push_back(std::move(v));
    c.given.push_back(bound.given[i]);
    c.spans.push_back(from);
    c.exprs.push_back(bound.from[i] ? bound.from[i]->expr : nullptr);
  }
  c.rest = std::move(bound.rest);
  ir::ValueId input = firstTensor(args);
  Value v = info.run(c);
  noteMaker(v, nullptr, f.builtin, nullptr, input);
  return v;
}

// --- functions and layers where they are wanted (R4.3) -------------------------------------------

Value Elaborator::toCallable(const Value &v, Span span, const void *key) {
  if (v.kind != Kind::Function) return v;
  const FunctionObj &f = v.function();
  if (f.kind != FunctionKind::Decl || f.bound) return v;
  const auto &params = cachedParams(*f.decl->params[0], *f.file);
  bool complete = std::all_of(params.begin(), params.end(),
                              [](const ParamInfo &p) { return p.isStatic && !p.required; });
  bool isKind = f.decl->declKind != DeclKind::Fn;
  if (f.decl->params.size() == 2 ? complete : isKind || complete) {
    GivenArgs none;
    if (isKind && f.decl->params.size() == 1) return makeInstance(f, none, span, key);
    return call(v, none, span, key);
  }
  return v;
}

} // namespace nnc::fe
