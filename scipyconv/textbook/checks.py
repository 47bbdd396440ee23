"""What the textbook layer accepts, and how it refuses the rest.

Each error has the class that PyTorch's own layer raises for the same mistake. Its
message names the argument, and says what is allowed, what came, and what to do.
"""

import sys
from numbers import Integral
from typing import Any

import torch

from scipyconv.arguments import check_alike, check_parameter_dtype, check_types, shown


def check_tensors(input: Any, filter: Any, bias: Any) -> None:
    """Check what the layer is applied to.

    That is: `input` `(*, H, W)`, `filter` `(h, w)`, and `bias` `()` or `(1,)` or None.

    Raises:
        TypeError: an argument is not a tensor (`bias` may be None).
        NotImplementedError: an unsupported dtype, such as bool, or a nested tensor.
        RuntimeError: a tensor that is sparse or not in main memory, two devices, two
            dtypes, a wrong number of dimensions, a filter larger than the input, a bias
            of another size.

    Examples:
        >>> check_tensors(torch.zeros(4, 4), torch.zeros(5, 3), None)
        Traceback (most recent call last):
        ...
        RuntimeError: filter must not be larger than the input: filter is 5 by 3, input
        is 4
        by 4; pass a smaller filter, or pad the input: torch.nn.functional.pad(input,
        (0, 0,
        0, 1))
    """
    tensors = {"input": input, "filter": filter, "bias": bias}
    check_types(tensors)
    check_alike(tensors)
    _check_shapes(input.shape, filter.shape)
    if bias is not None:
        _check_bias_shape(bias.shape)


def check_layer(filter_height: Any, filter_width: Any, dtype: Any) -> None:
    """Check what a layer is made from: two sizes of 1 or more, and a dtype or None.

    Raises:
        TypeError: a size that is not an int (a bool is none), or a `dtype` that is no
            torch.dtype.
        RuntimeError: a negative size, or a dtype that carries no gradient, such as
            int64.
        ValueError: a size of 0, which torch would accept, to fail when the layer is
            called.
        NotImplementedError: another dtype that is not supported.

    Examples:
        >>> check_layer(3, 0, None)
        Traceback (most recent call last):
        ...
        ValueError: filter_width must be at least 1: it is 0; pass 3, say
    """
    _check_size("filter_height", filter_height)
    _check_size("filter_width", filter_width)
    check_parameter_dtype(dtype)


def check_not_traced() -> None:
    """Check that no graph is being recorded: SciPy's part would be missing in it.

    Raises:
        NotImplementedError: inside torch.export, torch.func.linearize or make_fx.

    Examples:
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> make_fx(lambda: check_not_traced())()
        Traceback (most recent call last):
        ...
        NotImplementedError: the layer must not be traced into a graph, ...
    """
    # Whoever traces has imported this; importing it here would cost half a second and
    # sympy.
    proxies = sys.modules.get("torch.fx.experimental.proxy_tensor")
    if proxies is not None and proxies.get_proxy_mode() is not None:
        raise NotImplementedError(
            "the layer must not be traced into a graph, which cannot record what SciPy "
            "computes: torch.export, torch.func.linearize or make_fx is tracing it; "
            "call it as it is, or use scipyconv.nn.Conv2d"
        )


def _check_size(name: str, size: Any) -> None:
    if isinstance(size, bool) or not isinstance(size, Integral):
        raise TypeError(
            f"{name} must be an int: it is {shown(size)}, of type "
            f"{type(size).__name__}; pass 3, say"
        )
    if size < 1:
        error = RuntimeError if size < 0 else ValueError  # torch accepts 0
        raise error(f"{name} must be at least 1: it is {shown(size)}; pass 3, say")
    if int(size) >= 1 << 63:
        raise ValueError(
            f"{name} must fit in 64 bits: it is {shown(size)}; pass 3, say"
        )


def _check_shapes(input: torch.Size, filter: torch.Size) -> None:
    if len(input) < 2:
        raise RuntimeError(
            "input must have 2 dimensions, height and width, behind any batch "
            f"dimensions: its shape is {tuple(input)}; pass input.reshape(height, "
            "width)"
        )
    if len(filter) != 2:
        raise RuntimeError(
            f"filter must have 2 dimensions, height and width: its shape is "
            f"{tuple(filter)}; pass filter.reshape(height, width)"
        )
    if 0 in filter:
        raise RuntimeError(
            f"filter must have at least one row and one column: it is {_size(filter)}; "
            f"pass a filter of 1 by 1 or more"
        )
    missing = [max(0, k - n) for n, k in zip(input[-2:], filter, strict=True)]
    if any(missing):
        raise RuntimeError(
            f"filter must not be larger than the input: filter is {_size(filter)}, "
            f"input is {_size(input[-2:])}; pass a smaller filter, or pad the input: "
            f"torch.nn.functional.pad(input, (0, {missing[1]}, 0, {missing[0]}))"
        )


def _check_bias_shape(bias: torch.Size) -> None:
    if bias not in [(), (1,)]:
        fix = "pass torch.zeros(1), say, or None"
        if bias.numel() == 1:
            fix = "pass bias.reshape(1)"
        raise RuntimeError(
            f"bias must have one element, its shape (1,) or (): its shape is "
            f"{tuple(bias)}; {fix}"
        )


def _size(shape: torch.Size) -> str:
    return f"{shape[0]} by {shape[1]}"
