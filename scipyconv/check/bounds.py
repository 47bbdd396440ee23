"""How far rounding may carry a right function from the right answer.

A sum of n products, in any order, with an accumulator of unit roundoff u, errs by at
most n·u times the sum of the products' magnitudes (Jeannerod and Rump, 2013: without
the usual restriction on n·u, and without a denominator). Two more terms allow for the
bias and for one rounding of the products. At last the sum is rounded to the dtype of
the result, by at most its unit roundoff times the result. So

    |error| <= (n + 2)·u·(|x| conv |w|) + u_out·|y|

element by element, for each map with its own n. The parts of a complex product are sums
of two products, and some multiply them in three real products of sums: n grows
fourfold.

A transform mixes all elements, so that its error is bounded by norms alone. Each of its
log2(M) stages rounds with an error of a few u (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd edition, theorem 24.2), which gives

    |error| <= c·u·(log2(M) + n / M)·||x||·||w||

The oracle computes in double precision and errs too, by the same bound with its own u.
"""

from math import log2, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from scipyconv.check.cases import Case
from scipyconv.check.operands import Operands
from scipyconv.check.precision import Precision

Array = npt.NDArray[Any]

#: The oracle's unit roundoff: it adds up in double precision.
ORACLE = 2.0**-53
#: Three transforms of some 3 u a stage each, and one product, in each of two parts.
STAGES = 20
#: The two operands of each map, by their names in `Operands`.
_FACTORS = {
    "output": "xw",
    "input gradient": "wg",
    "weight gradient": "xg",
    "bias gradient": "g",
}


def terms(case: Case, quantity: str) -> int:
    """Return how many products, at most, add up to one number of a result.

    Examples:
        >>> from scipyconv.check.cases import find_case
        >>> case = find_case("conv2d", "several of everything")
        >>> [terms(case, quantity) for quantity in _FACTORS]
        [18, 24, 30, 30]
    """
    taps, batch = prod(case.taps), 1 if case.batch is None else case.batch
    windows = case.pixels if case.transposed else case.output_shape[-len(case.pixels) :]
    if quantity == "bias gradient":
        return batch * prod(case.output_shape[-len(case.pixels) :])
    counts = {
        "output": case.channels * taps,
        "input gradient": case.filters * taps,
        "weight gradient": batch * prod(windows),
    }
    return counts[quantity]


def limit(
    case: Case,
    quantity: str,
    right: Array,
    magnitudes: Array,
    precision: Precision,
    accumulator: Precision,
) -> Array:
    """Return the largest error that rounding explains, for each number of a result.

    Args:
        case: The shapes.
        quantity: Which result.
        right: The right answer.
        magnitudes: The answer for the operands' absolute values.
        precision: The dtype of the operands and the result.
        accumulator: The dtype that the sums are made in.
    """
    count = (terms(case, quantity) + 2) * (4 if precision.complex else 1)
    summed: Array = count * (accumulator.unit + ORACLE) * magnitudes
    return summed + precision.unit * (np.abs(right) + summed)


def transform_limit(
    case: Case,
    quantity: str,
    right: Array,
    operands: Operands,
    precision: Precision,
    accumulator: Precision,
) -> Array:
    """Return the largest error that a transform's rounding explains.

    Args:
        case: The shapes.
        quantity: Which result.
        right: The right answer.
        operands: The numbers.
        precision: The dtype of the operands and the result.
        accumulator: The dtype that the transforms are made in.
    """
    stages = _stages(case, terms(case, quantity) + 2)
    summed = (accumulator.unit + ORACLE) * stages * _norms(operands, quantity)
    return summed + precision.unit * (np.abs(right) + summed)


def _stages(case: Case, count: int) -> float:
    size = prod(
        n + sum(pair) + span
        for n, pair, span in zip(
            case.output_shape[-len(case.pixels) :], case.zeros, case.spans, strict=True
        )
    )
    return STAGES * (log2(size) + 1) + count / size


def _norms(operands: Operands, quantity: str) -> float:
    return prod(
        float(np.linalg.norm(getattr(operands, name).ravel()))
        for name in _FACTORS[quantity]
    )
