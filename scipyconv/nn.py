"""`torch.nn`'s convolution layers, computed by SciPy.

Each is a subclass of torch's own layer. It is made, initialized, saved and loaded as
that one is, and code that looks for `torch.nn.Conv2d` finds it; only the arithmetic is
ours. One argument is
added, by keyword: `method`, the engine.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.lazy import LazyModuleMixin

from scipyconv import arguments, functional
from scipyconv.arguments import Padding
from scipyconv.functional import Integers
from scipyconv.method import check_method
from scipyconv.modes import check_mode

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
]


class _Layer(torch.nn.Module):
    """What all layers share: the checks when they are made, and the engine."""

    dims: int
    method = "auto"
    stride: Any
    padding: Any
    dilation: Any
    output_padding: Any
    kernel_size: Any
    groups: int
    padding_mode: Any
    weight: Any
    bias: Any

    def _check(self, padding_mode: Any, method: Any, dtype: Any, *numbers: Any) -> None:
        arguments.check_layer(
            self.dims, *numbers, lazy=isinstance(self, LazyModuleMixin)
        )
        check_mode(padding_mode)
        check_method(method)
        arguments.check_parameter_dtype(dtype)

    def extra_repr(self) -> str:
        """Show the constructor's arguments, and the engine if it was chosen."""
        chosen = "" if self.method == type(self).method else f", method={self.method!r}"
        return f"{super().extra_repr()}{chosen}"


class _Conv(_Layer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Integers,
        stride: Integers = 1,
        padding: str | Padding = 0,
        dilation: Integers = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        method: str = "auto",
    ) -> None:
        if not isinstance(
            self, LazyModuleMixin
        ):  # which has checked, and has no channels yet
            self._check(
                padding_mode,
                method,
                dtype,
                in_channels,
                out_channels,
                kernel_size,
                stride,
                padding,
                dilation,
                groups,
                0,
            )
        if not isinstance(padding, str):
            padding = _as_torch(padding, self.dims)
        # torch refuses "same" with a stride, so it hears of it only afterwards
        strided = padding == "same" and any(
            s != 1 for s in arguments.integers("stride", stride, self.dims, 1)
        )
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            "valid" if strided else padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        self.padding = padding if strided else self.padding
        self.method = method

    def forward(self, input: Tensor) -> Tensor:
        """Compute y from x; see `scipyconv.functional.conv2d` for shapes and errors."""
        return self._conv_forward(input, self.weight, self.bias)

    def _conv_forward(
        self, input: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        # torch's name, which subclasses call with a weight of their own
        return functional.convolve(
            self.dims,
            input,
            weight,
            bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.method,
            self.padding_mode,
        )


class _ConvTranspose(_Layer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Integers,
        stride: Integers = 1,
        padding: Padding = 0,
        output_padding: Integers = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Integers = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        method: str = "auto",
    ) -> None:
        if not isinstance(self, LazyModuleMixin):
            self._check(
                padding_mode,
                method,
                dtype,
                in_channels,
                out_channels,
                kernel_size,
                stride,
                padding,
                dilation,
                groups,
                output_padding,
            )
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            _as_torch(padding, self.dims),
            output_padding,
            groups,
            bias,
            dilation,
            "zeros",
            device,
            dtype,
        )
        self.padding_mode = padding_mode  # torch knows zeros alone
        self.method = method

    def forward(
        self, input: Tensor, output_size: Sequence[int] | None = None
    ) -> Tensor:
        """Compute y from x.

        An `output_size`, spatial or whole, overrides `output_padding`.

        See `scipyconv.functional.conv_transpose2d` for shapes and errors. An
        `output_size` that the stride cannot reach is a ValueError.
        """
        return functional.transpose(
            self.dims,
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
            self.method,
            self.padding_mode,
            output_size,
        )


def _as_torch(padding: Any, dims: int) -> Any:
    """Return one number for each dimension where before and after are the same."""
    if isinstance(padding, Iterable) and not isinstance(padding, str):
        padding = tuple(padding)
    pairs = arguments.pairs(padding, dims, ValueError)
    return tuple(b for b, _ in pairs) if all(b == a for b, a in pairs) else pairs


