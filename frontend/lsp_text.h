// A text as the Language Server Protocol counts it: lines from 0, columns in UTF-16 units.
//
//   `x = "ä" |> f`: the `|` has byte offset 9 and column 8
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nnc::fe::lsp {

struct Place {
  uint32_t line = 0, column = 0;
  bool operator==(const Place &) const = default;
};

class Text {
 public:
  explicit Text(std::string text = "");
  const std::string &str() const { return text_; }
  uint32_t size() const { return uint32_t(text_.size()); }

  Place place(uint32_t offset) const;
  /// Places behind the end of a line or of the text are that end.
  uint32_t offset(Place place) const;
  uint32_t lineCount() const { return uint32_t(lines_.size()); }
  uint32_t lineBegin(uint32_t line) const { return lines_[line]; }
  /// Without its line end.
  std::string_view line(uint32_t line) const;
  /// Replaces [begin, end).
  void replace(uint32_t begin, uint32_t end, const std::string &with);

 private:
  std::string text_;
  std::vector<uint32_t> lines_;
  void index();
};

/// Where places of an older text are in a newer one, if what is around them is still there.
class Shift {
 public:
  Shift(std::string_view from, std::string_view to);
  /// False if the place is inside what changed.
  bool map(uint32_t &begin, uint32_t &end) const;

 private:
  uint32_t prefix_ = 0, oldEnd_ = 0; // [prefix_, oldEnd_) was replaced
  int64_t delta_ = 0;
};

} // namespace nnc::fe::lsp
