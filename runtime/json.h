// Reads JSON: the module's metadata and the header of safetensors files.
//
//   const Json *root = parse_json(bytes, length, &error);   // nullptr and a message if malformed
//   int64_t epochs = root->get("train")->integer("epochs", 1);
//
// Nodes live in the arena. `get` of an absent key is the null node, so chains need no checks.
#ifndef NNC_RUNTIME_JSON_H
#define NNC_RUNTIME_JSON_H

#include "runtime/base.h"

namespace rt {

struct Json {
  enum Kind : uint8_t { Null, Bool, Number, String, List, Object };
  Kind kind = Null;
  bool whole = false;        // a number written without fraction and exponent
  const char *key = nullptr; // inside an object
  const char *string = "";   // String
  double number = 0;         // Number; Bool as 0 or 1
  int64_t value = 0;         // whole Number
  const Json *first = nullptr, *next = nullptr;
  int64_t count = 0; // List, Object

  const Json *get(const char *name) const;
  bool present() const { return kind != Null; }
  const char *text(const char *name, const char *otherwise) const;
  double real(const char *name, double otherwise) const;
  int64_t integer(const char *name, int64_t otherwise) const;
  bool flag(const char *name, bool otherwise) const;
};

const Json *parse_json(const char *bytes, size_t length, const char **error);
// Appends `s` quoted and escaped.
void add_json_string(Builder &out, const char *s);

} // namespace rt

#endif
