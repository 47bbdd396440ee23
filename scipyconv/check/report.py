"""What a check found, for people and for machines."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from scipyconv.check import html, script, text
from scipyconv.check.cases import without_bias
from scipyconv.check.example import Example
from scipyconv.check.plan import Plan
from scipyconv.check.row import Row
from scipyconv.check.verdicts import Unsupported, judge

if TYPE_CHECKING:
    from scipyconv.check.cases import Case


class Report:
    """What a check found.

    Print it, or let a notebook show it; in a test, call `raise_if_failed`.

    Attributes:
        function: The function's name.
        family: What it stands in for.
        rows: Every answer.
        findings: The answers that say what is wrong, the smallest case first.
        unsupported: What the function leaves out, with the error that it gave.
        held_back: Failures that may follow from a finding.
        notes: What is worth knowing.
        left_out: Those of torch's parameters that the function does not take.
        diagnosis: The known mistakes that reproduce every wrong result.
        seconds: How long it took.
        interrupted: Whether the run was stopped before its end.
        source: Where the function can be imported from, as `module:name`, or nothing.
        example: The first wrong result, for a picture.
    """

    def __init__(
        self,
        function: str,
        family: str,
        rows: Sequence[Row],
        plan: Plan,
        *,
        left_out: Sequence[str] = (),
        seconds: float = 0.0,
        interrupted: bool = False,
        require: Iterable[str] = (),
        diagnosis: Sequence[str] = (),
        source: str = "",
        example: Example | None = None,
    ) -> None:
        verdicts = judge(rows, require)
        self.function, self.family, self.plan = function, family, plan
        self.rows: tuple[Row, ...] = tuple(rows)
        self.findings: tuple[Row, ...] = verdicts.findings
        self.unsupported: tuple[Unsupported, ...] = verdicts.unsupported
        self.held_back, self.notes = verdicts.held_back, verdicts.notes
        self.left_out, self.diagnosis = tuple(left_out), tuple(diagnosis)
        self.seconds, self.interrupted = seconds, interrupted
        self.source, self.example = source, example

    @property
    def ok(self) -> bool:
        """Whether something was checked, and nothing is wrong."""
        return bool(self.rows) and not self.findings

    def raise_if_failed(self) -> None:
        """Raise an error, with the report as its message, if something is wrong.

        Raises:
            AssertionError: something is wrong, or nothing was checked.
        """
        if not self.ok:
            raise AssertionError(f"\n{self}")

    def describe(self, row: Row) -> str:
        """Return the shapes and parameters of an answer's case, in words."""
        return self._case(row).describe()

    def script(self) -> str:
        """Return a script that shows the first finding, to copy and to run.

        Raises:
            ValueError: there is no finding.
        """
        if not self.findings:
            raise ValueError(
                "script() needs a finding to show, and this report has none"
            )
        row = self.findings[0]
        precision = next(p for _, p in self.plan.trials if p.name == row.dtype)
        return script.write(row, self._case(row), precision, self.source)

    def plot(self) -> Any:
        """Draw the first wrong result, the right one, and their difference.

        Returns:
            A matplotlib figure.

        Raises:
            ValueError: no output or gradient is wrong.
        """
        from scipyconv.check import picture

        return picture.draw(self)

    def to_text(self, color: bool = False) -> str:
        """Return the report as text, in color perhaps."""
        return text.write(self, color)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "function": self.function,
            "family": self.family,
            "ok": self.ok,
            "seconds": self.seconds,
            "interrupted": self.interrupted,
            "left_out": list(self.left_out),
            "diagnosis": list(self.diagnosis),
            "findings": [row.to_dict() for row in self.findings],
            "unsupported": [vars(each) for each in self.unsupported],
            "held_back": [row.to_dict() for row in self.held_back],
            "notes": [row.to_dict() for row in self.notes],
            "rows": [row.to_dict() for row in self.rows],
        }

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return html.write(self)

    def _case(self, row: Row) -> "Case":
        case = next(case for case, _ in self.plan.trials if case.name == row.case)
        return without_bias(case) if "bias" in self.left_out else case
