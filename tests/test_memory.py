"""What an engine holds beyond the arrays that it is given and returns, as tracemalloc counts it."""

import gc
import tracemalloc

import numpy as np
import pytest
import torch

from scipyconv.engines import matmul, threads
from scipyconv.functional import conv2d

#: x, w, y, stride, dilation, groups: columns of all windows at once would be 9 to 125 times x.
GEOMETRIES = {
    "1-D": ((2, 16, 20_000), (16, 16, 9), (2, 16, 19_992), (1,), (1,), 1),
    "2-D": ((2, 16, 128, 128), (16, 16, 3, 3), (2, 16, 126, 126), (1, 1), (1, 1), 1),
    "2-D, one large sample": ((1, 4, 400, 400), (4, 4, 5, 5), (1, 4, 396, 396), (1, 1), (1, 1), 1),
    "2-D, stride": ((2, 16, 128, 128), (16, 16, 3, 3), (2, 16, 63, 63), (2, 2), (1, 1), 1),
    "2-D, dilation": ((2, 16, 128, 128), (16, 16, 3, 3), (2, 16, 120, 120), (1, 1), (4, 4), 1),
    "2-D, depthwise": ((2, 32, 96, 96), (32, 1, 5, 5), (2, 32, 92, 92), (1, 1), (1, 1), 32),
    "2-D, products first": ((1, 2, 256, 256), (32, 2, 3, 3), (1, 32, 254, 254), (1, 1), (1, 1), 1),
    "3-D": ((1, 8, 32, 32, 32), (8, 8, 5, 5, 5), (1, 8, 28, 28, 28), (1, 1, 1), (1, 1, 1), 1),
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
    x_shape, w_shape, y_shape, *rest = geometry
    x, w, g = (np.ones(shape, np.float32) for shape in (x_shape, w_shape, y_shape))
    matmul.correlate(x, w, y_shape, *rest)  # what is made once
    small = 8 * w.nbytes * hands + 200_000
    pieces = matmul.PIECE * hands
    assert beyond(matmul.correlate, x, w, y_shape, *rest) < pieces + small
    assert beyond(matmul.weight_gradient, x, g, w_shape, *rest) < pieces + small
    assert beyond(matmul.input_gradient, g, w, x_shape, *rest) < 3 * pieces + small


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("hands", [1, 2])
def test_matmul_does_not_copy_all_of_x_into_a_border(hands, stride, monkeypatch):
    monkeypatch.setattr(threads, "count", lambda: hands)
    x, w = np.ones((8, 16, 256, 256), np.float32), np.ones((16, 16, 3, 3), np.float32)
    g = np.ones((8, 16, 256 // stride, 256 // stride), np.float32)
    rest = (stride, stride), (1, 1), 1, [(1, 1), (1, 1)]
    matmul.correlate(x, w, g.shape, *rest)
    assert x.nbytes > 4 * matmul.PIECE * hands
    for function, operands, size in [(matmul.correlate, (x, w), g.shape),
                                     (matmul.weight_gradient, (x, g), w.shape),
                                     (matmul.input_gradient, (g, w), x.shape)]:
        most = 3 if stride > 1 and function is matmul.input_gradient else 1.2  # and the pixels
        assert beyond(function, *operands, size, *rest) < most * matmul.PIECE * hands + 200_000


def test_products_first_need_three_pieces(monkeypatch):
    """The input's gradient of a network's first layer, and a forward to few channels."""
    monkeypatch.setattr(threads, "count", lambda: 1)
    w, g = np.ones((64, 3, 7, 7), np.float32), np.ones((1, 64, 128, 128), np.float32)
    x, few = np.ones((1, 12, 190, 190), np.float32), np.ones((4, 12, 7, 7), np.float32)
    rest = (1, 1), (1, 1), 1, [(3, 3), (3, 3)]
    assert matmul.multiplies_first((1, 12, 196, 196), few.shape, (1, 4, 190, 190), *rest[:3])
    for function, *operands, size in [(matmul.input_gradient, g, w, (1, 3, 128, 128)),
                                      (matmul.correlate, x, few, (1, 4, 190, 190))]:
        beyond(function, *operands, size, *rest)
        assert beyond(function, *operands, size, *rest) < 3 * matmul.PIECE + 200_000


def test_what_pieces_share_keeps_products_from_coming_first():
    """Along every dimension: here the taps of the second reach over half of the pixels."""
    assert not matmul.multiplies_first((1, 16, 1, 120_000), (1, 16, 1, 31), (1, 1, 1, 60_000),
                                       (1, 1), (1, 2000), 1)
    assert not matmul.multiplies_first((4, 64, 64, 64), (16, 64, 1, 1), (4, 16, 64, 64), (1, 1),
                                       (1, 1), 1)  # nothing is copied anyway


def layer(kept, monkeypatch):
    monkeypatch.setattr(scipyconv.autograd, "KEPT", kept)
    x = torch.randn(2, 3, 20, 20, requires_grad=True)
    w = torch.randn(4, 3, 7, 7, requires_grad=True)
    return conv2d(x, w, method="fft")


def test_fft_keeps_spectra_up_to_a_bound(monkeypatch):
    y = layer(1 << 28, monkeypatch)
    saved = y.grad_fn.saved_tensors
    size = sum(t.numel() * t.element_size() for t in saved[2:])
    assert len(saved) == 4
    assert size > 0
    assert len(layer(size, monkeypatch).grad_fn.saved_tensors) == 4
    assert len(layer(size - 1, monkeypatch).grad_fn.saved_tensors) == 2


@pytest.mark.parametrize("kept", [0, 1 << 28])
def test_gradients_are_the_same_whether_spectra_are_kept_or_not(kept, monkeypatch):
    torch.manual_seed(1)
    y = layer(kept, monkeypatch)
    torch.manual_seed(1)
    x, w = torch.randn(2, 3, 20, 20, requires_grad=True), torch.randn(4, 3, 7, 7,
                                                                      requires_grad=True)
    g = torch.randn_like(y)
    wanted = torch.autograd.grad(torch.nn.functional.conv2d(x, w), (x, w), g)
    leaves = [edge[0].variable for edge in y.grad_fn.next_functions if edge[0] is not None]
    for one, other in zip(torch.autograd.grad(y, leaves, g), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_spectra_are_released_with_the_graph(monkeypatch):
    y = layer(1 << 28, monkeypatch)
    del y
    gc.collect()
    tracemalloc.start()
    try:
        y = layer(1 << 28, monkeypatch)
        g = torch.ones_like(y)
        kept = sum(t.numel() * t.element_size() for t in y.grad_fn.saved_tensors[2:])
        before = tracemalloc.get_traced_memory()[0]
        y.backward(g)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < before - kept + 50_000
    finally:
        tracemalloc.stop()


def test_without_a_gradient_nothing_is_kept():
    x, w = torch.randn(1, 1, 9, 9), torch.randn(1, 1, 3, 3)
    assert conv2d(x, w, method="fft").grad_fn is None
