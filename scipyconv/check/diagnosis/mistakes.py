"""The dictionary of known mistakes, each with the wrong result that it leads to.

A mistake is a function from a case, a quantity and the operands to what a function with
that mistake returns, made by asking the oracle a wrong question, or by spoiling its
right answer. It returns None where the mistake makes no sense, and where it makes no
difference it returns the right answer.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from scipyconv.check.answers import GRADIENTS, OUTPUT
from scipyconv.check.cases import Case
from scipyconv.check.diagnosis.altered import altered, ask, shifted
from scipyconv.check.operands import Operands

Array = npt.NDArray[Any]
Compute = Callable[[Case, str, Operands], Array | None]

INPUT, WEIGHT, BIAS = GRADIENTS.values()
_MAPS = (OUTPUT, INPUT, WEIGHT)


@dataclass(frozen=True)
class Mistake:
    """A known mistake.

    Attributes:
        text: What is wrong, as it follows the quantity's name and a colon.
        quantities: Which results it may spoil.
        compute: What a function with this mistake returns.
    """

    text: str
    quantities: tuple[str, ...]
    compute: Compute


def _of_operands(change: Callable[[Case, Operands], Operands | None]) -> Compute:
    """Make a mistake from operands that are not the right ones."""

    def compute(case: Case, quantity: str, operands: Operands) -> Array | None:
        changed = change(case, operands)
        return None if changed is None else ask(case, quantity, changed)

    return compute


def _of_case(change: Callable[[Case], Case | None]) -> Compute:
    """Make a mistake from parameters that are not the right ones."""

    def compute(case: Case, quantity: str, operands: Operands) -> Array | None:
        changed = change(case)
        return None if changed is None else ask(changed, quantity, operands)

    return compute


def _of_result(change: Callable[[Case, Array], Array | None]) -> Compute:
    """Make a mistake from the right answer."""

    def compute(case: Case, quantity: str, operands: Operands) -> Array | None:
        return change(case, ask(case, quantity, operands))

    return compute


def _of_weight(change: Callable[[Case, Array], Array | None]) -> Compute:
    """Make a mistake that changes the weight, or the weight's gradient, likewise."""

    def compute(case: Case, quantity: str, operands: Operands) -> Array | None:
        if quantity == WEIGHT:
            return change(case, ask(case, quantity, operands))
        weight = change(case, operands.w)
        return (
            None if weight is None else ask(case, quantity, replace(operands, w=weight))
        )

    return compute


def _flipped(*dims: int) -> Compute:
    def change(case: Case, w: Array) -> Array | None:
        axes = dims or tuple(range(2, w.ndim))
        return np.flip(w, axes) if len(case.taps) > 1 or not dims else None

    return _of_weight(change)


def _swapped(first: int, second: int) -> Compute:
    """Swap two dimensions of the weight, where they have the same size."""

    def change(case: Case, w: Array) -> Array | None:
        changed = np.swapaxes(w, first, second)
        return changed if changed.shape == w.shape else None

    return _of_weight(change)


def _transposed_kernel(case: Case, quantity: str, operands: Operands) -> Array | None:
    if len(case.taps) < 2 or quantity != OUTPUT:
        return (
            _swapped(-1, -2)(case, quantity, operands) if len(case.taps) > 1 else None
        )
    turned = altered(case, taps=(*case.taps[:-2], case.taps[-1], case.taps[-2]))
    return ask(turned, quantity, replace(operands, w=operands.w.swapaxes(-1, -2)))


def _reversed(name: str) -> Compute:
    def change(case: Case) -> Case | None:
        value = case.parameters.get(name)
        swapped = value[::-1] if isinstance(value, tuple) else value
        return altered(case, parameters={} if value is None else {name: swapped})

    return _of_case(change)


def _first_for_all(name: str) -> Compute:
    def change(case: Case) -> Case | None:
        value = case.parameters.get(name)
        return altered(
            case, parameters={name: value[0]} if isinstance(value, tuple) else {}
        )

    return _of_case(change)


def _ignored(name: str, default: int) -> Compute:
    return _of_case(
        lambda case: altered(
            case, parameters={name: default} if name in case.parameters else {}
        )
    )


def _sides(choose: Callable[[int, int], tuple[int, int]]) -> Compute:
    return _of_case(
        lambda case: altered(case, tuple(choose(*pair) for pair in case.zeros))
    )


