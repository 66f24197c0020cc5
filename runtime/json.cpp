// jansson in the arena: see json.h.
#include "runtime/json.h"

namespace rt {

namespace {

void keep(void *) {}

// jansson takes its memory from the arena: values live as long as the process, and exhaustion has
// its message.
void use_arena() { json_set_alloc_funcs(arena_allocate, keep); }

} // namespace

const char *Json::as_text(const char *otherwise) const {
  return json_is_string(node) ? json_string_value(node) : otherwise;
}
double Json::as_real(double otherwise) const {
  return json_is_number(node) ? json_number_value(node) : otherwise;
}
int64_t Json::as_integer(int64_t otherwise) const {
  if (json_is_integer(node)) return json_integer_value(node);
  double real = json_is_real(node) ? json_real_value(node) : 0.5;
  bool whole = real > -0x1p62 && real < 0x1p62 && double(int64_t(real)) == real;
  return whole ? int64_t(real) : otherwise;
}
bool Json::flag(const char *name, bool otherwise) const {
  Json member = get(name);
  return json_is_boolean(member.node) ? json_is_true(member.node) : otherwise;
}

Json parse_json(const char *bytes, size_t length, const char **error) {
  use_arena();
  json_error_t mistake;
  Json root{json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &mistake)};
  *error = root.node ? nullptr : text("byte %d: %s", mistake.position, mistake.text);
  return root;
}

json_t *new_json_object() {
  use_arena();
  return json_object();
}

json_t *json_exact(double value) { return json_string(text("%a", value)); }

double exact_of(Json value) { return strtod(value.as_text("0"), nullptr); }

} // namespace rt
