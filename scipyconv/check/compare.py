"""Comparing what came with what is right, in NumPy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from scipyconv.check.precision import PRECISIONS, Precision
from scipyconv.check.subject import Wrong

Array = npt.NDArray[Any]
# Bound now: what the function patches later cannot blind the check.
_abs, _max, _argmax, _count = np.abs, np.max, np.argmax, np.count_nonzero
_isfinite, _all, _unravel = np.isfinite, np.all, np.unravel_index

#: A transform's result must be this near to the right integer.
NEAR = 0.25


def check_shape(quantity: str, tensor: Tensor, shape: Sequence[int]) -> None:
    """Demand a shape."""
    if tuple(tensor.shape) != tuple(shape):
        raise Wrong(
            f"the {quantity} has shape {tuple(tensor.shape)}, and {tuple(shape)} is "
            "right",
            "logic",
            quantity,
        )


def check_dtype(quantity: str, tensor: Tensor, precision: Precision) -> None:
    """Demand a dtype: the operands', or for integers any that is as wide."""
    if tensor.dtype is precision.dtype:
        return
    came = PRECISIONS.get(str(tensor.dtype).removeprefix("torch."))
    if precision.integer and came and came.integer and came.bits >= precision.bits:
        return
    raise Wrong(
        f"the {quantity} has dtype {tensor.dtype}, and the operands have "
        f"{precision.dtype}; return it in theirs",
        "contract",
        quantity,
    )


def equal(got: Array, right: Array) -> bool:
    """Whether all numbers are the same; a NaN equals nothing."""
    return bool(_all(got == right))


def agree(got: Array, right: Array) -> bool:
    """Whether all numbers are the right integers, or round to them."""
    return got.shape == right.shape and bool(_all(_abs(got - right) < NEAR))


def difference(quantity: str, got: Array, right: Array) -> str:
    """Say how many numbers are wrong, and where the largest deviation lies.

    Examples:
        >>> difference("output", np.array([1.0, 5.0]), np.array([1.0, 2.0]))
        'the output is wrong in 1 of 2 numbers; most at [1]: 5 came, 2 is right'
    """
    deviation = _abs(got - right)
    wrong = ~(deviation < NEAR)
    at = largest(deviation)
    return (
        f"the {quantity} is wrong in {_count(wrong)} of {wrong.size} numbers; most at "
        f"{list(at)}: {shown(got[at])} came, {shown(right[at])} is right"
    )


def largest(deviation: Array) -> tuple[int, ...]:
    """Return the place of the largest deviation; a NaN counts as the largest."""
    ranked = np.where(_isfinite(deviation), deviation, np.inf)
    return tuple(map(int, _unravel(_argmax(ranked), deviation.shape)))


def shown(number: Any) -> str:
    """Return a number as short as it is."""
    if np.iscomplexobj(number):
        return f"{number.real:g}{number.imag:+g}j"
    return f"{number:.7g}"
