// See compiled_model.h. The object is loaded with LLVM's in-memory linker; the constants in it are
// those of runtime/abi.h.
#include "tests/compiled_model.h"
#include "codegen/cpu/tile_ops.h"
#include "ir/passes.h"
#include "ir/text.h"
#include "tests/kernel_jit.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <llvm/ExecutionEngine/Orc/LLJIT.h>
#include <llvm/Support/TargetSelect.h>
#include <random>
#include <sstream>
#include <stdexcept>
#include <xmmintrin.h>

namespace nnc::test {

struct CompiledModel::Jit {
  std::unique_ptr<llvm::orc::LLJIT> jit;
};

namespace {

template <class T> T must(llvm::Expected<T> e) {
  if (!e) throw std::runtime_error(llvm::toString(e.takeError()));
  return std::move(*e);
}

float fromHalfBits(uint16_t h) {
  _Float16 f;
  std::memcpy(&f, &h, 2);
  return float(f);
}

ir::Dims dimsOf(const NncTensor &t) {
  ir::Dims dims;
  for (int64_t i = 0; i < t.rank; ++i) dims.push_back({t.dims[i].a, t.dims[i].b});
  return dims;
}

cg::Layout layoutOf(const NncTensor &t) {
  cg::Layout l;
  for (int64_t i = 0; i < t.digit_count; ++i)
    l.digits.push_back({int32_t(t.digits[i].dim), t.digits[i].size});
  return l;
}

// Digits of the index, read from the least significant.
int64_t placeIn(const cg::Layout &l, std::vector<int64_t> index) {
  int64_t place = 0, stride = 1;
  for (size_t i = l.digits.size(); i-- > 0;) {
    if (l.digits[i].dim < 0) { // a gap
      stride *= l.digits[i].size;
      continue;
    }
    int64_t &rest = index[size_t(l.digits[i].dim)];
    place += rest % l.digits[i].size * stride;
    rest /= l.digits[i].size;
    stride *= l.digits[i].size;
  }
  return place;
}

// Calls f(dense index, index in memory) for every element.
template <class F>
void forElements(const std::vector<int64_t> &sizes, const Memory &m, F f) {
  int64_t count = 1;
  for (int64_t s : sizes) count *= s;
  std::vector<int64_t> index(sizes.size());
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i, memory = 0, stride = 1;
    for (size_t d = sizes.size(); d-- > 0;) {
      index[d] = rest % sizes[d];
      memory += index[d] * stride;
      rest /= sizes[d];
      stride *= m.dims[d].at(std::max<int64_t>(m.batch, 1));
    }
    f(i, m.layout.isRowMajor() ? memory : placeIn(m.layout, index));
  }
}

} // namespace

double loadElement(const char *at, int64_t dtype, int64_t i) {
  switch (dtype) {
  case NNC_F32: return reinterpret_cast<const float *>(at)[i];
  case NNC_F64: return reinterpret_cast<const double *>(at)[i];
  case NNC_BF16: {
    uint32_t bits = uint32_t(reinterpret_cast<const uint16_t *>(at)[i]) << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
  }
  case NNC_F16: return fromHalfBits(reinterpret_cast<const uint16_t *>(at)[i]);
  case NNC_I64: return double(reinterpret_cast<const int64_t *>(at)[i]);
  case NNC_I32: return reinterpret_cast<const int32_t *>(at)[i];
  case NNC_U32: return reinterpret_cast<const uint32_t *>(at)[i];
  default: return reinterpret_cast<const uint8_t *>(at)[i];
  }
}

void storeElement(char *at, int64_t dtype, int64_t i, double v) {
  switch (dtype) {
  case NNC_F32: reinterpret_cast<float *>(at)[i] = float(v); return;
  case NNC_F64: reinterpret_cast<double *>(at)[i] = v; return;
  case NNC_BF16: {
    float f = float(v);
    uint32_t bits;
    std::memcpy(&bits, &f, 4);
    reinterpret_cast<uint16_t *>(at)[i] = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    return;
  }
  case NNC_F16: {
    _Float16 h = _Float16(float(v));
    std::memcpy(at + 2 * i, &h, 2);
    return;
  }
  case NNC_I64: reinterpret_cast<int64_t *>(at)[i] = int64_t(v); return;
  case NNC_I32: reinterpret_cast<int32_t *>(at)[i] = int32_t(v); return;
  case NNC_U32: reinterpret_cast<uint32_t *>(at)[i] = uint32_t(v); return;
  default: reinterpret_cast<uint8_t *>(at)[i] = uint8_t(v); return;
  }
}

ir::Tensor readTensor(const char *at, const Memory &m, int64_t n) {
  ir::Tensor r;
  r.dtype = m.dtype;
  for (ir::Dim d : m.dims) r.dims.push_back(d.at(n));
  r.data.resize(size_t(ir::elementCount(m.dims, n)));
  forElements(r.dims, m, [&](int64_t i, int64_t k) {
    r.data[size_t(i)] = loadElement(at, int64_t(m.dtype), k);
  });
  return r;
}

