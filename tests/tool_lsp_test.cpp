// `nnc lsp` as an editor sees it: a client that starts the server, sends scripted messages and
// looks at what comes back; and a real editor, Neovim, where it is installed.
#include "tests/workplace.h"
#include <nlohmann/json.hpp>

#include <csignal>
#include <cstdlib>
#include <deque>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <random>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

namespace fs = std::filesystem;
using namespace nnc::test;
using Catch::Matchers::Contains;
using nlohmann::json;

namespace {

std::string readAll(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream all;
  all << in.rdbuf();
  return all.str();
}

class Client {
 public:
  Workplace work;

  explicit Client(bool initialize = true) {
    std::signal(SIGPIPE, SIG_IGN);
    int to[2], from[2];
    REQUIRE(pipe2(to, O_CLOEXEC) == 0);
    REQUIRE(pipe2(from, O_CLOEXEC) == 0);
    pid_ = fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      dup2(to[0], 0);
      dup2(from[1], 1);
      setenv("XDG_CACHE_HOME", work.dir.c_str(), 1);
      execl(NNC_BINARY_DIR "/nnc", "nnc", "lsp", nullptr);
      _exit(127);
    }
    close(to[0]);
    close(from[1]);
    in_ = to[1];
    out_ = from[0];
    if (!initialize) return;
    json result = request("initialize", {{"processId", nullptr}, {"capabilities", json::object()}});
    CHECK(result["capabilities"]["hoverProvider"] == true);
    notify("initialized", json::object());
  }
  ~Client() {
    if (pid_ > 0) finish();
  }

