"""Is it the right function? Integers, compared for equality."""

from collections.abc import Callable

from scipyconv.check.answers import GRADIENTS
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


def all_gradients(trial: Trial) -> None:
    """Compare the output and all gradients, from one pass each way."""
    trial.expect(trial.run(trial.integers, ALL), trial.right)