def _padded_like(mode: str) -> Compute:
    """Pad by numbers of the input; only where a border is computed from the input."""

    def compute(case: Case, quantity: str, operands: Operands) -> Array | None:
        if case.transposed or quantity == INPUT:
            return None
        around = [(0, 0)] * (operands.x.ndim - len(case.pixels)) + list(case.zeros)
        x = np.pad(operands.x, around, mode=mode)  # type: ignore[call-overload]
        bare = altered(
            case, ((0, 0),) * len(case.pixels), pixels=x.shape[-len(case.pixels) :]
        )
        return ask(bare, quantity, replace(operands, x=x))

    return compute


def _remainder_in_front(case: Case, quantity: str, operands: Operands) -> Array | None:
    """Let the pixels that no window reaches lie in front of the windows, not behind."""
    if case.transposed:
        return None
    sides = tuple((0, 0) for _ in case.zeros)
    pixels = tuple(
        n + sum(pair) for n, pair in zip(case.pixels, case.zeros, strict=True)
    )
    bare = altered(case, sides, pixels=pixels)
    left = tuple(
        (n - span) % s
        for n, span, s in zip(pixels, case.spans, case.each("stride"), strict=True)
    )
    around = [(0, 0)] * (operands.x.ndim - len(pixels)) + list(case.zeros)
    x = shifted(np.pad(operands.x, around), tuple(-r for r in left))
    result = ask(bare, quantity, replace(operands, x=x))
    if quantity != INPUT:
        return result
    inside = tuple(
        slice(before, before + n)
        for n, (before, _) in zip(case.pixels, case.zeros, strict=True)
    )
    cut: tuple[Any, ...] = (..., *inside)
    return np.asarray(shifted(result, left)[cut])


def _groups_of_x(change: Callable[[Array, int], Array]) -> Compute:
    """Change the input's channels by groups, and of its gradient the same."""

    def compute(case: Case, quantity: str, operands: Operands) -> Array | None:
        axis = 0 if case.batch is None else 1

        def apply(array: Array) -> Array:
            return np.moveaxis(
                change(np.moveaxis(array, axis, 0), case.groups), 0, axis
            )

        if quantity == INPUT:
            return apply(ask(case, quantity, operands))
        return ask(case, quantity, replace(operands, x=apply(operands.x)))

    return compute


def _groups_of_g(change: Callable[[Array, int], Array]) -> Compute:
    """Change the output's channels by groups, and the cotangent's the same."""

    def compute(case: Case, quantity: str, operands: Operands) -> Array | None:
        axis = 0 if case.batch is None else 1

        def apply(array: Array) -> Array:
            return np.moveaxis(
                change(np.moveaxis(array, axis, 0), case.groups), 0, axis
            )

        if quantity == OUTPUT:
            return apply(ask(case, quantity, operands))
        return ask(case, quantity, replace(operands, g=apply(operands.g)))

    return compute


def _by_groups(change: Callable[[Array, int], Array]) -> Compute:
    return _of_weight(lambda case, w: change(w, case.groups))


def _interleaved(array: Array, groups: int) -> Array:
    parts = array.reshape(groups, -1, *array.shape[1:]).swapaxes(0, 1)
    return parts.reshape(array.shape)


def _deinterleaved(array: Array, groups: int) -> Array:
    return (
        array.reshape(-1, groups, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)
    )


def _backwards(array: Array, groups: int) -> Array:
    return array.reshape(groups, -1, *array.shape[1:])[::-1].reshape(array.shape)


def _first_of_all(array: Array, groups: int) -> Array:
    parts = array.reshape(groups, -1, *array.shape[1:])
    return np.broadcast_to(parts[:1], parts.shape).reshape(array.shape)


def _last_of_all(array: Array, groups: int) -> Array:
    return _first_of_all(array[::-1], groups)[::-1] if groups > 1 else array


def _only_first(array: Array, groups: int) -> Array:
    kept = array.reshape(groups, -1, *array.shape[1:]).copy()
    kept[1:] = 0
    return kept.reshape(array.shape)


def _summed_over_groups(array: Array, groups: int) -> Array:
    parts = array.reshape(groups, -1, *array.shape[1:])
    return np.broadcast_to(parts.sum(0, keepdims=True), parts.shape).reshape(
        array.shape
    )


def _samples(case: Case) -> int:
    return 1 if case.batch is None else case.batch


def _positions(case: Case) -> int:
    return prod(case.output_shape[-len(case.pixels) :])


_COUNTS: Mapping[str, Callable[[Case], int]] = {
    "the batch": _samples,
    "the number of output positions": _positions,
    "the batch and the number of output positions": lambda case: (
        _samples(case) * _positions(case)
    ),
    "the number of input channels": lambda case: case.channels * case.groups,
    "the number of output channels": lambda case: case.filters * case.groups,
    "the number of groups": lambda case: case.groups,
    "the number of taps": lambda case: prod(case.taps),
    "the number of taps and input channels": lambda case: (
        prod(case.taps) * case.channels
    ),
    "the stride": lambda case: prod(case.each("stride")),
}


