// Builtins: products and windows, all of them one node with affine labels.
//
// Problem. einsum, convolution of any rank with strides, dilation, groups and Keras' paddings, and
// its transpose are one operation of the IR:
//
//   conv2d, stride 2, pad 1:   contract {x "b, 2i+u-1, 2j+v-1, c", w "u, v, c, o", y "b, i, j, o"}
//
// Method. A `Forms` collects labels with their extents and the three lists of forms. Sizes and
// paddings follow Keras (valid, same, explicit); a group is one more label after a reshape.
#include "frontend/elab.h"
#include <algorithm>

namespace nnc::fe {

namespace {
struct Forms {
  ir::ContractAttr a;
  int label(std::string name, ir::Dim extent) {
    a.labels.push_back(std::move(name));
    a.extents.push_back(extent);
    return int(a.labels.size()) - 1;
  }
  static ir::LabelForm simple(int l) { return {{{l, 1}}, 0}; }
  void add(int tensor, int l) { a.forms[tensor].push_back(simple(l)); }
  void affine(int tensor, int l1, int64_t c1, int l2, int64_t c2, int64_t offset) {
    a.forms[tensor].push_back({{{l1, c1}, {l2, c2}}, offset});
  }
};
} // namespace

Value builtin_matmul(BuiltinCall &c) { return c.e.matmul(c[0], c[1]); }

// --- einsum --------------------------------------------------------------------------------------

namespace {
/// A term of an equation: letters as their codes, axes of `...` as 1000 + distance from the right.
using Term = std::vector<int>;
constexpr int kEllipsis = 1000;

struct Equation {
  std::vector<Term> inputs;
  Term output;
};
} // namespace

static bool parseTerm(std::string_view text, int rank, Term &out, std::string &error) {
  std::string letters;
  int at = -1;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ' ') continue;
    if (text.substr(i, 3) == "..." && at < 0) {
      at = int(letters.size());
      i += 2;
    } else if (std::isalpha(static_cast<unsigned char>(text[i]))) {
      if (letters.find(text[i]) != std::string::npos)
        return error = "`" + std::string(1, text[i]) + "` stands twice in one term", false;
      letters += text[i];
    } else {
      return error = "unexpected `" + std::string(1, text[i]) + "`", false;
    }
  }
  int extra = rank < 0 ? -1 : rank - int(letters.size());
  if (rank >= 0 && (extra < 0 || (extra > 0 && at < 0)))
    return error = "`" + std::string(text) + "` names " + std::to_string(letters.size()) +
                   " axes of a tensor with " + std::to_string(rank),
           false;
  for (int i = 0; i <= int(letters.size()); ++i) {
    if (i == at) {
      if (rank < 0) out.push_back(-1); // the output's, put in later
      for (int k = extra; k-- > 0;) out.push_back(kEllipsis + k);
    }
    if (i < int(letters.size())) out.push_back(letters[i]);
  }
  return true;
}

static bool parseEquation(std::string_view text, const std::vector<int> &ranks, Equation &eq,
                          std::string &error) {
  size_t arrow = text.find("->");
  std::string_view left = text.substr(0, arrow);
  for (size_t i = 0, begin = 0; i <= left.size(); ++i) {
    if (i < left.size() && left[i] != ',') continue;
    if (eq.inputs.size() >= ranks.size())
      return error = "more terms than the " + std::to_string(ranks.size()) + " tensors", false;
    Term term;
    if (!parseTerm(left.substr(begin, i - begin), ranks[eq.inputs.size()], term, error))
      return false;
    eq.inputs.push_back(std::move(term));
    begin = i + 1;
  }
  if (eq.inputs.size() != ranks.size())
    return error = "fewer terms than the " + std::to_string(ranks.size()) + " tensors", false;
  std::vector<int> seen, leading;
  for (const Term &t : eq.inputs)
    for (int l : t) {
      if (l >= kEllipsis && std::find(leading.begin(), leading.end(), l) == leading.end())
        leading.push_back(l);
      seen.push_back(l);
    }
  std::sort(leading.rbegin(), leading.rend());
  Term out;
  if (arrow != std::string_view::npos) {
    if (!parseTerm(text.substr(arrow + 2), -1, out, error)) return false;
  } else { // letters that stand once, in order of the alphabet
    out.push_back(-1);
    std::vector<int> sorted = seen;
    std::sort(sorted.begin(), sorted.end());
    for (int l : sorted)
      if (l < kEllipsis && std::count(seen.begin(), seen.end(), l) == 1) out.push_back(l);
  }
  for (int l : out) {
    if (l == -1)
      eq.output.insert(eq.output.end(), leading.begin(), leading.end());
    else if (std::find(seen.begin(), seen.end(), l) == seen.end())
      return error = "`" + std::string(1, char(l)) + "` of the result is in no term", false;
    else
      eq.output.push_back(l);
  }
  return true;
}

