// The protocol: JSON-RPC 2.0 in frames, documents as the editor has them, one answer per request.
//
// Messages that change a document only mark it. It is compiled when nothing more has come in for a
// moment, or when a question about it has, so that fast typing costs nothing. Whatever comes in,
// the server answers what must be answered and goes on: bad frames are skipped, bad JSON and bad
// parameters are errors of the protocol.
#include "frontend/lsp.h"

#include "frontend/lsp_features.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <map>
#include <poll.h>
#include <unistd.h>

namespace nnc::fe {

namespace lsp {

namespace {

constexpr int kQuietMs = 60;              // typing that stops this long is looked at
constexpr size_t kMaxMessage = 64u << 20; // longer ones are skipped
constexpr size_t kMaxHeader = 1u << 16;

// Error codes of the protocol.
enum {
  ParseError = -32700,
  InvalidRequest = -32600,
  MethodNotFound = -32601,
  InvalidParams = -32602,
  InternalError = -32603,
  NotInitialized = -32002,
  RequestFailed = -32803,
};

/// Frames from a file descriptor.
class Input {
 public:
  explicit Input(int fd) : fd_(fd) {}

  enum class Got { Message, Broken, Nothing, End };
  /// The next message; waits at most `ms` (-1: without limit) for its beginning.
  Got next(std::string &message, int ms) {
    for (;;) {
      Got got = take(message);
      if (got != Got::Nothing) return got;
      if (ended_) return Got::End;
      struct pollfd p {
        fd_, POLLIN, 0
      };
      int ready = poll(&p, 1, ms);
      if (ready < 0 && errno == EINTR) continue;
      if (ready == 0) return Got::Nothing;
      char buffer[1 << 16];
      ssize_t n = read(fd_, buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        ended_ = true;
        continue;
      }
      buffer_.append(buffer, size_t(n));
    }
  }

 private:
  int fd_;
  std::string buffer_;
  size_t skip_ = 0; // bytes of a message that is too long
  bool ended_ = false;

  Got take(std::string &message) {
    if (skip_ > 0) {
      size_t n = std::min(skip_, buffer_.size());
      buffer_.erase(0, n);
      skip_ -= n;
      if (skip_ > 0) return Got::Nothing;
    }
    size_t end = buffer_.find("\r\n\r\n"), after = end + 4;
    if (size_t bare = buffer_.find("\n\n"); bare < end) end = bare, after = bare + 2;
    if (end == buffer_.npos) {
      if (buffer_.size() <= kMaxHeader) return Got::Nothing;
      buffer_.clear();
      return Got::Broken;
    }
    size_t length = 0;
    bool known = contentLength(buffer_.substr(0, end), length);
    if (!known) {
      buffer_.erase(0, after);
      return Got::Broken;
    }
    if (length > kMaxMessage) {
      buffer_.erase(0, after);
      skip_ = length;
      return Got::Broken;
    }
    if (buffer_.size() - after < length) return Got::Nothing;
    message = buffer_.substr(after, length);
    buffer_.erase(0, after + length);
    return Got::Message;
  }

  static bool contentLength(const std::string &header, size_t &length) {
    const char *name = "content-length:";
    for (size_t at = 0; at < header.size();) {
      size_t end = std::min(header.find('\n', at), header.size());
      std::string line = header.substr(at, end - at);
      at = end + 1;
      if (strncasecmp(line.c_str(), name, strlen(name)) != 0) continue;
      size_t i = line.find_first_not_of(" \t", strlen(name)), digits = 0;
      length = 0;
      for (; i < line.size() && isdigit((unsigned char)line[i]) && digits < 12; ++i, ++digits)
        length = length * 10 + size_t(line[i] - '0');
      return digits > 0;
    }
    return false;
  }
};

/// A request that cannot be answered as asked.
struct Failure {
  int code;
  std::string message;
};

class Server {
 public:
  Server(int in, int out, std::string version)
      : input_(in), out_(out), version_(std::move(version)) {}

