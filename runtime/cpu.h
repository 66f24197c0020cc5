// What the processor can do, and which version of a model's code it gets.
//
// Problem. Code for AVX-512 dies of SIGILL on a machine without; and one binary may hold code for
// several levels of processors, each with plans and layouts of its own.
//
// Method. Features are bits of CPUID, together with what the operating system saves of a thread
// (XCR0); the processor's name is never asked. A version is a whole NncModel (abi.h): it is picked
// once, before anything looks at a table, and nothing else in the runtime knows of the others.
#ifndef NNC_RUNTIME_CPU_H
#define NNC_RUNTIME_CPU_H

#include "runtime/abi.h"

namespace rt {

// NNC_CPU_* of this machine.
int64_t cpu_features();

// The version named `level`; null: the first of which this machine has all `features`, else the
// last.
const NncModel &choose_version(const NncModel &model, const char *level, int64_t features);
// The levels that the program has code for, as "a, b".
const char *version_names(const NncModel &model);

// What is wrong with running this model on a machine with these features; null if it can run.
const char *why_not(const NncModel &model, int64_t features);
// Ends the process if this machine cannot run it; asks the system for tile registers.
void require_cpu(const NncModel &model);

} // namespace rt

#endif
