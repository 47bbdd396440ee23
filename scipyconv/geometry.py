"""Stride, padding, dilation, groups and output padding: from shapes to shapes, every check once.

Along each spatial dimension the tap k of the window at t lies on the pixel
p = stride·t + dilation·k - before, with `before` and `after` zeros around the input. Each error has
the class that PyTorch's own function raises, and says what is allowed, what came, and what to do.
"""

from collections.abc import Iterable, Sequence
from math import gcd
from numbers import Integral
from operator import index
from typing import Any, NamedTuple

import torch

Pairs = tuple[tuple[int, int], ...]
#: What `padding` may be, besides `"same"` and `"valid"`.
Padding = int | Sequence[int] | Sequence[tuple[int, int]]

_SPATIAL = {1: "length", 2: "height, width", 3: "depth, height, width"}


class Geometry(NamedTuple):
    """A convolution's checked arguments, one entry for each spatial dimension."""

    stride: tuple[int, ...]
    padding: Pairs  #: before and after
    dilation: tuple[int, ...]
    groups: int
    size: tuple[int, ...]  #: the spatial size of the result


def convolution(dims: int, input: Sequence[int], weight: Sequence[int], bias: Sequence[int] | None,
                stride: Any, padding: Any, dilation: Any, groups: Any) -> Geometry:
    """Check a convolution and return its geometry; the arguments are shapes and torch's arguments.

    The output has size (n + before + after - dilation·(taps - 1) - 1) // stride + 1 along each
    dimension, and with `padding="same"` it has size n / stride, rounded up.

    Raises:
        TypeError: a number that is not an integer.
        RuntimeError: a wrong number of dimensions or channels, a stride, dilation or group count
            below 1, a negative padding, a kernel larger than the padded input, a wrong bias.

    Examples:
        >>> convolution(1, (1, 2, 9), (4, 2, 3), (4,), 2, ((1, 0),), 1, 1).size
        (4,)
        >>> convolution(1, (1, 2, 2), (4, 2, 3), None, 1, 0, 1, 1)
        Traceback (most recent call last):
        ...
        RuntimeError: weight must not reach further than the padded input: along dimension 0 its
        kernel of 3, with dilation 1, spans 3, and the input of 2 with padding (0, 0) has 2; pass
        padding=1, say, or a smaller weight
    """
    stride = integers("stride", stride, dims, least=1)
    dilation = integers("dilation", dilation, dims, least=1)
    groups = check_groups(groups)
    check_dimensions(dims, input, weight, "(out_channels, in_channels / groups, {})")
    n, taps = input[-dims:], weight[2:]
    zeros = (named_padding(padding, n, taps, stride, dilation) if isinstance(padding, str)
             else pairs(padding, dims))
    check_equal_groups("out_channels", weight, groups)
    check_channels(input, dims, weight[1] * groups, f"weight.shape[1] times groups, "
                   f"{weight[1]} times {groups}")
    check_bias(bias, weight[0])
    check_not_empty(dims, input)
    span = tuple(d * (k - 1) + 1 for d, k in zip(dilation, taps, strict=True))
    for i, (length, pair, reach) in enumerate(zip(n, zeros, span, strict=True)):
        if padding != "same" and length + sum(pair) < reach:
            raise RuntimeError(
                f"weight must not reach further than the padded input: along dimension {i} its "
                f"kernel of {taps[i]}, with dilation {dilation[i]}, spans {reach}, and the input "
                f"of {length} with padding {pair} has {length + sum(pair)}; pass "
                f"padding={-(-(reach - length) // 2)}, say, or a smaller weight"
            )
    size = tuple((m + sum(pair) - r) // s + 1
                 for m, pair, r, s in zip(n, zeros, span, stride, strict=True))
    if padding == "same":  # the same numbers, and fewer conditions where sizes are symbols
        size = tuple(-(-m // s) for m, s in zip(n, stride, strict=True))
    return Geometry(stride, zeros, dilation, groups, size)


def transposed(dims: int, input: Sequence[int], weight: Sequence[int], bias: Sequence[int] | None,
               stride: Any, padding: Any, output_padding: Any, groups: Any,
               dilation: Any) -> Geometry:
    """Check a transposed convolution and return its geometry.

    The output has size (n - 1)·stride + dilation·(taps - 1) + 1 - before - after + output_padding.

    Raises:
        TypeError: a number that is not an integer.
        RuntimeError: a wrong number of dimensions or channels, a stride, dilation or group count
            below 1, a negative padding, an output padding that is neither below the stride nor
            below the dilation, a padding that leaves nothing, a wrong bias.

    Examples:
        >>> transposed(1, (1, 4, 4), (4, 2, 3), (2,), 2, ((1, 0),), 1, 1, 1).size
        (9,)
        >>> transposed(1, (1, 4, 4), (4, 2, 3), None, 2, 0, 2, 1, 1)
        Traceback (most recent call last):
        ...
        RuntimeError: output_padding must be smaller than the stride or the dilation: along
        dimension 0 it is 2, the stride is 2 and the dilation 1; pass output_padding=1, say
    """
    stride = integers("stride", stride, dims, least=1)
    dilation = integers("dilation", dilation, dims, least=1)
    added = integers("output_padding", output_padding, dims, least=0)
    if isinstance(padding, str):
        raise TypeError(
            f"padding must be an int, one for each dimension, or a pair (before, after) for each, "
            f"in a transposed convolution: it is {padding!r}; pass padding=1, say"
        )
    padding = pairs(padding, dims)
    groups = check_groups(groups)
    check_dimensions(dims, input, weight, "(in_channels, out_channels / groups, {})")
    check_equal_groups("in_channels", weight, groups)
    if weight[1] < 1:
        raise RuntimeError(
            f"weight must have at least one output channel in a group, its dimension 1: its shape "
            f"is {_shown(weight)}; pass torch.ones({weight[0]}, 1, ...), say"
        )
    check_channels(input, dims, weight[0], f"weight.shape[0], {weight[0]}")
    check_bias(bias, weight[1] * groups)
    check_output_padding(added, stride, dilation)
    check_not_empty(dims, input)
    least = _stamped(input[-dims:], weight[2:], stride, padding, dilation)
    size = tuple(low + extra for low, extra in zip(least, added, strict=True))
    for i, n in enumerate(size):
        if n < 1:
            raise RuntimeError(
                f"padding must leave something of the output: along dimension {i} it would have "
                f"size {n}, with padding {padding[i]}; pass padding=0, say"
            )
    return Geometry(stride, padding, dilation, groups, size)


def check_layer(dims: int, in_channels: Any, out_channels: Any, kernel_size: Any, stride: Any,
                padding: Any, dilation: Any, groups: Any, output_padding: Any, *,
                lazy: bool = False) -> None:
    """Check what a module is made from, where `torch.nn` would often wait for the first call.

    A lazy module's channels are shown to torch only at the first call, and torch accepts them.

    Raises:
        TypeError: a number that is not an integer.
        ValueError: a number that is too small, groups that do not divide the channels, an unknown
            padding, a tuple of another length.
        RuntimeError: negative channels or a negative kernel.

    Examples:
        >>> check_layer(2, 4, 6, 3, stride=0, padding=1, dilation=1, groups=1, output_padding=0)
        Traceback (most recent call last):
        ...
        ValueError: stride must be at least 1: it is 0; pass stride=1, say
    """
    kernel_size, stride, padding, dilation, output_padding = map(
        _listed, (kernel_size, stride, padding, dilation, output_padding))
    if isinstance(groups, float) and groups % 1:  # torch finds that it cannot divide the channels
        raise ValueError(f"groups must be an int: it is {groups}; pass groups=1, say")
    groups = check_groups(groups, ValueError)
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if isinstance(channels, float) and channels % 1:  # the same
            raise ValueError(f"{name} must be an int: it is {channels}; pass {name}={groups}, say")
        if not _is_integer(channels):
            raise TypeError(
                f"{name} must be an int: it is {channels!r}, of type {type(channels).__name__}; "
                f"pass {name}={groups}, say"
            )
        if channels < 1:
            error = RuntimeError if channels < 0 and not lazy else ValueError  # torch accepts 0
            raise error(f"{name} must be at least 1: it is {channels}; pass {name}={groups}, say")
        if channels % groups:
            raise ValueError(
                f"{name} must be divisible by groups, {groups}: it is {channels}; pass "
                f"{name}={-(-channels // groups) * groups}, say"
            )
    sizes = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size,)
    negative = any(_is_integer(k) and k < 0 for k in sizes)
    integers("kernel_size", kernel_size, dims, 1, RuntimeError if negative else ValueError)
    if len(sizes) == 1 < dims and sizes is kernel_size:
        raise ValueError(
            f"kernel_size must be an int{_or_tuple(dims)}: it is {kernel_size!r}, with 1 entry; "
            f"pass kernel_size={sizes[0]}"
        )
    strides = integers("stride", stride, dims, 1, ValueError)
    dilations = integers("dilation", dilation, dims, 1, ValueError)
    added = integers("output_padding", output_padding, dims, 0, ValueError)
    check_output_padding(added, strides, dilations, ValueError)
    if isinstance(padding, str):
        named_padding(padding, strides, strides, strides, dilations, ValueError)
    else:
        pairs(padding, dims, ValueError)


def output_padding(dims: int, input: Sequence[int], output_size: Any, kernel_size: Sequence[int],
                   stride: Sequence[int], padding: Pairs, dilation: Sequence[int]
                   ) -> tuple[int, ...]:
    """Return the output padding that makes a transposed convolution's output that large.

    Raises:
        TypeError: something other than a tuple of integers.
        ValueError: a size that the stride cannot reach, or of another length.

    Examples:
        >>> output_padding(1, (1, 4, 4), [9], [3], [2], ((1, 0),), [1])
        (1,)
        >>> output_padding(1, (1, 4, 4), [11], [3], [2], ((1, 0),), [1])
        Traceback (most recent call last):
        ...
        ValueError: output_size must be from 8 to 9 along dimension 0, for the input's 4 and a
        stride of 2: it is 11; pass output_size=[8], say
    """
    ahead = len(input) - dims
    least = _stamped(input[ahead:], kernel_size, stride, padding, dilation)
    if not isinstance(output_size, Iterable) or not all(map(_is_integer, output_size)):
        raise TypeError(
            f"output_size must be a tuple of {dims} or {ahead + dims} ints: it is {output_size!r}, "
            f"of type {type(output_size).__name__}; pass output_size={least}, say"
        )
    sizes = tuple(output_size)
    sizes = sizes[ahead:] if len(sizes) == ahead + dims else sizes
    if len(sizes) != dims:
        raise ValueError(
            f"output_size must have {dims} or {ahead + dims} entries: it is {output_size!r}; pass "
            f"output_size={least}, say"
        )
    for i, (size, low, s) in enumerate(zip(sizes, least, stride, strict=True)):
        if not low <= size < low + s:
            raise ValueError(
                f"output_size must be from {low} to {low + s - 1} along dimension {i}, for the "
                f"input's {input[ahead + i]} and a stride of {s}: it is {size}; pass "
                f"output_size={least}, say"
            )
    return tuple(size - low for size, low in zip(sizes, least, strict=True))


def integers(name: str, value: Any, dims: int, least: int,
             error: type[Exception] = RuntimeError) -> tuple[int, ...]:
    """Return an integer, or one for each dimension, as one for each dimension.

    Examples:
        >>> integers("stride", 2, dims=3, least=1)
        (2, 2, 2)
        >>> integers("stride", (1, 0), dims=2, least=1)
        Traceback (most recent call last):
        ...
        RuntimeError: stride must be at least 1: it is (1, 0); pass stride=1, say
    """
    many = isinstance(value, (tuple, list))
    each = tuple(value) if many else (value,)
    for one in each:
        if not _is_integer(one):
            raise TypeError(
                f"{name} must be an int{_or_tuple(dims)}: it is {value!r}, of type "
                f"{type(value).__name__}; pass {name}={least}, say"
            )
    if many and len(each) not in (1, dims):
        raise error(
            f"{name} must be an int{_or_tuple(dims)}: it is {value!r}, with {len(each)} entries; "
            f"pass {name}={least}, say"
        )
    if any(one < least for one in each):
        raise error(f"{name} must be at least {least}: it is {value!r}; pass {name}={least}, say")
    each = tuple(map(index, each))
    return each if len(each) == dims else each * dims


def pairs(padding: Any, dims: int, error: type[Exception] = RuntimeError) -> Pairs:
    """Return the padding as (before, after) for each dimension.

    Examples:
        >>> pairs(1, dims=2), pairs((1, 2), dims=2)
        (((1, 1), (1, 1)), ((1, 1), (2, 2)))
        >>> pairs(((0, 1), (2, 0)), dims=2)
        ((0, 1), (2, 0))
    """
    if isinstance(padding, (tuple, list)) and any(isinstance(p, (tuple, list)) for p in padding):
        if len(padding) != dims or not all(
                isinstance(p, (tuple, list)) and len(p) == 2 for p in padding):
            raise TypeError(
                f"padding must be an int{_or_tuple(dims)}, or {dims} pairs (before, after): it is "
                f"{padding!r}; pass padding={((0, 1),) * dims}, say"
            )
        before_and_after = (integers("padding", tuple(p), 2, 0, error) for p in padding)
        return tuple((before, after) for before, after in before_and_after)
    if dims == 1 and isinstance(padding, (tuple, list)) and len(padding) == 2:
        raise error(
            f"padding must be an int, a tuple of one, or one pair (before, after) in a tuple: it "
            f"is {padding!r}; pass padding=({tuple(padding)!r},)"
        )
    return tuple((p, p) for p in integers("padding", padding, dims, 0, error))


def named_padding(name: str, input: Sequence[int], taps: Sequence[int], stride: Sequence[int],
                  dilation: Sequence[int], error: type[Exception] = RuntimeError) -> Pairs:
    """Return the padding that `"same"` or `"valid"` stands for.

    `"same"` pads so that the output has size n / stride, rounded up. Of an odd number of zeros the
    greater half comes after, as in torch.

    Examples:
        >>> named_padding("same", [9], taps=[4], stride=[1], dilation=[1])
        ((1, 2),)
        >>> named_padding("same", [9], taps=[4], stride=[3], dilation=[1])
        ((0, 1),)
    """
    if name not in ("same", "valid"):
        raise error(
            f"padding must be an int, a tuple, 'same' or 'valid': it is {name!r}; "
            f"pass padding='same', say"
        )
    if name == "valid":
        return ((0, 0),) * len(taps)
    totals = [d * (k - 1) for k, d in zip(taps, dilation, strict=True)]
    # With a stride, the last window must end within the padding: here the input's size matters.
    totals = [total if s == 1 else
              torch.sym_max((-(-n // s) - 1) * s + total + 1 - n, 0)
              for total, n, s in zip(totals, input, stride, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def check_groups(groups: Any, error: type[Exception] = RuntimeError) -> int:
    """Check that the number of groups is an integer of at least 1, and return it."""
    if not _is_integer(groups):
        raise TypeError(
            f"groups must be an int: it is {groups!r}, of type {type(groups).__name__}; "
            f"pass groups=1, say"
        )
    if groups < 1:
        raise error(f"groups must be at least 1: it is {groups}; pass groups=1, say")
    return index(groups)


def check_equal_groups(side: str, weight: Sequence[int], groups: int) -> None:
    """Check that the groups divide the channels on the weight's first dimension."""
    if weight[0] < 1 or weight[0] % groups:
        raise RuntimeError(
            f"weight must have {side}, its dimension 0, in groups of equal size, at least "
            f"one in each: it has {weight[0]}, and groups is {groups}; pass "
            f"groups={gcd(weight[0], groups)}, say, or another weight"
        )


def check_output_padding(added: Sequence[int], stride: Sequence[int], dilation: Sequence[int],
                         error: type[Exception] = RuntimeError) -> None:
    """Check that each output padding is below the stride or below the dilation."""
    for i, (extra, s, d) in enumerate(zip(added, stride, dilation, strict=True)):
        if extra >= s and extra >= d:
            raise error(
                f"output_padding must be smaller than the stride or the dilation: along dimension "
                f"{i} it is {extra}, the stride is {s} and the dilation {d}; pass "
                f"output_padding={max(s, d) - 1}, say"
            )


def check_dimensions(dims: int, input: Sequence[int], weight: Sequence[int], meaning: str) -> None:
    """Check the numbers of dimensions, and that the weight has taps."""
    spatial = _SPATIAL[dims]
    if len(weight) != dims + 2:
        raise RuntimeError(
            f"weight must have {dims + 2} dimensions, {meaning.format(spatial)}: its shape is "
            f"{_shown(weight)}; pass torch.ones({', '.join('1' * 2 + '3' * dims)}), say"
        )
    if len(input) not in (dims + 1, dims + 2):
        raise RuntimeError(
            f"input must have {dims + 2} dimensions, (batch, channels, {spatial}), or without the "
            f"batch {dims + 1}: its shape is {_shown(input)}; pass input.reshape(batch, channels, "
            f"{spatial})"
        )
    if any(k < 1 for k in weight[2:]):
        raise RuntimeError(
            f"weight must have at least one tap along each dimension: its shape is "
            f"{_shown(weight)}; pass a kernel of 1 or more"
        )


def check_channels(input: Sequence[int], dims: int, wanted: int, because: str) -> None:
    """Check that the input has the channels that the weight is made for."""
    if input[-dims - 1] != wanted:
        raise RuntimeError(
            f"input must have {wanted} channels, {because}: it has {input[-dims - 1]}, its shape "
            f"is {_shown(input)}; pass an input of {wanted} channels, or another weight or groups"
        )


def check_not_empty(dims: int, input: Sequence[int]) -> None:
    """Check that the input has at least one element along each spatial dimension.

    As in torch, an empty batch may have empty samples.
    """
    for i, n in enumerate(input[-dims:]):
        if n < 1 and 0 not in input[:-dims]:
            raise RuntimeError(
                f"input must not be empty along dimension {i}: its shape is {_shown(input)}; "
                f"pass at least one element"
            )


def check_bias(bias: Sequence[int] | None, channels: int) -> None:
    """Check that the bias has one element for each output channel."""
    if bias is not None and (len(bias) != 1 or bias[0] != channels):
        raise RuntimeError(
            f"bias must have one element for each of the {channels} output channels, its shape "
            f"({channels},): its shape is {_shown(bias)}; pass torch.zeros({channels}), say, or "
            f"None"
        )


def _stamped(input: Sequence[int], taps: Sequence[int], stride: Sequence[int], padding: Pairs,
             dilation: Sequence[int]) -> list[int]:
    """Return a transposed convolution's size before its output padding."""
    return [(n - 1) * s + d * (k - 1) + 1 - sum(pair) for n, k, s, pair, d in
            zip(input, taps, stride, padding, dilation, strict=True)]


def _listed(value: Any) -> Any:
    """Return any iterable as a tuple, as torch's constructors take it."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def _is_integer(value: Any) -> bool:
    if isinstance(value, torch.Tensor):  # torch takes a tensor of one integer; so do we
        return value.ndim == 0 and not (value.is_floating_point() or value.is_complex()
                                        or value.dtype is torch.bool)
    return isinstance(value, (int, Integral, torch.SymInt)) and not isinstance(value, bool)


def _or_tuple(dims: int) -> str:
    return " or a tuple of one" if dims == 1 else f" or a tuple of {dims} ints"


def _shown(shape: Sequence[int]) -> str:
    return str(tuple(shape))
