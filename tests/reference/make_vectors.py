#!/usr/bin/env python3
"""Reference values for the standard library, from Keras (3.15.1) in double precision.

    python3 make_vectors.py         # writes *.json next to this file
    python3 make_vectors.py ctc     # that part alone

A case holds the text of an expression in .nn and what Keras gives for it. Inputs and weights are
formulas (`wave` below, and in tests/library_vectors_test.cpp), so that only results are stored.
"""
import json
import os
import sys

import numpy as np

from double_keras import keras

HERE = os.path.dirname(os.path.abspath(__file__))


def wave(shape, phase=0.0, scale=1.0, shift=0.0):
    """Element i in row-major order: shift + scale * sin(0.7 * i + phase)."""
    n = int(np.prod(shape))
    return (shift + scale * np.sin(0.7 * np.arange(n) + phase)).reshape(shape)


def numbers(x):
    x = np.asarray(x, dtype=np.float64)
    return [float("%.12g" % v) for v in x.ravel()]


def write(name, cases):
    with open(os.path.join(HERE, name), "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


# --- activations ----------------------------------------------------------------------------------

def activations():
    a = keras.activations
    x = np.array([[-3, -1, -0.5, 0, 0.5, 1, 3], [-7.5, 2.25, 6.5, -0.001, 0.1, -1.5, 30]], float)
    calls = [
        ("linear(x)", a.linear), ("relu(x)", a.relu), ("relu6(x)", a.relu6),
        ("relu(x, negative_slope = 0.1, max_value = 2.5, threshold = 0.75)",
         lambda x: a.relu(x, negative_slope=0.1, max_value=2.5, threshold=0.75)),
        ("leaky_relu(x)", a.leaky_relu), ("elu(x)", a.elu), ("elu(x, alpha = 0.5)",
         lambda x: a.elu(x, alpha=0.5)), ("celu(x)", a.celu),
        ("celu(x, alpha = 0.5)", lambda x: a.celu(x, alpha=0.5)), ("selu(x)", a.selu),
        ("gelu(x)", a.gelu), ("gelu(x, approximate = true)", lambda x: a.gelu(x, approximate=True)),
        ("silu(x)", a.silu), ("swish(x)", a.silu), ("mish(x)", a.mish), ("sigmoid(x)", a.sigmoid),
        ("tanh(x)", a.tanh), ("exponential(x)", a.exponential), ("hard_sigmoid(x)", a.hard_sigmoid),
        ("hard_silu(x)", a.hard_silu), ("hard_swish(x)", a.hard_silu),
        ("hard_tanh(x)", a.hard_tanh),
        ("softplus(x)", a.softplus), ("softsign(x)", a.softsign), ("log_sigmoid(x)", a.log_sigmoid),
        ("softmax(x)", a.softmax), ("log_softmax(x)", a.log_softmax),
        ("softmax(x, axis = 0)", lambda x: a.softmax(x, axis=0)), ("sparsemax(x)", a.sparsemax),
        ("squareplus(x)", a.squareplus), ("squareplus(x, b = 1.0)", lambda x: a.squareplus(x, b=1)),
        ("soft_shrink(x)", a.soft_shrink), ("hard_shrink(x)", a.hard_shrink),
        ("tanh_shrink(x)", a.tanh_shrink), ("threshold(x, 0.4, -2.0)",
         lambda x: a.threshold(x, 0.4, -2.0)), ("sparse_plus(x)", a.sparse_plus),
        ("sparse_sigmoid(x)", a.sparse_sigmoid), ("glu(x[:, :6])", lambda x: a.glu(x[:, :6])),
    ]
    layers = keras.layers
    calls += [
        ("x |> ReLU(max_value = 2.0)", layers.ReLU(max_value=2.0)),
        ("x |> LeakyReLU()", layers.LeakyReLU()), ("x |> ELU(alpha = 0.3)", layers.ELU(alpha=0.3)),
        ("x |> Softmax()", layers.Softmax()), ("x |> Activation(gelu)", layers.Activation("gelu")),
    ]
    write("activations.json", [{"nn": nn, "x": numbers(x), "y": numbers(f(keras.ops.array(x)))}
                               for nn, f in calls])


# --- losses ---------------------------------------------------------------------------------------

def losses():
    L = keras.losses
    one_hot = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], float)
    p = np.array([[.05, .95, 0], [.1, .8, .1], [.7, .2, .1]])
    z = np.array([[1, 2, -1], [.5, -.5, 3], [-20, 40, 0.25]])
    real = np.array([[.5, -1, 2], [3, 0.25, 0], [-.1, .2, .7]])
    index = np.array([1, 2, 0])
    ignored = np.array([1, 2, 9])
    cases = []

    def add(nn, loss, y, q):
        value = loss(y, q)
        cases.append({"nn": nn, "sparse": y.ndim == 1, "y_true": numbers(y), "y_pred": numbers(q),
                      "value": numbers(value)})

    for nn, loss in [
            ("MeanSquaredError()", L.MeanSquaredError),
            ("MeanAbsoluteError()", L.MeanAbsoluteError),
            ("MeanAbsolutePercentageError()", L.MeanAbsolutePercentageError),
            ("MeanSquaredLogarithmicError()", L.MeanSquaredLogarithmicError), ("Huber()", L.Huber),
            ("LogCosh()", L.LogCosh), ("CosineSimilarity()", L.CosineSimilarity),
            ("KLDivergence()", L.KLDivergence), ("Poisson()", L.Poisson), ("Hinge()", L.Hinge),
            ("SquaredHinge()", L.SquaredHinge), ("CategoricalHinge()", L.CategoricalHinge),
            ("BinaryCrossentropy()", L.BinaryCrossentropy),
            ("BinaryFocalCrossentropy()", L.BinaryFocalCrossentropy),
            ("CategoricalCrossentropy()", L.CategoricalCrossentropy),
            ("CategoricalFocalCrossentropy()", L.CategoricalFocalCrossentropy)]:
        add(nn, loss(reduction=None), one_hot, p)
    add("MeanSquaredError()", L.MeanSquaredError(reduction=None), real, z)
    add("MeanSquaredLogarithmicError()", L.MeanSquaredLogarithmicError(reduction=None), real, z)
    add("MeanAbsolutePercentageError()", L.MeanAbsolutePercentageError(reduction=None),
        one_hot + .5, z)
    add("Huber(delta = 0.4)", L.Huber(delta=0.4, reduction=None), real, z)
    add("LogCosh()", L.LogCosh(reduction=None), real, z)
    add("Hinge()", L.Hinge(reduction=None), 2 * one_hot - 1, z)
    add("CosineSimilarity(axis = 0)", L.CosineSimilarity(axis=0, reduction=None), real, z)
    add("BinaryCrossentropy(label_smoothing = 0.1)",
        L.BinaryCrossentropy(label_smoothing=.1, reduction=None), one_hot, p)
    add("BinaryCrossentropy(from_logits = true)",
        L.BinaryCrossentropy(from_logits=True, reduction=None), one_hot, z)
    add("BinaryFocalCrossentropy(apply_class_balancing = true, gamma = 1.5, from_logits = true)",
        L.BinaryFocalCrossentropy(apply_class_balancing=True, gamma=1.5, from_logits=True,
                                  reduction=None), one_hot, real)
    add("CategoricalCrossentropy(label_smoothing = 0.1)",
        L.CategoricalCrossentropy(label_smoothing=.1, reduction=None), one_hot, p)
    add("CategoricalCrossentropy(from_logits = true)",
        L.CategoricalCrossentropy(from_logits=True, reduction=None), one_hot, z)
    add("CategoricalFocalCrossentropy(alpha = [0.25, 0.5, 1], from_logits = true)",
        L.CategoricalFocalCrossentropy(alpha=[.25, .5, 1], from_logits=True, reduction=None),
        one_hot, real)
    add("SparseCategoricalCrossentropy()", L.SparseCategoricalCrossentropy(reduction=None),
        index, p)
    add("SparseCategoricalCrossentropy(from_logits = true)",
        L.SparseCategoricalCrossentropy(from_logits=True, reduction=None), index, z)
    add("CategoricalGeneralizedCrossEntropy()",
        L.CategoricalGeneralizedCrossEntropy(reduction=None), index, p)
    add("Dice()", L.Dice(reduction=None), one_hot, p)
    add("Tversky(alpha = 0.3, beta = 0.7)", L.Tversky(alpha=.3, beta=.7, reduction=None),
        one_hot, p)
    # With an ignored class the mean is over the others: stated as per-sample values of that mean.
    whole = float(L.SparseCategoricalCrossentropy(from_logits=True, ignore_class=9)(ignored, z))
    each = np.asarray(L.SparseCategoricalCrossentropy(from_logits=True, reduction=None)(
        np.array([1, 2, 0]), z))
    rows = np.array([each[0], each[1], 0]) * 1.5
    assert abs(rows.mean() - whole) < 1e-12, (rows.mean(), whole)
    cases.append({"nn": "SparseCategoricalCrossentropy(from_logits = true, ignore_class = 9)",
                  "sparse": True, "y_true": numbers(ignored), "y_pred": numbers(z),
                  "value": numbers(rows)})
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    add("Circle()", L.Circle(reduction=None), np.array([1, 1, 0]), unit)
    add("Circle(gamma = 4.0, margin = 0.2, remove_diagonal = false)",
        L.Circle(gamma=4, margin=.2, remove_diagonal=False, reduction=None), np.array([1, 0, 1]),
        unit)
    write("losses.json", cases)


