// Runs training binaries as a user does: the hand-written models of tests/data/hand_model.c, linked
// with the runtime by link.txt, on files made here.
#include "catch2/catch.hpp"

#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <pty.h>
#include <regex>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>
#include <zlib.h>

namespace fs = std::filesystem;

namespace {

struct Outcome {
  int code;
  std::string text; // stdout and stderr
};

// A fresh directory that is the binaries' working directory.
struct Workplace {
  fs::path dir;

  Workplace() {
    char name[] = "/tmp/nnc-runtime-XXXXXX";
    REQUIRE(mkdtemp(name));
    dir = name;
  }
  ~Workplace() { fs::remove_all(dir); }

  void write(const std::string &name, const std::string &bytes) const {
    std::ofstream(dir / name, std::ios::binary) << bytes;
  }
  std::string read(const std::string &name) const {
    std::ifstream in(dir / name, std::ios::binary);
    std::stringstream all;
    all << in.rdbuf();
    return all.str();
  }
  bool has(const std::string &name) const { return fs::exists(dir / name); }

  // "line train --epochs 3": the first word names the model.
  Outcome run(const std::string &command) const {
    std::string all = "cd " + dir.string() + " && " + NNC_HAND_MODELS + "/" + command + " 2>&1";
    FILE *pipe = popen(all.c_str(), "r");
    REQUIRE(pipe);
    std::string text;
    char buffer[4096];
    for (size_t got; (got = fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, got);
    int status = pclose(pipe);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text};
  }
  std::string must(const std::string &command) const {
    Outcome outcome = run(command);
    INFO(command << "\n" << outcome.text);
    REQUIRE(outcome.code == 0);
    return outcome.text;
  }
};

std::string line_csv(int rows) {
  std::string text = "a,b,c,y\n";
  unsigned state = 1;
  auto uniform = [&] {
    state = state * 1664525 + 1013904223;
    return double(state >> 8) / (1 << 23) - 1;
  };
  for (int i = 0; i < rows; i++) {
    double a = uniform(), b = uniform(), c = uniform();
    char line[128];
    snprintf(line, sizeof line, "%.6f,\"%.6f\", %.4e ,%.6f\n", a, b, c, 2 * a - 3 * b + c / 2 + 1);
    text += line;
  }
  return text;
}

std::string big_endian(unsigned value) {
  return {char(value >> 24), char(value >> 16), char(value >> 8), char(value)};
}
std::string idx(char type, const std::vector<unsigned> &dims, const std::string &content) {
  std::string bytes{0, 0, type, char(dims.size())};
  for (unsigned d : dims) bytes += big_endian(d);
  return bytes + content;
}
std::string gzip(const std::string &bytes) {
  z_stream stream = {};
  deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(bytes.size() + 200, 0);
  stream.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(bytes.data()));
  stream.avail_in = uInt(bytes.size());
  stream.next_out = reinterpret_cast<Bytef *>(out.data());
  stream.avail_out = uInt(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}
std::string npy(const std::string &descr, const std::string &shape, const std::string &content) {
  std::string header =
      "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }";
  while ((11 + header.size()) % 64) header += ' ';
  header += '\n';
  std::string bytes = "\x93NUMPY";
  bytes += {1, 0, char(header.size() & 255), char(header.size() >> 8)};
  return bytes + header + content;
}

constexpr int PictureRows = 50;
std::string pixels() {
  std::string bytes;
  unsigned state = 5;
  for (int i = 0; i < PictureRows; i++)
    for (int p = 0; p < 16; p++) {
      state = state * 1664525 + 1013904223;
      bytes += char((p / 6 == i % 3 ? 200 : 0) + (state >> 16) % 50);
    }
  return bytes;
}
std::string labels() {
  std::string bytes;
  for (int i = 0; i < PictureRows; i++) bytes += char(i % 3);
  return bytes;
}
void write_pictures(const Workplace &w) {
  w.write("images.idx.gz", gzip(idx(8, {PictureRows, 4, 4}, pixels())));
  w.write("labels.idx", idx(8, {PictureRows}, labels()));
}

bool contains(const std::string &text, const std::string &part) {
  return text.find(part) != std::string::npos;
}

// The bytes of one tensor of a safetensors file.
std::string tensor(const std::string &file, const std::string &name) {
  uint64_t length;
  memcpy(&length, file.data(), 8);
  std::string header = file.substr(8, length);
  std::smatch found;
  std::regex entry("\"" + name + "\":\\{[^}]*\"data_offsets\":\\[(\\d+),(\\d+)\\]");
  REQUIRE(std::regex_search(header, found, entry));
  size_t begin = std::stoul(found[1]), end = std::stoul(found[2]);
  return file.substr(8 + length + begin, end - begin);
}

// Runs on a pseudo-terminal.
std::string on_terminal(const Workplace &w, const std::string &command) {
  int fd;
  pid_t child = forkpty(&fd, nullptr, nullptr, nullptr);
  if (child == 0) {
    std::string all = "cd " + w.dir.string() + " && exec " + NNC_HAND_MODELS + "/" + command;
    execl("/bin/sh", "sh", "-c", all.c_str(), nullptr);
    _exit(127);
  }
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, size_t(got));
  int status;
  waitpid(child, &status, 0);
  close(fd);
  return text;
}

} // namespace

