// See kernel_jit.h.
#include "tests/kernel_jit.h"
#include "codegen/cpu/tile_ops.h"
#include <llvm/ExecutionEngine/Orc/LLJIT.h>
#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Module.h>
#include <llvm/IR/Verifier.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Support/TargetSelect.h>
#include <stdexcept>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace nnc::test {

struct KernelCodes::Jit {
  std::unique_ptr<llvm::orc::LLJIT> jit;
};

namespace {

template <class T> T must(llvm::Expected<T> e) {
  if (!e) throw std::runtime_error(llvm::toString(e.takeError()));
  return std::move(*e);
}

} // namespace

void askForTiles() {
#if defined(__x86_64__)
  constexpr int RequestStatePermission = 0x1023, TileData = 18;
  if (syscall(SYS_arch_prctl, RequestStatePermission, TileData) != 0)
    throw std::runtime_error("no permission to use tile registers");
#endif
}

std::optional<cg::Target> emulatedTiles() {
  std::string error;
  const auto wide = cg::resolveTarget("x86-64-v4", error);
  if (!wide || !cg::runsHere(*wide)) return std::nullopt;
  return cg::withEmulatedTiles(*wide);
}

std::optional<cg::Target> tileTarget() {
  std::string error;
  const auto native = cg::resolveTarget("native", error);
  return native && native->amx ? native : emulatedTiles();
}

KernelCodes::KernelCodes(const std::vector<const cg::Kernel *> &kernels, const cg::Target &t,
                         int level)
    : jit_(new Jit) {
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  if (t.amx && !cg::emulatesTiles(t)) askForTiles();
  llvm::LLVMContext context;
  llvm::Module module("kernel", context);
  cg::prepareModule(module, t);
  auto name = [](size_t i) { return "kernel" + std::to_string(i); };
  for (size_t i = 0; i < kernels.size(); ++i) cg::emitKernel(module, *kernels[i], t, name(i));
  std::string wrong;
  llvm::raw_string_ostream stream(wrong);
  if (llvm::verifyModule(module, &stream)) throw std::runtime_error("invalid LLVM IR: " + wrong);
  const std::string object = cg::emitObject(module, t, level);
  jit_->jit = must(llvm::orc::LLJITBuilder().create());
  auto error = jit_->jit->addObjectFile(llvm::MemoryBuffer::getMemBufferCopy(object));
  if (error) throw std::runtime_error(llvm::toString(std::move(error)));
  for (size_t i = 0; i < kernels.size(); ++i)
    functions_.push_back(must(jit_->jit->lookup(name(i))).toPtr<NncKernel>());
}

KernelCodes::~KernelCodes() = default;

GuardedBytes::GuardedBytes(size_t size, bool atEnd) : size_(size) {
  const size_t page = size_t(sysconf(_SC_PAGESIZE)), inside = (size + page - 1) / page * page;
  mapped_ = inside + 2 * page;
  void *at = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) throw std::runtime_error("mmap failed");
  map_ = static_cast<char *>(at);
  if (inside && mprotect(map_ + page, inside, PROT_READ | PROT_WRITE))
    throw std::runtime_error("mprotect failed");
  data_ = map_ + page + (atEnd ? inside - size : 0);
}

GuardedBytes::~GuardedBytes() { munmap(map_, mapped_); }

} // namespace nnc::test
