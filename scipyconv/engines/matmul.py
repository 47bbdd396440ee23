"""Windows times weights: each window a column, all channels' weights a row, by BLAS.

The columns repeat each pixel as often as there are taps. They are never made all at
once, but piece by piece, each small enough to stay in the processor's cache until it
has been multiplied. So beyond the result this engine needs a few times `PIECE` bytes
for each thread, and its copies cost little.

Where there are clearly fewer outputs than channels, the products come first: every
pixel is multiplied by every tap, which takes no copy for each tap, and then the
products are shifted and added.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from scipyconv.engines import threads
from scipyconv.engines.windows import added_up, patch, windows
from scipyconv.engines.zeros import bordered, cropped
from scipyconv.geometry import Geometry

Array = npt.NDArray[Any]
Piece = tuple[Any, ...]  # slices of the samples and of each spatial dimension

#: Each result depends on its own terms alone, in its error and in a NaN.
LOCAL = True
#: Bytes of a piece at most, its columns and its outputs together.
PIECE = 1 << 21
#: Up to so many numbers, of columns, outputs, and products, which count an eighth, are
#: for a thread alone: two would wait for one another's turn in the interpreter.
SHORT = 1 << 22
#: To add a product, and to multiply one that is not needed, in copies of a number;
#: measured.
_ADDED, _MULTIPLIED = 1.5, 0.12
#: Bytes of a number in double precision.
_DOUBLE = 8


def correlate(
    x: Array, w: Array, geometry: Geometry, out: Array | None = None
) -> Array:
    """y[n, o, t] = sum over c, k of w[o, c, k] · x[n, c, p].

    Args:
        x: The input.
        w: The weight.
        geometry: The three shapes, and how they belong together.
        out: Where the result goes, contiguous; a new array, if not given.

    Examples:
        >>> x, w = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[1.0, 2]]])
        >>> geometry = Geometry(x.shape, w.shape, (1, 1, 2), (2,), ((0, 0),), (1,), 1)
        >>> correlate(x, w, geometry)
        array([[[2., 7.]]])
    """
    y = np.empty(geometry.y, x.dtype) if out is None else out
    x, outputs = np.ascontiguousarray(x), _by_group(y, geometry.groups)
    if geometry.products <= threads.SMALL:
        columns = _columns(windows(bordered(x, geometry), geometry, geometry.outputs))
        np.matmul(_rows(w, geometry.groups), columns, out=_flat(outputs))
    elif multiplies_first(geometry):
        _add_products(x, w, geometry, outputs)
    else:
        _multiply_columns(x, w, geometry, outputs)
    return y


def _multiply_columns(x: Array, w: Array, geometry: Geometry, y: Array) -> None:
    rows = _rows(w, geometry.groups)

    def work(pieces: Iterable[Piece]) -> None:
        for n, *t in pieces:
            y_ = y[n, :, :, *t]
            columns = windows(patch(x, geometry, n, *t), geometry, y_.shape[3:])
            np.matmul(rows, _columns(columns), out=_flat(y_))

    _share(work, geometry, rows.shape, y.itemsize)


def multiplies_first(geometry: Geometry) -> bool:
    """Tell whether to multiply each pixel by each tap before anything is added up.

    What two pieces share is multiplied for both; its products must fit in a piece.
    """
    taps, inside = prod(geometry.taps), geometry.bordered[2:]
    if max(geometry.stride) > 1 or taps == 1:
        return False
    shared = max(
        (reach - 1) * prod(inside[i + 1 :]) for i, reach in enumerate(geometry.span)
    )
    if geometry.w[0] * taps * shared * _DOUBLE > PIECE:
        return False
    pixels, places = prod(inside), prod(geometry.outputs)
    unneeded = _MULTIPLIED * geometry.channels * (pixels - places)
    return geometry.channels * places > geometry.filters * (_ADDED * pixels + unneeded)


def _add_products(x: Array, w: Array, geometry: Geometry, y: Array) -> None:
    """Multiply each pixel by each tap, then add up what belongs to the same output."""
    groups, outputs = y.shape[1:3]
    taps = w.reshape(groups, outputs, w.shape[1], prod(geometry.taps)).swapaxes(2, 3)
    rows = np.ascontiguousarray(taps).reshape(groups, -1, w.shape[1])

    def work(pieces: Iterable[Piece]) -> None:
        for n, *t in pieces:
            y_, pixels = y[n, :, :, *t], np.ascontiguousarray(patch(x, geometry, n, *t))
            size = prod(pixels.shape[2:])
            products = rows @ pixels.reshape(len(pixels), groups, w.shape[1], size)
            products = products.reshape(
                *y_.shape[:3], *geometry.taps, *pixels.shape[2:]
            )
            y_[...] = added_up(products, geometry, y_.shape[3:])
            del pixels, products  # before the next ones are made

    # in larger pieces, because what two of them share is multiplied in both
    _share(work, geometry, rows.shape, y.itemsize / 2)


def weight_gradient(
    x: Array, y: Array, geometry: Geometry, out: Array | None = None
) -> Array:
    """grad_w[o, c, k] = sum over n, t of y[n, o, t] · x[n, c, p].

    Args:
        x: The input.
        y: The cotangent.
        geometry: The three shapes, and how they belong together.
        out: Where the result goes, contiguous; a new array, if not given.

    Examples:
        >>> x, y = np.array([[[0.0, 1, 3, 2, 4]]]), np.array([[[2.0, 7]]])
        >>> geometry = Geometry(x.shape, (1, 1, 2), y.shape, (2,), ((0, 0),), (1,), 1)
        >>> weight_gradient(x, y, geometry)
        array([[[21., 16.]]])
    """
    grad_w = np.empty(geometry.w, x.dtype) if out is None else out
    x, cotangents = np.ascontiguousarray(x), _by_group(y, geometry.groups)
    rows = (geometry.groups, geometry.filters, prod(geometry.w[1:]))
    gradient = grad_w.reshape(rows)
    if geometry.products <= threads.SMALL:
        columns = _columns(windows(bordered(x, geometry), geometry, geometry.outputs))
        gradient[...] = _summed(_flat(cotangents) @ columns.swapaxes(2, 3))
        return grad_w

    def work(pieces: Iterable[Piece]) -> Any:
        total: Any = 0
        for n, *t in pieces:
            y_ = cotangents[n, :, :, *t]
            columns = windows(patch(x, geometry, n, *t), geometry, y_.shape[3:])
            total = total + _summed(_columns(columns) @ _flat(y_).swapaxes(2, 3))
        return total

    total: Array = sum(_share(work, geometry, rows, x.itemsize))
    gradient[...] = total.swapaxes(1, 2)
    return grad_w


def input_gradient(
    w: Array, y: Array, geometry: Geometry, out: Array | None = None
) -> Array:
    """grad_x[n, c, p] = sum over o, t, k that meet p of w[o, c, k] · y[n, o, t].

    The flipped weights over the windows of a bordered cotangent; or stamps, for a
    stride.

    Args:
        w: The weight.
        y: The cotangent.
        geometry: The three shapes, and how they belong together.
        out: Where the result goes, contiguous; a new array, if not given.

    Examples:
        >>> w, y = np.array([[[1.0, 2]]]), np.array([[[2.0, 7]]])
        >>> geometry = Geometry((1, 1, 5), w.shape, y.shape, (2,), ((0, 0),), (1,), 1)
        >>> input_gradient(w, y, geometry)
        array([[[ 2.,  4.,  7., 14.,  0.]]])
    """
    if _stamps(geometry):
        return _stamped(w, y, geometry, out)
    seen = cropped(y, geometry.unseen)
    return correlate(seen, _flipped(w, geometry.groups), geometry.turned, out)


def _stamps(geometry: Geometry) -> bool:
    """Whether the input's gradient is stamped, tap by tap."""
    return max(geometry.stride) > 1


