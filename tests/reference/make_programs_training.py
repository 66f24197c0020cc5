#!/usr/bin/env python3
"""References for the programs of tests/programs that train, from Keras and JAX in double precision.

    python3 make_programs_training.py           # writes programs_training.json next to this file
    python3 make_programs_training.py dlrm      # makes one case anew

Data and initial weights are formulas that tests/programs_training_test.cpp has as well. A case is the
forward pass with the initial weights and the weights after some steps on the data in its order. Of
each weight that changes up to 16 elements are kept, evenly spread, and the sum of the squares of all.
"""
import json
import os
import sys

import numpy as np

from double_keras import keras

import jax
import jax.numpy as jnp
from sklearn.metrics import roc_auc_score

HERE = os.path.dirname(os.path.abspath(__file__))
layers = keras.layers


def wave(shape, phase=0.0, scale=1.0, shift=0.0):
    """Element i in row-major order: shift + scale * sin(0.7 * i + phase)."""
    n = int(np.prod(shape))
    return (shift + scale * np.sin(0.7 * np.arange(n) + phase)).reshape(shape)


def noise(n, seed):
    """n numbers below 2^32 without a pattern."""
    i = np.arange(n, dtype=np.uint64) + np.uint64(seed * 1000003)
    x = (i * np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    x = ((x ^ (x >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    return (x >> np.uint64(32)).astype(np.int64)


def unit(shape, seed):
    """Numbers in [-1, 1) without a pattern, exact in single precision."""
    n = int(np.prod(shape))
    return ((noise(n, seed) >> 12) / 2.0**19 - 1).reshape(shape)


def numbers(x):
    return [float("%.10g" % v) for v in np.asarray(x, dtype=np.float64).ravel()]


def initial(shapes, scale=1.0):
    """The initial weights: of the k-th, `unit` with seed k, divided by the root of its rows."""
    out = {}
    for k, (name, shape) in enumerate(shapes):
        rows = np.prod(shape[:-1]) if len(shape) > 1 else 16
        out[name] = np.float64(np.float32(scale * unit(shape, k + 1) / np.sqrt(rows)))
        if name.endswith(("gamma", "variance")):
            out[name] += 1
        if name.endswith("count"):
            out[name] = np.float64(0)
    return out


def spread(w):
    v = np.asarray(w, dtype=np.float64).ravel()
    step = max(1, -(-v.size // 16))
    return {"sample": numbers(v[::step]), "squares": numbers([np.sum(v * v)])[0]}


def record(name, shapes, before, after, **more):
    weights = []
    for key, shape in shapes:
        w = {"name": key, "dims": list(shape)}
        if key in after and not np.array_equal(np.asarray(before[key]), np.asarray(after[key])):
            w.update(spread(after[key]))
        weights.append(w)
    out = {"name": name}
    out.update({k: numbers(v) if not isinstance(v, (str, int, float)) else v for k, v in more.items()})
    out["weights"] = weights
    return out


# --- optimizers as in Keras -----------------------------------------------------------------------

class AdamW:
    def __init__(self, rate, decay=0.004):
        self.rate, self.decay, self.t, self.m, self.v = rate, decay, 0, {}, {}

    def step(self, w, g):
        self.t += 1
        rate = self.rate(self.t - 1) if callable(self.rate) else self.rate
        out = {}
        for k in w:
            self.m[k] = 0.9 * self.m.get(k, 0) + 0.1 * g[k]
            self.v[k] = 0.999 * self.v.get(k, 0) + 0.001 * g[k] ** 2
            x = w[k] - w[k] * self.decay * rate
            scale = rate * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
            out[k] = x - scale * self.m[k] / (np.sqrt(self.v[k]) + 1e-7)
        return out


def clipped(g, limit):
    norm = np.sqrt(sum(np.sum(np.square(v)) for v in g.values()))
    return {k: v * (limit / max(norm, limit)) for k, v in g.items()}


# --- the transformer ------------------------------------------------------------------------------

WIDTH, DEPTH, HEADS, CONTEXT = 16, 2, 2, 16


def gpt_shapes(name):
    d = WIDTH
    out = [(f"{name}/embed/embeddings", (256, d)), (f"{name}/place/embeddings", (CONTEXT, d))]
    for b in range(DEPTH):
        p = f"{name}/blocks/{b}"
        out += [(f"{p}/layer_normalization/gamma", (d,)), (f"{p}/layer_normalization/beta", (d,)),
                (f"{p}/causal_self_attention/dense/kernel", (d, 3 * d)),
                (f"{p}/causal_self_attention/dense/bias", (3 * d,)),
                (f"{p}/causal_self_attention/dense_1/kernel", (d, d)),
                (f"{p}/causal_self_attention/dense_1/bias", (d,)),
                (f"{p}/layer_normalization_1/gamma", (d,)), (f"{p}/layer_normalization_1/beta", (d,)),
                (f"{p}/dense/kernel", (d, 4 * d)), (f"{p}/dense/bias", (4 * d,)),
                (f"{p}/dense_1/kernel", (4 * d, d)), (f"{p}/dense_1/bias", (d,))]
    return out + [(f"{name}/layer_normalization/gamma", (d,)), (f"{name}/layer_normalization/beta", (d,))]


def gpt(w, name, tokens):
    def dense(x, p):
        return x @ w[p + "/kernel"] + w[p + "/bias"]

    def norm(x, p):
        mu = x.mean(-1, keepdims=True)
        var = ((x - mu) ** 2).mean(-1, keepdims=True)
        return (x - mu) / jnp.sqrt(var + 0.001) * w[p + "/gamma"] + w[p + "/beta"]

    time = tokens.shape[1]
    x = w[f"{name}/embed/embeddings"][tokens] + w[f"{name}/place/embeddings"][:time]
    for b in range(DEPTH):
        p = f"{name}/blocks/{b}"
        q = dense(norm(x, p + "/layer_normalization"), p + "/causal_self_attention/dense")
        q, k, v = [z.reshape(z.shape[0], time, HEADS, -1).transpose(0, 2, 1, 3) for z in jnp.split(q, 3, -1)]
        s = q @ k.transpose(0, 1, 3, 2) / np.sqrt(WIDTH / HEADS)
        s = jnp.where(jnp.tril(jnp.ones((time, time))) > 0, s, -1e9)
        o = (jax.nn.softmax(s, -1) @ v).transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + dense(o, p + "/causal_self_attention/dense_1")
        h = jax.nn.gelu(dense(norm(x, p + "/layer_normalization_1"), p + "/dense"), approximate=False)
        x = x + dense(h, p + "/dense_1")
    return norm(x, f"{name}/layer_normalization") @ w[f"{name}/embed/embeddings"].T


def text():
    """Bytes of a made-up text: 8 rows of 17."""
    return (97 + noise(8 * 17, 5) % 9).reshape(8, 17)


def text_loss(w, name, rows):
    logits = gpt(w, name, rows[:, :-1])
    log_p = jax.nn.log_softmax(logits, -1)
    return -jnp.mean(jnp.take_along_axis(log_p, rows[:, 1:, None], -1))


def generate():
    shapes = gpt_shapes("gpt")
    w = before = initial(shapes)
    rows, opt, losses = text(), AdamW(3e-4), []
    for i in range(3):
        loss, g = jax.value_and_grad(text_loss)(w, "gpt", rows)
        losses.append(loss)
        w = opt.step(w, clipped(g, 1.0))
    return record("generate", shapes, before, w, losses=losses, logits=gpt(before, "gpt", rows[:1, :-1])[0, -1])


def warmup_cosine(peak, warmup, total):
    def at(t):
        return peak * (t / warmup if t < warmup else
                       0.5 * (1 + np.cos(np.pi * np.clip((t - warmup) / (total - warmup), 0, 1))))
    return at


def clipping_ema():
    shapes = gpt_shapes("m") + gpt_shapes("ema")
    before = initial(shapes)
    w = {k: v for k, v in before.items() if k.startswith("m/")}
    ema = {k: v for k, v in before.items() if k.startswith("ema/")}
    rows = text()
    adam, sgd = AdamW(warmup_cosine(3e-2, 2, 8), 0.1), AdamW(warmup_cosine(3e-2, 2, 8))
    losses = []
    for i in range(4):
        loss, g = jax.value_and_grad(text_loss)(w, "m", rows)
        losses.append(loss)
        g = clipped(g, 1.0)
        kernels = {k: v for k, v in w.items() if k.endswith("/kernel")}
        rest = {k: v for k, v in w.items() if k not in kernels}
        w = {**adam.step(kernels, g), **sgd.step(rest, g)}
        ema = {k: 0.999 * v + 0.001 * w["m" + k[3:]] for k, v in ema.items()}
    return record("clipping_ema", shapes, before, {**w, **ema}, losses=losses)


# --- tables of categories -------------------------------------------------------------------------

def adam(rate=1e-3):
    return AdamW(rate, 0)


def binary_crossentropy(y, logits):
    return jnp.maximum(logits, 0) - logits * y + jnp.log1p(jnp.exp(-jnp.abs(logits)))


def sparse_crossentropy(y, logits):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits, -1), y[:, None], -1)[:, 0]


def dense(w, name, x):
    return x @ w[name + "/kernel"] + w[name + "/bias"]


def fnv1a(word, below):
    h = 14695981039346656037
    for byte in word.encode():
        h = ((h ^ byte) * 1099511628211) % 2**64
    return h % below


def batches(n, size=32):
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def trainable(w):
    return {k: v for k, v in w.items() if not k.endswith(("/mean", "/variance", "/count"))}


SIZES = [7, 5, 11, 6, 3]


def dlrm():
    n, held = 80, 8
    shapes = [("normalization/mean", (13,)), ("normalization/variance", (13,)), ("normalization/count", ()),
              ("dense/kernel", (13, 64)), ("dense/bias", (64,)), ("dense_1/kernel", (64, 16)),
              ("dense_1/bias", (16,))]
    shapes += [(f"tables/{i}/embeddings", (size, 16)) for i, size in enumerate(SIZES)]
    shapes += [("dense_2/kernel", (31, 64)), ("dense_2/bias", (64,)), ("dense_3/kernel", (64, 1)),
               ("dense_3/bias", (1,))]
    shapes = [("dlrm/" + name, shape) for name, shape in shapes]
    before = initial(shapes)
    x = np.log1p((noise(13 * n, 21) % 100).reshape(n, 13).astype(float))
    words = [["%08x" % v for v in row] for row in (noise(5 * n, 22) % 50).reshape(n, 5)]
    cats = np.array([[fnv1a(c, size) for c, size in zip(row, SIZES)] for row in words])
    y = (noise(n, 23) % 2).reshape(n, 1).astype(float)
    w = dict(before)
    w["dlrm/normalization/mean"] = x[: n - held].mean(0)
    w["dlrm/normalization/variance"] = x[: n - held].var(0)
    w["dlrm/normalization/count"] = np.float64(n - held)

    def model(w, x, cats):
        p = "dlrm/"
        x = (x - w[p + "normalization/mean"]) / jnp.sqrt(w[p + "normalization/variance"])
        bottom = jax.nn.relu(dense(w, p + "dense_1", jax.nn.relu(dense(w, p + "dense", x))))
        vs = jnp.stack([bottom] + [w[f"{p}tables/{i}/embeddings"][cats[:, i]] for i in range(5)], 1)
        pairs = vs @ vs.transpose(0, 2, 1)
        flat = jnp.concatenate([bottom] + [pairs[:, i, :i] for i in range(1, 6)], 1)
        return dense(w, p + "dense_3", jax.nn.relu(dense(w, p + "dense_2", flat)))

    first = model(w, x, cats)
    held_out = np.asarray(jax.nn.sigmoid(first))
    auc = keras.metrics.AUC()
    auc.update_state(y, held_out)
    opt = adam()
    for rows in batches(n - held):
        def loss(v):
            return jnp.mean(binary_crossentropy(y[rows], model({**w, **v}, x[rows], cats[rows])))
        v = trainable(w)
        w.update(opt.step(v, jax.grad(loss)(v)))
    return record("dlrm", shapes, before, w, y=first, cats=cats[:10], auc=[float(auc.result())],
                  exact_auc=[roc_auc_score(y[:, 0], held_out[:, 0])])


# --- a time series --------------------------------------------------------------------------------

class RMSprop:
    def __init__(self, rate=1e-3):
        self.rate, self.v = rate, {}

    def step(self, w, g):
        out = {}
        for k in w:
            self.v[k] = 0.9 * self.v.get(k, 0) + 0.1 * g[k] ** 2
            out[k] = w[k] - self.rate * g[k] / (np.sqrt(self.v[k] + 1e-7))
        return out


def forecast():
    shapes = [("normalization/mean", (14,)), ("normalization/variance", (14,)), ("normalization/count", ()),
              ("lstm/kernel", (14, 128)), ("lstm/recurrent_kernel", (32, 128)), ("lstm/bias", (128,)),
              ("dense/kernel", (32, 1)), ("dense/bias", (1,))]
    shapes = [("forecast/" + name, shape) for name, shape in shapes]
    before = initial(shapes)
    table = unit((360, 14), 31)
    starts = range(0, 360 - 144 + 1, 6)
    windows = np.stack([table[i:i + 144] for i in starts])
    past, y = windows[:, :120], windows[:, -1:, 1]
    w = dict(before)
    w["forecast/normalization/mean"] = past.mean((0, 1))
    w["forecast/normalization/variance"] = past.var((0, 1))
    w["forecast/normalization/count"] = np.float64(past.shape[0] * past.shape[1])

    def model(w, x):
        p = "forecast/"
        x = (x - w[p + "normalization/mean"]) / jnp.sqrt(w[p + "normalization/variance"])
        z = x @ w[p + "lstm/kernel"] + w[p + "lstm/bias"]

        def cell(carry, z_t):
            h, c = carry
            i, f, g, o = jnp.split(z_t + h @ w[p + "lstm/recurrent_kernel"], 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None
        zero = jnp.zeros((x.shape[0], 32))
        (h, _), _ = jax.lax.scan(cell, (zero, zero), z.transpose(1, 0, 2))
        return dense(w, p + "dense", h)

    first, opt = model(w, past), RMSprop()
    for rows in batches(len(past)):
        def loss(v):
            return jnp.mean(jnp.abs(y[rows] - model({**w, **v}, past[rows])))
        v = trainable(w)
        w.update(opt.step(v, jax.grad(loss)(v)))
    return record("forecast", shapes, before, w, y=first)


# --- several blocks -------------------------------------------------------------------------------

def pictures(n, seed):
    return (noise(n * 784, seed) >> 24).reshape(n, 28, 28)


def pretrain():
    n = 40
    shapes = []
    for k, (a, b) in enumerate([(784, 128), (128, 32), (32, 128), (128, 784), (32, 10), (784, 512), (512, 10),
                                (784, 32), (32, 10)]):
        name = "dense" + (f"_{k}" if k else "")
        shapes += [(name + "/kernel", (a, b)), (name + "/bias", (b,))]
    start = initial(shapes)
    x, y = pictures(n, 41) / 255.0, noise(n, 42) % 10

    def stack(w, x, *names):
        x = x.reshape(len(x), -1)
        for i, name in enumerate(names):
            x = dense(w, name, x)
            relu = (name, i + 1 < len(names)) in {("dense", True), ("dense_2", True), ("dense_5", True),
                                                  ("dense_7", True)}
            x = jax.nn.relu(x) if relu else x
        return x

    def auto(w, x, y):
        return jnp.mean((stack(w, x, "dense", "dense_1", "dense_2", "dense_3").reshape(x.shape) - x) ** 2)

    def clf(w, x, y):
        return jnp.mean(sparse_crossentropy(y, stack(w, x, "dense", "dense_1", "dense_4")))

    def student(w, x, y):
        t, s = stack(w, x, "dense_5", "dense_6"), stack(w, x, "dense_7", "dense_8")
        p, q = [jnp.clip(jax.nn.softmax(z / 4, -1), 1e-7, 1) for z in (t, s)]
        soft = jnp.sum(p * jnp.log(p / q), -1) * 16
        return jnp.mean(0.9 * soft + 0.1 * sparse_crossentropy(y, s))

    out, w = [], start
    for name, loss, trained in [("auto", auto, (0, 1, 2, 3)), ("clf", clf, (4,)), ("student", student, (7, 8))]:
        before, opt = dict(w), adam()
        own = tuple("dense" + (f"_{k}" if k else "") + "/" for k in trained)
        for rows in batches(n):
            def at(v):
                return loss({**w, **v}, x[rows], y[rows])
            v = {k: a for k, a in w.items() if k.startswith(own)}
            w = {**w, **opt.step(v, jax.grad(at)(v))}
        out.append(record("pretrain " + name, shapes, before, w))
    return out


# --- pairs ----------------------------------------------------------------------------------------

def siamese():
    n = 12
    shapes = [("conv2d/kernel", (3, 3, 1, 4)), ("conv2d/bias", (4,)), ("dense/kernel", (26 * 26 * 4, 6)),
              ("dense/bias", (6,)), ("dense_1/kernel", (6, 10)), ("dense_1/bias", (10,))]
    shapes = [("siamese/" + name, shape) for name, shape in shapes]
    before = w = initial(shapes)
    a, b = unit((n, 28, 28, 1), 51), unit((n, 28, 28, 1), 52)
    same, label = (noise(n, 53) % 2).astype(float).reshape(n, 1), noise(n, 54) % 10

    def tower(w, x):
        x = jax.lax.conv_general_dilated(x, w["siamese/conv2d/kernel"], (1, 1), "VALID",
                                         dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return dense(w, "siamese/dense", jax.nn.relu(x + w["siamese/conv2d/bias"]).reshape(n, -1))

    def model(w):
        ea, eb = tower(w, a), tower(w, b)
        return jnp.sqrt(jnp.sum((ea - eb) ** 2, 1, keepdims=True)), dense(w, "siamese/dense_1", ea)

    def parts(w):
        d, digit = model(w)
        near = jnp.mean(same * d**2 + (1 - same) * jnp.maximum(1 - d, 0) ** 2)
        return near, jnp.mean(sparse_crossentropy(label, digit))

    def loss(w):
        near, digit = parts(w)
        return near + 0.5 * digit

    (distance, digit), opt = model(before), adam()
    losses = [[loss(w), *parts(w), np.mean(np.argmax(digit, 1) == label)]]
    for i in range(2):
        w = opt.step(w, jax.grad(loss)(w))
    return record("siamese", shapes, before, w, distance=distance, digit=digit, losses=losses)


# --- images ---------------------------------------------------------------------------------------

def images():
    n, size, half = 10, 36, 17
    shapes = [("flowers/conv2d/kernel", (3, 3, 3, 32)), ("flowers/conv2d/bias", (32,)),
              ("flowers/dense/kernel", (half * half * 32, 5)), ("flowers/dense/bias", (5,))]
    w = initial(shapes)
    x = (noise(n * size * size * 3, 61) >> 25).reshape(n, size, size, 3)
    x = (x + 25 * (np.arange(n) // 2).reshape(n, 1, 1, 1)) / 255
    x = jax.lax.conv_general_dilated(x, w["flowers/conv2d/kernel"], (1, 1), "VALID",
                                     dimension_numbers=("NHWC", "HWIO", "NHWC"))
    x = jax.nn.relu(x + w["flowers/conv2d/bias"]).reshape(n, half, 2, half, 2, 32).max((2, 4))
    return record("images", shapes, w, w, y=dense(w, "flowers/dense", x.reshape(n, -1)))


# --- parts of one's own ---------------------------------------------------------------------------

def own_parts():
    shapes = [("rings/dense/kernel", (8, 4)), ("rings/dense/bias", (4,)), ("rings/dense_1/kernel", (4, 1)),
              ("rings/dense_1/bias", (1,))]
    before = w = initial(shapes)
    n = 40
    x, y = unit((n, 8), 71), (noise(n, 72) % 2).astype(float).reshape(n, 1)

    def model(w):
        return jax.nn.sigmoid(dense(w, "rings/dense_1", jnp.tanh(dense(w, "rings/dense", x))))

    def loss(w):
        k, p = w["rings/dense/kernel"], model(w)
        penalty = 1e-3 * jnp.sum((k.T @ k - jnp.eye(4)) ** 2)
        return -jnp.mean(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)) + penalty

    p = np.asarray(model(before))
    above = p >= np.arange(200) / 199
    pos, neg = (above & (y > 0)).sum(0), (above & (y == 0)).sum(0)
    tpr, fpr = pos / max(pos[0], 1), neg / max(neg[0], 1)
    area = np.sum((fpr[:-1] - fpr[1:]) * (tpr[:-1] + tpr[1:]) / 2)
    m, losses = {}, []
    for i in range(3):
        value, g = jax.value_and_grad(loss)(w)
        losses.append(value)
        m = {k: 0.9 * m.get(k, 0) + 0.1 * v for k, v in g.items()}
        w = {k: v - 0.01 * np.sign(m[k]) for k, v in w.items()}
        k = w["rings/dense/kernel"]
        w["rings/dense/kernel"] = k / (1e-7 + np.sqrt(np.sum(k**2, 0, keepdims=True)))
    t = np.arange(12)
    rates = np.array([warmup_cosine(3.0, 4, 10)(i) for i in t])
    return record("own_parts", shapes, before, w, losses=losses, area=[area],
                  exact_area=[roc_auc_score(y[:, 0], p[:, 0])], rates=rates)


# --- an equation ----------------------------------------------------------------------------------

def burgers():
    shapes = [("dense/kernel", (2, 20)), ("dense/bias", (20,)), ("dense_1/kernel", (20, 20)),
              ("dense_1/bias", (20,)), ("dense_2/kernel", (20, 1)), ("dense_2/bias", (1,))]
    before = initial(shapes)
    n = 6
    x, t, x0 = unit((n, 1), 81), (1 + unit((n, 1), 82)) / 2, unit((n, 1), 83)

    def net(w, z):
        return dense(w, "dense_2", jnp.tanh(dense(w, "dense_1", jnp.tanh(dense(w, "dense", z)))))

    def loss(w):
        u = lambda x, t: net(w, jnp.stack([x, t]))[0]
        u_x = jax.grad(u, 0)

        def residual(x, t):
            return jax.grad(u, 1)(x, t) + u(x, t) * u_x(x, t) - 0.01 / jnp.pi * jax.grad(u_x, 0)(x, t)
        start = jnp.mean((net(w, jnp.concatenate([x0, jnp.zeros_like(x0)], 1)) + jnp.sin(jnp.pi * x0)) ** 2)
        return jnp.mean(jax.vmap(residual)(x[:, 0], t[:, 0]) ** 2) + start

    value, g = jax.value_and_grad(loss)(before)
    return record("burgers", shapes, before, {k: before[k] - g[k] for k in before}, loss=[value])


# --- quantized weights, traps ---------------------------------------------------------------------

def fake_quant(x, bits=8):
    s = jnp.max(jnp.abs(x)) / (2 ** (bits - 1) - 1)
    return x + jax.lax.stop_gradient(jnp.round(x / s) * s - x)


def quantized():
    shapes = [("inner/kernel", (3, 2)), ("inner/bias", (2,))]
    w = initial(shapes)
    x = unit((4, 3), 91)

    def model(w, x):
        q = {k: fake_quant(v) for k, v in w.items()}
        return dense(q, "inner", fake_quant(x))

    after = jax.grad(lambda w: jnp.sum(model(w, x) ** 2))(w)
    return record("quantized", shapes, w, {k: w[k] - after[k] for k in w}, y=model(w, x))


def traps():
    shapes = [("example/traps/dense/kernel", (16, 8)), ("example/traps/dense/bias", (8,))]
    w = initial(shapes)
    x = 2 + unit((3, 8), 95)
    y = np.concatenate([(x + 1) * 2, (x + 1) * 1], -1)
    y = np.maximum(dense(w, "example/traps/dense", y), 0)
    data, step = np.split(y[:, ::2], 2, -1)
    return record("traps", shapes, w, w, y=(data + step)[..., 0:1] + x**-1 * -2**2 + x[:, -1:][:, 0:1])


if __name__ == "__main__":
    path = os.path.join(HERE, "programs_training.json")
    kept = {c["name"]: c for c in json.load(open(path))} if sys.argv[1:] else {}
    for function in (generate, clipping_ema, dlrm, forecast, pretrain, siamese, images, own_parts, burgers,
                     quantized, traps):
        if sys.argv[1:] and function.__name__ not in sys.argv[1:]:
            continue
        found = function()
        kept.update({c["name"]: c for c in (found if isinstance(found, list) else [found])})
    with open(path, "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(c) for c in kept.values()) + "\n]\n")
