// The runtime's parts inside the test process: layouts, JSON, numbers, EarlyStopping.
#include "catch2/catch.hpp"

#include "runtime/cpu.h"
#include "runtime/data.h"
#include "runtime/json.h"
#include "runtime/memory.h"
#include "runtime/program.h"
#include "runtime/progress.h"
#include "runtime/random.h"
#include "runtime/stopping.h"
#include "runtime/tensor.h"
#include "runtime/weights.h"
#include "tests/workplace.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>
#include <string>
#include <unistd.h>
#include <vector>

TEST_CASE("runtime: pack after unpack is the identity for random layouts", "[runtime]") {
  std::mt19937 random(1);
  auto pick = [&](int low, int high) { return int(random() % unsigned(high - low + 1)) + low; };
  for (int trial = 0; trial < 300; trial++) {
    int rank = pick(1, 4);
    std::vector<NncDim> dims;
    std::vector<NncDigit> digits;
    for (int d = 0; d < rank; d++) {
      int64_t extent = pick(1, 9), inner = 1;
      dims.push_back({0, extent});
      std::vector<NncDigit> own;
      for (int k = pick(0, 2); k > 0; k--) {
        own.insert(own.begin(), NncDigit{d, pick(1, 4)});
        inner *= own[0].size;
      }
      own.insert(own.begin(), NncDigit{d, (extent + inner - 1) / inner + pick(0, 1)});
      // Digits of different dimensions interleave, those of one dimension keep their order.
      size_t at = 0;
      for (NncDigit digit : own) {
        at = size_t(pick(int(at), int(digits.size())));
        digits.insert(digits.begin() + long(at), digit);
        at++;
      }
    }
    int64_t logical = 1, physical = 1;
    for (NncDim dim : dims) logical *= dim.b;
    for (NncDigit digit : digits) physical *= digit.size;
    NncTensor tensor{"t",
                     NNC_F32,
                     rank,
                     dims.data(),
                     NNC_PERSISTENT,
                     0,
                     physical * 4,
                     int64_t(digits.size()),
                     digits.data(),
                     NNC_TENSOR_PARAM};
    std::vector<float> file(static_cast<size_t>(logical)), back(file), memory(size_t(physical), 5);
    std::iota(file.begin(), file.end(), 1);
    rt::pack(tensor, 0, reinterpret_cast<char *>(file.data()),
             reinterpret_cast<char *>(memory.data()));
    rt::unpack(tensor, 0, reinterpret_cast<char *>(memory.data()),
               reinterpret_cast<char *>(back.data()));
    REQUIRE(file == back);
    std::vector<float> sorted;
    for (float value : memory)
      if (value != 0) sorted.push_back(value);
    std::sort(sorted.begin(), sorted.end());
    REQUIRE(sorted == file); // each element once, padding zero
    // The same in pieces that end anywhere.
    std::vector<float> pieces(memory.size()), there(file.size());
    rt::Elements in(tensor, 0), out(tensor, 0);
    for (int64_t done = 0, count; done < logical; done += count) {
      count = std::min<int64_t>(pick(1, 20), logical - done);
      in.pack(reinterpret_cast<char *>(file.data() + done), reinterpret_cast<char *>(pieces.data()),
              count);
    }
    REQUIRE(pieces == memory);
    for (int64_t done = 0, count; done < logical; done += count) {
      count = std::min<int64_t>(pick(1, 20), logical - done);
      out.unpack(reinterpret_cast<char *>(memory.data()),
                 reinterpret_cast<char *>(there.data() + done), count);
    }
    REQUIRE(there == file);
  }
}

TEST_CASE("runtime: a panel layout puts elements where its digits say", "[runtime]") {
  NncDim dims[] = {{0, 2}, {0, 5}};
  NncDigit digits[] = {{1, 2}, {0, 2}, {1, 3}}; // panels of 3 columns
  NncTensor tensor{"t", NNC_U8, 2, dims, NNC_PERSISTENT, 0, 12, 3, digits, NNC_TENSOR_PARAM};
  char memory[13] = {0};
  rt::pack(tensor, 0, "abcdeABCDE", memory);
  CHECK(std::string(memory, 12) == std::string("abcABCde\0DE\0", 12));
}