TEST_CASE("runtime: a binary trains on a CSV and saves its weights", "[runtime]") {
  Workplace w;
  w.write("line.csv", line_csv(203));
  std::string text = w.must("line");
  CHECK(std::count(text.begin(), text.end(), '\n') == 5);
  CHECK(!contains(text, "\033"));
  std::regex epoch("Epoch 1/3 - 21/21 - 0s - \\d+[um]?s/step - loss: \\d\\.\\d{4} - "
                   "root_mean_squared_error: \\d\\.\\d{4} - val_loss: \\d\\.\\d{4} - "
                   "val_root_mean_squared_error: \\d\\.\\d{4}\n");
  CHECK(std::regex_search(text, epoch));
  CHECK(contains(text, "Restoring model weights from the end of the best epoch: 3.\n"
                       "Weights saved to `line.safetensors`\n"));
  w.must("line --epochs 40 --verbose 0 --save far.safetensors");
  std::string file = w.read("far.safetensors");
  CHECK(contains(file,
                 "\"__metadata__\":{\"format\":\"nnc\",\"name\":\"line\",\"tuning\":\"none\"}"));
  float kernel[3];
  memcpy(kernel, tensor(file, "line/dense/kernel").data(), 12);
  CHECK(kernel[0] == Approx(2).margin(0.02));
  CHECK(kernel[1] == Approx(-3).margin(0.02));
  CHECK(kernel[2] == Approx(0.5).margin(0.02));
}

TEST_CASE("runtime: bits depend on the seed, not on threads nor on the order of items",
          "[runtime]") {
  Workplace w;
  write_pictures(w);
  w.must("image --threads 1 --save one --verbose 0");
  for (const char *options :
       {"", "--threads 2", "--threads 3", "--threads 5", "--reverse-items --threads 3",
        "--shuffle-items 1 --threads 3", "--shuffle-items 2 --threads 5"}) {
    w.must(std::string("image --verbose 0 --save other ") + options);
    INFO(options);
    CHECK(w.read("one") == w.read("other"));
  }
  // Long enough for what follows the trial of one thread.
  w.must("image --threads 1 --epochs 40 --save one --verbose 0");
  for (const char *options : {"", "--threads 2"}) {
    w.must(std::string("image --verbose 0 --epochs 40 --save other ") + options);
    CHECK(w.read("one") == w.read("other"));
  }
  w.must("image --threads 1 --save one --verbose 0");
  w.must("image --seed 8 --save other --verbose 0");
  CHECK(w.read("one") != w.read("other"));
  w.must("image --no-shuffle --save other --verbose 0");
  CHECK(w.read("one") != w.read("other"));
}

TEST_CASE("runtime: training goes on where it stopped", "[runtime]") {
  Workplace w;
  write_pictures(w);
  w.must("image --epochs 4 --save whole --verbose 0");
  w.must("image --epochs 2 --save half --verbose 0");
  w.must("image --epochs 2 --weights half --save rest --verbose 0");
  CHECK(w.read("whole") == w.read("rest"));
  w.must("image --steps 3 --save three --verbose 0");
  int64_t step;
  memcpy(&step, tensor(w.read("three"), "nnc/step").data(), 8);
  CHECK(step == 3);
}

TEST_CASE("runtime: the learning rate can be set", "[runtime]") {
  Workplace w;
  write_pictures(w);
  auto rate = [&](const std::string &name) {
    float value;
    memcpy(&value, tensor(w.read(name), "learning_rate").data(), 4);
    return value;
  };
  w.must("image --verbose 0 --save own");
  CHECK(rate("own") == 0.02f);
  w.must("image --verbose 0 --learning-rate 0.02 --save same");
  CHECK(w.read("own") == w.read("same"));
  w.must("image --verbose 0 --learning-rate=5e-3 --save slow");
  CHECK(rate("slow") == 5e-3f);
  CHECK(tensor(w.read("own"), "line/dense/kernel") != tensor(w.read("slow"), "line/dense/kernel"));
  // Weights remember the rate they were trained with; the option is stronger.
  w.must("image --verbose 0 --weights slow --save on");
  CHECK(rate("on") == 5e-3f);
  w.must("image --verbose 0 --weights slow --learning-rate 0 --save zero");
  CHECK(rate("zero") == 0);
  Outcome schedule = w.run("steps --learning-rate 0.1");
  CHECK(schedule.code == 2);
  CHECK(schedule.text == "error: --learning-rate: `steps` has no learning rate to set: its "
                         "optimizer has a schedule\n");
}

