"""Right convolutions, as people write them: no check may find anything wrong here."""

import numpy as np
import torch
import torch.nn.functional as F
from check_by_hand import CONV, TRANSPOSED
from check_mutant import Mutant
from torch import Tensor
from torch.autograd.function import once_differentiable


def pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def im2col(x, w, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Gather each window in a column, and multiply matrices; torch differentiates."""
    if x.shape[-3] != w.shape[1] * groups:
        raise ValueError("channels of the input and the weight must agree")
    if (
        (isinstance(padding, int) and padding < 0)
        or min(pair(dilation)) < 1
        or groups < 1
    ):
        raise ValueError("padding must not be negative, nor dilation or groups below 1")
    if x.ndim == 3:
        return im2col(x[None], w, bias, stride, padding, dilation, groups)[0]
    spans = [d * (k - 1) + 1 for d, k in zip(pair(dilation), w.shape[2:], strict=True)]
    x = F.pad(x, border(padding, spans))
    for dim, (span, step) in enumerate(zip(spans, pair(stride), strict=True), 2):
        x = x.unfold(dim, span, step)
    x = x[..., :: pair(dilation)[0], :: pair(dilation)[1]]
    rows = x.unflatten(1, (groups, -1)).movedim(2, 4).flatten(4)
    y = torch.einsum("nghwk,gok->ngohw", rows, w.flatten(1).unflatten(0, (groups, -1)))
    y = y.flatten(1, 2)
    return y if bias is None else y + bias[:, None, None]


def border(padding, spans):
    if padding == "same":
        (a, b), (c, d) = [((span - 1) // 2, span // 2) for span in spans]
        return c, d, a, b
    height, width = pair(0 if padding == "valid" else padding)
    return width, width, height, height


class Loop(torch.autograd.Function):
    """Each output position in turn, in NumPy."""

    @staticmethod
    def forward(ctx, x, w, stride):
        ctx.save_for_backward(x, w)
        ctx.stride = stride
        x, w = x.numpy(), w.numpy()
        sizes = [
            (n - k) // s + 1
            for n, k, s in zip(x.shape[2:], w.shape[2:], stride, strict=True)
        ]
        y = np.zeros((len(x), len(w), *sizes), x.dtype)
        for i, j, window in windows(sizes, w.shape[2:], stride):
            y[:, :, i, j] = np.einsum("nchw,ochw->no", x[window], w)
        return torch.from_numpy(y)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, w = (t.detach().numpy() for t in ctx.saved_tensors)
        g = g.numpy()
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for i, j, window in windows(g.shape[2:], w.shape[2:], ctx.stride):
            dx[window] += np.einsum("no,ochw->nchw", g[:, :, i, j], w)
            dw += np.einsum("no,nchw->ochw", g[:, :, i, j], x[window])
        return torch.from_numpy(dx), torch.from_numpy(dw), None


def windows(sizes, taps, stride):
    for i, j in np.ndindex(*sizes):
        top, left = i * stride[0], j * stride[1]
        yield i, j, (..., slice(top, top + taps[0]), slice(left, left + taps[1]))


def numpy_loop(input, weight, bias=None, stride=1):
    """A part of torch's signature."""
    if input.ndim != 4:
        raise ValueError("input must have a batch")
    if input.shape[1] != weight.shape[1] or min(pair(stride)) < 1:
        raise ValueError("channels must agree, and stride must be positive")
    y = Loop.apply(input, weight, pair(stride))
    return y if bias is None else y + bias[:, None, None]


def by_fft(x: Tensor, w: Tensor, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Multiply spectra in double precision, and keep every stride-th pixel."""
    if (
        x.shape[-3] != w.shape[1] * groups
        or min(*pair(stride), *pair(dilation), groups) < 1
    ):
        raise ValueError(
            "channels must agree; stride, dilation, groups must be positive"
        )
    if padding == -1:
        raise ValueError("padding must not be negative")
    if x.ndim == 3:
        return by_fft(x[None], w, bias, stride, padding, dilation, groups)[0]
    spans = [d * (k - 1) + 1 for d, k in zip(pair(dilation), w.shape[2:], strict=True)]
    wide = torch.complex128 if x.is_complex() else torch.float64
    padded = F.pad(x.to(wide), border(padding, spans))
    stretched = w.new_zeros(*w.shape[:2], *spans, dtype=wide)
    stretched[..., :: pair(dilation)[0], :: pair(dilation)[1]] = w
    size = padded.shape[2:]
    a = torch.fft.fft2(padded, size).unflatten(1, (groups, -1))
    b = torch.fft.fft2(stretched.flip(2, 3), size).unflatten(0, (groups, -1))
    full = torch.fft.ifft2(torch.einsum("ngchw,gochw->ngohw", a, b).flatten(1, 2))
    y = full[..., spans[0] - 1 :: pair(stride)[0], spans[1] - 1 :: pair(stride)[1]]
    y = (y if x.is_complex() else y.real).to(x.dtype)
    return y if bias is None else y + bias[:, None, None]


CONTROLS = (
    *(
        Mutant(f"by hand, {dims}-D", "control", CONV[dims], family=f"conv{dims}d")
        for dims in (1, 2, 3)
    ),
    *(
        Mutant(
            f"transposed by hand, {dims}-D",
            "control",
            TRANSPOSED[dims],
            family=f"conv_transpose{dims}d",
        )
        for dims in (1, 2, 3)
    ),
    Mutant("by hand, complex", "control", CONV[2], dtypes=("complex64", "complex128")),
    Mutant("by hand, double", "control", CONV[2], dtypes=("float64",)),
    Mutant("by hand, integers", "control", CONV[2], dtypes=("int32", "int64")),
    Mutant("im2col", "control", im2col),
    Mutant("im2col, complex", "control", im2col, dtypes=("complex64",)),
    Mutant("NumPy loop", "control", numpy_loop),
    Mutant("NumPy loop, double", "control", numpy_loop, dtypes=("float64",)),
    Mutant("FFT in double", "control", by_fft, dtypes=("float64",)),
    Mutant("FFT in double of float32", "control", by_fft),
)
