"""The convolution theorem: where the spectra are multiplied, the arrays are convolved.

With capitals for spectra and a star for the conjugate, each map is a product:

- y, which is w slid over x: Y = X · W*, added up over c;
- grad_x, the stamps of w: X = Y · W, or X* = Y* · W*, added up over o;
- grad_w, which is y slid over x: W = X · Y*, added up over n.

So three spectra, X, W* and Y*, serve all three. A transform wraps around; the input is
cut into tiles that overlap by one tap less than the kernel has, and what wraps is
thrown away or is zero. A stride makes channels of the pixels between two windows, and a
dilation makes samples of the pixels between two taps; both are views. What is left is a
plain convolution.

Each operand is scaled by a power of two before it is transformed, so that large and
small numbers neither overflow nor vanish on the way. Integers are transformed in pieces
of few enough bits that the result rounds to the right one.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import product
from math import isfinite, lcm, prod
from operator import mul
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided
from scipy import fft

from scipyconv.engines import threads
from scipyconv.engines.zeros import Zeros, padded
from scipyconv.geometry import OPERANDS, Geometry, Sizes

Array = npt.NDArray[Any]

#: An error is relative to the largest values of a tile, and a NaN spreads over it.
LOCAL = False
#: Up to so many channel pairs of a group, products of planes beat a matrix product for
#: each frequency.
_FEW = 4
#: What a tile's sides may be, besides the whole of what there is to transform.
_SIDES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
#: No memory holds more, and SciPy knows no larger transforms.
_LONGEST = 1 << 48
#: Numbers up to two to this power, and their inverses, are multiplied and added up as
#: they are: in single precision there is room for 2**127.
_USUAL = 40
#: Smaller arrays are not worth a second thread.
_SMALL = 1 << 16
#: Sums of products below this many come out of a transform with an error far below 1/2.
_COUNTABLE = 1 << 46


class Spectrum(NamedTuple):
    """What a transform makes of an operand.

    Attributes:
        values: X, W* or Y*, one matrix for each frequency and group.
        exponent: The operand was divided by two to this power.
        dtype: The operand's dtype.
    """

    values: Array
    exponent: int
    dtype: np.dtype[Any]


def correlate(x: Any, w: Any, geometry: Geometry, out: Array | None = None) -> Array:
    """y[n, o, t] = sum over c, k of w[o, c, k] · x[n, c, p].

    Examples:
        >>> x, w = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[1.0, 2]]])
        >>> geometry = Geometry(x.shape, w.shape, (1, 1, 2), (2,), ((0, 0),), (1,), 1)
        >>> correlate(x, w, geometry).round(9)
        array([[[2., 7.]]])
    """
    return _map("y", x, w, geometry, out)


def input_gradient(
    w: Any, y: Any, geometry: Geometry, out: Array | None = None
) -> Array:
    """grad_x[n, c, p] = sum over o, t, k that meet p of w[o, c, k] · y[n, o, t].

    Examples:
        >>> w, y = np.array([[[1.0, 2]]]), np.array([[[2.0, 7]]])
        >>> geometry = Geometry((1, 1, 5), w.shape, y.shape, (2,), ((0, 0),), (1,), 1)
        >>> input_gradient(w, y, geometry).round(9) + 0.0
        array([[[ 2.,  4.,  7., 14.,  0.]]])
    """
    return _map("x", w, y, geometry, out)


def weight_gradient(
    x: Any, y: Any, geometry: Geometry, out: Array | None = None
) -> Array:
    """grad_w[o, c, k] = sum over n, t of y[n, o, t] · x[n, c, p].

    Examples:
        >>> x, y = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[2.0, 7]]])
        >>> geometry = Geometry(x.shape, (1, 1, 2), y.shape, (2,), ((0, 0),), (1,), 1)
        >>> weight_gradient(x, y, geometry).round(9)
        array([[[21., 16.]]])
    """
    return _map("w", x, y, geometry, out)


def prepare(role: str, array: Array, geometry: Geometry) -> Any:
    """Transform an operand that two maps need; both take what this returns."""
    if array.dtype.kind in "iu" or not geometry.products:
        return array
    return make_plan(geometry, array.dtype.kind == "f").transform(role, array)


def _map(out: str, a: Any, b: Any, geometry: Geometry, result: Array | None) -> Array:
    if result is None:
        result = np.empty(geometry.shape(out), a.dtype)
    if not geometry.products:
        result[...] = 0
    elif a.dtype.kind in "iu":
        result[...] = _map_integers(out, a, b, geometry)
    else:
        plan = make_plan(geometry, a.dtype.kind == "f")
        spectra = {
            role: operand
            if isinstance(operand, Spectrum)
            else plan.transform(role, operand)
            for role, operand in zip(OPERANDS[out], (a, b), strict=True)
        }
        plan.contract(out, spectra, result)
    return result


def _map_integers(out: str, a: Array, b: Array, geometry: Geometry) -> Array:
    """Exact, and wrapped around at 64 bits: halve the larger operand until it fits."""
    plan = make_plan(geometry, True)
    large, small = _largest_integer(a), _largest_integer(b)
    if large * small * prod(plan.tile) * plan.terms(out) < _COUNTABLE:
        floating = _map(out, a.astype(float), b.astype(float), geometry, None)
        return np.rint(floating).astype(np.int64)
    bits = max(large, small).bit_length() // 2
    if large >= small:
        high, low = _halves(a, bits)
        parts = (
            _map_integers(out, high, b, geometry),
            _map_integers(out, low, b, geometry),
        )
    else:
        high, low = _halves(b, bits)
        parts = (
            _map_integers(out, a, high, geometry),
            _map_integers(out, a, low, geometry),
        )
    return (parts[0] << bits) + parts[1]


def _halves(array: Array, bits: int) -> tuple[Array, Array]:
    """Return high and low with array = 2**bits · high + low."""
    wide = array.astype(np.int64)
    return wide >> bits, wide & ((1 << bits) - 1)


def _largest_integer(array: Array) -> int:
    return max(int(array.max()), -int(array.min()))


def _exponent(array: Array) -> int:
    """The power of two by which to divide an array of very large or small numbers."""
    parts = (array.real, array.imag) if array.dtype.kind == "c" else (array,)
    largest = max(max(float(part.max()), -float(part.min())) for part in parts)
    exponent = int(np.frexp(largest)[1]) if isfinite(largest) else 0
    if abs(exponent) <= _USUAL:
        return 0
    # two powers less than a number of this dtype may have, so that the inverse is one
    # too
    room = int(np.finfo(array.dtype).maxexp) - 2
    return min(max(exponent, -room), room)


#: How the axes of each role lie in memory, for few channels and for many, and its
#: matrices.
_FEW_ORDER = {"x": "bgcf", "w": "gocf", "y": "bgof"}
_ORDER = {"x": "bfgc", "w": "fgoc", "y": "bfgo"}
_MATRICES = {"x": "fgbc", "w": "fgoc", "y": "fgbo"}
#: The letters of each array's first two axes.
_AXES = {"x": ("b", "gc"), "w": ("go", "c"), "y": ("b", "go")}
#: What each map adds up over.
_SUMMED = {"y": ("x", "c"), "x": ("w", "o"), "w": ("x", "b")}


class Plan(NamedTuple):
    """A convolution as plain ones, in tiles.

    Letters stand for axes: b samples, g groups, c input and o output channels, f the
        points
    of a tile, or its frequencies: as many axes as spatial dimensions. With the samples
    count the phases of a dilation and the tiles, with the channels the phases of a
    stride.
    """

    geometry: Geometry
    tile: Sizes
    real: bool
    #: How many numbers of a letter there are in the array itself.
    counts: dict[str, int]
    #: Where a role's spatial dimensions go: (sizes, steps in pixels), each one axis per
    #: dimension.
    spread: dict[str, dict[str, list[tuple[Sizes, Sizes]]]]

    @property
    def is_few(self) -> bool:
        """Whether there are only a few channels."""
        return self.size("x", "c") * self.counts["o"] <= _FEW

    @property
    def order(self) -> dict[str, str]:
        """How each role's axes lie in memory."""
        return _FEW_ORDER if self.is_few else _ORDER

    def size(self, role: str, letter: str) -> int:
        """All that counts with a letter."""
        spread = self.spread[role].get(letter, [])
        return self.counts[letter] * prod(prod(sizes) for sizes, _ in spread)

    def terms(self, out: str) -> int:
        """How many products of spectra a map adds up."""
        return self.size(*_SUMMED[out])

    def points(self, role: str) -> Sizes:
        """How many points of a role go into a tile."""
        return self.spread[role]["f"][0][0]

    def view(self, role: str, array: Array) -> Array:
        """Every axis of a letter apart, in the order of memory."""
        first, second, *steps = array.strides
        each: dict[str, int] = {}
        for letters, stride in zip(_AXES[role], (first, second), strict=True):
            for letter in reversed(letters):  # the last one is the innermost
                each[letter] = stride
                stride *= self.counts[letter]
        axes: list[tuple[int, int]] = []
        for letter in self.order[role]:
            if letter != "f":
                axes.append((self.counts[letter], each[letter]))
            for sizes, pixels in self.spread[role].get(letter, []):
                axes += zip(sizes, map(mul, pixels, steps), strict=True)
        shape = [size for size, _ in axes]
        return as_strided(
            array, shape, [step if size > 1 else 0 for size, step in axes]
        )

    def extent(self, role: str) -> Sizes:
        """How many pixels a role's view reaches over."""
        axes = [axis for axes in self.spread[role].values() for axis in axes]
        return tuple(
            1 + sum((sizes[i] - 1) * pixels[i] for sizes, pixels in axes)
            for i in range(len(self.tile))
        )

    def matrices(self, role: str, spectrum: Array) -> Array:
        """One matrix for each frequency and group."""
        where: dict[str, list[int]] = {}
        for letter in self.order[role]:
            start = sum(map(len, where.values()))
            axes = len(self.tile) if letter == "f" else 1
            where[letter] = list(range(start, start + axes))
        axes_in_order = [axis for letter in _MATRICES[role] for axis in where[letter]]
        return spectrum.transpose(axes_in_order)

    def merged(self, role: str, points: Sizes) -> list[int]:
        """The shape with one axis for each letter but f."""
        return [
            size
            for letter in self.order[role]
            for size in (points if letter == "f" else (self.size(role, letter),))
        ]

    def along(self, role: str) -> tuple[int, ...]:
        """The axes to transform along."""
        first = self.order[role].index("f")
        return tuple(range(first, first + len(self.tile)))

    def border(self, role: str) -> Zeros:
        """The zeros around a role's array: only x has any."""
        return self.geometry.padding if role == "x" else ((0, 0),) * len(self.tile)

    def whole(self, role: str) -> Zeros:
        """The zeros around a role's array so that its last tile is whole, too."""
        return [
            (before, max(after, size - before - n))
            for (before, after), size, n in zip(
                self.border(role),
                self.extent(role),
                self.geometry.shape(role)[2:],
                strict=True,
            )
        ]

    def transform(self, role: str, array: Array) -> Spectrum:
        """The spectrum of x, and its conjugate for w and y: what the conjugate has."""
        exponent = _exponent(array)
        view = self.view(role, padded(array, self.whole(role)))
        points = np.empty(view.shape, view.dtype)
        _scaled(points, view, -exponent)
        points = points.reshape(self.merged(role, self.points(role)))
        spectrum = self._forth(role, points)
        return Spectrum(self.matrices(role, spectrum), exponent, array.dtype)

    def _forth(self, role: str, points: Array) -> Array:
        """Transform axis by axis, the last one first: the zeros of others come later.

        Conjugates are transformed the other way around, after the first axis.
        """
        *others, last = zip(self.along(role), self.tile, strict=True)
        conjugate = role != "x"
        if self.real:
            spectrum: Array = fft.rfft(
                points, last[1], last[0], workers=threads.count()
            )
            if conjugate:
                _in_threads(_conjugate, spectrum, spectrum)
        else:
            spectrum = _transformed(points, *last, conjugate, "forth")
        for axis, size in reversed(others):
            spectrum = _transformed(spectrum, axis, size, conjugate, "forth")
        return spectrum

    def contract(self, out: str, spectra: dict[str, Spectrum], result: Array) -> None:
        """Multiply two spectra, transform back, and put the tiles together."""
        last = self.tile[-1] // 2 + 1 if self.real else self.tile[-1]
        spectrum = np.empty(
            self.merged(out, (*self.tile[:-1], last)),
            np.result_type(result.dtype, np.complex64),
        )
        values = {role: each.values for role, each in spectra.items()}
        if out == "y":
            a, b = values["x"], values["w"].swapaxes(-1, -2)
        elif out == "x":
            a, b = values["y"], values["w"]
        else:
            a, b = values["y"].swapaxes(-1, -2), values["x"]
        self._multiply(a, b, self.matrices(out, spectrum))
        points = self._back(out, spectrum)
        exponent = sum(each.exponent for each in spectra.values())
        self._put_together(out, points, result, exponent)

    def _put_together(
        self, out: str, points: Array, result: Array, exponent: int
    ) -> None:
        """Write the tiles of a map where they belong, times two to a power."""
        border, shape = self.border(out), result.shape
        sides = zip(self.extent(out), border, shape[2:], strict=True)
        reach = tuple(
            max(extent, before + n + after) for extent, (before, after), n in sides
        )
        whole = (
            result
            if reach == shape[2:]
            else np.zeros((*shape[:2], *reach), result.dtype)
        )
        view = self.view(out, whole)
        parts = points.reshape(view.shape)
        if out != "x":
            _in_threads(np.copyto, view, parts)
        else:  # tiles overlap, but each only its neighbors
            whole[...] = 0
            for first in product((0, 1), repeat=len(self.tile)):
                apart = (slice(None),) * (1 + len(first)) + tuple(
                    slice(i, None, 2) for i in first
                )
                _in_threads(_add, view[apart], parts[apart])
        if whole is not result or exponent:
            inside = (
                slice(before, before + n)
                for (before, _), n in zip(border, shape[2:], strict=True)
            )
            _scaled(result, whole[:, :, *inside], exponent)

    def _multiply(self, a: Array, b: Array, out: Array) -> None:
        def work(pieces: Iterable[slice]) -> None:
            for f in pieces:
                if not self.is_few:
                    np.matmul(a[f], b[f], out=out[f])
                    continue
                np.multiply(a[f][..., :1], b[f][..., :1, :], out=out[f])
                for i in range(1, a.shape[-1]):
                    out[f] += a[f][..., i : i + 1] * b[f][..., i : i + 1, :]

        threads.share(work, threads.cut(len(out), threads.count()))

    def _back(self, out: str, spectrum: Array) -> Array:
        """Transform back axis by axis, the last one last: what wraps is cut off before.

        X comes out conjugated where the numbers are real; where not, the other way
        around.
        """
        axes = list(zip(self.along(out), self.tile, self.points(out), strict=True))
        last, conjugate = axes.pop() if self.real else None, out == "x"
        for axis, size, kept in axes:
            spectrum = _transformed(spectrum, axis, size, not conjugate, "back")
            spectrum = spectrum[(slice(None),) * axis + (slice(kept),)]
        if last is None:
            return spectrum
        axis, size, kept = last
        if conjugate:
            _in_threads(_conjugate, spectrum, spectrum)
        points = fft.irfft(spectrum, size, axis, workers=threads.count())
        cut: Array = points[(slice(None),) * axis + (slice(kept),)]
        return cut


