// The TextMate grammar against the lexer: its patterns, applied as an editor does, cover every
// token of every program with a scope of the token's kind, and know every keyword of grammar/NN.g4.
#include "frontend/parse.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

using namespace nnc::fe;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

const fs::path kRoot = NNC_SOURCE_DIR;

std::string readText(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// The grammar's rules are all of the kind `match`, so that a line at a time is enough.
struct Grammar {
  struct Rule {
    std::regex match;
    std::string name;
    std::map<size_t, std::string> captures;
  };
  std::vector<Rule> rules;

  Grammar() {
    json all = json::parse(readText(kRoot / "frontend/editor/vscode/syntaxes/nn.tmLanguage.json"));
    for (const json &p : all["patterns"]) {
      Rule r{
          std::regex(p["match"].get<std::string>(), std::regex::optimize), p.value("name", ""), {}};
      if (p.contains("captures"))
        for (auto &[group, scope] : p["captures"].items())
          r.captures[std::stoul(group)] = scope["name"];
      rules.push_back(std::move(r));
    }
  }

  /// The scope of every byte of a line; "" where no rule matches.
  std::vector<std::string> scopes(const std::string &line) const {
    std::vector<std::string> out(line.size());
    for (size_t at = 0; at < line.size();) {
      size_t next = at + 1;
      for (const Rule &r : rules) {
        std::smatch m;
        auto flags = std::regex_constants::match_continuous;
        if (at > 0) flags |= std::regex_constants::match_prev_avail;
        if (!std::regex_search(line.begin() + long(at), line.end(), m, r.match, flags)) continue;
        REQUIRE(m.length() > 0);
        for (size_t i = 0; i < size_t(m.length()); ++i) out[at + i] = r.name;
        for (auto &[group, scope] : r.captures)
          for (size_t i = 0; i < size_t(m.length(group)); ++i)
            out[at + size_t(m.position(group)) + i] = scope;
        next = at + size_t(m.length());
        break;
      }
      at = next;
    }
    return out;
  }
};

bool begins(const std::string &scope, std::initializer_list<const char *> prefixes) {
  for (const char *p : prefixes)
    if (scope.starts_with(p)) return true;
  return false;
}

bool fits(SourceToken::Kind kind, const std::string &scope) {
  switch (kind) {
  case SourceToken::Word:
    return begins(scope,
                  {"variable", "entity", "support", "storage", "keyword", "constant.language"});
  case SourceToken::Reserved:
    return begins(scope, {"keyword", "storage.type", "constant.language"});
  case SourceToken::Number: return begins(scope, {"constant.numeric"});
  case SourceToken::String: return begins(scope, {"string"});
  case SourceToken::Symbol: return begins(scope, {"keyword.operator", "punctuation"});
  case SourceToken::Comment: return begins(scope, {"comment"});
  }
  return false;
}

/// Checks the tokens of a text; adds the kinds that were seen.
void check(const Grammar &grammar, const std::string &text, std::set<int> &kinds) {
  Sources sources;
  Diagnostics diags(sources);
  uint32_t id = sources.add("x.nn", text), line = 0;
  std::vector<std::string> scopes;
  for (const SourceToken &t : tokenize(sources, id, diags)) {
    uint32_t at = sources.position(id, t.begin).line;
    if (at != line) scopes = grammar.scopes(std::string(sources.lineText(id, at)));
    line = at;
    uint32_t begin = t.begin - sources.lineBegin(id, at);
    kinds.insert(t.kind);
    INFO(sources.describe({id, t.begin, t.end})
         << " `" << sources.text({id, t.begin, t.end}) << "`");
    for (uint32_t i = begin; i < begin + t.end - t.begin; ++i) {
      INFO(scopes[i]);
      if (!fits(t.kind, scopes[i])) FAIL_CHECK("no such scope");
      if (scopes[i] != scopes[begin]) FAIL_CHECK("two scopes in one token");
    }
  }
}

/// The literals of the lexer's rules between two lines of the grammar.
std::vector<std::string> literals(const std::string &from, const std::string &to) {
  std::string text = readText(kRoot / "grammar/NN.g4");
  size_t begin = text.find(from), end = text.find(to, begin);
  REQUIRE(begin != text.npos);
  REQUIRE(end != text.npos);
  text = text.substr(begin, end - begin);
  std::vector<std::string> out;
  std::regex literal(" : '([^']+)' ;");
  for (std::sregex_iterator i(text.begin(), text.end(), literal), last; i != last; ++i)
    out.push_back((*i)[1]);
  return out;
}

} // namespace

TEST_CASE("the editor's grammar covers every token of every program", "[highlight]") {
  Grammar grammar;
  std::set<int> kinds;
  for (const char *folder :
       {"frontend/std", "samples", "tests/programs", "tests/golden/parse", "tests/golden/format"})
    for (auto &entry : fs::directory_iterator(kRoot / folder)) {
      if (entry.path().extension() != ".nn") continue;
      INFO(entry.path());
      check(grammar, readText(entry.path()), kinds);
    }
  CHECK(kinds.size() == 6);
}

TEST_CASE("the editor's grammar knows the lexer's keywords and symbols", "[highlight]") {
  Grammar grammar;
  auto scope = [&](const std::string &line, const std::string &word) {
    size_t at = line.find(word);
    auto scopes = grammar.scopes(line);
    for (size_t i = 1; i < word.size(); ++i) CHECK(scopes[at + i] == scopes[at]);
    return scopes[at];
  };
  auto reserved = literals("// Reserved.", "// Words at their place");
  CHECK(reserved.size() >= 14);
  for (const std::string &w : reserved) {
    INFO(w);
    CHECK(fits(SourceToken::Reserved, scope(w, w)));
    CHECK(begins(scope(w + "s", w + "s"), {"variable"})); // a longer word is another
  }
  auto soft = literals("// Words at their place", "LPAREN");
  CHECK(soft.size() >= 16);
  for (const std::string &w : soft) {
    INFO(w);
    // As a keyword it stands before a name, a bracket or a string.
    CHECK(begins(scope(w + (w == "step" || w == "gradient" ? "(x)" : " m"), w),
                 {"keyword", "storage"}));
    CHECK(begins(scope(w + " = 1", w), {"variable"}));
  }
  auto symbols = literals("LPAREN", "FLOAT");
  CHECK(symbols.size() >= 30);
  for (const std::string &s : symbols) {
    INFO(s);
    CHECK(fits(SourceToken::Symbol, scope(s, s)));
  }
}

TEST_CASE("the extension's files are JSON and name each other", "[highlight]") {
  fs::path dir = kRoot / "frontend/editor/vscode";
  json package = json::parse(readText(dir / "package.json"));
  for (const char *key : {"name", "version", "publisher", "engines", "main", "activationEvents"})
    CHECK(package.contains(key));
  const json &contributes = package["contributes"];
  CHECK(fs::exists(dir / contributes["languages"][0]["configuration"].get<std::string>()));
  CHECK(fs::exists(dir / contributes["grammars"][0]["path"].get<std::string>()));
  CHECK(fs::exists(dir / package["main"].get<std::string>()));
  CHECK(contributes["grammars"][0]["language"] == contributes["languages"][0]["id"]);
  json configuration = json::parse(readText(dir / "language-configuration.json"));
  CHECK(configuration["comments"]["lineComment"] == "#");
}
