"""Every check of a convolution's arguments, once, at the door.

Each error has the class that PyTorch's own function raises for the same mistake. Its
message names the argument, and says what is allowed, what came, and what to do. Checked
arguments become a `Geometry`.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import gcd, prod
from numbers import Integral
from operator import index
from typing import Any

import numpy as np
import torch

from scipyconv.dtypes import ACCEPTED, DIFFERENTIABLE
from scipyconv.geometry import Geometry, Pairs, Sizes, bordered, spans

#: What `padding` may be, besides `"same"` and `"valid"`.
Padding = int | Sequence[int] | Sequence[tuple[int, int]]
Error = type[Exception]
Shape = Sequence[int]

#: Every number must be smaller, as in PyTorch.
_LIMIT = 1 << 63
#: So many bytes has the largest number.
_WIDEST = 16


def check_types(tensors: Mapping[str, Any]) -> None:
    """Check that each is a tensor in main memory, or the bias None.

    Raises:
        TypeError: not a tensor.
        NotImplementedError: a nested tensor.
        RuntimeError: a sparse tensor, or one on a GPU.

    Examples:
        >>> check_types({"input": torch.zeros(4, 4), "filter": 3.0})
        Traceback (most recent call last):
        ...
        TypeError: filter must be a torch.Tensor: its type is float; pass
        torch.tensor(filter)
    """
    for name, tensor in tensors.items():
        if tensor is not None or name != "bias":
            _check_type(name, tensor)
            _check_place(name, tensor)


def check_alike(tensors: Mapping[str, Any]) -> None:
    """Check that each tensor has the input's device and its dtype, an accepted one.

    Raises:
        NotImplementedError: an unsupported dtype.
        RuntimeError: a tensor differs from the input.

    Examples:
        >>> check_alike({"input": torch.zeros(4), "filter": torch.ones(2).long()})
        Traceback (most recent call last):
        ...
        RuntimeError: filter must have the input's dtype: filter has torch.int64, input
        has
        torch.float32; pass filter.to(input.dtype), or convert a layer with
        layer.to(input.dtype)
    """
    first = tensors["input"]
    check_dtype("input", first.dtype, ACCEPTED, "pass input.to(torch.float32)")
    for name, tensor in tensors.items():
        if tensor is not None:
            _check_same(name, "device", tensor.device, first.device)
            _check_same(name, "dtype", tensor.dtype, first.dtype)


def check_dtype(
    name: str, dtype: torch.dtype, allowed: Sequence[torch.dtype], fix: str
) -> None:
    """Check that a dtype is one of those allowed.

    Raises:
        NotImplementedError: it is not.
    """
    if dtype not in allowed:
        names = ", ".join(str(each).removeprefix("torch.") for each in allowed)
        raise NotImplementedError(
            f"{name} must be one of {names}: it is {dtype}; {fix}"
        )


def check_parameter_dtype(dtype: Any) -> None:
    """Check the dtype of a layer's parameters: None, or one that carries gradients.

    Raises:
        TypeError: not a torch.dtype.
        RuntimeError: a dtype that carries no gradients, such as int64.
        NotImplementedError: another dtype that is not supported.
    """
    if dtype is None:
        return
    if not isinstance(dtype, torch.dtype):
        raise TypeError(
            f"dtype must be a torch.dtype or None: it is {shown(dtype)}; "
            f"pass torch.float64, say"
        )
    if not (dtype.is_floating_point or dtype.is_complex):
        raise RuntimeError(
            "dtype must be a floating-point or complex one, or no gradient could "
            f"reach the parameters: it is {dtype}; pass torch.float64, say"
        )
    check_dtype("dtype", dtype, DIFFERENTIABLE, "pass torch.float32, say")


def _check_type(name: str, tensor: Any) -> None:
    if isinstance(tensor, torch.Tensor):
        return
    allowed = "a torch.Tensor or None" if name == "bias" else "a torch.Tensor"
    if tensor is None:
        fix = "pass a tensor" + (
            ", for instance torch.ones(2, 3)" if name == "filter" else ""
        )
    elif isinstance(tensor, np.ndarray):
        fix = f"pass torch.from_numpy({name}.copy())"  # torch has no negative strides
    else:
        fix = f"pass torch.tensor({name})"
    raise TypeError(f"{name} must be {allowed}: its type is {_kind(tensor)}; {fix}")


def _check_place(name: str, tensor: torch.Tensor) -> None:
    if tensor.is_nested:
        raise NotImplementedError(
            f"{name} must be a dense tensor: it is a nested one; "
            f"pass each of {name}.unbind() by itself"
        )
    if tensor.layout is not torch.strided:
        raise RuntimeError(
            f"{name} must be a dense tensor: its layout is {tensor.layout}; "
            f"pass {name}.to_dense()"
        )
    if tensor.device.type not in ("cpu", "meta"):
        raise RuntimeError(
            f"{name} must be in main memory, where SciPy computes: it is on "
            f"{tensor.device}; pass {name}.cpu(), or move a layer with layer.cpu()"
        )


def _check_same(name: str, what: str, value: Any, wanted: Any) -> None:
    if value == wanted:
        return
    fix = (
        f"pass {name}.to(input.{what}), or convert a layer with layer.to(input.{what})"
    )
    if what == "dtype" and wanted not in DIFFERENTIABLE:  # no parameter can have it
        fix = f"pass input.to({name}.{what})"
    raise RuntimeError(
        f"{name} must have the input's {what}: {name} has {value}, input has {wanted}; "
        f"{fix}"
    )


def convolution(
    dims: int,
    input: Shape,
    weight: Shape,
    bias: Shape | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
) -> Geometry:
    """Check a convolution and return its geometry; x is the input, y the output.

    The output has size (n + before + after - dilation·(taps - 1) - 1) // stride + 1
    along each dimension, and with `padding="same"` it has size n / stride, rounded up.

    Args:
        dims: The number of spatial dimensions.
        input: The input's shape, with a batch or without.
        weight: The weight's shape.
        bias: The bias's shape, or None.
        stride: As in [torch.nn.functional.conv2d][]; so too the rest.
        padding: Also a pair (before, after) for each dimension.
        dilation: From one tap to the next.
        groups: How many groups of channels.

    Raises:
        TypeError: a number that is not an integer.
        RuntimeError: a wrong number of dimensions or channels, a stride, dilation or
            group count below 1, a negative padding, a kernel larger than the padded
            input, a wrong bias, arrays that no memory can hold.
        ValueError: a number that does not fit in 64 bits.

    Examples:
        >>> convolution(1, (1, 2, 9), (4, 2, 3), (4,), 2, ((1, 0),), 1, 1).y
        (1, 4, 4)
        >>> convolution(1, (1, 2, 2), (4, 2, 3), None, 1, 0, 1, 1)
        Traceback (most recent call last):
        ...
        RuntimeError: weight must not reach further than the padded input: along
        dimension 0
        its kernel of 3, with dilation 1, spans 3, and the input of 2 with padding (0,
        0)
        has 2; pass padding=1, say, or a smaller weight
    """
    stride = integers("stride", stride, dims, least=1)
    dilation = integers("dilation", dilation, dims, least=1)
    groups = check_groups(groups)
    check_dimensions(dims, input, weight, "(out_channels, in_channels / groups, {})")
    n, taps = tuple(input[-dims:]), tuple(weight[2:])
    if isinstance(padding, str):
        zeros = named_padding(padding, n, taps, stride, dilation)
    else:
        zeros = pairs(padding, dims)
    _check_equal_groups("out_channels", weight, groups)
    _check_channels(
        input,
        dims,
        weight[1] * groups,
        f"weight.shape[1] times groups, {weight[1]} times {groups}",
    )
    _check_bias(bias, weight[0])
    _check_not_empty(dims, input)
    if padding == "same":  # it always fits, also where sizes are symbols
        outputs = tuple(-(-m // s) for m, s in zip(n, stride, strict=True))
    else:
        _check_reach(n, zeros, taps, dilation)
        outputs = tuple(
            (m + sum(pair) - reach) // s + 1
            for m, pair, reach, s in zip(
                n, zeros, spans(taps, dilation), stride, strict=True
            )
        )
    x, w = (*_batch(dims, input), *input[-dims - 1 :]), tuple(weight)
    geometry = Geometry(x, w, (x[0], w[0], *outputs), stride, zeros, dilation, groups)
    _check_room("padding", geometry)
    return geometry


def transposed(
    dims: int,
    input: Shape,
    weight: Shape,
    bias: Shape | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    output_size: Any = None,
) -> Geometry:
    """Check a transposed convolution and return its geometry: y is the input.

    The output has size (n - 1)·stride + dilation·(taps - 1) + 1 - before - after +
    output_padding along each dimension.

    Args:
        dims: The number of spatial dimensions.
        input: The input's shape, with a batch or without.
        weight: The weight's shape.
        bias: The bias's shape, or None.
        stride: As in [torch.nn.functional.conv_transpose2d][]; so too the rest.
        padding: Also a pair (before, after) for each dimension.
        output_padding: How much longer the output is, at its end.
        groups: How many groups of channels.
        dilation: From one tap to the next.
        output_size: The output's size, spatial or whole, in place of `output_padding`.

    Raises:
        TypeError: a number that is not an integer.
        RuntimeError: a wrong number of dimensions or channels, a stride, dilation or
            group count below 1, a negative padding, an output padding that is neither
            below the stride nor below the dilation, a padding that leaves nothing, a
            wrong bias, arrays that no memory can hold.
        ValueError: a number that does not fit in 64 bits, or a size that the stride
            cannot reach.

    Examples:
        >>> transposed(1, (1, 4, 4), (4, 2, 3), (2,), 2, ((1, 0),), 1, 1, 1).x
        (1, 2, 9)
        >>> transposed(1, (1, 4, 4), (4, 2, 3), None, 2, 0, 2, 1, 1)
        Traceback (most recent call last):
        ...
        RuntimeError: output_padding must be smaller than the stride or the dilation:
        along
        dimension 0 it is 2, the stride is 2 and the dilation 1; pass output_padding=1,
        say
    """
    stride = integers("stride", stride, dims, least=1)
    dilation = integers("dilation", dilation, dims, least=1)
    added = integers("output_padding", output_padding, dims, least=0)
    if isinstance(padding, str):
        raise TypeError(
            "padding must be an int, one for each dimension, or a pair (before, "
            f"after) for each, in a transposed convolution: it is {padding!r}; pass "
            "padding=1, say"
        )
    zeros = pairs(padding, dims)
    groups = check_groups(groups)
    check_dimensions(dims, input, weight, "(in_channels, out_channels / groups, {})")
    _check_equal_groups("in_channels", weight, groups)
    if weight[1] < 1:
        raise RuntimeError(
            "weight must have at least one output channel in a group, its dimension "
            f"1: its shape is {shown(tuple(weight))}; pass torch.ones({weight[0]}, 1, "
            "...), say"
        )
    _check_channels(input, dims, weight[0], f"weight.shape[0], {weight[0]}")
    _check_bias(bias, weight[1] * groups)
    _check_not_empty(dims, input)
    least = _stamped(input[-dims:], weight[2:], stride, zeros, dilation)
    if output_size is not None:
        added = _output_padding(dims, input, output_size, least, stride)
    _check_output_padding(added, stride, dilation)
    size = tuple(low + extra for low, extra in zip(least, added, strict=True))
    _check_left(size, zeros, least=0 if 0 in input[:-dims] else 1)
    y, w = (*_batch(dims, input), *input[-dims - 1 :]), tuple(weight)
    x = (y[0], weight[1] * groups, *size)
    geometry = Geometry(x, w, y, stride, zeros, dilation, groups)
    _check_room("stride", geometry)
    return geometry


def _output_padding(
    dims: int, input: Shape, output_size: Any, least: list[int], stride: Sizes
) -> Sizes:
    """Return the output padding that makes the output that large."""
    ahead = len(input) - dims
    fix = f"pass output_size={least}, say"
    if not isinstance(output_size, Iterable) or not all(map(_is_integer, output_size)):
        raise TypeError(
            f"output_size must be a tuple of {dims} or {ahead + dims} ints: it is "
            f"{shown(output_size)}, of type {_kind(output_size)}; {fix}"
        )
    sizes = tuple(output_size)
    sizes = sizes[ahead:] if len(sizes) == ahead + dims else sizes
    if len(sizes) != dims:
        raise ValueError(
            f"output_size must have {dims} or {ahead + dims} entries: it is "
            f"{shown(output_size)}; {fix}"
        )
    for i, (size, low, s) in enumerate(zip(sizes, least, stride, strict=True)):
        if not low <= size < low + s:
            raise ValueError(
                f"output_size must be from {low} to {low + s - 1} along dimension {i}, "
                f"for the input's {input[ahead + i]} and a stride of {s}: it is "
                f"{shown(size)}; {fix}"
            )
    return tuple(size - low for size, low in zip(sizes, least, strict=True))


def check_layer(
    dims: int,
    in_channels: Any,
    out_channels: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    output_padding: Any,
    *,
    lazy: bool = False,
) -> None:
    """Check what a module is made from, where `torch.nn` would often wait for a call.

    A lazy module's channels are shown to torch only at the first call, and torch
    accepts them.

    Raises:
        TypeError: a number that is not an integer.
        ValueError: a number that is too small or too large, groups that do not divide
            the channels, an unknown padding, a tuple of another length.
        RuntimeError: negative channels or a negative kernel.

    Examples:
        >>> check_layer(2, 4, 6, 3, stride=0, padding=1, dilation=1, groups=1,
        ...             output_padding=0)
        Traceback (most recent call last):
        ...
        ValueError: stride must be at least 1: it is 0; pass stride=1, say
    """
    kernel_size, stride, padding, dilation, output_padding = map(
        _listed, (kernel_size, stride, padding, dilation, output_padding)
    )
    if isinstance(groups, float) and groups % 1:  # torch cannot divide the channels
        raise ValueError(f"groups must be an int: it is {groups}; pass groups=1, say")
    groups = check_groups(groups, ValueError)
    _check_layer_channels("in_channels", in_channels, groups, lazy)
    _check_layer_channels("out_channels", out_channels, groups, lazy)
    _check_kernel_size(kernel_size, dims)
    strides = integers("stride", stride, dims, 1, ValueError)
    dilations = integers("dilation", dilation, dims, 1, ValueError)
    added = integers("output_padding", output_padding, dims, 0, ValueError)
    _check_output_padding(added, strides, dilations, ValueError)
    if isinstance(padding, str):
        _check_padding_name(padding, ValueError)
    else:
        pairs(padding, dims, ValueError)


def _check_layer_channels(name: str, channels: Any, groups: int, lazy: bool) -> None:
    fix = f"pass {name}={groups}, say"
    if isinstance(channels, float) and channels % 1:  # torch cannot divide them
        raise ValueError(f"{name} must be an int: it is {channels}; {fix}")
    if not _is_integer(channels):
        raise TypeError(
            f"{name} must be an int: it is {shown(channels)}, of type "
            f"{_kind(channels)}; {fix}"
        )
    if channels < 1:
        error = (
            RuntimeError if channels < 0 and not lazy else ValueError
        )  # torch accepts 0
        raise error(f"{name} must be at least 1: it is {channels}; {fix}")
    _check_fits(name, channels, fix)
    if channels % groups:
        raise ValueError(
            f"{name} must be divisible by groups, {groups}: it is {channels}; pass "
            f"{name}={-(-channels // groups) * groups}, say"
        )


def _check_kernel_size(kernel_size: Any, dims: int) -> None:
    many = isinstance(kernel_size, (tuple, list))
    sizes = kernel_size if many else (kernel_size,)
    negative = any(_is_integer(k) and k < 0 for k in sizes)
    integers(
        "kernel_size", kernel_size, dims, 1, RuntimeError if negative else ValueError
    )
    if many and len(sizes) == 1 < dims:
        raise ValueError(
            f"kernel_size must be an int{_or_tuple(dims)}: it is {kernel_size!r}, with "
            f"1 entry; pass kernel_size={sizes[0]}"
        )


def integers(
    name: str, value: Any, dims: int, least: int, error: Error = RuntimeError
) -> Sizes:
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
    fix = f"pass {name}={least}, say"
    if not all(map(_is_integer, each)):
        raise TypeError(
            f"{name} must be an int{_or_tuple(dims)}: it is {shown(value)}, of type "
            f"{_kind(value)}; {fix}"
        )
    if many and len(each) not in (1, dims):
        raise error(
            f"{name} must be an int{_or_tuple(dims)}: it is {shown(value)}, with "
            f"{len(each)} entries; {fix}"
        )
    for one in each:
        if one < least:
            raise error(f"{name} must be at least {least}: it is {shown(value)}; {fix}")
        _check_fits(name, one, fix)
    each = tuple(map(index, each))
    return each if len(each) == dims else each * dims


def pairs(padding: Any, dims: int, error: Error = RuntimeError) -> Pairs:
    """Return the padding as (before, after) for each dimension.

    Examples:
        >>> pairs(1, dims=2), pairs((1, 2), dims=2)
        (((1, 1), (1, 1)), ((1, 1), (2, 2)))
        >>> pairs(((0, 1), (2, 0)), dims=2)
        ((0, 1), (2, 0))
    """
    many = isinstance(padding, (tuple, list))
    if many and any(isinstance(p, (tuple, list)) for p in padding):
        if len(padding) != dims or not all(
            isinstance(p, (tuple, list)) and len(p) == 2 for p in padding
        ):
            raise TypeError(
                f"padding must be an int{_or_tuple(dims)}, or {dims} pairs (before, "
                f"after): it is {shown(padding)}; pass padding={((0, 1),) * dims}, say"
            )
        both = (integers("padding", tuple(p), 2, 0, error) for p in padding)
        return tuple((before, after) for before, after in both)
    if many and dims == 1 and len(padding) == 2:
        raise error(
            f"padding must be an int, a tuple of one, or one pair (before, after) in a "
            f"tuple: it is {shown(padding)}; pass padding=({shown(tuple(padding))},)"
        )
    return tuple((p, p) for p in integers("padding", padding, dims, 0, error))


def named_padding(
    name: str, input: Shape, taps: Shape, stride: Shape, dilation: Shape
) -> Pairs:
    """Return the padding that `"same"` or `"valid"` stands for.

    `"same"` pads so that the output has size n / stride, rounded up. Of an odd number
    of zeros the greater half comes after, as in torch.

    Examples:
        >>> named_padding("same", [9], taps=[4], stride=[1], dilation=[1])
        ((1, 2),)
        >>> named_padding("same", [9], taps=[4], stride=[3], dilation=[1])
        ((0, 1),)
    """
    _check_padding_name(name, RuntimeError)
    if name == "valid":
        return ((0, 0),) * len(taps)
    totals = [d * (k - 1) for k, d in zip(taps, dilation, strict=True)]
    # The last window starts (n - 1) % s pixels before the last pixel.
    totals = [
        total if s == 1 else max(total - (n - 1) % s, 0)
        for total, n, s in zip(totals, input, stride, strict=True)
    ]
    return tuple((total // 2, total - total // 2) for total in totals)


def _check_padding_name(name: str, error: Error) -> None:
    if name not in ("same", "valid"):
        raise error(
            f"padding must be an int, a tuple, 'same' or 'valid': it is {name!r}; "
            f"pass padding='same', say"
        )


def check_groups(groups: Any, error: Error = RuntimeError) -> int:
    """Check that the number of groups is an integer of at least 1, and return it."""
    fix = "pass groups=1, say"
    if not _is_integer(groups):
        raise TypeError(
            f"groups must be an int: it is {shown(groups)}, of type {_kind(groups)}; "
            f"{fix}"
        )
    if groups < 1:
        raise error(f"groups must be at least 1: it is {shown(groups)}; {fix}")
    _check_fits("groups", groups, fix)
    return index(groups)


def check_dimensions(dims: int, input: Shape, weight: Shape, meaning: str) -> None:
    """Check the numbers of dimensions, and that the weight has taps."""
    spatial = _spatial(dims)
    if len(weight) != dims + 2:
        raise RuntimeError(
            f"weight must have {dims + 2} dimensions, {meaning.format(spatial)}: its "
            f"shape is {tuple(weight)}; pass "
            f"torch.ones({', '.join('1' * 2 + '3' * dims)}), say"
        )
    _check_input_dimensions(dims, input)
    if any(k < 1 for k in weight[2:]):
        raise RuntimeError(
            f"weight must have at least one tap along each dimension: its shape is "
            f"{tuple(weight)}; pass a kernel of 1 or more"
        )


def _check_input_dimensions(dims: int, input: Shape) -> None:
    spatial = _spatial(dims)
    if len(input) not in (dims + 1, dims + 2):
        raise RuntimeError(
            f"input must have {dims + 2} dimensions, (batch, channels, {spatial}), or "
            f"without the batch {dims + 1}: its shape is {tuple(input)}; pass "
            f"input.reshape(batch, channels, {spatial})"
        )


def check_first_input(dims: int, input: Any, groups: int) -> None:
    """Check the input from which a lazy layer learns its channels.

    Raises:
        TypeError: not a tensor.
        RuntimeError: a wrong number of dimensions, or no channels.
        ValueError: channels that the groups do not divide.
    """
    check_types({"input": input})
    _check_input_dimensions(dims, input.shape)
    channels = input.shape[-dims - 1]
    if channels < 1:
        raise RuntimeError(
            f"input must have at least one channel: its shape is {tuple(input.shape)}; "
            f"pass an input of {groups} channels, say"
        )
    if channels % groups:
        raise ValueError(
            f"input must have channels in groups of equal size: it has {channels}, and "
            f"groups is {groups}; pass an input of "
            f"{-(-channels // groups) * groups} channels, say"
        )


def spatial_dimensions(weight: Shape) -> int:
    """Return the number of spatial dimensions that a weight is for.

    Raises:
        RuntimeError: there are none.
    """
    if len(weight) < 3:
        raise RuntimeError(
            "weight must have 3 dimensions or more, (out_channels, in_channels / "
            f"groups, ...): its shape is {tuple(weight)}; pass weight.reshape(1, 1, "
            f"{', '.join(map(str, weight)) or 1}), say"
        )
    return len(weight) - 2


def _check_equal_groups(side: str, weight: Shape, groups: int) -> None:
    if weight[0] < 1 or weight[0] % groups:
        raise RuntimeError(
            f"weight must have {side}, its dimension 0, in groups of equal size, at "
            f"least one in each: it has {weight[0]}, and groups is {groups}; pass "
            f"groups={gcd(weight[0], groups)}, say, or another weight"
        )


def _check_output_padding(
    added: Shape, stride: Shape, dilation: Shape, error: Error = RuntimeError
) -> None:
    for i, (extra, s, d) in enumerate(zip(added, stride, dilation, strict=True)):
        if extra >= s and extra >= d:
            raise error(
                "output_padding must be smaller than the stride or the dilation: "
                f"along dimension {i} it is {extra}, the stride is {s} and the "
                f"dilation {d}; pass output_padding={max(s, d) - 1}, say"
            )


def _check_channels(input: Shape, dims: int, wanted: int, because: str) -> None:
    if input[-dims - 1] != wanted:
        raise RuntimeError(
            f"input must have {wanted} channels, {because}: it has {input[-dims - 1]}, "
            f"its shape is {tuple(input)}; pass an input of {wanted} channels, or "
            "another weight or groups"
        )


def _check_not_empty(dims: int, input: Shape) -> None:
    """As in torch, only an empty batch may have empty samples."""
    for i, n in enumerate(input[-dims:]):
        if n < 1 and 0 not in input[:-dims]:
            raise RuntimeError(
                f"input must not be empty along dimension {i}: its shape is "
                f"{tuple(input)}; pass at least one element"
            )


def _check_bias(bias: Shape | None, channels: int) -> None:
    if bias is not None and (len(bias) != 1 or bias[0] != channels):
        raise RuntimeError(
            f"bias must have one element for each of the {channels} output channels, "
            f"its shape ({channels},): its shape is {tuple(bias)}; pass "
            f"torch.zeros({channels}), say, or None"
        )


def _check_reach(n: Shape, zeros: Pairs, taps: Shape, dilation: Sizes) -> None:
    span = spans(tuple(taps), dilation)
    for i, (length, pair, reach) in enumerate(zip(n, zeros, span, strict=True)):
        if length + sum(pair) < reach:
            raise RuntimeError(
                "weight must not reach further than the padded input: along dimension "
                f"{i} its kernel of {taps[i]}, with dilation {dilation[i]}, spans "
                f"{reach}, and the input of {length} with padding {pair} has "
                f"{length + sum(pair)}; pass padding={-(-(reach - length) // 2)}, say, "
                "or a smaller weight"
            )


def _check_left(size: Shape, zeros: Pairs, least: int) -> None:
    for i, n in enumerate(size):
        if n < least:
            raise RuntimeError(
                f"padding must leave something of the output: along dimension {i} it "
                f"would have size {n}, with padding {zeros[i]}; pass padding=0, say"
            )


def _check_room(name: str, geometry: Geometry) -> None:
    """Check that each array's bytes can be counted; memory may still lack them."""
    for shape in (bordered(geometry.x, geometry.padding), geometry.y):
        if all(isinstance(n, int) for n in shape) and prod(shape) * _WIDEST >= _LIMIT:
            raise RuntimeError(
                f"{name} must lead to arrays that memory can hold: one would have the "
                f"shape {shape}; pass a smaller input, padding or stride"
            )


