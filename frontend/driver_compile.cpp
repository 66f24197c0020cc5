// The road from a file to the stage asked for.
//
//   text -> [tokens] -> [ast] -> elaborate -> [ir] -> differentiate -> [grad] -> simplify -> [opt]
//        -> fuse, plan -> [kernels] [memory] -> LLVM -> [llvm] [asm] [obj] -> link -> [bin]
//
// Method. One function per stretch; each leaves its text with `Dumps` if --dump-dir wants it and
// returns early if the stage asked for is reached. Textual IR joins behind elaboration: nothing but
// the text passes that point, so both ways give the same bytes.
#include "codegen/tune.h"
#include "frontend/driver.h"

#include "frontend/elaborate.h"
#include "frontend/parse.h"
#include "frontend/print_ast.h"
#include "ir/passes.h"
#include "ir/text.h"
#include "ir/verify.h"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <set>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace nnc::fe {

namespace {

// --- looking inside ------------------------------------------------------------------------------

// Numbered files of every stage.
class Dumps {
 public:
  explicit Dumps(std::string dir) : dir_(std::move(dir)) {
    if (!dir_.empty() && mkdir(dir_.c_str(), 0777) != 0 && errno != EEXIST)
      throw std::runtime_error("cannot make the directory `" + dir_ + "`: " + std::strerror(errno));
  }
  bool wanted() const { return !dir_.empty(); }
  void add(const std::string &name, const std::string &text) {
    if (!wanted()) return;
    char number[16];
    std::snprintf(number, sizeof number, "%02d-", next_++);
    std::string error = writeOutput(dir_ + "/" + number + name, text);
    if (!error.empty()) throw std::runtime_error(error);
  }

 private:
  std::string dir_;
  int next_ = 0;
};

// --time-passes: one line per stage, in order of first appearance.
class Times {
 public:
  void add(const std::string &stage, double seconds) {
    for (auto &[name, total] : list_)
      if (name == stage) {
        total += seconds;
        return;
      }
    list_.push_back({stage, seconds});
  }
  template <class F> auto measure(const std::string &stage, F f) {
    struct Stop {
      Times &times;
      const std::string &stage;
      std::chrono::steady_clock::time_point from = std::chrono::steady_clock::now();
      ~Stop() {
        times.add(stage,
                  std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count());
      }
    } stop{*this, stage};
    return f();
  }
  void print() const {
    double total = 0;
    for (auto &[name, seconds] : list_) {
      std::fprintf(stderr, "%10.3f ms  %s\n", seconds * 1e3, name.c_str());
      total += seconds;
    }
    std::fprintf(stderr, "%10.3f ms  total\n", total * 1e3);
  }

