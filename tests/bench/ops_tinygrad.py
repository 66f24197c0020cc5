"""tinygrad on the CPU, its step captured by TinyJit.

The generated code goes through LLVM where tinygrad finds it, else through the C compiler; kernels are
not searched for (BEAM), which takes minutes to hours per network. Recurrences are unrolled.
"""
import time

from tinygrad import Context, Tensor, TinyJit
from tinygrad.nn.optim import SGD, Adam

ACTIVATIONS = {None: lambda x: x, "relu": Tensor.relu, "tanh": Tensor.tanh,
               "sigmoid": Tensor.sigmoid,
               "gelu": lambda x: 0.5 * x * (1 + (x * 0.7071067811865476).erf())}


class Ops:
    def __init__(self, weights):
        self.weights = {k: Tensor(v.copy()).realize() for k, v in weights.items()
                        if not k.endswith(("moving_mean", "moving_variance"))}

    def dense(self, x, units, name, activation=None):
        y = x @ self.weights[f"{name}/kernel"] + self.weights[f"{name}/bias"]
        return ACTIVATIONS[activation](y)

    def image(self, x):
        return x.permute(0, 3, 1, 2)

    def conv(self, x, _, size, name, strides=1, pad=0, bias=False, activation=None):
        kernel = self.weights[f"{name}/kernel"].permute(3, 2, 0, 1)
        b = self.weights[f"{name}/bias"] if bias else None
        return ACTIVATIONS[activation](x.conv2d(kernel, b, stride=strides, padding=pad))

    def max_pool(self, x, size, strides, pad=0):
        return x.max_pool2d((size, size), strides, padding=pad)

    def batch_norm(self, x, name):
        mean = x.mean((0, 2, 3))
        centred = x - mean.reshape(1, -1, 1, 1)
        factor = ((centred * centred).mean((0, 2, 3)) + 1e-3).rsqrt() * self.weights[f"{name}/gamma"]
        return centred * factor.reshape(1, -1, 1, 1) + \
            self.weights[f"{name}/beta"].reshape(1, -1, 1, 1)

    def layer_norm(self, x, name):
        return x.layernorm(eps=1e-5) * self.weights[f"{name}/gamma"] + self.weights[f"{name}/beta"]

    def relu(self, x):
        return x.relu()

    def mean_of_space(self, x):
        return x.mean((2, 3))

    def flatten(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)

    def lstm(self, x, units, name):
        p = x @ self.weights[f"{name}/kernel"] + self.weights[f"{name}/bias"]
        inner = self.weights[f"{name}/recurrent_kernel"]
        h = c = Tensor.zeros(x.shape[0], units)
        for t in range(x.shape[1]):
            i, f, g, o = (p[:, t] + h @ inner).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return h

    def gru(self, x, units, name):
        bias = self.weights[f"{name}/bias"]
        p = x @ self.weights[f"{name}/kernel"] + bias[0]
        inner = self.weights[f"{name}/recurrent_kernel"]
        h, out = Tensor.zeros(x.shape[0], units), []
        for t in range(x.shape[1]):
            p_z, p_r, p_h = p[:, t].chunk(3, -1)
            q_z, q_r, q_h = (h @ inner + bias[1]).chunk(3, -1)
            z, r = (p_z + q_z).sigmoid(), (p_r + q_r).sigmoid()
            h = z * h + (1 - z) * (p_h + r * q_h).tanh()
            out.append(h)
        return Tensor.stack(*out, dim=1)

    def embedding(self, x, rows, width, name):
        return self.weights[f"{name}/embeddings"][x]

    def positions(self, context, rows, width, name):
        return self.weights[f"{name}/embeddings"][:context]

    def causal_attention(self, x, heads):
        n, time_, d = x.shape
        q, k, v = (z.reshape(n, time_, heads, -1).transpose(1, 2) for z in x.chunk(3, -1))
        y = q.scaled_dot_product_attention(k, v, is_causal=True)
        return y.transpose(1, 2).reshape(n, time_, d // 3)

    def tied(self, x, name):
        return x @ self.weights[f"{name}/embeddings"].T

    def column(self, x, i):
        return x[:, i]

    def interactions(self, bottom, vectors):
        v = Tensor.stack(bottom, *vectors, dim=1)
        pairs = v @ v.transpose(1, 2)
        rows = [pairs[:, i, :i] for i in range(1, v.shape[1])]
        return bottom.cat(*rows, dim=1)

    def weight(self, shape, name):
        return self.weights[name]


def binary(t, y):
    return (y.maximum(0) - t * y + (1 + (-y.abs()).exp()).log()).mean()


LOSSES = {
    "classes": lambda t, y: y.reshape(-1, y.shape[-1]).sparse_categorical_crossentropy(t.flatten()),
    "binary": binary,
    "mse": lambda t, y: ((y - t) ** 2).mean(),
    "square": lambda t, y: (y * y).sum(),
}


class System:
    def __init__(self, workload, weights, data, threads):
        inputs = [Tensor(v).realize() for k, v in data.items() if k != "target"]
        target = Tensor(data["target"]).realize() if "target" in data else None
        o = Ops(weights)
        trained = list(o.weights.values())
        kind, rate, *rest = workload.optimizer
        optimizer = Adam(trained, rate, eps=1e-7) if kind == "adam" else SGD(trained, rate, rest[0])
        loss = LOSSES[workload.loss]

        @TinyJit
        def step():
            optimizer.zero_grad()
            value = loss(target, workload.model(o, *inputs)).backward()
            return value.realize(*optimizer.schedule_step())
        self.step = step

    def steps(self, n):
        begin = time.perf_counter()
        with Context(TRAINING=1):
            for _ in range(n):
                loss = self.step()
        value = loss.item()
        return time.perf_counter() - begin, value
