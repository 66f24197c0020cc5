// The cache of measured schedules; the idea is told in tune.h.
//
//   {"format": "nnc-tuning", "version": 1, "entries": [{"target": "x86-64-v4 ..",
//     "kernel": "kernel Contract ..", "swap": false, "row": 0, "col": 1, "mr": 8, "nv": 3,
//     "packA": 0, "packB": 2, "kAxis": -1, "kBlock": 0, "items": [[0, 16]]}]}
#include "codegen/tune.h"
#include "codegen/cpu/schedule.h"
#include "codegen/pack.h"
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace nnc::cg {

namespace {

using nlohmann::json;

constexpr const char *kFormat = "nnc-tuning";

std::string targetText(const Target &t) {
  return t.cpu + " " + t.llvmCpu + " " + t.features + " " + t.tune;
}

std::string kernelText(const Kernel &k) {
  if (k.schedule == Schedule{}) return print(k, false);
  Kernel plain = k;
  plain.schedule = {};
  return print(plain, false);
}

std::string keyOf(const std::string &target, const std::string &kernel) {
  return target + "\n" + kernel;
}

json entryJson(const TunedSchedule &t) {
  const Schedule &s = t.schedule;
  json items = json::array();
  for (const ItemAxis &i : s.items) items.push_back({i.axis, i.block});
  return {
      {"swap", t.swap},     {"row", s.row},          {"col", s.col},          {"mr", s.mr},
      {"nv", s.nv},         {"packA", int(s.packA)}, {"packB", int(s.packB)}, {"kAxis", s.kAxis},
      {"kBlock", s.kBlock}, {"items", items}};
}

// A member that is a whole number; false otherwise.
template <class T> bool take(const json &e, const char *name, T &out) {
  const auto it = e.find(name);
  if (it == e.end() || !it->is_number_integer()) return false;
  const int64_t v = it->get<int64_t>();
  if (v < -1 || v > int64_t(INT32_MAX)) return false;
  out = T(v);
  return true;
}

bool takeText(const json &e, const char *name, std::string &out) {
  const auto it = e.find(name);
  if (it == e.end() || !it->is_string()) return false;
  out = it->get<std::string>();
  return true;
}

bool readSchedule(const json &e, TunedSchedule &t) {
  Schedule &s = t.schedule;
  int a = 0, b = 0;
  const auto swap = e.find("swap"), items = e.find("items");
  if (swap == e.end() || !swap->is_boolean() || items == e.end() || !items->is_array())
    return false;
  if (!take(e, "row", s.row) || !take(e, "col", s.col) || !take(e, "mr", s.mr) ||
      !take(e, "nv", s.nv) || !take(e, "packA", a) || !take(e, "packB", b) ||
      !take(e, "kAxis", s.kAxis) || !take(e, "kBlock", s.kBlock) || a < 0 || a > 2 || b < 0 ||
      b > 2)
    return false;
  t.swap = swap->get<bool>();
  s.packA = Pack(a), s.packB = Pack(b);
  for (const json &i : *items) {
    if (!i.is_array() || i.size() != 2 || !i[0].is_number_integer() || !i[1].is_number_integer())
      return false;
    s.items.push_back({i[0].get<AxisId>(), i[1].get<int64_t>()});
  }
  return true;
}

// Whether columns may run along this axis: one of the columns' operand, or one that all three share
// and that the blocks of a sum do not begin by, as a vector has one end.
bool mayBeColumns(const Kernel &k, AxisId col) {
  const ContractInfo &c = k.contract;
  if (contains(c.n, col)) return true;
  return contains(c.batch, col) && std::none_of(c.k.begin(), c.k.end(), [&](AxisId i) {
           const Axis &a = k.axes[size_t(i)];
           return a.bounded && dependsOn(k, a.base, col);
         });
}

bool validOuter(const Kernel &k, const Target &t) {
  const Schedule &s = k.schedule;
  if (s.mr * s.nv + s.nv + 1 > t.vectorRegisters) return false;
  if (!mayBeColumns(k, s.col)) return false;
  if (s.nv > 1 && tileColumns(k, t) / s.nv * (s.nv - 1) >= extentAt(k, s.col)) return false;
  if (s.packA == Pack::none && s.packB == Pack::none) return true;
  return contains(k.contract.n, s.col) && s.packB != Pack::tile &&
         (s.packA == Pack::none || packShape(k, false, s.packA).possible) &&
         (s.packB == Pack::none || packShape(k, true, s.packB).possible);
}

bool validDot(const Kernel &k, const Target &t) {
  const Schedule &s = k.schedule;
  // as many vectors as are folded together
  if (s.nv != 1 && s.nv != 2 && s.nv != 4 && s.nv != 8) return false;
  if (dotRegisters(k, t, s.mr, s.nv) > t.vectorRegisters) return false;
  if (s.col < 0 ? s.nv != 1 : !contains(k.contract.n, s.col) || s.nv > extentAt(k, s.col))
    return false;
  return s.kAxis < 0 && s.packA == Pack::none && s.packB == Pack::none;
}

// Whether the emitter takes this schedule for the kernel, whose operands are exchanged already.
bool valid(const Kernel &k, const Target &t) {
  const Schedule &s = k.schedule;
  const ContractInfo &c = k.contract;
  if (s.mr < 1 || s.nv < 1) return false;
  if (s.row < 0 ? s.mr != 1 : !contains(c.m, s.row) || s.mr > extentAt(k, s.row)) return false;
  if (!(s.family == Family::Dot ? validDot(k, t) : validOuter(k, t))) return false;
  if (s.kAxis >= 0 && (!contains(c.k, s.kAxis) || s.kBlock < 1 || s.kBlock > extentAt(k, s.kAxis)))
    return false;
  std::vector<AxisId> cut;
  bool rows = false;
  for (const ItemAxis &i : s.items) {
    if (!contains(c.batch, i.axis) && !contains(c.m, i.axis) && !contains(c.n, i.axis))
      return false;
    if (contains(cut, i.axis) || i.block < 1) return false;
    if (i.axis == s.col && i.block % tileColumns(k, t) != 0) return false;
    const int64_t unit = itemUnit(k, i.axis);
    if (unit == 0 || i.block % unit != 0) return false;
    if (dependsOnN(k, i.axis) && std::exchange(rows, true)) return false;
    cut.push_back(i.axis);
  }
  return keepsSums(k);
}

std::string makeFolders(const std::string &path) {
  for (size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
    const std::string folder = path.substr(0, at);
    if (mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST)
      return "cannot make `" + folder + "`: " + std::strerror(errno);
  }
  return "";
}

bool readFile(const std::string &path, std::string &text, std::string &error) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    if (errno != ENOENT && errno != ENOTDIR) error = std::strerror(errno);
    return false;
  }
  char buffer[1 << 16];
  ssize_t n;
  while ((n = read(file, buffer, sizeof buffer)) > 0) text.append(buffer, size_t(n));
  if (n < 0) error = std::strerror(errno);
  close(file);
  return n == 0;
}

} // namespace

