"""Windows times weights: each window of the input a column, all channels' weights a row, by BLAS.

The columns repeat each pixel as often as there are taps. They are never made all at once, but
piece by piece, each small enough to stay in the processor's cache until it has been multiplied. So
beyond the result this engine needs `PIECE` bytes for each thread, and its copies cost little.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from math import prod
from operator import mul
from typing import Any

import numpy as np
import numpy.typing as npt

from scipyconv.engines import threads
from scipyconv.engines.border import cropped, padded

Array = npt.NDArray[Any]
Piece = tuple[Any, ...]  # slices of the samples and of each spatial dimension

#: Bytes of a piece at most, its columns and its outputs together.
PIECE = 1 << 20
#: To add a number takes as long as to copy so many: columns are added to x, or copied from y.
_STAMP = 4


def correlate(x: Array, w: Array, shape: Sequence[int], stride: Sequence[int],
              dilation: Sequence[int], groups: int) -> Array:
    """y[n, o, t] = sum over c, k of w[o, c, k] · x[n, c, stride·t + dilation·k].

    Examples:
        >>> x, w = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[1.0, 2]]])
        >>> correlate(x, w, (1, 1, 2), stride=[2], dilation=[1], groups=1)
        array([[[2., 7.]]])
    """
    windows = _windows(np.ascontiguousarray(x), w.shape[2:], shape[2:], stride, dilation, groups)
    rows = _rows(w, groups)
    if prod(shape) * rows.shape[2] <= threads.SMALL:
        small: Array = rows @ _columns(windows, rows.shape)
        return small.reshape(shape)
    y = np.empty(shape, x.dtype)
    outputs = _by_group(y, groups)

    def work(pieces: Iterable[Piece]) -> None:
        for n, *t in pieces:
            np.matmul(rows, _columns(windows[n, ..., *t], rows.shape),
                      out=_flat(outputs[n, :, :, *t]))

    threads.share(work, _pieces(y, rows.shape))
    return y


def weight_gradient(x: Array, g: Array, shape: Sequence[int], stride: Sequence[int],
                    dilation: Sequence[int], groups: int) -> Array:
    """grad_w[o, c, k] = sum over n, t of g[n, o, t] · x[n, c, stride·t + dilation·k].

    Examples:
        >>> x, g = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[2.0, 7]]])
        >>> weight_gradient(x, g, (1, 1, 2), stride=[2], dilation=[1], groups=1)
        array([[[21., 16.]]])
    """
    windows = _windows(np.ascontiguousarray(x), shape[2:], g.shape[2:], stride, dilation, groups)
    cotangents = _by_group(g, groups)
    rows = (groups, shape[0] // groups, prod(shape[1:]))
    if g.size * rows[2] <= threads.SMALL:
        small: Array = _flat(cotangents) @ _columns(windows, rows).swapaxes(2, 3)
        small = small[0] if len(g) == 1 else small.sum(0)
        return small.reshape(shape)

    def work(pieces: Iterable[Piece]) -> Any:
        total: Any = 0
        for n, *t in pieces:
            part = _columns(windows[n, ..., *t], rows) @ _flat(cotangents[n, :, :, *t]).swapaxes(
                2, 3)
            total = total + (part[0] if len(part) == 1 else part.sum(0))
        return total

    total: Array = sum(threads.share(work, _pieces(g, rows)))
    grad_w: Array = np.ascontiguousarray(total.swapaxes(1, 2)).reshape(shape)
    return grad_w


def input_gradient(g: Array, w: Array, shape: Sequence[int], stride: Sequence[int],
                   dilation: Sequence[int], groups: int,
                   border: Sequence[tuple[int, int]] = ()) -> Array:
    """grad_x[n, c, p] = sum over o, t, k with p = stride·t + dilation·k of w[o, c, k] · g[n, o, t].

    The flipped weights over the windows of a bordered cotangent; or stamps, for a stride, and for
    many output channels and few input channels. `border` is how many pixels of x to leave out,
    before and after along each dimension.

    Examples:
        >>> g, w = np.array([[[2.0, 7]]]), np.array([[[1.0, 2]]])
        >>> input_gradient(g, w, (1, 1, 5), stride=[2], dilation=[1], groups=1)
        array([[[ 2.,  4.,  7., 14.,  0.]]])
    """
    border = border or [(0, 0)] * len(stride)
    inside = [n - before - after for n, (before, after) in zip(shape[2:], border, strict=True)]
    zeros = [(d * (k - 1) - before, n - t + before) for d, k, n, t, (before, _) in zip(
        dilation, w.shape[2:], inside, g.shape[2:], border, strict=True)]
    if not stamps(shape, w.shape, g.shape, stride, groups) and min(map(min, zeros)) >= 0:
        return correlate(padded(g, zeros), _flipped(w, groups), (*shape[:2], *inside), stride,
                         dilation, groups)
    return cropped(_stamped(g, w, shape, stride, dilation, groups), border)


def stamps(x: Sequence[int], w: Sequence[int], y: Sequence[int], stride: Sequence[int],
           groups: int) -> bool:
    """Tell whether the input's gradient is stamped, for arrays of these shapes."""
    return max(stride) > 1 or w[0] // groups * prod(x[2:]) >= _STAMP * w[1] * prod(y[2:])


