// JSON, by jansson: the module's metadata, the header of safetensors files.
//
//   const char *error;
//   Json root = parse_json(bytes, length, &error);   // absent, and a message, if malformed
//   int64_t epochs = root.get("train").integer("epochs", 1);
//   for (Json layer : root.get("layers")) puts(layer.text("name", "?"));
//
// A Json is a pointer to a value. What is not there is the absent value, whose members are absent
// too, so chains need no checks. Values live in the arena: nothing here is ever released.
#ifndef NNC_RUNTIME_JSON_H
#define NNC_RUNTIME_JSON_H

#include "runtime/base.h"

#include <jansson.h>

namespace rt {

struct Json {
  json_t *node = nullptr; // null: absent

  bool present() const { return node && !json_is_null(node); }
  bool is_list() const { return json_is_array(node); }
  bool is_number() const { return json_is_number(node); }

  // This value, if it has the type.
  const char *as_text(const char *otherwise) const;
  double as_real(double otherwise) const;
  int64_t as_integer(int64_t otherwise) const;

  // A member, if this is an object.
  Json get(const char *name) const { return {json_object_get(node, name)}; }
  const char *text(const char *name, const char *otherwise) const {
    return get(name).as_text(otherwise);
  }
  double real(const char *name, double otherwise) const { return get(name).as_real(otherwise); }
  int64_t integer(const char *name, int64_t otherwise) const {
    return get(name).as_integer(otherwise);
  }
  bool flag(const char *name, bool otherwise) const;

  // The items, if this is a list.
  size_t count() const { return json_array_size(node); }
  Json operator[](size_t i) const { return {json_array_get(node, i)}; }
  struct Iterator {
    json_t *list;
    size_t at;
    Json operator*() const { return {json_array_get(list, at)}; }
    void operator++() { at++; }
    bool operator!=(const Iterator &other) const { return at != other.at; }
  };
  Iterator begin() const { return {node, 0}; }
  Iterator end() const { return {node, count()}; }
};

// Reads an object or a list.
Json parse_json(const char *bytes, size_t length, const char **error);

// An empty object in the arena, to be filled by jansson's own functions.
json_t *new_json_object();

// A number with all its bits, infinities and NaN included, which JSON's own numbers have not.
json_t *json_exact(double value);
double exact_of(Json value); // 0 if it is absent

} // namespace rt

#endif
