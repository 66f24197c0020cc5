// Line tables: where each line begins, found once when a text is added. A place is looked up by
// bisection; its column counts the UTF-8 characters before it on the line.
#include "frontend/source.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace nnc::fe {

uint32_t Sources::add(std::string name, std::string text, uint32_t firstLine) {
  auto file = std::make_unique<File>(File{std::move(name), std::move(text), {0}, firstLine});
  for (uint32_t i = 0; i < file->text.size(); ++i)
    if (file->text[i] == '\n') file->lineBegins.push_back(i + 1);
  files_.push_back(std::move(file));
  return count() - 1;
}

std::optional<uint32_t> Sources::load(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  // A directory opens but does not read; an empty file reads nothing and is fine.
  if (!in || in.peek() == std::ifstream::traits_type::eof()) {
    if (!in.eof()) return std::nullopt;
    return add(path, "");
  }
  text << in.rdbuf();
  if (in.bad()) return std::nullopt;
  return add(path, std::move(text).str());
}

std::string_view Sources::text(Span span) const {
  return text(span.file).substr(span.begin, span.end - span.begin);
}

Position Sources::position(uint32_t file, uint32_t offset) const {
  const File &f = *files_[file];
  auto after = std::upper_bound(f.lineBegins.begin(), f.lineBegins.end(), offset);
  uint32_t line = uint32_t(after - f.lineBegins.begin()) + f.firstLine - 1;
  uint32_t column = 1;
  uint32_t end = std::min<uint32_t>(offset, uint32_t(f.text.size()));
  for (uint32_t i = *(after - 1); i < end; ++i)
    if ((f.text[i] & 0xC0) != 0x80) ++column;
  return {line, column};
}

uint32_t Sources::lineBegin(uint32_t file, uint32_t line) const {
  return files_[file]->lineBegins[line - files_[file]->firstLine];
}

std::string_view Sources::lineText(uint32_t file, uint32_t line) const {
  const File &f = *files_[file];
  line -= f.firstLine - 1;
  uint32_t begin = f.lineBegins[line - 1];
  uint32_t end = line < f.lineBegins.size() ? f.lineBegins[line] - 1 : uint32_t(f.text.size());
  if (end > begin && f.text[end - 1] == '\r') --end;
  return std::string_view(f.text).substr(begin, end - begin);
}

std::string Sources::describe(Span span) const {
  if (!span.valid()) return "";
  Position at = position(span);
  return name(span.file) + ":" + std::to_string(at.line) + ":" + std::to_string(at.column);
}

} // namespace nnc::fe
