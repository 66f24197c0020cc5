// Programs compiled and run: data that fixes sizes, callbacks, several readers, several blocks.
#include "tests/workplace.h"
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <minizip/zip.h>
#include <png.h>
#include <random>
#include <regex>
#include <sstream>
#include <string>
#include <turbojpeg.h>
#include <unistd.h>
#include <vector>

namespace fs = std::filesystem;
using namespace nnc::test;
using Catch::Matchers::Contains;

namespace {

struct Trainer : Workplace {
  /// Compiles a program into `./<name>`.
  void compile(const std::string &name, const std::string &text) const {
    write(name + ".nn", text);
    must(NNC_BINARY_DIR "/nnc " + name + ".nn -o " + name);
  }
};

/// An NPY file of floats.
std::string npy(const std::string &shape, const std::vector<float> &values) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }";
  while ((11 + header.size()) % 64) header += ' ';
  header += '\n';
  std::string bytes = "\x93NUMPY";
  bytes += {1, 0, char(header.size() & 255), char(header.size() >> 8)};
  std::string content(values.size() * 4, 0);
  std::memcpy(content.data(), values.data(), content.size());
  return bytes + header + content;
}

std::vector<float> numbers(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> out;
  for (size_t i = 0; i < count; ++i) out.push_back(float(random()) / 4294967296.0f - 0.5f);
  return out;
}

/// x.npy [120, 3] and y.npy [120, 1], a linear relation.
void writeLine(const Trainer &w) {
  std::vector<float> x = numbers(360, 1), y;
  for (size_t i = 0; i < 120; ++i) y.push_back(x[3 * i] - 2 * x[3 * i + 1] + 1);
  w.write("x.npy", npy("(120, 3)", x));
  w.write("y.npy", npy("(120, 1)", y));
}

/// A model of the line with `keys` added to its train block.
std::string lineProgram(const std::string &keys) {
  return "model Line(x: [batch, n]) -> [batch, 1] { x |> Dense(4, activation = tanh) |> Dense(1) "
         "}\n"
         "train Line {\n"
         "  data       = npy(x = \"x.npy\", target = \"y.npy\")\n"
         "  validation = split(0.2)\n"
         "  loss       = MeanSquaredError()\n"
         "  optimizer  = SGD(0.1, momentum = 0.9)\n" +
         keys + "}\n";
}

/// The columns of a CSV file by name.
std::vector<double> column(const std::string &csv, const std::string &name, char separator = ',') {
  std::istringstream lines(csv);
  std::string line, cell;
  std::getline(lines, line);
  int wanted = -1, at = 0;
  for (std::istringstream cells(line); std::getline(cells, cell, separator); ++at)
    if (cell == name) wanted = at;
  std::vector<double> out;
  while (wanted >= 0 && std::getline(lines, line)) {
    std::istringstream cells(line);
    for (int i = 0; i <= wanted; ++i) std::getline(cells, cell, separator);
    out.push_back(std::stod(cell));
  }
  return out;
}

} // namespace

// --- profiles ------------------------------------------------------------------------------------

TEST_CASE("train: a profile has every kernel with line, layer and pass", "[tool][profile]") {
  Trainer w;
  writeLine(w);
  w.compile("line", lineProgram("  epochs = 2\n"));
  w.must("./line --verbose 0 --save plain");
  for (const char *threads : {"1", "3"}) {
    Outcome run = w.run("./line --verbose 0 --save profiled --profile-file p.csv --threads " +
                        std::string(threads));
    INFO(run.text);
    REQUIRE(run.status == 0);
    CHECK(w.read("plain") == w.read("profiled"));
    CHECK_THAT(run.text, Contains("Profile of `line`: ") && Contains("By layer") &&
                             Contains("Gaps: ") && Contains("line/dense_1") &&
                             Contains("line.nn:5")); // the loss has no layer
    std::string csv = w.read("p.csv");
    double shares = 0;
    for (double share : column(csv, "share")) shares += share;
    CHECK(std::abs(shares - 100) < 1e-3);
    std::istringstream lines(csv);
    std::string line;
    std::map<std::string, int> found; // of train_step: passes and layers
    int rows = 0;
    while (std::getline(lines, line)) {
      std::smatch m;
      static const std::regex row("train_step,[^(,][^,]*,([^,]*),([^,]*),(\\d+),(\\d+),.*");
      if (!std::regex_match(line, m, row)) continue;
      rows++;
      found[m[1]]++, found[m[2]]++;
      int at = std::stoi(m[3]);
      INFO(line);
      CHECK((at == 1 || at == 2 || at == 5 || at == 6)); // model, train, loss, optimizer
      CHECK(std::stoi(m[4]) == 6);                       // 96 rows of 32, twice
      // the other layer's sum is in the kernel of the loss
      if (m[1] == "line/dense") CHECK(at == 1);
    }
    CHECK(found["line/dense"] >= 2);
    CHECK(found["line/dense_1"] >= 2);
    CHECK(found["forward"] >= 2);
    CHECK(found["backward"] >= 1);
    CHECK(found["update"] + found["backward+update"] >= 2);
    // As many as the step has.
    std::string memory = w.must(NNC_BINARY_DIR "/nnc line.nn --emit=memory -o -");
    std::smatch steps;
    REQUIRE(std::regex_search(memory, steps,
                              std::regex("function train_step, batch 32, (\\d+) steps")));
    CHECK(std::stoi(steps[1]) == rows);
  }
}

// --- sizes ---------------------------------------------------------------------------------------

