// Kernels to machine code, through LLVM.
//
// Problem. The step table calls `void k(char *const *args, const NncStepEnv *env, int64_t begin,
// int64_t end)` (runtime/abi.h); a Kernel with its schedule says what that function computes, to
// the bit.
//
// Method. The emitter writes the vectors itself (no loop vectoriser, no unrolling but the register
// tile), so a short list of scalar passes and the code generator are all that LLVM has to do: 3 to
// 10 ms a kernel.
//
//   llvm::LLVMContext context;
//   llvm::Module m("kernels", context);
//   prepareModule(m, target);
//   emitKernel(m, kernel, target, "k0");
//   std::string object = emitObject(m, target, 2);
//
// An LLVMContext and its modules belong to one thread; different contexts may be used in parallel.
#pragma once
#include "codegen/codegen.h"
#include <string>

namespace llvm {
class Module;
}

namespace nnc::cg {

// Sets the triple and the data layout. Before the first kernel or constant.
void prepareModule(llvm::Module &m, const Target &t);

// Adds the function `name` (external) that computes the kernel's items [begin, end). The kernel
// must have a schedule for this target and pass verify().
void emitKernel(llvm::Module &m, const Kernel &k, const Target &t, const std::string &name);

// Optimises the module and generates code; emitObject leaves nothing usable in the module. Level 0
// skips the passes, 1 to 3 are one list.
std::string emitObject(llvm::Module &m, const Target &t,
                       int level); // bytes of a relocatable ELF object
std::string emitAssembly(llvm::Module &m, const Target &t, int level); // its text
void optimizeModule(llvm::Module &m, const Target &t, int level); // passes alone, for --emit=llvm

} // namespace nnc::cg