TEST_CASE("runtime: files are logical row-major, predictions follow from them", "[runtime]") {
  Workplace w;
  write_pictures(w);
  std::string text = w.must("image");
  std::regex test("Test: loss: \\d\\.\\d{4} - root_mean_squared_error: \\d\\.\\d{4}\n");
  CHECK(std::regex_search(text, test));
  CHECK(contains(w.must("image evaluate"), text.substr(text.find("Test:"))));

  std::string file = w.read("picture.safetensors"), x = pixels();
  float kernel[16][3], bias[3];
  memcpy(kernel, tensor(file, "line/dense/kernel").data(), sizeof kernel);
  memcpy(bias, tensor(file, "line/dense/bias").data(), sizeof bias);
  w.must("image predict --output p.npy");
  w.must("image predict --output p.csv");
  std::string written = w.read("p.npy");
  CHECK(contains(written, "{'descr': '<f4', 'fortran_order': False, 'shape': (50, 3), }"));
  REQUIRE(written.size() == 128 + PictureRows * 12);
  std::stringstream expected;
  expected << "output_0,output_1,output_2\n";
  for (int row = 0; row < PictureRows; row++) {
    float found[3];
    memcpy(found, written.data() + 128 + 12 * row, 12);
    for (int c = 0; c < 3; c++) {
      float sum = bias[c];
      for (int f = 0; f < 16; f++)
        sum += kernel[f][c] * (float(static_cast<unsigned char>(x[size_t(row * 16 + f)])) / 255.0f);
      CHECK(found[c] == Approx(sum).margin(1e-6));
      char number[32];
      snprintf(number, sizeof number, "%.9g%s", double(found[c]), c < 2 ? "," : "\n");
      expected << number;
    }
  }
  CHECK(w.read("p.csv") == expected.str());
  CHECK(w.must("image predict") == expected.str());
  std::string two = w.must("image predict --limit 2");
  CHECK(two == expected.str().substr(0, two.size()));
  CHECK(std::count(two.begin(), two.end(), '\n') == 3);
  std::string shown = w.must("image predict --show --limit 1");
  CHECK(contains(shown, "row 0: predicted 0 ("));
  CHECK(contains(shown, "), target 0\n"));
  CHECK(!contains(shown, "\033"));
}

TEST_CASE("runtime: every reader gives the same bits", "[runtime]") {
  Workplace w;
  write_pictures(w);
  w.must("image --verbose 0 --save idx");
  w.write("images.npy", npy("|u1", "(50, 4, 4, 1)", pixels()));
  std::string wide, csv = "label,other\n";
  for (char label : labels()) {
    wide += label + std::string(7, 0);
    csv += std::to_string(int(label)) + ",text\n\n";
  }
  w.write("labels.npy", npy("<i8", "(50,)", wide));
  w.write("labels.csv", csv);
  w.must("image --verbose 0 --save npy --data image=images.npy --data label=labels.npy");
  w.must("image --verbose 0 --save csv --data image=images.npy --data data.label=labels.csv");
  CHECK(w.read("idx") == w.read("npy"));
  CHECK(w.read("idx") == w.read("csv"));
}

TEST_CASE("runtime: epochs of a number of steps, validation data, a missing monitor", "[runtime]") {
  Workplace w;
  w.write("line.csv", line_csv(60)); // 8 steps make a pass
  w.write("held.csv", line_csv(20));
  std::string text = w.must("steps --log-steps s.csv --log e.csv");
  CHECK(contains(text, "Epoch 3/3 - 5/5 - "));
  CHECK(contains(text, " - val_loss: "));
  std::string warning =
      "warning: Early stopping conditioned on metric `val_acuracy` which is not available. "
      "Available metrics are: loss,root_mean_squared_error,val_loss,"
      "val_root_mean_squared_error\n";
  CHECK(contains(text, warning));
  CHECK(text.find(warning) == text.rfind(warning));
  std::string steps = w.read("s.csv");
  CHECK(std::count(steps.begin(), steps.end(), '\n') == 16); // 15 steps: the second pass goes on
  CHECK(contains(w.read("e.csv"),
                 "epoch,loss,root_mean_squared_error,val_loss,val_root_mean_squared_error\n"));
  std::string held = w.must("steps evaluate --verbose 0");
  CHECK(w.must("steps evaluate") ==
        "warning: the model names no test data: evaluating on the validation data\n" + held);
  CHECK(held == w.must("steps evaluate --data validation=held.csv"));
  CHECK(held != w.must("steps evaluate --data validation=line.csv"));
  CHECK(held != w.must("steps evaluate --data x=line.csv --data y=line.csv"));
  Outcome missing = w.run("steps --data validation=none.csv");
  CHECK(missing.code == 1);
  CHECK(contains(missing.text, "cannot read `none.csv` (`x`)"));
  // Data that overflows is worth a warning, once, and does not end training.
  w.write("line.csv", "a,b,c,y\n1e30,1e30,1,1\n1,1,1,1\n");
  std::string wild = w.must("steps --epochs 20");
  CHECK(contains(wild, "warning: the loss or a metric became infinite at step 1 (epoch 1)\n"));
  CHECK(wild.find("warning: the loss") == wild.rfind("warning: the loss"));
  CHECK(contains(wild, "loss: nan"));
}

