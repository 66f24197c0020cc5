// The `predict` command: outputs for rows of data, as CSV or text on the terminal or in a file, as
// an NPY file, or as pictures with the predicted class.
//
//   $ ./classifier predict --limit 1
//   output_0,output_1,output_2
//   0.0123,0.9001,0.0876
//   $ ./writer predict --data prompt=prompt.txt --format text
//   whom the program is
#include "runtime/files.h"
#include "runtime/pictures.h"
#include "runtime/session.h"

#include <stdio.h>
#include <unistd.h>

namespace rt {

namespace {

// One result of `predict`, logical after each batch.
struct Output {
  const NncTensor *tensor;
  int64_t row_elements, element_bytes;
  char *logical;
  const char *element(int64_t row, int64_t i) const {
    return logical + (row * row_elements + i) * element_bytes;
  }
};

enum class Format { Csv, Npy, Text };

// Where predictions go.
struct Sink {
  const char *path; // null: the terminal
  FILE *stream;     // CSV and text
  OutputFile file;  // if path
  Format format;
};

Array<Output> make_outputs(const Session &s, const NncFunction &function) {
  Array<Output> outputs;
  for (int64_t i = 0; i < function.result_count; i++) {
    const NncTensor &t = function.results[i];
    int64_t n = function.batch ? function.batch : 1, total = element_count(t, n);
    int64_t rows = t.rank ? at(t.dims[0], n) : 1, size = dtype_info(t.dtype).bytes;
    outputs.push(
        {&t, rows ? total / rows : 0, size, static_cast<char *>(allocate(size_t(total * size)))});
  }
  if (outputs.count == 0) fail("`%s` has no outputs to predict", s.name);
  return outputs;
}

void print_element(FILE *stream, const NncTensor &tensor, const char *element) {
  double value = element_as_double(tensor.dtype, element);
  if (tensor.dtype == NNC_I64) {
    int64_t whole;
    memcpy(&whole, element, 8);
    fprintf(stream, "%lld", static_cast<long long>(whole));
  } else {
    fprintf(stream, tensor.dtype == NNC_F64 ? "%.17g" : "%.9g", value);
  }
}

void write_csv_header(FILE *stream, const Array<Output> &outputs) {
  const char *comma = "";
  for (const Output &o : outputs)
    for (int64_t i = 0; i < o.row_elements; i++, comma = ",") {
      fprintf(stream, "%s%s", comma, o.tensor->name);
      if (o.row_elements > 1) fprintf(stream, "_%lld", static_cast<long long>(i));
    }
  fputc('\n', stream);
}

void write_csv_row(FILE *stream, const Array<Output> &outputs, int64_t row) {
  const char *comma = "";
  for (const Output &o : outputs)
    for (int64_t i = 0; i < o.row_elements; i++, comma = ",") {
      fputs(comma, stream);
      print_element(stream, *o.tensor, o.element(row, i));
    }
  fputc('\n', stream);
}

// A line for each output: its elements are bytes.
void write_text_row(FILE *stream, const Array<Output> &outputs, int64_t row) {
  for (const Output &o : outputs) {
    for (int64_t i = 0; i < o.row_elements; i++) {
      double value = element_as_double(o.tensor->dtype, o.element(row, i));
      if (!(value >= 0 && value < 256))
        fail("--format text: `%s` has the element %.9g, which is no byte", o.tensor->name, value);
      fputc(int(value), stream);
    }
    fputc('\n', stream);
  }
}

void write_npy_header(Sink &sink, const Output &output, int64_t rows) {
  static const char *descr[] = {"<f4", "<f8", "<f4", "<f2", "<i8", "<i4", "<u4", "|u1", "|b1"};
  const NncTensor &t = *output.tensor;
  Builder header;
  header.add("{'descr': '%s', 'fortran_order': False, 'shape': (%lld,", descr[t.dtype],
             static_cast<long long>(rows));
  for (int64_t d = 1; d < t.rank; d++)
    header.add("%s%lld%s", d == 1 ? " " : "", static_cast<long long>(t.dims[d].b),
               d + 1 < t.rank ? ", " : "");
  header.add("), }");
  while ((10 + header.length() + 1) % 64) header.add(" ");
  header.add("\n");
  uint16_t length = uint16_t(header.length());
  write_bytes(sink.file, "\x93NUMPY\x01\x00", 8);
  write_bytes(sink.file, &length, 2);
  write_bytes(sink.file, header.c_str(), header.length());
}

void write_npy_rows(Sink &sink, const Output &output, int64_t n) {
  int64_t count = n * output.row_elements;
  if (output.tensor->dtype != NNC_BF16) {
    write_bytes(sink.file, output.logical, size_t(count * output.element_bytes));
    return;
  }
  for (int64_t i = 0; i < count; i++) { // NPY has no bf16
    float value = float(element_as_double(NNC_BF16, output.logical + 2 * i));
    write_bytes(sink.file, &value, 4);
  }
}

// What --format says, else the name of the file, else CSV.
Format format_of(const Options &o) {
  const char *format = o.format ? o.format : "csv";
  if (o.output && !o.format) {
    if (ends_with(o.output, ".npy"))
      format = "npy";
    else if (ends_with(o.output, ".txt"))
      format = "text";
    else if (!ends_with(o.output, ".csv"))
      usage_fail("--output: expected a name ending in .csv, .npy or .txt, found `%s`", o.output);
  }
  if (same(format, "npy") && !o.output) usage_fail("--format npy: name a file with --output");
  return same(format, "npy") ? Format::Npy : same(format, "text") ? Format::Text : Format::Csv;
}

Sink open_sink(const Session &s, const Array<Output> &outputs, int64_t rows) {
  Sink sink{s.options.output, stdout, {}, format_of(s.options)};
  if (sink.format == Format::Npy && outputs.count > 1)
    usage_fail("--output: an NPY file holds one array, the model has %zu outputs: write a .csv",
               outputs.count);
  for (const Output &o : outputs)
    if (sink.format == Format::Text && dtype_info(o.tensor->dtype).floating)
      fail("--format text: the output `%s` has elements of type %s, text has bytes",
           o.tensor->name, dtype_info(o.tensor->dtype).name);
  if (sink.path) {
    sink.file = begin_file(sink.path);
    sink.stream = sink.file.stream;
  }
  if (sink.format == Format::Npy) write_npy_header(sink, outputs[0], rows);
  if (sink.format == Format::Csv) write_csv_header(sink.stream, outputs);
  return sink;
}

// --- pictures ------------------------------------------------------------------------------------

struct Show {
  const NncTensor *picture = nullptr;
  const Column *pixels = nullptr, *target = nullptr;
  bool terminal = false;
};

Show prepare_show(const NncFunction &function, const Dataset &data) {
  Show show;
  for (int64_t i = 0; i < function.input_count && !show.picture; i++)
    if (is_picture(function.inputs[i])) show.picture = &function.inputs[i];
  if (!show.picture) fail("--show: no input of the model is an image");
  show.pixels = data.find(show.picture->name);
  for (const Column &column : data.columns) { // a column that is no input is the target
    bool input = false;
    for (int64_t i = 0; i < function.input_count; i++)
      input |= same(function.inputs[i].name, column.name);
    if (!input && column.row_elements == 1) show.target = &column;
  }
  show.terminal = isatty(STDOUT_FILENO);
  return show;
}

void show_row(const Show &show, const Output &output, int64_t row, int64_t row_in_batch) {
  const Column &c = *show.pixels;
  int64_t bytes = c.row_step * dtype_info(c.dtype).bytes;
  draw_picture(*show.picture, c.dtype, c.data + row * bytes, show.terminal);
  printf("row %lld: ", static_cast<long long>(row));
  if (output.row_elements > 1) {
    int64_t best = 0;
    auto value = [&](int64_t i) {
      return element_as_double(output.tensor->dtype, output.element(row_in_batch, i));
    };
    for (int64_t i = 1; i < output.row_elements; i++)
      if (value(i) > value(best)) best = i;
    printf("predicted %lld (%.4g)", static_cast<long long>(best), value(best));
  } else {
    printf("predicted ");
    print_element(stdout, *output.tensor, output.element(row_in_batch, 0));
  }
  if (show.target) {
    const Column &t = *show.target;
    printf(", target %.9g",
           element_as_double(t.dtype, t.data + row * t.row_step * dtype_info(t.dtype).bytes));
  }
  puts("\n");
}

Dataset load_rows(Session &s, const NncFunction &function) {
  DataGroup &group = evaluation_group(s);
  Dataset data;
  load_columns(data, group.specs, function.inputs, function.input_count, group.what);
  // The target belongs to the rows only if both come from the same place.
  bool inputs_replaced = false;
  for (int64_t i = 0; i < function.input_count; i++)
    for (const ColumnSpec &spec : group.specs)
      inputs_replaced |= spec.replaced && same(spec.name, function.inputs[i].name);
  const NncFunction *eval = s.options.show ? find_function(s, "eval_step") : nullptr;
  for (int64_t i = 0; eval && i < eval->input_count; i++)
    for (const ColumnSpec &spec : group.specs)
      if (same(spec.name, eval->inputs[i].name) && spec.replaced == inputs_replaced && !spec.flat)
        load_columns(data, group.specs, &eval->inputs[i], 1, group.what, true);
  return data;
}

} // namespace

int predict(Session &s) {
  const NncFunction &function = need_function(s, "predict", "predict");
  if (s.options.show && s.options.output)
    usage_fail("--show draws on the terminal: it does not go with --output");
  if (s.options.show && s.options.format)
    usage_fail("--show draws on the terminal: it does not go with --format");
  const char *weights = s.options.weights ? s.options.weights : default_weights(s);
  s.program.model = s.model;
  Dataset data = load_rows(s, function);
  start(s, weights);
  Array<Output> outputs = make_outputs(s, function);
  Show show;
  if (s.options.show) show = prepare_show(function, data);

  int64_t rows = data.columns.count ? data.rows : 1, limit = s.options.limit;
  if (limit < 0 && s.options.show) limit = 10;
  if (limit >= 0 && limit < rows) rows = limit;
  Feed feed(s.program, function, data);
  if (!feed.partial) rows = rows / feed.batch * feed.batch;
  Sink sink{};
  if (!s.options.show) sink = open_sink(s, outputs, rows);
  catch_interrupts();
  for (int64_t first = 0; first < rows; first += feed.batch) {
    int64_t n = rows - first < feed.batch ? rows - first : feed.batch;
    feed.run({nullptr, first, n, rows});
    s.program.step++; // other random numbers in each batch
    for (Output &o : outputs)
      unpack(*o.tensor, function.batch ? function.batch : 1, s.program.address(*o.tensor),
             o.logical);
    if (sink.format == Format::Npy) write_npy_rows(sink, outputs[0], n);
    for (int64_t row = 0; row < n && sink.format != Format::Npy; row++) {
      if (s.options.show)
        show_row(show, outputs[0], first + row, row);
      else if (sink.format == Format::Text)
        write_text_row(sink.stream, outputs, row);
      else
        write_csv_row(sink.stream, outputs, row);
    }
    if (interrupted()) {
      if (sink.path) unlink(sink.file.temporary);
      return 128 + interrupted();
    }
  }
  if (sink.path) finish_file(sink.file);
  for (Output &o : outputs) free(o.logical);
  return 0;
}

} // namespace rt
