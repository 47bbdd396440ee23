"""The padding modes of `torch.nn`: what surrounds the input, and the adjoint of that.

| mode | 1234 with a border of two |
|---|---|
| zeros | 00 1234 00 |
| reflect | 32 1234 32, mirrored at the edge pixel, which is not repeated |
| replicate | 11 1234 44 |
| circular | 34 1234 12 |

Padding copies pixels: `pad` gathers them from the positions that a mode names. Its
adjoint, `fold_back`, adds each copy to the pixel that it came from. Zeros are no
copies: the operator itself has them. Adding a mode is adding a function and a row of
`COPIES`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scipyconv.geometry import Pairs


def _reflect(p: Tensor, n: int) -> Tensor:
    return n - 1 - (n - 1 - p.abs()).abs()


def _replicate(p: Tensor, n: int) -> Tensor:
    return p.clamp(0, n - 1)


def _circular(p: Tensor, n: int) -> Tensor:
    return p % n


#: Which of n pixels a mode copies to the positions p, and the widest border that it can
#: fill.
COPIES: dict[str, tuple[Callable[[Tensor, int], Tensor], Callable[[int], float]]] = {
    "reflect": (_reflect, lambda n: n - 1),
    "replicate": (_replicate, lambda n: float("inf") if n else 0),
    "circular": (_circular, lambda n: n),
}
MODES = ("zeros", *COPIES)


def check_mode(mode: Any) -> None:
    """Check that there is such a padding mode.

    Raises:
        ValueError: an unknown mode.

    Examples:
        >>> check_mode("mirror")
        Traceback (most recent call last):
        ...
        ValueError: padding_mode must be one of 'zeros', 'reflect', 'replicate',
        'circular':
        it is 'mirror'; pass padding_mode='zeros', say
    """
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(
            f"padding_mode must be one of {', '.join(map(repr, MODES))}: it is "
            f"{mode!r}; pass padding_mode='zeros', say"
        )


def pad(x: Tensor, padding: Pairs, mode: str) -> Tensor:
    """Put a border of copies around the last dimensions of x.

    Args:
        x: `(..., P...)`.
        padding: (before, after) for each of the last dimensions.
        mode: `"reflect"`, `"replicate"` or `"circular"`.

    Raises:
        RuntimeError: a border wider than the pixels that it copies.

    Examples:
        >>> pad(torch.tensor([1, 2, 3, 4]), ((2, 2),), "reflect")
        tensor([3, 2, 1, 2, 3, 4, 3, 2])
        >>> pad(torch.tensor([1, 2]), ((2, 0),), "reflect")
        Traceback (most recent call last):
        ...
        RuntimeError: padding must be at most 1 in the mode 'reflect', for an input of
        2:
        along dimension 0 it is (2, 0); pass padding=1, say, or another padding_mode
    """
    for i, pair in enumerate(padding):
        axis = x.ndim - len(padding) + i
        x = x.index_select(axis, _positions(x.shape[axis], pair, mode, i, x.device))
    return x


def fold_back(z: Tensor, padding: Pairs, mode: str) -> Tensor:
    """Apply the adjoint of `pad`: add the border of z to the pixels that it would copy.

    Args:
        z: `(..., P...)`, with the border.
        padding: (before, after) for each of the last dimensions.
        mode: `"reflect"`, `"replicate"` or `"circular"`.

    Raises:
        RuntimeError: a border wider than the pixels that it copies.

    Examples:
        >>> z = torch.tensor([1, 10, 0, 0, 0, 0, 100, 1000])
        >>> fold_back(z, ((2, 2),), "reflect")
        tensor([   0, 1010,  101,    0])
    """
    for i, pair in enumerate(padding):
        axis = z.ndim - len(padding) + i
        n = z.shape[axis] - sum(pair)
        positions = _positions(n, pair, mode, i, z.device)
        inside = z.new_zeros(
            [n if j == axis else size for j, size in enumerate(z.shape)]
        )
        z = inside.index_add(axis, positions, z)
    return z


def _positions(
    n: int, pair: tuple[int, int], mode: str, i: int, device: torch.device
) -> Tensor:
    """Where each pixel of the padded line comes from."""
    copied, widest = COPIES[mode]
    if max(pair) > widest(n):
        most = max(widest(n), 0)
        raise RuntimeError(
            f"padding must be at most {most} in the mode {mode!r}, for an input of "
            f"{n}: along dimension {i} it is {pair}; pass padding={most}, say, or "
            "another padding_mode"
        )
    return copied(torch.arange(-pair[0], n + pair[1], device=device), n)
