# Code generation: tensor IR -> kernels -> plan -> machine code -> executable.
#
# The only library that sees LLVM and lld (Debian's llvm-19-dev and liblld-19-dev). Development
# builds link the shared libLLVM, which links fast and starts in ten milliseconds; NNC_STATIC_LLVM
# makes an `nnc` that needs nothing but libc. LLVM's headers are precompiled, and only for the
# sources that include them.
option(NNC_STATIC_LLVM "link LLVM statically, for an nnc that runs on any machine" OFF)

find_program(LLVM_CONFIG NAMES llvm-config-19 llvm-config REQUIRED)
function(llvm_config OUT)
  execute_process(COMMAND ${LLVM_CONFIG} ${ARGN} OUTPUT_VARIABLE text
                  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  set(${OUT} "${text}" PARENT_SCOPE)
endfunction()
llvm_config(LLVM_VERSION_TEXT --version)
if(NOT LLVM_VERSION_TEXT MATCHES "^19\\.")
  message(FATAL_ERROR "nnc needs LLVM 19 (llvm-19-dev), found ${LLVM_VERSION_TEXT}")
endif()
llvm_config(LLVM_INCLUDE_PATH --includedir)
llvm_config(LLVM_LIBRARY_PATH --libdir)

find_library(LLD_ELF lldELF HINTS ${LLVM_LIBRARY_PATH} NO_DEFAULT_PATH REQUIRED)
find_library(LLD_COMMON lldCommon HINTS ${LLVM_LIBRARY_PATH} NO_DEFAULT_PATH REQUIRED)
if(NNC_STATIC_LLVM)
  llvm_config(LLVM_LIBS --link-static --libs all)
  llvm_config(LLVM_SYSTEM_LIBS --link-static --system-libs)
  string(REPLACE " " ";" LLVM_LIBS "${LLVM_LIBS} ${LLVM_SYSTEM_LIBS}")
else()
  llvm_config(LLVM_LIBS --link-shared --libs)
  string(REPLACE " " ";" LLVM_LIBS "${LLVM_LIBS}")
endif()

file(GLOB CODEGEN_SOURCES CONFIGURE_DEPENDS codegen/*.cpp codegen/cpu/*.cpp)
if(CODEGEN_SOURCES)
  add_library(nnc_codegen STATIC ${CODEGEN_SOURCES})
  target_include_directories(nnc_codegen SYSTEM PRIVATE ${LLVM_INCLUDE_PATH})
  target_link_directories(nnc_codegen PUBLIC ${LLVM_LIBRARY_PATH})
  # lld itself compresses debug sections.
  target_link_libraries(nnc_codegen PUBLIC ${LLD_ELF} ${LLD_COMMON} ${LLVM_LIBS} zstd z pthread)
  if(TARGET nnc_ir)
    target_link_libraries(nnc_codegen PUBLIC nnc_ir)
  endif()
  set(LLVM_PCH ${CMAKE_SOURCE_DIR}/codegen/cpu/llvm_pch.h)
  if(EXISTS ${LLVM_PCH})
    target_precompile_headers(nnc_codegen PRIVATE ${LLVM_PCH})
  endif()
  foreach(source ${CODEGEN_SOURCES})
    file(STRINGS ${source} llvm_includes REGEX "#include.*llvm")
    if(NOT llvm_includes)
      set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endforeach()
endif()
