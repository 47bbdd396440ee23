"""The layers of scipyconv.nn beside those of torch.nn: letter for letter, or more."""

import copy
import inspect
import io
import math
import pickle
import re
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import fuse_conv_bn_eval, parametrizations, parametrize

from scipyconv import nn

pytestmark = [
    pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning"),
    # torch's own, not ours
    pytest.mark.filterwarnings(
        "ignore:Using padding='same' with even kernel:UserWarning"
    ),
]

CONV = ["Conv1d", "Conv2d", "Conv3d"]
TRANSPOSE = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]
EAGER = CONV + TRANSPOSE
LAZY = [f"Lazy{name}" for name in EAGER]
MODES = ["reflect", "replicate", "circular"]
DOUBLE = {"dtype": torch.float64}

all_layers = pytest.mark.parametrize("name", EAGER + LAZY)
eager_layers = pytest.mark.parametrize("name", EAGER)


class Padded(torch.nn.Module):
    """torch's layer behind torch's own padding."""

    def __init__(self, conv, flat, mode):
        super().__init__()
        self.conv, self.flat = conv, flat
        self.mode = "constant" if mode == "zeros" else mode

    def forward(self, x):
        return self.conv(F.pad(x, self.flat, mode=self.mode))


def dimensions(name):
    return int(name[-2])


def both(name, *args, **kwargs):
    """Our layer and torch's, with the same weights."""
    theirs = getattr(torch.nn, name)(*args, **kwargs)
    ours = getattr(nn, name)(*args, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def image(name, channels=4, batch=(2,), **kwargs):
    size = (5, 4, 6)[: dimensions(name)]
    return torch.randn(*batch, channels, *size, **DOUBLE | kwargs)


def output_and_gradients(layer, x, g=None, **options):
    """Output, cotangent, and the gradients of the input and the parameters."""
    x = x.detach().requires_grad_()
    y = layer(x, **options)
    g = torch.randn_like(y) if g is None else g
    return y, g, *torch.autograd.grad(y, [x, *layer.parameters()], g)


def assert_same(ours, theirs, x, **options):
    expected = output_and_gradients(theirs, x, **options)
    got = output_and_gradients(ours, x, expected[1], **options)
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other)
    return got[0]


#: Constructor arguments for (in_channels, out_channels) = (4, 6); each dimension has
#: its own.
GEOMETRIES = {
    "plain": {},
    "no bias": {"bias": False},
    "stride": {"stride": (2, 1, 3)},
    "padding": {"padding": (1, 2, 0)},
    "dilation": {"dilation": (2, 1, 1)},
    "groups": {"groups": 2},
    "all": {
        "stride": (1, 2, 2),
        "padding": (2, 1, 1),
        "dilation": (2, 1, 2),
        "groups": 2,
    },
}


def cut(options, name):
    """The first entries of tuples, as many as there are dimensions."""
    n = dimensions(name)
    return {
        key: value[:n] if isinstance(value, tuple) else value
        for key, value in options.items()
    }


def kernel(name):
    return (3, 2, 2)[: dimensions(name)]


def test_all_of_torchs_layers_are_here():
    theirs = [
        name for name in torch.nn.modules.conv.__all__ if not name.startswith("_")
    ]
    assert sorted(theirs) == sorted(nn.__all__) == sorted(EAGER + LAZY)


@eager_layers
def test_signatures(name):
    """torch's parameters, names, order and defaults; `method` comes after, by
    keyword."""
    for function in ("__init__", "forward"):
        ours = inspect.signature(getattr(getattr(nn, name), function)).parameters
        theirs = inspect.signature(
            getattr(getattr(torch.nn, name), function)
        ).parameters
        added = [] if function == "forward" else ["method"]
        assert list(ours) == [*theirs, *added]
        for key, parameter in theirs.items():
            assert ours[key].default == parameter.default, key
            assert ours[key].kind == parameter.kind, key
    method = inspect.signature(getattr(nn, name)).parameters["method"]
    assert method.kind is method.KEYWORD_ONLY
    assert method.default == "auto"


