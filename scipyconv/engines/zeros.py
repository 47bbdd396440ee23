"""Zeros around an array, and none where a result is to be."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: How many before and after, along each of the last dimensions.
Zeros = Sequence[tuple[int, int]]

#: From so many numbers on, it costs less to clear the border alone.
_LARGE = 1 << 14


def padded(x: Array, zeros: Zeros) -> Array:
    """Put that many zeros before and after each of the last dimensions.

    As `numpy.pad`, which takes ten times as long for a small array. The array itself is
    returned if there is nothing to put.

    Examples:
        >>> padded(np.ones((2, 2)), [(1, 0)])
        array([[0., 1., 1.],
               [0., 1., 1.]])
    """
    if not any(map(any, zeros)):
        return x
    shape, ends = list(x.shape), list[tuple[int, int]]()
    for i, (before, after) in enumerate(zeros, x.ndim - len(zeros)):
        ends.append((before, before + shape[i]))
        shape[i] += before + after
    z = _cleared(shape, ends, x.dtype) if x.size >= _LARGE else np.zeros(shape, x.dtype)
    z[(..., *(slice(*pair) for pair in ends))] = x
    return z


def cropped(z: Array, zeros: Zeros) -> Array:
    """Take that many off again, before and after: a view of what `padded` was given.

    Examples:
        >>> cropped(np.array([[0.0, 1, 2]]), [(1, 0)])
        array([[1., 2.]])
    """
    sides = zip(z.shape[z.ndim - len(zeros) :], zeros, strict=True)
    cut: Array = z[(..., *(slice(before, n - after) for n, (before, after) in sides))]
    return cut


def _cleared(shape: Sequence[int], ends: Sequence[tuple[int, int]], dtype: Any) -> Array:
    """Zeros, but only in the border."""
    z = np.empty(shape, dtype)
    inside: tuple[Any, ...] = (...,)
    for start, end in ends:
        rest = (slice(None),) * (len(ends) - len(inside))
        z[(*inside, slice(start), *rest)] = 0
        z[(*inside, slice(end, None), *rest)] = 0
        inside = (*inside, slice(start, end))
    return z
