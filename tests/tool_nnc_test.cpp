// The `nnc` command from outside: options, stages, files, messages, exit codes, and the bytes it
// builds.
#include "tests/workplace.h"
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <unistd.h>

namespace fs = std::filesystem;
using namespace nnc::test;
using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;

namespace {

std::string readAll(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream all;
  all << in.rdbuf();
  return all.str();
}

struct Streams {
  int status;
  std::string out, err;
};

struct Tool : Workplace {
  Streams shell(const std::string &command) const {
    Streams o{Workplace::shell(command, "> .out 2> .err"), read(".out"), read(".err")};
    INFO(command << "\n" << o.err);
    CHECK(o.status < 128); // never a crash
    return o;
  }
  Streams nnc(const std::string &arguments) const {
    return shell(NNC_BINARY_DIR "/nnc " + arguments);
  }
  std::set<std::string> files() const {
    std::set<std::string> names;
    for (auto &e : fs::directory_iterator(dir)) names.insert(e.path().filename().string());
    names.erase(".out"), names.erase(".err");
    return names;
  }
};

// Does the ELF program have an interpreter segment: is it dynamically linked?
bool needsLoader(const std::string &elf) {
  auto at = [&](size_t offset, int bytes) {
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;) v = v << 8 | uint8_t(elf.at(offset + size_t(i)));
    return v;
  };
  for (uint64_t i = 0; i < at(56, 2); ++i)
    if (at(at(32, 8) + i * at(54, 2), 4) == 3) return true;
  return false;
}

const std::string kMlp = NNC_SOURCE_DIR "/tests/ir/mlp.ir";

const char *const kModel = R"(model Line(x: [batch, 2]) -> [batch, 1] {
  x |> Dense(3, activation = tanh) |> Dense(1)
}

train Line {
  data      = csv("points.csv", x = columns(0..2), target = "y")
  loss      = MeanSquaredError()
  optimizer = SGD(learning_rate = 0.1)
  epochs    = 2
}
)";

} // namespace

TEST_CASE("tool: help and version", "[tool]") {
  Tool w;
  Streams help = w.nnc("--help");
  CHECK(help.status == 0);
  CHECK_THAT(help.out, Contains("nnc model.nn") && Contains("--emit") && Contains("nnc run") &&
                           Contains("./classifier train"));
  CHECK(w.nnc("help").out == help.out);
  Streams bare = w.nnc("");
  CHECK(bare.status == 2);
  CHECK(bare.out == help.out);
  CHECK_THAT(w.nnc("--version").out, StartsWith("nnc ") && Contains("LLVM"));
}

TEST_CASE("tool: mistakes on the command line", "[tool]") {
  Tool w;
  struct Case {
    const char *arguments, *message;
  };
  for (Case c :
       {Case{"--emti=ir m.nn", "did you mean `--emit`?"},
        Case{"--emit=kernel m.nn", "did you mean `kernels`?"},
        Case{"--emit=zzzzzzzz m.nn", "the stages are tokens, ast"}, Case{"--emit", "needs a value"},
        Case{"--time-passes=3 m.nn", "takes no value"}, Case{"a.nn b.nn", "one model at a time"},
        Case{"-o x", "no model given"}, Case{"m.nn -o -", "needs a file"},
        Case{"-O7 m.nn", "unknown option `-O7`"}, Case{"--mcpu=pentium m.nn", "pentium"},
        Case{"run m.nn --epochs=3", "nnc run m.nn -- --epochs=3"},
        Case{"fmt", "no file given"}, Case{"fmt --chek m.nn", "did you mean `--check`?"},
        Case{"new", "no name given"}, Case{"new a b", "one model at a time"},
        Case{"new a --template=mlp-csw", "did you mean `mlp-csv`?"},
        Case{"new a --template=zzzzzzzz", "the templates are mlp-csv"},
        Case{"doc -f", "`-f` needs a value"}, Case{"fmt --check=1 m.nn", "takes no value"},
        Case{"lsp m.nn", "unexpected argument"}}) {
    Streams o = w.nnc(c.arguments);
    INFO(c.arguments << "\n" << o.err);
    CHECK(o.status == 2);
    CHECK(o.out == "");
    CHECK_THAT(o.err, StartsWith("error: ") && Contains(c.message));
  }
}

