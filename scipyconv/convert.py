"""Swap the convolutions of a model for ours, and back.

A layer is not replaced but changes its class, as torch's lazy layers do. So it keeps its
parameters, hooks, name and mode, and whatever else refers to it: an optimiser, a second place in
the model.
"""

import warnings
from typing import Any, TypeVar

import torch

from scipyconv import nn
from scipyconv.method import check_method

__all__ = ["to_scipyconv", "to_torch"]

Model = TypeVar("Model", bound=torch.nn.Module)

_OURS = {getattr(torch.nn, name): getattr(nn, name) for name in nn.__all__}
_TORCHS = {ours: theirs for theirs, ours in _OURS.items()}


def to_scipyconv(model: Model, *, method: str = "auto", strict: bool = True) -> Model:
    """Let SciPy compute every convolution layer of a model.

    Args:
        model: A model, or one layer. It is changed in place: `copy.deepcopy` it first to keep
            torch's beside ours.
        method: The engine, as in `scipyconv.nn.Conv2d`.
        strict: Whether to refuse a model with a convolution layer that cannot be swapped, such as
            a subclass with a forward of its own. Otherwise such a layer is left as it is, with a
            warning that names it.

    Returns:
        The model.

    Raises:
        ValueError: a layer cannot be swapped; the message names each. Nothing is changed then.

    Examples:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
        >>> to_scipyconv(model)[0]
        Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1))
        >>> type(model[0]).__module__
        'scipyconv.nn'
    """
    check_method(method)
    swaps = _swaps(model, _OURS, strict)
    for layer, new in swaps:
        layer.__class__ = new
        setattr(layer, "method", method)  # noqa: B010 - no name of a Module's own
    return model


def to_torch(model: Model, *, strict: bool = True) -> Model:
    """Undo `to_scipyconv`: let torch compute every convolution layer of a model.

    Args:
        model: A model, or one layer; it is changed in place.
        strict: Whether to refuse a model with a layer that torch does not have, such as one with
            asymmetric padding. Otherwise it is left as it is, with a warning that names it.

    Returns:
        The model.

    Raises:
        ValueError: a layer cannot be swapped; the message names each. Nothing is changed then.

    Examples:
        >>> model = torch.nn.Sequential(nn.Conv1d(1, 4, 3), nn.Conv1d(4, 1, 2, padding=((1, 0),)))
        >>> to_torch(model)
        Traceback (most recent call last):
        ...
        ValueError: model must hold only layers that can be swapped: '1' (Conv1d) has padding that
        torch does not know; replace it, or pass strict=False to leave it as it is
    """
    swaps = _swaps(model, _TORCHS, strict)
    for layer, new in swaps:
        layer.__class__ = new
        vars(layer).pop("method", None)
    return model


def _swaps(model: torch.nn.Module, table: dict[type, type], strict: bool
           ) -> list[tuple[torch.nn.Module, type]]:
    """Each layer to swap and its new class, or an error that names those that cannot be."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module: its type is {type(model).__name__}; pass a model, "
            f"or a layer"
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
        named = "; ".join(left)
        if strict:
            raise ValueError(
                f"model must hold only layers that can be swapped: {named}; replace it, or pass "
                f"strict=False to leave it as it is"
            )
        warnings.warn(f"left as it is: {named}", stacklevel=3)
    return swaps


def _new_class(cls: type, table: dict[type, type]) -> type | None:
    """The class to swap `cls` for, or None; a parametrised layer has a class made for it alone."""
    if cls in table:
        return table[cls]
    [base] = cls.__bases__ if len(cls.__bases__) == 1 else [None]
    if base in table and cls.__name__ == f"Parametrized{base.__name__}":
        kept = {name: value for name, value in vars(cls).items()
                if name not in ("__dict__", "__weakref__")}
        return type(cls.__name__, (table[base],), kept)
    return None


def _obstacle(layer: Any, new: type | None, table: dict[type, type]) -> str | None:
    """Why a layer cannot be swapped, or None if it can be, or need not be."""
    if new is None:
        back = {new: old for old, new in table.items()}
        done = _new_class(type(layer), back) is not None
        return None if done or not _convolves(layer) else "is of a class of its own"
    if table is _OURS:
        return None
    if any(isinstance(pair, tuple) for pair in layer.padding):
        return "has padding that torch does not know"
    if layer.padding == "same" and any(s != 1 for s in layer.stride):
        return "has padding='same' with a stride, which torch does not know"
    if layer.transposed and layer.padding_mode != "zeros":
        return "is transposed and has a padding mode, which torch does not know"
    return None


def _convolves(layer: torch.nn.Module) -> bool:
    """Whether a layer is some convolution: torch's, a subclass, quantised or scripted."""
    name = getattr(layer, "original_name", type(layer).__name__)
    theirs = type(layer).__module__.startswith("torch.") and "Conv" in name
    return theirs or isinstance(layer, tuple(_OURS))
