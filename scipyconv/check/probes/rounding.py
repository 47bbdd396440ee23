"""Is it as exact as its dtype lets it be? Real numbers, against a derived bound."""

from math import log2
from typing import Any

import numpy as np
import numpy.typing as npt

from scipyconv.check import compare
from scipyconv.check.answers import OUTPUT
from scipyconv.check.bits import FORMATS, input_bits
from scipyconv.check.subject import Wrong
from scipyconv.check.trial import ALL, Trial

Array = npt.NDArray[Any]


def forward(trial: Trial) -> None:
    """Hold the output against its bound."""
    _hold(trial, ())


def gradients(trial: Trial) -> None:
    """Hold the gradients against their bounds."""
    _hold(trial, ALL)


def _hold(trial: Trial, wanted: tuple[str, ...]) -> None:
    results = trial.run(trial.reals, wanted)
    right = trial.right_reals
    if wanted:
        del results[OUTPUT]
    for quantity, tensor in results.items():
        trial.expect_shape(quantity, tensor, right[quantity].shape)
        error = np.abs(trial.read(tensor) - right[quantity])
        if not np.all(error <= trial.limit(quantity)):
            trial.sound(wanted)
        limit = trial.limit(quantity)
        if not np.all(error <= limit):
            raise Wrong(_explain(trial, quantity, error, limit), "rounding", quantity)


def _explain(trial: Trial, quantity: str, error: Array, limit: Array) -> str:
    with np.errstate(divide="ignore"):
        ratio = np.divide(error, limit, out=np.zeros_like(error), where=error != 0)
    at = compare.largest(ratio)
    magnitudes = trial.magnitudes[quantity]
    text = (
        f"the {quantity} errs by {error[at]:.2g} at {list(at)}, "
        f"{ratio[at]:.2g} times what rounding explains "
        f"(sums in {trial.accumulator.name})"
    )
    relative = np.max(error[magnitudes > 0] / magnitudes[magnitudes > 0])
    if not np.isfinite(relative):
        return text
    text += f"; it seems to round at about {max(0.0, -log2(relative)):.0f} bits"
    bits = input_bits(trial)
    if bits is not None and bits < trial.precision.bits:
        text += f"; of the {trial.precision.bits} bits of its input it keeps {bits}"
        text += f", as {FORMATS[bits]} does" if bits in FORMATS else ""
    return text
