"""Every number of the example, computed by SciPy, by autograd and by the package."""

import example
import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, correlate2d

from scipyconv import ScipyConv2dFunction

x, w, g, y = (np.array(getattr(example, name)) for name in "xwgy")


def loss(w, x=x, b=example.b):
    return ((correlate2d(x, w, "valid") + b - example.target) ** 2).sum() / 2


def nudged(array, index, by):
    array = array.copy()
    array[index] += by
    return array


def test_forward_and_loss():
    np.testing.assert_array_equal(correlate2d(x, w, "valid") + example.b, y)
    np.testing.assert_array_equal(y - example.target, g)
    assert loss(w) == example.loss


def test_gradients_by_scipy():
    np.testing.assert_array_equal(correlate2d(x, g, "valid"), example.grad_w)
    np.testing.assert_array_equal(convolve2d(g, w, "full"), example.grad_x)
    assert g.sum() == example.grad_b


def test_gradients_by_the_package():
    tensors = [
        torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for value in (example.x, example.w, [example.b])
    ]
    output = ScipyConv2dFunction.apply(*tensors)
    (((output - torch.tensor(example.target)) ** 2).sum() / 2).backward()
    assert output.tolist() == example.y
    grads = [tensor.grad.tolist() for tensor in tensors]
    assert grads == [example.grad_x, example.grad_w, [example.grad_b]]


def test_gradients_by_nudges():
    """Central differences of a parabola are exact, however large the step."""
    for index in np.ndindex(w.shape):
        slope = (loss(nudged(w, index, 1)) - loss(nudged(w, index, -1))) / 2
        assert slope == example.grad_w[index[0]][index[1]]
    for index in np.ndindex(x.shape):
        slope = (loss(w, nudged(x, index, 1)) - loss(w, nudged(x, index, -1))) / 2
        assert slope == example.grad_x[index[0]][index[1]]
    assert (loss(w, b=6) - loss(w, b=4)) / 2 == example.grad_b


def test_nudges_of_single_weights():
    up_and_down = loss(nudged(w, (0, 1), 1)), loss(nudged(w, (0, 1), -1))
    assert up_and_down == example.loss_nudged_w01
    assert loss(nudged(w, (0, 0), 1)) - loss(w) == example.one_sided_w00


def test_adjoint():
    assert (g * (y - example.b)).sum() == example.adjoint
    assert (w * example.grad_w).sum() == example.adjoint
    assert (x * example.grad_x).sum() == example.adjoint


WRONG = {
    "y": (
        example.wrong_y_minus_b,
        y - example.b,
        {
            "convolve2d": convolve2d(x, w, "valid"),
            "transposed filter": correlate2d(x, w.T, "valid"),
            "arguments swapped": correlate2d(w, x, "valid"),
        },
    ),
    "grad_w": (
        example.wrong_grad_w,
        example.grad_w,
        {
            "convolve2d": convolve2d(x, g, "valid"),
            "arguments swapped": correlate2d(g, x, "valid"),
            "transposed g": correlate2d(x, g.T, "valid"),
        },
    ),
    "grad_x": (
        example.wrong_grad_x,
        example.grad_x,
        {
            "correlate2d": correlate2d(g, w, "full"),
            "transposed filter": convolve2d(g, w.T, "full"),
        },
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_fingerprints_of_mistakes(what):
    fingerprints, right, computed = WRONG[what]
    assert {name: array.tolist() for name, array in computed.items()} == fingerprints
    for array in computed.values():
        assert not np.array_equal(array, right)


def test_adjoint_of_mistakes():
    of_x = {
        name: (x * np.array(array)).sum()
        for name, array in example.wrong_grad_x.items()
    }
    of_w = {
        name: (w * np.array(array)).sum()
        for name, array in example.wrong_grad_w.items()
    }
    assert example.wrong_adjoint == {
        "no flip in grad_x": of_x["correlate2d"],
        "transposed filter in grad_x": of_x["transposed filter"],
        "convolve2d in grad_w": of_w["convolve2d"],
        "arguments swapped in grad_w": of_w["arguments swapped"],
        "transposed g in grad_w": of_w["transposed g"],
    }
    assert example.adjoint not in example.wrong_adjoint.values()


def test_a_sum_sees_nothing():
    """Why the tests' cotangents are random: sums and cotangents of ones hide
    mistakes."""
    sums = {np.sum(array) for array in example.wrong_grad_x.values()}
    assert sums == {np.sum(example.grad_x)} == {20}
    ones = np.ones_like(g)
    assert correlate2d(x, ones, "valid").tolist() == example.grad_w_of_ones
    assert convolve2d(x, ones, "valid").tolist() == example.grad_w_of_ones


def test_jacobian():
    jacobian = torch.func.jacrev(ScipyConv2dFunction.apply)(
        torch.tensor(example.x, dtype=torch.float64),
        torch.tensor(example.w, dtype=torch.float64),
    ).reshape(4, 9)
    assert jacobian[0].tolist() == example.jacobian_row_of_first_output
    assert jacobian[:, 4].tolist() == example.jacobian_column_of_centre_pixel


def test_full_correlation():
    assert correlate2d(x, w, "full")[0, -1] == example.full_correlation_top_right
