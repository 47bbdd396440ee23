"""A right convolution, by hand, in torch's operations; each part can be replaced.

A tap of the weight meets every stride-th pixel of the padded input. All three maps of a
convolution are one loop over the taps, and differ in what they multiply and add up.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Setup:
    """The parameters of one call, one number for each dimension."""

    stride: Sizes
    dilation: Sizes
    groups: int = 1

    def spans(self, taps: Sizes) -> Sizes:
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, taps, strict=True))

    def windows(self, pixels: Sizes, taps: Sizes) -> Sizes:
        return tuple(
            (n - span) // s + 1
            for n, span, s in zip(pixels, self.spans(taps), self.stride, strict=True)
        )

    def places(self, windows: Sizes, taps: Sizes) -> Iterator[tuple[Any, Any]]:
        """Each tap, and the pixels that it meets, as indices after an ellipsis."""
        for tap in product(*map(range, taps)):
            yield (
                (..., *tap),
                (
                    ...,
                    *(
                        slice(k * d, k * d + s * (n - 1) + 1, s)
                        for k, d, s, n in zip(
                            tap, self.dilation, self.stride, windows, strict=True
                        )
                    ),
                ),
            )


def correlate(x: Tensor, w: Tensor, s: Setup) -> Tensor:
    """From an input and a weight, the output."""
    windows = s.windows(x.shape[2:], w.shape[2:])
    x, w = x.unflatten(1, (s.groups, -1)), w.unflatten(0, (s.groups, -1))
    each = [
        torch.einsum("ngc...,goc->ngo...", x[place], w[tap])
        for tap, place in s.places(windows, w.shape[3:])
    ]
    return sum(each[1:], each[0]).flatten(1, 2)


def spread(g: Tensor, w: Tensor, s: Setup, pixels: Sizes) -> Tensor:
    """From a cotangent and a weight, the input's gradient, before conjugation."""
    g, w = g.unflatten(1, (s.groups, -1)), w.unflatten(0, (s.groups, -1))
    x = g.new_zeros(len(g), s.groups, w.shape[2], *pixels)
    for tap, place in s.places(g.shape[3:], w.shape[3:]):
        x[place] += torch.einsum("ngo...,goc->ngc...", g, w[tap])
    return x.flatten(1, 2)


def collect(x: Tensor, g: Tensor, s: Setup, taps: Sizes) -> Tensor:
    """From an input and a cotangent, the weight's gradient, before conjugation."""
    x, g = x.unflatten(1, (s.groups, -1)), g.unflatten(1, (s.groups, -1))
    each = [
        torch.einsum("ngo...,ngc...->goc", g, x[place])
        for _, place in s.places(g.shape[3:], taps)
    ]
    return torch.stack(each, -1).unflatten(-1, taps).flatten(0, 1)


def output(x: Tensor, w: Tensor, s: Setup) -> Tensor:
    return correlate(x, w, s)


def input_gradient(x: Tensor, w: Tensor, g: Tensor, s: Setup) -> Tensor:
    return spread(g, w.conj(), s, x.shape[2:])


def weight_gradient(x: Tensor, w: Tensor, g: Tensor, s: Setup) -> Tensor:
    return collect(x.conj(), g, s, w.shape[2:])


def output_transposed(x: Tensor, w: Tensor, s: Setup) -> Tensor:
    pixels = [
        (n - 1) * stride + span
        for n, stride, span in zip(
            x.shape[2:], s.stride, s.spans(w.shape[2:]), strict=True
        )
    ]
    return spread(x, w, s, tuple(pixels))


def input_gradient_transposed(x: Tensor, w: Tensor, g: Tensor, s: Setup) -> Tensor:
    return correlate(g, w.conj(), s)


def weight_gradient_transposed(x: Tensor, w: Tensor, g: Tensor, s: Setup) -> Tensor:
    return collect(g, x.conj(), s, w.shape[2:])


def bias_gradient(x: Tensor, w: Tensor, g: Tensor, s: Setup) -> Tensor:
    return g.sum((0, *range(2, g.ndim)))


def add_bias(y: Tensor, b: Tensor) -> Tensor:
    return y + b.reshape(-1, *[1] * (y.ndim - 2))


def tangent(
    layer: "Layer", x: Tensor, w: Tensor, dx: Tensor, dw: Tensor, s: Setup
) -> Tensor:
    """The output's tangent; the bias moves outside."""
    return layer.output(dx, w, s) + layer.output(x, dw, s)


