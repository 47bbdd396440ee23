"""The convolution theorem: where the spectra are multiplied, the arrays are convolved.

With capitals for spectra and a star for the conjugate, each map is a product:

- y, which is w slid over x: Y = X · W*, added up over c;
- grad_x, the stamps of w: X = Y · W, or X* = Y* · W*, added up over o;
- grad_w, which is y slid over x: W = X · Y*, added up over n.

So three spectra, X, W* and Y*, serve all three. A transform wraps around; the input is cut
into tiles that overlap by one tap less than the kernel has, and what wraps is thrown away or is
zero. A stride makes channels of the pixels between two windows, and a dilation makes samples of
the pixels between two taps; both are views. What is left is a plain convolution.
"""

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from functools import lru_cache
from itertools import product
from math import lcm, prod
from operator import mul
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided
from scipy import fft

from scipyconv.engines import threads
from scipyconv.engines.border import Zeros, bordered, padded

Array = npt.NDArray[Any]
Sizes = tuple[int, ...]

#: Up to so many channel pairs of a group, products of planes beat a matrix product per frequency.
_FEW = 4
#: What a tile's sides may be, besides the whole of what there is to transform.
_SIDES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
#: Smaller arrays are not worth a second thread.
_SMALL = 1 << 16


def correlate(x: Array, w: Array, shape: Sequence[int], stride: Sequence[int],
              dilation: Sequence[int], groups: int, padding: Zeros = (),
              spectra: MutableMapping[str, Array] | None = None) -> Array:
    """y[n, o, t] = sum over c, k of w[o, c, k] · x[n, c, p].

    `spectra` keeps what is transformed for the other two maps of the same layer: pass it on.

    Examples:
        >>> x, w = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[1.0, 2]]])
        >>> correlate(x, w, (1, 1, 2), stride=[2], dilation=[1], groups=1).round(9)
        array([[[2., 7.]]])
    """
    return _map("y", {"x": x, "w": w}, shape, stride, dilation, groups, padding, spectra)


def weight_gradient(x: Array, g: Array, shape: Sequence[int], stride: Sequence[int],
                    dilation: Sequence[int], groups: int, padding: Zeros = (),
                    spectra: MutableMapping[str, Array] | None = None) -> Array:
    """grad_w[o, c, k] = sum over n, t of g[n, o, t] · x[n, c, p].

    Examples:
        >>> x, g = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[2.0, 7]]])
        >>> weight_gradient(x, g, (1, 1, 2), stride=[2], dilation=[1], groups=1).round(9)
        array([[[21., 16.]]])
    """
    return _map("w", {"x": x, "y": g}, shape, stride, dilation, groups, padding, spectra)


def input_gradient(g: Array, w: Array, shape: Sequence[int], stride: Sequence[int],
                   dilation: Sequence[int], groups: int, padding: Zeros = (),
                   spectra: MutableMapping[str, Array] | None = None) -> Array:
    """grad_x[n, c, p] = sum over o, t, k that meet p of w[o, c, k] · g[n, o, t].

    Examples:
        >>> g, w = np.array([[[2.0, 7]]]), np.array([[[1.0, 2]]])
        >>> input_gradient(g, w, (1, 1, 5), stride=[2], dilation=[1], groups=1).round(9) + 0.0
        array([[[ 2.,  4.,  7., 14.,  0.]]])
    """
    return _map("x", {"w": w, "y": g}, shape, stride, dilation, groups, padding, spectra)


def _map(out: str, arrays: dict[str, Array], shape: Sequence[int], stride: Sequence[int],
         dilation: Sequence[int], groups: int, padding: Zeros,
         spectra: MutableMapping[str, Array] | None) -> Array:
    dtype = next(iter(arrays.values())).dtype
    if dtype.kind in "iu":
        wide = {role: array.astype(float) for role, array in arrays.items()}
        result = _map(out, wide, shape, stride, dilation, groups, padding, spectra)
        return np.rint(result).astype(dtype)
    if not all(array.size for array in arrays.values()) or not prod(shape):
        return np.zeros(shape, dtype)
    shapes = {out: tuple(shape)} | {role: array.shape for role, array in arrays.items()}
    plan = make_plan(bordered(shapes["x"], padding), shapes["w"], shapes["y"], tuple(stride),
                     tuple(dilation), groups, dtype.kind == "f")
    spectra = {} if spectra is None else spectra
    for role, array in arrays.items():
        if role not in spectra:
            spectra[role] = plan.transform(role, array, padding)
    return plan.contract(out, spectra, shape, padding, dtype)


#: How the axes of each role lie in memory, for few channels and for many, and its matrices.
_FEW_ORDER = {"x": "bgcf", "w": "gocf", "y": "bgof"}
_ORDER = {"x": "bfgc", "w": "fgoc", "y": "bfgo"}
_MATRICES = {"x": "fgbc", "w": "fgoc", "y": "fgbo"}


