// Modules: the operation table as data, lookups, source positions, attributes' hash.
//
// Problem. ops.def lists the operations once; names, arities, attribute kinds and hashing are read
// off that list here. Example: info(Op::contract_) = {"contract", tensor, 2, N}.
//
// Method. X-macros over ops.def, and the field visitors of attrs.h. A Loc is an index into
// Module::locs; equal positions with equal parents are one entry.
#include "ir/module.h"
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <type_traits>
#include <unordered_map>

namespace nnc::ir {

namespace {

constexpr OpInfo kOps[] = {
#define UNARY(name, cls, ...) {#name, OpForm::unary, 1, TypeClass::cls},
#define BINARY(name, cls, ...) {#name, OpForm::binary, 2, TypeClass::cls},
#define COMPARE(name, ...) {#name, OpForm::compare, 2, TypeClass::N},
#define TENSOR(name, arity, ...) {#name, OpForm::tensor, arity, TypeClass::N},
#include "ir/ops.def"
};
static_assert(std::size(kOps) == kOpCount);

// FNV-1a over 64 bit words.
struct Hasher {
  uint64_t h = 14695981039346656037u;
  void word(uint64_t w) { h = (h ^ w) * 1099511628211u, h ^= h >> 29; }

  void value(int64_t v) { word(uint64_t(v)); }
  void value(double v) { word(std::bit_cast<uint64_t>(v)); }
  void value(bool v) { word(v); }
  void value(ReduceKind k) { word(uint64_t(k)); }
  void value(Dim d) { word(uint64_t(d.a)), word(uint64_t(d.b)); }
  void value(const std::string &s) {
    word(s.size());
    for (char c : s) word(uint8_t(c));
  }
  void value(const Type &t) { word(uint64_t(t.dtype)), value(t.dims); }
  void value(const LabelForm &f) {
    word(f.terms.size());
    for (LabelTerm t : f.terms) word(uint64_t(t.label)), word(uint64_t(t.coef));
    word(uint64_t(f.offset));
  }
  template <class T> void value(const std::vector<T> &v) {
    word(v.size());
    for (const T &x : v) value(x);
  }
  void value(const ContractAttr &a) {
    value(a.labels), value(a.extents), value(a.type);
    for (const auto &f : a.forms) value(f);
  }
};

} // namespace

const OpInfo &info(Op op) { return kOps[size_t(op)]; }

bool parseOp(std::string_view name, Op &out) {
  static const auto *index = [] {
    auto *m = new std::unordered_map<std::string_view, Op>;
    for (int i = 0; i < kOpCount; ++i) m->emplace(kOps[i].name, Op(i));
    return m;
  }();
  auto it = index->find(name);
  if (it == index->end()) return false;
  out = it->second;
  return true;
}

Attr defaultAttr(Op op) {
  static const Attr attrs[] = {
#define UNARY(...) NoAttr{},
#define BINARY(...) NoAttr{},
#define COMPARE(...) NoAttr{},
#define TENSOR(name, arity, A) A{},
#include "ir/ops.def"
  };
  return attrs[size_t(op)];
}

bool operator==(const ConstantAttr &a, const ConstantAttr &b) {
  auto same = [](double x, double y) {
    return std::bit_cast<uint64_t>(x) == std::bit_cast<uint64_t>(y);
  };
  return a.type == b.type &&
         std::equal(a.data.begin(), a.data.end(), b.data.begin(), b.data.end(), same);
}

size_t hashAttr(const Attr &a) {
  Hasher h;
  h.word(a.index());
  std::visit(
      [&](const auto &attr) {
        using A = std::decay_t<decltype(attr)>;
        // fields() is written once, for reading and writing; nothing here writes.
        const_cast<A &>(attr).fields([&](const char *, const auto &v) { h.value(v); });
      },
      a);
  return h.h;
}

// --- names -------------------------------------------------------------------------------------

static bool isNameChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '/' || c == '-';
}

bool isName(std::string_view name) {
  bool letter = false;
  for (char c : name) {
    if (!isNameChar(c)) return false;
    letter |= c < '0' || c > '9';
  }
  return letter;
}

std::string sanitized(std::string_view name) {
  std::string s(name);
  for (char &c : s)
    if (!isNameChar(c)) c = '_';
  return isName(s) ? s : "_" + s;
}

// --- module ------------------------------------------------------------------------------------

Function *Module::find(std::string_view name) const {
  for (const auto &f : functions)
    if (f->name == name) return f.get();
  return nullptr;
}

Function &Module::add(std::string name, int64_t batch) {
  Function &f = *functions.emplace_back(std::make_unique<Function>());
  f.name = std::move(name);
  f.batch = batch;
  return f;
}

Loc Module::addLoc(LocInfo info) {
  auto key = std::make_tuple(info.file, info.line, info.column, info.parent.i);
  auto [it, isNew] = locIndex_.try_emplace(std::move(key), int32_t(locs.size()));
  if (isNew) locs.push_back(std::move(info));
  return {it->second};
}

const Persistent *Module::persistent(std::string_view name) const {
  for (const Persistent &p : persistents)
    if (p.name == name) return &p;
  return nullptr;
}

std::string str(const Module &m, Loc loc, bool parents) {
  std::string s;
  while (loc.i > 0 && size_t(loc.i) < m.locs.size()) {
    const LocInfo &l = m.locs[loc.i];
    if (!s.empty()) s += ", from ";
    s += l.file + ":" + std::to_string(l.line) + ":" + std::to_string(l.column);
    if (!parents || l.parent.i >= loc.i) break;
    loc = l.parent;
  }
  return s;
}

void internalError(const char *file, int line, const std::string &what) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s:%d: internal error: %s\n", file, line, what.c_str());
  std::abort();
}

} // namespace nnc::ir
