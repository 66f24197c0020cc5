// The parser: what is accepted and how it is read (golden trees and bracketed expressions), which
// newlines count, and that no text, however broken or deep, crashes it or takes long.
//
// Golden files: tests/golden/parse/*.nn with the printed tree beside it as *.ast. To accept a
// change, run once with NNC_UPDATE_GOLDEN=1 and read the difference.
#include "frontend/parse.h"
#include "frontend/print_ast.h"
#include "frontend/std_text.h"
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

/// One parsed text with all it refers to.
struct Parsed {
  Sources sources;
  Diagnostics diags{sources};
  uint32_t id;
  std::unique_ptr<File> file;

  explicit Parsed(std::string text) : id(sources.add("test.nn", std::move(text))) {
    file = parse(sources, id, diags);
  }
};

/// The printed tree of a text without errors; checks that printing it again changes nothing.
std::string printed(const std::string &text) {
  Parsed once(text);
  CHECK(once.diags.render() == "");
  std::string out = print(*once.file);
  Parsed twice(out);
  CHECK(twice.diags.render() == "");
  CHECK(print(*twice.file) == out);
  return out;
}

std::vector<fs::path> filesIn(const fs::path &folder) {
  std::vector<fs::path> files;
  for (const auto &entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".nn") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// Operators with all their brackets: "a + b * c" -> "(a + (b * c))".
std::string bracketed(const Expr &e) {
  switch (e.kind) {
  case ExprKind::Binary: {
    auto &b = as<BinaryExpr>(e);
    return "(" + bracketed(*b.left) + " " + spelling(b.op) + " " + bracketed(*b.right) + ")";
  }
  case ExprKind::Unary: {
    auto &u = as<UnaryExpr>(e);
    return std::string(u.op == UnaryOp::Not ? "(not " : "(-") + bracketed(*u.operand) + ")";
  }
  case ExprKind::Range: {
    auto &r = as<RangeExpr>(e);
    return "(" + bracketed(*r.begin) + ".." + bracketed(*r.end) + ")";
  }
  case ExprKind::Pipe: {
    std::string text = "(" + bracketed(*as<PipeExpr>(e).first);
    for (const Expr *stage : as<PipeExpr>(e).stages) text += " |> " + bracketed(*stage);
    return text + ")";
  }
  default: return print(e);
  }
}

std::string bracketed(const std::string &text) {
  Sources sources;
  Diagnostics diags(sources);
  File owner;
  const Expr *e = parseExpr(sources, sources.add("e.nn", text), diags, owner);
  INFO(diags.render());
  REQUIRE(e);
  return bracketed(*e);
}

std::string repeat(const std::string &text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

/// Parses, prints and returns the first message.
std::string firstError(const std::string &text) {
  Parsed parsed(text);
  print(*parsed.file);
  std::string message = parsed.diags.render();
  return message.substr(0, message.find('\n'));
}

/// The same for `n` times a piece between two others, which must take time in proportion to n.
std::string firstErrorOf(const std::string &before, const std::string &piece, size_t n,
                         const std::string &after = "") {
  auto text = [&](size_t times) { return before + repeat(piece, times) + after; };
  INFO(before << piece << "..." << after);
  CHECK(nnc::test::growsLinearly(n / 4, [&](size_t times) { firstError(text(times)); }));
  return firstError(text(n));
}

} // namespace

TEST_CASE("golden programs parse and print as expected", "[parse]") {
  for (const fs::path &path : filesIn(kRoot / "tests/golden/parse")) {
    INFO(path);
    std::string text = printed(readText(path));
    fs::path golden = fs::path(path).replace_extension(".ast");
    if (std::getenv("NNC_UPDATE_GOLDEN")) std::ofstream(golden, std::ios::binary) << text;
    CHECK(text == readText(golden));
  }
}

TEST_CASE("the library and the samples parse", "[parse]") {
  for (const char *folder : {"frontend/std", "samples"})
    for (const fs::path &path : filesIn(kRoot / folder)) {
      INFO(path);
      printed(readText(path));
    }
}

TEST_CASE("the library is embedded byte by byte", "[parse]") {
  auto files = filesIn(kRoot / "frontend/std");
  REQUIRE(stdFiles().size() == files.size());
  for (const StdFile &file : stdFiles()) {
    INFO(file.name);
    CHECK(file.text == readText(kRoot / "frontend/std" / file.name));
  }
}

TEST_CASE("operators bind as in NumPy", "[parse]") {
  CHECK(bracketed("a + b * c - d") == "((a + (b * c)) - d)");
  CHECK(bracketed("a / b // c % d @ e") == "((((a / b) // c) % d) @ e)");
  CHECK(bracketed("-a ** 2") == "(-(a ** 2))");
  CHECK(bracketed("a ** -b ** c") == "(a ** (-(b ** c)))");
  CHECK(bracketed("a ** b ** c") == "(a ** (b ** c))");
  CHECK(bracketed("- - a * b") == "((-(-a)) * b)");
  CHECK(bracketed("not a == b and c or d") == "(((not (a == b)) and c) or d)");
  CHECK(bracketed("0..n + 1") == "(0..(n + 1))");
  CHECK(bracketed("a + b |> f |> g or h") == "((a + b) |> f |> (g or h))");
  CHECK(bracketed("-x[0] ** m.k(2)") == "(-(x[0] ** m.k(2)))");
  CHECK(bracketed("fn(x) = x |> f") == "fn(x) = x |> f");
  CHECK(bracketed("a < b + 1") == "(a < (b + 1))");
}

TEST_CASE("parentheses are printed where they are needed", "[parse]") {
  for (const char *text : {"(a + b) * c",
                           "a - (b - c)",
                           "a / (b / c)",
                           "(-a) ** 2",
                           "(a ** b) ** c",
                           "-(a + b)",
                           "not (a and b)",
                           "(not a) == b",
                           "(a..b) + c",
                           "(a |> f)(x)",
                           "(a |> f) + b",
                           "(fn(x) = x)(1)",
                           "(fn(x) = x) |> f",
                           "a |> (fn(x) = x)",
                           "(a < b) < c",
                           "(a,)",
                           "(..a)",
                           "(k = a)",
                           "f(k = a, ..b)",
                           "x[:, ::2, ..., none, 1:, :-1]",
                           "[..a, b]",
                           "(a + b)[0].k"}) {
    std::string binding = std::string("x = ") + text + "\n";
    CHECK(printed(binding) == binding);
  }
}

TEST_CASE("a newline ends a statement unless it cannot", "[parse]") {
  auto tokens = [](const std::string &text) {
    Sources sources;
    Diagnostics diags(sources);
    std::istringstream dump(dumpTokens(sources, sources.add("t.nn", text), diags));
    CHECK(!diags.hasErrors());
    std::string out, line;
    while (std::getline(dump, line)) {
      std::istringstream fields(line);
      std::string place, name, token;
      fields >> place >> name >> token;
      out += (out.empty() ? "" : " ") + (name == "NL" ? "~" : token);
    }
    return out;
  };
  CHECK(tokens("a\n\n # c\nb\n") == "a ~ b");
  CHECK(tokens("f(a\n,\nb)\n[c\n]") == "f ( a , b ) ~ [ c ]");
  CHECK(tokens("x =\n1 +\n\n 2\n-3") == "x = 1 + 2 ~ - 3");
  CHECK(tokens("x\n  |> f\n  # c\n\n  |> g") == "x |> f |> g");
  CHECK(tokens("if a { b }\nelse\n{ c }") == "if a { b } else { c }");
  CHECK(tokens("f(fn(x) {\na\nb\n})") == "f ( fn ( x ) { ~ a ~ b ~ } )");
  CHECK(tokens("a\n-> b\n{\n}") == "a -> b { ~ }");
  CHECK(tokens("for a in\nb { s <-\nc }") == "for a in b { s <- c }");
}

TEST_CASE("documentation belongs to the declaration right below", "[parse]") {
  Parsed p("## One.\n##\n## Two.\nfn f(x) = x ## no\n## Three.\ng = 1\n\n## Lost.\n\nh = 2\n");
  REQUIRE(p.file->tops.size() == 3);
  CHECK(p.file->tops[0]->doc == "One.\n\nTwo.");
  CHECK(p.file->tops[1]->doc == "Three.");
  CHECK(p.file->tops[2]->doc == "");
}

TEST_CASE("spans cover what was written", "[parse]") {
  Parsed p("model M(x: [n]) {\n  y = (x + 1)\n  x |> Dense(2)(y)\n}\n");
  const Decl &m = as<Decl>(*p.file->tops.at(0));
  const Expr &value = *as<BindStmt>(*m.body->stmts.at(0)).values[0];
  CHECK(p.sources.text(value.span) == "x + 1");
  const Expr &pipe = *as<ExprStmt>(*m.body->stmts.at(1)).value;
  CHECK(p.sources.text(pipe.span) == "x |> Dense(2)(y)");
  CHECK(p.sources.text(as<PipeExpr>(pipe).stages[0]->span) == "Dense(2)(y)");
  CHECK(p.sources.describe(pipe.span) == "test.nn:3:3");
  CHECK(signature(m) == "M(x: [n])");
}

TEST_CASE("errors leave the rest of the tree", "[parse]") {
  Parsed p("fn f(x) = x +* 1\nfn g(x) {\n  a = 1 1\n  x\n}\n");
  CHECK(p.diags.errorCount() == 2);
  REQUIRE(p.file->tops.size() == 1);
  CHECK(as<Decl>(*p.file->tops[0]).name.text == "g");
  CHECK(as<Decl>(*p.file->tops[0]).body->stmts.size() == 1);
}

TEST_CASE("deep nesting is an error, not a crash", "[parse][limits]") {
  const size_t n = 16000;
  for (const char *open : {"(", "[", "{", "if ", "if a { ", "scan a in ", "scan a = 0, b in ",
                           "fn(x) = ", "f([", "x[("}) {
    INFO(open);
    std::string error = firstErrorOf("x = ", open, n);
    CHECK(error.find("NN0104") != error.npos);
  }
  // Each line looks like a declaration to begin anew with.
  CHECK(firstErrorOf("x = ", "fn(x) =\n", n / 8).find("NN0104") != std::string::npos);
  for (const char *chain : {"-", "not ", "2 ** ", "2 ** -", "a + ", "a and ", "a @ "}) {
    INFO(chain);
    std::string error = firstErrorOf("x = ", chain, n, "1");
    CHECK(error.find("NN0105") != error.npos);
  }
  for (const char *chain : {"()", ".b", "[0]"})
    CHECK(firstErrorOf("x = a", chain, n).find("NN0105") != std::string::npos);
  // What is a flat list in the tree may be long.
  CHECK(firstErrorOf("x = a", " |> f", n) == "");
  CHECK(firstErrorOf("x = [", "1, ", n, "1]") == "");
  CHECK(firstErrorOf("x = if a { b }", " else if a { b }", n) == "");
  // Deep, but inside the limit; printing must not try every way to break the lines.
  CHECK(firstError("x = " + repeat("f([", 95) + "1" + repeat("])", 95)) == "");
  CHECK(firstError("x = " + repeat("if a { ", 95) + "1" + repeat("}", 95)) == "");
  CHECK(firstError("x = " + repeat("fn(a) = g(", 95) + "1" + repeat(")", 95)) == "");
}

TEST_CASE("noise is an error soon", "[parse][limits]") {
  std::mt19937 random(1);
  auto noise = [&](size_t size, int from, int count) {
    std::string text(size, ' ');
    for (char &c : text) c = char(from + int(random() % unsigned(count)));
    return text;
  };
  CHECK(firstError(noise(10000000, 0, 256)).find("NN0001") != std::string::npos);
  CHECK(firstError(noise(1000000, 0, 256)) != "");
  CHECK(firstError(noise(1000000, 32, 95)) != "");
  CHECK(firstErrorOf("", "$", 1000000) != "");
  CHECK(firstErrorOf("", "$ \n", 300000) != "");
  CHECK(firstErrorOf("", "fn f(x) = x 1\n", 50000) != "");
  CHECK(firstError(std::string(1000000, '\0')) != "");
}

TEST_CASE("mutated programs never crash the parser", "[parse][limits]") {
  const std::string programs[] = {readText(kRoot / "tests/golden/parse/programs.nn"),
                                  readText(kRoot / "tests/golden/parse/traps.nn")};
  const char *pieces[] = {"(",  ")",  "[",    "]",  "{",    "}",    "\n",  "=",
                          ",",  "..", "fn",   "if", "\"",   "|>",   " x ", "1.",
                          "<-", "in", "scan", ":",  "\xC3", "else", "not "};
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::string text = programs[round % 2];
    for (unsigned edits = 1 + random() % 3; edits > 0; --edits) {
      size_t at = random() % text.size();
      size_t length = random() % 3 == 0 ? random() % 20 : random() % 2;
      text.replace(at, length, random() % 4 ? pieces[random() % std::size(pieces)] : "");
    }
    INFO(text);
    Parsed parsed(text);
    parsed.diags.render();
    std::string again = print(*parsed.file);
    if (parsed.diags.hasErrors()) continue;
    Parsed second(again);
    CHECK(second.diags.render() == "");
    CHECK(print(*second.file) == again);
  }
}