# --- optimizers -----------------------------------------------------------------------------------

def optimizers():
    O = keras.optimizers
    S = keras.optimizers.schedules
    w0 = np.array([[1, -2, 3], [0.5, -0.25, 0.125]])
    gradients = [wave((2, 3), phase=s, scale=0.4) for s in range(4)]
    cases = []
    for nn, make in [
            ("SGD()", O.SGD), ("SGD(momentum = 0.9)", lambda: O.SGD(momentum=.9)),
            ("SGD(momentum = 0.9, nesterov = true)", lambda: O.SGD(momentum=.9, nesterov=True)),
            ("SGD(weight_decay = 0.1)", lambda: O.SGD(weight_decay=.1)),
            ("SGD(clipnorm = 0.1)", lambda: O.SGD(clipnorm=.1)),
            ("SGD(clipvalue = 0.15)", lambda: O.SGD(clipvalue=.15)),
            ("SGD(learning_rate = ExponentialDecay(0.1, 2, 0.5))",
             lambda: O.SGD(learning_rate=S.ExponentialDecay(.1, 2, .5))),
            ("RMSprop()", O.RMSprop),
            ("RMSprop(momentum = 0.9, centered = true)",
             lambda: O.RMSprop(momentum=.9, centered=True)),
            ("Adagrad()", O.Adagrad), ("Adadelta()", O.Adadelta),
            ("Adadelta(learning_rate = 1.0)", lambda: O.Adadelta(learning_rate=1.0)),
            ("Adam()", O.Adam), ("Adam(amsgrad = true, beta_2 = 0.5)",
             lambda: O.Adam(amsgrad=True, beta_2=.5)), ("AdamW()", O.AdamW), ("Adamax()", O.Adamax),
            ("Nadam()", O.Nadam), ("Ftrl()", O.Ftrl),
            ("Ftrl(learning_rate = 0.1, l1_regularization_strength = 0.01,"
             " l2_regularization_strength = 0.02, l2_shrinkage_regularization_strength = 0.03,"
             " beta = 0.04)",
             lambda: O.Ftrl(learning_rate=.1, l1_regularization_strength=.01,
                            l2_regularization_strength=.02,
                            l2_shrinkage_regularization_strength=.03, beta=.04)),
            ("Lion()", O.Lion), ("Lamb()", O.Lamb),
            ("Adafactor(0.1)", lambda: O.Adafactor(0.1)),
            ("Muon(0.01)", lambda: O.Muon(0.01))]:
        w = keras.Variable(w0)
        optimizer = make()
        optimizer.build([w])
        steps = []
        for g in gradients:
            optimizer.apply_gradients([(keras.ops.array(g), w)])
            steps.append(numbers(w.numpy()))
        cases.append({"nn": nn, "steps": steps})
    write("optimizers.json", cases)


# --- schedules ------------------------------------------------------------------------------------

