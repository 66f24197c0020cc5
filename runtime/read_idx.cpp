// Reads IDX, the format of MNIST: 0, 0, type, rank, then big-endian 32-bit extents, then elements,
// also big-endian.
//
//   00 00 08 03  00 00 ea 60  00 00 00 1c  00 00 00 1c  ...      u8[60000,28,28]
#include "runtime/data.h"
#include "runtime/files.h"

#include <byteswap.h>

namespace rt {

namespace {

struct IdxType {
  int code;
  int64_t bytes, dtype;
};
// 8 and 16-bit signed integers have no type of their own here: they become i32.
constexpr IdxType types[] = {{0x08, 1, NNC_U8},  {0x09, 1, NNC_I32}, {0x0B, 2, NNC_I32},
                             {0x0C, 4, NNC_I32}, {0x0D, 4, NNC_F32}, {0x0E, 8, NNC_F64}};

uint32_t big_endian(const char *bytes) {
  uint32_t value;
  memcpy(&value, bytes, 4);
  return bswap_32(value);
}

void widen_to_i32(RawArray &raw, int64_t count, int code) {
  Array<char> wide;
  wide.resize(size_t(count) * 4);
  int32_t *out = reinterpret_cast<int32_t *>(wide.data);
  for (int64_t i = 0; i < count; i++) {
    if (code == 0x09) {
      out[i] = static_cast<signed char>(raw.data[i]);
    } else {
      uint16_t value;
      memcpy(&value, raw.data + 2 * i, 2);
      out[i] = int16_t(bswap_16(value));
    }
  }
  raw.owner = static_cast<Array<char> &&>(wide);
  raw.data = raw.owner.data;
}

void swap_bytes(RawArray &raw, int64_t count, int64_t size) {
  for (int64_t i = 0; i < count; i++) {
    char *element = raw.data + i * size;
    for (int64_t k = 0; k < size / 2; k++) {
      char c = element[k];
      element[k] = element[size - 1 - k];
      element[size - 1 - k] = c;
    }
  }
}

} // namespace

RawArray read_idx(const char *path, const char *what) {
  RawArray raw;
  raw.owner = read_file(path, what);
  const Array<char> &bytes = raw.owner;
  const IdxType *type = nullptr;
  if (bytes.count >= 4 && bytes[0] == 0 && bytes[1] == 0)
    for (const IdxType &t : types)
      if (t.code == bytes[2]) type = &t;
  if (!type) {
    unsigned char magic[4] = {0, 0, 0, 0};
    memcpy(magic, bytes.data, bytes.count < 4 ? bytes.count : 4);
    fail("`%s` (%s): not an IDX file: expected magic 00 00 and a type byte 08, 09, 0b, 0c, 0d or "
         "0e, "
         "found %02x %02x %02x %02x",
         path, what, magic[0], magic[1], magic[2], magic[3]);
  }
  raw.rank = bytes[3];
  if (raw.rank < 1 || raw.rank > MaxRank)
    fail("`%s` (%s): an IDX array of rank %d: expected 1 to %d", path, what, int(raw.rank),
         MaxRank);
  size_t header = 4 + 4 * size_t(raw.rank);
  if (bytes.count < header)
    fail("`%s` (%s): truncated: the IDX header takes %zu bytes, found %zu", path, what, header,
         bytes.count);
  int64_t count = 1;
  bool overflow = false;
  for (int64_t d = 0; d < raw.rank; d++) {
    raw.dims[d] = big_endian(bytes.data + 4 + 4 * d);
    overflow |= __builtin_mul_overflow(count, raw.dims[d], &count);
  }
  overflow |= count > INT64_MAX / 16;
  raw.dtype = type->dtype;
  if (overflow || bytes.count != header + size_t(count * type->bytes))
    fail("`%s` (%s): the header says %s, which takes %lld bytes after the header, found %zu", path,
         what, type_text(raw.dtype, raw.dims, raw.rank),
         overflow ? -1LL : static_cast<long long>(count * type->bytes), bytes.count - header);
  raw.data = raw.owner.data + header;
  if (type->code == 0x09 || type->code == 0x0B)
    widen_to_i32(raw, count, type->code);
  else if (type->bytes > 1)
    swap_bytes(raw, count, type->bytes);
  return raw;
}

} // namespace rt
