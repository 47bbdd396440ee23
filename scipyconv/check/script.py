"""The smallest failing case as a script that can be copied and run."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scipyconv.check.answers import GRADIENTS, OUTPUT, first_order
from scipyconv.check.cases import Case, cases
from scipyconv.check.data import integer_operands
from scipyconv.check.operands import Operands
from scipyconv.check.precision import Precision
from scipyconv.check.row import Row

#: Beyond so many numbers, a script asks the checker for the case instead.
_MOST = 400
_HERE = "# Define or import your function here, as `function`."


def write(row: Row, case: Case, precision: Precision, source: str) -> str:
    """Return a script that shows a finding.

    Args:
        row: The finding.
        case: Its case.
        precision: Its dtype.
        source: The function, as `module:name`, or nothing if it cannot be imported.
    """
    module, _, name = source.partition(":")
    found = f"from {module} import {name} as function" if source else _HERE
    shown = [OUTPUT, *GRADIENTS.values()]
    if (
        row.quantity in shown
        and row.verdict == "logic"
        and case.size <= _MOST
        and (row.probe in ("forward", *shown))
    ):
        return "\n".join(_standalone(row.quantity, case, precision, found)) + "\n"
    return "\n".join(_by_case(row, case, found)) + "\n"


def _by_case(row: Row, case: Case, found: str) -> Iterator[str]:
    named = {each.name: each for each in cases(case.family, "full")}
    known = replace(named.get(case.name, case), bias=case.bias) == case
    known = known and case.name in named
    yield f"from scipyconv.check import {'find_case' if known else 'Case'}"
    yield found
    yield ""
    yield (
        f"case = find_case({case.family!r}, {case.name!r})"
        if known
        else f"case = {case!r}"
    )
    yield f"case.check(function, dtypes=[{row.dtype!r}], probes=[{row.probe!r}])"


def _standalone(
    quantity: str, case: Case, precision: Precision, found: str
) -> Iterator[str]:
    operands = integer_operands(case, precision)
    yield "import torch"
    yield found
    yield ""
    yield from _operands(case, operands, precision)
    arguments = "".join(
        f", {name}={value!r}" for name, value in case.parameters.items()
    )
    yield f"y = function(x, w{', b' if case.bias else ''}{arguments})"
    right = _literal(first_order(case, operands)[quantity], precision)
    if quantity == OUTPUT:
        yield "came = y"
    else:
        name = next(
            name for name, gradient in GRADIENTS.items() if gradient == quantity
        )
        yield f"g = {_literal(operands.g, precision)}"
        yield f"came = torch.autograd.grad(y, {name[0].replace('i', 'x')}, g)[0]"
    yield f"right = {right}"
    yield f'print("the {quantity} that came:", came, "the right one:", right)'
    yield "assert torch.equal(came, right)"


def _operands(case: Case, operands: Operands, precision: Precision) -> Iterator[str]:
    leaf = "" if precision.integer else ".requires_grad_()"
    yield f"x = {_literal(operands.x, precision)}{leaf}"
    yield f"w = {_literal(operands.w, precision)}{leaf}"
    if operands.b is not None:
        yield f"b = {_literal(operands.b, precision)}{leaf}"


def _literal(array: npt.NDArray[Any], precision: Precision) -> str:
    """Return an array as an expression that makes a tensor."""
    flat = array if np.iscomplexobj(array) else array.astype(int)
    if array.size == 0:
        return f"torch.zeros({array.shape}, dtype=torch.{precision.name})"
    return f"torch.tensor({flat.tolist()}, dtype=torch.{precision.name})"
