"""What a check found, for people and for machines."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from scipyconv.check.plan import Plan
from scipyconv.check.row import Row
from scipyconv.check.verdicts import Unsupported, judge


class Report:
    """What a check found.

    Attributes:
        function: The function's name.
        family: What it stands in for.
        rows: Every answer.
        findings: The answers that say what is wrong, the smallest case first.
        unsupported: What the function leaves out, with the error that it gave.
        held_back: Failures that follow from a finding.
        notes: What is worth knowing.
        left_out: Those of torch's parameters that the function does not take.
        diagnosis: The known mistakes that reproduce every wrong result.
        seconds: How long it took.
        interrupted: Whether the run was stopped before its end.
    """

    def __init__(self, function: str, family: str, rows: Sequence[Row], plan: Plan, *,
                 left_out: Sequence[str] = (), seconds: float = 0.0, interrupted: bool = False,
                 require: Iterable[str] = (), diagnosis: Sequence[str] = ()) -> None:
        verdicts = judge(rows, require)
        self.function, self.family, self.plan = function, family, plan
        self.rows: tuple[Row, ...] = tuple(rows)
        self.findings: tuple[Row, ...] = verdicts.findings
        self.unsupported: tuple[Unsupported, ...] = verdicts.unsupported
        self.held_back, self.notes = verdicts.held_back, verdicts.notes
        self.left_out, self.diagnosis = tuple(left_out), tuple(diagnosis)
        self.seconds, self.interrupted = seconds, interrupted

    @property
    def ok(self) -> bool:
        """Whether something was checked, and nothing is wrong."""
        return bool(self.rows) and not self.findings

    def raise_if_failed(self) -> None:
        """Raise an error with the report as its message if something is wrong.

        Raises:
            AssertionError: something is wrong.
        """
        if not self.ok:
            raise AssertionError(f"\n{self}")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "function": self.function, "family": self.family, "ok": self.ok,
            "seconds": self.seconds, "interrupted": self.interrupted,
            "left_out": list(self.left_out), "diagnosis": list(self.diagnosis),
            "findings": [row.to_dict() for row in self.findings],
            "unsupported": [vars(each) for each in self.unsupported],
            "held_back": len(self.held_back),
            "notes": [row.to_dict() for row in self.notes],
            "rows": [row.to_dict() for row in self.rows],
        }

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def __str__(self) -> str:
        from scipyconv.check.text import write

        return write(self)
