// What lints ask about the tensors of a pass. Private to lint*.cpp.
#pragma once
#include "frontend/elab.h"
#include <initializer_list>
#include <string_view>

namespace nnc::fe {

class Facts {
 public:
  explicit Facts(const Pass &pass);
  /// The calls that gave a tensor, inner ones first.
  const std::vector<const Maker *> &makers(ir::ValueId v) const;
  /// The library's function or layer of one of these names that gave the tensor, whatever casts
  /// and changes of shape stand behind it; else null.
  const Maker *madeBy(ir::ValueId v, std::initializer_list<std::string_view> names) const;
  /// What a cast or change of shape was applied to, or none.
  ir::ValueId throughViews(ir::ValueId v) const;
  /// A product with weights, perhaps with a bias, and nothing behind it: any number may come out.
  bool isAffine(ir::ValueId v) const;
  static std::string nameOf(const Maker &m);

 private:
  const Pass &pass_;
  std::unordered_map<int32_t, std::vector<const Maker *>> made_;
};

/// A hyper-parameter by name, or null.
const Value *staticOf(const Decl &decl, const Values &statics, std::string_view name);
const Value *staticOf(const Instance &inst, std::string_view name);

} // namespace nnc::fe
