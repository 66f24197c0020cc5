// The step tables in the object file.
//
// Problem. The runtime walks constant C structs (runtime/abi.h). The compiler has no C compiler at
// hand, and the bytes must depend on nothing but the model:
//   train_step = [ {kernel k3, 32 items, first_arg 0, ..}, {kernel k7, .., NNC_OP_BARRIER}, .. ]
//
// Method. Every struct of the contract is pointers and 64-bit integers, so an LLVM constant struct
// of the same field list has the same layout. One function per struct, fields in the order of the
// header; arrays and strings are private globals, made in the order of the walk. The only public
// symbol is `nnc_model`.
#include "codegen/cpu/llvm_pch.h"

#include "codegen/cost.h"
#include "codegen/cpu/emit.h"
#include "codegen/cpu/module_object.h"
#include "codegen/planning.h"
#include "runtime/abi.h"

// GCC 12 at -O1 inlines only one half of GlobalVariable's pair of operators and takes it for a
// mismatch.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif

namespace nnc::cg {

namespace {

static_assert(int(ir::DType::f32) == NNC_F32 && int(ir::DType::boolean) == NNC_BOOL);

int64_t regionOf(Life life) {
  switch (life) {
  case Life::Persistent: return NNC_PERSISTENT;
  case Life::Input: return NNC_INPUT;
  case Life::Transient: return NNC_TRANSIENT;
  case Life::Constant: return NNC_CONSTANT;
  case Life::Outer: break; // resolved by the planner
  }
  return -1;
}

int64_t kindOf(const ir::Persistent &p) {
  const ir::Meta *kind = p.meta.find("kind");
  const std::string *text = kind ? kind->asString() : nullptr;
  if (!text || *text == "param") return NNC_TENSOR_PARAM;
  if (*text == "slot") return NNC_TENSOR_SLOT;
  if (*text == "metric") return NNC_TENSOR_METRIC;
  if (*text == "host") return NNC_TENSOR_HOST;
  if (*text == "rows") return NNC_TENSOR_ROWS;
  return NNC_TENSOR_STATE;
}

class TableEmitter {
 public:
  TableEmitter(llvm::Module &m, const ModelTables &t)
      : module_(m), tables_(t), context_(m.getContext()) {}

  void run() {
    if (!tables_.constants.empty())
      constants_ = bytes(tables_.constants, false, "constants", 64);
    // Each version's table points at the list of all of them.
    Fields all;
    for (size_t v = 0; v < tables_.versions.size(); ++v) {
      const bool first = v == 0;
      auto linkage =
          first ? llvm::GlobalValue::ExternalLinkage : llvm::GlobalValue::PrivateLinkage;
      all.push_back(new llvm::GlobalVariable(module_, modelType(), true, linkage, nullptr,
                                             first ? "nnc_model" : "version"));
    }
    llvm::Constant *list = all.size() > 1 ? array(all, "versions") : null();
    for (size_t v = 0; v < all.size(); ++v) {
      auto *g = llvm::cast<llvm::GlobalVariable>(all[v]);
      g->setInitializer(model(tables_.versions[v], list, all.size() > 1 ? int64_t(all.size()) : 0));
      g->setAlignment(llvm::Align(64));
    }
  }

 private:
  llvm::Module &module_;
  const ModelTables &tables_;
  llvm::LLVMContext &context_;
  llvm::Constant *constants_ = null();
  std::map<std::string, llvm::Constant *> strings_;
  std::map<std::string, std::pair<LinearCost, LinearCost>> costs_; // flops, bytes, by symbol

  using Fields = std::vector<llvm::Constant *>;

  llvm::Constant *number(int64_t v) {
    return llvm::ConstantInt::get(llvm::Type::getInt64Ty(context_), uint64_t(v));
  }
  llvm::Constant *null() {
    return llvm::ConstantPointerNull::get(llvm::PointerType::get(context_, 0));
  }
  llvm::Constant *record(const Fields &fields) {
    return llvm::ConstantStruct::getAnon(context_, fields);
  }

