"""Which check catches which wrong convolution: the table, as data.

Ours asks all probes at a few of the quick level's cases, so that the table is made in a
minute or two: four for every mutant, and those that its row names, in the dtypes that
its row names. By default the quick level asks at all its cases in float32, and at a few
in the other dtypes, so a mistake of another dtype may need `dtypes` to be seen.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from check_mutant import Mutant
from check_mutants import MUTANTS
from check_rivals import RIVALS, caught

from scipyconv.check import Report, cases, check_convolution
from scipyconv.check.probes import PROBES
from scipyconv.check.state import State

OURS = "ours"
CASES = ("one channel", "unbatched", "stride with a remainder", "groups with stride")


@dataclass(frozen=True)
class Line:
    """What became of one mutant.

    Attributes:
        mutant: The wrong convolution.
        caught: Whether each check caught it, by the check's name.
        probes: Which of our probes fail, but for what is held back.
        diagnosis: What ours says.
        seconds: How long ours took.
    """

    mutant: Mutant
    caught: dict[str, bool]
    probes: frozenset[str]
    diagnosis: tuple[str, ...]
    seconds: float

    @property
    def nameable(self) -> bool:
        """Whether a dictionary of mistakes can have a name for it."""
        return bool(self.mutant.diagnosis)

    @property
    def named(self) -> bool:
        """Whether ours names the mistake, and the quantity that is wrong."""
        quantity, _, text = self.mutant.diagnosis.partition(": ")
        return self.nameable and any(
            said.startswith(f"{quantity}:") and text in said for said in self.diagnosis
        )


@cache
def matrix() -> tuple[Line, ...]:
    """Return a line for each mutant."""
    return tuple(make_line(mutant) for mutant in MUTANTS)


def make_line(mutant: Mutant) -> Line:
    """Try every check on one mutant."""
    found = {name: _alone(caught, name, mutant) for name in RIVALS}
    report = ours(mutant)
    return Line(
        mutant,
        {**found, OURS: not report.ok},
        frozenset(row.probe for row in report.findings),
        report.diagnosis,
        report.seconds,
    )


def ours(mutant: Mutant) -> Report:
    """Check a mutant, or a control, with our checker."""
    chosen = [
        case
        for case in cases(mutant.family, "quick")
        if case.name in (*CASES, *mutant.cases)
    ]
    return _alone(
        check_convolution,
        mutant.fresh(),
        mutant.family,
        cases=chosen,
        dtypes=mutant.dtypes,
        require=mutant.require,
    )


def _alone(function, *arguments, **named):
    """Call, and put the state of the process back."""
    with undone():
        return function(*arguments, **named)


@contextmanager
def undone() -> Iterator[None]:
    """Put back what mutants leave behind."""
    before = State.now()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            before.restore()


def counts(lines: Sequence[Line]) -> dict[str, int]:
    """Return how many mutants each check catches."""
    return {name: sum(line.caught[name] for line in lines) for name in (*RIVALS, OURS)}


def sole_catches(lines: Sequence[Line]) -> dict[str, list[str]]:
    """Return, for each probe, the mutants of which it alone tells."""
    return {
        probe.name: [line.mutant.name for line in lines if line.probes == {probe.name}]
        for probe in PROBES
    }


def main() -> None:
    """Print the table."""
    started = time.perf_counter()
    lines = matrix()
    for line in lines:
        marks = "".join("x" if hit else "." for hit in line.caught.values())
        named = "named" if line.named else "UNNAMED" if line.nameable else ""
        print(
            f"{marks} {line.mutant.name:58} {named:8} {', '.join(sorted(line.probes))}"
        )
    print(len(lines), counts(lines))
    nameable = [line for line in lines if line.nameable]
    print("named:", sum(line.named for line in nameable), "of", len(nameable))
    for probe, names in sole_catches(lines).items():
        print(f"only {probe}: {', '.join(names) or 'NOTHING'}")
    print(
        f"{time.perf_counter() - started:.0f} s, "
        f"of which ours {sum(line.seconds for line in lines):.0f}"
    )


if __name__ == "__main__":
    main()
