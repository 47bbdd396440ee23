"""`torch.nn.functional`'s six convolutions, computed by SciPy: same names, arguments and defaults.

One argument is added, by keyword: `method`, the engine. `padding` also takes a pair (before, after)
for each dimension, and `"same"` goes with any stride.

A NaN or infinity of the input or the cotangent goes where the definition puts it. A weight that is
not finite also meets zeros, which makes a NaN: those around a padded input and, in the input's
gradient and in a transposed convolution, those around the stamps.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from scipyconv import geometry
from scipyconv.arguments import COMPLEX, INTEGER, REAL, check_alike, check_types
from scipyconv.autograd import (
    Call,
    add_bias,
    apply,
    apply_plain,
    choose_for,
    is_plain,
    maps_for,
)
from scipyconv.engines.choice import METHODS, Choice
from scipyconv.geometry import Padding
from scipyconv.padding import fold_back, pad

__all__ = ["choose_method", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
           "conv_transpose3d", "use_method"]

Integers = int | Sequence[int]

_dispatched: Callable[..., Tensor] = handle_torch_function

DTYPES = (*REAL, torch.complex32, *COMPLEX, *INTEGER)
_REAL = (torch.float32, torch.float64)
#: What a half-precision dtype is computed in; the result is rounded once.
_WIDE = {torch.float16: torch.float32, torch.bfloat16: torch.float32,
         torch.complex32: torch.complex64}


def conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Integers = 1,
           padding: str | Padding = 0, dilation: Integers = 1, groups: int = 1, *,
           method: str = "auto") -> Tensor:
    """Cross-correlate along one dimension, as [torch.nn.functional.conv1d][] does.

    As `conv2d`, with `input` `(N, C, L)` or `(C, L)` and `weight` `(O, C / groups, k)`.

    Examples:
        >>> x, w = torch.tensor([[0.0, 1, 3, 2, 4]]), torch.tensor([[[1.0, 2]]])
        >>> conv1d(x, w, stride=2)
        tensor([[2., 7.]])
        >>> conv1d(x, w, padding=((1, 0),))
        tensor([[ 0.,  2.,  7.,  7., 10.]])
    """
    return convolve(1, input, weight, bias, stride, padding, dilation, groups, method)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Integers = 1,
           padding: str | Padding = 0, dilation: Integers = 1, groups: int = 1, *,
           method: str = "auto") -> Tensor:
    """Cross-correlate along two dimensions, as [torch.nn.functional.conv2d][] does.

    y[n, o, t] = b[o] + the sum over c and k of w[o, c, k] x[n, c, stride t + dilation k - before].

    Args:
        input: x, `(N, C, H, W)` or `(C, H, W)`.
        weight: w, `(O, C / groups, h, w)`.
        bias: b, `(O,)`, or None.
        stride: From one window to the next.
        padding: Zeros around the input: an int, one for each dimension, a pair (before, after) for
            each dimension, `"valid"` for none, or `"same"` for an output of size n / stride,
            rounded up.
        dilation: From one tap to the next.
        groups: How many groups of channels see only each other.
        method: The engine that computes it, and all its derivatives: `"direct"`, `"matmul"` or
            `"fft"`, or `"auto"` for the one that `choose_method` names.

    Returns:
        y, `(N, O, T, U)` or `(O, T, U)`, with (n + before + after - dilation (taps - 1) - 1) //
        stride + 1 along each dimension. Its dtype is the input's, or autocast's.

    Raises:
        TypeError: an argument of another type.
        RuntimeError: shapes, dtypes, devices or numbers that do not fit together.
        NotImplementedError: a dtype that is not computed in, such as bool, or a nested tensor.
        ValueError: a `method` that there is not.

    Examples:
        >>> x = torch.tensor([[[0.0, 1, 3], [2, 1, 2], [2, 1, 0]]])
        >>> w, b = torch.tensor([[[[1.0, 2], [3, 4]]]]), torch.tensor([5.0])
        >>> conv2d(x, w, b)
        tensor([[[17., 23.],
                 [19., 13.]]])
        >>> conv2d(x, w, stride=2, padding="same").shape
        torch.Size([1, 2, 2])
    """
    return convolve(2, input, weight, bias, stride, padding, dilation, groups, method)


def conv3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Integers = 1,
           padding: str | Padding = 0, dilation: Integers = 1, groups: int = 1, *,
           method: str = "auto") -> Tensor:
    """Cross-correlate along three dimensions, as [torch.nn.functional.conv3d][] does.

    As `conv2d`, with `input` `(N, C, D, H, W)` or `(C, D, H, W)` and `weight`
    `(O, C / groups, d, h, w)`.

    Examples:
        >>> conv3d(torch.ones(1, 2, 3, 4), torch.ones(5, 1, 1, 2, 3))[0]
        tensor([[[6., 6.],
                 [6., 6.]],
                [[6., 6.],
                 [6., 6.]]])
    """
    return convolve(3, input, weight, bias, stride, padding, dilation, groups, method)


def conv_transpose1d(input: Tensor, weight: Tensor, bias: Tensor | None = None,
                     stride: Integers = 1, padding: Padding = 0, output_padding: Integers = 0,
                     groups: int = 1, dilation: Integers = 1, *, method: str = "auto") -> Tensor:
    """Apply the adjoint of `conv1d`, as [torch.nn.functional.conv_transpose1d][] does.

    As `conv_transpose2d`, with `input` `(N, C, L)` or `(C, L)` and `weight` `(C, O / groups, k)`.

    Examples:
        >>> g, w = torch.tensor([[2.0, 7]]), torch.tensor([[[1.0, 2]]])
        >>> conv_transpose1d(g, w, stride=2, output_padding=1)
        tensor([[ 2.,  4.,  7., 14.,  0.]])
    """
    return transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation,
                     method)


def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None,
                     stride: Integers = 1, padding: Padding = 0, output_padding: Integers = 0,
                     groups: int = 1, dilation: Integers = 1, *, method: str = "auto") -> Tensor:
    """Apply the adjoint of `conv2d`, as [torch.nn.functional.conv_transpose2d][] does.

    Each number of the input stamps the kernel into the output: y[n, o, p] = b[o] + the sum over c,
    t and k with p = stride t + dilation k - before of w[c, o, k] x[n, c, t].

    Args:
        input: x, `(N, C, H, W)` or `(C, H, W)`.
        weight: w, `(C, O / groups, h, w)`.
        bias: b, `(O,)`, or None.
        stride: From one stamp to the next.
        padding: What is cut off around the output: an int, one for each dimension, or a pair
            (before, after) for each dimension.
        output_padding: How many more rows and columns the output has at its end.
        groups: How many groups of channels see only each other.
        dilation: From one tap to the next.
        method: The engine that computes it, and all its derivatives: `"direct"`, `"matmul"` or
            `"fft"`, or `"auto"` for the one that `choose_method` names.

    Returns:
        y, `(N, O, P, Q)` or `(O, P, Q)`, with (n - 1) stride + dilation (taps - 1) + 1 - before -
        after + output_padding along each dimension. Its dtype is the input's, or autocast's.

    Raises:
        TypeError: an argument of another type.
        RuntimeError: shapes, dtypes, devices or numbers that do not fit together.
        NotImplementedError: a dtype that is not computed in, such as bool, or a nested tensor.
        ValueError: a `method` that there is not.

    Examples:
        >>> g, w = torch.tensor([[[2.0, 3], [-2, -1]]]), torch.tensor([[[[1.0, 2], [3, 4]]]])
        >>> conv_transpose2d(g, w)
        tensor([[[  2.,   7.,   6.],
                 [  4.,  12.,  10.],
                 [ -6., -11.,  -4.]]])
    """
    return transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation,
                     method)


def conv_transpose3d(input: Tensor, weight: Tensor, bias: Tensor | None = None,
                     stride: Integers = 1, padding: Padding = 0, output_padding: Integers = 0,
                     groups: int = 1, dilation: Integers = 1, *, method: str = "auto") -> Tensor:
    """Apply the adjoint of `conv3d`, as [torch.nn.functional.conv_transpose3d][] does.

    As `conv_transpose2d`, with `input` `(N, C, D, H, W)` or `(C, D, H, W)` and `weight`
    `(C, O / groups, d, h, w)`.

    Examples:
        >>> conv_transpose3d(torch.ones(1, 1, 1, 2), torch.ones(1, 5, 1, 2, 3)).shape
        torch.Size([5, 1, 2, 4])
    """
    return transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation,
                     method)


def convolve(dims: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any,
             dilation: Any, groups: Any, method: Any, mode: str = "zeros") -> Tensor:
    """Check and compute a convolution of so many spatial dimensions, in any padding mode."""
    key = _key(dims, input, weight, bias, (stride, padding, dilation, groups, method, mode))
    if key is not None and (call := _CALLS.get(key)):
        return apply_plain(call, input, weight, bias)
    if has_torch_function((input, weight, bias)):  # a subclass of Tensor, or torch.fx recording
        return _dispatched(convolve, (input, weight, bias), dims, input, weight, bias, stride,
                           padding, dilation, groups, method, mode)
    x, w, b = _operands(input, weight, bias, method)
    geo = geometry.convolution(dims, x.shape, w.shape, None if b is None else b.shape, stride,
                               padding, dilation, groups)
    dtype, unbatched = x.dtype, x.ndim == dims + 1
    x, w, b = _widened(x.unsqueeze(0) if unbatched else x), _widened(w), _widened(b)
    zeros = geo.padding
    if mode != "zeros":
        x, zeros = pad(x, geo.padding, mode), ((0, 0),) * dims
    call = Call("y", (geo.stride, zeros, geo.dilation, geo.groups),
                (x.shape[0], w.shape[0], *geo.size), _resolved(method))
    _remember(key, call)
    return _finished(apply(call, x, w, b), dtype, unbatched)


def transpose(dims: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any,
              output_padding: Any, groups: Any, dilation: Any, method: Any,
              mode: str = "zeros") -> Tensor:
    """Check and compute the adjoint of a convolution, its padding mode's adjoint included."""
    key = _key(dims, input, weight, bias,
               (stride, padding, output_padding, groups, dilation, method, mode))
    if key is not None and (call := _CALLS.get(key)):
        return apply_plain(call, weight, input, bias)
    if has_torch_function((input, weight, bias)):
        return _dispatched(transpose, (input, weight, bias), dims, input, weight, bias, stride,
                           padding, output_padding, groups, dilation, method, mode)
    g, w, b = _operands(input, weight, bias, method)
    geo = geometry.transposed(dims, g.shape, w.shape, None if b is None else b.shape, stride,
                              padding, output_padding, groups, dilation)
    dtype, unbatched = g.dtype, g.ndim == dims + 1
    g, w, b = _widened(g.unsqueeze(0) if unbatched else g), _widened(w), _widened(b)
    zeros, size, folded = geo.padding, geo.size, mode != "zeros"
    if folded:  # with the border, which is folded back onto what it copies
        zeros = ((0, 0),) * dims
        size = tuple(n + sum(pair) for n, pair in zip(geo.size, geo.padding, strict=True))
    call = Call("x", (geo.stride, zeros, geo.dilation, geo.groups),
                (g.shape[0], w.shape[1] * geo.groups, *size), _resolved(method))
    _remember(key, call)
    y = apply(call, w, g, None if folded else b)
    if folded:
        y = add_bias(fold_back(y, geo.padding, mode), b)
    return _finished(y, dtype, unbatched)


