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
set(NNC_BUNDLE ${CMAKE_BINARY_DIR}/lib/nnc/x86_64-linux-gnu)
file(MAKE_DIRECTORY ${NNC_BUNDLE})

# Copies what the C compiler would link; fails at configure time if a piece is missing.
function(bundle_file NAME)
  execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=${NAME}
                  OUTPUT_VARIABLE FOUND OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT IS_ABSOLUTE "${FOUND}")
    message(FATAL_ERROR "runtime bundle: ${NAME} not found (Debian: libc6-dev, zlib1g-dev, libjansson-dev, libminizip-dev, libpng-dev, libturbojpeg0-dev, gcc)")
  endif()
  get_filename_component(REAL "${FOUND}" REALPATH)
  file(COPY_FILE "${REAL}" ${NNC_BUNDLE}/${NAME} ONLY_IF_DIFFERENT)
endfunction()

foreach(NAME crt1.o crti.o crtbeginT.o crtend.o crtn.o libc.a libgcc.a libgcc_eh.a libz.a libjansson.a
        libminizip.a libpng16.a libturbojpeg.a)
  bundle_file(${NAME})
endforeach()

# glibc's libm.a may be a linker script that names the real archives by absolute paths.
execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=libm.a
                OUTPUT_VARIABLE LIBM OUTPUT_STRIP_TRAILING_WHITESPACE)
file(STRINGS "${LIBM}" LIBM_GROUP REGEX "^GROUP")
set(LIBM_NAMES libm.a)
if(LIBM_GROUP)
  string(REGEX MATCHALL "lib[A-Za-z0-9._-]+\\.a" LIBM_NAMES "${LIBM_GROUP}")
endif()
foreach(NAME ${LIBM_NAMES})
  bundle_file(${NAME})
endforeach()

set(LINK_TXT "ld.lld" "-static" "-m" "elf_x86_64" "--gc-sections" "-s" "--build-id=none" "-z" "noexecstack"
    "-o" "@OUTPUT@" "@BUNDLE@/crt1.o" "@BUNDLE@/crti.o" "@BUNDLE@/crtbeginT.o" "@OBJECT@" "--start-group"
    "@BUNDLE@/libnncrt.a" "@BUNDLE@/libz.a" "@BUNDLE@/libjansson.a"
    "@BUNDLE@/libminizip.a" "@BUNDLE@/libpng16.a" "@BUNDLE@/libturbojpeg.a") # for parts of the runtime (abi.h)
foreach(NAME ${LIBM_NAMES})
  list(APPEND LINK_TXT "@BUNDLE@/${NAME}")
endforeach()
list(APPEND LINK_TXT "@BUNDLE@/libgcc.a" "@BUNDLE@/libgcc_eh.a" "@BUNDLE@/libc.a" "--end-group"
     "@BUNDLE@/crtend.o" "@BUNDLE@/crtn.o")
list(JOIN LINK_TXT "\n" LINK_TXT)
file(WRITE ${NNC_BUNDLE}/link.txt.new "${LINK_TXT}\n")
file(COPY_FILE ${NNC_BUNDLE}/link.txt.new ${NNC_BUNDLE}/link.txt ONLY_IF_DIFFERENT)
file(REMOVE ${NNC_BUNDLE}/link.txt.new)

# Its debug information would only be copied around.
add_custom_command(OUTPUT ${NNC_BUNDLE}/libnncrt.a
                   COMMAND ${CMAKE_COMMAND} -E copy $<TARGET_FILE:nncrt> ${NNC_BUNDLE}/libnncrt.a
                   COMMAND ${CMAKE_STRIP} --strip-debug ${NNC_BUNDLE}/libnncrt.a
                   DEPENDS nncrt VERBATIM)
add_custom_target(nnc_bundle ALL DEPENDS ${NNC_BUNDLE}/libnncrt.a)

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
    string(REPLACE "\n" ";" ARGUMENTS "${ARGUMENTS}")
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
