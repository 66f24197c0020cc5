// Processors: see cpu.h.
#include "runtime/cpu.h"

#include "runtime/base.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rt {

namespace {

struct Feature {
  int64_t bit;
  const char *name;
};
constexpr Feature Features[] = {
    {NNC_CPU_X86_64_V3, "AVX2 with FMA"},
    {NNC_CPU_X86_64_V4, "AVX-512"},
    {NNC_CPU_AVX512_BF16, "AVX512-BF16"},
    {NNC_CPU_AVX512_FP16, "AVX512-FP16"},
    {NNC_CPU_AMX_BF16, "AMX"},
};

// The names of all features in `bits`, as "a, b".
const char *names(int64_t bits) {
  Builder list;
  for (const Feature &f : Features)
    if (bits & f.bit) list.add("%s%s", list.length() ? ", " : "", f.name);
  return text_copy(list.c_str(), list.length());
}

int64_t count_of(const NncModel &model) { return model.version_count ? model.version_count : 1; }
const NncModel &version(const NncModel &model, int64_t i) {
  return model.version_count ? *model.versions[i] : model;
}

} // namespace

#if defined(__x86_64__)

namespace {

// The state that the operating system saves for a thread: bits 1-2 vectors, 5-7 AVX-512, 17-18 AMX.
uint64_t saved_state() {
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

bool all(unsigned word, unsigned bits) { return (word & bits) == bits; }

} // namespace

// The tile registers are given to processes that ask for them, before their threads begin; a
// sandbox may refuse.
static bool tiles_granted() {
  constexpr int RequestStatePermission = 0x1023, TileData = 18;
  return syscall(SYS_arch_prctl, RequestStatePermission, TileData) == 0;
}

int64_t cpu_features() {
  unsigned a, b, c, d, b7, c7, d7, a71 = 0, c81 = 0, unused;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
  if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
  if (a >= 1) __get_cpuid_count(7, 1, &a71, &unused, &unused, &unused);
  __get_cpuid(0x80000001, &unused, &unused, &c81, &unused);
  uint64_t state = saved_state();
  constexpr unsigned v3 =
      bit_AVX | bit_FMA | bit_F16C | bit_MOVBE | bit_POPCNT | bit_SSE4_2 | bit_CMPXCHG16B;
  constexpr unsigned v4 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL | bit_AVX512CD;
  int64_t features = 0;
  if ((state & 6) == 6 && all(c, v3) && all(b7, bit_AVX2 | bit_BMI | bit_BMI2) &&
      all(c81, bit_LZCNT | bit_LAHF_LM))
    features |= NNC_CPU_X86_64_V3;
  if ((state & 0xE6) == 0xE6 && all(b7, v4)) {
    features |= NNC_CPU_X86_64_V4;
    if (a71 >> 5 & 1) features |= NNC_CPU_AVX512_BF16;
    if (d7 >> 23 & 1) features |= NNC_CPU_AVX512_FP16;
  }
  constexpr unsigned tiles = 1u << 22 | 1u << 24 | 1u << 25; // BF16, TILE, INT8
  if ((state >> 17 & 3) == 3 && all(d7, tiles) && tiles_granted()) features |= NNC_CPU_AMX_BF16;
  return features;
}

#else

int64_t cpu_features() { return 0; }

#endif

const char *version_names(const NncModel &model) {
  Builder list;
  for (int64_t i = 0; i < count_of(model); i++)
    list.add("%s%s", i ? ", " : "", version(model, i).target);
  return text_copy(list.c_str(), list.length());
}

const NncModel &choose_version(const NncModel &model, const char *level, int64_t features) {
  for (int64_t i = 0; i < count_of(model); i++) {
    const NncModel &v = version(model, i);
    if (level ? same(v.target, level) : !(v.required_features & ~features)) return v;
  }
  if (level)
    usage_fail("--mcpu: this program has code for %s, not for `%s`", version_names(model), level);
  return version(model, count_of(model) - 1);
}

const char *why_not(const NncModel &model, int64_t features) {
  int64_t missing = model.required_features & ~features;
  if (!missing) return nullptr;
  const char *advice = "";
  if (model.version_count)
    advice = text("; the program also has code for other levels (%s)", version_names(model));
  else if (features & NNC_CPU_X86_64_V3)
    advice = text("; compile the model with --mcpu=%s, or portable",
                  features & NNC_CPU_X86_64_V4 ? "x86-64-v4" : "x86-64-v3");
  if (!(features & NNC_CPU_X86_64_V3)) advice = "; every compiled model needs AVX2 with FMA";
  return text("this program's code for %s needs %s, and this machine has %s%s", model.target,
              names(missing),
              features ? text("only %s", names(features)) : "neither AVX2 nor AVX-512", advice);
}

void require_cpu(const NncModel &model) {
  if (const char *reason = why_not(model, cpu_features())) fail("%s", reason);
}

} // namespace rt