TEST_CASE("runtime: large weights in files, whatever their layout", "[runtime]") {
  // Both are larger than the buffer that elements in another order pass through, and rows end
  // inside of it.
  constexpr int64_t rows = 1001, columns = 703, panel = 48;
  constexpr int64_t panels = (columns + panel - 1) / panel, plain_bytes = rows * columns * 4;
  constexpr int64_t panel_bytes = rows * panels * panel * 4;
  NncDim dims[] = {{0, rows}, {0, columns}};
  NncDigit digits[] = {{1, panels}, {0, rows}, {1, panel}};
  NncTensor tensors[] = {
      {"m/plain", NNC_F32, 2, dims, NNC_PERSISTENT, 0, plain_bytes, 0, nullptr, NNC_TENSOR_PARAM},
      {"m/panels", NNC_F32, 2, dims, NNC_PERSISTENT, plain_bytes, panel_bytes, 3, digits,
       NNC_TENSOR_PARAM}};
  NncModel model{};
  model.tensors = tensors;
  model.tensor_count = 2;
  std::vector<float> values(rows * columns);
  std::iota(values.begin(), values.end(), 1); // exact below 2^24
  auto program_in = [&](std::vector<char> &memory) {
    rt::Program program{};
    program.model = &model;
    program.persistent = memory.data();
    return program;
  };
  std::vector<char> memory(plain_bytes + panel_bytes), again(memory.size(), 1);
  rt::Program from = program_in(memory);
  for (const NncTensor &t : tensors)
    rt::pack(t, 0, reinterpret_cast<char *>(values.data()), from.address(t));
  from.step = 7;
  nnc::test::Workplace w;
  std::string path = (w / "m.safetensors").string();
  rt::save_weights(from, path.c_str(), "m");
  std::string file = w.read("m.safetensors");
  std::string expected(reinterpret_cast<const char *>(values.data()), size_t(plain_bytes));
  REQUIRE(file.size() > 2 * expected.size() + 8);
  CHECK(file.substr(file.size() - 8 - 2 * expected.size(), 2 * expected.size()) ==
        expected + expected);

  rt::Program to = program_in(again);
  SECTION("a file") { rt::load_weights(to, path.c_str()); }
  SECTION("gzip") {
    REQUIRE(w.shell("gzip m.safetensors") == 0);
    rt::load_weights(to, (path + ".gz").c_str());
  }
  SECTION("a pipe") { // which can be read only once and from its beginning
    REQUIRE(w.shell("mkfifo pipe; (cat m.safetensors > pipe &)") == 0);
    rt::load_weights(to, (w / "pipe").string().c_str());
  }
  SECTION("a file that is replaced meanwhile") {
    rt::WeightsFile open = rt::open_weights(path.c_str());
    w.write("other", "other");
    std::filesystem::rename(w / "other", path);
    rt::load_weights(to, open);
  }
  CHECK(again == memory);
  CHECK(to.step == 7);
}

TEST_CASE("runtime: JSON", "[runtime]") {
  const char *error = nullptr;
  std::string good =
      R"({"a": [1, -2.5e1, true, null, "x\"\u00e9\ud83d\ude00"], "b": {}, "c": 9007199254740993})";
  rt::Json root = rt::parse_json(good.data(), good.size(), &error);
  REQUIRE(root.present());
  rt::Json list = root.get("a");
  CHECK(list.count() == 5);
  CHECK(list[1].as_real(0) == -25);
  CHECK(std::string(list[4].as_text("")) == "x\"é😀");
  CHECK(root.integer("c", 0) == 9007199254740993);
  CHECK(root.get("none").get("deeper").integer("x", 7) == 7);
  CHECK(root.flag("a", true));
  CHECK(list[1].as_integer(0) == -25);
  std::string reals = "[2.5, 1e300]";
  for (rt::Json real : rt::parse_json(reals.data(), reals.size(), &error))
    CHECK(real.as_integer(7) == 7);
  size_t items = 0;
  for (rt::Json item : list) items += item.present();
  CHECK(items == 4); // null is as good as absent
  for (rt::Json item : root.get("b")) items += item.present() + 1;
  CHECK(items == 4);
  for (std::string bad :
       {"", "{", "[1,]", "{\"a\" 1}", "tru", "\"abc", "[1] 2", "{\"a\":\"\\q\"}", "-",
        "{\"a\":1,\"a\":1}", "[9223372036854775808]", "[1e999]", "[\"\xff\"]"}) {
    INFO(bad);
    CHECK(!rt::parse_json(bad.data(), bad.size(), &error).present());
    CHECK(error);
  }
  std::string deep(100000, '[');
  CHECK(!rt::parse_json(deep.data(), deep.size(), &error).present());
}