class Conv1d(_Conv, torch.nn.Conv1d):
    """As `Conv2d`, along one dimension: [torch.nn.Conv1d][], computed by SciPy.

    Examples:
        >>> Conv1d(4, 6, 3, stride=2, padding=1)(torch.zeros(8, 4, 9)).shape
        torch.Size([8, 6, 5])
    """

    dims = 1


class Conv2d(_Conv, torch.nn.Conv2d):
    """A layer of filters over planes: [torch.nn.Conv2d][], computed by SciPy.

    It maps `(N, in_channels, H, W)` to `(N, out_channels, T, U)`, or both without `N`.
    Its parameters are `weight`, `(out_channels, in_channels / groups, h, w)`, and
    `bias`, `(out_channels,)` or None, drawn within 1 / sqrt(fan-in), the same numbers
    as torch's after the same seed.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output: how many filters there are.
        kernel_size: Taps of a filter, an int or one for each dimension. So too the next
            three.
        stride: From one window to the next.
        padding: The border: an int, one for each dimension, a pair (before, after) for
            each dimension, `"valid"` for none, or `"same"` for an output of size n /
            stride, rounded up.
        dilation: From one tap to the next.
        groups: How many groups of channels see only each other.
        bias: Whether there is a bias.
        padding_mode: What the border holds: `"zeros"`, `"reflect"`, `"replicate"` or
            `"circular"`.
        device: Where the parameters are: in main memory, or on `meta`.
        dtype: A floating-point or complex dtype of the parameters.
        method: The engine that computes it, and all its derivatives: `"direct"`,
            `"matmul"` or `"fft"`, or `"auto"` for the one that `choose_method` names.

    Raises:
        TypeError: a number that is not an integer.
        ValueError: a number that is too small, groups that do not divide the channels,
            an unknown padding, mode or method.
        RuntimeError: negative channels, a negative kernel, a dtype that carries no
            gradient.

    Examples:
        >>> layer = Conv2d(4, 6, 3, stride=2, padding=1)
        >>> layer(torch.zeros(8, 4, 7, 9)).shape
        torch.Size([8, 6, 4, 5])
    """

    dims = 2


class Conv3d(_Conv, torch.nn.Conv3d):
    """As `Conv2d`, along three dimensions: [torch.nn.Conv3d][], computed by SciPy.

    Examples:
        >>> Conv3d(4, 6, 3, stride=2, padding=1)(torch.zeros(8, 4, 5, 7, 9)).shape
        torch.Size([8, 6, 3, 4, 5])
    """

    dims = 3


class ConvTranspose1d(_ConvTranspose, torch.nn.ConvTranspose1d):
    """As `ConvTranspose2d`, along one dimension: SciPy's [torch.nn.ConvTranspose1d][].

    Examples:
        >>> ConvTranspose1d(6, 4, 3, stride=2, padding=1)(torch.zeros(8, 6, 5)).shape
        torch.Size([8, 4, 9])
    """

    dims = 1


