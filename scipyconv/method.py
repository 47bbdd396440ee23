"""What `method="auto"` means: in one call, or wherever `use_method` reaches."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from scipyconv.engines.choice import METHODS

_preferred: ContextVar[str] = ContextVar("scipyconv.method", default="auto")


@contextmanager
def use_method(method: str) -> Iterator[None]:
    """Let every convolution whose `method` is `"auto"` use this one inside a `with`.

    The choice is a context variable: it holds for the thread, or the task of asyncio,
        that
    made it, and for whatever is called from there. A new thread starts with `"auto"`,
    unless it runs in a copy of the context (`contextvars.copy_context().run`). A
    backward pass uses the engine of its forward, wherever it runs. Code compiled by
    `torch.compile` asks again in each pass, when it runs.

    Args:
        method: An engine, `"direct"`, `"matmul"` or `"fft"`; `"exact"` for whichever of
            those without `"fft"` is faster; or `"auto"`.

    Raises:
        ValueError: an unknown `method`.

    Examples:
        >>> from scipyconv.functional import conv1d
        >>> x, w = torch.tensor([[[1.0, 2, 4]]]), torch.tensor([[[1.0, -1]]])
        >>> with use_method("fft"):
        ...     y = conv1d(x, w)
        >>> y.round(decimals=3)
        tensor([[[-1., -2.]]])
    """
    check_method(method)
    before = preferred("auto")
    _preferred.set(method)
    try:
        yield
    finally:
        _preferred.set(before)


def preferred(method: str) -> str:
    """Return the method of `use_method` in place of `"auto"`.

    A compiler cannot read a context variable; the operator reads it when it runs.
    """
    if method != "auto" or torch.compiler.is_compiling():
        return method
    return _preferred.get()


def check_method(method: Any) -> None:
    """Check that there is such an engine.

    Examples:
        >>> check_method("winograd")
        Traceback (most recent call last):
        ...
        ValueError: method must be one of 'auto', 'exact', 'direct', 'matmul', 'fft': it
        is
        'winograd'; pass method='auto', say
    """
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(
            f"method must be one of {', '.join(map(repr, METHODS))}: it is {method!r}; "
            f"pass method='auto', say"
        )
