#!/usr/bin/env python3
"""Reference values for the programs of tests/programs that are layers and models.

    python3 make_programs_layers.py             # writes programs_layers.json next to this file
    python3 make_programs_layers.py UNet GPT    # these cases anew

A case is a model around the declarations of a program, the formulas of its weights and inputs, and
what Keras (3.15.1, JAX backend) or JAX computes for it in double precision: outputs, and the loss
and the weights after steps of gradient descent. Long tensors are kept as a digest.
"""
import json
import os
import sys

import numpy as np

from double_keras import keras

import jax
import jax.numpy as jnp

HERE = os.path.dirname(os.path.abspath(__file__))
PATH = os.path.join(HERE, "programs_layers.json")
KNOWN = {c["name"]: c for c in json.load(open(PATH))} if sys.argv[1:] else {}
L = keras.layers


def wave(n, phase=0.0, scale=1.0, shift=0.0):
    """Element i: shift + scale * sin(0.7 * i + phase)."""
    return shift + scale * np.sin(0.7 * np.arange(n) + phase)


def numbers(x):
    return [float("%.12g" % v) for v in np.asarray(x, np.float64).ravel()]


def digest(x):
    """All elements of a short tensor; of a long one two weighted sums, that of squares, and some."""
    x = np.asarray(x, np.float64).ravel()
    n = len(x)
    if n <= 40:
        return numbers(x)
    return numbers([x @ wave(n, 0.4), x @ np.cos(0.31 * np.arange(n)), x @ x,
                    x[0], x[n // 3], x[n // 2], x[n - 1]])


class Input:
    """An input as the tests make it: kind is `wave` (phase, scale, shift), `bytes` or `below` (a number)."""

    def __init__(self, shape, kind="wave", *arguments):
        n = int(np.prod(shape))
        self.text = [kind, n, *arguments]
        if kind == "wave":
            self.value = wave(n, *arguments)
        else:
            i = np.arange(n)
            self.value = (37 * i + 11 * (i // 3) * i) % (256 if kind == "bytes" else arguments[0])
        self.value = self.value.reshape(shape)


class Given:
    """An input that is written out."""

    def __init__(self, value):
        self.value = np.asarray(value)
        self.text = ["given", *[float(v) for v in self.value.ravel()]]


def formula(name, shape, place):
    """Phase, scale and shift of a weight, so that layers neither die nor explode."""
    end = name.split("/")[-1]
    if end in ("gamma", "moving_variance"):
        return [0.3 * place, 0.4, 1.0]
    if len(shape) == 1:
        return [0.3 * place, 0.2, 0.0]
    fan_in = shape[-1] if end == "embeddings" else int(np.prod(shape[:-1]))
    return [0.3 * place, float("%.3g" % min(0.6, 1.5 / np.sqrt(fan_in))), 0.0]


def case(name, imports, nn, weights, inputs, outputs, steps=(), state=None, special={}):
    """weights: {name: shape}. outputs: f(values, *inputs) -> list of tensors. steps: for each the
    inputs and truth; state: f(values, *those) -> reports and the values after the step, of which
    None are not to be compared. nn is the text of a model, or the name of a program; special:
    {name: (phase, scale, shift)} in place of the rule for it."""
    if name in KNOWN and name not in sys.argv[1:]:
        return KNOWN[name]
    formulas = {w: formula(w, s, i) for i, (w, s) in enumerate(weights.items())} | special
    values = {w: wave(int(np.prod(s)), *formulas[w]).reshape(s) for w, s in weights.items()}
    out = {"name": name, "imports": imports, "file" if nn.endswith(".nn") else "nn": nn,
           "weights": [[w, int(np.prod(weights[w])), *f] for w, f in formulas.items()],
           "rows": inputs[0].value.shape[0] if inputs else 0, "inputs": [i.text for i in inputs],
           "outputs": [digest(y) for y in outputs(values, *[i.value for i in inputs])],
           "steps": []}
    now = values
    for given in steps:
        reports, now = state(now, *[i.value for i in given])
        out["steps"].append({"rows": given[0].value.shape[0], "inputs": [i.text for i in given],
                             "reports": {k: numbers(v)[0] for k, v in reports.items()},
                             "changes": [None if now[w] is None else digest(now[w] - values[w])
                                         for w in weights]})
    print(name, [y[:3] for y in out["outputs"]], [s["reports"] for s in out["steps"]])
    return out


def of_keras(name, imports, nn, model, names, inputs, steps=(), loss="mse", rate=0.25,
             shown=lambda y, x: y):
    """The case of a Keras model; `names` are the names in .nn of its variables in the order of
    `model.weights`, `shown` is what the model in .nn makes of outputs that training takes as they are."""
    variables = model.weights
    assert len(names) == len(variables), [v.path for v in variables]
    place = dict(zip(names, variables))

    def load(values):
        for w, v in values.items():
            place[w].assign(v)

    def outputs(values, *xs):
        load(values)
        y = model(list(xs) if len(xs) > 1 else xs[0], training=False)
        return [shown(np.asarray(t), xs[0]) for t in (y if isinstance(y, (list, tuple)) else [y])]

    def state(values, *data):
        load(values)
        *xs, y = data
        value = model.train_on_batch(list(xs) if len(xs) > 1 else xs[0], y)
        return {"loss": value}, {w: np.asarray(place[w].value) for w in names}

    if steps:
        model.compile(optimizer=keras.optimizers.SGD(rate), loss=loss)
    shapes = {w: tuple(v.shape) for w, v in place.items()}
    return case(name, imports, nn, shapes, inputs, outputs, steps, state)


def of_jax(name, imports, nn, weights, inputs, outputs, steps=(), loss=None, rate=0.25):
    """The case of functions of (weights, inputs...)."""
    def state(values, *data):
        value, g = jax.value_and_grad(loss)({w: jnp.asarray(v) for w, v in values.items()}, *data)
        return {"loss": value}, {w: np.asarray(v - rate * g[w]) for w, v in values.items()}

    return case(name, imports, nn, weights, inputs, outputs, steps, state)


def train(loss, rate=0.25):
    return ('train M {\n  data = npy(x = "x.npy", target = "y.npy")\n  loss = %s\n'
            "  optimizer = SGD(%g)\n}\n" % (loss, rate))


def below(layer, names):
    return [layer + "/" + n for n in names]


KERNEL, LSTM = ["kernel", "bias"], ["kernel", "recurrent_kernel", "bias"]
NORM = ["gamma", "beta", "moving_mean", "moving_variance"]
cases = []

# --- dense.nn -------------------------------------------------------------------------------------

x = keras.Input((4,))
y = L.Dense(5, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01),
            bias_regularizer=keras.regularizers.L2(0.02),
            activity_regularizer=keras.regularizers.L2(0.3),
            kernel_constraint=keras.constraints.MaxNorm(0.6),
            bias_constraint=keras.constraints.NonNeg())(x)
y = L.Dense(3, use_bias=False)(y)
cases.append(of_keras(
    "all arguments of Dense", ["dense.nn"],
    "model M(x: [batch, 4]) -> [batch, 3] {\n"
    "  x |> Dense(5, activation = tanh, kernel_regularizer = L2(0.01), bias_regularizer = L2(0.02),\n"
    "             activity_regularizer = L2(0.3), kernel_constraint = MaxNorm(0.6),\n"
    "             bias_constraint = NonNeg())\n    |> Dense(3, use_bias = false)\n}\n"
    + train("MeanSquaredError()"), keras.Model(x, y),
    ["m/dense/kernel", "m/dense/bias", "m/dense_1/kernel"], [Input((4, 4), "wave", 0.9)],
    [[Input((4, 4), "wave", 0.9), Input((4, 3), "wave", 0.2)],
     [Input((3, 4), "wave", 1.9), Input((3, 3), "wave", 0.5)]]))

x = keras.Input((2, 3))
cases.append(of_keras(
    "Dense on the last of three axes", ["dense.nn"],
    "model M(x: [batch, 2, 3]) -> [batch, 2, 4] { x |> Dense(4, activation = relu) }\n"
    + train("MeanSquaredError()"), keras.Model(x, L.Dense(4, activation="relu")(x)),
    below("m/dense", KERNEL), [Input((3, 2, 3), "wave", 0.9)],
    [[Input((3, 2, 3), "wave", 0.9), Input((3, 2, 4), "wave", 0.2)]]))

# --- conv.nn --------------------------------------------------------------------------------------

for name, size, channels, nn, layer in [
        ("valid", (7,), 3, "Conv(1, 4, 3)", L.Conv1D(4, 3)),
        ("causal with dilation", (9,), 2, 'Conv(1, 3, 3, padding = "causal", dilation_rate = 2)',
         L.Conv1D(3, 3, padding="causal", dilation_rate=2)),
        ("causal with strides", (8,), 2, 'Conv(1, 3, 2, strides = 3, padding = "causal")',
         L.Conv1D(3, 2, padding="causal", strides=3)),
        ("same with strides", (7, 6), 2, 'Conv(2, 3, 3, strides = 2, padding = "same", activation = tanh)',
         L.Conv2D(3, 3, strides=2, padding="same", activation="tanh")),
        ("sizes per axis", (8, 7), 2, 'Conv(2, 3, [2, 3], strides = [3, 2], padding = "same", use_bias = false)',
         L.Conv2D(3, (2, 3), strides=(3, 2), padding="same", use_bias=False)),
        ("groups and dilation", (7, 6), 4, "Conv(2, 6, 2, dilation_rate = [2, 3], groups = 2)",
         L.Conv2D(6, 2, dilation_rate=(2, 3), groups=2)),
        ("three axes", (4, 5, 3), 2, 'Conv(3, 2, 2, padding = "same")', L.Conv3D(2, 2, padding="same")),
        ("the function of it", (6, 6), 2, 'Conv2D(3, 3, padding = "same") |> Conv2D(2, 3, 2)',
         keras.Sequential([L.Conv2D(3, 3, padding="same"), L.Conv2D(2, 3, 2)]))]:
    x = keras.Input((*size, channels))
    model = keras.Model(x, layer(x))
    rows, dims = 2, ", ".join(map(str, (*size, channels)))
    names = [n for l in ("m/conv", "m/conv_1") for n in below(l, KERNEL)][:len(model.weights)]
    data = Input((rows, *size, channels), "wave", 0.9)
    cases.append(of_keras(
        "convolution: " + name, ["conv.nn"],
        "model M(x: [batch, %s]) { x |> %s }\n" % (dims, nn) + train("MeanSquaredError()"),
        model, names, [data], [[data, Input((rows, *model.output.shape[1:]), "wave", 0.2)]]))

# --- lstm.nn --------------------------------------------------------------------------------------

MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 1, 0, 1]], bool)
for name, arguments, options in [
        ("last output", "", {}), ("sequence", "return_sequences = true", {"return_sequences": True}),
        ("backwards", "return_sequences = true, go_backwards = true",
         {"return_sequences": True, "go_backwards": True})]:
    for masked in (False, True):
        x = keras.Input((5, 3))
        more = [keras.Input((5,), dtype="bool")] if masked else []
        y = L.LSTM(4, **options)(x, mask=more[0] if masked else None)
        # Keras attaches the mask to the sequence; the loss below is the plain mean of both.
        target = tuple(y.shape[1:])
        call = "LSTM(4%s)(x%s)" % (", " + arguments if arguments else "", ", mask = mask" if masked else "")
        data = [Input((3, 5, 3), "wave", 0.9)] + ([Given(MASK)] if masked else [])
        nn = "model M(x: [batch, 5, 3]%s) { with_mask(%s, none) }\n" % (", mask: bool[batch, 5]" if masked else "", call)
        text = train("MeanSquaredError()")
        if masked:
            text = text.replace('x = "x.npy"', 'x = "x.npy", mask = "mask.npy"')

        class Plain(keras.Layer):  # drops the mask
            def __init__(self):
                super().__init__()
                self.supports_masking = False

            def call(self, x):
                return x * 1.0

            def compute_mask(self, x, mask=None):
                return None

        own = keras.Model([x, *more] if masked else x, Plain()(y))
        cases.append(of_keras("LSTM: %s%s" % (name, ", masked" if masked else ""), ["lstm.nn"], nn + text, own,
                              below("m/lstm", LSTM), data, [[*data, Input((3, *target), "wave", 0.2)]]))

x, h, c = keras.Input((5, 3)), keras.Input((4,)), keras.Input((4,))
y = L.LSTM(4, return_sequences=True, return_state=True, unit_forget_bias=False)(x, initial_state=[h, c])
cases.append(of_keras(
    "LSTM: states in and out", ["lstm.nn"],
    "model M(x: [batch, 5, 3], h: [batch, 4], c: [batch, 4]) {\n"
    "  LSTM(4, return_sequences = true, return_state = true)(x, initial_state = (h, c))\n}\n",
    keras.Model([x, h, c], y), below("m/lstm", LSTM),
    [Input((2, 5, 3), "wave", 0.9), Input((2, 4), "wave", 0.2), Input((2, 4), "wave", 1.2)]))

x, z = keras.Input((5, 3)), keras.Input((4, 2))
_, h, c = L.LSTM(4, return_state=True)(x)
y = L.LSTM(4, return_sequences=True)(z, initial_state=[h, c])
data = [Input((2, 5, 3), "wave", 0.9), Input((2, 4, 2), "wave", 1.7)]
cases.append(of_keras(
    "LSTM: encoder and decoder", ["lstm.nn"],
    "model M(x: [batch, 5, 3], z: [batch, 4, 2]) {\n  _, h, c = LSTM(4, return_state = true)(x)\n"
    "  LSTM(4, return_sequences = true)(z, initial_state = (h, c))\n}\n"
    + train("MeanSquaredError()").replace('x = "x.npy"', 'x = "x.npy", z = "z.npy"'),
    keras.Model([x, z], y), below("m/lstm", LSTM) + below("m/lstm_1", LSTM), data,
    [[*data, Input((2, 4, 4), "wave", 0.2)]]))

# --- tagger.nn ------------------------------------------------------------------------------------

for mode in ("concat", "sum", "mul", "ave", None):
    x = keras.Input((4, 3))
    y = L.Bidirectional(L.LSTM(2, return_sequences=True), merge_mode=mode)(x)
    cases.append(of_keras(
        "Bidirectional: %s" % mode, ["lstm.nn", "tagger.nn"],
        "model M(x: [batch, 4, 3]) { Bidirectional(LSTM(2, return_sequences = true)%s)(x) }\n"
        % ({"concat": "", None: ", merge_mode = none"}.get(mode, ', merge_mode = "%s"' % mode)),
        keras.Model(x, y), below("m/lstm", LSTM) + below("m/bidirectional/back", LSTM),
        [Input((2, 4, 3), "wave", 0.9)]))

x = keras.Input((2, 3, 4))
cases.append(of_keras(
    "TimeDistributed", ["dense.nn", "tagger.nn"],
    "model M(x: [batch, 2, 3, 4]) -> [batch, 2, 3, 5] { x |> TimeDistributed(Dense(5)) }\n"
    + train("MeanSquaredError()"), keras.Model(x, L.TimeDistributed(L.Dense(5))(x)),
    below("m/dense", KERNEL), [Input((3, 2, 3, 4), "wave", 0.9)],
    [[Input((3, 2, 3, 4), "wave", 0.9), Input((3, 2, 3, 5), "wave", 0.2)]]))

# The tagger whole. What it says of padding is not shown: Keras puts zeros there between the layers.
tokens = np.array([[5, 9, 19_999, 3, 7, 2], [1, 4, 8, 0, 0, 0], [6, 6, 0, 0, 0, 0]])
x = keras.Input((6,), dtype="int32")
y = L.Embedding(20_000, 128, mask_zero=True)(x)
y = L.Bidirectional(L.LSTM(64, return_sequences=True))(y)
y = L.Bidirectional(L.LSTM(32, return_sequences=True))(y)
y = L.TimeDistributed(L.Dense(17))(y)
model = keras.Model(x, y)
cases.append(of_keras(
    "Tagger", ["tagger.nn"],
    "model M(x: i32[batch, 6]) -> [batch, 6, 17] { Tagger()(x) * cast(x != 0, float)[..., none] }\n"
    'train M {\n  data = npy(x = "x.npy", target = "y.npy")\n'
    "  loss = SparseCategoricalCrossentropy(from_logits = true)\n  optimizer = SGD(0.25)\n}\n", model,
    ["m/tagger/embedding/embeddings"] + below("m/tagger/lstm", LSTM)
    + below("m/tagger/bidirectional/back", LSTM) + below("m/tagger/lstm_1", LSTM)
    + below("m/tagger/bidirectional_1/back", LSTM) + below("m/tagger/dense", KERNEL),
    [Given(tokens)], [[Given(tokens), Input((3, 6), "below", 17)]],
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    shown=lambda y, x: y * (x != 0)[..., None]))

# --- gpt.nn ---------------------------------------------------------------------------------------


def gpt(w, tokens, heads=2, depth=2):
    def norm(x, at):
        m = x.mean(-1, keepdims=True)
        return (x - m) / jnp.sqrt(((x - m) ** 2).mean(-1, keepdims=True) + 1e-3) * w[at + "/gamma"] + w[at + "/beta"]

    dense = lambda x, at: x @ w[at + "/kernel"] + w[at + "/bias"]
    t = tokens.shape[1]
    x = w["m/gpt/embed/embeddings"][tokens] + w["m/gpt/place/embeddings"][:t]
    for i in range(depth):
        at = "m/gpt/blocks/%d/" % i
        z = dense(norm(x, at + "layer_normalization"), at + "causal_self_attention/dense")
        q, k, v = (p.reshape(*p.shape[:2], heads, -1) for p in jnp.split(z, 3, -1))
        s = jnp.einsum("bqhe,bkhe->bhqk", q, k) / np.sqrt(q.shape[-1])
        s = jnp.where(np.tril(np.ones((t, t), bool)), s, -np.inf)
        o = jnp.einsum("bhqk,bkhe->bqhe", jax.nn.softmax(s), v).reshape(x.shape)
        x = x + dense(o, at + "causal_self_attention/dense_1")
        f = jax.nn.gelu(dense(norm(x, at + "layer_normalization_1"), at + "dense"), approximate=False)
        x = x + dense(f, at + "dense_1")
    return norm(x, "m/gpt/layer_normalization") @ w["m/gpt/embed/embeddings"].T


def gpt_loss(w, tokens, target):
    return -jnp.take_along_axis(jax.nn.log_softmax(gpt(w, tokens)), target[..., None], -1).mean()


d, shapes = 6, {"m/gpt/embed/embeddings": (11, 6), "m/gpt/place/embeddings": (8, 6)}
for i in range(2):
    at = "m/gpt/blocks/%d/" % i
    norm = lambda n: {at + n + "/gamma": (d,), at + n + "/beta": (d,)}
    dense = lambda n, a, b: {at + n + "/kernel": (a, b), at + n + "/bias": (b,)}
    shapes |= norm("layer_normalization") | dense("causal_self_attention/dense", d, 3 * d) \
        | dense("causal_self_attention/dense_1", d, d) | norm("layer_normalization_1") \
        | dense("dense", d, 4 * d) | dense("dense_1", 4 * d, d)
shapes |= {"m/gpt/layer_normalization/gamma": (d,), "m/gpt/layer_normalization/beta": (d,)}
data = [Input((2, 5), "below", 11), Given([[1, 10, 3, 0, 2], [7, 7, 4, 5, 9]])]
cases.append(of_jax(
    "GPT", ["gpt.nn"],
    "model M(x: i32[batch, 5]) -> [batch, 5, 11] { GPT(11, 6, 2, 2, 8, rate = 0.0)(x) }\n"
    + train("SparseCategoricalCrossentropy(from_logits = true)"), shapes, data[:1],
    lambda w, x: [gpt(w, x)], [data, data], gpt_loss))

# --- resnet.nn ------------------------------------------------------------------------------------


class Net:
    """Layers of Keras with the names that the program gives them."""

    def __init__(self):
        self.names, self.used, self.layers = [], {}, []

    def name(self, at, kind):
        n = self.used.get(at + kind, 0)
        self.used[at + kind] = n + 1
        return at + kind + ("_%d" % n if n else "")

    def add(self, layer, x, at, kind, parts):
        y = layer(x)
        self.layers.append((layer, below(self.name(at, kind), parts)))
        return y

    def model(self, x, y):
        m = keras.Model(x, y)
        of = {id(v): n for l, names in self.layers for v, n in zip(l.weights, names)}
        return m, [of[id(v)] for v in m.weights]


def conv_bn(net, x, at, filters, kernel, strides=1):
    x = net.add(L.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=False), x, at, "conv2d", KERNEL[:1])
    return net.add(L.BatchNormalization(), x, at, "batch_normalization", NORM)


