// How much memory this process can have: see memory.h.
//
//   0::/user.slice/job.scope       version 2: memory.max and memory.swap.max of every directory on
//                                  the way; "max" or no file: no limit
//   4:memory:/job                  version 1: the same, in memory.limit_in_bytes and
//                                  memory.memsw.limit_in_bytes, which counts both together
#include "runtime/memory.h"

#include "runtime/base.h"

#include <stdio.h>
#include <sys/sysinfo.h>

namespace rt {

namespace {

// The beginning of a file, without its last newline; empty if it cannot be read.
const char *file_text(const char *path) {
  char bytes[4096];
  FILE *stream = fopen(path, "re");
  size_t count = stream ? fread(bytes, 1, sizeof bytes, stream) : 0;
  if (stream) fclose(stream);
  if (count && bytes[count - 1] == '\n') count--;
  return text_copy(bytes, count);
}

// A number in a file of a group, or `otherwise`.
int64_t number_in(const char *directory, const char *file, int64_t otherwise) {
  const char *content = file_text(text("%s/%s", directory, file));
  char *stop;
  long long value = strtoll(content, &stop, 10);
  return stop == content || value < 0 ? otherwise : value;
}

// What one group allows; the kernel writes numbers near 2^63 for "no limit".
int64_t group_limit(const char *directory, bool unified, int64_t swap) {
  const char *name = unified ? "memory.max" : "memory.limit_in_bytes";
  int64_t memory = number_in(directory, name, INT64_MAX), both;
  if (unified) swap = number_in(directory, "memory.swap.max", swap);
  if (__builtin_add_overflow(memory, swap, &both)) both = INT64_MAX;
  if (unified) return both;
  int64_t counted = number_in(directory, "memory.memsw.limit_in_bytes", both);
  return counted < both ? counted : both;
}

} // namespace

int64_t control_group_limit(int64_t limit, int64_t swap, const char *membership, const char *root) {
  for (const char *line = membership; *line;) {
    size_t length = strcspn(line, "\n");
    const char *whole = text_copy(line, length);
    line += length + (line[length] == '\n');
    const char *controllers = strchr(whole, ':');
    const char *path = controllers ? strchr(controllers + 1, ':') : nullptr;
    if (!path) continue;
    bool unified = strncmp(controllers, "::", 2) == 0;
    if (!unified && strncmp(controllers, ":memory:", 8) != 0) continue;
    // Inside a container the path may be that of the machine outside; its root is there all the
    // same, and is the container's own group.
    Builder directory;
    directory.add("%s%s%s", root, unified ? "" : "/memory", path + 1);
    size_t shortest = strlen(root) + (unified ? 0 : strlen("/memory"));
    for (;;) {
      int64_t here = group_limit(directory.c_str(), unified, swap);
      if (here < limit) limit = here;
      size_t end = directory.length();
      while (end > shortest && directory.chars[end - 1] != '/') end--;
      if (end <= shortest) break;
      directory.chars.count = end;
      directory.chars[end - 1] = 0; // the slash
    }
  }
  return limit;
}

int64_t usable_memory() {
  struct sysinfo info;
  if (sysinfo(&info) != 0) return INT64_MAX;
  int64_t swap = int64_t(info.totalswap) * info.mem_unit;
  int64_t all = int64_t(info.totalram) * info.mem_unit + swap;
  return control_group_limit(all, swap, file_text("/proc/self/cgroup"), "/sys/fs/cgroup");
}

const char *readable_bytes(int64_t bytes) {
  const char *units[] = {"B", "KB", "MB", "GB", "TB", "PB"};
  double value = double(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 5) value /= 1024, unit++;
  return text("%.2f %s", value, units[unit]);
}

} // namespace rt
