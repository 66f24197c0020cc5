// The child process elaborates, writes what it learned as JSON into a pipe and ends; the parent
// reads until the end of the pipe, and no longer than kSeconds.
#include "frontend/lsp_analysis.h"

#include "frontend/parse.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace nnc::fe::lsp {

using nlohmann::json;

namespace {

constexpr int kSeconds = 20;
constexpr size_t kMaxValues = 4;      // of one place
constexpr size_t kMaxShown = 200;     // characters of a value
constexpr size_t kMaxPlaces = 50'000; // of one document

class Places : public Recorder {
 public:
  explicit Places(uint32_t file) : file_(file) {}
  bool wants(Span span, What what) override {
    if (span.file != file_) return false;
    auto it = all_.find({span.begin, span.end, int(what)});
    return it == all_.end() ? all_.size() < kMaxPlaces : it->second.size() < kMaxValues;
  }
  void value(Span span, What what, const std::string &shown) override {
    auto &list = all_[{span.begin, span.end, int(what)}];
    std::string text = shown.substr(0, kMaxShown);
    if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(text);
  }
  json toJson() const {
    json out = json::array();
    for (auto &[key, values] : all_)
      out.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key), values});
    return out;
  }

 private:
  uint32_t file_;
  std::map<std::tuple<uint32_t, uint32_t, int>, std::vector<std::string>> all_;
};

json toJson(const Sources &sources, uint32_t file, const Diagnostic &d) {
  std::string text = d.message;
  json related = json::array();
  auto relate = [&](Span span, const std::string &what) {
    Position at = sources.position(span);
    bool here = span.file == file;
    related.push_back(
        {here ? "" : sources.name(span.file), span.begin, span.end, at.line, at.column, what});
  };
  for (const Diagnostic::Label &l : d.labels) {
    if (l.span.valid())
      relate(l.span, l.text);
    else
      text += "\nnote: " + l.text;
  }
  for (const std::string &n : d.notes) text += "\nnote: " + n;
  for (const std::string &h : d.helps) text += "\nhelp: " + h;
  Span span = d.span;
  if (span.valid() && span.file != file) {
    // A mistake of an imported file is shown at the beginning, with its place.
    relate(span, d.message);
    text = sources.describe(span) + ": " + text;
    span = {file, 0, 0};
  }
  return {d.severity == Severity::Error, info(d.kind).code,           text,
          span.valid() ? span.begin : 0, span.valid() ? span.end : 0, related};
}

std::string compile(const std::string &path, const std::string &text) {
  Sources sources;
  uint32_t file = sources.add(path, text);
  Diagnostics syntax(sources);
  parse(sources, file, syntax);
  Diagnostics diags(sources);
  Places places(file);
  ElaborateOptions options;
  options.declarationsOnly = options.everyModel = true;
  options.recorder = &places;
  elaborate(sources, file, diags, options);
  json messages = json::array();
  for (const Diagnostic *d : diags.sorted()) messages.push_back(toJson(sources, file, *d));
  json out = {
      {"messages", messages}, {"seen", places.toJson()}, {"elaborated", !syntax.hasErrors()}};
  return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// Syntax errors alone: when elaboration did not come back.
std::string parseOnly(const std::string &path, const std::string &text, const std::string &why) {
  Sources sources;
  uint32_t file = sources.add(path, text);
  Diagnostics diags(sources);
  parse(sources, file, diags);
  json messages = json::array();
  for (const Diagnostic *d : diags.sorted()) messages.push_back(toJson(sources, file, *d));
  if (!diags.hasErrors()) messages.push_back({false, "", why, 0, 0, json::array()});
  return json({{"messages", messages}, {"seen", json::array()}, {"elaborated", false}})
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

void writeAll(int fd, const std::string &bytes) {
  for (size_t at = 0; at < bytes.size();) {
    ssize_t n = write(fd, bytes.data() + at, bytes.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    at += size_t(n);
  }
}

/// What a child process computes; nothing if it fails or takes too long.
template <class F> std::string inChild(F f, bool &late) {
  late = false;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return "";
  pid_t child = fork();
  if (child < 0) {
    close(ends[0]);
    close(ends[1]);
    return "";
  }
  if (child == 0) {
    close(ends[0]);
    int null = open("/dev/null", O_RDWR); // nothing may disturb the protocol
    if (null >= 0) dup2(null, 0), dup2(null, 1), dup2(null, 2);
    struct rlimit none {
      0, 0
    };
    setrlimit(RLIMIT_CORE, &none);
    std::string out;
    try {
      out = f();
    } catch (...) {
      _exit(1);
    }
    writeAll(ends[1], out);
    _exit(0);
  }
  close(ends[1]);
  std::string out;
  char buffer[1 << 16];
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kSeconds);
  for (;;) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    struct pollfd p {
      ends[0], POLLIN, 0
    };
    int ready = left.count() > 0 ? poll(&p, 1, int(left.count())) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      late = true;
      kill(child, SIGKILL);
      break;
    }
    ssize_t n = read(ends[0], buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    out.append(buffer, size_t(n));
  }
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return !late && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? out : "";
}

} // namespace

Analysis analyse(const std::string &path, const std::string &text) {
  bool late = false;
  std::string answer = inChild([&] { return compile(path, text); }, late);
  if (answer.empty())
    answer = parseOnly(path, text,
                       late ? "the compiler takes too long for this file: no shapes, no messages"
                            : "the compiler failed on this file: no shapes, no messages");
  json j = json::parse(answer);
  Analysis out;
  out.elaborated = j["elaborated"];
  for (const json &m : j["messages"]) {
    Message message{m[0], m[1], m[2], m[3], m[4], {}};
    for (const json &r : m[5]) message.related.push_back({r[0], r[1], r[2], r[3], r[4], r[5]});
    out.messages.push_back(std::move(message));
  }
  for (const json &s : j["seen"])
    out.seen.push_back({Recorder::What(s[2].get<int>()), s[0], s[1], s[3]});
  return out;
}

} // namespace nnc::fe::lsp
