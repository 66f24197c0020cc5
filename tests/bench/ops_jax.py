"""JAX: one jit-compiled step whose weights and optimizer state are donated.

The threads are those of the cores that the process may use. Images are channels-last, recurrences
`lax.scan` with the input's projection before the loop. Attention and gelu are written out: jax.nn's are
slower on CPUs.
"""
import time

import jax
import jax.numpy as jnp
from jax import lax

ACTIVATIONS = {None: lambda x: x, "relu": jax.nn.relu, "tanh": jnp.tanh,
               "sigmoid": jax.nn.sigmoid, "gelu": lambda x: 0.5 * x * (1 + lax.erf(x * 0.7071067811865476))}


class Ops:
    def __init__(self, weights, rows=None):
        self.weights = weights
        self.rows = rows    # of tables, where they are taken before: name -> rows
        self.asked = {}     # name -> indices

    def dense(self, x, units, name, activation=None):
        y = x @ self.weights[f"{name}/kernel"] + self.weights[f"{name}/bias"]
        return ACTIVATIONS[activation](y)

    def image(self, x):
        return x

    def conv(self, x, _, size, name, strides=1, pad=0, bias=False, activation=None):
        y = lax.conv_general_dilated(x, self.weights[f"{name}/kernel"], (strides, strides),
                                     [(pad, pad), (pad, pad)],
                                     dimension_numbers=("NHWC", "HWIO", "NHWC"))
        if bias:
            y = y + self.weights[f"{name}/bias"]
        return ACTIVATIONS[activation](y)

    def max_pool(self, x, size, strides, pad=0):
        p = (pad, pad)
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, strides, strides, 1),
                                 ((0, 0), p, p, (0, 0)))

    def batch_norm(self, x, name):
        mean, variance = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
        factor = lax.rsqrt(variance + 1e-3) * self.weights[f"{name}/gamma"]
        return (x - mean) * factor + self.weights[f"{name}/beta"]

    def layer_norm(self, x, name):
        mean = jnp.mean(x, -1, keepdims=True)
        y = (x - mean) * lax.rsqrt(jnp.var(x, -1, keepdims=True) + 1e-5)
        return y * self.weights[f"{name}/gamma"] + self.weights[f"{name}/beta"]

    def relu(self, x):
        return jax.nn.relu(x)

    def mean_of_space(self, x):
        return jnp.mean(x, (1, 2))

    def flatten(self, x):
        return x.reshape(x.shape[0], -1)

    def lstm(self, x, units, name):
        p = x @ self.weights[f"{name}/kernel"] + self.weights[f"{name}/bias"]
        inner = self.weights[f"{name}/recurrent_kernel"]

        def step(state, p_t):
            h, c = state
            i, f, g, o = jnp.split(p_t + h @ inner, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None
        zero = jnp.zeros((x.shape[0], units))
        (h, _), _ = lax.scan(step, (zero, zero), p.swapaxes(0, 1))
        return h

    def gru(self, x, units, name):
        bias = self.weights[f"{name}/bias"]
        p = x @ self.weights[f"{name}/kernel"] + bias[0]
        inner = self.weights[f"{name}/recurrent_kernel"]

        def step(h, p_t):
            p_z, p_r, p_h = jnp.split(p_t, 3, -1)
            q_z, q_r, q_h = jnp.split(h @ inner + bias[1], 3, -1)
            z, r = jax.nn.sigmoid(p_z + q_z), jax.nn.sigmoid(p_r + q_r)
            h = z * h + (1 - z) * jnp.tanh(p_h + r * q_h)
            return h, h
        _, y = lax.scan(step, jnp.zeros((x.shape[0], units)), p.swapaxes(0, 1))
        return y.swapaxes(0, 1)

    def embedding(self, x, rows, width, name):
        self.asked[name] = x
        return self.rows[name] if self.rows else self.weights[f"{name}/embeddings"][x]

    def positions(self, context, rows, width, name):
        return self.weights[f"{name}/embeddings"][:context]

    def causal_attention(self, x, heads):
        n, time_, d = x.shape
        q, k, v = (z.reshape(n, time_, heads, -1).swapaxes(1, 2) for z in jnp.split(x, 3, -1))
        score = jnp.einsum("bhqe,bhke->bhqk", q, k) / (d // 3 // heads) ** 0.5
        score = jnp.where(jnp.tril(jnp.ones((time_, time_), bool)), score, -1e9)
        y = jnp.einsum("bhqk,bhke->bhqe", jax.nn.softmax(score), v)
        return y.swapaxes(1, 2).reshape(n, time_, d // 3)

    def tied(self, x, name):
        return x @ self.weights[f"{name}/embeddings"].T

    def column(self, x, i):
        return x[:, i]

    def interactions(self, bottom, vectors):
        v = jnp.stack([bottom, *vectors], 1)
        pairs = jnp.einsum("bie,bje->bij", v, v)
        i, j = jnp.tril_indices(v.shape[1], -1)
        return jnp.concatenate([bottom, pairs[:, i, j]], 1)

    def weight(self, shape, name):
        return self.weights[name]


def classes(t, y):
    picked = jnp.take_along_axis(y, t[..., None], -1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(y, -1) - picked)


LOSSES = {
    "classes": classes,
    "binary": lambda t, y: jnp.mean(jax.nn.softplus(y) - t * y),
    "mse": lambda t, y: jnp.mean((y - t) ** 2),
    "square": lambda t, y: jnp.sum(y * y),
}


def adam(rate):
    def start(w):
        zeros = lambda: jax.tree.map(jnp.zeros_like, w)
        return zeros(), zeros(), jnp.zeros((), jnp.int32)

    def update(w, g, state):
        m, v, t = state
        t = t + 1
        m = jax.tree.map(lambda m, g: m + (g - m) * 0.1, m, g)
        v = jax.tree.map(lambda v, g: v + (g * g - v) * 0.001, v, g)
        alpha = rate * jnp.sqrt(1 - 0.999 ** t) / (1 - 0.9 ** t)
        w = jax.tree.map(lambda w, m, v: w - alpha * m / (jnp.sqrt(v) + 1e-7), w, m, v)
        return w, (m, v, t)
    return start, update


def sgd(rate, momentum):
    def start(w):
        return jax.tree.map(jnp.zeros_like, w) if momentum else ()

    def update(w, g, state):
        if momentum:
            state = jax.tree.map(lambda m, g: momentum * m - rate * g, state, g)
            return jax.tree.map(lambda w, m: w + m, w, state), state
        return jax.tree.map(lambda w, g: w - rate * g, w, g), state
    return start, update


def sparse_step(workload, loss, rate):
    """SGD that differentiates by the rows in use and adds to these alone."""
    def step(w, state, inputs, target):
        first = Ops(w)
        workload.model(first, *inputs)  # for what it asks; not computed
        rows = {n: w[f"{n}/embeddings"][i] for n, i in first.asked.items()}
        dense = {k: v for k, v in w.items() if not k.endswith("/embeddings")}
        value, (g, r) = jax.value_and_grad(
            lambda d, r: loss(target, workload.model(Ops(d, r), *inputs)), (0, 1))(dense, rows)
        new = {k: v - rate * g[k] for k, v in dense.items()}
        for n, i in first.asked.items():
            new[f"{n}/embeddings"] = w[f"{n}/embeddings"].at[i].add(-rate * r[n])
        return value, new, state
    return step


class System:
    def __init__(self, workload, weights, data, threads):
        inputs = [jnp.asarray(v) for k, v in data.items() if k != "target"]
        target = jnp.asarray(data["target"]) if "target" in data else None
        loss = LOSSES[workload.loss]
        kind, *rates = workload.optimizer
        start, update = adam(*rates) if kind == "adam" else sgd(*rates)

        def step(w, state, inputs, target):
            value, g = jax.value_and_grad(
                lambda w: loss(target, workload.model(Ops(w), *inputs)))(w)
            return value, *update(w, g, state)
        if workload.sparse:
            step = sparse_step(workload, loss, rates[0])
        self.step = jax.jit(step, donate_argnums=(0, 1))
        self.weights = {k: jnp.array(v) for k, v in weights.items()
                        if not k.endswith(("moving_mean", "moving_variance"))}
        self.state = start(self.weights)
        self.batch = inputs, target

    def steps(self, n):
        begin = time.perf_counter()
        for _ in range(n):
            loss, self.weights, self.state = self.step(self.weights, self.state, *self.batch)
        jax.block_until_ready((loss, self.weights, self.state))
        return time.perf_counter() - begin, float(loss)
