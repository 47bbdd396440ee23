"""Geometries drawn at random: against torch, against the definition, and each map's
adjoint.

The same examples are drawn every time. Each test says how many, and that they covered
every parameter."""

import itertools
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from geometries import border, by_torch, each, flat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import scipyconv.functional
import scipyconv.nn

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]
TOLERANCE = {
    torch.float32: 1e-4,
    torch.complex64: 1e-4,
    torch.float64: 1e-11,
    torch.complex128: 1e-11,
}
MODES = ["reflect", "replicate", "circular"]

pytestmark = pytest.mark.usefixtures("engine")

#: What an example may have. Each must have been in some.
FEATURES = [
    "1-D",
    "2-D",
    "3-D",
    "unbatched",
    "batch 0",
    "batch 2",
    "groups",
    "depthwise",
    "stride",
    "stride, a remainder",
    "dilation",
    "bias",
    "no bias",
    "padding int",
    "padding tuple",
    "padding asymmetric",
    "a number for all dimensions",
]


class Drawn(NamedTuple):
    function: str
    input: tuple[int, ...]
    weight: tuple[int, ...]
    options: dict[str, Any]
    bias: bool
    dtype: torch.dtype
    layouts: tuple[str, str, str]
    seed: int
    features: frozenset[str]


def gapped(t):
    wide = torch.full((*t.shape, 2), torch.nan, dtype=t.dtype)
    wide[..., 0] = t
    return wide[..., 0]


def behind_others(t):
    return torch.cat([torch.full((3,), torch.nan, dtype=t.dtype), t.flatten()])[
        3:
    ].view(t.shape)


LAYOUTS = {
    "contiguous": lambda t: t,
    "axes reversed": lambda t: (
        t.permute(*range(t.ndim)[::-1]).contiguous().permute(*range(t.ndim)[::-1])
    ),
    "channels last": lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1),
    "gapped": gapped,
    "behind others": behind_others,
    "expanded": lambda t: t[:1].expand(t.shape),
    "conjugated": lambda t: (
        t.conj() if t.is_complex() else torch.complex(t, -t).conj().imag
    ),
}


def one_or_each(draw, numbers):
    """An int where every dimension has the same, now and then."""
    return (
        numbers[0] if len(set(numbers)) == 1 and draw(st.booleans()) else tuple(numbers)
    )


