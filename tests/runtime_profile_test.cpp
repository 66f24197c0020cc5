// Profiles by hand: what is added up from the times of threads, and how it is told.
#include "catch2/catch.hpp"

#include "runtime/profile.h"

#include <jansson.h>
#include <sstream>
#include <string>
#include <vector>

namespace {

// Two operations, the second one on one thread; a loop could run the first one often.
struct Fixture {
  NncOp ops[2] = {};
  NncFunction function = {};
  NncModel model = {};
  rt::Profile *profile;

  explicit Fixture(int threads, bool trace = false) {
    ops[0].name = "z", ops[0].line = 7, ops[0].layer = "net/dense", ops[0].pass = NNC_PASS_FORWARD;
    ops[0].flops_const = 100, ops[0].flops_per_n = 50;
    ops[0].bytes_const = 4, ops[0].bytes_per_n = 8;
    ops[1].name = "sum, \"all\"", ops[1].line = 9, ops[1].flags = NNC_OP_SINGLE;
    ops[1].pass = NNC_PASS_UPDATE;
    function.name = "train_step";
    function.ops = ops, function.op_count = 2;
    model.functions = &function, model.function_count = 1;
    rt::Peaks peaks{};
    peaks.flops[0] = 1000, peaks.flops[1] = threads > 1 ? 2000 : 1000;
    peaks.bytes[0] = 100, peaks.bytes[1] = threads > 1 ? 300 : 100;
    peaks.vectors = "AVX2", peaks.buffer = 64 << 20;
    profile = rt::make_profile(model, threads, peaks, trace);
  }
  void times(int thread, uint64_t first, uint64_t second, uint64_t waited, int64_t rounds) {
    profile->of(thread)[0] = {first, 0, rounds};
    profile->of(thread)[1] = {second, waited, 1};
    profile->filling(thread) = uint64_t(thread + 1);
  }
  const rt::OpProfile &op(size_t i) const { return (*profile->functions[0].ops)[i]; }
  std::string report(double seconds) const {
    rt::Builder out;
    rt::write_report(out, *profile, "net", "net.nn", seconds, 1e-3);
    return out.c_str();
  }
};

std::vector<std::string> cells(const std::string &line) {
  std::vector<std::string> out(1);
  bool quoted = false;
  for (char c : line)
    if (c == '"')
      quoted = !quoted;
    else if (c == ',' && !quoted)
      out.emplace_back();
    else
      out.back() += c;
  return out;
}

size_t count(const std::string &text, const std::string &part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) n++;
  return n;
}

} // namespace

TEST_CASE("profile: of several threads the longest counts, what it is above the mean is told",
          "[runtime][profile]") {
  Fixture f(2);
  f.profile->used = 2;
  f.times(0, 100, 20, 0, 3), f.times(1, 60, 0, 30, 3);
  rt::add_call(*f.profile, f.function, 4, 150);
  CHECK(f.op(0).busy == 100);
  CHECK(f.op(0).uneven == 20);
  CHECK(f.op(0).calls == 3);
  CHECK(f.op(0).flops == 3 * (100 + 50 * 4));
  CHECK(f.op(0).bytes == 3 * (4 + 8 * 4));
  CHECK(f.op(0).arithmetic == Approx(900 / 2000.0)); // the peak of all threads
  CHECK(f.op(0).memory == Approx(108 / 300.0));
  CHECK(f.op(1).busy == 20);
  CHECK(f.op(1).uneven == 0); // one thread does it all
  CHECK(f.op(1).waited == 30);
  CHECK((*f.profile->functions[0].waited)[2] == 0);
  CHECK((*f.profile->functions[0].waited)[3] == 30);
  CHECK(f.profile->functions[0].filled == 2);
  // A call on one thread, of fewer rows.
  f.profile->used = 1;
  f.times(0, 7, 1, 0, 1);
  rt::add_call(*f.profile, f.function, 1, 10);
  CHECK(f.op(0).busy == 107);
  CHECK(f.op(0).uneven == 20);
  CHECK(f.op(0).calls == 4);
  CHECK(f.op(0).arithmetic == Approx(0.45 + 150 / 1000.0));
  CHECK(f.profile->functions[0].calls == 2);
  CHECK(f.profile->functions[0].whole == 160);
}