TEST_CASE("runtime: without test data the rows that validate are evaluated", "[runtime]") {
  Workplace w;
  w.write("line.csv", line_csv(203));
  std::string trained = w.must("line --epochs 1"), held = w.must("line evaluate --verbose 0");
  CHECK(w.must("line evaluate") ==
        "warning: the model names no test data: evaluating on the last 41 rows of the training "
        "data, the validation split\n" +
            held);
  std::smatch found;
  REQUIRE(std::regex_search(trained, found, std::regex("val_loss: (\\d\\.\\d+)")));
  CHECK(held.rfind("Validation: loss: " + found[1].str() + " - ", 0) == 0);
  // Data given to the command is meant as a whole, and there is nothing to warn of.
  std::string all = w.must("line evaluate --data data=line.csv");
  CHECK(all.rfind("Test: loss: ", 0) == 0);
  CHECK(all != held);
}

TEST_CASE("runtime: logs of epochs and steps", "[runtime]") {
  Workplace w;
  write_pictures(w);
  w.must("image --log e.csv --log-steps s.csv --verbose 0 --save a");
  std::string epochs = w.read("e.csv"), steps = w.read("s.csv");
  CHECK(epochs.rfind("epoch,loss,root_mean_squared_error\n0,", 0) == 0);
  CHECK(std::count(epochs.begin(), epochs.end(), '\n') == 3);
  CHECK(steps.rfind("step,loss,root_mean_squared_error\n1,", 0) == 0);
  CHECK(std::count(steps.begin(), steps.end(), '\n') == 15);
  w.must("image --log f.csv --verbose 0 --save b");
  CHECK(w.read("a") == w.read("b"));
  CHECK(std::stod(w.read("f.csv").substr(epochs.find("\n0,") + 3)) ==
        Approx(std::stod(epochs.substr(epochs.find("\n0,") + 3))));
}

TEST_CASE("runtime: the progress bar is Keras'", "[runtime]") {
  Workplace w;
  w.write("line.csv", line_csv(203));
  std::string text = on_terminal(w, "line --epochs 2");
  std::string full;
  for (int i = 0; i < 20; i++) full += "━";
  CHECK(text.rfind("Epoch 1/2\r\n", 0) == 0);
  CHECK(contains(text, "\r\033[1m21/21\033[0m \033[32m" + full +
                           "\033[0m\033[37m\033[0m \033[1m0s\033[0m "));
  CHECK(contains(text, "s/step - loss: "));
  std::string two = w.must("line --epochs 2 --verbose 2");
  CHECK(two.rfind("Epoch 1/2\n21/21 - 0s - ", 0) == 0);
  std::string one = on_terminal(w, "line --epochs 1");
  CHECK(!contains(one, "Epoch"));
}

TEST_CASE("runtime: summary", "[runtime]") {
  Workplace w;
  std::string text = w.must("line summary");
  CHECK(contains(text, "Model: \"line\"\n┏━"));
  CHECK(contains(text, "│ dense (Dense)                        │ (None, 1)                   │"
                       "           1,234 │\n"));
  CHECK(contains(text, " Total params: 10 (40.00 B)\n Trainable params: 4 (16.00 B)\n"
                       " Non-trainable params: 1 (4.00 B)\n Optimizer params: 5 (20.00 B)\n"));
  CHECK(contains(text, " FLOPs per sample (forward): 2,460\n"));
  CHECK(contains(text, "   weights             4.82 KB\n"));
}

