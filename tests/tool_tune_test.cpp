// `nnc --tune`: what is measured is kept, found again and named, and changes no bit. No check
// depends on times, as a slow machine measures one kernel of a program in time: a cache that must
// change something is written here.
#include "codegen/cpu/schedule.h"
#include "codegen/tune.h"
#include "ir/text.h"
#include "tests/kernel_build.h"
#include "tests/random_contraction.h"
#include "tests/workplace.h"
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

using namespace nnc;
using namespace nnc::test;
using Catch::Matchers::Contains;

namespace {

// Its first layer is made of dot products, its gradients of outer ones.
const char *const kModel = R"(model Small(x: [batch, 160]) -> [batch, 3] {
  x |> Dense(70, activation = relu) |> Dense(3)
}

train Small {
  data       = npy(x = "x.npy", target = "y.npy")
  loss       = SparseCategoricalCrossentropy(from_logits = true)
  optimizer  = SGD(0.1)
  batch_size = 32
  epochs     = 2
}
)";

struct Models : Workplace {
  Models() {
    std::vector<float> x(90 * 160);
    std::vector<int32_t> y(90);
    uint32_t state = 1;
    for (float &v : x) v = float((state = state * 1664525 + 1013904223) >> 8) / 16777216.0f - 0.5f;
    for (size_t i = 0; i < y.size(); ++i)
      y[i] = int32_t(x[i * 160] > 0) + int32_t(x[i * 160 + 5] > 0);
    write("x.npy", npyFile("<f4", "(90, 160)", x));
    write("y.npy", npyFile("<i4", "(90,)", y));
    write("m.nn", kModel);
  }
  std::string nnc(const std::string &options) const {
    return must("XDG_CACHE_HOME=\"$PWD/cache\" " NNC_BINARY_DIR "/nnc m.nn " + options);
  }
  // The tensors of a trained model, without the header that names the tuning; and the header.
  std::pair<std::string, std::string> trained(const std::string &program) const {
    must("./" + program + " --verbose 0 --save w.safetensors");
    const std::string file = read("w.safetensors");
    uint64_t header = 0;
    std::memcpy(&header, file.data(), 8);
    return {file.substr(8 + size_t(header)), file.substr(8, size_t(header))};
  }
  // A cache that knows all contractions of the program, each with a tile of one row and one vector.
  void writeCache(Pack rows) const {
    ir::TextError wrong;
    const auto m = ir::parseModule(nnc("--emit=opt -o -"), wrong);
    INFO(wrong.message);
    REQUIRE(m);
    CodegenOptions o;
    std::string error;
    o.target = *resolveTarget("native", error);
    TuneCache asking, cache;
    asking.asked = [&](const Kernel &k, const Target &t) {
      Kernel as = k;
      as.schedule = {};
      const Kernel plain = as;
      applyChoice(as, t, contractChoices(plain, t)[0]);
      TunedSchedule tuned{as.contract.a != plain.contract.a, as.schedule};
      tuned.schedule.mr = tuned.schedule.nv = 1, tuned.schedule.packA = rows;
      cache.put(plain, t, tuned);
    };
    o.tuning = &asking;
    compile(*m, o, Emit::Memory);
    REQUIRE(cache.size() >= 4);
    REQUIRE(cache.save((*this / "cache/nnc/tuning.json").string()) == "");
  }
  std::string tuningOf(const std::string &program) const {
    const std::string about = must("./" + program + " --about");
    const size_t at = about.find("tuning   ");
    REQUIRE(at != std::string::npos);
    return about.substr(at + 9, about.find('\n', at) - at - 9);
  }
};

// A product y[n, 70] = x[n, terms] w, unscheduled; w is [70, terms] if turned, else [terms, 70].
Kernel product(int64_t terms, bool turned, DType type = DType::f32) {
  KernelBuild b(32);
  auto x = b.arg(type, {Dim::batch(), terms}),
       w = b.arg(type, turned ? Dims{70, terms} : Dims{terms, 70}),
       y = b.arg(DType::f32, {Dim::batch(), 70}, true, false);
  auto r = b.axis("r", Dim::batch()), o = b.axis("o", 70), i = b.axis("i", terms);
  b.k.cls = KernelClass::Contract;
  b.k.contract.m = {r}, b.k.contract.n = {o}, b.k.contract.k = {i};
  b.k.contract.a = b.load(x, b.at(r, terms) + b.at(i));
  b.k.contract.b = b.load(w, turned ? b.at(o, terms) + b.at(i) : b.at(i, 70) + b.at(o));
  b.stage(b.acc());
  b.to(y, b.at(r, 70) + b.at(o));
  return b.k;
}

