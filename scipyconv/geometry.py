"""The geometry of a convolution: all there is to know about it but its numbers.

A convolution layer is one trilinear form of an input x, a weight w and a cotangent y:
T(x, w, y) is the sum over n, o, c, t and k of y[n, o, t] · w[o, c, k] · x[n, c, p],
with p = stride·t + dilation·k - before. Along each spatial dimension, the tap k of the
window at t lies on the pixel p, and `before` and `after` zeros surround the input. A
`Geometry` holds these numbers and the three shapes. It travels whole from the checked
arguments to the engine; only the operator's schema takes it apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Generic, TypeVar, overload

Sizes = tuple[int, ...]
#: Zeros (before, after) for each spatial dimension.
Pairs = tuple[tuple[int, int], ...]

#: The role of a result, and the roles of the two operands it is made from.
OPERANDS = {"y": ("x", "w"), "x": ("w", "y"), "w": ("x", "y")}

Value = TypeVar("Value")


class _once(Generic[Value]):  # noqa: N801 - it reads as a decorator
    """A property that is computed once.

    `functools.cached_property` takes a lock in Python 3.11, which a fork can leave
    closed.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self.compute, self.__doc__ = compute, compute.__doc__

    @overload
    def __get__(self, geometry: None, owner: type) -> "_once[Value]": ...
    @overload
    def __get__(self, geometry: object, owner: type) -> Value: ...

    def __get__(self, geometry: Any, owner: type) -> Any:
        if geometry is None:
            return self
        value = vars(geometry)[self.compute.__name__] = self.compute(geometry)
        return value


@dataclass(frozen=True)
class Geometry:
    """Where the taps of every window lie, for arrays of these shapes.

    Attributes:
        x: The input's shape, `(N, groups·C, P...)`, without its border of zeros.
        w: The weight's shape, `(groups·O, C, K...)`.
        y: The output's shape, `(N, groups·O, T...)`, which is the cotangent's too.
        stride: The step from one window to the next, one for each spatial dimension.
        padding: The zeros (before, after) around x, for each spatial dimension.
        dilation: The step from one tap to the next, one for each spatial dimension.
        groups: The number of groups; each sees only its own channels.

    Examples:
        >>> x, w, y = (1, 2, 9), (4, 2, 3), (1, 4, 4)
        >>> geometry = Geometry(x, w, y, (2,), ((1, 0),), (1,), 1)
        >>> geometry.taps, geometry.bordered, geometry.products
        ((3,), (1, 2, 10), 96)
    """

    x: Sizes
    w: Sizes
    y: Sizes
    stride: Sizes
    padding: Pairs
    dilation: Sizes
    groups: int

    def shape(self, role: str) -> Sizes:
        """Return the shape of x, w or y."""
        sizes: Sizes = getattr(self, role)
        return sizes

    @_once
    def pixels(self) -> Sizes:
        """The spatial sizes of x, without its border."""
        return self.x[2:]

    @_once
    def taps(self) -> Sizes:
        """The spatial sizes of w."""
        return self.w[2:]

    @_once
    def outputs(self) -> Sizes:
        """The spatial sizes of y."""
        return self.y[2:]

    @property
    def batch(self) -> int:
        """The number of samples, N."""
        return self.x[0]

    @property
    def channels(self) -> int:
        """The input channels of one group, C."""
        return self.w[1]

    @_once
    def filters(self) -> int:
        """The output channels of one group, O."""
        return self.w[0] // self.groups

    @_once
    def bordered(self) -> Sizes:
        """The shape of x with its border of zeros."""
        return bordered(self.x, self.padding)

    @_once
    def inside(self) -> tuple[Any, ...]:
        """Where x is in x with its border: an index."""
        sides = zip(self.pixels, self.padding, strict=True)
        return (..., *(slice(before, before + n) for n, (before, _) in sides))

    def borderless(self) -> "Geometry":
        """Return the same geometry with the border as a part of x."""
        return replace(
            self,
            x=bordered(self.x, self.padding),
            padding=((0, 0),) * len(self.padding),
        )

    @_once
    def span(self) -> Sizes:
        """The pixels from a window's first tap to its last, both included."""
        return spans(self.taps, self.dilation)

    @_once
    def steps(self) -> tuple[Sizes, Sizes]:
        """The stride and the dilation, and 0 where there is but one output, or one tap.

        A step that is never taken may be larger than any memory.
        """
        return (
            tuple(
                s if t > 1 else 0
                for s, t in zip(self.stride, self.outputs, strict=True)
            ),
            tuple(
                d if k > 1 else 0 for d, k in zip(self.dilation, self.taps, strict=True)
            ),
        )

    @_once
    def unseen(self) -> Pairs:
        """The outputs at each end that saw the border alone, and no pixel."""
        return tuple(
            (max(-before, 0), max(-after, 0)) for before, after in self._around
        )

    @_once
    def turned(self) -> "Geometry":
        """The correlation that the input's gradient is: of y with the flipped weights.

        For a stride of 1, and without the outputs that are `unseen`.

        Examples:
            >>> x, w, y = (1, 2, 9), (6, 2, 3), (1, 6, 7)
            >>> turned = Geometry(x, w, y, (1,), ((0, 0),), (1,), 1).turned
            >>> turned.x, turned.w, turned.y, turned.padding
            ((1, 6, 7), (2, 6, 3), (1, 2, 9), ((2, 2),))
        """
        seen = (
            t - sum(ends) for t, ends in zip(self.outputs, self.unseen, strict=True)
        )
        zeros = ((max(before, 0), max(after, 0)) for before, after in self._around)
        return Geometry(
            x=(*self.y[:2], *seen),
            w=(self.x[1], self.filters, *self.taps),
            y=self.x,
            stride=self.stride,
            padding=tuple(zeros),
            dilation=self.dilation,
            groups=self.groups,
        )

    @property
    def _around(self) -> Pairs:
        """The zeros around the cotangent; negative where outputs are unseen."""
        return tuple(
            (span - 1 - before, n - t + before)
            for span, n, t, (before, _) in zip(
                self.span, self.pixels, self.outputs, self.padding, strict=True
            )
        )

    @_once
    def products(self) -> int:
        """The number of terms of T: the multiplications that the definition takes."""
        places = self.batch * prod(self.outputs)
        return places * self.groups * self.filters * self.channels * prod(self.taps)


def bordered(shape: Sequence[int], padding: Pairs) -> Sizes:
    """Return a shape with its border of zeros.

    Examples:
        >>> bordered((8, 3, 5), ((1, 2),))
        (8, 3, 8)
    """
    first = len(shape) - len(padding)
    sides = zip(shape[first:], padding, strict=True)
    return (*shape[:first], *(n + before + after for n, (before, after) in sides))


def spans(taps: Sizes, dilation: Sizes) -> Sizes:
    """Return the pixels that a dilated kernel reaches over, along each dimension.

    Examples:
        >>> spans((3, 1), (2, 2))
        (5, 1)
    """
    return tuple(d * (k - 1) + 1 for k, d in zip(taps, dilation, strict=True))