@pytest.mark.parametrize("name", LAZY)
def test_signatures_of_lazy_layers(name):
    ours, theirs = (
        inspect.signature(getattr(package, name)).parameters
        for package in (nn, torch.nn)
    )
    assert [*theirs] == [key for key in ours if key != "method"]
    assert all(ours[key].default == theirs[key].default for key in theirs)


@all_layers
def test_method(name):
    """The engine is chosen when the layer is made."""
    arguments = (6, 3) if name in LAZY else (4, 6, 3)
    for method in ("auto", "direct", "matmul", "fft"):
        layer = getattr(nn, name)(*arguments, method=method)
        assert layer.method == method
        assert ("method=" in repr(layer)) == (method != "auto")
    for method in ("winograd", "", None, 1, ["direct"]):
        with pytest.raises(ValueError, match=r"^method must be"):
            getattr(nn, name)(*arguments, method=method)


@all_layers
def test_is_torchs_class(name):
    assert issubclass(getattr(nn, name), getattr(torch.nn, name))
    assert getattr(nn, name).__module__ == "scipyconv.nn"


@pytest.mark.parametrize("options", GEOMETRIES.values(), ids=GEOMETRIES)
@all_layers
def test_same_seed_same_weights(name, options):
    """And as many random numbers are drawn: what comes after is the same, too."""
    options, x = cut(options, name), image(name)
    arguments = (6, kernel(name)) if name in LAZY else (4, 6, kernel(name))
    drawn = []
    for package in (torch.nn, nn):
        torch.manual_seed(1)
        layer = getattr(package, name)(*arguments, **options, **DOUBLE)
        with torch.no_grad():
            layer(x)  # from which a lazy one learns its channels
        drawn.append((layer.state_dict(), torch.rand(3), layer))
    (theirs, after, _), (ours, ours_after, layer) = drawn
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert torch.equal(ours_after, after)
    assert type(layer) is getattr(nn, name.removeprefix("Lazy"))
    assert layer.weight.std() > 0
    layer.reset_parameters()
    assert not torch.equal(layer.weight, theirs["weight"])


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("options", GEOMETRIES.values(), ids=GEOMETRIES)
@eager_layers
def test_against_torch(name, options):
    ours, theirs = both(name, 4, 6, kernel(name), **cut(options, name), **DOUBLE)
    assert_same(ours, theirs, image(name))


@pytest.mark.parametrize("options", GEOMETRIES.values(), ids=GEOMETRIES)
@eager_layers
def test_attributes_and_extra_repr(name, options):
    ours, theirs = both(name, 4, 6, kernel(name), **cut(options, name), **DOUBLE)
    assert repr(ours) == repr(theirs)
    assert ours.extra_repr() == theirs.extra_repr()
    private = {"method"}
    theirs_public = {k: v for k, v in vars(theirs).items() if not k.startswith("_")}
    ours_public = {k: v for k, v in vars(ours).items() if not k.startswith("_")}
    assert {k: v for k, v in ours_public.items() if k not in private} == theirs_public
    assert theirs.__constants__ == ours.__constants__


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("padding", ["same", "valid", (2, 1, 2)], ids=str)
@pytest.mark.parametrize("mode", ["zeros", *MODES])
@pytest.mark.parametrize("name", CONV)
def test_padding_modes(name, mode, padding):
    """Forward and all gradients; `same` is asymmetric for the kernel of 2."""
    ours, theirs = both(
        name,
        4,
        6,
        kernel(name),
        padding_mode=mode,
        **cut({"padding": padding}, name),
        **DOUBLE,
    )
    assert ours.extra_repr() == theirs.extra_repr()
    assert_same(ours, theirs, image(name))


@pytest.mark.usefixtures("engine")
def test_mode_by_hand():
    """1234 with two on each side: the whole line, and who is counted how often."""
    expected = {
        "zeros": [0, 0, 1, 2, 3, 4, 0, 0],
        "reflect": [3, 2, 1, 2, 3, 4, 3, 2],
        "replicate": [1, 1, 1, 2, 3, 4, 4, 4],
        "circular": [3, 4, 1, 2, 3, 4, 1, 2],
    }
    counted = {
        "zeros": [1, 1, 1, 1],
        "reflect": [1, 3, 3, 1],
        "replicate": [3, 1, 1, 3],
        "circular": [2, 2, 2, 2],
    }
    for mode, line in expected.items():
        layer = nn.Conv1d(1, 1, 1, padding=2, padding_mode=mode, bias=False)
        layer.weight = torch.nn.Parameter(torch.ones(1, 1, 1))
        x = torch.tensor([[1.0, 2, 3, 4]], requires_grad=True)
        y = layer(x)
        torch.testing.assert_close(y[0], torch.tensor(line).float())
        [gradient] = torch.autograd.grad(y, x, torch.ones_like(y))
        torch.testing.assert_close(gradient[0], torch.tensor(counted[mode]).float())


