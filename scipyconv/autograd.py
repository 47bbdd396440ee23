"""The three maps of one trilinear form, as one operator of PyTorch: each is the others' derivative.

T(x, w, y) is the sum over n, o, c, t and k of y[n, o, t] · w[o, c, k] · x[n, c, p], with
p = stride·t + dilation·k - padding.

`contract("y", x, w)` is what T multiplies y by: the cross-correlation. `contract("x", w, y)` and
`contract("w", x, y)` are the same for x and for w: the gradients, if y is the cotangent. T is
linear in each, so each map is differentiated by the other two, to every order and in both modes.

It is an operator of the dispatcher, and not an `autograd.Function` alone, because only that is
mapped, traced, compiled, exported and differentiated forward over forward without a silent mistake.
The names of PyTorch that begin with an underscore stand here and nowhere else in the package.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

from scipyconv.engines import threads
from scipyconv.engines.choice import ENGINES, Choice, choose

Array = npt.NDArray[Any]
threads.count = torch.get_num_threads

#: Spectra of at most so many bytes are kept by a layer from its forward to its backward.
KEPT = 1 << 28
#: NumPy's kind and size of each dtype.
_KINDS = {torch.float32: "f4", torch.float64: "f8", torch.complex64: "c8", torch.complex128: "c16"}
#: The role of a result, and the roles of the two operands that it is made from.
OPERANDS = {"y": "xw", "x": "wy", "w": "xy"}
#: What an engine calls each map.
_MAPS = {"y": "correlate", "x": "input_gradient", "w": "weight_gradient"}


def contract(out: str, a: Tensor, b: Tensor, stride: Sequence[int], padding: Sequence[int],
             dilation: Sequence[int], groups: int, size: Sequence[int], method: str) -> Tensor:
    """Contract two of x, w and y to the third.

    Args:
        out: The result's role, `"y"`, `"x"` or `"w"`.
        a: The first operand, its role and the second's as `OPERANDS` has them. x is
            `(N, groups·C, P...)`, w is `(groups·O, C, K...)`, y is `(N, groups·O, T...)`.
        b: The second operand, of the same dtype.
        stride: One for each spatial dimension.
        padding: Zeros before and after x, along each spatial dimension: two for each.
        dilation: One for each spatial dimension.
        groups: How many groups the channels are in.
        size: The result's whole shape.
        method: The engine's name, or `"auto"`.

    Raises:
        NotImplementedError: forward mode inside `torch.compile`, which would lose the tangent.

    Examples:
        >>> x, w = torch.tensor([[[0.0, 1, 3]]]), torch.tensor([[[1.0, 2]]])
        >>> contract("y", x, w, [1], [0, 0], [1], 1, [1, 1, 2], "direct")
        tensor([[[2., 7.]]])
    """
    if torch.compiler.is_compiling() and forward_ad._current_level >= 0:
        raise NotImplementedError(
            "forward mode must stay outside torch.compile, which would lose the tangent: call "
            "torch.func.jvp, jacfwd or hessian on the function that is not compiled"
        )
    return _contract(out, a, b, list(stride), list(padding), list(dilation), groups, list(size),
                     method)


@dataclass(frozen=True)
class Call:
    """All about a convolution but its numbers: `contract`'s arguments, and the engine's choice."""

    out: str
    #: Stride, padding before and after x, dilation, and groups.
    geometry: tuple[tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...], int]
    #: The result's shape.
    size: tuple[int, ...]
    method: str
    chosen: dict[str, str] = field(default_factory=dict)

    def method_for(self, maps: str, a: Tensor, b: Tensor) -> str:
        """Name the engine for this map, and for those of the other two that are named as well."""
        if self.method != "auto":
            return self.method
        if maps not in self.chosen:
            self.chosen[maps] = choose_for(maps, self.out, a, b, self.geometry, self.size).method
        return self.chosen[maps]


def apply(call: Call, a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """Contract a and b, as `contract` does, and add a bias to each channel of the result.

    The operator costs a tenth of a millisecond, forward and backward: more than a small layer. So
    where nothing but the gradient can be asked of the result, a plain Function takes the short way
    to the engine. Its backward takes the operator again if that is to be differentiated.

    Examples:
        >>> x, w, b = torch.tensor([[[0.0, 1, 3]]]), torch.tensor([[[1.0, 2]]]), torch.tensor([5.0])
        >>> apply(Call("y", ((1,), ((0, 0),), (1,), 1), (1, 1, 2), "direct"), x, w, b)
        tensor([[[ 7., 12.]]])
    """
    if is_plain(a, b, bias):
        return apply_plain(call, a, b, bias)
    result = _contracted(call.out, a, b, call.geometry, call.size, call.method)
    return add_bias(result, bias)


def add_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """Add a number to each channel, if there are any."""
    return y if bias is None else y + bias.reshape(-1, *[1] * (y.ndim - 2))


def _contracted(out: str, a: Tensor, b: Tensor, geometry: Any, size: Sequence[int],
                method: str) -> Tensor:
    stride, padding, dilation, groups = geometry
    flat = [n for pair in padding for n in pair]
    return contract(out, a, b, stride, flat, dilation, groups, size, method)


def is_plain(*tensors: Tensor | None) -> bool:
    """Neither mapped, traced, recorded nor dual: nothing but the gradient can be asked for."""
    if torch.compiler.is_compiling() or forward_ad._current_level >= 0 or (
            torch._C._functorch.peek_interpreter_stack() is not None
            or torch._C._len_torch_dispatch_stack() or torch._C._is_tracing()
            or torch._C._dispatch_tls_is_dispatch_key_included(_OLDER_VMAP)):
        return False
    for t in tensors:
        if t is not None and (type(t) not in _PLAIN or t.is_nested or not t.is_cpu
                              or t.layout is not torch.strided):
            return False
    return True


def apply_plain(call: Call, a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """As `apply`, for plain tensors."""
    maps = maps_for(call.out, a, b)
    method = call.method_for(maps, a, b)
    if len(maps) > 1 or (bias is not None and bias.requires_grad and torch.is_grad_enabled()):
        return _apply_short(call, method, a, b, bias)
    return _computed(call, method, a, b, bias)


def _computed(call: Call, method: str, a: Tensor, b: Tensor, bias: Tensor | None,
              spectra: dict[str, Array] | None = None) -> Tensor:
    with _quietly():
        return _with_bias(_run(call.out, _as_numpy(a), _as_numpy(b), call.geometry, call.size,
                               method, spectra), bias)


def maps_for(out: str, a: Tensor, b: Tensor) -> str:
    """Name the maps that a call will need: its own, and those of the gradients that are wanted."""
    if not torch.is_grad_enabled():
        return out
    first, second = tuple(OPERANDS[out])
    return out + first * a.requires_grad + second * b.requires_grad


class _Short(_SingleLevelFunction):
    """The operator's forward and backward, without a dispatcher between it and the engine."""

    @staticmethod
    def forward(ctx: Any, call: Call, method: str, a: Tensor, b: Tensor,
                bias: Tensor | None) -> Tensor:
        spectra: dict[str, Array] = {}
        result = _computed(call, method, a, b, bias, spectra)
        if spectra and (a.is_complex() or sum(s.nbytes for s in spectra.values()) > KEPT):
            spectra = {}  # complex operands are conjugated in the backward
        ctx.call, ctx.method, ctx.kept = call, method, tuple(spectra)
        ctx.save_for_backward(a, b, *map(torch.from_numpy, spectra.values()))
        ctx.set_materialize_grads(False)
        return result

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
        if g is None:
            return (None,) * 5
        a, b, *spectra = ctx.saved_tensors
        call: Call = ctx.call
        plain = not torch.is_grad_enabled() and is_plain(g)
        if plain:
            g_ = np.ascontiguousarray(_as_numpy(g))
            kept = dict(zip(ctx.kept, map(_as_numpy, spectra), strict=True))

        def gradient(i: int) -> Tensor | None:
            if not ctx.needs_input_grad[2 + i]:
                return None
            role, first, second, size = _adjoint(call.out, i, g, (a, b))
            if not plain:
                return _contracted(role, first, second, call.geometry, size, ctx.method)
            a_, b_ = (g_ if t is g else _as_numpy(t) for t in (first, second))
            return torch.from_numpy(_run(role, a_, b_, call.geometry, size, ctx.method, kept))

        def sums() -> Tensor | None:
            if not ctx.needs_input_grad[4]:
                return None
            others = (0, *range(2, g.ndim))
            # torch's own would wake its threads, which then spin beside ours
            return torch.from_numpy(np.add.reduce(g_, others)) if plain else g.sum(others)

        with _quietly():
            return None, None, gradient(0), gradient(1), sums()


