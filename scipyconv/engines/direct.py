"""The definition: the input under the weights of one channel, by `scipy.signal`.

Batch and channels are dimensions like the others. Along the batch a window has size 1
and visits every sample; along the channels it has their size and fits in one place, so
that it adds them up. Slow and obviously right. Large planes go one by one to
`correlate2d`, which is several times faster there. Floating-point and complex numbers
are added up in double precision and rounded once, at the end.

SciPy knows neither stride nor dilation. So each convolution is split into plain ones,
of
slices: nothing is computed to be thrown away, and no zeros are inserted that a NaN
could spread over.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import lcm, prod
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import signal

from scipyconv.engines.zeros import bordered, cropped, padded
from scipyconv.geometry import Geometry

Array = npt.NDArray[Any]
Slices = tuple[slice, ...]

#: Each result depends on its own terms alone, in its error and in a NaN.
LOCAL = True
#: From so many products in a plane on, SciPy's correlation of planes beats that of
#: arrays.
_LARGE = 500


def correlate(
    x: Array, w: Array, geometry: Geometry, out: Array | None = None
) -> Array:
    """y[n, o, t] = sum over c, k of w[o, c, k] · x[n, c, p].

    Examples:
        >>> x, w = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[1.0, 2]]])
        >>> geometry = Geometry(x.shape, w.shape, (1, 1, 2), (2,), ((0, 0),), (1,), 1)
        >>> correlate(x, w, geometry)
        array([[[2., 7.]]])
    """
    dtype, (x, w) = x.dtype, _widened(bordered(x, geometry), w)
    y = np.zeros(geometry.y, x.dtype)
    for t, k, p in _phases_of(geometry):
        for o, c in _by_output(geometry):
            y[:, o, *t] += _slide(x[:, c, *p], w[o, :, *k])
    return _rounded(y, dtype, out)


def input_gradient(
    w: Array, y: Array, geometry: Geometry, out: Array | None = None
) -> Array:
    """grad_x[n, c, p] = sum over o, t, k that meet p of w[o, c, k] · y[n, o, t].

    Examples:
        >>> w, y = np.array([[[1.0, 2]]]), np.array([[[2.0, 7]]])
        >>> geometry = Geometry((1, 1, 5), w.shape, y.shape, (2,), ((0, 0),), (1,), 1)
        >>> input_gradient(w, y, geometry)
        array([[[ 2.,  4.,  7., 14.,  0.]]])
    """
    dtype, (w, y) = y.dtype, _widened(w, y)
    grad_x = np.zeros(geometry.bordered, y.dtype)
    filters, channels = geometry.filters, geometry.channels
    for t, k, p in _phases_of(geometry):
        taps = np.moveaxis(np.flip(w[:, :, *k], tuple(range(2, w.ndim))), 1, 0)
        full = padded(y[:, :, *t], [(size - 1, size - 1) for size in taps.shape[2:]])
        for group, c in np.ndindex(geometry.groups, channels):
            o, channel = (
                slice(group * filters, (group + 1) * filters),
                group * channels + c,
            )
            grad_x[:, channel : channel + 1, *p] += _slide(
                full[:, o], taps[c : c + 1, o]
            )
    return _rounded(cropped(grad_x, geometry.padding), dtype, out)


def weight_gradient(
    x: Array, y: Array, geometry: Geometry, out: Array | None = None
) -> Array:
    """grad_w[o, c, k] = sum over n, t of y[n, o, t] · x[n, c, p].

    Examples:
        >>> x, y = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[2.0, 7]]])
        >>> geometry = Geometry(x.shape, (1, 1, 2), y.shape, (2,), ((0, 0),), (1,), 1)
        >>> weight_gradient(x, y, geometry)
        array([[[21., 16.]]])
    """
    dtype, (x, y) = x.dtype, _widened(bordered(x, geometry), y)
    grad_w = np.zeros(geometry.w, x.dtype)
    for t, k, p in _phases_of(geometry):
        for o, c in _by_output(geometry):
            grad_w[o, :, *k] += _slide(x[:, c, *p], y[:, o, *t])
    return _rounded(grad_w, dtype, out)


def cost(geometry: Geometry, maps: str, dtype: np.dtype[Any]) -> float:
    """Estimate some of the maps, in seconds: SciPy's calls, and the products."""
    phases = prod(geometry.stride) * prod(geometry.dilation)
    calls = phases * geometry.groups * geometry.filters
    return 1e-9 * len(maps) * (100_000 + 40_000 * calls + 9 * geometry.products)


