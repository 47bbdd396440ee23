"""Zeros around an array, and none where a result is to be."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scipyconv.geometry import Geometry

Array = npt.NDArray[Any]
#: How many before and after, along each of the last dimensions.
Zeros = Sequence[tuple[int, int]]

#: From so many numbers on, it costs less to clear the border alone.
_LARGE = 1 << 14


def padded(x: Array, zeros: Zeros) -> Array:
    """Put that many zeros before and after each of the last dimensions.

    The array itself is returned if there is nothing to put.

    Examples:
        >>> padded(np.ones((2, 2)), [(1, 0)])
        array([[0., 1., 1.],
               [0., 1., 1.]])
    """
    if not any(map(any, zeros)):
        return x
    shape, ends = list(x.shape), list[slice]()
    for i, (before, after) in enumerate(zeros, x.ndim - len(zeros)):
        ends.append(slice(before, before + shape[i]))
        shape[i] += before + after
    return _surrounded(x, shape, (..., *ends))


def bordered(x: Array, geometry: Geometry) -> Array:
    """Put the border of a geometry around x.

    As `numpy.pad`, which takes ten times as long for a small array.

    Examples:
        >>> x = np.ones((1, 1, 2))
        >>> w, y = (1, 1, 1), (1, 1, 3)
        >>> bordered(x, Geometry(x.shape, w, y, (1,), ((1, 0),), (1,), 1))
        array([[[0., 1., 1.]]])
    """
    if geometry.bordered == x.shape:
        return x
    return _surrounded(x, geometry.bordered, geometry.inside)


def _surrounded(x: Array, shape: Sequence[int], inside: tuple[Any, ...]) -> Array:
    z = (
        np.zeros(shape, x.dtype)
        if x.size < _LARGE
        else _cleared(shape, inside, x.dtype)
    )
    z[inside] = x
    return z


def cropped(z: Array, zeros: Zeros) -> Array:
    """Take that many off again, before and after: a view of what `padded` was given.

    Examples:
        >>> cropped(np.array([[0.0, 1, 2]]), [(1, 0)])
        array([[1., 2.]])
    """
    if not any(map(any, zeros)):
        return z
    sides = zip(z.shape[z.ndim - len(zeros) :], zeros, strict=True)
    inside: Any = (..., *(slice(before, n - after) for n, (before, after) in sides))
    cut: Array = z[inside]
    return cut


def _cleared(shape: Sequence[int], inside: tuple[Any, ...], dtype: Any) -> Array:
    """Zeros, but only in the border."""
    z = np.empty(shape, dtype)
    for i, part in enumerate(inside[1:], 1):
        rest = (slice(None),) * (len(inside) - 1 - i)
        z[(*inside[:i], slice(part.start), *rest)] = 0
        z[(*inside[:i], slice(part.stop, None), *rest)] = 0
    return z