def _adjoint(out: str, i: int, g: Tensor,
             operands: Sequence[Tensor]) -> tuple[str, Tensor, Tensor, tuple[int, ...]]:
    """Return the map whose result is the gradient of operand i: role, operands and size."""
    role, other = OPERANDS[out][i], operands[1 - i].conj()
    first, second = (g, other) if OPERANDS[role][0] == out else (other, g)
    return role, first, second, tuple(operands[i].shape)


_apply_short: Callable[..., Tensor] = _Short.apply  # type: ignore[attr-defined]
_PLAIN = (Tensor, torch.nn.Parameter)
#: What is_grads_batched maps in; to look its name up takes longer than all the other questions.
_OLDER_VMAP: Any = torch._C._parse_dispatch_key("VmapMode")


def choose_for(maps: str, out: str, a: Tensor, b: Tensor, geometry: Any,
               size: tuple[int, ...]) -> Choice:
    """Choose the engine for a map, and for those of the other two that are named as well."""
    shapes = {out: size, **dict(zip(OPERANDS[out], (a.shape, b.shape), strict=True))}
    stride, padding, dilation, groups = geometry
    x, w, y = map(tuple, (shapes["x"], shapes["w"], shapes["y"]))
    return choose(x, w, y, stride, dilation, groups, _KINDS.get(a.dtype, "i8"), maps, padding)