  int run() {
    std::string message;
    while (!exit_) {
      switch (input_.next(message, anyDirty() ? kQuietMs : -1)) {
      case Input::Got::Message: receive(message); break;
      case Input::Got::Broken:
        fail(nullptr, {ParseError, "a message without a valid Content-Length"});
        break;
      case Input::Got::Nothing: publishDirty(); break;
      case Input::Got::End: return shutdown_ ? 0 : 1;
      }
      if (broken_) return 1;
    }
    return shutdown_ ? 0 : 1;
  }

 private:
  Input input_;
  int out_;
  std::string version_;
  bool initialized_ = false, shutdown_ = false, exit_ = false, broken_ = false;
  std::map<std::string, Document> documents_;

  // --- sending

  void send(const json &message) {
    std::string body = message.dump(-1, ' ', false, json::error_handler_t::replace);
    std::string frame = "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    for (size_t at = 0; at < frame.size();) {
      ssize_t n = write(out_, frame.data() + at, frame.size() - at);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        broken_ = true;
        return;
      }
      at += size_t(n);
    }
  }
  void answer(const json &id, json result) {
    send({{"jsonrpc", "2.0"}, {"id", id}, {"result", std::move(result)}});
  }
  void fail(const json &id, const Failure &f) {
    send({{"jsonrpc", "2.0"}, {"id", id}, {"error", {{"code", f.code}, {"message", f.message}}}});
  }
  void notify(const char *method, json params) {
    send({{"jsonrpc", "2.0"}, {"method", method}, {"params", std::move(params)}});
  }

  // --- receiving

  void receive(const std::string &text) {
    json message = json::parse(text, nullptr, false);
    if (message.is_discarded()) return fail(nullptr, {ParseError, "the message is not JSON"});
    if (!message.is_object())
      return fail(nullptr, {InvalidRequest, "the message is not a request"});
    json id = message.contains("id") ? message["id"] : json();
    bool isRequest = message.contains("id");
    if (!message.contains("method") || !message["method"].is_string()) {
      // An answer to us needs none.
      if (message.contains("result") || message.contains("error")) return;
      return fail(id, {InvalidRequest, "the message has no method"});
    }
    std::string method = message["method"];
    json params = message.contains("params") ? message["params"] : json::object();
    try {
      json result;
      if (isRequest) {
        result = request(method, params);
        answer(id, std::move(result));
      } else {
        notification(method, params);
      }
    } catch (const Failure &f) {
      if (isRequest) fail(id, f);
    } catch (const json::exception &e) {
      if (isRequest)
        fail(id, {InvalidParams, std::string("bad parameters of ") + method + ": " + e.what()});
    } catch (const std::exception &e) {
      if (isRequest) fail(id, {InternalError, e.what()});
    }
  }

  Document &document(const json &params) {
    std::string uri = params.at("textDocument").at("uri");
    auto it = documents_.find(uri);
    if (it == documents_.end()) throw Failure{InvalidParams, "`" + uri + "` is not open"};
    // An answer about a text comes after the messages about it.
    publish(it->second);
    return it->second;
  }