TEST_CASE("runtime: bench makes the steps of train and writes nothing", "[runtime]") {
  Workplace w;
  write_pictures(w);
  w.must("image train --no-shuffle --steps 3 --log-steps steps.csv --save weights --verbose 0");
  auto files = [&] {
    std::vector<std::string> names;
    for (const auto &entry : fs::directory_iterator(w.dir))
      names.push_back(entry.path().filename());
    return names;
  };
  const auto before = files();
  auto loss = [](const std::string &line) { // "loss": 1.25, .. or "loss": 1.25}
    std::smatch m;
    REQUIRE(std::regex_search(line, m, std::regex("\"loss\": ([^,}]+)")));
    return m[1].str();
  };
  auto lines = [](const std::string &text) {
    std::istringstream in(text);
    std::vector<std::string> all;
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  };
  // Steps on request: those of training, one by one.
  w.write("requests", "1\n1\n1\n40\n");
  auto answers = lines(w.must("image bench --requests --threads 1 < requests"));
  fs::remove(w.dir / "requests");
  REQUIRE(answers.size() == 4);
  auto steps = lines(w.read("steps.csv"));
  REQUIRE(steps.size() == 4);
  for (int i = 0; i < 3; i++) {
    INFO(answers[i]);
    CHECK(contains(answers[i], "{\"steps\": 1, \"seconds\": "));
    CHECK(contains(answers[i], "\"threads\": 1"));
    CHECK(contains(steps[size_t(i) + 1], loss(answers[i])));
  }
  CHECK(contains(answers[3], "{\"steps\": 40, "));
  CHECK(std::stod(loss(answers[3])) < std::stod(loss(answers[0])));
  // A number of steps, and as many as fit in a second; weights to begin with.
  CHECK(contains(w.must("image bench --steps 7"), "{\"steps\": 7, "));
  CHECK(lines(w.must("image bench")).size() == 1);
  w.write("requests", "1\n");
  std::string trained = loss(w.must("image bench --requests --weights weights < requests"));
  CHECK(std::stod(trained) < std::stod(loss(answers[0])));
  // Mistakes.
  w.write("requests", "1\nx\n");
  Outcome wrong = w.run("image bench --requests < requests");
  CHECK(wrong.code == 1);
  CHECK(contains(wrong.text, "error: standard input: expected a number of steps, found `x`"));
  fs::remove(w.dir / "requests");
  CHECK(files() == before);
}

TEST_CASE("runtime: a profile names every kernel and changes no bit", "[runtime][profile]") {
  Workplace w;
  write_pictures(w);
  w.write("line.csv", line_csv(100));
  w.must("line train --epochs 2 --verbose 0 --save plain");
  for (const char *threads : {"1", "3"}) {
    std::string text = w.must("line train --epochs 2 --verbose 0 --save profiled --threads " +
                              std::string(threads) + " --profile");
    INFO(text);
    CHECK(w.read("plain") == w.read("profiled"));
    CHECK(contains(text, "Profile of `line`: "));
    CHECK(contains(text, " multiply-adds in f32, "));
    CHECK(contains(text, "reading 64 MiB"));
    CHECK(contains(text, "By layer"));
    CHECK(contains(text, "Gaps: "));
    CHECK(contains(text, "Waiting at barriers") == (*threads == '3'));
    size_t from = text.find("\ntrain_step: 20 calls"), to = text.find("\n\n", from + 1);
    REQUIRE(from != std::string::npos);
    const std::string table = text.substr(from, to - from);
    for (const char *row : {"error_rows  .* 1 +20 ", "update  .* 2 +20 ", "count_loss  .* 3 +20 ",
                            "count_step  .* 3 +20 ", "\\(filling batches\\) +20 "})
      CHECK(std::regex_search(table, std::regex("\n  " + std::string(row))));
    for (const char *name : {"\n  error_rows ", "\n  update ", "\n  count_loss "})
      CHECK(table.find(name) == table.rfind(name));
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 100);
    // Shares: of the kernels, and of what is in none.
    double shares = 0;
    std::istringstream rows(
        text.substr(text.find("\n\n"), text.find("By layer") - text.find("\n\n")));
    std::regex share("^  .* [0-9]+\\.[0-9]{3} +([0-9.]+)%");
    for (std::string line; std::getline(rows, line);) {
      std::smatch m;
      if (std::regex_search(line, m, share)) shares += std::stod(m[1]);
    }
    CHECK(shares > 97);
    CHECK(shares < 103);
  }
  // Files; the terminal's output stays apart from the report.
  w.must("image train --epochs 1 --verbose 0 --threads 2 --profile-file trace.json");
  CHECK(contains(w.read("trace.json"),
                 "{\"name\": \"error_rows\", \"cat\": \"forward\", \"ph\": \"X\""));
  CHECK(contains(w.read("trace.json"), "\"thread 1\""));
  w.must("image predict --output plain.csv");
  std::string report = w.must("image predict --output with.csv --profile-file p.csv");
  CHECK(w.read("with.csv") == w.read("plain.csv"));
  CHECK(contains(report, "predict: 7 calls, "));
  CHECK(contains(w.read("p.csv"), "predict,predict_rows,,forward,1,7,"));
  CHECK(contains(w.must("image evaluate --profile"), "eval_step: "));
  CHECK(contains(w.must("image bench --steps 7 --profile"), "train_step: "));
  CHECK(!contains(w.must("image evaluate"), "Profile"));
  CHECK(w.run("image --profile-file /proc/none.csv").code == 1);
}

