"""Marking an exercise: how many tries are right, and how the first wrong one is."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def mark(
    function: Callable[..., Any],
    right: Callable[..., Any],
    tries: Sequence[Sequence[Any]],
) -> str:
    """Try a learner's function beside a right one, and say how far it is.

    Args:
        function: The learner's. What it raises is told like a wrong result.
        right: A right function, called with the same arguments.
        tries: The arguments of each call, the simplest first.

    Returns:
        `"Correct."` if all results agree, as `numpy.allclose` has it; or `"Not yet:"`,
        how many do, and what is wrong with the first that does not.

    Examples:
        >>> tries = [([1.0, 2.0],), ([3.0, 5.0, 8.0],)]
        >>> mark(np.mean, np.sum, tries)
        'Not yet: 0 of 2 tries are right. In the first, it is 1.5, and 3 is right.'
        >>> mark(np.sum, np.sum, tries)
        'Correct.'
    """
    faults = [_fault(function, right, arguments) for arguments in tries]
    good, count = faults.count(""), len(faults)
    if good == count:
        return "Correct."
    first = next(n for n, fault in enumerate(faults) if fault)
    where = "the first" if first == 0 else f"try {first + 1}"
    return f"Not yet: {good} of {count} tries are right. In {where}, {faults[first]}."


def _fault(
    function: Callable[..., Any], right: Callable[..., Any], arguments: Sequence[Any]
) -> str:
    """Say what is wrong with a result, or nothing."""
    wanted = np.asarray(right(*arguments))
    try:
        got = np.asarray(function(*arguments))
    except Exception as error:  # the learner sees it
        return f"it raises {type(error).__name__}: {error}"
    if got.shape != wanted.shape:
        return f"the shape is {got.shape}, and {wanted.shape} is right"
    wrong = ~np.isclose(got, wanted)
    return _compared(got, wanted, tuple(np.argwhere(wrong)[0])) if wrong.any() else ""


def _compared(
    got: npt.NDArray[Any], wanted: npt.NDArray[Any], at: tuple[int, ...]
) -> str:
    place = f"at [{', '.join(map(str, at))}] " if at else ""
    return f"{place}it is {got[at]:.6g}, and {wanted[at]:.6g} is right"
