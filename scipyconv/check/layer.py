"""Checking a layer: one that is made, or its class, by making one for each case."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from scipyconv.check.cases import Case
from scipyconv.check.family import FAMILIES, find_family
from scipyconv.check.report import Report
from scipyconv.check.run import check_convolution

_TUNABLE = ("stride", "padding", "dilation", "groups", "output_padding")


def check_layer(
    module: type[nn.Module] | nn.Module,
    family: str | None = None,
    *,
    names: Mapping[str, str] | None = None,
    **options: Any,
) -> Report:
    """Check a convolution layer: a class, or one layer.

    Of a class, a layer is made for each case, by the arguments of torch's own layers:
    the numbers of input and output channels, the kernel size, and `stride`, `padding`,
    and so on by name, as far as it takes them. One layer is tried as it is, at several
    inputs.

    Args:
        module: A subclass of `torch.nn.Module`, or an instance of one.
        family: The function that the layer stands in for, such as `"conv2d"`; by
            default its name or its weight tells.
        names: What the layer calls its parameters: `{"weight": "filter"}`, say.
        **options: As in `check_convolution`.

    Returns:
        The report.

    Raises:
        TypeError: neither a module nor a class of them.
        ValueError: no family can be told, or a parameter is not registered.

    Examples:
        >>> check_layer(torch.nn.Conv1d, probes=["logic"]).ok
        True
        >>> layer = torch.nn.Conv2d(2, 3, (2, 4), stride=(1, 2))
        >>> check_layer(layer, probes=["logic"]).ok
        True
    """
    called = {"weight": "weight", "bias": "bias", **(names or {})}
    if inspect.isclass(module) and issubclass(module, nn.Module):
        family = family or _family_by_name(module)
        function = _from_class(module, family, called)
    elif isinstance(module, nn.Module):
        _expect_registered(module, called["weight"])
        family = family or _family_of(module, called["weight"])
        function = _from_instance(module, called)
        options.setdefault("cases", _cases_of(module, family, called))
    else:
        raise TypeError(
            "module must be a torch.nn.Module or a class of them: it is "
            f"{module!r}; pass torch.nn.Conv2d, say, or check_convolution a "
            "function"
        )
    return check_convolution(function, family, **options)


def _from_class(
    module: type[nn.Module], family: str, called: Mapping[str, str]
) -> Callable[..., Any]:
    """Return a function that makes a layer of its operands, and calls it."""
    transposed = find_family(family).transposed

    @cache
    def make(
        shape: tuple[int, ...], bias: bool, parameters: tuple[tuple[str, Any], ...]
    ) -> nn.Module:
        groups = dict(parameters).get("groups", 1)
        sizes = (shape[0], shape[1] * groups)
        with torch.random.fork_rng(devices=[]):  # a layer draws its first weights
            made = module(
                *(sizes if transposed else sizes[::-1]),
                shape[2:],
                **_bias_argument(module, bias),
                **dict(parameters),
            )
        _expect_registered(made, called["weight"])
        return made

    def layer(
        input: Tensor, weight: Tensor, bias: Tensor | None = None, **parameters: Any
    ) -> Any:
        made = make(tuple(weight.shape), bias is not None, tuple(parameters.items()))
        return _call(made, called, input, weight, bias)

    return _named(layer, module.__name__, _taken(module, family))


def _from_instance(module: nn.Module, called: Mapping[str, str]) -> Callable[..., Any]:
    own = _parameters_of(module)

    def layer(
        input: Tensor, weight: Tensor, bias: Tensor | None = None, **parameters: Any
    ) -> Any:
        if any(own[name] != value for name, value in parameters.items()):
            raise ValueError(f"the layer's parameters are fixed: {own}")
        return _call(module, called, input, weight, bias)

    bias = [] if getattr(module, called["bias"], None) is None else ["bias"]
    return _named(layer, type(module).__name__, [*bias, *own])


def _parameters_of(module: nn.Module) -> dict[str, Any]:
    return {name: getattr(module, name) for name in _TUNABLE if hasattr(module, name)}


def _call(
    module: nn.Module,
    called: Mapping[str, str],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Any:
    values = {called["weight"]: weight}
    if bias is not None:
        values[called["bias"]] = bias
    return torch.func.functional_call(module, values, (input,))


def _bias_argument(module: type[nn.Module], bias: bool) -> dict[str, bool]:
    return {"bias": bias} if "bias" in _taken(module, "conv1d") else {}


def _taken(module: type[nn.Module], family: str) -> list[str]:
    """Return the names of the parameters that a class takes, bias among them."""
    parameters = inspect.signature(module).parameters
    known = find_family(family).parameters[2:]
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return [name for name in known if anything or name in parameters]


def _named(
    function: Callable[..., Any], name: str, parameters: list[str]
) -> Callable[..., Any]:
    """Give a function a layer's name, and a signature with just these parameters."""
    kinds = inspect.Parameter
    first = [kinds(each, kinds.POSITIONAL_OR_KEYWORD) for each in ("input", "weight")]
    rest = [kinds(each, kinds.KEYWORD_ONLY, default=None) for each in parameters]
    signature = inspect.Signature(first + rest)
    function.__name__ = name
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def _expect_registered(module: nn.Module, name: str) -> None:
    """Demand that a layer's weight is among its parameters."""
    found = [each for each, _ in module.named_parameters()]
    if name not in found:
        raise ValueError(
            f"module must register its {name} as a parameter: it has "
            f"{', '.join(found) or 'none'}; assign an nn.Parameter in __init__, "
            'or pass names={"weight": ...}'
        )


def _family_by_name(module: type[nn.Module]) -> str:
    """Return the family that a class, or one that it derives from, is named after."""
    for each in module.__mro__:
        for name in sorted(FAMILIES, key=len, reverse=True):
            if name.replace("_", "") in each.__name__.lower():
                return name
    raise ValueError(
        f"family must be given for {module.__name__}, whose name tells none; "
        'pass family="conv2d", say'
    )


def _family_of(module: nn.Module, weight: str) -> str:
    try:
        return _family_by_name(type(module))
    except ValueError:
        return f"conv{module.get_parameter(weight).ndim - 2}d"


def _cases_of(module: nn.Module, family: str, called: Mapping[str, str]) -> list[Case]:
    """Return cases with a layer's own parameters, and inputs of several sizes."""
    case = _smallest_case(module, family, called)
    batches = {"one sample": 1, "several samples": 3, "no batch": None}
    return [
        replace(
            case,
            name=f"{name} and {added} more pixels",
            batch=batch,
            pixels=tuple(span + added + i for i, span in enumerate(case.spans)),
        )
        for added in (0, 1, 2, 3, 6)
        for name, batch in batches.items()
    ]


def _smallest_case(module: nn.Module, family: str, called: Mapping[str, str]) -> Case:
    """Return a case with a layer's own parameters, and one pixel for each tap."""
    transposed = find_family(family).transposed
    weight = module.get_parameter(called["weight"])
    parameters = _parameters_of(module)
    if not transposed:  # torch's layers all have one
        parameters.pop("output_padding", None)
    groups = int(parameters.get("groups", 1))
    first, second, *taps = weight.shape
    sizes = (first // groups, second) if transposed else (second, first // groups)
    bias = getattr(module, called["bias"], None) is not None
    return Case("", family, 1, *sizes, tuple(taps), tuple(taps), parameters, bias)