def residual(net, x, at, filters, strides=1):
    at = net.name(at, "residual") + "/"
    y = conv_bn(net, L.ReLU()(conv_bn(net, x, at, filters, 3, strides)), at, filters, 3)
    if strides != 1 or x.shape[-1] != filters:
        x = conv_bn(net, x, at, filters, 1, strides)
    return L.ReLU()(L.Add()([y, x]))


net, x = Net(), keras.Input((6, 5, 3))
y = residual(net, residual(net, residual(net, x, "m/", 3), "m/", 4, 2), "m/", 5)
data = Input((3, 6, 5, 3), "wave", 0.9)
cases.append(of_keras(
    "Residual", ["resnet.nn"],
    "model M(x: [batch, 6, 5, 3]) { x |> Residual(3) |> Residual(4, strides = 2) |> Residual(5) }\n"
    + train("MeanSquaredError()"), *net.model(x, y), [data],
    [[data, Input((3, 3, 3, 5), "wave", 0.2)], [data, Input((3, 3, 3, 5), "wave", 0.3)]]))

net, x = Net(), keras.Input((32, 32, 3))
y = L.ReLU()(conv_bn(net, L.Rescaling(1 / 255)(x), "m/res_net/", 16, 3))
for filters, strides in [(16, 1), (32, 2), (64, 2)]:
    for i in range(3):
        y = residual(net, y, "m/res_net/", filters, strides if i == 0 else 1)