TEST_CASE("runtime: an interrupt saves the weights", "[runtime]") {
  Workplace w;
  write_pictures(w);
  for (auto [signal, code] : {std::pair{SIGINT, 130}, {SIGTERM, 143}}) {
    const std::string program = std::string(NNC_HAND_MODELS) + "/image";
    fs::remove(w.dir / "log");
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      if (chdir(w.dir.c_str()) != 0 || !freopen("log", "w", stdout)) _exit(99);
      execl(program.c_str(), program.c_str(), "--epochs", "100000000", nullptr);
      _exit(99);
    }
    int status = 0;
    while (!contains(w.read("log"), "Epoch 2/") && waitpid(child, &status, WNOHANG) == 0)
      usleep(10'000);
    INFO(w.read("log"));
    REQUIRE(kill(child, signal) == 0);
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == code);
    CHECK(contains(w.read("log"), "Interrupted after step "));
    CHECK(w.has("picture.safetensors"));
    w.must("image evaluate");
    fs::remove(w.dir / "picture.safetensors");
  }
}

TEST_CASE("runtime: mistakes on the command line end with 2 and a hint", "[runtime]") {
  Workplace w;
  struct Case {
    const char *command, *expected;
  };
  for (Case c :
       {Case{"line trian", "unknown command `trian`: did you mean `train`?"},
        {"line fly", "unknown command `fly`: expected train, evaluate, predict, summary or bench"},
        {"line --epoch 3", "unknown option `--epoch`: did you mean `--epochs`?"},
        {"line --learn 3", "unknown option `--learn`: did you mean `--learning-rate`?"},
        {"line --learn=3", "unknown option `--learn`: did you mean `--learning-rate`?"},
        {"line --no-shuf=3", "unknown option `--no-shuf`: did you mean `--no-shuffle`?"},
        {"line --thre", "unknown option `--thre`: did you mean `--threads`?"},
        {"line --frobnicate", "unknown option `--frobnicate`: --help lists the options"},
        {"line --learning-rate x", "--learning-rate: expected a number from 0, found `x`"},
        {"line --learning-rate -1", "--learning-rate: expected a number from 0, found `-1`"},
        {"line --learning-rate nan", "--learning-rate: expected a number from 0, found `nan`"},
        {"line evaluate --learning-rate 1", "--learning-rate does not apply to `evaluate`"},
        {"line -x", "unknown option `-x`"},
        {"line -hx", "unknown option `-hx`"},
        {"line train -- --help", "unexpected argument `--help`"},
        {"line -", "unknown command `-`"},
        {"line --epochs x", "--epochs: expected a whole number, found `x`"},
        {"line --epochs 0", "--epochs: expected a number from 1, found 0"},
        {"line --epochs 3.5", "--epochs: expected a whole number, found `3.5`"},
        {"line --seed -1", "--seed: expected a whole number, found `-1`"},
        {"line --seed 99999999999999999999", "--seed: expected a whole number"},
        {"line --verbose 3", "--verbose: expected a number from 0 to 2, found 3"},
        {"line --epochs", "--epochs needs a value: N"},
        {"line --show", "--show does not apply to `train`: it belongs to `predict`"},
        {"line --data x", "--data: expected NAME=PATH, found `x`"},
        {"line --data z=f", "the model has no data `z`: it has `data`, `data.x`, `data.y`"},
        {"line bench --epochs 3", "--epochs does not apply to `bench`: it belongs to `train`"},
        {"line bench --save f", "--save does not apply to `bench`: it belongs to `train`"},
        {"line --requests", "--requests does not apply to `train`: it belongs to `bench`"},
        {"line bench --data z=f", "the model has no data `z`"},
        {"line --profile --shuffle-items 1",
         "--profile times kernels in their own order: it does not go with --shuffle-items"},
        {"line --profile-file a.csv --reverse-items", "it does not go with --reverse-items"},
        {"line --profile-file a.txt",
         "--profile-file: expected a name ending in .csv or .json, found `a.txt`"},
        {"line --profile=a.csv", "--profile takes no value"},
        {"line summary --profile", "--profile does not apply to `summary`: it belongs to `train`"},
        {"line --no-shuffle=1", "--no-shuffle takes no value"},
        {"line train evaluate", "unexpected argument `evaluate`"}}) {
    Outcome outcome = w.run(c.command);
    INFO(c.command << "\n" << outcome.text);
    CHECK(outcome.code == 2);
    CHECK(contains(outcome.text, "error: "));
    CHECK(contains(outcome.text, c.expected));
  }
  CHECK(contains(w.must("line --help"), "--epochs N"));
  for (const char *code : {" 0 done", " 1 bad data", " 2 bad command line", "130 and 143 ended by"})
    CHECK(contains(w.must("line --help"), code));
  CHECK(w.must("line --help") == w.must("line -h"));
  CHECK(contains(w.must("line --about"), "line.nn"));
  CHECK(w.must("line --verbose=2 summary") == w.must("line -- summary"));
}