def _stamped(w: Array, y: Array, geometry: Geometry, out: Array | None) -> Array:
    """Multiply weights and cotangents, and add each tap's products to its pixels."""
    grad_x = np.empty(geometry.x, y.dtype) if out is None else out
    grad_x[...] = 0
    rows, cotangents = _rows(w, geometry.groups), _by_group(y, geometry.groups)
    pixels = _by_group(grad_x, geometry.groups)

    def work(images: Iterable[list[Piece]]) -> None:
        for n, *t in (piece for image in images for piece in image):
            y_ = cotangents[n, :, :, *t]
            products = rows.swapaxes(1, 2) @ _flat(y_)
            stamps = products.reshape(*y_.shape[:2], *w.shape[1:], *y_.shape[3:])
            for k, where, put in _places(geometry, t):
                stamped = pixels[n, :, :, *where]
                stamped += stamps[:, :, :, *k, *put]
            del products, stamps  # before the next ones are made

    images: dict[int, list[Piece]] = {}  # two threads must not add to one image
    # in larger pieces: few additions at once hold each other up less
    for piece in _pieces(geometry, rows.shape, y.itemsize / 2):
        images.setdefault(piece[0].start, []).append(piece)
    threads.share(
        work, list(images.values()), is_short(_columns_of(geometry), *rows.shape[1:])
    )
    return grad_x


def _places(geometry: Geometry, t: Sequence[slice]) -> Iterable[tuple[Any, Any, Any]]:
    """For each tap: the pixels that its stamps go to, and which stamps go there."""
    along = [
        [_inside(part, size, s, d * k - before) for k in range(taps)]
        for part, size, taps, s, d, (before, _) in zip(
            t,
            geometry.pixels,
            geometry.taps,
            geometry.stride,
            geometry.dilation,
            geometry.padding,
            strict=True,
        )
    ]
    for k, place in zip(np.ndindex(*geometry.taps), product(*along), strict=True):
        where, put = zip(*place, strict=True)
        yield k, where, put


