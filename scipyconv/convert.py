"""Swap the convolutions of a model for ours, and back.

A layer keeps its identity and changes its class, as torch's lazy layers do. So it keeps
its parameters, hooks, name and mode, and everything that refers to it still does: an
optimizer, or a second place in the model.
"""

import re
import sys
import warnings
from collections.abc import Iterable
from types import MethodType
from typing import Any, TypeVar

import torch

from scipyconv import nn
from scipyconv.method import check_method

__all__ = ["to_scipyconv", "to_torch"]

Model = TypeVar("Model", bound=torch.nn.Module)

_OURS = {getattr(torch.nn, name): getattr(nn, name) for name in nn.__all__}
_TORCHS = {ours: theirs for theirs, ours in _OURS.items()}

# aten::conv2d, aten::_convolution, quantized::conv2d_relu, ..., but not aten::_convert
_CONVOLUTION = re.compile(r"\w::\w*conv(\d|_|olution)")


def to_scipyconv(model: Model, *, method: str = "auto", strict: bool = True) -> Model:
    """Let SciPy compute every convolution layer of a model.

    Args:
        model: A model, or one layer. It is changed in place; to keep torch's version
            beside ours, apply `copy.deepcopy` first.
        method: The engine, as in `scipyconv.nn.Conv2d`. A layer that SciPy computes
            already keeps its own.
        strict: Whether to refuse a model that holds a convolution layer that cannot be
            swapped, such as a subclass with its own forward. If False, such a layer is
            left as it is, and a warning names it.

    Returns:
        The model.

    Raises:
        TypeError: `model` is not a module.
        ValueError: An unknown `method`, or a layer that cannot be swapped. The message
            names every such layer, and the model is unchanged.

    Examples:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
        >>> to_scipyconv(model)[0]
        Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1))
        >>> type(model[0]).__module__
        'scipyconv.nn'
    """
    check_method(method)
    for layer, new in _swaps(model, _OURS, strict):
        layer.__class__ = new
        setattr(layer, "method", method)  # noqa: B010 - no name of a Module's own
    return model


def to_torch(model: Model, *, strict: bool = True) -> Model:
    """Undo `to_scipyconv`: let torch compute every convolution layer of a model.

    Args:
        model: A model, or one layer. It is changed in place.
        strict: Whether to refuse a model that holds a layer that torch cannot express,
            such as one with asymmetric padding. If False, such a layer is left as it
            is, and a warning names it.

    Returns:
        The model.

    Raises:
        TypeError: `model` is not a module.
        ValueError: A layer cannot be swapped. The message names every such layer, and
            the model is unchanged.

    Examples:
        >>> left = nn.Conv1d(4, 1, 2, padding=((1, 0),))
        >>> to_torch(torch.nn.Sequential(nn.Conv1d(1, 4, 3), left))
        Traceback (most recent call last):
        ...
        ValueError: model must hold only layers that can be swapped: '1' (Conv1d) has
        padding that torch does not know; replace it, or pass strict=False to leave it
        as it is
    """
    for layer, new in _swaps(model, _TORCHS, strict):
        layer.__class__ = new
        vars(layer).pop("method", None)
    return model


