"""What a probe is: one question to a function, asked in a trial."""

from collections.abc import Callable
from dataclasses import dataclass

from scipyconv.check.trial import Trial


class Noted(Exception):  # noqa: N818 - not an error
    """Something worth knowing that is not a mistake."""


def always(trial: Trial) -> bool:
    """Ask at every case, in every dtype."""
    return True


def differentiable(trial: Trial) -> bool:
    """Ask wherever there are gradients."""
    return bool(trial.wanted)


def inexact(trial: Trial) -> bool:
    """Ask wherever results are rounded."""
    return not trial.precision.integer


@dataclass(frozen=True)
class Probe:
    """One question to a function.

    Attributes:
        name: What the report calls it.
        group: Which part of the report it belongs to.
        ask: Returns if all is well; raises `Wrong`, `Raised` or `Noted` if not.
        applies: Whether it makes sense in a trial.
        needs: Other probes. Where one of them fails in the same trial, this one's
            finding says nothing new, and is held back.
        needs_everywhere: Other probes that hold this one's findings back wherever they
            fail.
        feature: What a function may leave out altogether, if it says so by an error.
    """

    name: str
    group: str
    ask: Callable[[Trial], None]
    applies: Callable[[Trial], bool] = differentiable
    needs: tuple[str, ...] = ()
    needs_everywhere: tuple[str, ...] = ()
    feature: str = ""