@st.composite
def geometries(draw, transposed, dims=(1, 2, 2, 3)):
    dims = draw(st.sampled_from(dims))
    most = 3 if dims < 3 else 2
    batch = draw(st.sampled_from([None, 0, 1, 2, 2]))
    groups = draw(st.sampled_from([1, 1, 2, 3] if dims < 3 else [1, 2]))
    per_group = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))

    def numbers(least, largest):
        same = st.integers(least, largest).map(lambda n: [n] * dims)
        different = st.lists(st.integers(least, largest), min_size=dims, max_size=dims)
        return draw(same | different)

    taps, stride, dilation = numbers(1, most), numbers(1, 3), numbers(1, most)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, taps, strict=True)]
    kinds = ["int", "tuple", "asymmetric", "none"]
    kind = draw(
        st.sampled_from(kinds if transposed else kinds + ["same", "same", "valid"])
    )
    features, options = {f"{dims}-D", f"padding {kind}"}, {}
    if kind in ("same", "valid"):
        options["padding"] = kind
    elif kind == "asymmetric":
        options["padding"] = tuple(zip(numbers(0, 3), numbers(0, 3), strict=True))
    elif kind != "none":
        options["padding"] = (
            draw(st.integers(0, 3)) if kind == "int" else tuple(numbers(0, 3))
        )
    if kind == "same":  # any size is allowed
        n = numbers(1, 5)
        if max(stride) > 1:
            features.add("same with stride")
    else:
        pairs = border(
            {"valid": 0}.get(kind, options.get("padding", 0)), [0] * dims, 0, 0, 0
        )
        both = [sum(pair) for pair in pairs]
        if (
            transposed
        ):  # large enough for an output that is left when the border is cut off
            n = [
                max(1, -(-(b + 1 - r) // s) + 1) + more
                for b, r, s, more in zip(
                    both, reach, stride, numbers(0, 2), strict=True
                )
            ]
        else:
            n = [
                max(1, r - b) + more
                for r, b, more in zip(reach, both, numbers(0, most + 1), strict=True)
            ]
            if any(
                (i + b - r) % s
                for i, b, r, s in zip(n, both, reach, stride, strict=True)
            ):
                features.add("stride, a remainder")
    if transposed:
        added = [
            min(a, max(s, d) - 1)
            for a, s, d in zip(numbers(0, 3), stride, dilation, strict=True)
        ]
        if any(added):
            options["output_padding"] = one_or_each(draw, added)
            features.add("output_padding")
            if any(a >= s for a, s in zip(added, stride, strict=True)):
                features.add("output_padding past the stride")
    for name, values in (("stride", stride), ("dilation", dilation)):
        if max(values) > 1:
            options[name] = one_or_each(draw, values)
            features.add(name)
    if groups > 1:
        options["groups"] = groups
        features.add("depthwise" if per_group[0] == 1 else "groups")
    if isinstance(options.get("stride"), int):
        features.add("a number for all dimensions")
    ahead, behind = per_group
    channels = ahead * groups
    first = channels if transposed else behind * groups
    features.add("unbatched" if batch is None else f"batch {batch}")
    with_bias = draw(st.booleans())
    dtype = draw(st.sampled_from(DTYPES))
    layouts = tuple(draw(st.sampled_from(list(LAYOUTS))) for _ in range(3))
    features |= {"bias" if with_bias else "no bias", str(dtype), *layouts}
    return Drawn(
        f"conv{'_transpose' * transposed}{dims}d",
        (*([] if batch is None else [batch]), channels, *n),
        (first, behind if transposed else ahead, *taps),
        options,
        with_bias,
        dtype,
        layouts,
        draw(st.integers(0, 2**16)),
        frozenset(features),
    )


def tensors_of(drawn):
    """x, w, b, the output by torch, and a cotangent."""
    torch.manual_seed(drawn.seed)
    shapes = [drawn.input, drawn.weight]
    x, w = (
        LAYOUTS[layout](torch.randn(shape, dtype=drawn.dtype))
        for shape, layout in zip(shapes, drawn.layouts, strict=False)
    )
    groups = drawn.options.get("groups", 1)
    outputs = (
        drawn.weight[1] * groups if "transpose" in drawn.function else drawn.weight[0]
    )
    b = torch.randn(outputs, dtype=drawn.dtype) if drawn.bias else None
    return [t if t is None else t.requires_grad_() for t in (x, w, b)]


def check_each(strategy, examples, check, features, record_property):
    """Draw the examples, check each, and count what was drawn."""
    seen = Counter()

    @settings(
        deadline=None,
        derandomize=True,
        max_examples=examples,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(drawn):
        seen.update(["examples", *drawn.features])
        check(drawn)

    run()
    record_property("examples", seen["examples"])
    print(f"{seen['examples']} examples drawn: {dict(sorted(seen.items()))}")
    assert seen["examples"] >= 0.9 * examples
    assert [feature for feature in features if seen[feature] < 1] == []


def assert_close(one, other, dtype):
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    torch.testing.assert_close(one, other, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
def test_against_torch_and_the_adjoint(transposed, record_property):
    """Outputs and all gradients; and <y, g> = <x, grad_x> = <w, grad_w>, with no step
    size."""
    features = [*FEATURES, *map(str, DTYPES), *LAYOUTS]
    if transposed:
        features += ["output_padding", "output_padding past the stride"]
        features.remove("stride, a remainder")
    else:
        features += ["padding same", "same with stride", "padding valid"]

    def check(drawn):
        x, w, b = tensors_of(drawn)
        wanted = [t for t in (x, w, b) if t is not None]
        y = getattr(scipyconv.functional, drawn.function)(x, w, b, **drawn.options)
        expected = by_torch(drawn.function, x, w, b, **drawn.options)
        assert_close(y, expected, drawn.dtype)
        g = torch.randn(y.shape, dtype=drawn.dtype)
        g = LAYOUTS[drawn.layouts[2]](g) if g.ndim > 1 and len(g) else g
        ours = torch.autograd.grad(y, wanted, g)
        for one, other in zip(
            ours, torch.autograd.grad(expected, wanted, g), strict=True
        ):
            assert_close(one, other, drawn.dtype)
        if b is not None:
            y = y - b.reshape(-1, *[1] * (len(drawn.weight) - 2))
        y_g = (g.conj() * y).sum().detach()
        for t, gradient in zip((x, w), ours, strict=False):
            assert_close((gradient.conj() * t).sum().detach(), y_g, drawn.dtype)

    check_each(geometries(transposed), 100, check, features, record_property)


def by_definition(drawn, x, w, b):
    """The sum, one product of the trilinear form after the other."""
    transposed, dims = "transpose" in drawn.function, len(drawn.weight) - 2
    groups = drawn.options.get("groups", 1)
    stride, dilation = (
        each(drawn.options.get(name, 1), dims) for name in ("stride", "dilation")
    )
    padding = drawn.options.get("padding", 0)
    pairs = border(
        0 if padding == "valid" else padding, x.shape[2:], w.shape[2:], stride, dilation
    )
    added = each(drawn.options.get("output_padding", 0), dims)
    last = [d * (k - 1) for d, k in zip(dilation, w.shape[2:], strict=True)]
    if transposed:
        size = [
            (n - 1) * s + r + 1 - sum(pair) + a
            for n, s, r, pair, a in zip(
                x.shape[2:], stride, last, pairs, added, strict=True
            )
        ]
        outputs, small = w.shape[1] * groups, x.shape
    else:
        size = [
            (n + sum(pair) - r - 1) // s + 1
            for n, s, r, pair in zip(x.shape[2:], stride, last, pairs, strict=True)
        ]
        outputs, small = w.shape[0], (0, 0, *size)
    y = np.zeros((x.shape[0], outputs, *size), x.dtype)
    y += b.reshape(-1, *[1] * dims)
    large = size if transposed else x.shape[2:]
    for first, second in np.ndindex(*w.shape[:2]):
        group = first // (w.shape[0] // groups)
        inside = group * w.shape[1] + second
        channel, output = (first, inside) if transposed else (inside, first)
        for t, k in itertools.product(np.ndindex(*small[2:]), np.ndindex(*w.shape[2:])):
            p = tuple(
                s * i + d * j - pair[0]
                for s, i, d, j, pair in zip(stride, t, dilation, k, pairs, strict=True)
            )
            if all(0 <= i < n for i, n in zip(p, large, strict=True)):
                source, target = (t, p) if transposed else (p, t)
                y[:, output, *target] += w[first, second, *k] * x[:, channel, *source]
    return y


@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
def test_against_a_naive_loop(transposed, record_property):
    def check(drawn):
        x, w, b = tensors_of(drawn._replace(bias=True))
        y = getattr(scipyconv.functional, drawn.function)(x, w, b, **drawn.options)
        batch = x if x.ndim == w.ndim else x[None]
        expected = torch.from_numpy(
            by_definition(
                drawn,
                *(
                    t.detach().resolve_conj().resolve_neg().numpy()
                    for t in (batch, w, b)
                ),
            )
        )
        assert_close(y.detach(), expected if batch is x else expected[0], drawn.dtype)

    check_each(
        geometries(transposed),
        60,
        check,
        ["1-D", "2-D", "3-D", "padding asymmetric"],
        record_property,
    )


@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
def test_integers_against_a_naive_loop(transposed, record_property):
    def check(drawn):
        torch.manual_seed(drawn.seed)
        outputs = drawn.weight[1] * drawn.options.get("groups", 1)
        outputs = outputs if transposed else drawn.weight[0]
        x, w, b = (
            torch.randint(-9, 9, s) for s in (drawn.input, drawn.weight, (outputs,))
        )
        y = getattr(scipyconv.functional, drawn.function)(x, w, b, **drawn.options)
        batch = x if x.ndim == w.ndim else x[None]
        expected = torch.from_numpy(
            by_definition(drawn, *(t.numpy() for t in (batch, w, b)))
        )
        assert torch.equal(y, expected if batch is x else expected[0])

    check_each(
        geometries(transposed, dims=(1, 2)), 30, check, ["1-D", "2-D"], record_property
    )


@st.composite
def bordered(draw, mode, dims):
    """A layer with a border of copies, and the size of its input."""

    def each_of(numbers):
        return tuple(draw(numbers) for _ in range(dims))

    n = each_of(st.integers(1, 4))
    most = {
        "reflect": lambda i: i - 1,
        "circular": lambda i: i,
        "replicate": lambda i: 3,
    }[mode]
    pairs = tuple(
        (draw(st.integers(0, most(i))), draw(st.integers(0, most(i)))) for i in n
    )
    room = [i + sum(pair) for i, pair in zip(n, pairs, strict=True)]
    dilation = each_of(st.integers(1, 2))
    taps = tuple(
        draw(st.integers(1, min(3, (r - 1) // d + 1)))
        for r, d in zip(room, dilation, strict=True)
    )
    groups, batch = draw(st.integers(1, 2)), draw(st.sampled_from([None, 1, 2]))
    features = {
        "unbatched" if batch is None else "batch",
        "padding asymmetric" if any(b != a for b, a in pairs) else "padding symmetric",
        "groups" if groups > 1 else "one group",
    }
    stride = each_of(st.integers(1, 3))
    return BorderedLayer(
        dims,
        n,
        taps,
        stride,
        pairs,
        dilation,
        groups,
        batch,
        draw(st.integers(0, 2**16)),
        frozenset(features),
    )


class BorderedLayer(NamedTuple):
    dims: int
    size: tuple[int, ...]
    taps: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    batch: int | None
    seed: int
    features: frozenset[str]

    def forward_by_torch(self, mode, x, w, b=None):
        """F.pad, which wants a batch, and then no padding at all."""
        of_torch = getattr(F, f"conv{self.dims}d")
        padded = F.pad(x if self.batch else x[None], flat(self.padding), mode)
        y = of_torch(padded, w, b, self.stride, 0, self.dilation, self.groups)
        return y if self.batch else y[0]


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_padding_modes_and_their_adjoints(mode, dims, record_property):
    """A Conv against F.pad; the ConvTranspose of the same numbers against that one's
    gradient."""

    def check(drawn):
        torch.manual_seed(drawn.seed)
        options = {
            "stride": drawn.stride,
            "padding": drawn.padding,
            "dilation": drawn.dilation,
            "groups": drawn.groups,
            "padding_mode": mode,
            "dtype": torch.float64,
        }
        layer = getattr(scipyconv.nn, f"Conv{drawn.dims}d")(
            2 * drawn.groups, drawn.groups, drawn.taps, **options
        )
        batch = [] if drawn.batch is None else [drawn.batch]
        x = torch.randn(
            *batch,
            2 * drawn.groups,
            *drawn.size,
            dtype=torch.float64,
            requires_grad=True,
        )
        y, expected = (
            layer(x),
            drawn.forward_by_torch(mode, x, layer.weight, layer.bias),
        )
        g = torch.randn(expected.shape, dtype=torch.float64, requires_grad=True)
        assert_close(y, expected, torch.float64)
        wanted = x, layer.weight, layer.bias
        ours = torch.autograd.grad(y, wanted, g)
        for one, other in zip(
            ours,
            torch.autograd.grad(expected, wanted, g, create_graph=True),
            strict=True,
        ):
            assert_close(one, other, torch.float64)

        adjoint = getattr(scipyconv.nn, f"ConvTranspose{drawn.dims}d")(
            drawn.groups, 2 * drawn.groups, drawn.taps, **options, bias=False
        )
        adjoint.load_state_dict({"weight": layer.weight.detach()})
        again = adjoint(g, drawn.size)
        y = drawn.forward_by_torch(mode, x, adjoint.weight)
        (expected,) = torch.autograd.grad(y, x, g, create_graph=True)
        assert_close(again, expected, torch.float64)
        u = torch.randn(expected.shape, dtype=torch.float64)
        wanted = g, adjoint.weight
        for one, other in zip(
            torch.autograd.grad(again, wanted, u),
            torch.autograd.grad(expected, wanted, u),
            strict=True,
        ):
            assert_close(one, other, torch.float64)

    features = ["unbatched", "batch", "padding asymmetric", "groups"]
    check_each(bordered(mode, dims), 15, check, features, record_property)
