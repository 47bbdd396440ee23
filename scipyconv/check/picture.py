"""A wrong result beside the right one, as Jacobians: a missing flip is there to see."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipyconv.check.report import Report


def draw(report: "Report") -> Any:
    """Return a figure of the first wrong result, the right one, and the difference.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: the report has nothing to draw.
    """
    from scipyconv.draw import images  # matplotlib comes with it

    example = report.example
    if example is None:
        raise ValueError(
            "plot() needs an output or a gradient that is wrong at a small case, "
            "and this report has none; print the report instead"
        )
    came, right = np.array(example.came), np.array(example.right)
    return images(
        {
            f"{example.quantity}, as it came": came,
            "as it is right": right,
            "the difference": came - right,
        },
        columns=3,
    )