y = net.add(L.Dense(10), L.GlobalAveragePooling2D()(y), "m/res_net/", "dense", KERNEL)
cases.append(of_keras(
    "ResNet", ["resnet.nn"], "model M(x: u8[batch, 32, 32, 3]) -> [batch, 10] { ResNet()(x) }\n",
    *net.model(x, y), [Input((1, 32, 32, 3), "bytes")]))
cases[-1]["only"] = "compiled"  # long to interpret

# --- unet.nn --------------------------------------------------------------------------------------

net, x = Net(), keras.Input((8, 16, 3))


def conv(x, filters, kernel, activation="relu"):
    return net.add(L.Conv2D(filters, kernel, padding="same", activation=activation), x, "m/u_net/", "conv2d", KERNEL)


y, skips = x, []
for c in [2, 3, 4]:
    y = conv(conv(y, c, 3), c, 3)
    skips.append(y)
    y = L.MaxPooling2D()(y)
y = conv(y, 5, 3)
for c, skip in zip([4, 3, 2], reversed(skips)):
    y = net.add(L.Conv2DTranspose(c, 2, strides=2), y, "m/u_net/", "conv2d_transpose", KERNEL)
    y = conv(L.Concatenate()([skip, y]), c, 3)
y = conv(y, 2, 1, None)
data = Input((2, 8, 16, 3), "wave", 0.9, 1.0, 0.5)
cases.append(of_keras(
    "UNet", ["unet.nn"],
    "model M(x: [batch, 8, 16, 3]) -> [batch, 8, 16, 2] { UNet([2, 3, 4, 5])(x) }\n"
    + train("SparseCategoricalCrossentropy(from_logits = true)"), *net.model(x, y), [data],
    [[data, Input((2, 8, 16), "below", 2)]], loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)))