 private:
  std::vector<std::pair<std::string, double>> list_;
};

// --- the road ------------------------------------------------------------------------------------

bool isIrText(const std::string &text) { return text.rfind("nnc-ir ", 0) == 0; }

std::string baseName(const std::string &path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

class Road {
 public:
  explicit Road(const Options &o) : o_(o), diags_(sources_, o.warnings), dumps_(o.dumpDir) {}

  int run() {
    bool done =
        source() && (reached_ || module()) && (reached_ || passes()) && (reached_ || code());
    if (o_.timePasses) times_.print(), printSizes();
    return done ? 0 : 1;
  }

  // Only as far as mistakes show.
  int check() {
    if (!source() || !module()) return 1;
    std::printf("%s: no mistakes found\n", o_.input == "-" ? "standard input" : o_.input.c_str());
    return 0;
  }

  // Compiles and links to `path`; the model's name, empty after an error.
  std::string linkTo(const std::string &path) {
    if (!source() || !module() || !passes() || !tuning()) return "";
    object();
    return link(path) ? outputName() : "";
  }

 private:
  const Options &o_;
  Sources sources_;
  Diagnostics diags_;
  Dumps dumps_;
  Times times_;
  std::string text_;
  bool isIr_ = false, reached_ = false;
  std::unique_ptr<ir::Module> module_;
  cg::TuneCache tuned_;
  std::unique_ptr<cg::Compiled> compiled_;
  std::set<std::string> passNames_;

  bool fail(const std::string &message, const std::string &help = "") {
    complain(message, help);
    return false;
  }

  // What --time-passes says besides times.
  void printSizes() const {
    if (compiled_) {
      for (const cg::Version &v : compiled_->versions)
        std::fprintf(stderr, "%10d     kernels for %d launches, %s\n", v.kernels, v.launches,
                     v.target.cpu.c_str());
      std::fprintf(stderr, "%10.1f KiB machine code\n", double(compiled_->codeBytes) / 1024);
    }
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage); // in KiB
    std::fprintf(stderr, "%10.1f MiB most memory of nnc\n", double(usage.ru_maxrss) / 1024);
  }

  // Writes the text of a stage if it is the one asked for.
  bool give(Stage stage, const std::string &text) {
    if (o_.emit != stage) return true;
    reached_ = true;
    std::string error = writeOutput(o_.output.empty() ? "-" : o_.output, text);
    return error.empty() || fail(error);
  }

  bool isInput(const std::string &path) const {
    struct stat a, b;
    return o_.input != "-" && stat(path.c_str(), &a) == 0 && stat(o_.input.c_str(), &b) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
  }

  // --- source text -------------------------------------------------------------------------------

  bool source() {
    std::string error;
    std::optional<std::string> text = readInput(o_.input, error);
    if (!text) return fail(error);
    if (!o_.output.empty() && isInput(o_.output))
      return fail("the output would overwrite the model `" + o_.output + "`");
    text_ = std::move(*text);
    isIr_ = isIrText(text_);
    bool early = o_.emit == Stage::Tokens || o_.emit == Stage::Ast;
    if (isIr_ && early)
      return fail("`" + o_.input + "` is textual IR: it has no tokens and no syntax tree");
    if (isIr_ || (!early && !dumps_.wanted())) return true;
    return syntax();
  }

  // Tokens and tree by themselves; elaboration parses again.
  bool syntax() {
    Diagnostics diags(sources_);
    uint32_t file = sources_.add(name(), text_);
    std::string tokens = dumpTokens(sources_, file, diags);
    dumps_.add("tokens.txt", tokens);
    if (!give(Stage::Tokens, tokens)) return false;
    Diagnostics again(sources_);
    std::string tree =
        times_.measure("parse", [&] { return fe::print(*fe::parse(sources_, file, again)); });
    dumps_.add("ast.nn", tree);
    if (!give(Stage::Ast, tree)) return false;
    if (!reached_) return true; // elaboration reports
    const Diagnostics &said = o_.emit == Stage::Tokens ? diags : again;
    say(said);
    return !said.hasErrors();
  }

  std::string name() const { return o_.input == "-" ? "<stdin>" : o_.input; }

  // --- the module --------------------------------------------------------------------------------

  bool module() {
    if (!(isIr_ ? parseIr(text_, name()) : elaborateSource())) return false;
    if (o_.roundtrip && !parseIr(ir::print(*module_), "<printed IR>")) return false;
    afterPass("elaborate", 0);
    return give(Stage::Ir, o_.emit == Stage::Ir ? ir::print(*module_) : "");
  }

  bool elaborateSource() {
    uint32_t file = sources_.add(name(), text_);
    ElaborateOptions options;
    options.train = o_.train;
    const bool checks = o_.command == Command::Check;
    options.declarationsOnly = options.everyModel = options.messagesOnly = checks;
    module_ =
        times_.measure("elaborate", [&] { return elaborate(sources_, file, diags_, options); });
    say(diags_);
    return module_ && !diags_.failed();
  }

  bool parseIr(const std::string &text, const std::string &from) {
    ir::TextError error;
    module_ = times_.measure("parse IR", [&] { return ir::parseModule(text, error); });
    if (!module_) {
      complain(error.message, "",
               from + ":" + std::to_string(error.line) + ":" + std::to_string(error.column));
      return false;
    }
    std::string broken = ir::verify(*module_);
    return broken.empty() || fail(broken);
  }

  // --- passes over the IR ------------------------------------------------------------------------

  void afterPass(const std::string &pass, double seconds) {
    passNames_.insert(pass);
    if (seconds > 0) times_.add(pass, seconds);
    bool show = o_.printAfter == "all" || o_.printAfter == pass;
    if (!show && !dumps_.wanted()) return;
    std::string text = ir::print(*module_);
    if (show) std::fprintf(stderr, "# after %s\n%s\n", pass.c_str(), text.c_str());
    dumps_.add(pass + ".ir", text);
  }

  bool passes() {
    ir::PipelineOptions p;
    p.level = o_.level;
    p.verifyEach = o_.roundtrip;
    p.after = [&](const ir::PassEvent &e) { afterPass(e.pass, e.seconds); };
    ir::runGradient(*module_, p);
    ir::PrintOptions withLines{.comments = true};
    if (!give(Stage::Grad, o_.emit == Stage::Grad ? ir::print(*module_, withLines) : ""))
      return false;
    if (!give(Stage::Math, o_.emit == Stage::Math ? ir::printMath(*module_) : "")) return false;
    if (reached_) return true;
    ir::runOptimize(*module_, p);
    if (!give(Stage::Opt, o_.emit == Stage::Opt ? ir::print(*module_) : "")) return false;
    if (o_.emit == Stage::Dot) return dot();
    if (o_.printAfter.empty() || o_.printAfter == "all" || passNames_.count(o_.printAfter))
      return true;
    std::string names;
    for (const std::string &n : passNames_) names += (names.empty() ? "" : ", ") + n;
    std::string best = suggest(o_.printAfter, {passNames_.begin(), passNames_.end()});
    return fail("no pass `" + o_.printAfter + "` ran",
                best.empty() ? "the passes are " + names : "did you mean `" + best + "`?");
  }

  bool dot() {
    const ir::Function *f = module_->find("train_step");
    if (!f) f = module_->find("predict");
    if (!f && !module_->functions.empty()) f = module_->functions.front().get();
    if (!f) return fail("the module has no function");
    return give(Stage::Dot, dotText(*module_, *f));
  }

  // --- code --------------------------------------------------------------------------------------

  cg::CodegenOptions codegenOptions() {
    cg::CodegenOptions c;
    std::string error;
    std::vector<cg::Target> targets = cg::resolveTargets(o_.target, o_.cpu, error);
    c.target = targets.at(0); // the command line was checked
    c.others.assign(targets.begin() + 1, targets.end());
    c.level = o_.level;
    c.fuse.fuse = o_.level > 0;
    c.check = o_.roundtrip;
    if (tuned_.size() > 0) c.tuning = &tuned_;
    c.timing = [&](std::string_view stage, double seconds) {
      times_.add(std::string(stage), seconds);
    };
    return c;
  }

  // Reads what was measured earlier, and measures if that is asked for. A cache that somebody named
  // must be whole; one that lies where it always does is left alone with a warning.
  bool tuning() {
    if (o_.noTuneCache) return true;
    const bool named = !o_.tuneCache.empty();
    const std::string path = named ? o_.tuneCache : cg::TuneCache::defaultPath();
    if (path.empty())
      return o_.tune == 0 ||
             fail("there is no home folder for what is measured", "use `--tune-cache FILE`");
    if (const std::string wrong = tuned_.load(path); !wrong.empty()) {
      const std::string text = "`" + path + "` " + wrong;
      if (named || o_.tune > 0)
        return fail(text, "remove it, or name another with `--tune-cache FILE`");
      std::fprintf(stderr, "warning: %s; compiling without it\n", text.c_str());
    }
    if (o_.tune == 0) return true;
    const cg::TuneReport r = times_.measure("tune", [&] {
      return cg::tune(*module_, codegenOptions(), tuned_, o_.tune, [](const std::string &line) {
        std::fprintf(stderr, "tune %s\n", line.c_str());
      });
    });
    std::fprintf(stderr, "tuned %d of %d kernels, %d changed", r.measured, r.kernels, r.changed);
    if (r.before > 0)
      std::fprintf(stderr,
                   "; on one thread all their runs take %.3f ms instead of %.3f ms (%.1f %% less)",
                   r.after * 1e3, r.before * 1e3, 100 * (1 - r.after / r.before));
    std::fprintf(stderr, "; kept in %s\n", path.c_str());
    if (r.measured == 0) return true;
    const std::string error = tuned_.save(path);
    return error.empty() || fail(error);
  }

  void object() {
    compiled_ = cg::compile(*module_, codegenOptions(), cg::Emit::Object);
    dumps_.add("kernels.txt", dumps_.wanted() ? compiled_->kernelsText() : "");
    dumps_.add("memory.txt", dumps_.wanted() ? compiled_->memoryText() : "");
    if (dumps_.wanted()) {
      dumps_.add("model.ll", cg::compile(*module_, codegenOptions(), cg::Emit::Llvm)->llvmText);
      dumps_.add("model.s", cg::compile(*module_, codegenOptions(), cg::Emit::Asm)->asmText);
    }
    dumps_.add("model.o", compiled_->object);
  }

  bool code() {
    if (!tuning()) return false;
    switch (o_.emit) {
    case Stage::Kernels:
      return give(o_.emit,
                  cg::compile(*module_, codegenOptions(), cg::Emit::Kernels)->kernelsText());
    case Stage::Memory:
      return give(o_.emit, cg::compile(*module_, codegenOptions(), cg::Emit::Memory)->memoryText());
    case Stage::Llvm:
      return give(o_.emit, cg::compile(*module_, codegenOptions(), cg::Emit::Llvm)->llvmText);
    case Stage::Asm:
      return give(o_.emit, cg::compile(*module_, codegenOptions(), cg::Emit::Asm)->asmText);
    default: break;
    }
    std::string path =
        o_.output.empty() ? outputName() + (o_.emit == Stage::Obj ? ".o" : "") : o_.output;
    if (isInput(path))
      return fail("the output would overwrite the model `" + path + "`", "use `-o FILE`");
    // A name that the user did not write must not cost a data set.
    std::string other = o_.output.empty() ? obstacle(path, o_.emit == Stage::Obj) : "";
    if (!other.empty())
      return fail("the output would overwrite `" + path + "`, which is " + other, "use `-o FILE`");
    object();
    if (o_.emit == Stage::Bin) return link(path);
    std::string error = writeOutput(path, compiled_->object);
    return error.empty() || fail(error);
  }

  bool link(const std::string &path) {
    std::string error = times_.measure("link", [&] {
      return cg::link(compiled_->object, path, compiled_->versions[0].target);
    });
    return error.empty() || fail(error);
  }

  // The model's name, else the file's.
  std::string outputName() const {
    const ir::Meta *meta = module_->meta.find("name");
    std::string s = meta && meta->asString() ? *meta->asString() : "";
    if (s.empty()) s = o_.input == "-" ? "model" : baseName(o_.input);
    if (size_t dot = s.rfind('.'); dot != std::string::npos && dot > 0) s.resize(dot);
    for (char &c : s)
      if (c == '/') c = '_';
    return s;
  }
};

// Runs a stretch of the road; exceptions are messages for the user.
template <class F> int guarded(F f) {
  try {
    return f();
  } catch (const std::bad_alloc &) {
    complain("out of memory");
  } catch (const std::exception &e) {
    complain(e.what());
  }
  return 1;
}

} // namespace

