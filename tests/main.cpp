// The main function of the test program; Catch2's implementation is compiled here, once.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#include <cstdlib>

// What somebody measured on this machine (nnc --tune) is not used by tests.
[[maybe_unused]] static const int kNoCache = setenv("XDG_CACHE_HOME", "/nonexistent", 1);
