"""The three maps of one trilinear form, as one operator of PyTorch.

T(x, w, y) is the form of `scipyconv.geometry`. `contract("y", x, w)` is what T
multiplies
y by: the cross-correlation. `contract("x", w, y)` and `contract("w", x, y)` are the
same
for x and for w: the gradients, if y is the cotangent. T is linear in each argument, so
the other two maps are the derivatives of each, to every order and in both modes.

It is an operator of the dispatcher, and not an `autograd.Function` alone, because only
an operator is mapped, traced, compiled, exported and differentiated forward over
forward without a silent mistake.
"""

from collections.abc import Callable, Sequence
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils.flop_counter import register_flop_formula

from scipyconv import internals
from scipyconv.bridge import Array, as_array
from scipyconv.dtypes import numpy_dtype
from scipyconv.engines import threads
from scipyconv.engines.choice import ENGINES, Choice, choose
from scipyconv.geometry import OPERANDS, Geometry
from scipyconv.method import preferred

threads.use(torch.get_num_threads)

#: What an engine calls the map to each role.
_MAPS = {"y": "correlate", "x": "input_gradient", "w": "weight_gradient"}


def contract(out: str, a: Tensor, b: Tensor, geometry: Geometry, method: str) -> Tensor:
    """Contract two of x, w and y to the third.

    Args:
        out: The result's role, `"y"`, `"x"` or `"w"`.
        a: The first operand, in the order x, w, y without the result's.
        b: The second operand, of the same dtype.
        geometry: The three shapes, and how they belong together.
        method: The engine's name, `"auto"` or `"exact"`.

    Raises:
        NotImplementedError: forward mode inside `torch.compile`, which would lose the
            tangent.

    Examples:
        >>> x, w = torch.tensor([[[0.0, 1, 3]]]), torch.tensor([[[1.0, 2]]])
        >>> geometry = Geometry(x.shape, w.shape, (1, 1, 2), (1,), ((0, 0),), (1,), 1)
        >>> contract("y", x, w, geometry, "direct")
        tensor([[[2., 7.]]])
    """
    if torch.compiler.is_compiling() and internals.in_forward_mode():
        raise NotImplementedError(
            "forward mode must stay outside torch.compile, which would lose the "
            "tangent: call torch.func.jvp, jacfwd or hessian on the function that is "
            "not compiled"
        )
    zeros = [n for pair in geometry.padding for n in pair]
    return _contract(
        out,
        a,
        b,
        list(geometry.stride),
        zeros,
        list(geometry.dilation),
        geometry.groups,
        list(geometry.shape(out)),
        method,
    )


def adjoint(
    out: str, i: int, cotangent: Any, operands: Sequence[Any]
) -> tuple[str, Any, Any]:
    """Return the map that is the gradient of operand i: its role and its operands.

    Examples:
        >>> g, x, w = torch.tensor(1), torch.tensor(2), torch.tensor(3)
        >>> adjoint("y", 0, g, (x, w))  # grad_x comes from w and g
        ('x', tensor(3), tensor(1))
    """
    role, other = OPERANDS[out][i], OPERANDS[out][1 - i]
    known = {out: cotangent, other: operands[1 - i].conj()}
    first, second = OPERANDS[role]
    return role, known[first], known[second]


def choose_engine(
    geometry: Geometry, dtype: torch.dtype, method: str, passes: tuple[str, ...]
) -> Choice:
    """Choose the engine for some maps: those of each pass, forward and backward."""
    return choose(geometry, numpy_dtype(dtype), passes, method)


class AllocationError(RuntimeError, MemoryError):
    """Memory ran out: both PyTorch's class of error and NumPy's."""