TEST_CASE("train: sizes and types of inputs come from the data", "[tool]") {
  Trainer w;
  writeLine(w);
  w.compile("line", lineProgram("  epochs = 4\n"));
  CHECK_THAT(w.must("./line"), Contains("Epoch 4/4"));
  CHECK_THAT(w.must("./line summary"), Contains("Trainable params: 21"));
  // The compiled sizes hold for every file that comes later.
  w.write("wide.npy", npy("(10, 4)", numbers(40, 3)));
  Outcome wrong = w.run("./line evaluate --data x=wide.npy");
  CHECK(wrong.status == 1);
  CHECK_THAT(wrong.text, Contains("the model takes rows of f32[3], the file has rows of f32[4]"));
  // A model that says nothing of its input, and a data set of several dimensions.
  w.write("image.npy", npy("(20, 4, 6)", numbers(480, 4)));
  w.write("label.npy", npy("(20,)", numbers(20, 5)));
  w.compile("seq", "m = Sequential([Flatten(), Dense(1)])\n"
                   "train m {\n"
                   "  data = npy(x = \"image.npy\", target = \"label.npy\")\n"
                   "  loss = MeanSquaredError()\n"
                   "  optimizer = SGD()\n}\n");
  CHECK_THAT(w.must("./seq summary"), Contains("Trainable params: 25"));
  w.compile("pack",
            "model M(x: [batch, ..size]) { x |> Reshape([..size, 1]) |> Flatten() |> Dense(1) }\n"
            "train M {\n"
            "  data = npy(x = \"image.npy\", target = \"label.npy\")\n"
            "  loss = MeanSquaredError()\n"
            "  optimizer = SGD()\n}\n");
  CHECK_THAT(w.must("./pack summary"), Contains("Trainable params: 25"));
}

// --- callbacks -----------------------------------------------------------------------------------

TEST_CASE("train: checkpoints and logs of a run", "[tool]") {
  Trainer w;
  writeLine(w);
  w.compile(
      "line",
      lineProgram("  epochs = 5\n"
                  "  callbacks = [ModelCheckpoint(\"all/{epoch:02d}.safetensors\"),\n"
                  "    ModelCheckpoint(\"light-{epoch}\", save_weights_only = true, verbose = 1),\n"
                  "    ModelCheckpoint(\"b-{epoch}-{batch}\", save_freq = 4),\n"
                  "    CSVLogger(\"log.csv\", separator = \";\"), CSVLogger(\"more.csv\", append = "
                  "true)]\n"));
  std::string text = w.must("./line");
  CHECK_THAT(text, Contains("Epoch 5: finished saving model to light-5\n"));
  for (int epoch = 1; epoch <= 5; ++epoch)
    CHECK(w.has("all/0" + std::to_string(epoch) + ".safetensors"));
  CHECK(w.read("all/05.safetensors") == w.read("line.safetensors"));
  CHECK(w.read("all/04.safetensors") != w.read("line.safetensors"));
  CHECK_THAT(w.read("line.safetensors"), Contains("sgd/line/dense/kernel/m\""));
  CHECK_THAT(w.read("light-5"), !Contains("nnc/step") && !Contains("learning_rate"));
  CHECK(w.must("./line evaluate --verbose 0 --weights light-5") ==
        w.must("./line evaluate --verbose 0"));
  // 3 steps an epoch: every fourth batch of the whole training.
  CHECK(w.has("b-2-1"));
  CHECK(w.has("b-3-2"));
  CHECK(w.has("b-4-3"));
  CHECK(!w.has("b-5-3"));
  std::string log = w.read("log.csv");
  CHECK(log.rfind("epoch;loss;val_loss\n0;", 0) == 0);
  CHECK(std::count(log.begin(), log.end(), '\n') == 6);
  w.must("./line");
  std::string more = w.read("more.csv");
  CHECK(std::count(more.begin(), more.end(), '\n') == 11);
  CHECK(more.find("epoch", 1) == std::string::npos);
  // Training goes on from a checkpoint as if it had not stopped.
  w.must("./line --epochs 2 --weights all/03.safetensors --save resumed");
  CHECK(w.read("resumed") == w.read("line.safetensors"));
}

TEST_CASE("train: epochs of some steps go on in the data where training stopped", "[tool]") {
  Trainer w;
  writeLine(w);
  for (const char *steps : {"2", "5"}) { // a pass has 3
    INFO(steps);
    const std::string keys = std::string("  epochs = 4\n  steps_per_epoch = ") + steps + "\n";
    w.compile("line", lineProgram(keys));
    w.must("./line --save whole");
    w.must("./line --epochs 1 --save half");
    w.must("./line --epochs 3 --weights half --save rest");
    CHECK(w.read("rest") == w.read("whole"));
  }
}

TEST_CASE("train: learning rates of callbacks", "[tool]") {
  Trainer w;
  writeLine(w);
  w.compile("line", lineProgram("  epochs = 6\n"
                                "  callbacks = [LearningRateScheduler(fn(epoch, rate) = "
                                "where(epoch < 2, rate, rate * exp(-0.1)), verbose = 1),\n"
                                "    CSVLogger(\"log.csv\")]\n"));
  CHECK_THAT(w.must("./line"),
             Contains("Epoch 3: LearningRateScheduler setting learning rate to 0.09048"));
  std::vector<double> rates = column(w.read("log.csv"), "learning_rate");
  REQUIRE(rates.size() == 6);
  for (size_t i = 0; i < 6; ++i)
    CHECK(rates[i] == Approx(0.1 * std::exp(-0.1 * (i < 2 ? 0 : double(i) - 1))));
  w.compile(
      "step",
      "fn Halves()(epoch) = 0.1 * 0.5 ** epoch\n" +
          lineProgram("  epochs = 3\n"
                      "  callbacks = [LearningRateScheduler(Halves()), CSVLogger(\"log.csv\")]\n"));
  w.must("./step --verbose 0");
  rates = column(w.read("log.csv"), "learning_rate");
  REQUIRE(rates.size() == 3);
  CHECK(rates[2] == Approx(0.025));
  // Nothing improves by so much: the rate falls every second epoch, down to its least.
  w.compile("flat",
            lineProgram("  epochs = 8\n"
                        "  callbacks = [ReduceLROnPlateau(patience = 2, factor = 0.1, min_delta = "
                        "10, min_lr = 0.0005, verbose = 1), CSVLogger(\"log.csv\")]\n"));
  CHECK_THAT(w.must("./flat"),
             Contains("Epoch 3: ReduceLROnPlateau reducing learning rate to 0.01"));
  rates = column(w.read("log.csv"), "learning_rate");
  std::vector<double> expected{0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0005};
  REQUIRE(rates.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) CHECK(rates[i] == Approx(expected[i]));
}

