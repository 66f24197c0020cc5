// Safetensors: see weights.h.
#include "runtime/weights.h"

#include "runtime/json.h"
#include "runtime/tensor.h"

#include <unistd.h>

namespace rt {

namespace {

constexpr const char *StepName = "nnc/step";

// What tensors in another order than the file's pass through, with elements of any type a multiple.
constexpr int64_t BufferBytes = 1 << 20;

const char *join_names(const Array<const char *> &names) {
  Builder out;
  for (const char *name : names) out.add("%s%s", out.length() ? "," : "", name);
  return text_copy(out.c_str(), out.length());
}

void split_names(const char *list, Array<const char *> &names) {
  while (*list) {
    size_t length = strcspn(list, ",");
    names.push(text_copy(list, length));
    list += length + (list[length] == ',');
  }
}

bool is_saved(const NncTensor &t) {
  return t.kind != NNC_TENSOR_METRIC && t.kind != NNC_TENSOR_ROWS && t.kind != NNC_TENSOR_IO;
}
bool is_required(const NncTensor &t) {
  return t.kind == NNC_TENSOR_PARAM || t.kind == NNC_TENSOR_STATE;
}
int64_t file_bytes(const NncTensor &t) { return element_count(t, 0) * dtype_info(t.dtype).bytes; }

// jansson refuses names that are not UTF-8.
void add_member(json_t *object, const char *name, json_t *value) {
  if (json_object_set_new(object, name, value) != 0)
    fail("internal: `%s` cannot be written to a file of weights", name);
}

void add_entry(json_t *header, const char *name, const char *dtype, const NncTensor *tensor,
               int64_t begin, int64_t end) {
  json_t *shape = json_array();
  for (int64_t d = 0; tensor && d < tensor->rank; d++)
    json_array_append_new(shape, json_integer(tensor->dims[d].b));
  add_member(header, name,
             json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", shape, "data_offsets",
                       json_int_t{begin}, json_int_t{end}));
}

bool is_written(const NncTensor &t, const SaveOptions &options) {
  return options.weights_only ? is_required(t) : is_saved(t);
}

// Calls visit(elements) for pieces that fit into the buffer.
template <class Visit> void each_piece(const NncTensor &tensor, const Visit &visit) {
  int64_t most = BufferBytes / dtype_info(tensor.dtype).bytes;
  for (int64_t left = element_count(tensor, 0); left > 0; left -= most)
    visit(left < most ? left : most);
}

void build_header(Builder &text, const Program &program, const char *model_name,
                  const SaveOptions &options) {
  const NncModel &model = *program.model;
  json_t *header = new_json_object();
  json_t *notes =
      json_pack("{s:s, s:s, s:s}", "format", "nnc", "name", model_name, "tuning", program.tuning);
  if (program.adapted.count) // values of this object are strings
    add_member(notes, "adapted", json_string(join_names(program.adapted)));
  if (options.state)
    add_member(notes, "state", json_string(json_dumps(options.state, JSON_COMPACT)));
  add_member(header, "__metadata__", notes);
  int64_t offset = 0;
  for (int64_t i = 0; i < model.tensor_count; i++) {
    const NncTensor &t = model.tensors[i];
    if (!is_written(t, options)) continue;
    add_entry(header, t.name, dtype_info(t.dtype).stored, &t, offset, offset + file_bytes(t));
    offset += file_bytes(t);
  }
  if (!options.weights_only) {
    add_entry(header, StepName, "I64", nullptr, offset, offset + 8);
    offset += 8;
  }
  if (options.extras)
    for (const Extra &e : *options.extras) {
      json_t *entry =
          json_pack("{s:s, s:[I], s:[I, I]}", "dtype", "U8", "shape", json_int_t{e.bytes},
                    "data_offsets", json_int_t{offset}, json_int_t{offset + e.bytes});
      add_member(header, e.name, entry);
      offset += e.bytes;
    }
  text.add("%s", json_dumps(header, JSON_COMPACT));
  while (text.length() % 8) text.add(" "); // the tensors begin aligned
}

// --- reading -------------------------------------------------------------------------------------

const char *stored_type(Json entry) {
  Builder out;
  int64_t dtype = dtype_of_stored(entry.text("dtype", ""));
  out.add("%s", dtype < 0 ? entry.text("dtype", "?") : dtype_info(dtype).name);
  Json shape = entry.get("shape");
  for (size_t d = 0; d < shape.count(); d++)
    out.add("%s%lld", d ? "," : "[", static_cast<long long>(shape[d].as_integer(-1)));
  if (shape.count()) out.add("]");
  return text_copy(out.c_str(), out.length());
}

void load_tensor(const Program &program, const WeightsFile &file, const NncTensor &tensor,
                 const char *name, Array<char> &buffer) {
  char *place = program.address(tensor);
  int64_t from = file.locate(name, file_bytes(tensor));
  if (Elements::in_order(tensor)) return file.file.read(from, place, size_t(file_bytes(tensor)));
  memset(place, 0, size_t(tensor.bytes)); // padding is zero and stays zero
  buffer.resize(BufferBytes);
  Elements elements(tensor, 0);
  each_piece(tensor, [&](int64_t count) {
    int64_t bytes = count * dtype_info(tensor.dtype).bytes;
    file.file.read(from, buffer.data, size_t(bytes));
    elements.pack(buffer.data, place, count);
    from += bytes;
  });
}

void save_tensor(const Program &program, OutputFile &file, const NncTensor &tensor,
                 Array<char> &buffer) {
  const char *place = program.address(tensor);
  if (Elements::in_order(tensor)) return write_bytes(file, place, size_t(file_bytes(tensor)));
  buffer.resize(BufferBytes);
  Elements elements(tensor, 0);
  each_piece(tensor, [&](int64_t count) {
    elements.unpack(place, buffer.data, count);
    write_bytes(file, buffer.data, size_t(count * dtype_info(tensor.dtype).bytes));
  });
}

void check_entry(const WeightsFile &file, const NncTensor &tensor, const char *name) {
  Json entry = file.header.get(name);
  if (!entry.present()) {
    if (is_required(tensor))
      fail("`%s`: no tensor `%s`: the model needs %s", file.file.path, name, type_text(tensor, 0));
    return;
  }
  const char *expected = type_text(tensor, 0), *found = stored_type(entry);
  if (!same(expected, found))
    fail("`%s`: tensor `%s`: the model has %s, the file has %s", file.file.path, name, expected,
         found);
  file.locate(name, file_bytes(tensor));
}

// What stands before the names in the file: "" or the "auto/" of "auto/dense/kernel".
const char *prefix_in(const WeightsFile &file, Json names) {
  auto all = [&](const char *prefix) {
    for (Json pair : names)
      if (!file.header.get(text("%s%s", prefix, pair[1].as_text(""))).present()) return false;
    return true;
  };
  if (names.count() == 0 || all("")) return "";
  const char *first = names[0][1].as_text("");
  size_t tail = strlen(first);
  for (void *at = json_object_iter(file.header.node); at;
       at = json_object_iter_next(file.header.node, at)) {
    const char *name = json_object_iter_key(at);
    size_t length = strlen(name);
    if (length <= tail || name[length - tail - 1] != '/' || !same(name + length - tail, first))
      continue;
    const char *prefix = text_copy(name, length - tail);
    if (all(prefix)) return prefix;
  }
  return "";
}

} // namespace