def _inside(t: slice, size: int, stride: int, shift: int) -> tuple[slice, slice]:
    """The pixels stride·t + shift that there are, and the part of t they belong to."""
    first = max(t.start, -(shift // stride))
    last = max(first, min(t.stop, (size - 1 - shift) // stride + 1))
    start = stride * first + shift
    return (
        slice(start, start + stride * (last - first), stride),
        slice(first - t.start, last - t.start),
    )


def cost(geometry: Geometry, maps: str, dtype: np.dtype[Any]) -> float:
    """Estimate some of the maps, in seconds."""
    return (
        sum(_cost(geometry, role, dtype) for role in maps) if geometry.products else 0
    )


def _cost(geometry: Geometry, role: str, dtype: np.dtype[Any]) -> float:
    """Products, dearer where a matrix has few rows, and what moves numbers."""
    if role == "x" and not _stamps(geometry):
        geometry, role = geometry.turned, "y"
    columns, taps = _columns_of(geometry), prod(geometry.taps)
    outputs, inputs, row = (
        geometry.filters,
        geometry.channels * taps,
        geometry.outputs[-1],
    )
    products, moved = (
        columns * inputs * outputs,
        9 * columns * inputs / row * (taps > 1),
    )
    if role == "x":
        outputs, inputs = inputs, outputs
        moved = (2.2 + 31 / row) * columns * outputs + 1400 * geometry.batch * taps
    elif role == "y" and multiplies_first(geometry):
        outputs, inputs = outputs * taps, geometry.channels
        places = geometry.batch * geometry.groups * prod(geometry.bordered[2:])
        products, moved = places * outputs * inputs, 0.7 * places * outputs
    waking = 0 if is_short(columns, outputs, inputs) else 180_000
    multiplied = products * (0.03 + 0.45 / min(outputs, 64))
    return 1e-9 * (100_000 + waking + _price(dtype) * (multiplied + moved))


def _price(dtype: np.dtype[Any]) -> float:
    """What a number costs, in numbers of single precision; BLAS knows no integers."""
    if dtype.kind in "iu":
        return 50
    return dtype.itemsize / 4 * (2 if dtype.kind == "c" else 1)


def is_short(columns: int, outputs: int, inputs: int) -> bool:
    """Tell whether a thread alone should multiply so many columns."""
    return columns * (outputs + inputs + outputs * inputs // 8) < SHORT


def _columns_of(geometry: Geometry) -> int:
    """How many columns there are, of all groups."""
    return geometry.batch * geometry.groups * prod(geometry.outputs)


def _share(
    work: Callable[[Iterable[Piece]], Any],
    geometry: Geometry,
    rows: Sequence[int],
    size: float,
) -> list[Any]:
    """Deal the pieces of y to the threads, or to this one if there is little to do."""
    alone = is_short(_columns_of(geometry), rows[1], rows[2])
    return threads.share(work, _pieces(geometry, rows, size), alone)


def _pieces(geometry: Geometry, rows: Sequence[int], size: float) -> list[Piece]:
    """Cut samples and outputs into pieces of `PIECE` bytes, a number having `size`."""
    sizes = (geometry.batch, *geometry.outputs)
    each = rows[0] * (rows[1] + rows[2]) * size
    count = ceil(prod(sizes) * each / PIECE)
    if count > 1:  # as many for each thread
        count = -(-count // threads.count()) * threads.count()
    room = prod(sizes) // max(1, count)
    cuts: list[list[slice]] = []
    for size in reversed(sizes):
        parts = -(-size // max(1, min(size, room)))  # as few as fit
        room //= max(1, size)
        cuts.insert(0, threads.cut(size, parts))
    return list(product(*cuts))


def _columns(windows: Array) -> Array:
    """`(N, groups, C·K, T)`, a copy unless each window is one pixel."""
    batch, groups, *sizes = windows.shape
    end = len(sizes) // 2 + 1
    return windows.reshape(batch, groups, prod(sizes[:end]), prod(sizes[end:]))


def _summed(products: Array) -> Array:
    """The sum over the samples."""
    if len(products) == 1:
        return products[0]  # type: ignore[no-any-return]
    total: Array = products.sum(0, dtype=products.dtype)
    return total


def _rows(w: Array, groups: int) -> Array:
    """`(groups, O, C·K)`."""
    return np.ascontiguousarray(w).reshape(groups, len(w) // groups, prod(w.shape[1:]))


def _by_group(y: Array, groups: int) -> Array:
    """`(N, groups, O, T...)`."""
    y = np.ascontiguousarray(y)
    return y.reshape(len(y), groups, y.shape[1] // groups, *y.shape[2:])


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