TEST_CASE("tool: files that cannot be read or written", "[tool]") {
  Tool w;
  Streams missing = w.nnc("no.nn");
  CHECK(missing.status == 1);
  CHECK_THAT(missing.err, Contains("cannot read `no.nn`"));
  CHECK(w.nnc(".").status == 1);
  Streams directory = w.nnc(kMlp + " -o /");
  CHECK(directory.status == 1);
  CHECK_THAT(directory.err, Contains("cannot write `/`"));
  Streams nowhere = w.nnc(kMlp + " -o there/is/no/such/directory");
  CHECK(nowhere.status == 1);
  CHECK_THAT(nowhere.err, Contains("cannot write `there/is/no/such/directory`: No such file"));
  CHECK(w.nnc(kMlp + " --emit=obj -o there/model.o").status == 1);
  CHECK(w.nnc(kMlp + " --emit=opt -o there/model.ir").status == 1);
  CHECK(w.files().empty());
  // The default name of the program is the model's; it must not destroy a source of that name.
  fs::copy_file(kMlp, w / "classifier");
  Streams self = w.nnc("classifier");
  CHECK(self.status == 1);
  CHECK_THAT(self.err, Contains("would overwrite"));
  CHECK(w.nnc("classifier -o ./classifier").status == 1);
  CHECK(readAll(w / "classifier") == readAll(kMlp));
}

TEST_CASE("tool: a file that is not a program is overwritten only by name", "[tool]") {
  Tool w;
  w.write("m.nn", kModel);
  auto refused = [&](const std::string &arguments, const std::string &expected) {
    Streams o = w.nnc(arguments);
    CHECK(o.status == 1);
    CHECK(o.err == "error: the output would overwrite " + expected + "\n  help: use `-o FILE`\n");
  };
  for (std::string text : {"", "a,b\n1,2\n",
                           "\x7f"
                           "ELF and a text that goes on"}) {
    w.write("line", text);
    w.write("line.o", text);
    refused("m.nn", "`line`, which is not a program");
    refused("m.nn --emit=obj", "`line.o`, which is not an object file");
    CHECK(readAll(w / "line") == text);
    CHECK(readAll(w / "line.o") == text);
  }
  CHECK(w.nnc("m.nn -o line").status == 0);
  CHECK(w.nnc("m.nn").status == 0); // over its own program
  CHECK(w.nnc("m.nn --emit=obj -o line.o").status == 0);
  CHECK(w.nnc("m.nn --emit=obj").status == 0);
  fs::copy_file(w / "line.o", w / "line", fs::copy_options::overwrite_existing);
  refused("m.nn", "`line`, which is not a program");
  fs::remove(w / "line");
  fs::create_directory(w / "line");
  refused("m.nn", "`line`, which is a directory");
  CHECK(w.nnc("m.nn -o line").status == 1);
}

TEST_CASE("tool: mistakes in a model", "[tool]") {
  Tool w;
  std::string broken = kModel;
  broken.replace(broken.find("Dense(3"), 5, "Dens");
  w.write("m.nn", broken);
  for (std::string arguments : {"m.nn", "check m.nn", "run m.nn", "m.nn --emit=obj"}) {
    Streams o = w.nnc(arguments);
    CHECK(o.status == 1);
    CHECK_THAT(o.err, Contains("m.nn:2:8") && Contains("`Dense`"));
  }
  CHECK(w.files() == std::set<std::string>{"m.nn"});
  w.write("m.ir", "nnc-ir 1\nfunc @f batch 0 (%x: f32[2]) {\n  %y = frobnicate %x : f32[2]\n}\n");
  Streams ir = w.nnc("m.ir");
  CHECK(ir.status == 1);
  CHECK_THAT(ir.err, Contains("m.ir:3:"));
}

