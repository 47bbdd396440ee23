"""`torch.nn.functional`'s six convolutions, computed by SciPy.

One argument is added, by keyword: `method`, the engine. `padding` also takes a pair
(before, after) for each dimension, and `"same"` goes with any stride.

By the engines `"direct"` and `"matmul"`, a NaN or infinity of the input or the
cotangent goes where the definition puts it, and each result is exact up to the rounding
of its own terms. `"fft"`, which `"auto"` may choose, spreads a NaN over all that it
transforms together, and its error is relative to the largest values there; `"exact"`
chooses as `"auto"` does, but never `"fft"`. By every engine, a weight that is not
finite also meets
zeros, which makes a NaN: those around a padded input and, in the input's gradient and
in a transposed convolution, those around the stamps.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from scipyconv import arguments, modes, short_way
from scipyconv.arguments import Padding
from scipyconv.dtypes import computed
from scipyconv.engines.choice import Choice
from scipyconv.method import check_method, preferred, use_method
from scipyconv.operator import choose_engine
from scipyconv.short_way import Call

__all__ = [
    "choose_method",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "use_method",
]

Integers = int | Sequence[int]

_dispatched: Any = handle_torch_function


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Integers = 1,
    padding: str | Padding = 0,
    dilation: Integers = 1,
    groups: int = 1,
    *,
    method: str = "auto",
) -> Tensor:
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


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Integers = 1,
    padding: str | Padding = 0,
    dilation: Integers = 1,
    groups: int = 1,
    *,
    method: str = "auto",
) -> Tensor:
    """Cross-correlate along two dimensions, as [torch.nn.functional.conv2d][] does.

    y[n, o, t] = b[o] + the sum over c and k of w[o, c, k] x[n, c, stride t + dilation k
    - before].

    Args:
        input: x, `(N, C, H, W)` or `(C, H, W)`.
        weight: w, `(O, C / groups, h, w)`.
        bias: b, `(O,)`, or None.
        stride: From one window to the next.
        padding: Zeros around the input: an int, one for each dimension, a pair (before,
            after) for each dimension, `"valid"` for none, or `"same"` for an output of
            size n / stride, rounded up.
        dilation: From one tap to the next.
        groups: How many groups of channels see only each other.
        method: The engine that computes it, and all its derivatives: `"direct"`,
            `"matmul"` or `"fft"`; `"auto"` for the one that `choose_method` names; or
            `"exact"`, for the faster of those whose error is relative to each result's
            own terms, not `"fft"`.

    Returns:
        y, `(N, O, T, U)` or `(O, T, U)`, with (n + before + after - dilation (taps - 1)
        - 1) // stride + 1 along each dimension. Its dtype is the input's, or
        autocast's.

    Raises:
        TypeError: an argument of another type.
        RuntimeError: shapes, dtypes, devices or numbers that do not fit together.
        NotImplementedError: an unsupported dtype, such as bool, or a nested tensor.
        ValueError: an unknown `method`, or a number that does not fit in 64 bits.

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


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Integers = 1,
    padding: str | Padding = 0,
    dilation: Integers = 1,
    groups: int = 1,
    *,
    method: str = "auto",
) -> Tensor:
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


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Integers = 1,
    padding: Padding = 0,
    output_padding: Integers = 0,
    groups: int = 1,
    dilation: Integers = 1,
    *,
    method: str = "auto",
) -> Tensor:
    """Apply the adjoint of `conv1d`, as [torch.nn.functional.conv_transpose1d][] does.

    As `conv_transpose2d`, with `input` `(N, C, L)` or `(C, L)` and `weight`
    `(C, O / groups, k)`.

    Examples:
        >>> g, w = torch.tensor([[2.0, 7]]), torch.tensor([[[1.0, 2]]])
        >>> conv_transpose1d(g, w, stride=2, output_padding=1)
        tensor([[ 2.,  4.,  7., 14.,  0.]])
    """
    return transpose(
        1,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        method,
    )


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Integers = 1,
    padding: Padding = 0,
    output_padding: Integers = 0,
    groups: int = 1,
    dilation: Integers = 1,
    *,
    method: str = "auto",
) -> Tensor:
    """Apply the adjoint of `conv2d`, as [torch.nn.functional.conv_transpose2d][] does.

    Each number of the input stamps the kernel into the output: y[n, o, p] = b[o] + the
        sum over c,
    t and k with p = stride t + dilation k - before of w[c, o, k] x[n, c, t].

    Args:
        input: x, `(N, C, H, W)` or `(C, H, W)`.
        weight: w, `(C, O / groups, h, w)`.
        bias: b, `(O,)`, or None.
        stride: From one stamp to the next.
        padding: What is cut off around the output: an int, one for each dimension, or a
            pair (before, after) for each dimension.
        output_padding: How many more rows and columns the output has at its end.
        groups: How many groups of channels see only each other.
        dilation: From one tap to the next.
        method: The engine that computes it, and all its derivatives: `"direct"`,
            `"matmul"` or `"fft"`; `"auto"` for the one that `choose_method` names; or
            `"exact"`, for the faster of those whose error is relative to each result's
            own terms, not `"fft"`.

    Returns:
        y, `(N, O, P, Q)` or `(O, P, Q)`, with (n - 1) stride + dilation (taps - 1) + 1
        - before - after + output_padding along each dimension. Its dtype is the
        input's, or autocast's.

    Raises:
        TypeError: an argument of another type.
        RuntimeError: shapes, dtypes, devices or numbers that do not fit together.
        NotImplementedError: an unsupported dtype, such as bool, or a nested tensor.
        ValueError: an unknown `method`, or a number that does not fit in 64 bits.

    Examples:
        >>> g = torch.tensor([[[2.0, 3], [-2, -1]]])
        >>> w = torch.tensor([[[[1.0, 2], [3, 4]]]])
        >>> conv_transpose2d(g, w)
        tensor([[[  2.,   7.,   6.],
                 [  4.,  12.,  10.],
                 [ -6., -11.,  -4.]]])
    """
    return transpose(
        2,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        method,
    )


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Integers = 1,
    padding: Padding = 0,
    output_padding: Integers = 0,
    groups: int = 1,
    dilation: Integers = 1,
    *,
    method: str = "auto",
) -> Tensor:
    """Apply the adjoint of `conv3d`, as [torch.nn.functional.conv_transpose3d][] does.

    As `conv_transpose2d`, with `input` `(N, C, D, H, W)` or `(C, D, H, W)` and `weight`
    `(C, O / groups, d, h, w)`.

    Examples:
        >>> conv_transpose3d(torch.ones(1, 1, 1, 2), torch.ones(1, 5, 1, 2, 3)).shape
        torch.Size([5, 1, 2, 4])
    """
    return transpose(
        3,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        method,
    )


