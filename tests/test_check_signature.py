"""Which parameters are found in a signature, and how they are passed."""

import functools

import pytest
import torch
from torch.nn import functional as F

from scipyconv.check import check_convolution
from scipyconv.check.family import find_family
from scipyconv.check.signature import find_taken

CONV2D = find_family("conv2d")
ALL = CONV2D.parameters


def fft_conv(
    signal,
    kernel,
    bias=None,
    padding=0,
    padding_mode="constant",
    stride=1,
    dilation=1,
    groups=1,
):
    """The signature of a package on PyPI."""
    return F.conv2d(signal, kernel, bias, stride, padding, dilation, groups)


def tuple_of_all(*arguments):
    return F.conv2d(*arguments)


def by_name(x, w, **parameters):
    return F.conv2d(x, w, **parameters)


def positional_only(x, w, b=None, stride=1, padding=0, /):
    return F.conv2d(x, w, b, stride, padding)


def required(x, w, bias, stride, padding, dilation, groups):
    return F.conv2d(x, w, bias, stride, padding, dilation, groups)


class Applied(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, b, stride, padding):
        raise NotImplementedError


class WithSetup(torch.autograd.Function):
    @staticmethod
    def forward(x, w):
        raise NotImplementedError

    @staticmethod
    def setup_context(ctx, inputs, output):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (F.conv2d, ALL),
        (torch.conv2d, ALL),
        (fft_conv, ALL),
        (tuple_of_all, ALL),
        (by_name, ALL),
        (required, ALL),
        (positional_only, ("input", "weight", "bias", "stride", "padding")),
        (
            lambda x, w, *, groups=1, stride=1: None,
            ("input", "weight", "stride", "groups"),
        ),
        (lambda x, kernel, stride=1: None, ("input", "weight", "stride")),
        (functools.partial(required, bias=None, padding=0), ALL),
        (Applied.apply, ("input", "weight", "bias", "stride", "padding")),
        (WithSetup.apply, ("input", "weight")),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_a_function_takes_is_found(function, expected):
    taken = find_taken(function, CONV2D)
    found = {*taken.by_position, *taken.by_name}
    assert tuple(name for name in ALL if name in found) == expected


@pytest.mark.parametrize(
    "function", [fft_conv, tuple_of_all, by_name, required, positional_only]
)
def test_what_it_takes_arrives(function):
    report = check_convolution(function, probes=["logic"], dtypes=["float32"])
    assert report.ok, str(report)
    assert not report.unsupported


def test_transposed_convolutions_have_another_order():
    def positional(*arguments):
        return F.conv_transpose2d(*arguments)

    assert check_convolution(positional, "conv_transpose2d", probes=["forward"]).ok


def test_what_is_no_convolution_is_refused():
    with pytest.raises(TypeError, match="must take an input and a weight first"):
        check_convolution(lambda x: x)
    with pytest.raises(TypeError, match="must not require an argument 'mode'"):
        check_convolution(lambda x, w, mode: x)
    with pytest.raises(TypeError, match="function must be callable"):
        check_convolution("conv2d")