class Plan(NamedTuple):
    """A convolution as plain ones, in tiles.

    Letters stand for axes: b samples, g groups, c input and o output channels, f the points of a
    tile, or its frequencies: as many axes as spatial dimensions. With the samples count the phases
    of a dilation and the tiles, with the channels the phases of a stride.
    """

    tile: Sizes
    real: bool
    #: How many numbers of a letter there are in the array itself.
    counts: dict[str, int]
    #: Where a role's spatial dimensions go: (sizes, steps in pixels), each one axis per dimension.
    spread: dict[str, dict[str, list[tuple[Sizes, Sizes]]]]

    @property
    def order(self) -> dict[str, str]:
        """How each role's axes lie in memory."""
        few = self.size("x", "c") * self.counts["o"] <= _FEW
        return _FEW_ORDER if few else _ORDER

    def size(self, role: str, letter: str) -> int:
        """All that counts with a letter."""
        spread = self.spread[role].get(letter, [])
        return self.counts[letter] * prod(prod(sizes) for sizes, _ in spread)

    def points(self, role: str) -> Sizes:
        """How many points of a role go into a tile."""
        return self.spread[role]["f"][0][0]

    def view(self, role: str, array: Array) -> Array:
        """Every axis of a letter apart, in the order of memory."""
        first, second, *steps = array.strides
        each = {"c": second, "o": first if role == "w" else second, "b": first}
        each["g"] = self.counts[_MATRICES[role][-2 if role == "w" else -1]] * (
            first if role == "w" else second)
        axes: list[tuple[int, int]] = []
        for letter in self.order[role]:
            if letter != "f":
                axes.append((self.counts[letter], each[letter]))
            for sizes, pixels in self.spread[role].get(letter, []):
                axes += zip(sizes, map(mul, pixels, steps), strict=True)
        shape, strides = zip(*axes, strict=True)
        return as_strided(array, shape, strides)

    def extent(self, role: str) -> Sizes:
        """How many pixels a role's view reaches over."""
        axes = [axis for axes in self.spread[role].values() for axis in axes]
        return tuple(1 + sum((sizes[i] - 1) * pixels[i] for sizes, pixels in axes)
                     for i in range(len(self.tile)))

    def matrices(self, role: str, spectrum: Array) -> Array:
        """One matrix for each frequency and group."""
        where: dict[str, list[int]] = {}
        for letter in self.order[role]:
            start = sum(map(len, where.values()))
            where[letter] = list(range(start, start + (len(self.tile) if letter == "f" else 1)))
        return spectrum.transpose([axis for letter in _MATRICES[role] for axis in where[letter]])

    def merged(self, role: str, points: Sizes) -> list[int]:
        """The shape with one axis for each letter but f."""
        return [size for letter in self.order[role]
                for size in (points if letter == "f" else (self.size(role, letter),))]

    def along(self, role: str) -> tuple[int, ...]:
        """The axes to transform along."""
        first = self.order[role].index("f")
        return tuple(range(first, first + len(self.tile)))

    def options(self, role: str) -> dict[str, Any]:
        """What every transform of a role is told."""
        return {"s": self.tile, "axes": self.along(role), "workers": threads.count()}

    def border(self, role: str, padding: Zeros) -> Zeros:
        """The zeros around a role's array: x alone may have any."""
        return (role == "x" and padding) or [(0, 0)] * len(self.tile)

    def transform(self, role: str, array: Array, padding: Zeros) -> Array:
        """The spectrum of x, and its conjugate for w and y: what the conjugate has for spectrum."""
        whole = [(before, max(after, size - before - n)) for (before, after), size, n in zip(
            self.border(role, padding), self.extent(role), array.shape[2:], strict=True)]
        view = self.view(role, padded(array, whole))  # so that the last tile is whole
        points = np.empty(view.shape, view.dtype)
        _in_threads(np.copyto, points, view)
        points = points.reshape(self.merged(role, self.points(role)))
        options = self.options(role)
        if not self.real:
            return self.matrices(role, fft.fftn(points, **options) if role == "x"
                                 else fft.ifftn(points, norm="forward", **options))
        spectrum = fft.rfftn(points, **options)
        if role != "x":
            _in_threads(_conjugate, spectrum, spectrum)
        return self.matrices(role, spectrum)

    def contract(self, out: str, spectra: MutableMapping[str, Array], shape: Sequence[int],
                 padding: Zeros, dtype: npt.DTypeLike) -> Array:
        """Multiply two spectra to the third, transform it back and put its tiles together."""
        last = self.tile[-1] // 2 + 1 if self.real else self.tile[-1]
        spectrum = np.empty(self.merged(out, (*self.tile[:-1], last)),
                            np.result_type(dtype, np.complex64))
        if out == "y":
            operands = spectra["x"], spectra["w"].swapaxes(-1, -2)
        elif out == "x":
            operands = spectra["y"], spectra["w"]
        else:
            operands = spectra["y"].swapaxes(-1, -2), spectra["x"]
        self._multiply(*operands, self.matrices(out, spectrum))
        points = self._back(out, spectrum)
        border = self.border(out, padding)
        reach = map(max, self.extent(out), bordered(shape[2:], border))
        result = np.zeros([*shape[:2], *reach], dtype)
        view = self.view(out, result)
        parts = points.reshape(view.shape)
        if out != "x":
            _in_threads(np.copyto, view, parts)
        else:  # tiles overlap, but each only its neighbours
            for first in product((0, 1), repeat=len(self.tile)):
                apart = (slice(None),) * (1 + len(first)) + tuple(slice(i, None, 2) for i in first)
                _in_threads(_add, view[apart], parts[apart])
        inside = (slice(before, before + n) for (before, _), n in zip(
            border, shape[2:], strict=True))
        return result[:, :, *inside]

    def _multiply(self, a: Array, b: Array, out: Array) -> None:
        def work(pieces: Iterable[slice]) -> None:
            for f in pieces:
                if self.order is _ORDER:
                    np.matmul(a[f], b[f], out=out[f])
                    continue
                np.multiply(a[f][..., :1], b[f][..., :1, :], out=out[f])
                for i in range(1, a.shape[-1]):
                    out[f] += a[f][..., i : i + 1] * b[f][..., i : i + 1, :]

        threads.share(work, threads.cut(len(out), threads.count()))

    def _back(self, out: str, spectrum: Array) -> Array:
        options = self.options(out)
        if not self.real:
            points = (fft.ifftn(spectrum, **options) if out != "x"
                      else fft.fftn(spectrum, norm="forward", **options))
        else:
            if out == "x":  # this one came out conjugated
                _in_threads(_conjugate, spectrum, spectrum)
            points = fft.irfftn(spectrum, **options)
        crop = [slice(None)] * points.ndim
        for axis, size in zip(self.along(out), self.points(out), strict=True):
            crop[axis] = slice(size)
        cropped: Array = points[tuple(crop)]
        return cropped


