"""Is it differentiable in the other ways too: twice, forward, in batches?"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from scipyconv.check import answers
from scipyconv.check.answers import GRADIENTS, OUTPUT
from scipyconv.check.operands import Operands
from scipyconv.check.subject import Wrong, attempt
from scipyconv.check.trial import ALL, Tensors, Trial

_grad, _backward = torch.autograd.grad, torch.autograd.backward
_vmap = torch.func.vmap


def second_order(trial: Trial) -> None:
    """Compare the derivatives of the gradients, each in each argument."""
    tensors = trial.tensors(trial.integers, ALL)
    y = trial.output(tensors)
    trial.expect_shape(OUTPUT, y, trial.case.output_shape)
    g = trial.tensor(trial.integers.g).requires_grad_()
    found = trial.pull_back(y, tensors, g, ALL, create_graph=True)
    first = {GRADIENTS[name]: gradient for name, gradient in found.items()}
    trial.expect(first, trial.right)
    _expect_graph(found)
    arguments = {"input": tensors["input"], "weight": tensors["weight"], "cotangent": g}
    second = _derive(found, arguments, trial.tensors(trial.others))
    right = answers.second_order(trial.case, trial.integers, trial.others)
    for name, value in second.items():
        quantity = f"second derivative in the {name}"
        if value is not None:
            trial.expect({quantity: value}, {quantity: right[name]})
        elif right[name].any():
            raise Wrong(
                f"the {quantity} is silently zero (None); let backward use the "
                "tensors that forward saved, by ctx.save_for_backward",
                "logic",
                quantity,
            )


def _derive(
    found: Tensors, arguments: Tensors, along: Tensors
) -> dict[str, Tensor | None]:
    """Return the derivatives of gradients in some arguments, by name."""
    outputs, cotangents = list(found.values()), [along[name] for name in found]
    inputs = list(arguments.values())
    options = {"allow_unused": True, "retain_graph": True}
    second = attempt(_grad, outputs, inputs, cotangents, **options)
    if any(value is None for value in second):
        # A node that may be differentiated only once says so where it is reached.
        attempt(_backward, outputs, cotangents)
    return dict(zip(arguments, second, strict=True))


def _expect_graph(found: Tensors) -> None:
    for name, gradient in found.items():
        if not gradient.requires_grad:
            raise Wrong(
                f"with create_graph=True the {GRADIENTS[name]} does not require a "
                "gradient: second derivatives are silently zero; save operands by "
                "ctx.save_for_backward, undetached, and differentiate through "
                "backward, or mark it @once_differentiable",
                "logic",
                f"second derivative of the {GRADIENTS[name]}",
            )


def forward_mode(trial: Trial) -> None:
    """Compare the tangent of the output, each operand moving alone and all together."""
    for moving in [*((name,) for name in trial.names), trial.names]:
        at, along = trial.tensors(trial.integers), trial.tensors(trial.others)
        with forward_ad.dual_level():
            dual = {
                name: forward_ad.make_dual(tensor, along[name])
                if name in moving
                else tensor
                for name, tensor in at.items()
            }
            y = trial.output(dual)
            primal, tangent = forward_ad.unpack_dual(y)
        where = "output's tangent along " + (" and ".join(moving))
        if tangent is None:
            raise Wrong(f"the {where} is silently missing; define jvp", "logic", where)
        right = answers.tangent(trial.case, trial.integers, trial.others, set(moving))
        trial.expect({OUTPUT: primal, where: tangent}, {**trial.right, where: right})


def vmap(trial: Trial) -> None:
    """Compare a batch of calls, over each operand alone and all together."""
    for mapped in [*((name,) for name in trial.names), trial.names]:
        stacked, dims = _stacked(trial, mapped)

        def call(*tensors: Tensor) -> Any:
            return trial.output(dict(zip(trial.names, tensors, strict=True)))

        y = attempt(_vmap(call, in_dims=dims), *stacked)
        for i, source in enumerate((trial.integers, trial.others)):
            operands = _mixed(trial.integers, source, mapped)
            where = f"output under vmap over {' and '.join(mapped)}"
            right = answers.first_order(trial.case, operands)[OUTPUT]
            trial.expect({where: y[i]}, {where: right})


def _stacked(
    trial: Trial, mapped: tuple[str, ...]
) -> tuple[list[Tensor], tuple[Any, ...]]:
    """Return the operands, the mapped ones stacked along their last dimension."""
    first, second = trial.tensors(trial.integers), trial.tensors(trial.others)
    tensors = [
        torch.stack([first[name], second[name]], -1) if name in mapped else first[name]
        for name in trial.names
    ]
    return tensors, tuple(-1 if name in mapped else None for name in trial.names)


def _mixed(fixed: Operands, source: Operands, mapped: tuple[str, ...]) -> Operands:
    return Operands(
        source.x if "input" in mapped else fixed.x,
        source.w if "weight" in mapped else fixed.w,
        source.b if "bias" in mapped else fixed.b,
        fixed.g,
    )
