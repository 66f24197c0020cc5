// The tables of a compiled model as LLVM constants: `nnc_model` of runtime/abi.h.
#pragma once
#include "codegen/codegen.h"

namespace llvm {
class Module;
}

namespace nnc::cg {

struct ModelTables {
  const ir::Module *module = nullptr;
  const PersistentLayout *persistent = nullptr;
  const std::vector<CompiledFunction> *functions = nullptr;
  // By function and launch: the symbol of the kernel's code.
  std::vector<std::vector<std::string>> symbols;
  std::string constants; // bytes of the constant region
  Plan::Bill bill;
};
// Adds `nnc_model` and all it points at; kernels are declared, not defined, where they are not yet.
void emitTables(llvm::Module &m, const ModelTables &t, const Target &target);

} // namespace nnc::cg
