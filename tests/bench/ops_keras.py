"""Keras on TensorFlow: its layers and optimizers in a step that is one tf.function, with XLA or without.

A step of one's own does less around the network than `fit`. The statistics of batch normalization
are kept as `fit` keeps them.
"""
import os
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402


class Ops:
    """Layers are made with their weights at the first use, and kept by name."""

    def __init__(self, weights):
        self.weights = weights
        self.layers = {}

    def apply(self, name, make, x, *weights):
        if name not in self.layers:
            layer = self.layers[name] = make()
            layer.build(x.shape)
            layer.set_weights([self.weights[f"{name}/{w}"] for w in weights])
        return self.layers[name](x, training=True)

    def dense(self, x, units, name, activation=None):
        return self.apply(name, lambda: layers.Dense(units, activation), x, "kernel", "bias")

    def image(self, x):
        return x

    def conv(self, x, filters, size, name, strides=1, pad=0, bias=False, activation=None):
        same = pad and strides == 1  # then both paddings are the same, and this one costs nothing
        if pad and not same:
            x = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
        make = lambda: layers.Conv2D(filters, size, strides, "same" if same else "valid",
                                     activation=activation, use_bias=bias)
        return self.apply(name, make, x, "kernel", *(["bias"] if bias else []))

    def max_pool(self, x, size, strides, pad=0):
        if pad:  # what comes in is not negative
            x = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
        return tf.nn.max_pool2d(x, size, strides, "VALID")

    def batch_norm(self, x, name):
        return self.apply(name, layers.BatchNormalization, x, "gamma", "beta", "moving_mean",
                          "moving_variance")

    def layer_norm(self, x, name):
        return self.apply(name, lambda: layers.LayerNormalization(epsilon=1e-5), x, "gamma", "beta")

    def relu(self, x):
        return tf.nn.relu(x)

    def mean_of_space(self, x):
        return tf.reduce_mean(x, (1, 2))

    def flatten(self, x):
        return tf.reshape(x, (x.shape[0], -1))

    def lstm(self, x, units, name):
        return self.apply(name, lambda: layers.LSTM(units), x, "kernel", "recurrent_kernel", "bias")

    def gru(self, x, units, name):
        return self.apply(name, lambda: layers.GRU(units, return_sequences=True), x, "kernel",
                          "recurrent_kernel", "bias")

    def embedding(self, x, rows, width, name):
        return self.apply(name, lambda: layers.Embedding(rows, width), x, "embeddings")

    def positions(self, context, rows, width, name):
        return self.embedding(tf.range(context), rows, width, name)

    def causal_attention(self, x, heads):
        n, time_, d = x.shape
        q, k, v = (tf.reshape(z, (n, time_, heads, -1)) for z in tf.split(x, 3, -1))
        y = keras.ops.dot_product_attention(q, k, v, is_causal=True)
        return tf.reshape(y, (n, time_, d // 3))

    def tied(self, x, name):
        return tf.matmul(x, self.layers[name].embeddings, transpose_b=True)

    def column(self, x, i):
        return x[:, i]

    def interactions(self, bottom, vectors):
        v = tf.stack([bottom, *vectors], 1)
        pairs = tf.matmul(v, v, transpose_b=True)
        n = v.shape[1]
        places = [i * n + j for i in range(n) for j in range(i)]
        pairs = tf.gather(tf.reshape(pairs, (-1, n * n)), places, axis=1)
        return tf.concat([bottom, pairs], 1)

    def weight(self, shape, name):
        if name not in self.layers:
            layer = self.layers[name] = layers.Layer()
            layer.w = layer.add_weight(shape=shape, name=name)
            layer.w.assign(self.weights[name])
        return self.layers[name].w.value


LOSSES = {
    "classes": lambda t, y: tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=t, logits=y)),
    "binary": lambda t, y: tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=t, logits=y)),
    "mse": lambda t, y: tf.reduce_mean((y - t) ** 2),
    "square": lambda t, y: tf.reduce_sum(y * y),
}


class System:
    def __init__(self, workload, weights, data, threads, xla, precision="float32"):
        keras.config.set_dtype_policy(precision)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        inputs = [tf.constant(v) for k, v in data.items() if k != "target"]
        target = tf.constant(data["target"]) if "target" in data else None
        o = Ops(weights)
        workload.model(o, *inputs)  # makes the layers
        trained = [v for layer in o.layers.values() for v in layer.trainable_variables]
        kind, rate, *rest = workload.optimizer
        optimizer = (keras.optimizers.Adam(rate) if kind == "adam"
                     else keras.optimizers.SGD(rate, momentum=float(rest[0])))
        optimizer.build(trained)
        loss = LOSSES[workload.loss]

        @tf.function(jit_compile=xla)
        def step():
            with tf.GradientTape() as tape:
                value = loss(target, workload.model(o, *inputs))
            optimizer.apply(tape.gradient(value, [v.value for v in trained]), trained)
            return value
        self.step = step

    def steps(self, n):
        begin = time.perf_counter()
        for _ in range(n):
            loss = self.step()
        loss = float(loss)
        return time.perf_counter() - begin, loss
