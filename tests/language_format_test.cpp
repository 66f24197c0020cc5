// `nnc fmt` as a function: a golden file for the eye, and properties over every program of the
// repository and over the same programs with other spaces, line breaks and comments between their
// tokens: formatting again changes nothing, and no token, comment or node of the tree is lost.
#include "frontend/format.h"
#include "frontend/parse.h"
#include "frontend/print_ast.h"
#include "tests/growth.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

using namespace nnc::fe;
namespace fs = std::filesystem;

namespace {

const fs::path kRoot = NNC_SOURCE_DIR;

std::string readText(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// Programs without syntax errors.
std::vector<std::pair<std::string, std::string>> programs() {
  std::vector<std::pair<std::string, std::string>> out;
  for (const char *folder : {"frontend/std", "samples", "tests/golden/parse",
                             "tests/golden/elaborate", "tests/golden/format", "tests/programs"})
    for (auto &entry : fs::directory_iterator(kRoot / folder)) {
      if (entry.path().extension() != ".nn") continue;
      Sources sources;
      Diagnostics diags(sources);
      std::string text = readText(entry.path());
      parse(sources, sources.add("x.nn", text), diags);
      if (!diags.hasErrors()) out.push_back({entry.path().string(), text});
    }
  REQUIRE(out.size() > 30);
  std::sort(out.begin(), out.end());
  return out;
}

/// What formatting must keep: code tokens and comments in order, and the tree.
struct Meaning {
  std::vector<std::string> tokens, comments;
  std::string tree;

  explicit Meaning(const std::string &text) {
    Sources sources;
    Diagnostics diags(sources);
    uint32_t id = sources.add("x.nn", text);
    for (const SourceToken &t : tokenize(sources, id, diags)) {
      std::string_view s = sources.text({id, t.begin, t.end});
      while (s.back() == ' ') s.remove_suffix(1);
      (t.kind == SourceToken::Comment ? comments : tokens).push_back(std::string(s));
    }
    tree = print(*parse(sources, id, diags));
    CHECK(diags.render() == "");
  }
};

std::optional<std::string> formatted(const std::string &text, std::string *messages = nullptr) {
  Sources sources;
  Diagnostics diags(sources);
  auto out = format(sources, sources.add("x.nn", text), diags);
  if (messages) *messages = diags.render();
  CHECK(out.has_value() == !diags.hasErrors());
  return out;
}

/// Formats and checks what holds for every text.
std::string checked(const std::string &text) {
  std::string messages;
  auto out = formatted(text, &messages);
  INFO(messages << "of\n" << text);
  REQUIRE(out);
  INFO("gave\n" << *out);
  CHECK(formatted(*out) == out);
  Meaning before(text), after(*out);
  CHECK(before.tokens == after.tokens);
  CHECK(before.comments == after.comments);
  CHECK(before.tree == after.tree);
  CHECK(out->find("\n\n\n") == out->npos);
  CHECK(out->find(" \n") == out->npos);
  CHECK((out->empty() || (out->back() == '\n' && out->front() != '\n')));
  return *out;
}

bool oneOf(std::string_view t, std::initializer_list<std::string_view> set) {
  return std::find(set.begin(), set.end(), t) != set.end();
}

/// The tokens of a text with other things between them. `lines`: how readily line breaks are added
/// where the language takes one, and comments with them; 0 also joins all lines that can be joined.
std::string shaken(const std::string &text, std::mt19937 &random, unsigned lines) {
  Sources sources;
  Diagnostics diags(sources);
  uint32_t id = sources.add("x.nn", text);
  std::string out, open;
  std::string_view before = "\n";
  auto chance = [&](unsigned percent) { return random() % 100 < percent; };
  auto comment = [&] {
    return "#" + std::string(random() % 3, ' ') + "c" + std::to_string(random() % 99);
  };
  for (const SourceToken &t : tokenize(sources, id, diags)) {
    std::string_view s = sources.text({id, t.begin, t.end});
    if (t.kind == SourceToken::Comment) continue;
    bool closes = oneOf(s, {")", "]", "}"});
    bool inside = !open.empty() && open.back() != '{';
    bool edge = before == "{" || (s == "}" && before != "{"); // of a block: always a good place
    bool legal = inside || edge || oneOf(s, {"|>", "else", "->", "{"}) ||
                 oneOf(before, {"+",  "-",  "*",  "/",  "//", "%",  "@",  "**",
                                "<",  "<=", ">",  ">=", "==", "!=", "..", "and",
                                "or", "=",  "<-", "->", ",",  "|>", "|",  "in"});
    if (s == "gradient") legal = false;
    if (t.afterNewline || (legal && chance(lines))) {
      if (chance(lines)) out += "  " + comment();
      out += std::string(1 + (chance(lines) ? random() % 4 : 0), '\n');
      while (chance(lines)) out += std::string(random() % 5, ' ') + comment() + "\n\n";
      out += std::string(random() % 6, ' ');
    } else {
      bool may = oneOf(before, {"(", "[", ",", "{"}) || oneOf(s, {")", "]", ",", "}", "{"});
      out += std::string(may ? random() % 3 : 1 + random() % 2, chance(10) ? '\t' : ' ');
    }
    out += s;
    if (oneOf(s, {"(", "[", "{"})) open += s;
    if (closes) open.pop_back();
    before = s;
  }
  return out;
}

} // namespace

TEST_CASE("the formatter's golden file", "[format]") {
  fs::path golden = kRoot / "tests/golden/format/mess.fmt";
  std::string text = checked(readText(kRoot / "tests/golden/format/mess.nn"));
  if (std::getenv("NNC_UPDATE_GOLDEN")) std::ofstream(golden, std::ios::binary) << text;
  CHECK(text == readText(golden));
}

TEST_CASE("the library and the samples are formatted", "[format]") {
  for (const char *folder : {"frontend/std", "samples"})
    for (auto &entry : fs::directory_iterator(kRoot / folder)) {
      if (entry.path().extension() != ".nn") continue;
      INFO(entry.path());
      std::string text = readText(entry.path());
      CHECK(formatted(text) == text);
    }
}

TEST_CASE("formatting keeps tokens, comments and tree, and is done after one time", "[format]") {
  for (auto &[path, text] : programs()) {
    INFO(path);
    checked(text);
  }
}

TEST_CASE("formatting programs with other spaces, lines and comments", "[format]") {
  std::mt19937 random(1);
  for (auto &[path, text] : programs()) {
    INFO(path);
    for (unsigned lines : {0, 5, 20, 50}) {
      std::string other = shaken(text, random, lines);
      REQUIRE(Meaning(other).tree.size() > 0); // still a program
      checked(other);
    }
  }
}

TEST_CASE("formatting joined programs stays inside the page and forgets spaces", "[format]") {
  std::mt19937 random(2);
  for (auto &[path, text] : programs()) {
    if (path.find("golden") != path.npos) continue; // names and lists that fit no page
    INFO(path);
    std::string a = checked(shaken(text, random, 0)), b = checked(shaken(text, random, 0));
    CHECK(a == b);
    std::istringstream in(a);
    for (std::string line; std::getline(in, line);) {
      INFO(line);
      CHECK(line.size() <= 100);
    }
  }
}

TEST_CASE("formatting small and strange texts", "[format]") {
  auto is = [](const std::string &text, const std::string &out) { CHECK(checked(text) == out); };
  is("", "");
  is("\n\n\n", "");
  is("# only a comment", "# only a comment\n");
  is("\xEF\xBB\xBF# mark\r\nx = 1\r\n", "# mark\nx = 1\n");
  is("x = 1 # a\n\n\n\n# b\n\n\n", "x = 1  # a\n\n# b\n");
  is("fn f(x) { # why\n\n\nx\n\n# end\n\n}", "fn f(x) {  # why\n  x\n\n  # end\n}\n");
  is("fn f(x) { x }", "fn f(x) { x }\n");
  is("fn f(x) { x\n }", "fn f(x) {\n  x\n}\n");
  is("x = f( # why\n)", "x = f(  # why\n)\n");
  is("x = [1, # a\n 22, # bb\n 3]", "x = [1,   # a\n     22,  # bb\n     3]\n");
  is("x = \"\xC3\xA4\" # umlaut\ny = 1 # one", "x = \"\xC3\xA4\"  # umlaut\ny = 1    # one\n");
  is("train m {\nepochs=1\nbatch_size=32\n\nseed=1\n}",
     "train m {\n  epochs     = 1\n  batch_size = 32\n\n  seed = 1\n}\n");
  is("y = x\n|> f\n|> g", "y = x\n  |> f\n  |> g\n");
  is("fn f(x) { y\n|> f |> g\n }", "fn f(x) {\n  y |> f\n    |> g\n}\n");
}

TEST_CASE("a file with syntax errors is not formatted", "[format]") {
  for (const char *text :
       {"fn f( {", "x = = 1", "fn f(x) = x +* 1\nfn g(x)=x", "x = 'a'", "\"", "x = \"a"}) {
    INFO(text);
    CHECK(!formatted(text));
  }
  for (auto &entry : fs::directory_iterator(kRoot / "tests/golden/diagnostics")) {
    if (entry.path().extension() != ".nn") continue;
    INFO(entry.path());
    CHECK(!formatted(readText(entry.path())));
  }
}

TEST_CASE("a text whose formatted form would be too long is left as it is", "[format]") {
  std::string text, messages;
  for (int line = 0; line < 200; ++line) {
    text += "x" + std::to_string(line) + " = ";
    for (int i = 0; i < 150; ++i) text += "f(a, ";
    text += "1" + std::string(150, ')') + "\n";
  }
  CHECK_FALSE(formatted(text, &messages));
  CHECK(messages.find("in its formatted form") != std::string::npos);
}

TEST_CASE("formatting takes time as the text is long", "[format]") {
  CHECK(nnc::test::growsLinearly(10000, [](size_t n) {
    std::string list = "x = [1";
    for (size_t i = 0; i < n; ++i) list += ", " + std::to_string(i);
    CHECK(formatted(list + "]"));
  }));
  CHECK(nnc::test::growsLinearly(2500, [](size_t n) {
    std::string pipe = "fn f(x) = x";
    for (size_t i = 0; i < n; ++i) pipe += " |> Dense(10, activation = relu)";
    CHECK(formatted(pipe));
  }));
  // As many calls, ever deeper: the indentation alone makes the result longer by the depth.
  CHECK(nnc::test::growsLinearly(45, [](size_t n) { // 200 is as deep as may be
    std::string all;
    for (size_t calls = 0; calls < 3600; calls += n) {
      std::string deep;
      for (size_t i = 0; i < n; ++i) deep += "f(a, ";
      all += "x" + std::to_string(calls) + " = " + deep + "1" + std::string(n, ')') + "\n";
    }
    CHECK(formatted(all));
  }));
  CHECK(nnc::test::growsLinearly(125, [](size_t n) { // no expression is higher than 600
    std::string all;
    for (size_t line = 0; line < 20; ++line) {
      all += "x" + std::to_string(line) + " = 1";
      for (size_t i = 0; i < n; ++i) all += " + y * 2";
      all += "\n";
    }
    CHECK(formatted(all));
  }));
}
