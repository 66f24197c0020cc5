// The decisions of callbacks against what Keras decided for the same sequences of metrics:
// tests/reference/callbacks.json, made by make_callbacks.py.
#include "catch2/catch.hpp"
#include "runtime/callback.h"

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

static rt::Json cases() {
  std::ifstream in(NNC_SOURCE_DIR "/tests/reference/callbacks.json");
  std::stringstream all;
  all << in.rdbuf();
  const char *error = nullptr;
  rt::Json list = rt::parse_json(all.str().data(), all.str().size(), &error);
  REQUIRE(list.count() > 8);
  return list;
}

TEST_CASE("runtime: ReduceLROnPlateau sets Keras' rates", "[runtime]") {
  int count = 0;
  for (rt::Json c : cases()) {
    if (std::string(c.text("type", "")) != "ReduceLROnPlateau") continue;
    INFO(json_dumps(c.get("arguments").node, 0));
    count++;
    // The defaults that the compiler writes out.
    json_t *arguments = json_deep_copy(c.get("arguments").node);
    if (!json_object_get(arguments, "min_delta"))
      json_object_set_new(arguments, "min_delta", json_real(1e-4));
    rt::PlateauRule rule(rt::Json{arguments});
    double rate = 0.1;
    for (size_t i = 0; i < c.get("values").count(); i++) {
      rate = rule.next(c.get("values")[i].as_real(-1), rate);
      INFO(i);
      CHECK(rate == Approx(c.get("rates")[i].as_real(-1)).epsilon(1e-12));
    }
  }
  CHECK(count >= 7);
}

TEST_CASE("runtime: ModelCheckpoint saves Keras' epochs under Keras' names", "[runtime]") {
  int count = 0;
  for (rt::Json c : cases()) {
    if (std::string(c.text("type", "")) != "ModelCheckpoint") continue;
    rt::Json arguments = c.get("arguments");
    INFO(json_dumps(arguments.node, 0));
    count++;
    rt::BestRule rule(arguments);
    std::vector<std::string> saved, expected;
    for (size_t i = 0; i < c.get("values").count(); i++) {
      double value = c.get("values")[i].as_real(-1);
      if (arguments.flag("save_best_only", false) && !rule.improves(value)) continue;
      rt::Array<rt::Metric> values;
      values.push({"epoch", double(i + 1)});
      values.push({rule.monitor.name, value});
      saved.push_back(rt::fill_pattern(arguments.text("filepath", ""), values));
    }
    for (rt::Json name : c.get("saved")) expected.push_back(name.as_text(""));
    CHECK(saved == expected);
  }
  CHECK(count >= 5);
}
