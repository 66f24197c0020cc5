// Files and names: what a name means where it stands.
//
// Problem. A text may use any of some four hundred library names, and a program reaches ten of
// them. Example: `Dense` in model.nn is a declaration of layers_core.nn, `relu` one of
// activations.nn.
//
// Method. Names go from inside out: the scopes of the body, its file, what the file imports, the
// library, the builtins. The library's declarations are indexed by a scan of its lines (they start
// in the first column) and parsed one by one when first reached. Bindings of a file are evaluated
// when first needed.
#include "frontend/elab.h"
#include "frontend/foreign.h"
#include "frontend/parse.h"
#include "frontend/std_text.h"
#include <algorithm>
#include <cctype>
#include <limits>

namespace nnc::fe {

static bool isNameChar(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

/// The name that a line of the first column declares or binds, or "".
static std::string_view declaredName(std::string_view line) {
  size_t i = 0;
  auto word = [&] {
    size_t begin = i;
    while (i < line.size() && isNameChar(line[i])) ++i;
    return line.substr(begin, i - begin);
  };
  std::string_view first = word();
  if (first.empty()) return {};
  size_t gap = i;
  while (i < line.size() && line[i] == ' ') ++i;
  if (first == "fn" || first == "layer" || first == "model" || first == "optimizer" ||
      first == "metric") {
    std::string_view name = i > gap ? word() : std::string_view{};
    if (!name.empty()) return name;
  }
  return i < line.size() && line[i] == '=' ? first : std::string_view{};
}

void Elaborator::indexLibrary() {
  for (const StdFile &f : stdFiles()) {
    std::string_view text = f.text;
    LibraryEntry *open = nullptr;
    size_t begin = 0;
    uint32_t line = 1;
    for (size_t at = 0; at < text.size(); ++line) {
      size_t end = std::min(text.find('\n', at), text.size());
      std::string_view name = declaredName(text.substr(at, end - at));
      if (!name.empty()) {
        if (open) open->text = text.substr(begin, at - begin);
        open = &libraryIndex.emplace(name, LibraryEntry{f.name, {}, line}).first->second;
        begin = at;
      }
      at = end + 1;
    }
    if (open) open->text = text.substr(begin);
  }
}

FileScope *Elaborator::addFile(uint32_t file, bool isLibrary) {
  FileScope &scope = files.emplace_back();
  scope.file = file;
  scope.isLibrary = isLibrary;
  if (libraryFlags.size() <= file) libraryFlags.resize(file + 1);
  libraryFlags[file] = isLibrary;
  int errors = diags.errorCount();
  scope.tree = parse(sources, file, diags);
  syntaxErrors |= diags.errorCount() > errors;
  for (const Top *top : scope.tree->tops) {
    auto add = [&](const Name &name, FileName entry) {
      if (!scope.names.emplace(name.text, entry).second)
        diags.report(name.span, Diag::DuplicateName, {std::string(name.text)});
    };
    if (top->kind == TopKind::Decl) {
      FileName entry;
      entry.decl = &as<Decl>(*top);
      add(entry.decl->name, entry);
    } else if (top->kind == TopKind::Bind) {
      const auto &bind = as<TopBind>(*top);
      for (size_t i = 0; i < bind.bind->names.size(); ++i) {
        FileName entry;
        entry.bind = &bind;
        entry.index = i;
        if (bind.bind->names[i].text != "_") add(bind.bind->names[i], entry);
      }
    }
  }
  loadImports(scope);
  return &scope;
}

/// Paths count from the importing file.
static std::string besides(const std::string &file, const std::string &path) {
  size_t slash = file.rfind('/');
  if (path.starts_with('/') || slash == std::string::npos) return path;
  return file.substr(0, slash + 1) + path;
}

void Elaborator::loadImports(FileScope &scope) {
  for (const Top *top : scope.tree->tops) {
    if (top->kind != TopKind::Import) continue;
    const auto &import = as<Import>(*top);
    std::string path = besides(sources.name(scope.file), import.path);
    FileScope *&known = imported[path];
    if (!known) {
      auto file = sources.load(path);
      if (!file) {
        diags.report(import.pathSpan, Diag::ImportFailed, {path});
        continue;
      }
      if (files.size() > 500) continue;
      known = addFile(*file, false);
    }
    if (import.alias)
      scope.aliases.emplace(import.alias->text, known);
    else
      scope.imports.push_back(known);
  }
}

/// A new frame at the top level of a file.
static Frame fileFrame(Elaborator &e, FileScope &scope) {
  Frame f;
  f.name = e.sources.name(scope.file);
  f.owner = &e.fileOwner;
  f.ownsPath = true;
  f.file = &scope;
  f.scope = std::make_shared<Scope>();
  return f;
}

Value Elaborator::declValue(const Decl &decl, FileScope &scope) {
  if (decl.broken) return {}; // reported by the parser
  FunctionObj f;
  f.decl = &decl;
  f.file = &scope;
  return Value::function(std::move(f));
}

Value Elaborator::fileValue(FileScope &scope, FileName &entry, std::string_view name) {
  if (entry.state == Lazy::Done) return entry.value;
  bool broken = entry.decl ? entry.decl->broken : entry.bind->broken;
  if (broken) return entry.state = Lazy::Done, entry.value; // reported by the parser
  if (entry.decl) {
    entry.value = declValue(*entry.decl, scope);
    entry.state = Lazy::Done;
    return entry.value;
  }
  const BindStmt &bind = *entry.bind->bind;
  if (entry.state == Lazy::Running)
    return fail(bind.names[entry.index].span, Diag::CyclicBinding, {std::string(name)});
  for (const Name &n : bind.names)
    if (auto it = scope.names.find(n.text); it != scope.names.end())
      it->second.state = Lazy::Running;
  Frame f = fileFrame(*this, scope);
  {
    Restore<Frame *> r1(frame, &f);
    Restore<Pass *> r2(pass, nullptr);
    Restore<Span> r3(at, bind.span);
    if (step(bind.span)) bindNames(bind.names, bind.values);
  }
  for (const Name &n : bind.names) {
    auto it = scope.names.find(n.text);
    if (it == scope.names.end()) continue;
    it->second.state = Lazy::Done;
    if (const Binding *b = f.scope->find(n.text)) it->second.value = b->value;
  }
  return entry.value;
}

bool Elaborator::lookupFile(FileScope &scope, std::string_view name, Value &out) {
  if (auto it = scope.names.find(name); it != scope.names.end()) {
    out = fileValue(scope, it->second, name);
    return true;
  }
  if (auto it = scope.aliases.find(name); it != scope.aliases.end()) {
    out = {};
    out.kind = Kind::Module;
    out.module = it->second;
    return true;
  }
  for (FileScope *import : scope.imports)
    if (auto it = import->names.find(name); it != import->names.end()) {
      out = fileValue(*import, it->second, name);
      return true;
    }
  return false;
}

bool Elaborator::lookupLibrary(std::string_view name, Value &out) {
  auto it = libraryIndex.find(name);
  if (it == libraryIndex.end()) return false;
  LibraryEntry &e = it->second;
  if (!e.scope) e.scope = addFile(sources.add(e.file, std::string(e.text), e.line), true);
  auto entry = e.scope->names.find(name);
  if (entry == e.scope->names.end()) return false;
  out = fileValue(*e.scope, entry->second, name);
  return true;
}

Value Elaborator::libraryValue(std::string_view name) {
  Value v;
  if (!lookupLibrary(name, v)) return fail(Diag::UnknownName, {std::string(name)});
  return v;
}

const Binding *Elaborator::findBinding(std::string_view name) {
  return frame->scope ? frame->scope->find(name, frame->scopeSeq) : nullptr;
}

static bool constantNamed(Elaborator &e, std::string_view name, Value &out) {
  ir::DType t;
  if (name == "training")
    out = Value::of(e.frame->training);
  else if (name == "adapting") {
    e.asksAdapting = true;
    out = Value::of(e.pass && e.pass->isAdapting);
  } else if (name == "batch")
    out = Value::of(ir::Dim::batch(), Span{});
  else if (name == "pi")
    out = Value::of(3.14159265358979323846);
  else if (name == "inf")
    out = Value::of(std::numeric_limits<double>::infinity());
  else if (name == "nan")
    out = Value::of(std::numeric_limits<double>::quiet_NaN());
  else if (ir::parseDType(name, t))
    out = Value::of(t);
  else
    return false;
  return true;
}

static bool bindsName(const Block &block, std::string_view name);
static bool bindsName(const Expr &expr, std::string_view name) {
  if (expr.kind != ExprKind::If) return false;
  const auto &e = as<IfExpr>(expr);
  for (const IfArm &arm : e.arms)
    if (bindsName(*arm.body, name)) return true;
  return e.otherwise && bindsName(*e.otherwise, name);
}
static bool bindsName(const Block &block, std::string_view name) {
  for (const Stmt *s : block.stmts) {
    if (s->kind == StmtKind::Bind)
      for (const Name &n : as<BindStmt>(*s).names)
        if (n.text == name) return true;
    if (s->kind == StmtKind::Param && as<ParamStmt>(*s).name.text == name) return true;
    if (s->kind == StmtKind::For && bindsName(*as<ForStmt>(*s).body, name)) return true;
    if (s->kind == StmtKind::Expr && bindsName(*as<ExprStmt>(*s).value, name)) return true;
  }
  return false;
}

/// Whether a syntax error kept the declaration of this name out of the tree.
static bool lostByParser(const FileScope &scope, std::string_view name) {
  auto lost = [&](const FileScope &s) { return s.tree->cutOff || s.tree->lost.contains(name); };
  return lost(scope) || std::any_of(scope.imports.begin(), scope.imports.end(),
                                    [&](const FileScope *i) { return lost(*i); });
}

/// `name` is a piece of the source: what is not found is bound to nothing, under this very view.
Value Elaborator::lookup(std::string_view name, Span span) {
  if (const Binding *b = findBinding(name)) return b->value;
  Value v;
  if (lookupFile(*frame->file, name, v)) return v;
  if (constantNamed(*this, name, v)) return v;
  if (lookupLibrary(name, v)) return v;
  if (int i = findBuiltin(name); i >= 0) {
    FunctionObj f;
    f.kind = FunctionKind::Builtin;
    f.builtin = i;
    return Value::function(std::move(f));
  }
  for (const Scope *s = frame->scope.get(); s; s = s->parent.get())
    for (const Block *block : s->untaken)
      if (bindsName(*block, name)) {
        error(span, Diag::UntakenName, {std::string(name)}).label(block->span, "not taken");
        return {};
      }
  for (const char *never : {"vmap", "while_loop", "beam_search", "ragged"})
    if (name == never) return fail(span, Diag::OutOfScope, {"`" + std::string(name) + "`"});
  if (lostByParser(*frame->file, name)) return {};
  hintName(error(span, Diag::UnknownName, {std::string(name)}), name);
  // Once per body: further uses follow from the first.
  if (!frame->file->isLibrary && frame->scope) frame->scope->bind(name, {}, span);
  return {};
}

void Elaborator::hintName(Diagnostic &d, std::string_view name) {
  hint(d, Foreign::Name, name, visibleNames());
}

void Elaborator::hintText(Diagnostic &d, const std::string &text) {
  const ForeignRow *row = foreign(Foreign::Text, text);
  if (row) {
    d.help("it is written without quotes: `" + std::string(row->ours) + "`").fix(row->ours);
    return;
  }
  row = foreign(Foreign::Name, text);
  if (row && *row->advice) {
    d.help(row->advice);
    return;
  }
  auto names = visibleNames();
  bool exists = std::binary_search(names.begin(), names.end(), text);
  std::string name = exists ? text : sameLetters(text, names);
  if (name.empty()) name = suggest(text, names);
  if (name.empty()) {
    d.help("functions and layers are written without quotes");
    return;
  }
  // Losses, metrics and optimizers are called; `relu` is a name.
  if (std::isupper((unsigned char)name[0])) name += "()";
  d.help("it is written without quotes: `" + name + "`").fix(name);
}

std::vector<std::string> Elaborator::visibleNames() {
  std::vector<std::string> out;
  for (const Scope *s = frame->scope.get(); s; s = s->parent.get())
    for (auto &[name, versions] : s->names) out.emplace_back(name);
  for (auto &[name, entry] : frame->file->names) out.emplace_back(name);
  for (FileScope *import : frame->file->imports)
    for (auto &[name, entry] : import->names) out.emplace_back(name);
  for (auto &[name, entry] : libraryIndex) out.emplace_back(name);
  for (const BuiltinInfo &b : builtins()) out.emplace_back(b.name);
  std::sort(out.begin(), out.end()); // hash order is nobody's order
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

} // namespace nnc::fe
