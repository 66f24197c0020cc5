// Where transient buffers lie.
//
// Problem. A step's values all at once are many times what lives at any moment. Two buffers may
// share bytes if every thread is done with the one before any thread touches the other.
//
// Method. A buffer lives from the first to the last barrier epoch in which a kernel touches it:
// threads inside one epoch run at their own pace. (If in that epoch only single-threaded kernels
// touch the two, their order is enough.) Largest first, each buffer goes to the lowest offset that
// no buffer alive at the same time covers: first fit, near the optimum for steps, whose lifetimes
// nest.
#include "codegen/planning.h"
#include <algorithm>
#include <iomanip>
#include <sstream>

namespace nnc::cg {

std::vector<Lifetime> lifetimes(const Program &p, const Plan &plan) {
  std::vector<Lifetime> lives(p.buffers.size());
  int epoch = 0;
  for (int i = 0; i < int(plan.steps.size()); ++i) {
    const Step &step = plan.steps[i];
    if (step.barrierBefore) ++epoch;
    for (BufferId b : p.launches[step.kernel].args) {
      Lifetime &life = lives[rootOf(plan, b)];
      if (life.firstStep < 0) life.firstStep = i, life.firstEpoch = epoch;
      if (life.firstEpoch == epoch) life.firstSingle &= step.single;
      life.lastSingle = step.single && (life.lastEpoch != epoch || life.lastSingle);
      life.lastStep = i, life.lastEpoch = epoch;
    }
  }
  for (const ProgramResult &r : p.results) { // read by the runtime after the last step
    Lifetime &life = lives[rootOf(plan, r.buffer)];
    life.lastStep = int(plan.steps.size()), life.lastEpoch = epoch + 1;
  }
  return lives;
}

namespace {

bool before(const Lifetime &x, const Lifetime &y) {
  if (x.lastEpoch != y.firstEpoch) return x.lastEpoch < y.firstEpoch;
  return x.lastSingle && y.firstSingle && x.lastStep < y.firstStep;
}

// In a body: may x of the next round be touched while others still touch y of this one? So it is if
// the rounds meet without a barrier, the one ends and the other begins there.
bool meet(const Lifetime &x, const Lifetime &y, int lastEpoch) {
  return x.firstEpoch == 0 && y.lastEpoch == lastEpoch && !(x.firstSingle && y.lastSingle);
}

// The last epoch, where it goes over into the first of the next round; else -1.
int openEpoch(const Plan &plan, bool cyclic) {
  if (!cyclic || plan.steps.empty() || plan.steps[0].barrierBefore) return -1;
  return int(
      std::count_if(plan.steps.begin(), plan.steps.end(), [](auto &s) { return s.barrierBefore; }));
}

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

struct Placed {
  BufferId buffer;
  int64_t begin, end;
};

} // namespace

void placeTransients(const Program &p, Plan &plan, bool reuse, bool cyclic) {
  std::vector<Lifetime> lives = lifetimes(p, plan);
  int open = openEpoch(plan, cyclic);
  auto apartInTime = [&](const Lifetime &x, const Lifetime &y) {
    return before(x, y) && !(open >= 0 && meet(x, y, open));
  };
  std::vector<BufferId> order;
  for (BufferId b = 0; b < BufferId(p.buffers.size()); ++b)
    if (p.buffers[b].life == Life::Transient && plan.alias[b] == b && lives[b].lastStep >= 0)
      order.push_back(b);
  std::stable_sort(order.begin(), order.end(), [&](BufferId x, BufferId y) {
    return bytesOf(p.buffers[x], p.batch) > bytesOf(p.buffers[y], p.batch);
  });
  std::vector<Placed> placed; // by offset
  for (BufferId b : order) {
    int64_t size = std::max<int64_t>(aligned(bytesOf(p.buffers[b], p.batch)), 64), at = 0;
    for (const Placed &other : placed) {
      bool apart = reuse && (apartInTime(lives[b], lives[other.buffer]) ||
                             apartInTime(lives[other.buffer], lives[b]));
      if (apart) continue;
      if (at + size <= other.begin) break;
      at = std::max(at, other.end);
    }
    plan.place[b].offset = at;
    plan.transientBytes = std::max(plan.transientBytes, at + size);
    Placed mine{b, at, at + size};
    placed.insert(std::upper_bound(placed.begin(), placed.end(), mine,
                                   [](auto &x, auto &y) { return x.begin < y.begin; }),
                  mine);
  }
}

// --- the bill ------------------------------------------------------------------------------------
//
// What the transient region holds at its fullest moment:
//   gradients    derivatives of whole parameters: named `<parameter>.d` and of its type. Absent
//                where the update is part of the kernel that computes the gradient.
//   activations  values of the forward pass that are kept for the backward pass: not derivatives,
//                written before that moment and read after it.
//   workspace    the rest, gaps included, and the inputs.

namespace {

// "kernel.1" -> "kernel": a name without the number that makes it unique.
std::string withoutNumber(std::string name) {
  size_t dot = name.rfind('.');
  if (dot != std::string::npos && dot + 1 < name.size() &&
      name.find_first_not_of("0123456789", dot + 1) == std::string::npos)
    name.resize(dot);
  return name;
}

// "dense.kernel.d.1" -> "dense.kernel"; empty if the name is not that of a derivative.
std::string derivativeOf(std::string name) {
  name = withoutNumber(name);
  if (name.size() < 3 || name.compare(name.size() - 2, 2, ".d") != 0) return "";
  return name.substr(0, name.size() - 2);
}

bool isParameterGradient(const Program &p, const Buffer &b) {
  std::string of = derivativeOf(b.name);
  if (of.empty() || !p.function) return false;
  for (const ir::Param &param : p.function->params)
    if (!param.bind.empty() && p.function->type(param.value) == b.type &&
        withoutNumber(p.function->values[param.value.i].name) == withoutNumber(of))
      return true;
  return false;
}

bool isDerivative(const std::string &name) {
  return name.find(".d.") != std::string::npos || !derivativeOf(name).empty();
}

// The step at which most transient bytes are alive.
int fullestStep(const Program &p, const Plan &plan, const std::vector<Lifetime> &lives) {
  std::vector<int64_t> change(plan.steps.size() + 2, 0);
  for (BufferId b = 0; b < BufferId(p.buffers.size()); ++b) {
    if (p.buffers[b].life != Life::Transient || plan.alias[b] != b || lives[b].firstStep < 0)
      continue;
    change[lives[b].firstStep] += bytesOf(p.buffers[b], p.batch);
    change[lives[b].lastStep + 1] -= bytesOf(p.buffers[b], p.batch);
  }
  int64_t live = 0, most = -1;
  int at = 0;
  for (int i = 0; i <= int(plan.steps.size()); ++i)
    if ((live += change[i]) > most) most = live, at = i;
  return at;
}

} // namespace

void fillBill(const Program &p, Plan &plan) {
  std::vector<Lifetime> lives = lifetimes(p, plan);
  int at = fullestStep(p, plan, lives);
  for (BufferId b = 0; b < BufferId(p.buffers.size()); ++b) {
    const Buffer &buffer = p.buffers[b];
    const Lifetime &life = lives[b];
    if (buffer.life != Life::Transient || plan.alias[b] != b) continue;
    if (life.firstStep < 0 || life.firstStep > at || life.lastStep < at) continue;
    if (isParameterGradient(p, buffer))
      plan.bill.gradients += bytesOf(buffer, p.batch);
    else if (!isDerivative(buffer.name) && life.firstStep < at && life.lastStep > at)
      plan.bill.activations += bytesOf(buffer, p.batch);
  }
  plan.bill.workspace =
      plan.transientBytes + plan.inputBytes - plan.bill.gradients - plan.bill.activations;
}

// --- --emit=memory -------------------------------------------------------------------------------

namespace {

std::string baseName(const std::string &path) { return path.substr(path.rfind('/') + 1); }

} // namespace

ir::Loc userPlace(const ir::Module &m, ir::Loc loc) {
  const ir::Meta *source = m.meta.find("source");
  const std::string *name = source ? source->asString() : nullptr;
  for (ir::Loc at = loc; name && at.i; at = m.locs[at.i].parent)
    if (baseName(m.locs[at.i].file) == baseName(*name)) return at;
  while (loc.i && m.locs[loc.i].parent.i) loc = m.locs[loc.i].parent;
  return loc;
}

namespace {

std::string placeOf(const ir::Module *m, ir::Loc loc) {
  ir::Loc at = m ? userPlace(*m, loc) : ir::Loc{};
  return at.i ? "  " + baseName(m->locs[at.i].file) + ":" + std::to_string(m->locs[at.i].line) : "";
}

void printBill(std::ostream &o, const Plan::Bill &bill) {
  auto line = [&](const char *what, int64_t bytes) {
    o << "  " << std::left << std::setw(12) << what << std::right << std::setw(14) << bytes
      << " bytes\n";
  };
  line("weights", bill.weights);
  line("gradients", bill.gradients);
  line("slots", bill.slots);
  line("activations", bill.activations);
  line("workspace", bill.workspace);
  line("total", bill.weights + bill.gradients + bill.slots + bill.activations + bill.workspace);
}

std::string stepsOf(const Lifetime &life, const Plan &plan) {
  std::string first = std::to_string(life.firstStep), last = std::to_string(life.lastStep);
  return first + "-" + (life.lastStep == int(plan.steps.size()) ? "end" : last);
}

std::string nameOf(const Program &p, BufferId b) {
  return p.buffers[b].name.empty() ? "#" + std::to_string(b) : p.buffers[b].name;
}

// One line per buffer that has memory of its own in this function, with those that are written
// over it, and the line of the kernel that writes it first.
void printBuffers(std::ostream &o, const Program &p, const Plan &plan, const ir::Module *m) {
  static const char *const regions[] = {"persistent", "input", "transient", "constant", "outer"};
  std::vector<std::string> over(p.buffers.size()), places(p.buffers.size());
  for (BufferId b = 0; b < BufferId(p.buffers.size()); ++b)
    if (plan.alias[b] != b) over[rootOf(plan, b)] += " <- " + nameOf(p, b);
  for (const Launch &l : p.launches)
    for (size_t a = 0; a < l.args.size(); ++a)
      if (std::string &place = places[rootOf(plan, l.args[a])];
          place.empty() && l.kernel.args[a].written)
        place = placeOf(m, l.kernel.loc);
  std::vector<Lifetime> lives = lifetimes(p, plan);
  o << "\n  region        offset        bytes  steps      name\n";
  for (BufferId b = 0; b < BufferId(p.buffers.size()); ++b) {
    if (plan.alias[b] != b || lives[b].firstStep < 0) continue;
    o << "  " << std::left << std::setw(10) << regions[size_t(plan.place[b].region)] << std::right
      << std::setw(10) << plan.place[b].offset << std::setw(13) << bytesOf(p.buffers[b], p.batch)
      << "  " << std::left << std::setw(10) << stepsOf(lives[b], plan) << " " << nameOf(p, b) << " "
      << str(p.buffers[b].type) << over[b] << places[b] << "\n";
  }
}

void printSteps(std::ostream &o, const Program &p, const Plan &plan, const ir::Module *m) {
  o << "\n  step\n";
  size_t loop = 0;
  std::vector<int32_t> ends; // of the loops around the step
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const Step &s = plan.steps[i];
    const Launch &l = p.launches[s.kernel];
    while (!ends.empty() && ends.back() == int32_t(i)) ends.pop_back();
    for (; loop < plan.loops.size() && plan.loops[loop].first == int32_t(i); ++loop) {
      const PlannedLoop &at = plan.loops[loop];
      std::string indent(2 * ends.size(), ' ');
      if (at.barrierBefore) o << "  " << indent << "---- all threads meet\n";
      o << "  " << indent << "loop " << at.name << ", steps " << at.first << " to " << at.end - 1
        << ", " << at.length << " rounds" << (at.reverse ? ", last iteration first" : "")
        << placeOf(m, at.loc) << "\n";
      ends.push_back(at.end);
    }
    std::string indent(2 * ends.size(), ' ');
    if (s.barrierBefore) o << "  " << indent << "---- all threads meet\n";
    o << "  " << indent << std::left << std::setw(5) << i << l.kernel.name << ":";
    for (size_t a = 0; a < l.args.size(); ++a)
      o << " " << (l.kernel.args[a].written ? "-> " : "") << nameOf(p, l.args[a]);
    if (s.single)
      o << "  (one thread)";
    else
      o << "  (" << itemCount(l.kernel, std::max<int64_t>(p.batch, 1)) << " items)";
    o << placeOf(m, l.kernel.loc) << "\n";
  }
}

} // namespace

std::string printMemory(const Program &p, const Plan &plan, const ir::Module *m) {
  std::ostringstream o;
  auto barriers =
      std::count_if(plan.steps.begin(), plan.steps.end(), [](auto &s) { return s.barrierBefore; });
  o << "function " << (p.function ? p.function->name : "?") << ", batch " << p.batch << ", "
    << plan.steps.size() << " steps, " << barriers << " barriers\n";
  printBill(o, plan.bill);
  o << "  transient region " << plan.transientBytes << " bytes, inputs " << plan.inputBytes
    << ", scratch per thread " << plan.scratchBytes << "\n";
  printBuffers(o, p, plan, m);
  printSteps(o, p, plan, m);
  return o.str();
}

std::string printMemory(const Program &p, const Plan &plan) {
  return printMemory(p, plan, nullptr);
}

} // namespace nnc::cg