TEST_CASE("train: a loss that is no number ends training", "[tool]") {
  Trainer w;
  std::vector<float> x = numbers(360, 1);
  x[3 * 70] = NAN; // row 70, in the third batch of the file's order
  w.write("x.npy", npy("(120, 3)", x));
  w.write("y.npy", npy("(120, 1)", numbers(120, 2)));
  w.compile("line", lineProgram("  epochs = 5\n  callbacks = [TerminateOnNaN()]\n"));
  std::string text = w.must("./line --no-shuffle");
  CHECK_THAT(text, Contains("Batch 2: Invalid loss, terminating training\n"));
  CHECK_THAT(text, Contains("Epoch 1/5") && !Contains("Epoch 2/5"));
  w.compile("strict", lineProgram("  callbacks = [TerminateOnNaN(raise_error = true)]\n"));
  Outcome o = w.run("./strict --no-shuffle");
  CHECK(o.status == 1);
  CHECK_THAT(o.text, Contains("the loss became NaN at batch 2 of epoch 1"));
}

TEST_CASE("train: a backup resumes to the bits of an uninterrupted run", "[tool]") {
  Trainer w;
  writeLine(w);
  std::string others =
      "EarlyStopping(patience = 3, min_delta = 0.001, restore_best_weights = true),"
      "ReduceLROnPlateau(patience = 1, factor = 0.5), "
      "LearningRateScheduler(fn(epoch, rate) = rate * 0.99), ";
  // `stop/3` is a file at first, so that the checkpoint of epoch 3 ends the program, as a crash
  // would.
  auto program = [&](const std::string &backup) {
    return lineProgram("  epochs = 12\n  callbacks = [" + backup + others +
                       "ModelCheckpoint(\"stop/{epoch}/w\")]\n");
  };
  w.compile("line", program("BackupAndRestore(\"backup\"), "));
  w.must("./line --save whole");
  CHECK(!w.has("backup"));
  for (const char *name : {"line", "often"}) {
    if (std::string(name) == "often")
      w.compile("often",
                program("BackupAndRestore(\"backup\", save_freq = 2, double_checkpoint = true), "));
    w.must("rm -rf stop && mkdir stop && touch stop/5");
    Outcome cut = w.run(std::string("./") + name + " --save resumed");
    CHECK(cut.status == 1);
    CHECK(w.has("backup/latest.safetensors"));
    CHECK(!w.has("resumed"));
    w.must("rm stop/5");
    CHECK_THAT(w.must(std::string("./") + name + " --save resumed"),
               Contains("Resuming from `backup/latest.safetensors`"));
    CHECK(w.read("resumed") == w.read("whole"));
    CHECK(!w.has("backup"));
    fs::remove(w.dir / "resumed");
  }
  // Killed at any moment.
  w.compile(
      "long",
      lineProgram(
          "  epochs = 60000\n  callbacks = [BackupAndRestore(\"backup\", save_freq = 2000)]\n"));
  w.must("./long --verbose 0 --save whole");
  int kills = 0;
  double seconds = 0.1; // longer each time: the machine may be busy
  for (; kills < 30 && !w.has("resumed"); ++kills, seconds *= 1.2)
    w.run("timeout -s KILL " + std::to_string(seconds) + " ./long --verbose 0 --save resumed");
  CHECK(kills > 1);
  CHECK(w.read("resumed") == w.read("whole"));
  w.write("backup/latest.safetensors", w.read("whole"));
  Outcome none = w.run("./long");
  CHECK(none.status == 1);
  CHECK_THAT(none.text, Contains("no backup of a training"));
}

// --- readers -------------------------------------------------------------------------------------

namespace {

/// A zip archive of NPY files, compressed.
void writeNpz(const fs::path &path,
              const std::vector<std::pair<std::string, std::string>> &arrays) {
  zipFile zip = zipOpen64(path.c_str(), APPEND_STATUS_CREATE);
  REQUIRE(zip);
  for (auto &[name, bytes] : arrays) {
    zip_fileinfo info{};
    REQUIRE(zipOpenNewFileInZip64(zip, (name + ".npy").c_str(), &info, nullptr, 0, nullptr, 0,
                                  nullptr, Z_DEFLATED, 6, 0) == ZIP_OK);
    REQUIRE(zipWriteInFileInZip(zip, bytes.data(), unsigned(bytes.size())) == ZIP_OK);
    zipCloseFileInZip(zip);
  }
  zipClose(zip, nullptr);
}

void writePng(const fs::path &path, int height, int width, const std::vector<unsigned char> &rgb) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.height = png_uint_32(height);
  image.width = png_uint_32(width);
  image.format = PNG_FORMAT_RGB;
  fs::create_directories(path.parent_path());
  REQUIRE(png_image_write_to_file(&image, path.c_str(), 0, rgb.data(), 0, nullptr));
}

