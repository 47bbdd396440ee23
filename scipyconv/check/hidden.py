"""The arguments that no call shows: parameters of a module, tensors in a closure."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn


def find_hidden(function: Callable[..., Any]) -> dict[str, Tensor]:
    """Return the leaves that require a gradient and that a function uses by itself.

    Looked for are a module's parameters, those of the module that a method is bound to,
    and modules and tensors in a closure, in a partial and among the globals used.

    Examples:
        >>> layer = nn.Linear(2, 3)
        >>> list(find_hidden(lambda x: layer(x)))
        ['layer.weight', 'layer.bias']
    """
    found: dict[str, Tensor] = {}
    for name, value in _held(function):
        if isinstance(value, nn.Module):
            prefix = f"{name}." if name else ""
            pairs: list[tuple[str, Tensor]] = [
                (prefix + each, p) for each, p in value.named_parameters()
            ]
        else:
            pairs = [(name, value)] if isinstance(value, Tensor) else []
        for each, tensor in pairs:
            known = any(tensor is other for other in found.values())
            if tensor.requires_grad and tensor.is_leaf and not known:
                found[each] = tensor
    return found


def _held(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function holds, by name."""
    if isinstance(function, nn.Module):
        yield "", function
    elif isinstance(function, functools.partial):
        yield from _held(function.func)
        yield from ((f"argument {i}", value) for i, value in enumerate(function.args))
        yield from function.keywords.items()
    elif inspect.ismethod(function):
        yield "", function.__self__
        yield from _held(function.__func__)
    elif inspect.isfunction(function):
        yield from _around(function)


def _around(function: Any) -> Iterator[tuple[str, Any]]:
    used = inspect.getclosurevars(function)
    for name, value in {**used.globals, **used.nonlocals}.items():
        yield name, value
        if inspect.isfunction(value) and value is not function:
            yield from ((n, v) for n, v in _one_level(value) if v is not function)


def _one_level(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a helper that the function calls holds, and no further."""
    used = inspect.getclosurevars(function)
    yield from {**used.globals, **used.nonlocals}.items()