#: Calls that were checked. One like them goes straight to the engine: the checks take longer than
#: a small layer.
_CALLS: dict[Any, Call] = {}


def _key(dims: int, input: Any, weight: Any, bias: Any, arguments: tuple[Any, ...]) -> Any:
    """What decides the checks' outcome, for plain batches in single or double precision."""
    if (input is None or weight is None or not is_plain(input, weight, bias)
            or input.ndim != dims + 2 or input.dtype is not weight.dtype
            or input.dtype not in _REAL or arguments[-1] != "zeros"
            or torch.is_autocast_enabled("cpu")):
        return None
    of_bias = None if bias is None else (bias.shape, bias.dtype)
    # as text, because 1, 1.0 and True are equal and only the first is an integer
    return input.shape, weight.shape, of_bias, input.dtype, repr(arguments), _default[0]


def _remember(key: Any, call: Call) -> None:
    if key is not None:
        if len(_CALLS) >= 4096:
            _CALLS.clear()
        _CALLS[key] = call


_default = ["auto"]


@contextmanager
def use_method(method: str) -> Iterator[None]:
    """Let every convolution whose `method` is `"auto"` use this engine, in the whole program.

    Layers that are called inside differentiate with it as well, wherever that happens.

    Raises:
        ValueError: a `method` that there is not.

    Examples:
        >>> x, w = torch.tensor([[[1.0, 2, 4]]]), torch.tensor([[[1.0, -1]]])
        >>> with use_method("fft"):
        ...     y = conv1d(x, w)
        >>> y.round(decimals=3)
        tensor([[[-1., -2.]]])
    """
    check_method(method)
    before, _default[0] = _default[0], method
    try:
        yield
    finally:
        _default[0] = before


