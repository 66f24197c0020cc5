// The training binary: everything `main` does.
#ifndef NNC_RUNTIME_APP_H
#define NNC_RUNTIME_APP_H

#include "runtime/abi.h"

namespace rt {

// Returns the exit code.
int run_app(const NncModel &model, int argc, char **argv);

} // namespace rt

#endif