def schedules():
    S = keras.optimizers.schedules
    cases = []
    for nn, s in [
            ("ExponentialDecay(0.1, 10, 0.5)", S.ExponentialDecay(.1, 10, .5)),
            ("ExponentialDecay(0.1, 10, 0.5, staircase = true)",
             S.ExponentialDecay(.1, 10, .5, staircase=True)),
            ("InverseTimeDecay(0.1, 10, 0.5)", S.InverseTimeDecay(.1, 10, .5)),
            ("InverseTimeDecay(0.1, 10, 0.5, staircase = true)",
             S.InverseTimeDecay(.1, 10, .5, staircase=True)),
            ("PolynomialDecay(0.1, 100)", S.PolynomialDecay(.1, 100)),
            ("PolynomialDecay(0.1, 30, power = 2.0, cycle = true)",
             S.PolynomialDecay(.1, 30, power=2, cycle=True)),
            ("PiecewiseConstantDecay([10, 50], [1, 0.5, 0.1])",
             S.PiecewiseConstantDecay([10, 50], [1, .5, .1])),
            ("CosineDecay(0.1, 100)", S.CosineDecay(.1, 100)),
            ("CosineDecay(0.0, 100, alpha = 0.1, warmup_target = 0.1, warmup_steps = 10)",
             S.CosineDecay(0.0, 100, alpha=.1, warmup_target=.1, warmup_steps=10)),
            ("CosineDecayRestarts(0.1, 30)", S.CosineDecayRestarts(.1, 30)),
            ("CosineDecayRestarts(0.1, 30, t_mul = 1.0, m_mul = 0.5, alpha = 0.1)",
             S.CosineDecayRestarts(.1, 30, t_mul=1.0, m_mul=.5, alpha=.1))]:
        steps = [0, 5, 10, 11, 31, 50, 99, 150]
        # Keras' schedules compute in the type of the rate: double here.
        cases.append({"nn": nn, "steps": steps, "values": numbers([float(s(i)) for i in steps])})
    write("schedules.json", cases)


# --- metrics --------------------------------------------------------------------------------------

def metrics():
    M = keras.metrics
    y2 = np.array([[0], [1], [1], [0], [1]], float)
    p2 = np.array([[.2], [.7], [.4], [.6], [.9]])
    y3 = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]], float)
    p3 = np.array([[.1, .6, .3], [.4, .5, .1], [.7, .2, .1], [.2, .3, .5]])
    i3 = np.array([1, 2, 0, 2])
    real = np.array([[.5, -1], [3, .25], [-.1, .2], [2, 2]])
    near = real + wave((4, 2), scale=.3)
    cases = []

    def add(nn, metric, y, p):
        for k in range(0, len(p), 2):  # in batches of two
            metric.update_state(y[k:k + 2], p[k:k + 2])
        cases.append({"nn": nn, "sparse": y.ndim == 1, "width": p.shape[1], "y_true": numbers(y),
                      "y_pred": numbers(p), "value": numbers(np.mean(metric.result()))[0]})

    for nn, m in [
            ("BinaryAccuracy()", M.BinaryAccuracy()), ("TruePositives()", M.TruePositives()),
            ("BinaryAccuracy(threshold = 0.65)", M.BinaryAccuracy(threshold=.65)),
            ("TrueNegatives()", M.TrueNegatives()), ("FalsePositives()", M.FalsePositives()),
            ("FalseNegatives()", M.FalseNegatives()), ("Precision()", M.Precision()),
            ("Recall()", M.Recall()), ("Recall(thresholds = 0.3)", M.Recall(thresholds=.3)),
            ("AUC()", M.AUC()), ("AUC(curve = \"PR\")", M.AUC(curve="PR")),
            ("AUC(num_thresholds = 7, summation_method = \"minoring\")",
             M.AUC(num_thresholds=7, summation_method="minoring")),
            ("AUC(num_thresholds = 7, curve = \"PR\", summation_method = \"majoring\")",
             M.AUC(num_thresholds=7, curve="PR", summation_method="majoring")),
            ("F1Score(threshold = 0.5)", M.F1Score(threshold=.5)),
            ("SensitivityAtSpecificity(0.6)", M.SensitivityAtSpecificity(.6)),
            ("SpecificityAtSensitivity(0.6, num_thresholds = 7)",
             M.SpecificityAtSensitivity(.6, num_thresholds=7)),
            ("PrecisionAtRecall(0.9)", M.PrecisionAtRecall(.9)),
            ("RecallAtPrecision(0.8)", M.RecallAtPrecision(.8)),
            ("BinaryIoU()", M.BinaryIoU()), ("BinaryCrossentropy()", M.BinaryCrossentropy())]:
        add(nn, m, y2, p2)
    for nn, m in [
            ("CategoricalAccuracy()", M.CategoricalAccuracy()),
            ("TopKCategoricalAccuracy(k = 2)", M.TopKCategoricalAccuracy(k=2)),
            ("F1Score()", M.F1Score()),
            ("F1Score(average = \"micro\")", M.F1Score(average="micro")),
            ("FBetaScore(average = \"weighted\", beta = 2.0)",
             M.FBetaScore(average="weighted", beta=2.0)),
            ("Precision(class_id = 1)", M.Precision(class_id=1)),
            ("OneHotMeanIoU(3)", M.OneHotMeanIoU(3)),
            ("OneHotIoU(3, [0, 2])", M.OneHotIoU(3, target_class_ids=[0, 2])),
            ("CategoricalCrossentropy()", M.CategoricalCrossentropy())]:
        add(nn, m, y3, p3)
    for nn, m in [
            ("SparseCategoricalAccuracy()", M.SparseCategoricalAccuracy()),
            ("SparseTopKCategoricalAccuracy(k = 2)", M.SparseTopKCategoricalAccuracy(k=2)),
            ("SparseCategoricalCrossentropy()", M.SparseCategoricalCrossentropy())]:
        add(nn, m, i3, p3)
    for nn, m in [
            ("MeanSquaredError()", M.MeanSquaredError()),
            ("RootMeanSquaredError()", M.RootMeanSquaredError()),
            ("MeanAbsoluteError()", M.MeanAbsoluteError()), ("LogCoshError()", M.LogCoshError()),
            ("PearsonCorrelation(axis = 0)", M.PearsonCorrelation(axis=0)),
            ("ConcordanceCorrelation(axis = 0)", M.ConcordanceCorrelation(axis=0)),
            ("R2Score()", M.R2Score()), ("R2Score(\"variance_weighted_average\")",
             M.R2Score(class_aggregation="variance_weighted_average"))]:
        add(nn, m, real, near)
    write("metrics.json", cases)


# --- layers ---------------------------------------------------------------------------------------