  json request(const std::string &method, const json &params) {
    if (method == "initialize") return initialize();
    if (!initialized_) throw Failure{NotInitialized, "`initialize` comes first"};
    if (shutdown_) throw Failure{InvalidRequest, "the server was shut down"};
    if (method == "shutdown") {
      shutdown_ = true;
      return nullptr;
    }
    auto place = [&] { return placeOf(params.at("position")); };
    if (method == "textDocument/hover") return document(params).hover(place());
    if (method == "textDocument/completion") return document(params).completion(place());
    if (method == "textDocument/signatureHelp") return document(params).signatureHelp(place());
    if (method == "textDocument/definition") return document(params).definition(place());
    if (method == "textDocument/references") return document(params).references(place());
    if (method == "textDocument/documentHighlight") return document(params).highlights(place());
    if (method == "textDocument/documentSymbol") return document(params).symbols();
    if (method == "textDocument/prepareRename") return document(params).prepareRename(place());
    if (method == "textDocument/inlayHint") {
      const json &range = params.at("range");
      return document(params).inlayHints(placeOf(range.at("start")), placeOf(range.at("end")));
    }
    std::string error;
    if (method == "textDocument/rename") {
      auto edits = document(params).rename(place(), params.at("newName").get<std::string>(), error);
      if (!edits) throw Failure{RequestFailed, error};
      return *edits;
    }
    if (method == "textDocument/formatting") {
      auto edits = document(params).formatting(error);
      return edits ? *edits : json(); // its mistakes are shown already
    }
    throw Failure{MethodNotFound, "unknown method `" + method + "`"};
  }

  json initialize() {
    initialized_ = true;
    json sync = {{"openClose", true}, {"change", 2}, {"save", true}};
    json capabilities = {
        {"textDocumentSync", sync},
        {"hoverProvider", true},
        {"inlayHintProvider", true},
        {"completionProvider", {{"triggerCharacters", {"(", ",", ".", "\"", "="}}}},
        {"signatureHelpProvider", {{"triggerCharacters", {"(", ","}}}},
        {"definitionProvider", true},
        {"referencesProvider", true},
        {"documentHighlightProvider", true},
        {"documentSymbolProvider", true},
        {"renameProvider", {{"prepareProvider", true}}},
        {"documentFormattingProvider", true}};
    return {{"capabilities", capabilities},
            {"serverInfo", {{"name", "nnc"}, {"version", version_}}}};
  }

  void notification(const std::string &method, const json &params) {
    if (method == "exit") {
      exit_ = true;
      return;
    }
    if (!initialized_ || shutdown_) return;
    if (method == "textDocument/didOpen") {
      const json &d = params.at("textDocument");
      std::string uri = d.at("uri");
      documents_.erase(uri);
      auto it = documents_.emplace(uri, Document(uri, d.at("text").get<std::string>())).first;
      it->second.version = version(d);
    } else if (method == "textDocument/didChange") {
      auto it = documents_.find(params.at("textDocument").at("uri").get<std::string>());
      if (it == documents_.end()) return;
      it->second.dirty = true; // whatever the changes are, the editor goes on from them
      it->second.version = version(params.at("textDocument"));
      it->second.change(params.at("contentChanges"));
    } else if (method == "textDocument/didSave") {
      // Others may import it.
      for (auto &[uri, d] : documents_) d.dirty = true;
    } else if (method == "textDocument/didClose") {
      std::string uri = params.at("textDocument").at("uri");
      if (documents_.erase(uri))
        notify("textDocument/publishDiagnostics", {{"uri", uri}, {"diagnostics", json::array()}});
    }
  }

  static int64_t version(const json &document) {
    return document.contains("version") && document["version"].is_number_integer()
               ? document["version"].get<int64_t>()
               : 0;
  }

  // --- messages about documents

  bool anyDirty() const {
    for (auto &[uri, d] : documents_)
      if (d.dirty) return true;
    return false;
  }
  void publishDirty() {
    for (auto &[uri, d] : documents_)
      if (d.dirty) return publish(d); // then look what has come in
  }
  void publish(Document &d) {
    if (!d.dirty) return;
    d.update();
    notify("textDocument/publishDiagnostics",
           {{"uri", d.uri()}, {"version", d.version}, {"diagnostics", d.diagnostics()}});
  }
};

} // namespace

} // namespace lsp

int serveLsp(int in, int out, const std::string &version) {
  std::signal(SIGPIPE, SIG_IGN); // an editor that is gone ends the server by the end of its input
  return lsp::Server(in, out, version).run();
}

} // namespace nnc::fe
