"""Windows times weights: each window of the input a column, all channels' weights a row, by BLAS.

The columns repeat each pixel as often as there are taps. They are never made all at once, but
piece by piece, each small enough to stay in the processor's cache until it has been multiplied. So
beyond the result this engine needs a few times `PIECE` bytes for each thread, and its copies cost
little.

Where there are clearly fewer outputs than channels, the products come first: every pixel is
multiplied by every tap, which takes no copy for each tap, and then the products are shifted and
added.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from scipyconv.engines import threads
from scipyconv.engines.border import Zeros, bordered, cropped, padded
from scipyconv.engines.windows import Slide

Array = npt.NDArray[Any]
Piece = tuple[Any, ...]  # slices of the samples and of each spatial dimension

#: Bytes of a piece at most, its columns and its outputs together.
PIECE = 1 << 21
#: Up to so many numbers, of columns, outputs, and products, which count an eighth, are for a thread
#: alone: two would wait for one another's turn in the interpreter.
SHORT = 1 << 22
#: To add a product, and to multiply one that is not needed, in copies of a number; measured, as the
#: prices in `choice` are.
_ADDED, _MULTIPLIED = 1.5, 0.12


def correlate(x: Array, w: Array, shape: Sequence[int], stride: Sequence[int],
              dilation: Sequence[int], groups: int, padding: Zeros = ()) -> Array:
    """y[n, o, t] = sum over c, k of w[o, c, k] · x[n, c, p].

    Examples:
        >>> x, w = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[1.0, 2]]])
        >>> correlate(x, w, (1, 1, 2), stride=[2], dilation=[1], groups=1)
        array([[[2., 7.]]])
    """
    slide, x = Slide(w.shape[2:], stride, dilation, groups, padding), np.ascontiguousarray(x)
    if prod(shape) * prod(w.shape[1:]) <= threads.SMALL:
        small: Array = _rows(w, groups) @ _columns(slide.windows(padded(x, padding), shape[2:]))
        return small.reshape(shape)
    y = np.empty(shape, x.dtype)
    outputs = _by_group(y, groups)
    if multiplies_first(bordered(x.shape, padding), w.shape, shape, stride, dilation, groups):
        _add_products(slide, x, w, outputs)
        return y
    rows = _rows(w, groups)

    def work(pieces: Iterable[Piece]) -> None:
        for n, *t in pieces:
            y_ = outputs[n, :, :, *t]
            windows = slide.windows(slide.patch(x, n, *t), y_.shape[3:])
            np.matmul(rows, _columns(windows), out=_flat(y_))

    _share(work, y, rows.shape)
    return y


def multiplies_first(x: Sequence[int], w: Sequence[int], y: Sequence[int], stride: Sequence[int],
                     dilation: Sequence[int], groups: int) -> bool:
    """Tell whether the products come first, for arrays of these shapes, x with its border."""
    outputs, channels, pixels, positions = w[0] // groups, w[1], prod(x[2:]), prod(y[2:])
    over = (d * (k - 1) * prod(x[3 + i :]) for i, (d, k) in enumerate(
        zip(dilation, w[2:], strict=True)))  # pixels that a piece shares with the next
    return max(stride) == 1 < prod(w[2:]) and 8 * w[0] * prod(w[2:]) * max(over) <= PIECE and (
        channels * positions > outputs * (
            _ADDED * pixels + _MULTIPLIED * channels * (pixels - positions)))


def _add_products(slide: Slide, x: Array, w: Array, y: Array) -> None:
    """Multiply each pixel by each tap, then add up what belongs to the same output."""
    groups, outputs = y.shape[1:3]
    taps = w.reshape(groups, outputs, w.shape[1], -1).swapaxes(2, 3)
    rows = np.ascontiguousarray(taps).reshape(groups, -1, w.shape[1])

    def work(pieces: Iterable[Piece]) -> None:
        for n, *t in pieces:
            y_, patch = y[n, :, :, *t], np.ascontiguousarray(slide.patch(x, n, *t))
            products = rows @ patch.reshape(len(patch), groups, w.shape[1], -1)
            products = products.reshape(*y_.shape[:3], *slide.taps, *patch.shape[2:])
            y_[...] = slide.added_up(products, y_.shape[3:])
            del patch, products  # before the next ones are made

    # in larger pieces, because what two of them share is multiplied in both
    _share(work, y[:, 0], rows.shape, 2)


def weight_gradient(x: Array, g: Array, shape: Sequence[int], stride: Sequence[int],
                    dilation: Sequence[int], groups: int, padding: Zeros = ()) -> Array:
    """grad_w[o, c, k] = sum over n, t of g[n, o, t] · x[n, c, p].

    Examples:
        >>> x, g = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[2.0, 7]]])
        >>> weight_gradient(x, g, (1, 1, 2), stride=[2], dilation=[1], groups=1)
        array([[[21., 16.]]])
    """
    slide = Slide(shape[2:], stride, dilation, groups, padding)
    x, cotangents = np.ascontiguousarray(x), _by_group(g, groups)
    rows = (groups, shape[0] // groups, prod(shape[1:]))
    if g.size * rows[2] <= threads.SMALL:
        columns = _columns(slide.windows(padded(x, padding), g.shape[2:]))
        return _summed(_flat(cotangents) @ columns.swapaxes(2, 3)).reshape(shape)

    def work(pieces: Iterable[Piece]) -> Any:
        total: Any = 0
        for n, *t in pieces:
            g_ = cotangents[n, :, :, *t]
            windows = slide.windows(slide.patch(x, n, *t), g_.shape[3:])
            total = total + _summed(_columns(windows) @ _flat(g_).swapaxes(2, 3))
        return total

    total: Array = sum(_share(work, g, rows))
    return np.ascontiguousarray(total.swapaxes(1, 2)).reshape(shape)


def input_gradient(g: Array, w: Array, shape: Sequence[int], stride: Sequence[int],
                   dilation: Sequence[int], groups: int, padding: Zeros = ()) -> Array:
    """grad_x[n, c, p] = sum over o, t, k that meet p of w[o, c, k] · g[n, o, t].

    The flipped weights over the windows of a bordered cotangent; or stamps, for a stride.

    Examples:
        >>> g, w = np.array([[[2.0, 7]]]), np.array([[[1.0, 2]]])
        >>> input_gradient(g, w, (1, 1, 5), stride=[2], dilation=[1], groups=1)
        array([[[ 2.,  4.,  7., 14.,  0.]]])
    """
    padding = padding or [(0, 0)] * len(stride)
    if max(stride) > 1:
        return _stamped(g, w, shape, stride, dilation, groups, padding)
    zeros = [(d * (k - 1) - before, n - t + before) for d, k, n, t, (before, _) in zip(
        dilation, w.shape[2:], shape[2:], g.shape[2:], padding, strict=True)]
    if min(map(min, zeros)) < 0:  # outputs that saw the border alone have no pixel to blame
        g = cropped(g, [(max(0, -before), max(0, -after)) for before, after in zeros])
        zeros = [(max(0, before), max(0, after)) for before, after in zeros]
    return correlate(g, _flipped(w, groups), shape, stride, dilation, groups, zeros)


def _stamped(g: Array, w: Array, shape: Sequence[int], stride: Sequence[int],
             dilation: Sequence[int], groups: int, padding: Zeros) -> Array:
    """Multiply weights and cotangents, and add each tap's products to the pixels it lay on."""
    grad_x, rows = np.zeros(shape, g.dtype), _rows(w, groups)
    cotangents = _by_group(g, groups)
    pixels = grad_x.reshape(shape[0], groups, w.shape[1], *shape[2:])

    def work(images: Iterable[list[Piece]]) -> None:
        for n, *t in (piece for image in images for piece in image):
            g_ = cotangents[n, :, :, *t]
            products = rows.swapaxes(1, 2) @ _flat(g_)
            stamps = products.reshape(*g_.shape[:2], *w.shape[1:], *g_.shape[3:])
            places = [[_inside(part, size, s, d * k - before) for k in range(taps)]
                      for part, size, taps, s, d, (before, _) in zip(
                          t, shape[2:], w.shape[2:], stride, dilation, padding, strict=True)]
            for k, place in zip(np.ndindex(*w.shape[2:]), product(*places), strict=True):
                where, put = zip(*place, strict=True)
                stamped = pixels[n, :, :, *where]
                stamped += stamps[:, :, :, *k, *put]
            del products, stamps  # before the next ones are made

    images: dict[int, list[Piece]] = {}  # two threads must not add to one image
    for piece in _pieces(g, rows.shape, 2):  # few additions at once hold each other up less
        images.setdefault(piece[0].start, []).append(piece)
    threads.share(work, list(images.values()), _alone(g, rows.shape))
    return grad_x


