"""The definition: the input under the weights of one channel, by `scipy.signal`.

Batch and channels are dimensions like the others. Along the batch a window has size 1 and visits
every sample; along the channels it has their size and fits in one place, so that it adds them up.
Slow and obviously right. Large planes go one by one to `correlate2d`, which is several times faster
there. Floating-point and complex numbers are added up in double precision and rounded once, at the
end.

SciPy knows neither stride nor dilation. So each convolution is split into plain ones, of slices:
nothing is computed to be thrown away, and no zeros are inserted that a NaN could spread over.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import lcm, prod
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import signal

from scipyconv.engines.border import Zeros, bordered, cropped, padded

Array = npt.NDArray[Any]
Slices = tuple[slice, ...]

#: From so many products in a plane on, SciPy's correlation of planes beats that of whole arrays.
_LARGE = 500


def correlate(x: Array, w: Array, shape: Sequence[int], stride: Sequence[int],
              dilation: Sequence[int], groups: int, padding: Zeros = ()) -> Array:
    """y[n, o, t] = sum over c, k of w[o, c, k] · x[n, c, p].

    Examples:
        >>> x, w = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[1.0, 2]]])
        >>> correlate(x, w, (1, 1, 2), stride=[2], dilation=[1], groups=1)
        array([[[2., 7.]]])
    """
    dtype, (x, w) = x.dtype, _widened(padded(x, padding), w)
    y = np.zeros(shape, x.dtype)
    for t, k, p in phases(shape[2:], w.shape[2:], stride, dilation):
        for o, c in _by_output(w.shape, groups):
            y[:, o, *t] += _slide(x[:, c, *p], w[o, :, *k])
    return y.astype(dtype)


def weight_gradient(x: Array, g: Array, shape: Sequence[int], stride: Sequence[int],
                    dilation: Sequence[int], groups: int, padding: Zeros = ()) -> Array:
    """grad_w[o, c, k] = sum over n, t of g[n, o, t] · x[n, c, p].

    Examples:
        >>> x, g = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[2.0, 7]]])
        >>> weight_gradient(x, g, (1, 1, 2), stride=[2], dilation=[1], groups=1)
        array([[[21., 16.]]])
    """
    dtype, (x, g) = x.dtype, _widened(padded(x, padding), g)
    grad_w = np.zeros(shape, x.dtype)
    for t, k, p in phases(g.shape[2:], shape[2:], stride, dilation):
        for o, c in _by_output(shape, groups):
            grad_w[o, :, *k] += _slide(x[:, c, *p], g[:, o, *t])
    return grad_w.astype(dtype)


def input_gradient(g: Array, w: Array, shape: Sequence[int], stride: Sequence[int],
                   dilation: Sequence[int], groups: int, padding: Zeros = ()) -> Array:
    """grad_x[n, c, p] = sum over o, t, k that meet p of w[o, c, k] · g[n, o, t].

    Examples:
        >>> g, w = np.array([[[2.0, 7]]]), np.array([[[1.0, 2]]])
        >>> input_gradient(g, w, (1, 1, 5), stride=[2], dilation=[1], groups=1)
        array([[[ 2.,  4.,  7., 14.,  0.]]])
    """
    dtype, (g, w) = g.dtype, _widened(g, w)
    grad_x = np.zeros(bordered(shape, padding), g.dtype)
    outputs, channels = len(w) // groups, w.shape[1]
    for t, k, p in phases(g.shape[2:], w.shape[2:], stride, dilation):
        taps = np.moveaxis(np.flip(w[:, :, *k], tuple(range(2, w.ndim))), 1, 0)
        full = padded(g[:, :, *t], [(size - 1, size - 1) for size in taps.shape[2:]])
        for group, c in np.ndindex(groups, channels):
            o, channel = slice(group * outputs, (group + 1) * outputs), group * channels + c
            grad_x[:, channel : channel + 1, *p] += _slide(full[:, o], taps[c : c + 1, o])
    return cropped(grad_x, padding).astype(dtype)


def phases(outputs: Sequence[int], taps: Sequence[int], stride: Sequence[int],
           dilation: Sequence[int]) -> Iterator[tuple[Slices, Slices, Slices]]:
    """Split a convolution with stride and dilation into plain ones.

    Yields slices of the output, of the taps and of the input, such that the first is the plain
    cross-correlation of the third with the second. All of them together are the whole.

    Examples:
        With a stride of 2, the even taps meet the even pixels and the odd taps the odd ones:

        >>> for t, k, p in phases([2], [3], stride=[2], dilation=[1]):
        ...     print(t, k, p)
        (slice(0, None, 1),) (slice(0, None, 2),) (slice(0, 5, 2),)
        (slice(0, None, 1),) (slice(1, None, 2),) (slice(1, 4, 2),)
    """
    for each in product(*map(_phases_along, outputs, taps, stride, dilation)):
        t, k, p = zip(*each, strict=True)
        yield t, k, p


def _phases_along(outputs: int, taps: int, stride: int, dilation: int) -> list[Slices]:
    # Outputs a step apart, and taps a step apart, have pixels lcm(stride, dilation) apart.
    step = lcm(stride, dilation)
    t_step, k_step = step // stride, step // dilation
    found: list[Slices] = []
    for t, k in product(range(min(t_step, outputs)), range(min(k_step, taps))):
        first = stride * t + dilation * k
        pixels = len(range(t, outputs, t_step)) + len(range(k, taps, k_step)) - 1
        found.append((slice(t, None, t_step), slice(k, None, k_step),
                      slice(first, first + step * (pixels - 1) + 1, step)))
    return found


def _by_output(shape: Sequence[int], groups: int) -> Iterator[tuple[slice, slice]]:
    """Each output channel, and the input channels of its group."""
    outputs, channels = shape[:2]
    for o in range(outputs):
        first = o // (outputs // groups) * channels
        yield slice(o, o + 1), slice(first, first + channels)


def _slide(a: Array, b: Array) -> Array:
    """Lay b on a wherever it fits: the sum over k of b[k] · a[t + k]."""
    y = np.zeros([m - n + 1 for m, n in zip(a.shape, b.shape, strict=True)], a.dtype)
    b = b.conj()  # SciPy conjugates it; once more undoes that
    if a.size == 0:  # an empty batch, or no channels
        return y
    if prod(y.shape[-2:]) * prod(b.shape[-2:]) < _LARGE:
        y += signal.correlate(a, b, mode="valid", method="direct")
        return y
    for t, k in product(np.ndindex(y.shape[:-2]), np.ndindex(b.shape[:-2])):
        y[t] += signal.correlate2d(a[tuple(map(add, t, k))], b[k], mode="valid")
    return y


def _widened(*arrays: Array) -> list[Array]:
    """In double precision, or as they are if they hold integers."""
    return [array if array.dtype.kind in "iu" else array.astype(np.result_type(array, np.float64))
            for array in arrays]