def _stamped(g: Array, w: Array, shape: Sequence[int], stride: Sequence[int],
             dilation: Sequence[int], groups: int) -> Array:
    """Multiply weights and cotangents to columns, and add each tap's to the pixels it came from."""
    grad_x, rows = np.zeros(shape, g.dtype), _rows(w, groups)
    windows = _windows(grad_x, w.shape[2:], g.shape[2:], stride, dilation, groups)
    cotangents = _by_group(g, groups)

    def work(images: Iterable[list[Piece]]) -> None:
        for n, *t in (piece for image in images for piece in image):
            products = rows.swapaxes(1, 2) @ _flat(cotangents[n, :, :, *t])
            columns = products.reshape(windows[n, ..., *t].shape)
            for k in np.ndindex(*w.shape[2:]):
                pixels = windows[n, :, :, *k, *t]
                pixels += columns[:, :, :, *k]
            del products, columns  # before the next ones are made

    images: dict[int, list[Piece]] = {}  # two threads must not add to one image
    for piece in _pieces(g, rows.shape, 4):  # few additions at once hold each other up less
        images.setdefault(piece[0].start, []).append(piece)
    threads.share(work, list(images.values()))
    return grad_x


def _windows(x: Array, taps: Sequence[int], outputs: Sequence[int], stride: Sequence[int],
             dilation: Sequence[int], groups: int) -> Array:
    """`(N, groups, C, K..., T...)`: x[n, c, stride·t + dilation·k], a view of a contiguous x."""
    batch, channels = x.shape[0], x.shape[1] // groups
    n, c, *p = x.strides
    # the constructor, because as_strided takes longer than a small product
    return np.ndarray((batch, groups, channels, *taps, *outputs), x.dtype, x, 0,
                      (n, channels * c, c, *map(mul, dilation, p), *map(mul, stride, p)))


def _columns(windows: Array, rows: Sequence[int]) -> Array:
    """`(N, groups, C·K, T)`, a copy unless each window is one pixel."""
    outputs = windows.shape[(3 + windows.ndim) // 2 :]
    return windows.reshape(*windows.shape[:2], rows[2], prod(outputs))


def _rows(w: Array, groups: int) -> Array:
    """`(groups, O, C·K)`."""
    return np.ascontiguousarray(w).reshape(groups, len(w) // groups, prod(w.shape[1:]))


def _by_group(y: Array, groups: int) -> Array:
    """`(N, groups, O, T...)`."""
    return np.ascontiguousarray(y).reshape(len(y), groups, y.shape[1] // groups, *y.shape[2:])


def _flat(part: Array) -> Array:
    """`(N, groups, O, T)`; `_pieces` cuts so that this is a view."""
    return part.reshape(*part.shape[:3], prod(part.shape[3:]))


def _flipped(w: Array, groups: int) -> Array:
    """`(groups·C, O, K...)`: the weights from y back to x."""
    flipped = w[:, :, *[slice(None, None, -1)] * (w.ndim - 2)]
    if groups == 1:
        return flipped.swapaxes(0, 1)
    turned = flipped.reshape(groups, len(w) // groups, *w.shape[1:]).swapaxes(1, 2)
    return turned.reshape(groups * w.shape[1], len(w) // groups, *w.shape[2:])


def _pieces(y: Array, rows: Sequence[int], times: int = 1) -> list[Piece]:
    """Cut samples and outputs into pieces of at most so many times `PIECE` bytes."""
    sizes, each = (len(y), *y.shape[2:]), (rows[1] + rows[2]) * rows[0] * y.itemsize
    count = -(-prod(sizes) * each // (times * PIECE))
    if count > 1:  # as many for each thread
        count = -(-count // threads.count()) * threads.count()
    room = prod(sizes) // max(1, count)
    cuts: list[list[slice]] = []
    for size in reversed(sizes):
        parts = -(-size // max(1, min(size, room)))  # as few as fit
        room //= max(1, size)
        cuts.insert(0, threads.cut(size, parts))
    return list(product(*cuts))