def layers():
    K = keras.layers
    cases = []

    def add(nn, layer, *shapes, joined=False, names=None, training=None):
        """A forward pass. Input k is wave(phase k / 2), weight k wave(phase k). What is drawn in
        training must not matter: factors whose range is one number."""
        xs = [keras.ops.array(wave(s, phase=k / 2)) for k, s in enumerate(shapes)]
        more = {} if training is None else {"training": training}
        call = (lambda: layer(xs, **more)) if joined else (lambda: layer(*xs, **more))
        call()
        weights = []
        for k, v in enumerate(layer.weights):
            variance = v.path.endswith("moving_variance")
            v.assign(wave(v.shape, phase=k, scale=0.5, shift=1.0 if variance else 0.0))
            weights.append([names[k] if names else v.path.split("/")[-1], list(v.shape)])
        y = np.asarray(call())
        cases.append({"nn": nn, "inputs": [list(s) for s in shapes], "joined": joined,
                      "weights": weights, "shape": list(y.shape), "y": numbers(y), **more})

    image, row, cube = (2, 5, 4, 2), (2, 6, 2), (1, 3, 4, 3, 2)
    add("Dense(3, activation = tanh)", K.Dense(3, activation="tanh"), (2, 3, 4))
    add("Dense(3, use_bias = false)", K.Dense(3, use_bias=False), (2, 4))
    add("PReLU(shared_axes = [1])", K.PReLU(shared_axes=[1]), (2, 3, 4))
    add("Flatten()", K.Flatten(), (2, 2, 3))
    add("Flatten(data_format = \"channels_first\")", K.Flatten(data_format="channels_first"),
        (2, 2, 3))
    add("Reshape([3, -1])", K.Reshape((3, -1)), (2, 2, 6))
    add("Permute([2, 1])", K.Permute((2, 1)), (2, 2, 3))
    add("RepeatVector(2)", K.RepeatVector(2), (2, 3))
    add("Dropout(0.5)", K.Dropout(0.5), (2, 3))
    add("Conv1D(3, 3)", K.Conv1D(3, 3), row)
    add("Conv1D(3, 2, padding = \"causal\", dilation_rate = 2)",
        K.Conv1D(3, 2, padding="causal", dilation_rate=2), row)
    add("Conv1D(4, 3, strides = 2, padding = \"same\", groups = 2)",
        K.Conv1D(4, 3, strides=2, padding="same", groups=2), row)
    add("Conv2D(3, 3)", K.Conv2D(3, 3), image)
    add("Conv2D(2, [2, 3], strides = [2, 1], padding = \"same\", activation = relu)",
        K.Conv2D(2, (2, 3), strides=(2, 1), padding="same", activation="relu"), image)
    add("Conv2D(2, 2, dilation_rate = 2, use_bias = false)",
        K.Conv2D(2, 2, dilation_rate=2, use_bias=False), image)
    add("Conv2D(3, 2, data_format = \"channels_first\", padding = \"same\")",
        K.Conv2D(3, 2, data_format="channels_first", padding="same"), (2, 2, 3, 4))
    add("Conv3D(2, 2, padding = \"same\")", K.Conv3D(2, 2, padding="same"), cube)
    add("Conv1DTranspose(2, 3, strides = 2)", K.Conv1DTranspose(2, 3, strides=2), row)
    add("Conv1DTranspose(2, 2, strides = 3, padding = \"same\")",
        K.Conv1DTranspose(2, 2, strides=3, padding="same"), row)
    add("Conv2DTranspose(2, 3, strides = 2, padding = \"same\")",
        K.Conv2DTranspose(2, 3, strides=2, padding="same"), (1, 3, 2, 2))
    add("Conv2DTranspose(2, [2, 3], strides = [1, 2], output_padding = [0, 1])",
        K.Conv2DTranspose(2, (2, 3), strides=(1, 2), output_padding=(0, 1)), (1, 3, 2, 2))
    add("Conv3DTranspose(1, 2, strides = 2)", K.Conv3DTranspose(1, 2, strides=2), (1, 2, 1, 2, 2))
    add("DepthwiseConv1D(3, depth_multiplier = 2)", K.DepthwiseConv1D(3, depth_multiplier=2), row,
        names=["kernel", "bias"])
    add("DepthwiseConv2D(2, strides = 2, padding = \"same\")",
        K.DepthwiseConv2D(2, strides=2, padding="same"), image, names=["kernel", "bias"])
    add("SeparableConv1D(3, 2)", K.SeparableConv1D(3, 2), row)
    add("SeparableConv2D(2, 3, padding = \"same\", depth_multiplier = 2)",
        K.SeparableConv2D(2, 3, padding="same", depth_multiplier=2), image)
    for name in ["Max", "Average"]:
        for rank, shape in [(1, row), (2, image), (3, cube)]:
            cls = getattr(K, f"{name}Pooling{rank}D")
            add(f"{name}Pooling{rank}D(2)", cls(2), shape)
            add(f"{name}Pooling{rank}D(3, strides = 2, padding = \"same\")",
                cls(3, strides=2, padding="same"), shape)
            cls = getattr(K, f"Global{name}Pooling{rank}D")
            add(f"Global{name}Pooling{rank}D()", cls(), shape)
            add(f"Global{name}Pooling{rank}D(keepdims = true)", cls(keepdims=True), shape)
    add("MaxPooling2D([2, 1], data_format = \"channels_first\")",
        K.MaxPooling2D((2, 1), data_format="channels_first"), image)
    add("BatchNormalization()", K.BatchNormalization(), (3, 2, 4))
    add("BatchNormalization(axis = 1, scale = false)", K.BatchNormalization(axis=1, scale=False),
        (3, 2, 4))
    add("LayerNormalization()", K.LayerNormalization(), (2, 3, 4))
    add("LayerNormalization(axis = [1, 2], center = false)",
        K.LayerNormalization(axis=[1, 2], center=False), (2, 3, 4))
    add("GroupNormalization(groups = 2)", K.GroupNormalization(groups=2), (2, 3, 4))
    add("GroupNormalization(groups = -1)", K.GroupNormalization(groups=-1), (2, 3, 4))
    add("RMSNormalization()", K.RMSNormalization(), (2, 3, 4))
    add("UnitNormalization()", K.UnitNormalization(), (2, 4))
    for name in ["Add", "Multiply", "Subtract", "Average", "Maximum", "Minimum"]:
        add(f"{name}()", getattr(K, name)(), (2, 3), (2, 3), joined=True)
    add("Add()", K.Add(), (2, 3), (2, 3), (2, 3), joined=True)
    add("Concatenate()", K.Concatenate(), (2, 3), (2, 2), joined=True)
    add("Concatenate(axis = 1)", K.Concatenate(axis=1), (2, 1, 2), (2, 2, 2), joined=True)
    add("Dot(axes = 1)", K.Dot(axes=1), (2, 3), (2, 3), joined=True)
    add("Dot(axes = [1, 2], normalize = true)", K.Dot(axes=(1, 2), normalize=True), (2, 3, 2),
        (2, 4, 3), joined=True)
    add("ZeroPadding1D([1, 2])", K.ZeroPadding1D((1, 2)), (1, 2, 2))
    add("ZeroPadding2D([1, 0])", K.ZeroPadding2D((1, 0)), (1, 2, 2, 2))
    add("ZeroPadding2D([[1, 0], [0, 2]])", K.ZeroPadding2D(((1, 0), (0, 2))), (1, 2, 2, 2))
    add("ZeroPadding3D()", K.ZeroPadding3D(), (1, 1, 2, 1, 2))
    add("Cropping1D()", K.Cropping1D(), row)
    add("Cropping2D([[1, 2], [0, 1]])", K.Cropping2D(((1, 2), (0, 1))), image)
    add("Cropping3D([1, 1, 0])", K.Cropping3D((1, 1, 0)), cube)
    add("UpSampling1D()", K.UpSampling1D(), (1, 2, 2))
    add("UpSampling2D([2, 1])", K.UpSampling2D((2, 1)), (1, 2, 2, 2))
    add("UpSampling3D()", K.UpSampling3D(), (1, 1, 2, 1, 2))
    add("Rescaling(0.5, offset = -1.0)", K.Rescaling(.5, offset=-1.0), (2, 3))
    add("Normalization(mean = [1, 2, 3], variance = [4, 1, 0.25])",
        K.Normalization(mean=[1, 2, 3], variance=[4, 1, .25]), (2, 3))
    add("Normalization(axis = none, mean = 0.5, variance = 4.0, invert = true)",
        K.Normalization(axis=None, mean=.5, variance=4.0, invert=True), (2, 3))
    add("Attention()", K.Attention(), (2, 3, 2), (2, 4, 2), joined=True)
    add("Attention(use_scale = true)", K.Attention(use_scale=True), (2, 3, 2), (2, 4, 2), (2, 4, 2),
        joined=True)
    # With a dropout rate Keras takes its own path, in double precision; here it drops nothing.
    add("MultiHeadAttention(2, 3, value_dim = 2, dropout = 0.5)",
        K.MultiHeadAttention(2, 3, value_dim=2, dropout=0.5),
        (2, 3, 4), (2, 5, 4),
        names=["query/kernel", "query/bias", "key/kernel", "key/bias", "value/kernel", "value/bias",
               "attention_output/kernel", "attention_output/bias"])
    add("AdditiveAttention()", K.AdditiveAttention(), (2, 3, 2), (2, 4, 2), joined=True)
    add("AdditiveAttention(use_scale = false)", K.AdditiveAttention(use_scale=False), (2, 3, 2),
        (2, 4, 2), (2, 4, 2), joined=True)
    add("GroupQueryAttention(3, 4, 2, dropout = 0.5)", K.GroupQueryAttention(3, 4, 2, dropout=0.5),
        (2, 3, 4), (2, 5, 4),
        names=["query/kernel", "query/bias", "key/kernel", "key/bias", "value/kernel", "value/bias",
               "attention_output/kernel", "attention_output/bias"])
    add("EinsumDense(\"ab,bc->ac\", 3, bias_axes = \"c\", activation = tanh)",
        K.EinsumDense("ab,bc->ac", 3, bias_axes="c", activation="tanh"), (2, 4))
    add("EinsumDense(\"abc,cde->abde\", [none, 2, 5], bias_axes = \"e\")",
        K.EinsumDense("abc,cde->abde", (None, 2, 5), bias_axes="e"), (2, 3, 4))
    add("EinsumDense(\"abc,dbe->aced\", [4, 2, 5], bias_axes = \"cd\")",
        K.EinsumDense("abc,dbe->aced", (4, 2, 5), bias_axes="cd"), (2, 3, 4))
    add("EinsumDense(\"...x,xy->...y\", 3)", K.EinsumDense("...x,xy->...y", 3), (2, 3, 4))
    for name in ["Max", "Average"]:
        for rank, shape in [(1, row), (2, image), (3, cube)]:
            cls = getattr(K, f"Adaptive{name}Pooling{rank}D")
            add(f"Adaptive{name}Pooling{rank}D(2)", cls(2), shape)
    add("AdaptiveAveragePooling1D(4)", K.AdaptiveAveragePooling1D(4), row)
    add("AdaptiveMaxPooling2D([3, 1], data_format = \"channels_first\")",
        K.AdaptiveMaxPooling2D((3, 1), data_format="channels_first"), (2, 2, 5, 4))
    add("UpSampling2D([3, 2], interpolation = \"bilinear\")",
        K.UpSampling2D((3, 2), interpolation="bilinear"), (1, 3, 2, 2))
    add("CenterCrop(3, 2)", K.CenterCrop(3, 2), image)
    add("CenterCrop(7, 3)", K.CenterCrop(7, 3), image)
    add("Resizing(3, 7)", K.Resizing(3, 7), image)
    add("Resizing(7, 3, interpolation = \"nearest\")", K.Resizing(7, 3, interpolation="nearest"),
        image)
    add("Resizing(6, 3, crop_to_aspect_ratio = true)",
        K.Resizing(6, 3, crop_to_aspect_ratio=True), image)
    add("Resizing(6, 3, pad_to_aspect_ratio = true, fill_value = 2.0)",
        K.Resizing(6, 3, pad_to_aspect_ratio=True, fill_value=2.0), image)
    add("Resizing(4, 4, data_format = \"channels_first\")",
        K.Resizing(4, 4, data_format="channels_first"), (2, 2, 5, 3))
    for fill in ["reflect", "wrap", "constant", "nearest"]:
        given = f"fill_mode = \"{fill}\", fill_value = 0.5"
        more = {"fill_mode": fill, "fill_value": .5}
        add(f"RandomTranslation([0.65, 0.65], [-0.3, -0.3], {given})",
            K.RandomTranslation((.65, .65), (-.3, -.3), **more), image, training=True)
        add(f"RandomRotation([0.1, 0.1], {given})", K.RandomRotation((.1, .1), **more), image,
            training=True)
        add(f"RandomZoom([0.6, 0.6], [-0.3, -0.3], {given})",
            K.RandomZoom((.6, .6), (-.3, -.3), **more), image, training=True)
    add("RandomRotation([-0.2, -0.2], interpolation = \"nearest\")",
        K.RandomRotation((-.2, -.2), interpolation="nearest"), image, training=True)
    add("RandomRotation([0.3, 0.3], data_format = \"channels_first\")",
        K.RandomRotation((.3, .3), data_format="channels_first"), (2, 2, 5, 4), training=True)
    add("RandomZoom([0.4, 0.4])", K.RandomZoom((.4, .4)), image, training=True)
    add("RandomBrightness([0.3, 0.3], value_range = [-1, 1])",
        K.RandomBrightness((.3, .3), value_range=(-1, 1)), image, training=True)
    for name in ["RandomFlip()", "RandomTranslation(0.2, 0.2)", "RandomRotation(0.2)",
                 "RandomZoom(0.2)", "RandomContrast(0.2)", "RandomBrightness(0.2)"]:
        add(name, eval("K." + name), image, training=False)
    add("RandomCrop(3, 2)", K.CenterCrop(3, 2), image)
    write("layers.json", cases)


