"""Models are swapped in place, there and back, and only the arithmetic changes."""

import copy
import functools
import importlib
import pickle
import types
import warnings

import pytest
import torch
from torch.nn.utils import parametrizations, parametrize, prune

from scipyconv import nn
from scipyconv.convert import to_scipyconv, to_torch

pytestmark = pytest.mark.filterwarnings(
    "ignore:Lazy modules are a new feature:UserWarning"
)

NAMES = [name for name in nn.__all__ if not name.startswith("Lazy")]
DOUBLE = {"dtype": torch.float64}


class Residual(torch.nn.Module):
    """x + f(x), the second convolution grouped."""

    def __init__(self, channels):
        super().__init__()
        self.first = torch.nn.Conv2d(
            channels, channels, (3, 1), padding=(1, 0), bias=False
        )
        self.norm = torch.nn.BatchNorm2d(channels)
        self.second = torch.nn.Conv2d(
            channels, channels, 3, padding="same", groups=2, padding_mode="circular"
        )

    def forward(self, x):
        return x + self.second(torch.relu(self.norm(self.first(x))))


class Network(torch.nn.Module):
    """A residual network with a stride, a transposed layer and a head."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(1, 4, (3, 2), stride=2, padding=1)
        self.blocks = torch.nn.ModuleList([Residual(4), Residual(4)])
        self.up = torch.nn.ConvTranspose2d(4, 2, 3, stride=2, output_padding=1)
        self.head = torch.nn.Linear(2, 3)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.up(x).mean((2, 3)))


CONVOLUTIONS = [
    "stem",
    "blocks.0.first",
    "blocks.0.second",
    "blocks.1.first",
    "blocks.1.second",
    "up",
]


def classes(model):
    return {name: type(layer) for name, layer in model.named_modules()}


def snapshot(model):
    """What a conversion could change: classes, attributes, and what they refer to."""
    return {
        name: (type(layer), {key: id(value) for key, value in vars(layer).items()})
        for name, layer in model.named_modules()
    }


def example(dtype=torch.float32):
    return torch.randn(3, 1, 7, 6, dtype=dtype)


def gradients(model, x, g):
    x = x.clone().requires_grad_()
    y = model(x)
    return y, *torch.autograd.grad(y, [x, *model.parameters()], g)


def test_every_convolution_is_swapped_and_nothing_else():
    model = Network()
    before = classes(model)
    assert to_scipyconv(model) is model
    for name, cls in classes(model).items():
        expected = (
            getattr(nn, before[name].__name__) if name in CONVOLUTIONS else before[name]
        )
        assert cls is expected
    assert {
        name
        for name, layer in model.named_modules()
        if type(layer).__module__ == "scipyconv.nn"
    } == set(CONVOLUTIONS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_outputs_and_gradients(dtype):
    theirs = Network().to(dtype)
    ours = to_scipyconv(copy.deepcopy(theirs))
    x, g = example(dtype), torch.randn(3, 3, dtype=dtype)
    for one, other in zip(gradients(ours, x, g), gradients(theirs, x, g), strict=True):
        torch.testing.assert_close(one, other)


def test_ours_is_called(monkeypatch):
    """No layer falls back on torch's arithmetic."""
    model = to_scipyconv(Network())
    called = []
    for function in ("convolve", "transpose"):
        original = getattr(nn.functional, function)

        def noted(*args, original=original, **kwargs):
            called.append(original.__name__)
            return original(*args, **kwargs)

        monkeypatch.setattr(nn.functional, function, noted)
    model(example())
    assert called == ["convolve"] * 5 + ["transpose"]
    called.clear()
    to_torch(model)(example())
    assert not called


def test_parameters_are_shared_and_layers_the_same():
    model = Network()
    parameters, layers = dict(model.named_parameters()), dict(model.named_modules())
    pointers = {name: p.data_ptr() for name, p in parameters.items()}
    for convert in (to_scipyconv, to_torch):
        convert(model)
        assert list(dict(model.named_parameters())) == list(parameters)
        for name, parameter in model.named_parameters():
            assert parameter is parameters[name]
            assert parameter.data_ptr() == pointers[name]
        assert dict(model.named_modules()) == layers


