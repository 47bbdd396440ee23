"""Does it refuse arguments that make no sense?"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from scipyconv.check.probes.probe import Noted
from scipyconv.check.subject import Raised, Wrong
from scipyconv.check.trial import Trial

Values = Mapping[str, Any]


def invalid(trial: Trial) -> None:
    """Call it with one wrong argument at a time, and demand an error."""
    for what, change in _changes(trial):
        shape = _result(trial, change)
        if shape is not None:
            raise Wrong(
                f"{what} gives a result, {shape}, and should raise an error; check the "
                "arguments first"
            )
    if "bias" in trial.names:
        bias = trial.tensors(trial.integers)["bias"]
        if _result(trial, {"bias": bias[:1]}) is not None:
            raise Noted(
                "a bias of a single number is added to every channel; torch raises an "
                "error"
            )


def _result(trial: Trial, change: Values) -> object:
    """Return the shape of what it makes of wrong arguments; None if it raises."""
    valid = {**trial.case.parameters, **trial.tensors(trial.integers)}
    try:
        result = trial.subject.call({**valid, **change})
    except Raised:
        return None
    return tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__


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
]
_PARAMETERS = [
    ("stride", 0),
    ("stride", -1),
    ("padding", -1),
    ("dilation", 0),
    ("groups", 0),
    ("output_padding", -1),
]
