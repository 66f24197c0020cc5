// How much memory this process can have.
//
// Problem. Linux grants more memory than there is, so a model that is too large starts, trains for
// a while and is killed without a word, and other programs may be with it.
//
// Method. Only what can never work is refused: what a step touches, compared with all memory and
// swap of the machine, or what the process's control group allows of it. How much of that is free
// changes by the minute and is not asked.
#ifndef NNC_RUNTIME_MEMORY_H
#define NNC_RUNTIME_MEMORY_H

#include <stdint.h>

namespace rt {

// In bytes, swap included.
int64_t usable_memory();
// `limit`, or less where a control group that this process belongs to allows less. `membership` is
// the text of /proc/self/cgroup, `root` where the groups are mounted, `swap` the machine's.
int64_t control_group_limit(int64_t limit, int64_t swap, const char *membership, const char *root);
// "3.17 KB"
const char *readable_bytes(int64_t bytes);

} // namespace rt

#endif
