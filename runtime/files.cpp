// Whole files in, whole files out: see files.h.
#include "runtime/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

namespace rt {

namespace {

Array<char> read_raw(const char *path, const char *what) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) fail("cannot read `%s` (%s): %s", path, what, strerror(errno));
  struct stat info;
  if (fstat(file, &info) != 0) fail("cannot read `%s` (%s): %s", path, what, strerror(errno));
  if (S_ISDIR(info.st_mode)) fail("cannot read `%s` (%s): it is a directory", path, what);
  Array<char> bytes;
  bytes.reserve(size_t(info.st_size) + 2); // for the read that finds the end, and the zero byte
  for (;;) { // also right for pipes, whose size is unknown
    if (bytes.count + 1 >= bytes.capacity) bytes.reserve(bytes.capacity + 65536);
    ssize_t got = read(file, bytes.data + bytes.count, bytes.capacity - 1 - bytes.count);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot read `%s` (%s): %s", path, what, strerror(errno));
    if (got == 0) break;
    bytes.count += size_t(got);
  }
  close(file);
  bytes.data[bytes.count] = 0;
  return bytes;
}

// The size that the last gzip member says it had, modulo 2^32: a good first guess, not a promise.
size_t inflated_size(const Array<char> &packed) {
  uint32_t size = 0;
  memcpy(&size, packed.data + packed.count - 4, 4);
  size_t most = packed.count * 1032; // deflate cannot do better
  return size < most ? size : most;
}

[[noreturn]] void bad_gzip(const char *path, const z_stream &stream, int code) {
  if (code == Z_BUF_ERROR || code == Z_OK)
    fail("`%s`: the gzip data ends early: the file is truncated (%lu bytes of content found)", path,
         stream.total_out);
  fail("`%s`: the gzip data is damaged: %s", path, stream.msg ? stream.msg : "unknown");
}

Array<char> inflate_all(const char *path, const Array<char> &packed) {
  Array<char> out;
  out.reserve(packed.count >= 18 ? inflated_size(packed) + 64 : 64);
  z_stream stream = {};
  constexpr int gzip_header = 16;
  if (inflateInit2(&stream, gzip_header + MAX_WBITS) != Z_OK) fail("out of memory");
  size_t taken = 0;
  for (;;) {
    if (out.capacity - out.count < 2) out.reserve(out.capacity * 2);
    size_t input = packed.count - taken, space = out.capacity - out.count - 1;
    constexpr size_t most = 1u << 30; // zlib counts with 32 bits
    stream.next_in = reinterpret_cast<Bytef *>(packed.data + taken);
    stream.avail_in = uInt(input < most ? input : most);
    stream.next_out = reinterpret_cast<Bytef *>(out.data + out.count);
    stream.avail_out = uInt(space < most ? space : most);
    uInt had = stream.avail_in, had_space = stream.avail_out;
    int code = inflate(&stream, Z_NO_FLUSH);
    taken += had - stream.avail_in;
    out.count += had_space - stream.avail_out;
    if (code == Z_STREAM_END) {
      if (taken == packed.count) break;
      inflateReset(&stream); // gzip files may be joined end to end
    } else if (code != Z_OK || (taken == packed.count && stream.avail_out > 0)) {
      bad_gzip(path, stream, code);
    }
  }
  inflateEnd(&stream);
  out.data[out.count] = 0;
  return out;
}

} // namespace

Array<char> read_file(const char *path, const char *what) {
  Array<char> bytes = read_raw(path, what);
  bool gzip = bytes.count >= 2 && bytes[0] == '\x1f' && bytes[1] == '\x8b';
  if (!gzip && ends_with(path, ".gz"))
    fail("`%s`: not a gzip file: it should begin with the bytes 1f 8b", path);
  return gzip ? inflate_all(path, bytes) : static_cast<Array<char> &&>(bytes);
}