int64_t WeightsFile::locate(const char *name, int64_t count) const {
  Json range = header.get(name).get("data_offsets");
  for (size_t i = 0; i < 2; i++)
    if (range.count() != 2 || !json_is_integer(range[i].node))
      fail("`%s`: tensor `%s`: `data_offsets` should be two whole numbers", file.path, name);
  int64_t begin = range[0].as_integer(-1), end = range[1].as_integer(-1);
  if (begin < 0 || end < begin || end > file.size - content || end - begin != count)
    fail("`%s`: tensor `%s`: its place in the file is wrong or the file is truncated", file.path,
         name);
  return content + begin;
}

int64_t WeightsFile::bytes_of(const char *name) const {
  return header.get(name).get("shape")[0].as_integer(-1);
}

Json WeightsFile::state() const {
  const char *written = header.get("__metadata__").text("state", nullptr);
  if (!written) return {};
  const char *error = nullptr;
  Json state = parse_json(written, strlen(written), &error);
  if (!state.present()) fail("`%s`: malformed state of a training: %s", file.path, error);
  return state;
}

WeightsFile open_weights(const char *path) {
  WeightsFile weights(path);
  const InputFile &file = weights.file;
  uint64_t length = 0;
  char first = 0;
  if (file.size > 8) {
    file.read(0, &length, 8);
    file.read(8, &first, 1);
  }
  if (file.size < 8 || length > uint64_t(file.size - 8) || length < 2 || first != '{')
    fail("`%s`: not a safetensors file, or truncated", path);
  Array<char> text;
  text.reserve(length);
  file.read(8, text.data, length);
  const char *error = nullptr;
  weights.header = parse_json(text.data, length, &error);
  if (!weights.header.present()) fail("`%s`: malformed safetensors header: %s", path, error);
  weights.content = int64_t(8 + length);
  return weights;
}