static std::string labelName(int l) {
  return l >= kEllipsis ? "e" + std::to_string(l - kEllipsis) : std::string(1, char(l));
}

/// One operand: sum over what is not in the result, then the order of the result.
static Value einsumOne(BuiltinCall &c, const Value &x, const Term &from, const Term &to) {
  std::vector<int> gone;
  Term rest;
  for (size_t i = 0; i < from.size(); ++i) {
    bool kept = std::find(to.begin(), to.end(), from[i]) != to.end();
    if (kept)
      rest.push_back(from[i]);
    else
      gone.push_back(int(i));
  }
  Value y = c.e.reduce(ir::ReduceKind::sum, x, gone, false);
  ir::Ints perm;
  for (int l : to) perm.push_back(std::find(rest.begin(), rest.end(), l) - rest.begin());
  if (y.isPoison() || std::is_sorted(perm.begin(), perm.end())) return y;
  return c.e.emit(ir::Op::transpose_, {y.id}, ir::PermAttr{perm});
}

static Value einsumTwo(BuiltinCall &c, const Value &x, const Term &fx, const Value &w,
                       const Term &fw, const Term &fy) {
  Forms f;
  std::map<int, int> labels;
  std::map<int, Span> origins;
  const Value *operands[] = {&x, &w};
  const Term *terms[] = {&fx, &fw};
  for (int k = 0; k < 2; ++k)
    for (size_t i = 0; i < terms[k]->size(); ++i) {
      int l = (*terms[k])[i];
      ir::Dim d = c.e.type(*operands[k]).dims[i];
      Span origin = c.e.originOf(*operands[k], int(i));
      auto [it, isNew] = labels.try_emplace(l, 0);
      if (isNew) {
        it->second = f.label(labelName(l), d);
        origins[l] = origin;
      } else if (f.a.extents[it->second] != d) {
        ir::Dim first = f.a.extents[it->second];
        auto &e = c.e.error(Diag::EinsumEquation,
                            {c[0].string(), "`" + labelName(l) + "` is " + c.e.show(first) +
                                                " and " + c.e.show(d)});
        e.label(origins[l], c.e.show(first) + " comes from here");
        if (!(origin == origins[l])) e.label(origin, c.e.show(d) + " comes from here");
        return {};
      }
      f.add(k, it->second);
    }
  f.a.type.dtype = c.e.type(x).dtype;
  std::vector<Span> from;
  for (int l : fy) {
    f.add(2, labels[l]);
    f.a.type.dims.push_back(f.a.extents[labels[l]]);
    from.push_back(origins[l]);
  }
  Value y = c.e.emit(ir::Op::contract_, {x.id, w.id}, std::move(f.a));
  c.e.setOrigins(y, std::move(from));
  return y;
}

