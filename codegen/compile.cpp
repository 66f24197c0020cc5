// From an optimised module to an object file.
//
//   function --fuse--> kernels --schedule--> --plan--> step table      for every function
//   all kernels --dedup by canonical text--> nnc_k0, ..  --LLVM, threads--> objects --> one object
//
// A portable binary does all of it once for each target: kernels nnc_k0.x86-64-v3, .., and a table.
//
// Problem. A network of a thousand equal layers has a handful of different kernels, and LLVM is the
// slowest part of a compilation by far. The bytes must not depend on how the work was spread.
//
// Method. Kernels whose canonical text is equal (it holds all that determines the code) are one
// function, numbered in the order of first use. They go into modules of at most sixteen by number,
// each with a context of its own; threads take modules from a counter, the objects are joined in
// order of number.
#include "codegen/cpu/llvm_pch.h"

#include "codegen/cpu/emit.h"
#include "codegen/cpu/module_object.h"
#include "codegen/objects.h"
#include "codegen/pack.h"
#include "codegen/planning.h"
#include "codegen/tune.h"
#include <atomic>
#include <chrono>
#include <cstring>
#include <set>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace nnc::cg {

namespace {

using Clock = std::chrono::steady_clock;

// Reports the time since the last report.
struct Timer {
  const CodegenOptions &options;
  Clock::time_point from = Clock::now();
  void operator()(std::string_view stage) {
    auto now = Clock::now();
    if (options.timing) options.timing(stage, std::chrono::duration<double>(now - from).count());
    from = now;
  }
};

// --- which functions -----------------------------------------------------------------------------

bool isCompiled(const ir::Module &m, const ir::Function &f) {
  for (const ir::Node &n : f.nodes) {
    if (n.op == ir::Op::grad_ || n.op == ir::Op::call_) return false;
    if (auto *a = std::get_if<ir::ScanAttr>(&n.attr); a && !isCompiled(m, *m.find(a->body)))
      return false;
  }
  return true;
}

bool isStepFunction(const std::string &name) {
  static const std::set<std::string> names = {"init", "eval_step", "predict", "metrics_result"};
  return names.count(name) || name.rfind("train_step", 0) == 0 || name.rfind("adapt", 0) == 0;
}

// The step functions, and others that nobody refers to.
std::vector<const ir::Function *> entryPoints(const ir::Module &m) {
  std::set<std::string> referred;
  for (auto &f : m.functions)
    for (const ir::Node &n : f->nodes) {
      if (auto *a = std::get_if<ir::CallAttr>(&n.attr))
        referred.insert(a->callee), referred.insert(a->gradient);
      if (auto *a = std::get_if<ir::ScanAttr>(&n.attr)) referred.insert(a->body);
    }
  std::vector<const ir::Function *> entries;
  for (auto &f : m.functions) {
    bool step = isStepFunction(f->name);
    if (!step && referred.count(f->name)) continue;
    if (isCompiled(m, *f))
      entries.push_back(f.get());
    else if (step)
      throw std::runtime_error("`" + f->name +
                               "` has a `call` or `grad` left, which code generation does not "
                               "take");
  }
  return entries;
}

// --- constants -----------------------------------------------------------------------------------

template <class T> void append(std::string &s, T v) {
  s.append(reinterpret_cast<const char *>(&v), sizeof v);
}

uint16_t toBf16(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  if (v != v) return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint16_t toF16(double v) {
  _Float16 h = _Float16(v);
  uint16_t bits;
  std::memcpy(&bits, &h, 2);
  return bits;
}

void appendElement(std::string &s, ir::DType t, double v) {
  switch (t) {
  case ir::DType::f32: return append(s, float(v));
  case ir::DType::f64: return append(s, v);
  case ir::DType::bf16: return append(s, toBf16(float(v)));
  case ir::DType::f16: return append(s, toF16(v));
  case ir::DType::i64: return append(s, int64_t(v));
  case ir::DType::i32: return append(s, int32_t(int64_t(v)));
  case ir::DType::u32: return append(s, uint32_t(int64_t(v)));
  case ir::DType::u8: return append(s, uint8_t(int64_t(v)));
  case ir::DType::boolean: return append(s, uint8_t(v != 0));
  }
}

// The constant region: equal constants of all functions once.
struct ConstantPool {
  std::string bytes;
  std::map<std::string, int64_t> offsets;

  int64_t add(const Buffer &b, int64_t batch) {
    int64_t count = ir::elementCount(b.type.dims, std::max<int64_t>(batch, 1));
    NNC_CHECK(b.data.size() == 1 || int64_t(b.data.size()) == count,
              "constant " + b.name + " is incomplete");
    std::string content;
    for (int64_t i = 0; i < count; ++i)
      appendElement(content, b.type.dtype, b.data.size() == 1 ? b.data[0] : b.data[i]);
    auto [it, isNew] = offsets.try_emplace(content, int64_t(bytes.size()));
    if (isNew) {
      bytes += content;
      bytes.resize((bytes.size() + 63) / 64 * 64);
    }
    return it->second;
  }

  // Gives the function's constants their place in the common region.
  void place(CompiledFunction &f) {
    for (BufferId b = 0; b < BufferId(f.program.buffers.size()); ++b)
      if (f.program.buffers[b].life == Life::Constant)
        f.plan.place[b].offset = add(f.program.buffers[b], f.program.batch);
    for (Step &s : f.plan.steps) {
      const std::vector<BufferId> &args = f.program.launches[s.kernel].args;
      for (size_t a = 0; a < args.size(); ++a) s.args[a] = f.plan.place[args[a]];
    }
  }
};

// --- the bill of the module ----------------------------------------------------------------------

Plan::Bill billOf(const ir::Module &m, const Plan &plan, const Layouts &layouts) {
  Plan::Bill bill = plan.bill;
  for (const ir::Persistent &p : m.persistents) {
    auto own = layouts.find(p.name);
    const Layout &layout = own == layouts.end() ? Layout{} : own->second;
    int64_t bytes = placesOf(layout, p.type.dims, 1) * ir::dtypeBytes(p.type.dtype);
    const ir::Meta *kind = p.meta.find("kind");
    const std::string *k = kind ? kind->asString() : nullptr;
    if (k && *k == "slot")
      bill.slots += bytes;
    else if (k && (*k == "metric" || *k == "host"))
      bill.workspace += bytes;
    else
      bill.weights += bytes;
  }
  return bill;
}

// Training's, or that of the function that needs most.
Plan::Bill moduleBill(const std::vector<CompiledFunction> &functions) {
  const CompiledFunction *most = nullptr;
  for (const CompiledFunction &f : functions) {
    if (f.program.function->name.rfind("train_step", 0) == 0) return f.plan.bill;
    if (!most || f.plan.transientBytes > most->plan.transientBytes) most = &f;
  }
  return most ? most->plan.bill : Plan::Bill{};
}

// --- lowering ------------------------------------------------------------------------------------

void checkKernels(const Program &p) {
  for (const Launch &l : p.launches) {
    std::string e = verify(l.kernel);
    NNC_CHECK(e.empty(), e + "\n" + print(l.kernel, true));
  }
}

// Items of single rows, where a kernel is too small to be cut: for tests, whose tensors are small.
void cutFinely(Kernel &k) {
  Schedule &s = k.schedule;
  if (!s.items.empty()) return;
  if (k.cls == KernelClass::Loops || k.cls == KernelClass::Sort) {
    for (AxisId a : k.parallel)
      if (a != s.vec) return void(s.items = {{a, 1}});
  } else if (k.cls == KernelClass::Chain) {
    std::vector<AxisId> summed; // by sums over rows: never cut
    for (size_t i = 0; i < k.stages.size(); ++i)
      if (k.chain.steps[i].kind == StepKind::ColSum)
        summed.insert(summed.end(), k.stages[i].reduce.begin(), k.stages[i].reduce.end());
    for (AxisId a : k.chain.outer)
      if (std::find(summed.begin(), summed.end(), a) == summed.end())
        return void(s.items = {{a, 1}});
  } else if (const Stage *sums = sumsBeside(k)) {
    s.items = {{sums->reduce[0], sums->chunk}};
  } else if (k.cls == KernelClass::Contract && s.row >= 0) {
    s.items = {{s.row, s.mr}};
  }
  // operands may need a copy now
  if (k.cls == KernelClass::Contract) s.scratchBytes = contractScratch(k);
}

// Points of all kernels in all rounds: what a replay of the plan visits.
double pointsOf(const Program &p, const Plan &plan) {
  std::vector<double> rounds;
  for (const PlannedLoop &l : plan.loops)
    rounds.push_back(double(l.length) * (l.parent < 0 ? 1 : rounds[size_t(l.parent)]));
  double points = 0;
  for (const Step &s : plan.steps) {
    const Kernel &k = p.launches[size_t(s.kernel)].kernel;
    double of = s.loop < 0 ? 1 : rounds[size_t(s.loop)];
    for (const Axis &a : k.axes) of *= double(a.extent.at(std::max<int64_t>(k.batch, 1)));
    points += of;
  }
  return points;
}

CompiledFunction lower(const ir::Module &m, const ir::Function &f,
                       const PersistentLayout &persistent, const Target &target,
                       const CodegenOptions &o, Timer &timer) {
  CompiledFunction c;
  FuseOptions fusion = o.fuse;
  fusion.layouts = &persistent.layouts;
  fusion.pads = fusion.pads && o.plan.padded;
  fusion.tiles = fusion.tiles && target.amx;
  c.program = fuse(m, f, fusion);
  timer("fuse " + f.name);
  forEachKernel(c.program, [&](Kernel &k) {
    if (!o.tuning || !o.tuning->schedule(k, target)) schedule(k, target);
  });
  if (!o.plan.single) forEachKernel(c.program, cutFinely);
  timer("schedule " + f.name);
  c.plan = plan(c.program, persistent, o.plan);
  c.plan.bill = billOf(m, c.plan, persistent.layouts);
  timer("plan " + f.name);
  if (!o.check) return c;
  checkKernels(c.program);
  // The replay keeps a record per element: twelve times the memory of the program. And it visits
  // what the program visits, for minutes if that is a product in each of many rounds.
  constexpr int64_t kReplayedBytes = 64 << 20;
  constexpr double kReplayedPoints = 1e9;
  if (persistent.bytes + c.plan.transientBytes > kReplayedBytes ||
      pointsOf(c.program, c.plan) > kReplayedPoints)
    return c;
  for (int64_t n : {c.program.batch, int64_t(1)}) {
    std::string hazard = checkHazards(c.program, c.plan, n);
    NNC_CHECK(hazard.empty(), f.name + ": " + hazard);
  }
  timer("check " + f.name);
  return c;
}

// --- distinct kernels ----------------------------------------------------------------------------

struct Code {
  const Kernel *kernel;
  const Target *target;
  std::string symbol;
};

// Adds a version's kernels to `code`; their symbols, by function and launch. Equal kernels of one
// version share code.
std::vector<std::vector<std::string>> distinctKernels(Version &v, const std::string &suffix,
                                                      std::vector<Code> &code) {
  std::vector<std::vector<std::string>> symbols;
  std::map<std::string, std::string> known;
  for (const CompiledFunction &f : v.functions) {
    symbols.emplace_back();
    for (const Launch &l : f.program.launches) {
      auto [it, isNew] = known.try_emplace(print(l.kernel, false), "");
      if (isNew) {
        it->second = "nnc_k" + std::to_string(v.kernels++) + suffix;
        code.push_back({&l.kernel, &v.target, it->second});
      }
      symbols.back().push_back(it->second);
      ++v.launches;
    }
  }
  return symbols;
}

// --- machine code --------------------------------------------------------------------------------

struct Work {
  const Target *target;
  std::function<void(llvm::Module &)> fill;
};

std::string objectOf(const Work &work, const CodegenOptions &o) {
  llvm::LLVMContext context;
  llvm::Module module("model", context);
  prepareModule(module, *work.target);
  work.fill(module);
  return emitObject(module, *work.target, o.level);
}

// The objects of all pieces of work, in order; several at a time.
std::vector<std::string> compileAll(const std::vector<Work> &work, const CodegenOptions &o) {
  std::vector<std::string> objects(work.size());
  std::vector<std::exception_ptr> failures(work.size());
  std::atomic<size_t> next{0};
  auto run = [&] {
    for (size_t i; (i = next++) < work.size();) {
      try {
        objects[i] = objectOf(work[i], o);
      } catch (...) {
        failures[i] = std::current_exception();
      }
    }
  };
  size_t threads = std::min<size_t>(work.size(), std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::thread> others;
  for (size_t t = 1; t < threads; ++t) others.emplace_back(run);
  run();
  for (std::thread &t : others) t.join();
  for (std::exception_ptr &e : failures)
    if (e) std::rethrow_exception(e);
  return objects;
}

constexpr size_t kKernelsPerModule = 16;

std::string makeObject(const std::vector<Code> &code, const ModelTables &tables,
                       const CodegenOptions &o) {
  std::vector<Work> work = {{&o.target, [&](llvm::Module &m) { emitTables(m, tables); }}};
  const size_t count = code.size();
  const size_t size = std::min(kKernelsPerModule, std::max<size_t>((count + 1) / 2, 1));
  for (size_t first = 0, end; first < count; first = end) {
    for (end = first; end < count && end < first + size && code[end].target == code[first].target;)
      ++end;
    work.push_back({code[first].target, [&, first, end](llvm::Module &m) {
                      for (size_t i = first; i < end; ++i)
                        emitKernel(m, *code[i].kernel, *code[i].target, code[i].symbol);
                    }});
  }
  std::string merged, error = mergeObjects(compileAll(work, o), o.target.arch, merged);
  if (!error.empty()) throw std::runtime_error(error);
  return merged;
}

// All kernels and tables in one module, as text.
void makeText(const std::vector<Code> &code, const ModelTables &tables, const CodegenOptions &o,
              bool assembly, Compiled &out) {
  llvm::LLVMContext context;
  llvm::Module module("model", context);
  prepareModule(module, o.target);
  for (const Code &c : code) emitKernel(module, *c.kernel, *c.target, c.symbol);
  emitTables(module, tables);
  if (assembly) {
    out.asmText = emitAssembly(module, o.target, o.level);
    return;
  }
  optimizeModule(module, o.target, o.level);
  llvm::raw_string_ostream text(out.llvmText);
  module.print(text, nullptr);
}

} // namespace

// A portable program has a version for tile registers if some of its kernels run on them.
static bool hasBf16(const ir::Module &m) {
  for (const auto &f : m.functions)
    for (const ir::ValueInfo &v : f->values)
      if (v.type.dtype == ir::DType::bf16) return true;
  return false;
}

static bool usesTiles(const Version &v) {
  for (const CompiledFunction &f : v.functions)
    for (const Launch &l : f.program.launches)
      if (l.kernel.schedule.family == Family::Amx) return true;
  return false;
}

std::unique_ptr<Compiled> compile(const ir::Module &m, const CodegenOptions &o, Emit upTo) {
  auto c = std::make_unique<Compiled>();
  Timer timer{o};
  c->module = &m;
  ConstantPool constants;
  const std::vector<const ir::Function *> entries = entryPoints(m);
  c->versions.reserve(2 + o.others.size()); // kernels are pointed at: never moved again
  auto add = [&](const Target &t) {
    Version &v = c->versions.emplace_back();
    v.target = t;
    v.persistent = layoutPersistent(m, o.plan.padded);
    for (const ir::Function *f : entries) {
      v.functions.push_back(lower(m, *f, v.persistent, v.target, o, timer));
      constants.place(v.functions.back());
    }
  };
  if (!o.others.empty() && o.target.arch == Arch::X86_64 && hasBf16(m)) {
    std::string error;
    add(*resolveTarget("sapphirerapids", error));
    if (!usesTiles(c->versions[0])) c->versions.clear();
  }
  add(o.target);
  for (const Target &t : o.others) add(t);
  if (upTo <= Emit::Memory) return c;

  ModelTables tables{&m, {}, constants.bytes, o.tuning ? o.tuning->hash() : "none"};
  std::vector<Code> code;
  for (Version &v : c->versions) {
    auto symbols = distinctKernels(v, c->versions.size() > 1 ? "." + v.target.cpu : "", code);
    tables.versions.push_back({&v, std::move(symbols), moduleBill(v.functions)});
  }
  timer("distinct kernels");
  if (upTo == Emit::Object) {
    c->object = makeObject(code, tables, o);
    c->codeBytes = codeBytesOf(c->object);
  } else {
    makeText(code, tables, o, upTo == Emit::Asm, *c);
  }
  timer("machine code");
  return c;
}

// --- texts ---------------------------------------------------------------------------------------

// Names the version in front of its part of a text, if there are several.
static void heading(std::ostringstream &o, const Compiled &c, const Version &v) {
  if (c.versions.size() > 1) o << "version " << v.target.cpu << "\n\n";
}

std::string Compiled::kernelsText() const {
  std::ostringstream o;
  for (const Version &v : versions) {
    heading(o, *this, v);
    for (const CompiledFunction &f : v.functions) {
      o << "function " << f.program.function->name << ", batch " << f.program.batch << "\n";
      std::vector<int32_t> loopOf(f.program.launches.size(), -1);
      for (const Step &s : f.plan.steps) loopOf[size_t(s.kernel)] = s.loop;
      for (size_t i = 0; i < f.program.launches.size(); ++i) {
        const Launch &l = f.program.launches[i];
        o << "\n" << print(l.kernel, true);
        for (int32_t at = loopOf[i]; at >= 0; at = f.plan.loops[size_t(at)].parent) {
          const PlannedLoop &loop = f.plan.loops[size_t(at)];
          o << "  in loop \"" << loop.name << "\", " << loop.length << " rounds"
            << (loop.reverse ? ", last iteration first" : "") << "\n";
        }
        for (size_t a = 0; a < l.args.size(); ++a)
          o << "  arg" << a << " = " << f.program.buffers[l.args[a]].name << "\n";
      }
      o << "\n";
    }
  }
  return o.str();
}

std::string Compiled::memoryText() const {
  std::ostringstream o;
  for (const Version &v : versions) {
    heading(o, *this, v);
    o << "persistent region " << v.persistent.bytes << " bytes\n\n";
    for (const CompiledFunction &f : v.functions)
      o << printMemory(f.program, f.plan, module) << "\n";
  }
  return o.str();
}

} // namespace nnc::cg
