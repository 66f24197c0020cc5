// The programs of tests/programs that train: what they compute, beside Keras, JAX and NumPy.
//
// Problem. A program that compiles may still read its data askew, forget a weight, clip one
// gradient instead of all, or train what it was told to leave alone.
//
// Method. Each program is built with its own text, sizes made smaller where the machine would have
// long to do, on data made here by formulas; it starts from weights made by formulas, and its
// predictions, its losses and its weights after some steps are compared with those that
// tests/reference/make_programs_training.py computed in double precision. What is random is checked
// by what must hold for any draw.
#include "tests/library_program.h"
#include "tests/workplace.h"
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <minizip/zip.h>
#include <png.h>
#include <set>
#include <unistd.h>

using namespace nnc;
using namespace nnc::fe::test;
using namespace nnc::test;
namespace fs = std::filesystem;
using Catch::Matchers::Contains;

namespace {

// --- formulas, as in make_programs_training.py ---------------------------------------------------

/// n numbers below 2^32 without a pattern.
std::vector<uint32_t> noise(uint64_t n, uint64_t seed) {
  std::vector<uint32_t> out;
  for (uint64_t i = 0; i < n; ++i) {
    uint64_t x = (i + seed * 1000003) * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 32)) * 0xD6E8FEB86659FD93u;
    out.push_back(uint32_t(x >> 32));
  }
  return out;
}

/// Numbers in [-1, 1) without a pattern, exact in single precision.
std::vector<double> unit(uint64_t n, uint64_t seed) {
  std::vector<double> out;
  for (uint32_t v : noise(n, seed)) out.push_back(double(v >> 12) / 524288 - 1);
  return out;
}

struct Tensor {
  std::vector<int64_t> dims;
  std::vector<double> data;
};
using Tensors = std::map<std::string, Tensor>;

/// The initial value of the k-th weight (from 0).
Tensor initial(const std::string &name, const std::vector<int64_t> &dims, size_t k) {
  Tensor t{dims, {}};
  int64_t count = 1, rows = 16;
  for (const int64_t d : dims) count *= d;
  if (dims.size() > 1) rows = count / dims.back();
  t.data = unit(uint64_t(count), k + 1);
  const bool near1 = name.ends_with("gamma") || name.ends_with("variance");
  for (double &v : t.data) v = double(float(double(float(v / std::sqrt(double(rows)))) + near1));
  if (name.ends_with("count")) t.data = {0};
  return t;
}

// --- files ---------------------------------------------------------------------------------------

/// The text of a program of tests/programs, with pieces of it replaced, each of which must occur.
using Changes = std::vector<std::pair<std::string, std::string>>;
std::string program(const std::string &name, const Changes &changes = {}) {
  const std::string folder = NNC_SOURCE_DIR "/tests/programs/";
  std::string text = readText(folder + name + ".nn");
  for (auto &[from, to] : changes) {
    INFO(name << ": " << from);
    REQUIRE(text.find(from) != std::string::npos);
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
      text.replace(at, from.size(), to);
  }
  for (size_t at = 0; (at = text.find("import \"", at)) != std::string::npos; at += 8)
    text.insert(at + 8, folder); // the program lies elsewhere now
  return text;
}