void save_weights(const Program &program, const char *path, const char *model_name,
                  const SaveOptions &options) {
  const NncModel &model = *program.model;
  Builder header;
  build_header(header, program, model_name, options);
  OutputFile file = begin_file(path);
  uint64_t length = header.length();
  write_bytes(file, &length, 8);
  write_bytes(file, header.c_str(), length);
  Array<char> buffer;
  for (int64_t i = 0; i < model.tensor_count; i++) {
    const NncTensor &tensor = model.tensors[i];
    if (!is_written(tensor, options)) continue;
    save_tensor(program, file, tensor, buffer);
  }
  if (!options.weights_only) write_bytes(file, &program.step, 8);
  if (options.extras)
    for (const Extra &e : *options.extras) write_bytes(file, e.data, size_t(e.bytes));
  finish_file(file);
}

void load_initial(Program &program, Json initial) {
  Array<char> buffer;
  for (Json entry : initial) {
    WeightsFile file = open_weights(entry.text("file", ""));
    Json names = entry.get("tensors");
    const char *prefix = prefix_in(file, names);
    auto each = [&](auto &&f) {
      for (Json pair : names)
        for (int64_t i = 0; i < program.model->tensor_count; i++)
          if (same(program.model->tensors[i].name, pair[0].as_text("")))
            f(program.model->tensors[i], text("%s%s", prefix, pair[1].as_text("")));
    };
    each([&](const NncTensor &tensor, const char *name) { check_entry(file, tensor, name); });
    each([&](const NncTensor &tensor, const char *name) {
      load_tensor(program, file, tensor, name, buffer);
    });
  }
}

void load_weights(Program &program, const WeightsFile &file) {
  const NncModel &model = *program.model;
  for (int64_t i = 0; i < model.tensor_count; i++)
    if (is_saved(model.tensors[i])) check_entry(file, model.tensors[i], model.tensors[i].name);
  Json step = file.header.get(StepName);
  if (step.present() && same(stored_type(step), "i64"))
    file.file.read(file.locate(StepName, 8), &program.step, 8);
  Array<char> buffer;
  for (int64_t i = 0; i < model.tensor_count; i++) {
    const NncTensor &tensor = model.tensors[i];
    if (is_saved(tensor) && file.header.get(tensor.name).present())
      load_tensor(program, file, tensor, tensor.name, buffer);
  }
  Json notes = file.header.get("__metadata__");
  bool own = same(notes.text("format", ""), "nnc");
  program.adapted.count = 0;
  program.all_adapted = !own; // what comes from elsewhere has its statistics
  if (own) split_names(notes.text("adapted", ""), program.adapted);
}

void load_weights(Program &program, const char *path) { load_weights(program, open_weights(path)); }

} // namespace rt
