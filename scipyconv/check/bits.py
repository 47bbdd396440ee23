"""At how many bits does a function round? An explanation of a failure, never a failure.

The number 2^b + 1 needs b + 1 bits. A convolution with a single tap of one returns its
input, so the largest b at which 2^b + 1 comes back tells how many bits survive.
"""

import numpy as np
from torch import Tensor

from scipyconv.check.cases import Case
from scipyconv.check.data import to_tensor
from scipyconv.check.subject import Raised, Wrong
from scipyconv.check.trial import Trial

#: The formats that keep so many bits.
FORMATS = {8: "bfloat16", 11: "TF32 or float16", 24: "float32"}


def input_bits(trial: Trial) -> int | None:
    """Return how many bits of its input a function keeps; None if it cannot be told."""
    case = Case(
        "bits",
        trial.case.family,
        1,
        1,
        1,
        (1,) * len(trial.case.pixels),
        (1,) * len(trial.case.taps),
        bias=False,
    )
    kept = 0
    for bits in range(1, trial.precision.bits):
        number = 2.0**bits + 1
        try:
            y = trial.subject.result(
                case,
                {
                    "input": _filled(trial, case.input_shape, number),
                    "weight": _filled(trial, case.weight_shape, 1.0),
                },
            )
            if trial.read(y).ravel()[0] != number:
                break
        except (Raised, Wrong):
            return None
        kept = bits + 1
    return kept


def _filled(trial: Trial, shape: tuple[int, ...], number: float) -> Tensor:
    return trial.subject.device.send(
        to_tensor(np.full(shape, number), trial.precision.dtype)
    )
