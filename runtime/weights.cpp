// Safetensors: see weights.h.
#include "runtime/weights.h"

#include "runtime/files.h"
#include "runtime/json.h"
#include "runtime/tensor.h"

#include <unistd.h>

namespace rt {

namespace {

constexpr const char *StepName = "nnc/step";

bool is_saved(const NncTensor &t) { return t.kind != NNC_TENSOR_METRIC && t.kind != NNC_TENSOR_IO; }
bool is_required(const NncTensor &t) {
  return t.kind == NNC_TENSOR_PARAM || t.kind == NNC_TENSOR_STATE;
}
int64_t file_bytes(const NncTensor &t) { return element_count(t, 0) * dtype_info(t.dtype).bytes; }

void add_entry(Builder &header, const char *name, const char *dtype, const NncTensor *shape,
               int64_t begin, int64_t end) {
  header.add(",");
  add_json_string(header, name);
  header.add(":{\"dtype\":\"%s\",\"shape\":[", dtype);
  for (int64_t d = 0; shape && d < shape->rank; d++)
    header.add("%s%lld", d ? "," : "", static_cast<long long>(shape->dims[d].b));
  header.add("],\"data_offsets\":[%lld,%lld]}", static_cast<long long>(begin),
             static_cast<long long>(end));
}

void build_header(Builder &header, const NncModel &model, const char *model_name) {
  header.add("{\"__metadata__\":{\"format\":\"nnc\",\"name\":");
  add_json_string(header, model_name);
  header.add("}");
  int64_t offset = 0;
  for (int64_t i = 0; i < model.tensor_count; i++) {
    const NncTensor &t = model.tensors[i];
    if (!is_saved(t)) continue;
    add_entry(header, t.name, dtype_info(t.dtype).stored, &t, offset, offset + file_bytes(t));
    offset += file_bytes(t);
  }
  add_entry(header, StepName, "I64", nullptr, offset, offset + 8);
  header.add("}");
  while (header.length() % 8) header.add(" "); // the tensors begin aligned
}

// --- reading -------------------------------------------------------------------------------------

struct WeightsFile {
  const char *path;
  Array<char> bytes;
  const Json *header;
  const char *content; // after the header
  int64_t content_bytes;

  // The bytes of an entry; checks that it lies inside the file and has the size of its shape.
  const char *locate(const Json *entry) const {
    const Json *range = entry->get("data_offsets");
    int64_t begin = range->first ? range->first->value : -1;
    int64_t end = range->count == 2 ? range->first->next->value : -1;
    int64_t dtype = dtype_of_stored(entry->text("dtype", ""));
    int64_t bytes = dtype < 0 ? -1 : dtype_info(dtype).bytes;
    for (const Json *d = entry->get("shape")->first; d; d = d->next)
      if (d->value < 0 || __builtin_mul_overflow(bytes, d->value, &bytes)) bytes = -1;
    if (begin < 0 || end < begin || end > content_bytes || end - begin != bytes)
      fail("`%s`: tensor `%s`: its place in the file is wrong or the file is truncated", path,
           entry->key);
    return content + begin;
  }
};

WeightsFile open_weights(const char *path) {
  WeightsFile file{path, read_file(path, "weights"), nullptr, nullptr, 0};
  uint64_t length = 0;
  if (file.bytes.count >= 8) memcpy(&length, file.bytes.data, 8);
  if (file.bytes.count < 8 || length > file.bytes.count - 8 || length < 2 || file.bytes[8] != '{')
    fail("`%s`: not a safetensors file, or truncated", path);
  const char *error = nullptr;
  file.header = parse_json(file.bytes.data + 8, length, &error);
  if (!file.header) fail("`%s`: malformed safetensors header: %s", path, error);
  file.content = file.bytes.data + 8 + length;
  file.content_bytes = int64_t(file.bytes.count - 8 - length);
  return file;
}

const char *stored_type(const Json *entry) {
  Builder out;
  int64_t dtype = dtype_of_stored(entry->text("dtype", ""));
  out.add("%s", dtype < 0 ? entry->text("dtype", "?") : dtype_info(dtype).name);
  const Json *shape = entry->get("shape");
  for (const Json *d = shape->first; d; d = d->next)
    out.add("%s%lld", d == shape->first ? "[" : ",", static_cast<long long>(d->value));
  if (shape->count) out.add("]");
  return text_copy(out.c_str(), out.length());
}

void check_entry(const WeightsFile &file, const NncTensor &tensor) {
  const Json *entry = file.header->get(tensor.name);
  if (!entry->present()) {
    if (is_required(tensor))
      fail("`%s`: no tensor `%s`: the model needs %s", file.path, tensor.name,
           type_text(tensor, 0));
    return;
  }
  const char *expected = type_text(tensor, 0), *found = stored_type(entry);
  if (!same(expected, found))
    fail("`%s`: tensor `%s`: the model has %s, the file has %s", file.path, tensor.name, expected,
         found);
  file.locate(entry);
}

} // namespace

void save_weights(const Program &program, const char *path, const char *model_name) {
  const NncModel &model = *program.model;
  Builder header;
  build_header(header, model, model_name);
  OutputFile file = begin_file(path);
  uint64_t length = header.length();
  write_bytes(file, &length, 8);
  write_bytes(file, header.c_str(), length);
  Array<char> logical;
  for (int64_t i = 0; i < model.tensor_count; i++) {
    const NncTensor &tensor = model.tensors[i];
    if (!is_saved(tensor)) continue;
    logical.resize(size_t(file_bytes(tensor)));
    unpack(tensor, 0, program.address(tensor), logical.data);
    write_bytes(file, logical.data, size_t(file_bytes(tensor)));
  }
  write_bytes(file, &program.step, 8);
  finish_file(file);
}

void load_weights(Program &program, const char *path) {
  const NncModel &model = *program.model;
  WeightsFile file = open_weights(path);
  for (int64_t i = 0; i < model.tensor_count; i++)
    if (is_saved(model.tensors[i])) check_entry(file, model.tensors[i]);
  const Json *step = file.header->get(StepName);
  if (step->present() && same(stored_type(step), "i64"))
    memcpy(&program.step, file.locate(step), 8);
  for (int64_t i = 0; i < model.tensor_count; i++) {
    const NncTensor &tensor = model.tensors[i];
    const Json *entry = file.header->get(tensor.name);
    if (is_saved(tensor) && entry->present())
      pack(tensor, 0, file.locate(entry), program.address(tensor));
  }
}

} // namespace rt
