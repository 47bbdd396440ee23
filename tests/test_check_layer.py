"""Layers: by class and by instance, torch's, ours and wrong ones."""

import pytest
import torch
from torch import nn

import scipyconv
from scipyconv.check import check_layer

LOGIC = {"probes": ["logic"]}


NAMES = [name for name in scipyconv.nn.__all__ if not name.startswith("Lazy")]


@pytest.mark.parametrize("name", NAMES)
def test_torchs_layers_and_ours_are_right(name):
    for layer in (getattr(nn, name), getattr(scipyconv.nn, name)):
        report = check_layer(layer, dtypes=["float32"], **LOGIC)
        assert report.ok, str(report)
        assert report.left_out == ()
        assert report.function == name


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, (2, 3), stride=(1, 2), padding=(1, 0), groups=2),
        nn.Conv1d(2, 3, 4, padding="same", bias=False),
        nn.ConvTranspose2d(4, 2, 3, stride=2, output_padding=1, groups=2),
        nn.Conv3d(1, 2, 2, dilation=2),
    ],
    ids=repr,
)
def test_one_layer_is_tried_as_it_is(layer):
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    report = check_layer(layer)
    assert report.ok, str(report)
    assert len({row.case for row in report.rows}) == 15
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(p.grad is None for p in layer.parameters())


class Flipped(nn.Conv2d):
    def forward(self, input):
        return self._conv_forward(input, self.weight.flip(2, 3), self.bias)


def test_a_wrong_layer_is_named_as_a_wrong_function_is():
    for layer in (Flipped, Flipped(2, 3, (2, 3))):
        report = check_layer(layer, **LOGIC)
        assert not report.ok
        assert "output: the kernel is flipped along every dimension" in str(report)


class Renamed(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size):
        super().__init__()
        self.filter = nn.Parameter(torch.zeros(out_channels, in_channels, *kernel_size))

    def forward(self, input):
        return torch.conv2d(input, self.filter)


def test_a_layer_may_name_its_parameters_and_take_fewer():
    report = check_layer(Renamed, "conv2d", names={"weight": "filter"})
    assert report.ok, str(report)
    assert report.left_out == ("bias", "stride", "padding", "dilation", "groups")


def test_a_weight_that_is_not_registered_is_refused():
    with pytest.raises(ValueError, match=r"module must register its weight .* filter"):
        check_layer(Renamed(2, 3, (2, 2)))


def test_a_family_that_no_name_tells_must_be_given():
    with pytest.raises(ValueError, match="family must be given for Renamed"):
        check_layer(Renamed, names={"weight": "filter"})
    assert check_layer(Renamed(2, 3, (2, 2)), names={"weight": "filter"}, **LOGIC).ok


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"module must be a torch.nn.Module or a class"):
        check_layer(torch.conv2d)