TEST_CASE("runtime: a trial of one thread costs long steps nothing", "[runtime]") {
  struct Outcome {
    int runs, alone_runs;
    bool alone;
  };
  // Steps that take this long on all threads, and there keep this one busy so long, and on one.
  auto outcome = [](double all, double busy, double one) {
    rt::Trial trial{};
    Outcome outcome{};
    while (!trial.over()) {
      bool alone = trial.next_alone();
      outcome.runs++;
      outcome.alone_runs += alone;
      trial.record(alone ? one : all, alone ? one : busy, 0);
    }
    outcome.alone = trial.alone;
    return outcome;
  };
  Outcome small = outcome(50e-6, 50e-6, 20e-6);
  CHECK(small.alone);
  CHECK(small.runs == rt::Trial::Runs);
  CHECK(!outcome(50e-6, 50e-6, 80e-6).alone);
  Outcome loaded = outcome(80e-3, 1e-3, 2e-3); // waits for threads that get no core
  CHECK(loaded.alone);
  CHECK(loaded.alone_runs == (rt::Trial::Runs - rt::Trial::Warm) / 2);
  Outcome longer = outcome(60e-3, 60e-3, 1);
  CHECK(!longer.alone);
  CHECK(longer.alone_runs == 0);
  CHECK(longer.runs == rt::Trial::Warm);
  Outcome between = outcome(4e-3, 4e-3, 60e-3);
  CHECK(!between.alone);
  CHECK(between.alone_runs == 1);
}

TEST_CASE("runtime: threads give way to one while others use the cores", "[runtime]") {
  rt::Pace pace{};
  // Seconds that 2000 runs take if a run takes this long on all threads, and on one.
  auto seconds = [&](double all, double one) {
    double sum = 0;
    for (int i = 0; i < 2000; i++) {
      double now = pace.alone ? one : all;
      pace.record(now);
      sum += now;
    }
    return sum;
  };
  CHECK(seconds(1e-3, 2e-3) == Approx(2.0)); // nobody else: all threads throughout
  CHECK(!pace.alone);
  // Others took the cores: waits of many milliseconds on all threads, twice as long on one as
  // before.
  CHECK(seconds(20e-3, 4e-3) < 2000 * 4e-3 * 1.25);
  CHECK(pace.alone);
  // They are gone: all threads again, after a while on one.
  seconds(1e-3, 2e-3);
  CHECK(!pace.alone);
  CHECK(seconds(1e-3, 2e-3) == Approx(2.0));
  // Others use the cores and one thread suffers as much: looked at rarely.
  CHECK(seconds(5e-3, 8e-3) < 2000 * 5e-3 * 1.1);
  CHECK(seconds(300e-3, 900e-3) < 2000 * 300e-3 * 1.1); // long runs, too
}

TEST_CASE("runtime: half precision", "[runtime]") {
  for (uint32_t bits = 0; bits < 65536; bits++) {
    float value = rt::float_of_half(uint16_t(bits));
    if (!std::isnan(value)) REQUIRE(rt::half_of_float(value) == bits);
  }
  CHECK(rt::half_of_float(65520.0f) == 0x7C00);
  CHECK(rt::half_of_float(65519.0f) == 0x7BFF);
  CHECK(rt::half_of_float(1.0f + 1.0f / 2048) == 0x3C00); // ties to even
  CHECK(rt::half_of_float(1.0f + 3.0f / 2048) == 0x3C02);
  CHECK(rt::bfloat_of_float(1.0f) == 0x3F80);
  CHECK(rt::bfloat_of_float(1.0f + 1.0f / 256) == 0x3F80);
  CHECK(rt::bfloat_of_float(1.0f + 3.0f / 256) == 0x3F82);
}

