#!/usr/bin/env python3
"""What Keras' callbacks do with sequences of metrics.

    python3 make_callbacks.py         # writes callbacks.json next to this file

A case holds the arguments of a callback, the monitored value of each epoch, and what Keras did:
for ReduceLROnPlateau the learning rate after each epoch, for ModelCheckpoint which epochs were
saved under which name.
"""
import json
import os
import tempfile

import numpy as np

from double_keras import keras

HERE = os.path.dirname(os.path.abspath(__file__))


def model(metrics=()):
    m = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    m.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", metrics=list(metrics))
    m.train_on_batch(np.zeros((2, 1)), np.zeros((2, 1)))
    return m


def plateau(values, **arguments):
    m = model(["binary_accuracy"])
    c = keras.callbacks.ReduceLROnPlateau(**arguments)
    c.set_model(m)
    c.on_train_begin()
    rates = []
    for epoch, value in enumerate(values):
        c.on_epoch_end(epoch, {arguments.get("monitor", "val_loss"): value})
        rates.append(float(np.asarray(m.optimizer.learning_rate)))
    return {"type": "ReduceLROnPlateau", "arguments": arguments, "values": values, "rates": rates}


def checkpoint(values, **arguments):
    m = model(["binary_accuracy"])
    saved = []
    m.save = lambda path, overwrite: saved.append(os.path.basename(path))
    name = arguments["filepath"]
    with tempfile.TemporaryDirectory() as directory:
        own = dict(arguments, filepath=os.path.join(directory, name + ".keras"))
        c = keras.callbacks.ModelCheckpoint(**own)
        c.set_model(m)
        c.on_train_begin()
        for epoch, value in enumerate(values):
            c.on_epoch_begin(epoch)
            c.on_epoch_end(epoch, {arguments.get("monitor", "val_loss"): value})
    saved = [s[:-len(".keras")] for s in saved]
    return {"type": "ModelCheckpoint", "arguments": arguments, "values": values, "saved": saved}


def main():
    falling = [1.0, 0.8, 0.7, 0.7, 0.7, 0.69995, 0.69, 0.69, 0.69, 0.69, 0.69, 0.69, 0.69, 0.69]
    rough = [0.5, 0.6, 0.55, 0.65, 0.64, 0.63, 0.62, 0.66, 0.6, 0.6, 0.6, 0.6, 0.6]
    cases = [
        plateau(falling, patience=2),
        plateau(falling, patience=1, factor=0.5, cooldown=2),
        plateau(falling, patience=1, factor=0.2, min_lr=0.003),
        plateau(falling, patience=2, min_delta=0.05),
        plateau(falling, patience=0, factor=0.9),
        plateau(rough, patience=2, monitor="val_binary_accuracy", factor=0.3),
        plateau(rough, patience=1, monitor="val_loss", mode="max", cooldown=1),
        checkpoint(falling, filepath="w-{epoch:02d}-{val_loss:.3f}"),
        checkpoint(falling, filepath="best{epoch}", save_best_only=True),
        checkpoint(falling, filepath="best{epoch:d}", save_best_only=True,
                   initial_value_threshold=0.75),
        checkpoint(rough, filepath="a{epoch:03d}_{val_binary_accuracy:.1e}", save_best_only=True,
                   monitor="val_binary_accuracy"),
        checkpoint(rough, filepath="{val_loss:6.2f}|{val_loss:g}|{val_loss:.1%}", mode="max",
                   save_best_only=True),
    ]
    with open(os.path.join(HERE, "callbacks.json"), "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


if __name__ == "__main__":
    main()
