// The labels of a contraction as text: "n, 2i+u-1, c".
//
// One form per dimension, separated by commas or blanks; a form is a sum of labels with
// coefficients and of constants. The empty text is a scalar; "0" is one dimension that is read at
// index 0.
#pragma once
#include "ir/attrs.h"
#include <string>
#include <string_view>

namespace nnc::ir {

// Appends new labels to `labels`. On error returns false with a message that quotes the text.
bool parseForms(std::string_view text, std::vector<std::string> &labels,
                std::vector<LabelForm> &out, std::string &error);
std::string str(const std::vector<LabelForm> &forms, const std::vector<std::string> &labels);

// Sets the extents of all labels that are a dimension of their own in x, w or y (null: unknown),
// in this order; labels without one keep what `a.extents` has. given[l]: label l has an extent.
void takeExtents(ContractAttr &a, const Dims *x, const Dims *w, const Dims *y,
                 std::vector<bool> &given);
// Labels in the order in which the three texts first mention them.
std::vector<int32_t> mentioned(const ContractAttr &a);
// The dimension of operand `side` that is summed, 0 or 1, if the operand is a matrix whose other
// dimension are columns of the result alone: 1 of w in "n, o" x "h, o" -> "n, h". Else -1.
int summedDimension(const ContractAttr &a, size_t side);
// Whether some tensor has a dimension that is just this label.
std::vector<bool> standAlone(const ContractAttr &a);

} // namespace nnc::ir
