// The table of foreign.def, and help made from it: what the table knows is better than the closest
// spelling, since `Linear` is meant to be `Dense` though `linear` is closer.
#include "frontend/foreign.h"
#include <algorithm>
#include <cctype>

namespace nnc::fe {

static const ForeignRow kRows[] = {
#define FOREIGN(Kind, theirs, ours, advice) {Foreign::Kind, theirs, ours, advice},
#include "frontend/foreign.def"
};

const ForeignRow *foreign(Foreign kind, std::string_view theirs) {
  for (const ForeignRow &row : kRows)
    if (row.kind == kind && theirs == row.theirs) return &row;
  return nullptr;
}

static std::string letters(std::string_view name) {
  std::string out;
  for (char c : name)
    if (c != '_' && c != '-' && c != ' ') out += char(std::tolower((unsigned char)c));
  return out;
}

std::string sameLetters(std::string_view name, const std::vector<std::string> &candidates) {
  std::string wanted = letters(name);
  for (const std::string &c : candidates)
    if (c != name && letters(c) == wanted) return c;
  return "";
}

bool hint(Diagnostic &d, Foreign kind, std::string_view name,
          const std::vector<std::string> &candidates) {
  const ForeignRow *row = foreign(kind, name);
  auto isCandidate = [&](std::string_view ours) {
    return kind == Foreign::Name || kind == Foreign::Key || kind == Foreign::Text ||
           std::find(candidates.begin(), candidates.end(), ours) != candidates.end();
  };
  bool ours = row && *row->ours && isCandidate(row->ours);
  if (ours) d.didYouMean(row->ours);
  if (row && *row->advice && (ours || !*row->ours)) return d.help(row->advice), true;
  if (ours) return true;
  std::string near = sameLetters(name, candidates);
  if (near.empty()) near = suggest(name, candidates);
  d.didYouMean(near);
  return !near.empty();
}

} // namespace nnc::fe
