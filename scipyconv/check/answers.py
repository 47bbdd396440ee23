"""The right answer to every question that a probe asks, by name."""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from scipyconv.check import oracle
from scipyconv.check.cases import Case
from scipyconv.check.operands import Operands

Array = npt.NDArray[Any]
Answers = Mapping[str, Array]

OUTPUT = "output"
#: The gradient of each operand, by the operand's name in torch.
GRADIENTS = {
    "input": "input gradient",
    "weight": "weight gradient",
    "bias": "bias gradient",
}
QUANTITIES = (OUTPUT, *GRADIENTS.values())


def first_order(case: Case, operands: Operands) -> dict[str, Array]:
    """Return the output and each operand's gradient.

    Examples:
        >>> from scipyconv.check.cases import find_case
        >>> from scipyconv.check.data import integer_operands
        >>> from scipyconv.check.precision import find_precision
        >>> case = find_case("conv1d", "one channel")
        >>> operands = integer_operands(case, find_precision("float32"))
        >>> list(first_order(case, operands))
        ['output', 'input gradient', 'weight gradient', 'bias gradient']
    """
    found = {
        "output": oracle.output(case, operands.x, operands.w, operands.b),
        "input gradient": oracle.input_gradient(case, operands.w, operands.g),
        "weight gradient": oracle.weight_gradient(case, operands.x, operands.g),
    }
    if operands.b is not None:
        found["bias gradient"] = oracle.bias_gradient(case, operands.g)
    return found


def tangent(case: Case, at: Operands, along: Operands, moving: set[str]) -> Array:
    """Return the output's tangent when some operands move along others."""
    total = 0 * oracle.output(case, at.x, at.w, at.b)
    if "input" in moving:
        total = total + oracle.output(case, along.x, at.w)
    if "weight" in moving:
        total = total + oracle.output(case, at.x, along.w)
    if "bias" in moving and along.b is not None:
        total = total + along.b.reshape(-1, *[1] * len(case.pixels))
    return total


def second_order(case: Case, at: Operands, along: Operands) -> dict[str, Array]:
    """Return what the gradients' own backward gives, for cotangents of their own.

    Of T(x, w, g), the gradients are the maps in x and w; with the cotangents v of the
    input's gradient and u of the weight's, the derivatives of T(v, w, g) + T(x, u, g).
    """
    moving = {"input", "weight", "bias"}
    return {
        "input": oracle.input_gradient(case, along.w, at.g),
        "weight": oracle.weight_gradient(case, along.x, at.g),
        "cotangent": tangent(case, at, along, moving),
    }
