// The commands on text, from outside: fmt, doc, new.
#include "tests/workplace.h"
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/stat.h>

namespace fs = std::filesystem;
using namespace nnc::test;
using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;

namespace {

struct Streams {
  int status;
  std::string out, err;
};

struct Tool : Workplace {
  Streams nnc(const std::string &arguments) const {
    Streams o{shell(NNC_BINARY_DIR "/nnc " + arguments, "> .out 2> .err"), read(".out"),
              read(".err")};
    INFO(arguments << "\n" << o.err);
    CHECK(o.status < 128); // never a crash
    return o;
  }
};

const char *const kUgly = "fn f( x )=x+1 # why\n";
const char *const kNeat = "fn f(x) = x + 1  # why\n";

} // namespace

TEST_CASE("tool: fmt writes files in place", "[tool][format]") {
  Tool w;
  w.write("a.nn", kUgly);
  w.write("b.nn", kNeat);
  REQUIRE(chmod((w.dir / "a.nn").c_str(), 0640) == 0);
  fs::create_symlink("a.nn", w.dir / "link.nn");
  auto before = fs::last_write_time(w.dir / "b.nn");

  Streams check = w.nnc("fmt --check a.nn b.nn");
  CHECK(check.status == 1);
  CHECK(check.out == "a.nn: not formatted\n");
  CHECK(w.read("a.nn") == kUgly);

  Streams done = w.nnc("fmt link.nn b.nn");
  CHECK(done.status == 0);
  CHECK(done.out + done.err == "");
  CHECK(w.read("a.nn") == kNeat);
  CHECK(fs::is_symlink(w.dir / "link.nn"));
  CHECK(fs::last_write_time(w.dir / "b.nn") == before); // what is formatted is not touched
  struct stat s;
  REQUIRE(stat((w.dir / "a.nn").c_str(), &s) == 0);
  CHECK((s.st_mode & 0777) == 0640);
  CHECK(w.nnc("fmt --check a.nn b.nn").status == 0);

  w.write("a.nn", kUgly);
  CHECK(w.nnc("fmt - < a.nn").out == kNeat);
  CHECK(w.nnc("fmt - --check < a.nn").out == "standard input: not formatted\n");
  CHECK(w.read("a.nn") == kUgly);
}

TEST_CASE("tool: fmt leaves files with syntax errors", "[tool][format]") {
  Tool w;
  w.write("bad.nn", "fn f( x ) = = 1\n");
  w.write("a.nn", kUgly);
  Streams o = w.nnc("fmt bad.nn none.nn a.nn");
  CHECK(o.status == 1);
  CHECK_THAT(o.err, Contains("bad.nn:1:13") && Contains("cannot read `none.nn`"));
  CHECK(w.read("bad.nn") == "fn f( x ) = = 1\n");
  CHECK(w.read("a.nn") == kNeat); // the others are formatted all the same
}

TEST_CASE("tool: doc", "[tool][doc]") {
  Tool w;
  Streams dense = w.nnc("doc Dense");
  CHECK(dense.status == 0);
  CHECK_THAT(dense.out, StartsWith("layer Dense(units: int, activation: fn = linear") &&
                            Contains("-> [..lead, units]") && Contains("  Fully connected: ") &&
                            Contains("dtype: string = none") &&
                            Contains("the library, layers_core.nn, line "));
  CHECK_THAT(w.nnc("doc Adam").out, Contains("clipnorm: float | none = none"));
  CHECK_THAT(w.nnc("doc where").out, StartsWith("where(condition, a, b)"));
  CHECK_THAT(w.nnc("doc batch_size").out,
             Contains("32 if not given") && Contains("key of `train`"));

  // Words of the language, and what stands behind a reader, are looked up as names are.
  for (const char *word : {"step", "minimize", "report", "scan", "windows"})
    CHECK_THAT(w.nnc("doc " + std::string(word)).out,
               StartsWith(word == std::string("windows") ? "csv(...) |> windows" : word) &&
                   Contains("A word of the language."));
  CHECK_THAT(w.nnc("doc split").out, Contains("validation = split(0.2)"));
  CHECK_THAT(w.nnc("doc map").out, Contains("behind a reader"));
  Streams wrong = w.nnc("doc Dens where");
  CHECK(wrong.status == 1);
  CHECK_THAT(wrong.err,
             Contains("no documentation of `Dens`") && Contains("did you mean `Dense`?"));
  CHECK_THAT(wrong.out, Contains("where(condition")); // the others are shown

  std::string all = w.nnc("doc").out;
  CHECK_THAT(all, Contains("Core layers\n") && Contains("\n  layer Dense ") &&
                      Contains("\n  optimizer Adam ") && Contains("\n  builtin where ") &&
                      Contains("\n  key batch_size ") && Contains("\n  metric AUC "));
  // A line for every name: the declaration's first sentence.
  CHECK_THAT(all, Contains("Fully connected: `activation(x @ kernel + bias)` on the last axis.\n"));
}

