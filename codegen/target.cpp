// Targets: the levels of processors that code can be made for.
//
// Problem. The fastest code for this machine, or one binary for many. Names of processors lie, on
// virtual machines above all: the same machine may call itself `rocketlake` and have AMX. And what
// the processor can do is not enough: the operating system must save the registers.
//
//   --mcpu=native      the highest level all of whose features are there: sapphirerapids
//   --mcpu=portable    x86-64-v4 and x86-64-v3 in one binary, chosen when it starts
//
// Method. A level is a list of features by LLVM's names, which LLVM reads off CPUID and XCR0. Code
// of a level uses these features and no others (an instruction that nobody asked for is one that
// nobody checks); a level with a name of a processor takes its costs of instructions from it, too.
// `requiredFeatures` says the same to the binary, which checks again where it runs.
#include "codegen/codegen.h"
#include "runtime/abi.h"
#include <algorithm>
#include <llvm/ADT/StringMap.h>
#include <llvm/TargetParser/Host.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace nnc::cg {

namespace {

constexpr const char *kX86 = "x86_64-linux-gnu", *kArm = "aarch64-linux-gnu";

// --- x86-64 --------------------------------------------------------------------------------------

struct Level {
  const char *name;
  std::vector<const char *> features; // beyond those of the level before
  Target (*make)();
};

Target avx2() {
  Target t;
  t.triple = kX86;
  t.cpu = t.llvmCpu = "x86-64-v3";
  t.features = "+fast-gather"; // otherwise gathers become branches
  t.vectorBytes = 32;
  t.vectorRegisters = 16;
  t.requiredFeatures = NNC_CPU_X86_64_V3;
  return t;
}

Target avx512() {
  Target t;
  t.triple = kX86;
  t.cpu = t.llvmCpu = "x86-64-v4";
  t.features = "-prefer-256-bit";
  t.vectorBytes = 64;
  t.vectorRegisters = 32;
  t.requiredFeatures = NNC_CPU_X86_64_V3 | NNC_CPU_X86_64_V4;
  return t;
}

Target sapphireRapids() {
  Target t = avx512();
  t.cpu = t.tune = "sapphirerapids";
  t.features += ",+avx512bf16,+avx512fp16,+amx-tile,+amx-bf16,+amx-int8";
  t.avx512Bf16 = t.avx512Fp16 = t.amx = true;
  t.requiredFeatures |= NNC_CPU_AVX512_BF16 | NNC_CPU_AVX512_FP16 | NNC_CPU_AMX_BF16;
  return t;
}

// In rising order; what the psABI counts to the first two.
const std::vector<Level> &levels() {
  static const std::vector<Level> list = {
      {"x86-64-v3",
       {"cx16", "sahf", "popcnt", "sse4.2", "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt",
        "movbe"},
       avx2},
      {"x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}, avx512},
      {"sapphirerapids",
       {"avx512bf16", "avx512fp16", "amx-tile", "amx-bf16", "amx-int8"},
       sapphireRapids}};
  return list;
}

// Tile registers are given only to processes that ask; a kernel may know nothing of them.
bool systemGivesTiles() {
  constexpr int SupportedState = 0x1021, TileData = 18;
  uint64_t state = 0;
  return syscall(SYS_arch_prctl, SupportedState, &state) == 0 && (state >> TileData & 1);
}

std::optional<Target> native() {
#if defined(__x86_64__)
  const llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures(); // by CPUID and XCR0
  return bestTarget([&](const char *f) {
    auto it = host.find(f);
    const bool has = it != host.end() && it->second;
    return has && (std::string_view(f) != "amx-tile" || systemGivesTiles());
  });
#else
  return std::nullopt;
#endif
}

std::vector<Target> x86Targets(std::string_view cpu, std::string &error) {
  if (cpu == "native") {
    if (auto t = native()) return {*t};
    error = "this processor lacks AVX2 or FMA, which compiled models need; name the target with "
            "--mcpu";
    return {};
  }
  // AMX gets a version of its own where kernels use it (compile.cpp).
  if (cpu == "portable") return {avx512(), avx2()};
  for (const Level &l : levels())
    if (cpu == l.name) return {l.make()};
  error = "unknown target `" + std::string(cpu) +
          "`; known: native, portable, x86-64-v3, x86-64-v4, sapphirerapids";
  return {};
}

// --- AArch64 -------------------------------------------------------------------------------------

// All that kernels use is in every AArch64; a name chooses the costs of instructions.
std::vector<Target> armTargets(std::string_view cpu, std::string &error) {
  constexpr std::string_view kCpus[] = {"generic",     "cortex-a72",  "cortex-a76", "neoverse-n1",
                                        "neoverse-n2", "neoverse-v1", "neoverse-v2"};
  if (cpu == "portable") cpu = "generic";
  if (cpu == "native") {
    error = "`native` is the processor of this machine, which is no aarch64; name one with --mcpu, "
            "or leave it out";
    return {};
  }
  if (std::find(std::begin(kCpus), std::end(kCpus), cpu) == std::end(kCpus)) {
    error = "unknown target `" + std::string(cpu) + "` of aarch64-linux-gnu; known: portable";
    for (std::string_view known : kCpus) error += ", " + std::string(known);
    return {};
  }
  Target t;
  t.arch = Arch::AArch64;
  t.triple = kArm;
  t.cpu = cpu;
  t.llvmCpu = "generic";
  if (cpu != "generic") t.tune = cpu;
  t.vectorBytes = 16;
  t.vectorRegisters = 32;
  return {t};
}

} // namespace

std::optional<Target> bestTarget(const std::function<bool(const char *)> &has) {
  std::optional<Target> best;
  for (const Level &l : levels()) {
    if (!std::all_of(l.features.begin(), l.features.end(), has)) break;
    best = l.make();
  }
  return best;
}

std::vector<Target> resolveTargets(std::string_view triple, std::string_view cpu,
                                   std::string &error) {
  if (triple.empty() || triple == kX86 || triple == "x86_64-unknown-linux-gnu")
    return x86Targets(cpu.empty() ? "native" : cpu, error);
  if (triple == kArm || triple == "aarch64-unknown-linux-gnu")
    return armTargets(cpu.empty() ? "generic" : cpu, error);
  error = "unknown target `" + std::string(triple) + "`; known: " + kX86 + ", " + kArm;
  return {};
}

std::optional<Target> resolveTarget(std::string_view cpu, std::string &error) {
  const std::vector<Target> list = x86Targets(cpu, error);
  if (list.empty()) return std::nullopt;
  return list[0];
}

bool runsHere(const Target &t) {
  std::string error;
  const std::optional<Target> here = resolveTarget("native", error);
  return here && t.arch == here->arch &&
         (here->requiredFeatures & t.requiredFeatures) == t.requiredFeatures;
}

} // namespace nnc::cg