void writeTensor(char *at, const Memory &m, const ir::Tensor &value) {
  forElements(value.dims, m, [&](int64_t i, int64_t k) {
    storeElement(at, int64_t(m.dtype), k, value.data[size_t(i)]);
  });
}

static Memory memoryOf(const NncTensor &t, int64_t batch) {
  return {ir::DType(t.dtype), dimsOf(t), layoutOf(t), batch};
}

CompiledModel::CompiledModel(const ir::Module &m, const cg::CodegenOptions &o) {
  compiled_ = cg::compile(m, o, cg::Emit::Object);
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  if (o.target.amx && !cg::emulatesTiles(o.target)) askForTiles();
  jit_ = std::make_unique<Jit>();
  jit_->jit = must(llvm::orc::LLJITBuilder().create());
  auto object = llvm::MemoryBuffer::getMemBufferCopy(compiled_->object, "model.o");
  if (auto e = jit_->jit->addObjectFile(std::move(object)))
    throw std::runtime_error(toString(std::move(e)));
  model_ = must(jit_->jit->lookup("nnc_model")).toPtr<const NncModel *>();
  persistent_.assign(size_t(model_->persistent_bytes) + 64, 0);
  transient_.assign(size_t(model_->transient_bytes) + 64, 0);
  input_.assign(size_t(model_->input_bytes) + 64, 0);
}

CompiledModel::~CompiledModel() = default;

static const NncTensor *find(const NncModel &m, std::string_view name) {
  for (int64_t i = 0; i < m.tensor_count; ++i)
    if (name == m.tensors[i].name) return &m.tensors[i];
  throw std::runtime_error("no persistent value " + std::string(name));
}

ir::Tensor CompiledModel::persistent(std::string_view name) const {
  const NncTensor *t = find(*model_, name);
  return readTensor(base(persistent_) + t->offset, memoryOf(*t, 0), 0);
}

void CompiledModel::setPersistent(std::string_view name, const ir::Tensor &value) {
  const NncTensor *t = find(*model_, name);
  writeTensor(base(persistent_) + t->offset, memoryOf(*t, 0), value);
}

// The operations between two barriers, shared out to the virtual threads.
void CompiledModel::runPhase(const NncFunction &f, const std::vector<OpRun> &ops, int64_t n) {
  struct Work {
    const OpRun *run;
    int64_t begin, end;
  };
  std::vector<std::vector<Work>> threads(size_t(options.threads));
  for (const OpRun &run : ops) {
    const NncOp &op = f.ops[run.op];
    int64_t blocks = (op.items_per_n * n + op.items_add + op.items_div - 1) / op.items_div;
    int64_t items = op.items_const + (op.items_times ? op.items_times : 1) * blocks;
    for (int64_t t = 0; t < options.threads; ++t) {
      int64_t b = items * t / options.threads, e = items * (t + 1) / options.threads;
      if (op.flags & NNC_OP_SINGLE) b = 0, e = t == 0 ? items : 0;
      if (options.order == ItemOrder::forward) {
        if (b < e) threads[t].push_back({&run, b, e});
      } else {
        for (int64_t k = b; k < e; ++k) {
          int64_t item = options.order == ItemOrder::reversed ? e - 1 - (k - b) : k;
          threads[t].push_back({&run, item, item + 1});
        }
      }
    }
  }
  std::vector<std::vector<char>> scratch(threads.size());
  for (auto &s : scratch) s.assign(size_t(model_->scratch_bytes) + 64, char(0xff));
  std::mt19937_64 random(options.shuffleSeed);
  std::vector<size_t> at(threads.size(), 0);
  for (bool more = true; more;) {
    more = false;
    std::vector<size_t> ready;
    for (size_t t = 0; t < threads.size(); ++t)
      if (at[t] < threads[t].size()) ready.push_back(t);
    if (ready.empty()) break;
    more = true;
    size_t t = options.order == ItemOrder::shuffled ? ready[random() % ready.size()]
               : options.order == ItemOrder::reversed ? ready.back()
                                                      : ready.front();
    const Work &w = threads[t][at[t]++];
    NncStepEnv env{n, step, seed, base(scratch[t]), w.run->iteration};
    f.ops[w.run->op].kernel(w.run->args.data(), &env, w.begin, w.end);
  }
}