/// Programs run on one thread.
struct Place : Workplace {
  std::string run(std::string command, bool fails = false) const {
    return must(command.starts_with("./") ? command + " --threads 1" : command, fails);
  }
  /// The program as it stands, in its own sizes, has no mistakes beside this data.
  void checkWhole(const std::string &name) const {
    write("whole.nn", program(name));
    CHECK_THAT(run(NNC_BINARY_DIR "/nnc check whole.nn"), Contains("no mistakes found"));
  }
  /// Compiles a text to ./name; what the compiler says.
  std::string compile(const std::string &name, const std::string &text) const {
    write(name + ".nn", text);
    return run(NNC_BINARY_DIR "/nnc " + name + ".nn -o " + name);
  }
  /// The floats of a file of weights.
  Tensors weights(const std::string &name) const {
    const std::string bytes = read(name);
    uint64_t size = 0;
    REQUIRE(bytes.size() > 8);
    std::memcpy(&size, bytes.data(), 8);
    ir::Meta header;
    std::string error;
    REQUIRE(parseJson(bytes.substr(8, size), header, error));
    Tensors out;
    for (auto &[key, value] : *header.asDict()) {
      const ir::Meta *type = value.find("dtype");
      if (!type || *type->asString() != "F32") continue;
      const auto at = integers(*value.find("data_offsets"));
      Tensor t{integers(*value.find("shape")), {}};
      for (int64_t i = at[0]; i < at[1]; i += 4) {
        float v;
        std::memcpy(&v, bytes.data() + 8 + size + i, 4);
        t.data.push_back(v);
      }
      out[key] = std::move(t);
    }
    return out;
  }
  void writeWeights(const std::string &name, const Tensors &weights) const {
    std::string header = "{\"__metadata__\":{\"format\":\"nnc\"}", content;
    for (auto &[key, t] : weights) {
      header += ",\"" + key + "\":{\"dtype\":\"F32\",\"shape\":[";
      for (size_t i = 0; i < t.dims.size(); ++i)
        header += (i ? "," : "") + std::to_string(t.dims[i]);
      header += "],\"data_offsets\":[" + std::to_string(content.size()) + ",";
      for (const double v : t.data) {
        const float f = float(v);
        content.append(reinterpret_cast<const char *>(&f), 4);
      }
      header += std::to_string(content.size()) + "]}";
    }
    header += "}";
    while (header.size() % 8) header += ' ';
    const uint64_t size = header.size();
    write(name, std::string(reinterpret_cast<const char *>(&size), 8) + header + content);
  }
  /// A ZIP file, as NumPy's archives are.
  void writeZip(const std::string &name,
                const std::vector<std::pair<std::string, std::string>> &entries) const {
    zipFile zip = zipOpen((dir / name).c_str(), APPEND_STATUS_CREATE);
    REQUIRE(zip);
    for (auto &[entry, bytes] : entries) {
      REQUIRE(zipOpenNewFileInZip(zip, entry.c_str(), nullptr, nullptr, 0, nullptr, 0, nullptr, 0,
                                  0) == ZIP_OK);
      REQUIRE(zipWriteInFileInZip(zip, bytes.data(), unsigned(bytes.size())) == ZIP_OK);
      zipCloseFileInZip(zip);
    }
    zipClose(zip, nullptr);
  }
  /// Rows of numbers behind a line of names.
  std::vector<std::vector<double>> table(const std::string &text) const {
    std::istringstream in(text);
    std::vector<std::vector<double>> rows;
    std::string line;
    std::getline(in, line);
    while (std::getline(in, line)) {
      std::stringstream cells(line);
      rows.emplace_back();
      for (std::string cell; std::getline(cells, cell, ',');)
        rows.back().push_back(std::stod(cell));
    }
    return rows;
  }
};

/// An array in the form of NumPy's files: `<f4`, `<i4` or `|u1`.
std::string npy(const std::string &type, const std::vector<int64_t> &dims,
                const std::vector<double> &values) {
  std::string header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': (";
  for (const int64_t d : dims) header += std::to_string(d) + ", ";
  header += "), }";
  while ((11 + header.size()) % 64) header += ' ';
  header += '\n';
  std::string bytes = "\x93NUMPY";
  bytes += {1, 0, char(header.size() & 255), char(header.size() >> 8)};
  bytes += header;
  for (const double v : values) {
    const float f = float(v);
    const int32_t i = int32_t(v);
    if (type == "<f4") bytes.append(reinterpret_cast<const char *>(&f), 4);
    if (type == "<i4") bytes.append(reinterpret_cast<const char *>(&i), 4);
    if (type == "|u1") bytes += char(i);
  }
  return bytes;
}

// --- comparisons ---------------------------------------------------------------------------------

/// A case of the reference.
const ir::Meta &caseOf(const std::string &name) {
  static const ir::Meta::List all = cases("programs_training.json");
  for (const ir::Meta &c : all)
    if (*c.find("name")->asString() == name) return c;
  FAIL("no case " << name);
  return all[0];
}

/// The weights of a case as they are before training.
Tensors start(const ir::Meta &c) {
  Tensors out;
  size_t k = 0;
  for (const ir::Meta &w : *c.find("weights")->asList()) {
    const std::string &name = *w.find("name")->asString();
    out[name] = initial(name, integers(*w.find("dims")), k++);
  }
  return out;
}

/// The weights that the reference says, and no others, have changed, to its values.
void checkTrained(const ir::Meta &c, const Tensors &before, const Tensors &found,
                  double absolute = 1e-5) {
  int changed = 0;
  for (const ir::Meta &w : *c.find("weights")->asList()) {
    const std::string &name = *w.find("name")->asString();
    INFO(name);
    REQUIRE(found.contains(name));
    const std::vector<double> &v = found.at(name).data;
    REQUIRE(v.size() == before.at(name).data.size());
    if (!w.find("sample")) {
      CHECK(v == before.at(name).data);
      continue;
    }
    ++changed;
    std::vector<double> sample;
    const size_t step = std::max<size_t>(1, (v.size() + 15) / 16);
    double squares = 0;
    for (size_t i = 0; i < v.size(); ++i) {
      squares += v[i] * v[i];
      if (i % step == 0) sample.push_back(v[i]);
    }
    checkClose(sample, numbers(*w.find("sample")), 1e-5, absolute);
    CHECK(squares == Approx(number(*w.find("squares"))).epsilon(1e-5));
  }
  CHECK(changed > 0);
}

