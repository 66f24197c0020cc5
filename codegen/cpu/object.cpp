// The passes, and machine code.
//
// Problem. Compile time is part of the product: a model has some fifty distinct kernels, and LLVM's
// standard pipelines spend ten times what kernels need that are already written as vectors.
//
//   64 products, emitted vectorised:   opt -O3 0.67 s    the list below 0.09 s
//
// Method. The passes promote the register tile, drop what the emitter computed twice, fold
// addresses and hoist what is invariant. Nothing unrolls, vectorises, contracts or reassociates
// floating point.
#include "codegen/cpu/emit.h"
#include "codegen/cpu/llvm_pch.h"
#include <llvm/Analysis/AliasAnalysis.h>
#include <llvm/Analysis/CGSCCPassManager.h>
#include <llvm/Analysis/LoopAnalysisManager.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/CommandLine.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/Target/TargetOptions.h>
#include <llvm/Transforms/InstCombine/InstCombine.h>
#include <llvm/Transforms/Scalar/ADCE.h>
#include <llvm/Transforms/Scalar/EarlyCSE.h>
#include <llvm/Transforms/Scalar/GVN.h>
#include <llvm/Transforms/Scalar/LICM.h>
#include <llvm/Transforms/Scalar/LoopPassManager.h>
#include <llvm/Transforms/Scalar/SimplifyCFG.h>
#include <llvm/Transforms/Scalar/SROA.h>
#include <llvm/Transforms/Utils/Cloning.h>
#include <mutex>

namespace nnc::cg {

namespace {

// Loop strength reduction costs half of the time of code generation for a register tile and finds
// nothing: invariant parts of addresses are summed first and hoisted, so what is left is base +
// index.
void withoutStrengthReduction() {
  auto &options = llvm::cl::getRegisteredOptions();
  if (auto o = options.find("disable-lsr"); o != options.end())
    static_cast<llvm::cl::opt<bool> *>(o->second)->setValue(true);
}

std::unique_ptr<llvm::TargetMachine> machine(const Target &t, int level) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo(), LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC(), LLVMInitializeX86AsmPrinter();
    LLVMInitializeAArch64TargetInfo(), LLVMInitializeAArch64Target();
    LLVMInitializeAArch64TargetMC(), LLVMInitializeAArch64AsmPrinter();
    withoutStrengthReduction();
  });
  std::string error;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(t.triple, error);
  NNC_CHECK(target, error);
  llvm::TargetOptions o;
  o.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  // Without a register allocator every tile is configured and spilled by itself.
  const auto opt = level == 0 && !t.amx ? llvm::CodeGenOptLevel::None
                   : level <= 1         ? llvm::CodeGenOptLevel::Less
                                        : llvm::CodeGenOptLevel::Default;
  return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(
      t.triple, t.llvmCpu, t.features, o, llvm::Reloc::PIC_, llvm::CodeModel::Small, opt));
}

void runPasses(llvm::Module &m, llvm::TargetMachine &tm) {
  llvm::PassBuilder builder(&tm);
  llvm::LoopAnalysisManager lam;
  llvm::FunctionAnalysisManager fam;
  llvm::CGSCCAnalysisManager cgam;
  llvm::ModuleAnalysisManager mam;
  builder.registerModuleAnalyses(mam);
  builder.registerCGSCCAnalyses(cgam);
  builder.registerFunctionAnalyses(fam);
  builder.registerLoopAnalyses(lam);
  builder.crossRegisterProxies(lam, fam, cgam, mam);
  llvm::FunctionPassManager fpm;
  fpm.addPass(llvm::SROAPass(llvm::SROAOptions::ModifyCFG));
  fpm.addPass(llvm::EarlyCSEPass(true));
  fpm.addPass(llvm::InstCombinePass());
  fpm.addPass(llvm::createFunctionToLoopPassAdaptor(llvm::LICMPass(llvm::LICMOptions()), true));
  fpm.addPass(llvm::EarlyCSEPass(true));
  fpm.addPass(llvm::SimplifyCFGPass());
  fpm.addPass(llvm::ADCEPass());
  for (llvm::Function &f : m)
    if (!f.isDeclaration()) fpm.run(f, fam);
}

std::string generate(llvm::Module &m, llvm::TargetMachine &tm, llvm::CodeGenFileType type) {
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager pm;
  const bool failed = tm.addPassesToEmitFile(pm, stream, nullptr, type);
  NNC_CHECK(!failed, "LLVM cannot write this kind of file");
  pm.run(m);
  return std::string(bytes.data(), bytes.size());
}

} // namespace

void prepareModule(llvm::Module &m, const Target &t) {
  m.setTargetTriple(t.triple);
  m.setDataLayout(machine(t, 2)->createDataLayout());
}

void optimizeModule(llvm::Module &m, const Target &t, int level) {
  if (level > 0) runPasses(m, *machine(t, level));
}

std::string emitObject(llvm::Module &m, const Target &t, int level) {
  auto tm = machine(t, level);
  if (level > 0) runPasses(m, *tm);
  return generate(m, *tm, llvm::CodeGenFileType::ObjectFile);
}

std::string emitAssembly(llvm::Module &m, const Target &t, int level) {
  auto tm = machine(t, level);
  auto copy = llvm::CloneModule(m); // code generation changes what it is given
  if (level > 0) runPasses(*copy, *tm);
  return generate(*copy, *tm, llvm::CodeGenFileType::AssemblyFile);
}

} // namespace nnc::cg
