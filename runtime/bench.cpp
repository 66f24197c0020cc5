// The `bench` command: how long a training step takes, apart from files, progress and logs.
//
//   $ ./model bench --steps 100 --threads 1
//   {"steps": 100, "seconds": 0.0143, "fastest": 0.000139, "threads": 1, "loss": 0.693147182}
//
// Problem. To compare two programs on a busy machine their steps have to alternate, and what is
// compared should be steps alone; a run of `train` has reading, validating and saving around them.
//
// Method. Data and weights are those of `train`, but nothing is written. Steps take the rows in
// order, in full batches, round and round. With --requests each line of standard input is a number
// of steps and is answered by a line, so that another program says when to run how many; the first
// step asked for is the first one made. Without, steps that nobody counts come first.
#include "runtime/session.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

namespace rt {

namespace {

// The time to aim at where no number of steps is given, and for steps that are not counted.
constexpr double Seconds = 1, WarmSeconds = 0.5;
// A trial of threads takes 16 steps (program.h), then memory and caches are as they stay.
constexpr int64_t WarmSteps = 20;

struct Block {
  int64_t steps = 0;
  double seconds = 0, fastest = INFINITY;

  void print(Session &s) const {
    printf("{\"steps\": %lld, \"seconds\": %.9g, \"fastest\": %.9g, \"threads\": %d",
           static_cast<long long>(steps), seconds, fastest, s.program.options.threads);
    for (const Metric &m : read_metrics(s, ""))
      printf(isfinite(m.value) ? ", \"%s\": %.9g" : ", \"%s\": null", m.name, m.value);
    puts("}");
    fflush(stdout);
  }
};

struct Bench {
  Session &session;
  Feed &feed;
  int64_t rows, next = 0; // the first row of the next step

  void step() {
    int64_t n = feed.slots.count && rows < feed.batch ? rows : feed.batch;
    if (next + n > rows) next = 0;
    feed.run({nullptr, next, n, rows});
    session.program.step++;
    next += n;
  }

  // Up to `steps` steps or, if it is not negative, `seconds`; at least one.
  Block run(int64_t steps, double seconds = -1) {
    zero_metrics(session.program);
    Block block;
    double start = now_seconds(), before = start;
    while (block.steps < steps && !interrupted()) {
      step();
      double now = now_seconds();
      if (now - before < block.fastest) block.fastest = now - before;
      before = now;
      block.steps++;
      if (seconds >= 0 && now - start >= seconds) break;
    }
    block.seconds = before - start;
    return block;
  }

  void answer_requests() {
    char line[64];
    while (!interrupted() && fgets(line, sizeof line, stdin)) {
      line[strcspn(line, "\r\n")] = 0;
      char *stop;
      errno = 0;
      long long steps = strtoll(line, &stop, 10);
      if (*stop || stop == line || errno || steps < 1)
        fail("standard input: expected a number of steps, found `%s`", line);
      Block block = run(steps);
      if (block.steps == steps) block.print(session);
    }
  }
};

} // namespace

int bench(Session &s) {
  check_data_options(s);
  if (!s.block.get("train").present())
    fail("`%s` has no `train` block: its commands are predict and summary", s.name);
  const NncFunction &step = need_function(s, "train_step", "train");
  Dataset data;
  int64_t rows = load_training(s, step, data);
  start_training(s, true);
  catch_interrupts();
  adapt(s, data, rows);
  Feed feed(s.program, step, data);
  if (feed.slots.count && rows < feed.batch && !feed.partial)
    fail("training data: a step takes %lld rows, there are %lld",
         static_cast<long long>(feed.batch), static_cast<long long>(rows));
  reset_rows(s);
  Bench bench{s, feed, rows};
  if (s.options.requests) {
    bench.answer_requests();
  } else {
    bench.run(WarmSteps, WarmSeconds);
    Block block = s.options.steps > 0 ? bench.run(s.options.steps) : bench.run(INT64_MAX, Seconds);
    if (!interrupted()) block.print(s);
  }
  return interrupted() ? 128 + interrupted() : 0;
}

} // namespace rt
