# The runtime: what a compiled model links against.
#
# `libnncrt.a` has its own flags: no exceptions, no RTTI, no C++ library. The bundle is everything
# that `nnc` needs to link a model in process without any installed compiler: the archive, libc and
# its friends, the start files, and link.txt, the linker's arguments one a line.
file(GLOB RUNTIME_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/runtime/*.cpp)
set(RUNTIME_FLAGS -O2 -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-asynchronous-unwind-tables
    -ffunction-sections -fdata-sections -fno-pie)

add_library(nncrt STATIC ${RUNTIME_SOURCES})
target_compile_options(nncrt PRIVATE ${RUNTIME_FLAGS})
if(NNC_SANITIZE)
  # A binary without the sanitizers' own runtime must link, and bundles are always release builds.
  target_compile_options(nncrt PRIVATE -fno-sanitize=all)
endif()

# The same sources for tests inside a process: ordinary flags, sanitizers if asked for, no main.
set(RUNTIME_TESTABLE ${RUNTIME_SOURCES})
list(FILTER RUNTIME_TESTABLE EXCLUDE REGEX "/main\\.cpp$")
add_library(nnc_runtime_testable STATIC EXCLUDE_FROM_ALL ${RUNTIME_TESTABLE})
target_link_libraries(nnc_runtime_testable PUBLIC z jansson minizip png turbojpeg pthread)

# --- the bundle ----------------------------------------------------------------------------------
# One folder for each target. `SEARCH` are the compiler and a folder with further libraries.
set(RUNTIME_LIBRARIES libz.a libjansson.a libminizip.a libpng16.a libturbojpeg.a)

# Sets `out` to the file that the compiler would link as `name`, "" if there is none.
function(runtime_file NAME COMPILER FOLDER OUT)
  set(FOUND "${FOLDER}/${NAME}")
  if(NOT FOLDER OR NOT EXISTS "${FOUND}")
    execute_process(COMMAND ${COMPILER} -print-file-name=${NAME}
                    OUTPUT_VARIABLE FOUND OUTPUT_STRIP_TRAILING_WHITESPACE)
  endif()
  if(NOT IS_ABSOLUTE "${FOUND}")
    set(FOUND "")
  endif()
  set(${OUT} "${FOUND}" PARENT_SCOPE)
endfunction()

# Copies what the compiler would link, and writes link.txt with lld's arguments, which `OUT` gets, too.
# MISSING gets the names of what there is not.
function(fill_bundle BUNDLE EMULATION COMPILER FOLDER OUT MISSING)
  file(MAKE_DIRECTORY ${BUNDLE})
  # glibc's libm.a may be a linker script that names the real archives by absolute paths.
  runtime_file(libm.a ${COMPILER} "${FOLDER}" LIBM)
  set(LIBM_NAMES libm.a)
  if(LIBM)
    file(STRINGS "${LIBM}" LIBM_GROUP REGEX "^GROUP")
    if(LIBM_GROUP)
      string(REGEX MATCHALL "lib[A-Za-z0-9._-]+\\.a" LIBM_NAMES "${LIBM_GROUP}")
    endif()
  endif()
  set(ABSENT "")
  foreach(NAME crt1.o crti.o crtbeginT.o crtend.o crtn.o libc.a libgcc.a libgcc_eh.a
          ${RUNTIME_LIBRARIES} ${LIBM_NAMES})
    runtime_file(${NAME} ${COMPILER} "${FOLDER}" FOUND)
    if(FOUND)
      file(REAL_PATH "${FOUND}" REAL)
      file(COPY_FILE "${REAL}" ${BUNDLE}/${NAME} ONLY_IF_DIFFERENT)
    else()
      list(APPEND ABSENT ${NAME})
    endif()
  endforeach()
  set(LINK_TXT "ld.lld" "-static" "-m" "${EMULATION}" "--gc-sections" "-s" "--build-id=none" "-z" "noexecstack"
      "-o" "@OUTPUT@" "@BUNDLE@/crt1.o" "@BUNDLE@/crti.o" "@BUNDLE@/crtbeginT.o" "@OBJECT@" "--start-group"
      "@BUNDLE@/libnncrt.a")
  foreach(NAME ${RUNTIME_LIBRARIES} ${LIBM_NAMES}) # for parts of the runtime, too (abi.h)
    list(APPEND LINK_TXT "@BUNDLE@/${NAME}")
  endforeach()
  list(APPEND LINK_TXT "@BUNDLE@/libgcc.a" "@BUNDLE@/libgcc_eh.a" "@BUNDLE@/libc.a" "--end-group"
       "@BUNDLE@/crtend.o" "@BUNDLE@/crtn.o")
  set(${OUT} "${LINK_TXT}" PARENT_SCOPE)
  set(${MISSING} "${ABSENT}" PARENT_SCOPE)
  list(JOIN LINK_TXT "\n" LINK_TXT)
  file(WRITE ${BUNDLE}/link.txt.new "${LINK_TXT}\n")
  file(COPY_FILE ${BUNDLE}/link.txt.new ${BUNDLE}/link.txt ONLY_IF_DIFFERENT)
  file(REMOVE ${BUNDLE}/link.txt.new)
endfunction()

set(NNC_BUNDLE ${CMAKE_BINARY_DIR}/lib/nnc/x86_64-linux-gnu)
fill_bundle(${NNC_BUNDLE} elf_x86_64 ${CMAKE_C_COMPILER} "" LINK_TXT MISSING)
if(MISSING)
  message(FATAL_ERROR "runtime bundle: ${MISSING} not found (Debian: libc6-dev, zlib1g-dev, libjansson-dev, libminizip-dev, libpng-dev, libturbojpeg0-dev, gcc)")
endif()

# Its debug information would only be copied around.
add_custom_command(OUTPUT ${NNC_BUNDLE}/libnncrt.a
                   COMMAND ${CMAKE_COMMAND} -E copy $<TARGET_FILE:nncrt> ${NNC_BUNDLE}/libnncrt.a
                   COMMAND ${CMAKE_STRIP} --strip-debug ${NNC_BUNDLE}/libnncrt.a
                   DEPENDS nncrt VERBATIM)
set(BUNDLES ${NNC_BUNDLE}/libnncrt.a)

# --- AArch64 -------------------------------------------------------------------------------------
# The same sources by a cross compiler, where there is one (Debian: g++-aarch64-linux-gnu; the libraries
# by script/aarch64); else `nnc --target=aarch64-linux-gnu` compiles to objects only, and says so.
set(NNC_AARCH64_ROOT ${CMAKE_SOURCE_DIR}/build/aarch64-linux-gnu CACHE PATH
    "unpacked arm64 packages of the libraries that the runtime links")
find_program(NNC_AARCH64_CXX aarch64-linux-gnu-g++)
set(ARM_BUNDLE ${CMAKE_BINARY_DIR}/lib/nnc/aarch64-linux-gnu)
if(NNC_AARCH64_CXX)
  fill_bundle(${ARM_BUNDLE} aarch64linux ${NNC_AARCH64_CXX}
              "${NNC_AARCH64_ROOT}/usr/lib/aarch64-linux-gnu" IGNORED MISSING)
else()
  set(MISSING aarch64-linux-gnu-g++)
endif()
if(MISSING)
  file(REMOVE_RECURSE ${ARM_BUNDLE})
  message(STATUS "no runtime for aarch64-linux-gnu, ${MISSING} not found (g++-aarch64-linux-gnu, script/aarch64)")
else()
  set(ARM_OBJECTS "")
  foreach(SOURCE ${RUNTIME_SOURCES})
    get_filename_component(NAME ${SOURCE} NAME_WE)
    set(OBJECT ${CMAKE_BINARY_DIR}/aarch64/${NAME}.o)
    add_custom_command(
      OUTPUT ${OBJECT}
      COMMAND ${CMAKE_CXX_COMPILER_LAUNCHER} ${NNC_AARCH64_CXX} -std=c++20 ${RUNTIME_FLAGS} -Wall -Wextra
              -I${CMAKE_SOURCE_DIR} -isystem ${NNC_AARCH64_ROOT}/usr/include -MD -MF ${OBJECT}.d -c ${SOURCE} -o ${OBJECT}
      DEPENDS ${SOURCE} DEPFILE ${OBJECT}.d VERBATIM)
    list(APPEND ARM_OBJECTS ${OBJECT})
  endforeach()
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/aarch64)
  string(REGEX REPLACE "g\\+\\+$" "ar" ARM_AR "${NNC_AARCH64_CXX}")
  add_custom_command(OUTPUT ${ARM_BUNDLE}/libnncrt.a
                     COMMAND ${CMAKE_COMMAND} -E rm -f ${ARM_BUNDLE}/libnncrt.a
                     COMMAND ${ARM_AR} rcs ${ARM_BUNDLE}/libnncrt.a ${ARM_OBJECTS}
                     DEPENDS ${ARM_OBJECTS} VERBATIM)
  list(APPEND BUNDLES ${ARM_BUNDLE}/libnncrt.a)
endif()

add_custom_target(nnc_bundle ALL DEPENDS ${BUNDLES})

# --- models written by hand, for the tests -------------------------------------------------------
# Linked exactly as `nnc` links: by link.txt.
if(NNC_TESTS)
  find_program(NNC_LLD NAMES ld.lld-19 ld.lld REQUIRED)
  set(HAND_DIR ${CMAKE_BINARY_DIR}/hand)
  file(MAKE_DIRECTORY ${HAND_DIR})
  set(HAND_MODELS "")
  foreach(VARIANT LINE IMAGE STEPS HUGE)
    string(TOLOWER ${VARIANT} NAME)
    set(OBJECT ${HAND_DIR}/${NAME}.o)
    set(ARGUMENTS ${LINK_TXT})
    list(REMOVE_AT ARGUMENTS 0)
    string(REPLACE "@BUNDLE@" "${NNC_BUNDLE}" ARGUMENTS "${ARGUMENTS}")
    string(REPLACE "@OBJECT@" "${OBJECT}" ARGUMENTS "${ARGUMENTS}")
    string(REPLACE "@OUTPUT@" "${HAND_DIR}/${NAME}" ARGUMENTS "${ARGUMENTS}")
    add_custom_command(
      OUTPUT ${HAND_DIR}/${NAME}
      COMMAND ${CMAKE_C_COMPILER} -O1 -c -fno-pie -ffp-contract=off -D${VARIANT} -I${CMAKE_SOURCE_DIR}
              ${CMAKE_SOURCE_DIR}/tests/data/hand_model.c -o ${OBJECT}
      COMMAND ${NNC_LLD} ${ARGUMENTS}
      DEPENDS ${CMAKE_SOURCE_DIR}/tests/data/hand_model.c ${CMAKE_SOURCE_DIR}/runtime/abi.h nnc_bundle
              ${NNC_BUNDLE}/libnncrt.a
      VERBATIM)
    list(APPEND HAND_MODELS ${HAND_DIR}/${NAME})
  endforeach()
  add_custom_target(nnc_hand_models DEPENDS ${HAND_MODELS})
  add_dependencies(nnc_runtime_testable nnc_hand_models)
  target_compile_definitions(nnc_runtime_testable PUBLIC NNC_HAND_MODELS="${HAND_DIR}")
endif()
