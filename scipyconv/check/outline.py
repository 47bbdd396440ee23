"""What a report says, in what order, before it is text or a web page."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipyconv.check.row import PASSED, Row

if TYPE_CHECKING:
    from scipyconv.check.report import Report


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: Its heading.
        tone: `"bad"`, `"good"` or `"plain"`, for its color.
        entries: What it says: a headline, and details that belong to it.
    """

    title: str
    tone: str
    entries: tuple[tuple[str, str], ...]


def headline(report: "Report") -> str:
    """Return the verdict in one line."""
    verdict = "ok" if report.ok else "WRONG" if report.rows else "nothing was checked"
    cases, dtypes = (
        {getattr(row, name) for row in report.rows} for name in ("case", "dtype")
    )
    stopped = ", stopped before the end" if report.interrupted else ""
    return (
        f"{report.function} as {report.family}: {verdict}. {_count(cases, 'case')}, "
        f"{_count(dtypes, 'dtype')}, {_count(report.rows, 'question')}, "
        f"{report.seconds:.1f} s{stopped}"
    )


def _count(things: Collection[object], name: str) -> str:
    return f"{len(things)} {name}" + ("" if len(things) == 1 else "s")


def sections(report: "Report") -> list[Section]:
    """Return the parts of a report that have something to say."""
    every = [
        Section("Diagnosis", "bad", tuple(_split(text) for text in report.diagnosis)),
        Section("Wrong", "bad", tuple(_findings(report))),
        Section(
            "Not supported",
            "plain",
            tuple(
                (each.feature, f"{each.message} ({_counted(each.count, 'question')})")
                for each in report.unsupported
            ),
        ),
        Section("Not taken", "plain", tuple(_left_out(report))),
        Section("Notes", "plain", tuple(_grouped(report.notes))),
        Section("Held back", "plain", tuple(_held_back(report))),
        Section("Right", "good", tuple(_right(report))),
    ]
    return [section for section in every if section.entries]


def _split(text: str) -> tuple[str, str]:
    head, _, rest = text.partition(": ")
    return head, rest


def _findings(report: "Report") -> Iterator[tuple[str, str]]:
    asked = _counts(report.rows)
    for probe, rows in _by_probe(report.findings).items():
        first = rows[0]
        kind = first.verdict or "error"
        described = report.describe(first)
        yield (
            f"{probe} ({kind})",
            f"wrong in {len(rows)} of {asked[probe]}; the smallest is {first.case!r} "
            f"in {first.dtype}, {described}: {first.message}",
        )


def _grouped(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    for probe, found in _by_probe(rows).items():
        yield probe, f"{found[0].message} ({_counted(len(found), 'case')})"


def _held_back(report: "Report") -> Iterator[tuple[str, str]]:
    if report.held_back:
        names = ", ".join(_by_probe(report.held_back))
        yield (
            _counted(len(report.held_back), "failure"),
            f"which may well follow from those above, of: {names}",
        )


def _left_out(report: "Report") -> Iterator[tuple[str, str]]:
    for name in report.left_out:
        rest = (
            "every case is tried without one"
            if name == "bias"
            else "the cases that need it are left out"
        )
        yield name, f"the function has no such parameter; {rest}"


def _right(report: "Report") -> Iterator[tuple[str, str]]:
    wrong = {row.probe for row in report.rows if row.outcome != PASSED}
    names = [name for name in _counts(report.rows) if name not in wrong]
    if names:
        yield _counted(len(names), "probe"), ", ".join(names)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _counts(rows: Iterable[Row]) -> dict[str, int]:
    return {probe: len(found) for probe, found in _by_probe(rows).items()}


def _by_probe(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.probe, []).append(row)
    return found
