// Whole files in, whole files out.
//
// Reading: a file is read into memory at once, or piece by piece where it may be as large as the model;
// gzip is recognised by its first two bytes and inflated. Writing: into `PATH.tmp-PID` beside the target, flushed to the disk, then renamed over
// it, so that whatever happens either the old file or the new one is there, never a piece. A
// program that was killed leaves its temporary file; whoever next writes PATH removes it.
#ifndef NNC_RUNTIME_FILES_H
#define NNC_RUNTIME_FILES_H

#include "runtime/base.h"

#include <stdio.h>

namespace rt {

// `what` names the use in the message if the file cannot be opened: "training data `image`".
// The bytes are followed by one zero byte that is not counted.
Array<char> read_file(const char *path, const char *what);

// A file that is read piece by piece: a regular one from the disk; what is no regular file, and gzip, is
// in memory as a whole.
struct InputFile {
  const char *path = nullptr, *what = nullptr;
  int descriptor = -1; // -1: in memory
  Array<char> whole;
  size_t size = 0;

  InputFile() = default;
  InputFile(InputFile &&other) noexcept;
  InputFile &operator=(InputFile &&) = delete;
  ~InputFile();
  // The bytes must lie inside the file as it was when it was opened.
  void read(size_t offset, void *to, size_t count) const;
};
InputFile open_file(const char *path, const char *what);

// A folder that can be read and has no folder in it.
bool is_flat_folder(const char *path);

struct OutputFile {
  const char *path, *temporary;
  FILE *stream;
};
OutputFile begin_file(const char *path);
void write_bytes(OutputFile &file, const void *bytes, size_t count);
void finish_file(OutputFile &file);
// Fails now, and not after an hour of training, if `path` cannot be written.
void check_writable(const char *path);

} // namespace rt

#endif