  llvm::Constant *global(llvm::Constant *value, const char *name, int64_t align) {
    auto *g = new llvm::GlobalVariable(module_, value->getType(), true,
                                       llvm::GlobalValue::PrivateLinkage, value, name);
    g->setAlignment(llvm::Align(uint64_t(align)));
    return g;
  }
  llvm::Constant *array(const Fields &records, const char *name) {
    if (records.empty()) return null();
    auto *type = llvm::ArrayType::get(records[0]->getType(), records.size());
    return global(llvm::ConstantArray::get(type, records), name, 8);
  }
  llvm::Constant *bytes(const std::string &s, bool zero, const char *name, int64_t align) {
    return global(llvm::ConstantDataArray::getString(context_, s, zero), name, align);
  }
  llvm::Constant *string(const std::string &s) {
    auto [it, isNew] = strings_.try_emplace(s, nullptr);
    if (isNew) it->second = bytes(s, true, "str", 1);
    return it->second;
  }

  // --- one function per struct -------------------------------------------------------------------

  llvm::Constant *dims(const Dims &d) {
    Fields list;
    for (Dim x : d) list.push_back(record({number(x.a), number(x.b)}));
    return array(list, "dims");
  }

  llvm::Constant *tensor(const std::string &name, const ir::Type &type, const Layout &layout,
                         Life life, int64_t offset, int64_t batch, int64_t kind) {
    int64_t size = placesOf(layout, type.dims, batch) * ir::dtypeBytes(type.dtype);
    Fields digits;
    for (const Digit &d : layout.digits) digits.push_back(record({number(d.dim), number(d.size)}));
    return record({string(name), number(int64_t(type.dtype)), number(type.rank()), dims(type.dims),
                   number(regionOf(life)), number(offset), number(size),
                   number(int64_t(digits.size())),
                   digits.empty() ? null() : array(digits, "digits"), number(kind)});
  }

  llvm::Constant *kernel(const std::string &symbol) {
    if (llvm::Function *f = module_.getFunction(symbol)) return f;
    llvm::Type *ptr = llvm::PointerType::get(context_, 0), *i64 = llvm::Type::getInt64Ty(context_);
    auto *type =
        llvm::FunctionType::get(llvm::Type::getVoidTy(context_), {ptr, ptr, i64, i64}, false);
    return llvm::Function::Create(type, llvm::GlobalValue::ExternalLinkage, symbol, module_);
  }

  int64_t userLine(ir::Loc loc) const {
    return tables_.module->locs[userPlace(*tables_.module, loc).i].line;
  }

  // Equal kernels have equal costs.
  const std::pair<LinearCost, LinearCost> &costs(const Kernel &k, const std::string &symbol) {
    auto [it, isNew] = costs_.try_emplace(symbol);
    if (isNew) it->second = {flopsOf(k), bytesOf(k)};
    return it->second;
  }

  llvm::Constant *op(const CompiledFunction &f, const Step &s, const std::string &symbol,
                     int64_t firstArg, int64_t pass, const std::string &layer) {
    const Launch &launch = f.program.launches[s.kernel];
    const Kernel &k = launch.kernel;
    const auto &[flops, bytes] = costs(k, symbol);
    ItemFormula items = itemFormula(k);
    int64_t flags = (s.barrierBefore ? NNC_OP_BARRIER : 0) | (s.single ? NNC_OP_SINGLE : 0);
    return record({kernel(symbol), number(items.constant), number(items.perN), number(items.div),
                   number(firstArg), number(int64_t(s.args.size())), number(flags), string(k.name),
                   number(userLine(k.loc)), number(items.times), number(items.add),
                   number(flops.constant), number(flops.perN), number(bytes.constant),
                   number(bytes.perN), string(layer), number(pass)});
  }

