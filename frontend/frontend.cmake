# The front end: text -> syntax tree -> tensor IR, and the library text it embeds.
#
# ANTLR's generated code and frontend/parse.cpp, the one file that includes its headers, are a
# target of their own: they share a precompiled header, and Debian's tool (4.7.2) writes code that
# C++20 takes only without char8_t. Nothing generated is kept in the source tree.
find_program(ANTLR4 antlr4 REQUIRED)
find_path(ANTLR4_INCLUDE antlr4-runtime.h PATH_SUFFIXES antlr4-runtime REQUIRED)
find_library(ANTLR4_LIBRARY antlr4-runtime REQUIRED)

set(NN_GRAMMAR ${CMAKE_SOURCE_DIR}/grammar/NN.g4)
set(NN_GENERATED ${CMAKE_BINARY_DIR}/generated)
add_custom_command(
  OUTPUT ${NN_GENERATED}/NNLexer.cpp ${NN_GENERATED}/NNLexer.h
         ${NN_GENERATED}/NNParser.cpp ${NN_GENERATED}/NNParser.h
  COMMAND ${ANTLR4} -Dlanguage=Cpp -Werror -no-listener -no-visitor -package nnc::grammar
          -o ${NN_GENERATED} NN.g4
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}/grammar
  DEPENDS ${NN_GRAMMAR}
  COMMENT "Generating the parser"
  VERBATIM)

add_library(nnc_grammar OBJECT
  ${NN_GENERATED}/NNLexer.cpp ${NN_GENERATED}/NNParser.cpp frontend/parse.cpp)
target_include_directories(nnc_grammar SYSTEM PRIVATE ${ANTLR4_INCLUDE} ${NN_GENERATED})
target_compile_options(nnc_grammar PRIVATE -fno-char8_t)
target_precompile_headers(nnc_grammar PRIVATE <antlr4-runtime.h>)
set_source_files_properties(${NN_GENERATED}/NNLexer.cpp ${NN_GENERATED}/NNParser.cpp
  PROPERTIES COMPILE_OPTIONS "-w")

# The standard library: every std/*.nn as a string, written by embed_std.cmake at build time.
file(GLOB NN_STD CONFIGURE_DEPENDS frontend/std/*.nn)
add_custom_command(
  OUTPUT ${NN_GENERATED}/std_text.cpp
  COMMAND ${CMAKE_COMMAND} "-DFILES=${NN_STD}" -DNAME=stdFiles -DOUT=${NN_GENERATED}/std_text.cpp
          -P ${CMAKE_SOURCE_DIR}/frontend/embed_std.cmake
  DEPENDS ${NN_STD} ${CMAKE_SOURCE_DIR}/frontend/embed_std.cmake
  COMMENT "Embedding the standard library"
  VERBATIM)
add_custom_command(
  OUTPUT ${NN_GENERATED}/doc_text.cpp
  COMMAND ${CMAKE_COMMAND} -DFILES=${CMAKE_SOURCE_DIR}/docs/diagnostics.md -DNAME=docFiles
          -DOUT=${NN_GENERATED}/doc_text.cpp -P ${CMAKE_SOURCE_DIR}/frontend/embed_std.cmake
  DEPENDS ${CMAKE_SOURCE_DIR}/docs/diagnostics.md ${CMAKE_SOURCE_DIR}/frontend/embed_std.cmake
  COMMENT "Embedding the explanations of messages"
  VERBATIM)

file(GLOB FRONTEND_SOURCES CONFIGURE_DEPENDS frontend/*.cpp)
list(FILTER FRONTEND_SOURCES EXCLUDE REGEX "/driver_") # the nnc command: nnc.cmake
list(REMOVE_ITEM FRONTEND_SOURCES
  ${CMAKE_SOURCE_DIR}/frontend/main.cpp ${CMAKE_SOURCE_DIR}/frontend/parse.cpp)
add_library(nnc_frontend STATIC
  ${FRONTEND_SOURCES} ${NN_GENERATED}/std_text.cpp ${NN_GENERATED}/doc_text.cpp $<TARGET_OBJECTS:nnc_grammar>)
target_link_libraries(nnc_frontend PUBLIC ${ANTLR4_LIBRARY} minizip z) # z: the heads of compressed data
find_path(NLOHMANN_JSON_INCLUDE nlohmann/json.hpp REQUIRED) # headers alone, for the language server
if(TARGET nnc_ir)
  target_link_libraries(nnc_frontend PUBLIC nnc_ir)
endif()
