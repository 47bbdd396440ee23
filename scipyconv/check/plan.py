"""What a run consists of: which cases in which dtypes, and which probes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scipyconv.check.cases import Case, cases, without_bias
from scipyconv.check.precision import PRECISIONS, Precision, find_precision
from scipyconv.check.probes import Probe, find_probes
from scipyconv.check.subject import Subject
from scipyconv.check.trial import Trial

#: Every case is tried in this dtype, and those below in all the others.
MAIN = "float32"
SAMPLE = (
    "several of everything",
    "stride with a remainder",
    "padding of one dimension",
    "groups with stride",
    "everything at once",
    "no bias and everything",
)


@dataclass(frozen=True)
class Plan:
    """A run: pairs of a case and a dtype, in order, and the probes to ask in each.

    Attributes:
        trials: The pairs.
        probes: The probes.
        accumulate: The dtype that sums are expected to be made in; None for the
            operands'.
        gradients: Whether the function is expected to have gradients.
    """

    trials: tuple[tuple[Case, Precision], ...]
    probes: tuple[Probe, ...]
    accumulate: Precision | None = None
    gradients: bool = True

    def make_trial(self, subject: Subject, case: Case, precision: Precision) -> Trial:
        """Return the trial of a function at one case, in one dtype."""
        accumulator = self.accumulate or precision
        return Trial(subject, case, precision, accumulator, self.gradients)


def make_plan(
    family: str,
    level: str = "quick",
    dtypes: Iterable[Any] | None = None,
    probes: Iterable[str] | None = None,
    accumulate: Any = None,
    chosen: Sequence[Case] | None = None,
    gradients: bool = True,
) -> Plan:
    """Return the plan of a run.

    Examples:
        >>> plan = make_plan("conv2d", dtypes=["float64"], probes=["forward"])
        >>> len(plan.trials) == len(cases("conv2d"))
        True
    """
    every = list(chosen) if chosen is not None else cases(family, level)
    asked = find_probes(probes)
    wide = None if accumulate is None else find_precision(accumulate, "accumulate")
    return Plan(
        tuple(_pairs(every, dtypes, level, chosen is not None)), asked, wide, gradients
    )


def _pairs(
    every: list[Case], dtypes: Iterable[Any] | None, level: str, chosen: bool
) -> list[tuple[Case, Precision]]:
    if dtypes is not None:
        return [
            (case, find_precision(dtype)) for dtype in _listed(dtypes) for case in every
        ]
    main = [(case, PRECISIONS[MAIN]) for case in every]
    if chosen:
        return main
    sample = [case for case in every if level == "full" or case.name in SAMPLE]
    others = [each for name, each in PRECISIONS.items() if name != MAIN]
    return main + [(case, each) for each in others for case in sample]


def _listed(dtypes: Any) -> list[Any]:
    return list(dtypes) if isinstance(dtypes, (list, tuple, set)) else [dtypes]


def for_subject(case: Case, parameters: Sequence[str]) -> Case | None:
    """Return a case that a function's parameters suffice for, or None."""
    if "bias" not in parameters:
        case = without_bias(case)
    return case if set(case.parameters) <= set(parameters) else None