def _transformed(array: Array, axis: int, size: int, inverse: bool, way: str) -> Array:
    """Transform along one axis; on the way back, whichever sign, divide by the size."""
    function = fft.ifft if inverse else fft.fft
    norm = "backward" if inverse == (way == "back") else "forward"
    result: Array = function(
        array, size, axis, norm, overwrite_x=True, workers=threads.count()
    )
    return result


def _scaled(target: Array, source: Array, exponent: int) -> None:
    """Target = source · 2**exponent, in two steps where the power is no number."""
    if exponent == 0:
        _in_threads(np.copyto, target, source)
        return
    half = exponent // 2
    steps = (
        (exponent,)
        if abs(exponent) < np.finfo(target.dtype).maxexp - 1
        else (half, exponent - half)
    )
    for power in steps:
        factor = target.dtype.type(2.0**power)

        def times(target: Array, source: Array, factor: Any = factor) -> None:
            np.multiply(source, factor, out=target)

        _in_threads(times, target, source)
        source = target


def _in_threads(
    work: Callable[[Array, Array], object], target: Array, source: Array
) -> None:
    """Do it piece by piece, along the longest axis."""
    if not target.size:
        return
    axis = int(np.argmax(target.shape))
    parts = threads.count() if target.size >= _SMALL else 1
    pieces = [
        (slice(None),) * axis + (part,)
        for part in threads.cut(target.shape[axis], parts)
    ]

    def each(pieces: Iterable[Any]) -> None:
        for piece in pieces:
            work(target[piece], source[piece])

    threads.share(each, pieces)


