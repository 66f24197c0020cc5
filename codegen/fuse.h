// Shared pieces of fusion: which values become memory, how expressions are read through views, and
// the kernels under construction. The algorithm is told in fuse.cpp.
#pragma once
#include <functional>
#include "codegen/acyclic.h"
#include "codegen/program.h"
#include <set>

namespace nnc::cg {

// A kernel under construction. `dims` are the dimensions of its parallel axes (Loops) or of the
// contraction's result (Contract), in order; a value joins the group if it is indexed by these
// axes.
struct Group {
  Launch launch;
  Dims dims;
  std::vector<AxisId> dimAxes;           // axis of each of `dims`; -1 where the index is constant
  // axes beyond `dims`, by position and extent key
  std::map<std::pair<int, int64_t>, AxisId> trailing;
  std::map<int32_t, std::pair<int, int>> locals; // ValueId -> (stage, slot) left behind by a stage
  // elementwise member values: recomputed where they are read
  std::set<int32_t> inlined;
  int region = -1;                       // Chain: index into Chains::regions
  std::vector<AxisId> tileAxes;          // Chain: axis of each dimension of the region
  std::map<int32_t, int> tiles;          // Chain: ValueId -> stage that makes its tile
  int32_t accValue = -1;                 // Contract, ScatterAdd: the value `acc` stands for
  std::vector<ir::ValueId> members;
  std::set<int> deps;                    // groups that must run before; grown by Fuser::waitFor
  std::vector<Launch> extra;             // further launches (phases of a strided data gradient)
  bool open = true;                      // may take further members
  Kernel &kernel() { return launch.kernel; }
  const Kernel &kernel() const { return launch.kernel; }
};

// Chained products whose values in between get no memory (fuse_chain.cpp).
struct Chains {
  struct Region {
    Dims dims;           // of its values
    size_t row = 0, col = 0; // dimensions: columns are reduced over
    DType type = DType::f32;
  };
  std::vector<Region> regions;
  std::vector<int> member;   // by ValueId: the region of which it is a value between products; -1
  std::vector<int> sink;     // by ValueId: the region whose values are added up to it; -1
  std::vector<char> tile;    // by ValueId: members that are computed once and kept in a tile
  // by ValueId: read by members alone, which compute it where they read it
  std::vector<char> inlined;
};
Chains findChains(const ir::Function &f, const FuseOptions &o);

// Facts about the values of a function that fusion decides by.
struct Roots {
  std::vector<char> root;     // by ValueId: has memory of its own (parameters included)
  std::vector<int> uses;      // consumers, results included
  std::vector<double> cost;   // scalar operations to recompute one element from roots
  // Comparison -> the rectified value it decides: for h = select(z <= 0, 0, z), z <= 0 is h <= 0,
  // and for h = select(z > 0, z, 0), z > 0 is h > 0 (NaN and -0 included). So a backward pass needs
  // h, not z.
  std::map<int32_t, ir::ValueId> rectified;
  Chains chains;
  // ValueId -> layout of its memory, where that is not row-major
  std::map<int32_t, const Layout *> layouts;
  // those of them that were chosen for this function alone
  std::shared_ptr<const std::map<int32_t, Layout>> own;
  const Layout &layoutOf(ir::ValueId v) const {
    static const Layout rowMajor;
    auto it = layouts.find(v.i);
    return it == layouts.end() ? rowMajor : *it->second;
  }
};

// The body of a loop: where the parameters and the stacked results of its function lie. In the
// order of the function's parameters and results; those of carries are left as they are.
struct Frame {
  struct Part {
    BufferId outer = -1; // of the enclosing program
    Layout layout;
    int64_t slice = 0; // bytes
  };
  size_t carries = 0;
  std::vector<Part> params, results;
};

class Fuser {
public:
  Fuser(const ir::Module &m, const ir::Function &f, const FuseOptions &o,
        const Frame *frame = nullptr);
  Program run();

  const ir::Module &m;
  const ir::Function &f;
  FuseOptions options;
  const Frame *frame; // null: not the body of a loop
  std::vector<Loop::Carry> carries; // of a body, as far as the body knows them
  Program program;
  Roots facts;
  std::vector<Group> groups;
  std::vector<int> groupOf;       // by ValueId: the group that produces it; -1
  std::vector<BufferId> bufferOf; // by ValueId; -1

