"""Which of torch's parameters a callable takes, and how each must be passed."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scipyconv.check.family import Family

#: What torch's own functions take where nothing is passed.
DEFAULTS: Mapping[str, Any] = {
    "bias": None,
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "output_padding": 0,
}
_Parameter = inspect.Parameter
_POSITIONAL = (_Parameter.POSITIONAL_ONLY, _Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Taken:
    """The parameters that a callable takes, by torch's names.

    Attributes:
        by_position: Those to pass by position, in order.
        by_name: Those to pass by name.
        required: Those that it has no default for.
    """

    by_position: tuple[str, ...]
    by_name: tuple[str, ...] = ()
    required: frozenset[str] = frozenset()

    def arrange(self, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments by position and by name for a call with these values."""
        values = {name: DEFAULTS[name] for name in self.required} | dict(values)
        last = max(i for i, name in enumerate(self.by_position) if name in values)
        names = self.by_position[: last + 1]
        positional = [
            values[name] if name in values else DEFAULTS[name] for name in names
        ]
        return positional, {
            name: values[name] for name in self.by_name if name in values
        }


def find_taken(function: Callable[..., Any], family: Family) -> Taken:
    """Return the parameters that a callable takes.

    The first two are the input and the weight, whatever their names; a third whose name
    begins with a b is the bias. The others go by torch's names.

    Raises:
        TypeError: it takes no input and weight, or it requires an argument that no
            convolution has.

    Examples:
        >>> from scipyconv.check.family import find_family
        >>> def plain(x, kernel, b=None, *, stride=1): ...
        >>> taken = find_taken(plain, find_family("conv2d"))
        >>> taken.by_position, taken.by_name
        (('input', 'weight', 'bias'), ('stride',))
    """
    signature = _signature(function)
    if signature is None:  # a builtin, as torch's own are
        return Taken(family.parameters)
    each = list(signature.parameters.values())
    first = [p for p in each if p.kind in _POSITIONAL]
    if any(p.kind is _Parameter.VAR_POSITIONAL for p in each):
        return Taken(family.parameters)
    if len(first) < 2:
        raise TypeError(
            "function must take an input and a weight first: its signature is "
            f"{signature}; pass an adapter that takes them"
        )
    rest = _named_like_torchs(first[2:])
    _refuse_unknown(
        [*rest, *(p for p in each if p.kind is p.KEYWORD_ONLY)], family, signature
    )
    return _sort(rest, each, family)


def _sort(
    rest: Sequence[_Parameter], each: Sequence[_Parameter], family: Family
) -> Taken:
    """Sort what follows the input and the weight into the two ways of passing it."""
    known = [p for p in rest if p.name in family.parameters]
    count = 0  # those of any name, or of no name, must go by position
    while count < len(rest) and (
        rest[count].kind is _Parameter.POSITIONAL_ONLY or rest[count].name == "bias"
    ):
        count += 1
    by_position = ["input", "weight", *(p.name for p in rest[:count])]
    by_name = [p.name for p in known if p.name not in by_position]
    by_name += [
        p.name for p in each if p.kind is p.KEYWORD_ONLY and p.name in family.parameters
    ]
    if any(p.kind is _Parameter.VAR_KEYWORD for p in each):
        by_name += [n for n in family.parameters if n not in (*by_position, *by_name)]
    required = {
        p.name for p in [*rest, *each] if p.default is p.empty and p.name in DEFAULTS
    }
    return Taken(tuple(by_position), tuple(by_name), frozenset(required))


def _named_like_torchs(rest: Sequence[_Parameter]) -> list[_Parameter]:
    """Return the parameters, the first of them named bias if it looks like one."""
    return [
        p.replace(name="bias") if i == 0 and p.name.startswith("b") else p
        for i, p in enumerate(rest)
    ]


def _refuse_unknown(
    parameters: Sequence[_Parameter], family: Family, signature: inspect.Signature
) -> None:
    for p in parameters:
        if p.name not in family.parameters and p.default is p.empty:
            raise TypeError(
                f"function must not require an argument {p.name!r}, which no "
                f"{family.name} has: its signature is {signature}; give it a "
                "default, or pass an adapter"
            )


def _signature(function: Any) -> inspect.Signature | None:
    owner = getattr(function, "__self__", None)
    if inspect.isclass(owner) and issubclass(owner, torch.autograd.Function):
        return _of_autograd_function(owner)
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _of_autograd_function(owner: type[torch.autograd.Function]) -> inspect.Signature:
    """Return the signature of its forward without ctx; `apply` takes no names."""
    signature = inspect.signature(owner.forward)
    parameters = list(signature.parameters.values())
    if owner.setup_context is torch.autograd.Function.setup_context:
        parameters = parameters[1:]
    return signature.replace(
        parameters=[
            p.replace(kind=p.POSITIONAL_ONLY)
            if p.kind is p.POSITIONAL_OR_KEYWORD
            else p
            for p in parameters
        ]
    )
