#!/usr/bin/env python3
"""Reference for samples/perceptron.nn and samples/perceptron_multi.nn: scikit-learn's Perceptron.

    python3 make_perceptron.py       # writes perceptron.json next to this file

Trained on samples/data/iris.csv in its order, in whole millimetres, so that every sum is an integer and
exact in any float type. Kept are the net inputs, `w . x + b`, of all rows after training: a row per
flower, a column per unit.
"""
import json
import os

import numpy as np
from sklearn.linear_model import Perceptron

HERE = os.path.dirname(os.path.abspath(__file__))
table = np.loadtxt(os.path.join(HERE, "../../samples/data/iris.csv"), delimiter=",", skiprows=1)
lengths, species = np.round(10 * table[:, :4]), table[:, 4]


def scores(x, y, epochs):
    model = Perceptron(max_iter=epochs, tol=None, shuffle=False).fit(x, y)
    found = model.decision_function(x).reshape(len(x), -1)
    assert np.array_equal(found, np.round(found))
    return found.astype(int).tolist()


def named(name, epochs, x, y):
    return {"sample": name, "epochs": epochs, "scores": scores(x, y, epochs)}


cases = [named("perceptron", 20, lengths[:, 2:], np.where(species == 0, 1, -1)),
         named("perceptron", 200, lengths[:, 2:], np.where(species == 0, 1, -1)),
         named("perceptron_multi", 50, lengths, species)]
with open(os.path.join(HERE, "perceptron.json"), "w") as out:
    out.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