def _inside(t: slice, size: int, stride: int, shift: int) -> tuple[slice, slice]:
    """The pixels stride·t + shift that there are, and which of the part of t those are."""
    first = max(t.start, -(shift // stride))
    last = max(first, min(t.stop, (size - 1 - shift) // stride + 1))
    start = stride * first + shift
    return (slice(start, start + stride * (last - first), stride),
            slice(first - t.start, last - t.start))


def _share(work: Callable[[Iterable[Piece]], Any], y: Array, rows: Sequence[int],
           times: int = 1) -> list[Any]:
    """Deal the pieces of y to the threads, or to this one alone if there is little to do."""
    return threads.share(work, _pieces(y, rows, times), _alone(y, rows))


def _alone(y: Array, rows: Sequence[int]) -> bool:
    return is_short(len(y) * prod(y.shape[2:]) * rows[0], rows[1], rows[2])


def is_short(columns: int, outputs: int, inputs: int) -> bool:
    """Tell whether it is for a thread alone to multiply so many columns of `inputs` numbers."""
    return columns * (outputs + inputs + outputs * inputs // 8) < SHORT


def _columns(windows: Array) -> Array:
    """`(N, groups, C·K, T)`, a copy unless each window is one pixel."""
    batch, groups, *sizes = windows.shape
    end = len(sizes) // 2 + 1
    return windows.reshape(batch, groups, prod(sizes[:end]), prod(sizes[end:]))


def _summed(products: Array) -> Array:
    """The sum over the samples."""
    total: Array = products[0] if len(products) == 1 else products.sum(0, dtype=products.dtype)
    return total


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
