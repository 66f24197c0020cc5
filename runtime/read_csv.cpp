// Reads columns of a CSV file with a header line.
//
//   age,income,"class"          columns: ["age", "income"] or [0, 1]
//   31,52000.5,2                -> f32[rows, 2]
//
// Fields may be quoted; a doubled quote inside is a quote; lines end with \n or \r\n; blank lines
// are skipped. Numbers are read exactly: up to 19 digits and a small power of ten need one
// operation on doubles; whatever could round twice goes to strtof or strtod.
#include "runtime/data.h"
#include "runtime/files.h"

#include <errno.h>
#include <math.h>

namespace rt {

namespace {

Array<char> cached_text;
const char *cached_path;

struct Field {
  const char *begin, *end; // without the quotes and outer blanks
  bool quoted;
};

struct Scanner {
  const char *path;
  const char *at, *end;
  int64_t line = 1;

  bool skip_blank_lines() {
    while (at < end && (*at == '\n' || (*at == '\r' && at[1] == '\n'))) {
      line += *at == '\n';
      at++;
    }
    return at < end;
  }

  Field quoted_field() {
    const char *begin = ++at;
    int64_t first_line = line;
    while (at < end && !(*at == '"' && at[1] != '"')) {
      if (*at == '\n') line++;
      at += *at == '"' ? 2 : 1;
    }
    if (at >= end) fail("%s:%lld: unterminated quote", path, static_cast<long long>(first_line));
    Field field{begin, at, true};
    for (at++; at < end && (*at == ' ' || *at == '\r');) at++;
    if (at < end && *at != ',' && *at != '\n')
      fail("%s:%lld: text after a closing quote", path, static_cast<long long>(line));
    return field;
  }

  Field field() {
    while (at < end && (*at == ' ' || *at == '\t')) at++;
    if (at < end && *at == '"') return quoted_field();
    const char *begin = at;
    while (at < end && *at != ',' && *at != '\n') at++;
    const char *stop = at;
    while (stop > begin && (stop[-1] == ' ' || stop[-1] == '\t' || stop[-1] == '\r')) stop--;
    return {begin, stop, false};
  }

