"""How far each engine is from the exact result, by dtype; `pytest -s
tests/test_precision.py`."""

import numpy as np
import pytest

from scipyconv.engines import matmul
from scipyconv.engines.choice import ENGINES
from scipyconv.geometry import Geometry

SHAPES = {"x": (2, 8, 30, 28), "w": (8, 8, 5, 4), "y": (2, 8, 26, 25)}
GEOMETRY = Geometry(
    SHAPES["x"], SHAPES["w"], SHAPES["y"], (1, 1), ((0, 0), (0, 0)), (1, 1), 1
)
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
MAPS = {
    "y": ("correlate", "x", "w"),
    "x": ("input_gradient", "w", "y"),
    "w": ("weight_gradient", "x", "y"),
}


def drawn(role, dtype):
    rng = np.random.default_rng("xwy".index(role))
    imaginary = 1j * rng.normal(size=SHAPES[role]) if np.dtype(dtype).kind == "c" else 0
    return (rng.normal(size=SHAPES[role]) + imaginary).astype(dtype)


def in_long_double(out, a, b):
    """The definition, tap by tap, in the widest numbers that there are."""
    wide = np.result_type(a, np.longdouble)
    a, b, result = a.astype(wide), b.astype(wide), np.zeros(SHAPES[out], wide)
    t, u = SHAPES["y"][2:]
    for i, j in np.ndindex(*SHAPES["w"][2:]):
        pixels = (slice(None), slice(None), slice(i, i + t), slice(j, j + u))
        if out == "y":
            result += np.einsum("ncpq,oc->nopq", a[pixels], b[:, :, i, j])
        elif out == "x":
            result[pixels] += np.einsum("oc,nopq->ncpq", a[:, :, i, j], b)
        else:
            result[:, :, i, j] = np.einsum("ncpq,nopq->oc", a[pixels], b)
    return result


def errors(method, out, dtype):
    """Largest and typical error over the largest and the typical number, in units of
    eps."""
    name, *roles = MAPS[out]
    a, b = (drawn(role, dtype) for role in roles)
    exact = in_long_double(out, a, b)
    error = np.abs(getattr(ENGINES[method], name)(a, b, GEOMETRY) - exact)
    size, eps = np.abs(exact), np.finfo(dtype).eps
    return [
        float(f(error) / f(size) / eps)
        for f in (np.max, lambda e: np.sqrt(np.mean(e**2)))
    ]


#: The most that is allowed, largest and typical. Direct rounds once, by half an eps,
#: from double. Sums of n numbers in random order err by √n/2 eps or so of a product; a
#: transform of N by log2 N. Products first are added over the channels by BLAS, and
#: then over the taps: in two short sums.
BOUNDS = {
    "direct": (0.51, 0.5),
    "matmul": (6, 4),
    "products first": (2.5, 1.5),
    "fft": (3, 2.5),
}


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="there is nothing wider"
)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("method", ENGINES)
def test_error_by_dtype(method, dtype):
    for out in MAPS:
        largest, typical = errors(method, out, dtype)
        print(
            f"{method:7} {np.dtype(dtype).name:11} {out}  largest {largest:5.2f} eps, "
            f"typical {typical:5.2f} eps"
        )
        single = np.finfo(dtype).bits == 32
        most = BOUNDS[method if single else "matmul" if method == "direct" else method]
        assert largest <= most[0]
        assert typical <= most[1]


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="there is nothing wider"
)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_products_first_err_as_little(dtype, monkeypatch):
    monkeypatch.setattr(matmul, "multiplies_first", lambda *_: True)
    for out in "yx":
        largest, typical = errors("matmul", out, dtype)
        print(
            f"first   {np.dtype(dtype).name:11} {out}  largest {largest:5.2f} eps, "
            f"typical {typical:5.2f} eps"
        )
        assert largest <= BOUNDS["products first"][0]
        assert typical <= BOUNDS["products first"][1]


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("method", ENGINES)
def test_error_bounds_hold_for_bad_numbers(method, dtype):
    """From 1e-4 to 1e4, side by side: fft errs by the largest, the others by each sum's
    own."""
    x, w = drawn("x", dtype), drawn("w", dtype)
    x *= (10.0 ** np.linspace(-4, 4, x.shape[-1])).astype(dtype)
    exact = in_long_double("y", x, w)
    error = np.abs(ENGINES[method].correlate(x, w, GEOMETRY) - exact)
    eps = np.finfo(dtype).eps
    if method == "fft":
        norms = np.linalg.norm(x.astype(float)) * np.linalg.norm(w.astype(float))
        assert error.max() <= np.log2(x[0, 0].size) * eps * norms
        assert error[..., 0].max() > 1e3 * eps * np.abs(exact[..., 0]).max()  # so it is
    else:
        n = w[0].size
        assert (error <= n * eps * in_long_double("y", np.abs(x), np.abs(w))).all()