TEST_CASE("tool: data files as they are now", "[tool]") {
  Tool w;
  auto warns = [&](const std::string &message) {
    Streams o = w.nnc("check m.nn");
    INFO(o.err);
    CHECK(o.status == 0);
    CHECK_THAT(o.err, Contains("NN1226") && Contains(message) && Contains("1 warning"));
    CHECK(w.nnc("check m.nn -Werror").status == 1);
  };
  auto silent = [&] {
    Streams o = w.nnc("check m.nn");
    CHECK((o.status == 0 && o.err == ""));
  };
  w.write("m.nn", kModel);
  silent(); // no file is no mistake: the program may run elsewhere
  w.write("points.csv", "\xEF\xBB\xBF\"a\", b ,y\r\n1,2,3\r\n");
  silent();
  w.write("points.csv", "a,b,yy\n1,2,3\n");
  warns("`points.csv`, as it is now, has no column `y`");
  std::string priced = kModel;
  priced.replace(priced.find("\"y\""), 3, "\"prise\"");
  w.write("m.nn", priced);
  w.write("points.csv", "a,b,price\n1,2,3\n");
  warns("did you mean `price`?");
  w.write("m.nn", kModel);
  w.write("points.csv", "y\n1\n");
  warns("`points.csv`, as it is now, has no column 1");
  w.write("points.csv", "a;b;y\n1;2;3\n");
  warns("its fields seem to be separated by `;`");
  w.write("points.csv", "1,2,3\n4,5,6\n");
  warns("begins with numbers in place of the names of its columns");

  auto header = [](const std::string &descr, const std::string &shape) {
    std::string text =
        "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }";
    text += std::string(127 - 10 - text.size(), ' ') + "\n";
    return std::string("\x93NUMPY\x01\0", 8) + char(text.size()) + '\0' + text;
  };
  w.write("m.nn", "model M(x: [batch, 4]) -> [batch, 3] { x |> Dense(3) }\n"
                  "train M {\n  data = npy(x = \"x.npy\", target = \"y.npy\")\n"
                  "  loss = SparseCategoricalCrossentropy(from_logits = true)\n"
                  "  optimizer = SGD()\n}\n");
  w.write("x.npy", header("<f8", "(7, 4, 1)"));
  w.write("y.npy", header("<i8", "(7, 1)"));
  silent();
  w.write("x.npy", header("<f8", "(7, 5)"));
  warns("has rows of f64[5], but `x` takes f32[4]");
  w.write("x.npy", header("<f8", "(7, 4)"));
  w.write("y.npy", header("<f4", "(7,)"));
  warns("has elements f32, but `target` takes i32");
  w.write("y.npy", "no array");
  warns("`y.npy`, as it is now, cannot be read: it is no NPY file");

  w.write("m.nn", "model M(image: u8[batch, 2, 2, 3]) -> [batch, 2] {\n"
                  "  image |> Rescaling(1 / 255) |> Flatten() |> Dense(2)\n}\n"
                  "train M {\n  data = folder(\"pictures\", size = [2, 2])\n"
                  "  loss = SparseCategoricalCrossentropy(from_logits = true)\n"
                  "  optimizer = SGD()\n}\n");
  silent();
  fs::create_directories(w / "pictures");
  warns("`pictures`, as it is now, has no sub-directory");
  fs::create_directories(w / "pictures/cats");
  warns("has one sub-directory, `cats`");
  fs::create_directories(w / "pictures/dogs");
  silent();
}

TEST_CASE("tool: one of several train blocks", "[tool]") {
  Tool w;
  w.write("two.nn", "model A(x: [batch, 2]) { x |> Dense(1) }\nmodel B(x: [batch, 2]) { x |> Dense(1) }\n"
                    "train A {\n  data = npy(x = \"x.npy\", target = \"y.npy\")\n  loss = MeanSquaredError()\n"
                    "  optimizer = SGD()\n}\n"
                    "train B {\n  data = npy(x = \"x.npy\", target = \"y.npy\")\n  loss = MeanSquaredError()\n"
                    "  optimizer = SGD()\n}\n");
  CHECK_THAT(w.nnc("two.nn --emit=ir -o -").out, Contains("@A.train_step") && Contains("@B.train_step"));
  CHECK_THAT(w.nnc("two.nn --train=B --emit=ir -o -").out, Contains("@train_step") && !Contains("@A."));
  CHECK(w.nnc("two.nn").status == 0);
  Streams o = w.nnc("two.nn --train=b");
  CHECK(o.status == 1);
  CHECK_THAT(o.err, Contains("NN0715") && Contains("the file has no `train b`"));
}

TEST_CASE("tool: a program that trains", "[tool]") {
  Tool w;
  w.write("m.nn", kModel);
  w.write("points.csv", "a,b,y\n1,2,3\n2,1,3\n0,1,1\n1,0,1\n");
  Streams o = w.nnc("m.nn");
  REQUIRE(o.status == 0);
  CHECK((o.out == "" && o.err == ""));
  REQUIRE(fs::exists(w / "line"));
  CHECK((fs::status(w / "line").permissions() & fs::perms::owner_exec) != fs::perms::none);
  CHECK(!needsLoader(readAll(w / "line")));
  Streams trained = w.shell("./line train");
  INFO(trained.err);
  CHECK(trained.status == 0);
  CHECK_THAT(trained.out, Contains("Epoch 2/2"));
  CHECK_THAT(w.nnc("check m.nn").out, Contains("no mistakes"));
  Streams ran = w.nnc("run m.nn -- summary");
  CHECK(ran.status == 0);
  CHECK(ran.out == w.shell("./line summary").out);
  CHECK(w.nnc("run m.nn -- --no-such-option").status != 0);
}

