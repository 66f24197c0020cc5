"""PyTorch, eager and compiled.

Settings: oneDNN as built in, images and their filters channels-last (faster than channels-first on
CPUs), `fused` optimizers, scaled_dot_product_attention, nn.LSTM and nn.GRU, sparse gradients where
an embedding is trained by SGD and few of its rows are used. Mixed precision is autocast, around the
model and the loss as PyTorch's own examples have it.
"""
import time

import torch
import torch.nn.functional as F

ACTIVATIONS = {None: lambda x: x, "relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
               "gelu": F.gelu}


def matrix(w):
    return w.t().contiguous()


def filters(w):
    return w.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)


class Ops(torch.nn.Module):
    def __init__(self, weights, sparse=False):
        super().__init__()
        self.weights = weights  # arrays that are not parameters yet
        self.sparse = sparse
        self.own = {}           # name -> parameter or module

    def get(self, name, convert=lambda w: w, trained=True):
        if name not in self.own:
            w = torch.tensor(self.weights[name])
            p = torch.nn.Parameter(convert(w), requires_grad=trained)
            self.register_parameter(name.replace("/", "_"), p)
            self.own[name] = p
        return self.own[name]

    def dense(self, x, units, name, activation=None):
        y = F.linear(x, self.get(f"{name}/kernel", matrix), self.get(f"{name}/bias"))
        return ACTIVATIONS[activation](y)

    def image(self, x):
        return x.permute(0, 3, 1, 2)  # channels-last in memory already

    def conv(self, x, _, size, name, strides=1, pad=0, bias=False, activation=None):
        b = self.get(f"{name}/bias") if bias else None
        y = F.conv2d(x, self.get(f"{name}/kernel", filters), b, strides, pad)
        return ACTIVATIONS[activation](y)

    def max_pool(self, x, size, strides, pad=0):
        return F.max_pool2d(x, size, strides, pad)

    def batch_norm(self, x, name):
        if name + "/mean" not in self.own:
            for s, value in ("mean", 0.0), ("variance", 1.0):
                key = f"{name}/{s}"
                self.register_buffer(key.replace("/", "_"), torch.full([x.shape[1]], value))
                self.own[key] = getattr(self, key.replace("/", "_"))
        return F.batch_norm(x, self.own[name + "/mean"], self.own[name + "/variance"],
                            self.get(f"{name}/gamma"), self.get(f"{name}/beta"), training=True,
                            momentum=0.01, eps=1e-3)

    def layer_norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.get(f"{name}/gamma"), self.get(f"{name}/beta"),
                            1e-5)

    def relu(self, x):
        return F.relu(x)

    def mean_of_space(self, x):
        return x.mean((2, 3))

    def flatten(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)

    def recurrent(self, kind, x, units, name, order, biases):
        """`order`: where PyTorch's gates are in ours; `biases`: of the input, of the state."""
        if name not in self.own:
            layer = kind(x.shape[-1], units, batch_first=True)

            def gates(w):
                parts = torch.tensor(w).split(units, -1)
                return torch.cat([parts[i] for i in order], -1)
            with torch.no_grad():
                layer.weight_ih_l0.copy_(gates(self.weights[f"{name}/kernel"]).t())
                layer.weight_hh_l0.copy_(gates(self.weights[f"{name}/recurrent_kernel"]).t())
                inner, outer = biases(self.weights[f"{name}/bias"])
                layer.bias_ih_l0.copy_(gates(inner))
                layer.bias_hh_l0.zero_()
                if outer is None:
                    layer.bias_hh_l0.requires_grad = False  # one bias, as elsewhere
                else:
                    layer.bias_hh_l0.copy_(gates(outer))
            self.add_module("layer_" + name, layer)
            self.own[name] = layer
        return self.own[name](x)[0]

    def lstm(self, x, units, name):
        y = self.recurrent(torch.nn.LSTM, x, units, name, [0, 1, 2, 3], lambda b: (b, None))
        return y[:, -1]

    def gru(self, x, units, name):
        return self.recurrent(torch.nn.GRU, x, units, name, [1, 0, 2], lambda b: (b[0], b[1]))

    def embedding(self, x, rows, width, name):
        return F.embedding(x, self.get(f"{name}/embeddings"), sparse=self.sparse)

    def positions(self, context, rows, width, name):
        return self.get(f"{name}/embeddings")[:context]

    def causal_attention(self, x, heads):
        n, time, d = x.shape
        q, k, v = (z.reshape(n, time, heads, -1).transpose(1, 2) for z in x.chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2).reshape(n, time, d // 3)

    def tied(self, x, name):
        return F.linear(x, self.get(f"{name}/embeddings"))

    def column(self, x, i):
        return x[:, i]

    def interactions(self, bottom, vectors):
        v = torch.stack([bottom, *vectors], 1)
        pairs = torch.bmm(v, v.transpose(1, 2))
        i, j = torch.tril_indices(v.shape[1], v.shape[1], -1)
        return torch.cat([bottom, pairs[:, i, j]], 1)

    def weight(self, shape, name):
        return self.get(name)


LOSSES = {
    "classes": lambda t, y: F.cross_entropy(y.reshape(-1, y.shape[-1]), t.reshape(-1)),
    "binary": lambda t, y: F.binary_cross_entropy_with_logits(y, t),
    "mse": lambda t, y: F.mse_loss(y, t),
    "square": lambda t, y: (y * y).sum(),
}


class System:
    def __init__(self, workload, weights, data, threads, compiled=False, precision="float32"):
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        inputs = [torch.tensor(v) for k, v in data.items() if k != "target"]
        target = torch.tensor(data["target"]) if "target" in data else None
        if workload.loss == "classes":
            target = target.long()  # as cross_entropy wants it
        inputs = [x.long() if x.dtype == torch.int32 else x for x in inputs]
        sparse = workload.sparse and not compiled
        o = Ops(weights, sparse)
        with torch.no_grad():
            workload.model(o, *inputs)  # makes the parameters
        o.weights = None
        loss = LOSSES[workload.loss]

        mixed = precision == "mixed_bfloat16"

        def forward():
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
                return loss(target, workload.model(o, *inputs))
        trained = [p for p in o.parameters() if p.requires_grad]
        kind, rate, *rest = workload.optimizer
        if kind == "adam":
            self.optimizer = torch.optim.Adam(trained, rate, eps=1e-7, fused=True)
        elif sparse:
            self.optimizer = torch.optim.SGD(trained, rate)
        else:
            self.optimizer = torch.optim.SGD(trained, rate, momentum=rest[0], fused=True)
        self.forward = torch.compile(forward) if compiled else forward

    def steps(self, n):
        """Makes n steps; gives the seconds they took and the loss of the last one."""
        begin = time.perf_counter()
        for _ in range(n):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.forward()
            loss.backward()
            self.optimizer.step()
        seconds = time.perf_counter() - begin
        return seconds, loss.item()


def version():
    return "PyTorch " + torch.__version__
