// The order in which the kernels of a step run.
//
// Problem. Fusion leaves kernels in an order where producers come first. Updating a weight in place
// adds a second kind of constraint that no data flow shows: whoever reads the old weight must come
// before the kernel that overwrites it.
//   dX = dZ * W^T            reads W
//   W' = W - rate * X^T dZ   writes over W:  must come after dX
//
// Method. A graph with an edge for every "must come later", data and soft edges alike; Kahn's
// algorithm takes the ready kernel that stood first in the program. A soft edge is added only if no
// path leads the other way (inplace.cpp), so the graph stays without cycles. Linear, but for the
// heap of ready kernels.
#include "codegen/planning.h"
#include <algorithm>
#include <queue>

namespace nnc::cg {

std::vector<Users> usersOf(const Program &p) {
  std::vector<Users> users(p.buffers.size());
  auto add = [](std::vector<int> &list, int launch) {
    if (list.empty() || list.back() != launch) list.push_back(launch);
  };
  for (int l = 0; l < int(p.launches.size()); ++l) {
    const Launch &launch = p.launches[l];
    for (size_t a = 0; a < launch.args.size(); ++a) {
      if (launch.kernel.args[a].read) add(users[launch.args[a]].readers, l);
      if (launch.kernel.args[a].written) add(users[launch.args[a]].writers, l);
    }
  }
  return users;
}

Edges dataEdges(const Program &p, const std::vector<Users> &users) {
  Edges edges(int(p.launches.size()));
  for (const Users &u : users) {
    for (int w : u.writers)
      for (int r : u.readers)
        if (r != w) edges.addEdge(w, r);
    // Several kernels that write parts of one buffer keep their order.
    for (size_t i = 1; i < u.writers.size(); ++i) edges.addEdge(u.writers[i - 1], u.writers[i]);
  }
  return edges;
}

std::vector<int> topologicalOrder(const Edges &edges) {
  std::vector<int> waiting(size_t(edges.size()), 0), order;
  for (int l = 0; l < edges.size(); ++l)
    for (int to : edges.after(l)) ++waiting[to];
  std::priority_queue<int, std::vector<int>, std::greater<int>> ready;
  for (int l = 0; l < edges.size(); ++l)
    if (waiting[l] == 0) ready.push(l);
  while (!ready.empty()) {
    int at = ready.top();
    ready.pop();
    order.push_back(at);
    for (int to : edges.after(at))
      if (--waiting[to] == 0) ready.push(to);
  }
  NNC_CHECK(int(order.size()) == edges.size(),
            "the kernels of a program depend on each other in a cycle");
  return order;
}

} // namespace nnc::cg