def test_tied_layers_and_weights():
    """One layer in two places, one parameter in two layers."""
    layer, other = (
        torch.nn.Conv1d(2, 2, 3, padding=1),
        torch.nn.Conv1d(2, 2, 3, padding=1),
    )
    other.weight = layer.weight
    model = torch.nn.Sequential(layer, other, layer)
    x = torch.randn(2, 2, 5)
    before = model(x)
    to_scipyconv(model)
    assert model[0] is model[2]
    assert model[0].weight is model[1].weight
    assert type(model[0]) is type(model[1]) is nn.Conv1d
    torch.testing.assert_close(model(x), before)


def test_hooks_mode_and_requires_grad_are_kept():
    model = Network().eval()
    model.blocks[0].train()
    model.stem.weight.requires_grad_(False)
    fired = []
    model.stem.register_forward_hook(
        lambda layer, args, y: fired.append(("forward", type(layer)))
    )
    model.stem.register_forward_pre_hook(
        lambda layer, args: fired.append(("pre", type(layer)))
    )
    model.up.register_full_backward_hook(
        lambda layer, *_: fired.append(("backward", type(layer)))
    )
    model.up.weight.register_hook(lambda g: fired.append(("weight", tuple(g.shape))))
    model.stem.note = "mine"
    modes = {name: layer.training for name, layer in model.named_modules()}
    for convert, package in ((to_scipyconv, nn), (to_torch, torch.nn)):
        convert(model)
        assert {name: layer.training for name, layer in model.named_modules()} == modes
        assert [n for n, p in model.named_parameters() if not p.requires_grad] == [
            "stem.weight"
        ]
        assert model.stem.note == "mine"
        fired.clear()
        model(example()).backward(torch.randn(3, 3))
        assert sorted(fired, key=lambda each: each[0]) == [
            ("backward", package.ConvTranspose2d),
            ("forward", package.Conv2d),
            ("pre", package.Conv2d),
            ("weight", (4, 2, 3, 3)),
        ]
        assert model.stem.weight.grad is None


def test_an_optimizer_made_before_still_steps():
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for convert in (to_scipyconv, to_torch):
        convert(model)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer.zero_grad()
        model(example()).backward(torch.randn(3, 3))
        optimizer.step()
        for name, parameter in model.named_parameters():
            assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name):
    """There and back, torch's outputs are the same bit for bit, and so is the layer."""
    layer = getattr(torch.nn, name)(4, 6, 3, stride=2, padding=1, groups=2)
    x = torch.randn(2, 4, *(5, 6, 4)[: int(name[-2])])
    expected, before, shown = layer(x), snapshot(layer), repr(layer)
    assert to_scipyconv(layer) is layer
    assert type(layer) is getattr(nn, name)
    assert repr(layer) == shown
    torch.testing.assert_close(layer(x), expected)
    assert to_torch(layer) is layer
    assert snapshot(layer) == before
    assert repr(layer) == shown
    assert torch.equal(layer(x), expected)


def test_round_trip_of_a_network():
    model = Network().eval()
    x = example()
    expected, before = model(x), snapshot(model)
    to_torch(to_scipyconv(model))
    assert snapshot(model) == before
    assert torch.equal(model(x), expected)


def test_twice_is_once():
    model = to_scipyconv(Network())
    before = classes(model)
    assert classes(to_scipyconv(model)) == before
    to_torch(model)
    assert classes(to_torch(model)) == classes(Network())


def test_a_layer_of_ours_is_no_obstacle():
    """A model that holds both already."""
    model = torch.nn.Sequential(nn.Conv1d(1, 2, 3), torch.nn.Conv1d(2, 2, 2))
    assert [type(layer) for layer in to_scipyconv(model)] == [nn.Conv1d] * 2
    assert [type(layer) for layer in to_torch(model)] == [torch.nn.Conv1d] * 2


def test_root_layer():
    layer = torch.nn.Conv2d(2, 3, (3, 2), dtype=torch.float64)
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64)
    expected = layer(x)
    assert to_scipyconv(layer) is layer
    assert isinstance(layer, nn.Conv2d)
    torch.testing.assert_close(layer(x), expected)


def test_state_dict_pickle_and_deepcopy_afterwards():
    model = to_scipyconv(Network()).eval()
    x = example()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert classes(other) == classes(model)
        assert torch.equal(other(x), model(x))
    fresh = Network().eval()
    fresh.load_state_dict(model.state_dict(), strict=True)
    torch.testing.assert_close(fresh(x), model(x))


