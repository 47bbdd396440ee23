"""Small geometries of the six functions, and torch's answer to each: a table beside the
tests.

The arrays are tiny, since gradcheck calls a function some hundred times, and neither
square nor symmetric."""

from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

import scipyconv.functional


class Case(NamedTuple):
    name: str  #: the function's, and what is special
    input: tuple[int, ...]
    weight: tuple[int, ...]
    options: dict[str, Any] = {}

    @property
    def function(self):
        return self.name.split()[0]

    @property
    def dims(self):
        return int(self.function[-2])

    @property
    def transposed(self):
        return "transpose" in self.function

    @property
    def outputs(self):
        groups = self.options.get("groups", 1)
        return self.weight[1] * groups if self.transposed else self.weight[0]

    @property
    def ours(self):
        return partial(getattr(scipyconv.functional, self.function), **self.options)

    @property
    def theirs(self):
        return partial(by_torch, self.function, **self.options)

    def tensors(self, dtype=torch.float64, requires_grad=False):
        shapes = self.input, self.weight, (self.outputs,)
        return [
            torch.randn(s, dtype=dtype, requires_grad=requires_grad) for s in shapes
        ]


CASES = [
    Case("conv1d", (2, 2, 5), (3, 2, 2)),
    Case("conv1d stride with a remainder", (2, 2, 6), (2, 2, 2), {"stride": 3}),
    Case(
        "conv1d dilation shares a factor with stride",
        (1, 2, 9),
        (2, 2, 3),
        {"stride": 2, "dilation": 4, "padding": 1},
    ),
    Case("conv1d same, even kernel", (2, 1, 5), (2, 1, 4), {"padding": "same"}),
    Case(
        "conv1d same with stride",
        (2, 1, 5),
        (2, 1, 3),
        {"padding": "same", "stride": 2},
    ),
    Case("conv1d asymmetric", (1, 2, 4), (2, 2, 3), {"padding": ((2, 0),)}),
    Case(
        "conv1d depthwise, unbatched", (3, 5), (6, 1, 2), {"groups": 3, "dilation": 2}
    ),
    Case("conv2d", (2, 2, 3, 4), (3, 2, 2, 3)),
    Case(
        "conv2d valid",
        (1, 2, 3, 4),
        (2, 2, 2, 3),
        {"padding": "valid", "stride": (1, 2)},
    ),
    Case(
        "conv2d all",
        (2, 4, 3, 4),
        (4, 2, 2, 3),
        {"stride": (3, 2), "padding": (1, 2), "dilation": (2, 1), "groups": 2},
    ),
    Case(
        "conv2d same with stride and dilation",
        (1, 1, 4, 5),
        (2, 1, 3, 2),
        {"padding": "same", "stride": (2, 3), "dilation": (1, 2)},
    ),
    Case(
        "conv2d asymmetric",
        (1, 2, 3, 4),
        (2, 1, 2, 3),
        {"padding": ((0, 2), (1, 0)), "stride": 2, "groups": 2},
    ),
    Case(
        "conv2d padding wider than the kernel",
        (1, 1, 2, 3),
        (2, 1, 2, 2),
        {"padding": 3, "stride": 3},
    ),
    Case("conv2d pointwise, unbatched", (3, 2, 3), (2, 3, 1, 1), {"stride": 2}),
    Case("conv3d", (1, 2, 2, 3, 3), (2, 2, 2, 2, 1)),
    Case(
        "conv3d all",
        (1, 2, 3, 2, 4),
        (2, 1, 2, 1, 2),
        {"stride": (2, 1, 3), "padding": (1, 0, 1), "dilation": (1, 2, 2), "groups": 2},
    ),
    Case(
        "conv3d asymmetric, unbatched",
        (1, 2, 3, 2),
        (2, 1, 2, 1, 3),
        {"padding": ((1, 0), (0, 0), (0, 2))},
    ),
    Case("conv_transpose1d", (2, 2, 3), (2, 3, 2)),
    Case(
        "conv_transpose1d output_padding",
        (1, 2, 3),
        (2, 1, 3),
        {"stride": 3, "output_padding": 2, "padding": 1},
    ),
    Case(
        "conv_transpose1d output_padding past the stride",
        (1, 2, 2),
        (2, 2, 2),
        {"stride": 1, "dilation": 3, "output_padding": 2},
    ),
    Case(
        "conv_transpose1d asymmetric, unbatched",
        (2, 3),
        (2, 2, 3),
        {"stride": 2, "padding": ((2, 0),), "output_padding": 1},
    ),
    Case(
        "conv_transpose1d gaps between the stamps", (2, 1, 3), (1, 2, 2), {"stride": 4}
    ),
    Case("conv_transpose2d", (2, 2, 2, 3), (2, 2, 2, 3)),
    Case(
        "conv_transpose2d all",
        (2, 4, 2, 3),
        (4, 1, 2, 3),
        {
            "stride": (3, 2),
            "padding": (0, 1),
            "output_padding": (2, 1),
            "groups": 2,
            "dilation": (1, 2),
        },
    ),
    Case(
        "conv_transpose2d asymmetric",
        (1, 2, 2, 2),
        (2, 2, 3, 2),
        {"padding": ((1, 0), (0, 2)), "stride": (1, 2), "output_padding": (0, 1)},
    ),
    Case(
        "conv_transpose2d depthwise",
        (1, 2, 3, 2),
        (2, 2, 2, 1),
        {"groups": 2, "stride": 2},
    ),
    Case("conv_transpose3d", (1, 2, 1, 2, 3), (2, 2, 2, 1, 2)),
    Case(
        "conv_transpose3d all, unbatched",
        (2, 2, 2, 2),
        (2, 1, 1, 2, 2),
        {
            "stride": (2, 1, 3),
            "padding": (0, 1, 1),
            "output_padding": (1, 0, 2),
            "groups": 2,
            "dilation": (1, 3, 1),
        },
    ),
]
#: One of each function, with every number different from its default.
RICH = [
    next(c for c in CASES if c.function == f and any(word in c.name for word in words))
    for f, *words in [
        ("conv1d", "factor"),
        ("conv2d", "all"),
        ("conv3d", "all"),
        ("conv_transpose1d", "asymmetric"),
        ("conv_transpose2d", "all"),
        ("conv_transpose3d", "all"),
    ]
]
#: So small that second derivatives can be compared entry by entry.
TINY = [
    Case(
        "conv1d tiny",
        (1, 2, 4),
        (2, 1, 2),
        {"stride": 2, "padding": ((1, 0),), "groups": 2},
    ),
    Case(
        "conv2d tiny",
        (1, 1, 3, 4),
        (2, 1, 2, 2),
        {"stride": (1, 2), "dilation": (2, 1)},
    ),
    Case(
        "conv3d tiny",
        (1, 1, 2, 1, 3),
        (2, 1, 2, 1, 2),
        {"padding": (0, 0, 1), "stride": 2},
    ),
    Case(
        "conv_transpose1d tiny",
        (1, 2, 2),
        (2, 1, 2),
        {"stride": 2, "output_padding": 1, "groups": 2},
    ),
    Case(
        "conv_transpose2d tiny",
        (1, 1, 2, 2),
        (1, 2, 2, 1),
        {"stride": (2, 1), "padding": (1, 0)},
    ),
    Case(
        "conv_transpose3d tiny",
        (1, 1, 1, 2, 1),
        (1, 2, 2, 1, 2),
        {"padding": ((0, 1), (0, 0), (0, 0))},
    ),
]


