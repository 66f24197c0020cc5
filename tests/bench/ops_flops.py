"""Counts the floating-point operations of a training step: those of products of matrices.

A product of [m, k] and [k, n] counts 2mkn, once forward and once for each factor's gradient; the
gradient of what is data is not needed. What is done by element does not count, so that the share of
the peak in the table is a lower bound of what the machine was kept busy with.
"""
from math import prod


class Shape(tuple):
    """A tensor of which only the shape is known; `data` if nothing is differentiated by it."""
    data = False

    def __add__(self, other):
        return self if len(self) >= len(other) else other

    def __getitem__(self, i):
        return Shape() if isinstance(i, tuple) else tuple.__getitem__(self, i)


class Ops:
    def __init__(self):
        self.flops = 0
        self.rows = {}  # of tables

    def product(self, m, k, n, data=False):
        self.flops += 2 * m * k * n * (2 if data else 3)

    def dense(self, x, units, name, activation=None):
        self.product(prod(x[:-1]), x[-1], units, x.data)
        return Shape((*x[:-1], units))

    def image(self, x):
        return x

    def conv(self, x, filters, size, name, strides=1, pad=0, bias=False, activation=None):
        n, h, w, c = x
        h, w = ((s + 2 * pad - size) // strides + 1 for s in (h, w))
        self.product(n * h * w, size * size * c, filters, x.data)
        return Shape((n, h, w, filters))

    def max_pool(self, x, size, strides, pad=0):
        n, h, w, c = x
        return Shape((n, *((s + 2 * pad - size) // strides + 1 for s in (h, w)), c))

    def batch_norm(self, x, name):
        return x

    layer_norm = batch_norm

    def relu(self, x):
        return x

    def mean_of_space(self, x):
        return Shape((x[0], x[3]))

    def flatten(self, x):
        return Shape((x[0], prod(x[1:])))

    def recurrent(self, x, units, gates):
        n, time, c = x
        self.product(n * time, c, gates * units, x.data)
        self.product(n * time, units, gates * units)

    def lstm(self, x, units, name):
        self.recurrent(x, units, 4)
        return Shape((x[0], units))

    def gru(self, x, units, name):
        self.recurrent(x, units, 3)
        return Shape((*x[:2], units))

    def embedding(self, x, rows, width, name):
        self.rows[name] = rows
        return Shape((*x, width))

    def positions(self, context, rows, width, name):
        return Shape((context, width))

    def causal_attention(self, x, heads):
        n, time, d = x
        self.product(n * time, d // 3, time)
        self.product(n * time, time, d // 3)
        return Shape((n, time, d // 3))

    def tied(self, x, name):
        rows = self.rows[name]
        self.product(prod(x[:-1]), x[-1], rows)
        return Shape((*x[:-1], rows))

    def column(self, x, i):
        return Shape(x[:1])

    def interactions(self, bottom, vectors):
        n, k = len(vectors) + 1, bottom[-1]
        self.product(bottom[0] * n, k, n)
        return Shape((bottom[0], k + n * (n - 1) // 2))

    def weight(self, shape, name):
        return _Nothing()


class _Nothing:
    def __sub__(self, _):
        return Shape()


def step_flops(workload):
    o = Ops()
    inputs = [Shape(s) for k, s in workload.data_shapes().items() if k != "target"]
    for x in inputs:
        x.data = True
    workload.model(o, *inputs)
    return o.flops
