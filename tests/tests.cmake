# All tests are one Catch2 executable, nnc_tests: main.cpp and every tests/<stage>_*_test.cpp whose
# stage is built. The prefix of a file names the stage it needs.
#
#   ir_                                             always
#   parse_ diagnostics_ elaborate_ language_ library_   nnc_frontend
#   codegen_ kernel_ plan_                          nnc_codegen
#   runtime_                                        nnc_runtime_testable
#   tool_ sample_ programs_                         all of them
find_package(Catch2 2 REQUIRED)

set(NNC_TEST_LIBRARIES "")
foreach(library nnc_codegen nnc_frontend nnc_runtime_testable nnc_ir)
  if(TARGET ${library})
    list(APPEND NNC_TEST_LIBRARIES ${library})
  endif()
endforeach()

# Sets `out` to the stage that the test file `name` needs, "" if none is missing.
function(nnc_missing_stage name out)
  set(needs "")
  if(name MATCHES "^(parse|diagnostics|elaborate|language|library)_")
    set(needs nnc_frontend)
  elseif(name MATCHES "^(codegen|kernel|plan)_")
    set(needs nnc_codegen)
  elseif(name MATCHES "^runtime_")
    set(needs nnc_runtime_testable)
  elseif(name MATCHES "^(tool|sample|programs)_")
    set(needs nnc_frontend nnc_codegen nnc_runtime_testable)
  elseif(NOT name MATCHES "^ir_")
    message(FATAL_ERROR "tests/${name}: the prefix names no stage, see tests/tests.cmake")
  endif()
  set(missing "")
  foreach(target ${needs})
    if(NOT TARGET ${target})
      set(missing ${target})
    endif()
  endforeach()
  set(${out} "${missing}" PARENT_SCOPE)
endfunction()

file(GLOB NNC_TEST_FILES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/*_test.cpp)
set(NNC_TEST_SOURCES ${CMAKE_SOURCE_DIR}/tests/main.cpp)
foreach(file ${NNC_TEST_FILES})
  get_filename_component(name ${file} NAME)
  nnc_missing_stage(${name} missing)
  if(missing STREQUAL "")
    list(APPEND NNC_TEST_SOURCES ${file})
  endif()
endforeach()

if(TARGET nnc_codegen)
  list(APPEND NNC_TEST_SOURCES ${CMAKE_SOURCE_DIR}/tests/compiled_model.cpp
                                ${CMAKE_SOURCE_DIR}/tests/kernel_jit.cpp)
endif()

if(TARGET nnc_frontend)
  list(APPEND NNC_TEST_SOURCES ${CMAKE_SOURCE_DIR}/tests/fuzz/targets.cpp)
endif()

add_executable(nnc_tests ${NNC_TEST_SOURCES})
target_link_libraries(nnc_tests PRIVATE ${NNC_TEST_LIBRARIES} Catch2::Catch2)
if(NNC_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL GNU) # false reports in std::regex (GCC bug 105616)
  set_source_files_properties(tests/main.cpp tests/runtime_binary_test.cpp tests/language_highlight_test.cpp
    PROPERTIES COMPILE_OPTIONS -Wno-maybe-uninitialized)
endif()
target_compile_definitions(nnc_tests PRIVATE NNC_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                                             NNC_BINARY_DIR="${CMAKE_BINARY_DIR}")
if(TARGET nnc_codegen) # compiled kernels run in the tests, through LLVM's in-memory linker
  target_link_libraries(nnc_tests PRIVATE mvec) # references for elementary functions
  target_include_directories(nnc_tests SYSTEM PRIVATE ${LLVM_INCLUDE_PATH})
endif()
if(TARGET nnc)
  add_dependencies(nnc_tests nnc) # tool_ tests run it
endif()
add_test(NAME nnc_tests COMMAND nnc_tests WORKING_DIRECTORY ${CMAKE_BINARY_DIR})

# For those who change schedules: `ninja nnc_kernel_times`.
if(TARGET nnc_codegen)
  add_executable(nnc_kernel_times EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/tests/kernel_times.cpp
                                                   ${CMAKE_SOURCE_DIR}/tests/compiled_model.cpp
                                                   ${CMAKE_SOURCE_DIR}/tests/kernel_jit.cpp)
  target_link_libraries(nnc_kernel_times PRIVATE nnc_codegen nnc_ir)
  target_compile_definitions(nnc_kernel_times PRIVATE NNC_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  target_include_directories(nnc_kernel_times SYSTEM PRIVATE ${LLVM_INCLUDE_PATH})
endif()
