// Object files in memory.
#pragma once
#include <string>
#include <vector>

namespace nnc::cg {

// One relocatable object from several, in their order. Returns an empty string, or what went wrong.
std::string mergeObjects(const std::vector<std::string> &objects, std::string &merged);

} // namespace nnc::cg
