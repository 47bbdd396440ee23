"""The report in words."""

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING

from scipyconv.check.row import Row

if TYPE_CHECKING:
    from scipyconv.check.report import Report


def write(report: "Report") -> str:
    """Return the report as lines of text."""
    return "\n".join(_lines(report))


def _lines(report: "Report") -> Iterable[str]:
    cases = len({row.case for row in report.rows})
    yield (f"{report.function} as {report.family}: {'ok' if report.ok else 'WRONG'}; {cases} "
           f"cases, {len(report.rows)} questions, {report.seconds:.1f} s")
    yield from report.diagnosis
    by_probe = sorted(report.findings, key=lambda row: row.probe)
    for probe, rows in groupby(by_probe, key=lambda row: row.probe):
        yield _finding(probe, list(rows))
    for each in report.unsupported:
        yield f"unsupported: {each.feature} ({each.message}; {each.count} questions)"


def _finding(probe: str, rows: list[Row]) -> str:
    first = rows[0]
    return (f"{probe}: fails {len(rows)} times; first at {first.case!r} in {first.dtype}: "
            f"{first.message}")
