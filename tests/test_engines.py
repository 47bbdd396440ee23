"""Each engine against the definition, written out as loops; NumPy alone, as in the engines."""

import functools
import itertools
import subprocess
import sys

import numpy as np
import pytest

from scipyconv.engines import fft, matmul, threads
from scipyconv.engines.border import cropped, padded
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


def sizes(geometry, channels, fewer=0):
    """The shapes of x, w and y, which may have fewer outputs than fit."""
    pixels, taps, stride, dilation = geometry
    batch, c, o, groups = channels
    outputs = [max(1, (n - d * (k - 1) - 1) // s + 1 - fewer)
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


@pytest.mark.parametrize("method", ["direct", "matmul"])
@pytest.mark.parametrize("missing", "xwy")
def test_a_nan_goes_only_where_the_definition_sends_it(missing, method):
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
        got = run(ENGINES[method], missing, arrays, shapes["xwy".index(missing)], *arguments)
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


@functools.cache
def example(missing, geometry, channels, fewer):
    """Arrays in double precision, and what the definition makes of them."""
    rng = np.random.default_rng(0)
    shapes = sizes(geometry, channels, fewer)
    arrays = [drawn(shape, np.float64, rng)
              for role, shape in zip("xwy", shapes, strict=True) if role != missing]
    return arrays, by_definition(shapes, arrays, missing, *geometry[2:], channels[3])


def check(method, missing, geometry, channels, fewer=0):
    arrays, want = example(missing, geometry, channels, fewer)
    got = run(ENGINES[method], missing, arrays, want.shape, *geometry[2:], channels[3])
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fewer", [1, 2])
@pytest.mark.parametrize("missing", "xwy")
@pytest.mark.parametrize("method", ENGINES)
def test_pixels_that_no_window_reaches(method, missing, fewer):
    """At stride 1 as well: x is longer than its windows reach."""
    for geometry, channels in itertools.product(GEOMETRIES, CHANNELS):
        check(method, missing, geometry, channels, fewer)


#: Large enough for several pieces and tiles along each dimension.
LARGE = [((23,), (3,), (1,), (1,)), ((23,), (3,), (2,), (1,)), ((23,), (3,), (1,), (2,)),
         ((14, 11), (3, 3), (1, 1), (1, 1)), ((15, 13), (3, 3), (2, 1), (1, 2)),
         ((7, 6, 6), (2, 2, 2), (1, 1, 1), (1, 1, 1))]


@pytest.mark.parametrize("hands", [1, 2, 3])
@pytest.mark.parametrize("piece", [8, 200, 1000])
@pytest.mark.parametrize("missing", "xwy")
def test_matmul_in_many_pieces(missing, piece, hands, monkeypatch):
    """From one output each, which is the least that there is, to a few rows."""
    monkeypatch.setattr(matmul, "PIECE", piece)
    monkeypatch.setattr(threads, "SMALL", 0)
    monkeypatch.setattr(threads, "count", lambda: hands)
    for geometry, channels, fewer in itertools.product(LARGE, CHANNELS[1:], (0, 2)):
        check("matmul", missing, geometry, channels, fewer)


@pytest.mark.parametrize("piece", [200, 1000])
def test_matmul_multiplies_first(piece, monkeypatch):
    """Wherever it can, which is for a stride of 1."""
    monkeypatch.setattr(matmul, "PIECE", piece)
    monkeypatch.setattr(matmul, "multiplies_first", lambda x, w, y, stride, *_: max(stride) == 1)
    monkeypatch.setattr(threads, "SMALL", 0)
    for geometry, channels in itertools.product(LARGE, CHANNELS):
        check("matmul", "y", geometry, channels, 2)
        check("matmul", "x", geometry, channels, 2)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.float32, np.complex64])
@pytest.mark.parametrize("first", [True, False], ids=["products", "windows"])
def test_matmul_keeps_the_dtype(first, dtype, monkeypatch):
    """NumPy adds up small integers in large ones."""
    monkeypatch.setattr(matmul, "multiplies_first", lambda *_: first)
    monkeypatch.setattr(threads, "SMALL", 0)
    rng = np.random.default_rng(0)
    x, w = (rng.integers(0, 4, shape).astype(dtype) for shape in [(3, 4, 9, 8), (2, 4, 3, 2)])
    g = rng.integers(0, 4, (3, 2, 7, 7)).astype(dtype)
    rest = (1, 1), (1, 1), 1
    for name, *operands, shape in [("correlate", x, w, g.shape), ("weight_gradient", x, g, w.shape),
                                   ("input_gradient", g, w, x.shape)]:
        got, want = (getattr(ENGINES[method], name)(*operands, shape, *rest)
                     for method in ("matmul", "direct"))
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("missing", "xwy")
@pytest.mark.parametrize("small", [0, 1 << 18])
@pytest.mark.parametrize("method", ENGINES)
def test_a_border_is_an_argument(method, small, missing, monkeypatch):
    """As wide as the windows reach, and wider: some see zeros alone."""
    monkeypatch.setattr(threads, "SMALL", small)
    rng = np.random.default_rng(0)
    for geometry, channels in itertools.product(GEOMETRIES, CHANNELS):
        border = [((n - 1) // 3, (n - 1) // 2) for n in geometry[0]]
        shapes = sizes(geometry, channels)
        whole = {role: drawn(shape, np.float64, rng)
                 for role, shape in zip("xwy", shapes, strict=True)}
        inside = cropped(whole["x"], border)
        whole["x"] = padded(inside, border)
        part = whole | {"x": inside}
        arguments = (*geometry[2:], channels[3])
        got, want = (run(ENGINES[method], missing, [a for role, a in arrays.items()
                                                    if role != missing],
                         arrays[missing].shape, *arguments, *more)
                     for arrays, more in ((part, [border]), (whole, [])))
        want = cropped(want, border) if missing == "x" else want
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.fixture
def small_tiles(monkeypatch):
    """Let fft take tiles with these sides, or as near as the kernel allows."""
    def use(side):
        monkeypatch.setattr(fft, "_SIDES", (side,))
        monkeypatch.setattr(fft, "cost", lambda plan: np.prod(plan.tile))
        # at least one larger than the kernel, where otherwise it is at least twice as large
        monkeypatch.setattr(fft.fft, "next_fast_len", lambda n, real: {4: 3, 6: 4}.get(n, n))
        fft.make_plan.cache_clear()

    yield use
    fft.make_plan.cache_clear()


@pytest.mark.parametrize("side", [2, 5, 6])
@pytest.mark.parametrize("missing", "xwy")
def test_fft_in_many_tiles(missing, side, small_tiles, monkeypatch):
    """Odd and even sides, from one more than the kernel on; planes, and matrices of channels."""
    small_tiles(side)
    tiles = []
    for (geometry, channels), few, fewer in itertools.product(
            itertools.product(LARGE, CHANNELS[1:]), (0, 100), (0, 2)):
        monkeypatch.setattr(fft, "_FEW", few)
        check("fft", missing, geometry, channels, fewer)
        plan = fft.make_plan(*sizes(geometry, channels, fewer), *geometry[2:], channels[3], True)
        tiles.append((plan.tile, plan.points("w"), plan.spread["x"]["b"][1][0]))
    if side == 2:
        assert any(all(t == k + 1 for t, k in zip(tile, taps, strict=True))
                   for tile, taps, _ in tiles)
    assert {len(n) for _, _, n in tiles if min(n) > 1} == {1, 2, 3}


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
