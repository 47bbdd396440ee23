"""Is it the right function? Integers, compared for equality."""

from collections.abc import Callable

from scipyconv.check.answers import GRADIENTS
from scipyconv.check.probes.probe import Noted
from scipyconv.check.trial import ALL, Trial


def forward(trial: Trial) -> None:
    """Compare the output where no gradient is asked for."""
    trial.expect(trial.run(trial.integers, ()), trial.right)


def gradient(name: str) -> Callable[[Trial], None]:
    """Return the probe of one operand's gradient, where no other is asked for."""

    def ask(trial: Trial) -> None:
        results = trial.run(trial.integers, (name,))
        trial.expect({GRADIENTS[name]: results[GRADIENTS[name]]}, trial.right)

    return ask


def vacuity(trial: Trial) -> None:
    """Note where a function of nothing but zeros would pass."""
    for quantity, right in trial.right.items():
        if right.size and trial.case.batch != 0 and not right.any():
            raise Noted(f"zeros would pass: every number of the {quantity} is zero")


def all_gradients(trial: Trial) -> None:
    """Compare the output and all gradients, from one pass each way."""
    trial.expect(trial.run(trial.integers, ALL), trial.right)
