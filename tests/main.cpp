// The main function of the test program; Catch2's implementation is compiled here, once.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
