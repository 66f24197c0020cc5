// Texts embedded at build time, by name: the standard library (frontend/std/) and the page that
// `nnc explain` prints from (docs/diagnostics.md).
#pragma once

#include <span>

namespace nnc::fe {

struct StdFile {
  const char *name; // "layers.nn"
  const char *text;
};
std::span<const StdFile> stdFiles();
std::span<const StdFile> docFiles();

} // namespace nnc::fe
