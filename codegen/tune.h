// Schedules of contractions that were measured on this machine, and the measuring.
//
// Problem. The cost model of schedule_contract.cpp is made of a few machines' constants. Another
// machine has other caches and other latencies, and what is chosen for it may be a fifth slower
// than what it could run.
//
//   nnc --tune model.nn       measures, keeps the fastest: ~/.cache/nnc/tuning.json
//   nnc model.nn              compiles with what was kept, whatever model it was measured for
//
// Method. The identity of a kernel is its canonical text without a schedule, with the target. What
// is kept for it is a schedule, and every schedule gives the same bits (the family, which would
// not, stays as it is), so a cache changes times and nothing else. A binary names the entries that
// it was made with by their hash. Contractions on tile registers have one schedule only and are not
// measured.
#pragma once
#include "codegen/codegen.h"
#include <map>
#include <set>

namespace nnc::cg {

// A schedule for an unscheduled contraction; swap: a has the columns, b the rows.
struct TunedSchedule {
  bool swap = false;
  Schedule schedule;
};

class TuneCache {
 public:
  static constexpr int kVersion = 1; // of the file, and of what the emitter makes of a schedule
  // The file that is used if none is named: under $XDG_CACHE_HOME or ~/.cache; empty: there is no
  // home.
  static std::string defaultPath();
  // Takes over what a file holds; a file that is not there holds nothing. Returns an empty string,
  // or what is wrong with the file, of which nothing is taken then.
  std::string load(const std::string &path);
  // Writes beside, syncs, renames; makes the folder. Returns an empty string, or what went wrong.
  std::string save(const std::string &path) const;

  // Schedules an unscheduled contraction as it was measured; false: nothing (valid) is known.
  bool schedule(Kernel &k, const Target &t);
  void put(const Kernel &k, const Target &t, const TunedSchedule &s);
  size_t size() const { return entries_.size(); }
  // Of the entries that schedule() used so far, with what they say; "none" without one.
  std::string hash() const;

  // Called by schedule() for each contraction, before anything else.
  std::function<void(const Kernel &, const Target &)> asked;

 private:
  struct Entry {
    std::string target, kernel;
    TunedSchedule tuned;
  };
  std::map<std::string, Entry> entries_; // by target and kernel
  std::set<std::string> used_;
};

// Applies the schedule if a kernel can be run so on the target; otherwise leaves the kernel alone.
bool applyTuned(Kernel &k, const Target &t, const TunedSchedule &s);

struct TuneReport {
  int kernels = 0, measured = 0, changed = 0; // distinct contractions with a choice
  double before = 0, after = 0; // seconds of all launches of those measured, on one thread
};
// Measures the contractions of a module for about `seconds` and puts the fastest schedules into the
// cache: for the target and for the others of the options, as far as this machine can run them.
// `progress` gets a line per kernel.
TuneReport tune(const ir::Module &m, const CodegenOptions &o, TuneCache &cache, double seconds,
                const std::function<void(const std::string &)> &progress);

} // namespace nnc::cg
