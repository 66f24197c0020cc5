// Draws a row of image data in the terminal.
#ifndef NNC_RUNTIME_PICTURES_H
#define NNC_RUNTIME_PICTURES_H

#include "runtime/tensor.h"

namespace rt {

// Whether rows of this input look like images: [height, width] or [height, width, 1 or 3].
bool is_picture(const NncTensor &input);
// `row` holds elements of `dtype` (u8 or a float type). On a terminal two pixels share a character
// cell as a half block in 24-bit colour, elsewhere they become one letter of a grey ramp.
void draw_picture(const NncTensor &input, int64_t dtype, const char *row, bool terminal);

} // namespace rt

#endif