# --- recurrent layers -----------------------------------------------------------------------------

def recurrent():
    import jax
    K = keras.layers
    cases = []
    keep = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 1]], bool)

    def add(nn, layer, names, shape=(3, 4, 2), masked=False, states=(), **more):
        """All outputs, and the derivatives of sum(first ** 2) / batch by the weights. The input is
        wave(phase 0), initial state k is wave(phase k + 0.3), weight k is wave(phase k, scale 0.5)."""
        x = keras.ops.array(wave(shape))
        call = {}
        if masked:
            call["mask"] = keras.ops.array(keep)
        if states:
            call["initial_state"] = [keras.ops.array(wave(s, phase=k + .3))
                                     for k, s in enumerate(states)]
        layer(x, **call)
        weights = []
        for k, v in enumerate(layer.trainable_variables):
            v.assign(wave(v.shape, phase=k, scale=0.5))
            weights.append([names[k], list(v.shape)])
        assert len(names) == len(weights), [v.path for v in layer.trainable_variables]
        rest = [v.value for v in layer.non_trainable_variables]

        def loss(values):
            y = keras.tree.flatten(layer.stateless_call(values, rest, x, **call)[0])[0]
            return keras.ops.sum(y ** 2) / shape[0]

        gradients = jax.grad(loss)([v.value for v in layer.trainable_variables])
        outputs = [np.asarray(y) for y in keras.tree.flatten(layer(x, **call))]
        cases.append({"nn": nn, "input": list(shape), "mask": keep.ravel().astype(int).tolist()
                      if masked else [], "states": [list(s) for s in states], "weights": weights,
                      "outputs": [numbers(y) for y in outputs],
                      "gradients": [numbers(g) for g in gradients], **more})

    own = ["kernel", "recurrent_kernel", "bias"]
    h = (3, 3)
    add("SimpleRNN(3)", K.SimpleRNN(3), own)
    add("SimpleRNN(3, activation = relu, use_bias = false, return_sequences = true)",
        K.SimpleRNN(3, activation="relu", use_bias=False, return_sequences=True), own[:2])
    add("SimpleRNN(3, return_sequences = true, return_state = true, go_backwards = true)",
        K.SimpleRNN(3, return_sequences=True, return_state=True, go_backwards=True), own, states=[h])
    add("SimpleRNN(3, return_state = true)", K.SimpleRNN(3, return_state=True), own, masked=True)
    add("LSTM(3)", K.LSTM(3), own)
    add("LSTM(3, return_sequences = true, return_state = true)",
        K.LSTM(3, return_sequences=True, return_state=True), own, states=[h, h])
    add("LSTM(3, return_state = true, go_backwards = true)",
        K.LSTM(3, return_state=True, go_backwards=True), own, masked=True)
    add("LSTM(3, return_sequences = true)", K.LSTM(3, return_sequences=True), own, masked=True,
        states=[h, h])
    add("LSTM(3, activation = relu, recurrent_activation = hard_sigmoid, use_bias = false)",
        K.LSTM(3, activation="relu", recurrent_activation="hard_sigmoid", use_bias=False), own[:2])
    add("GRU(3)", K.GRU(3), own)
    add("GRU(3, return_sequences = true, return_state = true)",
        K.GRU(3, return_sequences=True, return_state=True), own, masked=True, states=[h])
    add("GRU(3, reset_after = false, return_state = true)",
        K.GRU(3, reset_after=False, return_state=True), own)
    add("GRU(3, reset_after = false, use_bias = false, go_backwards = true)",
        K.GRU(3, reset_after=False, use_bias=False, go_backwards=True), own[:2])
    add("GRU(3, use_bias = false, return_sequences = true)",
        K.GRU(3, use_bias=False, return_sequences=True), own[:2])

    def both(kind):
        return [f"{place}/{w}" for place in [kind, "backward"] for w in own]

    for mode in ["concat", "sum", "mul", "ave"]:
        add(f"Bidirectional(LSTM(3), merge_mode = \"{mode}\")",
            K.Bidirectional(K.LSTM(3), merge_mode=mode), both("lstm"))
    add("Bidirectional(GRU(3, return_sequences = true), merge_mode = none)",
        K.Bidirectional(K.GRU(3, return_sequences=True), merge_mode=None), both("gru"))
    add("Bidirectional(LSTM(3, return_sequences = true, return_state = true))",
        K.Bidirectional(K.LSTM(3, return_sequences=True, return_state=True)), both("lstm"),
        masked=True, states=[h] * 4)
    add("Bidirectional(SimpleRNN(3))", K.Bidirectional(K.SimpleRNN(3)), both("simple_rnn"),
        masked=True)
    add("Bidirectional(GRU(3, return_sequences = true), merge_mode = \"sum\", backward_layer = "
        "LSTM(3, return_sequences = true, go_backwards = true))",
        K.Bidirectional(K.GRU(3, return_sequences=True), merge_mode="sum",
                        backward_layer=K.LSTM(3, return_sequences=True, go_backwards=True)),
        [f"{place}/{w}" for place in ["gru", "lstm"] for w in own])
    add("RNN(LSTMCell(3), return_sequences = true, return_state = true)",
        K.RNN(K.LSTMCell(3), return_sequences=True, return_state=True), own, masked=True)
    add("RNN(GRUCell(3), return_sequences = true, zero_output_for_mask = true)",
        K.RNN(K.GRUCell(3), return_sequences=True, zero_output_for_mask=True), own, masked=True)
    add("RNN(GRUCell(3, reset_after = false), go_backwards = true)",
        K.RNN(K.GRUCell(3, reset_after=False), go_backwards=True), own)
    add("RNN([SimpleRNNCell(3), LSTMCell(2)], return_sequences = true)",
        K.RNN([K.SimpleRNNCell(3), K.LSTMCell(2)], return_sequences=True),
        [f"{cell}/{w}" for cell in ["simple_rnn_cell", "lstm_cell"] for w in own], masked=True)
    add("ConvLSTM1D(2, 2, return_sequences = true, return_state = true)",
        K.ConvLSTM1D(2, 2, return_sequences=True, return_state=True), own, shape=(2, 3, 4, 2))
    add("ConvLSTM2D(1, [2, 3], strides = [1, 2], padding = \"same\", activation = relu)",
        K.ConvLSTM2D(1, (2, 3), strides=(1, 2), padding="same", activation="relu"), own,
        shape=(2, 3, 2, 3, 2))
    add("ConvLSTM2D(2, 2, data_format = \"channels_first\", return_sequences = true)",
        K.ConvLSTM2D(2, 2, data_format="channels_first", return_sequences=True), own,
        shape=(2, 3, 1, 2, 3))
    add("ConvLSTM3D(1, 2, use_bias = false, go_backwards = true)",
        K.ConvLSTM3D(1, 2, use_bias=False, go_backwards=True), own[:2], shape=(1, 2, 2, 3, 2, 1))
    add("TimeDistributed(Dense(3, activation = tanh))",
        K.TimeDistributed(K.Dense(3, activation="tanh")), ["kernel", "bias"])
    add("TimeDistributed(Conv1D(2, 2))", K.TimeDistributed(K.Conv1D(2, 2)), ["kernel", "bias"],
        shape=(2, 3, 4, 2))
    write("recurrent.json", cases)