def convolve(
    dims: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    method: Any,
    mode: str = "zeros",
) -> Tensor:
    """Check and compute a convolution, in any padding mode."""
    given = stride, padding, dilation, groups, method, mode
    if has_torch_function((input, weight, bias)):  # a mode, a subclass, or torch.fx
        recorded: Tensor = _dispatched(
            convolve, (input, weight, bias), dims, input, weight, bias, *given
        )
        return recorded
    key = short_way.key("y", dims, (input, weight, bias), given)
    if call := short_way.recall(key):
        return short_way.apply_plain(call, input, weight, bias)
    x, w, b = _operands(input, weight, bias, method, mode)
    geometry = arguments.convolution(
        dims,
        x.shape,
        w.shape,
        None if b is None else b.shape,
        stride,
        padding,
        dilation,
        groups,
    )
    dtype, unbatched = x.dtype, x.ndim == dims + 1
    x, w, b = _computed(x, w, b)
    x = x.unsqueeze(0) if unbatched else x
    if mode != "zeros":
        x, geometry = modes.pad(x, geometry.padding, mode), geometry.borderless()
    call = Call("y", geometry, preferred(method))
    short_way.remember(key if mode == "zeros" else None, call)
    return _finished(short_way.apply(call, x, w, b), dtype, unbatched)