def _with_bias(result: Array, bias: Tensor | None) -> Tensor:
    if bias is not None:
        result += _as_numpy(bias).reshape(-1, *[1] * (result.ndim - 2))
    return torch.from_numpy(result)


_library = torch.library.Library("scipyconv", "DEF")
_library.define(
    "contract(str out, Tensor a, Tensor b, SymInt[] stride, SymInt[] padding, SymInt[] dilation, "
    "SymInt groups, SymInt[] size, str method) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_contract: Callable[..., Tensor] = torch.ops.scipyconv.contract.default


def _compute(out: str, a: Tensor, b: Tensor, stride: list[int], padding: list[int],
             dilation: list[int], groups: int, size: list[int], method: str) -> Tensor:
    """Let an engine do it."""
    a_, b_ = _as_numpy(a), _as_numpy(b)
    pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
    geometry = tuple(stride), pairs, tuple(dilation), groups
    if method == "auto":
        method = choose_for(out, out, a, b, geometry, tuple(size)).method
    with _quietly():
        return torch.from_numpy(_run(out, a_, b_, geometry, tuple(size), method))


def _run(out: str, a: Array, b: Array, geometry: Any, size: tuple[int, ...], method: str,
         spectra: dict[str, Array] | None = None) -> Array:
    """Let an engine compute one map."""
    stride, padding, dilation, groups = geometry
    function = getattr(ENGINES[method], _MAPS[out])
    operands = (b, a) if out == "x" else (a, b)  # w and y; an engine takes y and w
    kept = (spectra,) if method == "fft" else ()
    return np.ascontiguousarray(function(*operands, size, stride, dilation, groups, padding, *kept))


def _quietly() -> np.errstate:
    """Infinities and NaN are results here, as in torch."""
    return np.errstate(all="ignore")


def _as_numpy(t: Tensor) -> Array:
    return t.numpy(force=True)  # a view, for what is in main memory; a conjugate one is resolved


def _shape(out: str, a: Tensor, b: Tensor, *geometry: Any) -> Tensor:
    """What meta and fake tensors have for numbers: nothing, in the result's shape."""
    *_, size, _ = geometry
    return a.new_empty(size)


class _Contract(_SingleLevelFunction):
    """One level of autograd; the dispatcher brings the levels."""

    @staticmethod
    def forward(*args: Any) -> Tensor:
        # Without both enablers, derivatives of mixed order would be zero, silently.
        with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True), \
                torch._C._AutoDispatchBelowAutograd():
            return _contract(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.out, a, b, *ctx.geometry, ctx.size, ctx.method = inputs
        ctx.save_for_backward(a, b)
        ctx.save_for_forward(a, b)
        ctx.set_materialize_grads(False)  # or zeros would be contracted

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors

        def gradient(i: int) -> Tensor | None:
            if cotangent is None or not ctx.needs_input_grad[1 + i]:
                return None
            role, first, second, size = _adjoint(ctx.out, i, cotangent, saved)
            return _contract(role, first, second, *ctx.geometry, size, ctx.method)

        return None, gradient(0), gradient(1), None, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, _: None, a_dot: Tensor | None, b_dot: Tensor | None, *__: None) -> Tensor:
        # PyTorch switches forward mode off in here, and forward over forward would be zero,
        # silently. Switched on, a and b would bring their own tangents: take them off.
        with forward_ad._set_fwd_grad_enabled(True):
            a, b = (forward_ad.unpack_dual(t).primal for t in ctx.saved_tensors)
            y_dot = [_contract(ctx.out, *pair, *ctx.geometry, ctx.size, ctx.method)
                     for pair in ((a_dot, b), (a, b_dot)) if all(t is not None for t in pair)]
            return sum(y_dot[1:], start=y_dot[0])


