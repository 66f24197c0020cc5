// The step loop: see program.h.
#include "runtime/program.h"

#include "runtime/profile.h"
#include "runtime/random.h"
#include "runtime/threads.h"

#include <stdio.h>
#include <sys/mman.h>
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
  return {run.n, p.step, p.options.seed, p.scratch + p.scratch_stride * thread, 0};
}

// The first loop behind all those inside of `loop`.
int64_t next_loop(const NncFunction &f, int64_t loop) {
  int64_t next = loop + 1;
  while (next < f.loop_count && f.loops[next].first_op < f.loops[loop].end_op) next++;
  return next;
}

// How far an argument moves after round `round`, and in `rounds` rounds.
int64_t move_after(const NncAdvance &a, int64_t round) { return round & 1 ? a.odd : a.even; }
int64_t move_in(const NncAdvance &a, int64_t rounds) {
  return rounds / 2 * (a.even + a.odd) + rounds % 2 * a.even;
}

// Goes through operations [first, end), of which `loop` is the first loop, and calls
// visit(op, its arguments, iteration), and enter() where all threads meet before a loop. `moving`
// are the arguments from number `base` on that the loops around move; null outside of loops: then
// they are copied there, to `room`.
template <class Visitor>
void go_through(const Run &run, Visitor &visitor, int64_t first, int64_t end, int64_t loop,
                uint64_t iteration, char **moving, int64_t base, char **room) {
  const NncFunction &f = *run.function;
  for (int64_t i = first; i < end;) {
    if (loop == f.loop_count || f.loops[loop].first_op != i) {
      const NncOp &op = f.ops[i++];
      char *const *args = moving ? moving + (op.first_arg - base) : run.arguments + op.first_arg;
      visitor.visit(op, args, iteration);
      continue;
    }
    const NncLoop &l = f.loops[loop];
    if (l.flags & NNC_LOOP_BARRIER) visitor.enter();
    char **mine = moving;
    int64_t mine_from = base;
    if (!moving) {
      const NncOp &last = f.ops[l.end_op - 1];
      mine_from = f.ops[l.first_op].first_arg;
      mine = room;
      memcpy(mine, run.arguments + mine_from,
             size_t(last.first_arg + last.arg_count - mine_from) * sizeof(char *));
    }
    const NncAdvance *advances = f.advances + l.first_advance;
    for (int64_t r = 0; r < l.length; r++) {
      int64_t at = l.flags & NNC_LOOP_REVERSE ? l.length - 1 - r : r;
      go_through(run, visitor, l.first_op, l.end_op, loop + 1,
                 iteration * uint64_t(l.length) + uint64_t(at), mine, mine_from, room);
      for (int64_t a = 0; a < l.advance_count; a++)
        mine[advances[a].arg - mine_from] += move_after(advances[a], r);
    }
    for (int64_t a = 0; a < l.advance_count; a++)
      mine[advances[a].arg - mine_from] -= move_in(advances[a], l.length);
    i = l.end_op;
    loop = next_loop(f, loop);
  }
}

template <class Visitor> void go_through(const Run &run, Visitor &visitor, char **room) {
  go_through(run, visitor, 0, run.function->op_count, 0, 0, nullptr, 0, room);
}

// One thread's way through a step.
struct Walker {
  const Run &run;
  int thread, threads;
  NncStepEnv env;

  void enter() {
    if (threads > 1) barrier();
  }
  bool meets(const NncOp &op) const { return (op.flags & NNC_OP_BARRIER) && threads > 1; }
  void visit(const NncOp &op, char *const *args, uint64_t iteration) {
    if (meets(op)) barrier();
    work(op, args, iteration);
  }
  void work(const NncOp &op, char *const *args, uint64_t iteration) {
    int64_t items = item_count(op, run.n), begin = 0, end = items;
    if (op.flags & NNC_OP_SINGLE) {
      if (thread != 0) return;
    } else {
      begin = items * thread / threads;
      end = items * (thread + 1) / threads;
    }
    env.iteration = iteration;
    if (begin < end) op.kernel(args, &env, begin, end);
  }
};

char **room_of(const Run &run, int thread) {
  const Program &p = *run.program;
  return reinterpret_cast<char **>(p.scratch + p.scratch_stride * thread + p.scratch_bytes);
}

