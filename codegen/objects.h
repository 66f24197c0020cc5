// Object files in memory.
#pragma once
#include "codegen/codegen.h"
#include <string>
#include <vector>

namespace nnc::cg {

// One relocatable object from several, in their order. Returns an empty string, or what went wrong.
std::string mergeObjects(const std::vector<std::string> &objects, Arch arch, std::string &merged);

// Bytes of machine code in a relocatable object of this machine's byte order.
int64_t codeBytesOf(const std::string &object);

} // namespace nnc::cg