  // After a field: true if the line has another one.
  bool more() {
    if (at < end && *at == ',') return at++, true;
    if (at < end) at++, line++;
    return false;
  }
};

const char *field_text(Field field) {
  if (!field.quoted) return text_copy(field.begin, size_t(field.end - field.begin));
  Builder out;
  for (const char *c = field.begin; c < field.end; c++) {
    out.add_bytes(c, 1);
    if (*c == '"') c++;
  }
  return text_copy(out.c_str(), out.length());
}

// A field as it may stand in a message: short, printable.
const char *shown(Field field) {
  size_t length = size_t(field.end - field.begin);
  return length == 0 ? "nothing" : text("`%s`", text_copy(field.begin, length < 40 ? length : 40));
}

Array<const char *> read_header(Scanner &scanner) {
  Array<const char *> names;
  if (!scanner.skip_blank_lines())
    fail("`%s`: the file is empty: a CSV needs a header line", scanner.path);
  do names.push(field_text(scanner.field()));
  while (scanner.more());
  return names;
}

const char *name_list(const Array<const char *> &names) {
  Builder out;
  for (size_t i = 0; i < names.count && i < 20; i++) out.add("%s`%s`", i ? ", " : "", names[i]);
  if (names.count > 20) out.add(", ...");
  return text_copy(out.c_str(), out.length());
}

// A header of one field with other separators in it: what is wrong is not the column.
void check_separator(const ColumnSpec &spec, const Array<const char *> &names) {
  if (names.count != 1) return;
  const char *found = strpbrk(names[0], ";\t|");
  if (found)
    fail("%s:1: expected commas between the columns, found %s: `%s`", spec.file,
         *found == '\t' ? "tabs" : text("`%c`", *found), names[0]);
}

// Numbers in place of names: the first row would be lost without a word.
void check_header(const ColumnSpec &spec, const Array<const char *> &names) {
  for (const char *name : names) {
    char *stop;
    strtod(name, &stop);
    if (stop == name || *stop) return;
  }
  warn("%s:1: the header, the line of names, has numbers alone (`%s`): is a row of data lost?",
       spec.file, names[0]);
}

int64_t find_column(const ColumnSpec &spec, const Array<const char *> &names, const char *wanted) {
  for (size_t i = 0; i < names.count; i++)
    if (same(names[i], wanted)) return int64_t(i);
  fail("%s:1: the header has no column `%s`: it has %s", spec.file, wanted, name_list(names));
}

int64_t find_column(const ColumnSpec &spec, const Array<const char *> &names, Json wanted) {
  if (!wanted.is_number()) return find_column(spec, names, wanted.as_text(""));
  int64_t index = wanted.as_integer(-1);
  if (index < 0 || index >= int64_t(names.count))
    fail("%s:1: there is no column %lld (index %lld, for `%s`): the header has %zu", spec.file,
         static_cast<long long>(index + 1), static_cast<long long>(index), spec.name, names.count);
  return index;
}

// Without `columns`: the column of the input's own name, or all of them if their number fits.
Array<int64_t> choose_columns(const ColumnSpec &spec, const Array<const char *> &names,
                              int64_t width) {
  Array<int64_t> chosen;
  if (spec.columns.is_list()) {
    for (Json c : spec.columns) chosen.push(find_column(spec, names, c));
  } else if (spec.columns.present()) {
    chosen.push(find_column(spec, names, spec.columns));
  } else if (int64_t(names.count) == width) {
    for (int64_t i = 0; i < width; i++) chosen.push(i);
  } else {
    chosen.push(find_column(spec, names, spec.name));
  }
  if (int64_t(chosen.count) != width)
    fail("`%s` (`%s`): a row of the input takes %lld values, %zu columns are bound to it",
         spec.file, spec.name, static_cast<long long>(width), chosen.count);
  return chosen;
}

// --- numbers -------------------------------------------------------------------------------------

// Reads digits and a decimal point into an integer and a power of ten. False: leave it to strtod.
bool scan_decimal(const char *&s, const char *end, uint64_t &digits, int &exponent) {
  digits = 0;
  exponent = 0;
  int count = 0;
  bool point = false;
  for (; s < end; s++) {
    if (*s == '.' && !point) {
      point = true;
    } else if (*s >= '0' && *s <= '9') {
      digits = digits * 10 + uint64_t(*s - '0');
      count += digits != 0 || count > 0;
      exponent -= point;
      if (count > 18) return false;
    } else {
      break;
    }
  }
  return s == end;
}

bool parse_double(Field field, double &value) {
  static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  const char *s = field.begin;
  bool negative = s < field.end && *s == '-';
  if (s < field.end && (*s == '-' || *s == '+')) s++;
  if (s == field.end || !((*s >= '0' && *s <= '9') || (*s == '.' && s + 1 < field.end))) {
    // Words: only the ones that mean a number.
    size_t length = size_t(field.end - s);
    bool nan = length == 3 && strncasecmp(s, "nan", 3) == 0;
    bool inf = (length == 3 && strncasecmp(s, "inf", 3) == 0) ||
               (length == 8 && strncasecmp(s, "infinity", 8) == 0);
    value = nan ? double(NAN) : negative ? -double(INFINITY) : double(INFINITY);
    return nan || inf;
  }
  uint64_t digits;
  int exponent;
  if (scan_decimal(s, field.end, digits, exponent) && digits <= uint64_t{1} << 53 &&
      exponent >= -22) {
    value = double(digits) / powers[-exponent]; // one rounding: both are exact
    if (negative) value = -value;
    return true;
  }
  char *stop;
  value = strtod(field.begin, &stop);
  return stop == field.end;
}

// Rounding to double and then to float differs from rounding once only where the double lies just
// between two floats, or where the float is subnormal.
bool parse_float(Field field, float &value) {
  double wide;
  if (!parse_double(field, wide)) return false;
  uint64_t bits;
  memcpy(&bits, &wide, 8);
  bool halfway = (bits & 0x1FFFFFFF) == 0x10000000;
  bool tiny = wide != 0 && fabs(wide) < 1.2e-38;
  value = halfway || tiny ? strtof(field.begin, nullptr) : float(wide);
  return true;
}

bool parse_integer(Field field, int64_t &value) {
  char *stop;
  errno = 0;
  value = strtoll(field.begin, &stop, 10);
  if (stop == field.begin || errno) return false;
  if (stop < field.end && *stop == '.') // 3.0 is an integer too
    for (stop++; stop < field.end && *stop == '0';) stop++;
  return stop == field.end;
}

// FNV-1a: a category's number does not depend on which others there are.
uint64_t hash_of(Field field) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char *c = field.begin; c < field.end; c++) {
    hash = (hash ^ uint64_t(static_cast<unsigned char>(*c))) * 0x100000001B3;
    if (field.quoted && *c == '"') c++;
  }
  return hash;
}

