// The contract between a compiled model and the runtime.
//
// Problem. `nnc` compiles a model to machine code ahead of time; the runtime (data, step loop,
// checkpoints, command line) is compiled once, long before. They meet at link time, in a static
// binary, and must agree on nothing but this file.
//
// Method. Code generation emits one constant object, `nnc_model`, of type NncModel: the step
// programs as tables of operations, the persistent tensors with their layouts, and everything the
// compiler knows but the kernels do not need (data bindings, training configuration, layer tree)
// as one JSON text, the module's metadata. The runtime walks the tables with every thread.
//
//   train_step = [ op 0: kernel k3, 32 items, args {input+0, persistent+4096, transient+0}
//                  op 1: barrier, kernel k7, 300 items, ...                                  ]
//
// The structs are C, fixed-layout, pointers and 64-bit integers only, so that LLVM constants of
// the same field lists are the same bytes (codegen/cpu/module_object.cpp mirrors them).
#ifndef NNC_RUNTIME_ABI_H
#define NNC_RUNTIME_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { NNC_ABI_VERSION = 5 };

// Element types, in the order of ir::DType.
enum NncDType { NNC_F32, NNC_F64, NNC_BF16, NNC_F16, NNC_I64, NNC_I32, NNC_U32, NNC_U8, NNC_BOOL };

// What a kernel may know of the run besides its arguments. `n` is the number of rows in this batch,
// 1 <= n <= NncFunction.batch; `step` counts training steps done before this one, from 0; `seed`
// keys every random draw. Constant while a function runs, but for `iteration`: 0 outside of loops,
// in loop l the iteration of the enclosing loop * l.length + its own, which counts down if
// l.reverse.
struct NncStepEnv {
  int64_t n;
  uint64_t step;
  uint64_t seed;
  char *scratch; // this thread's private scratch, NncModel.scratch_bytes, 64-byte aligned
  uint64_t iteration;
};

// A kernel runs items [begin, end). Items write disjoint bytes and may run in any order, on any
// thread; a kernel never allocates, locks or calls out. `args` are addresses in table order.
typedef void (*NncKernel)(char *const *args, const struct NncStepEnv *env, int64_t begin,
                          int64_t end);

enum NncRegion {
  NNC_PERSISTENT, // parameters, optimizer slots, state, metrics: lives as long as the process
  NNC_TRANSIENT,  // activations and temporaries of one function call
  NNC_INPUT,      // one batch of data, filled by the runtime before the call
  NNC_CONSTANT    // read-only bytes in the object (NncModel.constants)
};

// An argument is an address: region base + offset. Tables hold these; the runtime resolves them
// into plain pointers once per (function, input buffer).
struct NncArg {
  int64_t offset;
  int64_t region; // NncRegion
};

// One operation of a step program. Thread t of T runs items [items*t/T, items*(t+1)/T) with
// items as computed below; a barrier before it if the flag is set.
struct NncOp {
  NncKernel kernel;
  // items = items_const + items_times * ceil((items_per_n * n + items_add) / items_div)
  int64_t items_const;
  int64_t items_per_n;
  int64_t items_div;   // >= 1
  int64_t first_arg;   // index into NncFunction.args
  int64_t arg_count;
  int64_t flags;       // NNC_OP_*
  const char *name;    // kernel name, for profiles and messages
  int64_t line;        // source line of the model the kernel comes from, 0 if none
  int64_t items_times; // items per block of rows (tiles beside each other); 0 stands for 1
  int64_t items_add;
  // For profiles: what it costs on a batch of n rows, const + per_n * n. Operations on
  // floating-point numbers; bytes of the elements it reads, and of those it writes, each once.
  int64_t flops_const, flops_per_n;
  int64_t bytes_const, bytes_per_n;
  const char *layer; // path of the layer whose weights it reads or writes, "" if none
  int64_t pass;      // NNC_PASS_*
};
enum {
  NNC_PASS_FORWARD,  // what the results are computed of
  NNC_PASS_BACKWARD, // derivatives
  NNC_PASS_UPDATE,   // of weights and what optimizers remember
  NNC_PASS_BACKWARD_UPDATE // both in one kernel
};
enum {
  NNC_OP_BARRIER = 1, // all threads meet before this op
  NNC_OP_SINGLE = 2   // thread 0 runs all items (short kernels)
};

// Operations [first_op, end_op) run `length` times. After round r (from 0) arguments move: by
// `even` bytes if r is even, else by `odd`; after the last round they are where they were before
// the loop. So slices follow each other, and two memories take turns. Loops are listed in the order
// of their first operations, outer ones before inner ones; each thread goes through them at its own
// pace, but for the barriers of the operations.
struct NncLoop {
  int64_t first_op, end_op;
  int64_t length;
  int64_t first_advance; // index into NncFunction.advances
  int64_t advance_count;
  int64_t flags; // NNC_LOOP_*
};
enum {
  NNC_LOOP_BARRIER = 1, // all threads meet before the first round
  NNC_LOOP_REVERSE = 2  // round r is iteration length - 1 - r
};
struct NncAdvance {
  int64_t arg; // index into NncFunction.args
  int64_t even, odd;
};