Value builtin_einsum(BuiltinCall &c) {
  Values xs;
  for (const Value &v : c.rest) xs.push_back(c.e.tensor(v));
  std::vector<int> ranks;
  for (const Value &x : xs) {
    if (x.isPoison()) return x;
    ranks.push_back(c.e.rank(x));
  }
  Equation eq;
  std::string error;
  if (xs.empty() || !parseEquation(c[0].string(), ranks, eq, error))
    return c.e.fail(c.spans[0], Diag::EinsumEquation,
                    {c[0].string(), xs.empty() ? "there is no tensor" : error});
  ir::DType t = c.e.commonElement(xs, false, false);
  for (Value &x : xs) {
    x = c.e.cast(x, t);
    if (x.isPoison()) return x;
  }
  if (xs.size() == 1) return einsumOne(c, xs[0], eq.inputs[0], eq.output);
  Value y = xs[0];
  Term term = eq.inputs[0];
  for (size_t i = 1; i < xs.size(); ++i) {
    Term out = eq.output;
    if (i + 1 < xs.size()) { // what later terms or the result still need
      out.clear();
      auto needed = [&](int l) {
        bool yes = std::find(eq.output.begin(), eq.output.end(), l) != eq.output.end();
        for (size_t k = i + 1; k < xs.size(); ++k)
          yes |= std::find(eq.inputs[k].begin(), eq.inputs[k].end(), l) != eq.inputs[k].end();
        return yes && std::find(out.begin(), out.end(), l) == out.end();
      };
      for (int l : term)
        if (needed(l)) out.push_back(l);
      for (int l : eq.inputs[i])
        if (needed(l)) out.push_back(l);
    }
    y = einsumTwo(c, y, term, xs[i], eq.inputs[i], out);
    if (y.isPoison()) return y;
    term = out;
  }
  return y;
}

// --- windows over space --------------------------------------------------------------------------

namespace {
/// One spatial axis of a convolution or pooling.
struct Space {
  int64_t in, size, stride, dilation, low = 0, high = 0, out = 0;
  int64_t reach() const { return dilation * (size - 1) + 1; }
};
} // namespace

static bool isValid(const Space &s) { return s.size > 0 && s.stride > 0 && s.dilation > 0; }

/// "valid", "same" (Keras: the odd one goes after) or [low, high] per axis.
static bool padSpace(BuiltinCall &c, const Value &padding, Span span, std::vector<Space> &space) {
  for (size_t i = 0; i < space.size(); ++i) {
    Space &s = space[i];
    if (!isValid(s)) {
      const std::string name(c.e.text(c.span));
      c.e.error(Diag::TensorRule,
                {name.substr(0, name.find('(')), "sizes, strides and dilations are at least 1"});
      return false;
    }
    if (padding.kind == Kind::String && padding.string() == "same") {
      s.out = (s.in - 1) / s.stride + 1;
      int64_t total = std::max<int64_t>(0, (s.out - 1) * s.stride + s.reach() - s.in);
      s.low = total / 2;
      s.high = total - s.low;
    } else if (padding.kind == Kind::List) {
      std::vector<int64_t> ends;
      if (padding.list().size() != space.size() || !c.e.intList(padding.list()[i], 2, span, ends)) {
        if (padding.list().size() != space.size())
          c.e.error(span, Diag::UnpackCount,
                    {std::to_string(space.size()), std::to_string(padding.list().size())});
        return false;
      }
      s.low = ends[0];
      s.high = ends[1];
    } else if (padding.kind != Kind::String || padding.string() != "valid") {
      c.e.error(span, Diag::ArgumentType,
                {"`padding`", "\"valid\", \"same\" or a list of [low, high]", c.e.show(padding)});
      return false;
    }
    int64_t room = s.in + s.low + s.high - s.reach();
    s.out = room < 0 ? 0 : room / s.stride + 1;
    if (s.out < 1) {
      c.e.error(Diag::ShapeMismatch,
                {"the size under a window of " + std::to_string(s.reach()),
                 "at least " + std::to_string(s.reach() - s.low - s.high), std::to_string(s.in)})
          .help("pictures are [batch, height, width, channels]; `padding = \"same\"` keeps sizes");
      return false;
    }
  }
  return true;
}