def test_method():
    model = to_scipyconv(Network(), method="fft")
    assert all(model.get_submodule(name).method == "fft" for name in CONVOLUTIONS)
    model = Network()
    before = snapshot(model)
    with pytest.raises(
        ValueError, match=r"^method must be one of .*: it is 'winograd'"
    ):
        to_scipyconv(model, method="winograd")
    assert snapshot(model) == before


# Parametrized and lazy layers.


@pytest.mark.parametrize(
    "wrap", [parametrizations.weight_norm, parametrizations.spectral_norm]
)
@pytest.mark.parametrize("name", NAMES)
def test_parametrized(name, wrap):
    """Both ways, with the parametrization, which is removable afterwards."""
    layer = wrap(getattr(torch.nn, name)(4, 6, 3, stride=2)).eval()
    x = torch.randn(2, 4, *(7, 5, 4)[: int(name[-2])])
    keys, expected = list(layer.state_dict()), layer(x)
    parameters = list(layer.parameters())
    to_scipyconv(layer)
    assert isinstance(layer, getattr(nn, name))
    assert type(layer).__name__ == f"Parametrized{name}"
    assert parametrize.is_parametrized(layer, "weight")
    assert list(layer.state_dict()) == keys
    torch.testing.assert_close(layer(x), expected)
    g = torch.randn_like(expected)
    assert all(p is q for p, q in zip(layer.parameters(), parameters, strict=True))
    for gradient in torch.autograd.grad(layer(x), parameters, g):
        assert gradient.abs().max() > 0
    to_torch(layer)
    assert not isinstance(layer, getattr(nn, name))
    assert isinstance(layer, getattr(torch.nn, name))
    assert torch.equal(layer(x), expected)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is getattr(torch.nn, name)
    torch.testing.assert_close(layer(x), expected)


def test_parametrization_removed_while_ours():
    layer = parametrizations.weight_norm(torch.nn.Conv1d(2, 3, 3))
    x = torch.randn(1, 2, 5)
    expected = layer(x)
    parametrize.remove_parametrizations(to_scipyconv(layer), "weight")
    assert type(layer) is nn.Conv1d
    torch.testing.assert_close(layer(x), expected)
    assert type(to_torch(layer)) is torch.nn.Conv1d


def test_parametrized_ours_to_torch():
    """Ours from the start, with a second parametrization added while it is ours."""
    layer = parametrizations.weight_norm(nn.Conv1d(2, 3, 3))
    parametrizations.weight_norm(layer, name="bias", dim=None)
    x = torch.randn(1, 2, 5)
    expected = layer(x)
    to_torch(layer)
    assert not isinstance(layer, nn.Conv1d)
    torch.testing.assert_close(layer(x), expected)
    parametrize.remove_parametrizations(layer, "bias")
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is torch.nn.Conv1d


def test_parametrized_neighbours_keep_their_classes():
    """Each parametrized layer has a class of its own, so swapping one changes one."""
    layers = [parametrizations.weight_norm(torch.nn.Conv1d(2, 2, 3)) for _ in range(2)]
    to_scipyconv(layers[0])
    assert not isinstance(layers[1], nn.Conv1d)
    assert not isinstance(
        parametrizations.weight_norm(torch.nn.Conv1d(2, 2, 3)), nn.Conv1d
    )
    assert not torch.equal(layers[0].weight, layers[1].weight)


def test_parametrized_copies():
    """deepcopy of a swapped one is one of ours, with weights of its own."""
    layer = to_scipyconv(parametrizations.weight_norm(torch.nn.Conv1d(2, 3, 3)))
    other = copy.deepcopy(layer)
    x = torch.randn(1, 2, 5)
    assert isinstance(other, nn.Conv1d)
    assert torch.equal(other(x), layer(x))
    with torch.no_grad():
        other.parametrizations.weight.original0.zero_()
    assert not torch.equal(other(x), layer(x))


def test_pruning():
    """What hangs on hooks stays there."""
    layer = torch.nn.Conv1d(2, 3, 3)
    prune.random_unstructured(layer, "weight", amount=0.5)
    x = torch.randn(1, 2, 5)
    expected = layer(x)
    torch.testing.assert_close(to_scipyconv(layer)(x), expected)
    prune.remove(layer, "weight")
    assert (layer.weight == 0).sum() == 9
    torch.testing.assert_close(to_torch(layer)(x), expected)