def _check_fits(name: str, n: Any, fix: str) -> None:
    if isinstance(n, int) and n >= _LIMIT:
        raise ValueError(f"{name} must fit in 64 bits: it is {shown(n)}; {fix}")


def _batch(dims: int, input: Shape) -> Shape:
    """The number of samples: one, if there is no such dimension."""
    return input[: -dims - 1] or (1,)


def _stamped(
    input: Shape, taps: Shape, stride: Shape, padding: Pairs, dilation: Shape
) -> list[int]:
    """Return a transposed convolution's size before its output padding."""
    return [
        (n - 1) * s + d * (k - 1) + 1 - sum(pair)
        for n, k, s, pair, d in zip(input, taps, stride, padding, dilation, strict=True)
    ]


def _listed(value: Any) -> Any:
    """Return any iterable as a tuple, as torch's constructors take it."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(value)
    return value


def _is_integer(value: Any) -> bool:
    if isinstance(value, torch.Tensor):  # torch takes a tensor of one integer; so do we
        return value.ndim == 0 and not (
            value.is_floating_point() or value.is_complex() or value.dtype is torch.bool
        )
    return isinstance(value, (int, Integral, torch.SymInt)) and not isinstance(
        value, bool
    )


def shown(value: Any) -> str:
    """Return a value as text, also an integer with more digits than Python prints.

    Examples:
        >>> shown(10**5000)
        'a number too long to print'
    """
    try:
        return repr(value)
    except ValueError:
        return "a number too long to print"


def _or_tuple(dims: int) -> str:
    return " or a tuple of one" if dims == 1 else f" or a tuple of {dims} ints"


def _spatial(dims: int) -> str:
    """Name the spatial dimensions."""
    if dims == 1:
        return "length"
    names = ("depth", "height", "width")
    return ", ".join(names[-dims:] if dims <= 3 else map("size {}".format, range(dims)))


def _kind(value: object) -> str:
    return type(value).__name__
