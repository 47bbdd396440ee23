"""Special numbers: conjugate and negative bits, whole ranges of integers, NaN."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from scipyconv.check import answers
from scipyconv.check.answers import OUTPUT
from scipyconv.check.probes.probe import Noted
from scipyconv.check.subject import Wrong
from scipyconv.check.trial import ALL, Trial


def conjugated(tensor: Tensor) -> Tensor:
    """Return the same numbers, with the conjugate bit set."""
    return tensor.conj().resolve_conj().conj()


def conjugate_bit(trial: Trial) -> None:
    """Pass each operand and the cotangent as a lazily conjugated view."""
    for name in (*trial.names, "cotangent"):
        try:
            trial.expect(trial.run(trial.integers, ALL, {name: conjugated}), trial.right)
        except Wrong as wrong:
            raise Wrong(f"with a {name} that has the conjugate bit, {wrong}; call "
                        ".resolve_conj() before you read its memory", wrong.verdict,
                        wrong.quantity) from wrong


def whole_range(trial: Trial) -> None:
    """Sum integers that fill their dtype, where the result's dtype is wider."""
    y = trial.output(trial.tensors(trial.integers))
    wide, narrow = torch.iinfo(y.dtype), torch.iinfo(trial.precision.dtype)
    if wide.bits <= narrow.bits:
        return
    random = np.random.default_rng(0)
    full = trial.integers
    full = replace(full, **{
        name: random.integers(narrow.min, narrow.max, getattr(full, name).shape,
                              endpoint=True) for name in "xw"})
    right = answers.first_order(trial.case, full)
    trial.expect(trial.run(full, ()), right)


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
        raise Noted(f"a NaN in one number of the input reaches {count} numbers of the output "
                    "that do not depend on it, as in a transform or a dense matrix")


def _reached(trial: Trial, place: tuple[int, ...]) -> np.ndarray:
    """Return which numbers of the output depend on one of the input."""
    x = np.zeros_like(trial.integers.x)
    x[place] = 1
    w = np.ones_like(trial.integers.w)
    ones = replace(trial.integers, x=x, w=w, b=None)
    reached: np.ndarray = answers.first_order(trial.case, ones)[OUTPUT] != 0
    return reached