// A road is never freed: the process ends, and freeing a module takes a while.

int compileCommand(const Options &o) {
  return guarded([&] {
    static auto &road = *new Road(o);
    return road.run();
  });
}

int checkCommand(const Options &o) {
  return guarded([&] {
    static auto &road = *new Road(o);
    return road.check();
  });
}

int runCommand(const Options &o) {
  return guarded([&] {
    const char *tmp = std::getenv("TMPDIR");
    std::string path = std::string(tmp && *tmp ? tmp : "/tmp") + "/nnc-run-XXXXXX";
    int made = mkstemp(path.data());
    if (made < 0)
      throw std::runtime_error("cannot write into `" + path + "`: " + std::strerror(errno));
    close(made);
    std::string name = Road(o).linkTo(path);
    int program = name.empty() ? -1 : open(path.c_str(), O_RDONLY | O_CLOEXEC);
    unlink(path.c_str()); // the open file is enough to run it
    if (name.empty()) return 1;
    std::vector<char *> argv = {name.data()};
    for (const std::string &a : o.runArgs) argv.push_back(const_cast<char *>(a.c_str()));
    argv.push_back(nullptr);
    finishMessages();
    if (program >= 0) fexecve(program, argv.data(), environ);
    throw std::runtime_error("cannot run `" + path + "`: " + std::strerror(errno));
  });
}

} // namespace nnc::fe
