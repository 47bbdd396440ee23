"""What a wrong convolution is, and how one is made from the right one."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from check_by_hand import (
    CONV,
    bias_gradient,
    correlate,
    input_gradient,
    weight_gradient,
)

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Mutant:
    """A convolution with one mistake.

    Attributes:
        name: The mistake, in words.
        kind: The kind of mistake.
        function: The convolution. A class is a function with a memory, made anew for
            each check.
        diagnosis: What a dictionary of mistakes can say of it, if it can.
        family: Which of torch's functions it stands in for.
        dtypes: In what it is checked.
        cases: Where it is checked, besides the usual cases.
        require: What it must not leave out.
        source: A public report of the same mistake.
        by_chance: Whether what it does depends on what lies in memory.
    """

    name: str
    kind: str
    function: Any
    diagnosis: str = ""
    family: str = "conv2d"
    dtypes: tuple[str, ...] = ("float32",)
    cases: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    source: str = ""
    by_chance: bool = False

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    def fresh(self) -> Callable[..., Any]:
        """Return the function, without a memory of earlier checks."""
        return self.function() if isinstance(self.function, type) else self.function


def around(change: Callable[[Any, Arguments], Any], base: Any = CONV[2]) -> Any:
    """Return the function that hands a right one and its arguments to a wrong one."""
    signature = inspect.signature(base)

    def convolution(*arguments, **named):
        bound = signature.bind(*arguments, **named)
        bound.apply_defaults()
        return change(base, dict(bound.arguments))

    convolution.__signature__ = signature
    return convolution


def given(change: Callable[[Arguments], Mapping[str, Any]], base: Any = CONV[2]) -> Any:
    """Replace some arguments."""
    return around(lambda conv, a: conv(**{**a, **change(a)}), base)


def giving(change: Callable[..., Any], base: Any = CONV[2]) -> Any:
    """Change the output, by operations that autograd sees."""
    return around(lambda conv, a: change(conv(**a), a), base)


def of_output(change: Callable[..., Any], base: Any = CONV[2]) -> Any:
    """Change what the forward computes, and neither its gradients nor its bias."""
    return replace(base, output=lambda x, w, s: change(correlate(x, w, s), x, w, s))


def of_input(change: Callable[..., Any], base: Any = CONV[2]) -> Any:
    """Change the input's gradient."""
    return replace(
        base,
        input_gradient=lambda x, w, g, s: change(
            input_gradient(x, w, g, s), x, w, g, s
        ),
    )


def of_weight(change: Callable[..., Any], base: Any = CONV[2]) -> Any:
    """Change the weight's gradient."""
    return replace(
        base,
        weight_gradient=lambda x, w, g, s: change(
            weight_gradient(x, w, g, s), x, w, g, s
        ),
    )


def of_bias(change: Callable[..., Any], base: Any = CONV[2]) -> Any:
    """Change the bias's gradient."""
    return replace(
        base,
        bias_gradient=lambda x, w, g, s: change(bias_gradient(x, w, g, s), x, w, g, s),
    )