static bool constantSize(BuiltinCall &c, const Value &x, int axis, int64_t &out) {
  ir::Dim d = c.e.type(x).dims[axis];
  if (!d.isConst()) {
    c.e.error(Diag::BatchValue, {"axis " + std::to_string(axis) + " of a window", c.e.show(d)});
    return false;
  }
  out = d.b;
  return true;
}

/// Fills size, stride and dilation of each spatial axis from ints or lists.
static bool readSpace(BuiltinCall &c, const Value &strides, Span s1, const Value &dilation, Span s2,
                      std::vector<Space> &space) {
  std::vector<int64_t> s, d;
  int n = int(space.size());
  if (!c.e.intList(strides, n, s1, s) || !c.e.intList(dilation, n, s2, d)) return false;
  for (int i = 0; i < n; ++i) {
    space[i].stride = s[i];
    space[i].dilation = d[i];
  }
  return true;
}

static bool twoOperands(BuiltinCall &c, Value &x, Value &w) {
  x = c.e.tensor(c[0]);
  w = c.e.tensor(c[1]);
  if (x.isPoison() || w.isPoison()) return false;
  ir::DType t = c.e.commonElement({x, w}, false, false);
  x = c.e.cast(x, t);
  w = c.e.cast(w, t);
  if (x.isPoison() || w.isPoison()) return false;
  int n = c.e.rank(x) - 2;
  if (n >= 1 && c.e.rank(w) == n + 2) return true;
  c.e.error(Diag::ShapeMismatch,
            {"the kernel for " + c.e.show(x),
             "a tensor of " + std::to_string(std::max(n, 1) + 2) + " axes", c.e.show(w)});
  return false;
}

/// x [b, s*i + d*u - p .., (g,) c], kernel [u .., c, (g,) o] -> [b, i .., (g,) o].
static ir::ContractAttr convForms(ir::DType element, ir::Dim rows, const std::vector<Space> &space,
                                  int64_t g, int64_t channels, int64_t filters) {
  Forms f;
  int batch = f.label("b", rows);
  f.add(0, batch);
  f.add(2, batch);
  ir::Dims out{rows};
  for (int i = 0; i < int(space.size()); ++i) {
    int o = f.label("i" + std::to_string(i), space[i].out);
    int u = f.label("u" + std::to_string(i), space[i].size);
    f.affine(0, o, space[i].stride, u, space[i].dilation, -space[i].low);
    f.add(1, u);
    f.add(2, o);
    out.push_back(space[i].out);
  }
  int group = g > 1 ? f.label("g", g) : -1;
  int channel = f.label("c", channels / g), filter = f.label("o", filters / g);
  if (g > 1) f.add(0, group);
  f.add(0, channel);
  f.add(1, channel);
  if (g > 1) f.add(1, group);
  f.add(1, filter);
  if (g > 1) f.add(2, group);
  f.add(2, filter);
  f.a.type = {element, out};
  if (g > 1) f.a.type.dims.push_back(g);
  f.a.type.dims.push_back(filters / g);
  return std::move(f.a);
}

