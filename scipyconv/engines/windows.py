"""Shifted views: the windows of an input, and the products of one output."""

from collections.abc import Sequence
from operator import mul
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from scipyconv.geometry import Geometry

Array = npt.NDArray[Any]


def patch(x: Array, geometry: Geometry, n: slice, *t: slice) -> Array:
    """`(N, groups·C, P...)`: the pixels under some windows, and the zeros among them.

    Args:
        x: The whole input, without its border.
        geometry: Where the windows lie.
        n: Some samples.
        t: Some outputs along each spatial dimension; with a start and a stop.

    Examples:
        >>> x = np.array([[[1.0, 2, 3]]])
        >>> geometry = Geometry(x.shape, (1, 1, 2), (1, 1, 3), (1,), ((1, 0),), (1,), 1)
        >>> patch(x, geometry, slice(0, 1), slice(0, 2))  # the first two windows
        array([[[0., 1., 2.]]])
    """
    source, target, shape = list[slice](), list[slice](), list[int]()
    for part, pixels, stride, span, (before, _) in zip(
        t,
        geometry.pixels,
        geometry.stride,
        geometry.span,
        geometry.padding,
        strict=True,
    ):
        size = stride * (part.stop - part.start - 1) + span
        first = stride * part.start - before
        low = min(max(first, 0), pixels)
        high = max(min(first + size, pixels), low)
        zeros = max(-first, 0)
        source.append(slice(low, high))
        target.append(slice(zeros, zeros + high - low))
        shape.append(size)
    seen = x[n, :, *source]
    if seen.shape[2:] == (*shape,):
        return seen
    whole = np.zeros((*seen.shape[:2], *shape), x.dtype)
    whole[:, :, *target] = (
        seen  # one call; `padded` takes more, and threads wait in each
    )
    return whole


def windows(patch: Array, geometry: Geometry, outputs: Sequence[int]) -> Array:
    """`(N, groups, C, K..., T...)`: patch[n, c, stride·t + dilation·k].

    Examples:
        >>> x = np.array([[[0.0, 1, 2]]])
        >>> geometry = Geometry(x.shape, (1, 1, 2), (1, 1, 2), (1,), ((0, 0),), (1,), 1)
        >>> windows(x, geometry, [2])[0, 0, 0]
        array([[0., 1.],
               [1., 2.]])
    """
    n, c, *p = patch.strides
    shape = (len(patch), geometry.groups, geometry.channels, *geometry.taps, *outputs)
    return _view(
        patch,
        shape,
        (
            n,
            geometry.channels * c,
            c,
            *map(mul, geometry.steps[1], p),
            *map(mul, geometry.steps[0], p),
        ),
    )


def added_up(products: Array, geometry: Geometry, outputs: Sequence[int]) -> Array:
    """`(N, groups, O, T...)`: the sum of products[n, group, o, k, t + dilation·k].

    For a stride of 1. One long run for each tap is added faster than many short rows;
    the sums in the gaps between the rows are left out.
    """
    end = 3 + len(geometry.taps)
    first, apart, pixels = (
        products.strides[:3],
        products.strides[3:end],
        products.strides[end:],
    )
    taps = [a + d * p for a, d, p in zip(apart, geometry.dilation, pixels, strict=True)]
    steps = zip(outputs, pixels, strict=True)
    long = 1 + sum((t - 1) * p for t, p in steps) // pixels[-1]
    sums = np.add.reduce(
        _view(products, (*products.shape[:end], long), (*first, *taps, pixels[-1])),
        tuple(range(3, end)),
        dtype=products.dtype,
    )
    return _view(sums, (*sums.shape[:3], *outputs), (*sums.strides[:3], *pixels))


def _view(a: Array, shape: Sequence[int], strides: Sequence[int]) -> Array:
    if a.flags.c_contiguous:  # as_strided takes longer than a small product
        return np.ndarray(shape, a.dtype, a, 0, strides)
    return as_strided(a, shape, strides)
