// Inputs whose values the outside gives: their sizes and element types come from the data.
//
// Problem. `model M(image: [batch, h, w, c])` names sizes that nobody wrote down; the file's header
// has them, unless `map` computes the column, or the input is given only when the program runs.
//
// Method. The dimensions of one written type are taken from left to right. What is a name of the
// body or of the file is used; what is open is read from the header of the column's file
// (data_header.h), from the type that a map gives, or from the sizes that the trained model got. A
// size that disagrees with the file names both.
#include "frontend/elab.h"
#include <algorithm>

namespace nnc::fe {

/// The sizes of a row as an input of `rank` dimensions has them: trailing ones come and go.
static bool fitRow(std::vector<int64_t> &row, size_t rank) {
  while (row.size() > rank && row.back() == 1) row.pop_back();
  while (row.size() < rank) row.push_back(1);
  return row.size() == rank;
}

static std::string showRow(const std::vector<int64_t> &row) {
  std::string s;
  for (int64_t d : row) s += (s.empty() ? "[" : ", ") + std::to_string(d);
  return s.empty() ? "single values" : s + "]";
}

/// Whether an input gets its rows from the data, or from a map of it.
bool Elaborator::dataGives(std::string_view name) const {
  if (!inputData || isMapped(name)) return inputData != nullptr;
  return inputData->maps.empty() &&
         std::any_of(inputData->columns.begin(), inputData->columns.end(),
                     [&](const DataColumn &c) { return c.name == name; });
}

/// What the head of the file says that the data binds to an input, or a message: what was not known
/// and why the file does not tell.
static const DataHeader *headerFor(Elaborator &e, std::string_view name, const std::string &unknown,
                                   Span span) {
  if (!e.inputData && e.diags.hasErrors()) return nullptr; // the data's own
  if (!e.inputData) {
    e.error(span, Diag::OpenInput, {unknown})
        .note("there is no data of a `train` block to take it from")
        .help("write the type with its sizes, as in `x: [batch, 10]`");
    return nullptr;
  }
  if (auto it = e.mapped.find(name); it != e.mapped.end()) {
    DataHeader &h = e.mappedHeaders[it->first];
    h.file = "map";
    h.element = it->second.type.dtype;
    h.row.clear();
    for (size_t d = 1; d < it->second.type.dims.size(); ++d) {
      h.row.push_back(it->second.type.dims[d].b);
      if (!it->second.type.dims[d].isConst()) h.error = "a size of it depends on the batch";
    }
    if (it->second.type.dims.empty() || it->second.type.dims[0] != ir::Dim::batch())
      h.error = "its first dimension is not the batch";
    if (h.error.empty()) return &h;
    e.error(e.inputData->span, Diag::DataHead, {h.file, unknown, h.error});
    return nullptr;
  }
  for (const DataColumn &c : e.inputData->columns) {
    if (c.name != name || !e.inputData->maps.empty()) continue;
    DataHeader &h = e.headers[&c];
    if (h.file.empty()) h = readHeader(c.meta);
    if (h.error.empty()) return &h;
    e.error(c.span, Diag::DataHead, {h.file, unknown, h.error}).label(span, "needed here");
    return nullptr;
  }
  e.missingColumn(*e.inputData, "data", name, unknown);
  return nullptr;
}

/// The element type of an input that is not written: bytes and 32-bit integers stay, wider ones are
/// the language's `i32`, floats the module's.
static ir::DType elementFor(const DataHeader &h, ir::DType floatType) {
  if (!h.element || ir::isFloat(*h.element)) return floatType;
  bool small = *h.element == ir::DType::u8 || *h.element == ir::DType::boolean;
  return small ? *h.element : ir::DType::i32;
}

namespace {
/// The dimensions of one written input type, from left to right.
struct InputDims {
  Elaborator &e;
  const TensorType &t;
  std::string_view input;
  ir::Type &out;
  std::vector<Span> &origins;
  const DataHeader *header = nullptr;
  std::vector<int64_t> row = {}; // of the file

