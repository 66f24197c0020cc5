// The answers of the language server about one document.
#pragma once

#include "frontend/lsp_analysis.h"
#include "frontend/lsp_names.h"
#include "frontend/lsp_text.h"
#include "frontend/parse.h"

#include <nlohmann/json.hpp>

#include <memory>
#include <optional>

namespace nnc::fe::lsp {

using nlohmann::json;

/// A text that was parsed, and what its names mean.
struct Parsed {
  Sources sources;
  uint32_t file = 0;
  bool ok = false;
  std::vector<SourceToken> tokens;
  std::unique_ptr<File> tree;
  std::unique_ptr<Names> names;

  Parsed(const std::string &path, const std::string &text);
};

class Document {
 public:
  Document(std::string uri, std::string text);

  const std::string &uri() const { return uri_; }
  const std::string &path() const { return path_; }
  const Text &text() const { return text_; }
  int64_t version = 0;
  bool dirty = true;

  /// `contentChanges` of the protocol, in their order.
  void change(const json &changes);
  /// Compiles again if the text has changed.
  void update();

  json diagnostics() const;
  json hover(Place place);
  json inlayHints(Place from, Place to);
  json completion(Place place);
  json signatureHelp(Place place);
  json definition(Place place);
  json references(Place place);
  json highlights(Place place);
  json prepareRename(Place place);
  /// The edits, or nothing and why not.
  std::optional<json> rename(Place place, const std::string &name, std::string &error);
  /// The edits, or nothing and why not.
  std::optional<json> formatting(std::string &error);
  json symbols();

 private:
  std::string uri_, path_;
  Text text_;
  Analysis analysis_;
  std::vector<Seen> seen_; // of the last text that was elaborated, at their places in this one
  std::string seenText_;   // that text
  std::unique_ptr<Parsed> parsed_;   // of this text
  std::unique_ptr<Parsed> complete_; // the last one without syntax errors

  json range(uint32_t begin, uint32_t end) const;
  const Seen *seenAt(uint32_t offset, Recorder::What what, uint32_t begin, uint32_t end) const;
  const SourceToken *tokenAt(uint32_t offset) const;
  std::optional<struct Meaning> meaning(const std::string &name, const std::string &alias) const;
  std::unique_ptr<Parsed> imported(const Import &import) const;
  struct Cursor cursor(uint32_t offset) const;
};

/// "file:///a%20b.nn" -> "/a b.nn"; other schemes stay as they are.
std::string pathOf(const std::string &uri);
std::string uriOf(const std::string &path);
/// Where texts of the library are kept to be opened; makes the file if it is not there.
std::string libraryPath(const std::string &file);

json toJson(Place p);
Place placeOf(const json &j);

} // namespace nnc::fe::lsp
