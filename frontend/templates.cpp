#include "frontend/templates.h"

namespace nnc::fe {

const std::vector<Template> &templates() {
  static const std::vector<Template> all = {
      {"mlp-csv", "classes from the columns of a table",
       R"nn(# {file}: a class from the numbers of a row.
#
# Data: {file}.csv, a table with a header. Here the first four columns are what the model sees, and
# the column `class` is the truth: 0, 1 or 2.
#
#   nnc check {file}.nn           mistakes, without compiling
#   nnc {file}.nn -o {file}         the program
#   ./{file} train                trains it and keeps the weights in a file
#   ./{file} evaluate             loss and metrics
#   ./{file} predict --limit 5    what it says
#
# `nnc doc` lists the layers, losses and optimizers; `nnc doc Dense` explains one.

model {model}(x: [batch, 4]) -> [batch, 3] {
  x |> Dense(32, activation = relu)
    |> Dropout(0.1)
    |> Dense(3)  # one score per class; the loss makes probabilities of them
}

train {model} {
  data       = csv("{file}.csv", x = columns(0..4), target = "class")  # or columns("a", "b", ...)
  validation = split(0.2)
  loss       = SparseCategoricalCrossentropy(from_logits = true)
  optimizer  = Adam(1e-3)
  metrics    = [SparseCategoricalAccuracy()]
  batch_size = 32
  epochs     = 50
  callbacks  = [EarlyStopping(patience = 5, restore_best_weights = true)]
}
)nn"},
      {"regression-csv", "a number from the columns of a table",
       R"nn(# {file}: a number from the numbers of a row.
#
# Data: {file}.csv, a table with a header. Here the first eight columns are what the model sees, and
# the column `y` is the truth.
#
#   nnc check {file}.nn           mistakes, without compiling
#   nnc {file}.nn -o {file}         the program
#   ./{file} train                trains it and keeps the weights in a file
#   ./{file} predict --limit 5    what it says

model {model}(x: [batch, 8]) -> [batch, 1] {
  x |> Dense(32, activation = relu, kernel_regularizer = L2(1e-4))
    |> Dense(1)
}

train {model} {
  data       = csv("{file}.csv", x = columns(0..8), target = "y")
  validation = split(0.2)
  loss       = MeanSquaredError()
  optimizer  = Adam(1e-3)
  metrics    = [MeanAbsoluteError(), R2Score()]
  batch_size = 32
  epochs     = 100
}
)nn"},
      {"image-idx", "classes of grey pictures in files of the MNIST format",
       R"nn(# {file}: classes of grey pictures, 28 x 28 bytes, with a small convolutional network.
#
# Data: four files of the MNIST format, as datasets for learning have them; `.gz` is fine.
#
#   nnc check {file}.nn           mistakes, without compiling
#   nnc {file}.nn -o {file}         the program
#   ./{file} train                where the files are, or --data NAME=PATH for each
#   ./{file} evaluate             loss and metrics on the test data
#   ./{file} predict --show       pictures in the terminal, with what it says

## Convolution, normalization and pooling: half the size, `filters` channels.
fn block(x, filters: int) =
  x |> Conv2D(filters, 3, padding = "same", use_bias = false)
    |> BatchNormalization()
    |> relu
    |> MaxPooling2D()

model {model}(image: u8[batch, 28, 28]) -> [batch, 10] {
  x = image |> Rescaling(1 / 255) |> Reshape([28, 28, 1])
  x = block(x, 16)
  x = block(x, 32)
  x |> Flatten()
    |> Dropout(0.25)
    |> Dense(10)
}

train {model} {
  data       = idx(image = "train-images-idx3-ubyte.gz", target = "train-labels-idx1-ubyte.gz")
  test       = idx(image = "t10k-images-idx3-ubyte.gz", target = "t10k-labels-idx1-ubyte.gz")
  validation = split(0.1)
  loss       = SparseCategoricalCrossentropy(from_logits = true)
  optimizer  = Adam(learning_rate = CosineDecay(3e-3, decay_steps = 6752))
  metrics    = [SparseCategoricalAccuracy()]
  batch_size = 64
  epochs     = 8
}
)nn"},
      {"own-parts", "a layer, a loss and an optimizer of one's own",
       R"nn(# {file}: parts of one's own, written as the library's are.
#
# Data: {file}.csv, a table with a header: four columns for the model, and the column `class`.
#
#   nnc {file}.nn -o {file}
#   ./{file} train

## Multiplies by a gate that it learns from the same input.
layer Gated(units: int)(x: [..lead, n]) -> [..lead, units] {
  param kernel: [n, units] = GlorotUniform()
  param bias: [units] = Zeros()
  (x @ kernel + bias) * sigmoid(Dense(units)(x))
}

## Cross-entropy that counts a sample the less, the surer the model is of it.
fn Careful(power: float = 1.0)(y_true: i32[batch], y_pred: [batch, classes]) -> [batch] {
  log_p = pick(log_softmax(y_pred), expect_range(y_true, 0, classes))
  -log_p * (1 - exp(log_p)) ** power
}

## Gradient descent with momentum.
optimizer Rolling(learning_rate: float | fn = 0.01, momentum: float = 0.9)(w, g, t) {
  state velocity = zeros_like(w)
  velocity <- momentum * velocity - learning_rate(t - 1) * g
  w <- w + velocity
}

model {model}(x: [batch, 4]) -> [batch, 3] { x |> Gated(16) |> Dense(3) }

train {model} {
  data       = csv("{file}.csv", x = columns(0..4), target = "class")
  validation = split(0.2)
  loss       = Careful()
  optimizer  = Rolling()
  metrics    = [SparseCategoricalAccuracy()]
  epochs     = 50
}
)nn"},
  };
  return all;
}

std::string templateText(const std::string &name) {
  for (const Template &t : templates())
    if (name.empty() || name == t.name) return t.text;
  return "";
}

} // namespace nnc::fe
