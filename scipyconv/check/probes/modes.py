"""Does it do the same in each of autograd's modes?"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from scipyconv.check.answers import GRADIENTS, OUTPUT
from scipyconv.check.subject import Wrong
from scipyconv.check.trial import ALL, Trial


def without_gradients(
    mode: Callable[[], AbstractContextManager[object]], name: str
) -> Callable[[Trial], None]:
    """Return the probe of a mode in which no graph is built."""

    def ask(trial: Trial) -> None:
        tensors = trial.tensors(trial.integers, trial.wanted)
        with mode():
            y = trial.output(tensors)
        if y.requires_grad:
            raise Wrong(
                f"under {name} the output requires a gradient; do not call "
                "requires_grad_() on it"
            )
        try:
            trial.expect({OUTPUT: y}, trial.right)
        except Wrong as wrong:
            raise Wrong(f"under {name}, {wrong}", wrong.verdict, OUTPUT) from wrong

    return ask


def backward_twice(trial: Trial) -> None:
    """Go backward twice through one graph, with two cotangents."""
    tensors = trial.tensors(trial.integers, ALL)
    y = trial.output(tensors)
    trial.expect_shape(OUTPUT, y, trial.case.output_shape)
    for g in (trial.others.g, trial.integers.g):
        found = trial.pull_back(y, tensors, trial.tensor(g), ALL, retain_graph=True)
    try:
        trial.expect(
            {GRADIENTS[name]: grad for name, grad in found.items()}, trial.right
        )
    except Wrong as wrong:
        raise Wrong(
            f"the second time backward through a graph that is retained, {wrong}; do "
            "not change or free in backward what forward saved",
            wrong.verdict,
            wrong.quantity,
        ) from wrong


inference = without_gradients(torch.inference_mode, "torch.inference_mode()")
no_grad = without_gradients(torch.no_grad, "torch.no_grad()")
