"""Weights in files (safetensors) and as the systems start from them.

The first weights are those that a training binary makes: it saves them after a step with a learning
rate of 0. What a step changes besides, the statistics of batch normalization, is no part of the loss
of training steps.
"""
import json
import struct

import numpy as np

TYPES = {"F32": np.float32, "I32": np.int32, "I64": np.int64}


def load(path):
    """Name -> array, mapped: nothing is read before it is used."""
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
    data = np.memmap(path, np.uint8, "r", 8 + size)
    arrays = {}
    for name, t in header.items():
        if name == "__metadata__":
            continue
        begin, end = t["data_offsets"]
        arrays[name] = np.frombuffer(data[begin:end], TYPES[t["dtype"]]).reshape(t["shape"])
    return arrays


def save(path, arrays):
    header, offset = {}, 0
    names = {np.dtype(v): k for k, v in TYPES.items()}
    for name, a in arrays.items():
        header[name] = {"dtype": names[a.dtype], "shape": list(a.shape),
                        "data_offsets": [offset, offset + a.nbytes]}
        offset += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for a in arrays.values():
            f.write(np.ascontiguousarray(a).tobytes())


def keep_weights(path, out):
    """Drops what belongs to the optimizer and the count of steps."""
    save(out, {k: v for k, v in load(path).items() if k.startswith("net/")})


def of_model(path):
    """The weights by the names that models.py uses."""
    return {k.removeprefix("net/"): v for k, v in load(path).items()}