TEST_CASE("runtime: shuffling is a permutation keyed by seed and pass", "[runtime]") {
  std::vector<uint32_t> a(1000), b(1000), sorted(1000);
  rt::shuffle(a.data(), 1000, 1, 0);
  rt::shuffle(b.data(), 1000, 1, 1);
  CHECK(a != b);
  rt::shuffle(b.data(), 1000, 1, 0);
  CHECK(a == b);
  std::sort(a.begin(), a.end());
  std::iota(sorted.begin(), sorted.end(), 0u);
  CHECK(a == sorted);
}

TEST_CASE("runtime: metrics and times print as Keras prints them", "[runtime]") {
  rt::Array<rt::Metric> metrics;
  metrics.push({"loss", 0.3});
  metrics.push({"tiny", 7.1234e-4});
  metrics.push({"zero", 0});
  metrics.push({"bad", NAN});
  rt::Builder out;
  rt::add_metrics(out, metrics);
  CHECK(std::string(out.c_str()) ==
        " - loss: 0.3000 - tiny: 7.1234e-04 - zero: 0.0000e+00 - bad: nan");
  rt::Builder times;
  for (double t : {2.0, 0.25, 0.0912, 0.00031}) rt::add_step_time(times, t);
  CHECK(std::string(times.c_str()) == " 2s/step 250ms/step 91ms/step 310us/step");
}

namespace {
// The epoch, from 1, after which training stops; 0 if it does not.
int stops_at(const std::string &arguments, const std::vector<double> &values,
             const char *name = "val_loss") {
  const char *error;
  rt::EarlyStopping stopping =
      rt::make_early_stopping(rt::parse_json(arguments.data(), arguments.size(), &error));
  NncModel model{};
  rt::Program program{};
  program.model = &model;
  for (size_t epoch = 0; epoch < values.size(); epoch++) {
    rt::Array<rt::Metric> metrics;
    metrics.push({name, values[epoch]});
    if (stopping.epoch_end(program, int64_t(epoch), metrics)) return int(epoch) + 1;
  }
  return 0;
}
} // namespace

namespace {
// The first column of a CSV with this text, read as `dtype`.
std::string read_column(const std::string &text, int64_t dtype) {
  char path[] = "/tmp/nnc-csv-XXXXXX";
  close(mkstemp(path));
  std::ofstream(path, std::ios::binary) << text;
  rt::ColumnSpec spec;
  spec.name = "x";
  spec.file = path;
  rt::forget_csv();
  rt::RawArray raw = rt::read_csv(spec, dtype, 1);
  rt::forget_csv();
  unlink(path);
  return {raw.data, size_t(raw.dims[0] * rt::dtype_info(dtype).bytes)};
}
template <class T> std::vector<T> values_of(const std::string &bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}
} // namespace

TEST_CASE("runtime: numbers of a CSV are exact", "[runtime]") {
  std::mt19937_64 random(3);
  std::string text = "x\n";
  std::vector<std::string> numbers = {"0",
                                      "-0",
                                      "+1",
                                      ".5",
                                      "5.",
                                      "1e5",
                                      "1e-45",
                                      "3.4028235e38",
                                      "16777217",
                                      "1.00000005960464477539062500001",
                                      "inf",
                                      "-Infinity",
                                      "9007199254740993",
                                      "123456789012345678901234567890",
                                      "1e-400"};
  const char *formats[] = {"%.9g", "%.17g", "%.3f", "%.6e", "%.20f"};
  for (int i = 0; i < 20000; i++) {
    uint32_t bits = uint32_t(random());
    float value;
    memcpy(&value, &bits, 4);
    double wide =
        i % 2 ? double(value) : std::ldexp(double(random() >> 11), -50 + int(random() % 8));
    char number[400];
    snprintf(number, sizeof number, formats[random() % 5], wide);
    if (std::isfinite(wide)) numbers.push_back(number);
  }
  for (const std::string &number : numbers) text += number + "\n";
  std::vector<float> floats = values_of<float>(read_column(text, NNC_F32));
  std::vector<double> doubles = values_of<double>(read_column(text, NNC_F64));
  REQUIRE(floats.size() == numbers.size());
  for (size_t i = 0; i < numbers.size(); i++) {
    INFO(numbers[i]);
    float narrow = strtof(numbers[i].c_str(), nullptr);
    double wide = strtod(numbers[i].c_str(), nullptr);
    REQUIRE(memcmp(&floats[i], &narrow, 4) == 0);
    REQUIRE(memcmp(&doubles[i], &wide, 8) == 0);
  }
}