# --- vae_step.nn ----------------------------------------------------------------------------------

# With a variance of e^-60 the sampled numbers do not show, and the divergence is far from 0.


def vae(w, image):
    dense = lambda x, i: x @ w["vae/dense%s/kernel" % i] + w["vae/dense%s/bias" % i]
    h = jax.nn.relu(dense(image.reshape(len(image), -1), ""))
    mu, log_var = dense(h, "_1"), dense(h, "_2")
    kl = -0.5 * jnp.mean(jnp.sum(1 + log_var - mu ** 2 - jnp.exp(log_var), -1))
    y = jax.nn.sigmoid(dense(jax.nn.relu(dense(mu, "_3")), "_4"))
    return y.reshape(image.shape), kl


def vae_loss(w, image):
    x = image / 255
    y, kl = vae(w, x)
    y = jnp.clip(y, 1e-7, 1 - 1e-7)
    cross = -(x * jnp.log(y) + (1 - x) * jnp.log(1 - y)).mean(-1)
    return cross.sum(-1).mean() + kl


class Adam:
    def __init__(self, rate):
        self.rate, self.t, self.m, self.v = rate, 0, {}, {}

    def __call__(self, w, g):
        self.t += 1
        out = {}
        for k in w:
            self.m[k] = 0.9 * self.m.get(k, 0) + 0.1 * g[k]
            self.v[k] = 0.999 * self.v.get(k, 0) + 0.001 * g[k] ** 2
            rate = self.rate * np.sqrt(1 - 0.999 ** self.t) / (1 - 0.9 ** self.t)
            out[k] = np.asarray(w[k] - rate * self.m[k] / (jnp.sqrt(self.v[k]) + 1e-7))
        return out


