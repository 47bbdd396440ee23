"""Each engine against the definition, written out as loops; NumPy alone, as in the
engines."""

import functools
import itertools
import subprocess
import sys

import numpy as np
import pytest

from scipyconv.engines import fft, matmul, threads
from scipyconv.engines.choice import ENGINES
from scipyconv.engines.direct import phases
from scipyconv.engines.zeros import cropped, padded
from scipyconv.geometry import Geometry

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
CHANNELS = [
    (2, 1, 1, 1),
    (1, 2, 3, 1),
    (2, 2, 1, 3),
    (3, 1, 2, 2),
]  # batch, C, O, groups


MAPS = {"y": "correlate", "x": "input_gradient", "w": "weight_gradient"}


def made(case, channels, fewer=0, border=None):
    """A geometry, which may have fewer outputs than fit, and x's border as an
    argument."""
    pixels, taps, stride, dilation = case
    batch, c, o, groups = channels
    outputs = [
        max(1, (n - d * (k - 1) - 1) // s + 1 - fewer)
        for n, k, s, d in zip(pixels, taps, stride, dilation, strict=True)
    ]
    border = border or [(0, 0)] * len(pixels)
    inside = [
        n - before - after for n, (before, after) in zip(pixels, border, strict=True)
    ]
    return Geometry(
        (batch, groups * c, *inside),
        (groups * o, c, *taps),
        (batch, groups * o, *outputs),
        stride,
        tuple(border),
        dilation,
        groups,
    )


def terms(geometry):
    """Every product of the trilinear form, as the indices of its three factors."""
    for n, o in np.ndindex(*geometry.y[:2]):
        for t, c in itertools.product(
            np.ndindex(*geometry.outputs), range(geometry.channels)
        ):
            for k in np.ndindex(*geometry.taps):
                p = tuple(
                    s * i + d * j
                    for s, i, d, j in zip(
                        geometry.stride, t, geometry.dilation, k, strict=True
                    )
                )
                channel = o // geometry.filters * geometry.channels + c
                yield (n, channel, *p), (o, c, *k), (n, o, *t)


def by_definition(geometry, arrays, missing):
    """The derivative of the form by the array that is missing; x has no border here."""
    result = np.zeros(geometry.shape(missing), arrays[0].dtype)
    for indices in terms(geometry):
        known = [role for role in "xwy" if role != missing]
        factors = [
            a[indices["xwy".index(r)]] for a, r in zip(arrays, known, strict=True)
        ]
        result[indices["xwy".index(missing)]] += factors[0] * factors[1]
    return result


def run(engine, missing, arrays, geometry):
    """The engine's result; arrays in the order x, w, y without the missing one."""
    return getattr(engine, MAPS[missing])(*arrays, geometry)


def operands(geometry, missing, dtype, rng):
    return [
        drawn(geometry.shape(role), dtype, rng) for role in "xwy" if role != missing
    ]


def drawn(shape, dtype, rng):
    if np.issubdtype(dtype, np.integer):
        return rng.integers(-9, 9, shape).astype(dtype)
    imaginary = (
        1j * rng.normal(size=shape) if np.issubdtype(dtype, np.complexfloating) else 0
    )
    return (rng.normal(size=shape) + imaginary).astype(dtype)


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.complex64, np.complex128, np.int64]
)
@pytest.mark.parametrize("missing", "xwy")
@pytest.mark.parametrize("method", ENGINES)
def test_three_maps_are_what_the_definition_says(method, missing, dtype):
    rng = np.random.default_rng(0)
    for case, channels in itertools.product(GEOMETRIES, CHANNELS):
        geometry = made(case, channels)
        arrays = operands(geometry, missing, dtype, rng)
        before = [array.copy() for array in arrays]
        got = run(ENGINES[method], missing, arrays, geometry)
        want = by_definition(geometry, arrays, missing)
        assert got.dtype == dtype
        single = np.dtype(dtype).kind in "fc" and np.finfo(dtype).bits == 32
        tolerance = 1e-5 if single else 1e-13
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * 10)
        for array, copy in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("missing", "xwy")
