// `scan`: loops over data (R9).
//
// Problem. A recurrence has as many rounds as its sequence has steps; it is one loop, not a copy of
// the body per step:
//
//   h, ys = scan x in xs along 1, h = zeros([batch, 8]) { h = tanh(x @ w + h @ u); yield h }
//
//   ->  %h, %ys = scan @train_step.scan (%zeros; %xs; %w, %u) {1 carry, xs along 1, ys along 1}
//       func @train_step.scan (%h, %x, %w, %u) { ...  return %h.1, %h.1 }
//
// Method. The body is evaluated once, in a pass of its own whose `outer` is the pass the scan
// stands in. What the text there names of the outside gets a parameter when it is first named
// (inBody, bodyWeight); at the end the parameters are put in order: carries, slices, invariants,
// without those that nothing uses. Carried are, besides the names bound by `=`, the states that the
// body stores into and the sum of what it gives to `add_loss`. Frames, instances and their paths
// know nothing of the loop, so a layer applied in it is one layer.
#include "frontend/elab.h"
#include <algorithm>

namespace nnc::fe {

// --- what the body sees of the outside -----------------------------------------------------------

bool Elaborator::isOutside(const Value &v) const {
  if (!v.isTensor() || !pass) return false;
  for (const Pass *p = pass->outer; p; p = p->outer)
    if (p == v.pass) return true;
  return false;
}

static bool isStructure(const Value &v) { return v.kind == Kind::List || v.kind == Kind::Tuple; }
static const Values &itemsOf(const Value &v) {
  return v.kind == Kind::List ? v.list() : v.tuple().items;
}
static Value withItems(const Value &like, Values items) {
  if (like.kind == Kind::List) return Value::list(std::move(items));
  return Value::tuple(std::move(items), like.tuple().names);
}

/// A splat or a size costs nothing: the body makes it anew.
static bool isConstant(const ir::Node *n) {
  if (!n || !n->operands.empty()) return false;
  if (n->op == ir::Op::size_) return true;
  const auto *c = std::get_if<ir::ConstantAttr>(&n->attr);
  return c && c->data.size() == 1;
}

Value Elaborator::inBody(const Value &v) {
  if (!pass || !pass->outer) return v;
  if (isStructure(v)) {
    const Values &items = itemsOf(v);
    for (size_t i = 0; i < items.size(); ++i) {
      Value first = inBody(items[i]);
      if (first.pass == items[i].pass && first.obj == items[i].obj) continue;
      Values all(items.begin(), items.begin() + int64_t(i));
      for (; i < items.size(); ++i) all.push_back(inBody(items[i]));
      return withItems(v, std::move(all));
    }
    return v;
  }
  if (!isOutside(v)) return v;
  Value there = v;
  if (v.pass != pass->outer) {
    Restore<Pass *> around(pass, pass->outer);
    there = inBody(v);
  }
  Value here = v; // what is attached to the value stays
  here.pass = pass;
  auto [it, isNew] = pass->captured.try_emplace(there.id.i);
  if (!isNew) return here.id = it->second, here;
  const ir::Function &f = pass->outer->b.f;
  const ir::Node *made = f.def(there.id);
  if (isConstant(made)) {
    here.id = emit(made->op, {}, made->attr).id;
  } else {
    here.id = wrap(pass->b.param(uniqueName(f.values[there.id.i].name), type(there)).id).id;
    pass->stands.emplace(here.id.i, there.id);
  }
  pass->captured[there.id.i] = here.id;
  setOrigins(here, originsOf(there));
  return here;
}

/// The parameter that stands for the content of w before the round.
static ir::ValueId weightParam(Elaborator &e, Weight &w) {
  Value there;
  {
    Restore<Pass *> around(e.pass, e.pass->outer);
    there = e.storedWeight(w);
  }
  if (there.isPoison()) return {};
  Value here = e.wrap(e.pass->b.param(e.uniqueName(w.name), w.type).id);
  e.setOrigins(here, w.origins);
  e.pass->stands.emplace(here.id.i, there.id);
  e.pass->weightParams.push_back({&w, {there.id, here.id}});
  return here.id;
}

Value Elaborator::bodyWeight(Weight &w) {
  ir::ValueId here = weightParam(*this, w);
  if (!here.valid()) return {};
  pass->current.emplace(&w, here);
  if (w.kind == WeightKind::Param) pass->reads[&w].push_back(here);
  Value v = Value::of(pass, here);
  v.weight = &w;
  return v;
}

void Elaborator::addLoss(const Instance *by, const Value &v) {
  Values &all = pass->addedLosses[by];
  if (all.empty()) pass->lossOwners.push_back(by);
  all.push_back(v);
}

// --- the loop ------------------------------------------------------------------------------------

namespace {

struct Slices {
  const ScanBind *bind;
  Value whole; // of the outer pass
  int axis;
  ir::ValueId param;
};

struct Carry {
  const ScanBind *bind;
  bool isNumber; // starts as a number, whose type is its own
  Value start;   // structure of tensors of the outer pass
  Value param;   // the same of the body's parameters
};

/// A structure with f(leaf) for its leaves, the tensors and what stands for tensors.
Value mapLeaves(Elaborator &e, const Value &v, const std::function<Value(const Value &)> &f) {
  if (v.isPoison() || v.isNone()) return v;
  if (!isStructure(v) || e.isTensorLike(v)) return f(v);
  Values items;
  for (const Value &item : itemsOf(v)) {
    items.push_back(mapLeaves(e, item, f));
    if (items.back().isPoison()) return {};
  }
  return withItems(v, std::move(items));
}

class Loop {
 public:
  Loop(Elaborator &e, const ScanExpr &expr) : e_(e), expr_(expr), outer_(*e.pass) {}
  Value run();