def border(x: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """Zeros before and after, along each dimension."""
    return F.pad(x, [n for pair in reversed(pairs) for n in pair])


def same(span: int) -> tuple[int, int]:
    return (span - 1) // 2, span // 2


def save(ctx: Any, x: Tensor, w: Tensor) -> None:
    ctx.save_for_backward(x, w)
    ctx.save_for_forward(x, w)


def load(ctx: Any) -> tuple[Tensor, Tensor]:
    return ctx.saved_tensors


@dataclass(frozen=True)
class Layer:
    """A convolution, called as torch's is; each field is a part to replace."""

    dims: int = 2
    transposed: bool = False
    output: Callable[..., Tensor] = output
    input_gradient: Callable[..., Tensor | None] = input_gradient
    weight_gradient: Callable[..., Tensor | None] = weight_gradient
    bias_gradient: Callable[..., Tensor | None] = bias_gradient
    add_bias: Callable[..., Tensor] = add_bias
    tangent: Callable[..., Tensor] = tangent
    border: Callable[..., Tensor] = border
    same: Callable[[int], tuple[int, int]] = same
    save: Callable[..., None] = save
    load: Callable[..., tuple[Tensor, Tensor]] = load

    def __call__(
        self, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1
    ):
        check(self, input, weight, bias, stride, padding, dilation, groups)
        s = Setup(self.each(stride), self.each(dilation), groups)
        batched = input if input.ndim == self.dims + 2 else input[None]
        x = self.border(batched, self.pairs(padding, s.spans(weight.shape[2:])))
        y = Function.apply(self, s, x, weight, bias)
        return y if batched is input else y[0]

    def each(self, value: int | Sizes) -> Sizes:
        return (value,) * self.dims if isinstance(value, int) else tuple(value)

    def pairs(self, padding: Any, spans: Sizes) -> list[tuple[int, int]]:
        if padding == "same":
            return [self.same(span) for span in spans]
        return [(p, p) for p in self.each(0 if padding == "valid" else padding)]


@dataclass(frozen=True)
class LayerTransposed(Layer):
    """A transposed convolution, called as torch's is."""

    transposed: bool = True
    output: Callable[..., Tensor] = output_transposed
    input_gradient: Callable[..., Tensor | None] = input_gradient_transposed
    weight_gradient: Callable[..., Tensor | None] = weight_gradient_transposed

    def __call__(
        self,
        input,
        weight,
        bias=None,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        dilation=1,
    ):
        check(
            self, input, weight, bias, stride, padding, dilation, groups, output_padding
        )
        s = Setup(self.each(stride), self.each(dilation), groups)
        batched = input if input.ndim == self.dims + 2 else input[None]
        y = Function.apply(self, s, batched, weight, None)
        after = [
            more - p
            for more, p in zip(
                self.each(output_padding), self.each(padding), strict=True
            )
        ]
        y = self.border(
            y, [(-p, q) for p, q in zip(self.each(padding), after, strict=True)]
        )
        y = y if bias is None else self.add_bias(y, bias)
        return y if batched is input else y[0]


class Function(torch.autograd.Function):
    """The part of a layer that is differentiated by hand."""

    @staticmethod
    def forward(ctx, layer, s, x, w, b):
        ctx.layer, ctx.s = layer, s
        layer.save(ctx, x, w)
        y = layer.output(x, w, s)
        return y if b is None else layer.add_bias(y, b)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.layer.load(ctx)
        maps = (
            ctx.layer.input_gradient,
            ctx.layer.weight_gradient,
            ctx.layer.bias_gradient,
        )
        return (
            None,
            None,
            *(
                map_(x, w, g, ctx.s) if needed else None
                for map_, needed in zip(maps, ctx.needs_input_grad[2:], strict=True)
            ),
        )

    @staticmethod
    def jvp(ctx, _layer, _setup, dx, dw, db):
        x, w = ctx.saved_tensors
        dx = torch.zeros_like(x) if dx is None else dx
        dw = torch.zeros_like(w) if dw is None else dw
        dy = ctx.layer.tangent(ctx.layer, x, w, dx, dw, ctx.s)
        return dy if db is None else ctx.layer.add_bias(dy, db)


def check(
    layer, input, weight, bias, stride, padding, dilation, groups, output_padding=0
):
    """Refuse what makes no sense."""

    def refuse(wrong: bool, message: str) -> None:
        if wrong:
            raise ValueError(message)

    refuse(
        input.ndim - layer.dims not in (1, 2),
        "input has the wrong number of dimensions",
    )
    refuse(groups < 1, "groups must be positive")
    refuse(min(layer.each(stride)) < 1, "stride must be positive")
    refuse(min(layer.each(dilation)) < 1, "dilation must be positive")
    refuse(
        not isinstance(padding, str) and min(layer.each(padding)) < 0,
        "padding must not be negative",
    )
    refuse(min(layer.each(output_padding)) < 0, "output_padding must not be negative")
    channels = input.shape[-1 - layer.dims]
    refuse(
        channels != (len(weight) if layer.transposed else weight.shape[1] * groups),
        "input must have the channels of the weight",
    )
    filters = weight.shape[1] * groups if layer.transposed else len(weight)
    refuse(
        bias is not None and bias.shape != (filters,),
        "bias must have one number a filter",
    )


CONV = {dims: Layer(dims) for dims in (1, 2, 3)}
TRANSPOSED = {dims: LayerTransposed(dims) for dims in (1, 2, 3)}