shapes = {}
for i, (n, m) in enumerate([(784, 256), (256, 16), (256, 16), (16, 256), (256, 784)]):
    at = "vae/dense%s" % ("_%d" % i if i else "")
    shapes |= {at + "/kernel": (n, m), at + "/bias": (m,)}
adam = Adam(1e-3)


def vae_step(w, image):
    loss, g = jax.value_and_grad(vae_loss)({k: jnp.asarray(v) for k, v in w.items()}, image)
    return {"loss": loss}, adam(w, g)


case_of = lambda *a, **k: cases.append(case(*a, **k))
case_of("VAE", [], "vae_step.nn", shapes, [Input((2, 28, 28), "wave", 0.9, 0.5, 0.5)],
        lambda w, x: [vae(w, x)[0]],
        [[Input((3, 28, 28), "bytes")], [Input((2, 28, 28), "below", 200)]], vae_step,
        {"vae/dense_2/kernel": [0.0, 0.0, 0.0], "vae/dense_2/bias": [0.0, 0.0, -60.0]})

# --- contrastive.nn -------------------------------------------------------------------------------


def nt_xent(a, b, temperature):
    z = jnp.concatenate([a, b])
    z = z / jnp.linalg.norm(z, axis=1, keepdims=True)
    n = len(a)
    total = 0.0
    for i in range(2 * n):
        others = jnp.stack([z[i] @ z[j] / temperature for j in range(2 * n) if j != i])
        total += jax.nn.logsumexp(others) - z[i] @ z[(i + n) % (2 * n)] / temperature
    return total / (2 * n)


