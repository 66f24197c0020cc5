// What the head of a data file says of its rows: their sizes and elements.
//
// Problem. `model M(x: [batch, n])` leaves `n` to the data. It stands in the first bytes of the
// file
// (`{'descr': '<f4', 'shape': (500, 12)}`), long before anything trains.
//
// Method. The heads alone are read here, by ordinary C++; the readers of the training binary are
// another program, which checks whole files and, against the compiled types, those that it is
// given.
#pragma once
#include "ir/meta.h"
#include "ir/type.h"
#include <optional>
#include <string>
#include <vector>

namespace nnc::fe {

struct DataHeader {
  std::string file, error;          // error: why there is nothing else
  std::optional<ir::DType> element; // none: numbers as text, which have no element type
  std::vector<int64_t> row;         // sizes of a row
};

/// `column` is an entry of a module's metadata: reader, file, columns.
DataHeader readHeader(const ir::Meta &column);

/// The fields of the first line of a CSV file; none if there is no such file, or no line in it.
std::vector<std::string> csvFields(const std::string &path);
/// The names of the directories in a directory; no value if there is no such directory.
std::optional<std::vector<std::string>> subdirectories(const std::string &path);

} // namespace nnc::fe