TEST_CASE("runtime: line ends, blanks and quotes of a CSV", "[runtime]") {
  using Floats = std::vector<float>;
  CHECK(values_of<float>(read_column("x\n1\n2", NNC_F32)) == Floats{1, 2});
  CHECK(values_of<float>(read_column("x\r\n1\r\n\r\n2\r\n", NNC_F32)) == Floats{1, 2});
  CHECK(values_of<float>(read_column("\xef\xbb\xbf\"x\"\n \"1\" \n\t2 \n", NNC_F32)) ==
        Floats{1, 2});
  CHECK(values_of<float>(read_column("y,\"a \"\"b\"\",\nc\",x\n9,,1\n8,\"text,\n\",2\n",
                                     NNC_F32)) == Floats{1, 2});
  CHECK(values_of<int64_t>(read_column("x\n-7\n3.0\n9223372036854775807\n", NNC_I64)) ==
        std::vector<int64_t>{-7, 3, INT64_MAX});
}

TEST_CASE("runtime: data without sample weights counts every row once", "[runtime]") {
  char path[] = "/tmp/nnc-csv-XXXXXX";
  close(mkstemp(path));
  std::ofstream(path) << "x,w\n1,5\n2,6\n3,7\n";
  NncDim dims[] = {{1, 0}};
  NncTensor inputs[] = {
      {"sample_weight", NNC_F32, 1, dims, NNC_INPUT, 0, 4, 0, nullptr, NNC_TENSOR_IO},
      {"x", NNC_F32, 1, dims, NNC_INPUT, 0, 4, 0, nullptr, NNC_TENSOR_IO}};
  const char *error = nullptr;
  auto weights = [&](const char *column) {
    rt::Array<rt::ColumnSpec> specs;
    for (const char *name : {"x", column}) {
      if (!name) continue;
      rt::ColumnSpec spec;
      spec.name = name == column ? "sample_weight" : name;
      spec.reader = "csv";
      spec.file = path;
      std::string json = std::string("[\"") + name + "\"]";
      spec.columns = rt::parse_json(json.c_str(), json.size(), &error);
      specs.push(spec);
    }
    rt::Dataset data;
    rt::load_columns(data, specs, inputs, 2, "validation data");
    const rt::Column *c = data.find("sample_weight");
    REQUIRE(c);
    CHECK(c->rows == 3);
    CHECK(c->dtype == NNC_F32);
    return values_of<float>({c->data, 12});
  };
  CHECK(weights("w") == std::vector<float>{5, 6, 7});
  CHECK(weights(nullptr) == std::vector<float>{1, 1, 1});
  unlink(path);
}

TEST_CASE("runtime: EarlyStopping follows Keras", "[runtime]") {
  CHECK(stops_at(R"({})", {1, 2, 3}) == 2); // patience 0
  CHECK(stops_at(R"({})", {1, 0.5, 0.4}) == 0);
  CHECK(stops_at(R"({"patience": 2})", {1, 2, 2, 2}) == 3);
  CHECK(stops_at(R"({"patience": 2})", {1, 2, 0.9, 2, 2}) == 5);
  CHECK(stops_at(R"({"min_delta": 0.1})", {1, 0.95}) == 2);
  CHECK(stops_at(R"({"min_delta": 0.1})", {1, 0.85, 0.7}) == 0);
  CHECK(stops_at(R"({"mode": "max"})", {1, 2, 3, 2}) == 4);
  CHECK(stops_at(R"({"monitor": "val_accuracy"})", {0.1, 0.2, 0.1}, "val_accuracy") == 3);
  CHECK(stops_at(R"({"monitor": "val_accuracy", "mode": "min"})", {0.1, 0.2}, "val_accuracy") == 2);
  CHECK(stops_at(R"({"start_from_epoch": 2, "patience": 1})", {1, 2, 3, 4}) == 4);
  CHECK(stops_at(R"({"patience": 2, "baseline": 0.5})", {1, 0.9, 0.8, 0.8}) == 4); // keeps waiting
  CHECK(stops_at(R"({"monitor": "nothing"})", {1, 2, 3}) == 0);
  CHECK(stops_at(R"({})", {NAN, NAN}) == 2);
}

