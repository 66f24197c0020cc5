// Meta as JSON text.
//
// Problem. The attribute tree must come back from text as it went in, floats bit for bit, and the
// reader meets arbitrary input. Example: {"name": "net", "rate": 0.001, "loss": "nan"}.
//
// Method. Shortest round-trip digits (std::to_chars); a recursive descent reader with one position,
// one error and a bound on nesting. JSON has no words for nan and inf: such floats become strings.
#include "ir/meta.h"
#include <cctype>
#include <charconv>
#include <cmath>

namespace nnc::ir {

const Meta *Meta::find(std::string_view key) const {
  if (const Dict *d = asDict())
    for (const auto &[k, v] : *d)
      if (k == key) return &v;
  return nullptr;
}

Meta &Meta::operator[](std::string_view key) {
  if (isNull()) value_ = Dict{};
  Dict &d = std::get<Dict>(value_);
  for (auto &[k, v] : d)
    if (k == key) return v;
  return d.emplace_back(std::string(key), Meta()).second;
}

void Meta::push(Meta v) {
  if (isNull()) value_ = List{};
  std::get<List>(value_).push_back(std::move(v));
}

// --- writing -----------------------------------------------------------------------------------

std::string shortest(double v) {
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v < 0 ? "-inf" : "inf";
  char buffer[40];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, v).ptr};
}

std::string quoted(std::string_view s) {
  static const char *hex = "0123456789abcdef";
  std::string out = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\')
      (out += '\\') += c;
    else if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (uint8_t(c) < 0x20 || c == 0x7f)
      ((out += "\\u00") += hex[c >> 4]) += hex[c & 15];
    else
      out += c;
  }
  return out += '"';
}

namespace {

std::string jsonFloat(double v) {
  std::string s = shortest(v);
  if (!std::isfinite(v)) return quoted(s);
  return s.find_first_of(".e") == std::string::npos ? s + ".0" : s;
}

struct Writer {
  std::string out;
  int indent;

  void newline(int depth) {
    if (indent < 0) return;
    out += '\n';
    out.append(size_t(depth) * indent, ' ');
  }
  void separate(bool first, int depth) {
    if (!first) out += indent < 0 ? ", " : ",";
    newline(depth);
  }
  void list(const Meta::List &l, int depth) {
    out += '[';
    for (size_t i = 0; i < l.size(); ++i) separate(i == 0, depth + 1), value(l[i], depth + 1);
    if (!l.empty()) newline(depth);
    out += ']';
  }
  void dict(const Meta::Dict &d, int depth) {
    out += '{';
    for (size_t i = 0; i < d.size(); ++i) {
      separate(i == 0, depth + 1);
      out += quoted(d[i].first) + ": ";
      value(d[i].second, depth + 1);
    }
    if (!d.empty()) newline(depth);
    out += '}';
  }
  void value(const Meta &m, int depth) {
    if (auto *b = m.asBool())
      out += *b ? "true" : "false";
    else if (auto *i = m.asInt())
      out += std::to_string(*i);
    else if (auto *f = m.asFloat())
      out += jsonFloat(*f);
    else if (auto *s = m.asString())
      out += quoted(*s);
    else if (auto *l = m.asList())
      list(*l, depth);
    else if (auto *d = m.asDict())
      dict(*d, depth);
    else
      out += "null";
  }
};

// --- reading -----------------------------------------------------------------------------------

void appendUtf8(std::string &out, uint32_t c) {
  if (c < 0x80)
    out += char(c);
  else if (c < 0x800)
    (out += char(0xc0 | c >> 6)) += char(0x80 | (c & 63));
  else if (c < 0x10000)
    ((out += char(0xe0 | c >> 12)) += char(0x80 | (c >> 6 & 63))) += char(0x80 | (c & 63));
  else {
    (out += char(0xf0 | c >> 18)) += char(0x80 | (c >> 12 & 63));
    (out += char(0x80 | (c >> 6 & 63))) += char(0x80 | (c & 63));
  }
}

struct Reader {
  std::string_view text;
  size_t pos;
  std::string error;

  bool fail(const std::string &what) {
    if (error.empty()) error = what;
    return false;
  }
  char peek() const { return pos < text.size() ? text[pos] : '\0'; }
  bool take(char c) {
    if (peek() != c || pos >= text.size()) return false;
    ++pos;
    return true;
  }
  void skip() {
    while (pos < text.size() && std::string_view(" \t\r\n").find(text[pos]) != std::string::npos)
      ++pos;
  }
  bool word(std::string_view w) {
    if (text.substr(pos, w.size()) != w) return false;
    pos += w.size();
    return true;
  }