TEST_CASE("runtime: bad data is one clear error and leaves old weights alone", "[runtime]") {
  Workplace w;
  w.write("line.safetensors", "old");
  w.write("picture.safetensors", "old");
  auto rejected = [&](const std::string &command, const std::string &expected) {
    Outcome outcome = w.run(command);
    INFO(command << "\n" << outcome.text);
    CHECK(outcome.code == 1);
    CHECK(contains(outcome.text, expected));
    CHECK(std::count(outcome.text.begin(), outcome.text.end(), '\n') == 1);
    CHECK(w.read("line.safetensors") == "old");
    CHECK(w.read("picture.safetensors") == "old");
  };
  rejected("line", "cannot read `line.csv` (`x`): No such file or directory");
  auto csv = [&](const std::string &text, const std::string &expected) {
    w.write("line.csv", text);
    rejected("line", expected);
  };
  csv("", "`line.csv`: the file is empty: a CSV needs a header line");
  csv("a,b,c,y\n", "`line.csv` (training data): there are no rows");
  csv("a,b,d,y\n1,2,3,4\n", "line.csv:1: the header has no column `c`: it has `a`, `b`, `d`, `y`");
  csv("a,b,c,y\n1,2,3,4\n1,x,3,4\n", "line.csv:3: column 2 (`b`): expected a number, found `x`");
  csv("a,b,c,y\n1,2,3,\n", "line.csv:2: column 4 (`y`): expected a number, found an empty field");
  csv("a,b,c,y\n1,2,3\n", "line.csv:2: the header has 4 columns, this line has 3");
  csv("a,b,c,y\n1,2,\"3,4\n", "line.csv:2: unterminated quote");
  csv("a,b,c,y\n1,2,3e,4\n", "line.csv:2: column 3 (`c`): expected a number, found `3e`");
  csv("a\n1\n", "line.csv:1: there is no column 2 (index 1, for `x`): the header has 1");
  csv("a;b;c;y\n1;2;3;4\n",
      "line.csv:1: expected commas between the columns, found `;`: `a;b;c;y`");
  csv("a\tb\n1\t2\n", "line.csv:1: expected commas between the columns, found tabs: `a?b`");
  csv("a,b,c,y\n1,2,3,4\n", "1 rows are too few for a validation split of 0.2");
  auto images = [&](const std::string &bytes, const std::string &expected) {
    w.write("images.idx.gz", bytes);
    rejected("image", expected);
  };
  write_pictures(w);
  std::string good = w.read("images.idx.gz");
  images(good.substr(0, good.size() / 2),
         "`images.idx.gz`: the gzip data ends early: the file is truncated");
  images(idx(8, {50, 4, 4}, pixels()), "`images.idx.gz`: not a gzip file");
  images(gzip("what is this"), "not an IDX file: expected magic 00 00 and a type byte");
  images(gzip(idx(8, {50, 4, 4}, pixels().substr(1))),
         "the header says u8[50,4,4], which takes 800 bytes after the header, found 799");
  images(gzip(idx(8, {50, 16}, pixels())),
         "the model takes rows of u8[4,4], the file has rows of u8[16]");
  images(gzip(idx(8, {25, 4, 4}, pixels().substr(400))),
         "training data: `image` has 25 rows (images.idx.gz), `label` has 50 (labels.idx)");
  w.write("images.idx.gz", good);
  std::string bad = labels();
  bad[7] = 3;
  w.write("labels.idx", idx(8, {50}, bad));
  rejected("image",
           "`labels.idx` (training data, `label`): row 7: expected a value in [0, 3), found 3");
  w.write("labels.npy", npy("<f4", "(50,)", std::string(200, 0)));
  rejected("image --data label=labels.npy", "the model takes i64, the file has f32");
  w.write("labels.npy", npy(">i8", "(50,)", std::string(400, 0)));
  rejected("image --data label=labels.npy", "NPY element type '>i8' is not supported");
  w.write("labels.csv", "l,m\n0,0\n4,0\n");
  rejected("image --data label=labels.csv", "labels.csv:1: the header has no column `label`");
  w.write("labels.csv", "label\n0\n4\n");
  rejected("image --data label=labels.csv",
           "labels.csv:3: column 1 (`label`): expected a value in [0, 3), found 4");
  w.write("labels.csv", "label\n0\n1.5\n");
  rejected("image --data label=labels.csv",
           "labels.csv:3: column 1 (`label`): expected an integer, found `1.5`");
}