def transpose(
    dims: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    method: Any,
    mode: str = "zeros",
    output_size: Any = None,
) -> Tensor:
    """Check and compute the adjoint of a convolution, and of its padding mode.

    An `output_size`, spatial or whole, takes the place of `output_padding`.
    """
    given = stride, padding, output_padding, groups, dilation, method, mode, output_size
    if has_torch_function((input, weight, bias)):
        recorded: Tensor = _dispatched(
            transpose, (input, weight, bias), dims, input, weight, bias, *given
        )
        return recorded
    plain = mode == "zeros" and output_size is None
    key = short_way.key("x", dims, (input, weight, bias), given[:-1]) if plain else None
    if call := short_way.recall(key):
        return short_way.apply_plain(call, weight, input, bias)
    g, w, b = _operands(input, weight, bias, method, mode)
    geometry = arguments.transposed(
        dims,
        g.shape,
        w.shape,
        None if b is None else b.shape,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        output_size,
    )
    dtype, unbatched = g.dtype, g.ndim == dims + 1
    g, w, b = _computed(g, w, b)
    g = g.unsqueeze(0) if unbatched else g
    folded = mode != "zeros"
    call = Call("x", geometry.borderless() if folded else geometry, preferred(method))
    short_way.remember(key, call)
    y = short_way.apply(call, w, g, None if folded else b)
    if folded:
        y = short_way.add_bias(modes.fold_back(y, geometry.padding, mode), b)
    return _finished(y, dtype, unbatched)


def choose_method(
    input: Tensor,
    weight: Tensor,
    stride: Integers = 1,
    padding: str | Padding = 0,
    dilation: Integers = 1,
    groups: int = 1,
    *,
    method: str = "auto",
) -> Choice:
    """Tell which engine a convolution would use, and what each is likely to cost.

    Only the shapes and dtypes of the tensors count, and whether they require a
    gradient. They may be on the `meta` device.

    Args:
        input: x, as for `conv1d`, `conv2d` or `conv3d`: the weight's dimensions tell.
        weight: w, likewise.
        stride: As in `conv2d`; so too the next three.
        padding: The border.
        dilation: From one tap to the next.
        groups: How many groups of channels.
        method: `"auto"` to choose from all engines, `"exact"` to leave out `"fft"`.

    Returns:
        The engine's name and, for each engine, the estimate in seconds.

    Raises:
        TypeError: an argument of another type.
        RuntimeError: shapes, dtypes or numbers that do not fit together.
        ValueError: an unknown `method`.

    Examples:
        >>> x, w = torch.empty(1, 8, 128, 128), torch.empty(8, 8, 31, 31)
        >>> choose_method(x, w).method
        'fft'
        >>> choose_method(x, w, method="exact").method
        'matmul'
        >>> choose_method(x, w[:, :, :3, :3]).method
        'matmul'
    """
    if has_torch_function((input, weight)):
        chosen: Choice = _dispatched(
            choose_method,
            (input, weight),
            input,
            weight,
            stride,
            padding,
            dilation,
            groups,
            method=method,
        )
        return chosen
    x, w, _ = _operands(input, weight, None, method, "zeros")
    dims = arguments.spatial_dimensions(w.shape)
    geometry = arguments.convolution(
        dims, x.shape, w.shape, None, stride, padding, dilation, groups
    )
    backward = short_way.gradients_wanted("y", x, w)
    passes = ("y", backward) if backward else ("y",)
    return choose_engine(geometry, x.dtype, preferred(method), passes)


def _operands(input: Any, weight: Any, bias: Any, method: Any, mode: Any) -> list[Any]:
    """The three tensors, checked, in autocast's dtype where it is on."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        raise NotImplementedError(
            "a convolution by SciPy must stay outside torch.jit.trace, which cannot "
            "record it: use torch.export.export or torch.compile"
        )
    check_method(method)
    modes.check_mode(mode)
    tensors = {"input": input, "weight": weight, "bias": bias}
    arguments.check_types(tensors)
    if torch.is_autocast_enabled("cpu"):
        tensors = {name: _autocast(tensor) for name, tensor in tensors.items()}
    arguments.check_alike(tensors)
    return list(tensors.values())


def _computed(*tensors: Any) -> list[Any]:
    return [None if tensor is None else computed(tensor) for tensor in tensors]


def _autocast(tensor: Tensor | None) -> Tensor | None:
    """As torch does for its convolutions: double precision and complex numbers stay."""
    if (
        tensor is None
        or not tensor.is_floating_point()
        or tensor.dtype is torch.float64
    ):
        return tensor
    return tensor.to(torch.get_autocast_dtype("cpu"))


def _finished(y: Tensor, dtype: torch.dtype, unbatched: bool) -> Tensor:
    """Round, and take the batch off that was put on."""
    y = y.to(dtype)
    return y.squeeze(0) if unbatched else y
