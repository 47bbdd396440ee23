"""What a convolution is tried at: shapes and parameters, as a table.

A row gives three spatial sizes; a function of one or two dimensions takes the first
ones. No two sizes of a row are alike where they need not be, so that a mistake in their
order shows. The one exception has every size alike: there, a sum over the wrong axes
has the right shape, and nothing but its numbers can tell.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from scipyconv.check.family import FAMILIES, Family, find_family

Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
#: A parameter as torch takes it: one number for all dimensions, or one for each.
Numbers = int | Sizes

LEVELS = ("quick", "full")
_DEFAULTS: Mapping[str, Any] = {
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "output_padding": 0,
}


@dataclass(frozen=True)
class Case:
    """One call of a convolution: shapes and parameters, without the numbers.

    Attributes:
        name: What the case is about.
        family: The name of the function, as in `torch.nn.functional`.
        batch: The number of samples, or None for an input without that dimension.
        channels: Input channels of one group.
        filters: Output channels of one group.
        pixels: Spatial sizes of the input.
        taps: Spatial sizes of the weight.
        parameters: `stride`, `padding`, `dilation`, `groups` and `output_padding`,
            where they differ from torch's defaults, as they are passed.
        bias: Whether a bias is passed.

    Examples:
        >>> case = cases("conv2d")[0]
        >>> print(case)
        one-pixel-one-tap
        >>> case.input_shape, case.weight_shape, case.output_shape
        ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1))
    """

    name: str
    family: str
    batch: int | None
    channels: int
    filters: int
    pixels: Sizes
    taps: Sizes
    parameters: Mapping[str, Any] = field(default_factory=dict)
    bias: bool = True

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    def __hash__(self) -> int:
        return hash((self.name, self.family))

    def each(self, name: str) -> Sizes:
        """Return a parameter as one number for each spatial dimension."""
        value = self.parameters.get(name, _DEFAULTS[name])
        return (value,) * len(self.pixels) if isinstance(value, int) else tuple(value)

    @property
    def groups(self) -> int:
        """The number of groups."""
        return int(self.parameters.get("groups", 1))

    @property
    def transposed(self) -> bool:
        """Whether this is a transposed convolution."""
        return FAMILIES[self.family].transposed

    @cached_property
    def input_shape(self) -> Sizes:
        """The shape of the input."""
        samples = () if self.batch is None else (self.batch,)
        return (*samples, self.groups * self.channels, *self.pixels)

    @cached_property
    def weight_shape(self) -> Sizes:
        """The shape of the weight, as torch lays it out."""
        if self.transposed:
            return (self.groups * self.channels, self.filters, *self.taps)
        return (self.groups * self.filters, self.channels, *self.taps)

    @property
    def bias_shape(self) -> Sizes:
        """The shape of the bias."""
        return (self.groups * self.filters,)

    @cached_property
    def output_shape(self) -> Sizes:
        """The shape of the output."""
        samples = () if self.batch is None else (self.batch,)
        size = map(
            self._transposed_size if self.transposed else self._size,
            range(len(self.pixels)),
        )
        return (*samples, self.groups * self.filters, *size)

    @cached_property
    def spans(self) -> Sizes:
        """How far the taps reach along each dimension."""
        return tuple(
            d * (k - 1) + 1
            for d, k in zip(self.each("dilation"), self.taps, strict=True)
        )

    @cached_property
    def zeros(self) -> Pairs:
        """The padding before and after, along each dimension."""
        padding = self.parameters.get("padding", 0)
        if padding == "valid":
            return ((0, 0),) * len(self.pixels)
        if padding == "same":  # of an odd number, the greater half comes after
            return tuple(((span - 1) // 2, span // 2) for span in self.spans)
        return tuple((p, p) for p in self.each("padding"))

    def _size(self, i: int) -> int:
        room = self.pixels[i] + sum(self.zeros[i]) - self.spans[i]
        return room // self.each("stride")[i] + 1

    def _transposed_size(self, i: int) -> int:
        return (
            (self.pixels[i] - 1) * self.each("stride")[i]
            + self.spans[i]
            - sum(self.zeros[i])
            + self.each("output_padding")[i]
        )

    @cached_property
    def features(self) -> frozenset[str]:
        """What a function may leave out altogether: parameters, and some uses of them.

        Examples:
            >>> sorted(find_case("conv2d", "groups with stride").features)
            ['bias', 'groups', 'stride', 'stride of several numbers']
        """
        found = set(self.parameters)
        for name, value in self.parameters.items():
            if isinstance(value, str):
                found = found - {name} | {f'{name}="{value}"'}
            elif isinstance(value, tuple):
                found.add(f"{name} of several numbers")
        if self.bias:
            found.add("bias")
        if self.batch is None:
            found.add("input without a batch")
        if self.batch == 0:
            found.add("an empty batch")
        return frozenset(found)

    @property
    def size(self) -> int:
        """By how much there is to look at: cases are tried in this order."""
        return (
            prod(self.input_shape) + prod(self.weight_shape) + prod(self.output_shape)
        )

    def describe(self) -> str:
        """Return the shapes and parameters, in words.

        Examples:
            >>> find_case("conv2d", "stride two").describe()
            'input (2, 2, 5, 7), weight (3, 2, 3, 3), bias, stride=2'
        """
        parts = [f"input {self.input_shape}", f"weight {self.weight_shape}"]
        parts += ["bias"] if self.bias else []
        return ", ".join(parts + [f"{k}={v!r}" for k, v in self.parameters.items()])

    def check(
        self,
        function: Callable[..., Any],
        *,
        failing: Collection[str] = (),
        **options: Any,
    ) -> None:
        """Check a function at this case alone, for a test to call.

        Args:
            function: As in `check_convolution`.
            failing: The names of cases that are known to fail, so that they may; one
                that passes is an error, and should go from the list.
            **options: As in `check_convolution`.

        Raises:
            AssertionError: the function is wrong, and the message is the report; or it
                is right, though the case is listed as failing.

        Examples:
            >>> import torch
            >>> case = find_case("conv2d", "stride two")
            >>> case.check(torch.nn.functional.conv2d)
            >>> case.check(torch.nn.functional.conv2d, failing=["stride-two"])
            Traceback (most recent call last):
            ...
            AssertionError: stride-two passes, and is listed as failing; take it off the
            list
        """
        from scipyconv.check.run import check_convolution

        report = check_convolution(function, self.family, cases=[self], **options)
        if not {self.name, str(self)} & set(failing):
            report.raise_if_failed()
        elif report.ok:
            raise AssertionError(
                f"{self} passes, and is listed as failing; take it off the list"
            )


#: name, batch, channels, filters, pixels, taps, parameters; then the level, and whether
#: there is a bias. Names say what the row is there for.
# fmt: off
_P = dict[str, Any]
_Row = tuple[str, int | None, int, int, Sizes, Sizes, _P]
_QUICK: list[_Row] = [
    ("one pixel one tap", 1, 1, 1, (1, 1, 1), (1, 1, 1), {}),
    ("one channel", 1, 1, 1, (4, 5, 3), (2, 3, 2), {}),
    ("several of everything", 2, 3, 4, (5, 6, 4), (3, 2, 2), {}),
    ("unbatched", None, 2, 3, (5, 4, 3), (2, 3, 2), {}),
    ("empty batch", 0, 2, 3, (4, 5, 3), (2, 3, 2), {}),
    ("batch of one", 1, 2, 3, (4, 6, 3), (3, 2, 2), {}),
    ("kernel as large as the input", 2, 2, 3, (3, 4, 2), (3, 4, 2), {}),
    ("kernel of one tap", 2, 3, 2, (4, 3, 2), (1, 1, 1), {}),
    ("kernel along the first dimension", 2, 2, 3, (5, 3, 4), (3, 1, 1), {}),
    ("kernel along the last dimension", 2, 2, 3, (3, 5, 4), (1, 3, 2), {}),
    ("every size alike", 3, 3, 3, (5, 5, 5), (3, 3, 3), {}),
    ("stride two", 2, 2, 3, (5, 7, 5), (3, 3, 3), {"stride": 2}),
    ("stride with a remainder", 2, 2, 3, (6, 8, 5), (3, 2, 2), {"stride": (2, 3, 1)}),
    ("stride beyond the kernel", 2, 2, 3, (8, 7, 6), (2, 1, 1), {"stride": (3, 4, 2)}),
    ("padding one", 2, 2, 3, (4, 5, 3), (3, 3, 3), {"padding": 1}),
    ("padding beyond the kernel", 2, 2, 3, (5, 6, 4), (2, 2, 2),
     {"padding": (3, 2, 2)}),
    ("padding of one dimension", 2, 2, 3, (4, 6, 5), (3, 2, 2), {"padding": (2, 0, 1)}),
    ("dilation two", 2, 2, 3, (6, 7, 5), (3, 2, 2), {"dilation": 2}),
    ("dilation of one dimension", 2, 2, 3, (5, 9, 5), (2, 3, 2),
     {"dilation": (1, 3, 2)}),
    ("groups", 2, 2, 3, (4, 5, 3), (2, 3, 2), {"groups": 2}),
    ("three groups", 2, 2, 1, (4, 3, 3), (3, 2, 2), {"groups": 3}),
    ("depthwise", 2, 1, 1, (5, 4, 3), (2, 3, 2), {"groups": 4}),
    ("depthwise two filters each", 2, 1, 2, (4, 5, 3), (3, 2, 2), {"groups": 3}),
    ("stride and padding", 2, 2, 3, (5, 7, 4), (3, 4, 2),
     {"stride": (2, 3, 1), "padding": (1, 2, 0)}),
    ("dilation with a remainder", 2, 2, 3, (8, 7, 6), (2, 3, 2),
     {"stride": (2, 3, 1), "dilation": (3, 2, 2)}),
    ("dilation and padding", 2, 2, 3, (5, 6, 4), (3, 2, 2),
     {"padding": (2, 1, 1), "dilation": (2, 3, 1)}),
    ("groups with stride", 2, 2, 3, (6, 7, 5), (3, 2, 2),
     {"stride": (2, 3, 1), "groups": 2}),
    ("groups with padding", 2, 2, 2, (4, 5, 3), (3, 2, 2),
     {"padding": (1, 2, 0), "groups": 3}),
    ("groups with dilation", 2, 2, 3, (6, 7, 5), (3, 2, 2),
     {"dilation": (2, 3, 1), "groups": 2}),
    ("groups with a batch of one", 1, 2, 3, (4, 5, 3), (2, 3, 2), {"groups": 2}),
    ("groups unbatched", None, 2, 3, (5, 4, 3), (3, 2, 2), {"groups": 2}),
    ("depthwise with stride", 2, 1, 1, (6, 7, 5), (3, 2, 2),
     {"stride": (2, 3, 1), "groups": 3}),
    ("everything at once", 2, 2, 3, (8, 9, 6), (2, 3, 2),
     {"stride": (2, 3, 1), "padding": (2, 1, 1), "dilation": (3, 2, 2), "groups": 2}),
    ("no bias and everything", 2, 3, 2, (9, 8, 6), (3, 2, 2),
     {"stride": (3, 2, 2), "padding": (1, 2, 0), "dilation": (2, 3, 1), "groups": 2}),
    ("many channels", 2, 17, 2, (4, 3, 2), (2, 2, 2), {}),
    ("many filters", 2, 2, 17, (3, 4, 2), (2, 2, 2), {}),
    ("many samples", 17, 2, 3, (3, 4, 2), (2, 3, 2), {}),
    ("input shorter than the kernel", 2, 2, 3, (2, 3, 2), (5, 4, 3),
     {"padding": (2, 1, 1)}),
    ("seventeen pixels", 1, 2, 2, (17, 18, 3), (3, 2, 2), {}),
    ("seventeen outputs", 1, 2, 2, (19, 17, 3), (3, 2, 2), {}),
    ("thirty-three outputs", 1, 2, 2, (35, 33, 2), (3, 2, 2), {}),
    ("sixty-five pixels", 1, 1, 2, (65, 66, 2), (3, 2, 2), {"stride": 2}),
    ("sixty-five outputs", 1, 1, 2, (67, 65, 2), (3, 2, 2), {}),
]
_CONVOLUTION: list[_Row] = [
    ("valid", 2, 2, 3, (4, 5, 3), (2, 3, 2), {"padding": "valid"}),
    ("same with odd kernels", 2, 2, 3, (5, 6, 4), (3, 5, 3), {"padding": "same"}),
    ("same with even kernels", 2, 2, 3, (5, 6, 4), (2, 4, 2), {"padding": "same"}),
    ("same with dilation", 2, 2, 3, (5, 6, 4), (2, 4, 2),
     {"padding": "same", "dilation": (3, 1, 2)}),
    ("same with a stride of one", 2, 2, 3, (5, 4, 3), (3, 2, 2),
     {"stride": (1, 1, 1), "padding": "same"}),
]
_TRANSPOSED: list[_Row] = [
    ("output padding", 2, 2, 3, (3, 4, 2), (3, 2, 2),
     {"stride": (2, 3, 1), "output_padding": (1, 2, 0)}),
    ("output padding and padding", 2, 2, 3, (4, 3, 3), (3, 4, 3),
     {"stride": 2, "padding": (1, 2, 0), "output_padding": 1}),
    ("output padding by dilation", 2, 2, 3, (4, 3, 2), (2, 3, 2),
     {"output_padding": (2, 1, 1), "dilation": (3, 2, 2)}),
    ("output padding with groups", 2, 2, 3, (3, 4, 2), (2, 3, 2),
     {"stride": (3, 2, 2), "output_padding": (2, 1, 1), "groups": 2}),
]
_FULL: list[_Row] = [
    ("one sample of one pixel", 1, 3, 2, (1, 1, 1), (1, 1, 1), {}),
    ("one row", 2, 2, 3, (1, 9, 3), (1, 4, 2), {}),
    ("one column", 2, 2, 3, (9, 1, 3), (4, 1, 2), {}),
    ("kernel of five", 2, 2, 3, (7, 8, 6), (5, 5, 4), {}),
    ("kernel of seven and padding", 1, 2, 3, (9, 8, 7), (7, 6, 4),
     {"padding": (3, 2, 1)}),
    ("stride as the kernel", 2, 2, 3, (7, 8, 5), (3, 2, 2), {"stride": (3, 2, 2)}),
    ("stride equal to dilation", 2, 2, 3, (8, 9, 6), (3, 3, 2),
     {"stride": (2, 3, 1), "dilation": (2, 3, 1)}),
    ("dilation beyond the input", 2, 2, 3, (4, 5, 3), (2, 2, 2),
     {"padding": (2, 3, 2), "dilation": (5, 6, 4)}),
    ("empty batch and everything", 0, 2, 3, (8, 9, 6), (2, 3, 2),
     {"stride": (2, 3, 1), "padding": (2, 1, 1), "dilation": (3, 2, 2), "groups": 2}),
    ("unbatched and everything", None, 2, 3, (8, 9, 6), (2, 3, 2),
     {"stride": (2, 3, 1), "padding": (2, 1, 1), "dilation": (3, 2, 2), "groups": 2}),
    ("depthwise and everything", 2, 1, 2, (9, 8, 6), (3, 2, 2),
     {"stride": (2, 3, 1), "padding": (1, 2, 0), "dilation": (2, 3, 1), "groups": 3}),
    ("many groups", 2, 1, 1, (4, 5, 3), (2, 3, 2), {"groups": 17}),
    ("thirty-three channels", 1, 33, 3, (3, 4, 2), (2, 2, 2), {}),
    ("sixty-five filters", 1, 3, 65, (3, 4, 2), (2, 2, 2), {}),
    ("thirty-three samples", 33, 2, 3, (3, 4, 2), (2, 3, 2), {"stride": 2}),
    ("one hundred twenty-nine pixels", 1, 1, 2, (129, 33, 2), (3, 3, 2), {}),
]


# fmt: on


def cases(family: str = "conv2d", level: str = "quick") -> list[Case]:
    """Return the cases that a convolution is checked at, the smallest first.

    Args:
        family: The function's name, as in `torch.nn.functional`.
        level: `"quick"`, or `"full"` for more edges, larger sizes and random cases.

    Returns:
        The cases. They are the same on every run.

    Raises:
        ValueError: an unknown family or level.

    Examples:
        In a file of tests, one test for each case::

            @pytest.mark.parametrize("case", cases("conv2d"), ids=str)
            def test_my_convolution(case):
                case.check(my_convolution)

        >>> len(cases("conv1d", "full")) > len(cases("conv1d"))
        True
    """
    kind = find_family(family)
    if level not in LEVELS:
        raise ValueError(
            f'level must be "quick" or "full": it is {level!r}; pass level="quick", say'
        )
    rows = _QUICK + (_TRANSPOSED if kind.transposed else _CONVOLUTION)
    found = [_make(kind, row) for row in rows + (_FULL if level == "full" else [])]
    found += random_cases(family) if level == "full" else []
    return sorted(filter(_leaves_an_output, found), key=lambda case: case.size)


def find_case(family: str, name: str) -> Case:
    """Return the case of a name, written with spaces or hyphens.

    Raises:
        ValueError: no case has that name.
    """
    for case in cases(family, "full"):
        if name in (case.name, str(case)):
            return case
    raise ValueError(
        f"case must be one that cases({family!r}, 'full') lists: it is {name!r}"
    )


def random_cases(family: str, count: int = 40, seed: int = 0) -> list[Case]:
    """Return random cases, the same ones for the same seed.

    Examples:
        >>> random_cases("conv2d", 3) == random_cases("conv2d", 5)[:3]
        True
    """
    kind, random = find_family(family), np.random.default_rng(seed)
    found: list[Case] = []
    while len(found) < count:
        case = _random_case(kind, random, f"random {len(found)}")
        found += [case] if _leaves_an_output(case) else []
    return found


def _random_case(kind: Family, random: np.random.Generator, name: str) -> Case:
    def draw(least: int, most: int) -> Sizes:
        return tuple(map(int, random.integers(least, most + 1, kind.dims)))

    stride, dilation = draw(1, 3), draw(1, 3)
    parameters = {
        "stride": stride,
        "padding": draw(0, 2),
        "dilation": dilation,
        "groups": int(random.integers(1, 4)),
    }
    if kind.transposed:
        room = [max(s, d) for s, d in zip(stride, dilation, strict=True)]
        parameters["output_padding"] = tuple(int(random.integers(0, r)) for r in room)
    batch, channels, filters = map(int, random.integers(1, 4, 3))
    return Case(
        name,
        kind.name,
        batch,
        channels,
        filters,
        draw(3, 9),
        draw(1, 4),
        parameters,
        bias=bool(random.integers(2)),
    )


def _make(kind: Family, row: _Row) -> Case:
    name, batch, channels, filters, pixels, taps, parameters = row
    dims = kind.dims
    cut = {
        key: value[:dims] if isinstance(value, tuple) else value
        for key, value in parameters.items()
    }
    return Case(
        name,
        kind.name,
        batch,
        channels,
        filters,
        pixels[:dims],
        taps[:dims],
        cut,
        bias=not name.startswith("no bias"),
    )


def _leaves_an_output(case: Case) -> bool:
    return all(n > 0 for n in case.output_shape[-len(case.pixels) :])


def without_bias(case: Case) -> Case:
    """Return the same case without a bias."""
    return replace(case, bias=False)