def triplet(e, label, margin):
    total = 0.0
    for i in range(len(e)):
        far = jnp.sum((e - e[i]) ** 2, 1)
        positive = jnp.max(far[np.array(label) == label[i]])
        total += jnp.maximum(positive - jnp.min(far[np.array(label) != label[i]]) + margin, 0)
    return total / len(e)


def losses_of(x):
    return ("m = M()\ntrain m {\n  data = npy(a = \"a.npy\", b = \"b.npy\")\n  step(a: [batch, 3], b: %s) {\n"
            "    l = %%s\n    minimize l over m with SGD(0.25)\n    report loss = mean(l)\n  }\n}\n" % x)


M = "model M(x: [batch, 3]) { x |> Dense(4, use_bias = false) }\n"
a, b = Input((3, 3), "wave", 0.9), Input((3, 3), "wave", 2.9)
linear = lambda w, x: [x @ w["m/dense/kernel"]]
for nn, t in (("NTXent()(m(a), m(b))", 0.1), ("NTXent(temperature = 0.7)(m(a), m(b))", 0.7)):
    cases.append(of_jax(
        "NTXent" if t == 0.1 else "NTXent at 0.7", ["contrastive.nn"], M + losses_of("[batch, 3]") % nn,
        {"m/dense/kernel": (3, 4)}, [a], linear, [[a, b]],
        lambda w, a, b: nt_xent(linear(w, a)[0], linear(w, b)[0], t)))
