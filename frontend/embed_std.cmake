# Writes OUT, a C++ file that defines `stdFiles()` (std_text.h) with the text of every file in FILES:
#
#   layers.nn  ->  {"layers.nn", "\x6c\x61\x79\x65\x72…" "…"}
#
# Bytes, because no quoting rule survives every text; in pieces, as compilers limit a literal.
set(entries "")
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME)
  # Read as hex: a list-valued or semicolon-laden string would lose characters on the way.
  file(READ ${file} hex HEX)
  string(LENGTH "${hex}" length)
  set(literal "")
  set(at 0)
  while(at LESS length)
    string(SUBSTRING "${hex}" ${at} 4000 piece)
    string(REGEX REPLACE "(..)" "\\\\x\\1" piece "${piece}")
    string(APPEND literal "\n  \"${piece}\"")
    math(EXPR at "${at} + 4000")
  endwhile()
  if(literal STREQUAL "")
    set(literal "\"\"")
  endif()
  string(APPEND entries "  {\"${name}\", ${literal}},\n")
endforeach()
file(WRITE ${OUT}.new "// Generated from frontend/std.
#include \"frontend/std_text.h\"

namespace nnc::fe {
static const StdFile files[] = {
${entries}  {nullptr, nullptr}};

std::span<const StdFile> stdFiles() { return {files, sizeof files / sizeof files[0] - 1}; }
} // namespace nnc::fe
")
file(RENAME ${OUT}.new ${OUT})