  bool isRoot(ir::ValueId v) const { return facts.root[v.i]; }
  BufferId buffer(ir::ValueId v);
  // The two words of the hash of a random site, low and high: u32[2].
  BufferId siteBuffer(const std::string &site);
  // The user's name of a value, else the operation that makes it.
  std::string nameOf(ir::ValueId v) const;
  int32_t argFor(Launch &l, BufferId b, bool write);
  // Where the value's element at a logical index is stored.
  Index place(Kernel &k, ir::ValueId v, const std::vector<Index> &at) const {
    return placeOf(k, facts.layoutOf(v), f.type(v).dims, at, f.batch);
  }
  // Stores result `slot` of the stage wherever the value at the index `at` lives.
  void addStores(Launch &l, Stage &s, ir::ValueId v, const std::vector<Index> &at, int slot = 0);
  int64_t count(const Dims &d) const { return ir::elementCount(d, std::max<int64_t>(f.batch, 1)); }

  // The kernel that adds up partial results (fuse_split.cpp).
  // With `chunk`: those of chunks of so many steps of `whole`, of which the last may not exist.
  void addCombine(const ir::Node &node, int partialGroup, BufferId partial, int64_t splits,
                  Combine combine, int64_t chunk = 0, Dim whole = 0);

private:
  void makeBuffers();
  void frameResults();
  Buffer partFor(size_t result) const;
  BufferId copyOf(ir::ValueId v, Buffer to);
  bool copyBeside(ir::ValueId v, BufferId to);
  bool mergeConcat(const ir::Node &node, Group &g, int id);
  void bodyResults();
  void addScan(const ir::Node &node, int id);
  BufferId firstValue(ir::ValueId v, int id);
  BufferId turnedOnce(ir::ValueId v, const Layout &layout, int id);
  std::map<std::string, BufferId> sites_;
  Acyclic groupOrder_; // edges from what must run before
  std::map<int, std::vector<int>> chains_; // groups by region, oldest first
  std::map<int32_t, std::vector<BufferId>> alsoAt_; // ValueId -> further places (fuse_scan.cpp)
  void place(const ir::Node &node);
  bool tryMerge(const ir::Node &node, int g);
  bool mergeElementwise(const ir::Node &node, Group &g, int id);
  bool mergeReduce(const ir::Node &node, Group &g, int id);
  bool demote(Group &g, size_t rank);
  int newGroup(const ir::Node &node);
  void waitFor(int group, const std::set<int> &others);
  bool closesCircle(int group, const std::set<int> &deps) const;
  bool mayTake(const Group &g, const ir::Node &node) const;
  std::map<int32_t, std::vector<int>> readers_; // ValueId -> pointwise groups that read all of it
  std::set<int32_t> wholeReads(const ir::Node &node) const;
  void noteReader(const ir::Node &node, int id);
  std::vector<int> siblingsOf(const ir::Node &node) const;
  void addElementwise(const ir::Node &node, Group &g, int id);
  void addReduce(const ir::Node &node, Group &g, int id);
  void addCumsum(const ir::Node &node, Group &g, int id);
  void addScatter(const ir::Node &node, Group &g, int id);
  void sumsInScratch(const ir::Node &node, Group &g);
  void addSort(const ir::Node &node, Group &g, int id);
  void addUnwindow(const ir::Node &node, Group &g, int id);
  void addContract(const ir::Node &node, int id);
  bool placeChain(const ir::Node &node);
  void openChain(Group &g, int region);
  bool addSink(const ir::Node &node, int id);
  bool addSum(const ir::Node &node, int id);
  ExprId addRounded(Group &g, ir::ValueId v, ExprId rounded);
  bool addRowReduce(const ir::Node &node, int id);
  bool mergeRow(const ir::Node &node, int id);
  bool ensureTiles(ir::ValueId v, int id);
  bool addTile(ir::ValueId v, int id);
  bool readsOwn(ir::ValueId v, int id) const;
  // A split sum's first kernel, for others to join (fuse_split.cpp).
  struct Partial {
    int group = -1;
    Dims dims;
    ir::Ints reduced;
    int64_t longest = 0, chunk = 0;
    std::vector<AxisId> axes; // by dimension
    AxisId split = -1;
  };
  std::vector<Partial> partials_;
  bool splitReduce(const ir::Node &node);
  bool sumBeside(const ir::Node &node, const Partial &part, int64_t splits,
                 const std::set<int> &deps);
  bool sumBeside(const ir::Node &node, const Partial &part, int64_t splits, int group);
  Partial *siblingOf(const ir::Node &node, const Partial &like, const std::set<int> &deps);
  bool sharesReads(const ir::Node &node, const Group &g) const;
  void eachRead(const ir::Node &node, const std::function<void(ir::ValueId)> &visit) const;
  std::set<int> rootDeps(const ir::Node &node) const;
  void copyResults();
  void finish();
};

// Layouts of values that neither come in nor leave, by ValueId, where row-major is not best
// (fuse_layouts.cpp).
std::map<int32_t, Layout> ownLayouts(const ir::Module &m, const ir::Function &f, bool pads);
Roots chooseRoots(const ir::Module &m, const ir::Function &f, const FuseOptions &o,
                  const Frame *frame = nullptr);
// A product's sum may be split if its parts have as many terms; one of fewer than two parts never
// is.
inline constexpr int64_t kTermsOfPart = 1024;
// The layout in which every round of the loop wants operand i; row-major unless it is an invariant.
Layout operandLayout(const ir::Module &m, const ir::Function &f, const ir::Node &scan, size_t i,
                     const FuseOptions &o);
// A value and the number of the body's result that it is stored for, in place.
std::map<int32_t, size_t> stackedValues(const ir::Function &f, const Frame &frame);
// Can the kernels that make the value store it in any layout, and in several places?
bool storesAnywhere(const ir::Function &f, ir::ValueId v);
// Is the product made by one kernel, whose epilogue others can join? (Not one with several phases.)
bool takesEpilogue(const ir::Function &f, const ir::Node &contract);
// Is the operand an affine read of one buffer, so that a contraction can load it directly?
bool affineOperand(const ir::Function &f, const Roots &r, ir::ValueId v);
// Computed where it is read unless something speaks for memory.
bool isInline(const ir::Function &f, const ir::Node &n);
// Scalar operations of one element of the result, in units of an addition.
double ownCost(const ir::Node &n);
// Views: never memory of their own unless somebody asks (concat included).
bool isView(const ir::Function &f, const ir::Node &n);
// Non-overlapping unwindow is an index map, too.
bool isIndexMap(const ir::Node &n);

// Reads a value at an index inside a kernel: inlines views and pointwise nodes down to roots.
// `fuser` null means a dry run over `facts` alone (affineOperand). Fails (-1) where a value of the
// kernel itself would be read at another index than it was written.
class Reader {
public:
  Reader(const ir::Function &f, const Roots &facts, Kernel &k, Fuser *fuser, Group *group,
         int groupId, Launch *launch = nullptr);
  ExprId read(ir::ValueId v, const std::vector<Index> &at, const std::vector<Guard> &guards = {});

private:
  using Key = std::tuple<int32_t, std::vector<Index>, std::vector<Guard>>;
  const ir::Function &f_;
  const Roots &facts_;
  Kernel &k_;
  Fuser *fuser_;
  Group *group_;
  int groupId_;
  Launch *launch_;
  std::map<Key, ExprId> memo_;

