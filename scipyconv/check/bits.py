"""At how many bits does a function round? An explanation of a failure, never a failure.

The number 2^b + 1 needs b + 1 bits. A convolution with a single tap of one returns its
input, so the largest b at which 2^b + 1 comes back tells how many bits survive.
"""

from scipyconv.check.cases import Case
from scipyconv.check.data import to_tensor
from scipyconv.check.subject import Raised, Wrong
from scipyconv.check.trial import Trial

#: What TF32 keeps, and the two formats of 16 bits.
FORMATS = {11: "as TF32 and float16 do", 8: "as bfloat16 does", 24: "as float32 does"}


def input_bits(trial: Trial) -> int | None:
    """Return how many bits of its input a function keeps, or None if it does not say."""
    case = Case("bits", trial.case.family, 1, 1, 1, (1,) * len(trial.case.pixels),
                (1,) * len(trial.case.taps), bias=False)
    kept = 0
    for bits in range(1, trial.precision.bits):
        number = 2.0**bits + 1
        try:
            y = trial.subject.result(case, {
                "input": _filled(trial, case.input_shape, number),
                "weight": _filled(trial, case.weight_shape, 1.0)})
            if trial.read(y).ravel()[0] != number:
                break
        except (Raised, Wrong):
            return None
        kept = bits + 1
    return kept


def _filled(trial: Trial, shape: tuple[int, ...], number: float):  # type: ignore[no-untyped-def]
    import numpy as np

    return trial.subject.device.send(to_tensor(np.full(shape, number), trial.precision.dtype))