bool is_word(Field field, const char *word) {
  const char *c = field.begin;
  for (; c < field.end && *word == *c; c++, word++)
    if (field.quoted && *c == '"') c++;
  return c >= field.end && !*word;
}

struct Target {
  const ColumnSpec &spec;
  const Array<const char *> &names;
  int64_t dtype;

  // The number of a word, by {"hash": n} or {"words": [..]}.
  int64_t code(const Scanner &scanner, Field field, int64_t column, Json how) const {
    if (how.get("hash").present())
      return int64_t(hash_of(field) % uint64_t(how.integer("hash", 1)));
    int64_t at = 0;
    for (Json known : how.get("words")) {
      if (is_word(field, known.as_text(""))) return at;
      at++;
    }
    bad(scanner, column, "one of the category's words", shown(field));
  }

  [[noreturn]] void bad(const Scanner &scanner, int64_t column, const char *expected,
                        const char *found) const {
    fail("%s:%lld: column %lld (`%s`): expected %s, found %s", spec.file,
         static_cast<long long>(scanner.line), static_cast<long long>(column + 1),
         names[size_t(column)], expected, found);
  }

  void store(const Scanner &scanner, Field field, int64_t column, Json how, char *out) const {
    if (how.present()) {
      int64_t number = code(scanner, field, column, how);
      if (dtype == NNC_I64)
        memcpy(out, &number, 8);
      else
        store_float(dtype, double(number), out);
      return;
    }
    if (field.begin == field.end) bad(scanner, column, "a number", "an empty field");
    if (dtype == NNC_F32) {
      float value;
      if (!parse_float(field, value)) bad(scanner, column, "a number", shown(field));
      memcpy(out, &value, 4);
    } else if (dtype == NNC_F64) {
      double value;
      if (!parse_double(field, value)) bad(scanner, column, "a number", shown(field));
      memcpy(out, &value, 8);
    } else {
      int64_t value;
      if (!parse_integer(field, value)) bad(scanner, column, "an integer", shown(field));
      if (spec.has_range && (value < spec.low || value >= spec.high))
        bad(scanner, column,
            text("a value in [%lld, %lld)", static_cast<long long>(spec.low),
                 static_cast<long long>(spec.high)),
            text("%lld", static_cast<long long>(value)));
      memcpy(out, &value, 8);
    }
  }
};

} // namespace

void forget_csv() {
  cached_text = Array<char>();
  cached_path = nullptr;
}

RawArray read_csv(const ColumnSpec &spec, int64_t dtype, int64_t width) {
  const bool is_new = !cached_path || !same(cached_path, spec.file);
  if (is_new) {
    cached_text = read_file(spec.file, text("`%s`", spec.name));
    cached_path = spec.file;
  }
  Scanner scanner{spec.file, cached_text.data, cached_text.data + cached_text.count};
  if (cached_text.count >= 3 && memcmp(scanner.at, "\xef\xbb\xbf", 3) == 0) scanner.at += 3;
  Array<const char *> names = read_header(scanner);
  check_separator(spec, names);
  if (is_new) check_header(spec, names);
  Array<int64_t> chosen = choose_columns(spec, names, width);
  Target target{spec, names, dtype};
  int64_t size = dtype_info(dtype).bytes;

  RawArray raw;
  raw.dtype = dtype;
  Array<Field> fields;
  int64_t rows = 0;
  while (scanner.skip_blank_lines()) {
    Scanner line = scanner; // for messages
    fields.count = 0;
    do fields.push(scanner.field());
    while (scanner.more());
    if (fields.count != names.count)
      fail("%s:%lld: the header has %zu columns, this line has %zu", spec.file,
           static_cast<long long>(line.line), names.count, fields.count);
    size_t start = raw.owner.count;
    raw.owner.resize(start + size_t(width * size));
    for (size_t i = 0; i < chosen.count; i++)
      target.store(line, fields[size_t(chosen[i])], chosen[i], spec.codes[i],
                   raw.owner.data + start + i * size_t(size));
    rows++;
  }
  raw.rank = 2;
  raw.flat = true;
  raw.dims[0] = rows;
  raw.dims[1] = width;
  raw.data = raw.owner.data;
  return raw;
}

} // namespace rt