def phases(
    outputs: Sequence[int],
    taps: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Iterator[tuple[Slices, Slices, Slices]]:
    """Split a convolution with stride and dilation into plain ones.

    Yields slices of the output, of the taps and of the input, such that the first is
    the plain cross-correlation of the third with the second. All of them together are
    the whole.

    Examples:
        With a stride of 2, the even taps meet the even pixels and the odd taps the odd
        ones:

        >>> for t, k, p in phases([2], [3], stride=[2], dilation=[1]):
        ...     print(t, k, p)
        (slice(0, None, 1),) (slice(0, None, 2),) (slice(0, 5, 2),)
        (slice(0, None, 1),) (slice(1, None, 2),) (slice(1, 4, 2),)
    """
    for each in product(*map(_phases_along, outputs, taps, stride, dilation)):
        t, k, p = zip(*each, strict=True)
        yield t, k, p


def _phases_of(geometry: Geometry) -> Iterator[tuple[Slices, Slices, Slices]]:
    return phases(geometry.outputs, geometry.taps, geometry.stride, geometry.dilation)


def _phases_along(outputs: int, taps: int, stride: int, dilation: int) -> list[Slices]:
    # Outputs a step apart, and taps a step apart, have pixels lcm(stride, dilation)
    # apart.
    step = lcm(stride, dilation)
    t_step, k_step = step // stride, step // dilation
    found: list[Slices] = []
    for t, k in product(range(min(t_step, outputs)), range(min(k_step, taps))):
        first = stride * t + dilation * k
        pixels = len(range(t, outputs, t_step)) + len(range(k, taps, k_step)) - 1
        found.append(
            (
                slice(t, None, t_step),
                slice(k, None, k_step),
                slice(first, first + step * (pixels - 1) + 1, step),
            )
        )
    return found


def _by_output(geometry: Geometry) -> Iterator[tuple[slice, slice]]:
    """Each output channel, and the input channels of its group."""
    for o in range(geometry.w[0]):
        first = o // geometry.filters * geometry.channels
        yield slice(o, o + 1), slice(first, first + geometry.channels)


def _slide(a: Array, b: Array) -> Array:
    """Lay b on a wherever it fits: the sum over k of b[k] · a[t + k]."""
    y = np.zeros([m - n + 1 for m, n in zip(a.shape, b.shape, strict=True)], a.dtype)
    b = b.conj()  # SciPy conjugates it; once more undoes that
    if a.size == 0 or b.size == 0:  # an empty batch, or no channels
        return y
    if prod(y.shape[-2:]) * prod(b.shape[-2:]) < _LARGE:
        y += signal.correlate(a, b, mode="valid", method="direct")
        return y
    for t, k in product(np.ndindex(y.shape[:-2]), np.ndindex(b.shape[:-2])):
        y[t] += signal.correlate2d(a[tuple(map(add, t, k))], b[k], mode="valid")
    return y


def _widened(*arrays: Array) -> list[Array]:
    """In double precision, or as they are if they hold integers."""
    return [
        array
        if array.dtype.kind in "iu"
        else array.astype(np.result_type(array, np.float64))
        for array in arrays
    ]


def _rounded(array: Array, dtype: np.dtype[Any], out: Array | None) -> Array:
    if out is None:
        out = np.empty(array.shape, dtype)
    out[...] = array
    return out