Value builtin_conv(BuiltinCall &c) {
  Value x, w;
  if (!twoOperands(c, x, w)) return {};
  int n = c.e.rank(x) - 2;
  const ir::Dims xd = c.e.type(x).dims, wd = c.e.type(w).dims;
  std::vector<Space> space(n);
  for (int i = 0; i < n; ++i)
    if (!constantSize(c, x, i + 1, space[i].in) || !constantSize(c, w, i, space[i].size)) return {};
  if (!readSpace(c, c[2], c.spans[2], c[4], c.spans[4], space) ||
      !padSpace(c, c[3], c.spans[3], space))
    return {};
  int64_t g = c[5].isInt() ? c[5].integer() : 0, channels = 0, filters = 0;
  if (!constantSize(c, x, n + 1, channels) || !constantSize(c, w, n + 1, filters)) return {};
  if (g < 1 || channels % g || filters % g || wd[n] != ir::Dim(channels / g)) {
    auto &e = c.e.error(
        Diag::MatmulMismatch,
        {c.e.show(x), c.e.show(w), std::to_string(g < 1 ? 0 : channels / g), c.e.show(wd[n])});
    e.label(c.e.originOf(x, n + 1), std::to_string(channels) + " channels come from here");
    if (g != 1) e.note(std::to_string(g) + " groups must divide channels and filters");
    return {};
  }
  if (g > 1) { // [.., c] -> [.., g, c/g]; [k.., c/g, f] -> [k.., c/g, g, f/g]
    ir::Dims a(xd.begin(), xd.end() - 1), b(wd.begin(), wd.end() - 1);
    a.insert(a.end(), {ir::Dim(g), ir::Dim(channels / g)});
    b.insert(b.end(), {ir::Dim(g), ir::Dim(filters / g)});
    x = c.e.reshape(x, a);
    w = c.e.reshape(w, b);
    if (x.isPoison() || w.isPoison()) return {};
  }
  ir::Dims out{xd[0]};
  for (const Space &k : space) out.push_back(k.out);
  out.push_back(filters);
  ir::ContractAttr forms = convForms(c.e.type(x).dtype, xd[0], space, g, channels, filters);
  std::vector<Span> origins{c.e.originOf(x, 0)};
  origins.resize(n + 1, c.e.userPlace());
  origins.push_back(c.e.originOf(w, c.e.rank(w) - 1));
  Value y = c.e.emit(ir::Op::contract_, {x.id, w.id}, std::move(forms));
  y = c.e.reshape(y, out);
  c.e.setOrigins(y, std::move(origins));
  return y;
}

/// Size and crop of a transposed convolution (keras.md 1.2): y[s*i + d*u - low].
static bool transposedSize(BuiltinCall &c, bool same, std::optional<int64_t> extra, Space &s) {
  int64_t k = s.reach(), total;
  if (same) {
    total = extra ? k + k % 2 - 2 + *extra : s.stride + k - 2;
    s.out = extra ? (s.in - 1) * s.stride + k % 2 + *extra : s.in * s.stride;
    s.low = k - 1 - std::min(total / 2 + total % 2, k - 1);
  } else {
    s.out = (s.in - 1) * s.stride + k + extra.value_or(std::max(k, s.stride) - k);
    s.low = 0;
  }
  if (s.out >= 1) return true;
  c.e.error(Diag::NegativeSize, {"output", std::to_string(s.out)});
  return false;
}

