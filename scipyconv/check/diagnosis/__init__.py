"""Why is it wrong? The known mistakes that reproduce every wrong result.

A mistake is named only if a function with that mistake would have given the same result
in every case, wrong or right: in all of them, or in those with a property that every
failing case has and no passing one.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from scipyconv.check.answers import GRADIENTS, OUTPUT
from scipyconv.check.cases import Case
from scipyconv.check.compare import agree
from scipyconv.check.diagnosis.altered import ask
from scipyconv.check.diagnosis.conditions import find_condition
from scipyconv.check.diagnosis.mistakes import MISTAKES, Compute, Mistake
from scipyconv.check.operands import Operands
from scipyconv.check.plan import Plan, for_subject
from scipyconv.check.precision import Precision
from scipyconv.check.row import FAILED, PASSED, Row
from scipyconv.check.subject import Raised, Subject, Wrong
from scipyconv.check.trial import Trial

Array = npt.NDArray[Any]

#: The probe that asks for each quantity alone, and the operand whose gradient it is.
_ASKED = {
    OUTPUT: ("forward", ()),
    **{quantity: (quantity, (name,)) for name, quantity in GRADIENTS.items()},
}


def diagnose(subject: Subject, plan: Plan, rows: Sequence[Row]) -> Iterator[str]:
    """Yield a sentence for each quantity that known mistakes explain.

    Calls the function again, at each case where the quantity was compared.
    """
    for quantity, (probe, wanted) in _ASKED.items():
        outcomes = {
            (row.case, row.dtype): row.outcome
            for row in rows
            if row.probe == probe
            and (
                row.outcome == PASSED
                or (row.outcome == FAILED and row.quantity == quantity)
            )
        }
        trials = list(_trials(subject, plan, outcomes))
        failing = [
            t for t in trials if outcomes[t.case.name, t.precision.name] == FAILED
        ]
        passing = [
            t for t in trials if outcomes[t.case.name, t.precision.name] == PASSED
        ]
        if failing:
            yield from _explain(quantity, wanted, failing, passing)


def _trials(
    subject: Subject, plan: Plan, known: Iterable[tuple[str, str]]
) -> Iterator[Trial]:
    for case, precision in plan.trials:
        fitted = for_subject(case, subject.parameters)
        if fitted and (case.name, precision.name) in known:
            yield plan.make_trial(subject, fitted, precision)


def _explain(
    quantity: str, wanted: tuple[str, ...], failing: list[Trial], passing: list[Trial]
) -> Iterator[str]:
    stated = _search(quantity, wanted, failing, passing)
    if (
        not stated
    ):  # without a batch dimension, a count of samples counts something else
        batched = [
            [trial for trial in trials if trial.case.batch is not None]
            for trials in (failing, passing)
        ]
        stated = _search(quantity, wanted, *batched)
        stated += " with a batch dimension" if stated else ""
    condition = find_condition(_pairs(failing), _pairs(passing))
    if stated:
        yield f"{quantity}: {stated}"
    elif condition:
        yield (
            f"{quantity}: it is wrong with {condition}, and only then: in "
            + ("the only such case" if len(failing) == 1 else f"all {len(failing)}")
            + f" of {len(failing) + len(passing)} cases"
        )


def _search(
    quantity: str, wanted: tuple[str, ...], failing: list[Trial], passing: list[Trial]
) -> str:
    """Return the mistakes that explain these cases, in words."""
    compared = [
        (trial, result)
        for trial in failing
        if (result := _result(trial, quantity, wanted)) is not None
    ]
    known = [m for m in MISTAKES if quantity in m.quantities] if compared else []
    known += _factor(quantity, compared[:1])
    for trial, result in compared:
        known = [m for m in known if reproduces(m, trial, quantity, result)]
    return _stated(known, quantity, failing, passing)


def _stated(
    known: Sequence[Mistake],
    quantity: str,
    failing: list[Trial],
    passing: list[Trial],
) -> str:
    """Return the mistakes that explain every case, and where, in words."""
    found: dict[str, list[Mistake]] = {}
    for mistake in known:
        against = [t for t in passing if not _is_harmless(mistake, t, quantity)]
        condition = find_condition(_pairs(failing), _pairs(against)) if against else ""
        if condition or not against:
            found.setdefault(condition, []).append(mistake)
    if not found:
        return ""
    condition = min(found, key=lambda text: (text.count(" and "), len(text)))
    return _ties(found[condition]) + _where(
        condition, found[condition][0], quantity, failing, passing
    )


def _where(
    condition: str,
    mistake: Mistake,
    quantity: str,
    failing: list[Trial],
    passing: list[Trial],
) -> str:
    """Say in which cases a mistake explains the result."""
    if condition:
        return f", in all cases with {condition}"
    possible = [t for t in passing if _guess(mistake.compute, quantity, t) is not None]
    count = len(failing) + len(possible)
    cases = "in the only case" if count == 1 else f"in all {count} cases"
    return f", {cases}" + (" that allow it" if len(possible) < len(passing) else "")


def _pairs(trials: Iterable[Trial]) -> list[tuple[Case, Precision]]:
    return [(trial.case, trial.precision) for trial in trials]


def _result(trial: Trial, quantity: str, wanted: tuple[str, ...]) -> Array | None:
    """Return the wrong result, or None if there is nothing to compare."""
    try:
        result = trial.read(trial.run(trial.integers, wanted)[quantity])
    except (Raised, Wrong):
        return None
    finally:
        trial.before.restore()
    return None if agree(result, trial.right[quantity]) else result


def reproduces(mistake: Mistake, trial: Trial, quantity: str, result: Array) -> bool:
    """Whether a function with a mistake would have given this result."""
    guess = _guess(mistake.compute, quantity, trial)
    return (
        guess is not None
        and guess.shape == result.shape
        and np.allclose(
            guess, result, rtol=16 * trial.precision.unit, atol=0, equal_nan=True
        )
    )


def _is_harmless(mistake: Mistake, trial: Trial, quantity: str) -> bool:
    """Whether the mistake makes no difference here, or cannot be made."""
    guess = _guess(mistake.compute, quantity, trial)
    if guess is None or np.isnan(guess).all():  # nothing, divided by nothing
        return True
    return np.array_equal(guess, trial.right[quantity])


def _guess(compute: Compute, quantity: str, trial: Trial) -> Array | None:
    try:
        return compute(trial.case, quantity, trial.integers)
    except (ValueError, IndexError, ZeroDivisionError):  # shapes that do not fit
        return None


def _factor(quantity: str, compared: Sequence[tuple[Trial, Array]]) -> list[Mistake]:
    """Return the mistake of a constant factor that the first case shows."""
    for trial, result in compared:
        right = trial.right[quantity]
        if result.shape == right.shape and right.any():
            at = np.unravel_index(np.argmax(np.abs(right)), right.shape)
            factor = _tidied((result[at] / right[at]).item())
            if np.isfinite(factor) and factor not in (0, -1):
                return [
                    Mistake(
                        f"it is off by a factor of {factor:.6g}",
                        (quantity,),
                        partial(_times, factor),
                    )
                ]
    return []


def _tidied(factor: complex) -> complex:
    """Drop an imaginary part that is nothing but rounding."""
    return factor.real if abs(factor.imag) < 1e-6 * abs(factor) else factor


def _times(factor: complex, case: Case, quantity: str, operands: Operands) -> Array:
    return ask(case, quantity, operands) * factor


def _ties(mistakes: Sequence[Mistake]) -> str:
    texts = list(dict.fromkeys(mistake.text for mistake in mistakes))
    return " or ".join(texts)
