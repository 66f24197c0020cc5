// Resizing of images against Keras': tests/reference/resize.json, made by make_resize.py.
#include "catch2/catch.hpp"
#include "runtime/data.h"

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

TEST_CASE("runtime: images are resized as Keras does", "[runtime]") {
  std::ifstream in(NNC_SOURCE_DIR "/tests/reference/resize.json");
  std::stringstream all;
  all << in.rdbuf();
  const char *error = nullptr;
  rt::Json cases = rt::parse_json(all.str().data(), all.str().size(), &error);
  REQUIRE(cases.count() > 10);
  for (rt::Json c : cases) {
    int64_t h = c.get("from")[0].as_integer(0), w = c.get("from")[1].as_integer(0);
    int64_t height = c.get("to")[0].as_integer(0), width = c.get("to")[1].as_integer(0);
    int64_t channels = c.integer("channels", 0),
            stored = channels + 1; // and one that is not wanted
    std::vector<unsigned char> from, to(size_t(height * width * channels));
    for (int64_t y = 0; y < h; y++)
      for (int64_t x = 0; x < w; x++)
        for (int64_t k = 0; k < stored; k++)
          from.push_back(static_cast<unsigned char>(
              k == channels ? 7 : (37 * y * y + 91 * x + 53 * k + 11 * x * y) % 256));
    rt::resize_picture(from.data(), h, w, stored, to.data(), height, width, channels);
    REQUIRE(c.get("values").count() == to.size());
    INFO(h << "x" << w << " to " << height << "x" << width);
    for (size_t i = 0; i < to.size(); i++)
      CHECK(std::fabs(to[i] - c.get("values")[i].as_real(-1)) <= 0.501);
  }
}
