"""What an engine holds beyond the arrays that it is given and returns, as tracemalloc
counts it."""

import gc
import tracemalloc

import numpy as np
import pytest
import torch

from scipyconv.engines import matmul, threads
from scipyconv.functional import conv2d
from scipyconv.geometry import Geometry


def made(x, w, y, stride=1, dilation=1, groups=1, padding=0):
    dims = len(x) - 2
    return Geometry(
        x,
        w,
        y,
        (stride,) * dims,
        ((padding, padding),) * dims,
        (dilation,) * dims,
        groups,
    )


#: Columns of all windows at once would be 9 to 125 times x.
GEOMETRIES = {
    "1-D": made((2, 16, 20_000), (16, 16, 9), (2, 16, 19_992)),
    "2-D": made((2, 16, 128, 128), (16, 16, 3, 3), (2, 16, 126, 126)),
    "2-D, one large sample": made((1, 4, 400, 400), (4, 4, 5, 5), (1, 4, 396, 396)),
    "2-D, stride": made((2, 16, 128, 128), (16, 16, 3, 3), (2, 16, 63, 63), stride=2),
    "2-D, dilation": made(
        (2, 16, 128, 128), (16, 16, 3, 3), (2, 16, 120, 120), dilation=4
    ),
    "2-D, depthwise": made((2, 32, 96, 96), (32, 1, 5, 5), (2, 32, 92, 92), groups=32),
    "2-D, products first": made((1, 2, 256, 256), (32, 2, 3, 3), (1, 32, 254, 254)),
    "3-D": made((1, 8, 32, 32, 32), (8, 8, 5, 5, 5), (1, 8, 28, 28, 28)),
}


def beyond(function, *args):
    """Bytes at the peak, beyond the result's own."""
    gc.collect()
    tracemalloc.start()
    try:
        result = function(*args)
        return tracemalloc.get_traced_memory()[1] - result.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("hands", [1, 2])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_matmul_needs_a_piece_for_each_thread(geometry, hands, monkeypatch):
    """For the input's gradient up to three: it may multiply first, or add stamps."""
    monkeypatch.setattr(threads, "count", lambda: hands)
    x, w, y = (np.ones(geometry.shape(role), np.float32) for role in "xwy")
    matmul.correlate(x, w, geometry)  # what is made once
    small = 8 * w.nbytes * hands + 200_000
    pieces = matmul.PIECE * hands
    assert beyond(matmul.correlate, x, w, geometry) < pieces + small
    assert beyond(matmul.weight_gradient, x, y, geometry) < pieces + small
    assert beyond(matmul.input_gradient, w, y, geometry) < 3 * pieces + small


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("hands", [1, 2])
def test_matmul_does_not_copy_all_of_x_into_a_border(hands, stride, monkeypatch):
    monkeypatch.setattr(threads, "count", lambda: hands)
    x, w = np.ones((8, 16, 256, 256), np.float32), np.ones((16, 16, 3, 3), np.float32)
    g = np.ones((8, 16, 256 // stride, 256 // stride), np.float32)
    geometry = made(x.shape, w.shape, g.shape, stride, padding=1)
    matmul.correlate(x, w, geometry)
    assert x.nbytes > 4 * matmul.PIECE * hands
    for function, operands in [
        (matmul.correlate, (x, w)),
        (matmul.weight_gradient, (x, g)),
        (matmul.input_gradient, (w, g)),
    ]:
        most = (
            3 if stride > 1 and function is matmul.input_gradient else 1.2
        )  # and the pixels
        assert (
            beyond(function, *operands, geometry)
            < most * matmul.PIECE * hands + 200_000
        )


def test_products_first_need_three_pieces(monkeypatch):
    """The input's gradient of a network's first layer, and a forward to few
    channels."""
    monkeypatch.setattr(threads, "count", lambda: 1)
    first = made((1, 3, 128, 128), (64, 3, 7, 7), (1, 64, 128, 128), padding=3)
    few = made((1, 12, 190, 190), (4, 12, 7, 7), (1, 4, 190, 190), padding=3)
    assert matmul.multiplies_first(first.turned)
    assert matmul.multiplies_first(few)
    for function, geometry, roles in [
        (matmul.input_gradient, first, "wy"),
        (matmul.correlate, few, "xw"),
    ]:
        operands = [np.ones(geometry.shape(role), np.float32) for role in roles]
        beyond(function, *operands, geometry)
        assert beyond(function, *operands, geometry) < 3 * matmul.PIECE + 200_000


def test_what_pieces_share_keeps_products_from_coming_first():
    """Along every dimension: here the taps of the second reach over half of the
    pixels."""
    ones, none = (1, 1), ((0, 0), (0, 0))
    assert not matmul.multiplies_first(
        Geometry(
            (1, 16, 1, 120_000),
            (1, 16, 1, 31),
            (1, 1, 1, 60_000),
            ones,
            none,
            (1, 2000),
            1,
        )
    )
    # nothing is copied anyway
    assert not matmul.multiplies_first(
        made((4, 64, 64, 64), (16, 64, 1, 1), (4, 16, 64, 64))
    )


def layer():
    x = torch.randn(2, 3, 20, 20, requires_grad=True)
    w = torch.randn(4, 3, 7, 7, requires_grad=True)
    return x, w, conv2d(x, w, method="fft")


def test_what_is_saved_are_the_operands():
    x, w, y = layer()
    saved = y.grad_fn.saved_tensors
    assert [t.data_ptr() for t in saved] == [x.data_ptr(), w.data_ptr()]


def test_nothing_of_a_transform_is_kept_from_the_forward_to_the_backward():
    layer()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        _, _, y = layer()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < before + 10_000
        assert y.grad_fn is not None
    finally:
        tracemalloc.stop()


def test_a_change_that_no_version_counts_is_seen():
    """As in torch: what an optimizer does to `w.data` between forward and backward."""
    x, w, y = layer()
    g = torch.randn_like(y)
    w.data.mul_(2)
    expected = torch.nn.functional.conv2d(x, w)
    for one, other in zip(
        torch.autograd.grad(y, (x, w), g),
        torch.autograd.grad(expected, (x, w), g),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_without_a_gradient_nothing_is_kept():
    x, w = torch.randn(1, 1, 9, 9), torch.randn(1, 1, 3, 3)
    assert conv2d(x, w, method="fft").grad_fn is None