/// A compiled program whose normalization adapts: one epoch gives the weights of the case, and with
/// the statistics found there and the other weights as they were it gives the predictions.
void checkAdapted(const Place &p, const ir::Meta &c, const std::string &name) {
  p.writeWeights("start", start(c));
  p.run("./" + name + " --weights start --epochs 1 --no-shuffle --save after");
  const Tensors after = p.weights("after");
  checkTrained(c, start(c), after);
  Tensors adapted = start(c);
  for (auto &[path, t] : adapted)
    if (path.starts_with(name + "/normalization")) t = after.at(path);
  p.writeWeights("adapted", adapted);
  p.run("./" + name + " predict --weights adapted --output y.csv");
  std::vector<double> y;
  for (const auto &row : p.table(p.read("y.csv"))) y.push_back(row.at(0));
  checkClose(y, numbers(*c.find("y")), 1e-5, 1e-5);
}

/// The losses of single steps, as --log-steps wrote them.
std::vector<double> losses(const Place &p, const std::string &log) {
  std::vector<double> out;
  const std::string text = readText((p / log).string());
  const std::string names = text.substr(0, text.find('\n'));
  size_t column = 0;
  for (size_t at = 0; names.compare(at, 4, "loss") != 0; ++column) {
    at = names.find(',', at) + 1;
    REQUIRE(at != 0);
  }
  for (const auto &row : p.table(text)) out.push_back(row.at(column));
  return out;
}

/// The last value printed for a quantity.
double last(const std::string &text, const std::string &name) {
  INFO(text);
  const size_t at = text.rfind(name + ": ");
  REQUIRE(at != std::string::npos);
  return std::atof(text.c_str() + at + name.size() + 2);
}

} // namespace

// --- text ----------------------------------------------------------------------------------------

namespace {

const Changes kSmallGpt{{"GPT(256, 384, 6, 6, 256)", "GPT(256, 16, 2, 2, 16, 0.0)"}};

/// 8 rows of 17 bytes.
std::string madeUpText() {
  std::string out;
  for (uint32_t v : noise(8 * 17, 5)) out += char('a' + v % 9);
  return out;
}

} // namespace

TEST_CASE("programs: a transformer learns text as JAX has it", "[programs]") {
  const ir::Meta &c = caseOf("generate");
  Place p;
  p.write("shakespeare.txt", madeUpText());
  Changes changes = kSmallGpt;
  changes.insert(changes.end(),
                 {{"bytes(257)", "bytes(17)"}, {"length: int = 500", "length: int = 30"}});
  p.checkWhole("generate");
  p.compile("generate", program("generate", changes));
  p.writeWeights("start", start(c));
  p.run("./generate --weights start --steps 3 --epochs 3 --no-shuffle --save after --log-steps "
        "log.csv");
  checkClose(losses(p, "log.csv"), numbers(*c.find("losses")), 1e-5);
  checkTrained(c, start(c), p.weights("after"));
}

TEST_CASE("programs: a trained transformer continues its prompt", "[programs]") {
  Place p;
  std::string text;
  for (int i = 0; i < 90; ++i) text += "a cat sat on the mat; ";
  p.write("shakespeare.txt", text);
  p.write("prompt.txt", text.substr(0, 16) + text.substr(7, 16));
  p.compile("generate",
            program("generate", {{"GPT(256, 384, 6, 6, 256)", "GPT(256, 32, 1, 2, 16, 0.0)"},
                                 {"bytes(257)", "bytes(17)"},
                                 {"length: int = 500", "length: int = 40"},
                                 {"AdamW(3e-4", "AdamW(1e-2"},
                                 {"predict = Generate(gpt)",
                                  "epochs = 25\n  predict = Generate(gpt, temperature = 0.1)"}}));
  p.run("./generate");
  // Rows of 16 bytes, each continued by 40.
  const std::string csv = p.run("./generate predict --data prompt=prompt.txt");
  const auto rows = p.table(csv);
  REQUIRE(rows.size() == 2);
  for (size_t r = 0; r < 2; ++r) {
    std::string said;
    for (const double v : rows[r]) said += char(v);
    CHECK(said == text.substr(r ? 23 : 16, 40));
  }
  CHECK(p.run("./generate predict --data prompt=prompt.txt --seed 1") ==
        csv); // sure of what it says
  // A prompt must be there, and as long as a row.
  CHECK_THAT(p.run("./generate predict", true), Contains("give one with --data prompt=PATH"));
  p.write("short.txt", "the cat");
  CHECK_THAT(p.run("./generate predict --data prompt=short.txt", true),
             Contains("there are 7 rows, a window takes 16"));
  p.write("prompt.npy", npy("|u1", {1, 16}, std::vector<double>(text.begin(), text.begin() + 16)));
  CHECK(p.table(p.run("./generate predict --data prompt=prompt.npy"))[0] == rows[0]);
  CHECK_THAT(p.run("./generate predict --data promt=prompt.txt", true),
             Contains("no data `promt`"));
  p.write("open.nn", program("generate", {{"prompt: u8[batch, time]", "prompt: u8[batch, len]"}}));
  CHECK_THAT(p.run(NNC_BINARY_DIR "/nnc check open.nn", true),
             Contains("reads what the data does not give from `--data prompt=PATH`"));
}

