#!/usr/bin/env python3
"""Reference values for the functions of tensors in the standard library, from JAX in double precision.

    python3 make_ops.py         # writes ops.json next to this file

A case holds the text of an expression in .nn over a: [3, 4], s: [4, 4], v: [5] and i: i32[3, 2], its
value, and, unless that is whole numbers, the derivatives of sum(y * weight) by a, s and v. Inputs and
weight are formulas, the same as in tests/library_ops_test.cpp.
"""
import json
import os

import jax
import jax.numpy as np
import numpy

jax.config.update("jax_enable_x64", True)
HERE = os.path.dirname(os.path.abspath(__file__))


def wave(shape, phase=0.0, scale=1.0, shift=0.0):
    """Element i in row-major order: shift + scale * sin(0.7 * i + phase)."""
    n = int(numpy.prod(shape))
    return (shift + scale * numpy.sin(0.7 * numpy.arange(n) + phase)).reshape(shape)


A = wave((3, 4), 0.3, 2.0)
S = wave((4, 4), 0.9) + 1.5 * numpy.eye(4)
V = wave((5,), 0.1, 1.0)
I = numpy.array([[2, 0], [1, 3], [-1, 2]])


def spd(s):
    return s @ s.T + 0.5 * np.eye(4)


SPD = "(s @ transpose(s) + 0.5 * eye(4))"

