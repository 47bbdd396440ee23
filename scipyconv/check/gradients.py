"""Gradcheck, done right, in one call: for any differentiable function at all."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scipyconv.check.hidden import find_hidden
from scipyconv.check.slopes import Outputs, Slope, exact_slope, inner, swept_slope
from scipyconv.check.subject import Raised, attempt

#: All directions of so small an argument are tried, and random ones of a larger one.
_SMALL, _RANDOM = 64, 16
_grad = torch.autograd.grad


@dataclass(frozen=True)
class GradientRow:
    """What was found about the gradient of one argument.

    Attributes:
        argument: Its name.
        ok: Whether the gradient is right.
        method: `"exact"`, `"sweep"`, or `""` where no slope could be compared.
        message: What was found.
    """

    argument: str
    ok: bool
    method: str
    message: str


class GradientReport:
    """What `check_gradients` found.

    Attributes:
        rows: One for each argument, and one for what concerns all of them.
        advice: What would make the check sharper.
    """

    def __init__(self, rows: Sequence[GradientRow], advice: Sequence[str]) -> None:
        self.rows, self.advice = tuple(rows), tuple(advice)

    @property
    def ok(self) -> bool:
        """Whether every gradient is right."""
        return all(row.ok for row in self.rows)

    def raise_if_failed(self) -> None:
        """Raise an error, with the report as its message, if a gradient is wrong.

        Raises:
            AssertionError: a gradient is wrong.
        """
        if not self.ok:
            raise AssertionError(f"\n{self}")

    def __str__(self) -> str:
        lines = [
            f"{'ok   ' if row.ok else 'WRONG'} {row.argument}: {row.message}"
            for row in self.rows
        ]
        return "\n".join(lines + [f"advice: {text}" for text in self.advice])


def check_gradients(
    function: Callable[..., Any], inputs: Tensor | Sequence[Any] = (), *, seed: int = 0
) -> GradientReport:
    """Check the gradients of any differentiable function, in every argument it has.

    Arguments are the floating-point and complex tensors among the inputs, and what no
    call
    shows: the parameters of a module, and those that a closure hides. Where the
        function is
    linear in an argument, the comparison is exact, with integers, a step of one and no
    tolerance, in any dtype. Elsewhere slopes at many steps tell how well they are
    known. Cotangents are random, and expanded from one number, as that of a sum is.

    Args:
        function: Takes the inputs, and returns a tensor or several.
        inputs: A tensor, or a sequence of arguments. They are copied.
        seed: For the random directions and cotangents.

    Returns:
        The report, one row for each argument.

    Raises:
        ValueError: no argument is differentiable.

    Examples:
        >>> layer = torch.nn.Linear(3, 2)
        >>> print(check_gradients(layer, torch.ones(4, 3)))
        ok    input 0: linear; exact in 12 directions
        ok    weight: linear; exact in 6 directions
        ok    bias: linear; exact in 2 directions
    """
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    problem = _Problem(function, given, torch.Generator().manual_seed(seed))
    with problem.restored():
        rows = list(problem.rows())
    return GradientReport(rows, list(problem.advice(rows)))


class _Problem:
    """A function, and its arguments as leaves whose values may be set."""

    def __init__(
        self,
        function: Callable[..., Any],
        given: Sequence[Any],
        random: torch.Generator,
    ) -> None:
        self.function, self.random = function, random
        self.inputs = [_leaf(value) for value in given]
        self.leaves = {
            f"input {i}": value
            for i, value in enumerate(self.inputs)
            if isinstance(value, Tensor) and value.requires_grad
        }
        self.leaves |= find_hidden(function)
        if not self.leaves:
            raise ValueError(
                "inputs must include a floating-point tensor, or the function "
                "hide a parameter: nothing here has a gradient; pass "
                "torch.ones(3), say"
            )
        self.original = {
            name: leaf.detach().clone() for name, leaf in self.leaves.items()
        }

    def restored(self) -> "_Restored":
        return _Restored(self)

    def set(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self.leaves[name].copy_(value)

    def outputs(self) -> Outputs:
        found = attempt(self.function, *self.inputs)
        each = found if isinstance(found, (tuple, list)) else (found,)
        return tuple(y for y in each if isinstance(y, Tensor) and _differentiable(y))

    def rows(self) -> Iterator[GradientRow]:
        try:
            first, second = self.outputs(), self.outputs()
        except Raised as raised:
            yield GradientRow("function", False, "", f"it raises {raised}")
            return
        if not first:
            yield GradientRow(
                "function", False, "", "it returns no floating-point tensor"
            )
        elif not all(map(torch.equal, first, second)):
            yield GradientRow(
                "function",
                False,
                "",
                "two calls with the same arguments "
                "differ; switch off what is random, such as dropout, by .eval()",
            )
        elif not any(y.requires_grad for y in first):
            yield GradientRow(
                "function",
                False,
                "",
                "its output does not require a gradient: gradients are silently lost",
            )
        else:
            yield from (self.row(name) for name in self.leaves)

    def row(self, name: str) -> GradientRow:
        try:
            return self.exact(name) or self.swept(name)
        except Raised as raised:
            return GradientRow(name, False, "", f"backward raises {raised}")
        finally:
            self.set(self.original)

    def exact(self, name: str) -> GradientRow | None:
        """Compare in integers, or return None if the function is not linear here."""
        for most in (3, 1):
            self.set(
                {each: self.integers(leaf, most) for each, leaf in self.leaves.items()}
            )
            values = {each: leaf.detach().clone() for each, leaf in self.leaves.items()}
            cotangents = tuple(self.integers(y, most) for y in self.outputs())
            row = self.compare(
                name, values[name], cotangents, exact_slope, "exact", most
            )
            if row is not None:
                return row
        return None

    def swept(self, name: str) -> GradientRow:
        self.set(self.original)
        cotangents = tuple(
            torch.randn(y.shape, generator=self.random, dtype=y.dtype).to(y.device)
            for y in self.outputs()
        )
        row = self.compare(
            name, self.original[name], cotangents, swept_slope, "sweep", 0
        )
        assert row is not None  # a sweep always tells a slope
        return row

    def compare(
        self,
        name: str,
        value: Tensor,
        cotangents: Outputs,
        slope_of: Callable[..., Slope | None],
        method: str,
        most: int,
    ) -> GradientRow | None:
        """Compare gradient and slope along many directions, for two cotangents."""
        constant = tuple(
            torch.ones((), dtype=g.dtype, device=g.device).expand(g.shape)
            for g in cotangents
        )
        count, worst = 0, None
        for cotangent in (cotangents, constant):
            gradient = self.gradient(name, cotangent)
            for direction in self.directions(value, most):
                slope = slope_of(
                    lambda t, v=direction: self.moved(name, value, v, t), cotangent
                )
                if slope is None:
                    return None
                came = 0.0 if gradient is None else inner([gradient], [direction])
                if not slope.explains(came):
                    return GradientRow(
                        name,
                        False,
                        method,
                        _explain(slope, came, gradient is None, cotangent is constant),
                    )
                count += 1
                worst = max(worst or slope, slope, key=lambda each: each.known_to)
        return GradientRow(name, True, method, _praise(method, count // 2, worst))

    def gradient(self, name: str, cotangents: Outputs) -> Tensor | None:
        outputs = [
            (y, g)
            for y, g in zip(self.outputs(), cotangents, strict=True)
            if y.requires_grad
        ]
        ys, gs = zip(*outputs, strict=True)
        found: Tensor | None = attempt(
            _grad, ys, self.leaves[name], gs, allow_unused=True
        )[0]
        return found

    def moved(
        self, name: str, value: Tensor, direction: Tensor, step: float
    ) -> Outputs:
        self.set({name: value + step * direction})
        outputs = tuple(y.detach().clone() for y in self.outputs())
        self.set({name: value})
        return outputs

    def directions(self, value: Tensor, most: int) -> Iterator[Tensor]:
        """Yield each unit direction of a small argument, or some random ones."""
        units: list[Any] = [1, 1j] if value.is_complex() else [1]
        if value.numel() <= _SMALL:
            for i in range(value.numel()):
                for unit in units:
                    direction = torch.zeros_like(value)
                    direction.view(-1)[i] = unit
                    yield direction
        else:
            for _ in range(_RANDOM):
                yield self.integers(value, most or 3)

    def integers(self, like: Tensor, most: int) -> Tensor:
        def draw() -> Tensor:
            return torch.randint(-most, most + 1, like.shape, generator=self.random)

        drawn = (
            torch.complex(draw().double(), draw().double())
            if like.is_complex()
            else draw()
        )
        return drawn.to(like.dtype).to(like.device)

    def advice(self, rows: Sequence[GradientRow]) -> Iterator[str]:
        rough = [
            name
            for name, leaf in self.leaves.items()
            if torch.finfo(leaf.dtype).eps > 1e-10
        ]
        swept = {row.argument for row in rows if row.method == "sweep"}
        if swept & set(rough):
            yield (
                "slopes of what is not linear are known to ten digits in float64, and "
                f"to a few in {self.leaves[rough[0]].dtype}; pass float64 if the "
                "function takes it"
            )


class _Restored:
    """Puts the arguments' values back at the end."""

    def __init__(self, problem: _Problem) -> None:
        self.problem = problem

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.problem.set(self.problem.original)


def _leaf(value: Any) -> Any:
    if isinstance(value, Tensor) and _differentiable(value):
        return value.detach().clone().requires_grad_()
    return value


def _differentiable(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _explain(slope: Slope, came: float, missing: bool, constant: bool) -> str:
    which = "expanded" if constant else "random"
    found = (
        "there is no gradient (None)" if missing else f"the gradient says {came:.6g}"
    )
    known = "exactly" if not slope.known_to else f"known to {slope.known_to:.1g}"
    return (
        f"along one direction, with a cotangent that is {which}, {found}, and the "
        f"slope is {slope.value:.6g}, {known}"
    )


def _praise(method: str, count: int, worst: Slope | None) -> str:
    if method == "exact" or worst is None:
        return f"linear; exact in {count} directions"
    return (
        f"right in {count} directions; slopes known to {worst.known_to:.1g}, best with "
        f"a step of {worst.step:.0e}"
    )