TEST_CASE("programs: what a step averages writes text", "[programs]") {
  Place p;
  p.write("shakespeare.txt", madeUpText());
  Changes changes = kSmallGpt;
  changes.insert(changes.end(),
                 {{"257", "17"},
                  {"import \"gpt.nn\"", "import \"generate.nn\" as g\nimport \"gpt.nn\""},
                  {"train m {", "train m {\n  predict = g.Generate(ema, 20)"}});
  p.compile("step", program("clipping_ema", changes));
  p.run("./step");
  // The length of the prompt is that of the rows that the step gives `m`.
  const auto rows = p.table(p.run("./step predict --data prompt=shakespeare.txt"));
  REQUIRE(rows.size() == 8 * 17 / 16);
  CHECK(rows[0].size() == 20);
}

TEST_CASE("programs: what predicts takes other inputs than what is trained", "[programs]") {
  Place p;
  p.write("tokens.npy", npy("<i4", {4, 3}, {0, 1, 2, 1, 2, 0, 2, 0, 1, 0, 1, 2}));
  p.write("wrong.npy", npy("<i4", {4, 3}, {0, 1, 2, 1, 2, 3, 2, 0, 1, 0, 1, 2}));
  p.write("scale.csv", "scale\n1\n2\n3\n4\n");
  p.compile("own",
            "model M(tokens: i32[batch, time]) -> [batch, 1] {\n"
            "  tokens |> Embedding(3, 2) |> Flatten() |> Dense(1)\n}\n"
            "m = M()\n"
            "model Both(m: M)(tokens: i32[batch, time], again: i32[batch, time], scale: [batch, 1])"
            " -> (a: [batch, 1], b: [batch, 1]) {\n"
            "  a = m(tokens)\n  b = scale * m(again)\n}\n"
            "train m {\n"
            "  data = npy(tokens = \"tokens.npy\", target = \"tokens.npy\")\n"
            "         |> map(fn(tokens, target) = (tokens = tokens, target = target[:, 0] / 1))\n"
            "  loss = MeanSquaredError()\n  optimizer = SGD()\n  predict = Both(m)\n}\n");
  p.run("./own");
  const auto y = p.table(p.run("./own predict --data again=tokens.npy --data scale=scale.csv"));
  REQUIRE(y.size() == 4);
  for (size_t i = 0; i < 4; ++i)
    CHECK(y[i].at(1) == Approx(double(i + 1) * y[i].at(0)).epsilon(1e-5));
  p.write("again.txt", std::string("\0\1\2\1\2\0\2\0\1\0\1\2", 12)); // as bytes
  CHECK(p.table(p.run("./own predict --data again=again.txt --data scale=scale.csv")) == y);
  CHECK_THAT(p.run("./own predict --data again=wrong.npy --data scale=scale.csv", true),
             Contains("expected a value in [0, 3), found 3"));
}

TEST_CASE("programs: the step is clipped, has two optimizers and an average", "[programs]") {
  const ir::Meta &c = caseOf("clipping_ema");
  Place p;
  p.write("shakespeare.txt", madeUpText());
  Changes changes = kSmallGpt;
  changes.insert(changes.end(),
                 {{"257", "17"}, {"WarmupCosine(3e-4, 200, 10_000)", "WarmupCosine(3e-2, 2, 8)"}});
  p.checkWhole("clipping_ema");
  p.compile("step", program("clipping_ema", changes));
  p.writeWeights("start", start(c));
  p.run("./step --weights start --epochs 4 --no-shuffle --save after --log-steps log.csv");
  checkClose(losses(p, "log.csv"), numbers(*c.find("losses")), 1e-4);
  checkTrained(c, start(c), p.weights("after"), 1e-4);
}

TEST_CASE("programs: predictions draw other numbers in each batch, the same in each run",
          "[programs]") {
  Place p;
  p.write("x.npy", npy("<f4", {70, 1}, std::vector<double>(70, 0)));
  p.compile("draws",
            "model M(x: [batch, 1]) -> [batch, 1] { x |> Dense(1) }\nm = M()\n"
            "model Noisy(m: M)(x: [batch, 1]) -> [batch, 1] { m(x) + random_uniform([batch, 1]) }\n"
            "train m {\n  data = npy(x = \"x.npy\", target = \"x.npy\")\n"
            "  loss = MeanSquaredError()\n  optimizer = SGD()\n  predict = Noisy(m)\n}\n");
  p.run("./draws");
  const std::string first = p.run("./draws predict");
  std::set<double> different;
  for (const auto &row : p.table(first)) different.insert(row.at(0));
  CHECK(different.size() > 65);
  CHECK(p.run("./draws predict") == first);
  CHECK(p.run("./draws predict --seed 1") != first);
}

// --- tables --------------------------------------------------------------------------------------