 private:
  bool bind(const ScanBind &b);
  bool slice(const ScanBind &b, const Value &v);
  bool open();
  bool body();
  bool finish();
  bool carried(const Carry &c);
  void explain(Diagnostic &d, const Carry &c, const Value &now);
  bool conform(const Value &start, const Value &now, std::vector<ir::ValueId> &out);
  bool effects();
  bool yielded();
  void arrange();
  Value results(const Values &all);

  Elaborator &e_;
  const ScanExpr &expr_;
  Pass &outer_;
  Pass *pass_ = nullptr; // the body's
  int64_t length_ = -1;
  int before_ = 0;           // errors before the body
  std::optional<int> stack_; // the axis of the first `along` as it was written
  std::vector<Slices> slices_;
  std::vector<Carry> carries_;
  std::shared_ptr<Scope> scope_;
  ScanBody yields_;
  std::vector<Value> stacked_; // structures of tensors of the body
  // In order: operands of the scan, parameters and results of its body.
  std::vector<ir::ValueId> operands_, params_, results_;
  std::vector<Weight *> weights_;
  std::vector<const Instance *> losses_;
  ir::ScanAttr attr_;
};

// --- what it starts with -------------------------------------------------------------------------

bool Loop::slice(const ScanBind &b, const Value &v) {
  auto no = [&](const std::string &found) -> Diagnostic & {
    return e_.error(b.value->span, Diag::ScanOver, {e_.text(b.value->span), found});
  };
  if (!e_.isTensorLike(v)) {
    auto &d = no(e_.show(v));
    if (v.kind == Kind::List && !v.list().empty() && v.list()[0].isTensor())
      d.help("`stack` makes one tensor of a list");
    return false;
  }
  Slices s{&b, e_.tensor(v), 0, {}};
  if (s.whole.isPoison()) return false;
  const int rank = e_.rank(s.whole);
  if (rank == 0) return no(e_.show(v)), false;
  if (b.along) {
    const Binding *name =
        b.along->kind == ExprKind::Name ? e_.findBinding(as<NameExpr>(*b.along).name) : nullptr;
    const bool isDim = name && name->isDim && name->value.kind != Kind::List;
    Value axis = isDim ? Value::of(int64_t(name->axis), b.along->span) : e_.eval(*b.along);
    if (!e_.axisValue(axis, nullptr, rank, b.along->span, s.axis)) return false;
    if (!stack_) stack_ = int(axis.integer());
  }
  const ir::Dim n = e_.type(s.whole).dims[s.axis];
  if (!n.isConst()) {
    auto &d = e_.error(b.value->span, Diag::BatchValue,
                       {"how many slices `" + e_.text(b.value->span) + "` has", e_.show(n)});
    if (!b.along && rank > 1) d.help("`along 1` goes over the next axis");
    return false;
  }
  if (length_ >= 0 && n.b != length_) {
    const Slices &first = slices_.front();
    auto &d = e_.error(b.value->span, Diag::ScanLength,
                       {e_.text(b.value->span), e_.show(n), e_.text(first.bind->value->span),
                        std::to_string(length_)});
    e_.labelSize(d, s.whole, s.axis);
    e_.labelSize(d, first.whole, first.axis);
    return false;
  }
  length_ = n.b;
  slices_.push_back(std::move(s));
  return true;
}

bool Loop::bind(const ScanBind &b) {
  for (const ScanBind &other : expr_.binds) {
    if (&other == &b) break;
    if (other.name.text == b.name.text && b.name.text != "_")
      return e_.fail(b.name.span, Diag::RepeatedArgument, {"scan", std::string(b.name.text)}),
             false;
  }
  Value v = e_.eval(*b.value);
  if (v.isPoison()) return false;
  if (!b.carried) return slice(b, v);
  Carry c{&b, v.isNumber() || v.kind == Kind::Bool, {}, {}};
  Restore<Span> place(e_.at, b.value->span);
  c.start = mapLeaves(e_, v, [&](const Value &leaf) {
    Value t = e_.tensor(leaf);
    if (!t.isPoison()) operands_.push_back(t.id);
    return t;
  });
  if (c.start.isPoison()) return false;
  carries_.push_back(std::move(c));
  return true;
}

// --- the body ------------------------------------------------------------------------------------

bool Loop::open() {
  std::string name = outer_.b.f.name + ".scan", unique = name;
  for (int i = 1; e_.module->find(unique); ++i) unique = name + "." + std::to_string(i);
  pass_ = &e_.openPass(unique, outer_.b.f.batch, outer_.training);
  pass_->outer = &outer_;
  pass_->root = outer_.root;
  pass_->isAdapting = outer_.isAdapting;
  pass_->rounds = outer_.rounds * length_;
  auto param = [&](const Name &of, const ir::Type &t, std::vector<Span> origins) {
    Value v = e_.wrap(pass_->b.param(e_.uniqueName(of.text), t).id);
    e_.setOrigins(v, std::move(origins));
    params_.push_back(v.id);
    return v;
  };
  for (Carry &c : carries_) {
    c.param = mapLeaves(e_, c.start, [&](const Value &leaf) {
      return param(c.bind->name, e_.type(leaf), e_.originsOf(leaf));
    });
    e_.bindName(c.bind->name, c.param);
  }
  for (Slices &s : slices_) {
    ir::Type t = e_.type(s.whole);
    std::vector<Span> origins = e_.originsOf(s.whole);
    t.dims.erase(t.dims.begin() + s.axis);
    origins.erase(origins.begin() + s.axis);
    Value v = param(s.bind->name, t, std::move(origins));
    params_.pop_back(); // after what else is carried
    s.param = v.id;
    pass_->stands.emplace(v.id.i, s.whole.id);
    e_.bindName(s.bind->name, v);
  }
  return true;
}

bool Loop::body() {
  Restore<ScanBody *> inside(e_.frame->scan, &yields_);
  before_ = e_.diags.errorCount();
  for (const Stmt *stmt : expr_.body->stmts) {
    if (!e_.step(stmt->span)) return false;
    e_.evalStmt(*stmt, false);
  }
  return true;
}

// --- what it gives -------------------------------------------------------------------------------

/// The leaves of `now`, of the types of those of `start`; false if it is of another form.
bool Loop::conform(const Value &start, const Value &now, std::vector<ir::ValueId> &out) {
  if (start.isNone()) return now.isNone();
  if (isStructure(start)) {
    if (now.kind != start.kind || itemsOf(now).size() != itemsOf(start).size()) return false;
    if (now.kind == Kind::Tuple && now.tuple().names != start.tuple().names) return false;
    for (size_t i = 0; i < itemsOf(now).size(); ++i)
      if (!conform(itemsOf(start)[i], itemsOf(now)[i], out)) return false;
    return true;
  }
  const ir::Type t = e_.type(start);
  if (!e_.isTensorLike(now)) return false;
  Value v = now;
  if (!now.isTensor()) { // a literal takes the type
    Value own = e_.tensor(now);
    if (own.isPoison() || (ir::isFloat(e_.type(own).dtype) && !ir::isFloat(t.dtype))) return false;
    if (e_.rank(own) != 0 && e_.type(own).dims != t.dims) return false;
    v = e_.broadcastTo(e_.tensor(now, &t.dtype), t.dims);
  }
  v = e_.tensor(v);
  if (v.isPoison() || e_.type(v) != t) return false;
  out.push_back(v.id);
  return true;
}

/// Why a carried value does not fit: where its sizes were fixed, and how it would start right.
void Loop::explain(Diagnostic &d, const Carry &c, const Value &now) {
  if (c.isNumber && now.isTensor() && e_.rank(now) > 0) {
    d.help("`zeros(" + e_.show(e_.type(now).dims) + ")` starts it with that shape");
    return;
  }
  if (isStructure(c.param) && itemsOf(c.param).empty() && isStructure(now))
    d.help("a round does not lengthen a list: `yield` collects a value per round");
  if (!c.param.isTensor() || !now.isTensor()) return;
  const ir::Type start = e_.type(c.param), end = e_.type(now);
  if (start.rank() == end.rank())
    for (int axis = 0; axis < start.rank(); ++axis) {
      if (start.dims[axis] == end.dims[axis]) continue;
      e_.labelSize(d, c.param, axis);
      e_.labelSize(d, now, axis);
    }
  if (start.dims == end.dims)
    d.help("start it as " + std::string(ir::dtypeName(end.dtype)) +
           ", or end the round with `cast(..., " + std::string(ir::dtypeName(start.dtype)) + ")`");
}

bool Loop::carried(const Carry &c) {
  const Binding *b = scope_->find(c.bind->name.text);
  if (c.bind->name.text == "_" || !b) return conform(c.param, c.param, results_);
  const Value now = b->value;
  if (now.isPoison()) return false;
  if (conform(c.param, now, results_)) return true;
  auto &d = e_.error(b->span, Diag::CarryType,
                     {std::string(c.bind->name.text), e_.show(c.start), e_.show(now)});
  d.label(c.bind->span, "starts here");
  explain(d, c, now);
  return false;
}

/// States that the body stores into, and the sums of its `add_loss`, are carried.
bool Loop::effects() {
  weights_ = pass_->written;
  for (Weight *w : weights_) {
    auto known = [&] {
      return std::find_if(pass_->weightParams.begin(), pass_->weightParams.end(),
                          [&](const auto &p) { return p.first == w; });
    };
    if (known() == pass_->weightParams.end() && !weightParam(e_, *w).valid()) return false;
    auto [there, here] = known()->second;
    operands_.push_back(there);
    params_.push_back(here);
    results_.push_back(pass_->current.at(w));
  }
  losses_ = pass_->lossOwners;
  for (const Instance *by : losses_) {
    Value sum = e_.wrap(pass_->b.param(e_.uniqueName("loss"), {e_.floatType, {}}).id);
    params_.push_back(sum.id);
    for (const Value &v : pass_->addedLosses.at(by)) sum = e_.binary(BinaryOp::Add, sum, v);
    if (sum.isPoison()) return false;
    results_.push_back(sum.id);
    Restore<Pass *> around(e_.pass, &outer_);
    operands_.push_back(e_.constant(0, {e_.floatType, {}}).id);
  }
  attr_.carries = int64_t(params_.size());
  return true;
}

bool Loop::yielded() {
  const int wanted = stack_.value_or(0);
  for (size_t i = 0; i < yields_.yields.size(); ++i) {
    Restore<Span> place(e_.at, yields_.spans[i]);
    stacked_.push_back(mapLeaves(e_, yields_.yields[i], [&](const Value &leaf) {
      Value v = e_.tensor(leaf);
      if (v.isPoison()) return v;
      const int axes = e_.rank(v) + 1, axis = wanted < 0 ? wanted + axes : wanted;
      if (axis < 0 || axis >= axes)
        return e_.fail(Diag::YieldAxis, {e_.show(v), std::to_string(wanted)});
      results_.push_back(v.id);
      attr_.yAxes.push_back(axis);
      return v;
    }));
    if (stacked_.back().isPoison()) return false;
  }
  return true;
}

bool Loop::finish() {
  bool ok = true;
  for (const Carry &c : carries_) ok &= carried(c);
  if (!ok || !effects() || !yielded()) return false;
  if (results_.empty()) {
    if (e_.diags.errorCount() == before_)
      e_.error(expr_.span, Diag::ScanNothing)
          .help("`yield e` collects a value per round, `h = ...` carries one to the next");
    return false;
  }
  arrange();
  return true;
}

/// Carries, slices, invariants; of the last two those that are used.
void Loop::arrange() {
  ir::Function &f = pass_->b.f;
  std::vector<bool> isUsed(f.values.size(), false), placed(f.values.size(), false);
  for (const ir::Node &n : f.nodes)
    for (ir::ValueId v : n.operands) isUsed[size_t(v.i)] = true;
  for (ir::ValueId v : results_) isUsed[size_t(v.i)] = true;
  for (ir::ValueId v : params_) placed[size_t(v.i)] = true;
  auto add = [&](ir::ValueId there, ir::ValueId here) {
    operands_.push_back(there);
    params_.push_back(here);
  };
  for (const Slices &s : slices_) {
    placed[size_t(s.param.i)] = true;
    if (!isUsed[size_t(s.param.i)]) continue;
    add(s.whole.id, s.param);
    attr_.xAxes.push_back(s.axis);
  }
  for (const ir::Param &p : f.params)
    if (isUsed[size_t(p.value.i)] && !placed[size_t(p.value.i)])
      add(pass_->stands.at(p.value.i), p.value);
  f.params.clear();
  for (ir::ValueId v : params_) f.params.push_back({v, ""});
  for (ir::ValueId v : results_) f.results.push_back({v, "", false});
}

Value Loop::results(const Values &all) {
  size_t next = 0;
  Values values;
  for (const Carry &c : carries_)
    values.push_back(mapLeaves(e_, c.start, [&](const Value &leaf) {
      e_.setOrigins(all[next], e_.originsOf(leaf));
      return all[next++];
    }));
  for (Weight *w : weights_) e_.writeWeight(*w, all[next++], false);
  for (const Instance *by : losses_) e_.addLoss(by, all[next++]);
  const Slices &first = slices_.front();
  size_t axis = 0;
  for (const Value &y : stacked_)
    values.push_back(mapLeaves(e_, y, [&](const Value &leaf) {
      std::vector<Span> origins = e_.originsOf(leaf);
      origins.insert(origins.begin() + attr_.yAxes[axis++], e_.originOf(first.whole, first.axis));
      e_.setOrigins(all[next], std::move(origins));
      return all[next++];
    }));
  if (values.empty()) return Value::none();
  return values.size() == 1 ? values[0] : Value::tuple(std::move(values));
}

Value Loop::run() {
  bool ok = true;
  for (const ScanBind &b : expr_.binds) ok &= bind(b);
  if (!ok) return {};
  if (length_ < 0) return e_.fail(expr_.span, Diag::ScanRounds);
  {
    scope_ = std::make_shared<Scope>();
    scope_->parent = e_.frame->scope;
    scope_->parentSeq = e_.frame->scope->seq;
    Restore<std::shared_ptr<Scope>> inner(e_.frame->scope, scope_);
    Restore<Pass *> around(e_.pass, e_.pass);
    if (!open() || !body() || !finish()) return {};
  }
  outer_.layers.insert(outer_.layers.end(), pass_->layers.begin(), pass_->layers.end());
  attr_.body = pass_->b.f.name;
  attr_.length = length_;
  Values all = e_.emitMany(ir::Op::scan_, operands_, attr_);
  return all.empty() ? Value{} : results(all);
}

} // namespace

Value Elaborator::evalScan(const ScanExpr &expr) {
  if (!needsTensor(expr.span)) return {};
  return Loop(*this, expr).run();
}

void Elaborator::evalYield(const YieldStmt &stmt) {
  ++effects;
  if (!frame->scan) {
    fail(stmt.span, Diag::YieldPlace);
    return;
  }
  for (const Expr *e : stmt.values) {
    frame->scan->yields.push_back(eval(*e));
    frame->scan->spans.push_back(e->span);
  }
}

} // namespace nnc::fe
