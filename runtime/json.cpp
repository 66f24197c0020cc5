// A recursive descent JSON reader: see json.h. Depth is limited because a file can be hostile.
#include "runtime/json.h"

#include <new>

namespace rt {

namespace {

const Json null_node;
constexpr int MaxDepth = 100;

struct Parser {
  const char *at, *end;
  const char *error = nullptr;

  Json *bad(const char *what) {
    if (!error) error = what;
    return nullptr;
  }
  void space() {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')) at++;
  }
  bool word(const char *w) {
    size_t n = strlen(w);
    if (size_t(end - at) < n || memcmp(at, w, n) != 0) return false;
    at += n;
    return true;
  }
  static Json *make(Json::Kind kind) {
    Json *node = new (arena_allocate(sizeof(Json))) Json;
    node->kind = kind;
    return node;
  }

  Json *parse_value(int depth) {
    if (depth > MaxDepth) return bad("nested too deeply");
    space();
    if (at == end) return bad("unexpected end");
    if (*at == '{' || *at == '[') return parse_sequence(depth);
    if (*at == '"') {
      Json *node = make(Json::String);
      return parse_string(&node->string) ? node : nullptr;
    }
    if (word("null")) return make(Json::Null);
    if (word("true") || word("false")) {
      Json *node = make(Json::Bool);
      node->number = at[-2] == 'u';
      return node;
    }
    return parse_number();
  }

  Json *parse_sequence(int depth) {
    bool object = *at++ == '{';
    char close = object ? '}' : ']';
    Json *node = make(object ? Json::Object : Json::List);
    const Json **link = &node->first;
    space();
    if (at < end && *at == close) return at++, node;
    for (;;) {
      const char *key = nullptr;
      if (object) {
        space();
        if (at == end || *at != '"') return bad("a key is expected");
        if (!parse_string(&key)) return nullptr;
        space();
        if (at == end || *at++ != ':') return bad("`:` is expected");
      }
      Json *child = parse_value(depth + 1);
      if (!child) return nullptr;
      child->key = key;
      *link = child;
      link = &child->next;
      node->count++;
      space();
      if (at == end) return bad("unexpected end");
      if (*at == close) return at++, node;
      if (*at++ != ',') return bad("`,` is expected");
    }
  }

  static int hex(const char *s) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
      char c = s[i];
      int digit = c >= '0' && c <= '9'   ? c - '0'
                  : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                         : -1;
      if (digit < 0) return -1;
      value = value * 16 + digit;
    }
    return value;
  }

  static char *put_utf8(char *out, int c) {
    if (c < 0x80) return *out++ = char(c), out;
    if (c < 0x800) return *out++ = char(0xC0 | c >> 6), *out++ = char(0x80 | (c & 63)), out;
    if (c < 0x10000) {
      *out++ = char(0xE0 | c >> 12);
    } else {
      *out++ = char(0xF0 | c >> 18);
      *out++ = char(0x80 | (c >> 12 & 63));
    }
    *out++ = char(0x80 | (c >> 6 & 63));
    *out++ = char(0x80 | (c & 63));
    return out;
  }

  bool parse_string(const char **result) {
    const char *scan = ++at;
    while (scan < end && *scan != '"') scan += *scan == '\\' ? 2 : 1;
    if (scan >= end) return bad("unterminated string");
    char *out = static_cast<char *>(arena_allocate(size_t(scan - at) + 1));
    *result = out;
    while (at < scan) {
      char c = *at++;
      if (c != '\\') {
        *out++ = c;
        continue;
      }
      static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
      const char *found = strchr(from, *at);
      if (*at && found) {
        *out++ = to[found - from];
        at++;
      } else if (*at == 'u' && scan - at >= 5) {
        int code = hex(at + 1);
        at += 5;
        if (code >= 0xD800 && code < 0xDC00 && scan - at >= 6 && at[0] == '\\' && at[1] == 'u') {
          int low = hex(at + 2);
          code = 0x10000 + ((code - 0xD800) << 10) + ((low - 0xDC00) & 0x3FF);
          at += 6;
        }
        if (code < 0) return bad("bad \\u escape");
        out = put_utf8(out, code);
      } else {
        return bad("bad escape");
      }
    }
    *out = 0;
    at++;
    return true;
  }

  Json *parse_number() {
    const char *begin = at;
    bool whole = true;
    while (at < end && ((*at >= '0' && *at <= '9') || strchr("+-.eE", *at))) {
      if (*at == '\0') break;
      whole &= (*at >= '0' && *at <= '9') || (*at == '-' && at == begin);
      at++;
    }
    char copy[64];
    size_t length = size_t(at - begin);
    if (length == 0 || length >= sizeof copy) return bad("a value is expected");
    memcpy(copy, begin, length);
    copy[length] = 0;
    char *stop;
    Json *node = make(Json::Number);
    node->number = strtod(copy, &stop);
    if (*stop) return bad("malformed number");
    node->whole = whole;
    node->value = whole ? strtoll(copy, nullptr, 10) : int64_t(node->number);
    return node;
  }
};

} // namespace

const Json *Json::get(const char *name) const {
  if (kind != Object) return &null_node;
  for (const Json *child = first; child; child = child->next)
    if (same(child->key, name)) return child;
  return &null_node;
}
const char *Json::text(const char *name, const char *otherwise) const {
  const Json *child = get(name);
  return child->kind == String ? child->string : otherwise;
}
double Json::real(const char *name, double otherwise) const {
  const Json *child = get(name);
  return child->kind == Number ? child->number : otherwise;
}
int64_t Json::integer(const char *name, int64_t otherwise) const {
  const Json *child = get(name);
  return child->kind == Number ? child->value : otherwise;
}
bool Json::flag(const char *name, bool otherwise) const {
  const Json *child = get(name);
  return child->kind == Bool ? child->number != 0 : otherwise;
}

const Json *parse_json(const char *bytes, size_t length, const char **error) {
  Parser parser{bytes, bytes + length};
  const Json *root = parser.parse_value(0);
  parser.space();
  if (root && parser.at != parser.end) root = parser.bad("text after the value");
  *error = parser.error;
  return root;
}

void add_json_string(Builder &out, const char *s) {
  out.add("\"");
  for (; *s; s++) {
    if (*s == '"' || *s == '\\')
      out.add("\\%c", *s);
    else if (static_cast<unsigned char>(*s) < 32)
      out.add("\\u%04x", *s);
    else
      out.add_bytes(s, 1);
  }
  out.add("\"");
}

} // namespace rt
