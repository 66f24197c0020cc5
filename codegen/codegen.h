// The interface of code generation: an optimised IR module in, bytes of every later stage out.
#pragma once
#include "codegen/program.h"
#include <functional>
#include <memory>

namespace nnc::cg {

enum class Arch : uint8_t { X86_64, AArch64 };

// The processors that code is made for (codegen/target.cpp).
struct Target {
  Arch arch = Arch::X86_64;
  std::string cpu;      // the level: x86-64-v3, x86-64-v4, sapphirerapids; generic, neoverse-n1, ..
  std::string triple;   // of the bundle: x86_64-linux-gnu, aarch64-linux-gnu
  std::string llvmCpu, features; // what instructions LLVM may use
  std::string tune;              // whose costs it minds; empty: those of llvmCpu
  int vectorBytes = 64;          // 64: AVX-512, 32: AVX2, 16: NEON
  int vectorRegisters = 32;
  bool avx512Bf16 = false, avx512Fp16 = false, amx = false; // AMX: tiles of bf16 and of int8
  int64_t requiredFeatures = 0; // NNC_CPU_*: checked when the binary starts
};
// The targets of --target and --mcpu: one, or those of a portable binary, the most demanding first.
// `native` is decided by feature bits, never by the processor's name. None, and `error`, for an
// unknown name.
std::vector<Target> resolveTargets(std::string_view triple, std::string_view cpu,
                                   std::string &error);
// One level of x86-64.
std::optional<Target> resolveTarget(std::string_view cpu, std::string &error);
// The highest level of x86-64 all of whose features a machine has, by LLVM's names of features.
std::optional<Target> bestTarget(const std::function<bool(const char *feature)> &has);

// Whether this machine has what code for the target needs.
bool runsHere(const Target &t);

class TuneCache; // tune.h

struct CodegenOptions {
  Target target;
  std::vector<Target> others; // a portable binary: further versions, in falling order
  int level = 2; // -O0..-O3
  FuseOptions fuse;
  PlanOptions plan;
  TuneCache *tuning = nullptr; // measured schedules, if there are any
  bool check = false; // verify every kernel and replay every plan; small programs only (tests)
  std::function<void(std::string_view stage, double seconds)> timing; // --time-passes
};

struct CompiledFunction {
  Program program;
  Plan plan;
};
// A module made for one target: whatever depends on it.
struct Version {
  Target target;
  PersistentLayout persistent;
  std::vector<CompiledFunction> functions;
  int kernels = 0, launches = 0; // distinct kernels; operations of all functions
};
// Everything codegen made of a module; text of a stage is made on request.
struct Compiled {
  const ir::Module *module = nullptr;
  std::vector<Version> versions;   // at least one: for CodegenOptions::target, then for the others
  std::string kernelsText() const; // --emit=kernels
  std::string memoryText() const;  // --emit=memory
  std::string llvmText;            // --emit=llvm, filled if asked for
  std::string asmText;             // --emit=asm, filled if asked for
  std::string object;              // the object file's bytes: step tables, kernels, metadata
  int64_t codeBytes = 0;           // of machine code in the object
  const std::vector<CompiledFunction> &functions() const { return versions[0].functions; }
};
enum class Emit : uint8_t { Kernels, Memory, Llvm, Asm, Object };
// Lowers, plans and compiles up to the wanted stage. Equal kernels are compiled once.
std::unique_ptr<Compiled> compile(const ir::Module &m, const CodegenOptions &o, Emit upTo);

// Schedules one kernel for a target (codegen/cpu/schedule.cpp): fills kernel.schedule.
void schedule(Kernel &k, const Target &t);

// Links an object with the bundled runtime into a static executable, in process with lld. Writes
// beside, syncs, renames. `bundle` is the directory with the runtime; empty: that of the target
// beside the running nnc. Returns an empty string, or what went wrong.
std::string link(const std::string &object, const std::string &output, const Target &target,
                 const std::string &bundle = "");

} // namespace nnc::cg