@pytest.mark.parametrize("name", CONV)
def test_padding_modes_refuse_too_much(name):
    """A border wider than what it copies: torch's class."""
    n = dimensions(name)
    x = torch.ones(1, 4, *[3] * n)
    for mode, padding in (("reflect", 3), ("circular", 4)):
        ours, theirs = both(name, 4, 6, 2, padding=padding, padding_mode=mode)
        for layer in (theirs, ours):
            with pytest.raises(RuntimeError):
                layer(x)


@pytest.mark.usefixtures("engine")
@eager_layers
def test_unbatched(name):
    ours, theirs = both(name, 4, 6, kernel(name), stride=2, padding=1, **DOUBLE)
    x = image(name, batch=())
    y = assert_same(ours, theirs, x)
    assert y.ndim == dimensions(name) + 1
    torch.testing.assert_close(y, ours(x[None])[0])


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("mode", ["zeros", *MODES])
@pytest.mark.parametrize("name", CONV)
def test_asymmetric_padding(name, mode):
    """F.pad, then torch's convolution: output and every gradient."""
    n = dimensions(name)
    padding, options = ((1, 2), (0, 1), (2, 0))[:n], {"stride": 2, "groups": 2}
    ours = getattr(nn, name)(
        4, 6, kernel(name), padding=padding, padding_mode=mode, **options, **DOUBLE
    )
    theirs = getattr(torch.nn, name)(4, 6, kernel(name), **options, **DOUBLE)
    theirs.load_state_dict(ours.state_dict())
    flat = [zeros for pair in reversed(padding) for zeros in pair]

    assert_same(ours, Padded(theirs, flat, mode), image(name))
    assert ours.padding == padding
    assert f"padding={padding}" in ours.extra_repr()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", CONV)
def test_equal_pairs_are_torchs_padding(name):
    """((1, 1), ...) is padding=1, and then the layer is just torch's."""
    pairs = ((1, 1),) * dimensions(name)
    ours, theirs = (
        package_layer(4, 6, 3, padding=padding)
        for package_layer, padding in (
            (getattr(nn, name), pairs),
            (getattr(torch.nn, name), 1),
        )
    )
    assert ours.padding == theirs.padding
    assert ours.extra_repr() == theirs.extra_repr()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("mode", ["zeros", *MODES])
