// Messages for other programs: the JSON lines of docs/diagnostics.md and SARIF 2.1.0, read back by
// a JSON parser and held against what the format demands; levels of warnings; what syntax errors
// leave for the rest of the run.
#include "frontend/elaborate.h"
#include "ir/module.h"
#include <catch2/catch.hpp>
#include <set>
#include <sstream>

using namespace nnc::fe;
using nnc::ir::Meta;

namespace {

struct Program {
  Sources sources;
  Diagnostics diags;
  bool compiled;
  explicit Program(const std::string &text, WarningLevels levels = {})
      : diags(sources, std::move(levels)) {
    ElaborateOptions options;
    options.declarationsOnly = options.everyModel = true;
    compiled = elaborate(sources, sources.add("a b.nn", text), diags, options) != nullptr;
  }
  std::string codes() const {
    std::string out;
    for (const Diagnostic *d : diags.sorted())
      out += std::string(out.empty() ? "" : " ") + info(d->kind).code;
    return out;
  }
};

Meta json(const std::string &text) {
  Meta m;
  std::string error;
  INFO(text);
  REQUIRE(nnc::ir::parseJson(text, m, error));
  return m;
}
const Meta &at(const Meta &m, const char *key) {
  const Meta *found = m.find(key);
  INFO(key);
  REQUIRE(found);
  return *found;
}
std::string text(const Meta &m) {
  REQUIRE(m.asString());
  return *m.asString();
}
int64_t number(const Meta &m) {
  REQUIRE(m.asInt());
  return *m.asInt();
}

const char *const kTwoMistakes = "model M(x: [batch, 4], z: [batch, 5]) {\n"
                                 "  a = \"\xC3\xA9\" + Dens(3)\n"
                                 "  x + z\n"
                                 "}\n";

} // namespace

TEST_CASE("JSON: one object per message, with places and fixes", "[diagnostics]") {
  Program p(kTwoMistakes);
  std::istringstream lines(p.diags.renderJson());
  std::vector<Meta> all;
  for (std::string line; std::getline(lines, line);) all.push_back(json(line));
  REQUIRE(all.size() == 2);
  const Meta &first = all[0];
  CHECK(text(at(first, "severity")) == "error");
  CHECK(text(at(first, "code")) == "NN0201");
  CHECK(text(at(first, "name")) == "UnknownName");
  CHECK(text(at(first, "message")) == "unknown name `Dens`");
  const Meta &place = at(first, "place");
  CHECK(text(at(place, "file")) == "a b.nn");
  CHECK(number(at(at(place, "begin"), "line")) == 2);
  CHECK(number(at(at(place, "begin"), "column")) == 13); // characters
  CHECK(number(at(at(place, "begin"), "offset")) == 53); // bytes
  CHECK(number(at(at(place, "end"), "column")) == 17);
  REQUIRE(at(first, "fixes").asList()->size() == 1);
  CHECK(text(at((*at(first, "fixes").asList())[0], "text")) == "Dense");
  const Meta &second = all[1];
  CHECK(text(at(second, "code")) == "NN0403");
  CHECK(at(second, "labels").asList()->size() == 2);
  CHECK(at(second, "fixes").asList()->empty());
}

TEST_CASE("JSON strings survive every byte", "[diagnostics]") {
  std::string all;
  for (int c = 1; c < 256; ++c) all += char(c);
  Meta m = json(jsonString(all + "\xC3\xA9\"\\\n"));
  CHECK(text(m).find("\xC3\xA9\"\\\n") != std::string::npos);
}

TEST_CASE("SARIF: a document of version 2.1.0", "[diagnostics]") {
  Program p(kTwoMistakes);
  Meta doc = json(sarifDocument(p.diags.renderSarifResults(), "1.2"));
  CHECK(text(at(doc, "version")) == "2.1.0");
  CHECK(text(at(doc, "$schema")).find("sarif") != std::string::npos);
  const auto &runs = *at(doc, "runs").asList();
  REQUIRE(runs.size() == 1);
  const Meta &driver = at(at(runs[0], "tool"), "driver");
  CHECK(text(at(driver, "name")) == "nnc");
  CHECK(text(at(runs[0], "columnKind")) == "unicodeCodePoints");
  const auto &rules = *at(driver, "rules").asList();
  CHECK(rules.size() == allDiags().size());
  const std::set<std::string> levels{"none", "note", "warning", "error"};
  auto checkPlace = [&](const Meta &location) {
    const Meta &physical = at(location, "physicalLocation");
    CHECK(text(at(at(physical, "artifactLocation"), "uri")) == "a%20b.nn");
    const Meta &region = at(physical, "region");
    int64_t line = number(at(region, "startLine")), column = number(at(region, "startColumn"));
    CHECK(line >= 1);
    CHECK(column >= 1);
    CHECK(number(at(region, "endLine")) >= line);
    CHECK((number(at(region, "endLine")) > line || number(at(region, "endColumn")) >= column));
  };
  const auto &results = *at(runs[0], "results").asList();
  REQUIRE(results.size() == 2);
  for (const Meta &r : results) {
    CHECK(levels.contains(text(at(r, "level"))));
    CHECK(!text(at(at(r, "message"), "text")).empty());
    const Meta &rule = rules.at(size_t(number(at(r, "ruleIndex"))));
    CHECK(text(at(rule, "id")) == text(at(r, "ruleId")));
    for (const Meta &location : *at(r, "locations").asList()) checkPlace(location);
    if (const Meta *related = r.find("relatedLocations"))
      for (const Meta &location : *related->asList()) {
        checkPlace(location);
        CHECK(!text(at(at(location, "message"), "text")).empty());
      }
  }
  CHECK(results[1].find("relatedLocations"));
  CHECK(
      at(json(sarifDocument("", "1")), "runs").asList()->at(0).find("results")->asList()->empty());
}