def _conjugate(target: Array, source: Array) -> None:
    np.conj(source, out=target)


def _add(target: Array, source: Array) -> None:
    target += source


@lru_cache(1024)
def make_plan(geometry: Geometry, real: bool) -> Plan:
    """The cheapest plan for a geometry."""
    whole = tuple(
        fft.next_fast_len(min(n + k - 1, _LONGEST), real)
        for n, k in zip(*_of_a_phase(geometry), strict=True)
    )
    taps = _of_a_phase(geometry)[1]
    sizes = [*(n for n in _SIDES if n < max(whole)), max(whole)]
    tiles = {
        tuple(
            max(min(size, n), min(fft.next_fast_len(2 * k, real), n))
            for n, k in zip(whole, taps, strict=True)
        )
        for size in sizes
    }
    plans = [_tiled(geometry, real, tile) for tile in sorted(tiles)]
    return min(plans, key=lambda plan: _nanoseconds(plan, "yxw"))


def _phases(geometry: Geometry) -> tuple[Sizes, Sizes, Sizes]:
    """The pixels from one output, or tap, of a phase to the next; and their phases.

    Outputs `outer` apart, and taps `inner` apart, have pixels lcm(stride, dilation)
    apart.
    """
    common = tuple(map(lcm, geometry.stride, geometry.dilation))
    outer = tuple(a // b for a, b in zip(common, geometry.stride, strict=True))
    inner = tuple(a // b for a, b in zip(common, geometry.dilation, strict=True))
    return (
        common,
        tuple(map(min, outer, geometry.outputs)),
        tuple(map(min, inner, geometry.taps)),
    )


def _of_a_phase(geometry: Geometry) -> tuple[Sizes, Sizes]:
    """How many outputs, and how many taps, a phase has."""
    _, outer, inner = _phases(geometry)
    return (
        tuple(-(-t // n) for t, n in zip(geometry.outputs, outer, strict=True)),
        tuple(-(-k // n) for k, n in zip(geometry.taps, inner, strict=True)),
    )


def _tiled(geometry: Geometry, real: bool, tile: Sizes) -> Plan:
    """The plan with tiles of this size."""
    common, outer, inner = _phases(geometry)
    outputs, taps = _of_a_phase(geometry)
    ones = (1,) * len(taps)
    step = tuple(t - k + 1 for t, k in zip(tile, taps, strict=True))
    tiles = tuple(-(-n // s) for n, s in zip(outputs, step, strict=True))
    counts = {
        "b": geometry.batch,
        "g": geometry.groups,
        "c": geometry.channels,
        "o": geometry.filters,
    }
    return Plan(
        geometry,
        tile,
        real,
        counts,
        {
            "x": {
                "b": [(outer, geometry.stride), (tiles, tuple(map(mul, common, step)))],
                "c": [(inner, geometry.dilation)],
                "f": [(tile, common)],
            },
            "y": {
                "b": [(outer, ones), (tiles, tuple(map(mul, outer, step)))],
                "f": [(step, outer)],
            },
            "w": {"c": [(inner, ones)], "f": [(taps, inner)]},
        },
    )


def cost(geometry: Geometry, maps: str, dtype: np.dtype[Any]) -> float:
    """Estimate some of the maps of one pass, in seconds; none for integers."""
    if dtype.kind in "iu":
        return float("inf")
    if not geometry.products:
        return 0
    # The longer the numbers, the dearer; complex ones have no symmetry to save by.
    price = dtype.itemsize / 4 * (2 if dtype.kind == "c" else 1)
    return 1e-9 * price * _nanoseconds(make_plan(geometry, dtype.kind == "f"), maps)


def _nanoseconds(plan: Plan, maps: str) -> float:
    """What a plan costs in single precision, each operand being transformed once."""
    points = {role: prod(plan.merged(role, plan.tile)) for role in "xwy"}
    frequencies = prod(plan.tile) // (1 + plan.real) * plan.counts["g"]
    products = (
        frequencies * plan.size("x", "b") * plan.size("x", "c") * plan.counts["o"]
    )
    operands = {role for out in maps for role in OPERANDS[out]}
    transforms = sum(points[role] for role in (*operands, *maps))  # there, and back
    if plan.is_few:
        return 750_000 * len(maps) + 6 * transforms + 4.1 * products * len(maps)
    each = 750_000 + 0.17 * products + 90 * frequencies + 0.34 * points["w"]
    return each * len(maps) + 7.5 * transforms