# --- masks ----------------------------------------------------------------------------------------

def masks():
    """Whole models: the loss of a batch, weighed by masks, and its derivatives by the weights."""
    import jax
    K, L = keras.layers, keras.losses
    cases = []
    tokens = np.array([[3, 1, 4, 0], [2, 0, 0, 0], [0, 5, 1, 2]])
    floats = wave((3, 4, 2), phase=.4) * (tokens != 0)[:, :, None]
    classes = np.array([[0, 1, 2, 0], [1, 2, 0, 1], [2, 2, 1, 0]])

    def add(nn, layers, names, x, target, loss, nn_loss, weight=None, training=False):
        inputs = keras.Input(x.shape[1:], dtype="int32" if x.dtype == tokens.dtype else "float64")
        model = keras.Model(inputs, layers(inputs))
        weights = []
        for k, v in enumerate(model.trainable_variables):
            v.assign(wave(v.shape, phase=k, scale=0.5))
            weights.append([names[k], list(v.shape)])
        assert len(names) == len(weights), [v.path for v in model.trainable_variables]
        rest = [v.value for v in model.non_trainable_variables]

        def total(values):
            y, _ = model.stateless_call(values, rest, keras.ops.array(x), training=training)
            return loss(target, y, sample_weight=None if weight is None else weight[:, None])

        start = [v.value for v in model.trainable_variables]
        value, gradients = jax.value_and_grad(total)(start)
        y = model(x)
        cases.append({"nn": nn, "x": numbers(x), "tokens": bool(x.dtype == tokens.dtype),
                      "target": numbers(target), "sparse": target.dtype == classes.dtype,
                      "loss": nn_loss, "weight": [] if weight is None else numbers(weight),
                      "training": training, "weights": weights, "predict": numbers(y),
                      "value": float(value), "gradients": [numbers(g) for g in gradients]})

    def chain(*layers):
        def run(x):
            for layer in layers:
                x = layer(x)
            return x
        return run

    def table():
        return K.Embedding(6, 3, mask_zero=True)

    own = ["kernel", "recurrent_kernel", "bias"]
    cross, nn_cross = (L.SparseCategoricalCrossentropy(from_logits=True),
                       "SparseCategoricalCrossentropy(from_logits = true)")
    square, nn_square = L.MeanSquaredError(), "MeanSquaredError()"
    real = wave((3, 1), phase=1.3)
    weight = np.array([.5, 2., 1.])
    e = "x |> Embedding(6, 3, mask_zero = true)"
    add(e + " |> LSTM(4, return_sequences = true) |> Dropout(0.5) |> Dense(3)",
        chain(table(), K.LSTM(4, return_sequences=True), K.Dropout(.5), K.Dense(3)),
        ["embeddings"] + ["lstm/" + w for w in own] + ["dense/kernel", "dense/bias"],
        tokens, classes, cross, nn_cross)
    add(e + " |> GRU(4) |> Dense(1)", chain(table(), K.GRU(4), K.Dense(1)),
        ["embeddings"] + ["gru/" + w for w in own] + ["dense/kernel", "dense/bias"],
        tokens, real, square, nn_square)
    add("x |> Masking() |> Dense(3, activation = tanh) |> LayerNormalization()"
        " |> SimpleRNN(3, return_sequences = true)",
        chain(K.Masking(), K.Dense(3, activation="tanh"), K.LayerNormalization(),
              K.SimpleRNN(3, return_sequences=True)),
        ["dense/kernel", "dense/bias", "gamma", "beta"] + ["simple_rnn/" + w for w in own],
        floats, wave((3, 4, 3), phase=2), square, nn_square)
    add(e + " |> Bidirectional(LSTM(2, return_sequences = true))"
        " |> Bidirectional(GRU(2, return_sequences = true), merge_mode = \"sum\")"
        " |> TimeDistributed(Dense(3))",
        chain(table(), K.Bidirectional(K.LSTM(2, return_sequences=True)),
              K.Bidirectional(K.GRU(2, return_sequences=True), merge_mode="sum"),
              K.TimeDistributed(K.Dense(3))),
        ["embeddings"] + [f"{place}/{w}" for place in
                          ["lstm", "bidirectional/backward", "gru", "bidirectional_1/backward"]
                          for w in own] + ["dense/kernel", "dense/bias"],
        tokens, classes, cross, nn_cross)
    add(e + " |> Dense(2) |> GlobalAveragePooling1D() |> Dense(1)",
        chain(table(), K.Dense(2), K.GlobalAveragePooling1D(), K.Dense(1)),
        ["embeddings", "dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"],
        tokens, real, square, nn_square)

    def attention(layer):
        def run(x):
            y = table()(x)
            return K.Dense(3)(layer(y))
        return run

    projections = [f"{name}/{w}" for name in ["query", "key", "value", "attention_output"]
                   for w in ["kernel", "bias"]]
    # With a dropout rate Keras takes its own path, in double precision; here it drops nothing.
    many = K.MultiHeadAttention(2, 3, dropout=0.5)
    add(f"y = {e}\nDense(3)(MultiHeadAttention(2, 3, dropout = 0.5)(y, y))",
        attention(lambda y: many(y, y)),
        ["embeddings"] + projections + ["dense/kernel", "dense/bias"],
        tokens, classes, cross, nn_cross)
    causal = K.MultiHeadAttention(2, 3, dropout=0.5)
    add(f"y = {e}\nDense(3)(MultiHeadAttention(2, 3, dropout = 0.5, use_causal_mask = true)"
        "(y, y))",
        attention(lambda y: causal(y, y, use_causal_mask=True)),
        ["embeddings"] + projections + ["dense/kernel", "dense/bias"],
        tokens, classes, cross, nn_cross)
    add(f"y = {e}\nDense(3)(Attention()([y, y]))", attention(lambda y: K.Attention()([y, y])),
        ["embeddings", "dense/kernel", "dense/bias"], tokens, classes, cross, nn_cross)
    add(e + " |> LSTM(4, return_sequences = true) |> Dense(3)",
        chain(table(), K.LSTM(4, return_sequences=True), K.Dense(3)),
        ["embeddings"] + ["lstm/" + w for w in own] + ["dense/kernel", "dense/bias"],
        tokens, classes, cross, nn_cross, weight=weight)
    # As many units as steps: the output of the last step has no mask all the same.
    add(e + " |> LSTM(4)", chain(table(), K.LSTM(4)), ["embeddings"] + ["lstm/" + w for w in own],
        tokens, wave((3, 4), phase=2), square, nn_square)
    add(e + " |> BatchNormalization() |> Dense(3)",
        chain(table(), K.BatchNormalization(), K.Dense(3)),
        ["embeddings", "gamma", "beta", "dense/kernel", "dense/bias"],
        tokens, classes, cross, nn_cross, training=True)
    write("masks.json", cases)