@pytest.mark.parametrize("method", ENGINES)
def test_four_dimensions(method, missing):
    geometry = made(
        ((4, 3, 5, 4), (2, 1, 3, 2), (2, 1, 1, 1), (1, 1, 1, 2)), (2, 1, 2, 2)
    )
    arrays = operands(geometry, missing, np.float64, np.random.default_rng(0))
    got = run(ENGINES[method], missing, arrays, geometry)
    want = by_definition(geometry, arrays, missing)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("missing", "xwy")
@pytest.mark.parametrize("method", ENGINES)
def test_a_result_goes_where_it_is_told(method, missing):
    """And all of it is written: what was there before does not matter."""
    for case, channels in itertools.product(GEOMETRIES, CHANNELS):
        geometry = made(case, channels)
        arrays = operands(geometry, missing, np.float32, np.random.default_rng(0))
        out = np.full(geometry.shape(missing), np.nan, np.float32)
        got = getattr(ENGINES[method], MAPS[missing])(*arrays, geometry, out)
        assert got is out
        np.testing.assert_array_equal(
            out, run(ENGINES[method], missing, arrays, geometry)
        )


@pytest.mark.parametrize("missing", "xwy")
@pytest.mark.parametrize("method", ENGINES)
def test_any_memory_layout(method, missing):
    geometry = made(GEOMETRIES[7], CHANNELS[3])
    arrays = operands(geometry, missing, np.float64, np.random.default_rng(0))
    want = run(ENGINES[method], missing, arrays, geometry)
    layouts = {
        "Fortran": np.asfortranarray,
        "reversed": lambda a: a[::-1].copy()[::-1],
        "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        "read-only": lambda a: np.frombuffer(a.tobytes()).reshape(a.shape),
    }
    for name, lay in layouts.items():
        got = run(ENGINES[method], missing, [lay(a) for a in arrays], geometry)
        np.testing.assert_array_equal(got, want, err_msg=name)


@pytest.mark.parametrize("method", [name for name in ENGINES if ENGINES[name].LOCAL])
@pytest.mark.parametrize("missing", "xwy")
def test_a_nan_goes_only_where_the_definition_sends_it(missing, method):
    rng = np.random.default_rng(0)
    for case, channels, role in itertools.product(GEOMETRIES, CHANNELS[2:], "xy"):
        if role == missing:
            continue
        geometry = made(case, channels)
        arrays = operands(geometry, missing, np.float64, rng)
        bad = arrays[[r for r in "xwy" if r != missing].index(role)]
        bad.flat[rng.integers(bad.size)] = np.nan
        got = run(ENGINES[method], missing, arrays, geometry)
        want = by_definition(geometry, arrays, missing)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


def test_direct_rounds_single_precision_once():
    rng = np.random.default_rng(0)
    geometry = Geometry((1, 64, 40), (1, 64, 9), (1, 1, 32), (1,), ((0, 0),), (1,), 1)
    x, w = (
        rng.normal(size=size).astype(np.float32) for size in (geometry.x, geometry.w)
    )
    wide = ENGINES["direct"].correlate(x.astype(float), w.astype(float), geometry)
    np.testing.assert_array_equal(
        ENGINES["direct"].correlate(x, w, geometry), wide.astype(np.float32)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.complex128, np.int16])
@pytest.mark.parametrize("missing", "xwy")
@pytest.mark.parametrize("method", ENGINES)
def test_of_nothing_the_sum_is_zero(method, missing, dtype):
    """Whatever it is that there are none of; and no cost divides by it."""
    for case, channels, nothing in itertools.product(
        GEOMETRIES, CHANNELS[1:3], itertools.product([False, True], repeat=4)
    ):
        whole = made(case, channels)
        batch, c, o, axis = nothing
        x = (whole.x[0] * (not batch), whole.x[1] * (not c), *whole.x[2:])
        w = (whole.w[0] * (not o), whole.w[1] * (not c), *whole.w[2:])
        y = (x[0], w[0], *whole.y[2:])
        if axis:
            y = (*y[:-1], 0)
        geometry = Geometry(
            x, w, y, whole.stride, whole.padding, whole.dilation, whole.groups
        )
        if geometry.products:
            continue
        arrays = [
            np.ones(geometry.shape(role), dtype) for role in "xwy" if role != missing
        ]
        got = run(ENGINES[method], missing, arrays, geometry)
        np.testing.assert_array_equal(got, np.zeros(geometry.shape(missing), dtype))
        assert ENGINES[method].cost(geometry, missing, np.dtype(dtype)) >= 0