void writeJpeg(const fs::path &path, int height, int width, const std::vector<unsigned char> &rgb) {
  tjhandle encoder = tjInitCompress();
  unsigned char *bytes = nullptr;
  unsigned long count = 0;
  REQUIRE(tjCompress2(encoder, rgb.data(), width, 0, height, TJPF_RGB, &bytes, &count, TJSAMP_444,
                      100, TJFLAG_ACCURATEDCT) == 0);
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<char *>(bytes), long(count));
  tjFree(bytes);
  tjDestroy(encoder);
}

/// The rows of a CSV of numbers without its header.
std::vector<std::vector<double>> rows(const std::string &csv) {
  std::istringstream lines(csv);
  std::string line, cell;
  std::getline(lines, line);
  std::vector<std::vector<double>> out;
  while (std::getline(lines, line)) {
    out.emplace_back();
    for (std::istringstream cells(line); std::getline(cells, cell, ',');)
      out.back().push_back(std::stod(cell));
  }
  return out;
}

/// A model that gives its input back, so that `predict` shows what the reader read.
std::string mirror(const std::string &type, const std::string &data) {
  return "model Mirror(x: " + type + ") { param unused: [1] = Zeros()\n x + 0 * unused }\n" +
         "train Mirror {\n  data = " + data +
         "\n  loss = MeanSquaredError()\n  optimizer = SGD()\n}\n";
}

} // namespace

TEST_CASE("train: arrays of an NPZ file are those of NPY files", "[tool]") {
  Trainer w;
  writeLine(w);
  writeNpz(w.dir / "line.npz", {{"inputs", w.read("x.npy")}, {"truth", w.read("y.npy")}});
  std::string program = lineProgram("  epochs = 2\n");
  w.compile("npy", program);
  program.replace(program.find("npy("),
                  std::string("npy(x = \"x.npy\", target = \"y.npy\")").size(),
                  "npz(\"line.npz\", x = \"inputs\", target = \"truth\")");
  w.compile("npz", program);
  w.must("./npy --save a");
  w.must("./npz --save b");
  CHECK(w.read("a") == w.read("b"));
  // The library is in the program that needs it, and not in the other one.
  CHECK(fs::file_size(w.dir / "npy") + 4000 < fs::file_size(w.dir / "npz"));
  Outcome without = w.run("./npy --data x=line.npz");
  CHECK(without.status == 1);
  CHECK_THAT(without.text, Contains("compiled without the reader `npz`"));
  writeNpz(w.dir / "other.npz", {{"inputs", w.read("x.npy")}});
  Outcome missing = w.run("./npz --data data=other.npz");
  CHECK_THAT(missing.text, Contains("there is no array `truth`: it has `inputs`"));
  std::string damaged = w.read("line.npz");
  damaged[damaged.size() / 3] ^= 1;
  w.write("damaged.npz", damaged);
  CHECK(w.run("./npz --data data=damaged.npz").status == 1);
  w.write("none.npz", "no archive");
  CHECK_THAT(w.run("./npz --data data=none.npz").text, Contains("no zip file"));
}

TEST_CASE("train: windows over rows and stretches of a text", "[tool]") {
  Trainer w;
  std::string csv = "t,a,b\n";
  for (int i = 0; i < 11; ++i)
    csv += std::to_string(i) + "," + std::to_string(i * 10) + "," + std::to_string(100 - i) + "\n";
  w.write("series.csv", csv);
  w.compile("windows",
            mirror("[batch, 4, 2]", "csv(\"series.csv\", x = columns(\"a\", \"b\"), "
                                    "target = columns(\"a\", \"b\")) |> windows(4, stride = 3)"));
  auto found = rows(w.must("./windows --verbose 0 && ./windows predict"));
  // As keras.utils.timeseries_dataset_from_array(rows, None, 4, sequence_stride = 3).
  REQUIRE(found.size() == 3);
  for (size_t r = 0; r < 3; ++r)
    for (size_t k = 0; k < 4; ++k) {
      CHECK(found[r][2 * k] == double((3 * r + k) * 10));
      CHECK(found[r][2 * k + 1] == double(100 - (3 * r + k)));
    }
  w.write("short.csv", "t,a,b\n1,2,3\n");
  CHECK_THAT(w.run("./windows predict --data data=short.csv").text,
             Contains("there are 1 rows, a window takes 4"));
  w.write("book.txt", "abcdefghijk");
  w.compile("text", mirror("[batch, n]", "text(\"book.txt\", x = bytes(4), target = bytes(4))"));
  found = rows(w.must("./text --verbose 0 && ./text predict"));
  CHECK(found == std::vector<std::vector<double>>{{97, 98, 99, 100}, {101, 102, 103, 104}});
}

TEST_CASE("train: categories and functions of CSV columns", "[tool]") {
  Trainer w;
  w.write("t.csv", "I1,I2,kind,C1,C2,y\n0,3,red,a,\"x\"\"y\",1\n7,1,green,b,,0\n2,2,red,a,x,1\n");
  w.compile("codes", mirror("[batch, n]",
                            "csv(\"t.csv\", x = [\"I1\", category(\"kind\", [\"red\", \"green\"]), "
                            "category(names(\"C\", 2), hash = 1000)], target = [0, 0, 0, 0])"));
  auto found = rows(w.must("./codes --verbose 0 && ./codes predict"));
  REQUIRE(found.size() == 3);
  CHECK(found[0][0] == 0);
  CHECK(found[1][0] == 7);
  CHECK(found[0][1] == 0);
  CHECK(found[1][1] == 1);
  CHECK(found[0][2] == found[2][2]);
  CHECK(found[0][2] != found[1][2]);
  CHECK(found[0][2] == double(0xAF63DC4C8601EC8Cull % 1000)); // FNV-1a of "a"
  CHECK(found[1][3] == double(0xCBF29CE484222325ull % 1000)); // of nothing
  w.write("u.csv", "I1,I2,kind,C1,C2,y\n0,3,blue,a,x,1\n");
  CHECK_THAT(
      w.run("./codes predict --data data=u.csv").text,
      Contains("u.csv:2: column 3 (`kind`): expected one of the category's words, found `blue`"));
  // A function of columns is a part of the program, in training and in prediction.
  w.compile("logs", mirror("[batch, n]",
                           "csv(\"t.csv\", x = log1p(columns(\"I1\"..\"I2\")) |> Rescaling(2.0), "
                           "target = columns(0..2))"));
  found = rows(w.must("./logs --verbose 0 && ./logs predict"));
  CHECK(found[1][0] == Approx(2 * std::log(8.0)));
  CHECK(found[1][1] == Approx(2 * std::log(2.0)));
}