@pytest.mark.parametrize("stride", [2, 3, (1, 2, 3)], ids=str)
@pytest.mark.parametrize("name", CONV)
def test_same_with_a_stride(name, stride, mode):
    """Size ceil(n / stride); the missing zeros by halves, the greater half after."""
    n = dimensions(name)
    stride = stride[:n] if isinstance(stride, tuple) else (stride,) * n
    dilation = (1, 2, 1)[:n]
    ours = getattr(nn, name)(
        4,
        6,
        kernel(name),
        stride=stride,
        padding="same",
        dilation=dilation,
        padding_mode=mode,
        **DOUBLE,
    )
    theirs = getattr(torch.nn, name)(
        4, 6, kernel(name), stride=stride, dilation=dilation, **DOUBLE
    )
    theirs.load_state_dict(ours.state_dict())
    x = image(name)
    flat = []
    for size, k, s, d in zip(x.shape[2:], kernel(name), stride, dilation, strict=True):
        missing = max(0, (math.ceil(size / s) - 1) * s + d * (k - 1) + 1 - size)
        if s == 1:
            missing = d * (k - 1)
        flat = [missing // 2, missing - missing // 2, *flat]

    y = assert_same(ours, Padded(theirs, flat, mode), x)
    assert list(y.shape[2:]) == [
        math.ceil(m / s) for m, s in zip(x.shape[2:], stride, strict=True)
    ]
    assert ours.padding == "same"
    assert ours.stride == stride


# Transposed layers.


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("whole", [False, True], ids=["spatial", "whole"])
@pytest.mark.parametrize("unbatched", [False, True], ids=["batched", "unbatched"])
@pytest.mark.parametrize("name", TRANSPOSE)
def test_output_size(name, unbatched, whole):
    """Every size that the stride can reach, as torch takes it: spatial, or with all in
    front."""
    n = dimensions(name)
    options = cut(
        {"stride": (3, 2, 2), "padding": (1, 0, 1), "dilation": (1, 2, 1)}, name
    )
    ours, theirs = both(name, 4, 6, kernel(name), **options, **DOUBLE)
    x = image(name, batch=() if unbatched else (2,))
    least = theirs(x).shape[-n:]
    assert list(ours(x).shape[-n:]) == list(least)
    for added in range(options["stride"][0]):
        size = [least[0] + added, *(m + min(added, 1) for m in least[1:])]
        asked = [*([] if unbatched else [2]), 6, *size] if whole else size
        y = assert_same(ours, theirs, x, output_size=asked)
        assert list(y.shape[-n:]) == size
    torch.testing.assert_close(ours(x, asked), theirs(x, asked))  # by position
    torch.testing.assert_close(ours(x, torch.Size(size)), theirs(x, torch.Size(size)))
    for bad in (
        [least[0] - 1, *least[1:]],
        [least[0] + 3, *least[1:]],
        [9] * (n + 3),
        [],
    ):
        for layer in (theirs, ours):
            with pytest.raises(ValueError):
                layer(x, output_size=bad)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "output_padding": 1},
        {"dilation": 3, "output_padding": 2},
        {
            "stride": (1, 3, 2),
            "dilation": (2, 1, 1),
            "output_padding": (1, 2, 0),
            "padding": (0, 1, 1),
            "groups": 2,
        },
    ],
    ids=str,
)
@pytest.mark.parametrize("name", TRANSPOSE)
def test_output_padding(name, options):
    ours, theirs = both(name, 4, 6, kernel(name), **cut(options, name), **DOUBLE)
    assert ours.extra_repr() == theirs.extra_repr()
    assert_same(ours, theirs, image(name))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("padding", [1, ((2, 1), (0, 1), (1, 0))], ids=str)
@pytest.mark.parametrize("mode", ["zeros", *MODES])
@pytest.mark.parametrize("name", CONV)
def test_transposed_padding_modes(name, mode, padding):
    """The adjoint of the padded convolution, which is torch's with F.pad: <K x, y> =
    <x, Kᵀ y>."""
    n = dimensions(name)
    padding = padding[:n] if isinstance(padding, tuple) else padding
    pairs = padding if isinstance(padding, tuple) else ((padding, padding),) * n
    options = {"stride": 2, "groups": 2, "bias": False}
    theirs = getattr(torch.nn, name)(4, 6, kernel(name), **options, **DOUBLE)
    x = image(name)
    flat = [zeros for pair in reversed(pairs) for zeros in pair]
    padded = F.pad(x, flat, mode="constant" if mode == "zeros" else mode)
    y = theirs(padded)
    added = [(m - k) % 2 for m, k in zip(padded.shape[2:], kernel(name), strict=True)]
    ours = getattr(nn, name.replace("Conv", "ConvTranspose"))(
        6,
        4,
        kernel(name),
        padding=padding,
        padding_mode=mode,
        output_padding=tuple(added),
        **options,
        **DOUBLE,
    )
    ours.weight = theirs.weight
    assert ours.padding_mode == mode
    g = torch.randn_like(y)
    back = ours(g)
    assert back.shape == x.shape
    torch.testing.assert_close((y * g).sum(), (x * back).sum(), rtol=1e-12, atol=1e-12)
    leaf = x.clone().requires_grad_()
    padded = F.pad(leaf, flat, mode="constant" if mode == "zeros" else mode)
    torch.testing.assert_close(back, torch.autograd.grad(theirs(padded), leaf, g)[0])
    # and its own gradient is the forward again
    leaf = g.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(ours(leaf), leaf, x)[0], y)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("mode", MODES)
