"""Special numbers: conjugate and negative bits, whole ranges of integers, NaN."""

from dataclasses import replace
from math import isqrt

import numpy as np
import torch
from torch import Tensor

from scipyconv.check import answers
from scipyconv.check.answers import OUTPUT
from scipyconv.check.bounds import terms
from scipyconv.check.probes.probe import Noted
from scipyconv.check.subject import Wrong
from scipyconv.check.trial import Trial


def conjugated(tensor: Tensor) -> Tensor:
    """Return the same numbers, with the conjugate bit set."""
    return tensor.conj().resolve_conj().conj()


def conjugate_bit(trial: Trial) -> None:
    """Pass each operand and the cotangent as a lazily conjugated view."""
    for name in (*trial.names, "cotangent"):
        try:
            trial.expect(
                trial.run(trial.integers, changes={name: conjugated}), trial.right
            )
        except Wrong as wrong:
            raise Wrong(
                f"with a {name} that has the conjugate bit, {wrong}; call "
                ".resolve_conj() before you read its memory",
                wrong.verdict,
                wrong.quantity,
            ) from wrong


def whole_range(trial: Trial) -> None:
    """Sum integers that fill their dtype, if the result's dtype holds the sums."""
    y = trial.output(trial.tensors(trial.integers))
    narrow, room = torch.iinfo(trial.precision.dtype), torch.iinfo(y.dtype).max
    most = min(narrow.max, isqrt(room // (terms(trial.case, OUTPUT) + 1)))
    least = -most if narrow.min < 0 else 0
    random = np.random.default_rng(0)
    full = replace(
        trial.integers,
        **{
            name: random.integers(
                least, most, getattr(trial.integers, name).shape, endpoint=True
            )
            for name in "xw"
        },
    )
    trial.expect(trial.run(full, ()), answers.first_order(trial.case, full))


def containment(trial: Trial) -> None:
    """Put a NaN into one number of the input, and see where it goes."""
    operands = trial.integers
    if operands.x.size == 0:
        return
    place = tuple(n // 2 for n in operands.x.shape)
    x = operands.x.copy()
    x[place] = np.nan
    got = trial.read(trial.run(replace(operands, x=x), ())[OUTPUT])
    reached = _reached(trial, place)
    if np.isfinite(got[reached]).all() and reached.any():
        raise Noted("a NaN in the input leaves the output finite")
    if not np.isfinite(got[~reached]).all():
        count = int((~np.isfinite(got[~reached])).sum())
        raise Noted(
            f"a NaN in one number of the input reaches {count} numbers of the output "
            "that do not depend on it, as in a transform or a dense matrix"
        )


def _reached(trial: Trial, place: tuple[int, ...]) -> np.ndarray:
    """Return which numbers of the output depend on one of the input."""
    x = np.zeros_like(trial.integers.x)
    x[place] = 1
    w = np.ones_like(trial.integers.w)
    ones = replace(trial.integers, x=x, w=w, b=None)
    reached: np.ndarray = answers.first_order(trial.case, ones)[OUTPUT] != 0
    return reached