@pytest.mark.parametrize("name", NAMES)
def test_lazy(name):
    """Before the first input and after it."""
    x = torch.randn(2, 4, *(5, 6, 4)[: int(name[-2])])
    layer = getattr(torch.nn, f"Lazy{name}")(6, 3, stride=2)
    other = copy.deepcopy(layer)
    assert type(to_scipyconv(layer)) is getattr(nn, f"Lazy{name}")
    assert layer.has_uninitialized_params()
    torch.manual_seed(1)
    y = layer(x)
    assert type(layer) is getattr(nn, name)
    torch.manual_seed(1)
    torch.testing.assert_close(y, other(x))
    assert type(to_torch(layer)) is getattr(torch.nn, name)
    back = to_torch(getattr(nn, f"Lazy{name}")(6, 3, stride=2))
    assert type(back) is getattr(torch.nn, f"Lazy{name}")
    torch.manual_seed(1)
    torch.testing.assert_close(back(x), y)
    assert type(back) is getattr(torch.nn, name)


# What cannot be swapped.


class Standardized(torch.nn.Conv2d):
    """A convolution with a forward of its own."""

    def forward(self, x):
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, w, self.bias)


class Renamed(torch.nn.Conv1d):
    """A subclass that changes nothing."""


def hard_to_swap():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3),
        Standardized(2, 2, 3),
        torch.nn.Sequential(torch.nn.ReLU(), Renamed(2, 2, 3)),
        torch.nn.Conv2d(2, 2, 3),
    )


def no_layers_of_torch():
    """All of ours that torch does not have, and two that it has."""
    return torch.nn.ModuleDict(
        {
            "plain": nn.Conv2d(1, 2, 3, padding=((1, 1), (2, 2))),
            "uneven": nn.Conv2d(1, 2, 3, padding=((0, 1), (2, 2))),
            "strided": nn.Conv1d(1, 2, 3, padding="same", stride=2),
            "inner": torch.nn.ModuleList(
                [
                    nn.ConvTranspose1d(1, 2, 3, padding=1, padding_mode="reflect"),
                    nn.Conv1d(1, 2, 3, padding="same", padding_mode="reflect"),
                ]
            ),
            "lazy": nn.LazyConv3d(2, 3, padding=((1, 0),) * 3),
        }
    )


def test_strict_names_every_layer_and_changes_nothing():
    model = hard_to_swap()
    before = snapshot(model)
    with pytest.raises(
        ValueError,
        match=r"^model must hold only layers .*; replace it, or pass "
        r"strict=False",
    ) as error:
        to_scipyconv(model)
    for part in ("'1' (Standardized)", "'2.1' (Renamed)"):
        assert part in str(error.value)
    assert "'0'" not in str(error.value)
    assert "'3'" not in str(error.value)
    assert snapshot(model) == before


def test_not_strict_warns_and_swaps_the_rest():
    model = hard_to_swap()
    with pytest.warns(UserWarning, match=r"^left as it is: ") as warned:
        to_scipyconv(model, strict=False)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    for part in ("'1' (Standardized)", "'2.1' (Renamed)"):
        assert part in str(warned[0].message)
    assert [type(layer) for layer in model] == [
        nn.Conv2d,
        Standardized,
        torch.nn.Sequential,
        nn.Conv2d,
    ]
    assert type(model[2][1]) is Renamed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        to_torch(model, strict=False)
    assert classes(model) == classes(hard_to_swap())


def test_back_to_torch_names_every_layer_and_changes_nothing():
    model = no_layers_of_torch()
    before = snapshot(model)
    with pytest.raises(
        ValueError, match=r"^model must hold only layers that can be"
    ) as error:
        to_torch(model)
    for part in (
        "'uneven' (Conv2d) has padding",
        "'strided' (Conv1d) has padding='same' with a",
        "'inner.0' (ConvTranspose1d) is transposed and has a padding mode",
        "'lazy' (LazyConv3d) has padding",
    ):
        assert part in str(error.value)
    assert "'plain'" not in str(error.value)
    assert "'inner.1'" not in str(error.value)
    assert snapshot(model) == before
    with pytest.warns(UserWarning, match=r"^left as it is: 'uneven'"):
        to_torch(model, strict=False)
    swapped = {"plain", "inner.1"}
    for name, layer in model.named_modules():
        if hasattr(layer, "kernel_size"):
            package = torch.nn if name in swapped else nn
            assert type(layer) is getattr(package, type(layer).__name__), name