# --- categories, spectral normalization, CTC ------------------------------------------------------

def categories():
    """Layers of ints or of values between boundaries; `i` is [[3, 1, 4], [1, 5, 0]]."""
    K = keras.layers
    i, x = np.array([[3, 1, 4], [1, 5, 0]]), np.array([[-1., .5], [2., 7.]])
    cases = []
    for nn, layer, value in [
            ("CategoryEncoding(6)", K.CategoryEncoding(6), i),
            ("CategoryEncoding(6, output_mode = \"count\")",
             K.CategoryEncoding(6, output_mode="count"), np.array([[3, 1, 3], [1, 5, 0]])),
            ("CategoryEncoding(6, output_mode = \"one_hot\")",
             K.CategoryEncoding(6, output_mode="one_hot"), i),
            ("CategoryEncoding(6, output_mode = \"one_hot\")",
             K.CategoryEncoding(6, output_mode="one_hot"), i[:, :1]),
            ("Discretization([0.0, 0.5, 3.0])", K.Discretization([0., .5, 3.]), x),
            ("Discretization([0.0, 0.5, 3.0], output_mode = \"one_hot\")",
             K.Discretization([0., .5, 3.], output_mode="one_hot"), x),
            ("Discretization([0.0, 0.5, 3.0], output_mode = \"multi_hot\")",
             K.Discretization([0., .5, 3.], output_mode="multi_hot"), x)]:
        y = np.asarray(layer(value))
        cases.append({"nn": nn, "integers": value.dtype == i.dtype, "input": list(value.shape),
                      "x": numbers(value), "shape": list(y.shape), "y": numbers(y)})
    write("categories.json", cases)