def test_transposed_padding_mode_with_bias_and_output_size(mode):
    """The bias comes once, after the border is folded back."""
    layer = nn.ConvTranspose1d(
        2, 3, 3, stride=2, padding=1, padding_mode=mode, **DOUBLE
    )
    g = torch.randn(1, 2, 4, **DOUBLE)
    y = layer(g, output_size=[8])
    bias, layer.bias = layer.bias, None
    assert y.shape == (1, 3, 8)
    torch.testing.assert_close(y, layer(g, output_size=[8]) + bias[:, None])


# State, copies, parametrisations.


@pytest.mark.parametrize("bias", [True, False])
@all_layers
def test_state_dict_both_ways(name, bias):
    arguments = (6, kernel(name)) if name in LAZY else (4, 6, kernel(name))
    ours, theirs = (
        getattr(package, name)(*arguments, groups=2, bias=bias, **DOUBLE)
        for package in (nn, torch.nn)
    )
    x = image(name)
    with torch.no_grad():
        ours(x), theirs(x)
        assert not torch.equal(ours(x), theirs(x))
        for one, other in ((ours, theirs), (theirs, ours)):
            for parameter in one.parameters():
                parameter.normal_()
            state = one.state_dict()
            assert list(state) == ["weight", "bias"][: 1 + bias]
            other.load_state_dict(state, strict=True)
            torch.testing.assert_close(ours(x), theirs(x))
    fresh = getattr(nn, name)(*arguments, groups=2, bias=bias, **DOUBLE)
    fresh.load_state_dict(
        theirs.state_dict(), strict=True
    )  # a lazy one learns its shapes here
    torch.testing.assert_close(fresh(x), theirs(x))


@eager_layers
def test_state_dict_is_strict(name):
    ours, theirs = both(name, 4, 6, kernel(name))
    for bad in (
        {"weight": theirs.weight},
        theirs.state_dict() | {"extra": theirs.bias},
        theirs.state_dict() | {"weight": theirs.weight[:1]},
    ):
        for layer in (theirs, ours):
            with pytest.raises(RuntimeError, match=r"Error\(s\) in loading state_dict"):
                layer.load_state_dict(bad)


OPTIONS_OF_OURS = {
    "Conv1d": {"padding": ((1, 0),)},
    "Conv2d": {"padding": "same", "stride": 2},
    "Conv3d": {"padding_mode": "circular", "padding": 1},
    "ConvTranspose1d": {"padding_mode": "reflect", "padding": 1},
    "ConvTranspose2d": {"padding": ((1, 0), (0, 1))},
    "ConvTranspose3d": {"output_padding": 0},
}


@pytest.mark.parametrize("way", ["pickle", "deepcopy", "torch.save"])
@eager_layers
def test_copies(name, way):
    layer = getattr(nn, name)(
        4, 6, kernel(name), **OPTIONS_OF_OURS[name], **DOUBLE
    ).eval()
    if way == "pickle":
        other = pickle.loads(pickle.dumps(layer))
    elif way == "deepcopy":
        other = copy.deepcopy(layer)
    else:
        file = io.BytesIO()
        torch.save(layer, file)
        other = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    x = image(name)
    assert type(other) is type(layer)
    assert repr(other) == repr(layer)
    assert other.method == layer.method
    assert not other.training
    assert torch.equal(other(x), layer(x))
    with torch.no_grad():
        other.weight.zero_()
    assert layer.weight.abs().max() > 0


@pytest.mark.parametrize("name", LAZY)
def test_lazy_copies_and_repr(name):
    ours, theirs = (getattr(package, name)(6, 3) for package in (nn, torch.nn))
    assert repr(ours) == repr(theirs)
    other = copy.deepcopy(ours)
    assert other.has_uninitialized_params()
    x = image(name, dtype=torch.float32)
    other(x)
    assert type(other) is getattr(nn, name.removeprefix("Lazy"))
    assert ours.has_uninitialized_params()
    assert other.in_channels == 4