  ExprId compute(ir::ValueId v, const std::vector<Index> &at, const std::vector<Guard> &guards);
  ExprId own(ir::ValueId v, const std::vector<Index> &at);
  ExprId tile(ir::ValueId v, int stage, const std::vector<Index> &at);
  ExprId load(ir::ValueId v, const Dims &dims, const std::vector<Index> &at,
              const std::vector<Guard> &guards);
  ExprId pointwise(const ir::Node &n, const std::vector<Index> &at, const std::vector<Guard> &g);
  ExprId view(const ir::Node &n, const std::vector<Index> &at, const std::vector<Guard> &g);
  ExprId generator(const ir::Node &n, const std::vector<Index> &at);
  std::vector<ExprId> siteWords(const std::string &site);
  ExprId reshape(const ir::Node &n, const std::vector<Index> &at, const std::vector<Guard> &g);
  ExprId concat(const ir::Node &n, const std::vector<Index> &at, const std::vector<Guard> &g);
  ExprId guarded(ir::ValueId x, const std::vector<Index> &at, const std::vector<Guard> &g,
                 std::vector<Guard> extra, double fill, DType type);
};

Combine combineOf(const ir::Node &n); // of reduce, max_index
ReduceOrder orderFor(const Dims &dims, const ir::Ints &reduced, DType t, Combine c, int64_t batch);
bool contains(const ir::Ints &list, int64_t x);
// Adds lo <= x < hi unless the ranges of the axes already prove it.
void addGuard(const Kernel &k, std::vector<Guard> &gs, const Index &x, Dim hi, int64_t lo = 0);
// Row-major flat index of `at` in `dims`, strides at N: of memory without a layout, and of logical
// elements.
Index flatten(Kernel &k, const Dims &dims, const std::vector<Index> &at, int64_t batch);
ExprId constantExpr(Kernel &k, double v, DType t);
ExprId convertExpr(Kernel &k, ExprId e, DType t);
// The value where all guards hold, 0 elsewhere.
ExprId zeroOutside(Kernel &k, const std::vector<Guard> &guards, ExprId e);
// A computed value of the IR's type t: bf16 and f16 are computed in f32 and rounded to t, every
// other type is e itself. Loads need none, what they read has been rounded.
ExprId roundedExpr(Kernel &k, ExprId e, DType t);
// Drops expressions, arguments and axes that nothing uses and renumbers the rest in order of use.
void compact(Launch &l);

} // namespace nnc::cg