// A dimension a*n + b.
struct NncDim {
  int64_t a, b;
};

// Physical layout: the logical element index (i0, i1, ..) is written as mixed-radix digits, most
// significant first. Digit k takes `size` values of dimension `dim`; the digits of one dimension,
// read in order, spell its index. `size` of a dimension's first digit is already large enough for
// its padding. Row-major f32[K,N] is the digits (0,K)(1,N). digit_count 0 means row-major.
struct NncDigit {
  int64_t dim, size;
};

// A named tensor at a fixed place. Files hold tensors logical and row-major; the runtime converts
// with `digits` (stored dtype = dtype).
struct NncTensor {
  const char *name; // path, e.g. "classifier/dense/kernel", or input/result name
  int64_t dtype;    // NncDType
  int64_t rank;
  const struct NncDim *dims;
  int64_t region; // NncRegion
  int64_t offset;
  int64_t bytes; // allocated at n = N
  int64_t digit_count;
  const struct NncDigit *digits;
  int64_t kind;   // NncTensorKind
};
enum NncTensorKind {
  NNC_TENSOR_IO,     // input or result of a function
  NNC_TENSOR_PARAM,  // trained weight
  NNC_TENSOR_STATE,  // kept and saved, not trained (moving statistics)
  NNC_TENSOR_SLOT,   // optimizer state
  NNC_TENSOR_METRIC, // zeroed at the start of each epoch and evaluation; never saved
  NNC_TENSOR_HOST,   // scalar the runtime may write between steps (learning rate)
  // state of a batch's rows: as after `init` at the start of each pass; never saved
  NNC_TENSOR_ROWS
};

// A step program. Known names: "init" (no inputs; writes initial values), "train_step",
// "eval_step", "predict", "adapt_step", "train_end", "metrics_result" (no inputs; scalars named as
// they are displayed); of a train block that has a name, all but "init" begin with it:
// "auto.train_step".
struct NncFunction {
  const char *name;
  int64_t batch; // N: n may be 1..N; 0 if the function has no batch dimension
  const struct NncOp *ops;
  int64_t op_count;
  const struct NncArg *args;
  int64_t arg_count;
  const struct NncTensor *inputs; // region NNC_INPUT
  int64_t input_count;
  const struct NncTensor *results; // region NNC_TRANSIENT, NNC_PERSISTENT or NNC_INPUT
  int64_t result_count;
  const struct NncLoop *loops;
  int64_t loop_count;
  const struct NncAdvance *advances;
};

// A piece of the runtime that only some models need: a reader with its libraries. A model that
// names it in its metadata ("uses": ["npz"]) refers to the symbol `nnc_part_npz`, and so the linker
// takes it out of the archive.
struct NncPart {
  const char *name;
  void (*function)(void); // of a type that both sides know
};

struct NncModel {
  int64_t abi_version;
  const char *metadata; // JSON, zero-terminated; schema: docs/internals.md "Module metadata"
  int64_t metadata_bytes;
  const struct NncFunction *functions;
  int64_t function_count;
  const struct NncTensor *tensors; // persistent
  int64_t tensor_count;
  int64_t persistent_bytes;
  int64_t transient_bytes; // maximum over functions
  int64_t input_bytes;     // of the inputs, maximum over functions
  int64_t scratch_bytes;   // per thread
  const char *constants;
  int64_t required_features; // NNC_CPU_* the code was compiled for; checked at start
  const char *target;        // the level of processors, e.g. "x86-64-v4", for --about and --mcpu
  int64_t loop_args;         // arguments of the operations of an outermost loop, maximum over all
  const struct NncPart *const *parts;
  int64_t part_count;
  // A portable binary: the same model compiled for several levels of processors, the most demanding
  // first, `nnc_model` among them; else 0. Functions, tensors and metadata agree in all but
  // kernels, layouts, places and sizes.
  const struct NncModel *const *versions;
  int64_t version_count;
};

// What code may need of an x86-64 processor, and of the operating system, which must save the
// registers. The levels are those of the psABI: V3 is AVX2, FMA, F16C, BMI2 and what goes with
// them.
enum {
  NNC_CPU_X86_64_V3 = 1,
  NNC_CPU_X86_64_V4 = 2, // AVX-512 F, BW, CD, DQ, VL
  NNC_CPU_AVX512_BF16 = 4,
  NNC_CPU_AVX512_FP16 = 8,
  NNC_CPU_AMX_BF16 = 16 // AMX-TILE, AMX-BF16, AMX-INT8
};

extern const struct NncModel nnc_model;

#ifdef __cplusplus
}
#endif
#endif