TEST_CASE("train: a map is as what the model would do itself", "[tool]") {
  Trainer w;
  writeLine(w);
  w.compile("inside", "model Line(x: [batch, n]) -> [batch, 1] { x[:, :2] * 3 |> Dense(1) }\n"
                      "train Line {\n  data = npy(x = \"x.npy\", target = \"y.npy\")\n"
                      "  test = npy(x = \"x.npy\", target = \"y.npy\")\n"
                      "  loss = MeanSquaredError()\n  optimizer = SGD(0.1)\n  epochs = 2\n}\n");
  w.compile("map", "model Line(x: [batch, n]) -> [batch, 1] { x |> Dense(1) }\n"
                   "train Line {\n  data = npy(all = \"x.npy\", truth = \"y.npy\") |> map(fn(all, "
                   "truth) = (x = all[:, :2] * 3, target = truth))\n"
                   "  test = npy(all = \"x.npy\", truth = \"y.npy\")\n"
                   "  loss = MeanSquaredError()\n  optimizer = SGD(0.1)\n  epochs = 2\n}\n");
  CHECK_THAT(w.must("./inside --save a"), Contains("Test: loss"));
  w.must("./map --save b");
  CHECK(w.read("a") == w.read("b"));
  CHECK(w.must("./inside predict --weights a") == w.must("./map predict --weights a"));
  CHECK(w.must("./inside evaluate --weights a") == w.must("./map evaluate --weights a"));
  // Prediction needs the columns that the input is made of, and no truth.
  fs::remove(w.dir / "y.npy");
  CHECK(rows(w.must("./map predict --weights a")).size() == 120);
}

