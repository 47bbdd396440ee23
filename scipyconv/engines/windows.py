"""Shifted views: the windows of an input, and the products that belong to the same output."""

from collections.abc import Sequence
from operator import mul
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from scipyconv.engines.border import Zeros

Array = npt.NDArray[Any]


class Slide(NamedTuple):
    """How windows slide over an input.

    Examples:
        >>> x = np.array([[[1.0, 2, 3]]])
        >>> slide = Slide(taps=[2], stride=[1], dilation=[1], groups=1, padding=[(1, 0)])
        >>> patch = slide.patch(x, slice(0, 1), slice(0, 2))  # what the first two windows see
        >>> patch
        array([[[0., 1., 2.]]])
        >>> slide.windows(patch, [2])[0, 0, 0]
        array([[0., 1.],
               [1., 2.]])
    """

    taps: Sequence[int]
    stride: Sequence[int]
    dilation: Sequence[int]
    groups: int
    padding: Zeros

    def patch(self, x: Array, n: slice, *t: slice) -> Array:
        """`(N, groups·C, P...)`: the pixels under some windows, and the zeros among them."""
        source, target, shape = list[slice](), list[slice](), list[int]()
        for i, part in enumerate(t):
            reach = self.dilation[i] * (self.taps[i] - 1) + 1
            size = self.stride[i] * (part.stop - part.start - 1) + reach
            first = self.stride[i] * part.start - (self.padding[i][0] if self.padding else 0)
            low = min(max(first, 0), x.shape[2 + i])
            high = max(min(first + size, x.shape[2 + i]), low)
            before = min(max(-first, 0), size)
            source.append(slice(low, high))
            target.append(slice(before, before + high - low))
            shape.append(size)
        pixels = x[n, :, *source]
        if pixels.shape[2:] == (*shape,):
            return pixels
        patch = np.zeros((*pixels.shape[:2], *shape), x.dtype)
        patch[:, :, *target] = pixels  # one call; `padded` takes more, and threads wait in each
        return patch

    def windows(self, patch: Array, outputs: Sequence[int]) -> Array:
        """`(N, groups, C, K..., T...)`: patch[n, c, stride·t + dilation·k]."""
        channels = patch.shape[1] // self.groups
        n, c, *p = patch.strides
        return _view(patch, (len(patch), self.groups, channels, *self.taps, *outputs), (
            n, channels * c, c, *map(mul, self.dilation, p), *map(mul, self.stride, p)))

    def added_up(self, products: Array, outputs: Sequence[int]) -> Array:
        """`(N, groups, O, T...)`: the sum over k of products[n, group, o, k, t + dilation·k].

        For a stride of 1. One long run for each tap is added faster than many short rows; the sums
        in the gaps between the rows are left out.
        """
        end = 3 + len(self.taps)
        first, apart, pixels = (products.strides[:3], products.strides[3:end],
                                products.strides[end:])
        taps = [a + d * p for a, d, p in zip(apart, self.dilation, pixels, strict=True)]
        long = 1 + sum((t - 1) * p for t, p in zip(outputs, pixels, strict=True)) // pixels[-1]
        sums = np.add.reduce(
            _view(products, (*products.shape[:end], long), (*first, *taps, pixels[-1])),
            tuple(range(3, end)), dtype=products.dtype)
        return _view(sums, (*sums.shape[:3], *outputs), (*sums.strides[:3], *pixels))


def _view(a: Array, shape: Sequence[int], strides: Sequence[int]) -> Array:
    if a.flags.c_contiguous:  # as_strided takes longer than a small product
        return np.ndarray(shape, a.dtype, a, 0, strides)
    return as_strided(a, shape, strides)