label = Given([2, 0, 2, 1, 0, 1, 2])
a = Input((7, 3), "wave", 0.9)
for nn, margin in (("TripletSemiHard()(b, m(a))", 1.0), ("TripletSemiHard(margin = 0.1)(b, m(a))", 0.1)):
    cases.append(of_jax(
        "TripletSemiHard, %g" % margin, ["contrastive.nn"], M + losses_of("i32[batch]") % nn,
        {"m/dense/kernel": (3, 4)}, [a], linear, [[a, label]],
        lambda w, a, b: triplet(linear(w, a)[0], label.value, margin)))

# --- gan_clip.nn ----------------------------------------------------------------------------------

# The generator's kernel is 0 until its first step, the fifth, so that what it makes is its bias.


class GAN:
    def __init__(self):
        self.t, self.v = 0, {}

    def rms(self, k, w, g):
        self.v[k] = 0.9 * self.v.get(k, 0) + 0.1 * g ** 2
        return w - 5e-5 * g / np.sqrt(self.v[k] + 1e-7)

    def __call__(self, w, real):
        self.t += 1
        kernel, bias = w["d/dense/kernel"], w["d/dense/bias"]
        fake = w["g/dense/bias"]
        real = (real / 127.5 - 1).reshape(len(real), -1)
        score = lambda x: float(np.mean(x @ kernel + bias))
        reports = {"d_loss": score(fake[None]) - score(real), "g_loss": -score(fake[None])}
        out = dict(w)
        out["d/dense/kernel"] = np.clip(self.rms("k", kernel, (fake - real.mean(0))[:, None]), -0.01, 0.01)
        out["d/dense/bias"] = np.clip(self.rms("b", bias, np.zeros(1)), -0.01, 0.01)
        if self.t % 5 == 0:
            out["g/dense/bias"] = self.rms("g", fake, -kernel[:, 0])
            out["g/dense/kernel"] = None  # by chance
        return reports, out


case_of("GAN", [], "gan_clip.nn",
        {"g/dense/kernel": (64, 784), "g/dense/bias": (784,), "d/dense/kernel": (784, 1), "d/dense/bias": (1,)},
        [], lambda w: [], [[Input((3, 28, 28), "below", 100 + 30 * i)] for i in range(5)], GAN(),
        {"g/dense/kernel": [0.0, 0.0, 0.0], "d/dense/kernel": [0.3, 0.02, 0.0]})

with open(PATH, "w") as out:
    out.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
