"""The oracle, asked a wrong question: the same maps with other parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from scipyconv.check import oracle
from scipyconv.check.answers import first_order
from scipyconv.check.cases import Case, Pairs
from scipyconv.check.operands import Operands

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Altered(Case):
    """A case whose padding may differ before and after."""

    sides: Pairs = ()

    __hash__ = Case.__hash__

    @cached_property
    def zeros(self) -> Pairs:
        """The padding before and after, along each dimension."""
        return self.sides or Case.zeros.func(self)  # type: ignore[attr-defined]


def altered(
    case: Case,
    sides: Pairs = (),
    parameters: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Altered:
    """Return a case with other sides of padding, other parameters, other sizes.

    Examples:
        >>> from scipyconv.check.cases import find_case
        >>> case = find_case("conv1d", "padding one")
        >>> altered(case, ((0, 2),)).zeros
        ((0, 2),)
    """
    kept = {each.name: getattr(case, each.name) for each in fields(Case)}
    merged = {**case.parameters, **(parameters or {})}
    return Altered(**{**kept, "parameters": merged, "sides": sides, **changes})


def ask(case: Case, quantity: str, operands: Operands) -> Array:
    """Return one quantity, as a wrong function would make it.

    A cotangent is cut, or continued by zeros, to the output that the case now has.
    """
    if quantity == "output":
        return oracle.output(case, operands.x, operands.w, operands.b)
    g = fitted(operands.g, case.output_shape)
    return first_order(case, replace(operands, g=g))[quantity]


def fitted(array: Array, shape: tuple[int, ...]) -> Array:
    """Cut an array, or continue it by zeros, to a shape.

    Examples:
        >>> fitted(np.array([1, 2, 3]), (2,)), fitted(np.array([1, 2, 3]), (4,))
        (array([1, 2]), array([1, 2, 3, 0]))
    """
    cut = array[tuple(map(slice, shape))]
    return np.pad(cut, [(0, n - m) for n, m in zip(shape, cut.shape, strict=True)])


def shifted(array: Array, steps: tuple[int, ...]) -> Array:
    """Move an array by some steps along its last dimensions; zeros come in.

    Examples:
        >>> shifted(np.array([1, 2, 3]), (1,)), shifted(np.array([1, 2, 3]), (-2,))
        (array([0, 1, 2]), array([3, 0, 0]))
    """
    for dim, step in enumerate(steps, array.ndim - len(steps)):
        moved = np.zeros_like(array)
        n = array.shape[dim]
        low, high = max(0, step), min(n, n + step)
        place = [slice(None)] * array.ndim
        source = [slice(None)] * array.ndim
        place[dim], source[dim] = slice(low, high), slice(low - step, high - step)
        moved[tuple(place)] = array[tuple(source)]
        array = moved
    return array
