"""What a picture of a mistake needs: a Jacobian as it came, and as it is right."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scipyconv.check.answers import GRADIENTS, OUTPUT, QUANTITIES, first_order
from scipyconv.check.operands import Operands
from scipyconv.check.row import FAILED, Row
from scipyconv.check.subject import Raised, Wrong
from scipyconv.check.trial import Trial

Array = npt.NDArray[Any]

#: A picture of more rows or columns shows nothing.
_MOST = 200


@dataclass(frozen=True)
class Example:
    """The Jacobian of one result, in the operand that it is linear in.

    Attributes:
        case: The case's name.
        quantity: Which result: the rows are its numbers.
        operand: The columns are this operand's numbers: the input, or the cotangent.
        came: What the function gives, as lists.
        right: What is right, as lists.
    """

    case: str
    quantity: str
    operand: str
    came: list[list[float]]
    right: list[list[float]]


def is_drawable(row: Row) -> bool:
    """Whether a finding is about one of the results that have a Jacobian."""
    return (
        row.outcome == FAILED and row.verdict == "logic" and row.quantity in QUANTITIES
    )


def make_example(trial: Trial, quantity: str) -> Example | None:
    """Return the two Jacobians, or None where they are too large, or not to be had."""
    operand = "input" if quantity == OUTPUT else "cotangent"
    field = "x" if operand == "input" else "g"
    size = getattr(trial.integers, field).size
    if not 0 < size <= _MOST or trial.right[quantity].size > _MOST:
        return None
    units = np.eye(size).reshape(size, *getattr(trial.integers, field).shape)
    plain = replace(
        trial.integers, b=None if trial.integers.b is None else 0 * trial.integers.b
    )
    each = [
        replace(plain, **{field: unit.astype(trial.precision.home)}) for unit in units
    ]
    try:
        came = [_came(trial, operands, quantity) for operands in each]
    except (Raised, Wrong):
        return None
    right = [first_order(trial.case, operands)[quantity] for operands in each]
    return Example(trial.case.name, quantity, operand, _columns(came), _columns(right))


def _came(trial: Trial, operands: Operands, quantity: str) -> Array:
    wanted = tuple(name for name, found in GRADIENTS.items() if found == quantity)
    result = trial.run(operands, wanted)[quantity]
    trial.expect_shape(quantity, result, trial.right[quantity].shape)
    return trial.read(result)


def _columns(results: list[Array]) -> list[list[float]]:
    columns: list[list[float]] = np.stack(
        [each.real.ravel() for each in results], -1
    ).tolist()
    return columns
