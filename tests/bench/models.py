"""The models of the benchmark, each written once in terms of a system's own layers.

A model is a function of `o`, the operations of one system (ops_torch.py and its neighbours), and of
the batch. Every operation of `o` is the system's best way to do it: `o.dense` is `linear` in PyTorch,
a `Dense` layer in Keras. Names are those of the weights in workloads/NAME.nn, without `net/`:

    def mlp(o, x):
        x = o.dense(x, 512, "dense", "relu")
        return o.dense(x, 10, "dense_1")

WORKLOADS says of each model its data, loss and optimizer, and what belongs in the table.
Nothing here imports a framework.
"""
from dataclasses import dataclass
from typing import Callable


# --- networks of dense layers --------------------------------------------------------------------

def dense_names():
    """dense, dense_1, dense_2, .."""
    n = 0
    while True:
        yield "dense" if n == 0 else f"dense_{n}"
        n += 1


def xor(o, x):
    return o.dense(o.dense(x, 8, "dense", "tanh"), 1, "dense_1")


def linear(o, x):
    return o.dense(x, 1, "dense")


def mlp_of(*units):
    def model(o, x):
        names = dense_names()
        for n in units[:-1]:
            x = o.dense(x, n, next(names), "relu")
        return o.dense(x, units[-1], next(names))
    return model


def autoencoder(o, x):
    return o.dense(o.dense(x, 32, "dense", "relu"), 784, "dense_1", "sigmoid")


def dlrm(o, dense, categories):
    bottom = o.dense(o.dense(dense, 64, "dense", "relu"), 16, "dense_1", "relu")
    vectors = [o.embedding(o.column(categories, i), 100_000, 16, f"table/{i}") for i in range(8)]
    x = o.interactions(bottom, vectors)
    return o.dense(o.dense(x, 64, "dense_2", "relu"), 1, "dense_3")


# --- pictures ------------------------------------------------------------------------------------

def lenet(o, x):
    x = o.image(x)
    x = o.max_pool(o.conv(x, 6, 5, "conv2d", pad=2, bias=True, activation="relu"), 2, 2)
    x = o.max_pool(o.conv(x, 16, 5, "conv2d_1", bias=True, activation="relu"), 2, 2)
    x = o.flatten(x)
    x = o.dense(x, 120, "dense", "relu")
    x = o.dense(x, 84, "dense_1", "relu")
    return o.dense(x, 10, "dense_2")


