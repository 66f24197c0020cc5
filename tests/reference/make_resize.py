#!/usr/bin/env python3
"""Images as Keras resizes them: bilinearly, without smoothing.

    python3 make_resize.py         # writes resize.json next to this file

The image is a formula, pixel (y, x, c) being (37 * y * y + 91 * x + 53 * c + 11 * x * y) % 256.
"""
import json
import os

import numpy as np

from double_keras import keras

HERE = os.path.dirname(os.path.abspath(__file__))


def image(height, width, channels):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    return ((37 * y * y + 91 * x + 53 * c + 11 * x * y) % 256).astype("float64")


def main():
    cases = []
    for start, size in [((5, 7), (3, 4)), ((8, 8), (4, 4)), ((3, 2), (6, 5)), ((10, 10), (7, 9)),
                        ((4, 4), (4, 4)), ((1, 1), (2, 3)), ((6, 9), (1, 2))]:
        for channels in (1, 3):
            out = keras.ops.image.resize(image(*start, channels), size, interpolation="bilinear",
                                         antialias=False, data_format="channels_last")
            values = [float("%.8g" % v) for v in np.asarray(out).ravel()]
            cases.append({"from": start, "to": size, "channels": channels, "values": values})
    with open(os.path.join(HERE, "resize.json"), "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


if __name__ == "__main__":
    main()