Kernel smallProduct() { return product(40, false); }
// Both operands run along the sum.
Kernel dotProduct() { return product(160, true); }

Target level() {
  std::string error;
  return *resolveTarget("x86-64-v3", error);
}

} // namespace

TEST_CASE("tune: a binary of measured schedules has the same bits and says so", "[tool][tune]") {
  Models w;
  w.nnc("-o plain");
  CHECK(w.tuningOf("plain") == "none");
  const std::string said = w.nnc("-o tuned --tune=0.5");
  CHECK_THAT(said, Contains("tuned ") && Contains(" kernels, ") && Contains(" changed"));
  REQUIRE(w.has("cache/nnc/tuning.json"));
  CHECK(!nlohmann::json::parse(w.read("cache/nnc/tuning.json"))["entries"].empty());
  // Rows packed where they can be: those of dot products cannot.
  w.writeCache(Pack::tile);
  w.nnc("-o packed");
  w.writeCache(Pack::none);
  w.nnc("-o other");
  w.nnc("-o again");
  w.nnc("-o off --no-tune-cache");
  const std::string tuned = w.tuningOf("tuned"), other = w.tuningOf("other");
  CHECK(tuned.size() == 16);
  CHECK(other.size() == 16);
  CHECK(tuned != other);
  CHECK(w.tuningOf("off") == "none");
  CHECK((w.read("other") == w.read("again")));
  CHECK((w.read("off") == w.read("plain")));
  CHECK((w.read("other") != w.read("plain")));

  CHECK((w.read("packed") != w.read("plain")));
  const auto plain = w.trained("plain"), a = w.trained("tuned"), b = w.trained("other");
  CHECK((plain.first == w.trained("packed").first));
  CHECK((plain.first == a.first));
  CHECK((plain.first == b.first));
  CHECK_THAT(plain.second, Contains("\"tuning\":\"none\""));
  CHECK_THAT(a.second, Contains("\"tuning\":\"" + tuned + "\""));
  CHECK_THAT(b.second, Contains("\"tuning\":\"" + other + "\""));
}

TEST_CASE("tune: a cache that is broken or of somebody else is named and not used",
          "[tool][tune]") {
  Models w;
  w.nnc("-o plain");
  const std::pair<const char *, const char *> files[] = {
      {"{\"format\": \"nnc-tun", "is no cache of measured schedules"},
      {"{\"format\": \"else\", \"version\": 1, \"entries\": []}",
       "is no cache of measured schedules"},
      {"[1, 2]", "is no cache of measured schedules"},
      {"{\"format\": \"nnc-tuning\", \"version\": 99, \"entries\": []}",
       "was written by another version of nnc"},
      {"{\"format\": \"nnc-tuning\", \"version\": 1}", "is damaged: it has no entries"},
      {"{\"format\": \"nnc-tuning\", \"version\": 1, \"entries\": [{\"kernel\": 1}]}",
       "is damaged: entry 1 is not whole"}};
  for (auto [text, message] : files) {
    INFO(text);
    w.write("cache/nnc/tuning.json", text);
    CHECK_THAT(w.nnc("-o used"), Contains("warning: ") && Contains(message));
    CHECK((w.read("used") == w.read("plain")));
    w.write("own.json", text);
    Outcome o = w.run(NNC_BINARY_DIR "/nnc m.nn -o used --tune-cache own.json");
    CHECK(o.status == 1);
    CHECK_THAT(o.text, Contains("`own.json` ") && Contains(message));
    // What somebody else wrote is not overwritten.
    o = w.run(NNC_BINARY_DIR "/nnc m.nn -o used --tune=0.1 --tune-cache own.json");
    CHECK(o.status == 1);
    CHECK((w.read("own.json") == text));
  }
}

TEST_CASE("tune: every version of a program is measured", "[tool][tune]") {
  Models w;
  const std::string said = w.nnc("-o portable --mcpu=portable --tune=0.5");
  CHECK_THAT(said, Contains(" kernels, "));
  std::set<std::string> targets;
  const auto file = nlohmann::json::parse(w.read("cache/nnc/tuning.json"));
  for (const auto &e : file["entries"]) targets.insert(e["target"].get<std::string>());
  std::string error;
  size_t versions = 0;
  for (const Target &t : resolveTargets("", "portable", error)) versions += runsHere(t);
  CHECK(targets.size() == versions);
  w.nnc("-o plain --mcpu=portable --no-tune-cache");
  CHECK((w.trained("portable").first == w.trained("plain").first));
}