// --- schedules -----------------------------------------------------------------------------------

bool applyTuned(Kernel &k, const Target &t, const TunedSchedule &s) {
  if (k.cls != KernelClass::Contract) return false;
  const Family family = contractFamily(k, t); // it decides bits: that of the model stays
  if (family == Family::Amx) return false;
  const Schedule before = k.schedule;
  auto exchange = [&] {
    if (!s.swap) return;
    std::swap(k.contract.a, k.contract.b);
    std::swap(k.contract.m, k.contract.n);
  };
  exchange();
  k.schedule = s.schedule;
  k.schedule.family = family;
  k.schedule.lanes = t.vectorBytes / 4;
  if (valid(k, t)) {
    k.schedule.scratchBytes = contractScratch(k);
    return true;
  }
  exchange();
  k.schedule = before;
  return false;
}

bool TuneCache::schedule(Kernel &k, const Target &t) {
  if (k.cls != KernelClass::Contract) return false;
  if (asked) asked(k, t);
  if (entries_.empty()) return false;
  const std::string key = keyOf(targetText(t), kernelText(k));
  const auto it = entries_.find(key);
  if (it == entries_.end() || !applyTuned(k, t, it->second.tuned)) return false;
  used_.insert(key);
  return true;
}

void TuneCache::put(const Kernel &k, const Target &t, const TunedSchedule &s) {
  Entry e{targetText(t), kernelText(k), s};
  entries_[keyOf(e.target, e.kernel)] = e;
}

std::string TuneCache::hash() const {
  if (used_.empty()) return "none";
  uint64_t h = 0xcbf29ce484222325;
  auto mix = [&](const std::string &text) {
    for (const char c : text + "\n") h = (h ^ uint8_t(c)) * 0x100000001b3;
  };
  mix(std::to_string(kVersion));
  for (const std::string &key : used_) mix(key), mix(entryJson(entries_.at(key).tuned).dump());
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(h));
  return text;
}

// --- files ---------------------------------------------------------------------------------------

std::string TuneCache::defaultPath() {
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  if (cache && *cache == '/') return std::string(cache) + "/nnc/tuning.json";
  return home && *home ? std::string(home) + "/.cache/nnc/tuning.json" : "";
}

std::string TuneCache::load(const std::string &path) {
  std::string text, error;
  if (!readFile(path, text, error)) return error.empty() ? "" : "cannot be read: " + error;
  const json file = json::parse(text, nullptr, false);
  std::string format;
  if (!file.is_object() || !takeText(file, "format", format) || format != kFormat)
    return "is no cache of measured schedules";
  int version = 0;
  if (!take(file, "version", version) || version != kVersion)
    return "was written by another version of nnc";
  const auto list = file.find("entries");
  if (list == file.end() || !list->is_array()) return "is damaged: it has no entries";
  std::map<std::string, Entry> entries;
  for (const json &j : *list) {
    Entry e;
    if (!j.is_object() || !takeText(j, "target", e.target) || !takeText(j, "kernel", e.kernel) ||
        !readSchedule(j, e.tuned))
      return "is damaged: entry " + std::to_string(entries.size() + 1) + " is not whole";
    entries[keyOf(e.target, e.kernel)] = e;
  }
  entries_.insert(entries.begin(), entries.end());
  return "";
}

std::string TuneCache::save(const std::string &path) const {
  json list = json::array();
  for (const auto &[key, e] : entries_) {
    json j = entryJson(e.tuned);
    j["target"] = e.target, j["kernel"] = e.kernel;
    list.push_back(j);
  }
  const std::string text =
      json{{"format", kFormat}, {"version", kVersion}, {"entries", list}}.dump(1) + "\n";
  if (std::string error = makeFolders(path); !error.empty()) return error;
  const std::string beside = path + ".new." + std::to_string(getpid());
  auto failed = [&](const char *what) {
    std::string error = std::string("cannot ") + what + " `" + path + "`: " + std::strerror(errno);
    unlink(beside.c_str());
    return error;
  };
  const int file = open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) return failed("write");
  for (size_t at = 0; at < text.size();) {
    const ssize_t n = write(file, text.data() + at, text.size() - at);
    if (n < 0) {
      close(file);
      return failed("write");
    }
    at += size_t(n);
  }
  const bool synced = fsync(file) == 0;
  if (close(file) != 0 || !synced) return failed("write");
  return rename(beside.c_str(), path.c_str()) == 0 ? "" : failed("replace");
}

} // namespace nnc::cg