TEST_CASE("runtime: the memory that control groups allow", "[runtime]") {
  namespace fs = std::filesystem;
  char name[] = "/tmp/nnc-groups-XXXXXX";
  REQUIRE(mkdtemp(name));
  std::string root = name;
  auto write = [&](const std::string &file, const std::string &text) {
    fs::create_directories(fs::path(root + "/" + file).parent_path());
    std::ofstream(root + "/" + file) << text << "\n";
  };
  auto limit = [&](const char *membership) {
    return rt::control_group_limit(1000, 300, membership, root.c_str());
  };
  CHECK(limit("") == 1000);
  CHECK(limit("0::/a/b\n") == 1000); // no such group
  write("a/b/memory.max", "max");
  CHECK(limit("0::/a/b\n") == 1000);
  write("a/memory.max", "500"); // and any swap
  CHECK(limit("0::/a/b\n") == 800);
  CHECK(limit("0::/a\n") == 800);
  CHECK(limit("0::/\n") == 1000);
  write("a/memory.swap.max", "0");
  CHECK(limit("0::/a/b\n") == 500);
  write("a/b/memory.max", "200");
  write("a/b/memory.swap.max", "max");
  CHECK(limit("0::/a/b\n") == 500);
  write("a/b/memory.swap.max", "50");
  CHECK(limit("7:cpu:/x\n0::/a/b\n") == 250);
  write("memory.max", "100"); // a container sees its own group as the root
  write("memory.swap.max", "0");
  CHECK(limit("0::/outside/of/here\n") == 100);
  write("memory/job/memory.limit_in_bytes", "9223372036854771712");
  CHECK(limit("4:memory:/job\n") == 1000);
  write("memory/job/memory.limit_in_bytes", "600");
  CHECK(limit("4:memory:/job\n") == 900);
  write("memory/job/memory.memsw.limit_in_bytes", "700");
  CHECK(limit("5:cpu:/\n4:memory:/job\n") == 700);
  CHECK(rt::usable_memory() > 1 << 20);
  fs::remove_all(root);
}

TEST_CASE("runtime: a machine gets the first version that it can run", "[runtime]") {
  NncModel all[3] = {};
  const NncModel *versions[] = {&all[0], &all[1], &all[2]};
  const char *names[] = {"high", "middle", "low"};
  const int64_t low = NNC_CPU_X86_64_V3, middle = low | NNC_CPU_X86_64_V4;
  const int64_t needs[] = {middle | NNC_CPU_AMX_BF16, middle, low};
  for (int i = 0; i < 3; i++)
    all[i].target = names[i], all[i].required_features = needs[i], all[i].versions = versions,
    all[i].version_count = 3;
  auto chosen = [&](const char *level, int64_t features) {
    return std::string(rt::choose_version(all[0], level, features).target);
  };
  CHECK(chosen(nullptr, -1) == "high");
  CHECK(chosen(nullptr, middle) == "middle");
  CHECK(chosen(nullptr, middle | NNC_CPU_AVX512_BF16) == "middle");
  CHECK(chosen(nullptr, low) == "low");
  CHECK(chosen(nullptr, low | NNC_CPU_AMX_BF16) == "low");
  CHECK(chosen(nullptr, 0) == "low"); // and then:
  CHECK(chosen("low", -1) == "low");
  CHECK(chosen("high", low) == "high");
  CHECK(rt::why_not(all[1], middle) == nullptr);
  const std::string reason = rt::why_not(all[0], low);
  CHECK(reason.find("high needs AVX-512, AMX, and this machine has only AVX2 with FMA") !=
        std::string::npos);
  CHECK(std::string(rt::why_not(all[2], 0)).find("has neither AVX2 nor AVX-512") !=
        std::string::npos);
  NncModel alone = all[0];
  alone.version_count = 0;
  CHECK(&rt::choose_version(alone, nullptr, 0) == &alone);
  CHECK(std::string(rt::why_not(alone, middle)).find("--mcpu=x86-64-v4, or portable") !=
        std::string::npos);
}