InputFile::InputFile(const char *path, const char *what) : path(path), what(what) {
  struct stat info;
  char magic[2] = {0};
  // A pipe must not be opened twice: its writer would be left alone in between.
  if (stat(path, &info) == 0 && S_ISREG(info.st_mode) && !ends_with(path, ".gz"))
    descriptor = open(path, O_RDONLY | O_CLOEXEC);
  bool plain = descriptor >= 0 && fstat(descriptor, &info) == 0 &&
               pread(descriptor, magic, 2, 0) == 2 && !(magic[0] == '\x1f' && magic[1] == '\x8b');
  if (plain) {
    size = info.st_size;
    return;
  }
  if (descriptor >= 0) close(descriptor);
  descriptor = -1;
  bytes = read_file(path, what); // which says what is wrong
  size = int64_t(bytes.count);
}

InputFile::InputFile(InputFile &&other) noexcept
    : path(other.path), what(other.what), descriptor(other.descriptor),
      bytes(static_cast<Array<char> &&>(other.bytes)), size(other.size) {
  other.descriptor = -1;
}

InputFile::~InputFile() {
  if (descriptor >= 0) close(descriptor);
}

void InputFile::read(int64_t begin, void *to, size_t count) const {
  if (descriptor < 0) {
    memcpy(to, bytes.data + begin, count);
    return;
  }
  for (char *next = static_cast<char *>(to); count;) {
    ssize_t got = pread(descriptor, next, count, off_t(begin));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot read `%s` (%s): %s", path, what, strerror(errno));
    if (got == 0) fail("`%s`: truncated while it was read", path);
    next += got, begin += got, count -= size_t(got);
  }
}

bool is_flat_folder(const char *path) {
  DIR *directory = opendir(path);
  if (!directory) return false;
  bool flat = true;
  while (const dirent *entry = readdir(directory)) {
    struct stat info;
    if (entry->d_name[0] != '.' && stat(text("%s/%s", path, entry->d_name), &info) == 0)
      flat = flat && !S_ISDIR(info.st_mode);
  }
  closedir(directory);
  return flat;
}

// Removes the `PATH.tmp-PID` of processes that are no more. What was written within a minute stays:
// it may be that of a process on another machine with the same disk.
static void remove_leftovers(const char *path) {
  const char *slash = strrchr(path, '/');
  const char *folder = slash ? text_copy(path, size_t(slash - path) + 1) : "./";
  const char *beginning = text("%s.tmp-", slash ? slash + 1 : path);
  size_t length = strlen(beginning);
  DIR *directory = opendir(folder);
  if (!directory) return; // creating the file will say why
  while (const dirent *entry = readdir(directory)) {
    if (strncmp(entry->d_name, beginning, length) != 0) continue;
    char *stop;
    const long process = strtol(entry->d_name + length, &stop, 10);
    if (process <= 0 || process > INT_MAX || *stop || stop == entry->d_name + length) continue;
    if (kill(pid_t(process), 0) == 0 || errno != ESRCH) continue;
    const char *left = text("%s%s", folder, entry->d_name);
    struct stat info;
    if (stat(left, &info) == 0 && time(nullptr) - info.st_mtime > 60) unlink(left);
  }
  closedir(directory);
}

OutputFile begin_file(const char *path) {
  remove_leftovers(path);
  OutputFile file{path, text("%s.tmp-%d", path, int(getpid())), nullptr};
  file.stream = fopen(file.temporary, "we");
  if (!file.stream) fail("cannot write `%s`: %s", path, strerror(errno));
  return file;
}

static void abandon(OutputFile &file) {
  int code = errno;
  unlink(file.temporary);
  fail("cannot write `%s`: %s", file.path, strerror(code));
}

void write_bytes(OutputFile &file, const void *bytes, size_t count) {
  if (fwrite(bytes, 1, count, file.stream) != count) abandon(file);
}

void finish_file(OutputFile &file) {
  if (fflush(file.stream) != 0 || fsync(fileno(file.stream)) != 0) abandon(file);
  if (fclose(file.stream) != 0 || rename(file.temporary, file.path) != 0) abandon(file);
}

void check_writable(const char *path) {
  struct stat info;
  if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
    fail("cannot write `%s`: it is a directory", path);
  OutputFile file = begin_file(path);
  fclose(file.stream);
  unlink(file.temporary);
}

} // namespace rt