  llvm::Constant *inputs(const CompiledFunction &f, int64_t &count) {
    Fields list;
    for (const ir::Param &param : f.program.function->params) {
      if (!param.bind.empty()) continue;
      int32_t index = int32_t(list.size());
      for (BufferId b = 0; b < BufferId(f.program.buffers.size()); ++b) {
        const Buffer &buffer = f.program.buffers[b];
        if (buffer.life != Life::Input || buffer.input != index) continue;
        list.push_back(tensor(f.program.function->values[param.value.i].name, buffer.type,
                              buffer.layout, Life::Input, f.plan.place[b].offset, f.program.batch,
                              NNC_TENSOR_IO));
        break;
      }
    }
    count = int64_t(list.size());
    return array(list, "inputs");
  }

  llvm::Constant *results(const CompiledFunction &f, int64_t &count) {
    Fields list;
    for (const ProgramResult &r : f.program.results) {
      if (r.bind) continue;
      const PlannedArg &at = f.plan.place[r.buffer];
      const Buffer &b = f.program.buffers[r.buffer];
      list.push_back(
          tensor(r.name, b.type, b.layout, at.region, at.offset, f.program.batch, NNC_TENSOR_IO));
    }
    count = int64_t(list.size());
    return array(list, "results");
  }

  // The loops; `advances` gets what moves in them, `most` the arguments of the largest outermost
  // one. `firstArgs` has the number of the first argument of every step, and of all of them at the
  // end.
  llvm::Constant *loops(const CompiledFunction &f, const std::vector<int64_t> &firstArgs,
                        Fields &advances, int64_t &most) {
    Fields list;
    const std::vector<Step> &steps = f.plan.steps;
    for (size_t l = 0; l < f.plan.loops.size(); ++l) {
      const PlannedLoop &loop = f.plan.loops[l];
      int64_t first = int64_t(advances.size());
      for (int32_t s = loop.first; s < loop.end; ++s)
        for (size_t a = 0; a < steps[size_t(s)].args.size(); ++a)
          for (const Advance &move : steps[size_t(s)].args[a].advances)
            if (move.loop == int32_t(l))
              advances.push_back(record({number(firstArgs[size_t(s)] + int64_t(a)),
                                         number(move.even), number(move.odd)}));
      // A barrier before the first step is before the first round, too.
      bool barrier = loop.barrierBefore && !steps[size_t(loop.first)].barrierBefore;
      int64_t flags = (barrier ? NNC_LOOP_BARRIER : 0) | (loop.reverse ? NNC_LOOP_REVERSE : 0);
      list.push_back(
          record({number(loop.first), number(loop.end), number(loop.length), number(first),
                  number(int64_t(advances.size()) - first), number(flags)}));
      most = std::max(most, firstArgs[size_t(loop.end)] - firstArgs[size_t(loop.first)]);
    }
    return array(list, "loops");
  }

  llvm::Constant *function(const CompiledFunction &f, const std::vector<std::string> &symbols,
                           int64_t &loopArgs) {
    Fields ops, args, advances;
    std::vector<int64_t> firstArgs;
    const std::vector<int64_t> passes = passesOf(*tables_.module, f.program);
    const std::vector<std::string> layers = layersOf(*tables_.module, f.program);
    for (const Step &s : f.plan.steps) {
      firstArgs.push_back(int64_t(args.size()));
      ops.push_back(op(f, s, symbols[s.kernel], int64_t(args.size()),
                       passes[size_t(s.kernel)], layers[size_t(s.kernel)]));
      for (const PlannedArg &a : s.args)
        args.push_back(record({number(a.offset), number(regionOf(a.region))}));
    }
    firstArgs.push_back(int64_t(args.size()));
    llvm::Constant *loopTable = loops(f, firstArgs, advances, loopArgs);
    int64_t inputCount, resultCount;
    llvm::Constant *in = inputs(f, inputCount), *out = results(f, resultCount);
    return record({string(f.program.function->name), number(f.program.batch), array(ops, "ops"),
                   number(int64_t(ops.size())), array(args, "args"), number(int64_t(args.size())),
                   in, number(inputCount), out, number(resultCount), loopTable,
                   number(int64_t(f.plan.loops.size())), array(advances, "advances")});
  }

