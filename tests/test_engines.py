"""Each engine against the definition, written out as loops; NumPy alone, as in the engines."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from scipyconv.engines.choice import ENGINES
from scipyconv.engines.direct import phases

# x's spatial size, taps, stride, dilation, and how many pixels no window reaches.
GEOMETRIES = [
    ((5,), (3,), (1,), (1,)),
    ((9,), (2,), (3,), (1,)),  # the stride leaves a pixel over
    ((9,), (3,), (1,), (2,)),
    ((12,), (3,), (4,), (2,)),
    ((13,), (4,), (2,), (3,)),
    ((4,), (1,), (5,), (1,)),
    ((4, 5), (2, 3), (1, 1), (1, 1)),
    ((7, 6), (2, 3), (2, 3), (3, 1)),
    ((6, 9), (3, 2), (3, 2), (2, 4)),
    ((9, 10), (4, 3), (1, 1), (1, 1)),  # large enough to go plane by plane
    ((3, 4, 5), (2, 1, 3), (1, 2, 1), (1, 1, 2)),
]
CHANNELS = [(2, 1, 1, 1), (1, 2, 3, 1), (2, 2, 1, 3), (3, 1, 2, 2)]  # batch, C, O, groups


def sizes(geometry, channels):
    """The shapes of x, w and y."""
    pixels, taps, stride, dilation = geometry
    batch, c, o, groups = channels
    outputs = [(n - d * (k - 1) - 1) // s + 1
               for n, k, s, d in zip(pixels, taps, stride, dilation, strict=True)]
    return ((batch, groups * c, *pixels), (groups * o, c, *taps), (batch, groups * o, *outputs))


def terms(shapes, stride, dilation, groups):
    """Every product of the trilinear form, as the indices of its three factors."""
    _, w_shape, y_shape = shapes
    outputs, channels = w_shape[0] // groups, w_shape[1]
    for n, o in np.ndindex(*y_shape[:2]):
        for t, c in itertools.product(np.ndindex(*y_shape[2:]), range(channels)):
            for k in np.ndindex(*w_shape[2:]):
                p = tuple(s * i + d * j
                          for s, i, d, j in zip(stride, t, dilation, k, strict=True))
                yield (n, o // outputs * channels + c, *p), (o, c, *k), (n, o, *t)


def by_definition(shapes, arrays, missing, stride, dilation, groups):
    """The derivative of the form by the array that is missing."""
    result = np.zeros(shapes["xwy".index(missing)], arrays[0].dtype)
    for indices in terms(shapes, stride, dilation, groups):
        known = [role for role in "xwy" if role != missing]
        factors = [a[indices["xwy".index(r)]] for a, r in zip(arrays, known, strict=True)]
        result[indices["xwy".index(missing)]] += factors[0] * factors[1]
    return result


def run(engine, missing, arrays, shape, *geometry):
    """The engine's result; arrays in the order x, w, y without the missing one."""
    if missing == "x":
        w, g = arrays
        return engine.input_gradient(g, w, shape, *geometry)
    function = engine.correlate if missing == "y" else engine.weight_gradient
    return function(*arrays, shape, *geometry)


def drawn(shape, dtype, rng):
    if np.issubdtype(dtype, np.integer):
        return rng.integers(-9, 9, shape).astype(dtype)
    imaginary = 1j * rng.normal(size=shape) if np.issubdtype(dtype, np.complexfloating) else 0
    return (rng.normal(size=shape) + imaginary).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128, np.int64])
@pytest.mark.parametrize("missing", "xwy")
@pytest.mark.parametrize("method", ENGINES)
def test_three_maps_are_what_the_definition_says(method, missing, dtype):
    rng = np.random.default_rng(0)
    for geometry, channels in itertools.product(GEOMETRIES, CHANNELS):
        shapes = sizes(geometry, channels)
        arrays = [drawn(shape, dtype, rng)
                  for role, shape in zip("xwy", shapes, strict=True) if role != missing]
        before = [array.copy() for array in arrays]
        arguments = (*geometry[2:], channels[3])
        got = run(ENGINES[method], missing, arrays, shapes["xwy".index(missing)], *arguments)
        want = by_definition(shapes, arrays, missing, *arguments)
        assert got.dtype == dtype
        tolerance = 1e-5 if np.finfo(dtype if np.dtype(dtype).kind in "fc" else float).bits == 32 \
            else 1e-13
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * 10)
        for array, copy in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("missing", "xwy")