TEST_CASE("programs: categories are hashed, tables looked up, areas measured", "[programs]") {
  const ir::Meta &c = caseOf("dlrm");
  Place p;
  const size_t rows = 80;
  const auto counts = noise(13 * rows, 21), words = noise(5 * rows, 22), labels = noise(rows, 23);
  std::string csv = "label";
  for (int i = 1; i <= 13; ++i) csv += ",I" + std::to_string(i);
  for (int i = 1; i <= 5; ++i) csv += ",C" + std::to_string(i);
  for (size_t r = 0; r < rows; ++r) {
    csv += "\n" + std::to_string(labels[r] % 2);
    for (size_t i = 0; i < 13; ++i) csv += "," + std::to_string(counts[13 * r + i] % 100);
    char word[16];
    for (size_t i = 0; i < 5; ++i) {
      std::snprintf(word, sizeof word, ",%08x", words[5 * r + i] % 50);
      csv += word;
    }
  }
  p.write("train.csv", csv + "\n");
  p.checkWhole("dlrm");
  p.compile("dlrm", program("dlrm", {{"[1460, 583, 10_131, 2202, 305]", "[7, 5, 11, 6, 3]"}}));
  checkAdapted(p, c, "dlrm"); // the statistics are those of the rows that train
  // Of all rows: the area as Keras has it, which is near the exact one.
  p.compile("area", program("dlrm", {{"[1460, 583, 10_131, 2202, 305]", "[7, 5, 11, 6, 3]"},
                                     {"  validation = split(0.1)\n", ""}}));
  const double area = last(p.run("./area evaluate --weights adapted"), "auc");
  CHECK(area == Approx(numbers(*c.find("auc"))[0]).margin(1e-4));
  CHECK(area == Approx(numbers(*c.find("exact_auc"))[0]).margin(0.01));
}

TEST_CASE("programs: a time series is cut in windows and mapped", "[programs]") {
  const ir::Meta &c = caseOf("forecast");
  Place p;
  std::string csv = "Date Time";
  for (int i = 0; i < 14; ++i) csv += ",c" + std::to_string(i);
  const auto values = unit(360 * 14, 31);
  for (size_t r = 0; r < 360; ++r) {
    csv += "\n01.01.2009 00:" + std::to_string(r % 60) + ":00";
    for (size_t i = 0; i < 14; ++i) {
      char cell[32];
      std::snprintf(cell, sizeof cell, ",%.9g", values[14 * r + i]);
      csv += cell;
    }
  }
  p.write("jena.csv", csv + "\n");
  p.compile("forecast", program("forecast"));
  checkAdapted(p, c, "forecast");
}

// --- several blocks ------------------------------------------------------------------------------

namespace {

/// The IDX form of bytes.
std::string idx(const std::vector<uint32_t> &dims, const std::vector<uint8_t> &values) {
  std::string out{0, 0, 8, char(dims.size())};
  for (const uint32_t d : dims)
    for (int shift = 24; shift >= 0; shift -= 8) out += char(d >> shift & 255);
  return out.append(values.begin(), values.end());
}

} // namespace

TEST_CASE("programs: an encoder is trained, frozen and used; a teacher teaches", "[programs]") {
  Place p;
  const uint32_t n = 40;
  std::vector<uint8_t> pixels, labels;
  for (const uint32_t v : noise(n * 784, 41)) pixels.push_back(uint8_t(v >> 24));
  for (const uint32_t v : noise(n, 42)) labels.push_back(uint8_t(v % 10));
  p.write("train-images-idx3-ubyte", idx({n, 28, 28}, pixels));
  p.write("train-labels-idx1-ubyte", idx({n}, labels));
  p.run("gzip train-images-idx3-ubyte train-labels-idx1-ubyte");
  // The teacher comes from another program's file.
  const ir::Meta &autoCase = caseOf("pretrain auto");
  const Tensors before = start(autoCase);
  p.writeWeights("teacher.safetensors", {{"net/dense/kernel", before.at("dense_5/kernel")},
                                         {"net/dense/bias", before.at("dense_5/bias")},
                                         {"net/dense_1/kernel", before.at("dense_6/kernel")},
                                         {"net/dense_1/bias", before.at("dense_6/bias")}});
  CHECK(p.compile("pretrain", program("pretrain")) == "");
  p.writeWeights("start", before);
  p.run("./pretrain train auto --weights start --epochs 1 --no-shuffle --save one");
  checkTrained(autoCase, before, p.weights("one"));
  p.run("./pretrain train clf --weights one --epochs 1 --no-shuffle --save two");
  checkTrained(caseOf("pretrain clf"), p.weights("one"), p.weights("two"));
  p.run("./pretrain train student --weights two --epochs 1 --no-shuffle --save three");
  checkTrained(caseOf("pretrain student"), p.weights("two"), p.weights("three"));
  // All blocks in their order are the same; without a file of weights the teacher is the one that
  // was loaded.
  p.run("./pretrain --weights start --epochs 1 --no-shuffle --save all");
  const Tensors all = p.weights("all"), three = p.weights("three");
  for (auto &[name, t] : before) {
    INFO(name);
    CHECK(all.at(name).data == three.at(name).data);
  }
  p.run("./pretrain --epochs 1 --save fresh");
  const Tensors fresh = p.weights("fresh");
  for (const char *name : {"dense_5/kernel", "dense_5/bias", "dense_6/kernel", "dense_6/bias"}) {
    INFO(name);
    CHECK(fresh.at(name).data == before.at(name).data);
  }
}

