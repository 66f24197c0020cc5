// Labels of contractions: text and extents.
//
// Problem. "n, 2i+u-1, c" is how a contraction's tensors are written in the IR text, by library
// code and by tests. Only labels like i and u, which are nowhere a dimension of their own, need an
// extent; printing the others would say a size twice.
//
// Method. A small reader over the text; extents are taken from the first dimension that is just the
// label, looking at x, then w, then y.
#include "ir/forms.h"
#include <algorithm>
#include <charconv>

namespace nnc::ir {

namespace {

constexpr size_t kMaxLabels = 256; // they are searched one by one

bool isLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool isDigit(char c) { return c >= '0' && c <= '9'; }

struct FormReader {
  std::string_view text;
  std::vector<std::string> &labels;
  size_t pos = 0;

  char peek() const { return pos < text.size() ? text[pos] : '\0'; }
  void blanks() {
    while (peek() == ' ') ++pos;
  }

  int32_t label(std::string_view name) {
    for (size_t l = 0; l < labels.size(); ++l)
      if (labels[l] == name) return int32_t(l);
    labels.emplace_back(name);
    return int32_t(labels.size() - 1);
  }

  // [+-] [digits] [label]; false if there is neither digits nor a label.
  bool term(LabelForm &f) {
    bool negative = peek() == '-';
    if (peek() == '+' || peek() == '-') ++pos;
    blanks();
    int64_t k = 1;
    bool digits = isDigit(peek());
    if (digits) {
      auto [end, e] = std::from_chars(text.data() + pos, text.data() + text.size(), k);
      if (e != std::errc() || k > (int64_t(1) << 32)) return false;
      pos = end - text.data();
    }
    if (negative) k = -k;
    if (isLetter(peek())) {
      size_t start = pos;
      while (isLetter(peek()) || isDigit(peek())) ++pos;
      f.terms.push_back({label(text.substr(start, pos - start)), k});
      return labels.size() <= 2 * kMaxLabels;
    }
    f.offset += k;
    return digits && f.offset < (int64_t(1) << 40) && f.offset > -(int64_t(1) << 40);
  }

  bool form(LabelForm &f) {
    do {
      if (!term(f)) return false;
      blanks();
    } while (peek() == '+' || peek() == '-');
    return true;
  }
};

std::string str(const LabelForm &f, const std::vector<std::string> &labels) {
  std::string s;
  for (LabelTerm t : f.terms) {
    if (t.coef == -1)
      s += '-';
    else if (t.coef != 1)
      s += (t.coef > 0 && !s.empty() ? "+" : "") + std::to_string(t.coef);
    else if (!s.empty())
      s += '+';
    s += size_t(t.label) < labels.size() ? labels[t.label] : "?";
  }
  if (f.offset > 0 && !s.empty()) s += '+';
  if (f.offset != 0 || s.empty()) s += std::to_string(f.offset);
  return s;
}

} // namespace

bool parseForms(std::string_view text, std::vector<std::string> &labels,
                std::vector<LabelForm> &out, std::string &error) {
  FormReader r{text, labels};
  out.clear();
  for (r.blanks(); r.pos < text.size(); r.blanks()) {
    if (!out.empty() && r.peek() == ',') ++r.pos, r.blanks();
    if (!r.form(out.emplace_back())) {
      error = "expected labels such as \"n, 2i+u-1\", found \"" + std::string(text) + "\"";
      return false;
    }
    if (labels.size() > kMaxLabels) {
      error = "a contraction has at most " + std::to_string(kMaxLabels) + " labels";
      return false;
    }
  }
  return true;
}

std::string str(const std::vector<LabelForm> &forms, const std::vector<std::string> &labels) {
  std::string s;
  for (size_t i = 0; i < forms.size(); ++i) s += (i ? ", " : "") + str(forms[i], labels);
  return s;
}

void takeExtents(ContractAttr &a, const Dims *x, const Dims *w, const Dims *y,
                 std::vector<bool> &given) {
  a.extents.resize(a.labels.size());
  given.resize(a.labels.size());
  const Dims *dims[] = {x, w, y};
  for (int k = 0; k < 3; ++k)
    for (size_t i = 0; dims[k] && i < a.forms[k].size() && i < dims[k]->size(); ++i) {
      if (!a.forms[k][i].isSimple()) continue;
      int32_t l = a.forms[k][i].terms[0].label;
      if (!given[l]) a.extents[l] = (*dims[k])[i];
      given[l] = true;
    }
}

std::vector<int32_t> mentioned(const ContractAttr &a) {
  std::vector<int32_t> order;
  std::vector<bool> seen(a.labels.size());
  for (const auto &forms : a.forms)
    for (const LabelForm &f : forms)
      for (LabelTerm t : f.terms)
        if (size_t(t.label) < seen.size() && !seen[t.label]) {
          seen[t.label] = true;
          order.push_back(t.label);
        }
  return order;
}

int summedDimension(const ContractAttr &a, size_t side) {
  const auto &own = a.forms[side], &other = a.forms[1 - side];
  if (own.size() != 2 || !own[0].isSimple() || !own[1].isSimple()) return -1;
  auto mentions = [](const std::vector<LabelForm> &forms, int32_t label) {
    return std::any_of(forms.begin(), forms.end(), [&](const LabelForm &f) {
      return std::any_of(f.terms.begin(), f.terms.end(),
                         [&](const LabelTerm &t) { return t.label == label; });
    });
  };
  for (int dim = 0; dim < 2; ++dim) {
    const int32_t summed = own[size_t(dim)].terms[0].label,
                  column = own[size_t(1 - dim)].terms[0].label;
    if (!mentions(a.forms[2], summed) && mentions(other, summed) && mentions(a.forms[2], column) &&
        !mentions(other, column))
      return dim;
  }
  return -1;
}

std::vector<bool> standAlone(const ContractAttr &a) {
  std::vector<bool> alone(a.labels.size());
  for (const auto &forms : a.forms)
    for (const LabelForm &f : forms)
      if (f.isSimple() && size_t(f.terms[0].label) < alone.size()) alone[f.terms[0].label] = true;
  return alone;
}

} // namespace nnc::ir