def _scaled(count: Callable[[Case], int], power: int) -> Compute:
    def scale(case: Case, right: Array) -> Array:
        number = count(case)
        if number or power > 0:
            return right * float(number) ** power
        return np.full_like(right, np.nan)  # 0 / 0, as the mean of nothing

    return _of_result(scale)


def _conjugated(name: str) -> Compute:
    return _of_operands(
        lambda case, operands: replace(
            operands, **{name: getattr(operands, name).conj()}
        )
    )


def _real(case: Case, right: Array) -> Array:
    return right.real.astype(right.dtype)


def _bias(change: Callable[[Array], Array | None]) -> Compute:
    return _of_operands(
        lambda case, operands: (
            operands if operands.b is None else replace(operands, b=change(operands.b))
        )
    )


def _bias_kept(axis: int) -> Compute:
    def compute(case: Case, quantity: str, operands: Operands) -> Array | None:
        g = operands.g if case.batch is not None else operands.g[np.newaxis]
        if axis >= g.ndim:
            return None
        found: Array = g.sum(tuple(i for i in range(g.ndim) if i != axis))
        return found if found.shape == case.bias_shape else None

    return compute


def _first_cotangent(axis: int) -> Compute:
    def change(case: Case, operands: Operands) -> Operands | None:
        g = operands.g.copy()
        np.moveaxis(g, axis, 0)[1:] = 0
        return replace(operands, g=g)

    return _of_operands(lambda case, o: None if case.batch is None else change(case, o))


def _constant(number: int) -> Compute:
    return _of_result(lambda case, right: np.full_like(right, number))


def _mistakes() -> Iterator[Mistake]:
    yield from _of_the_kernel()
    yield from _of_parameters()
    yield from _of_borders()
    yield from _of_groups()
    yield from _of_scales()
    yield from _of_the_bias()
    yield from _of_the_cotangent()


def _of_the_kernel() -> Iterator[Mistake]:
    yield Mistake("the kernel is flipped along every dimension", _MAPS, _flipped())
    yield Mistake("the kernel is flipped along its last dimension", _MAPS, _flipped(-1))
    yield Mistake("the kernel is flipped along its first dimension", _MAPS, _flipped(2))
    yield Mistake("the kernel is transposed", _MAPS, _transposed_kernel)
    yield Mistake(
        "the kernel is transposed and flipped",
        _MAPS,
        _of_weight(
            lambda case, w: (
                np.flip(w.swapaxes(-1, -2), (-1, -2))
                if len(case.taps) > 1 and case.taps[-1] == case.taps[-2]
                else None
            )
        ),
    )
    yield Mistake(
        "the weight's channels and filters are swapped", _MAPS, _swapped(0, 1)
    )
    yield Mistake(
        "the weight's channels are in reverse order",
        _MAPS,
        _of_weight(lambda case, w: w[:, ::-1]),
    )
    yield Mistake(
        "the weight's filters are in reverse order",
        _MAPS,
        _of_weight(lambda case, w: w[::-1]),
    )


def _of_parameters() -> Iterator[Mistake]:
    for name in ("stride", "padding", "dilation", "output_padding"):
        yield Mistake(f"the dimensions of {name} are swapped", _MAPS, _reversed(name))
        yield Mistake(
            f"the first {name} is used for all dimensions", _MAPS, _first_for_all(name)
        )
    yield Mistake("the stride is taken for 1", _MAPS, _ignored("stride", 1))
    yield Mistake("the dilation is taken for 1", _MAPS, _ignored("dilation", 1))
    yield Mistake("the padding is taken for 0", _MAPS, _ignored("padding", 0))
    yield Mistake(
        "the output padding is taken for 0", _MAPS, _ignored("output_padding", 0)
    )
    yield Mistake(
        "stride and dilation are swapped",
        _MAPS,
        _of_case(
            lambda case: altered(
                case,
                parameters={
                    "stride": case.each("dilation"),
                    "dilation": case.each("stride"),
                },
            )
        ),
    )