def _resolved(method: str) -> str:
    return _default[0] if method == "auto" else method


def choose_method(input: Tensor, weight: Tensor, stride: Integers = 1,
                  padding: str | Padding = 0, dilation: Integers = 1, groups: int = 1) -> Choice:
    """Tell which engine `method="auto"` takes for a convolution, and what each is likely to cost.

    The arguments are those of `conv1d`, `conv2d` and `conv3d`; only the shapes and dtypes of the
    tensors count, and whether they require a gradient. They may be on the `meta` device.

    Returns:
        The engine's name and, for each engine, the estimate in seconds.

    Raises:
        TypeError: an argument of another type.
        RuntimeError: shapes, dtypes or numbers that do not fit together.

    Examples:
        >>> x, w = torch.empty(1, 8, 128, 128), torch.empty(8, 8, 31, 31)
        >>> choose_method(x, w).method
        'fft'
        >>> choose_method(x, w[:, :, :3, :3]).method
        'matmul'
    """
    x, w, _ = _operands(input, weight, None, "auto")
    dims = w.ndim - 2
    geo = geometry.convolution(dims, x.shape, w.shape, None, stride, padding, dilation, groups)
    x, w = _widened(x.unsqueeze(0) if x.ndim == dims + 1 else x), _widened(w)
    return choose_for(maps_for("y", x, w), "y", x, w,
                      (geo.stride, geo.padding, geo.dilation, geo.groups),
                      (x.shape[0], w.shape[0], *geo.size))


