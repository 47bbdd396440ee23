"""A report as text, in color where the reader has a terminal."""

from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING

from scipyconv.check.outline import headline, sections

if TYPE_CHECKING:
    from scipyconv.check.report import Report

_WIDTH = 88
_CODES = {"bad": "31", "good": "32", "plain": "36", "strong": "1"}


def write(report: "Report", color: bool = False) -> str:
    """Return a report as text.

    Args:
        report: The report.
        color: Whether to color it, by the codes that terminals understand.
    """
    return "\n".join(_lines(report, color))


def _lines(report: "Report", color: bool) -> Iterator[str]:
    yield _painted(headline(report), "good" if report.ok else "bad", color)
    for section in sections(report):
        yield ""
        yield _painted(section.title, section.tone, color)
        for head, details in section.entries:
            text = f"{head}: {details}"
            first, *rest = wrap(
                text,
                _WIDTH - 2,
                subsequent_indent="    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            yield "  " + first.replace(head, _painted(head, "strong", color), 1)
            yield from ("  " + line for line in rest)


def _painted(text: str, tone: str, color: bool) -> str:
    return f"\x1b[{_CODES[tone]}m{text}\x1b[0m" if color else text
