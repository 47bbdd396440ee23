"""The padding modes of `torch.nn`, each a table of positions, and the adjoint of each.

| mode | 1234 with a border of two |
|---|---|
| zeros | 00 1234 00 |
| reflect | 32 1234 32, mirrored at the edge pixel, which is not repeated |
| replicate | 11 1234 44 |
| circular | 34 1234 12 |

Padding copies pixels: `pad` gathers them by the table. Its adjoint, `fold_back`, adds up what
stands on the copies, where they came from. Zeros need no table: the operator itself has them.
"""

import torch
from torch import Tensor

from scipyconv.geometry import Pairs

MODES = ("zeros", "reflect", "replicate", "circular")


def pad(x: Tensor, padding: Pairs, mode: str) -> Tensor:
    """Put a border of copies around the last dimensions of x.

    Args:
        x: `(..., P...)`.
        padding: (before, after) for each of the last dimensions.
        mode: `"reflect"`, `"replicate"` or `"circular"`.

    Raises:
        RuntimeError: a border wider than the pixels that it copies.
        NotImplementedError: another mode.

    Examples:
        >>> pad(torch.tensor([1, 2, 3, 4]), ((2, 2),), "reflect")
        tensor([3, 2, 1, 2, 3, 4, 3, 2])
        >>> pad(torch.tensor([1, 2]), ((2, 0),), "reflect")
        Traceback (most recent call last):
        ...
        RuntimeError: padding must be smaller than the input in the mode 'reflect': along
        dimension 0 it is (2, 0), and there are 2; pass padding=1, say, or another padding_mode
    """
    for i, pair in enumerate(padding):
        axis = x.ndim - len(padding) + i
        x = x.index_select(axis, _positions(x.shape[axis], pair, mode, i, x.device))
    return x


def fold_back(z: Tensor, padding: Pairs, mode: str) -> Tensor:
    """Apply the adjoint of `pad`: add the border of z onto the pixels that it would copy.

    Examples:
        >>> fold_back(torch.tensor([1, 10, 0, 0, 0, 0, 100, 1000]), ((2, 2),), "reflect")
        tensor([   0, 1010,  101,    0])
    """
    for i, pair in enumerate(padding):
        axis = z.ndim - len(padding) + i
        n = z.shape[axis] - sum(pair)
        positions = _positions(n, pair, mode, i, z.device)
        inside = z.new_zeros([n if j == axis else size for j, size in enumerate(z.shape)])
        z = inside.index_add(axis, positions, z)
    return z


def _positions(n: int, pair: tuple[int, int], mode: str, i: int, device: torch.device) -> Tensor:
    """Where each pixel of the padded line comes from."""
    if mode not in MODES[1:]:
        raise NotImplementedError(
            f"padding_mode must be one of {', '.join(map(repr, MODES))}: it is {mode!r}; "
            f"pass padding_mode='reflect', say"
        )
    largest = {"reflect": n - 1, "circular": n}.get(mode)
    if n < 1 or (largest is not None and max(pair) > largest):
        raise RuntimeError(
            f"padding must be {'smaller' if mode == 'reflect' else 'no larger'} than the input in "
            f"the mode {mode!r}: along dimension {i} it is {pair}, and there are {n}; pass "
            f"padding={max(largest or 0, 0)}, say, or another padding_mode"
        )
    p = torch.arange(-pair[0], n + pair[1], device=device)
    if mode == "reflect":
        return n - 1 - (n - 1 - p.abs()).abs()
    return p.clamp(0, n - 1) if mode == "replicate" else p % n