TEST_CASE("tool: without a compiler, a linker or an environment", "[tool]") {
  Tool w;
  CHECK(w.shell("env -i " NNC_BINARY_DIR "/nnc " + kMlp + " -o model && env -i ./model --help")
            .status == 0);
}

TEST_CASE("tool: equal text gives equal bytes", "[tool]") {
  Tool w;
  w.write("m.nn", kModel);
  REQUIRE(w.nnc("m.nn -o one").status == 0);
  REQUIRE(w.nnc("m.nn -o one").status == 0); // over itself
  fs::create_directory(w / "elsewhere");
  fs::copy_file(w / "m.nn", w / "elsewhere/m.nn");
  REQUIRE(w.shell("cd elsewhere && " NNC_BINARY_DIR "/nnc ./m.nn -o two").status == 0);
  REQUIRE(w.shell(NNC_BINARY_DIR "/nnc m.nn --emit=ir -o - | " NNC_BINARY_DIR "/nnc - -o three")
              .status == 0);
  REQUIRE(w.nnc("m.nn --emit=ir -o m.ir").status == 0);
  REQUIRE(w.nnc("m.ir -o four").status == 0);
  std::string bytes = readAll(w / "one");
  CHECK(readAll(w / "elsewhere/two") == bytes);
  CHECK(readAll(w / "three") == bytes);
  CHECK(readAll(w / "four") == bytes);
  CHECK(bytes.find(w.dir.string()) == std::string::npos);
  CHECK(w.files() == std::set<std::string>{"m.nn", "m.ir", "one", "three", "four", "elsewhere"});
}

TEST_CASE("tool: every stage as text", "[tool]") {
  Tool w;
  w.write("m.nn", kModel);
  struct Case {
    const char *stage, *contains;
  };
  for (Case c : {Case{"tokens", "NAME"}, Case{"ast", "model Line"}, Case{"ir", "nnc-ir 1"},
                 Case{"grad", "nnc-ir 1"}, Case{"opt", "func @train_step"}, Case{"math", "="},
                 Case{"dot", "digraph"}, Case{"kernels", "kernel Contract"},
                 Case{"memory", "function train_step"}, Case{"llvm", "define"},
                 Case{"asm", ".globl"}, Case{"obj", "ELF"}}) {
    INFO(c.stage);
    std::string emit = std::string("m.nn --emit=") + c.stage;
    Streams o = w.nnc(emit + " -o -");
    CHECK((o.status == 0 && o.err == ""));
    CHECK_THAT(o.out, Contains(c.contains));
    CHECK(w.nnc(emit + " -o stage").status == 0);
    CHECK(readAll(w / "stage") == o.out);
    if (c.stage != std::string("obj")) CHECK(w.nnc(emit).out == o.out);
  }
  CHECK(w.nnc(kMlp + " --emit=ast").status == 1);
  CHECK(w.nnc("m.nn --emit=obj").status == 0);
  CHECK(fs::exists(w / "line.o"));
  CHECK(w.nnc("m.nn --emit=asm -o /dev/null").status == 0);
}

TEST_CASE("tool: looking inside", "[tool]") {
  Tool w;
  w.write("m.nn", kModel);
  Streams times = w.nnc("m.nn --time-passes -o model");
  CHECK_THAT(times.err,
             Contains("ms  elaborate") && Contains("ms  machine code") && Contains("ms  total"));
  for (const char *pattern :
       {"[1-9][0-9]* +kernels for [1-9][0-9]* launches, ", "[1-9][0-9]*\\.[0-9] KiB machine code",
        "[1-9][0-9]*\\.[0-9] MiB most memory of nnc"})
    CHECK(std::regex_search(times.err, std::regex(pattern)));
  Streams portable = w.nnc("m.nn --time-passes -o model --mcpu=portable");
  CHECK_THAT(portable.err,
             Contains(" launches, x86-64-v4\n") && Contains(" launches, x86-64-v3\n"));
  Streams after = w.nnc("m.nn --print-after=simplify -o model");
  CHECK(after.status == 0);
  CHECK_THAT(after.err, Contains("# after simplify") && !Contains("# after cse"));
  CHECK_THAT(w.nnc("m.nn --print-after=all -o model").err,
             Contains("# after simplify") && Contains("# after cse"));
  Streams wrong = w.nnc("m.nn --print-after=simplfy -o wrong");
  CHECK(wrong.status == 1);
  CHECK_THAT(wrong.err, Contains("did you mean `simplify`?"));
  CHECK(!fs::exists(w / "wrong"));

  REQUIRE(w.nnc("m.nn --dump-dir=dump -o model").status == 0);
  std::set<std::string> kinds;
  int files = 0;
  for (auto &e : fs::directory_iterator(w / "dump")) {
    std::string name = e.path().filename().string();
    CHECK(isdigit(name[0]));
    kinds.insert(name.substr(name.find('-') + 1));
    ++files;
  }
  for (const char *kind : {"tokens.txt", "ast.nn", "elaborate.ir", "kernels.txt", "memory.txt",
                           "model.ll", "model.s", "model.o"})
    CHECK(kinds.count(kind) == 1);
  CHECK(files > 10);
}

