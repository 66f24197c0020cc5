// A directory of its own for a test that runs programs, gone when the test ends.
//
//   Workplace w;
//   w.write("m.nn", text);
//   w.must(NNC_BINARY_DIR "/nnc m.nn -o m");      // what it printed; the test fails if it failed
#pragma once
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <vector>

namespace nnc::test {

struct Outcome {
  int status;       // the exit status, or 128 + the signal
  std::string text; // stdout and stderr
};

struct Workplace {
  std::filesystem::path dir;

  Workplace() {
    std::string name = (std::filesystem::temp_directory_path() / "nnc-test-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()));
    dir = name;
  }
  ~Workplace() {
    std::error_code ignored;
    std::filesystem::remove_all(dir, ignored);
  }
  Workplace(const Workplace &) = delete;
  Workplace &operator=(const Workplace &) = delete;

  std::filesystem::path operator/(const std::string &name) const { return dir / name; }
  bool has(const std::string &name) const { return std::filesystem::exists(dir / name); }
  void write(const std::string &name, const std::string &bytes) const {
    std::filesystem::create_directories((dir / name).parent_path());
    std::ofstream(dir / name, std::ios::binary) << bytes;
  }
  std::string read(const std::string &name) const {
    std::ifstream in(dir / name, std::ios::binary);
    std::ostringstream all;
    all << in.rdbuf();
    return all.str();
  }

  /// Runs commands of the shell in the directory; `to`: where their output goes.
  int shell(const std::string &command, const char *to = "> .out 2>&1") const {
    const std::string line = "cd '" + dir.string() + "' && { " + command + "; } " + to;
    const int status = std::system(line.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  Outcome run(const std::string &command) const {
    const int status = shell(command);
    return {status, read(".out")};
  }
  /// The output of a command that must succeed, or must fail.
  std::string must(const std::string &command, bool fails = false) const {
    const Outcome o = run(command);
    INFO(command << "\n" << o.text);
    REQUIRE((o.status != 0) == fails);
    return o.text;
  }
};

/// An NPY file: `npyFile("<f4", "(2, 3)", values)`.
template <typename T>
std::string npyFile(const char *type, const std::string &shape, const std::vector<T> &values) {
  std::string header =
      std::string("{'descr': '") + type + "', 'fortran_order': False, 'shape': " + shape + ", }";
  while ((11 + header.size()) % 64) header += ' ';
  header += '\n';
  std::string bytes = "\x93NUMPY";
  bytes += {1, 0, char(header.size() & 255), char(header.size() >> 8)};
  return bytes + header +
         std::string(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T));
}

} // namespace nnc::test
