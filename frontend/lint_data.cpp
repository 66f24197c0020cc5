// Lints about the files that a `train` block names, as they lie there when it is compiled.
//
//   data = csv("houses.csv", x = columns(0..8), target = "prise")
//                                                        NN1226: `houses.csv`, as it is now, has no
//                                                        column `prise`; did you mean `price`?
//
// Problem. What a file lacks is found when the program reads it. Who has the file here would like
// to know now.
//
// Method. Heads of files alone are read (data_header.h), and a file that is not there is no
// mistake: the program may run elsewhere, with other files. So these are warnings.
#include "frontend/elab_train.h"
#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace nnc::fe {

namespace {

bool isNumber(const std::string &field) {
  char *end = nullptr;
  std::strtod(field.c_str(), &end);
  return !field.empty() && *end == 0;
}

class DataLints {
 public:
  DataLints(Elaborator &e, const Elaborator::TrainPlan &plan) : e_(e), plan_(plan) {}

  void run(const std::shared_ptr<DataObj> &data) {
    if (!data || data->columns.empty()) return;
    if (data->reader == "csv") return table(*data);
    if (data->reader == "folder") return folder(*data);
    if (data->reader == "text") return;
    for (const DataColumn &c : data->columns) array(*data, c);
  }

 private:
  Elaborator &e_;
  const Elaborator::TrainPlan &plan_;

  static const std::string &fileOf(const DataColumn &c) { return *c.meta.find("file")->asString(); }
  Diagnostic &report(Span span, const std::string &file, const std::string &what) {
    return e_.diags.report(span, Diag::FileNow, {file, what});
  }

  // --- tables ------------------------------------------------------------------------------------

  void table(const DataObj &data) {
    const std::string &file = fileOf(data.columns[0]);
    std::vector<std::string> fields = csvFields(file);
    if (fields.empty()) return;
    for (const char *other : {";", "\t", "|"})
      if (fields.size() == 1 && fields[0].find(other) != std::string::npos) {
        report(data.span, file, "has no comma in its first line")
            .help(std::string("its fields seem to be separated by ") +
                  (*other == '\t' ? "tabs" : "`" + std::string(other) + "`") +
                  ", the reader takes commas");
        return;
      }
    if (std::all_of(fields.begin(), fields.end(), isNumber)) {
      report(data.span, file, "begins with numbers in place of the names of its columns")
          .help("the first line of a CSV file is its header, the reader takes no row from it");
      return;
    }
    for (const DataColumn &c : data.columns) {
      const ir::Meta *wanted = c.meta.find("columns");
      if (!wanted) continue;
      if (const auto *list = wanted->asList()) {
        for (const ir::Meta &m : *list)
          if (!column(c, file, fields, m)) break;
      } else {
        column(c, file, fields, *wanted);
      }
    }
  }

  bool column(const DataColumn &c, const std::string &file, const std::vector<std::string> &fields,
              const ir::Meta &wanted) {
    if (const std::string *name = wanted.asString()) {
      if (std::find(fields.begin(), fields.end(), *name) != fields.end()) return true;
      auto &d = report(c.span, file, "has no column `" + *name + "`");
      d.didYouMean(suggest(*name, fields));
      std::string list;
      for (size_t i = 0; i < fields.size() && i < 12; ++i)
        list += (i ? ", `" : "`") + fields[i] + "`";
      d.note("it has " + list + (fields.size() > 12 ? ", ..." : ""));
      return false;
    }
    const int64_t *index = wanted.asInt();
    if (!index || *index < int64_t(fields.size())) return true;
    report(c.span, file, "has no column " + std::to_string(*index))
        .note("it has " + std::to_string(fields.size()) + " columns, counted from 0");
    return false;
  }

  // --- arrays ------------------------------------------------------------------------------------

  const DataInput *inputOf(const DataColumn &c) const {
    for (const auto *inputs : {&plan_.inputs, &plan_.targets})
      for (const DataInput &in : *inputs)
        if (in.name == c.name) return &in;
    return nullptr;
  }

  /// Sizes of a row without those of 1 at its end, which fit whatever is wanted.
  static std::vector<int64_t> essential(std::vector<int64_t> row) {
    while (!row.empty() && row.back() == 1) row.pop_back();
    return row;
  }
  static std::string show(ir::DType t, const std::vector<int64_t> &row) {
    std::string out(ir::dtypeName(t));
    for (size_t i = 0; i < row.size(); ++i) out += (i ? ", " : "[") + std::to_string(row[i]);
    return row.empty() ? out : out + "]";
  }

  void array(const DataObj &data, const DataColumn &c) {
    std::error_code none;
    if (!std::filesystem::is_regular_file(fileOf(c), none)) return;
    DataHeader h = readHeader(c.meta);
    if (!h.error.empty() || !h.element) {
      if (!h.error.empty()) report(c.span, h.file, "cannot be read: " + h.error);
      return;
    }
    const DataInput *in = inputOf(c);
    if (!in || !data.maps.empty() || !c.functions.empty() || e_.isMapped(c.name)) return;
    std::vector<int64_t> row;
    for (size_t i = 1; i < in->type.dims.size(); ++i) {
      if (!in->type.dims[i].isConst()) return;
      row.push_back(in->type.dims[i].b);
    }
    const std::string has = show(*h.element, h.row), takes = show(in->type.dtype, row);
    if (essential(row) != essential(h.row))
      report(c.span, h.file, "has rows of " + has + ", but `" + c.name + "` takes " + takes)
          .label(in->span, "taken here");
    else if (ir::isFloat(*h.element) && !ir::isFloat(in->type.dtype))
      report(c.span, h.file,
             "has elements " + std::string(ir::dtypeName(*h.element)) + ", but `" + c.name +
                 "` takes " + std::string(ir::dtypeName(in->type.dtype)))
          .label(in->span, "taken here");
  }

  // --- images ------------------------------------------------------------------------------------

  void folder(const DataObj &data) {
    auto classes = subdirectories(fileOf(data.columns[0]));
    if (!classes || classes->size() > 1) return;
    report(data.span, fileOf(data.columns[0]),
           classes->empty() ? "has no sub-directory"
                            : "has one sub-directory, `" + (*classes)[0] + "`")
        .help("the images of every class stand in a sub-directory of their own");
  }
};

} // namespace

void lintData(Elaborator &e, const Elaborator::TrainPlan &plan) {
  DataLints lints(e, plan);
  for (const auto &data : {plan.data, plan.test, plan.validation}) lints.run(data);
}

} // namespace nnc::fe