@pytest.mark.parametrize(
    "make",
    [
        lambda: Standardized(1, 2, 3),
        lambda: parametrizations.weight_norm(Standardized(1, 2, 3)),
        lambda: torch.jit.script(torch.nn.Conv2d(1, 2, 3)),
        lambda: torch.ao.nn.quantized.Conv2d(1, 2, 3),
        lambda: torch.nn.Sequential(
            torch.ao.nn.intrinsic.qat.ConvBn2d(
                1, 2, 3, qconfig=torch.ao.quantization.default_qat_qconfig
            )
        ),
    ],
    ids=[
        "subclass",
        "parametrized subclass",
        "scripted",
        "quantized",
        "quantization aware",
    ],
)
def test_what_is_no_plain_layer_is_named(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.nn.Sequential(torch.nn.ReLU(), make())
        with pytest.raises(ValueError, match=r"'1.*' \(.*\) is of a class of its own"):
            to_scipyconv(model)


@pytest.mark.parametrize(
    "model", [None, 3, torch.nn.Conv2d, torch.zeros(2), [torch.nn.Conv2d], lambda x: x]
)
@pytest.mark.parametrize("convert", [to_scipyconv, to_torch])
def test_not_a_model(convert, model):
    with pytest.raises(
        TypeError, match=r"^model must be a torch.nn.Module: its type is \w+; "
    ):
        convert(model)


def test_a_model_without_convolutions():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    before = snapshot(model)
    to_torch(to_scipyconv(model))
    assert snapshot(model) == before


# What a layer itself holds.


def hook(layer):
    """As accelerate's add_hook_to_module does."""
    layer._old_forward = layer.forward
    layer.forward = functools.partial(lambda layer, x: layer._old_forward(x), layer)


def bind(layer):
    """A function as a method of one instance."""
    layer.forward = types.MethodType(
        lambda self, x: 2 * type(self).forward(self, x), layer
    )


def restore(layer):
    """As accelerate leaves a layer when it takes its hook off."""
    hook(layer)
    layer.forward = vars(layer).pop("_old_forward")


def keep(layer):
    """The old forward under another name, for somebody else to call."""
    layer.original = layer.forward


HOLDS = {
    "accelerate": (hook, ["_old_forward", "forward"]),
    "accelerate, taken off": (restore, ["forward"]),
    "bound": (bind, ["forward"]),
    "kept": (keep, ["original"]),
    "closure": (lambda layer: setattr(layer, "forward", lambda x: x), ["forward"]),
    "inner": (lambda layer: setattr(layer, "_conv_forward", None), ["_conv_forward"]),
    "repr": (
        lambda layer: setattr(layer, "extra_repr", lambda: "mine"),
        ["extra_repr"],
    ),
    "dims": (lambda layer: setattr(layer, "dims", "NCHW"), ["dims"]),
}
HELD_BY_TORCHS = HOLDS | {
    "engine's name": (lambda layer: setattr(layer, "method", "fft"), ["method"]),
    "method": (lambda layer: setattr(layer, "method", print), ["method"]),
    "buffer": (
        lambda layer: layer.register_buffer("method", torch.ones(1)),
        ["method"],
    ),
    "parameter": (
        lambda layer: layer.register_parameter(
            "dims", torch.nn.Parameter(torch.ones(1))
        ),
        ["dims"],
    ),
    "module": (lambda layer: layer.add_module("method", torch.nn.ReLU()), ["method"]),
}


def assert_left(convert, model, named):
    """Refused by name, or left with a warning, and unchanged in either case."""
    before = snapshot(model)
    own = ", ".join(map(repr, named))
    told = rf"'1' \(\w+\) holds its own {own}, set on the layer in place of its class's"
    with pytest.raises(ValueError, match=told):
        convert(model)
    assert snapshot(model) == before
    with pytest.warns(UserWarning, match=f"^left as it is: {told}$") as warned:
        convert(model, strict=False)
    assert warned[0].filename == __file__
    assert snapshot(model[1]) == {
        name.removeprefix("1").lstrip("."): held
        for name, held in before.items()
        if name[:1] == "1"
    }


@pytest.mark.parametrize(
    ("change", "named"), HELD_BY_TORCHS.values(), ids=HELD_BY_TORCHS
)
@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d"])
def test_what_a_layer_of_torch_holds_is_named(name, change, named):
    layer = getattr(torch.nn, name)(1, 2, 3)
    change(layer)
    model = torch.nn.Sequential(torch.nn.Conv1d(1, 1, 1), layer)
    assert_left(to_scipyconv, model, named)
    assert type(model[0]) is nn.Conv1d


@pytest.mark.parametrize(("change", "named"), HOLDS.values(), ids=HOLDS)
@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d"])
def test_what_a_layer_of_ours_holds_is_named(name, change, named):
    layer = getattr(nn, name)(1, 2, 3)
    change(layer)
    model = torch.nn.Sequential(nn.Conv1d(1, 1, 1), layer)
    assert_left(to_torch, model, named)
    assert type(model[0]) is torch.nn.Conv1d


def test_transposed_padding_of_its_own_is_named():
    """Torch's forward asks this method, and ours does not."""
    layer = torch.nn.ConvTranspose1d(1, 1, 2)
    layer._output_padding = lambda *_: (0,)
    model = torch.nn.Sequential(torch.nn.ReLU(), layer)
    assert_left(to_scipyconv, model, ["_output_padding"])


def test_what_no_class_defines_is_kept():
    """Attributes, methods of any module, and hooks."""
    layer = torch.nn.Conv1d(1, 1, 2)
    layer.note, layer.__doc__ = "mine", "The first."
    layer.train = lambda mode=True: layer
    layer.tuned = types.MethodType(lambda self: self.note, layer)
    before = snapshot(layer)
    to_torch(to_scipyconv(layer))
    assert snapshot(layer) == before


def test_a_layer_that_is_hooked_while_it_is_ours_computes_ours():
    layer = to_scipyconv(torch.nn.Conv1d(1, 2, 3))
    x = torch.randn(1, 1, 5)
    expected = layer(x)
    bind(layer)
    assert torch.equal(layer(x), 2 * expected)
    assert to_scipyconv(layer) is layer
    assert torch.equal(copy.deepcopy(layer)(x), 2 * expected)


def test_old_hooks_of_weights():
    """weight_norm and spectral_norm as they were before parametrizations."""
    x = torch.randn(2, 2, 5)
    for wrap in (torch.nn.utils.weight_norm, torch.nn.utils.spectral_norm):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layer = wrap(torch.nn.Conv1d(2, 3, 3)).eval()
        expected = layer(x)
        torch.testing.assert_close(to_scipyconv(layer)(x), expected)
        gradients = torch.autograd.grad(
            layer(x), list(layer.parameters()), torch.randn_like(expected)
        )
        assert all(g.abs().max() > 0 for g in gradients)
        assert torch.equal(to_torch(layer)(x), expected)


# Numbers that were changed after a layer was made.


def test_changed_numbers():
    """As code does that dilates a pretrained network; ints as well as tuples."""
    layer = torch.nn.Conv2d(1, 2, (3, 2), padding=1)
    layer.stride, layer.padding, layer.dilation = 2, (2, 3), 2
    x = torch.randn(1, 1, 7, 6)
    expected = layer(x)
    torch.testing.assert_close(to_scipyconv(layer)(x), expected)
    layer.padding = 1
    ours = layer(x)
    torch.testing.assert_close(to_torch(layer)(x), ours)


@pytest.mark.parametrize("padding", [0, (1, 2), "same", "valid"])
@pytest.mark.parametrize("convert", [to_scipyconv, to_torch])
def test_padding_changed_in_a_padding_mode(convert, padding):
    """Torch then pads by the border that the layer was made with, ours by `padding`."""
    package = torch.nn if convert is to_scipyconv else nn
    layer = package.Conv2d(
        1, 2, (3, 4), padding=padding, padding_mode="reflect", dilation=(1, 2)
    )
    x = torch.randn(1, 1, 9, 8)
    expected = layer(x)
    torch.testing.assert_close(convert(layer)(x), expected)
    other = package.Conv2d(1, 2, (3, 4), padding=padding, padding_mode="reflect")
    other.padding = 2
    before = snapshot(other)
    with pytest.raises(
        ValueError,
        match=r"'' \(Conv2d\) has padding=2 but keeps a border "
        r"of \[.*\] from before; replace it",
    ):
        convert(other)
    assert snapshot(other) == before


def test_a_padding_mode_chosen_afterwards():
    """As is done to make pictures that tile."""
    layer = torch.nn.Conv2d(1, 2, 3, padding=(1, 2))
    layer.padding_mode = "circular"
    x = torch.randn(1, 1, 5, 6)
    expected = layer(x)
    torch.testing.assert_close(to_scipyconv(layer)(x), expected)
    assert torch.equal(to_torch(layer)(x), expected)


# What is a convolution, whatever it is called.


class ConvNet(torch.nn.Module):
    """Called a convolution, and none."""

    def __init__(self):
        super().__init__()
        self.only = torch.nn.Linear(2, 2)

    def forward(self, x):
        return self.only(x)


class Plain(torch.nn.Module):
    """A convolution in a module that is not called one."""

    def __init__(self):
        super().__init__()
        self.only = torch.nn.Conv1d(1, 2, 2)

    def forward(self, x):
        return self.only(x)


class Blurred(torch.nn.Module):
    """A convolution that is no layer, in a branch."""

    def forward(self, x):
        if x.sum() > 0:
            x = torch.nn.functional.conv1d(x, torch.ones(1, 1, 2))
        return x


class Inherited(torch.nn.modules.conv._ConvNd):
    """A layer from torch's own base class."""

    def __init__(self):
        super().__init__(1, 1, (3,), (1,), (0,), (1,), False, (0,), 1, True, "zeros")


class ParametrizedConv2d(torch.nn.Conv2d):
    """Called as torch calls a layer with a parametrization."""

    def forward(self, x):
        return 2 * super().forward(x)


def quietly(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


NO_CONVOLUTIONS = {
    "module": ConvNet,
    "scripted": lambda: torch.jit.script(ConvNet()),
    "traced": lambda: torch.jit.trace(ConvNet(), torch.zeros(1, 2)),
    "frozen": lambda: torch.jit.freeze(torch.jit.script(ConvNet().eval())),
    "recorded": lambda: torch.fx.symbolic_trace(ConvNet()),
    "converted": lambda: torch.jit.script(type("Convert", (torch.nn.ReLU,), {})()),
}
LEFT = {
    "scripted": (lambda: torch.jit.script(Plain()), "only"),
    "traced": (lambda: torch.jit.trace(Plain(), torch.zeros(1, 1, 4)), "only"),
    "traced layer": (lambda: torch.jit.trace(Plain().only, torch.zeros(1, 1, 4)), ""),
    "frozen": (lambda: torch.jit.freeze(torch.jit.script(Plain().eval())), ""),
    "branch": (lambda: torch.jit.script(Blurred()), ""),
    "mkldnn": (
        lambda: importlib.import_module("torch.utils.mkldnn").to_mkldnn(Plain().eval()),
        "only",
    ),
    "inherited": (Inherited, ""),
    "by name": (lambda: ParametrizedConv2d(1, 2, 3), ""),
    "by name, parametrized": (
        lambda: parametrizations.weight_norm(ParametrizedConv2d(1, 2, 3)),
        "",
    ),
    "quantized": (lambda: torch.ao.nn.quantized.ConvTranspose1d(1, 2, 3), ""),
    "quantized, reference": (
        lambda: torch.ao.nn.quantized.reference.Conv1d(1, 2, 3),
        "",
    ),
    "quantized, fused": (
        lambda: torch.ao.nn.intrinsic.quantized.ConvReLU2d(1, 2, 3),
        "",
    ),
}


@pytest.mark.parametrize("make", NO_CONVOLUTIONS.values(), ids=NO_CONVOLUTIONS)
def test_no_convolution_but_for_its_name(make):
    model = quietly(make)
    layers = list(model.modules())
    for convert in (to_scipyconv, to_torch):
        assert convert(model) is model
    assert not any(
        isinstance(layer, tuple(getattr(nn, name) for name in nn.__all__))
        for layer in layers
    )


@pytest.mark.parametrize(("make", "name"), LEFT.values(), ids=LEFT)
def test_a_convolution_of_another_class_is_named(make, name):
    model = quietly(make)
    told = rf"'{name}' \(\w+\) is of a class of its own"
    with pytest.raises(ValueError, match=f"swapped: {told}; replace it"):
        to_scipyconv(model)
    with pytest.warns(UserWarning, match=f"^left as it is: {told}$"):
        to_scipyconv(model, strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert to_torch(model) is model  # nothing of ours in it


class OurOwn(nn.Conv1d):
    """A subclass of ours with a forward of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("wrap", [lambda layer: layer, parametrizations.weight_norm])
def test_a_subclass_of_ours(wrap):
    """SciPy computes it already; it has no way back."""
    model = torch.nn.Sequential(torch.nn.Conv1d(1, 1, 2), wrap(OurOwn(1, 1, 2)))
    to_scipyconv(model)
    assert isinstance(model[0], nn.Conv1d)
    with pytest.raises(ValueError, match=r"'1' \(\w+\) is of a class of its own"):
        to_torch(model)


def test_what_is_left_of_torch_is_no_obstacle_on_the_way_back():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 2), Standardized(1, 2, 3))
    before = classes(model)
    quietly(lambda: to_scipyconv(model, strict=False))
    assert type(model[0]) is nn.Conv2d
    assert classes(to_torch(model)) == before


@pytest.mark.parametrize(
    "model",
    [
        lambda: torch.fx.symbolic_trace(Plain()),
        lambda: torch.fx.symbolic_trace(torch.nn.Sequential(Plain(), torch.nn.ReLU())),
        lambda: torch.ao.nn.intrinsic.ConvReLU1d(
            torch.nn.Conv1d(1, 2, 2), torch.nn.ReLU()
        ),
    ],
    ids=["recorded", "recorded, deeper", "fused"],
)
def test_layers_of_a_container(model):
    """A graph module, or torch's pair of a convolution and what follows it."""
    model, x = model(), torch.randn(1, 1, 4)
    expected = model(x)
    to_scipyconv(model)
    assert sum(type(layer) is nn.Conv1d for layer in model.modules()) == 1
    torch.testing.assert_close(model(x), expected)
    assert torch.equal(to_torch(model)(x), expected)


def engines_names(model, x):
    with torch.profiler.profile() as profile:
        model(x)
    names = {
        event.name.split("::")[0] for event in profile.events() if "conv" in event.name
    }
    return names & {"aten", "scipyconv"}


@pytest.mark.parametrize(
    "compiled",
    [
        lambda model: torch.compile(model, backend="eager"),
        lambda model: torch.compile(model, backend="aot_eager"),
        lambda model: model.compile(backend="eager") or model,
        lambda model: model[0].compile(backend="eager") or model,
    ],
    ids=["wrapped", "differentiated", "in place", "layer"],
)
def test_a_compiled_model_forgets_what_it_compiled(compiled):
    torch._dynamo.reset()
    model = compiled(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU()))
    x = torch.randn(2, 1, 5, 6)
    expected = model(x)
    torch.testing.assert_close(to_scipyconv(model)(x), expected)
    assert engines_names(model, x) == {"scipyconv"}
    assert torch.equal(to_torch(model)(x), expected)
    assert engines_names(model, x) == {"aten"}


class LowRank(torch.nn.Module):
    """A frozen convolution plus a small trained one: peft's LoRA layer in brief."""

    def __init__(self, base):
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A = torch.nn.Conv2d(base.in_channels, 1, base.kernel_size, bias=False)
        self.lora_B = torch.nn.Conv2d(1, base.out_channels, 1, bias=False)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


def test_low_rank_adaptation():
    model = torch.nn.Sequential(LowRank(torch.nn.Conv2d(2, 4, (3, 2))))
    x = torch.randn(2, 2, 6, 5)
    expected = model(x)
    torch.testing.assert_close(to_scipyconv(model)(x), expected)
    assert sum(isinstance(layer, nn.Conv2d) for layer in model.modules()) == 3
    model(x).backward(torch.randn_like(expected))
    grads = {name: p.grad is not None for name, p in model.named_parameters()}
    assert grads == {name: "lora" in name for name in grads}
    assert torch.equal(to_torch(model)(x), expected)


# Training side by side.


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=str
)
def test_training_side_by_side(dtype, tolerance):
    """Five steps of a residual network: outputs, gradients and weights agree."""
    theirs = Network().to(dtype)
    ours = to_scipyconv(copy.deepcopy(theirs))
    start = copy.deepcopy(theirs.state_dict())
    optimizers = [
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for model in (ours, theirs)
    ]
    for _ in range(5):
        x, target = example(dtype), torch.randn(3, 3, dtype=dtype)
        outputs = []
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            y = model(x)
            ((y - target) ** 2).mean().backward()
            optimizer.step()
            outputs.append(y)
        assert (outputs[0] - outputs[1]).abs().max() < tolerance
        for (name, p), q in zip(
            ours.named_parameters(), theirs.parameters(), strict=True
        ):
            assert (p.grad - q.grad).abs().max() < tolerance, name
            assert p.grad.abs().max() > 0
    for name, value in theirs.state_dict().items():
        assert (ours.state_dict()[name] - value).abs().max() < tolerance, name
        assert not torch.equal(value, start[name]), name