@pytest.mark.parametrize("method", ENGINES)
def test_any_memory_layout(method, missing):
    rng = np.random.default_rng(0)
    geometry, channels = GEOMETRIES[7], CHANNELS[3]
    shapes = sizes(geometry, channels)
    arguments = (*geometry[2:], channels[3])
    arrays = [drawn(shape, np.float64, rng)
              for role, shape in zip("xwy", shapes, strict=True) if role != missing]
    shape = shapes["xwy".index(missing)]
    want = run(ENGINES[method], missing, arrays, shape, *arguments)
    layouts = {
        "Fortran": np.asfortranarray,
        "reversed": lambda a: a[::-1].copy()[::-1],
        "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        "read-only": lambda a: np.frombuffer(a.tobytes()).reshape(a.shape),
    }
    for name, lay in layouts.items():
        got = run(ENGINES[method], missing, [lay(a) for a in arrays], shape, *arguments)
        np.testing.assert_array_equal(got, want, err_msg=name)


@pytest.mark.parametrize("missing", "xwy")
def test_direct_sends_a_nan_only_where_the_definition_does(missing):
    rng = np.random.default_rng(0)
    for geometry, channels, role in itertools.product(GEOMETRIES, CHANNELS[2:], "xy"):
        if role == missing:
            continue
        shapes = sizes(geometry, channels)
        arguments = (*geometry[2:], channels[3])
        roles = [r for r in "xwy" if r != missing]
        arrays = [drawn(shapes["xwy".index(r)], np.float64, rng) for r in roles]
        bad = arrays[roles.index(role)]
        bad.flat[rng.integers(bad.size)] = np.nan
        got = run(ENGINES["direct"], missing, arrays, shapes["xwy".index(missing)], *arguments)
        want = by_definition(shapes, arrays, missing, *arguments)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


def test_direct_rounds_single_precision_once():
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=size).astype(np.float32) for size in [(1, 64, 40), (1, 64, 9)])
    shape, geometry = (1, 1, 32), ([1], [1], 1)
    wide = ENGINES["direct"].correlate(x.astype(float), w.astype(float), shape, *geometry)
    np.testing.assert_array_equal(ENGINES["direct"].correlate(x, w, shape, *geometry),
                                  wide.astype(np.float32))


@pytest.mark.parametrize("missing", "xwy")
@pytest.mark.parametrize("channels", [(0, 2, 3, 1), (2, 0, 3, 1)])
@pytest.mark.parametrize("method", ENGINES)
def test_of_nothing_the_sum_is_zero(method, channels, missing):
    for geometry in GEOMETRIES:
        shapes = sizes(geometry, channels)
        arrays = [np.ones(shape) for role, shape in zip("xwy", shapes, strict=True)
                  if role != missing]
        shape = shapes["xwy".index(missing)]
        got = run(ENGINES[method], missing, arrays, shape, *geometry[2:], channels[3])
        np.testing.assert_array_equal(got, np.zeros(shape))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_phases_meet_every_output_with_every_tap_once(geometry):
    pixels, taps, stride, dilation = geometry
    outputs = sizes(geometry, CHANNELS[0])[2][2:]
    met = np.zeros((*outputs, *taps), int)
    for t, k, p in phases(outputs, taps, stride, dilation):
        met[(*t, *k)] += 1
        counts = [len(range(n)[s]) for n, s in zip(pixels, p, strict=True)]
        windows = [len(range(n)[s]) for n, s in zip(outputs, t, strict=True)]
        slices = [len(range(n)[s]) for n, s in zip(taps, k, strict=True)]
        assert counts == [a + b - 1 for a, b in zip(windows, slices, strict=True)]
    assert (met == 1).all()


def test_engines_import_no_torch():
    script = """
import importlib.util, sys, types
package = types.ModuleType("scipyconv")
package.__path__ = importlib.util.find_spec("scipyconv").submodule_search_locations
sys.modules["scipyconv"] = package  # without its __init__, which imports torch
import scipyconv.engines
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=True)
    assert done.stdout == "False\n"
