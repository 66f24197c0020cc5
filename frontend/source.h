// Source text and places in it.
//
// Everything the front end builds points back at the text it came from: an error underlines the
// user's own line. A `Span` is three 32-bit numbers, cheap enough for every node:
//
//   Span{0, 41, 46}  ->  file 0, bytes [41, 46)  ->  model.nn:3:9, `Dense`
//
// `Sources` owns the texts. They never move or change once added, so names in the AST are views
// into them. Lines and columns are computed only when something is printed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nnc::fe {

inline constexpr uint32_t kNoFile = UINT32_MAX;

/// Bytes [begin, end) of one file. A default Span is "no place" (command-line errors).
struct Span {
  uint32_t file = kNoFile;
  uint32_t begin = 0;
  uint32_t end = 0;

  bool valid() const { return file != kNoFile; }
  bool operator==(const Span &) const = default;
};

/// From the beginning of `a` to the end of `b`.
inline Span join(Span a, Span b) { return {a.file, a.begin, b.end}; }

/// Line and column, both from 1; columns count characters, not bytes.
struct Position {
  uint32_t line = 0;
  uint32_t column = 0;
};

class Sources {
 public:
  /// Adds a text under the name that messages show; returns its file id.
  /// A piece of a larger file says on which line of it the piece begins.
  uint32_t add(std::string name, std::string text, uint32_t firstLine = 1);
  /// Reads a file; nothing if it cannot be read.
  std::optional<uint32_t> load(const std::string &path);

  uint32_t count() const { return uint32_t(files_.size()); }
  const std::string &name(uint32_t file) const { return files_[file]->name; }
  std::string_view text(uint32_t file) const { return files_[file]->text; }
  std::string_view text(Span span) const;

  Position position(uint32_t file, uint32_t offset) const;
  Position position(Span span) const { return position(span.file, span.begin); }
  uint32_t lineCount(uint32_t file) const { return uint32_t(files_[file]->lineBegins.size()); }
  /// Byte offset of the first character of a line (lines count from 1).
  uint32_t lineBegin(uint32_t file, uint32_t line) const;
  /// The text of a line without its line end.
  std::string_view lineText(uint32_t file, uint32_t line) const;
  /// "model.nn:12:9", or "" for no place.
  std::string describe(Span span) const;

 private:
  struct File {
    std::string name;
    std::string text;
    std::vector<uint32_t> lineBegins;
    uint32_t firstLine = 1;
  };
  std::vector<std::unique_ptr<File>> files_; // by pointer: views into the text stay valid
};

} // namespace nnc::fe