_apply: Callable[..., Tensor] = _Contract.apply  # type: ignore[attr-defined]


def _differentiable(*args: Any) -> Tensor:
    with enable_single_level_autograd_function():
        return _apply(*args)


# Each array's axes as letters: g is the group, o and c are counted inside of it.
_AXES = {"x": ("n", "gc"), "w": ("go", "c"), "y": ("n", "go")}
#: Two arrays share the letter n, o or c; all three share g.
_SHARED = {"xy": "n", "wy": "o", "wx": "c", "wxy": "g"}


def _vmap(info: Any, in_dims: Any, out: str, a: Tensor, b: Tensor, stride: list[int],
          padding: list[int], dilation: list[int], groups: int, size: list[int],
          method: str) -> tuple[Tensor, int]:
    """Let the mapped dimension join the letter that exactly the mapped arrays share.

    The result is mapped as well. So the dimension joins the batch if the weight is not mapped, the
    outputs or channels of a group if one of x and y is not, and otherwise the groups.
    """
    count, roles = info.batch_size, OPERANDS[out]
    operands = dict(zip(roles, (a, b), strict=True))
    mapped = {role: dim for role, dim in zip(roles, in_dims[1:3], strict=True) if dim is not None}
    letter = _SHARED["".join(sorted([out, *mapped]))]
    for role, dim in mapped.items():
        operands[role] = _join(operands[role].movedim(dim, 0), role, letter, groups)
    axis, _ = _place(out, letter, groups)
    whole = [n * count if i == axis else n for i, n in enumerate(size)]
    many = groups * count if letter == "g" else groups
    result = _contract(out, *operands.values(), stride, padding, dilation, many, whole, method)
    return _split(result, out, letter, groups, count), 0


def _place(role: str, letter: str, groups: int) -> tuple[int, int]:
    """The axis that a letter is on, and how many rows of it stand outside the letter."""
    axis = next(i for i, letters in enumerate(_AXES[role]) if letter in letters)
    return axis, groups if _AXES[role][axis].index(letter) else 1


def _join(t: Tensor, role: str, letter: str, groups: int) -> Tensor:
    """Put the first dimension of t just outside of a letter, on the same axis."""
    axis, outside = _place(role, letter, groups)
    t = t.unflatten(axis + 1, (outside, t.shape[axis + 1] // outside))
    return t.movedim(0, axis + 1).flatten(axis, axis + 2)


def _split(t: Tensor, role: str, letter: str, groups: int, count: int) -> Tensor:
    """Undo `_join`: take the dimension out of the axis and put it first."""
    axis, outside = _place(role, letter, groups)
    t = t.unflatten(axis, (outside, count, t.shape[axis] // (outside * count)))
    return t.movedim(axis + 1, 0).flatten(axis + 1, axis + 2)


_library.impl("contract", _compute, "CPU")
_library.impl("contract", _differentiable, "Autograd")
_library.impl("contract", _shape, "Meta")
torch.library.register_vmap("scipyconv::contract", _vmap, lib=_library)
