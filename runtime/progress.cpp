// Keras' progress bar: see progress.h. The order of every byte follows keras/utils/progbar.py.
#include "runtime/progress.h"

#include <math.h>
#include <stdio.h>

namespace rt {

namespace {
constexpr int Width = 20;
constexpr const char *Glyph = "━";

long long whole(int64_t value) { return static_cast<long long>(value); }

int digits_of(int64_t value) {
  int count = 1;
  while (value >= 10) value /= 10, count++;
  return count;
}

void add_eta(Builder &out, double seconds) {
  long long s = static_cast<long long>(seconds);
  if (seconds > 3600)
    out.add("%lld:%02lld:%02lld", s / 3600, s % 3600 / 60, s % 60);
  else if (seconds > 60)
    out.add("%lld:%02lld", s / 60, s % 60);
  else
    out.add("%llds", s);
}
} // namespace

void add_metrics(Builder &out, const Array<Metric> &metrics) {
  for (const Metric &m : metrics)
    out.add(fabs(m.value) > 1e-3 ? " - %s: %.4f" : " - %s: %.4e", m.name, m.value);
}

void add_step_time(Builder &out, double seconds) {
  if (seconds >= 1 || seconds == 0)
    out.add(" %.0fs/step", seconds);
  else if (seconds >= 1e-3)
    out.add(" %.0fms/step", seconds * 1e3);
  else
    out.add(" %.0fus/step", seconds * 1e6);
}

void Progress::begin() {
  started = last_redraw = now_seconds();
  after_first = 0;
  previous_width = 0;
  bool header = epochs > 1 && ((verbose == 1 && terminal) || verbose == 2);
  if (header) printf("Epoch %lld/%lld\n", whole(epoch), whole(epochs));
  if (header) fflush(stdout);
}

// The first step pays for cold caches; it does not count.
double Progress::seconds_per_step(int64_t done, double now) const {
  if (done > 1 && after_first > 0) return (now - after_first) / double(done - 1);
  return done ? (now - started) / double(done) : 0;
}

bool Progress::due(int64_t done) {
  double now = now_seconds();
  if (done == 1) after_first = now;
  if (now - last_redraw < RedrawSeconds) return false;
  last_redraw = now;
  return true;
}

void Progress::redraw(int64_t done, const Array<Metric> &metrics) {
  if (verbose == 1 && terminal) draw(done, metrics, false);
}

void Progress::draw(int64_t done, const Array<Metric> &metrics, bool final) {
  double now = now_seconds(), per_step = seconds_per_step(done, now);
  Builder line;
  for (int64_t i = 0; i < previous_width; i++) line.add("\b");
  line.add("\r");
  int64_t lead = int64_t(line.length());
  line.add("\033[1m%*lld/%lld\033[0m ", digits_of(target), whole(done), whole(target));
  int filled = int(Width * (double(done) / double(target)));
  // Bytes that take no place on the screen: escapes, and all but the first byte of a glyph.
  int64_t invisible = 8 + 2 * Width;
  if (filled > 0) {
    line.add("\033[32m");
    for (int i = 0; i < filled; i++) line.add("%s", Glyph);
    line.add("\033[0m");
    invisible += 9;
  }
  line.add("\033[37m");
  for (int i = filled; i < Width; i++) line.add("%s", Glyph);
  line.add("\033[0m \033[1m");
  if (final)
    line.add("%.0fs", now - started);
  else
    add_eta(line, per_step * double(target - done));
  line.add("\033[0m");
  add_step_time(line, per_step);
  add_metrics(line, metrics);
  int64_t width = int64_t(line.length()) - lead - invisible - 9 - 8;
  for (int64_t i = width; i < previous_width; i++) line.add(" ");
  if (final) line.add("\n");
  previous_width = width;
  fwrite(line.c_str(), 1, line.length(), stdout);
  fflush(stdout);
}

void Progress::finish(int64_t done, const Array<Metric> &metrics) {
  if (verbose == 0) return;
  if (verbose == 1 && terminal) return draw(done, metrics, true);
  double now = now_seconds();
  Builder line;
  if (verbose == 1 && epochs > 1) line.add("Epoch %lld/%lld - ", whole(epoch), whole(epochs));
  line.add("%*lld/%lld - %.0fs -", digits_of(target), whole(done), whole(target), now - started);
  add_step_time(line, seconds_per_step(done, now));
  add_metrics(line, metrics);
  puts(line.c_str());
  fflush(stdout);
}

} // namespace rt