TEST_CASE("profile: the lines of a report add up to the whole", "[runtime][profile]") {
  Fixture f(1);
  f.profile->used = 1;
  f.times(0, 600, 200, 0, 2);
  rt::add_call(*f.profile, f.function, 4, 900); // 1 of it for the batch, 99 between kernels
  rt::Builder out;
  rt::write_profile_csv(out, *f.profile, 1.2, 1e-3); // a tick is a millisecond
  std::istringstream lines(out.c_str());
  std::string line;
  std::getline(lines, line);
  const std::vector<std::string> names = cells(line);
  std::vector<std::vector<std::string>> rows;
  while (std::getline(lines, line)) rows.push_back(cells(line));
  double seconds = 0, shares = 0;
  for (const auto &row : rows) {
    REQUIRE(row.size() == names.size());
    seconds += std::stod(row[6]), shares += std::stod(row[7]);
  }
  CHECK(seconds == Approx(1.2));
  CHECK(shares == Approx(100));
  REQUIRE(rows.size() == 5);
  CHECK(rows[0] == std::vector<std::string>{"train_step", "z", "net/dense", "forward", "7", "2",
                                            "0.6", "50", "600", "1000", "100", "72", "120", "120",
                                            "0", "0", "0"});
  CHECK(rows[1][1] == "sum, all"); // quotes are gone with this reader
  CHECK(rows[1][3] == "update");
  CHECK(rows[2][1] == "(filling batches)");
  CHECK(std::stod(rows[3][6]) == Approx(0.099));
  CHECK(std::stod(rows[4][6]) == Approx(0.3));

  const std::string report = f.report(1.2);
  INFO(report);
  CHECK(count(report, "  z   ") >= 1);
  CHECK(report.find("net/dense") != std::string::npos);
  CHECK(report.find("net.nn:9") != std::string::npos); // has no layer
  CHECK(report.find("on one thread: 0.0 GF/s of AVX2 multiply-adds") != std::string::npos);
  CHECK(report.find("Waiting at barriers") == std::string::npos);
  std::istringstream all(report);
  while (std::getline(all, line)) CHECK(line.size() <= 100);
}

TEST_CASE("profile: gaps are what a kernel is above what the machine can do",
          "[runtime][profile]") {
  Fixture f(2);
  f.profile->used = 2;
  f.times(0, 1000, 100, 0, 1), f.times(1, 800, 0, 500, 1);
  rt::add_call(*f.profile, f.function, 4, 1500); // least: 300/2000 = 0.15 s, 36/300 = 0.12 s
  const std::string report = f.report(2);
  INFO(report);
  CHECK(report.find("850.00  42.5%  z ") != std::string::npos);
  CHECK(report.find("at 15.0% of the arithmetic peak") != std::string::npos);
  CHECK(report.find("500.00 before sum, \"all\"") != std::string::npos);
  CHECK(report.find("thread 1 most: 500.00") != std::string::npos);
  CHECK(report.find("100.00 in     z ") != std::string::npos);
  std::istringstream all(report);
  std::string line;
  while (std::getline(all, line)) CHECK(line.size() <= 100);
}

TEST_CASE("profile: a trace keeps the last events and is JSON", "[runtime][profile]") {
  Fixture f(1, true);
  const uint64_t start = f.profile->started_ticks;
  for (uint64_t i = 0; i < rt::Events::Most + 10; i++)
    rt::note_event(f.profile->events[0],
                   {start + 10 * i, start + 10 * i + 5, &f.function, &f.ops[i % 2], false});
  rt::note_event(f.profile->events[0], {start, start + 1, &f.function, nullptr, false});
  rt::Builder out;
  rt::write_trace(out, *f.profile, 1e-6);
  json_error_t error;
  json_t *root = json_loads(out.c_str(), 0, &error);
  INFO(error.text);
  REQUIRE(root);
  json_t *events = json_object_get(root, "traceEvents");
  CHECK(json_array_size(events) == rt::Events::Most + 1); // and the name of the thread
  json_t *first = json_array_get(events, 1);              // the first eleven are lost
  CHECK(std::string(json_string_value(json_object_get(first, "name"))) == "sum, \"all\"");
  CHECK(json_number_value(json_object_get(first, "ts")) == Approx(110));
  CHECK(json_number_value(json_object_get(first, "dur")) == Approx(5));
  json_decref(root);
}