// Appends the operations [first, end) to `list`, loops unrolled; `args` are all arguments as they
// are now.
static void unroll(const NncFunction &f, int64_t first, int64_t end, int64_t loop,
                   uint64_t iteration, std::vector<char *> &args,
                   std::vector<CompiledModel::OpRun> &list) {
  for (int64_t i = first; i < end;) {
    while (loop < f.loop_count && f.loops[loop].first_op < i) ++loop;
    if (loop == f.loop_count || f.loops[loop].first_op != i) {
      const NncOp &op = f.ops[i];
      char **from = args.data() + op.first_arg;
      list.push_back({i, (op.flags & NNC_OP_BARRIER) != 0, iteration, {from, from + op.arg_count}});
      ++i;
      continue;
    }
    const NncLoop &l = f.loops[loop];
    const std::vector<char *> saved = args;
    for (int64_t r = 0; r < l.length; ++r) {
      uint64_t t = uint64_t(l.flags & NNC_LOOP_REVERSE ? l.length - 1 - r : r);
      size_t begin = list.size();
      unroll(f, l.first_op, l.end_op, loop + 1, iteration * uint64_t(l.length) + t, args, list);
      if (r == 0 && (l.flags & NNC_LOOP_BARRIER)) list[begin].barrier = true;
      for (int64_t a = 0; a < l.advance_count; ++a) {
        const NncAdvance &move = f.advances[l.first_advance + a];
        args[size_t(move.arg)] += r % 2 ? move.odd : move.even;
      }
    }
    args = saved;
    i = l.end_op;
  }
}

void CompiledModel::walk(const NncFunction &f, int64_t n) {
  char *bases[4] = {base(persistent_), base(transient_), base(input_),
                    const_cast<char *>(model_->constants)};
  std::vector<char *> args;
  for (int64_t i = 0; i < f.arg_count; ++i)
    args.push_back(bases[f.args[i].region] + f.args[i].offset);
  std::vector<OpRun> runs;
  unroll(f, 0, f.op_count, 0, 0, args, runs);
  unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040); // flush subnormals, as the runtime does
  std::vector<OpRun> phase;
  for (size_t i = 0; i <= runs.size(); ++i) {
    bool barrier = i == runs.size() || runs[i].barrier || before || after;
    if (barrier && !phase.empty()) {
      if (before) before(f, phase.back(), n);
      runPhase(f, phase, n);
      if (after) after(f, phase.back(), n);
      phase.clear();
    }
    if (i < runs.size()) phase.push_back(runs[i]);
  }
  _mm_setcsr(mode);
}

std::vector<ir::Tensor> CompiledModel::run(std::string_view name,
                                           const std::vector<ir::Tensor> &inputs) {
  const NncFunction *f = nullptr;
  for (int64_t i = 0; i < model_->function_count; ++i)
    if (name == model_->functions[i].name) f = &model_->functions[i];
  if (!f) throw std::runtime_error("no function " + std::string(name));
  if (int64_t(inputs.size()) != f->input_count) throw std::runtime_error("wrong number of inputs");
  int64_t n = f->batch;
  for (int64_t i = 0; i < f->input_count; ++i)
    for (int64_t d = 0; d < f->inputs[i].rank; ++d)
      if (f->inputs[i].dims[d].a == 1 && f->inputs[i].dims[d].b == 0)
        n = inputs[size_t(i)].dims[size_t(d)];
  if (options.poison) std::fill(transient_.begin(), transient_.end(), char(0xff));
  if (options.poison) std::fill(input_.begin(), input_.end(), char(0xff));
  for (int64_t i = 0; i < f->input_count; ++i)
    writeTensor(base(input_) + f->inputs[i].offset, memoryOf(f->inputs[i], f->batch),
                inputs[size_t(i)]);
  walk(*f, n);
  std::vector<ir::Tensor> out;
  char *bases[4] = {base(persistent_), base(transient_), base(input_),
                    const_cast<char *>(model_->constants)};
  for (int64_t i = 0; i < f->result_count; ++i)
    out.push_back(readTensor(bases[f->results[i].region] + f->results[i].offset,
                             memoryOf(f->results[i], f->batch), n));
  return out;
}

std::unique_ptr<ir::Module> loadModule(const std::string &name) {
  std::ifstream in(std::string(NNC_SOURCE_DIR) + "/tests/ir/" + name + ".ir");
  std::stringstream text;
  text << in.rdbuf();
  ir::TextError error;
  auto m = ir::parseModule(text.str(), error);
  if (!m) throw std::runtime_error(name + ": " + std::to_string(error.line) + ": " + error.message);
  ir::PipelineOptions o;
  o.verifyEach = true;
  ir::runGradient(*m, o);
  ir::runOptimize(*m, o);
  return m;
}

std::vector<ir::Tensor> randomInputs(const ir::Function &f, int64_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> unit(-1, 1);
  std::vector<ir::Tensor> inputs;
  for (const ir::Param &p : f.params) {
    if (!p.bind.empty()) continue;
    const ir::Type &t = f.type(p.value);
    ir::Tensor x;
    x.dtype = t.dtype;
    for (ir::Dim d : t.dims) x.dims.push_back(d.at(n));
    x.data.resize(size_t(ir::elementCount(t.dims, n)));
    for (double &v : x.data)
      v = ir::isFloat(t.dtype)
              ? double(float(unit(random)))
              : double(random() % (t.dtype == ir::DType::u8 && t.rank() > 1 ? 256 : 3));
    inputs.push_back(std::move(x));
  }
  return inputs;
}

} // namespace nnc::test