TEST_CASE("warnings can be errors or silent, for a run or for a line", "[diagnostics]") {
  const std::string unused = "model M(x: [batch, 4]) {\n  -x\n  x |> Dense(1)\n}\n";
  CHECK(Program(unused).codes() == "NN1201");
  CHECK(Program(unused).compiled);
  WarningLevels levels;
  levels.werror = true;
  Program denied(unused, levels);
  CHECK(denied.diags.failed());
  CHECK(denied.diags.render().find("error[NN1201]") == 0);
  CHECK(denied.diags.render().find("\n1 error\n") != std::string::npos);
  levels.levels[Diag::UnusedValue] = WarningLevels::Allow;
  CHECK(Program(unused, levels).codes() == "");
  levels = {};
  levels.levels[Diag::UnusedValue] = WarningLevels::Deny;
  CHECK(Program(unused, levels).diags.failed());
  CHECK(Program("model M(x: [batch, 4]) {\n  -x # allow NN1201\n  x |> Dense(1)\n}\n").codes() ==
        "");
  CHECK(Program("model M(x: [batch, 4]) {\n  # allow NN1201\n  -x\n  x |> Dense(1)\n}\n").codes() ==
        "");
  CHECK(Program("model M(x: [batch, 4]) {\n  # allow NN1202\n  -x\n  x |> Dense(1)\n}\n").codes() ==
        "NN1201");
}

TEST_CASE("a syntax error hides nothing but what it broke", "[diagnostics]") {
  // The block of `train` is broken, and so is one layer; the model's own mistake still shows, and
  // what uses the broken layer does not.
  CHECK(Program("layer A()(x: [batch, n]) {\n  y = * x\n  y\n}\n"
                "model M(x: [batch, 4]) {\n  a = x |> A()\n  b = x |> Dens(3)\n  a + b\n}\n"
                "train M {\n  data = npy(x = \"x\", target = \"y\"\n  loss MeanSquaredError()\n}\n")
            .codes() == "NN0101 NN0201 NN0102");
  CHECK(
      Program("fn f(x) {\n  x |> Dense(3\n\nmodel M(x: [batch, 4]) { Dens(3)(f(x)) }\n").codes() ==
      "NN0102 NN0201");
  // A brace too many, or one too few, is one message.
  CHECK(Program(
            "model M(x: [batch, 4])\n  x |> Dense(3)\n}\nmodel N(x: [batch, 4]) { x |> Dens(3) }\n")
            .codes() == "NN0101 NN0201");
  CHECK(Program("model M(x: [batch, 4]) {\n  x |> Dense(3)\n}\n}\nmodel N(x: [batch, 4]) { "
                "Dens(3)(x) }\n")
            .codes() == "NN0103 NN0201");
  CHECK(Program("def f(x):\n  y = x\n  return y\nmodel N(x: [batch, 4]) { Dens(3)(f(x)) }\n")
            .codes() == "NN0114 NN0201");
}

TEST_CASE("mistakes of the train block leave those of the model, and one mistake is one message",
          "[diagnostics]") {
  CHECK(Program("model M(x: [batch, 4]) { x |> Dens(3) }\n"
                "train M {\n  dta = npy(x = \"x\", target = \"y\")\n  loss = MeanSquaredError()\n"
                "  optimizer = Adam(lr = 1)\n}\n")
            .codes() == "NN0201 NN0701 NN0302");
  // Each of two models, though the last one alone would be built.
  CHECK(Program("model A(x: [batch, 4]) { x |> Dens(3) }\nmodel B(x: [batch, n]) { x }\n"
                "model C(x: [batch, 4]) { x |> Dense(unit = 3) }\n")
            .codes() == "NN0201 NN0302");
  CHECK(Program("model A(x: [batch, 4]) {\n  h = x\n  x |> Dropout(0)\n}\n"
                "model C(x: [batch, 4]) { x |> Dense(3) }\n")
            .codes() == "NN1203 NN1209");
  CHECK(Program("model M(x: [batch, 8, 8, 4]) { x |> GroupNormalization(groups = 3) }\n").codes() ==
        "NN0507");
  CHECK(Program("model M(x: [batch, 4]) { h == x\n h + h\n h }\n").codes() == "NN0101");
}