TEST_CASE("tune: options", "[tool][tune]") {
  Models w;
  const std::pair<const char *, const char *> cases[] = {
      {"--tune=soon", "`--tune` needs a number of seconds, found `soon`"},
      {"--tune=-1", "`--tune` needs a number of seconds"},
      {"--tune --no-tune-cache", "`--no-tune-cache` contradicts `--tune`"},
      {"--tune --target=aarch64-linux-gnu", "which cannot run code for generic"}};
  for (auto [options, message] : cases) {
    const Outcome o = w.run(std::string(NNC_BINARY_DIR "/nnc m.nn ") + options);
    INFO(o.text);
    CHECK(o.status == 2);
    CHECK_THAT(o.text, Contains(message));
  }
}

TEST_CASE("tune: a cache comes back from its file", "[tool][tune]") {
  Workplace w;
  const std::string path = (w / "deep/folder/t.json").string();
  const Target t = level();
  const Kernel k = smallProduct();
  Random r(1);
  std::string last;
  for (int i = 0; i < 40; ++i) {
    Kernel as = k;
    randomSchedule(as, t, r);
    const TunedSchedule s{as.contract.a != k.contract.a, as.schedule};
    TuneCache cache, again;
    cache.put(k, t, s);
    REQUIRE(cache.save(path) == "");
    REQUIRE(again.load(path) == "");
    REQUIRE(again.size() == 1);
    CHECK(again.hash() == "none"); // of what was used
    Kernel x = k, y = k;
    REQUIRE(cache.schedule(x, t) == again.schedule(y, t));
    CHECK(cache.hash() == again.hash());
    CHECK(print(x, false) == print(y, false));
    if (cache.hash() == "none") continue; // columns that the cache does not keep
    CHECK(print(x, false) == print(as, false));
    // Another target, another kernel.
    std::string error;
    Kernel z = k;
    CHECK(!again.schedule(z, *resolveTarget("x86-64-v4", error)));
    z.batch = 31;
    CHECK(!again.schedule(z, t));
  }
  TuneCache none;
  CHECK(none.load((w / "missing.json").string()) == "");
  CHECK(none.size() == 0);
  // Dot products keep their family and take its tiles only.
  Kernel dot = dotProduct();
  REQUIRE(contractFamily(dot, t) == Family::Dot);
  for (auto [rows, columns, fits] : {std::tuple{1, 1, true},
                                     {1, 4, true},
                                     {2, 2, true},
                                     {2, 4, false},
                                     {6, 1, true},
                                     {2, 3, false},
                                     {8, 8, false}}) {
    INFO(rows << " x " << columns);
    Kernel as = dotProduct();
    applyChoice(as, t, contractChoices(dot, t)[0]);
    TunedSchedule s{as.contract.a != dot.contract.a, as.schedule};
    s.schedule.mr = rows, s.schedule.nv = columns, s.schedule.items.clear();
    Kernel x = dotProduct();
    CHECK(applyTuned(x, t, s) == fits);
    if (fits) CHECK(verify(x) == "");
    if (fits) CHECK(x.schedule.family == Family::Dot);
    TuneCache cache;
    Kernel y = dotProduct();
    cache.put(dot, t, s);
    CHECK(cache.schedule(y, t) == fits);
  }
  // What runs on tile registers stays there.
  std::string wrongTarget;
  const Target tiles = *resolveTarget("sapphirerapids", wrongTarget);
  Kernel bf16 = product(256, false, DType::bf16);
  REQUIRE(contractFamily(bf16, tiles) == Family::Amx);
  Kernel vectors = product(256, false, DType::bf16);
  applyChoice(vectors, tiles, contractChoices(bf16, tiles)[0]);
  CHECK(!applyTuned(bf16, tiles, {vectors.contract.a != bf16.contract.a, vectors.schedule}));
  // Schedules that no emitter takes are not applied.
  for (int wrong = 0; wrong < 8; ++wrong) {
    TunedSchedule s;
    s.schedule.row = 0, s.schedule.col = 1, s.schedule.mr = 4;
    Kernel fine = k;
    REQUIRE(applyTuned(fine, t, s));
    switch (wrong) {
    case 0: s.schedule.mr = 40; break;
    case 1: s.schedule.col = 2; break;
    case 2: s.schedule.row = 77; break;
    case 3: s.schedule.kAxis = 0, s.schedule.kBlock = 4; break;
    case 4: s.schedule.items = {{1, 3}}; break;
    case 5: s.schedule.items = {{0, 4}, {0, 8}}; break;
    case 6: s.schedule.nv = 0; break;
    case 7: s.swap = true; break;
    }
    Kernel x = k;
    CHECK(!applyTuned(x, t, s));
    CHECK(print(x, false) == print(k, false));
  }
}
