// Reads an array of an NPZ file: a zip archive of NPY files, by minizip.
//
// A part (abi.h): linked only into models whose data has such files.
#include "runtime/data.h"

#include <minizip/unzip.h>
#include <stdio.h>

namespace rt {

namespace {

const char *entry_names(unzFile zip) {
  Builder names;
  int count = 0;
  for (int at = unzGoToFirstFile(zip); at == UNZ_OK; at = unzGoToNextFile(zip)) {
    char name[256];
    unz_file_info64 info;
    if (unzGetCurrentFileInfo64(zip, &info, name, sizeof name, nullptr, 0, nullptr, 0) != UNZ_OK)
      break;
    if (ends_with(name, ".npy")) name[strlen(name) - 4] = 0;
    if (count++ < 20) names.add("%s`%s`", count > 1 ? ", " : "", name);
  }
  return text_copy(names.c_str(), names.length());
}

RawArray read_npz(const ColumnSpec &spec, const char *what) {
  unzFile zip = unzOpen64(spec.file);
  if (!zip)
    fail("cannot read `%s` (%s): there is no such file, or it is no zip file", spec.file, what);
  const char *entry = spec.entry ? spec.entry : spec.name;
  if (unzLocateFile(zip, text("%s.npy", entry), 1) != UNZ_OK)
    fail("`%s` (%s): there is no array `%s`: it has %s", spec.file, what, entry, entry_names(zip));
  unz_file_info64 info;
  Array<char> bytes;
  bool ok = unzGetCurrentFileInfo64(zip, &info, nullptr, 0, nullptr, 0, nullptr, 0) == UNZ_OK &&
            unzOpenCurrentFile(zip) == UNZ_OK;
  if (ok) bytes.resize(size_t(info.uncompressed_size) + 1);
  for (size_t done = 0; ok && done < info.uncompressed_size;) {
    size_t left = size_t(info.uncompressed_size) - done;
    int got =
        unzReadCurrentFile(zip, bytes.data + done, left < (1u << 30) ? unsigned(left) : 1u << 30);
    ok = got > 0;
    done += ok ? size_t(got) : 0;
  }
  if (!ok || unzCloseCurrentFile(zip) != UNZ_OK) // it compares the checksum
    fail("`%s` (%s): the array `%s` is damaged", spec.file, what, entry);
  unzClose(zip);
  bytes.count--;
  return parse_npy(static_cast<Array<char> &&>(bytes), text("%s:%s", spec.file, entry), what);
}

} // namespace

} // namespace rt

extern "C" const NncPart nnc_part_npz = {"npz", reinterpret_cast<void (*)()>(rt::read_npz)};