@pytest.mark.parametrize("name", LAZY)
def test_lazy_layers_check_groups_and_input(name):
    """What torch finds with the first input, we find so, and with its class."""
    for x, options in ((image(name, channels=5), {"groups": 2}), (torch.zeros(3), {})):
        raised = []
        for package in (torch.nn, nn):
            layer = getattr(package, name)(6, 3, **options, **DOUBLE)
            with pytest.raises(Exception) as error:
                layer(x.to(torch.float64))
            raised.append(error.type)
        assert raised[0] is raised[1]


@pytest.mark.parametrize("name", LAZY)
def test_lazy_layers_take_our_options(name):
    """Asymmetric padding and the like survive until the channels are known."""
    options = OPTIONS_OF_OURS[name.removeprefix("Lazy")]
    layer = getattr(nn, name)(6, kernel(name), **options, **DOUBLE)
    x = image(name)
    y = layer(x)
    eager = getattr(nn, name.removeprefix("Lazy"))(
        4, 6, kernel(name), **options, **DOUBLE
    )
    eager.load_state_dict(layer.state_dict())
    assert repr(layer) == repr(eager)
    assert torch.equal(y, eager(x))


@pytest.mark.parametrize(
    "wrap",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
    ],
)
@eager_layers
def test_parametrised(name, wrap):
    layers = []
    for package in (torch.nn, nn):
        torch.manual_seed(1)
        layers.append(wrap(getattr(package, name)(4, 6, kernel(name), **DOUBLE)).eval())
    theirs, ours = layers
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_same(ours, theirs, image(name))
    parametrize.remove_parametrizations(ours, "weight")
    assert type(ours) is getattr(nn, name)


@pytest.mark.usefixtures("engine")
def test_tied_weights():
    """One parameter in two layers: its gradient is the sum of both."""
    models = []
    for package in (torch.nn, nn):
        torch.manual_seed(1)
        encoder = package.Conv2d(2, 3, (3, 2), stride=2, **DOUBLE)
        decoder = package.ConvTranspose2d(3, 2, (3, 2), stride=2, **DOUBLE)
        decoder.weight = encoder.weight
        models.append(torch.nn.Sequential(encoder, torch.nn.Tanh(), decoder))
    theirs, ours = models
    assert len(list(ours.parameters())) == 3
    assert_same(ours, theirs, torch.randn(2, 2, 5, 6, **DOUBLE))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "name", ["Conv2d", "Conv3d", "ConvTranspose2d", "ConvTranspose3d"]
)
def test_channels_last(name):
    """The numbers of a contiguous input."""
    memory = {2: torch.channels_last, 3: torch.channels_last_3d}[dimensions(name)]
    ours, theirs = both(
        name, 4, 6, kernel(name), stride=2, padding=1, groups=2, **DOUBLE
    )
    x = image(name)
    expected = output_and_gradients(theirs, x)
    for layer in (ours, copy.deepcopy(ours).to(memory_format=memory)):
        got = output_and_gradients(
            layer, x.to(memory_format=memory), expected[1].to(memory_format=memory)
        )
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@eager_layers
def test_fuse_conv_bn_eval(name, dtype):
    ours, theirs = both(name, 4, 6, kernel(name), stride=2, dtype=dtype)
    norm = getattr(torch.nn, f"BatchNorm{dimensions(name)}d")(6, dtype=dtype)
    x = image(name, dtype=dtype)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
        norm(ours(x))  # so that it has statistics
    ours, theirs, norm = ours.eval(), theirs.eval(), norm.eval()
    transposed = name in TRANSPOSE
    fused, theirs_fused = (
        fuse_conv_bn_eval(each, norm, transposed) for each in (ours, theirs)
    )
    assert type(fused) is type(ours)
    torch.testing.assert_close(fused(x), norm(ours(x)))
    torch.testing.assert_close(fused(x), theirs_fused(x))


@pytest.mark.usefixtures("engine")
@eager_layers
def test_complex_and_half(name):
    for dtype in (torch.complex64, torch.complex128, torch.float16, torch.bfloat16):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Complex modules are a new feature")
            ours, _ = both(name, 4, 6, kernel(name), dtype=dtype)
            wide = {torch.complex64: torch.complex128}.get(
                dtype, torch.promote_types(dtype, torch.float64)
            )
            theirs = getattr(torch.nn, name)(4, 6, kernel(name), dtype=wide)
        theirs.load_state_dict(ours.state_dict())
        x = image(name, dtype=dtype)
        y = ours(x)
        assert y.dtype is dtype
        torch.testing.assert_close(y, theirs(x.to(wide)).to(dtype))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", CONV)