def _swaps(
    model: torch.nn.Module, table: dict[type, type], strict: bool
) -> list[tuple[torch.nn.Module, type]]:
    """Each layer to swap and its new class, or an error that names all obstacles."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module: its type is {type(model).__name__}; "
            f"pass a model, or a layer"
        )
    swaps, left = [], []
    for name, layer in model.named_modules():
        new = _new_class(type(layer), table)
        obstacle = _obstacle(layer, new, table)
        if obstacle:
            left.append(f"{name!r} ({type(layer).__name__}) {obstacle}")
        elif new:
            swaps.append((layer, new))
    if left:
        _report("; ".join(left), strict)
    return swaps


def _report(left: str, strict: bool) -> None:
    if strict:
        raise ValueError(
            f"model must hold only layers that can be swapped: {left}; replace it, or "
            f"pass strict=False to leave it as it is"
        )
    warnings.warn(f"left as it is: {left}", stacklevel=4)


def _new_class(cls: type, table: dict[type, type]) -> type | None:
    """The class to swap `cls` for, if there is one."""
    if cls in table:
        return table[cls]
    if cls.__module__ != torch.nn.utils.parametrize.__name__:
        return None
    [base] = cls.__bases__  # torch makes a class for each layer with a parametrization
    if base not in table:
        return None
    kept = {
        name: value
        for name, value in vars(cls).items()
        if name not in ("__dict__", "__weakref__")
    }
    return type(cls.__name__, (table[base],), kept)


def _obstacle(layer: Any, new: type | None, table: dict[type, type]) -> str | None:
    """Why a layer cannot be swapped, or None if it can be, or need not be."""
    ours = isinstance(layer, tuple(_TORCHS))
    back = table is _TORCHS
    if new is None:
        asked = ours if back else _convolves(layer) and not ours
        return "is of a class of its own" if asked else None
    clashes = _clashes(layer, new) - ({"method"} if back else set())
    if clashes:
        named = ", ".join(map(repr, sorted(clashes)))
        return f"holds its own {named}, set on the layer in place of its class's"
    return (_unknown_to_torch(layer) if back else None) or _stale_border(layer)


def _clashes(layer: torch.nn.Module, new: type) -> set[str]:
    """What a layer itself holds in place of something that the swap would change."""
    classes = {*type(layer).__mro__, *new.__mro__} - {*torch.nn.Module.__mro__}
    changed = {name for cls in classes for name in vars(cls) if name[:2] != "__"}
    held = vars(layer) | layer._parameters | layer._buffers | layer._modules
    bound = {
        name
        for name, value in held.items()
        if isinstance(value, MethodType)
        and value.__self__ is layer
        and value.__func__.__name__ in changed
    }
    return held.keys() & changed | bound


def _unknown_to_torch(layer: Any) -> str | None:
    if any(isinstance(pair, tuple | list) for pair in _each(layer.padding)):
        return "has padding that torch does not know"
    if layer.padding == "same" and any(s != 1 for s in _each(layer.stride)):
        return "has padding='same' with a stride, which torch does not know"
    if layer.transposed and layer.padding_mode != "zeros":
        return "is transposed and has a padding mode, which torch does not know"
    return None


def _stale_border(layer: Any) -> str | None:
    """Whether the border that torch's padding modes use is not that of `padding`."""
    if layer.transposed or layer.padding_mode == "zeros":
        return None
    border = list(layer._reversed_padding_repeated_twice)
    if border == _border(layer):
        return None
    return f"has padding={layer.padding!r} but keeps a border of {border} from before"


def _border(layer: Any) -> list[int]:
    """What `padding` adds before and after each dimension, the last dimension first."""
    dims = len(layer.kernel_size)
    if layer.padding == "same":
        dilation = _each(layer.dilation, dims)
        spans = [d * (k - 1) for d, k in zip(dilation, layer.kernel_size, strict=True)]
        pairs = [(span // 2, span - span // 2) for span in spans]
    else:
        padding = 0 if layer.padding == "valid" else layer.padding
        pairs = [(n, n) for n in _each(padding, dims)]
    return [n for pair in reversed(pairs) for n in pair]


def _each(value: Any, dims: int = 1) -> tuple[Any, ...]:
    """One value for each dimension."""
    values = tuple(value) if isinstance(value, Iterable) else (value,)
    return values * dims if len(values) == 1 else values


def _convolves(layer: torch.nn.Module) -> bool:
    """Whether a layer is a convolution: torch's, a subclass, quantized or scripted."""
    if isinstance(layer, torch.jit.ScriptModule):  # its class says nothing
        graph = str(getattr(layer, "inlined_graph", ""))
        return not list(layer.children()) and bool(_CONVOLUTION.search(graph))
    quantized = sys.modules.get("torch.ao.nn.quantized.modules.conv")
    bases = torch.nn.modules.conv._ConvNd, getattr(quantized, "_ConvNd", ())
    return isinstance(layer, bases)