class ConvTranspose2d(_ConvTranspose, torch.nn.ConvTranspose2d):
    """The adjoint of `Conv2d` as a layer: SciPy's [torch.nn.ConvTranspose2d][].

    It maps `(N, in_channels, H, W)` to `(N, out_channels, P, Q)`, or both without `N`.
    Its parameters are `weight`, `(in_channels, out_channels / groups, h, w)`, and
    `bias`, `(out_channels,)` or None. Called with an `output_size`, the spatial or the
    whole one, it finds the output padding by itself.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Taps of a filter, an int or one for each dimension. So too the next
            three.
        stride: From one stamp to the next.
        padding: What is cut off around the output: an int, one for each dimension, or a
            pair (before, after) for each dimension.
        output_padding: How many more rows and columns the output has at its end.
        groups: How many groups of channels see only each other.
        bias: Whether there is a bias.
        dilation: From one tap to the next.
        padding_mode: `"zeros"` cuts the border off. `"reflect"`, `"replicate"` and
            `"circular"` add it onto the pixels that this mode of `Conv2d` copies: the
            adjoint of that padding.
        device: Where the parameters are: in main memory, or on `meta`.
        dtype: A floating-point or complex dtype of the parameters.
        method: The engine that computes it, and all its derivatives: `"direct"`,
            `"matmul"` or `"fft"`, or `"auto"` for the one that `choose_method` names.

    Raises:
        TypeError: a number that is not an integer.
        ValueError: a number that is too small or an output padding that is too large,
            groups that do not divide the channels, an unknown mode or method; in a
            call, an `output_size` that the stride cannot reach.
        RuntimeError: negative channels, a negative kernel, a dtype that carries no
            gradient.

    Examples:
        >>> layer = ConvTranspose2d(6, 4, 3, stride=2, padding=1)
        >>> layer(torch.zeros(8, 6, 4, 5)).shape
        torch.Size([8, 4, 7, 9])
        >>> layer(torch.zeros(8, 6, 4, 5), output_size=(8, 9)).shape
        torch.Size([8, 4, 8, 9])
    """

    dims = 2


class ConvTranspose3d(_ConvTranspose, torch.nn.ConvTranspose3d):
    """As `ConvTranspose2d`, in three dimensions: SciPy's [torch.nn.ConvTranspose3d][].

    Examples:
        >>> layer = ConvTranspose3d(6, 4, 3, stride=2, padding=1)
        >>> layer(torch.zeros(8, 6, 3, 4, 5)).shape
        torch.Size([8, 4, 5, 7, 9])
    """

    dims = 3


class _Lazy(_Layer):
    def initialize_parameters(self, input: Any, *args: Any, **kwargs: Any) -> None:
        """Check the first input, from which torch then reads the channels."""
        arguments.check_first_input(self.dims, input, self.groups)
        super().initialize_parameters(input, *args, **kwargs)  # type: ignore[misc]


class _LazyConv(_Lazy):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Integers,
        stride: Integers = 1,
        padding: str | Padding = 0,
        dilation: Integers = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        method: str = "auto",
    ) -> None:
        self._check(
            padding_mode,
            method,
            dtype,
            groups,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            0,
        )
        super().__init__(
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        self.method = method


class _LazyConvTranspose(_Lazy):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Integers,
        stride: Integers = 1,
        padding: Padding = 0,
        output_padding: Integers = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Integers = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        method: str = "auto",
    ) -> None:
        self._check(
            padding_mode,
            method,
            dtype,
            groups,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            output_padding,
        )
        super().__init__(
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            groups,
            bias,
            dilation,
            padding_mode,
            device,
            dtype,
        )
        self.method = method


class LazyConv1d(_LazyConv, torch.nn.LazyConv1d, Conv1d):  # type: ignore[misc]
    """A `Conv1d` that learns its `in_channels`: [torch.nn.LazyConv1d][]."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, torch.nn.LazyConv2d, Conv2d):  # type: ignore[misc]
    """A `Conv2d` that learns its `in_channels`: [torch.nn.LazyConv2d][]."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, torch.nn.LazyConv3d, Conv3d):  # type: ignore[misc]
    """A `Conv3d` that learns its `in_channels`: [torch.nn.LazyConv3d][]."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(  # type: ignore[misc]
    _LazyConvTranspose, torch.nn.LazyConvTranspose1d, ConvTranspose1d
):
    """A `ConvTranspose1d` that learns its channels, as torch's lazy one does."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(  # type: ignore[misc]
    _LazyConvTranspose, torch.nn.LazyConvTranspose2d, ConvTranspose2d
):
    """A `ConvTranspose2d` that learns its channels, as torch's lazy one does."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(  # type: ignore[misc]
    _LazyConvTranspose, torch.nn.LazyConvTranspose3d, ConvTranspose3d
):
    """A `ConvTranspose3d` that learns its channels, as torch's lazy one does."""

    cls_to_become = ConvTranspose3d
