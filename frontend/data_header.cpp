// Heads of data files: see data_header.h.
#include "frontend/data_header.h"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <minizip/unzip.h>
#include <regex>
#include <sys/stat.h>
#include <zlib.h>

namespace nnc::fe {

namespace {

constexpr size_t kMostBytes = 1 << 16; // of a head

/// The first bytes of a file, through gzip if it is compressed.
bool readStart(DataHeader &h, std::string &bytes) {
  struct stat info;
  const bool exists = stat(h.file.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode)) return h.error = "it is a directory", false;
  if (exists && !S_ISREG(info.st_mode)) return h.error = "it is no regular file", false;
  gzFile in = gzopen(h.file.c_str(), "rb");
  if (!in) return h.error = errno == ENOENT ? "there is no such file" : std::strerror(errno), false;
  bytes.resize(kMostBytes);
  int got = gzread(in, bytes.data(), unsigned(bytes.size()));
  gzclose(in);
  if (got < 0) return h.error = "its compression is damaged", false;
  bytes.resize(size_t(got));
  return true;
}

/// sizes[0] counts the rows.
void setSizes(DataHeader &h, const std::vector<int64_t> &sizes) {
  if (sizes.empty())
    h.error = "it holds a single number, no rows";
  else
    h.row.assign(sizes.begin() + 1, sizes.end());
}

uint32_t bigEndian(const std::string &s, size_t at) {
  uint32_t v = 0;
  for (size_t i = 0; i < 4; ++i) v = v << 8 | static_cast<unsigned char>(s[at + i]);
  return v;
}

void parseIdx(DataHeader &h, const std::string &s) {
  size_t rank = s.size() >= 4 && !s[0] && !s[1] ? static_cast<unsigned char>(s[3]) : 0;
  if (rank == 0 || s.size() < 4 + 4 * rank) return void(h.error = "it is no IDX file");
  switch (static_cast<unsigned char>(s[2])) {
  case 0x08: h.element = ir::DType::u8; break;
  case 0x09:
  case 0x0B:
  case 0x0C: h.element = ir::DType::i32; break;
  case 0x0D: h.element = ir::DType::f32; break;
  case 0x0E: h.element = ir::DType::f64; break;
  default: return void(h.error = "its element type is none of IDX");
  }
  std::vector<int64_t> sizes;
  for (size_t d = 0; d < rank; ++d) sizes.push_back(bigEndian(s, 4 + 4 * d));
  setSizes(h, sizes);
}

std::optional<ir::DType> npyElement(const std::string &descr) {
  static const std::pair<const char *, ir::DType> kTypes[] = {
      {"<f2", ir::DType::f16}, {"<f4", ir::DType::f32}, {"<f8", ir::DType::f64},
      {"|u1", ir::DType::u8},  {"<u1", ir::DType::u8},  {"<u4", ir::DType::u32},
      {"<i4", ir::DType::i32}, {"<i8", ir::DType::i64}, {"|b1", ir::DType::boolean}};
  for (auto &[name, type] : kTypes)
    if (descr == name) return type;
  return {};
}

void parseNpy(DataHeader &h, const std::string &s) {
  if (s.size() < 12 || s.compare(0, 6, "\x93NUMPY") != 0)
    return void(h.error = "it is no NPY file");
  static const std::regex descr("'descr': *'([^']*)'"), shape("'shape': *\\(([^)]*)\\)");
  size_t length = 0, start = s[6] == 1 ? 10 : 12;
  std::memcpy(&length, s.data() + 8, start - 8);
  std::string text = s.substr(start, std::min(length, s.size() - start));
  std::smatch type, sizes;
  if (!std::regex_search(text, type, descr) || !std::regex_search(text, sizes, shape))
    return void(h.error = "its NPY header is malformed");
  h.element = npyElement(type[1]);
  if (!h.element) return void(h.error = "its elements `" + type[1].str() + "` are not supported");
  std::vector<int64_t> found;
  std::string list = sizes[1];
  for (const char *at = list.c_str(); *at;) {
    char *end;
    int64_t v = std::strtoll(at, &end, 10);
    if (end == at) {
      ++at;
      continue;
    }
    found.push_back(v);
    at = end;
  }
  setSizes(h, found);
}

/// The text has rows of numbers; how many go into one input stands in the program.
void parseCsv(DataHeader &h, const ir::Meta &column) {
  const ir::Meta *columns = column.find("columns"), *codes = column.find("codes");
  if (const auto *list = columns ? columns->asList() : nullptr) h.row = {int64_t(list->size())};
  bool all = codes != nullptr; // numbers of words
  if (codes)
    for (const ir::Meta &code : *codes->asList()) all = all && !code.isNull();
  if (all) h.element = ir::DType::i32;
}

/// One array of an archive, by minizip.
bool readEntry(DataHeader &h, const std::string &entry, std::string &bytes) {
  struct stat info;
  const bool isFile = stat(h.file.c_str(), &info) == 0 && S_ISREG(info.st_mode);
  unzFile zip = isFile ? unzOpen64(h.file.c_str()) : nullptr;
  if (!zip) return h.error = "there is no such file, or it is no zip file", false;
  bool found = unzLocateFile(zip, (entry + ".npy").c_str(), 1) == UNZ_OK;
  int got = -1;
  if (found && unzOpenCurrentFile(zip) == UNZ_OK) {
    bytes.resize(kMostBytes);
    got = unzReadCurrentFile(zip, bytes.data(), unsigned(bytes.size()));
    bytes.resize(got < 0 ? 0 : size_t(got));
  }
  unzClose(zip);
  if (!found) return h.error = "there is no array `" + entry + "`", false;
  if (got < 0) return h.error = "its compression is damaged", false;
  return true;
}

void addWindow(DataHeader &h, const ir::Meta &column) {
  if (const ir::Meta *window = column.find("window"))
    h.row.insert(h.row.begin(), *window->find("size")->asInt());
}

} // namespace

