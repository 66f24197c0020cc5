#include "frontend/lsp_text.h"

#include <algorithm>

namespace nnc::fe::lsp {

namespace {

/// Bytes of the character that begins with `c`, and its UTF-16 units. Stray bytes count as one.
uint32_t bytesOf(unsigned char c) { return c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1; }
uint32_t unitsOf(unsigned char c) { return c >= 0xF0 ? 2 : 1; }

} // namespace

Text::Text(std::string text) : text_(std::move(text)) { index(); }

void Text::index() {
  lines_.assign(1, 0);
  for (size_t i = 0; i < text_.size(); ++i)
    if (text_[i] == '\n') lines_.push_back(uint32_t(i + 1));
}

std::string_view Text::line(uint32_t line) const {
  if (line >= lineCount()) return {};
  uint32_t end = line + 1 < lineCount() ? lines_[line + 1] - 1 : size();
  if (end > lines_[line] && text_[end - 1] == '\r') --end;
  return std::string_view(text_).substr(lines_[line], end - lines_[line]);
}

Place Text::place(uint32_t offset) const {
  offset = std::min(offset, size());
  auto it = std::upper_bound(lines_.begin(), lines_.end(), offset) - 1;
  Place p{uint32_t(it - lines_.begin()), 0};
  for (uint32_t i = *it; i < offset; i += bytesOf((unsigned char)text_[i]))
    p.column += unitsOf((unsigned char)text_[i]);
  return p;
}

uint32_t Text::offset(Place place) const {
  if (place.line >= lineCount()) return size();
  std::string_view l = line(place.line);
  uint32_t i = 0;
  for (uint32_t units = 0; i < l.size() && units < place.column;) {
    units += unitsOf((unsigned char)l[i]);
    i = std::min(uint32_t(l.size()), i + bytesOf((unsigned char)l[i]));
  }
  return lines_[place.line] + i;
}

void Text::replace(uint32_t begin, uint32_t end, const std::string &with) {
  begin = std::min(begin, size());
  end = std::clamp(end, begin, size());
  text_.replace(begin, end - begin, with);
  index();
}

Shift::Shift(std::string_view from, std::string_view to) {
  size_t shorter = std::min(from.size(), to.size()), suffix = 0;
  prefix_ = uint32_t(std::mismatch(from.begin(), from.begin() + long(shorter), to.begin()).first -
                     from.begin());
  while (suffix < shorter - prefix_ && from[from.size() - 1 - suffix] == to[to.size() - 1 - suffix])
    ++suffix;
  oldEnd_ = uint32_t(from.size() - suffix);
  delta_ = int64_t(to.size()) - int64_t(from.size());
}

bool Shift::map(uint32_t &begin, uint32_t &end) const {
  if (end <= prefix_) return true;
  if (begin < oldEnd_) return false;
  begin = uint32_t(begin + delta_);
  end = uint32_t(end + delta_);
  return true;
}

} // namespace nnc::fe::lsp
