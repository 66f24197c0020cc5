// The interface of code generation: an optimised IR module in, bytes of every later stage out.
#pragma once
#include "codegen/program.h"
#include <functional>
#include <memory>

namespace nnc::cg {

struct Target {
  std::string cpu = "native";      // as given: native, x86-64-v3, x86-64-v4, sapphirerapids
  std::string llvmCpu, features;   // resolved for LLVM
  int vectorBytes = 64;            // 64: AVX-512, 32: AVX2
  int vectorRegisters = 32;
  int64_t requiredFeatures = 0;    // NNC_CPU_*
};
// By CPUID feature bits, never by the processor's name. Empty optional and `error` for an unknown name.
std::optional<Target> resolveTarget(std::string_view cpu, std::string &error);

struct CodegenOptions {
  Target target;
  int level = 2; // -O0..-O3
  FuseOptions fuse;
  PlanOptions plan;
  bool check = false; // verify every kernel and replay every plan; small programs only (tests)
  std::function<void(std::string_view stage, double seconds)> timing; // --time-passes
};

struct CompiledFunction {
  Program program;
  Plan plan;
};
// Everything codegen made of a module; text of a stage is made on request.
struct Compiled {
  const ir::Module *module = nullptr;
  PersistentLayout persistent;
  std::vector<CompiledFunction> functions;
  std::string kernelsText() const; // --emit=kernels
  std::string memoryText() const;  // --emit=memory
  std::string llvmText;            // --emit=llvm, filled if asked for
  std::string asmText;             // --emit=asm, filled if asked for
  std::string object;              // the object file's bytes: step tables, kernels, metadata
  int kernelsCompiled = 0, kernelsTotal = 0;
};
enum class Emit : uint8_t { Kernels, Memory, Llvm, Asm, Object };
// Lowers, plans and compiles up to the wanted stage. Equal kernels are compiled once.
std::unique_ptr<Compiled> compile(const ir::Module &m, const CodegenOptions &o, Emit upTo);

// Schedules one kernel for a target (codegen/cpu/schedule.cpp): fills kernel.schedule.
void schedule(Kernel &k, const Target &t);

// Links an object with the bundled runtime into a static executable, in process with lld. Writes beside,
// syncs, renames. `bundle` is the directory with the runtime; empty: beside the running nnc.
// Returns an empty string, or what went wrong.
std::string link(const std::string &object, const std::string &output, const std::string &bundle = "");

} // namespace nnc::cg
