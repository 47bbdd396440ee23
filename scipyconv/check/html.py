"""A report as HTML, for a notebook."""

from html import escape
from typing import TYPE_CHECKING

from scipyconv.check.outline import headline, sections

if TYPE_CHECKING:
    from scipyconv.check.report import Report

_COLORS = {"bad": "#b42318", "good": "#1a7f37", "plain": "inherit"}


def write(report: "Report") -> str:
    """Return a report as a table of HTML."""
    tone = "good" if report.ok else "bad"
    parts = [
        f'<p style="color:{_COLORS[tone]}">',
        f"<strong>{escape(headline(report))}</strong></p>",
        "<table>",
    ]
    for section in sections(report):
        parts.append(
            f'<tr><th colspan="2" style="text-align:left;color:'
            f'{_COLORS[section.tone]}">{escape(section.title)}</th></tr>'
        )
        parts += [
            f'<tr><td style="text-align:left;vertical-align:top">{escape(head)}</td>'
            f'<td style="text-align:left">{escape(details)}</td></tr>'
            for head, details in section.entries
        ]
    return "\n".join([*parts, "</table>"])
