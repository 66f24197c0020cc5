// Reading and writing files for the `nnc` command.
//
// An output appears whole or not at all: it is written under another name in its directory, synced
// and renamed. Standard output and other things that are no regular file (/dev/null, a pipe) are
// written directly.
#include "frontend/driver.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace nnc::fe {

namespace {

std::string reason() { return std::strerror(errno); }

bool writeAll(int fd, const std::string &bytes) {
  for (size_t at = 0; at < bytes.size();) {
    ssize_t n = write(fd, bytes.data() + at, bytes.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += size_t(n);
  }
  return true;
}

std::string failure(const std::string &path) { return "cannot write `" + path + "`: " + reason(); }

std::string writeDirectly(int fd, const std::string &path, const std::string &bytes, bool owned) {
  if (fd < 0) return failure(path);
  bool ok = writeAll(fd, bytes);
  std::string error = ok ? "" : failure(path);
  if (owned) close(fd);
  return error;
}

} // namespace

std::optional<std::string> readInput(const std::string &path, std::string &error) {
  int fd = path == "-" ? 0 : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string bytes;
  ssize_t n = fd < 0 ? -1 : 0;
  char buffer[1 << 16];
  while (fd >= 0 && (n = read(fd, buffer, sizeof buffer)) != 0) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    bytes.append(buffer, size_t(n));
  }
  if (n < 0) error = "cannot read `" + path + "`: " + reason();
  if (fd > 0) close(fd);
  if (n < 0) return std::nullopt;
  return bytes;
}

std::string obstacle(const std::string &path, bool object) {
  struct stat s;
  if (stat(path.c_str(), &s) != 0) return "";
  if (S_ISDIR(s.st_mode)) return "a directory";
  unsigned char header[18] = {};
  int fd = S_ISREG(s.st_mode) ? open(path.c_str(), O_RDONLY | O_CLOEXEC) : -1;
  bool read = fd >= 0 && pread(fd, header, sizeof header, 0) == ssize_t(sizeof header);
  if (fd >= 0) close(fd);
  int type = header[EI_DATA] == ELFDATA2LSB ? header[16] | header[17] << 8 : ET_NONE;
  bool known = object ? type == ET_REL : type == ET_EXEC || type == ET_DYN;
  if (read && std::memcmp(header, ELFMAG, SELFMAG) == 0 && known) return "";
  return object ? "not an object file" : "not a program";
}

std::string writeOutput(const std::string &path, const std::string &bytes, bool keepMode) {
  if (path == "-") return writeDirectly(1, "standard output", bytes, false);
  struct stat s;
  bool exists = stat(path.c_str(), &s) == 0;
  if (exists && !S_ISREG(s.st_mode)) {
    if (S_ISDIR(s.st_mode)) return "cannot write `" + path + "`: it is a directory";
    return writeDirectly(open(path.c_str(), O_WRONLY | O_CLOEXEC), path, bytes, true);
  }
  std::string target = path;
  if (char *real = realpath(path.c_str(), nullptr)) target = real, std::free(real); // through links
  std::string temporary = target + ".nnc-XXXXXX";
  int fd = mkstemp(temporary.data());
  if (fd < 0) return failure(path);
  mode_t mask = umask(0);
  umask(mask);
  mode_t mode = keepMode && exists ? s.st_mode & 07777 : 0666 & ~mask;
  bool ok = writeAll(fd, bytes) && fchmod(fd, mode) == 0 && fsync(fd) == 0;
  close(fd);
  if (ok && rename(temporary.c_str(), target.c_str()) == 0) return "";
  std::string error = failure(path);
  unlink(temporary.c_str());
  return error;
}

} // namespace nnc::fe