  void raw(const std::string &bytes) {
    for (size_t at = 0; at < bytes.size();) {
      ssize_t n = write(in_, bytes.data() + at, bytes.size() - at);
      if (n <= 0) return;
      at += size_t(n);
    }
  }
  void frame(const std::string &body) {
    raw("Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  void notify(const std::string &method, const json &params) {
    json m = {{"jsonrpc", "2.0"}, {"method", method}, {"params", params}};
    frame(m.dump(-1, ' ', false, json::error_handler_t::replace));
  }
  /// The whole answer: with `result` or `error`.
  json call(const std::string &method, const json &params) {
    int id = ++id_;
    frame(json({{"jsonrpc", "2.0"}, {"id", id}, {"method", method}, {"params", params}}).dump());
    for (;;) {
      json m = next();
      if (m.contains("id") && m["id"] == id) return m;
      if (m.contains("method")) notifications_.push_back(m);
    }
  }
  json request(const std::string &method, const json &params) {
    json m = call(method, params);
    INFO(m.dump(1));
    REQUIRE(m.contains("result"));
    return m["result"];
  }
  /// The next message of the server; fails after a while without one.
  json next() {
    for (;;) {
      size_t end = buffer_.find("\r\n\r\n");
      if (end != buffer_.npos) {
        REQUIRE(buffer_.rfind("Content-Length: ", 0) == 0);
        size_t length = std::stoul(buffer_.substr(16));
        if (buffer_.size() >= end + 4 + length) {
          json m = json::parse(buffer_.substr(end + 4, length));
          buffer_.erase(0, end + 4 + length);
          CHECK(m["jsonrpc"] == "2.0");
          return m;
        }
      }
      struct pollfd p {
        out_, POLLIN, 0
      };
      REQUIRE(poll(&p, 1, 60'000) > 0);
      char bytes[1 << 16];
      ssize_t n = read(out_, bytes, sizeof bytes);
      REQUIRE(n > 0); // the server is there
      buffer_.append(bytes, size_t(n));
    }
  }
  /// The next messages about a document.
  json diagnostics() {
    for (;;) {
      json m;
      if (!notifications_.empty()) {
        m = notifications_.front();
        notifications_.pop_front();
      } else {
        m = next();
      }
      if (m.value("method", "") == "textDocument/publishDiagnostics") return m["params"];
    }
  }

  std::string uri(const std::string &name = "m.nn") const {
    return "file://" + (work.dir / name).string();
  }
  void open(const std::string &text, const std::string &name = "m.nn") {
    text_ = text;
    version_ = 1;
    notify("textDocument/didOpen",
           {{"textDocument",
             {{"uri", uri(name)}, {"languageId", "nn"}, {"version", 1}, {"text", text}}}});
  }
  /// Replaces the whole text.
  void become(const std::string &text) {
    text_ = text;
    notify("textDocument/didChange", {{"textDocument", {{"uri", uri()}, {"version", ++version_}}},
                                      {"contentChanges", {{{"text", text}}}}});
  }
  /// Replaces `what` (once in the text) by `with`, as an editor does.
  void edit(const std::string &what, const std::string &with) {
    size_t at = text_.find(what);
    REQUIRE(at != text_.npos);
    json range = {{"start", placeAt(at)}, {"end", placeAt(at + what.size())}};
    text_.replace(at, what.size(), with);
    notify("textDocument/didChange", {{"textDocument", {{"uri", uri()}, {"version", ++version_}}},
                                      {"contentChanges", {{{"range", range}, {"text", with}}}}});
  }
  /// Places in ASCII texts.
  json placeAt(size_t offset) const {
    long line = std::count(text_.begin(), text_.begin() + long(offset), '\n');
    size_t begin = offset == 0 ? std::string::npos : text_.rfind('\n', offset - 1);
    return {{"line", line}, {"character", offset - (begin == std::string::npos ? 0 : begin + 1)}};
  }
  /// The place `|` marks in a piece of the text.
  json at(std::string piece) const {
    size_t bar = piece.find('^');
    REQUIRE(bar != piece.npos);
    piece.erase(bar, 1);
    size_t begin = text_.find(piece);
    INFO(piece);
    REQUIRE(begin != text_.npos);
    return {{"textDocument", {{"uri", uri()}}}, {"position", placeAt(begin + bar)}};
  }
  std::string hover(const std::string &piece) {
    json h = request("textDocument/hover", at(piece));
    return h.is_null() ? "" : h["contents"]["value"].get<std::string>();
  }
  std::vector<std::string> complete(const std::string &piece) {
    json list = request("textDocument/completion", at(piece));
    std::vector<std::pair<std::string, std::string>> items;
    for (const json &i : list["items"]) items.push_back({i["sortText"], i["label"]});
    std::sort(items.begin(), items.end());
    std::vector<std::string> labels;
    for (auto &[sort, label] : items) labels.push_back(label);
    return labels;
  }
  /// "line:column label" of every hint.
  std::vector<std::string> hints() {
    json place = {{"line", 0}, {"character", 0}}, end = {{"line", 100000}, {"character", 0}};
    json all = request("textDocument/inlayHint", {{"textDocument", {{"uri", uri()}}},
                                                  {"range", {{"start", place}, {"end", end}}}});
    std::vector<std::string> out;
    for (const json &h : all)
      out.push_back(std::to_string(h["position"]["line"].get<int>() + 1) + ":" +
                    std::to_string(h["position"]["character"].get<int>() + 1) + " " +
                    h["label"].get<std::string>());
    std::sort(out.begin(), out.end());
    return out;
  }
  /// The text after edits of the protocol.
  std::string edited(json edits) const {
    std::string out = text_;
    auto offset = [&](const json &p) {
      size_t at = 0;
      for (int line = p["line"]; line > 0 && at != out.npos; --line) {
        at = out.find('\n', at);
        if (at == out.npos) return out.size();
        ++at;
      }
      return std::min(out.size(), at + p["character"].get<size_t>());
    };
    std::vector<std::tuple<size_t, size_t, std::string>> list;
    for (const json &e : edits)
      list.push_back({offset(e["range"]["start"]), offset(e["range"]["end"]), e["newText"]});
    std::sort(list.rbegin(), list.rend());
    for (auto &[begin, end, with] : list) out.replace(begin, end - begin, with);
    return out;
  }
  const std::string &text() const { return text_; }
  /// Ends the server; its exit code, 128 and more for a signal.
  int finish() {
    close(in_);
    int status = 0;
    waitpid(pid_, &status, 0);
    close(out_);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
  int in_ = -1, out_ = -1, id_ = 0, version_ = 1;
  std::string buffer_, text_;
  std::deque<json> notifications_;
};

bool has(const std::vector<std::string> &list, const std::string &what) {
  return std::find(list.begin(), list.end(), what) != list.end();
}

const char *const kModel = R"(import "parts.nn"

## A block of two.
layer Block(units: int, activation: fn = relu)(x: [..lead, n]) -> [..lead, units] {
  y = x |> Dense(units)
  activation(y)
}

model Net(image: u8[batch, 28, 28]) -> [batch, 10] {
  x = image |> Rescaling(1 / 255) |> Flatten()
  x
    |> Block(300)
    |> Dense(100, activation = relu)
    |> relu  # again
    |> Dense(10)
}

train Net {
  data       = idx(image = "a.gz", target = "b.gz")
  loss       = SparseCategoricalCrossentropy(from_logits = true)
  optimizer  = Adam(1e-3)
  batch_size = 32
}
)";

void openModel(Client &c) {
  std::ofstream(c.work.dir / "parts.nn") << "## Doubles.\nfn twice(x) = 2 * x\n";
  c.open(kModel);
  json d = c.diagnostics();
  INFO(d.dump(1));
  CHECK(d["diagnostics"].empty());
}

} // namespace

TEST_CASE("lsp: beginning and end", "[tool][lsp]") {
  Client c(false);
  CHECK(c.call("textDocument/hover", json::object())["error"]["code"] == -32002);
  json result = c.request("initialize", {{"capabilities", json::object()}});
  const json &can = result["capabilities"];
  CHECK(can["textDocumentSync"]["change"] == 2);
  for (const char *what : {"hoverProvider", "inlayHintProvider", "completionProvider",
                           "renameProvider", "definitionProvider", "documentFormattingProvider"})
    CHECK(can.contains(what));
  CHECK(result["serverInfo"]["name"] == "nnc");
  CHECK(c.call("no/such", json::object())["error"]["code"] == -32601);
  CHECK(c.request("shutdown", json::object()).is_null());
  CHECK(c.call("textDocument/hover", json::object())["error"]["code"] == -32600);
  c.notify("exit", json::object());
  CHECK(c.finish() == 0);

  Client early;
  early.notify("exit", json::object());
  CHECK(early.finish() == 1);
}

TEST_CASE("lsp: messages as one types", "[tool][lsp]") {
  Client c;
  openModel(c);
  c.edit("Dense(100,", "Dens(100,");
  json d = c.diagnostics();
  CHECK(d["uri"] == c.uri());
  CHECK(d["version"] == 2);
  REQUIRE(d["diagnostics"].size() == 1);
  json m = d["diagnostics"][0];
  CHECK(m["range"]["start"] == json({{"line", 12}, {"character", 7}}));
  CHECK(m["range"]["end"] == json({{"line", 12}, {"character", 11}}));
  CHECK(m["severity"] == 1);
  CHECK(m["code"] == "NN0201");
  CHECK_THAT(m["message"].get<std::string>(),
             Contains("unknown name `Dens`") && Contains("did you mean `Dense`?"));

  c.edit("Dens(100, activation = relu)",
         "Dense(100, activation = "); // incomplete: a bracket is open
  d = c.diagnostics();
  REQUIRE(d["diagnostics"].size() >= 1);
  CHECK(d["diagnostics"][0]["code"].get<std::string>().substr(0, 4) == "NN01");

  c.edit("Dense(100, activation = ", "Dense(100, activation = tanh)");
  CHECK(c.diagnostics()["diagnostics"].empty());

  // The sizes that disagree, with the other place involved.
  c.edit("-> [batch, 10] {", "-> [batch, 11] {");
  d = c.diagnostics();
  REQUIRE(d["diagnostics"].size() == 1);

  c.notify("textDocument/didClose", {{"textDocument", {{"uri", c.uri()}}}});
  CHECK(c.diagnostics()["diagnostics"].empty());
}

TEST_CASE("lsp: a mistake in an imported file is shown where it is imported", "[tool][lsp]") {
  Client c;
  std::ofstream(c.work.dir / "bad.nn") << "fn f(x) = = 1\n";
  c.open("import \"bad.nn\"\nmodel M(x: [batch, 2]) { x }\n");
  json d = c.diagnostics()["diagnostics"];
  REQUIRE(d.size() == 1);
  CHECK_THAT(d[0]["message"].get<std::string>(), Contains("bad.nn:1:"));
  CHECK(d[0]["relatedInformation"][0]["location"]["uri"] == c.uri("bad.nn"));
  // Saving what is imported looks again.
  std::ofstream(c.work.dir / "bad.nn") << "fn f(x) = 1\n";
  c.notify("textDocument/didSave", {{"textDocument", {{"uri", c.uri()}}}});
  CHECK(c.diagnostics()["diagnostics"].empty());
}

TEST_CASE("lsp: hover", "[tool][lsp]") {
  Client c;
  openModel(c);
  CHECK_THAT(c.hover("|> De^nse(100"), Contains("layer Dense(units: int") &&
                                           Contains("Fully connected") &&
                                           Contains("gives `f32[batch, 100]`"));
  CHECK_THAT(c.hover("|> Bl^ock(300)"), Contains("layer Block(units: int") &&
                                            Contains("A block of two.") &&
                                            Contains("gives `f32[batch, 300]`"));
  CHECK_THAT(c.hover("^x = image"), Contains("x: f32[batch, 784]"));
  CHECK_THAT(c.hover("x = ima^ge |>"),
             Contains("image: u8[batch, 28, 28]") && Contains("parameter"));
  CHECK_THAT(c.hover("Dense(100, activ^ation"),
             Contains("activation: fn = linear") && Contains("argument of `Dense`"));
  CHECK_THAT(c.hover("bat^ch_size = 32"), Contains("32 if not given"));
  CHECK_THAT(c.hover("Block(uni^ts: int"), Contains("units: 300"));
  CHECK_THAT(c.hover("A^dam(1e-3)"), Contains("optimizer Adam("));
  CHECK_THAT(c.hover("|> re^lu  # again"),
             Contains("fn relu(") && Contains("gives `f32[batch, 100]`"));
  CHECK(c.hover("## A bl^ock") == "");
  CHECK(c.hover("\n^\nmodel Net") == "");

  // An incomplete line takes nothing from the others.
  c.edit("|> Dense(10)\n", "|> Dense(10,\n");
  CHECK_THAT(c.hover("^x = image"), Contains("x: f32[batch, 784]"));
  CHECK_THAT(c.hover("|> De^nse(100"), Contains("gives `f32[batch, 100]`"));
}

TEST_CASE("lsp: shapes behind lines", "[tool][lsp]") {
  Client c;
  openModel(c);
  std::vector<std::string> expected = {"10:4 : f32[batch, 784]",  "11:4 : f32[batch, 784]",
                                       "12:18 : f32[batch, 300]", "13:37 : f32[batch, 100]",
                                       "14:12 : f32[batch, 100]", "15:17 : f32[batch, 10]",
                                       "5:4 : f32[batch, 300]",   "6:16 : f32[batch, 300]"};
  CHECK(c.hints() == expected);
  c.edit("Block(300)", "Block(30)");
  CHECK(has(c.hints(), "12:17 : f32[batch, 30]"));
  // What was known stays while a line is incomplete, at its new place.
  c.edit("Block(30)", "Block(30\n");
  CHECK(has(c.hints(), "14:37 : f32[batch, 100]"));
  c.open("fn f(x, n: int) {\n  y = x |> Dense(n)\n  y\n}\n"
         "model M(x: [batch, 2]) {\n  x = f(x, 3)\n  f(x, 4)\n}\n");
  CHECK(has(c.hints(), "2:4 : f32[batch, 3] | f32[batch, 4]"));
}

TEST_CASE("lsp: completion", "[tool][lsp]") {
  Client c;
  openModel(c);
  auto names = c.complete("|> Block^(300)");
  for (const char *n : {"Block", "Dense", "twice", "relu", "x", "image", "where"})
    CHECK(has(names, n));
  CHECK(!has(names, "batch_size")); // a key, not here
  CHECK(!has(names, "units"));      // of another scope
  auto inCall = c.complete("Dense(100, ^activation");
  REQUIRE(inCall.size() > 3);
  CHECK(has({inCall.begin(), inCall.begin() + 8}, "use_bias")); // arguments come first
  CHECK(has(inCall, "kernel_initializer"));
  CHECK(!has(inCall, "units")); // given by its place
  auto keys = c.complete("batch_^size = 32");
  CHECK(has(keys, "epochs"));
  CHECK(!has(keys, "data")); // is there
  CHECK(!has(keys, "Dense"));
  json item;
  json list = c.request("textDocument/completion", c.at("Dense(100, ^activation"));
  for (const json &i : list["items"])
    if (i["label"] == "use_bias") item = i;
  CHECK(item["detail"] == "use_bias: bool = true");
  CHECK(item["insertText"] == "use_bias = ");

  // While the text is incomplete.
  c.edit("|> Dense(10)\n", "|> Conv2D(10, padding = \n");
  auto values = c.complete("padding = ^");
  REQUIRE(values.size() > 2);
  CHECK(values[0] == "\"valid\"");
  CHECK(values[1] == "\"same\"");
  c.edit("padding = ", "padding = \"");
  CHECK(c.complete("padding = \"^") == std::vector<std::string>{"valid", "same"});
  c.edit("padding = \"", "strides = 2, ");
  auto rest = c.complete("strides = 2, ^");
  CHECK(has(rest, "padding"));
  CHECK(!has(rest, "strides"));
  CHECK(c.complete("# ag^ain").empty());
  c.become("mod");
  auto begin = c.complete("mod^");
  CHECK(begin[0] == "model");
  CHECK(has(begin, "train"));
  CHECK(!has(begin, "Dense"));
  c.become("import \"parts.nn\" as p\nmodel M(x: [batch, 1]) {\n  p.\n}\n");
  CHECK(c.complete("p.^\n") == std::vector<std::string>{"twice"});
}

TEST_CASE("lsp: the arguments of a call", "[tool][lsp]") {
  Client c;
  openModel(c);
  json s = c.request("textDocument/signatureHelp", c.at("Dense(100, activation = ^relu"));
  CHECK_THAT(s["signatures"][0]["label"].get<std::string>(),
             Contains("Dense(units: int, activation: fn = linear"));
  CHECK(s["activeParameter"] == 1);
  CHECK(c.request("textDocument/signatureHelp", c.at("Dense(1^00"))["activeParameter"] == 0);
  CHECK(c.request("textDocument/signatureHelp", c.at("^x = image")).is_null());
}

TEST_CASE("lsp: definitions", "[tool][lsp]") {
  Client c;
  openModel(c);
  auto at = [&](const std::string &piece) {
    return c.request("textDocument/definition", c.at(piece));
  };
  json block = at("|> Blo^ck(300)");
  CHECK(block["uri"] == c.uri());
  CHECK(block["range"]["start"] == json({{"line", 3}, {"character", 6}}));
  CHECK(at("x = ima^ge |>")["range"]["start"] == json({{"line", 8}, {"character", 10}}));

  json dense = at("|> Den^se(100");
  std::string path = dense["uri"].get<std::string>().substr(7);
  CHECK_THAT(path, Contains("layers_core.nn"));
  CHECK(readAll(path) == readAll(NNC_SOURCE_DIR "/frontend/std/layers_core.nn"));
  std::istringstream lines(readAll(path));
  std::string line;
  for (int i = 0; i <= dense["range"]["start"]["line"].get<int>(); ++i) std::getline(lines, line);
  CHECK(line.substr(dense["range"]["start"]["character"], 6) == "Dense(");

  json parts = at("import \"par^ts.nn\"");
  CHECK(parts["uri"] == c.uri("parts.nn"));
  c.edit("|> relu  # again", "|> twice");
  CHECK(at("|> twi^ce")["uri"] == c.uri("parts.nn"));
  CHECK(at("|> twi^ce")["range"]["start"] == json({{"line", 1}, {"character", 3}}));
  c.edit("import \"parts.nn\"", "import \"parts.nn\" as p");
  c.edit("|> twice", "|> p.twice");
  CHECK(at("|> p.twi^ce")["uri"] == c.uri("parts.nn"));
  CHECK(at("bat^ch_size = 32").is_null());
}

TEST_CASE("lsp: renaming by scope", "[tool][lsp]") {
  Client c;
  openModel(c);
  auto rename = [&](const std::string &piece, const std::string &to) {
    json p = c.at(piece);
    p["newName"] = to;
    return c.call("textDocument/rename", p);
  };
  auto becomes = [&](const std::string &piece, const std::string &to) {
    json r = rename(piece, to);
    INFO(r.dump(1));
    REQUIRE(r.contains("result"));
    return c.edited(r["result"]["changes"][c.uri()]);
  };
  // A declaration, a local name (and no other `x`), a parameter with its named argument in `train`.
  std::string text = becomes("layer Blo^ck", "Pair");
  CHECK_THAT(text, Contains("layer Pair(units") && Contains("|> Pair(300)") && Contains("A block"));
  text = becomes("^x = image", "flat");
  CHECK_THAT(text, Contains("flat = image |> Rescaling") && Contains("  flat\n    |> Block") &&
                       Contains("(x: [..lead, n])") && Contains("y = x |> Dense(units)"));
  text = becomes("Net(ima^ge: u8", "picture");
  CHECK_THAT(text, Contains("picture: u8[") && Contains("x = picture |>") &&
                       Contains("idx(picture = \"a.gz\""));
  text = becomes("[..le^ad, n]", "rest");
  CHECK_THAT(text, Contains("(x: [..rest, n]) -> [..rest, units]"));
  CHECK(c.request("textDocument/prepareRename", c.at("Blo^ck(300)"))["placeholder"] == "Block");
  CHECK(c.request("textDocument/prepareRename", c.at("Den^se(100")).is_null());

  auto refused = [&](const std::string &piece, const std::string &to, const std::string &why) {
    json r = rename(piece, to);
    INFO(r.dump(1));
    CHECK(r["error"]["code"] == -32803);
    CHECK_THAT(r["error"]["message"].get<std::string>(), Contains(why));
  };
  refused("^x = image", "2x", "not a name");
  refused("^x = image", "if", "not a name");
  refused("^x = image", "a b", "not a name");
  refused("^x = image", "", "not a name");
  refused("^x = image", "image", "something else");
  refused("^x = image", "Flatten", "another meaning");
  refused("^x = image", "batch", "meaning of its own");
  refused("Den^se(100", "Mine", "not defined in this file");
  // Other uses of the same letters are others'.
  c.open("fn f(x) = map(fn(y) = y * x, [y for y in x])\nfn g(y) { z = y\n  z <- y\n  z }\n");
  text = becomes("map(fn(^y)", "w");
  CHECK(text == "fn f(x) = map(fn(w) = w * x, [y for y in x])\nfn g(y) { z = y\n  z <- y\n  z }\n");
  text = becomes("fn f(^x)", "w");
  CHECK_THAT(text, Contains("fn f(w) = map(fn(y) = y * w, [y for y in w])"));
  c.open("fn f(x, by: float) = x * by\nfn g(x) = f(x, by = 2) + f(by = 1, x)\n");
  CHECK(becomes("x, ^by: float", "factor") ==
        "fn f(x, factor: float) = x * factor\nfn g(x) = f(x, factor = 2) + f(factor = 1, x)\n");
  c.open("fn f(x = = 1\n");
  refused("f^(x", "g", "syntax errors");
}

TEST_CASE("lsp: formatting, symbols and uses", "[tool][lsp]") {
  Client c;
  c.open("fn f( x )=x+1 # why\n\n\n\nfn g(x) = x\nmodel M( x:[batch,1] ) { x }\n");
  json edits = c.request("textDocument/formatting",
                         {{"textDocument", {{"uri", c.uri()}}}, {"options", json::object()}});
  REQUIRE(edits.size() == 1);
  CHECK(c.edited(edits) == "fn f(x) = x + 1  # why\n\nfn g(x) = x\nmodel M(x: [batch, 1]) { x }\n");
  c.become(c.edited(edits));
  CHECK(c.request("textDocument/formatting", {{"textDocument", {{"uri", c.uri()}}}}).empty());
  json symbols = c.request("textDocument/documentSymbol", {{"textDocument", {{"uri", c.uri()}}}});
  REQUIRE(symbols.size() == 3);
  CHECK(symbols[2]["name"] == "M");
  CHECK(symbols[2]["detail"] == "model");
  json uses = c.request("textDocument/references", c.at("fn f(^x)"));
  CHECK(uses.size() == 2);
  CHECK(c.request("textDocument/documentHighlight", c.at("fn f(^x)")).size() == 2);
  c.become("fn f( x )= =1");
  CHECK(c.request("textDocument/formatting", {{"textDocument", {{"uri", c.uri()}}}}).is_null());
}

TEST_CASE("lsp: places count UTF-16 units", "[tool][lsp]") {
  Client c;
  c.open("s = \"\xF0\x9F\x98\x80\xC3\xA4\" + zzz\n"); // a face of two units, an umlaut of one
  json d = c.diagnostics()["diagnostics"];
  REQUIRE(d.size() >= 1);
  CHECK(d[0]["range"]["start"]["character"] == 12);
  // A change behind them lands where the editor meant it.
  c.notify(
      "textDocument/didChange",
      {{"textDocument", {{"uri", c.uri()}, {"version", 2}}},
       {"contentChanges",
        {{{"range",
           {{"start", {{"line", 0}, {"character", 9}}}, {"end", {{"line", 0}, {"character", 15}}}}},
          {"text", ""}}}}});
  CHECK(c.diagnostics()["diagnostics"].empty());
}

TEST_CASE("lsp: nothing that comes in ends the server", "[tool][lsp]") {
  Client c;
  openModel(c);
  c.frame("{");
  CHECK(c.next()["error"]["code"] == -32700);
  c.frame("[1, 2]");
  CHECK(c.next()["error"]["code"] == -32600);
  c.frame("{\"jsonrpc\": \"2.0\", \"id\": 7}");
  CHECK(c.next()["error"]["code"] == -32600);
  c.raw("No-Length: 3\r\n\r\n");
  CHECK(c.next()["error"]["code"] == -32700);
  c.raw("Content-Length: zzz\r\n\r\n");
  CHECK(c.next()["error"]["code"] == -32700);
  for (const char *method : {"textDocument/hover", "textDocument/rename", "textDocument/completion",
                             "textDocument/inlayHint", "textDocument/formatting"})
    for (json params :
         {json::object(), json(3), json::array(), json({{"textDocument", 3}}),
          json({{"textDocument", {{"uri", "file:///none.nn"}}}}),
          json({{"textDocument", {{"uri", c.uri()}}}, {"position", "here"}, {"range", 1}})}) {
      json answer = c.call(method, params);
      INFO(method << params.dump() << answer.dump());
      CHECK(answer.contains("id"));
      if (!(std::string(method) == "textDocument/formatting" && params.contains("position")))
        CHECK(answer["error"]["code"] == -32602);
    }
  // Places that are not in the text.
  for (int64_t n : {int64_t(-5), int64_t(1) << 40, int64_t(100000)})
    for (const char *method :
         {"textDocument/hover", "textDocument/completion", "textDocument/definition"})
      CHECK(c.call(method, {{"textDocument", {{"uri", c.uri()}}},
                            {"position", {{"line", n}, {"character", n}}}})
                .contains("result"));
  c.notify("textDocument/didChange", {{"textDocument", {{"uri", c.uri()}}}, {"contentChanges", 3}});
  c.notify("textDocument/didChange",
           {{"textDocument", {{"uri", "file:///none"}}}, {"contentChanges", json::array()}});
  c.notify("textDocument/didOpen", json::array());
  c.notify("textDocument/didClose", {{"textDocument", {{"uri", "file:///none"}}}});
  c.notify("$/cancelRequest", {{"id", 1}});
  c.become(kModel);
  CHECK(has(c.hints(), "12:18 : f32[batch, 300]"));
  CHECK(c.finish() == 1); // without a shutdown
}

TEST_CASE("lsp: texts of every kind", "[tool][lsp]") {
  Client c;
  openModel(c);
  // Every beginning of a program is what somebody has typed so far.
  std::string model = kModel;
  std::mt19937 random(3);
  for (size_t length = 0; length < model.size(); length += 1 + random() % 23) {
    c.become(model.substr(0, length));
    json end = {{"textDocument", {{"uri", c.uri()}}}, {"position", c.placeAt(length)}};
    INFO(model.substr(0, length));
    CHECK(c.call("textDocument/completion", end).contains("result"));
    CHECK(c.call("textDocument/hover", end).contains("result"));
    CHECK(c.call("textDocument/definition", end).contains("result"));
  }
  // Holes, and noise.
  for (int i = 0; i < 60; ++i) {
    std::string text = model;
    for (int k = 0; k < 3; ++k) {
      size_t at = random() % text.size();
      if (random() % 2)
        text.erase(at, random() % 12);
      else
        text.insert(at, 1, "()[]{}|>=,.\"#\n x1\xC3"[random() % 18]);
    }
    c.become(text);
    c.hints();
    json end = {{"textDocument", {{"uri", c.uri()}}},
                {"position", c.placeAt(random() % text.size())}};
    CHECK(c.call("textDocument/completion", end).contains("result"));
    CHECK(c.call("textDocument/hover", end).contains("result"));
    end["newName"] = "other";
    CHECK(c.call("textDocument/rename", end).contains("id"));
  }
  // Large ones: more than a source may have, and long but whole.
  c.become(std::string(3 << 20, 'x'));
  CHECK(c.hints().empty());
  std::string big = "model M(x: [batch, 4]) {\n";
  for (int i = 0; i < 1000; ++i) big += "  x = x |> Dense(4)\n";
  c.become(big + "  x\n}\n");
  CHECK(c.hints().size() == 1001);
  c.become("fn f(x) = " + std::string(5000, '(') + "x" + std::string(5000, ')'));
  CHECK(c.hints().empty());
  c.become(kModel);
  CHECK(has(c.hints(), "12:18 : f32[batch, 300]"));
}

TEST_CASE("lsp: Neovim as the client", "[tool][lsp]") {
  if (std::system("command -v nvim > /dev/null 2>&1") != 0) {
    WARN("nvim is not installed");
    return;
  }
  Workplace w;
  std::ofstream(w.dir / "parts.nn") << "## Doubles.\nfn twice(x) = 2 * x\n";
  std::ofstream(w.dir / "m.nn") << kModel;
  std::string command = "cd '" + w.dir.string() + "' && HOME='" + w.dir.string() +
                        "' XDG_CACHE_HOME='" + w.dir.string() +
                        "' NNC='" NNC_BINARY_DIR "/nnc' NVIM_LOG_FILE=/dev/null timeout 600 "
                        "nvim --headless --clean -n -l '" NNC_SOURCE_DIR
                        "/tests/lsp_neovim.lua' > out 2>&1";
  // Neovim before 0.9 has no -l.
  size_t l = command.find(" -l '");
  command.replace(l, 5, " -c 'luafile ");
  INFO(command);
  int status = std::system(command.c_str());
  std::string out = readAll(w.dir / "out");
  INFO(out);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK_THAT(out, Contains("all well"));
}
