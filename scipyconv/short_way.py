"""The short way from a layer to its engine, around the dispatcher.

The operator costs a tenth of a millisecond, forward and backward: more than a small
layer. So where nothing but the gradient can be asked of the result, a plain Function
goes straight to the engine, and a call like an earlier one skips the checks that the
earlier one passed. Its backward takes the operator again where that is to be
differentiated.

A call leaves nothing behind: autograd saves the operands alone, and the engine is
chosen in the forward and travels with the Function.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import wraps
from math import prod
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from scipyconv import internals
from scipyconv.bridge import Array, as_array
from scipyconv.dtypes import COMPUTED_IN
from scipyconv.engines.choice import ENGINES
from scipyconv.geometry import OPERANDS, Geometry
from scipyconv.method import preferred
from scipyconv.operator import adjoint, allocate, choose_engine, compute, contract

Function_ = TypeVar("Function_", bound=Callable[..., Any])


def _named(name: str) -> Callable[[Function_], Function_]:
    """Give the profiler a name to show; to ask for one costs next to nothing."""

    def decorate(function: Function_) -> Function_:
        @wraps(function)
        def named(*args: Any) -> Any:
            if not internals.is_profiled():
                return function(*args)
            with torch.autograd.profiler.record_function(name):
                return function(*args)

        return named  # type: ignore[return-value]

    return decorate


@dataclass(frozen=True)
class Call:
    """All about a convolution but its numbers."""

    out: str  #: the result's role: "y", or "x" for a transposed convolution
    geometry: Geometry
    method: str
    _chosen: dict[str, str] = field(default_factory=dict, compare=False)

    def engine(self, backward: str, dtype: torch.dtype) -> str:
        """Name the engine for this map and the gradients that are wanted."""
        if self.method in ENGINES:
            return self.method
        if backward not in self._chosen:
            passes = (self.out, backward) if backward else (self.out,)
            choice = choose_engine(self.geometry, dtype, self.method, passes)
            self._chosen[backward] = choice.method
        return self._chosen[backward]


def apply(call: Call, a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """Contract a and b, as `contract` does, and add a bias to each channel.

    Examples:
        >>> x, w = torch.tensor([[[0.0, 1, 3]]]), torch.tensor([[[1.0, 2]]])
        >>> geometry = Geometry(x.shape, w.shape, (1, 1, 2), (1,), ((0, 0),), (1,), 1)
        >>> apply(Call("y", geometry, "direct"), x, w, torch.tensor([5.0]))
        tensor([[[ 7., 12.]]])
    """
    if is_plain(a, b, bias):
        return apply_plain(call, a, b, bias)
    method = call.method
    if not (torch.compiler.is_compiling() or _is_symbolic(call.geometry)):
        method = call.engine(gradients_wanted(call.out, a, b), a.dtype)
    return add_bias(contract(call.out, a, b, call.geometry, method), bias)


def apply_plain(call: Call, a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """As `apply`, for plain tensors."""
    backward = gradients_wanted(call.out, a, b)
    engine = call.engine(backward, a.dtype)
    if backward or (
        bias is not None and bias.requires_grad and torch.is_grad_enabled()
    ):
        result: Tensor = _apply(call, engine, a, b, bias)
        return result
    return _forward(call, engine, a, b, bias)


def add_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """Add a number to each channel, if there are any."""
    return y if bias is None else y + bias.reshape(-1, *[1] * (y.ndim - 2))


def gradients_wanted(out: str, a: Tensor, b: Tensor) -> str:
    """Name the maps of the gradients that a backward pass will need."""
    if not torch.is_grad_enabled():
        return ""
    first, second = OPERANDS[out]
    return (first if a.requires_grad else "") + (second if b.requires_grad else "")


def is_plain(*tensors: Tensor | None) -> bool:
    """Tell whether nothing but the gradient can be asked of what these become."""
    if internals.is_observed():
        return False
    for t in tensors:
        if t is not None and (
            type(t) not in _PLAIN
            or not t.is_cpu
            or t.layout is not torch.strided
            or t.is_nested
        ):
            return False
    return True


_PLAIN = (Tensor, torch.nn.Parameter)


def _is_symbolic(geometry: Geometry) -> bool:
    shapes = (*geometry.x, *geometry.w, *geometry.y)
    return any(isinstance(n, torch.SymInt) for n in shapes)


#: The calls that passed the checks, which take longer than a small layer.
_CALLS: dict[Hashable, Call] = {}
#: So many at most; then it starts anew.
_MOST = 4096


def key(
    out: str, dims: int, operands: tuple[Any, ...], arguments: tuple[Any, ...]
) -> Hashable:
    """Return all that the checks look at, or None where they must look again.

    1, 1.0 and True are equal, and an int's subclass may be anything. So only a call
    whose arguments are plain ints, strings and tuples of them is remembered.
    """
    first, second, bias = operands
    if first is None or second is None or not is_plain(*operands):
        return None
    if first.ndim != dims + 2 or COMPUTED_IN.get(first.dtype) is not first.dtype:
        return None
    if torch.is_autocast_enabled("cpu") or not _is_exact(arguments):
        return None
    of_bias = None if bias is None else (bias.dtype, bias.shape)
    return (
        out,
        first.dtype,
        first.shape,
        second.dtype,
        second.shape,
        of_bias,
        arguments,
        preferred("auto"),
    )


def recall(key: Hashable) -> Call | None:
    """Return the call of a key, if one like it passed the checks before."""
    return None if key is None else _CALLS.get(key)


def remember(key: Hashable, call: Call) -> None:
    """Keep a call that passed the checks."""
    if key is None:
        return
    if len(_CALLS) >= _MOST:
        _CALLS.clear()
    _CALLS[key] = call


def _is_exact(value: Any) -> bool:
    kind = type(value)
    return kind is int or kind is str or (kind is tuple and all(map(_is_exact, value)))


class Convolution(Function):
    """The operator's forward and backward, without a dispatcher before the engine."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, engine: str, a: Tensor, b: Tensor, bias: Tensor | None
    ) -> Tensor:
        """Compute, and save the operands."""
        ctx.call, ctx.engine = call, engine
        ctx.save_for_backward(a, b)
        ctx.set_materialize_grads(False)
        return _forward(call, engine, a, b, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
        """Compute the gradients that are wanted, by the forward's engine."""
        if g is None:
            return (None,) * 5
        a, b = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        if not torch.is_grad_enabled() and is_plain(g, a, b):
            return None, None, *_gradients(ctx.call, ctx.engine, g, (a, b), wanted)
        return None, None, *_differentiable(ctx.call, ctx.engine, g, (a, b), wanted)


_apply = internals.single_level_apply(Convolution)


@_named("scipyconv::convolution")
def _forward(
    call: Call, engine: str, a: Tensor, b: Tensor, bias: Tensor | None
) -> Tensor:
    """The result of a map, and the bias added to it."""
    y = allocate(a, call.geometry.shape(call.out))
    array = as_array(y)
    with np.errstate(all="ignore"):  # infinities and NaN are results, as in torch
        compute(
            call.out, as_array(a), as_array(b), call.geometry, ENGINES[engine], array
        )
        if bias is not None:
            array += as_array(bias).reshape(-1, *[1] * (y.ndim - 2))
    return y


@_named("scipyconv::convolution_backward")
def _gradients(
    call: Call,
    engine: str,
    g: Tensor,
    operands: tuple[Tensor, Tensor],
    wanted: tuple[bool, ...],
) -> list[Tensor | None]:
    """The gradients of a, b and the bias, straight from the engine."""
    module, geometry = ENGINES[engine], call.geometry
    cotangent = np.ascontiguousarray(as_array(g))
    shared: Any = cotangent

    def gradient(i: int) -> Tensor:
        role, *pair = adjoint(call.out, i, shared, operands)
        first, second = (as_array(t) if isinstance(t, Tensor) else t for t in pair)
        result = allocate(g, geometry.shape(role))
        compute(role, first, second, geometry, module, as_array(result))
        return result

    with np.errstate(all="ignore"):
        if wanted[0] and wanted[1] and hasattr(module, "prepare"):
            shared = module.prepare(call.out, cotangent, geometry)
        found = [gradient(i) if wanted[i] else None for i in range(2)]
        return [*found, _summed(cotangent, g) if wanted[2] else None]


def _differentiable(
    call: Call,
    engine: str,
    g: Tensor,
    operands: tuple[Tensor, Tensor],
    wanted: tuple[bool, ...],
) -> list[Tensor | None]:
    """The same by the operator, to be differentiated again."""

    def gradient(i: int) -> Tensor:
        role, first, second = adjoint(call.out, i, g, operands)
        return contract(role, first, second, call.geometry, engine)

    found = [gradient(i) if wanted[i] else None for i in range(2)]
    return [*found, g.sum((0, *range(2, g.ndim))) if wanted[2] else None]


def _summed(cotangent: Array, like: Tensor) -> Tensor:
    """The bias's gradient, by NumPy.

    PyTorch's sum wakes threads, which spin beside ours.
    NumPy adds up a plane in pairs, but samples one after the other: those in double
    precision, so that a million of them lose no digits.
    """
    size = prod(cotangent.shape[2:])
    planes = np.add.reduce(cotangent.reshape(*cotangent.shape[:2], size), 2)
    gradient = like.new_empty(planes.shape[1])
    as_array(gradient)[...] = np.add.reduce(
        planes, 0, np.promote_types(planes.dtype, "f8")
    )
    return gradient
