"""Does it refuse arguments that make no sense?"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from scipyconv.check.subject import Raised, Wrong
from scipyconv.check.trial import Trial

Values = Mapping[str, Any]


def invalid(trial: Trial) -> None:
    """Call it with one wrong argument at a time, and demand an error."""
    valid = {**trial.case.parameters, **trial.tensors(trial.integers)}
    for what, change in _changes(trial):
        try:
            result = trial.subject.call({**valid, **change})
        except Raised:
            continue
        shape = (
            tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        )
        raise Wrong(
            f"{what} gives a result, {shape}, and should raise an error; check the "
            "arguments first"
        )


def _changes(trial: Trial) -> Iterator[tuple[str, Values]]:
    """Each wrong argument, in words and as what replaces the right one."""
    for name, text, make in _OPERANDS:
        if name in trial.names:
            tensor = trial.tensors(trial.integers)[name]
            yield text, {name: make(tensor)}
    for name, value in _PARAMETERS:
        if name in trial.subject.parameters:
            yield f"{name}={value}", {name: value}


def _longer(dim: int) -> Callable[[Tensor], Tensor]:
    """Return what adds one slice along a dimension."""

    def make(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor.narrow(dim, 0, 1)], dim)

    return make


def _one_more_channel(tensor: Tensor) -> Tensor:
    return _longer(1)(tensor)


_OPERANDS: list[tuple[str, str, Callable[[Tensor], Tensor]]] = [
    ("input", "an input with one channel too many", _one_more_channel),
    ("bias", "a bias with one number too many", _longer(0)),
    ("bias", "a bias of a single number for several channels", lambda b: b[:1]),
]
_PARAMETERS = [
    ("stride", 0),
    ("stride", -1),
    ("padding", -1),
    ("dilation", 0),
    ("groups", 0),
    ("output_padding", -1),
]
