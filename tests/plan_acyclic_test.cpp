// The graph without circles, against a search of all of it.
#include "codegen/acyclic.h"
#include "tests/growth.h"
#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

using nnc::cg::Acyclic;

namespace {

bool pathExists(const Acyclic &g, int from, int to) {
  std::vector<int> work{from};
  std::vector<char> seen(size_t(g.size()), 0);
  while (!work.empty()) {
    const int at = work.back();
    work.pop_back();
    if (at == to) return true;
    if (seen[size_t(at)]++) continue;
    work.insert(work.end(), g.after(at).begin(), g.after(at).end());
  }
  return false;
}

} // namespace

TEST_CASE("paths of a graph that grows are those that a full search finds", "[plan]") {
  std::mt19937 random(5);
  int against = 0; // edges from a younger node to an older one
  for (int trial = 0; trial < 60; ++trial) {
    const int nodes = 2 + int(random() % 24);
    Acyclic g(nodes / 2);
    while (g.size() < nodes) g.addNode();
    for (int i = 0; i < 4 * nodes; ++i) {
      const int from = int(random() % unsigned(nodes)), to = int(random() % unsigned(nodes));
      REQUIRE(g.leads(to, {from}) == pathExists(g, to, from));
      if (g.leads(to, {from})) continue; // a circle
      g.addEdge(from, to);
      against += from > to;
    }
    for (int from = 0; from < nodes; ++from) {
      std::vector<int> some;
      bool any = false;
      for (int to = 0; to < nodes; ++to) {
        if (random() % 4) continue;
        some.push_back(to);
        any = any || pathExists(g, from, to);
      }
      CHECK(g.leads(from, some) == any);
    }
  }
  CHECK(against > 100);
}

TEST_CASE("a question about neighbours in a deep graph is short", "[plan][growth]") {
  // A forward and a backward pass: node n + i reads n + i - 1 and the forward node of its layer.
  auto work = [](size_t size) {
    const int n = int(size);
    Acyclic g(2 * n);
    bool circle = true;
    for (int i = 1; i < n; ++i) g.addEdge(i - 1, i);
    g.addEdge(n - 1, n);
    for (int i = 1; i < n; ++i) {
      g.addEdge(n + i - 1, n + i), g.addEdge(n - 1 - i, n + i);
      circle = circle && g.leads(n - 1 - i, {n + i}) && !g.leads(n + i, {n - 1 - i});
    }
    REQUIRE(circle);
  };
  CHECK(nnc::test::growsLinearly(10000, work));
}