  bool hex4(uint32_t &out) {
    if (text.size() - pos < 4) return fail("expected four hexadecimal digits");
    auto [end, e] = std::from_chars(text.data() + pos, text.data() + pos + 4, out, 16);
    if (e != std::errc() || end != text.data() + pos + 4)
      return fail("expected four hexadecimal digits");
    pos += 4;
    return true;
  }
  bool unicodeEscape(std::string &out) {
    uint32_t c = 0, low = 0;
    if (!hex4(c)) return false;
    if (c >= 0xd800 && c < 0xdc00) { // the first of a surrogate pair
      if (!word("\\u") || !hex4(low) || low < 0xdc00 || low >= 0xe000)
        return fail("expected the second half of a surrogate pair");
      c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    appendUtf8(out, c);
    return true;
  }
  bool escape(std::string &out) {
    static constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
    if (take('u')) return unicodeEscape(out);
    size_t k = pos < text.size() ? from.find(text[pos]) : std::string_view::npos;
    if (k == std::string_view::npos) return fail("unknown escape in a string");
    out += to[k];
    ++pos;
    return true;
  }
  bool string(std::string &out) {
    out.clear();
    if (!take('"')) return fail("expected a string");
    for (;;) {
      if (pos >= text.size() || text[pos] == '\n') return fail("string without an end");
      char c = text[pos++];
      if (c == '"') return true;
      if (c != '\\')
        out += c;
      else if (!escape(out))
        return false;
    }
  }

  bool number(Meta &out) {
    size_t end = pos;
    while (end < text.size() && isNumberChar(text[end])) ++end;
    std::string_view s = text.substr(pos, end - pos);
    int64_t i = 0;
    double d = 0;
    const char *last = s.data() + s.size();
    if (auto [p, e] = std::from_chars(s.data(), last, i); e == std::errc() && p == last) {
      out = Meta(i);
    } else if (auto [q, f] = std::from_chars(s.data(), last, d);
               f == std::errc() && q == last && std::isfinite(d)) {
      out = Meta(d);
    } else {
      return fail("expected a value");
    }
    pos = end;
    return true;
  }
  static bool isNumberChar(char c) {
    return std::isalnum(uint8_t(c)) || c == '+' || c == '-' || c == '.';
  }

  bool list(Meta &out, int depth) {
    Meta::List l;
    for (bool first = true;; first = false) {
      skip();
      if (take(']')) break;
      if (!first && !take(',')) return fail("expected `,` or `]`");
      if (!value(l.emplace_back(), depth + 1)) return false;
    }
    out = Meta(std::move(l));
    return true;
  }
  bool dict(Meta &out, int depth) {
    Meta::Dict d;
    for (bool first = true;; first = false) {
      skip();
      if (take('}')) break;
      if (!first && !take(',')) return fail("expected `,` or `}`");
      skip();
      auto &[key, v] = d.emplace_back();
      if (!string(key)) return false;
      skip();
      if (!take(':')) return fail("expected `:`");
      if (!value(v, depth + 1)) return false;
    }
    out = Meta(std::move(d));
    return true;
  }
  bool value(Meta &out, int depth) {
    skip();
    if (depth > kMaxJsonDepth) return fail("nested too deeply");
    if (take('[')) return list(out, depth);
    if (take('{')) return dict(out, depth);
    if (peek() == '"') {
      std::string s;
      if (!string(s)) return false;
      out = Meta(std::move(s));
      return true;
    }
    if (word("true"))
      out = Meta(true);
    else if (word("false"))
      out = Meta(false);
    else if (word("null"))
      out = Meta();
    else
      return number(out);
    return true;
  }
};

} // namespace

std::string toJson(const Meta &m, int indent) {
  Writer w{{}, indent};
  w.value(m, 0);
  return std::move(w.out);
}

bool parseJsonAt(std::string_view text, size_t &pos, Meta &out, std::string &error) {
  Reader r{text, pos, {}};
  bool ok = r.value(out, 0);
  pos = r.pos;
  error = r.error;
  return ok;
}

bool parseQuoted(std::string_view text, size_t &pos, std::string &out, std::string &error) {
  Reader r{text, pos, {}};
  bool ok = r.string(out);
  pos = r.pos;
  error = r.error;
  return ok;
}

bool parseJson(std::string_view text, Meta &out, std::string &error) {
  Reader r{text, 0, {}};
  bool ok = r.value(out, 0);
  r.skip();
  if (ok && r.pos < text.size()) ok = r.fail("expected nothing after the value");
  if (!ok) error = r.error + " at offset " + std::to_string(r.pos);
  return ok;
}

} // namespace nnc::ir
