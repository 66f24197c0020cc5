# Fuzzers of the language and of the textual IR (NNC_FUZZ): with libFuzzer and AddressSanitizer where
# the compiler is clang, with a small driver of our own else. `ctest` runs each for a minute, beginning
# from tests/corpus, with the same random numbers each time; what is found on the way stays in the
# build folder. An input that takes a minute hangs: busy machines are slow.
foreach(target language ir)
  add_executable(fuzz_${target} tests/fuzz/entry.cpp tests/fuzz/targets.cpp)
  target_compile_definitions(fuzz_${target} PRIVATE NNC_FUZZ_TARGET=${target})
  target_link_libraries(fuzz_${target} PRIVATE nnc_frontend nnc_ir)
  if(CMAKE_CXX_COMPILER_ID STREQUAL Clang)
    target_link_options(fuzz_${target} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(fuzz_${target} PRIVATE tests/fuzz/standalone.cpp)
  endif()
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz/${target})
  enable_testing()
  add_test(NAME fuzz_${target}
    COMMAND fuzz_${target} -seed=1 -max_total_time=60 -timeout=60 -rss_limit_mb=2048 -max_len=16384
            -dict=${CMAKE_SOURCE_DIR}/tests/fuzz/${target}.dict
            ${CMAKE_BINARY_DIR}/fuzz/${target} ${CMAKE_SOURCE_DIR}/tests/corpus/${target}
    WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
endforeach()