TEST_CASE("train: folders of images", "[tool]") {
  Trainer w;
  std::vector<unsigned char> small, large(12 * 8 * 3);
  for (int i = 0; i < 4 * 3 * 3; ++i) small.push_back(static_cast<unsigned char>(i * 7));
  for (size_t i = 0; i < large.size(); ++i) large[i] = static_cast<unsigned char>(100 + i % 3 * 40);
  writePng(w.dir / "set/b_cats/1.png", 4, 3, small);
  writePng(w.dir / "set/b_cats/more/0.PNG", 12, 8, large);
  writeJpeg(w.dir / "set/a_dogs/x.jpg", 12, 8, large);
  w.write("set/a_dogs/notes.txt", "no image");
  w.compile("pictures", "model Mirror(image: u8[batch, ..size]) { param unused: [1] = Zeros()\n"
                        "  image * 1.0 + 0 * unused |> Flatten() }\n"
                        "train Mirror {\n  data = folder(\"set/\", size = [4, 3])\n"
                        "  loss = SparseCategoricalCrossentropy(from_logits = true)\n"
                        "  optimizer = SGD()\n}\n");
  auto found = rows(w.must("./pictures --verbose 0 --steps 1 && ./pictures predict"));
  REQUIRE(found.size() == 3); // a_dogs/x, b_cats/1, b_cats/more/0
  for (size_t i = 0; i < 36; ++i) {
    CHECK(found[1][i] == small[i]); // of its own size: the bytes of the file
    CHECK(found[2][i] == double(100 + i % 3 * 40));
    CHECK(found[0][i] == Approx(100 + double(i % 3) * 40).margin(3));
  }
  CHECK_THAT(w.must("./pictures predict --show --limit 3"),
             Contains("row 0: predicted") && Contains("target 0\n") && Contains("target 1\n"));
  w.write("set/a_dogs/bad.jpg", "not a picture");
  Outcome bad = w.run("./pictures");
  CHECK(bad.status == 1);
  CHECK_THAT(bad.text, Contains("set/a_dogs/bad.jpg"));
  CHECK_THAT(w.run("./pictures --data data=nowhere").text,
             Contains("cannot read the folder `nowhere`"));
  writeLine(w);
  w.compile("line", lineProgram(""));
  CHECK(fs::file_size(w.dir / "pictures") < 2'000'000);
  CHECK(fs::file_size(w.dir / "line") + 100'000 < fs::file_size(w.dir / "pictures"));
}

TEST_CASE("train: pictures to predict need no classes and keep their order", "[tool]") {
  Trainer w;
  auto picture = [&](const std::string &name, int value) {
    writePng(w.dir / name, 2, 2, std::vector<unsigned char>(12, static_cast<unsigned char>(value)));
  };
  for (int i = 0; i < 12; ++i)
    picture("set/" + std::string(i < 6 ? "a/" : "b/") + char('a' + i) + ".png", 10 + i);
  w.compile("pictures", "model Mirror(image: u8[batch, ..size]) { param unused: [1] = Zeros()\n"
                        "  image * 1.0 + 0 * unused |> Flatten() }\n"
                        "train Mirror {\n  data = folder(\"set/\", size = [2, 2])\n"
                        "  validation = split(0.25)\n"
                        "  loss = SparseCategoricalCrossentropy(from_logits = true)\n"
                        "  optimizer = SGD()\n}\n");
  w.must("./pictures --verbose 0 --steps 1");
  auto found = rows(w.must("./pictures predict"));
  REQUIRE(found.size() == 12);
  for (size_t i = 0; i < 12; ++i) CHECK(found[i][0] == double(10 + i));
  for (int i = 0; i < 3; ++i) picture("new/" + std::to_string(i) + ".png", 50 + i);
  w.write("new/notes.txt", "no image");
  for (const char *name : {"data", "image"}) {
    found = rows(w.must("./pictures predict --data " + std::string(name) + "=new"));
    REQUIRE(found.size() == 3);
    for (size_t i = 0; i < 3; ++i) CHECK(found[i][0] == double(50 + i));
  }
  const std::string shown = w.must("./pictures predict --show --data data=new");
  CHECK_THAT(shown, Contains("row 2: predicted") && !Contains("target"));
  CHECK_THAT(w.run("./pictures evaluate --data data=new").text, Contains("has no sub-directory"));
  w.write("none/notes.txt", "no image");
  CHECK_THAT(w.run("./pictures predict --data data=none").text,
             Contains("no .png, .jpg or .jpeg file is in it"));
}

TEST_CASE("train: --data means what the command reads, or nothing runs", "[tool]") {
  Trainer w;
  w.write("a.csv", "x,target\n1,2\n2,3\n3,4\n");
  w.write("b.csv", "x,target\n5,7\n");
  w.compile("line", "model Line(x: [batch, 1]) -> [batch, 1] { param one: [1] = Ones()\n"
                    "  x * one }\n"
                    "train Line {\n  data = csv(\"a.csv\", x = \"x\", target = \"target\")\n"
                    "  validation_data = csv(\"a.csv\", x = \"x\", target = \"target\")\n"
                    "  test = csv(\"a.csv\", x = \"x\", target = \"target\")\n"
                    "  loss = MeanSquaredError()\n  optimizer = SGD(0.0)\n  epochs = 1\n}\n");
  w.must("./line --verbose 0");
  CHECK(rows(w.must("./line predict")).size() == 3);
  for (const char *name : {"data", "test", "x", "data.x", "test.x"}) {
    const auto found = rows(w.must("./line predict --data " + std::string(name) + "=b.csv"));
    REQUIRE(found.size() == 1);
    CHECK(found[0][0] == 5);
  }
  CHECK(w.must("./line evaluate --data data=b.csv") == w.must("./line evaluate --data test=b.csv"));
  CHECK(w.must("./line evaluate --data data=b.csv") != w.must("./line evaluate"));
  for (const char *command : {"predict", "evaluate"}) {
    CHECK(w.run("./line " + std::string(command) + " --data data=missing.csv").status == 1);
    Outcome other = w.run("./line " + std::string(command) + " --data validation=b.csv");
    CHECK(other.status == 2);
    CHECK_THAT(other.text, Contains("reads `test`, not `validation`: write --data test=b.csv"));
  }
  CHECK_THAT(w.run("./line predict --data validation.x=b.csv").text,
             Contains("write --data test.x=b.csv"));
  Outcome target = w.run("./line predict --data target=b.csv");
  CHECK(target.status == 2);
  CHECK_THAT(target.text, Contains("`predict` does not read `target`: it reads `x`"));
}

TEST_CASE("train: what a killed program left is removed by a later save", "[tool]") {
  Trainer w;
  writeLine(w);
  w.compile("line", lineProgram("  epochs = 1\n"));
  const std::string mine = "line.safetensors.tmp-" + std::to_string(getpid());
  for (const std::string &name :
       {std::string("line.safetensors.tmp-2147483000"), mine, // who runs may still write
        std::string("other.safetensors.tmp-2147483000"),
        std::string("line.safetensors.tmp-2147483000x")}) {
    w.write(name, "half");
    w.must("touch -d '1 hour ago' " + name);
  }
  w.write("line.safetensors.tmp-2147483001", "of another machine, now");
  w.must("./line --verbose 0");
  CHECK(!w.has("line.safetensors.tmp-2147483000"));
  CHECK(w.has(mine));
  CHECK(w.has("other.safetensors.tmp-2147483000"));
  CHECK(w.has("line.safetensors.tmp-2147483000x"));
  CHECK(w.has("line.safetensors.tmp-2147483001"));
}

// --- blocks --------------------------------------------------------------------------------------

namespace {

float value(const std::string &weights, const std::string &name) {
  uint64_t length;
  std::memcpy(&length, weights.data(), 8);
  std::string header = weights.substr(8, length);
  std::smatch found;
  REQUIRE(std::regex_search(header, found,
                            std::regex("\"" + name + "\":\\{[^}]*\"data_offsets\":\\[(\\d+),")));
  float v;
  std::memcpy(&v, weights.data() + 8 + length + std::stoul(found[1]), 4);
  return v;
}

} // namespace

TEST_CASE("train: several blocks, one without data, one that adapts first", "[tool]") {
  Trainer w;
  // 16 rows: a = row, b = 2 * row, c = 1. The last 4 validate.
  std::string csv = "a,b,c\n";
  for (int i = 0; i < 16; ++i) csv += std::to_string(i) + "," + std::to_string(2 * i) + ",1\n";
  w.write("x.csv", csv);
  w.must(NNC_BINARY_DIR "/nnc " NNC_SOURCE_DIR "/tests/ir/blocks.ir -o pair");
  std::string all = w.must("./pair");
  CHECK_THAT(all, Contains("Training `auto`\nEpoch 1/2 - 5/5") &&
                      Contains("Training `clf`\n2/2 - 0s") && Contains("val_loss"));
  std::string weights = w.read("pair.safetensors");
  CHECK(value(weights, "net/w") == 10);     // 2 epochs of 5 steps add 1
  CHECK(value(weights, "net/count") == 12); // adapted once, to the rows that train
  CHECK(value(weights, "net/sum") == 66);
  CHECK(value(weights, "net/seen") == 12);
  CHECK_THAT(weights, Contains("\"adapted\":\"clf\""));
  // One of them, from what the other left; what was adapted stays.
  w.must("./pair train auto --save a");
  CHECK(value(w.read("a"), "net/w") == 10);
  CHECK(value(w.read("a"), "net/count") == 0);
  w.must("./pair train clf --weights a --save b");
  CHECK(w.read("b") == weights);
  w.must("./pair train clf --weights b --save c");
  CHECK(value(w.read("c"), "net/count") == 12);
  CHECK(value(w.read("c"), "net/seen") == 24);
  w.must("./pair train --epochs 1 --save d");
  CHECK(value(w.read("d"), "net/w") == 5);
  // Other commands take the last block, or the one that is named.
  CHECK(w.must("./pair predict --limit 1 --verbose 0") == "y\n-55\n"); // (0 - 66 / 12) * 10
  CHECK(w.must("./pair predict clf --limit 1") == "y\n-55\n");
  CHECK(w.must("./pair evaluate auto") == "Test: loss: 10.0000\n");
  CHECK_THAT(w.must("./pair evaluate clf --verbose 0"), Contains("Validation: loss: "));
  CHECK_THAT(w.must("./pair summary"), Contains("Model: \"clf\"") && Contains("dense (Dense)"));
  CHECK_THAT(w.must("./pair summary auto"), Contains("Model: \"auto\"") && !Contains("dense"));
  CHECK_THAT(w.must("./pair --about"), Contains("trains   auto, clf"));
  Outcome wrong = w.run("./pair train atuo");
  CHECK(wrong.status == 2);
  CHECK_THAT(wrong.text, Contains("there is no train block `atuo`: did you mean `auto`?"));
  CHECK_THAT(w.run("./pair summary everything").text,
             Contains("there is no train block `everything`: there are `auto`, `clf`"));
  CHECK(w.run("./pair train auto clf").status == 2);
  CHECK(w.run("./pair predict auto").status == 1);
  // Data of one block, whichever it is; of none, a mistake before anything is trained.
  w.write("y.csv", csv);
  CHECK(w.must("./pair --verbose 0 --data x=y.csv --save e") == "");
  CHECK(w.read("e") == weights);
  CHECK(w.run("./pair --data z=y.csv").status == 2);
  CHECK(w.run("./pair train auto --data x=y.csv").status == 2);
}

TEST_CASE("train: blocks of a file, with maps, adapting, averages and written-out steps",
          "[tool]") {
  Trainer w;
  writeLine(w);
  w.compile("pair", R"(
encoder = Sequential([Dense(4, activation = tanh), Dense(2)])
auto    = Sequential([encoder, Dense(3)])
clf     = Sequential([encoder, Dense(1)])
train auto {
  data      = npy(x = "x.npy") |> map(fn(x) = (x = x / 2, target = x))
  loss      = MeanSquaredError()
  optimizer = Adam()
  epochs    = 2
  callbacks = [ReduceLROnPlateau(monitor = "loss"), CSVLogger("auto.csv")]
}
train clf {
  data      = npy(x = "x.npy", target = "y.npy") |> map(fn(x, target) = (x = Normalization()(x), target = target))
  freeze    = [encoder]
  loss      = MeanSquaredError()
  optimizer = Adam(use_ema = true, ema_momentum = 0.5)
}
train clf {
  data            = npy(x = "x.npy", target = "y.npy")
  steps_per_epoch = 3
  epochs          = 2
  callbacks       = [LearningRateScheduler(fn(epoch, rate) = rate * 0.5), TerminateOnNaN(),
                     ModelCheckpoint("best-{error:.2f}", monitor = "error", save_best_only = true)]
  step(x, target: [batch, m]) {
    e = mean((clf(x) - target) ** 2)
    minimize e over clf with SGD(0.1)
    report error = e
  }
}
)");
  CHECK_THAT(w.must("./pair"), Contains("Training `auto`\nEpoch 1/2") &&
                                   Contains("Training `clf`\n4/4") &&
                                   Contains("Training `clf_1`\nEpoch 1/2 - 3/3") &&
                                   Contains("error: ") && Contains("learning_rate: 0.0250"));
  CHECK(w.read("auto.csv").rfind("epoch,learning_rate,loss\n0,0.00100000005,", 0) == 0);
  std::string weights = w.read("auto.safetensors");
  CHECK_THAT(weights, Contains("\"adapted\":\"clf\""));
  CHECK(value(weights, "normalization/count") == 120);
  // A block that is compiled alone is the same as that block of the whole.
  w.must("./pair train auto --save a");
  w.must(NNC_BINARY_DIR "/nnc pair.nn --train=auto -o alone");
  w.must("./alone --save b");
  CHECK(value(w.read("a"), "dense/kernel") == value(w.read("b"), "dense/kernel"));
  // What is frozen stays; the average replaces what the last step left.
  w.must("./pair train clf --weights a --save c");
  CHECK(value(w.read("a"), "dense/kernel") == value(w.read("c"), "dense/kernel"));
  std::string before = w.read("c");
  CHECK(value(before, "dense_3/kernel") != 0);
  CHECK(rows(w.must("./pair predict auto --limit 3"))[0].size() == 3);
  CHECK(rows(w.must("./pair predict --limit 3"))[0].size() == 1);
}

// --- states of rows ------------------------------------------------------------------------------

TEST_CASE("train: states of rows begin anew with every pass over the data", "[tool]") {
  Trainer w;
  // Each row of a batch goes on from that row of the batch before, from 1 at first.
  w.write("d.csv", "x,y\n1,2\n2,3\n3,5\n4,7\n5,10\n");
  w.compile("running",
            "layer Running()(x: [batch, 1]) {\n  state total: [batch, 1] = Ones()\n"
            "  total <- total + x\n  total\n}\n"
            "model M(x: [batch, 1]) -> [batch, 1] {\n  param w: [] = Zeros()\n  Running()(x) + w\n}\n"
            "train M {\n  data = csv(\"d.csv\", x = \"x\", target = \"y\")\n"
            "  validation_data = csv(\"d.csv\", x = \"x\", target = \"y\")\n"
            "  loss = MeanSquaredError()\n  optimizer = SGD(0.1)\n  batch_size = 2\n  epochs = 3\n"
            "  shuffle = false\n  callbacks = [CSVLogger(\"log.csv\"), BackupAndRestore(\"b\", "
            "save_freq = 1, delete_checkpoint = false)]\n}\n");
  w.must("./running --epochs 2");
  CHECK(column(w.read("log.csv"), "loss") == std::vector<double>{0, 0});
  CHECK(column(w.read("log.csv"), "val_loss") == std::vector<double>{0, 0});
  CHECK_THAT(w.must("./running evaluate"), Contains("loss: 0"));
  CHECK_THAT(w.must("./running predict"), Contains("2\n3\n5\n7\n10\n"));
  CHECK(w.read("m.safetensors").find("total") == std::string::npos);
  // A run that is cut off in the middle of an epoch goes on with the states it had.
  w.must("rm -r b");
  w.must("./running --steps 2");
  w.must("./running");
  CHECK(column(w.read("log.csv"), "loss") == std::vector<double>{0, 0, 0});
}

TEST_CASE("train: shuffle = false takes the rows in their order", "[tool]") {
  Trainer w;
  w.write("d.csv", "x,y\n1,0\n2,0\n3,0\n4,0\n");
  auto program = [](const std::string &keys) {
    return "model M(x: [batch, 1]) -> [batch, 1] {\n  param w: [] = Zeros()\n  x + w\n}\n"
           "train M {\n  data = csv(\"d.csv\", x = \"x\", target = \"y\")\n"
           "  loss = MeanSquaredError()\n  optimizer = SGD(0.0)\n  batch_size = 1\n" + keys + "}\n";
  };
  w.compile("still", program("  shuffle = false\n"));
  w.must("./still --log-steps log.csv");
  CHECK(column(w.read("log.csv"), "loss") == std::vector<double>{1, 4, 9, 16});
  w.compile("mixed", program("  shuffle = true\n  seed = 1\n"));
  w.must("./mixed --log-steps log.csv");
  CHECK(column(w.read("log.csv"), "loss") != std::vector<double>{1, 4, 9, 16});
}

// --- predictions as text -------------------------------------------------------------------------

TEST_CASE("train: predictions of bytes are text", "[tool]") {
  Trainer w;
  w.write("t.txt", "hello world, hi"); // 3 rows of 5 bytes
  w.compile("shout",
            "model Guess(x: u8[batch, 5]) -> [batch, 1] { cast(x, f32) |> Dense(1) }\n"
            "model Shout(x: u8[batch, 5]) {\n  i = cast(x, i32)\n"
            "  where(i >= 97 and i <= 122, i - 32, i)\n}\n"
            "guess = Guess()\n"
            "train guess {\n  data = text(\"t.txt\", x = bytes(5)) |> map(fn(x) = (x = x, target = "
            "cast(x[:, :1], f32)))\n"
            "  loss = MeanSquaredError()\n  optimizer = SGD(0.0)\n  predict = Shout()\n}\n");
  w.must("./shout");
  CHECK_THAT(w.must("./shout predict --format text"), Catch::Equals("HELLO\n WORL\nD, HI\n"));
  w.must("./shout predict --output out.txt --limit 2");
  CHECK(w.read("out.txt") == "HELLO\n WORL\n");
  w.must("./shout predict --output out.bin --format npy");
  CHECK(w.read("out.bin").compare(0, 6, "\x93NUMPY") == 0);
  CHECK_THAT(w.must("./shout predict"), Contains("72,69,76,76,79\n"));
  CHECK_THAT(w.run("./shout predict --format npy").text, Contains("name a file with --output"));
  CHECK_THAT(w.run("./shout predict --format txt").text,
             Contains("--format: expected csv, npy or text, found `txt`"));
  CHECK_THAT(w.run("./shout predict --output a.tex").text,
             Contains("expected a name ending in .csv, .npy or .txt, found `a.tex`"));
  w.compile("wrong",
            "model Guess(x: u8[batch, 5]) -> [batch, 1] { cast(x, f32) |> Dense(1) }\n"
            "model Large(x: u8[batch, 5]) { cast(x, i32) * 1000 }\n"
            "guess = Guess()\n"
            "train guess {\n  data = text(\"t.txt\", x = bytes(5)) |> map(fn(x) = (x = x, target = "
            "cast(x[:, :1], f32)))\n"
            "  loss = MeanSquaredError()\n  optimizer = SGD(0.0)\n  predict = Large()\n}\n");
  w.must("./wrong");
  Outcome large = w.run("./wrong predict --format text");
  CHECK(large.status == 1);
  CHECK_THAT(large.text, Contains("has the element 104000, which is no byte"));
  w.compile("floats",
            "model Guess(x: u8[batch, 5]) -> [batch, 1] { cast(x, f32) |> Dense(1) }\n"
            "train Guess {\n  data = text(\"t.txt\", x = bytes(5)) |> map(fn(x) = (x = x, target = "
            "cast(x[:, :1], f32)))\n  loss = MeanSquaredError()\n  optimizer = SGD(0.0)\n}\n");
  w.must("./floats");
  CHECK_THAT(w.run("./floats predict --format text").text, Contains("text has bytes"));
}
