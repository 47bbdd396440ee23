"""One-channel convolution by SciPy, differentiable by PyTorch to any order."""

from collections.abc import Callable
from typing import Any

import torch
from scipy.signal import convolve2d, correlate2d
from torch import Tensor, nn
from torch.autograd import Function, forward_ad
from torch.overrides import handle_torch_function, has_torch_function

from scipyconv.bridge import as_array
from scipyconv.dtypes import computed
from scipyconv.textbook.checks import check_layer, check_not_traced, check_tensors


class _Slide(Function):
    """y[t] = b + sum_k w[k] x[t+k] or, in full, z[p] = sum_k w[k] x[p-k]."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, b: Tensor | None, full: bool) -> Tensor:
        if full:
            return _each_plane(convolve2d, x, w, "full")
        # SciPy conjugates the filter, torch does not: once more undoes it.
        y = _each_plane(correlate2d, x, w.conj(), "valid")
        return y if b is None else y + b

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, b, ctx.full = inputs
        ctx.save_for_backward(x, w)  # themselves: second derivatives need them
        ctx.save_for_forward(x, w)
        ctx.bias_shape = None if b is None else b.shape

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        need_x, need_w, need_b, _ = ctx.needs_input_grad
        grad_x = grad_w = grad_b = None
        if need_x:  # each slide is the other's derivative
            grad_x = _slide(g, w.conj(), None, not ctx.full).sum_to_size(x.shape)
        if need_w:
            large, small = (g, x.conj()) if ctx.full else (x.conj(), g)
            grad_w = _slide(large, small, None, False).sum_to_size(w.shape)
        if need_b:
            grad_b = g.sum_to_size(ctx.bias_shape).clone()  # g itself, if one number
        return grad_x, grad_w, grad_b, None

    @staticmethod
    def jvp(ctx: Any, x_dot: Tensor, w_dot: Tensor, b_dot: Any, _: None) -> Tensor:
        # torch switches forward mode off in here: forward over forward would be zero,
        # silently. Switched on, x and w would bring their own tangents: take them off.
        with forward_ad._set_fwd_grad_enabled(True):
            x, w = (forward_ad.unpack_dual(t).primal for t in ctx.saved_tensors)
            y_dot = _slide(x_dot, w, b_dot, ctx.full)
            return y_dot + _slide(x, w_dot, None, ctx.full)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Tensor, int]:
        # What is mapped, or a 1, goes just ahead of the planes, of w and b as well.
        *tensors, full = inputs
        for i, (t, d) in enumerate(zip(tensors, in_dims, strict=False)):
            if t is not None:
                tensors[i] = t.unsqueeze(-3) if d is None else t.movedim(d, -3)
        return _slide(*tensors, full).movedim(-3, 0), 0


_slide: Callable[..., Tensor] = _Slide.apply


class ScipyConv2dFunction(_Slide):
    """Valid cross-correlation plus bias: y[t] = b + sum_k w[k] x[t+k].

    `apply(input, filter, bias)` takes x `(*, H, W)`, w `(h, w)` and b, which is `(1,)`,
    `()` or None, and returns y `(*, H-h+1, W-w+1)`. For a cotangent g, of y's shape,
    dL/dx[p] = sum_k w[k] g[p-k], dL/dw[k] = sum_t g[t] x[t+k] and dL/db = sum_t g[t],
    with complex w and x conjugated. One dtype for all: float16, bfloat16 (via float32),
    float32, float64, complex32 (via complex64), complex64, complex128 or, without
    gradients, uint8, int8 to int64.

    Examples:
        >>> x = torch.tensor([[0.0, 1, 3], [2, 1, 2], [2, 1, 0]])
        >>> w, b = torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([5.0])
        >>> ScipyConv2dFunction.apply(x, w, b)
        tensor([[17., 23.],
                [19., 13.]])
    """

    @classmethod
    def apply(cls, input: Tensor, filter: Tensor, bias: Tensor | None = None) -> Tensor:
        """Check as `scipyconv.textbook.checks.check_tensors` says, and compute."""
        operands = input, filter, bias
        if has_torch_function(operands):  # a mode, a subclass, or torch.fx
            return handle_torch_function(cls.apply, operands, *operands)
        check_tensors(*operands)
        b = None if bias is None else computed(bias).reshape(1, 1)
        return _slide(computed(input), computed(filter), b, False).to(input.dtype)


class ScipyConv2d(nn.Module):
    """A layer that learns a `filter` `(h, w)` and, unless told not to, a `bias` `(1,)`.

    It maps `(*, H, W)` to `(*, H-h+1, W-w+1)`, as `ScipyConv2dFunction` does. What it
    refuses: see `scipyconv.textbook.checks`.

    Examples:
        >>> ScipyConv2d(2, 3)(torch.zeros(7, 4, 5)).shape
        torch.Size([7, 3, 3])
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        filter_height: int,
        filter_width: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_layer(filter_height, filter_width, dtype)
        w = torch.empty(filter_height, filter_width, device=device, dtype=dtype)
        self.filter = nn.Parameter(w)
        self.register_parameter("bias", nn.Parameter(w.new_empty(1)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both uniformly within 1/sqrt(fan-in), as `torch.nn.Conv2d` does."""
        bound = self.filter.numel() ** -0.5
        for parameter in (self.filter, self.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """Apply filter and bias to each plane of `input`."""
        return ScipyConv2dFunction.apply(input, self.filter, self.bias)

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        h, w = self.filter.shape
        return f"filter_height={h}, filter_width={w}, bias={self.bias is not None}"


def _each_plane(slide: Callable[..., Any], a: Tensor, b: Tensor, mode: str) -> Tensor:
    """Let SciPy slide b's planes over a's; the dimensions ahead of them broadcast."""
    check_not_traced()
    sign = 1 if mode == "full" else -1
    sides = zip(a.shape[-2:], b.shape[-2:], strict=True)
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = a.new_empty(*batch, *(m + sign * (n - 1) for m, n in sides))
    if y.untyped_storage().device.type != "meta":  # meta and fake tensors: no numbers
        flat = (t.expand(*batch, -1, -1).reshape(-1, *t.shape[-2:]) for t in (a, b, y))
        for x, w, out in zip(*map(as_array, flat), strict=True):
            out[:] = slide(x, w, mode)  # out is a view: y is contiguous
    return y
