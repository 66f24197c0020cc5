// The step loop: see program.h.
#include "runtime/program.h"

#include "runtime/random.h"
#include "runtime/threads.h"

#include <cpuid.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace rt {

namespace {

constexpr int64_t Line = 64, HugePage = int64_t{2} << 20;

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

char *reserve(int64_t bytes) {
  bool huge = bytes >= HugePage;
  size_t size = size_t(round_up(bytes ? bytes : 1, HugePage) + (huge ? HugePage : 0));
  void *memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    fail("out of memory: the model needs %.1f MiB", double(bytes) / (1 << 20));
  if (!huge) return static_cast<char *>(memory);
  uintptr_t aligned = uintptr_t(round_up(int64_t(reinterpret_cast<uintptr_t>(memory)), HugePage));
  madvise(reinterpret_cast<void *>(aligned), size_t(round_up(bytes, HugePage)), MADV_HUGEPAGE);
  return reinterpret_cast<char *>(aligned);
}

// The state that the operating system saves for a thread: bits 1-2 vectors, 5-7 AVX-512, 17-18 AMX.
uint64_t saved_state() {
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

int64_t cpu_features() {
  unsigned a, b, c, d, b7, c7, d7, a71 = 0, unused;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
  if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
  if (a >= 1) __get_cpuid_count(7, 1, &a71, &unused, &unused, &unused);
  uint64_t state = saved_state();
  int64_t features = 0;
  if ((state & 6) == 6 && (c & bit_FMA) && (b7 & bit_AVX2)) features |= NNC_CPU_AVX2_FMA;
  constexpr unsigned v4 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL | bit_AVX512CD;
  if ((state & 0xE6) == 0xE6 && (b7 & v4) == v4) {
    features |= NNC_CPU_AVX512;
    if (a71 >> 5 & 1) features |= NNC_CPU_AVX512_BF16;
  }
  if ((state >> 17 & 3) == 3 && (d7 >> 22 & 1) && (d7 >> 24 & 1)) features |= NNC_CPU_AMX_BF16;
  return features;
}

void check_cpu(const NncModel &model) {
  int64_t missing = model.required_features & ~cpu_features();
  if (missing) {
    const char *name = missing & NNC_CPU_AVX2_FMA      ? "AVX2 and FMA"
                       : missing & NNC_CPU_AVX512      ? "AVX-512"
                       : missing & NNC_CPU_AVX512_BF16 ? "AVX512-BF16"
                                                       : "AMX-BF16";
    fail("this binary was compiled for `%s`: this CPU lacks %s (compile the model again with a "
         "smaller --mcpu)",
         model.target, name);
  }
  // Tile registers are off until a process asks for them.
  constexpr int RequestStatePermission = 0x1023, TileData = 18;
  if (model.required_features & NNC_CPU_AMX_BF16)
    if (syscall(SYS_arch_prctl, RequestStatePermission, TileData) != 0)
      fail("the operating system does not grant the AMX tile registers");
}

// What all threads see of one run.
struct Run {
  Program *program;
  const NncFunction *function;
  char *const *arguments;
  const Prologue *prologue;
  int64_t n;
};

NncStepEnv environment(const Run &run, int thread) {
  const Program &p = *run.program;
  return {run.n, p.step, p.options.seed, p.scratch + p.scratch_stride * thread};
}

void walk(void *context, int thread, int threads) {
  const Run &run = *static_cast<Run *>(context);
  if (run.prologue) {
    run.prologue->work(run.prologue->context, thread, threads);
    if (threads > 1) barrier();
  }
  NncStepEnv env = environment(run, thread);
  for (int64_t i = 0; i < run.function->op_count; i++) {
    const NncOp &op = run.function->ops[i];
    if ((op.flags & NNC_OP_BARRIER) && threads > 1) barrier();
    int64_t items = item_count(op, run.n), begin = 0, end = items;
    if (op.flags & NNC_OP_SINGLE) {
      if (thread != 0) continue;
    } else {
      begin = items * thread / threads;
      end = items * (thread + 1) / threads;
    }
    if (begin < end) op.kernel(run.arguments + op.first_arg, &env, begin, end);
  }
}

// --- the checking orders -------------------------------------------------------------------------

// Where one virtual thread stands between two barriers.
struct Cursor {
  int64_t op, item, end;
};

struct Segment {
  const Run &run;
  int64_t first, last; // operations
  int threads;

  // The next operation at or after `op` in which `thread` has items.
  Cursor enter(int64_t op, int thread) const {
    for (; op < last; op++) {
      const NncOp &o = run.function->ops[op];
      int64_t items = item_count(o, run.n);
      Cursor cursor{op, items * thread / threads, items * (thread + 1) / threads};
      if (o.flags & NNC_OP_SINGLE) cursor = {op, 0, thread == 0 ? items : 0};
      if (cursor.item < cursor.end) return cursor;
    }
    return {last, 0, 0};
  }

  void one_item(Cursor &cursor, int thread, bool reversed) const {
    const NncOp &op = run.function->ops[cursor.op];
    NncStepEnv env = environment(run, thread);
    int64_t item = reversed ? --cursor.end : cursor.item++;
    op.kernel(run.arguments + op.first_arg, &env, item, item + 1);
    if (cursor.item == cursor.end) cursor = enter(cursor.op + 1, thread);
  }
};

// Runs one segment item by item, in the order asked for.
void run_segment(const Segment &segment, Order order, uint64_t &random) {
  Array<Cursor> cursors;
  Array<int> live; // virtual threads with items left
  for (int t = 0; t < segment.threads; t++) {
    Cursor cursor = segment.enter(segment.first, t);
    cursors.push(cursor);
    if (cursor.op < segment.last) live.push(t);
  }
  while (live.count) {
    size_t pick = live.count - 1;
    if (order == Order::Shuffled) pick = size_t(below(mix(random++), live.count));
    int thread = live[pick];
    segment.one_item(cursors[size_t(thread)], thread, order == Order::Reversed);
    if (cursors[size_t(thread)].op >= segment.last) live[pick] = live[--live.count];
  }
}

void walk_checking(void *context, int, int) {
  Run &run = *static_cast<Run *>(context);
  if (run.prologue) run.prologue->work(run.prologue->context, 0, 1);
  const ProgramOptions &options = run.program->options;
  uint64_t random = mix(options.order_seed) + run.program->step * 0x10001;
  int64_t count = run.function->op_count;
  for (int64_t first = 0; first < count;) {
    int64_t last = first + 1;
    while (last < count && !(run.function->ops[last].flags & NNC_OP_BARRIER)) last++;
    run_segment({run, first, last, options.threads}, options.order, random);
    first = last;
  }
}

double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

void try_both(Trial &trial, Run &job) {
  bool alone = trial.next_alone();
  double cpu = thread_seconds(), started = now_seconds();
  if (alone)
    run_alone(walk, &job);
  else
    run_on_threads(walk, &job);
  double now = now_seconds();
  trial.record(now - started, thread_seconds() - cpu, now);
}

} // namespace

// Cold caches need no attention: they only make a run slower, and the fastest one counts.
void Trial::record(double seconds, double cpu, double now) {
  bool was_alone = next_alone();
  spent += seconds;
  double &best = fastest[was_alone];
  if (best == 0 || seconds < best) best = seconds;
  if (!was_alone && (busy == 0 || cpu < busy)) busy = cpu;
  runs++;
  bool is_long = runs == Warm && busy > Long;
  bool hopeless = was_alone && seconds > Noticeable && seconds > 4 * fastest[0];
  if (is_long || hopeless) runs = Runs;
  if (!over()) return;
  alone = fastest[1] > 0 && fastest[1] < fastest[0];
  again = now + 100 * spent;
}

int64_t item_count(const NncOp &op, int64_t n) {
  int64_t blocks = (op.items_per_n * n + op.items_add + op.items_div - 1) / op.items_div;
  return op.items_const + (op.items_times ? op.items_times : 1) * blocks;
}

Program start_program(const NncModel &model, const ProgramOptions &options) {
  if (model.abi_version != NNC_ABI_VERSION)
    fail("the model was compiled for runtime interface %lld, this runtime has %d",
         static_cast<long long>(model.abi_version), NNC_ABI_VERSION);
  check_cpu(model);
  Program program;
  program.model = &model;
  program.options = options;
  int64_t persistent = round_up(model.persistent_bytes, Line);
  int64_t transient = round_up(model.transient_bytes, Line);
  int64_t input = round_up(model.input_bytes, Line);
  // Two lines between the scratch of neighbours: the prefetcher pulls lines in pairs.
  program.scratch_stride = round_up(model.scratch_bytes, 2 * Line);
  char *memory = reserve(persistent + transient + input + program.scratch_stride * options.threads);
  program.persistent = memory;
  program.transient = program.persistent + persistent;
  program.input = program.transient + transient;
  program.scratch = program.input + input;
  program.arguments.resize(size_t(model.function_count));
  program.trials.resize(size_t(model.function_count));
  start_threads(options.order == Order::Forward ? options.threads : 1);
  return program;
}

const NncFunction *Program::find(const char *name) const {
  for (int64_t i = 0; i < model->function_count; i++)
    if (same(model->functions[i].name, name)) return &model->functions[i];
  return nullptr;
}

char *Program::address(int64_t region, int64_t offset) const {
  switch (region) {
  case NNC_PERSISTENT: return persistent + offset;
  case NNC_TRANSIENT: return transient + offset;
  case NNC_INPUT: return input + offset;
  default: return const_cast<char *>(model->constants) + offset; // read only
  }
}

void Program::run(const NncFunction &function, int64_t n, const Prologue *prologue) {
  char **&resolved = arguments[size_t(&function - model->functions)];
  if (!resolved) {
    resolved = static_cast<char **>(arena_allocate(size_t(function.arg_count) * sizeof(char *)));
    for (int64_t i = 0; i < function.arg_count; i++)
      resolved[i] = address(function.args[i].region, function.args[i].offset);
  }
  Run job{this, &function, resolved, prologue, n};
  if (options.order != Order::Forward) return run_alone(walk_checking, &job);
  Trial &trial = trials[size_t(&function - model->functions)];
  bool ripe = trial.over() && ++trial.since % 64 == 0 && now_seconds() > trial.again;
  if (ripe) trial = Trial{};
  bool measures = options.adaptive && !trial.over() && (n == function.batch || !function.batch);
  if (measures) return try_both(trial, job);
  if (trial.alone)
    run_alone(walk, &job);
  else
    run_on_threads(walk, &job);
}

} // namespace rt
