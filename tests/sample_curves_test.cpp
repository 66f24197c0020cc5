// Compiled training against Keras: the loss curves of library_curves.h in single precision.
//
// Rounding errors grow along a curve, so that the tolerance is that of the first hundred steps of
// these models, not of one kernel.
#include "ir/passes.h"
#include "tests/compiled_model.h"
#include "tests/library_curves.h"

using namespace nnc;
using namespace nnc::fe::test;

namespace {

ir::Tensor tensor(ir::DType dtype, std::vector<int64_t> dims, std::vector<double> data) {
  ir::Tensor t;
  t.dtype = dtype;
  t.dims = std::move(dims);
  t.data = std::move(data);
  return t;
}

void checkCurve(const char *text, const char *curve, std::vector<int64_t> inputDims) {
  fe::Sources sources;
  fe::Diagnostics diags(sources);
  auto m = fe::elaborate(sources, sources.add("curve.nn", text), diags);
  INFO(diags.render());
  REQUIRE(m != nullptr);
  ir::runGradient(*m, {});
  ir::runOptimize(*m, {});
  cg::CodegenOptions options;
  std::string error;
  options.target = *cg::resolveTarget("native", error);
  nnc::test::CompiledModel compiled(*m, options);
  compiled.run("init", {});
  fillKernels(*m, [&](const ir::Persistent &w, std::vector<double> values) {
    std::vector<int64_t> dims;
    for (const ir::Dim d : w.type.dims) dims.push_back(d.b);
    compiled.setPersistent(w.name, tensor(w.type.dtype, dims, std::move(values)));
  });
  const ir::Meta curves = reference("curves.json");
  const auto wanted = numbers(*curves.find(curve));
  int width = 1;
  for (size_t i = 1; i < inputDims.size(); ++i) width *= int(inputDims[i]);
  std::vector<double> found;
  for (size_t s = 0; s < wanted.size(); ++s) {
    const CurveBatch batch(s, width);
    compiled.step = s;
    const auto results =
        compiled.run("train_step", {tensor(ir::DType::f32, inputDims, batch.x),
                                    tensor(ir::DType::i32, {kCurveBatch}, batch.y)});
    REQUIRE(results.size() == 1);
    found.push_back(results[0].data[0]);
  }
  checkClose(found, wanted, 1e-3, 1e-5);
}

} // namespace

TEST_CASE("a compiled perceptron trains as in Keras", "[sample]") {
  checkCurve(kMlp, "mlp", {kCurveBatch, 6});
}

TEST_CASE("a compiled convolutional network trains as in Keras", "[sample]") {
  checkCurve(kCnn, "cnn", {kCurveBatch, 6, 6, 1});
}

TEST_CASE("a compiled recurrent network trains as in Keras", "[sample][scan]") {
  checkCurve(kRnn, "rnn", {kCurveBatch, 6, 3});
}
