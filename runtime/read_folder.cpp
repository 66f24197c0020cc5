// Reads a folder of images, one sub-directory per class, as Keras' image_dataset_from_directory.
//
//   flowers/daisy/1.jpg  flowers/rose/2.png  ..   ->  image u8[rows,h,w,c], target i64[rows]
//
// Classes are the sub-directories in the order of their names. Images are PNG (libpng) and JPEG
// (libjpeg-turbo); each is resized to the size of the input, bilinearly between the centres of
// pixels and without smoothing, and rounded to bytes. Rows are in the order of classes and names;
// where a part of them is cut off to validate they are mixed, by a fixed rule, as the cut would
// otherwise take the last class. `predict` needs no classes: without sub-directories it gets the
// images of the folder itself, in the order of their names.
//
// A part (abi.h): linked only into models whose data has such folders.
#include "runtime/data.h"
#include "runtime/files.h"
#include "runtime/random.h"

#include <dirent.h>
#include <errno.h>
#include <png.h>
#include <stdio.h>
#include <sys/stat.h>
#include <turbojpeg.h>

namespace rt {

namespace {

struct Picture {
  const char *path;
  int64_t label;
};

bool is_directory(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

void sort_names(Array<const char *> &names) {
  qsort(names.data, names.count, sizeof(const char *), [](const void *a, const void *b) {
    return strcmp(*static_cast<const char *const *>(a), *static_cast<const char *const *>(b));
  });
}

Array<const char *> list_directory(const char *path, const char *what) {
  DIR *directory = opendir(path);
  if (!directory) fail("cannot read the folder `%s` (%s): %s", path, what, strerror(errno));
  Array<const char *> names;
  while (const dirent *entry = readdir(directory))
    if (entry->d_name[0] != '.') names.push(text_copy(entry->d_name, strlen(entry->d_name)));
  closedir(directory);
  sort_names(names);
  return names;
}

bool has_ending(const char *name, const char *ending) {
  size_t length = strlen(name), tail = strlen(ending);
  return length > tail && strcasecmp(name + length - tail, ending) == 0;
}

void find_pictures(const char *path, const char *what, int64_t label, Array<Picture> &pictures) {
  for (const char *name : list_directory(path, what)) {
    const char *full = text("%s/%s", path, name);
    if (has_ending(name, ".png") || has_ending(name, ".jpg") || has_ending(name, ".jpeg"))
      pictures.push({full, label});
    else if (is_directory(full))
      find_pictures(full, what, label, pictures);
  }
}

// All pictures of a folder, or an error.
Array<Picture> list_folder(const ColumnSpec &spec, const char *what) {
  const char *root = spec.file;
  size_t length = strlen(root);
  while (length > 1 && root[length - 1] == '/') length--;
  root = text_copy(root, length);
  Array<const char *> classes;
  for (const char *name : list_directory(root, what))
    if (is_directory(text("%s/%s", root, name))) classes.push(name);
  if (spec.flat) {
    Array<Picture> pictures;
    find_pictures(root, what, 0, pictures);
    if (!pictures.count) fail("`%s` (%s): no .png, .jpg or .jpeg file is in it", root, what);
    return pictures;
  }
  if (!classes.count)
    fail("`%s` (%s): the folder has no sub-directory: one is a class", root, what);
  if (classes.count == 1 && spec.size.count())
    warn("`%s` (%s): there is one sub-directory, `%s`: every image is of one class", root, what,
         classes[0]);
  if (spec.classes.count()) { // those of the training data, so that labels mean the same
    for (const char *name : classes) {
      bool known = false;
      for (Json c : spec.classes) known = known || same(c.as_text(""), name);
      if (!known) fail("`%s` (%s): `%s` is none of the classes of the model", root, what, name);
    }
    classes.count = 0;
    for (Json c : spec.classes) classes.push(c.as_text(""));
  }
  Array<Picture> pictures;
  for (size_t i = 0; i < classes.count; i++) {
    const char *path = text("%s/%s", root, classes[i]);
    if (is_directory(path)) find_pictures(path, what, int64_t(i), pictures);
  }
  if (!pictures.count)
    fail("`%s` (%s): no .png, .jpg or .jpeg file is in its sub-directories", root, what);
  if (!spec.mixed) return pictures;
  Array<uint32_t> order;
  order.resize(pictures.count);
  shuffle(order.data, pictures.count, 0, 0);
  Array<Picture> mixed;
  for (uint32_t i : order) mixed.push(pictures[i]);
  return mixed;
}

// --- decoding ------------------------------------------------------------------------------------

struct Pixels {
  int64_t height = 0, width = 0, channels = 0; // channels: 1, or 4 of which some are wanted
  Array<unsigned char> bytes;
};

void decode_png(const char *path, const Array<char> &file, int64_t channels, Pixels &out) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  if (png_image_begin_read_from_memory(&image, file.data, file.count)) {
    // With an alpha channel nothing is composed: colours stay as they are in the file.
    image.format = channels == 1 ? PNG_FORMAT_GA : PNG_FORMAT_RGBA;
    out.channels = channels == 1 ? 2 : 4;
    out.height = image.height;
    out.width = image.width;
    out.bytes.resize(PNG_IMAGE_SIZE(image));
    if (png_image_finish_read(&image, nullptr, out.bytes.data, 0, nullptr)) return;
  }
  fail("`%s`: expected a PNG image: %s", path, image.message);
}

void decode_jpeg(const char *path, const Array<char> &file, int64_t channels, Pixels &out) {
  tjhandle decoder = tjInitDecompress();
  int width, height, sampling, colours;
  const unsigned char *bytes = reinterpret_cast<const unsigned char *>(file.data);
  bool ok = decoder && tjDecompressHeader3(decoder, bytes, file.count, &width, &height, &sampling,
                                           &colours) == 0;
  if (ok) {
    out.channels = channels == 1 ? 1 : 4;
    out.height = height;
    out.width = width;
    out.bytes.resize(size_t(width) * size_t(height) * size_t(out.channels));
    int format = channels == 1 ? TJPF_GRAY : TJPF_RGBA;
    ok = tjDecompress2(decoder, bytes, file.count, out.bytes.data, width, 0, height, format,
                       TJFLAG_ACCURATEDCT) == 0 ||
         tjGetErrorCode(decoder) == TJERR_WARNING;
  }
  if (!ok) fail("`%s`: expected a JPEG image: %s", path, tjGetErrorStr2(decoder));
  tjDestroy(decoder);
}

// Where an output pixel lies between two input pixels.
struct Between {
  int64_t low, high;
  float share; // of `high`
};

Between between(int64_t at, int64_t wanted, int64_t have) {
  float place = (float(at) + 0.5f) * (float(have) / float(wanted)) - 0.5f;
  if (place < 0) place = 0;
  int64_t low = int64_t(place);
  if (low > have - 1) low = have - 1;
  int64_t high = low + 1 < have ? low + 1 : low;
  return {low, high, place - float(low)};
}

} // namespace

void resize_picture(const unsigned char *from, int64_t from_height, int64_t from_width,
                    int64_t from_channels, unsigned char *to, int64_t height, int64_t width,
                    int64_t channels) {
  for (int64_t y = 0; y < height; y++) {
    Between v = between(y, height, from_height);
    for (int64_t x = 0; x < width; x++) {
      Between h = between(x, width, from_width);
      for (int64_t c = 0; c < channels; c++) {
        auto pixel = [&](int64_t row, int64_t column) {
          return float(from[(row * from_width + column) * from_channels + c]);
        };
        float top = pixel(v.low, h.low) + (pixel(v.low, h.high) - pixel(v.low, h.low)) * h.share;
        float low = pixel(v.high, h.low) + (pixel(v.high, h.high) - pixel(v.high, h.low)) * h.share;
        *to++ = static_cast<unsigned char>(top + (low - top) * v.share + 0.5f);
      }
    }
  }
}

static RawArray read_folder(const ColumnSpec &spec, const char *what) {
  Array<Picture> pictures = list_folder(spec, what);
  RawArray raw;
  raw.dims[0] = int64_t(pictures.count);
  if (!spec.size.count()) { // the classes
    raw.dtype = NNC_I64;
    raw.rank = 1;
    raw.owner.resize(pictures.count * 8);
    for (size_t i = 0; i < pictures.count; i++)
      memcpy(raw.owner.data + 8 * i, &pictures[i].label, 8);
    raw.data = raw.owner.data;
    return raw;
  }
  int64_t height = spec.size[0].as_integer(1), width = spec.size[1].as_integer(1);
  int64_t channels = spec.size[2].as_integer(3);
  raw.rank = 4;
  raw.dims[1] = height, raw.dims[2] = width, raw.dims[3] = channels;
  int64_t bytes = height * width * channels;
  raw.owner.resize(pictures.count * size_t(bytes));
  Pixels pixels;
  for (size_t i = 0; i < pictures.count; i++) {
    const char *path = pictures[i].path;
    Array<char> file = read_file(path, what);
    bool png = file.count > 8 && memcmp(file.data, "\x89PNG", 4) == 0;
    if (png)
      decode_png(path, file, channels, pixels);
    else
      decode_jpeg(path, file, channels, pixels);
    resize_picture(pixels.bytes.data, pixels.height, pixels.width, pixels.channels,
                   reinterpret_cast<unsigned char *>(raw.owner.data) + i * size_t(bytes), height,
                   width, channels);
  }
  raw.data = raw.owner.data;
  return raw;
}

} // namespace rt

extern "C" const NncPart nnc_part_folder = {"folder",
                                            reinterpret_cast<void (*)()>(rt::read_folder)};
