"""Does it read what it is given, and nothing else, however that lies in memory?"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from scipyconv.check import answers, layouts
from scipyconv.check.data import is_exact
from scipyconv.check.operands import Operands
from scipyconv.check.subject import Raised, Wrong
from scipyconv.check.trial import Trial

#: The operands' names in `Operands`.
FIELDS = {"input": "x", "weight": "w", "bias": "b", "cotangent": "g"}


def layout(name: str) -> Callable[[Trial], None]:
    """Return the probe of one operand's layouts."""

    def ask(trial: Trial) -> None:
        for kind, change in (layouts.KEEPING | layouts.REPEATING).items():
            operands, right = trial.integers, trial.right
            if kind in layouts.REPEATING:
                operands = _changed(operands, name, change)
                right = answers.first_order(trial.case, operands)
                if not is_exact(trial.case, operands, trial.precision):
                    continue
            _try(
                trial,
                operands,
                right,
                f"with {_article(name)} {name} that is {kind}",
                name,
                change,
            )

    return ask


def _try(
    trial: Trial,
    operands: Operands,
    right: answers.Answers,
    where: str,
    name: str,
    change: layouts.Change,
) -> None:
    try:
        trial.expect(trial.run(operands, changes={name: change}), right)
    except Wrong as wrong:
        raise Wrong(
            f"{where}, {wrong}; read it by its strides, or call .contiguous() first",
            "logic",
            wrong.quantity,
        ) from wrong
    except Raised as raised:
        raise Wrong(
            f"{where}, it raises {raised}; take any strides, or call .contiguous() "
            "first",
            "contract",
        ) from raised


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"


def _changed(operands: Operands, name: str, change: layouts.Change) -> Operands:
    """Return the operands with the numbers that a repeating layout leaves."""
    array = getattr(operands, FIELDS[name])
    return replace(
        operands,
        **{
            FIELDS[name]: change(torch.from_numpy(array)).numpy()
            if array.size
            else array
        },
    )


def new_memory(trial: Trial) -> None:
    """Fill all new memory with NaN, and demand the same results."""
    with _filled_memory():
        results = trial.run(trial.integers)
    try:
        trial.expect(results, trial.right)
    except Wrong as wrong:
        raise Wrong(
            f"where new memory is filled with NaN, {wrong}; it reads memory that it "
            "never wrote: begin with zeros",
            "logic",
            wrong.quantity,
        ) from wrong


@contextmanager
def _filled_memory() -> Iterator[None]:
    """Let `torch.empty` and `numpy.empty`, and the like, return memory full of NaN."""
    mode = torch.get_deterministic_debug_mode()
    kept = {name: getattr(np, name) for name in ("empty", "empty_like")}
    torch.set_deterministic_debug_mode("warn")  # torch documents that this fills it
    for name, empty in kept.items():
        setattr(np, name, _filling(empty))
    try:
        yield
    finally:
        for name, empty in kept.items():
            setattr(np, name, empty)
        torch.set_deterministic_debug_mode(mode)


def _filling(empty: Callable[..., Any]) -> Callable[..., Any]:
    def filled(*arguments: Any, **named: Any) -> Any:
        array = empty(*arguments, **named)
        if array.dtype.kind in "fc":
            array.fill(np.nan)
        return array

    return filled
