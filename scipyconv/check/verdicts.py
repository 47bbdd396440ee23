"""From answers to verdicts: what is a finding, what is unsupported, what is only noise.

A function may leave a feature out, if it says so by an error: one of torch's
parameters, a dtype, forward mode. It does so if it raises at every case with that
feature. An error that no such feature explains is a finding, unless it is a
NotImplementedError.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement

from scipyconv.check.answers import OUTPUT
from scipyconv.check.probes import PROBES
from scipyconv.check.row import FAILED, NOTED, RAISED, Row

_PROBES = {probe.name: probe for probe in PROBES}


@dataclass(frozen=True)
class Unsupported:
    """Something that a function leaves out.

    Attributes:
        feature: What it is.
        message: The error that the function gave.
        count: How many questions it could not be asked for that.
    """

    feature: str
    message: str
    count: int


@dataclass(frozen=True)
class Verdicts:
    """The answers of a run, sorted.

    Attributes:
        findings: What is wrong.
        unsupported: What the function leaves out.
        held_back: What fails only because something else does.
        notes: What is worth knowing.
    """

    findings: tuple[Row, ...]
    unsupported: tuple[Unsupported, ...]
    held_back: tuple[Row, ...]
    notes: tuple[Row, ...]


def judge(rows: Sequence[Row], require: Iterable[str] = ()) -> Verdicts:
    """Sort the answers of a run.

    Examples:
        >>> rows = [Row("groups", "float32", "forward", "raised", message="no",
        ...             features=("groups",)),
        ...         Row("stride two", "float32", "forward", "passed")]
        >>> judge(rows).unsupported
        (Unsupported(feature='groups', message='no', count=1),)
    """
    required = {require} if isinstance(require, str) else set(require)
    explained = _explanations(rows)
    refused = {
        row: why
        for row, why in explained.items()
        if why not in required and "all" not in required
    }
    bad = [
        row for row in rows if row.outcome in (FAILED, RAISED) and row not in refused
    ]
    failing = {(row.case, row.dtype, row.probe) for row in bad}
    held = [row for row in bad if _is_noise(row, failing)]
    return Verdicts(
        findings=tuple(row for row in bad if row not in held),
        unsupported=_summed(refused),
        held_back=tuple(held),
        notes=tuple(row for row in rows if row.outcome == NOTED),
    )


def _explanations(rows: Sequence[Row]) -> dict[Row, str]:
    """Return each error that is explained, with the feature that explains it."""
    worked = {
        frozenset(pair)
        for row in rows
        if row.outcome != RAISED
        for pair in combinations_with_replacement(row.features, 2)
    }
    if all(row.outcome == RAISED for row in rows):
        return {}  # it never worked: that is no lack of a feature
    found = {}
    for row in rows:
        if row.outcome == RAISED:
            why = _lacking(row, worked)
            if why:
                found[row] = why
    return found


def _lacking(row: Row, worked: set[frozenset[str]]) -> str:
    """Return what never worked: a feature or, if the function says so, two together."""
    alone = [name for name in row.features if frozenset([name]) not in worked]
    if alone or row.error != "NotImplementedError":
        return alone[0] if alone else ""
    together = [
        pair for pair in combinations(row.features, 2) if frozenset(pair) not in worked
    ]
    return " with ".join(together[0]) if together else f"{row.probe} at {row.case!r}"


def _is_noise(row: Row, failing: set[tuple[str, str, str]]) -> bool:
    probe = _PROBES.get(row.probe)
    if probe is None:  # a worker's own row
        return False
    if row.quantity == OUTPUT and row.probe != "forward":
        return (row.case, row.dtype, "forward") in failing
    here = any((row.case, row.dtype, name) in failing for name in probe.needs)
    anywhere = {name for _, _, name in failing}
    return here or bool(anywhere & set(probe.needs_everywhere))


def _summed(refused: dict[Row, str]) -> tuple[Unsupported, ...]:
    found: dict[str, list[Row]] = {}
    for row, feature in refused.items():
        found.setdefault(feature, []).append(row)
    return tuple(
        Unsupported(feature, rows[0].message, len(rows))
        for feature, rows in found.items()
    )