def test_subclasses_that_call_conv_forward(name):
    """Weight standardization and the like call `_conv_forward`: torch's would compute
    in torch."""
    n = dimensions(name)
    layer = getattr(nn, name)(4, 6, kernel(name), padding=((1, 2),) * n, **DOUBLE)
    x = image(name)
    weight = layer.weight - layer.weight.mean()
    expected = getattr(F, name.lower())(F.pad(x, (1, 2) * n), weight, layer.bias)
    torch.testing.assert_close(layer._conv_forward(x, weight, layer.bias), expected)


@pytest.mark.parametrize(
    "make",
    [np.array, torch.tensor, range, list, torch.Size],
    ids=lambda make: make.__name__,
)
@pytest.mark.parametrize("name", ["Conv1d", "Conv2d", "ConvTranspose3d"])
def test_sizes_in_other_containers(name, make):
    """torch's constructors take any iterable, and keep a tuple of it."""
    n = dimensions(name)

    def made(*values):
        return range(values[0], values[0] + n) if make is range else make(values[:n])

    ours, theirs = (
        getattr(package, name)(
            4,
            6,
            made(2, 3, 2),
            stride=made(1, 2, 1),
            padding=made(1, 0, 1),
            dilation=made(1, 2, 3),
            **DOUBLE,
        )
        for package in (nn, torch.nn)
    )
    ours.load_state_dict(theirs.state_dict())
    assert ours.kernel_size == theirs.kernel_size
    x = torch.randn(2, 4, *(9, 12, 14)[:n], **DOUBLE)
    torch.testing.assert_close(ours(x), theirs(x))


@all_layers
def test_device_meta(name):
    arguments = (6, kernel(name)) if name in LAZY else (4, 6, kernel(name))
    ours, theirs = (
        getattr(package, name)(*arguments, device="meta", stride=2)
        for package in (nn, torch.nn)
    )
    x = torch.empty(2, 4, *(5, 4, 6)[: dimensions(name)], device="meta")
    assert ours(x).shape == theirs(x).shape
    assert ours(x).device.type == "meta"


# Bad constructors.

#: What a layer (4, 6, 3) is changed by; each must be refused by ours.
BAD = [
    *(
        {"in_channels": value}
        for value in (0, -4, 4.0, 2.5, "4", None, True, (4,), [4], 4j)
    ),
    *({"out_channels": value} for value in (0, -6, 6.0, 2.5, "6", None, True, (6,))),
    *(
        {"kernel_size": value}
        for value in (
            0,
            -3,
            3.0,
            2.5,
            "3",
            None,
            True,
            (),
            (3, 0, 3),
            (3, -1, 3),
            (3, 3.0, 3),
            (3,) * 4,
        )
    ),
    *(
        {"stride": value}
        for value in (
            0,
            -1,
            1.5,
            2.0,
            "2",
            None,
            False,
            (),
            (1, 0, 1),
            (1, -1, 1),
            (1, 1.5, 1),
            (1,) * 4,
        )
    ),
    *(
        {"padding": value}
        for value in (
            -1,
            0.5,
            1.0,
            None,
            True,
            "reflect",
            "SAME",
            "",
            (),
            (0, -1, 0),
            (1,) * 4,
            ((1, 2),) * 4,
            ((1, 2, 3),) * 3,
            ((1, -1),) * 3,
            ((1, 0.5),) * 3,
            ((1,),) * 3,
        )
    ),
    *(
        {"dilation": value}
        for value in (0, -1, 1.5, "2", None, True, (), (1, 0, 1), (1,) * 4)
    ),
    *({"groups": value} for value in (0, -1, 3, 4, 8, 1.5, 2.0, "2", None, True, (2,))),
    *({"padding_mode": value} for value in ("zero", "wobbly", "", None, 0, ["zeros"])),
    {"in_channels": 5, "groups": 2},
    {"out_channels": 5, "groups": 2},
    {"dtype": torch.int64},
    {"dtype": torch.bool},
    {"dtype": "float64"},
    {"dtype": 3},
    {"device": "nowhere"},
    {"unknown": 1},
]
# Which of the two torch raises depends on what stumbles first.
EITHER = ({"groups": 1.5}, {"padding_mode": ["zeros"]})
BAD_TRANSPOSED = [
    *(
        {"output_padding": value, "stride": 2}
        for value in (-1, 2, 0.5, "1", None, True, (0, 2, 0), (1,) * 4)
    ),
    {"output_padding": 1},
    {"output_padding": 3, "dilation": 3},
    {"padding": "same"},
    {"padding": "valid"},
]