void walk(void *context, int thread, int threads) {
  const Run &run = *static_cast<Run *>(context);
  if (run.prologue) {
    run.prologue->work(run.prologue->context, thread, threads);
    if (threads > 1) barrier();
  }
  Walker walker{run, thread, threads, environment(run, thread)};
  go_through(run, walker, room_of(run, thread));
}

// The same with a look at the clock after everything.
struct TimedWalker {
  Walker walker;
  OpTimes *times;
  Events &events;
  uint64_t before;     // the last look
  uint64_t waited = 0; // before a loop

  uint64_t lap(const NncOp *op, bool waits) {
    uint64_t now = ticks(), passed = now - before;
    if (events.ring) note_event(events, {before, now, walker.run.function, op, waits});
    before = now;
    return passed;
  }
  void enter() {
    walker.enter();
    uint64_t now = ticks();
    waited += now - before;
    before = now;
  }
  void visit(const NncOp &op, char *const *args, uint64_t iteration) {
    OpTimes &t = times[&op - walker.run.function->ops];
    if (walker.meets(op)) {
      barrier();
      t.waited += lap(&op, true);
    }
    t.waited += waited;
    waited = 0;
    walker.work(op, args, iteration);
    t.busy += lap(&op, false);
    t.rounds++;
  }
};

void walk_timed(void *context, int thread, int threads) {
  const Run &run = *static_cast<Run *>(context);
  Profile &profile = *run.program->profile;
  TimedWalker timed{{run, thread, threads, environment(run, thread)},
                    profile.of(thread),
                    profile.events[thread],
                    ticks()};
  memset(timed.times, 0, size_t(run.function->op_count) * sizeof(OpTimes));
  profile.filling(thread) = 0;
  if (thread == 0) profile.used = threads;
  if (run.prologue) {
    run.prologue->work(run.prologue->context, thread, threads);
    if (threads > 1) barrier();
    profile.filling(thread) = timed.lap(nullptr, false);
  }
  go_through(run, timed, room_of(run, thread));
}

// --- the checking orders -------------------------------------------------------------------------

// An operation in one iteration of the loops around it.
struct Instance {
  const NncOp *op;
  uint64_t iteration;
  size_t first_arg; // in `Segment::args`
};

// Where one virtual thread stands between two barriers.
struct Cursor {
  size_t instance;
  int64_t item, end;
};

// The operations between two barriers, with loops unrolled.
struct Segment {
  const Run &run;
  int threads;
  Array<Instance> instances;
  Array<char *> args;

  // The next operation at or after `from` in which `thread` has items.
  Cursor enter(size_t from, int thread) const {
    for (; from < instances.count; from++) {
      const NncOp &o = *instances[from].op;
      int64_t items = item_count(o, run.n);
      Cursor cursor{from, items * thread / threads, items * (thread + 1) / threads};
      if (o.flags & NNC_OP_SINGLE) cursor = {from, 0, thread == 0 ? items : 0};
      if (cursor.item < cursor.end) return cursor;
    }
    return {from, 0, 0};
  }

  void one_item(Cursor &cursor, int thread, bool reversed) const {
    const Instance &instance = instances[cursor.instance];
    NncStepEnv env = environment(run, thread);
    env.iteration = instance.iteration;
    int64_t item = reversed ? --cursor.end : cursor.item++;
    instance.op->kernel(args.data + instance.first_arg, &env, item, item + 1);
    if (cursor.item == cursor.end) cursor = enter(cursor.instance + 1, thread);
  }
};

// Runs one segment item by item, in the order asked for.
void run_segment(const Segment &segment, Order order, uint64_t &random) {
  Array<Cursor> cursors;
  Array<int> live; // virtual threads with items left
  for (int t = 0; t < segment.threads; t++) {
    Cursor cursor = segment.enter(0, t);
    cursors.push(cursor);
    if (cursor.instance < segment.instances.count) live.push(t);
  }
  while (live.count) {
    size_t pick = live.count - 1;
    if (order == Order::Shuffled) pick = size_t(below(mix(random++), live.count));
    int thread = live[pick];
    segment.one_item(cursors[size_t(thread)], thread, order == Order::Reversed);
    if (cursors[size_t(thread)].instance >= segment.instances.count)
      live[pick] = live[--live.count];
  }
}

