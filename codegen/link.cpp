// Linking in process.
//
// Problem. `nnc model.nn` must leave an executable on a machine without compiler and linker, in a
// few milliseconds, and never a half-written one.
//
// Method. lld is a library. The bundle beside the running nnc holds what a C compiler would link
// (runtime archive, libc, start files) and link.txt, the linker's arguments one a line, made with
// the bundle:
//   -static  -o @OUTPUT@  @BUNDLE@/crt1.o  @OBJECT@  @BUNDLE@/libnncrt.a ..
// Objects reach lld as anonymous memory files. The result is written under another name in the
// directory of the output, synced and renamed.
#include <lld/Common/Driver.h>
#include <llvm/Support/raw_ostream.h>

#include "codegen/codegen.h"
#include "codegen/objects.h"
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

LLD_HAS_DRIVER(elf)

namespace nnc::cg {

namespace {

std::string reason() { return std::strerror(errno); }

// --- files ---------------------------------------------------------------------------------------

struct Fd {
  int fd = -1;
  explicit Fd(int fd) : fd(fd) {}
  Fd(Fd &&o) noexcept : fd(o.fd) { o.fd = -1; }
  Fd(const Fd &) = delete;
  ~Fd() {
    if (fd >= 0) close(fd);
  }
};

bool writeAll(int fd, const std::string &bytes) {
  for (size_t at = 0; at < bytes.size();) {
    ssize_t n = write(fd, bytes.data() + at, bytes.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += size_t(n);
  }
  return true;
}

// A file in memory and the path under which lld can open it.
struct MemoryFile {
  Fd file;
  explicit MemoryFile(const std::string &bytes) : file(memfd_create("object", MFD_CLOEXEC)) {
    ok = file.fd >= 0 && writeAll(file.fd, bytes);
  }
  bool ok = false;
  std::string path() const { return "/proc/self/fd/" + std::to_string(file.fd); }
};

bool readFile(const std::string &path, std::string &bytes) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream all;
  all << in.rdbuf();
  bytes = std::move(all).str();
  return in.good();
}

bool isDirectory(const std::string &path) {
  struct stat s;
  return stat(path.c_str(), &s) == 0 && S_ISDIR(s.st_mode);
}

std::string directoryOf(const std::string &path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// A new, empty file in a directory; empty if it cannot be made.
std::string freshFile(const std::string &directory) {
  std::string path = directory + "/.nnc-XXXXXX";
  Fd file(mkstemp(path.data()));
  return file.fd < 0 ? "" : path;
}

struct Removed {
  std::string path;
  ~Removed() {
    if (!path.empty()) unlink(path.c_str());
  }
};

// --- lld -----------------------------------------------------------------------------------------

std::string runLld(const std::vector<std::string> &arguments) {
  std::vector<const char *> argv;
  for (const std::string &a : arguments) argv.push_back(a.c_str());
  std::string messages, ignored;
  llvm::raw_string_ostream errors(messages), output(ignored);
  lld::Result r = lld::lldMain(argv, output, errors, {{lld::Gnu, &lld::elf::link}});
  if (r.retCode == 0) return "";
  while (!messages.empty() && messages.back() == '\n') messages.pop_back();
  return "linking failed: " + (messages.empty() ? "no message" : messages);
}

// The linker's name of the kind of file.
const char *emulation(Arch a) { return a == Arch::AArch64 ? "aarch64linux" : "elf_x86_64"; }

std::string bundleBesideNnc(const std::string &triple) {
  char exe[PATH_MAX];
  ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
  if (n <= 0) return "";
  std::string directory = directoryOf(std::string(exe, size_t(n)));
  for (const char *place : {"/lib/nnc/", "/../lib/nnc/"})
    if (isDirectory(directory + place + triple)) return directory + place + triple;
  return "";
}

void replaceAll(std::string &s, const std::string &what, const std::string &by) {
  for (size_t at = 0; (at = s.find(what, at)) != std::string::npos; at += by.size())
    s.replace(at, what.size(), by);
}

std::string linkArguments(const std::string &bundle, const std::string &object,
                          const std::string &output, std::vector<std::string> &arguments) {
  std::ifstream in(bundle + "/link.txt");
  for (std::string line; std::getline(in, line);) {
    if (line.empty()) continue;
    replaceAll(line, "@BUNDLE@", bundle);
    replaceAll(line, "@OBJECT@", object);
    replaceAll(line, "@OUTPUT@", output);
    arguments.push_back(line);
  }
  if (arguments.size() < 2)
    return "the runtime bundle is damaged: cannot read `" + bundle + "/link.txt`";
  return "";
}

// Moves the finished file into place.
std::string finish(const std::string &temporary, const std::string &output) {
  Fd file(open(temporary.c_str(), O_RDONLY | O_CLOEXEC));
  mode_t mask = umask(0);
  umask(mask);
  if (file.fd < 0 || fchmod(file.fd, 0777 & ~mask) != 0 || fsync(file.fd) != 0 ||
      rename(temporary.c_str(), output.c_str()) != 0)
    return "cannot write `" + output + "`: " + reason();
  Fd directory(open(directoryOf(output).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.fd >= 0) fsync(directory.fd);
  return "";
}

} // namespace

std::string mergeObjects(const std::vector<std::string> &objects, Arch arch, std::string &merged) {
  if (objects.size() == 1) {
    merged = objects[0];
    return "";
  }
  const char *tmp = std::getenv("TMPDIR");
  std::string directory = tmp && *tmp ? tmp : "/tmp";
  Removed output{freshFile(directory)};
  if (output.path.empty()) return "cannot write into `" + directory + "`: " + reason();
  std::vector<MemoryFile> files;
  files.reserve(objects.size());
  std::vector<std::string> arguments = {"ld.lld", "-r", "-m", emulation(arch), "-o", output.path};
  for (const std::string &o : objects) {
    files.emplace_back(o);
    if (!files.back().ok) return "no memory for an object file: " + reason();
    arguments.push_back(files.back().path());
  }
  if (std::string e = runLld(arguments); !e.empty()) return e;
  return readFile(output.path, merged) ? "" : "cannot read `" + output.path + "`: " + reason();
}

int64_t codeBytesOf(const std::string &object) {
  Elf64_Ehdr header;
  NNC_CHECK(object.size() >= sizeof header, "no object file");
  std::memcpy(&header, object.data(), sizeof header);
  int64_t bytes = 0;
  for (int i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, object.data() + header.e_shoff + size_t(i) * sizeof section,
                sizeof section);
    if (section.sh_flags & SHF_EXECINSTR) bytes += int64_t(section.sh_size);
  }
  return bytes;
}

std::string link(const std::string &object, const std::string &output, const Target &target,
                 const std::string &bundle) {
  std::string from = bundle.empty() ? bundleBesideNnc(target.triple) : bundle, to = output;
  if (from.empty())
    return "the runtime bundle `lib/nnc/" + target.triple + "` is not beside nnc" +
           (target.arch == Arch::X86_64 ? "" : ": this nnc was built without it");
  if (isDirectory(output)) return "cannot write `" + output + "`: it is a directory";
  struct stat s;
  if (stat(output.c_str(), &s) == 0 && !S_ISREG(s.st_mode))
    return "cannot write `" + output + "`: it is not a regular file";
  if (char *real = realpath(output.c_str(), nullptr))
    to = real, std::free(real); // through symbolic links

  Removed temporary{freshFile(directoryOf(to))};
  if (temporary.path.empty()) return "cannot write `" + output + "`: " + reason();
  MemoryFile file(object);
  if (!file.ok) return "no memory for the object file: " + reason();
  std::vector<std::string> arguments;
  std::string error = linkArguments(from, file.path(), temporary.path, arguments);
  if (error.empty()) error = runLld(arguments);
  if (error.empty()) error = finish(temporary.path, to);
  if (error.empty()) temporary.path.clear();
  return error;
}

} // namespace nnc::cg
