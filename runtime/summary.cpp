// The `summary` command: see summary.h. Widths are Keras' at its default of 88 columns (108 with
// connections) after its table library has shrunk them to fit.
#include "runtime/summary.h"

#include "runtime/memory.h"
#include "runtime/tensor.h"

#include <stdio.h>

namespace rt {

namespace {

constexpr int MaxColumns = 4;

struct Table {
  int columns;
  int widths[MaxColumns]; // of the text
  bool right[MaxColumns];
};
constexpr Table plain = {3, {36, 27, 15}, {false, false, true}};
constexpr Table graph = {4, {29, 25, 15, 26}, {false, false, true, false}};

// Characters, not bytes.
int text_width(const char *s, size_t bytes) {
  int width = 0;
  for (size_t i = 0; i < bytes; i++) width += (s[i] & 0xC0) != 0x80;
  return width;
}

void add_line(const Table &t, const char *left, const char *dash, const char *middle,
              const char *right) {
  Builder out;
  for (int c = 0; c < t.columns; c++) {
    out.add("%s", c ? middle : left);
    for (int i = 0; i < t.widths[c] + 2; i++) out.add("%s", dash);
  }
  printf("%s%s\n", out.c_str(), right);
}

// How much of `s` goes on one line: up to the width, broken at a blank if there is one.
size_t line_bytes(const char *s, int width) {
  size_t bytes = 0, blank = 0;
  int used = 0;
  for (; s[bytes] && s[bytes] != '\n'; bytes++) {
    bool starts = (s[bytes] & 0xC0) != 0x80;
    if (starts && used == width) return blank ? blank : bytes;
    used += starts;
    if (s[bytes] == ' ') blank = bytes;
  }
  return bytes;
}

void print_cell(const char *s, size_t bytes, int width, bool right) {
  int pad = width - text_width(s, bytes);
  if (right)
    printf(" %*s%.*s ", pad, "", int(bytes), s);
  else
    printf(" %.*s%*s ", int(bytes), s, pad, "");
}

void print_row(const Table &t, const char *const *cells, const char *bar) {
  const char *rest[MaxColumns];
  for (int c = 0; c < t.columns; c++) rest[c] = cells[c];
  bool more = true;
  while (more) {
    more = false;
    for (int c = 0; c < t.columns; c++) {
      size_t bytes = line_bytes(rest[c], t.widths[c]);
      printf("%s", bar);
      print_cell(rest[c], bytes, t.widths[c], t.right[c]);
      rest[c] += bytes;
      while (*rest[c] == ' ' || *rest[c] == '\n') rest[c]++;
      more |= *rest[c] != 0;
    }
    printf("%s\n", bar);
  }
}

const char *thousands(int64_t value) {
  const char *digits = text("%lld", static_cast<long long>(value));
  Builder out;
  size_t length = strlen(digits);
  for (size_t i = 0; i < length; i++) {
    if (i && (length - i) % 3 == 0 && digits[i - 1] != '-') out.add(",");
    out.add("%c", digits[i]);
  }
  return text_copy(out.c_str(), out.length());
}

const char *shape_text(Json shape) {
  if (!shape.is_list()) return "?";
  Builder out;
  out.add("(");
  for (Json d : shape) {
    if (out.length() > 1) out.add(", ");
    if (d.is_number())
      out.add("%lld", static_cast<long long>(d.as_integer(0)));
    else
      out.add("None");
  }
  out.add(")");
  return text_copy(out.c_str(), out.length());
}

const char *join(Json list) {
  Builder out;
  for (Json item : list) out.add("%s%s", out.length() ? ",\n" : "", item.as_text("?"));
  return out.length() ? text_copy(out.c_str(), out.length()) : "-";
}

void print_layers(Json layers, bool nested) {
  bool connected = false;
  for (Json l : layers) connected |= l.get("connected_to").count() > 0;
  const Table &t = connected ? graph : plain;
  add_line(t, "┏", "━", "┳", "┓");
  const char *titles[] = {"Layer (type)", "Output Shape", "Param #", "Connected to"};
  print_row(t, titles, "┃");
  add_line(t, "┡", "━", "╇", "┩");
  bool first = true;
  for (Json l : layers) {
    int64_t depth = l.integer("depth", 0);
    if (depth > 0 && !nested) continue;
    if (!first) add_line(t, "├", "─", "┼", "┤");
    first = false;
    const char *cells[] = {text("%*s%s%s (%s)", int(4 * depth), "", depth ? "└ " : "",
                                l.text("name", ""), l.text("type", "")),
                           shape_text(l.get("output")), thousands(l.integer("params", 0)),
                           join(l.get("connected_to"))};
    print_row(t, cells, "│");
  }
  add_line(t, "└", "─", "┴", "┘");
}

struct Count {
  int64_t elements = 0, bytes = 0;
};

Count count_kind(const NncModel &model, int64_t kind, int64_t other) {
  Count count;
  for (int64_t i = 0; i < model.tensor_count; i++) {
    const NncTensor &t = model.tensors[i];
    if (t.kind != kind && t.kind != other) continue;
    count.elements += element_count(t, 0);
    count.bytes += element_count(t, 0) * dtype_info(t.dtype).bytes;
  }
  return count;
}

void print_count(const char *label, Count count) {
  printf(" %s params: %s (%s)\n", label, thousands(count.elements), readable_bytes(count.bytes));
}

void print_totals(const NncModel &model) {
  Count trained = count_kind(model, NNC_TENSOR_PARAM, NNC_TENSOR_PARAM);
  Count state = count_kind(model, NNC_TENSOR_STATE, NNC_TENSOR_STATE);
  Count slots = count_kind(model, NNC_TENSOR_SLOT, NNC_TENSOR_HOST);
  print_count("Total", {trained.elements + state.elements + slots.elements,
                        trained.bytes + state.bytes + slots.bytes});
  print_count("Trainable", trained);
  print_count("Non-trainable", state);
  if (slots.elements) print_count("Optimizer", slots);
}

void print_flops(Json layers) {
  int64_t flops = 0;
  for (Json l : layers)
    if (l.integer("depth", 0) == 0) flops += l.integer("flops", 0);
  printf("\n FLOPs per sample (forward): %s\n", thousands(flops));
}

void print_memory(const NncModel &model, Json memory) {
  int64_t total = 0;
  if (memory.present()) {
    Builder parts;
    const char *name;
    json_t *part;
    json_object_foreach(memory.node, name, part) {
      int64_t bytes = Json{part}.as_integer(0);
      total += bytes;
      parts.add("   %-13s%14s\n", name, readable_bytes(bytes));
    }
    printf(" Memory of a training step: %s\n%s", readable_bytes(total), parts.c_str());
    return;
  }
  total = model.persistent_bytes + model.transient_bytes + model.input_bytes;
  printf(" Memory: %s\n   %-13s%14s\n   %-13s%14s\n   %-13s%14s\n", readable_bytes(total),
         "persistent", readable_bytes(model.persistent_bytes), "transient",
         readable_bytes(model.transient_bytes), "inputs", readable_bytes(model.input_bytes));
}

} // namespace

void print_summary(const Session &s, bool nested) {
  printf("Model: \"%s\"\n", *s.block_name ? s.block_name : s.name);
  print_layers(s.block.get("layers"), nested);
  print_totals(*s.model);
  print_flops(s.block.get("layers"));
  print_memory(*s.model, s.metadata.get("memory"));
}

} // namespace rt