// --- pairs ---------------------------------------------------------------------------------------

TEST_CASE("programs: one tower sees two images, with a loss for each output", "[programs]") {
  const ir::Meta &c = caseOf("siamese");
  Place p;
  const int64_t n = 12;
  std::vector<double> same, label;
  for (const uint32_t v : noise(n, 53)) same.push_back(v % 2);
  for (const uint32_t v : noise(n, 54)) label.push_back(v % 10);
  p.writeZip("pairs.npz", {{"a.npy", npy("<f4", {n, 28, 28, 1}, unit(n * 784, 51))},
                           {"b.npy", npy("<f4", {n, 28, 28, 1}, unit(n * 784, 52))},
                           {"same.npy", npy("|u1", {n}, same)},
                           {"label.npy", npy("<i4", {n}, label)}});
  p.checkWhole("siamese");
  CHECK(p.compile("siamese", program("siamese", {{"Conv2D(32,", "Conv2D(4,"},
                                                 {"Dense(64)", "Dense(6)"}})) == "");
  p.writeWeights("start", start(c));
  p.run("./siamese --weights start --epochs 2 --no-shuffle --save after");
  checkTrained(c, start(c), p.weights("after"));
  p.run("./siamese predict --weights start --output y.csv");
  std::vector<double> distance, digit;
  for (const auto &row : p.table(readText((p / "y.csv").string()))) {
    distance.push_back(row.at(0));
    digit.insert(digit.end(), row.begin() + 1, row.end());
  }
  checkClose(distance, numbers(*c.find("distance")), 1e-5, 1e-5);
  checkClose(digit, numbers(*c.find("digit")), 1e-5, 1e-5);
  const auto wanted = numbers(*c.find("losses"));
  const std::string found = p.run("./siamese evaluate --weights start");
  const char *names[] = {"loss", " distance_loss", " digit_loss",
                         " digit_sparse_categorical_accuracy"};
  for (size_t i = 0; i < 4; ++i)
    CHECK(last(i ? found : found.substr(0, found.find(" distance_loss")), names[i]) ==
          Approx(wanted[i]).margin(1e-4));
}

// --- images --------------------------------------------------------------------------------------

TEST_CASE("programs: a folder of images is read, changed and learnt", "[programs]") {
  const ir::Meta &c = caseOf("images");
  Place p;
  const size_t side = 36, size = side * side * 3;
  const auto random = noise(10 * size, 61);
  for (size_t i = 0; i < 10; ++i) { // two of each class, one brighter than the other
    std::vector<uint8_t> pixels;
    for (size_t k = 0; k < size; ++k)
      pixels.push_back(uint8_t((random[i * size + k] >> 25) + 25 * (i / 2)));
    const std::string folder = std::string("flowers/") + "abcde"[i / 2];
    fs::create_directories((p / folder).string());
    png_image png{};
    png.version = PNG_IMAGE_VERSION;
    png.width = png.height = side;
    png.format = PNG_FORMAT_RGB;
    REQUIRE(png_image_write_to_file(
        &png, (p / (folder + "/" + std::to_string(i) + ".png")).string().c_str(), 0, pixels.data(),
        0, nullptr));
  }
  p.checkWhole("images");
  p.compile("images", program("images", {{"180", "36"}}));
  p.writeWeights("start", start(c));
  p.run("./images predict --weights start --output y.csv");
  std::vector<double> y;
  for (const auto &row : p.table(readText((p / "y.csv").string())))
    y.insert(y.end(), row.begin(), row.end());
  checkClose(y, numbers(*c.find("y")), 1e-4, 1e-5);
  p.run("./images --epochs 60 --save after");
  CHECK(last(p.run("./images evaluate --weights after"), "loss") < 1); // a guess has ln 5 = 1.6
}

// --- parts of one's own --------------------------------------------------------------------------

namespace {

/// What a program tells itself: weights by formula, in the interpreter's double precision.
void setWeights(Program &p, const ir::Meta &c) {
  for (auto &[name, t] : start(c)) p.interpreter->persistent(name).data = t.data;
}
Tensors weightsOf(Program &p, const ir::Meta &c) {
  Tensors out;
  for (auto &[name, t] : start(c)) out[name] = {t.dims, p.interpreter->persistent(name).data};
  return out;
}

} // namespace