  /// Given when the program runs: its sizes are those of the other inputs and of the trained model.
  bool isLent() const { return e.trainedSizes && !e.dataGives(input); }
  bool readsFile(std::string_view name) const {
    return !isLent() && e.sizeOf.contains(std::string(name)); // its first place had to read one
  }
  bool isKnown(std::string_view name) const {
    if (const Binding *b = e.findBinding(name)) return b && !readsFile(name);
    Value v;
    return name == "batch" || (e.lookupFile(*e.frame->file, name, v) && v.kind == Kind::Int);
  }
  bool open(const Item &item) const {
    if (item.spread) return item.value->kind != ExprKind::Name || !isKnown(nameOf(item));
    return item.value->kind == ExprKind::Name && !isKnown(nameOf(item));
  }
  static std::string_view nameOf(const Item &item) {
    return item.value->kind == ExprKind::Name ? as<NameExpr>(*item.value).name : std::string_view{};
  }

  bool run();
  bool readFile(const Item &item);
  bool size(const Item &item, int64_t found);
  bool pack(const Item &item, size_t begin, size_t count);
  bool shapes(const Item &item);
};
} // namespace

bool InputDims::readFile(const Item &item) {
  std::string what = std::string(item.spread ? "the sizes `.." : "the size `") +
                     e.text(item.value->span) + "` of the input `" + std::string(input) + "`";
  header = headerFor(e, input, what, item.value->span);
  if (!header) return false;
  row = header->row;
  size_t packs = 0;
  for (const Item &i : t.dims) packs += i.spread;
  size_t fixed = t.dims.size() - 1 - packs;
  bool fits = packs == 0 ? fitRow(row, fixed) : packs == 1 && row.size() >= fixed;
  if (!fits)
    e.error(t.span, Diag::DataRow,
            {std::string(input), e.print(t), header->file, showRow(header->row)});
  return fits;
}

bool InputDims::size(const Item &item, int64_t found) {
  std::string_view name = nameOf(item);
  auto [it, isNew] = e.sizeOf.try_emplace(std::string(name), found, std::string(input));
  if (isNew) {
    Binding &b = e.frame->scope->bind(name, Value::of(found, item.value->span), item.value->span);
    b.isDim = true;
    b.axis = int(out.dims.size());
  } else if (it->second.first != found) {
    auto place = [&](std::string_view n) {
      for (const DataColumn &c : e.inputData->columns)
        if (c.name == n) return c.span;
      return Span{};
    };
    auto show = [&](const std::string &n, int64_t v) {
      std::string file;
      for (auto &[c, h] : e.headers)
        if (c->name == n) file = h.file;
      return std::to_string(v) + " in `" + file + "` (`" + n + "`)";
    };
    const std::string &first = it->second.second;
    e.error(item.value->span, Diag::DataSizes,
            {std::string(name), show(first, it->second.first), show(std::string(input), found)})
        .label(place(first), "the first")
        .label(place(input), "the second");
    return false;
  }
  out.dims.push_back(found);
  origins.push_back(item.value->span);
  return true;
}

bool InputDims::pack(const Item &item, size_t begin, size_t count) {
  Values sizes;
  for (size_t i = begin; i < begin + count; ++i) {
    sizes.push_back(Value::of(row[i], item.value->span));
    out.dims.push_back(row[i]);
    origins.push_back(item.value->span);
  }
  std::string_view name = nameOf(item);
  if (name.empty() || e.findBinding(name)) {
    e.error(item.value->span, Diag::OpenInput,
            {"the sizes `.." + e.text(item.value->span) + "` of the input `" + std::string(input) +
             "`"})
        .help("write another name here");
    return false;
  }
  Binding &b = e.frame->scope->bind(name, Value::list(std::move(sizes)), item.value->span);
  b.isDim = true;
  b.axis = int(begin) + 1;
  return true;
}

bool InputDims::shapes(const Item &item) {
  size_t before = out.dims.size();
  bool ok = e.shapeList(e.eval(*item.value), item.value->span, out.dims, origins);
  origins.resize(before); // of an input, the place that wrote the size
  origins.resize(out.dims.size(), item.value->span);
  return ok;
}

bool InputDims::run() {
  if (isLent())
    for (size_t i = 1; i < t.dims.size(); ++i) {
      const auto it = e.trainedSizes->find(nameOf(t.dims[i]));
      if (it == e.trainedSizes->end() || t.dims[i].spread || !open(t.dims[i])) continue;
      const Span span = t.dims[i].value->span;
      Binding &b = e.frame->scope->bind(nameOf(t.dims[i]), Value::of(it->second.first, span), span);
      b.isDim = true;
      b.axis = int(i);
    }
  for (size_t i = 1; i < t.dims.size() && !header; ++i)
    if (open(t.dims[i]) && !readFile(t.dims[i])) return false;
  size_t at = 0; // in the file's row
  for (size_t i = 0; i < t.dims.size(); ++i) {
    const Item &item = t.dims[i];
    std::string_view name = nameOf(item);
    if (i == 0 && (item.value->kind == ExprKind::None || name == "None")) {
      e.error(item.value->span, Diag::NotInt, {e.text(item.value->span)})
          .help("the size that differs from batch to batch is `batch`")
          .fix("batch");
      return false;
    }
    if (i == 0 && !name.empty() && !item.spread && !e.findBinding(name)) {
      Binding &b = e.frame->scope->bind(name, Value::of(ir::Dim::batch(), item.value->span),
                                        item.value->span);
      b.isDim = true;
      b.axis = 0;
    } else if (i == 0 && item.spread) {
      e.error(item.value->span, Diag::OpenInput,
              {"the first size `.." + e.text(item.value->span) + "` of the input `" +
               std::string(input) + "`"})
          .help("the first dimension of an input is its batch: `[batch, .." +
                e.text(item.value->span) + "]`");
      return false;
    } else if (i > 0 && open(item)) {
      size_t count = item.spread ? row.size() - (t.dims.size() - 2) : 1;
      if (item.spread ? !pack(item, at, count) : !size(item, row[at])) return false;
      at += count;
      continue;
    }
    size_t before = out.dims.size();
    if (!shapes(item)) return false;
    if (i == 0) continue;
    for (size_t d = before; header && d < out.dims.size(); ++d, ++at) {
      if (at < row.size() && out.dims[d] == ir::Dim(row[at])) continue;
      e.error(t.span, Diag::DataRow,
              {std::string(input), e.print(t), header->file, showRow(header->row)});
      return false;
    }
  }
  return true;
}

bool Elaborator::inputType(const TypeExpr *type, std::string_view name, ir::Type &out,
                           std::vector<Span> &origins) {
  if (type && type->kind == TypeKind::Union)
    for (const TypeExpr *t : as<UnionType>(*type).alternatives)
      if (t->kind == TypeKind::Tensor) type = t;
  if (type && type->kind != TypeKind::Tensor) {
    error(type->span, Diag::NotYet,
          {"an input without a written tensor type (`" + std::string(name) + "`)"});
    return false;
  }
  if (!type) {
    const DataHeader *h =
        headerFor(*this, name, "the type of the input `" + std::string(name) + "`", at);
    if (!h) return false;
    out.dtype = elementFor(*h, floatType);
    out.dims = {ir::Dim::batch()};
    for (int64_t d : h->row) out.dims.push_back(d);
    origins.assign(out.dims.size(), at);
  } else {
    const auto &t = as<TensorType>(*type);
    bool any;
    if (!typeElement(t, out.dtype, any)) return false;
    if (any) {
      const DataHeader *h =
          headerFor(*this, name, "the element type of the input `" + std::string(name) + "`", at);
      if (!h) return false;
      out.dtype = elementFor(*h, floatType);
    }
    if (!InputDims{*this, t, name, out, origins}.run()) return false;
  }
  if (std::string e = ir::checkType(out); !e.empty()) {
    error(type ? type->span : at, Diag::TensorRule, {std::string(name), e});
    return false;
  }
  return true;
}

} // namespace nnc::fe