def conv_bn(o, x, filters, size, name, strides=1):
    x = o.conv(x, filters, size, name, strides=strides, pad=size // 2)
    return o.batch_norm(x, f"{name}/batch_normalization")


def numbered(name):
    n = 0
    while True:
        yield name if n == 0 else f"{name}_{n}"
        n += 1


def resnet20(o, x):
    x = o.relu(conv_bn(o, o.image(x), 16, 3, "conv_bn"))
    names, width = numbered("residual"), 16
    for filters, strides in [(16, 1), (32, 2), (64, 2)]:
        for i in range(3):
            p, s = next(names), strides if i == 0 else 1
            y = o.relu(conv_bn(o, x, filters, 3, f"{p}/conv_bn", s))
            y = conv_bn(o, y, filters, 3, f"{p}/conv_bn_1")
            if s != 1 or width != filters:
                x = conv_bn(o, x, filters, 1, f"{p}/conv_bn_2", s)
            x, width = o.relu(y + x), filters
    return o.dense(o.mean_of_space(x), 10, "dense")


def resnet50(o, x):
    x = o.relu(conv_bn(o, o.image(x), 64, 7, "conv_bn", 2))
    x = o.max_pool(x, 3, 2, pad=1)
    names, width = numbered("bottleneck"), 64
    for filters, blocks, strides in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for i in range(blocks):
            p, s = next(names), strides if i == 0 else 1
            y = o.relu(conv_bn(o, x, filters, 1, f"{p}/conv_bn"))
            y = o.relu(conv_bn(o, y, filters, 3, f"{p}/conv_bn_1", s))
            y = conv_bn(o, y, 4 * filters, 1, f"{p}/conv_bn_2")
            if s != 1 or width != 4 * filters:
                x = conv_bn(o, x, 4 * filters, 1, f"{p}/conv_bn_3", s)
            x, width = o.relu(y + x), 4 * filters
    return o.dense(o.mean_of_space(x), 1000, "dense")


# --- sequences -----------------------------------------------------------------------------------

def lstm(o, x):
    return o.dense(o.lstm(x, 128, "lstm"), 10, "dense")


def gru(o, x):
    return o.dense(o.gru(o.embedding(x, 256, 64, "embedding"), 512, "gru"), 256, "dense")


def gpt_of(vocabulary, context, positions, width, depth, heads):
    def model(o, x):
        y = o.embedding(x, vocabulary, width, "token")
        y = y + o.positions(context, positions, width, "place")
        names = numbered("block")
        for _ in range(depth):
            p = next(names)
            z = o.layer_norm(y, f"{p}/layer_normalization")
            z = o.dense(z, 3 * width, f"{p}/causal_self_attention/dense")
            z = o.causal_attention(z, heads)
            y = y + o.dense(z, width, f"{p}/causal_self_attention/dense_1")
            z = o.layer_norm(y, f"{p}/layer_normalization_1")
            z = o.dense(z, 4 * width, f"{p}/dense", "gelu")
            y = y + o.dense(z, width, f"{p}/dense_1")
        return o.tied(o.layer_norm(y, "layer_normalization"), "token")
    return model


# --- an optimizer alone --------------------------------------------------------------------------

def adam(o, x):
    return o.weight((10_000_000,), "w") - x[0, 0]


# --- the table -----------------------------------------------------------------------------------

@dataclass
class Workload:
    name: str
    title: str
    model: Callable
    data: Callable    # of a numpy Generator: name -> array, in the order of the model's arguments
    loss: str         # of (target, output), or of the output alone: "square"
    optimizer: tuple  # ("sgd", rate, momentum) or ("adam", rate)
    sparse: bool = False  # the gradient of embeddings touches few rows
    mixed: bool = False   # products take most of the time: run in mixed precision too

    @property
    def batch(self):
        return next(iter(self.data_shapes().values()))[0]

    def data_shapes(self):
        return {k: v.shape for k, v in self.data(_Shapes()).items()}


class _Shapes:
    """A generator that knows nothing but shapes."""

    class Array:
        def __init__(self, shape):
            self.shape = tuple(shape)

        def astype(self, _):
            return self

    def random(self, shape, dtype=None):
        return self.Array(shape)

    def integers(self, low, high, shape):
        return self.Array(shape)


def _pixels(*shape, classes=10):
    return lambda r: {"x": r.random(shape, dtype="float32"),
                      "target": r.integers(0, classes, shape[:1]).astype("int32")}


def _tokens(vocabulary, *shape):
    return lambda r: {"x": r.integers(0, vocabulary, shape).astype("int32"),
                      "target": r.integers(0, vocabulary, shape).astype("int32")}


def _numbers(rows, columns):
    return lambda r: {"x": r.random((rows, columns), dtype="float32"),
                      "target": r.random((rows, 1), dtype="float32")}


def _xor(r):
    return {"x": r.integers(0, 2, (4, 2)).astype("float32"),
            "target": r.integers(0, 2, (4, 1)).astype("float32")}


def _pictures_twice(r):
    x = r.random((128, 784), dtype="float32")
    return {"x": x, "target": x}


def _categories(r):
    return {"dense": r.random((256, 13), dtype="float32"),
            "categories": r.integers(0, 100_000, (256, 8)).astype("int32"),
            "target": r.integers(0, 2, (256, 1)).astype("float32")}


WORKLOADS = {w.name: w for w in [
    Workload("xor", "XOR, 2-8-1, batch 4, Adam", xor, _xor, "binary", ("adam", 0.05)),
    Workload("linear", "linear regression, 10 columns, batch 442, SGD", linear, _numbers(442, 10),
             "mse", ("sgd", 0.05, 0.9)),
    Workload("mlp_small", "MLP 784-300-100-10, batch 32, SGD", mlp_of(300, 100, 10),
             _pixels(32, 784), "classes", ("sgd", 0.01, 0)),
    Workload("mlp", "MLP 784-512-512-10, batch 128, Adam", mlp_of(512, 512, 10), _pixels(128, 784),
             "classes", ("adam", 1e-3), mixed=True),
    Workload("mlp_wide", "MLP 784-2048×4-10, batch 512, SGD", mlp_of(2048, 2048, 2048, 2048, 10),
             _pixels(512, 784), "classes", ("sgd", 0.01, 0), mixed=True),
    Workload("autoencoder", "autoencoder 784-32-784, batch 128, Adam", autoencoder,
             _pictures_twice, "mse", ("adam", 1e-3)),
    Workload("lenet", "LeNet-5, batch 64, SGD", lenet, _pixels(64, 28, 28, 1), "classes",
             ("sgd", 0.01, 0), mixed=True),
    Workload("resnet20", "ResNet-20, 32×32, batch 128, momentum", resnet20,
             _pixels(128, 32, 32, 3), "classes", ("sgd", 0.01, 0.9), mixed=True),
    Workload("resnet50", "ResNet-50, 64×64, batch 16, momentum", resnet50,
             _pixels(16, 64, 64, 3, classes=1000), "classes", ("sgd", 1e-6, 0.9), mixed=True),
    Workload("lstm", "LSTM 128, 64 steps of 64, batch 32, Adam", lstm, _pixels(32, 64, 64),
             "classes", ("adam", 1e-3), mixed=True),
    Workload("gru", "GRU 512 over 64 characters, batch 64, Adam", gru, _tokens(256, 64, 64),
             "classes", ("adam", 1e-3), mixed=True),
    Workload("gpt", "GPT, 4 blocks of 128, 128 characters, batch 8, Adam",
             gpt_of(256, 128, 128, 128, 4, 4), _tokens(256, 8, 128), "classes", ("adam", 1e-3),
             mixed=True),
    Workload("gpt2", "GPT-2 small (124 M), 256 tokens, batch 1, Adam",
             gpt_of(50257, 256, 1024, 768, 12, 12), _tokens(50257, 1, 256), "classes",
             ("adam", 1e-4), mixed=True),
    Workload("dlrm", "DLRM, 8 tables of 100 000×16, batch 256, SGD", dlrm, _categories, "binary",
             ("sgd", 0.1, 0), sparse=True),
    Workload("adam", "Adam alone, 10^7 weights", adam,
             lambda r: {"x": r.random((1, 1), dtype="float32")}, "square", ("adam", 1e-3)),
]}
