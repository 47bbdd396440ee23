"""The function under test, and how it is called.

Whatever it raises, and whatever it returns that is not a tensor, becomes a `Raised` or
a `Wrong` here, so that no probe needs to expect anything else.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from scipyconv.check.cases import Case
from scipyconv.check.device import Device
from scipyconv.check.family import Family
from scipyconv.check.signature import find_taken


class Raised(Exception):  # noqa: N818 - not an error of ours
    """The function raised an error where it should have returned a result."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(f"{type(error).__name__}: {first_line(error)}")


class Wrong(Exception):  # noqa: N818
    """The function did something that it should not have done.

    Args:
        message: What, in words an engineer can act on.
        verdict: `"logic"`, `"rounding"` or `"contract"`.
        quantity: Which result is wrong, if one is.
    """

    def __init__(
        self, message: str, verdict: str = "contract", quantity: str = ""
    ) -> None:
        self.verdict, self.quantity = verdict, quantity
        super().__init__(message)


class Subject:
    """A callable with the signature of one of torch's convolutions, or of a part of it.

    Args:
        function: The callable.
        family: Which of torch's functions it stands in for.
        adapter: Called in its place, as `adapter(function, input, weight, ...)`.
        device: Where it takes its tensors.

    Raises:
        TypeError: the function is not callable, or its signature does not fit.

    Examples:
        >>> from scipyconv.check.family import find_family
        >>> def plain(x, kernel, stride=1): ...
        >>> Subject(plain, find_family("conv2d")).left_out
        ('bias', 'padding', 'dilation', 'groups')
    """

    def __init__(
        self,
        function: Callable[..., Any],
        family: Family,
        adapter: Callable[..., Any] | None = None,
        device: Device | None = None,
    ) -> None:
        if not callable(function):
            raise TypeError(
                "function must be callable, as torch.nn.functional.conv2d is: it "
                f"is {function!r}; pass the function itself, say"
            )
        self.function = function if adapter is None else partial(adapter, function)
        self.name = getattr(function, "__name__", type(function).__name__)
        self.family = family
        self.device = device or Device()
        self.transforms: set[str] = set()  #: dtypes in which it rounds integers
        self.sounded: set[str] = (
            set()
        )  #: dtypes in which that was tried at a large case
        self.patience = 3  #: how often a wrong result is worth a second look
        self._taken = find_taken(self.function, family)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Those of torch's parameters that it takes."""
        taken = {*self._taken.by_position, *self._taken.by_name}
        return tuple(name for name in self.family.parameters if name in taken)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Those of torch's parameters that it does not take."""
        return tuple(
            name for name in self.family.parameters if name not in self.parameters
        )

    def takes(self, case: Case) -> bool:
        """Whether its parameters suffice for a case."""
        asked = {*case.parameters, *(["bias"] if case.bias else [])}
        return asked <= set(self.parameters)

    def settle(self) -> bool:
        """Wait for work that may be under way, and return whether that was worth it."""
        self.patience -= 1
        if self.patience >= 0:
            self.device.synchronize()
        return self.patience >= 0

    def call(self, values: Mapping[str, Any]) -> Any:
        """Call it with arguments by torch's names.

        Raises:
            Raised: it raised an error, other than an interrupt.
        """
        positional, named = self._taken.arrange(values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return attempt(self.function, *positional, **named)

    def result(self, case: Case, operands: Mapping[str, Tensor]) -> Tensor:
        """Return the tensor that it makes of a case's operands.

        Raises:
            Raised: it raised an error.
            Wrong: it returned something other than a tensor.
        """
        y = self.call({**case.parameters, **operands})
        if not isinstance(y, Tensor):
            raise Wrong(
                f"the function returned {type(y).__name__}, not torch.Tensor; return "
                "a tensor, or pass an adapter that makes one"
            )
        return y


def attempt(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call a function, and turn what it raises into `Raised`, but for an interrupt."""
    try:
        return function(*arguments, **named)
    except (KeyboardInterrupt, Wrong, Raised):
        raise
    except BaseException as error:
        raise Raised(error) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, shortened to 200 characters."""
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if len(lines[0]) <= 200 else lines[0][:197] + "..."