TEST_CASE("runtime: weights are checked before they are used", "[runtime]") {
  Workplace w;
  write_pictures(w);
  w.write("line.csv", line_csv(50));
  auto rejected = [&](const std::string &command, const std::string &expected) {
    Outcome outcome = w.run(command);
    INFO(command << "\n" << outcome.text);
    CHECK(outcome.code == 1);
    CHECK(contains(outcome.text, expected));
    std::string rest = outcome.text.substr(outcome.text.find("error: "));
    CHECK(std::count(rest.begin(), rest.end(), '\n') == 1);
  };
  // Without weights the data, which may be large, are not even read.
  for (const char *command : {"image evaluate", "image predict", "line evaluate", "line predict"})
    rejected(command, ".safetensors`: run `train` first, or name a file with --weights");
  for (const char *command : {"image train", "image evaluate", "line predict"})
    rejected(std::string(command) + " --weights none",
             "cannot read `none` (weights): No such file or directory");
  w.must("image --verbose 0 --save image.w");
  w.must("line --verbose 0 --save line.w");
  rejected("image predict --weights line.w",
           "`line.w`: tensor `line/dense/kernel`: the model has f32[16,3], the file has f32[3]");
  std::string file = w.read("image.w");
  w.write("cut", file.substr(0, file.size() - 300));
  rejected("image predict --weights cut",
           "its place in the file is wrong or the file is truncated");
  w.write("cut", file.substr(0, 20));
  rejected("image predict --weights cut", "not a safetensors file, or truncated");
  std::string renamed = file;
  renamed.replace(renamed.find("line/seen"), 9, "line/sean");
  w.write("renamed", renamed);
  rejected("image evaluate --weights renamed", "no tensor `line/seen`: the model needs i32");
  auto header = [&](const std::string &json, const std::string &expected) {
    w.write("header", std::string{char(json.size())} + std::string(7, 0) + json);
    rejected("image evaluate --weights header", expected);
  };
  header("{\"line/dense/kernel\":}", "`header`: malformed safetensors header: byte 22: ");
  header("{\"a\":1,\"a\":2}", "duplicate object key");
  header("{\"a\n", "malformed safetensors header");
  header("{}", "no tensor `line/dense/kernel`: the model needs f32[16,3]");
  header("{\"line/dense/kernel\":3}", "the model has f32[16,3], the file has ?");
  header("{\"line/dense/kernel\":{\"dtype\":\"F\\n\",\"shape\":[16,3]}}", "the file has F?[16,3]");
  header("{\"line/dense/kernel\":{\"dtype\":\"F32\",\"shape\":[16,3.5]}}",
         "the file has f32[16,-1]");
  header("{\"line/dense/kernel\":{\"dtype\":\"F32\",\"shape\":[16,3],\"data_offsets\":[0]}}",
         "tensor `line/dense/kernel`: `data_offsets` should be two whole numbers");
  header("{\"line/dense/kernel\":{\"dtype\":\"F32\",\"shape\":[16,3],\"data_offsets\":[0,192]}}",
         "its place in the file is wrong or the file is truncated");
  // From a pipe, or compressed, they are the same.
  const std::string plain = w.must("image evaluate --weights image.w");
  CHECK(w.must("image evaluate --weights /dev/stdin < image.w") == plain);
  const std::string feed = "cd " + w.dir.string() + " && mkfifo pipe && (cat image.w > pipe &)";
  REQUIRE(std::system(feed.c_str()) == 0);
  CHECK(w.must("image evaluate --weights pipe") == plain);
  REQUIRE(std::system(("gzip -k '" + (w.dir / "image.w").string() + "'").c_str()) == 0);
  CHECK(w.must("image evaluate --weights image.w.gz") == plain);
  // Slots may be missing: weights from elsewhere are a start.
  std::string slotless = file;
  slotless.replace(slotless.find("kernel/momentum"), 15, "kernel/mementum");
  w.write("slotless", slotless);
  w.must("image --weights slotless --verbose 0");
  w.write("picture.safetensors", "old");
  w.write("cut", file.substr(0, 100));
  rejected("image --weights cut", "not a safetensors file, or truncated");
  CHECK(w.read("picture.safetensors") == "old");
  // Truncated anywhere, or with any byte of the header wrong: one error, or a harmless byte.
  for (size_t length = 0; length < file.size(); length += 1 + file.size() / 60) {
    w.write("cut", file.substr(0, length));
    rejected("image evaluate --weights cut", "`cut`: ");
  }
  unsigned state = 7;
  for (int i = 0; i < 60; i++) {
    std::string garbled = file;
    state = state * 1664525 + 1013904223;
    garbled[(state >> 8) % 700] = char(state >> 24);
    w.write("garbled", garbled);
    Outcome outcome = w.run("image evaluate --verbose 0 --weights garbled");
    INFO(outcome.text);
    CHECK((outcome.code == 0 || (outcome.code == 1 && contains(outcome.text, "`garbled`: "))));
    CHECK(std::count(outcome.text.begin(), outcome.text.end(), '\n') == 1);
  }
  rejected("image --save /proc/none.safetensors", "cannot write `/proc/none.safetensors`");
  rejected("image --save .", "cannot write `.`: it is a directory");
}

TEST_CASE("runtime: a model larger than memory does not start to train", "[runtime]") {
  Workplace w;
  w.write("line.csv", line_csv(100));
  Outcome outcome = w.run("huge train");
  CHECK(outcome.code == 1);
  std::regex message("error: training needs 64\\.00 TB of memory, 64\\.00 TB for the model and "
                     "1\\.56 KB for the data: there are \\d+\\.\\d\\d [MGT]B, swap included\n");
  INFO(outcome.text);
  CHECK(std::regex_match(outcome.text, message));
}
