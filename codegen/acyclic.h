// A graph that stays without circles, and an order of its nodes that is kept with it.
//
// Problem. Fusion and the planner ask for every value and every weight whether one more dependence
// would close a circle. To search the graph each time is quadratic in the depth of a network:
//   y = x + f(x)    may y join the kernel of f(x)? x is a layer above, with all the network behind
//   it
//
// Method. Pearce and Kelly, "A dynamic topological sort algorithm for directed acyclic graphs"
// (2006). Every node has a place in an order in which edges lead forward. A path from a to b exists
// only if a stands before b, and goes through nodes between the two; the search begins at b and
// takes the node nearest to a first, as most answers are yes and the way is short in places. An
// edge against the order moves only nodes that stand between its ends.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace nnc::cg {

class Acyclic {
 public:
  /// Nodes 0, 1, ..: edges that are added at first mostly lead from small to large.
  explicit Acyclic(int nodes = 0) {
    while (int(place_.size()) < nodes) addNode();
  }
  /// Behind all others.
  int addNode();
  int size() const { return int(place_.size()); }

  /// Is there a path from one node to any of the others, or is it one of them?
  bool leads(int from, const std::vector<int> &to) const;
  /// Requires that no path leads from `to` to `from`.
  void addEdge(int from, int to);
  /// The ends of the edges from a node.
  const std::vector<int> &after(int node) const { return after_[std::size_t(node)]; }

 private:
  std::vector<std::vector<int>> before_, after_;
  std::vector<int> place_;
  mutable std::vector<uint32_t> seen_; // by node: the number of the search that met it last
  mutable uint32_t search_ = 0;

  bool meets(int node) const; // for the first time in this search
  std::vector<int> between(int node, const std::vector<std::vector<int>> &edges, int low,
                           int high) const;
  void reorder(int from, int to);
};

} // namespace nnc::cg
