// The commands that work on the text of a model: fmt, doc and new.
//
//   nnc fmt --check samples/*.nn
//   nnc doc Dense
//   nnc new flowers --template=mlp-csv
#include "frontend/driver.h"

#include "frontend/format.h"
#include "frontend/parse.h"
#include "frontend/reference.h"
#include "frontend/templates.h"

#include <algorithm>
#include <cstdio>
#include <set>
#include <sys/stat.h>

namespace nnc::fe {

namespace {

int fail(const std::string &message, const std::string &help = "") {
  complain(message, help);
  return 1;
}

// --- fmt -----------------------------------------------------------------------------------------

bool formatOne(const Options &o, const std::string &path) {
  std::string error;
  auto text = readInput(path, error);
  if (!text) return fail(error), false;
  Sources sources;
  Diagnostics diags(sources);
  uint32_t file = sources.add(path == "-" ? "standard input" : path, *text);
  auto formatted = format(sources, file, diags);
  if (!formatted && !diags.hasErrors())
    return fail("`" + path + "` cannot be formatted without changing what it means"), false;
  if (!formatted) return say(diags), false;
  if (o.checkOnly) {
    if (*formatted == *text) return true;
    std::printf("%s: not formatted\n", sources.name(file).c_str());
    return false;
  }
  if (path != "-" && *formatted == *text) return true;
  error = writeOutput(path, *formatted, true);
  return error.empty() || (fail(error), false);
}

// --- doc -----------------------------------------------------------------------------------------

void show(const Entry &e) {
  std::printf("%s\n", e.head.c_str());
  if (!e.doc.empty()) std::printf("\n");
  for (size_t at = 0; at < e.doc.size();) {
    size_t end = std::min(e.doc.find('\n', at), e.doc.size());
    std::printf("%s%s\n", end > at ? "  " : "", e.doc.substr(at, end - at).c_str());
    at = end + 1;
  }
  std::string implied;
  for (const ParamEntry &p : e.implied) implied += (implied.empty() ? "" : ", ") + p.text();
  std::printf("\n");
  if (!implied.empty()) std::printf("  Also takes %s.\n", implied.c_str());
  if (e.kind == "key")
    std::printf("  A key of `train`.\n");
  else if (e.kind == "word")
    std::printf("  A word of the language.\n");
  else if (e.file.empty())
    std::printf("  Known to the compiler.\n");
  else
    std::printf("  In %s%s, line %u.\n", e.group.empty() ? "" : "the library, ", e.file.c_str(),
                e.line);
}

void list(const std::vector<Entry> &entries) {
  std::vector<std::string> groups;
  for (const Entry &e : entries)
    if (std::find(groups.begin(), groups.end(), e.group) == groups.end()) groups.push_back(e.group);
  for (const std::string &group : groups) {
    if (!group.empty()) std::printf("%s%s\n", group == groups[0] ? "" : "\n", group.c_str());
    size_t width = 0;
    for (const Entry &e : entries)
      if (e.group == group) width = std::max(width, e.kind.size() + e.name.size() + 1);
    for (const Entry &e : entries)
      if (e.group == group)
        std::printf("  %-*s  %s\n", int(width), (e.kind + " " + e.name).c_str(),
                    e.summary().c_str());
  }
}

/// The declarations of a file and of what it imports.
bool declarations(const std::string &path, std::vector<Entry> &out) {
  Sources sources;
  Diagnostics diags(sources);
  std::vector<std::string> paths{path};
  for (size_t i = 0; i < paths.size(); ++i) {
    std::string error;
    auto text = readInput(paths[i], error);
    if (!text) return fail(error), false;
    auto tree = parse(sources, sources.add(paths[i], *text), diags);
    for (const Top *top : tree->tops) {
      if (top->kind == TopKind::Decl) out.push_back(entryOf(sources, as<Decl>(*top)));
      if (top->kind != TopKind::Import) continue;
      size_t slash = paths[i].rfind('/');
      std::string folder = slash == std::string::npos ? "" : paths[i].substr(0, slash + 1);
      std::string next = as<Import>(*top).path;
      if (!next.starts_with("/")) next = folder + next;
      if (std::find(paths.begin(), paths.end(), next) == paths.end()) paths.push_back(next);
    }
  }
  if (diags.hasErrors()) say(diags);
  return true;
}

// --- new -----------------------------------------------------------------------------------------

/// "fashion-mnist" -> "FashionMnist".
std::string modelName(const std::string &file) {
  std::string name;
  bool upper = true;
  for (char c : file) {
    if (c == '_' || c == '-') {
      upper = true;
      continue;
    }
    name += upper && c >= 'a' && c <= 'z' ? char(c - 'a' + 'A') : c;
    upper = false;
  }
  // A name of the library would hide what the model is made of.
  return Reference::library().find(name) ? name + "Model" : name;
}

std::string replaced(std::string text, const std::string &what, const std::string &with) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size())
    text.replace(at, what.size(), with);
  return text;
}

} // namespace

int fmtCommand(const Options &o) {
  bool ok = true;
  for (const std::string &path : o.inputs) ok = formatOne(o, path) && ok;
  return ok ? 0 : 1;
}

int docCommand(const Options &o) {
  std::vector<Entry> own;
  if (!o.docFile.empty() && !declarations(o.docFile, own)) return 1;
  const Reference &library = Reference::library();
  if (o.inputs.empty()) {
    list(o.docFile.empty() ? library.entries() : own);
    return 0;
  }
  bool ok = true;
  for (const std::string &name : o.inputs) {
    if (name != o.inputs[0]) std::printf("\n");
    const Entry *e = library.find(name);
    for (const Entry &mine : own)
      if (mine.name == name) e = &mine;
    if (e) {
      show(*e);
      continue;
    }
    std::vector<std::string> names = library.names();
    for (const Entry &mine : own) names.push_back(mine.name);
    std::string best = suggest(name, names);
    fail("no documentation of `" + name + "`",
         best.empty() ? "`nnc doc` lists all names" : "did you mean `" + best + "`?");
    ok = false;
  }
  return ok ? 0 : 1;
}

int newCommand(const Options &o) {
  std::string path = o.inputs[0];
  if (path.ends_with(".nn")) path.resize(path.size() - 3);
  size_t slash = path.rfind('/');
  std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  bool good =
      !name.empty() && letter(name[0]) && std::all_of(name.begin(), name.end(), [&](char c) {
        return letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-';
      });
  if (!good)
    return fail("`" + name + "` cannot name a model",
                "a name begins with a letter and goes on with letters, digits, `_` and `-`");
  path += ".nn";
  struct stat s;
  if (lstat(path.c_str(), &s) == 0) return fail("`" + path + "` exists, it is left as it is");
  std::string text = templateText(o.templateName);
  text = replaced(replaced(text, "{model}", modelName(name)), "{file}", name);
  Sources sources;
  Diagnostics diags(sources);
  if (auto formatted = format(sources, sources.add(path, text), diags)) text = *formatted;
  std::string error = writeOutput(path, text);
  if (!error.empty()) return fail(error);
  std::printf("%s: a model to begin with; its first lines say how to train it\n", path.c_str());
  return 0;
}

} // namespace nnc::fe