TEST_CASE("programs: an initializer, a penalty, a constraint, an optimizer and a metric",
          "[programs]") {
  const ir::Meta &c = caseOf("own_parts");
  Program p(program("own_parts"));
  // The initializer's columns are orthogonal, of length 0.5.
  const auto k = p.weight("rings/dense/kernel").data;
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) {
      double dot = 0;
      for (int r = 0; r < 8; ++r) dot += k[size_t(4 * r + i)] * k[size_t(4 * r + j)];
      CHECK(dot == Approx(i == j ? 0.25 : 0).margin(1e-12));
    }
  Program wide(
      "import \"" NNC_SOURCE_DIR "/tests/programs/own_parts.nn\"\n"
      "model Wide(x: [batch, 3]) { x |> Dense(7, kernel_initializer = DeltaOrthogonal(2.0)) }");
  const auto rows = wide.weight("kernel").data; // [3, 7]: rows
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      double dot = 0;
      for (int r = 0; r < 7; ++r) dot += rows[size_t(7 * i + r)] * rows[size_t(7 * j + r)];
      CHECK(dot == Approx(i == j ? 4 : 0).margin(1e-12));
    }
  setWeights(p, c);
  const auto x = unit(40 * 8, 71);
  std::vector<double> y;
  for (const uint32_t v : noise(40, 72)) y.push_back(v % 2);
  auto zero = [&] {
    for (const ir::Persistent &v : p.module->persistents)
      if (v.name.starts_with("metrics/"))
        for (double &e : p.interpreter->persistent(v.name).data) e = 0;
  };
  zero();
  // The area in two batches of unequal size.
  p.run("eval_step", 30, {{x.begin(), x.begin() + 240}, {y.begin(), y.begin() + 30}});
  p.run("eval_step", 10, {{x.begin() + 240, x.end()}, {y.begin() + 30, y.end()}});
  const double area = p.run("metrics_result", 0, {})[1].data[0];
  CHECK(area == Approx(number((*c.find("area")->asList())[0])).epsilon(1e-9));
  CHECK(area == Approx(number((*c.find("exact_area")->asList())[0])).margin(0.02));
  for (const double loss : numbers(*c.find("losses")))
    CHECK(p.run("train_step", 40, {x, y})[0].data[0] ==
          Approx(loss).epsilon(1e-6)); // clipped at 1e-7
  checkTrained(c, start(c), weightsOf(p, c), 1e-8);
  Program rate("import \"" NNC_SOURCE_DIR "/tests/programs/own_parts.nn\"\n"
               "model Rate(t: [batch]) { WarmupCosine(3.0, 4, 10)(t) }");
  std::vector<double> t;
  for (int i = 0; i < 12; ++i) t.push_back(i);
  checkClose(rate.run("predict", 12, {t})[0].data, numbers(*c.find("rates")));
}

// --- an equation ---------------------------------------------------------------------------------

TEST_CASE("programs: the residual of an equation and its derivatives are JAX's", "[programs]") {
  const ir::Meta &c = caseOf("burgers");
  // The same step on given points.
  Program p(program("burgers", {{"  steps_per_epoch = 500\n  step() {",
                                 "  data = npy(x = \"x\", t = \"t\", x0 = \"x0\")\n"
                                 "  step(x: [batch, 1], t: [batch, 1], x0: [batch, 1]) {"},
                                {"    x = random_uniform([2000, 1], -1, 1)\n", ""},
                                {"    t = random_uniform([2000, 1], 0, 1)\n", ""},
                                {"    x0 = random_uniform([200, 1], -1, 1)\n", ""},
                                {"minimize mean(", "loss = mean("},
                                {" over u with Adam(1e-3)",
                                 "\n    minimize loss over u with SGD(1.0)\n    report loss"}}));
  setWeights(p, c);
  std::vector<double> t = unit(6, 82);
  for (double &v : t) v = (1 + v) / 2;
  const auto loss = p.run("train_step", 6, {unit(6, 81), t, unit(6, 83)});
  CHECK(loss[0].data[0] == Approx(numbers(*c.find("loss"))[0]).epsilon(1e-9));
  checkTrained(c, start(c), weightsOf(p, c), 1e-9);
}

TEST_CASE("programs: a network finds the solution of an equation", "[programs]") {
  Place p;
  p.checkWhole("burgers");
  p.compile(
      "burgers",
      program("burgers", {{"2000", "200"}, {"200, 1", "100, 1"}, {"Adam(1e-3)", "Adam(5e-3)"}}));
  p.run("./burgers --epochs 6");
  std::vector<double> points; // where t = 0 the solution is -sin(pi x)
  for (int i = -8; i <= 8; ++i) points.insert(points.end(), {i / 8.0, 0});
  p.write("points.npy", npy("<f4", {17, 2}, points));
  const auto y = p.table(p.run("./burgers predict --data x=points.npy"));
  REQUIRE(y.size() == 17);
  double away = 0; // of 0 it would be 0.6
  for (size_t i = 0; i < 17; ++i)
    away += std::abs(y[i].at(0) + std::sin(M_PI * points[2 * i])) / 17;
  CHECK(away < 0.35);
}

