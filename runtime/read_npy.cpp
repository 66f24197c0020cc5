// Reads NPY versions 1 to 3: magic, version, header length, a Python dictionary, then the elements.
//
//   \x93NUMPY 1 0 118 0 {'descr': '<f4', 'fortran_order': False, 'shape': (60000, 28, 28), }
//
// Little-endian, C order. The dictionary has these three keys in any order; they are looked for by
// name, which is all the Python that is needed.
#include "runtime/data.h"
#include "runtime/files.h"

namespace rt {

namespace {

struct NpyType {
  const char *descr;
  int64_t bytes, dtype;
};
constexpr NpyType types[] = {{"<f4", 4, NNC_F32}, {"<f8", 8, NNC_F64}, {"<f2", 2, NNC_F16},
                             {"|u1", 1, NNC_U8},  {"<u1", 1, NNC_U8},  {"<i4", 4, NNC_I32},
                             {"<i8", 8, NNC_I64}, {"<u4", 4, NNC_U32}, {"|b1", 1, NNC_BOOL}};

struct Header {
  const char *path, *what, *text;

  // The text after `'key':`.
  const char *value(const char *key) const {
    const char *at = strstr(text, key);
    at = at ? strchr(at + strlen(key), ':') : nullptr;
    if (!at) fail("`%s` (%s): the NPY header has no key %s", path, what, key);
    for (at++; *at == ' ';) at++;
    return at;
  }
};

int64_t find_type(const Header &header, RawArray &raw) {
  const char *descr = header.value("'descr'");
  for (const NpyType &type : types)
    if (*descr == '\'' && strncmp(descr + 1, type.descr, 3) == 0 && descr[4] == '\'') {
      raw.dtype = type.dtype;
      return type.bytes;
    }
  const char *stop = *descr == '\'' ? strchr(descr + 1, '\'') : nullptr;
  fail("`%s` (%s): NPY element type %.*s is not supported: expected little-endian f2, f4, f8, u1, "
       "u4, "
       "i4, i8 or b1",
       header.path, header.what, stop ? int(stop - descr) + 1 : 8, descr);
}

void parse_shape(const Header &header, RawArray &raw) {
  const char *at = header.value("'shape'");
  if (*at++ != '(') fail("`%s` (%s): malformed NPY shape", header.path, header.what);
  for (;;) {
    while (*at == ' ' || *at == ',') at++;
    if (*at == ')') return;
    char *stop;
    long long extent = strtoll(at, &stop, 10);
    if (stop == at || extent < 0 || raw.rank == MaxRank)
      fail("`%s` (%s): malformed NPY shape", header.path, header.what);
    raw.dims[raw.rank++] = extent;
    at = stop;
  }
}

} // namespace

RawArray read_npy(const char *path, const char *what) {
  return parse_npy(read_file(path, what), path, what);
}

RawArray parse_npy(Array<char> &&content, const char *path, const char *what) {
  RawArray raw;
  raw.owner = static_cast<Array<char> &&>(content);
  const Array<char> &bytes = raw.owner;
  if (bytes.count < 12 || memcmp(bytes.data, "\x93NUMPY", 6) != 0)
    fail("`%s` (%s): not an NPY file: it should begin with \\x93NUMPY", path, what);
  int version = bytes[6];
  if (version < 1 || version > 3)
    fail("`%s` (%s): NPY version %d: expected 1, 2 or 3", path, what, version);
  uint32_t length = 0;
  memcpy(&length, bytes.data + 8, version == 1 ? 2 : 4);
  size_t start = (version == 1 ? 10 : 12) + size_t(length);
  if (bytes.count < start) fail("`%s` (%s): truncated NPY header", path, what);
  Header header{path, what, text_copy(bytes.data + start - length, length)};
  int64_t size = find_type(header, raw);
  if (strncmp(header.value("'fortran_order'"), "False", 5) != 0)
    fail("`%s` (%s): the array is in Fortran order: save it with numpy.ascontiguousarray", path,
         what);
  parse_shape(header, raw);
  int64_t count = 1;
  bool overflow = false;
  for (int64_t d = 0; d < raw.rank; d++)
    overflow |= __builtin_mul_overflow(count, raw.dims[d], &count);
  overflow |= count > INT64_MAX / 16;
  if (overflow || bytes.count != start + size_t(count * size))
    fail("`%s` (%s): the header says %s, which takes %lld bytes after the header, found %zu", path,
         what, type_text(raw.dtype, raw.dims, raw.rank),
         overflow ? -1LL : static_cast<long long>(count * size), bytes.count - start);
  if (raw.rank == 0) fail("`%s` (%s): a scalar has no rows", path, what);
  raw.data = raw.owner.data + start;
  return raw;
}

} // namespace rt
