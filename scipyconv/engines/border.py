"""Zeros around an array."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: How many before and after, along each of the last dimensions.
Zeros = Sequence[tuple[int, int]]

_SMALL = 1 << 14


def padded(x: Array, zeros: Zeros) -> Array:
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
    shape, ends = list(x.shape), list[tuple[int, int]]()
    for i, (before, after) in enumerate(zeros, x.ndim - len(zeros)):
        ends.append((before, before + shape[i]))
        shape[i] += before + after
    z = np.zeros(shape, x.dtype) if x.size < _SMALL else _cleared(shape, ends, x.dtype)
    inside: tuple[Any, ...] = (..., *(slice(*pair) for pair in ends))
    z[inside] = x
    return z


def bordered(shape: Sequence[int], zeros: Zeros) -> tuple[int, ...]:
    """Return the shape of `padded`'s result.

    Examples:
        >>> bordered((2, 2), [(1, 0)])
        (2, 3)
    """
    first = len(shape) - len(zeros)
    return (*shape[:first], *(n + before + after for n, (before, after) in zip(
        shape[first:], zeros, strict=True)))


def cropped(z: Array, zeros: Zeros) -> Array:
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
