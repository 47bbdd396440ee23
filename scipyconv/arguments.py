"""Every check of arguments, once, at the door.

Each error has the class that PyTorch's own layer raises for the same mistake. Its message names
the argument, and says what is allowed, what came, and what to do.
"""

import sys
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
import torch

HALF = (torch.float16, torch.bfloat16)
REAL = (*HALF, torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)
#: Integers can be correlated, as in torch; only floating-point and complex tensors carry gradients.
INTEGER = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_tensors(input: Any, filter: Any, bias: Any) -> None:
    """Check what a layer is applied to.

    That is: `input` `(*, H, W)`, `filter` `(h, w)`, and `bias` `()` or `(1,)` or None.

    Raises:
        TypeError: an argument is not a tensor (`bias` may be None).
        NotImplementedError: a dtype that the layer does not compute in, such as bool, or a nested
            tensor.
        RuntimeError: a tensor that is sparse or not in main memory, two devices, two dtypes, a
            wrong number of dimensions, a filter larger than the input, a bias of another size.

    Examples:
        >>> check_tensors(torch.zeros(4, 4), torch.zeros(5, 3), None)
        Traceback (most recent call last):
        ...
        RuntimeError: filter must not be larger than the input: filter is 5 by 3, input is 4 by 4;
        pass a smaller filter, or pad the input: torch.nn.functional.pad(input, (0, 0, 0, 1))
    """
    tensors = {"input": input, "filter": filter, "bias": bias}
    check_types(tensors)
    check_alike(tensors, (*REAL, *COMPLEX, *INTEGER))
    _check_shapes(input.shape, filter.shape)
    if bias is not None:
        _check_bias_shape(bias.shape)


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
        TypeError: filter must be a torch.Tensor: its type is float; pass torch.tensor(filter)
    """
    for name, tensor in tensors.items():
        if tensor is None and name == "bias":
            continue
        _check_type(name, tensor)
        _check_place(name, tensor)


def check_alike(tensors: Mapping[str, Any], dtypes: tuple[torch.dtype, ...]) -> None:
    """Check that each tensor has the input's device and its dtype, one of `dtypes`.

    Raises:
        NotImplementedError: the input has another dtype.
        RuntimeError: a tensor differs from the input.

    Examples:
        >>> check_alike({"input": torch.zeros(4, 4), "filter": torch.ones(2, 3).long()}, REAL)
        Traceback (most recent call last):
        ...
        RuntimeError: filter must have the input's dtype: filter has torch.int64, input has
        torch.float32; pass filter.to(input.dtype), or convert a layer with layer.to(input.dtype)
    """
    first = tensors["input"]
    _check_dtype("input", first.dtype, dtypes)
    for name, tensor in tensors.items():
        if tensor is not None:
            _check_same(name, "device", tensor.device, first.device)
            _check_same(name, "dtype", tensor.dtype, first.dtype)


def check_layer(filter_height: Any, filter_width: Any, dtype: Any) -> None:
    """Check what a layer is made from: two sizes of 1 or more, and a dtype or None.

    Raises:
        TypeError: a size that is not an int (a bool is none), or a `dtype` that is no torch.dtype.
        RuntimeError: a negative size, or a dtype that carries no gradient, such as int64.
        ValueError: a size of 0, which torch would accept, to fail when the layer is called.
        NotImplementedError: another dtype that the layer does not compute in.

    Examples:
        >>> check_layer(3, 0, None)
        Traceback (most recent call last):
        ...
        ValueError: filter_width must be at least 1: it is 0; pass 3, say
    """
    _check_size("filter_height", filter_height)
    _check_size("filter_width", filter_width)
    if dtype is not None:
        _check_parameter_dtype(dtype)


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
    # Whoever traces has imported this; importing it here would cost half a second and sympy.
    proxies = sys.modules.get("torch.fx.experimental.proxy_tensor")
    if proxies is not None and proxies.get_proxy_mode() is not None:
        raise NotImplementedError(
            "the layer must not be traced into a graph, which cannot record what SciPy computes: "
            "torch.export, torch.func.linearize or make_fx is tracing it; call it as it is, or "
            "use scipyconv.nn.Conv2d"
        )


def _check_size(name: str, size: Any) -> None:
    if isinstance(size, bool) or not isinstance(size, Integral):
        kind = _kind(size)
        raise TypeError(f"{name} must be an int: it is {size!r}, of type {kind}; pass 3, say")
    if size < 1:
        error = RuntimeError if size < 0 else ValueError  # torch accepts 0
        raise error(f"{name} must be at least 1: it is {size}; pass 3, say")


def _check_parameter_dtype(dtype: Any) -> None:
    if not isinstance(dtype, torch.dtype):
        raise TypeError(
            f"dtype must be a torch.dtype or None: it is {dtype!r}; pass torch.float64, say"
        )
    if not (dtype.is_floating_point or dtype.is_complex):
        raise RuntimeError(
            f"dtype must be a floating-point or complex one, or no gradient could reach the "
            f"filter: it is {dtype}; pass torch.float64, say"
        )
    _check_dtype("dtype", dtype, (*REAL, *COMPLEX))


def _check_type(name: str, tensor: Any) -> None:
    if isinstance(tensor, torch.Tensor):
        return
    allowed = "a torch.Tensor or None" if name == "bias" else "a torch.Tensor"
    if tensor is None:
        fix = "pass a tensor" + (", for instance torch.ones(2, 3)" if name == "filter" else "")
    elif isinstance(tensor, np.ndarray):
        fix = f"pass torch.from_numpy({name}.copy())"  # copy: torch knows no negative strides
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
            f"{name} must be a dense tensor: its layout is {tensor.layout}; pass {name}.to_dense()"
        )
    if tensor.device.type not in ("cpu", "meta"):
        raise RuntimeError(
            f"{name} must be in main memory, where SciPy computes: it is on {tensor.device}; "
            f"pass {name}.cpu(), or move a layer with layer.cpu()"
        )


def _check_dtype(name: str, dtype: torch.dtype, allowed: tuple[torch.dtype, ...]) -> None:
    if dtype not in allowed:
        names = ", ".join(str(each).removeprefix("torch.") for each in allowed)
        fix = "pass torch.float32, say" if name == "dtype" else f"pass {name}.to(torch.float32)"
        raise NotImplementedError(f"{name} must be one of {names}: it is {dtype}; {fix}")


def _check_same(name: str, what: str, value: object, wanted: object) -> None:
    if value != wanted:
        fix = f"pass {name}.to(input.{what}), or convert a layer with layer.to(input.{what})"
        if wanted in INTEGER:  # no layer's parameters can be integers
            fix = f"pass input.to({name}.{what})"
        raise RuntimeError(
            f"{name} must have the input's {what}: {name} has {value}, input has {wanted}; {fix}"
        )


def _check_shapes(input: torch.Size, filter: torch.Size) -> None:
    if len(input) < 2:
        raise RuntimeError(
            f"input must have 2 dimensions, height and width, behind any batch dimensions: "
            f"its shape is {tuple(input)}; pass input.reshape(height, width)"
        )
    if len(filter) != 2:
        raise RuntimeError(
            f"filter must have 2 dimensions, height and width: its shape is {tuple(filter)}; "
            f"pass filter.reshape(height, width)"
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
        fix = "pass bias.reshape(1)" if bias.numel() == 1 else "pass torch.zeros(1), say, or None"
        raise RuntimeError(
            f"bias must have one element, its shape (1,) or (): its shape is {tuple(bias)}; {fix}"
        )


def _size(shape: torch.Size) -> str:
    return f"{shape[0]} by {shape[1]}"


def _kind(value: object) -> str:
    return type(value).__name__
