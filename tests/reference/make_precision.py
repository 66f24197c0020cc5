#!/usr/bin/env python3
"""Reference values for the precision policies, from Keras (3.15.1, JAX backend).

    python3 make_precision.py       # writes precision.json next to this file

One small network under each policy, weights and inputs by the formula of make_vectors.py: its
output before training, the loss of one batch, and the weights after a step of SGD.
"""
import json
import os

import numpy as np

from double_keras import keras

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = ["dense/kernel", "dense/bias", "norm/gamma", "norm/beta", "head/kernel", "head/bias"]


def wave(shape, phase=0.0, scale=1.0, shift=0.0):
    """Element i in row-major order: shift + scale * sin(0.7 * i + phase)."""
    n = int(np.prod(shape))
    return (shift + scale * np.sin(0.7 * np.arange(n) + phase)).reshape(shape)


def case(policy):
    keras.config.set_dtype_policy(policy)
    keras.config.set_floatx("float64" if policy == "float64" else "float32")  # losses, optimizers
    last = "float64" if policy == "float64" else "float32"
    x = keras.Input((6,), dtype=last)
    y = keras.layers.Dense(8, activation="tanh", name="dense")(x)
    y = keras.layers.LayerNormalization(name="norm")(y)
    y = keras.layers.Dense(3, name="head")(y)
    y = keras.layers.Softmax(dtype=last)(y)
    model = keras.Model(x, y)
    weights = [wave(w.shape, 0.3 * i, 0.5, 1.0 if i == 2 else 0.0)
               for i, w in enumerate(model.weights)]
    model.set_weights(weights)
    model.compile(optimizer=keras.optimizers.SGD(0.25), loss="sparse_categorical_crossentropy",
                  run_eagerly=True)
    data = wave((4, 6), 0.9)
    before = np.asarray(model(data), np.float64)
    loss = model.train_on_batch(data, np.array([0, 2, 1, 2]))
    after = [np.asarray(w, np.float64) for w in model.get_weights()]
    change = {n: [float("%.12g" % v) for v in (b - a).ravel()]
              for n, a, b in zip(NAMES, weights, after)}
    return {"policy": policy, "y": [float("%.12g" % v) for v in before.ravel()],
            "loss": float("%.12g" % float(loss)), "change": change}


policies = ["float32", "float64", "mixed_bfloat16", "bfloat16", "float16"]
with open(os.path.join(HERE, "precision.json"), "w") as out:
    out.write("[\n" + ",\n".join(json.dumps(case(p)) for p in policies) + "\n]\n")