Value builtin_conv_transpose(BuiltinCall &c) {
  Value x, w;
  if (!twoOperands(c, x, w)) return {};
  int n = c.e.rank(x) - 2;
  const ir::Dims xd = c.e.type(x).dims, wd = c.e.type(w).dims;
  if (wd[n + 1] != xd[n + 1])
    return c.e.fail(Diag::MatmulMismatch,
                    {c.e.show(x), c.e.show(w), c.e.show(xd[n + 1]), c.e.show(wd[n + 1])});
  std::vector<Space> space(n);
  std::vector<int64_t> extra;
  bool same = c[3].kind == Kind::String && c[3].string() == "same";
  if (!same && !(c[3].kind == Kind::String && c[3].string() == "valid"))
    return c.e.fail(c.spans[3], Diag::ArgumentType,
                    {"`padding`", "\"valid\" or \"same\"", c.e.show(c[3])});
  if (!c[4].isNone() && !c.e.intList(c[4], n, c.spans[4], extra)) return {};
  if (!readSpace(c, c[2], c.spans[2], c[5], c.spans[5], space)) return {};
  Forms f;
  int batch = f.label("b", xd[0]);
  f.add(0, batch);
  f.add(2, batch);
  f.a.type = {c.e.type(x).dtype, {xd[0]}};
  for (int i = 0; i < n; ++i) {
    Space &s = space[i];
    std::optional<int64_t> more;
    if (!extra.empty()) more = extra[i];
    if (!constantSize(c, x, i + 1, s.in) || !constantSize(c, w, i, s.size)) return {};
    if (!isValid(s))
      return c.e.fail(Diag::TensorRule,
                      {"conv_transpose", "sizes, strides and dilations are at least 1"});
    if (!transposedSize(c, same, more, s)) return {};
    int in = f.label("i" + std::to_string(i), s.in);
    int u = f.label("u" + std::to_string(i), s.size);
    f.add(0, in);
    f.add(1, u);
    f.affine(2, in, s.stride, u, s.dilation, -s.low);
    f.a.type.dims.push_back(s.out);
  }
  int filter = f.label("o", wd[n]), channel = f.label("c", xd[n + 1]);
  f.add(0, channel);
  f.add(1, filter);
  f.add(1, channel);
  f.add(2, filter);
  f.a.type.dims.push_back(wd[n]);
  return c.e.emit(ir::Op::contract_, {x.id, w.id}, std::move(f.a));
}

static bool windowAttr(BuiltinCall &c, const Value &x, size_t first, ir::WindowAttr &a) {
  // Arguments from `first` on: size, strides, padding, dilation; the axis is the last one.
  int n = c[first].kind == Kind::List ? int(c[first].list().size()) : 1;
  int axis;
  size_t last = c.args.size() - 1;
  if (!c.e.axisValue(c[last], c.exprs[last], c.e.rank(x), c.spans[last], axis)) return false;
  std::vector<int64_t> sizes;
  std::vector<Space> space(n);
  if (axis + n > c.e.rank(x) || !c.e.intList(c[first], n, c.spans[first], sizes)) {
    if (axis + n > c.e.rank(x))
      c.e.error(Diag::AxisRange, {std::to_string(axis + n - 1), std::to_string(c.e.rank(x))});
    return false;
  }
  for (int i = 0; i < n; ++i) {
    space[i].size = sizes[i];
    if (a.extent.empty() && !constantSize(c, x, axis + i, space[i].in)) return false;
    if (!a.extent.empty()) space[i].in = i < int(a.extent.size()) ? a.extent[i] : 0;
  }
  if (!readSpace(c, c[first + 1], c.spans[first + 1], c[first + 3], c.spans[first + 3], space) ||
      !padSpace(c, c[first + 2], c.spans[first + 2], space))
    return false;
  a.dim = axis;
  a.extent.clear();
  for (const Space &s : space) {
    a.size.push_back(s.size);
    a.stride.push_back(s.stride);
    a.dilation.push_back(s.dilation);
    a.low.push_back(s.low);
    a.high.push_back(s.high);
    a.extent.push_back(s.in);
  }
  return true;
}

Value builtin_window(BuiltinCall &c) {
  Value x = c.e.tensor(c[0]);
  ir::WindowAttr a;
  if (x.isPoison() || !windowAttr(c, x, 1, a)) return {};
  if (!c[5].isNumber()) return c.e.fail(c.spans[5], Diag::NotInt, {c.e.show(c[5])});
  a.value = c[5].number();
  return c.e.emit(ir::Op::window_, {x.id}, std::move(a));
}

Value builtin_unwindow(BuiltinCall &c) {
  Value x = c.e.tensor(c[0]);
  ir::WindowAttr a;
  std::vector<int64_t> extent;
  if (x.isPoison() || !c.e.intList(c[1], -1, c.spans[1], extent)) return {};
  a.extent.assign(extent.begin(), extent.end());
  if (!windowAttr(c, x, 2, a)) return {};
  return c.e.emit(ir::Op::unwindow_, {x.id}, std::move(a));
}

} // namespace nnc::fe