CASES = [
    # elementwise
    ("reciprocal(a)", lambda a, s, v: 1 / a),
    ("exp2(a)", lambda a, s, v: np.exp2(a)),
    ("log2(abs(a))", lambda a, s, v: np.log2(abs(a))),
    ("log10(abs(a))", lambda a, s, v: np.log10(abs(a))),
    ("logaddexp(a, s[:3])", lambda a, s, v: np.logaddexp(a, s[:3])),
    ("hypot(a, s[:3])", lambda a, s, v: np.hypot(a, s[:3])),
    ("cbrt(a)", lambda a, s, v: np.cbrt(a)),
    ("arcsinh(3 * a)", lambda a, s, v: np.arcsinh(3 * a)),
    ("arccosh(1.1 + abs(a))", lambda a, s, v: np.arccosh(1.1 + abs(a))),
    ("arctanh(a / 3)", lambda a, s, v: np.arctanh(a / 3)),
    ("sinc(a)", lambda a, s, v: np.sinc(a)),
    ("deg2rad(a)", lambda a, s, v: np.deg2rad(a)),
    ("rad2deg(a)", lambda a, s, v: np.rad2deg(a)),
    ("trunc(3 * a)", lambda a, s, v: np.trunc(3 * a)),
    ("heaviside(a, 0.5)", lambda a, s, v: np.heaviside(a, 0.5)),
    ("isclose(a, a + 1e-9)", lambda a, s, v: np.isclose(a, a + 1e-9)),
    # arrangement
    ("ravel(a)", lambda a, s, v: a.ravel()),
    ("full_like(a, 2)", lambda a, s, v: np.full_like(a, 2)),
    ("swapaxes(a, 0, -1)", lambda a, s, v: np.swapaxes(a, 0, -1)),
    ("moveaxis(reshape(a, [3, 2, 2]), 0, -1)",
     lambda a, s, v: np.moveaxis(a.reshape(3, 2, 2), 0, -1)),
    ("tile(a, 2)", lambda a, s, v: np.tile(a, 2)),
    ("tile(a, [2, 1, 3])", lambda a, s, v: np.tile(a, (2, 1, 3))),
    ("tile(v, [2, 2])", lambda a, s, v: np.tile(v, (2, 2))),
    ("repeat(a, 2, axis = 1)", lambda a, s, v: np.repeat(a, 2, axis=1)),
    ("repeat(a, 3, 0)", lambda a, s, v: np.repeat(a, 3, axis=0)),
    ("repeat(a, 2)", lambda a, s, v: np.repeat(a, 2)),
    ("roll(a, 1, axis = 1)", lambda a, s, v: np.roll(a, 1, axis=1)),
    ("roll(a, -5, axis = 0)", lambda a, s, v: np.roll(a, -5, axis=0)),
    ("roll(a, 3)", lambda a, s, v: np.roll(a, 3)),
    ("unstack(a)[1] + unstack(transpose(a), axis = 1)[0]", lambda a, s, v: a[1] + a[0]),
    ("diff(a)", lambda a, s, v: np.diff(a)),
    ("diff(a, n = 2, axis = 0)", lambda a, s, v: np.diff(a, n=2, axis=0)),
    ("meshgrid(v, a[0])[0]", lambda a, s, v: np.meshgrid(v, a[0])[0]),
    ("meshgrid(v, a[0])[1]", lambda a, s, v: np.meshgrid(v, a[0])[1]),
    ("v * linspace(-1, 2, 5)", lambda a, s, v: v * np.linspace(-1, 2, 5)),
    ("v * linspace(0, 1, 5, endpoint = false)",
     lambda a, s, v: v * np.linspace(0, 1, 5, endpoint=False)),
    ("v * logspace(0, 2, num = 5)", lambda a, s, v: v * np.logspace(0, 2, 5)),
    ("space_to_depth(reshape(s, [1, 4, 2, 2]), 2)",
     lambda a, s, v: s.reshape(1, 2, 2, 1, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(1, 2, 1, 8)),
    ("depth_to_space(reshape(s, [1, 2, 1, 8]), 2)",
     lambda a, s, v: s.reshape(1, 2, 1, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(1, 4, 2, 2)),
    # looking up
    ("argmin(a)", lambda a, s, v: np.argmin(a, -1)),
    ("argmin(a, axis = 0, keepdims = true)", lambda a, s, v: np.argmin(a, 0, keepdims=True)),
    ("take_along_axis(a, i)", lambda a, s, v: np.take_along_axis(a, I, -1)),
    ("take_along_axis(transpose(a), transpose(i), axis = 0)",
     lambda a, s, v: np.take_along_axis(a.T, I.T, 0)),
    ("top_k(a, 2)[0]", lambda a, s, v: jax.lax.top_k(a, 2)[0]),
    ("top_k(a, 3)[1]", lambda a, s, v: jax.lax.top_k(a, 3)[1]),
    ("searchsorted(sort(v), a)", lambda a, s, v: np.searchsorted(np.sort(v), a)),
    ("searchsorted(sort(v), v, side = \"right\")",
     lambda a, s, v: np.searchsorted(np.sort(v), v, side="right")),
    ("digitize(a, [-1.0, 0.0, 0.5])", lambda a, s, v: np.digitize(a, np.array([-1.0, 0.0, 0.5]))),
    # statistics
    ("ptp(a)", lambda a, s, v: np.ptp(a)),
    ("ptp(a, axis = 1)", lambda a, s, v: np.ptp(a, axis=1)),
    ("average(a, abs(s[:3]), axis = 1)",
     lambda a, s, v: np.average(a, axis=1, weights=abs(s[:3]))),
    ("average(a, [1, 2, 3, 4])",
     lambda a, s, v: np.average(a, weights=np.broadcast_to(np.array([1.0, 2, 3, 4]), (3, 4)))),
    ("count_nonzero(maximum(a, 0), axis = 0)",
     lambda a, s, v: np.count_nonzero(np.maximum(a, 0), axis=0)),
    ("quantile(a, 0.3)", lambda a, s, v: np.quantile(a, 0.3)),
    ("quantile(a, 0.9, axis = 0, keepdims = true)",
     lambda a, s, v: np.quantile(a, 0.9, axis=0, keepdims=True)),
    ("percentile(a, 100, axis = 1)", lambda a, s, v: np.percentile(a, 100, axis=1)),
    ("median(a)", lambda a, s, v: np.median(a)),
    ("median(a, axis = 0)", lambda a, s, v: np.median(a, axis=0)),
    ("bincount(where(i < 0, 3, i), 5)",
     lambda a, s, v: np.bincount(np.where(I < 0, 3, I).ravel(), length=5)),
    ("histogram(a, 4, -2, 2)", lambda a, s, v: np.histogram(a, 4, range=(-2, 2))[0]),
    ("cumprod(a)", lambda a, s, v: np.cumprod(a, -1)),
    ("cumprod(a, axis = 0)", lambda a, s, v: np.cumprod(a, 0)),
    ("trapezoid(a, dx = 0.5)", lambda a, s, v: np.trapezoid(a, dx=0.5)),
    ("trapezoid(a, axis = 0)", lambda a, s, v: np.trapezoid(a, axis=0)),
    # matrices
    ("norm(a)", lambda a, s, v: np.linalg.norm(a)),
    ("norm(a, axis = 1, keepdims = true)",
     lambda a, s, v: np.linalg.norm(a, axis=1, keepdims=True)),
    ("dot(v, 2 * v)", lambda a, s, v: np.dot(v, 2 * v)),
    ("dot(a, s)", lambda a, s, v: np.dot(a, s)),
    ("outer(v, a)", lambda a, s, v: np.outer(v, a)),
    ("tensordot(reshape(a, [3, 2, 2]), reshape(s, [2, 2, 4]))",
     lambda a, s, v: np.tensordot(a.reshape(3, 2, 2), s.reshape(2, 2, 4))),
    ("tensordot(a, v, axes = 0)", lambda a, s, v: np.tensordot(a, v, axes=0)),
    ("tensordot(reshape(a, [3, 2, 2]), reshape(s, [2, 4, 2]), axes = [[2, 1], [0, 2]])",
     lambda a, s, v: np.tensordot(a.reshape(3, 2, 2), s.reshape(2, 4, 2), axes=[[2, 1], [0, 2]])),
    ("kron(a[:2, :2], s[:2, :3])", lambda a, s, v: np.kron(a[:2, :2], s[:2, :3])),
    ("diag(v)", lambda a, s, v: np.diag(v)),
    ("trace(s)", lambda a, s, v: np.trace(s)),
    ("cdist(a, s)", lambda a, s, v: np.linalg.norm(a[:, None] - s[None], axis=-1)),
    ("solve(s, transpose(a))", lambda a, s, v: np.linalg.solve(s, a.T)),
    ("solve(s, a[1])", lambda a, s, v: np.linalg.solve(s, a[1])),
    ("inv(s)", lambda a, s, v: np.linalg.inv(s)),
    ("inv(stack([s, transpose(s) - 2 * eye(4)]))",
     lambda a, s, v: np.linalg.inv(np.stack([s, s.T - 2 * np.eye(4)]))),
    ("inv(flip(s, 0))", lambda a, s, v: np.linalg.inv(np.flip(s, 0))),
    ("det(s)", lambda a, s, v: np.linalg.det(s)),
    ("det(stack([s, flip(s, 1)]))",
     lambda a, s, v: np.linalg.det(np.stack([s, np.flip(s, 1)]))),
    ("slogdet(flip(s, 1))[0]", lambda a, s, v: np.linalg.slogdet(np.flip(s, 1))[0]),
    ("slogdet(s)[1]", lambda a, s, v: np.linalg.slogdet(s)[1]),
    (f"cholesky({SPD})", lambda a, s, v: np.linalg.cholesky(spd(s), symmetrize_input=False)),
    (f"cholesky(stack([{SPD}, eye(4)]))",
     lambda a, s, v: np.linalg.cholesky(np.stack([spd(s), np.eye(4)]), symmetrize_input=False)),
    ("solve_triangular(triu(s), transpose(a))",
     lambda a, s, v: jax.scipy.linalg.solve_triangular(s, a.T)),
    ("solve_triangular(tril(s), transpose(a), lower = true)",
     lambda a, s, v: jax.scipy.linalg.solve_triangular(s, a.T, lower=True)),
    ("qr(s)[0]", lambda a, s, v: (lambda q, r: q * np.sign(np.diag(r)))(*np.linalg.qr(s))),
    ("qr(s)[1]", lambda a, s, v: (lambda q, r: r * np.sign(np.diag(r))[:, None])(*np.linalg.qr(s))),
]


def numbers(x):
    return [float("%.12g" % v) for v in numpy.asarray(x, dtype=numpy.float64).ravel()]


def main():
    cases = []
    for text, f in CASES:
        y = f(np.asarray(A), np.asarray(S), np.asarray(V))
        case = {"nn": text, "y": numbers(y), "rank": y.ndim}
        if np.issubdtype(y.dtype, np.floating):
            weight = numpy.sin(1.3 * numpy.arange(y.size) + 0.4).reshape(y.shape)
            total = lambda a, s, v: np.sum(f(a, s, v) * weight)
            for name, g in zip("asv", jax.grad(total, argnums=(0, 1, 2))(A, S, V)):
                if numpy.any(g):
                    case["d" + name] = numbers(g)
        cases.append(case)
    with open(os.path.join(HERE, "ops.json"), "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


if __name__ == "__main__":
    main()
