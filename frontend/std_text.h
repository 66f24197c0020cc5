// The standard library's text, embedded at build time: every file of frontend/std/, by name.
#pragma once

#include <span>

namespace nnc::fe {

struct StdFile {
  const char *name; // "layers.nn"
  const char *text;
};
std::span<const StdFile> stdFiles();

} // namespace nnc::fe
