"""Every mistake in the arguments of a convolution: torch's class of error, and a better
message."""

import itertools
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scipyconv import arguments, functional, nn

X = torch.randn(2, 4, 6, 7)
WEIGHT = {
    "conv2d": torch.randn(6, 4, 3, 3),
    "conv_transpose2d": torch.randn(4, 6, 3, 3),
}
BIAS = torch.randn(6)

# What is passed in place of the right argument, and the argument that the message must
# name.
BOTH = [
    ({"input": [1.0]}, "input"),
    ({"input": None}, "input"),
    ({"input": np.ones((2, 4, 6, 7))}, "input"),
    ({"weight": None}, "weight"),
    ({"weight": [[1.0]]}, "weight"),
    ({"bias": 1.0}, "bias"),
    ({"bias": [1.0] * 6}, "bias"),
    ({"input": X[0, 0]}, "input"),
    ({"input": X[0, 0, 0]}, "input"),
    ({"input": X[None]}, "input"),
    ({"input": torch.tensor(1.0)}, "input"),
    ({"input": X[:, :3]}, "input"),
    ({"input": X[0, :3]}, "input"),
    ({"input": X[:, :0]}, "input"),
    ({"weight": torch.randn(6, 4, 3)}, "weight"),
    ({"weight": torch.randn(6, 4, 3, 3, 3)}, "weight"),
    ({"weight": torch.tensor(1.0)}, "weight"),
    ({"weight": torch.ones(3)}, "weight"),
    ({"weight": torch.randn(0, 4, 3, 3), "bias": None}, "weight"),
    ({"bias": BIAS[None]}, "bias"),
    ({"bias": BIAS[0]}, "bias"),
    ({"bias": BIAS[:5]}, "bias"),
    ({"bias": BIAS[:1]}, "bias"),
    ({"bias": BIAS[:0]}, "bias"),
    ({"bias": torch.randn(6, 1, 1)}, "bias"),
    ({"weight": torch.randn(6, 6, 3, 3).double()}, "weight"),
    ({"bias": BIAS.double()}, "bias"),
    ({"bias": BIAS.long()}, "bias"),
    ({"bias": BIAS.half()}, "bias"),
    ({"input": X.long()}, "weight"),
    ({"input": X.to(torch.complex64)}, "weight"),
    ({"input": X.to_sparse()}, "input"),
    ({"bias": BIAS.to_sparse()}, "bias"),
    *[
        ({name: value}, name)
        for name, value in itertools.product(
            ("stride", "padding", "dilation"),
            (
                -1,
                1.5,
                "1",
                None,
                True,
                (1, 1, 1),
                (),
                (1, -1),
                (1, 1.5),
                (True, 1),
                ("1", 1),
            ),
        )
    ],
    ({"stride": 0}, "stride"),
    ({"stride": (1, 0)}, "stride"),
    ({"dilation": 0}, "dilation"),
    *[({"groups": value}, "groups") for value in (0, -1, 1.5, "1", None, True, (1,))],
    ({"groups": 5}, "weight"),
]
ALONE = {
    "conv2d": [
        ({"groups": 2}, "input"),
        ({"padding": "valid "}, "padding"),
        ({"dilation": 5}, "weight"),
        ({"input": X[:, :, :2]}, "weight"),
        ({"input": X[:, :, :2, :2]}, "weight"),
        ({"input": X[:, :, :0]}, "input"),
        ({"input": X[:0, :, :2]}, "weight"),
        ({"weight": torch.randn(6, 3, 3, 3)}, "input"),
        ({"weight": torch.randn(6, 4, 0, 3)}, "weight"),
        ({"output_padding": 1}, "output_padding"),
    ],
    "conv_transpose2d": [
        ({"groups": 2}, "bias"),
        ({"padding": "same"}, "padding"),
        ({"padding": 9}, "padding"),
        ({"input": X[:, :, :0]}, "input"),
        ({"weight": torch.randn(3, 6, 3, 3)}, "input"),
        ({"weight": torch.randn(4, 6, 0, 3)}, "weight"),
        ({"weight": torch.randn(4, 0, 3, 3), "bias": None}, "weight"),
        *[
            ({"output_padding": value}, "output_padding")
            for value in (1, (0, 1), -1, 1.5, None, True, (0, 0, 0), "0")
        ],
        ({"output_padding": 2, "stride": 2}, "output_padding"),
        ({"output_padding": (3, 0), "dilation": (3, 1)}, "output_padding"),
    ],
}
CASES = [(name, *case) for name in WEIGHT for case in (*BOTH, *ALONE[name])]