@pytest.mark.parametrize("case", GEOMETRIES)
def test_phases_meet_every_output_with_every_tap_once(case):
    pixels, taps, stride, dilation = case
    outputs = made(case, CHANNELS[0]).outputs
    met = np.zeros((*outputs, *taps), int)
    for t, k, p in phases(outputs, taps, stride, dilation):
        met[(*t, *k)] += 1
        counts = [len(range(n)[s]) for n, s in zip(pixels, p, strict=True)]
        windows = [len(range(n)[s]) for n, s in zip(outputs, t, strict=True)]
        slices = [len(range(n)[s]) for n, s in zip(taps, k, strict=True)]
        assert counts == [a + b - 1 for a, b in zip(windows, slices, strict=True)]
    assert (met == 1).all()


@functools.cache
def example(missing, case, channels, fewer):
    """Arrays in double precision, and what the definition makes of them."""
    geometry = made(case, channels, fewer)
    arrays = operands(geometry, missing, np.float64, np.random.default_rng(0))
    return arrays, by_definition(geometry, arrays, missing)


def check(method, missing, case, channels, fewer=0):
    arrays, want = example(missing, case, channels, fewer)
    got = run(ENGINES[method], missing, arrays, made(case, channels, fewer))
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fewer", [1, 2])
@pytest.mark.parametrize("missing", "xwy")
@pytest.mark.parametrize("method", ENGINES)
def test_pixels_that_no_window_reaches(method, missing, fewer):
    """At stride 1 as well: x is longer than its windows reach."""
    for case, channels in itertools.product(GEOMETRIES, CHANNELS):
        check(method, missing, case, channels, fewer)


#: Large enough for several pieces and tiles along each dimension.
LARGE = [
    ((23,), (3,), (1,), (1,)),
    ((23,), (3,), (2,), (1,)),
    ((23,), (3,), (1,), (2,)),
    ((14, 11), (3, 3), (1, 1), (1, 1)),
    ((15, 13), (3, 3), (2, 1), (1, 2)),
    ((7, 6, 6), (2, 2, 2), (1, 1, 1), (1, 1, 1)),
]


@pytest.mark.parametrize("hands", [1, 2, 3])
@pytest.mark.parametrize("piece", [8, 200, 1000])
@pytest.mark.parametrize("missing", "xwy")
def test_matmul_in_many_pieces(missing, piece, hands, monkeypatch):
    """From one output each, which is the least that there is, to a few rows."""
    monkeypatch.setattr(matmul, "PIECE", piece)
    monkeypatch.setattr(threads, "SMALL", 0)
    monkeypatch.setattr(threads, "count", lambda: hands)
    for case, channels, fewer in itertools.product(LARGE, CHANNELS[1:], (0, 2)):
        check("matmul", missing, case, channels, fewer)