std::vector<std::string> csvFields(const std::string &path) {
  DataHeader h;
  h.file = path;
  std::string bytes;
  if (!readStart(h, bytes)) return {};
  size_t at = bytes.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  while (at < bytes.size() && (bytes[at] == '\n' || bytes[at] == '\r')) ++at;
  std::vector<std::string> fields;
  std::string field;
  bool quoted = false;
  auto end = [&] {
    size_t from = field.find_first_not_of(" \t\r"), to = field.find_last_not_of(" \t\r");
    fields.push_back(from == field.npos ? "" : field.substr(from, to + 1 - from));
    field.clear();
  };
  for (; at < bytes.size() && (quoted || bytes[at] != '\n'); ++at) {
    if (bytes[at] == '"') {
      if (quoted && at + 1 < bytes.size() && bytes[at + 1] == '"')
        field += bytes[++at];
      else
        quoted = !quoted;
    } else if (bytes[at] == ',' && !quoted) {
      end();
    } else {
      field += bytes[at];
    }
  }
  if (at == bytes.size() && bytes.size() == kMostBytes) return {}; // longer than a head
  if (!fields.empty() || !field.empty()) end();
  return fields;
}

std::optional<std::vector<std::string>> subdirectories(const std::string &path) {
  std::error_code none;
  if (!std::filesystem::is_directory(path, none)) return {};
  std::vector<std::string> names;
  for (const auto &entry : std::filesystem::directory_iterator(path, none)) {
    std::string name = entry.path().filename().string();
    if (name[0] != '.' && entry.is_directory(none)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

DataHeader readHeader(const ir::Meta &column) {
  DataHeader h;
  const std::string &reader = *column.find("reader")->asString();
  h.file = *column.find("file")->asString();
  std::string bytes;
  if (reader == "csv") {
    parseCsv(h, column);
  } else if (reader == "text") {
    h.element = ir::DType::u8;
  } else if (reader == "folder") {
    const ir::Meta *size = column.find("size");
    h.element = size ? ir::DType::u8 : ir::DType::i32;
    for (const ir::Meta &d : size ? *size->asList() : ir::Meta::List{}) h.row.push_back(*d.asInt());
  } else if (reader == "npz") {
    if (readEntry(h, *column.find("entry")->asString(), bytes)) parseNpy(h, bytes);
  } else if (readStart(h, bytes)) {
    if (reader == "idx")
      parseIdx(h, bytes);
    else
      parseNpy(h, bytes);
  }
  addWindow(h, column);
  return h;
}

} // namespace nnc::fe