@pytest.mark.parametrize(("name", "wrong", "named"), CASES)
def test_error_has_the_class_of_torch_and_names_the_argument(name, wrong, named):
    arguments = {"input": X, "weight": WEIGHT[name], "bias": BIAS, **wrong}
    with pytest.raises((TypeError, RuntimeError)) as theirs:
        getattr(F, name)(**arguments)
    with pytest.raises(theirs.type) as ours:
        getattr(functional, name)(**arguments)
    assert ours.type is theirs.type
    message = str(ours.value)
    assert named in message
    if "unexpected keyword" not in message:  # Python's own
        assert re.match(rf"{named} must .*: .*; (pass|replace) ", message), message


@pytest.mark.parametrize(
    "arguments",
    [
        {"padding": ((1, 1),)},
        {"padding": ((1, 1), (1,))},
        {"padding": ((1, 1), 1)},
        {"padding": ((1, -1), (0, 0))},
        {"padding": ((1, 1), (1, 1, 1))},
    ],
)
@pytest.mark.parametrize("name", WEIGHT)
def test_pairs_that_are_none(name, arguments):
    with pytest.raises((TypeError, RuntimeError), match=r"^padding must .*: .*; pass "):
        getattr(functional, name)(X, WEIGHT[name], **arguments)


@pytest.mark.parametrize("method", ["winograd", "FFT", "", None, 1, ["direct"]])
@pytest.mark.parametrize("name", WEIGHT)
def test_unknown_method(name, method):
    with pytest.raises(
        ValueError, match=r"method must be one of 'auto', .*: it is .*; pass"
    ):
        getattr(functional, name)(X, WEIGHT[name], method=method)


@pytest.mark.parametrize(
    "number", [2, (2,), [2], (2, 2), torch.Size([2, 2]), np.int64(2), torch.tensor(2)]
)
def test_what_torch_takes_as_integers(number):
    assert arguments.integers("stride", number, 2, least=1) == (2, 2)
    y = functional.conv2d(X, WEIGHT["conv2d"], stride=number)
    torch.testing.assert_close(y, F.conv2d(X, WEIGHT["conv2d"], stride=2))


@pytest.mark.parametrize("name", WEIGHT)
def test_an_empty_batch_is_one(name):
    x = X[:0].requires_grad_()
    w = WEIGHT[name].clone().requires_grad_()
    y = getattr(functional, name)(x, w)
    assert y.shape == getattr(F, name)(x, w).shape
    y.backward(torch.randn_like(y))
    assert x.grad.shape == x.shape
    assert not w.grad.any()


@pytest.mark.parametrize("dtype", [torch.bool, torch.float8_e5m2])
@pytest.mark.parametrize("name", WEIGHT)
def test_dtype_that_is_not_computed_in(name, dtype):
    x, w = X.to(dtype), WEIGHT[name].to(dtype)
    with pytest.raises(NotImplementedError):
        getattr(F, name)(x, w)
    with pytest.raises(NotImplementedError, match="input must be one of"):
        getattr(functional, name)(x, w)


def test_same_with_a_stride_has_the_size_that_is_promised():
    for n, k, s, d in itertools.product(
        range(1, 9), range(1, 5), range(1, 5), range(1, 4)
    ):
        y = functional.conv1d(
            torch.zeros(1, n),
            torch.zeros(1, 1, k),
            stride=s,
            padding="same",
            dilation=d,
        )
        assert y.shape == (1, -(-n // s)), (n, k, s, d)


def test_messages_say_the_numbers():
    layer = nn.ConvTranspose1d(1, 1, 1, stride=4)
    with pytest.raises(ValueError, match="from 5 to 8 along dimension 0"):
        layer(torch.ones(1, 1, 2), output_size=[9])
    with pytest.raises(RuntimeError, match="weight must have 4 dimensions"):
        functional.conv2d(X, torch.ones(3, 3))


def test_only_an_empty_batch_leaves_nothing():
    w = torch.ones(2, 3, 1)
    y = functional.conv_transpose1d(torch.ones(0, 2, 0), w)
    assert y.shape == (0, 3, 0)
    for x, padding in [(torch.ones(1, 2, 2), 1), (torch.ones(0, 2, 2), 2)]:
        with pytest.raises(RuntimeError, match="padding must leave something"):
            functional.conv_transpose1d(x, w, padding=padding)