@pytest.mark.parametrize("piece", [200, 1000])
def test_matmul_multiplies_first(piece, monkeypatch):
    """Wherever it can, which is for a stride of 1."""
    monkeypatch.setattr(matmul, "PIECE", piece)
    monkeypatch.setattr(matmul, "multiplies_first", lambda g: max(g.stride) == 1)
    monkeypatch.setattr(threads, "SMALL", 0)
    for case, channels in itertools.product(LARGE, CHANNELS):
        check("matmul", "y", case, channels, 2)
        check("matmul", "x", case, channels, 2)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int32, np.int64, np.float32, np.complex64]
)
@pytest.mark.parametrize("first", [True, False], ids=["products", "windows"])
def test_matmul_keeps_the_dtype(first, dtype, monkeypatch):
    """NumPy adds up small integers in large ones."""
    monkeypatch.setattr(matmul, "multiplies_first", lambda *_: first)
    monkeypatch.setattr(threads, "SMALL", 0)
    rng = np.random.default_rng(0)
    geometry = made(((9, 8), (3, 2), (1, 1), (1, 1)), (3, 4, 2, 1))
    for missing in "xwy":
        arrays = [
            rng.integers(0, 4, geometry.shape(role)).astype(dtype)
            for role in "xwy"
            if role != missing
        ]
        got, want = (
            run(ENGINES[m], missing, arrays, geometry) for m in ("matmul", "direct")
        )
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("missing", "xwy")
@pytest.mark.parametrize("small", [0, 1 << 18])
@pytest.mark.parametrize("method", ENGINES)
def test_a_border_is_an_argument(method, small, missing, monkeypatch):
    """As wide as the windows reach, and wider: some see zeros alone."""
    monkeypatch.setattr(threads, "SMALL", small)
    rng = np.random.default_rng(0)
    for case, channels in itertools.product(GEOMETRIES, CHANNELS):
        border = [((n - 1) // 3, (n - 1) // 2) for n in case[0]]
        geometry = made(case, channels, border=border)
        part = {role: drawn(geometry.shape(role), np.float64, rng) for role in "xwy"}
        whole = part | {"x": padded(part["x"], border)}
        got, want = (
            run(
                ENGINES[method],
                missing,
                [a for role, a in arrays.items() if role != missing],
                each,
            )
            for arrays, each in ((part, geometry), (whole, geometry.borderless()))
        )
        want = cropped(want, border) if missing == "x" else want
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.fixture
def small_tiles(monkeypatch):
    """Let fft take tiles with these sides, or as near as the kernel allows."""

    def use(side):
        monkeypatch.setattr(fft, "_SIDES", (side,))
        monkeypatch.setattr(fft, "_nanoseconds", lambda plan, _: np.prod(plan.tile))
        # at least one larger than the kernel, where otherwise it is at least twice as
        # large
        monkeypatch.setattr(
            fft.fft, "next_fast_len", lambda n, real: {4: 3, 6: 4}.get(n, n)
        )
        fft.make_plan.cache_clear()

    yield use
    fft.make_plan.cache_clear()


@pytest.mark.parametrize("side", [2, 5, 6])
@pytest.mark.parametrize("missing", "xwy")
def test_fft_in_many_tiles(missing, side, small_tiles, monkeypatch):
    """Odd and even sides, from one more than the kernel on; planes, and matrices of
    channels."""
    small_tiles(side)
    tiles = []
    for (case, channels), few, fewer in itertools.product(
        itertools.product(LARGE, CHANNELS[1:]), (0, 100), (0, 2)
    ):
        monkeypatch.setattr(fft, "_FEW", few)
        check("fft", missing, case, channels, fewer)
        plan = fft.make_plan(made(case, channels, fewer), True)
        tiles.append((plan.tile, plan.points("w"), plan.spread["x"]["b"][1][0]))
    if side == 2:
        assert any(
            all(t == k + 1 for t, k in zip(tile, taps, strict=True))
            for tile, taps, _ in tiles
        )
    assert {len(n) for _, _, n in tiles if min(n) > 1} == {1, 2, 3}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e20, 1e37])
@pytest.mark.parametrize("missing", "xwy")
def test_fft_of_large_and_small_numbers(missing, scale, dtype):
    """One operand is large or small, and the other its inverse: the result is
    neither."""
    rng = np.random.default_rng(0)
    for case, channels in itertools.product(
        (GEOMETRIES[1], GEOMETRIES[6], LARGE[3]), CHANNELS
    ):
        geometry = made(case, channels)
        first, second = operands(geometry, missing, dtype, rng)
        first, second = first * dtype(scale), second / dtype(scale)
        got = run(ENGINES["fft"], missing, [first, second], geometry)
        want = run(ENGINES["direct"], missing, [first, second], geometry)
        assert np.isfinite(got).all()
        error = np.abs(got - want).max() / np.abs(want).max()
        assert error < 20 * np.finfo(dtype).eps