  llvm::Constant *persistents(const PersistentLayout &where, int64_t &count) {
    Fields list;
    for (const ir::Persistent &p : tables_.module->persistents) {
      auto own = where.layouts.find(p.name);
      const Layout &layout = own == where.layouts.end() ? Layout{} : own->second;
      list.push_back(
          tensor(p.name, p.type, layout, Life::Persistent, where.offset.at(p.name), 1, kindOf(p)));
    }
    count = int64_t(list.size());
    return array(list, "tensors");
  }

  std::string metadata(const Plan::Bill &bill) {
    ir::Meta meta = tables_.module->meta, memory = ir::Meta::dict();
    memory["weights"] = bill.weights;
    memory["gradients"] = bill.gradients;
    memory["slots"] = bill.slots;
    memory["activations"] = bill.activations;
    memory["workspace"] = bill.workspace;
    meta["memory"] = memory;
    if (tables_.tuning != "none") meta["tuning"] = tables_.tuning;
    return ir::toJson(meta);
  }

  /// References to the parts of the runtime that the metadata names.
  llvm::Constant *parts(int64_t &count) {
    Fields list;
    const ir::Meta *uses = tables_.module->meta.find("uses");
    const auto *names = uses ? uses->asList() : nullptr;
    for (const ir::Meta &name : names ? *names : ir::Meta::List{}) {
      if (!name.asString()) continue;
      list.push_back(module_.getOrInsertGlobal("nnc_part_" + ir::sanitized(*name.asString()),
                                               llvm::Type::getInt8Ty(context_)));
    }
    count = int64_t(list.size());
    return array(list, "parts");
  }

  // The fields of NncModel: 8 bytes each, `p` a pointer.
  llvm::StructType *modelType() {
    std::vector<llvm::Type *> fields;
    for (char c : std::string_view("npnpnpnnnnnpnpnpnpn"))
      fields.push_back(c == 'p' ? (llvm::Type *)llvm::PointerType::get(context_, 0)
                                : llvm::Type::getInt64Ty(context_));
    return llvm::StructType::get(context_, fields);
  }

  llvm::Constant *model(const VersionTables &v, llvm::Constant *versions, int64_t versionCount) {
    Fields functions;
    int64_t transient = 0, input = 0, scratch = 0, loopArgs = 0, tensorCount, partCount;
    for (size_t i = 0; i < v.version->functions.size(); ++i) {
      const CompiledFunction &f = v.version->functions[i];
      functions.push_back(function(f, v.symbols[i], loopArgs));
      transient = std::max(transient, f.plan.transientBytes);
      input = std::max(input, f.plan.inputBytes);
      scratch = std::max(scratch, f.plan.scratchBytes);
    }
    const std::string meta = metadata(v.bill);
    llvm::Constant *tensors = persistents(v.version->persistent, tensorCount);
    llvm::Constant *partList = parts(partCount);
    const Target &target = v.version->target;
    const std::string level =
        (target.arch == Arch::AArch64 ? "aarch64 " : "") + target.cpu;
    return llvm::ConstantStruct::get(
        modelType(),
        {number(NNC_ABI_VERSION), string(meta), number(int64_t(meta.size())),
         array(functions, "functions"), number(int64_t(functions.size())), tensors,
         number(tensorCount), number(v.version->persistent.bytes), number(transient),
         number(input), number(scratch), constants_, number(target.requiredFeatures),
         string(level), number(loopArgs), partList, number(partCount), versions,
         number(versionCount)});
  }
};

// A change of the contract must be made here, too.
static_assert(sizeof(NncOp) == 17 * 8 && sizeof(NncTensor) == 10 * 8 &&
              sizeof(NncFunction) == 13 * 8);
static_assert(sizeof(NncLoop) == 6 * 8 && sizeof(NncAdvance) == 3 * 8);
static_assert(sizeof(NncModel) == 19 * 8 && sizeof(NncArg) == 2 * 8 && sizeof(NncDim) == 2 * 8);

} // namespace

void emitTables(llvm::Module &m, const ModelTables &t) { TableEmitter(m, t).run(); }

} // namespace nnc::cg