def bad_arguments(name):
    """Tuples are cut to as many entries as there are dimensions, but the too long
    ones."""
    n = dimensions(name)
    for each in [*BAD, *(BAD_TRANSPOSED if "Transpose" in name else [])]:
        # the bad one of three entries is the second
        yield {
            key: (value[1:] if n == 1 else value)[:n]
            if isinstance(value, tuple) and len(value) == 3
            else value
            for key, value in each.items()
        }


def outcome(call):
    """The class of what is raised, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except Exception as error:
            return type(error)
    return None


@all_layers
def test_bad_constructors(name):
    """torch's class where torch raises; ValueError or TypeError where it takes
    nonsense."""
    wrong, tried = [], 0
    for each in bad_arguments(name):
        if name in LAZY and ("in_channels" in each or each == {"groups": 3}):
            continue
        arguments = {"in_channels": 4, "out_channels": 6, "kernel_size": 3} | each
        if name in LAZY:
            del arguments["in_channels"]
        theirs = outcome(lambda: getattr(torch.nn, name)(**arguments))  # noqa: B023
        ours = outcome(lambda: getattr(nn, name)(**arguments))  # noqa: B023
        either = theirs is None or each in EITHER
        if ours not in ((ValueError, TypeError) if either else (theirs,)):
            wrong.append(f"{each}: torch {theirs}, ours {ours}")
        tried += 1
    assert tried > 60
    assert not wrong, "\n".join(wrong)


@all_layers
def test_messages_of_bad_constructors(name):
    """Each says what must be, what is, and what to do."""
    poor, messages = [], 0
    for each in bad_arguments(name):
        if {"dtype", "device", "unknown"} & set(each) or (
            name in LAZY and "in_channels" in each
        ):
            continue  # torch's own messages
        arguments = {"in_channels": 4, "out_channels": 6, "kernel_size": 3} | each
        if name in LAZY:
            del arguments["in_channels"]
        try:
            getattr(nn, name)(**arguments)
        except Exception as error:
            messages += 1
            if not re.match(r"\w+ must .+: .+; pass .+", str(error), re.DOTALL):
                poor.append(f"{each}: {error}")
    assert messages > 60
    assert not poor, "\n".join(poor)


@eager_layers
def test_changed_attributes_are_checked_when_called(name):
    """As torch does, the layer believes what its attributes say when it is called."""
    for attribute, value in (
        ("stride", 0),
        ("groups", 3),
        ("dilation", -1),
        ("stride", 1.5),
    ):
        raised = []
        for layer in both(name, 4, 6, kernel(name), **DOUBLE):
            n = dimensions(name)
            setattr(layer, attribute, value if attribute == "groups" else (value,) * n)
            raised.append(outcome(lambda: layer(image(name))))  # noqa: B023
        ours, theirs = raised
        assert ours is theirs is not None, (attribute, value)


@eager_layers
def test_bad_calls(name):
    """Wrong channels, dtypes, dimensions and things that are no tensors: torch's
    class."""
    ours, theirs = both(name, 4, 6, kernel(name), **DOUBLE)
    x = image(name)
    for bad in (
        image(name, channels=3),
        x.float(),
        x.long(),
        x.to(torch.complex128),
        x[0, 0],
        x[None],
        x.tolist(),
        x.numpy(),
        None,
        3,
        x[..., :0],
    ):
        expected = outcome(lambda: theirs(bad))  # noqa: B023
        got = outcome(lambda: ours(bad))  # noqa: B023
        assert expected is not None
        assert got is expected, bad
