// Measuring schedules of contractions on this machine; the idea is told in tune.h.
//
// Problem. A machine that does other things beside makes every single time wrong, most of them too
// long, and whoever is measured first is measured cold.
//
// Method. Candidates of one kernel are compiled together, loaded in memory and run in turns on the
// same random data (on large pages, as the runtime's); the least of several times counts. In three
// rounds: the ways that the cost model lists; other tiles of the fastest; finer and coarser items
// of the fastest. What the model chose stays, if nothing is clearly faster.
#include "codegen/cpu/llvm_pch.h"

#include "codegen/cpu/emit.h"
#include "codegen/cpu/schedule.h"
#include "codegen/tune.h"
#include "runtime/abi.h"
#include <chrono>
#include <cstring>
#include <llvm/ExecutionEngine/Orc/LLJIT.h>
#include <llvm/Support/TargetSelect.h>
#include <random>
#include <stdexcept>
#include <sys/mman.h>

namespace nnc::cg {

namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

template <class T> T must(llvm::Expected<T> e) {
  if (!e) throw std::runtime_error(llvm::toString(e.takeError()));
  return std::move(*e);
}

// --- running -------------------------------------------------------------------------------------

class Memory {
 public:
  explicit Memory(int64_t bytes) {
    constexpr size_t Large = 2 << 20;
    bytes_ = (size_t(bytes) + Large) / Large * Large + Large;
    void *at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::runtime_error("there is no memory to measure kernels in");
    map_ = static_cast<char *>(at);
    madvise(map_, bytes_, MADV_HUGEPAGE);
    data_ = reinterpret_cast<char *>((uintptr_t(map_) + Large - 1) / Large * Large);
  }
  ~Memory() { munmap(map_, bytes_); }
  Memory(const Memory &) = delete;
  char *data() const { return data_; }

 private:
  char *map_ = nullptr, *data_ = nullptr;
  size_t bytes_ = 0;
};

void fillRandom(char *at, int64_t count, DType t, std::mt19937 &random) {
  auto put = [&](auto make) {
    for (int64_t i = 0; i < count; ++i) {
      const auto v = make();
      std::memcpy(at + i * int64_t(sizeof v), &v, sizeof v);
    }
  };
  auto real = [&] { return float(int32_t(random())) * 0x1p-31f; };
  switch (t) {
  case DType::f32: return put(real);
  case DType::f64: return put([&] { return double(real()); });
  case DType::bf16: // of both signs, below 1
    return put([&] { return uint16_t((random() & 0x8000) | (0x3f00 + (random() & 0x7f))); });
  case DType::f16:
    return put([&] { return uint16_t((random() & 0x8000) | (0x3800 + (random() & 0x3ff))); });
  case DType::i64: return put([&] { return int64_t(random() & 15); });
  case DType::i32:
  case DType::u32: return put([&] { return uint32_t(random() & 15); });
  case DType::u8: return put([&] { return uint8_t(random()); });
  case DType::boolean: return put([&] { return uint8_t(random() & 1); });
  }
}

struct Candidate {
  Kernel kernel;
  TunedSchedule tuned;
  double seconds = INFINITY;
};

// Arguments of one kernel: its candidates run on the same.
class Data {
 public:
  explicit Data(const Kernel &k) {
    const int64_t n = std::max<int64_t>(k.batch, 1);
    int64_t total = 0;
    std::vector<int64_t> counts, offsets;
    for (const KernelArg &a : k.args) {
      counts.push_back(ir::elementCount(a.dims, n));
      offsets.push_back(total);
      total += (counts.back() * ir::dtypeBytes(a.dtype) + 127) / 64 * 64; // a line between them
    }
    memory_ = std::make_unique<Memory>(total);
    std::mt19937 random(1);
    for (size_t i = 0; i < k.args.size(); ++i) {
      args.push_back(memory_->data() + offsets[i]);
      fillRandom(args.back(), counts[i], k.args[i].dtype, random);
    }
  }
  std::vector<char *> args;

