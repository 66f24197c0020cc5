// Small pictures of image rows: see pictures.h.
#include "runtime/pictures.h"

#include <stdio.h>

namespace rt {

namespace {

struct Picture {
  int64_t dtype, height, width, channels;
  const char *row;
  double low = 0, high = 255; // mapped to black and white

  double raw(int64_t y, int64_t x, int64_t c) const {
    int64_t i = (y * width + x) * channels + c;
    return element_as_double(dtype, row + i * dtype_info(dtype).bytes);
  }
  // 0..255; below the picture: black.
  int shade(int64_t y, int64_t x, int64_t c) const {
    if (y >= height || high <= low) return 0;
    double value = (raw(y, x, channels == 3 ? c : 0) - low) / (high - low) * 255;
    return value < 0 ? 0 : value > 255 ? 255 : int(value);
  }
  int grey(int64_t y, int64_t x) const {
    return (shade(y, x, 0) * 30 + shade(y, x, 1) * 59 + shade(y, x, 2) * 11) / 100;
  }
};

// Floats have no natural white: take the picture's own range.
void find_range(Picture &p) {
  if (p.dtype == NNC_U8) return;
  p.low = p.high = p.raw(0, 0, 0);
  for (int64_t i = 0; i < p.height * p.width * p.channels; i++) {
    double value = element_as_double(p.dtype, p.row + i * dtype_info(p.dtype).bytes);
    if (value < p.low) p.low = value;
    if (value > p.high) p.high = value;
  }
}

} // namespace

bool is_picture(const NncTensor &input) {
  if (input.rank < 3 || input.rank > 4) return false;
  if (input.dtype != NNC_U8 && !dtype_info(input.dtype).floating) return false;
  return input.rank == 3 || input.dims[3].b == 1 || input.dims[3].b == 3;
}

void draw_picture(const NncTensor &input, int64_t dtype, const char *row, bool terminal) {
  Picture p{dtype, input.dims[1].b, input.dims[2].b, input.rank == 4 ? input.dims[3].b : 1, row};
  find_range(p);
  int64_t stride = (p.width + 79) / 80; // at most 80 columns
  for (int64_t y = 0; y < p.height; y += 2 * stride) {
    for (int64_t x = 0; x < p.width; x += stride) {
      int64_t under = y + stride;
      if (terminal)
        printf("\033[38;2;%d;%d;%dm\033[48;2;%d;%d;%dm▀", p.shade(y, x, 0), p.shade(y, x, 1),
               p.shade(y, x, 2), p.shade(under, x, 0), p.shade(under, x, 1), p.shade(under, x, 2));
      else
        putchar(" .:-=+*#%@"[(p.grey(y, x) + p.grey(under, x)) * 10 / 511]);
    }
    puts(terminal ? "\033[0m" : "");
  }
}

} // namespace rt
