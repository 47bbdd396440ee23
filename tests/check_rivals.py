"""The usual checks, at one shape each: True where they catch a mistake.

A check that does not apply, such as gradcheck of a function of integers, catches
nothing; an error counts as caught. Each gets the mutant's own dtype, in double
precision where it differentiates numerically: the best that can be done without knowing
the mistake.
"""

from collections.abc import Callable
from itertools import count

import torch
import torch.nn.functional as F
from check_mutant import Mutant
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from scipyconv.check.family import find_family

Function = Callable[..., Tensor]
_NUMBERS = count()


def operands(mutant: Mutant, *, small: bool) -> list[Tensor]:
    """Return a random input, weight and bias, as in a test written by hand."""
    family = find_family(mutant.family)
    pixels, taps = ((3,), (2,)) if small else ((8,), (3,))
    channels, filters = (2, 2) if small else (3, 4)
    weight = (channels, filters) if family.transposed else (filters, channels)
    shapes = [
        (2, channels, *pixels * family.dims),
        (*weight, *taps * family.dims),
        (filters,),
    ]
    dtype = getattr(torch, mutant.dtypes[0])
    random = torch.Generator().manual_seed(0)
    if dtype.is_floating_point or dtype.is_complex:
        dtype = _double(dtype) if small else dtype
        return [torch.randn(s, dtype=dtype, generator=random) for s in shapes]
    return [torch.randint(-9, 9, s, generator=random).to(dtype) for s in shapes]


def _double(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64


def applies(tensors: list[Tensor]) -> bool:
    """Whether there are gradients."""
    return tensors[0].is_floating_point() or tensors[0].is_complex()


def differentiable(tensors: list[Tensor]) -> list[Tensor]:
    return [t.clone().requires_grad_() for t in tensors]


def by_allclose(mutant: Mutant) -> bool:
    """Compare the output with torch's, at one shape, with padding."""
    function, tensors = mutant.fresh(), operands(mutant, small=False)
    right = getattr(F, mutant.family)(*tensors, padding=1)
    return not torch.allclose(
        function(*tensors, padding=1), right, rtol=1e-2, atol=1e-4
    )


def by_gradcheck_of_the_input(mutant: Mutant) -> bool:
    """Hand the input to gradcheck, the weight and the bias held fixed."""
    function, (x, *fixed) = mutant.fresh(), operands(mutant, small=True)
    return applies([x]) and not gradcheck(
        lambda x: function(x, *fixed), differentiable([x])
    )


def by_gradcheck(mutant: Mutant) -> bool:
    """Hand all arguments to gradcheck."""
    function, tensors = mutant.fresh(), operands(mutant, small=True)
    return applies(tensors) and not gradcheck(function, differentiable(tensors))


def by_gradgradcheck(mutant: Mutant) -> bool:
    """Hand all arguments to gradcheck and to gradgradcheck."""
    if by_gradcheck(mutant):
        return True
    function, tensors = mutant.fresh(), operands(mutant, small=True)
    return applies(tensors) and not gradgradcheck(function, differentiable(tensors))


def by_adjoint(mutant: Mutant) -> bool:
    """Compare the two sides of <K x, g> = <x, K* g>, for the input and the weight."""
    function, tensors = mutant.fresh(), operands(mutant, small=True)
    if not applies(tensors):
        return False
    x, w = differentiable(tensors[:2])
    y = function(x, w)
    g = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    for operand, gradient in zip(
        (x, w), torch.autograd.grad(y, (x, w), g), strict=True
    ):
        sides = (
            torch.vdot(g.flatten(), y.flatten()),
            torch.vdot(gradient.flatten(), operand.flatten()),
        )
        if not torch.allclose(*sides):
            return True
    return False


def by_opcheck(mutant: Mutant) -> bool:
    """Wrap it as a custom operator with its own backward, and hand that to opcheck.

    Its checks of compilation need a function for fake tensors, which no mutant has.
    """
    function, tensors = mutant.fresh(), operands(mutant, small=True)
    if not applies(tensors):
        return False
    operator = as_operator(function)
    torch.library.opcheck(
        operator,
        differentiable(tensors),
        test_utils=("test_schema", "test_autograd_registration"),
    )
    return False


def as_operator(function: Function):
    """Return a custom operator that calls a function, and its backward."""
    name = f"mutants::conv{next(_NUMBERS)}"

    @torch.library.custom_op(name, mutates_args=())
    def operator(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return function(x, w, b)

    def backward(ctx, g: Tensor):
        with torch.enable_grad():
            tensors = differentiable(list(ctx.saved_tensors))
            return torch.autograd.grad(function(*tensors), tensors, g)

    operator.register_autograd(
        backward,
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    )
    return operator


RIVALS: dict[str, Callable[[Mutant], bool]] = {
    "allclose at one shape": by_allclose,
    "gradcheck on the input": by_gradcheck_of_the_input,
    "gradcheck on all arguments": by_gradcheck,
    "with gradgradcheck": by_gradgradcheck,
    "adjoint test": by_adjoint,
    "opcheck": by_opcheck,
}


def caught(rival: str, mutant: Mutant) -> bool:
    """Whether one of the usual checks catches a mutant."""
    try:
        return RIVALS[rival](mutant)
    except Exception:
        return True
