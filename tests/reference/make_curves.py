#!/usr/bin/env python3
"""Reference loss curves: three small models trained for 100 steps by Keras (3.15.1) in double.

    python3 make_curves.py          # writes curves.json next to this file

The models' text in .nn stands in tests/library_curves_test.cpp. Weights and batches are formulas:
kernel k (recurrent ones too, by place among the trained weights) is wave(phase k, scale 0.8 / sqrt(inputs of a unit)),
row i of the data is wave(phase 1.3 i), its label counts two conditions on its values.
"""
import json
import os

import numpy as np

from double_keras import keras

HERE = os.path.dirname(os.path.abspath(__file__))
BATCH, STEPS, ROWS = 8, 100, 40


def wave(n, phase, scale=1.0):
    return scale * np.sin(0.7 * np.arange(n) + phase)


def data(width):
    """ROWS samples; step s takes the rows (8 s + j) % ROWS. The label depends on two values."""
    x = np.array([wave(width, 1.3 * i) for i in range(ROWS)])
    return x, (x[:, 1] > 0).astype("int32") + (x[:, 3] > 0.5).astype("int32")


def run(model, x, y, optimizer):
    model.compile(optimizer=optimizer,
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for k, v in enumerate(model.trainable_variables):
        name = v.path.split("/")[-1]
        fan = int(np.prod(v.shape[:-1])) if name.endswith("kernel") else 1
        values = wave(int(np.prod(v.shape)), phase=k, scale=0.8 / np.sqrt(fan))
        if name.endswith("kernel"):
            v.assign(values.reshape(v.shape))
    losses = []
    for s in range(STEPS):
        rows = [(BATCH * s + j) % ROWS for j in range(BATCH)]
        model.reset_metrics()
        losses.append(float(model.train_on_batch(x[rows], y[rows])))
    return losses


L = keras.layers
mlp = keras.Sequential([keras.Input((6,)), L.Dense(16, activation="relu"),
                        L.Dense(8, activation="tanh"), L.Dense(3)])
x, y = data(6)
curves = {"mlp": run(mlp, x, y, keras.optimizers.Adam(0.01))}

cnn = keras.Sequential([
    keras.Input((6, 6, 1)), L.Conv2D(4, 3, padding="same", use_bias=False), L.BatchNormalization(),
    L.ReLU(), L.MaxPooling2D(), L.Conv2D(6, 2), L.BatchNormalization(momentum=0.9), L.ReLU(),
    L.GlobalAveragePooling2D(), L.Dense(3)])
x, y = data(36)
curves["cnn"] = run(cnn, x.reshape(-1, 6, 6, 1), y,
                    keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True))
curves["cnn_moving_mean"] = [float(v) for v in np.asarray(cnn.layers[1].moving_mean)]
curves["cnn_predict"] = [float(v) for v in np.asarray(
    cnn.predict_on_batch(x[:2].reshape(-1, 6, 6, 1))).ravel()]

rnn = keras.Sequential([keras.Input((6, 3)), L.LSTM(5, return_sequences=True),
                        L.Bidirectional(L.GRU(4)), L.Dense(3)])
x, y = data(18)
curves["rnn"] = run(rnn, x.reshape(-1, 6, 3), y, keras.optimizers.Adam(0.01))
curves["rnn_weights"] = [float(v) for w in rnn.trainable_variables for v in np.asarray(w).ravel()]

with open(os.path.join(HERE, "curves.json"), "w") as out:
    rows = [f'"{name}": [' + ", ".join("%.10g" % v for v in values) + "]"
            for name, values in curves.items()]
    out.write("{\n" + ",\n".join(rows) + "\n}\n")