TEST_CASE("tool: doc of a user's file", "[tool][doc]") {
  Tool w;
  w.write("parts.nn", "## Doubles. And more.\nfn twice(x) = 2 * x\n");
  w.write("m.nn", "import \"parts.nn\"\n\n## A block.\nlayer Block(n: int = 3)(x) = twice(x)\n");
  CHECK(w.nnc("doc -f m.nn Block").out ==
        "layer Block(n: int = 3)(x)\n\n  A block.\n\n"
        "  Also takes name: string = none, trainable: bool = true, dtype: string = none.\n"
        "  In m.nn, line 4.\n");
  CHECK(w.nnc("doc -f m.nn").out == "  layer Block  A block.\n  fn twice     Doubles.\n");
  CHECK_THAT(w.nnc("doc -f m.nn twice Dense").out,
             Contains("In parts.nn, line 2") && Contains("layer Dense"));
  CHECK_THAT(w.nnc("doc -f m.nn Bloc").err, Contains("did you mean `Block`?"));
  CHECK_THAT(w.nnc("doc -f none.nn Block").err, Contains("cannot read `none.nn`"));
  w.write("bad.nn", "fn f(x) = = 1\n\n## Good.\nfn good(x) = x\n");
  CHECK_THAT(w.nnc("doc -f bad.nn good").out, StartsWith("fn good(x)"));
}

TEST_CASE("tool: new writes programs that compile and are formatted", "[tool][new]") {
  Tool w;
  for (const char *t : {"mlp-csv", "regression-csv", "image-idx", "own-parts"}) {
    INFO(t);
    std::string name = "my-" + std::string(t);
    CHECK(w.nnc("new " + name + " --template=" + t).status == 0);
    Streams check = w.nnc("check " + name + ".nn");
    CHECK(check.status == 0);
    CHECK(check.err == ""); // no warning either
    CHECK(w.nnc("fmt --check " + name + ".nn").status == 0);
    CHECK_THAT(w.read(name + ".nn"), !Contains("{model}") && !Contains("{file}"));
  }
  CHECK(w.nnc("new iris.nn").status == 0);
  CHECK_THAT(w.read("iris.nn"), Contains("model Iris(") && Contains("csv(\"iris.csv\""));
  CHECK(w.nnc("new dense").status == 0); // no model hides the library's name
  CHECK(w.nnc("check dense.nn").err == "");
  CHECK(w.nnc("new a_name_that_is_so_long_that_the_lines_with_it_must_be_broken_to_fit").status ==
        0);
  CHECK(w.nnc("fmt --check a_name*.nn").status == 0);
}

TEST_CASE("tool: new overwrites nothing", "[tool][new]") {
  Tool w;
  w.write("iris.nn", "mine");
  Streams o = w.nnc("new iris");
  CHECK(o.status == 1);
  CHECK_THAT(o.err, Contains("`iris.nn` exists"));
  CHECK(w.read("iris.nn") == "mine");
  for (const char *bad : {"3d", "'a b'", "''", "a/", "ä", ".nn"}) {
    INFO(bad);
    Streams wrong = w.nnc(std::string("new ") + bad);
    CHECK(wrong.status == 1);
    CHECK_THAT(wrong.err, Contains("cannot name a model"));
  }
  CHECK_THAT(w.nnc("new none/there").err, Contains("cannot write"));
}