// Collects segments and runs each one when the next begins.
struct Checker {
  Segment segment;
  Order order;
  uint64_t random;

  void enter() {
    run_segment(segment, order, random);
    segment.instances.count = segment.args.count = 0;
  }
  void visit(const NncOp &op, char *const *args, uint64_t iteration) {
    if (op.flags & NNC_OP_BARRIER) enter();
    segment.instances.push({&op, iteration, segment.args.count});
    for (int64_t a = 0; a < op.arg_count; a++) segment.args.push(args[a]);
  }
};

void walk_checking(void *context, int, int) {
  Run &run = *static_cast<Run *>(context);
  if (run.prologue) run.prologue->work(run.prologue->context, 0, 1);
  const ProgramOptions &options = run.program->options;
  uint64_t random = mix(options.order_seed) + run.program->step * 0x10001;
  Checker checker{{run, options.threads, {}, {}}, options.order, random};
  go_through(run, checker, room_of(run, 0));
  checker.enter();
}

double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

void try_both(Trial &trial, Run &job, Work way) {
  bool alone = trial.next_alone();
  double cpu = thread_seconds(), started = now_seconds();
  if (alone)
    run_alone(way, &job);
  else
    run_on_threads(way, &job);
  double now = now_seconds();
  trial.record(now - started, thread_seconds() - cpu, now);
}

void run_at_pace(Pace &pace, Run &job, Work way, bool whole) {
  double started = now_seconds();
  if (pace.alone)
    run_alone(way, &job);
  else
    run_on_threads(way, &job);
  if (whole) pace.record(now_seconds() - started);
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

void Pace::record(double seconds) {
  if (!alone && (fastest == 0 || seconds < fastest)) fastest = seconds;
  spent += seconds;
  if (++runs < Least || spent < Window) return;
  double now = spent / runs;
  spent = 0, runs = 0;
  if (stay > 0) {
    if (--stay == 0) alone = false;
    return;
  }
  if (!alone) {
    average = now;
    alone = now > Slow * fastest;
    if (!alone) length = 0;
    return;
  }
  // The window that tried one thread. Whichever way lost is not tried again soon.
  alone = now < average;
  length = length ? length * 2 : 4;
  if (length > Longest) length = Longest;
  stay = length;
}

int64_t item_count(const NncOp &op, int64_t n) {
  int64_t blocks = (op.items_per_n * n + op.items_add + op.items_div - 1) / op.items_div;
  return op.items_const + (op.items_times ? op.items_times : 1) * blocks;
}

Program start_program(const NncModel &model, const ProgramOptions &options) {
  if (model.abi_version != NNC_ABI_VERSION)
    fail("the model was compiled for runtime interface %lld, this runtime has %d",
         static_cast<long long>(model.abi_version), NNC_ABI_VERSION);
  Program program;
  program.model = &model;
  program.options = options;
  int64_t persistent = round_up(model.persistent_bytes, Line);
  int64_t transient = round_up(model.transient_bytes, Line);
  int64_t input = round_up(model.input_bytes, Line);
  // Two lines between the scratch of neighbours: the prefetcher pulls lines in pairs.
  program.scratch_bytes = round_up(model.scratch_bytes, int64_t(sizeof(char *)));
  program.scratch_stride =
      round_up(program.scratch_bytes + model.loop_args * int64_t(sizeof(char *)), 2 * Line);
  char *memory = reserve(persistent + transient + input + program.scratch_stride * options.threads);
  program.persistent = memory;
  program.transient = program.persistent + persistent;
  program.input = program.transient + transient;
  program.scratch = program.input + input;
  program.arguments.resize(size_t(model.function_count));
  program.trials.resize(size_t(model.function_count));
  program.paces.resize(size_t(model.function_count));
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
  bool whole = n == function.batch || !function.batch;
  bool measures = options.adaptive && !trial.over() && whole;
  Pace &pace = paces[size_t(&function - model->functions)];
  Work way = profile ? walk_timed : walk;
  uint64_t began = profile ? ticks() : 0;
  if (measures)
    try_both(trial, job, way);
  else if (trial.alone || thread_count() == 1)
    run_alone(way, &job);
  else
    run_at_pace(pace, job, way, whole);
  if (profile) add_call(*profile, function, n, ticks() - began);
}

} // namespace rt
