# The `nnc` command: every stage together. It finds the runtime bundle in lib/nnc beside itself.
file(GLOB DRIVER_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/frontend/driver_*.cpp)
if(TARGET nnc_codegen AND TARGET nnc_frontend AND TARGET nnc_ir)
  add_executable(nnc ${CMAKE_SOURCE_DIR}/frontend/main.cpp ${DRIVER_SOURCES})
  target_link_libraries(nnc PRIVATE nnc_frontend nnc_codegen nnc_ir)
  target_compile_definitions(nnc PRIVATE
    NNC_VERSION="${PROJECT_VERSION}" NNC_LLVM_VERSION="${LLVM_VERSION_TEXT}"
    $<$<BOOL:${NNC_ROUNDTRIP}>:NNC_ROUNDTRIP>)
  set_target_properties(nnc PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
  if(TARGET nnc_bundle)
    add_dependencies(nnc nnc_bundle)
  endif()
endif()