@pytest.mark.parametrize("missing", "xwy")
def test_fft_overflows_where_the_result_does(missing):
    geometry = made(GEOMETRIES[6], CHANNELS[1])
    arrays = [
        np.full(geometry.shape(role), 1e36, np.float32)
        for role in "xwy"
        if role != missing
    ]
    with np.errstate(over="ignore"):
        assert (run(ENGINES["fft"], missing, arrays, geometry) == np.inf).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("missing", "xwy")
def test_integers_wrap_around_alike(missing, dtype):
    """By transforms too, whose numbers are exact to 53 bits: those of int64 need
    more."""
    rng = np.random.default_rng(0)
    info = np.iinfo(dtype)
    for case, channels in itertools.product(
        (GEOMETRIES[1], GEOMETRIES[7], LARGE[3]), CHANNELS
    ):
        geometry = made(case, channels)
        arrays = [
            rng.integers(info.min, info.max, geometry.shape(role), dtype, endpoint=True)
            for role in "xwy"
            if role != missing
        ]
        for array in arrays:
            array.flat[0], array.flat[-1] = info.min, info.max
        with np.errstate(over="ignore"):
            want = by_definition(geometry, arrays, missing)
        for engine in ENGINES.values():
            np.testing.assert_array_equal(run(engine, missing, arrays, geometry), want)


@pytest.mark.parametrize("method", ENGINES)
def test_negative_integers_are_as_large(method):
    geometry = made(GEOMETRIES[1], CHANNELS[1])
    x, w = (np.full(geometry.shape(role), -(2**40) - 1) for role in "xw")
    want = by_definition(geometry, [x.astype(object), w.astype(object)], "y")
    wrapped = np.vectorize(lambda n: (n + 2**63) % 2**64 - 2**63, otypes=[np.int64])
    got = ENGINES[method].correlate(x, w, geometry)
    np.testing.assert_array_equal(got, wrapped(want))


def numbers(plan):
    """How many numbers a plan's tiles hold, of all three arrays."""
    return sum(np.prod(plan.merged(role, plan.tile), dtype=object) for role in "xwy")


@pytest.mark.parametrize("stride", [1, 2, 3, 7, 64, 1000, 10**6, 2**40, 2**62])
@pytest.mark.parametrize("dilation", [1, 2, 3, 7, 64, 1000, 10**6, 2**40, 2**62])
def test_the_memory_of_fft_grows_with_neither_stride_nor_dilation(stride, dilation):
    """Phases that no output or no tap is in are left out."""
    pixels, taps = 900, 3 if dilation <= 64 else 1
    outputs = (pixels - dilation * (taps - 1) - 1) // stride + 1
    geometry = Geometry(
        (2, 3, pixels, 5),
        (4, 3, taps, 1),
        (2, 4, outputs, 5),
        (stride, 1),
        ((0, 0), (0, 0)),
        (dilation, 1),
        1,
    )
    arrays = sum(np.prod(geometry.shape(role)) for role in "xwy")
    assert numbers(fft.make_plan(geometry, True)) < 12 * arrays
    assert sum(fft.make_plan(geometry, True).extent("x")) < 4 * (pixels + 5)
    x, w = np.ones(geometry.x), np.ones(geometry.w)
    for engine in ENGINES.values():
        y = engine.correlate(x, w, geometry)
        np.testing.assert_allclose(y, 3 * taps)


def test_engines_import_no_torch():
    script = """
import importlib.util, sys, types
package = types.ModuleType("scipyconv")
package.__path__ = importlib.util.find_spec("scipyconv").submodule_search_locations
sys.modules["scipyconv"] = package  # without its __init__, which imports torch
import scipyconv.engines
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