def _in_threads(work: Callable[[Array, Array], object], target: Array, source: Array) -> None:
    """Do it piece by piece, along the longest axis."""
    if not target.size:
        return
    axis = int(np.argmax(target.shape))
    parts = threads.count() if target.size >= _SMALL else 1
    pieces = [(slice(None),) * axis + (part,) for part in threads.cut(target.shape[axis], parts)]

    def each(pieces: Iterable[Any]) -> None:
        for piece in pieces:
            work(target[piece], source[piece])

    threads.share(each, pieces)


def _conjugate(target: Array, source: Array) -> None:
    np.conj(source, out=target)


def _add(target: Array, source: Array) -> None:
    target += source


@lru_cache(1024)
def make_plan(x: Sizes, w: Sizes, y: Sizes, stride: Sizes, dilation: Sizes, groups: int,
              real: bool) -> Plan:
    """The cheapest plan for these shapes."""
    # Outputs `outer` apart, and taps `inner` apart, have pixels lcm(stride, dilation) apart.
    common = tuple(map(lcm, stride, dilation))
    outer = tuple(a // b for a, b in zip(common, stride, strict=True))
    inner = tuple(a // b for a, b in zip(common, dilation, strict=True))
    taps = tuple(-(-k // n) for k, n in zip(w[2:], inner, strict=True))
    outputs = tuple(-(-t // n) for t, n in zip(y[2:], outer, strict=True))
    ones = (1,) * len(taps)
    counts = {"b": x[0], "g": groups, "c": w[1], "o": w[0] // groups}

    def plan(tile: Sizes) -> Plan:
        step = tuple(t - k + 1 for t, k in zip(tile, taps, strict=True))
        tiles = tuple(-(-n // s) for n, s in zip(outputs, step, strict=True))
        return Plan(tile, real, counts, {
            "x": {"b": [(outer, stride), (tiles, tuple(map(mul, common, step)))],
                  "c": [(inner, dilation)], "f": [(tile, common)]},
            "y": {"b": [(outer, ones), (tiles, tuple(map(mul, outer, step)))],
                  "f": [(step, outer)]},
            "w": {"c": [(inner, ones)], "f": [(taps, inner)]},
        })

    whole = tuple(fft.next_fast_len(n + k - 1, real) for n, k in zip(outputs, taps, strict=True))
    sizes = [*(n for n in _SIDES if n < max(whole)), max(whole)]
    tiles = {tuple(max(min(size, n), min(fft.next_fast_len(2 * k, real), n))
                   for n, k in zip(whole, taps, strict=True)) for size in sizes}
    return min(map(plan, sorted(tiles)), key=cost)


def cost(plan: Plan, maps: str = "yxw") -> float:
    """Estimate some of the three maps, in nanoseconds, spectra being kept from one to the next."""
    few = plan.order is _FEW_ORDER
    points = {role: prod(plan.merged(role, plan.tile)) for role in "xwy"}
    frequencies = prod(plan.tile) // (1 + plan.real) * plan.counts["g"]
    products = frequencies * plan.size("x", "b") * plan.size("x", "c") * plan.counts["o"]
    spectra = {role for out in maps for role in "xwy" if role != out}
    transforms = sum(points[role] for role in (*spectra, *maps))  # there, and back
    if few:
        return 750_000 * len(maps) + 6 * transforms + 4.1 * products * len(maps)
    return (750_000 + 0.17 * products + 90 * frequencies + 0.34 * points["w"]) * len(
        maps) + 7.5 * transforms
