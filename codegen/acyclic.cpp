// See acyclic.h.
#include "codegen/acyclic.h"

#include "ir/module.h"
#include <algorithm>
#include <queue>

namespace nnc::cg {

int Acyclic::addNode() {
  const int node = size();
  before_.emplace_back();
  after_.emplace_back();
  place_.push_back(node);
  seen_.push_back(0);
  return node;
}

bool Acyclic::meets(int node) const {
  if (seen_[size_t(node)] == search_) return false;
  seen_[size_t(node)] = search_;
  return true;
}

bool Acyclic::leads(int from, const std::vector<int> &to) const {
  ++search_;
  const int first = place_[size_t(from)];
  auto nearer = [&](int x, int y) { return place_[size_t(x)] > place_[size_t(y)]; };
  std::priority_queue<int, std::vector<int>, decltype(nearer)> work(nearer);
  for (int t : to) {
    if (t == from) return true;
    if (place_[size_t(t)] > first && meets(t)) work.push(t);
  }
  while (!work.empty()) {
    const int at = work.top();
    work.pop();
    for (int b : before_[size_t(at)]) {
      if (b == from) return true;
      if (place_[size_t(b)] > first && meets(b)) work.push(b);
    }
  }
  return false;
}

// The node, and all that the edges lead to at places low to high, in order.
std::vector<int> Acyclic::between(int node, const std::vector<std::vector<int>> &edges, int low,
                                  int high) const {
  ++search_;
  std::vector<int> found{node};
  meets(node);
  for (size_t i = 0; i < found.size(); ++i)
    for (int next : edges[size_t(found[i])])
      if (place_[size_t(next)] >= low && place_[size_t(next)] <= high && meets(next))
        found.push_back(next);
  std::sort(found.begin(), found.end(),
            [&](int x, int y) { return place_[size_t(x)] < place_[size_t(y)]; });
  return found;
}

// What leads to `from` comes before what `to` leads to, on the places that both have now.
void Acyclic::reorder(int from, int to) {
  const int low = place_[size_t(to)], high = place_[size_t(from)];
  std::vector<int> nodes = between(from, before_, low, high);
  const std::vector<int> later = between(to, after_, low, high);
  NNC_CHECK(later.back() != from, "an edge closes a circle");
  nodes.insert(nodes.end(), later.begin(), later.end());
  std::vector<int> places;
  for (int n : nodes) places.push_back(place_[size_t(n)]);
  std::sort(places.begin(), places.end());
  for (size_t i = 0; i < nodes.size(); ++i) place_[size_t(nodes[i])] = places[i];
}

void Acyclic::addEdge(int from, int to) {
  NNC_CHECK(from != to, "an edge from a node to itself");
  if (place_[size_t(from)] > place_[size_t(to)]) reorder(from, to);
  after_[size_t(from)].push_back(to);
  before_[size_t(to)].push_back(from);
}

} // namespace nnc::cg
