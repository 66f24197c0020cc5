#!/usr/bin/env python3
"""Writes the small tables that the samples train on, from scikit-learn's copies.

    python3 make_data.py            # needs numpy and scikit-learn

diabetes.csv       442 patients, ten standardized features, progression after a year
                   (Efron, Hastie, Johnstone and Tibshirani 2004, "Least angle regression")
breast_cancer.csv  569 tumours, the ten mean features standardized, 1 = benign
                   (Wolberg, Street and Mangasarian 1995, UCI Machine Learning Repository)
iris.csv           150 flowers, four lengths in cm, species 0, 1, 2 (Fisher 1936)
xor.csv            the truth table of "either, but not both"
truth.csv          that of a proposition: "a implies b, and either a or c but not both"

Rows are shuffled once, by a fixed seed, so that a split at the end is a fair one.
"""
import os

import numpy as np
from sklearn import datasets

HERE = os.path.dirname(os.path.abspath(__file__))


def write(name, columns, table, formats):
    with open(os.path.join(HERE, name), "w", newline="\n") as out:
        out.write(",".join(columns) + "\n")
        for row in table:
            out.write(",".join(f % v for f, v in zip(formats, row)) + "\n")


def standardized(x):
    return (x - x.mean(axis=0)) / x.std(axis=0)


def shuffled(x, y):
    order = np.random.RandomState(0).permutation(len(x))
    return np.column_stack([x, y])[order]


data = datasets.load_diabetes(scaled=False)
write("diabetes.csv", list(data.feature_names) + ["progression"],
      shuffled(standardized(data.data), data.target), ["%.4f"] * 10 + ["%d"])

data = datasets.load_breast_cancer()
names = [n.removeprefix("mean ").replace(" ", "_") for n in data.feature_names[:10]]
write("breast_cancer.csv", names + ["benign"],
      shuffled(standardized(data.data[:, :10]), data.target), ["%.4f"] * 10 + ["%d"])

data = datasets.load_iris()
write("iris.csv", ["sepal_length", "sepal_width", "petal_length", "petal_width", "species"],
      shuffled(data.data, data.target), ["%.1f"] * 4 + ["%d"])

write("xor.csv", ["a", "b", "target"], [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)], ["%d"] * 3)

bits = [(line // 4, line // 2 % 2, line % 2) for line in range(8)]
write("truth.csv", ["a", "b", "c", "target"],
      [(a, b, c, (not a or b) and a != c) for a, b, c in bits], ["%d"] * 4)
