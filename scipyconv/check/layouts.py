"""The same numbers, laid out otherwise in memory, with NaN all around them."""

from collections.abc import Callable

import torch
from torch import Tensor

Change = Callable[[Tensor], Tensor]


def transposed(tensor: Tensor) -> Tensor:
    """Lay the dimensions out in the reverse order.

    Examples:
        >>> transposed(torch.zeros(2, 3)).stride()
        (1, 2)
    """
    order = tuple(reversed(range(tensor.ndim)))
    return tensor.permute(order).contiguous().permute(order)


def strided(tensor: Tensor) -> Tensor:
    """Keep every second element of a tensor of NaN along each dimension.

    Examples:
        >>> strided(torch.zeros(2, 3)).stride()
        (14, 2)
    """
    around = _filled(tensor, [2 * n + 1 for n in tensor.shape])
    inside = around[tuple(slice(1, None, 2) for _ in tensor.shape)]
    inside.copy_(tensor)
    return inside


def sliced(tensor: Tensor) -> Tensor:
    """Cut the tensor out of the middle of a larger one of NaN.

    Examples:
        >>> sliced(torch.zeros(2, 3)).stride()
        (5, 1)
    """
    inside = _filled(tensor, [n + 2 for n in tensor.shape])
    for dim, n in enumerate(tensor.shape):
        inside = inside.narrow(dim, 1, n)
    inside.copy_(tensor)
    return inside


def offset(tensor: Tensor) -> Tensor:
    """Keep it contiguous, with NaN before its first element and after its last one."""
    around = _filled(tensor, [tensor.numel() + 16])
    inside = around[8 : 8 + tensor.numel()].view(tensor.shape)
    inside.copy_(tensor)
    return inside


def channels_last(tensor: Tensor) -> Tensor:
    """Lay the channels, dimension 1, out innermost."""
    return (
        tensor.movedim(1, -1).contiguous().movedim(-1, 1) if tensor.ndim > 1 else tensor
    )


def repeated(tensor: Tensor) -> Tensor:
    """Repeat the first slice along the first dimension, without copies: stride 0."""
    return tensor[:1].expand(tensor.shape)


def constant(tensor: Tensor) -> Tensor:
    """Repeat the first number everywhere, as the cotangent of a sum is."""
    if tensor.numel() == 0:
        return tensor
    return tensor.reshape(-1)[0].expand(tensor.shape)


#: Layouts that keep the numbers, and those that repeat some of them.
KEEPING: dict[str, Change] = {
    "transposed": transposed,
    "strided": strided,
    "sliced": sliced,
    "with an offset": offset,
    "channels last": channels_last,
}
REPEATING: dict[str, Change] = {
    "repeated along its first dimension": repeated,
    "expanded from one number": constant,
}


def _filled(tensor: Tensor, shape: list[int]) -> Tensor:
    """Return NaN, or the largest integer, for what is never to be read."""
    floats = tensor.dtype.is_floating_point or tensor.dtype.is_complex
    value = torch.nan if floats else torch.iinfo(tensor.dtype).max
    return torch.full(shape, value, dtype=tensor.dtype, device=tensor.device)