def allocate(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a new tensor of another's dtype, for a result.

    Raises:
        AllocationError: there is too little memory.
    """
    try:
        return like.new_empty(*shape)
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise AllocationError(*error.args) from error
        raise


def compute(
    out: str, a: Any, b: Any, geometry: Geometry, engine: ModuleType, result: Array
) -> None:
    """Let an engine compute one map.

    Args:
        out: The result's role.
        a: The first operand, an array, or what the engine prepared of it.
        b: The second operand, likewise.
        geometry: The three shapes, and how they belong together.
        engine: One of `scipyconv.engines`.
        result: Where the result goes.

    Raises:
        AllocationError: there is too little memory.
    """
    try:
        getattr(engine, _MAPS[out])(a, b, geometry, result)
    except MemoryError as error:
        raise AllocationError(_shortage(error, engine, geometry)) from error


def _shortage(error: MemoryError, engine: ModuleType, geometry: Geometry) -> str:
    # Tools that halve the batch look for PyTorch's own words.
    shape, dtype = getattr(error, "shape", None), getattr(error, "dtype", None)
    size = "" if shape is None else f"{prod(shape) * np.dtype(dtype).itemsize} bytes "
    return (
        f"DefaultCPUAllocator: can't allocate memory: {engine.__name__} asked for "
        f"{size}more than there is, for x {geometry.x}, w {geometry.w} and y "
        f"{geometry.y}; pass a smaller batch, or method='matmul', which needs the least"
    )


_library = torch.library.Library("scipyconv", "DEF")
_library.define(
    "contract(str out, Tensor a, Tensor b, SymInt[] stride, SymInt[] padding, "
    "SymInt[] dilation, SymInt groups, SymInt[] size, str method) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_contract: Callable[..., Tensor] = torch.ops.scipyconv.contract.default


def _geometry(
    out: str,
    a: Sequence[int],
    b: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    size: Sequence[int],
) -> Geometry:
    """Put together what the schema takes apart."""
    first, second = OPERANDS[out]
    shapes = {out: tuple(size), first: tuple(a), second: tuple(b)}
    pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
    return Geometry(
        shapes["x"],
        shapes["w"],
        shapes["y"],
        tuple(stride),
        pairs,
        tuple(dilation),
        groups,
    )


def _compute(out: str, a: Tensor, b: Tensor, *flat: Any) -> Tensor:
    """What the operator is, for tensors in main memory."""
    *numbers, method = flat
    geometry = _geometry(out, a.shape, b.shape, *numbers)
    name = choose_engine(geometry, a.dtype, preferred(method), (out,)).method
    result = allocate(a, geometry.shape(out))
    with np.errstate(all="ignore"):  # infinities and NaN are results, as in torch
        compute(
            out, as_array(a), as_array(b), geometry, ENGINES[name], as_array(result)
        )
    return result


def _shape(out: str, a: Tensor, b: Tensor, *flat: Any) -> Tensor:
    """What it is for tensors without numbers, meta and fake: the result's shape."""
    *_, size, _ = flat
    return a.new_empty(size)


@register_flop_formula(torch.ops.scipyconv.contract)
def _flops(
    out: str, a: Any, b: Any, *flat: Any, out_shape: Any = None, **_: Any
) -> int:
    """A multiplication and an addition for each term, as PyTorch counts them."""
    *numbers, _ = flat
    return 2 * _geometry(out, a, b, *numbers).products


class Contraction(Function):
    """One level of autograd; the dispatcher brings the levels."""

    @staticmethod
    def forward(*args: Any) -> Tensor:
        """Compute, with both modes on, or derivatives of mixed order would be zero."""
        with (
            torch.enable_grad(),
            internals.forward_mode_enabled(),
            internals.below_autograd(),
        ):
            return _contract(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save the operands, themselves."""
        ctx.out, a, b, *ctx.numbers, ctx.size, ctx.method = inputs
        ctx.save_for_backward(a, b)
        ctx.save_for_forward(a, b)
        ctx.set_materialize_grads(False)  # or zeros would be contracted

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor | None) -> tuple[Tensor | None, ...]:
        """Contract the cotangent with each operand, to the other's gradient."""
        saved = ctx.saved_tensors

        def gradient(i: int) -> Tensor | None:
            if cotangent is None or not ctx.needs_input_grad[1 + i]:
                return None
            role, first, second = adjoint(ctx.out, i, cotangent, saved)
            return _contract(
                role, first, second, *ctx.numbers, saved[i].shape, ctx.method
            )

        return None, gradient(0), gradient(1), None, None, None, None, None, None

    @staticmethod
    def jvp(
        ctx: Any, _: None, a_dot: Tensor | None, b_dot: Tensor | None, *__: None
    ) -> Tensor:
        """Contract each tangent with the other operand, and add up."""
        # PyTorch switches forward mode off in here, and forward over forward would be
        # zero, silently. Switched on, a and b would bring their own tangents: take them
        # off.
        with internals.forward_mode_enabled():
            a, b = map(internals.primal, ctx.saved_tensors)
            y_dot = [
                _contract(ctx.out, *pair, *ctx.numbers, ctx.size, ctx.method)
                for pair in ((a_dot, b), (a, b_dot))
                if all(t is not None for t in pair)
            ]
            return sum(y_dot[1:], start=y_dot[0])


_apply = internals.single_level_apply(Contraction)


def _differentiable(*args: Any) -> Tensor:
    with internals.single_level():
        result: Tensor = _apply(*args)
        return result


# Each array's axes as letters: g is the group, o and c are counted inside of it.
_AXES = {"x": ("n", "gc"), "w": ("go", "c"), "y": ("n", "go")}
#: Two arrays share the letter n, o or c; all three share g.
_SHARED = {"xy": "n", "wy": "o", "wx": "c", "wxy": "g"}


def _vmap(
    info: Any,
    in_dims: Any,
    out: str,
    a: Tensor,
    b: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    size: list[int],
    method: str,
) -> tuple[Tensor, int]:
    """Let the mapped dimension join the letter that exactly the mapped arrays share.

    The result is mapped as well. So the dimension joins the batch if the weight is not
    mapped, the outputs or channels of a group if one of x and y is not, and otherwise
    the groups.
    """
    count, roles = info.batch_size, OPERANDS[out]
    operands = dict(zip(roles, (a, b), strict=True))
    mapped = {
        role: dim
        for role, dim in zip(roles, in_dims[1:3], strict=True)
        if dim is not None
    }
    letter = _SHARED["".join(sorted([out, *mapped]))]
    for role, dim in mapped.items():
        operands[role] = _join(operands[role].movedim(dim, 0), role, letter, groups)
    axis, _ = _place(out, letter, groups)
    whole = [n * count if i == axis else n for i, n in enumerate(size)]
    many = groups * count if letter == "g" else groups
    result = _contract(
        out, *operands.values(), stride, padding, dilation, many, whole, method
    )
    return _split(result, out, letter, groups, count, size), 0


def _place(role: str, letter: str, groups: int) -> tuple[int, int]:
    """The axis that a letter is on, and how many rows of it are outside the letter."""
    axis = next(i for i, letters in enumerate(_AXES[role]) if letter in letters)
    return axis, groups if _AXES[role][axis].index(letter) else 1


def _join(t: Tensor, role: str, letter: str, groups: int) -> Tensor:
    """Put the first dimension of t just outside of a letter, on the same axis."""
    axis, outside = _place(role, letter, groups)
    t = t.unflatten(axis + 1, (outside, t.shape[axis + 1] // outside))
    return t.movedim(0, axis + 1).flatten(axis, axis + 2)


def _split(
    t: Tensor, role: str, letter: str, groups: int, count: int, size: Sequence[int]
) -> Tensor:
    """Undo `_join`: take the dimension out of the axis and put it first."""
    axis, outside = _place(role, letter, groups)
    t = t.unflatten(axis, (outside, count, size[axis] // outside))
    return t.movedim(axis + 1, 0).flatten(axis + 1, axis + 2)


_library.impl("contract", _compute, "CPU")
_library.impl("contract", _differentiable, "Autograd")
_library.impl("contract", _shape, "Meta")
torch.library.register_vmap("scipyconv::contract", _vmap, lib=_library)
