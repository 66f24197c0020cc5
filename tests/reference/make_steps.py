#!/usr/bin/env python3
"""Reference values for written-out training steps, from JAX in double precision.

    python3 make_steps.py       # writes steps.json and recurrent_steps.json next to this file

Each case is one step of gradient descent with rate 1 on a loss that contains derivatives: a gradient
penalty, a step of meta-learning through an inner update, the residual of Burgers' equation. Weights
and inputs by the formula of make_vectors.py. Kept are the loss and the changed weights.
"""
import json
import os

import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))


def wave(shape, phase=0.0, scale=1.0, shift=0.0):
    """Element i in row-major order: shift + scale * sin(0.7 * i + phase)."""
    n = int(np.prod(shape))
    return jnp.asarray((shift + scale * np.sin(0.7 * np.arange(n) + phase)).reshape(shape))


def net(w, x):
    return jnp.tanh(x @ w[0] + w[1]) @ w[2] + w[3]


def weights(inputs, hidden):
    shapes = [(inputs, hidden), (hidden,), (hidden, 1), (1,)]
    return [wave(s, 0.3 * i, 0.5) for i, s in enumerate(shapes)]


def penalty(w, x, y):
    slope = jnp.sqrt(jnp.sum(jax.grad(lambda x: jnp.sum(net(w, x)))(x) ** 2, axis=1))
    return jnp.mean(net(w, x)) + 10 * jnp.mean((slope - 1) ** 2)


def error(w, x, y):
    return jnp.mean((net(w, x) - y) ** 2)


def meta(w, x, y):
    g = jax.grad(error)(w, x, y)
    fast = [a - 0.1 * b for a, b in zip(w, g)]
    return error(fast, x[::-1], y)


def burgers(w, x, y):
    u = lambda x, t: net(w, jnp.stack([x, t]))[0]
    ux = jax.grad(u, 0)

    def residual(x, t):
        return jax.grad(u, 1)(x, t) + u(x, t) * ux(x, t) - 0.01 / jnp.pi * jax.grad(ux, 0)(x, t)

    return jnp.mean(jax.vmap(residual)(x[:, 0], x[:, 1]) ** 2)


def case(name, loss, inputs):
    w = weights(inputs, 5)
    x, y = wave((4, inputs), 0.9), wave((4, 1), 0.2)
    value, g = jax.value_and_grad(loss)(w, x, y)
    after = [a - b for a, b in zip(w, g)]
    numbers = lambda v: [float("%.12g" % e) for e in np.asarray(v).ravel()]
    return {"name": name, "inputs": inputs, "loss": numbers(value)[0],
            "weights": [numbers(v) for v in after]}


# --- derivatives of derivatives through loops -----------------------------------------------------

def simple_rnn(w, x):
    def step(h, x_t):
        return jnp.tanh(x_t @ w[0] + h @ w[1] + w[2]), None

    h = jax.lax.scan(step, jnp.zeros((x.shape[0], w[1].shape[0])), jnp.swapaxes(x, 0, 1))[0]
    return h @ w[3] + w[4]


def lstm(w, x):
    def step(state, x_t):
        h, c = state
        i, f, g, o = jnp.split(x_t @ w[0] + h @ w[1] + w[2], 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zero = jnp.zeros((x.shape[0], w[1].shape[0]))
    (h, _), _ = jax.lax.scan(step, (zero, zero), jnp.swapaxes(x, 0, 1))
    return h @ w[3] + w[4]


def gru(w, x):
    def step(h, x_t):
        p = jnp.split(x_t @ w[0] + w[2][0], 3, axis=1)
        q = jnp.split(h @ w[1] + w[2][1], 3, axis=1)
        z, r = jax.nn.sigmoid(p[0] + q[0]), jax.nn.sigmoid(p[1] + q[1])
        return z * h + (1 - z) * jnp.tanh(p[2] + r * q[2]), None

    h = jax.lax.scan(step, jnp.zeros((x.shape[0], w[1].shape[0])), jnp.swapaxes(x, 0, 1))[0]
    return h @ w[3] + w[4]


def recurrent(name, layer, net, gates, bias):
    """A gradient penalty and a step of meta-learning in one loss."""
    units, inputs, steps, n = 3, 2, 4, 3
    shapes = [(inputs, gates * units), (units, gates * units), bias, (units, 1), (1,)]
    w = [wave(s, 0.3 * i, 0.5) for i, s in enumerate(shapes)]
    x, y = wave((n, steps, inputs), 0.9), wave((n, 1), 0.2)

    def loss(w):
        slope = jnp.sqrt(jnp.sum(jax.grad(lambda x: jnp.sum(net(w, x)))(x) ** 2, axis=(1, 2)))
        inner = jax.grad(lambda w: jnp.mean((net(w, x) - y) ** 2))(w)
        fast = [a - 0.1 * b for a, b in zip(w, inner)]
        return 10 * jnp.mean((slope - 1) ** 2) + jnp.mean((net(fast, x[::-1]) - y) ** 2)

    value, g = jax.value_and_grad(loss)(w)
    numbers = lambda v: [float("%.12g" % e) for e in np.asarray(v).ravel()]
    return {"name": name, "layer": layer, "loss": numbers(value)[0],
            "weights": [numbers(a - 0.1 * b) for a, b in zip(w, g)]}


cases = [recurrent("simple_rnn", "SimpleRNN(3)", simple_rnn, 1, (3,)),
         recurrent("lstm", "LSTM(3)", lstm, 4, (12,)),
         recurrent("gru", "GRU(3)", gru, 3, (2, 9))]
with open(os.path.join(HERE, "recurrent_steps.json"), "w") as out:
    out.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")

cases = [case("gradient penalty", penalty, 3), case("meta-learning", meta, 3),
         case("burgers", burgers, 2)]
with open(os.path.join(HERE, "steps.json"), "w") as out:
    out.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