def spectral():
    """Output and derivatives of sum(y ** 2) in training, and the vector that is left."""
    import jax
    K = keras.layers
    cases = []
    for nn, layer, shape in [
            ("SpectralNormalization(Dense(3))", K.SpectralNormalization(K.Dense(3)), (4, 5)),
            ("SpectralNormalization(Conv1D(2, 3, use_bias = false), power_iterations = 3)",
             K.SpectralNormalization(K.Conv1D(2, 3, use_bias=False), power_iterations=3), (2, 5, 2))]:
        x = keras.ops.array(wave(shape))
        layer(x)
        for k, v in enumerate(layer.trainable_variables):
            v.assign(wave(v.shape, phase=k, scale=0.5))
        rest = [v.value for v in layer.non_trainable_variables]
        at = [v.path.split("/")[-1] for v in layer.non_trainable_variables].index("vector_u")
        rest[at] = keras.ops.array(wave(rest[at].shape, phase=2))

        def loss(values):
            y, left = layer.stateless_call(values, rest, x, training=True)
            return keras.ops.sum(y ** 2), (y, left[at])

        start = [v.value for v in layer.trainable_variables]
        gradients, (y, vector) = jax.grad(loss, has_aux=True)(start)
        cases.append({"nn": nn, "input": list(shape), "y": numbers(y), "vector": numbers(vector),
                      "gradients": [numbers(g) for g in gradients]})
    write("spectral.json", cases)


def ctc():
    """Loss per row of logits wave([4, 7, 5], scale 2), and the derivatives of its mean."""
    import jax
    y = np.array([[1, 2, 3, 0], [2, 2, 2, 0], [4, 0, 0, 0], [1, 1, 3, 4]])
    x = keras.ops.array(wave((4, 7, 5), scale=2))
    loss = keras.losses.CTC(reduction=None)
    gradient = jax.grad(lambda x: keras.ops.mean(loss(y, x)))(x)
    write("ctc.json", [{"y": numbers(y), "loss": numbers(loss(y, x)),
                        "gradient": numbers(gradient)}])


# --- penalties and constraints --------------------------------------------------------------------

def weights():
    R, C = keras.regularizers, keras.constraints
    w = wave((3, 4), scale=1.5)
    cases = []
    for nn, f in [
            ("L1(0.1)", R.L1(.1)), ("L2(0.1)", R.L2(.1)), ("L1L2(0.1, 0.2)", R.L1L2(.1, .2)),
            ("OrthogonalRegularizer()", R.OrthogonalRegularizer()),
            ("OrthogonalRegularizer(0.1, mode = \"columns\")",
             R.OrthogonalRegularizer(.1, mode="columns")),
            ("MaxNorm(1.8)", C.MaxNorm(1.8)), ("MaxNorm(1.8, axis = 1)", C.MaxNorm(1.8, axis=1)),
            ("NonNeg()", C.NonNeg()), ("UnitNorm()", C.UnitNorm()),
            ("UnitNorm(axis = [0, 1])", C.UnitNorm(axis=[0, 1])),
            ("MinMaxNorm(0.5, 1.8, rate = 0.7)", C.MinMaxNorm(.5, 1.8, rate=.7))]:
        cases.append({"nn": nn, "y": numbers(f(keras.ops.array(w)))})
    write("weights.json", cases)


for part in [activations, losses, optimizers, schedules, metrics, layers, recurrent, masks, categories,
             spectral, ctc, weights]:
    if not sys.argv[1:] or part.__name__ in sys.argv[1:]:
        part()