def _of_borders() -> Iterator[Mistake]:
    yield Mistake(
        "the remainder that the stride leaves lies in front, not behind",
        _MAPS,
        _remainder_in_front,
    )
    yield Mistake(
        "the padding lies on the wrong side",
        _MAPS,
        _sides(lambda before, after: (after, before)),
    )
    yield Mistake(
        "the padding lies behind only",
        _MAPS,
        _sides(lambda before, after: (0, before + after)),
    )
    yield Mistake(
        "the padding lies in front only",
        _MAPS,
        _sides(lambda before, after: (before + after, 0)),
    )
    for mode, text in (
        ("edge", "the nearest pixels"),
        ("reflect", "a reflection"),
        ("wrap", "the pixels from the other side"),
    ):
        yield Mistake(
            f"the border holds {text}, not zeros", (OUTPUT, WEIGHT), _padded_like(mode)
        )


def _of_groups() -> Iterator[Mistake]:
    changes = (
        ("are interleaved", _interleaved),
        ("are dealt out in turn", _deinterleaved),
        ("are in reverse order", _backwards),
        ("are all the first one", _first_of_all),
        ("are all the last one", _last_of_all),
        ("but the first are left at zero", _only_first),
        ("are summed up", _summed_over_groups),
    )
    for text, change in changes:
        yield Mistake(f"the groups of the input {text}", _MAPS, _groups_of_x(change))
        yield Mistake(
            f"the groups of the output {text}", (*_MAPS, BIAS), _groups_of_g(change)
        )
        yield Mistake(f"the groups of the weight {text}", _MAPS, _by_groups(change))


def _of_scales() -> Iterator[Mistake]:
    everything = (*_MAPS, BIAS)
    for name, count in _COUNTS.items():
        yield Mistake(f"it is divided by {name}", everything, _scaled(count, -1))
        yield Mistake(f"it is multiplied by {name}", everything, _scaled(count, 1))
    yield Mistake(
        "its sign is wrong", everything, _of_result(lambda case, right: -right)
    )
    for number in (0, 1):
        yield Mistake(f"it is {number} everywhere", everything, _constant(number))
    yield Mistake(
        "its absolute value is taken",
        everything,
        _of_result(lambda case, right: np.abs(right).astype(right.dtype)),
    )
    yield Mistake(
        "negative numbers are cut off, as by a ReLU",
        everything,
        _of_result(lambda case, right: np.maximum(right.real, 0).astype(right.dtype)),
    )
    yield Mistake("the input is not conjugated", (WEIGHT,), _conjugated("x"))
    yield Mistake("the weight is not conjugated", (INPUT,), _conjugated("w"))
    yield Mistake("the weight is conjugated", (OUTPUT,), _conjugated("w"))
    yield Mistake("the input is conjugated", (OUTPUT,), _conjugated("x"))
    yield Mistake(
        "it is conjugated", everything, _of_result(lambda case, right: right.conj())
    )
    yield Mistake("its imaginary part is lost", everything, _of_result(_real))


def _of_the_bias() -> Iterator[Mistake]:
    yield Mistake("the bias is left out", (OUTPUT,), _bias(lambda b: None))
    yield Mistake("the bias is added twice", (OUTPUT,), _bias(lambda b: 2 * b))
    yield Mistake("the bias is subtracted", (OUTPUT,), _bias(lambda b: -b))
    yield Mistake(
        "the bias of the first channel is added to all",
        (OUTPUT,),
        _bias(lambda b: np.full_like(b, b[0])),
    )
    for axis, name in enumerate(
        (
            "batch",
            "channels",
            "first spatial dimension",
            "second spatial dimension",
            "third spatial dimension",
        )
    ):
        if name != "channels":
            yield Mistake(
                f"it is summed over all dimensions but the {name}",
                (BIAS,),
                _bias_kept(axis),
            )
    yield Mistake(
        "it is the sum over all channels",
        (BIAS,),
        _of_result(lambda case, right: np.full_like(right, right.sum())),
    )


def _of_the_cotangent() -> Iterator[Mistake]:
    gradients = (INPUT, WEIGHT, BIAS)
    yield Mistake(
        "the cotangent is ignored, as if it were 1 everywhere",
        gradients,
        _of_operands(lambda case, o: replace(o, g=np.ones_like(o.g))),
    )
    yield Mistake(
        "only the first sample's cotangent counts", gradients, _first_cotangent(0)
    )
    yield Mistake(
        "the last position of the cotangent is left out",
        gradients,
        _of_operands(lambda case, o: replace(o, g=_without_last(o.g))),
    )
    yield Mistake(
        "the cotangent is flipped",
        gradients,
        _of_operands(
            lambda case, o: replace(o, g=np.flip(o.g, tuple(range(-len(case.taps), 0))))
        ),
    )


def _without_last(g: Array) -> Array:
    cut = g.copy()
    cut[..., -1] = 0
    return cut


MISTAKES = tuple(_mistakes())
