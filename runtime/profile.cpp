// The times of a run, added up and told: see profile.h.
#include "runtime/profile.h"

#include "runtime/files.h"

#include <math.h>
#include <stdio.h>

namespace rt {

// --- adding up -----------------------------------------------------------------------------------

Profile *make_profile(const NncModel &model, int threads, const Peaks &peaks, bool trace) {
  auto *p = static_cast<Profile *>(arena_allocate(sizeof(Profile)));
  *p = {};
  p->model = &model;
  p->threads = threads;
  p->peaks = peaks;
  size_t functions = size_t(model.function_count) * sizeof(FunctionProfile);
  p->functions = static_cast<FunctionProfile *>(arena_allocate(functions));
  memset(static_cast<void *>(p->functions), 0, functions);
  int64_t most = 0;
  for (int64_t i = 0; i < model.function_count; i++)
    if (model.functions[i].op_count > most) most = model.functions[i].op_count;
  // Two lines between neighbours: the prefetcher pulls lines in pairs.
  p->stride = most + 128 / int64_t(sizeof(OpTimes)) + 1;
  size_t count = size_t(threads);
  p->times = static_cast<OpTimes *>(arena_allocate(size_t(p->stride) * count * sizeof(OpTimes)));
  p->filled = static_cast<uint64_t *>(arena_allocate(count * 128));
  p->events = static_cast<Events *>(arena_allocate(count * sizeof(Events)));
  for (int t = 0; t < threads; t++) {
    void *ring = trace ? arena_allocate(Events::Most * sizeof(Event)) : nullptr;
    p->events[t] = {static_cast<Event *>(ring), 0};
  }
  p->started = now_seconds();
  p->started_ticks = ticks();
  return p;
}

void note_event(Events &events, const Event &event) {
  events.ring[events.count++ % Events::Most] = event;
}

static void create(FunctionProfile &total, const NncFunction &f, int threads) {
  auto *arrays = static_cast<char *>(arena_allocate(2 * sizeof(Array<OpProfile>)));
  memset(arrays, 0, 2 * sizeof(Array<OpProfile>)); // empty arrays
  total.ops = reinterpret_cast<Array<OpProfile> *>(arrays);
  total.waited = reinterpret_cast<Array<uint64_t> *>(arrays + sizeof(Array<OpProfile>));
  total.ops->resize(size_t(f.op_count));
  total.waited->resize(size_t(f.op_count * threads));
}

void add_call(Profile &profile, const NncFunction &function, int64_t n, uint64_t whole) {
  FunctionProfile &total = profile.functions[&function - profile.model->functions];
  if (!total.ops) create(total, function, profile.threads);
  total.calls++;
  total.whole += whole;
  uint64_t filled = 0;
  for (int t = 0; t < profile.used; t++)
    if (profile.filling(t) > filled) filled = profile.filling(t);
  total.filled += filled;
  for (int64_t i = 0; i < function.op_count; i++) {
    const NncOp &op = function.ops[i];
    OpProfile &o = (*total.ops)[size_t(i)];
    uint64_t longest = 0, sum = 0;
    for (int t = 0; t < profile.used; t++) {
      const OpTimes &times = profile.of(t)[i];
      if (times.busy > longest) longest = times.busy;
      sum += times.busy;
      o.waited += times.waited;
      (*total.waited)[size_t(i * profile.threads + t)] += times.waited;
    }
    bool alone = profile.used == 1 || (op.flags & NNC_OP_SINGLE);
    o.busy += longest;
    if (!alone) o.uneven += longest - sum / uint64_t(profile.used);
    int64_t rounds = profile.of(0)[i].rounds;
    o.calls += rounds;
    double flops = double(rounds) * double(op.flops_const + op.flops_per_n * n);
    double bytes = double(rounds) * double(op.bytes_const + op.bytes_per_n * n);
    o.flops += flops;
    o.bytes += bytes;
    if (profile.peaks.flops[!alone] > 0) o.arithmetic += flops / profile.peaks.flops[!alone];
    if (profile.peaks.bytes[!alone] > 0) o.memory += bytes / profile.peaks.bytes[!alone];
  }
}

// --- rows ----------------------------------------------------------------------------------------

namespace {

constexpr const char *Passes[] = {"forward", "backward", "update", "backward+update"};
constexpr const char *ShortPasses[] = {"forward", "backward", "update", "back+upd"};
constexpr int PassCount = 4;
constexpr size_t MostRows = 60, MostGaps = 8;
constexpr const char *Rule = "  ----------------------------------------------------------------"
                             "--------------------------------\n";

struct Row {
  const NncFunction *function;
  const NncOp *op;
  OpProfile o;
  int64_t at; // in the function's table
  double seconds, lost;
};

int pass_of(const NncOp &op) { return op.pass >= 0 && op.pass < PassCount ? int(op.pass) : 0; }
const char *name_of(const NncOp &op) { return op.name ? op.name : "?"; }
const char *layer_of(const NncOp &op) { return op.layer ? op.layer : ""; }

// `before(a, b)`: a stands before b. Stable.
template <class T, class Before> void sort(Array<T> &list, Before before) {
  Array<T> other;
  other.resize(list.count);
  for (size_t width = 1; width < list.count; width *= 2) {
    for (size_t from = 0; from < list.count; from += 2 * width) {
      size_t a = from, middle = from + width < list.count ? from + width : list.count;
      size_t b = middle, end = from + 2 * width < list.count ? from + 2 * width : list.count;
      for (size_t to = from; to < end; to++)
        other[to] = a < middle && (b == end || !before(list[b], list[a])) ? list[a++] : list[b++];
    }
    T *swapped = list.data;
    list.data = other.data, other.data = swapped;
    size_t capacity = list.capacity;
    list.capacity = other.capacity, other.capacity = capacity;
  }
}

const FunctionProfile &totals(const Profile &p, const NncFunction *f) {
  return p.functions[f - p.model->functions];
}

// Of one function, or of all for null; the longest first.
Array<Row> rows_of(const Profile &p, const NncFunction *only, double tick) {
  Array<Row> rows;
  for (int64_t i = 0; i < p.model->function_count; i++) {
    const NncFunction &f = p.model->functions[i];
    if ((only && only != &f) || !p.functions[i].ops) continue;
    for (int64_t j = 0; j < f.op_count; j++) {
      const OpProfile &o = (*p.functions[i].ops)[size_t(j)];
      double seconds = double(o.busy) * tick, least = fmax(o.arithmetic, o.memory);
      bool known = o.flops > 0 || o.bytes > 0;
      rows.push({&f, &f.ops[j], o, j, seconds, known && seconds > least ? seconds - least : 0});
    }
  }
  sort(rows, [](const Row &a, const Row &b) { return a.seconds > b.seconds; });
  return rows;
}

double share(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

// At most `width` characters.
const char *cut(const char *name, int width) {
  return int(strlen(name)) <= width ? name : text("%.*s..", width - 2, name);
}

const char *line_text(const NncOp &op) {
  return op.line > 0 ? text("%lld", static_cast<long long>(op.line)) : "-";
}

// A rate in 1e9 a second and its share of the peak, 7 and 6 columns wide.
void add_rate(Builder &out, double amount, double seconds, double at_peak) {
  if (amount <= 0 || seconds <= 0)
    out.add(" %7s %6s", "-", "-");
  else
    out.add(" %7.1f %5.1f%%", 1e-9 * amount / seconds, share(at_peak, seconds));
}

// What of a function's time is in no operation.
struct Rest {
  double whole, filled, waiting;
};

Rest rest_of(const Profile &p, const NncFunction &f, double tick) {
  const FunctionProfile &t = totals(p, &f);
  double busy = 0;
  for (const OpProfile &o : *t.ops) busy += double(o.busy) * tick;
  Rest rest{double(t.whole) * tick, double(t.filled) * tick, 0};
  rest.waiting = rest.whole - rest.filled - busy;
  if (rest.waiting < 0) rest.waiting = 0; // where the longest threads were different ones
  return rest;
}

// The sum of all lines: the whole run, or a little more where different threads were the longest.
double sum_of(const Profile &p, double seconds, double tick, double &outside) {
  double sum = 0, calls = 0;
  for (int64_t i = 0; i < p.model->function_count; i++) {
    if (!p.functions[i].ops) continue;
    Rest rest = rest_of(p, p.model->functions[i], tick);
    sum += rest.filled + rest.waiting;
    calls += rest.whole;
    for (const OpProfile &o : *p.functions[i].ops) sum += double(o.busy) * tick;
  }
  outside = seconds > calls ? seconds - calls : 0;
  return sum + outside;
}

// --- the report ----------------------------------------------------------------------------------

struct Report {
  Builder &out;
  const Profile &p;
  const char *source;
  double seconds, tick, outside, sum;

  void head(const char *name) {
    const Peaks &k = p.peaks;
    out.add("Profile of `%s`: %.3f s, %d thread%s\n", name, seconds, p.threads,
            p.threads == 1 ? "" : "s");
    out.add("Peaks measured at the start on %s: %.1f GF/s of %s multiply-adds in f32, %.1f GB/s",
            p.threads > 1 ? text("%d threads", p.threads) : "one thread", 1e-9 * k.flops[1],
            k.vectors, 1e-9 * k.bytes[1]);
    if (p.threads > 1)
      out.add("\n(on one thread %.1f GF/s, %.1f GB/s)", 1e-9 * k.flops[0], 1e-9 * k.bytes[0]);
    out.add("\nreading %lld MiB again and again; what lies in a nearer cache can be read faster.\n",
            static_cast<long long>(k.buffer >> 20));
  }

  void other_line(const char *what, int64_t calls, double time) {
    out.add("  (%s)%*s", what, 40 - int(strlen(what)), "");
    if (calls)
      out.add(" %7lld", static_cast<long long>(calls));
    else
      out.add(" %7s", "");
    out.add(" %10.3f %5.1f%%\n", 1e3 * time, share(time, sum));
  }

  void function(const NncFunction &f) {
    const FunctionProfile &t = totals(p, &f);
    Rest rest = rest_of(p, f, tick);
    out.add("\n%s: %lld call%s, %.3f s, %.1f%% of the time\n", f.name,
            static_cast<long long>(t.calls), t.calls == 1 ? "" : "s", rest.whole,
            share(rest.whole, sum));
    out.add("  %-26s %-8s %6s %7s %10s %6s %7s %6s %7s %6s\n", "kernel", "pass", "line", "calls",
            "ms", "share", "GF/s", "peak", "GB/s", "peak");
    out.add("%s", Rule);
    Array<Row> rows = rows_of(p, &f, tick);
    double others = 0;
    for (size_t i = 0; i < rows.count; i++) {
      const Row &r = rows[i];
      if (i >= MostRows) {
        others += r.seconds;
        continue;
      }
      out.add("  %-26s %-8s %6s %7lld %10.3f %5.1f%%", cut(name_of(*r.op), 26),
              ShortPasses[pass_of(*r.op)], line_text(*r.op), static_cast<long long>(r.o.calls),
              1e3 * r.seconds, share(r.seconds, sum));
      add_rate(out, r.o.flops, r.seconds, r.o.arithmetic);
      add_rate(out, r.o.bytes, r.seconds, r.o.memory);
      out.add("\n");
    }
    if (rows.count > MostRows) other_line(text("%zu others", rows.count - MostRows), 0, others);
    if (t.filled) other_line("filling batches", t.calls, rest.filled);
    other_line(p.threads > 1 ? "waiting for each other and waking" : "between kernels", 0,
               rest.waiting);
  }

  void functions() {
    Array<const NncFunction *> order;
    for (int64_t i = 0; i < p.model->function_count; i++)
      if (p.functions[i].ops) order.push(&p.model->functions[i]);
    sort(order, [&](const NncFunction *a, const NncFunction *b) {
      return totals(p, a).whole > totals(p, b).whole;
    });
    for (const NncFunction *f : order) function(*f);
    out.add("\n");
    other_line("outside of kernels: data, callbacks, files", 0, outside);
  }

  // Kernels without a layer go by their line.
  void layers() {
    struct Layer {
      const char *name;
      double seconds[PassCount], all;
    };
    Array<Layer> list;
    for (const Row &r : rows_of(p, nullptr, tick)) {
      const char *name = layer_of(*r.op);
      if (!*name)
        name = r.op->line > 0 ? text("%s:%lld", source, static_cast<long long>(r.op->line))
                              : "without a place";
      size_t at = 0;
      while (at < list.count && !same(list[at].name, name)) at++;
      if (at == list.count) list.push({name, {}, 0});
      list[at].seconds[pass_of(*r.op)] += r.seconds;
      list[at].all += r.seconds;
    }
    sort(list, [](const Layer &a, const Layer &b) { return a.all > b.all; });
    out.add(
        "\nBy layer, or line of what has no weights (ms)\n  %-34s %10s %10s %10s %10s %10s %6s\n%s",
        "layer", "forward", "backward", "update", "back+upd", "all", "share", Rule);
    for (const Layer &l : list) {
      out.add("  %-34s", cut(l.name, 34));
      for (double s : l.seconds)
        if (s > 0)
          out.add(" %10.2f", 1e3 * s);
        else
          out.add(" %10s", "-");
      out.add(" %10.2f %5.1f%%\n", 1e3 * l.all, share(l.all, sum));
    }
  }

  const char *place(const Row &r) {
    return r.op->line > 0 ? text("%s:%lld", source, static_cast<long long>(r.op->line)) : "-";
  }

  void losses() {
    Array<Row> rows = rows_of(p, nullptr, tick);
    sort(rows, [](const Row &a, const Row &b) { return a.lost > b.lost; });
    out.add("\nGaps: ms above max(operations / peak, bytes / peak)\n");
    size_t shown = 0;
    for (const Row &r : rows) {
      if (shown == MostGaps || r.lost <= 0) break;
      bool arithmetic = r.o.arithmetic >= r.o.memory;
      out.add("  %10.2f %5.1f%%  %-22s %-22s at %.1f%% of the %s peak\n", 1e3 * r.lost,
              share(r.lost, sum), cut(name_of(*r.op), 22), cut(place(r), 22),
              share(fmax(r.o.arithmetic, r.o.memory), r.seconds),
              arithmetic ? "arithmetic" : "memory");
      shown++;
    }
    if (!shown) out.add("  none\n");
  }

  // The thread that waited most before a row's operation.
  int most_waiting(const Row &r, double &time) {
    const Array<uint64_t> &waited = *totals(p, r.function).waited;
    int most = 0;
    for (int t = 0; t < p.threads; t++)
      if (waited[size_t(r.at * p.threads + t)] > waited[size_t(r.at * p.threads + most)]) most = t;
    time = double(waited[size_t(r.at * p.threads + most)]) * tick;
    return most;
  }

  void waits() {
    if (p.threads == 1) return;
    Array<Row> rows = rows_of(p, nullptr, tick);
    sort(rows, [](const Row &a, const Row &b) { return a.o.waited > b.o.waited; });
    uint64_t all = 0, uneven = 0;
    for (const Row &r : rows) all += r.o.waited, uneven += r.o.uneven;
    double total = double(all) * tick;
    out.add("\nWaiting at barriers: %.2f ms of all threads together, a mean of %.2f ms\n",
            1e3 * total, 1e3 * total / p.threads);
    for (size_t i = 0; i < rows.count && i < MostGaps && rows[i].o.waited; i++) {
      const Row &r = rows[i];
      double most;
      int thread = most_waiting(r, most);
      out.add("  %10.2f before %-22s %-22s thread %d most: %.2f\n", 1e3 * double(r.o.waited) * tick,
              cut(name_of(*r.op), 22), cut(place(r), 22), thread, 1e3 * most);
    }
    out.add("\nUneven shares: %.2f ms, by which the longest thread is above the mean\n",
            1e3 * double(uneven) * tick);
    sort(rows, [](const Row &a, const Row &b) { return a.o.uneven > b.o.uneven; });
    for (size_t i = 0; i < rows.count && i < MostGaps && rows[i].o.uneven; i++)
      out.add("  %10.2f in     %-22s %-22s %.1f%% of its time\n",
              1e3 * double(rows[i].o.uneven) * tick, cut(name_of(*rows[i].op), 22),
              cut(place(rows[i]), 22), share(double(rows[i].o.uneven), double(rows[i].o.busy)));
  }
};

// A field of a CSV file.
void add_quoted(Builder &out, const char *s) {
  if (!strpbrk(s, ",\"\n")) return out.add("%s", s);
  out.add("\"");
  for (; *s; s++) out.add(*s == '"' ? "\"\"" : "%c", *s);
  out.add("\"");
}

void add_json_text(Builder &out, const char *s) {
  out.add("\"");
  for (; *s; s++) {
    if (*s == '"' || *s == '\\') out.add("\\");
    if (static_cast<unsigned char>(*s) >= 32) out.add_bytes(s, 1);
  }
  out.add("\"");
}

} // namespace

void write_report(Builder &out, const Profile &p, const char *name, const char *source,
                  double seconds, double tick) {
  double outside, sum = sum_of(p, seconds, tick, outside);
  Report report{out, p, source, seconds, tick, outside, sum};
  report.head(name);
  report.functions();
  report.layers();
  report.losses();
  report.waits();
}

void write_profile_csv(Builder &out, const Profile &p, double seconds, double tick) {
  double outside, sum = sum_of(p, seconds, tick, outside);
  out.add("function,kernel,layer,pass,line,calls,seconds,share,flops,flops_per_second,"
          "share_of_peak_flops,bytes,bytes_per_second,share_of_peak_bytes,lost_seconds,"
          "waited_seconds,uneven_seconds\n");
  auto rest = [&](const char *function, const char *what, int64_t calls, double time) {
    out.add("%s,(%s),,,,%lld,%.9g,%.6g,,,,,,,,,\n", function, what, static_cast<long long>(calls),
            time, share(time, sum));
  };
  for (const Row &r : rows_of(p, nullptr, tick)) {
    double s = r.seconds;
    add_quoted(out, r.function->name);
    out.add(",");
    add_quoted(out, name_of(*r.op));
    out.add(",");
    add_quoted(out, layer_of(*r.op));
    out.add(",%s,%lld,%lld,%.9g,%.6g,%.9g,%.6g,%.6g,%.9g,%.6g,%.6g,%.9g,%.9g,%.9g\n",
            Passes[pass_of(*r.op)], static_cast<long long>(r.op->line),
            static_cast<long long>(r.o.calls), s, share(s, sum), r.o.flops,
            s > 0 ? r.o.flops / s : 0, share(r.o.arithmetic, s), r.o.bytes,
            s > 0 ? r.o.bytes / s : 0, share(r.o.memory, s), r.lost, double(r.o.waited) * tick,
            double(r.o.uneven) * tick);
  }
  for (int64_t i = 0; i < p.model->function_count; i++) {
    if (!p.functions[i].ops) continue;
    const NncFunction &f = p.model->functions[i];
    Rest parts = rest_of(p, f, tick);
    rest(f.name, "filling batches", p.functions[i].calls, parts.filled);
    rest(f.name, "waiting", p.functions[i].calls, parts.waiting);
  }
  rest("", "outside of kernels", 1, outside);
}

void write_trace(Builder &out, const Profile &p, double tick) {
  out.add("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n");
  const char *comma = "";
  for (int t = 0; t < p.threads; t++) {
    const Events &e = p.events[t];
    out.add("%s{\"name\": \"thread_name\", \"ph\": \"M\", \"pid\": 1, \"tid\": %d, "
            "\"args\": {\"name\": \"thread %d\"}}",
            comma, t, t);
    comma = ",\n";
    size_t first = e.count > Events::Most ? e.count - Events::Most : 0;
    for (size_t i = first; e.ring && i < e.count; i++) {
      const Event &v = e.ring[i % Events::Most];
      bool works = v.op && !v.waits;
      out.add(",\n{\"name\": ");
      add_json_text(out, works ? name_of(*v.op) : v.op ? "wait" : "fill batch");
      out.add(
          ", \"cat\": \"%s\", \"ph\": \"X\", \"pid\": 1, \"tid\": %d, \"ts\": %.3f, \"dur\": %.3f",
          works  ? Passes[pass_of(*v.op)]
          : v.op ? "wait"
                 : "data",
          t, 1e6 * tick * double(int64_t(v.begin - p.started_ticks)),
          1e6 * tick * double(v.end - v.begin));
      out.add(", \"args\": {\"function\": ");
      add_json_text(out, v.function->name);
      if (v.op) {
        out.add(", \"line\": %lld, \"%s\": ", static_cast<long long>(v.op->line),
                v.waits ? "before" : "layer");
        add_json_text(out, v.waits ? name_of(*v.op) : layer_of(*v.op));
      }
      out.add("}}");
    }
  }
  out.add("\n]}\n");
}

void finish_profile(const Profile &p, const char *name, const char *source, const char *file) {
  double seconds = now_seconds() - p.started;
  uint64_t passed = ticks() - p.started_ticks;
  double tick = passed ? seconds / double(passed) : 0;
  fflush(stdout);
  Builder report;
  write_report(report, p, name, source, seconds, tick);
  fwrite(report.c_str(), 1, report.length(), stderr);
  if (!file) return;
  Builder content;
  if (ends_with(file, ".json"))
    write_trace(content, p, tick);
  else
    write_profile_csv(content, p, seconds, tick);
  OutputFile out = begin_file(file);
  write_bytes(out, content.c_str(), content.length());
  finish_file(out);
}

} // namespace rt
