// Whole files in, whole files out.
//
// Reading: a file is read into memory at once; gzip is recognised by its first two bytes and
// inflated. A file of weights, which may be as large as the model, is read in places. Writing: into
// `PATH.tmp-PID` beside the target, flushed to the disk, then renamed over it, so that whatever
// happens either the old file or the new one is there, never a piece. A program that was killed
// leaves its temporary file; whoever next writes PATH removes it.
#ifndef NNC_RUNTIME_FILES_H
#define NNC_RUNTIME_FILES_H

#include "runtime/base.h"

#include <stdio.h>

namespace rt {

// `what` names the use in the message if the file cannot be opened: "training data `image`".
// The bytes are followed by one zero byte that is not counted.
Array<char> read_file(const char *path, const char *what);

// A file whose parts are read when they are wanted. Only what is no plain file, a pipe or gzip, is
// in memory as a whole. A file that is replaced by another while it is open stays the old one.
struct InputFile {
  const char *path, *what;
  int descriptor = -1; // if it is read in places
  Array<char> bytes;   // else
  int64_t size = 0;

  InputFile(const char *path, const char *what);
  InputFile(const InputFile &) = delete;
  InputFile(InputFile &&other) noexcept;
  ~InputFile();
  // Bytes [begin, begin + count), which must be inside the file.
  void read(int64_t begin, void *to, size_t count) const;
};

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
