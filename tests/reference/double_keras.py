"""Keras on JAX in double precision throughout.

Keras promotes to at most float32 on this backend whatever `floatx` says; one entry of its promotion
table is why.
"""
import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_ENABLE_X64"] = "1"
import keras  # noqa: E402
from keras.src.backend.common import dtypes  # noqa: E402

keras.config.set_floatx("float64")
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
assert dtypes.result_type("float64", float, "float32") == "float64"
