// The tables of a compiled model as LLVM constants: `nnc_model` of runtime/abi.h.
#pragma once
#include "codegen/codegen.h"

namespace llvm {
class Module;
}

namespace nnc::cg {

struct VersionTables {
  const Version *version = nullptr;
  // By function and launch: the symbol of the kernel's code.
  std::vector<std::vector<std::string>> symbols;
  Plan::Bill bill;
};
struct ModelTables {
  const ir::Module *module = nullptr;
  std::vector<VersionTables> versions; // the first becomes `nnc_model`
  std::string constants;               // bytes of the constant region, of all versions
  std::string tuning;                  // which measured schedules; "none"
};
// Adds `nnc_model` and all it points at; kernels are declared, not defined, where they are not yet.
void emitTables(llvm::Module &m, const ModelTables &t);

} // namespace nnc::cg
