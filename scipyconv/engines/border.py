"""Zeros around an array."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_SMALL = 1 << 14


def padded(x: Array, zeros: Sequence[tuple[int, int]]) -> Array:
    """Put that many zeros before and after each of the last dimensions.

    As `numpy.pad`, which takes ten times as long for a small array. The array itself is returned
    if there is nothing to put.

    Examples:
        >>> padded(np.ones((2, 2)), [(1, 0)])
        array([[0., 1., 1.],
               [0., 1., 1.]])
    """
    if not any(map(any, zeros)):
        return x
    first = x.ndim - len(zeros)
    ends = [(before, before + n) for (before, _), n in zip(zeros, x.shape[first:], strict=True)]
    shape = (*x.shape[:first], *(end + after for (_, end), (_, after) in zip(ends, zeros,
                                                                           strict=True)))
    z = np.zeros(shape, x.dtype) if x.size < _SMALL else _cleared(shape, ends, x.dtype)
    inside: tuple[Any, ...] = (..., *(slice(*pair) for pair in ends))
    z[inside] = x
    return z


def cropped(z: Array, zeros: Sequence[tuple[int, int]]) -> Array:
    """Take that many off again, before and after: a view of what `padded` was given.

    Examples:
        >>> cropped(np.array([[0.0, 1, 2]]), [(1, 0)])
        array([[1., 2.]])
    """
    inside: tuple[Any, ...] = (..., *(slice(before, n - after) for n, (before, after) in zip(
        z.shape[z.ndim - len(zeros) :], zeros, strict=True)))
    cut: Array = z[inside]
    return cut


def _cleared(shape: Sequence[int], ends: Sequence[tuple[int, int]], dtype: Any) -> Array:
    """Zeros, but only in the border: to clear a large array costs as much as to fill it."""
    z = np.empty(shape, dtype)
    inside: tuple[Any, ...] = (...,)
    for start, end in ends:
        rest = (slice(None),) * (len(ends) - len(inside))
        z[(*inside, slice(start), *rest)] = 0
        z[(*inside, slice(end, None), *rest)] = 0
        inside = (*inside, slice(start, end))
    return z
