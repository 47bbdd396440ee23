"""Does it behave as a function should, whatever its numbers?"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scipyconv.check import compare, layouts
from scipyconv.check.answers import GRADIENTS, OUTPUT
from scipyconv.check.operands import Operands
from scipyconv.check.subject import Raised, Wrong
from scipyconv.check.trial import ALL, Trial


def operands_unchanged(trial: Trial) -> None:
    """Demand that a pass each way leaves the operands and the cotangent as they are."""
    tensors = trial.tensors(trial.integers, trial.wanted)
    y = trial.output(tensors)
    arrays = {
        "input": trial.integers.x,
        "weight": trial.integers.w,
        "bias": trial.integers.b,
    }
    _expect_same(trial, tensors, arrays, "forward")
    if not trial.wanted:
        return
    trial.expect_shape(OUTPUT, y, trial.case.output_shape)
    g = trial.tensor(trial.integers.g)
    trial.pull_back(y, tensors, g, ALL)
    _expect_same(
        trial,
        {**tensors, "cotangent": g},
        {**arrays, "cotangent": trial.integers.g},
        "backward",
    )


def _expect_same(
    trial: Trial, tensors: dict[str, Tensor], arrays: dict[str, Any], when: str
) -> None:
    for name, tensor in tensors.items():
        if not compare.equal(trial.read(tensor), arrays[name]):
            raise Wrong(f"{when} changes the {name} in place; work on a copy")


def owns_result(trial: Trial) -> None:
    """Demand an output of its own memory: not an operand's, and no number twice."""
    _expect_own_memory(trial, trial.tensors(trial.integers))
    constant = trial.tensors(trial.integers, changes={"input": layouts.constant})
    _expect_own_memory(trial, constant)
    if max(trial.case.taps) == 1 and trial.case.channels == trial.case.filters:
        _expect_own_memory(trial, trial.tensors(_identity(trial)))


def _expect_own_memory(trial: Trial, tensors: dict[str, Tensor]) -> None:
    y = trial.output(tensors)
    if y.numel() == 0:
        return
    memory = y.untyped_storage().data_ptr()
    for name, tensor in tensors.items():
        if memory == tensor.untyped_storage().data_ptr() != 0:
            raise Wrong(
                f"the output shares its memory with the {name}, so that changing one "
                "changes the other; return a copy"
            )
    if any(step == 0 and n > 1 for step, n in zip(y.stride(), y.shape, strict=True)):
        raise Wrong(
            f"numbers of the output share their memory: its strides are {y.stride()}; "
            "return a contiguous copy"
        )


def _identity(trial: Trial) -> Operands:
    """Return operands with a weight that makes the output equal to the input."""
    w = np.zeros_like(trial.integers.w)
    for o in range(len(w)):
        w[o, o % w.shape[1]] = 1
    return replace(trial.integers, w=w, b=None)


def same_address(trial: Trial) -> None:
    """Put other numbers into the same tensors, and demand another result."""
    tensors = trial.tensors(trial.integers)
    trial.output(tensors)
    fresh = trial.tensors(trial.others)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(fresh[name])
    for tensor in tensors.values():
        tensor.requires_grad_(bool(trial.wanted))
    try:
        results = {OUTPUT: trial.output(tensors)}
        if trial.wanted:
            g = trial.tensor(trial.others.g)
            found = trial.pull_back(results[OUTPUT], tensors, g, ALL)
            results |= {GRADIENTS[name]: gradient for name, gradient in found.items()}
        trial.expect(results, trial.right_others)
    except Wrong as wrong:
        raise Wrong(
            f"after other numbers were written into the same tensors, {wrong}; do not "
            "keep results by shape or address",
            "contract",
            wrong.quantity,
        ) from wrong


def later_call(trial: Trial) -> None:
    """Call twice, and demand that the first results are as they were."""
    first = trial.run(trial.integers)
    trial.run(trial.others)
    for quantity, tensor in first.items():
        if not compare.agree(trial.read(tensor), trial.right[quantity]):
            raise Wrong(
                f"a later call overwrites the {quantity} of an earlier one; return "
                "new memory from each call",
                "contract",
                quantity,
            )


def interleaved(trial: Trial) -> None:
    """Go forward twice, then backward twice: each must remember its own operands."""
    runs = []
    for operands, right in (
        (trial.integers, trial.right),
        (trial.others, trial.right_others),
    ):
        tensors = trial.tensors(operands, ALL)
        runs.append((operands, right, tensors, trial.output(tensors)))
    for operands, right, tensors, y in runs:
        found = trial.pull_back(y, tensors, trial.tensor(operands.g), ALL)
        try:
            trial.expect({GRADIENTS[name]: grad for name, grad in found.items()}, right)
        except Wrong as wrong:
            raise Wrong(
                f"when two forward passes come before their backward passes, {wrong}; "
                "save what backward needs in ctx, once for each call",
                "contract",
                wrong.quantity,
            ) from wrong


def deterministic(trial: Trial) -> None:
    """Demand the same bits from the same integers."""
    first, second = trial.run(trial.integers), trial.run(trial.integers)
    for quantity, tensor in first.items():
        if not np.array_equal(
            trial.read(tensor), trial.read(second[quantity]), equal_nan=True
        ):
            raise Wrong(
                f"the {quantity} differs between two calls with the same operands",
                "contract",
                quantity,
            )


def saved_operands(trial: Trial) -> None:
    """Change an operand between the passes; demand an error or the old gradients."""
    for changed in trial.names:
        leaves = trial.tensors(trial.integers, ALL)
        tensors = {name: leaf.clone() for name, leaf in leaves.items()}
        y = trial.output(tensors)
        trial.expect_shape(OUTPUT, y, trial.case.output_shape)
        with torch.no_grad():
            tensors[changed].copy_(tensors[changed] * 2)
        try:
            found = trial.pull_back(y, leaves, trial.tensor(trial.integers.g), ALL)
        except Raised:
            continue
        results = {GRADIENTS[name]: grad for name, grad in found.items()}
        try:
            trial.expect(results, trial.right)
        except Wrong as wrong:
            raise Wrong(
                f"after the {changed} is changed in place between forward and "
                f"backward, {wrong}, without an error; save operands by "
                "ctx.save_for_backward, which notices",
                "contract",
                wrong.quantity,
            ) from wrong


def global_state(trial: Trial) -> None:
    """Demand that the calls so far have left the process as it was."""
    changes = trial.before.changes()
    trial.before.restore()
    if changes:
        raise Wrong(
            f"a call changes {', '.join(changes)}; put it back before you return"
        )