// --- quantized weights, rules of one's own -------------------------------------------------------

TEST_CASE("programs: the perceptron's rule, exactly", "[programs]") {
  Place p;
  // Two clouds in steps of 1/8, which every product and sum keeps exact.
  const auto a = noise(100, 92);
  std::string csv = "length,width,setosa";
  std::vector<std::array<double, 3>> rows;
  for (size_t i = 0; i < 50; ++i) {
    const double label = double(i % 3 == 0);
    rows.push_back(
        {double(a[2 * i] % 24) / 8 + 2 * label, double(a[2 * i + 1] % 24) / 8 - label, label});
    char line[64];
    std::snprintf(line, sizeof line, "\n%.3f,%.3f,%d", rows[i][0], rows[i][1], int(label));
    csv += line;
  }
  p.write("iris.csv", csv + "\n");
  p.compile("perceptron", program("rosenblatt"));
  p.run("./perceptron --epochs 4 --no-shuffle --save after --log log.csv");
  double w[2] = {0, 0}, b = 0;
  std::vector<double> errors;
  for (int epoch = 0; epoch < 4; ++epoch) {
    double wrong = 0;
    for (const auto &r : rows) {
      const double e = r[2] - (r[0] * w[0] + r[1] * w[1] + b > 0);
      w[0] += e * r[0], w[1] += e * r[1], b += e;
      wrong += std::abs(e);
    }
    errors.push_back(wrong / double(rows.size()));
  }
  const Tensors after = p.weights("after");
  CHECK(after.at("p/w").data == std::vector<double>{w[0], w[1]});
  CHECK(after.at("p/b").data == std::vector<double>{b});
  CHECK(errors[0] > 0);
  std::vector<double> found;
  for (const auto &row : p.table(readText((p / "log.csv").string()))) found.push_back(row.at(1));
  checkClose(found, errors, 1e-6);
}

TEST_CASE("programs: gradients pass where the program says", "[programs]") {
  const std::string own = "import \"" NNC_SOURCE_DIR "/tests/programs/rosenblatt.nn\"\n";
  Program p(own + "model M(x: [batch, 1]) { (threshold(x), grad(sum(3 * threshold(x)), x)) }");
  const auto y = p.run("predict", 7, {{-2, -1, -0.5, 0, 0.5, 1, 1.5}});
  CHECK(y[0].data == std::vector<double>{0, 0, 0, 0, 1, 1, 1});
  CHECK(y[1].data == std::vector<double>{0, 3, 3, 3, 3, 3, 0});
  const ir::Meta &c = caseOf("quantized");
  Program q(
      own +
      "inner = Dense(2)\nnet = QAT(inner)\ntrain net {\n  data = npy(x = \"x\")\n"
      "  step(x: [batch, 3]) {\n    minimize sum(net(x) ** 2) over net with SGD(1.0)\n  }\n}\n");
  setWeights(q, c);
  checkClose(q.run("predict", 4, {unit(12, 91)})[0].data, numbers(*c.find("y")));
  q.run("train_step", 4, {unit(12, 91)});
  checkTrained(c, start(c), weightsOf(q, c), 1e-9);
}

TEST_CASE("programs: quantized layers train from their own start", "[programs]") {
  Place p;
  std::string csv = "a,b,y\n";
  const auto x = unit(200, 97);
  for (size_t i = 0; i < 200; i += 2)
    csv += std::to_string(x[i]) + "," + std::to_string(x[i + 1]) + "," +
           std::to_string(x[i] * x[i + 1]) + "\n";
  p.write("points.csv", csv);
  p.compile("qat", "import \"" NNC_SOURCE_DIR "/tests/programs/rosenblatt.nn\"\n"
                   "net = Sequential([QAT(Dense(16, activation = tanh)), QAT(Dense(1))])\n"
                   "train net {\n  data = csv(\"points.csv\", x = columns(0..2), target = \"y\")\n"
                   "  loss = MeanSquaredError()\n  optimizer = Adam(0.02)\n  epochs = 60\n}\n");
  CHECK(last(p.run("./qat"), "loss") < 0.03); // the targets' variance is 0.11
}

TEST_CASE("programs: traps for the parser", "[programs]") {
  const ir::Meta &c = caseOf("traps");
  Place p;
  const std::string said = p.compile("traps", program("traps"));
  CHECK_THAT(said, Contains("the value of this expression is not used") && Contains("-a   "));
  CHECK_THAT(said, !Contains("error"));
  p.writeWeights("start", start(c));
  std::vector<double> x = unit(24, 95);
  for (double &v : x) v += 2;
  p.write("x.npy", npy("<f4", {3, 8}, x));
  std::vector<double> y;
  for (const auto &row : p.table(p.run("./traps predict --weights start --data x=x.npy")))
    y.insert(y.end(), row.begin(), row.end());
  checkClose(y, numbers(*c.find("y")), 1e-5);
}