def names(cases):
    """Arguments for parametrize: cases under their names."""
    return {"argvalues": cases, "ids": [case.name.replace(" ", "-") for case in cases]}


def border(padding, n, taps, stride, dilation):
    """`padding` as (before, after), for each dimension."""
    if padding == "same":  # the last window begins at the last multiple of the stride
        ends = (
            (i - 1) // s * s + d * (k - 1) + 1
            for i, k, s, d in zip(n, taps, stride, dilation, strict=True)
        )
        totals = [max(0, end - i) for end, i in zip(ends, n, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [p if isinstance(p, tuple) else (p, p) for p in each(padding, len(n))]


def each(number, dims):
    return tuple(number) if isinstance(number, (tuple, list)) else (number,) * dims


def flat(pairs):
    """As F.pad has it: the last dimension first."""
    return [n for pair in reversed(pairs) for n in pair]


def by_torch(function, x, w, b=None, *, padding=0, **options):
    """What torch answers; where it does not know the padding, by F.pad before or slices
    after.

    (Of "same" it knows the half, and warns of the even kernels that are the interesting
    ones.)"""
    dims, of_torch = int(function[-2]), getattr(F, function)
    stride = each(options.get("stride", 1), dims)
    known = padding != "same"
    if known and not (isinstance(padding, tuple) and isinstance(padding[0], tuple)):
        with_padding = options if padding == 0 else {"padding": padding, **options}
        return of_torch(x, w, b, **with_padding)
    pairs = border(
        padding,
        x.shape[-dims:],
        w.shape[2:],
        stride,
        each(options.get("dilation", 1), dims),
    )
    if "transpose" not in function:
        return of_torch(F.pad(x, flat(pairs)), w, b, **options)
    added = each(options.pop("output_padding", 0), dims)
    y = F.pad(of_torch(x, w, **options), flat([(0, more) for more in added]))
    y = y[
        ...,
        *(slice(p, n - q) for (p, q), n in zip(pairs, y.shape[-dims:], strict=True)),
    ]
    return y if b is None else y + b.reshape(-1, *[1] * dims)
