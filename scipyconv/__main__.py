"""The founding example: `python -m scipyconv` shows a layer and proves its gradients.

The exit status is 0 if gradcheck passes for the input, the filter and the bias, and 1
if not. `python -m scipyconv check package.module:function` checks a function of yours.
"""

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import gradcheck

from scipyconv import ScipyConv2d, ScipyConv2dFunction

EPS = 1e-6  # gradcheck's own step


def main() -> int:
    """Print the example and return the exit status."""
    torch.manual_seed(0)
    layer = ScipyConv2d(3, 3, dtype=torch.float64)
    x = torch.randn(10, 10, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    g = torch.randn_like(y)
    y.backward(g)

    print(f"{layer}\non a random input, in float64; gradients of the sum of g times y.")
    values = {"input": x, **dict(layer.named_parameters())}
    for name, value in values.items():
        show(name, value)
    show("output y", y)
    show("random cotangent g", g)
    for name, value in values.items():
        show(f"gradient of the {name}", value.grad)

    print("\nargument   gradcheck   largest deviation from central differences")
    values = {name: value.detach() for name, value in values.items()}
    verdicts = [check(name, values) for name in values]
    return 0 if all(verdicts) else 1


def show(title: str, values: Tensor | None) -> None:
    """Print a title, the shape and the numbers, at most ten to a line of 80 columns."""
    assert values is not None
    print(f"\n{title}, {' by '.join(map(str, values.shape))}")
    for row in values.detach().reshape(-1, values.shape[-1]).tolist():
        print("".join(f"{value:z8.3f}" for value in row))


def check(name: str, values: dict[str, Tensor]) -> bool:
    """Print and return gradcheck's verdict on one argument, the others held fixed."""

    def layer(value: Tensor) -> Tensor:
        return ScipyConv2dFunction.apply(**{**values, name: value})

    passed = gradcheck(
        layer, values[name].clone().requires_grad_(), raise_exception=False
    )
    verdict = "passed" if passed else "FAILED"
    print(f"{name:11}{verdict:12}{deviation(layer, values[name]):.1e}")
    return passed


def deviation(function: Callable[[Tensor], Tensor], value: Tensor) -> float:
    """Return the largest difference between backward's Jacobian and the slopes."""
    jacobian = torch.func.jacrev(function)(value)
    steps = EPS * torch.eye(value.numel(), dtype=value.dtype).reshape(-1, *value.shape)
    slopes = [
        (function(value + step) - function(value - step)) / (2 * EPS) for step in steps
    ]
    return float(
        (jacobian - torch.stack(slopes, dim=-1).reshape(jacobian.shape)).abs().max()
    )


def run(arguments: Sequence[str]) -> int:
    """Show the example, or run the command that the first argument names."""
    if not arguments:
        return main()
    command, *rest = arguments
    if command == "check":
        from scipyconv.check.command import main as check_command

        return check_command(rest)
    print(
        f"python -m scipyconv: the only command is check: it is {command!r}; "
        "call python -m scipyconv check --help",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