 private:
  std::unique_ptr<Memory> memory_;
};

// Compiles the candidates and runs them in turns until the time is over, a few times at least.
void measure(std::vector<Candidate> &list, const Data &data, const Target &t, double budget) {
  if (list.empty()) return;
  const Clock::time_point start = Clock::now();
  llvm::LLVMContext context;
  llvm::Module module("candidates", context);
  prepareModule(module, t);
  auto name = [](size_t i) { return "candidate" + std::to_string(i); };
  int64_t scratchBytes = 64;
  for (size_t i = 0; i < list.size(); ++i) {
    emitKernel(module, list[i].kernel, t, name(i));
    scratchBytes = std::max(scratchBytes, list[i].kernel.schedule.scratchBytes);
  }
  const std::string object = emitObject(module, t, 2);
  auto jit = must(llvm::orc::LLJITBuilder().create());
  if (auto error = jit->addObjectFile(llvm::MemoryBuffer::getMemBufferCopy(object)))
    throw std::runtime_error(llvm::toString(std::move(error)));
  const Memory scratch(scratchBytes);
  const int64_t n = std::max<int64_t>(list[0].kernel.batch, 1);
  const NncStepEnv env{n, 0, 1, scratch.data(), 0};
  struct Run {
    NncKernel code;
    int64_t items;
    int times = 1; // so that the clock can tell
  };
  std::vector<Run> runs;
  for (size_t i = 0; i < list.size(); ++i)
    runs.push_back({must(jit->lookup(name(i))).toPtr<NncKernel>(), itemCount(list[i].kernel, n)});
  const unsigned flags = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(flags | 0x8040); // subnormals flush, as in the binary
  constexpr int Least = 4, Most = 60;
  for (int round = 0; round < Most && (round < Least || since(start) < budget); ++round)
    for (size_t i = 0; i < list.size(); ++i) {
      const Clock::time_point from = Clock::now();
      for (int r = 0; r < runs[i].times; ++r)
        runs[i].code(data.args.data(), &env, 0, runs[i].items);
      const double each = since(from) / runs[i].times;
      if (round > 0) list[i].seconds = std::min(list[i].seconds, each);
      if (round == 0) runs[i].times = int(std::clamp(5e-5 / std::max(each, 1e-9), 1.0, 1000.0));
    }
  __builtin_ia32_ldmxcsr(flags);
}

// --- candidates ----------------------------------------------------------------------------------

struct Distinct {
  Kernel kernel; // unscheduled
  int launches = 0;
  double weight = 0; // what the model expects of all its launches
};

void addChoice(std::vector<Candidate> &list, const Kernel &kernel, const Target &t,
               const ContractChoice &c) {
  Candidate one{kernel, {}, INFINITY};
  applyChoice(one.kernel, t, c);
  one.tuned = {c.swap, one.kernel.schedule};
  one.kernel = kernel; // as the cache will make it
  if (!applyTuned(one.kernel, t, one.tuned)) return;
  const std::string text = print(one.kernel, false);
  for (const Candidate &other : list)
    if (print(other.kernel, false) == text) return;
  list.push_back(std::move(one));
}

std::vector<Candidate> choicesOf(const Kernel &k, const Target &t) {
  constexpr size_t kMost = 8;
  std::vector<Candidate> list;
  for (const ContractChoice &c : contractChoices(k, t)) {
    if (list.size() < kMost && std::isfinite(c.total())) addChoice(list, k, t, c);
    if (list.empty()) break; // what the model takes cannot be kept: there is nothing to beat
  }
  return list;
}

// Other tiles of one way.
std::vector<Candidate> tilesAround(const Kernel &k, const Target &t, const Candidate &best) {
  std::vector<Candidate> list;
  const Schedule &s = best.tuned.schedule;
  for (ContractChoice c : contractChoices(k, t)) {
    if (c.swap != best.tuned.swap || c.row != s.row || c.col != s.col || c.packA != s.packA ||
        c.packB != s.packB)
      continue;
    for (auto [rows, vectors] : {std::pair{s.mr - 2, s.nv},
                                 {s.mr - 1, s.nv},
                                 {s.mr + 1, s.nv},
                                 {s.mr + 2, s.nv},
                                 {s.mr * 2, s.nv / 2},
                                 {s.mr / 2, s.nv * 2},
                                 {s.mr * 3 / 2, s.nv - 1},
                                 {s.mr * 2 / 3, s.nv + 1}}) {
      c.mr = rows, c.nv = vectors;
      const bool fits = rows >= 1 && vectors >= 1 && rows <= 16 &&
                        rows * vectors + vectors + 1 <= t.vectorRegisters &&
                        (s.row >= 0 || rows == 1) && (s.row < 0 || rows <= extentAt(k, s.row)) &&
                        int64_t(vectors - 1) * (t.vectorBytes / ir::dtypeBytes(k.contract.type)) <
                            extentAt(k, s.col);
      if (fits) addChoice(list, k, t, c);
    }
    break;
  }
  return list;
}

// All tiles of a dot product that the registers hold.
std::vector<Candidate> dotTiles(const Kernel &k, const Target &t, const Candidate &model) {
  std::vector<Candidate> list;
  ContractChoice c = contractChoices(k, t)[0];
  for (const int columns : {1, 2, 4, 8})
    for (const int rows : {1, 2, 3, 4, 6, 8}) {
      const Schedule &s = model.tuned.schedule;
      if (s.col < 0 ? columns > 1 : columns > extentAt(k, s.col)) continue;
      if (s.row < 0 ? rows > 1 : rows > extentAt(k, s.row)) continue;
      if (dotRegisters(k, t, rows, columns) > t.vectorRegisters) continue;
      c.mr = rows, c.nv = columns;
      addChoice(list, k, t, c);
    }
  return list;
}

std::vector<Candidate> otherTiles(const Kernel &k, const Target &t, const Candidate &best) {
  const bool dot = best.tuned.schedule.family == Family::Dot;
  return dot ? dotTiles(k, t, best) : tilesAround(k, t, best);
}

// Items twice as large and half as large, as long as there are enough for many threads.
std::vector<Candidate> itemsAround(const Kernel &k, const Target &t, const Candidate &best) {
  std::vector<Candidate> list;
  const int64_t n = std::max<int64_t>(k.batch, 1), count = itemCount(best.kernel, n);
  for (size_t i = 0; i < best.tuned.schedule.items.size(); ++i)
    for (const bool larger : {false, true}) {
      Candidate c{k, best.tuned, INFINITY};
      ItemAxis &item = c.tuned.schedule.items[i];
      const Schedule &s = c.tuned.schedule;
      const int64_t unit = item.axis == s.row   ? s.mr
                           : item.axis == s.col ? tileColumns(best.kernel, t)
                                                : 1;
      item.block = larger ? item.block * 2 : ceilDiv(ceilDiv(item.block, 2), unit) * unit;
      if (item.block == best.tuned.schedule.items[i].block || !applyTuned(c.kernel, t, c.tuned))
        continue;
      const int64_t items = itemCount(c.kernel, n);
      constexpr int64_t kEnough = 16;
      if (items <= kMostItems && items >= std::min(count, kEnough)) list.push_back(std::move(c));
    }
  return list;
}

const Candidate &fastest(const std::vector<Candidate> &list) {
  return *std::min_element(list.begin(), list.end(), [](const Candidate &x, const Candidate &y) {
    return x.seconds < y.seconds;
  });
}

std::string tileText(const Candidate &c) {
  const std::string text = print(c.kernel, true);
  const size_t from = std::min(text.find("outer"), text.find("dot "));
  return from == std::string::npos ? "" : text.substr(from, text.find("; lanes", from) - from);
}

// Those for one target.
void tuneFor(const ir::Module &m, const CodegenOptions &options, TuneCache &cache, double seconds,
             const std::function<void(const std::string &)> &progress, TuneReport &report) {
  const Target &t = options.target;

  // The contractions as they come to be scheduled.
  std::map<std::string, Distinct> found;
  TuneCache empty;
  empty.asked = [&](const Kernel &k, const Target &) {
    Kernel plain = k;
    plain.schedule = {};
    Distinct &d = found[print(plain, false)];
    if (d.launches++ == 0) d.kernel = plain;
  };
  CodegenOptions o = options;
  o.tuning = &empty;
  compile(m, o, Emit::Memory);

  std::vector<Distinct *> order;
  double left = 0;
  for (auto &[text, d] : found) {
    const ContractChoice first = contractChoices(d.kernel, t)[0];
    if (contractFamily(d.kernel, t) == Family::Amx || !std::isfinite(first.total())) continue;
    d.weight = first.total() * d.launches;
    left += std::sqrt(d.weight);
    order.push_back(&d);
  }
  report.kernels += int(order.size());
  std::stable_sort(order.begin(), order.end(),
                   [](const Distinct *x, const Distinct *y) { return x->weight > y->weight; });

  const Clock::time_point start = Clock::now();
  for (size_t i = 0; i < order.size(); ++i) {
    const double rest = seconds - since(start);
    if (rest <= 0) break;
    const Distinct &d = *order[i];
    const double share = rest * std::sqrt(d.weight) / left;
    left -= std::sqrt(d.weight);
    const Data data(d.kernel);
    std::vector<Candidate> list = choicesOf(d.kernel, t);
    if (list.empty()) continue;
    measure(list, data, t, share / 3);
    const Candidate model = list[0];
    Candidate best = fastest(list);
    for (auto around : {otherTiles, itemsAround}) {
      std::vector<Candidate> more = around(d.kernel, t, best);
      more.push_back(best), more.push_back(model); // again: beside these
      measure(more, data, t, share / 3);
      best = fastest(more);
    }
    // The last round had both.
    std::vector<Candidate> last = {model, best};
    measure(last, data, t, share / 6);
    constexpr double kClear = 0.98;
    const bool changed = last[1].seconds < kClear * last[0].seconds;
    cache.put(d.kernel, t, changed ? best.tuned : model.tuned);
    ++report.measured;
    report.changed += changed;
    report.before += last[0].seconds * d.launches;
    report.after += (changed ? last[1].seconds : last[0].seconds) * d.launches;
    char text[160];
    std::snprintf(text, sizeof text, "%zu/%zu  %9.1f us", i + 1, order.size(),
                  last[0].seconds * 1e6);
    std::string line = text;
    if (changed) {
      std::snprintf(text, sizeof text, " -> %9.1f us", last[1].seconds * 1e6);
      line += std::string(text) + "  " + tileText(best);
    }
    progress(line + "  \"" + d.kernel.name + "\"");
  }
}

} // namespace

TuneReport tune(const ir::Module &m, const CodegenOptions &options, TuneCache &cache,
                double seconds, const std::function<void(const std::string &)> &progress) {
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  std::vector<Target> targets = {options.target};
  for (const Target &t : options.others)
    if (runsHere(t)) targets.push_back(t);
  CodegenOptions o = options;
  o.others.clear();
  TuneReport report;
  for (const Target &t : targets) {
    o.target = t;
    tuneFor(m, o, cache, seconds / double(targets.size()), progress, report);
  }
  return report;
}

} // namespace nnc::cg
