"""One answer: what a probe found at one case in one dtype, as plain data."""

from dataclasses import asdict, dataclass
from typing import Any

#: What may come of a question. A worker adds "died" and "timed out" to the failures.
PASSED, FAILED, RAISED, NOTED = "passed", "failed", "raised", "noted"


@dataclass(frozen=True)
class Row:
    """One answer.

    Attributes:
        case: The case's name.
        dtype: The dtype's name.
        probe: The probe's name.
        outcome: `"passed"`, `"failed"`, `"raised"` or `"noted"`.
        verdict: Of a failure: `"logic"`, `"rounding"` or `"contract"`.
        quantity: Which result is wrong, if one is.
        message: What came, what is right, and what to do.
        error: The name of the error's class, if one was raised.
        features: What is out of the ordinary here, and might not be supported.

    Examples:
        >>> Row("stride two", "float32", "forward", "passed").to_dict()["outcome"]
        'passed'
    """

    case: str
    dtype: str
    probe: str
    outcome: str
    verdict: str = ""
    quantity: str = ""
    message: str = ""
    error: str = ""
    features: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Row":
        """Return the row that `to_dict` made the values of."""
        return cls(**{**values, "features": tuple(values["features"])})

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name."""
        return asdict(self)