def check_method(method: Any) -> None:
    """Check that there is such an engine.

    Examples:
        >>> check_method("winograd")
        Traceback (most recent call last):
        ...
        ValueError: method must be one of 'auto', 'direct', 'matmul', 'fft': it is 'winograd'; pass
        method='auto', say
    """
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(
            f"method must be one of {', '.join(map(repr, METHODS))}: it is {method!r}; "
            f"pass method='auto', say"
        )


def _operands(input: Any, weight: Any, bias: Any, method: Any) -> list[Any]:
    """The three tensors, checked, in autocast's dtype where it is on."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        raise NotImplementedError(
            "a convolution by SciPy must stay outside torch.jit.trace, which cannot record it: use "
            "torch.export.export or torch.compile"
        )
    check_method(method)
    tensors = {"input": input, "weight": weight, "bias": bias}
    check_types(tensors)
    if torch.is_autocast_enabled("cpu"):
        tensors = {name: _autocast(tensor) for name, tensor in tensors.items()}
    check_alike(tensors, DTYPES)
    return list(tensors.values())


def _autocast(tensor: Tensor | None) -> Tensor | None:
    """As torch does for its convolutions: double precision and complex numbers stay."""
    if tensor is None or not tensor.is_floating_point() or tensor.dtype is torch.float64:
        return tensor
    return tensor.to(torch.get_autocast_dtype("cpu"))


def _widened(tensor: Any) -> Any:
    return tensor if tensor is None else tensor.to(_WIDE.get(tensor.dtype, tensor.dtype))


def _finished(y: Tensor, dtype: torch.dtype, unbatched: bool) -> Tensor:
    """Round, and take the batch off that was put on."""
    y = y.to(dtype)
    return y.squeeze(0) if unbatched else y
