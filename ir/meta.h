// Meta: one attribute tree for what the IR carries but does not understand.
//
// Problem. A training binary needs more than tensor code: data bindings, epochs, callbacks, the
// layer tree. If that travelled beside the IR, `nnc --emit=ir -o - | nnc -` could not build the
// same bytes. Example: {"name": "classifier", "train": {"epochs": 30}}.
//
// Method. One value type (null, bool, int, float, string, list, dict with ordered keys) written as
// JSON in the IR text, carried unchanged, and embedded in the binary for the runtime.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace nnc::ir {

class Meta {
public:
  using List = std::vector<Meta>;
  using Dict = std::vector<std::pair<std::string, Meta>>;

  Meta() = default; // null
  Meta(bool v) : value_(v) {}
  Meta(int v) : value_(int64_t(v)) {}
  Meta(int64_t v) : value_(v) {}
  Meta(double v) : value_(v) {}
  Meta(const char *v) : value_(std::string(v)) {}
  Meta(std::string v) : value_(std::move(v)) {}
  Meta(std::string_view v) : value_(std::string(v)) {}
  Meta(List v) : value_(std::move(v)) {}
  Meta(Dict v) : value_(std::move(v)) {}
  static Meta list() { return Meta(List{}); }
  static Meta dict() { return Meta(Dict{}); }

  bool isNull() const { return std::holds_alternative<std::monostate>(value_); }
  const bool *asBool() const { return std::get_if<bool>(&value_); }
  const int64_t *asInt() const { return std::get_if<int64_t>(&value_); }
  const double *asFloat() const { return std::get_if<double>(&value_); }
  const std::string *asString() const { return std::get_if<std::string>(&value_); }
  const List *asList() const { return std::get_if<List>(&value_); }
  List *asList() { return std::get_if<List>(&value_); }
  const Dict *asDict() const { return std::get_if<Dict>(&value_); }
  Dict *asDict() { return std::get_if<Dict>(&value_); }

  const Meta *find(std::string_view key) const; // null if not a dict or without the key
  // the entry, appended if missing; null becomes a dict
  Meta &operator[](std::string_view key);
  void push(Meta v);                            // appends to a list; null becomes a list
  friend bool operator==(const Meta &, const Meta &) = default;

private:
  std::variant<std::monostate, bool, int64_t, double, std::string, List, Dict> value_;
};

// JSON text; floats as the shortest digits that read back to the same bits and always with a '.',
// an exponent, or as "inf"/"-inf"/"nan" strings. indent < 0: one line.
std::string toJson(const Meta &m, int indent = -1);
// Parses JSON; on error returns false and sets `error` to a message with an offset.
bool parseJson(std::string_view text, Meta &out, std::string &error);
inline constexpr int kMaxJsonDepth = 200;

// The pieces that the IR text shares with JSON. `pos` is where to read, then where reading stopped.
bool parseJsonAt(std::string_view text, size_t &pos, Meta &out, std::string &error);
bool parseQuoted(std::string_view text, size_t &pos, std::string &out, std::string &error);
std::string quoted(std::string_view s); // "s" with JSON's escapes
std::string shortest(double v);         // shortest digits that read back; nan, inf, -inf are words

} // namespace nnc::ir
