"""Slopes of any function, by differences.

A function that is linear in an argument has no truncation error: with integers and a
step of one, its difference *is* its slope, to the last bit, in any dtype. Elsewhere a
central difference errs by a term that falls with the step and one that grows. So slopes
are taken at many steps, and the two neighbors that agree best tell both the slope and
how well it is known: to their gap, or to what rounding does to a slope at that step,
since fine steps are so noisy that some two of them agree by chance. A gradient that is
off by more than ten times that is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

#: From coarse to fine, half a decade apart; which is best, the slopes tell.
STEPS = tuple(10 ** (-k / 2) for k in range(20))
#: How many times its own uncertainty a slope may be off.
MARGIN = 10.0
Outputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Slope:
    """The slope along one direction.

    Attributes:
        value: The slope of the sum of cotangent times output.
        known_to: How well it is known; 0 if exactly.
        step: The step that it was taken with.
    """

    value: float
    known_to: float
    step: float

    def explains(self, gradient: float) -> bool:
        """Whether a gradient agrees with it, as well as it is known."""
        return abs(gradient - self.value) <= MARGIN * self.known_to


def inner(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Return the real inner product, added up in double precision."""
    return float(
        sum(
            (_wide(a) * _wide(b).conj()).real.sum()
            for a, b in zip(first, second, strict=True)
        )
    )


def swept_slope(call: Callable[[float], Outputs], cotangents: Outputs) -> Slope:
    """Return the slope at 0 of a curve of outputs, by central differences.

    Args:
        call: Returns the outputs at a step along the direction.
        cotangents: What each output is multiplied by.
    """
    unit = torch.finfo(cotangents[0].dtype).eps
    steps = [
        step for step in STEPS if step > unit ** (2 / 3)
    ]  # finer ones are all noise
    slopes = [
        (inner(call(step), cotangents) - inner(call(-step), cotangents)) / (2 * step)
        for step in steps
    ]
    size = _size(call(0.0), cotangents)
    unsure = [
        max(abs(a - b), unit * size / step)
        for (a, b), step in zip(pairwise(slopes), steps[1:], strict=True)
    ]
    best = int(np.argmin(np.nan_to_num(unsure, nan=np.inf)))
    floor = unit ** (2 / 3) * max(abs(slopes[best]), size)
    return Slope(slopes[best + 1], max(unsure[best], floor), steps[best + 1])


def exact_slope(call: Callable[[float], Outputs], cotangents: Outputs) -> Slope | None:
    """Return the slope of a line of integers, or None if it is not one."""
    points = [call(step) for step in (-1.0, 0.0, 1.0, 2.0)]
    flat = [
        torch.cat([_wide(output).reshape(-1) for output in point]) for point in points
    ]
    limit = min(1 / torch.finfo(g.dtype).eps for g in cotangents)
    for point in flat:
        parts = torch.view_as_real(point) if point.is_complex() else point
        if not bool((parts == parts.round()).all() and (parts.abs() < limit).all()):
            return None
    differences = [after - before for before, after in pairwise(flat)]
    if not all(torch.equal(differences[0], each) for each in differences[1:]):
        return None
    value = inner(points[2], cotangents) - inner(points[1], cotangents)
    return Slope(value, 0.0, 1.0)


def _size(outputs: Outputs, cotangents: Outputs) -> float:
    return float(
        sum(
            (_wide(a) * _wide(b)).abs().sum()
            for a, b in zip(outputs, cotangents, strict=True)
        )
    )


def _wide(tensor: Tensor) -> Tensor:
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.detach().cpu().to(wide)