TEST_CASE("tool: levels and processors", "[tool]") {
  Tool w;
  w.write("m.nn", kModel);
  w.write("points.csv", "a,b,y\n1,2,3\n2,1,3\n0,1,1\n1,0,1\n");
  for (std::string flags : {"-O0", "-O1", "-O2", "-O3"}) {
    REQUIRE(w.nnc("m.nn -o model " + flags).status == 0);
    Streams o = w.shell("./model train --verbose 2");
    CHECK(o.status == 0);
    CHECK_THAT(o.out, Contains("loss"));
  }
  for (std::string cpu : {"native", "portable", "x86-64-v3", "x86-64-v4", "sapphirerapids"})
    CHECK(w.nnc("m.nn -o model --mcpu=" + cpu).status == 0);
}

TEST_CASE("tool: messages are explained", "[tool]") {
  Tool w;
  for (const char *ask :
       {"explain NN0404", "--explain NN0404", "explain 404", "explain MatmulMismatch"}) {
    Streams o = w.nnc(ask);
    CHECK(o.status == 0);
    CHECK_THAT(o.out, StartsWith("NN0404 MatmulMismatch: error\n"));
    CHECK_THAT(o.out, Contains("This does not:\n\n    model"));
  }
  CHECK_THAT(w.nnc("explain").out, Contains("NN1201  warning  UnusedValue\n"));
  Streams unknown = w.nnc("explain NN0499");
  CHECK(unknown.status == 2);
  CHECK_THAT(unknown.err, Contains("no message has the code `NN0499`"));
}

TEST_CASE("tool: messages come as text, JSON or SARIF, and warnings can be levelled", "[tool]") {
  Tool w;
  w.write("m.nn", "model M(x: [batch, 4]) {\n  -x\n  x |> Dense(1)\n}\n");
  Streams o = w.nnc("check m.nn");
  CHECK(o.status == 0);
  CHECK_THAT(o.err, StartsWith("warning[NN1201]"));
  CHECK_THAT(w.nnc("check m.nn --color=always").err, StartsWith("\033[1;33mwarning[NN1201]"));
  CHECK(w.nnc("check m.nn -Werror").status == 1);
  CHECK(w.nnc("check m.nn --deny=NN1201").status == 1);
  o = w.nnc("check m.nn -Werror --allow=NN1201");
  CHECK(o.status == 0);
  CHECK(o.err == "");
  o = w.nnc("check m.nn --diagnostics=json");
  CHECK_THAT(o.err, StartsWith("{\"severity\": \"warning\", \"code\": \"NN1201\""));
  CHECK_THAT(w.nnc("check none.nn --diagnostics=json").err,
             StartsWith("{\"severity\": \"error\", \"code\": null"));
  o = w.nnc("check m.nn --diagnostics=sarif");
  CHECK_THAT(o.err, Contains("\"version\": \"2.1.0\""));
  CHECK_THAT(o.err, Contains("\"ruleId\": \"NN1201\""));
  CHECK_THAT(w.nnc("check none.nn --diagnostics=sarif").err, Contains("\"level\": \"error\""));
  o = w.nnc("check m.nn --allow=NN0404");
  CHECK(o.status == 2);
  CHECK_THAT(o.err, Contains("`NN0404` is an error, not a warning"));
  CHECK_THAT(w.nnc("check m.nn --deny=NN1210x").err, Contains("did you mean `NN1210`?"));
  CHECK(w.nnc("check m.nn --diagnostics=xml").status == 2);
}

TEST_CASE("tool: a block of training that is not there", "[tool]") {
  Tool w;
  w.write("m.nn", "model M(x: [batch, 4]) -> [batch, 1] { x |> Dense(1) }\n"
                  "train M {\n  data = npy(x = \"x\", target = \"y\")\n"
                  "  loss = MeanSquaredError()\n  optimizer = SGD()\n}\n");
  Streams o = w.nnc("check m.nn --train=N");
  CHECK(o.status == 1);
  CHECK_THAT(o.err, StartsWith("error[NN0715]"));
}
